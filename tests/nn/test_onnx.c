/* test_onnx.c - the exported file, read back and evaluated in f64 by onnx_evaluate.c, gives the model's answers.
 * Harness proven by a bundle changed after its export, which must differ. ONNX Runtime's word: check_bundle.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/onnx.h"
#include "nn/sample_bundle.h"

typedef struct onnx_case {
    oc_model_shape shape;
    double clip, error_max;
    bool fault;
} onnx_case;
static const onnx_case cases[] = {
    {{OC_TRUNK_LSTM, 20, 7, 2, 16, 4, 1}, 2.5, 1e-5, false}, /* measured 2e-7 and below in all rows */
    {{OC_TRUNK_LSTM, 9, 5, 1, 8, 0, 3}, 0, 1e-5, false},     {{OC_TRUNK_LSTM, 1, 3, 3, 6, 3, 2}, 8, 1e-5, false},
    {{OC_TRUNK_MLP, 4, 6, 2, 10, 0, 1}, 8, 1e-5, false},     {{OC_TRUNK_LSTM, 20, 7, 2, 16, 4, 1}, 2.5, 1e-5, true},
};

static char path[64];

static void agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        oc_bundle *b;
        double difference = (double)NAN;
        if (sample_bundle(&b, &cases[i].shape, 3.0f, cases[i].clip, i) != OC_OK || oc_onnx_write(b, path) != OC_OK)
            fail_msg("case %zu: %s", i, oc_status_message());
        if (cases[i].fault) b->flat[17] += 0.5f;
        if (oc_onnx_compare(b, path, 24, 3, &difference) != OC_OK) fail_msg("case %zu: %s", i, oc_status_message());
        print_message("case %zu: %.2e\n", i, difference);
        if ((difference <= cases[i].error_max) == cases[i].fault) fail_msg("case %zu: difference %g", i, difference);
        oc_bundle_close(b);
    }
}

static void damage_is_refused(void **state)
{
    (void)state;
    oc_bundle *b;
    double answer[3];
    const float window[20 * 7] = {0};
    char *good;
    size_t bytes;
    assert_int_equal(sample_bundle(&b, &cases[0].shape, 3.0f, 8, 1), OC_OK);
    assert_int_equal(oc_onnx_write(b, path), OC_OK);
    assert_int_equal(oc_file_read(path, 1 << 20, &good, &bytes), OC_OK);
    for (size_t length = 0; length < bytes; length += 97) { /* a graph cut short has no answer, and says so */
        assert_int_equal(oc_file_write(path, good, length), OC_OK);
        assert_int_not_equal(oc_onnx_evaluate(path, window, 1, 20, 7, answer, 3), OC_OK);
    }
    oc_memory_free(good);
    oc_bundle_close(b);
}

/* An export whose check fails must not cost the file that was there. */
static void export_keeps_the_old(void **state)
{
    (void)state;
    oc_bundle *b;
    char *old;
    size_t bytes;
    double difference;
    assert_int_equal(sample_bundle(&b, &cases[0].shape, 3.0f, 8, 1), OC_OK);
    assert_int_equal(oc_file_write(path, "old", 3), OC_OK);
    assert_int_equal(oc_onnx_export(b, path, 4, 1, -1, &difference), OC_EFAILED); /* no difference is below 0 */
    assert_non_null(strstr(oc_status_message(), path));
    assert_true(difference >= 0);
    assert_int_equal(oc_file_read(path, 1 << 20, &old, &bytes), OC_OK);
    assert_int_equal(bytes, 3);
    oc_memory_free(old);
    assert_int_equal(oc_onnx_export(b, path, 4, 1, 1e-5, &difference), OC_OK);
    assert_int_equal(oc_onnx_compare(b, path, 4, 1, &difference), OC_OK);
    oc_bundle_close(b);
}

static int setup(void **state)
{
    (void)state;
    snprintf(path, sizeof path, "/tmp/outcry-onnx-XXXXXX");
    int fd = mkstemp(path);
    return fd < 0 || close(fd) != 0;
}

static int teardown(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(agrees), cmocka_unit_test(damage_is_refused),
                                       cmocka_unit_test(export_keeps_the_old)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
