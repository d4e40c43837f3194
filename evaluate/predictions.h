/* predictions.h - predictions.h5 (DESIGN section 10): symbol, time_ns, probabilities, with the hashes of bundle, dataset and
 * label and the intervals seen. Everything that a report says is computed from files like this one. */
#ifndef OC_EVALUATE_PREDICTIONS_H
#define OC_EVALUATE_PREDICTIONS_H

#include "datasets/dataset.h"
#include "datasets/folds.h"
#include "nn/bundle.h"

typedef struct oc_predictions {
    size_t count;
    int horizons;
    int64_t *row;                              /* global row in the dataset */
    int64_t *time_ns;
    float *probabilities;                      /* [count,horizons,3] */
    oc_hash bundle, dataset;
    char labels[OC_HORIZONS_MAX][96];
} oc_predictions;

OC_MUST oc_predictions_make(oc_predictions **out, const oc_bundle *bundle, const oc_dataset *d, const oc_samples *samples, int threads);
void oc_predictions_close(oc_predictions *p);

#endif
