/* study.h - walk-forward folds x trials x seeds: STUDY/{study.json, config.yaml, runs/…}. Resumable: a run whose result
 * is there is not done again, and a run that was cut goes on from its checkpoint.
 *
 * A trial is a set of overrides of the training configuration ("model.hidden=32 train.rate=0.001"). For each fold the
 * trial with the lowest mean validation loss over the seeds is chosen, and only the chosen one looks at the test split.
 */
#ifndef OC_EVALUATE_STUDY_H
#define OC_EVALUATE_STUDY_H

#include "base/config.h"
#include "base/hash.h"
#include "base/json.h"

/* The keys of training and those of a study, as one schema; both live as long as the process. */
OC_MUST oc_study_keys(const oc_config_key **keys, size_t *count);

typedef struct oc_study_result {
    int64_t runs, trials, folds; /* trainings in all; trials a fold; folds */
    oc_hash ledger;
} oc_study_result;

OC_MUST oc_study_run(const oc_config *config, const char *out, oc_study_result *result);

#endif
