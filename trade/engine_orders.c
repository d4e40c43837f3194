/* engine_orders.c - the open orders and the way out: every action is made here, every NEW has passed the gate here. */
#include <string.h>

#include "trade/engine_internal.h"

/* A full list drops the action: it can only be an alert or a timer, because orders, cancels and queries of one input
 * are bounded by OC_ENGINE_ORDERS_MAX each (static_assert below). */
static_assert(OC_ACTIONS_MAX >= 2 * OC_ENGINE_ORDERS_MAX + 32, "cancels and queries of every order fit");

static oc_action *action_add(engine_run *r, oc_action_kind kind, oc_reason reason, uint32_t instrument)
{
    if (r->absorbing || r->count == OC_ACTIONS_MAX) return NULL;
    oc_action *a = &r->actions[r->count++];
    memset(a, 0, sizeof *a);
    a->kind = (uint8_t)kind;
    a->reason = (uint16_t)reason;
    a->instrument = instrument;
    a->state = (uint8_t)r->e->totals.state;
    return a;
}

void oc_run_alert(engine_run *r, oc_reason reason, uint32_t instrument, uint64_t order_id, int64_t value, int64_t limit)
{
    r->e->totals.alerts++;
    oc_action *a = action_add(r, OC_ACTION_ALERT, reason, instrument);
    if (!a) return;
    a->order_id = order_id;
    a->value = value;
    a->limit = limit;
}

void oc_run_escalate(engine_run *r, oc_trading_state state, oc_reason reason, int64_t value, int64_t limit)
{
    if ((uint32_t)state <= r->e->totals.state) return;
    r->e->totals.state = (uint32_t)state;
    oc_run_alert(r, reason, 0, 0, value, limit);
    oc_run_cancel_all(r, UINT32_MAX, reason);
}

void oc_run_query(engine_run *r, uint64_t order_id, oc_reason reason)
{
    oc_action *a = action_add(r, OC_ACTION_QUERY, reason, 0);
    if (!a) return;
    a->order_id = order_id;
    a->value = (int64_t)r->e->totals.message_id;
}

void oc_run_timer(engine_run *r, int64_t at_ns)
{
    oc_engine *e = r->e;
    if (at_ns == INT64_MAX || (e->timer_set && e->timer_ns <= at_ns)) return;
    oc_action *a = action_add(r, OC_ACTION_TIMER, OC_REASON_NONE, 0);
    if (!a) return;
    a->at_ns = at_ns;
    e->timer_ns = at_ns;
    e->timer_set = 1;
}

void oc_run_timer_next(engine_run *r)
{
    const oc_engine *e = r->e;
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (!e->order[i].cancelling && e->order[i].until_ns < next) next = e->order[i].until_ns;
    }
    for (uint32_t i = 0; i < e->markets; i++) {
        if (e->market[i].quoting && e->market[i].quote_next_ns < next) next = e->market[i].quote_next_ns;
    }
    oc_run_timer(r, next);
}

/* The bucket fills by one message every message_ns, up to the burst. */
static int64_t tokens_now(oc_engine *e)
{
    const oc_risk_account *risk = &e->account.risk;
    int64_t full = risk->message_burst * risk->message_ns, filled; /* bounded by the configuration's check */
    if (!oc_money_add(e->token_ns, e->now_ns - e->token_at_ns, &filled) || filled > full) filled = full;
    e->token_ns = filled;
    e->token_at_ns = e->now_ns;
    return filled;
}

static void tokens_take(oc_engine *e)
{
    int64_t left = tokens_now(e) - e->account.risk.message_ns;
    e->token_ns = left > 0 ? left : 0;
}

static int64_t order_left(const oc_open_order *o)
{
    return o->lots - o->filled_lots;
}

static int64_t *open_lots(oc_engine *e, const oc_open_order *o)
{
    market_state *m = &e->market[o->instrument];
    return o->side == OC_SIDE_BUY ? &m->open_buy_lots : &m->open_sell_lots;
}

oc_open_order *oc_run_find(oc_engine *e, uint64_t id)
{
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->order[i].id == id) return &e->order[i];
    }
    return NULL;
}

void oc_run_remove(engine_run *r, oc_open_order *order)
{
    oc_engine *e = r->e;
    uint32_t at = (uint32_t)(order - e->order), instrument = order->instrument;
    *open_lots(e, order) -= order_left(order);
    memmove(order, order + 1, (size_t)(e->order_count - at - 1) * sizeof *order);
    e->order_count--;
    memset(&e->order[e->order_count], 0, sizeof *order);
    oc_portfolio_value(r, instrument);
}

void oc_run_register_cancel(engine_run *r, oc_open_order *order)
{
    order->cancelling = 1;
    r->e->totals.cancels++;
    tokens_take(r->e);
}

void oc_run_cancel(engine_run *r, oc_open_order *order, oc_reason reason)
{
    if (order->cancelling || r->absorbing) return;
    oc_action *a = action_add(r, OC_ACTION_CANCEL, reason, order->instrument);
    if (!a) return;
    a->order_id = order->id;
    a->side = order->side;
    a->type = order->type;
    a->price_ticks = order->price_ticks;
    a->lots = order_left(order);
    oc_run_register_cancel(r, order);
}

void oc_run_cancel_all(engine_run *r, uint32_t instrument, oc_reason reason)
{
    for (uint32_t i = 0; i < r->e->order_count; i++) {
        oc_open_order *o = &r->e->order[i];
        if (instrument == UINT32_MAX || o->instrument == instrument) oc_run_cancel(r, o, reason);
    }
}

/* Equal to an order within the window; also where so many were sent that the memory does not reach back that far. */
static bool duplicate(const oc_engine *e, uint32_t instrument, const oc_risk_order *o)
{
    for (uint32_t k = 1; k <= RECENT_MAX; k++) {
        const recent_order *seen = &e->recent[(e->recent_at + RECENT_MAX - k) % RECENT_MAX];
        if (seen->lots == 0 || e->now_ns - seen->time_ns >= e->account.risk.duplicate_ns) return false;
        if (seen->instrument == instrument && seen->side == o->side && seen->type == o->type &&
            seen->price_ticks == o->price_ticks && seen->lots == o->lots)
            return true;
    }
    return true;
}

/* An order whose cancel is under way stands behind that cancel in the line: it is gone before a new one arrives. */
static void own_best(const oc_engine *e, uint32_t instrument, oc_risk_view *v)
{
    for (uint32_t i = 0; i < e->order_count; i++) {
        const oc_open_order *o = &e->order[i];
        if (o->instrument != instrument || o->cancelling) continue;
        if (o->side == OC_SIDE_BUY && o->price_ticks > v->own_bid_ticks) v->own_bid_ticks = o->price_ticks;
        if (o->side == OC_SIDE_SELL && (v->own_ask_ticks == 0 || o->price_ticks < v->own_ask_ticks))
            v->own_ask_ticks = o->price_ticks;
    }
}

static oc_risk_view view_of(oc_engine *e, uint32_t instrument, const oc_risk_order *order)
{
    const market_state *m = &e->market[instrument];
    const oc_engine_totals *t = &e->totals;
    oc_risk_view view = {
        .now_ns = e->now_ns,
        .quote_ns = m->quote_ns,
        .bid_ticks = m->bid_ticks,
        .ask_ticks = m->ask_ticks,
        .position_lots = m->position.lots,
        .open_buy_lots = m->open_buy_lots,
        .open_sell_lots = m->open_sell_lots,
        .exposure_micros = m->exposure_micros,
        .exposure_total_micros = t->exposure_micros,
        .equity_micros = t->equity_micros,
        .day_micros = t->day_micros,
        .peak_micros = t->peak_micros,
        .token_ns = tokens_now(e),
        .open_orders = e->order_count,
        .state = t->state,
        .quote_known = m->quote_known,
        .killed = t->killed,
        .connected = t->connected,
        .duplicate = duplicate(e, instrument, order),
    };
    if (m->open_buy_lots + m->open_sell_lots > 0) own_best(e, instrument, &view);
    return view;
}

bool oc_run_register_new(engine_run *r, const oc_action *a)
{
    oc_engine *e = r->e;
    if (e->order_count == OC_ENGINE_ORDERS_MAX || a->instrument >= e->markets || a->lots <= 0) return false;
    bool rests = a->type == OC_ORDER_LIMIT || a->type == OC_ORDER_POST;
    int64_t until = INT64_MAX;
    if (!rests || !oc_money_add(e->now_ns, e->account.policy.lifetime_ns, &until)) until = INT64_MAX;
    oc_open_order *o = &e->order[e->order_count++];
    *o = (oc_open_order){a->order_id, a->price_ticks, a->lots,       0, e->now_ns, until, a->instrument,
                         a->side,     a->type,        OC_ORDER_SENT, 0};
    e->recent[e->recent_at] = (recent_order){e->now_ns, a->price_ticks, a->lots, a->instrument, a->side, a->type, {0}};
    e->recent_at = (e->recent_at + 1) % RECENT_MAX;
    e->totals.orders++;
    tokens_take(e);
    *open_lots(e, o) += a->lots;
    oc_portfolio_value(r, a->instrument);
    return true;
}

/* An alert only where the reason is another one than the last: a refused order is asked for again at every event. */
void oc_run_refuse(engine_run *r, uint32_t instrument, oc_risk_finding finding)
{
    market_state *m = &r->e->market[instrument];
    r->e->totals.refusals++;
    if (m->refusal == (uint32_t)finding.reason) return;
    m->refusal = (uint32_t)finding.reason;
    oc_run_alert(r, finding.reason, instrument, 0, finding.value, finding.limit);
}

bool oc_run_place(engine_run *r, uint32_t instrument, oc_risk_order order, oc_reason reason)
{
    oc_engine *e = r->e;
    if (r->absorbing) return false;
    oc_risk_view view = view_of(e, instrument, &order);
    oc_risk_finding finding = oc_risk_check(&e->account.risk, &e->market[instrument].config.risk, &view, &order);
    if (finding.reason != OC_REASON_NONE) {
        oc_run_refuse(r, instrument, finding);
        return false;
    }
    uint8_t index = (uint8_t)r->count;
    oc_action *a = action_add(r, OC_ACTION_NEW, reason, instrument);
    if (!a) return false;
    e->market[instrument].refusal = OC_REASON_NONE;
    a->order_id = oc_order_id((uint16_t)e->totals.epoch, r->input->sequence, index);
    a->side = order.side;
    a->type = order.type;
    a->price_ticks = order.price_ticks;
    a->lots = order.lots;
    oc_action made = *a;
    (void)oc_run_register_new(r, &made); /* room: the open-orders row is below OC_ENGINE_ORDERS_MAX */
    int64_t until = e->order[e->order_count - 1].until_ns;
    oc_run_timer(r, until);
    return true;
}
