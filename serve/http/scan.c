/* scan.c - one pass over the text outside strings; numbers by JSON's grammar, then strtof, which rounds correctly.
 * Almost all numbers need one product or division in f64 only [Clinger90]. */
#include "serve/http/scan.h"

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { NESTED_MAX = 8, DEPTH_OF_DATA = 3, DIGITS_MAX = 19, TENS_MAX = 22, POWER_FAR = 1000 };

static const char *blanks(const char *c, const char *end)
{
    while (c < end && (*c == ' ' || *c == '\t' || *c == '\n' || *c == '\r')) c++;
    return c;
}

/* How many of the eight characters, the first in the lowest byte, are digits before one that is none; *value is what
 * these say. A digit's byte XOR '0' is at most 9: adding 0x76 to a larger one sets its top bit. Then neighbours are
 * joined to pairs, and two products make eight digits of four pairs ([Lemire21]). */
static unsigned eight(uint64_t text, uint64_t *value)
{
    const uint64_t low = text ^ UINT64_C(0x3030303030303030);
    const uint64_t other =
        (((low & UINT64_C(0x7f7f7f7f7f7f7f7f)) + UINT64_C(0x7676767676767676)) | low) & UINT64_C(0x8080808080808080);
    const unsigned count = other ? (unsigned)__builtin_ctzll(other) / 8 : 8;
    uint64_t v = count ? low << (64 - 8 * count) : 0; /* zeros before them */
    v = v * 10 + (v >> 8);
    v = ((v & UINT64_C(0x000000ff000000ff)) * (100 + (UINT64_C(1000000) << 32)) +
         (v >> 16 & UINT64_C(0x000000ff000000ff)) * (1 + (UINT64_C(10000) << 32))) >>
        32;
    *value = v & UINT32_MAX;
    return count;
}

/* More than 19 digits do not fit: the caller looks at how many there were. */
static const char *digits(const char *c, const char *end, uint64_t *mantissa)
{
    uint64_t m = *mantissa;
    unsigned digit;
    for (; c < end && (digit = (unsigned char)*c - (unsigned)'0') <= 9; c++) m = m * 10 + digit;
    *mantissa = m;
    return c;
}

/* The same where several are likely, as behind the point; one by one costs a branch that is missed at each number's
 * end. */
static const char *many_digits(const char *c, const char *end, uint64_t *mantissa)
{
    static const uint64_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    while (end - c >= 8) {
        uint64_t text, value;
        memcpy(&text, c, sizeof text);
        const unsigned count = eight(text, &value);
        *mantissa = *mantissa * tens[count] + value;
        c += count;
        if (count < 8) return c;
    }
    return digits(c, end, mantissa);
}

/* mantissa * 10^power rounded to f32 as if exactly, or false where this way cannot tell. In f64 it is off by at most
 * two units of the last place: rounding again gives the same f32 unless the f64 lies that close to the middle of two.
 */
static bool exact(uint64_t mantissa, int power, float *out)
{
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int64_t below_f32 = (INT64_C(1) << 29) - 1, middle = INT64_C(1) << 28, near = 4;
    if (power < -TENS_MAX || power > TENS_MAX) return false;
    const double value = power < 0 ? (double)mantissa / tens[-power] : (double)mantissa * tens[power];
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const int64_t off = (bits & below_f32) - middle;
    *out = (float)value;
    return mantissa == 0 || (value >= (double)FLT_MIN && value <= 1e38 && (off > near || off < -near));
}

/* The end of the number at c, or NULL where it is none: -?(0|[1-9][0-9]*)([.][0-9]+)?([eE][+-]?[0-9]+)? */
static const char *number(const char *c, const char *end, float *out)
{
    static const float signs[] = {1, -1};
    const char *start = c;
    const bool minus = c < end && *c == '-';
    uint64_t mantissa = 0, exponent = 0;
    ptrdiff_t fraction = 0;
    int power = 0;
    c += minus; /* half of all numbers: no branch */
    const char *first = c;
    c = digits(c, end, &mantissa);
    ptrdiff_t all = c - first;
    if (all == 0 || (all > 1 && *first == '0')) return NULL;
    if (c < end && *c == '.') {
        const char *point = ++c;
        c = many_digits(c, end, &mantissa);
        fraction = c - point;
        all += fraction;
        if (fraction == 0) return NULL;
    }
    if (c < end && (*c == 'e' || *c == 'E')) {
        c++;
        const bool negative = c < end && *c == '-';
        if (c < end && (*c == '+' || *c == '-')) c++;
        const char *from = c;
        c = digits(c, end, &exponent);
        if (c == from) return NULL;
        power = c - from > 2 ? POWER_FAR : (int)exponent;
        power = negative ? -power : power;
    }
    if (all <= DIGITS_MAX && exact(mantissa, power - (int)fraction, out)) {
        *out *= signs[minus];
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
