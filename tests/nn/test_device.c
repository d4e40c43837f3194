/* Models whose device has memory of its own (the emulated GPU; a real one under the label gpu): whole windows, the
 * attention of one, and pushed rows, beside the CPU; on the device one window's bits must not depend on what it came
 * with nor on how. Weights are enlarged. Harness proven by a window that is another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nn/model.h"
#include "nn/sample_bundle.h"

enum { ROWS = 25, SLOTS = 3, OUTPUTS = 2 * OC_CLASSES, INPUTS = 5 };
static const oc_model_shape shapes[] = {
    {OC_TRUNK_LSTM, 6, INPUTS, 2, 24, 2, 2},
    {OC_TRUNK_LSTM, 3, INPUTS, 1, 10, 0, 2},
    {OC_TRUNK_MLP, 4, INPUTS, 2, 16, 0, 2},
};

static void numbers(float *x, size_t count)
{
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, 1, 0);
    for (size_t i = 0; i < count; i++) x[i] = (float)(4 * oc_random_uniform(key, i) - 2);
}

/* Beside the CPU's f32; measured in emulation: the same bits, 2e-4, 2e-3. */
static const float bounds[] = {[OC_MATH_F32] = 1e-6f, [OC_MATH_TF32] = 2e-3f, [OC_MATH_BF16] = 2e-2f};

static float worst[3];

static void near(oc_math math, const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(a[i] - b[i]) <= bounds[math]);
        worst[math] = fmaxf(worst[math], fabsf(a[i] - b[i]));
    }
}

static size_t windows_of(const oc_model_shape *s, int64_t *last)
{
    size_t count = 0;
    for (int64_t row = s->steps - 1; row < ROWS; row++) last[count++] = row;
    return count;
}

/* Every row of slot 1, with slot 2 one row behind: the answers of whole windows. */
static void pushes(oc_model *m, const oc_model_shape *s, const float *rows, const float *wanted)
{
    oc_sliding *sliding;
    assert_int_equal(oc_sliding_open(&sliding, m, SLOTS), OC_OK);
    for (int64_t row = 0; row < ROWS; row++) {
        const uint32_t slots[2] = {1, 2};
        float x[2 * INPUTS], answer[2 * OUTPUTS];
        uint8_t full[2];
        const size_t n = row > 0 ? 2 : 1;
        memcpy(x, rows + row * INPUTS, INPUTS * sizeof *x);
        if (row > 0) memcpy(x + INPUTS, rows + (row - 1) * INPUTS, INPUTS * sizeof *x);
        assert_int_equal(oc_sliding_step(sliding, slots, x, n, answer, 2 * OUTPUTS, full), OC_OK);
        assert_int_equal(oc_sliding_advance(sliding, slots, n), OC_OK);
        for (int64_t i = 0; i < (int64_t)n; i++) {
            const int64_t window = row - i - (s->steps - 1);
            assert_int_equal(full[i], window >= 0);
            if (window >= 0)
                assert_memory_equal(answer + i * OUTPUTS, wanted + window * OUTPUTS, OUTPUTS * sizeof(float));
        }
    }
    assert_int_equal(oc_sliding_rebuild(sliding, 0, rows, ROWS - 1), OC_OK);
    float answer[OUTPUTS];
    uint8_t full;
    const uint32_t slot = 0;
    assert_int_equal(oc_sliding_step(sliding, &slot, rows + (ROWS - 1) * INPUTS, 1, answer, OUTPUTS, &full), OC_OK);
    assert_memory_equal(answer, wanted + (ROWS - s->steps) * OUTPUTS, sizeof answer);
    oc_sliding_close(sliding);
}

static void one_shape(const oc_model_shape *s, oc_math math)
{
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU}, cuda = {.kind = OC_BACKEND_CUDA, .math = math};
    float rows[ROWS * INPUTS], wanted[ROWS * OUTPUTS], got[ROWS * OUTPUTS], alone[OUTPUTS], map[2][2 * 8];
    int64_t last[ROWS];
    oc_bundle *bundle;
    oc_model *on[3];
    numbers(rows, ROWS * INPUTS);
    const size_t count = windows_of(s, last);
    assert_int_equal(sample_bundle(&bundle, s, 3.0f, 4.0, 7), OC_OK);
    assert_int_equal(oc_model_open(&on[0], bundle, &cpu, 7), OC_OK);
    assert_int_equal(oc_model_open(&on[1], bundle, &cuda, 7), OC_OK);
    assert_int_equal(oc_model_open(&on[2], bundle, &cuda, 1), OC_OK);
    assert_int_equal(oc_model_predict_rows(on[0], rows, ROWS, last, count, wanted, ROWS * OUTPUTS), OC_OK);
    assert_int_equal(oc_model_predict_rows(on[1], rows, ROWS, last, count, got, ROWS * OUTPUTS), OC_OK);
    near(math, got, wanted, count * OUTPUTS);
    for (size_t i = 0; i < count; i += 5) {
        const float *window = rows + (last[i] + 1 - s->steps) * INPUTS;
        assert_int_equal(oc_model_predict(on[2], window, 1, alone, OUTPUTS), OC_OK);
        assert_memory_equal(alone, got + i * OUTPUTS, sizeof alone);
        assert_memory_not_equal(alone, got + (i + 1) % count * OUTPUTS, sizeof alone); /* the harness sees another */
    }
    for (int i = 0; i < 2 && s->heads > 0; i++)
        assert_int_equal(oc_model_explain(on[i], rows, map[i], sizeof map[i] / sizeof(float)), OC_OK);
    if (s->heads > 0) near(math, map[1], map[0], (size_t)(s->heads * s->steps));
    pushes(on[1], s, rows, got);
    for (int i = 0; i < 3; i++) oc_model_close(on[i]);
    oc_bundle_close(bundle);
}

static void all_shapes(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) one_shape(&shapes[i], (oc_math)math);
    printf("f32 %.1e, tf32 %.1e, bf16 %.1e from the CPU's probabilities\n", (double)worst[0], (double)worst[1],
           (double)worst[2]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_shapes)};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
