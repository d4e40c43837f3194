/* test_features.c - the engine's promises on random streams: a late start gives the same bits wherever its history is
 * met, and wherever a column is not masked; save and load anywhere continue bit-equal; nothing is allocated per event;
 * bad input is refused or masked. Catches: a window that reaches beyond its declared history, drifting sums, state that
 * is not saved, a column that leaks the future or the past. Proven by a planted fault (a history declared too short).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "base/memory.h"
#include "market/features_internal.h"
#include "market/feature_stream.h"

static uint64_t seed = 20261121;

typedef struct record { int64_t time_ns; uint32_t instrument, run_length; size_t event, index; } record;

typedef struct history {                     /* one engine's rows over a stream */
    record *rows;
    float *x;
    uint64_t *mask;
    size_t count, cap, width, words;
} history;

static void history_open(history *h, const oc_features *e, size_t cap)
{
    h->width = oc_features_width(e);
    h->words = (h->width + 63) / 64;
    h->cap = cap;
    h->count = 0;
    h->rows = calloc(cap, sizeof *h->rows);
    h->x = calloc(cap * h->width, sizeof *h->x);
    h->mask = calloc(cap * h->words, sizeof *h->mask);
    assert_true(h->rows && h->x && h->mask);
}

static void history_close(history *h)
{
    free(h->rows);
    free(h->x);
    free(h->mask);
}

static void history_add(history *h, const oc_feature_row *row, size_t event, const size_t *index)
{
    assert_true(h->count < h->cap);
    h->rows[h->count] = (record){row->time_ns, row->instrument, row->run_length, event, index[row->instrument]};
    memcpy(h->x + h->count * h->width, row->x, h->width * sizeof *row->x);
    memcpy(h->mask + h->count * h->words, row->mask, h->words * sizeof *row->mask);
    h->count++;
}

static bool masked(const uint64_t *mask, size_t column)
{
    return mask[column / 64] >> (column % 64) & 1u;
}

static oc_features *engine_open(const char *sample, size_t instruments)
{
    static const char *const all[] = {"all", "imbalance:10", "ema_gap:5", "rsi:3", "sma_gap:100", "range_position:64"};
    bool bars = strcmp(sample, "bar") == 0;
    const char *names[8];
    size_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!bars || strncmp(all[i], "imbalance", 9) != 0) names[count++] = all[i];
    int64_t row_ns = strcmp(sample, "packet") == 0 || bars ? 2000000 : 10000000;        /* as the stream makes them */
    oc_feature_spec spec = {.features = names, .feature_count = count, .sample = sample, .row_ns = row_ns};
    oc_features *e = NULL;
    if (oc_features_open(&e, &spec, stream_universe, instruments) != OC_OK) fail_msg("%s", oc_status_message());
    return e;
}

typedef struct stream_case { const char *sample; bool bars; } stream_case;
static const stream_case cases[] = {{"packet", false}, {"packet:3", false}, {"trade:2", false}, {"bar", true}};
enum { CASES = sizeof cases / sizeof *cases, EVENTS = 300000, STARTS = 6 };

/* Runs the whole stream; takes copies of the books at some rows of instrument 0 or 1, where late runs begin. */
typedef struct start { size_t row, event; uint32_t instrument; oc_book book[2]; } start;

static size_t run_whole(const stream_case *c, uint64_t stream_seed, oc_event *events, size_t count, history *h,
                        start *starts)
{
    feature_stream s;
    stream_init(&s, stream_seed, c->bars, false);
    oc_features *e = engine_open(c->sample, 2);
    history_open(h, e, count);
    size_t index[2] = {0, 0}, taken = 0;
    for (size_t i = 0; i < count; i++) {
        events[i] = stream_next(&s);
        const oc_feature_row *row;
        assert_int_equal(oc_features_apply(e, &events[i], &row), OC_OK);
        if (!row) continue;
        history_add(h, row, i, index);
        index[row->instrument]++;
        for (size_t f = 0; f < h->width; f++) assert_true(isfinite(row->x[f]));
        if (taken < STARTS && i > (taken + 1) * count / (STARTS + 2)) {
            start *t = &starts[taken++];
            *t = (start){.row = h->count - 1, .event = i, .instrument = row->instrument};
            for (size_t k = 0; k < 2 && !c->bars; k++) t->book[k] = *oc_features_book(e, k);
        }
    }
    oc_features_close(e);
    return taken;
}

/* Compares a late run with the whole one; returns the number of wrong (row, column) pairs and counts comparisons. */
static size_t compare_late(const stream_case *c, const oc_event *events, size_t count, const history *h, const start *t,
                           uint32_t cut_history, size_t *compared, size_t *met)
{
    oc_features *e = engine_open(c->sample, 2);
    for (size_t k = 0; k < 2 && !c->bars; k++) oc_features_set_book(e, k, &t->book[k]);
    size_t at = t->row + 1, wrong = 0, first_index = SIZE_MAX;
    int64_t first_ns = 0;
    for (size_t i = t->event + 1; i < count; i++) {
        const oc_feature_row *row;
        assert_int_equal(oc_features_apply(e, &events[i], &row), OC_OK);
        while (at < h->count && h->rows[at].event < i) at++;
        if (!row || row->instrument != t->instrument) continue;
        assert_true(at < h->count && h->rows[at].event == i && h->rows[at].time_ns == row->time_ns);
        const record *r = &h->rows[at];
        if (first_index == SIZE_MAX) {
            first_index = r->index;
            first_ns = r->time_ns;
        }
        for (size_t f = 0; f < h->width; f++) {
            const oc_feature_info *info = oc_features_info(e, f);
            bool enough = r->index - first_index >= info->history_events / cut_history &&
                          r->time_ns - first_ns >= info->history_ns / cut_history;
            bool was = masked(h->mask + at * h->words, f), is = masked(row->mask, f);
            bool equal = memcmp(&h->x[at * h->width + f], &row->x[f], sizeof(float)) == 0;
            *compared += enough;
            met[f] += enough && !was;
            if (enough ? was != is || !equal : !is && !equal) {
                if (wrong++ == 0 && cut_history == 1)
                    print_error("%s: column %s, row %zu after a start at row %zu: %a, not %a (mask %d, %d)\n",
                                c->sample, info->name, r->index, first_index, (double)row->x[f],
                                (double)h->x[at * h->width + f], is, was);
            }
        }
        assert_true(row->run_length <= r->run_length);
    }
    oc_features_close(e);
    return wrong;
}

/* What a sampling cannot have: a row of one packet has no extent, a bar no trades. */
static bool never_there(const char *sample, const char *name)
{
    static const char *const pairs[][2] = {
        {"packet", "bop"}, {"packet", "upper_shadow"}, {"packet", "lower_shadow"}, {"bar", "trade_size:50"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(sample, pairs[i][0]) == 0 && strcmp(name, pairs[i][1]) == 0) return true;
    return false;
}

static void late_start(void **state)
{
    (void)state;
    oc_event *events = calloc(EVENTS, sizeof *events);
    start *starts = calloc(STARTS, sizeof *starts);
    assert_true(events && starts);
    for (size_t k = 0; k < CASES; k++) {
        history h;
        size_t taken = run_whole(&cases[k], seed + k, events, EVENTS, &h, starts), compared = 0, faults = 0, valid = 0;
        size_t met[OC_FEATURES_MAX] = {0};
        for (size_t i = 0; i < h.count; i++) valid += h.rows[i].run_length > 0;
        for (size_t i = 0; i < taken; i++) {
            assert_int_equal(compare_late(&cases[k], events, EVENTS, &h, &starts[i], 1, &compared, met), 0);
            size_t ignored = 0, unmet[OC_FEATURES_MAX] = {0};
            faults += compare_late(&cases[k], events, EVENTS, &h, &starts[i], 8, &ignored, unmet);
        }
        oc_features *e = engine_open(cases[k].sample, 2);
        for (size_t f = 0; f < h.width; f++)
            if ((met[f] > 0) == never_there(cases[k].sample, oc_features_info(e, f)->name))
                fail_msg("%s: %s is there %zu times", cases[k].sample, oc_features_info(e, f)->name, met[f]);
        print_message(
            "late start %-9s seed %llu: %zu rows, %zu valid, %zu starts, %zu values compared; history / 8: %zu wrong\n",
            cases[k].sample, (unsigned long long)(seed + k), h.count, valid, taken, compared, faults);
        assert_true(taken == STARTS && compared > 100000);
        if (cases[k].sample[0] != 't') assert_true(valid > 0);          /* trades are too rare between the gaps */
        assert_true(faults > 0);             /* the planted fault is found */
        oc_features_close(e);
        history_close(&h);
    }
    free(events);
    free(starts);
}

static void save_and_load(void **state)
{
    (void)state;
    for (size_t k = 0; k < CASES; k++) {
        feature_stream s;
        stream_init(&s, seed + 100 + k, cases[k].bars, false);
        oc_features *a = engine_open(cases[k].sample, 2), *b = engine_open(cases[k].sample, 2);
        size_t bytes = oc_features_state_bytes(a), written, words = (oc_features_width(a) + 63) / 64;
        unsigned char *saved = malloc(bytes);
        assert_non_null(saved);
        for (size_t i = 0; i < 6000; i++) {
            oc_event ev = stream_next(&s);
            if (stream_below(&s, 500) == 0) {
                assert_int_equal(oc_features_save(b, saved, bytes, &written), OC_OK);
                oc_features_close(b);
                b = engine_open(cases[k].sample, 2);
                assert_int_equal(oc_features_load(b, saved, written), OC_OK);
            }
            const oc_feature_row *x, *y;
            assert_int_equal(oc_features_apply(a, &ev, &x), OC_OK);
            assert_int_equal(oc_features_apply(b, &ev, &y), OC_OK);
            assert_int_equal(x == NULL, y == NULL);
            if (!x) continue;
            assert_int_equal(x->run_length, y->run_length);
            assert_memory_equal(x->x, y->x, oc_features_width(a) * sizeof(float));
            assert_memory_equal(x->mask, y->mask, words * sizeof(uint64_t));
        }
        saved[bytes / 2] ^= 1;
        assert_int_equal(oc_features_load(b, saved, bytes), OC_EDATA);
        assert_int_equal(oc_features_load(b, saved, bytes - 1), OC_EDATA);
        assert_int_equal(oc_features_save(b, saved, bytes - 1, &written), OC_ELIMIT);
        assert_int_equal(oc_features_save(b, saved, bytes, &written), OC_OK);
        oc_features *other = engine_open(cases[k].sample, 1);
        assert_int_equal(oc_features_load(other, saved, written), OC_EDATA);
        oc_features_close(other);
        oc_features_close(a);
        oc_features_close(b);
        free(saved);
    }
}

static void no_allocation(void **state)
{
    (void)state;
    feature_stream s;
    stream_init(&s, seed, false, false);
    oc_features *e = engine_open("packet", 2);
    size_t before = oc_memory_count();
    for (size_t i = 0; i < 5000; i++) {
        oc_event ev = stream_next(&s);
        const oc_feature_row *row;
        assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
    }
    assert_int_equal(oc_memory_count(), before);
    oc_features_close(e);
}

static void specification(void **state)
{
    (void)state;
    static const struct { const char *feature, *sample, *message;
    } bad[] = {{"ema_gpa:20", "bar", "\"ema_gap\""},
               {"ema_gap:0", "bar", "integer from"},
               {"ema_gap:x", "bar", "integer from"},
               {"ema_gap:", "bar", "integer from"},
               {"ema_gap:20,", "bar", "takes 1 parameters"},
               {"ema_gap:99999", "bar", "integer from"},
               {"macd:26,12,9", "bar", "shorter"},
               {"macd:12,26", "bar", "takes 3"},
               {"hour_sin:3", "bar", "takes 0"},
               {"group:nothing", "bar", "no such group"},
               {"imbalance:65", "packet", "at most"},
               {"imbalance:1", "bar", "none"},
               {"return", "bar:2", "sample"},
               {"return", "packet:0", "sample"},
               {"return", "trade", "sample"},
               {"return", "packet:2x", "sample"},
               {"return", "hourly", "sample"},
               {"ema_gap:20 ", "bar", "after a parameter"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        oc_feature_spec spec = {.features = &bad[i].feature, .feature_count = 1, .sample = bad[i].sample};
        oc_features *e = NULL;
        assert_int_equal(oc_features_open(&e, &spec, stream_universe, 1), OC_ECONFIG);
        assert_null(e);
        if (!strstr(oc_status_message(), bad[i].message)) fail_msg("%s: %s", bad[i].feature, oc_status_message());
    }
    const char *twice[] = {"return:1", "return"};
    oc_feature_spec spec = {.features = twice, .feature_count = 2, .sample = "bar"};
    oc_features *e = NULL;
    assert_int_equal(oc_features_open(&e, &spec, stream_universe, 1), OC_ECONFIG);
    assert_true(oc_features_table_count() >= 60);
}

/* Each difference in the specification changes the hash; nothing else does. */
static void schema(void **state)
{
    (void)state;
    const char *a[] = {"return:1", "rsi:14"}, *b[] = {"rsi:14", "return:1"}, *d[] = {"return:1", "rsi:15"};
    oc_feature_spec specs[] = {
        {a, 2, "bar", 0.0, 0},    {a, 2, "bar", 0.0, 0},      {b, 2, "bar", 0.0, 0}, {d, 2, "bar", 0.0, 0},
        {a, 2, "packet", 0.0, 0}, {a, 2, "packet:2", 0.0, 0}, {a, 2, "bar", 0.5, 0}, {a, 2, "bar", 0.0, 3600000000000},
        {a, 1, "bar", 0.0, 0}};
    enum { SPECS = sizeof specs / sizeof *specs };
    oc_hash hash[SPECS + 1];
    for (size_t i = 0; i <= SPECS; i++) {
        oc_features *e;
        assert_int_equal(oc_features_open(&e, &specs[i % SPECS], stream_universe, i == SPECS ? 2 : 1), OC_OK);
        hash[i] = oc_features_schema(e);
        oc_features_close(e);
    }
    for (size_t i = 0; i <= SPECS; i++)
        for (size_t k = 0; k < i; k++) assert_int_equal(oc_hash_equal(hash[i], hash[k]), i == 1 && k == 0);
}

static const oc_feature_row *bar_apply(oc_features *e, int64_t time_ns, int64_t o, int64_t h, int64_t l, int64_t c,
                                       int64_t v)
{
    oc_event ev = {.receive_ns = time_ns, .kind = OC_EVENT_BAR, .flags = OC_EVENT_LAST};
    ev.as.bar.open_ticks = o;
    ev.as.bar.high_ticks = h;
    ev.as.bar.low_ticks = l;
    ev.as.bar.close_ticks = c;
    ev.as.bar.volume_lots = v;
    const oc_feature_row *row;
    assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
    for (size_t f = 0; row && f < oc_features_width(e); f++) assert_true(isfinite(row->x[f]));
    return row;
}

/* Prices at the bound, flat prices, no volume, times at both ends of int64 and at 0: finite rows, no undefined step. */
static void extremes(void **state)
{
    (void)state;
    oc_features *e = engine_open("bar", 2);
    int64_t top = OC_PRICE_BOUND - 1;
    for (int i = 0; i < 400; i++) assert_non_null(bar_apply(e, i, top, top, 1, i % 2 ? 1 : top, INT64_MAX));
    for (int i = 0; i < 400; i++) assert_non_null(bar_apply(e, 400 + i, 7, 7, 7, 7, 0));
    static const int64_t times[] = {0, INT64_MIN, INT64_MAX, INT64_MIN + 1, -1, 0, INT64_MAX - 1};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) assert_non_null(bar_apply(e, times[i], 7, 9, 5, 6, -5));
    static const int64_t bad[][4] = {
        {0, 1, 0, 1}, {-5, -5, -5, -5}, {7, 6, 5, 5}, {7, 8, 7, 6}, {INT64_MAX, INT64_MAX, INT64_MIN, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(bar_apply(e, 0, bad[i][0], bad[i][1], bad[i][2], bad[i][3], 1));
    oc_event foreign = {.kind = OC_EVENT_BAR, .instrument = 2};
    const oc_feature_row *row;
    assert_int_equal(oc_features_apply(e, &foreign, &row), OC_EDATA);
    foreign = (oc_event){.kind = OC_EVENT_KIND_END};
    assert_int_equal(oc_features_apply(e, &foreign, &row), OC_EDATA);
    oc_features_close(e);
}

/* Any bytes in the records that the engine accepts: no crash, finite rows. */
static void garbage(void **state)
{
    (void)state;
    for (size_t k = 0; k < CASES; k++) {
        oc_features *e = engine_open(cases[k].sample, 2);
        uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 5, k);
        uint64_t n = 0;
        size_t rows = 0;
        for (int i = 0; i < 20000; i++) {
            oc_event ev;
            uint64_t words[sizeof ev / 8];
            for (size_t w = 0; w < sizeof ev / 8; w++, n += 3) {
                uint64_t shift = oc_random_below(key, n + 1, 3) ? oc_random_below(key, n + 2, 63) : 0;
                words[w] = oc_random_philox(key, n) >> shift;
            }
            memcpy(&ev, words, sizeof ev);
            ev.instrument %= 2;
            ev.kind = (uint8_t)(1 + ev.kind % (OC_EVENT_KIND_END - 1));
            if (cases[k].bars && i % 2) {
                ev.kind = OC_EVENT_BAR;
                ev.as.bar.open_ticks = ev.as.bar.low_ticks = ev.as.bar.close_ticks = ev.as.bar.high_ticks;
            }
            if (!cases[k].bars && i % 50 == 0) {
                int64_t bid = 1 + (int64_t)oc_random_below(key, n++, 1000);
                ev = (oc_event){.kind = OC_EVENT_SNAPSHOT, .side = OC_SIDE_BUY, .instrument = ev.instrument};
                ev.as.price.ticks = ev.as.price.lots = bid;
            } else if (!cases[k].bars && i % 50 == 1) {
                ev = (oc_event){.kind = OC_EVENT_SNAPSHOT, .side = OC_SIDE_SELL, .instrument = ev.instrument,
                                .flags = OC_EVENT_LAST};
                ev.as.price.ticks = 900 + (int64_t)oc_random_below(key, n++, 1000);
                ev.as.price.lots = INT64_MAX;
            } else if (!cases[k].bars && i % 50 == 2) {
                ev.kind = OC_EVENT_TRADE;
                ev.as.price.ticks = 1000;
            }
            const oc_feature_row *row;
            assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
            rows += row != NULL;
            for (size_t f = 0; row && f < oc_features_width(e); f++) assert_true(isfinite(row->x[f]));
            if (row) assert_true(isfinite(row->mid) && isfinite(row->spread));
        }
        assert_true(rows > 0);
        oc_features_close(e);
    }
}

static const oc_feature_row *book_apply(oc_features *e, int64_t time_ns, int64_t bid, int64_t ask, uint8_t flags)
{
    oc_event ev = {.receive_ns = time_ns, .kind = OC_EVENT_QUOTE, .flags = (uint8_t)(OC_EVENT_LAST | flags)};
    ev.as.quote.bid_ticks = bid;
    ev.as.quote.bid_lots = bid ? 5 : 0;
    ev.as.quote.ask_ticks = ask;
    ev.as.quote.ask_lots = ask ? 4 : 0;
    const oc_feature_row *row;
    assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
    return row;
}

/* run_length by the book: what each event does to it, in order. */
static void run_lengths(void **state)
{
    (void)state;
    static const struct { int64_t bid, ask; uint8_t flags; int run; } steps[] = {       /* run -1: no row */
        {100, 102, 0, 0}, {100, 102, 0, 1}, {101, 102, 0, 2}, {103, 102, 0, 0}, {101, 102, 0, 1}, {101, 0, 0, -1},
        {101, 103, 0, 1}, {101, 103, 0, 2}, {101, 103, OC_EVENT_SESSION_BREAK, 1}, {101, 103, 0, 2},
        {101, 103, OC_EVENT_GAP_BEFORE, 0}, {101, 103, 0, 1}, {102, 102, 0, 0}, {101, 103, 0, 1}};
    const char *names[] = {"return:1", "spread", "imbalance:1", "imbalance:2"};
    oc_feature_spec spec = {.features = names, .feature_count = 4, .sample = "packet"};
    oc_features *e;
    assert_int_equal(oc_features_open(&e, &spec, stream_universe, 1), OC_OK);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const oc_feature_row *row = book_apply(e, (int64_t)i, steps[i].bid, steps[i].ask, steps[i].flags);
        if ((row ? (int)row->run_length : -1) != steps[i].run)
            fail_msg("step %zu: run_length %d, not %d", i, row ? (int)row->run_length : -1, steps[i].run);
        if (!row) continue;
        bool crossed = steps[i].bid >= steps[i].ask;
        assert_true(masked(row->mask, 3));                               /* a second level is never there */
        assert_int_equal(masked(row->mask, 1), crossed);
        assert_true(fabs(row->mid - 0.005 * (double)(steps[i].bid + steps[i].ask)) < 1e-12);
        if (!crossed) assert_true(fabs(row->spread - 0.01 * (double)(steps[i].ask - steps[i].bid)) < 1e-12);
    }
    oc_features_close(e);
}

int main(int argc, char **argv)
{
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    print_message("seed %llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(late_start),    cmocka_unit_test(save_and_load),
                                       cmocka_unit_test(no_allocation), cmocka_unit_test(specification),
                                       cmocka_unit_test(schema),        cmocka_unit_test(extremes),
                                       cmocka_unit_test(garbage),       cmocka_unit_test(run_lengths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
