/* lstm_case.h - one shape of an LSTM on a backend: forward in training and inference, backward, and how far the answers
 * lie from naive double precision (oracle_backward.c). Weights are enlarged (3 / sqrt(H)), so that states saturate and
 * a kernel that ignores its input fails. */
#ifndef OC_TESTS_LSTM_CASE_H
#define OC_TESTS_LSTM_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include "kernels/ops.h"

typedef struct lstm_case {
    oc_lstm_shape shape;
    float dropout;
    oc_math math;
    bool corrupt_one;
} lstm_case;

typedef struct lstm_run {
    float *y, *dw[4 * OC_LAYERS_MAX]; /* dw: w_ih, w_hh, b_ih, b_hh of each layer */
} lstm_run;

typedef struct lstm_errors {
    double forward, backward;
} lstm_errors;

/* Normalised error, forward and backward, by math. */
typedef struct lstm_bound {
    const char *name;
    double forward, backward;
} lstm_bound;
extern const lstm_bound lstm_case_bounds[];

/* Memory of one run, and its weights in a backend's memory. */
size_t lstm_case_arena(const oc_lstm_shape *s);
oc_lstm_weights lstm_case_weights(oc_backend *b, const oc_lstm_shape *s);
int64_t lstm_case_part_count(const oc_lstm_shape *s, int l, int part); /* part: w_ih, w_hh, b_ih, b_hh of layer l */

extern oc_lstm_by lstm_case_by; /* what lstm_case_cuda opens with; HAND at first */

/* Forward in training, and in inference, which must agree in bits; backward. */
enum { LSTM_CASE_FORWARD, LSTM_CASE_BACKWARD, LSTM_CASE_TRAINING /* both, and no inference */ };
lstm_run lstm_case_on(oc_backend *b, const lstm_case *c, const float *x_host, int what);
lstm_run lstm_case_cuda(const lstm_case *c, const float *x, int what, int seed); /* seed: of the thread order */
lstm_run lstm_case_cpu(const lstm_case *c, const float *x);
void lstm_case_same(const lstm_case *c, const lstm_run *a, const lstm_run *b);
lstm_errors lstm_case_errors(const lstm_case *c, const float *x, const lstm_run *run);

#endif
