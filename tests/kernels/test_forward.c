/* test_forward.c - the forward operations against double precision, and against themselves in bits.
 * Oracle: oracle_backward.c, the textbook layers in double, sharing no code with kernels/.
 * Method: normalised error per case and per instruction set; harness proven by the corrupt case, which must fail. Bits:
 *         between instruction sets, between batch splits, training or not, step by step or at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/forward_case.h"
#include "kernels/oracle_backward.h"

typedef struct forward_row {
    forward_shape shape;
    double error_max;
    bool corrupt;
} forward_row;

/* The largest error measured over all instruction sets is 1.1e-6 (LSTM of 3 layers), bounds leave a factor of 2 to 4.
 * */
static const forward_row rows[] = {
    /* batch steps inputs hidden layers heads */
    {{1, 1, 1, 8, 1, 1}, 1e-6, false},
    {{3, 2, 5, 40, 2, 4}, 1e-6, false},
    {{1, 17, 40, 64, 2, 4}, 2e-6, false},
    {{16, 17, 40, 64, 2, 4}, 2e-6, false},
    {{65, 17, 5, 100, 2, 2}, 2e-6, false},
    {{3, 17, 1, 128, 3, 4}, 4e-6, false},
    {{65, 2, 40, 40, 3, 1}, 2e-6, false},
    {{7, 33, 40, 24, 1, 2}, 2e-6, false},
    {{5, 20, 7, 6, 2, 3}, 2e-6, false},
    /* tails of 15, 11, 1 and 4 units: 4, 3, 1 and 1 vectors of 16 columns; alone and in batches */
    {{1, 9, 5, 31, 2, 1}, 2e-6, false},
    {{7, 9, 5, 43, 2, 1}, 2e-6, false},
    {{1, 5, 7, 33, 1, 3}, 2e-6, false},
    {{1, 12, 33, 100, 2, 4}, 2e-6, false},
    {{3, 17, 5, 40, 2, 4}, 2e-6, true},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

static const oc_isa isas[] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512};

static bool usable(oc_isa isa)
{
    if (oc_isa_available(isa)) return true;
    print_message("skipped: this machine has no %s\n", oc_isa_name(isa));
    return false;
}

static size_t input_count(const forward_shape *s)
{
    return (size_t)s->steps * (size_t)s->batch * (size_t)s->inputs;
}

static double *widen(oc_tensor t)
{
    return oracle_widen(t.data, (size_t)oc_tensor_count(t));
}

/* The largest normalised error of states, attention, map and head. */
static double case_error(const forward_case *f, const float *x, const forward_result *got)
{
    const forward_shape *s = &f->shape;
    const size_t batch = (size_t)s->batch, hidden = (size_t)s->hidden, steps = (size_t)s->steps;
    oracle_lstm w = {0};
    oracle_lstm_trace trace;
    oracle_attention_trace attention;
    for (int i = 0; i < s->layers; i++) {
        w.w_ih[i] = widen(f->weights.w_ih[i]);
        w.w_hh[i] = widen(f->weights.w_hh[i]);
        w.b_ih[i] = widen(f->weights.b_ih[i]);
        w.b_hh[i] = widen(f->weights.b_hh[i]);
    }
    const oc_attention_weights *a = &f->attention_weights;
    const oracle_attention aw = {widen(a->in_w), widen(a->in_b), widen(a->out_w), widen(a->out_b)};
    oracle_lstm_forward(&f->lstm, &w, oracle_widen(x, input_count(s)), NULL, &trace);
    const double *h = trace.h[s->layers - 1];
    oracle_attend_forward(&f->attention, &aw, h, &attention);
    double *head = oracle_take(batch * FORWARD_HEAD);
    oracle_linear_forward(s->batch, s->hidden, FORWARD_HEAD, attention.y, widen(f->head_w), widen(f->head_b), true,
                          head);
    const double errors[] = {oracle_error(got->y, h, steps * batch * hidden),
                             oracle_error(got->pooled, attention.y, batch * hidden),
                             oracle_error(got->map, attention.map, batch * (size_t)s->heads * steps),
                             oracle_error(got->head, head, batch * FORWARD_HEAD)};
    double worst = 0;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (!(errors[i] <= worst)) worst = errors[i];
    oracle_release();
    return worst;
}

static void forward_matches_oracle(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++)
        for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
            forward_case f;
            forward_result r;
            if (!usable(isas[j])) continue;
            forward_open(&f, &rows[i].shape, isas[j]);
            float *x = forward_numbers(99, input_count(&rows[i].shape), 1.0f);
            forward_run(&f, x, rows[i].shape.batch, false, &r);
            if (rows[i].corrupt) x[input_count(&rows[i].shape) / 2] += 1e-3f; /* the oracle sees another input */
            const double error = case_error(&f, x, &r);
            print_message("case %zu %s: error %.2g\n", i, oc_isa_name(isas[j]), error);
            if (rows[i].corrupt)
                assert_false(error <= rows[i].error_max);
            else
                assert_true(error <= rows[i].error_max);
            forward_free(&r);
            forward_close(&f);
            free(x);
        }
}

static void same(const float *a, const float *b, size_t count)
{
    assert_memory_equal(a, b, count * sizeof *a);
}

static void same_result(const forward_shape *s, const forward_result *a, const forward_result *b)
{
    const size_t batch = (size_t)s->batch;
    same(a->y, b->y, (size_t)s->steps * batch * (size_t)s->hidden);
    same(a->pooled, b->pooled, batch * (size_t)s->hidden);
    same(a->map, b->map, batch * (size_t)s->heads * (size_t)s->steps);
    same(a->head, b->head, batch * FORWARD_HEAD);
}

/* Every instruction set, in training and in inference: the bits of scalar inference. */
static void bits_of_every_isa(void **state)
{
    (void)state;
    for (size_t i = 0; i < ROWS; i++) {
        forward_case f;
        forward_result first, other;
        const forward_shape *s = &rows[i].shape;
        float *x = forward_numbers(99, input_count(s), 1.0f);
        forward_open(&f, s, OC_ISA_SCALAR);
        forward_run(&f, x, s->batch, false, &first);
        forward_close(&f);
        for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++)
            for (int training = 0; training < 2 && usable(isas[j]); training++) {
                forward_open(&f, s, isas[j]);
                forward_run(&f, x, s->batch, training, &other);
                same_result(s, &first, &other);
                forward_free(&other);
                forward_close(&f);
            }
        forward_free(&first);
        free(x);
    }
}

/* Windows first … first + n - 1 of x [T,B,F]. */
static float *slice(const forward_shape *s, const float *x, int first, int n)
{
    const size_t inputs = (size_t)s->inputs;
    float *part = forward_numbers(0, (size_t)s->steps * (size_t)n * inputs, 1.0f);
    for (int t = 0; t < s->steps; t++)
        memcpy(part + (size_t)(t * n) * inputs, x + (size_t)(t * s->batch + first) * inputs,
               (size_t)n * inputs * sizeof *x);
    return part;
}

static void bits_of_every_split(void **state)
{
    static const forward_shape shape = {48, 11, 40, 64, 2, 4};
    const forward_shape *s = &shape;
    float *x = forward_numbers(98, input_count(s), 1.0f);
    (void)state;
    for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
        forward_case f;
        forward_result whole, part;
        if (!usable(isas[j])) continue;
        forward_open(&f, s, isas[j]);
        forward_run(&f, x, s->batch, false, &whole);
        for (int n = 1; n <= s->batch; n += isas[j] == OC_ISA_SCALAR ? 11 : 1)
            for (int first = 0; first + n <= s->batch; first += n) {
                float *in = slice(s, x, first, n);
                forward_run(&f, in, n, n % 2, &part);
                same(part.head, whole.head + first * FORWARD_HEAD, (size_t)n * FORWARD_HEAD);
                same(part.pooled, whole.pooled + first * s->hidden, (size_t)(n * s->hidden));
                for (int t = 0; t < s->steps; t++)
                    same(part.y + t * n * s->hidden, whole.y + (t * s->batch + first) * s->hidden,
                         (size_t)(n * s->hidden));
                forward_free(&part);
                free(in);
            }
        forward_free(&whole);
        forward_close(&f);
    }
    free(x);
}

/* lstm_step, one row of time after the other, from zero states. */
static void bits_of_steps(void **state)
{
    static const forward_shape shapes[] = {{7, 9, 5, 40, 3, 1}, {1, 9, 40, 64, 2, 4}};
    (void)state;
    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
            const forward_shape *s = &shapes[i];
            forward_case f;
            forward_result whole;
            if (!usable(isas[j])) continue;
            const size_t count = (size_t)(s->batch * s->hidden);
            float *x = forward_numbers(97, input_count(s), 1.0f);
            float *h = calloc((size_t)s->layers * count, sizeof *h), *c = calloc((size_t)s->layers * count, sizeof *c);
            forward_open(&f, s, isas[j]);
            forward_run(&f, x, s->batch, false, &whole);
            const size_t bytes = f.ops->lstm_reserve_bytes(f.backend, &f.lstm, false);
            void *reserve = calloc(1, bytes);
            for (int t = 0; t < s->steps; t++) {
                assert_int_equal(f.ops->lstm_step(f.backend, &f.lstm, f.lstm_packed, s->batch,
                                                  forward_tensor(x + t * s->batch * s->inputs, s->batch, s->inputs, 1),
                                                  forward_tensor(h, s->layers, s->batch, s->hidden),
                                                  forward_tensor(c, s->layers, s->batch, s->hidden),
                                                  oc_tensor_make(reserve, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1)),
                                 OC_OK);
                same(h + (size_t)(s->layers - 1) * count, whole.y + (size_t)t * count, count);
            }
            free(reserve);
            free(h);
            free(c);
            free(x);
            forward_free(&whole);
            forward_close(&f);
        }
}

/* A NaN in one window makes all its answers NaN and touches no other window. */
static void nan_stays_in_its_window(void **state)
{
    static const forward_shape shape = {9, 6, 5, 40, 2, 4};
    const forward_shape *s = &shape;
    (void)state;
    for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
        forward_case f;
        forward_result clean, dirty;
        if (!usable(isas[j])) continue;
        float *x = forward_numbers(96, input_count(s), 1.0f);
        forward_open(&f, s, isas[j]);
        forward_run(&f, x, s->batch, false, &clean);
        x[(size_t)((2 * s->batch + 4) * s->inputs + 3)] = NAN; /* step 2, window 4, input 3 */
        forward_run(&f, x, s->batch, false, &dirty);
        for (int i = 0; i < s->batch; i++)
            for (int k = 0; k < FORWARD_HEAD; k++) {
                const int at = i * FORWARD_HEAD + k;
                if (i == 4)
                    assert_true(isnan(dirty.head[at]));
                else
                    assert_true(dirty.head[at] == clean.head[at]);
            }
        forward_free(&clean);
        forward_free(&dirty);
        forward_close(&f);
        free(x);
    }
}

static void no_allocation(void **state)
{
    static const forward_shape shape = {6, 5, 5, 40, 2, 4};
    forward_case f;
    forward_result r;
    (void)state;
    forward_open(&f, &shape, OC_ISA_BEST);
    float *x = forward_numbers(95, input_count(&shape), 1.0f);
    const size_t before = oc_memory_count();
    forward_run(&f, x, shape.batch, false, &r);
    assert_int_equal(oc_memory_count(), before);
    forward_free(&r);
    forward_close(&f);
    free(x);
}

/* Bounds, wishes that cannot be met, windows before the first row. */
static void refusals(void **state)
{
    static const forward_shape shape = {1, 3, 2, 8, 1, 1};
    forward_case f;
    oc_backend *b;
    (void)state;
    const oc_backend_config cuda = {.kind = OC_BACKEND_CUDA};
    setenv("OUTCRY_CUDA_MODULE", "/no/such/module.so", 1);
    assert_int_equal(oc_backend_open(&b, &cuda), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "backend cuda: the CUDA module cannot be loaded: /no/such/module.so"));
    assert_null(b);
    const oc_backend_config any = {.kind = OC_BACKEND_AUTO};
    setenv("OUTCRY_ISA", "neon", 1);
    assert_int_equal(oc_backend_open(&b, &any), OC_ECONFIG);
    setenv("OUTCRY_ISA", "scalar", 1);
    assert_int_equal(oc_backend_open(&b, &any), OC_OK);
    assert_int_equal(oc_backend_describe(b)->isa, OC_ISA_SCALAR);
    oc_backend_close(b);
    unsetenv("OUTCRY_ISA");
    forward_open(&f, &shape, OC_ISA_BEST);
    float data[4 * 2] = {1, 2, 3, 4, 5, 6, 7, 8}, mean[2] = {1, 2}, scale[2] = {2, 0.5f}, x[3 * 2];
    for (int64_t last = 1; last <= 4; last++) {
        int64_t index = last;
        oc_status status = f.ops->gather_scale(
            f.backend, forward_tensor(data, 4, 2, 1), oc_tensor_make(&index, OC_DTYPE_I64, 1, 1, 1, 1),
            forward_tensor(mean, 2, 1, 1), forward_tensor(scale, 2, 1, 1), 3.0f, forward_tensor(x, 3, 1, 2));
        assert_int_equal(status, last == 1 || last == 4 ? OC_EDATA : OC_OK);
    }
    const float wanted[6] = {1, 3, 2, 3, 3, 3}; /* rows 1 … 3: (3 - 1) / 2, (4 - 2) / 0.5 clipped to 3, … */
    same(x, wanted, 6);
    f.lstm.steps = OC_STEPS_MAX + 1;
    assert_int_equal(f.ops->lstm_pack(f.backend, &f.lstm, &f.weights, f.lstm_packed), OC_ELIMIT);
    forward_close(&f);
}

static void softmax_of_answers(void **state)
{
    (void)state;
    for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
        forward_case f;
        static const forward_shape shape = {1, 3, 2, 8, 1, 1};
        if (!usable(isas[j])) continue;
        forward_open(&f, &shape, isas[j]);
        float z[4 * 3] = {1, 2, 3, 4, 4, 4, -1000, 0, 1000, NAN, 0, 1}, p[12];
        const float temperature[2] = {0.5f, 2.0f};
        assert_int_equal(
            f.ops->softmax(f.backend, 2, temperature, forward_tensor(z, 2, 6, 1), forward_tensor(p, 2, 6, 1)), OC_OK);
        for (int i = 0; i < 3; i++) {
            const double t = (double)temperature[i % 2], top = (double)z[3 * i + 2] / t;
            double sum = 0;
            for (int c = 0; c < 3; c++) sum += exp((double)z[3 * i + c] / t - top);
            for (int c = 0; c < 3; c++)
                assert_true(fabs((double)p[3 * i + c] - exp((double)z[3 * i + c] / t - top) / sum) <= 1e-7);
        }
        for (int c = 9; c < 12; c++) assert_true(isnan(p[c]));
        forward_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_matches_oracle),
        cmocka_unit_test(bits_of_every_isa),
        cmocka_unit_test(bits_of_every_split),
        cmocka_unit_test(bits_of_steps),
        cmocka_unit_test(nan_stays_in_its_window),
        cmocka_unit_test(no_allocation),
        cmocka_unit_test(refusals),
        cmocka_unit_test(softmax_of_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
