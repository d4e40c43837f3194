/* test_edges.c - limits, times and answers at their very edge. Each case was found by changing a line of the engine
 * that no test then noticed (a mutation); it fails where that line is changed again. */
#include "trade/trade_case.h"

#include "trade/engine_internal.h"
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
        rig_quote(&r, 0, 10000, 10000);
        assert_int_equal(rig_alert(&r), OC_REASON_TIME);
        assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
        rig_fill(&r, a, 10000, 1);
        assert_int_equal(oc_engine_position(r.engine, 0).lots, (int64_t)i + 1);
        assert_int_equal(oc_engine_time(r.engine), now);
    }
    assert_int_equal(oc_engine_totals_of(r.engine).equity_micros, 0);
}

/* One event from the far future: the clock stays, nothing opens any more, and the stop is wide awake. */
static void one_leap_of_time_puts_no_stop_to_sleep(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    opened_again(10000, 10000);
    (void)entered(0.9f, 0.05f);
    const int64_t now = r.now_ns;
    r.now_ns += r.config.account.leap_ns + 1;
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(rig_alert(&r), OC_REASON_TIME_LEAP);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    assert_int_equal(oc_engine_time(r.engine), now);
    r.now_ns = now + SECOND;
    rig_quote(&r, 0, 9940, 9940);
    assert_int_equal(oc_engine_time(r.engine), now + SECOND);
    assert_non_null(rig_action(&r, OC_ACTION_NEW, 0));
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->reason, OC_REASON_STOP);
    rig_fill(&r, *rig_action(&r, OC_ACTION_NEW, 0), 9940, 10);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
}

/* As far as the limit is no leap; and a glitch within it leaves a clock that is ahead: the market is heard all the
 * same. */
static void a_clock_that_ran_ahead_puts_no_stop_to_sleep(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    opened_again(10000, 10000);
    (void)entered(0.9f, 0.05f);
    const int64_t now = r.now_ns, ahead = now + r.config.account.leap_ns;
    r.now_ns = ahead;
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_ACTIVE);
    r.now_ns = now + SECOND;
    rig_quote(&r, 0, 9940, 9940);
    assert_int_equal(rig_alert(&r), OC_REASON_TIME);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    assert_int_equal(oc_engine_time(r.engine), ahead);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->reason, OC_REASON_STOP);
}

/* The market was closed for longer than that: the second input says that time has really gone on. */
static void a_gap_of_time_is_believed_the_second_time(void **state)
{
    (void)state;
    r.now_ns += r.config.account.leap_ns + 1;
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_alert(&r), OC_REASON_TIME_LEAP);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    rig_quote(&r, 0, 10000, 10000);
    assert_int_equal(rig_alert(&r), OC_REASON_TIME_LEAP);
    assert_int_equal(oc_engine_time(r.engine), r.now_ns);
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_REDUCING);
    rig_operate(&r, OC_OPERATOR_REARM, 0);
    rig_predict(&r, 0, 0.9f, 0.05f);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

typedef struct forgery {
    const char *field; /* that the refusal names */
    size_t at;
    uint64_t value;
    unsigned width;
} forgery;

#define ENGINE(field, value)                                                                                           \
    {                                                                                                                  \
#field, offsetof(oc_engine, field), (uint64_t)(value), sizeof(((oc_engine *)0)->field)                         \
    }
#define MARKET(field, value)                                                                                           \
    {                                                                                                                  \
#field, offsetof(oc_engine, market) + offsetof(market_state, field), (uint64_t)(value),                        \
            sizeof(((market_state *)0)->field)                                                                         \
    }
#define ORDER(field, value)                                                                                            \
    {                                                                                                                  \
#field, offsetof(oc_engine, order) + offsetof(oc_open_order, field), (uint64_t)(value),                        \
            sizeof(((oc_open_order *)0)->field)                                                                        \
    }

static const forgery forgeries[] = {
    ENGINE(rings_at, 1 << 30),
    ENGINE(markets, 200),
    ENGINE(order_count, 97),
    ENGINE(order_count, UINT32_MAX),
    ENGINE(order_count, 0),
    ENGINE(recent_at, 64),
    ENGINE(totals.state, 3),
    ENGINE(totals.epoch, 0),
    ENGINE(totals.epoch, 65536),
    ENGINE(totals.killed, 7),
    ENGINE(totals.connected, 2),
    ENGINE(next_sequence, 0),
    ENGINE(next_sequence, UINT64_MAX),
    ENGINE(now_ns, -1),
    ENGINE(now_ns, INT64_MAX),
    ENGINE(token_ns, -1),
    ENGINE(token_ns, INT64_MAX),
    ENGINE(token_at_ns, INT64_MAX / 2),
    ENGINE(timer_ns, -1),
    ENGINE(day_known, 2),
    ENGINE(timer_set, 255),
    ENGINE(leapt, 2),
    ENGINE(reserved, 1),
    ENGINE(totals.equity_micros, 1),
    ENGINE(totals.exposure_micros, INT64_MIN),
    ENGINE(totals.fees_micros, 5),
    ENGINE(recent[3].lots, -1),
    ENGINE(recent[0].time_ns, INT64_MIN),
    ENGINE(account.risk.exposure_micros_max, 1),
    ENGINE(account.policy.cross_slow, 1000),
    ENGINE(account.policy.kind, 99),
    MARKET(config.risk.order_lots_max, INT64_MAX),
    MARKET(config.risk.scale.denominator, 0),
    MARKET(cross.count, 51),
    MARKET(cross.at, 50),
    MARKET(cross.fast_sum, -1),
    MARKET(cross.slow_sum, INT64_MAX),
    MARKET(position.lots, INT64_MIN),
    MARKET(position.target_lots, INT64_MIN),
    MARKET(bid_ticks, -1),
    MARKET(ask_ticks, INT64_MAX),
    MARKET(ask_ticks, 1),
    MARKET(quote_ns, INT64_MIN),
    MARKET(predicted_ns, -1),
    MARKET(target_reason, OC_REASON_END),
    MARKET(refusal, UINT32_MAX),
    MARKET(quote_known, 2),
    MARKET(exiting, 9),
    MARKET(confidence, UINT64_C(0x7ff8000000000000)),
    MARKET(confidence, UINT64_C(0x4000000000000000)),
    MARKET(open_buy_lots, 11),
    MARKET(open_sell_lots, -1),
    MARKET(exposure_micros, 1),
    ORDER(id, 0),
    ORDER(price_ticks, 0),
    ORDER(price_ticks, INT64_MAX),
    ORDER(lots, 0),
    ORDER(lots, INT64_MIN),
    ORDER(lots, INT64_MAX),
    ORDER(filled_lots, 10),
    ORDER(filled_lots, -1),
    ORDER(sent_ns, INT64_MAX / 2),
    ORDER(until_ns, -1),
    ORDER(instrument, 1),
    ORDER(instrument, UINT32_MAX),
    ORDER(side, 0),
    ORDER(side, 3),
    ORDER(type, 0),
    ORDER(type, 5),
    ORDER(state, 0),
    ORDER(state, 4),
    ORDER(cancelling, 2),
};

/* A state that was changed and given a checksum that fits: saved by an engine whose memory was written to. */
static void forged_states_are_refused(void **state)
{
    (void)state;
    rig_predict(&r, 0, 0.9f, 0.05f);
    rig_ack(&r, *rig_action(&r, OC_ACTION_NEW, 0));
    size_t bytes = oc_engine_save_bytes(r.engine), engine_bytes = oc_engine_bytes(&r.config), saved;
    unsigned char *good, *forged;
    must(oc_memory_new(&good, bytes, "state"));
    must(oc_memory_new(&forged, bytes, "state"));
    must(oc_engine_save(r.engine, good, bytes, &saved));
    must(oc_engine_load(r.engine, good, saved));
    unsigned char *kept = good + (saved - engine_bytes), *memory = (unsigned char *)r.engine;
    for (size_t i = 0; i < COUNT(forgeries); i++) {
        const forgery *c = &forgeries[i];
        memcpy(memory + c->at, &c->value, c->width);
        must(oc_engine_save(r.engine, forged, bytes, &saved));
        memcpy(memory, kept, engine_bytes);
        oc_hash before = oc_engine_state_hash(r.engine);
        if (oc_engine_load(r.engine, forged, saved) != OC_EDATA) fail_msg("%s, case %zu", c->field, i);
        const char *message = oc_status_message();
        if (!strstr(message, "engine state: ")) fail_msg("%s: %s", c->field, message);
        assert_true(oc_hash_equal(before, oc_engine_state_hash(r.engine)));
    }
    must(oc_engine_load(r.engine, good, saved));
    oc_memory_free(forged);
    oc_memory_free(good);
}

/* Orders of a journal that another build is said to have written: none that an engine could not have sent. */
static void forged_actions_are_refused(void **state)
{
    (void)state;
    static oc_action many[OC_ACTIONS_MAX + 1];
    const oc_action good = {
        .price_ticks = 10000, .lots = 5, .kind = OC_ACTION_NEW, .side = OC_SIDE_BUY, .type = OC_ORDER_LIMIT};
    oc_action cases[] = {good, good, good, good, good, good, good, good, good, good, good};
    cases[0].lots = 0, cases[1].lots = INT64_MAX, cases[2].lots = INT64_MIN, cases[3].price_ticks = 0;
    cases[4].price_ticks = INT64_MAX, cases[5].side = 0, cases[6].side = 3, cases[7].type = 0, cases[8].type = 9;
    cases[9].instrument = 1, cases[10].instrument = UINT32_MAX;
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_input in = {.sequence = oc_engine_next_sequence(r.engine), .time_ns = r.now_ns, .kind = OC_INPUT_TIMER};
        cases[i].order_id = oc_order_id(1, in.sequence, 0);
        if (oc_engine_absorb(r.engine, &in, &cases[i], 1) != OC_EDATA) fail_msg("case %zu", i);
        assert_int_equal(oc_engine_order_count(r.engine), 0);
    }
    oc_input in = {.sequence = oc_engine_next_sequence(r.engine), .time_ns = r.now_ns, .kind = OC_INPUT_TIMER};
    must_fail(oc_engine_absorb(r.engine, &in, many, OC_ACTIONS_MAX + 1), OC_EDATA, "at most");
    rig_operate(&r, OC_OPERATOR_HALT, 0);
    in.sequence = oc_engine_next_sequence(r.engine);
    many[0] = (oc_action){.kind = OC_ACTION_ALERT, .state = OC_TRADING_ACTIVE};
    must(oc_engine_absorb(r.engine, &in, many, 1));
    assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
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
        WITH(one_leap_of_time_puts_no_stop_to_sleep),
        WITH(a_clock_that_ran_ahead_puts_no_stop_to_sleep),
        WITH(a_gap_of_time_is_believed_the_second_time),
        WITH(forged_states_are_refused),
        WITH(forged_actions_are_refused),
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
