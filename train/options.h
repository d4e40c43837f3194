/* options.h - a training config as numbers, checked. */
#ifndef OC_TRAIN_OPTIONS_H
#define OC_TRAIN_OPTIONS_H

#include "nn/graph.h"
#include "train/train.h"

typedef struct train_options {
    uint64_t seed;
    int threads, workers; /* workers: threads that have a shard to do */
    bool threads_free;    /* threads was 0 */
    oc_backend_kind backend;
    oc_math math;
    oc_lstm_by lstm;
    bool allreduce;       /* reduce: the network sums, in an order of its own */
    oc_model_shape shape; /* inputs and horizons come from the dataset */
    double dropout, head_dropout, clip;
    int batch, shards;
    int64_t epochs, stride, windows_per_epoch, patience, valid_every, valid_windows, skip_max, log_every, pause_after;
    int64_t read_every;
    double device_rows_mb; /* 0: as many as fit */
    double bucket_mb;
    double rate, warmup_share, rate_floor, weight_decay, clip_norm, label_smoothing, average, checkpoint_seconds;
    int64_t comm_timeout_ns, comm_start_timeout_ns;
    bool balanced;
    const char *name, *version, *folds;
} train_options;

OC_MUST train_options_read(train_options *out, const oc_config *config);
/* What a rank of `ranks` computes with, `local` of them on its host. OC_ECONFIG: they cannot share the shards. */
OC_MUST train_options_share(train_options *o, int ranks, int local);
double train_rate(const train_options *o, int64_t step, int64_t steps_total); /* step from 0 */

#endif
