/* import_lobster.c - LOBSTER message and orderbook files, line by line together [LOBSTER]. A message line is a packet:
 * a TRADE where something was executed, then the levels that differ from the line before. The first line, and a line
 * after a refused one, is the whole book as SNAPSHOT events. The file's prices are integers of 0.0001 USD, its times
 * seconds after midnight of the exchange; date from the file name or --date. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "market/event_format.h"
#include "market/import_internal.h"
#include "market/timestamp.h"

enum { LINE_MAX_BYTES = 65536, LEVELS_MAX = 200, MESSAGE_FIELDS = 6, PATH_BYTES = 4096 };

enum { NEW_ORDER = 1, CANCEL, DELETE, EXECUTE, EXECUTE_HIDDEN, CROSS_TRADE, HALT };

/* LOBSTER fills absent levels with these prices and size 0. */
#define DUMMY_PRICE INT64_C(9999999999)

typedef struct side { oc_book_level level[LEVELS_MAX]; uint32_t count; } side;

typedef struct state {
    oc_import *im;
    int64_t midnight_local_ns;                 /* of the file's date, as if it were UTC */
    uint32_t levels;                           /* of this file; 0: not known yet */
    bool whole_next;                           /* the next packet is a snapshot */
    side old[2], now[2];                       /* bid, ask */
    oc_field fields[4 * LEVELS_MAX];
    char last_message[128];
} state;

typedef struct message {
    int64_t time_ns, type, id, size, price, direction;
} message;

/* -- numbers: the file's units are integers, so text goes through a decimal of 0.0001 -- */

static bool price_units(oc_import *im, int64_t units, int64_t *ticks)
{
    if (units <= 0) return oc_import_refuse(im, OC_REFUSED_PRICE);
    if (!oc_decimal_divide((oc_decimal){units, -4, 0}, im->instrument.tick, ticks))
        return oc_import_refuse(im, OC_REFUSED_TICK);
    return *ticks <= OC_EVENT_MAGNITUDE_MAX || oc_import_refuse(im, OC_REFUSED_TICK);
}

static bool size_units(oc_import *im, int64_t units, int64_t *lots)
{
    if (units <= 0) return oc_import_refuse(im, OC_REFUSED_SIZE);
    if (!oc_decimal_divide((oc_decimal){units, 0, 0}, im->instrument.lot, lots))
        return oc_import_refuse(im, OC_REFUSED_LOT);
    return *lots <= OC_EVENT_MAGNITUDE_MAX || oc_import_refuse(im, OC_REFUSED_LOT);
}

/* "34200.015105074", at most 9 digits behind the point. */
static bool seconds_read(oc_field f, int64_t *ns)
{
    static const oc_decimal nanosecond = {1, -9, 0};
    return oc_decimal_count(f.text, f.length, nanosecond, ns);
}

static bool message_read(state *s, const oc_line *line, message *m)
{
    oc_import *im = s->im;
    oc_field f[MESSAGE_FIELDS + 1];            /* some files carry a seventh, empty or a broker's name */
    uint32_t count = oc_fields_split(line->text, line->length, ',', f, MESSAGE_FIELDS + 1);
    if (count < MESSAGE_FIELDS || count > MESSAGE_FIELDS + 1) return oc_import_refuse(im, OC_REFUSED_FIELDS);
    int64_t seconds_ns;
    if (!seconds_read(f[0], &seconds_ns)) return oc_import_refuse(im, OC_REFUSED_TIME);
    if (seconds_ns <= 0) return oc_import_refuse(im, OC_REFUSED_TIME_ZERO);
    if (seconds_ns >= 86400 * OC_SECOND_NS) return oc_import_refuse(im, OC_REFUSED_TIME);
    int64_t *const values[] = {&m->type, &m->id, &m->size, &m->price, &m->direction};
    for (int i = 0; i < 5; i++) {
        if (!oc_field_int(f[i + 1], values[i])) return oc_import_refuse(im, OC_REFUSED_NUMBER);
    }
    if (m->type < NEW_ORDER || m->type > HALT) return oc_import_refuse(im, OC_REFUSED_KIND);
    if (m->type != HALT && m->size <= 0) return oc_import_refuse(im, OC_REFUSED_SIZE);
    if (m->type <= EXECUTE_HIDDEN && m->direction != 1 && m->direction != -1)
        return oc_import_refuse(im, OC_REFUSED_NUMBER);
    if (!oc_import_utc(im, s->midnight_local_ns + seconds_ns, im->previous_ns, &m->time_ns)) return false;
    return m->time_ns + im->options->arrival_delay_ns >= im->previous_ns || oc_import_refuse(im, OC_REFUSED_TIME_BACK);
}

/* -- the book line -- */

static bool level_read(state *s, const oc_field *pair, side *out, int sign)
{
    oc_import *im = s->im;
    int64_t price, size;
    oc_book_level level;
    if (!oc_field_int(pair[0], &price) || !oc_field_int(pair[1], &size)) return oc_import_refuse(im, OC_REFUSED_NUMBER);
    if (size == 0 && (price == DUMMY_PRICE || price == -DUMMY_PRICE)) return true;
    if (!price_units(im, price, &level.ticks) || !size_units(im, size, &level.lots)) return false;
    if (out->count && sign * level.ticks >= sign * out->level[out->count - 1].ticks)
        return oc_import_refuse(im, OC_REFUSED_LEVELS);
    out->level[out->count++] = level;
    return true;
}

static bool book_read(state *s, const oc_line *line)
{
    oc_import *im = s->im;
    uint32_t count = oc_fields_split(line->text, line->length, ',', s->fields, 4 * LEVELS_MAX);
    if (count == 0 || count % 4 != 0 || count > 4 * LEVELS_MAX) return oc_import_refuse(im, OC_REFUSED_FIELDS);
    if (s->levels && count != 4 * s->levels) return oc_import_refuse(im, OC_REFUSED_FIELDS);
    s->now[0].count = s->now[1].count = 0;
    for (uint32_t i = 0; i < count / 4; i++) {
        if (!level_read(s, &s->fields[4 * i], &s->now[1], -1) || !level_read(s, &s->fields[4 * i + 2], &s->now[0], 1))
            return false;
    }
    if (s->now[0].count && s->now[1].count && s->now[0].level[0].ticks >= s->now[1].level[0].ticks)
        return oc_import_refuse(im, OC_REFUSED_CROSSED);
    s->levels = count / 4;
    return true;
}

static oc_status level_event(oc_import *im, oc_event_kind kind, int which, uint32_t index, int64_t ticks, int64_t lots)
{
    oc_event *e;
    OC_TRY(oc_import_event(im, kind, &e));
    e->side = which == 0 ? OC_SIDE_BUY : OC_SIDE_SELL;
    e->level = index < 255 ? (uint8_t)index : 255;
    e->as.price.ticks = ticks;
    e->as.price.lots = lots;
    return OC_OK;
}

/* Both sides sorted best first: walked together, what is only in the old one is gone, what differs is set. A level that
 * fell out of view is gone too: the book then holds what the file shows. */
static oc_status side_difference(oc_import *im, int which, const side *old, const side *now)
{
    int64_t sign = which == 0 ? 1 : -1;
    uint32_t o = 0, n = 0;
    while (o < old->count || n < now->count) {
        int64_t a = o < old->count ? sign * old->level[o].ticks : INT64_MIN;
        int64_t b = n < now->count ? sign * now->level[n].ticks : INT64_MIN;
        if (a > b) {
            OC_TRY(level_event(im, OC_EVENT_LEVEL, which, o, old->level[o].ticks, 0));
            o++;
        } else {
            if (a < b || old->level[o].lots != now->level[n].lots)
                OC_TRY(level_event(im, OC_EVENT_LEVEL, which, n, now->level[n].ticks, now->level[n].lots));
            o += a == b;
            n++;
        }
    }
    return OC_OK;
}

static oc_status side_whole(oc_import *im, int which, const side *now)
{
    for (uint32_t i = 0; i < now->count; i++)
        OC_TRY(level_event(im, OC_EVENT_SNAPSHOT, which, i, now->level[i].ticks, now->level[i].lots));
    return OC_OK;
}

/* -- a packet -- */

static oc_status trade_event(oc_import *im, const message *m, bool *good)
{
    oc_event *e;
    int64_t ticks, lots;
    *good = price_units(im, m->price, &ticks) && size_units(im, m->size, &lots);
    if (!*good) return OC_OK;
    OC_TRY(oc_import_event(im, OC_EVENT_TRADE, &e));
    if (m->type != CROSS_TRADE)
        e->side = m->direction == 1 ? OC_SIDE_SELL : OC_SIDE_BUY; /* the resting order's is m's */
    e->order_id = m->id > 0 ? (uint64_t)m->id : 0;
    e->as.price.ticks = ticks;
    e->as.price.lots = lots;
    return OC_OK;
}

/* -1 halted, 0 quotes resume, 1 trading resumes: what follows a resumption is a new session. */
static oc_status halt_event(oc_import *im, const message *m)
{
    oc_event *e;
    OC_TRY(oc_import_event(im, OC_EVENT_STATUS, &e));
    e->as.status.code = m->price;
    im->session_break = m->price == 1;
    return OC_OK;
}

static oc_status packet_make(state *s, const message *m)
{
    oc_import *im = s->im;
    bool good = true, whole = s->whole_next || im->gap_before;
    if (m->type == EXECUTE || m->type == EXECUTE_HIDDEN || m->type == CROSS_TRADE) OC_TRY(trade_event(im, m, &good));
    if (!good) return OC_OK;
    if (m->type == HALT) OC_TRY(halt_event(im, m));
    for (int which = 0; which < 2; which++) {
        if (whole) OC_TRY(side_whole(im, which, &s->now[which]));
        else OC_TRY(side_difference(im, which, &s->old[which], &s->now[which]));
    }
    if (im->packet_count == 0) {               /* deeper than shown: the best level again, so that a line is a packet */
        int which = s->now[0].count ? 0 : 1;
        if (s->now[which].count)
            OC_TRY(
                level_event(im, OC_EVENT_LEVEL, which, 0, s->now[which].level[0].ticks, s->now[which].level[0].lots));
    }
    OC_TRY(oc_import_packet(im, m->time_ns, m->time_ns + im->options->arrival_delay_ns));
    memcpy(s->old, s->now, sizeof s->old);
    s->whole_next = false;
    return OC_OK;
}

static oc_status pair_take(state *s, const oc_line *line, const oc_line *book)
{
    message m;
    char copy[sizeof s->last_message];
    snprintf(copy, sizeof copy, "%s", line->text);
    bool same = strcmp(copy, s->last_message) == 0;
    if (!message_read(s, line, &m) || !book_read(s, book)) return OC_OK;
    if (same && m.type == NEW_ORDER) {         /* an order id is placed once */
        oc_import_refuse(s->im, OC_REFUSED_DUPLICATE);
        return OC_OK;
    }
    memcpy(s->last_message, copy, sizeof copy);
    oc_import_measured(s->im);
    OC_TRY(packet_make(s, &m));
    return OC_OK;
}

/* -- files -- */

static oc_status pair_read(state *s, oc_lines *messages, oc_lines *books, const char *message_name,
                           const char *book_name)
{
    oc_import *im = s->im;
    oc_line line, book;
    bool have, have_book;
    for (;;) {
        OC_TRY(oc_lines_next(messages, &line, &have));
        OC_TRY(oc_lines_next(books, &book, &have_book));
        if (have != have_book)
            return OC_FAIL(OC_EDATA, "%s ends at line %llu, before %s does: they are no pair, or one is cut",
                           have ? book_name : message_name, (unsigned long long)im->at.line,
                           have ? message_name : book_name);
        if (!have) return OC_OK;
        im->at.line = line.number;
        im->report->lines += !im->measuring;
        im->line_tick = im->line_lot = INT32_MAX;
        if (im->progress && (line.number & 1023) == 0)
            oc_progress_update(im->progress, im->consumed + oc_lines_consumed(messages) + oc_lines_consumed(books));
        if (line.state == OC_LINE_LONG || book.state == OC_LINE_LONG) oc_import_refuse(im, OC_REFUSED_LONG);
        else if (line.state != OC_LINE_GOOD || book.state != OC_LINE_GOOD) oc_import_refuse(im, OC_REFUSED_BYTES);
        else OC_TRY(pair_take(s, &line, &book));
    }
}

/* "..._2012-06-21_34200000_..." or --date. */
static oc_status date_find(state *s, const char *name)
{
    const oc_import_options *o = s->im->options;
    oc_timestamp stamp;
    if (o->date) {
        if (!oc_timestamp_parse("%Y-%m-%d", (oc_field){o->date, (uint32_t)strnlen(o->date, 64)}, &stamp))
            return OC_FAIL(OC_EUSAGE, "--date is \"%s\", not a date such as 2012-06-21", o->date);
        s->midnight_local_ns = stamp.ns;
        return OC_OK;
    }
    const char *slash = strrchr(name, '/');
    for (const char *c = slash ? slash : name; (c = strchr(c, '_')); c++) {
        if (strlen(c + 1) >= 10 && oc_timestamp_parse("%Y-%m-%d", (oc_field){c + 1, 10}, &stamp)) {
            s->midnight_local_ns = stamp.ns;
            return OC_OK;
        }
    }
    return OC_FAIL(OC_EUSAGE, "%s: no date in the file's name; give --date YYYY-MM-DD", name);
}

/* The partner's name: "_message_" becomes "_orderbook_". */
static oc_status partner_name(const char *name, char *out, size_t cap)
{
    const char *slash = strrchr(name, '/'), *at = strstr(slash ? slash : name, "_message_");
    if (!at)
        return OC_FAIL(OC_EUSAGE,
                       "%s: give message and orderbook files in pairs, or names with _message_ whose partner has "
                       "_orderbook_ instead",
                       name);
    int length = snprintf(out, cap, "%.*s_orderbook_%s", (int)(at - name), name, at + strlen("_message_"));
    if (length < 0 || (size_t)length >= cap)
        return OC_FAIL(OC_ELIMIT, "%.80s…: a path of over %zu bytes", name, cap - 1);
    return OC_OK;
}

static bool is_book(const oc_import_input *input)
{
    const char *slash = strrchr(input->name, '/');
    return strstr(slash ? slash : input->name, "orderbook") != NULL;
}

/* Reads the pair that begins at input *i and moves *i behind it. */
static oc_status pair_import(state *s, size_t *i)
{
    oc_import *im = s->im;
    char name[PATH_BYTES];
    oc_lines *messages = NULL, *books = NULL;
    oc_import_input partner = {name, NULL, 0};
    oc_status status;
    size_t first = *i;
    if (is_book(&im->inputs[first]))
        return OC_FAIL(OC_EUSAGE, "%s: an orderbook file stands before its message file", im->inputs[first].name);
    if (first + 1 < im->input_count && is_book(&im->inputs[first + 1])) partner = im->inputs[++*i];
    else OC_TRY(partner_name(im->inputs[first].name, name, sizeof name));
    ++*i;
    OC_TRY(date_find(s, im->inputs[first].name));
    OC_TRY_GOTO(status, done, oc_import_text_open(im, first, LINE_MAX_BYTES, &messages));
    OC_TRY_GOTO(status, done, oc_lines_open(&books, partner.name, partner.data, partner.bytes, LINE_MAX_BYTES));
    if (partner.name == name) oc_import_expect(im, oc_lines_bytes(books));
    s->levels = 0;
    s->whole_next = true;
    im->session_break = true;
    OC_TRY_GOTO(status, done, pair_read(s, messages, books, im->inputs[first].name, partner.name));
done:
    oc_import_text_done(im, messages);
    oc_import_text_done(im, books);
    return status;
}

oc_status oc_import_lobster(oc_import *im)
{
    state *s = NULL;
    if (!im->zone_open) {
        OC_TRY(oc_zone_open(&im->zone, "America/New_York"));
        oc_import_note(im, "assumed: the times are New York's; --timezone says otherwise");
    }
    OC_TRY(oc_memory_new(&s, sizeof *s, "LOBSTER book"));
    s->im = im;
    oc_status status = OC_OK;
    for (size_t i = 0; i < im->input_count && status == OC_OK;) status = pair_import(s, &i);
    oc_memory_free(s);
    return status;
}
