/* tally.c - see tally.h. */
#include "trade/tally.h"

#include <math.h>
#include <string.h>

static const double year_ns = 365.0 * 86400e9;

void oc_tally_open(oc_tally *t, const oc_tally_setup *setup)
{
    memset(t, 0, sizeof *t);
    t->interval_ns = setup->interval_ns;
    t->taker_ppm = setup->taker_ppm;
    t->bar_half_spread_ticks = setup->bar_half_spread_ticks;
    t->markets = setup->engine->markets;
    for (uint32_t i = 0; i < t->markets; i++) {
        oc_money_scale s = setup->engine->market[i].risk.scale;
        t->market[i].scale = s;
        t->market[i].micros = (double)s.numerator / (double)s.denominator;
        t->market[i].hold_lots = setup->engine->market[i].target_lots;
    }
}

/* ---- fills: round trips and costs ---- */

static const oc_tally_order *order_find(const oc_tally *t, uint64_t id)
{
    for (size_t i = 0; i < OC_ENGINE_ORDERS_MAX; i++) {
        if (id && t->order[i].id == id) return &t->order[i];
    }
    return NULL;
}

/* A fill of an order that we do not know (a venue's invention) has no cost that could be told. */
static void cost_add(oc_tally *t, const oc_venue_message *fill)
{
    const oc_tally_order *o = order_find(t, fill->order_id);
    if (!o) return;
    double value = (double)fill->lots * t->market[fill->instrument].micros;
    double worse = (fill->side == OC_SIDE_BUY ? 1 : -1) * ((double)fill->price_ticks - o->mid_ticks);
    double spread = fill->maker ? worse : o->half_ticks;
    t->spread_micros += spread * value;
    t->slippage_micros += (worse - spread) * value;
}

static void trip_end(oc_tally *t, oc_tally_market *m)
{
    t->trades++;
    t->wins += m->trip_micros > 0;
    *(m->trip_micros > 0 ? &t->gains_micros : &t->losses_micros) += fabs(m->trip_micros);
    m->trip_micros = 0;
}

/* What a round trip earns is what was paid and got, fees and all, until nothing is held; a fill beyond that begins the
 * next with its share. No average price is needed, and none is rounded. */
void oc_tally_fill(oc_tally *t, const oc_position *before, const oc_venue_message *fill)
{
    oc_tally_market *m = &t->market[fill->instrument];
    double lots = (double)fill->lots, held = fabs((double)before->lots);
    double paid = (double)fill->price_ticks * m->micros * (fill->side == OC_SIDE_BUY ? 1 : -1);
    double a_lot = paid + (double)fill->fee_micros / lots;
    t->turnover_micros += fabs(paid) * lots;
    bool against = before->lots != 0 && (before->lots > 0) != (fill->side == OC_SIDE_BUY);
    double closed = against ? (lots < held ? lots : held) : 0;
    m->trip_micros -= closed * a_lot;
    if (against && lots >= held) trip_end(t, m);
    m->trip_micros -= (lots - closed) * a_lot;
}

static bool order_open(const oc_engine *e, uint64_t id)
{
    for (uint32_t i = 0; i < oc_engine_order_count(e); i++) {
        if (oc_engine_order(e, i)->id == id) return true;
    }
    return false;
}

/* As many places as an engine has open orders, so one that is no longer open is always found, nearly always at once. */
static void order_note(oc_tally *t, const oc_engine *e, const oc_action *a)
{
    const oc_tally_market *m = &t->market[a->instrument];
    for (size_t tries = 0; tries < OC_ENGINE_ORDERS_MAX; tries++) {
        oc_tally_order *o = &t->order[t->order_at++ % OC_ENGINE_ORDERS_MAX];
        if (o->id && order_open(e, o->id)) continue;
        *o = (oc_tally_order){a->order_id, ((double)m->bid_ticks + (double)m->ask_ticks) / 2,
                              ((double)m->ask_ticks - (double)m->bid_ticks) / 2 + (double)m->beyond_ticks};
        return;
    }
}

/* ---- the market: buy and hold ---- */

static void quote_take(oc_tally *t, oc_tally_market *m, int64_t bid, int64_t ask, int64_t beyond)
{
    bool first = m->ask_ticks == 0;
    if (!(bid >= 1 && bid <= ask && ask <= OC_TRADE_PRICE_MAX)) return;
    int64_t paid = ask + beyond;
    double mid = ((double)bid + (double)ask) / 2, lots = (double)m->hold_lots * m->micros;
    if (first) {
        t->capital_micros += mid * lots;
        t->hold_micros += (mid - (double)paid) * lots;
        t->hold_micros -= (double)oc_money_fee(paid, m->hold_lots, m->scale, t->taker_ppm);
    } else {
        t->hold_micros += (mid - ((double)m->bid_ticks + (double)m->ask_ticks) / 2) * lots;
    }
    m->bid_ticks = bid;
    m->ask_ticks = ask;
    m->beyond_ticks = beyond;
}

static void market_take(oc_tally *t, const oc_event *event)
{
    oc_tally_market *m = event->instrument < t->markets ? &t->market[event->instrument] : NULL;
    if (m && event->kind == OC_EVENT_QUOTE) quote_take(t, m, event->as.quote.bid_ticks, event->as.quote.ask_ticks, 0);
    if (m && event->kind == OC_EVENT_BAR)
        quote_take(t, m, event->as.bar.close_ticks, event->as.bar.close_ticks, t->bar_half_spread_ticks);
}

/* ---- time and equity ---- */

/* Intervals in which nothing came changed nothing; they count. */
static void interval_end(oc_tally *t, int64_t slot)
{
    double change = (double)(t->equity_micros - t->slot_micros);
    t->sum += change;
    t->squares += change * change;
    if (change < 0) t->squares_down += change * change;
    t->intervals += (uint64_t)(slot - t->slot);
    t->slot = slot;
    t->slot_micros = t->equity_micros;
}

void oc_tally_equity(oc_tally *t, int64_t now_ns, int64_t equity_micros)
{
    int64_t slot = now_ns / t->interval_ns;
    if (!t->begun) {
        t->slot = slot;
        t->first_ns = t->now_ns = now_ns;
    }
    t->begun = true;
    if (slot > t->slot) interval_end(t, slot);
    if (t->held > 0) t->held_ns += now_ns - t->now_ns;
    t->now_ns = now_ns;
    t->equity_micros = equity_micros;
    if (equity_micros > t->peak_micros) t->peak_micros = equity_micros;
    int64_t fall = t->peak_micros - equity_micros;
    if (fall > t->drawdown_micros) t->drawdown_micros = fall;
    oc_curve_add(&t->curve, now_ns, (oc_curve_point){equity_micros, (int64_t)floor(t->hold_micros), fall});
}

oc_tally_mark oc_tally_before(const oc_engine *e, const oc_input *input)
{
    if (input->kind != OC_INPUT_VENUE || input->as.venue.kind != OC_VENUE_FILL) return (oc_tally_mark){0};
    oc_tally_mark mark = {.fills = oc_engine_totals_of(e).fills};
    uint32_t instrument = input->as.venue.instrument; /* the venue's word: the engine has not looked at it yet */
    if (instrument < oc_engine_markets(e)) mark.position = oc_engine_position(e, instrument);
    return mark;
}

/* A fill counts where the engine has booked it. */
static void fill_take(oc_tally *t, const oc_engine *e, const oc_venue_message *fill, const oc_tally_mark *mark,
                      uint64_t fills)
{
    if (fill->kind != OC_VENUE_FILL || fills == mark->fills) return;
    bool held = oc_engine_position(e, fill->instrument).lots != 0, before = t->market[fill->instrument].held;
    oc_tally_fill(t, &mark->position, fill);
    cost_add(t, fill);
    t->market[fill->instrument].held = held;
    t->held = t->held + held - before;
}

void oc_tally_after(oc_tally *t, const oc_engine *e, const oc_input *input, const oc_tally_mark *mark,
                    const oc_action *actions, size_t count)
{
    if (input->kind == OC_INPUT_MARKET) market_take(t, &input->as.market);
    if (input->kind == OC_INPUT_MARKET || input->kind == OC_INPUT_VENUE) {
        oc_engine_totals totals = oc_engine_totals_of(e);
        oc_tally_equity(t, oc_engine_time(e), totals.equity_micros);
        if (input->kind == OC_INPUT_VENUE) fill_take(t, e, &input->as.venue, mark, totals.fills);
    }
    for (size_t i = 0; i < count; i++) {
        if (actions[i].kind == OC_ACTION_NEW) order_note(t, e, &actions[i]);
    }
}

/* ---- the end ---- */

static void position_close(oc_tally *t, uint32_t instrument, const oc_position *p)
{
    oc_tally_market *m = &t->market[instrument];
    int64_t lots = p->lots, at_mid, at_price;
    int64_t price = lots > 0 ? m->bid_ticks - m->beyond_ticks : m->ask_ticks + m->beyond_ticks,
            size = lots < 0 ? -lots : lots;
    if (lots == 0) return;
    oc_wide cash = 2 * (oc_wide)p->cash_ticks_lots;
    if (!oc_money_micros(cash + (oc_wide)lots * (m->bid_ticks + m->ask_ticks), m->scale, false, &at_mid) ||
        !oc_money_micros(cash + 2 * (oc_wide)lots * price, m->scale, false, &at_price))
        return; /* the engine has halted on less */
    oc_venue_message fill = {.price_ticks = price,
                             .lots = size,
                             .instrument = instrument,
                             .kind = OC_VENUE_FILL,
                             .fee_micros = oc_money_fee(price, size, m->scale, t->taker_ppm),
                             .side = lots > 0 ? OC_SIDE_SELL : OC_SIDE_BUY};
    oc_tally_fill(t, p, &fill);
    t->closing_spread_micros += at_mid - at_price;
    t->closing_fee_micros += fill.fee_micros;
    t->spread_micros += (double)(at_mid - at_price);
    t->closed_at_end++;
}

static void hold_close(oc_tally *t, const oc_tally_market *m)
{
    int64_t price = m->bid_ticks - m->beyond_ticks;
    double mid = ((double)m->bid_ticks + (double)m->ask_ticks) / 2;
    if (m->ask_ticks == 0) return;
    t->hold_micros -= (mid - (double)price) * (double)m->hold_lots * m->micros;
    t->hold_micros -= (double)oc_money_fee(price, m->hold_lots, m->scale, t->taker_ppm);
}

void oc_tally_finish(oc_tally *t, const oc_engine *e)
{
    for (uint32_t i = 0; i < t->markets; i++) {
        oc_position p = oc_engine_position(e, i);
        hold_close(t, &t->market[i]);
        position_close(t, i, &p);
    }
    if (t->begun) oc_tally_equity(t, t->now_ns, t->equity_micros - t->closing_spread_micros - t->closing_fee_micros);
}

/* ---- figures ---- */

static double yearly(const oc_tally *t, double variance)
{
    if (t->intervals < 2 || !(variance > 0)) return (double)NAN;
    return t->sum / (double)t->intervals / sqrt(variance) * sqrt(year_ns / (double)t->interval_ns);
}

double oc_tally_sharpe(const oc_tally *t)
{
    double n = (double)t->intervals;
    return yearly(t, (t->squares - t->sum * t->sum / n) / (n - 1));
}

double oc_tally_sortino(const oc_tally *t)
{
    return yearly(t, t->squares_down / (double)t->intervals);
}

double oc_tally_calmar(const oc_tally *t)
{
    double years = (double)(t->now_ns - t->first_ns) / year_ns;
    if (t->intervals < 2 || !(years > 0 && t->drawdown_micros > 0)) return (double)NAN;
    return (double)t->equity_micros / years / (double)t->drawdown_micros;
}

double oc_tally_win_rate(const oc_tally *t)
{
    return t->trades ? (double)t->wins / (double)t->trades : (double)NAN;
}

double oc_tally_profit_factor(const oc_tally *t)
{
    return t->losses_micros > 0 ? t->gains_micros / t->losses_micros : (double)NAN;
}

double oc_tally_mean_trade(const oc_tally *t)
{
    return t->trades ? (t->gains_micros - t->losses_micros) / (double)t->trades : (double)NAN;
}

double oc_tally_time_in_market(const oc_tally *t)
{
    return t->now_ns > t->first_ns ? (double)t->held_ns / (double)(t->now_ns - t->first_ns) : (double)NAN;
}
