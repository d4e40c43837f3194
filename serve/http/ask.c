/* ask.c - requests through the rings. A reply that nobody waits for any more, of a request that was given up, is told
 * by its kind, session and sequence, and dropped. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "market/event.h"
#include "serve/channel.h"
#include "serve/http/front.h"

/* UNANSWERED: windows of a request in the ring at once; the server drops replies that their ring does not hold, and
 * half of it may still hold those of a request that was given up. */
enum {
    REPLIES = 64,
    SLICE_NS = 2000,
    CROWDED_NS = 100000000,
    LOOK_MAX = 10,
    UNANSWERED = OC_CHANNEL_REPLY_BYTES / sizeof(oc_wire_reply) / 2
};

oc_status oc_http_askers_open(oc_http *h)
{
    char address[OC_WIRE_REGION_OFFSET];
    snprintf(address, sizeof address, "unix:%s", h->config.socket);
    OC_TRY(oc_memory_new_array(&h->askers, (size_t)h->config.threads, sizeof *h->askers, "HTTP threads"));
    for (int i = 0; i < h->config.threads; i++) {
        OC_TRY(oc_client_open(&h->askers[i].client, address, OC_SECOND_NS));
        pthread_mutex_init(&h->askers[i].lock, NULL);
        h->askers[i].sequence = 1;
        h->asker_count = i + 1;
    }
    return OC_OK;
}

void oc_http_askers_close(oc_http *h)
{
    assert(h->asking == 0); /* each that was taken has been given back */
    for (int i = 0; i < h->asker_count; i++) {
        oc_client_close(h->askers[i].client);
        pthread_mutex_destroy(&h->askers[i].lock);
    }
    oc_memory_free(h->askers);
}

/* There is one a thread, and a thread holds one at most: unless pushes wait for this very one, one is free. */
oc_http_asker *oc_http_asker_take(oc_http *h)
{
    const uint32_t n = (uint32_t)h->asker_count, first = __atomic_fetch_add(&h->asker_next, 1, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < n; i++) {
        oc_http_asker *a = &h->askers[(first + i) % n];
        if (pthread_mutex_trylock(&a->lock) != 0) continue;
        __atomic_fetch_add(&h->asking, 1, __ATOMIC_RELAXED);
        return a;
    }
    oc_http_asker_hold(h, &h->askers[first % n]);
    return &h->askers[first % n];
}

/* Whoever waits for it counts already: requests compete. */
void oc_http_asker_hold(oc_http *h, oc_http_asker *a)
{
    __atomic_fetch_add(&h->asking, 1, __ATOMIC_RELAXED);
    pthread_mutex_lock(&a->lock);
}

void oc_http_asker_give(oc_http *h, oc_http_asker *a)
{
    __atomic_fetch_sub(&h->asking, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&a->lock);
}

/* For what was sent at sent_ns: until there may be something, at most until end_ns. Whose request is the only one looks
 * for its answer for serve.http_spin_us longer than the last one took to compute: on idle cores a wake each way is most
 * of what HTTP costs (a window of shape S 183 to 130 us). Beside a computation of LOOK_MAX times that it is nothing.
 * Where requests compete it sleeps at once, and the batcher that sees it does not spin behind the answer: on two busy
 * cores that took a request from 302 to 243 us. So it does for CROWDED_NS once looking was in vain: then the batcher
 * waits for a core, this one perhaps. (To yield it in between is worse: who takes it keeps it for its slice.) */
static OC_MUST answer_wait(const oc_http *h, oc_http_asker *a, int64_t sent_ns, int64_t end_ns)
{
    const int64_t now = oc_clock_monotonic_ns(), looked_ns = now - sent_ns, spin_ns = h->config.spin_ns,
                  look_ns = a->service_ns <= LOOK_MAX * spin_ns ? a->service_ns + spin_ns : 0;
    const bool may = look_ns > 0 && now >= a->crowded_until_ns;
    if (!(now < end_ns)) return OC_FAIL(OC_EAGAIN, "no answer in time");
    if (may && looked_ns < look_ns && __atomic_load_n(&h->asking, __ATOMIC_RELAXED) == 1) {
        oc_client_wait(a->client, SLICE_NS, SLICE_NS);
        return OC_OK;
    }
    if (may && looked_ns >= look_ns) a->crowded_until_ns = now + CROWDED_NS;
    oc_client_wait(a->client, -1, end_ns - now);
    return OC_OK;
}

typedef struct asking {
    size_t batch, sent, answered, outputs;
    uint64_t first;
    float *probabilities;
    oc_http_asked *out;
} asking;

static void reply_add(oc_http_asked *out, const oc_wire_reply *reply)
{
    if (reply->state > out->worst) out->worst = reply->state;
    if (reply->queue_ns > out->times.queue_ns) out->times.queue_ns = reply->queue_ns;
    if (reply->service_ns > out->times.service_ns) out->times.service_ns = reply->service_ns;
    if (oc_reply_refused(reply->state)) return; /* no version answered */
    out->mixed |= out->generation != 0 && out->generation != reply->model_version;
    out->generation = reply->model_version;
    memcpy(out->version, reply->version_text, sizeof out->version);
    out->version[sizeof out->version - 1] = 0;
}

static void replies_take(asking *q, oc_client *client)
{
    oc_wire_reply replies[REPLIES];
    const size_t n = oc_client_poll(client, replies, REPLIES);
    for (size_t i = 0; i < n; i++) {
        const uint64_t index = replies[i].sequence - q->first;
        if (replies[i].kind != OC_REQUEST_WINDOW || index >= q->batch) continue;
        memcpy(q->probabilities + index * q->outputs, replies[i].probabilities, q->outputs * sizeof *q->probabilities);
        reply_add(q->out, &replies[i]);
        q->answered++;
    }
}

/* All windows into the ring as fast as it takes them, so that the batcher batches them; replies are read meanwhile. */
oc_status oc_http_ask_windows(const oc_http *h, oc_http_asker *a, oc_http_slot *s, const oc_infer *r,
                              oc_http_asked *out)
{
    const oc_model_shape *shape = &h->model->shape;
    const size_t cells = (size_t)shape->steps * (size_t)shape->inputs;
    asking q = {.batch = r->batch,
                .first = a->sequence,
                .outputs = (size_t)shape->horizons * OC_CLASSES,
                .probabilities = s->probabilities,
                .out = out};
    const int64_t end = s->begun_ns + h->config.timeout_ns,
                  deadline_ns = r->timeout_ns > 0 ? s->begun_ns + r->timeout_ns : 0;
    const int64_t sent_ns = oc_clock_monotonic_ns();
    *out = (oc_http_asked){.worst = OC_REPLY_OK};
    a->sequence += r->batch;
    while (q.answered < q.batch) {
        while (q.sent < q.batch && q.sent - q.answered < UNANSWERED) {
            const oc_stamp stamp = {.sequence = q.first + q.sent,
                                    .input_ns = s->begun_ns,
                                    .deadline_ns = deadline_ns,
                                    .model_version = s->generation};
            const oc_status status =
                oc_client_window(a->client, 0, stamp, r->values + q.sent * cells, (size_t)shape->steps);
            if (status == OC_EAGAIN) break;
            OC_TRY(status);
            q.sent++;
        }
        OC_TRY(answer_wait(h, a, sent_ns, end));
        replies_take(&q, a->client);
    }
    a->service_ns = out->times.service_ns;
    return OC_OK;
}

/* The reply of `kind` to session and sequence; others are of nobody. */
static OC_MUST reply_await(const oc_http *h, oc_http_asker *a, uint32_t kind, uint32_t session, uint64_t number,
                           int64_t end_ns, oc_wire_reply *reply)
{
    const int64_t sent_ns = oc_clock_monotonic_ns();
    for (;;) {
        while (oc_client_poll(a->client, reply, 1) == 1)
            if (reply->kind == kind && reply->session == session && reply->sequence == number) return OC_OK;
        OC_TRY(answer_wait(h, a, sent_ns, end_ns));
    }
}

oc_status oc_http_ask_push(const oc_http *h, oc_http_asker *a, oc_http_slot *s, const oc_infer *r, uint32_t session,
                           uint64_t number, uint32_t run_length, oc_http_asked *out)
{
    const oc_model_shape *shape = &h->model->shape;
    const size_t stored = r->rows - 1;
    const int64_t end = s->begun_ns + h->config.timeout_ns,
                  deadline_ns = r->timeout_ns > 0 ? s->begun_ns + r->timeout_ns : 0;
    oc_stamp stamp = {.sequence = number - 1, .input_ns = s->begun_ns, .model_version = s->generation};
    oc_wire_reply reply;
    *out = (oc_http_asked){.worst = OC_REPLY_OK};
    if (stored > 0) {
        OC_TRY(oc_client_history(a->client, session, stamp, r->values, stored, run_length - 1));
        OC_TRY(reply_await(h, a, OC_REQUEST_HISTORY, session, stamp.sequence, end, &reply));
        out->worst = reply.state;
        if (reply.state != OC_REPLY_OK) return OC_OK;
    }
    stamp.sequence = number;
    stamp.deadline_ns = deadline_ns;
    OC_TRY(oc_client_push(a->client, session, stamp, r->values + stored * (size_t)shape->inputs, run_length));
    OC_TRY(reply_await(h, a, OC_REQUEST_PUSH, session, number, end, &reply));
    memcpy(s->probabilities, reply.probabilities, (size_t)shape->horizons * OC_CLASSES * sizeof *s->probabilities);
    reply_add(out, &reply);
    a->service_ns = out->times.service_ns;
    return OC_OK;
}

oc_status oc_http_ask_events(const oc_http *h, const oc_http_sequence *q, oc_http_slot *s, const oc_event *events,
                             size_t count, oc_wire_reply *last, void (*take)(void *, const oc_wire_reply *),
                             void *context)
{
    const oc_event *end = &events[count - 1];
    const oc_stamp stamp = {.sequence = end->sequence,
                            .input_ns = end->receive_ns,
                            .deadline_ns = q->timeout_ns > 0 ? s->begun_ns + q->timeout_ns : 0};
    oc_client *client = q->asker->client;
    const int64_t end_ns = s->begun_ns + h->config.timeout_ns, sent_ns = oc_clock_monotonic_ns();
    OC_TRY(oc_client_tick(client, q->session, stamp, events, count));
    for (size_t n = 0; n < count;) { /* an event has one reply at most */
        while (n < count && oc_client_poll(client, last, 1) == 1) {
            if (last->kind != OC_REQUEST_TICK || last->session != q->session) continue;
            n++;
            take(context, last);
            if (oc_reply_refused(last->state)) return OC_OK; /* what followed the event was dropped */
            if (last->sequence == end->sequence && last->input_ns == end->receive_ns) return OC_OK;
        }
        OC_TRY(answer_wait(h, q->asker, sent_ns, end_ns));
    }
    return OC_FAIL(OC_EFAILED, "more replies than events");
}
