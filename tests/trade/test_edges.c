/* test_edges.c - limits, times and answers at their very edge. Each case was found by changing a line of the engine
 * that no test then noticed (a mutation); it fails where that line is changed again. */
#include "trade/trade_case.h"

#include "trade/quote.h"
#include "trade/venues/simulated.h"

static rig r;

static int opened(void **state)
{
    (void)state;
    rig_defaults(&r, 1);
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10000);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    rig_close(&r);
    return 0;
}

static void opened_again(int64_t bid, int64_t ask)
{
    rig_close(&r);
    r.message_id = 0;
    rig_open(&r);
    rig_quote(&r, 0, bid, ask);
}

static oc_action entered(float buy, float sell)
{
    rig_predict(&r, 0, buy, sell);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_ack(&r, a);
    rig_fill(&r, a, 10000, a.lots);
    return a;
}

static void a_loss_of_the_limit_is_within_it(void **state)
{
    (void)state;
    r.config.account.risk.daily_loss_micros = 200;
    r.config.account.risk.daily_loss_halt_micros = 600;
    r.market[0].target_lots = 2;
    opened_again(10000, 10000);
    (void)entered(0.9f, 0.05f);
    rig_quote(&r, 0, 9700, 9700);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    rig_quote(&r, 0, 9699, 9700); /* one more: half a tick of two lots */
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
}

static void the_day_begins_at_its_offset(void **state)
{
    const int64_t hour = 3600 * SECOND;
    (void)state;
    r.config.account.day_offset_ns = 6 * hour;
    r.config.account.risk.daily_loss_micros = 1000;
    r.now_ns = 240 * hour + 6 * hour - 2 * SECOND;
    opened_again(10000, 10000);
    (void)entered(0.9f, 0.05f);
    rig_quote(&r, 0, 9910, 9910); /* 900 before six o'clock, … */
    r.now_ns += 2 * SECOND;
    rig_quote(&r, 0, 9820, 9820); /* … and 900 after it */
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
    r.now_ns += 18 * hour; /* midnight is no border */
    rig_quote(&r, 0, 9809, 9809);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
}

static void predictions_at_their_edges(void **state)
{
    const int64_t now = r.now_ns;
    const struct {
        oc_prediction p;
        unsigned alert;
        int news;
    } cases[] = {
        {{now, 1, 0, 1, 0.1f, 0.4f, 0.5f, 0}, OC_REASON_NONE, 0}, /* more sell than buy, under the threshold */
        {{now, 2, 0, 1, 0.9f, 0.05f, 0.0501f, 0}, OC_REASON_PREDICTION_BAD, 0},
        {{now - SECOND - 1, 3, 0, 1, 0.9f, 0.05f, 0.05f, 0}, OC_REASON_PREDICTION_STALE, 0},
        {{now - SECOND, 4, 0, 1, 0.9f, 0.05f, 0.05f, 0}, OC_REASON_NONE, 1},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        rig_apply(&r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = cases[i].p});
        if (rig_alert(&r) != cases[i].alert || rig_count(&r, OC_ACTION_NEW) != cases[i].news) fail_msg("case %zu", i);
    }
}

static void limits_are_rounded_away_from_the_market(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    r.market[0].risk.order_tick_ticks = 5;
    opened_again(10003, 10011);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->price_ticks, 10000);
    opened_again(10003, 10011);
    rig_predict(&r, 0, 0.05f, 0.9f);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->price_ticks, 10015);
}

/* More cancels than tokens empty the bucket; they do not put it into debt. */
static void cancels_leave_no_debt(void **state)
{
    (void)state;
    r.config.account.policy.kind = OC_POLICY_QUOTE;
    r.config.account.policy.quote_interval_ns = SECOND;
    r.config.account.risk.message_burst = 2;
    r.config.account.risk.message_reserve = 0;
    r.config.account.risk.message_ns = SECOND;
    opened_again(10000, 10002);
    r.now_ns = 2 * SECOND;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 2);
    rig_operate(&r, OC_OPERATOR_HALT, 0);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 2);
    rig_operate(&r, OC_OPERATOR_REARM, 0);
    r.now_ns += SECOND;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

/* 64 orders are remembered; where so many went within the window the next might be one of the forgotten. */
static void too_many_to_remember_is_refused(void **state)
{
    (void)state;
    r.config.account.risk.duplicate_ns = 1000 * SECOND;
    r.config.account.risk.message_burst = 10000;
    r.config.account.risk.message_ns = 1;
    opened_again(10000, 10000);
    for (int i = 0; i < 64; i++) {
        rig_quote(&r, 0, 10001 + i, 10001 + i);
        (void)entered(i % 2 ? 0.05f : 0.9f, i % 2 ? 0.9f : 0.05f);
    }
    rig_quote(&r, 0, 10100, 10100);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_DUPLICATE);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
}

static void a_fill_beyond_the_limit_price_halts(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    opened_again(10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_ack(&r, a);
    rig_fill(&r, a, a.price_ticks + 1, 3);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    assert_int_equal(oc_engine_position(r.engine, 0).lots, 3);
}

static void a_hole_is_asked_for_once_a_second(void **state)
{
    const oc_venue_message later = {5, 1, 0, 0, 0, 0, OC_VENUE_CANCEL_REJECT, OC_SIDE_BUY, 0, 0};
    (void)state;
    rig_venue(&r, later);
    assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 1);
    r.now_ns += SECOND - 1;
    rig_venue(&r, later);
    assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 0);
    r.now_ns += 1;
    rig_venue(&r, later);
    assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 1);
}

static void a_broken_line_makes_orders_unknown(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    uint64_t id = rig_action(&r, OC_ACTION_NEW, 0)->order_id;
    rig_venue(&r, (oc_venue_message){.kind = OC_VENUE_DISCONNECTED});
    assert_true(oc_engine_totals_of(r.engine).unknown_orders);
    rig_venue(&r, (oc_venue_message){.kind = OC_VENUE_CONNECTED});
    assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 2);
    assert_int_equal(rig_action(&r, OC_ACTION_QUERY, 1)->order_id, id);
}

static void no_clock_loses_a_fill(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    const int64_t now = r.now_ns, strange[] = {0, -1, INT64_MAX, INT64_MIN, INT64_MAX / 2 + 1};
    for (size_t i = 0; i < COUNT(strange); i++) {
        r.now_ns = strange[i];
        rig_quote(&r, 0, 10500, 10500); /* of the market nothing is believed */
        assert_int_equal(rig_alert(&r), OC_REASON_TIME);
        rig_fill(&r, a, 10000, 1);
        assert_int_equal(oc_engine_position(r.engine, 0).lots, (int64_t)i + 1);
        assert_int_equal(oc_engine_time(r.engine), now);
    }
    assert_int_equal(oc_engine_totals_of(r.engine).equity_micros, 0);
}

static void a_flatten_is_tried_until_it_is_done(void **state)
{
    (void)state;
    (void)entered(0.9f, 0.05f);
    rig_operate(&r, OC_OPERATOR_FLATTEN, 0);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = a.lots, .kind = OC_VENUE_REJECT, .side = a.side});
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

static void level(oc_venue *line, uint8_t side, int64_t ticks, int64_t lots)
{
    oc_event e = {.receive_ns = r.now_ns, .kind = OC_EVENT_LEVEL, .side = side, .flags = OC_EVENT_LAST};
    e.as.price.ticks = ticks;
    e.as.price.lots = lots;
    line->market(line->context, &e);
}

/* Behind the touch there is nothing for 20 %: what leaves at the market stops at the collar, at the venue itself. */
static void a_thin_book_is_not_walked_past_the_collar(void **state)
{
    const oc_simulated_market market = {{1, 1}, 1, 0, 0, 1, 1};
    const oc_simulated_config config = {.seed = 1, .partial = true, .market = &market, .markets = 1};
    oc_simulated *venue;
    oc_venue_message m;
    int64_t at, lots = 0;
    (void)state;
    must(oc_simulated_open(&venue, &config));
    oc_venue line = oc_simulated_venue(venue);
    level(&line, OC_SIDE_BUY, 10000, 5);
    level(&line, OC_SIDE_SELL, 10002, 1);
    level(&line, OC_SIDE_SELL, 10101, 1);
    level(&line, OC_SIDE_SELL, 10102, 1);
    level(&line, OC_SIDE_SELL, 12000, 100);
    rig_quote(&r, 0, 10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    must(line.send(line.context, rig_action(&r, OC_ACTION_NEW, 0), r.now_ns));
    while (line.poll(line.context, r.now_ns, &m, &at)) {
        if (m.kind != OC_VENUE_FILL) continue;
        lots += m.lots;
        assert_true(m.price_ticks <= 10101); /* 1 % above the mid of 10,001 */
    }
    assert_int_equal(lots, 2);
    oc_simulated_close(venue);
}

static void the_edge_of_the_collar(void **state)
{
    const struct {
        int64_t bid, ask, step, bps;
        float buy;
        int64_t price;
        oc_reason refused;
    } cases[] = {
        {10000, 10002, 1, 100, 0.9f, 10101, OC_REASON_NONE},   {10000, 10002, 1, 100, 0.05f, 9901, OC_REASON_NONE},
        {10000, 10002, 10, 100, 0.9f, 10100, OC_REASON_NONE},  {10000, 10002, 10, 100, 0.05f, 9910, OC_REASON_NONE},
        {10000, 10002, 1, 0, 0.9f, 0, OC_REASON_COLLAR},       {10000, 10300, 1, 100, 0.9f, 0, OC_REASON_COLLAR},
        {10000, 10300, 1, 100, 0.05f, 0, OC_REASON_COLLAR},    {10000, 10002, 1, 1000000, 0.05f, 1, OC_REASON_NONE},
        {10000, 10000, 1, 0, 0.9f, 10000, OC_REASON_NONE},     {1, 1, 1, 1000000, 0.9f, 101, OC_REASON_NONE},
        {10000, 10002, 10000, 100, 0.9f, 0, OC_REASON_COLLAR}, {2, 4, 10, 100, 0.05f, 0, OC_REASON_ORDER_PRICE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        r.market[0].risk.order_tick_ticks = cases[i].step;
        r.market[0].risk.collar_bps = cases[i].bps;
        r.market[0].risk.order_micros_max = INT64_C(1) << 60;
        opened_again(cases[i].bid, cases[i].ask);
        rig_predict(&r, 0, cases[i].buy, 0.95f - cases[i].buy);
        const oc_action *a = rig_action(&r, OC_ACTION_NEW, 0);
        if ((a ? a->price_ticks : 0) != cases[i].price || (!a && rig_alert(&r) != cases[i].refused))
            fail_msg("case %zu: %lld, %s", i, a ? (long long)a->price_ticks : 0LL, oc_reason_name(rig_alert(&r)));
    }
}

/* What the order may come to is looked at, not what the touch would cost. */
static void notional_is_of_the_worst_price(void **state)
{
    (void)state;
    r.market[0].risk.order_micros_max = 10 * 10101;
    opened_again(10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
    r.market[0].risk.order_micros_max--;
    opened_again(10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(rig_alert(&r), OC_REASON_NOTIONAL);
}

/* The venue says that another rest is gone than ours: asked, and until it has answered the order counts. */
static void another_rest_is_asked_for(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_ack(&r, a);
    rig_fill(&r, a, 10000, 3);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = 10, .kind = OC_VENUE_REJECT, .side = a.side});
    assert_int_equal(rig_alert(&r), OC_REASON_MESSAGE_BAD);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    assert_int_equal(oc_engine_order_count(r.engine), 1);
    assert_int_equal(rig_action(&r, OC_ACTION_QUERY, 0)->order_id, a.order_id);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .kind = OC_VENUE_NOT_FOUND});
    assert_int_equal(oc_engine_order_count(r.engine), 0);
}

static void the_rest_of_an_ioc_waits_for_a_decision(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_IOC;
    opened_again(10000, 10002);
    rig_predict(&r, 0, 0.9f, 0.05f);
    oc_action a = *rig_action(&r, OC_ACTION_NEW, 0);
    rig_ack(&r, a);
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = 10, .kind = OC_VENUE_CANCELLED, .side = a.side});
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(rig_alert(&r), OC_REASON_CANCELLED);
}

static void a_refusal_is_told_once(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    opened_again(10000, 10000);
    (void)entered(0.9f, 0.05f);
    rig_venue(&r, (oc_venue_message){.kind = OC_VENUE_DISCONNECTED});
    rig_quote(&r, 0, 9900, 9900);
    assert_int_equal(rig_alert(&r), OC_REASON_DISCONNECTED);
    rig_quote(&r, 0, 9899, 9899);
    assert_int_equal(rig_count(&r, OC_ACTION_ALERT), 0);
    assert_int_equal(oc_engine_totals_of(r.engine).refusals, 2);
}

static void an_epoch_is_no_configuration(void **state)
{
    (void)state;
    oc_hash before = oc_engine_config_hash(&r.config);
    r.config.account.epoch = 7;
    assert_true(oc_hash_equal(before, oc_engine_config_hash(&r.config)));
}

/* What says something else of the best prices does not confirm them. */
static void only_the_same_quote_confirms_a_book(void **state)
{
    static oc_book book;
    oc_quote_state quotes = {.repeat_ns = 10};
    oc_event e = {.kind = OC_EVENT_SNAPSHOT, .side = OC_SIDE_BUY}, quote;
    (void)state;
    oc_book_init(&book);
    e.as.price.ticks = 99, e.as.price.lots = 5;
    oc_book_apply(&book, &e);
    e.side = OC_SIDE_SELL, e.flags = OC_EVENT_LAST, e.as.price.ticks = 101;
    oc_book_apply(&book, &e);
    assert_true(oc_quote_next(&quotes, &book, &e, &quote));
    const int64_t asks[] = {102, 101};
    for (int i = 0; i < 2; i++) {
        e = (oc_event){.receive_ns = 20, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
        e.as.quote.bid_ticks = 99, e.as.quote.ask_ticks = asks[i];
        assert_int_equal(oc_quote_next(&quotes, &book, &e, &quote), i == 1);
    }
    e.receive_ns = 29;
    assert_false(oc_quote_next(&quotes, &book, &e, &quote));
}

int main(void)
{
#define WITH(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        WITH(a_loss_of_the_limit_is_within_it),
        WITH(the_day_begins_at_its_offset),
        WITH(predictions_at_their_edges),
        WITH(limits_are_rounded_away_from_the_market),
        WITH(cancels_leave_no_debt),
        WITH(too_many_to_remember_is_refused),
        WITH(a_fill_beyond_the_limit_price_halts),
        WITH(a_hole_is_asked_for_once_a_second),
        WITH(a_broken_line_makes_orders_unknown),
        WITH(no_clock_loses_a_fill),
        WITH(a_flatten_is_tried_until_it_is_done),
        WITH(a_thin_book_is_not_walked_past_the_collar),
        WITH(the_edge_of_the_collar),
        WITH(notional_is_of_the_worst_price),
        WITH(another_rest_is_asked_for),
        WITH(the_rest_of_an_ioc_waits_for_a_decision),
        WITH(a_refusal_is_told_once),
        WITH(an_epoch_is_no_configuration),
        cmocka_unit_test(only_the_same_quote_confirms_a_book),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
