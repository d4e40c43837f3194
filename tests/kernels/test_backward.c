/* Operations that only training has, one by one, against naive double precision (oracle_backward.c) over odd shapes;
 * the same bits on every instruction set; dropout's statistics; sums and the optimiser; NaN in, NaN out.
 * Method: normalised error (largest difference over largest value). Harness: the corrupt row of each table must
 * fail. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/random.h"
#include "kernels/oracle_backward.h"

static const oc_isa isas[] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512};
enum { ISAS = 3, POOL_MAX = 512 };
static oc_backend *backends[ISAS];
static void *pool[POOL_MAX];
static int pool_count;

static oc_tensor take(int64_t d0, int64_t d1, int64_t d2)
{
    const oc_tensor t = oc_tensor_make(calloc((size_t)(d0 * d1 * d2) + 16, sizeof(float)), OC_DTYPE_F32, d0, d1, d2, 1);
    assert_non_null(t.data);
    assert_true(pool_count < POOL_MAX);
    pool[pool_count++] = t.data;
    return t;
}

static oc_tensor random_tensor(uint64_t seed, double size, int64_t d0, int64_t d1, int64_t d2)
{
    const oc_tensor t = take(d0, d1, d2);
    const uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 7, 0);
    float *x = t.data;
    for (int64_t i = 0; i < d0 * d1 * d2; i++) x[i] = (float)(size * (2 * oc_random_uniform(key, (uint64_t)i) - 1));
    return t;
}

static oc_tensor copy_of(oc_tensor from)
{
    const oc_tensor t = take(from.dims[0], from.dims[1], from.dims[2]);
    memcpy(t.data, from.data, (size_t)oc_tensor_count(from) * sizeof(float));
    return t;
}

static oc_tensor bytes_of(size_t bytes)
{
    oc_tensor t = take((int64_t)(bytes / sizeof(float)) + 1, 1, 1);
    return oc_tensor_make(t.data, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1);
}

static double *wide(oc_tensor t)
{
    return oracle_widen(t.data, (size_t)oc_tensor_count(t));
}

static int release(void **state)
{
    (void)state;
    while (pool_count > 0) free(pool[--pool_count]);
    oracle_release();
    return 0;
}

static int open_backends(void **state)
{
    (void)state;
    for (int i = 0; i < ISAS; i++) {
        const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isas[i]};
        if (!oc_isa_available(isas[i]))
            printf("skipped: %s is not there\n", oc_isa_name(isas[i]));
        else if (oc_backend_open(&backends[i], &config) != OC_OK)
            return -1;
    }
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    for (int i = 0; i < ISAS; i++) oc_backend_close(backends[i]);
    return 0;
}

static double worse(double worst, double error)
{
    return !(error <= worst) ? error : worst;
}

/* ---------------------------------------------------------------- LSTM */
typedef struct lstm_case {
    oc_lstm_shape shape;
    float dropout;
    double error_max;
    bool corrupt_one;
} lstm_case;

/* measured: 2.6e-6 */
static const lstm_case lstm_cases[] = {
    {{1, 1, 1, 1, 1}, 0, 8e-6, false},      {{1, 3, 2, 1, 5}, 0, 8e-6, false},
    {{2, 7, 9, 13, 17}, 0.3f, 8e-6, false}, {{3, 5, 12, 40, 33}, 0.5f, 8e-6, false},
    {{2, 33, 5, 3, 64}, 0.2f, 8e-6, false}, {{1, 2, 3, 65, 130}, 0, 8e-6, false},
    {{2, 1, 40, 6, 16}, 0, 8e-6, false},    {{8, 2, 3, 2, 4}, 0.1f, 8e-6, false},
    {{2, 4, 6, 5, 16}, 0, 8e-6, true},
};

typedef struct lstm_run {
    oc_lstm_weights dw;
    oc_tensor dy;
} lstm_run;

static oc_lstm_weights lstm_tensors(const oc_lstm_shape *s, uint64_t seed, double size)
{
    oc_lstm_weights w = {0};
    for (int l = 0; l < s->layers; l++) {
        w.w_ih[l] = random_tensor(seed + 10 * (uint64_t)l, size, 4 * s->hidden, l ? s->hidden : s->inputs, 1);
        w.w_hh[l] = random_tensor(seed + 10 * (uint64_t)l + 1, size, 4 * s->hidden, s->hidden, 1);
        w.b_ih[l] = random_tensor(seed + 10 * (uint64_t)l + 2, size, 4 * s->hidden, 1, 1);
        w.b_hh[l] = random_tensor(seed + 10 * (uint64_t)l + 3, size, 4 * s->hidden, 1, 1);
    }
    return w;
}

static lstm_run lstm_backward(oc_backend *b, const lstm_case *c, const oc_lstm_weights *w, oc_tensor x, oc_tensor dy)
{
    const oc_lstm_shape *s = &c->shape;
    const oc_ops *ops = oc_backend_ops(b);
    const oc_dropout d = {c->dropout, 3, 9, 100, 4, NULL}, *drop = c->dropout > 0 ? &d : NULL;
    const oc_tensor packed = bytes_of(ops->lstm_packed_bytes(b, s)),
                    reserve = bytes_of(ops->lstm_reserve_bytes(b, s, true));
    const oc_tensor y = take(s->steps, s->batch, s->hidden);
    const lstm_run run = {lstm_tensors(s, 900, 1), copy_of(dy)}; /* gradients begin as garbage: they overwrite */
    assert_int_equal(ops->lstm_pack(b, s, w, packed), OC_OK);
    assert_int_equal(ops->lstm_forward(b, s, packed, x, drop, true, y, reserve), OC_OK);
    assert_int_equal(ops->lstm_backward(b, s, packed, x, y, run.dy, drop, reserve, &run.dw), OC_OK);
    return run;
}

static double lstm_error(const lstm_case *c, const oc_lstm_weights *w, oc_tensor x, oc_tensor dy, const lstm_run *run)
{
    const oc_lstm_shape *s = &c->shape;
    oracle_lstm ow = {0}, odw = {0};
    oracle_lstm_trace trace;
    double *factor[OC_LAYERS_MAX] = {0}, worst = 0;
    for (int l = 0; l < s->layers; l++) {
        const oc_tensor from[4] = {w->w_ih[l], w->w_hh[l], w->b_ih[l], w->b_hh[l]};
        double **const to[4] = {&ow.w_ih[l], &ow.w_hh[l], &ow.b_ih[l], &ow.b_hh[l]};
        double **const gradient[4] = {&odw.w_ih[l], &odw.w_hh[l], &odw.b_ih[l], &odw.b_hh[l]};
        for (int i = 0; i < 4; i++) {
            *to[i] = wide(from[i]);
            *gradient[i] = oracle_take((size_t)oc_tensor_count(from[i]));
        }
        const oc_dropout d = {c->dropout, 3, 9, 100, 4 + (uint32_t)l, NULL};
        if (!(c->dropout > 0)) continue;
        factor[l] = oracle_take((size_t)(s->steps * s->batch * s->hidden));
        for (int i = 0; i < s->steps * s->batch; i++)
            for (int j = 0; j < s->hidden; j++)
                factor[l][i * s->hidden + j] = oracle_dropout_factor(&d, i % s->batch, i / s->batch, s->hidden, j);
    }
    oracle_lstm_forward(s, &ow, wide(x), factor, &trace);
    oracle_lstm_backward(s, &ow, &trace, factor, wide(dy), &odw, NULL);
    for (int l = 0; l < s->layers; l++) {
        const oc_tensor got[4] = {run->dw.w_ih[l], run->dw.w_hh[l], run->dw.b_ih[l], run->dw.b_hh[l]};
        double *const expected[4] = {odw.w_ih[l], odw.w_hh[l], odw.b_ih[l], odw.b_hh[l]};
        for (int i = 0; i < 4; i++)
            worst = worse(worst, oracle_error(got[i].data, expected[i], (size_t)oc_tensor_count(got[i])));
    }
    return worst;
}

static void same_tensor(oc_tensor a, oc_tensor b)
{
    assert_memory_equal(a.data, b.data, (size_t)oc_tensor_count(a) * sizeof(float));
}

static void lstm(void **state)
{
    double most = 0;
    for (size_t i = 0; i < sizeof lstm_cases / sizeof *lstm_cases; i++) {
        const lstm_case *c = &lstm_cases[i];
        const oc_lstm_shape *s = &c->shape;
        const oc_lstm_weights w = lstm_tensors(s, 1, 3 / sqrt((double)s->hidden));
        const oc_tensor x = random_tensor(2, 1, s->steps, s->batch, s->inputs),
                        dy = random_tensor(3, 1, s->steps, s->batch, s->hidden);
        lstm_run first = lstm_backward(backends[0], c, &w, x, dy);
        for (int n = 1; n < ISAS; n++) {
            if (!backends[n]) continue;
            const lstm_run other = lstm_backward(backends[n], c, &w, x, dy);
            for (int l = 0; l < s->layers; l++) {
                same_tensor(first.dw.w_ih[l], other.dw.w_ih[l]);
                same_tensor(first.dw.w_hh[l], other.dw.w_hh[l]);
                same_tensor(first.dw.b_ih[l], other.dw.b_ih[l]);
                same_tensor(first.dw.b_hh[l], other.dw.b_hh[l]);
            }
        }
        if (c->corrupt_one) ((float *)first.dw.w_hh[0].data)[0] += 1e-2f;
        const double error = lstm_error(c, &w, x, dy, &first);
        assert_int_equal(error <= c->error_max, !c->corrupt_one);
        if (!c->corrupt_one) most = worse(most, error);
        release(state);
    }
    printf("worst %.2e\n", most);
}

/* ---------------------------------------------------------------- attention */
typedef struct attend_case {
    oc_attention_shape shape;
    double error_max;
    bool corrupt_one;
} attend_case;

/* measured: 7.9e-7 */
static const attend_case attend_cases[] = {
    {{1, 1, 8, 1}, 4e-6, false},    {{3, 17, 12, 3}, 4e-6, false}, {{65, 5, 100, 4}, 4e-6, false},
    {{2, 100, 64, 4}, 4e-6, false}, {{5, 33, 35, 7}, 4e-6, false}, {{4, 9, 16, 16}, 4e-6, false},
    {{2, 7, 16, 2}, 4e-6, true},
};

typedef struct attend_run {
    oc_attention_weights dw;
    oc_tensor dh;
} attend_run;

static oc_attention_weights attention_tensors(int hidden, uint64_t seed, double size)
{
    return (oc_attention_weights){
        random_tensor(seed, size, 3 * hidden, hidden, 1), random_tensor(seed + 1, size, 3 * hidden, 1, 1),
        random_tensor(seed + 2, size, hidden, hidden, 1), random_tensor(seed + 3, size, hidden, 1, 1)};
}

static attend_run attend_backward(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                                  oc_tensor h, oc_tensor dy)
{
    const oc_ops *ops = oc_backend_ops(b);
    const oc_tensor packed = bytes_of(ops->attend_packed_bytes(b, s)),
                    reserve = bytes_of(ops->attend_reserve_bytes(b, s));
    const oc_tensor y = take(s->batch, s->hidden, 1), map = take(s->batch, s->heads, s->steps);
    const attend_run run = {attention_tensors(s->hidden, 900, 1), random_tensor(950, 1, s->steps, s->batch, s->hidden)};
    assert_int_equal(ops->attend_pack(b, s, w, packed), OC_OK);
    assert_int_equal(ops->attend_forward(b, s, packed, h, y, map, reserve), OC_OK);
    assert_int_equal(ops->attend_backward(b, s, w, h, map, reserve, copy_of(dy), &run.dw, run.dh), OC_OK);
    return run;
}

static double attend_error(const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor h, oc_tensor dy,
                           const attend_run *run)
{
    const oracle_attention ow = {wide(w->in_w), wide(w->in_b), wide(w->out_w), wide(w->out_b)};
    const size_t H = (size_t)s->hidden, states = (size_t)(s->steps * s->batch) * H;
    const oracle_attention odw = {oracle_take(3 * H * H), oracle_take(3 * H), oracle_take(H * H), oracle_take(H)};
    oracle_attention_trace trace;
    double *dh = oracle_take(states), *wide_h = wide(h), worst = 0;
    oracle_attend_forward(s, &ow, wide_h, &trace);
    oracle_attend_backward(s, &ow, wide_h, &trace, wide(dy), &odw, dh);
    worst = worse(worst, oracle_error(run->dw.in_w.data, odw.in_w, 3 * H * H));
    worst = worse(worst, oracle_error(run->dw.in_b.data, odw.in_b, 3 * H));
    worst = worse(worst, oracle_error(run->dw.out_w.data, odw.out_w, H * H));
    worst = worse(worst, oracle_error(run->dw.out_b.data, odw.out_b, H));
    return worse(worst, oracle_error(run->dh.data, dh, states));
}

static void attention(void **state)
{
    double most = 0;
    for (size_t i = 0; i < sizeof attend_cases / sizeof *attend_cases; i++) {
        const attend_case *c = &attend_cases[i];
        const oc_attention_shape *s = &c->shape;
        const oc_attention_weights w = attention_tensors(s->hidden, 1, 3 / sqrt((double)s->hidden));
        const oc_tensor h = random_tensor(5, 1, s->steps, s->batch, s->hidden),
                        dy = random_tensor(6, 1, s->batch, s->hidden, 1);
        attend_run first = attend_backward(backends[0], s, &w, h, dy);
        for (int n = 1; n < ISAS; n++) {
            if (!backends[n]) continue;
            const attend_run other = attend_backward(backends[n], s, &w, h, dy);
            same_tensor(first.dw.in_w, other.dw.in_w);
            same_tensor(first.dw.in_b, other.dw.in_b);
            same_tensor(first.dw.out_w, other.dw.out_w);
            same_tensor(first.dh, other.dh);
        }
        if (c->corrupt_one) ((float *)first.dh.data)[3] += 1e-2f;
        const double error = attend_error(s, &w, h, dy, &first);
        assert_int_equal(error <= c->error_max, !c->corrupt_one);
        if (!c->corrupt_one) most = worse(most, error);
        release(state);
    }
    printf("worst %.2e\n", most);
}

/* ---------------------------------------------------------------- linear */
static void linear(void **state)
{
    static const struct {
        int rows, inputs, outputs;
        bool relu;
    } shapes[] = {{1, 1, 1, false}, {7, 33, 5, true}, {64, 64, 32, true}, {3, 2, 70, false}, {130, 9, 3, false}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int rows = shapes[i].rows, inputs = shapes[i].inputs, outputs = shapes[i].outputs;
        const oc_tensor x = random_tensor(1, 1, rows, inputs, 1), w = random_tensor(2, 1, outputs, inputs, 1),
                        y = random_tensor(3, 1, rows, outputs, 1);
        const oc_tensor dy = random_tensor(4, 1, rows, outputs, 1);
        double *dx = oracle_take((size_t)(rows * inputs)), *dw = oracle_take((size_t)(outputs * inputs)),
               *db = oracle_take((size_t)outputs);
        oc_tensor first[3] = {0};
        oracle_linear_backward(rows, inputs, outputs, wide(x), wide(w), wide(y), shapes[i].relu, wide(dy), dx, dw, db);
        for (int n = 0; n < ISAS; n++) {
            if (!backends[n]) continue;
            const oc_tensor got[3] = {take(rows, inputs, 1), take(outputs, inputs, 1), take(outputs, 1, 1)};
            const oc_ops *ops = oc_backend_ops(backends[n]);
            assert_int_equal(
                ops->linear_backward(backends[n], x, w, y, shapes[i].relu, copy_of(dy), got[0], got[1], got[2]), OC_OK);
            assert_true(oracle_error(got[0].data, dx, (size_t)(rows * inputs)) <= 2e-6); /* measured: 4e-7 */
            assert_true(oracle_error(got[1].data, dw, (size_t)(outputs * inputs)) <= 2e-6);
            assert_true(oracle_error(got[2].data, db, (size_t)outputs) <= 2e-6);
            for (int k = 0; k < 3; k++) {
                if (n == 0)
                    first[k] = got[k];
                else
                    same_tensor(first[k], got[k]);
            }
        }
        release(state);
    }
}

/* ---------------------------------------------------------------- dropout */
static void dropout_definition(void **state)
{
    static const struct {
        int64_t times, batch, columns;
        float p;
    } shapes[] = {{1, 3, 5, 0.5f}, {7, 2, 64, 0.2f}, {3, 4, 130, 0.9f}, {2, 2, 63, 0.001f}, {1, 9, 4, 0.25f}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t T = shapes[i].times, B = shapes[i].batch, N = shapes[i].columns;
        const oc_dropout d = {shapes[i].p, 77, 123456, 1ull << 33, 5, NULL};
        for (int n = 0; n < ISAS; n++) {
            if (!backends[n]) continue;
            const oc_tensor x = random_tensor(8, 1, T > 1 ? T : B, T > 1 ? B : N, T > 1 ? N : 1), y = copy_of(x);
            const float *before = x.data, *after = y.data, factor = (float)(1 / (1 - (double)d.p));
            assert_int_equal(oc_backend_ops(backends[n])->dropout(backends[n], &d, y), OC_OK);
            for (int64_t e = 0; e < T * B * N; e++) {
                const bool kept = oracle_dropout_factor(&d, e / N % B, e / N / B, N, e % N) > 0;
                assert_true(after[e] == before[e] * (kept ? factor : 0.0f));
            }
        }
    }
}

/* 200,000 numbers: the share kept within 4.5 standard deviations, no link between neighbours, steps, tensors or
 * samples. */
static void dropout_statistics(void **state)
{
    static const float shares[] = {0.1f, 0.2f, 0.5f, 0.9f};
    enum { ROWS = 500, COLUMNS = 400, COUNT = ROWS * COLUMNS };
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const double p = (double)shares[i], sigma = sqrt(p * (1 - p) / COUNT);
        float *mask[4];
        for (int k = 0; k < 4; k++) {
            const oc_dropout d = {shares[i], 1, k == 1 ? 2 : 1, k == 3 ? ROWS : 0, k == 2 ? 1 : 0, NULL};
            const oc_tensor x = take(ROWS, COLUMNS, 1);
            oc_backend *b = backends[ISAS - 1] ? backends[ISAS - 1] : backends[0];
            assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, x), OC_OK);
            assert_int_equal(oc_backend_ops(b)->dropout(b, &d, x), OC_OK);
            mask[k] = x.data;
        }
        double kept = 0, next = 0, other[4] = {0};
        for (int e = 0; e < COUNT; e++) {
            const double here = mask[0][e] > 0;
            kept += here;
            next += here * (mask[0][(e + 1) % COUNT] > 0);
            for (int k = 1; k < 4; k++) other[k] += here * (mask[k][e] > 0);
        }
        const double both = (1 - p) * (1 - p), spread = 4.5 * sqrt(both * (1 - both) / COUNT) + 2e-5;
        assert_true(fabs(kept / COUNT - (1 - p)) <= 4.5 * sigma + 2e-5); /* 2^-16: the draws' own step */
        assert_true(fabs(next / COUNT - both) <= spread);
        for (int k = 1; k < 4; k++) assert_true(fabs(other[k] / COUNT - both) <= spread);
    }
}

/* ---------------------------------------------------------------- loss, sums, optimiser */
static void loss(void **state)
{
    static const float smoothings[] = {0, 0.1f, 1};
    (void)state;
    for (int i = 0; i < 3; i++) {
        enum { BATCH = 50, HORIZONS = 3 };
        const oc_loss_rule rule = {{0.3f, 2, 1}, smoothings[i], HORIZONS};
        const oc_tensor logits = random_tensor(9, 8, BATCH, HORIZONS * OC_CLASSES, 1),
                        d = take(BATCH, HORIZONS * OC_CLASSES, 1);
        int32_t target[BATCH * HORIZONS];
        double sum = 1, weight = 2, expected_sum = 1, expected_weight = 2,
               *gradient = oracle_take(BATCH * HORIZONS * OC_CLASSES);
        for (int k = 0; k < BATCH * HORIZONS; k++) target[k] = k % 4 - 1;
        const oc_tensor t = oc_tensor_make(target, OC_DTYPE_I32, BATCH, HORIZONS, 1, 1);
        oracle_softmax_loss(&rule, BATCH, wide(logits), target, &expected_sum, &expected_weight, gradient);
        const oc_ops *ops = oc_backend_ops(backends[0]);
        assert_int_equal(ops->softmax_loss(backends[0], &rule, logits, t, &sum, &weight, d), OC_OK);
        assert_true(fabs(sum - expected_sum) <= 1e-12 * expected_sum);
        assert_true(fabs(weight - expected_weight) <= 1e-12 * expected_weight);
        assert_true(oracle_error(d.data, gradient, BATCH * HORIZONS * OC_CLASSES) <= 1e-7); /* one rounding: 6e-8 */
        ((float *)logits.data)[4] = NAN;
        assert_int_equal(ops->softmax_loss(backends[0], &rule, logits, t, &sum, &weight, d), OC_OK);
        assert_true(isnan(sum) && isnan(((float *)d.data)[3]) && isnan(((float *)d.data)[5]) &&
                    !isnan(((float *)d.data)[6]));
        ((float *)logits.data)[4] = INFINITY;
        sum = 0;
        assert_int_equal(ops->softmax_loss(backends[0], &rule, logits, t, &sum, &weight, d), OC_OK);
        assert_true(isnan(sum));
    }
}

static void sums(void **state)
{
    const oc_ops *ops = oc_backend_ops(backends[0]);
    (void)state;
    for (int64_t rows = 1; rows <= 64; rows *= 2) {
        enum { WIDTH = 517 };
        const oc_tensor x = random_tensor((uint64_t)rows, 1, rows, WIDTH, 1), sum = take(WIDTH, 1, 1),
                        level = copy_of(x);
        float *part = level.data;
        assert_int_equal(ops->tree_sum(backends[0], x, sum), OC_OK);
        for (int64_t width = rows / 2, stride = 1; width >= 1;
             width /= 2, stride *= 2) /* neighbours first, level by level */
            for (int64_t r = 0; r < rows; r += 2 * stride)
                for (int k = 0; k < WIDTH; k++) part[r * WIDTH + k] += part[(r + stride) * WIDTH + k];
        assert_memory_equal(sum.data, part, WIDTH * sizeof(float));
        oc_tensor later = x;
        const oc_tensor some = take(101, 1, 1);
        later.data = (float *)x.data + 300;
        assert_int_equal(ops->tree_sum(backends[0], later, some), OC_OK); /* of some columns alone */
        assert_memory_equal(some.data, part + 300, 101 * sizeof(float));
    }
    assert_int_equal(ops->tree_sum(backends[0], take(3, 5, 1), take(5, 1, 1)), OC_ELIMIT);
    for (int64_t count = 1; count < 3000; count = count * 2 + 1) {
        const oc_tensor x = random_tensor(4, 100, count, 1, 1);
        double sum = 0, expected = 0;
        for (int64_t k = 0; k < count; k++) expected += (double)((float *)x.data)[k] * (double)((float *)x.data)[k];
        assert_int_equal(ops->square_sum(backends[0], x, &sum), OC_OK);
        assert_true(fabs(sum - expected) <= 1e-13 * expected);
        ((float *)x.data)[count - 1] = NAN;
        assert_int_equal(ops->square_sum(backends[0], x, &sum), OC_OK);
        assert_true(isnan(sum));
    }
}

static void optimiser(void **state)
{
    enum { COUNT = 37, STEPS = 50 };
    const oc_ops *ops = oc_backend_ops(backends[0]);
    const oc_tensor p = random_tensor(1, 1, COUNT, 1, 1), m = take(COUNT, 1, 1), v = take(COUNT, 1, 1),
                    average = copy_of(p);
    double *wp = wide(p), *wm = wide(m), *wv = wide(v), *wa = wide(average);
    (void)state;
    for (int step = 1; step <= STEPS; step++) {
        const oc_adamw_rule rule = {0.01f, 0.9f, 0.99f, 1e-6f, 0.1f, 0.5f, step};
        const oc_tensor g = random_tensor((uint64_t)step, 2, COUNT, 1, 1);
        assert_int_equal(ops->adamw(backends[0], &rule, p, g, m, v), OC_OK);
        assert_int_equal(ops->blend(backends[0], 0.95f, p, average), OC_OK);
        for (int k = 0; k < COUNT; k++) { /* [Loshchilov19 alg.2], f64 */
            const double d = (double)((float *)g.data)[k] * 0.5, b1 = (double)rule.beta1, b2 = (double)rule.beta2;
            wm[k] = b1 * wm[k] + (1 - b1) * d;
            wv[k] = b2 * wv[k] + (1 - b2) * d * d;
            wp[k] -= (double)rule.rate * (double)rule.weight_decay * wp[k];
            wp[k] -= (double)rule.rate * (wm[k] / (1 - pow(b1, step))) /
                     (sqrt(wv[k] / (1 - pow(b2, step))) + (double)rule.epsilon);
            wa[k] = (double)0.95f * wa[k] + (1 - (double)0.95f) * wp[k];
        }
    }
    assert_true(oracle_error(p.data, wp, COUNT) <= 2e-6); /* measured: 4e-7 after 50 steps */
    assert_true(oracle_error(average.data, wa, COUNT) <= 2e-6);
    ((float *)p.data)[0] += 1e-4f; /* the injected fault */
    assert_false(oracle_error(p.data, wp, COUNT) <= 2e-6);
}

static void nan_spreads(void **state)
{
    const oc_lstm_shape s = {2, 3, 4, 5, 9};
    const lstm_case c = {s, 0.3f, 0, false};
    const oc_lstm_weights w = lstm_tensors(&s, 1, 1);
    const oc_tensor x = random_tensor(2, 1, s.steps, s.batch, s.inputs),
                    dy = random_tensor(3, 1, s.steps, s.batch, s.hidden);
    (void)state;
    ((float *)dy.data)[0] = NAN;
    for (int n = 0; n < ISAS; n++) {
        if (!backends[n]) continue;
        const lstm_run run = lstm_backward(backends[n], &c, &w, x, dy);
        for (int l = 0; l < s.layers; l++) {
            assert_true(isnan(((float *)run.dw.w_ih[l].data)[0]));
            assert_true(isnan(((float *)run.dw.b_ih[l].data)[0]));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(lstm, release),
        cmocka_unit_test_teardown(attention, release),
        cmocka_unit_test_teardown(linear, release),
        cmocka_unit_test_teardown(dropout_definition, release),
        cmocka_unit_test_teardown(dropout_statistics, release),
        cmocka_unit_test_teardown(loss, release),
        cmocka_unit_test_teardown(sums, release),
        cmocka_unit_test_teardown(optimiser, release),
        cmocka_unit_test_teardown(nan_spreads, release),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
