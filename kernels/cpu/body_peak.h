/* body_peak.h - 12 independent chains of fused multiply-adds: more than latency times width of any core so far. */
#ifndef OC_KERNELS_CPU_BODY_PEAK_H
#define OC_KERNELS_CPU_BODY_PEAK_H

#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

enum { PEAK_CHAINS = 12 };

static float fma_burst(int64_t count, int64_t *operations)
{
    vf chain[PEAK_CHAINS], total = vf_set1(0.0f);
    const vf keep = vf_set1(0.999f), add = vf_set1(0.001f);
    float lane[VW];
#pragma GCC unroll 16
    for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = vf_set1((float)i);
    for (int64_t n = 0; n < count; n++) {
#pragma GCC unroll 16
        for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = vf_fma(chain[i], keep, add);
    }
#pragma GCC unroll 16
    for (int i = 0; i < PEAK_CHAINS; i++) total = vf_add(total, chain[i]);
    vf_store(lane, total);
    *operations = count * PEAK_CHAINS * VW * 2;
    return lane[0]; /* so that nothing of it is left out */
}

#endif
