/* The LSTM of kernels/cuda with its large products by cuBLASLt. In emulation a double stands in
 * (tests/emulation/fake_cublaslt.cpp): plain arithmetic that believes only what it is told, so what is proven is the
 * plumbing: layouts, transposes, leading dimensions, errors; forward and backward against naive double precision. The
 * doubles can be told to compute wrongly, which must be noticed, and each function of theirs to fail, which must become
 * an error that names it. On a GPU (label gpu) the same cases run on the real libraries. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/oracle_backward.h"
#include "kernels_cuda/device_case.h"
#include "kernels_cuda/library_case.h"
#include "kernels_cuda/lstm_case.h"

static void products(void **state)
{
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) {
        lstm_errors worst = {0, 0};
        for (int i = 0; i < LIBRARY_SHAPES; i++) {
            const lstm_case c = {library_shapes[i], library_shapes[i].layers > 1 ? 0.3f : 0, (oc_math)math, false};
            lstm_errors e;
            (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
            if (!library_good(&c, &e))
                fail_msg("shape %d, %s: %.2e %.2e", i, lstm_case_bounds[math].name, e.forward, e.backward);
            worst.forward = worse(worst.forward, e.forward);
            worst.backward = worse(worst.backward, e.backward);
            library_release(NULL);
        }
        printf("cuBLASLt, %s: worst forward %.2e, backward %.2e\n", lstm_case_bounds[math].name, worst.forward,
               worst.backward);
    }
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
}

static void products_recorded(void **state)
{
    (void)state;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    library_records(OC_MATH_BF16);
}

static void products_planted(void **state)
{
    const lstm_case c = {library_shapes[2], 0, OC_MATH_TF32, false};
    lstm_errors e;
    (void)state;
    if (!library_emulated) return;
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    (void)setenv("OUTCRY_FAKE_PLANT", "turned", 1);
    assert_false(library_good(&c, &e));
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
    if (!library_emulated) return;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char word[128];
        (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
        (void)setenv("OUTCRY_FAKE_FAIL", calls[i], 1);
        snprintf(word, sizeof word, "%s of cuBLASLt 13.0.99 failed with CUBLAS_STATUS_EXECUTION_FAILED", calls[i]);
        library_fails_with(OC_MATH_BF16, word);
        library_release(NULL);
    }
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    (void)setenv("OUTCRY_FAKE_FAIL", "none", 1);
    library_fails_with(OC_MATH_BF16, "no algorithm for a product 6 x 20 x 4");
    library_release(NULL);
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
    if (!library_emulated) return;
    snprintf(file, sizeof file, "%s", kept);
    assert_string_equal(products_of(OC_MATH_F32), "hand");
    assert_string_equal(products_of(OC_MATH_BF16), "cuBLASLt 13.0.99");
    (void)setenv("OUTCRY_FAKE_FAIL", "cublasLtMatmul", 1); /* small products stay at home */
    const lstm_case small = {library_shapes[1], 0, OC_MATH_BF16, false};
    (void)lstm_case_cuda(&small, host_numbers(2, 1, 5 * 12 * 4), LSTM_CASE_TRAINING, 1);
    (void)setenv("OUTCRY_CUDA_PRODUCT", "hand", 1);
    assert_string_equal(products_of(OC_MATH_BF16), "hand");
    (void)setenv("OUTCRY_CUBLASLT", "libnowhere.so.3", 1);
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    library_fails_with(OC_MATH_F32, "no cuBLASLt: libnowhere.so.3");
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    assert_string_equal(products_of(OC_MATH_TF32), "hand (no cuBLASLt)");
    (void)setenv("OUTCRY_CUBLASLT", OC_TEST_MODULE, 1); /* a library, but another one */
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    library_fails_with(OC_MATH_F32, "has no function cublasLtGetVersion");
    (void)setenv("OUTCRY_CUDA_PRODUCT", "fast", 1);
    oc_backend *b;
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    assert_int_equal(oc_backend_open(&b, &config), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "fast, not hand or lt"));
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    (void)setenv("OUTCRY_CUBLASLT", file, 1);
}

int main(int argc, char **argv) /* NAME: that test alone */
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(products, library_release),
        cmocka_unit_test_teardown(products_nan, library_release),
        cmocka_unit_test_teardown(products_planted, library_release),
        cmocka_unit_test_teardown(products_fail, library_release),
        cmocka_unit_test_teardown(products_recorded, library_release),
        cmocka_unit_test_teardown(choice, library_release),
    };
    (void)setenv("OUTCRY_CUDA_LSTM", "twin", 1); /* x . W as a product of its own, whatever the table chooses */
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    if (!library_there("cuBLASLt")) {
        return 77;
    }
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
