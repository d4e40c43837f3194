/* bench_backtest.c - whole backtests on one core, as `outcry backtest` runs them: event file, books, engine with its
 * full risk gate, journal, simulated venue.
 *
 * Maker   two quotes every 100 ms on a recorded futures stream, cancelled and replaced, 10 ms to the venue and 10 ms
 *         back, beside hftbacktest's market maker with its book in an array: the same messages, COPIES times one after
 *         another (both leave out bookTicker). A message is a trade, a depth update or a snapshot; a level change is
 *         one entry of the latter two. hftbacktest counts more events than that, because it keeps two of what its two
 *         clocks order differently: both sides' rates are of the messages in the recording.
 * Cross   two moving averages, 200 and 1,000 quotes, beside nautilus_trader's.
 * Without the recording or the scripts the same runs without a peer, the maker on a simulated market. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "evaluate/backtest.h"
#include "market/event_file.h"
#include "market/import.h"
#include "market/simulate.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/benches.h"

enum {
    COPIES = 10,
    QUOTES = 1000000,
    QUOTES_TINY = 20000,
    SIMULATED = 2000000,
    SIMULATED_TINY = 50000,
    CHUNK = 4096,
    CONFIG_BYTES = 8192
};

static const char recording[] = "binance-l2-2024-08-08/usdm/btcusdt_20240808.jsonl.xz";
static const char maker[] = "policy: {kind: quote, quote_lots: 10, quote_position_lots: 100}\n"
                            "latency: {to_ns: 10000000, back_ns: 10000000}\n"
                            "costs: {maker_ppm: 200, taker_ppm: 500}\n"
                            "venue: {partial: false}\n"
                            "risk: {order_lots_max: 100, position_lots_max: 200, order_micros_max: 1000000000000}\n";
static const char cross[] =
    "policy: {kind: cross, cross_fast: 200, cross_slow: 1000, cross_interval_ns: 1000000000, target_lots: 100000}\n"
    "latency: {to_ns: 1, back_ns: 1}\n"
    "costs: {maker_ppm: 0, taker_ppm: 0}\n"
    "risk: {order_lots_max: 200000, position_lots_max: 200000, order_micros_max: 1000000000000}\n";

typedef struct backtest_bench {
    const oc_bench_options *options;
    oc_bench_report *report;
    char folder[OC_PATH_MAX], events[OC_PATH_MAX], recording[OC_PATH_MAX]; /* recording "": none */
    double messages, levels;                                               /* of `events` */
} backtest_bench;

typedef struct backtest_figures {
    double seconds, cpu_seconds, orders, fills;
} backtest_figures;

/* ---- one backtest ---- */

static void run_remove(const char *run)
{
    static const char *const names[] = {"journal-000000.ocj", "config.yaml", "results.json"};
    char path[OC_PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (oc_path_join(path, sizeof path, run, names[i]) == OC_OK) unlink(path);
    }
    rmdir(run);
}

static oc_status config_open(const backtest_bench *b, const char *policy, bool features, oc_config **config)
{
    char text[CONFIG_BYTES];
    int used = snprintf(text, sizeof text, "data: {events: \"%s\"}\ndecision_delay_ns: 0\nlog: {level: error}\n%s%s",
                        b->events, policy, features ? "features:\n" : "");
    for (int i = 0; features && i < 40 && used < CONFIG_BYTES; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "  - %s\n", oc_bench_forty[i]);
    if (used >= CONFIG_BYTES) return OC_FAIL(OC_ELIMIT, "bench backtest: the config is over %d bytes", CONFIG_BYTES);
    return oc_config_parse(config, text, (size_t)used, "bench backtest", oc_backtest_keys, oc_backtest_key_count, NULL,
                           0);
}

static double cpu_now(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0 ? (double)t.tv_sec + 1e-9 * (double)t.tv_nsec : 0;
}

/* The fastest of the repeats: seconds of the loop, file to journal; of the CPU the whole command, to the synced end. */
static oc_status backtest_best(const backtest_bench *b, const char *policy, bool features, backtest_figures *best)
{
    char run[OC_PATH_MAX];
    *best = (backtest_figures){(double)INFINITY, (double)INFINITY, 0, 0};
    OC_TRY(oc_path_join(run, sizeof run, b->folder, "run"));
    for (int i = 0; i < b->options->repeats; i++) {
        oc_config *config;
        json_t *results = NULL;
        OC_TRY(config_open(b, policy, features, &config));
        double began = cpu_now();
        oc_status status = oc_backtest_run(config, run, false, &results);
        best->cpu_seconds = fmin(best->cpu_seconds, cpu_now() - began);
        oc_config_close(config);
        run_remove(run);
        OC_TRY(status);
        double seconds = json_number_value(json_object_get(results, "events")) /
                         json_number_value(json_object_get(results, "events_per_second"));
        best->seconds = fmin(best->seconds, seconds);
        best->orders = json_number_value(json_object_get(results, "orders"));
        best->fills = json_number_value(json_object_get(results, "fills"));
        json_decref(results);
    }
    return OC_OK;
}

/* ---- events ---- */

typedef struct copier {
    oc_event_writer *writer;
    backtest_bench *bench;
    int64_t shift_ns;
    uint64_t sequence;
    bool begun; /* the snapshot has come: before it the book is not known */
    oc_event chunk[CHUNK];
} copier;

static oc_status run_copy(copier *c, const oc_event *events, size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        c->begun |= events[i].kind == OC_EVENT_SNAPSHOT;
        if (!c->begun || events[i].kind == OC_EVENT_QUOTE) continue;
        oc_event *e = &c->chunk[used++];
        *e = events[i];
        e->receive_ns += c->shift_ns;
        e->exchange_ns += c->shift_ns;
        e->sequence = ++c->sequence;
        c->bench->messages += (e->flags & OC_EVENT_LAST) != 0;
        c->bench->levels += e->kind != OC_EVENT_TRADE;
    }
    return used ? oc_event_writer_add(c->writer, c->chunk, used) : OC_OK;
}

static oc_status copies_write(copier *c, oc_event_reader *reader)
{
    const oc_event_info *info = oc_event_reader_info(reader);
    for (int copy = 0; copy < COPIES; copy++) {
        const oc_event *events;
        size_t count = 1;
        c->begun = false;
        OC_TRY(oc_event_reader_rewind(reader));
        while (count > 0) {
            OC_TRY(oc_event_reader_next(reader, &events, &count));
            for (size_t i = 0; i < count; i += CHUNK)
                OC_TRY(run_copy(c, events + i, count - i < CHUNK ? count - i : CHUNK));
        }
        c->shift_ns += info->last_ns - info->first_ns + 1000000000;
    }
    return OC_OK;
}

static oc_status recording_copy(backtest_bench *b, const char *one)
{
    oc_event_reader *reader;
    copier *c = NULL;
    OC_TRY(oc_event_reader_open(&reader, one));
    const oc_event_info *info = oc_event_reader_info(reader);
    oc_status status = oc_memory_new(&c, sizeof *c, "bench");
    if (status == OC_OK) {
        c->bench = b;
        status = oc_event_writer_open(&c->writer, b->events, info->instruments, info->instrument_count, info->origin);
        if (status == OC_OK) status = copies_write(c, reader);
        if (status == OC_OK)
            status = oc_event_writer_commit(c->writer);
        else
            oc_event_writer_abort(c->writer);
    }
    oc_memory_free(c);
    oc_event_reader_close(reader);
    return status;
}

static oc_status recording_open(backtest_bench *b)
{
    char one[OC_PATH_MAX];
    oc_import_options import;
    oc_import_report *report;
    const oc_import_input input = {.name = b->recording};
    OC_TRY(oc_path_join(one, sizeof one, b->folder, "one.events"));
    OC_TRY(oc_memory_new(&report, sizeof *report, "bench"));
    oc_import_options_init(&import);
    import.format = "binance";
    import.symbol = "BTCUSDT";
    import.tick = "0.1";
    import.lot = "0.001";
    oc_status status = oc_import_run(&import, &input, 1, one, report, NULL);
    if (status == OC_OK) status = recording_copy(b, one);
    unlink(one);
    oc_memory_free(report);
    return status;
}

static oc_status simulated_open(backtest_bench *b)
{
    char truth[OC_PATH_MAX];
    const oc_simulate_options options = {
        .events = b->options->tiny ? SIMULATED_TINY : SIMULATED, .seed = 1, .levels = 10, .horizon = 10, .signal = 0.5};
    oc_simulate_result result;
    oc_event_reader *reader;
    const oc_event *events;
    size_t count = 1;
    OC_TRY(oc_path_join(truth, sizeof truth, b->folder, "truth"));
    oc_status status = oc_simulate(b->events, truth, &options, &result);
    unlink(truth);
    OC_TRY(status);
    OC_TRY(oc_event_reader_open(&reader, b->events));
    while (status == OC_OK && count > 0) {
        status = oc_event_reader_next(reader, &events, &count);
        for (size_t i = 0; status == OC_OK && i < count; i++) {
            b->messages += (events[i].flags & OC_EVENT_LAST) != 0;
            b->levels += events[i].kind == OC_EVENT_LEVEL || events[i].kind == OC_EVENT_SNAPSHOT;
        }
    }
    oc_event_reader_close(reader);
    return status;
}

/* ---- maker ---- */

static oc_status maker_peer(const backtest_bench *b, backtest_figures *peer)
{
    const oc_bench_options *o = b->options;
    char script[OC_PATH_MAX], copies[16], passes[16];
    oc_bench_want want[] = {{NULL, "seconds", "value", 0},
                            {NULL, "seconds", "cpu_seconds", 0},
                            {NULL, "seconds", "orders", 0},
                            {NULL, "seconds", "fills", 0}};
    oc_bench_options once = *o;
    *peer = (backtest_figures){(double)NAN, (double)NAN, (double)NAN, (double)NAN};
    if (!o->peers || !*b->recording) return OC_OK;
    once.repeats = 1; /* its passes are repeats; compiling and converting once is enough */
    snprintf(copies, sizeof copies, "%d", COPIES);
    snprintf(passes, sizeof passes, "%d", o->repeats);
    OC_TRY(oc_bench_own_peer(script, sizeof script, "hftbacktest_maker.py"));
    const char *const arguments[] = {o->peers, b->recording, copies, passes, NULL};
    OC_TRY(oc_bench_peer_run(&once, o->trading_python, script, arguments, want, 4, true));
    *peer = (backtest_figures){want[0].value, want[1].value, want[2].value, want[3].value};
    return OC_OK;
}

static void better(backtest_figures *f, const backtest_figures *again)
{
    f->seconds = fmin(f->seconds, again->seconds);
    f->cpu_seconds = fmin(f->cpu_seconds, again->cpu_seconds);
}

static void maker_report(const backtest_bench *b, const backtest_figures *own, const backtest_figures *rows,
                         const backtest_figures *other)
{
    char note[160];
    oc_bench_report *r = b->report;
    const char *peer = isfinite(other->seconds) ? "hftbacktest, array book" : "";
    snprintf(note, sizeof note, "%s, %.0f messages, %.0f level changes; at least 1.3 x is asked",
             *b->recording ? "recorded futures stream" : "simulated market (no recording: --data)", b->messages,
             b->levels);
    oc_bench_add(r, "maker", b->messages / own->seconds, "messages/s", peer, b->messages / other->seconds, note);
    oc_bench_add(r, "maker, of CPU time", b->messages / own->cpu_seconds, "messages/s", peer,
                 b->messages / other->cpu_seconds, "opening and closing included; for machines that are busy");
    oc_bench_add(r, "maker, level changes", b->levels / own->seconds, "levels/s", peer, b->levels / other->seconds,
                 "the same run as the first line");
    oc_bench_add(r, "maker, a row of 40 features a message", b->messages / rows->seconds, "messages/s", peer,
                 b->messages / other->seconds, "the peer makes none; at least 0.5 x is asked");
    oc_bench_add(r, "maker, 40 features, of CPU time", b->messages / rows->cpu_seconds, "messages/s", peer,
                 b->messages / other->cpu_seconds, "");
    oc_bench_add(r, "maker, orders", own->orders, "", peer, other->orders, "within 2 % is asked");
    oc_bench_add(r, "maker, fills", own->fills, "", peer, other->fills, "within 10 % is asked");
}

static oc_status maker_bench(backtest_bench *b)
{
    backtest_figures plain, rows, again, peer;
    OC_TRY(*b->recording ? recording_open(b) : simulated_open(b));
    OC_TRY(backtest_best(b, maker, false, &plain));
    OC_TRY(backtest_best(b, maker, true, &rows));
    OC_TRY(maker_peer(b, &peer));
    if (isfinite(peer.seconds)) { /* once more behind the peer: the machine may have been busy */
        OC_TRY(backtest_best(b, maker, false, &again));
        better(&plain, &again);
        OC_TRY(backtest_best(b, maker, true, &again));
        better(&rows, &again);
    }
    unlink(b->events);
    maker_report(b, &plain, &rows, &peer);
    return OC_OK;
}

/* ---- cross ---- */

static oc_status quotes_write(const backtest_bench *b, const int64_t (*pairs)[2], size_t count)
{
    static const oc_instrument instrument = {
        .symbol = "EURUSD", .tick = {1, -5, 0}, .lot = {1, 0, 0}, .order_tick = {1, -5, 0}};
    oc_event_writer *w;
    OC_TRY(oc_event_writer_open(&w, b->events, &instrument, 1, "bench quotes"));
    oc_status status = OC_OK;
    for (size_t i = 0; status == OC_OK && i < count; i++) {
        oc_event e = {.receive_ns = INT64_C(1577836800000000000) + (int64_t)i * 1000000000,
                      .sequence = i + 1,
                      .kind = OC_EVENT_QUOTE,
                      .flags = OC_EVENT_LAST};
        e.as.quote.bid_ticks = pairs[i][0];
        e.as.quote.ask_ticks = pairs[i][1];
        e.as.quote.bid_lots = e.as.quote.ask_lots = 1000000;
        status = oc_event_writer_add(w, &e, 1);
    }
    if (status == OC_OK) return oc_event_writer_commit(w);
    oc_event_writer_abort(w);
    return status;
}

/* The peer's own walk where its Python is there, so that both trade the same quotes; else one of ours. */
static oc_status quotes_make(const backtest_bench *b, int64_t (*pairs)[2], size_t count, bool *same)
{
    const oc_bench_options *o = b->options;
    char script[OC_PATH_MAX], path[OC_PATH_MAX], rows[24];
    oc_bench_want want = {NULL, "rows", "value", (double)NAN};
    oc_bench_options once = *o;
    once.repeats = 1;
    snprintf(rows, sizeof rows, "%zu", count);
    OC_TRY(oc_bench_own_peer(script, sizeof script, "nautilus_quotes.py"));
    OC_TRY(oc_path_join(path, sizeof path, b->folder, "quotes"));
    const char *const arguments[] = {rows, path, NULL};
    if (o->peers) OC_TRY(oc_bench_peer_run(&once, o->trading_python, script, arguments, &want, 1, false));
    FILE *file = isfinite(want.value) ? fopen(path, "rb") : NULL;
    *same = file && fread(pairs, sizeof *pairs, count, file) == count;
    if (file) fclose(file);
    unlink(path);
    uint32_t key = oc_random_key(1, OC_RANDOM_TEST, 0, 0);
    double walk = 1.1;
    for (size_t i = 0; !*same && i < count; i++) {
        walk += 3.4e-5 * (oc_random_uniform(key, i) - 0.5);
        pairs[i][0] = (int64_t)(walk * 1e5) - 5;
        pairs[i][1] = pairs[i][0] + 10;
    }
    return OC_OK;
}

static oc_status cross_bench(backtest_bench *b)
{
    const oc_bench_options *o = b->options;
    size_t count = o->tiny ? QUOTES_TINY : QUOTES;
    int64_t(*pairs)[2];
    bool same = false;
    char rows[24], script[OC_PATH_MAX], note[160];
    backtest_figures own;
    oc_bench_want want[] = {{"quotes, ema-cross", "events_per_second", "value", (double)NAN},
                            {"quotes, ema-cross", "events_per_second", "orders", (double)NAN}};
    snprintf(rows, sizeof rows, "%zu", count);
    OC_TRY(oc_memory_new_array(&pairs, count, sizeof *pairs, "quotes"));
    oc_status status = quotes_make(b, pairs, count, &same);
    if (status == OC_OK) status = quotes_write(b, (const int64_t(*)[2])pairs, count);
    oc_memory_free(pairs);
    OC_TRY(status);
    OC_TRY(backtest_best(b, cross, false, &own));
    unlink(b->events);
    if (same) {
        OC_TRY(oc_path_join(script, sizeof script, o->peers, "backtest_nautilus.py"));
        const char *const arguments[] = {"--rows", rows, NULL};
        OC_TRY(oc_bench_peer_run(o, o->trading_python, script, arguments, want, 2, false));
    }
    const char *peer = isfinite(want[0].value) ? "nautilus_trader" : "";
    snprintf(note, sizeof note, "%zu quotes; simple averages, %.0f fills (the peer: exponential, %.0f); at least 10 x",
             count, own.fills, want[1].value);
    oc_bench_add(b->report, "cross", (double)count / own.seconds, "quotes/s", peer, want[0].value, note);
    return OC_OK;
}

oc_status oc_bench_backtest(const oc_bench_options *options, oc_bench_report *report)
{
    const char *base = getenv("TMPDIR");
    backtest_bench *b;
    OC_TRY(oc_memory_new(&b, sizeof *b, "bench"));
    b->options = options;
    b->report = report;
    oc_status status = oc_path_join(b->folder, sizeof b->folder, base && *base ? base : "/tmp", "outcry-bench-XXXXXX");
    if (status == OC_OK && !mkdtemp(b->folder))
        status = OC_FAIL(OC_EFAILED, "bench: no temporary folder %s", b->folder);
    if (status == OC_OK) status = oc_path_join(b->events, sizeof b->events, b->folder, "bench.events");
    if (status == OC_OK && options->data)
        status = oc_path_join(b->recording, sizeof b->recording, options->data, recording);
    if (!oc_path_exists(b->recording)) *b->recording = '\0';
    bench_pin();
    if (status == OC_OK) status = maker_bench(b);
    if (status == OC_OK) status = cross_bench(b);
    bench_unpin();
    rmdir(b->folder);
    oc_memory_free(b);
    return status;
}
