/* build.c - events -> features -> file, one event at a time; rows never stay in memory. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/progress.h"
#include "datasets/row_engine.h"
#include "market/event_file.h"

const oc_config_key oc_build_keys[] = {
    {"data.events", OC_CONFIG_LIST, 1, 65535, NULL, NULL, "", "event files, a path or a list"},
    {"symbols", OC_CONFIG_LIST, 0, OC_INSTRUMENTS_MAX, "", NULL, "",
     "whose rows are written; none: every instrument of the events"},
    {"sample", OC_CONFIG_TEXT, 0, 0, "packet", NULL, "", "when a row is made: packet, packet:N, bar, trade:N"},
    {"features", OC_CONFIG_LIST, 1, OC_FEATURES_MAX, NULL, NULL, "", "columns in order; group:NAME or all for many"},
    {"labels", OC_CONFIG_LIST, 1, 8, NULL, NULL, "",
     "direction:K:THRESHOLD, direction:10s:THRESHOLD, smooth:K:THRESHOLD, cost:K:COST"},
    {"entry_delay_ns", OC_CONFIG_INT, 0, 86400e9, "0", NULL, "ns",
     "a label's base price is the first mid so much after the row"},
    {"bar_spread", OC_CONFIG_REAL, 0, 1e9, "0", NULL, "price", "spread of bars, which have none; stamped \"assumed\""},
    {"row_ns", OC_CONFIG_INT, 0, 86400e9 * 31, "0", NULL, "ns",
     "mean time between rows, for recursive averages; 0: 100 ms a packet, 1 s a trade, 1 min a bar"},
    {"seed", OC_CONFIG_INT, 0, 9e15, "1", NULL, "", "not used by a build: it draws nothing; kept for scripts"},
    {"threads", OC_CONFIG_INT, 0, 1024, "1", NULL, "", "not used by a build: one stream is one order"},
    {"log.level", OC_CONFIG_CHOICE, 0, 0, "info", "error|warn|info|debug", "", "least level that is logged"},
};
const size_t oc_build_key_count = sizeof oc_build_keys / sizeof *oc_build_keys;

/* ---- the standard engine ------------------------------------------------------------------------------------------
 */

static oc_status standard_open(void *context, void **engine, const oc_feature_spec *spec, const oc_instrument *universe,
                               size_t instruments)
{
    oc_features *e;
    (void)context;
    OC_TRY(oc_features_open(&e, spec, universe, instruments));
    *engine = e;
    return OC_OK;
}

static void standard_close(void *engine) { oc_features_close(engine); }
static void standard_reset(void *engine) { oc_features_reset(engine); }
static void standard_begin(void *engine) { oc_features_begin(engine); }
static oc_features *standard_features(void *engine) { return engine; }

static void standard_history(void *engine, uint32_t *events, int64_t *ns)
{
    *events = oc_features_history_events(engine);
    *ns = oc_features_history_ns(engine);
}

static oc_status standard_apply(void *engine, const oc_event *event, const oc_feature_row **row)
{
    return oc_features_apply(engine, event, row);
}

static oc_status standard_label(void *context, const oc_label_rule *rule, const oc_label_series *s, size_t first,
                                size_t last, oc_label_columns *out)
{
    (void)context;
    return oc_label_compute(rule, s, first, last, out);
}

const oc_row_engine oc_row_engine_standard = {
    NULL,           standard_open,  standard_close, standard_reset, standard_begin, standard_features, standard_history,
    standard_apply, standard_label,
};

/* ---- the config ---------------------------------------------------------------------------------------------------
 */

oc_status oc_build_plan_read(oc_build_plan *p, const oc_config *c)
{
    *p = (oc_build_plan){.spec = {.features = p->features, .feature_count = oc_config_count(c, "features"),
                                  .sample = oc_config_text(c, "sample"), .bar_spread = oc_config_real(c, "bar_spread"),
                                  .row_ns = oc_config_int(c, "row_ns")}};
    for (size_t i = 0; i < p->spec.feature_count; i++) p->features[i] = oc_config_item(c, "features", i);
    p->label_count = oc_config_count(c, "labels");
    for (size_t i = 0; i < p->label_count; i++) {
        if (oc_label_parse(&p->labels[i], oc_config_item(c, "labels", i), oc_config_int(c, "entry_delay_ns")) != OC_OK)
            return oc_status_prefix(OC_ECONFIG, "%s", oc_config_place(c, "labels"));
        for (size_t k = 0; k < i; k++)
            if (strcmp(p->labels[k].text, p->labels[i].text) == 0)
                return oc_config_refuse(c, "labels", "%s stands there twice", p->labels[i].text);
    }
    p->event_count = oc_config_count(c, "data.events");
    OC_TRY(oc_memory_new_array(&p->events, p->event_count, sizeof *p->events, "data.events"));
    for (size_t i = 0; i < p->event_count; i++) p->events[i] = oc_config_item(c, "data.events", i);
    return OC_OK;
}

void oc_build_plan_free(oc_build_plan *p)
{
    oc_memory_free(p->events);
    p->events = NULL;
}

/* ---- the build ----------------------------------------------------------------------------------------------------
 */

typedef struct build {
    const oc_config *config;
    const oc_row_engine *rows;
    oc_build_plan plan;
    oc_event_merge *merge;
    void *engine;
    char *yaml;
    oc_feature_info *features;
    oc_dataset_source *sources;
    const oc_instrument *universe;
    uint32_t instruments;
    const char *symbols[OC_INSTRUMENTS_MAX];
    bool wanted[OC_INSTRUMENTS_MAX], broken[OC_INSTRUMENTS_MAX];
    oc_dataset_plan file;
    oc_dataset_writer *writer;
    oc_progress progress;
    uint64_t events;
} build;

static oc_status symbols_choose(build *b)
{
    size_t count = oc_config_count(b->config, "symbols");
    for (uint32_t i = 0; i < b->instruments; i++) {
        b->symbols[i] = b->universe[i].symbol;
        b->wanted[i] = count == 0;
    }
    for (size_t k = 0; k < count; k++) {
        uint32_t i = 0;
        while (i < b->instruments && strcmp(b->symbols[i], oc_config_item(b->config, "symbols", k)) != 0) i++;
        if (i == b->instruments)
            return oc_config_refuse(b->config, "symbols", "the events have no instrument %s",
                                    oc_config_item(b->config, "symbols", k));
        b->wanted[i] = true;
    }
    return OC_OK;
}

static oc_status sources_describe(build *b)
{
    OC_TRY(oc_memory_new_array(&b->sources, b->plan.event_count, sizeof *b->sources, "sources"));
    for (size_t i = 0; i < b->plan.event_count; i++) {
        if (strlen(b->plan.events[i]) >= sizeof b->sources[i].path)
            return oc_config_refuse(b->config, "data.events", "path %zu is over %zu bytes", i,
                                    sizeof b->sources[i].path - 1);
        memcpy(b->sources[i].path, b->plan.events[i], strlen(b->plan.events[i]) + 1);
        b->sources[i].content = oc_event_merge_source(b->merge, i)->content;
    }
    return OC_OK;
}

static oc_status build_open(build *b, const char *out_path)
{
    OC_TRY(oc_build_plan_read(&b->plan, b->config));
    OC_TRY(oc_event_merge_open(&b->merge, b->plan.events, b->plan.event_count));
    b->universe = oc_event_merge_instruments(b->merge, &b->instruments);
    OC_TRY(symbols_choose(b));
    OC_TRY(sources_describe(b));
    OC_TRY(b->rows->open(b->rows->context, &b->engine, &b->plan.spec, b->universe, b->instruments));
    const oc_features *f = b->rows->features(b->engine);
    size_t width = oc_features_width(f);
    OC_TRY(oc_memory_new_array(&b->features, width, sizeof *b->features, "features"));
    for (size_t i = 0; i < width; i++) b->features[i] = *oc_features_info(f, i);
    b->yaml = oc_config_dump(b->config);
    if (!b->yaml) return OC_FAIL(OC_EMEMORY, "%s: no memory for the resolved config", out_path);
    b->file = (oc_dataset_plan){
        .features = b->features, .width = width, .symbols = b->symbols, .symbol_count = b->instruments,
        .labels = b->plan.labels, .label_count = b->plan.label_count, .sources = b->sources,
        .source_count = b->plan.event_count, .schema = oc_features_schema(f), .config = b->yaml,
        .spread_note = strcmp(b->plan.spec.sample, "bar") == 0 ? "assumed" : "measured",
        .rows_expected = oc_event_merge_total(b->merge) / b->instruments + 1, .label = b->rows->label,
        .label_context = b->rows->context,
    };
    return oc_dataset_writer_open(&b->writer, out_path, &b->file);
}

static oc_status event_take(build *b, const oc_event *event)
{
    const oc_feature_row *row;
    if (event->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) b->broken[event->instrument] = true;
    OC_TRY(b->rows->apply(b->engine, event, &row));
    if (!row || !b->wanted[row->instrument]) return OC_OK;
    OC_TRY(oc_dataset_writer_row(b->writer, row->instrument, row, b->broken[row->instrument]));
    b->broken[row->instrument] = false;
    return OC_OK;
}

static oc_status stream(build *b)
{
    const oc_event *events;
    size_t count;
    b->rows->begin(b->engine);
    oc_progress_start(&b->progress, "build", "events", oc_event_merge_total(b->merge));
    for (;;) {
        OC_TRY(oc_event_merge_run(b->merge, &events, &count));
        if (count == 0) break;
        for (size_t i = 0; i < count; i++) OC_TRY(event_take(b, &events[i]));
        b->events += count;
        oc_progress_update(&b->progress, b->events);
    }
    oc_progress_finish(&b->progress);
    return OC_OK;
}

static oc_status build_run(build *b, const char *out_path, oc_build_result *result)
{
    OC_TRY(build_open(b, out_path));
    int64_t start = oc_clock_monotonic_ns();
    OC_TRY(stream(b));
    result->rows = oc_dataset_writer_rows(b->writer);
    if (result->rows == 0)
        return OC_FAIL(OC_EDATA, "%s: %llu events made no row: does sample \"%s\" fit them?", b->plan.events[0],
                       (unsigned long long)b->events, b->plan.spec.sample);
    oc_dataset_writer *w = b->writer;
    b->writer = NULL;
    OC_TRY(oc_dataset_writer_commit(w, &result->root));
    result->events = b->events;
    result->features = b->file.width;
    result->labels = b->file.label_count;
    result->schema = b->file.schema;
    int64_t took = oc_clock_monotonic_ns() - start;
    result->rows_per_second = (double)result->rows / ((double)(took > 0 ? took : 1) / 1e9);
    return OC_OK;
}

oc_status oc_dataset_build_with(const oc_config *config, const char *out_path, const oc_row_engine *rows,
                                oc_build_result *result)
{
    build *b;
    assert(config && out_path && rows && result);
    *result = (oc_build_result){0};
    OC_TRY(oc_memory_new(&b, sizeof *b, "build"));
    b->config = config;
    b->rows = rows;
    oc_status status = build_run(b, out_path, result);
    oc_dataset_writer_abort(b->writer);
    if (b->engine) rows->close(b->engine);
    oc_event_merge_close(b->merge);
    oc_build_plan_free(&b->plan);
    oc_memory_free(b->features);
    oc_memory_free(b->sources);
    free(b->yaml);
    oc_memory_free(b);
    return status;
}

oc_status oc_dataset_build(const oc_config *config, const char *out_path, oc_build_result *result)
{
    return oc_dataset_build_with(config, out_path, &oc_row_engine_standard, result);
}
