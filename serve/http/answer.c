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

void oc_http_refusal_count(oc_http *h, oc_http_refusal why)
{
    __atomic_fetch_add(&h->refusals[why], 1, __ATOMIC_RELAXED);
}

/* Takes the response over. */
enum MHD_Result oc_http_queue(oc_http *h, struct MHD_Connection *c, int status, struct MHD_Response *r, bool good)
{
    const enum MHD_Result done = good ? MHD_queue_response(c, (unsigned)status, r) : MHD_NO;
    MHD_destroy_response(r);
    __atomic_fetch_add(&h->answers[status], 1, __ATOMIC_RELAXED);
    return done;
}

enum MHD_Result oc_http_respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, const char *data,
                                size_t bytes, bool last)
{
    union {
        const char *in;
        void *out;
    } borrowed = {.in = data};
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, borrowed.out, MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    bool good = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type) == MHD_YES;
    if (status == MHD_HTTP_UNAUTHORIZED)
        good = good && MHD_add_response_header(r, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer") == MHD_YES;
    if (last) good = good && MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close") == MHD_YES;
    return oc_http_queue(h, c, status, r, good);
}

enum MHD_Result oc_http_say(oc_http *h, struct MHD_Connection *c, const char *json)
{
    return oc_http_respond(h, c, MHD_HTTP_OK, "application/json", json, strlen(json), false);
}

static enum MHD_Result refuse(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message, bool last)
{
    char escaped[MESSAGE_BYTES], text[MESSAGE_BYTES + 100];
    oc_infer_escape(escaped, sizeof escaped, message);
    const int n = snprintf(text, sizeof text, "{\"error\":\"%s\"}", escaped);
    oc_http_refusal_count(h, why);
    return oc_http_respond(h, c, refusals[why].status, "application/json", text, (size_t)n, last);
}

enum MHD_Result oc_http_refuse(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message)
{
    return refuse(h, c, why, message, false);
}

enum MHD_Result oc_http_refuse_last(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message)
{
    return refuse(h, c, why, message, true);
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
