/* mathf.c - elementary functions from IEEE sums, products, quotients and fused multiply-adds alone.
 *
 * The steps below are the definition: kernels/cpu repeats them lane by lane, in this order, and must get equal bits for
 * every input but NaN (whose payload is not defined). No tables; every branch is a select. Selects are written so that
 * NaN passes: `x > max ? max : x` is min_ps(max, x), `x < min ? min : x` is max_ps(min, x), in this operand order.
 * fma(a, b, c) = a * b + c rounded once; all else is rounded each. Constants: mathf_constants.h.
 *
 * exp core, for x within [-104, 89] (f32):
 *   t = fma(x, LOG2E, ROUND); n = t - ROUND;                the nearest integer to x / ln 2; also in the low bits of t
 *   r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x));             |r| <= ln 2 / 2
 *   q = E6; q = fma(q, r, E5); … fma(q, r, E2);             Horner, (exp(r) - 1 - r) / r^2
 *   p = 1 + fma(r * r, q, r);
 * expf:    p * 2^h * 2^(n - h), h = n >> 1: two exact powers, so a denormal result is rounded once.
 * sigmoidf, z = exp(-|x|): n is from -150 to 0, and with ROUND_191 in place of ROUND (bits(t) << 23) is the float
 * 2^(n+64); z = p * 2^(n+64) * 2^-64;  y = (x < 0 ? z : 1) / (1 + z). tanhf:   a = |x| clipped to 9.02; u = a * a; P, Q
 * by Horner from the highest, ending in … , 1); y = (a * P) / Q, clipped to 1; the sign bit of x. logf:    x = m * 2^k,
 * m in [sqrt(1/2), sqrt(2)); f = m - 1; s = f / (2 + f); z = s * s; R = z * (L0 + L1 z + …); h = 0.5 * f * f;  k *
 * LN2_HIGH - ((h - fma(s, h + R, k * LN2_LOW)) - f). expd, logd (f64): the same with longer polynomials. */
#include "base/mathf.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/mathf_constants.h"

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double double_of_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* exp of the remainder: p of the head comment. */
static float expf_core(float x, float round, float *t)
{
    *t = fmaf(x, OC_LOG2EF, round);
    float n = *t - round;
    float r = fmaf(n, -OC_LN2F_LOW, fmaf(n, -OC_LN2F_HIGH, x));
    float q = fmaf(OC_EXPF_6, r, OC_EXPF_5);
    q = fmaf(q, r, OC_EXPF_4);
    q = fmaf(q, r, OC_EXPF_3);
    q = fmaf(q, r, OC_EXPF_2);
    return 1.0f + fmaf(r * r, q, r);
}

float oc_expf(float x)
{
    float t;
    x = x > OC_EXPF_MAX ? OC_EXPF_MAX : x;
    x = x < OC_EXPF_MIN ? OC_EXPF_MIN : x;
    float p = expf_core(x, OC_ROUNDF, &t);
    int32_t n = (int32_t)(bits_of_float(t) - bits_of_float(OC_ROUNDF)), h = n >> 1;
    return p * float_of_bits((uint32_t)(h + 127) << 23) * float_of_bits((uint32_t)(n - h + 127) << 23);
}

float oc_sigmoidf(float x)
{
    float t, a = -fabsf(x);
    a = a < OC_EXPF_MIN ? OC_EXPF_MIN : a;
    float p = expf_core(a, OC_ROUNDF_191, &t);
    float z = p * float_of_bits(bits_of_float(t) << 23) * 0x1p-64f;
    return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}

float oc_tanhf(float x)
{
    float a = fabsf(x);
    a = a > OC_TANHF_MAX ? OC_TANHF_MAX : a;
    float u = a * a;
    float p = fmaf(OC_TANHF_P4, u, OC_TANHF_P3), q = fmaf(OC_TANHF_Q4, u, OC_TANHF_Q3);
    p = fmaf(p, u, OC_TANHF_P2);
    q = fmaf(q, u, OC_TANHF_Q2);
    p = fmaf(p, u, OC_TANHF_P1);
    q = fmaf(q, u, OC_TANHF_Q1);
    p = fmaf(p, u, 1.0f);
    q = fmaf(q, u, 1.0f);
    float y = a * p / q;
    y = y > 1.0f ? 1.0f : y;                    /* 1 ulp over is possible near 9 */
    return float_of_bits(bits_of_float(y) | (bits_of_float(x) & 0x80000000u));
}

float oc_logf(float x)
{
    int denormal = x < 0x1p-126f;
    uint32_t bits = bits_of_float(denormal ? x * 0x1p23f : x) + (0x3f800000u - OC_LOGF_HALF_BITS);
    float k = (float)((int32_t)(bits >> 23) - (denormal ? 127 + 23 : 127));
    float f = float_of_bits((bits & 0x007fffffu) + OC_LOGF_HALF_BITS) - 1.0f;
    float s = f / (2.0f + f), z = s * s;
    float l = fmaf(OC_LOGF_3, z, OC_LOGF_2);
    l = fmaf(l, z, OC_LOGF_1);
    l = fmaf(l, z, OC_LOGF_0);
    float h = 0.5f * f * f;
    float y = k * OC_LN2F_HIGH - ((h - fmaf(s, h + z * l, k * OC_LN2F_LOW)) - f);
    y = x < INFINITY ? y : x;                   /* +inf, NaN */
    y = x == 0.0f ? -INFINITY : y;
    return x < 0.0f ? NAN : y;
}

double oc_expd(double x)
{
    x = x > OC_EXP_MAX ? OC_EXP_MAX : x;
    x = x < OC_EXP_MIN ? OC_EXP_MIN : x;
    double t = fma(x, OC_LOG2E, OC_ROUND), n = t - OC_ROUND;
    double r = fma(n, -OC_LN2_LOW, fma(n, -OC_LN2_HIGH, x));
    double q = fma(OC_EXP_11, r, OC_EXP_10);
    q = fma(q, r, OC_EXP_9);
    q = fma(q, r, OC_EXP_8);
    q = fma(q, r, OC_EXP_7);
    q = fma(q, r, OC_EXP_6);
    q = fma(q, r, OC_EXP_5);
    q = fma(q, r, OC_EXP_4);
    q = fma(q, r, OC_EXP_3);
    q = fma(q, r, OC_EXP_2);
    double p = 1.0 + fma(r * r, q, r);
    int32_t i = (int32_t)(uint32_t)bits_of_double(t), h = i >> 1;       /* the low half of ROUND is 0 */
    return p * double_of_bits((uint64_t)(h + 1023) << 52) * double_of_bits((uint64_t)(i - h + 1023) << 52);
}

double oc_logd(double x)
{
    int denormal = x < 0x1p-1022;
    uint64_t bits = bits_of_double(denormal ? x * 0x1p52 : x) + (0x3ff0000000000000u - OC_LOG_HALF_BITS);
    double k = (double)((int32_t)(bits >> 52) - (denormal ? 1023 + 52 : 1023));
    double f = double_of_bits((bits & 0x000fffffffffffffu) + OC_LOG_HALF_BITS) - 1.0;
    double s = f / (2.0 + f), z = s * s;
    double l = fma(OC_LOG_7, z, OC_LOG_6);
    l = fma(l, z, OC_LOG_5);
    l = fma(l, z, OC_LOG_4);
    l = fma(l, z, OC_LOG_3);
    l = fma(l, z, OC_LOG_2);
    l = fma(l, z, OC_LOG_1);
    l = fma(l, z, OC_LOG_0);
    double h = 0.5 * f * f;
    double y = k * OC_LN2_HIGH - ((h - fma(s, h + z * l, k * OC_LN2_LOW)) - f);
    y = x < (double)INFINITY ? y : x;
    y = x == 0.0 ? -(double)INFINITY : y;
    return x < 0.0 ? (double)NAN : y;
}
