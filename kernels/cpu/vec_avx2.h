/* vec_avx2.h - the vector layer at 8 lanes, AVX2 and FMA3. What each name means: vec_scalar.h. */
#ifndef OC_KERNELS_CPU_VEC_H
#define OC_KERNELS_CPU_VEC_H

#include <immintrin.h>
#include <stdint.h>

#define OC_INLINE static inline __attribute__((always_inline))
enum { VW = 8, ROWS_MAX = 3 }; /* 3 rows x 4 vectors: 12 sums, 3 broadcasts, 1 weight: all 16 registers */
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

static inline vi vi_lanes(int count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static inline vf vf_set1(float x) { return _mm256_set1_ps(x); }
static inline vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf vf_load_part(const float *p, int count) { return _mm256_maskload_ps(p, vi_lanes(count)); }
static inline void vf_store_part(float *p, vf x, int count) { _mm256_maskstore_ps(p, vi_lanes(count), x); }
static inline vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
static inline vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
static inline vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
static inline vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
static inline vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
static inline vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
static inline vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
static inline vm vf_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vf vf_select(vm m, vf yes, vf no) { return _mm256_blendv_ps(no, yes, m); }

OC_INLINE void vf_transpose(vf *r)
{
    vf a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0x44);
            b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

static inline vi vi_of(vf x) { return _mm256_castps_si256(x); }
static inline vf vf_of(vi x) { return _mm256_castsi256_ps(x); }
static inline vi vi_set1(int32_t x) { return _mm256_set1_epi32(x); }
static inline vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
static inline vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
static inline vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
static inline vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
static inline vi vi_shift_left(vi a, int count) { return _mm256_slli_epi32(a, count); }
static inline vi vi_shift_right(vi a, int count) { return _mm256_srai_epi32(a, count); }

static inline vf vf_scale_down(vf p, vf n, vf t)
{
    (void)n;
    return vf_mul(vf_mul(p, vf_of(vi_shift_left(vi_of(t), 23))), vf_set1(0x1p-64f));
}

#endif
