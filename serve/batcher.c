/* batcher.c - collect, step, predict, advance. A record is copied out of shared memory before anything in it is
 * believed. */
#include "serve/batcher.h"

#include <assert.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

enum { YIELDS = 64, INDEX_BITS = 12, MODEL_GENERATION = 1, WARM_UPS = 8 };
static const int64_t drain_max_ns = 2 * OC_SECOND_NS;

/* The only writer is the batcher's thread: a load and a store, no locked instruction. */
static void count(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static const oc_model_shape *shape_of(const oc_batcher *e)
{
    return &oc_model_bundle(e->model)->shape;
}

static size_t window_cells(const oc_batcher *e)
{
    return (size_t)shape_of(e)->steps * (size_t)shape_of(e)->inputs;
}

static size_t output_count(const oc_batcher *e)
{
    return (size_t)shape_of(e)->horizons * OC_CLASSES;
}

/* Exponent bits all set: infinity or NaN. */
static bool finite_all(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    return !bad;
}

static void latency_count(oc_batcher *e, int64_t ns)
{
    int bucket = 0;
    while (bucket < OC_BATCHER_BUCKETS - 1 && ns >= INT64_C(1000) << bucket) bucket++;
    count(&e->stats.latency[bucket], 1);
    count(&e->stats.latency_ns, (uint64_t)ns);
    count(&e->stats.latency_count, 1);
}

/* A full ring of replies drops and counts: a client that does not read never holds the others up. */
static void answer(oc_batcher *e, const oc_pending *p, uint32_t session, oc_reply_state state,
                   const float *probabilities)
{
    const int64_t now = oc_clock_monotonic_ns();
    const oc_wire_request *q = &p->request;
    if (state == OC_REPLY_OK && q->deadline_ns > 0 && now > q->deadline_ns) state = OC_REPLY_LATE;
    const bool computed = probabilities != NULL;
    if (state != OC_REPLY_OK) probabilities = NULL; /* what is not good is HOLD, whatever was computed */
    oc_wire_reply reply = {.bytes = sizeof reply,
                           .kind = q->kind,
                           .session = session,
                           .state = state,
                           .sequence = q->sequence,
                           .input_ns = q->input_ns,
                           .deadline_ns = q->deadline_ns,
                           .queue_ns = q->sent_ns > 0 && q->sent_ns <= p->taken_ns ? p->taken_ns - q->sent_ns : 0,
                           .service_ns = now - p->taken_ns,
                           .model_version = MODEL_GENERATION,
                           .horizons = (uint32_t)shape_of(e)->horizons};
    for (int h = 0; h < shape_of(e)->horizons; h++) {
        if (probabilities)
            memcpy(reply.probabilities[h], probabilities + h * OC_CLASSES, sizeof reply.probabilities[h]);
        else
            reply.probabilities[h][OC_CLASSES - 1] = 1; /* hold */
    }
    count(&e->stats.replies[q->kind < OC_BATCHER_KINDS ? q->kind : 0][state], 1); /* before it can be seen */
    const oc_ring_state put = oc_ring_put(&p->channel->replies, &reply, sizeof reply, NULL, 0);
    if (put == OC_RING_DONE)
        e->woke |= oc_ring_wake(&p->channel->replies.shared->asleep);
    else
        count(&e->stats.dropped, 1);
    if (computed) latency_count(e, reply.queue_ns + reply.service_ns);
}

static void session_end(oc_batcher *e, oc_session *s)
{
    oc_sliding_reset(e->sliding, (uint32_t)(s - e->sessions));
    e->stats.load -= s->load;
    count(&e->stats.sessions, (uint64_t)-1);
    if (e->history.pending.session == s) e->history.busy = false;
    *s = (oc_session){.generation = s->generation};
}

static oc_session *session_find(oc_batcher *e, const oc_channel *c, uint32_t id)
{
    const uint32_t index = id & ((1u << INDEX_BITS) - 1);
    oc_session *s = index < (uint32_t)e->sessions_max ? &e->sessions[index] : NULL;
    return s && id != 0 && s->id == id && s->channel == c ? s : NULL;
}

static oc_reply_state open_check(const oc_batcher *e, const oc_wire_request *q, const oc_wire_open *open, double load)
{
    const oc_bundle *b = oc_model_bundle(e->model);
    if (__atomic_load_n(&e->stop, __ATOMIC_RELAXED)) return OC_REPLY_REFUSED_DRAINING;
    if (q->count != sizeof *open || !(open->period_ns >= 0) || !memchr(open->symbol, 0, sizeof open->symbol))
        return OC_REPLY_REFUSED_SHAPE;
    if (!memchr(open->model, 0, sizeof open->model) || strcmp(open->model, b->name) != 0) return OC_REPLY_REFUSED_MODEL;
    if (open->schema_low != b->schema.low || open->schema_high != b->schema.high) return OC_REPLY_REFUSED_SCHEMA;
    if (!(e->stats.load + load <= e->budget)) return OC_REPLY_REFUSED_BUDGET;
    return OC_REPLY_OK;
}

static void session_open(oc_batcher *e, const oc_pending *p, const oc_wire_open *open)
{
    const double load = open->period_ns > 0 ? (double)e->advance_ns / (double)open->period_ns : 0;
    oc_reply_state state = open_check(e, &p->request, open, load);
    oc_session *s = NULL;
    for (int i = 0; i < e->sessions_max && !s; i++)
        if (e->sessions[i].id == 0) s = &e->sessions[i];
    if (state == OC_REPLY_OK && !s) state = OC_REPLY_REFUSED_FULL;
    if (state == OC_REPLY_OK) {
        const uint32_t generation = s->generation % ((1u << (32 - INDEX_BITS)) - 1) + 1; /* never 0 */
        *s = (oc_session){.id = generation << INDEX_BITS | (uint32_t)(s - e->sessions),
                          .generation = generation,
                          .channel = p->channel,
                          .load = load};
        memcpy(s->symbol, open->symbol, sizeof s->symbol);
        oc_sliding_reset(e->sliding, (uint32_t)(s - e->sessions));
        e->stats.load += load;
        count(&e->stats.sessions, 1);
    }
    answer(e, p, state == OC_REPLY_OK ? s->id : 0, state, NULL);
}

/* Each take_* returns false where the record must wait for the next round. */
static bool take_window(oc_batcher *e, oc_pending *p)
{
    const size_t cells = window_cells(e);
    if (e->window_count == e->batch_max) return false;
    float *rows = e->window_rows + (size_t)e->window_count * cells;
    oc_reply_state state = OC_REPLY_OK;
    if (p->request.session != 0 && !session_find(e, p->channel, p->request.session))
        state = OC_REPLY_REFUSED_SESSION;
    else if (p->request.count != cells * sizeof *rows)
        state = OC_REPLY_REFUSED_SHAPE;
    if (state == OC_REPLY_OK) {
        oc_ring_copy(&p->channel->requests, rows, p->request.count);
        if (!finite_all(rows, cells)) state = OC_REPLY_REFUSED_VALUE;
    }
    if (state == OC_REPLY_OK)
        e->windows[e->window_count++] = *p;
    else
        answer(e, p, p->request.session, state, NULL);
    return true;
}

/* Whether stored rows of the session are still going in: what else it asks for waits in its client's ring. */
static bool history_of(const oc_batcher *e, const oc_session *s)
{
    return e->history.busy && e->history.pending.session == s;
}

static void session_begin_anew(oc_batcher *e, oc_session *s)
{
    oc_sliding_reset(e->sliding, (uint32_t)(s - e->sessions));
    s->due = false;
    s->run_length = 0;
}

/* A valid row that does not follow the last one begins the windows anew; so does one that is not valid. */
static oc_reply_state push_check(oc_batcher *e, oc_session *s, const oc_wire_request *q, const float *row)
{
    if (s->any && q->sequence <= s->sequence) return OC_REPLY_REFUSED_ORDER;
    s->any = true;
    s->sequence = q->sequence;
    const bool finite = finite_all(row, (size_t)shape_of(e)->inputs);
    if (q->run_length == 0 || !finite || (s->run_length > 0 && q->run_length != s->run_length + 1))
        session_begin_anew(e, s);
    if (!finite) return OC_REPLY_REFUSED_VALUE;
    s->run_length = q->run_length;
    return q->run_length == 0 ? OC_REPLY_HOLD_GAP : OC_REPLY_OK;
}

static bool take_push(oc_batcher *e, oc_pending *p)
{
    const size_t inputs = (size_t)shape_of(e)->inputs;
    float *row = e->push_rows + (size_t)e->push_count * inputs;
    oc_reply_state state;
    p->session = session_find(e, p->channel, p->request.session);
    if (!p->session || !(p->session->load > 0)) {
        state = OC_REPLY_REFUSED_SESSION;
    } else if (p->request.count != inputs * sizeof *row) {
        state = OC_REPLY_REFUSED_SHAPE;
    } else {
        if (p->session->taken || history_of(e, p->session)) return false;
        oc_ring_copy(&p->channel->requests, row, p->request.count);
        state = push_check(e, p->session, &p->request, row);
    }
    if (state == OC_REPLY_OK) {
        p->session->taken = true;
        e->pushes[e->push_count++] = *p;
    } else {
        answer(e, p, p->request.session, state, NULL);
    }
    return true;
}

static oc_reply_state history_check(oc_batcher *e, const oc_pending *p)
{
    const size_t row_bytes = (size_t)shape_of(e)->inputs * sizeof *e->history.rows, rows = p->request.count / row_bytes;
    oc_session *s = p->session;
    if (!s || !(s->load > 0)) return OC_REPLY_REFUSED_SESSION;
    if (!(p->request.count % row_bytes == 0 && rows < (size_t)shape_of(e)->steps && rows <= p->request.run_length))
        return OC_REPLY_REFUSED_SHAPE;
    if (s->any && p->request.sequence <= s->sequence) return OC_REPLY_REFUSED_ORDER;
    oc_ring_copy(&p->channel->requests, e->history.rows, p->request.count);
    s->any = true;
    s->sequence = p->request.sequence;
    session_begin_anew(e, s);
    return finite_all(e->history.rows, p->request.count / sizeof *e->history.rows) ? OC_REPLY_OK
                                                                                   : OC_REPLY_REFUSED_VALUE;
}

static bool take_history(oc_batcher *e, oc_pending *p)
{
    p->session = session_find(e, p->channel, p->request.session);
    if (e->history.busy || (p->session && p->session->taken)) return false;
    const oc_reply_state state = history_check(e, p);
    if (state != OC_REPLY_OK) {
        answer(e, p, p->request.session, state, NULL);
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
    session_open(e, p, &open);
    return true;
}

static bool take_close(oc_batcher *e, oc_pending *p)
{
    oc_session *s = session_find(e, p->channel, p->request.session);
    if (s && (s->taken || history_of(e, s))) return false;
    if (s) session_end(e, s);
    answer(e, p, p->request.session, s ? OC_REPLY_OK : OC_REPLY_REFUSED_SESSION, NULL);
    return true;
}

static bool take_unknown(oc_batcher *e, oc_pending *p)
{
    answer(e, p, p->request.session, OC_REPLY_REFUSED_KIND, NULL);
    return true;
}

static bool (*const takers[OC_BATCHER_KINDS])(oc_batcher *, oc_pending *) = {
    take_unknown, take_window, take_push, take_open, take_close, take_history,
};

static void channel_leave(oc_batcher *e, oc_channel *c)
{
    for (int i = 0; i < e->sessions_max; i++)
        if (e->sessions[i].id != 0 && e->sessions[i].channel == c) session_end(e, &e->sessions[i]);
    __atomic_store_n(&c->state, OC_CHANNEL_LEFT, __ATOMIC_RELEASE);
}

/* A part of what one client has pending: at most two batches of records, so that a flood of bad ones holds nobody up.
 */
static bool collect(oc_batcher *e, oc_channel *c)
{
    bool any = false;
    for (int taken = 0; taken < 2 * e->batch_max; taken++) {
        oc_pending p = {.channel = c};
        const oc_ring_state state = oc_ring_peek(&c->requests, &p.request, e->record_max);
        if (state != OC_RING_DONE || c->replies.broken) break;
        p.taken_ns = oc_clock_monotonic_ns();
        const uint32_t bytes = p.request.bytes;
        if (p.request.count > bytes - OC_WIRE_LINE) p.request.count = UINT32_MAX; /* refused as a wrong shape */
        if (!takers[p.request.kind < OC_BATCHER_KINDS ? p.request.kind : 0](e, &p)) return true;
        oc_ring_take(&c->requests, bytes);
        any = true;
    }
    return any;
}

static void failed(oc_batcher *e, const oc_pending *list, int n)
{
    oc_log_failure(OC_LOG_ERROR);
    for (int i = 0; i < n; i++) answer(e, &list[i], list[i].request.session, OC_REPLY_FAILED, NULL);
}

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
        failed(e, e->pushes, n);
        for (int i = 0; i < n; i++) session_begin_anew(e, e->pushes[i].session);
    } else {
        for (int i = 0; i < n; i++) {
            e->pushes[i].session->due = true;
            answer(e, &e->pushes[i], e->pushes[i].request.session, e->full[i] ? OC_REPLY_OK : OC_REPLY_HOLD_SHORT,
                   e->answers + (size_t)i * output_count(e));
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
        failed(e, e->windows, n);
    } else {
        for (int i = 0; i < n; i++)
            answer(e, &e->windows[i], e->windows[i].request.session, OC_REPLY_OK,
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
            failed(e, &h->pending, 1);
            session_begin_anew(e, s);
            h->busy = false;
            return true;
        }
        advance(e, &slot, 1);
        h->done++;
    }
    if (h->done == h->count) {
        s->run_length = h->pending.request.run_length;
        answer(e, &h->pending, s->id, OC_REPLY_OK, NULL);
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
        if (state == OC_CHANNEL_LIVE && c->batcher == e->index) any |= collect(e, c);
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
        if (broken || state == OC_CHANNEL_LEAVING) channel_leave(e, c);
    }
    return any || advance_one(e);
}

static void idle(oc_batcher *e, int64_t since_ns, int *yields)
{
    if (oc_clock_monotonic_ns() - since_ns < e->spin_ns) {
        oc_ring_pause();
    } else if (*yields < YIELDS) {
        sched_yield();
        (*yields)++;
    } else {
        oc_ring_nod(&e->bell->asleep, true);
        if (!oc_batcher_round(e)) oc_ring_sleep(&e->bell->asleep, OC_WIRE_NAP_NS);
        oc_ring_nod(&e->bell->asleep, false);
    }
}

static void *batcher_main(void *argument)
{
    oc_batcher *e = argument;
    int64_t since_ns = oc_clock_monotonic_ns(), stopped_ns = 0;
    for (int yields = 0;;) {
        const bool any = oc_batcher_round(e);
        if (__atomic_load_n(&e->stop, __ATOMIC_ACQUIRE)) {
            const int64_t now = oc_clock_monotonic_ns();
            stopped_ns = stopped_ns ? stopped_ns : now;
            if (!any || now - stopped_ns > drain_max_ns) return NULL;
        }
        if (any) {
            /* Who sleeps for its answer wakes, on busy cores, on this very core and would wait for the spinning to end:
             * measured 60 us of a request over HTTP. */
            since_ns = oc_clock_monotonic_ns() - (e->woke ? e->spin_ns : 0);
            e->woke = false;
            yields = 0;
        } else {
            idle(e, since_ns, &yields);
        }
    }
}

/* The time of one advance, the least of a few: what a session's admission is reckoned with. */
static OC_MUST advance_measure(oc_batcher *e)
{
    const uint32_t slot = 0;
    uint8_t full;
    e->advance_ns = INT64_MAX;
    for (int i = 0; i < shape_of(e)->steps + WARM_UPS; i++) {
        OC_TRY(oc_sliding_step(e->sliding, &slot, e->push_rows, 1, e->answers, output_count(e), &full));
        const int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_sliding_advance(e->sliding, &slot, 1));
        const int64_t took = oc_clock_monotonic_ns() - start;
        if (i >= shape_of(e)->steps && took < e->advance_ns) e->advance_ns = took;
    }
    oc_sliding_reset(e->sliding, slot);
    e->advance_ns = e->advance_ns > 0 ? e->advance_ns : 1;
    return OC_OK;
}

oc_status oc_batcher_init(oc_batcher *e, int index, const oc_bundle *bundle, const oc_batcher_config *config,
                          oc_channel *channels, int channel_count)
{
    const size_t inputs = (size_t)bundle->shape.inputs, cells = inputs * (size_t)bundle->shape.steps;
    const size_t batch = (size_t)config->batch_max, sessions = (size_t)config->sessions_max,
                 most = batch > sessions ? batch : sessions;
    void *bell = NULL;
    *e = (oc_batcher){.channels = channels,
                      .channel_count = channel_count,
                      .index = index,
                      .batch_max = config->batch_max,
                      .sessions_max = config->sessions_max,
                      .spin_ns = config->spin_ns,
                      .budget = config->budget,
                      .bell_fd = -1};
    const uint64_t window_bytes = oc_ring_record_bytes(cells * sizeof(float)),
                   open_bytes = oc_ring_record_bytes(sizeof(oc_wire_open));
    e->record_max = window_bytes > open_bytes ? window_bytes : open_bytes;
    OC_TRY(oc_model_open(&e->model, bundle, &config->backend, config->batch_max));
    const size_t planned = oc_sliding_bytes(e->model, sessions);
    if (!(planned <= config->memory_max_bytes))
        return OC_FAIL(
            OC_ECONFIG,
            "model %s: windows of %zu sessions take %zu bytes, and this batcher may have %zu: lower serve.sessions or "
            "raise serve.memory_mb",
            bundle->name, sessions, planned, config->memory_max_bytes);
    OC_TRY(oc_sliding_open(&e->sliding, e->model, sessions));
    OC_TRY(oc_memory_new_array(&e->sessions, sessions, sizeof *e->sessions, "sessions"));
    OC_TRY(oc_memory_new_array(&e->windows, batch, sizeof *e->windows, "pending windows"));
    OC_TRY(oc_memory_new_array(&e->pushes, sessions + 1, sizeof *e->pushes, "pending rows"));
    OC_TRY(oc_memory_new_array(&e->window_rows, batch * cells, sizeof(float), "rows of pending windows"));
    OC_TRY(oc_memory_new_array(&e->push_rows, (sessions + 1) * inputs, sizeof(float), "pending rows"));
    OC_TRY(oc_memory_new_array(&e->history.rows, cells, sizeof(float), "stored rows of a session"));
    OC_TRY(oc_memory_new_array(&e->answers, most * output_count(e), sizeof(float), "answers"));
    OC_TRY(oc_memory_new_array(&e->slots, sessions, sizeof *e->slots, "slots"));
    OC_TRY(oc_memory_new_array(&e->full, sessions, sizeof *e->full, "slots"));
    OC_TRY(advance_measure(e));
    OC_TRY(oc_model_predict(e->model, e->window_rows, batch, e->answers, batch * output_count(e))); /* warm */
    OC_TRY(oc_channel_memory("outcry-bell", OC_WIRE_REGION_OFFSET, &e->bell_fd, &bell));
    e->bell = bell;
    return OC_OK;
}

oc_status oc_batcher_start(oc_batcher *e)
{
    const int code = pthread_create(&e->thread, NULL, batcher_main, e);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    e->started = true;
    return OC_OK;
}

void oc_batcher_deinit(oc_batcher *e)
{
    __atomic_store_n(&e->stop, 1u, __ATOMIC_RELEASE);
    if (e->started) {
        (void)oc_ring_wake(&e->bell->asleep);
        pthread_join(e->thread, NULL);
    }
    if (e->bell) munmap(e->bell, OC_WIRE_REGION_OFFSET);
    if (e->bell_fd >= 0) close(e->bell_fd);
    oc_sliding_close(e->sliding);
    oc_model_close(e->model);
    void *const owned[] = {e->sessions,  e->windows, e->pushes, e->window_rows, e->history.rows,
                           e->push_rows, e->answers, e->slots,  e->full};
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) oc_memory_free(owned[i]);
}
