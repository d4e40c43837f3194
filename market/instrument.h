/* instrument.h - what turns integer ticks and lots into prices and sizes. `tick` is the finest increment found in the
 * data; the increment in which orders may be priced is a field of its own. Both are exact decimals. */
#ifndef OC_MARKET_INSTRUMENT_H
#define OC_MARKET_INSTRUMENT_H

#include <stdint.h>

#define OC_SYMBOL_BYTES 32
#define OC_INSTRUMENTS_MAX 256
#define OC_DECIMAL_EXPONENT_MAX 18

typedef struct oc_decimal { int64_t mantissa; int32_t exponent, reserved; } oc_decimal;    /* mantissa * 10^exponent */

typedef struct oc_instrument {
    char symbol[OC_SYMBOL_BYTES];              /* NUL-terminated, printable, no '/' */
    oc_decimal tick, lot, order_tick;          /* order_tick: multiple of tick; equal where the source does not say */
} oc_instrument;

double oc_decimal_value(oc_decimal d);         /* nearest double: one product or one division */
/* "0.0001", "25", "1e-8" exactly; 0 where the text is not a positive decimal of at most 18 digits. */
int oc_decimal_parse(const char *text, oc_decimal *out);
/* text as an exact multiple of unit, without passing through floating point; 0 where it is not one. */
int oc_decimal_count(const char *text, uint32_t length, oc_decimal unit, int64_t *count);
/* Any decimal of at most 64 characters and 18 significant digits, also zero and negative; normalised: no zeros at the
 * end of the mantissa. 0 where the text is none (so "nan", "inf", "" and "1,5" are none). */
int oc_decimal_read(const char *text, uint32_t length, oc_decimal *out);
int oc_decimal_divide(oc_decimal value, oc_decimal unit, int64_t *count);      /* 0 where not an exact int64 multiple */
int oc_decimal_text(oc_decimal d, char *text, uint32_t cap);                   /* "0.0001"; 0 where cap is too small */
#define OC_DECIMAL_TEXT 64

const char *oc_instrument_problem(const oc_instrument *instrument); /* NULL where it is sound; else why not */

#endif
