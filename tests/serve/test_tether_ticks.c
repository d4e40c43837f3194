/* test_tether_ticks.c - a stream behind a tether over the real socket, while its server goes away, comes back, ends it
 * and refuses what it is given. Oracle: feature engine and model beside the server, fed every event from the first, bit
 * by bit. What it would catch: a refill that is left out, sent twice, ends too early or is believed too early; replies
 * of one call taken for another's; a stream that begins where it does not. */
#include "serve/ticks_rig.h"
#include <stdlib.h>
#include "base/memory.h"
#include "serve/client/tether.h"
#include "serve/served.h"

enum { EVENTS_MAX = 60000, CALL_MAX = 64 };

/* The caller's record: every event, and the books behind the first `books_at` of them. */
typedef struct record {
    oc_event *events, books[OC_WIRE_EVENTS_MAX];
    size_t count, books_count, books_at, calls, spoilt; /* spoilt: 1 + the event of the refill that is none */
    uint64_t asked_rows;
} record;

typedef struct fixture {
    rig r; /* of which the oracle takes the model */
    served at;
    ticks_market market;
    ticks_oracle oracle;
    record record;
    size_t exact, held, shorts;
} fixture;

static void server_start(fixture *f)
{
    oc_server_config config = served_config(&f->at);
    config.sessions_max = 2 * TICKS_INSTRUMENTS;
    config.ring_bytes = 1 << 17;
    config.session_idle_ns = OC_SECOND_NS / 10;
    config.ticks = (oc_stream_config){.sample = "packet",
                                      .row_ns = TICKS_ROW_NS,
                                      .streams = 2,
                                      .instruments_max = TICKS_INSTRUMENTS,
                                      .memory_max_bytes = 64 << 20};
    served_start(&f->at, &config);
}

static int setup(void **state)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, RIG_T, RIG_F, 2, 16, 2, 2};
    static const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    static fixture fixed;
    fixture *f = &fixed;
    memset(f, 0, sizeof *f);
    served_make(&f->at);
    assert_int_equal(sample_bundle(&f->r.bundle, &shape, 3.0f, 4.0, 5), OC_OK);
    oc_features *engine = ticks_engine();
    f->r.bundle->schema = oc_features_schema(engine);
    oc_features_close(engine);
    for (int i = 0; i < RIG_F; i++) snprintf(f->r.bundle->features[i], 64, "%s", ticks_features[i]);
    assert_int_equal(oc_bundle_save(f->r.bundle, f->at.folder), OC_OK);
    assert_int_equal(oc_model_open(&f->r.model, f->r.bundle, &cpu, 1), OC_OK);
    assert_int_equal(oc_memory_new_array(&f->record.events, EVENTS_MAX, sizeof(oc_event), "record"), OC_OK);
    ticks_market_open(&f->market, 31);
    ticks_oracle_open(&f->oracle);
    server_start(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    served_remove(&f->at);
    oc_features_close(f->oracle.engine);
    oc_model_close(f->r.model);
    oc_bundle_close(f->r.bundle);
    oc_memory_free(f->record.events);
    return 0;
}

/* ---- the caller's record ---------------------------------------------------------------------------------------- */

/* The books of now: what a refill begins with. */
static void books_keep(fixture *f)
{
    record *k = &f->record;
    k->books_at = k->count;
    k->books_count = 0;
    for (uint32_t i = 0; i < TICKS_INSTRUMENTS; i++) {
        const oc_book *book = oc_features_book(f->oracle.engine, i);
        const oc_book_side *sides[] = {&book->bid, &book->ask};
        for (int s = 0; s < 2; s++)
            for (uint32_t n = 0; n < sides[s]->count; n++) {
                oc_event *e = &k->books[k->books_count];
                *e = ticks_level(&f->market, i, OC_EVENT_SNAPSHOT, sides[s]->level[n].ticks, sides[s]->level[n].lots);
                e->side = s ? OC_SIDE_SELL : OC_SIDE_BUY;
                e->sequence = ++k->books_count;
            }
    }
}

/* Books, then events up to those of the call; some at a time, so that parts end anywhere. */
static size_t record_next(void *context, const oc_client_stream *needs, const struct oc_event *until, size_t given,
                          struct oc_event *events, size_t events_cap)
{
    record *k = context;
    size_t n = 0, cap = 1 + k->calls++ * 37 % 101;
    k->asked_rows = needs->history_rows;
    for (cap = cap < events_cap ? cap : events_cap; n < cap; n++) {
        const size_t at = given + n < k->books_count ? k->books_at : k->books_at + given + n - k->books_count;
        if (at >= k->count || k->events[at].sequence >= until->sequence) break;
        events[n] = given + n < k->books_count ? k->books[given + n] : k->events[at];
        if (given + n < k->books_count) events[n].receive_ns = k->events[at].receive_ns - 1;
        if (k->spoilt == given + n + 1) events[n].kind = OC_EVENT_KIND_END;
    }
    return n;
}

static oc_tether *tether_of(fixture *f, int64_t timeout_ns, uint32_t begins)
{
    oc_wire_instrument universe[TICKS_INSTRUMENTS] = {{.tick = 0}};
    oc_tether *l;
    ticks_wire_universe(universe);
    const oc_tether_config config = {.address = f->at.address,
                                     .period_ns = OC_SECOND_NS / 100,
                                     .timeout_ns = timeout_ns,
                                     .spin_ns = 20000,
                                     .universe = universe,
                                     .instruments = TICKS_INSTRUMENTS,
                                     .begins = begins,
                                     .refill = {record_next, &f->record}};
    if (oc_tether_open(&l, &config) != OC_OK) fail_msg("%s", oc_status_message());
    return l;
}

/* ---- calls and what is to be answered --------------------------------------------------------------------------- */

/* One call: packets, recorded behind it. Each row's answer is the oracle's; held: it may be HOLD_HISTORY instead, or
 * HOLD_SHORT behind that, before the stream has enough behind it. */
static oc_status packets_send(fixture *f, oc_tether *l, int packets, bool held)
{
    oc_event *events = f->record.events + f->record.count;
    oc_wire_reply replies[OC_WIRE_EVENTS_MAX];
    ticks_want want[OC_WIRE_EVENTS_MAX];
    size_t n = 0, rows = 0, got = 0;
    assert_true(f->record.count + (size_t)packets * 32 < EVENTS_MAX);
    for (int i = 0; i < packets; i++) n += ticks_packet(&f->market, events + n, false);
    for (size_t i = 0; i < n; i++) rows += ticks_oracle_event(&f->oracle, &f->r, &events[i], &want[rows]);
    const oc_status status = oc_tether_tick(l, events, n, replies, OC_WIRE_EVENTS_MAX, &got);
    f->record.count += n;
    if (status != OC_OK) return status;
    const bool end = rows == 0 || want[rows - 1].sequence != events[n - 1].sequence;
    assert_int_equal(got, rows + end);
    for (size_t i = 0; i < rows; i++) {
        const oc_wire_reply *reply = &replies[i];
        assert_true(reply->sequence == want[i].sequence && reply->instrument == want[i].instrument);
        const bool early = held && (reply->state == OC_REPLY_HOLD_HISTORY || reply->state == OC_REPLY_HOLD_SHORT);
        f->held += reply->state == OC_REPLY_HOLD_HISTORY;
        f->shorts += reply->state == OC_REPLY_HOLD_SHORT;
        if (early) continue;
        if (reply->state != want[i].state) fail_msg("row %zu: state %u, not %d", i, reply->state, (int)want[i].state);
        assert_memory_equal(reply->probabilities, want[i].answer, sizeof want[i].answer);
        f->exact += reply->state == OC_REPLY_OK;
    }
    if (end) assert_int_equal(replies[rows].state, OC_REPLY_HOLD_NO_ROW);
    return OC_OK;
}

static void packets_check(fixture *f, oc_tether *l, int count, bool held)
{
    for (int i = 0; i < count; i++)
        if (packets_send(f, l, 1 + i % 5, held) != OC_OK) fail_msg("call %d: %s", i, oc_status_message());
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void comes_back(void **state)
{
    fixture *f = *state;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS, 1);
    assert_true(oc_tether_stream(l)->history_rows > 0);
    served_stop(&f->at); /* before the first event: it begins with that all the same */
    server_start(f);
    packets_check(f, l, 200, false);
    books_keep(f);
    packets_check(f, l, 200, false);
    assert_true(f->record.calls == 0 && f->held == 0);
    for (int turn = 0; turn < 3; turn++) {
        const size_t exact = f->exact, held = f->held;
        served_stop(&f->at);
        server_start(f);
        packets_check(f, l, 20, false); /* as if nothing had been: the refill is long enough */
        assert_int_equal(oc_tether_connects(l), 3 + turn);
        assert_true(f->exact > exact && f->held == held && f->record.calls > 0);
        assert_int_equal(f->record.asked_rows, oc_tether_stream(l)->history_rows);
    }
    books_keep(f); /* too late: held until enough lies behind it, and right from then on */
    packets_check(f, l, 3, false);
    served_stop(&f->at);
    server_start(f);
    packets_check(f, l, 200, true);
    assert_true(f->held > 10);
    f->held = f->shorts = 0;
    packets_check(f, l, 20, true);
    assert_int_equal(f->held + f->shorts, 0);
    oc_tether_close(l);
}

/* Events of the time without a server count, and those that a caller recorded before its tether opened. */
static void outage(void **state)
{
    fixture *f = *state;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS, 1);
    packets_check(f, l, 50, false);
    books_keep(f);
    packets_check(f, l, 150, false);
    oc_tether_close(l);
    l = tether_of(f, 5 * OC_SECOND_NS, 0);
    packets_check(f, l, 5, false); /* of another stream, which does not begin */
    served_stop(&f->at);
    const int64_t start_ns = oc_clock_monotonic_ns();
    assert_int_equal(packets_send(f, l, 3, false), OC_EAGAIN);
    assert_true(oc_clock_monotonic_ns() - start_ns < 20 * OC_SECOND_NS);
    assert_non_null(strstr(oc_status_message(), f->at.socket));
    server_start(f);
    oc_tether_close(l);
    l = tether_of(f, 20 * OC_SECOND_NS, 0);
    packets_check(f, l, 5, false);
    assert_true(f->exact > 100 && f->held == 0);
    oc_tether_close(l);
}

/* Until the server has ended the stream, as it does with idle ones once a second. */
static void stream_end_await(const fixture *f)
{
    for (int i = 0;; i++) {
        oc_text text = {0};
        oc_server_metrics(f->at.server, &text);
        const bool none = strstr(text.data, "\noutcry_streams 0\n") != NULL;
        oc_text_free(&text);
        if (none) return;
        if (i > 6000) fail_msg("an idle stream is not ended");
        usleep(10000);
    }
}

static void idle(void **state)
{
    fixture *f = *state;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS, 1);
    packets_check(f, l, 50, false);
    books_keep(f);
    packets_check(f, l, 150, false);
    for (int turn = 0; turn < 2; turn++) {
        const size_t calls = f->record.calls;
        stream_end_await(f);
        packets_check(f, l, 2, false);
        assert_true(f->record.calls > calls && oc_tether_connects(l) == 1);
    }
    oc_tether_close(l);
    l = tether_of(f, 20 * OC_SECOND_NS, 0);
    stream_end_await(f); /* before its refill */
    packets_check(f, l, 2, false);
    assert_true(f->held == 0 && oc_tether_connects(l) == 1);
    oc_tether_close(l);
}

static void refusals(void **state)
{
    fixture *f = *state;
    oc_wire_reply replies[CALL_MAX];
    oc_event events[CALL_MAX];
    size_t got = 0, n = 0;
    oc_tether *l = tether_of(f, 20 * OC_SECOND_NS, 1), *other;
    packets_check(f, l, 50, false);
    books_keep(f);
    packets_check(f, l, 150, false);
    f->record.spoilt = 300; /* an event of the refill is none: told, and all of it comes again next time */
    served_stop(&f->at);
    server_start(f);
    assert_int_equal(packets_send(f, l, 1, false), OC_EUSAGE);
    assert_non_null(strstr(oc_status_message(), "refill"));
    f->record.spoilt = 0;
    packets_check(f, l, 3, false);

    while (n < 8) n += ticks_packet(&f->market, events + n, false);
    events[5].kind = OC_EVENT_KIND_END; /* its reply is the last one of the call; what follows has a gap before it */
    assert_int_equal(oc_tether_tick(l, events, n, replies, CALL_MAX, &got), OC_OK);
    assert_true(got >= 1 && replies[got - 1].state == OC_REPLY_REFUSED_EVENT);
    assert_true(replies[got - 1].sequence == events[5].sequence);
    const oc_event old[] = {events[0], events[1]};
    n = ticks_packet(&f->market, events, false);
    assert_int_equal(oc_tether_tick(l, events, n, replies, CALL_MAX, &got), OC_OK);
    assert_true(got == 1 && replies[0].state == OC_REPLY_HOLD_NO_ROW);
    assert_int_equal(oc_tether_tick(l, old, 2, replies, CALL_MAX, &got), OC_OK); /* refused at the first of them */
    assert_true(got == 1 && replies[0].state == OC_REPLY_REFUSED_ORDER);

    assert_int_equal(oc_tether_tick(l, events, 0, replies, CALL_MAX, &got), OC_EUSAGE);
    assert_int_equal(oc_tether_tick(l, events, 2, replies, 1, &got), OC_EUSAGE);
    events[1] = events[0];
    assert_int_equal(oc_tether_tick(l, events, 2, replies, CALL_MAX, &got), OC_EUSAGE);
    assert_int_equal(got, 0);
    const float row[RIG_F] = {0};
    assert_int_equal(oc_tether_push(l, row, 1, replies), OC_EUSAGE);
    oc_wire_instrument universe[TICKS_INSTRUMENTS] = {{.tick = 0}};
    ticks_wire_universe(universe);
    oc_tether_config config = {
        .address = f->at.address, .symbol = "X", .period_ns = OC_SECOND_NS, .timeout_ns = OC_SECOND_NS};
    assert_int_equal(oc_tether_open(&other, &config), OC_OK);
    assert_int_equal(oc_tether_tick(other, events, 1, replies, CALL_MAX, &got), OC_EUSAGE);
    oc_tether_close(other);
    config.universe = universe; /* a symbol too; then no instruments; then another universe than the model's */
    assert_int_equal(oc_tether_open(&other, &config), OC_EUSAGE);
    config.symbol = NULL;
    assert_int_equal(oc_tether_open(&other, &config), OC_EUSAGE);
    config.instruments = 1;
    assert_int_equal(oc_tether_open(&other, &config), OC_EUSAGE);
    assert_non_null(strstr(oc_status_message(), "schema"));
    oc_tether_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(comes_back, setup, teardown),
                                       cmocka_unit_test_setup_teardown(outage, setup, teardown),
                                       cmocka_unit_test_setup_teardown(idle, setup, teardown),
                                       cmocka_unit_test_setup_teardown(refusals, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
