/* json.c - jansson with limits before, and typed reads after. */
#include "base/json.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { DEPTH_MAX = 64 };

/* jansson recurses up to 2,048 levels; this stops earlier, and names the place. */
static oc_status depth_check(const char *text, size_t bytes, const char *name)
{
    int depth = 0, line = 1;
    bool quoted = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (c == '\n') line++;
        if (quoted) {
            if (c == '\\') i++;
            else if (c == '"') quoted = false;
        } else if (c == '"') quoted = true;
        else if (c == '{' || c == '[') depth++;
        else if (c == '}' || c == ']') depth--;
        if (depth > DEPTH_MAX) return OC_FAIL(OC_EDATA, "%s:%d: nested over %d levels", name, line, DEPTH_MAX);
    }
    return OC_OK;
}

oc_status oc_json_parse(const char *text, size_t bytes, const char *name, json_t **out)
{
    json_error_t error;
    *out = NULL;
    OC_TRY(depth_check(text, bytes, name));
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!*out) return OC_FAIL(OC_EDATA, "%s:%d:%d: %s", name, error.line, error.column, error.text);
    return OC_OK;
}

oc_status oc_json_load(const char *path, size_t bytes_max, json_t **out)
{
    char *text;
    size_t bytes;
    *out = NULL;
    oc_status status = oc_file_read(path, bytes_max, &text, &bytes);
    if (status == OC_ELIMIT) status = OC_EDATA; /* the input is at fault, the message says so */
    if (status != OC_OK) return oc_status_trail(status, __FILE__, __LINE__);
    status = oc_json_parse(text, bytes, path, out);
    oc_memory_free(text);
    return status;
}

/* Indented text and a newline behind it; *bytes of it, no NUL. free() it. */
static oc_status indented(const json_t *json, const char *path, char **text, size_t *bytes)
{
    *text = json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
    if (!*text) return OC_FAIL(OC_EMEMORY, "%s: cannot print the JSON", path);
    *bytes = strlen(*text) + 1;
    (*text)[*bytes - 1] = '\n';                 /* in place of the NUL: the length is known */
    return OC_OK;
}

oc_status oc_json_save(const char *path, const json_t *json)
{
    char *text;
    size_t bytes = 0;
    OC_TRY(indented(json, path, &text, &bytes));
    oc_status status = oc_file_write(path, text, bytes);
    free(text);
    return status;
}

oc_status oc_json_add(oc_file_writer *w, const char *path, const json_t *json)
{
    char *text;
    size_t bytes = 0;
    OC_TRY(indented(json, path, &text, &bytes));
    oc_status status = oc_file_writer_add(w, text, bytes);
    free(text);
    return status;
}

char *oc_json_line(const json_t *json)
{
    return json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(17) | JSON_ENCODE_ANY);
}

static const char *type_name(json_type type)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a real",    [JSON_TRUE] = "a boolean",
        [JSON_FALSE] = "a boolean",    [JSON_NULL] = "null"};
    return names[type];
}

/* The longest name first: "a.b" as one key wins over b within a, so dotted tensor names are found. */
static json_t *find(const json_t *root, const char *key)
{
    while (json_is_object(root)) {
        json_t *whole = json_object_get(root, key);
        const char *dot = strchr(key, '.');
        if (whole || !dot) return whole;
        root = json_object_getn(root, key, (size_t)(dot - key));
        key = dot + 1;
    }
    return NULL;
}

static oc_status find_required(const json_t *root, const char *key, const char *where, json_t **out)
{
    *out = find(root, key);
    if (!*out) return OC_FAIL(OC_EDATA, "%s: %s is missing", where, key);
    return OC_OK;
}

oc_status oc_json_get(const json_t *root, const char *key, const char *where, json_type type, json_t **out)
{
    json_t *found;
    *out = NULL;
    OC_TRY(find_required(root, key, where, &found));
    bool same = json_typeof(found) == type || (json_is_boolean(found) && (type == JSON_TRUE || type == JSON_FALSE));
    if (!same)
        return OC_FAIL(OC_EDATA, "%s: %s is %s, not %s", where, key, type_name(json_typeof(found)), type_name(type));
    *out = found;
    return OC_OK;
}

oc_status oc_json_int(const json_t *root, const char *key, const char *where, int64_t min, int64_t max, int64_t *out)
{
    json_t *found;
    OC_TRY(oc_json_get(root, key, where, JSON_INTEGER, &found));
    json_int_t value = json_integer_value(found);
    if (!(value >= min && value <= max))
        return OC_FAIL(OC_EDATA, "%s: %s is %lld, not from %lld to %lld", where, key, (long long)value, (long long)min,
                       (long long)max);
    *out = value;
    return OC_OK;
}

oc_status oc_json_real(const json_t *root, const char *key, const char *where, double min, double max, double *out)
{
    json_t *found;
    OC_TRY(find_required(root, key, where, &found));
    if (!json_is_number(found))
        return OC_FAIL(OC_EDATA, "%s: %s is %s, not a number", where, key, type_name(json_typeof(found)));
    double value = json_number_value(found);
    if (!(isfinite(value) && value >= min && value <= max))
        return OC_FAIL(OC_EDATA, "%s: %s is %.17g, not from %g to %g", where, key, value, min, max);
    *out = value;
    return OC_OK;
}

oc_status oc_json_text(const json_t *root, const char *key, const char *where, const char **out)
{
    json_t *found;
    OC_TRY(oc_json_get(root, key, where, JSON_STRING, &found));
    *out = json_string_value(found);
    return OC_OK;
}

oc_status oc_json_reals(const json_t *root, const char *key, const char *where, double *out, size_t count)
{
    json_t *found;
    OC_TRY(oc_json_get(root, key, where, JSON_ARRAY, &found));
    if (json_array_size(found) != count)
        return OC_FAIL(OC_EDATA, "%s: %s has %zu numbers, not %zu", where, key, json_array_size(found), count);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(found, i);
        if (!json_is_number(item) || !isfinite(json_number_value(item)))
            return OC_FAIL(OC_EDATA, "%s: %s[%zu] is %s, not a finite number", where, key, i,
                           type_name(json_typeof(item)));
        out[i] = json_number_value(item);
    }
    return OC_OK;
}
