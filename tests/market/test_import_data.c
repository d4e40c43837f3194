/* test_import_data.c - the importers on the real files of ../shared/data (or OUTCRY_DATA), skipped where absent.
 * The oracle for LOBSTER is its own orderbook file, read here with strtoll: after every packet the book rebuilt from
 * the events must be that line, all levels. Would catch a lost or doubled level change anywhere in the day. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "market/book.h"
#include "market/import.h"
#include "market/lines.h"

#define GOOG "lobster-nasdaq-2012-06-21/GOOG_2012-06-21_34200000_57600000_"
#define AAPL "lobster-nasdaq-2012-06-21/aapl-l10-first-rows/AAPL_2012-06-21_34200000_57600000_"

static oc_import_report report;
static char paths[4][1024];
static int skips;

/* Paths of the files; skips the test where one is absent. */
static void need(size_t count, const char *const *names, oc_import_input *inputs)
{
    const char *folder = getenv("OUTCRY_DATA");
    for (size_t i = 0; i < count; i++) {
        if (folder) snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
        else snprintf(paths[i], sizeof paths[i], "%s/../shared/data/%s", OC_TEST_SOURCE_DIR, names[i]);
        if (!oc_path_exists(paths[i])) {
            print_message("skipped: no %s\n", paths[i]);
            skips++;
            skip();
        }
        inputs[i] = (oc_import_input){paths[i], NULL, 0};
    }
}

static oc_import_options options_of(const char *format, const char *symbol)
{
    oc_import_options o;
    oc_import_options_init(&o);
    o.format = format;
    o.symbol = symbol;
    o.max_rejected = 0;
    return o;
}

typedef struct lobster_check {
    oc_lines *books;
    oc_book book;
    uint64_t packets, different, crossed;
    uint64_t corrupt_at;                        /* this packet's first event is changed: must be found */
} lobster_check;

static int side_is(const oc_book_side *side, const long long *price, const long long *size, int levels)
{
    int count = 0;
    for (int i = 0; i < levels; i++) {
        if (size[i] == 0) continue;
        if (count == (int)side->count || side->level[count].ticks != price[i] || side->level[count].lots != size[i])
            return 0;
        count++;
    }
    return count == (int)side->count;
}

/* Compares with the next line of the orderbook file. */
static void line_compare(lobster_check *c)
{
    oc_line line;
    bool have;
    long long value[4][64];
    int count = 0;
    assert_int_equal(oc_lines_next(c->books, &line, &have), OC_OK);
    assert_true(have);
    for (char *at = line.text; *at && count < 256; count++) {
        value[count % 4][count / 4] = strtoll(at, &at, 10);
        at += *at == ',';
    }
    assert_true(count % 4 == 0 && count > 0);
    c->different +=
        !side_is(&c->book.ask, value[0], value[1], count / 4) || !side_is(&c->book.bid, value[2], value[3], count / 4);
    c->crossed += oc_book_crossed(&c->book);
}

static oc_status lobster_sink(void *context, const oc_event *events, size_t count)
{
    lobster_check *c = context;
    for (size_t i = 0; i < count; i++) {
        oc_event e = events[i];
        if (c->corrupt_at && c->packets == c->corrupt_at && i == 0) e.as.price.lots++;
        oc_book_apply(&c->book, &e);
        if (!(e.flags & OC_EVENT_LAST)) continue;
        line_compare(c);
        c->packets++;
    }
    return OC_OK;
}

static uint64_t lobster_different(const char *message, const char *book, const char *symbol, uint64_t packets,
                                  uint64_t corrupt_at)
{
    static lobster_check c;
    const char *const names[] = {message, book};
    oc_import_input inputs[2];
    oc_import_options o = options_of("lobster", symbol);
    need(2, names, inputs);
    memset(&c, 0, sizeof c);
    oc_book_init(&c.book);
    c.corrupt_at = corrupt_at;
    assert_int_equal(oc_lines_open(&c.books, paths[1], NULL, 0, 65536), OC_OK);
    assert_int_equal(oc_import_scan(&o, inputs, 1, lobster_sink, &c, &report, NULL), OC_OK);
    oc_lines_close(c.books);
    assert_true(c.packets == packets && report.packets == packets && report.rejected == 0 && c.crossed == 0);
    assert_true(c.book.dropped == 0);
    print_message("%s: %llu packets, %llu events, %llu books differ\n", symbol, (unsigned long long)packets,
                  (unsigned long long)report.events, (unsigned long long)c.different);
    return c.different;
}

static void goog_book_is_the_file(void **state)
{
    (void)state;
    assert_true(lobster_different(GOOG "message_10.csv.xz", GOOG "orderbook_10.csv.xz", "GOOG", 147916, 0) == 0);
}

static void aapl_first_rows(void **state)
{
    (void)state;
    assert_true(lobster_different(AAPL "message_10.csv.xz", AAPL "orderbook_10.csv.xz", "AAPL", 999, 0) == 0);
    assert_true(lobster_different(AAPL "message_10.csv.xz", AAPL "orderbook_10.csv.xz", "AAPL", 999, 1) >
                0); /* injected */
}

static oc_status ignore(void *context, const oc_event *events, size_t count)
{
    (void)context, (void)events, (void)count;
    return OC_OK;
}

static void eurusd_minutes(void **state)
{
    (void)state;
    const char *const names[] = {"fx-minute/EURUSD_M1_2020-04-27_2020-06-14.tsv.xz"};
    oc_import_input inputs[1];
    oc_import_options o = options_of("metatrader", "EURUSD");
    need(1, names, inputs);
    o.bar = "1m", o.stamp = "start", o.timezone = "UTC";
    assert_int_equal(oc_import_scan(&o, inputs, 1, ignore, NULL, &report, NULL), OC_OK);
    assert_true(report.events == 50000 && report.rejected == 0 && report.instrument.tick.exponent == -5);
    assert_true(report.session_breaks == 1 + 7);       /* the first bar and seven weekends */
    assert_true(report.first_ns == INT64_C(1587962460000000000));
}

/* An independent witness of the rebuilt book: Binance's own best quotes, which come on another stream. Right after a
 * depth update the book's best prices are those of the last quote, except where a quote between is on its way. */
typedef struct binance_check {
    oc_book book;
    oc_event quote;                             /* the last one */
    uint64_t crossed, depth, trades, quotes;
    uint64_t compared, agree;                   /* depth updates after a quote; of them with the quote's best prices */
} binance_check;

static oc_status binance_sink(void *context, const oc_event *events, size_t count)
{
    binance_check *c = context;
    for (size_t i = 0; i < count; i++) {
        oc_book_apply(&c->book, &events[i]);
        c->trades += events[i].kind == OC_EVENT_TRADE;
        c->quotes += events[i].kind == OC_EVENT_QUOTE;
        if (events[i].kind == OC_EVENT_QUOTE) c->quote = events[i];
    }
    c->crossed += oc_book_crossed(&c->book);
    if (events[0].kind != OC_EVENT_LEVEL) return OC_OK;
    c->depth++;
    if (!c->quotes || !oc_book_two_sided(&c->book)) return OC_OK;
    c->compared++;
    c->agree += c->book.bid.level[0].ticks == c->quote.as.quote.bid_ticks &&
                c->book.ask.level[0].ticks == c->quote.as.quote.ask_ticks;
    return OC_OK;
}

static void binance_two_files(void **state)
{
    (void)state;
    static binance_check c;
    const char *const names[] = {"binance-l2-2024-08-08/spot/btcusdt_20240808.jsonl.xz",
                                 "binance-l2-2024-08-08/spot/btcusdt_20240809.jsonl.xz"};
    oc_import_input inputs[2];
    oc_import_options o = options_of("binance", "BTCUSDT");
    need(2, names, inputs);
    memset(&c, 0, sizeof c);
    oc_book_init(&c.book);
    assert_int_equal(oc_import_scan(&o, inputs, 2, binance_sink, &c, &report, NULL), OC_OK);
    assert_true(report.gaps == 0 && report.rejected == 0 && report.crossed == 0 && c.crossed == 0 && !c.book.stale);
    assert_true(c.trades == 19904 && c.quotes == 73174 && report.lines == 41249 + 58325);
    print_message(
        "spot: %llu packets, %llu levels dropped; best prices are the quote's after %llu of %llu depth updates\n",
        (unsigned long long)report.packets, (unsigned long long)c.book.dropped, (unsigned long long)c.agree,
        (unsigned long long)c.compared);
    assert_true(c.compared > 6000 && c.agree * 100 >= c.compared * 99);
    oc_import_input second = inputs[1];         /* alone it has no snapshot: no depth, and a note */
    assert_int_equal(oc_import_scan(&o, &second, 1, binance_sink, &c, &report, NULL), OC_OK);
    assert_non_null(strstr(report.notes[0], "no depth snapshot"));
}

static void binance_futures(void **state)
{
    (void)state;
    static binance_check c;
    const char *const names[] = {"binance-l2-2024-08-08/usdm/btcusdt_20240808.jsonl.xz"};
    oc_import_input inputs[1];
    oc_import_options o = options_of("binance", "BTCUSDT-PERP");
    need(1, names, inputs);
    o.source_symbol = "BTCUSDT";
    memset(&c, 0, sizeof c);
    oc_book_init(&c.book);
    assert_int_equal(oc_import_scan(&o, inputs, 1, binance_sink, &c, &report, NULL), OC_OK);
    assert_true(report.gaps == 0 && report.rejected == 0 && c.crossed == 0 && c.trades == 21313 && c.quotes == 66089);
    print_message(
        "futures: %llu packets, %llu levels dropped; best prices are the quote's after %llu of %llu depth updates\n",
        (unsigned long long)report.packets, (unsigned long long)c.book.dropped, (unsigned long long)c.agree,
        (unsigned long long)c.compared);
    assert_true(c.compared > 6000 && c.agree * 100 >= c.compared * 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goog_book_is_the_file),
        cmocka_unit_test(aapl_first_rows),
        cmocka_unit_test(eurusd_minutes),
        cmocka_unit_test(binance_two_files),
        cmocka_unit_test(binance_futures),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    return !failures && skips == (int)(sizeof tests / sizeof *tests) ? 77 : failures;
}
