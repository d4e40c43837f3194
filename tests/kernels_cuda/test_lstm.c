/* The LSTM of kernels/cuda, forward, backward and single step, over the covering set of shapes (covering.h), against
 * naive double precision (oracle_backward.c); against the bits of the CPU backend where sums are not split; the same
 * bits in every order of threads, for any batch, in training and inference; NaN in, NaN out. Weights are enlarged (3 /
 * sqrt(H)), so that states saturate and a kernel that ignores its input fails. */
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
#include "kernels_cuda/lstm_case.h"

static oc_backend *cpu;

static int release(void **state)
{
    (void)state;
    (void)unsetenv("OUTCRY_CUDA_LSTM");
    device_release();
    oracle_release();
    return 0;
}

static void case_check(const lstm_case *c, lstm_errors *most)
{
    const oc_lstm_shape *s = &c->shape;
    const int64_t rows = (int64_t)s->steps * s->batch;
    const float *x = host_numbers(2, 1, rows * s->inputs);
    lstm_run run = lstm_case_cuda(c, x, LSTM_CASE_BACKWARD, 1);
    const bool small = covering_lstm_work(&(covering_case){{s->batch, s->steps, s->inputs, s->hidden}}) < 4000000;
    for (int seed = 2; seed <= (small ? 3 : 1); seed++) {
        const lstm_run again = lstm_case_cuda(c, x, LSTM_CASE_BACKWARD, seed);
        lstm_case_same(c, &run, &again);
    }
    if (rows < 512 && c->math == OC_MATH_F32) {
        const lstm_run other = lstm_case_cpu(c, x);
        lstm_case_same(c, &run, &other);
    }
    if (c->corrupt_one) run.dw[1][0] += 1e-2f;
    const lstm_errors e = lstm_case_errors(c, x, &run);
    const bool good =
        e.forward <= lstm_case_bounds[c->math].forward && e.backward <= lstm_case_bounds[c->math].backward;
    if (good == c->corrupt_one)
        printf("B %d T %d F %d H %d layers %d %s: %.2e %.2e\n", s->batch, s->steps, s->inputs, s->hidden, s->layers,
               lstm_case_bounds[c->math].name, e.forward, e.backward);
    assert_int_equal(good, !c->corrupt_one);
    if (c->corrupt_one) return;
    most[c->math].forward = worse(most[c->math].forward, e.forward);
    most[c->math].backward = worse(most[c->math].backward, e.backward);
}

static void covering(void **state)
{
    covering_set set;
    lstm_errors most[3] = {{0, 0}, {0, 0}, {0, 0}};
    (void)state;
    covering_make(&set, covering_lstm, COVERING_LSTM_AXES, covering_lstm_work, COVERING_WORK_MAX);
    for (int i = 0; i < set.count; i++) {
        const int *v = set.row[i].value;
        const int layers = covering_lstm_layers(&set.row[i]);
        const lstm_case c = {{layers, v[COVERING_BATCH], v[COVERING_STEPS], v[COVERING_INPUTS], v[COVERING_HIDDEN]},
                             layers > 1 && i % 3 == 1 ? 0.3f : 0,
                             (oc_math)v[COVERING_MATH],
                             false};
        (void)setenv("OUTCRY_CUDA_LSTM", covering_variants[v[COVERING_VARIANT]], 1);
        case_check(&c, most);
        release(NULL);
    }
    for (int i = 0; i < 3; i++)
        printf("%s: worst forward %.2e, backward %.2e\n", lstm_case_bounds[i].name, most[i].forward, most[i].backward);
}

/* Every shape of the axes up to a third of that work, in the variant that the table takes, with OUTCRY_FULL=1 (label
 * slow, half an hour); every 40th without. */
static void large(void **state)
{
    const covering_axis *at = covering_lstm;
    lstm_errors most[3] = {{0, 0}, {0, 0}, {0, 0}};
    const int each = getenv("OUTCRY_FULL") ? 1 : 40;
    int count = 0, index[COVERING_VARIANT] = {0};
    (void)state;
    for (bool more = true; more;) {
        covering_case c = {{0}};
        for (int a = 0; a < COVERING_VARIANT; a++) c.value[a] = at[a].value[index[a]];
        const lstm_case one = {{1 + count % 2, c.value[COVERING_BATCH], c.value[COVERING_STEPS],
                                c.value[COVERING_INPUTS], c.value[COVERING_HIDDEN]},
                               count % 4 == 1 ? 0.3f : 0,
                               (oc_math)c.value[COVERING_MATH],
                               false};
        if (covering_lstm_work(&c) <= COVERING_WORK_MAX / 3 && count++ % each == 0) case_check(&one, most);
        release(NULL);
        int a = 0;
        while (a < COVERING_VARIANT && ++index[a] == at[a].count) index[a++] = 0;
        more = a < COVERING_VARIANT;
    }
    printf("%d shapes of %d\n", (count + each - 1) / each, count);
}

/* Shapes beside the axes: units below a tile, splits of k, many layers, dropout; and the injected fault. */
static const lstm_case others[] = {
    {{1, 1, 1, 1, 1}, 0, OC_MATH_F32, false},       {{3, 5, 12, 4, 33}, 0.5f, OC_MATH_F32, false},
    {{2, 40, 30, 3, 9}, 0.2f, OC_MATH_F32, false},  {{8, 2, 3, 2, 4}, 0.1f, OC_MATH_F32, false},
    {{2, 9, 5, 5, 16}, 0.4f, OC_MATH_BF16, false},  {{1, 3, 7, 40, 50}, 0, OC_MATH_BF16, false},
    {{2, 3, 4, 3, 128}, 0, OC_MATH_BF16, false},    {{2, 9, 5, 5, 16}, 0.4f, OC_MATH_TF32, false},
    {{1, 3, 7, 40, 50}, 0, OC_MATH_TF32, false},    {{2, 3, 4, 3, 128}, 0, OC_MATH_TF32, false},
    {{1, 67, 4, 6, 30}, 0, OC_MATH_BF16, false},    {{1, 67, 4, 6, 30}, 0, OC_MATH_TF32, false},
    {{1, 41, 3, 2, 70}, 0, OC_MATH_BF16, false},    {{1, 41, 3, 2, 70}, 0, OC_MATH_TF32, false},
    {{2, 3, 3, 3, 140}, 0.1f, OC_MATH_BF16, false}, {{2, 3, 3, 3, 140}, 0.1f, OC_MATH_TF32, false},
    {{2, 4, 6, 5, 16}, 0, OC_MATH_F32, true},
};

static void special(void **state)
{
    lstm_errors most[3] = {{0, 0}, {0, 0}, {0, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        case_check(&others[i], most);
        release(NULL);
    }
    for (int i = 0; i < 3; i++)
        printf("%s: worst forward %.2e, backward %.2e\n", lstm_case_bounds[i].name, most[i].forward, most[i].backward);
}

/* A window's answer must not depend on what it was batched with, and steps one by one must be the whole forward pass.
 */
static void batch_and_steps(oc_math math, int hidden)
{
    enum { BATCH = 35, STEPS = 4, INPUTS = 3 }; /* over the rows of one persistent block in emulation */
    const lstm_case whole = {{2, BATCH, STEPS, INPUTS, hidden}, 0, math, false},
                    one = {{2, 1, STEPS, INPUTS, hidden}, 0, math, false};
    const oc_lstm_shape *s = &whole.shape;
    const float *x = host_numbers(2, 1, STEPS * BATCH * INPUTS);
    const size_t width = (size_t)hidden * sizeof *x;
    float *alone = host_take(STEPS * INPUTS * sizeof *alone);
    const lstm_run run = lstm_case_cuda(&whole, x, LSTM_CASE_FORWARD, 1);
    for (int t = 0; t < STEPS; t++)
        memcpy(alone + t * INPUTS, x + (t * BATCH + BATCH - 1) * INPUTS, INPUTS * sizeof *alone);
    const lstm_run last = lstm_case_cuda(&one, alone, LSTM_CASE_FORWARD, 1);
    for (int t = 0; t < STEPS; t++)
        assert_memory_equal(last.y + t * hidden, run.y + (t * BATCH + BATCH - 1) * hidden, width);
    oc_backend *b = device_open(lstm_case_arena(s), math);
    const oc_ops *ops = oc_backend_ops(b);
    const oc_lstm_weights w = lstm_case_weights(b, s);
    const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, s)),
                    once = device_bytes(b, ops->lstm_reserve_bytes(b, s, false));
    const oc_tensor h = device_take(b, OC_DTYPE_F32, 2, BATCH, hidden),
                    c = device_take(b, OC_DTYPE_F32, 2, BATCH, hidden);
    assert_int_equal(ops->lstm_pack(b, s, &w, packed), OC_OK);
    for (int t = 0; t < STEPS; t++) {
        const oc_tensor row = device_put(b, x + t * BATCH * INPUTS, OC_DTYPE_F32, BATCH, INPUTS, 1);
        assert_int_equal(ops->lstm_step(b, s, packed, BATCH, row, h, c, once), OC_OK);
        const float *states = device_get(b, h);
        assert_memory_equal(states + BATCH * hidden, run.y + t * BATCH * hidden, BATCH * width);
    }
    oc_backend_close(b);
    release(NULL);
}

static void batches_and_steps(void **state)
{
    (void)state;
    for (int hidden = 24; hidden <= 150; hidden += 63)
        for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) batch_and_steps((oc_math)math, hidden);
}

/* A NaN in row 1 at step 1 reaches all later states of that row, no other row, and every weight that it meets. */
static void nan_spreads(void **state)
{
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) {
        const lstm_case c = {{2, 3, 4, 5, 9}, 0, (oc_math)math, false};
        const oc_lstm_shape *s = &c.shape;
        float *x = host_numbers(2, 1, 3 * 4 * 5);
        x[(1 * 3 + 1) * 5 + 2] = NAN;
        const lstm_run run = lstm_case_cuda(&c, x, LSTM_CASE_BACKWARD, 1);
        for (int t = 0; t < s->steps; t++)
            for (int b = 0; b < s->batch; b++)
                for (int j = 0; j < s->hidden; j++)
                    assert_int_equal(isnan(run.y[(t * s->batch + b) * s->hidden + j]) != 0, b == 1 && t >= 1);
        for (int i = 0; i < 8; i++)
            for (int64_t n = 0; n < lstm_case_part_count(s, i / 4, i % 4); n++) assert_true(isnan(run.dw[i][n]));
        release(NULL);
    }
}

static void refusals(void **state)
{
    oc_backend *b = device_open(1 << 20, OC_MATH_F32);
    const oc_lstm_shape s = {1, 2, 3, 4, OC_HIDDEN_MAX + 1};
    const oc_tensor none = device_take(b, OC_DTYPE_F32, 1, 1, 1);
    (void)state;
    assert_int_equal(oc_backend_ops(b)->lstm_forward(b, &s, none, none, NULL, false, none, none), OC_ELIMIT);
    assert_non_null(strstr(oc_status_message(), "4097 hidden"));
    const oc_lstm_shape many = {1, 1 << 20, 2048, 4, 8};
    assert_int_equal(oc_backend_ops(b)->lstm_forward(b, &many, none, none, NULL, false, none, none), OC_ELIMIT);
    assert_non_null(strstr(oc_status_message(), "over 2^31 - 1 rows"));
    oc_backend_close(b);
}

int main(int argc, char **argv) /* NAME: that test alone; large: the slow ones */
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(covering, release),          cmocka_unit_test_teardown(special, release),
        cmocka_unit_test_teardown(batches_and_steps, release), cmocka_unit_test_teardown(nan_spreads, release),
        cmocka_unit_test_teardown(refusals, release),
    };
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    const struct CMUnitTest slow[] = {cmocka_unit_test_teardown(large, release)};
    const bool all = argc > 1 && strcmp(argv[1], "large") == 0;
    const int skipped = device_skip();
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    if (skipped >= 0) return skipped;
    if (oc_backend_open(&cpu, &config) != OC_OK) return 1;
    const int failed = all ? cmocka_run_group_tests(slow, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
    oc_backend_close(cpu);
    return failed;
}
