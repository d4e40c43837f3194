/* bundle.c - a bundle in memory, its checks, and its folder. The weights are written first and bundle.json last, each
 * atomically: a crash between the two leaves a bundle that is refused, never a wrong one. */
#include "nn/bundle.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/bundle_json.h"
#include "nn/safetensors.h"

static const double temperature_min = 1e-3, temperature_max = 1e3;

static oc_status arrays_new(oc_bundle *b, size_t seen_count)
{
    oc_parameters p;
    oc_parameters_describe(&p, &b->shape);
    size_t inputs = (size_t)b->shape.inputs;
    OC_TRY(oc_memory_new_array(&b->features, inputs, sizeof *b->features, "bundle: feature names"));
    OC_TRY(oc_memory_new_array(&b->mean, inputs, sizeof *b->mean, "bundle: mean"));
    OC_TRY(oc_memory_new_array(&b->scale, inputs, sizeof *b->scale, "bundle: scale"));
    OC_TRY(oc_memory_new_array(&b->seen, seen_count, sizeof *b->seen, "bundle: intervals seen"));
    OC_TRY(oc_memory_new_array(&b->flat, p.total, sizeof *b->flat, "bundle: weights"));
    b->seen_count = seen_count;
    return OC_OK;
}

oc_status oc_bundle_new(oc_bundle **out, const oc_model_shape *shape, size_t seen_count)
{
    *out = NULL;
    OC_TRY(oc_model_shape_check(shape));
    OC_TRY(oc_memory_new(out, sizeof **out, "bundle"));
    (*out)->shape = *shape;
    snprintf((*out)->reduce, sizeof(*out)->reduce, "tree");
    snprintf((*out)->computed, sizeof(*out)->computed, "not said");
    oc_status status = arrays_new(*out, seen_count);
    if (status != OC_OK) {
        oc_bundle_close(*out);
        *out = NULL;
    }
    return status;
}

void oc_bundle_close(oc_bundle *b)
{
    if (!b) return;
    oc_memory_free(b->features);
    oc_memory_free(b->mean);
    oc_memory_free(b->scale);
    oc_memory_free(b->seen);
    oc_memory_free(b->flat);
    oc_memory_free(b);
}

oc_hash oc_weights_hash(const oc_parameters *p, const float *flat)
{
    /* Chained row by row, so that no copy without the gaps of alignment is needed; the names are part of the chain. */
    oc_hash hash = {0, 0};
    for (size_t i = 0; i < p->count; i++) {
        const oc_parameter *row = &p->row[i];
        hash = oc_hash_pair(hash, oc_hash_bytes(row->name, strlen(row->name)));
        hash = oc_hash_pair(hash, oc_hash_bytes(flat + row->first, row->count * sizeof *flat));
    }
    return hash;
}

/* Name and version become folders, parts of an address, and labels. */
static oc_status name_check(const char *where, const char *key, const char *name)
{
    bool good = isalnum((unsigned char)name[0]);
    for (const char *c = name; *c; c++) good = good && (isalnum((unsigned char)*c) || strchr("._-", *c));
    if (!good)
        return OC_FAIL(OC_EDATA,
                       "%s: %s \"%s\" is not letters, digits, '.', '_' and '-', beginning with one of the first two",
                       where, key, name);
    return OC_OK;
}

static oc_status scaler_check(const char *where, const oc_bundle *b)
{
    for (int i = 0; i < b->shape.inputs; i++) {
        float mean = (float)b->mean[i], scale = (float)b->scale[i];
        if (!(isfinite(mean) && isfinite(scale) && scale > 0.0f))
            return OC_FAIL(
                OC_EDATA,
                "%s: scaler of feature %d (%s) is mean %.9g, scale %.9g; both must be finite, the scale above 0", where,
                i, b->features[i], b->mean[i], b->scale[i]);
    }
    if (!(b->clip >= 0 && b->clip <= 1e6))
        return OC_FAIL(OC_EDATA, "%s: scaler.clip is %g, not from 0 to 1e6", where, b->clip);
    return OC_OK;
}

static oc_status bundle_check(const char *where, const oc_bundle *b)
{
    OC_TRY(name_check(where, "name", b->name));
    OC_TRY(name_check(where, "version", b->version));
    OC_TRY(scaler_check(where, b));
    for (int i = 0; i < b->shape.horizons; i++) {
        if (!(b->temperature[i] >= temperature_min && b->temperature[i] <= temperature_max))
            return OC_FAIL(OC_EDATA, "%s: temperature[%d] is %g, not from %g to %g", where, i, b->temperature[i],
                           temperature_min, temperature_max);
        if (!b->labels[i][0]) return OC_FAIL(OC_EDATA, "%s: labels[%d] is empty", where, i);
    }
    for (int i = 0; i < b->shape.inputs; i++) {
        if (!b->features[i][0]) return OC_FAIL(OC_EDATA, "%s: features.columns[%d] is empty", where, i);
    }
    if (b->seed > INT64_MAX)
        return OC_FAIL(OC_EDATA, "%s: seed %llu is over 2^63 - 1", where, (unsigned long long)b->seed);
    return OC_OK;
}

static oc_status paths_make(const char *folder, char json[OC_PATH_MAX], char weights[OC_PATH_MAX])
{
    OC_TRY(oc_path_join(json, OC_PATH_MAX, folder, "bundle.json"));
    OC_TRY(oc_path_join(weights, OC_PATH_MAX, folder, "weights.safetensors"));
    return OC_OK;
}

oc_status oc_bundle_save(oc_bundle *b, const char *folder)
{
    char json_path[OC_PATH_MAX], weights_path[OC_PATH_MAX], *text;
    oc_bundle_file weights;
    oc_parameters p;
    size_t bytes;
    OC_TRY(bundle_check(folder, b));
    OC_TRY(paths_make(folder, json_path, weights_path));
    OC_TRY(oc_path_make_folders(folder));
    oc_parameters_describe(&p, &b->shape);
    b->weights = oc_weights_hash(&p, b->flat);
    OC_TRY(oc_safetensors_write(weights_path, &p, b->flat, &weights.bytes, &weights.hash));
    OC_TRY(oc_bundle_json_write(b, &weights, &text, &bytes));
    oc_status status = oc_file_write(json_path, text, bytes);
    free(text);
    return status;
}

static oc_status weights_load(oc_bundle *b, const char *path, const oc_file_map *map, const oc_bundle_file *file)
{
    char said[OC_HASH_TEXT], found[OC_HASH_TEXT];
    oc_parameters p;
    oc_hash hash = oc_hash_bytes(map->data, map->bytes);
    if (!oc_hash_equal(hash, file->hash))
        return OC_FAIL(OC_EDATA, "%s: hashes to %s, but bundle.json says %s: damaged, or of another model", path,
                       oc_hash_text(hash, found), oc_hash_text(file->hash, said));
    oc_parameters_describe(&p, &b->shape);
    OC_TRY(oc_safetensors_read(map->data, map->bytes, path, &p, b->flat));
    if (!oc_hash_equal(oc_weights_hash(&p, b->flat), b->weights))
        return OC_FAIL(OC_EDATA, "%s: its tensors do not have the weights_hash of bundle.json", path);
    return OC_OK;
}

/* map: of the weights, already open. */
static oc_status bundle_load(oc_bundle **out, const char *json_path, const char *weights_path, const oc_file_map *map)
{
    oc_bundle_file file;
    char *text;
    size_t bytes;
    OC_TRY(oc_file_read(json_path, OC_BUNDLE_JSON_MAX, &text, &bytes));
    oc_status status = oc_bundle_json_sealed(text, bytes, json_path);
    if (status == OC_OK) status = oc_bundle_json_read(out, text, bytes, json_path, map->bytes, &file);
    oc_memory_free(text);
    if (status != OC_OK) return oc_status_trail(status, __FILE__, __LINE__);
    OC_TRY(bundle_check(json_path, *out));
    OC_TRY(weights_load(*out, weights_path, map, &file));
    return OC_OK;
}

oc_status oc_bundle_load(oc_bundle **out, const char *folder)
{
    char json_path[OC_PATH_MAX], weights_path[OC_PATH_MAX];
    oc_file_map map;
    *out = NULL;
    OC_TRY(paths_make(folder, json_path, weights_path));
    OC_TRY(oc_file_map_open(&map, weights_path));
    oc_status status = bundle_load(out, json_path, weights_path, &map);
    oc_file_map_close(&map);
    if (status != OC_OK) {
        oc_bundle_close(*out);
        *out = NULL;
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    return OC_OK;
}
