/* metrics.h - what a set of three-class probabilities is worth against what happened. Classes: 0 buy, 1 sell, 2 hold.
 * Conventions (checked against public libraries, docs/references.md):
 *   accuracy, precision, recall, F1 of the argmax (ties: the lower class); macro-F1 = plain mean over the three
 * classes, a class without prediction and truth counting 0; MCC = the R_K statistic [Gorodkin04], 0 where undefined;
 *   Brier = mean sum over classes of (p - y)^2, 0 to 2 [Brier50]; log loss natural, p floored at 1e-15;
 *   ECE of the top class, 10 equal-width bins [Guo17]; skill over persistence = 1 - log loss / log loss of persistence.
 */
#ifndef OC_EVALUATE_METRICS_H
#define OC_EVALUATE_METRICS_H

#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { OC_BINS = 10 };

typedef struct oc_reliability_bin {
    uint64_t count;
    double confidence, accuracy;
} oc_reliability_bin; /* means; 0 where empty */

typedef struct oc_metrics {
    uint64_t count, confusion[3][3]; /* [truth][predicted] */
    double accuracy, macro_f1, mcc, brier, ece, log_loss;
    double precision[3], recall[3], f1[3];
    oc_reliability_bin bin[OC_BINS];
} oc_metrics;

int oc_argmax3(const float *p);
double oc_log_loss_of(float p); /* -log(max(p, 1e-15)) */
/* p [count,3] finite, in [0,1], sums within 1e-5 of 1, else OC_EDATA with the index; truth [count] 0..2; count >= 1 */
OC_MUST oc_metrics_compute(oc_metrics *out, const float *p, const int8_t *truth, size_t count);
/* The figures that a confusion table alone gives. */
void oc_metrics_of_confusion(oc_metrics *out);

/* Block bootstrap over consecutive samples: circular blocks of fixed length, so that overlapping labels and clustered
 * errors stay together [Politis92]. Percentile interval. */
typedef struct oc_interval_of {
    double value, low, high;
} oc_interval_of;
typedef struct oc_bootstrap_rule {
    size_t block, resamples;
    double level;
    uint64_t seed;
} oc_bootstrap_rule;                /* level 0.95 */
typedef struct oc_bootstrap_input { /* [count] each; baseline_loss and baseline_correct may be NULL */
    const uint8_t *truth, *predicted;
    const double *loss, *baseline_loss;
    size_t count;
} oc_bootstrap_input;
typedef struct oc_bootstrap_result {
    oc_interval_of accuracy, macro_f1, mcc, log_loss, skill;
} oc_bootstrap_result; /* skill 1 - loss / baseline */
OC_MUST oc_bootstrap(oc_bootstrap_result *out, const oc_bootstrap_input *in, const oc_bootstrap_rule *rule);
OC_MUST oc_bootstrap_sum(oc_interval_of *out, const double *x, size_t count, const oc_bootstrap_rule *rule);
size_t oc_bootstrap_block(size_t count, size_t horizon_rows); /* max(2 horizon, count^(1/3)), at most count / 4 */

#endif
