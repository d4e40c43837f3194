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
#include "train/comm.h"

/* The keys of training and those of a study, as one schema; both live as long as the process. */
OC_MUST oc_study_keys(const oc_config_key **keys, size_t *count);

typedef struct oc_study_result {
    int64_t runs, trials, folds; /* trainings in all, or of this part; trials a fold; folds */
    oc_hash ledger;              /* of STUDY/ledger.jsonl: what was trained and looked at, in the order of the study */
} oc_study_result;

/* parts 0: the whole study. Else trains only every parts-th run, from the part-th (1 … parts) in the order of fold,
 * trial and seed, in the folder that all parts share; whoever then runs the whole finds them done, chooses and tests.
 * The same study.json and ledger whatever the split. OC_EAGAIN: another process trains one of these runs. */
OC_MUST oc_study_run(const oc_config *config, const char *out, int part, int parts, oc_study_result *result);

/* The same as one rank of a job, all of which call it and share the folder: each trains its part, then rank 0 the
 * whole; result is rank 0's. OC_EAGAIN: a rank was asked to stop, and all have saved. After a failure the caller closes
 * comm with it. */
OC_MUST oc_study_run_ranks(oc_comm *comm, const oc_config *config, const char *out, oc_study_result *result);

/* The rows `trained` and `tested` of folds as a hash chain of JSON lines, without a word about time: the same study
 * gives the same bytes. path NULL: only *head. */
OC_MUST oc_study_ledger(const json_t *folds, const char *path, oc_hash *head);

#endif
