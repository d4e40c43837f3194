/* study.c - the loop over folds, trials and seeds. Each run is a training in its own folder; what a run gave is one
 * small JSON file, written last, so that its presence means it is whole. */
#include "evaluate/study.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* Trains one run unless its result is there; *result is {valid_loss, steps, weights_hash}. */
static oc_status run_train(study *s, size_t fold, size_t trial, const char *seed, json_t **result)
{
    char folder[OC_PATH_MAX], done[OC_PATH_MAX], hash[OC_HASH_TEXT];
    oc_config *config = NULL;
    oc_train_result r;
    OC_TRY(run_folder(s, fold, trial, seed, "run", folder, sizeof folder));
    OC_TRY(run_folder(s, fold, trial, seed, "trained.json", done, sizeof done));
    if (oc_path_exists(done)) return oc_json_load(done, RESULT_BYTES_MAX, result);
    OC_TRY(config_of(s, trial, seed, &config));
    bool resume = oc_path_exists(folder);
    oc_status status = oc_path_make_parent(folder);
    if (status == OC_OK) status = oc_train_run(config, s->d, s->folds, fold, folder, resume, &r);
    oc_config_close(config);
    if (status != OC_OK) return oc_status_prefix(status, "fold %zu, trial %zu, seed %s", fold, trial, seed);
    *result = json_pack("{s:f, s:I, s:I, s:s}", "valid_loss", r.valid_loss, "steps", (json_int_t)r.steps, "best_step",
                        (json_int_t)r.best_step, "weights_hash", oc_hash_text(r.weights, hash));
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
        OC_TRY(run_train(s, fold, trial, seed, &run));
        *mean += json_number_value(json_object_get(run, "valid_loss")) / (double)s->seeds;
        oc_status status = oc_json_put(run, "seed", json_string(seed));
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

/* The chosen trial of one seed looks at the test split, once. */
static oc_status run_evaluate(study *s, size_t fold, size_t trial, const char *seed, json_t *into)
{
    char model[OC_PATH_MAX], result[OC_PATH_MAX], metrics_path[OC_PATH_MAX];
    json_t *metrics = NULL;
    OC_TRY(run_folder(s, fold, trial, seed, "run/model", model, sizeof model));
    OC_TRY(run_folder(s, fold, trial, seed, "result", result, sizeof result));
    OC_TRY(run_folder(s, fold, trial, seed, "result/metrics.json", metrics_path, sizeof metrics_path));
    oc_evaluate_options o = {.model = model,
                             .out = result,
                             .split = OC_SPLIT_TEST,
                             .threads = threads_of(s->config),
                             .seed = (uint64_t)oc_config_int(s->config, "seed"),
                             .resamples = (size_t)oc_config_int(s->config, "study.resamples")};
    if (oc_path_exists(metrics_path))
        OC_TRY(oc_json_load(metrics_path, RESULT_BYTES_MAX, &metrics));
    else
        OC_TRY(oc_evaluate_split(&o, s->d, &metrics));
    json_t *first = json_array_get(json_object_get(metrics, "horizons"), 0);
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
    oc_status status = OC_OK;
    for (size_t k = 0; k < sizeof keys / sizeof *keys && status == OC_OK; k++)
        status = oc_json_put(into, keys[k], json_incref(json_object_get(first, keys[k])));
    if (status == OC_OK)
        status = oc_json_put(into, "predictions_hash", json_incref(json_object_get(metrics, "predictions_hash")));
    json_decref(metrics);
    return status;
}

/* One fold: every trial trained, the best by validation tested with every seed. */
static oc_status fold_run(study *s, size_t fold, json_t *folds)
{
    json_t *row = json_object(), *rows = json_array(), *tests = json_array();
    double best = INFINITY, mean;
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
        json_t *test = json_pack("{s:s}", "seed", seed);
        status = test ? run_evaluate(s, fold, chosen, seed, test) : OC_FAIL(OC_EMEMORY, "no memory for the study");
        if (json_array_append_new(tests, test) != 0 && status == OC_OK)
            status = OC_FAIL(OC_EMEMORY, "no memory for the study");
        if (status != OC_OK) goto done;
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

static oc_status study_save(const study *s, json_t *folds, oc_study_result *r)
{
    char path[OC_PATH_MAX], head[OC_HASH_TEXT], root[OC_HASH_TEXT];
    oc_ledger_summary ledger;
    json_t *trials = json_array();
    OC_TRY(oc_ledger_read(s->d, &ledger));
    r->folds = (int64_t)s->folds->count;
    r->trials = (int64_t)s->trials;
    r->runs = r->folds * r->trials * (int64_t)s->seeds;
    r->ledger = ledger.head;
    for (size_t t = 0; t < s->trials; t++)
        (void)json_array_append_new(trials, json_string(oc_config_item(s->config, "study.trials", t)));
    json_t *out =
        json_pack("{s:s, s:i, s:s, s:s, s:I, s:o, s:I, s:I, s:s, s:O}", "format", "outcry-study", "version", 1, "data",
                  oc_hash_text(s->d->root, root), "folds_from", oc_config_text(s->config, "data.folds"), "runs",
                  (json_int_t)r->runs, "trials", trials, "seeds", (json_int_t)s->seeds, "looks_at_test",
                  (json_int_t)ledger.trials, "ledger_hash", oc_hash_text(ledger.head, head), "folds", folds);
    if (!out) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    OC_TRY(oc_path_join(path, sizeof path, s->out, "study.json"));
    oc_status status = oc_json_save(path, out);
    json_decref(out);
    return status;
}

/* A study goes on only with the configuration it began with. */
static oc_status config_keep(const study *s)
{
    char path[OC_PATH_MAX], *now = oc_config_dump(s->config), *before = NULL;
    size_t bytes;
    if (!now) return OC_FAIL(OC_EMEMORY, "no memory for the study");
    oc_status status = oc_path_join(path, sizeof path, s->out, "config.yaml");
    if (status == OC_OK && oc_path_exists(path)) {
        status = oc_file_read(path, 1 << 20, &before, &bytes);
        if (status == OC_OK && strcmp(before, now) != 0)
            status = OC_FAIL(OC_ECONFIG,
                             "%s differs from this configuration: choose another --out, or delete the folder", path);
    } else if (status == OC_OK) {
        status = oc_path_make_folders(s->out);
        if (status == OC_OK) status = oc_file_write(path, now, strlen(now));
    }
    free(now);
    oc_memory_free(before);
    return status;
}

oc_status oc_study_run(const oc_config *config, const char *out, oc_study_result *result)
{
    study s = {.config = config,
               .out = out,
               .seeds = oc_config_count(config, "study.seeds"),
               .trials = oc_config_count(config, "study.trials")};
    json_t *folds = json_array();
    oc_status status;
    OC_TRY_GOTO(status, done, config_keep(&s));
    OC_TRY_GOTO(status, done, oc_dataset_open(&s.d, oc_config_text(config, "data.dataset")));
    OC_TRY_GOTO(
        status, done,
        oc_folds_open(&s.folds, oc_config_text(config, "data.folds"), oc_config_int(config, "data.embargo_ns"), s.d));
    oc_progress_start(&s.progress, "study", "runs", s.folds->count * s.trials * s.seeds);
    for (size_t f = 0; f < s.folds->count; f++) {
        OC_TRY_GOTO(status, done, fold_run(&s, f, folds));
        oc_log(OC_LOG_INFO, "study: fold %zu of %zu done", f + 1, s.folds->count);
    }
    oc_progress_finish(&s.progress);
    status = study_save(&s, folds, result);
done:
    json_decref(folds);
    oc_folds_close(s.folds);
    oc_dataset_close(s.d);
    return status;
}
