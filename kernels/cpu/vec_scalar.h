/* vec_scalar.h - the vector layer of kernels/cpu at width 1: the definition that the wider ones must equal in bits.
 * vf is a vector of f32, vi of i32, vm a mask. vf_min(a, b) is a < b ? a : b and vf_max(a, b) is a > b ? a : b, so
 * where either is NaN the second is the result (as the x86 instructions have it). *_part: only the first `count`
 * lanes; lanes not loaded are 0. Loads and stores need no alignment. */
#ifndef OC_KERNELS_CPU_VEC_H
#define OC_KERNELS_CPU_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define OC_INLINE static inline __attribute__((always_inline))
enum { VW = 1, ROWS_MAX = 2 };                 /* lanes; rows of a register tile of four vectors */
typedef float vf;
typedef int32_t vi;
typedef int vm;

static inline vf vf_set1(float x) { return x; }
static inline vf vf_load(const float *p) { return *p; }
static inline void vf_store(float *p, vf x) { *p = x; }
static inline vf vf_load_part(const float *p, int count) { return count > 0 ? *p : 0.0f; }
static inline void vf_store_part(float *p, vf x, int count) { if (count > 0) *p = x; }
static inline vf vf_fma(vf a, vf b, vf c) { return fmaf(a, b, c); }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_sqrt(vf a) { return sqrtf(a); }
static inline vf vf_min(vf a, vf b) { return a < b ? a : b; }
static inline vf vf_max(vf a, vf b) { return a > b ? a : b; }
static inline vm vf_less(vf a, vf b) { return a < b; }
static inline vf vf_select(vm m, vf yes, vf no) { return m ? yes : no; }
static inline void vf_transpose(vf *rows) { (void)rows; }              /* VW rows of VW lanes, in place */

static inline vi vi_of(vf x) { vi y; memcpy(&y, &x, sizeof y); return y; }
static inline vf vf_of(vi x) { vf y; memcpy(&y, &x, sizeof y); return y; }
static inline vi vi_set1(int32_t x) { return x; }
static inline vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
static inline vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_or(vi a, vi b) { return a | b; }
static inline vi vi_shift_left(vi a, int count) { return (vi)((uint32_t)a << count); }
static inline vi vi_shift_right(vi a, int count) { return a >> count; } /* arithmetic: gcc and clang define it so */

/* p * 2^n rounded once, for integers n from -150 to 0 whose t = n + OC_ROUNDF_191 (base/mathf.c). */
static inline vf vf_scale_down(vf p, vf n, vf t)
{
    (void)n;
    return p * vf_of(vi_shift_left(vi_of(t), 23)) * 0x1p-64f;
}

#endif
