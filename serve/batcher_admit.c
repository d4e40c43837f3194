/* batcher_admit.c - what comes in: each request is copied out of shared memory before anything in it is believed, then
 * taken into this round, answered with a refusal, or left in its ring for the next round. */
#include <string.h>
#include "base/clock.h"
#include "serve/batcher_parts.h"

/* Exponent bits all set: infinity or NaN. */
bool oc_batcher_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

/* Whether the version that would answer is the one that was asked for, if one was: looked at before anything is taken
 * in, so that a refusal loses nothing. p->slot says who would. */
static bool version_asked(const oc_batcher *e, const oc_pending *p)
{
    const uint32_t wanted = p->request.model_version;
    return wanted == 0 || wanted == e->slots[p->slot].version->generation;
}

/* Each take_* returns false where the record must wait for the next round. */
static bool take_window(oc_batcher *e, oc_pending *p)
{
    const size_t cells = window_cells(e);
    const int64_t waited_ns = p->request.sent_ns > 0 ? p->taken_ns - p->request.sent_ns : 0;
    const bool late = e->queue_max_ns > 0 && waited_ns > e->queue_max_ns;
    if (e->window_count == e->batch_max && !late) return false;
    float *rows = e->window_rows + (size_t)e->window_count * cells;
    oc_session *s = oc_session_find(e, p->channel, p->request.session);
    oc_reply_state state = OC_REPLY_OK;
    if (s) p->slot = s->slot, s->used_ns = p->taken_ns;
    if (late)
        state = OC_REPLY_REFUSED_OVERLOAD;
    else if (p->request.session != 0 && !s)
        state = OC_REPLY_REFUSED_SESSION;
    else if (p->request.count != cells * sizeof *rows)
        state = OC_REPLY_REFUSED_SHAPE;
    else if (!version_asked(e, p))
        state = OC_REPLY_REFUSED_VERSION;
    else if (p->request.deadline_ns > 0 && p->taken_ns > p->request.deadline_ns)
        state = OC_REPLY_LATE; /* before it is computed for nobody */
    if (state == OC_REPLY_OK) {
        oc_ring_copy(&p->channel->requests, rows, p->request.count);
        if (!oc_batcher_finite(rows, cells)) state = OC_REPLY_REFUSED_VALUE;
    }
    if (state == OC_REPLY_OK)
        e->windows[e->window_count++] = *p;
    else
        oc_batcher_answer(e, p, p->request.session, state, NULL);
    return true;
}

/* Whether stored rows of the session are still going in: what else it asks for waits in its client's ring. */
static bool history_of(const oc_batcher *e, const oc_session *s)
{
    return e->history.busy && e->history.pending.session == s;
}

bool oc_session_ready(const oc_batcher *e, const oc_session *s)
{
    return !s->taken && !history_of(e, s);
}

/* A session has one row in a round at most: there is room. */
float *oc_batcher_row_place(oc_batcher *e)
{
    return e->push_rows + (size_t)e->push_count * (size_t)shape_of(e)->inputs;
}

void oc_batcher_push(oc_batcher *e, oc_pending *p)
{
    p->slot = p->session->slot;
    p->session->used_ns = p->taken_ns;
    const oc_reply_state state = oc_session_row_check(e, p->session, &p->request, oc_batcher_row_place(e));
    if (state == OC_REPLY_OK) {
        p->session->taken = true;
        e->pushes[e->push_count++] = *p;
    } else {
        oc_batcher_answer(e, p, p->request.session, state, NULL);
    }
}

static bool take_push(oc_batcher *e, oc_pending *p)
{
    const size_t bytes = (size_t)shape_of(e)->inputs * sizeof(float);
    p->session = oc_session_find(e, p->channel, p->request.session);
    if (!p->session || p->session->period_ns <= 0 || p->request.count != bytes) {
        const bool known = p->session && p->session->period_ns > 0;
        oc_batcher_answer(e, p, p->request.session, known ? OC_REPLY_REFUSED_SHAPE : OC_REPLY_REFUSED_SESSION, NULL);
        return true;
    }
    if (!oc_session_ready(e, p->session)) return false;
    p->slot = p->session->slot;
    if (!version_asked(e, p)) {
        p->session->used_ns = p->taken_ns;
        oc_batcher_answer(e, p, p->request.session, OC_REPLY_REFUSED_VERSION, NULL);
        return true;
    }
    oc_ring_copy(&p->channel->requests, oc_batcher_row_place(e), bytes);
    oc_batcher_push(e, p);
    return true;
}

static oc_reply_state history_check(oc_batcher *e, const oc_pending *p)
{
    const size_t row_bytes = (size_t)shape_of(e)->inputs * sizeof *e->history.rows, rows = p->request.count / row_bytes;
    oc_session *s = p->session;
    if (!s || s->period_ns <= 0) return OC_REPLY_REFUSED_SESSION;
    if (!(p->request.count % row_bytes == 0 && rows < (size_t)shape_of(e)->steps && rows <= p->request.run_length))
        return OC_REPLY_REFUSED_SHAPE;
    s->used_ns = p->taken_ns;
    if (!version_asked(e, p)) return OC_REPLY_REFUSED_VERSION;
    if (oc_session_old(e, s, p->request.sequence)) return OC_REPLY_REFUSED_ORDER;
    oc_ring_copy(&p->channel->requests, e->history.rows, p->request.count);
    s->any = true;
    s->sequence = p->request.sequence;
    oc_session_begin_anew(e, s);
    return oc_batcher_finite(e->history.rows, p->request.count / sizeof *e->history.rows) ? OC_REPLY_OK
                                                                                          : OC_REPLY_REFUSED_VALUE;
}

static bool take_history(oc_batcher *e, oc_pending *p)
{
    p->session = oc_session_find(e, p->channel, p->request.session);
    if (e->history.busy || (p->session && p->session->taken)) return false;
    if (p->session) p->slot = p->session->slot;
    const oc_reply_state state = history_check(e, p);
    if (state != OC_REPLY_OK) {
        oc_batcher_answer(e, p, p->request.session, state, NULL);
        return true;
    }
    e->history.pending = *p;
    e->history.count = p->request.count / ((size_t)shape_of(e)->inputs * sizeof *e->history.rows);
    e->history.done = 0;
    e->history.busy = true;
    return true;
}

static bool take_open(oc_batcher *e, oc_pending *p)
{
    oc_wire_open open = {.period_ns = -1};
    if (p->request.count == sizeof open) oc_ring_copy(&p->channel->requests, &open, sizeof open);
    oc_session_open(e, p, &open);
    return true;
}

static bool take_close(oc_batcher *e, oc_pending *p)
{
    oc_session *s = oc_session_find(e, p->channel, p->request.session);
    if (s && (s->taken || history_of(e, s))) return false;
    if (s) oc_session_end(e, s);
    oc_batcher_answer(e, p, p->request.session, s ? OC_REPLY_OK : OC_REPLY_REFUSED_SESSION, NULL);
    return true;
}

static bool take_unknown(oc_batcher *e, oc_pending *p)
{
    oc_batcher_answer(e, p, p->request.session, OC_REPLY_REFUSED_KIND, NULL);
    return true;
}

static bool (*const takers[OC_BATCHER_KINDS])(oc_batcher *, oc_pending *) = {
    take_unknown, take_window,        take_push,           take_open,     take_close,
    take_history, oc_ticks_take_open, oc_ticks_take_close, oc_ticks_take,
};

/* A few requests of one client. TURN_WAITS: its next one must wait for another round. */
typedef enum { TURN_EMPTY, TURN_MORE, TURN_WAITS } turn;
enum { TURN_REQUESTS = 4 };

static turn turn_take(oc_batcher *e, oc_channel *c)
{
    for (int n = 0; n < TURN_REQUESTS; n++) {
        oc_pending p = {.channel = c, .slot = e->live};
        const oc_ring_state state = oc_ring_peek(&c->requests, &p.request, e->record_max);
        if (state != OC_RING_DONE || c->replies.broken) return TURN_EMPTY;
        p.taken_ns = oc_clock_monotonic_ns();
        const uint32_t bytes = p.request.bytes;
        if (p.request.count > bytes - OC_WIRE_LINE) p.request.count = UINT32_MAX; /* refused as a wrong shape */
        if (!takers[p.request.kind < OC_BATCHER_KINDS ? p.request.kind : 0](e, &p)) return TURN_WAITS;
        oc_ring_take(&c->requests, bytes);
        c->taken++;
    }
    return TURN_MORE;
}

void oc_batcher_welcome(oc_batcher *e)
{
    __atomic_fetch_add(&e->welcomed, 1, __ATOMIC_RELEASE);
}

/* A look over all of 1,024 (serve.clients) would take 4 us of every round. */
static void ours_find(oc_batcher *e)
{
    const uint32_t welcomed = __atomic_load_n(&e->welcomed, __ATOMIC_ACQUIRE);
    if (welcomed == e->welcomed_seen) return;
    e->welcomed_seen = welcomed;
    e->our_count = 0;
    for (int i = 0; i < e->channel_count; i++) {
        oc_channel *c = &e->channels[i];
        const uint32_t state = __atomic_load_n(&c->state, __ATOMIC_ACQUIRE);
        if ((state == OC_CHANNEL_LIVE || state == OC_CHANNEL_LEAVING) && c->batcher == e->index)
            e->ours[e->our_count++] = c;
    }
}

void oc_batcher_part(oc_batcher *e)
{
    int left = 0;
    for (int i = 0; i < e->our_count; i++) {
        oc_channel *c = e->ours[i];
        const bool broken = c->requests.broken || c->replies.broken,
                   leaving = __atomic_load_n(&c->state, __ATOMIC_ACQUIRE) == OC_CHANNEL_LEAVING;
        if (broken) count(&e->stats.broken, 1);
        if (broken || leaving)
            oc_batcher_leave(e, c);
        else
            e->ours[left++] = c;
    }
    e->our_count = left;
}

/* Clients in turn, at most two batches of records of each, so that a flood of bad ones holds nobody up. Who found the
 * batch full comes first in the next round; where nobody did, who comes first moves on. */
bool oc_batcher_collect(oc_batcher *e)
{
    int n = 0;
    bool any = false;
    ours_find(e);
    if (e->our_count == 0) return false;
    e->first %= e->our_count;
    for (int i = 0; i < e->our_count; i++) {
        oc_channel *c = e->ours[(e->first + i) % e->our_count];
        if (__atomic_load_n(&c->state, __ATOMIC_ACQUIRE) != OC_CHANNEL_LIVE) continue;
        c->taken = 0;
        e->turns[n++] = c;
    }
    oc_channel *first_full = NULL;
    while (n > 0) {
        int left = 0;
        for (int i = 0; i < n; i++) {
            oc_channel *c = e->turns[i];
            const turn t = turn_take(e, c);
            any |= t != TURN_EMPTY || c->taken > 0;
            if (t == TURN_WAITS && !first_full && e->window_count == e->batch_max) first_full = c;
            if (t == TURN_MORE && c->taken < 2 * e->batch_max) e->turns[left++] = c;
        }
        n = left;
    }
    e->first++;
    for (int i = 0; first_full && i < e->our_count; i++)
        if (e->ours[i] == first_full) e->first = i;
    return any;
}
