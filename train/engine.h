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
typedef struct train_interval { /* steps of one epoch that are taken before the host looks at a result */
    int64_t epoch, position;    /* of its first window in the epoch's order */
    int64_t step, updates;      /* before it: for dropout and the rate; AdamW's count */
    int steps, windows;         /* all batches whole but for the last */
} train_interval;
/* The most steps of an interval: 1 where memory is shared or ranks exchange between two steps. */
int train_engine_steps(const train_engine *e);
/* Forward, backward, tree sum, clip, AdamW, average, for each step; w as put, where it lies apart. results [steps]. A
 * step that is not finite changes nothing, and the others go on. next (may be NULL): what probably comes then, got
 * ready while the device works. */
OC_MUST train_engine_run(train_engine *e, train_weights *w, const train_interval *now, const train_interval *next,
                         train_step_result *results);
/* The last row of the window at a place of an epoch's order. */
int64_t train_engine_window(train_engine *e, int64_t epoch, int64_t position);
/* The most windows of an interval that begins there: whole batches, or the last of the epoch. */
int64_t train_engine_reach(train_engine *e, int64_t epoch, int64_t position);
/* "streamed, 12 blocks of 4096 rows"; empty where all rows are at hand in no order of blocks. */
const char *train_engine_rows_text(const train_engine *e, char *text, size_t cap);
int train_engine_buckets(const train_engine *e); /* parts in which the gradient goes from GPU to GPU; 0: it does not */
int64_t train_engine_moves(const train_engine *e);      /* of such parts, so far */
int train_engine_own(const train_engine *e, int count); /* windows of a batch that this rank computes */
/* Logits [valid.count, horizons*3] and targets of the validation windows with these weights (host), on every rank;
 * borrowed until the next call. OC_EFAILED names the ranks whose weights are others. */
OC_MUST train_engine_validate(train_engine *e, const float *flat, const float **logits, const int32_t **target);

#endif
