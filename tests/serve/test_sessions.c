/* test_sessions.c - who gets what of a batcher. What it would catch: a client that floods and starves another, an
 * advance that waits while later ones go, a window computed that nobody waits for any more, sessions that stay for
 * ever, a row that comes twice or is missing and is not counted. */
#include <stdio.h>
#include <sys/mman.h>
#include "serve/rig.h"
#include "serve/batcher_parts.h"
#include "serve/metrics.h"

enum { T = RIG_T, F = RIG_F, PIECES = RIG_PIECES };

static int setup(void **state)
{
    static rig r;
    rig_open(&r);
    *state = &r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    return 0;
}

static void push(rig *r, int channel, uint32_t session, uint64_t sequence, uint32_t run)
{
    float row[F];
    rig_row(row, session, sequence);
    const oc_wire_request q = {.kind = OC_REQUEST_PUSH, .session = session, .sequence = sequence, .run_length = run};
    rig_send(r, channel, q, row, sizeof row);
}

/* A full ring of windows, more than a batch takes, before every round; the other client's window and row are answered
 * in the round in which they are seen all the same, whoever comes first. */
static void flood(void **state)
{
    rig *r = *state;
    float window[T * F];
    oc_wire_reply reply;
    size_t flooded = 0;
    const uint32_t session = rig_session(r, 1);
    rig_rows(window, 1, 0, T);
    for (uint64_t i = 1; i <= 300; i++) {
        oc_wire_request q = {.kind = i % 3 ? OC_REQUEST_WINDOW : 77, .sequence = i}; /* or what is no request */
        q.bytes = (uint32_t)oc_ring_record_bytes(sizeof window);
        q.count = sizeof window;
        while (oc_ring_put(&r->requests[0], &q, sizeof q, window, sizeof window) == OC_RING_DONE) {
        }
        q.kind = OC_REQUEST_WINDOW;
        assert_int_equal(oc_ring_put(&r->requests[1], &q, sizeof q, window, sizeof window), OC_RING_DONE);
        push(r, 1, session, i, (uint32_t)i);
        assert_true(oc_batcher_round(&r->batcher));
        for (int k = 0; k < 2; k++) assert_true(rig_poll(r, 1, &reply) && reply.sequence == i);
        while (rig_poll(r, 0, &reply)) flooded++;
    }
    assert_true(flooded > 300 * 6); /* the batch is full all the same */
}

/* Idle rounds advance the sessions in turn, a piece each, those first whose rows came first. */
static void oldest_first(void **state)
{
    rig *r = *state;
    static const int order[RIG_SESSIONS] = {2, 0, 3, 1};
    uint32_t sessions[RIG_SESSIONS];
    for (int i = 0; i < RIG_SESSIONS; i++) sessions[i] = rig_session(r, 0);
    for (uint64_t turn = 1; turn < 50; turn++) {
        for (int i = 0; i < RIG_SESSIONS; i++) {
            push(r, 0, sessions[order[i]], turn, (uint32_t)turn);
            (void)rig_await(r, 0);
        }
        for (int i = 0; i < PIECES * RIG_SESSIONS; i++) {
            for (int k = 0; k < RIG_SESSIONS; k++)
                assert_int_equal(r->batcher.sessions[order[k]].due, k + (PIECES - 1) * RIG_SESSIONS >= i);
            assert_int_equal(r->batcher.stats.advances,
                             (int)(turn - 1) * RIG_SESSIONS + (i > RIG_SESSIONS ? i - RIG_SESSIONS : 0));
            assert_true(oc_batcher_round(&r->batcher));
        }
        assert_int_equal(r->batcher.stats.advances, turn * RIG_SESSIONS);
        assert_false(oc_batcher_round(&r->batcher));
    }
    /* One that ends, and begins again, while it waits: its turn comes once. */
    push(r, 0, sessions[0], 60, 60);
    (void)rig_await(r, 0);
    for (int i = 0; i < 40; i++) {
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = sessions[0]}, NULL, 0);
        (void)rig_await(r, 0);
        sessions[0] = rig_session(r, 0);
        push(r, 0, sessions[0], 1, 1);
        (void)rig_await(r, 0);
        assert_true(r->batcher.due_count <= RIG_SESSIONS);
    }
}

/* An advance is left where a row comes, of another session or of its own, or a begin anew: the row is answered in the
 * round that sees it, with the bits of the whole window. */
static void advance_left_anywhere(void **state)
{
    rig *r = *state;
    const uint32_t key = oc_random_key(41, OC_RANDOM_TEST, 1, 0);
    uint32_t sessions[RIG_SESSIONS];
    uint64_t rows[RIG_SESSIONS] = {0}, begun[RIG_SESSIONS] = {0}, draws = 0;
    int full = 0, left = 0;
    for (int i = 0; i < RIG_SESSIONS; i++) sessions[i] = rig_session(r, i % RIG_CHANNELS);
    for (int turn = 0; turn < 20000; turn++) {
        const uint64_t i = oc_random_below(key, draws++, RIG_SESSIONS), row = rows[i]++;
        float x[F], want[RIG_OUTPUTS];
        oc_wire_reply reply;
        if (oc_random_below(key, draws++, 200) == 0) begun[i] = row; /* a gap */
        left += r->batcher.due_count > 0;
        rig_row(x, i, row);
        const oc_wire_request q = {.kind = OC_REQUEST_PUSH,
                                   .session = sessions[i],
                                   .sequence = row + 1,
                                   .run_length = (uint32_t)(row - begun[i]) + 1};
        rig_send(r, (int)i % RIG_CHANNELS, q, x, sizeof x);
        assert_true(oc_batcher_round(&r->batcher));
        assert_true(rig_poll(r, (int)i % RIG_CHANNELS, &reply) && reply.sequence == row + 1);
        const bool is_full = row - begun[i] + 1 >= T;
        assert_int_equal(reply.state, is_full ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
        if (is_full) rig_oracle(r, i, row, want);
        if (is_full) assert_memory_equal(want, reply.probabilities, sizeof want);
        full += is_full;
        for (uint64_t idle = oc_random_below(key, draws++, 6); idle > 0; idle--) (void)oc_batcher_round(&r->batcher);
    }
    assert_true(full > 10000 && left > 5000);
    while (oc_batcher_round(&r->batcher)) continue;
    uint64_t all = 0; /* rows of windows that began anew are in no advance */
    for (int i = 0; i < RIG_SESSIONS; i++) all += rows[i];
    assert_true(r->batcher.stats.advances <= all && r->batcher.stats.advances > all / 2);
}

static void overload(void **state)
{
    rig *r = *state;
    float window[T * F];
    rig_rows(window, 1, 0, T);
    r->batcher.queue_max_ns = 20 * OC_SECOND_NS;
    for (uint64_t i = 0; i < 40; i++) {
        const int64_t ago_ns = i % 2 ? 40 * OC_SECOND_NS : 0;
        oc_wire_request q = {.kind = OC_REQUEST_WINDOW,
                             .sequence = i,
                             .bytes = (uint32_t)oc_ring_record_bytes(sizeof window),
                             .count = sizeof window,
                             .sent_ns = oc_clock_monotonic_ns() - ago_ns};
        assert_int_equal(oc_ring_put(&r->requests[0], &q, sizeof q, window, sizeof window), OC_RING_DONE);
        const oc_wire_reply reply = rig_await(r, 0);
        assert_int_equal(reply.state, i % 2 ? OC_REPLY_REFUSED_OVERLOAD : OC_REPLY_OK);
        assert_true(reply.sequence == i && (i % 2 == 0 || reply.probabilities[0][2] == 1));
    }
    assert_int_equal(r->batcher.stats.replies[OC_REQUEST_WINDOW][OC_REPLY_REFUSED_OVERLOAD], 20);
}

static void expiry(void **state)
{
    rig *r = *state;
    const uint32_t idle = rig_session(r, 0), busy = rig_session(r, 1);
    const uint64_t load = r->batcher.stats.load_ppb;
    const int64_t now = oc_clock_monotonic_ns();
    r->batcher.idle_max_ns = OC_SECOND_NS;
    oc_session_expire(&r->batcher, now + 3 * OC_SECOND_NS); /* a period is a second: four of them */
    assert_int_equal(r->batcher.stats.sessions, 2);
    r->batcher.sessions[1].used_ns = now + 4 * OC_SECOND_NS;
    oc_session_expire(&r->batcher, now + 6 * OC_SECOND_NS);
    assert_int_equal(r->batcher.stats.sessions, 1);
    assert_int_equal(r->batcher.stats.expired, 1);
    assert_true(r->batcher.stats.load_ppb < load);
    push(r, 0, idle, 1, 1);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SESSION);
    push(r, 1, busy, 1, 1);
    assert_int_equal(rig_await(r, 1).state, OC_REPLY_HOLD_SHORT);
    r->batcher.idle_max_ns = 0;
    oc_session_expire(&r->batcher, now + 1000 * OC_SECOND_NS);
    assert_int_equal(r->batcher.stats.sessions, 1);
    assert_int_not_equal(rig_session(r, 0), idle);
}

/* Of many sessions, a few are looked at at a time, so that nobody waits for a walk over all of them; in a second, all.
 */
static void expiry_in_pieces(void **state)
{
    enum { MANY = 200 };
    rig *r = *state;
    static oc_batcher e;
    const oc_batcher_config config = {
        .batch_max = 2, .sessions_max = MANY, .memory_max_bytes = 64 << 20, .budget = 0.9, .idle_max_ns = OC_SECOND_NS};
    const oc_pending p = {.channel = &r->channels[0], .taken_ns = OC_SECOND_NS};
    if (oc_batcher_init(&e, 0, &r->version, &config, r->channels, 1) != OC_OK) fail_msg("%s", oc_status_message());
    for (int i = 0; i < MANY; i++) assert_non_null(oc_session_take(&e, &p, "S", 1));
    assert_null(oc_session_take(&e, &p, "S", 1));
    int64_t now = 3 * OC_SECOND_NS;
    uint64_t before = 0;
    for (const int64_t end = now + OC_SECOND_NS; now <= end; now += OC_SECOND_NS / 1000) {
        oc_session_expire(&e, now);
        assert_true(e.stats.expired - before <= 64);
        before = e.stats.expired;
    }
    assert_true(e.stats.expired == MANY && e.stats.sessions == 0);
    oc_batcher_deinit(&e);
}

static void counted(void **state)
{
    rig *r = *state;
    static const struct {
        uint64_t sequence;
        uint32_t run;
        oc_reply_state want;
        uint64_t duplicates, stale, gaps;
    } rows[] = {
        {5, 1, OC_REPLY_HOLD_SHORT, 0, 0, 0},    {5, 2, OC_REPLY_REFUSED_ORDER, 1, 0, 0},
        {4, 2, OC_REPLY_REFUSED_ORDER, 1, 1, 0}, {6, 2, OC_REPLY_HOLD_SHORT, 1, 1, 0},
        {7, 4, OC_REPLY_HOLD_SHORT, 1, 1, 1},    {8, 5, OC_REPLY_HOLD_SHORT, 1, 1, 1},
        {9, 0, OC_REPLY_HOLD_GAP, 1, 1, 1},      {10, 9, OC_REPLY_HOLD_SHORT, 1, 1, 1},
    };
    const uint32_t session = rig_session(r, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        push(r, 0, session, rows[i].sequence, rows[i].run);
        assert_int_equal(rig_await(r, 0).state, rows[i].want);
        const oc_batcher_stats *t = &r->batcher.stats;
        assert_true(t->duplicates == rows[i].duplicates && t->stale == rows[i].stale && t->gaps == rows[i].gaps);
    }
}

/* A window whose deadline is over when it is taken is answered LATE, and not computed for nobody. */
static void expired_window(void **state)
{
    rig *r = *state;
    float window[T * F];
    rig_rows(window, 1, 0, T);
    for (uint64_t i = 0; i < 10; i++) {
        const int64_t deadline_ns = oc_clock_monotonic_ns() + (i % 2 ? 60 * OC_SECOND_NS : -1);
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = i, .deadline_ns = deadline_ns}, window,
                 sizeof window);
        const oc_wire_reply reply = rig_await(r, 0);
        assert_true(reply.sequence == i && reply.state == (i % 2 ? OC_REPLY_OK : OC_REPLY_LATE));
        if (reply.state == OC_REPLY_LATE) assert_true(reply.probabilities[1][0] == 0 && reply.probabilities[1][2] == 1);
        assert_int_equal(r->batcher.observed.whole.count, (i + 1) / 2); /* computed */
    }
    assert_int_equal(r->batcher.stats.replies[OC_REQUEST_WINDOW][OC_REPLY_LATE], 5);
}

/* The lowest that is free, each once, and none when there is none; the number of one that ended is nobody's. */
static void seats(void **state)
{
    rig *r = *state;
    static const uint32_t freed[] = {3, 1}, taken[] = {1, 3};
    uint32_t ids[RIG_SESSIONS];
    oc_wire_open open = {.schema_low = r->bundle->schema.low, .schema_high = r->bundle->schema.high, .period_ns = 1000};
    snprintf(open.model, sizeof open.model, "%s", r->bundle->name);
    r->batcher.advance_ns = 1;
    for (int i = 0; i < RIG_SESSIONS; i++) ids[i] = rig_session(r, 0);
    for (int turn = 0; turn < 3; turn++) {
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_OPEN}, &open, sizeof open);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_FULL);
        for (int i = 0; i < 2; i++) {
            rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = ids[freed[i]]}, NULL, 0);
            assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
            push(r, 0, ids[freed[i]], 1, 1);
            assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SESSION);
        }
        for (int i = 0; i < 2; i++) {
            const uint32_t id = rig_session(r, 0);
            assert_true(id % OC_BATCHER_SESSIONS_MAX == taken[i] && id != ids[taken[i]]);
            ids[taken[i]] = id;
        }
    }
}

/* Room for clients that are not there costs a round nothing (it took 20 times as long): it is looked at once, behind a
 * welcome, and who looks again is killed. */
static void room_for_clients(void **state)
{
    enum { ROOM = 1024, ROUNDS = 2000 };
    rig *r = *state;
    const size_t bytes = ROOM * sizeof(oc_channel);
    oc_channel *many = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* all free */
    assert_true(many != MAP_FAILED);
    r->batcher.channels = many;
    r->batcher.channel_count = ROOM;
    oc_batcher_welcome(&r->batcher);
    for (int i = 0; i < 2; i++) (void)oc_batcher_round(&r->batcher);
    assert_int_equal(mprotect(many, bytes, PROT_NONE), 0);
    for (int i = 0; i < ROUNDS; i++) (void)oc_batcher_round(&r->batcher);
    r->batcher.channels = r->channels;
    r->batcher.channel_count = RIG_CHANNELS;
    assert_int_equal(munmap(many, bytes), 0);
}

/* One comes, its first request is there before it is looked at; one goes; the one that stays is answered all along. */
static void come_and_go(void **state)
{
    rig *r = *state;
    float window[T * F];
    oc_wire_reply reply;
    rig_rows(window, 1, 0, T);
    for (uint64_t turn = 0; turn < 20; turn++) {
        const oc_wire_request q = {.kind = OC_REQUEST_WINDOW, .sequence = turn};
        __atomic_store_n(&r->channels[1].state, turn % 2 ? OC_CHANNEL_LIVE : OC_CHANNEL_LEAVING, __ATOMIC_RELEASE);
        if (turn % 2) oc_batcher_welcome(&r->batcher);
        rig_send(r, 0, q, window, sizeof window);
        if (turn % 2) rig_send(r, 1, q, window, sizeof window);
        (void)oc_batcher_round(&r->batcher);
        assert_true(rig_poll(r, 0, &reply) && reply.sequence == turn && reply.state == OC_REPLY_OK);
        assert_true(rig_poll(r, 1, &reply) == (turn % 2 == 1));
        assert_int_equal(r->channels[1].state, turn % 2 ? OC_CHANNEL_LIVE : OC_CHANNEL_LEFT);
        assert_int_equal(r->batcher.our_count, 1 + turn % 2);
    }
}

/* Months of a feed: rates are made of counters, whose last digits they need. */
static void long_counters(void **state)
{
    rig *r = *state;
    const oc_server_stats server = {.accept_failures = 7};
    oc_scaling live;
    oc_figures figures;
    oc_text text = {0};
    for (int i = 0; i < OC_INPUTS_MAX; i++) live.mean[i] = 0, live.scale[i] = 1;
    r->batcher.stats.ticks = 123456789012345;
    r->batcher.stats.advance_ns = 1234567890123456; /* two weeks */
    oc_figures_sum(&figures, &r->batcher, 1, &live);
    oc_metrics_write(&text, r->bundle, "1", &server, &figures, "cpu");
    assert_non_null(strstr(text.data, "\noutcry_ticks_total 123456789012345\n"));
    assert_non_null(strstr(text.data, "\noutcry_advance_seconds_total 1234567.89012346\n"));
    oc_text_free(&text);
}

/* Whatever an advance that fails left in the windows, no answer is made from it: they begin anew, and are exact again
 * when they are full. Here it fails as it has no row to advance by. */
static void advance_fails(void **state)
{
    rig *r = *state;
    const uint32_t session = rig_session(r, 0);
    float want[RIG_OUTPUTS];
    for (uint64_t row = 1; row <= 4 * T; row++) {
        const bool fails = row == 2 * T;
        if (fails) {
            while (oc_batcher_round(&r->batcher)) continue;
            assert_int_equal(r->batcher.sessions[0].due, 0);
            oc_batcher_due(&r->batcher, &r->batcher.sessions[0]);
            assert_true(oc_batcher_round(&r->batcher));
        }
        push(r, 0, session, row, (uint32_t)row);
        const oc_wire_reply reply = rig_await(r, 0);
        const bool full = row >= 2 * T ? row >= 3 * T - 1 : row >= T;
        assert_int_equal(reply.state, full ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
        if (!full) continue;
        rig_oracle(r, session, row, want);
        assert_memory_equal(want, reply.probabilities, sizeof want);
    }
}

/* What is admitted is what the numbers say, and what ends gives all of it back. */
static void budget(void **state)
{
    rig *r = *state;
    oc_wire_open open = {.schema_low = r->bundle->schema.low, .schema_high = r->bundle->schema.high};
    snprintf(open.model, sizeof open.model, "%s", r->bundle->name);
    r->batcher.advance_ns = 1000000;
    open.period_ns = 2500000; /* 0.4 each, of 0.9 */
    for (int turn = 0; turn < 50; turn++) {
        uint32_t sessions[2];
        for (int i = 0; i < 3; i++) {
            rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_OPEN}, &open, sizeof open);
            const oc_wire_reply reply = rig_await(r, 0);
            assert_int_equal(reply.state, i < 2 ? OC_REPLY_OK : OC_REPLY_REFUSED_BUDGET);
            if (i < 2) sessions[i] = reply.session;
        }
        assert_int_equal(r->batcher.stats.load_ppb, 800000000);
        for (int i = 0; i < 2; i++) {
            rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = sessions[i]}, NULL, 0);
            assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
        }
        assert_int_equal(r->batcher.stats.load_ppb, 0);
    }
}

/* The plan is what serve.memory_mb must hold, to the byte: windows, kept rows, and the rows that are shown. */
static void memory_planned(void **state)
{
    rig *r = *state;
    static oc_batcher e;
    for (int two_slots = 0; two_slots < 2; two_slots++) {
        oc_batcher_config config = {.batch_max = 2,
                                    .sessions_max = RIG_SESSIONS,
                                    .memory_max_bytes = 64 << 20,
                                    .budget = 0.9,
                                    .two_slots = two_slots == 1};
        assert_int_equal(oc_batcher_init(&e, 0, &r->version, &config, r->channels, 1), OC_OK);
        const size_t planned = oc_batcher_planned_bytes(&e), slots = (two_slots ? 2 : 1) * e.slots[0].bytes;
        assert_int_equal(planned, slots + (two_slots ? oc_batcher_kept_bytes(&e.shape, RIG_SESSIONS) : 0) +
                                      oc_observed_bytes(&e.shape, RIG_SESSIONS));
        oc_batcher_deinit(&e);
        for (size_t less = 0; less < 2; less++) {
            config.memory_max_bytes = planned - less;
            assert_int_equal(oc_batcher_init(&e, 0, &r->version, &config, r->channels, 1), less ? OC_ECONFIG : OC_OK);
            if (less) assert_non_null(strstr(oc_status_message(), "serve.memory_mb"));
            oc_batcher_deinit(&e);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flood, setup, teardown),
        cmocka_unit_test_setup_teardown(oldest_first, setup, teardown),
        cmocka_unit_test_setup_teardown(advance_left_anywhere, setup, teardown),
        cmocka_unit_test_setup_teardown(overload, setup, teardown),
        cmocka_unit_test_setup_teardown(expiry, setup, teardown),
        cmocka_unit_test_setup_teardown(expiry_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(counted, setup, teardown),
        cmocka_unit_test_setup_teardown(expired_window, setup, teardown),
        cmocka_unit_test_setup_teardown(seats, setup, teardown),
        cmocka_unit_test_setup_teardown(long_counters, setup, teardown),
        cmocka_unit_test_setup_teardown(room_for_clients, setup, teardown),
        cmocka_unit_test_setup_teardown(come_and_go, setup, teardown),
        cmocka_unit_test_setup_teardown(advance_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(budget, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_planned, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
