/* test_bf16.c - a model in bf16 on the CPU: the same bits on every instruction set, for any batch, whole or pushed row
 * by row; near f32's answers and not the same; and what oc_agreement_measure says of usual weights, of huge ones, and
 * of f32 against itself. That a product is right is shown by tests/kernels/test_pairs.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "nn/agreement.h"
#include "nn/model.h"
#include "nn/sample_bundle.h"

static const oc_isa isas[] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512, OC_ISA_AVX512_BF16};
static const oc_model_shape shapes[] = {
    {OC_TRUNK_LSTM, 10, 7, 2, 64, 4, 1}, {OC_TRUNK_LSTM, 5, 33, 3, 24, 0, 2}, {OC_TRUNK_LSTM, 4, 12, 2, 100, 0, 1},
    {OC_TRUNK_LSTM, 1, 3, 2, 8, 1, 1},   {OC_TRUNK_LSTM, 6, 5, 1, 31, 1, 3},  {OC_TRUNK_MLP, 5, 9, 2, 16, 0, 2},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0], ROWS = 60 };

static float *rows_draw(const oc_model_shape *s)
{
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    float *rows = malloc((size_t)(ROWS * s->inputs) * sizeof *rows);
    for (int i = 0; i < ROWS * s->inputs; i++) rows[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
    return rows;
}

/* answers [ROWS][horizons * 3]; those of rows before the first full window stay 0. */
static void pushed(oc_model *m, const float *rows, float *answers)
{
    const oc_model_shape *s = &oc_model_bundle(m)->shape;
    const size_t outputs = OC_CLASSES * (size_t)s->horizons;
    const uint32_t slot = 0;
    oc_sliding *w;
    assert_int_equal(oc_sliding_open(&w, m, 1), OC_OK);
    for (int r = 0; r < ROWS; r++) {
        uint8_t full;
        float p[OC_HORIZONS_MAX * OC_CLASSES];
        assert_int_equal(oc_sliding_step(w, &slot, rows + r * s->inputs, 1, p, outputs, &full), OC_OK);
        assert_int_equal(full, r >= s->steps - 1);
        if (full) memcpy(answers + (size_t)r * outputs, p, outputs * sizeof *p);
        assert_int_equal(oc_sliding_advance(w, &slot, 1), OC_OK);
    }
    oc_sliding_close(w);
}

static float *answers_of(const oc_model_shape *s, oc_isa isa, oc_math math, int batch)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isa, .math = math};
    const size_t outputs = OC_CLASSES * (size_t)s->horizons;
    float *rows = rows_draw(s), *answers = calloc(ROWS * outputs, sizeof *answers);
    int64_t last[ROWS];
    oc_bundle *bundle;
    oc_model *m;
    assert_int_equal(sample_bundle(&bundle, s, 3.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_model_open(&m, bundle, &config, batch > 0 ? batch : 1), OC_OK);
    for (int r = 0; r < ROWS; r++) last[r] = r;
    if (batch > 0)
        assert_int_equal(oc_model_predict_rows(m, rows, ROWS, last + s->steps - 1, (size_t)(ROWS - s->steps + 1),
                                               answers + (size_t)(s->steps - 1) * outputs, ROWS * outputs),
                         OC_OK);
    else
        pushed(m, rows, answers);
    oc_model_close(m);
    oc_bundle_close(bundle);
    free(rows);
    return answers;
}

static void bits_by_every_way(void **state)
{
    static const int batches[] = {1, 7, 48, 0}; /* 0: pushed */
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        const size_t bytes = ROWS * OC_CLASSES * (size_t)shapes[i].horizons * sizeof(float);
        float *wanted = answers_of(&shapes[i], OC_ISA_SCALAR, OC_MATH_BF16, 1);
        for (size_t k = 0; k < sizeof isas / sizeof isas[0]; k++) {
            if (!oc_isa_available(isas[k])) print_message("skipped: this machine has no %s\n", oc_isa_name(isas[k]));
            for (size_t n = 0; n < 4 && oc_isa_available(isas[k]); n++) {
                float *got = answers_of(&shapes[i], isas[k], OC_MATH_BF16, batches[n]);
                assert_memory_equal(got, wanted, bytes);
                free(got);
            }
        }
        free(wanted);
    }
}

static void near_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        const size_t n = ROWS * OC_CLASSES * (size_t)shapes[i].horizons;
        float *exact = answers_of(&shapes[i], OC_ISA_BEST, OC_MATH_F32, 48);
        float *got = answers_of(&shapes[i], OC_ISA_BEST, OC_MATH_BF16, 48);
        double worst = 0;
        for (size_t k = 0; k < n; k++) {
            const double difference = fabs((double)exact[k] - (double)got[k]);
            if (!(difference <= worst)) worst = difference;
        }
        print_message("shape %zu: within %.2g of f32\n", i, worst);
        assert_true(worst <= 0.005); /* measured: up to 0.0018 */
        assert_true(shapes[i].trunk == OC_TRUNK_MLP ? worst == 0 : worst > 0);
        free(exact);
        free(got);
    }
}

static oc_agreement agreement_of(float enlarge, oc_math math)
{
    const oc_model_shape shape = {OC_TRUNK_LSTM, 20, 8, 2, 32, 4, 1};
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .math = math};
    oc_agreement found;
    oc_bundle *bundle;
    assert_int_equal(sample_bundle(&bundle, &shape, enlarge, 4.0, 5), OC_OK);
    const oc_ensemble one = {.count = 1, .members = {bundle}, .weights = {1}};
    assert_int_equal(oc_agreement_measure(&one, &config, &found), OC_OK);
    oc_bundle_close(bundle);
    print_message("weights x %g: probabilities within %.3g, decisions %.3g\n", (double)enlarge, found.difference,
                  found.decisions);
    return found;
}

static void agreement(void **state)
{
    (void)state;
    const oc_agreement usual = agreement_of(3, OC_MATH_BF16), again = agreement_of(3, OC_MATH_BF16);
    const oc_agreement huge = agreement_of(40, OC_MATH_BF16), exact = agreement_of(40, OC_MATH_F32);
    assert_true(usual.difference > 0 && usual.difference <= 0.01);
    assert_memory_equal(&usual, &again, sizeof usual);
    assert_true(huge.difference > 0.1 && huge.decisions > 0.02);
    assert_true(exact.difference == 0 && exact.decisions == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_by_every_way), cmocka_unit_test(near_f32),
                                       cmocka_unit_test(agreement)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
