/* ensemble.c - stamps are taken before and after the load: what was loaded is what was stamped. */
#include "nn/ensemble.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"

enum { JSON_MAX = 16384, FORMAT_VERSION = 1 };
static const double sum_off_max = 1e-6;

static OC_MUST file_stamp(const char *folder, const char *name, oc_hash *stamp)
{
    char path[OC_PATH_MAX];
    oc_hash hash;
    OC_TRY(oc_path_join(path, sizeof path, folder, name));
    OC_TRY(oc_hash_file(path, &hash));
    *stamp = oc_hash_pair(*stamp, hash);
    return OC_OK;
}

static OC_MUST bundle_stamp(const char *folder, oc_hash *stamp)
{
    *stamp = (oc_hash){0, 0};
    OC_TRY(file_stamp(folder, "bundle.json", stamp));
    OC_TRY(file_stamp(folder, "weights.safetensors", stamp));
    return OC_OK;
}

static bool has_list(const char *folder)
{
    char path[OC_PATH_MAX];
    return oc_path_join(path, sizeof path, folder, "ensemble.json") == OC_OK && oc_path_exists(path);
}

oc_status oc_ensemble_stamp(const oc_ensemble *e, oc_hash *now)
{
    *now = (oc_hash){0, 0};
    if (has_list(e->folder)) OC_TRY(file_stamp(e->folder, "ensemble.json", now));
    for (int i = 0; i < e->count; i++) {
        oc_hash member;
        OC_TRY(bundle_stamp(e->member_folders[i], &member));
        *now = oc_hash_pair(*now, member);
    }
    return OC_OK;
}

static bool version_good(const char *text)
{
    bool good = isalnum((unsigned char)text[0]) && strlen(text) < 32;
    for (const char *c = text; *c; c++) good = good && (isalnum((unsigned char)*c) || strchr("._-", *c));
    return good;
}

/* NAME/VERSION -> NAME/member. */
static OC_MUST member_folder(const char *folder, const char *member, char out[OC_PATH_MAX])
{
    char parent[OC_PATH_MAX];
    if (!version_good(member)) return OC_FAIL(OC_EDATA, "%s: \"%.40s\" is not a version", folder, member);
    OC_TRY(oc_path_join(parent, sizeof parent, folder, ".."));
    OC_TRY(oc_path_join(out, OC_PATH_MAX, parent, member));
    return OC_OK;
}

static OC_MUST members_fit(const oc_ensemble *e)
{
    const oc_bundle *a = e->members[0], *b = e->members[e->count - 1];
    if (strcmp(b->name, e->name) != 0)
        return OC_FAIL(OC_EDATA, "%s: a bundle of %s, not of %s", e->member_folders[e->count - 1], b->name, e->name);
    bool same = oc_hash_equal(a->schema, b->schema) && a->shape.steps == b->shape.steps &&
                a->shape.inputs == b->shape.inputs && a->shape.horizons == b->shape.horizons;
    for (int i = 0; same && i < a->shape.horizons; i++) same = strcmp(a->labels[i], b->labels[i]) == 0;
    if (!same)
        return OC_FAIL(OC_EDATA, "%s: versions %s and %s differ in feature schema, steps, horizons or label rule",
                       e->folder, a->version, b->version);
    return OC_OK;
}

static OC_MUST member_read(oc_ensemble *e, const json_t *row, const char *path)
{
    const char *version, *said;
    char found[OC_HASH_TEXT];
    double weight;
    oc_hash hash;
    OC_TRY(oc_json_text(row, "version", path, &version));
    OC_TRY(oc_json_text(row, "hash", path, &said));
    OC_TRY(oc_json_real(row, "weight", path, 1e-6, 1, &weight));
    OC_TRY(member_folder(e->folder, version, e->member_folders[e->count]));
    OC_TRY(bundle_stamp(e->member_folders[e->count], &e->member_stamps[e->count]));
    if (!oc_hash_parse(said, &hash) || !oc_hash_equal(hash, e->member_stamps[e->count]))
        return OC_FAIL(OC_EDATA, "%s: version %s hashes to %s, and was %.32s when the ensemble was put together", path,
                       version, oc_hash_text(e->member_stamps[e->count], found), said);
    e->weights[e->count] = (float)weight;
    OC_TRY(oc_bundle_load(&e->members[e->count], e->member_folders[e->count]));
    e->count++;
    OC_TRY(members_fit(e));
    return OC_OK;
}

static OC_MUST name_read(const json_t *root, const char *key, const char *path, char *out, size_t cap)
{
    const char *text;
    OC_TRY(oc_json_text(root, key, path, &text));
    if (!(strlen(text) < cap)) return OC_FAIL(OC_EDATA, "%s: %s is over %zu bytes", path, key, cap - 1);
    memcpy(out, text, strlen(text) + 1);
    return OC_OK;
}

static OC_MUST list_read(oc_ensemble *e, const json_t *root, const char *path)
{
    json_t *members, *row;
    const char *format;
    int64_t version;
    size_t i;
    double sum = 0;
    OC_TRY(oc_json_text(root, "format", path, &format));
    OC_TRY(oc_json_int(root, "format_version", path, 0, INT32_MAX, &version));
    if (strcmp(format, "outcry-ensemble") != 0 || version != FORMAT_VERSION)
        return OC_FAIL(OC_EDATA, "%s: not an outcry-ensemble of format %d", path, FORMAT_VERSION);
    OC_TRY(name_read(root, "name", path, e->name, sizeof e->name));
    OC_TRY(name_read(root, "version", path, e->version, sizeof e->version));
    OC_TRY(oc_json_get(root, "members", path, JSON_ARRAY, &members));
    if (!(json_array_size(members) >= 2 && json_array_size(members) <= OC_ENSEMBLE_MAX))
        return OC_FAIL(OC_EDATA, "%s: %zu members, not 2 to %d", path, json_array_size(members), OC_ENSEMBLE_MAX);
    json_array_foreach(members, i, row) OC_TRY(member_read(e, row, path));
    for (int k = 0; k < e->count; k++) sum += (double)e->weights[k];
    if (!(fabs(sum - 1) <= sum_off_max)) return OC_FAIL(OC_EDATA, "%s: the weights sum to %.9g, not to 1", path, sum);
    return OC_OK;
}

static OC_MUST list_load(oc_ensemble *e)
{
    char path[OC_PATH_MAX];
    json_t *root;
    OC_TRY(oc_path_join(path, sizeof path, e->folder, "ensemble.json"));
    OC_TRY(oc_json_load(path, JSON_MAX, &root));
    const oc_status status = list_read(e, root, path);
    json_decref(root);
    return status;
}

static OC_MUST one_load(oc_ensemble *e)
{
    memcpy(e->member_folders[0], e->folder, sizeof e->folder);
    OC_TRY(bundle_stamp(e->folder, &e->member_stamps[0]));
    OC_TRY(oc_bundle_load(&e->members[0], e->folder));
    e->count = 1;
    e->weights[0] = 1;
    memcpy(e->name, e->members[0]->name, sizeof e->name);
    memcpy(e->version, e->members[0]->version, sizeof e->version);
    return OC_OK;
}

static OC_MUST ensemble_fill(oc_ensemble *e, const char *folder)
{
    oc_hash after;
    if (strlen(folder) >= sizeof e->folder)
        return OC_FAIL(OC_ELIMIT, "%.200s...: a path over %zu bytes", folder, sizeof e->folder - 1);
    memcpy(e->folder, folder, strlen(folder));
    if (has_list(folder))
        OC_TRY(list_load(e));
    else
        OC_TRY(one_load(e));
    for (int i = 0; i < e->count; i++) {
        OC_TRY(bundle_stamp(e->member_folders[i], &after));
        if (!oc_hash_equal(after, e->member_stamps[i]))
            return OC_FAIL(OC_EDATA, "%s: changed while it was loaded", e->member_folders[i]);
    }
    OC_TRY(oc_ensemble_stamp(e, &e->stamp));
    return OC_OK;
}

oc_status oc_ensemble_load(oc_ensemble **out, const char *folder)
{
    oc_ensemble *e;
    *out = NULL;
    OC_TRY(oc_memory_new(&e, sizeof *e, "ensemble"));
    const oc_status status = ensemble_fill(e, folder);
    if (status != OC_OK) {
        oc_ensemble_close(e);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = e;
    return OC_OK;
}

void oc_ensemble_close(oc_ensemble *e)
{
    if (!e) return;
    for (int i = 0; i < OC_ENSEMBLE_MAX; i++) oc_bundle_close(e->members[i]);
    oc_memory_free(e);
}

/* The row of one member: what lies there now. */
static OC_MUST member_json(const char *folder, const char *member, double weight, json_t *members)
{
    char path[OC_PATH_MAX], hash[OC_HASH_TEXT];
    oc_hash stamp;
    OC_TRY(member_folder(folder, member, path));
    OC_TRY(bundle_stamp(path, &stamp));
    json_t *row = json_pack("{s:s, s:f, s:s}", "version", member, "weight", weight, "hash", oc_hash_text(stamp, hash));
    if (json_array_append_new(members, row) != 0) return OC_FAIL(OC_EMEMORY, "%s: no memory", folder);
    return OC_OK;
}

oc_status oc_ensemble_save(const char *folder, const char *name, const char *version, const char *const *members,
                           const double *weights, int count)
{
    char path[OC_PATH_MAX], created[OC_TIME_TEXT];
    double sum = 0;
    oc_status status = OC_OK;
    if (!(count >= 2 && count <= OC_ENSEMBLE_MAX))
        return OC_FAIL(OC_EUSAGE, "%s: an ensemble of %d members, not 2 to %d", folder, count, OC_ENSEMBLE_MAX);
    if (oc_path_exists(folder)) return OC_FAIL(OC_EUSAGE, "%s: there is a version of that name already", folder);
    for (int i = 0; i < count; i++) {
        if (!(weights[i] > 0 && weights[i] <= 1e6))
            return OC_FAIL(OC_EUSAGE, "%s: a weight of %g, not above 0 and at most 1e6", folder, weights[i]);
        sum += weights[i];
    }
    OC_TRY(oc_path_make_folders(folder)); /* the members are found from inside it */
    json_t *list = json_array();
    for (int i = 0; i < count && status == OC_OK; i++) status = member_json(folder, members[i], weights[i] / sum, list);
    json_t *root = json_pack("{s:s, s:i, s:s, s:s, s:s, s:O}", "format", "outcry-ensemble", "format_version",
                             FORMAT_VERSION, "name", name, "version", version, "created",
                             oc_time_text(oc_clock_wall_ns(), created), "members", list);
    if (status == OC_OK && !root) status = OC_FAIL(OC_EMEMORY, "%s: no memory", folder);
    if (status == OC_OK) status = oc_path_join(path, sizeof path, folder, "ensemble.json");
    if (status == OC_OK) status = oc_json_save(path, root);
    if (status == OC_OK) {
        oc_ensemble *e;
        status = oc_ensemble_load(&e, folder);
        oc_ensemble_close(e);
        if (status != OC_OK) (void)unlink(path);
    }
    if (status != OC_OK) (void)rmdir(folder);
    json_decref(root);
    json_decref(list);
    return status;
}

void oc_ensemble_add(const oc_ensemble *e, int member, const float *more, float *answers, size_t n)
{
    const float w = e->weights[member];
    if (e->count == 1) return;
    for (size_t i = 0; i < n && member == 0; i++) answers[i] = w * answers[i];
    for (size_t i = 0; i < n && member > 0; i++) answers[i] += w * more[i];
}
