/* context.h - what one evaluation works on, inside this folder: bundle, fold, samples, predictions. */
#ifndef OC_EVALUATE_CONTEXT_H
#define OC_EVALUATE_CONTEXT_H

#include "evaluate/evaluate.h"
#include "evaluate/predictions.h"
#include "nn/bundle.h"

typedef struct evaluation {
    const oc_evaluate_options *options;
    const oc_dataset *d;
    oc_bundle *bundle;
    oc_folds *folds;
    const oc_fold *fold;
    const oc_dataset_label *labels[OC_HORIZONS_MAX];
    size_t
        horizon_rows[OC_HORIZONS_MAX]; /* of the bootstrap's blocks: rows that a label looks ahead, from the samples */
    oc_samples train, valid, samples;  /* samples: of the split that is judged */
    uint32_t *order; /* samples by time, then symbol; NULL where one symbol is judged: by time already */
    size_t symbols;  /* with samples */
    oc_predictions predictions;
} evaluation;

/* Loads the bundle, rebuilds its fold from the dataset and checks its hash. On failure nothing is held, but close is
 * allowed. */
OC_MUST evaluation_open(evaluation *e, const oc_evaluate_options *o, const oc_dataset *d);
void evaluation_close(evaluation *e);

#endif
