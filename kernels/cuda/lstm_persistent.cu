/* lstm_persistent.cu - all steps of an LSTM layer in one launch, for H <= 128, by matrix fragments of bf16 or tf32 with
 * f32 sums, gates and cells. A block takes 8 NT rows of the batch through all T steps; blocks never wait for each
 * other. Strategy: gates are the 16 rows of a fragment, windows its 8 columns, so a small batch still fills the device.
 * W_hh lies in registers for all steps (bf16, H = 128: 64 registers a thread; of tf32 at H = 128 half lies in shared
 * memory), loaded as vectors from the packed form (lstm_plan.cuh). Rows of the two fragments of a warp are i, f and g,
 * o of the same 8 units, so the four gates of a unit meet in one thread, which keeps its cell. The state h goes through
 * shared memory, twice buffered: one barrier a step; x . W of a step is asked for before its products begin. Bound:
 * latency of a step (two dependent chains of products, a barrier, the functions), or, for a large batch, the bytes of
 * gates. Not run on a GPU. */
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/lstm_scan.cuh"

/* Numbers of a kernel for H <= 16 KT, computed once. */
template <int MATH, int KT, int NT> struct scan_plan {
    static constexpr int UNITS = 16 * KT, WARPS = 2 * KT, THREADS = 32 * WARPS;
    static constexpr int STEPS = UNITS / oc_number<MATH>::DEPTH;
    /* k-steps in registers, 8 each; the rest is shared. 512 threads have 128 registers: what nvcc fits without spills
     */
    static constexpr int HELD_MAX = KT < 8 || NT == 1 ? 8 : MATH == OC_MATH_BF16 ? 6 : 7;
    static constexpr int RESIDENT = STEPS > HELD_MAX ? HELD_MAX : STEPS;
    static constexpr int WIDE = KT == 8 ? 1 : NT; /* fragments of rows at a time: 512 threads have 128 registers each */
    static constexpr int ROW = UNITS + oc_number<MATH>::PAD, ROWS = 8 * NT;
    static constexpr int FRAGMENTS = (STEPS - RESIDENT) * 2 * THREADS; /* uint4 in shared memory */
    static constexpr size_t BYTES =
        (size_t)FRAGMENTS * sizeof(uint4) + (size_t)2 * ROWS * ROW * sizeof(typename oc_number<MATH>::type);
    static_assert(BYTES <= OC_SHARED_MAX_80, "more shared memory than the smallest device served has");
};

/* The two fragments of the warp's 8 units. */
template <class plan> struct scan_weights {
    uint4 held[plan::RESIDENT][2];

    __device__ __forceinline__ void load(const void *packed, uint4 *shared)
    {
        const uint4 *from = static_cast<const uint4 *>(packed) + threadIdx.x;
        OC_UNROLL
        for (int n = 0; n < 2 * plan::RESIDENT; n++) held[n / 2][n % 2] = from[n * plan::THREADS];
        from += 2 * plan::RESIDENT * plan::THREADS;
        for (int n = 0; n < plan::FRAGMENTS; n += plan::THREADS) shared[n + threadIdx.x] = from[n];
    }
    __device__ __forceinline__ void get(const uint4 *shared, int step, int m, uint32_t *a) const
    {
        const uint4 x = step < plan::RESIDENT ? held[step < plan::RESIDENT ? step : 0][m]
                                              : shared[((step - plan::RESIDENT) * 2 + m) * plan::THREADS + threadIdx.x];
        a[0] = x.x;
        a[1] = x.y;
        a[2] = x.z;
        a[3] = x.w;
    }
};

template <int MATH, class plan>
OC_DEVICE void scan_start(const oc_lstm_scan &s, typename oc_number<MATH>::type *states, int first, int unit,
                          float *cell)
{
    for (int n = threadIdx.x; s.h_first && n < plan::ROWS * plan::UNITS; n += plan::THREADS) {
        const int row = first + n / plan::UNITS, u = n % plan::UNITS;
        const bool there = row < s.rows && u < s.hidden;
        states[n / plan::UNITS * plan::ROW + u] =
            oc_number<MATH>::of(there ? s.h_first[(int64_t)row * s.hidden + u] : 0.0f);
    }
    OC_UNROLL
    for (int n = 0; n < plan::ROWS / 4; n++) {
        const int row = first + n / 2 * 8 + 2 * (threadIdx.x % 4) + n % 2;
        cell[n] = s.c_first && row < s.rows && unit < s.hidden ? s.c_first[(int64_t)row * s.hidden + unit] : 0.0f;
    }
}

/* sum[m][n] = the warp's fragments times the states of 8 WIDE rows. */
template <int MATH, class plan>
OC_DEVICE void scan_products(const scan_weights<plan> &weights, const uint4 *fragments,
                             const typename oc_number<MATH>::type *from, float (*sum)[plan::WIDE][4])
{
    typedef oc_number<MATH> number;
    const int g = threadIdx.x % 32 / 4, i = threadIdx.x % 4;
    OC_UNROLL
    for (int step = 0; step < plan::STEPS; step++) {
        uint32_t a[2][4];
        OC_UNROLL
        for (int m = 0; m < 2; m++) weights.get(fragments, step, m, a[m]);
        OC_UNROLL
        for (int n = 0; n < plan::WIDE; n++) {
            const typename number::type *column = from + (8 * n + g) * plan::ROW;
            const uint32_t b[2] = {number::b(column, step * number::DEPTH, i, 0),
                                   number::b(column, step * number::DEPTH, i, 1)};
            number::multiply(sum[0][n], a[0], b);
            number::multiply(sum[1][n], a[1], b);
        }
    }
}

template <int MATH, int KT, int NT> static __global__ void __launch_bounds__(32 * 2 * KT, 1) lstm_scan(oc_lstm_scan s)
{
    typedef scan_plan<MATH, KT, NT> plan;
    typedef oc_number<MATH> number;
    typedef typename number::type type;
    OC_SHARED_DYNAMIC(uint4, fragments);
    type *states = reinterpret_cast<type *>(fragments + plan::FRAGMENTS); /* [2][ROWS][ROW] */
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4, unit = threadIdx.x / 32 * 8 + g;
    const int first = blockIdx.x * plan::ROWS;
    scan_weights<plan> weights;
    float cell[2 * NT];
    weights.load(s.w_hh, fragments);
    scan_start<MATH, plan>(s, states, first, unit, cell);
    __syncthreads();
    for (int64_t t = 0; t < s.steps; t++) {
        const type *from = states + t % 2 * plan::ROWS * plan::ROW;
        type *to = states + (t + 1) % 2 * plan::ROWS * plan::ROW;
        OC_UNROLL
        for (int part = 0; part < NT; part += plan::WIDE) {
            float x[2 * plan::WIDE][OC_GATES], sum[2][plan::WIDE][4] = {};
            OC_UNROLL
            for (int n = 0; n < 2 * plan::WIDE; n++)
                oc_scan_inputs(s, t, first + 8 * part + n / 2 * 8 + 2 * i + n % 2, unit, x[n]);
            if (t > 0 || s.h_first) scan_products<MATH, plan>(weights, fragments, from + 8 * part * plan::ROW, sum);
            OC_UNROLL
            for (int n = 0; n < 2 * plan::WIDE;
                 n++) { /* register e of a fragment: column 2i + e, gates 2m; 2 + e: 2m + 1 */
                const int e = n % 2, w = n / 2, column = 8 * (part + w) + 2 * i + e;
                const float mine[OC_GATES] = {x[n][0] + sum[0][w][e], x[n][1] + sum[0][w][2 + e],
                                              x[n][2] + sum[1][w][e], x[n][3] + sum[1][w][2 + e]};
                to[column * plan::ROW + unit] =
                    number::of(oc_scan_unit(s, t, first + column, unit, mine, &cell[2 * part + n]));
            }
        }
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- choosing */
bool oc_cuda_lstm_scan_serves(oc_backend *b, int hidden, bool backward)
{
    (void)backward;
    return oc_cuda_of(b)->scans && oc_scan_units(hidden) > 0 && oc_cuda_of(b)->shared_max >= OC_SHARED_MAX_80;
}

/* A row serves H <= 16 KT with 8 NT rows a block. */
#define SCANS(X, MATH) X(MATH, 2, 1) X(MATH, 4, 1) X(MATH, 8, 1) X(MATH, 2, 4) X(MATH, 4, 4) X(MATH, 8, 2)

oc_status oc_cuda_lstm_scan_run(oc_backend *b, const oc_lstm_scan *s)
{
    const int units = oc_scan_units(s->hidden), tiles = oc_scan_rows(b, s->rows, 8, units == 128 ? 16 : 32) / 8;
    if (b->info.math == OC_MATH_F32) return oc_cuda_lstm_scan_f32(b, s);
    const unsigned blocks = (unsigned)((s->rows + 8 * tiles - 1) / (8 * tiles));
#define RUN(MATH, KT, NT)                                                                                              \
    if (b->info.math == MATH && units == 16 * KT && tiles == NT) {                                                     \
        typedef scan_plan<MATH, KT, NT> plan;                                                                          \
        OC_LAUNCH(b, (lstm_scan<MATH, KT, NT>), blocks, plan::THREADS, plan::BYTES, *s);                               \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN, OC_MATH_BF16)
    SCANS(RUN, OC_MATH_TF32)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "lstm_forward: the persistent kernels hold %d units, not %d", OC_SCAN_UNITS_MAX,
                   s->hidden);
}
