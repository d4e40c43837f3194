/* Attention of the last query and dropout of kernels/cuda over a covering set of shapes (covering.h): against naive
 * double precision with keys and values built (oracle_backward.c); the CPU's bits where sums are not split; the same
 * bits in every order of threads and for any batch; NaN in, NaN out. Weights are enlarged, so that maps are far from
 * even and a kernel that ignores its input fails. */
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

enum { PARTS = 4 }; /* in_w, in_b, out_w, out_b */

typedef struct attend_run {
    float *y, *map, *dh, *dw[PARTS];
} attend_run;

static int release(void **state)
{
    (void)state;
    device_release();
    oracle_release();
    return 0;
}

static void seed(int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    (void)setenv("OUTCRY_EMULATION_SEED", text, 1);
}

static int64_t part_rows(const oc_attention_shape *s, int part)
{
    return part < 2 ? 3 * s->hidden : s->hidden;
}

static int64_t part_count(const oc_attention_shape *s, int part)
{
    return part_rows(s, part) * (part % 2 == 0 ? s->hidden : 1);
}

static float *part_numbers(const oc_attention_shape *s, int part)
{
    return host_numbers((uint64_t)(50 + part), 3 / sqrt((double)s->hidden), part_count(s, part));
}

static oc_attention_weights weights_on(oc_backend *b, const oc_attention_shape *s)
{
    oc_attention_weights w;
    oc_tensor *const all[PARTS] = {&w.in_w, &w.in_b, &w.out_w, &w.out_b};
    for (int part = 0; part < PARTS; part++)
        *all[part] =
            device_put(b, part_numbers(s, part), OC_DTYPE_F32, part_rows(s, part), part % 2 == 0 ? s->hidden : 1, 1);
    return w;
}

static size_t arena_of(const oc_attention_shape *s)
{
    const size_t rows = (size_t)s->batch, hidden = (size_t)s->hidden, heads = (size_t)s->heads,
                 steps = (size_t)s->steps;
    return 4 * (rows * hidden * (3 * steps + 8 + 4 * heads) + 4 * rows * heads * (steps + 16) + 90 * hidden * hidden +
                hidden * (steps + 16)) +
           (2 << 20);
}

/* With the map and without one, which must agree in bits; then backward. */
static attend_run run_on(oc_backend *b, const oc_attention_shape *s, const float *states)
{
    const oc_ops *ops = oc_backend_ops(b);
    const oc_attention_weights w = weights_on(b, s), dw = weights_on(b, s); /* garbage: gradients overwrite */
    const oc_tensor packed = device_bytes(b, ops->attend_packed_bytes(b, s)),
                    reserve = device_bytes(b, ops->attend_reserve_bytes(b, s));
    const oc_tensor h = device_put(b, states, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    const oc_tensor y = device_take(b, OC_DTYPE_F32, s->batch, s->hidden, 1),
                    map = device_take(b, OC_DTYPE_F32, s->batch, s->heads, s->steps);
    const oc_tensor dh = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    oc_tensor none = map;
    none.data = NULL;
    attend_run run = {0};
    assert_int_equal(ops->attend_pack(b, s, &w, packed), OC_OK);
    if (strcmp(oc_backend_describe(b)->device, "emulation") == 0) {
        assert_int_equal(ops->attend_forward(b, s, packed, h, y, none, reserve), OC_OK);
        run.y = device_get(b, y);
    }
    assert_int_equal(ops->attend_forward(b, s, packed, h, y, map, reserve), OC_OK);
    const float *again = device_get(b, y);
    if (run.y && !isnan(again[0])) assert_memory_equal(again, run.y, (size_t)oc_tensor_count(y) * sizeof(float));
    run.y = device_get(b, y);
    run.map = device_get(b, map);
    const oc_tensor dy = device_put(b, host_numbers(3, 1, oc_tensor_count(y)), OC_DTYPE_F32, s->batch, s->hidden, 1);
    assert_int_equal(ops->attend_backward(b, s, &w, h, map, reserve, dy, &dw, dh), OC_OK);
    const oc_tensor all[PARTS] = {dw.in_w, dw.in_b, dw.out_w, dw.out_b};
    for (int part = 0; part < PARTS; part++) run.dw[part] = device_get(b, all[part]);
    run.dh = device_get(b, dh);
    return run;
}

static attend_run run_cuda(const oc_attention_shape *s, const float *states, int number)
{
    seed(number);
    oc_backend *b = device_open(arena_of(s), OC_MATH_F32);
    assert_non_null(b);
    const attend_run run = run_on(b, s, states);
    oc_backend_close(b);
    return run;
}

static attend_run run_cpu(const oc_attention_shape *s, const float *states)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .arena_bytes = arena_of(s)};
    oc_backend *b = NULL;
    assert_int_equal(oc_backend_open(&b, &config), OC_OK);
    const attend_run run = run_on(b, s, states);
    oc_backend_close(b);
    return run;
}

static void same_run(const oc_attention_shape *s, const attend_run *a, const attend_run *b)
{
    const size_t state = (size_t)s->batch * (size_t)s->hidden * sizeof(float);
    assert_memory_equal(a->y, b->y, state);
    assert_memory_equal(a->map, b->map, (size_t)(s->batch * s->heads * s->steps) * sizeof(float));
    assert_memory_equal(a->dh, b->dh, state * (size_t)s->steps);
    for (int part = 0; part < PARTS; part++)
        assert_memory_equal(a->dw[part], b->dw[part], (size_t)part_count(s, part) * sizeof(float));
}

typedef struct errors {
    double forward, backward;
} errors;

static errors errors_of(const oc_attention_shape *s, const float *states, const attend_run *run)
{
    const size_t state = (size_t)s->batch * (size_t)s->hidden, all = state * (size_t)s->steps;
    double *w[PARTS], *d[PARTS], *dh = oracle_take(all);
    oracle_attention_trace t;
    for (int part = 0; part < PARTS; part++) {
        w[part] = oracle_widen(part_numbers(s, part), (size_t)part_count(s, part));
        d[part] = oracle_take((size_t)part_count(s, part));
    }
    const oracle_attention weights = {w[0], w[1], w[2], w[3]}, gradients = {d[0], d[1], d[2], d[3]};
    const double *h = oracle_widen(states, all);
    oracle_attend_forward(s, &weights, h, &t);
    oracle_attend_backward(s, &weights, h, &t, oracle_widen(host_numbers(3, 1, (int64_t)state), state), &gradients, dh);
    errors e = {worse(oracle_error(run->y, t.y, state),
                      oracle_error(run->map, t.map, (size_t)(s->batch * s->heads * s->steps))),
                oracle_error(run->dh, dh, all)};
    for (int part = 0; part < PARTS; part++)
        e.backward = worse(e.backward, oracle_error(run->dw[part], d[part], (size_t)part_count(s, part)));
    return e;
}

/* Normalised error; measured in emulation: forward 8.9e-7, backward 9.0e-7. */
static const errors bound = {3e-6, 3e-6};

enum { AXES = 4 };
static const covering_axis axes[AXES] = {
    {"B", 4, {1, 3, 16, 65}}, {"T", 4, {1, 2, 17, 33}}, {"H", 6, {8, 40, 64, 100, 128, 256}}, {"N", 3, {1, 2, 4}}};

static int64_t work(const covering_case *c)
{
    const int64_t rows = c->value[0], steps = c->value[1], hidden = c->value[2], heads = c->value[3];
    return rows * (hidden * hidden * 13 + steps * hidden * heads * 6);
}

static void case_check(const oc_attention_shape *s, bool corrupt_one, errors *most)
{
    const float *states = host_numbers(2, 1, (int64_t)s->steps * s->batch * s->hidden);
    attend_run run = run_cuda(s, states, 1);
    const bool small = work(&(covering_case){{s->batch, s->steps, s->hidden, s->heads}}) < 2000000;
    for (int number = 2; number <= (small ? 3 : 1); number++) {
        const attend_run again = run_cuda(s, states, number);
        same_run(s, &run, &again);
    }
    if (s->batch < 512) {
        const attend_run other = run_cpu(s, states);
        same_run(s, &run, &other);
    }
    if (corrupt_one) run.dw[0][1] += 1e-2f;
    const errors e = errors_of(s, states, &run);
    const bool good = e.forward <= bound.forward && e.backward <= bound.backward;
    if (good == corrupt_one)
        printf("B %d T %d H %d N %d: %.2e %.2e\n", s->batch, s->steps, s->hidden, s->heads, e.forward, e.backward);
    assert_int_equal(good, !corrupt_one);
    if (corrupt_one) return;
    most->forward = worse(most->forward, e.forward);
    most->backward = worse(most->backward, e.backward);
}

static void covering(void **state)
{
    const int64_t work_max = COVERING_WORK_MAX / 8;
    covering_set set;
    errors most = {0, 0};
    (void)state;
    covering_make(&set, axes, AXES, work, work_max);
    for (int i = 0; i < set.count; i++) {
        const int *v = set.row[i].value;
        case_check(&(oc_attention_shape){v[0], v[1], v[2], v[3]}, false, &most);
        release(NULL);
    }
    assert_int_equal(covering_open(&set, axes, AXES, work, work_max), 0);
    printf("%d cases, %d of %d pairs beyond the work: worst forward %.2e, backward %.2e\n", set.count,
           set.pairs_left_out, set.pairs, most.forward, most.backward);
}

/* Windows beyond shared memory (two passes in tiles), odd heads, split sums over the batch, and the injected fault. */
static void special(void **state)
{
    static const struct {
        oc_attention_shape shape;
        bool corrupt_one;
    } cases[] = {{{2, 601, 98, 2}, false}, {{1, 1000, 60, 6}, false}, {{1030, 2, 6, 3}, false},
                 {{1, 1, 1, 1}, false},    {{7, 5, 33, 11}, false},   {{3, 4, 16, 2}, true}};
    errors most = {0, 0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        case_check(&cases[i].shape, cases[i].corrupt_one, &most);
        release(NULL);
    }
    printf("worst forward %.2e, backward %.2e\n", most.forward, most.backward);
}

static void any_batch(void **state)
{
    const oc_attention_shape whole = {9, 12, 40, 4}, one = {1, 12, 40, 4};
    float *states = host_numbers(2, 1, 12 * 9 * 40), *alone = host_take(12 * 40 * sizeof(float));
    (void)state;
    for (int t = 0; t < 12; t++) memcpy(alone + 40 * t, states + (9 * t + 7) * 40, 40 * sizeof(float));
    const attend_run a = run_cuda(&whole, states, 1), b = run_cuda(&one, alone, 1);
    assert_memory_equal(a.y + 7 * 40, b.y, 40 * sizeof(float));
}

/* A NaN in one state of window 1 makes its whole answer NaN, no other window's, and every weight's gradient. */
static void nan_spreads(void **state)
{
    const oc_attention_shape s = {3, 5, 12, 2};
    float *states = host_numbers(2, 1, 5 * 3 * 12);
    (void)state;
    states[(1 * 3 + 1) * 12 + 4] = NAN;
    const attend_run run = run_cuda(&s, states, 1);
    for (int i = 0; i < 3 * 12; i++) assert_int_equal(isnan(run.y[i]) != 0, i / 12 == 1);
    for (int i = 0; i < 5 * 3 * 12; i++) assert_int_equal(isnan(run.dh[i]) != 0, i / 12 % 3 == 1);
    for (int i = 0; i < 12 * 12; i++) assert_true(isnan(run.dw[0][i]) && isnan(run.dw[0][2 * 144 + i]));
}

static void refusals(void **state)
{
    oc_backend *b = device_open(1 << 20, OC_MATH_F32);
    const oc_attention_shape s = {2, 3, 10, 4};
    const oc_dropout bad = {1.0f, 0, 0, 0, 0, NULL};
    const oc_tensor none = device_take(b, OC_DTYPE_F32, 1, 1, 1);
    (void)state;
    assert_int_equal(oc_backend_ops(b)->attend_forward(b, &s, none, none, none, none, none), OC_ELIMIT);
    assert_non_null(strstr(oc_status_message(), "4 heads, 10 hidden"));
    assert_int_equal(oc_backend_ops(b)->dropout(b, &bad, none), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "not in [0, 1)"));
    oc_backend_close(b);
}

/* ---------------------------------------------------------------- dropout: the mask of the definition, the CPU's bits
 */
static void dropout(void **state)
{
    static const int64_t shapes[][3] = {{4, 7, 1}, {65, 33, 1}, {5, 3, 10}, {2, 6, 64}};
    oc_backend *cpu = NULL;
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    (void)state;
    assert_int_equal(oc_backend_open(&cpu, &config), OC_OK);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int p = 0; p <= 9; p += 3) {
            const oc_dropout d = {(float)p / 10, 3, 9, 1000, 4, NULL};
            const bool timed = shapes[i][2] > 1;
            const int64_t count = shapes[i][0] * shapes[i][1] * shapes[i][2];
            const int64_t columns = timed ? shapes[i][2] : shapes[i][1], batch = timed ? shapes[i][1] : shapes[i][0];
            float *x = host_numbers(i, 1, count), *before = host_numbers(i, 1, count);
            oc_backend *b = device_open(1 << 20, OC_MATH_F32);
            const oc_tensor on = device_put(b, x, OC_DTYPE_F32, shapes[i][0], shapes[i][1], shapes[i][2]);
            assert_int_equal(oc_backend_ops(b)->dropout(b, &d, on), OC_OK);
            const float *got = device_get(b, on);
            assert_int_equal(oc_backend_ops(cpu)->dropout(
                                 cpu, &d, oc_tensor_make(x, OC_DTYPE_F32, shapes[i][0], shapes[i][1], shapes[i][2], 1)),
                             OC_OK);
            assert_memory_equal(got, x, (size_t)count * sizeof *x);
            for (int64_t n = 0; n < count; n++) {
                const double factor =
                    oracle_dropout_factor(&d, n / columns % batch, n / columns / batch, columns, n % columns);
                assert_true(fabs((double)got[n] - (double)before[n] * factor) <= 1e-6);
            }
            oc_backend_close(b);
        }
    oc_backend_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(covering, release),  cmocka_unit_test_teardown(special, release),
        cmocka_unit_test_teardown(any_batch, release), cmocka_unit_test_teardown(nan_spreads, release),
        cmocka_unit_test_teardown(refusals, release),  cmocka_unit_test_teardown(dropout, release),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
