/* instrument.c - exact decimals: text to mantissa and exponent, text to a count of units. Integers only, 128 bits in
 * between, so that 0.1 + 0.2 is never asked. */
#include "market/instrument.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

__extension__ typedef __int128 wide;

enum { DIGITS_MAX = 18, EXPONENT_MAX = 400, TEXT_MAX = 64, TEN_WIDE_MAX = 38 };

/* 10^power, power 0 to 38: fits 127 bits. */
static wide ten_to(int32_t power)
{
    wide value = 1;
    for (int32_t i = 0; i < power; i++) value *= 10;
    return value;
}

/* "e-8"; text begins behind the 'e' and must end with the exponent. */
static bool exponent_read(const char *text, uint32_t length, int32_t *out)
{
    uint32_t at = length > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    bool negative = at && text[0] == '-';
    int32_t value = 0;
    if (at == length || length - at > 3) return false;
    for (; at < length; at++) {
        if (text[at] < '0' || text[at] > '9') return false;
        value = value * 10 + (text[at] - '0');
    }
    *out = negative ? -value : value;
    return true;
}

/* Sign, digits with at most one point, exponent. Zeros wait until a digit follows them, so those at the end cost no
 * significance and end up in the exponent: the result is normalised (1.50 and 1.5 are the same pair). */
static bool number_read(const char *text, uint32_t length, oc_decimal *out)
{
    uint32_t at = 0, significant = 0, digits = 0;
    int32_t zeros = 0, fraction = 0, exponent = 0;
    int64_t mantissa = 0;
    bool point = false, negative = false;
    if (length == 0 || length > TEXT_MAX) return false;
    if (text[0] == '-' || text[0] == '+') negative = text[at++] == '-';
    for (; at < length && (text[at] == '.' || (text[at] >= '0' && text[at] <= '9')); at++) {
        if (text[at] == '.') {
            if (point) return false;
            point = true;
            continue;
        }
        digits++;
        fraction += point;
        if (text[at] == '0') {
            zeros += mantissa != 0;
            continue;
        }
        significant += (uint32_t)zeros + 1;
        if (significant > DIGITS_MAX) return false;
        for (; zeros > 0; zeros--) mantissa *= 10;
        mantissa = mantissa * 10 + (text[at] - '0');
    }
    if (digits == 0) return false;
    if (at < length) {
        if (text[at] != 'e' && text[at] != 'E') return false;
        if (!exponent_read(text + at + 1, length - at - 1, &exponent)) return false;
    }
    *out = (oc_decimal){negative ? -mantissa : mantissa, mantissa ? zeros - fraction + exponent : 0, 0};
    return true;
}

double oc_decimal_value(oc_decimal d)
{
    double scale = 1.0;             /* exact up to 10^22 */
    int32_t power = d.exponent < 0 ? -d.exponent : d.exponent;
    for (int32_t i = 0; i < power && i < EXPONENT_MAX; i++) scale *= 10.0;
    return d.exponent < 0 ? (double)d.mantissa / scale : (double)d.mantissa * scale;
}

int oc_decimal_parse(const char *text, oc_decimal *out)
{
    oc_decimal d;
    size_t length = strlen(text);
    if (length > TEXT_MAX || !number_read(text, (uint32_t)length, &d)) return 0;
    if (d.mantissa <= 0 || d.exponent < -OC_DECIMAL_EXPONENT_MAX || d.exponent > OC_DECIMAL_EXPONENT_MAX) return 0;
    *out = d;
    return 1;
}

int oc_decimal_read(const char *text, uint32_t length, oc_decimal *out)
{
    return number_read(text, length, out);
}

int oc_decimal_divide(oc_decimal value, oc_decimal unit, int64_t *count)
{
    int32_t shift = value.exponent - unit.exponent;
    wide numerator = value.mantissa, denominator = unit.mantissa;
    if (value.mantissa == 0) {
        *count = 0;
        return 1;
    }
    if (unit.mantissa <= 0 || shift > TEN_WIDE_MAX - DIGITS_MAX - 1 || shift < -(TEN_WIDE_MAX - DIGITS_MAX - 1))
        return 0;
    if (shift > 0) numerator *= ten_to(shift);
    else denominator *= ten_to(-shift);
    if (numerator % denominator != 0) return 0;
    wide result = numerator / denominator;
    if (result > INT64_MAX || result < -INT64_MAX) return 0;
    *count = (int64_t)result;
    return 1;
}

int oc_decimal_count(const char *text, uint32_t length, oc_decimal unit, int64_t *count)
{
    oc_decimal value;
    return number_read(text, length, &value) && oc_decimal_divide(value, unit, count);
}

int oc_decimal_text(oc_decimal d, char *text, uint32_t cap)
{
    char digits[24];
    uint32_t count = 0, used = 0;
    uint64_t rest = d.mantissa < 0 ? (uint64_t)0 - (uint64_t)d.mantissa : (uint64_t)d.mantissa;
    do {
        digits[count++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    int32_t point = d.exponent < 0 ? -d.exponent : 0;               /* digits behind the point */
    int32_t whole = (int32_t)count > point ? (int32_t)count : point + 1;
    int32_t zeros = d.exponent > 0 ? d.exponent : 0;
    if (cap < 4 || (uint32_t)whole + (uint32_t)zeros + 4 > cap) return 0;
    if (d.mantissa < 0) text[used++] = '-';
    for (int32_t i = whole - 1; i >= 0; i--) {
        text[used++] = i < (int32_t)count ? digits[i] : '0';
        if (i == point && i > 0) text[used++] = '.';
    }
    for (int32_t i = 0; i < zeros; i++) text[used++] = '0';
    text[used] = '\0';
    return 1;
}

const char *oc_instrument_problem(const oc_instrument *instrument)
{
    const oc_decimal units[] = {instrument->tick, instrument->lot, instrument->order_tick};
    size_t length = strnlen(instrument->symbol, OC_SYMBOL_BYTES);
    if (length == 0 || length == OC_SYMBOL_BYTES) return "a symbol has 1 to 31 characters";
    if (instrument->symbol[strspn(instrument->symbol, ".")] == '\0')
        return "a symbol is not of dots alone: they mean folders";
    for (size_t i = 0; i < length; i++) {
        if (instrument->symbol[i] <= ' ' || instrument->symbol[i] > '~' || strchr("/,\"", instrument->symbol[i]))
            return "a symbol is of printable characters without blanks, '/', ',' and '\"'"; /* a group's, a CSV's,
                                                                                               --set's */
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (units[i].mantissa <= 0 || units[i].exponent < -OC_DECIMAL_EXPONENT_MAX || units[i].reserved != 0
            || units[i].exponent > OC_DECIMAL_EXPONENT_MAX)
            return "tick, lot and order tick are positive decimals";
    }
    int64_t multiple;
    if (!oc_decimal_divide(instrument->order_tick, instrument->tick, &multiple))
        return "the order tick is a multiple of the tick";
    return NULL;
}
