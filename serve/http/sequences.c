/* sequences.c - pushes over HTTP: a sequence of the Open Inference Protocol is a session of an asker's ring, found by
 * its id; streams of events (streams.c) lie in the same table. Their number is bounded, and those that nobody asks of
 * for config.sequence_idle_ns and four of their periods are closed by a thread of its own, so that a client that is
 * gone gives its share of the advance budget back. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/batcher.h"
#include "serve/http/front.h"

/* All three under the lock of the table. A new one is busy from the start. */
static oc_http_sequence *find(oc_http *h, const char *id, bool stream)
{
    for (int i = 0; i < h->config.sequences_max; i++) {
        oc_http_sequence *q = &h->sequences[i];
        if (q->id[0] && q->stream == stream && strcmp(q->id, id) == 0) return q;
    }
    return NULL;
}

static oc_http_sequence *add(oc_http *h, const char *id, bool stream)
{
    for (int i = 0; i < h->config.sequences_max; i++) {
        oc_http_sequence *q = &h->sequences[i];
        if (q->id[0]) continue;
        *q = (oc_http_sequence){.stream = stream, .busy = true};
        snprintf(q->id, sizeof q->id, "%s", id);
        __atomic_fetch_add(&h->sequences_open, 1, __ATOMIC_RELAXED);
        return q;
    }
    return NULL;
}

static void drop(oc_http *h, oc_http_sequence *q)
{
    *q = (oc_http_sequence){.id = ""};
    __atomic_fetch_sub(&h->sequences_open, 1, __ATOMIC_RELAXED);
}

/* A close that does not fit into the ring waits for the batcher; one that still does not is of a server that stops. */
void oc_http_sequence_close(const oc_http_sequence *q)
{
    const int64_t end = oc_clock_monotonic_ns() + OC_SECOND_NS;
    oc_client *client = q->asker->client;
    oc_wire_reply reply;
    while ((q->stream ? oc_client_stream_close(client, q->session) : oc_client_session_close(client, q->session)) ==
               OC_EAGAIN &&
           oc_clock_monotonic_ns() < end) {
        oc_client_wait(client, -1, OC_SECOND_NS / 100);
        while (oc_client_poll(client, &reply, 1) == 1) continue;
    }
}

/* The session on whichever asker's batcher still has room for it; the asker stays locked. */
static oc_http_asker *session_open(oc_http *h, const oc_http_slot *s, const oc_infer *r, oc_http_sequence *q)
{
    q->period_ns = r->period_ns > 0 ? r->period_ns : h->config.sequence_period_ns;
    for (int i = 0; i < h->asker_count; i++) {
        oc_http_asker *a = oc_http_asker_take(h);
        const int64_t left = s->begun_ns + h->config.timeout_ns - oc_clock_monotonic_ns();
        if (oc_client_session_open(a->client, h->model->name, r->symbol, h->model->schema.low, h->model->schema.high,
                                   q->period_ns, left, &q->session) == OC_OK)
            return a;
        oc_http_asker_give(h, a);
    }
    return NULL;
}

/* What the row is, where the request does not say: the next one, at a start the first. False: it contradicts itself. */
static bool row_number(const oc_http_sequence *q, const oc_infer *r, uint64_t *number, uint32_t *run_length)
{
    *number = r->number > 0 ? (uint64_t)r->number : (r->start ? 0 : q->number) + r->rows;
    *run_length = r->run_length >= 0 ? (uint32_t)r->run_length : (r->start ? 0 : q->run_length) + (uint32_t)r->rows;
    return r->rows == 1 || (r->start && *run_length >= r->rows && *number >= r->rows);
}

oc_http_sequence *oc_http_sequence_enter(oc_http *h, const char *id, bool stream, bool begins, oc_http_refusal *why,
                                         const char **message)
{
    pthread_mutex_lock(&h->sequences_lock);
    oc_http_sequence *q = find(h, id, stream);
    *why = OC_HTTP_ORDER, *message = "another request of this sequence is under way: ask one by one";
    if (q && q->busy) {
        q = NULL;
    } else if (q) {
        q->busy = true;
    } else if (!begins) {
        *why = OC_HTTP_SEQUENCE;
        *message = stream ? "this stream is not open: it never began, ended, or was idle too long "
                            "(serve.http_sequence_idle_s); open it anew, and send books and events of before"
                          : "this sequence is not open: it never began, ended, or was idle too long "
                            "(serve.http_sequence_idle_s); begin it by sequence_start";
    } else {
        q = add(h, id, stream);
        *why = OC_HTTP_FULL, *message = "all sequences are taken (serve.http_sequences); end one, or ask later";
    }
    pthread_mutex_unlock(&h->sequences_lock);
    return q;
}

void oc_http_sequence_leave(oc_http *h, oc_http_sequence *q, bool end)
{
    pthread_mutex_lock(&h->sequences_lock);
    q->used_ns = oc_clock_monotonic_ns();
    q->busy = false;
    if (end) drop(h, q);
    pthread_mutex_unlock(&h->sequences_lock);
}

/* A start begins anew, also where the sequence is open. Returns with the asker locked, or NULL. */
static oc_http_asker *asker_of(oc_http *h, const oc_http_slot *s, const oc_infer *r, oc_http_sequence *q)
{
    if (q->asker) oc_http_asker_hold(h, q->asker);
    if (!r->start) return q->asker;
    if (q->asker) {
        oc_http_sequence_close(q);
        oc_http_asker_give(h, q->asker);
    }
    q->number = q->run_length = 0;
    return q->asker = session_open(h, s, r, q);
}

/* The same request may come again, to another version or with another number. */
static bool not_taken(uint32_t state)
{
    return state == OC_REPLY_REFUSED_ORDER || state == OC_REPLY_REFUSED_VERSION;
}

static oc_status row_push(oc_http *h, oc_http_asker *a, oc_http_slot *s, oc_infer *r, oc_http_sequence *q,
                          uint64_t number, uint32_t run_length, oc_http_asked *asked)
{
    OC_TRY(oc_http_ask_push(h, a, s, r, q->session, number, run_length, asked));
    r->number = (int64_t)number;
    if (not_taken(asked->worst)) return OC_OK;
    q->number = number;
    q->run_length = asked->worst == OC_REPLY_REFUSED_VALUE ? 0 : run_length;
    return OC_OK;
}

enum MHD_Result oc_http_push(oc_http *h, struct MHD_Connection *c, oc_http_slot *s, oc_infer *r)
{
    oc_http_refusal why;
    const char *message;
    oc_http_asked asked;
    uint64_t number;
    uint32_t run_length;
    oc_http_sequence *q = oc_http_sequence_enter(h, r->sequence_id, false, r->start, &why, &message);
    if (!q) return oc_http_refuse(h, c, why, message);
    if (!row_number(q, r, &number, &run_length)) {
        oc_http_sequence_leave(h, q, !q->asker); /* one that is open stays as it is */
        (void)OC_FAIL(OC_EDATA, "\"sequence\" and \"run_length\" are those of the last row: at least %zu", r->rows);
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
    }
    oc_http_asker *a = asker_of(h, s, r, q);
    if (!a) {
        oc_http_sequence_leave(h, q, true);
        return oc_http_refuse(h, c, OC_HTTP_FULL,
                              "no session is left, or no time for its advances: serve.sessions, serve.advance_budget, "
                              "and outcry_sessions and outcry_advance_budget_used in /metrics");
    }
    const bool lost = row_push(h, a, s, r, q, number, run_length, &asked) != OC_OK,
               gone = !lost && asked.worst == OC_REPLY_REFUSED_SESSION, again = !lost && not_taken(asked.worst),
               end = lost || gone || (again ? r->start : r->end); /* not taken: it ends nothing, or began nothing */
    if (end) oc_http_sequence_close(q);
    oc_http_asker_give(h, a);
    oc_http_sequence_leave(h, q, end);
    if (lost) /* whether the row was taken is not known, so nothing may follow it */
        return oc_http_refuse(h, c, OC_HTTP_OVERLOAD,
                              "overloaded: no answer in time; the sequence is closed, begin anew");
    return oc_http_finish(h, c, s, r, &asked);
}

/* ---- idle sequences ------------------------------------------------------------------------------------------------
 */
static oc_http_sequence *idle_find(oc_http *h, int64_t now)
{
    for (int i = 0; i < h->config.sequences_max; i++) {
        oc_http_sequence *q = &h->sequences[i];
        const int64_t most = oc_batcher_patience_ns(h->config.sequence_idle_ns, q->period_ns);
        if (q->id[0] && !q->busy && now - q->used_ns > most) return q;
    }
    return NULL;
}

static void *tender_main(void *argument)
{
    oc_http *h = argument;
    pthread_mutex_lock(&h->sequences_lock);
    while (!h->stopping) {
        oc_http_sequence *q = idle_find(h, oc_clock_monotonic_ns());
        if (q) {
            q->busy = true;
            pthread_mutex_unlock(&h->sequences_lock);
            oc_http_asker_hold(h, q->asker);
            oc_http_sequence_close(q);
            oc_http_asker_give(h, q->asker);
            __atomic_fetch_add(&h->sequences_expired, 1, __ATOMIC_RELAXED);
            pthread_mutex_lock(&h->sequences_lock);
            drop(h, q);
            continue;
        }
        pthread_mutex_unlock(&h->sequences_lock);
        oc_http_connections_tend(h);
        oc_http_explainer_tend(h);
        pthread_mutex_lock(&h->sequences_lock);
        if (h->stopping) break;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        const int64_t nap =
                          h->config.sequence_idle_ns / 4 < OC_SECOND_NS ? h->config.sequence_idle_ns / 4 : OC_SECOND_NS,
                      at = until.tv_nsec + nap;
        until.tv_sec += (time_t)(at / OC_SECOND_NS);
        until.tv_nsec = (long)(at % OC_SECOND_NS);
        pthread_cond_timedwait(&h->sequences_stop, &h->sequences_lock, &until);
    }
    pthread_mutex_unlock(&h->sequences_lock);
    return NULL;
}

oc_status oc_http_sequences_open(oc_http *h)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&h->sequences_stop, &attributes);
    pthread_condattr_destroy(&attributes);
    OC_TRY(oc_memory_new_array(&h->sequences, (size_t)h->config.sequences_max, sizeof *h->sequences, "sequences"));
    const int code = pthread_create(&h->tender, NULL, tender_main, h);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    h->tending = true;
    return OC_OK;
}

void oc_http_sequences_close(oc_http *h)
{
    if (h->tending) {
        pthread_mutex_lock(&h->sequences_lock);
        h->stopping = true;
        pthread_cond_signal(&h->sequences_stop);
        pthread_mutex_unlock(&h->sequences_lock);
        pthread_join(h->tender, NULL);
        pthread_cond_destroy(&h->sequences_stop);
    }
    oc_memory_free(h->sequences);
}
