/* import.c - the table of formats, what they share (refusals, units, packets), and the two passes. */
#include "market/import_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "market/event_file.h"
#include "market/event_format.h"

#define BAR_SECONDS_MAX (INT64_C(366) * 86400)

static const oc_import_format formats[] = {
    {"csv", "bars, a line each: time, open, high, low, close and perhaps volume; --columns, --time-format, --delimiter",
     true, NULL, NULL, oc_import_bars},
    {"metatrader",
     "bars exported by MetaTrader 4 or 5, tabs or commas, with or without a header; stamps are broker time", true, NULL,
     NULL, oc_import_bars},
    {"lobster", "LOBSTER message and orderbook files, in pairs; all levels", false, "0.0001", "1", oc_import_lobster},
    {"binance",
     "websocket captures: receive ns, a blank, JSON of trade, bookTicker, depthUpdate, or a REST depth snapshot", false,
     NULL, NULL, oc_import_binance},
};

static const char *const reason_texts[] = {
#define OC_IMPORT_REASON_TEXT(name, text) text,
    OC_IMPORT_REASONS(OC_IMPORT_REASON_TEXT)
#undef OC_IMPORT_REASON_TEXT
};

size_t oc_import_format_count(void)
{
    return sizeof formats / sizeof *formats;
}

const char *oc_import_format_name(size_t index)
{
    assert(index < oc_import_format_count());
    return formats[index].name;
}

const char *oc_import_format_help(size_t index)
{
    assert(index < oc_import_format_count());
    return formats[index].help;
}

const char *oc_import_reason_text(oc_import_reason reason)
{
    return (size_t)reason < OC_REFUSED_COUNT ? reason_texts[reason] : "unknown";
}

void oc_import_options_init(oc_import_options *options)
{
    *options = (oc_import_options){.gap_bars = 72, .max_rejected = 0.01};
}

/* -- lines and refusals -- */

oc_status oc_import_text_open(oc_import *im, size_t i, uint32_t line_max, oc_lines **out)
{
    OC_TRY(oc_lines_open(out, im->inputs[i].name, im->inputs[i].data, im->inputs[i].bytes, line_max));
    snprintf(im->at.where, sizeof im->at.where, "%s", im->inputs[i].name);
    im->at.line = 0;
    return OC_OK;
}

static int passes_of(const oc_import *im)
{
    return 1 + (im->report->tick_found || im->report->lot_found);
}

void oc_import_expect(oc_import *im, uint64_t bytes)
{
    bool first = im->measuring || passes_of(im) == 1;
    if (im->progress && first) im->progress->total += bytes * (uint64_t)passes_of(im);
}

void oc_import_text_done(oc_import *im, oc_lines *t)
{
    if (t) im->consumed += oc_lines_bytes(t);
    oc_lines_close(t);
}

oc_status oc_import_line(oc_import *im, oc_lines *t, oc_line *line, bool *have)
{
    for (;;) {
        OC_TRY(oc_lines_next(t, line, have));
        if (!*have) return OC_OK;
        im->at.line = line->number;
        if (im->progress && (line->number & 1023) == 0)
            oc_progress_update(im->progress, im->consumed + oc_lines_consumed(t));
        if (line->state == OC_LINE_GOOD && line->length == 0) continue;
        if (!im->measuring) im->report->lines++;
        im->line_tick = im->line_lot = INT32_MAX;
        if (line->state == OC_LINE_GOOD) return OC_OK;
        oc_import_refuse(im, line->state == OC_LINE_LONG ? OC_REFUSED_LONG : OC_REFUSED_BYTES);
    }
}

bool oc_import_refuse(oc_import *im, oc_import_reason reason)
{
    oc_import_report *r = im->report;
    oc_import_packet_drop(im);
    if (im->measuring) return false;
    if (r->reasons[reason] < OC_IMPORT_PLACES) r->places[reason][r->reasons[reason]] = im->at;
    r->reasons[reason]++;
    r->rejected++;
    if (reason != OC_REFUSED_DUPLICATE && reason != OC_REFUSED_SYMBOL) im->gap_before = true; /* something is lost */
    return false;
}

void oc_import_note(oc_import *im, const char *format, ...)
{
    oc_import_report *r = im->report;
    char text[OC_IMPORT_NOTE_BYTES];
    va_list arguments;
    if (im->measuring || r->note_count == OC_IMPORT_NOTES_MAX) return;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (uint32_t i = 0; i < r->note_count; i++) {
        if (strcmp(r->notes[i], text) == 0) return;
    }
    memcpy(r->notes[r->note_count++], text, sizeof text);
}

/* -- numbers -- */

/* Exact, or with --float-noise the multiple within a thousandth of the unit. Below 2^43 a double tells thousandths. */
static bool count_of(oc_import *im, oc_decimal d, oc_decimal unit, int64_t *count)
{
    if (oc_decimal_divide(d, unit, count)) return *count <= OC_EVENT_MAGNITUDE_MAX;
    if (!im->options->float_noise) return false;
    double ratio = oc_decimal_value(d) / oc_decimal_value(unit), nearest = nearbyint(ratio);
    if (!(nearest >= 1 && nearest <= 0x1p43 && fabs(ratio - nearest) <= 0.001)) return false;
    *count = (int64_t)nearest;
    im->report->denoised++;
    return true;
}

bool oc_import_price(oc_import *im, oc_field field, int64_t *ticks)
{
    oc_decimal d;
    *ticks = 0;
    if (!oc_decimal_read(field.text, field.length, &d)) return oc_import_refuse(im, OC_REFUSED_NUMBER);
    if (d.mantissa <= 0) return oc_import_refuse(im, OC_REFUSED_PRICE);
    if (d.exponent < im->line_tick) im->line_tick = d.exponent;
    if (im->measuring) return true;
    return count_of(im, d, im->instrument.tick, ticks) || oc_import_refuse(im, OC_REFUSED_TICK);
}

bool oc_import_size(oc_import *im, oc_field field, int64_t least, int64_t *lots)
{
    oc_decimal d;
    *lots = 0;
    if (!oc_decimal_read(field.text, field.length, &d)) return oc_import_refuse(im, OC_REFUSED_NUMBER);
    if (d.mantissa < 0 || (d.mantissa == 0 && least > 0)) return oc_import_refuse(im, OC_REFUSED_SIZE);
    if (d.mantissa && d.exponent < im->line_lot) im->line_lot = d.exponent;
    if (im->measuring) return true;
    return count_of(im, d, im->instrument.lot, lots) || oc_import_refuse(im, OC_REFUSED_LOT);
}

void oc_import_measured(oc_import *im)
{
    if (im->line_tick < im->finest_tick) im->finest_tick = im->line_tick;
    if (im->line_lot < im->finest_lot) im->finest_lot = im->line_lot;
}

bool oc_import_utc(oc_import *im, int64_t local_ns, int64_t after_ns, int64_t *utc_ns)
{
    int64_t instants[2];
    int count = oc_zone_utc(&im->zone, local_ns, instants);
    if (count == 0) return oc_import_refuse(im, OC_REFUSED_TIME_GAP);
    *utc_ns = instants[0];
    if (count == 2) {
        if (!im->measuring) im->report->ambiguous_times++;
        if (instants[0] <= after_ns) *utc_ns = instants[1];
    }
    if (*utc_ns <= 0) return oc_import_refuse(im, OC_REFUSED_TIME_ZERO);
    return *utc_ns <= OC_IMPORT_TIME_MAX || oc_import_refuse(im, OC_REFUSED_TIME);
}

/* -- packets -- */

oc_status oc_import_event(oc_import *im, oc_event_kind kind, oc_event **event)
{
    OC_TRY(oc_memory_grow(&im->packet, &im->packet_cap, im->packet_count + 1, sizeof *im->packet, "import packet"));
    *event = &im->packet[im->packet_count++];
    **event = (oc_event){.kind = (uint8_t)kind, .level = 255};
    return OC_OK;
}

void oc_import_packet_drop(oc_import *im)
{
    im->packet_count = 0;
}

/* Keeps up to OC_IMPORT_OFFSETS_MAX offsets; when full, every second one stays and the stride doubles. */
static oc_status offset_note(oc_import *im, int64_t offset_ns)
{
    oc_import_report *r = im->report;
    if (!im->offsets)
        OC_TRY(oc_memory_new_array(&im->offsets, OC_IMPORT_OFFSETS_MAX, sizeof *im->offsets, "clock offsets"));
    if (r->offsets++ == 0) r->offset_min_ns = r->offset_max_ns = offset_ns;
    if (offset_ns < r->offset_min_ns) r->offset_min_ns = offset_ns;
    if (offset_ns > r->offset_max_ns) r->offset_max_ns = offset_ns;
    if (im->offset_seen++ % im->offset_stride != 0) return OC_OK;
    if (im->offset_count == OC_IMPORT_OFFSETS_MAX) {
        im->offset_count /= 2;
        for (size_t i = 0; i < im->offset_count; i++) im->offsets[i] = im->offsets[2 * i];
        im->offset_stride *= 2;
    }
    im->offsets[im->offset_count++] = offset_ns;
    return OC_OK;
}

oc_status oc_import_packet(oc_import *im, int64_t exchange_ns, int64_t receive_ns)
{
    oc_import_report *r = im->report;
    size_t count = im->packet_count;
    if (count == 0 || im->measuring) {
        im->packet_count = 0;
        return OC_OK;
    }
    if (r->packets == 0) im->session_break = true;
    im->packet[0].flags =
        (uint8_t)((im->gap_before ? OC_EVENT_GAP_BEFORE : 0) | (im->session_break ? OC_EVENT_SESSION_BREAK : 0));
    im->packet[count - 1].flags |= OC_EVENT_LAST;
    for (size_t i = 0; i < count; i++) {
        oc_event *e = &im->packet[i];
        e->exchange_ns = exchange_ns;
        e->receive_ns = receive_ns;
        e->sequence = ++im->sequence;
        oc_book_apply(im->book, e);
    }
    r->crossed += oc_book_crossed(im->book);
    r->gaps += im->gap_before;
    r->session_breaks += im->session_break;
    if (r->packets++ == 0) r->first_ns = receive_ns;
    r->last_ns = receive_ns;
    r->events += count;
    if (exchange_ns && exchange_ns != receive_ns - im->options->arrival_delay_ns)
        OC_TRY(offset_note(im, receive_ns - exchange_ns));
    im->gap_before = im->session_break = false;
    im->previous_ns = receive_ns;
    im->packet_count = 0;
    OC_TRY(im->sink(im->sink_context, im->packet, count));
    return OC_OK;
}

/* -- options -- */

static const oc_import_format *format_find(const char *name)
{
    for (size_t i = 0; i < oc_import_format_count(); i++) {
        if (strcmp(formats[i].name, name) == 0) return &formats[i];
    }
    return NULL;
}

/* "1m", "15m", "1h", "1d", "30s". */
static bool bar_parse(const char *text, int64_t *ns, bool *days)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    size_t length = strlen(text);
    int64_t count;
    if (length < 2 || length > 6 || !oc_field_int((oc_field){text, (uint32_t)length - 1}, &count)) return false;
    if (count < 1) return false;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (units[i].letter != text[length - 1]) continue;
        if (count > BAR_SECONDS_MAX / units[i].seconds) return false;
        *ns = count * units[i].seconds * OC_SECOND_NS;
        *days = units[i].seconds >= 86400;
        return true;
    }
    return false;
}

static oc_status unit_option(const char *flag, const char *text, oc_decimal *out)
{
    if (!oc_decimal_parse(text, out))
        return OC_FAIL(OC_EUSAGE, "--%s is \"%s\", not a positive decimal such as 0.01", flag, text);
    return OC_OK;
}

static oc_status bar_options(oc_import *im, const oc_import_format *f)
{
    const oc_import_options *o = im->options;
    if (!f->bars) return OC_OK;
    if (!o->bar || !o->stamp)
        return OC_FAIL(OC_EUSAGE,
                       "--format %s needs --bar (such as 1m) and --stamp start or end: a bar is usable only at its "
                       "end, and the file does not say which of the two its times are",
                       f->name);
    if (!bar_parse(o->bar, &im->bar_ns, &im->bar_is_days))
        return OC_FAIL(OC_EUSAGE, "--bar is \"%s\", not a length such as 30s, 1m, 4h, 1d", o->bar);
    if (strcmp(o->stamp, "start") != 0 && strcmp(o->stamp, "end") != 0)
        return OC_FAIL(OC_EUSAGE, "--stamp is \"%s\", not start or end", o->stamp);
    im->stamp_is_end = strcmp(o->stamp, "end") == 0;
    return OC_OK;
}

static oc_status options_check(oc_import *im, const oc_import_format *f)
{
    const oc_import_options *o = im->options;
    oc_instrument *n = &im->instrument;
    if (!o->symbol || strlen(o->symbol) >= OC_SYMBOL_BYTES || !o->symbol[0])
        return OC_FAIL(OC_EUSAGE, "--symbol is missing, or over %d characters", OC_SYMBOL_BYTES - 1);
    memcpy(n->symbol, o->symbol, strlen(o->symbol));
    n->tick = n->lot = n->order_tick = (oc_decimal){1, 0, 0};
    const char *problem = oc_instrument_problem(n);
    if (problem) return OC_FAIL(OC_EUSAGE, "--symbol is \"%s\": %s", o->symbol, problem);
    if (!(o->max_rejected >= 0 && o->max_rejected <= 1)) return OC_FAIL(OC_EUSAGE, "--max-rejected is not from 0 to 1");
    if (o->arrival_delay_ns < 0 || o->gap_bars < 1)
        return OC_FAIL(OC_EUSAGE, "--arrival-delay-ns is below 0 or --gap-bars below 1");
    const char *tick = o->tick ? o->tick : f->tick, *lot = o->lot ? o->lot : f->lot;
    if (tick) OC_TRY(unit_option("tick", tick, &n->tick));
    if (lot) OC_TRY(unit_option("lot", lot, &n->lot));
    if (o->order_tick) OC_TRY(unit_option("order-tick", o->order_tick, &n->order_tick));
    if (o->float_noise && (!tick || !lot)) return OC_FAIL(OC_EUSAGE, "--float-noise needs --tick and --lot");
    im->report->tick_found = !tick;
    im->report->lot_found = !lot;
    OC_TRY(bar_options(im, f));
    if (o->timezone) OC_TRY(oc_zone_open(&im->zone, o->timezone));
    im->zone_open = o->timezone != NULL;
    return OC_OK;
}

/* -- passes -- */

static oc_status pass(oc_import *im, const oc_import_format *f, bool measuring)
{
    im->measuring = measuring;
    im->packet_count = 0;
    im->gap_before = im->session_break = false;
    im->sequence = 0;
    im->previous_ns = INT64_MIN;
    oc_book_init(im->book);
    OC_TRY(f->pass(im));
    return OC_OK;
}

/* The finest power of ten that all prices (sizes) are multiples of. */
static oc_decimal unit_found(int32_t exponent, oc_decimal fallback)
{
    return exponent == INT32_MAX ? fallback : (oc_decimal){1, exponent < 0 ? exponent : 0, 0};
}

static oc_status measure(oc_import *im, const oc_import_format *f)
{
    oc_import_report *r = im->report;
    if (r->tick_found || r->lot_found) {
        im->finest_tick = im->finest_lot = INT32_MAX;
        OC_TRY(pass(im, f, true));
        if (r->tick_found) im->instrument.tick = unit_found(im->finest_tick, im->instrument.tick);
        if (r->lot_found) im->instrument.lot = unit_found(im->finest_lot, im->instrument.lot);
    }
    if (!im->options->order_tick) im->instrument.order_tick = im->instrument.tick;
    r->instrument = im->instrument;
    const char *problem = oc_instrument_problem(&im->instrument);
    if (problem)
        return OC_FAIL(OC_EDATA,
                       "the finest increments in the data (price 1e%d, size 1e%d) cannot be used: %s; give --tick and "
                       "--lot",
                       (int)im->finest_tick, (int)im->finest_lot, problem);
    return OC_OK;
}

static int offset_rises(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The message names the most frequent reason and its first place. */
static oc_status verdict(oc_import *im)
{
    oc_import_report *r = im->report;
    size_t worst = 0;
    if (im->offset_count) {
        qsort(im->offsets, im->offset_count, sizeof *im->offsets, offset_rises);
        r->offset_median_ns = im->offsets[im->offset_count / 2];
    }
    for (size_t i = 1; i < OC_REFUSED_COUNT; i++) {
        if (r->reasons[i] > r->reasons[worst]) worst = i;
    }
    if (r->rejected && !((double)r->rejected <= im->options->max_rejected * (double)r->lines))
        return OC_FAIL(
            OC_EDATA,
            "%llu of %llu lines refused, more than the allowed share of %g; most often: %s, first at %s:%llu. "
            "Look at the input and the options, or raise --max-rejected",
            (unsigned long long)r->rejected, (unsigned long long)r->lines, im->options->max_rejected,
            reason_texts[worst], r->places[worst][0].where, (unsigned long long)r->places[worst][0].line);
    if (r->events == 0) return OC_FAIL(OC_EDATA, "%s: no event in it", im->inputs[0].name);
    return OC_OK;
}

static uint64_t input_bytes(const oc_import *im)
{
    uint64_t total = 0;
    for (size_t i = 0; i < im->input_count; i++) {
        oc_file_map map;
        if (im->inputs[i].data) total += im->inputs[i].bytes;
        else if (oc_file_map_open(&map, im->inputs[i].name) == OC_OK) {
            total += map.bytes;
            oc_file_map_close(&map);
        }
    }
    return total;
}

typedef oc_status (*sink_open)(void *context, const oc_instrument *instrument);

static oc_status import_all(oc_import *im, const oc_import_format *f, sink_open open)
{
    OC_TRY(options_check(im, f));
    if (im->progress) oc_progress_start(im->progress, "import", "B", input_bytes(im) * (uint64_t)passes_of(im));
    OC_TRY(measure(im, f));
    if (open) OC_TRY(open(im->sink_context, &im->instrument));
    OC_TRY(pass(im, f, false));
    OC_TRY(verdict(im));
    return OC_OK;
}

static oc_status import_with(const oc_import_options *options, const oc_import_input *inputs, size_t input_count,
                             sink_open open, oc_import_sink sink, void *context, oc_import_report *report,
                             oc_progress *progress)
{
    oc_import *im = NULL;
    oc_status status;
    memset(report, 0, sizeof *report);
    const oc_import_format *f = options->format ? format_find(options->format) : NULL;
    if (!f)
        return OC_FAIL(OC_EUSAGE, "--format is \"%s\", not one of csv, metatrader, lobster, binance",
                       options->format ? options->format : "");
    if (input_count == 0) return OC_FAIL(OC_EUSAGE, "no input");
    OC_TRY(oc_memory_new(&im, sizeof *im, "import"));
    *im = (oc_import){.options = options, .inputs = inputs, .input_count = input_count, .report = report, .sink = sink,
                      .sink_context = context, .progress = progress, .offset_stride = 1};
    OC_TRY_GOTO(status, done, oc_memory_new(&im->book, sizeof *im->book, "import book"));
    OC_TRY_GOTO(status, done, import_all(im, f, open));
done:
    if (progress && progress->what) oc_progress_finish(progress);
    oc_memory_free(im->book);
    oc_memory_free(im->packet);
    oc_memory_free(im->offsets);
    oc_memory_free(im);
    return status;
}

oc_status oc_import_scan(const oc_import_options *options, const oc_import_input *inputs, size_t input_count,
                         oc_import_sink sink, void *context, oc_import_report *report, oc_progress *progress)
{
    return import_with(options, inputs, input_count, NULL, sink, context, report, progress);
}

/* -- the file sink: opened when the units are known -- */

typedef struct file_sink {
    const char *path;
    char origin[512];
    oc_event_writer *writer;
} file_sink;

static oc_status file_sink_open(void *context, const oc_instrument *instrument)
{
    file_sink *s = context;
    return oc_event_writer_open(&s->writer, s->path, instrument, 1, s->origin);
}

static oc_status file_sink_add(void *context, const oc_event *events, size_t count)
{
    file_sink *s = context;
    return oc_event_writer_add(s->writer, events, count);
}

oc_status oc_import_run(const oc_import_options *options, const oc_import_input *inputs, size_t input_count,
                        const char *out, oc_import_report *report, oc_progress *progress)
{
    file_sink sink = {.path = out};
    size_t used = (size_t)snprintf(sink.origin, 64, "%s", options->format ? options->format : "");
    for (size_t i = 0; i < input_count && used + 1 < sizeof sink.origin; i++) {
        const char *slash = strrchr(inputs[i].name, '/');      /* names, not places: a file is the same in any folder */
        int more = snprintf(sink.origin + used, sizeof sink.origin - used, " %s", slash ? slash + 1 : inputs[i].name);
        if (more < 0) break;
        used += (size_t)more;
    }
    oc_status status =
        import_with(options, inputs, input_count, file_sink_open, file_sink_add, &sink, report, progress);
    if (status != OC_OK) {
        oc_event_writer_abort(sink.writer);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    return oc_event_writer_commit(sink.writer);
}
