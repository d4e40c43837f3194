/* model_parts.h - what model.c and sliding.c share; nobody else includes it. */
#ifndef OC_NN_MODEL_PARTS_H
#define OC_NN_MODEL_PARTS_H

#include "nn/graph.h"
#include "nn/model.h"
#include "nn/store.h"

/* Recordings of one call for 1, 2, 4, … windows or slots: one replay enqueues the whole of it. What a call brings and
 * takes away lies in pinned memory; a call of another number fills up to the next one with nobody's. */
enum { OC_RECORDED_MAX = 256, OC_RECORDINGS = 9 };

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
    void *pinned;                              /* apart: the three below */
    float *staged, *rows;                      /* the piece's windows [piece,T,F], on the host and there */
    int64_t *staged_index;
    float *answered, *answer;                  /* probabilities [piece, horizons*3], on the host and there */
    oc_recording *recording[OC_RECORDINGS];    /* windows -> probabilities, of 1, 2, 4, … windows, as far as recorded */
    int recorded;                              /* the most windows of one; 0: none */
    float *logits;                             /* [piece, horizons*3] */
    float temperature[OC_HORIZONS_MAX];
    int sliding_open;
};

/* The smallest power of two >= count >= 1, and its place in `recording`. */
static inline int oc_recording_size(int count, int *place)
{
    int size = 1;
    for (*place = 0; size < count; size *= 2) ++*place;
    return size;
}

/* The place of the first number of x [count] that is not finite; count where all are. */
size_t oc_finite_prefix(const float *x, size_t count);

#endif
