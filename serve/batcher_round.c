/* batcher_round.c - one round: steps of pushed rows, whole windows, a row of a history, and, where nothing else is
 * pending, one advance. */
#include "base/clock.h"
#include "base/log.h"
#include "serve/batcher_parts.h"

static void advance(oc_batcher *e, const uint32_t *slots, int n)
{
    const int64_t start = oc_clock_monotonic_ns();
    if (n == 0) return;
    if (oc_sliding_advance(e->sliding, slots, (size_t)n) != OC_OK) oc_log_failure(OC_LOG_ERROR);
    for (int i = 0; i < n; i++) e->sessions[slots[i]].due = false;
    count(&e->stats.advances, (uint64_t)n);
    count(&e->stats.advance_ns, (uint64_t)(oc_clock_monotonic_ns() - start));
}

static void answer_pushes(oc_batcher *e)
{
    const int n = e->push_count;
    int due = 0;
    if (n == 0) return;
    for (int i = 0; i < n; i++)
        if (e->pushes[i].session->due) e->slots[due++] = (uint32_t)(e->pushes[i].session - e->sessions);
    advance(e, e->slots, due);
    for (int i = 0; i < n; i++) e->slots[i] = (uint32_t)(e->pushes[i].session - e->sessions);
    const size_t cap = (size_t)(e->batch_max > e->sessions_max ? e->batch_max : e->sessions_max) * output_count(e);
    if (oc_sliding_step(e->sliding, e->slots, e->push_rows, (size_t)n, e->answers, cap, e->full) != OC_OK) {
        oc_batcher_failed(e, e->pushes, n);
        for (int i = 0; i < n; i++) oc_session_begin_anew(e, e->pushes[i].session);
    } else {
        for (int i = 0; i < n; i++) {
            e->pushes[i].session->due = true;
            oc_batcher_answer(e, &e->pushes[i], e->pushes[i].request.session,
                              e->full[i] ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT, e->answers + (size_t)i * output_count(e));
        }
    }
    for (int i = 0; i < n; i++) e->pushes[i].session->taken = false;
    count(&e->stats.batches, 1);
    e->push_count = 0;
}

static void answer_windows(oc_batcher *e)
{
    const int n = e->window_count;
    if (n == 0) return;
    if (oc_model_predict(e->model, e->window_rows, (size_t)n, e->answers, (size_t)n * output_count(e)) != OC_OK) {
        oc_batcher_failed(e, e->windows, n);
    } else {
        for (int i = 0; i < n; i++)
            oc_batcher_answer(e, &e->windows[i], e->windows[i].request.session, OC_REPLY_OK,
                              e->answers + (size_t)i * output_count(e));
    }
    count(&e->stats.batches, 1);
    e->window_count = 0;
}

/* One row, as if it had been pushed. */
static bool history_row(oc_batcher *e)
{
    oc_history *h = &e->history;
    oc_session *s = h->pending.session;
    if (!h->busy) return false;
    if (h->done < h->count) {
        const uint32_t slot = (uint32_t)(s - e->sessions);
        const float *row = h->rows + h->done * (size_t)shape_of(e)->inputs;
        if (oc_sliding_step(e->sliding, &slot, row, 1, e->answers, output_count(e), e->full) != OC_OK) {
            oc_batcher_failed(e, &h->pending, 1);
            oc_session_begin_anew(e, s);
            h->busy = false;
            return true;
        }
        advance(e, &slot, 1);
        h->done++;
    }
    if (h->done == h->count) {
        s->run_length = h->pending.request.run_length;
        oc_batcher_answer(e, &h->pending, s->id, OC_REPLY_OK, NULL);
        h->busy = false;
    }
    return true;
}

static bool advance_one(oc_batcher *e)
{
    for (uint32_t i = 0; i < (uint32_t)e->sessions_max; i++) {
        if (!e->sessions[i].due) continue;
        advance(e, &i, 1);
        return true;
    }
    return false;
}

bool oc_batcher_round(oc_batcher *e)
{
    bool any = false;
    for (int i = 0; i < e->channel_count; i++) {
        oc_channel *c = &e->channels[(e->first + i) % e->channel_count];
        const uint32_t state = __atomic_load_n(&c->state, __ATOMIC_ACQUIRE);
        if (state == OC_CHANNEL_LIVE && c->batcher == e->index) any |= oc_batcher_collect(e, c);
    }
    e->first = (e->first + 1) % e->channel_count; /* who comes first takes turns */
    answer_pushes(e);
    answer_windows(e);
    any |= history_row(e);
    for (int i = 0; i < e->channel_count; i++) { /* behind the answers: nothing of this round points at it */
        oc_channel *c = &e->channels[i];
        const uint32_t state = __atomic_load_n(&c->state, __ATOMIC_ACQUIRE);
        if ((state != OC_CHANNEL_LIVE && state != OC_CHANNEL_LEAVING) || c->batcher != e->index) continue;
        const bool broken = c->requests.broken || c->replies.broken;
        if (broken) count(&e->stats.broken, 1);
        if (broken || state == OC_CHANNEL_LEAVING) oc_batcher_leave(e, c);
    }
    return any || advance_one(e);
}
