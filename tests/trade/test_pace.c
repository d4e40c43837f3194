/* Delays and clocks: quantiles that are drawn from are those that were measured, and every draw is its row's own; in
 * live time events come at the clock's time, answers when they are there, and the journal decides the same again; a
 * venue's record that goes on says what it said. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/trade/trade_case.h"
#include "trade/loop.h"
#include "trade/venues/recorded.h"

enum { STEP_NS = 1000000, EVENTS = 600, TICK_NS = 20000 };

/* ---- delays ---- */

static void file_put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_delay_files(void **state)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"{\"format\":\"outcry-delays\",\"version\":1,\"quantiles_ns\":[5]}", "1 quantiles_ns"},
        {"{\"format\":\"outcry-delays\",\"version\":1,\"quantiles_ns\":[5,4]}", "quantiles_ns[1]"},
        {"{\"format\":\"outcry-delays\",\"version\":1,\"quantiles_ns\":[-1,4]}", "quantiles_ns[0]"},
        {"{\"format\":\"outcry-delays\",\"version\":1,\"quantiles_ns\":[1,4.5]}", "quantiles_ns[1]"},
        {"{\"format\":\"outcry-delays\",\"version\":1,\"quantiles_ns\":[1,60000000001]}", "quantiles_ns[1]"},
        {"{\"format\":\"outcry-delays\",\"version\":2,\"quantiles_ns\":[1,2]}", "version"},
        {"{\"format\":\"delays\",\"version\":1,\"quantiles_ns\":[1,2]}", "outcry-delays"},
        {"[1,2]", "format"},
        {"{", "delays.json"},
    };
    oc_delay d;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        file_put("delays.json", rows[i].text);
        assert_int_equal(oc_delay_load(&d, "delays.json", 1), OC_EDATA);
        if (!strstr(oc_status_message(), rows[i].words)) fail_msg("%zu: %s", i, oc_status_message());
    }
    unlink("delays.json");
    assert_int_equal(oc_delay_load(&d, "delays.json", 1), OC_EFAILED);
}

/* The quantiles of many draws are those of the file, within what 20,000 draws leave open; others come of another seed,
 * instrument or row, and the same of the same. */
static void test_delay_draws(void **state)
{
    static oc_delay_record measured, drawn;
    oc_delay d, other;
    (void)state;
    for (int i = 0; i < 100000; i++) oc_delay_add(&measured, 1000 + (int64_t)(i % 1000) * (i % 1000));
    must(oc_delay_save(&measured, "delays.json"));
    must(oc_delay_load(&d, "delays.json", 1));
    must(oc_delay_load(&other, "delays.json", 2));
    int same_seed = 0, same_instrument = 0;
    for (uint64_t i = 0; i < 20000; i++) {
        int64_t ns = oc_delay_draw(&d, 0, i);
        assert_int_equal(ns, oc_delay_draw(&d, 0, i));
        same_seed += ns == oc_delay_draw(&other, 0, i);
        same_instrument += ns == oc_delay_draw(&d, 1, i);
        oc_delay_add(&drawn, ns);
    }
    assert_true(same_seed < 20 && same_instrument < 20);
    for (int i = 1; i < 10; i++) {
        double have = (double)oc_delay_quantile(&drawn, i / 10.0), root = i * 100.0, want = 1000 + root * root;
        if (!(fabs(have - want) <= 0.05 * want + 20 * root)) fail_msg("%d0 %%: %g, not %g", i, have, want);
    }
    assert_int_equal(measured.least_ns, 1000);
    assert_int_equal(measured.most_ns, 1000 + 999 * 999);
    assert_int_equal(oc_delay_quantile(&measured, 1), measured.most_ns);
    unlink("delays.json");
}

/* Each value lies in its bucket, and a bucket is as narrow as was said. */
static void test_delay_buckets(void **state)
{
    (void)state;
    for (int64_t ns = 0; ns < OC_DELAY_MAX_NS; ns = ns < 300 ? ns + 1 : ns + ns / 7) {
        oc_delay_record r = {0};
        oc_delay_add(&r, ns);
        oc_delay_add(&r, OC_DELAY_MAX_NS);
        int64_t have = oc_delay_quantile(&r, 0.5);
        assert_true(have >= ns && have - ns <= (ns < 128 ? 0 : ns / 64));
    }
}

/* ---- live ---- */

static oc_event event[EVENTS];
static const oc_instrument instrument = {"X", {1, -2, 0}, {1, 0, 0}, {1, -2, 0}};

typedef struct world {
    int64_t now_ns; /* of the clock: moves a little at each look, so that nothing waits forever */
    size_t given, sent, answered;
    int64_t answer_ns; /* after which an answer is there */
    oc_prediction stamp[EVENTS];
    int64_t sent_ns[EVENTS];
} world;

static int64_t clock_now(void *context)
{
    return ((world *)context)->now_ns += TICK_NS;
}

static oc_status feed_next(void *context, const oc_event **events, size_t *count)
{
    world *w = context;
    *events = event + w->given;
    *count = EVENTS - w->given < 64 ? EVENTS - w->given : 64;
    w->given += *count;
    return OC_OK;
}

static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    (void)context, (void)row, (void)p, (void)made;
    fail_msg("live time never waits");
    return OC_OK;
}

static oc_status send_row(void *context, const oc_feature_row *row, const oc_prediction *stamp)
{
    world *w = context;
    assert_int_equal(stamp->input_ns, row->time_ns);
    assert_int_equal(stamp->sequence, w->sent + 1);
    w->sent_ns[w->sent] = w->now_ns;
    w->stamp[w->sent++] = *stamp;
    return OC_OK;
}

static oc_status poll_answers(void *context, oc_prediction *p, bool *came)
{
    world *w = context;
    *came = w->answered < w->sent && w->now_ns >= w->sent_ns[w->answered] + w->answer_ns;
    if (!*came) return OC_OK;
    *p = w->stamp[w->answered];
    bool up = w->answered++ / 50 % 2 == 0;
    p->buy = up ? 0.8f : 0.1f;
    p->sell = up ? 0.1f : 0.8f;
    p->hold = 0.1f;
    return OC_OK;
}

static void wait_answers(void *context, int64_t timeout_ns)
{
    world *w = context;
    assert_true(timeout_ns > 0);
    w->now_ns += timeout_ns < TICK_NS ? timeout_ns : TICK_NS;
}

static void events_make(void)
{
    for (int i = 0; i < EVENTS; i++) {
        event[i] = (oc_event){.receive_ns = SECOND + (int64_t)i * STEP_NS,
                              .sequence = (uint64_t)i + 1,
                              .kind = OC_EVENT_QUOTE,
                              .flags = OC_EVENT_LAST};
        event[i].as.quote.bid_ticks = 5000 + i / 50 % 2;
        event[i].as.quote.ask_ticks = event[i].as.quote.bid_ticks + 1;
        event[i].as.quote.bid_lots = event[i].as.quote.ask_lots = 100 + i % 2;
    }
}

typedef struct session {
    world world;
    oc_loop_result result;
    oc_delay_record delays;
    oc_engine_totals totals;
} session;

static const oc_simulated_market place = {.scale = {1, 1}, .order_tick_ticks = 1, .taker_ppm = 100};
static const oc_simulated_config venue_config = {.to_ns = 1, .back_ns = 1, .market = &place, .markets = 1};

static oc_status session_run(session *s, const char *folder, double speed, int64_t answer_ns, oc_venue venue)
{
    const char *const names[] = {"return:1"};
    const oc_feature_spec spec = {.features = names, .feature_count = 1, .sample = "packet"};
    rig r;
    oc_features *features;
    oc_desk *desk;
    memset(s, 0, sizeof *s);
    s->world.answer_ns = answer_ns;
    rig_defaults(&r, 1);
    must(oc_features_open(&features, &spec, &instrument, 1));
    must(oc_desk_open(&desk, &r.config, &(oc_desk_options){.folder = folder}));
    const oc_loop_setup setup = {.feed = {&s->world, feed_next},
                                 .features = features,
                                 .predictor = {&s->world, predict, NULL, send_row, poll_answers, wait_answers},
                                 .desk = desk,
                                 .venue = venue,
                                 .last_ns = INT64_MAX,
                                 .pace = {.live = true, .speed = speed, .clock = {clock_now, &s->world}},
                                 .delays = &s->delays};
    oc_status status = oc_loop_run(&setup, &s->result);
    s->totals = oc_engine_totals_of(oc_desk_engine(desk));
    if (status == OC_OK) must(oc_desk_end(desk));
    must(oc_desk_close(desk, false));
    oc_features_close(features);
    return status;
}

static void folder_drop(const char *folder)
{
    char path[128];
    snprintf(path, sizeof path, "%s/journal-000000.ocj", folder);
    (void)unlink(path);
    (void)rmdir(folder);
}

/* An answer that takes a clock's millisecond is three of the market's at three times its speed; what is measured is the
 * clock's. The journal of it replays. */
static void test_live(void **state)
{
    static session s;
    oc_simulated *v;
    oc_desk_report report;
    (void)state;
    events_make();
    folder_drop("live");
    must(oc_simulated_open(&v, &venue_config));
    must(session_run(&s, "live", 3, STEP_NS, oc_simulated_venue(v)));
    oc_simulated_close(v);
    assert_int_equal(s.result.events, EVENTS);
    assert_in_range(s.result.predictions, EVENTS - 20, EVENTS);
    assert_int_equal(s.result.predictions, s.delays.count);
    assert_true(s.totals.orders >= 8 && s.totals.fills >= 8);
    assert_in_range(s.delays.least_ns, STEP_NS, STEP_NS + 20 * TICK_NS);
    assert_in_range(s.world.now_ns, (EVENTS - 1) * (int64_t)STEP_NS / 3, EVENTS * (int64_t)STEP_NS / 3 + 50 * TICK_NS);
    must(oc_desk_replay("live", (oc_hash){0}, &report));
    assert_int_equal(report.tail, OC_JOURNAL_CLOSED);
    folder_drop("live");
}

/* Answers that are older than the policy allows hold: none of them becomes an order. */
static void test_live_late(void **state)
{
    static session s;
    oc_simulated *v;
    (void)state;
    folder_drop("late");
    must(oc_simulated_open(&v, &venue_config));
    must(session_run(&s, "late", 100, 60 * (int64_t)STEP_NS, oc_simulated_venue(v)));
    assert_int_equal(s.totals.orders, 0);
    folder_drop("late");
    assert_int_equal(session_run(&s, "late", 0, STEP_NS, oc_simulated_venue(v)), OC_ECONFIG);
    folder_drop("late");
    assert_int_equal(session_run(&s, "late", (double)NAN, STEP_NS, oc_simulated_venue(v)), OC_ECONFIG);
    oc_simulated_close(v);
    folder_drop("late");
}

/* ---- the venue's record ---- */

static uint64_t file_bytes(const char *path)
{
    struct stat s;
    assert_int_equal(stat(path, &s), 0);
    return (uint64_t)s.st_size;
}

static void byte_flip(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_int_equal(close(fd), 0);
}

/* A whole session, then the venue goes on with nothing: it must say all of it again, at any length of its record; a
 * changed byte anywhere is named, half a record never came. */
static void test_record(void **state)
{
    static session s;
    oc_recorded *v;
    (void)state;
    (void)unlink("venue.log");
    folder_drop("kept");
    must(oc_recorded_open(&v, &venue_config, "venue.log", false));
    must(session_run(&s, "kept", 3, STEP_NS, oc_recorded_venue(v)));
    oc_recorded_close(v);
    folder_drop("kept");
    assert_int_equal(oc_recorded_open(&v, &venue_config, "venue.log", false), OC_EFAILED);
    uint64_t bytes = file_bytes("venue.log");
    assert_true(bytes > 24 * 96 && bytes % 96 == 0);
    for (off_t at = 0; at < (off_t)bytes; at += 41) {
        byte_flip("venue.log", at);
        assert_int_equal(oc_recorded_open(&v, &venue_config, "venue.log", true), OC_EDATA);
        assert_non_null(strstr(oc_status_message(), "venue.log"));
        byte_flip("venue.log", at);
    }
    for (uint64_t cut = bytes; cut > 96; cut -= 61 < cut - 96 ? 61 : cut - 96) {
        assert_int_equal(truncate("venue.log", (off_t)cut), 0);
        must(oc_recorded_open(&v, &venue_config, "venue.log", true));
        assert_int_equal(oc_recorded_count(v), cut / 96 - 1);
        oc_venue venue = oc_recorded_venue(v);
        for (int i = 0; i < EVENTS; i++) venue.market(venue.context, &event[i]);
        must(venue.connect(venue.context, event[EVENTS - 1].receive_ns + 1));
        oc_recorded_close(v);
        assert_true(file_bytes("venue.log") % 96 == 0 && file_bytes("venue.log") > cut / 96 * 96);
    }
    must(oc_recorded_open(&v, &venue_config, "venue.log", true));
    oc_simulated_config other = venue_config;
    other.back_ns = 2;
    oc_recorded_close(v);
    assert_int_equal(oc_recorded_open(&v, &other, "venue.log", true), OC_EDATA);
    unlink("venue.log");
}

/* Other events than the session's lead to other messages: refused where it goes on. */
static void test_record_other_events(void **state)
{
    static session s;
    oc_recorded *v;
    (void)state;
    events_make();
    (void)unlink("venue.log");
    folder_drop("kept");
    must(oc_recorded_open(&v, &venue_config, "venue.log", false));
    must(session_run(&s, "kept", 3, STEP_NS, oc_recorded_venue(v)));
    oc_recorded_close(v);
    folder_drop("kept");
    must(oc_recorded_open(&v, &venue_config, "venue.log", true));
    oc_venue venue = oc_recorded_venue(v);
    for (int i = 0; i < EVENTS; i++) {
        oc_event e = event[i];
        e.as.quote.ask_ticks += 1;
        venue.market(venue.context, &e);
    }
    assert_int_equal(venue.connect(venue.context, event[EVENTS - 1].receive_ns + 1), OC_EDATA);
    oc_recorded_close(v);
    unlink("venue.log");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delay_files),         cmocka_unit_test(test_delay_draws),
        cmocka_unit_test(test_delay_buckets),       cmocka_unit_test(test_live),
        cmocka_unit_test(test_live_late),           cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_other_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
