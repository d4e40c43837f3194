/* model_parts.h - what model.c and sliding.c share; nobody else includes it. */
#ifndef OC_NN_MODEL_PARTS_H
#define OC_NN_MODEL_PARTS_H

#include "nn/graph.h"
#include "nn/model.h"
#include "nn/store.h"

struct oc_model {
    const oc_bundle *bundle;
    oc_backend *backend;                       /* the graph's */
    oc_graph *graph;
    bool apart;                                /* the device has memory of its own; what lies there comes from store */
    oc_store store;
    void *packed;
    float *flat;                               /* where operations read it: the bundle's own, or a copy */
    int piece;                                 /* windows of one pass */
    int64_t *index;                            /* [piece] */
    float *staged, *rows;                      /* apart: the piece's windows [piece,T,F], on the host and there */
    int64_t *staged_index;
    float *answer;                             /* apart: logits and probabilities [2, piece, horizons*3] */
    float *logits;                             /* [piece, horizons*3] */
    float temperature[OC_HORIZONS_MAX];
    int sliding_open;
};

/* The place of the first number of x [count] that is not finite; count where all are. */
size_t oc_finite_prefix(const float *x, size_t count);

#endif
