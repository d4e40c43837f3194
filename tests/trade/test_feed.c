/* test_feed.c - what the loop tells the engine of a market and a venue that behave strangely. Would catch: a book that
 * is confirmed for minutes and yet taken for stale, a break after which an unchanged book is never told again, a
 * venue's message that ends the process. */
#include "trade/trade_case.h"

#include <unistd.h>

#include "trade/loop.h"

enum { EVENTS = 24 };

static const oc_instrument instrument = {"X", {1, -2, 0}, {1, 0, 0}, {1, -2, 0}};

typedef struct scene { /* feed, predictor and venue at once */
    oc_event event[EVENTS];
    size_t given, news, rows;
    size_t signal_at; /* the row that is answered with a signal; SIZE_MAX: none */
    oc_venue_message message[4];
    size_t messages, polled;
} scene;

static oc_status feed_next(void *context, const oc_event **events, size_t *count)
{
    scene *s = context;
    *events = s->event;
    *count = s->given ? 0 : EVENTS;
    s->given = EVENTS;
    return OC_OK;
}

static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    scene *s = context;
    (void)row;
    *p = (oc_prediction){.buy = 0.8f, .sell = 0.1f, .hold = 0.1f};
    *made = s->rows++ == s->signal_at;
    return OC_OK;
}

static oc_status venue_connect(void *context, int64_t now_ns)
{
    (void)context;
    (void)now_ns;
    return OC_OK;
}

static oc_status venue_send(void *context, const oc_action *action, int64_t now_ns)
{
    scene *s = context;
    (void)now_ns;
    s->news += action->kind == OC_ACTION_NEW;
    return OC_OK;
}

static bool venue_poll(void *context, int64_t until_ns, oc_venue_message *message, int64_t *at_ns)
{
    scene *s = context;
    if (s->polled == s->messages) return false;
    *message = s->message[s->polled++];
    *at_ns = until_ns;
    return true;
}

static int64_t venue_next_ns(void *context)
{
    const scene *s = context;
    return s->polled < s->messages ? SECOND : INT64_MAX;
}

static oc_event level(int i, uint8_t kind, uint8_t side, int64_t ticks, int64_t lots, bool last)
{
    oc_event e = {.receive_ns = SECOND + i * SECOND, .sequence = (uint64_t)i + 1, .kind = kind, .side = side};
    e.flags = last ? OC_EVENT_LAST : 0;
    e.as.price.ticks = ticks;
    e.as.price.lots = lots;
    return e;
}

/* The best prices stand still; behind them something moves every second. */
static scene scene_of(void)
{
    scene s = {.signal_at = SIZE_MAX, .messages = 1, .message = {{.kind = OC_VENUE_CONNECTED}}};
    s.event[0] = level(0, OC_EVENT_SNAPSHOT, OC_SIDE_BUY, 5000, 10, false);
    s.event[1] = level(0, OC_EVENT_SNAPSHOT, OC_SIDE_SELL, 5001, 10, true);
    for (int i = 2; i < EVENTS; i++) s.event[i] = level(i, OC_EVENT_LEVEL, OC_SIDE_BUY, 4990 - i % 3, 5 + i, true);
    return s;
}

static oc_engine_totals scene_play(scene *s, oc_desk *desk, rig *r)
{
    const char *const names[] = {"return:1"};
    const oc_feature_spec spec = {.features = names, .feature_count = 1, .sample = "packet"};
    oc_features *features;
    oc_loop_result result;
    oc_tally tally;
    must(oc_features_open(&features, &spec, &instrument, 1));
    oc_tally_open(&tally, &(oc_tally_setup){.engine = &r->config, .interval_ns = SECOND});
    const oc_loop_setup setup = {.feed = {s, feed_next},
                                 .features = features,
                                 .predictor = {.context = s, .predict = predict},
                                 .desk = desk,
                                 .venue = {s, venue_connect, venue_send, NULL, NULL, venue_poll, venue_next_ns},
                                 .tally = &tally,
                                 .decision_delay_ns = 1,
                                 .last_ns = INT64_MAX};
    must(oc_loop_run(&setup, &result));
    oc_features_close(features);
    return oc_engine_totals_of(oc_desk_engine(desk));
}

static oc_engine_totals scene_run(scene *s)
{
    char folder[] = "feed-XXXXXX", path[64];
    rig r;
    oc_desk *desk;
    assert_non_null(mkdtemp(folder));
    rig_defaults(&r, 1);
    must(oc_desk_open(&desk, &r.config, &(oc_desk_options){.folder = folder}));
    oc_engine_totals totals = scene_play(s, desk, &r);
    must(oc_desk_close(desk, true));
    snprintf(path, sizeof path, "%s/journal-000000.ocj", folder);
    assert_int_equal(unlink(path) | rmdir(folder), 0);
    return totals;
}

/* Quotes are stale after 5 s; this book is 15 s old at its best and has been confirmed every second. */
static void a_confirmed_book_is_not_stale(void **state)
{
    (void)state;
    scene s = scene_of();
    s.signal_at = 15;
    assert_int_equal(scene_run(&s).orders, 1);
    for (int i = 2; i < EVENTS; i++) s.event[i].kind = OC_EVENT_TRADE; /* a trade says nothing of the book */
    s.given = s.rows = s.polled = 0;
    assert_int_equal(scene_run(&s).orders, 0);
}

static void a_break_is_over_when_the_book_is_told_again(void **state)
{
    (void)state;
    scene s = scene_of();
    s.event[5].kind = OC_EVENT_STATUS;
    memset(&s.event[5].as, 0, sizeof s.event[5].as);
    s.signal_at = 5; /* a second after the break */
    assert_int_equal(scene_run(&s).orders, 1);
}

static void a_fill_of_no_instrument_halts(void **state)
{
    (void)state;
    scene s = scene_of();
    s.message[1] = (oc_venue_message){1, 9, 5000, 1, 0, 0, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0};
    s.message[2] = (oc_venue_message){2, 9, 5000, 1, 0, 77, OC_VENUE_FILL, OC_SIDE_BUY, 0, 0};
    s.messages = 3;
    oc_engine_totals totals = scene_run(&s);
    assert_int_equal(totals.state, OC_TRADING_HALTED);
    assert_int_equal(totals.fills, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_confirmed_book_is_not_stale),
        cmocka_unit_test(a_break_is_over_when_the_book_is_told_again),
        cmocka_unit_test(a_fill_of_no_instrument_halts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
