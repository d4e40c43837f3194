/* test_ticks.c - events of a stream against the feature engine and the model beside the server. What it would catch: a
 * bit that differs from rows pushed by hand, replies out of the order of their events, a row that is believed after a
 * late start or behind a refused event, a book that nobody knows, an event that is none and reaches the engine, memory
 * taken by opening, a version that answers for another, a stream that holds others up or outlives its client. */
#include <math.h>
#include <stddef.h>
#include "serve/ticks_rig.h"
#include "base/memory.h"
#include "serve/batcher_parts.h"

enum { T = RIG_T, F = RIG_F, REQUEST_MAX = 80, PACKETS = 3000 };

static int setup(void **state)
{
    static rig r;
    ticks_rig_open(&r);
    *state = &r;
    return 0;
}

static int teardown(void **state)
{
    rig_close(*state);
    return 0;
}

static void reply_check(const oc_wire_reply *reply, const ticks_want *want, uint32_t stream)
{
    if (reply->state != want->state || reply->sequence != want->sequence)
        fail_msg("event %llu: state %u, not %d (of %llu)", (unsigned long long)reply->sequence, reply->state,
                 want->state, (unsigned long long)want->sequence);
    assert_true(reply->kind == OC_REQUEST_TICK && reply->session == stream && reply->input_ns == want->time_ns);
    assert_true(reply->instrument == want->instrument && reply->horizons == 2);
    assert_memory_equal(reply->probabilities, want->answer, sizeof want->answer);
}

/* The request's replies, in order, and what makes its end: the reply to its last event. */
static void replies_check(rig *r, uint32_t stream, const ticks_want *want, size_t count, const oc_event *last)
{
    for (size_t i = 0; i < count; i++) {
        const oc_wire_reply reply = rig_await(r, 0);
        reply_check(&reply, &want[i], stream);
    }
    if (count > 0 && want[count - 1].sequence == last->sequence) return;
    const oc_wire_reply end = rig_await(r, 0);
    assert_int_equal(end.state, OC_REPLY_HOLD_NO_ROW);
    assert_true(end.sequence == last->sequence && end.probabilities[0][2] == 1 && end.input_ns == last->receive_ns);
    assert_int_equal(end.instrument, last->instrument);
}

/* Requests of any length over thousands of packets, with gaps and session breaks: a packet may lie in two of them. */
static void same_bits(void **state)
{
    rig *r = *state;
    static ticks_want want[REQUEST_MAX];
    static oc_event events[PACKETS * 40];
    size_t count = 0, full = 0, gaps = 0;
    ticks_market m;
    ticks_oracle o;
    ticks_market_open(&m, 5);
    ticks_oracle_open(&o);
    const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS);
    for (int i = 0; i < PACKETS; i++) count += ticks_packet(&m, events + count, true);
    for (size_t at = 0; at < count;) {
        size_t n = 1 + (size_t)ticks_draw(&m, at % 3 ? REQUEST_MAX : 3), rows = 0;
        n = n < count - at ? n : count - at;
        for (size_t k = 0; k < n; k++) {
            if (!ticks_oracle_event(&o, r, &events[at + k], &want[rows])) continue;
            full += want[rows].state == OC_REPLY_OK;
            gaps += want[rows++].state == OC_REPLY_HOLD_GAP;
        }
        ticks_send(r, 0, stream, events + at, n);
        replies_check(r, stream, want, rows, &events[at + n - 1]);
        at += n;
    }
    oc_features_close(o.engine);
    assert_true(full > PACKETS / 2 && gaps > 20);
    assert_int_equal(r->batcher.stats.ticks, count);
    assert_int_equal(r->batcher.stats.ticks_dropped, 0);
}

/* A stream in the memory of one that ended in the middle of a packet leaves nothing of it: the first rows, which depend
 * on what came before most, have the same bits. */
static void used_memory(void **state)
{
    rig *r = *state;
    static ticks_want want[REQUEST_MAX];
    oc_event events[40];
    for (int turn = 0; turn < 4; turn++) {
        ticks_market m;
        ticks_oracle o;
        size_t full = 0;
        ticks_market_open(&m, 20 + (uint64_t)turn);
        ticks_oracle_open(&o);
        const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS);
        for (int i = 0; i < 300; i++) {
            size_t rows = 0;
            const size_t n = ticks_packet(&m, events, true);
            for (size_t k = 0; k < n; k++) rows += ticks_oracle_event(&o, r, &events[k], &want[rows]);
            full += rows > 0 && want[rows - 1].state == OC_REPLY_OK;
            ticks_send(r, 0, stream, events, n);
            replies_check(r, stream, want, rows, &events[n - 1]);
        }
        assert_true(full > 50);
        size_t n = 0;
        while (n < 2) n = ticks_packet(&m, events, true);
        ticks_send(r, 0, stream, events, n - 1);
        (void)rig_await(r, 0);
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = stream}, NULL, 0);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
        oc_features_close(o.engine);
    }
}

/* Versions change under a stream, there and back: every row is answered once, with the bits of the version that its
 * reply names. */
static void versions_change(void **state)
{
    rig *r = *state;
    static rig other; /* of which the oracle takes the model */
    static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 24, 2, 2};
    static const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    const oc_slot_config slot = {7, RIG_SESSIONS, 32 << 20, cpu, false};
    oc_version second;
    oc_ensemble ensemble;
    oc_slot box;
    oc_event events[40];
    ticks_market m;
    ticks_oracle o[2];
    size_t answered[3] = {0};
    assert_int_equal(sample_bundle(&other.bundle, &shape, 3.0f, 4.0, 6), OC_OK);
    assert_int_equal(oc_model_open(&other.model, other.bundle, &cpu, 1), OC_OK);
    oc_version_of_bundle(&second, &ensemble, other.bundle);
    second.generation = 2;
    assert_int_equal(oc_slot_open(&box, &second, &slot), OC_OK);
    ticks_market_open(&m, 12);
    for (int v = 0; v < 2; v++) ticks_oracle_open(&o[v]);
    const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS);
    for (int i = 0; i < 1600; i++) {
        ticks_want want[2][40];
        size_t rows[2] = {0};
        if (i == 200) r->batcher.offer = &box;
        if (i >= 300 && i % 400 == 300) r->batcher.order = OC_ORDER_MAKE(i / 400 % 2 ? 1u : 2u, 1, 0);
        const size_t n = ticks_packet(&m, events, true);
        for (size_t k = 0; k < n; k++) {
            rows[0] += ticks_oracle_event(&o[0], r, &events[k], &want[0][rows[0]]);
            rows[1] += ticks_oracle_event(&o[1], &other, &events[k], &want[1][rows[1]]);
        }
        ticks_send(r, 0, stream, events, n);
        for (size_t k = 0; k < rows[0]; k++) {
            const oc_wire_reply reply = rig_await(r, 0);
            assert_true(reply.model_version == 1 || reply.model_version == 2);
            reply_check(&reply, &want[reply.model_version - 1][k], stream);
            answered[reply.model_version] += reply.state == OC_REPLY_OK;
        }
        if (rows[0] == 0 || want[0][rows[0] - 1].sequence != events[n - 1].sequence)
            assert_int_equal(rig_await(r, 0).state, OC_REPLY_HOLD_NO_ROW);
    }
    assert_true(answered[1] > 200 && answered[2] > 200 && r->batcher.stats.moves >= 6);
    for (int v = 0; v < 2; v++) oc_features_close(o[v].engine);
    oc_model_close(other.model);
    oc_slot_close(&box); /* what was in the other slot before: nothing */
    r->batcher.order = OC_ORDER_MAKE(1, 0, 0);
    while (oc_batcher_round(&r->batcher)) {
    }
    oc_slot_close(&r->batcher.slots[!r->batcher.live]);
    oc_bundle_close(other.bundle);
}

/* A stream that begins in the middle, with the books of that moment: nothing is answered before the declared history
 * lies behind it, and then with the bits of the run that began earlier. */
static void late_start(void **state)
{
    rig *r = *state;
    oc_event events[40];
    ticks_market m;
    ticks_oracle o;
    ticks_want want;
    size_t held = 0, exact = 0, rows[TICKS_INSTRUMENTS] = {0}, first_ok[TICKS_INSTRUMENTS] = {0};
    ticks_market_open(&m, 6);
    ticks_oracle_open(&o);
    for (int i = 0; i < 2000; i++) {
        const size_t n = ticks_packet(&m, events, false);
        for (size_t k = 0; k < n; k++) (void)ticks_oracle_event(&o, r, &events[k], &want);
    }
    const ticks_open open = ticks_open_of(r, 0);
    const oc_wire_reply opened = ticks_open_send(r, 0, &open);
    assert_int_equal(opened.sequence, oc_features_history_events(o.engine));
    assert_int_equal(opened.input_ns, oc_features_history_ns(o.engine));
    for (uint32_t i = 0; i < TICKS_INSTRUMENTS; i++) { /* the books, as one event after another without an end */
        const oc_book *book = oc_features_book(o.engine, i);
        const oc_book_side *sides[] = {&book->bid, &book->ask};
        for (int s = 0; s < 2; s++) {
            for (uint32_t k = 0; k < sides[s]->count; k++) {
                const oc_book_level l = sides[s]->level[k];
                oc_event e = ticks_level(&m, i, OC_EVENT_SNAPSHOT, l.ticks, l.lots);
                e.receive_ns = m.now_ns;
                e.sequence = ++m.sequence;
                ticks_send(r, 0, opened.session, &e, 1);
                assert_int_equal(rig_await(r, 0).state, OC_REPLY_HOLD_NO_ROW);
            }
        }
    }
    for (int p = 0; p < 3000; p++) {
        const size_t n = ticks_packet(&m, events, true);
        ticks_send(r, 0, opened.session, events, n);
        for (size_t k = 0; k < n; k++) {
            if (!ticks_oracle_event(&o, r, &events[k], &want)) continue;
            const oc_wire_reply reply = rig_await(r, 0);
            rows[want.instrument]++;
            held += reply.state == OC_REPLY_HOLD_HISTORY;
            if (reply.state != OC_REPLY_OK) {
                assert_true(reply.state != OC_REPLY_HOLD_NO_ROW && reply.state < OC_REPLY_STATE_COUNT);
                continue;
            }
            if (!first_ok[want.instrument]) first_ok[want.instrument] = rows[want.instrument];
            reply_check(&reply, &want, opened.session);
            exact++;
        }
    }
    oc_features_close(o.engine);
    for (int i = 0; i < TICKS_INSTRUMENTS; i++) assert_true(first_ok[i] > opened.sequence + T);
    printf("late start: %zu rows held, %zu exact\n", held, exact);
    assert_true(held >= 2 * opened.sequence && exact > 500);
}

/* Without the books nothing is answered, however long. */
static void no_books(void **state)
{
    rig *r = *state;
    oc_event events[40];
    ticks_market m;
    ticks_market_open(&m, 7);
    m.begun[0] = m.begun[1] = true; /* so it sends none */
    const uint32_t stream = ticks_stream(r, 0, 0);
    for (int i = 0; i < 600; i++) {
        const size_t n = ticks_packet(&m, events, false);
        ticks_send(r, 0, stream, events, n);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_HOLD_NO_ROW);
    }
}

/* What is no event, or not behind the one before, is refused with what follows it, and the stream begins anew. */
static void hostile_events(void **state)
{
    rig *r = *state;
    oc_event events[64], good[40];
    ticks_market m;
    static const struct {
        size_t at;
        uint8_t value;
        oc_reply_state want;
    } cases[] = {
        {offsetof(oc_event, kind), 0, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, kind), OC_EVENT_KIND_END, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, kind), OC_EVENT_EXTERNAL, OC_REPLY_REFUSED_EVENT}, /* its value is made infinite below */
        {offsetof(oc_event, side), 3, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, flags), 8, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, instrument), TICKS_INSTRUMENTS, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, instrument) + 3, 0x80, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, source), 1, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, reserved), 1, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, as.price.lots) + 7, 0x7f, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, as.price.ticks) + 7, 0x80, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, receive_ns) + 7, 0x80, OC_REPLY_REFUSED_EVENT},
        {offsetof(oc_event, receive_ns) + 4, 0, OC_REPLY_REFUSED_ORDER},
    };
    ticks_market_open(&m, 8);
    const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int i = 0; i < 4 * T; i++) { /* both instruments have windows */
            const size_t n = ticks_packet(&m, good, false);
            ticks_send(r, 0, stream, good, n);
            (void)rig_await(r, 0);
        }
        const uint64_t dropped = r->batcher.stats.ticks_dropped;
        size_t n = ticks_packet(&m, events, false);
        const size_t bad = n;
        for (int i = 0; i < 3; i++) n += ticks_packet(&m, events + n, false);
        memcpy((unsigned char *)&events[bad] + cases[c].at, &cases[c].value, 1);
        if (cases[c].value == OC_EVENT_EXTERNAL) events[bad].as.external.value = HUGE_VAL;
        ticks_send(r, 0, stream, events, n);
        oc_wire_reply reply = rig_await(r, 0); /* of the packet before it */
        assert_true(reply.state != cases[c].want);
        reply = rig_await(r, 0);
        if (reply.state != cases[c].want) fail_msg("case %zu: state %u", c, reply.state);
        assert_true(reply.sequence == events[bad].sequence && reply.probabilities[0][2] == 1);
        assert_int_equal(r->batcher.stats.ticks_dropped - dropped, n - bad);
        for (int i = 0; i < 40; i++) { /* a gap: levels wait for a snapshot, so there is no row */
            n = ticks_packet(&m, events, false);
            ticks_send(r, 0, stream, events, n);
            assert_int_equal(rig_await(r, 0).state, OC_REPLY_HOLD_NO_ROW);
        }
        m.begun[0] = m.begun[1] = false; /* the snapshots come */
        size_t full = 0;
        for (int i = 0; i < 12 * T; i++) {
            n = ticks_packet(&m, events, false);
            ticks_send(r, 0, stream, events, n);
            reply = rig_await(r, 0);
            full += reply.state == OC_REPLY_OK;
            if (i < T) assert_int_equal(full, 0);
        }
        assert_true(full > 0);
    }
    assert_int_equal(r->batcher.stats.replies[OC_REQUEST_TICK][OC_REPLY_REFUSED_ORDER], 1);
}

/* Requests that carry no events, or not of this stream; a stream's sessions are its own. */
static void hostile_requests(void **state)
{
    rig *r = *state;
    oc_event events[2] = {{.kind = OC_EVENT_STATUS, .receive_ns = 1, .sequence = 1}};
    const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS), other = ticks_stream(r, 1, OC_STREAM_BEGINS);
    static const size_t sizes[] = {0, 1, 87, 89, 175};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_TICK, .session = stream, .sequence = i}, events, sizes[i]);
        const oc_wire_reply reply = rig_await(r, 0);
        assert_true(reply.state == OC_REPLY_REFUSED_SHAPE && reply.sequence == i);
    }
    const uint32_t unknown[] = {0, other, stream + 1, stream + (1 << 8), UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        ticks_send(r, 0, unknown[i], events, 1);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SESSION);
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = unknown[i]}, NULL, 0);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SESSION);
    }
    static const uint32_t kinds[] = {OC_REQUEST_PUSH, OC_REQUEST_CLOSE, OC_REQUEST_HISTORY};
    const float row[F] = {0};
    for (int i = 0; i < RIG_SESSIONS; i++) {
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            const oc_wire_request q = {
                .kind = kinds[k], .session = r->batcher.sessions[i].id, .sequence = 1, .run_length = 1};
            rig_send(r, i / 2, q, row, kinds[k] == OC_REQUEST_CLOSE ? 0 : sizeof row);
            assert_int_equal(rig_await(r, i / 2).state, OC_REPLY_REFUSED_SESSION);
        }
    }
    ticks_send(r, 0, stream, events, 1);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_HOLD_NO_ROW);
}

static void openings(void **state)
{
    rig *r = *state;
    const size_t before = oc_memory_count();
    const ticks_open good = ticks_open_of(r, 0);
    enum { CASES = 11 };
    ticks_open bad[CASES];
    static const oc_reply_state want[CASES] = {
        OC_REPLY_REFUSED_MODEL,  OC_REPLY_REFUSED_MODEL,  OC_REPLY_REFUSED_SHAPE,  OC_REPLY_REFUSED_BUDGET,
        OC_REPLY_REFUSED_SCHEMA, OC_REPLY_REFUSED_SCHEMA, OC_REPLY_REFUSED_SCHEMA, OC_REPLY_REFUSED_SCHEMA,
        OC_REPLY_REFUSED_FULL,   OC_REPLY_REFUSED_SHAPE,  OC_REPLY_REFUSED_SHAPE};
    for (int i = 0; i < CASES; i++) bad[i] = good;
    bad[0].head.model[0] = 'x';
    memset(bad[1].head.model, 'x', sizeof bad[1].head.model);
    bad[2].head.period_ns = 0;
    bad[3].head.period_ns = 1;
    bad[4].universe[1].tick_exponent = -2; /* another tick, lot, order, universe */
    bad[5].universe[1].lot = 2;
    bad[6].universe[0] = good.universe[1], bad[6].universe[1] = good.universe[0];
    bad[7].head.instruments = 1;
    bad[8].head.instruments = TICKS_INSTRUMENTS + 1;
    bad[8].universe[2] = good.universe[0];
    bad[9].universe[0].tick = -1;
    memset(bad[10].universe[0].symbol, 'S', sizeof bad[10].universe[0].symbol);
    for (int i = 0; i < CASES; i++) {
        const oc_reply_state state_got = (oc_reply_state)ticks_open_send(r, 0, &bad[i]).state;
        if (state_got != want[i]) fail_msg("case %d: state %d, not %d", i, (int)state_got, (int)want[i]);
    }
    for (size_t bytes = 0; bytes < sizeof good; bytes += 37) { /* cut */
        if (bytes == sizeof good.head + TICKS_INSTRUMENTS * sizeof *good.universe) continue;
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_OPEN}, &good, bytes);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SHAPE);
    }
    assert_int_equal(r->batcher.stats.streams + r->batcher.stats.sessions, 0);
    const uint32_t one = ticks_stream(r, 0, 0), alone = rig_session(r, 1);
    assert_int_equal(ticks_open_send(r, 0, &good).state, OC_REPLY_REFUSED_FULL); /* one session is left, not two */
    rig_send(r, 1, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = alone}, NULL, 0);
    (void)rig_await(r, 1);
    const uint32_t two = ticks_stream(r, 1, 0);
    assert_int_equal(ticks_open_send(r, 0, &good).state, OC_REPLY_REFUSED_FULL);
    assert_int_equal(r->batcher.stats.streams, 2);
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = one}, NULL, 0);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    bad[0] = good; /* a client's own number, four of which are no number any more */
    bad[0].head.period_ns = INT64_MAX;
    const uint32_t rare = ticks_open_send(r, 0, &bad[0]).session;
    r->batcher.idle_max_ns = 1;
    oc_session_expire(&r->batcher, oc_clock_monotonic_ns());
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = rare}, NULL, 0);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    r->batcher.idle_max_ns = 0;
    oc_session_expire(&r->batcher, oc_clock_monotonic_ns()); /* never, as idle_max_ns is 0 */
    assert_int_equal(r->batcher.stats.streams, 1);
    r->batcher.idle_max_ns = OC_SECOND_NS;
    oc_session_expire(&r->batcher, oc_clock_monotonic_ns() + 9 * OC_SECOND_NS);
    assert_int_equal(r->batcher.stats.expired, 1);
    rig_send(r, 1, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = two}, NULL, 0);
    assert_int_equal(rig_await(r, 1).state, OC_REPLY_REFUSED_SESSION);
    assert_int_equal(r->batcher.stats.streams + r->batcher.stats.sessions + r->batcher.stats.load_ppb, 0);
    assert_int_equal(oc_memory_count(), before);
}

/* The client goes, in the middle of an opening and of a request. */
static void client_leaves(void **state)
{
    rig *r = *state;
    static oc_event events[128];
    for (int opening = 0; opening < 2; opening++) {
        ticks_market m;
        ticks_market_open(&m, 9);
        const ticks_open open = ticks_open_of(r, OC_STREAM_BEGINS);
        if (opening) {
            rig_send(r, opening, (oc_wire_request){.kind = OC_REQUEST_STREAM_OPEN}, &open,
                     sizeof open.head + TICKS_INSTRUMENTS * sizeof *open.universe);
        } else {
            const uint32_t stream = ticks_stream(r, opening, OC_STREAM_BEGINS);
            size_t n = 0;
            while (n < 66) n += ticks_packet(&m, events + n, false);
            ticks_send(r, opening, stream, events, n);
        }
        assert_true(oc_batcher_round(&r->batcher));
        assert_int_equal(r->batcher.streams[0].work, opening ? OC_STREAM_OPENING : OC_STREAM_BUSY);
        r->channels[opening].state = OC_CHANNEL_LEAVING;
        assert_true(oc_batcher_round(&r->batcher));
        assert_int_equal(r->channels[opening].state, OC_CHANNEL_LEFT);
        assert_int_equal(r->batcher.streams[0].work, OC_STREAM_FREE);
        assert_int_equal(r->batcher.stats.streams + r->batcher.stats.sessions, 0);
        (void)oc_batcher_round(&r->batcher);
    }
}

/* A client that sends full requests, one behind another, holds nobody up: a window of another is answered in the round
 * in which it is seen, and a round takes a bounded number of events. */
static void others_go_first(void **state)
{
    rig *r = *state;
    static oc_event events[PACKETS * 40];
    float window[T * F];
    oc_wire_reply reply;
    size_t count = 0, at = 0;
    ticks_market m;
    ticks_market_open(&m, 10);
    rig_rows(window, 1, 0, T);
    const uint32_t stream = ticks_stream(r, 0, OC_STREAM_BEGINS);
    for (int i = 0; i < 800; i++) count += ticks_packet(&m, events + count, false);
    for (uint64_t round = 1; at < count; round++) {
        while (at < count) {
            const size_t some = round % 3 ? 1 + (size_t)ticks_draw(&m, 30) : REQUEST_MAX,
                         n = count - at < some ? count - at : some;
            oc_wire_request q = {.kind = OC_REQUEST_TICK, .session = stream, .count = (uint32_t)(n * sizeof *events)};
            q.bytes = (uint32_t)oc_ring_record_bytes(q.count);
            if (oc_ring_put(&r->requests[0], &q, sizeof q, events + at, q.count) != OC_RING_DONE) break;
            at += n;
        }
        const uint64_t before = r->batcher.stats.ticks;
        rig_send(r, 1, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = round}, window, sizeof window);
        assert_true(oc_batcher_round(&r->batcher));
        assert_true(rig_poll(r, 1, &reply) && reply.sequence == round && reply.state == OC_REPLY_OK);
        assert_true(r->batcher.stats.ticks - before <= 64);
        while (rig_poll(r, 0, &reply)) {
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(used_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(versions_change, setup, teardown),
        cmocka_unit_test_setup_teardown(late_start, setup, teardown),
        cmocka_unit_test_setup_teardown(no_books, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_events, setup, teardown),
        cmocka_unit_test_setup_teardown(hostile_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(openings, setup, teardown),
        cmocka_unit_test_setup_teardown(client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(others_go_first, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
