/* test_risk.c - every row of the gate: the last value that passes, the first that does not, and the values that cannot
 * be compared at all (NaN, infinity, the ends of 64 bits). One case changes one field of an order that passes. Would
 * catch: a comparison the wrong way round or off by one, a row that is never asked, a row that NaN passes, a sum that
 * wraps around. Proven by a case with the wrong expectation, which must be found (last test). */
#include "trade/trade_case.h"

#include <math.h>
#include "trade/risk.h"

typedef enum part { ACCOUNT, INSTRUMENT, VIEW, ORDER } part;
typedef enum field_type { I64, F64, U32, U8 } field_type;

typedef struct change {
    part part;
    field_type type;
    size_t at;
    int64_t value;
    double real;
} change;

typedef struct risk_case {
    const char *name;
    change change[3];
    oc_reason expected;
} risk_case;

#define A(field, v)                                                                                                    \
    {                                                                                                                  \
        ACCOUNT, I64, offsetof(oc_risk_account, field), v, 0                                                           \
    }
#define M(field, v)                                                                                                    \
    {                                                                                                                  \
        INSTRUMENT, I64, offsetof(oc_risk_instrument, field), v, 0                                                     \
    }
#define V(field, v)                                                                                                    \
    {                                                                                                                  \
        VIEW, I64, offsetof(oc_risk_view, field), v, 0                                                                 \
    }
#define FLAG(field, v)                                                                                                 \
    {                                                                                                                  \
        VIEW, U8, offsetof(oc_risk_view, field), v, 0                                                                  \
    }
#define STATE(v)                                                                                                       \
    {                                                                                                                  \
        VIEW, U32, offsetof(oc_risk_view, state), v, 0                                                                 \
    }
#define O(field, v)                                                                                                    \
    {                                                                                                                  \
        ORDER, I64, offsetof(oc_risk_order, field), v, 0                                                               \
    }
#define O8(field, v)                                                                                                   \
    {                                                                                                                  \
        ORDER, U8, offsetof(oc_risk_order, field), v, 0                                                                \
    }
#define CONFIDENT(v)                                                                                                   \
    {                                                                                                                  \
        ORDER, F64, offsetof(oc_risk_order, confidence), 0, v                                                          \
    }
#define BELOW(v)                                                                                                       \
    {                                                                                                                  \
        ACCOUNT, F64, offsetof(oc_risk_account, confidence_min), 0, v                                                  \
    }

/* The order that passes: buy 10 at 10,001; bid 10,000, ask 10,002; position +20, open buys 5, sells 7. */
static const risk_case cases[] = {
    {"passes", {{0}}, OC_REASON_NONE},
    {"kill", {FLAG(killed, 1)}, OC_REASON_KILL},
    {"kill stands before all else", {FLAG(killed, 1), STATE(2), CONFIDENT((double)NAN)}, OC_REASON_KILL},
    {"not connected", {FLAG(connected, 0)}, OC_REASON_DISCONNECTED},
    {"reducing", {STATE(OC_TRADING_REDUCING)}, OC_REASON_STATE},
    {"reducing, reduces", {STATE(OC_TRADING_REDUCING), O8(side, OC_SIDE_SELL), O(lots, 13)}, OC_REASON_NONE},
    {"reducing, past zero", {STATE(OC_TRADING_REDUCING), O8(side, OC_SIDE_SELL), O(lots, 14)}, OC_REASON_STATE},
    {"reducing, flat", {STATE(OC_TRADING_REDUCING), V(position_lots, 0)}, OC_REASON_STATE},
    {"reducing a short", {STATE(OC_TRADING_REDUCING), V(position_lots, -15)}, OC_REASON_NONE},
    {"reducing a short past zero", {STATE(OC_TRADING_REDUCING), V(position_lots, -14)}, OC_REASON_STATE},
    {"halted, reduces", {STATE(OC_TRADING_HALTED), O8(side, OC_SIDE_SELL)}, OC_REASON_STATE},
    {"a state of no name", {STATE(UINT32_MAX)}, OC_REASON_STATE},
    {"no side", {O8(side, 0)}, OC_REASON_MALFORMED},
    {"a third side", {O8(side, 3)}, OC_REASON_MALFORMED},
    {"no type", {O8(type, 0)}, OC_REASON_MALFORMED},
    {"a type too far", {O8(type, OC_ORDER_TYPE_END)}, OC_REASON_MALFORMED},
    {"no lots", {O(lots, 0)}, OC_REASON_MALFORMED},
    {"negative lots", {O(lots, -1)}, OC_REASON_MALFORMED},
    {"the most negative lots", {O(lots, INT64_MIN)}, OC_REASON_MALFORMED},
    {"confidence at the minimum", {CONFIDENT(0.25)}, OC_REASON_NONE},
    {"confidence below it", {CONFIDENT(0.2499999)}, OC_REASON_CONFIDENCE},
    {"confidence 1", {CONFIDENT(1.0)}, OC_REASON_NONE},
    {"confidence over 1", {CONFIDENT(1.0000001)}, OC_REASON_CONFIDENCE},
    {"confidence NaN", {CONFIDENT((double)NAN)}, OC_REASON_CONFIDENCE},
    {"confidence infinite", {CONFIDENT((double)INFINITY)}, OC_REASON_CONFIDENCE},
    {"confidence minus infinite", {CONFIDENT((double)-INFINITY)}, OC_REASON_CONFIDENCE},
    {"minimum NaN", {BELOW((double)NAN)}, OC_REASON_CONFIDENCE},
    {"size at the limit", {O(lots, 50)}, OC_REASON_NONE},
    {"size over it", {O(lots, 51)}, OC_REASON_ORDER_SIZE},
    {"size of all bits", {O(lots, INT64_MAX)}, OC_REASON_ORDER_SIZE},
    {"size limit 0", {M(order_lots_max, 0)}, OC_REASON_ORDER_SIZE},
    {"price 0", {O(price_ticks, 0)}, OC_REASON_ORDER_PRICE},
    {"price negative", {O(price_ticks, -1)}, OC_REASON_ORDER_PRICE},
    {"price of all bits", {O(price_ticks, INT64_MAX)}, OC_REASON_ORDER_PRICE},
    {"price lowest", {O(price_ticks, INT64_MIN)}, OC_REASON_ORDER_PRICE},
    {"price off the order tick", {M(order_tick_ticks, 2)}, OC_REASON_ORDER_PRICE},
    {"IOC price off it", {M(order_tick_ticks, 2), O8(type, OC_ORDER_IOC)}, OC_REASON_ORDER_PRICE},
    {"at any price", {O8(type, OC_ORDER_MARKET)}, OC_REASON_MALFORMED},
    {"quote unknown", {FLAG(quote_known, 0)}, OC_REASON_STALE},
    {"quote at its age", {V(quote_ns, 900)}, OC_REASON_NONE},
    {"quote too old", {V(quote_ns, 899)}, OC_REASON_STALE},
    {"quote from the future", {V(quote_ns, 1001)}, OC_REASON_STALE},
    {"quote's time beyond bits", {V(quote_ns, INT64_MIN)}, OC_REASON_STALE},
    {"bid 0", {V(bid_ticks, 0)}, OC_REASON_STALE},
    {"crossed quote", {V(bid_ticks, 10003)}, OC_REASON_STALE},
    {"ask huge", {V(ask_ticks, INT64_MAX)}, OC_REASON_STALE},
    {"collar at the limit, above", {O(price_ticks, 10101)}, OC_REASON_NONE},
    {"collar over it, above", {O(price_ticks, 10102)}, OC_REASON_COLLAR},
    {"collar at the limit, below", {O(price_ticks, 9901)}, OC_REASON_NONE},
    {"collar over it, below", {O(price_ticks, 9900)}, OC_REASON_COLLAR},
    {"collar of the highest price", {O(price_ticks, OC_TRADE_PRICE_MAX)}, OC_REASON_COLLAR},
    {"notional at the limit", {M(order_micros_max, 300030)}, OC_REASON_NONE},
    {"notional over it", {M(order_micros_max, 300029)}, OC_REASON_NOTIONAL},
    {"notional rounded up", {M(scale.denominator, 7), M(order_micros_max, 42862)}, OC_REASON_NONE},
    {"notional rounded up, over", {M(scale.denominator, 7), M(order_micros_max, 42861)}, OC_REASON_NOTIONAL},
    {"notional beyond bits", {M(scale.numerator, INT64_MAX), O(lots, 50)}, OC_REASON_NOTIONAL},
    {"position at the limit", {V(position_lots, 185)}, OC_REASON_NONE},
    {"position over it", {V(position_lots, 186)}, OC_REASON_POSITION},
    {"open buys count", {V(open_buy_lots, 171)}, OC_REASON_POSITION},
    {"short at the limit", {O8(side, OC_SIDE_SELL), V(position_lots, -183)}, OC_REASON_NONE},
    {"short over it", {O8(side, OC_SIDE_SELL), V(position_lots, -184)}, OC_REASON_POSITION},
    {"position beyond bits", {V(position_lots, INT64_MAX)}, OC_REASON_POSITION},
    {"reduces what is over", {V(position_lots, 1000), O8(side, OC_SIDE_SELL)}, OC_REASON_NONE},
    {"exposure at the limit", {A(exposure_micros_max, 9350105)}, OC_REASON_NONE},
    {"exposure over it", {A(exposure_micros_max, 9350104)}, OC_REASON_EXPOSURE},
    {"exposure beyond bits", {V(exposure_total_micros, INT64_MAX), V(exposure_micros, 0)}, OC_REASON_EXPOSURE},
    {"open orders at the limit", {V(open_orders, 9)}, OC_REASON_NONE},
    {"open orders over it", {V(open_orders, 10)}, OC_REASON_OPEN_ORDERS},
    {"tokens just enough", {V(token_ns, 40)}, OC_REASON_NONE},
    {"tokens leave no reserve", {V(token_ns, 39)}, OC_REASON_THROTTLE},
    {"duplicate", {FLAG(duplicate, 1)}, OC_REASON_DUPLICATE},
    {"below an own offer", {V(own_ask_ticks, 10002)}, OC_REASON_NONE},
    {"meets an own offer", {V(own_ask_ticks, 10001)}, OC_REASON_SELF_TRADE},
    {"an own bid is no matter", {V(own_bid_ticks, 10001)}, OC_REASON_NONE},
    {"above an own bid", {V(own_bid_ticks, 10000), O8(side, OC_SIDE_SELL)}, OC_REASON_NONE},
    {"meets an own bid", {V(own_bid_ticks, 10001), O8(side, OC_SIDE_SELL)}, OC_REASON_SELF_TRADE},
    {"day's loss at the limit", {V(equity_micros, 9000)}, OC_REASON_NONE},
    {"day's loss over it", {V(equity_micros, 8999)}, OC_REASON_DAILY_LOSS},
    {"day's loss beyond bits", {V(equity_micros, INT64_MIN), V(day_micros, INT64_MAX)}, OC_REASON_DAILY_LOSS},
    {"day's loss, but reduces", {V(equity_micros, 0), O8(side, OC_SIDE_SELL)}, OC_REASON_NONE},
    {"drawdown at the limit", {V(peak_micros, 12000)}, OC_REASON_NONE},
    {"drawdown over it", {V(peak_micros, 12001)}, OC_REASON_DRAWDOWN},
};

typedef struct risk_base {
    oc_risk_account account;
    oc_risk_instrument instrument;
    oc_risk_view view;
    oc_risk_order order;
} risk_base;

static const risk_base base = {
    .account = {20000000, 1000, 2000, 2000, 3000, 10, 50, 3, 10, 10, 0.25},
    .instrument = {{3, 1}, 1, 50, 1500150, 200, 100, 100},
    .view = {.now_ns = 1000,
             .quote_ns = 950,
             .bid_ticks = 10000,
             .ask_ticks = 10002,
             .position_lots = 20,
             .open_buy_lots = 5,
             .open_sell_lots = 7,
             .exposure_micros = 750000,
             .exposure_total_micros = 9050000,
             .equity_micros = 10000,
             .day_micros = 10000,
             .peak_micros = 10000,
             .token_ns = 500,
             .open_orders = 3,
             .state = OC_TRADING_ACTIVE,
             .quote_known = true,
             .connected = true},
    .order = {0.5, 10001, 10, OC_SIDE_BUY, OC_ORDER_LIMIT},
};

static void change_make(risk_base *b, const change *c)
{
    unsigned char *parts[] = {(unsigned char *)&b->account, (unsigned char *)&b->instrument, (unsigned char *)&b->view,
                              (unsigned char *)&b->order};
    static const size_t sizes[] = {[I64] = 8, [F64] = 8, [U32] = 4, [U8] = 1};
    if (c->at == 0 && c->value == 0 && c->real == 0 && c->part == ACCOUNT) return; /* an empty place */
    memcpy(parts[c->part] + c->at, c->type == F64 ? (const void *)&c->real : (const void *)&c->value, sizes[c->type]);
}

static oc_risk_finding run(const risk_case *c)
{
    risk_base b = base;
    for (size_t i = 0; i < COUNT(c->change); i++) change_make(&b, &c->change[i]);
    return oc_risk_check(&b.account, &b.instrument, &b.view, &b.order);
}

static void every_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_reason reason = run(&cases[i]).reason;
        if (reason != cases[i].expected)
            fail_msg("%s: %s, not %s", cases[i].name, oc_reason_name(reason), oc_reason_name(cases[i].expected));
    }
}

static void every_row_has_its_case(void **state)
{
    (void)state;
    for (int row = 0; row < oc_risk_row_count(); row++) {
        bool found = false;
        for (size_t i = 0; i < COUNT(cases); i++) found |= cases[i].expected == oc_risk_row_reason(row);
        if (!found) fail_msg("no case refuses by the row \"%s\"", oc_risk_row_text(row));
    }
}

static void findings_name_value_and_limit(void **state)
{
    (void)state;
    const risk_case size = {"", {O(lots, 51)}, OC_REASON_ORDER_SIZE};
    oc_risk_finding f = run(&size);
    assert_int_equal(f.value, 51);
    assert_int_equal(f.limit, 50);
}

static void a_wrong_expectation_is_found(void **state)
{
    (void)state;
    const risk_case planted = {"position at the limit is refused", {V(position_lots, 185)}, OC_REASON_POSITION};
    assert_int_not_equal(run(&planted).reason, planted.expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case),
        cmocka_unit_test(every_row_has_its_case),
        cmocka_unit_test(findings_name_value_and_limit),
        cmocka_unit_test(a_wrong_expectation_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
