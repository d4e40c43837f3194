/* engine_parts.h - what the files of the engine know of each other: engine.c (memory, ranks, validation), steps.c (an
 * interval of steps), buckets.c (gradients between GPUs), rows.c (an epoch's order, and where rows lie). C alone, for
 * its atomics: not self-contained as C++. */
#ifndef OC_TRAIN_ENGINE_PARTS_H
#define OC_TRAIN_ENGINE_PARTS_H

#include <stdatomic.h>

#include "nn/store.h"
#include "train/link.h"
#include "train/engine.h"

enum { TRAIN_MESSAGE_BYTES = 512 };

typedef struct train_worker {
    oc_graph *graph;
    oc_status status;
    char message[TRAIN_MESSAGE_BYTES]; /* failures speak to their own thread only */
} train_worker;

typedef struct train_shard_loss {
    double loss, weight;
} train_shard_loss;

/* Plans and windows of an interval, in memory that a device takes them from by itself. */
typedef struct train_block {
    train_interval of; /* steps 0: nothing */
    oc_step_plan *plans;
    int64_t *indices; /* [steps_max, batch] last row of each window */
    int32_t *targets; /* [steps_max, batch, horizons] */
} train_block;

/* One step of `count` windows, as the device's own work list. */
typedef struct train_recording {
    int count;
    bool ran; /* once, by itself: what comes next is recorded */
    oc_recording *steps;
} train_recording;

/* What operations of a step read and write beside weights and rows; on a device where that is apart. */
typedef struct train_places {
    oc_step *state;
    oc_step_plan *plans;
    oc_step_result *results;
    int64_t *indices, *index; /* [steps_max, batch] [batch]; these and targets apart only */
    int32_t *targets, *target;
} train_places;

/* An epoch in blocks: which comes when, and at which position it begins. */
typedef struct train_epoch {
    int64_t epoch, *order, *start; /* [blocks] [blocks + 1] */
} train_epoch;

typedef struct train_half {
    int64_t block; /* -1: none */
    size_t loaded, bytes;
    bool waited; /* loaded is there */
} train_half;

typedef struct train_stream {
    int64_t blocks, rows; /* 0: all rows are at hand; rows of a half */
    size_t *first;        /* [blocks + 1] first window of each, in plan->train */
    train_epoch epochs[2];
    train_half half[2];
} train_stream;

struct train_engine {
    const train_plan *p;
    oc_comm *comm;
    oc_store store;
    bool apart; /* the device has memory of its own */
    int worker_count;
    int shards_all, shards, shard_first; /* of the job; of this rank */
    size_t valid_block;                  /* validation windows of a rank; the last ones have fewer, or none */
    oc_team *team;
    train_worker *workers;
    int shard_windows; /* of the largest shard */
    void *packed;
    float *partials, *gradient;                    /* [S/R,P] [P] */
    bool tree;                                     /* false: reduce is allreduce */
    float *sums;                                   /* [R,P], [P] without the tree */
    train_link *link;                              /* of ranks whose devices are apart: moves sums between them */
    oc_parameter_range buckets[OC_PARAMETERS_MAX]; /* places of the gradient that travel by themselves (link only) */
    size_t bucket_count, bucket_next;              /* the first that has not started in this step */
    oc_graph_watch watch;
    int gpu;     /* which of this process's devices */
    float *rows; /* [rows, width], the dataset's own where memory is shared; two halves where streamed */
    train_stream stream;
    int64_t *valid_index;     /* of a piece of the validation, streamed only */
    train_weights device;     /* apart only; best: what is validated */
    train_shard_loss *losses; /* [S] */
    int32_t *valid_target;
    float *logits;   /* [ranks * valid_block, horizons*3] */
    oc_hash *hashes; /* [R] of the weights */
    oc_step_rule rule;
    train_places at;
    int steps_max;         /* of an interval */
    train_block blocks[2]; /* the one that runs, and the one that is made meanwhile */
    int running;           /* which of them */
    void *pinned;          /* both, and results */
    oc_step *begin;        /* the state that an interval begins with */
    oc_step_result *results;
    train_recording recordings[2]; /* of whole batches; of the last one of an epoch */
    int count;                     /* windows in the batch of the running step, its place in the block */
    int turn;
    int64_t step;
    atomic_size_t next; /* shard or piece that nobody has taken yet */
    const float *flat;  /* weights of the running call, where operations run */
};

static inline oc_tensor train_vector(const float *data, size_t count)
{
    return oc_tensor_make((void *)(uintptr_t)data, OC_DTYPE_F32, (int64_t)count, 1, 1, 1);
}

static inline oc_backend *train_backend(const train_engine *e)
{
    return oc_graph_backend(e->workers[0].graph);
}

oc_tensor train_all_rows(const train_engine *e);
OC_MUST train_team_run(train_engine *e, oc_team_work work);
size_t train_work_next(train_engine *e); /* shard or piece */
void train_worker_fail(train_worker *w, oc_status status);
OC_MUST train_losses_gather(train_engine *e);  /* of all ranks */
OC_MUST train_ranks_exchange(train_engine *e); /* the ranks' losses and sums into losses and sums, by the comm */
static inline oc_tensor train_sums_of(float *data, int rows, size_t width)
{
    return oc_tensor_make(data, OC_DTYPE_F32, rows, (int64_t)width, 1, 1);
}
size_t train_sums_count(const train_engine *e);

/* buckets.c */
void train_buckets_open(train_engine *e);                   /* after the link */
OC_MUST train_buckets_final(train_engine *e, size_t first); /* of this rank's gradient: what is final sets out */
OC_MUST train_buckets_sum(train_engine *e);                 /* all are there; their sum into gradient */

/* rows.c */
OC_MUST train_rows_plan(train_engine *e);               /* by the config; before the store is opened */
bool train_rows_halve(train_engine *e, int64_t *tried); /* the store had no room; tried begins as 0 */
void train_rows_close(train_engine *e);
size_t train_rows_room(const train_engine *e); /* rows that lie where operations read them */
/* The last row of a window in the dataset, and where operations find it. */
int64_t train_rows_place(train_engine *e, int64_t epoch, int64_t position, int64_t *row);
OC_MUST train_rows_need(train_engine *e, const train_interval *now);  /* before its steps */
OC_MUST train_rows_ahead(train_engine *e, const train_interval *now); /* behind them */
/* Validation windows [first, last) that fit at once, and where they lie then. */
size_t train_rows_piece(const train_engine *e, size_t first, size_t last);
OC_MUST train_rows_validate(train_engine *e, size_t first, size_t last, const int64_t **index);

/* steps.c */
OC_MUST train_steps_open(train_engine *e); /* after the store */
void train_steps_close(train_engine *e);
int train_steps_limit(const train_engine *e);

#endif
