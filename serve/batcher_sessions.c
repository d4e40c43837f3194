/* batcher_sessions.c - sessions: opening and its admission, finding, what a row does to the run of valid rows, ending.
 */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "serve/batcher_parts.h"

enum { INDEX_BITS = 12, EXPIRY_PIECE = 64 };

/* Of the batcher's time, in 1e-9; whole numbers, so that what was added can be taken away. */
static uint64_t load_ppb(const oc_batcher *e, int64_t period_ns)
{
    return period_ns > 0 ? (uint64_t)(1e9 * ((double)e->advance_ns / (double)period_ns)) : 0;
}

void oc_session_reckon(oc_batcher *e)
{
    const int64_t live_ns = e->slots[e->live].advance_ns, admit_ns = __atomic_load_n(&e->admit_ns, __ATOMIC_ACQUIRE);
    uint64_t load = 0;
    e->advance_ns = admit_ns > live_ns ? admit_ns : live_ns;
    for (int i = 0; i < e->sessions_max; i++)
        if (e->sessions[i].id != 0) load += load_ppb(e, e->sessions[i].period_ns);
    __atomic_store_n(&e->stats.load_ppb, load, __ATOMIC_RELAXED);
    __atomic_store_n(&e->admit_seen_ns, admit_ns, __ATOMIC_RELEASE); /* nobody is admitted by less any more */
}

const char *oc_session_reckoned(const oc_batcher *e)
{
    return e->advance_ns > e->slots[e->live].advance_ns
               ? " (of a version that may become live; the live one's are less)"
               : "";
}

void oc_session_end(oc_batcher *e, oc_session *s)
{
    oc_slot_reset(&e->slots[s->slot], (uint32_t)(s - e->sessions));
    count(&e->stats.load_ppb, 0 - load_ppb(e, s->period_ns));
    count(&e->stats.sessions, (uint64_t)-1);
    if (e->history.pending.session == s) e->history.busy = false;
    oc_observed_leave(&e->observed, (size_t)(s - e->sessions));
    *s = (oc_session){.generation = s->generation, .queued = s->queued};
    if (s - e->sessions < e->free_first) e->free_first = (int)(s - e->sessions);
}

oc_session *oc_session_find(oc_batcher *e, const oc_channel *c, uint32_t id)
{
    const uint32_t index = id & ((1u << INDEX_BITS) - 1);
    oc_session *s = index < (uint32_t)e->sessions_max ? &e->sessions[index] : NULL;
    return s && id != 0 && s->id == id && s->channel == c && !s->of_stream ? s : NULL;
}

static oc_reply_state open_check(const oc_batcher *e, const oc_wire_request *q, const oc_wire_open *open)
{
    if (__atomic_load_n(&e->stop, __ATOMIC_RELAXED)) return OC_REPLY_REFUSED_DRAINING;
    if (q->count != sizeof *open || !(open->period_ns >= 0) || !memchr(open->symbol, 0, sizeof open->symbol))
        return OC_REPLY_REFUSED_SHAPE;
    if (!memchr(open->model, 0, sizeof open->model) || strcmp(open->model, e->name) != 0) return OC_REPLY_REFUSED_MODEL;
    if (open->schema_low != e->schema.low || open->schema_high != e->schema.high) return OC_REPLY_REFUSED_SCHEMA;
    if (open->period_ns > 0 &&
        !(1e-9 * (double)e->stats.load_ppb + (double)e->advance_ns / (double)open->period_ns <= e->budget))
        return OC_REPLY_REFUSED_BUDGET;
    return OC_REPLY_OK;
}

/* The numbers, at most once a second: whoever asks in a loop fills no disk. */
static void refusal_say(oc_batcher *e, const oc_wire_open *open, oc_reply_state state)
{
    if (state != OC_REPLY_REFUSED_BUDGET && state != OC_REPLY_REFUSED_FULL) return;
    if (!oc_log_due(&e->refusal_due_ns)) return;
    oc_log(OC_LOG_WARN,
           "serve: batcher %d refuses a session of %.31s every %.6f s: %llu of %d are open (serve.sessions), their "
           "advances of %.1f us%s may take %.4f of its time, this one's %.4f more, and serve.advance_budget is %g",
           e->index, open->symbol, 1e-9 * (double)open->period_ns, (unsigned long long)e->stats.sessions,
           e->sessions_max, 1e-3 * (double)e->advance_ns, oc_session_reckoned(e), 1e-9 * (double)e->stats.load_ppb,
           1e-9 * (double)load_ppb(e, open->period_ns), e->budget);
}

oc_session *oc_session_take(oc_batcher *e, const oc_pending *p, const char *symbol, int64_t period_ns)
{
    while (e->free_first < e->sessions_max && e->sessions[e->free_first].id != 0) e->free_first++;
    if (e->free_first == e->sessions_max) return NULL;
    oc_session *s = &e->sessions[e->free_first];
    const uint32_t generation = s->generation % ((1u << (32 - INDEX_BITS)) - 1) + 1; /* never 0 */
    *s = (oc_session){.id = generation << INDEX_BITS | (uint32_t)(s - e->sessions),
                      .generation = generation,
                      .channel = p->channel,
                      .canary = (uint32_t)(oc_hash_bytes(symbol, strlen(symbol)).low & 0xffff),
                      .queued = s->queued,
                      .used_ns = p->taken_ns,
                      .period_ns = period_ns};
    memcpy(s->symbol, symbol, strlen(symbol));
    s->slot = (uint8_t)oc_swap_slot(e, s->canary);
    oc_slot_reset(&e->slots[s->slot], (uint32_t)(s - e->sessions));
    count(&e->stats.load_ppb, load_ppb(e, period_ns));
    count(&e->stats.sessions, 1);
    return s;
}

void oc_session_open(oc_batcher *e, const oc_pending *p, const oc_wire_open *open)
{
    oc_reply_state state = open_check(e, &p->request, open);
    oc_session *s = state == OC_REPLY_OK ? oc_session_take(e, p, open->symbol, open->period_ns) : NULL;
    if (state == OC_REPLY_OK && !s) state = OC_REPLY_REFUSED_FULL;
    oc_batcher_answer(e, p, state == OC_REPLY_OK ? s->id : 0, state, NULL);
    refusal_say(e, open, state);
}

int64_t oc_batcher_patience_ns(int64_t idle_ns, int64_t period_ns)
{
    const int64_t periods = period_ns < INT64_MAX / 4 ? 4 * period_ns : INT64_MAX; /* a client's own number */
    return periods > idle_ns ? periods : idle_ns;
}

void oc_session_expire(oc_batcher *e, int64_t now_ns)
{
    const int piece = e->sessions_max < EXPIRY_PIECE ? e->sessions_max : EXPIRY_PIECE;
    if (e->idle_max_ns <= 0 || now_ns < e->expire_at_ns) return;
    e->expire_at_ns = now_ns + OC_SECOND_NS * piece / e->sessions_max;
    oc_ticks_expire(e, now_ns);
    for (int i = 0; i < piece; i++) {
        oc_session *s = &e->sessions[e->expire_next];
        e->expire_next = (e->expire_next + 1) % e->sessions_max;
        const int64_t most = oc_batcher_patience_ns(e->idle_max_ns, s->period_ns);
        if (s->id == 0 || s->of_stream || now_ns - s->used_ns <= most ||
            (e->history.busy && e->history.pending.session == s))
            continue;
        oc_session_end(e, s);
        count(&e->stats.expired, 1);
    }
}

bool oc_session_old(oc_batcher *e, const oc_session *s, uint64_t sequence)
{
    if (!s->any || sequence > s->sequence) return false;
    count(sequence == s->sequence ? &e->stats.duplicates : &e->stats.stale, 1);
    return true;
}

void oc_session_begin_anew(oc_batcher *e, oc_session *s)
{
    oc_slot_reset(&e->slots[s->slot], (uint32_t)(s - e->sessions));
    s->rows_first = s->rows_next;
    s->follows = false; /* the other slot begins anew with the next row */
    s->due = 0;
    s->run_length = 0;
}

/* A valid row that does not follow the last one begins the windows anew; so does one that is not valid. */
oc_reply_state oc_session_row_check(oc_batcher *e, oc_session *s, const oc_wire_request *q, const float *row)
{
    if (oc_session_old(e, s, q->sequence)) return OC_REPLY_REFUSED_ORDER;
    s->any = true;
    s->sequence = q->sequence;
    const bool finite = oc_batcher_finite(row, (size_t)shape_of(e)->inputs);
    const bool gap = s->run_length > 0 && q->run_length != s->run_length + 1 && q->run_length > 0;
    count(&e->stats.gaps, gap);
    if (q->run_length == 0 || !finite || gap) oc_session_begin_anew(e, s);
    if (!finite) return OC_REPLY_REFUSED_VALUE;
    s->run_length = q->run_length;
    return q->run_length == 0 ? OC_REPLY_HOLD_GAP : OC_REPLY_OK;
}

void oc_batcher_leave(oc_batcher *e, oc_channel *c)
{
    oc_ticks_leave(e, c);
    for (int i = 0; i < e->sessions_max; i++)
        if (e->sessions[i].id != 0 && e->sessions[i].channel == c) oc_session_end(e, &e->sessions[i]);
    __atomic_store_n(&c->state, OC_CHANNEL_LEFT, __ATOMIC_RELEASE);
}
