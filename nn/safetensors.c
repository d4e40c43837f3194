/* safetensors.c - the strict writer and reader of safetensors.h. The reader walks the parameter table, not the file:
 * what the file says is compared with what must be there, so that no number of a file is ever used as a size. */
#include "nn/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"

enum { LENGTH_BYTES = 8, DATA_ALIGNMENT = 64 };

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are stored as they lie in memory");

/* --- writing --- */

static json_t *header_entry(const oc_parameter *row, size_t first)
{
    json_t *shape = row->rank == 1 ? json_pack("[I]", (json_int_t)row->dims[0])
                                   : json_pack("[I,I]", (json_int_t)row->dims[0], (json_int_t)row->dims[1]);
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", "F32", "shape", shape, "data_offsets", (json_int_t)first,
                     (json_int_t)(first + row->count * sizeof(float)));
}

/* The header's text, padded with spaces so that the data begin at a multiple of 64; malloc'ed. */
static char *header_text(const oc_parameters *p)
{
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    size_t first = 0;
    for (size_t i = 0; root && i < p->count; i++) {
        if (json_object_set_new(root, p->row[i].name, header_entry(&p->row[i], first)) != 0) {
            json_decref(root);
            root = NULL;
        }
        first += p->row[i].count * sizeof(float);
    }
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) return NULL;
    size_t used = strlen(text), whole = (LENGTH_BYTES + used + DATA_ALIGNMENT - 1) / DATA_ALIGNMENT * DATA_ALIGNMENT;
    char *padded = calloc(1, whole - LENGTH_BYTES + 1);
    if (padded) {
        memset(padded, ' ', whole - LENGTH_BYTES);
        memcpy(padded, text, used);
    }
    free(text);
    return padded;
}

static oc_status add(oc_file_writer *w, oc_hasher *hasher, const void *data, size_t bytes)
{
    oc_hasher_add(hasher, data, bytes);
    OC_TRY(oc_file_writer_add(w, data, bytes));
    return OC_OK;
}

static oc_status write_all(oc_file_writer *w, oc_hasher *hasher, const oc_parameters *p, const char *header,
                           const float *flat)
{
    uint64_t length = strlen(header);
    OC_TRY(add(w, hasher, &length, sizeof length));
    OC_TRY(add(w, hasher, header, length));
    for (size_t i = 0; i < p->count; i++)
        OC_TRY(add(w, hasher, flat + p->row[i].first, p->row[i].count * sizeof(float)));
    return OC_OK;
}

static oc_status finite_check(const char *name, const oc_parameters *p, const float *flat)
{
    for (size_t i = 0; i < p->count; i++) {
        for (size_t k = 0; k < p->row[i].count; k++) {
            if (!isfinite(flat[p->row[i].first + k]))
                return OC_FAIL(OC_EDATA, "%s: %s[%zu] is not finite", name, p->row[i].name, k);
        }
    }
    return OC_OK;
}

oc_status oc_safetensors_write(const char *path, const oc_parameters *p, const float *flat, uint64_t *bytes,
                               oc_hash *hash)
{
    oc_hasher *hasher = NULL;
    oc_file_writer *w = NULL;
    OC_TRY(finite_check(path, p, flat));
    char *header = header_text(p);
    if (!header) return OC_FAIL(OC_EMEMORY, "%s: no memory for its header", path);
    oc_status status;
    OC_TRY_GOTO(status, done, oc_hasher_open(&hasher));
    OC_TRY_GOTO(status, done, oc_file_writer_open(&w, path));
    OC_TRY_GOTO(status, done, write_all(w, hasher, p, header, flat));
    *bytes = oc_file_writer_bytes(w);
    *hash = oc_hasher_result(hasher);
    oc_file_writer *committed = w;
    w = NULL;
    status = oc_file_writer_commit(committed);
done:
    oc_file_writer_abort(w);
    oc_hasher_close(hasher);
    free(header);
    return status;
}

/* --- reading --- */

static bool offsets_are(const json_t *entry, uint64_t first, uint64_t last)
{
    const json_t *offsets = json_object_get(entry, "data_offsets"), *a = json_array_get(offsets, 0),
                 *b = json_array_get(offsets, 1);
    return json_array_size(offsets) == 2 && json_is_integer(a) && json_is_integer(b) &&
           (uint64_t)json_integer_value(a) == first && (uint64_t)json_integer_value(b) == last;
}

static bool shape_is(const json_t *entry, const oc_parameter *row)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (json_array_size(shape) != (size_t)row->rank) return false;
    for (int i = 0; i < row->rank; i++) {
        const json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) != row->dims[i]) return false;
    }
    return true;
}

static oc_status entry_check(const json_t *header, const char *name, const oc_parameter *row, uint64_t first)
{
    const json_t *entry = json_object_get(header, row->name);
    if (!entry) return OC_FAIL(OC_EDATA, "%s: tensor %s is missing", name, row->name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype || strcmp(dtype, "F32") != 0 || json_object_size(entry) != 3)
        return OC_FAIL(OC_EDATA, "%s: tensor %s is not described as F32 with shape and data_offsets", name, row->name);
    if (!shape_is(entry, row))
        return OC_FAIL(OC_EDATA, "%s: tensor %s has another shape than [%lld%s%.0lld]", name, row->name,
                       (long long)row->dims[0], row->rank == 2 ? ", " : "",
                       row->rank == 2 ? (long long)row->dims[1] : 0LL);
    uint64_t last = first + row->count * sizeof(float);
    if (!offsets_are(entry, first, last))
        return OC_FAIL(OC_EDATA,
                       "%s: tensor %s does not lie at bytes %llu to %llu of the data (overlap, gap or other order)",
                       name, row->name, (unsigned long long)first, (unsigned long long)last);
    return OC_OK;
}

static oc_status header_check(const json_t *header, const char *name, const oc_parameters *p)
{
    uint64_t first = 0;
    if (!json_is_object(header)) return OC_FAIL(OC_EDATA, "%s: the header is not a JSON object", name);
    for (size_t i = 0; i < p->count; i++) {
        OC_TRY(entry_check(header, name, &p->row[i], first));
        first += p->row[i].count * sizeof(float);
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)header, key, value)
    {
        if (strcmp(key, "__metadata__") != 0 && !oc_parameters_find(p, key))
            return OC_FAIL(OC_EDATA, "%s: tensor %.64s is not part of this model", name, key);
    }
    return OC_OK;
}

oc_status oc_safetensors_read(const unsigned char *data, size_t bytes, const char *name, const oc_parameters *p,
                              float *flat)
{
    uint64_t length;
    if (bytes < LENGTH_BYTES) return OC_FAIL(OC_EDATA, "%s: %zu bytes are too short for safetensors", name, bytes);
    memcpy(&length, data, sizeof length);
    if (!(length >= 2 && length <= OC_SAFETENSORS_HEADER_MAX && length <= bytes - LENGTH_BYTES))
        return OC_FAIL(OC_EDATA, "%s: a header of %llu bytes in a file of %zu (at most %d)", name,
                       (unsigned long long)length, bytes, OC_SAFETENSORS_HEADER_MAX);
    const unsigned char *at = data + LENGTH_BYTES + length;
    if (bytes - LENGTH_BYTES - length != p->weights * sizeof(float))
        return OC_FAIL(OC_EDATA,
                       "%s: %zu bytes of data, not the %zu of this model's weights: truncated, or another shape", name,
                       bytes - LENGTH_BYTES - (size_t)length, p->weights * sizeof(float));
    json_t *header;
    OC_TRY(oc_json_parse((const char *)data + LENGTH_BYTES, length, name, &header));
    oc_status status = header_check(header, name, p);
    json_decref(header);
    if (status != OC_OK) return oc_status_trail(status, __FILE__, __LINE__);
    for (size_t i = 0; i < p->count; i++) {
        memcpy(flat + p->row[i].first, at, p->row[i].count * sizeof(float));
        at += p->row[i].count * sizeof(float);
    }
    OC_TRY(finite_check(name, p, flat));
    return OC_OK;
}
