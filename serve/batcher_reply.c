/* batcher_reply.c - a reply: its state, its times, its counters. */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "serve/batcher_parts.h"

#define SUM_OFF 1e-5f /* of f32 sums of three; an ensemble's weights add 1e-6 */

/* A full ring of replies drops and counts: a client that does not read never holds the others up. */
void oc_batcher_answer(oc_batcher *e, const oc_pending *p, uint32_t session, oc_reply_state state,
                       const float *probabilities)
{
    const int64_t now = oc_clock_monotonic_ns();
    const oc_wire_request *q = &p->request;
    const oc_version *version = e->slots[p->slot].version;
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
                           .model_version = version->generation,
                           .horizons = (uint16_t)shape_of(e)->horizons,
                           .instrument = (uint16_t)p->instrument};
    memcpy(reply.version_text, version->text, sizeof reply.version_text);
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
    if (computed) oc_observed_times(&e->observed, reply.queue_ns, reply.service_ns, now);
}

bool oc_batcher_probable(const oc_batcher *e, const float *answer)
{
    for (int h = 0; h < shape_of(e)->horizons; h++) {
        const float *p = answer + h * OC_CLASSES, sum = p[0] + p[1] + p[2];
        if (!(p[0] >= 0 && p[1] >= 0 && p[2] >= 0 && sum >= 1 - SUM_OFF && sum <= 1 + SUM_OFF)) return false;
    }
    return true;
}

/* Said once; readiness is off from then on, and every call fails at once. */
static bool lost(oc_batcher *e)
{
    if (e->stats.lost) return true;
    if (!oc_model_lost(e->slots[e->live].models[0])) return false;
    count(&e->stats.lost, 1);
    oc_log_failure(OC_LOG_ERROR);
    oc_log(OC_LOG_ERROR,
           "serve: batcher %d: the GPU answers no more: not ready; every request is FAILED, HOLD, until this "
           "server is started anew",
           e->index);
    return true;
}

void oc_batcher_failure_say(oc_batcher *e)
{
    if (!lost(e) && oc_log_due(&e->failure_due_ns)) oc_log_failure(OC_LOG_ERROR);
}

void oc_batcher_improbable_say(oc_batcher *e, int slot, const float *answer)
{
    const oc_version *v = e->slots[slot].version;
    if (!oc_log_due(&e->failure_due_ns)) return;
    oc_log(OC_LOG_ERROR,
           "serve: model %s version %s answers %g, %g, %g, ..., which are no probabilities: replies FAILED, HOLD; "
           "put another version live",
           v->name, v->text, (double)answer[0], (double)answer[1], (double)answer[2]);
}

void oc_batcher_failed(oc_batcher *e, const oc_pending *list, int n)
{
    oc_batcher_failure_say(e);
    for (int i = 0; i < n; i++) oc_batcher_answer(e, &list[i], list[i].request.session, OC_REPLY_FAILED, NULL);
}
