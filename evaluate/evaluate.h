/* evaluate.h - a bundle against a split of a dataset: RESULT/{predictions.h5, metrics.json}.
 *
 * metrics.json (format "outcry-metrics", version 1) holds all that a report prints: the figures with block-bootstrap
 * intervals, the same for each baseline, skill over each with its interval, class balance, confusion, reliability bins,
 * mean attention over the window, learning curves where the run's log lies beside the model, provenance, trials from
 * the ledger, and a verdict in words. "Better than B" is said only where the lower bound of the skill over B is above
 * 0. */
#ifndef OC_EVALUATE_EVALUATE_H
#define OC_EVALUATE_EVALUATE_H

#include "base/json.h"
#include "datasets/folds.h"

typedef struct oc_evaluate_options {
    const char *model, *data, *out;
    const char *truth; /* F.truth of a simulated market: adds the best achievable figures; NULL: none */
    oc_split split;
    int threads;
    uint64_t seed; /* of the bootstrap */
    size_t resamples;
} oc_evaluate_options;

OC_MUST oc_evaluate_run(const oc_evaluate_options *o, json_t **metrics); /* new reference */

/* The parts a study shares: the dataset is open already. */
OC_MUST oc_evaluate_split(const oc_evaluate_options *o, const oc_dataset *d, json_t **metrics);

extern const char *const oc_split_name[OC_SPLIT_COUNT];    /* "train", "valid", "test" */
OC_MUST oc_split_parse(const char *name, oc_split *split); /* OC_EUSAGE */

#endif
