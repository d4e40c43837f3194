/* money.h - exact sums. Prices are ticks, quantities lots, cash ticks x lots of one instrument; only totals over
 * instruments are micro-units of one currency: ticks x lots x numerator / denominator. Every step is checked: a sum
 * that does not fit is a failure that the caller must see, never a wrapped number. */
#ifndef OC_TRADE_MONEY_H
#define OC_TRADE_MONEY_H

#include <stdbool.h>
#include <stdint.h>

#include "market/instrument.h"

#ifdef __cplusplus
extern "C" {
#endif

__extension__ typedef __int128 oc_wide;

/* Bounds of what the market, a venue or a configuration may say, so that no product of two leaves 128 bits. */
#define OC_TRADE_PRICE_MAX (INT64_C(1) << 46)            /* ticks */
#define OC_TRADE_LOTS_MAX (INT64_C(1) << 46)
#define OC_TRADE_SCALE_MAX (INT64_C(1000000000000000))   /* of numerator and denominator */

/* What one tick x lot is worth in micro-units: numerator / denominator, reduced. */
typedef struct oc_money_scale { int64_t numerator, denominator; } oc_money_scale;

/* From tick and lot of the instrument; false where the value cannot be told within OC_TRADE_SCALE_MAX. */
bool oc_money_scale_of(const oc_instrument *instrument, oc_money_scale *scale);

static inline bool oc_money_add(int64_t a, int64_t b, int64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

static inline bool oc_money_subtract(int64_t a, int64_t b, int64_t *difference)
{
    return !__builtin_sub_overflow(a, b, difference);
}

static inline bool oc_money_multiply(int64_t a, int64_t b, int64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool oc_money_narrow(oc_wide wide, int64_t *narrow)
{
    *narrow = (int64_t)wide;
    return (oc_wide)*narrow == wide;
}

/* floor(a / b), b > 0. */
static inline oc_wide oc_money_floor(oc_wide a, oc_wide b)
{
    if (a >= INT64_MIN && a <= INT64_MAX && b <= INT64_MAX) {            /* one 64-bit division: the usual case */
        int64_t q = (int64_t)a / (int64_t)b, r = (int64_t)a % (int64_t)b;
        return q - (r < 0);
    }
    oc_wide q = a / b;
    return q - (a % b < 0);
}

/* Half ticks x lots (twice the cash, or lots x (bid + ask)) to micro-units. What we own is rounded down, what we might
 * owe is rounded up: `up`. */
static inline bool oc_money_micros(oc_wide half_ticks_lots, oc_money_scale scale, bool up, int64_t *micros)
{
    oc_wide product;
    if (__builtin_mul_overflow(half_ticks_lots, (oc_wide)scale.numerator, &product)) return false;
    oc_wide divisor = 2 * (oc_wide)scale.denominator;
    return oc_money_narrow(up ? -oc_money_floor(-product, divisor) : oc_money_floor(product, divisor), micros);
}

/* A fee of so many millionths of the value, rounded against us; saturated where it does not fit, which the sums that it
 * enters then refuse. */
static inline int64_t oc_money_fee(int64_t price_ticks, int64_t lots, oc_money_scale scale, int64_t ppm)
{
    oc_wide value = (oc_wide)price_ticks * lots, product;
    int64_t fee;
    if (__builtin_mul_overflow(value, (oc_wide)scale.numerator, &product)) return INT64_MAX;
    if (__builtin_mul_overflow(product, (oc_wide)ppm, &product)) return INT64_MAX;
    oc_wide divisor = (oc_wide)scale.denominator * 1000000;
    return oc_money_narrow(-oc_money_floor(-product, divisor), &fee) ? fee : INT64_MAX;
}

#ifdef __cplusplus
}
#endif
#endif
