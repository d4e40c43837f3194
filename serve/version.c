/* version.c - see version.h. */
#include "serve/version.h"

#include <string.h>

#include "base/memory.h"

static void names_copy(oc_version *v)
{
    memcpy(v->name, v->ensemble->name, sizeof v->name);
    memcpy(v->text, v->ensemble->version, sizeof v->text);
    v->first = v->ensemble->members[0];
}

oc_status oc_version_load(oc_version **out, const char *folder, uint32_t generation)
{
    oc_version *v;
    *out = NULL;
    OC_TRY(oc_memory_new(&v, sizeof *v, "a model's version"));
    v->generation = generation;
    const oc_status status = oc_ensemble_load(&v->ensemble, folder);
    if (status != OC_OK) {
        oc_version_close(v);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    names_copy(v);
    *out = v;
    return OC_OK;
}

void oc_version_close(oc_version *v)
{
    if (!v) return;
    oc_ensemble_close(v->ensemble);
    oc_memory_free(v);
}

void oc_version_of_bundle(oc_version *out, oc_ensemble *storage, oc_bundle *bundle)
{
    *storage = (oc_ensemble){.count = 1, .members = {bundle}, .weights = {1}};
    memcpy(storage->name, bundle->name, sizeof storage->name);
    memcpy(storage->version, bundle->version, sizeof storage->version);
    *out = (oc_version){.generation = 1, .ensemble = storage};
    names_copy(out);
}

oc_status oc_version_check(const oc_version *v)
{
    char said[OC_HASH_TEXT], found[OC_HASH_TEXT];
    oc_hash now;
    OC_TRY(oc_ensemble_stamp(v->ensemble, &now));
    if (!oc_hash_equal(v->ensemble->stamp, now))
        return OC_FAIL(OC_EDATA,
                       "%s: changed on disk since it was loaded (stamp %s, now %s); what answers is what was loaded",
                       v->ensemble->folder, oc_hash_text(v->ensemble->stamp, said), oc_hash_text(now, found));
    return OC_OK;
}

const oc_model_shape *oc_version_shape(const oc_version *v)
{
    return &v->first->shape;
}

oc_status oc_version_fits(const oc_version *v, const oc_version *live)
{
    char one[OC_HASH_TEXT], other[OC_HASH_TEXT];
    const oc_model_shape *a = oc_version_shape(v), *b = oc_version_shape(live);
    if (strcmp(v->name, live->name) != 0)
        return OC_FAIL(OC_EDATA, "%s: a bundle of %s, but %s is being served", v->ensemble->folder, v->name,
                       live->name);
    if (!oc_hash_equal(v->first->schema, live->first->schema))
        return OC_FAIL(
            OC_EDATA,
            "%s: trained on the feature schema %s, but open sessions push rows of %s: another schema means new "
            "sessions, so start a server for it",
            v->ensemble->folder, oc_hash_text(v->first->schema, one), oc_hash_text(live->first->schema, other));
    if (a->steps != b->steps || a->inputs != b->inputs || a->horizons != b->horizons)
        return OC_FAIL(
            OC_EDATA,
            "%s: windows of %d x %d with %d horizons, but %d x %d with %d are being served: start a server for it",
            v->ensemble->folder, a->steps, a->inputs, a->horizons, b->steps, b->inputs, b->horizons);
    return OC_OK;
}
