/* routes.c - which path is answered by what, and the answers that need no model. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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

static enum MHD_Result live(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    (void)s;
    return oc_http_say(h, c, "{\"live\":true}");
}

static enum MHD_Result ready(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    (void)s;
    if (__atomic_load_n(&h->draining, __ATOMIC_RELAXED))
        return oc_http_refuse_last(h, c, OC_HTTP_DRAINING, "the server is stopping");
    return oc_http_say(h, c, "{\"ready\":true}");
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

/* NAME: the model's name; VERSION: its version. "/versions/VERSION" may be left out (second row of each pair). */
static const struct {
    const char *method, *path;
    enum MHD_Result (*run)(oc_http *, struct MHD_Connection *, oc_http_slot *);
} routes[] = {
    {"GET", "/metrics", oc_http_metrics},
    {"GET", "/outcry/status", oc_http_status},
    {"GET", "/outcry/drift", oc_http_drift},
    {"GET", "/v2", server_metadata},
    {"GET", "/v2/health/live", live},
    {"GET", "/v2/health/ready", ready},
    {"GET", "/v2/models/NAME", model_metadata},
    {"GET", "/v2/models/NAME/versions/VERSION", model_metadata},
    {"GET", "/v2/models/NAME/ready", ready},
    {"GET", "/v2/models/NAME/versions/VERSION/ready", ready},
    {"GET", "/v2/models/stats", oc_http_statistics},
    {"GET", "/v2/models/NAME/stats", oc_http_statistics},
    {"GET", "/v2/models/NAME/versions/VERSION/stats", oc_http_statistics},
    {"POST", "/v2/repository/index", oc_http_index},
    {"POST", "/v2/models/NAME/infer", oc_http_infer},
    {"POST", "/v2/models/NAME/versions/VERSION/infer", oc_http_infer},
};

static bool segment_equal(const oc_http *h, oc_http_slot *s, const char *pattern, size_t n, const char *path,
                          size_t bytes)
{
    const char *want = pattern;
    size_t want_bytes = n;
    uint32_t generation;
    if (n == 4 && memcmp(pattern, "NAME", 4) == 0)
        want = h->model->name, want_bytes = strlen(want);
    else if (n == 7 && memcmp(pattern, "VERSION", 7) == 0)
        oc_server_live(h->server, s->version, &generation), want = s->version, want_bytes = strlen(want);
    return bytes == want_bytes && memcmp(path, want, bytes) == 0;
}

static bool path_matches(const oc_http *h, oc_http_slot *s, const char *pattern, const char *path)
{
    for (s->version[0] = 0;;) {
        const size_t n = strcspn(pattern, "/"), bytes = strcspn(path, "/");
        if (!segment_equal(h, s, pattern, n, path, bytes)) return false;
        if (!pattern[n] || !path[bytes]) return !pattern[n] && !path[bytes];
        pattern += n + 1;
        path += bytes + 1;
    }
}

enum MHD_Result oc_http_route(oc_http *h, struct MHD_Connection *c, oc_http_slot *s, const char *url,
                              const char *method)
{
    bool known = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!path_matches(h, s, routes[i].path, url)) continue;
        known = true;
        if (strcmp(method, routes[i].method) == 0) return routes[i].run(h, c, s);
    }
    if (known) return oc_http_refuse(h, c, OC_HTTP_METHOD, "this path knows another method");
    return oc_http_refuse(h, c, OC_HTTP_PATH, "there is no such path, model or version");
}
