/* test_parts.c - scaler, intervals seen, schedule, temperature, and a step that meets a number that is not finite.
 * Oracles: plain loops over the rows in this file; a temperature that was planted; a table of rates. Each has a fault
 * that it must notice: rows outside the split poisoned or not, labels turned, a NaN planted. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "train/loop.h"
#include "train/sample_run.h"

static train_plan *plan_of(const sample_dataset *s, const char *const *sets)
{
    oc_config *config = sample_config(sets);
    train_plan *plan;
    oc_status status = train_plan_open(&plan, config, &s->d, &s->folds, 0);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    plan->o.name = "sample"; /* the config's texts go with it */
    plan->o.folds = "one";
    oc_config_close(config);
    return plan;
}

/* --- scaler --- */

/* Mean and deviation over the rows that some training window covers, by marking them one by one. */
static void scaler_naive(const sample_dataset *s, const oc_samples *samples, int steps, size_t f, double *mean,
                         double *scale)
{
    uint8_t *mark = calloc(s->d.rows, 1);
    double sum = 0, squares = 0, count = 0;
    assert_non_null(mark);
    for (size_t i = 0; i < samples->count; i++)
        for (int t = 0; t < steps; t++) mark[samples->row[i] - t] = 1;
    for (size_t row = 0; row < s->d.rows; row++) {
        if (!mark[row]) continue;
        sum += (double)s->x[row * s->d.width + f];
        count++;
    }
    *mean = sum / count;
    for (size_t row = 0; row < s->d.rows; row++)
        if (mark[row]) squares += pow((double)s->x[row * s->d.width + f] - *mean, 2);
    *scale = sqrt(squares / count);
    free(mark);
}

static void scaler_sees_training_rows_only(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    train_plan *plan = plan_of(s, SETS("train.stride=7"));
    int64_t last = plan->train.row[plan->train.count - 1];
    double mean, scale, before = plan->mean[2];
    oc_samples all = {0};
    const oc_dataset_label *labels[] = {&s->d.labels[0]};
    assert_int_equal(oc_samples_select(&all, &s->d, &s->fold, 0, OC_SPLIT_TRAIN, 12, labels, 1), OC_OK);
    for (size_t f = 0; f < 5; f++) { /* stride leaves windows out of the epochs, not rows out of the scaler */
        scaler_naive(s, &all, 12, f, &mean, &scale);
        assert_true(fabs(mean - plan->mean[f]) <= 1e-12 && fabs(scale - plan->scale[f]) <= 1e-12);
    }
    train_plan_close(plan);
    for (size_t row = 0; row < s->d.rows; row++) {
        if (s->time_ns[row] >= s->fold.interval[OC_SPLIT_VALID][0].first_ns)
            s->x[row * 5 + 2] = 1e30f; /* validation, test */
    }
    plan = plan_of(s, NULL);
    assert_true(plan->mean[2] == before);
    train_plan_close(plan);
    s->x[last * 5 + 2] = 1e30f; /* the fault: a training row, which must show */
    plan = plan_of(s, NULL);
    assert_true(plan->mean[2] != before);
    train_plan_close(plan);
    oc_samples_free(&all);
    sample_dataset_close(s);
}

static void bad_columns_are_named(void **state)
{
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    oc_config *config = sample_config(NULL);
    train_plan *plan;
    for (size_t i = 0; i < 3; i++) {
        float keep = s->x[20 * 5 + 3];
        s->x[20 * 5 + 3] = bad[i];
        assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_EDATA);
        assert_non_null(strstr(oc_status_message(), "feature:3 is not finite in row 20 of SYM0"));
        s->x[20 * 5 + 3] = keep;
    }
    for (size_t row = 0; row < s->d.rows; row++) s->x[row * 5 + 4] = 0.1f;
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "feature:4 does not vary"));
    s->x[20 * 5 + 4] = nextafterf(0.1f, 1); /* one bit in one row is a variance */
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_OK);
    train_plan_close(plan);
    oc_config_close(config);
    sample_dataset_close(s);
}

/* --- what was seen --- */

static void seen_intervals(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    /* train 1..200 | test 201..250 | train 251..400 | valid 401..500, in rows */
    s->fold.interval_count[OC_SPLIT_TRAIN] = 2;
    s->fold.interval[OC_SPLIT_TRAIN][0] = (oc_interval){0, 201000};
    s->fold.interval[OC_SPLIT_TEST][0] = (oc_interval){201000, 251000};
    s->fold.interval[OC_SPLIT_TRAIN][1] = (oc_interval){251000, 401000};
    s->fold.interval[OC_SPLIT_VALID][0] = (oc_interval){401000, 600000};
    train_plan *plan = plan_of(s, SETS("train.valid_windows=3", "train.stride=50"));
    assert_int_equal(plan->seen_count, 3 * SAMPLE_SYMBOLS);
    for (size_t i = 0; i < plan->seen_count; i++) {
        const oc_seen *seen = &plan->seen[i];
        assert_string_equal(seen->symbol, s->symbols[i / 3].name);
        assert_true(seen->last_ns < 201000 || seen->first_ns >= 251000); /* the test interval was not seen */
    }
    assert_int_equal(plan->seen[0].first_ns, 1000);
    assert_int_equal(plan->seen[2].last_ns,
                     500000); /* the last validation window's known_ns, though 3 windows are used */
    train_plan_close(plan);
    sample_dataset_close(s);
}

/* --- schedule, loss, temperature --- */

static void schedule(void **state)
{
    (void)state;
    const train_options o = {.rate = 0.01, .warmup_share = 0.1, .rate_floor = 0.05};
    const struct {
        int64_t step;
        double rate;
    } rows[] = {{0, 0.001}, {4, 0.005}, {9, 0.01}, {10, 0.01}, {99, 0.0005}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(fabs(train_rate(&o, rows[i].step, 100) - rows[i].rate) <= 1e-9))
            fail_msg("step %lld", (long long)rows[i].step);
    for (int64_t step = 10; step < 99; step++) assert_true(train_rate(&o, step + 1, 100) <= train_rate(&o, step, 100));
    for (int64_t total = 1; total < 4; total++)
        for (int64_t step = 0; step < total; step++) {
            double rate = train_rate(&o, step, total);
            assert_true(rate > 0 && rate <= o.rate);
        }
}

static double naive_loss(const float *z, const int32_t *target, size_t count, double temperature)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        double all = 0;
        for (int c = 0; c < 3; c++) all += exp((double)z[3 * i + (size_t)c] / temperature);
        sum += log(all) - (double)z[3 * i + (size_t)target[i]] / temperature;
    }
    return sum / (double)count;
}

static void temperature(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static float z[COUNT * 3];
    static int32_t target[COUNT];
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    const double planted = 2.5;
    for (size_t i = 0; i < COUNT; i++) { /* targets drawn from softmax(z / planted) */
        double p[3], sum = 0, draw = oc_random_uniform(key, 4 * i + 3);
        for (size_t c = 0; c < 3; c++) {
            z[3 * i + c] = (float)(12 * oc_random_uniform(key, 4 * i + c) - 6);
            sum += p[c] = exp((double)z[3 * i + c] / planted);
        }
        target[i] = draw < p[0] / sum ? 0 : draw < (p[0] + p[1]) / sum ? 1 : 2;
    }
    double fitted, one = 1;
    oc_temperature_fit(z, target, COUNT, 1, &fitted);
    print_message("planted %.3f, fitted %.3f\n", planted, fitted);
    assert_true(fabs(fitted - planted) <= 0.1); /* measured 0.02: 20,000 draws */
    assert_true(fabs(oc_log_loss(z, target, COUNT, 1, &fitted) - naive_loss(z, target, COUNT, fitted)) <= 1e-12);
    assert_true(fabs(oc_log_loss(z, target, COUNT, 1, NULL) - naive_loss(z, target, COUNT, 1)) <= 1e-12);
    assert_true(oc_log_loss(z, target, COUNT, 1, &fitted) < oc_log_loss(z, target, COUNT, 1, &one));
    for (double around = 0.9; around < 1.2; around += 0.2) /* the smallest loss lies there */
        assert_true(naive_loss(z, target, COUNT, fitted) < naive_loss(z, target, COUNT, fitted * around));
    for (size_t i = 0; i < COUNT; i++) target[i] = (target[i] + 1) % 3; /* the fault: wrong answers */
    oc_temperature_fit(z, target, COUNT, 1, &fitted);
    assert_true(fitted > 19);
    for (size_t i = 0; i < COUNT; i++) z[i] = NAN;
    oc_temperature_fit(z, target, COUNT, 1, &fitted);
    assert_true(fitted >= 0.05 && fitted <= 20.001);
}

/* --- steps --- */

typedef struct job_box {
    train_job job;
    oc_comm comm;
    train_plan *plan;
    float *block;
    char log_path[128];
} job_box;

static job_box *job_open(const sample_dataset *s, const char *const *sets)
{
    job_box *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->plan = plan_of(s, sets);
    size_t total = b->plan->parameters.total;
    assert_int_equal(oc_memory_new_array(&b->block, total * 5, sizeof(float), "test"), OC_OK);
    b->comm = oc_comm_single();
    b->job.comm = &b->comm;
    b->job.plan = b->plan;
    b->job.w =
        (train_weights){b->block, b->block + total, b->block + 2 * total, b->block + 3 * total, b->block + 4 * total};
    b->job.out = root;
    b->job.origin = (train_origin){"identity\n", {1, 2}, {3, 4}, "build", b->plan->epoch_windows, b->plan->o.batch};
    snprintf(b->job.checkpoints, sizeof b->job.checkpoints, "%s/checkpoints", root);
    snprintf(b->log_path, sizeof b->log_path, "%s/log.jsonl", root);
    assert_int_equal(train_log_open(&b->job.log, b->log_path), OC_OK);
    assert_int_equal(train_engine_open(&b->job.engine, b->plan, &b->comm), OC_OK);
    assert_int_equal(train_job_start(&b->job), OC_OK);
    return b;
}

static void job_close(job_box *b)
{
    train_log_close(&b->job.log);
    train_engine_close(b->job.engine);
    train_plan_close(b->plan);
    oc_memory_free(b->block);
    free(b);
}

/* A NaN planted in the rows after the scaler was fitted. */
static void non_finite_steps(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    job_box *b = job_open(s, SETS("train.skip_max=3", "train.epochs=1"));
    size_t bytes = b->plan->parameters.total * sizeof(float);
    float *before = malloc(bytes);
    assert_non_null(before);
    memcpy(before, b->job.w.weights, bytes);
    for (size_t row = 0; row < s->d.rows; row += 8) s->x[row * 5] = NAN; /* every window holds one */
    assert_int_equal(train_job_loop(&b->job), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "4 steps in a row"));
    assert_non_null(strstr(oc_status_message(), "end at rows"));
    assert_int_equal(b->job.c.skipped, 4);
    assert_int_equal(b->job.c.updates, 0);
    assert_memory_equal(before, b->job.w.weights, bytes); /* no step was taken */
    free(before);
    job_close(b);
    sample_dataset_close(s);
}

static void a_few_bad_windows_are_skipped(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    job_box *b = job_open(s, SETS("train.epochs=1", "train.valid_every=0"));
    s->x[b->plan->train.row[100] * 5] = NAN; /* in a dozen of 900 windows: some batches */
    assert_int_equal(train_job_loop(&b->job), OC_OK);
    print_message("%lld of %lld steps skipped\n", (long long)b->job.c.skipped, (long long)b->job.c.step);
    assert_true(b->job.c.skipped > 0 && b->job.c.updates == b->job.c.step - b->job.c.skipped && b->job.c.updates > 0);
    for (size_t i = 0; i < b->plan->parameters.total; i++) assert_true(isfinite(b->job.w.weights[i]));
    job_close(b);
    sample_dataset_close(s);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    job_box *b = job_open(s, SETS("threads=2"));
    train_step_result r;
    const float *logits;
    const int32_t *target;
    size_t before = oc_memory_count();
    for (int64_t step = 0; step < 5; step++) {
        const train_interval now = {.position = step * 48, .step = step, .updates = step, .steps = 1, .windows = 48};
        assert_int_equal(train_engine_run(b->job.engine, &b->job.w, &now, NULL, &r), OC_OK);
        assert_true(r.finite && r.norm > 0 && r.loss_sum / r.weight_sum < 1.5);
    }
    assert_int_equal(train_engine_validate(b->job.engine, b->job.w.weights, &logits, &target), OC_OK);
    assert_int_equal(oc_memory_count() - before, 0);
    job_close(b);
    sample_dataset_close(s);
}

/* --- checkpoint: every bit, every length --- */

enum { TINY = 16 };

static oc_status tiny_load(const char *folder, train_counters *c, float *block, bool *found)
{
    const train_origin origin = {"key: value\n", {1, 2}, {3, 4}, "build", 8, 2};
    train_weights w = {block, block + TINY, block + 2 * TINY, block + 3 * TINY, block + 4 * TINY};
    return train_checkpoint_load(folder, &origin, c, &w, TINY, found);
}

static void put(const char *path, const char *data, size_t bytes)
{
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0 && pwrite(fd, data, bytes, 0) == (ssize_t)bytes && ftruncate(fd, (off_t)bytes) == 0);
    assert_int_equal(close(fd), 0);
}

static void every_bit_of_a_checkpoint(void **state)
{
    (void)state;
    const train_origin origin = {"key: value\n", {1, 2}, {3, 4}, "build", 8, 2};
    char folder[96], path[128], *good;
    float block[5 * TINY], back[5 * TINY];
    train_counters read,
        c = {.step = 12, .epoch = 3, .updates = 12, .windows = 24, .best_loss = 0.5, .train_seconds = 2};
    train_weights w = {block, block + TINY, block + 2 * TINY, block + 3 * TINY, block + 4 * TINY};
    size_t bytes;
    bool found;
    for (int i = 0; i < 5 * TINY; i++) block[i] = (float)i;
    snprintf(folder, sizeof folder, "%s/tiny", root);
    snprintf(path, sizeof path, "%s/00000012.ckpt", folder);
    assert_int_equal(train_checkpoint_save(folder, &origin, &c, &w, TINY), OC_OK);
    assert_int_equal(tiny_load(folder, &read, back, &found), OC_OK);
    assert_true(found && memcmp(&c, &read, sizeof c) == 0 && memcmp(block, back, sizeof block) == 0);
    assert_int_equal(oc_file_read(path, 1 << 20, &good, &bytes), OC_OK);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        good[bit / 8] = (char)(good[bit / 8] ^ 1 << bit % 8);
        put(path, good, bytes);
        good[bit / 8] = (char)(good[bit / 8] ^ 1 << bit % 8);
        if (tiny_load(folder, &read, back, &found) != OC_EDATA) fail_msg("bit %zu was not noticed", bit);
    }
    for (size_t length = bytes; length-- > 0;) {
        put(path, good, length);
        if (tiny_load(folder, &read, back, &found) != OC_EDATA) fail_msg("cut at %zu was not noticed", length);
    }
    put(path, good, bytes); /* the harness itself harms nothing */
    assert_int_equal(tiny_load(folder, &read, back, &found), OC_OK);
    oc_memory_free(good);
}

static void no_such_label_or_fold(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 500, 5);
    oc_config *config = sample_config(SETS("data.labels=smooth:3:0.1"));
    train_plan *plan;
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "direction:5:0.001"));
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 1), OC_ECONFIG);
    oc_config_close(config);
    config = sample_config(SETS("window.steps=600"));
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "no training window"));
    oc_config_close(config);
    config = sample_config(SETS("train.shards=6"));
    assert_int_equal(train_plan_open(&plan, config, &s->d, &s->folds, 0), OC_ECONFIG);
    oc_config_close(config);
    sample_dataset_close(s);
}

static int setup(void **state)
{
    (void)state;
    oc_log_set_level(OC_LOG_ERROR);
    return root_make();
}

static int teardown(void **state)
{
    (void)state;
    return root_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scaler_sees_training_rows_only),
        cmocka_unit_test(bad_columns_are_named),
        cmocka_unit_test(seen_intervals),
        cmocka_unit_test(schedule),
        cmocka_unit_test(temperature),
        cmocka_unit_test(non_finite_steps),
        cmocka_unit_test(a_few_bad_windows_are_skipped),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(every_bit_of_a_checkpoint),
        cmocka_unit_test(no_such_label_or_fold),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
