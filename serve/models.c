/* models.c - reads the repository's two levels of folders in sorted order; loads each bundle, which checks its hashes.
 */
#include "serve/models.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "nn/ensemble.h"
#include "serve/models_state.h"

typedef struct listing {
    const char *wanted;
    json_t *models;
    size_t bad;
    oc_models_state state; /* of the model whose versions are being added */
} listing;

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool is_wanted(const char *wanted, const char *name, const char *version)
{
    if (!wanted) return true;
    const size_t n = strcspn(wanted, "/");
    return strlen(name) == n && memcmp(wanted, name, n) == 0 && (!wanted[n] || strcmp(wanted + n + 1, version) == 0);
}

static json_t *bundle_describe(const oc_bundle *b)
{
    char schema[OC_HASH_TEXT], weights[OC_HASH_TEXT];
    oc_hash_text(b->schema, schema);
    oc_hash_text(b->weights, weights);
    json_t *labels = json_array(), *seen = json_array();
    for (int i = 0; labels && i < b->shape.horizons; i++) json_array_append_new(labels, json_string(b->labels[i]));
    for (size_t i = 0; seen && i < b->seen_count; i++)
        json_array_append_new(seen,
                              json_pack("{s:s, s:I, s:I}", "symbol", b->seen[i].symbol, "first_ns",
                                        (json_int_t)b->seen[i].first_ns, "last_ns", (json_int_t)b->seen[i].last_ns));
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:o, s:o}", "steps", b->shape.steps, "inputs",
                     b->shape.inputs, "hidden", b->shape.hidden, "layers", b->shape.layers, "heads", b->shape.heads,
                     "schema", schema, "weights_hash", weights, "created", b->created, "labels", labels, "seen", seen);
}

/* Of an ensemble what holds for all of its members, and these with their weights. */
static json_t *describe(const oc_ensemble *e)
{
    json_t *out = bundle_describe(e->members[0]), *members = json_array();
    for (int i = 0; i < e->count && e->count > 1; i++) {
        char hash[OC_HASH_TEXT];
        json_array_append_new(members,
                              json_pack("{s:s, s:f, s:s}", "version", e->members[i]->version, "weight",
                                        (double)e->weights[i], "hash", oc_hash_text(e->member_stamps[i], hash)));
    }
    if (e->count > 1) {
        static const char *const of_one[] = {"hidden", "layers", "heads", "weights_hash", "created", "seen"};
        for (size_t i = 0; out && i < sizeof of_one / sizeof of_one[0]; i++) json_object_del(out, of_one[i]);
        if (out) json_object_set(out, "members", members);
    }
    json_decref(members);
    return out;
}

/* What the repository's state makes of the version. */
static const char *role_of(const listing *l, const char *version)
{
    const struct {
        const char *role, *version;
    } roles[] = {{"live", l->state.live}, {"candidate", l->state.candidate}, {"previous", l->state.previous}};
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(version, roles[i].version) == 0) return roles[i].role;
    return "";
}

static OC_MUST one_add(listing *l, const char *folder, const char *name, const char *version)
{
    oc_ensemble *b = NULL;
    oc_status status = oc_ensemble_load(&b, folder);
    if (status == OC_OK && (strcmp(b->name, name) != 0 || strcmp(b->version, version) != 0))
        status = OC_FAIL(OC_EDATA, "%s: the bundle calls itself %s/%s", folder, b->name, b->version);
    json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:b}", "model", name, "version", version, "role", role_of(l, version),
                            "folder", folder, "good", status == OC_OK);
    json_t *more = status == OC_OK ? describe(b) : json_pack("{s:s}", "error", oc_status_message());
    const bool failed = !row || !more || json_object_update(row, more) != 0 || json_array_append(l->models, row) != 0;
    l->bad += status != OC_OK;
    json_decref(row);
    json_decref(more);
    oc_ensemble_close(b);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the list of models") : OC_OK;
}

static OC_MUST versions_add(listing *l, const char *folder, const char *name)
{
    struct dirent **versions;
    oc_status status = OC_OK;
    const int n = scandir(folder, &versions, visible, versionsort);
    if (n < 0) return OC_FAIL(OC_EFAILED, "%s: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[OC_PATH_MAX];
        if (status == OC_OK && is_wanted(l->wanted, name, versions[i]->d_name)) {
            status = oc_path_join(path, sizeof path, folder, versions[i]->d_name);
            if (status == OC_OK && json_array_size(l->models) == OC_MODELS_MAX)
                status = OC_FAIL(OC_ELIMIT, "%s: more than %d models", folder, OC_MODELS_MAX);
            if (status == OC_OK && oc_path_is_folder(path)) status = one_add(l, path, name, versions[i]->d_name);
        }
        free(versions[i]);
    }
    free(versions);
    return status;
}

static OC_MUST names_add(listing *l, const char *repository)
{
    struct dirent **names;
    oc_status status = OC_OK;
    const int n = scandir(repository, &names, visible, alphasort);
    if (n < 0)
        return OC_FAIL(OC_EDATA, "%s: %s; a repository is a folder of NAME/VERSION/bundle.json", repository,
                       strerror(errno));
    for (int i = 0; i < n; i++) {
        char path[OC_PATH_MAX];
        if (status == OC_OK) status = oc_path_join(path, sizeof path, repository, names[i]->d_name);
        if (status == OC_OK && oc_path_is_folder(path) &&
            oc_models_state_read(repository, names[i]->d_name, &l->state) != OC_OK)
            l->state = (oc_models_state){.canary = 0}; /* a damaged state hides no bundle */
        if (status == OC_OK && oc_path_is_folder(path)) status = versions_add(l, path, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    return status;
}

oc_status oc_models_list(const char *repository, const char *wanted, json_t **models, size_t *bad)
{
    listing l = {.wanted = wanted, .models = json_array()};
    if (!l.models) return OC_FAIL(OC_EMEMORY, "no memory for the list of models");
    oc_status status = names_add(&l, repository);
    if (status == OC_OK && wanted && json_array_size(l.models) == 0)
        status = OC_FAIL(OC_EDATA, "%s: there is no model %s", repository, wanted);
    if (status != OC_OK) {
        json_decref(l.models);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *models = l.models;
    *bad = l.bad;
    return OC_OK;
}
