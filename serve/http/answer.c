/* answer.c - answers as libmicrohttpd takes them, counted by status and, where they refuse, by reason. */
#include <stdio.h>
#include <string.h>

#include "serve/http/front.h"

enum { MESSAGE_BYTES = 600 };

static const struct {
    const char *name;
    int status;
} refusals[] = {
#define ROW(refusal, name, status) {name, status},
    OC_HTTP_REFUSALS(ROW)
#undef ROW
};

const char *oc_http_refusal_name(oc_http_refusal why)
{
    return refusals[why].name;
}

bool oc_http_status_known(int status)
{
    bool known = status == MHD_HTTP_OK;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) known |= refusals[i].status == status;
    return known;
}

void oc_http_refusal_count(oc_http *h, oc_http_refusal why)
{
    __atomic_fetch_add(&h->refusals[why], 1, __ATOMIC_RELAXED);
}

/* Takes the response over. Where the server is stopping, it is the last of its connection. */
enum MHD_Result oc_http_queue(oc_http *h, struct MHD_Connection *c, int status, struct MHD_Response *r, bool good)
{
    if (__atomic_load_n(&h->draining, __ATOMIC_RELAXED) && !MHD_get_response_header(r, MHD_HTTP_HEADER_CONNECTION))
        good = good && MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    const enum MHD_Result done = good ? MHD_queue_response(c, (unsigned)status, r) : MHD_NO;
    MHD_destroy_response(r);
    __atomic_fetch_add(&h->answers[status], 1, __ATOMIC_RELAXED);
    return done;
}

static enum MHD_Result respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, const char *data,
                               size_t bytes, const char *allowed, bool last)
{
    union {
        const char *in;
        void *out;
    } borrowed = {.in = data};
    const struct {
        bool wanted;
        const char *name, *value;
    } headers[] = {{true, MHD_HTTP_HEADER_CONTENT_TYPE, type},
                   {status == MHD_HTTP_UNAUTHORIZED, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer"},
                   {allowed != NULL, MHD_HTTP_HEADER_ALLOW, allowed},
                   {last, MHD_HTTP_HEADER_CONNECTION, "close"}};
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, borrowed.out, MHD_RESPMEM_MUST_COPY);
    bool good = r != NULL;
    if (!good) return MHD_NO;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (headers[i].wanted) good = good && MHD_add_response_header(r, headers[i].name, headers[i].value) == MHD_YES;
    return oc_http_queue(h, c, status, r, good);
}

enum MHD_Result oc_http_respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, const char *data,
                                size_t bytes, bool last)
{
    return respond(h, c, status, type, data, bytes, NULL, last);
}

enum MHD_Result oc_http_say(oc_http *h, struct MHD_Connection *c, const char *json)
{
    return oc_http_respond(h, c, MHD_HTTP_OK, "application/json", json, strlen(json), false);
}

static enum MHD_Result text_respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, oc_text *text)
{
    const enum MHD_Result good = oc_text_finish(text, "an answer") == OC_OK
                                     ? oc_http_respond(h, c, status, type, text->data, text->bytes, false)
                                     : MHD_NO;
    oc_text_free(text);
    return good;
}

enum MHD_Result oc_http_send_text(oc_http *h, struct MHD_Connection *c, const char *type, oc_text *text)
{
    return text_respond(h, c, MHD_HTTP_OK, type, text);
}

enum MHD_Result oc_http_refuse_text(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, oc_text *text)
{
    oc_http_refusal_count(h, why);
    return text_respond(h, c, refusals[why].status, "application/json", text);
}

static enum MHD_Result refuse(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message,
                              const char *allowed, bool last)
{
    char escaped[MESSAGE_BYTES], text[MESSAGE_BYTES + 100];
    oc_infer_escape(escaped, sizeof escaped, message);
    const int n = snprintf(text, sizeof text, "{\"error\":\"%s\"}", escaped);
    oc_http_refusal_count(h, why);
    return respond(h, c, refusals[why].status, "application/json", text, (size_t)n, allowed, last);
}

enum MHD_Result oc_http_refuse(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message)
{
    return refuse(h, c, why, message, NULL, false);
}

enum MHD_Result oc_http_refuse_last(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message)
{
    return refuse(h, c, why, message, NULL, true);
}

enum MHD_Result oc_http_refuse_method(oc_http *h, struct MHD_Connection *c, const char *allowed)
{
    return refuse(h, c, OC_HTTP_METHOD, "this path knows another method", allowed, false);
}

enum MHD_Result oc_http_send(oc_http *h, struct MHD_Connection *c, const oc_infer *r, const oc_http_slot *s)
{
    char length[24];
    struct MHD_Response *response = MHD_create_response_from_buffer(s->answer_bytes, s->answer, MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    snprintf(length, sizeof length, "%zu", s->json_bytes);
    const char *type = r->binary ? "application/octet-stream" : "application/json";
    bool good = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES;
    if (r->binary)
        good = good && MHD_add_response_header(response, "Inference-Header-Content-Length", length) == MHD_YES;
    return oc_http_queue(h, c, MHD_HTTP_OK, response, good);
}
