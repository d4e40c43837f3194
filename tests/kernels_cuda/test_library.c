/* The LSTM of kernels/cuda with its large products by a library of the vendor. In emulation a double stands in
 * (tests/emulation/fake_*.cpp): plain arithmetic that believes only what it is told, so what is proven is the plumbing:
 * layouts, transposes, leading dimensions, errors; forward and backward against naive double precision. The doubles can
 * be told to compute wrongly, which must be noticed, and each function of theirs to fail, which must become an error
 * that names it. On a GPU (label gpu) the same cases run on the real libraries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/oracle_backward.h"
#include "kernels_cuda/device_case.h"
#include "kernels_cuda/lstm_case.h"

static bool emulated;

static int release(void **state)
{
    (void)state;
    device_release();
    oracle_release();
    (void)unsetenv("OUTCRY_FAKE_FAIL");
    (void)unsetenv("OUTCRY_FAKE_PLANT");
    return 0;
}

static const oc_lstm_shape shapes[] = {{1, 1, 1, 1, 1},    {3, 5, 12, 4, 33}, {2, 65, 3, 5, 40},
                                       {1, 3, 2, 40, 100}, {2, 16, 5, 1, 8},  {2, 3, 3, 3, 140}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static bool good(const lstm_case *c, lstm_errors *e)
{
    const oc_lstm_shape *s = &c->shape;
    const float *x = host_numbers(2, 1, (int64_t)s->steps * s->batch * s->inputs);
    const lstm_run run = lstm_case_cuda(c, x, LSTM_CASE_TRAINING, 1),
                   again = lstm_case_cuda(c, x, LSTM_CASE_TRAINING, 2);
    lstm_case_same(c, &run, &again);
    *e = lstm_case_errors(c, x, &run);
    return e->forward <= lstm_case_bounds[c->math].forward && e->backward <= lstm_case_bounds[c->math].backward;
}

/* The outcome of opening and one pass forward and backward; OC_OK, or an error whose message has `word` in it. */
static void fails_with(oc_math math, const char *word)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .arena_bytes = 1 << 20, .math = math, .partial = true};
    const oc_lstm_shape s = {1, 2, 3, 4, 5};
    oc_backend *b = NULL;
    oc_status status = oc_backend_open(&b, &config);
    if (status == OC_OK) {
        const oc_ops *ops = oc_backend_ops(b);
        oc_lstm_weights w = lstm_case_weights(b, &s);
        const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, &s)),
                        reserve = device_bytes(b, ops->lstm_reserve_bytes(b, &s, true)),
                        x = device_take(b, OC_DTYPE_F32, 3, 2, 4), y = device_take(b, OC_DTYPE_F32, 3, 2, 5);
        status = ops->lstm_pack(b, &s, &w, packed);
        if (status == OC_OK) status = ops->lstm_forward(b, &s, packed, x, NULL, true, y, reserve);
        if (status == OC_OK) status = ops->lstm_backward(b, &s, packed, x, y, y, NULL, reserve, &w);
    }
    if (status != OC_EFAILED || !strstr(oc_status_message(), word))
        fail_msg("%s: status %d, %s", word, (int)status, oc_status_message());
    oc_backend_close(b);
}

/* A training pass that is recorded and replayed gives the bits of one that is not. */
static void records(oc_math math)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .arena_bytes = 1 << 22, .math = math, .partial = true};
    const oc_lstm_shape s = {2, 5, 4, 3, 6};
    oc_backend *b = NULL;
    oc_recording *r;
    if (oc_backend_open(&b, &config) != OC_OK) fail_msg("%s", oc_status_message());
    const oc_ops *ops = oc_backend_ops(b);
    oc_lstm_weights w = lstm_case_weights(b, &s), dw = lstm_case_weights(b, &s);
    const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, &s)),
                    reserve = device_bytes(b, ops->lstm_reserve_bytes(b, &s, true)),
                    x = device_put(b, host_numbers(2, 1, 60), OC_DTYPE_F32, 4, 5, 3),
                    y = device_take(b, OC_DTYPE_F32, 4, 5, 6), dy = device_take(b, OC_DTYPE_F32, 4, 5, 6);
    const float *out[2][2];
    for (int i = 0; i < 2; i++) {
        if (i == 1) assert_int_equal(oc_backend_record_begin(b), OC_OK);
        assert_int_equal(ops->lstm_pack(b, &s, &w, packed), OC_OK);
        assert_int_equal(ops->lstm_forward(b, &s, packed, x, NULL, true, y, reserve), OC_OK);
        assert_int_equal(ops->fill(b, 0.25f, dy), OC_OK);
        assert_int_equal(ops->lstm_backward(b, &s, packed, x, y, dy, NULL, reserve, &dw), OC_OK);
        if (i == 1) {
            assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
            assert_int_equal(ops->fill(b, 7.0f, y), OC_OK);
            assert_int_equal(ops->fill(b, 7.0f, dw.w_ih[0]), OC_OK);
            assert_int_equal(oc_backend_replay(b, r), OC_OK);
        }
        out[i][0] = device_get(b, y);
        out[i][1] = device_get(b, dw.w_ih[0]);
    }
    assert_memory_equal(out[0][0], out[1][0], 4 * 5 * 6 * sizeof(float));
    assert_memory_equal(out[0][1], out[1][1], 24 * 3 * sizeof(float));
    oc_backend_recording_free(b, r);
    oc_backend_close(b);
}

/* ---------------------------------------------------------------- cuBLASLt */
static void products(void **state)
{
    (void)state;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) {
        lstm_errors worst = {0, 0};
        for (int i = 0; i < SHAPES; i++) {
            const lstm_case c = {shapes[i], shapes[i].layers > 1 ? 0.3f : 0, (oc_math)math, false};
            lstm_errors e;
            if (!good(&c, &e))
                fail_msg("shape %d, %s: %.2e %.2e", i, lstm_case_bounds[math].name, e.forward, e.backward);
            worst.forward = worse(worst.forward, e.forward);
            worst.backward = worse(worst.backward, e.backward);
            release(NULL);
        }
        printf("cuBLASLt, %s: worst forward %.2e, backward %.2e\n", lstm_case_bounds[math].name, worst.forward,
               worst.backward);
    }
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
}

/* A NaN goes through. */
static void products_nan(void **state)
{
    const lstm_case c = {{1, 3, 4, 5, 9}, 0, OC_MATH_BF16, false};
    float *x = host_numbers(2, 1, 3 * 4 * 5);
    (void)state;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    x[(1 * 3 + 1) * 5 + 2] = NAN;
    const lstm_run run = lstm_case_cuda(&c, x, LSTM_CASE_TRAINING, 1);
    for (int t = 0; t < 4; t++)
        for (int b = 0; b < 3; b++) assert_int_equal(isnan(run.y[(t * 3 + b) * 9]) != 0, b == 1 && t >= 1);
    for (int i = 0; i < 4; i++) assert_true(isnan(run.dw[i][0]));
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
}

static void products_recorded(void **state)
{
    (void)state;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    records(OC_MATH_BF16);
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
}

static void products_planted(void **state)
{
    const lstm_case c = {shapes[2], 0, OC_MATH_TF32, false};
    lstm_errors e;
    (void)state;
    if (!emulated) return;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    (void)setenv("OUTCRY_FAKE_PLANT", "turned", 1);
    assert_false(good(&c, &e));
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
}

static void products_fail(void **state)
{
    static const char *const calls[] = {"cublasLtCreate",
                                        "cublasLtMatmulDescCreate",
                                        "cublasLtMatmulDescSetAttribute",
                                        "cublasLtMatrixLayoutCreate",
                                        "cublasLtMatmulPreferenceCreate",
                                        "cublasLtMatmulPreferenceSetAttribute",
                                        "cublasLtMatmulAlgoGetHeuristic",
                                        "cublasLtMatmul"};
    (void)state;
    if (!emulated) return;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char word[128];
        (void)setenv("OUTCRY_FAKE_FAIL", calls[i], 1);
        snprintf(word, sizeof word, "%s of cuBLASLt 13.0.99 failed with CUBLAS_STATUS_EXECUTION_FAILED", calls[i]);
        fails_with(OC_MATH_BF16, word);
        release(NULL);
    }
    (void)setenv("OUTCRY_FAKE_FAIL", "none", 1);
    fails_with(OC_MATH_BF16, "no algorithm for a product 6 x 20 x 4");
    release(NULL);
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
}

/* ---------------------------------------------------------------- who computes */
static const char *products_of(oc_math math)
{
    static char said[64];
    oc_backend *b = device_open(4096, math);
    assert_non_null(b);
    snprintf(said, sizeof said, "%s", oc_backend_describe(b)->products);
    oc_backend_close(b);
    return said;
}

/* Never silent: what was wished for is there or refused, by the name of the file; what is taken by itself is said. */
static void choice(void **state)
{
    char *kept = getenv("OUTCRY_CUBLASLT"), file[512];
    (void)state;
    if (!emulated) return;
    snprintf(file, sizeof file, "%s", kept);
    assert_string_equal(products_of(OC_MATH_F32), "hand");
    assert_string_equal(products_of(OC_MATH_BF16), "cuBLASLt 13.0.99");
    (void)setenv("OUTCRY_FAKE_FAIL", "cublasLtMatmul", 1); /* small products stay at home */
    const lstm_case small = {shapes[1], 0, OC_MATH_BF16, false};
    (void)lstm_case_cuda(&small, host_numbers(2, 1, 5 * 12 * 4), LSTM_CASE_TRAINING, 1);
    (void)setenv("OUTCRY_CUDA_PRODUCT", "hand", 1);
    assert_string_equal(products_of(OC_MATH_BF16), "hand");
    (void)setenv("OUTCRY_CUBLASLT", "libnowhere.so.3", 1);
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    fails_with(OC_MATH_F32, "no cuBLASLt: libnowhere.so.3");
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    assert_string_equal(products_of(OC_MATH_TF32), "hand (no cuBLASLt)");
    (void)setenv("OUTCRY_CUBLASLT", OC_TEST_MODULE, 1); /* a library, but another one */
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    fails_with(OC_MATH_F32, "has no function cublasLtGetVersion");
    (void)setenv("OUTCRY_CUDA_PRODUCT", "fast", 1);
    oc_backend *b;
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    assert_int_equal(oc_backend_open(&b, &config), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "fast, not hand or lt"));
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    (void)setenv("OUTCRY_CUBLASLT", file, 1);
}

/* In emulation the doubles; on a GPU what the machine has, and where that is not there the tests are skipped. */
static bool libraries_there(void)
{
    oc_library all[OC_LIBRARIES_MAX];
    oc_backend *b = device_open(0, OC_MATH_F32);
    bool there = true;
    assert_non_null(b);
    emulated = strcmp(oc_backend_describe(b)->device, "emulation") == 0;
    oc_backend_close(b);
    if (emulated) (void)setenv("OUTCRY_CUBLASLT", OC_TEST_CUBLASLT, 1);
    const int count = oc_backend_libraries(all, OC_LIBRARIES_MAX);
    assert_in_range(count, 1, OC_LIBRARIES_MAX);
    for (int i = 0; i < count; i++) {
        printf("%s (%s): %s\n", all[i].name, all[i].purpose, all[i].about);
        if (strcmp(all[i].name, "NCCL") != 0) there = there && all[i].found; /* train.link has the double of that */
    }
    assert_true(there || !emulated);
    return there;
}

int main(int argc, char **argv) /* NAME: that test alone */
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(products, release),          cmocka_unit_test_teardown(products_nan, release),
        cmocka_unit_test_teardown(products_planted, release),  cmocka_unit_test_teardown(products_fail, release),
        cmocka_unit_test_teardown(products_recorded, release), cmocka_unit_test_teardown(choice, release),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    if (!libraries_there()) {
        printf("skipped: a library is not there\n");
        return 77;
    }
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
