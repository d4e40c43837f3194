/* device.cuh - what kernels are made of: shared memory, sums over a block, matrix fragments, small types. Everything
 * stays inside one block (a cooperative grid may wait for itself), so the same source runs in emulation, where
 * cuda_runtime.h is that of tests/emulation. What needs more than this header gives (clusters, wgmma, bulk copies) is a
 * variant for the GPU alone, in a file of its own, beside a block-level twin.
 * Sums are trees over fixed places: the same bits whatever order threads run in. */
#ifndef OC_KERNELS_CUDA_DEVICE_CUH
#define OC_KERNELS_CUDA_DEVICE_CUH

#include "kernels/cuda/math.cuh"

#define OC_WARP       32
#define OC_WHOLE_WARP 0xffffffffu

/* OC_SHARED(float, tile, [16][17]);  one array for the block. OC_SHARED_DYNAMIC(float, work); what the launch gave. */
#ifdef OC_EMULATION
#define OC_SHARED(type, name, dims)                                                                                    \
    typedef type name##_type dims;                                                                                     \
    static char name##_site;                                                                                           \
    name##_type &name =                                                                                                \
        *static_cast<name##_type *>(emulation::shared(&name##_site, sizeof(name##_type), alignof(name##_type)))
#define OC_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(emulation::shared_dynamic())
#define oc_grid_sync()                emulation::grid_barrier(__FILE__, __LINE__)
#define OC_UNROLL
#define OC_UNROLL_4
#define oc_in_order()          ((void)0)
#define oc_host_read(at)       emulation::host_read(at)
#define oc_host_write(at, x)   emulation::host_write(at, x)
#define oc_host_pause()        emulation::host_pause(__FILE__, __LINE__)
#define oc_host_acquire()      ((void)0)
#define oc_grid_meet(count, n) ((void)(count), (void)(n), emulation::grid_barrier(__FILE__, __LINE__))
#else
#include <cooperative_groups.h>
#define OC_UNROLL                   _Pragma("unroll")
#define OC_UNROLL_4                 _Pragma("unroll 4")
#define oc_in_order()               asm volatile("" ::: "memory") /* the compiler moves no load across it */
#define OC_SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define OC_SHARED_DYNAMIC(type, name)                                                                                  \
    extern __shared__ __align__(128) unsigned char oc_dynamic_bytes[];                                                 \
    type *name = reinterpret_cast<type *>(oc_dynamic_bytes)
#define oc_grid_sync()    cooperative_groups::this_grid().sync()
#define oc_host_pause()   ((void)0)
#define oc_host_acquire() __threadfence_system()
#endif

/* ---------------------------------------------------------------- resident kernels
 * Words of the host's pinned memory, which it changes meanwhile: eight bytes are read and written as one. pause where
 * nothing new was there; acquire by every thread behind the words that it waited for, so that it sees what the device
 * did before the host wrote them. */
#ifndef OC_EMULATION
OC_DEVICE uint64_t oc_host_read(const uint64_t *at)
{
    uint64_t x;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(x) : "l"(at) : "memory");
    return x;
}
OC_DEVICE void oc_host_write(uint64_t *at, uint64_t x)
{
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(at), "l"(x) : "memory");
}
/* All blocks of a cooperative grid wait for each other, the nth time: count, in device memory, began as 0. Lighter than
 * oc_grid_sync: a counter that only grows, one thread a block at it. */
OC_DEVICE void oc_grid_meet(unsigned *count, unsigned n)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned seen;
        __threadfence();
        atomicAdd(count, 1u);
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(count) : "memory");
        } while ((int)(seen - n * gridDim.x) < 0);
    }
    __syncthreads();
}
#endif

/* ---------------------------------------------------------------- bf16 */
struct oc_bf16 {
    uint16_t bits;
};

OC_DEVICE float oc_bf16_to_float(oc_bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

/* To the nearest, ties to even; NaN stays a (quiet) NaN. */
OC_DEVICE oc_bf16 oc_bf16_of(float x)
{
    const uint32_t bits = __float_as_uint(x);
    if (!(x == x)) return {(uint16_t)(bits >> 16 | 0x40)};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

/* Two of them as a register of a fragment: `low` is the one of the smaller k. */
OC_DEVICE uint32_t oc_bf16_pair(float low, float high)
{
    return (uint32_t)oc_bf16_of(low).bits | (uint32_t)oc_bf16_of(high).bits << 16;
}

/* f32 -> tf32: 10 bits of mantissa, to the nearest, ties away from zero (cvt.rna.tf32.f32). */
OC_DEVICE uint32_t oc_tf32_of(float x)
{
#ifdef OC_EMULATION
    const uint32_t bits = __float_as_uint(x);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000) & ~0x1fffu;
#else
    uint32_t y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
#endif
}

/* ---------------------------------------------------------------- fragments
 * One warp, C[16][8] += A[16][k] B[k][8], f32 sums. Lane l holds, with g = l / 4 and i = l % 4:
 *   C    c[0], c[1]: row g, columns 2i, 2i + 1       c[2], c[3]: row g + 8
 *   bf16, k = 16, two numbers a register (the lower k below):
 *     A  a[0]: row g, k 2i, 2i + 1   a[1]: row g + 8   a[2]: row g, k 2i + 8, 2i + 9   a[3]: row g + 8 of these
 *     B  b[0]: k 2i, 2i + 1, column g                  b[1]: k 2i + 8, 2i + 9
 *   tf32, k = 8:
 *     A  a[0]: row g, k i            a[1]: row g + 8   a[2]: row g, k i + 4            a[3]: row g + 8, k i + 4
 *     B  b[0]: k i, column g                           b[1]: k i + 4                       [PTX, mma.m16n8k16, m16n8k8]
 */
#ifdef OC_EMULATION
OC_DEVICE void oc_mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
    emulation::multiply(__FILE__, __LINE__, c, a, b, true);
}
OC_DEVICE void oc_mma_tf32(float *c, const uint32_t *a, const uint32_t *b)
{
    emulation::multiply(__FILE__, __LINE__, c, a, b, false);
}
#else
OC_DEVICE void oc_mma_bf16(float *c, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
OC_DEVICE void oc_mma_tf32(float *c, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#endif

/* ---------------------------------------------------------------- sums over a block */
template <class T> OC_DEVICE T oc_warp_sum(T x)
{
    for (int bits = OC_WARP / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(OC_WHOLE_WARP, x, bits);
    return x;
}

/* The sum over all THREADS threads (a multiple of 32), for every thread. Two barriers: all threads must come here. */
template <class T, int THREADS> OC_DEVICE T oc_block_sum(T x)
{
    OC_SHARED(T, part, [OC_WARP]);
    x = oc_warp_sum(x);
    if (threadIdx.x % OC_WARP == 0) part[threadIdx.x / OC_WARP] = x;
    __syncthreads();
    T sum = part[0];
    for (int i = 1; i < THREADS / OC_WARP; i++) sum += part[i];
    __syncthreads();
    return sum;
}

/* ---------------------------------------------------------------- flat loops */
OC_DEVICE int64_t oc_thread_first(void)
{
    return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}
OC_DEVICE int64_t oc_thread_step(void)
{
    return (int64_t)gridDim.x * blockDim.x;
}

#endif
