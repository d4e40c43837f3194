/* lstm_scan_f32.cu - all steps of an LSTM layer in one launch in f32, forward and reverse, for H <= 128:
 * multiply-adders alone, every sum the chain of the step by step twin, so the CPU's bits. A block takes R rows of the
 * batch through all steps; blocks never wait for each other. Strategy: a thread for a unit and a gate, whose column of
 * W_hh lies in registers (of 128 units the second half in shared memory); the four gates of a unit are neighbours in a
 * warp. Forward: h of R rows is read by all threads alike, R chains a thread; one barrier a step. Backward: a sum runs
 * over 4H in order, so the quarters, one a gate, take rows one after the other: while gate 1 adds to rows 0 and 1, gate
 * 0 begins rows 2 and 3, and a warp's shuffle hands the sums on. 11 / 8 or 5 / 2 of the work, two barriers a step.
 * Bound: chains of H (4H) dependent multiply-adds a step, or the bytes of gates. Not run on a GPU. */
#include "kernels/cuda/lstm_scan.cuh"

template <int UNITS> struct f32_plan {
    static constexpr int THREADS = 4 * UNITS;
    static constexpr int HELD = UNITS > 64 ? 60 : UNITS; /* k in registers; 512 threads have 128 registers each */
    static constexpr size_t SHARED = (size_t)(UNITS - HELD) * THREADS; /* floats */
};

template <int UNITS> struct f32_weights {
    typedef f32_plan<UNITS> plan;
    float held[plan::HELD];

    __device__ __forceinline__ void load(const void *packed, float *shared)
    {
        const float *from = static_cast<const float *>(packed) + threadIdx.x;
        OC_UNROLL
        for (int k = 0; k < plan::HELD; k++) held[k] = from[k * plan::THREADS];
        for (int k = plan::HELD; k < UNITS; k++)
            shared[(k - plan::HELD) * plan::THREADS + threadIdx.x] = from[k * plan::THREADS];
    }
    /* sum[r] += row r . column, k ascending; rows lie `next` apart. */
    template <int ROWS>
    __device__ __forceinline__ void add(const float *rows, int next, const float *shared, float *sum) const
    {
        OC_UNROLL
        for (int k = 0; k < UNITS; k += 4) {
            float w[4];
            OC_UNROLL
            for (int n = 0; n < 4; n++)
                w[n] = k < plan::HELD ? held[k < plan::HELD ? k + n : 0]
                                      : shared[(k + n - plan::HELD) * plan::THREADS + threadIdx.x];
            OC_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const float4 x = *reinterpret_cast<const float4 *>(rows + r * next + k);
                sum[r] = fmaf(x.x, w[0], sum[r]);
                sum[r] = fmaf(x.y, w[1], sum[r]);
                sum[r] = fmaf(x.z, w[2], sum[r]);
                sum[r] = fmaf(x.w, w[3], sum[r]);
            }
        }
    }
};

/* ---------------------------------------------------------------- forward */
template <int UNITS, int R> static constexpr size_t f32_bytes()
{
    return (f32_plan<UNITS>::SHARED + (size_t)2 * R * UNITS + (size_t)R * 4 * UNITS) * sizeof(float);
}

template <int UNITS, int R> static __global__ void __launch_bounds__(4 * UNITS, 1) lstm_scan_f32(oc_lstm_scan s)
{
    typedef f32_plan<UNITS> plan;
    static constexpr int MINE = (R + 3) / 4;                 /* rows whose cells a thread keeps: gate, gate + 4 */
    static constexpr bool AHEAD = UNITS <= 64;               /* x . W is asked for before the products */
    static constexpr int WIDE = UNITS > 64 && R > 4 ? 4 : R; /* rows at a time: 512 threads have 128 registers each */
    OC_SHARED_DYNAMIC(float, shared);
    float *states = shared + plan::SHARED, *sums = states + 2 * R * UNITS; /* [2][R][UNITS], [R][UNITS][4] */
    const int unit = threadIdx.x / 4, gate = threadIdx.x % 4, first = blockIdx.x * R;
    f32_weights<UNITS> weights;
    float cell[MINE];
    weights.load(s.w_hh, shared);
    for (int n = threadIdx.x; s.h_first && n < R * UNITS; n += plan::THREADS) {
        const int row = first + n / UNITS, u = n % UNITS;
        states[n] = row < s.rows && u < s.hidden ? s.h_first[(int64_t)row * s.hidden + u] : 0.0f;
    }
    OC_UNROLL
    for (int n = 0; n < MINE; n++) {
        const int row = first + 4 * n + gate;
        const bool there = s.c_first && 4 * n + gate < R && row < s.rows && unit < s.hidden;
        cell[n] = there ? s.c_first[(int64_t)row * s.hidden + unit] : 0.0f;
    }
    __syncthreads();
    for (int64_t t = 0; t < s.steps; t++) {
        const float *from = states + t % 2 * R * UNITS;
        float *to = states + (t + 1) % 2 * R * UNITS, x[MINE][OC_GATES];
        OC_UNROLL
        for (int n = 0; n < MINE && AHEAD; n++)
            oc_scan_inputs(s, t, 4 * n + gate < R ? first + 4 * n + gate : s.rows, unit, x[n]);
        for (int r = 0; r < R; r += WIDE) {
            float sum[WIDE] = {};
            if (t > 0 || s.h_first) weights.template add<WIDE>(from + r * UNITS, UNITS, shared, sum);
            OC_UNROLL
            for (int n = 0; n < WIDE; n++) sums[(r + n) * plan::THREADS + threadIdx.x] = sum[n];
        }
        __syncwarp();
        OC_UNROLL
        for (int n = 0; n < MINE; n++) {
            const int r = 4 * n + gate;
            if (r >= R) continue;
            if (!AHEAD) oc_scan_inputs(s, t, first + r, unit, x[n]);
            const float4 h = *reinterpret_cast<const float4 *>(sums + (r * UNITS + unit) * 4);
            const float mine[OC_GATES] = {x[n][0] + h.x, x[n][1] + h.y, x[n][2] + h.z, x[n][3] + h.w};
            to[r * UNITS + unit] = oc_scan_unit(s, t, first + r, unit, mine, &cell[n]);
        }
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- backward */
template <int UNITS, int R> struct f32_gradient_plan {
    static constexpr int EACH = R == 8 ? 2 : 1, GROUPS = R / EACH; /* rows that a quarter takes at a time */
    static constexpr int QUARTER = UNITS + 8; /* the four quarters of a warp read different banks */
    static constexpr size_t BYTES =
        (f32_plan<UNITS>::SHARED + (size_t)R * 4 * QUARTER + (size_t)R * UNITS) * sizeof(float);
};

template <int UNITS, int R>
static __global__ void __launch_bounds__(4 * UNITS, 1) lstm_scan_gradient_f32(oc_lstm_scan_gradient s)
{
    typedef f32_gradient_plan<UNITS, R> plan;
    static constexpr int MINE = (R + 3) / 4, ROW = 4 * plan::QUARTER;
    OC_SHARED_DYNAMIC(float, shared);
    float *gradients = shared + f32_plan<UNITS>::SHARED, *sums = gradients + R * ROW; /* [R][4][QUARTER], [R][UNITS] */
    const int unit = threadIdx.x / 4, gate = threadIdx.x % 4, first = blockIdx.x * R;
    f32_weights<UNITS> weights;
    float cell[MINE], dc[MINE];
    weights.load(s.w_hh, shared);
    OC_UNROLL
    for (int n = 0; n < MINE; n++) {
        const int row = 4 * n + gate < R ? first + 4 * n + gate : s.rows;
        cell[n] = oc_scan_cell(s, s.steps - 1, row, unit);
        dc[n] = oc_scan_dc(s, row, unit);
    }
    for (int n = threadIdx.x; s.next && n < R * 4 * UNITS; n += 4 * UNITS)
        gradients[n / UNITS / 4 * ROW + n / UNITS % 4 * plan::QUARTER + n % UNITS] =
            oc_scan_next(s, first + n / UNITS / 4, n % UNITS, n / UNITS % 4);
    __syncthreads();
    for (int64_t t = s.steps - 1; t >= 0; t--) {
        oc_scan_kept have[MINE];
        float sum[plan::EACH] = {};
        const bool after = t < s.steps - 1 || s.next;
        OC_UNROLL
        for (int n = 0; n < MINE; n++)
            have[n] = oc_scan_kept_of(s, t, 4 * n + gate < R ? first + 4 * n + gate : s.rows, unit);
        for (int phase = 0; after && phase < plan::GROUPS + 3; phase++) {
            const int group = phase - gate;
            OC_UNROLL
            for (int e = 0; e < plan::EACH; e++) {
                const float before = __shfl_sync(OC_WHOLE_WARP, sum[e], (threadIdx.x - 1) % 32);
                sum[e] = gate == 0 ? 0.0f : before;
            }
            if (group < 0 || group >= plan::GROUPS) continue;
            const float *rows = gradients + group * plan::EACH * ROW + gate * plan::QUARTER;
            weights.template add<plan::EACH>(rows, ROW, shared, sum);
            for (int e = 0; gate == 3 && e < plan::EACH; e++) sums[(group * plan::EACH + e) * UNITS + unit] = sum[e];
        }
        __syncthreads();
        OC_UNROLL
        for (int n = 0; n < MINE; n++) {
            const int r = 4 * n + gate;
            if (r >= R) continue;
            const float dh = after ? have[n].dy + sums[r * UNITS + unit] : have[n].dy;
            const oc_gates d =
                oc_scan_keep(s, t, first + r, unit, oc_gates_gradient(have[n].a, cell[n], have[n].before, dh, &dc[n]));
            float *to = gradients + r * ROW + unit;
            cell[n] = have[n].before;
            to[0] = d.i;
            to[plan::QUARTER] = d.f;
            to[2 * plan::QUARTER] = d.g;
            to[3 * plan::QUARTER] = d.o;
        }
        __syncthreads();
    }
    OC_UNROLL
    for (int n = 0; n < MINE; n++) oc_scan_dc_keep(s, 4 * n + gate < R ? first + 4 * n + gate : s.rows, unit, dc[n]);
}

/* ---------------------------------------------------------------- choosing */
/* A row serves H <= UNITS with R rows a block. */
#define SCANS(X) X(32, 2) X(64, 2) X(128, 2) X(32, 8) X(64, 8) X(128, 8)

oc_status oc_cuda_lstm_scan_f32(oc_backend *b, const oc_lstm_scan *s)
{
    const int units = oc_scan_units(s->hidden), rows = oc_scan_rows(b, s->rows, 2, 8);
    const unsigned blocks = (unsigned)((s->rows + rows - 1) / rows);
#define RUN(UNITS, R)                                                                                                  \
    if (units == UNITS && rows == R) {                                                                                 \
        static_assert(f32_bytes<UNITS, R>() <= OC_SHARED_MAX_80, "more than the smallest device served has");          \
        OC_LAUNCH(b, (lstm_scan_f32<UNITS, R>), blocks, (4 * UNITS), (f32_bytes<UNITS, R>()), *s);                     \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "lstm_forward: the persistent kernels hold %d units, not %d", OC_SCAN_UNITS_MAX,
                   s->hidden);
}

oc_status oc_cuda_lstm_scan_gradient_f32(oc_backend *b, const oc_lstm_scan_gradient *s)
{
    const int units = oc_scan_units(s->hidden), rows = oc_scan_rows(b, s->rows, 2, 8);
    const unsigned blocks = (unsigned)((s->rows + rows - 1) / rows);
#define RUN(UNITS, R)                                                                                                  \
    if (units == UNITS && rows == R) {                                                                                 \
        typedef f32_gradient_plan<UNITS, R> plan;                                                                      \
        static_assert(plan::BYTES <= OC_SHARED_MAX_80, "more than the smallest device served has");                    \
        OC_LAUNCH(b, (lstm_scan_gradient_f32<UNITS, R>), blocks, (4 * UNITS), plan::BYTES, *s);                        \
        return OC_OK;                                                                                                  \
    }
    SCANS(RUN)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "lstm_backward: the persistent kernels hold %d units, not %d", OC_SCAN_UNITS_MAX,
                   s->hidden);
}
