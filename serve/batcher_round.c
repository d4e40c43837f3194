/* batcher_round.c - one round: steps of pushed rows, whole windows, a row of a history, and, where nothing else is
 * pending, a piece of an advance. Rows and windows of one slot go together; where both slots answer, runs of the same
 * slot do. */
#include "base/clock.h"
#include "serve/batcher_parts.h"

enum { EXPIRY_ROUNDS = 256 };

/* A piece of a session's advance, or what of it the next row would wait for. */
static void advance(oc_batcher *e, oc_session *s, oc_status (*by)(oc_slot *, uint32_t))
{
    const int64_t start = oc_clock_monotonic_ns();
    oc_slot *slot = &e->slots[s->slot];
    const uint32_t session = (uint32_t)(s - e->sessions);
    if (by(slot, session) != OC_OK) {
        oc_batcher_failure_say(e);
        oc_session_begin_anew(e, s); /* what its windows hold is not known */
    } else if (!oc_slot_due(slot, session)) {
        count(&e->stats.advances, s->due);
        s->due = 0;
    }
    count(&e->stats.advance_ns, (uint64_t)(oc_clock_monotonic_ns() - start));
}

/* A session is in the queue once at most, so there is room. */
static void queue_put(oc_batcher *e, oc_session *s)
{
    if (s->queued) return;
    s->queued = true;
    e->due[(e->due_first + e->due_count) % e->sessions_max] = (uint32_t)(s - e->sessions);
    e->due_count++;
}

void oc_batcher_due(oc_batcher *e, oc_session *s)
{
    s->due++;
    queue_put(e, s);
}

/* The state of an answer of `slot`, to a window that is full or not. */
static oc_reply_state answer_judge(oc_batcher *e, int slot, bool full, const float *answer)
{
    if (!full) return OC_REPLY_HOLD_SHORT;
    if (oc_batcher_probable(e, answer)) return OC_REPLY_OK;
    oc_batcher_improbable_say(e, slot, answer);
    return OC_REPLY_FAILED;
}

static void observe_push(oc_batcher *e, const oc_session *s, const float *row, const float *answer)
{
    oc_observed_push(&e->observed, (size_t)(s - e->sessions), s->symbol, row, answer,
                     e->slots[s->slot].version->generation);
}

/* Rows first ... first + n - 1 of the round, all of one slot. */
static void run_pushes(oc_batcher *e, int first, int n)
{
    const oc_pending *p = e->pushes + first;
    const float *rows = e->push_rows + (size_t)first * (size_t)shape_of(e)->inputs;
    const int64_t start = oc_clock_monotonic_ns();
    for (int i = 0; i < n; i++) {
        if (p[i].session->due > 0) advance(e, p[i].session, oc_slot_hasten);
        e->chosen[i] = (uint32_t)(p[i].session - e->sessions);
    }
    if (oc_slot_step(&e->slots[p->slot], e->chosen, rows, (size_t)n, e->answers, e->answers_cap, e->full) != OC_OK) {
        oc_batcher_failed(e, p, n);
        for (int i = 0; i < n; i++) oc_session_begin_anew(e, p[i].session);
        return;
    }
    for (int i = 0; i < n; i++) {
        const float *answer = e->answers + (size_t)i * output_count(e);
        oc_batcher_due(e, p[i].session);
        const oc_reply_state state = answer_judge(e, p->slot, e->full[i], answer);
        e->full[i] = state == OC_REPLY_OK;
        oc_batcher_answer(e, &p[i], p[i].request.session, state, answer);
        oc_swap_keep(e, p[i].session, rows + (size_t)i * (size_t)shape_of(e)->inputs, e->full[i] ? answer : NULL);
    }
    oc_observed_batch(&e->observed, n, oc_clock_monotonic_ns() - start);
    for (int i = 0; i < n; i++) /* behind all answers */
        observe_push(e, p[i].session, rows + (size_t)i * (size_t)shape_of(e)->inputs,
                     e->full[i] ? e->answers + (size_t)i * output_count(e) : NULL);
}

/* Of the first pending of the list: how many behind it are of its slot, itself among them. */
static int run_length(const oc_pending *list, int n)
{
    int same = 1;
    while (same < n && list[same].slot == list->slot) same++;
    return same;
}

static void answer_pushes(oc_batcher *e)
{
    const int n = e->push_count;
    if (n == 0) return;
    for (int i = 0, run; i < n; i += run) {
        run = run_length(e->pushes + i, n - i);
        run_pushes(e, i, run);
    }
    for (int i = 0; i < n; i++) e->pushes[i].session->taken = false;
    count(&e->stats.batches, 1);
    e->push_count = 0;
}

static void answer_windows(oc_batcher *e)
{
    const int n = e->window_count;
    const int64_t start = oc_clock_monotonic_ns();
    if (n == 0) return;
    for (int i = 0, run; i < n; i += run) {
        const oc_pending *p = e->windows + i;
        const float *rows = e->window_rows + (size_t)i * window_cells(e);
        run = run_length(p, n - i);
        if (oc_slot_predict(&e->slots[p->slot], rows, (size_t)run, e->answers, e->answers_cap) != OC_OK) {
            oc_batcher_failed(e, p, run);
            continue;
        }
        for (int k = 0; k < run; k++) {
            const float *answer = e->answers + (size_t)k * output_count(e);
            const oc_reply_state state = answer_judge(e, p->slot, true, answer);
            e->full[k] = state == OC_REPLY_OK;
            oc_batcher_answer(e, &p[k], p[k].request.session, state, answer);
        }
        if (p->slot == e->live && e->full[0]) oc_swap_sample(e, rows, e->answers);
        for (int k = 0; k < run; k++)
            if (e->full[k])
                oc_observed_window(&e->observed, rows + (size_t)k * window_cells(e),
                                   e->answers + (size_t)k * output_count(e), e->slots[p->slot].version->generation);
    }
    oc_observed_batch(&e->observed, n, oc_clock_monotonic_ns() - start);
    count(&e->stats.batches, 1);
    e->window_count = 0;
}

/* One row, as if it had been pushed, and behind it, piece by piece in the rounds to come, its advance. */
static bool history_row(oc_batcher *e)
{
    oc_history *h = &e->history;
    oc_session *s = h->pending.session;
    if (!h->busy) return false;
    if (h->done < h->count && s->due == 0) {
        const uint32_t session = (uint32_t)(s - e->sessions);
        const float *row = h->rows + h->done * (size_t)shape_of(e)->inputs;
        if (oc_slot_step(&e->slots[s->slot], &session, row, 1, e->answers, e->answers_cap, e->full) != OC_OK) {
            oc_batcher_failed(e, &h->pending, 1);
            oc_session_begin_anew(e, s);
            h->busy = false;
            return true;
        }
        s->due = 1;
        oc_swap_keep(e, s, row, NULL);
        observe_push(e, s, row, NULL);
        h->done++;
    }
    if (s->due > 0) advance(e, s, oc_slot_advance_some);
    if (h->done == h->count && s->due == 0) {
        s->run_length = h->pending.request.run_length;
        h->pending.slot = s->slot;
        oc_batcher_answer(e, &h->pending, s->id, OC_REPLY_OK, NULL);
        h->busy = false;
    }
    return true;
}

/* A piece, sessions in turn: the window that the next row completes comes first in each. Some of the queue have nothing
 * due any more: their next row saw to it, or they began anew. */
static bool advance_one(oc_batcher *e)
{
    while (e->due_count > 0) {
        const uint32_t session = e->due[e->due_first];
        oc_session *s = &e->sessions[session];
        e->due_first = (e->due_first + 1) % e->sessions_max;
        e->due_count--;
        s->queued = false;
        if (s->due == 0) continue;
        advance(e, s, oc_slot_advance_some);
        if (s->due > 0) queue_put(e, s);
        return true;
    }
    return false;
}

bool oc_batcher_round(oc_batcher *e)
{
    oc_swap_tend(e);
    if (e->rounds % EXPIRY_ROUNDS == 0) oc_session_expire(e, oc_clock_monotonic_ns());
    count(&e->rounds, 1);
    bool any = oc_ticks_go_on(e);
    any |= oc_batcher_collect(e);
    answer_pushes(e);
    answer_windows(e);
    any |= history_row(e);
    const bool moved = oc_swap_move(e);
    oc_batcher_part(e); /* behind the answers: nothing of this round points at who leaves */
    return any || advance_one(e) || moved || oc_swap_follow(e);
}
