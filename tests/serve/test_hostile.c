/* test_hostile.c - a peer with the shared memory in its own hands: positions that cannot be, records of lengths that
 * cannot be, rows that change while they are read. It is dropped and counted, gets no probabilities, and the client
 * beside it is answered all the same. What it would catch: a length believed after it was checked, a read beyond
 * the ring (under the address sanitizer), a batcher that stops, a request that leaves memory behind. Writes at random:
 * 100,000, with OUTCRY_FULL=1 10,000,000; seed by OUTCRY_SEED. */
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include "serve/rig.h"

enum { T = RIG_T, F = RIG_F };

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

static void neighbour_answers(rig *r)
{
    float window[T * F], want[RIG_OUTPUTS];
    oc_wire_reply reply;
    rig_rows(window, 2, 0, T);
    rig_oracle(r, 2, T - 1, want);
    rig_send(r, 1, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = 5}, window, sizeof window);
    bool answered = false; /* in this round, or in the next where the other has filled this one's batch */
    for (int i = 0; i < 2 && !answered; i++) {
        (void)oc_batcher_round(&r->batcher);
        answered = rig_poll(r, 1, &reply);
    }
    assert_true(answered && reply.state == OC_REPLY_OK);
    assert_memory_equal(want, reply.probabilities, sizeof want);
}

/* In the place of the one that was dropped. */
static void another_client(rig *r)
{
    oc_channel *c = &r->channels[0];
    oc_ring *const ends[] = {&c->requests, &c->replies, &r->requests[0], &r->replies[0]};
    assert_int_equal(c->state, OC_CHANNEL_LEFT);
    memset(c->region, 0, sizeof(oc_wire_control));
    for (int i = 0; i < 4; i++) oc_ring_init(ends[i], ends[i]->shared, ends[i]->data, ends[i]->capacity);
    c->state = OC_CHANNEL_LIVE;
    oc_batcher_welcome(&r->batcher);
}

/* One good row first, so that positions are in mid-ring; then one record as the case says. */
static void broken_records(void **state)
{
    static const struct {
        const char *what;
        uint64_t tail; /* behind the good record */
        uint32_t bytes;
    } cases[] = {
        {"a tail behind the head", (uint64_t)-64, 64},
        {"a tail a ring ahead", RIG_RING + 64, 64},
        {"a tail far ahead", UINT64_C(1) << 63, 64},
        {"a tail within a line", 65, 64},
        {"a record of nothing", 64, 0},
        {"a record within a line", 64, 63},
        {"a record of a line and a byte", 128, 65},
        {"a record larger than published", 64, 128},
        {"a record of all bits", 4096, UINT32_MAX},
        {"a record larger than the ring", 8128, 16384},
    };
    rig *r = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        oc_channel *c = &r->channels[0];
        oc_wire_reply reply;
        const uint32_t session = rig_session(r, 0);
        const uint64_t before = r->batcher.stats.broken, at = r->requests[0].mine;
        const oc_wire_request bad = {.bytes = cases[i].bytes, .kind = OC_REQUEST_WINDOW, .session = session};
        memcpy(r->requests[0].data + at % RIG_RING, &bad, sizeof bad);
        __atomic_store_n(&r->requests[0].shared->tail, at + cases[i].tail, __ATOMIC_RELEASE);
        neighbour_answers(r);
        if (r->batcher.stats.broken != before + 1) fail_msg("%s: not found", cases[i].what);
        assert_int_equal(c->state, OC_CHANNEL_LEFT);
        assert_false(rig_poll(r, 0, &reply));
        assert_int_equal(r->batcher.stats.sessions, 0); /* its session went with it */
        another_client(r);
    }
}

/* Larger than what it is to carry, as any request of another kind may be: refused, nothing more. */
static void large_record(void **state)
{
    rig *r = *state;
    static const unsigned char payload[4000];
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = 9}, payload, sizeof payload);
    const oc_wire_reply reply = rig_await(r, 0);
    assert_true(reply.state == OC_REPLY_REFUSED_SHAPE && reply.sequence == 9);
    neighbour_answers(r);
}

/* The head of the replies that the peer writes: beyond what was sent, or backwards. */
static void broken_heads(void **state)
{
    static const uint64_t heads[] = {UINT64_C(1) << 20, UINT64_C(1) << 40, (uint64_t)-64};
    rig *r = *state;
    float window[T * F];
    rig_rows(window, 1, 0, T);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        oc_channel *c = &r->channels[0];
        const uint64_t before = r->batcher.stats.broken;
        uint64_t sent = 0; /* the head is looked at where the ring of replies seems full */
        __atomic_store_n(&c->replies.shared->head, c->replies.mine + heads[i], __ATOMIC_RELEASE);
        for (; sent < 4000 && c->state == OC_CHANNEL_LIVE; sent++) {
            rig_send(r, 0, (oc_wire_request){.kind = 99}, NULL, 0);
            (void)oc_batcher_round(&r->batcher);
        }
        neighbour_answers(r);
        assert_int_equal(r->batcher.stats.broken, before + 1);
        assert_int_equal(c->state, OC_CHANNEL_LEFT);
        another_client(r);
    }
}

/* ---- changed while it is read --------------------------------------------------------------------------------------
 */
typedef struct spoiler {
    rig *r;
    uint32_t stop;
} spoiler;

/* Rows between good and NaN, counts and lengths between good and large, as fast as it can. */
static void *spoil(void *argument)
{
    spoiler *s = argument;
    unsigned char *data = s->r->requests[0].data;
    const uint32_t key = oc_random_key(19, OC_RANDOM_TEST, 0, 0);
    for (uint64_t i = 0; !__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE); i++) {
        const uint64_t draw = oc_random_philox(key, i), line = draw % (RIG_RING / OC_WIRE_LINE);
        const uint32_t words[] = {64, 128, 320, 0x7fc00000u, 0x3f800000u, 240, 20, UINT32_MAX};
        volatile uint32_t *word = (volatile uint32_t *)(void *)(data + line * OC_WIRE_LINE + (draw >> 20) % 16 * 4);
        *word = words[(draw >> 32) % 8];
    }
    return NULL;
}

static bool good_or_hold(const oc_wire_reply *reply)
{
    for (int h = 0; h < 2; h++) {
        const float *p = reply->probabilities[h];
        const float sum = p[0] + p[1] + p[2];
        if (!(p[0] >= 0 && p[1] >= 0 && p[2] >= 0 && fabsf(sum - 1) < 1e-5f)) return false;
        if (reply->state != OC_REPLY_OK && !(p[2] == 1)) return false;
    }
    return reply->state < OC_REPLY_STATE_COUNT;
}

static void changed_while_read(void **state)
{
    rig *r = *state;
    spoiler s = {.r = r};
    pthread_t thread;
    size_t answered = 0, dropped = 0;
    float window[T * F];
    rig_rows(window, 1, 0, T);
    assert_int_equal(pthread_create(&thread, NULL, spoil, &s), 0);
    const int64_t end = oc_clock_monotonic_ns() + OC_SECOND_NS, last = end + 60 * OC_SECOND_NS; /* a slow machine's */
    for (int64_t now = 0; now < end || (answered <= 20 && now < last); now = oc_clock_monotonic_ns()) {
        oc_channel *c = &r->channels[0];
        oc_wire_reply reply;
        oc_wire_request q = {.kind = OC_REQUEST_WINDOW, .sequence = 1, .bytes = 320, .count = sizeof window};
        for (int i = 0; i < 12; i++)
            if (oc_ring_put(&r->requests[0], &q, sizeof q, window, sizeof window) != OC_RING_DONE) break;
        (void)oc_batcher_round(&r->batcher);
        while (rig_poll(r, 0, &reply)) {
            assert_true(good_or_hold(&reply)); /* whatever the rows were when they were copied */
            answered++;
        }
        if (c->state != OC_CHANNEL_LEFT) continue;
        another_client(r);
        dropped++;
    }
    __atomic_store_n(&s.stop, 1u, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    neighbour_answers(r);
    assert_true(answered > 20);
    print_message("%zu answers, dropped %zu times\n", answered, dropped);
}

/* ---- writes at random ----------------------------------------------------------------------------------------------
 */
typedef struct vandal {
    rig *r;
    uint32_t key, neighbours_session;
    uint64_t drawn;
} vandal;

static uint32_t draw_below(vandal *v, uint32_t bound)
{
    return (uint32_t)(oc_random_philox(v->key, v->drawn++) % bound);
}

/* Numbers near those that mean something, and now and then any. */
static uint64_t draw_number(vandal *v)
{
    static const uint64_t some[] = {0, 1, 63, 64, 65, 240, 320, 4096, RIG_RING, UINT32_MAX, INT64_MAX, UINT64_MAX};
    const uint32_t choice = draw_below(v, 16);
    return choice < 12 ? some[choice] : oc_random_philox(v->key, v->drawn++);
}

static void write_word(vandal *v)
{
    unsigned char *region = v->r->channels[0].region;
    const size_t words = (OC_WIRE_REGION_OFFSET + RIG_RING + OC_CHANNEL_REPLY_BYTES) / sizeof(uint32_t);
    const uint32_t word = (uint32_t)draw_number(v);
    memcpy(region + sizeof word * draw_below(v, (uint32_t)words), &word, sizeof word);
}

static void write_position(vandal *v)
{
    oc_wire_control *c = (oc_wire_control *)v->r->channels[0].region;
    uint64_t *const positions[] = {&c->requests.tail, &c->requests.head, &c->replies.tail, &c->replies.head};
    uint64_t *at = positions[draw_below(v, 4)];
    const uint64_t by = draw_below(v, 8) ? OC_WIRE_LINE * (uint64_t)draw_below(v, 40) : draw_number(v);
    __atomic_store_n(at, draw_below(v, 4) ? *at + by : draw_number(v), __ATOMIC_RELEASE);
}

/* A request of any kind, most of its numbers good, with rows that may be none, as a client would publish it. */
static void write_request(vandal *v)
{
    static const float values[] = {0, 1, -2, 1e30f, NAN, HUGE_VALF};
    oc_wire_open open = {.schema_low = v->r->bundle->schema.low, .schema_high = v->r->bundle->schema.high};
    float payload[T * F]; /* room for an oc_wire_open too */
    const size_t sizes[] = {0, sizeof(float) * F, sizeof(float) * F * 3, sizeof payload, sizeof open};
    const oc_session *own = &v->r->batcher.sessions[draw_below(v, RIG_SESSIONS)];
    const uint32_t sessions[] = {0, own->id, v->neighbours_session, (uint32_t)draw_number(v)};
    const size_t bytes = sizes[draw_below(v, 5)];
    oc_wire_request q = {.kind = draw_below(v, 10), .session = sessions[draw_below(v, 4)], .count = (uint32_t)bytes};
    q.bytes = (uint32_t)oc_ring_record_bytes(bytes);
    q.sequence = draw_below(v, 4) ? v->drawn : draw_number(v);
    q.run_length = draw_below(v, 4) ? draw_below(v, 2 * T) : (uint32_t)draw_number(v);
    q.deadline_ns = draw_below(v, 4) ? 0 : (int64_t)draw_number(v);
    if (draw_below(v, 16) == 0) q.count = (uint32_t)draw_number(v);
    for (size_t i = 0; i < T * F; i++) payload[i] = values[draw_below(v, 40) ? draw_below(v, 3) : draw_below(v, 6)];
    snprintf(open.model, sizeof open.model, "%s", draw_below(v, 8) ? v->r->bundle->name : "other");
    open.period_ns = draw_below(v, 8) ? OC_SECOND_NS : (int64_t)draw_number(v);
    if (q.kind == OC_REQUEST_OPEN) memcpy(payload, &open, sizeof open);
    const uint64_t at = v->r->requests[0].mine;
    (void)oc_ring_put(&v->r->requests[0], &q, sizeof q, payload, bytes);
    if (draw_below(v, 16)) return;
    q.bytes = (uint32_t)draw_number(v); /* which oc_ring_put would not have published */
    memcpy(v->r->requests[0].data + at % RIG_RING, &q.bytes, sizeof q.bytes);
}

/* Good rows in a row, so that windows fill and what is broken off is something. */
static void write_run(vandal *v)
{
    const oc_session *own = &v->r->batcher.sessions[draw_below(v, RIG_SESSIONS)];
    const uint32_t rows = draw_below(v, 2 * T), session = own->id;
    for (uint32_t i = 0; i < rows && own->id == session && own->channel == &v->r->channels[0]; i++) {
        float row[F];
        const oc_wire_request q = {.bytes = (uint32_t)oc_ring_record_bytes(sizeof row),
                                   .kind = OC_REQUEST_PUSH,
                                   .session = session,
                                   .count = sizeof row,
                                   .sequence = own->sequence + 1,
                                   .run_length = own->run_length + 1};
        rig_row(row, 3, i);
        (void)oc_ring_put(&v->r->requests[0], &q, sizeof q, row, sizeof row);
        (void)oc_batcher_round(&v->r->batcher);
    }
}

static void write_some(vandal *v)
{
    const uint32_t choice = draw_below(v, 32);
    if (choice == 0)
        write_position(v);
    else if (choice == 1)
        write_run(v);
    else if (choice < 8)
        write_word(v);
    else
        write_request(v);
}

static void writes_at_random(void **state)
{
    enum { ROUND = 8, NEIGHBOUR = 1000, GROWTH_MAX = 1 << 20 };
    rig *r = *state;
    const uint64_t total = getenv("OUTCRY_FULL") ? 10000000 : 100000;
    const uint64_t seed = getenv("OUTCRY_SEED") ? strtoull(getenv("OUTCRY_SEED"), NULL, 10) : 1;
    vandal v = {.r = r, .key = oc_random_key(seed, OC_RANDOM_TEST, 23, 0), .neighbours_session = rig_session(r, 1)};
    uint64_t dropped = 0;
    size_t resident = 0;
    for (uint64_t i = 1; i <= total; i++) {
        write_some(&v);
        if (i % ROUND == 0) (void)oc_batcher_round(&r->batcher);
        if (r->channels[0].state == OC_CHANNEL_LEFT) {
            another_client(r);
            dropped++;
        }
        if (i % NEIGHBOUR == 0) neighbour_answers(r);
        if (i == total / 2) resident = oc_memory_resident_bytes();
    }
    const size_t after = oc_memory_resident_bytes();
    assert_true(r->batcher.stats.broken == dropped && dropped > total / 10000);
    const uint64_t *pushed = r->batcher.stats.replies[OC_REQUEST_PUSH],
                   *windows = r->batcher.stats.replies[OC_REQUEST_WINDOW];
    assert_true(pushed[OC_REPLY_OK] > 0 && pushed[OC_REPLY_REFUSED_VALUE] > 0);
    assert_true(windows[OC_REPLY_OK] > total / NEIGHBOUR && windows[OC_REPLY_REFUSED_SHAPE] > 0);
    if (after > resident + GROWTH_MAX) fail_msg("resident memory %zu, then %zu bytes", resident, after);
    print_message("seed %" PRIu64 ": %" PRIu64 " writes, %" PRIu64 " clients dropped, %" PRIu64
                  " windows of the neighbour right, %zu bytes grown in the second half\n",
                  seed, total, dropped, total / NEIGHBOUR, after > resident ? after - resident : 0);
}

/* Rows that a feed could send by mistake: each refused or held with its reason, counted by it, and with no
 * probabilities; and no window that one of them would have been in is answered. */
static void bad_rows(void **state)
{
    static const struct {
        const char *what;
        uint64_t sequence;
        uint32_t run;
        float value;
        oc_reply_state want;
    } rows[] = {
        {"repeated", T, T + 1, 0, OC_REPLY_REFUSED_ORDER},
        {"reordered", T - 3, T + 1, 0, OC_REPLY_REFUSED_ORDER},
        {"NaN", 100, T + 1, NAN, OC_REPLY_REFUSED_VALUE},
        {"infinite", 100, T + 1, HUGE_VALF, OC_REPLY_REFUSED_VALUE},
        {"not valid", 100, 0, 0, OC_REPLY_HOLD_GAP},
        {"a row left out before it", 100, T + 2, 0, OC_REPLY_HOLD_SHORT},
        {"counted twice", 100, T, 0, OC_REPLY_HOLD_SHORT},
        {"begun anew", 100, 1, 0, OC_REPLY_HOLD_SHORT},
    };
    rig *r = *state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const uint32_t session = rig_session(r, 0);
        float row[F];
        oc_wire_request q = {.kind = OC_REQUEST_PUSH, .session = session};
        for (q.sequence = 1; q.sequence <= T; q.sequence++) {
            rig_row(row, 1, q.sequence);
            q.run_length = (uint32_t)q.sequence;
            rig_send(r, 0, q, row, sizeof row);
            assert_int_equal(rig_await(r, 0).state, q.sequence == T ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
        }
        const uint64_t *counter = &r->batcher.stats.replies[OC_REQUEST_PUSH][rows[i].want], before = *counter;
        q.sequence = rows[i].sequence;
        q.run_length = rows[i].run;
        rig_row(row, 1, T + 1);
        row[F - 1] += rows[i].value;
        rig_send(r, 0, q, row, sizeof row);
        const oc_wire_reply reply = rig_await(r, 0);
        if (reply.state != rows[i].want || *counter != before + 1)
            fail_msg("%s: state %u, not %d", rows[i].what, reply.state, rows[i].want);
        for (int h = 0; h < 2; h++) assert_true(reply.probabilities[h][0] == 0 && reply.probabilities[h][2] == 1);
        q.sequence = 200; /* the next good row: goes on only where the bad one was refused without being the next */
        q.run_length = T + 1;
        rig_send(r, 0, q, row, sizeof row);
        const bool kept = rows[i].want == OC_REPLY_REFUSED_ORDER;
        const oc_reply_state next = rig_await(r, 0).state;
        if (isfinite(row[F - 1])) assert_int_equal(next, kept ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = session}, NULL, 0);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    }
}

/* ---- every refusal ---------------------------------------------------------------------------------------------
 */
/* The reply is of that state, says HOLD, and is counted once by its kind and state; the client stays. */
static void refused(rig *r, const char *what, const oc_wire_request *q, oc_reply_state want)
{
    const uint64_t *counter = &r->batcher.stats.replies[q->kind < OC_BATCHER_KINDS ? q->kind : 0][want],
                   before = *counter;
    const oc_wire_reply reply = rig_await(r, 0);
    if (reply.state != want || reply.sequence != q->sequence || reply.kind != q->kind)
        fail_msg("%s: state %u, not %d", what, reply.state, want);
    for (int h = 0; h < 2; h++) assert_true(reply.probabilities[h][0] == 0 && reply.probabilities[h][2] == 1);
    if (*counter != before + 1) fail_msg("%s: not counted", what);
    assert_int_equal(r->channels[0].state, OC_CHANNEL_LIVE);
}

typedef enum { NONE, MINE, OTHERS, ENDED, WINDOWS_ONLY, SESSIONS } whose;

static void refused_requests(void **state)
{
    enum { ROW = F * 4, WINDOW = T * F * 4, REST = (T - 1) * F * 4 };
    static const struct {
        const char *what;
        uint32_t kind;
        whose session;
        uint32_t bytes, count; /* count: that is said to count, 0: all bytes */
        float last;
        oc_reply_state want;
    } cases[] = {
        {"a window of a row less", OC_REQUEST_WINDOW, NONE, REST, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a window and a number", OC_REQUEST_WINDOW, NONE, WINDOW + 4, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a window of f64", OC_REQUEST_WINDOW, NONE, 2 * WINDOW, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a window of nothing", OC_REQUEST_WINDOW, NONE, 0, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a window that counts past its record", OC_REQUEST_WINDOW, NONE, ROW, WINDOW, 0, OC_REPLY_REFUSED_SHAPE},
        {"a window with NaN", OC_REQUEST_WINDOW, NONE, WINDOW, 0, NAN, OC_REPLY_REFUSED_VALUE},
        {"a window with -infinity", OC_REQUEST_WINDOW, MINE, WINDOW, 0, -HUGE_VALF, OC_REPLY_REFUSED_VALUE},
        {"a window of another's session", OC_REQUEST_WINDOW, OTHERS, WINDOW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a window of a session that ended", OC_REQUEST_WINDOW, ENDED, WINDOW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a row of a number more", OC_REQUEST_PUSH, MINE, ROW + 4, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a row of half its bytes", OC_REQUEST_PUSH, MINE, ROW / 2, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a row that counts past its record", OC_REQUEST_PUSH, MINE, ROW, UINT32_MAX, 0, OC_REPLY_REFUSED_SHAPE},
        {"a row with infinity", OC_REQUEST_PUSH, MINE, ROW, 0, HUGE_VALF, OC_REPLY_REFUSED_VALUE},
        {"a row of no session", OC_REQUEST_PUSH, NONE, ROW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a row of another's session", OC_REQUEST_PUSH, OTHERS, ROW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a row of a session that ended", OC_REQUEST_PUSH, ENDED, ROW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a row of a session of windows", OC_REQUEST_PUSH, WINDOWS_ONLY, ROW, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a history of a whole window", OC_REQUEST_HISTORY, MINE, WINDOW, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a history of a row and a half", OC_REQUEST_HISTORY, MINE, ROW + 8, 0, 0, OC_REPLY_REFUSED_SHAPE},
        {"a history with NaN", OC_REQUEST_HISTORY, MINE, REST, 0, NAN, OC_REPLY_REFUSED_VALUE},
        {"a history of another's session", OC_REQUEST_HISTORY, OTHERS, REST, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"the end of another's session", OC_REQUEST_CLOSE, OTHERS, 0, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"the end of what ended", OC_REQUEST_CLOSE, ENDED, 0, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"no such kind", 0, NONE, ROW, 0, 0, OC_REPLY_REFUSED_KIND},
        {"no such kind", OC_BATCHER_KINDS, MINE, ROW, 0, 0, OC_REPLY_REFUSED_KIND},
        {"no such kind", UINT32_MAX, NONE, ROW, 0, 0, OC_REPLY_REFUSED_KIND},
        {"the end of a stream that is none", OC_REQUEST_STREAM_CLOSE, MINE, 0, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"events of a stream that is none", OC_REQUEST_TICK, MINE, 88, 0, 0, OC_REPLY_REFUSED_SESSION},
        {"a stream where none may be", OC_REQUEST_STREAM_OPEN, NONE, 192, 0, 0, OC_REPLY_REFUSED_FULL},
    };
    rig *r = *state;
    uint32_t ids[SESSIONS] = {0, rig_session(r, 0), rig_session(r, 1), rig_session(r, 0), rig_session(r, 0)};
    r->batcher.sessions[3].period_ns = 0; /* as of one that was opened so */
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = ids[ENDED]}, NULL, 0);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float payload[2 * T * F] = {0};
        oc_wire_request q = {.kind = cases[i].kind,
                             .session = ids[cases[i].session],
                             .sequence = i + 1,
                             .run_length = T,
                             .bytes = (uint32_t)oc_ring_record_bytes(cases[i].bytes),
                             .count = cases[i].count ? cases[i].count : cases[i].bytes};
        if (cases[i].bytes > 0) payload[cases[i].bytes / 4 - 1] = cases[i].last;
        assert_int_equal(oc_ring_put(&r->requests[0], &q, sizeof q, payload, cases[i].bytes), OC_RING_DONE);
        refused(r, cases[i].what, &q, cases[i].want);
    }
    assert_int_equal(r->batcher.stats.broken, 0);
    neighbour_answers(r);
}

static void refused_openings(void **state)
{
    enum { SCHEMA = 1, MODEL, MODEL_END, SYMBOL_END, PERIOD, OFTEN, SHORT, STOPPING };
    static const struct {
        const char *what;
        int wrong;
        oc_reply_state want;
    } cases[] = {
        {"another feature schema", SCHEMA, OC_REPLY_REFUSED_SCHEMA},
        {"another model", MODEL, OC_REPLY_REFUSED_MODEL},
        {"a model's name without an end", MODEL_END, OC_REPLY_REFUSED_MODEL},
        {"a symbol without an end", SYMBOL_END, OC_REPLY_REFUSED_SHAPE},
        {"a period below 0", PERIOD, OC_REPLY_REFUSED_SHAPE},
        {"rows more often than there is time", OFTEN, OC_REPLY_REFUSED_BUDGET},
        {"a part of an opening", SHORT, OC_REPLY_REFUSED_SHAPE},
        {"a server that stops", STOPPING, OC_REPLY_REFUSED_DRAINING},
    };
    rig *r = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int wrong = cases[i].wrong;
        oc_wire_open open = {
            .schema_low = r->bundle->schema.low, .schema_high = r->bundle->schema.high, .period_ns = OC_SECOND_NS};
        snprintf(open.model, sizeof open.model, "%s", r->bundle->name);
        if (wrong == SCHEMA) open.schema_high ^= 1;
        if (wrong == MODEL) open.model[0]++;
        if (wrong == MODEL_END) memset(open.model, 'x', sizeof open.model);
        if (wrong == SYMBOL_END) memset(open.symbol, 'x', sizeof open.symbol);
        if (wrong == PERIOD) open.period_ns = -1;
        if (wrong == OFTEN) open.period_ns = 1;
        __atomic_store_n(&r->batcher.stop, wrong == STOPPING, __ATOMIC_RELEASE);
        const oc_wire_request q = {.kind = OC_REQUEST_OPEN, .sequence = i + 1};
        rig_send(r, 0, q, &open, sizeof open - (wrong == SHORT ? 8 : 0));
        refused(r, cases[i].what, &q, cases[i].want);
    }
    assert_true(r->batcher.stats.sessions == 0 && r->batcher.stats.load_ppb == 0);
    neighbour_answers(r);
}

/* A row that came too late is in the window, and its own answer is HOLD; so is one in a stale window. */
static void stale(void **state)
{
    rig *r = *state;
    const uint32_t session = rig_session(r, 0);
    float rows[(T + 2) * F], want[RIG_OUTPUTS];
    rig_rows(rows, 1, 0, T + 2);
    for (uint64_t i = 0; i < T + 2; i++) {
        const oc_wire_request q = {.kind = OC_REQUEST_PUSH,
                                   .session = session,
                                   .sequence = i + 1,
                                   .run_length = (uint32_t)i + 1,
                                   .deadline_ns = i == T ? 1 : oc_clock_monotonic_ns() + OC_SECOND_NS * 60};
        rig_send(r, 0, q, rows + i * F, F * sizeof *rows);
        const oc_wire_reply reply = rig_await(r, 0);
        assert_int_equal(reply.state, i + 1 < T ? OC_REPLY_HOLD_SHORT : i == T ? OC_REPLY_LATE : OC_REPLY_OK);
        if (i == T) assert_true(reply.probabilities[0][0] == 0 && reply.probabilities[0][2] == 1);
        if (i != T + 1) continue;
        rig_oracle(r, 1, i, want);
        assert_memory_equal(want, reply.probabilities, sizeof want);
    }
    assert_int_equal(r->batcher.stats.replies[OC_REQUEST_PUSH][OC_REPLY_LATE], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(broken_records, setup, teardown),
        cmocka_unit_test_setup_teardown(large_record, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_heads, setup, teardown),
        cmocka_unit_test_setup_teardown(changed_while_read, setup, teardown),
        cmocka_unit_test_setup_teardown(writes_at_random, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(stale, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(refused_openings, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
