/* import_binance.c - captures of Binance's combined streams: a line is the receive time in ns, a blank, and JSON of a
 * trade, a bookTicker, a depthUpdate, or a REST depth snapshot.
 *
 * Sequence rules [BinanceDepth]: updates before the snapshot wait; the first one applied has U <= lastUpdateId + 1 <= u
 * (futures: U <= lastUpdateId <= u); then U is the last u + 1 (futures: pu is the last u). Whatever breaks them is a
 * gap: counted, flagged, and the book is stale until the next snapshot. Trades are numbered without holes; a hole is a
 * gap. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "market/import_internal.h"

enum { LINE_MAX_BYTES = 8 << 20, WAITING_MAX = 4096 };

typedef struct state {
    oc_import *im;
    int64_t receive_ns;                        /* of this line */
    int64_t trade_id, quote_id;                /* last seen; 0: none */
    bool synced, joining;                      /* has a snapshot; the next update is the first after it */
    int64_t update_id;                         /* u of the last update, or lastUpdateId */
    json_t *waiting[WAITING_MAX];              /* updates before the first snapshot, oldest first */
    size_t waiting_count;
    uint64_t left_out, gaps, old_snapshots;
} state;

static bool text_get(const json_t *object, const char *key, oc_field *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) return false;
    *out = (oc_field){json_string_value(value), (uint32_t)json_string_length(value)};
    return true;
}

static bool id_get(const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) <= 0) return false;
    *out = json_integer_value(value);
    return true;
}

/* Exchange time in ns: transaction time where there is one, else event time, else 0 (spot bookTicker has none). */
static int64_t exchange_ns(const json_t *data)
{
    int64_t ms;
    if (!id_get(data, "T", &ms) && !id_get(data, "E", &ms)) return 0;
    return ms < INT64_MAX / 1000000 ? ms * 1000000 : 0;
}

static bool symbol_check(state *s, const json_t *data)
{
    const oc_import_options *o = s->im->options;
    oc_field symbol;
    if (!text_get(data, "s", &symbol)) return oc_import_refuse(s->im, OC_REFUSED_JSON);
    return oc_field_is(symbol, o->source_symbol ? o->source_symbol : o->symbol) ||
           oc_import_refuse(s->im, OC_REFUSED_SYMBOL);
}

/* -- trade, bookTicker -- */

static oc_status trade_take(state *s, const json_t *data)
{
    oc_import *im = s->im;
    oc_field price, size;
    int64_t id, ticks, lots;
    const json_t *maker = json_object_get(data, "m");
    if (!text_get(data, "p", &price) || !text_get(data, "q", &size) || !id_get(data, "t", &id) ||
        !json_is_boolean(maker)) {
        oc_import_refuse(im, OC_REFUSED_JSON);
        return OC_OK;
    }
    if (!oc_import_price(im, price, &ticks) || !oc_import_size(im, size, 1, &lots)) return OC_OK;
    oc_import_measured(im);
    if (im->measuring) return OC_OK;
    if (s->trade_id && id <= s->trade_id) {
        oc_import_refuse(im, id == s->trade_id ? OC_REFUSED_DUPLICATE : OC_REFUSED_TIME_BACK);
        return OC_OK;
    }
    if (s->trade_id && id != s->trade_id + 1) {
        im->gap_before = true;
        s->gaps++;
    }
    s->trade_id = id;
    oc_event *e;
    OC_TRY(oc_import_event(im, OC_EVENT_TRADE, &e));
    e->side = json_is_true(maker) ? OC_SIDE_SELL : OC_SIDE_BUY;            /* m: the buyer was the resting side */
    e->as.price.ticks = ticks;
    e->as.price.lots = lots;
    OC_TRY(oc_import_packet(im, exchange_ns(data), s->receive_ns));
    return OC_OK;
}

static oc_status quote_take(state *s, const json_t *data)
{
    oc_import *im = s->im;
    oc_field text[4];
    int64_t id, bid, bid_lots, ask, ask_lots;
    static const char *const keys[] = {"b", "B", "a", "A"};
    bool good = id_get(data, "u", &id);
    for (int i = 0; i < 4; i++) good = good && text_get(data, keys[i], &text[i]);
    if (!good) {
        oc_import_refuse(im, OC_REFUSED_JSON);
        return OC_OK;
    }
    if (!oc_import_price(im, text[0], &bid) || !oc_import_size(im, text[1], 1, &bid_lots)) return OC_OK;
    if (!oc_import_price(im, text[2], &ask) || !oc_import_size(im, text[3], 1, &ask_lots)) return OC_OK;
    oc_import_measured(im);
    if (im->measuring) return OC_OK;
    if (bid >= ask || id <= s->quote_id) {
        oc_import_refuse(im, bid >= ask          ? OC_REFUSED_CROSSED
                             : id == s->quote_id ? OC_REFUSED_DUPLICATE
                                                 : OC_REFUSED_TIME_BACK);
        return OC_OK;
    }
    s->quote_id = id;
    oc_event *e;
    OC_TRY(oc_import_event(im, OC_EVENT_QUOTE, &e));
    e->as.quote.bid_ticks = bid;
    e->as.quote.bid_lots = bid_lots;
    e->as.quote.ask_ticks = ask;
    e->as.quote.ask_lots = ask_lots;
    OC_TRY(oc_import_packet(im, exchange_ns(data), s->receive_ns));
    return OC_OK;
}

/* -- depth -- */

/* [["61837.63","0.5"], …] as events; *good false: refused. A snapshot has no level of size 0. */
static oc_status levels_take(state *s, const json_t *levels, oc_event_kind kind, oc_side side, bool *good)
{
    oc_import *im = s->im;
    *good = json_is_array(levels) || oc_import_refuse(im, OC_REFUSED_JSON);
    for (size_t i = 0; *good && i < json_array_size(levels); i++) {
        const json_t *level = json_array_get(levels, i), *price = json_array_get(level, 0),
                     *size = json_array_get(level, 1);
        int64_t ticks, lots;
        oc_event *e;
        *good = (json_is_string(price) && json_is_string(size)) || oc_import_refuse(im, OC_REFUSED_JSON);
        if (!*good) break;
        oc_field p = {json_string_value(price), (uint32_t)json_string_length(price)};
        oc_field q = {json_string_value(size), (uint32_t)json_string_length(size)};
        *good = oc_import_price(im, p, &ticks) && oc_import_size(im, q, kind == OC_EVENT_SNAPSHOT, &lots);
        if (!*good || im->measuring) continue;
        OC_TRY(oc_import_event(im, kind, &e));
        e->side = (uint8_t)side;
        e->as.price.ticks = ticks;
        e->as.price.lots = lots;
    }
    return OC_OK;
}

static oc_status sides_take(state *s, const json_t *bids, const json_t *asks, oc_event_kind kind, bool *good)
{
    OC_TRY(levels_take(s, bids, kind, OC_SIDE_BUY, good));
    if (*good) OC_TRY(levels_take(s, asks, kind, OC_SIDE_SELL, good));
    if (*good) oc_import_measured(s->im);
    return OC_OK;
}

/* Whether this update follows what the book holds. *old: it is contained already. */
static bool update_follows(const state *s, int64_t first, int64_t last, int64_t before, bool *old)
{
    bool futures = before != 0;
    *old = futures ? last < s->update_id : last <= s->update_id;
    if (s->joining && first <= s->update_id + !futures && last + futures > s->update_id) return true;
    return futures ? before == s->update_id : first == s->update_id + 1;
}

/* An update that is in order, or opens a gap. */
static oc_status update_apply(state *s, const json_t *data)
{
    oc_import *im = s->im;
    int64_t first, last, before = 0;
    bool old, good;
    if (!id_get(data, "U", &first) || !id_get(data, "u", &last) ||
        (json_object_get(data, "pu") && !id_get(data, "pu", &before)) || first > last) {
        oc_import_refuse(im, OC_REFUSED_JSON);
        return OC_OK;
    }
    bool follows = update_follows(s, first, last, before, &old);
    if (old) {
        if (!s->joining) oc_import_refuse(im, OC_REFUSED_DUPLICATE);
        return OC_OK;
    }
    OC_TRY(sides_take(s, json_object_get(data, "b"), json_object_get(data, "a"), OC_EVENT_LEVEL, &good));
    if (!good) return OC_OK;                   /* the next update will not follow: a gap */
    if (!follows) {
        im->gap_before = true;
        s->gaps++;
    }
    s->joining = false;
    s->update_id = last;
    /* A refused line of another stream is no gap of the book: its flag waits for the next packet that is no update. */
    bool elsewhere = im->gap_before && follows;
    if (elsewhere) im->gap_before = false;
    OC_TRY(oc_import_packet(im, exchange_ns(data), s->receive_ns));
    im->gap_before |= elsewhere;
    return OC_OK;
}

static oc_status depth_take(state *s, json_t *data)
{
    bool good;
    if (s->im->measuring)
        return sides_take(s, json_object_get(data, "b"), json_object_get(data, "a"), OC_EVENT_LEVEL, &good);
    if (s->synced) return update_apply(s, data);
    if (s->waiting_count == WAITING_MAX) {     /* the oldest one can no longer be needed by a timely snapshot */
        json_decref(s->waiting[0]);
        memmove(s->waiting, s->waiting + 1, (WAITING_MAX - 1) * sizeof *s->waiting);
        s->waiting_count--;
        s->left_out++;
    }
    s->waiting[s->waiting_count++] = json_incref(data);
    return OC_OK;
}

/* Updates that came before the snapshot and go beyond it are known only now: they carry the snapshot's receive time. */
static oc_status waiting_apply(state *s)
{
    oc_status status = OC_OK;
    for (size_t i = 0; i < s->waiting_count; i++) {
        int64_t last = 0;
        bool beyond = id_get(s->waiting[i], "u", &last) && last > s->update_id;
        if (!beyond) s->left_out++;
        else if (status == OC_OK) status = update_apply(s, s->waiting[i]);
        json_decref(s->waiting[i]);
    }
    s->waiting_count = 0;
    return status;
}

static oc_status snapshot_take(state *s, const json_t *root)
{
    oc_import *im = s->im;
    int64_t id;
    bool good;
    if (!id_get(root, "lastUpdateId", &id)) {
        oc_import_refuse(im, OC_REFUSED_JSON);
        return OC_OK;
    }
    if (s->synced && id < s->update_id && !im->book->stale) {              /* older than what the updates made */
        s->old_snapshots++;
        return OC_OK;
    }
    OC_TRY(sides_take(s, json_object_get(root, "bids"), json_object_get(root, "asks"), OC_EVENT_SNAPSHOT, &good));
    if (!good || im->measuring) return OC_OK;
    if (im->packet_count == 0) {
        oc_import_refuse(im, OC_REFUSED_LEVELS);
        return OC_OK;
    }
    s->synced = s->joining = true;
    s->update_id = id;
    OC_TRY(oc_import_packet(im, exchange_ns(root), s->receive_ns));
    OC_TRY(waiting_apply(s));
    return OC_OK;
}

/* -- a line -- */

/* The JSON's kind: "e" where it has one; a spot bookTicker is known by its stream's name alone. */
static oc_status message_take(state *s, json_t *root)
{
    oc_field kind, stream = {"", 0};
    json_t *data = json_object_get(root, "data");
    if (json_object_get(root, "lastUpdateId")) return snapshot_take(s, root);
    text_get(root, "stream", &stream);
    if (!data) data = root;
    if (!json_is_object(data)) {
        oc_import_refuse(s->im, OC_REFUSED_JSON);
        return OC_OK;
    }
    if (!symbol_check(s, data)) return OC_OK;
    if (!text_get(data, "e", &kind)) {
        const char *at = memchr(stream.text, '@', stream.length);
        kind = at ? (oc_field){at + 1, stream.length - (uint32_t)(at + 1 - stream.text)} : stream;
    }
    if (oc_field_is(kind, "trade")) return trade_take(s, data);
    if (oc_field_is(kind, "bookTicker")) return quote_take(s, data);
    if (oc_field_is(kind, "depthUpdate")) return depth_take(s, data);
    oc_import_refuse(s->im, OC_REFUSED_KIND);
    return OC_OK;
}

static oc_status line_take(state *s, const oc_line *line)
{
    oc_import *im = s->im;
    json_t *root = NULL;
    const char *blank = memchr(line->text, ' ', line->length);
    if (!blank) {
        oc_import_refuse(im, OC_REFUSED_FIELDS);
        return OC_OK;
    }
    if (!oc_field_int((oc_field){line->text, (uint32_t)(blank - line->text)}, &s->receive_ns)) {
        oc_import_refuse(im, OC_REFUSED_TIME);
        return OC_OK;
    }
    if (s->receive_ns <= 0 || s->receive_ns < im->previous_ns) {
        oc_import_refuse(im, s->receive_ns <= 0 ? OC_REFUSED_TIME_ZERO : OC_REFUSED_TIME_BACK);
        return OC_OK;
    }
    size_t bytes = line->length - (size_t)(blank + 1 - line->text);
    if (oc_json_parse(blank + 1, bytes, im->at.where, &root) != OC_OK || !json_is_object(root)) {
        json_decref(root);
        oc_import_refuse(im, OC_REFUSED_JSON);
        return OC_OK;
    }
    oc_status status = message_take(s, root);
    json_decref(root);
    return status;
}

static oc_status inputs_read(state *s)
{
    oc_import *im = s->im;
    for (size_t i = 0; i < im->input_count; i++) {
        oc_lines *t = NULL;
        oc_line line;
        bool have;
        OC_TRY(oc_import_text_open(im, i, LINE_MAX_BYTES, &t));
        oc_status status = oc_import_line(im, t, &line, &have);
        while (status == OC_OK && have) {
            status = line_take(s, &line);
            if (status == OC_OK) status = oc_import_line(im, t, &line, &have);
        }
        oc_import_text_done(im, t);
        OC_TRY(status);
    }
    return OC_OK;
}

oc_status oc_import_binance(oc_import *im)
{
    state *s = NULL;
    OC_TRY(oc_memory_new(&s, sizeof *s, "Binance import"));
    s->im = im;
    oc_status status = inputs_read(s);
    if (!s->synced && s->waiting_count)
        oc_import_note(im, "no depth snapshot: %llu depth updates are left out; give the file with the snapshot first",
                       (unsigned long long)(s->waiting_count + s->left_out));
    else if (s->left_out)
        oc_import_note(im, "%llu depth updates from before the snapshot are contained in it and left out",
                       (unsigned long long)s->left_out);
    if (s->old_snapshots)
        oc_import_note(im, "%llu snapshots older than the book are left out", (unsigned long long)s->old_snapshots);
    oc_import_note(im, "sequence gaps in depth and trades: %llu", (unsigned long long)s->gaps);
    for (size_t i = 0; i < s->waiting_count; i++) json_decref(s->waiting[i]);
    oc_memory_free(s);
    return status;
}
