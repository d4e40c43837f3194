/* baselines.h - what a model must beat. Each is fitted on the training samples of the same fold, and answers the same
 * test samples with probabilities.
 *   majority     the training set's class shares for every sample
 *   persistence  the training set's transition table from the latest label of the same symbol whose known_ns is at or
 * before the row's time (Laplace: one count a cell); a row with no such label gets the class shares logistic
 * multinomial logistic regression on the last row's features, scaled by the training rows; L2, fitted by L-BFGS [Liu89]
 * in f64, so it is at its optimum and needs no tuning */
#ifndef OC_EVALUATE_BASELINES_H
#define OC_EVALUATE_BASELINES_H

#include "datasets/folds.h"

typedef enum { OC_BASELINE_MAJORITY, OC_BASELINE_PERSISTENCE, OC_BASELINE_LOGISTIC, OC_BASELINE_COUNT } oc_baseline;
const char *oc_baseline_name(oc_baseline b);

/* p [test->count,3] f32, written whole. */
OC_MUST oc_baseline_predict(oc_baseline b, const oc_dataset *d, const oc_dataset_label *label, const oc_samples *train,
                            const oc_samples *test, float *p);

/* Multinomial logistic regression alone, for the tests: x [count,width], class [count]; weights [3,width + 1], the last
 * the intercept (not penalised). The result has a gradient norm below 1e-6 of the start's, or OC_ELIMIT after 500
 * iterations. */
OC_MUST oc_logistic_fit(const double *x, const int8_t *class_, size_t count, size_t width, double l2, double *weights);
void oc_logistic_predict(const double *weights, const double *x, size_t width, float p[3]);

#endif
