/* test_engine.c - the engine by example: decisions to orders, exits, latches, the venue's protocol, bad input.
 * Would catch: an order without a good prediction or quote, a latch that lets go, a fill that is lost, doubled or
 * believed twice, an input that is dropped without a word, an allocation in apply, a state that does not survive
 * saving. */
#include "trade/trade_case.h"

#include <math.h>
#include "trade/quote.h"

static rig r;

static int opened(void **state)
{
    (void)state;
    rig_defaults(&r, 2);
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    rig_close(&r);
    return 0;
}

/* A position of `lots` at this price, through an order of the engine. */
static oc_action entered(float buy, float sell, int64_t price)
{
    rig_predict(&r, 0, buy, sell);
    const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
    assert_non_null(a);
    oc_action order = *a;
    rig_ack(&r, order);
    rig_fill(&r, order, price, order.lots);
    return order;
}

static void signal_becomes_order(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.7f, 0.1f);
    const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
    assert_non_null(a);
    assert_int_equal(a->order_id, oc_order_id(1, 3, 0)); /* epoch 1, third input, first action */
    assert_int_equal(a->side, OC_SIDE_BUY);
    assert_int_equal(a->lots, 10);
    assert_int_equal(a->type, OC_ORDER_IOC); /* at the market: as far as the collar, 1 % of the mid, and no further */
    assert_int_equal(a->price_ticks, 10101);
    oc_action order = *a;
    rig_ack(&r, order);
    rig_fill(&r, order, 10002, 4);
    rig_fill(&r, order, 10001, 6);
    oc_position p = oc_engine_position(r.engine, 0);
    assert_int_equal(p.lots, 10);
    assert_int_equal(p.cash_ticks_lots, -(4 * 10002 + 6 * 10001));
    assert_int_equal(p.value_micros, 10 * 10001 - 100014);
    assert_int_equal(oc_engine_order_count(r.engine), 0);
    rig_predict(&r, 0, 0.1f, 0.7f); /* turns: 20 lots the other way */
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 20);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->side, OC_SIDE_SELL);
}

typedef struct bad_prediction {
    const char *name;
    oc_prediction p;
    int64_t later_ns;
    oc_reason expected;
} bad_prediction;

static void bad_predictions_are_held(void **state)
{
    (void)state;
    const float inf = INFINITY, nan = NAN;
    const int64_t now = r.now_ns;
    const bad_prediction cases[] = {
        {"NaN", {now, 1, 0, 1, nan, 0.1f, 0.1f, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"NaN elsewhere", {now, 1, 0, 1, 0.9f, 0.1f, nan, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"infinite", {now, 1, 0, 1, inf, 0.1f, 0.1f, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"infinities that cancel", {now, 1, 0, 1, inf, -inf, 1, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"over 1", {now, 1, 0, 1, 1.5f, -0.5f, 0, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"sum not 1", {now, 1, 0, 1, 0.9f, 0.2f, 0, 0}, 0, OC_REASON_PREDICTION_BAD},
        {"stale", {now - SECOND - 1, 1, 0, 1, 1, 0, 0, 0}, 0, OC_REASON_PREDICTION_STALE},
        {"from the future", {now + 1, 1, 0, 1, 1, 0, 0, 0}, 0, OC_REASON_PREDICTION_ORDER},
        {"time beyond bits", {INT64_MIN, 1, 0, 1, 1, 0, 0, 0}, 0, OC_REASON_PREDICTION_ORDER},
        {"hold by the predictor", {now, 1, 0, 1, 1, 0, 0, OC_PREDICTION_HOLD}, 0, OC_REASON_PREDICTION_HOLD},
        {"instrument", {now, 1, 2, 1, 1, 0, 0, 0}, 0, OC_REASON_INSTRUMENT},
        {"instrument far", {now, 1, UINT32_MAX, 1, 1, 0, 0, 0}, 0, OC_REASON_INSTRUMENT},
        {"no quote yet", {now, 1, 1, 1, 1, 0, 0, 0}, 0, OC_REASON_ORDER_PRICE},
        {"old quote", {now + 6 * SECOND, 2, 0, 1, 1, 0, 0, 0}, 6 * SECOND, OC_REASON_STALE},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        r.now_ns += cases[i].later_ns;
        uint64_t bad = oc_engine_totals_of(r.engine).bad_inputs + oc_engine_totals_of(r.engine).refusals;
        oc_prediction p = cases[i].p;
        p.sequence += 2 * i; /* each is refused for its own fault, not for its place */
        rig_apply(&r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
        if (rig_count(&r, OC_ACTION_NEW) || rig_alert(&r) != cases[i].expected)
            fail_msg("%s: %s", cases[i].name, oc_reason_name(rig_alert(&r)));
        assert_int_equal(oc_engine_totals_of(r.engine).bad_inputs + oc_engine_totals_of(r.engine).refusals, bad + 1);
    }
}

static void repeated_predictions_are_held(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.2f, 0.2f);
    r.prediction--;
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_PREDICTION_ORDER);
    r.prediction -= 2;
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_PREDICTION_ORDER);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
}

static void thresholds(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.499f, 0.1f);
    assert_int_equal(r.count, 0);
    rig_predict(&r, 0, 0.5f, 0.5f); /* a tie is no signal */
    assert_int_equal(r.count, 0);
    r.config.account.policy.confidence_min = 0.6;
    rig_close(&r);
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.55f, 0.1f);
    assert_int_equal(r.count, 0);
    rig_predict(&r, 0, 0.61f, 0.1f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

typedef struct bad_quote {
    const char *name;
    int64_t bid, ask;
    bool good;
} bad_quote;

static void bad_quotes_stop_orders(void **state)
{
    (void)state;
    const bad_quote cases[] = {
        {"good", 10000, 10001, true},
        {"locked", 10000, 10000, true},
        {"bid 0", 0, 10001, false},
        {"negative", -5, 10001, false},
        {"crossed", 10001, 10000, false},
        {"ask huge", 10000, INT64_MAX, false},
        {"both huge", INT64_MAX, INT64_MAX, false},
        {"lowest", INT64_MIN, INT64_MIN, false},
        {"at the bound", OC_TRADE_PRICE_MAX, OC_TRADE_PRICE_MAX, true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig_quote(&r, 1, cases[i].bid, cases[i].ask);
        if ((rig_alert(&r) == OC_REASON_PRICE) == cases[i].good) fail_msg("%s", cases[i].name);
        if (cases[i].good) continue;
        rig_predict(&r, 1, 0.9f, 0.05f);
        if (rig_count(&r, OC_ACTION_NEW)) fail_msg("%s: an order left", cases[i].name);
        rig_quote(&r, 1, 10000, 10001);
    }
}

static void gaps_and_strange_events(void **state)
{
    (void)state;
    oc_input in = {.kind = OC_INPUT_MARKET};
    in.as.market = (oc_event){.kind = OC_EVENT_STATUS, .flags = OC_EVENT_LAST};
    rig_apply(&r, in);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_STALE);
    for (int kind = 0; kind < 256; kind++) {
        if (kind >= OC_EVENT_BAR && kind <= OC_EVENT_QUOTE) continue;
        if (kind == OC_EVENT_STATUS) continue;
        in.as.market.kind = (uint8_t)kind;
        rig_apply(&r, in);
        assert_int_equal(rig_alert(&r), OC_REASON_INPUT_KIND);
    }
    rig_apply(&r, (oc_input){.kind = 77});
    assert_int_equal(rig_alert(&r), OC_REASON_INPUT_KIND);
}

static void inputs_repeated_lost_backwards(void **state)
{
    (void)state;
    oc_input in = {.kind = OC_INPUT_TIMER, .sequence = 2, .time_ns = r.now_ns};
    must(oc_engine_apply(r.engine, &in, r.action, OC_ACTIONS_MAX, &r.count));
    assert_int_equal(rig_alert(&r), OC_REASON_INPUT_REPEATED);
    assert_int_equal(oc_engine_next_sequence(r.engine), 3);
    in = (oc_input){.kind = OC_INPUT_TIMER, .sequence = 3, .time_ns = 0}; /* time 0, after a second */
    must(oc_engine_apply(r.engine, &in, r.action, OC_ACTIONS_MAX, &r.count));
    assert_int_equal(rig_alert(&r), OC_REASON_TIME);
    in = (oc_input){.kind = OC_INPUT_TIMER, .sequence = 9, .time_ns = r.now_ns};
    must(oc_engine_apply(r.engine, &in, r.action, OC_ACTIONS_MAX, &r.count));
    assert_int_equal(rig_alert(&r), OC_REASON_INPUT_GAP);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    must_fail(oc_engine_apply(r.engine, &in, r.action, OC_ACTIONS_MAX - 1, &r.count), OC_ELIMIT, "room");
}

static void time_zero_is_a_time(void **state)
{
    (void)state;
    rig_close(&r);
    r.now_ns = 0;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

static void stop_and_take(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    r.config.account.policy.take_bps = 100;
    r.config.account.policy.cooldown_ns = 3 * SECOND;
    rig_close(&r);
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10000);
    (void)entered(0.9f, 0.05f, 10000);
    rig_quote(&r, 0, 9951, 9951); /* 49 bps */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    rig_quote(&r, 0, 9950, 9950);
    const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
    assert_non_null(a);
    assert_int_equal(a->reason, OC_REASON_STOP);
    assert_int_equal(a->type, OC_ORDER_IOC);
    assert_int_equal(a->lots, 10);
    rig_fill(&r, *a, 9950, 10);
    r.now_ns += 2 * SECOND;
    rig_quote(&r, 0, 9950, 9950);
    rig_predict(&r, 0, 0.9f, 0.05f); /* cools down */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    r.now_ns += 1 * SECOND;
    rig_quote(&r, 0, 10000, 10000);
    (void)entered(0.05f, 0.9f, 10000); /* short */
    rig_quote(&r, 0, 9901, 9901);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    rig_quote(&r, 0, 9900, 9900);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->reason, OC_REASON_TAKE_PROFIT);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->side, OC_SIDE_BUY);
}

static void exit_is_tried_again(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    rig_close(&r);
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10000);
    (void)entered(0.9f, 0.05f, 10000);
    rig_quote(&r, 0, 9900, 9900);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = a.lots, .kind = OC_VENUE_REJECT, .side = a.side});
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0); /* not at once: that would be a loop */
    rig_quote(&r, 0, 9900, 9900);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 10);
}

static void cross_and_fallback(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.policy.kind = OC_POLICY_CROSS;
    r.config.account.policy.cross_fast = 2;
    r.config.account.policy.cross_slow = 4;
    for (int pass = 0; pass < 2; pass++) {
        rig_open(&r);
        const int64_t mids[] = {100, 100, 100, 100, 110, 90, 60};
        const int sides[] = {0, 0, 0, 0, OC_SIDE_BUY, 0, OC_SIDE_SELL}; /* equal averages say nothing */
        for (size_t i = 0; i < COUNT(mids); i++) {
            r.now_ns += SECOND;
            r.message_id = oc_engine_totals_of(r.engine).message_id;
            rig_quote(&r, 0, mids[i], mids[i]);
            const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
            assert_int_equal(a ? a->side : 0, sides[i]);
            if (a) assert_int_equal(a->reason, pass ? OC_REASON_FALLBACK : OC_REASON_SIGNAL);
            if (a) rig_fill(&r, *a, a->price_ticks, a->lots);
        }
        rig_close(&r);
        r.config.account.policy.kind = OC_POLICY_MODEL;
        r.config.account.policy.fallback = OC_FALLBACK_CROSS;
    }
    r.config.account.policy.fallback = OC_FALLBACK_FLAT;
    rig_open(&r);
    r.message_id = 0;
    rig_quote(&r, 0, 10000, 10000);
    (void)entered(0.9f, 0.05f, 10000);
    r.now_ns += 10 * SECOND;
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    r.now_ns += 1;
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->reason, OC_REASON_FALLBACK);
}

static void limit_order_lives_and_is_replaced(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action order = *rig_action(&r, OC_ACTION_NEW, 0);
    assert_int_equal(order.price_ticks, 10000);
    const oc_action *timer = rig_action(&r, OC_ACTION_TIMER, 0);
    assert_non_null(timer);
    assert_int_equal(timer->at_ns, r.now_ns + 10 * SECOND);
    rig_ack(&r, order);
    rig_predict(&r, 0, 0.05f, 0.9f); /* the other way: first the cancel, … */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(rig_action(&r, OC_ACTION_CANCEL, 0)->order_id, order.order_id);
    rig_fill(&r, order, 10000, 3); /* … which loses against a fill, … */
    rig_venue(
        &r, (oc_venue_message){.order_id = order.order_id, .lots = 7, .kind = OC_VENUE_CANCELLED, .side = order.side});
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 13); /* … then what is needed now */
    order = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_ack(&r, order);
    r.now_ns += 10 * SECOND - 1;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 0);
    r.now_ns += 1;
    rig_timer(&r);
    assert_int_equal(rig_action(&r, OC_ACTION_CANCEL, 0)->reason, OC_REASON_LIFETIME);
    r.now_ns += 1; /* the signal is 10 s old by now: it closes, … */
    rig_quote(&r, 0, 10000, 10002);
    rig_venue(
        &r, (oc_venue_message){.order_id = order.order_id, .lots = 13, .kind = OC_VENUE_CANCELLED, .side = order.side});
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 3);
    order = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_fill(&r, order, 10002, 3); /* … but it opens nothing more */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(rig_alert(&r), OC_REASON_PREDICTION_STALE);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.05f, 0.9f);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 10);
}

static void quotes_both_sides(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.policy.kind = OC_POLICY_QUOTE;
    rig_open(&r);
    r.now_ns = 10 * SECOND + 1;
    rig_quote(&r, 0, 10000, 10002);
    const oc_action *timer = rig_action(&r, OC_ACTION_TIMER, 0);
    assert_int_equal(timer->at_ns, 10 * SECOND + SECOND / 10);
    r.now_ns = timer->at_ns;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 2);
    oc_action bid = *rig_action(&r, OC_ACTION_NEW, 0), ask = *rig_action(&r, OC_ACTION_NEW, 1);
    assert_int_equal(bid.price_ticks, 10000);
    assert_int_equal(ask.price_ticks, 10002);
    assert_int_equal(bid.type, OC_ORDER_POST);
    rig_ack(&r, bid);
    rig_ack(&r, ask);
    r.now_ns += SECOND / 10;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 2);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 2);
    rig_operate(&r, OC_OPERATOR_RECOVER, 2); /* two are unknown now: nothing until they are known */
    rig_venue(&r, (oc_venue_message){.kind = OC_VENUE_CONNECTED});
    rig_quote(&r, 0, 10000, 10002);
    r.now_ns += SECOND / 10;
    rig_quote(&r, 0, 10000, 10002);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW) + rig_count(&r, OC_ACTION_CANCEL), 0);
}

static void venue_messages_once_and_in_order(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action order = *rig_action(&r, OC_ACTION_NEW, 0);
    oc_venue_message fill = {2, order.order_id, 10002, 4, 7, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0};
    rig_venue(&r, fill); /* 1 is missing */
    assert_int_equal(rig_alert(&r), OC_REASON_MESSAGE_GAP);
    assert_int_equal(rig_action(&r, OC_ACTION_QUERY, 0)->value, 0);
    assert_int_equal(oc_engine_position(r.engine, 0).lots, 0);
    rig_ack(&r, order);
    rig_venue(&r, fill);
    assert_int_equal(oc_engine_position(r.engine, 0).lots, 4);
    rig_venue(&r, fill); /* again */
    assert_int_equal(rig_alert(&r), OC_REASON_MESSAGE_REPEATED);
    assert_int_equal(oc_engine_position(r.engine, 0).lots, 4);
    assert_int_equal(oc_engine_totals_of(r.engine).fees_micros, 7);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
}

typedef struct bad_message {
    const char *name;
    oc_venue_message m;
    int64_t lots;
} bad_message;

/* What contradicts our record halts; what can have been traded is booked all the same. */
static void mismatches_halt(void **state)
{
    (void)state;
    const bad_message cases[] = {
        {"overfill", {2, 0, 10002, 11, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 11},
        {"unknown order", {2, 99, 10002, 3, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 3},
        {"other side", {2, 0, 10002, 3, 0, 0, OC_VENUE_FILL, OC_SIDE_SELL, 0, 0}, -3},
        {"no lots", {2, 0, 10002, 0, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"negative lots", {2, 0, 10002, -4, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"price 0", {2, 0, 0, 4, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"price huge", {2, 0, INT64_MAX, 4, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"fee beyond bits", {2, 0, 10002, 4, INT64_MIN, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"instrument", {2, 0, 10002, 4, 0, 7, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0}, 0},
        {"kind", {2, 0, 10002, 4, 0, 0, 200, OC_SIDE_BUY, 0, 0}, 0},
        {"kind 0", {2, 0, 10002, 4, 0, 0, 0, OC_SIDE_BUY, 0, 0}, 0},
        {"rest differs", {2, 0, 10002, 9, 0, 0, OC_VENUE_ACK, OC_SIDE_BUY, 0, 0}, 0},
        {"cancelled rest differs", {2, 0, 0, 9, 0, 0, OC_VENUE_CANCELLED, OC_SIDE_BUY, 0, 0}, 0},
        {"cancelled, nothing left", {2, 0, 0, 0, 0, 0, OC_VENUE_CANCELLED, OC_SIDE_BUY, 0, 0}, 0},
        {"rejected a part", {2, 0, 0, 4, 0, 0, OC_VENUE_REJECT, OC_SIDE_BUY, 0, 0}, 0},
        {"lost", {0, 0, 0, 0, 0, 0, OC_VENUE_LOST, 0, 0, 0}, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig_close(&r);
        r.message_id = 0;
        rig_open(&r);
        rig_quote(&r, 0, 10000, 10002);
        rig_predict(&r, 0, 0.9f, 0.05f);
        oc_action order = *rig_action(&r, OC_ACTION_NEW, 0);
        rig_ack(&r, order);
        oc_venue_message m = cases[i].m;
        if (m.order_id == 0) m.order_id = order.order_id;
        if (m.kind == OC_VENUE_LOST) m.order_id = 0;
        rig_venue(&r, m);
        if (oc_engine_trading_state(r.engine) != OC_TRADING_HALTED) fail_msg("%s: not halted", cases[i].name);
        if (oc_engine_position(r.engine, 0).lots != cases[i].lots) fail_msg("%s: position", cases[i].name);
        if (!rig_action(&r, OC_ACTION_CANCEL, 0)) fail_msg("%s: the order is not cancelled", cases[i].name);
        rig_predict(&r, 0, 0.9f, 0.05f);
        if (rig_count(&r, OC_ACTION_NEW)) fail_msg("%s: an order after it", cases[i].name);
    }
}

static void losses_latch(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.risk.daily_loss_micros = 1000;
    r.config.account.risk.daily_loss_halt_micros = 3000;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10000);
    (void)entered(0.9f, 0.05f, 10000);
    rig_quote(&r, 0, 9900, 9900); /* 10 lots: 1,000 */
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
    rig_quote(&r, 0, 9899, 9900);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    assert_int_equal(rig_alert(&r), OC_REASON_DAILY_LOSS);
    rig_quote(&r, 0, 10500, 10500); /* the gain comes back, the latch stays */
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    rig_predict(&r, 0, 0.05f, 0.9f); /* out, but not short */
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->lots, 10);
    rig_quote(&r, 0, 9600, 9600);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    rig_operate(&r, OC_OPERATOR_REARM, 0);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
    rig_quote(&r, 0, 9601, 9601);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
}

static void kill_is_latched_through_saving(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    rig_ack(&r, *rig_action(&r, OC_ACTION_NEW, 0));
    rig_operate(&r, OC_OPERATOR_KILL, 0);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    size_t bytes = oc_engine_save_bytes(r.engine), saved;
    unsigned char *copy;
    must(oc_memory_new(&copy, bytes, "copy"));
    must(oc_engine_save(r.engine, copy, bytes, &saved));
    oc_hash before = oc_engine_state_hash(r.engine);
    rig_operate(&r, OC_OPERATOR_REARM, 0);
    must(oc_engine_load(r.engine, copy, saved));
    assert_true(oc_hash_equal(before, oc_engine_state_hash(r.engine)));
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    rig_operate(&r, OC_OPERATOR_HALT, 0);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    for (size_t bit = 0; bit < saved * 8; bit++) { /* a changed bit is refused, and changes nothing */
        before = bit % 997 ? before : oc_engine_state_hash(r.engine);
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
        if (oc_engine_load(r.engine, copy, saved) == OC_OK) fail_msg("bit %zu", bit);
        copy[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    must_fail(oc_engine_load(r.engine, copy, saved - 1), OC_EDATA, "cut");
    assert_true(oc_hash_equal(before, oc_engine_state_hash(r.engine)));
    r.config.account.risk.open_orders_max--;
    rig other = r;
    rig_start(&other);
    must_fail(oc_engine_load(other.engine, copy, saved), OC_EDATA, "another configuration");
    rig_close(&other);
    oc_memory_free(copy);
}

static void cancels_are_never_throttled(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.risk.message_burst = 3;
    r.config.account.risk.message_reserve = 1;
    r.config.account.policy.kind = OC_POLICY_QUOTE;
    r.config.account.policy.quote_interval_ns = 1000; /* far faster than a message every 20 ms */
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    int news = 0, cancels = 0;
    for (int i = 0; i < 50; i++) {
        r.now_ns += 1000;
        rig_timer(&r);
        news += rig_count(&r, OC_ACTION_NEW);
        cancels += rig_count(&r, OC_ACTION_CANCEL);
    }
    assert_int_equal(news, 2); /* 3 tokens, one for cancels */
    assert_int_equal(cancels, 2);
    r.now_ns += SECOND;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 2); /* full again, but not fuller */
}

static void duplicates_are_refused(void **state)
{
    (void)state;
    rig_close(&r);
    r.config.account.risk.duplicate_ns = SECOND;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = a.lots, .kind = OC_VENUE_REJECT, .side = a.side});
    r.now_ns += SECOND - 1;
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_DUPLICATE);
    r.now_ns += 1;
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

static void recovery_settles_unknown_orders(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_operate(&r, OC_OPERATOR_RECOVER, 2);
    assert_int_equal(oc_engine_order(r.engine, 0)->state, OC_ORDER_SENT_UNKNOWN);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.05f, 0.9f); /* waits for the answer */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW) + rig_count(&r, OC_ACTION_CANCEL), 0);
    rig_venue(&r, (oc_venue_message){.kind = OC_VENUE_CONNECTED});
    assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 2);
    assert_int_equal(rig_action(&r, OC_ACTION_QUERY, 1)->order_id, a.order_id);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .kind = OC_VENUE_NOT_FOUND});
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->side, OC_SIDE_SELL);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->order_id >> 48, 2);
    rig_operate(&r, OC_OPERATOR_RECOVER, 2); /* an epoch is never used twice */
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
}

static void big_targets_go_in_slices(void **state)
{
    (void)state;
    rig_close(&r);
    r.market[0].target_lots = 250;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    const int64_t slices[] = {100, 100, 50};
    for (size_t i = 0; i < COUNT(slices); i++) {
        oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
        assert_int_equal(a.lots, slices[i]);
        rig_fill(&r, a, 10002, a.lots);
    }
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(oc_engine_position(r.engine, 0).lots, 250);
}

typedef struct config_case {
    const char *key;
    size_t at;
    int64_t value;
} config_case;

static void configuration_is_checked(void **state)
{
    (void)state;
    rig bad;
    rig_defaults(&bad, 1);
    must(oc_engine_config_check(&bad.config));
    bad.config.account.policy.buy_threshold = (double)NAN;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "buy_threshold");
    rig_defaults(&bad, 1);
    bad.config.account.risk.confidence_min = (double)INFINITY;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "confidence_min");
    rig_defaults(&bad, 1);
    bad.config.account.policy.cross_fast = bad.config.account.policy.cross_slow;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "cross_fast");
    rig_defaults(&bad, 1);
    bad.config.account.epoch = 0;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "epoch");
    rig_defaults(&bad, 1);
    bad.market[0].risk.scale.denominator = 0;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "market.risk.scale.denominator");
    rig_defaults(&bad, 1);
    bad.config.account.risk.drawdown_halt_micros = 0;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "halts");
    rig_defaults(&bad, 1);
    bad.config.markets = 0;
    must_fail(oc_engine_config_check(&bad.config), OC_ECONFIG, "instruments");
}

typedef struct scale_case {
    const char *tick, *lot;
    int64_t numerator, denominator;
    bool good;
} scale_case;

static void scales(void **state)
{
    (void)state;
    const scale_case cases[] = {
        {"0.1", "0.001", 100, 1, true},         {"0.0001", "1", 100, 1, true},     {"0.00001", "1000", 10000, 1, true},
        {"1e-8", "1e-8", 1, 10000000000, true}, {"0.25", "50", 12500000, 1, true}, {"0.025", "0.00001", 1, 4, true},
        {"1e17", "1e17", 0, 0, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_instrument instrument = {0};
        oc_money_scale scale = {0, 0};
        assert_true(oc_decimal_parse(cases[i].tick, &instrument.tick) &&
                    oc_decimal_parse(cases[i].lot, &instrument.lot));
        assert_int_equal(oc_money_scale_of(&instrument, &scale), cases[i].good);
        assert_int_equal(scale.numerator, cases[i].numerator);
        assert_int_equal(scale.denominator, cases[i].denominator);
    }
}

typedef struct entry_case {
    uint8_t side;
    int64_t lots, price, held, entry;
} entry_case;

/* The average cost of what is held: it decides stops, and is cut towards zero; the cash is exact beside it. */
static void entries_are_averages(void **state)
{
    (void)state;
    const entry_case cases[] = {
        {OC_SIDE_BUY, 10, 100, 10, 1000},  {OC_SIDE_BUY, 10, 110, 20, 2100}, {OC_SIDE_SELL, 5, 500, 15, 1575},
        {OC_SIDE_SELL, 20, 120, -5, -600}, {OC_SIDE_SELL, 2, 90, -7, -780},  {OC_SIDE_BUY, 4, 100, -3, -335},
        {OC_SIDE_BUY, 3, 100, 0, 0},
    };
    int64_t cash = 0;
    for (size_t i = 0; i < COUNT(cases); i++) { /* fills of unknown orders: booked, and halted */
        const entry_case *c = &cases[i];
        rig_venue(
            &r, (oc_venue_message){
                    .order_id = 99, .price_ticks = c->price, .lots = c->lots, .kind = OC_VENUE_FILL, .side = c->side});
        cash -= (c->side == OC_SIDE_BUY ? c->lots : -c->lots) * c->price;
        oc_position p = oc_engine_position(r.engine, 0);
        assert_int_equal(p.lots, c->held);
        assert_int_equal(p.entry_ticks_lots, c->entry);
        assert_int_equal(p.cash_ticks_lots, cash);
    }
}

static oc_event level(uint8_t kind, uint8_t side, int64_t ticks, int64_t lots, uint8_t flags)
{
    oc_event e = {.receive_ns = 5, .sequence = 6, .kind = kind, .side = side, .flags = flags};
    e.as.price.ticks = ticks;
    e.as.price.lots = lots;
    return e;
}

typedef struct quote_case {
    oc_event event;
    int kind;
    int64_t bid, ask;
} quote_case;

static void books_become_quotes(void **state)
{
    (void)state;
    static oc_book book;
    const quote_case cases[] = {
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 99, 5, OC_EVENT_LAST), 0, 0, 0}, /* one side is no quote */
        {level(OC_EVENT_LEVEL, OC_SIDE_SELL, 101, 5, 0), 0, 0, 0},           /* nor is half a packet */
        {level(OC_EVENT_LEVEL, OC_SIDE_SELL, 103, 5, OC_EVENT_LAST), OC_EVENT_QUOTE, 99, 101},
        {level(OC_EVENT_LEVEL, OC_SIDE_SELL, 104, 5, OC_EVENT_LAST), 0, 0, 0}, /* the best are the same */
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 99, 6, OC_EVENT_LAST), OC_EVENT_QUOTE, 99, 101},
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 102, 5, OC_EVENT_LAST), OC_EVENT_STATUS, 0, 0}, /* crossed: said once */
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 102, 6, OC_EVENT_LAST), 0, 0, 0},
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 102, 0, OC_EVENT_LAST), OC_EVENT_QUOTE, 99, 101},
        {level(OC_EVENT_LEVEL, OC_SIDE_BUY, 98, 5, OC_EVENT_LAST | OC_EVENT_GAP_BEFORE), OC_EVENT_STATUS, 0, 0},
    };
    oc_quote_state quotes = {0};
    oc_book_init(&book);
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_event quote = {0};
        oc_book_apply(&book, &cases[i].event);
        bool given = oc_quote_next(&quotes, &book, &cases[i].event, &quote);
        if (given != (cases[i].kind != 0) || (given && quote.kind != cases[i].kind)) fail_msg("case %zu", i);
        if (quote.kind != OC_EVENT_QUOTE) continue;
        assert_int_equal(quote.as.quote.bid_ticks, cases[i].bid);
        assert_int_equal(quote.as.quote.ask_ticks, cases[i].ask);
        assert_int_equal(quote.receive_ns, 5);
    }
}

static void apply_allocates_nothing(void **state)
{
    (void)state;
    size_t before = oc_memory_count();
    for (int i = 0; i < 1000; i++) {
        r.now_ns += SECOND / 100;
        rig_quote(&r, 0, 10000 + i % 7, 10002 + i % 7);
        rig_predict(&r, 0, i & 1 ? 0.9f : 0.05f, i & 1 ? 0.05f : 0.9f);
        const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
        if (a) rig_fill(&r, *a, a->price_ticks, a->lots);
    }
    assert_int_equal(oc_memory_count(), before);
}

int main(void)
{
#define WITH(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        WITH(signal_becomes_order),
        WITH(bad_predictions_are_held),
        WITH(repeated_predictions_are_held),
        WITH(thresholds),
        WITH(bad_quotes_stop_orders),
        WITH(gaps_and_strange_events),
        WITH(inputs_repeated_lost_backwards),
        WITH(time_zero_is_a_time),
        WITH(stop_and_take),
        WITH(exit_is_tried_again),
        WITH(cross_and_fallback),
        WITH(limit_order_lives_and_is_replaced),
        WITH(quotes_both_sides),
        WITH(venue_messages_once_and_in_order),
        WITH(mismatches_halt),
        WITH(losses_latch),
        WITH(kill_is_latched_through_saving),
        WITH(cancels_are_never_throttled),
        WITH(duplicates_are_refused),
        WITH(recovery_settles_unknown_orders),
        WITH(big_targets_go_in_slices),
        WITH(apply_allocates_nothing),
        WITH(entries_are_averages),
        cmocka_unit_test(books_become_quotes),
        cmocka_unit_test(configuration_is_checked),
        cmocka_unit_test(scales),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
