/* Operations of kernels/cuda that are not the recurrence or the attention, against naive double precision and against
 * the bits of the CPU backend: linear layers, gather and scale, loss, softmax, sums, optimiser. Also the backend
 * itself: memory, faults that kernels find, a device that is too small or fails in mid-run; and the covering set of
 * shapes. In emulation, every case runs in several orders of threads and must give the same bits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/oracle_backward.h"
#include "kernels_cuda/covering.h"
#include "kernels_cuda/device_case.h"

enum { ARENA = 64 << 20, SEEDS = 3 };
static oc_backend *cpu;

static oc_tensor host_tensor(void *data, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    return oc_tensor_make(data, dtype, d0, d1, d2, 1);
}

static void seed(int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    (void)setenv("OUTCRY_EMULATION_SEED", text, 1);
}

static int release(void **state)
{
    (void)state;
    device_release();
    oracle_release();
    return 0;
}

static oc_backend *open_some(void)
{
    oc_backend *b = device_open(ARENA, OC_MATH_F32);
    assert_non_null(b);
    return b;
}

/* ---------------------------------------------------------------- linear */
static const struct linear_case {
    int rows, inputs, outputs;
    bool relu, corrupt_one;
} linear_cases[] = {{1, 1, 1, false, false},   {3, 5, 7, true, false},    {65, 100, 130, false, false},
                    {16, 64, 32, true, false}, {130, 40, 3, true, false}, {2, 200, 65, true, false},
                    {33, 17, 9, false, true}};

typedef struct linear_run {
    float *y, *dx, *dw, *db;
} linear_run;

static linear_run linear_on(oc_backend *b, const struct linear_case *c)
{
    const oc_ops *ops = oc_backend_ops(b);
    const int64_t rows = c->rows, in = c->inputs, out = c->outputs;
    const oc_tensor x = device_put(b, host_numbers(1, 1, rows * in), OC_DTYPE_F32, rows, in, 1);
    const oc_tensor w = device_put(b, host_numbers(2, 1, out * in), OC_DTYPE_F32, out, in, 1);
    const oc_tensor bias = device_put(b, host_numbers(3, 1, out), OC_DTYPE_F32, out, 1, 1);
    const oc_tensor dy = device_put(b, host_numbers(4, 1, rows * out), OC_DTYPE_F32, rows, out, 1);
    const oc_tensor y = device_take(b, OC_DTYPE_F32, rows, out, 1), dx = device_take(b, OC_DTYPE_F32, rows, in, 1);
    const oc_tensor dw = device_take(b, OC_DTYPE_F32, out, in, 1), db = device_take(b, OC_DTYPE_F32, out, 1, 1);
    const oc_tensor packed = device_bytes(b, ops->linear_packed_bytes(b, c->outputs, c->inputs));
    assert_int_equal(ops->linear_pack(b, w, packed), OC_OK);
    assert_int_equal(ops->linear_forward(b, x, packed, bias, c->relu, y), OC_OK);
    linear_run run = {.y = device_get(b, y)};
    assert_int_equal(ops->linear_backward(b, x, w, y, c->relu, dy, dx, dw, db), OC_OK);
    run.dx = device_get(b, dx);
    run.dw = device_get(b, dw);
    run.db = device_get(b, db);
    return run;
}

static double linear_error(const struct linear_case *c, const linear_run *run)
{
    const size_t rows = (size_t)c->rows, in = (size_t)c->inputs, out = (size_t)c->outputs;
    const double *x = oracle_widen(host_numbers(1, 1, (int64_t)(rows * in)), rows * in);
    const double *w = oracle_widen(host_numbers(2, 1, (int64_t)(out * in)), out * in);
    const double *bias = oracle_widen(host_numbers(3, 1, (int64_t)out), out);
    const double *dy = oracle_widen(host_numbers(4, 1, (int64_t)(rows * out)), rows * out);
    double *y = oracle_take(rows * out), *dx = oracle_take(rows * in), *dw = oracle_take(out * in),
           *db = oracle_take(out), worst = 0;
    oracle_linear_forward(c->rows, c->inputs, c->outputs, x, w, bias, c->relu, y);
    oracle_linear_backward(c->rows, c->inputs, c->outputs, x, w, y, c->relu, dy, dx, dw, db);
    worst = worse(worst, oracle_error(run->y, y, rows * out));
    worst = worse(worst, oracle_error(run->dx, dx, rows * in));
    worst = worse(worst, oracle_error(run->dw, dw, out * in));
    return worse(worst, oracle_error(run->db, db, out));
}

/* measured in emulation: 2.7e-7 */
static void linear(void **state)
{
    double most = 0;
    (void)state;
    for (size_t i = 0; i < sizeof linear_cases / sizeof *linear_cases; i++) {
        const struct linear_case *c = &linear_cases[i];
        linear_run first = {0};
        for (int n = 1; n <= SEEDS; n++) {
            seed(n);
            oc_backend *b = open_some();
            const linear_run run = linear_on(b, c);
            if (n == 1) first = run;
            const size_t rows = (size_t)c->rows, in = (size_t)c->inputs, out = (size_t)c->outputs;
            assert_memory_equal(run.y, first.y, rows * out * sizeof(float));
            assert_memory_equal(run.dx, first.dx, rows * in * sizeof(float));
            assert_memory_equal(run.dw, first.dw, in * out * sizeof(float));
            assert_memory_equal(run.db, first.db, out * sizeof(float));
            oc_backend_close(b);
        }
        if (c->corrupt_one) first.dw[3] += 1e-2f;
        const double error = linear_error(c, &first);
        assert_int_equal(error <= 1e-6, !c->corrupt_one);
        if (!c->corrupt_one) most = worse(most, error);
        release(NULL);
    }
    printf("worst %.2e\n", most);
}

/* ---------------------------------------------------------------- gather and scale */
static void gather(void **state)
{
    enum { ROWS = 30, STEPS = 7, BATCH = 5, INPUTS = 9 };
    const oc_ops *ops = oc_backend_ops(cpu);
    static const int64_t last[BATCH] = {6, 29, 6, 11, 20};
    float *rows = host_numbers(1, 3, ROWS * INPUTS), *mean = host_numbers(2, 1, INPUTS), *scale = host_take(4 * INPUTS);
    float *wanted = host_take(4 * STEPS * BATCH * INPUTS);
    (void)state;
    rows[11 * INPUTS + 2] = NAN; /* of window 3, and of 4 */
    for (int i = 0; i < INPUTS; i++) scale[i] = 0.5f + 0.1f * (float)i;
    for (int clip = 0; clip <= 2; clip++) {
        int64_t index[BATCH];
        memcpy(index, last, sizeof index);
        assert_int_equal(ops->gather_scale(cpu, host_tensor(rows, OC_DTYPE_F32, ROWS, INPUTS, 1),
                                           host_tensor(index, OC_DTYPE_I64, BATCH, 1, 1),
                                           host_tensor(mean, OC_DTYPE_F32, INPUTS, 1, 1),
                                           host_tensor(scale, OC_DTYPE_F32, INPUTS, 1, 1), (float)clip,
                                           host_tensor(wanted, OC_DTYPE_F32, STEPS, BATCH, INPUTS)),
                         OC_OK);
        oc_backend *b = open_some();
        const oc_tensor r = device_put(b, rows, OC_DTYPE_F32, ROWS, INPUTS, 1);
        const oc_tensor m = device_put(b, mean, OC_DTYPE_F32, INPUTS, 1, 1),
                        s = device_put(b, scale, OC_DTYPE_F32, INPUTS, 1, 1);
        const oc_tensor at = device_put(b, index, OC_DTYPE_I64, BATCH, 1, 1),
                        x = device_take(b, OC_DTYPE_F32, STEPS, BATCH, INPUTS);
        assert_int_equal(oc_backend_ops(b)->gather_scale(b, r, at, m, s, (float)clip, x), OC_OK);
        assert_memory_equal(device_get(b, x), wanted, 4 * STEPS * BATCH * INPUTS);
        index[2] = 5; /* begins before the first row */
        index[4] = 30;
        assert_int_equal(oc_backend_upload(b, at, index, sizeof index), OC_OK);
        assert_int_equal(oc_backend_ops(b)->gather_scale(b, r, at, m, s, (float)clip, x), OC_OK);
        assert_int_equal(oc_backend_wait(b), OC_EDATA);
        assert_string_equal(oc_status_message(), "gather_scale: window 2 does not lie in the rows");
        assert_int_equal(oc_backend_wait(b), OC_OK); /* said once */
        oc_backend_close(b);
    }
}

/* ---------------------------------------------------------------- loss */
static void loss(void **state)
{
    enum { BATCH = 300, HORIZONS = 2, COUNT = BATCH * HORIZONS };
    const oc_loss_rule rule = {{1.0f, 2.5f, 0.25f}, 0.1f, HORIZONS};
    float *z = host_numbers(5, 20, 3 * COUNT);
    int32_t *target = host_take(sizeof *target * COUNT);
    double expected[2] = {10, 20}, *d = oracle_take(3 * COUNT), sums[2] = {10, 20};
    (void)state;
    for (int i = 0; i < COUNT; i++) target[i] = i % 4 - 1;
    oracle_softmax_loss(&rule, BATCH, oracle_widen(z, 3 * COUNT), target, &expected[0], &expected[1], d);
    oc_backend *b = open_some();
    const oc_tensor logits = device_put(b, z, OC_DTYPE_F32, BATCH, 3 * HORIZONS, 1);
    const oc_tensor t = device_put(b, target, OC_DTYPE_I32, BATCH, HORIZONS, 1);
    const oc_tensor sum = device_put(b, sums, OC_DTYPE_F64, 2, 1, 1),
                    g = device_take(b, OC_DTYPE_F32, BATCH, 3 * HORIZONS, 1);
    double *at = sum.data;
    assert_int_equal(oc_backend_ops(b)->softmax_loss(b, &rule, logits, t, at, at + 1, g), OC_OK);
    float *got = device_get(b, g);
    const double *got_sums = device_get(b, sum);
    assert_true(oracle_error(got, d, 3 * COUNT) <= 3e-7); /* measured in emulation: 4e-8 */
    for (int i = 0; i < 2; i++) assert_true(fabs(got_sums[i] - expected[i]) <= 1e-12 * fabs(expected[i]));
    got[7] += 1e-3f; /* the injected fault */
    assert_false(oracle_error(got, d, 3 * COUNT) <= 3e-7);
    z[4] = NAN; /* in sample 1 of row 0 */
    target[0] = 0;
    target[1] = 1;
    target[9] = 3;
    assert_int_equal(oc_backend_upload(b, logits, z, 12 * COUNT), OC_OK);
    assert_int_equal(oc_backend_upload(b, t, target, 4 * COUNT), OC_OK);
    assert_int_equal(oc_backend_ops(b)->softmax_loss(b, &rule, logits, t, at, at + 1, g), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_EDATA);
    assert_string_equal(oc_status_message(), "softmax_loss: target 9 is not class -1, 0, 1 or 2");
    got = device_get(b, g);
    assert_true(isnan(((double *)device_get(b, sum))[0]) && isnan(got[3]) && isnan(got[5]) && !isnan(got[0]));
    oc_backend_close(b);
}

static void softmax(void **state)
{
    enum { COUNT = 77, HORIZONS = 7 };
    static const float temperature[HORIZONS] = {1, 0.5f, 2, 3, 4, 0.1f, 10};
    float *z = host_numbers(6, 50, 3 * COUNT), *wanted = host_take(12 * COUNT);
    (void)state;
    z[30] = NAN;
    assert_int_equal(oc_backend_ops(cpu)->softmax(cpu, HORIZONS, temperature,
                                                  host_tensor(z, OC_DTYPE_F32, COUNT / HORIZONS, HORIZONS, 3),
                                                  host_tensor(wanted, OC_DTYPE_F32, COUNT / HORIZONS, HORIZONS, 3)),
                     OC_OK);
    oc_backend *b = open_some();
    const oc_tensor p = device_take(b, OC_DTYPE_F32, COUNT / HORIZONS, HORIZONS, 3);
    assert_int_equal(oc_backend_ops(b)->softmax(b, HORIZONS, temperature,
                                                device_put(b, z, OC_DTYPE_F32, COUNT / HORIZONS, HORIZONS, 3), p),
                     OC_OK);
    const float *got = device_get(b, p);
    for (int i = 0; i < 3 * COUNT; i++) assert_true(got[i] == wanted[i] || (i / 3 == 10 && isnan(got[i])));
    oc_backend_close(b);
}

/* ---------------------------------------------------------------- sums and the optimiser: the CPU's bits */
static void sums(void **state)
{
    (void)state;
    for (int64_t rows = 1; rows <= 64; rows *= 2) {
        enum { WIDTH = 517 };
        float *x = host_numbers((uint64_t)rows, 1, rows * WIDTH), *wanted = host_take(4 * WIDTH);
        oc_backend *b = open_some();
        assert_int_equal(oc_backend_ops(cpu)->tree_sum(cpu, host_tensor(x, OC_DTYPE_F32, rows, WIDTH, 1),
                                                       host_tensor(wanted, OC_DTYPE_F32, WIDTH, 1, 1)),
                         OC_OK);
        const oc_tensor sum = device_take(b, OC_DTYPE_F32, WIDTH, 1, 1);
        oc_tensor in = device_put(b, x, OC_DTYPE_F32, rows, WIDTH, 1);
        const oc_tensor some = device_take(b, OC_DTYPE_F32, 101, 1, 1);
        assert_int_equal(oc_backend_ops(b)->tree_sum(b, in, sum), OC_OK);
        assert_memory_equal(device_get(b, sum), wanted, 4 * WIDTH);
        in.data = (float *)in.data + 300; /* some columns alone */
        assert_int_equal(oc_backend_ops(b)->tree_sum(b, in, some), OC_OK);
        assert_memory_equal(device_get(b, some), wanted + 300, 4 * 101);
        oc_backend_close(b);
    }
    for (int64_t count = 1; count < 200000; count = count * 7 + 1) {
        double bits = 0;
        for (int n = 1; n <= SEEDS; n++) {
            seed(n);
            oc_backend *b = open_some();
            float *x = host_numbers(4, 100, count);
            double expected = 0;
            for (int64_t k = 0; k < count; k++) expected += (double)x[k] * (double)x[k];
            const oc_tensor in = device_put(b, x, OC_DTYPE_F32, count, 1, 1),
                            sum = device_take(b, OC_DTYPE_F64, 1, 1, 1);
            assert_int_equal(oc_backend_ops(b)->square_sum(b, in, sum.data), OC_OK);
            const double got = *(double *)device_get(b, sum);
            assert_true(fabs(got - expected) <= 1e-13 * expected);
            if (n == 1) bits = got;
            assert_memory_equal(&bits, &got, sizeof got);
            x[count - 1] = NAN;
            assert_int_equal(oc_backend_upload(b, in, x, (size_t)count * sizeof *x), OC_OK);
            assert_int_equal(oc_backend_ops(b)->square_sum(b, in, sum.data), OC_OK);
            assert_true(isnan(*(double *)device_get(b, sum)));
            oc_backend_close(b);
            release(NULL);
        }
    }
}

static void optimiser(void **state)
{
    enum { COUNT = 1037, STEPS = 20 };
    float *host[4] = {host_numbers(1, 1, COUNT), host_take(4 * COUNT), host_take(4 * COUNT), host_numbers(1, 1, COUNT)};
    oc_backend *b = open_some();
    oc_tensor on[4], at[4];
    (void)state;
    for (int i = 0; i < 4; i++) {
        on[i] = device_put(b, host[i], OC_DTYPE_F32, COUNT, 1, 1);
        at[i] = host_tensor(host[i], OC_DTYPE_F32, COUNT, 1, 1);
    }
    const oc_tensor g = device_take(b, OC_DTYPE_F32, COUNT, 1, 1);
    for (int step = 1; step <= STEPS; step++) {
        const oc_adamw_rule rule = {0.01f, 0.9f, 0.99f, 1e-6f, 0.1f, 0.5f, step};
        float *gradient = host_numbers((uint64_t)step, 2, COUNT);
        assert_int_equal(oc_backend_upload(b, g, gradient, 4 * COUNT), OC_OK);
        assert_int_equal(oc_backend_ops(b)->adamw(b, &rule, on[0], g, on[1], on[2]), OC_OK);
        assert_int_equal(oc_backend_ops(b)->blend(b, 0.95f, on[0], on[3]), OC_OK);
        assert_int_equal(oc_backend_ops(cpu)->adamw(cpu, &rule, at[0], host_tensor(gradient, OC_DTYPE_F32, COUNT, 1, 1),
                                                    at[1], at[2]),
                         OC_OK);
        assert_int_equal(oc_backend_ops(cpu)->blend(cpu, 0.95f, at[0], at[3]), OC_OK);
    }
    for (int i = 0; i < 4; i++) assert_memory_equal(device_get(b, on[i]), host[i], 4 * COUNT);
    assert_int_equal(oc_backend_ops(b)->fill(b, 2.5f, on[0]), OC_OK);
    const float *filled = device_get(b, on[0]);
    for (int i = 0; i < COUNT; i++) assert_true(filled[i] == 2.5f);
    oc_backend_close(b);
}

/* ---------------------------------------------------------------- the backend */
static void backend(void **state)
{
    oc_backend *b = NULL;
    (void)state;
    const oc_backend_config whole = {.kind = OC_BACKEND_CUDA, .arena_bytes = 4096};
    if (oc_backend_open(&b, &whole) != OC_OK) /* until every row is there */
        assert_non_null(strstr(oc_status_message(), "operations, so no model runs on it yet"));
    oc_backend_close(b);
    b = device_open(4096, OC_MATH_BF16);
    assert_int_equal(oc_backend_describe(b)->kind, OC_BACKEND_CUDA);
    assert_int_equal(oc_backend_describe(b)->math, OC_MATH_BF16);
    assert_false(oc_backend_describe(b)->shares_host_memory);
    const oc_tensor x = device_put(b, "some words", OC_DTYPE_BYTES, 11, 1, 1),
                    y = device_take(b, OC_DTYPE_BYTES, 11, 1, 1);
    assert_int_equal(oc_backend_copy(b, y, x), OC_OK);
    assert_string_equal(device_get(b, y), "some words");
    oc_backend_seal(b);
    oc_tensor late = oc_tensor_make(NULL, OC_DTYPE_F32, 1, 1, 1, 1);
    assert_int_equal(oc_backend_alloc(b, &late), OC_EMEMORY);
    oc_backend_close(b);
    const oc_backend_config other = {.kind = OC_BACKEND_CUDA, .device = 77, .partial = true};
    assert_int_equal(oc_backend_open(&b, &other), OC_ECONFIG);
    const oc_backend_config large = {.kind = OC_BACKEND_CUDA, .arena_bytes = (size_t)1 << 50, .partial = true};
    assert_int_equal(oc_backend_open(&b, &large), OC_EMEMORY);
    assert_non_null(strstr(oc_status_message(), "the plan takes 1125899."));
}

/* What only the emulation can be told to do. */
static void failures(void **state)
{
    oc_backend *b = NULL;
    (void)state;
    b = device_open(4096, OC_MATH_F32);
    const bool emulated = strcmp(oc_backend_describe(b)->device, "emulation") == 0;
    if (!emulated) skip();
    const oc_tensor x = device_take(b, OC_DTYPE_F32, 10, 1, 1);
    (void)setenv("OUTCRY_EMULATION_FAIL", "fill", 1);
    assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, x), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "cudaErrorIllegalAddress"));
    assert_non_null(strstr(oc_status_message(), "the last kernel started was fill"));
    (void)unsetenv("OUTCRY_EMULATION_FAIL");
    oc_backend_close(b);
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .arena_bytes = 4096, .partial = true};
    (void)setenv("OUTCRY_EMULATION_DEVICES", "0", 1);
    assert_int_equal(oc_backend_open(&b, &config), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "backend cuda: a driver, but no usable GPU (cudaErrorNoDevice"));
    (void)unsetenv("OUTCRY_EMULATION_DEVICES");
}

static void covering(void **state)
{
    covering_set set;
    (void)state;
    covering_make(&set, covering_lstm, COVERING_LSTM_AXES, covering_lstm_work, COVERING_WORK_MAX);
    printf("%d cases, %d pairs, %d of them beyond the work of a case\n", set.count, set.pairs, set.pairs_left_out);
    assert_in_range(set.count, 24, 60);
    assert_int_equal(covering_open(&set, covering_lstm, COVERING_LSTM_AXES, covering_lstm_work, COVERING_WORK_MAX), 0);
    for (int i = 0; i < set.count; i++) assert_true(covering_lstm_work(&set.row[i]) <= COVERING_WORK_MAX);
    set.count /= 2; /* the injected fault */
    assert_int_not_equal(covering_open(&set, covering_lstm, COVERING_LSTM_AXES, covering_lstm_work, COVERING_WORK_MAX),
                         0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(linear, release),   cmocka_unit_test_teardown(gather, release),
        cmocka_unit_test_teardown(loss, release),     cmocka_unit_test_teardown(softmax, release),
        cmocka_unit_test_teardown(sums, release),     cmocka_unit_test_teardown(optimiser, release),
        cmocka_unit_test_teardown(backend, release),  cmocka_unit_test_teardown(failures, release),
        cmocka_unit_test_teardown(covering, release),
    };
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    if (oc_backend_open(&cpu, &config) != OC_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    oc_backend_close(cpu);
    return failed;
}
