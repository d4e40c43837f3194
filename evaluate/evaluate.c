/* evaluate.c - one bundle, one split: predictions, baselines, intervals, and the JSON that a report is drawn from. */
#include "evaluate/evaluate.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "datasets/ledger.h"
#include "evaluate/baselines.h"
#include "evaluate/context.h"
#include "evaluate/metrics.h"
#include "evaluate/metrics_json.h"
#include "evaluate/predictions.h"
#include "evaluate/returns.h"
#include "market/truth.h"
#include "nn/model.h"

enum { ATTENTION_WINDOWS = 128 };

const char *const oc_split_name[OC_SPLIT_COUNT] = {"train", "valid", "test"};

oc_status oc_split_parse(const char *name, oc_split *split)
{
    for (int s = 0; s < OC_SPLIT_COUNT; s++) {
        if (strcmp(name, oc_split_name[s]) == 0) {
            *split = (oc_split)s;
            return OC_OK;
        }
    }
    return OC_FAIL(OC_EUSAGE, "--split is \"%s\", not train, valid or test", name);
}

/* One horizon's answers of the model as [count,3]. */
static oc_status horizon_of(const oc_predictions *p, int horizon, float **out)
{
    OC_TRY(oc_memory_new_array(out, p->count * 3, sizeof(float), "evaluation"));
    for (size_t i = 0; i < p->count; i++)
        memcpy(*out + 3 * i, p->probabilities + (i * (size_t)p->horizons + (size_t)horizon) * 3, 3 * sizeof(float));
    return OC_OK;
}

typedef struct answers { /* what the bootstrap eats, in order of time */
    uint8_t *truth, *predicted;
    double *loss;
    size_t count;
} answers;

static void answers_free(answers *a)
{
    oc_memory_free(a->truth);
    oc_memory_free(a->predicted);
    oc_memory_free(a->loss);
}

static oc_status answers_make(const evaluation *e, int horizon, const float *p, answers *a)
{
    size_t count = e->predictions.count;
    const int8_t *truth = e->predictions.truth + (size_t)horizon * count;
    memset(a, 0, sizeof *a);
    a->count = count;
    OC_TRY(oc_memory_new_array(&a->truth, count, 1, "evaluation"));
    OC_TRY(oc_memory_new_array(&a->predicted, count, 1, "evaluation"));
    OC_TRY(oc_memory_new_array(&a->loss, count, sizeof(double), "evaluation"));
    for (size_t k = 0; k < count; k++) {
        size_t i = e->order ? e->order[k] : k;
        a->truth[k] = (uint8_t)truth[i];
        a->predicted[k] = (uint8_t)oc_argmax3(p + 3 * i);
        a->loss[k] = oc_log_loss_of(p[3 * i + (size_t)truth[i]]);
    }
    return OC_OK;
}

/* Metrics with intervals of one set of probabilities; where `reference` is given, its skill over that too. */
static oc_status judge(const evaluation *e, int horizon, const float *p, const answers *reference, json_t *out,
                       const char *skill_name)
{
    oc_metrics m;
    answers a = {0};
    oc_bootstrap_result intervals;
    const int8_t *truth = e->predictions.truth + (size_t)horizon * e->predictions.count;
    size_t count = e->predictions.count;
    oc_bootstrap_rule rule = {oc_bootstrap_block(count, e->horizon_rows[horizon] * e->symbols), e->options->resamples,
                              0.95, e->options->seed};
    OC_TRY(oc_metrics_compute(&m, p, truth, count));
    oc_status status = answers_make(e, horizon, p, &a);
    oc_bootstrap_input in = {a.truth, a.predicted, a.loss, reference ? reference->loss : NULL, count};
    if (status == OC_OK) status = oc_bootstrap(&intervals, &in, &rule);
    if (status == OC_OK) status = oc_metrics_to_json(out, &m, &intervals, rule.block);
    if (status == OC_OK && reference) status = oc_json_put(out, skill_name, oc_interval_json(intervals.skill));
    answers_free(&a);
    return status;
}

/* Each baseline judged alone, and the model's skill over it. */
static oc_status judge_baseline(const evaluation *e, int horizon, oc_baseline b, const float *p, const float *model,
                                json_t *list)
{
    answers a = {0};
    json_t *row = json_object(), *model_row = json_object();
    oc_status status;
    OC_TRY_GOTO(status, done, oc_json_put(row, "name", json_string(oc_baseline_name(b))));
    OC_TRY_GOTO(status, done, judge(e, horizon, p, NULL, row, NULL));
    OC_TRY_GOTO(status, done, answers_make(e, horizon, p, &a));
    OC_TRY_GOTO(status, done, judge(e, horizon, model, &a, model_row, "skill"));
    OC_TRY_GOTO(status, done, oc_json_put(row, "skill_of_model", json_incref(json_object_get(model_row, "skill"))));
    status = json_array_append(list, row) == 0 ? OC_OK : OC_FAIL(OC_EMEMORY, "no memory for the metrics");
done:
    answers_free(&a);
    json_decref(row);
    json_decref(model_row);
    return status;
}

/* The simulated market's truth: expected accuracy of the best decisions and of everybody's (the mean true probability
 * of what they chose), and the share of the gap between majority and best that each closes. Expectations leave out the
 * luck of the labels. */
static oc_status judge_truth(const evaluation *e, int horizon, const float *const *p, json_t *out)
{
    double best = 0, expected[1 + OC_BASELINE_COUNT] = {0}, n = (double)e->predictions.count;
    oc_truth *truth = NULL;
    oc_status status;
    OC_TRY(oc_truth_open(&truth, e->options->truth));
    const oc_label_rule *rule = &e->labels[horizon]->rule;
    const oc_truth_info *about = oc_truth_about(truth);
    bool same = rule->kind == OC_LABEL_DIRECTION && rule->horizon_rows == about->horizon && rule->entry_delay_ns == 0 &&
                fabs(rule->threshold - about->threshold) <= 1e-12;
    if (!same)
        OC_TRY_GOTO(status, done,
                    OC_FAIL(OC_EDATA, "%s is the truth of label %s, the model predicts %s", e->options->truth,
                            about->label, e->bundle->labels[horizon]));
    for (size_t i = 0; i < e->predictions.count; i++) {
        const oc_truth_row *row = oc_truth_find(truth, e->d->time_ns[e->predictions.row[i]]);
        if (!row)
            OC_TRY_GOTO(status, done,
                        OC_FAIL(OC_EDATA, "%s knows no row at %lld ns", e->options->truth,
                                (long long)e->d->time_ns[e->predictions.row[i]]));
        best += fmax(row->p[0], fmax(row->p[1], row->p[2])) / n;
        for (int m = 0; m < 1 + OC_BASELINE_COUNT; m++) expected[m] += row->p[oc_argmax3(p[m] + 3 * i)] / n;
    }
    double floor_ = expected[1 + OC_BASELINE_MAJORITY], gap = best - floor_;
    json_t *rows = json_object();
    for (int m = 0; m < 1 + OC_BASELINE_COUNT; m++)
        (void)json_object_set_new(rows, m ? oc_baseline_name((oc_baseline)(m - 1)) : "model",
                                  json_pack("{s:f, s:o}", "expected_accuracy", expected[m], "gap_closed",
                                            gap > 0 ? json_real((expected[m] - floor_) / gap) : json_null()));
    status = oc_json_put(out, "best_achievable",
                         json_pack("{s:f, s:f, s:o}", "expected_accuracy", best, "gap", gap, "of", rows));
done:
    oc_truth_close(truth);
    return status;
}

/* Mean attention over evenly spaced windows: [heads][T]. */
static oc_status attention_mean(const evaluation *e, json_t *out)
{
    const oc_model_shape *s = &e->bundle->shape;
    if (s->heads == 0 || s->trunk != OC_TRUNK_LSTM) return oc_json_put(out, "attention", json_null());
    size_t cells = (size_t)s->heads * (size_t)s->steps,
           windows = e->samples.count < ATTENTION_WINDOWS ? e->samples.count : ATTENTION_WINDOWS;
    oc_model *model = NULL;
    float *one = NULL;
    double *sum = NULL;
    oc_status status;
    oc_backend_config config = {.kind = OC_BACKEND_CPU};
    OC_TRY_GOTO(status, done, oc_model_open(&model, e->bundle, &config, 1));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&one, cells, sizeof *one, "attention"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&sum, cells, sizeof *sum, "attention"));
    for (size_t i = 0; i < windows; i++) {
        int64_t last = e->samples.row[i * e->samples.count / windows];
        OC_TRY_GOTO(status, done,
                    oc_model_explain(model, e->d->x + (size_t)(last - s->steps + 1) * e->d->width, one, cells));
        for (size_t c = 0; c < cells; c++) sum[c] += (double)one[c] / (double)windows;
    }
    json_t *heads = json_array();
    for (int h = 0; h < s->heads; h++)
        (void)json_array_append_new(heads, oc_json_reals_of(sum + (size_t)h * (size_t)s->steps, (size_t)s->steps));
    status = oc_json_put(out, "attention", heads);
done:
    oc_memory_free(one);
    oc_memory_free(sum);
    oc_model_close(model);
    return status;
}

static oc_status judge_horizon(const evaluation *e, int horizon, json_t *out)
{
    float *p[1 + OC_BASELINE_COUNT] = {NULL}; /* the model, then the baselines */
    json_t *baselines = json_array(), *skill = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, horizon_of(&e->predictions, horizon, &p[0]));
    OC_TRY_GOTO(status, done, oc_json_put(out, "label", json_string(e->bundle->labels[horizon])));
    OC_TRY_GOTO(status, done, judge(e, horizon, p[0], NULL, out, NULL));
    for (int b = 0; b < OC_BASELINE_COUNT; b++) {
        OC_TRY_GOTO(status, done, oc_memory_new_array(&p[1 + b], e->predictions.count * 3, sizeof(float), "baseline"));
        OC_TRY_GOTO(status, done,
                    oc_baseline_predict((oc_baseline)b, e->d, e->labels[horizon], &e->train, &e->samples, p[1 + b]));
        OC_TRY_GOTO(status, done, judge_baseline(e, horizon, (oc_baseline)b, p[1 + b], p[0], baselines));
    }
    skill =
        json_object_get(json_object_get(json_array_get(baselines, OC_BASELINE_PERSISTENCE), "skill_of_model"), "value");
    OC_TRY_GOTO(status, done, oc_json_put(out, "skill_over_persistence", json_incref(skill)));
    OC_TRY_GOTO(status, done, oc_json_put(out, "baselines", json_incref(baselines)));
    if (e->options->truth) OC_TRY_GOTO(status, done, judge_truth(e, horizon, (const float *const *)p, out));
    OC_TRY_GOTO(status, done, oc_json_put(out, "classes", oc_class_shares_json(e, horizon)));
    OC_TRY_GOTO(status, done, oc_json_put(out, "verdict", oc_verdict_json(out)));
done:
    for (int m = 0; m < 1 + OC_BASELINE_COUNT; m++) oc_memory_free(p[m]);
    json_decref(baselines);
    return status;
}

static oc_status evaluate_all(const evaluation *e, json_t *out)
{
    json_t *horizons = json_array();
    oc_status status = oc_json_put(out, "horizons", horizons);
    for (int h = 0; h < e->bundle->shape.horizons && status == OC_OK; h++) {
        json_t *one = json_object();
        status = judge_horizon(e, h, one);
        if (status == OC_OK && h == 0 && json_object_update_missing(out, one) != 0)
            status = OC_FAIL(OC_EMEMORY, "no memory for the metrics");
        if (json_array_append_new(horizons, one) != 0) status = OC_FAIL(OC_EMEMORY, "no memory for the metrics");
    }
    if (status == OC_OK) status = attention_mean(e, out);
    return status;
}

/* The ledger gets its line before anyone can read the figures, so that a look cannot go uncounted. */
static oc_status ledger_note(const evaluation *e)
{
    size_t count = e->predictions.count;
    int64_t *time_ns = NULL;
    double *returns = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&time_ns, count, sizeof *time_ns, "returns"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&returns, count, sizeof *returns, "returns"));
    oc_returns_compute(e, time_ns, returns);
    oc_ledger_entry entry = {.command = "evaluate",
                             .bundle = e->bundle->weights,
                             .seed = e->bundle->seed,
                             .fold = e->bundle->fold_name,
                             .split = oc_split_name[e->options->split],
                             .time_ns = time_ns,
                             .returns = returns,
                             .return_count = count};
    status = oc_ledger_append(e->d, &entry);
done:
    oc_memory_free(time_ns);
    oc_memory_free(returns);
    return status;
}

/* Predictions wait under another name until the metrics are written, so that a full disk leaves the old pair whole. A
 * crash between the two renames leaves a pair that a report refuses. */
static oc_status write_result(const evaluation *e, json_t *out)
{
    char waiting[OC_PATH_MAX], path[OC_PATH_MAX], text[OC_HASH_TEXT];
    oc_hash hash;
    oc_status status;
    OC_TRY(oc_path_make_folders(e->options->out));
    OC_TRY(oc_path_join(waiting, sizeof waiting, e->options->out, "predictions.new.h5"));
    OC_TRY_GOTO(status, done,
                oc_predictions_save(&e->predictions, e->bundle, e->d, oc_split_name[e->options->split], waiting));
    OC_TRY_GOTO(status, done, oc_hash_file(waiting, &hash));
    OC_TRY_GOTO(status, done, oc_json_put(out, "predictions_hash", json_string(oc_hash_text(hash, text))));
    OC_TRY_GOTO(status, done, oc_path_join(path, sizeof path, e->options->out, "metrics.json"));
    OC_TRY_GOTO(status, done, oc_json_save(path, out));
    OC_TRY_GOTO(status, done, oc_path_join(path, sizeof path, e->options->out, "predictions.h5"));
    if (rename(waiting, path) != 0) status = OC_FAIL(OC_EFAILED, "%s: cannot rename: %s", waiting, strerror(errno));
done:
    if (status != OC_OK) (void)unlink(waiting);
    return status;
}

oc_status oc_evaluate_split(const oc_evaluate_options *o, const oc_dataset *d, json_t **metrics)
{
    evaluation e;
    json_t *out = json_object();
    oc_status status;
    OC_TRY_GOTO(status, done, evaluation_open(&e, o, d));
    OC_TRY_GOTO(status, done, oc_predictions_make(&e.predictions, e.bundle, d, e.labels, &e.samples, o->threads));
    OC_TRY_GOTO(status, done, ledger_note(&e));
    OC_TRY_GOTO(status, done, oc_provenance_to_json(&e, out));
    OC_TRY_GOTO(status, done, evaluate_all(&e, out));
    OC_TRY_GOTO(status, done, oc_learning_to_json(&e, out));
    OC_TRY_GOTO(status, done, write_result(&e, out));
    *metrics = json_incref(out);
done:
    evaluation_close(&e);
    json_decref(out);
    return status;
}

oc_status oc_evaluate_run(const oc_evaluate_options *o, json_t **metrics)
{
    oc_dataset *d = NULL;
    OC_TRY(oc_dataset_open(&d, o->data));
    oc_status status = oc_evaluate_split(o, d, metrics);
    oc_dataset_close(d);
    return status;
}
