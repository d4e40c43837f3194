/* simulated_match.c - matching against the record: taking walks the displayed book, resting waits behind the queue. Own
 * orders stand in one array in the order of arrival; there are few of them, so a pass over all is cheap. */
#include <string.h>

#include "base/random.h"
#include "trade/venues/simulated_internal.h"

static const int64_t ppm = 1000000;

/* ---- answers ---- */

static void reject(oc_simulated *v, const oc_action *a)
{
    oc_simulated_say(v, (oc_venue_message){.order_id = a->order_id,
                                           .price_ticks = a->price_ticks,
                                           .lots = a->lots,
                                           .instrument = a->instrument,
                                           .kind = OC_VENUE_REJECT,
                                           .side = a->side});
}

static void cancelled(oc_simulated *v, uint64_t id, uint32_t instrument, uint8_t side, int64_t lots)
{
    oc_simulated_say(
        v, (oc_venue_message){
               .order_id = id, .lots = lots, .instrument = instrument, .kind = OC_VENUE_CANCELLED, .side = side});
}

typedef struct own {
    uint64_t id;
    uint32_t instrument;
    uint8_t side;
} own;

/* False where the account's sums do not fit: then nothing has happened. */
static bool account_add(simulated_market *m, own o, int64_t price_ticks, int64_t lots, int64_t fee, bool maker)
{
    oc_simulated_account after = m->account;
    int64_t signed_lots = o.side == OC_SIDE_BUY ? lots : -lots, value;
    bool fits = oc_money_multiply(signed_lots, price_ticks, &value) &&
                oc_money_subtract(after.cash_ticks_lots, value, &after.cash_ticks_lots) &&
                oc_money_add(after.position_lots, signed_lots, &after.position_lots) &&
                oc_money_add(after.fees_micros, fee, &after.fees_micros);
    after.fills++;
    after.maker_fills += maker;
    if (fits) m->account = after;
    return fits;
}

static bool fill(oc_simulated *v, own o, int64_t price_ticks, int64_t lots, bool maker)
{
    simulated_market *m = &v->market[o.instrument];
    int64_t rate = maker ? m->config.maker_ppm : m->config.taker_ppm;
    int64_t fee = oc_money_fee(price_ticks, lots, m->config.scale, rate);
    if (!account_add(m, o, price_ticks, lots, fee, maker)) return false;
    oc_simulated_say(v, (oc_venue_message){.order_id = o.id,
                                           .price_ticks = price_ticks,
                                           .lots = lots,
                                           .fee_micros = fee,
                                           .instrument = o.instrument,
                                           .kind = OC_VENUE_FILL,
                                           .side = o.side,
                                           .maker = maker});
    return true;
}

static void order_remove(oc_simulated *v, uint32_t at)
{
    memmove(&v->order[at], &v->order[at + 1], (size_t)(v->order_count - at - 1) * sizeof *v->order);
    v->order_count--;
}

/* True where the order is gone, and the next one has its place. One that cannot be booked is cancelled. */
static bool order_fill(oc_simulated *v, uint32_t at, int64_t lots)
{
    resting_order *o = &v->order[at];
    bool booked = fill(v, (own){o->id, o->instrument, o->side}, o->price_ticks, lots, true);
    if (booked) o->left_lots -= lots;
    if (booked && o->left_lots > 0) return false;
    if (!booked) cancelled(v, o->id, o->instrument, o->side, o->left_lots);
    order_remove(v, at);
    return true;
}

/* ---- what we took from the record ---- */

static oc_book_level *taken_find(taken_side *t, int64_t ticks)
{
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->level[i].ticks == ticks) return &t->level[i];
    }
    return NULL;
}

static void taken_forget(taken_side *t, int64_t ticks)
{
    oc_book_level *at = taken_find(t, ticks);
    if (at) *at = t->level[--t->count];
}

static int64_t available(taken_side *t, oc_book_level level)
{
    const oc_book_level *taken = taken_find(t, level.ticks);
    return taken ? level.lots - taken->lots : level.lots;
}

/* No room to remember: nothing is taken, so that the same lots cannot be had twice. */
static bool taken_add(taken_side *t, int64_t ticks, int64_t lots)
{
    oc_book_level *at = taken_find(t, ticks);
    if (!at) {
        if (t->count == TAKEN_MAX) return false;
        at = &t->level[t->count++];
        *at = (oc_book_level){ticks, 0};
    }
    at->lots += lots;
    return true;
}

/* ---- new orders ---- */

static const oc_book_side *other_side(const simulated_market *m, uint8_t side)
{
    return side == OC_SIDE_BUY ? &m->book.ask : &m->book.bid;
}

static bool reaches(const oc_action *a, int64_t ticks)
{
    if (a->type == OC_ORDER_MARKET) return true;
    return a->side == OC_SIDE_BUY ? ticks <= a->price_ticks : ticks >= a->price_ticks;
}

static bool crosses(const simulated_market *m, const oc_action *a)
{
    const oc_book_side *other = other_side(m, a->side);
    return other->count > 0 && reaches(a, other->level[0].ticks);
}

/* Lots left after walking the displayed book. */
static int64_t take(oc_simulated *v, const oc_action *a)
{
    simulated_market *m = &v->market[a->instrument];
    const oc_book_side *other = other_side(m, a->side);
    taken_side *taken = &m->taken[a->side == OC_SIDE_BUY];
    int64_t left = a->lots;
    for (uint32_t i = 0; i < other->count && left > 0 && reaches(a, other->level[i].ticks); i++) {
        int64_t there = available(taken, other->level[i]), lots = there < left ? there : left;
        if (lots <= 0 || !taken_add(taken, other->level[i].ticks, lots)) continue;
        if (!fill(v, (own){a->order_id, a->instrument, a->side}, other->level[i].ticks, lots, false)) break;
        left -= lots;
    }
    return left;
}

static void rest(oc_simulated *v, const oc_action *a, int64_t left)
{
    simulated_market *m = &v->market[a->instrument];
    const oc_book_side *side = a->side == OC_SIDE_BUY ? &m->book.bid : &m->book.ask;
    resting_order *o = &v->order[v->order_count++];
    *o = (resting_order){a->order_id, a->price_ticks, left,    oc_book_lots(side, a->price_ticks),
                         v->now_ns,   a->instrument,  a->side, {0}};
}

static bool acceptable(const oc_simulated *v, const oc_action *a)
{
    if (a->instrument >= v->config.markets || (a->side != OC_SIDE_BUY && a->side != OC_SIDE_SELL)) return false;
    if (a->type < OC_ORDER_MARKET || a->type >= OC_ORDER_TYPE_END || a->lots < 1 || a->lots > OC_TRADE_LOTS_MAX)
        return false;
    const simulated_market *m = &v->market[a->instrument];
    bool priced =
        a->price_ticks >= 1 && a->price_ticks <= OC_TRADE_PRICE_MAX && a->price_ticks % m->config.order_tick_ticks == 0;
    if (a->type != OC_ORDER_MARKET && !priced) return false;
    if (a->type == OC_ORDER_MARKET && other_side(m, a->side)->count == 0) return false;
    if (a->type == OC_ORDER_POST && crosses(m, a)) return false;
    if (v->order_count == OC_SIMULATED_ORDERS_MAX) return false;
    return (int64_t)oc_random_below(v->key_reject, a->order_id, (uint64_t)ppm) >= v->config.reject_ppm;
}

void oc_simulated_new(oc_simulated *v, const oc_action *a)
{
    bool fresh = a->order_id > v->last_id; /* ids rise: one that was used is known by that, whatever became of it */
    if (fresh) v->last_id = a->order_id;
    if (!fresh || !acceptable(v, a)) {
        reject(v, a);
        return;
    }
    oc_simulated_say(v, (oc_venue_message){.order_id = a->order_id,
                                           .price_ticks = a->price_ticks,
                                           .lots = a->lots,
                                           .instrument = a->instrument,
                                           .kind = OC_VENUE_ACK,
                                           .side = a->side});
    int64_t left = crosses(&v->market[a->instrument], a) ? take(v, a) : a->lots;
    bool rests = a->type == OC_ORDER_LIMIT || a->type == OC_ORDER_POST;
    if (left == 0) return;
    if (rests)
        rest(v, a, left);
    else
        cancelled(v, a->order_id, a->instrument, a->side, left);
}

void oc_simulated_cancel(oc_simulated *v, const oc_action *a)
{
    for (uint32_t i = 0; i < v->order_count; i++) {
        if (v->order[i].id != a->order_id) continue;
        resting_order o = v->order[i];
        order_remove(v, i);
        cancelled(v, o.id, o.instrument, o.side, o.left_lots);
        return;
    }
    oc_simulated_say(
        v, (oc_venue_message){
               .order_id = a->order_id, .instrument = a->instrument, .kind = OC_VENUE_CANCEL_REJECT, .side = a->side});
}

/* ---- the record moves ---- */

static bool better(const resting_order *o, int64_t ticks) /* than a trade at `ticks`: it went through */
{
    return o->side == OC_SIDE_BUY ? o->price_ticks > ticks : o->price_ticks < ticks;
}

/* The best-priced of our orders on this side that the trade went through; order_count: none. */
static uint32_t best_through(const oc_simulated *v, uint32_t instrument, uint8_t side, int64_t ticks)
{
    uint32_t best = v->order_count;
    for (uint32_t i = 0; i < v->order_count; i++) {
        const resting_order *o = &v->order[i];
        if (o->instrument != instrument || o->side != side || !better(o, ticks)) continue;
        if (best == v->order_count || better(o, v->order[best].price_ticks)) best = i;
    }
    return best;
}

/* A trade of `lots` at `ticks` against the orders of `side`. */
static void trade_side(oc_simulated *v, uint32_t instrument, uint8_t side, int64_t ticks, int64_t lots)
{
    int64_t pool = lots, own_lots = 0;
    for (;;) {
        uint32_t i = best_through(v, instrument, side, ticks);
        if (i == v->order_count || pool <= 0) break;
        int64_t part = v->config.partial && pool < v->order[i].left_lots ? pool : v->order[i].left_lots;
        if (v->config.partial) pool -= part;
        (void)order_fill(v, i, part);
    }
    for (uint32_t i = 0; i < v->order_count;) {
        resting_order *o = &v->order[i];
        if (o->instrument != instrument || o->side != side || o->price_ticks != ticks) {
            i++;
            continue;
        }
        int64_t reach = pool - o->ahead_lots - own_lots;
        o->ahead_lots -= o->ahead_lots < pool ? o->ahead_lots : pool;
        int64_t part = !v->config.partial || reach > o->left_lots ? o->left_lots : reach;
        if (reach <= 0) {
            i++;
            continue;
        }
        own_lots += v->config.partial ? part : 0;
        if (!order_fill(v, i, part)) i++;
    }
}

static void level_shrink(oc_simulated *v, uint32_t instrument, uint8_t side, int64_t ticks, int64_t lots)
{
    for (uint32_t i = 0; i < v->order_count; i++) {
        resting_order *o = &v->order[i];
        if (o->instrument == instrument && o->side == side && o->price_ticks == ticks && lots < o->ahead_lots)
            o->ahead_lots = lots;
    }
}

/* Lots that are displayed at a price which reaches this order. True where it is gone. */
static bool order_meet(oc_simulated *v, uint32_t at, taken_side *taken, const oc_book_side *other)
{
    const resting_order *o = &v->order[at];
    oc_action as = {.side = o->side, .type = OC_ORDER_LIMIT, .price_ticks = o->price_ticks};
    if (!v->config.partial) return order_fill(v, at, o->left_lots);
    for (uint32_t k = 0; k < other->count && reaches(&as, other->level[k].ticks); k++) {
        int64_t there = available(taken, other->level[k]), lots = there < o->left_lots ? there : o->left_lots;
        if (lots > 0 && taken_add(taken, other->level[k].ticks, lots) && order_fill(v, at, lots)) return true;
    }
    return false;
}

/* The other side's best price reached ours: the record would have traded with us. Best price first; where one of ours
 * is not filled nothing is left for worse ones. */
static void crossed(oc_simulated *v, uint32_t instrument)
{
    simulated_market *m = &v->market[instrument];
    for (uint8_t side = OC_SIDE_BUY; side <= OC_SIDE_SELL; side++) {
        const oc_book_side *other = other_side(m, side);
        bool gone = other->count > 0;
        while (gone) {
            int64_t beyond = other->level[0].ticks + (side == OC_SIDE_BUY ? -1 : 1);
            uint32_t i = best_through(v, instrument, side, beyond);
            gone = i < v->order_count && order_meet(v, i, &m->taken[side == OC_SIDE_BUY], other);
        }
    }
}

static void level_apply(oc_simulated *v, const oc_event *e)
{
    simulated_market *m = &v->market[e->instrument];
    bool first = e->kind == OC_EVENT_SNAPSHOT && !m->book.snapshot_open;
    oc_book_apply(&m->book, e);
    if (first) m->taken[0].count = m->taken[1].count = 0;
    taken_side *taken = &m->taken[e->side == OC_SIDE_SELL];
    if (taken->count > 0) taken_forget(taken, e->as.price.ticks);
    if (e->kind == OC_EVENT_LEVEL) level_shrink(v, e->instrument, e->side, e->as.price.ticks, e->as.price.lots);
}

/* The whole book is new: every order looks at its own level. */
static void queues_renew(oc_simulated *v, uint32_t instrument)
{
    const oc_book *book = &v->market[instrument].book;
    for (uint32_t i = 0; i < v->order_count; i++) {
        resting_order *o = &v->order[i];
        if (o->instrument != instrument) continue;
        int64_t lots = oc_book_lots(o->side == OC_SIDE_BUY ? &book->bid : &book->ask, o->price_ticks);
        if (lots < o->ahead_lots) o->ahead_lots = lots;
    }
}

/* The book is whole again: our orders look at it. `renewed`: all of it is new. */
static void packet_end(oc_simulated *v, uint32_t instrument, bool renewed)
{
    const oc_book *book = &v->market[instrument].book;
    if (v->order_count == 0) return;
    if (renewed) queues_renew(v, instrument);
    if (!book->stale && !oc_book_crossed(book)) crossed(v, instrument);
}

static void book_of_two(oc_simulated *v, uint32_t instrument, oc_book_level bid, oc_book_level ask)
{
    oc_event e = {.instrument = instrument, .kind = OC_EVENT_SNAPSHOT, .side = OC_SIDE_BUY};
    v->market[instrument].book.snapshot_open = false;
    e.as.price.ticks = bid.ticks;
    e.as.price.lots = bid.lots;
    level_apply(v, &e);
    e.side = OC_SIDE_SELL;
    e.flags = OC_EVENT_LAST;
    e.as.price.ticks = ask.ticks;
    e.as.price.lots = ask.lots;
    level_apply(v, &e);
}

static void on_bar(oc_simulated *v, const oc_event *e)
{
    simulated_market *m = &v->market[e->instrument];
    for (uint32_t i = 0; i < v->order_count;) {
        const resting_order *o = &v->order[i];
        bool through = better(o, o->side == OC_SIDE_BUY ? e->as.bar.low_ticks : e->as.bar.high_ticks);
        bool old = m->bar_seen && o->since_ns <= m->bar_ns;
        if (!(o->instrument == e->instrument && through && old && order_fill(v, i, o->left_lots))) i++;
    }
    m->bar_ns = e->receive_ns;
    m->bar_seen = true;
    int64_t half = m->config.bar_half_spread_ticks, close = e->as.bar.close_ticks, lots = m->config.bar_lots;
    book_of_two(v, e->instrument, (oc_book_level){close - half, close > half ? lots : 0},
                (oc_book_level){close + half, close + half <= OC_TRADE_PRICE_MAX ? lots : 0});
    if (e->flags & OC_EVENT_LAST) packet_end(v, e->instrument, true);
}

static void on_level(oc_simulated *v, const oc_event *e)
{
    level_apply(v, e);
    if (e->flags & OC_EVENT_LAST) packet_end(v, e->instrument, e->kind == OC_EVENT_SNAPSHOT);
}

static bool within(int64_t value, int64_t least, int64_t most)
{
    return value >= least && value <= most;
}

static bool usable(const oc_simulated *v, const oc_event *e)
{
    bool priced = e->kind == OC_EVENT_TRADE || e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT;
    if (e->instrument >= v->config.markets) return false;
    if (e->kind == OC_EVENT_BAR)
        return within(e->as.bar.low_ticks, 1, e->as.bar.close_ticks) &&
               within(e->as.bar.high_ticks, e->as.bar.close_ticks, OC_TRADE_PRICE_MAX);
    if (e->kind == OC_EVENT_QUOTE)
        return within(e->as.quote.bid_ticks, 1, OC_TRADE_PRICE_MAX) &&
               within(e->as.quote.ask_ticks, 1, OC_TRADE_PRICE_MAX) &&
               within(e->as.quote.bid_lots, 0, OC_TRADE_LOTS_MAX) && within(e->as.quote.ask_lots, 0, OC_TRADE_LOTS_MAX);
    return priced && within(e->as.price.ticks, 1, OC_TRADE_PRICE_MAX) && within(e->as.price.lots, 0, OC_TRADE_LOTS_MAX);
}

static void on_trade(oc_simulated *v, const oc_event *e)
{
    oc_book_apply(&v->market[e->instrument].book, e); /* it may end a packet */
    if (e->side != OC_SIDE_BUY) trade_side(v, e->instrument, OC_SIDE_BUY, e->as.price.ticks, e->as.price.lots);
    if (e->side != OC_SIDE_SELL) trade_side(v, e->instrument, OC_SIDE_SELL, e->as.price.ticks, e->as.price.lots);
}

static void on_quote(oc_simulated *v, const oc_event *e)
{
    simulated_market *m = &v->market[e->instrument];
    if (!oc_book_quote(&m->book, e)) { /* the levels beside it say the same, and more */
        v->ignored++;
        return;
    }
    m->taken[0].count = m->taken[1].count = 0;
    if (e->flags & OC_EVENT_LAST) packet_end(v, e->instrument, true);
}

static void (*const handlers[OC_EVENT_KIND_END])(oc_simulated *, const oc_event *) = {
    [OC_EVENT_BAR] = on_bar,     [OC_EVENT_TRADE] = on_trade,    [OC_EVENT_QUOTE] = on_quote,
    [OC_EVENT_LEVEL] = on_level, [OC_EVENT_SNAPSHOT] = on_level,
};

static bool of_books(const oc_event *e)
{
    return e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT || e->kind == OC_EVENT_QUOTE;
}

/* Whoever reads the book would make another of this event: one of the book that we leave out, a bar, or the end of a
 * snapshot by something else. */
static void reader_part(oc_simulated *v, const oc_event *e, bool takes)
{
    if (e->instrument >= v->config.markets) return;
    simulated_market *m = &v->market[e->instrument];
    bool ends = (e->flags & OC_EVENT_LAST) && m->book.snapshot_open;
    if (!m->reader.part || (of_books(e) ? takes : e->kind != OC_EVENT_BAR && !ends)) return;
    m->reader.part(m->reader.context, e->instrument);
    m->reader.part = NULL;
}

void oc_simulated_event(oc_simulated *v, const oc_event *event)
{
    bool takes = event->kind < OC_EVENT_KIND_END && handlers[event->kind] && usable(v, event);
    if (!takes || !of_books(event)) reader_part(v, event, takes);
    if (takes)
        handlers[event->kind](v, event);
    else
        v->ignored++;
}

/* A queue never grows by a level that shrinks, so the order of levels and orders is free. */
static void levels_shrink(oc_simulated *v, const oc_event *events, size_t count)
{
    for (uint32_t i = 0; i < v->order_count; i++) {
        resting_order *o = &v->order[i];
        int64_t ahead = o->ahead_lots, ticks = o->price_ticks;
        if (o->instrument != events->instrument || ahead == 0) continue;
        for (size_t k = 0; k < count; k++) {
            const oc_event *e = &events[k];
            if (e->as.price.ticks == ticks && e->side == o->side && e->as.price.lots < ahead) ahead = e->as.price.lots;
        }
        o->ahead_lots = ahead;
    }
}

static bool levels_usable(const oc_simulated *v, const oc_event *events, size_t count)
{
    bool fine = events->instrument < v->config.markets;
    for (size_t i = 0; i < count; i++) {
        const oc_event *e = &events[i];
        fine &= (uint64_t)e->as.price.ticks - 1 < OC_TRADE_PRICE_MAX && (uint64_t)e->as.price.lots <= OC_TRADE_LOTS_MAX;
    }
    return fine;
}

void oc_simulated_levels(oc_simulated *v, const oc_event *events, size_t count)
{
    if (!levels_usable(v, events, count)) {
        for (size_t i = 0; i < count; i++) oc_simulated_event(v, &events[i]);
        return;
    }
    simulated_market *m = &v->market[events->instrument];
    oc_book_levels(&m->book, events, count);
    for (size_t i = 0; m->taken[0].count + m->taken[1].count > 0 && i < count; i++)
        taken_forget(&m->taken[events[i].side == OC_SIDE_SELL], events[i].as.price.ticks);
    levels_shrink(v, events, count);
}
