/* forward_case.h - one random model trunk (LSTM stack, attention, linear layer) on a backend of a wanted instruction
 * set, with enlarged weights, so that windows differ and a kernel that ignores its input fails. For the tests of
 * kernels. */
#ifndef OC_TESTS_FORWARD_CASE_H
#define OC_TESTS_FORWARD_CASE_H

#include "kernels/ops.h"

typedef struct forward_shape {
    int batch, steps, inputs, hidden, layers, heads;
} forward_shape;

typedef struct forward_case {
    forward_shape shape;
    oc_lstm_shape lstm;
    oc_attention_shape attention;
    oc_backend *backend;
    const oc_ops *ops;
    oc_lstm_weights weights;
    oc_attention_weights attention_weights;
    oc_tensor head_w, head_b; /* [5][H], [5] */
    oc_tensor lstm_packed, attention_packed, head_packed;
    float *memory;
} forward_case;

enum { FORWARD_HEAD = 5 };

void forward_open(forward_case *f, const forward_shape *shape, oc_isa isa);
void forward_close(forward_case *f);
float *forward_numbers(uint64_t stream, size_t count, float size); /* uniform in +-size; free() */
oc_tensor forward_tensor(float *data, int64_t d0, int64_t d1, int64_t d2);
/* x [T,B,F] -> y [T,B,H], pooled [B,H], map [B,N,T], head [B,5] for the case's whole batch. training: keeps the
 * reserve. */
typedef struct forward_result {
    float *y, *pooled, *map, *head;
} forward_result;
void forward_run(forward_case *f, const float *x, int batch, bool training, forward_result *out);
void forward_free(forward_result *r);

#endif
