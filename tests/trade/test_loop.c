/* The loop's promises on a market made here: predictions enter at their event's time + the delay, what comes before
 * first_ns is history, memory does not grow with the number of events, a full ring of predictions is refused. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/trade/trade_case.h"
#include "trade/loop.h"
#include "trade/venues/simulated.h"

enum { STEP_NS = 1000000, EVENTS = 4000 };

static oc_event event[EVENTS];
static const oc_instrument instrument = {"X", {1, -2, 0}, {1, 0, 0}, {1, -2, 0}};

typedef struct answers {
    size_t given, rows, allocations, remembered;
} answers;

static oc_status feed_next(void *context, const oc_event **events, size_t *count)
{
    answers *a = context;
    *events = event + a->given;
    *count = EVENTS - a->given < 64 ? EVENTS - a->given : 64;
    a->given += *count;
    if (a->given == 128) a->allocations = oc_memory_count();
    if (a->given > 128) assert_int_equal(oc_memory_count(), a->allocations);
    return OC_OK;
}

/* Long for 100 rows, short for 100. */
static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    answers *a = context;
    bool up = a->rows++ / 100 % 2 == 0;
    (void)row;
    *p = (oc_prediction){.buy = up ? 0.8f : 0.1f, .sell = up ? 0.1f : 0.8f, .hold = 0.1f};
    *made = true;
    return OC_OK;
}

/* Every row before first_ns, and none behind the first that was asked for. */
static oc_status history(void *context, const oc_feature_row *row)
{
    answers *a = context;
    assert_int_equal(a->rows, 0);
    assert_int_equal(row->time_ns, SECOND + (int64_t)a->remembered++ * STEP_NS);
    return OC_OK;
}

static void events_make(void)
{
    for (int i = 0; i < EVENTS; i++) {
        int64_t bid = 5000 + (i / 100 % 2 ? -(i % 100) : i % 100) / 10;
        event[i] = (oc_event){.receive_ns = SECOND + (int64_t)i * STEP_NS,
                              .sequence = (uint64_t)i + 1,
                              .kind = OC_EVENT_QUOTE,
                              .flags = OC_EVENT_LAST};
        event[i].as.quote.bid_ticks = bid;
        event[i].as.quote.ask_ticks = bid + 1;
        event[i].as.quote.bid_lots = event[i].as.quote.ask_lots = 100 + i % 2;
    }
}

/* The first event decision inputs of a run's journal: how long after its row a prediction came. */
static int64_t delay_recorded(const char *folder, size_t *predictions)
{
    static oc_action actions[OC_ACTIONS_MAX];
    oc_journal_reader r;
    oc_journal_item item;
    oc_input input;
    bool more = true;
    size_t count;
    int64_t delay = -1;
    must(oc_journal_reader_open(&r, folder, 0));
    for (*predictions = 0; more;) {
        must(oc_journal_reader_next(&r, &item, &more));
        if (!more || item.kind != OC_JOURNAL_INPUT) continue;
        must(oc_journal_input_read(&item, &input, actions, OC_ACTIONS_MAX, &count));
        if (input.kind != OC_INPUT_PREDICTION) continue;
        int64_t late = input.time_ns - input.as.prediction.input_ns;
        assert_true(++*predictions == 1 || late == delay);
        delay = late;
    }
    oc_journal_reader_close(&r);
    return delay;
}

static oc_status run(const char *folder, int64_t delay_ns, int64_t first_ns, oc_loop_result *result, oc_hash *hash)
{
    const char *const names[] = {"return:1"};
    const oc_feature_spec spec = {.features = names, .feature_count = 1, .sample = "packet"};
    const oc_simulated_market place = {.scale = {1, 1}, .order_tick_ticks = 1, .taker_ppm = 100};
    const oc_simulated_config venue = {.to_ns = 1, .back_ns = 1, .market = &place, .markets = 1};
    rig r;
    answers a = {0};
    oc_features *features;
    oc_simulated *v;
    oc_desk *desk;
    static oc_tally tally;
    rig_defaults(&r, 1);
    must(oc_features_open(&features, &spec, &instrument, 1));
    must(oc_simulated_open(&v, &venue));
    must(oc_desk_open(&desk, &r.config, &(oc_desk_options){.folder = folder}));
    oc_tally_open(&tally, &(oc_tally_setup){.engine = &r.config, .interval_ns = SECOND});
    const oc_loop_setup setup = {.feed = {&a, feed_next},
                                 .features = features,
                                 .predictor = {.context = &a, .predict = predict, .history = history},
                                 .desk = desk,
                                 .venue = oc_simulated_venue(v),
                                 .tally = &tally,
                                 .decision_delay_ns = delay_ns,
                                 .first_ns = first_ns,
                                 .last_ns = INT64_MAX};
    oc_status status = oc_loop_run(&setup, result);
    assert_int_equal((int64_t)a.remembered, (first_ns - SECOND) / STEP_NS);
    if (status == OC_OK) {
        assert_int_equal(tally.equity_micros, oc_engine_totals_of(oc_desk_engine(desk)).equity_micros);
        must(oc_desk_end(desk));
        *hash = oc_desk_journal_hash(desk);
    }
    must(oc_desk_close(desk, false));
    oc_simulated_close(v);
    oc_features_close(features);
    return status;
}

static void folder_take(char *folder, size_t cap)
{
    snprintf(folder, cap, "loop-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void folder_drop(const char *folder)
{
    char path[128];
    snprintf(path, sizeof path, "%s/journal-000000.ocj", folder);
    assert_int_equal(unlink(path) | rmdir(folder), 0);
}

static void test_delays(void **state)
{
    static const int64_t delays[] = {0, 1, STEP_NS, 7 * STEP_NS + 3};
    (void)state;
    events_make();
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        char folder[2][32];
        oc_hash hash[2];
        oc_loop_result result;
        oc_desk_report report;
        size_t predictions;
        for (int k = 0; k < 2; k++) {
            folder_take(folder[k], sizeof folder[k]);
            must(run(folder[k], delays[i], SECOND + 1000 * STEP_NS, &result, &hash[k]));
        }
        assert_int_equal(result.events, EVENTS);
        assert_int_equal(result.traded_events, EVENTS - 1000);
        assert_int_equal(result.first_ns, SECOND + 1000 * (int64_t)STEP_NS);
        assert_int_equal(delay_recorded(folder[0], &predictions), delays[i]);
        assert_true(predictions > 2900 && predictions <= result.predictions);
        assert_true(oc_hash_equal(hash[0], hash[1]));
        must(oc_desk_replay(folder[0], (oc_hash){0, 0}, &report));
        assert_true(oc_hash_equal(report.journal_hash, hash[0]) && report.tail == OC_JOURNAL_CLOSED);
        folder_drop(folder[0]);
        folder_drop(folder[1]);
    }
}

/* By hand: buy 2 at 100 (fee 4), sell 3 at 110 (fee 6): 20 - 4 - 4 on the first trip; then buy 1 at 111 (fee 1):
 * -1 - 2 - 1. */
static void test_tally(void **state)
{
    rig r;
    static oc_tally t, nothing;
    (void)state;
    rig_defaults(&r, 1);
    oc_tally_open(&t, &(oc_tally_setup){.engine = &r.config, .interval_ns = 10});
    oc_venue_message buy = {.lots = 2, .price_ticks = 100, .fee_micros = 4, .side = OC_SIDE_BUY};
    oc_venue_message sell = {.lots = 3, .price_ticks = 110, .fee_micros = 6, .side = OC_SIDE_SELL};
    oc_venue_message back = {.lots = 1, .price_ticks = 111, .fee_micros = 1, .side = OC_SIDE_BUY};
    oc_tally_fill(&t, &(oc_position){0}, &buy);
    oc_tally_fill(&t, &(oc_position){.lots = 2, .entry_ticks_lots = 200}, &sell);
    oc_tally_fill(&t, &(oc_position){.lots = -1, .entry_ticks_lots = -110}, &back);
    assert_true(t.trades == 2 && t.wins == 1);
    assert_true(fabs(t.gains_micros - 12) < 1e-9 && fabs(t.losses_micros - 4) < 1e-9);
    assert_true(fabs(t.turnover_micros - 641) < 1e-9);
    const int64_t equity[] = {0, 10, -5, 20};
    for (int i = 0; i < 4; i++) oc_tally_equity(&t, i * 10, equity[i]);
    assert_int_equal(t.drawdown_micros, 15);
    assert_int_equal(t.intervals, 3);
    assert_true(isnan(oc_tally_profit_factor(&nothing)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_delays), cmocka_unit_test(test_tally)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
