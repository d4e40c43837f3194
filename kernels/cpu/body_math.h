/* body_math.h - exp, tanh and the logistic function lane by lane: the steps at the head of base/mathf.c in their order,
 * so the bits of oc_expf, oc_tanhf, oc_sigmoidf. Included by body.h after a vec_*.h. */
#ifndef OC_KERNELS_CPU_BODY_MATH_H
#define OC_KERNELS_CPU_BODY_MATH_H

#include "base/mathf_constants.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

static inline vf vf_exp_core(vf x, float round, vf *t, vf *whole)
{
    *t = vf_fma(x, vf_set1(OC_LOG2EF), vf_set1(round));
    const vf n = *whole = vf_sub(*t, vf_set1(round));
    vf r = vf_fma(n, vf_set1(-OC_LN2F_LOW), vf_fma(n, vf_set1(-OC_LN2F_HIGH), x));
    vf q = vf_fma(vf_set1(OC_EXPF_6), r, vf_set1(OC_EXPF_5));
    q = vf_fma(q, r, vf_set1(OC_EXPF_4));
    q = vf_fma(q, r, vf_set1(OC_EXPF_3));
    q = vf_fma(q, r, vf_set1(OC_EXPF_2));
    return vf_add(vf_set1(1.0f), vf_fma(vf_mul(r, r), q, r));
}

static inline vf vf_exp(vf x)
{
    vf t, whole;
    x = vf_min(vf_set1(OC_EXPF_MAX), x);
    x = vf_max(vf_set1(OC_EXPF_MIN), x);
    vf p = vf_exp_core(x, OC_ROUNDF, &t, &whole);
    vi n = vi_sub(vi_of(t), vi_of(vf_set1(OC_ROUNDF))), h = vi_shift_right(n, 1), bias = vi_set1(127);
    vf low = vf_of(vi_shift_left(vi_add(h, bias), 23));
    vf high = vf_of(vi_shift_left(vi_add(vi_sub(n, h), bias), 23));
    return vf_mul(vf_mul(p, low), high);
}

static inline vf vf_sigmoid(vf x)
{
    vf t, n, a = vf_of(vi_or(vi_of(x), vi_set1(INT32_MIN)));
    a = vf_max(vf_set1(OC_EXPF_MIN), a);
    vf p = vf_exp_core(a, OC_ROUNDF_191, &t, &n);
    const vf z = vf_scale_down(p, n, t), one = vf_set1(1.0f);
    return vf_div(vf_select(vf_less(x, vf_set1(0.0f)), z, one), vf_add(one, z));
}

static inline vf vf_tanh(vf x)
{
    vf a = vf_of(vi_and(vi_of(x), vi_set1(INT32_MAX)));
    a = vf_min(vf_set1(OC_TANHF_MAX), a);
    vf u = vf_mul(a, a);
    vf p = vf_fma(vf_set1(OC_TANHF_P4), u, vf_set1(OC_TANHF_P3)),
       q = vf_fma(vf_set1(OC_TANHF_Q4), u, vf_set1(OC_TANHF_Q3));
    p = vf_fma(p, u, vf_set1(OC_TANHF_P2));
    q = vf_fma(q, u, vf_set1(OC_TANHF_Q2));
    p = vf_fma(p, u, vf_set1(OC_TANHF_P1));
    q = vf_fma(q, u, vf_set1(OC_TANHF_Q1));
    p = vf_fma(p, u, vf_set1(1.0f));
    q = vf_fma(q, u, vf_set1(1.0f));
    vf y = vf_div(vf_mul(a, p), q);
    y = vf_min(vf_set1(1.0f), y);
    return vf_of(vi_or(vi_of(y), vi_and(vi_of(x), vi_set1(INT32_MIN))));
}

#endif
