/* backtest_model.c - a bundle answers the loop: one row in, the answer of the window that it completes out. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "evaluate/backtest_parts.h"

oc_status backtest_model_load(backtest_model *m, const oc_config *c)
{
    const char *folder = oc_config_text(c, "model.bundle"), *made = oc_config_text(c, "model.predictions");
    bool wanted = strcmp(oc_config_text(c, "policy.kind"), "model") == 0;
    if (*folder && *made) return oc_config_refuse(c, "model.predictions", "model.bundle is given too: which?");
    if (wanted && !*folder && !*made)
        return oc_config_refuse(c, "model.bundle",
                                "policy model needs the folder of a bundle, RUN/model, or model.predictions");
    if (wanted && *made) return backtest_file_load(&m->made, c);
    if (!wanted || !*folder) return OC_OK;
    OC_TRY(oc_bundle_load(&m->bundle, folder));
    m->horizon = (size_t)oc_config_int(c, "model.horizon");
    if (m->horizon >= (size_t)m->bundle->shape.horizons)
        return oc_config_refuse(c, "model.horizon", "%s has %d labels, counted from 0", folder,
                                m->bundle->shape.horizons);
    return OC_OK;
}

oc_status backtest_model_open(backtest_model *m, uint32_t instruments)
{
    const oc_backend_config backend = {.kind = OC_BACKEND_CPU};
    if (!m->bundle) return OC_OK;
    OC_TRY(oc_model_open(&m->model, m->bundle, &backend, (int)instruments));
    OC_TRY(oc_memory_new_array(&m->past, instruments * (size_t)m->bundle->shape.steps,
                               (size_t)m->bundle->shape.inputs * sizeof *m->past, "rows before a backtest"));
    OC_TRY(oc_memory_new_array(&m->past_count, instruments, sizeof *m->past_count, "rows before a backtest"));
    return oc_sliding_open(&m->sliding, m->model, instruments);
}

void backtest_model_close(backtest_model *m)
{
    if (m->sliding) oc_sliding_close(m->sliding);
    if (m->model) oc_model_close(m->model);
    if (m->bundle) oc_bundle_close(m->bundle);
    oc_memory_free(m->past);
    oc_memory_free(m->past_count);
    backtest_file_close(&m->made);
    memset(m, 0, sizeof *m);
}

/* Rows before the first that is asked for wait in a ring: to fill the windows from the last of them costs T steps, to
 * push them all would cost as much as asking for each. */
static oc_status history(void *context, const oc_feature_row *row)
{
    backtest_model *m = context;
    size_t steps = (size_t)m->bundle->shape.steps, width = (size_t)m->bundle->shape.inputs;
    uint64_t *count = &m->past_count[row->instrument];
    if (row->run_length <= 1) *count = 0;
    if (row->run_length == 0) return OC_OK;
    memcpy(m->past + (row->instrument * steps + *count % steps) * width, row->x, width * sizeof *row->x);
    ++*count;
    return OC_OK;
}

/* The windows of one instrument as if its last rows had been pushed one by one. */
static oc_status past_push(backtest_model *m, uint32_t instrument)
{
    size_t steps = (size_t)m->bundle->shape.steps, width = (size_t)m->bundle->shape.inputs;
    uint64_t count = m->past_count[instrument], kept = count < steps ? count : steps;
    const float *ring = m->past + instrument * steps * width;
    m->past_count[instrument] = 0;
    for (uint64_t i = count - kept; i < count; i++) {
        uint8_t full;
        OC_TRY(oc_sliding_step(m->sliding, &instrument, ring + i % steps * width, 1, m->probabilities,
                               (size_t)m->bundle->shape.horizons * OC_CLASSES, &full));
        OC_TRY(oc_sliding_advance(m->sliding, &instrument, 1));
    }
    return OC_OK;
}

/* A row of run_length 0 belongs to no window; one of run_length 1 is the first behind a break. */
static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    backtest_model *m = context;
    uint8_t full;
    *made = false;
    if (m->past_count[row->instrument] > 0) OC_TRY(past_push(m, row->instrument));
    if (row->run_length <= 1) oc_sliding_reset(m->sliding, row->instrument);
    if (row->run_length == 0) return OC_OK;
    OC_TRY(oc_sliding_step(m->sliding, &row->instrument, row->x, 1, m->probabilities,
                           (size_t)m->bundle->shape.horizons * OC_CLASSES, &full));
    OC_TRY(oc_sliding_advance(m->sliding, &row->instrument, 1));
    if (!full) return OC_OK;
    const float *answer = m->probabilities + m->horizon * OC_CLASSES;
    *p = (oc_prediction){
        .buy = answer[0], .sell = answer[1], .hold = answer[2], .state = OC_PREDICTION_OK, .model_version = 1};
    *made = true;
    return OC_OK;
}

oc_predictor backtest_model_predictor(backtest_model *m)
{
    if (m->made.file) return backtest_file_predictor(&m->made);
    return m->sliding ? (oc_predictor){.context = m, .predict = predict, .history = history} : (oc_predictor){0};
}

oc_status backtest_features_open(oc_features **out, const backtest_model *m, const oc_config *c,
                                 const oc_instrument *universe, uint32_t instruments)
{
    const char *names[OC_FEATURES_MAX] = {"return:1"};
    char want[OC_HASH_TEXT], have[OC_HASH_TEXT];
    oc_feature_spec spec = {.features = names,
                            .feature_count = 1,
                            .sample = oc_config_text(c, "sample"),
                            .bar_spread = oc_config_real(c, "bar_spread"),
                            .row_ns = oc_config_int(c, "row_ns")};
    if (!m->bundle && oc_config_count(c, "features") > 0) {
        spec.feature_count = oc_config_count(c, "features");
        for (size_t i = 0; i < spec.feature_count; i++) names[i] = oc_config_item(c, "features", i);
    }
    if (m->bundle) {
        spec.feature_count = (size_t)m->bundle->shape.inputs;
        if (spec.feature_count > OC_FEATURES_MAX)
            return OC_FAIL(OC_EDATA, "%s: %zu features, at most %d are possible", oc_config_text(c, "model.bundle"),
                           spec.feature_count, OC_FEATURES_MAX);
        for (size_t i = 0; i < spec.feature_count; i++) names[i] = m->bundle->features[i];
    }
    OC_TRY(oc_features_open(out, &spec, universe, instruments));
    oc_hash schema = oc_features_schema(*out);
    if (!m->bundle || oc_hash_equal(schema, m->bundle->schema)) return OC_OK;
    return OC_FAIL(OC_EDATA,
                   "%s was trained on features with schema %s; its columns with sample, row_ns and bar_spread of this "
                   "config, over the instruments of these events, have schema %s: take what the dataset was built with",
                   oc_config_text(c, "model.bundle"), oc_hash_text(m->bundle->schema, want),
                   oc_hash_text(schema, have));
}

/* ---- what was seen ---- */

const oc_hash *backtest_model_dataset(const backtest_model *m)
{
    if (m->made.file) return &m->made.file->dataset;
    return m->bundle ? &m->bundle->dataset : NULL;
}

const oc_hash *backtest_model_weights(const backtest_model *m)
{
    if (m->made.file) return &m->made.file->bundle;
    return m->bundle ? &m->bundle->weights : NULL;
}

const char *backtest_model_name(const backtest_model *m, const oc_config *c)
{
    return oc_config_text(c, m->made.file ? "model.predictions" : "model.bundle");
}

bool backtest_model_provenance(const backtest_model *m)
{
    if (m->made.file) return m->made.file->seen_count > 0;
    return !m->bundle || m->bundle->seen_count > 0;
}

json_t *backtest_model_json(const backtest_model *m, const oc_config *c)
{
    char weights[OC_HASH_TEXT] = "", dataset[OC_HASH_TEXT] = "", content[OC_HASH_TEXT] = "";
    if (!m->bundle && !m->made.file) return json_pack("{s:s}", "kind", "rule");
    oc_hash_text(*backtest_model_weights(m), weights);
    oc_hash_text(*backtest_model_dataset(m), dataset);
    if (m->made.file) oc_hash_text(m->made.file->content, content);
    return json_pack("{s:s, s:s, s:s, s:s, s:s?, s:I}", "kind", m->made.file ? "predictions" : "bundle", "path",
                     backtest_model_name(m, c), "bundle_hash", weights, "dataset_hash", dataset, "file_hash",
                     m->made.file ? content : NULL, "joined", (json_int_t)m->made.joined);
}

static size_t seen_count(const backtest_model *m)
{
    return m->made.file ? m->made.file->seen_count : m->bundle ? m->bundle->seen_count : 0;
}

static oc_seen seen_at(const backtest_model *m, size_t i)
{
    if (!m->made.file) return m->bundle->seen[i];
    const oc_prediction_seen *s = &m->made.file->seen[i];
    oc_seen seen = {.first_ns = s->first_ns, .last_ns = s->last_ns};
    memcpy(seen.symbol, s->symbol, sizeof seen.symbol);
    return seen;
}

static oc_status seen_refuse(const backtest_model *m, const oc_seen *s, const backtest_span *span, const oc_config *c)
{
    char first[OC_TIME_TEXT], last[OC_TIME_TEXT], from[OC_TIME_TEXT], to[OC_TIME_TEXT];
    return OC_FAIL(OC_EDATA,
                   "%s has seen %s from %s to %s in training or validation; the backtest goes from %s to %s. Set "
                   "data.unseen=true or data.first_ns, or say --in-sample to run it all the same and have it stamped",
                   backtest_model_name(m, c), s->symbol, oc_time_text(s->first_ns, first),
                   oc_time_text(s->last_ns, last), oc_time_text(span->first_ns, from), oc_time_text(span->last_ns, to));
}

oc_status backtest_span_choose(backtest_span *span, const backtest_model *m, const oc_config *c,
                               const oc_event_merge *merge, bool allowed)
{
    int64_t first = oc_config_int(c, "data.first_ns"), last = oc_config_int(c, "data.last_ns");
    *span = (backtest_span){INT64_MAX, INT64_MIN, false};
    for (size_t i = 0; i < oc_config_count(c, "data.events"); i++) {
        const oc_event_info *info = oc_event_merge_source(merge, i);
        if (info->event_count == 0) continue;
        if (info->first_ns < span->first_ns) span->first_ns = info->first_ns;
        if (info->last_ns > span->last_ns) span->last_ns = info->last_ns;
    }
    if (first > span->first_ns) span->first_ns = first;
    if (last != 0 && last < span->last_ns) span->last_ns = last;
    size_t seen = seen_count(m);
    for (size_t i = 0; oc_config_bool(c, "data.unseen") && i < seen; i++) {
        oc_seen s = seen_at(m, i);
        if (s.last_ns >= span->first_ns && s.last_ns < INT64_MAX) span->first_ns = s.last_ns + 1;
    }
    if (!(span->first_ns <= span->last_ns))
        return OC_FAIL(OC_EDATA, "%s: no event lies within data.first_ns, data.last_ns and data.unseen",
                       oc_config_item(c, "data.events", 0));
    for (size_t i = 0; i < seen; i++) {
        oc_seen s = seen_at(m, i);
        if (s.first_ns > span->last_ns || s.last_ns < span->first_ns) continue;
        if (!allowed) return seen_refuse(m, &s, span, c);
        span->in_sample = true;
    }
    return OC_OK;
}
