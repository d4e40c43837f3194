/* bench_features.c - the feature engine on one core: rows a second of 40 features on simulated book packets, and the
 * nine indicators of the peer talib_stream.c (TA-Lib's incremental C API, built here against the library in its wheel)
 * on bars. Both sides take one bar at a time and keep all nine up to date; ours is the whole engine, from event to row.
 */
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "market/features.h"
#include "tools/bench/bench_market.h"
#include "tools/bench/benches.h"

enum { BARS = 1000000, BARS_TINY = 20000, BOOK_EVENTS = 2000000, BOOK_EVENTS_TINY = 50000 };

static const char *const nine[] = {
    "sma_gap:20", "ema_gap:20",    "rsi:14",           "macd:12,26,9",  "macd_signal:12,26,9", "macd_histogram:12,26,9",
    "atr:14",     "band_width:20", "band_position:20", "stoch_k:5,3,3", "stoch_d:5,3,3",       "cci:20",
    "adx:14"};
const char *const oc_bench_forty[40] = {"return:1",
                                        "return:5",
                                        "return:20",
                                        "sma_gap:20",
                                        "sma_cross:5,20",
                                        "ema_gap:20",
                                        "ema_cross:12,26",
                                        "rsi:14",
                                        "macd:12,26,9",
                                        "macd_histogram:12,26,9",
                                        "stoch_k:5,3,3",
                                        "stoch_d:5,3,3",
                                        "cci:20",
                                        "adx:14",
                                        "di_gap:14",
                                        "slope:20",
                                        "atr:14",
                                        "band_width:20",
                                        "band_position:20",
                                        "realised:20",
                                        "volatility_ratio:10,50",
                                        "range_position:50",
                                        "breakout:20",
                                        "imbalance:1",
                                        "imbalance:2",
                                        "imbalance:5",
                                        "imbalance:10",
                                        "weighted_imbalance:10",
                                        "microprice_gap",
                                        "spread",
                                        "spread_ratio:50",
                                        "ofi:10",
                                        "bid_queue:50",
                                        "ask_queue:50",
                                        "signed_volume:20",
                                        "vwap_gap:20",
                                        "volume_ratio:20",
                                        "autocorrelation:50,1",
                                        "zscore:20",
                                        "pace:20"};

/* Rows a second over the events, the best of the repeats; *sum keeps the work alive and shows that rows were valid. */
static oc_status rate_of(const oc_feature_spec *spec, const oc_instrument *universe, const oc_event *events,
                         size_t count, int repeats, double *rate, double *valid)
{
    oc_features *e;
    OC_TRY(oc_features_open(&e, spec, universe, 1));
    oc_status status = OC_OK;
    *rate = 0.0;
    for (int r = 0; r < repeats && status == OC_OK; r++) {
        oc_features_reset(e);
        oc_features_begin(e);
        size_t rows = 0, good = 0;
        int64_t began = oc_clock_monotonic_ns();
        for (size_t i = 0; i < count && status == OC_OK; i++) {
            const oc_feature_row *row;
            status = oc_features_apply(e, &events[i], &row);
            rows += row != NULL;
            good += row && row->run_length > 0;
        }
        double seconds = 1e-9 * (double)(oc_clock_monotonic_ns() - began);
        *rate = fmax(*rate, (double)rows / seconds);
        *valid = rows ? (double)good / (double)rows : 0.0;
    }
    oc_features_close(e);
    return status;
}

static oc_status bars_make(oc_event **out, size_t count)
{
    OC_TRY(oc_memory_new_array(out, count, sizeof **out, "bars"));
    uint32_t key = oc_random_key(1, OC_RANDOM_TEST, 0, 0);
    double x = 0.0;
    for (size_t i = 0; i < count; i++) {
        x += 3e-4 * (oc_random_uniform(key, 2 * i) - 0.5);
        oc_event *e = &(*out)[i];
        e->receive_ns = (int64_t)i * 60000000000;
        e->kind = OC_EVENT_BAR;
        e->flags = OC_EVENT_LAST;
        int64_t close = (int64_t)(1e7 * exp(x)), spread = (int64_t)(100.0 + 500.0 * oc_random_uniform(key, 2 * i + 1));
        e->as.bar.open_ticks = e->as.bar.close_ticks = close;
        e->as.bar.high_ticks = close + spread;
        e->as.bar.low_ticks = close - spread;
        e->as.bar.volume_lots = 1;
    }
    return OC_OK;
}

/* Compiles the peer beside the library of the wheel that belongs to the interpreter. OC_OK and no file: there is none.
 */
static oc_status peer_build(const oc_bench_options *o, const char *binary)
{
    char pattern[OC_PATH_MAX], source[OC_PATH_MAX], folder[OC_PATH_MAX + 16], library[OC_PATH_MAX];
    OC_TRY(oc_path_join(source, sizeof source, o->peers, "talib_stream.c"));
    snprintf(pattern, sizeof pattern, "%.*s/../lib/python3*/site-packages/ta_lib.libs/libta-lib-*.so*",
             (int)(strrchr(o->python, '/') ? strrchr(o->python, '/') - o->python : 0), o->python);
    glob_t found;
    if (glob(pattern, 0, NULL, &found) != 0) return OC_OK;
    snprintf(library, sizeof library, "%s", found.gl_pathv[0]);
    globfree(&found);
    char *slash = strrchr(library, '/');
    snprintf(folder, sizeof folder, "-Wl,-rpath,%.*s", (int)(slash - library), library);
    pid_t pid = fork();
    if (pid < 0) return OC_FAIL(OC_EFAILED, "bench: fork failed");
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(127);
        execlp("cc", "cc", "-O2", "-o", binary, source, library, folder, "-lm", (char *)NULL);
        _exit(127);
    }
    int code = 0;
    if (waitpid(pid, &code, 0) != pid) return OC_FAIL(OC_EFAILED, "bench: waiting for cc failed");
    return OC_OK;
}

static oc_status peer_rate(const oc_bench_options *o, const char *folder, double *value)
{
    *value = (double)NAN;
    if (!o->peers || !o->python || o->tiny) return OC_OK;
    char binary[OC_PATH_MAX];
    OC_TRY(oc_path_join(binary, sizeof binary, folder, "talib_stream"));
    OC_TRY(peer_build(o, binary));
    oc_bench_options own = *o;
    own.python = binary;
    const char *none[] = {NULL};
    OC_TRY(
        oc_bench_peer(&own, "talib_stream.c", none, "updates_per_second", false, value)); /* its last line: all nine */
    unlink(binary);
    return OC_OK;
}

static oc_status bench_bars(const oc_bench_options *o, oc_bench_report *r, const char *folder)
{
    static const oc_instrument universe = {
        .symbol = "BARS", .tick = {1, -5, 0}, .lot = {1, 0, 0}, .order_tick = {1, -5, 0}};
    const oc_feature_spec spec = {.features = nine, .feature_count = sizeof nine / sizeof *nine, .sample = "bar"};
    size_t count = o->tiny ? BARS_TINY : BARS;
    oc_event *bars;
    double rate = 0.0, valid = 0.0, peer = 0.0;
    OC_TRY(bars_make(&bars, count));
    oc_status status = rate_of(&spec, &universe, bars, count, o->tiny ? 1 : 5, &rate, &valid);
    if (status == OC_OK) status = peer_rate(o, folder, &peer);
    if (status == OC_OK && o->peers && !o->tiny) { /* once more after the peer: the machine may have been busy */
        double again = 0.0;
        status = rate_of(&spec, &universe, bars, count, 5, &again, &valid);
        rate = fmax(rate, again);
    }
    oc_memory_free(bars);
    OC_TRY(status);
    if (!(valid > 0.9)) return OC_FAIL(OC_EFAILED, "bench features: only %.2f of the rows were valid", valid);
    oc_bench_add(r, "nine-indicators", rate, "rows/s", isfinite(peer) ? "ta-lib C stream" : "", peer,
                 "SMA EMA RSI MACD ATR BBANDS STOCH CCI ADX on bars, event to row, one core");
    return OC_OK;
}

static oc_status bench_book(const oc_bench_options *o, oc_bench_report *r)
{
    bench_market market;
    double rate = 0.0, valid = 0.0;
    OC_TRY(bench_market_open(&market, 1, o->tiny ? BOOK_EVENTS_TINY : BOOK_EVENTS));
    const oc_feature_spec spec = {.features = oc_bench_forty, .feature_count = 40, .sample = "packet"};
    const oc_status status =
        rate_of(&spec, &market.instrument, market.events, market.count, o->tiny ? 1 : o->repeats, &rate, &valid);
    bench_market_close(&market);
    OC_TRY(status);
    if (!(valid > 0.5)) return OC_FAIL(OC_EFAILED, "bench features: only %.2f of the rows were valid", valid);
    oc_bench_add(r, "forty-features", rate, "rows/s", "", (double)NAN,
                 "40 features on simulated book packets, one core");
    return OC_OK;
}

oc_status oc_bench_features(const oc_bench_options *options, oc_bench_report *report)
{
    const char *base = getenv("TMPDIR");
    char folder[OC_PATH_MAX];
    OC_TRY(oc_path_join(folder, sizeof folder, base && *base ? base : "/tmp", "outcry-bench-XXXXXX"));
    if (!mkdtemp(folder)) return OC_FAIL(OC_EFAILED, "bench: no temporary folder %s", folder);
    oc_status status = bench_book(options, report);
    if (status == OC_OK) status = bench_bars(options, report, folder);
    rmdir(folder);
    return status;
}
