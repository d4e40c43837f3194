/* engine.c - one input, checked, handed to its kind's handler; operator commands; recorded decisions taken over. */
#include "trade/engine.h"

#include <assert.h>
#include <string.h>

#include "trade/engine_internal.h"

/* ---- operator ---- */

static void recover(engine_run *r)
{
    oc_engine *e = r->e;
    int64_t epoch = r->input->as.command.value;
    if (!(epoch > (int64_t)e->totals.epoch && epoch <= UINT16_MAX)) {
        oc_run_escalate(r, OC_TRADING_HALTED, OC_REASON_RECOVERY, epoch, e->totals.epoch);
        return;
    }
    e->totals.epoch = (uint32_t)epoch;
    e->totals.connected = false;
    for (uint32_t i = 0; i < e->order_count; i++) {
        if (e->order[i].state == OC_ORDER_SENT) e->order[i].state = OC_ORDER_SENT_UNKNOWN;
        e->order[i].cancelling = 0;
    }
    for (uint32_t i = 0; i < e->markets; i++) e->market[i].quote_known = 0;
    e->timer_set = 0;
    oc_run_timer_next(r);
}

static void rearm(engine_run *r)
{
    oc_engine_totals *t = &r->e->totals;
    t->state = OC_TRADING_ACTIVE;
    t->killed = false;
    t->day_micros = t->equity_micros;
    t->peak_micros = t->equity_micros;
    oc_run_alert(r, OC_REASON_OPERATOR, 0, 0, OC_OPERATOR_REARM, 0);
}

/* A person is always answered, also where the state is that or more already; and what a halt could not cancel then, it
 * cancels now. */
static void obey(engine_run *r, oc_trading_state state, oc_reason reason, int64_t value)
{
    if ((uint32_t)state > r->e->totals.state) {
        oc_run_escalate(r, state, reason, value, 0);
        return;
    }
    oc_run_alert(r, reason, 0, 0, value, r->e->totals.state);
    if (state == OC_TRADING_HALTED) oc_run_cancel_all(r, UINT32_MAX, reason);
}

static void flatten(engine_run *r)
{
    obey(r, OC_TRADING_REDUCING, OC_REASON_OPERATOR, OC_OPERATOR_FLATTEN);
    for (uint32_t i = 0; i < r->e->markets; i++) {
        market_state *m = &r->e->market[i];
        m->position.target_lots = 0;
        m->confidence = 1;
        m->target_reason = OC_REASON_OPERATOR;
        m->targeted = 1;
        m->exiting = m->position.lots != 0; /* and again at every quote until it is gone */
        oc_run_pursue(r, i);
    }
}

static void operate(engine_run *r)
{
    oc_engine *e = r->e;
    const oc_operator_command *c = &r->input->as.command;
    switch (c->kind) {
    case OC_OPERATOR_KILL:
        e->totals.killed = true;
        obey(r, OC_TRADING_HALTED, OC_REASON_KILL, 1);
        break;
    case OC_OPERATOR_HALT:
        obey(r, OC_TRADING_HALTED, OC_REASON_OPERATOR, c->kind);
        break;
    case OC_OPERATOR_REDUCE:
        obey(r, OC_TRADING_REDUCING, OC_REASON_OPERATOR, c->kind);
        break;
    case OC_OPERATOR_FLATTEN:
        flatten(r);
        break;
    case OC_OPERATOR_REARM:
        rearm(r);
        break;
    case OC_OPERATOR_RECOVER:
        recover(r);
        break;
    default:
        e->totals.bad_inputs++;
        oc_run_alert(r, OC_REASON_INPUT_KIND, 0, 0, c->kind, 0);
    }
}

/* ---- the way in ---- */

static void reduce_or_say(engine_run *r, oc_reason reason, int64_t time_ns)
{
    if (r->e->totals.state == OC_TRADING_ACTIVE)
        oc_run_escalate(r, OC_TRADING_REDUCING, reason, time_ns, r->e->now_ns);
    else
        oc_run_alert(r, reason, 0, 0, time_ns, r->e->now_ns);
}

/* A clock that is wrong must neither open anything nor put the exits to sleep: reducing is latched (halted would send
 * no exit), and what the market, the venue and people say takes place now, at our time. One leap ahead may be a glitch;
 * where the next input leaps as well, time has gone on: a gap, and it is believed. What is no time at all says nothing.
 */
static bool time_accept(engine_run *r)
{
    oc_engine *e = r->e;
    const oc_input *in = r->input;
    bool sane = in->time_ns >= 0 && in->time_ns <= INT64_MAX / 2;
    bool ahead = sane && e->day_known && in->time_ns - e->now_ns > e->account.leap_ns;
    bool market = in->kind == OC_INPUT_MARKET, twice = ahead && e->leapt;
    if (sane && in->time_ns >= e->now_ns && (!ahead || twice)) {
        if (twice) oc_run_alert(r, OC_REASON_TIME_LEAP, 0, 0, in->time_ns, e->now_ns);
        e->now_ns = in->time_ns;
        e->leapt = 0;
        return true;
    }
    e->totals.bad_inputs++;
    e->leapt = ahead;
    if (ahead || (sane && market))
        reduce_or_say(r, ahead ? OC_REASON_TIME_LEAP : OC_REASON_TIME, in->time_ns);
    else
        oc_run_alert(r, OC_REASON_TIME, 0, 0, in->time_ns, e->now_ns);
    return in->kind == OC_INPUT_VENUE || in->kind == OC_INPUT_OPERATOR || (sane && market);
}

static bool sequence_accept(engine_run *r)
{
    oc_engine *e = r->e;
    uint64_t given = r->input->sequence, next = e->next_sequence;
    if (given < next || given > OC_ORDER_SEQUENCE_MAX) {
        e->totals.bad_inputs++;
        oc_reason reason = given < next ? OC_REASON_INPUT_REPEATED : OC_REASON_INPUT_GAP;
        oc_run_alert(r, reason, 0, 0, (int64_t)given, (int64_t)next);
        return false;
    }
    e->next_sequence = given + 1;
    if (given == next) return true;
    e->totals.bad_inputs++;
    oc_run_escalate(r, OC_TRADING_HALTED, OC_REASON_INPUT_GAP, (int64_t)given, (int64_t)next);
    return true;
}

static void (*const handlers[OC_INPUT_KIND_END])(engine_run *) = {
    [OC_INPUT_MARKET] = oc_run_market, [OC_INPUT_PREDICTION] = oc_run_prediction, [OC_INPUT_VENUE] = oc_run_venue,
    [OC_INPUT_OPERATOR] = operate,     [OC_INPUT_TIMER] = oc_run_timer_due,
};

static void input_take(engine_run *r)
{
    oc_engine *e = r->e;
    e->totals.inputs++;
    if (!sequence_accept(r) || !time_accept(r)) return;
    oc_portfolio_day(r);
    void (*handle)(engine_run *) = r->input->kind < OC_INPUT_KIND_END ? handlers[r->input->kind] : NULL;
    if (handle) {
        handle(r);
    } else {
        e->totals.bad_inputs++;
        oc_run_alert(r, OC_REASON_INPUT_KIND, 0, 0, r->input->kind, 0);
    }
}

oc_status oc_engine_apply(oc_engine *e, const oc_input *input, oc_action *actions, size_t cap, size_t *count)
{
    *count = 0;
    if (cap < OC_ACTIONS_MAX)
        return OC_FAIL(OC_ELIMIT, "engine: room for %zu actions, %d are needed", cap, OC_ACTIONS_MAX);
    engine_run r = {e, input, actions, 0, false};
    input_take(&r);
    *count = r.count;
    return OC_OK;
}

/* ---- recorded decisions ---- */

static bool order_sane(const oc_action *a)
{
    return (a->side == OC_SIDE_BUY || a->side == OC_SIDE_SELL) && a->type >= OC_ORDER_MARKET &&
           a->type < OC_ORDER_TYPE_END && a->lots >= 1 && a->lots <= OC_TRADE_LOTS_MAX && a->price_ticks >= 1 &&
           a->price_ticks <= OC_TRADE_PRICE_MAX;
}

/* The state only rises here as well: what this build halts for, a recorded action does not take back. */
static oc_status absorb_action(engine_run *r, const oc_action *a, size_t index)
{
    oc_engine *e = r->e;
    unsigned long long sequence = r->input->sequence;
    oc_open_order *o = a->kind == OC_ACTION_CANCEL ? oc_run_find(e, a->order_id) : NULL;
    if (a->kind == 0 || a->kind >= OC_ACTION_KIND_END || a->state > OC_TRADING_HALTED)
        return OC_FAIL(OC_EDATA, "input %llu: action %zu of kind %u is no action", sequence, index, a->kind);
    if (a->kind == OC_ACTION_NEW) {
        uint64_t id = oc_order_id((uint16_t)e->totals.epoch, r->input->sequence, (uint8_t)index);
        if (a->order_id != id || !order_sane(a) || oc_run_find(e, id) || !oc_run_register_new(r, a))
            return OC_FAIL(OC_EDATA, "input %llu: action %zu is not an order of this input", sequence, index);
    }
    if (a->kind == OC_ACTION_CANCEL) {
        if (!o) return OC_FAIL(OC_EDATA, "input %llu: action %zu cancels an order that is not open", sequence, index);
        oc_run_register_cancel(r, o);
    }
    if (a->kind == OC_ACTION_QUERY && a->reason == OC_REASON_ANSWER_LATE && (o = oc_run_find(e, a->order_id)) != NULL)
        o->state = OC_ORDER_SENT_UNKNOWN;
    if (a->kind == OC_ACTION_TIMER) {
        if (a->at_ns < 0) return OC_FAIL(OC_EDATA, "input %llu: action %zu asks for a time below 0", sequence, index);
        e->timer_ns = a->at_ns;
        e->timer_set = 1;
    }
    if (a->state > e->totals.state) e->totals.state = a->state;
    return OC_OK;
}

oc_status oc_engine_absorb(oc_engine *e, const oc_input *input, const oc_action *actions, size_t count)
{
    engine_run r = {e, input, NULL, 0, true};
    if (count > OC_ACTIONS_MAX)
        return OC_FAIL(OC_EDATA, "input %llu: %zu actions, at most %d", (unsigned long long)input->sequence, count,
                       OC_ACTIONS_MAX);
    input_take(&r);
    for (size_t i = 0; i < count; i++) OC_TRY(absorb_action(&r, &actions[i], i));
    return OC_OK;
}
