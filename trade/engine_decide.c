/* engine_decide.c - market, predictions and time: from what is known to a wanted position, and from there to orders. */
#include "trade/engine_internal.h"

static bool price_good(int64_t ticks)
{
    return ticks >= 1 && ticks <= OC_TRADE_PRICE_MAX;
}

/* ---- orders towards the target ---- */

static const int64_t answer_late_ns = INT64_C(5000000000); /* an order without an answer is asked for */

/* Leaving is worth the market's price; whatever opens has the configured type, a fallback's position too. */
static bool leaves_at_market(const market_state *m)
{
    uint32_t reason = m->target_reason;
    return reason == OC_REASON_STOP || reason == OC_REASON_TAKE_PROFIT || reason == OC_REASON_OPERATOR ||
           (reason == OC_REASON_FALLBACK && m->position.target_lots == 0);
}

static int64_t round_to(int64_t price, int64_t step, bool up)
{
    int64_t rest = price % step;
    if (rest < 0) rest += step;
    return rest == 0 ? price : up ? price - rest + step : price - rest;
}

/* Limit prices are rounded away from the market: never a better price for the other side than was meant. */
static int64_t limit_price(const market_state *m, bool buy, int64_t offset_ticks)
{
    int64_t price = buy ? m->bid_ticks + offset_ticks : m->ask_ticks - offset_ticks;
    return round_to(price, m->config.risk.order_tick_ticks, !buy);
}

/* "At the market" leaves as an IOC order at the collar's edge: however thin the book behind the touch is, no fill is
 * worse than the price that the gate has seen. Rounded into the collar. Where not even the touch lies within, the
 * touch: the gate refuses it by its name. */
static int64_t edge_price(const market_state *m, bool buy)
{
    const oc_risk_instrument *risk = &m->config.risk;
    oc_wide reference = (oc_wide)m->bid_ticks + m->ask_ticks, unit = 20000;
    int64_t step = risk->order_tick_ticks, touch = round_to(buy ? m->ask_ticks : m->bid_ticks, step, buy);
    oc_wide edge = buy ? reference * (10000 + risk->collar_bps) / unit
                       : -oc_money_floor(-reference * (10000 - risk->collar_bps), unit);
    if (reference == 0) return 0; /* no quote yet */
    if (edge > OC_TRADE_PRICE_MAX) edge = OC_TRADE_PRICE_MAX;
    if (edge < 1) edge = 1;
    int64_t price = round_to((int64_t)edge, step, !buy);
    return buy ? (price > touch ? price : touch) : (price < touch ? price : touch);
}

/* The prediction behind the target is too old to open anything by: the rest of a slice, or what a lifetime brought
 * back. */
static bool signal_old(const oc_engine *e, const market_state *m)
{
    const oc_policy_config *c = &e->account.policy;
    int64_t age;
    if (c->kind != OC_POLICY_MODEL || m->target_reason != OC_REASON_SIGNAL) return false;
    return !(oc_money_subtract(e->now_ns, m->predicted_ns, &age) && age <= c->fallback_after_ns);
}

/* How many lots may go at once: not more than one order's limit; while reducing, or by an old signal, not past zero. */
static int64_t slice(const oc_engine *e, const market_state *m, int64_t wanted)
{
    int64_t lots = wanted < 0 ? -wanted : wanted, held = m->position.lots;
    if (lots > m->config.risk.order_lots_max) lots = m->config.risk.order_lots_max;
    if (e->totals.state != OC_TRADING_REDUCING && !signal_old(e, m)) return lots;
    bool against = held != 0 && (held > 0) != (wanted > 0);
    int64_t most = against ? (held < 0 ? -held : held) : 0;
    return lots < most ? lots : most;
}

/* The order at work is what would be sent now, or the rest of a full slice; the price apart: that waits for its
 * lifetime. */
static bool order_fits(const oc_open_order *o, uint8_t side, uint8_t type, int64_t lots, int64_t lots_max)
{
    int64_t left = o->lots - o->filled_lots;
    return o->side == side && o->type == type && (left == lots || (left < lots && o->lots == lots_max));
}

/* What is at work and is not what is wanted is cancelled; what has had no answer for long is asked for, because it may
 * stand in the way of an exit. False where nothing is at work. */
static bool orders_at_work(engine_run *r, uint32_t instrument, uint8_t side, uint8_t type, int64_t lots)
{
    oc_engine *e = r->e;
    bool any = false;
    for (uint32_t i = 0; i < e->order_count; i++) {
        oc_open_order *o = &e->order[i];
        if (o->instrument != instrument) continue;
        any = true;
        if (o->state == OC_ORDER_SENT && e->totals.connected && e->now_ns - o->sent_ns >= answer_late_ns) {
            o->state = OC_ORDER_SENT_UNKNOWN;
            oc_run_query(r, o->id, OC_REASON_ANSWER_LATE);
        }
        bool fits = order_fits(o, side, type, lots, e->market[instrument].config.risk.order_lots_max);
        if (o->state != OC_ORDER_SENT_UNKNOWN && !fits) oc_run_cancel(r, o, OC_REASON_REPLACED);
    }
    return any;
}

void oc_run_pursue(engine_run *r, uint32_t instrument)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    if (!m->targeted || r->absorbing || e->totals.state == OC_TRADING_HALTED) return;
    int64_t wanted;
    if (!oc_money_subtract(m->position.target_lots, m->position.lots, &wanted) || wanted == INT64_MIN) return;
    int64_t lots = slice(e, m, wanted);
    uint8_t side = wanted > 0 ? OC_SIDE_BUY : OC_SIDE_SELL;
    bool at_market = leaves_at_market(m) || e->account.policy.order_type == OC_ORDER_MARKET;
    uint8_t type = at_market ? OC_ORDER_IOC : (uint8_t)e->account.policy.order_type;
    if (orders_at_work(r, instrument, side, type, lots)) return;
    if (lots == 0) {
        if (wanted != 0 && signal_old(e, m))
            oc_run_refuse(r, instrument,
                          (oc_risk_finding){OC_REASON_PREDICTION_STALE, e->now_ns - m->predicted_ns,
                                            e->account.policy.fallback_after_ns});
        return;
    }
    bool buy = side == OC_SIDE_BUY;
    int64_t price = at_market ? edge_price(m, buy) : limit_price(m, buy, e->account.policy.offset_ticks);
    (void)oc_run_place(r, instrument, (oc_risk_order){m->confidence, price, lots, side, type},
                       (oc_reason)m->target_reason);
}

static bool orders_unknown(oc_engine *e, uint32_t instrument)
{
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->order[i].instrument == instrument && e->order[i].state == OC_ORDER_SENT_UNKNOWN) return true;
    }
    return false;
}

static void quotes_place(engine_run *r, uint32_t instrument)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    const oc_policy_config *c = &e->account.policy;
    if (orders_unknown(e, instrument)) return;
    oc_run_cancel_all(r, instrument, OC_REASON_REPLACED);
    oc_risk_order bid = {1, limit_price(m, true, c->offset_ticks), c->quote_lots, OC_SIDE_BUY, OC_ORDER_POST};
    oc_risk_order ask = {1, limit_price(m, false, c->offset_ticks), c->quote_lots, OC_SIDE_SELL, OC_ORDER_POST};
    if (m->position.lots < c->quote_position_lots) (void)oc_run_place(r, instrument, bid, OC_REASON_QUOTE);
    if (m->position.lots > -c->quote_position_lots) (void)oc_run_place(r, instrument, ask, OC_REASON_QUOTE);
}

/* Beside an exit and until it has cooled down nothing is quoted. Afterwards the exit's target is over: what quotes
 * bring in is not to be closed by it. While reducing it stays, since it may be a person's. */
static void quotes_decide(engine_run *r, uint32_t instrument, bool cooling)
{
    market_state *m = &r->e->market[instrument];
    if (cooling) {
        if (!m->exiting) oc_run_cancel_all(r, instrument, (oc_reason)m->target_reason);
        return;
    }
    if (r->e->totals.state == OC_TRADING_ACTIVE) m->targeted = 0;
    if (!r->absorbing) quotes_place(r, instrument);
}

/* ---- decisions ---- */

static void take(engine_run *r, uint32_t instrument, oc_decision d)
{
    market_state *m = &r->e->market[instrument];
    if (d.kind == OC_DECISION_NONE || r->e->totals.state == OC_TRADING_HALTED) return;
    bool cooling = m->exiting || r->e->now_ns < m->cooling_until_ns;
    if (d.kind == OC_DECISION_QUOTE) {
        quotes_decide(r, instrument, cooling);
        return;
    }
    if (cooling && d.target_lots != 0) return;
    m->position.target_lots = d.target_lots;
    m->confidence = d.confidence;
    m->target_reason = (uint32_t)d.reason;
    m->targeted = 1;
    oc_run_pursue(r, instrument);
}

static void decide(engine_run *r, uint32_t instrument, const oc_prediction *prediction, bool sampled, bool quote_due)
{
    market_state *m = &r->e->market[instrument];
    oc_policy_view view = {&r->e->account.policy, &m->cross,    prediction, r->e->now_ns, m->predicted_ns,
                           m->config.target_lots, m->predicted, sampled,    quote_due};
    take(r, instrument, oc_policy_decide(&view));
}

/* Stop and take profit; then again at every event until the position is gone. True while leaving. */
static bool exits(engine_run *r, uint32_t instrument)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    if (m->exiting && m->position.lots == 0) m->exiting = 0;
    if (!m->exiting) {
        oc_reason reason = oc_exit_check(&e->account.policy, m->position.lots, m->position.entry_ticks_lots,
                                         m->bid_ticks + m->ask_ticks);
        if (reason == OC_REASON_NONE) return false;
        m->exiting = 1;
        if (!oc_money_add(e->now_ns, e->account.policy.cooldown_ns, &m->cooling_until_ns))
            m->cooling_until_ns = INT64_MAX;
        m->position.target_lots = 0;
        m->confidence = 1;
        m->target_reason = (uint32_t)reason;
        m->targeted = 1;
    }
    oc_run_pursue(r, instrument);
    return true;
}

/* ---- market ---- */

static bool sample(oc_engine *e, uint32_t instrument, bool bar)
{
    market_state *m = &e->market[instrument];
    const oc_policy_config *c = &e->account.policy;
    int64_t slot = e->now_ns / c->cross_interval_ns;
    if (!bar && m->cross.count > 0 && slot <= m->cross.slot) return false;
    int64_t *ring = (int64_t *)(void *)((unsigned char *)e + e->rings_at) + (size_t)instrument * c->cross_slow;
    oc_cross_add(&m->cross, ring, c, m->bid_ticks + m->ask_ticks);
    m->cross.slot = slot;
    return true;
}

static bool quote_due(engine_run *r, uint32_t instrument)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    const oc_policy_config *c = &e->account.policy;
    if (c->kind != OC_POLICY_QUOTE) return false;
    bool due = m->quoting && e->now_ns >= m->quote_next_ns;
    if (m->quoting && !due) return false;
    m->quoting = 1;
    if (!oc_money_add(e->now_ns / c->quote_interval_ns * c->quote_interval_ns, c->quote_interval_ns, &m->quote_next_ns))
        m->quote_next_ns = INT64_MAX;
    oc_run_timer(r, m->quote_next_ns);
    return due;
}

static void quote_lost(engine_run *r, uint32_t instrument, oc_reason reason, int64_t value)
{
    market_state *m = &r->e->market[instrument];
    if (reason == OC_REASON_PRICE) r->e->totals.bad_inputs++;
    if (m->quote_known || reason == OC_REASON_PRICE) oc_run_alert(r, reason, instrument, 0, value, 0);
    m->quote_known = 0;
}

static void quote_set(engine_run *r, uint32_t instrument, int64_t bid, int64_t ask, bool bar)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    if (!(price_good(bid) && price_good(ask) && bid <= ask)) {
        quote_lost(r, instrument, OC_REASON_PRICE, price_good(bid) ? ask : bid);
        return;
    }
    bool moved = bid != m->bid_ticks || ask != m->ask_ticks;
    m->bid_ticks = bid;
    m->ask_ticks = ask;
    m->quote_ns = e->now_ns;
    m->quote_known = 1;
    if (moved &&
        (m->position.lots != 0 || m->position.cash_ticks_lots != 0 || m->open_buy_lots + m->open_sell_lots > 0)) {
        oc_portfolio_value(r, instrument);
        oc_portfolio_breakers(r);
    }
    bool sampled = sample(e, instrument, bar), due = quote_due(r, instrument);
    if (!exits(r, instrument)) decide(r, instrument, NULL, sampled, due);
}

void oc_run_market(engine_run *r)
{
    const oc_event *event = &r->input->as.market;
    oc_engine *e = r->e;
    if (event->instrument >= e->markets) {
        e->totals.bad_inputs++;
        oc_run_alert(r, OC_REASON_INSTRUMENT, event->instrument, 0, event->instrument, e->markets);
        return;
    }
    market_state *m = &e->market[event->instrument];
    if (event->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) {
        quote_lost(r, event->instrument, OC_REASON_GAP, event->flags);
        m->cross = (oc_cross){0};
    }
    switch (event->kind) {
    case OC_EVENT_QUOTE:
        quote_set(r, event->instrument, event->as.quote.bid_ticks, event->as.quote.ask_ticks, false);
        break;
    case OC_EVENT_BAR:
        quote_set(r, event->instrument, event->as.bar.close_ticks, event->as.bar.close_ticks, true);
        break;
    case OC_EVENT_TRADE:
        break;
    case OC_EVENT_STATUS:
        quote_lost(r, event->instrument, OC_REASON_GAP, event->as.status.code);
        break;
    default:
        e->totals.bad_inputs++;
        oc_run_alert(r, OC_REASON_INPUT_KIND, event->instrument, 0, event->kind, 0);
    }
}

/* ---- predictions, time ---- */

void oc_run_prediction(engine_run *r)
{
    oc_engine *e = r->e;
    const oc_prediction *p = &r->input->as.prediction;
    if (p->instrument >= e->markets) {
        e->totals.bad_inputs++;
        oc_run_alert(r, OC_REASON_INSTRUMENT, p->instrument, 0, p->instrument, e->markets);
        return;
    }
    market_state *m = &e->market[p->instrument];
    oc_reason reason =
        oc_prediction_check(p, e->now_ns, e->account.policy.prediction_stale_ns, m->sequenced, m->prediction_sequence);
    if (reason != OC_REASON_PREDICTION_ORDER) { /* a refused one is not overtaken by what came before it either */
        m->sequenced = 1;
        m->prediction_sequence = p->sequence;
    }
    if (reason != OC_REASON_NONE) {
        e->totals.bad_inputs++;
        oc_run_alert(r, reason, p->instrument, 0, (int64_t)p->sequence, (int64_t)m->prediction_sequence);
        return;
    }
    m->predicted = 1;
    m->predicted_ns = e->now_ns;
    m->refusal = OC_REASON_NONE; /* a new decision says anew why it was refused */
    if (e->account.policy.kind == OC_POLICY_MODEL) decide(r, p->instrument, p, false, false);
}

static void orders_expire(engine_run *r)
{
    oc_engine *e = r->e;
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->now_ns >= e->order[i].until_ns) oc_run_cancel(r, &e->order[i], OC_REASON_LIFETIME);
    }
}

void oc_run_timer_due(engine_run *r)
{
    oc_engine *e = r->e;
    if (!e->timer_set || e->now_ns < e->timer_ns) return;
    e->timer_set = 0;
    orders_expire(r);
    for (uint32_t i = 0; i < e->markets; i++) {
        if (e->market[i].quoting && quote_due(r, i)) decide(r, i, NULL, false, true);
    }
    oc_run_timer_next(r);
}
