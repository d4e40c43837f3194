/* test_edges.c - the loop's own promises, and inputs at the edge: every window once an epoch, the average, patience,
 * which weights are validated and saved; one class, fewer windows than a batch or than shards, a job of one step;
 * checkpoints that are sealed well but say what cannot be. Oracles: loops in this file; oc_model on the saved bundle.
 * Faults that must be seen are told in each test. */
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

#include "base/json.h"
#include "base/log.h"
#include "nn/model.h"
#include "train/loop.h"
#include "train/sample_run.h"

static oc_comm alone = {.ranks = 1, .local = 1};

static const char *folder(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static sample_dataset *data(size_t each, size_t width) /* its path says where the ledger lies */
{
    return sample_dataset_open(folder("sample.h5"), each, width);
}

static oc_train_result run_ok(const sample_dataset *s, const char *name, const char *const *sets)
{
    oc_train_result r;
    if (sample_train(s, folder(name), false, sets, &r) != OC_OK) fail_msg("%s: %s", name, oc_status_message());
    return r;
}

static train_plan *plan_of(const sample_dataset *s, const char *const *sets)
{
    oc_config *config = sample_config(sets);
    train_plan *plan;
    if (train_plan_open(&plan, config, &s->d, &s->folds, 0) != OC_OK) fail_msg("%s", oc_status_message());
    oc_config_close(config);
    return plan;
}

/* --- the loop --- */

/* Rows that one epoch brings: counts of visits by row. */
static void visits(train_engine *e, const train_plan *p, int64_t epoch, int *count, int64_t *order)
{
    for (int64_t at = 0; at < p->epoch_windows; at++) {
        order[at] = train_engine_window(e, epoch, at);
        count[order[at]]++;
    }
}

static void every_window_once_an_epoch(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    train_plan *p = plan_of(s, SETS("train.batch=7", "train.windows_per_epoch=0", "train.stride=3"));
    train_engine *e;
    int *count = calloc(s->d.rows, sizeof *count);
    int64_t *order[2] = {calloc(s->d.rows, sizeof **order), calloc(s->d.rows, sizeof **order)};
    assert_true(count && order[0] && order[1]);
    assert_int_equal(train_engine_open(&e, p, &alone), OC_OK);
    assert_true(p->epoch_windows == (int64_t)p->train.count);
    assert_true(p->epoch_windows % 7 != 0); /* a part of a batch at the end */
    for (int epoch = 0; epoch < 2; epoch++) visits(e, p, epoch, count, order[epoch]);
    for (size_t i = 0; i < p->train.count; i++) {
        assert_int_equal(count[p->train.row[i]], 2);
        count[p->train.row[i]] = 0;
    }
    for (size_t row = 0; row < s->d.rows; row++) assert_int_equal(count[row], 0); /* and nothing else */
    size_t still = 0;
    for (size_t i = 0; i < p->train.count; i++) still += order[0][i] == order[1][i];
    assert_true(still < p->train.count / 10);
    free(count);
    free(order[0]);
    free(order[1]);
    train_engine_close(e);
    train_plan_close(p);
    sample_dataset_close(s);
}

/* a = k a + (1 - k) w with k = min(average, (1 + n) / (10 + n)), n from 1, in f64 beside it. */
static void the_average(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    train_plan *p = plan_of(s, SETS("train.average=0.4"));
    const size_t total = p->parameters.total;
    float *block = calloc(total * 5, sizeof *block);
    double *wanted = calloc(total, sizeof *wanted), apart = 0;
    train_engine *e;
    train_step_result r;
    assert_true(block && wanted);
    train_weights w = {block, block + total, block + 2 * total, block + 3 * total, block + 4 * total};
    assert_int_equal(train_engine_open(&e, p, &alone), OC_OK);
    oc_parameters_init(&p->parameters, 1, w.weights);
    memcpy(w.average, w.weights, total * sizeof *block);
    for (size_t i = 0; i < total; i++) wanted[i] = (double)w.weights[i];
    for (int64_t n = 1; n <= 8; n++) {
        const double young = (1.0 + (double)n) / (10.0 + (double)n), keep = young < 0.4 ? young : 0.4;
        const train_interval now = {
            .position = (n - 1) * 48, .step = n - 1, .updates = n - 1, .steps = 1, .windows = 48};
        assert_int_equal(train_engine_run(e, &w, &now, NULL, &r), OC_OK);
        for (size_t i = 0; i < total; i++) wanted[i] = keep * wanted[i] + (1 - keep) * (double)w.weights[i];
    }
    for (size_t i = 0; i < total; i++) {
        assert_true(fabs((double)w.average[i] - wanted[i]) <= 1e-6); /* measured 6e-8 */
        apart = fmax(apart, fabs((double)w.average[i] - (double)w.weights[i]));
    }
    assert_true(apart > 1e-3); /* it is not the weights themselves */
    free(block);
    free(wanted);
    train_engine_close(e);
    train_plan_close(p);
    sample_dataset_close(s);
}

/* The loss that a run reports is that of its bundle, by oc_model, on the windows of the validation split. */
static void the_bundle_has_the_reported_loss(void **state)
{
    (void)state;
    static const char *const averages[] = {"train.average=0", "train.average=0.9"};
    sample_dataset *s = data(500, 4);
    for (int i = 0; i < 2; i++) {
        oc_train_result r = run_ok(s, averages[i], SETS(averages[i], "train.epochs=3", "train.valid_windows=0"));
        train_plan *p = plan_of(s, SETS("train.valid_windows=0"));
        const oc_backend_config config = {.kind = OC_BACKEND_CPU};
        const size_t count = p->valid.count;
        float *logits = calloc(count * OC_CLASSES, sizeof *logits);
        int32_t *target = calloc(count, sizeof *target);
        oc_bundle *b;
        oc_model *m;
        char path[160];
        assert_true(logits && target);
        snprintf(path, sizeof path, "%s/model", folder(averages[i]));
        assert_int_equal(oc_bundle_load(&b, path), OC_OK);
        assert_int_equal(oc_model_open(&m, b, &config, 5), OC_OK);
        assert_int_equal(oc_model_logits_rows(m, s->x, s->d.rows, p->valid.row, count, logits, count * OC_CLASSES),
                         OC_OK);
        for (size_t k = 0; k < count; k++) target[k] = s->class_[p->valid.row[k]];
        const double loss = oc_log_loss(logits, target, count, 1, NULL);
        assert_true(loss == r.valid_loss); /* the same bits: f32 answers do not depend on the batch */
        assert_true(oc_log_loss(logits, target, count, 1, b->temperature) <= loss);
        oc_model_close(m);
        oc_bundle_close(b);
        free(logits);
        free(target);
        train_plan_close(p);
    }
    sample_dataset_close(s);
}

/* Ends after exactly `patience` validations without a better one. */
static void patience(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    oc_train_result r =
        run_ok(s, "patience",
               SETS("train.patience=3", "train.epochs=60", "train.valid_every=4", "train.rate=0.3", "train.average=0"));
    char path[160], *text;
    size_t bytes;
    int64_t best = 0, last = 0, after = 0;
    snprintf(path, sizeof path, "%s/log.jsonl", folder("patience"));
    assert_int_equal(oc_file_read(path, 1 << 22, &text, &bytes), OC_OK);
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        json_t *json;
        assert_int_equal(oc_json_parse(line, strcspn(line, "\n"), "log", &json), OC_OK);
        if (strcmp(json_string_value(json_object_get(json, "kind")), "valid") == 0) {
            last = json_integer_value(json_object_get(json, "step"));
            after = json_is_true(json_object_get(json, "best")) ? 0 : after + 1;
            if (after == 0) best = last;
            assert_true(after <= 3);
        }
        json_decref(json);
    }
    oc_memory_free(text);
    assert_int_equal(after, 3);
    assert_true(r.best_step == best && r.steps == last && r.steps < 60 * 9);
    sample_dataset_close(s);
}

/* --- small and lopsided data --- */

static void fewer_windows_than_a_batch(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 1);
#define SMALL(threads) SETS("train.windows_per_epoch=3", "train.batch=64", "train.shards=16", threads, "train.epochs=4")
    oc_train_result one = run_ok(s, "small-1", SMALL("threads=1")), many = run_ok(s, "small-40", SMALL("threads=40"));
#undef SMALL
    assert_int_equal(one.steps, 4);
    assert_true(oc_hash_equal(one.weights, many.weights));
    sample_dataset_close(s);
}

/* Balanced weights of classes that are not there must not become infinite. */
static void one_class(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    memset(s->class_, OC_CLASS_SELL, s->d.rows);
    oc_train_result r = run_ok(s, "one-class", SETS("train.class_weights=balanced", "train.epochs=5"));
    assert_true(r.valid_loss < 0.7 && r.skipped_steps == 0); /* learns the one answer */
    sample_dataset_close(s);
}

/* Its only step must not fall on the end of the cosine, where the rate may be zero. */
static void one_step(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    oc_train_result r[2];
    static const char *const rates[2] = {"train.rate=0.01", "train.rate=0.02"};
    for (int i = 0; i < 2; i++)
        r[i] = run_ok(s, rates[i], SETS(rates[i], "train.rate_floor=0", "train.batch=512", "train.epochs=1"));
    assert_int_equal(r[0].steps, 1);
    assert_false(oc_hash_equal(r[0].weights, r[1].weights));
    sample_dataset_close(s);
}

/* --- checkpoints that lie --- */

typedef struct lie {
    const char *what;
    size_t at;
    int64_t value;
} lie;
#define AT(field) offsetof(train_counters, field)
static const lie lies[] = {
    {"step", AT(step), -1},           {"step", AT(step), 6},          {"epoch", AT(epoch), -1},
    {"epoch", AT(epoch), 1 << 20},    {"position", AT(position), -5}, {"position", AT(position), INT64_MAX},
    {"updates", AT(updates), -1},     {"updates", AT(updates), 77},   {"skipped", AT(skipped), -2},
    {"log_bytes", AT(log_bytes), -8}, {"windows", AT(windows), -1},   {"best_step", AT(best_step), 99},
    {"ended", AT(ended), 2},          {"stale", AT(stale), -1},       {"best_loss", AT(best_loss), 0x7ff8000000000000},
};

/* Counters of a checkpoint changed, its hash made good. */
static void forge(const char *path, const char *good, size_t bytes, const lie *l)
{
    enum { COUNTERS = 24 + 32 + 64 };
    char *forged = malloc(bytes);
    assert_non_null(forged);
    memcpy(forged, good, bytes);
    if (l) memcpy(forged + COUNTERS + l->at, &l->value, sizeof l->value);
    oc_hash hash = oc_hash_bytes(forged, bytes - sizeof hash);
    memcpy(forged + bytes - sizeof hash, &hash, sizeof hash);
    assert_int_equal(oc_file_write(path, forged, bytes), OC_OK);
    free(forged);
}

static void checkpoints_that_lie(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    const char *const *sets = SETS("train.pause_after=5", "train.checkpoint_seconds=1000");
    oc_train_result r;
    char path[160], other[160], *good;
    size_t bytes;
    assert_int_equal(sample_train(s, folder("lies"), false, sets, &r), OC_EAGAIN);
    snprintf(path, sizeof path, "%s/checkpoints/00000005.ckpt", folder("lies"));
    snprintf(other, sizeof other, "%s/checkpoints/00000009.ckpt", folder("lies"));
    assert_int_equal(oc_file_read(path, 1 << 24, &good, &bytes), OC_OK);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        forge(path, good, bytes, &lies[i]);
        if (sample_train(s, folder("lies"), true, sets, &r) != OC_EDATA)
            fail_msg("%s = %lld was taken", lies[i].what, (long long)lies[i].value);
    }
    forge(path, good, bytes, NULL);
    assert_int_equal(rename(path, other), 0); /* named after a later step, it would stand before newer ones for ever */
    assert_int_equal(sample_train(s, folder("lies"), true, sets, &r), OC_EDATA);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(sample_train(s, folder("lies"), true, sets, &r), OC_EAGAIN); /* the harness itself harms nothing */
    oc_memory_free(good);
    sample_dataset_close(s);
}

/* A run that could not be recorded is refused before it trains, and leaves nothing. */
static void no_place_for_the_ledger(void **state)
{
    (void)state;
    sample_dataset *s = sample_dataset_open("/nowhere/sample.h5", 400, 3);
    oc_train_result r;
    assert_int_equal(sample_train(s, folder("unrecorded"), false, NULL, &r), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "/nowhere"));
    assert_false(oc_path_exists(folder("unrecorded")));
    sample_dataset_close(s);
}

/* A finished run whose bundle was damaged: --resume makes the same weights again, and the next finds nothing to do. */
static void a_damaged_bundle_is_written_again(void **state)
{
    (void)state;
    sample_dataset *s = data(400, 3);
    oc_train_result r, again;
    char path[160], *good, *now;
    size_t bytes, now_bytes;
    r = run_ok(s, "mend", NULL);
    snprintf(path, sizeof path, "%s/model/weights.safetensors", folder("mend"));
    assert_int_equal(oc_file_read(path, 1 << 24, &good, &bytes), OC_OK);
    good[bytes / 2] ^= 1;
    assert_int_equal(oc_file_write(path, good, bytes), OC_OK);
    good[bytes / 2] ^= 1;
    assert_int_equal(sample_train(s, folder("mend"), true, NULL, &again), OC_OK);
    assert_true(oc_hash_equal(r.weights, again.weights));
    assert_int_equal(oc_file_read(path, 1 << 24, &now, &now_bytes), OC_OK);
    assert_true(now_bytes == bytes && memcmp(now, good, bytes) == 0);
    oc_memory_free(good);
    oc_memory_free(now);
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
        cmocka_unit_test(every_window_once_an_epoch),
        cmocka_unit_test(the_average),
        cmocka_unit_test(the_bundle_has_the_reported_loss),
        cmocka_unit_test(patience),
        cmocka_unit_test(fewer_windows_than_a_batch),
        cmocka_unit_test(one_class),
        cmocka_unit_test(one_step),
        cmocka_unit_test(checkpoints_that_lie),
        cmocka_unit_test(no_place_for_the_ledger),
        cmocka_unit_test(a_damaged_bundle_is_written_again),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
