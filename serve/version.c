/* version.c - the stamp is taken before and after the load: what was loaded is what was stamped. */
#include "serve/version.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

static const char *const files[] = {"bundle.json", "weights.safetensors"};

static OC_MUST stamp_take(const oc_version *v, oc_hash *stamp)
{
    *stamp = (oc_hash){0, 0};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[OC_PATH_MAX];
        oc_hash hash;
        OC_TRY(oc_path_join(path, sizeof path, v->folder, files[i]));
        OC_TRY(oc_hash_file(path, &hash));
        *stamp = oc_hash_pair(*stamp, hash);
    }
    return OC_OK;
}

static OC_MUST version_fill(oc_version *v, const char *folder)
{
    oc_hash after;
    if (strlen(folder) >= sizeof v->folder)
        return OC_FAIL(OC_ELIMIT, "%.200s...: a path over %zu bytes", folder, sizeof v->folder - 1);
    memcpy(v->folder, folder, strlen(folder));
    OC_TRY(stamp_take(v, &v->stamp));
    OC_TRY(oc_bundle_load(&v->members[0], folder));
    v->count = 1;
    v->weights[0] = 1;
    OC_TRY(stamp_take(v, &after));
    if (!oc_hash_equal(v->stamp, after)) return OC_FAIL(OC_EDATA, "%s: changed while it was loaded", folder);
    memcpy(v->name, v->members[0]->name, sizeof v->name);
    memcpy(v->text, v->members[0]->version, sizeof v->text);
    return OC_OK;
}

oc_status oc_version_load(oc_version **out, const char *folder, uint32_t generation)
{
    oc_version *v;
    *out = NULL;
    OC_TRY(oc_memory_new(&v, sizeof *v, "a model's version"));
    v->generation = generation;
    const oc_status status = version_fill(v, folder);
    if (status != OC_OK) {
        oc_version_close(v);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = v;
    return OC_OK;
}

void oc_version_close(oc_version *v)
{
    if (!v || v->borrowed) return;
    for (int i = 0; i < v->count; i++) oc_bundle_close(v->members[i]);
    oc_memory_free(v);
}

void oc_version_of_bundle(oc_version *out, oc_bundle *bundle)
{
    *out = (oc_version){.generation = 1, .count = 1, .members = {bundle}, .weights = {1}, .borrowed = true};
    memcpy(out->name, bundle->name, sizeof out->name);
    memcpy(out->text, bundle->version, sizeof out->text);
}

oc_status oc_version_check(const oc_version *v)
{
    char said[OC_HASH_TEXT], found[OC_HASH_TEXT];
    oc_hash now;
    OC_TRY(stamp_take(v, &now));
    if (!oc_hash_equal(v->stamp, now))
        return OC_FAIL(OC_EDATA,
                       "%s: changed on disk since it was loaded (stamp %s, now %s); what answers is what was loaded",
                       v->folder, oc_hash_text(v->stamp, said), oc_hash_text(now, found));
    return OC_OK;
}

const oc_model_shape *oc_version_shape(const oc_version *v)
{
    assert(v->count >= 1);
    return &v->members[0]->shape;
}

oc_status oc_version_fits(const oc_version *v, const oc_version *live)
{
    char one[OC_HASH_TEXT], other[OC_HASH_TEXT];
    const oc_model_shape *a = oc_version_shape(v), *b = oc_version_shape(live);
    if (strcmp(v->name, live->name) != 0)
        return OC_FAIL(OC_EDATA, "%s: a bundle of %s, but %s is being served", v->folder, v->name, live->name);
    if (!oc_hash_equal(v->members[0]->schema, live->members[0]->schema))
        return OC_FAIL(
            OC_EDATA,
            "%s: trained on the feature schema %s, but open sessions push rows of %s: another schema means new "
            "sessions, so start a server for it",
            v->folder, oc_hash_text(v->members[0]->schema, one), oc_hash_text(live->members[0]->schema, other));
    if (a->steps != b->steps || a->inputs != b->inputs || a->horizons != b->horizons)
        return OC_FAIL(
            OC_EDATA,
            "%s: windows of %d x %d with %d horizons, but %d x %d with %d are being served: start a server for it",
            v->folder, a->steps, a->inputs, a->horizons, b->steps, b->inputs, b->horizons);
    return OC_OK;
}
