/* models_state.c - a text of a version is one that names a folder: letters, digits, '.', '_', '-'. */
#include "serve/models_state.h"

#include <ctype.h>
#include <string.h>

#include "nn/ensemble.h"

enum { STATE_MAX = 4096 };

static bool name_good(const char *name)
{
    bool good = isalnum((unsigned char)name[0]);
    for (const char *c = name; *c; c++) good = good && (isalnum((unsigned char)*c) || strchr("._-", *c));
    return good;
}

oc_status oc_models_state_path(const char *repository, const char *name, char path[OC_PATH_MAX])
{
    char folder[OC_PATH_MAX];
    if (!name_good(name)) return OC_FAIL(OC_EUSAGE, "\"%.60s\" is not the name of a model", name);
    OC_TRY(oc_path_join(folder, sizeof folder, repository, name));
    OC_TRY(oc_path_join(path, OC_PATH_MAX, folder, "state.json"));
    return OC_OK;
}

static OC_MUST version_read(const json_t *root, const char *key, const char *path, char out[32])
{
    const json_t *value = json_object_get(root, key);
    const char *text = json_string_value(value);
    if (!value || json_is_null(value)) return OC_OK;
    if (!text || strlen(text) >= 32 || !name_good(text))
        return OC_FAIL(OC_EDATA, "%s: %s is not the name of a version", path, key);
    memcpy(out, text, strlen(text) + 1);
    return OC_OK;
}

static OC_MUST state_parse(const json_t *root, const char *path, oc_models_state *state)
{
    if (!json_is_object(root)) return OC_FAIL(OC_EDATA, "%s: not an object", path);
    OC_TRY(version_read(root, "live", path, state->live));
    OC_TRY(version_read(root, "previous", path, state->previous));
    OC_TRY(version_read(root, "candidate", path, state->candidate));
    if (json_object_get(root, "canary")) OC_TRY(oc_json_real(root, "canary", path, 0, 1, &state->canary));
    return OC_OK;
}

oc_status oc_models_state_read(const char *repository, const char *name, oc_models_state *state)
{
    char path[OC_PATH_MAX];
    json_t *root;
    *state = (oc_models_state){.canary = 0};
    OC_TRY(oc_models_state_path(repository, name, path));
    if (!oc_path_exists(path)) return OC_OK;
    OC_TRY(oc_json_load(path, STATE_MAX, &root));
    const oc_status status = state_parse(root, path, state);
    json_decref(root);
    return status;
}

json_t *oc_models_state_json(const oc_models_state *s)
{
    return json_pack("{s:s*, s:s*, s:s*, s:f}", "live", s->live[0] ? s->live : NULL, "previous",
                     s->previous[0] ? s->previous : NULL, "candidate", s->candidate[0] ? s->candidate : NULL, "canary",
                     s->canary);
}

oc_status oc_models_state_write(const char *repository, const char *name, const oc_models_state *state)
{
    char path[OC_PATH_MAX];
    OC_TRY(oc_models_state_path(repository, name, path));
    json_t *root = oc_models_state_json(state);
    const oc_status status = root ? oc_json_save(path, root) : OC_FAIL(OC_EMEMORY, "%s: no memory", path);
    json_decref(root);
    return status;
}

/* NAME/VERSION -> both, and the bundle that lies there is good. */
static OC_MUST wanted_read(const char *repository, const char *wanted, char name[64], char version[32])
{
    char folder[OC_PATH_MAX];
    oc_ensemble *b;
    const size_t n = strcspn(wanted, "/");
    if (!(n >= 1 && n < 64 && wanted[n] == '/' && strlen(wanted + n + 1) < 32 && name_good(wanted + n + 1)))
        return OC_FAIL(OC_EUSAGE, "\"%.100s\" is not NAME/VERSION", wanted);
    memcpy(name, wanted, n);
    name[n] = 0;
    memcpy(version, wanted + n + 1, strlen(wanted + n + 1) + 1);
    OC_TRY(oc_path_join(folder, sizeof folder, repository, wanted));
    OC_TRY(oc_ensemble_load(&b, folder));
    const bool same = strcmp(b->name, name) == 0 && strcmp(b->version, version) == 0;
    const oc_status status =
        same ? OC_OK : OC_FAIL(OC_EDATA, "%s: the bundle calls itself %s/%s", folder, b->name, b->version);
    oc_ensemble_close(b);
    return status;
}

oc_status oc_models_promote(const char *repository, const char *wanted, oc_models_state *state)
{
    char name[64], version[32];
    OC_TRY(wanted_read(repository, wanted, name, version));
    OC_TRY(oc_models_state_read(repository, name, state));
    if (strcmp(state->live, version) != 0) memcpy(state->previous, state->live, sizeof state->previous);
    memcpy(state->live, version, sizeof version);
    state->candidate[0] = 0;
    state->canary = 0;
    return oc_models_state_write(repository, name, state);
}

oc_status oc_models_candidate(const char *repository, const char *wanted, double canary, oc_models_state *state)
{
    char name[64], version[32];
    if (!(canary >= 0 && canary <= 1)) return OC_FAIL(OC_EUSAGE, "a canary share of %g, not from 0 to 1", canary);
    OC_TRY(wanted_read(repository, wanted, name, version));
    OC_TRY(oc_models_state_read(repository, name, state));
    if (strcmp(state->live, version) == 0) return OC_FAIL(OC_EUSAGE, "%s is live already", wanted);
    memcpy(state->candidate, version, sizeof version);
    state->canary = canary;
    return oc_models_state_write(repository, name, state);
}

oc_status oc_models_rollback(const char *repository, const char *name, oc_models_state *state)
{
    char was[32];
    OC_TRY(oc_models_state_read(repository, name, state));
    if (!state->candidate[0]) {
        if (!state->previous[0]) return OC_FAIL(OC_EUSAGE, "%s: no version was live before", name);
        memcpy(was, state->live, sizeof was);
        memcpy(state->live, state->previous, sizeof was);
        memcpy(state->previous, was, sizeof was);
    }
    state->candidate[0] = 0;
    state->canary = 0;
    return oc_models_state_write(repository, name, state);
}
