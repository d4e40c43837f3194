/* test_memory.c - training on 1 M rows of 64 features peaks under 1 GB over the data itself (issue: must show).
 * Oracle: the kernel's own peak of this process, taken before the job and after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <cmocka.h>

#include "base/log.h"
#include "train/sample_run.h"

enum { ROWS_EACH = 333334, WIDTH = 64 };

static double peak_megabytes(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return (double)u.ru_maxrss / 1024;
}

static void peak(void **state)
{
    (void)state;
    char path[96];
    oc_train_result result;
    assert_int_equal(root_make(), 0);
    snprintf(path, sizeof path, "%s/sample.h5", root);
    sample_dataset *s = sample_dataset_open(path, ROWS_EACH, WIDTH);
    snprintf(path, sizeof path, "%s/run", root);
    double before = peak_megabytes();
    oc_status status = sample_train(s, path, false,
                                    SETS("window.steps=100", "model.hidden=64", "model.heads=4", "train.batch=256",
                                         "train.shards=8", "threads=2", "train.epochs=1", "train.windows_per_epoch=512",
                                         "train.valid_every=0", "train.valid_windows=1024"),
                                    &result);
    double over = peak_megabytes() - before;
    print_message("data %.0f MB, peak %.0f MB over it\n", before, over);
    assert_int_equal(root_remove(), 0);
    sample_dataset_close(s);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    assert_true(before > 256); /* the data were there when the measure began */
    assert_true(over <= 1000); /* measured 37: graphs, gradients, list of windows */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(peak)};
    oc_log_set_level(OC_LOG_WARN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
