/* graph.h - forward and backward of the whole model for one shard of a batch, over the table of operations.
 * One graph per worker thread, on the worker's own backend; parameters and gradients are flat vectors (shape.h) that
 * may belong to anyone. All memory taken in open. */
#ifndef OC_NN_GRAPH_H
#define OC_NN_GRAPH_H

#include "nn/shape.h"

typedef struct oc_graph_rule {                 /* what training adds to the shape */
    float dropout, head_dropout;
    oc_loss_rule loss;
    uint64_t seed;
} oc_graph_rule;

typedef struct oc_graph_watch {                /* told while backward is enqueued, module after module, from the head */
    oc_status (*final)(void *context, size_t first); /* gradient [first, total): nothing enqueued later changes it */
    void *context;
} oc_graph_watch;

typedef struct oc_graph_batch {                /* one shard; borrowed during the call */
    oc_tensor rows;                            /* [N,F] raw f32, of the whole dataset */
    const int64_t *index;                      /* [count] last row of each window */
    const int32_t *target;                     /* [count,horizons] class, -1 not counted */
    int count;
    uint64_t step, sample_first;               /* for dropout: optimiser step; index of the first window in the batch */
    const uint32_t *keys;                      /* NULL, or oc_step.keys: step is not looked at */
    bool placed;                               /* index and target lie where operations read them */
    const oc_graph_watch *watch;               /* NULL: nobody; its failure ends the pass. The last first is 0 */
} oc_graph_batch;

/* Numbers of the dropouts (oc_dropout.tensor): l after layer l of the trunk (between layers only), this one in the
 * head. */
enum { OC_GRAPH_DROPOUT_HEAD = OC_LAYERS_MAX };

typedef struct oc_graph oc_graph;
/* What open would take: activations of batch_max windows, kept for backward where training. */
OC_MUST oc_graph_bytes(const oc_backend_config *config, const oc_model_shape *shape, int batch_max, bool training,
                       size_t *bytes);
/* config->arena_bytes is not looked at. rule may be NULL without training. */
OC_MUST oc_graph_open(oc_graph **out, const oc_backend_config *config, const oc_model_shape *shape,
                      const oc_graph_rule *rule, const double *mean, const double *scale, double clip, int batch_max,
                      bool training);
void oc_graph_close(oc_graph *g);
oc_backend *oc_graph_backend(oc_graph *g);
/* Packed weights (of all layers) are shared: the caller packs once a step into memory of oc_graph_packed_bytes and
 * hands it to all. Same flat, same bits, whichever graph packs. */
size_t oc_graph_packed_bytes(oc_graph *g);
OC_MUST oc_graph_pack(oc_graph *g, const float *flat, void *packed);
/* Adds the shard's weighted loss sum and weight to *loss_sum, *weight_sum, writes the gradient of the loss sum to
 * gradient [total] (overwritten). A non-finite loss is returned as it is: the caller skips the step. */
OC_MUST oc_graph_train(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                       double *loss_sum, double *weight_sum, float *gradient);
/* The same without waiting, to be recorded, or followed by more on the graph's backend. */
OC_MUST oc_graph_pack_enqueue(oc_graph *g, const float *flat, void *packed);
OC_MUST oc_graph_train_enqueue(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                               double *loss_sum, double *weight_sum, float *gradient);
/* No dropout, no gradient: logits [count, horizons*3]; attention [count, heads, T] may be NULL. */
OC_MUST oc_graph_logits(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                        float *logits, float *attention);

/* The same without the copies and the wait, so that it can be recorded: the logits lie in *logits, on the device, when
 * the graph's backend has come so far. batch->index lies in pinned memory while it is recorded. count > 0. */
OC_MUST oc_graph_enqueue(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                         oc_tensor *logits);

/* The parts of a graph that oc_sliding drives by itself: packed weights, head biases, the scaler. Borrowed. */
typedef struct oc_graph_parts {
    oc_tensor lstm, attention, head[2], head_bias[2], mean, scale;
    float clip;
} oc_graph_parts;
oc_graph_parts oc_graph_parts_of(const oc_graph *g, const float *flat, const void *packed);

#endif
