/* inference.c - one inference request: read, asked of the model, answered. What a reply's state means in HTTP stands in
 * one table: an answer (HOLD among them, with its reason), or a refusal. */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "serve/http/front.h"

enum { SWAPS_MAX = 4 };

static const struct {
    bool answered;
    oc_http_refusal why; /* where it is not */
    const char *message;
} meanings[OC_REPLY_STATE_COUNT] = {
    [OC_REPLY_OK] = {true, 0, NULL},
    [OC_REPLY_LATE] = {true, 0, NULL},
    [OC_REPLY_HOLD_SHORT] = {true, 0, NULL},
    [OC_REPLY_HOLD_GAP] = {true, 0, NULL},
    [OC_REPLY_REFUSED_VALUE] = {false, OC_HTTP_VALUE, "a number of the window is not finite"},
    [OC_REPLY_REFUSED_SHAPE] = {false, OC_HTTP_REQUEST, "the rows are not those of the model"},
    [OC_REPLY_REFUSED_ORDER] = {false, OC_HTTP_ORDER,
                                "the row's number \"sequence\" did not rise: it, or a later "
                                "one, was taken before"},
    [OC_REPLY_REFUSED_SESSION] = {false, OC_HTTP_SEQUENCE,
                                  "this sequence has ended: nobody asked of it for too long (serve.session_idle_s); "
                                  "begin it by sequence_start"},
    [OC_REPLY_REFUSED_OVERLOAD] = {false, OC_HTTP_OVERLOAD, "overloaded: the window waited longer than it may"},
    [OC_REPLY_REFUSED_DRAINING] = {false, OC_HTTP_DRAINING, "the server is stopping"},
    [OC_REPLY_REFUSED_VERSION] = {false, OC_HTTP_PATH,
                                  "another version answers now than the one of the path; nothing was taken in"},
};

static void total_add(oc_http_total *t, int64_t ns)
{
    __atomic_fetch_add(&t->ns, (uint64_t)ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&t->count, 1, __ATOMIC_RELAXED);
}

enum MHD_Result oc_http_finish(oc_http *h, struct MHD_Connection *c, oc_http_slot *s, oc_infer *r,
                               const oc_http_asked *asked)
{
    const oc_infer_answer answer = {
        .probabilities = s->probabilities, .times = asked->times, .state = asked->worst, .version = asked->version};
    if (asked->worst >= OC_REPLY_STATE_COUNT || (!meanings[asked->worst].answered && !meanings[asked->worst].message))
        return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server could not answer");
    if (!meanings[asked->worst].answered)
        return oc_http_refuse(h, c, meanings[asked->worst].why, meanings[asked->worst].message);
    const int64_t start_ns = oc_clock_monotonic_ns();
    s->answer_bytes = oc_infer_print(r, h->model, &answer, s->answer, h->answer_cap, &s->json_bytes);
    assert(s->answer_bytes > 0);
    const int64_t now_ns = oc_clock_monotonic_ns();
    total_add(&h->writing, now_ns - start_ns);
    oc_histogram_add_shared(&h->whole, now_ns - s->begun_ns);
    return oc_http_send(h, c, r, s);
}

enum MHD_Result oc_http_infer(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_infer r = {.values = s->values, .values_cap = h->values_cap};
    oc_http_asked asked;
    const int64_t start_ns = oc_clock_monotonic_ns();
    if (oc_infer_parse(&r, h->model, (size_t)h->config.batch_max, s->body, s->body_bytes, s->json_header) != OC_OK)
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
    total_add(&h->reading, oc_clock_monotonic_ns() - start_ns);
    if (r.schema_given && !(r.schema.low == h->model->schema.low && r.schema.high == h->model->schema.high))
        return oc_http_refuse(h, c, OC_HTTP_SCHEMA,
                              "the rows were computed under another feature schema than the "
                              "model's: its metadata says which");
    if (r.sequence_id[0]) return oc_http_push(h, c, s, &r);
    oc_http_asker *a = oc_http_asker_take(h);
    oc_status status = OC_OK;
    for (int i = 0; i < SWAPS_MAX && status == OC_OK && (i == 0 || asked.mixed); i++) /* one answer, one version */
        status = oc_http_ask_windows(h, a, s, &r, &asked);
    oc_http_asker_give(h, a);
    if (status == OC_OK && asked.mixed) status = OC_EAGAIN;
    if (status != OC_OK) return oc_http_refuse(h, c, OC_HTTP_OVERLOAD, "overloaded: no answer in time");
    return oc_http_finish(h, c, s, &r, &asked);
}
