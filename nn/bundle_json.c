/* bundle_json.c - the fields of bundle.json, written and read. `self_hash` is the last key, in a fixed spelling, so
 * that the file's last 52 bytes are known and everything before them is hashed: keys, numbers and white space alike. */
#include "nn/bundle_json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define ZEROS "00000000000000000000000000000000"
static const char tail_before[] = "\"self_hash\": \"", tail_after[] = "\"\n}\n";
enum { DIGITS = OC_HASH_TEXT - 1, AFTER = sizeof tail_after - 1, TAIL = sizeof tail_before - 1 + DIGITS + AFTER };
enum { FORMAT_VERSION = 1, SEEN_MAX = 100000 };

static const char *const trunk_names[] = {[OC_TRUNK_LSTM] = "lstm", [OC_TRUNK_MLP] = "mlp"};

/* --- seal --- */

/* The hash of the text with its own digits as zeros. */
static oc_status seal_compute(const char *text, size_t bytes, char digits[OC_HASH_TEXT])
{
    oc_hasher *hasher;
    OC_TRY(oc_hasher_open(&hasher));
    oc_hasher_add(hasher, text, bytes - AFTER - DIGITS);
    oc_hasher_add(hasher, ZEROS, DIGITS);
    oc_hasher_add(hasher, text + bytes - AFTER, AFTER);
    oc_hash_text(oc_hasher_result(hasher), digits);
    oc_hasher_close(hasher);
    return OC_OK;
}

oc_status oc_bundle_json_sealed(const char *text, size_t bytes, const char *name)
{
    char digits[OC_HASH_TEXT];
    if (bytes < TAIL + 2 || memcmp(text + bytes - AFTER, tail_after, AFTER) != 0 ||
        memcmp(text + bytes - TAIL, tail_before, sizeof tail_before - 1) != 0)
        return OC_FAIL(OC_EDATA, "%s: does not end with its self_hash: truncated, damaged or edited", name);
    OC_TRY(seal_compute(text, bytes, digits));
    if (memcmp(text + bytes - AFTER - DIGITS, digits, DIGITS) != 0)
        return OC_FAIL(OC_EDATA, "%s: self_hash is \"%.*s\" but the content hashes to %s: damaged or edited", name,
                       DIGITS, text + bytes - AFTER - DIGITS, digits);
    return OC_OK;
}

/* --- writing --- */

static json_t *hash_json(oc_hash hash)
{
    char text[OC_HASH_TEXT];
    return json_string(oc_hash_text(hash, text));
}

static json_t *reals_json(const double *x, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) json_array_append_new(array, json_real(x[i]));
    return array;
}

static json_t *seen_json(const oc_bundle *b)
{
    json_t *array = json_array();
    for (size_t i = 0; i < b->seen_count; i++) {
        json_array_append_new(array,
                              json_pack("{s:s, s:I, s:I}", "symbol", b->seen[i].symbol, "first_ns",
                                        (json_int_t)b->seen[i].first_ns, "last_ns", (json_int_t)b->seen[i].last_ns));
    }
    return array;
}

static json_t *bundle_json(const oc_bundle *b, const oc_bundle_file *weights)
{
    const oc_model_shape *s = &b->shape;
    json_t *columns = json_array(), *labels = json_array();
    for (int i = 0; i < s->inputs; i++) json_array_append_new(columns, json_string(b->features[i]));
    for (int i = 0; i < s->horizons; i++) json_array_append_new(labels, json_string(b->labels[i]));
    json_t *shape = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s}", "trunk", trunk_names[s->trunk], "steps",
                              s->steps, "inputs", s->inputs, "layers", s->layers, "hidden", s->hidden, "heads",
                              s->heads, "horizons", s->horizons, "gates", "ifgo");
    json_t *trained = json_pack("{s:o, s:{s:s, s:o, s:s, s:I, s:I}, s:I, s:I, s:s, s:s, s:o}", "dataset",
                                hash_json(b->dataset), "fold", "name", b->fold_name, "hash", hash_json(b->fold), "of",
                                b->folds, "index", (json_int_t)b->fold_index, "embargo_ns", (json_int_t)b->embargo_ns,
                                "seed", (json_int_t)b->seed, "optimiser_steps", (json_int_t)b->train_steps, "reduce",
                                b->reduce, "computed", b->computed, "seen", seen_json(b));
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:o, s:{s:o, s:o}, s:{s:o, s:o, s:f}, s:o, s:[s,s,s], s:o, s:o, s:o, "
        "s:{s:{s:I, s:o}}, s:s}",
        "format", "outcry-bundle", "format_version", FORMAT_VERSION, "name", b->name, "version", b->version, "build",
        b->build, "created", b->created, "shape", shape, "features", "schema", hash_json(b->schema), "columns", columns,
        "scaler", "mean", reals_json(b->mean, (size_t)s->inputs), "scale", reals_json(b->scale, (size_t)s->inputs),
        "clip", b->clip, "labels", labels, "classes", "buy", "sell", "hold", "temperature",
        reals_json(b->temperature, (size_t)s->horizons), "trained", trained, "weights_hash", hash_json(b->weights),
        "files", "weights.safetensors", "bytes", (json_int_t)weights->bytes, "hash", hash_json(weights->hash),
        "self_hash", ZEROS);
}

oc_status oc_bundle_json_write(const oc_bundle *b, const oc_bundle_file *weights, char **text, size_t *bytes)
{
    char digits[OC_HASH_TEXT];
    json_t *root = bundle_json(b, weights);
    char *dump = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(root);
    if (!dump)
        return OC_FAIL(OC_EDATA, "bundle %.63s: cannot be written as JSON: no memory, or a name that is not UTF-8",
                       b->name);
    size_t length = strlen(dump);
    dump[length++] = '\n'; /* in place of the NUL: the length is known from here on */
    oc_status status = seal_compute(dump, length, digits);
    if (status != OC_OK) {
        free(dump);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    memcpy(dump + length - AFTER - DIGITS, digits, DIGITS);
    *text = dump;
    *bytes = length;
    return OC_OK;
}

/* --- reading --- */

static oc_status text_into(const json_t *root, const char *key, const char *where, char *out, size_t cap)
{
    const char *text;
    OC_TRY(oc_json_text(root, key, where, &text));
    if (strlen(text) >= cap) return OC_FAIL(OC_EDATA, "%s: %s is longer than %zu bytes", where, key, cap - 1);
    memcpy(out, text, strlen(text) + 1);
    return OC_OK;
}

static oc_status hash_into(const json_t *root, const char *key, const char *where, oc_hash *out)
{
    const char *text;
    OC_TRY(oc_json_text(root, key, where, &text));
    if (!oc_hash_parse(text, out)) return OC_FAIL(OC_EDATA, "%s: %s is not 32 hexadecimal digits", where, key);
    return OC_OK;
}

static oc_status int_into(const json_t *root, const char *key, const char *where, int max, int *out)
{
    int64_t value;
    OC_TRY(oc_json_int(root, key, where, 0, max, &value));
    *out = (int)value;
    return OC_OK;
}

static oc_status shape_read(const json_t *root, const char *where, oc_model_shape *s)
{
    const char *text;
    memset(s, 0, sizeof *s);
    OC_TRY(oc_json_text(root, "shape.trunk", where, &text));
    size_t trunk = 0, trunks = sizeof trunk_names / sizeof *trunk_names;
    while (trunk < trunks && strcmp(text, trunk_names[trunk]) != 0) trunk++;
    if (trunk == trunks) return OC_FAIL(OC_EDATA, "%s: shape.trunk is \"%.32s\", not lstm or mlp", where, text);
    s->trunk = (oc_trunk)trunk;
    OC_TRY(oc_json_text(root, "shape.gates", where, &text));
    if (strcmp(text, "ifgo") != 0) return OC_FAIL(OC_EDATA, "%s: shape.gates is \"%.32s\", not ifgo", where, text);
    OC_TRY(int_into(root, "shape.steps", where, OC_STEPS_MAX, &s->steps));
    OC_TRY(int_into(root, "shape.inputs", where, OC_INPUTS_MAX, &s->inputs));
    OC_TRY(int_into(root, "shape.layers", where, OC_LAYERS_MAX, &s->layers));
    OC_TRY(int_into(root, "shape.hidden", where, OC_HIDDEN_MAX, &s->hidden));
    OC_TRY(int_into(root, "shape.heads", where, OC_HEADS_MAX, &s->heads));
    OC_TRY(int_into(root, "shape.horizons", where, OC_HORIZONS_MAX, &s->horizons));
    if (oc_model_shape_check(s) != OC_OK) return oc_status_prefix(OC_EDATA, "%s: shape", where);
    return OC_OK;
}

/* An array of exactly `count` texts into rows of `stride` bytes. */
static oc_status texts_read(const json_t *root, const char *key, const char *where, char *out, size_t count,
                            size_t stride)
{
    json_t *array;
    OC_TRY(oc_json_get(root, key, where, JSON_ARRAY, &array));
    if (json_array_size(array) != count)
        return OC_FAIL(OC_EDATA, "%s: %s has %zu entries, not %zu", where, key, json_array_size(array), count);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (!text || !*text || strlen(text) >= stride)
            return OC_FAIL(OC_EDATA, "%s: %s[%zu] is not a text of 1 to %zu bytes", where, key, i, stride - 1);
        memcpy(out + i * stride, text, strlen(text) + 1);
    }
    return OC_OK;
}

static oc_status seen_read(const json_t *array, const char *where, oc_bundle *b)
{
    for (size_t i = 0; i < b->seen_count; i++) {
        const json_t *entry = json_array_get(array, i);
        OC_TRY(text_into(entry, "symbol", where, b->seen[i].symbol, sizeof b->seen[i].symbol));
        OC_TRY(oc_json_int(entry, "first_ns", where, INT64_MIN, INT64_MAX, &b->seen[i].first_ns));
        OC_TRY(oc_json_int(entry, "last_ns", where, b->seen[i].first_ns, INT64_MAX, &b->seen[i].last_ns));
    }
    return OC_OK;
}

static oc_status trained_read(const json_t *root, const char *where, oc_bundle *b)
{
    int64_t seed;
    OC_TRY(hash_into(root, "trained.dataset", where, &b->dataset));
    OC_TRY(hash_into(root, "trained.fold.hash", where, &b->fold));
    OC_TRY(text_into(root, "trained.fold.name", where, b->fold_name, sizeof b->fold_name));
    OC_TRY(text_into(root, "trained.fold.of", where, b->folds, sizeof b->folds));
    OC_TRY(oc_json_int(root, "trained.fold.index", where, 0, INT32_MAX, &b->fold_index));
    OC_TRY(oc_json_int(root, "trained.fold.embargo_ns", where, 0, INT64_MAX, &b->embargo_ns));
    OC_TRY(oc_json_int(root, "trained.seed", where, 0, INT64_MAX, &seed));
    b->seed = (uint64_t)seed;
    OC_TRY(oc_json_int(root, "trained.optimiser_steps", where, 0, INT64_MAX, &b->train_steps));
    if (json_object_get(json_object_get(root, "trained"), "reduce")) /* bundles from before there was a choice: tree */
        OC_TRY(text_into(root, "trained.reduce", where, b->reduce, sizeof b->reduce));
    if (json_object_get(json_object_get(root, "trained"), "computed")) /* older ones do not say it */
        OC_TRY(text_into(root, "trained.computed", where, b->computed, sizeof b->computed));
    return OC_OK;
}

static oc_status fields_read(const json_t *root, const char *where, oc_bundle *b)
{
    size_t inputs = (size_t)b->shape.inputs, horizons = (size_t)b->shape.horizons;
    OC_TRY(text_into(root, "name", where, b->name, sizeof b->name));
    OC_TRY(text_into(root, "version", where, b->version, sizeof b->version));
    OC_TRY(text_into(root, "build", where, b->build, sizeof b->build));
    OC_TRY(text_into(root, "created", where, b->created, sizeof b->created));
    OC_TRY(hash_into(root, "features.schema", where, &b->schema));
    OC_TRY(texts_read(root, "features.columns", where, b->features[0], inputs, sizeof *b->features));
    OC_TRY(oc_json_reals(root, "scaler.mean", where, b->mean, inputs));
    OC_TRY(oc_json_reals(root, "scaler.scale", where, b->scale, inputs));
    OC_TRY(oc_json_real(root, "scaler.clip", where, 0, 1e6, &b->clip));
    OC_TRY(texts_read(root, "labels", where, b->labels[0], horizons, sizeof *b->labels));
    OC_TRY(oc_json_reals(root, "temperature", where, b->temperature, horizons));
    OC_TRY(trained_read(root, where, b));
    OC_TRY(hash_into(root, "weights_hash", where, &b->weights));
    return OC_OK;
}

/* The size that bundle.json claims must be that of the file, and hold the shape's weights: no memory on a claim alone.
 */
static oc_status file_read(const json_t *root, const char *where, const oc_model_shape *shape, uint64_t actual,
                           oc_bundle_file *out)
{
    json_t *files, *entry;
    oc_parameters p;
    int64_t bytes;
    OC_TRY(oc_json_get(root, "files", where, JSON_OBJECT, &files));
    OC_TRY(oc_json_get(files, "weights.safetensors", where, JSON_OBJECT, &entry));
    OC_TRY(oc_json_int(entry, "bytes", where, 0, INT64_MAX, &bytes));
    OC_TRY(hash_into(entry, "hash", where, &out->hash));
    out->bytes = (uint64_t)bytes;
    oc_parameters_describe(&p, shape);
    if (out->bytes != actual || actual < p.weights * sizeof(float))
        return OC_FAIL(OC_EDATA,
                       "%s: weights.safetensors should have %llu bytes and its shape takes %zu, but the file has %llu: "
                       "truncated, or of another model",
                       where, (unsigned long long)out->bytes, p.weights * sizeof(float), (unsigned long long)actual);
    return OC_OK;
}

static oc_status root_read(oc_bundle **out, const json_t *root, const char *where, uint64_t actual,
                           oc_bundle_file *weights)
{
    oc_model_shape shape;
    const char *format;
    int64_t version;
    json_t *seen;
    OC_TRY(oc_json_text(root, "format", where, &format));
    OC_TRY(oc_json_int(root, "format_version", where, 0, INT64_MAX, &version));
    if (strcmp(format, "outcry-bundle") != 0 || version != FORMAT_VERSION)
        return OC_FAIL(OC_EDATA, "%s: format \"%.32s\" version %lld, not outcry-bundle version %d", where, format,
                       (long long)version, FORMAT_VERSION);
    OC_TRY(shape_read(root, where, &shape));
    OC_TRY(file_read(root, where, &shape, actual, weights));
    OC_TRY(oc_json_get(root, "trained.seen", where, JSON_ARRAY, &seen));
    if (json_array_size(seen) > SEEN_MAX)
        return OC_FAIL(OC_EDATA, "%s: trained.seen has over %d entries", where, SEEN_MAX);
    OC_TRY(oc_bundle_new(out, &shape, json_array_size(seen)));
    OC_TRY(seen_read(seen, where, *out));
    OC_TRY(fields_read(root, where, *out));
    return OC_OK;
}

oc_status oc_bundle_json_read(oc_bundle **out, const char *text, size_t bytes, const char *name, uint64_t actual,
                              oc_bundle_file *weights)
{
    json_t *root;
    *out = NULL;
    OC_TRY(oc_json_parse(text, bytes, name, &root));
    oc_status status = root_read(out, root, name, actual, weights);
    json_decref(root);
    if (status != OC_OK) {
        oc_bundle_close(*out);
        *out = NULL;
    }
    return status;
}
