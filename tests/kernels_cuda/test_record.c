/* Recordings (kernels/ops.h): what is kept is not run, a replay does what the calls did, on what lies in memory then;
 * pinned memory; faults and failures of a replay; a recording that is dropped. On a GPU the same by CUDA graphs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels_cuda/device_case.h"

enum { ARENA = 1 << 20, COUNT = 300 };

static int release(void **state)
{
    (void)state;
    device_release();
    return 0;
}

static oc_backend *open_some(void)
{
    oc_backend *b = device_open(ARENA, OC_MATH_F32);
    assert_non_null(b);
    assert_true(oc_backend_describe(b)->records);
    return b;
}

/* pinned [2 COUNT] -> x; y = 0.5 y + 0.5 x; y -> pinned + COUNT */
static oc_status blend(oc_backend *b, float *pinned, oc_tensor x, oc_tensor y)
{
    OC_TRY(oc_backend_upload(b, x, pinned, COUNT * sizeof *pinned));
    OC_TRY(oc_backend_ops(b)->blend(b, 0.5f, x, y));
    OC_TRY(oc_backend_download(b, pinned + COUNT, COUNT * sizeof *pinned, y));
    return OC_OK;
}

static void replays(void **state)
{
    oc_backend *b = open_some();
    oc_recording *r;
    void *at;
    (void)state;
    const oc_tensor x = device_take(b, OC_DTYPE_F32, COUNT, 1, 1), y = device_take(b, OC_DTYPE_F32, COUNT, 1, 1);
    assert_int_equal(oc_backend_pin(b, 2 * COUNT * sizeof(float), &at), OC_OK);
    float *pinned = at, wanted = 0;
    for (int i = 0; i < 2 * COUNT; i++) assert_true(pinned[i] == 0.0f);
    assert_int_equal(blend(b, pinned, x, y), OC_OK); /* once before it is recorded */
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    for (int i = 0; i < COUNT; i++) pinned[i] = 7;
    assert_int_equal(blend(b, pinned, x, y), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    assert_true(pinned[COUNT] == 0.0f); /* kept, not run */
    for (int n = 1; n <= 5; n++) {
        for (int i = 0; i < COUNT; i++) pinned[i] = (float)n;
        assert_int_equal(oc_backend_replay(b, r), OC_OK);
        assert_int_equal(oc_backend_wait(b), OC_OK);
        wanted = 0.5f * wanted + 0.5f * (float)n;
        for (int i = 0; i < COUNT; i++) assert_true(pinned[COUNT + i] == wanted);
    }
    assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, y), OC_OK); /* and beside plain calls */
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    assert_true(pinned[COUNT] == 3.0f);
    oc_backend_recording_free(b, r);
    oc_backend_unpin(b, at);
    oc_backend_close(b);
}

static void dropped(void **state)
{
    oc_backend *b = open_some();
    (void)state;
    const oc_tensor x = device_take(b, OC_DTYPE_F32, COUNT, 1, 1);
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, x), OC_OK);
    const oc_tensor three = oc_tensor_make(x.data, OC_DTYPE_F32, 3, COUNT / 3, 1, 1);
    assert_int_equal(oc_backend_ops(b)->tree_sum(b, three, oc_tensor_make(x.data, OC_DTYPE_F32, COUNT / 3, 1, 1, 1)),
                     OC_ELIMIT);
    oc_backend_record_drop(b);
    oc_backend_record_drop(b);
    const float *got = device_get(b, x);
    assert_true(got[0] == 0.0f);
    assert_int_equal(oc_backend_ops(b)->fill(b, 2.0f, x), OC_OK);
    got = device_get(b, x);
    assert_true(got[COUNT - 1] == 2.0f);
    assert_int_equal(oc_backend_record_begin(b), OC_OK); /* and closed in the midst of one */
    oc_backend_close(b);
}

static void faults(void **state)
{
    oc_backend *b = open_some();
    oc_recording *r;
    int64_t index = 3;
    float row[8] = {0};
    (void)state;
    const oc_tensor rows = device_put(b, row, OC_DTYPE_F32, 8, 1, 1), at = device_put(b, &index, OC_DTYPE_I64, 1, 1, 1),
                    one = device_put(b, (const float[]){1}, OC_DTYPE_F32, 1, 1, 1),
                    x = device_take(b, OC_DTYPE_F32, 2, 1, 1);
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    assert_int_equal(oc_backend_ops(b)->gather_scale(b, rows, at, one, one, 0.0f, x), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    index = 8;
    assert_int_equal(oc_backend_upload(b, at, &index, sizeof index), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_EDATA);
    assert_string_equal(oc_status_message(), "gather_scale: window 0 does not lie in the rows");
    if (strcmp(oc_backend_describe(b)->device, "emulation") == 0) {
        (void)setenv("OUTCRY_EMULATION_FAIL", "gather", 1);
        assert_int_equal(oc_backend_replay(b, r), OC_EFAILED);
        (void)unsetenv("OUTCRY_EMULATION_FAIL");
        assert_non_null(
            strstr(oc_status_message(), "the last kernel started was one of a recording; OUTCRY_CUDA_WAIT=1"));
    }
    oc_backend_recording_free(b, r);
    oc_backend_close(b);
}

/* Who looks for the kernel that breaks, or wishes so, runs every operation by itself. */
static void not_wished(void **state)
{
    static const char *const names[][2] = {{"OUTCRY_CUDA_RECORD", "0"}, {"OUTCRY_CUDA_WAIT", "1"}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)setenv(names[i][0], names[i][1], 1);
        oc_backend *b = device_open(ARENA, OC_MATH_F32);
        (void)unsetenv(names[i][0]);
        assert_false(oc_backend_describe(b)->records);
        oc_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(replays, release),
        cmocka_unit_test_teardown(dropped, release),
        cmocka_unit_test_teardown(faults, release),
        cmocka_unit_test_teardown(not_wished, release),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
