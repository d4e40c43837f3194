/* plan.h - what a job trains on: the windows of the training and validation split, the scaler fitted on training rows
 * only, class weights, and the intervals that the model will have seen. Made once; the loop only reads it. */
#ifndef OC_TRAIN_PLAN_H
#define OC_TRAIN_PLAN_H

#include "train/options.h"

typedef struct train_plan {
    const oc_dataset *d;
    train_options o;
    const oc_dataset_label *labels[OC_HORIZONS_MAX];
    char fold_name[64];
    oc_hash fold_hash;
    int64_t fold_index, embargo_ns;
    oc_parameters parameters;
    oc_samples train, valid; /* after train.stride and train.valid_windows */
    oc_seen *seen;           /* of all windows of both splits, also those left out by stride or cap */
    size_t seen_count;
    double *mean, *scale; /* [F] */
    float class_weight[OC_CLASSES];
    int64_t epoch_windows, epoch_steps, steps_total;
} train_plan;

OC_MUST train_plan_open(train_plan **out, const oc_config *config, const oc_dataset *d, const oc_folds *folds,
                        size_t fold_index);
void train_plan_close(train_plan *p);
/* Class of a row for each horizon, into target [horizons]. */
void train_plan_target(const train_plan *p, int64_t row, int32_t *target);

/* Mean and deviation (ddof 0) of every column over the rows that lie in a window of `samples`, in f64, two passes.
 * OC_EDATA names a feature that is not finite or does not vary. */
OC_MUST train_scaler_fit(const oc_dataset *d, const oc_samples *samples, int steps, double *mean, double *scale);
/* One entry a (symbol, split, interval of the fold) that has windows; *out is taken with oc_memory. */
OC_MUST train_seen_collect(const train_plan *p, const oc_fold *fold, oc_seen **out, size_t *count);

#endif
