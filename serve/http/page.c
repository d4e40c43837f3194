/* page.c - the dashboard: files that hold no figure, and the attention of a window, which it asks for. A strict policy
 * stands on every file: no script or style but ours, no frame, nothing from elsewhere. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
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

/* A model of its own, as the batchers' are theirs. NULL where the version has no attention. */
static OC_MUST explainer_make(const oc_bundle *bundle, oc_model **out)
{
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    *out = NULL;
    if (bundle->shape.heads == 0 || bundle->shape.trunk != OC_TRUNK_LSTM) return OC_OK;
    return oc_model_open(out, bundle, &cpu, 1);
}

oc_status oc_http_explainer_open(oc_http *h)
{
    const size_t steps = (size_t)h->model->shape.steps;
    char version[32];
    oc_server_live(h->server, version, &h->explained);
    OC_TRY(oc_memory_new_array(&h->window, steps * (size_t)h->model->shape.inputs, sizeof(float), "a window"));
    OC_TRY(oc_memory_new_array(&h->attention, steps * OC_HEADS_MAX, sizeof(float), "attention"));
    return explainer_make(h->model, &h->explainer);
}

static OC_MUST version_load(const oc_http *h, const char *version, oc_bundle **bundle, oc_model **model)
{
    char model_folder[OC_PATH_MAX], folder[OC_PATH_MAX];
    OC_TRY(oc_path_join(model_folder, sizeof model_folder, h->config.repository, h->model->name));
    OC_TRY(oc_path_join(folder, sizeof folder, model_folder, version));
    OC_TRY(oc_bundle_load(bundle, folder));
    return explainer_make(*bundle, model);
}

/* By the tender's thread: another version is live, so it is loaded once more, for the page alone. What cannot be, an
 * ensemble or what is gone from the disk, has no attention to show. */
void oc_http_explainer_tend(oc_http *h)
{
    char version[32];
    uint32_t generation;
    oc_bundle *bundle = NULL;
    oc_model *model = NULL;
    oc_server_live(h->server, version, &generation);
    if (generation == h->explained || !h->config.repository) return; /* nobody else writes it */
    if (version_load(h, version, &bundle, &model) != OC_OK) oc_log_failure(OC_LOG_DEBUG);
    pthread_mutex_lock(&h->explaining);
    oc_model *old = h->explainer;
    oc_bundle *old_bundle = h->explained_bundle;
    h->explainer = model;
    h->explained_bundle = bundle;
    h->explained = generation;
    pthread_mutex_unlock(&h->explaining);
    oc_model_close(old);
    oc_bundle_close(old_bundle);
}

static void attention_print(const oc_http *h, const oc_seat_view *v, oc_text *out)
{
    const int steps = h->model->shape.steps, heads = oc_model_bundle(h->explainer)->shape.heads;
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
    const size_t cells = (size_t)h->model->shape.steps * OC_HEADS_MAX;
    if (!h->explainer) return oc_http_refuse(h, c, OC_HTTP_PATH, "the model has no attention to show");
    if (!oc_server_window(h->server, batcher, seat, &v, h->window) || !v.full)
        return oc_http_refuse(h, c, OC_HTTP_PATH, "there is no whole window of this seat");
    if (v.generation != h->explained)
        return oc_http_refuse(h, c, OC_HTTP_SCHEMA,
                              "another version answered this window than the live one: ask again");
    if (oc_model_explain(h->explainer, h->window, h->attention, cells) != OC_OK)
        return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server could not compute");
    attention_print(h, &v, &text);
    return oc_http_send_text(h, c, "application/json", &text);
}

/* ?seat=BATCHER.SEAT, as the status names them. */
enum MHD_Result oc_http_attention(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    const char *text = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "seat"),
               *dot = text ? strchr(text, '.') : NULL;
    char first[8];
    uint64_t batcher, seat;
    (void)s;
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
    oc_bundle_close(h->explained_bundle);
    oc_memory_free(h->window);
    oc_memory_free(h->attention);
}
