/* models_server.c - the server names the state.json that it acted on by the time of its making. */
#include "serve/models_server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/models_state.h"

enum { STATUS_MAX = 1 << 16, LOOK_US = 20000 };

oc_status oc_models_server_read(const char *socket, json_t **out)
{
    char path[OC_PATH_MAX];
    *out = NULL;
    if (snprintf(path, sizeof path, "%s.json", socket) >= (int)sizeof path)
        return OC_FAIL(OC_EUSAGE, "%.100s...: the path is too long", socket);
    if (!oc_path_exists(path)) return OC_FAIL(OC_EDATA, "%s: no server with a repository has its socket there", socket);
    return oc_json_load(path, STATUS_MAX, out);
}

static const char *text_at(const json_t *root, const char *object, const char *key)
{
    const char *text = json_string_value(json_object_get(json_object_get(root, object), key));
    return text ? text : "";
}

/* OC_OK: done or not yet, see *done. */
static OC_MUST look(const json_t *said, int64_t state_ns, const char *version, bool candidate, bool *done)
{
    const json_t *acted = json_object_get(said, "state_ns");
    const char *phase = json_string_value(json_object_get(said, "phase"));
    *done = false;
    if (!json_is_integer(acted) || json_integer_value(acted) < state_ns) return OC_OK;
    if (json_is_object(json_object_get(said, "refused")))
        return OC_FAIL(OC_EDATA, "the server refuses version %s: %s", text_at(said, "refused", "version"),
                       text_at(said, "refused", "reason"));
    *done = phase && strcmp(phase, candidate ? "shadow" : "live") == 0 &&
            strcmp(text_at(said, candidate ? "other" : "live", "version"), version) == 0;
    return OC_OK;
}

oc_status oc_models_server_await(const char *socket, const char *repository, const char *name, const char *version,
                                 bool candidate, int64_t timeout_ns, json_t **out)
{
    char path[OC_PATH_MAX];
    struct stat state;
    const int64_t end = oc_clock_monotonic_ns() + timeout_ns;
    *out = NULL;
    OC_TRY(oc_models_state_path(repository, name, path));
    if (stat(path, &state) != 0) return OC_FAIL(OC_EFAILED, "%s: %s", path, strerror(errno));
    const int64_t state_ns = (int64_t)state.st_mtim.tv_sec * OC_SECOND_NS + state.st_mtim.tv_nsec;
    for (bool done = false; !done;) {
        json_decref(*out);
        OC_TRY(oc_models_server_read(socket, out));
        OC_TRY(look(*out, state_ns, version, candidate, &done));
        if (!done && oc_clock_monotonic_ns() > end)
            return OC_FAIL(OC_EAGAIN, "%s: version %s is not %s yet; `outcry models show` tells how far it is", socket,
                           version, candidate ? "beside the live one" : "live");
        if (!done) usleep(LOOK_US);
    }
    return OC_OK;
}
