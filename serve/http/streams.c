/* streams.c - market events over HTTP, an extension of our own, as a tensor is no form for them: a stream of an asker's
 * ring, found by its name. It is opened by a JSON body that says its universe, takes bodies of events as .events files
 * hold them (market/event.h), and answers a line for each row that they made. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "market/event.h"
#include "market/instrument.h"
#include "serve/http/front.h"
#include "serve/metrics.h"
#include "serve/status.h"

typedef struct opening {
    oc_wire_instrument universe[OC_WIRE_INSTRUMENTS_MAX];
    uint32_t instruments;
    bool begins;
    int64_t period_ns, timeout_us;
} opening;

static OC_MUST decimal_read(const json_t *from, const char *key, const char *otherwise, int64_t *mantissa,
                            int32_t *exponent)
{
    const char *text = otherwise;
    oc_decimal d;
    if (json_object_get(from, key) || !otherwise) OC_TRY(oc_json_text(from, key, "universe", &text));
    if (!oc_decimal_parse(text, &d))
        return OC_FAIL(OC_EDATA, "universe: %s is \"%.40s\", not a decimal above 0 such as \"0.01\"", key, text);
    *mantissa = d.mantissa;
    *exponent = d.exponent;
    return OC_OK;
}

static OC_MUST instrument_read(const json_t *from, oc_wire_instrument *out)
{
    const char *symbol;
    OC_TRY(oc_json_text(from, "symbol", "universe", &symbol));
    if (!(strlen(symbol) >= 1 && strlen(symbol) < sizeof out->symbol))
        return OC_FAIL(OC_EDATA, "universe: a symbol has 1 to %zu bytes", sizeof out->symbol - 1);
    *out = (oc_wire_instrument){.reserved = 0};
    memcpy(out->symbol, symbol, strlen(symbol));
    OC_TRY(decimal_read(from, "tick", NULL, &out->tick, &out->tick_exponent));
    return decimal_read(from, "lot", "1", &out->lot, &out->lot_exponent);
}

static OC_MUST opening_read(const json_t *body, int64_t period_ns, opening *o)
{
    json_t *universe, *begins = json_object_get(body, "begins");
    OC_TRY(oc_json_get(body, "universe", "request", JSON_ARRAY, &universe));
    if (!(json_array_size(universe) >= 1 && json_array_size(universe) <= OC_WIRE_INSTRUMENTS_MAX))
        return OC_FAIL(OC_EDATA, "universe: 1 to %d instruments", OC_WIRE_INSTRUMENTS_MAX);
    if (begins && !json_is_boolean(begins)) return OC_FAIL(OC_EDATA, "begins: true or false");
    o->begins = json_is_true(begins);
    o->period_ns = period_ns;
    if (json_object_get(body, "period_ns"))
        OC_TRY(oc_json_int(body, "period_ns", "request", 1, INT64_C(1000000000000000), &o->period_ns));
    o->timeout_us = 0;
    if (json_object_get(body, "timeout"))
        OC_TRY(oc_json_int(body, "timeout", "request", 0, INT64_MAX / 4000, &o->timeout_us));
    for (o->instruments = 0; o->instruments < json_array_size(universe); o->instruments++)
        OC_TRY(instrument_read(json_array_get(universe, o->instruments), &o->universe[o->instruments]));
    return OC_OK;
}

/* On whichever asker's batcher has room for it; the asker is given back. */
static oc_status stream_begin(oc_http *h, const oc_http_slot *s, const opening *o, oc_http_sequence *q,
                              oc_client_stream *stream)
{
    oc_status status = OC_EAGAIN;
    for (int i = 0; i < h->asker_count && status == OC_EAGAIN; i++) {
        oc_http_asker *a = oc_http_asker_take(h);
        const int64_t left = s->begun_ns + h->config.timeout_ns - oc_clock_monotonic_ns();
        status = oc_client_stream_open(a->client, h->model->name, o->universe, o->instruments, o->period_ns, o->begins,
                                       left, stream);
        if (status == OC_OK)
            q->asker = a, q->session = stream->id, q->period_ns = o->period_ns, q->timeout_ns = 1000 * o->timeout_us;
        oc_http_asker_give(h, a);
    }
    return status;
}

/* One that is open begins anew. */
enum MHD_Result oc_http_stream_open(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_http_refusal why;
    const char *message;
    json_t *body = NULL;
    opening o;
    oc_client_stream stream;
    oc_text text = {0};
    oc_status status = s->body_bytes > OC_INFER_JSON_MAX
                           ? OC_FAIL(OC_EDATA, "request: over %d bytes", OC_INFER_JSON_MAX)
                           : oc_json_parse(s->body, s->body_bytes, "request", &body);
    if (status == OC_OK) status = opening_read(body, h->config.sequence_period_ns, &o);
    json_decref(body);
    if (status != OC_OK) return oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
    oc_http_sequence *q = oc_http_sequence_enter(h, s->stream, true, true, &why, &message);
    if (!q) return oc_http_refuse(h, c, why, message);
    if (q->asker) {
        oc_http_asker_hold(h, q->asker);
        oc_http_sequence_close(q);
        oc_http_asker_give(h, q->asker);
    }
    status = stream_begin(h, s, &o, q, &stream);
    oc_http_sequence_leave(h, q, status != OC_OK);
    why = status == OC_EAGAIN                               ? OC_HTTP_FULL
          : __atomic_load_n(&h->draining, __ATOMIC_RELAXED) ? OC_HTTP_DRAINING
                                                            : OC_HTTP_SCHEMA;
    if (status != OC_OK) return oc_http_refuse(h, c, why, oc_status_message());
    oc_text_add(&text, "{\"stream\":\"%s\",\"history_rows\":%" PRIu32 ",\"history_ns\":%" PRId64 "}", s->stream,
                stream.history_rows, stream.history_ns);
    return oc_http_send_text(h, c, "application/json", &text);
}

typedef struct writing {
    oc_text text;
    size_t rows;
} writing;

static void row_write(void *context, const oc_wire_reply *reply)
{
    writing *w = context;
    if (reply->state == OC_REPLY_HOLD_NO_ROW || reply->state >= OC_REPLY_STATE_COUNT) return;
    if (oc_reply_refused(reply->state)) return;
    oc_text_add(
        &w->text, "%s{\"instrument\":%d,\"sequence\":%" PRIu64 ",\"time_ns\":%" PRId64 ",\"state\":\"%s\",\"version\":",
        w->rows++ ? "," : "", reply->instrument, reply->sequence, reply->input_ns, oc_reply_names[reply->state]);
    oc_status_string(&w->text, reply->version_text);
    oc_text_add(&w->text, ",\"probabilities\":[");
    for (int i = 0; i < reply->horizons; i++) {
        const float *p = reply->probabilities[i];
        oc_text_add(&w->text, "%s[%.9g,%.9g,%.9g]", i ? "," : "", (double)p[0], (double)p[1], (double)p[2]);
    }
    oc_text_add(&w->text, "]}");
}

/* Events whose last reply refuses one: what those before it were answered goes out all the same. Frees w->text. */
static enum MHD_Result event_refuse(oc_http *h, struct MHD_Connection *c, const oc_wire_reply *last, writing *w)
{
    const bool order = last->state == OC_REPLY_REFUSED_ORDER;
    oc_text_add(&w->text,
                "],\"error\":\"event %" PRIu64 " of time %" PRId64 " %s: what follows it in the request was dropped, "
                "and the stream goes on as behind a gap\"}",
                last->sequence, last->input_ns, order ? "does not come behind the one before" : "is none");
    return oc_http_refuse_text(h, c, order ? OC_HTTP_ORDER : OC_HTTP_VALUE, &w->text);
}

enum MHD_Result oc_http_stream_events(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    const size_t count = s->body_bytes / sizeof(oc_event);
    oc_http_refusal why;
    const char *message;
    oc_wire_reply last = {.state = OC_REPLY_OK};
    writing w = {.rows = 0};
    if (!(count >= 1 && count <= OC_WIRE_EVENTS_MAX && s->body_bytes % sizeof(oc_event) == 0))
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, "the body is not 1 to 512 events of 88 bytes");
    oc_http_sequence *q = oc_http_sequence_enter(h, s->stream, true, false, &why, &message);
    if (!q) return oc_http_refuse(h, c, why, message);
    oc_text_add(&w.text, "{\"stream\":\"%s\",\"answers\":[", s->stream);
    oc_http_asker_hold(h, q->asker);
    const oc_status status =
        oc_http_ask_events(h, q, s, (const oc_event *)(const void *)s->body, count, &last, row_write, &w);
    if (status != OC_OK) oc_http_sequence_close(q);
    oc_http_asker_give(h, q->asker);
    oc_http_sequence_leave(h, q, status != OC_OK || last.state == OC_REPLY_REFUSED_SESSION);
    if (status == OC_OK && !oc_reply_refused(last.state)) {
        oc_text_add(&w.text, "]}");
        oc_histogram_add_shared(&h->whole, oc_clock_monotonic_ns() - s->begun_ns);
        return oc_http_send_text(h, c, "application/json", &w.text);
    }
    if (status == OC_OK && (last.state == OC_REPLY_REFUSED_ORDER || last.state == OC_REPLY_REFUSED_EVENT))
        return event_refuse(h, c, &last, &w);
    oc_text_free(&w.text);
    if (status != OC_OK)
        return oc_http_refuse(h, c, OC_HTTP_OVERLOAD,
                              "overloaded: not all answers in time; the stream is closed, open it anew");
    if (last.state == OC_REPLY_REFUSED_SESSION)
        return oc_http_refuse(h, c, OC_HTTP_SEQUENCE,
                              "the server has ended this stream, as nobody asked of it for serve.session_idle_s");
    return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server could not answer");
}

enum MHD_Result oc_http_stream_close(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_http_refusal why;
    const char *message;
    oc_http_sequence *q = oc_http_sequence_enter(h, s->stream, true, false, &why, &message);
    if (!q) return oc_http_refuse(h, c, why, message);
    oc_http_asker_hold(h, q->asker);
    oc_http_sequence_close(q);
    oc_http_asker_give(h, q->asker);
    oc_http_sequence_leave(h, q, true);
    return oc_http_say(h, c, "{\"closed\":true}");
}
