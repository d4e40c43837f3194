/* test_model.c - a model's answers: equal in bits whatever they are batched with, on every instruction set, whole or
 * pushed row by row; refusals by name; no memory taken after open. Weights are enlarged (sample_bundle.h): answers
 * differ widely between windows, which every_answer_differs asserts, so that a model that ignores its input cannot
 * pass. That the answers are right is shown by test_onnx.c (own interpreter in f64) and test_graph.c. */
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

static const oc_isa isas[] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512};
static const oc_model_shape shapes[] = {
    {OC_TRUNK_LSTM, 10, 7, 2, 64, 4, 1}, {OC_TRUNK_LSTM, 17, 5, 1, 40, 2, 2}, {OC_TRUNK_LSTM, 6, 40, 3, 24, 0, 1},
    {OC_TRUNK_LSTM, 1, 3, 2, 8, 1, 1},   {OC_TRUNK_LSTM, 2, 3, 2, 100, 4, 3}, {OC_TRUNK_MLP, 5, 9, 2, 16, 0, 2},
    {OC_TRUNK_LSTM, 7, 2, 1, 130, 2, 1}, {OC_TRUNK_LSTM, 5, 3, 1, 8, 0, 1},   {OC_TRUNK_LSTM, 3, 33, 1, 33, 11, 8},
    {OC_TRUNK_LSTM, 4, 1, 1, 2, 2, 3},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0], ROWS = 90, OUTPUTS_MAX = OC_HORIZONS_MAX * OC_CLASSES };

typedef struct fixture {
    oc_bundle *bundle;
    oc_model *model;
    float *rows;
    size_t outputs, windows;
    int64_t *last;
} fixture;

static void open_model(fixture *f, const oc_model_shape *shape, oc_isa isa, int batch)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isa};
    assert_int_equal(sample_bundle(&f->bundle, shape, 3.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_model_open(&f->model, f->bundle, &config, batch), OC_OK);
    f->outputs = (size_t)shape->horizons * OC_CLASSES;
    f->windows = (size_t)(ROWS - shape->steps + 1);
    f->rows = calloc((size_t)(ROWS * shape->inputs), sizeof *f->rows);
    f->last = calloc(ROWS, sizeof *f->last);
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    for (int i = 0; i < ROWS * shape->inputs; i++) {
        const int column = i % shape->inputs;
        f->rows[i] =
            (float)(f->bundle->mean[column] + (6 * oc_random_uniform(key, (uint64_t)i) - 3) * f->bundle->scale[column]);
    }
    for (size_t i = 0; i < f->windows; i++) f->last[i] = (int64_t)i + shape->steps - 1;
}

static void close_model(fixture *f)
{
    oc_model_close(f->model);
    oc_bundle_close(f->bundle);
    free(f->rows);
    free(f->last);
}

static float *answers_of(const oc_model_shape *shape, oc_isa isa, int batch)
{
    fixture f;
    open_model(&f, shape, isa, batch);
    float *p = calloc(f.windows * f.outputs, sizeof *p);
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, f.last, f.windows, p, f.windows * f.outputs), OC_OK);
    close_model(&f);
    return p;
}

static bool usable(oc_isa isa)
{
    if (oc_isa_available(isa)) return true;
    print_message("skipped: this machine has no %s\n", oc_isa_name(isa));
    return false;
}

static void bits_whatever_the_batch(void **state)
{
    static const int batches[] = {1, 2, 7, 48, 1000};
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        const size_t count = (size_t)((ROWS - shapes[i].steps + 1) * shapes[i].horizons * OC_CLASSES);
        float *wanted = answers_of(&shapes[i], OC_ISA_SCALAR, 5);
        for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++)
            for (size_t k = 0; k < sizeof batches / sizeof batches[0] && usable(isas[j]); k++) {
                float *got = answers_of(&shapes[i], isas[j], batches[k]);
                assert_memory_equal(got, wanted, count * sizeof *got);
                free(got);
            }
        free(wanted);
    }
}

static void every_answer_differs(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        float *p = answers_of(&shapes[i], OC_ISA_BEST, 48), low = 1, high = 0;
        const size_t stride = (size_t)(shapes[i].horizons * OC_CLASSES), count = (size_t)(ROWS - shapes[i].steps + 1);
        for (size_t w = 0; w < count; w++) {
            float sum = 0;
            for (int c = 0; c < OC_CLASSES; c++) sum += p[w * stride + (size_t)c];
            assert_true(fabsf(sum - 1.0f) <= 1e-6f);
            if (p[w * stride] < low) low = p[w * stride];
            if (p[w * stride] > high) high = p[w * stride];
        }
        assert_true(high - low >= 0.1f);
        free(p);
    }
}

/* Windows handed over as copies, and logits, agree with windows by index. */
static void whole_windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        fixture f;
        open_model(&f, &shapes[i], OC_ISA_BEST, 16);
        const size_t steps = (size_t)shapes[i].steps, inputs = (size_t)shapes[i].inputs, count = f.windows * f.outputs;
        float *windows = calloc(f.windows * steps * inputs, sizeof *windows), *a = calloc(count, sizeof *a),
              *b = calloc(count, sizeof *b);
        for (size_t w = 0; w < f.windows; w++)
            memcpy(windows + w * steps * inputs, f.rows + w * inputs, steps * inputs * sizeof *windows);
        assert_int_equal(oc_model_predict(f.model, windows, f.windows, a, count), OC_OK);
        assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, f.last, f.windows, b, count), OC_OK);
        assert_memory_equal(a, b, count * sizeof *a);
        assert_int_equal(oc_model_logits_rows(f.model, f.rows, ROWS, f.last, f.windows, b, count), OC_OK);
        for (size_t j = 0; j < count; j += OC_CLASSES) {
            const double t = f.bundle->temperature[j / OC_CLASSES % (size_t)shapes[i].horizons];
            double sum = 0;
            for (size_t c = 0; c < OC_CLASSES; c++) sum += exp((double)b[j + c] / t);
            for (size_t c = 0; c < OC_CLASSES; c++)
                assert_true(fabs((double)a[j + c] - exp((double)b[j + c] / t) / sum) <= 1e-6);
        }
        free(windows);
        free(a);
        free(b);
        close_model(&f);
    }
}

/* Two slots, the second 13 rows behind, in one call; reset and rebuild on the way. `fault` flips one bit of one row. */
static size_t push_all(const oc_model_shape *shape, oc_isa isa, bool fault)
{
    enum { BEHIND = 13, RESET_AT = 60, REBUILD_AT = 75 };
    fixture f;
    oc_sliding *s;
    size_t wrong = 0;
    open_model(&f, shape, isa, 16);
    float *wanted = calloc(f.windows * f.outputs, sizeof *wanted);
    const size_t inputs = (size_t)shape->inputs, steps = (size_t)shape->steps;
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, f.last, f.windows, wanted, f.windows * f.outputs),
                     OC_OK);
    assert_int_equal(oc_sliding_open(&s, f.model, 3), OC_OK);
    const size_t taken = oc_memory_count();
    size_t since[2] = {0, 0};
    for (size_t row = 0; row < ROWS; row++) {
        const uint32_t slots[2] = {2, 0};
        const size_t n = row < BEHIND ? 1 : 2;
        float x[2 * 64], p[2 * OUTPUTS_MAX];
        uint8_t full[2];
        if (row == RESET_AT) {
            oc_sliding_reset(s, 2);
            since[0] = 0;
        }
        if (row == REBUILD_AT) {
            assert_int_equal(oc_sliding_rebuild(s, 2, f.rows + 5 * inputs, REBUILD_AT - 5), OC_OK);
            since[0] = steps - 1;
        }
        memcpy(x, f.rows + row * inputs, inputs * sizeof *x);
        if (n == 2) memcpy(x + inputs, f.rows + (row - BEHIND) * inputs, inputs * sizeof *x);
        if (fault && row == 40) x[0] += 1e-3f;
        assert_int_equal(oc_sliding_step(s, slots, x, n, p, sizeof p / sizeof *p, full), OC_OK);
        assert_int_equal(oc_sliding_advance(s, slots, n), OC_OK);
        for (size_t i = 0; i < n; i++) {
            since[i]++;
            assert_int_equal(full[i], since[i] >= steps);
            const float *answer = p + i * f.outputs;
            if (full[i])
                wrong +=
                    memcmp(answer, wanted + (row - i * BEHIND + 1 - steps) * f.outputs, f.outputs * sizeof *p) != 0;
            else
                assert_true(answer[0] == 0.0f && answer[1] == 0.0f && answer[2] == 1.0f);
        }
    }
    assert_int_equal(oc_memory_count(), taken);
    free(wanted);
    oc_sliding_close(s);
    close_model(&f);
    return wrong;
}

static void pushes_equal_windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++)
        for (size_t j = 0; j < sizeof isas / sizeof isas[0]; j++) {
            if (!usable(isas[j])) continue;
            assert_int_equal(push_all(&shapes[i], isas[j], false), 0);
            assert_true(push_all(&shapes[i], isas[j], true) > 0);
        }
}

static void refusals(void **state)
{
    fixture f;
    oc_sliding *s;
    oc_model *none;
    (void)state;
    open_model(&f, &shapes[0], OC_ISA_BEST, 4);
    const size_t inputs = 7, steps = 10;
    float p[8 * 3], attention[4 * 10], x[7] = {0};
    uint8_t full, both[2];
    const uint32_t slot = 0, twice[2] = {1, 1};
    const int64_t early = 8, late = ROWS;
    f.rows[33 * inputs + 4] = NAN;
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, f.last + 20, 8, p, 24), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "window 4: step 9, feature 4 (feature:4)"));
    f.rows[33 * inputs + 4] = INFINITY;
    assert_int_equal(oc_model_explain(f.model, f.rows + 30 * inputs, attention, 40), OC_EDATA);
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, &early, 1, p, 24), OC_EDATA);
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, &late, 1, p, 24), OC_EDATA);
    assert_int_equal(oc_model_explain(f.model, f.rows, attention, 40), OC_OK);
    for (size_t n = 0; n < 4; n++) {
        float sum = 0;
        for (size_t t = 0; t < steps; t++) sum += attention[n * steps + t];
        assert_true(fabsf(sum - 1.0f) <= 1e-6f);
    }
    assert_int_equal(oc_sliding_open(&s, f.model, 2), OC_OK);
    assert_int_equal(oc_sliding_advance(s, &slot, 1), OC_EUSAGE);
    assert_int_equal(oc_sliding_advance_some(s, slot), OC_EUSAGE);
    x[3] = NAN;
    assert_int_equal(oc_sliding_step(s, &slot, x, 1, p, 24, &full), OC_EDATA);
    x[3] = 0;
    assert_int_equal(oc_sliding_step(s, twice, f.rows, 2, p, 24, both), OC_EUSAGE);
    assert_false(oc_sliding_due(s, slot));
    assert_int_equal(oc_sliding_step(s, &slot, x, 1, p, 24, &full), OC_OK);
    assert_true(oc_sliding_due(s, slot));
    while (oc_sliding_due(s, slot)) assert_int_equal(oc_sliding_advance_some(s, slot), OC_OK);
    assert_int_equal(oc_sliding_advance_some(s, slot), OC_EUSAGE);
    oc_sliding_close(s);
    oc_model_close(f.model);
    f.model = NULL;
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    f.bundle->temperature[0] = 0;
    assert_int_equal(oc_model_open(&none, f.bundle, &config, 1), OC_EDATA);
    f.bundle->temperature[0] = 1;
    f.bundle->flat[0] = NAN;
    assert_int_equal(oc_model_open(&none, f.bundle, &config, 1), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "lstm.weight_ih_l0[0]"));
    close_model(&f);
}

/* Answers take no memory, and sliding windows take what their planner says: about T * T / 2 * H numbers a slot. */
static void memory_is_planned(void **state)
{
    fixture f;
    float p[90 * 3];
    const oc_model_shape shape = {OC_TRUNK_LSTM, 100, 40, 2, 64, 4, 1};
    (void)state;
    open_model(&f, &shapes[0], OC_ISA_BEST, 16);
    const size_t before = oc_memory_count();
    assert_int_equal(oc_model_predict_rows(f.model, f.rows, ROWS, f.last, f.windows, p, sizeof p / sizeof *p), OC_OK);
    assert_int_equal(oc_memory_count(), before);
    close_model(&f);
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    assert_int_equal(sample_bundle(&f.bundle, &shape, 3.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_model_open(&f.model, f.bundle, &config, 1), OC_OK);
    const double slot = (double)(oc_sliding_bytes(f.model, 11) - oc_sliding_bytes(f.model, 1)) / 10,
                 triangle = 4.0 * 100 * 99 / 2 * 64;
    print_message("a slot of 2 x 64, T 100 takes %.0f bytes, %.2f times its triangle\n", slot, slot / triangle);
    assert_true(slot >= triangle && slot <= 1.3 * triangle);
    oc_model_close(f.model);
    oc_bundle_close(f.bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_whatever_the_batch),
        cmocka_unit_test(every_answer_differs),
        cmocka_unit_test(whole_windows),
        cmocka_unit_test(pushes_equal_windows),
        cmocka_unit_test(refusals),
        cmocka_unit_test(memory_is_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
