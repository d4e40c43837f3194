/* study.c - the loop over folds, trials and seeds. Each run is a training in its own folder; what a run gave is one
 * small JSON file, written last, so that its presence means it is whole. */
#include "evaluate/study.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "datasets/ledger.h"
#include "evaluate/evaluate.h"
#include "evaluate/metrics_json.h"
#include "train/train.h"

enum { KEYS_MAX = 128, SETS_MAX = 64, RESULT_BYTES_MAX = 64 << 20, SEEDS_MAX = 64, TRIALS_MAX = 256 };
enum { LOCK_TRIES = 100, LOCK_WAIT_US = 100000 };

static const oc_config_key own_keys[] = {
    {"study.seeds", OC_CONFIG_LIST, 1, SEEDS_MAX, "1,2,3", NULL, NULL, "seeds of each fold and trial"},
    {"study.trials", OC_CONFIG_LIST, 1, TRIALS_MAX, "base", NULL, NULL,
     "overrides of training keys, a trial an item: \"model.hidden=32 train.rate=0.001\"; \"base\" changes nothing"},
    {"study.resamples", OC_CONFIG_INT, 100, 100000, "1000", NULL, "resamples", "of the block bootstrap"},
};

oc_status oc_study_keys(const oc_config_key **keys, size_t *count)
{
    static oc_config_key all[KEYS_MAX];
    size_t own = sizeof own_keys / sizeof *own_keys;
    if (oc_train_key_count + own > KEYS_MAX) return OC_FAIL(OC_ELIMIT, "more than %d configuration keys", KEYS_MAX);
    memcpy(all, oc_train_keys, oc_train_key_count * sizeof *all);
    memcpy(all + oc_train_key_count, own_keys, sizeof own_keys);
    *keys = all;
    *count = oc_train_key_count + own;
    return OC_OK;
}

typedef struct study {
    const oc_config *config;
    const char *out;
    oc_dataset *d;
    oc_folds *folds;
    size_t seeds, trials;
    size_t part, parts; /* parts 0: all runs */
    oc_progress progress;
    uint64_t done;
} study;

/* One training key of the study's configuration as "key=value" for --set; lists are joined by commas. */
static oc_status set_of(const oc_config *c, const oc_config_key *key, char *out, size_t cap)
{
    int used = snprintf(out, cap, "%s=", key->key);
    switch (key->type) {
    case OC_CONFIG_INT:
        used += snprintf(out + used, cap - (size_t)used, "%lld", (long long)oc_config_int(c, key->key));
        break;
    case OC_CONFIG_REAL:
        used += snprintf(out + used, cap - (size_t)used, "%.17g", oc_config_real(c, key->key));
        break;
    case OC_CONFIG_BOOL:
        used += snprintf(out + used, cap - (size_t)used, "%s", oc_config_bool(c, key->key) ? "true" : "false");
        break;
    case OC_CONFIG_TEXT:
    case OC_CONFIG_CHOICE:
        used += snprintf(out + used, cap - (size_t)used, "%s", oc_config_text(c, key->key));
        break;
    case OC_CONFIG_LIST:
        for (size_t i = 0; i < oc_config_count(c, key->key) && (size_t)used < cap; i++)
            used += snprintf(out + used, cap - (size_t)used, "%s%s", i ? "," : "", oc_config_item(c, key->key, i));
        break;
    }
    return (size_t)used < cap ? OC_OK : OC_FAIL(OC_ELIMIT, "the value of %s is too long for a study", key->key);
}

/* The training configuration of one trial and seed: the study's own training keys, the trial's overrides, the seed. */
static oc_status config_of(const study *s, size_t trial, const char *seed, oc_config **out)
{
    static char values[KEYS_MAX][1024];
    const char *sets[KEYS_MAX + SETS_MAX + 1];
    char overrides[1024], seed_set[64], *rest = NULL;
    size_t n = 0;
    for (size_t k = 0; k < oc_train_key_count; k++) {
        if (!oc_config_given(s->config, oc_train_keys[k].key)) continue;
        OC_TRY(set_of(s->config, &oc_train_keys[k], values[k], sizeof values[k]));
        sets[n++] = values[k];
    }
    const char *text = oc_config_item(s->config, "study.trials", trial);
    if (snprintf(overrides, sizeof overrides, "%s", text) >= (int)sizeof overrides)
        return OC_FAIL(OC_ECONFIG, "study.trials: an item is longer than %zu bytes", sizeof overrides - 1);
    for (char *one = strtok_r(overrides, " ", &rest); one && strcmp(text, "base") != 0;
         one = strtok_r(NULL, " ", &rest)) {
        if (n == KEYS_MAX + SETS_MAX) return OC_FAIL(OC_ECONFIG, "study.trials: more than %d overrides", SETS_MAX);
        sets[n++] = one;
    }
    snprintf(seed_set, sizeof seed_set, "seed=%s", seed);
    sets[n++] = seed_set;
    OC_TRY(oc_config_open(out, NULL, oc_train_keys, oc_train_key_count, sets, n));
    return OC_OK;
}

static oc_status run_folder(const study *s, size_t fold, size_t trial, const char *seed, const char *leaf, char *out,
                            size_t cap)
{
    if (snprintf(out, cap, "%s/runs/fold-%02zu/trial-%02zu/seed-%s%s%s", s->out, fold, trial, seed, *leaf ? "/" : "",
                 leaf) >= (int)cap)
        return OC_FAIL(OC_ELIMIT, "%s: the path is too long", s->out);
    return OC_OK;
}

/* What is kept of an earlier start must be of this data: figures of two datasets or folds must not meet in one table.
 */
static oc_status kept_check(const json_t *kept, const char *key, oc_hash want, const char *path)
{
    char text[OC_HASH_TEXT];
    const char *have;
    OC_TRY(oc_json_text(kept, key, path, &have));
    if (strcmp(have, oc_hash_text(want, text)) != 0)
        return OC_FAIL(OC_EDATA, "%s: its %s is %s, now it is %s: choose another --out, or delete the folder", path,
                       key, have, text);
    return OC_OK;
}

static oc_hash fold_hash(const study *s, size_t fold)
{
    return oc_fold_hash(&s->folds->fold[fold], s->folds->embargo_ns);
}

static oc_status run_kept(const study *s, size_t fold, const char *path, json_t **result)
{
    OC_TRY(oc_json_load(path, RESULT_BYTES_MAX, result));
    oc_status status = kept_check(*result, "dataset", s->d->root, path);
    if (status == OC_OK) status = kept_check(*result, "fold_hash", fold_hash(s, fold), path);
    if (status == OC_OK) return OC_OK;
    json_decref(*result);
    *result = NULL;
    return status;
}

/* Trains one run unless its result is there; *result is {valid_loss, steps, weights_hash, …}. */
static oc_status run_train(study *s, size_t fold, size_t trial, const char *seed, json_t **result)
{
    char folder[OC_PATH_MAX], done[OC_PATH_MAX], hash[OC_HASH_TEXT], root[OC_HASH_TEXT], of[OC_HASH_TEXT];
    oc_config *config = NULL;
    oc_train_result r;
    OC_TRY(run_folder(s, fold, trial, seed, "run", folder, sizeof folder));
    OC_TRY(run_folder(s, fold, trial, seed, "trained.json", done, sizeof done));
    if (oc_path_exists(done)) return run_kept(s, fold, done, result);
    OC_TRY(config_of(s, trial, seed, &config));
    bool resume = oc_path_exists(folder);
    oc_status status = oc_path_make_parent(folder);
    if (status == OC_OK) status = oc_train_run(config, s->d, s->folds, fold, folder, resume, &r);
    oc_config_close(config);
    if (status != OC_OK) return oc_status_prefix(status, "fold %zu, trial %zu, seed %s", fold, trial, seed);
    *result = json_pack("{s:f, s:I, s:I, s:s, s:s, s:s}", "valid_loss", r.valid_loss, "steps", (json_int_t)r.steps,
                        "best_step", (json_int_t)r.best_step, "weights_hash", oc_hash_text(r.weights, hash), "dataset",
                        oc_hash_text(s->d->root, root), "fold_hash", oc_hash_text(fold_hash(s, fold), of));
    if (!*result) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    return oc_json_save(done, *result);
}

/* All seeds of a trial: *mean is the mean validation loss, `rows` gains one object a run. */
static oc_status trial_train(study *s, size_t fold, size_t trial, json_t *rows, double *mean)
{
    *mean = 0;
    for (size_t i = 0; i < s->seeds; i++) {
        const char *seed = oc_config_item(s->config, "study.seeds", i);
        json_t *run = NULL;
        double loss = 0;
        OC_TRY(run_train(s, fold, trial, seed, &run));
        oc_status status = oc_json_real(run, "valid_loss", "trained.json", 0, HUGE_VAL, &loss);
        *mean += loss / (double)s->seeds;
        if (status == OC_OK) status = oc_json_put(run, "seed", json_string(seed));
        if (status == OC_OK) status = oc_json_put(run, "trial", json_integer((json_int_t)trial));
        if (json_array_append_new(rows, run) != 0) status = OC_FAIL(OC_EMEMORY, "no memory for the study");
        OC_TRY(status);
        oc_progress_update(&s->progress, ++s->done);
    }
    return OC_OK;
}

/* 0: one a core. */
static int threads_of(const oc_config *c)
{
    int64_t threads = oc_config_int(c, "threads");
    return threads > 0 ? (int)threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* The metrics of one run on its test split: kept ones, where they are of these weights and this data. */
static oc_status metrics_take(const study *s, size_t fold, size_t trial, const char *seed, json_t **metrics)
{
    char model[OC_PATH_MAX], result[OC_PATH_MAX], path[OC_PATH_MAX];
    OC_TRY(run_folder(s, fold, trial, seed, "run/model", model, sizeof model));
    OC_TRY(run_folder(s, fold, trial, seed, "result", result, sizeof result));
    OC_TRY(run_folder(s, fold, trial, seed, "result/metrics.json", path, sizeof path));
    oc_evaluate_options o = {.model = model,
                             .out = result,
                             .split = OC_SPLIT_TEST,
                             .threads = threads_of(s->config),
                             .seed = (uint64_t)oc_config_int(s->config, "seed"),
                             .resamples = (size_t)oc_config_int(s->config, "study.resamples")};
    if (!oc_path_exists(path)) return oc_evaluate_split(&o, s->d, metrics);
    OC_TRY(oc_json_load(path, RESULT_BYTES_MAX, metrics));
    oc_status status = kept_check(json_object_get(*metrics, "data"), "root", s->d->root, path);
    if (status == OC_OK) status = kept_check(json_object_get(*metrics, "fold"), "hash", fold_hash(s, fold), path);
    if (status == OC_OK) return OC_OK;
    json_decref(*metrics);
    *metrics = NULL;
    return status;
}

/* One label of one test: the figures, and where their predictions lie within the study's folder. */
static oc_status test_row(const json_t *metrics, const json_t *horizon, const char *seed, const char *result,
                          json_t *row)
{
    static const char *const keys[] = {"label",
                                       "samples",
                                       "accuracy",
                                       "macro_f1",
                                       "mcc",
                                       "log_loss",
                                       "brier",
                                       "ece",
                                       "intervals",
                                       "baselines",
                                       "skill_over_persistence",
                                       "verdict"};
    OC_TRY(oc_json_put(row, "seed", json_string(seed)));
    OC_TRY(oc_json_put(row, "result", json_string(result)));
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        OC_TRY(oc_json_put(row, keys[k], json_incref(json_object_get(horizon, keys[k]))));
    return oc_json_put(row, "predictions_hash", json_incref(json_object_get(metrics, "predictions_hash")));
}

/* The chosen trial of one seed looks at the test split, once. */
static oc_status run_evaluate(const study *s, size_t fold, size_t trial, const char *seed, json_t *tests)
{
    char result[OC_PATH_MAX];
    json_t *metrics = NULL, *horizon;
    size_t h;
    OC_TRY(run_folder(s, fold, trial, seed, "result", result, sizeof result));
    const char *within = result + strlen(s->out);
    within += strspn(within, "/");
    OC_TRY(metrics_take(s, fold, trial, seed, &metrics));
    oc_status status = OC_OK;
    json_array_foreach(json_object_get(metrics, "horizons"), h, horizon)
    {
        json_t *row = json_object();
        if (status == OC_OK) status = test_row(metrics, horizon, seed, within, row);
        if (json_array_append_new(tests, row) != 0 && status == OC_OK)
            status = OC_FAIL(OC_EMEMORY, "no memory for the study");
    }
    json_decref(metrics);
    return status;
}

/* One fold: every trial trained, the best by validation tested with every seed. */
static oc_status fold_run(study *s, size_t fold, json_t *folds)
{
    json_t *row = json_object(), *rows = json_array(), *tests = json_array();
    double best = (double)INFINITY, mean;
    size_t chosen = 0;
    oc_status status = OC_OK;
    for (size_t trial = 0; trial < s->trials; trial++) {
        OC_TRY_GOTO(status, done, trial_train(s, fold, trial, rows, &mean));
        if (mean < best) {
            best = mean;
            chosen = trial;
        }
    }
    for (size_t i = 0; i < s->seeds; i++) {
        const char *seed = oc_config_item(s->config, "study.seeds", i);
        OC_TRY_GOTO(status, done, run_evaluate(s, fold, chosen, seed, tests));
    }
    const oc_interval *test = &s->folds->fold[fold].interval[OC_SPLIT_TEST][0];
    OC_TRY_GOTO(status, done, oc_json_put(row, "fold", json_string(s->folds->fold[fold].name)));
    OC_TRY_GOTO(status, done, oc_json_put(row, "test_first_ns", json_integer(test->first_ns)));
    OC_TRY_GOTO(status, done, oc_json_put(row, "test_last_ns", json_integer(test->last_ns)));
    OC_TRY_GOTO(status, done, oc_json_put(row, "chosen_trial", json_integer((json_int_t)chosen)));
    OC_TRY_GOTO(status, done, oc_json_put(row, "trained", json_incref(rows)));
    OC_TRY_GOTO(status, done, oc_json_put(row, "tested", json_incref(tests)));
    if (json_array_append(folds, row) != 0) status = OC_FAIL(OC_EMEMORY, "no memory for the study");
done:
    json_decref(row);
    json_decref(rows);
    json_decref(tests);
    return status;
}

/* Labels in the order of the model's horizons, from the first test. */
static json_t *labels_of(const json_t *folds)
{
    const json_t *tests = json_object_get(json_array_get(folds, 0), "tested"), *test;
    const char *first = json_string_value(json_object_get(json_array_get(tests, 0), "seed")), *seed;
    json_t *labels = json_array();
    size_t i;
    json_array_foreach(tests, i, test)
    {
        seed = json_string_value(json_object_get(test, "seed"));
        if (first && seed && strcmp(first, seed) == 0) (void)json_array_append(labels, json_object_get(test, "label"));
    }
    return labels;
}

static oc_status study_save(const study *s, json_t *folds, oc_study_result *r)
{
    char path[OC_PATH_MAX], head[OC_HASH_TEXT], looks[OC_HASH_TEXT], root[OC_HASH_TEXT];
    oc_ledger_summary ledger;
    json_t *trials = json_array();
    OC_TRY(oc_ledger_read(s->d, &ledger));
    r->folds = (int64_t)s->folds->count;
    r->trials = (int64_t)s->trials;
    r->runs = r->folds * r->trials * (int64_t)s->seeds;
    OC_TRY(oc_path_join(path, sizeof path, s->out, "ledger.jsonl"));
    OC_TRY(oc_study_ledger(folds, path, &r->ledger));
    for (size_t t = 0; t < s->trials; t++)
        (void)json_array_append_new(trials, json_string(oc_config_item(s->config, "study.trials", t)));
    json_t *out =
        json_pack("{s:s, s:i, s:s, s:s, s:I, s:o, s:I, s:I, s:s, s:s, s:o, s:O}", "format", "outcry-study", "version",
                  1, "data", oc_hash_text(s->d->root, root), "folds_from", oc_config_text(s->config, "data.folds"),
                  "runs", (json_int_t)r->runs, "trials", trials, "seeds", (json_int_t)s->seeds, "looks_at_test",
                  (json_int_t)ledger.trials, "ledger_hash", oc_hash_text(r->ledger, head), "data_ledger_hash",
                  oc_hash_text(ledger.head, looks), "labels", labels_of(folds), "folds", folds);
    if (!out) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    OC_TRY(oc_path_join(path, sizeof path, s->out, "study.json"));
    oc_status status = oc_json_save(path, out);
    json_decref(out);
    return status;
}

/* Seeds and trials are checked before the first training, not when their turn comes hours later. */
static oc_status seeds_check(const study *s)
{
    for (size_t i = 0; i < s->seeds; i++) {
        const char *seed = oc_config_item(s->config, "study.seeds", i);
        size_t digits = strspn(seed, "0123456789");
        if (digits == 0 || digits > 15 || seed[digits] || (seed[0] == '0' && digits > 1))
            return oc_config_refuse(s->config, "study.seeds", "%s is not a seed: 0, 1, 2, … of at most 15 digits",
                                    seed);
        for (size_t k = 0; k < i; k++)
            if (strcmp(seed, oc_config_item(s->config, "study.seeds", k)) == 0)
                return oc_config_refuse(s->config, "study.seeds", "%s stands there twice: one run would count as two",
                                        seed);
    }
    return OC_OK;
}

static oc_status trials_check(const study *s)
{
    /* One validation loss ranks all trials, so the data are the study's, and every seed trains every trial. */
    static const char *const fixed[] = {"seed=", "data."};
    for (size_t i = 0; i < s->trials; i++) {
        const char *trial = oc_config_item(s->config, "study.trials", i);
        oc_config *config;
        for (const char *at = trial; *at; at += strcspn(at, " ")) {
            at += strspn(at, " ");
            for (size_t k = 0; k < sizeof fixed / sizeof *fixed; k++)
                if (strncmp(at, fixed[k], strlen(fixed[k])) == 0)
                    return oc_config_refuse(s->config, "study.trials", "\"%s\": seed and data are the study's own keys",
                                            trial);
        }
        if (config_of(s, i, oc_config_item(s->config, "study.seeds", 0), &config) != OC_OK)
            return oc_status_prefix(OC_ECONFIG, "study.trials, item %zu, \"%s\"", i, trial);
        oc_config_close(config);
    }
    return OC_OK;
}

/* The ledger's record that this configuration began; a resumed study has one already. */
static oc_status ledger_note(const study *s, const char *config)
{
    const oc_ledger_entry entry = {.command = "study",
                                   .config = oc_hash_bytes(config, strlen(config)),
                                   .seed = (uint64_t)oc_config_int(s->config, "seed")};
    return oc_ledger_append(s->d, &entry);
}

/* A study goes on only with the configuration it began with, but for the keys that change no result: those of now
 * are set over the kept file before the two are compared. */
static oc_status config_same(const study *s, const char *path, const char *now)
{
    static const char *const neutral[] = {"threads", "log.level", "train.checkpoint_seconds"};
    enum { NEUTRAL = sizeof neutral / sizeof *neutral };
    char *before, values[NEUTRAL][128], *old_text = NULL;
    const char *sets[NEUTRAL];
    const oc_config_key *keys;
    size_t bytes, count = 0, n = 0;
    oc_config *old = NULL;
    OC_TRY(oc_study_keys(&keys, &count));
    for (size_t k = 0; k < count; k++) {
        for (size_t i = 0; i < NEUTRAL; i++) {
            if (strcmp(keys[k].key, neutral[i]) != 0) continue;
            OC_TRY(set_of(s->config, &keys[k], values[n], sizeof values[n]));
            sets[n] = values[n];
            n++;
        }
    }
    OC_TRY(oc_file_read(path, 1 << 20, &before, &bytes));
    oc_status status = oc_config_parse(&old, before, bytes, path, keys, count, sets, n);
    oc_memory_free(before);
    OC_TRY(status);
    old_text = oc_config_dump(old);
    oc_config_close(old);
    if (!old_text) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    bool same = strcmp(old_text, now) == 0;
    free(old_text);
    return same ? OC_OK
                : OC_FAIL(OC_ECONFIG, "%s differs from this configuration: choose another --out, or delete the folder",
                          path);
}

static oc_status config_compare(const study *s)
{
    char path[OC_PATH_MAX], *now = oc_config_dump(s->config);
    if (!now) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    oc_status status = oc_path_join(path, sizeof path, s->out, "config.yaml");
    if (status == OC_OK && oc_path_exists(path)) {
        status = config_same(s, path, now);
    } else if (status == OC_OK) {
        status = ledger_note(s, now);
        if (status == OC_OK) status = oc_file_write(path, now, strlen(now));
    }
    free(now);
    return status;
}

/* A study goes on only with the configuration it began with. Of parts that start at once, one begins it. */
static oc_status config_keep(const study *s)
{
    char path[OC_PATH_MAX];
    OC_TRY(oc_path_make_folders(s->out));
    OC_TRY(oc_path_join(path, sizeof path, s->out, ".begin"));
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666), failed = -1;
    for (int i = 0; fd >= 0 && failed && i < LOCK_TRIES; i++) { /* held while one small file is written */
        failed = flock(fd, LOCK_EX | LOCK_NB);
        if (failed) usleep(LOCK_WAIT_US);
    }
    if (failed) {
        int reason = errno;
        if (fd >= 0) close(fd);
        return OC_FAIL(reason == EWOULDBLOCK ? OC_EAGAIN : OC_EFAILED, "%s: cannot lock: %s", path, strerror(reason));
    }
    oc_status status = config_compare(s);
    close(fd);
    return status;
}

/* The runs of one part, in the order of the whole. */
static oc_status part_run(study *s, oc_study_result *r)
{
    const size_t runs = s->folds->count * s->trials * s->seeds;
    *r = (oc_study_result){.trials = (int64_t)s->trials, .folds = (int64_t)s->folds->count};
    oc_progress_start(&s->progress, "study", "runs", runs / s->parts + (runs % s->parts >= s->part));
    for (size_t i = s->part - 1; i < runs; i += s->parts) {
        json_t *run = NULL;
        size_t fold = i / (s->trials * s->seeds), trial = i / s->seeds % s->trials;
        OC_TRY(run_train(s, fold, trial, oc_config_item(s->config, "study.seeds", i % s->seeds), &run));
        const char *hash;
        oc_status status = oc_json_text(run, "weights_hash", "trained.json", &hash);
        if (status == OC_OK) r->ledger = oc_hash_pair(r->ledger, oc_hash_bytes(hash, strlen(hash)));
        json_decref(run);
        OC_TRY(status);
        r->runs++;
        oc_progress_update(&s->progress, ++s->done);
    }
    oc_progress_finish(&s->progress);
    return OC_OK;
}

static oc_status whole_run(study *s, oc_study_result *result)
{
    json_t *folds = json_array();
    oc_status status = OC_OK;
    oc_progress_start(&s->progress, "study", "runs", s->folds->count * s->trials * s->seeds);
    for (size_t f = 0; f < s->folds->count && status == OC_OK; f++) {
        status = fold_run(s, f, folds);
        if (status == OC_OK) oc_log(OC_LOG_INFO, "study: fold %zu of %zu done", f + 1, s->folds->count);
    }
    if (status == OC_OK) {
        oc_progress_finish(&s->progress);
        status = study_save(s, folds, result);
    }
    json_decref(folds);
    return status;
}

oc_status oc_study_run(const oc_config *config, const char *out, int part, int parts, oc_study_result *result)
{
    study s = {.config = config,
               .out = out,
               .part = (size_t)part,
               .parts = (size_t)parts,
               .seeds = oc_config_count(config, "study.seeds"),
               .trials = oc_config_count(config, "study.trials")};
    oc_status status;
    OC_TRY_GOTO(status, done, seeds_check(&s));
    OC_TRY_GOTO(status, done, trials_check(&s));
    OC_TRY_GOTO(status, done, oc_dataset_open(&s.d, oc_config_text(config, "data.dataset")));
    OC_TRY_GOTO(
        status, done,
        oc_folds_open(&s.folds, oc_config_text(config, "data.folds"), oc_config_int(config, "data.embargo_ns"), s.d));
    OC_TRY_GOTO(status, done, config_keep(&s));
    status = parts > 0 ? part_run(&s, result) : whole_run(&s, result);
done:
    oc_folds_close(s.folds);
    oc_dataset_close(s.d);
    return status;
}
