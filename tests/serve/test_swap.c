/* test_swap.c - two versions in one batcher. What it would catch: an answer that mixes versions or names the wrong one,
 * a request that a swap or a refused version loses or doubles, a session that moves before the other slot has its rows,
 * a swap that never comes under load, a difference report that does not count what was answered. Oracle of answers: the
 * whole window in the model of the version that the reply names, compared bit by bit; versions differ in weights and in
 * width. */
#include <stdio.h>
#include "serve/rig.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { T = RIG_T, F = RIG_F, VERSIONS = 4, OUTSTANDING = 8 };

typedef struct stage {
    rig r;
    oc_bundle *bundles[VERSIONS + 1]; /* by generation, from 1 */
    oc_model *models[VERSIONS + 1];
    oc_version versions[VERSIONS + 1];
    oc_ensemble ensembles[VERSIONS + 1];
} stage;

static const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};

static void version_make(stage *g, int generation, int hidden, uint64_t seed)
{
    const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, hidden, 2, 2};
    assert_int_equal(sample_bundle(&g->bundles[generation], &shape, 3.0f, 4.0, seed), OC_OK);
    snprintf(g->bundles[generation]->version, sizeof g->bundles[generation]->version, "v%d", generation);
    assert_int_equal(oc_model_open(&g->models[generation], g->bundles[generation], &cpu, 1), OC_OK);
    oc_version_of_bundle(&g->versions[generation], &g->ensembles[generation], g->bundles[generation]);
    g->versions[generation].generation = (uint32_t)generation;
}

static int setup(void **state)
{
    static stage g;
    memset(&g, 0, sizeof g);
    rig_open(&g.r); /* generation 1: seed 5 */
    g.models[1] = g.r.model;
    version_make(&g, 2, 16, 6);
    version_make(&g, 3, 24, 7);
    version_make(&g, 4, 16, 5); /* the same weights as 1 */
    *state = &g;
    return 0;
}

static int teardown(void **state)
{
    stage *g = *state;
    rig_close(&g->r);
    for (int i = 2; i <= VERSIONS; i++) {
        oc_model_close(g->models[i]);
        oc_bundle_close(g->bundles[i]);
    }
    return 0;
}

/* What the loader does: a version into the other slot. The rounds that it takes are the caller's. */
static void offer(stage *g, oc_slot *box, int generation)
{
    const oc_slot_config config = {7, RIG_SESSIONS, 32 << 20, cpu, false};
    assert_int_equal(oc_slot_open(box, &g->versions[generation], &config), OC_OK);
    __atomic_store_n(&g->r.batcher.offer, box, __ATOMIC_RELEASE);
}

static bool offered(stage *g, oc_slot *box)
{
    if (__atomic_load_n(&g->r.batcher.offer, __ATOMIC_ACQUIRE)) return false;
    oc_slot_close(box);
    return true;
}

static void load(stage *g, int generation)
{
    oc_slot box;
    offer(g, &box, generation);
    for (int i = 0; !offered(g, &box); i++) {
        if (i > 1000) fail_msg("version %d is not taken", generation);
        (void)oc_batcher_round(&g->r.batcher);
    }
}

static void order(stage *g, uint32_t generation, bool follow, uint32_t canary)
{
    __atomic_store_n(&g->r.batcher.order, OC_ORDER_MAKE(generation, follow, canary), __ATOMIC_RELEASE);
}

/* Rounds until nothing is to be done. */
static void settle(stage *g)
{
    int rounds = 0;
    while (oc_batcher_round(&g->r.batcher)) assert_true(++rounds < 100000);
}

static void wanted(const stage *g, uint32_t generation, uint64_t session, uint64_t last, float *probabilities)
{
    float window[T * F];
    rig_rows(window, session, last + 1 - T, T);
    assert_true(generation >= 1 && generation <= VERSIONS);
    assert_int_equal(oc_model_predict(g->models[generation], window, 1, probabilities, RIG_OUTPUTS), OC_OK);
}

typedef struct feed { /* one session's rows; a sequence number says what was asked */
    uint32_t id;
    int channel;
    uint64_t next, run, sequence, answered;
    struct {
        uint64_t row, run;
        uint32_t kind;
    } asked[OUTSTANDING];
} feed;

static uint64_t draw_state;
static uint64_t draw(uint64_t below)
{
    return oc_random_philox(oc_random_key(23, OC_RANDOM_TEST, 1, 0), draw_state++) % below;
}

static void feed_row(stage *g, feed *f, uint64_t key)
{
    float row[F];
    const uint64_t chance = draw(200);
    f->run = chance == 0 ? 0 : chance == 1 ? 1 : f->run + 1; /* not valid; a row is missing before it */
    rig_row(row, key, f->next);
    const oc_wire_request q = {.kind = OC_REQUEST_PUSH,
                               .session = f->id,
                               .sequence = ++f->sequence << 8 | key,
                               .run_length = (uint32_t)f->run};
    f->asked[f->sequence % OUTSTANDING].row = f->next++;
    f->asked[f->sequence % OUTSTANDING].run = f->run;
    f->asked[f->sequence % OUTSTANDING].kind = OC_REQUEST_PUSH;
    rig_send(&g->r, f->channel, q, row, sizeof row);
}

static void feed_window(stage *g, feed *f, uint64_t key)
{
    float window[T * F];
    rig_rows(window, key, f->next - T, T);
    const oc_wire_request q = {.kind = OC_REQUEST_WINDOW, .session = f->id, .sequence = ++f->sequence << 8 | key};
    f->asked[f->sequence % OUTSTANDING].row = f->next - 1;
    f->asked[f->sequence % OUTSTANDING].kind = OC_REQUEST_WINDOW;
    rig_send(&g->r, f->channel, q, window, sizeof window);
}

/* Every request is answered once, in order of its kind, by one version, whose bits these are. */
static size_t feed_reply(stage *g, feed *feeds, const oc_wire_reply *reply, size_t by[VERSIONS + 1])
{
    float want[RIG_OUTPUTS];
    char text[16];
    const uint64_t key = reply->sequence & 255;
    feed *f = &feeds[key];
    const size_t at = (reply->sequence >> 8) % OUTSTANDING;
    assert_true(key < RIG_SESSIONS && f->asked[at].kind == reply->kind && reply->session == f->id);
    f->asked[at].kind = 0; /* a second answer to it would be seen */
    f->answered++;
    if (reply->kind == OC_REQUEST_PUSH && f->asked[at].run < T) {
        assert_int_equal(reply->state, f->asked[at].run == 0 ? OC_REPLY_HOLD_GAP : OC_REPLY_HOLD_SHORT);
        return 1;
    }
    assert_int_equal(reply->state, OC_REPLY_OK);
    wanted(g, reply->model_version, key, f->asked[at].row, want);
    assert_memory_equal(want, reply->probabilities, sizeof want);
    snprintf(text, sizeof text, reply->model_version == 1 ? "1" : "v%u", reply->model_version);
    assert_string_equal(text, reply->version_text);
    by[reply->model_version]++;
    return 1;
}

/* Requests of four sessions until each has `rows` more, `burst` at most on their way; swaps go on meanwhile: version,
 * canary and shadow change at random. A session is not idle for one round unless the test says so. */
static void traffic(void **state)
{
    stage *g = *state;
    feed feeds[RIG_SESSIONS] = {{0}};
    size_t by[VERSIONS + 1] = {0}, sent = 0, got = 0, swaps = 0;
    oc_slot box;
    uint32_t live = 1, next = 0;
    const size_t total = getenv("OUTCRY_FULL") ? 400000 : 40000;
    for (int i = 0; i < RIG_SESSIONS; i++) {
        feeds[i].channel = i % RIG_CHANNELS;
        feeds[i].id = rig_session(&g->r, feeds[i].channel);
    }
    for (size_t round = 0; got < total; round++) {
        for (uint64_t n = draw(4); n > 0 && sent < total; n--) {
            const uint64_t key = draw(RIG_SESSIONS);
            feed *f = &feeds[key];
            if (f->sequence - f->answered >= OUTSTANDING / 2) continue;
            if (f->next >= T && draw(4) == 0)
                feed_window(g, f, key);
            else
                feed_row(g, f, key);
            sent++;
        }
        (void)oc_batcher_round(&g->r.batcher);
        oc_wire_reply reply;
        for (int c = 0; c < RIG_CHANNELS; c++)
            while (rig_poll(&g->r, c, &reply)) got += feed_reply(g, feeds, &reply, by);
        if (next == 0 && draw(100) == 0) { /* load another one */
            next = 1 + (live + (uint32_t)draw(VERSIONS - 1)) % VERSIONS;
            if (next == 1) { /* its version is in the rig, not among ours */
                g->versions[1] = g->r.version;
            }
            order(g, live, false, 0);
            offer(g, &box, (int)next);
        } else if (next != 0 && g->r.batcher.offer == NULL && draw(60) == 0) {
            const uint64_t what = draw(4);
            if (box.version) oc_slot_close(&box);
            order(g, what == 3 ? next : live, what > 0, what == 2 ? 32768 : 0);
            if (what == 3) {
                for (int i = 0; g->r.batcher.live_generation != next; i++) { /* it comes under load */
                    const uint64_t key = draw(RIG_SESSIONS);
                    if (i > 10000) fail_msg("the swap to %u does not come", next);
                    if (feeds[key].sequence - feeds[key].answered < OUTSTANDING / 2)
                        sent++, feed_row(g, &feeds[key], key);
                    (void)oc_batcher_round(&g->r.batcher);
                    for (int c = 0; c < RIG_CHANNELS; c++)
                        while (rig_poll(&g->r, c, &reply)) got += feed_reply(g, feeds, &reply, by);
                }
                live = next;
                next = 0;
                swaps++;
            }
        }
    }
    if (next != 0 && g->r.batcher.offer == NULL && box.version) oc_slot_close(&box);
    settle(g);
    if (g->r.batcher.offer) fail_msg("an offer is left");
    assert_int_equal(got, sent);
    print_message("%zu requests, %zu swaps; answers by version: %zu %zu %zu %zu, rows begun anew %llu\n", got, swaps,
                  by[1], by[2], by[3], by[4], (unsigned long long)g->r.batcher.stats.restarts);
    assert_true(swaps >= total / 2000);
    for (int i = 1; i <= VERSIONS; i++) assert_true(by[i] > total / 50);
    assert_true(g->r.batcher.stats.moves > swaps);
}

static oc_wire_reply push_to(stage *g, uint32_t version, uint32_t session, uint64_t key, uint64_t row)
{
    float numbers[F];
    rig_row(numbers, key, row);
    const oc_wire_request q = {.kind = OC_REQUEST_PUSH,
                               .session = session,
                               .sequence = row + 1,
                               .run_length = (uint32_t)row + 1,
                               .model_version = version};
    rig_send(&g->r, 0, q, numbers, sizeof numbers);
    return rig_await(&g->r, 0);
}

static oc_wire_reply push(stage *g, uint32_t session, uint64_t key, uint64_t row)
{
    return push_to(g, 0, session, key, row);
}

/* The report is what the two models answer to the rows that were pushed; the same weights differ in nothing. */
static void shadow(void **state)
{
    stage *g = *state;
    const oc_batcher_stats *t = &g->r.batcher.stats;
    const uint32_t session = rig_session(&g->r, 0);
    uint64_t row = 0;
    for (; row < 3 * T; row++) assert_int_equal(push(g, session, 0, row).model_version, 1);
    for (int generation = 2; generation <= VERSIONS; generation++) {
        double most = 0, sum = 0;
        uint64_t other = 0;
        load(g, generation);
        order(g, 1, true, 0);
        settle(g);
        assert_int_equal(t->compared, 0); /* filled from kept rows: T - 1 of them make no window */
        for (const uint64_t end = row + 50; row < end; row++) {
            float a[RIG_OUTPUTS], b[RIG_OUTPUTS];
            double difference = 0;
            bool differs = false;
            assert_int_equal(push(g, session, 0, row).model_version, 1);
            if (row % 3) settle(g); /* it may lag, up to T rows */
            wanted(g, 1, 0, row, a);
            wanted(g, (uint32_t)generation, 0, row, b);
            for (int h = 0; h < 2; h++) {
                int one = 0, two = 0;
                for (int k = 0; k < 3; k++) {
                    difference = fmax(difference, fabs((double)a[3 * h + k] - (double)b[3 * h + k]));
                    if (a[3 * h + k] > a[3 * h + one]) one = k;
                    if (b[3 * h + k] > b[3 * h + two]) two = k;
                }
                differs |= one != two;
            }
            most = fmax(most, difference);
            sum += difference;
            other += differs;
        }
        settle(g);
        assert_int_equal(t->compared, 50);
        assert_int_equal(t->decided_other, other);
        assert_true(fabs(1e-9 * (double)t->difference_ppb - sum) <= 50e-9);
        assert_true(fabs(1e-9 * (double)t->difference_max_ppb - most) <= 1e-9);
        assert_true(generation == VERSIONS ? most == 0 && other == 0 : most > 0.01 && other > 0);
    }
}

/* Where nobody pushes, windows are compared. */
static void shadow_of_windows(void **state)
{
    stage *g = *state;
    const oc_batcher_stats *t = &g->r.batcher.stats;
    float window[T * F], a[RIG_OUTPUTS], b[RIG_OUTPUTS];
    double sum = 0;
    load(g, 2);
    order(g, 1, true, 0);
    for (uint64_t i = 0; i < 30; i++) {
        double most = 0;
        rig_rows(window, 1, i, T);
        rig_send(&g->r, 0, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = i}, window, sizeof window);
        assert_int_equal(rig_await(&g->r, 0).model_version, 1);
        settle(g);
        wanted(g, 1, 1, i + T - 1, a);
        wanted(g, 2, 1, i + T - 1, b);
        for (int k = 0; k < RIG_OUTPUTS; k++) most = fmax(most, fabs((double)a[k] - (double)b[k]));
        sum += most;
    }
    assert_int_equal(t->compared, 30);
    assert_true(fabs(1e-9 * (double)t->difference_ppb - sum) <= 30e-9);
    (void)rig_session(&g->r, 0);
    rig_send(&g->r, 0, (oc_wire_request){.kind = OC_REQUEST_WINDOW, .sequence = 99}, window, sizeof window);
    (void)rig_await(&g->r, 0);
    settle(g);
    assert_int_equal(t->compared, 30); /* now somebody may push */
}

/* A client that hands histories in one after the other, so that there is always one on its way in, holds no swap up. */
static void under_histories(void **state)
{
    stage *g = *state;
    const uint32_t session = rig_session(&g->r, 0);
    float rows[T * F];
    oc_wire_reply reply;
    uint64_t sequence = 0, answered = 0;
    rig_rows(rows, 0, 0, T);
    load(g, 2);
    for (int round = 0; g->r.batcher.live_generation != 2; round++) {
        const oc_wire_request q = {
            .kind = OC_REQUEST_HISTORY, .session = session, .sequence = sequence + 1, .run_length = T - 1};
        if (sequence - answered < 4) rig_send(&g->r, 0, q, rows, (T - 1) * F * sizeof *rows);
        sequence += sequence - answered < 4;
        (void)oc_batcher_round(&g->r.batcher);
        while (rig_poll(&g->r, 0, &reply)) answered += reply.state == OC_REPLY_OK;
        if (round == 3 * T) order(g, 2, false, 0);
        if (round > 20 * T) fail_msg("the swap does not come");
    }
    while (answered < sequence) {
        (void)oc_batcher_round(&g->r.batcher);
        while (rig_poll(&g->r, 0, &reply)) answered++;
    }
    float want[RIG_OUTPUTS];
    const oc_wire_request q = {.kind = OC_REQUEST_PUSH, .session = session, .sequence = sequence + 1, .run_length = T};
    rig_send(&g->r, 0, q, rows + (T - 1) * F, F * sizeof *rows);
    reply = rig_await(&g->r, 0);
    wanted(g, 2, 0, T - 1, want);
    assert_true(reply.state == OC_REPLY_OK && reply.model_version == 2);
    assert_memory_equal(want, reply.probabilities, sizeof want);
}

/* Never an idle round: each has a new row for each session, and yet the session moves within T rounds and a few. */
static void under_load(void **state)
{
    stage *g = *state;
    uint32_t sessions[RIG_SESSIONS];
    float row[F], want[RIG_OUTPUTS];
    uint64_t rows = 0;
    int rounds = 0;
    for (int i = 0; i < RIG_SESSIONS; i++) sessions[i] = rig_session(&g->r, 0);
    load(g, 2);
    for (bool ordered = false; g->r.batcher.live_generation != 2; rows++) {
        for (uint64_t i = 0; i < RIG_SESSIONS; i++) {
            const oc_wire_request q = {.kind = OC_REQUEST_PUSH,
                                       .session = sessions[i],
                                       .sequence = rows + 1,
                                       .run_length = (uint32_t)rows + 1};
            rig_row(row, i, rows);
            rig_send(&g->r, 0, q, row, sizeof row);
        }
        if (rows > 5 * T) {
            if (!ordered) order(g, 2, false, 0);
            ordered = true;
            rounds++;
        }
        (void)oc_batcher_round(&g->r.batcher);
        oc_wire_reply reply;
        for (uint64_t i = 0; i < RIG_SESSIONS; i++) {
            assert_true(rig_poll(&g->r, 0, &reply) && reply.sequence == rows + 1); /* in the round, swap or not */
            if (rows + 1 < T) continue;
            wanted(g, reply.model_version, i, rows, want);
            assert_memory_equal(want, reply.probabilities, sizeof want);
        }
        assert_true(rounds < RIG_SESSIONS * (T + 4));
    }
    assert_true(rounds > RIG_SESSIONS);
}

/* A session that is to move, and has no row itself, holds nobody up by more than a row and a piece a round. */
static void moves_in_pieces(void **state)
{
    stage *g = *state;
    const uint32_t mine = rig_session(&g->r, 0), other = rig_session(&g->r, 1);
    const oc_session *moving = &g->r.batcher.sessions[0];
    float row[F];
    uint64_t rows = 0, rounds = 0;
    for (; rows < 3 * T; rows++) (void)push(g, mine, 0, rows);
    load(g, 2);
    order(g, 2, false, 0);
    for (const uint8_t before = moving->slot; moving->slot == before; rounds++) {
        const uint64_t followed = g->r.batcher.stats.followed;
        const oc_wire_request q = {
            .kind = OC_REQUEST_PUSH, .session = other, .sequence = rounds + 1, .run_length = (uint32_t)rounds + 1};
        oc_wire_reply reply;
        rig_row(row, 1, rounds);
        rig_send(&g->r, 1, q, row, sizeof row);
        assert_true(oc_batcher_round(&g->r.batcher));
        assert_true(rig_poll(&g->r, 1, &reply) && reply.sequence == rounds + 1);
        assert_true(g->r.batcher.stats.followed - followed <= 1 && rounds < 10 * T);
    }
    assert_true(rounds >= (T - 1) * (1 + RIG_PIECES) / 2); /* T - 1 rows in pieces, two of either a round */
    assert_int_equal(push(g, mine, 0, rows).model_version, 2);
}

/* A share of the symbols, the same ones each time; the rest stays; without the share all are back. */
static void canary(void **state)
{
    stage *g = *state;
    uint32_t sessions[RIG_SESSIONS];
    size_t moved = 0;
    for (int i = 0; i < RIG_SESSIONS; i++) {
        oc_wire_open open = {
            .schema_low = g->r.bundle->schema.low, .schema_high = g->r.bundle->schema.high, .period_ns = OC_SECOND_NS};
        snprintf(open.model, sizeof open.model, "%s", g->r.bundle->name);
        snprintf(open.symbol, sizeof open.symbol, "SYM%d", i);
        rig_send(&g->r, 0, (oc_wire_request){.kind = OC_REQUEST_OPEN}, &open, sizeof open);
        sessions[i] = rig_await(&g->r, 0).session;
    }
    load(g, 3);
    uint32_t keys[RIG_SESSIONS], middle = 0;
    for (int i = 0; i < RIG_SESSIONS; i++) keys[i] = g->r.batcher.sessions[i].canary;
    for (int i = 0; i < RIG_SESSIONS; i++) middle += keys[i] / RIG_SESSIONS;
    for (uint64_t row = 0; row < 60; row++) {
        if (row == 20) order(g, 1, false, middle);
        if (row == 40) order(g, 1, false, 0);
        if (row % 20 == 0) settle(g);
        for (int i = 0; i < RIG_SESSIONS; i++) {
            const uint32_t by = push(g, sessions[i], (uint64_t)i, row).model_version;
            const bool there = row >= 20 && row < 40 && keys[i] < middle;
            assert_int_equal(by, there ? 3 : 1);
            moved += there;
        }
    }
    assert_true(moved >= 20 && moved <= 60);
}

static oc_wire_reply window_to(stage *g, uint32_t version, uint32_t session, uint64_t key, uint64_t last)
{
    float window[T * F];
    rig_rows(window, key, last + 1 - T, T);
    const oc_wire_request q = {
        .kind = OC_REQUEST_WINDOW, .session = session, .sequence = last, .model_version = version};
    rig_send(&g->r, 0, q, window, sizeof window);
    return rig_await(&g->r, 0);
}

static oc_wire_reply window_of(stage *g, uint64_t key, uint64_t last)
{
    return window_to(g, 0, 0, key, last);
}

static bool holds(const oc_wire_reply *reply)
{
    for (int h = 0; h < 2; h++)
        for (int k = 0; k < 3; k++)
            if (reply->probabilities[h][k] != (k == 2 ? 1 : 0)) return false;
    return true;
}

static void refused_by(const oc_wire_reply *reply, uint32_t version)
{
    assert_int_equal(reply->state, OC_REPLY_REFUSED_VERSION);
    assert_int_equal(reply->model_version, version); /* that would have answered */
    assert_true(holds(reply) && oc_reply_refused(reply->state));
}

static void answered_by(const stage *g, const oc_wire_reply *reply, uint32_t version, uint64_t key, uint64_t last)
{
    float want[RIG_OUTPUTS];
    wanted(g, version, key, last, want);
    assert_int_equal(reply->state, OC_REPLY_OK);
    assert_int_equal(reply->model_version, version);
    assert_memory_equal(want, reply->probabilities, sizeof want);
}

/* The next row to a version that does not answer: refused; then the same row, as it was never sent, to the one that
 * does, or to any. */
static void row_again(stage *g, uint32_t not, uint32_t by, uint32_t named, uint32_t session, uint64_t row)
{
    const oc_wire_reply refused = push_to(g, not, session, 0, row), taken = push_to(g, named, session, 0, row);
    refused_by(&refused, by);
    answered_by(g, &taken, by, 0, row);
}

static oc_wire_reply history_to(stage *g, uint32_t version, uint32_t session, uint64_t last)
{
    float rows[(T - 1) * F];
    rig_rows(rows, 0, last + 2 - T, T - 1);
    const oc_wire_request q = {.kind = OC_REQUEST_HISTORY,
                               .session = session,
                               .sequence = last + 1,
                               .run_length = (uint32_t)last + 1,
                               .model_version = version};
    rig_send(&g->r, 0, q, rows, sizeof rows);
    return rig_await(&g->r, 0);
}

/* A request that names its version is refused by any other, before it changes anything: the session is another's as a
 * canary, back again, and behind a swap; so are rows that are not finite, stored rows, and windows. */
static void named(void **state)
{
    stage *g = *state;
    const oc_batcher_stats *t = &g->r.batcher.stats;
    const uint32_t session = rig_session(&g->r, 0);
    const float infinite[F] = {INFINITY};
    oc_wire_reply reply;
    uint64_t row = 0;
    for (; row < 2 * T; row++) assert_int_equal(push_to(g, 1, session, 0, row).model_version, 1);
    load(g, 2);
    order(g, 1, false, 65536);
    settle(g);
    row_again(g, 1, 2, 0, session, row++);
    row_again(g, 1, 2, 2, session, row++);
    row_again(g, 77, 2, 2, session, row++); /* that never was */
    const oc_wire_request q = {
        .kind = OC_REQUEST_PUSH, .session = session, .sequence = row + 1, .run_length = 1, .model_version = 1};
    rig_send(&g->r, 0, q, infinite, sizeof infinite);
    reply = rig_await(&g->r, 0);
    refused_by(&reply, 2);
    reply = history_to(g, 1, session, row);
    refused_by(&reply, 2);
    reply = push_to(g, 2, session, 0, row);
    answered_by(g, &reply, 2, 0, row++);
    reply = history_to(g, 2, session, row);
    assert_true(reply.state == OC_REPLY_OK && reply.model_version == 2);
    row++;
    row_again(g, 1, 2, 2, session, row++);
    reply = window_to(g, 1, session, 1, row);
    refused_by(&reply, 2);
    reply = window_to(g, 2, session, 1, row);
    answered_by(g, &reply, 2, 1, row);
    reply = window_to(g, 2, 0, 1, row); /* of no session: the live one's */
    refused_by(&reply, 1);
    reply = window_to(g, 1, 0, 1, row);
    answered_by(g, &reply, 1, 1, row);
    order(g, 1, false, 0);
    settle(g);
    row_again(g, 2, 1, 1, session, row++);
    order(g, 2, false, 0);
    settle(g);
    row_again(g, 1, 2, 0, session, row++);
    reply = window_to(g, 1, 0, 1, row);
    refused_by(&reply, 2);
    assert_true(t->duplicates == 0 && t->stale == 0 && t->gaps == 0);
    assert_int_equal(t->replies[OC_REQUEST_PUSH][OC_REPLY_REFUSED_VERSION], 7);
    assert_int_equal(t->replies[OC_REQUEST_HISTORY][OC_REPLY_REFUSED_VERSION], 1);
    assert_int_equal(t->replies[OC_REQUEST_WINDOW][OC_REPLY_REFUSED_VERSION], 3);
}

/* Rows go on through a swap, each to the version that answered the last one: one is refused, and sent again. */
static void named_through_a_swap(void **state)
{
    stage *g = *state;
    const uint32_t session = rig_session(&g->r, 0);
    uint32_t by = 1;
    load(g, 2);
    for (uint64_t row = 0; row < 6 * T; row++) {
        if (row == 2 * T) order(g, 2, false, 0);
        oc_wire_reply reply = push_to(g, by, session, 0, row);
        if (reply.state == OC_REPLY_REFUSED_VERSION) {
            assert_int_equal(by, 1);
            by = reply.model_version;
            reply = push_to(g, by, session, 0, row);
        }
        if (row + 1 < T)
            assert_int_equal(reply.state, OC_REPLY_HOLD_SHORT);
        else
            answered_by(g, &reply, by, 0, row);
    }
    assert_int_equal(by, 2);
    assert_int_equal(g->r.batcher.stats.replies[OC_REQUEST_PUSH][OC_REPLY_REFUSED_VERSION], 1);
}

/* The head's last weights and biases are finite, their sums are not. */
static void overflow(oc_bundle *b)
{
    oc_parameters p;
    oc_parameters_describe(&p, &b->shape);
    for (size_t i = 0; i < p.count; i++)
        for (size_t k = 0; strncmp(p.row[i].name, "head.3", 6) == 0 && k < p.row[i].count; k++)
            b->flat[p.row[i].first + k] = FLT_MAX;
}

/* A version whose answers are NaN, as weights that overflow make them: nothing of it is told as a probability, by any
 * way; as a shadow it differs in everything; and the version before it answers from windows that it did not touch. */
static void no_probabilities(void **state)
{
    stage *g = *state;
    const oc_batcher_stats *t = &g->r.batcher.stats;
    const uint32_t session = rig_session(&g->r, 0);
    float want[RIG_OUTPUTS];
    uint64_t row = 0;
    overflow(g->bundles[2]);
    for (; row < 2 * T; row++) assert_int_equal(push(g, session, 0, row).model_version, 1);
    load(g, 2);
    order(g, 1, true, 0);
    settle(g);
    for (; row < 3 * T; row++) {
        assert_int_equal(push(g, session, 0, row).state, OC_REPLY_OK);
        settle(g);
    }
    assert_true(t->compared == T && t->decided_other == T && t->difference_max_ppb == 1000000000);
    order(g, 2, false, 0);
    settle(g);
    for (; row < 4 * T; row++) {
        const oc_wire_reply pushed = push(g, session, 0, row), whole = window_of(g, 0, row);
        assert_true(pushed.model_version == 2 && pushed.state == OC_REPLY_FAILED && holds(&pushed));
        assert_true(whole.model_version == 2 && whole.state == OC_REPLY_FAILED && holds(&whole));
        settle(g);
    }
    assert_int_equal(t->replies[OC_REQUEST_PUSH][OC_REPLY_FAILED], T);
    assert_int_equal(t->replies[OC_REQUEST_WINDOW][OC_REPLY_FAILED], T);
    const oc_seat *seen = &g->r.batcher.observed.seats[0];
    for (int k = 0; k < 3; k++) assert_true(isfinite(seen->answer[0][k]) && seen->generation == 1 && !seen->full);
    assert_int_equal(g->r.batcher.observed.seats[g->r.batcher.observed.seat_count - 1].turn,
                     0); /* no window was seen */
    order(g, 1, false, 0);
    settle(g);
    const oc_wire_reply back = push(g, session, 0, row);
    wanted(g, 1, 0, row, want);
    assert_true(back.state == OC_REPLY_OK && back.model_version == 1);
    assert_memory_equal(want, back.probabilities, sizeof want);

    order(g, 2, false, 0); /* windows alone: its answers are no measure of the other's */
    settle(g);
    rig_send(&g->r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = session}, NULL, 0);
    assert_int_equal(rig_await(&g->r, 0).state, OC_REPLY_OK);
    const uint64_t compared = t->compared;
    assert_int_equal(window_of(g, 0, row).state, OC_REPLY_FAILED);
    settle(g);
    assert_int_equal(t->compared, compared);
}

/* A window-only client during the swap; the comparison finds an answer of the other version. */
static void planted(void **state)
{
    stage *g = *state;
    float one[RIG_OUTPUTS], two[RIG_OUTPUTS];
    wanted(g, 1, 0, 40, one);
    wanted(g, 2, 0, 40, two);
    assert_memory_not_equal(one, two, sizeof one);
    wanted(g, 4, 0, 40, two);
    assert_memory_equal(one, two, sizeof one);
    /* A row that is kept wrongly makes the other version's answer another one. */
    const uint32_t session = rig_session(&g->r, 0);
    uint64_t row = 0;
    for (; row < 2 * T; row++) (void)push(g, session, 0, row);
    settle(g);
    g->r.batcher.kept.rows[(g->r.batcher.sessions[0].rows_next - 3) % T * F] += 0.5f;
    load(g, 2);
    order(g, 2, false, 0);
    settle(g);
    const oc_wire_reply reply = push(g, session, 0, row);
    assert_int_equal(reply.model_version, 2);
    wanted(g, 2, 0, row, two);
    assert_memory_not_equal(two, reply.probabilities, sizeof two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(traffic, setup, teardown),
        cmocka_unit_test_setup_teardown(shadow, setup, teardown),
        cmocka_unit_test_setup_teardown(shadow_of_windows, setup, teardown),
        cmocka_unit_test_setup_teardown(under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(under_histories, setup, teardown),
        cmocka_unit_test_setup_teardown(moves_in_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(canary, setup, teardown),
        cmocka_unit_test_setup_teardown(named, setup, teardown),
        cmocka_unit_test_setup_teardown(named_through_a_swap, setup, teardown),
        cmocka_unit_test_setup_teardown(no_probabilities, setup, teardown),
        cmocka_unit_test_setup_teardown(planted, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
