/* model_parts.h - what model.c and sliding.c share; nobody else includes it. */
#ifndef OC_NN_MODEL_PARTS_H
#define OC_NN_MODEL_PARTS_H

#include "nn/graph.h"
#include "nn/model.h"

struct oc_model {
    const oc_bundle *bundle;
    oc_backend *backend;                       /* the graph's */
    oc_graph *graph;
    void *packed;
    int piece;                                 /* windows of one pass */
    int64_t *index;                            /* [piece] */
    float *logits;                             /* [piece, horizons*3] */
    float temperature[OC_HORIZONS_MAX];
    int sliding_open;
};

/* The place of the first number of x [count] that is not finite; count where all are. */
size_t oc_finite_prefix(const float *x, size_t count);

#endif
