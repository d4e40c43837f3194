/* backtest.c - opens what the loop needs, runs it, says what it came to. */
#include "evaluate/backtest.h"

#include <stdlib.h>
#include <string.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "evaluate/backtest_parts.h"

enum { RESULTS_BYTES_MAX = 1 << 20 };

static oc_hash build_hash(void)
{
    return oc_hash_bytes(oc_build_text(), strlen(oc_build_text()));
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

static oc_status delay_read(backtest *b)
{
    const char *path = oc_config_text(b->config, "decision_delay_file");
    b->delay.fixed_ns = oc_config_int(b->config, "decision_delay_ns");
    return *path ? oc_delay_load(&b->delay, path, (uint64_t)oc_config_int(b->config, "seed")) : OC_OK;
}

void backtest_tally_open(backtest *b)
{
    const oc_config *c = b->config;
    const oc_tally_setup tally = {&b->setup.engine, oc_config_int(c, "report.interval_ns"),
                                  oc_config_int(c, "costs.taker_ppm"), oc_config_int(c, "costs.bar_half_spread_ticks")};
    oc_tally_open(&b->tally, &tally);
}

/* Everything that can be refused is refused before the folder is made. */
oc_status backtest_prepare(backtest *b, bool in_sample)
{
    const oc_config *c = b->config;
    OC_TRY(events_open(b));
    OC_TRY(backtest_model_load(&b->model, c));
    OC_TRY(backtest_span_choose(&b->span, &b->model, c, b->merge, in_sample));
    b->span.in_sample = in_sample;
    if (b->model.made.file)
        OC_TRY(backtest_file_join(&b->model.made, c, &b->span, b->universe, b->instruments));
    OC_TRY(backtest_ledger_open(b));
    OC_TRY(backtest_features_open(&b->features, &b->model, c, b->universe, b->instruments));
    OC_TRY(backtest_setup_read(&b->setup, c, b->universe, b->instruments));
    OC_TRY(delay_read(b));
    backtest_tally_open(b);
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
    return oc_file_write(path, b->yaml, strlen(b->yaml));
}

static void book_part(void *context, uint32_t market)
{
    backtest *b = context;
    oc_features_share_book(b->features, market, NULL);
}

/* Venue and features see the same events: one book for both. */
static void books_share(backtest *b)
{
    const oc_simulated_reader reader = {b, book_part};
    for (uint32_t i = 0; i < b->instruments; i++)
        oc_features_share_book(b->features, i, oc_simulated_share(b->venue, i, reader));
}

/* What a backtest does its own way: the model computes here, the venue is beside it, the journal is new. */
static oc_status backtest_open(backtest *b, bool in_sample)
{
    OC_TRY(backtest_prepare(b, in_sample));
    OC_TRY(backtest_model_open(&b->model, b->instruments));
    OC_TRY(oc_simulated_open(&b->venue, &b->setup.venue));
    books_share(b);
    oc_desk_options desk = backtest_desk_options(b);
    if (desk.durability == OC_DURABILITY_GROUP) desk.durability = OC_DURABILITY_RUN; /* the venue dies with us */
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
    oc_memory_free(b->ledger);
    json_decref(b->more);
    free(b->yaml);
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
                           .decision_delay_ns = b->delay.fixed_ns,
                           .delay = &b->delay,
                           .first_ns = b->span.first_ns,
                           .last_ns = b->span.last_ns};
}

oc_status backtest_loop(backtest *b, const oc_loop_setup *setup, const char *what)
{
    int64_t start = oc_clock_monotonic_ns();
    oc_progress_start(&b->progress, what, "events", oc_event_merge_total(b->merge));
    OC_TRY(oc_loop_run(setup, &b->loop));
    oc_progress_finish(&b->progress);
    if (b->model.made.file) OC_TRY(backtest_file_joined(&b->model.made, b->config));
    oc_tally_finish(&b->tally, oc_desk_engine(b->desk));
    b->took_ns = oc_clock_monotonic_ns() - start;
    if (b->loop.stopped)
        return OC_FAIL(OC_EAGAIN, "%s: stopped at a signal; everything is saved, --resume goes on", b->out);
    return oc_desk_end(b->desk);
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
    oc_memory_free(b);
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
