/* control.c - the repository extension: which versions there are, and load, which makes one of them live as `outcry
 * models promote` does. A load takes as long as the version does, so a thread of its own does it, one at a time, while
 * the connection is suspended: no other request of this HTTP thread waits for it. */
#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "serve/http/front.h"
#include "serve/models_server.h"
#include "serve/models_state.h"
#include "serve/status.h"

enum { VERSIONS_MAX = 4096 };

/* ---- index ---------------------------------------------------------------------------------------------------------
 */
static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool is_version(const char *folder, const char *name)
{
    static const char *const files[] = {"bundle.json", "ensemble.json"};
    char version[OC_PATH_MAX], path[OC_PATH_MAX];
    if (oc_path_join(version, sizeof version, folder, name) != OC_OK) return false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (oc_path_join(path, sizeof path, version, files[i]) == OC_OK && oc_path_exists(path)) return true;
    return false;
}

/* reason: why it does not answer; NULL: it does. */
static void row_write(oc_text *out, const char *name, const char *version, const char *reason)
{
    oc_text_add(out, "%s{\"name\":\"%s\",\"version\":", reason ? "," : "", name);
    oc_status_string(out, version);
    oc_text_add(out, ",\"state\":\"%s\",\"reason\":\"%s\"}", reason ? "UNAVAILABLE" : "READY", reason ? reason : "");
}

static const char *reason_of(const oc_models_state *state, const char *version)
{
    if (strcmp(state->candidate, version) != 0) return "not live";
    return state->canary > 0 ? "beside the live one: answers the canary's share"
                             : "beside the live one: answers nobody";
}

static void folder_write(const oc_http *h, const char *live, oc_text *out)
{
    char folder[OC_PATH_MAX];
    struct dirent **entries = NULL;
    oc_models_state state;
    if (oc_models_state_read(h->config.repository, h->model->name, &state) != OC_OK) oc_log_failure(OC_LOG_WARN);
    if (oc_path_join(folder, sizeof folder, h->config.repository, h->model->name) != OC_OK) return;
    const int n = scandir(folder, &entries, visible, versionsort);
    for (int i = 0; i < n; i++) {
        if (i < VERSIONS_MAX && strcmp(entries[i]->d_name, live) != 0 && is_version(folder, entries[i]->d_name))
            row_write(out, h->model->name, entries[i]->d_name, reason_of(&state, entries[i]->d_name));
        free(entries[i]);
    }
    free(entries);
}

/* The live version first, then, where the body does not ask for what is ready alone, the others of the repository. */
enum MHD_Result oc_http_index(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char live[32];
    uint32_t generation;
    oc_text text = {0};
    json_t *asked = NULL;
    if (s->body_bytes > 0 &&
        (s->body_bytes > OC_INFER_JSON_MAX || oc_json_parse(s->body, s->body_bytes, "request", &asked) != OC_OK))
        return oc_http_refuse(h, c, OC_HTTP_REQUEST, "the body is not JSON");
    const bool ready = json_is_true(json_object_get(asked, "ready"));
    json_decref(asked);
    oc_server_live(h->server, live, &generation);
    oc_text_add(&text, "[");
    row_write(&text, h->model->name, live, NULL);
    if (h->config.repository && !ready) folder_write(h, live, &text);
    oc_text_add(&text, "]");
    return oc_http_send_text(h, c, "application/json", &text);
}

/* ---- load ----------------------------------------------------------------------------------------------------------
 */
/* What was live before is written back where the server refuses. */
static OC_MUST promote(oc_http *h, const oc_http_loading *l)
{
    oc_models_state before, state;
    char wanted[128];
    json_t *said = NULL;
    const int64_t patience = h->config.timeout_ns - OC_SECOND_NS;
    snprintf(wanted, sizeof wanted, "%s/%s", h->model->name, l->version);
    OC_TRY(oc_models_state_read(h->config.repository, h->model->name, &before));
    OC_TRY(oc_models_promote(h->config.repository, wanted, &state));
    const oc_status status =
        oc_models_server_await(h->config.socket, h->config.repository, h->model->name, l->version, false,
                               patience > OC_SECOND_NS / 2 ? patience : OC_SECOND_NS / 2, &said);
    json_decref(said);
    if (status != OC_EDATA) return status;
    char reason[sizeof l->message];
    snprintf(reason, sizeof reason, "%s", oc_status_message());
    OC_TRY(oc_models_state_write(h->config.repository, h->model->name, &before));
    return OC_FAIL(OC_EDATA, "%s", reason);
}

static void *load_main(void *argument)
{
    oc_http *h = argument;
    oc_http_loading *l = &h->loading;
    l->status = promote(h, l);
    snprintf(l->message, sizeof l->message, "%s", l->status == OC_OK ? "" : oc_status_message());
    MHD_resume_connection(l->connection);
    return NULL;
}

/* What it came to, once its thread has ended; behind this another load may begin. */
static oc_status load_leave(oc_http *h, oc_http_slot *s, char message[sizeof h->loading.message])
{
    oc_http_loading *l = &h->loading;
    s->loading = false;
    pthread_join(l->thread, NULL);
    const oc_status status = l->status;
    memcpy(message, l->message, sizeof l->message);
    __atomic_store_n(&l->busy, false, __ATOMIC_RELEASE);
    return status;
}

void oc_http_load_completed(oc_http *h, oc_http_slot *s)
{
    char message[sizeof h->loading.message];
    if (s->loading) (void)load_leave(h, s, message);
}

static enum MHD_Result load_answer(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char message[sizeof h->loading.message];
    const oc_status status = load_leave(h, s, message);
    if (status == OC_OK) return oc_http_say(h, c, "{}");
    return oc_http_refuse(h, c, status == OC_EAGAIN ? OC_HTTP_OVERLOAD : OC_HTTP_REQUEST, message);
}

/* A name that leads nowhere else. */
static OC_MUST version_parse(const json_t *value, char version[32])
{
    const char *text = json_string_value(value);
    bool good = text && json_string_length(value) < 32 && text[0] && text[0] != '.';
    for (const char *k = good ? text : ""; *k; k++)
        good &= strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", *k) != NULL;
    if (!good) return OC_FAIL(OC_EDATA, "parameters.version is not the name of a version");
    snprintf(version, 32, "%s", text);
    return OC_OK;
}

/* parameters.version; "" where the body names none. What else there is would change what is loaded, and does not. */
static OC_MUST parameters_parse(json_t *root, char version[32])
{
    json_t *value;
    const char *key;
    json_object_foreach(json_object_get(root, "parameters"), key, value)
    {
        if (strcmp(key, "version") == 0)
            OC_TRY(version_parse(value, version));
        else if (strcmp(key, "unload_dependents") != 0)
            return OC_FAIL(OC_EDATA, "parameters.%.60s is not offered: version alone is", key);
    }
    return OC_OK;
}

static OC_MUST version_read(const oc_http_slot *s, char version[32])
{
    json_t *root = NULL;
    version[0] = 0;
    if (s->body_bytes == 0) return OC_OK;
    if (s->body_bytes > OC_INFER_JSON_MAX || oc_json_parse(s->body, s->body_bytes, "request", &root) != OC_OK)
        return OC_FAIL(OC_EDATA, "the body is not JSON");
    const oc_status status = parameters_parse(root, version);
    json_decref(root);
    return status;
}

enum MHD_Result oc_http_load(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char version[32], live[32];
    uint32_t generation;
    oc_http_loading *l = &h->loading;
    if (s->loading) return load_answer(h, c, s); /* this connection goes on when its thread says so */
    if (version_read(s, version) != OC_OK) return oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
    oc_server_live(h->server, live, &generation);
    if (!version[0] || strcmp(version, live) == 0) return oc_http_say(h, c, "{}"); /* it is there */
    if (!h->config.repository)
        return oc_http_refuse(h, c, OC_HTTP_REQUEST,
                              "the server has one bundle (model.bundle), and no serve.repository");
    if (__atomic_exchange_n(&l->busy, true, __ATOMIC_ACQ_REL))
        return oc_http_refuse(h, c, OC_HTTP_OVERLOAD, "another version is being loaded");
    memcpy(l->version, version, sizeof version);
    l->connection = c;
    s->loading = true;
    MHD_suspend_connection(c);
    if (pthread_create(&l->thread, NULL, load_main, h) == 0) return MHD_YES;
    MHD_resume_connection(c);
    s->loading = false;
    __atomic_store_n(&l->busy, false, __ATOMIC_RELEASE);
    return oc_http_refuse(h, c, OC_HTTP_FAILED, "the server has no thread for this");
}

/* ---- unload --------------------------------------------------------------------------------------------------------
 */
/* A version beside the live one is withdrawn, any other is not loaded already. */
static OC_MUST withdraw(const oc_http *h, const char *version)
{
    char model[OC_PATH_MAX];
    oc_models_state state;
    OC_TRY(oc_path_join(model, sizeof model, h->config.repository, h->model->name));
    if (!is_version(model, version)) return OC_FAIL(OC_EDATA, "there is no version %s", version);
    OC_TRY(oc_models_state_read(h->config.repository, h->model->name, &state));
    if (strcmp(state.live, version) == 0) return OC_FAIL(OC_EDATA, "version %s is becoming live", version);
    if (strcmp(state.candidate, version) != 0) return OC_OK;
    state.candidate[0] = 0;
    state.canary = 0;
    return oc_models_state_write(h->config.repository, h->model->name, &state);
}

enum MHD_Result oc_http_unload(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char version[32], live[32];
    uint32_t generation;
    if (version_read(s, version) != OC_OK) return oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
    oc_server_live(h->server, live, &generation);
    if (!version[0] || strcmp(version, live) == 0)
        return oc_http_refuse(h, c, OC_HTTP_REQUEST,
                              "the version that answers cannot be unloaded: load another one, or stop");
    if (!h->config.repository) return oc_http_refuse(h, c, OC_HTTP_REQUEST, "there is no other version");
    if (__atomic_exchange_n(&h->loading.busy, true, __ATOMIC_ACQ_REL))
        return oc_http_refuse(h, c, OC_HTTP_OVERLOAD, "another version is being loaded");
    const oc_status status = withdraw(h, version);
    __atomic_store_n(&h->loading.busy, false, __ATOMIC_RELEASE);
    return status == OC_OK ? oc_http_say(h, c, "{}") : oc_http_refuse(h, c, OC_HTTP_REQUEST, oc_status_message());
}
