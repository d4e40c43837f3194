/* engine_venue.c - what the venue says. Messages are numbered: a repeated one is ignored, a hole is asked for again and
 * what lies behind it waits for the answer. What contradicts our own record halts; a fill is booked first, because the
 * venue's word on what was traded is the truth. */
#include "trade/engine_internal.h"

static const int64_t ask_again_ns = INT64_C(1000000000); /* messages that are missing, and cancels that were refused */

static void mismatch(engine_run *r, oc_reason reason, const oc_venue_message *v)
{
    r->e->totals.bad_inputs++;
    if (r->e->totals.state == OC_TRADING_HALTED)
        oc_run_alert(r, reason, v->instrument, v->order_id, v->lots, v->kind);
    else
        oc_run_escalate(r, OC_TRADING_HALTED, reason, (int64_t)v->order_id, v->kind);
}

/* A refused cancel has its time in until_ns: not again at once, or it would be a loop at the speed of the line. */
static void on_ack(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    if (!o || v->lots != o->lots - o->filled_lots) {
        mismatch(r, o ? OC_REASON_MESSAGE_BAD : OC_REASON_ORDER_UNKNOWN, v);
        return;
    }
    o->state = OC_ORDER_LIVE;
    if (r->e->totals.state == OC_TRADING_HALTED && o->until_ns - r->e->now_ns > ask_again_ns)
        oc_run_cancel(r, o, OC_REASON_STATE);
}

/* The order stays in the worst case until the venue, asked, has said what became of it. */
static void rest_differs(engine_run *r, const oc_venue_message *v, const oc_open_order *o)
{
    uint64_t id = o->id;
    mismatch(r, OC_REASON_MESSAGE_BAD, v);
    oc_run_query(r, id, OC_REASON_MESSAGE_BAD);
}

static void on_reject(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    if (o && (v->lots != o->lots || o->filled_lots > 0)) {
        rest_differs(r, v, o);
        return;
    }
    oc_run_alert(r, OC_REASON_REJECTED, v->instrument, v->order_id, v->lots, 0);
    if (o) oc_run_remove(r, o);
}

static bool fill_sane(const oc_engine *e, const oc_venue_message *v)
{
    return v->instrument < e->markets && (v->side == OC_SIDE_BUY || v->side == OC_SIDE_SELL) && v->lots >= 1 &&
           v->lots <= OC_TRADE_LOTS_MAX && v->price_ticks >= 1 && v->price_ticks <= OC_TRADE_PRICE_MAX;
}

/* OC_REASON_NONE where the fill can be one of this order's. */
static oc_reason fill_problem(const oc_venue_message *v, const oc_open_order *o)
{
    if (!o) return OC_REASON_ORDER_UNKNOWN;
    if (o->instrument != v->instrument || o->side != v->side) return OC_REASON_MESSAGE_BAD;
    if (v->lots > o->lots - o->filled_lots) return OC_REASON_OVERFILL;
    bool worse = o->side == OC_SIDE_BUY ? v->price_ticks > o->price_ticks : v->price_ticks < o->price_ticks;
    return worse && o->type != OC_ORDER_MARKET ? OC_REASON_MESSAGE_BAD : OC_REASON_NONE;
}

static void on_fill(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    oc_engine *e = r->e;
    oc_reason problem = fill_sane(e, v) ? fill_problem(v, o) : OC_REASON_MESSAGE_BAD;
    int64_t equity, fees;
    if (!fill_sane(e, v)) {
        mismatch(r, problem, v);
        return;
    }
    market_state *m = &e->market[v->instrument];
    bool fits = oc_money_subtract(e->totals.equity_micros, v->fee_micros, &equity) &&
                oc_money_add(e->totals.fees_micros, v->fee_micros, &fees) &&
                oc_portfolio_fill(&m->position, v->side, v->lots, v->price_ticks, v->fee_micros);
    if (!fits) {
        oc_run_escalate(r, OC_TRADING_HALTED, OC_REASON_OVERFLOW, v->lots, v->price_ticks);
        return;
    }
    e->totals.equity_micros = equity;
    e->totals.fees_micros = fees;
    e->totals.fills++;
    if (o && problem != OC_REASON_OVERFILL && problem != OC_REASON_MESSAGE_BAD) {
        o->filled_lots += v->lots;
        *(o->side == OC_SIDE_BUY ? &m->open_buy_lots : &m->open_sell_lots) -= v->lots;
        if (o->filled_lots == o->lots) oc_run_remove(r, o);
    }
    oc_portfolio_value(r, v->instrument);
    oc_portfolio_breakers(r);
    if (problem != OC_REASON_NONE)
        mismatch(r, problem, v);
    else
        oc_run_pursue(r, v->instrument);
}

static void on_cancelled(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    if (!o) {
        oc_run_alert(r, OC_REASON_ORDER_UNKNOWN, v->instrument, v->order_id, v->lots, v->kind);
        return;
    }
    if (v->lots != o->lots - o->filled_lots) {
        rest_differs(r, v, o);
        return;
    }
    bool asked = o->cancelling;
    uint32_t instrument = o->instrument;
    oc_run_remove(r, o);
    if (asked)
        oc_run_pursue(r, instrument);
    else
        oc_run_alert(r, OC_REASON_CANCELLED, instrument, v->order_id, v->lots, 0);
}

/* Usual where the fill was faster; else the order stands, we must know how, and it is cancelled again a little later.
 */
static void on_cancel_reject(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    oc_run_alert(r, OC_REASON_CANCEL_REJECTED, v->instrument, v->order_id, 0, 0);
    if (!o) return;
    o->cancelling = 0;
    o->until_ns = r->e->now_ns + ask_again_ns; /* time_accept bounds the sum */
    oc_run_query(r, o->id, OC_REASON_CANCEL_REJECTED);
    oc_run_timer(r, o->until_ns);
}

static void on_not_found(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    (void)v;
    if (!o) return;
    uint32_t instrument = o->instrument;
    oc_run_remove(r, o);
    oc_run_pursue(r, instrument);
}

static void on_connected(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    oc_engine *e = r->e;
    (void)v, (void)o;
    e->totals.connected = true;
    oc_run_query(r, 0, OC_REASON_RECOVERY);
    for (uint32_t i = 0; i < e->order_count; i++) {
        e->order[i].cancelling = 0; /* what was sent while the line was broken did not arrive */
        if (e->order[i].state == OC_ORDER_SENT_UNKNOWN) oc_run_query(r, e->order[i].id, OC_REASON_RECOVERY);
    }
    if (e->totals.state != OC_TRADING_ACTIVE) oc_run_cancel_all(r, UINT32_MAX, OC_REASON_STATE);
    oc_run_timer_next(r); /* lifetimes that ended meanwhile */
}

static void on_disconnected(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    oc_engine *e = r->e;
    (void)v, (void)o;
    e->totals.connected = false;
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->order[i].state == OC_ORDER_SENT) e->order[i].state = OC_ORDER_SENT_UNKNOWN;
        e->order[i].cancelling = 0; /* a cancel on its way may be lost: whoever needs it asks again */
    }
    oc_run_alert(r, OC_REASON_DISCONNECTED, 0, 0, 0, 0);
}

static void on_lost(engine_run *r, const oc_venue_message *v, oc_open_order *o)
{
    (void)o;
    mismatch(r, OC_REASON_MESSAGE_LOST, v);
}

typedef struct venue_row {
    void (*handle)(engine_run *, const oc_venue_message *, oc_open_order *);
    bool numbered;
} venue_row;

static const venue_row rows[OC_VENUE_KIND_END] = {
    [OC_VENUE_ACK] = {on_ack, true},
    [OC_VENUE_REJECT] = {on_reject, true},
    [OC_VENUE_FILL] = {on_fill, true},
    [OC_VENUE_CANCELLED] = {on_cancelled, true},
    [OC_VENUE_CANCEL_REJECT] = {on_cancel_reject, true},
    [OC_VENUE_NOT_FOUND] = {on_not_found, true},
    [OC_VENUE_CONNECTED] = {on_connected, false},
    [OC_VENUE_DISCONNECTED] = {on_disconnected, false},
    [OC_VENUE_LOST] = {on_lost, false},
};

/* True where the message is the next one. */
static bool numbered(engine_run *r, const oc_venue_message *v)
{
    oc_engine *e = r->e;
    uint64_t last = e->totals.message_id;
    if (v->message_id <= last) {
        oc_run_alert(r, OC_REASON_MESSAGE_REPEATED, v->instrument, v->order_id, (int64_t)v->message_id, (int64_t)last);
        return false;
    }
    if (v->message_id == last + 1) {
        e->totals.message_id = v->message_id;
        e->asked = 0;
        return true;
    }
    if (e->asked && e->now_ns - e->asked_ns < ask_again_ns) return false;
    oc_run_alert(r, OC_REASON_MESSAGE_GAP, v->instrument, v->order_id, (int64_t)v->message_id, (int64_t)last);
    oc_run_query(r, 0, OC_REASON_MESSAGE_GAP);
    e->asked = 1;
    e->asked_ns = e->now_ns;
    return false;
}

void oc_run_venue(engine_run *r)
{
    const oc_venue_message *v = &r->input->as.venue;
    const venue_row *row = v->kind < OC_VENUE_KIND_END ? &rows[v->kind] : &rows[0];
    if (!row->handle) {
        mismatch(r, OC_REASON_MESSAGE_BAD, v);
        return;
    }
    if (row->numbered && !numbered(r, v)) return;
    oc_open_order *o = row->numbered ? oc_run_find(r->e, v->order_id) : NULL;
    row->handle(r, v, o);
}
