/* config.c - the schema, the values, and the errors that are collected while they are taken. */
#include "base/config_internal.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

size_t config_find(const oc_config *c, const char *key)
{
    for (size_t i = 0; i < c->key_count; i++) {
        if (strcmp(c->keys[i].key, key) == 0) return i;
    }
    return CONFIG_NONE;
}

bool config_is_section(const oc_config *c, const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < c->key_count; i++) {
        if (strncmp(c->keys[i].key, path, length) == 0 && c->keys[i].key[length] == '.') return true;
    }
    return false;
}

const char *config_show(const char *text, char out[CONFIG_SHOW_BYTES])
{
    size_t room = CONFIG_SHOW_BYTES - 6, length = strnlen(text, room + 1);
    bool cut = length > room;
    if (cut) length = room;
    while (cut && length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80) length--; /* not within a character */
    snprintf(out, CONFIG_SHOW_BYTES, "\"%.*s%s\"", (int)length, text, cut ? "…" : "");
    for (char *at = out; *at; at++) {
        if (*at == '\n' || *at == '\r' || *at == '\t') *at = ' ';
    }
    return out;
}

void config_describe(const oc_config_key *key, char *out, size_t cap)
{
    int used = 0;
    const char *unit = key->unit && *key->unit ? key->unit : "";
    switch (key->type) {
    case OC_CONFIG_INT: used = snprintf(out, cap, "an integer from %.15g to %.15g", key->min, key->max); break;
    case OC_CONFIG_REAL: used = snprintf(out, cap, "a number from %.9g to %.9g", key->min, key->max); break;
    case OC_CONFIG_BOOL: used = snprintf(out, cap, "true or false"); break;
    case OC_CONFIG_TEXT: used = snprintf(out, cap, "a text"); break;
    case OC_CONFIG_CHOICE: used = snprintf(out, cap, "one of %s", key->choices); break;
    case OC_CONFIG_LIST: used = snprintf(out, cap, "a list of %.15g to %.15g items", key->min, key->max); break;
    }
    if (used < 0 || (size_t)used >= cap) return;
    snprintf(out + used, cap - (size_t)used, "%s%s%s%s%s", *unit ? " " : "", unit, key->standard ? " [" : "",
             key->standard ? key->standard : "", key->standard ? "]" : "");
}

void config_error(oc_config *c, const char *place, const char *format, ...)
{
    char line[640];
    int used = snprintf(line, sizeof line, "\n    %.256s: ", place);
    va_list arguments;
    va_start(arguments, format);
    if (used > 0 && (size_t)used < sizeof line) vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    size_t length = strlen(line);
    c->error_count++;
    if (c->errors_kept + 1 != c->error_count || length >= sizeof c->errors - c->errors_used) return; /* only counted */
    memcpy(c->errors + c->errors_used, line, length + 1);
    c->errors_used += length;
    c->errors_kept++;
}

void config_error_kind(oc_config *c, const char *place, size_t index, const char *what)
{
    char wanted[256];
    config_describe(&c->keys[index], wanted, sizeof wanted);
    config_error(c, place, "%s is %s, not %s", c->keys[index].key, what, wanted);
    c->values[index].refused = true;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Levenshtein distance; both below CONFIG_PATH_MAX bytes. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[CONFIG_PATH_MAX + 1], length = strlen(b);
    for (size_t j = 0; j <= length; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t above = row[j + 1];
            row[j + 1] = least(diagonal + (a[i] != b[j]), least(above, row[j]) + 1);
            diagonal = above;
        }
    }
    return row[length];
}

static const char *last_part(const char *key)
{
    const char *dot = strrchr(key, '.');
    return dot ? dot + 1 : key;
}

/* The known key that was probably meant: few edits away, or the same name in another section. */
static const char *nearest_key(const oc_config *c, const char *path)
{
    const char *best = NULL;
    size_t least_edits = strlen(path) / 3 < 2 ? 2 : strlen(path) / 3;
    for (size_t i = 0; i < c->key_count; i++) {
        const char *key = c->keys[i].key;
        if (strlen(key) >= CONFIG_PATH_MAX) continue;
        size_t edits = strcmp(last_part(key), last_part(path)) == 0 ? 1 : edit_distance(path, key);
        if (edits > least_edits || (best && edits == least_edits)) continue;
        best = key;
        least_edits = edits;
    }
    return best;
}

void config_error_unknown(oc_config *c, const char *place, const char *path)
{
    const char *near = strlen(path) < CONFIG_PATH_MAX ? nearest_key(c, path) : NULL;
    config_error(c, place, "%.*s is not a key%s%s%s", CONFIG_PATH_MAX, path, near ? "; did you mean " : "",
                 near ? near : "", near ? "?" : "");
}

static void value_clear(config_value *v)
{
    for (size_t i = 0; i < v->count; i++) oc_memory_free(v->items[i]);
    v->count = 0;
}

static oc_status text_copy(char **out, const char *text, size_t bytes)
{
    OC_TRY(oc_memory_new(out, bytes + 1, "configuration"));
    memcpy(*out, text, bytes);
    return OC_OK;
}

oc_status config_value_begin(oc_config *c, size_t index, const char *place)
{
    config_value *v = &c->values[index];
    value_clear(v);
    oc_memory_free(v->place);
    OC_TRY(text_copy(&v->place, place, strlen(place)));
    return OC_OK;
}

oc_status config_value_add(oc_config *c, size_t index, const char *text, size_t bytes)
{
    config_value *v = &c->values[index];
    OC_TRY(oc_memory_grow(&v->items, &v->capacity, v->count + 1, sizeof *v->items, "configuration"));
    OC_TRY(text_copy(&v->items[v->count], text, bytes));
    v->count++;
    return OC_OK;
}

static bool parse_int(const char *text, int64_t *out)
{
    char *end;
    if (!*text || strspn(text, "0123456789+-") != strlen(text)) return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return !*end && end != text && !errno;
}

static bool parse_real(const char *text, double *out)
{
    char *end;
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;        /* no hexadecimals, inf, nan */
    *out = strtod(text, &end);
    return !*end && end != text && isfinite(*out);
}

static bool parse_choice(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; *at;) {
        size_t bytes = strcspn(at, "|");
        if (bytes == length && strncmp(at, text, bytes) == 0) return true;
        at += bytes + (at[bytes] == '|');
    }
    return false;
}

static bool value_parse(const oc_config_key *key, config_value *v)
{
    if (key->type == OC_CONFIG_LIST) return (double)v->count >= key->min && (double)v->count <= key->max;
    const char *text = v->items[0];
    switch (key->type) {
    case OC_CONFIG_INT:
        return parse_int(text, &v->integer) && (double)v->integer >= key->min && (double)v->integer <= key->max;
    case OC_CONFIG_REAL: return parse_real(text, &v->real) && v->real >= key->min && v->real <= key->max;
    case OC_CONFIG_BOOL: v->boolean = strcmp(text, "true") == 0; return v->boolean || strcmp(text, "false") == 0;
    case OC_CONFIG_CHOICE: return parse_choice(key->choices, text);
    default: return true;
    }
}

void config_value_check(oc_config *c, size_t index)
{
    const oc_config_key *key = &c->keys[index];
    config_value *v = &c->values[index];
    char what[CONFIG_SHOW_BYTES];
    v->refused = false;
    if (value_parse(key, v)) return;
    if (key->type == OC_CONFIG_LIST) snprintf(what, sizeof what, "a list of %zu", v->count);
    else config_show(v->items[0], what);
    config_error_kind(c, v->place, index, what);
}

static oc_status list_add(oc_config *c, size_t index, const char *text)
{
    while (*text) {
        size_t bytes = strcspn(text, ",");
        OC_TRY(config_value_add(c, index, text, bytes));
        text += bytes + (text[bytes] == ',');
    }
    return OC_OK;
}

static oc_status value_take(oc_config *c, size_t index, const char *place, const char *text)
{
    OC_TRY(config_value_begin(c, index, place));
    if (c->keys[index].type == OC_CONFIG_LIST) OC_TRY(list_add(c, index, text));
    else OC_TRY(config_value_add(c, index, text, strlen(text)));
    config_value_check(c, index);
    return OC_OK;
}

/* Bytes that YAML could not print again are refused, so that a dump is always readable. */
static bool is_utf8_text(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t more = *s < 0x80                 ? 0
                      : *s >= 0xc2 && *s < 0xe0 ? 1
                      : *s >= 0xe0 && *s < 0xf0 ? 2
                      : *s >= 0xf0 && *s < 0xf5 ? 3
                                                : 9;
        if (more == 9) return false;
        if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] >= 0xa0) || (*s == 0xf0 && s[1] < 0x90) ||
            (*s == 0xf4 && s[1] >= 0x90))
            return false;                       /* overlong, surrogate, beyond Unicode */
        for (s++; more > 0; more--, s++) {
            if ((*s & 0xc0) != 0x80) return false;
        }
    }
    return true;
}

static oc_status set_take(oc_config *c, const char *set)
{
    char path[CONFIG_PATH_MAX], shown[CONFIG_SHOW_BYTES];
    const char *equals = strchr(set, '=');
    if (!equals || equals == set) {
        config_error(c, "--set", "%s is not key.path=value", config_show(set, shown));
        return OC_OK;
    }
    int length = snprintf(path, sizeof path, "%.*s", (int)least((size_t)(equals - set), sizeof path), set);
    size_t index = length >= 0 && (size_t)length < sizeof path ? config_find(c, path) : CONFIG_NONE;
    if (index == CONFIG_NONE) {
        config_error_unknown(c, "--set", path);
        return OC_OK;
    }
    if (!is_utf8_text(equals + 1)) {
        config_error(c, "--set", "%s is not UTF-8", path);
        return OC_OK;
    }
    OC_TRY(value_take(c, index, "--set", equals + 1));
    c->values[index].given = true;
    return OC_OK;
}

static oc_status values_standard(oc_config *c)
{
    for (size_t i = 0; i < c->key_count; i++) {
        if (c->keys[i].standard) OC_TRY(value_take(c, i, "default", c->keys[i].standard));
    }
    return OC_OK;
}

static oc_status errors_finish(const oc_config *c)
{
    size_t more = c->error_count - c->errors_kept;
    if (c->error_count == 0) return OC_OK;
    if (c->error_count == 1) return OC_FAIL(OC_ECONFIG, "%s", c->errors + strspn(c->errors, "\n "));
    if (more > 0)
        return OC_FAIL(OC_ECONFIG, "%zu errors in the configuration%s\n    and %zu more", c->error_count, c->errors,
                       more);
    return OC_FAIL(OC_ECONFIG, "%zu errors in the configuration%s", c->error_count, c->errors);
}

static oc_status config_fill(oc_config *c, const char *text, size_t bytes, const char *const *sets, size_t set_count)
{
    OC_TRY(values_standard(c));
    if (text) OC_TRY(config_yaml_read(c, text, bytes));
    for (size_t i = 0; i < set_count && c->error_count < CONFIG_ERRORS_MAX; i++) OC_TRY(set_take(c, sets[i]));
    for (size_t i = 0; i < c->key_count; i++) {
        const config_value *v = &c->values[i];
        if (!c->keys[i].standard && !v->given && !v->refused)
            config_error(c, c->name, "%s is missing: %s", c->keys[i].key,
                         c->keys[i].help ? c->keys[i].help : "it is required");
    }
    OC_TRY(errors_finish(c));
    return OC_OK;
}

oc_status oc_config_parse(oc_config **out, const char *text, size_t bytes, const char *name, const oc_config_key *keys,
                          size_t key_count, const char *const *sets, size_t set_count)
{
    oc_config *c;
    *out = NULL;
    OC_TRY(oc_memory_new(&c, sizeof *c, "configuration"));
    c->keys = keys;
    oc_status status = text_copy(&c->name, name, strlen(name));
    if (status == OC_OK) status = oc_memory_new_array(&c->values, key_count, sizeof *c->values, "configuration");
    if (status == OC_OK) c->key_count = key_count;
    if (status == OC_OK) status = config_fill(c, text, bytes, sets, set_count);
    if (status == OC_OK) *out = c;
    else oc_config_close(c);
    return status;
}

oc_status oc_config_open(oc_config **out, const char *path, const oc_config_key *keys, size_t key_count,
                         const char *const *sets, size_t set_count)
{
    char *text = NULL;
    size_t bytes = 0;
    *out = NULL;
    oc_status status = path ? oc_file_read(path, CONFIG_BYTES_MAX, &text, &bytes) : OC_OK;
    if (status == OC_EFAILED || status == OC_ELIMIT) status = OC_ECONFIG; /* a configuration that cannot be read */
    if (status != OC_OK) return oc_status_trail(status, __FILE__, __LINE__);
    status = oc_config_parse(out, text, bytes, path ? path : "configuration", keys, key_count, sets, set_count);
    oc_memory_free(text);
    return status;
}

void oc_config_close(oc_config *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->key_count; i++) {
        value_clear(&c->values[i]);
        oc_memory_free(c->values[i].items);
        oc_memory_free(c->values[i].place);
    }
    oc_memory_free(c->values);
    oc_memory_free(c->name);
    oc_memory_free(c);
}

/* A key that the caller's own table lacks is a mistake in the program, in any build. */
static const config_value *value_of(const oc_config *c, const char *key, unsigned types)
{
    size_t index = config_find(c, key);
    if (index == CONFIG_NONE || !(types >> c->keys[index].type & 1u)) {
        fprintf(stderr, "config: the program reads \"%s\", which its schema lacks or has with another type\n", key);
        abort();
    }
    return &c->values[index];
}

#define TYPE(name) (1u << OC_CONFIG_##name)

int64_t oc_config_int(const oc_config *c, const char *key)
{
    return value_of(c, key, TYPE(INT))->integer;
}

double oc_config_real(const oc_config *c, const char *key)
{
    return value_of(c, key, TYPE(REAL))->real;
}

bool oc_config_bool(const oc_config *c, const char *key)
{
    return value_of(c, key, TYPE(BOOL))->boolean;
}

const char *oc_config_text(const oc_config *c, const char *key)
{
    return value_of(c, key, TYPE(TEXT) | TYPE(CHOICE))->items[0];
}

size_t oc_config_count(const oc_config *c, const char *key)
{
    return value_of(c, key, TYPE(LIST))->count;
}

const char *oc_config_item(const oc_config *c, const char *key, size_t index)
{
    const config_value *v = value_of(c, key, TYPE(LIST));
    if (index >= v->count) abort();
    return v->items[index];
}

bool oc_config_given(const oc_config *c, const char *key)
{
    return value_of(c, key, ~0u)->given;
}

const char *oc_config_place(const oc_config *c, const char *key)
{
    return value_of(c, key, ~0u)->place;
}

oc_status oc_config_refuse(const oc_config *c, const char *key, const char *format, ...)
{
    const config_value *v = value_of(c, key, ~0u);
    char reason[512], shown[CONFIG_SHOW_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    const char *value = v->count == 1 ? config_show(v->items[0], shown) : shown;
    if (v->count != 1) snprintf(shown, sizeof shown, "a list of %zu", v->count);
    return OC_FAIL(OC_ECONFIG, "%s: %s is %s: %s", v->place, key, value, reason);
}
