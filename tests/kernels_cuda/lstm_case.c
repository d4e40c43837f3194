/* lstm_case.c - see the header. */
#include "kernels_cuda/lstm_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "kernels/oracle_backward.h"
#include "kernels_cuda/device_case.h"

oc_lstm_by lstm_case_by = OC_LSTM_HAND;

/* f32 measured 6e-7 and 4e-6 in emulation, tf32 7e-4 and 4.9e-3 (B 3, T 2, F 40, H 8, where nearly every gate is
 * saturated and a gradient is the rest of a difference; the twin has the same bits), bf16 9e-3 and 7e-3. */
const lstm_bound lstm_case_bounds[] = {[OC_MATH_F32] = {"f32", 3e-6, 1.2e-5},
                                       [OC_MATH_TF32] = {"tf32", 2e-3, 8e-3},
                                       [OC_MATH_BF16] = {"bf16", 2e-2, 4e-2}};

/* Part 0 … 3 of layer l: rows, columns. */
static void part_shape(const oc_lstm_shape *s, int l, int part, int64_t *rows, int64_t *columns)
{
    *rows = 4 * s->hidden;
    *columns = part == 0 ? (l ? s->hidden : s->inputs) : part == 1 ? s->hidden : 1;
}

int64_t lstm_case_part_count(const oc_lstm_shape *s, int l, int part)
{
    int64_t rows, columns;
    part_shape(s, l, part, &rows, &columns);
    return rows * columns;
}

static float *part_numbers(const oc_lstm_shape *s, int l, int part)
{
    return host_numbers((uint64_t)(100 + 10 * l + part), 3 / sqrt((double)s->hidden), lstm_case_part_count(s, l, part));
}

static oc_tensor *part_of(oc_lstm_weights *w, int l, int part)
{
    oc_tensor *const all[4] = {w->w_ih, w->w_hh, w->b_ih, w->b_hh};
    return &all[part][l];
}

oc_lstm_weights lstm_case_weights(oc_backend *b, const oc_lstm_shape *s)
{
    oc_lstm_weights w = {0};
    for (int l = 0; l < s->layers; l++)
        for (int part = 0; part < 4; part++) {
            int64_t rows, columns;
            part_shape(s, l, part, &rows, &columns);
            *part_of(&w, l, part) = device_put(b, part_numbers(s, l, part), OC_DTYPE_F32, rows, columns, 1);
        }
    return w;
}

static oc_dropout dropout_of(const lstm_case *c)
{
    return (oc_dropout){c->dropout, 3, 9, 100, 4, NULL};
}

size_t lstm_case_arena(const oc_lstm_shape *s)
{
    const size_t rows = (size_t)s->steps * (size_t)s->batch, hidden = (size_t)s->hidden;
    const size_t most = hidden + (size_t)s->inputs;
    return 4 * ((size_t)s->layers * (rows * 16 * hidden + 16 * hidden * most) + rows * (most + 4 * hidden) +
                300 * hidden * most) +
           (2 << 20);
}

static void done(oc_status status)
{
    if (status != OC_OK) fail_msg("%s", oc_status_message());
}

lstm_run lstm_case_on(oc_backend *b, const lstm_case *c, const float *x_host, int what)
{
    const oc_lstm_shape *s = &c->shape;
    const oc_ops *ops = oc_backend_ops(b);
    const oc_dropout d = dropout_of(c), *drop = c->dropout > 0 ? &d : NULL;
    const oc_lstm_weights w = lstm_case_weights(b, s);
    const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, s));
    const oc_tensor reserve = device_bytes(b, ops->lstm_reserve_bytes(b, s, true));
    const oc_tensor x = device_put(b, x_host, OC_DTYPE_F32, s->steps, s->batch, s->inputs);
    const oc_tensor y = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    lstm_run run = {0};
    done(ops->lstm_pack(b, s, &w, packed));
    done(ops->lstm_forward(b, s, packed, x, drop, true, y, reserve));
    run.y = device_get(b, y);
    if (!drop && what != LSTM_CASE_TRAINING) {
        const oc_tensor once = device_bytes(b, ops->lstm_reserve_bytes(b, s, false));
        const oc_tensor again = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
        done(ops->lstm_forward(b, s, packed, x, NULL, false, again, once));
        assert_memory_equal(device_get(b, again), run.y, (size_t)oc_tensor_count(y) * sizeof(float));
    }
    if (what == LSTM_CASE_FORWARD) return run;
    const oc_tensor dy =
        device_put(b, host_numbers(3, 1, oc_tensor_count(y)), OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    oc_lstm_weights dw = lstm_case_weights(b, s); /* garbage: gradients overwrite */
    done(ops->lstm_backward(b, s, packed, x, y, dy, drop, reserve, &dw));
    for (int l = 0; l < s->layers; l++)
        for (int part = 0; part < 4; part++) run.dw[4 * l + part] = device_get(b, *part_of(&dw, l, part));
    return run;
}

lstm_run lstm_case_cuda(const lstm_case *c, const float *x, int what, int seed)
{
    char text[16];
    snprintf(text, sizeof text, "%d", seed);
    (void)setenv("OUTCRY_EMULATION_SEED", text, 1);
    oc_backend *b = device_open_by(lstm_case_arena(&c->shape), c->math, lstm_case_by);
    assert_non_null(b);
    const lstm_run run = lstm_case_on(b, c, x, what);
    oc_backend_close(b);
    return run;
}

lstm_run lstm_case_cpu(const lstm_case *c, const float *x)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .arena_bytes = lstm_case_arena(&c->shape)};
    oc_backend *b = NULL;
    assert_int_equal(oc_backend_open(&b, &config), OC_OK);
    const lstm_run run = lstm_case_on(b, c, x, LSTM_CASE_BACKWARD);
    oc_backend_close(b);
    return run;
}

void lstm_case_same(const lstm_case *c, const lstm_run *a, const lstm_run *b)
{
    const oc_lstm_shape *s = &c->shape;
    assert_memory_equal(a->y, b->y, (size_t)(s->steps * s->batch * s->hidden) * sizeof(float));
    for (int i = 0; i < 4 * s->layers; i++)
        assert_memory_equal(a->dw[i], b->dw[i], (size_t)lstm_case_part_count(s, i / 4, i % 4) * sizeof(float));
}

lstm_errors lstm_case_errors(const lstm_case *c, const float *x, const lstm_run *run)
{
    const oc_lstm_shape *s = &c->shape;
    const int64_t rows = (int64_t)s->steps * s->batch;
    oracle_lstm w = {0}, dw = {0};
    oracle_lstm_trace trace;
    double *factor[OC_LAYERS_MAX] = {0};
    double **const ws[4] = {w.w_ih, w.w_hh, w.b_ih, w.b_hh}, **const ds[4] = {dw.w_ih, dw.w_hh, dw.b_ih, dw.b_hh};
    for (int l = 0; l < s->layers; l++) {
        for (int part = 0; part < 4; part++) {
            ws[part][l] = oracle_widen(part_numbers(s, l, part), (size_t)lstm_case_part_count(s, l, part));
            ds[part][l] = oracle_take((size_t)lstm_case_part_count(s, l, part));
        }
        oc_dropout d = dropout_of(c);
        d.tensor += (uint32_t)l;
        if (!(c->dropout > 0)) continue;
        factor[l] = oracle_take((size_t)(rows * s->hidden));
        for (int64_t i = 0; i < rows * s->hidden; i++)
            factor[l][i] =
                oracle_dropout_factor(&d, i / s->hidden % s->batch, i / s->hidden / s->batch, s->hidden, i % s->hidden);
    }
    const size_t states = (size_t)(rows * s->hidden);
    oracle_lstm_forward(s, &w, oracle_widen(x, (size_t)(rows * s->inputs)), factor, &trace);
    oracle_lstm_backward(s, &w, &trace, factor, oracle_widen(host_numbers(3, 1, (int64_t)states), states), &dw, NULL);
    lstm_errors e = {oracle_error(run->y, trace.h[s->layers - 1], states), 0};
    for (int i = 0; i < 4 * s->layers; i++)
        e.backward = worse(e.backward,
                           oracle_error(run->dw[i], ds[i % 4][i / 4], (size_t)lstm_case_part_count(s, i / 4, i % 4)));
    return e;
}
