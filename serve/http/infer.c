/* infer.c - reads what inputs, outputs and parameters say, by name and refused where it is anything else. */
#include "serve/http/infer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "serve/client/wire.h"
#include "serve/http/scan.h"
#include "serve/metrics.h"

enum { NUMBER_CHARS = 18, HEAD_BYTES = 2048 };

static OC_MUST flag_read(const json_t *parameters, const char *name, bool *out)
{
    const json_t *value = json_object_get(parameters, name);
    if (value && !json_is_boolean(value)) return OC_FAIL(OC_EDATA, "parameters.%s is not true or false", name);
    if (value) *out = json_is_true(value);
    return OC_OK;
}

/* What else stands there (shared memory, classification) asks for something that the answer would not be. */
static OC_MUST tensor_parameters_check(const json_t *tensor, const char *where, const char *known)
{
    json_t *parameters = json_object_get(tensor, "parameters"), *value;
    const char *name;
    json_object_foreach(parameters, name, value)
    {
        if (strcmp(name, known) != 0)
            return OC_FAIL(OC_EDATA, "%s[0].parameters.%.60s is not offered: %s alone is", where, name, known);
    }
    return OC_OK;
}

/* [batch, T, F], or of a sequence [1, n, F] with n up to T. */
static OC_MUST shape_read(oc_infer *r, const oc_bundle *model, size_t batch_max, const json_t *input)
{
    const json_t *shape = json_object_get(input, "shape");
    const json_int_t steps = model->shape.steps, inputs = model->shape.inputs;
    json_int_t dims[3] = {0, 0, 0};
    for (size_t i = 0; i < 3 && json_array_size(shape) == 3; i++)
        dims[i] = json_integer_value(json_array_get(shape, i)); /* 0 where it is none */
    const bool pushed = r->sequence_id[0] != 0, good = dims[0] >= 1 && dims[1] >= 1 && dims[2] == inputs &&
                                                       (pushed ? dims[0] == 1 && dims[1] <= steps : dims[1] == steps);
    if (!good && pushed)
        return OC_FAIL(OC_EDATA, "inputs[0].shape is not [1, rows, %d] with 1 row, at a start up to %d",
                       model->shape.inputs, model->shape.steps);
    if (!good)
        return OC_FAIL(OC_EDATA, "inputs[0].shape is not [batch, %d, %d]", model->shape.steps, model->shape.inputs);
    if (!((uint64_t)dims[0] <= batch_max))
        return OC_FAIL(OC_ELIMIT, "a batch of %lld windows; at most %zu are taken at once", (long long)dims[0],
                       batch_max);
    r->batch = (size_t)dims[0];
    r->rows = (size_t)dims[1];
    return OC_OK;
}

/* A text without control characters that fits; a number is written as one. */
static bool text_read(const json_t *value, char *out, size_t cap)
{
    if (json_is_integer(value)) return snprintf(out, cap, "%lld", (long long)json_integer_value(value)) < (int)cap;
    if (!json_is_string(value) || json_string_length(value) >= cap) return false;
    for (const char *c = json_string_value(value); *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) return false;
    snprintf(out, cap, "%s", json_string_value(value));
    return true;
}

static OC_MUST number_read(const json_t *parameters, const char *name, int64_t min, int64_t max, int64_t *out)
{
    const json_t *value = json_object_get(parameters, name);
    if (!value) return OC_OK;
    if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
        return OC_FAIL(OC_EDATA, "parameters.%s is not an integer from %" PRId64 " to %" PRId64, name, min, max);
    *out = json_integer_value(value);
    return OC_OK;
}

static OC_MUST parameters_read(oc_infer *r, const json_t *root, const char *large_id)
{
    const json_t *p = json_object_get(root, "parameters"), *id = json_object_get(p, "sequence_id"),
                 *symbol = json_object_get(p, "symbol"), *schema = json_object_get(p, "schema");
    r->number = r->run_length = -1;
    r->period_ns = r->timeout_ns = 0;
    r->sequence_id[0] = r->symbol[0] = 0;
    r->start = r->end = false;
    OC_TRY(flag_read(p, "sequence_start", &r->start));
    OC_TRY(flag_read(p, "sequence_end", &r->end));
    r->schema_given = schema != NULL;
    if (id && !text_read(id, r->sequence_id, sizeof r->sequence_id))
        return OC_FAIL(OC_EDATA, "parameters.sequence_id is not a number, or a text below %zu bytes",
                       sizeof r->sequence_id);
    if (json_is_integer(id) && json_integer_value(id) == 0) r->sequence_id[0] = 0; /* the protocol's "none" */
    if (json_is_integer(id) && large_id[0]) snprintf(r->sequence_id, sizeof r->sequence_id, "%s", large_id);
    if (symbol && !text_read(symbol, r->symbol, sizeof r->symbol))
        return OC_FAIL(OC_EDATA, "parameters.symbol is not a text below %zu bytes", sizeof r->symbol);
    if (!r->symbol[0]) snprintf(r->symbol, sizeof r->symbol, "%.31s", r->sequence_id);
    if (schema && (!json_is_string(schema) || !oc_hash_parse(json_string_value(schema), &r->schema)))
        return OC_FAIL(OC_EDATA, "parameters.schema is not a hash of 32 hex digits");
    OC_TRY(number_read(p, "sequence", 1, INT64_MAX, &r->number));
    OC_TRY(number_read(p, "run_length", 0, UINT32_MAX, &r->run_length));
    OC_TRY(number_read(p, "period_ns", 1, INT64_C(1000000000000000), &r->period_ns));
    OC_TRY(number_read(p, "timeout", 0, INT64_C(1000000000000), &r->timeout_ns));
    r->timeout_ns *= 1000;
    return OC_OK;
}

static OC_MUST outputs_read(oc_infer *r, const json_t *root)
{
    const json_t *outputs = json_object_get(root, "outputs");
    r->binary = false;
    OC_TRY(flag_read(json_object_get(root, "parameters"), "binary_data_output", &r->binary));
    if (!outputs) return OC_OK;
    if (!json_is_array(outputs) || json_array_size(outputs) > 1)
        return OC_FAIL(OC_EDATA, "outputs is not a list of at most one");
    const json_t *output = json_array_get(outputs, 0);
    const char *name = json_string_value(json_object_get(output, "name"));
    if (output && (!name || strcmp(name, "probabilities") != 0))
        return OC_FAIL(OC_EDATA, "outputs[0].name is not \"probabilities\"");
    OC_TRY(tensor_parameters_check(output, "outputs", "binary_data"));
    return flag_read(json_object_get(output, "parameters"), "binary_data", &r->binary);
}

static OC_MUST binary_read(oc_infer *r, const json_t *input, const char *raw, size_t raw_bytes, size_t cells)
{
    const json_t *size = json_object_get(json_object_get(input, "parameters"), "binary_data_size");
    if (!json_is_integer(size) || json_integer_value(size) < 0 || (uint64_t)json_integer_value(size) != raw_bytes ||
        raw_bytes != cells * sizeof(float))
        return OC_FAIL(OC_EDATA,
                       "inputs[0]: %zu bytes follow the JSON; its shape needs %zu, and binary_data_size must say so",
                       raw_bytes, cells * sizeof(float));
    memcpy(r->values, raw, raw_bytes);
    return OC_OK;
}

typedef struct parts {
    const char *raw;
    size_t raw_bytes, number_count;
    bool json_numbers;
    char large_id[OC_INFER_SEQUENCE];
} parts;

static OC_MUST root_read(oc_infer *r, const oc_bundle *model, size_t batch_max, const json_t *root, const parts *p)
{
    const json_t *inputs = json_object_get(root, "inputs"), *input = json_array_get(inputs, 0),
                 *id = json_object_get(root, "id");
    const char *name = json_string_value(json_object_get(input, "name")),
               *type = json_string_value(json_object_get(input, "datatype"));
    if (!json_is_object(root) || json_array_size(inputs) != 1 || !name || strcmp(name, "window") != 0)
        return OC_FAIL(OC_EDATA, "inputs is not a list of one tensor whose name is \"window\"");
    if (!type || strcmp(type, "FP32") != 0) return OC_FAIL(OC_EDATA, "inputs[0].datatype is not \"FP32\"");
    if (id && !(json_is_string(id) && text_read(id, r->id, sizeof r->id)))
        return OC_FAIL(OC_EDATA, "id is not a text below %zu bytes without control characters", sizeof r->id);
    OC_TRY(tensor_parameters_check(input, "inputs", "binary_data_size"));
    OC_TRY(outputs_read(r, root));
    OC_TRY(parameters_read(r, root, p->large_id));
    OC_TRY(shape_read(r, model, batch_max, input));
    const size_t cells = r->batch * r->rows * (size_t)model->shape.inputs;
    if (cells > r->values_cap)
        return OC_FAIL(OC_ELIMIT, "a batch of %zu windows is larger than a request may be", r->batch);
    const json_t *data = json_object_get(input, "data");
    if (!data) return binary_read(r, input, p->raw, p->raw_bytes, cells);
    if (!p->json_numbers || !json_is_array(data) || json_array_size(data) != 0 || p->raw_bytes != 0 ||
        p->number_count != cells)
        return OC_FAIL(OC_EDATA, "inputs[0].data holds %zu numbers; its shape needs %zu, and no bytes behind the JSON",
                       p->number_count, cells);
    return OC_OK;
}

/* A sequence_id may be any number of 64 bits, and the JSON library takes signed ones: one beyond is taken out of the
 * text, where the key stands once, and 1 is left in its place. `id` [OC_INFER_SEQUENCE] is "" where there is none. */
static void large_id_take(char *text, size_t bytes, char *id)
{
    static const char key[] = "\"sequence_id\"", limit[] = "9223372036854775807", most[] = "18446744073709551615";
    char *found = NULL;
    id[0] = 0;
    const char *end = text + bytes;
    for (char *at = text; (at = memchr(at, '"', (size_t)(end - at))) != NULL; at++) {
        if ((size_t)(end - at) < sizeof key || memcmp(at, key, sizeof key - 1) != 0) continue;
        if (found) return;
        found = at + sizeof key - 1;
    }
    if (!found) return;
    found += strspn(found, " \t\r\n:");
    const size_t n = strspn(found, "0123456789");
    const bool large = n == sizeof most - 1 ? *found == '1' && strncmp(found, most, n) <= 0
                                            : n == sizeof limit - 1 && strncmp(found, limit, n) > 0;
    if (!large || (size_t)(found - text) + n >= bytes || strchr(".eE", found[n])) return;
    memcpy(id, found, n);
    id[n] = 0;
    memset(found, ' ', n);
    *found = '1';
}

oc_status oc_infer_parse(oc_infer *r, const oc_bundle *model, size_t batch_max, char *body, size_t bytes,
                         int64_t json_bytes)
{
    size_t json_length = bytes;
    json_t *root;
    parts p = {.raw = body + bytes};
    if (json_bytes >= 0) {
        if (!((uint64_t)json_bytes <= bytes))
            return OC_FAIL(OC_EDATA, "Inference-Header-Content-Length is %" PRId64 ", and the body has %zu bytes",
                           json_bytes, bytes);
        json_length = (size_t)json_bytes;
        p.raw = body + json_length;
        p.raw_bytes = bytes - json_length;
    }
    body[bytes] = 0;
    r->id[0] = 0;
    large_id_take(body, json_length, p.large_id);
    OC_TRY(oc_scan_data(body, &json_length, r->values, r->values_cap, &p.number_count, &p.json_numbers));
    if (json_length > OC_INFER_JSON_MAX)
        return OC_FAIL(OC_ELIMIT, "the request's JSON without its numbers is over %d bytes", OC_INFER_JSON_MAX);
    OC_TRY(oc_json_parse(body, json_length, "request", &root));
    const oc_status status = root_read(r, model, batch_max, root, &p);
    json_decref(root);
    return status;
}

void oc_infer_escape(char *out, size_t cap, const char *text)
{
    size_t n = 0;
    for (; *text && n + 3 <= cap; text++) {
        if (*text == '"' || *text == '\\') out[n++] = '\\';
        out[n++] = *text >= ' ' && *text <= '~' ? *text : '?';
    }
    out[n] = 0;
}

size_t oc_infer_answer_bytes(const oc_bundle *model, size_t batch_max)
{
    return HEAD_BYTES + 2 * (OC_INFER_ID + OC_INFER_SEQUENCE) +
           batch_max * (size_t)model->shape.horizons * OC_CLASSES * NUMBER_CHARS;
}

/* A text that came in as JSON goes out as it was. `out` has twice its room. */
static const char *quoted(char *out, const char *text)
{
    char *at = out;
    for (; *text; *at++ = *text++)
        if (*text == '"' || *text == '\\') *at++ = '\\';
    *at = 0;
    return out;
}

/* What stands before the numbers; returns its bytes. */
static size_t head_print(const oc_infer *r, const oc_bundle *model, const oc_infer_answer *a, char *out, size_t cap)
{
    char sequence[2 * OC_INFER_SEQUENCE], id[2 * OC_INFER_ID];
    int n = snprintf(out, cap, "{\"model_name\":\"%s\",\"model_version\":\"%s\"", model->name, a->version);
    if (r->id[0]) n += snprintf(out + n, cap - (size_t)n, ",\"id\":\"%s\"", quoted(id, r->id));
    n += snprintf(out + n, cap - (size_t)n,
                  ",\"parameters\":{\"queue_ns\":%" PRId64 ",\"service_ns\":%" PRId64 ",\"state\":\"%s\"",
                  a->times.queue_ns, a->times.service_ns, oc_reply_names[a->state]);
    if (r->sequence_id[0])
        n += snprintf(out + n, cap - (size_t)n, ",\"sequence_id\":\"%s\",\"sequence\":%" PRId64,
                      quoted(sequence, r->sequence_id), r->number);
    n += snprintf(out + n, cap - (size_t)n,
                  "},\"outputs\":[{\"name\":\"probabilities\",\"datatype\":\"FP32\",\"shape\":[%zu,%d,%d],", r->batch,
                  model->shape.horizons, OC_CLASSES);
    return (size_t)n;
}

size_t oc_infer_print(const oc_infer *r, const oc_bundle *model, const oc_infer_answer *answer, char *out, size_t cap,
                      size_t *json_bytes)
{
    const size_t numbers = r->batch * (size_t)model->shape.horizons * OC_CLASSES;
    const float *probabilities = answer->probabilities;
    if (cap < oc_infer_answer_bytes(model, r->batch)) return 0;
    size_t n = head_print(r, model, answer, out, cap);
    if (r->binary) {
        n += (size_t)snprintf(out + n, cap - n, "\"parameters\":{\"binary_data_size\":%zu}}]}",
                              numbers * sizeof *probabilities);
        *json_bytes = n;
        memcpy(out + n, probabilities, numbers * sizeof *probabilities);
        return n + numbers * sizeof *probabilities;
    }
    n += (size_t)snprintf(out + n, cap - n, "\"data\":[");
    for (size_t i = 0; i < numbers; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%.9g", i ? "," : "", (double)probabilities[i]);
    n += (size_t)snprintf(out + n, cap - n, "]}]}");
    *json_bytes = n;
    return n;
}
