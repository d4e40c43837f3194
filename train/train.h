/* train.h - a training job: dataset and fold -> RUN/{config.yaml, log.jsonl, checkpoints/, model/}.
 * Same seed, data, build and shard count give the same weights, bit for bit, for any number of threads, any instruction
 * set, and after kill -9 and --resume. */
#ifndef OC_TRAIN_TRAIN_H
#define OC_TRAIN_TRAIN_H

#include "base/config.h"
#include "base/hash.h"
#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "nn/bundle.h"
#include "train/comm.h"

extern const oc_config_key oc_train_keys[];
extern const size_t oc_train_key_count;

enum { OC_TRAIN_RANKS_MAX = 64 }; /* ranks divide train.shards */

typedef struct oc_train_result {
    int64_t steps, best_step, skipped_steps;
    double valid_loss, windows_per_second, temperature; /* temperature: of the first horizon */
    double communication; /* share of the time in which rank 0 waited for others or for their bytes */
    int ranks;
    int64_t rank_windows[OC_TRAIN_RANKS_MAX]; /* [ranks] that each has computed since this start; their sum is all */
    oc_hash weights;
} oc_train_result;

/* fold_index picks the fold of data.folds (0 for chronological). The model written is that of the best validation loss.
 * `out` must be absent or empty without resume; with it, the newest checkpoint that is whole is taken, none means from
 * the start, and a finished run gives its result again. OC_EAGAIN: stopped with everything saved, resume continues.
 * OC_ECONFIG: what was saved belongs to another config, dataset, fold or build; the message says which. */
OC_MUST oc_train_run(const oc_config *config, const oc_dataset *d, const oc_folds *folds, size_t fold_index,
                     const char *out, bool resume, oc_train_result *result);

/* The same as one rank of a job: all ranks call it with the same arguments, only rank 0 writes, and the weights are
 * those of one rank, bit for bit. After a failure the caller closes comm with it, which ends the others. result is
 * rank 0's; the others lack what only the writer knows. */
OC_MUST oc_train_run_ranks(oc_comm *comm, const oc_config *config, const oc_dataset *d, const oc_folds *folds,
                           size_t fold_index, const char *out, bool resume, oc_train_result *result);

/* Asks every running job of this process to finish its step, save and return OC_EAGAIN. Safe in a signal handler. */
void oc_train_request_stop(void);
void oc_train_clear_stop(void);
bool oc_train_stop_requested(void);

/* The keys that decide the result, a line each "key: value": not threads, log level, paths or cadence. malloc'ed:
 * free(). */
char *oc_train_identity(const oc_config *config);

/* Mean over count x horizons of -log softmax(logits / temperature)[target]; target -1 is not counted. temperature
 * [horizons], NULL: 1. */
double oc_log_loss(const float *logits, const int32_t *target, size_t count, int horizons, const double *temperature);
/* The temperature of each horizon, from 0.05 to 20, that makes it smallest. */
void oc_temperature_fit(const float *logits, const int32_t *target, size_t count, int horizons, double *temperature);

#endif
