/* scan.c - one pass over the text outside strings; numbers by JSON's grammar, then strtof, which rounds correctly.
 * Small decimals (up to 2^24 with a power of ten up to 10, both exact in f32) need one division only [Clinger90]. */
#include "serve/http/scan.h"

#include <ctype.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NESTED_MAX = 8, DEPTH_OF_DATA = 3 };

static const char *blanks(const char *c, const char *end)
{
    while (c < end && (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r')) c++;
    return c;
}

static const char *digits(const char *c, const char *end, uint64_t *mantissa, int *n)
{
    while (c < end && isdigit((unsigned char)*c)) {
        if (*n < 19) *mantissa = *mantissa * 10 + (uint64_t)(*c - '0');
        (*n)++;
        c++;
    }
    return c;
}

/* The end of the number at c, or NULL where it is none: -?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)? */
static const char *number(const char *c, const char *end, float *out)
{
    static const float tens[] = {1e0f, 1e1f, 1e2f, 1e3f, 1e4f, 1e5f, 1e6f, 1e7f, 1e8f, 1e9f, 1e10f};
    const char *start = c;
    uint64_t mantissa = 0;
    int whole = 0, all, ignored = 0;
    bool exponent = false;
    if (c < end && *c == '-') c++;
    const char *first = c;
    c = digits(c, end, &mantissa, &whole);
    if (whole == 0 || (whole > 1 && *first == '0')) return NULL;
    all = whole;
    if (c < end && *c == '.') {
        const char *point = ++c;
        c = digits(c, end, &mantissa, &all);
        if (c == point) return NULL;
    }
    if (c < end && (*c == 'e' || *c == 'E')) {
        uint64_t power = 0;
        exponent = true;
        c++;
        if (c < end && (*c == '+' || *c == '-')) c++;
        c = digits(c, end, &power, &ignored);
        if (ignored == 0) return NULL;
    }
    if (!exponent && all <= 19 && mantissa <= 1u << 24 && all - whole <= 10) {
        const float value = (float)mantissa / tens[all - whole];
        *out = *start == '-' ? -value : value;
        return c;
    }
    char *stop;
    *out = strtof(start, &stop);
    return stop == c && isfinite(*out) ? c : NULL;
}

/* c is behind the opening bracket; returns what is behind the closing one, or NULL with *bad at the place of the fault.
 */
static const char *array(const char *c, const char *end, float *values, size_t cap, size_t *count, const char **bad)
{
    int depth = 1;
    bool value_next = true, may_close = true; /* after a comma a value must come; after a value none may */
    for (;;) {
        *bad = c = blanks(c, end);
        if (c >= end) return NULL;
        if (*c == ']' && may_close) {
            c++;
            value_next = false;
            if (--depth == 0) return c;
        } else if (*c == ',' && !value_next) {
            c++;
            value_next = true;
            may_close = false;
        } else if (*c == '[' && value_next && depth < NESTED_MAX) {
            c++;
            depth++;
            may_close = true;
        } else if (value_next && *count < cap) {
            c = number(c, end, &values[*count]);
            if (!c) return NULL;
            (*count)++;
            value_next = false;
            may_close = true;
        } else {
            return NULL;
        }
    }
}

/* c is at a quote; behind the closing one, or end. */
static const char *string_end(const char *c, const char *end)
{
    for (c++; c < end && *c != '"'; c++)
        if (*c == '\\') c++;
    return c < end ? c + 1 : end;
}

/* Where the string from `string` to c is the key "data" of an array: behind its opening bracket; else NULL. */
static const char *data_array(const char *string, const char *c, const char *end)
{
    if (c - string != 6 || memcmp(string, "\"data\"", 6) != 0) return NULL;
    c = blanks(c, end);
    if (c >= end || *c != ':') return NULL;
    c = blanks(c + 1, end);
    return c < end && *c == '[' ? c + 1 : NULL;
}

oc_status oc_scan_data(char *text, size_t *bytes, float *values, size_t values_cap, size_t *count, bool *found)
{
    const char *end = text + *bytes, *bad = text;
    int depth = 0;
    *count = 0;
    *found = false;
    for (const char *c = text; c < end;) {
        if (*c == '"') {
            const char *string = c;
            c = string_end(c, end);
            const char *open = depth == DEPTH_OF_DATA ? data_array(string, c, end) : NULL;
            if (!open) continue;
            if (*found)
                return OC_FAIL(OC_EDATA, "a second \"data\" at byte %zu: one input is taken", (size_t)(string - text));
            const char *close = array(open, end, values, values_cap, count, &bad);
            if (!close)
                return OC_FAIL(
                    OC_EDATA,
                    "data: number %zu, at byte %zu, is not a number that f32 holds, or more than %zu are given", *count,
                    (size_t)(bad - text), values_cap);
            memmove(text + (open - text), close - 1, (size_t)(end - close) + 1);
            *bytes -= (size_t)(close - 1 - open);
            end = text + *bytes;
            *found = true;
            c = open + 1;
            continue;
        }
        depth += (*c == '{' || *c == '[') - (*c == '}' || *c == ']');
        c++;
    }
    return OC_OK;
}
