/* number.cuh - bf16 and tf32 for kernels of matrix fragments: one source serves both. Fragments: device.cuh. */
#ifndef OC_KERNELS_CUDA_NUMBER_CUH
#define OC_KERNELS_CUDA_NUMBER_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/ops.h"

/* What differs between bf16 and tf32: how wide a fragment's k is, and how a number lies in shared memory. */
template <int MATH> struct oc_number;
template <> struct oc_number<OC_MATH_BF16> {
    typedef oc_bf16 type;
    static constexpr int DEPTH = 16, PAD = 8; /* rows 8 numbers longer: fragments without bank conflicts */
    static __device__ __forceinline__ type of(float x)
    {
        return oc_bf16_of(x);
    }
    /* Register n of B at column `row` of the shared [column][k]; k is that of the fragment. */
    static __device__ __forceinline__ uint32_t b(const type *row, int k, int i, int n)
    {
        return *reinterpret_cast<const uint32_t *>(row + k + 2 * i + 8 * n);
    }
    /* Register n of A from a function of (row, k). */
    template <class F> static __device__ __forceinline__ uint32_t a(F at, int k, int g, int i, int n)
    {
        const int row = g + n % 2 * 8, from = k + 2 * i + n / 2 * 8;
        return oc_bf16_pair(at(row, from), at(row, from + 1));
    }
    static __device__ __forceinline__ void multiply(float *c, const uint32_t *a, const uint32_t *b)
    {
        oc_mma_bf16(c, a, b);
    }
};
template <> struct oc_number<OC_MATH_TF32> {
    typedef uint32_t type;
    static constexpr int DEPTH = 8, PAD = 4;
    static __device__ __forceinline__ type of(float x)
    {
        return oc_tf32_of(x);
    }
    static __device__ __forceinline__ uint32_t b(const type *row, int k, int i, int n)
    {
        return row[k + i + 4 * n];
    }
    template <class F> static __device__ __forceinline__ uint32_t a(F at, int k, int g, int i, int n)
    {
        return oc_tf32_of(at(g + n % 2 * 8, k + i + n / 2 * 4));
    }
    static __device__ __forceinline__ void multiply(float *c, const uint32_t *a, const uint32_t *b)
    {
        oc_mma_tf32(c, a, b);
    }
};

#endif
