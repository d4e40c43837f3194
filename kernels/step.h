/* step.h - the numbers of an optimiser step that change from one to the next, written once for every backend: the same
 * order of the same operations in f64, so the same bits. Inside kernels/ only. */
#ifndef OC_KERNELS_STEP_H
#define OC_KERNELS_STEP_H

#include <math.h>
#include "kernels/ops.h"

#ifdef __CUDACC__
#define OC_STEP_INLINE static __device__ __forceinline__
#else
#define OC_STEP_INLINE static inline
#endif

/* x^n by squaring: the same bits everywhere, which libm's pow does not promise. */
OC_STEP_INLINE double oc_step_power(double x, int64_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) result *= x;
    return result;
}

/* Sums are there: is it a step, how long is it, and how much of the average stays? */
OC_STEP_INLINE void oc_step_decide(const oc_step_rule *rule, float rate, oc_step *s)
{
    const double norm = sqrt(s->square_sum) / s->weight_sum;
    s->norm = norm;
    s->finite = s->loss_sum - s->loss_sum == 0 && norm - norm == 0;
    if (!s->finite) return;
    const double clip = rule->clip_norm > 0 && norm > rule->clip_norm ? rule->clip_norm / norm : 1;
    const double update = (double)++s->updates;
    s->gradient_scale = (float)(clip / s->weight_sum);
    s->decay = (float)(1 - (double)rate * (double)rule->weight_decay);
    s->rate = (float)((double)rate / (1 - oc_step_power((double)rule->beta1, s->updates)));
    s->root = (float)sqrt(1 - oc_step_power((double)rule->beta2, s->updates));
    /* young averages forget faster: the random start must not weigh on them */
    const double young = (1.0 + update) / (10.0 + update);
    s->keep = (float)(young < rule->average ? young : rule->average);
}

#endif
