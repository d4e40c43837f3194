/* oracle_backward.h - the operations of training in naive double precision, forward and backward, written from the
 * equations and sharing nothing with kernels/: the textbook attention layer with keys and values built, plain loops,
 * libm. Layouts are those of kernels/ops.h (time-major). Memory comes from a pool that oracle_release empties. */
#ifndef OC_TESTS_ORACLE_BACKWARD_H
#define OC_TESTS_ORACLE_BACKWARD_H

#include "kernels/ops.h"

double *oracle_take(size_t count); /* zeroed; aborts where there is no memory */
double *oracle_widen(const float *x, size_t count);
void oracle_release(void);
/* Largest |a - b| over the largest |b|; NaN where either holds one or all of b is zero and a is not. */
double oracle_error(const float *a, const double *b, size_t count);

typedef struct oracle_lstm { /* weights or gradients; any may be NULL as a gradient */
    double *w_ih[OC_LAYERS_MAX], *w_hh[OC_LAYERS_MAX], *b_ih[OC_LAYERS_MAX], *b_hh[OC_LAYERS_MAX];
} oracle_lstm;
typedef struct oracle_lstm_trace { /* what forward leaves for backward, per layer */
    double *in[OC_LAYERS_MAX], *gate[OC_LAYERS_MAX], *cell[OC_LAYERS_MAX], *h[OC_LAYERS_MAX];
} oracle_lstm_trace;
/* factor[l] [T,B,H]: what the output of layer l is multiplied by before layer l + 1; NULL: nothing is dropped. */
void oracle_lstm_forward(const oc_lstm_shape *s, const oracle_lstm *w, const double *x, double *const *factor,
                         oracle_lstm_trace *t);
void oracle_lstm_backward(const oc_lstm_shape *s, const oracle_lstm *w, const oracle_lstm_trace *t,
                          double *const *factor, const double *dy, const oracle_lstm *dw, double *dx);

typedef struct oracle_attention {
    double *in_w, *in_b, *out_w, *out_b;
} oracle_attention;
typedef struct oracle_attention_trace {
    double *q, *k, *v, *map, *pooled, *y;
} oracle_attention_trace;
void oracle_attend_forward(const oc_attention_shape *s, const oracle_attention *w, const double *h,
                           oracle_attention_trace *t);
void oracle_attend_backward(const oc_attention_shape *s, const oracle_attention *w, const double *h,
                            const oracle_attention_trace *t, const double *dy, const oracle_attention *dw, double *dh);

void oracle_linear_forward(int rows, int inputs, int outputs, const double *x, const double *w, const double *bias,
                           bool relu, double *y);
void oracle_linear_backward(int rows, int inputs, int outputs, const double *x, const double *w, const double *y,
                            bool relu, const double *dy, double *dx, double *dw, double *dbias);

/* Factor of dropout for element (row, j) of a sample, from the definition in kernels/ops.h. */
double oracle_dropout_factor(const oc_dropout *d, int64_t b, int64_t row, int64_t columns, int64_t j);
void oracle_softmax_loss(const oc_loss_rule *rule, int batch, const double *logits, const int32_t *target,
                         double *loss_sum, double *weight_sum, double *dlogits);

#endif
