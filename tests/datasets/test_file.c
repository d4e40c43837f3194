/* test_file.c - the HDF5 dataset: what is written comes back, and nothing else is accepted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datasets/synthetic.h"

static const char path[] = "test_datasets_file.h5";

static void round_trip(void **state)
{
    const synthetic s = {.rows = 5000, .width = 70, .symbols = 3, .seed = 7, .labels = {"direction:10:0.0002", "smooth:5:0.0001"},
                         .break_every = 700};
    oc_dataset *d;
    oc_hash root;
    (void)state;
    assert_int_equal(synthetic_write(path, &s, &root), OC_OK);
    oc_status status = oc_dataset_open(&d, path);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(d->rows, 15000);
    assert_true(oc_hash_equal(root, d->root));
    assert_string_equal(d->symbols[2].name, "S2");
    assert_string_equal(d->features[69], "f69");
    oc_dataset_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
