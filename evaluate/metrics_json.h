/* metrics_json.h - figures as JSON, inside this folder. Makers return new references, NULL where memory is short;
 * oc_json_put takes the reference and turns NULL into OC_EMEMORY, so that a writer checks one thing. */
#ifndef OC_EVALUATE_METRICS_JSON_H
#define OC_EVALUATE_METRICS_JSON_H

#include "base/json.h"
#include "evaluate/context.h"
#include "evaluate/metrics.h"

OC_MUST oc_json_put(json_t *object, const char *key, json_t *value); /* steals value */
json_t *oc_json_reals_of(const double *x, size_t count);             /* non-finite: null */
json_t *oc_interval_json(oc_interval_of i);                          /* {value, low, high} */
OC_MUST oc_metrics_to_json(json_t *out, const oc_metrics *m, const oc_bootstrap_result *intervals, size_t block);
json_t *oc_class_shares_json(const evaluation *e, int horizon); /* {train: [3], valid: [3], split: [3]} */
json_t *oc_verdict_json(const json_t *horizon);                 /* {text, better_than: [], not_better_than: []} */
OC_MUST oc_provenance_to_json(const evaluation *e, json_t *out);
OC_MUST oc_learning_to_json(const evaluation *e, json_t *out); /* from log.jsonl beside the model, else null */

#endif
