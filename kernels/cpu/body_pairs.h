/* body_pairs.h - the LSTM's products in bf16: where OC_PAIRS is 1, weights and what they meet are words of two bf16
 * (bf16.h), and a step of a sum takes a word. Included by body.h.
 * Order:   still one chain over ascending k; a step is sum = fma(x1, w1, fma(x0, w0, sum)), each rounded to f32, with
 *          subnormal sums taken and left as 0: what vdpbf16ps does (tests/kernels/test_pairs.c), and its twin here by
 *          two fma. So the same bits on every instruction set. */
#ifndef OC_KERNELS_CPU_BODY_PAIRS_H
#define OC_KERNELS_CPU_BODY_PAIRS_H

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

#ifndef OC_PAIRS
#define OC_PAIRS 0
#endif
enum { PAIRS = OC_PAIRS, PAIRS_ROOM = 16384 }; /* words of activations that a call converts at once: 64 KiB of stack */

#ifndef OC_PAIRS_NATIVE
OC_INLINE vf vf_normal(vf x)
{
    const vi bits = vi_of(x);
    const vm subnormal = vf_less(vf_of(vi_and(bits, vi_set1(INT32_MAX))), vf_set1(0x1p-126f));
    return vf_select(subnormal, vf_of(vi_and(bits, vi_set1(INT32_MIN))), x);
}

OC_INLINE vf vf_dot(vf x, vf w, vf sum)
{
    const vi upper = vi_set1(INT32_MIN >> 15); /* 0xffff0000 */
    const vf x0 = vf_of(vi_and(vi_of(x), upper)), w0 = vf_of(vi_and(vi_of(w), upper));
    const vf x1 = vf_of(vi_shift_left(vi_of(x), 16)), w1 = vf_of(vi_shift_left(vi_of(w), 16));
    return vf_normal(vf_fma(x1, w1, vf_normal(vf_fma(x0, w0, vf_normal(sum)))));
}

static inline void row_pairs(const float *x, int count, float *to)
{
    for (int k = 0; k + 1 < count; k += 2) to[k / 2] = oc_bf16_pair(x[k], x[k + 1]);
    if (count % 2) to[count / 2] = oc_bf16_pair(x[count - 1], 0.0f);
}
#endif

/* Numbers of a row that a product's k counts. */
static inline int words_of(int count)
{
    return PAIRS ? (count + 1) / 2 : count;
}

OC_INLINE vf vf_step(vf x, vf w, vf sum, const int pairs)
{
    return pairs ? vf_dot(x, w, sum) : vf_fma(x, w, sum);
}

static inline void rows_pairs(const float *x, size_t x_row, int rows, int count, float *to)
{
    for (size_t r = 0; r < (size_t)rows; r++) row_pairs(x + r * x_row, count, to + r * (size_t)words_of(count));
}

#endif
