/* backtest.c - opens what the loop needs, runs it, says what it came to. */
#include "evaluate/backtest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "datasets/ledger.h"
#include "evaluate/backtest_parts.h"

enum { RESULTS_BYTES_MAX = 1 << 20 };

static oc_hash build_hash(void)
{
    return oc_hash_bytes(oc_build_text(), strlen(oc_build_text()));
}

/* ---- the ledger ---- */

/* The run is a trial where it looks at what the model has not seen. */
static oc_status ledger_note(const backtest *b)
{
    const char *path = oc_config_text(b->config, "data.dataset");
    oc_dataset *d;
    if (!*path) return OC_OK;
    OC_TRY(oc_dataset_open(&d, path));
    const oc_ledger_entry entry = {.command = "backtest",
                                   .config = oc_hash_bytes(b->yaml, strlen(b->yaml)),
                                   .bundle = b->model.bundle ? b->model.bundle->weights : (oc_hash){0, 0},
                                   .seed = (uint64_t)oc_config_int(b->config, "seed"),
                                   .split = b->span.in_sample ? NULL : "test"};
    oc_status status = OC_OK;
    if (b->model.bundle && !oc_hash_equal(d->root, b->model.bundle->dataset))
        status = OC_FAIL(OC_EDATA, "%s is not the dataset that %s was trained on: name that, or none", path,
                         oc_config_text(b->config, "model.bundle"));
    if (status == OC_OK) status = oc_ledger_append(d, &entry);
    oc_dataset_close(d);
    return status;
}

/* ---- opening ---- */

static oc_status events_open(backtest *b)
{
    size_t count = oc_config_count(b->config, "data.events");
    OC_TRY(oc_memory_new_array(&b->paths, count, sizeof *b->paths, "data.events"));
    for (size_t i = 0; i < count; i++) b->paths[i] = oc_config_item(b->config, "data.events", i);
    OC_TRY(oc_event_merge_open(&b->merge, b->paths, count));
    b->universe = oc_event_merge_instruments(b->merge, &b->instruments);
    return OC_OK;
}

/* Everything that can be refused is refused before the folder is made. */
oc_status backtest_prepare(backtest *b, bool in_sample)
{
    const oc_config *c = b->config;
    OC_TRY(events_open(b));
    OC_TRY(backtest_model_load(&b->model, c));
    OC_TRY(backtest_span_choose(&b->span, &b->model, c, b->merge, in_sample));
    b->span.in_sample = in_sample;
    OC_TRY(backtest_features_open(&b->features, &b->model, c, b->universe, b->instruments));
    OC_TRY(backtest_setup_read(&b->setup, c, b->universe, b->instruments));
    oc_tally_open(&b->tally, oc_config_int(c, "report.interval_ns"), &b->setup.engine);
    b->yaml = oc_config_dump(c);
    return b->yaml ? OC_OK : OC_FAIL(OC_EMEMORY, "%s: no memory for the resolved config", b->out);
}

oc_desk_options backtest_desk_options(const backtest *b)
{
    bool order = strcmp(oc_config_text(b->config, "journal.durability"), "order") == 0;
    return (oc_desk_options){.folder = b->out,
                             .build = build_hash(),
                             .durability = order ? OC_DURABILITY_ORDER : OC_DURABILITY_GROUP,
                             .snapshot_every = (uint64_t)oc_config_int(b->config, "journal.snapshot_every")};
}

oc_status backtest_begin(const backtest *b)
{
    char path[OC_PATH_MAX];
    OC_TRY(oc_path_join(path, sizeof path, b->out, "config.yaml"));
    OC_TRY(oc_file_write(path, b->yaml, strlen(b->yaml)));
    return ledger_note(b);
}

/* What a backtest does its own way: the model computes here, the venue is beside it, the journal is new. */
static oc_status backtest_open(backtest *b, bool in_sample)
{
    OC_TRY(backtest_prepare(b, in_sample));
    OC_TRY(backtest_model_open(&b->model, b->instruments));
    OC_TRY(oc_simulated_open(&b->venue, &b->setup.venue));
    const oc_desk_options desk = backtest_desk_options(b);
    OC_TRY(oc_desk_open(&b->desk, &b->setup.engine, &desk));
    return backtest_begin(b);
}

void backtest_close(backtest *b)
{
    if (b->desk && oc_desk_close(b->desk, false) != OC_OK) oc_log_failure(OC_LOG_WARN);
    if (b->venue) oc_simulated_close(b->venue);
    if (b->features) oc_features_close(b->features);
    backtest_model_close(&b->model);
    if (b->merge) oc_event_merge_close(b->merge);
    oc_memory_free(b->paths);
    free(b->yaml);
    oc_memory_free(b);
}

/* ---- the run ---- */

static oc_status feed_next(void *context, const oc_event **events, size_t *count)
{
    backtest *b = context;
    OC_TRY(oc_event_merge_run(b->merge, events, count));
    b->events += *count;
    oc_progress_update(&b->progress, b->events);
    return OC_OK;
}

oc_loop_setup backtest_loop_setup(backtest *b)
{
    return (oc_loop_setup){.feed = {b, feed_next},
                           .features = b->features,
                           .predictor = backtest_model_predictor(&b->model),
                           .desk = b->desk,
                           .venue = b->venue ? oc_simulated_venue(b->venue) : (oc_venue){0},
                           .tally = &b->tally,
                           .decision_delay_ns = oc_config_int(b->config, "decision_delay_ns"),
                           .first_ns = b->span.first_ns,
                           .last_ns = b->span.last_ns};
}

oc_status backtest_loop(backtest *b, const oc_loop_setup *setup, const char *what)
{
    int64_t start = oc_clock_monotonic_ns();
    oc_progress_start(&b->progress, what, "events", oc_event_merge_total(b->merge));
    OC_TRY(oc_loop_run(setup, &b->loop));
    oc_progress_finish(&b->progress);
    b->took_ns = oc_clock_monotonic_ns() - start;
    return oc_desk_end(b->desk);
}

/* ---- what it came to ---- */

static void real_set(json_t *object, const char *key, double value) /* what is undefined is null */
{
    (void)json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void int_set(json_t *object, const char *key, int64_t value)
{
    (void)json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void money_set(const backtest *b, json_t *out)
{
    oc_engine_totals t = oc_engine_totals_of(oc_desk_engine(b->desk));
    int_set(out, "pnl_micros", t.equity_micros);
    int_set(out, "gross_micros", t.equity_micros + t.fees_micros);
    int_set(out, "fees_micros", t.fees_micros);
    int_set(out, "turnover_micros", (int64_t)b->tally.turnover_micros);
    int_set(out, "max_drawdown", b->tally.drawdown_micros);
    real_set(out, "sharpe", oc_tally_sharpe(&b->tally));
    real_set(out, "sortino", oc_tally_sortino(&b->tally));
    int_set(out, "intervals", (int64_t)b->tally.intervals);
    int_set(out, "trades", (int64_t)b->tally.trades);
    real_set(out, "win_rate", oc_tally_win_rate(&b->tally));
    real_set(out, "profit_factor", oc_tally_profit_factor(&b->tally));
    int_set(out, "orders", (int64_t)t.orders);
    int_set(out, "cancels", (int64_t)t.cancels);
    int_set(out, "fills", (int64_t)t.fills);
    int_set(out, "refusals", (int64_t)t.refusals);
    int_set(out, "bad_inputs", (int64_t)t.bad_inputs);
    int_set(out, "state", t.state);
}

static json_t *positions(const backtest *b)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < b->instruments; i++) {
        oc_position p = oc_engine_position(oc_desk_engine(b->desk), i);
        json_t *row = json_pack("{s:s, s:I, s:I, s:I}", "symbol", b->universe[i].symbol, "lots", (json_int_t)p.lots,
                                "value_micros", (json_int_t)p.value_micros, "fees_micros", (json_int_t)p.fees_micros);
        if (row) (void)json_array_append_new(list, row);
    }
    return list;
}

oc_status backtest_results(const backtest *b, json_t **results)
{
    char hash[OC_HASH_TEXT], state[OC_HASH_TEXT], path[OC_PATH_MAX];
    double seconds = (double)(b->took_ns > 0 ? b->took_ns : 1) / 1e9;
    json_t *out = json_pack("{s:s, s:i, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "format", "outcry-backtest",
                            "version", 1, "in_sample", b->span.in_sample, "build", oc_build_text(), "events",
                            (json_int_t)b->loop.events, "traded_events", (json_int_t)b->loop.traded_events, "rows",
                            (json_int_t)b->loop.rows, "predictions", (json_int_t)b->loop.predictions, "first_ns",
                            (json_int_t)b->loop.first_ns, "last_ns", (json_int_t)b->loop.last_ns);
    if (!out) return OC_FAIL(OC_EMEMORY, "no memory for the results");
    real_set(out, "events_per_second", (double)b->loop.events / seconds);
    money_set(b, out);
    (void)json_object_set_new(out, "positions", positions(b));
    (void)json_object_set_new(out, "journal_hash", json_string(oc_hash_text(oc_desk_journal_hash(b->desk), hash)));
    (void)json_object_set_new(out, "state_hash",
                              json_string(oc_hash_text(oc_engine_state_hash(oc_desk_engine(b->desk)), state)));
    oc_status status = oc_path_join(path, sizeof path, b->out, "results.json");
    if (status == OC_OK) status = oc_json_save(path, out);
    if (status == OC_OK)
        *results = out;
    else
        json_decref(out);
    return status;
}

oc_status oc_backtest_run(const oc_config *config, const char *out, bool in_sample, json_t **results)
{
    backtest *b;
    *results = NULL;
    OC_TRY(oc_memory_new(&b, sizeof *b, "backtest"));
    b->config = config;
    b->out = out;
    oc_status status = backtest_open(b, in_sample);
    const oc_loop_setup setup = backtest_loop_setup(b);
    if (status == OC_OK) status = backtest_loop(b, &setup, "backtest");
    if (status == OC_OK) status = backtest_results(b, results);
    backtest_close(b);
    return status;
}

/* ---- replay ---- */

static oc_status claim_check(const json_t *claims, const char *path, const char *key, const char *have)
{
    const char *claim;
    OC_TRY(oc_json_text(claims, key, path, &claim));
    if (strcmp(claim, have) == 0) return OC_OK;
    return OC_FAIL(OC_EDATA, "%s: %s is %s, the journal beside it gives %s", path, key, claim, have);
}

static oc_status results_check(const char *run, const char *journal, const char *state)
{
    char path[OC_PATH_MAX];
    json_t *claims;
    OC_TRY(oc_path_join(path, sizeof path, run, "results.json"));
    if (!oc_path_exists(path)) return OC_OK;
    OC_TRY(oc_json_load(path, RESULTS_BYTES_MAX, &claims));
    oc_status status = claim_check(claims, path, "journal_hash", journal);
    if (status == OC_OK) status = claim_check(claims, path, "state_hash", state);
    json_decref(claims);
    return status;
}

oc_status oc_backtest_replay(const char *run, json_t **results)
{
    oc_desk_report report;
    char journal[OC_HASH_TEXT], state[OC_HASH_TEXT];
    *results = NULL;
    OC_TRY(oc_desk_replay(run, build_hash(), &report));
    if (report.tail != OC_JOURNAL_CLOSED)
        return OC_FAIL(OC_EDATA, "%s: the journal is cut short after %llu records: it has no end record", run,
                       (unsigned long long)report.records);
    oc_hash_text(report.journal_hash, journal);
    oc_hash_text(report.state_hash, state);
    OC_TRY(results_check(run, journal, state));
    *results = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I}", "journal_hash", journal, "state_hash", state, "identical", 1,
                         "records", (json_int_t)report.records, "inputs", (json_int_t)report.inputs, "compared",
                         (json_int_t)report.compared);
    return *results ? OC_OK : OC_FAIL(OC_EMEMORY, "no memory for the result");
}
