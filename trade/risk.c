/* risk.c - the rows of the gate. Each says "accept only if"; what it measured is left for the message. */
#include "trade/risk.h"

#include "trade/types.h"

typedef struct gate {
    const oc_risk_account *account;
    const oc_risk_instrument *instrument;
    const oc_risk_view *view;
    const oc_risk_order *order;
    int64_t value, limit;
} gate;

/* Keeps what is compared, for the message; true only within. */
static bool within(gate *g, int64_t value, int64_t limit)
{
    g->value = value;
    g->limit = limit;
    return value <= limit;
}

static bool reduces(const oc_risk_view *v, const oc_risk_order *o)
{
    int64_t wanted;
    bool buy = o->side == OC_SIDE_BUY;
    if (o->lots <= 0 || !oc_money_add(buy ? v->open_buy_lots : v->open_sell_lots, o->lots, &wanted)) return false;
    if (v->position_lots == INT64_MIN) return false;
    return buy ? v->position_lots < 0 && wanted <= -v->position_lots
               : v->position_lots > 0 && wanted <= v->position_lots;
}

static bool kill_accept(gate *g)
{
    return within(g, g->view->killed, 0);
}

static bool connected_accept(gate *g)
{
    return within(g, !g->view->connected, 0);
}

static bool state_accept(gate *g)
{
    uint32_t most = reduces(g->view, g->order) ? OC_TRADING_REDUCING : OC_TRADING_ACTIVE;
    return within(g, g->view->state, most);
}

static bool malformed_accept(gate *g)
{
    const oc_risk_order *o = g->order;
    bool side = o->side == OC_SIDE_BUY || o->side == OC_SIDE_SELL;
    bool bounded = o->type > OC_ORDER_MARKET && o->type < OC_ORDER_TYPE_END; /* a market order has no worst price */
    return within(g, !(side && bounded && o->lots > 0), 0);
}

static bool confidence_accept(gate *g)
{
    double c = g->order->confidence;
    g->value = c >= 0 && c <= 1 ? (int64_t)(c * 1e6) : -1; /* ppm; -1: no such number */
    g->limit = (int64_t)(g->account->confidence_min * 1e6);
    return c >= g->account->confidence_min && c <= 1;
}

static bool size_accept(gate *g)
{
    return within(g, g->order->lots, g->instrument->order_lots_max);
}

static bool price_accept(gate *g)
{
    int64_t price = g->order->price_ticks;
    bool bounded = within(g, price, OC_TRADE_PRICE_MAX) && price >= 1;
    return bounded && within(g, price % g->instrument->order_tick_ticks, 0);
}

static bool stale_accept(gate *g)
{
    const oc_risk_view *v = g->view;
    int64_t age;
    bool sane =
        v->quote_known && v->bid_ticks >= 1 && v->bid_ticks <= v->ask_ticks && v->ask_ticks <= OC_TRADE_PRICE_MAX;
    if (!sane || !oc_money_subtract(v->now_ns, v->quote_ns, &age) || age < 0) return within(g, INT64_MAX, 0);
    return within(g, age, g->instrument->stale_ns);
}

/* |2 price - (bid + ask)| * 10,000 <= bps * (bid + ask), in half ticks. */
static bool collar_accept(gate *g)
{
    int64_t reference = g->view->bid_ticks + g->view->ask_ticks;
    int64_t distance = 2 * g->order->price_ticks - reference;
    oc_wide off = (oc_wide)(distance < 0 ? -distance : distance) * 10000;
    (void)within(g, reference > 0 ? (int64_t)(off / reference) : INT64_MAX, g->instrument->collar_bps);
    return reference > 0 && off <= (oc_wide)g->instrument->collar_bps * reference;
}

static bool notional_accept(gate *g)
{
    int64_t micros;
    oc_wide half = 2 * (oc_wide)g->order->lots * g->order->price_ticks;
    if (!oc_money_micros(half, g->instrument->scale, true, &micros)) return within(g, INT64_MAX, 0);
    return within(g, micros, g->instrument->order_micros_max);
}

static bool position_accept(gate *g)
{
    const oc_risk_view *v = g->view;
    bool buy = g->order->side == OC_SIDE_BUY;
    oc_wide after = buy ? (oc_wide)v->position_lots + v->open_buy_lots + g->order->lots
                        : -(oc_wide)v->position_lots + v->open_sell_lots + g->order->lots;
    int64_t lots;
    if (!oc_money_narrow(after, &lots)) return within(g, INT64_MAX, 0);
    return within(g, lots, g->instrument->position_lots_max);
}

static bool exposure_accept(gate *g)
{
    const oc_risk_view *v = g->view;
    bool buy = g->order->side == OC_SIDE_BUY;
    int64_t buys, sells, after, total;
    bool fits =
        oc_money_add(v->open_buy_lots, buy ? g->order->lots : 0, &buys) &&
        oc_money_add(v->open_sell_lots, buy ? 0 : g->order->lots, &sells) &&
        oc_risk_exposure(v->position_lots, buys, sells, v->bid_ticks + v->ask_ticks, g->instrument->scale, &after) &&
        oc_money_subtract(v->exposure_total_micros, v->exposure_micros, &total) && oc_money_add(total, after, &total);
    return within(g, fits ? total : INT64_MAX, g->account->exposure_micros_max);
}

static bool open_orders_accept(gate *g)
{
    return within(g, g->view->open_orders, g->account->open_orders_max - 1);
}

/* A new order leaves the cancels their reserve. */
static bool throttle_accept(gate *g)
{
    int64_t needed;
    if (!oc_money_multiply(g->account->message_reserve + 1, g->account->message_ns, &needed)) return within(g, 1, 0);
    g->value = g->view->token_ns;
    g->limit = needed;
    return g->view->token_ns >= needed;
}

static bool duplicate_accept(gate *g)
{
    return within(g, g->view->duplicate, 0);
}

/* A buy stays below our lowest offer, a sale above our highest bid. */
static bool self_trade_accept(gate *g)
{
    int64_t price = g->order->price_ticks, bid = g->view->own_bid_ticks, ask = g->view->own_ask_ticks;
    g->value = price;
    if (g->order->side == OC_SIDE_BUY) {
        g->limit = ask;
        return ask == 0 || price < ask;
    }
    g->limit = bid;
    return bid == 0 || price > bid;
}

static bool loss_accept(gate *g, int64_t from_micros, int64_t limit)
{
    int64_t loss;
    return within(g, oc_money_subtract(from_micros, g->view->equity_micros, &loss) ? loss : INT64_MAX, limit);
}

static bool daily_loss_accept(gate *g)
{
    return loss_accept(g, g->view->day_micros, g->account->daily_loss_micros);
}

static bool drawdown_accept(gate *g)
{
    return loss_accept(g, g->view->peak_micros, g->account->drawdown_micros);
}

typedef struct gate_row {
    bool (*accept)(gate *);
    oc_reason reason;
    bool reducing; /* asked of orders that reduce as well */
    const char *text;
} gate_row;

static const gate_row rows[] = {
    {kill_accept, OC_REASON_KILL, true, "the kill switch is not thrown"},
    {connected_accept, OC_REASON_DISCONNECTED, true, "the venue is connected"},
    {state_accept, OC_REASON_STATE, true, "active; or reducing, and the order reduces"},
    {malformed_accept, OC_REASON_MALFORMED, true, "side, type and lots are such; the price is the worst one"},
    {confidence_accept, OC_REASON_CONFIDENCE, true, "confidence within [confidence_min, 1]"},
    {size_accept, OC_REASON_ORDER_SIZE, true, "lots within order_lots_max"},
    {price_accept, OC_REASON_ORDER_PRICE, true, "price positive, within bounds, a multiple of the order tick"},
    {stale_accept, OC_REASON_STALE, true, "a sane quote, not older than stale_ns"},
    {collar_accept, OC_REASON_COLLAR, true, "price within collar_bps of the mid"},
    {notional_accept, OC_REASON_NOTIONAL, true, "value within order_micros_max"},
    {position_accept, OC_REASON_POSITION, false, "position with all open orders of the side within position_lots_max"},
    {exposure_accept, OC_REASON_EXPOSURE, false, "gross worst case of the account within exposure_micros_max"},
    {open_orders_accept, OC_REASON_OPEN_ORDERS, true, "fewer open orders than open_orders_max"},
    {throttle_accept, OC_REASON_THROTTLE, true, "a message's worth of tokens beyond the cancels' reserve"},
    {duplicate_accept, OC_REASON_DUPLICATE, true, "no equal order within duplicate_ns"},
    {self_trade_accept, OC_REASON_SELF_TRADE, true, "meets no own order of the other side"},
    {daily_loss_accept, OC_REASON_DAILY_LOSS, false, "loss of the day within daily_loss_micros"},
    {drawdown_accept, OC_REASON_DRAWDOWN, false, "loss from the peak within drawdown_micros"},
};

enum { ROWS = sizeof rows / sizeof *rows };

oc_risk_finding oc_risk_check(const oc_risk_account *account, const oc_risk_instrument *instrument,
                              const oc_risk_view *view, const oc_risk_order *order)
{
    gate g = {account, instrument, view, order, 0, 0};
    bool excused = reduces(view, order);
    for (int i = 0; i < ROWS; i++) {
        if ((excused && !rows[i].reducing) || rows[i].accept(&g)) continue;
        return (oc_risk_finding){rows[i].reason, g.value, g.limit};
    }
    return (oc_risk_finding){OC_REASON_NONE, 0, 0};
}

bool oc_risk_exposure(int64_t position_lots, int64_t buy_lots, int64_t sell_lots, int64_t bid_plus_ask_ticks,
                      oc_money_scale scale, int64_t *micros)
{
    oc_wide most = (oc_wide)position_lots + buy_lots, least = (oc_wide)position_lots - sell_lots;
    if (most < 0) most = -most;
    if (least < 0) least = -least;
    int64_t worst;
    if (!oc_money_narrow(most > least ? most : least, &worst)) return false;
    return oc_money_micros((oc_wide)worst * bid_plus_ask_ticks, scale, true, micros);
}

int oc_risk_row_count(void)
{
    return ROWS;
}

oc_reason oc_risk_row_reason(int row)
{
    return rows[row].reason;
}

const char *oc_risk_row_text(int row)
{
    return rows[row].text;
}
