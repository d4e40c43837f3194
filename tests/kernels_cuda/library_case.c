/* library_case.c - see the header. */
#include "kernels_cuda/library_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/oracle_backward.h"
#include "kernels_cuda/device_case.h"

bool library_emulated;
const oc_lstm_shape library_shapes[LIBRARY_SHAPES] = {{1, 1, 1, 1, 1},    {3, 5, 12, 4, 33}, {2, 65, 3, 5, 40},
                                                      {1, 3, 2, 40, 100}, {2, 16, 5, 1, 8},  {2, 3, 3, 3, 140}};

int library_release(void **state)
{
    (void)state;
    device_release();
    oracle_release();
    (void)unsetenv("OUTCRY_FAKE_FAIL");
    (void)unsetenv("OUTCRY_FAKE_PLANT");
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    lstm_case_by = OC_LSTM_HAND;
    return 0;
}

bool library_there(const char *name)
{
    oc_library all[OC_LIBRARIES_MAX];
    oc_backend *b = device_open(0, OC_MATH_F32);
    assert_non_null(b);
    library_emulated = strcmp(oc_backend_describe(b)->device, "emulation") == 0;
    oc_backend_close(b);
    if (library_emulated) {
        (void)setenv("OUTCRY_CUBLASLT", OC_TEST_CUBLASLT, 1);
        (void)setenv("OUTCRY_CUDNN", OC_TEST_CUDNN, 1);
    }
    const int count = oc_backend_libraries(all, OC_LIBRARIES_MAX);
    for (int i = 0; i < count; i++) {
        if (strcmp(all[i].name, name) != 0) continue;
        printf("%s%s (%s): %s\n", all[i].found ? "" : "skipped: no ", all[i].name, all[i].purpose, all[i].about);
        assert_true(all[i].found || !library_emulated);
        return all[i].found;
    }
    fail_msg("%s is not in the list", name);
    return false;
}

bool library_good(const lstm_case *c, lstm_errors *e)
{
    const oc_lstm_shape *s = &c->shape;
    const float *x = host_numbers(2, 1, (int64_t)s->steps * s->batch * s->inputs);
    const lstm_run run = lstm_case_cuda(c, x, LSTM_CASE_TRAINING, 1),
                   again = lstm_case_cuda(c, x, LSTM_CASE_TRAINING, 2);
    lstm_case_same(c, &run, &again);
    *e = lstm_case_errors(c, x, &run);
    return e->forward <= lstm_case_bounds[c->math].forward && e->backward <= lstm_case_bounds[c->math].backward;
}

void library_fails_with(oc_math math, const char *word)
{
    const oc_backend_config config = {
        .kind = OC_BACKEND_CUDA, .arena_bytes = 1 << 20, .math = math, .lstm = lstm_case_by, .partial = true};
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

void library_records(oc_math math)
{
    const oc_backend_config config = {
        .kind = OC_BACKEND_CUDA, .arena_bytes = 1 << 22, .math = math, .lstm = lstm_case_by, .partial = true};
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
