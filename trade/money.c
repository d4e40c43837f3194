/* money.c - the worth of one tick x lot as a reduced fraction of micro-units. */
#include "trade/money.h"

static bool grow(int64_t *value, int32_t powers)
{
    for (int32_t i = 0; i < powers; i++) {
        if (*value > OC_TRADE_SCALE_MAX / 10) return false;
        *value *= 10;
    }
    return true;
}

static int64_t common(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

bool oc_money_scale_of(const oc_instrument *instrument, oc_money_scale *scale)
{
    int64_t numerator, denominator = 1;
    int32_t exponent = instrument->tick.exponent + instrument->lot.exponent + 6;
    if (instrument->tick.mantissa <= 0 || instrument->lot.mantissa <= 0) return false;
    if (!oc_money_multiply(instrument->tick.mantissa, instrument->lot.mantissa, &numerator)) return false;
    while (exponent < 0 && numerator % 10 == 0) {
        numerator /= 10;
        exponent++;
    }
    if (!grow(exponent < 0 ? &denominator : &numerator, exponent < 0 ? -exponent : exponent)) return false;
    if (numerator > OC_TRADE_SCALE_MAX) return false;
    int64_t divisor = common(numerator, denominator);
    *scale = (oc_money_scale){numerator / divisor, denominator / divisor};
    return true;
}
