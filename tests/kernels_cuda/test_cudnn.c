/* The LSTM of training by cuDNN (lstm: cudnn), forward and backward, fused over the layers and one by one with dropout
 * between, in f32, tf32 and bf16, against naive double precision. In emulation a double stands in
 * (tests/emulation/fake_cudnn.cpp): what is proven is the plumbing, gate order, weight space, buffers, order of calls,
 * errors. On a GPU (label gpu) the same cases run on the real library, and prove it and our kernels equal. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels_cuda/device_case.h"
#include "kernels_cuda/library_case.h"
#include "kernels_cuda/lstm_case.h"

static int by_cudnn(void **state)
{
    (void)state;
    lstm_case_by = OC_LSTM_CUDNN;
    return 0;
}

static void layers(void **state)
{
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) {
        lstm_errors worst = {0, 0};
        for (int i = 0; i < 2 * LIBRARY_SHAPES; i++) {
            const oc_lstm_shape *s = &library_shapes[i / 2];
            const lstm_case c = {*s, i % 2 ? 0.3f : 0, (oc_math)math, false};
            lstm_errors e;
            if (s->layers == 1 && i % 2) continue; /* dropout lies between layers */
            lstm_case_by = OC_LSTM_CUDNN;
            if (!library_good(&c, &e))
                fail_msg("shape %d, dropout %g, %s: %.2e %.2e", i / 2, (double)c.dropout, lstm_case_bounds[math].name,
                         e.forward, e.backward);
            worst.forward = worse(worst.forward, e.forward);
            worst.backward = worse(worst.backward, e.backward);
            library_release(NULL);
        }
        printf("cuDNN, %s: worst forward %.2e, backward %.2e\n", lstm_case_bounds[math].name, worst.forward,
               worst.backward);
    }
}

/* The oracle of our kernels, per layer at dropout 0: f32, within the sum of both bounds. */
static void beside_ours(void **state)
{
    const lstm_case c = {{1, 9, 6, 5, 24}, 0, OC_MATH_F32, false};
    const float *x = host_numbers(2, 1, 9 * 6 * 5);
    double worst = 0;
    (void)state;
    const lstm_run theirs = lstm_case_cuda(&c, x, LSTM_CASE_TRAINING, 1);
    lstm_case_by = OC_LSTM_HAND;
    const lstm_run ours = lstm_case_cuda(&c, x, LSTM_CASE_TRAINING, 1);
    for (int i = 0; i < 9 * 6 * 24; i++) worst = worse(worst, fabs((double)theirs.y[i] - (double)ours.y[i]));
    printf("cuDNN and ours, f32: %.2e\n", worst);
    assert_true(worst <= 2 * lstm_case_bounds[OC_MATH_F32].forward);
    assert_true(memcmp(theirs.y, ours.y, sizeof(float) * 9 * 6 * 24) != 0); /* and not the same one twice */
}

/* Inference and single steps stay ours, with the bits of an LSTM by hand. */
static void inference_is_ours(void **state)
{
    const lstm_case c = {{2, 3, 4, 5, 9}, 0, OC_MATH_F32, false};
    const oc_lstm_shape *s = &c.shape;
    const float *x = host_numbers(2, 1, 3 * 4 * 5), *out[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        oc_backend *b = device_open_by(lstm_case_arena(s), OC_MATH_F32, i ? OC_LSTM_CUDNN : OC_LSTM_HAND);
        const oc_ops *ops = oc_backend_ops(b);
        const oc_lstm_weights w = lstm_case_weights(b, s);
        const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, s)),
                        once = device_bytes(b, ops->lstm_reserve_bytes(b, s, false)),
                        rows = device_put(b, x, OC_DTYPE_F32, 4, 3, 5), y = device_take(b, OC_DTYPE_F32, 4, 3, 9);
        assert_int_equal(ops->lstm_pack(b, s, &w, packed), OC_OK);
        assert_int_equal(ops->lstm_forward(b, s, packed, rows, NULL, false, y, once), OC_OK);
        out[i] = device_get(b, y);
        oc_backend_close(b);
    }
    assert_memory_equal(out[0], out[1], 4 * 3 * 9 * sizeof(float));
}

/* A validation runs in the reserve of training, with our kernels whoever trains. */
static void room_for_inference(void **state)
{
    static const oc_lstm_shape shapes[] = {{1, 300, 7, 2, 40}, {2, 64, 20, 3, 128}, {8, 16, 9, 1, 16}};
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++)
        for (int by = 0; by < 2; by++) {
            oc_backend *b = device_open_by(4096, (oc_math)math, by ? OC_LSTM_CUDNN : OC_LSTM_HAND);
            const oc_ops *ops = oc_backend_ops(b);
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
                assert_true(ops->lstm_reserve_bytes(b, &shapes[i], true) >=
                            ops->lstm_reserve_bytes(b, &shapes[i], false));
            oc_backend_close(b);
        }
}

static void nan_goes_through(void **state)
{
    const lstm_case c = {{2, 3, 4, 5, 9}, 0, OC_MATH_BF16, false};
    float *x = host_numbers(2, 1, 3 * 4 * 5);
    (void)state;
    x[(1 * 3 + 1) * 5 + 2] = NAN;
    const lstm_run run = lstm_case_cuda(&c, x, LSTM_CASE_TRAINING, 1);
    for (int t = 0; t < 4; t++)
        for (int b = 0; b < 3; b++) assert_int_equal(isnan(run.y[(t * 3 + b) * 9]) != 0, b == 1 && t >= 1);
    for (int i = 0; i < 8; i++) assert_true(isnan(run.dw[i][0]));
}

static void recorded(void **state)
{
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) library_records((oc_math)math);
}

static void planted(void **state)
{
    const lstm_case c = {library_shapes[2], 0, OC_MATH_F32, false};
    lstm_errors e;
    (void)state;
    if (!library_emulated) return;
    (void)setenv("OUTCRY_FAKE_PLANT", "gates", 1);
    assert_false(library_good(&c, &e));
}

static void fails(void **state)
{
    static const char *const calls[] = {"cudnnCreate",
                                        "cudnnCreateDropoutDescriptor",
                                        "cudnnSetDropoutDescriptor",
                                        "cudnnCreateRNNDescriptor",
                                        "cudnnSetRNNDescriptor_v8",
                                        "cudnnCreateRNNDataDescriptor",
                                        "cudnnSetRNNDataDescriptor",
                                        "cudnnCreateTensorDescriptor",
                                        "cudnnSetTensorNdDescriptor",
                                        "cudnnGetRNNWeightSpaceSize",
                                        "cudnnGetRNNTempSpaceSizes",
                                        "cudnnGetRNNWeightParams",
                                        "cudnnGetTensorNdDescriptor",
                                        "cudnnSetStream",
                                        "cudnnRNNForward",
                                        "cudnnRNNBackwardData_v8",
                                        "cudnnRNNBackwardWeights_v8"};
    (void)state;
    if (!library_emulated) return;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        char word[160];
        lstm_case_by = OC_LSTM_CUDNN;
        (void)setenv("OUTCRY_FAKE_FAIL", calls[i], 1);
        snprintf(word, sizeof word,
                 "%s of cuDNN 9.0.99 failed with CUDNN_STATUS_EXECUTION_FAILED: what the double was told", calls[i]);
        library_fails_with(i % 2 ? OC_MATH_F32 : OC_MATH_BF16, word);
        library_release(NULL);
    }
}

/* ---------------------------------------------------------------- who computes */
static oc_backend_info said_of(oc_lstm_by lstm)
{
    oc_backend *b = device_open_by(4096, OC_MATH_F32, lstm);
    assert_non_null(b);
    const oc_backend_info info = *oc_backend_describe(b);
    oc_backend_close(b);
    return info;
}

static void choice(void **state)
{
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU, .lstm = OC_LSTM_CUDNN};
    oc_backend *b;
    char file[512];
    (void)state;
    assert_int_equal(oc_backend_open(&b, &cpu), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "lstm is cudnn"));
    assert_string_equal(said_of(OC_LSTM_HAND).lstm_by, "hand");
    assert_string_equal(said_of(OC_LSTM_AUTO).lstm_by, "hand (auto: cuDNN not measured)");
    assert_int_equal(said_of(OC_LSTM_AUTO).lstm, OC_LSTM_HAND);
    if (!library_emulated) return;
    assert_string_equal(said_of(OC_LSTM_CUDNN).lstm_by, "cuDNN 9.0.99");
    assert_int_equal(said_of(OC_LSTM_CUDNN).lstm, OC_LSTM_CUDNN);
    assert_non_null(strstr(said_of(OC_LSTM_CUDNN).reason, "LSTM in training by cuDNN 9.0.99"));
    (void)setenv("OUTCRY_CUDNN_ALGORITHM", "persist", 1);
    assert_string_equal(said_of(OC_LSTM_CUDNN).lstm_by, "cuDNN 9.0.99 persist");
    (void)unsetenv("OUTCRY_CUDNN_ALGORITHM");
    snprintf(file, sizeof file, "%s", getenv("OUTCRY_CUDNN"));
    (void)setenv("OUTCRY_CUDNN", "libnowhere.so.9", 1);
    library_fails_with(OC_MATH_F32, "no cuDNN: libnowhere.so.9");
    (void)setenv("OUTCRY_CUDNN", file, 1);
}

int main(int argc, char **argv) /* NAME: that test alone */
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, by_cudnn, library_release)
    const struct CMUnitTest tests[] = {
        TEST(layers),
        TEST(beside_ours),
        TEST(inference_is_ours),
        TEST(nan_goes_through),
        TEST(planted),
        TEST(recorded),
        TEST(fails),
        TEST(choice),
        TEST(room_for_inference),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    if (!library_there("cuDNN")) return 77;
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
