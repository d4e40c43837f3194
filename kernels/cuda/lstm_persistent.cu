/* lstm_persistent.cu - all steps of an LSTM layer in one launch, for H <= 128, by matrix fragments of bf16 or tf32 with
 * f32 sums, gates and cells. A block takes 8 NT rows of the batch through all T steps; blocks never wait for each
 * other. Strategy: gates are the 16 rows of a fragment, windows its 8 columns, so a small batch still fills the device.
 * W_hh lies in registers for all steps (bf16, H = 128: 64 registers a thread; of tf32 at H = 128 half lies in shared
 * memory). Rows of the two fragments of a warp are i, f and g, o of the same 8 units, so the four gates of a unit meet
 * in one thread, which keeps its cell. The state h goes through shared memory, twice buffered: one barrier a step.
 * Backward: units are the rows, K = 4H; the gradients of the gates go through shared memory, two barriers a step; dc
 * stays in registers. Bound: latency of a step (two or four dependent products per gate, a barrier, the functions), or,
 * for a large batch, the bytes of gates. Not run on a GPU. */
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/lstm_scan.cuh"

/* Numbers of a kernel for H <= 16 KT, computed once. */
template <int MATH, int KT> struct forward_plan {
    static constexpr int UNITS = 16 * KT, WARPS = 2 * KT, THREADS = 32 * WARPS;
    static constexpr int STEPS = UNITS / oc_number<MATH>::DEPTH;
    static constexpr int RESIDENT =
        STEPS > 8 ? 8 : STEPS; /* k-steps in registers, 8 registers each; the rest is shared */
    static constexpr int ROW = UNITS + oc_number<MATH>::PAD;
    static constexpr size_t FRAGMENTS = (size_t)(STEPS - RESIDENT) * 2 * WARPS * 32 * 16;
};
template <int MATH, int KT, int NT> static constexpr size_t forward_bytes()
{
    typedef forward_plan<MATH, KT> plan;
    return plan::FRAGMENTS + (size_t)2 * 8 * NT * plan::ROW * sizeof(typename oc_number<MATH>::type);
}

/* The two fragments of the warp's 8 units: rows 0 … 7 of them gate i or g, rows 8 … 15 gate f or o. */
template <int MATH, int KT> struct forward_weights {
    typedef forward_plan<MATH, KT> plan;
    uint32_t held[2][plan::RESIDENT][4];

    __device__ __forceinline__ void load(const oc_lstm_scan &s, uint32_t *shared)
    {
        const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 8;
        OC_UNROLL
        for (int m = 0; m < 2; m++) {
            const auto at = [&](int row, int k) {
                const int gate = 2 * m + row / 8, unit = first + row % 8;
                return unit < s.hidden && k < s.hidden ? s.w_hh[((int64_t)gate * s.hidden + unit) * s.hidden + k]
                                                       : 0.0f;
            };
            OC_UNROLL
            for (int step = 0; step < plan::STEPS; step++) {
                OC_UNROLL
                for (int n = 0; n < 4; n++) {
                    const uint32_t x = oc_number<MATH>::a(at, step * oc_number<MATH>::DEPTH, lane / 4, lane % 4, n);
                    if (step < plan::RESIDENT)
                        held[m][step < plan::RESIDENT ? step : 0][n] = x;
                    else
                        place(shared, m, step)[n] = x;
                }
                oc_in_order(); /* all loads at once would need more registers than there are */
            }
        }
    }
    static __device__ __forceinline__ uint32_t *place(uint32_t *shared, int m, int step)
    {
        return shared + (((step - plan::RESIDENT) * 2 + m) * plan::THREADS + threadIdx.x) * 4;
    }
    __device__ __forceinline__ void get(uint32_t *shared, int m, int step, uint32_t *a) const
    {
        OC_UNROLL
        for (int n = 0; n < 4; n++)
            a[n] = step < plan::RESIDENT ? held[m][step < plan::RESIDENT ? step : 0][n] : place(shared, m, step)[n];
    }
};

/* Gates, cell and state of one unit of one row at step t; sum: h . W of its gates. */
OC_DEVICE float forward_unit(const oc_lstm_scan &s, int64_t t, int row, int unit, const float *sum, float *cell)
{
    if (row >= s.rows || unit >= s.hidden) return 0.0f;
    const int64_t at = (t * s.rows + row) * s.hidden + unit, H = s.hidden;
    float *gates = s.gates + (t * s.rows + row) * 4 * H + unit;
    const oc_gates a = oc_gates_of(gates[0] + sum[0], gates[H] + sum[1], gates[2 * H] + sum[2], gates[3 * H] + sum[3]);
    *cell = fmaf(a.f, *cell, a.i * a.g);
    const float h = a.o * oc_device_tanh(*cell);
    s.out[at] = h;
    if (s.c_last && t == s.steps - 1) s.c_last[(int64_t)row * H + unit] = *cell;
    if (s.dropped) s.dropped[at] = h * oc_device_dropout_factor(s.dropout, row, t, H, unit);
    if (s.keep) {
        s.cells[at] = *cell;
        gates[0] = a.i;
        gates[H] = a.f;
        gates[2 * H] = a.g;
        gates[3 * H] = a.o;
    }
    return h;
}

template <int MATH, int KT, int NT>
OC_DEVICE void first_state(const oc_lstm_scan &s, typename oc_number<MATH>::type *states, int first)
{
    typedef forward_plan<MATH, KT> plan;
    for (int n = threadIdx.x; s.h_first && n < 8 * NT * plan::UNITS; n += plan::THREADS) {
        const int row = first + n / plan::UNITS, unit = n % plan::UNITS;
        const bool there = row < s.rows && unit < s.hidden;
        states[n / plan::UNITS * plan::ROW + unit] =
            oc_number<MATH>::of(there ? s.h_first[(int64_t)row * s.hidden + unit] : 0.0f);
    }
}

template <int MATH, int KT, int NT>
static __global__ void __launch_bounds__(forward_plan<MATH, KT>::THREADS, 1) lstm_scan(oc_lstm_scan s)
{
    typedef forward_plan<MATH, KT> plan;
    typedef typename oc_number<MATH>::type type;
    OC_SHARED_DYNAMIC(unsigned char, shared);
    uint32_t *fragments = reinterpret_cast<uint32_t *>(shared);
    type *states = reinterpret_cast<type *>(shared + plan::FRAGMENTS); /* [2][8 NT][ROW] */
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4, unit = threadIdx.x / 32 * 8 + g;
    const int first = blockIdx.x * 8 * NT;
    forward_weights<MATH, KT> weights;
    float cell[NT][2] = {};
    weights.load(s, fragments);
    first_state<MATH, KT, NT>(s, states, first);
    OC_UNROLL
    for (int n = 0; n < 2 * NT; n++) {
        const int row = first + n / 2 * 8 + 2 * i + n % 2;
        if (s.c_first && row < s.rows && unit < s.hidden)
            cell[n / 2][n % 2] = s.c_first[(int64_t)row * s.hidden + unit];
    }
    __syncthreads();
    for (int64_t t = 0; t < s.steps; t++) {
        const type *from = states + t % 2 * 8 * NT * plan::ROW;
        type *to = states + (t + 1) % 2 * 8 * NT * plan::ROW;
        float sum[2][NT][4] = {};
        if (t > 0 || s.h_first) {
            OC_UNROLL
            for (int step = 0; step < plan::STEPS; step++) {
                uint32_t a[2][4];
                OC_UNROLL
                for (int m = 0; m < 2; m++) weights.get(fragments, m, step, a[m]);
                OC_UNROLL
                for (int n = 0; n < NT; n++) {
                    const type *column = from + (8 * n + g) * plan::ROW;
                    const uint32_t b[2] = {oc_number<MATH>::b(column, step * oc_number<MATH>::DEPTH, i, 0),
                                           oc_number<MATH>::b(column, step * oc_number<MATH>::DEPTH, i, 1)};
                    oc_number<MATH>::multiply(sum[0][n], a[0], b);
                    oc_number<MATH>::multiply(sum[1][n], a[1], b);
                }
            }
        }
        OC_UNROLL
        for (int n = 0; n < NT; n++) OC_UNROLL
        for (int e = 0; e < 2; e++) {
            const float mine[4] = {sum[0][n][e], sum[0][n][2 + e], sum[1][n][e], sum[1][n][2 + e]};
            const int column = 8 * n + 2 * i + e;
            to[column * plan::ROW + unit] =
                oc_number<MATH>::of(forward_unit(s, t, first + column, unit, mine, &cell[n][e]));
        }
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- backward */
template <int MATH, int KT> struct backward_plan {
    static constexpr int UNITS = 16 * KT, WARPS = KT, THREADS = 32 * WARPS;
    static constexpr int STEPS = 4 * UNITS / oc_number<MATH>::DEPTH;
    static constexpr int RESIDENT = STEPS > 24 ? 24 : STEPS; /* 4 registers each; of 32 the compiler spilt some */
    static constexpr int ROW = 4 * UNITS + oc_number<MATH>::PAD;
    static constexpr size_t FRAGMENTS = (size_t)(STEPS - RESIDENT) * THREADS * 16;
};
template <int MATH, int KT, int NT> static constexpr size_t backward_bytes()
{
    typedef backward_plan<MATH, KT> plan;
    return plan::FRAGMENTS + (size_t)8 * NT * plan::ROW * sizeof(typename oc_number<MATH>::type);
}

/* The warp's 16 units as rows; k = gate UNITS + unit of the step after. */
template <int MATH, int KT> struct backward_weights {
    typedef backward_plan<MATH, KT> plan;
    uint32_t held[plan::RESIDENT][4];

    __device__ __forceinline__ void load(const oc_lstm_scan_gradient &s, uint32_t *shared)
    {
        const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
        const auto at = [&](int row, int k) {
            const int gate = k / plan::UNITS, of = k % plan::UNITS, unit = first + row;
            return unit < s.hidden && of < s.hidden ? s.w_hh[((int64_t)gate * s.hidden + of) * s.hidden + unit] : 0.0f;
        };
        OC_UNROLL
        for (int step = 0; step < plan::STEPS; step++) {
            OC_UNROLL
            for (int n = 0; n < 4; n++) {
                const uint32_t x = oc_number<MATH>::a(at, step * oc_number<MATH>::DEPTH, lane / 4, lane % 4, n);
                if (step < plan::RESIDENT)
                    held[step < plan::RESIDENT ? step : 0][n] = x;
                else
                    place(shared, step)[n] = x;
            }
            oc_in_order();
        }
    }
    static __device__ __forceinline__ uint32_t *place(uint32_t *shared, int step)
    {
        return shared + ((step - plan::RESIDENT) * plan::THREADS + threadIdx.x) * 4;
    }
    __device__ __forceinline__ void get(uint32_t *shared, int step, uint32_t *a) const
    {
        OC_UNROLL
        for (int n = 0; n < 4; n++)
            a[n] = step < plan::RESIDENT ? held[step < plan::RESIDENT ? step : 0][n] : place(shared, step)[n];
    }
};

OC_DEVICE oc_gates backward_unit(const oc_lstm_scan_gradient &s, int64_t t, int row, int unit, float sum, float *dc)
{
    if (row >= s.rows || unit >= s.hidden) return {0.0f, 0.0f, 0.0f, 0.0f};
    const int64_t H = s.hidden, at = (t * s.rows + row) * H + unit;
    float *gates = s.gates + (t * s.rows + row) * 4 * H + unit;
    const oc_gates a = {gates[0], gates[H], gates[2 * H], gates[3 * H]};
    const float before = t > 0 ? s.cells[at - s.rows * H] : 0.0f;
    const oc_gates d = oc_gates_gradient(a, s.cells[at], before, s.dy[at] + sum, dc);
    gates[0] = d.i;
    gates[H] = d.f;
    gates[2 * H] = d.g;
    gates[3 * H] = d.o;
    return d;
}

template <int MATH, int KT, int NT>
static __global__ void __launch_bounds__(backward_plan<MATH, KT>::THREADS, 1)
    lstm_scan_gradient(oc_lstm_scan_gradient s)
{
    typedef backward_plan<MATH, KT> plan;
    typedef typename oc_number<MATH>::type type;
    OC_SHARED_DYNAMIC(unsigned char, shared);
    uint32_t *fragments = reinterpret_cast<uint32_t *>(shared);
    type *gradients = reinterpret_cast<type *>(shared + plan::FRAGMENTS); /* [8 NT][ROW] */
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4, first = blockIdx.x * 8 * NT;
    backward_weights<MATH, KT> weights;
    float dc[NT][4] = {};
    weights.load(s, fragments);
    for (int64_t t = s.steps - 1; t >= 0; t--) {
        float sum[NT][4] = {};
        if (t < s.steps - 1) {
            OC_UNROLL
            for (int step = 0; step < plan::STEPS; step++) {
                uint32_t a[4];
                weights.get(fragments, step, a);
                OC_UNROLL
                for (int n = 0; n < NT; n++) {
                    const type *column = gradients + (8 * n + g) * plan::ROW;
                    const uint32_t b[2] = {oc_number<MATH>::b(column, step * oc_number<MATH>::DEPTH, i, 0),
                                           oc_number<MATH>::b(column, step * oc_number<MATH>::DEPTH, i, 1)};
                    oc_number<MATH>::multiply(sum[n], a, b);
                }
            }
        }
        __syncthreads();
        OC_UNROLL
        for (int n = 0; n < NT; n++) OC_UNROLL
        for (int e = 0; e < 4; e++) { /* register e: unit g or g + 8, column 2i or 2i + 1 */
            const int unit = threadIdx.x / 32 * 16 + g + e / 2 * 8, column = 8 * n + 2 * i + e % 2;
            const oc_gates d = backward_unit(s, t, first + column, unit, sum[n][e], &dc[n][e]);
            type *to = gradients + column * plan::ROW + unit;
            to[0] = oc_number<MATH>::of(d.i);
            to[plan::UNITS] = oc_number<MATH>::of(d.f);
            to[2 * plan::UNITS] = oc_number<MATH>::of(d.g);
            to[3 * plan::UNITS] = oc_number<MATH>::of(d.o);
        }
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- choosing */
bool oc_cuda_lstm_scan_serves(oc_backend *b, int hidden, bool backward)
{
    const oc_math math = b->info.math;
    (void)backward;
    return oc_cuda_of(b)->scans && math != OC_MATH_F32 && hidden <= OC_SCAN_HIDDEN_MAX;
}

/* One row of the table serves H <= 16 KT with 8 NT rows a block. */
#define SCANS(X, MATH) X(MATH, 2, 1) X(MATH, 4, 1) X(MATH, 8, 1) X(MATH, 2, 4) X(MATH, 4, 4) X(MATH, 8, 4)

/* Rows a block: 8 while all blocks fit side by side, then 32. */
static int tiles_of(oc_backend *b, int rows)
{
    return rows <= 8 * oc_cuda_of(b)->multiprocessors ? 1 : 4;
}

oc_status oc_cuda_lstm_scan_run(oc_backend *b, const oc_lstm_scan *s)
{
    const int tiles = tiles_of(b, s->rows);
    const unsigned blocks = (unsigned)((s->rows + 8 * tiles - 1) / (8 * tiles));
#define RUN(MATH, KT, NT)                                                                                              \
    if (b->info.math == MATH && s->hidden <= 16 * KT && tiles == NT) {                                                 \
        const size_t bytes = forward_bytes<MATH, KT, NT>();                                                            \
        OC_LAUNCH(b, (lstm_scan<MATH, KT, NT>), blocks, (forward_plan<MATH, KT>::THREADS), bytes, *s);                 \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN, OC_MATH_BF16)
    SCANS(RUN, OC_MATH_TF32)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "no persistent LSTM kernel for %d units", s->hidden);
}

oc_status oc_cuda_lstm_scan_gradient_run(oc_backend *b, const oc_lstm_scan_gradient *s)
{
    const int tiles = tiles_of(b, s->rows);
    const unsigned blocks = (unsigned)((s->rows + 8 * tiles - 1) / (8 * tiles));
#define RUN(MATH, KT, NT)                                                                                              \
    if (b->info.math == MATH && s->hidden <= 16 * KT && tiles == NT) {                                                 \
        const size_t bytes = backward_bytes<MATH, KT, NT>();                                                           \
        OC_LAUNCH(b, (lstm_scan_gradient<MATH, KT, NT>), blocks, (backward_plan<MATH, KT>::THREADS), bytes, *s);       \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN, OC_MATH_BF16)
    SCANS(RUN, OC_MATH_TF32)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "no persistent LSTM kernel for %d units", s->hidden);
}
