/* portfolio.c - positions and cash, exact; totals over instruments, moved by differences so that an input costs the
 * same for one instrument as for many; the loss breakers. A sum that does not fit halts and leaves the old number. */
#include "trade/engine_internal.h"

static const int64_t day_length_ns = INT64_C(86400000000000);

/* The average cost of what is held: a fill against the position takes its share of the cost out, the rest of a fill
 * beyond zero begins a new one. The share is cut towards zero, in integers: the cash stays exact, whatever it is. */
static bool entry_after(const oc_position *p, int64_t signed_lots, int64_t price_ticks, int64_t *entry)
{
    oc_wide before = p->lots, size = before < 0 ? -before : before;
    oc_wide moved = signed_lots < 0 ? -(oc_wide)signed_lots : signed_lots;
    bool against = (before > 0) != (signed_lots > 0) && before != 0;
    if (!against) return oc_money_narrow((oc_wide)p->entry_ticks_lots + (oc_wide)signed_lots * price_ticks, entry);
    if (moved <= size) return oc_money_narrow(p->entry_ticks_lots - p->entry_ticks_lots * moved / size, entry);
    return oc_money_narrow((before + signed_lots) * price_ticks, entry);
}

bool oc_portfolio_fill(oc_position *p, uint8_t side, int64_t lots, int64_t price_ticks, int64_t fee_micros)
{
    oc_position after = *p;
    int64_t moved = side == OC_SIDE_BUY ? lots : -lots, value;
    bool fits =
        entry_after(p, moved, price_ticks, &after.entry_ticks_lots) && oc_money_multiply(moved, price_ticks, &value) &&
        oc_money_subtract(p->cash_ticks_lots, value, &after.cash_ticks_lots) &&
        oc_money_add(p->lots, moved, &after.lots) && oc_money_add(p->fees_micros, fee_micros, &after.fees_micros);
    if (fits) *p = after;
    return fits;
}

void oc_portfolio_value(engine_run *r, uint32_t instrument)
{
    oc_engine *e = r->e;
    market_state *m = &e->market[instrument];
    oc_money_scale scale = m->config.risk.scale;
    int64_t mark = m->bid_ticks + m->ask_ticks, value, exposure, equity, total;
    oc_wide half = 2 * (oc_wide)m->position.cash_ticks_lots + (oc_wide)m->position.lots * mark;
    bool fits = oc_money_micros(half, scale, false, &value) &&
                oc_money_subtract(value, m->position.value_micros, &equity) &&
                oc_money_add(e->totals.equity_micros, equity, &equity) &&
                oc_risk_exposure(m->position.lots, m->open_buy_lots, m->open_sell_lots, mark, scale, &exposure) &&
                oc_money_subtract(exposure, m->exposure_micros, &total) &&
                oc_money_add(e->totals.exposure_micros, total, &total);
    if (!fits) {
        oc_run_escalate(r, OC_TRADING_HALTED, OC_REASON_OVERFLOW, instrument, 0);
        return;
    }
    m->position.value_micros = value;
    m->exposure_micros = exposure;
    e->totals.equity_micros = equity;
    e->totals.exposure_micros = total;
    if (equity > e->totals.peak_micros) e->totals.peak_micros = equity;
}

void oc_portfolio_day(engine_run *r)
{
    oc_engine *e = r->e;
    int64_t since = e->now_ns - e->account.day_offset_ns; /* both bounded: fits */
    int64_t day = since / day_length_ns - (since % day_length_ns < 0);
    if (e->day_known && day <= e->day) return;
    e->day = day;
    e->day_known = 1;
    e->totals.day_micros = e->totals.equity_micros;
}

static void breaker(engine_run *r, int64_t from_micros, int64_t reduce, int64_t halt, oc_reason reason)
{
    int64_t loss;
    if (!oc_money_subtract(from_micros, r->e->totals.equity_micros, &loss)) loss = INT64_MAX;
    if (!(loss <= halt))
        oc_run_escalate(r, OC_TRADING_HALTED, reason, loss, halt);
    else if (!(loss <= reduce))
        oc_run_escalate(r, OC_TRADING_REDUCING, reason, loss, reduce);
}

void oc_portfolio_breakers(engine_run *r)
{
    const oc_risk_account *risk = &r->e->account.risk;
    const oc_engine_totals *t = &r->e->totals;
    breaker(r, t->day_micros, risk->daily_loss_micros, risk->daily_loss_halt_micros, OC_REASON_DAILY_LOSS);
    breaker(r, t->peak_micros, risk->drawdown_micros, risk->drawdown_halt_micros, OC_REASON_DRAWDOWN);
}
