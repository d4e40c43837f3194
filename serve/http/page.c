/* page.c - the dashboard: files that hold no figure, and the attention of a window, which it asks for. A strict policy
 * stands on every file: no script or style but ours, no frame, nothing from elsewhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "serve/http/assets.h"
#include "serve/http/front.h"
#include "serve/status.h"

enum MHD_Result oc_http_page(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    static const char *const headers[][2] = {
        {"Content-Security-Policy",
         "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
         "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cache-Control", "no-cache"},
    };
    const oc_asset *a = oc_asset_find(oc_http_route_path(s->route));
    union {
        const char *in;
        void *out;
    } borrowed = {.in = a->data};
    struct MHD_Response *r =
        MHD_create_response_from_buffer((size_t)(a->end - a->data), borrowed.out, MHD_RESPMEM_PERSISTENT);
    if (!r) return MHD_NO;
    bool good = MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, a->type) == MHD_YES;
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        good = good && MHD_add_response_header(r, headers[i][0], headers[i][1]) == MHD_YES;
    return oc_http_queue(h, c, MHD_HTTP_OK, r, good);
}

/* A model of its own, as the batchers' are theirs; of the version that was loaded first, and where it has attention. */
oc_status oc_http_explainer_open(oc_http *h)
{
    const oc_model_shape *shape = &h->model->shape;
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    if (shape->heads == 0 || shape->trunk != OC_TRUNK_LSTM) return OC_OK;
    OC_TRY(oc_model_open(&h->explainer, h->model, &cpu, 1));
    OC_TRY(oc_memory_new_array(&h->window, (size_t)shape->steps * (size_t)shape->inputs, sizeof(float), "a window"));
    OC_TRY(oc_memory_new_array(&h->attention, (size_t)shape->steps * (size_t)shape->heads, sizeof(float), "attention"));
    return OC_OK;
}

static void attention_print(const oc_http *h, const oc_seat_view *v, oc_text *out)
{
    const int steps = h->model->shape.steps, heads = h->model->shape.heads;
    oc_text_add(out, "{\"symbol\":");
    oc_status_string(out, v->symbol);
    oc_text_add(out, ",\"generation\":%u,\"attention\":[", v->generation);
    for (int i = 0; i < heads; i++)
        for (int t = 0; t < steps; t++)
            oc_text_add(out, "%s%.6g%s",
                        t   ? ","
                        : i ? ",["
                            : "[",
                        (double)h->attention[i * steps + t], t + 1 == steps ? "]" : "");
    oc_text_add(out, "]}");
}

/* Under the explainer's lock. */
static enum MHD_Result explain(oc_http *h, struct MHD_Connection *c, int batcher, size_t seat)
{
    oc_seat_view v;
    oc_text text = {0};
    const size_t cells = (size_t)h->model->shape.steps * (size_t)h->model->shape.heads;
    if (!oc_server_window(h->server, batcher, seat, &v, h->window) || !v.full)
        return oc_http_refuse(h, c, OC_HTTP_PATH, "there is no whole window of this seat");
    if (v.generation != 1)
        return oc_http_refuse(h, c, OC_HTTP_SCHEMA,
                              "attention is told of the version that was loaded first, and another answers");
    if (oc_model_explain(h->explainer, h->window, h->attention, cells) != OC_OK)
        return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server could not compute");
    attention_print(h, &v, &text);
    const enum MHD_Result good =
        oc_text_finish(&text, "an answer") == OC_OK
            ? oc_http_respond(h, c, MHD_HTTP_OK, "application/json", text.data, text.bytes, false)
            : MHD_NO;
    oc_text_free(&text);
    return good;
}

/* ?seat=BATCHER.SEAT, as the status names them. */
enum MHD_Result oc_http_attention(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    const char *text = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "seat"),
               *dot = text ? strchr(text, '.') : NULL;
    char first[8];
    uint64_t batcher, seat;
    (void)s;
    if (!h->explainer) return oc_http_refuse(h, c, OC_HTTP_PATH, "the model has no attention to show");
    if (!dot || (size_t)(dot - text) >= sizeof first)
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, "seat is not BATCHER.SEAT");
    snprintf(first, sizeof first, "%.*s", (int)(dot - text), text);
    if (!oc_http_decimal(first, INT32_MAX, &batcher) || !oc_http_decimal(dot + 1, INT32_MAX, &seat))
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, "seat is not BATCHER.SEAT");
    pthread_mutex_lock(&h->explaining);
    const enum MHD_Result result = explain(h, c, (int)batcher, (size_t)seat);
    pthread_mutex_unlock(&h->explaining);
    return result;
}

void oc_http_explainer_close(oc_http *h)
{
    oc_model_close(h->explainer);
    oc_memory_free(h->window);
    oc_memory_free(h->attention);
}
