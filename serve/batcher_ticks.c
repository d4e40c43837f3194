/* batcher_ticks.c - streams in a batcher: a stream has a session for each of its instruments, which no request names,
 * and the rows of its engine go into them as pushed rows do. One request of a stream is worked on at a time; its events
 * lie in the stream's own memory, and what else the client asks of it waits in the client's ring.
 *
 * A row waits for the next round where its session has one in this round already; what has no probabilities (a HOLD, a
 * refusal) waits where rows of the stream are still to be answered in this round: replies of a stream keep the order of
 * its events. A round gives a stream EVENTS_ROUND events, so that nobody waits longer for it than for an advance. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/batcher_parts.h"

enum { EVENTS_ROUND = 64, INDEX_BITS = 8 };

static OC_MUST streams_fill(oc_batcher *e, const oc_bundle *bundle, const oc_stream_config *c)
{
    OC_TRY(oc_memory_new_array(&e->streams, (size_t)c->streams, sizeof *e->streams, "streams"));
    for (int i = 0; i < c->streams; i++) {
        oc_batcher_stream *t = &e->streams[i];
        OC_TRY(oc_tick_stream_open(&t->ticks, bundle, c));
        e->stream_count = i + 1;
        e->stream_bytes += oc_tick_stream_bytes(&t->ticks);
        OC_TRY(
            oc_memory_new_array(&t->sessions, t->ticks.instruments_max, sizeof(oc_session *), "a stream's sessions"));
        if (i == 0 && !(e->stream_bytes <= c->memory_max_bytes / (size_t)c->streams))
            return OC_FAIL(OC_ECONFIG,
                           "serve.stream_mb: a stream of up to %d instruments takes %zu bytes, and %d streams of this "
                           "batcher may have %zu: lower serve.streams or serve.stream_instruments, or raise it",
                           c->instruments_max, e->stream_bytes, c->streams, c->memory_max_bytes);
    }
    return OC_OK;
}

oc_status oc_ticks_init(oc_batcher *e, const oc_bundle *bundle, const oc_stream_config *c)
{
    const uint64_t bytes = oc_ring_record_bytes(OC_WIRE_EVENTS_MAX * OC_WIRE_EVENT_BYTES);
    if (bytes > e->record_max) e->record_max = bytes; /* also where all are refused */
    return c->streams > 0 ? streams_fill(e, bundle, c) : OC_OK;
}

void oc_ticks_deinit(oc_batcher *e)
{
    for (int i = 0; i < e->stream_count; i++) {
        oc_tick_stream_close(&e->streams[i].ticks);
        oc_memory_free(e->streams[i].sessions);
    }
    oc_memory_free(e->streams);
}

static oc_batcher_stream *stream_find(oc_batcher *e, const oc_channel *c, uint32_t id)
{
    const uint32_t index = id & ((1u << INDEX_BITS) - 1);
    oc_batcher_stream *t = index < (uint32_t)e->stream_count ? &e->streams[index] : NULL;
    return t && id != 0 && t->id == id && t->pending.channel == c ? t : NULL;
}

/* ---- opening and ending ---------------------------------------------------------------------------------------- */

static void stream_end(oc_batcher *e, oc_batcher_stream *t)
{
    for (uint32_t i = 0; i < t->ticks.instruments; i++) oc_session_end(e, t->sessions[i]);
    count(&e->stats.streams, (uint64_t)-1);
    t->id = 0;
    t->work = OC_STREAM_FREE;
}

/* Says the numbers, at most once a second. */
static void refusal_say(oc_batcher *e, const oc_wire_stream *open, oc_reply_state state)
{
    char text[OC_HASH_TEXT];
    if (!oc_log_due(&e->refusal_due_ns)) return;
    if (state == OC_REPLY_REFUSED_SCHEMA)
        oc_log(
            OC_LOG_WARN,
            "serve: a stream is refused: the model's features have the schema %s, those of its %u instruments, ticks "
            "and lots with serve.sample, serve.row_ns and serve.bar_spread have another",
            oc_hash_text(e->schema, text), open->instruments);
    if (state == OC_REPLY_REFUSED_FULL || state == OC_REPLY_REFUSED_BUDGET)
        oc_log(OC_LOG_WARN,
               "serve: batcher %d refuses a stream of %u instruments every %.6f s: %llu of %d streams (serve.streams) "
               "and %llu of %d sessions (serve.sessions) are open, a stream has at most %u instruments "
               "(serve.stream_instruments), advances of %.1f us%s may take %.4f of its time already, and "
               "serve.advance_budget is %g",
               e->index, open->instruments, 1e-9 * (double)open->period_ns, (unsigned long long)e->stats.streams,
               e->stream_count, (unsigned long long)e->stats.sessions, e->sessions_max,
               e->stream_count > 0 ? e->streams[0].ticks.instruments_max : 0, 1e-3 * (double)e->advance_ns,
               oc_session_reckoned(e), 1e-9 * (double)e->stats.load_ppb, e->budget);
}

static oc_reply_state open_check(oc_batcher *e, oc_batcher_stream *t, const oc_pending *p, oc_wire_stream *open)
{
    const size_t got = p->request.count;
    if (__atomic_load_n(&e->stop, __ATOMIC_RELAXED)) return OC_REPLY_REFUSED_DRAINING;
    if (!t) return OC_REPLY_REFUSED_FULL;
    if (got < sizeof *open || got > OC_WIRE_EVENTS_MAX * sizeof *t->ticks.events) return OC_REPLY_REFUSED_SHAPE;
    oc_ring_copy(&p->channel->requests, t->ticks.events, got);
    memcpy(open, t->ticks.events, sizeof *open);
    if (!(open->instruments <= OC_INSTRUMENTS_MAX && open->period_ns > 0) ||
        got != sizeof *open + open->instruments * sizeof(oc_wire_instrument))
        return OC_REPLY_REFUSED_SHAPE;
    if (!memchr(open->model, 0, sizeof open->model) || strcmp(open->model, e->name) != 0) return OC_REPLY_REFUSED_MODEL;
    const oc_reply_state state = oc_tick_stream_begin(&t->ticks, open, e->schema);
    if (state != OC_REPLY_OK) return state;
    if (e->stats.sessions + open->instruments > (uint64_t)e->sessions_max) return OC_REPLY_REFUSED_FULL;
    const double more = (double)open->instruments * (double)e->advance_ns / (double)open->period_ns;
    return 1e-9 * (double)e->stats.load_ppb + more <= e->budget ? OC_REPLY_OK : OC_REPLY_REFUSED_BUDGET;
}

bool oc_ticks_take_open(oc_batcher *e, oc_pending *p)
{
    oc_batcher_stream *t = NULL;
    oc_wire_stream open = {.period_ns = 0};
    for (int i = 0; i < e->stream_count && !t; i++)
        if (e->streams[i].work == OC_STREAM_FREE) t = &e->streams[i];
    const oc_reply_state state = open_check(e, t, p, &open);
    if (state != OC_REPLY_OK) {
        oc_batcher_answer(e, p, 0, state, NULL);
        refusal_say(e, &open, state);
        return true;
    }
    for (uint32_t i = 0; i < t->ticks.instruments; i++) {
        t->sessions[i] = oc_session_take(e, p, t->ticks.universe[i].symbol, open.period_ns);
        t->sessions[i]->of_stream = true;
    }
    t->pending = *p;
    t->generation = t->generation % ((1u << (32 - INDEX_BITS)) - 1) + 1; /* never 0 */
    t->id = t->generation << INDEX_BITS | (uint32_t)(t - e->streams);
    t->work = OC_STREAM_OPENING;
    t->reset = 0;
    t->period_ns = open.period_ns;
    t->used_ns = p->taken_ns;
    count(&e->stats.streams, 1);
    return true;
}

/* One instrument's memory, half a MiB, a round. */
static void open_on(oc_batcher *e, oc_batcher_stream *t)
{
    oc_tick_stream_reset(&t->ticks, t->reset++);
    if (t->reset < t->ticks.instruments) return;
    t->work = OC_STREAM_IDLE;
    t->pending.slot = e->live;
    t->pending.request.sequence = t->ticks.history_rows;
    t->pending.request.input_ns = t->ticks.history_ns;
    oc_batcher_answer(e, &t->pending, t->id, OC_REPLY_OK, NULL);
}

static bool has_rows(const oc_batcher *e, const oc_batcher_stream *t)
{
    return t->row_round == e->rounds; /* to be answered in this round */
}

bool oc_ticks_take_close(oc_batcher *e, oc_pending *p)
{
    oc_batcher_stream *t = stream_find(e, p->channel, p->request.session);
    if (t && (t->work != OC_STREAM_IDLE || has_rows(e, t))) return false;
    if (t) stream_end(e, t);
    oc_batcher_answer(e, p, p->request.session, t ? OC_REPLY_OK : OC_REPLY_REFUSED_SESSION, NULL);
    return true;
}

void oc_ticks_leave(oc_batcher *e, const oc_channel *c)
{
    for (int i = 0; i < e->stream_count; i++)
        if (e->streams[i].work != OC_STREAM_FREE && e->streams[i].pending.channel == c) stream_end(e, &e->streams[i]);
}

void oc_ticks_expire(oc_batcher *e, int64_t now_ns)
{
    for (int i = 0; i < e->stream_count; i++) {
        oc_batcher_stream *t = &e->streams[i];
        const int64_t most = oc_batcher_patience_ns(e->idle_max_ns, t->period_ns);
        if (t->work != OC_STREAM_IDLE || now_ns - t->used_ns <= most) continue;
        stream_end(e, t);
        count(&e->stats.expired, 1);
    }
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

/* What the last event came to, as a reply or a row of this round; false: in the next one. */
static bool event_tell(oc_batcher *e, oc_batcher_stream *t)
{
    oc_tick_stream *k = &t->ticks;
    const oc_event *event = &k->events[k->last];
    const bool pushed = k->state == OC_REPLY_OK && k->row;
    if (k->state == OC_REPLY_OK && !k->row && k->at < k->count) return true;
    oc_pending p = t->pending;
    p.request.sequence = event->sequence;
    p.request.input_ns = event->receive_ns;
    p.instrument = k->state == OC_REPLY_REFUSED_EVENT ? 0 : event->instrument;
    p.session = pushed ? t->sessions[k->row->instrument] : NULL;
    p.slot = e->live;
    if (pushed && !oc_session_ready(e, p.session)) return false;
    if (!(pushed && k->run_length > 0) && has_rows(e, t)) return false;
    if (!pushed) {
        oc_batcher_answer(e, &p, t->id, k->row || k->state != OC_REPLY_OK ? k->state : OC_REPLY_HOLD_NO_ROW, NULL);
        count(&e->stats.ticks_dropped, k->dropped);
        return true;
    }
    p.request.run_length = k->run_length;
    p.session->any = false; /* the stream has looked at the order, which is not the sequence's alone */
    memcpy(oc_batcher_row_place(e), k->row->x, (size_t)shape_of(e)->inputs * sizeof *k->row->x);
    oc_batcher_push(e, &p);
    if (k->run_length > 0) t->row_round = e->rounds;
    return true;
}

/* As far as it gets in this round, over all of its requests. */
static void stream_run(oc_batcher *e, oc_batcher_stream *t)
{
    oc_tick_stream *k = &t->ticks;
    if (t->run_round != e->rounds) t->run_events = 0;
    t->run_round = e->rounds;
    for (; t->told || event_tell(e, t); t->run_events++) {
        t->told = true;
        if (k->at == k->count) t->work = OC_STREAM_IDLE;
        if (k->at == k->count || t->run_events == EVENTS_ROUND) return;
        oc_tick_stream_next(k);
        t->told = false;
        count(&e->stats.ticks, k->dropped == 0);
    }
}

bool oc_ticks_take(oc_batcher *e, oc_pending *p)
{
    oc_batcher_stream *t = stream_find(e, p->channel, p->request.session);
    const size_t bytes = p->request.count, one = sizeof(oc_event);
    if (t && t->work != OC_STREAM_IDLE) return false;
    if (!t || bytes == 0 || bytes % one != 0 || bytes > OC_WIRE_EVENTS_MAX * one) {
        oc_batcher_answer(e, p, p->request.session, t ? OC_REPLY_REFUSED_SHAPE : OC_REPLY_REFUSED_SESSION, NULL);
        return true;
    }
    oc_ring_copy(&p->channel->requests, t->ticks.events, bytes);
    t->pending = *p;
    t->ticks.count = (uint32_t)(bytes / one);
    t->ticks.at = 0;
    t->told = true;
    t->used_ns = p->taken_ns;
    t->work = OC_STREAM_BUSY;
    stream_run(e, t);
    return true;
}

bool oc_ticks_go_on(oc_batcher *e)
{
    bool any = false;
    for (int i = 0; i < e->stream_count; i++) {
        oc_batcher_stream *t = &e->streams[i];
        any |= t->work == OC_STREAM_OPENING || t->work == OC_STREAM_BUSY;
        if (t->work == OC_STREAM_OPENING) open_on(e, t);
        if (t->work == OC_STREAM_BUSY) stream_run(e, t);
    }
    return any;
}
