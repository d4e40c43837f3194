/* predictions.h - predictions of a split, and the file that holds them (predictions.h5, DESIGN section 10). Everything
 * that a report says is computed from files like this one. Models made elsewhere join by writing the same file.
 *
 * predictions.h5:  attributes format "outcry-predictions", version 1, bundle, dataset, split, labels (one a line)
 *   symbols [S] and symbol [N] u16 (index)   row [N] i64 (within the symbol)   time_ns [N] i64
 *   probabilities [N,horizons,3] f32 (buy, sell, hold)   class [N,horizons] i8 (truth; -1 unknown)
 *   seen/symbol [K] u16, seen/first_ns [K] i64, seen/last_ns [K] i64: what the model has seen, training and validation
 */
#ifndef OC_EVALUATE_PREDICTIONS_H
#define OC_EVALUATE_PREDICTIONS_H

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "nn/bundle.h"

typedef struct oc_predictions {
    size_t count;
    int horizons;
    int64_t *row;         /* [count] global row in the dataset */
    float *probabilities; /* [count,horizons,3] */
    int8_t *truth;        /* [horizons,count]: horizon by horizon, as the metrics want it */
} oc_predictions;

/* Answers of the bundle's model for every sample, by `threads` workers; bits do not depend on their number. */
OC_MUST oc_predictions_make(oc_predictions *out, const oc_bundle *bundle, const oc_dataset *d,
                            const oc_dataset_label *const *labels, const oc_samples *samples, int threads);
void oc_predictions_free(oc_predictions *p);
OC_MUST oc_predictions_save(const oc_predictions *p, const oc_bundle *bundle, const oc_dataset *d, const char *split,
                            const char *path);

/* The bundle was made for these features: same schema hash, same width. `model` opens the message. */
OC_MUST oc_predictions_fit(const oc_bundle *bundle, const oc_dataset *d, const char *model);
/* It fits, and the dataset has its labels: labels [horizons]. */
OC_MUST oc_predictions_labels(const oc_bundle *bundle, const oc_dataset *d, const char *model,
                              const oc_dataset_label **labels);

#endif
