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

extern const oc_config_key oc_train_keys[];
extern const size_t oc_train_key_count;

typedef struct oc_train_result {
    int64_t steps, best_step, skipped_steps;
    double valid_loss, windows_per_second, temperature;
    oc_hash weights;
} oc_train_result;

/* fold_index picks the fold of data.folds (0 for chronological). The model written is that of the best validation loss. */
OC_MUST oc_train_run(const oc_config *config, const oc_dataset *d, const oc_folds *folds, size_t fold_index, const char *out,
                     bool resume, oc_train_result *result);

#endif
