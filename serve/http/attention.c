/* attention.c - the attention of a window, which the dashboard asks for: computed by models of its own, as the
 * batchers' are theirs. Heads of different models have nothing to do with each other, so of an ensemble it is the
 * members' means over their heads, weighted as their answers are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/http/front.h"
#include "serve/status.h"

static void explainer_deinit(oc_http_explainer *x)
{
    for (int i = 0; i < x->count; i++) oc_model_close(x->models[i]);
    oc_ensemble_close(x->own);
    *x = (oc_http_explainer){.generation = x->generation};
}

/* No model, so nothing to show, where one of the members has no attention. */
static OC_MUST explainer_init(oc_http_explainer *x, const oc_ensemble *e)
{
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    x->ensemble = e;
    for (int i = 0; i < e->count; i++)
        if (e->members[i]->shape.heads == 0 || e->members[i]->shape.trunk != OC_TRUNK_LSTM) return OC_OK;
    for (int i = 0; i < e->count; i++) {
        OC_TRY(oc_model_open(&x->models[i], e->members[i], &cpu, 1));
        x->count = i + 1;
    }
    return OC_OK;
}

oc_status oc_http_explainer_open(oc_http *h)
{
    const size_t steps = (size_t)h->model->shape.steps;
    char version[32];
    oc_server_live(h->server, version, &h->explainer.generation);
    OC_TRY(oc_memory_new_array(&h->window, steps * (size_t)h->model->shape.inputs, sizeof(float), "a window"));
    OC_TRY(oc_memory_new_array(&h->attention, steps * OC_HEADS_MAX, sizeof(float), "attention"));
    OC_TRY(oc_memory_new_array(&h->attention_mean, steps, sizeof(float), "attention"));
    return explainer_init(&h->explainer, oc_server_ensemble(h->server));
}

static OC_MUST version_load(const oc_http *h, const char *version, oc_http_explainer *x)
{
    char model_folder[OC_PATH_MAX], folder[OC_PATH_MAX];
    OC_TRY(oc_path_join(model_folder, sizeof model_folder, h->config.repository, h->model->name));
    OC_TRY(oc_path_join(folder, sizeof folder, model_folder, version));
    OC_TRY(oc_ensemble_load(&x->own, folder));
    return explainer_init(x, x->own);
}

/* By the tender's thread: another version is live, so it is loaded once more, for the page alone. What cannot be, as it
 * is gone from the disk, has no attention to show. */
void oc_http_explainer_tend(oc_http *h)
{
    char version[32];
    oc_http_explainer next = {.count = 0}, old;
    oc_server_live(h->server, version, &next.generation);
    if (next.generation == h->explainer.generation || !h->config.repository) return; /* nobody else writes it */
    if (version_load(h, version, &next) != OC_OK) {
        oc_log_failure(OC_LOG_DEBUG);
        explainer_deinit(&next);
    }
    pthread_mutex_lock(&h->explaining);
    old = h->explainer;
    h->explainer = next;
    pthread_mutex_unlock(&h->explaining);
    explainer_deinit(&old);
}

/* The members' attention to h->window, one after the other, into the mean. */
static OC_MUST mean_compute(oc_http *h)
{
    const oc_http_explainer *x = &h->explainer;
    const int steps = h->model->shape.steps;
    memset(h->attention_mean, 0, (size_t)steps * sizeof *h->attention_mean);
    for (int m = 0; m < x->count; m++) {
        const int heads = x->ensemble->members[m]->shape.heads;
        const float part = x->ensemble->weights[m] / (float)heads;
        OC_TRY(oc_model_explain(x->models[m], h->window, h->attention, (size_t)steps * OC_HEADS_MAX));
        for (int i = 0; i < heads; i++)
            for (int t = 0; t < steps; t++) h->attention_mean[t] += part * h->attention[i * steps + t];
    }
    return OC_OK;
}

static void attention_print(const oc_http *h, const oc_seat_view *v, oc_text *out)
{
    const oc_http_explainer *x = &h->explainer;
    const int steps = h->model->shape.steps, rows = x->count == 1 ? x->ensemble->members[0]->shape.heads : 1;
    const float *values = x->count == 1 ? h->attention : h->attention_mean;
    oc_text_add(out, "{\"symbol\":");
    oc_status_string(out, v->symbol);
    oc_text_add(out, ",\"generation\":%u,\"members\":%d,\"attention\":[", v->generation, x->count);
    for (int i = 0; i < rows; i++) {
        oc_text_add(out, "%s", i ? "],[" : "[");
        for (int t = 0; t < steps; t++) oc_text_add(out, "%s%.6g", t ? "," : "", (double)values[i * steps + t]);
    }
    oc_text_add(out, "]]}");
}

/* Under the explainer's lock. */
static enum MHD_Result explain(oc_http *h, struct MHD_Connection *c, int batcher, size_t seat)
{
    oc_seat_view v;
    oc_text text = {0};
    if (h->explainer.count == 0) return oc_http_refuse(h, c, OC_HTTP_PATH, "the model has no attention to show");
    if (!oc_server_window(h->server, batcher, seat, &v, h->window) || !v.full)
        return oc_http_refuse(h, c, OC_HTTP_PATH, "there is no whole window of this seat");
    if (v.generation != h->explainer.generation)
        return oc_http_refuse(h, c, OC_HTTP_SCHEMA,
                              "another version answered this window than the live one: ask again");
    if (mean_compute(h) != OC_OK) return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server could not compute");
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
    explainer_deinit(&h->explainer);
    oc_memory_free(h->window);
    oc_memory_free(h->attention);
    oc_memory_free(h->attention_mean);
}
