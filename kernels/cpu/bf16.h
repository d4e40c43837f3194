/* bf16.h - bf16: the upper half of an f32, 8 bits of precision. And how two of them lie in a word: the first in its
 * upper half, so that an instruction which takes the upper product first goes on in the order of k. Inside kernels/
 * only. */
#ifndef OC_KERNELS_CPU_BF16_H
#define OC_KERNELS_CPU_BF16_H

#include <stdint.h>
#include <string.h>

/* Rounded to nearest, ties to even; what is subnormal becomes 0 with its sign; NaN stays NaN. As vcvtneps2bf16. */
static inline uint32_t oc_bf16_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    const uint32_t exponent = u & 0x7f800000u;
    const uint32_t rounded = (u + 0x7fffu + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40u;
    const uint32_t number = (u & 0x7fffffffu) > 0x7f800000u ? nan : rounded;
    return exponent == 0 ? u >> 16 & 0x8000u : number;
}

/* The word of a pair; its bits as an f32 that nobody computes with. */
static inline float oc_bf16_pair(float first, float second)
{
    const uint32_t word = oc_bf16_bits(first) << 16 | oc_bf16_bits(second);
    float bits;
    memcpy(&bits, &word, sizeof bits);
    return bits;
}

#endif
