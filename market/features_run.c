/* features_run.c - one event at a time: stream state, packets, rows, run lengths, save and load.
 *
 * Packet level: trades add to the interval, book events change the book; the last event of a packet closes it: best
 * quotes, order-flow imbalance [Cont14], extremes of the mid. Row level: the interval becomes a ring row, nodes
 * advance, columns evaluate. A start right after a row of an instrument, with its book handed over, sees the same.
 *
 * A gap restarts the windows of its instrument and is a known beginning. A session break only restarts run_length:
 * price windows go on across the night, as on any chart. A crossed book makes a row whose columns are all masked, run
 * length 0; the windows take its mid. A book without one side, or a price that is not in (0, 2^40) ticks, makes no row
 * and restarts run_length. */
#include "market/features.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include "base/mathf.h"
#include "base/memory.h"
#include "market/features_internal.h"

static inline int64_t clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

oc_stream *oc_features_stream(const oc_features *e, size_t instrument)
{
    return (oc_stream *)(void *)(e->state + instrument * e->stream_bytes);
}

static inline oc_ring_row *stream_ring(const oc_stream *s)
{
    return (oc_ring_row *)(uintptr_t)((const unsigned char *)s + OC_STREAM_BYTES);
}

static oc_book *own_book(const oc_features *e, oc_stream *s)
{
    return e->book_offset ? (oc_book *)(void *)((unsigned char *)s + e->book_offset) : NULL;
}

static const oc_book *stream_book(const oc_features *e, size_t instrument)
{
    const oc_book *shared = e->shared[instrument];
    return shared ? shared : own_book(e, oc_features_stream(e, instrument));
}

static void windows_restart(const oc_features *e, oc_stream *s)
{
    memset(stream_ring(s), 0, e->windows_bytes);
    s->rows = 0;
    s->other_price = 0;
    s->other_run = s->other_age = 0;
}

static void interval_restart(oc_stream *s)
{
    s->value = 0;
    s->ofi = s->signed_lots = s->traded_lots = s->trades = 0;
    s->packets = 0;
    s->opened = 0;
}

void oc_features_reset_one(oc_features *e, size_t instrument)
{
    oc_stream *s = oc_features_stream(e, instrument);
    oc_book *book = own_book(e, s);
    assert(instrument < e->instruments);
    memset(s, 0, e->stream_bytes);
    e->shared[instrument] = NULL;
    if (book) oc_book_init(book);
}

void oc_features_reset(oc_features *e)
{
    for (size_t i = 0; i < e->instruments; i++) oc_features_reset_one(e, i);
}

void oc_features_begin(oc_features *e)
{
    for (size_t i = 0; i < e->instruments; i++) oc_features_stream(e, i)->known_start = 1;
}

/* ---- the packet ------------------------------------------------------------------------------------------------ */

static void trade_add(oc_stream *s, int64_t ticks, int64_t lots, int side)
{
    if (!(ticks > 0 && ticks < OC_PRICE_BOUND) || !(lots > 0)) return;
    lots = clamp(lots, 0, OC_LOTS_BOUND - s->traded_lots);
    s->traded_lots += lots;
    s->signed_lots += side == OC_SIDE_BUY ? lots : side == OC_SIDE_SELL ? -lots : 0;
    s->value += (oc_i128)(6 * ticks) * lots;
    s->trades += s->trades < OC_LOTS_BOUND;
    s->trade_price = 2 * ticks;
}

/* Order-flow imbalance of one change of the best quotes: what was added to the bid and taken off the ask, minus the
 * reverse [Cont14]. */
static int64_t order_flow(const oc_best *was, const oc_best *is)
{
    int64_t flow = 0;
    if (is->bid >= was->bid) flow += is->bid_lots;
    if (is->bid <= was->bid) flow -= was->bid_lots;
    if (is->ask <= was->ask) flow -= is->ask_lots;
    if (is->ask >= was->ask) flow += was->ask_lots;
    return flow;
}

static inline bool price_fine(int64_t ticks)
{
    return ticks > 0 && ticks < OC_PRICE_BOUND;
}

static bool best_read(const oc_book *book, oc_best *best)
{
    if (!book || book->bid.count == 0 || book->ask.count == 0) return false;
    best->bid = book->bid.level[0].ticks;
    best->ask = book->ask.level[0].ticks;
    best->bid_lots = clamp(book->bid.level[0].lots, 0, OC_LOTS_BOUND);
    best->ask_lots = clamp(book->ask.level[0].lots, 0, OC_LOTS_BOUND);
    return price_fine(best->bid) && price_fine(best->ask);
}

static void price_seen(oc_stream *s, int64_t price)
{
    if (!s->opened) s->open = s->high = s->low = price;
    s->opened = 1;
    s->high = price > s->high ? price : s->high;
    s->low = price < s->low ? price : s->low;
    s->price = price;
    s->updates++;
}

/* After the last event of a packet: the price of this moment, false where there is none. */
static bool packet_close(const oc_features *e, oc_stream *s, const oc_book *book)
{
    oc_best best;
    if (best_read(book, &best)) {
        if (s->quoted && best.bid < best.ask)
            s->ofi = clamp(s->ofi + order_flow(&s->best, &best), -OC_LOTS_BOUND, OC_LOTS_BOUND);
        s->best = best;
        s->quoted = best.bid < best.ask;
        price_seen(s, best.bid + best.ask);
        return true;
    }
    s->quoted = 0;
    bool empty = !book || (book->bid.count == 0 && book->ask.count == 0);
    if (e->sample != OC_SAMPLE_TRADE || !empty || s->trade_price == 0) return false;
    price_seen(s, s->trade_price);           /* a stream of trades alone: the last trade is the price */
    return true;
}

/* ---- the row --------------------------------------------------------------------------------------------------- */

static inline int64_t log_ratio(int64_t a, int64_t b)
{
    double r = oc_logd((double)a / (double)b) * OC_RETURN_SCALE;
    return clamp((int64_t)floor(r + 0.5), -OC_RETURN_BOUND, OC_RETURN_BOUND);
}

static inline bool used(uint32_t series, oc_series s)
{
    return series >> s & 1u;
}

void oc_stream_series(uint32_t series, oc_ring_row *now, const oc_ring_row *before)
{
    int64_t *s = now->s, close = s[OC_SERIES_CLOSE], last = before->s[OC_SERIES_CLOSE];
    int64_t high = s[OC_SERIES_HIGH], low = s[OC_SERIES_LOW], change = last ? close - last : 0;
    int64_t true_high = last > high ? last : high, true_low = last && last < low ? last : low;
    s[OC_SERIES_CHANGE] = change;
    s[OC_SERIES_MOVE] = change < 0 ? -change : change;
    s[OC_SERIES_SIGN] = (change > 0) - (change < 0);
    s[OC_SERIES_TYPICAL] = high + low + close;
    s[OC_SERIES_RANGE] = true_high - true_low;
    s[OC_SERIES_PRESSURE] = close - true_low;
    s[OC_SERIES_OBV] = s[OC_SERIES_SIGN] * s[OC_SERIES_VOLUME];
    if (used(series, OC_SERIES_LOCATION))
        s[OC_SERIES_LOCATION] = high > low ? (2 * close - high - low) * 65536 / (high - low) : 0;
    if (used(series, OC_SERIES_RETURN)) {
        int64_t r = change ? log_ratio(close, last) : 0;
        s[OC_SERIES_RETURN] = r;
        s[OC_SERIES_RETURN_ABS] = r < 0 ? -r : r;
        s[OC_SERIES_RETURN_DOWN] = r < 0 ? r : 0;
        s[OC_SERIES_EXCESS] = r - s[OC_SERIES_OTHER];
    }
    if (used(series, OC_SERIES_LOG_RANGE)) s[OC_SERIES_LOG_RANGE] = high > low ? log_ratio(high, low) : 0;
}

/* The other instrument's return between this instrument's previous row and now; stale after OTHER_AGE rows without an
 * update. Counted in rows, so that the history of a window of it is a number of rows. */
static void other_update(const oc_features *e, oc_stream *s, uint32_t instrument, oc_ring_row *now)
{
    if (e->instruments < 2 || !used(e->plan.series, OC_SERIES_OTHER)) return;
    const oc_stream *other = oc_features_stream(e, instrument == 0);
    bool fresh = other->updates != s->other_updates;
    s->other_age = fresh ? 0 : s->other_age + (s->other_age < UINT32_MAX);
    if (s->rows == 0 && !fresh) s->other_age = OC_OTHER_AGE + 1;
    s->other_updates = other->updates;
    int64_t price = s->other_age <= OC_OTHER_AGE ? other->price : 0;
    bool both = price && s->other_price;
    now->s[OC_SERIES_OTHER] = both ? log_ratio(price, s->other_price) : 0;
    s->other_run = both ? s->other_run + (s->other_run < UINT32_MAX) : 0;
    s->other_price = price;
}

static void interval_into(oc_stream *s, oc_ring_row *now)
{
    now->s[OC_SERIES_VOLUME] = s->traded_lots;
    now->s[OC_SERIES_SIGNED] = s->signed_lots;
    now->s[OC_SERIES_TRADES] = s->trades;
    now->s[OC_SERIES_VALUE_HIGH] = (int64_t)(s->value >> OC_VALUE_BITS);
    now->s[OC_SERIES_VALUE_LOW] = (int64_t)(s->value & (((oc_i128)1 << OC_VALUE_BITS) - 1));
    now->s[OC_SERIES_OFI] = s->ofi;
}

static void bar_into(const oc_event *ev, oc_ring_row *now, const oc_ring_row *before)
{
    int64_t volume = clamp(ev->as.bar.volume_lots, 0, OC_LOTS_BOUND);
    now->s[OC_SERIES_OPEN] = 2 * ev->as.bar.open_ticks;
    now->s[OC_SERIES_HIGH] = 2 * ev->as.bar.high_ticks;
    now->s[OC_SERIES_LOW] = 2 * ev->as.bar.low_ticks;
    int64_t close = now->s[OC_SERIES_CLOSE] = 2 * ev->as.bar.close_ticks;
    int64_t last = before->s[OC_SERIES_CLOSE];
    oc_i128 value = (oc_i128)(now->s[OC_SERIES_HIGH] + now->s[OC_SERIES_LOW] + close) * volume;
    now->s[OC_SERIES_VOLUME] = volume;
    now->s[OC_SERIES_SIGNED] = last == 0 || close == last ? 0 : close > last ? volume : -volume;
    now->s[OC_SERIES_TRADES] = 0;
    now->s[OC_SERIES_VALUE_HIGH] = (int64_t)(value >> OC_VALUE_BITS);
    now->s[OC_SERIES_VALUE_LOW] = (int64_t)(value & (((oc_i128)1 << OC_VALUE_BITS) - 1));
    now->s[OC_SERIES_OFI] = 0;
    now->s[OC_SERIES_SPREAD] = 0;
}

static void book_into(const oc_features *e, oc_stream *s, oc_ring_row *now, const oc_book *book, bool two_sided)
{
    now->s[OC_SERIES_OPEN] = s->open;
    now->s[OC_SERIES_HIGH] = s->high;
    now->s[OC_SERIES_LOW] = s->low;
    now->s[OC_SERIES_CLOSE] = s->price;
    interval_into(s, now);
    now->s[OC_SERIES_SPREAD] = two_sided ? 2 * (s->best.ask - s->best.bid) : 0;
    now->s[OC_SERIES_BID_LOTS] = two_sided ? s->best.bid_lots : 0;
    now->s[OC_SERIES_ASK_LOTS] = two_sided ? s->best.ask_lots : 0;
    if (!used(e->plan.series, OC_SERIES_DEPTH)) return;
    int64_t depth = 0;
    for (uint32_t i = 0; i < OC_DEPTH_LEVELS; i++) {
        if (i < book->bid.count) depth += clamp(book->bid.level[i].lots, 0, OC_LOTS_BOUND);
        if (i < book->ask.count) depth += clamp(book->ask.level[i].lots, 0, OC_LOTS_BOUND);
    }
    now->s[OC_SERIES_DEPTH] = depth < OC_LOTS_BOUND ? depth : OC_LOTS_BOUND;
}

/* Returns whether the row can still be valid. */
static bool column_missing(oc_features *e, size_t i)
{
    const oc_feature_info *info = e->columns[i].info;
    e->value[i] = (double)info->imputed;
    e->x[i] = info->imputed;
    e->mask[i / 64] |= (uint64_t)1 << (i % 64);
    return info->missing != OC_MISSING_REQUIRED;
}

typedef double wide_pair __attribute__((vector_size(16)));
typedef float narrow_pair __attribute__((vector_size(8)));
typedef int64_t mask_pair __attribute__((vector_size(16)));

/* f64 to f32, two at a time; the arrays are padded to pairs. Returns whether all are within the bound (NaN is not). */
static bool values_round(oc_features *e)
{
    mask_pair fine = {-1, -1};
    const mask_pair no_sign = {INT64_MAX, INT64_MAX};
    const wide_pair bound = {OC_VALUE_BOUND, OC_VALUE_BOUND};
    for (size_t i = 0; i < e->width; i += 2) {
        wide_pair value;
        memcpy(&value, e->value + i, sizeof value);
        fine &= (mask_pair)((wide_pair)((mask_pair)value & no_sign) < bound);
        narrow_pair rounded = __builtin_convertvector(value, narrow_pair);
        memcpy(e->x + i, &rounded, sizeof rounded);
    }
    return (fine[0] & fine[1]) != 0;
}

/* All columns; returns whether every required one is there. `whole` false: nothing can be evaluated. */
static bool columns_evaluate(oc_features *e, const oc_view *v, bool whole)
{
    bool valid = true;
    for (size_t i = 0; i < (e->width + 63) / 64; i++) e->mask[i] = 0;
    if (!whole) {
        for (size_t i = 0; i < e->width; i++) column_missing(e, i);
        return false;
    }
    double *value = e->value;
    uint64_t rows = v->rows;
    for (const oc_feature_column *c = e->columns, *end = c + e->width; c < end; c++, value++)
        if (!(rows >= c->rows && c->evaluate(c, v, value))) valid &= column_missing(e, (size_t)(c - e->columns));
    bool bounded = values_round(e);
    for (size_t i = 0; !bounded && i < e->width; i++) {
        if (!(fabs(e->value[i]) < OC_VALUE_BOUND)) valid &= column_missing(e, i);
    }
    return valid;
}

static void row_make(oc_features *e, oc_stream *s, const oc_event *ev, bool two_sided, bool crossed)
{
    oc_ring_row *ring = stream_ring(s);
    s->rows++;
    oc_ring_row *now = &ring[(uint32_t)s->rows & e->ring_mask];
    const oc_ring_row *before = &ring[(uint32_t)(s->rows - 1) & e->ring_mask];
    bool bar = e->sample == OC_SAMPLE_BAR;
    if (bar) bar_into(ev, now, before);
    else book_into(e, s, now, stream_book(e, ev->instrument), two_sided);
    s->rows--;
    other_update(e, s, ev->instrument, now);
    s->rows++;
    oc_stream_series(e->plan.series, now, before);
    now->s[OC_SERIES_TIME] = ev->receive_ns;

    oc_view v = {.engine = e, .stream = s, .nodes = (unsigned char *)s + e->nodes_offset, .ring = ring, .now = now,
                 .before = before, .book = stream_book(e, ev->instrument), .rows = s->rows, .mask = e->ring_mask,
                 .instrument = ev->instrument, .time_ns = ev->receive_ns, .known_start = s->known_start,
                 .two_sided = two_sided};
    for (uint32_t i = 0; i < e->plan.node_count; i++) {
        const oc_node *n = &e->plan.nodes[i];
        n->update(n, v.nodes + n->offset, &v);
    }
    bool valid = columns_evaluate(e, &v, !crossed);
    s->run_length = !valid ? 0 : s->run_length + (s->run_length < UINT32_MAX);
    interval_restart(s);

    double unit = e->half_tick[ev->instrument];
    e->row.time_ns = ev->receive_ns;
    e->row.instrument = ev->instrument;
    e->row.run_length = s->run_length;
    e->row.mid = (double)now->s[OC_SERIES_CLOSE] * unit;
    e->row.spread = two_sided ? (double)now->s[OC_SERIES_SPREAD] * unit : e->bar_spread;
}

static bool bar_fine(const oc_event *ev)
{
    int64_t open = ev->as.bar.open_ticks, high = ev->as.bar.high_ticks, low = ev->as.bar.low_ticks;
    int64_t close = ev->as.bar.close_ticks;
    return price_fine(low) && price_fine(high) && low <= open && open <= high && low <= close && close <= high;
}

/* ---- the event ------------------------------------------------------------------------------------------------- */

/* Changes the stream by one event; what the packet means is decided at its end. False: the event is left out. */
static bool event_take(const oc_features *e, oc_stream *s, const oc_event *ev)
{
    bool shared = e->shared[ev->instrument] != NULL;
    oc_book *book = own_book(e, s);
    switch (ev->kind) {
    case OC_EVENT_TRADE:
        trade_add(s, ev->as.price.ticks, ev->as.price.lots, ev->side);
        if (e->sample == OC_SAMPLE_TRADE) s->packets++;
        break;
    case OC_EVENT_ORDER_EXECUTE:             /* side is the resting order's: the aggressor is the other one */
        trade_add(s, ev->as.price.ticks, ev->as.price.lots,
                  ev->side == OC_SIDE_BUY ? OC_SIDE_SELL : ev->side == OC_SIDE_SELL ? OC_SIDE_BUY : OC_SIDE_NONE);
        if (e->sample == OC_SAMPLE_TRADE) s->packets++;
        break;
    case OC_EVENT_QUOTE:
        if (shared) return oc_book_quoted(e->shared[ev->instrument]);
        return book && oc_book_quote(book, ev);
    default:
        if (book && !shared) oc_book_apply(book, ev);
    }
    return true;
}

static bool row_due(const oc_features *e, oc_stream *s, const oc_event *ev, bool *two_sided, bool *crossed)
{
    *two_sided = *crossed = false;
    if (e->sample == OC_SAMPLE_BAR) {
        if (ev->kind != OC_EVENT_BAR) return false;
        if (!bar_fine(ev)) {
            s->run_length = 0;
            return false;
        }
        price_seen(s, 2 * ev->as.bar.close_ticks);
        return true;
    }
    bool market = ev->kind >= OC_EVENT_TRADE && ev->kind <= OC_EVENT_ORDER_EXECUTE;
    if (!market || !(ev->flags & OC_EVENT_LAST)) return false;
    if (e->sample == OC_SAMPLE_PACKET) s->packets += s->packets < UINT32_MAX;
    const oc_book *book = stream_book(e, ev->instrument);
    if (!packet_close(e, s, book)) {
        s->run_length = 0;
        return false;
    }
    if (s->packets < e->every) return false;
    *crossed = oc_book_crossed(book);
    *two_sided = s->quoted;
    return true;
}

static oc_status event_check(const oc_features *e, const oc_event *ev)
{
    if (ev->instrument < e->instruments && ev->kind >= OC_EVENT_BAR && ev->kind < OC_EVENT_KIND_END) return OC_OK;
    return OC_FAIL(OC_EDATA, "features: event %llu of source %u has instrument %u of %zu and kind %u",
                   (unsigned long long)ev->sequence, ev->source, ev->instrument, e->instruments, ev->kind);
}

/* Within a packet nothing but the book changes. */
oc_status oc_features_levels(oc_features *e, const oc_event *events, size_t count)
{
    if (count == 0) return OC_OK;
    OC_TRY(event_check(e, events));
    oc_stream *s = oc_features_stream(e, events->instrument);
    if (e->book_offset && !e->shared[events->instrument]) oc_book_levels(own_book(e, s), events, count);
    s->pending = 1;
    return OC_OK;
}

oc_status oc_features_apply(oc_features *e, const oc_event *ev, const oc_feature_row **row)
{
    *row = NULL;
    if (ev->kind == OC_EVENT_LEVEL && !ev->flags) return oc_features_levels(e, ev, 1);
    OC_TRY(event_check(e, ev));
    oc_stream *s = oc_features_stream(e, ev->instrument);
    if (ev->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) {
        s->run_length = 0;
        if (ev->flags & OC_EVENT_GAP_BEFORE) {
            windows_restart(e, s);
            interval_restart(s);
            s->quoted = 0;
            s->known_start = 1;
        }
    }
    bool two_sided, crossed;
    s->pending |= event_take(e, s, ev);
    if (!s->pending) return OC_OK;           /* nothing but quotes that were left out */
    if (ev->flags & OC_EVENT_LAST) s->pending = 0;
    if (!row_due(e, s, ev, &two_sided, &crossed)) return OC_OK;
    row_make(e, s, ev, two_sided, crossed);
    *row = &e->row;
    return OC_OK;
}

/* ---- state ----------------------------------------------------------------------------------------------------- */

const oc_book *oc_features_book(const oc_features *e, size_t instrument)
{
    return instrument < e->instruments ? stream_book(e, instrument) : NULL;
}

void oc_features_set_book(oc_features *e, size_t instrument, const oc_book *book)
{
    assert(instrument < e->instruments);
    oc_stream *s = oc_features_stream(e, instrument);
    oc_book *own = own_book(e, s);
    if (!own || !book) return;
    e->shared[instrument] = NULL;
    memcpy(own, book, sizeof *own);
    s->quoted = best_read(own, &s->best) && s->best.bid < s->best.ask;
}

void oc_features_share_book(oc_features *e, size_t instrument, const oc_book *book)
{
    assert(instrument < e->instruments);
    oc_book *own = own_book(e, oc_features_stream(e, instrument));
    if (!own) return;
    if (!book && e->shared[instrument]) memcpy(own, e->shared[instrument], sizeof *own);
    e->shared[instrument] = book;
}

typedef struct state_header { char magic[8]; oc_hash schema, content; uint64_t bytes; } state_header;

static const char state_magic[8] = {'O', 'C', 'F', 'S', 'T', 'A', 'T', '1'};

size_t oc_features_state_bytes(const oc_features *e)
{
    return sizeof(state_header) + e->state_bytes;
}

oc_status oc_features_save(const oc_features *e, void *state, size_t state_cap, size_t *state_bytes)
{
    *state_bytes = oc_features_state_bytes(e);
    if (!(state_cap >= *state_bytes))
        return OC_FAIL(OC_ELIMIT, "feature state: %zu bytes do not fit in %zu", *state_bytes, state_cap);
    state_header h = {.schema = e->schema, .content = oc_hash_bytes(e->state, e->state_bytes), .bytes = e->state_bytes};
    memcpy(h.magic, state_magic, sizeof h.magic);
    memcpy(state, &h, sizeof h);
    memcpy((unsigned char *)state + sizeof h, e->state, e->state_bytes);
    return OC_OK;
}

oc_status oc_features_load(oc_features *e, const void *state, size_t state_bytes)
{
    state_header h;
    if (!(state_bytes >= sizeof h)) return OC_FAIL(OC_EDATA, "feature state: %zu bytes are no state", state_bytes);
    memcpy(&h, state, sizeof h);
    const unsigned char *content = (const unsigned char *)state + sizeof h;
    if (memcmp(h.magic, state_magic, sizeof h.magic) != 0)
        return OC_FAIL(OC_EDATA, "feature state: not a state of a feature engine of this version");
    if (!oc_hash_equal(h.schema, e->schema))
        return OC_FAIL(OC_EDATA, "feature state: saved with another feature schema; build it anew from events");
    if (h.bytes != e->state_bytes || state_bytes != sizeof h + e->state_bytes)
        return OC_FAIL(OC_EDATA, "feature state: %zu bytes where %zu are expected", state_bytes,
                       sizeof h + e->state_bytes);
    if (!oc_hash_equal(h.content, oc_hash_bytes(content, e->state_bytes)))
        return OC_FAIL(OC_EDATA, "feature state: its content fails its hash");
    memset(e->shared, 0, sizeof e->shared);
    memcpy(e->state, content, e->state_bytes);
    return OC_OK;
}

double oc_features_value(const oc_features *e, size_t column)
{
    assert(column < e->width);
    return e->value[column];
}
