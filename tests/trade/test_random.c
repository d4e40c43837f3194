/* test_random.c - the engine under random markets, predictions, orders and faults, watched by a bookkeeper of its own
 * that shares no code with it: positions, orders, equity and exposure from scratch after every input, every limit for
 * every order that leaves, the state that the losses ask for, the same actions and state in a replay, and at the end
 * the venue's own account. And the risk gate alone against a second, naive gate on views that lie near the limits.
 * Would catch: a limit passed by one, a sum that drifts, a fill lost or doubled by faults of the line, a latch that
 * lets go by itself, an answer that depends on something outside the inputs. Sequences: 10,000 of 100 steps and
 * 1,000,000 views, with OUTCRY_FULL=1 1,000,000 and 100,000,000; seed by OUTCRY_SEED. Proven by limits and losses that
 * differ by one between engine and bookkeeper, and by a naive gate with a planted fault. */
#include "trade/trade_case.h"

#include <math.h>
#include "base/random.h"
#include "trade/venues/simulated.h"

__extension__ typedef __int128 big;

static uint32_t key;
static uint64_t draws;

static int64_t draw(int64_t bound)
{
    return (int64_t)oc_random_below(key, draws++, (uint64_t)bound);
}

static uint64_t seed_of_run(void)
{
    return getenv("OUTCRY_SEED") ? strtoull(getenv("OUTCRY_SEED"), NULL, 10) : 1;
}

/* ---- the naive gate ---- */

static big up(big half, oc_money_scale s) /* half ticks x lots to micro-units, rounded up; positive */
{
    big over = half * s.numerator, d = 2 * (big)s.denominator;
    return (over + d - 1) / d;
}

static big absolute(big x)
{
    return x < 0 ? -x : x;
}

static oc_reason naive_gate(const oc_risk_account *a, const oc_risk_instrument *m, const oc_risk_view *v,
                            const oc_risk_order *o, int fault)
{
    big mid2 = (big)v->bid_ticks + v->ask_ticks, buys = v->open_buy_lots, sells = v->open_sell_lots,
        pos = v->position_lots;
    bool buy = o->side == OC_SIDE_BUY;
    bool less = o->lots > 0 && (buy ? pos < 0 && buys + o->lots <= -pos : pos > 0 && sells + o->lots <= pos);
    if (v->killed) return OC_REASON_KILL;
    if (!v->connected) return OC_REASON_DISCONNECTED;
    if (v->state == OC_TRADING_HALTED || (v->state == OC_TRADING_REDUCING && !less)) return OC_REASON_STATE;
    if (o->lots <= 0 || o->side < 1 || o->side > 2 || o->type < 2 || o->type > 4) return OC_REASON_MALFORMED;
    if (isnan(o->confidence) || o->confidence < a->confidence_min || o->confidence > 1) return OC_REASON_CONFIDENCE;
    if (o->lots > m->order_lots_max) return OC_REASON_ORDER_SIZE;
    if (o->price_ticks < 1 || o->price_ticks % m->order_tick_ticks) return OC_REASON_ORDER_PRICE;
    if (!v->quote_known || v->bid_ticks < 1 || v->ask_ticks < v->bid_ticks || v->now_ns < v->quote_ns ||
        v->now_ns - v->quote_ns > m->stale_ns)
        return OC_REASON_STALE;
    if (absolute(2 * (big)o->price_ticks - mid2) * 10000 > m->collar_bps * mid2) return OC_REASON_COLLAR;
    if (up(2 * (big)o->price_ticks * o->lots, m->scale) > m->order_micros_max) return OC_REASON_NOTIONAL;
    big after = buy ? pos + buys + o->lots : -(pos - sells - o->lots);
    if (!less && after > m->position_lots_max + (fault == 1)) return OC_REASON_POSITION;
    big worst_buy = absolute(pos + buys + (buy ? o->lots : 0)),
        worst_sell = absolute(pos - sells - (buy ? 0 : o->lots));
    big worst = worst_buy > worst_sell && fault != 2 ? worst_buy : worst_sell;
    big total = (big)v->exposure_total_micros - v->exposure_micros + up(worst * mid2, m->scale);
    if (!less && total > a->exposure_micros_max) return OC_REASON_EXPOSURE;
    if (v->open_orders + 1 > a->open_orders_max) return OC_REASON_OPEN_ORDERS;
    if (v->token_ns < (a->message_reserve + (fault != 3)) * a->message_ns) return OC_REASON_THROTTLE;
    if (v->duplicate) return OC_REASON_DUPLICATE;
    if (buy ? v->own_ask_ticks != 0 && o->price_ticks >= v->own_ask_ticks
            : v->own_bid_ticks != 0 && o->price_ticks <= v->own_bid_ticks)
        return OC_REASON_SELF_TRADE;
    if (!less && v->day_micros - v->equity_micros > a->daily_loss_micros) return OC_REASON_DAILY_LOSS;
    if (!less && v->peak_micros - v->equity_micros > a->drawdown_micros) return OC_REASON_DRAWDOWN;
    return OC_REASON_NONE;
}

/* A value at a limit, one beside it, or far inside. */
static int64_t near(int64_t limit)
{
    switch (draw(4)) {
    case 0:
        return limit;
    case 1:
        return limit + 1;
    case 2:
        return limit - 1;
    default:
        return draw(limit + 1);
    }
}

static bool gates_agree(uint64_t number, int fault, oc_reason *reason)
{
    draws = number * 64;
    const oc_risk_account a = {100000 + draw(5), 500, 900, 700, 900, 10, 50, draw(5), 10, 8, 0.25};
    const oc_risk_instrument m = {{1 + draw(9), 1 + draw(5)}, 1 + draw(2), 40, 30000 + draw(20000), 60, 200, 100};
    const double confidence[] = {0.25, 0.2499, 1, 1.0001, (double)NAN, (double)-INFINITY, 0.5, 0.5, 0.7, 0.9, 1, 1};
    int64_t bid = 500 + draw(500), spread = draw(40) == 0 ? -1 : draw(4);
    oc_risk_view v = {.now_ns = 1000,
                      .quote_ns = 1000 - near(100),
                      .bid_ticks = bid,
                      .ask_ticks = bid + spread,
                      .position_lots = draw(3) ? draw(121) - 60 : near(60),
                      .open_buy_lots = draw(20),
                      .open_sell_lots = draw(20),
                      .exposure_micros = draw(5000),
                      .equity_micros = 10000,
                      .day_micros = 10000 + draw(3) * near(500) / 2,
                      .peak_micros = 10000 + draw(3) * near(700) / 2,
                      .token_ns = near(10 * (a.message_reserve + 1)),
                      .open_orders = near(7),
                      .state = draw(8) ? OC_TRADING_ACTIVE : (uint32_t)draw(3),
                      .quote_known = draw(30) != 0,
                      .killed = draw(50) == 0,
                      .connected = draw(50) != 0,
                      .duplicate = draw(30) == 0,
                      .own_bid_ticks = draw(3) ? 0 : bid - draw(25),
                      .own_ask_ticks = draw(3) ? 0 : bid + draw(25)};
    v.exposure_total_micros = v.exposure_micros + draw(110000);
    oc_risk_order o = {confidence[draw(12)], draw(20) ? bid * 2 / 2 + draw(31) - 15 : draw(3) - 1,
                       draw(20) ? 1 + near(40) / 2 : near(40), draw(40) ? (uint8_t)(1 + draw(2)) : (uint8_t)draw(4),
                       draw(40) ? (uint8_t)(1 + draw(4)) : (uint8_t)draw(6)};
    *reason = oc_risk_check(&a, &m, &v, &o).reason;
    return *reason == naive_gate(&a, &m, &v, &o, fault);
}

static void gate_against_naive_gate(void **state)
{
    (void)state;
    uint64_t count = counts_full() ? 100000000 : 1000000, by_reason[OC_REASON_END] = {0};
    key = oc_random_key(seed_of_run(), OC_RANDOM_TEST, 0, 7);
    oc_reason reason;
    for (uint64_t i = 0; i < count; i++) {
        if (!gates_agree(i, 0, &reason))
            fail_msg("view %llu: the gate says %s", (unsigned long long)i, oc_reason_name(reason));
        by_reason[reason]++;
    }
    for (int row = 0; row < oc_risk_row_count(); row++) assert_true(by_reason[oc_risk_row_reason(row)] > 0);
    printf("%llu views, %llu accepted\n", (unsigned long long)count, (unsigned long long)by_reason[OC_REASON_NONE]);
    assert_true(by_reason[OC_REASON_NONE] > count / 100);
    for (int fault = 1; fault <= 3; fault++) {
        uint64_t i = 0;
        while (i < 1000000 && gates_agree(i, fault, &reason)) i++;
        if (i == 1000000) fail_msg("fault %d of the naive gate was not found", fault);
    }
}

/* ---- the bookkeeper ---- */

enum { STEPS = 100, KEPT = 1024, OPEN_MAX = 128, MARKETS = 2 };

typedef struct kept_order {
    oc_action a;
    int64_t left;
    bool cancelling; /* a cancel went down a line that holds */
} kept_order;

typedef struct world {
    oc_engine_market market[MARKETS];
    oc_engine_config config;
    oc_risk_instrument limit[MARKETS]; /* what the bookkeeper holds them to */
    oc_engine *engine, *second;
    void *memory[2];
    oc_simulated *venue;
    oc_venue line;
    oc_input input[KEPT];
    uint64_t inputs, message_id, prediction, orders, fills, news;
    kept_order open[OPEN_MAX];
    oc_action sent[KEPT];
    int64_t sent_at[KEPT];
    int open_count, sent_count;
    int64_t position[MARKETS], cash[MARKETS], bid[MARKETS], ask[MARKETS], quote_at[MARKETS], now, timer, peak, base;
    big fees;
    bool known[MARKETS], killed, connected, timer_set, broken; /* broken: nothing passes, in either direction */
    int64_t back_at;
    uint32_t state, latched, epoch; /* latched: what the bookkeeper says the state must be */
    uint64_t breaks, reduced, halted;
    int64_t loss_plant;
    oc_hash actions_hash;
    const char *problem;
} world;

static world w;

static void complain(bool holds, const char *problem)
{
    if (!holds && !w.problem) w.problem = problem;
}

static big micros_down(big half, oc_money_scale s)
{
    big over = half * s.numerator, d = 2 * (big)s.denominator;
    return over >= 0 ? over / d : -((-over + d - 1) / d);
}

static big equity_naive(void)
{
    big sum = -w.fees;
    for (int i = 0; i < MARKETS; i++)
        sum += micros_down(2 * (big)w.cash[i] + (big)w.position[i] * (w.bid[i] + w.ask[i]), w.market[i].risk.scale);
    return sum;
}

static void open_lots(int market, big *buys, big *sells)
{
    *buys = *sells = 0;
    for (int i = 0; i < w.open_count; i++) {
        if ((int)w.open[i].a.instrument != market) continue;
        *(w.open[i].a.side == OC_SIDE_BUY ? buys : sells) += w.open[i].left;
    }
}

static big exposure_naive(void)
{
    big sum = 0, buys, sells;
    for (int i = 0; i < MARKETS; i++) {
        open_lots(i, &buys, &sells);
        big a = absolute(w.position[i] + buys), b = absolute(w.position[i] - sells);
        sum += up((a > b ? a : b) * (w.bid[i] + w.ask[i]), w.market[i].risk.scale);
    }
    return sum;
}

static void check_throttle(int64_t now)
{
    const oc_risk_account *a = &w.config.account.risk;
    int count = 1;
    for (int i = w.sent_count - 1; i >= 0; i--) {
        count++;
        complain(count <= a->message_burst - a->message_reserve + (now - w.sent_at[i]) / a->message_ns, "throttle");
    }
}

static void check_new(const oc_action *a)
{
    const oc_risk_account *r = &w.config.account.risk;
    const oc_risk_instrument *m = &w.limit[a->instrument];
    int i = (int)a->instrument;
    big buys, sells, pos = w.position[i], mid2 = (big)w.bid[i] + w.ask[i];
    open_lots(i, &buys, &sells);
    bool buy = a->side == OC_SIDE_BUY, less = buy ? buys + a->lots <= -pos : sells + a->lots <= pos;
    complain(a->state == OC_TRADING_ACTIVE || (a->state == OC_TRADING_REDUCING && less), "an order while it may not");
    complain(!w.killed && w.connected, "an order while killed or not connected");
    complain(a->lots > 0 && a->lots <= m->order_lots_max, "order size");
    complain(a->type != OC_ORDER_MARKET, "an order without a worst price");
    complain(w.known[i] && w.now - w.quote_at[i] <= m->stale_ns, "stale");
    complain(absolute(2 * (big)a->price_ticks - mid2) * 10000 <= m->collar_bps * mid2, "collar");
    complain(up(2 * (big)a->price_ticks * a->lots, m->scale) <= m->order_micros_max, "notional");
    complain(less || (buy ? pos + buys + a->lots : sells - pos + a->lots) <= m->position_lots_max, "position");
    complain(w.open_count < r->open_orders_max, "open orders");
    complain(a->order_id >> 8 == oc_order_id((uint16_t)w.epoch, w.inputs, 0) >> 8, "order id");
    complain(less || w.base - (int64_t)equity_naive() <= r->daily_loss_micros, "daily loss");
    complain(less || w.peak - (int64_t)equity_naive() <= r->drawdown_micros, "drawdown");
    check_throttle(w.now);
    for (int k = 0; k < w.open_count; k++) {
        const kept_order *o = &w.open[k];
        bool other = o->a.instrument == a->instrument && o->a.side != a->side && !o->cancelling;
        complain(!other || (buy ? a->price_ticks < o->a.price_ticks : a->price_ticks > o->a.price_ticks), "self-trade");
    }
    for (int k = 0; k < w.sent_count; k++) {
        const oc_action *s = &w.sent[k];
        bool same = s->instrument == a->instrument && s->side == a->side && s->type == a->type && s->lots == a->lots &&
                    s->price_ticks == a->price_ticks;
        complain(!same || w.now - w.sent_at[k] >= r->duplicate_ns, "duplicate");
    }
    if (w.open_count < OPEN_MAX) w.open[w.open_count++] = (kept_order){*a, a->lots, false};
    complain(less || exposure_naive() <= r->exposure_micros_max, "exposure");
    if (w.sent_count < KEPT) {
        w.sent_at[w.sent_count] = w.now;
        w.sent[w.sent_count++] = *a;
    }
    w.news++;
}

static void cancels_forget(void) /* what was sent down a line that broke may not have arrived */
{
    for (int i = 0; i < w.open_count; i++) w.open[i].cancelling = false;
}

static void keep_message(const oc_venue_message *m)
{
    if (m->kind == OC_VENUE_CONNECTED || m->kind == OC_VENUE_DISCONNECTED) {
        w.connected = m->kind == OC_VENUE_CONNECTED;
        cancels_forget();
    }
    if (m->message_id != w.message_id + 1) return;
    w.message_id++;
    int at = -1;
    for (int i = 0; i < w.open_count; i++)
        if (w.open[i].a.order_id == m->order_id) at = i;
    if (m->kind == OC_VENUE_CANCEL_REJECT && at >= 0) w.open[at].cancelling = false;
    bool gone = m->kind == OC_VENUE_REJECT || m->kind == OC_VENUE_CANCELLED || m->kind == OC_VENUE_NOT_FOUND;
    if (m->kind == OC_VENUE_FILL) {
        int64_t lots = m->side == OC_SIDE_BUY ? m->lots : -m->lots;
        w.position[m->instrument] += lots;
        w.cash[m->instrument] -= lots * m->price_ticks;
        w.fees += m->fee_micros;
        w.fills++;
        complain(at >= 0, "a fill of no order");
        if (at >= 0) w.open[at].left -= m->lots;
        gone = at >= 0 && w.open[at].left == 0;
    }
    if (!gone || at < 0) return;
    memmove(&w.open[at], &w.open[at + 1], (size_t)(--w.open_count - at) * sizeof w.open[0]);
}

static void keep_market(const oc_event *e)
{
    int i = (int)e->instrument;
    int64_t bid = e->as.quote.bid_ticks, ask = e->as.quote.ask_ticks;
    if (i >= MARKETS || e->instrument > INT32_MAX) return;
    if (e->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) w.known[i] = false;
    if (e->kind != OC_EVENT_QUOTE) return;
    w.known[i] = bid >= 1 && ask >= bid && ask <= OC_TRADE_PRICE_MAX;
    if (!w.known[i]) return;
    w.bid[i] = bid, w.ask[i] = ask, w.quote_at[i] = w.now;
}

static void keep_input(const oc_input *in)
{
    if (in->kind == OC_INPUT_MARKET) keep_market(&in->as.market);
    if (in->kind == OC_INPUT_VENUE) keep_message(&in->as.venue);
    if (in->kind == OC_INPUT_TIMER && w.timer_set && w.now >= w.timer) w.timer_set = false;
    if (in->kind != OC_INPUT_OPERATOR) return;
    if (in->as.command.kind == OC_OPERATOR_KILL) w.killed = true;
    if (in->as.command.kind == OC_OPERATOR_REARM) {
        w.killed = false;
        w.state = w.latched = OC_TRADING_ACTIVE;
        w.base = w.peak = (int64_t)equity_naive();
    }
    if (in->as.command.kind == OC_OPERATOR_RECOVER) {
        w.connected = w.timer_set = false;
        cancels_forget();
        w.epoch = (uint32_t)in->as.command.value;
        for (int i = 0; i < MARKETS; i++) w.known[i] = false;
    }
}

static uint32_t asked_state(const oc_input *in)
{
    static const uint32_t states[OC_OPERATOR_KIND_END] = {[OC_OPERATOR_KILL] = OC_TRADING_HALTED,
                                                          [OC_OPERATOR_HALT] = OC_TRADING_HALTED,
                                                          [OC_OPERATOR_REDUCE] = OC_TRADING_REDUCING,
                                                          [OC_OPERATOR_FLATTEN] = OC_TRADING_REDUCING};
    if (in->kind == OC_INPUT_VENUE && in->as.venue.kind == 0) return OC_TRADING_HALTED; /* a message of no kind */
    return in->kind == OC_INPUT_OPERATOR ? states[in->as.command.kind] : OC_TRADING_ACTIVE;
}

static uint32_t loss_state(big loss, int64_t reduce, int64_t halt)
{
    return loss > halt ? OC_TRADING_HALTED : loss > reduce ? OC_TRADING_REDUCING : OC_TRADING_ACTIVE;
}

/* The state that must be: the highest of what an operator said and of what both losses ask for, since the last rearm.
 */
static void keep_state(const oc_input *in)
{
    const oc_risk_account *a = &w.config.account.risk;
    big equity = equity_naive();
    const uint32_t asked[] = {
        asked_state(in), loss_state(w.base - equity, a->daily_loss_micros - w.loss_plant, a->daily_loss_halt_micros),
        loss_state(w.peak - equity, a->drawdown_micros, a->drawdown_halt_micros)};
    uint32_t before = w.latched;
    for (size_t i = 0; i < COUNT(asked); i++)
        if (asked[i] > w.latched) w.latched = asked[i];
    if (in->kind == OC_INPUT_OPERATOR || asked[0] != OC_TRADING_ACTIVE) return;
    w.reduced += before == OC_TRADING_ACTIVE && w.latched == OC_TRADING_REDUCING;
    w.halted += before != OC_TRADING_HALTED && w.latched == OC_TRADING_HALTED;
}

static void check_after(void)
{
    oc_engine_totals t = oc_engine_totals_of(w.engine);
    complain(t.equity_micros == (int64_t)equity_naive(), "equity is not the sum of its parts");
    complain(t.exposure_micros == (int64_t)exposure_naive(), "exposure is not the sum of its parts");
    complain(t.peak_micros == w.peak && t.fees_micros == (int64_t)w.fees, "peak or fees");
    complain(t.message_id == w.message_id && t.killed == w.killed && t.connected == w.connected,
             "message, kill or line");
    complain((int)oc_engine_order_count(w.engine) == w.open_count, "number of open orders");
    for (int i = 0; i < w.open_count && i < (int)oc_engine_order_count(w.engine); i++) {
        const oc_open_order *o = oc_engine_order(w.engine, (uint32_t)i);
        complain(o->id == w.open[i].a.order_id && o->lots - o->filled_lots == w.open[i].left, "an open order");
    }
    for (uint32_t i = 0; i < MARKETS; i++) {
        oc_position p = oc_engine_position(w.engine, i);
        complain(p.lots == w.position[i] && p.cash_ticks_lots == w.cash[i], "a position");
    }
    complain(t.state >= w.state, "a latch let go by itself");
    complain(t.state == w.latched, "a breaker");
    w.state = t.state;
}

static void send(const oc_action *a)
{
    if (a->kind == OC_ACTION_TIMER) {
        w.timer = a->at_ns;
        w.timer_set = true;
    }
    if (!w.broken) must(w.line.send(w.line.context, a, w.now));
}

static void apply(oc_input in)
{
    static oc_action actions[OC_ACTIONS_MAX], again[OC_ACTIONS_MAX];
    size_t count, count_again;
    if (w.inputs == KEPT) return;
    in.time_ns = w.now;
    in.sequence = w.inputs + 1;
    w.input[w.inputs++] = in;
    must(oc_engine_apply(w.engine, &in, actions, OC_ACTIONS_MAX, &count));
    must(oc_engine_apply(w.second, &in, again, OC_ACTIONS_MAX, &count_again));
    complain(count == count_again && memcmp(actions, again, count * sizeof *actions) == 0, "two engines, two answers");
    keep_input(&in);
    if (equity_naive() > w.peak) w.peak = (int64_t)equity_naive();
    keep_state(&in);
    for (size_t i = 0; i < count; i++) {
        if (actions[i].kind == OC_ACTION_NEW) {
            complain((actions[i].order_id & 255) == i, "index in the order id");
            check_new(&actions[i]);
        }
        for (int k = 0; actions[i].kind == OC_ACTION_CANCEL && k < w.open_count; k++)
            if (w.open[k].a.order_id == actions[i].order_id) w.open[k].cancelling = true;
        send(&actions[i]);
    }
    w.actions_hash = oc_hash_pair(w.actions_hash, oc_hash_bytes(actions, count * sizeof *actions));
    check_after();
}

/* ---- what happens ---- */

static void happen_market(int64_t *middle)
{
    int i = (int)draw(MARKETS);
    middle[i] += draw(9) - 4;
    oc_input in = {.kind = OC_INPUT_MARKET};
    in.as.market =
        (oc_event){.receive_ns = w.now, .instrument = (uint32_t)i, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
    in.as.market.as.quote.bid_ticks = middle[i];
    in.as.market.as.quote.ask_ticks = middle[i] + 1 + draw(3);
    in.as.market.as.quote.bid_lots = 1 + draw(30);
    in.as.market.as.quote.ask_lots = 1 + draw(30);
    w.line.market(w.line.context, &in.as.market);
    const int64_t strange[] = {0, -1, INT64_MIN, INT64_MAX, OC_TRADE_PRICE_MAX + 1};
    if (draw(40) == 0) in.as.market.as.quote.bid_ticks = strange[draw(5)];
    if (draw(60) == 0) in.as.market.flags |= OC_EVENT_GAP_BEFORE;
    if (draw(60) == 0) in.as.market.instrument = (uint32_t)draw(4);
    apply(in);
}

static void happen_prediction(void)
{
    float buy = (float)draw(1001) / 1000, sell = (1 - buy) * (float)draw(2);
    oc_prediction p = {
        w.now - draw(3) * 1000, ++w.prediction, (uint32_t)draw(MARKETS), 1, buy, sell, 1 - buy - sell, 0};
    const float strange[] = {NAN, INFINITY, -INFINITY, -0.5f, 2.0f, 1e-40f};
    if (draw(30) == 0) p.buy = strange[draw(6)];
    if (draw(30) == 0) p.sequence -= (uint64_t)draw(4);
    if (draw(30) == 0) p.input_ns = draw(2) ? INT64_MIN : w.now + 1;
    apply((oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
}

/* Due messages; some are lost, some come twice. */
static void happen_venue(bool faults)
{
    oc_venue_message m;
    int64_t at;
    for (int i = 0; i < 64 && w.line.poll(w.line.context, w.now, &m, &at); i++) {
        if (w.broken) continue;
        int64_t luck = faults ? draw(40) : 39;
        if (luck == 0) continue;
        apply((oc_input){.kind = OC_INPUT_VENUE, .as.venue = m});
        if (luck == 1) apply((oc_input){.kind = OC_INPUT_VENUE, .as.venue = m});
    }
}

/* The line breaks: what is on its way to us is lost, and what was sent may be; the engine hears of it first or not
 * until it is connected again. Trading goes on around it. */
static void happen_break(void)
{
    if (!w.connected) return;
    oc_simulated_break(w.venue);
    w.breaks++;
    w.broken = true;
    w.back_at = w.now + draw(9000);
    if (draw(4)) apply((oc_input){.kind = OC_INPUT_VENUE, .as.venue = {.kind = OC_VENUE_DISCONNECTED}});
}

static void happen_reconnect(void)
{
    w.broken = false;
    oc_simulated_break(w.venue); /* what was said meanwhile */
    must(w.line.connect(w.line.context, w.now));
}

static void happen_operator(void)
{
    static const uint32_t kinds[] = {OC_OPERATOR_KILL,  OC_OPERATOR_HALT,  OC_OPERATOR_REDUCE, OC_OPERATOR_FLATTEN,
                                     OC_OPERATOR_REARM, OC_OPERATOR_REARM, OC_OPERATOR_REARM,  OC_OPERATOR_RECOVER};
    uint32_t kind = kinds[draw(8)];
    if (kind == OC_OPERATOR_RECOVER) oc_simulated_break(w.venue);
    apply((oc_input){.kind = OC_INPUT_OPERATOR,
                     .as.command = {kind, 0, kind == OC_OPERATOR_RECOVER ? (int64_t)w.epoch + 1 : 0}});
    if (kind == OC_OPERATOR_RECOVER) happen_reconnect();
}

/* The first engine goes on from its saved state in memory that was something else. */
static void happen_restart(void)
{
    static unsigned char saved[1 << 17];
    size_t bytes;
    must(oc_engine_save(w.engine, saved, sizeof saved, &bytes));
    memset(w.memory[0], 0xAA, oc_engine_bytes(&w.config));
    must(oc_engine_init(&w.engine, w.memory[0], oc_engine_bytes(&w.config), &w.config));
    must(oc_engine_load(w.engine, saved, bytes));
}

static void world_draw(uint64_t number, uint64_t seed, int64_t plant)
{
    void *kept[2] = {w.memory[0], w.memory[1]};
    memset(&w, 0, sizeof w);
    memcpy(w.memory, kept, sizeof kept);
    key = oc_random_key(seed, OC_RANDOM_TEST, number, 8);
    draws = 0;
    oc_engine_account *a = &w.config.account;
    oc_engine_account_default(a);
    a->risk.exposure_micros_max = 20000 + draw(60000);
    a->risk.daily_loss_micros = 1 + draw(draw(2) ? 2000 : 60);
    a->risk.daily_loss_halt_micros = a->risk.daily_loss_micros + draw(draw(2) ? 2000 : 40);
    a->risk.drawdown_micros = 1 + draw(draw(2) ? 2000 : 60);
    a->risk.drawdown_halt_micros = a->risk.drawdown_micros + draw(draw(2) ? 2000 : 40);
    a->risk.message_ns = 1 + draw(3000);
    a->risk.message_burst = 4 + draw(10);
    a->risk.message_reserve = draw(4);
    a->risk.duplicate_ns = draw(3) * 1500;
    a->risk.open_orders_max = 1 + draw(5);
    a->policy.kind = (uint32_t)(draw(3) ? OC_POLICY_MODEL : 1 + draw(2));
    a->policy.fallback = (uint32_t)draw(3);
    a->policy.fallback_after_ns = 20000;
    a->policy.prediction_stale_ns = 1500;
    a->policy.cross_fast = 2, a->policy.cross_slow = 5, a->policy.cross_interval_ns = 1000;
    a->policy.quote_interval_ns = 2000, a->policy.quote_lots = 1 + draw(9), a->policy.quote_position_lots = draw(30);
    a->policy.order_type = (uint32_t)(1 + draw(4));
    a->policy.offset_ticks = draw(3) - 1;
    a->policy.lifetime_ns = 1000 + draw(8000);
    a->policy.stop_bps = draw(2) * (20 + draw(100)), a->policy.take_bps = draw(2) * (20 + draw(100));
    a->policy.cooldown_ns = draw(5000);
    a->policy.short_allowed = (uint8_t)draw(2), a->policy.hold_flat = (uint8_t)draw(2);
    for (int i = 0; i < MARKETS; i++) {
        oc_engine_market_default(&w.market[i]);
        w.market[i].target_lots = 1 + draw(30);
        w.market[i].risk = (oc_risk_instrument){{1 + draw(3), 1 + draw(3)}, 1 + draw(2),  1 + draw(12),
                                                3000 + draw(20000),         1 + draw(30), 20 + draw(200),
                                                3000 + draw(9000)};
        w.limit[i] = w.market[i].risk;
        w.limit[i].position_lots_max -= plant;
    }
    w.config.market = w.market;
    w.config.markets = MARKETS;
    w.epoch = 1;
    w.now = 1000;
}

static void world_open(uint64_t seed)
{
    size_t bytes = oc_engine_bytes(&w.config);
    oc_simulated_market venue_market[MARKETS];
    for (int i = 0; i < MARKETS; i++)
        venue_market[i] = (oc_simulated_market){
            w.market[i].risk.scale, w.market[i].risk.order_tick_ticks, draw(300) - 100, draw(400), 1, 10};
    const oc_simulated_config config = {seed,         draw(500),    draw(500), draw(500), draw(500), draw(2) * 100000,
                                        draw(2) == 1, venue_market, MARKETS};
    for (int i = 0; i < 2; i++) {
        if (!w.memory[i]) must(oc_memory_new(&w.memory[i], 1 << 17, "engine"));
        must(oc_engine_init(i ? &w.second : &w.engine, w.memory[i], bytes, &w.config));
    }
    must(oc_simulated_open(&w.venue, &config));
    w.line = oc_simulated_venue(w.venue);
    must(w.line.connect(w.line.context, w.now));
}

/* All that is under way comes home; then the venue's account must be ours. */
static void world_settle(void)
{
    apply((oc_input){.kind = OC_INPUT_OPERATOR, .as.command = {OC_OPERATOR_HALT, 0, 0}});
    w.broken = false;
    oc_simulated_break(w.venue);
    for (int round = 0; round < 3; round++) {
        must(w.line.connect(w.line.context, w.now));
        for (int i = 0; i < 8; i++) {
            w.now += 2000;
            happen_venue(false);
        }
    }
    if (w.inputs == KEPT) return; /* no room to settle: the checks before hold all the same */
    for (uint32_t i = 0; i < MARKETS; i++) {
        oc_simulated_account account = oc_simulated_account_of(w.venue, i);
        complain(account.position_lots == w.position[i] && account.cash_ticks_lots == w.cash[i], "the venue's account");
    }
    complain(oc_simulated_open_orders(w.venue) == 0 && w.open_count == 0, "orders are left");
}

static const char *sequence(uint64_t number, uint64_t seed, int64_t plant, int64_t loss_plant)
{
    int64_t middle[MARKETS] = {900 + (int64_t)number % 300, 1000};
    world_draw(number, seed, plant);
    w.loss_plant = loss_plant;
    world_open(seed + number);
    for (int step = 0; step < STEPS && !w.problem; step++) {
        w.now += draw(1200);
        if (w.timer_set && w.now >= w.timer) apply((oc_input){.kind = OC_INPUT_TIMER});
        if (w.broken && w.now >= w.back_at) happen_reconnect();
        happen_venue(true);
        int64_t what = draw(100);
        if (draw(50) == 0)
            happen_break();
        else if (what < 55)
            happen_market(middle);
        else if (what < 93)
            happen_prediction();
        else if (what < 96)
            happen_operator();
        else if (what < 98)
            happen_restart();
        else
            apply((oc_input){.kind = (uint32_t)draw(9)});
    }
    world_settle();
    complain(oc_hash_equal(oc_engine_state_hash(w.engine), oc_engine_state_hash(w.second)), "two engines, two states");
    oc_simulated_close(w.venue);
    return w.problem;
}

static void random_sequences(void **state)
{
    (void)state;
    uint64_t seed = seed_of_run(), count = counts_full() ? 1000000 : 10000, fills = 0, news = 0;
    uint64_t breaks = 0, reduced = 0, halted = 0;
    printf("seed %llu, %llu sequences\n", (unsigned long long)seed, (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        const char *problem = sequence(i, seed, 0, 0);
        if (problem)
            fail_msg("sequence %llu: %s (input %llu)", (unsigned long long)i, problem, (unsigned long long)w.inputs);
        fills += w.fills;
        news += w.news;
        breaks += w.breaks;
        reduced += w.reduced;
        halted += w.halted;
    }
    printf("%llu orders, %llu fills, %llu broken lines, %llu breakers to reducing, %llu to halted\n",
           (unsigned long long)news, (unsigned long long)fills, (unsigned long long)breaks, (unsigned long long)reduced,
           (unsigned long long)halted);
    assert_true(news > count && fills > count && breaks > count && reduced > count / 100 && halted > count / 200);
}

static void a_planted_limit_is_found(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        const char *problem = sequence(i, 1, 1, 0);
        if (!problem) continue;
        assert_string_equal(problem, "position");
        return;
    }
    fail_msg("an engine that allows one lot more was not found");
}

static void a_planted_breaker_is_found(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 2000; i++) {
        const char *problem = sequence(i, 1, 0, 1);
        if (!problem) continue;
        assert_string_equal(problem, "a breaker");
        return;
    }
    fail_msg("a breaker that trips one micro-unit late was not found");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_against_naive_gate),
        cmocka_unit_test(random_sequences),
        cmocka_unit_test(a_planted_limit_is_found),
        cmocka_unit_test(a_planted_breaker_is_found),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    oc_memory_free(w.memory[0]);
    oc_memory_free(w.memory[1]);
    return failed;
}
