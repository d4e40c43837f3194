/* vec_avx512.h - the vector layer at 16 lanes, AVX-512 F, DQ, BW, VL. What each name means: vec_scalar.h. */
#ifndef OC_KERNELS_CPU_VEC_H
#define OC_KERNELS_CPU_VEC_H

#include <immintrin.h>
#include <stdint.h>

#define OC_INLINE static inline __attribute__((always_inline))
enum { VW = 16, ROWS_MAX = 6 };                /* 6 rows x 4 vectors: 24 sums, 4 weights, broadcasts: 32 registers */
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

static inline __mmask16 vm_lanes(int count)
{
    return count <= 0 ? (__mmask16)0 : (__mmask16)(0xffffu >> (16 - (count < 16 ? count : 16)));
}

static inline vf vf_set1(float x) { return _mm512_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf vf_load_part(const float *p, int count) { return _mm512_maskz_loadu_ps(vm_lanes(count), p); }
static inline void vf_store_part(float *p, vf x, int count) { _mm512_mask_storeu_ps(p, vm_lanes(count), x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
static inline vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
static inline vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vm vf_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline vf vf_select(vm m, vf yes, vf no) { return _mm512_mask_blend_ps(m, no, yes); }

OC_INLINE void vf_transpose(vf *r)
{
    vf a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)            /* b[i + n]: lane 4 q + m is row i + m, column 4 q + n */
#pragma GCC unroll 2
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm512_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm512_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {              /* a 4 x 4 transpose of quarters */
        const vf even = _mm512_shuffle_f32x4(b[n], b[n + 4], 0x88), odd = _mm512_shuffle_f32x4(b[n], b[n + 4], 0xdd);
        const vf even_high = _mm512_shuffle_f32x4(b[n + 8], b[n + 12], 0x88);
        const vf odd_high = _mm512_shuffle_f32x4(b[n + 8], b[n + 12], 0xdd);
        r[n] = _mm512_shuffle_f32x4(even, even_high, 0x88);
        r[n + 4] = _mm512_shuffle_f32x4(odd, odd_high, 0x88);
        r[n + 8] = _mm512_shuffle_f32x4(even, even_high, 0xdd);
        r[n + 12] = _mm512_shuffle_f32x4(odd, odd_high, 0xdd);
    }
}

static inline vi vi_of(vf x) { return _mm512_castps_si512(x); }
static inline vf vf_of(vi x) { return _mm512_castsi512_ps(x); }
static inline vi vi_set1(int32_t x) { return _mm512_set1_epi32(x); }
static inline vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
static inline vi vi_shift_left(vi a, int count) { return _mm512_slli_epi32(a, (unsigned)count); }
static inline vi vi_shift_right(vi a, int count) { return _mm512_srai_epi32(a, (unsigned)count); }

#ifdef __AVX512BF16__
#define OC_PAIRS_NATIVE
/* As body_pairs.h says. The instructions want the first of a pair in the lower half: hence the rotation. */
static inline vf vf_dot(vf x, vf w, vf sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)w);
}

static inline void row_pairs(const float *x, int count, float *to)
{
    for (int k = 0; k < count; k += 16) {
        const __m256i numbers = (__m256i)_mm512_cvtneps_pbh(vf_load_part(x + k, count - k));
        const __mmask8 words = (__mmask8)vm_lanes((count - k + 1) / 2);
        _mm256_mask_storeu_epi32(to + k / 2, words, _mm256_rol_epi32(numbers, 16));
    }
}
#endif

static inline vf vf_scale_down(vf p, vf n, vf t)
{
    (void)t;
    return _mm512_scalef_ps(p, n);             /* the same product, also rounded once: two multiplications less */
}

#endif
