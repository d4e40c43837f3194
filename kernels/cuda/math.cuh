/* math.cuh - exp, log, tanh and the logistic function on the device: the steps at the head of base/mathf.c in their
 * order. Compiled with -fmad=false and IEEE division and roots, they have the CPU's bits (in emulation: tested). */
#ifndef OC_KERNELS_CUDA_MATH_CUH
#define OC_KERNELS_CUDA_MATH_CUH

#include <cuda_runtime.h>
#include <stdint.h>
#include "base/mathf_constants.h"

#define OC_DEVICE static __device__ __forceinline__

OC_DEVICE float oc_exp_core(float x, float round, float *t)
{
    *t = fmaf(x, OC_LOG2EF, round);
    const float n = *t - round;
    const float r = fmaf(n, -OC_LN2F_LOW, fmaf(n, -OC_LN2F_HIGH, x));
    float q = fmaf(OC_EXPF_6, r, OC_EXPF_5);
    q = fmaf(q, r, OC_EXPF_4);
    q = fmaf(q, r, OC_EXPF_3);
    q = fmaf(q, r, OC_EXPF_2);
    return 1.0f + fmaf(r * r, q, r);
}

OC_DEVICE float oc_device_exp(float x)
{
    float t;
    x = x > OC_EXPF_MAX ? OC_EXPF_MAX : x;
    x = x < OC_EXPF_MIN ? OC_EXPF_MIN : x;
    const float p = oc_exp_core(x, OC_ROUNDF, &t);
    const int32_t n = (int32_t)(__float_as_uint(t) - __float_as_uint(OC_ROUNDF)), h = n >> 1;
    return p * __uint_as_float((uint32_t)(h + 127) << 23) * __uint_as_float((uint32_t)(n - h + 127) << 23);
}

OC_DEVICE float oc_device_sigmoid(float x)
{
    float t, a = -fabsf(x);
    a = a < OC_EXPF_MIN ? OC_EXPF_MIN : a;
    const float p = oc_exp_core(a, OC_ROUNDF_191, &t);
    const float z = p * __uint_as_float(__float_as_uint(t) << 23) * 0x1p-64f;
    return (x < 0.0f ? z : 1.0f) / (1.0f + z);
}

OC_DEVICE float oc_device_tanh(float x)
{
    float a = fabsf(x);
    a = a > OC_TANHF_MAX ? OC_TANHF_MAX : a;
    const float u = a * a;
    float p = fmaf(OC_TANHF_P4, u, OC_TANHF_P3), q = fmaf(OC_TANHF_Q4, u, OC_TANHF_Q3);
    p = fmaf(p, u, OC_TANHF_P2);
    q = fmaf(q, u, OC_TANHF_Q2);
    p = fmaf(p, u, OC_TANHF_P1);
    q = fmaf(q, u, OC_TANHF_Q1);
    p = fmaf(p, u, 1.0f);
    q = fmaf(q, u, 1.0f);
    float y = a * p / q;
    y = y > 1.0f ? 1.0f : y;
    return __uint_as_float(__float_as_uint(y) | (__float_as_uint(x) & 0x80000000u));
}

OC_DEVICE double oc_double_of_bits(uint64_t bits)
{
    return __longlong_as_double((long long)bits);
}

OC_DEVICE double oc_device_expd(double x)
{
    x = x > OC_EXP_MAX ? OC_EXP_MAX : x;
    x = x < OC_EXP_MIN ? OC_EXP_MIN : x;
    const double t = fma(x, OC_LOG2E, OC_ROUND), n = t - OC_ROUND;
    const double r = fma(n, -OC_LN2_LOW, fma(n, -OC_LN2_HIGH, x));
    double q = fma(OC_EXP_11, r, OC_EXP_10);
    q = fma(q, r, OC_EXP_9);
    q = fma(q, r, OC_EXP_8);
    q = fma(q, r, OC_EXP_7);
    q = fma(q, r, OC_EXP_6);
    q = fma(q, r, OC_EXP_5);
    q = fma(q, r, OC_EXP_4);
    q = fma(q, r, OC_EXP_3);
    q = fma(q, r, OC_EXP_2);
    const double p = 1.0 + fma(r * r, q, r);
    const int32_t i = (int32_t)(uint32_t)(uint64_t)__double_as_longlong(t), h = i >> 1;
    return p * oc_double_of_bits((uint64_t)(h + 1023) << 52) * oc_double_of_bits((uint64_t)(i - h + 1023) << 52);
}

/* x is a sum of at least one power of e that is 1: from 1 on, or NaN. */
OC_DEVICE double oc_device_logd(double x)
{
    const uint64_t bits = (uint64_t)__double_as_longlong(x) + (0x3ff0000000000000u - OC_LOG_HALF_BITS);
    const double k = (double)((int32_t)(bits >> 52) - 1023);
    const double f = oc_double_of_bits((bits & 0x000fffffffffffffu) + OC_LOG_HALF_BITS) - 1.0;
    const double s = f / (2.0 + f), z = s * s;
    double l = fma(OC_LOG_7, z, OC_LOG_6);
    l = fma(l, z, OC_LOG_5);
    l = fma(l, z, OC_LOG_4);
    l = fma(l, z, OC_LOG_3);
    l = fma(l, z, OC_LOG_2);
    l = fma(l, z, OC_LOG_1);
    l = fma(l, z, OC_LOG_0);
    const double h = 0.5 * f * f;
    const double y = k * OC_LN2_HIGH - ((h - fma(s, h + z * l, k * OC_LN2_LOW)) - f);
    return x < oc_double_of_bits(0x7ff0000000000000u) ? y : x;
}

#endif
