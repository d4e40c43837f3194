/* language.cuh - the CUDA words that kernels are written in, for the host compiler: qualifiers, vector types, the
 * identity of a thread, barriers, warp collectives, shared memory, atomics, launches. Threads are fibers of one system
 * thread (schedule.cpp); every collective is a call that yields until all partners have made the same call. */
#ifndef OC_TESTS_EMULATION_LANGUAGE_CUH
#define OC_TESTS_EMULATION_LANGUAGE_CUH

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <tuple>
#include <utility>

#define OC_EMULATION 1
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#if defined(__clang__)
#define OC_EMULATION_UNSEEN __attribute__((no_sanitize("thread")))
#else
#define OC_EMULATION_UNSEEN __attribute__((no_sanitize_thread))
#endif

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned i = 1, unsigned j = 1, unsigned k = 1) : x(i), y(j), z(k)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
/* Copied number by number: a copy of 16 bytes as a whole is a memcpy to clang, which its calls at loads and stores
 * leave out, so that what it wrote would look unwritten. */
struct alignas(16) uint4 {
    unsigned x, y, z, w;
    uint4() = default;
    constexpr uint4(unsigned a, unsigned b, unsigned c, unsigned d) : x(a), y(b), z(c), w(d)
    {
    }
    uint4(const uint4 &o) : x(o.x), y(o.y), z(o.z), w(o.w)
    {
    }
    uint4 &operator=(const uint4 &o)
    {
        x = o.x;
        y = o.y;
        z = o.z;
        w = o.w;
        return *this;
    }
};
struct alignas(16) double2 {
    double x, y;
};
static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}

struct emulation_stream;

namespace emulation
{
struct identity { /* of the running thread */
    uint3 thread, block;
    dim3 block_size, grid_size;
};
extern const identity *self;

/* Each waits for its partners; `file` and `line` must be the same for all of them. */
void barrier(const char *file, int line);                 /* all threads of the block */
int barrier_count(const char *file, int line, bool vote); /* the same; how many voted so */
void grid_barrier(const char *file, int line);            /* all threads of a cooperative grid */
/* All 32 lanes of the warp: each hands in `words` 32-bit words and gets those of all, all[lane * 8 + word]. */
enum { WARP_WORDS = 8 };
typedef uint32_t warp_words[32 * WARP_WORDS];
const uint32_t *warp_exchange(const char *file, int line, uint32_t mask, const uint32_t *mine, int words);
unsigned lane();
/* The same memory for all threads of a block, one per place in the source. */
void *shared(const void *site, size_t bytes, size_t alignment);
void *shared_dynamic();
size_t shared_dynamic_bytes();
/* Words of the host's pinned memory, which it changes while the kernel runs; pause: nothing new was there. */
uint64_t host_read(const uint64_t *at);
void host_write(uint64_t *at, uint64_t value);
void host_pause(const char *file, int line);
/* Around an atomic operation: looks whether the address is the kernel's to touch, and counts it as written. */
void atomic_touch(const void *at, size_t bytes);

enum { PARAMETER_BYTES = 4096 }; /* as on a device */
struct launch_shape {
    const char *name;
    dim3 grid, block;
    size_t shared_bytes;
    bool cooperative;
    ::emulation_stream *stream = nullptr;
    const void *kernel = nullptr; /* launch_kernel fills it */
    bool resident = false;        /* goes on beside all else, until its threads end */
};
/* Runs at once, or is kept where the stream is being captured. */
int launch(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *));

template <class... P> struct packet {
    void (*kernel)(P...);
    std::tuple<P...> arguments;
};
template <class... P> OC_EMULATION_UNSEEN void packet_run(const void *at)
{
    const auto *p = static_cast<const packet<P...> *>(at);
    std::apply(p->kernel, p->arguments);
}
template <class... P, class... A>
int launch_kernel(const launch_shape &shape, void (*kernel)(P...), const A &...arguments)
{
    static_assert(sizeof(packet<P...>) <= PARAMETER_BYTES, "more parameters than a kernel may have");
    const packet<P...> p = {kernel, std::tuple<P...>(arguments...)};
    launch_shape whole = shape;
    whole.kernel = reinterpret_cast<const void *>(kernel);
    return launch(whole, &p, sizeof p, packet_run<P...>);
}

template <class T> T exchange_from(const char *file, int line, uint32_t mask, T value, unsigned from)
{
    static_assert(sizeof(T) % 4 == 0 && sizeof(T) <= 4 * WARP_WORDS, "shuffles take whole words");
    uint32_t mine[sizeof(T) / 4];
    memcpy(mine, &value, sizeof value);
    const uint32_t *all = warp_exchange(file, line, mask, mine, sizeof(T) / 4);
    memcpy(&value, all + (from & 31) * WARP_WORDS, sizeof value);
    return value;
}
uint32_t ballot(const char *file, int line, uint32_t mask, bool vote);
/* The warp's product of two fragments, laid out as kernels/cuda/device.cuh says: k = 16 of bf16, or 8 of tf32. */
void multiply(const char *file, int line, float *c, const uint32_t *a, const uint32_t *b, bool bf16);
template <class T> OC_EMULATION_UNSEEN T atomic_add(T *at, T value)
{
    atomic_touch(at, sizeof *at);
    const T before = *at;
    *at = before + value;
    return before;
}
template <class T> OC_EMULATION_UNSEEN T atomic_least(T *at, T value)
{
    atomic_touch(at, sizeof *at);
    const T before = *at;
    *at = value < before ? value : before;
    return before;
}
template <class T> OC_EMULATION_UNSEEN T atomic_exchange(T *at, T value)
{
    atomic_touch(at, sizeof *at);
    const T before = *at;
    *at = value;
    return before;
}
template <class T> OC_EMULATION_UNSEEN T atomic_swap_if(T *at, T expected, T value)
{
    atomic_touch(at, sizeof *at);
    const T before = *at;
    if (before == expected) *at = value;
    return before;
}
} // namespace emulation

#define threadIdx                 (emulation::self->thread)
#define blockIdx                  (emulation::self->block)
#define blockDim                  (emulation::self->block_size)
#define gridDim                   (emulation::self->grid_size)
#define __syncthreads()           emulation::barrier(__FILE__, __LINE__)
#define __syncthreads_and(vote)   (emulation::barrier_count(__FILE__, __LINE__, (vote) != 0) == (int)blockDim.x)
#define __syncthreads_or(vote)    (emulation::barrier_count(__FILE__, __LINE__, (vote) != 0) > 0)
#define __syncwarp()              ((void)emulation::ballot(__FILE__, __LINE__, 0xffffffffu, true))
#define __ballot_sync(mask, vote) emulation::ballot(__FILE__, __LINE__, mask, vote)
#define __any_sync(mask, vote)    (emulation::ballot(__FILE__, __LINE__, mask, vote) != 0)
#define __all_sync(mask, vote)    (emulation::ballot(__FILE__, __LINE__, mask, vote) == 0xffffffffu)
#define __shfl_sync(mask, value, from)                                                                                 \
    emulation::exchange_from(__FILE__, __LINE__, mask, value, static_cast<unsigned>(from))
#define __shfl_xor_sync(mask, value, bits)                                                                             \
    emulation::exchange_from(__FILE__, __LINE__, mask, value, emulation::lane() ^ static_cast<unsigned>(bits))
#define __shfl_down_sync(mask, value, distance)                                                                        \
    emulation::exchange_from(__FILE__, __LINE__, mask, value,                                                          \
                             emulation::lane() + (distance) < 32 ? emulation::lane() + (distance) : emulation::lane())
#define atomicAdd(at, value)           emulation::atomic_add(at, value)
#define atomicMin(at, value)           emulation::atomic_least(at, value)
#define atomicExch(at, value)          emulation::atomic_exchange(at, value)
#define atomicCAS(at, expected, value) emulation::atomic_swap_if(at, expected, value)

static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline long long __double_as_longlong(double x)
{
    long long bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double __longlong_as_double(long long bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
