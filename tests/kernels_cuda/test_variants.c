/* The variants of the LSTM (kernels/cuda/choice.cuh) against one another: in emulation each has the bits of the step by
 * step twin, in two orders of threads, whole or in chunks; on a GPU, where fragments may round in another order than
 * the twin's products, each lies within the bounds of its math. Every persistent kernel of the module is run at least
 * twice: counted by the emulation, so one that no shape leads to is found. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "emulation/counts.h"
#include "kernels/oracle_backward.h"
#include "kernels_cuda/covering.h"
#include "kernels_cuda/device_case.h"
#include "kernels_cuda/lstm_case.h"

/* As the launches name them. */
static const char *const kernels[] = {
    "lstm_scan<OC_MATH_BF16, 2, 1, false>",
    "lstm_scan<OC_MATH_BF16, 4, 1, false>",
    "lstm_scan<OC_MATH_BF16, 8, 1, false>",
    "lstm_scan<OC_MATH_BF16, 2, 4, false>",
    "lstm_scan<OC_MATH_BF16, 4, 4, false>",
    "lstm_scan<OC_MATH_BF16, 8, 2, false>",
    "lstm_scan<OC_MATH_BF16, 2, 1, true>",
    "lstm_scan<OC_MATH_BF16, 4, 1, true>",
    "lstm_scan<OC_MATH_BF16, 8, 1, true>",
    "lstm_scan<OC_MATH_BF16, 2, 2, true>",
    "lstm_scan<OC_MATH_BF16, 4, 2, true>",
    "lstm_scan<OC_MATH_BF16, 8, 2, true>",
    "lstm_scan<OC_MATH_TF32, 2, 1, false>",
    "lstm_scan<OC_MATH_TF32, 4, 1, false>",
    "lstm_scan<OC_MATH_TF32, 8, 1, false>",
    "lstm_scan<OC_MATH_TF32, 2, 4, false>",
    "lstm_scan<OC_MATH_TF32, 4, 4, false>",
    "lstm_scan<OC_MATH_TF32, 2, 1, true>",
    "lstm_scan<OC_MATH_TF32, 4, 1, true>",
    "lstm_scan<OC_MATH_TF32, 2, 2, true>",
    "lstm_scan<OC_MATH_TF32, 4, 2, true>",
    "lstm_scan_f32<32, 2>",
    "lstm_scan_f32<64, 2>",
    "lstm_scan_f32<128, 2>",
    "lstm_scan_f32<32, 8>",
    "lstm_scan_f32<64, 8>",
    "lstm_scan_f32<128, 8>",
    "lstm_scan_gradient<OC_MATH_BF16, 2, 1>",
    "lstm_scan_gradient<OC_MATH_BF16, 4, 1>",
    "lstm_scan_gradient<OC_MATH_BF16, 8, 1>",
    "lstm_scan_gradient<OC_MATH_BF16, 2, 2>",
    "lstm_scan_gradient<OC_MATH_BF16, 4, 2>",
    "lstm_scan_gradient<OC_MATH_BF16, 8, 2>",
    "lstm_scan_gradient<OC_MATH_TF32, 2, 1>",
    "lstm_scan_gradient<OC_MATH_TF32, 4, 1>",
    "lstm_scan_gradient<OC_MATH_TF32, 8, 1>",
    "lstm_scan_gradient<OC_MATH_TF32, 2, 2>",
    "lstm_scan_gradient<OC_MATH_TF32, 4, 2>",
    "lstm_scan_gradient<OC_MATH_TF32, 8, 2>",
    "lstm_scan_gradient_f32<32, 2>",
    "lstm_scan_gradient_f32<64, 2>",
    "lstm_scan_gradient_f32<128, 2>",
    "lstm_scan_gradient_f32<32, 8>",
    "lstm_scan_gradient_f32<64, 8>",
    "lstm_scan_gradient_f32<128, 8>",
    "lstm_cell",
    "lstm_cell_gradient",
};

static int release(void **state)
{
    (void)state;
    (void)unsetenv("OUTCRY_CUDA_LSTM");
    device_release();
    oracle_release();
    return 0;
}

static bool emulated(void)
{
    oc_backend *b = device_open(0, OC_MATH_F32);
    const bool is = b && strcmp(oc_backend_describe(b)->device, "emulation") == 0;
    oc_backend_close(b);
    return is;
}

static bool within(const lstm_case *c, const float *x, const lstm_run *run)
{
    const lstm_errors e = lstm_case_errors(c, x, run);
    return e.forward <= lstm_case_bounds[c->math].forward && e.backward <= lstm_case_bounds[c->math].backward;
}

/* The variant beside the twin's run; seeds 1 … seeds. */
static void compare(const lstm_case *c, const char *variant, const float *x, const lstm_run *twin, int seeds)
{
    (void)setenv("OUTCRY_CUDA_LSTM", variant, 1);
    for (int seed = 1; seed <= seeds; seed++) {
        const lstm_run run = lstm_case_cuda(c, x, LSTM_CASE_BACKWARD, seed);
        if (emulated())
            lstm_case_same(c, twin, &run);
        else
            assert_true(within(c, x, &run));
    }
}

static void shape_check(const lstm_case *c, bool wave, int seeds)
{
    const oc_lstm_shape *s = &c->shape;
    const float *x = host_numbers(2, 1, (int64_t)s->steps * s->batch * s->inputs);
    (void)setenv("OUTCRY_CUDA_LSTM", "twin", 1);
    const lstm_run twin = lstm_case_cuda(c, x, LSTM_CASE_BACKWARD, 1);
    for (int v = 1; v < COVERING_VARIANTS; v++) {
        const covering_case as = {{s->batch, s->steps, s->inputs, s->hidden, (int)c->math, v}};
        if ((v % 2 == 0 || wave) && covering_lstm_work(&as) < INT64_MAX)
            compare(c, covering_variants[v], x, &twin, seeds);
    }
    release(NULL);
}

/* Every width of kernel, with few rows and with many; in emulation 4 multiprocessors, so 33 rows are many. */
static void every_kernel(void **state)
{
    static const int hidden[] = {8, 50, 128};
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++)
        for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
            for (int batch = 3; batch <= 33; batch += 30) {
                const lstm_case c = {{1, batch, 2, 5, hidden[i]}, 0, (oc_math)math, false};
                shape_check(&c, false, 2);
            }
    void *module = dlopen(getenv("OUTCRY_CUDA_MODULE"), RTLD_NOW | RTLD_NOLOAD);
    oc_emulation_ran ran = NULL;
    if (module) *(void **)&ran = dlsym(module, OC_EMULATION_RAN);
    assert_true(ran || !emulated());
    int missing = 0;
    for (size_t i = 0; ran && i < sizeof kernels / sizeof *kernels; i++)
        if (!(ran(kernels[i]) >= 2)) missing += printf("%s ran %d times\n", kernels[i], (int)ran(kernels[i])) > 0;
    assert_int_equal(missing, 0);
    if (ran) assert_int_equal(ran("lstm_scan"), 0); /* the count can say no */
}

/* A wavefront's chunks have the bits of the whole: 16 steps and a rest, three chunks, dropout, many layers. */
static void chunks(void **state)
{
    static const oc_lstm_shape shapes[] = {{2, 3, 35, 4, 20},
                                           {3, 1, 17, 7, 40},
                                           {2, 34, 18, 2, 12},
                                           {8, 2, 19, 3, 5},
                                           {1, 3, 2, 40, 8} /* saturated: lstm_case_bounds */};
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const lstm_case c = {shapes[i], i % 2 == 0 ? 0.3f : 0, (oc_math)math, false};
            shape_check(&c, true, i == 0 ? 3 : 1);
        }
}

/* The wavefront in a recording, whose lanes the emulation runs in a drawn order wherever nothing orders them: a layer
 * that did not wait for the one below, or dW for the lanes, would be found. */
static void wave_recorded(oc_math math, int seed)
{
    enum { PARTS = 8 };
    const lstm_case c = {{2, 2, 34, 3, 12}, 0, math, false};
    const oc_lstm_shape *s = &c.shape;
    const int64_t states = (int64_t)s->steps * s->batch * s->hidden;
    const float *x_host = host_numbers(2, 1, (int64_t)s->steps * s->batch * s->inputs);
    const lstm_run plain = lstm_case_cuda(&c, x_host, LSTM_CASE_TRAINING, 1);
    char text[16];
    snprintf(text, sizeof text, "%d", seed);
    (void)setenv("OUTCRY_EMULATION_SEED", text, 1);
    oc_backend *b = device_open(2 * lstm_case_arena(s), math);
    const oc_ops *ops = oc_backend_ops(b);
    oc_recording *r;
    const oc_lstm_weights w = lstm_case_weights(b, s), dw = lstm_case_weights(b, s);
    const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, s)),
                    reserve = device_bytes(b, ops->lstm_reserve_bytes(b, s, true)),
                    x = device_put(b, x_host, OC_DTYPE_F32, s->steps, s->batch, s->inputs),
                    y = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->hidden),
                    dy = device_put(b, host_numbers(3, 1, states), OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    assert_int_equal(ops->lstm_pack(b, s, &w, packed), OC_OK);
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    assert_int_equal(ops->lstm_forward(b, s, packed, x, NULL, true, y, reserve), OC_OK);
    assert_int_equal(ops->lstm_backward(b, s, packed, x, y, dy, NULL, reserve, &dw), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_memory_equal(device_get(b, y), plain.y, (size_t)states * sizeof(float));
    for (int i = 0; i < PARTS; i++) {
        const oc_tensor *const all[4] = {dw.w_ih, dw.w_hh, dw.b_ih, dw.b_hh};
        assert_memory_equal(device_get(b, all[i % 4][i / 4]), plain.dw[i],
                            (size_t)lstm_case_part_count(s, i / 4, i % 4) * sizeof(float));
    }
    oc_backend_recording_free(b, r);
    oc_backend_close(b);
    device_release();
}

static void recorded(void **state)
{
    (void)state;
    for (int seed = 1; seed <= 6; seed++) {
        (void)setenv("OUTCRY_CUDA_LSTM", seed % 2 ? "scan-wave" : "twin-wave", 1);
        wave_recorded(seed % 3 ? OC_MATH_F32 : OC_MATH_BF16, seed);
    }
}

/* A shape that the wished variant does not serve, a name that is none. */
static void refusals(void **state)
{
    const oc_lstm_shape wide = {1, 2, 3, 4, 129}, inputs = {1, 2, 3, 161, 8};
    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)setenv("OUTCRY_CUDA_LSTM", i ? "fused" : "scan", 1);
        oc_backend *b = device_open(1 << 20, OC_MATH_BF16);
        const oc_ops *ops = oc_backend_ops(b);
        const oc_lstm_shape *s = i ? &inputs : &wide;
        const oc_tensor packed = device_bytes(b, ops->lstm_packed_bytes(b, s)),
                        reserve = device_bytes(b, ops->lstm_reserve_bytes(b, s, true)),
                        x = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->inputs),
                        y = device_take(b, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
        assert_int_equal(ops->lstm_forward(b, s, packed, x, NULL, true, y, reserve), OC_ELIMIT);
        assert_non_null(strstr(oc_status_message(), i ? "OUTCRY_CUDA_LSTM=fused does not serve 8 hidden, 161 inputs"
                                                      : "OUTCRY_CUDA_LSTM=scan does not serve 129 hidden, 4 inputs"));
        assert_non_null(
            strstr(oc_status_message(), "up to 128 hidden and, with x . W inside (tf32, bf16), 160 inputs"));
        oc_backend_close(b);
    }
    (void)setenv("OUTCRY_CUDA_LSTM", "quick", 1);
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .arena_bytes = 4096, .partial = true};
    oc_backend *b = NULL;
    assert_int_equal(oc_backend_open(&b, &config), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "\"quick\", not one of twin scan fused"));
}

int main(int argc, char **argv) /* NAME: that test alone */
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(every_kernel, release),
        cmocka_unit_test_teardown(chunks, release),
        cmocka_unit_test_teardown(recorded, release),
        cmocka_unit_test_teardown(refusals, release),
    };
    const int skipped = device_skip();
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    if (skipped >= 0) return skipped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
