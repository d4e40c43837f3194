/* Rows that a device does not hold (train/rows.c): an epoch in blocks visits every window once; streamed through two
 * halves of a device it gives the weights of a CPU that has all rows and takes the same order, within rounding,
 * whatever steps go together and after a stop; a device that is too small streams by itself; and what cannot be is
 * refused with words. Harness proven by the order without blocks, whose weights must be others. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "nn/bundle.h"
#include "train/loop.h"
#include "train/sample_run.h"

enum { EACH = 70, WIDTH = 3, STEPS = 4, HALF_ROWS = 30 };
static sample_dataset *data;
static const char *const streamed = "train.device_rows_mb=0.00072"; /* 2 HALF_ROWS WIDTH 4 bytes */

static const char *folder(const char *name)
{
    static char path[4][128];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, 128, "%s/%s", root, name);
    return out;
}

#define SMALL                                                                                                          \
    "train.epochs=2", "train.windows_per_epoch=0", "train.batch=8", "window.steps=4", "model.hidden=6",                \
        "train.valid_windows=0", "train.valid_every=7", "threads=2"

static oc_status run(const char *name, bool resume, const char *backend, const char *rows, const char *more,
                     oc_train_result *result)
{
    return sample_train(data, folder(name), resume, SETS(SMALL, backend, rows, more), result);
}

static oc_train_result run_ok(const char *name, bool resume, const char *backend, const char *rows, const char *more)
{
    oc_train_result result;
    if (run(name, resume, backend, rows, more, &result) != OC_OK) fail_msg("%s: %s", name, oc_status_message());
    return result;
}

/* Largest difference of weights over the largest weight, between two runs' bundles. */
static double distance(const char *one, const char *other)
{
    oc_bundle *b[2];
    oc_parameters p;
    double most = 0, scale = 0;
    const char *const names[2] = {one, other};
    for (int i = 0; i < 2; i++) {
        char path[192];
        snprintf(path, sizeof path, "%s/model", folder(names[i]));
        if (oc_bundle_load(&b[i], path) != OC_OK) fail_msg("%s", oc_status_message());
    }
    oc_parameters_describe(&p, &b[0]->shape);
    for (size_t i = 0; i < p.total; i++) {
        most = fmax(most, fabs((double)b[0]->flat[i] - (double)b[1]->flat[i]));
        scale = fmax(scale, fabs((double)b[0]->flat[i]));
    }
    for (int i = 0; i < 2; i++) oc_bundle_close(b[i]);
    return most / scale;
}

static bool log_has(const char *name, const char *word)
{
    char path[192], line[4096] = "";
    snprintf(path, sizeof path, "%s/log.jsonl", folder(name));
    FILE *file = fopen(path, "r");
    if (!file || !fgets(line, sizeof line, file)) fail_msg("%s: no log", path);
    (void)fclose(file);
    return strstr(line, word) != NULL;
}

static oc_status engine_of(const char *const *sets, train_plan **plan, train_engine **e)
{
    static oc_comm comm;
    comm = oc_comm_single();
    oc_config *config = sample_config(sets);
    if (train_plan_open(plan, config, &data->d, &data->folds, 0) != OC_OK) fail_msg("%s", oc_status_message());
    oc_config_close(config);
    const oc_status status = train_engine_open(e, *plan, &comm);
    if (status != OC_OK) train_plan_close(*plan);
    return status;
}

/* Every window once, never more than a block's rows apart within a block, blocks and windows in another order in the
 * next epoch; intervals reach to the end of a block, and over it by single steps. */
static void order(void **state)
{
    train_plan *p;
    train_engine *e;
    char text[64];
    long long blocks, rows;
    (void)state;
    assert_int_equal(engine_of(SETS(SMALL, "backend=cpu", streamed), &p, &e), OC_OK);
    assert_int_equal(
        sscanf(train_engine_rows_text(e, text, sizeof text), "in memory, %lld blocks of %lld rows", &blocks, &rows), 2);
    print_message("%s, %zu windows\n", text, p->train.count);
    assert_true(blocks >= 3 && rows <= HALF_ROWS);
    int *visits = calloc(data->d.rows, sizeof *visits), still = 0, moves = 0;
    int64_t *before = calloc(p->train.count, sizeof *before);
    assert_true(visits && before);
    for (int64_t epoch = 0; epoch < 3; epoch++) {
        int64_t low = INT64_MAX, high = 0;
        for (int64_t at = 0; at < p->epoch_windows; at++) {
            const int64_t row = train_engine_window(e, epoch, at);
            visits[row]++;
            still += epoch > 0 && before[at] == row;
            before[at] = row;
            low = row < low ? row : low;
            high = row > high ? row : high;
            if (high - low + STEPS > rows) {
                moves++;
                low = high = row;
            }
        }
        for (int64_t at = 0; at < p->epoch_windows;) {
            const int64_t reach = train_engine_reach(e, epoch, at);
            assert_true(reach > 0 && at + reach <= p->epoch_windows);
            assert_true(reach % p->o.batch == 0 || at + reach == p->epoch_windows);
            at += reach;
        }
    }
    for (size_t i = 0; i < p->train.count; i++) assert_int_equal(visits[p->train.row[i]], 3);
    assert_true(moves <= 3 * (blocks - 1) && still < (int)p->train.count / 4);
    free(visits);
    free(before);
    train_engine_close(e);
    train_plan_close(p);
}

/* Measured in emulation: 2e-7. */
static void near_the_cpu(void **state)
{
    oc_train_result result;
    (void)state;
    const oc_train_result cpu = run_ok("cpu", false, "backend=cpu", streamed, "seed=1");
    const oc_train_result one = run_ok("one", false, "backend=cuda", streamed, "train.read_every=1");
    (void)setenv("OUTCRY_EMULATION_SEED", "7", 1);
    const oc_train_result many = run_ok("many", false, "backend=cuda", streamed, "train.read_every=50");
    print_message("weights differ by %.1e, loss %.9f and %.9f\n", distance("cpu", "one"), cpu.valid_loss,
                  one.valid_loss);
    assert_true(oc_hash_equal(one.weights, many.weights));
    assert_true(distance("cpu", "one") <= 2e-5);
    assert_true(fabs(cpu.valid_loss - one.valid_loss) <= 1e-5);
    assert_true(log_has("one", "\"rows\": \"streamed, ") || log_has("one", "\"rows\":\"streamed, "));
    assert_int_equal(run("parts", false, "backend=cuda", streamed, "train.pause_after=5", &result), OC_EAGAIN);
    assert_int_equal(run("parts", true, "backend=cuda", "train.device_rows_mb=0.001", "seed=1", &result), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "rows: streamed, "));
    const oc_train_result parts = run_ok("parts", true, "backend=cuda", streamed, "train.pause_after=0");
    assert_true(oc_hash_equal(parts.weights, one.weights));
    run_ok("whole", false, "backend=cpu", "train.device_rows_mb=0", "seed=1");
    assert_false(log_has("whole", "blocks of"));
    assert_false(distance("cpu", "whole") <= 2e-5);
}

/* From a device with no room at all to one that holds all: in between it streams, in fewer and fewer blocks. */
static void small_device(void **state)
{
    train_plan *p;
    train_engine *e;
    int none = 0, some = 0, all = 0;
    long long blocks, rows, least = INT64_MAX;
    (void)state;
    sample_dataset_close(data);
    data = sample_dataset_open("memory", 4000, 12); /* 576 kB of rows */
    for (int kb = 600; kb <= 2000; kb += 40) {
        char text[64];
        snprintf(text, sizeof text, "%d", kb * 1000);
        (void)setenv("OUTCRY_EMULATION_MEMORY", text, 1);
        const oc_status status = engine_of(SETS(SMALL, "backend=cuda", "train.read_every=5"), &p, &e);
        (void)unsetenv("OUTCRY_EMULATION_MEMORY");
        if (status != OC_OK) {
            assert_int_equal(status, OC_EMEMORY);
            none++;
            continue;
        }
        if (sscanf(train_engine_rows_text(e, text, sizeof text), "streamed, %lld blocks of %lld rows", &blocks,
                   &rows) == 2) {
            assert_true(blocks >= 2 && blocks <= least);
            least = blocks;
            some++;
        } else {
            all++;
        }
        train_engine_close(e);
        train_plan_close(p);
    }
    print_message("no room %d times, in blocks %d times, all rows %d times\n", none, some, all);
    if (none == 0) skip(); /* a GPU */
    assert_true(some > 0 && all > 0 && least < 10);
}

static void refused(void **state)
{
    static const char *const sets[][3] = {
        {"train.device_rows_mb=0.00005", "train.batch=8", "two blocks of 2 rows of 3 features; a window takes 4 rows"},
        {"train.device_rows_mb=0.00072", "train.batch=40", "fewer than train.batch 40: a larger train.device_rows_mb"},
    };
    train_plan *p;
    train_engine *e;
    (void)state;
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        assert_int_equal(engine_of(SETS(SMALL, "backend=cuda", sets[i][0], sets[i][1]), &p, &e), OC_ECONFIG);
        if (!strstr(oc_status_message(), sets[i][2])) fail_msg("%s", oc_status_message());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(order), cmocka_unit_test(near_the_cpu),
                                       cmocka_unit_test(refused),
                                       cmocka_unit_test(small_device) /* takes another dataset */};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    if (root_make() != 0) return 1;
    data = sample_dataset_open("memory", EACH, WIDTH);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sample_dataset_close(data);
    return root_remove() != 0 || failed;
}
