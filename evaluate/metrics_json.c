/* metrics_json.c - the keys of metrics.json, one function a part. */
#include "evaluate/metrics_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "datasets/ledger.h"

enum { LOG_BYTES_MAX = 256 << 20, CURVE_POINTS_MAX = 400 };

oc_status oc_json_put(json_t *object, const char *key, json_t *value)
{
    if (!value || json_object_set_new(object, key, value) != 0) return OC_FAIL(OC_EMEMORY, "no memory for the metrics");
    return OC_OK;
}

static json_t *real_or_null(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

json_t *oc_json_reals_of(const double *x, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) (void)json_array_append_new(array, real_or_null(x[i]));
    return array;
}

json_t *oc_interval_json(oc_interval_of i)
{
    return json_pack("{s:o, s:o, s:o}", "value", real_or_null(i.value), "low", real_or_null(i.low), "high",
                     real_or_null(i.high));
}

static json_t *bins_json(const oc_metrics *m)
{
    json_t *bins = json_array();
    for (int b = 0; b < OC_BINS; b++)
        (void)json_array_append_new(bins,
                                    json_pack("{s:I, s:f, s:f}", "count", (json_int_t)m->bin[b].count, "confidence",
                                              m->bin[b].confidence, "accuracy", m->bin[b].accuracy));
    return bins;
}

static json_t *confusion_json(const oc_metrics *m)
{
    json_t *rows = json_array();
    for (int k = 0; k < 3; k++)
        (void)json_array_append_new(rows, json_pack("[I, I, I]", (json_int_t)m->confusion[k][0],
                                                    (json_int_t)m->confusion[k][1], (json_int_t)m->confusion[k][2]));
    return rows;
}

oc_status oc_metrics_to_json(json_t *out, const oc_metrics *m, const oc_bootstrap_result *i, size_t block)
{
    const struct {
        const char *key;
        double value;
    } figures[] = {
        {"accuracy", m->accuracy}, {"macro_f1", m->macro_f1}, {"mcc", m->mcc},
        {"brier", m->brier},       {"ece", m->ece},           {"log_loss", m->log_loss},
    };
    OC_TRY(oc_json_put(out, "samples", json_integer((json_int_t)m->count)));
    for (size_t f = 0; f < sizeof figures / sizeof *figures; f++)
        OC_TRY(oc_json_put(out, figures[f].key, real_or_null(figures[f].value)));
    OC_TRY(oc_json_put(out, "intervals",
                       json_pack("{s:f, s:I, s:o, s:o, s:o, s:o}", "level", 0.95, "block", (json_int_t)block,
                                 "accuracy", oc_interval_json(i->accuracy), "macro_f1", oc_interval_json(i->macro_f1),
                                 "mcc", oc_interval_json(i->mcc), "log_loss", oc_interval_json(i->log_loss))));
    OC_TRY(oc_json_put(out, "precision", oc_json_reals_of(m->precision, 3)));
    OC_TRY(oc_json_put(out, "recall", oc_json_reals_of(m->recall, 3)));
    OC_TRY(oc_json_put(out, "f1", oc_json_reals_of(m->f1, 3)));
    OC_TRY(oc_json_put(out, "confusion", confusion_json(m)));
    return oc_json_put(out, "bins", bins_json(m));
}

static json_t *shares_json(const oc_dataset_label *label, const oc_samples *s)
{
    double share[3] = {0};
    for (size_t i = 0; i < s->count; i++) share[label->class_[s->row[i]]] += 1.0 / (double)s->count;
    return oc_json_reals_of(share, 3);
}

json_t *oc_class_shares_json(const evaluation *e, int horizon)
{
    const oc_dataset_label *label = e->labels[horizon];
    return json_pack("{s:o, s:o, s:o}", "train", shares_json(label, &e->train), "valid", shares_json(label, &e->valid),
                     e->options->split == OC_SPLIT_TEST ? "test" : "judged", shares_json(label, &e->samples));
}

json_t *oc_verdict_json(const json_t *horizon)
{
    json_t *better = json_array(), *worse = json_array(), *row;
    oc_text text = {0};
    size_t i;
    json_array_foreach(json_object_get(horizon, "baselines"), i, row)
    {
        const json_t *low = json_object_get(json_object_get(row, "skill_of_model"), "low");
        bool wins = json_is_number(low) && json_number_value(low) > 0;
        (void)json_array_append(wins ? better : worse, json_object_get(row, "name"));
    }
    if (json_array_size(worse) == 0)
        oc_text_add(
            &text, "The model is better than every baseline: the lower 95 %% bound of its skill over each is above 0.");
    else if (json_array_size(better) == 0)
        oc_text_add(&text, "No skill is shown: the model is no better than any baseline at the 95 %% level.");
    else {
        oc_text_add(&text, "The model is NO better than");
        json_array_foreach(worse, i, row) oc_text_add(&text, "%s %s", i ? "," : "", json_string_value(row));
        oc_text_add(&text, " at the 95 %% level; it is better than");
        json_array_foreach(better, i, row) oc_text_add(&text, "%s %s", i ? "," : "", json_string_value(row));
        oc_text_add(&text, ".");
    }
    json_t *verdict = json_pack("{s:s, s:b, s:o, s:o}", "text", text.data ? text.data : "", "skill_shown",
                                json_array_size(worse) == 0, "better_than", better, "not_better_than", worse);
    oc_text_free(&text);
    return verdict;
}

static json_t *hash_json(oc_hash hash)
{
    char text[OC_HASH_TEXT];
    return json_string(oc_hash_text(hash, text));
}

static json_t *samples_json(const oc_samples *s)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "samples", (json_int_t)s->count, "purged", (json_int_t)s->purged,
                     "embargoed", (json_int_t)s->embargoed, "without_label", (json_int_t)s->without_label,
                     "without_window", (json_int_t)s->without_window);
}

static json_t *model_json(const oc_bundle *b)
{
    const oc_model_shape *s = &b->shape;
    oc_parameters p;
    oc_parameters_describe(&p, s);
    return json_pack("{s:s, s:s, s:o, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:s}", "name", b->name,
                     "version", b->version, "weights_hash", hash_json(b->weights), "trunk",
                     s->trunk == OC_TRUNK_LSTM ? "lstm" : "mlp", "steps", s->steps, "inputs", s->inputs, "layers",
                     s->layers, "hidden", s->hidden, "heads", s->heads, "horizons", s->horizons, "parameters",
                     (json_int_t)p.weights, "seed", (json_int_t)b->seed, "optimiser_steps", (json_int_t)b->train_steps,
                     "build", b->build);
}

/* "trials unknown" is said, not implied, where there is no ledger. */
static oc_status trials_to_json(const evaluation *e, json_t *out)
{
    oc_ledger_summary ledger;
    OC_TRY(oc_ledger_read(e->d, &ledger));
    if (!ledger.present) return oc_json_put(out, "trials", json_string("unknown"));
    OC_TRY(oc_json_put(out, "trials", json_integer((json_int_t)ledger.trials)));
    return oc_json_put(out, "ledger_hash", hash_json(ledger.head));
}

oc_status oc_provenance_to_json(const evaluation *e, json_t *out)
{
    const char *name = strrchr(e->d->path, '/');
    OC_TRY(oc_json_put(out, "format", json_string("outcry-metrics")));
    OC_TRY(oc_json_put(out, "version", json_integer(1)));
    OC_TRY(oc_json_put(out, "split", json_string(oc_split_name[e->options->split])));
    OC_TRY(oc_json_put(out, "model", model_json(e->bundle)));
    OC_TRY(oc_json_put(out, "data",
                       json_pack("{s:s, s:o, s:o, s:o, s:I, s:I}", "file", name ? name + 1 : e->d->path, "root",
                                 hash_json(e->d->root), "sources", hash_json(e->d->sources), "schema",
                                 hash_json(e->d->schema), "rows", (json_int_t)e->d->rows, "features",
                                 (json_int_t)e->d->width)));
    OC_TRY(oc_json_put(out, "fold",
                       json_pack("{s:s, s:s, s:I, s:o, s:I, s:o, s:o, s:o}", "name", e->bundle->fold_name, "of",
                                 e->bundle->folds, "index", (json_int_t)e->bundle->fold_index, "hash",
                                 hash_json(e->bundle->fold), "embargo_ns", (json_int_t)e->bundle->embargo_ns, "train",
                                 samples_json(&e->train), "valid", samples_json(&e->valid), "judged",
                                 samples_json(&e->samples))));
    return trials_to_json(e, out);
}

/* Appends one point of a log line of this kind. */
static void curve_add(json_t *curve, const json_t *line, const char *kind)
{
    const char *have = json_string_value(json_object_get(line, "kind"));
    const json_t *step = json_object_get(line, "step"), *loss = json_object_get(line, "loss");
    if (have && strcmp(have, kind) == 0 && json_is_integer(step) && json_is_number(loss))
        (void)json_array_append_new(curve, json_pack("[I, f]", json_integer_value(step), json_number_value(loss)));
}

static json_t *thinned(json_t *curve)
{
    size_t count = json_array_size(curve), every = (count + CURVE_POINTS_MAX - 1) / CURVE_POINTS_MAX;
    json_t *out = json_array();
    for (size_t i = 0; i < count; i++) {
        if (i % every == 0 || i + 1 == count) (void)json_array_append(out, json_array_get(curve, i));
    }
    json_decref(curve);
    return out;
}

oc_status oc_learning_to_json(const evaluation *e, json_t *out)
{
    char path[OC_PATH_MAX], *text = NULL, *rest = NULL;
    size_t bytes;
    if (snprintf(path, sizeof path, "%s/../log.jsonl", e->options->model) >= (int)sizeof path || !oc_path_exists(path))
        return oc_json_put(out, "learning", json_null());
    OC_TRY(oc_file_read(path, LOG_BYTES_MAX, &text, &bytes));
    json_t *train = json_array(), *valid = json_array();
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *row = json_loads(line, 0, NULL);
        curve_add(train, row, "train");
        curve_add(valid, row, "valid");
        json_decref(row);
    }
    oc_memory_free(text);
    return oc_json_put(out, "learning",
                       json_pack("{s:o, s:o}", "train_loss", thinned(train), "valid_loss", thinned(valid)));
}
