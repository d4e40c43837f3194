/* oracle_model.h - the whole model of DESIGN section 3 in naive double precision, over the oracles of single
 * operations: loss and gradient of one batch for parameters laid out by nn/shape.h. */
#ifndef OC_TESTS_ORACLE_MODEL_H
#define OC_TESTS_ORACLE_MODEL_H

#include "nn/graph.h"

typedef struct oracle_model {
    oc_model_shape shape;
    oc_parameters parameters;
    oc_graph_rule rule;
    const float *mean, *scale;
    double clip;
} oracle_model;

/* Loss sum of a batch with dropout as the rule says; gradient [total], logits [count, 3 * horizons], weight_sum may be
 * NULL. smallest_kink: the smallest |pre-activation| of a ReLU, so that finite differences know where they may not
 * go. */
double oracle_model_loss(const oracle_model *m, const double *flat, const oc_graph_batch *batch, double *logits,
                         double *gradient, double *weight_sum, double *smallest_kink);

#endif
