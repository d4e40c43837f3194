/* lstm_persistent_backward.cu - the reverse scan of an LSTM layer in one launch, for H <= 128, by matrix fragments of
 * bf16 or tf32: gates after activation become the gradients of their pre-activations. Strategy: as lstm_persistent.cu,
 * but a warp's 16 rows are 16 units and k = 4H, the gradients of the gates of the step after, which go through shared
 * memory; two barriers a step; dc and the cell stay in registers. What a step reads of memory is asked for before its
 * products begin. Bound: latency of a step, or the bytes of gates. Not run on a GPU. */
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/lstm_scan.cuh"

template <int MATH, int KT, int NT> struct gradient_plan {
    static constexpr int UNITS = 16 * KT, THREADS = 32 * KT;
    static constexpr int STEPS = 4 * UNITS / oc_number<MATH>::DEPTH;
    static constexpr int HELD_MAX = 32; /* of 4 registers each */
    static constexpr int RESIDENT = STEPS > HELD_MAX ? HELD_MAX : STEPS;
    static constexpr int ROW = 4 * UNITS + oc_number<MATH>::PAD, ROWS = 8 * NT;
    static constexpr int FRAGMENTS = (STEPS - RESIDENT) * THREADS; /* uint4 in shared memory */
    static constexpr size_t BYTES =
        (size_t)FRAGMENTS * sizeof(uint4) + (size_t)ROWS * ROW * sizeof(typename oc_number<MATH>::type);
    static_assert(BYTES <= OC_SHARED_MAX_80, "more shared memory than the smallest device served has");
};

template <class plan> struct gradient_weights {
    uint4 held[plan::RESIDENT];

    __device__ __forceinline__ void load(const void *packed, uint4 *shared)
    {
        const uint4 *from = static_cast<const uint4 *>(packed) + threadIdx.x;
        OC_UNROLL
        for (int n = 0; n < plan::RESIDENT; n++) held[n] = from[n * plan::THREADS];
        from += plan::RESIDENT * plan::THREADS;
        for (int n = 0; n < plan::FRAGMENTS; n += plan::THREADS) shared[n + threadIdx.x] = from[n];
    }
    __device__ __forceinline__ void get(const uint4 *shared, int step, uint32_t *a) const
    {
        const uint4 x = step < plan::RESIDENT ? held[step < plan::RESIDENT ? step : 0]
                                              : shared[(step - plan::RESIDENT) * plan::THREADS + threadIdx.x];
        a[0] = x.x;
        a[1] = x.y;
        a[2] = x.z;
        a[3] = x.w;
    }
};

template <int MATH, int KT, int NT>
static __global__ void __launch_bounds__(32 * KT, 1) lstm_scan_gradient(oc_lstm_scan_gradient s)
{
    typedef gradient_plan<MATH, KT, NT> plan;
    typedef oc_number<MATH> number;
    typedef typename number::type type;
    OC_SHARED_DYNAMIC(uint4, fragments);
    type *gradients = reinterpret_cast<type *>(fragments + plan::FRAGMENTS); /* [ROWS][ROW] */
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4, first = blockIdx.x * plan::ROWS;
    /* Register e of a fragment: unit g or g + 8, column 2i or 2i + 1. */
    const int unit = threadIdx.x / 32 * 16 + g, row = first + 2 * i;
    gradient_weights<plan> weights;
    float dc[NT][4], cell[NT][4];
    weights.load(s.w_hh, fragments);
    OC_UNROLL
    for (int n = 0; n < 4 * NT; n++) {
        const int u = unit + n % 4 / 2 * 8, r = row + n / 4 * 8 + n % 2;
        cell[n / 4][n % 4] = oc_scan_cell(s, s.steps - 1, r, u);
        dc[n / 4][n % 4] = oc_scan_dc(s, r, u);
    }
    for (int n = threadIdx.x; s.next && n < plan::ROWS * 4 * plan::UNITS; n += plan::THREADS) {
        const int r = n / plan::UNITS / 4, k = n % (4 * plan::UNITS);
        gradients[r * plan::ROW + k] = number::of(oc_scan_next(s, first + r, k % plan::UNITS, k / plan::UNITS));
    }
    __syncthreads();
    for (int64_t t = s.steps - 1; t >= 0; t--) {
        float sum[NT][4] = {};
        oc_scan_kept have[NT][4];
        OC_UNROLL
        for (int n = 0; n < 4 * NT; n++)
            have[n / 4][n % 4] = oc_scan_kept_of(s, t, row + n / 4 * 8 + n % 2, unit + n % 4 / 2 * 8);
        if (t < s.steps - 1 || s.next) {
            OC_UNROLL
            for (int step = 0; step < plan::STEPS; step++) {
                uint32_t a[4];
                weights.get(fragments, step, a);
                OC_UNROLL
                for (int n = 0; n < NT; n++) {
                    const type *column = gradients + (8 * n + g) * plan::ROW;
                    const uint32_t b[2] = {number::b(column, step * number::DEPTH, i, 0),
                                           number::b(column, step * number::DEPTH, i, 1)};
                    number::multiply(sum[n], a, b);
                }
            }
        }
        __syncthreads();
        OC_UNROLL
        for (int n = 0; n < NT; n++) OC_UNROLL
        for (int e = 0; e < 4; e++) {
            const int u = unit + e / 2 * 8, column = 8 * n + 2 * i + e % 2;
            const oc_scan_kept &k = have[n][e];
            const oc_gates d = oc_scan_keep(s, t, first + column, u,
                                            oc_gates_gradient(k.a, cell[n][e], k.before, k.dy + sum[n][e], &dc[n][e]));
            type *to = gradients + column * plan::ROW + u;
            cell[n][e] = k.before;
            to[0] = number::of(d.i);
            to[plan::UNITS] = number::of(d.f);
            to[2 * plan::UNITS] = number::of(d.g);
            to[3 * plan::UNITS] = number::of(d.o);
        }
        __syncthreads();
    }
    OC_UNROLL
    for (int n = 0; n < 4 * NT; n++)
        oc_scan_dc_keep(s, row + n / 4 * 8 + n % 2, unit + n % 4 / 2 * 8, dc[n / 4][n % 4]);
}

/* A row serves H <= 16 KT with 8 NT rows a block. */
#define SCANS(X, MATH) X(MATH, 2, 1) X(MATH, 4, 1) X(MATH, 8, 1) X(MATH, 2, 2) X(MATH, 4, 2) X(MATH, 8, 2)

oc_status oc_cuda_lstm_scan_gradient_run(oc_backend *b, const oc_lstm_scan_gradient *s)
{
    const int units = oc_scan_units(s->hidden), tiles = oc_scan_rows(b, s->rows, 8, 16) / 8;
    if (b->info.math == OC_MATH_F32) return oc_cuda_lstm_scan_gradient_f32(b, s);
    const unsigned blocks = (unsigned)((s->rows + 8 * tiles - 1) / (8 * tiles));
#define RUN(MATH, KT, NT)                                                                                              \
    if (b->info.math == MATH && units == 16 * KT && tiles == NT) {                                                     \
        typedef gradient_plan<MATH, KT, NT> plan;                                                                      \
        OC_LAUNCH(b, (lstm_scan_gradient<MATH, KT, NT>), blocks, plan::THREADS, plan::BYTES, *s);                      \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN, OC_MATH_BF16)
    SCANS(RUN, OC_MATH_TF32)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "lstm_backward: the persistent kernels hold %d units, not %d", OC_SCAN_UNITS_MAX,
                   s->hidden);
}
