/* test_import.c - the importers on small texts whose right answer is written beside them. Would catch: a bad line that
 * gets through or takes a good one with it, a wrong reason or place, a bar at the wrong end, a DST hour off, a repaired
 * price, an output file touched by a failed import. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "market/event_file.h"
#include "market/import.h"

enum { COLLECT_MAX = 4096 };

static oc_event got[COLLECT_MAX];
static size_t got_count;
static oc_import_report report;

static oc_status collect(void *context, const oc_event *events, size_t count)
{
    (void)context;
    for (size_t i = 0; i < count; i++) {
        assert_true(got_count < COLLECT_MAX);
        got[got_count++] = events[i];
    }
    return OC_OK;
}

static oc_status ignore(void *context, const oc_event *events, size_t count)
{
    (void)context;
    (void)events;
    (void)count;
    return OC_OK;
}

static oc_import_options bars(const char *bar, const char *stamp)
{
    oc_import_options o;
    oc_import_options_init(&o);
    o.format = "csv";
    o.symbol = "X";
    o.bar = bar;
    o.stamp = stamp;
    o.max_rejected = 1;
    return o;
}

static oc_import_options format(const char *name)
{
    oc_import_options o = bars(NULL, NULL);
    o.format = name;
    o.timezone = strcmp(name, "lobster") == 0 ? "America/New_York" : NULL;
    o.date = "2012-06-21";
    return o;
}

static oc_status scan(const oc_import_options *o, const char *text)
{
    oc_import_input input = {"t.csv", text, strlen(text)};
    got_count = 0;
    return oc_import_scan(o, &input, 1, collect, NULL, &report, NULL);
}

static oc_status scan_pair(const oc_import_options *o, const char *messages, const char *books)
{
    oc_import_input inputs[] = {{"m", messages, strlen(messages)}, {"orderbook", books, strlen(books)}};
    got_count = 0;
    return oc_import_scan(o, inputs, 2, collect, NULL, &report, NULL);
}

static int64_t utc(const char *text)            /* "2020-01-02 03:04:05" */
{
    int64_t ns = 0;
    int part[6];
    char copy[20];
    memcpy(copy, text, sizeof copy);
    for (int i = 0, at[] = {0, 5, 8, 11, 14, 17}; i < 6; i++) part[i] = (int)strtol(copy + at[i], NULL, 10);
    assert_true(oc_time_from_civil(part[0], part[1], part[2], part[3], part[4], part[5], 0, &ns));
    return ns;
}

#define GOOD "2020-01-02 10:00:00,1.10,1.20,1.05,1.15,100\n"
#define NEXT "2020-01-02 10:01:00,1.15,1.20,1.10,1.12,7\n"

/* One bad line between two good ones: two events, the second behind a gap, the reason and the place known. */
typedef struct bad_line { const char *line; oc_import_reason reason; } bad_line;

static const bad_line bad_bars[] = {
    {"2020-01-02 10:00:30", OC_REFUSED_FIELDS},
    {"", OC_REFUSED_COUNT},                     /* blank: not a line, no gap */
    {"2020-01-02 10:00:30,nan,1.20,1.05,1.15,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,1.10,inf,1.05,1.15,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,1.10,1.20,-inf,1.15,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,1.10,1.20,1.05,,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,1.10,1.20,1.05,1.15,NaN", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,1.1000000000000000001,1.20,1.05,1.15,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,0x1,1.20,1.05,1.15,100", OC_REFUSED_NUMBER},
    {"2020-01-02 10:00:30,-1.10,1.20,1.05,1.15,100", OC_REFUSED_PRICE},
    {"2020-01-02 10:00:30,1.10,1.20,0,1.15,100", OC_REFUSED_PRICE},
    {"2020-01-02 10:00:30,1.10,1.20,1.05,1.15,-1", OC_REFUSED_SIZE},
    {"2020-01-02 10:00:30,1.10,1.12,1.05,1.15,100", OC_REFUSED_RANGE},
    {"2020-01-02 10:00:30,1.10,1.20,1.11,1.15,100", OC_REFUSED_RANGE},
    {"2020-02-30 10:00:30,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME},
    {"2020-01-02 25:00:30,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME},
    {"2020-01-02 10:00:30x,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME},
    {"02.01.2020 10:00:30,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME},
    {"0,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME_ZERO},
    {"1970-01-01 00:00:00,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME_ZERO},
    {"1969-01-01 00:00:00,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME_ZERO},
    {"2020-01-02 09:59:00,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME_BACK},
    {"2020-01-02 10:00:00,1.10,1.20,1.05,1.15,100", OC_REFUSED_DUPLICATE},
    {"2020-01-02 10:00:30,1.10,1.20,1.05,1.15,100", OC_REFUSED_OVERLAP},
    {"2020-01-02 10:00:30,1.10,1.2\x01,1.05,1.15,100", OC_REFUSED_BYTES},
    {"2201-01-02 10:00:30,1.10,1.20,1.05,1.15,100", OC_REFUSED_TIME},
    {"2020-01-02 10:00:30,9e17,9e17,9e17,9e17,100", OC_REFUSED_TICK},
};

/* 1 where the line between two good ones had exactly the expected effect. */
static int bad_line_as_expected(const bad_line *c)
{
    char text[1024];
    oc_import_options o = bars("1m", "start");
    snprintf(text, sizeof text, GOOD "%s\n" NEXT, c->line);
    bool refused = c->reason != OC_REFUSED_COUNT, gap = refused && c->reason != OC_REFUSED_DUPLICATE;
    if (scan(&o, text) != OC_OK || got_count != 2 || report.rejected != refused) return 0;
    if (refused && (report.reasons[c->reason] != 1 || report.places[c->reason][0].line != 2
                    || strcmp(report.places[c->reason][0].where, "t.csv") != 0))
        return 0;
    return got[0].flags == (OC_EVENT_LAST | OC_EVENT_SESSION_BREAK) &&
           got[1].flags == (OC_EVENT_LAST | (gap ? OC_EVENT_GAP_BEFORE : 0));
}

static void bad_bars_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_bars / sizeof *bad_bars; i++) {
        if (!bad_line_as_expected(&bad_bars[i]))
            fail_msg("\"%s\": %zu events, %llu refused", bad_bars[i].line, got_count,
                     (unsigned long long)report.rejected);
    }
    /* Injected: expectations that are wrong, which the harness must notice. */
    static const bad_line wrong[] = {{"2020-01-02 10:00:30,nan,1,1,1,1", OC_REFUSED_PRICE},
                                     {"2020-01-02 10:00:30,nan,1,1,1,1", OC_REFUSED_COUNT},
                                     {"", OC_REFUSED_FIELDS}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(bad_line_as_expected(&wrong[i]));
}

static void overlong_line_is_refused(void **state)
{
    (void)state;
    static char text[40000];
    oc_import_options o = bars("1m", "start");
    size_t used = strlen(GOOD);
    memcpy(text, GOOD, used);
    memset(text + used, '1', 20000);
    snprintf(text + used + 20000, sizeof text - used - 20000, "\n" NEXT);
    assert_int_equal(scan(&o, text), OC_OK);
    assert_true(got_count == 2 && report.reasons[OC_REFUSED_LONG] == 1);
    memset(text, ',', 1000);                    /* more fields than any layout has */
    snprintf(text + 1000, sizeof text - 1000, "\n" NEXT);
    assert_int_equal(scan(&o, text), OC_EDATA);
}

static void a_first_time_of_zero(void **state)
{
    (void)state;
    oc_import_options o = bars("1m", "start");
    assert_int_equal(scan(&o, "time,open,high,low,close\n0,1,1,1,1\n1500000000,1,1,1,1\n1500000060,1,1,1,1\n"), OC_OK);
    assert_true(got_count == 2 && report.reasons[OC_REFUSED_TIME_ZERO] == 1);
    assert_true(got[0].receive_ns == INT64_C(1500000060) * OC_SECOND_NS);
}

static void values_units_and_ends(void **state)
{
    (void)state;
    oc_import_options o = bars("1m", "start");
    o.arrival_delay_ns = 250;
    assert_int_equal(
        scan(&o, "Time;Open;High;Low;Close;Volume\r\n02.01.2020 10:00:00.000;1.1;1.25;1.05;1.15;100.5\r\n"), OC_OK);
    assert_int_equal(got_count, 1);
    assert_true(got[0].receive_ns == utc("2020-01-02 10:01:00") + 250 &&
                got[0].exchange_ns == utc("2020-01-02 10:01:00"));
    assert_true(got[0].as.bar.open_ticks == 110 && got[0].as.bar.high_ticks == 125 && got[0].as.bar.low_ticks == 105
                && got[0].as.bar.close_ticks == 115 && got[0].as.bar.volume_lots == 1005);
    assert_true(report.tick_found && report.instrument.tick.mantissa == 1 && report.instrument.tick.exponent == -2);
    assert_true(report.instrument.lot.exponent == -1 && report.lines == 1);
    o = bars("1m", "end");
    assert_int_equal(scan(&o, GOOD), OC_OK);
    assert_true(got[0].receive_ns == utc("2020-01-02 10:00:00"));
}

static void columns_map(void **state)
{
    (void)state;
    static const char text[] = "date,clock,x,c,l,h,o,v\n20200102,10:00,q,1.15,1.05,1.20,1.10,9\n";
    oc_import_options o = bars("1h", "start");
    o.columns = "date+clock,o,h,l,c,v";
    assert_int_equal(scan(&o, text), OC_OK);
    assert_true(got_count == 1 && got[0].as.bar.open_ticks == 110 && got[0].as.bar.volume_lots == 9);
    assert_true(got[0].receive_ns == utc("2020-01-02 11:00:00"));
    o.columns = "1+2,7,6,5,4";
    assert_int_equal(scan(&o, text), OC_OK);
    assert_true(got_count == 1 && got[0].as.bar.close_ticks == 115 && got[0].as.bar.volume_lots == 0);
    o.columns = "date,open,h,l,c";
    assert_int_equal(scan(&o, text), OC_EUSAGE);
    assert_non_null(strstr(oc_status_message(), "\"open\""));
    o.columns = "1,2,3";
    assert_int_equal(scan(&o, text), OC_EUSAGE);
}

static void given_units_are_exact_or_refused(void **state)
{
    (void)state;
    oc_import_options o = bars("1m", "start");
    o.tick = "0.05";
    o.lot = "100";
    assert_int_equal(scan(&o, GOOD NEXT), OC_OK);
    assert_true(got_count == 1 && got[0].as.bar.open_ticks == 22 && got[0].as.bar.volume_lots == 1);
    assert_int_equal(report.reasons[OC_REFUSED_TICK], 1);
    assert_int_equal(report.places[OC_REFUSED_TICK][0].line, 2);
    o.tick = "zero";
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
}

/* Only on demand, only at a multiple, and counted. */
static void float_noise_is_an_option(void **state)
{
    (void)state;
    static const char text[] = "2020-01-02 10:00:00,1.1,1.2000000000000002,1.05,1.15,100.00000000000001\n"
                               "2020-01-02 10:01:00,1.1,1.2002,1.05,1.15,100\n";
    oc_import_options o = bars("1m", "start");
    o.tick = "0.01";
    o.lot = "1";
    assert_int_equal(scan(&o, text), OC_EDATA);
    o.float_noise = true;
    assert_int_equal(scan(&o, text), OC_OK);
    assert_true(got_count == 1 && got[0].as.bar.high_ticks == 120 && got[0].as.bar.volume_lots == 100);
    assert_true(report.denoised == 2 && report.reasons[OC_REFUSED_TICK] == 1);
    o.lot = NULL;
    assert_int_equal(scan(&o, text), OC_EUSAGE);
}

static void options_are_checked(void **state)
{
    (void)state;
    oc_import_options o = bars(NULL, "start");
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", NULL);
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "middle");
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1x", "start");
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "start"), o.timezone = "Mars/Olympus";
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    assert_non_null(strstr(oc_status_message(), "Mars/Olympus"));
    o = bars("1m", "start"), o.timezone = "America";          /* a folder: glibc would take it for UTC */
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "start"), o.time_format = "%Y-%q";
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "start"), o.format = "excel";
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "start"), o.symbol = "a/b";
    assert_int_equal(scan(&o, GOOD), OC_EUSAGE);
    o = bars("1m", "start");
    assert_int_equal(scan(&o, ""), OC_EDATA);
    assert_int_equal(scan(&o, "time,open,high,low,close\n"), OC_EDATA);
    o.max_rejected = 0.3;
    assert_int_equal(scan(&o, GOOD "x\n" NEXT), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "t.csv:2"));
}

typedef struct zone_case { const char *zone, *local, *expected; } zone_case;

static const zone_case zones[] = {
    {"UTC", "2020-07-01 12:00:00", "2020-07-01 12:00:00"},
    {"America/New_York", "2012-06-21 09:30:00", "2012-06-21 13:30:00"},
    {"America/New_York", "2012-12-21 09:30:00", "2012-12-21 14:30:00"},
    {"Europe/Berlin", "2020-07-01 12:00:00", "2020-07-01 10:00:00"},
    {"Asia/Kolkata", "2020-07-01 12:00:00", "2020-07-01 06:30:00"},
    {"+02:00", "2020-07-01 12:00:00", "2020-07-01 10:00:00"},
    {"-0530", "2020-07-01 12:00:00", "2020-07-01 17:30:00"},
    {"Europe/Berlin", "2020-03-29 01:59:00", "2020-03-29 00:59:00"},
    {"Europe/Berlin", "2020-03-29 02:30:00", NULL},           /* the clock jumped over it */
    {"Europe/Berlin", "2020-03-29 03:00:00", "2020-03-29 01:00:00"},
    {"Europe/Berlin", "2020-10-25 02:30:00", "2020-10-25 00:30:00"},      /* comes twice: the first */
    {"Australia/Lord_Howe", "2020-10-04 02:15:00", NULL},     /* half an hour of daylight saving */
    {"Australia/Lord_Howe", "2020-10-04 02:30:00", "2020-10-03 15:30:00"},
};

static void zones_convert(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof zones / sizeof *zones; i++) {
        char text[128];
        oc_import_options o = bars("1m", "end");
        o.timezone = zones[i].zone;
        snprintf(text, sizeof text, "%s,1,1,1,1\n", zones[i].local);
        oc_status status = scan(&o, text);
        if (!zones[i].expected) assert_true(status == OC_EDATA && report.reasons[OC_REFUSED_TIME_GAP] == 1);
        else if (status != OC_OK || got[0].receive_ns != utc(zones[i].expected))
            fail_msg("%s %s", zones[i].zone, zones[i].local);
    }
}

/* Hourly bars through the autumn night: 01, 02, 02, 03 local are four hours in a row. */
static void the_hour_that_comes_twice(void **state)
{
    (void)state;
    oc_import_options o = bars("1h", "start");
    o.timezone = "Europe/Berlin";
    assert_int_equal(scan(&o, "2020-10-25 01:00:00,1,1,1,1\n2020-10-25 02:00:00,1,1,1,1\n2020-10-25 02:00:00,1,1,1,1\n"
                              "2020-10-25 03:00:00,1,1,1,1\n"), OC_OK);
    assert_int_equal(got_count, 4);
    for (int i = 0; i < 4; i++) assert_true(got[i].receive_ns == utc("2020-10-25 00:00:00") + i * 3600 * OC_SECOND_NS);
    assert_int_equal(report.ambiguous_times, 2);
    o = bars("1d", "start"), o.timezone = "Europe/Berlin";     /* a day of 25 hours */
    assert_int_equal(scan(&o, "2020-10-25,1,1,1,1\n2020-10-26,1,1,1,1\n"), OC_OK);
    assert_true(got[0].receive_ns == utc("2020-10-25 23:00:00") && got[1].receive_ns == utc("2020-10-26 23:00:00"));
}

static void session_breaks(void **state)
{
    (void)state;
    oc_import_options o = bars("1h", "start");
    o.gap_bars = 3;
    assert_int_equal(
        scan(&o, "2020-01-02 10:00:00,1,1,1,1\n2020-01-02 13:00:00,1,1,1,1\n2020-01-02 17:00:00,1,1,1,1\n"), OC_OK);
    assert_int_equal(got_count, 3);
    assert_int_equal(got[1].flags, OC_EVENT_LAST);             /* two are missing */
    assert_int_equal(got[2].flags, OC_EVENT_LAST | OC_EVENT_SESSION_BREAK);    /* three */
    assert_true(report.missing_bars == 5 && report.session_breaks == 2);
}

static void metatrader_variants(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "2020.01.02,10:00,1.10,1.20,1.05,1.15,100\n", /* MT4, no header */
        ("<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<VOL>\t<SPREAD>\n"
         "2020.01.02\t10:00:00\t1.10\t1.20\t1.05\t1.15\t100\t0\t3\n"),
        "Time\tOpen\tHigh\tLow\tClose\tVolume\t\r\n2020-01-02 10:00:00\t1.10\t1.20\t1.05\t1.15\t100\t\r\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        oc_import_options o = bars("1m", "start");
        o.format = "metatrader";
        o.timezone = "EET";
        assert_int_equal(scan(&o, texts[i]), OC_OK);
        assert_true(got_count == 1 && got[0].receive_ns == utc("2020-01-02 08:01:00") &&
                    got[0].as.bar.volume_lots == 100);
        assert_true(got[0].as.bar.close_ticks == 115);
    }
}

static void packed_inputs(void **state)
{
    (void)state;
    static unsigned char packed[4096], twice[8192];
    static char text[2048];
    const char plain[] = GOOD NEXT;
    oc_import_options o = bars("1m", "start");
    oc_import_input input = {"t", packed, 0};
    lzma_ret code = lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, (const uint8_t *)plain, strlen(plain), packed,
                                            &input.bytes, sizeof packed);
    assert_int_equal(code, LZMA_OK);
    got_count = 0;
    assert_int_equal(oc_import_scan(&o, &input, 1, collect, NULL, &report, NULL), OC_OK);
    assert_int_equal(got_count, 2);
    input.bytes -= 7;
    assert_int_equal(oc_import_scan(&o, &input, 1, collect, NULL, &report, NULL), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "xz"));
    z_stream z = {0};                           /* gzip, as two members one after the other */
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t used = 0;
    for (int half = 0; half < 2; half++) {
        snprintf(text, sizeof text, "%s", half ? NEXT : GOOD);
        z.next_in = (unsigned char *)text, z.avail_in = (uInt)strlen(text);
        z.next_out = twice + used, z.avail_out = (uInt)(sizeof twice - used);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        used = sizeof twice - z.avail_out;
        assert_int_equal(deflateReset(&z), Z_OK);
    }
    deflateEnd(&z);
    got_count = 0;
    input = (oc_import_input){"t", twice, used};
    assert_int_equal(oc_import_scan(&o, &input, 1, collect, NULL, &report, NULL), OC_OK);
    assert_int_equal(got_count, 2);
    input.bytes -= 3;
    assert_int_equal(oc_import_scan(&o, &input, 1, collect, NULL, &report, NULL), OC_EDATA);
}

/* -- LOBSTER: two levels -- */

#define BOOK1 "1010000,5,1000000,7,1020000,6,990000,8\n"

static void lobster_packets(void **state)
{
    (void)state;
    oc_import_options o = format("lobster");
    assert_int_equal(scan_pair(&o,
        "34200.000000001,1,11,7,1000000,1\n"
        "34200.5,4,12,2,1010000,-1\n"           /* a resting sell was hit: the aggressor bought */
        "34200.5,5,0,3,1005000,1\n"             /* hidden: no level changes */
        "34201,3,11,7,1000000,1\n"
        "34202,7,0,0,-1,-1\n"
        "34203,7,0,0,1,-1\n",
        BOOK1
        "1010000,3,1000000,7,1020000,6,990000,8\n"
        "1010000,3,1000000,7,1020000,6,990000,8\n"
        "1010000,3,990000,8,1020000,6,-9999999999,0\n"
        "1010000,3,990000,8,1020000,6,-9999999999,0\n"
        "1010000,3,990000,8,1020000,6,-9999999999,0\n"), OC_OK);
    assert_int_equal(report.packets, 6);
    assert_int_equal(got_count, 4 + 2 + 1 + 1 + 1 + 1);
    assert_true(got[0].kind == OC_EVENT_SNAPSHOT && got[0].side == OC_SIDE_BUY && got[0].as.price.ticks == 1000000);
    assert_int_equal(got[0].flags, OC_EVENT_SESSION_BREAK);
    assert_int_equal(got[3].flags, OC_EVENT_LAST);
    assert_true(got[0].receive_ns == utc("2012-06-21 13:30:00") + 1);
    assert_true(got[4].kind == OC_EVENT_TRADE && got[4].side == OC_SIDE_BUY && got[4].as.price.lots == 2 &&
                got[4].order_id == 12);
    assert_true(got[5].kind == OC_EVENT_LEVEL && got[5].side == OC_SIDE_SELL && got[5].as.price.lots == 3 &&
                got[5].level == 0);
    assert_true(got[6].kind == OC_EVENT_TRADE && got[6].side == OC_SIDE_SELL && got[6].flags == OC_EVENT_LAST);
    assert_true(got[7].kind == OC_EVENT_LEVEL && got[7].as.price.lots == 0 && got[7].as.price.ticks == 1000000);
    assert_true(got[8].kind == OC_EVENT_STATUS && got[8].as.status.code == -1);
    assert_true(got[9].as.status.code == 1 && (got[9].flags & OC_EVENT_SESSION_BREAK));
}

/* The orderbook file that is found by its name counts in the progress too: it was 100 % at a tenth of the way. */
static void lobster_progress(void **state)
{
    (void)state;
    enum { LINES = 3000 };
    static char messages[LINES * 40], books[LINES * 48];
    size_t m = 0, b = 0;
    for (int i = 0; i < LINES; i++) {
        m += (size_t)snprintf(messages + m, sizeof messages - m, "34200.%09d,1,%d,7,990000,1\n", i + 1, i + 1);
        b += (size_t)snprintf(books + b, sizeof books - b, "1010000,5,1000000,7,1020000,6,990000,%d\n", i + 8);
    }
    assert_int_equal(oc_file_write("P_2012-06-21_message_2.csv", messages, m), OC_OK);
    assert_int_equal(oc_file_write("P_2012-06-21_orderbook_2.csv", books, b), OC_OK);
    oc_import_options o = format("lobster");
    const oc_import_input input = {.name = "P_2012-06-21_message_2.csv"};
    oc_progress p = {0};
    oc_progress_set_quiet(true);
    if (oc_import_scan(&o, &input, 1, ignore, NULL, &report, &p) != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(report.rejected, 0);
    assert_int_equal(p.total, m + b);
    assert_true(p.done > m && p.done <= p.total);
    assert_int_equal(unlink("P_2012-06-21_message_2.csv"), 0);
    assert_int_equal(unlink("P_2012-06-21_orderbook_2.csv"), 0);
}

typedef struct bad_pair { const char *message, *book; oc_import_reason reason; } bad_pair;

static const bad_pair bad_pairs[] = {
    {"34200.5,1,11,7,1000000", BOOK1, OC_REFUSED_FIELDS},
    {"nan,1,11,7,1000000,1", BOOK1, OC_REFUSED_TIME},
    {"0,1,11,7,1000000,1", BOOK1, OC_REFUSED_TIME_ZERO},
    {"86400,1,11,7,1000000,1", BOOK1, OC_REFUSED_TIME},
    {"34199,1,11,7,1000000,1", BOOK1, OC_REFUSED_TIME_BACK},
    {"34200.5,9,11,7,1000000,1", BOOK1, OC_REFUSED_KIND},
    {"34200.5,1,11,-7,1000000,1", BOOK1, OC_REFUSED_SIZE},
    {"34200.5,1,11,7,inf,1", BOOK1, OC_REFUSED_NUMBER},
    {"34200.5,1,11,7,1000000,2", BOOK1, OC_REFUSED_NUMBER},
    {"34200.5,4,11,7,0,1", BOOK1, OC_REFUSED_PRICE},
    {"34200.5,1,11,7,1000000,1", "1010000,5,1010000,7,1020000,6,990000,8\n", OC_REFUSED_CROSSED},
    {"34200.5,1,11,7,1000000,1", "1010000,5,1000000,7,1010000,6,990000,8\n", OC_REFUSED_LEVELS},
    {"34200.5,1,11,7,1000000,1", "1010000,5,1000000,7,1020000,6\n", OC_REFUSED_FIELDS},
    {"34200.5,1,11,7,1000000,1", "1010000,5,1000000,0,1020000,6,990000,8\n", OC_REFUSED_SIZE},
    {"34200.5,1,11,7,1000000,1", "1010000,5,nan,7,1020000,6,990000,8\n", OC_REFUSED_NUMBER},
    {"34200.000000001,1,10,7,1000000,1", BOOK1, OC_REFUSED_DUPLICATE},
};

/* After a refused line the whole book comes again, behind a gap. */
static void bad_pairs_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_pairs / sizeof *bad_pairs; i++) {
        char messages[512], books[512];
        oc_import_options o = format("lobster");
        snprintf(messages, sizeof messages, "34200.000000001,1,10,7,1000000,1\n%s\n34201,3,11,7,1000000,1\n",
                 bad_pairs[i].message);
        snprintf(books, sizeof books, BOOK1 "%s1010000,5,990000,8,1020000,6,980000,8\n", bad_pairs[i].book);
        assert_int_equal(scan_pair(&o, messages, books), OC_OK);
        bool gap = bad_pairs[i].reason != OC_REFUSED_DUPLICATE;
        if (report.rejected != 1 || report.reasons[bad_pairs[i].reason] != 1 || report.packets != 2)
            fail_msg("\"%s\": %llu refused", bad_pairs[i].message, (unsigned long long)report.rejected);
        assert_int_equal(got[4].kind, gap ? OC_EVENT_SNAPSHOT : OC_EVENT_LEVEL);
        assert_int_equal(got[4].flags, gap ? OC_EVENT_GAP_BEFORE : 0);
    }
    oc_import_options o = format("lobster");
    assert_int_equal(scan_pair(&o, "34200.5,1,11,7,1000000,1\n", BOOK1 BOOK1), OC_EDATA);      /* one is longer */
    o.date = NULL;
    assert_int_equal(scan_pair(&o, "34200.5,1,11,7,1000000,1\n", BOOK1), OC_EUSAGE);
}

/* -- Binance -- */

#define SNAP(id)                                                                                                       \
    "{\"lastUpdateId\":" #id ",\"bids\":[[\"99.0\",\"1\"],[\"98.0\",\"2\"]],\"asks\":[[\"101.0\",\"1.5\"]]}\n"
#define SPOT(U, u, rest)                                                                                               \
    "{\"stream\":\"x@depth\",\"data\":{\"e\":\"depthUpdate\",\"E\":1700000000000,\"s\":\"X\",\"U\":" #U ",\"u\":" #u   \
    "," rest "}}\n"
#define USDM(U, u, pu, rest)                                                                                           \
    "{\"data\":{\"e\":\"depthUpdate\",\"T\":1700000000000,\"s\":\"X\",\"U\":" #U ",\"u\":" #u ",\"pu\":" #pu "," rest  \
    "}}\n"
#define NONE "\"b\":[],\"a\":[]"
#define BID "\"b\":[[\"99.5\",\"3\"]],\"a\":[]"
#define TRADE(t, p, q)                                                                                                 \
    "{\"data\":{\"e\":\"trade\",\"T\":1700000000000,\"s\":\"x\",\"t\":" #t ",\"p\":\"" p "\",\"q\":\"" q               \
    "\",\"m\":true}}\n"
#define QUOTE(u, b, a)                                                                                                 \
    "{\"stream\":\"x@bookTicker\",\"data\":{\"u\":" #u ",\"s\":\"X\",\"b\":\"" b "\",\"B\":\"1\",\"a\":\"" a           \
    "\",\"A\":\"2\"}}\n"

typedef struct binance_case { const char *name, *text; uint64_t packets, gaps, rejected; } binance_case;

static const binance_case binance_cases[] = {
    {"spot in order", "1 " SNAP(10) "2 " SPOT(9, 11, BID) "3 " SPOT(12, 14, BID) "4 " SPOT(15, 15, BID), 4, 0, 0},
    {"spot gap at the join", "1 " SNAP(10) "2 " SPOT(12, 14, BID), 2, 1, 0},
    {"spot gap later", "1 " SNAP(10) "2 " SPOT(11, 11, BID) "3 " SPOT(13, 13, BID), 3, 1, 0},
    {"spot gap and a new snapshot",
     "1 " SNAP(10) "2 " SPOT(11, 11, BID) "3 " SPOT(13, 13, BID) "4 " SNAP(20) "5 " SPOT(21, 21, BID), 5, 1, 0},
    {"updates before the snapshot", "1 " SPOT(8, 9, BID) "2 " SPOT(10, 12, BID) "3 " SNAP(11) "4 " SPOT(13, 13, BID), 3,
     0, 0},
    {"an update twice", "1 " SNAP(10) "2 " SPOT(11, 11, BID) "3 " SPOT(11, 11, BID) "4 " SPOT(12, 12, BID), 3, 0, 1},
    {"empty updates", "1 " SNAP(10) "2 " SPOT(11, 11, NONE) "3 " SPOT(12, 12, BID), 2, 0, 0},
    {"futures in order", "1 " SNAP(10) "2 " USDM(9, 10, 8, BID) "3 " USDM(15, 19, 10, BID) "4 " USDM(30, 31, 19, BID),
     4, 0, 0},
    {"futures gap", "1 " SNAP(10) "2 " USDM(9, 10, 8, BID) "3 " USDM(15, 19, 12, BID), 3, 1, 0},
    {"trades", "1 " TRADE(5, "1.5", "2") "1 " TRADE(6, "1.5", "2"), 2, 0, 0},
    {"a lost trade", "1 " TRADE(5, "1.5", "2") "2 " TRADE(7, "1.5", "2"), 2, 1, 0},
    {"a trade twice", "1 " TRADE(5, "1.5", "2") "2 " TRADE(5, "1.5", "2"), 1, 0, 1},
    {"quotes", "1 " QUOTE(5, "1.5", "2") "2 " QUOTE(6, "1.5", "1.6"), 2, 0, 0},
    {"crossed quote", "1 " QUOTE(5, "1.5", "2") "2 " QUOTE(6, "2.5", "1.6"), 1, 0, 1},
    {"time goes back", "5 " TRADE(5, "1.5", "2") "4 " TRADE(6, "1.5", "2") "6 " TRADE(7, "1.5", "2"), 2, 1, 1},
    {"time of zero", "0 " TRADE(5, "1.5", "2") "6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"nan", "1 " TRADE(5, "NaN", "2") "6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"infinity", "1 " TRADE(5, "1", "inf") "6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"size of zero", "1 " TRADE(5, "1", "0.0") "6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"cut JSON", "1 {\"data\":{\"e\":\"tra\n6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"duplicate keys", "1 {\"data\":{\"e\":\"trade\"},\"data\":1}\n6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"no blank", "{}\n6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"not an object", "1 [1]\n6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"unknown kind", "1 {\"data\":{\"e\":\"kline\",\"s\":\"X\"}}\n6 " TRADE(6, "1.5", "2"), 1, 1, 1},
    {"another symbol", "1 {\"data\":{\"e\":\"trade\",\"s\":\"Y\"}}\n6 " TRADE(6, "1.5", "2"), 1, 0, 1},
    {"a bad trade is no gap of the book",
     "1 " SNAP(10) "2 " TRADE(5, "x", "2") "3 " SPOT(11, 11, BID) "4 " TRADE(6, "1.5", "2"), 3, 1, 1},
    {"a number too large", "1 " SNAP(10) "2 " TRADE(5, "999999999999999999", "0.001") "4 " TRADE(6, "1.5", "2"), 2, 1,
     1},
    {"a bad level opens a gap",
     "1 " SNAP(10) "2 " SPOT(11, 11, "\"b\":[[\"x\",\"3\"]],\"a\":[]") "3 " SPOT(12, 12, BID), 2, 1, 1},
    {"levels that are no pairs", "1 " SNAP(10) "2 " SPOT(11, 11, "\"b\":[1,[]],\"a\":{}") "3 " SPOT(12, 12, BID), 2, 1,
     1},
};

static void binance_cases_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof binance_cases / sizeof *binance_cases; i++) {
        const binance_case *c = &binance_cases[i];
        oc_import_options o = format("binance");
        oc_status status = scan(&o, c->text);
        if (status != OC_OK || report.packets != c->packets || report.gaps != c->gaps || report.rejected != c->rejected)
            fail_msg("%s: %s; packets %llu, gaps %llu, refused %llu", c->name, status ? oc_status_message() : "",
                     (unsigned long long)report.packets, (unsigned long long)report.gaps,
                     (unsigned long long)report.rejected);
    }
}

static void binance_values(void **state)
{
    (void)state;
    oc_import_options o = format("binance");
    assert_int_equal(scan(&o, "1 " SNAP(10) "2 " TRADE(5, "x", "2") "3 " SPOT(11, 11, BID) "4 " TRADE(6, "1.5", "2")),
                     OC_OK);
    assert_true(got[3].kind == OC_EVENT_LEVEL && got[3].flags == OC_EVENT_LAST);               /* the book goes on */
    assert_true(got[4].kind == OC_EVENT_TRADE && got[4].flags == (OC_EVENT_LAST | OC_EVENT_GAP_BEFORE));
    assert_int_equal(
        scan(&o, "1699999999000000000 " SNAP(10) "1699999999500000000 " SPOT(
                     11, 11,
                     "\"b\":[[\"99.0\",\"0.0\"]],\"a\":[[\"101.0\",\"2.25\"]]") "1700000000000000007 " TRADE(5, "99.10",
                                                                                                             "0.50")),
        OC_OK);
    assert_int_equal(got_count, 3 + 2 + 1);
    assert_true(report.instrument.tick.exponent == -1 && report.instrument.lot.exponent == -2);
    assert_true(got[0].kind == OC_EVENT_SNAPSHOT && got[0].as.price.ticks == 990 && got[2].side == OC_SIDE_SELL &&
                got[2].as.price.lots == 150);
    assert_true(got[3].kind == OC_EVENT_LEVEL && got[3].as.price.lots == 0 && got[4].as.price.lots == 225);
    assert_true(got[5].side == OC_SIDE_SELL && got[5].as.price.ticks == 991 &&
                got[5].as.price.lots == 50); /* m: the buyer rested */
    assert_true(got[5].exchange_ns == INT64_C(1700000000000000000) &&
                got[5].receive_ns == INT64_C(1700000000000000007));
    assert_true(report.offset_min_ns == -500000000 && report.offset_max_ns == 7);
    for (size_t i = 1; i < got_count; i++) assert_true(got[i].sequence == got[i - 1].sequence + 1);
}

static void failure_keeps_the_old_output(void **state)
{
    (void)state;
    char path[64];
    oc_event_reader *r;
    oc_import_options o = bars("1m", "start");
    oc_import_input good = {"good.csv", GOOD NEXT, strlen(GOOD NEXT)},
                    bad = {"bad.csv", GOOD "x\n", strlen(GOOD "x\n")};
    snprintf(path, sizeof path, "test_import.%d.events", (int)getpid());
    assert_int_equal(oc_import_run(&o, &good, 1, path, &report, NULL), OC_OK);
    o.max_rejected = 0.01;
    assert_int_equal(oc_import_run(&o, &bad, 1, path, &report, NULL), OC_EDATA);
    assert_int_equal(oc_event_reader_open(&r, path), OC_OK);
    assert_true(oc_event_reader_info(r)->event_count == 2);
    assert_string_equal(oc_event_reader_info(r)->origin, "csv good.csv");
    oc_event_reader_close(r);
    good.data = NULL;                           /* a file that is not there */
    assert_int_equal(oc_import_run(&o, &good, 1, path, &report, NULL), OC_EFAILED);
    assert_true(oc_path_exists(path));
    assert_int_equal(unlink(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_bars_are_refused),
        cmocka_unit_test(overlong_line_is_refused),
        cmocka_unit_test(a_first_time_of_zero),
        cmocka_unit_test(values_units_and_ends),
        cmocka_unit_test(columns_map),
        cmocka_unit_test(given_units_are_exact_or_refused),
        cmocka_unit_test(float_noise_is_an_option),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(zones_convert),
        cmocka_unit_test(the_hour_that_comes_twice),
        cmocka_unit_test(session_breaks),
        cmocka_unit_test(metatrader_variants),
        cmocka_unit_test(packed_inputs),
        cmocka_unit_test(lobster_packets),
        cmocka_unit_test(lobster_progress),
        cmocka_unit_test(bad_pairs_are_refused),
        cmocka_unit_test(binance_cases_run),
        cmocka_unit_test(binance_values),
        cmocka_unit_test(failure_keeps_the_old_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
