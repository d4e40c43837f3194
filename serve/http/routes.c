/* routes.c - which path is answered by what, and the answers that need no model. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "serve/http/front.h"

static enum MHD_Result server_metadata(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char text[256];
    (void)s;
    snprintf(text, sizeof text,
             "{\"name\":\"outcry\",\"version\":\"%s\",\"extensions\":[\"binary_tensor_data\",\"sequence\","
             "\"statistics\",\"model_repository\"]}",
             h->version);
    return oc_http_say(h, c, text);
}

/* A batcher that answers nobody does again in another process, so whoever watches `live` should start one. */
static enum MHD_Result live(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    const char *trouble = oc_server_trouble(h->server);
    (void)s;
    if (trouble) return oc_http_refuse_last(h, c, OC_HTTP_FAILED, trouble);
    return oc_http_say(h, c, "{\"live\":true}");
}

static enum MHD_Result ready(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    (void)s;
    if (__atomic_load_n(&h->draining, __ATOMIC_RELAXED))
        return oc_http_refuse_last(h, c, OC_HTTP_DRAINING, "the server is stopping");
    if (oc_server_trouble(h->server)) return live(h, c, s);
    return oc_http_say(h, c, "{\"ready\":true}");
}

static enum MHD_Result model_ready(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char text[128];
    if (__atomic_load_n(&h->draining, __ATOMIC_RELAXED) || oc_server_trouble(h->server)) return ready(h, c, s);
    snprintf(text, sizeof text, "{\"name\":\"%s\",\"ready\":true}", h->model->name);
    return oc_http_say(h, c, text);
}

/* "parameters" is ours: what pushed rows and windows are checked against. */
static enum MHD_Result model_metadata(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    char text[1024], schema[OC_HASH_TEXT], version[32];
    uint32_t generation;
    const oc_bundle *b = h->model;
    (void)s;
    oc_server_live(h->server, version, &generation);
    snprintf(text, sizeof text,
             "{\"name\":\"%s\",\"versions\":[\"%s\"],\"platform\":\"outcry\",\"inputs\":[{\"name\":\"window\","
             "\"datatype\":\"FP32\",\"shape\":[-1,%d,%d]}],\"outputs\":[{\"name\":\"probabilities\",\"datatype\":"
             "\"FP32\",\"shape\":[-1,%d,%d]}],\"parameters\":{\"schema\":\"%s\"}}",
             b->name, version, b->shape.steps, b->shape.inputs, b->shape.horizons, OC_CLASSES,
             oc_hash_text(b->schema, schema));
    return oc_http_say(h, c, text);
}

/* OPEN: to everybody, as a probe has no token and a page asks for it. CONTROL: with the token of model control alone.
 */
typedef enum asker_kind { OPEN, TOKEN, CONTROL } asker_kind;

/* NAME: the model's name; VERSION: its live version; LOADED: that one or the one beside it, which answers some sessions
 * (a canary, a swap): who does is the batcher's to say. "/versions/VERSION" may be left out (second row of each pair).
 * STREAM: any name of the caller's. */
static const struct {
    const char *method, *path;
    asker_kind who;
    enum MHD_Result (*run)(oc_http *, struct MHD_Connection *, oc_http_slot *);
} routes[] = {
    {"GET", "/", OPEN, oc_http_page},
    {"GET", "/dashboard", OPEN, oc_http_page},
    {"GET", "/dashboard.css", OPEN, oc_http_page},
    {"GET", "/dashboard.js", OPEN, oc_http_page},
    {"GET", "/chart.js", OPEN, oc_http_page},
    {"GET", "/metrics", TOKEN, oc_http_metrics},
    {"GET", "/outcry/status", TOKEN, oc_http_status},
    {"GET", "/outcry/attention", TOKEN, oc_http_attention},
    {"GET", "/outcry/drift", TOKEN, oc_http_drift},
    {"GET", "/v2", TOKEN, server_metadata},
    {"GET", "/v2/health/live", OPEN, live},
    {"GET", "/v2/health/ready", OPEN, ready},
    {"GET", "/v2/models/NAME", TOKEN, model_metadata},
    {"GET", "/v2/models/NAME/versions/VERSION", TOKEN, model_metadata},
    {"GET", "/v2/models/NAME/ready", TOKEN, model_ready},
    {"GET", "/v2/models/NAME/versions/VERSION/ready", TOKEN, model_ready},
    {"GET", "/v2/models/stats", TOKEN, oc_http_statistics},
    {"GET", "/v2/models/NAME/stats", TOKEN, oc_http_statistics},
    {"GET", "/v2/models/NAME/versions/VERSION/stats", TOKEN, oc_http_statistics},
    {"POST", "/outcry/streams/STREAM", TOKEN, oc_http_stream_open},
    {"POST", "/outcry/streams/STREAM/events", TOKEN, oc_http_stream_events},
    {"POST", "/outcry/streams/STREAM/close", TOKEN, oc_http_stream_close},
    {"POST", "/v2/repository/index", TOKEN, oc_http_index},
    {"POST", "/v2/repository/models/NAME/load", CONTROL, oc_http_load},
    {"POST", "/v2/repository/models/NAME/unload", CONTROL, oc_http_unload},
    {"POST", "/v2/models/NAME/infer", TOKEN, oc_http_infer},
    {"POST", "/v2/models/NAME/versions/LOADED/infer", TOKEN, oc_http_infer},
};

static bool stream_take(oc_http_slot *s, const char *path, size_t bytes)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    if (bytes < 1 || bytes >= sizeof s->stream || strspn(path, allowed) < bytes) return false;
    memcpy(s->stream, path, bytes);
    s->stream[bytes] = 0;
    return true;
}

static bool version_take(const oc_http *h, oc_http_slot *s, const char *path, size_t bytes)
{
    char version[32];
    if (bytes >= sizeof version) return false;
    memcpy(version, path, bytes);
    version[bytes] = 0;
    return oc_server_generation(h->server, version, &s->generation);
}

static bool segment_equal(const oc_http *h, oc_http_slot *s, const char *pattern, size_t n, const char *path,
                          size_t bytes)
{
    const char *want = pattern;
    char version[32];
    size_t want_bytes = n;
    uint32_t generation;
    if (n == 6 && memcmp(pattern, "STREAM", 6) == 0) return stream_take(s, path, bytes);
    if (n == 6 && memcmp(pattern, "LOADED", 6) == 0) return version_take(h, s, path, bytes);
    if (n == 4 && memcmp(pattern, "NAME", 4) == 0)
        want = h->model->name, want_bytes = strlen(want);
    else if (n == 7 && memcmp(pattern, "VERSION", 7) == 0)
        oc_server_live(h->server, version, &generation), want = version, want_bytes = strlen(want);
    return bytes == want_bytes && memcmp(path, want, bytes) == 0;
}

static bool path_matches(const oc_http *h, oc_http_slot *s, const char *pattern, const char *path)
{
    for (s->generation = 0;;) {
        const size_t n = strcspn(pattern, "/"), bytes = strcspn(path, "/");
        if (!segment_equal(h, s, pattern, n, path, bytes)) return false;
        if (!pattern[n] || !path[bytes]) return !pattern[n] && !path[bytes];
        pattern += n + 1;
        path += bytes + 1;
    }
}

enum { ROUTES = sizeof routes / sizeof routes[0], NO_METHOD = -1, NO_PATH = -2 };

const char *oc_http_route_path(int route)
{
    return routes[route].path;
}

int oc_http_route_find(const oc_http *h, oc_http_slot *s, const char *url, const char *method)
{
    int found = NO_PATH;
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method; /* the library leaves the answer's body away */
    for (int i = 0; i < ROUTES; i++) {
        if (!path_matches(h, s, routes[i].path, url)) continue;
        if (strcmp(wanted, routes[i].method) == 0) return i;
        found = NO_METHOD;
        s->method = strcmp(routes[i].method, "GET") == 0 ? "GET, HEAD" : routes[i].method;
    }
    return found;
}

/* Without a token nothing but this keeps pages of elsewhere away, which a browser on this machine runs: they reach a
 * loopback address by a name of theirs that leads to it, or by requests that need no permission and say their origin.
 */
static bool sender_local(const oc_http *h, const oc_http_sender *s)
{
    const char *origin = s->origin.value, *host = s->host.value;
    const char *behind = s->origin.count == 1 ? strstr(origin, "://") : NULL;
    if (s->origin.count > 0 && !(behind && host && strcasecmp(behind + 3, host) == 0)) return false;
    return !host || h->config.proxy || oc_http_host_loopback(host);
}

bool oc_http_route_allowed(const oc_http *h, int route, const oc_http_sender *sender, oc_http_refusal *why,
                           const char **message)
{
    const asker_kind wanted = route < 0 ? TOKEN : routes[route].who;
    const char *token = wanted == CONTROL ? h->secrets->control : h->secrets->token;
    if (wanted == OPEN) return true;
    *why = OC_HTTP_ORIGIN, *message = "without serve.token_file, Host is a loopback address (127.x.x.x, localhost, "
                                      "[::1]) and Origin, where there is one, the same";
    if (!h->secrets->token[0] && !sender_local(h, sender)) return false;
    if (wanted == TOKEN && !token[0]) return true;
    *why = OC_HTTP_TOKEN, *message = "Authorization: Bearer TOKEN is needed, once, with the right token";
    if (wanted == CONTROL && !token[0])
        *why = OC_HTTP_CONTROL, *message = "model control is off: serve.control_token_file turns it on";
    return sender->authorization.count == 1 && oc_secrets_match(token, sender->authorization.value);
}

enum MHD_Result oc_http_route(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    if (s->route >= 0) return routes[s->route].run(h, c, s);
    if (s->route == NO_METHOD) return oc_http_refuse_method(h, c, s->method);
    return oc_http_refuse(h, c, OC_HTTP_PATH, "there is no such path, model or version");
}
