/* test_history.c - stored rows handed in when a session opens: what it would catch is a bit that differs from the rows
 * having been pushed, a batcher that lets others wait for a whole history, and rows that are believed unchecked. */
#include <stdio.h>
#include "serve/rig.h"
#include <math.h>

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

static void history_send(rig *r, int channel, uint32_t session, uint64_t sequence, const float *rows, size_t count,
                         uint32_t run_length)
{
    const oc_wire_request q = {
        .kind = OC_REQUEST_HISTORY, .session = session, .sequence = sequence, .run_length = run_length};
    rig_send(r, channel, q, rows, count * F * sizeof *rows);
}

static oc_wire_reply push(rig *r, int channel, uint32_t session, uint64_t sequence, const float *row, uint32_t run)
{
    const oc_wire_request q = {.kind = OC_REQUEST_PUSH, .session = session, .sequence = sequence, .run_length = run};
    rig_send(r, channel, q, row, F * sizeof *row);
    return rig_await(r, channel);
}

/* A history of n rows that ends with row 39 of a run, then rows 40, 41, ... pushed: full from the T-th row on, and then
 * with the bits of the whole window. */
static void same_bits(void **state)
{
    rig *r = *state;
    static const size_t counts[] = {0, 1, 2, T - 3, T - 2, T - 1};
    size_t full = 0;
    for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++) {
        const size_t n = counts[k];
        const uint32_t session = rig_session(r, 0);
        float rows[T * F], want[RIG_OUTPUTS];
        rig_rows(rows, k, 40 - n, n);
        history_send(r, 0, session, 39, rows, n, 40);
        const oc_wire_reply taken = rig_await(r, 0);
        assert_int_equal(taken.kind, OC_REQUEST_HISTORY);
        assert_int_equal(taken.state, OC_REPLY_OK);
        assert_true(taken.sequence == 39 && taken.probabilities[0][2] == 1);
        for (uint64_t row = 40; row < 40 + T + 4; row++) {
            rig_row(rows, k, row);
            const oc_wire_reply reply = push(r, 0, session, row, rows, (uint32_t)row + 1);
            const bool is_full = n + (row - 39) >= T;
            assert_int_equal(reply.state, is_full ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT);
            if (!is_full) continue;
            rig_oracle(r, k, row, want);
            assert_memory_equal(want, reply.probabilities, sizeof want);
            full++;
        }
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = session}, NULL, 0);
        assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    }
    assert_true(full > 30);
}

/* A row that does not follow the history begins anew; a history over a session in use replaces what it held. */
static void joins(void **state)
{
    rig *r = *state;
    const uint32_t session = rig_session(r, 0);
    float rows[T * F], want[RIG_OUTPUTS];
    rig_rows(rows, 1, 0, T - 1);
    history_send(r, 0, session, 1, rows, T - 1, T - 1);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    assert_int_equal(push(r, 0, session, 2, rows, T + 1).state, OC_REPLY_HOLD_SHORT); /* a row is missing between */
    rig_rows(rows, 2, 100, T - 1);
    history_send(r, 0, session, 3, rows, T - 1, 500);
    rig_row(rows, 2, 100 + T - 1); /* at once behind it: waits for it */
    const oc_wire_reply taken = rig_await(r, 0), reply = push(r, 0, session, 4, rows, 501);
    assert_true(taken.kind == OC_REQUEST_HISTORY && reply.state == OC_REPLY_OK);
    rig_oracle(r, 2, 100 + T - 1, want);
    assert_memory_equal(want, reply.probabilities, sizeof want);
}

/* Others wait for one row of it and a piece of its advance at most: their window and their row are answered in the
 * round in which they are seen. Requests of the same session stay behind it, in order. */
static void others_go_first(void **state)
{
    rig *r = *state;
    const uint32_t mine = rig_session(r, 0), other = rig_session(r, 1);
    float rows[T * F], window[T * F];
    oc_wire_reply reply;
    rig_rows(rows, 1, 0, T - 1);
    rig_rows(window, 2, 0, T);
    history_send(r, 0, mine, 1, rows, T - 1, T - 1);
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_PUSH, .session = mine, .sequence = 2, .run_length = T}, window,
             F * sizeof *window);
    rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_CLOSE, .session = mine, .sequence = 3}, NULL, 0);
    for (uint64_t i = 1; i < PIECES * (T - 1); i++) {
        const oc_wire_request w = {.kind = OC_REQUEST_WINDOW, .sequence = i},
                              p = {.kind = OC_REQUEST_PUSH, .session = other, .sequence = i, .run_length = (uint32_t)i};
        rig_send(r, 1, w, window, sizeof window);
        rig_send(r, 1, p, window, F * sizeof *window);
        assert_true(oc_batcher_round(&r->batcher));
        for (int k = 0; k < 2; k++) assert_true(rig_poll(r, 1, &reply) && reply.sequence == i);
        assert_int_equal(r->batcher.history.done, (i + PIECES - 1) / PIECES); /* a row, or a piece of it, a round */
        assert_false(rig_poll(r, 0, &reply));
    }
    static const uint32_t order[] = {OC_REQUEST_HISTORY, OC_REQUEST_PUSH, OC_REQUEST_CLOSE};
    for (size_t i = 0; i < 3; i++) {
        reply = rig_await(r, 0);
        assert_true(reply.kind == order[i] && reply.sequence == i + 1 && reply.state == OC_REPLY_OK);
    }
}

static void refusals(void **state)
{
    rig *r = *state;
    const uint32_t session = rig_session(r, 0), foreign = rig_session(r, 1);
    float rows[(T + 1) * F];
    rig_rows(rows, 1, 0, T + 1);
    const struct {
        uint32_t session, run;
        uint64_t sequence;
        size_t count;
        float first;
        oc_reply_state want;
    } cases[] = {
        {session, 20, 5, 3, 1, OC_REPLY_OK},
        {session, 20, 5, 3, 1, OC_REPLY_REFUSED_ORDER},
        {session, 20, 4, 3, 1, OC_REPLY_REFUSED_ORDER},
        {session, 2, 6, 3, 1, OC_REPLY_REFUSED_SHAPE}, /* more rows than the run has */
        {session, 20, 7, T, 1, OC_REPLY_REFUSED_SHAPE},
        {session, 20, 8, 3, NAN, OC_REPLY_REFUSED_VALUE},
        {session, 20, 9, 3, -HUGE_VALF, OC_REPLY_REFUSED_VALUE},
        {foreign, 20, 10, 3, 1, OC_REPLY_REFUSED_SESSION},
        {0, 20, 10, 3, 1, OC_REPLY_REFUSED_SESSION},
        {session, 20, 10, 3, 1, OC_REPLY_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rows[0] = cases[i].first;
        history_send(r, 0, cases[i].session, cases[i].sequence, rows, cases[i].count, cases[i].run);
        const oc_wire_reply reply = rig_await(r, 0);
        if (reply.state != cases[i].want) fail_msg("case %zu: state %u, not %d", i, reply.state, cases[i].want);
        assert_true(reply.probabilities[0][0] == 0 && reply.probabilities[1][2] == 1);
    }
    assert_int_equal(r->batcher.stats.replies[OC_REQUEST_HISTORY][OC_REPLY_REFUSED_VALUE], 2);
    const oc_wire_request odd = {.kind = OC_REQUEST_HISTORY, .session = session, .sequence = 11, .run_length = 20};
    rig_send(r, 0, odd, rows, F * sizeof *rows - 4); /* a part of a row */
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_REFUSED_SHAPE);
}

/* The client goes while its history goes in: its session goes, and the next history is taken. */
static void client_leaves(void **state)
{
    rig *r = *state;
    const uint32_t gone = rig_session(r, 0), session = rig_session(r, 1);
    float rows[T * F];
    rig_rows(rows, 1, 0, T);
    history_send(r, 0, gone, 1, rows, T - 1, T - 1);
    (void)oc_batcher_round(&r->batcher);
    assert_true(r->batcher.history.busy);
    __atomic_store_n(&r->channels[0].state, OC_CHANNEL_LEAVING, __ATOMIC_RELEASE);
    history_send(r, 1, session, 1, rows, T - 1, T - 1);
    assert_int_equal(rig_await(r, 1).state, OC_REPLY_OK);
    assert_int_equal(r->channels[0].state, OC_CHANNEL_LEFT);
    float want[RIG_OUTPUTS];
    const oc_wire_reply reply = push(r, 1, session, 2, rows + (T - 1) * F, T);
    rig_oracle(r, 1, T - 1, want);
    assert_memory_equal(want, reply.probabilities, sizeof want);
}

/* The comparison finds a history in which one row is another. */
static void planted(void **state)
{
    rig *r = *state;
    const uint32_t session = rig_session(r, 0);
    float rows[T * F], want[RIG_OUTPUTS];
    rig_rows(rows, 1, 0, T);
    rows[F * 4] += 0.25f;
    history_send(r, 0, session, 1, rows, T - 1, T - 1);
    assert_int_equal(rig_await(r, 0).state, OC_REPLY_OK);
    const oc_wire_reply reply = push(r, 0, session, 2, rows + (T - 1) * F, T);
    assert_int_equal(reply.state, OC_REPLY_OK);
    rig_oracle(r, 1, T - 1, want);
    assert_memory_not_equal(want, reply.probabilities, sizeof want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(same_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(joins, setup, teardown),
        cmocka_unit_test_setup_teardown(others_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(client_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(planted, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
