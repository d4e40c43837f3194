/* test_hostile.c - the engine when the line, the venue, a person or the predictor does the worst. Each case here once
 * failed: a cancel that was lost with the line and never sent again, a lifetime that ended only once, quotes beside a
 * stop, an order without an answer that kept the stop waiting for ever, a prediction that overtook a refusal. */
#include "trade/trade_case.h"

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

static void opened_again(void)
{
    rig_close(&r);
    r.message_id = 0;
    rig_open(&r);
    rig_quote(&r, 0, 10000, 10002);
}

static oc_action ordered(float buy, float sell)
{
    rig_predict(&r, 0, buy, sell);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
    return *rig_action(&r, OC_ACTION_NEW, 0);
}

static void line(bool up)
{
    rig_venue(&r, (oc_venue_message){.kind = up ? OC_VENUE_CONNECTED : OC_VENUE_DISCONNECTED});
}

static void answered(oc_action a, unsigned kind, int64_t lots)
{
    rig_venue(&r, (oc_venue_message){.order_id = a.order_id, .lots = lots, .kind = (uint8_t)kind, .side = a.side});
}

/* ---- the line ---- */

/* A kill while the line is broken: the cancels of that moment went nowhere. */
static void a_kill_without_a_line_cancels_when_it_is_back(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    opened_again();
    rig_ack(&r, ordered(0.9f, 0.05f));
    line(false);
    rig_operate(&r, OC_OPERATOR_KILL, 0);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    line(true);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
}

static void a_lifetime_without_a_line_ends_when_it_is_back(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    opened_again();
    rig_ack(&r, ordered(0.9f, 0.05f));
    line(false);
    r.now_ns += 10 * SECOND;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    line(true);
    const oc_action *timer = rig_action(&r, OC_ACTION_TIMER, 0);
    assert_non_null(timer);
    assert_true(timer->at_ns <= r.now_ns);
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
}

/* Neither given up nor repeated as fast as the venue refuses. */
static void a_refused_cancel_is_sent_again_a_second_later(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    opened_again();
    oc_action a = ordered(0.9f, 0.05f);
    rig_ack(&r, a);
    rig_operate(&r, OC_OPERATOR_REDUCE, 0);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    for (int i = 0; i < 3; i++) {
        answered(a, OC_VENUE_CANCEL_REJECT, 0);
        assert_int_equal(rig_count(&r, OC_ACTION_QUERY), 1);
        answered(a, OC_VENUE_ACK, a.lots); /* it stands, and it would open a position */
        assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 0);
        r.now_ns += SECOND;
        rig_timer(&r);
        assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
        if (i == 1) rig_operate(&r, OC_OPERATOR_HALT, 0);
    }
}

/* What was sent before the state rose and is answered after it may not stand either. */
static void an_order_found_while_reducing_is_cancelled(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_LIMIT;
    opened_again();
    oc_action a = ordered(0.9f, 0.05f);
    rig_operate(&r, OC_OPERATOR_REDUCE, 0);
    line(false); /* with the cancel */
    line(true);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    answered(a, OC_VENUE_CANCEL_REJECT, 0); /* the venue did not know it yet */
    r.now_ns += SECOND / 2;
    answered(a, OC_VENUE_ACK, a.lots);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 0);
    r.now_ns += SECOND / 2;
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
}

/* An exit that nobody answered must not stand in its own way: it is asked for, and sent again once it is known lost. */
static void an_exit_without_an_answer_is_asked_for(void **state)
{
    (void)state;
    r.config.account.policy.stop_bps = 50;
    opened_again();
    oc_action a = ordered(0.9f, 0.05f);
    rig_ack(&r, a);
    rig_fill(&r, a, 10002, a.lots);
    rig_quote(&r, 0, 9900, 9902);
    oc_action lost = *rig_action(&r, OC_ACTION_NEW, 0);
    int queries = 0;
    for (int i = 0; i < 100; i++) {
        r.now_ns += SECOND / 10;
        rig_quote(&r, 0, 9900 - i % 2, 9902);
        assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
        const oc_action *query = rig_action(&r, OC_ACTION_QUERY, 0);
        queries += query != NULL;
        if (query) assert_int_equal(query->order_id, lost.order_id);
    }
    assert_int_equal(queries, 1);
    answered(lost, OC_VENUE_NOT_FOUND, 0);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
}

/* ---- people ---- */

static void a_person_is_always_answered(void **state)
{
    static const struct {
        uint32_t command;
        unsigned reason;
    } cases[] = {{OC_OPERATOR_KILL, OC_REASON_KILL},
                 {OC_OPERATOR_HALT, OC_REASON_OPERATOR},
                 {OC_OPERATOR_REDUCE, OC_REASON_OPERATOR},
                 {OC_OPERATOR_FLATTEN, OC_REASON_OPERATOR}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        opened_again();
        rig_operate(&r, OC_OPERATOR_HALT, 0);
        rig_operate(&r, cases[i].command, 0);
        if (rig_alert(&r) != cases[i].reason) fail_msg("command %u while halted: no answer", cases[i].command);
        assert_int_equal(oc_engine_trading_state(r.engine), OC_TRADING_HALTED);
    }
}

/* ---- quotes beside an exit ---- */

typedef struct quotes {
    oc_action bid, ask;
} quotes;

static quotes quoted(void)
{
    r.now_ns = (r.now_ns / (SECOND / 10) + 1) * (SECOND / 10);
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 2);
    quotes q = {*rig_action(&r, OC_ACTION_NEW, 0), *rig_action(&r, OC_ACTION_NEW, 1)};
    rig_ack(&r, q.bid);
    rig_ack(&r, q.ask);
    return q;
}

static void quoter_opened(void)
{
    r.config.account.policy.kind = OC_POLICY_QUOTE;
    r.config.account.policy.stop_bps = 50;
    r.config.account.policy.cooldown_ns = SECOND;
    r.config.account.policy.quote_lots = 5;
    opened_again();
}

static void a_stop_takes_the_quotes_away_at_once(void **state)
{
    (void)state;
    quoter_opened();
    quotes q = quoted();
    rig_fill(&r, q.bid, 10000, 5);
    rig_quote(&r, 0, 9940, 9942); /* the stop */
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    assert_int_equal(rig_count(&r, OC_ACTION_CANCEL), 1);
    r.now_ns += SECOND / 10; /* the next quotes would be due: not while we leave */
    rig_timer(&r);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    answered(q.ask, OC_VENUE_CANCELLED, 5);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
    oc_action exit = *rig_action(&r, OC_ACTION_NEW, 0);
    assert_int_equal(exit.type, OC_ORDER_IOC);
    assert_int_equal(exit.lots, 5);
    rig_fill(&r, exit, 9940, 5);
    for (int i = 0; i < 9; i++) { /* nor while it cools down */
        r.now_ns += SECOND / 10 - 1;
        rig_quote(&r, 0, 9940, 9942);
        assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
        rig_timer(&r);
        assert_int_equal(rig_count(&r, OC_ACTION_NEW), 0);
    }
}

/* The exit is over: what is quoted and filled afterwards is kept, not closed by the old target. */
static void an_old_stop_does_not_close_new_inventory(void **state)
{
    (void)state;
    quoter_opened();
    quotes q = quoted();
    rig_fill(&r, q.bid, 10000, 5);
    rig_quote(&r, 0, 9940, 9942);
    answered(q.ask, OC_VENUE_CANCELLED, 5);
    rig_fill(&r, *rig_action(&r, OC_ACTION_NEW, 0), 9940, 5);
    r.now_ns += 2 * SECOND;
    rig_quote(&r, 0, 9940, 9942);
    q = rig_count(&r, OC_ACTION_NEW) == 2
            ? (quotes){*rig_action(&r, OC_ACTION_NEW, 0), *rig_action(&r, OC_ACTION_NEW, 1)}
            : quoted();
    rig_fill(&r, q.bid, 9940, 2);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW) + rig_count(&r, OC_ACTION_CANCEL), 0);
}

/* ---- predictions ---- */

static void a_refused_prediction_is_not_overtaken(void **state)
{
    static const oc_prediction refused[] = {
        {0, 8, 0, 1, 0.1f, 0.1f, 0.8f, OC_PREDICTION_HOLD},
        {-10 * SECOND, 8, 0, 1, 0.1f, 0.1f, 0.8f, 0},
        {0, 8, 0, 1, 2.0f, 0.1f, 0.8f, 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        opened_again();
        oc_prediction p = refused[i];
        p.input_ns += r.now_ns;
        rig_apply(&r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
        p = (oc_prediction){r.now_ns, 7, 0, 1, 0.9f, 0.05f, 0.05f, 0};
        rig_apply(&r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
        if (rig_alert(&r) != OC_REASON_PREDICTION_ORDER || rig_count(&r, OC_ACTION_NEW)) fail_msg("case %zu", i);
        p.sequence = 9;
        rig_apply(&r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
        assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
    }
}

/* The configured type of order holds for whatever opens a position; only leaving is worth the market's price. */
static void a_fallback_opens_by_the_configured_type(void **state)
{
    (void)state;
    r.config.account.policy.order_type = OC_ORDER_POST;
    r.config.account.policy.fallback = OC_FALLBACK_CROSS;
    r.config.account.policy.cross_fast = 1;
    r.config.account.policy.cross_slow = 2;
    opened_again();
    r.now_ns += SECOND;
    rig_quote(&r, 0, 10010, 10012);
    assert_int_equal(rig_count(&r, OC_ACTION_NEW), 1);
    assert_int_equal(rig_action(&r, OC_ACTION_NEW, 0)->type, OC_ORDER_POST);
}

int main(void)
{
#define WITH(name) cmocka_unit_test_setup_teardown(name, opened, closed)
    const struct CMUnitTest tests[] = {
        WITH(a_kill_without_a_line_cancels_when_it_is_back), WITH(a_lifetime_without_a_line_ends_when_it_is_back),
        WITH(a_refused_cancel_is_sent_again_a_second_later), WITH(an_order_found_while_reducing_is_cancelled),
        WITH(an_exit_without_an_answer_is_asked_for),        WITH(a_person_is_always_answered),
        WITH(a_stop_takes_the_quotes_away_at_once),          WITH(an_old_stop_does_not_close_new_inventory),
        WITH(a_refused_prediction_is_not_overtaken),         WITH(a_fallback_opens_by_the_configured_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
