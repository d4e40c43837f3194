/* engine.h - one optimiser step over S logical shards, and validation, by the ranks of a job and a team of threads in
 * each. What is summed, and in which order, depends on the shards alone: rank and worker only decide where a shard is
 * computed. */
#ifndef OC_TRAIN_ENGINE_H
#define OC_TRAIN_ENGINE_H

#include "base/team.h"
#include "train/comm.h"
#include "train/plan.h"

typedef struct train_weights { /* [parameters.total] each, one block */
    float *weights, *m, *v, *average, *best;
} train_weights;

typedef struct train_step_result {
    double loss_sum, weight_sum, norm; /* norm of the gradient of the mean loss, before clipping */
    bool finite;                       /* false: nothing was changed */
} train_step_result;

typedef struct train_engine train_engine;
/* comm: of a rank count that divides the shards; it outlives the engine. */
OC_MUST train_engine_open(train_engine **out, const train_plan *p, oc_comm *comm);
void train_engine_close(train_engine *e);
const oc_backend_info *train_engine_backend(const train_engine *e);
int train_engine_workers(const train_engine *e);
/* Where the device has memory of its own, the state that steps change lies there, and *w is a copy: put after a start
 * or a load, get before it is read (all but best, which is the host's). Elsewhere they do nothing. */
OC_MUST train_engine_put(train_engine *e, const train_weights *w);
OC_MUST train_engine_get(train_engine *e, train_weights *w);
/* The windows [position, position + count) of an epoch's order. */
void train_engine_batch(train_engine *e, int64_t epoch, int64_t position, int count);
const int64_t *train_engine_rows(const train_engine *e); /* of that batch: last row of each window */
int train_engine_own(const train_engine *e);             /* windows of it that this rank computes */
/* Forward, backward, tree sum, clip, AdamW, average; w as put, where it lies apart. step: for dropout; update: AdamW's
 * count, from 1. */
OC_MUST train_engine_step(train_engine *e, train_weights *w, int64_t step, int64_t update, double rate,
                          train_step_result *out);
/* Logits [valid.count, horizons*3] and targets of the validation windows with these weights (host), on every rank;
 * borrowed until the next call. OC_EFAILED names the ranks whose weights are others. */
OC_MUST train_engine_validate(train_engine *e, const float *flat, const float **logits, const int32_t **target);

#endif
