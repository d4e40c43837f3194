/* import_bars.c - bars, a line each: generic CSV with a column map, and MetaTrader exports. A layout (delimiter,
 * columns, time format) is settled on the first lines; what was not given and had to be found is said in a note. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "market/import_internal.h"
#include "market/timestamp.h"

enum { LINE_MAX_BYTES = 16384, COLUMNS_MAX = 64, FORMAT_BYTES = 64 };

enum { COLUMN_TIME, COLUMN_OPEN, COLUMN_HIGH, COLUMN_LOW, COLUMN_CLOSE, COLUMN_VOLUME, COLUMN_DATE, COLUMN_COUNT };

typedef struct layout {
    bool settled, has_format;
    char delimiter;                            /* 0: not known yet */
    int column[COLUMN_COUNT]; /* index of the field, -1: none; DATE: left half of a time in two columns */
    char format[FORMAT_BYTES];
} layout;

typedef struct bars {
    oc_import *im;
    layout layout;
    int64_t previous_start_ns, previous_end_ns;        /* INT64_MIN: none */
} bars;

/* Names that headers use, after <> are taken off; a date column beside a time column makes a time of two columns. */
static const struct { const char *name; int column; } aliases[] = {
    {"time", COLUMN_TIME},     {"timestamp", COLUMN_TIME}, {"datetime", COLUMN_TIME}, {"gmt time", COLUMN_TIME},
    {"local time", COLUMN_TIME}, {"open time", COLUMN_TIME}, {"open_time", COLUMN_TIME}, {"date", COLUMN_DATE},
    {"open", COLUMN_OPEN},     {"high", COLUMN_HIGH},      {"low", COLUMN_LOW},       {"close", COLUMN_CLOSE},
    {"volume", COLUMN_VOLUME}, {"tick_volume", COLUMN_VOLUME}, {"tickvol", COLUMN_VOLUME}, {"vol", COLUMN_VOLUME},
};

static oc_field field_bare(oc_field f)
{
    if (f.length >= 2 && f.text[0] == '<' && f.text[f.length - 1] == '>') return (oc_field){f.text + 1, f.length - 2};
    return f;
}

/* -- settling the layout -- */

static char delimiter_find(const char *line)
{
    static const char candidates[] = {',', ';', '\t', '|'};
    size_t best = 0, most = 0;
    for (size_t i = 0; i < sizeof candidates; i++) {
        size_t count = 0;
        for (const char *c = line; *c; c++) count += *c == candidates[i];
        if (count > most) most = count, best = i;
    }
    return candidates[best];
}

static oc_status delimiter_option(const char *text, char *out)
{
    if (strcmp(text, "tab") == 0 || strcmp(text, "\\t") == 0) *out = '\t';
    else if (strlen(text) == 1 && *text != '"' && *text >= ' ') *out = *text;
    else return OC_FAIL(OC_EUSAGE, "--delimiter is \"%s\", not one character or the word tab", text);
    return OC_OK;
}

static bool is_number(oc_field f)
{
    oc_decimal ignored;
    return oc_decimal_read(f.text, f.length, &ignored);
}

/* The field of this name or 1-based number; -1 where there is none. */
static int column_find(oc_field wanted, const oc_field *header, uint32_t count)
{
    int64_t number;
    if (oc_field_int(wanted, &number)) return number >= 1 && number <= COLUMNS_MAX ? (int)number - 1 : -1;
    for (uint32_t i = 0; i < count; i++) {
        oc_field name = field_bare(header[i]);
        if (name.length == wanted.length && strncasecmp(name.text, wanted.text, wanted.length) == 0) return (int)i;
    }
    return -1;
}

/* --columns TIME,OPEN,HIGH,LOW,CLOSE[,VOLUME]; TIME may be DATE+TIME. */
static oc_status columns_option(layout *l, const char *text, const oc_field *header, uint32_t count)
{
    oc_field wanted[COLUMN_VOLUME + 1], half[2];
    uint32_t given = oc_fields_split(text, (uint32_t)strlen(text), ',', wanted, COLUMN_VOLUME + 1);
    if (given < COLUMN_VOLUME || given > COLUMN_VOLUME + 1)
        return OC_FAIL(OC_EUSAGE,
                       "--columns is \"%s\", not the five or six names or numbers of time,open,high,low,close[,volume]",
                       text);
    for (uint32_t i = 0; i < given; i++) {
        if (i == COLUMN_TIME && oc_fields_split(wanted[0].text, wanted[0].length, '+', half, 2) == 2) {
            l->column[COLUMN_DATE] = column_find(half[0], header, count);
            wanted[0] = half[1];
            if (l->column[COLUMN_DATE] < 0)
                return OC_FAIL(OC_EUSAGE, "--columns: the input has no column \"%.*s\"", (int)half[0].length,
                               half[0].text);
        }
        l->column[i] = column_find(wanted[i], header, count);
        if (l->column[i] < 0)
            return OC_FAIL(OC_EUSAGE,
                           "--columns: the input has no column \"%.*s\"; its first line has %u fields, \"%.*s\" first",
                           (int)wanted[i].length, wanted[i].text, count, count ? (int)header[0].length : 0,
                           count ? header[0].text : "");
    }
    return OC_OK;
}

static void columns_by_names(layout *l, const oc_field *header, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        for (size_t a = 0; a < sizeof aliases / sizeof *aliases; a++) {
            int *column = &l->column[aliases[a].column];
            if (*column < 0 && oc_field_is(field_bare(header[i]), aliases[a].name)) *column = (int)i;
        }
    }
}

/* Without a header: time,open,high,low,close[,volume], or with date and time apart. */
static void columns_by_place(layout *l, uint32_t count, bool apart)
{
    int first = apart ? 1 : 0;
    if (apart) l->column[COLUMN_DATE] = 0;
    for (int i = COLUMN_TIME; i <= COLUMN_VOLUME; i++) l->column[i] = first + i < (int)count ? first + i : -1;
}

static void layout_note(oc_import *im, const layout *l, bool header)
{
    char text[160];
    const int *c = l->column;
    if (c[COLUMN_DATE] >= 0) snprintf(text, sizeof text, "%d+%d", c[COLUMN_DATE] + 1, c[COLUMN_TIME] + 1);
    else snprintf(text, sizeof text, "%d", c[COLUMN_TIME] + 1);
    oc_import_note(
        im, "columns found %s: time %s, open %d, high %d, low %d, close %d, volume %d (0: none); --columns sets them",
        header ? "by the header" : "by their order, there is no header", text, c[COLUMN_OPEN] + 1, c[COLUMN_HIGH] + 1,
        c[COLUMN_LOW] + 1, c[COLUMN_CLOSE] + 1, c[COLUMN_VOLUME] + 1);
}

/* From the first line of the first input. *header: the line is one, not data. */
static oc_status layout_settle(bars *b, const oc_line *line, bool *header)
{
    const oc_import_options *o = b->im->options;
    layout *l = &b->layout;
    oc_field fields[COLUMNS_MAX];
    for (int i = 0; i < COLUMN_COUNT; i++) l->column[i] = -1;
    if (o->delimiter) {
        OC_TRY(delimiter_option(o->delimiter, &l->delimiter));
    } else {
        l->delimiter = delimiter_find(line->text);
        oc_import_note(b->im, "delimiter found: %s%s; --delimiter sets it", l->delimiter == '\t' ? "tab" : "character ",
                       l->delimiter == '\t' ? "" : (char[]){l->delimiter, 0});
    }
    uint32_t count = oc_fields_split(line->text, line->length, l->delimiter, fields, COLUMNS_MAX);
    if (count > COLUMNS_MAX) return OC_FAIL(OC_EDATA, "%s:1: more than %d fields", b->im->at.where, COLUMNS_MAX);
    uint32_t numbers = 0;
    for (uint32_t i = 0; i < count; i++) numbers += is_number(fields[i]);
    *header = numbers == 0;
    if (o->columns) {
        OC_TRY(columns_option(l, o->columns, fields, count));
    } else {
        if (*header) columns_by_names(l, fields, count);
        else columns_by_place(l, count, count >= 6 && !is_number(fields[0]) && !is_number(fields[1]));
        if (*header && l->column[COLUMN_TIME] < 0) {            /* a date alone is the time */
            l->column[COLUMN_TIME] = l->column[COLUMN_DATE];
            l->column[COLUMN_DATE] = -1;
        }
        for (int i = COLUMN_TIME; i <= COLUMN_CLOSE; i++) {
            if (l->column[i] < 0)
                return OC_FAIL(OC_EDATA,
                               "%s:1: time, open, high, low and close are not all found in \"%.120s\"; say where they "
                               "are with --columns, and --delimiter",
                               b->im->at.where, line->text);
        }
        layout_note(b->im, l, *header);
    }
    if (l->column[COLUMN_VOLUME] < 0) oc_import_note(b->im, "no volume column: volumes are 0");
    l->settled = true;
    return OC_OK;
}

/* -- one bar -- */

typedef struct bar_text { oc_field time, value[COLUMN_VOLUME + 1]; char joined[FORMAT_BYTES]; } bar_text;

static bool fields_take(bars *b, const oc_line *line, bar_text *t)
{
    oc_field fields[COLUMNS_MAX];
    const layout *l = &b->layout;
    uint32_t count = oc_fields_split(line->text, line->length, l->delimiter, fields, COLUMNS_MAX);
    if (count > COLUMNS_MAX) return oc_import_refuse(b->im, OC_REFUSED_FIELDS);
    for (int i = 0; i < COLUMN_COUNT; i++) {
        if (l->column[i] >= (int)count) return oc_import_refuse(b->im, OC_REFUSED_FIELDS);
    }
    for (int i = COLUMN_OPEN; i <= COLUMN_VOLUME; i++)
        t->value[i] = l->column[i] < 0 ? (oc_field){"0", 1} : fields[l->column[i]];
    t->time = fields[l->column[COLUMN_TIME]];
    if (l->column[COLUMN_DATE] >= 0) {
        oc_field date = fields[l->column[COLUMN_DATE]];
        if (date.length + t->time.length + 2 > sizeof t->joined) return oc_import_refuse(b->im, OC_REFUSED_TIME);
        int length = snprintf(t->joined, sizeof t->joined, "%.*s %.*s", (int)date.length, date.text,
                              (int)t->time.length, t->time.text);
        t->time = (oc_field){t->joined, (uint32_t)length};
    }
    return true;
}

static bool all_zeros(oc_field f)
{
    uint32_t zeros = 0;
    for (uint32_t i = 0; i < f.length; i++) zeros += f.text[i] == '0' || f.text[i] == '.';
    return f.length > 0 && zeros == f.length;
}

typedef struct bar_time { int64_t utc_ns, local_ns; bool is_utc; } bar_time;

/* The written time to UTC; the format is found on the first line that has one. */
static bool time_take(bars *b, oc_field field, bar_time *out)
{
    layout *l = &b->layout;
    oc_timestamp stamp;
    if (all_zeros(field)) return oc_import_refuse(b->im, OC_REFUSED_TIME_ZERO);
    if (!l->has_format) {
        const char *found = b->im->options->time_format ? b->im->options->time_format : oc_timestamp_guess(field);
        if (!found || strlen(found) >= sizeof l->format) return oc_import_refuse(b->im, OC_REFUSED_TIME);
        memcpy(l->format, found, strlen(found) + 1);
        l->has_format = true;
        if (!b->im->options->time_format)
            oc_import_note(b->im, "time format found: %s, from \"%.*s\"; --time-format sets it", found,
                           (int)field.length, field.text);
    }
    if (!oc_timestamp_parse(l->format, field, &stamp)) return oc_import_refuse(b->im, OC_REFUSED_TIME);
    int64_t after = b->im->stamp_is_end ? b->previous_end_ns : b->previous_start_ns;
    if (stamp.ns <= 0) return oc_import_refuse(b->im, OC_REFUSED_TIME_ZERO);
    if (stamp.ns > OC_IMPORT_TIME_MAX) return oc_import_refuse(b->im, OC_REFUSED_TIME);
    *out = (bar_time){stamp.ns, stamp.ns, stamp.is_utc};
    if (!stamp.is_utc && !oc_import_utc(b->im, stamp.ns, after, &out->utc_ns)) return false;
    return out->utc_ns > b->im->bar_ns || oc_import_refuse(b->im, OC_REFUSED_TIME_ZERO);
}

/* Where the bar's other end is. Bars of days end at the same local time N days on, whatever the clock did between. */
static int64_t other_end(oc_import *im, bar_time t)
{
    int64_t step = im->stamp_is_end ? -im->bar_ns : im->bar_ns, instants[2];
    if (!im->bar_is_days || t.is_utc || oc_zone_utc(&im->zone, t.local_ns + step, instants) == 0)
        return t.utc_ns + step;
    return instants[0];
}

static bool order_check(bars *b, int64_t start_ns, int64_t end_ns)
{
    oc_import *im = b->im;
    if (b->previous_end_ns == INT64_MIN) return true;
    if (end_ns == b->previous_end_ns) return oc_import_refuse(im, OC_REFUSED_DUPLICATE);
    if (end_ns < b->previous_end_ns) return oc_import_refuse(im, OC_REFUSED_TIME_BACK);
    if (start_ns < b->previous_end_ns && !im->bar_is_days) return oc_import_refuse(im, OC_REFUSED_OVERLAP);
    int64_t missing = (start_ns - b->previous_end_ns) / im->bar_ns;
    if (im->measuring || missing <= 0) return true;
    im->report->missing_bars += (uint64_t)missing;
    if (missing >= im->options->gap_bars) im->session_break = true;
    return true;
}

static oc_status line_take(bars *b, const oc_line *line)
{
    oc_import *im = b->im;
    bar_text text;
    bar_time time;
    int64_t v[COLUMN_VOLUME + 1] = {0};
    if (!fields_take(b, line, &text)) return OC_OK;
    for (int i = COLUMN_OPEN; i <= COLUMN_CLOSE; i++) {
        if (!oc_import_price(im, text.value[i], &v[i])) return OC_OK;
    }
    if (!oc_import_size(im, text.value[COLUMN_VOLUME], 0, &v[COLUMN_VOLUME])) return OC_OK;
    if (!time_take(b, text.time, &time)) return OC_OK;
    oc_import_measured(im);
    if (im->measuring) return OC_OK;
    int64_t other_ns = other_end(im, time);
    int64_t start_ns = im->stamp_is_end ? other_ns : time.utc_ns, end_ns = im->stamp_is_end ? time.utc_ns : other_ns;
    int64_t low = v[COLUMN_LOW], high = v[COLUMN_HIGH];
    if (v[COLUMN_OPEN] < low || v[COLUMN_OPEN] > high || v[COLUMN_CLOSE] < low || v[COLUMN_CLOSE] > high) {
        oc_import_refuse(im, OC_REFUSED_RANGE);
        return OC_OK;
    }
    if (!order_check(b, start_ns, end_ns)) return OC_OK;
    oc_event *e;
    OC_TRY(oc_import_event(im, OC_EVENT_BAR, &e));
    e->as.bar.open_ticks = v[COLUMN_OPEN];
    e->as.bar.high_ticks = high;
    e->as.bar.low_ticks = low;
    e->as.bar.close_ticks = v[COLUMN_CLOSE];
    e->as.bar.volume_lots = v[COLUMN_VOLUME];
    b->previous_start_ns = start_ns;
    b->previous_end_ns = end_ns;
    OC_TRY(oc_import_packet(im, end_ns, end_ns + im->options->arrival_delay_ns));
    return OC_OK;
}

/* A later input may begin with a header again. */
static bool is_header(const bars *b, const oc_line *line)
{
    oc_field fields[COLUMNS_MAX];
    uint32_t count = oc_fields_split(line->text, line->length, b->layout.delimiter, fields, COLUMNS_MAX);
    for (uint32_t i = 0; i < count && i < COLUMNS_MAX; i++) {
        if (is_number(fields[i])) return false;
    }
    return true;
}

static oc_status input_read(bars *b, oc_lines *t)
{
    oc_line line;
    bool have, header = false, first = true;
    for (;;) {
        OC_TRY(oc_import_line(b->im, t, &line, &have));
        if (!have) return OC_OK;
        if (first && !b->layout.settled) OC_TRY(layout_settle(b, &line, &header));
        else if (first) header = is_header(b, &line);
        if (!first || !header) OC_TRY(line_take(b, &line));
        else if (!b->im->measuring) b->im->report->lines--;     /* a header is no data line */
        first = false;
    }
}

oc_status oc_import_bars(oc_import *im)
{
    bars b = {.im = im, .previous_start_ns = INT64_MIN, .previous_end_ns = INT64_MIN};
    if (im->options->time_format && !oc_timestamp_format_known(im->options->time_format))
        return OC_FAIL(
            OC_EUSAGE,
            "--time-format is \"%s\"; it takes %%Y %%m %%d %%H %%M %%S %%z and literals, or epoch_s, epoch_ms, "
            "epoch_us, epoch_ns",
            im->options->time_format);
    if (!im->zone_open) {
        OC_TRY(oc_zone_open(&im->zone, "UTC"));
        oc_import_note(im, "assumed: times without an offset are UTC%s; --timezone says otherwise",
                       strcmp(im->options->format, "metatrader") == 0 ? " (MetaTrader writes its broker's time)" : "");
    }
    for (size_t i = 0; i < im->input_count; i++) {
        oc_lines *t = NULL;
        OC_TRY(oc_import_text_open(im, i, LINE_MAX_BYTES, &t));
        oc_status status = input_read(&b, t);
        oc_import_text_done(im, t);
        OC_TRY(status);
    }
    return OC_OK;
}
