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
template <int MATH, int KT, int NT, bool INSIDE> struct scan_plan {
    typedef typename oc_number<MATH>::type type;
    static constexpr int UNITS = 16 * KT, WARPS = 2 * KT, THREADS = 32 * WARPS;
    static constexpr int STEPS = UNITS / oc_number<MATH>::DEPTH;
    /* k-steps in registers, 8 registers each; the rest is shared. 512 threads have 128 registers: so many that nvcc
     * spills none */
    static constexpr int HELD_MAX = KT < 8 || (NT == 1 && !INSIDE) ? 8 : INSIDE ? 4 : 3;
    static constexpr int RESIDENT = STEPS > HELD_MAX ? HELD_MAX : STEPS;
    static constexpr int WIDE = KT == 8 ? 1 : NT; /* fragments of rows at a time: 512 threads have 128 registers each */
    static constexpr int ROW = UNITS + oc_number<MATH>::PAD, ROWS = 8 * NT;
    static constexpr int FRAGMENTS = (STEPS - RESIDENT) * 2 * THREADS; /* uint4 in shared memory */
    static constexpr int TILE_ROWS = (ROWS + WARPS - 1) / WARPS, CHUNKS = OC_FUSED_INPUTS_MAX / 32; /* of x, a lane */
    static constexpr size_t TILES = (size_t)FRAGMENTS * sizeof(uint4) + (size_t)2 * ROWS * ROW * sizeof(type);
    static_assert(TILES <= OC_SHARED_MAX_80, "more shared memory than the smallest device served has");

    static __host__ __device__ constexpr int tile_row(int input_steps)
    {
        return input_steps * oc_number<MATH>::DEPTH + oc_number<MATH>::PAD;
    }
    static constexpr size_t bytes(int input_steps)
    {
        return TILES + (INSIDE ? (size_t)input_steps * 2 * THREADS * sizeof(uint4) +
                                     (size_t)2 * ROWS * tile_row(input_steps) * sizeof(type)
                               : 0);
    }
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

/* Rows of x on their way through registers into shared memory, asked for a step before they are needed. */
template <int MATH, class plan> struct scan_tile {
    float ahead[plan::TILE_ROWS][plan::CHUNKS];

    __device__ __forceinline__ void fetch(const oc_lstm_scan &s, int64_t t, int first)
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        const float *x = s.x + t * s.rows * s.inputs;
        OC_UNROLL
        for (int j = 0; j < plan::TILE_ROWS; j++) OC_UNROLL
        for (int c = 0; c < plan::CHUNKS; c++) {
            const int r = warp + j * plan::WARPS, row = first + r, k = lane + 32 * c;
            const bool there = r < plan::ROWS && row < s.rows && k < s.inputs && t < s.steps;
            ahead[j][c] = there ? x[(unsigned)row * (unsigned)s.inputs + (unsigned)k] : 0.0f;
        }
    }
    __device__ __forceinline__ void put(typename plan::type *tile, int width) const
    {
        const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
        OC_UNROLL
        for (int j = 0; j < plan::TILE_ROWS; j++) OC_UNROLL
        for (int c = 0; c < plan::CHUNKS; c++) {
            const int r = warp + j * plan::WARPS, k = lane + 32 * c;
            if (r < plan::ROWS && k < width) tile[r * width + k] = oc_number<MATH>::of(ahead[j][c]);
        }
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

/* sum[m][n] = the warp's W_ih times x of 8 WIDE rows. */
template <int MATH, class plan>
OC_DEVICE void scan_input_products(const uint4 *fragments, int steps, const typename plan::type *from, int width,
                                   float (*sum)[plan::WIDE][4])
{
    typedef oc_number<MATH> number;
    const int g = threadIdx.x % 32 / 4, i = threadIdx.x % 4;
    for (int step = 0; step < steps; step++) {
        const uint4 w[2] = {fragments[2 * step * plan::THREADS + threadIdx.x],
                            fragments[(2 * step + 1) * plan::THREADS + threadIdx.x]};
        OC_UNROLL
        for (int n = 0; n < plan::WIDE; n++) {
            const typename plan::type *column = from + (8 * n + g) * width;
            const uint32_t b[2] = {number::b(column, step * number::DEPTH, i, 0),
                                   number::b(column, step * number::DEPTH, i, 1)};
            OC_UNROLL
            for (int m = 0; m < 2; m++) {
                const uint32_t a[4] = {w[m].x, w[m].y, w[m].z, w[m].w};
                number::multiply(sum[m][n], a, b);
            }
        }
    }
}

template <int MATH, int KT, int NT, bool INSIDE>
static __global__ void __launch_bounds__(32 * 2 * KT, 1) lstm_scan(oc_lstm_scan s)
{
    typedef scan_plan<MATH, KT, NT, INSIDE> plan;
    typedef oc_number<MATH> number;
    typedef typename number::type type;
    OC_SHARED_DYNAMIC(uint4, fragments);
    const int steps_in = INSIDE ? (s.inputs + number::DEPTH - 1) / number::DEPTH : 0, width = plan::tile_row(steps_in);
    uint4 *inputs = fragments + plan::FRAGMENTS;                                    /* [steps_in][2][THREADS] */
    type *states = reinterpret_cast<type *>(inputs + 2 * steps_in * plan::THREADS); /* [2][ROWS][ROW] */
    type *tiles = states + 2 * plan::ROWS * plan::ROW;                              /* [2][ROWS][width] */
    const int lane = threadIdx.x % 32, g = lane / 4, i = lane % 4, unit = threadIdx.x / 32 * 8 + g;
    const int first = blockIdx.x * plan::ROWS;
    scan_weights<plan> weights;
    scan_tile<MATH, plan> tile;
    float cell[2 * NT], bias[OC_GATES];
    weights.load(s.w_hh, fragments);
    scan_start<MATH, plan>(s, states, first, unit, cell);
    if (INSIDE) {
        for (int n = threadIdx.x; n < 2 * steps_in * plan::THREADS; n += plan::THREADS)
            inputs[n] = static_cast<const uint4 *>(s.w_ih)[n];
        OC_UNROLL
        for (int n = 0; n < OC_GATES; n++) bias[n] = unit < s.hidden ? s.bias[n * s.hidden + unit] : 0.0f;
        tile.fetch(s, 0, first);
        tile.put(tiles, width);
    }
    __syncthreads();
    for (int64_t t = 0; t < s.steps; t++) {
        const type *from = states + t % 2 * plan::ROWS * plan::ROW;
        type *to = states + (t + 1) % 2 * plan::ROWS * plan::ROW;
        if (INSIDE) tile.fetch(s, t + 1, first);
        OC_UNROLL
        for (int part = 0; part < NT; part += plan::WIDE) {
            float x[2 * plan::WIDE][OC_GATES], in[2][plan::WIDE][4] = {}, sum[2][plan::WIDE][4] = {};
            OC_UNROLL
            for (int n = 0; !INSIDE && n < 2 * plan::WIDE; n++)
                oc_scan_inputs(s, t, first + 8 * part + n / 2 * 8 + 2 * i + n % 2, unit, x[n]);
            if (INSIDE)
                scan_input_products<MATH, plan>(inputs, steps_in, tiles + (t % 2 * plan::ROWS + 8 * part) * width,
                                                width, in);
            if (t > 0 || s.h_first) scan_products<MATH, plan>(weights, fragments, from + 8 * part * plan::ROW, sum);
            OC_UNROLL
            for (int n = 0; n < 2 * plan::WIDE; n++) {
                /* register e of a fragment: column 2i + e of gate 2m; 2 + e: of gate 2m + 1 */
                const int e = n % 2, w = n / 2, column = 8 * (part + w) + 2 * i + e;
                float mine[OC_GATES];
                OC_UNROLL
                for (int k = 0; k < OC_GATES; k++) {
                    const int at = k % 2 * 2 + e;
                    mine[k] = (INSIDE ? in[k / 2][w][at] + bias[k] : x[n][k]) + sum[k / 2][w][at];
                }
                to[column * plan::ROW + unit] =
                    number::of(oc_scan_unit(s, t, first + column, unit, mine, &cell[2 * part + n]));
            }
        }
        if (INSIDE) tile.put(tiles + (t + 1) % 2 * plan::ROWS * width, width);
        __syncthreads();
    }
}

/* ---------------------------------------------------------------- choosing
 * A row serves H <= 16 KT with 8 NT rows a block, x . W inside or not. */
#define SCANS(X, MATH)                                                                                                 \
    X(MATH, 2, 1, false)                                                                                               \
    X(MATH, 4, 1, false)                                                                                               \
    X(MATH, 8, 1, false)                                                                                               \
    X(MATH, 2, 4, false)                                                                                               \
    X(MATH, 4, 4, false)                                                                                               \
    X(MATH, 2, 1, true)                                                                                                \
    X(MATH, 4, 1, true)                                                                                                \
    X(MATH, 2, 2, true)                                                                                                \
    X(MATH, 4, 2, true)
/* At H = 128 tf32 leaves no room for more rows, nor for W_ih. */
#define SCANS_BF16(X)                                                                                                  \
    SCANS(X, OC_MATH_BF16)                                                                                             \
    X(OC_MATH_BF16, 8, 2, false)                                                                                       \
    X(OC_MATH_BF16, 8, 1, true)                                                                                        \
    X(OC_MATH_BF16, 8, 2, true)

/* Tiles of 8 rows a block where the batch is large. */
static int tiles_many(oc_math math, int units, bool inside)
{
    return units == 128 && math == OC_MATH_TF32 ? 1 : inside || units == 128 ? 2 : 4;
}

bool oc_cuda_lstm_fused_serves(oc_backend *b, int hidden, int inputs)
{
    const int units = oc_scan_units(hidden), steps = oc_scan_input_steps(b->info.math, inputs);
    if (units == 0 || inputs > OC_FUSED_INPUTS_MAX) return false;
#define BYTES(MATH, KT, NT, INSIDE)                                                                                    \
    if (INSIDE && b->info.math == MATH && units == 16 * KT && NT == 2)                                                 \
        return scan_plan<MATH, KT, NT, INSIDE>::bytes(steps) <= oc_cuda_of(b)->shared_max;
    SCANS_BF16(BYTES)
    SCANS(BYTES, OC_MATH_TF32)
#undef BYTES
    return false;
}

oc_status oc_cuda_lstm_scan_run(oc_backend *b, const oc_lstm_scan *s)
{
    const bool inside = s->x != NULL;
    const int units = oc_scan_units(s->hidden), steps = inside ? oc_scan_input_steps(b->info.math, s->inputs) : 0;
    const int tiles = oc_scan_rows(b, s->rows, 8, 8 * tiles_many(b->info.math, units, inside)) / 8;
    if (b->info.math == OC_MATH_F32) return oc_cuda_lstm_scan_f32(b, s);
    const unsigned blocks = (unsigned)((s->rows + 8 * tiles - 1) / (8 * tiles));
#define RUN(MATH, KT, NT, INSIDE)                                                                                      \
    if (b->info.math == MATH && units == 16 * KT && tiles == NT && inside == INSIDE) {                                 \
        typedef scan_plan<MATH, KT, NT, INSIDE> plan;                                                                  \
        OC_LAUNCH(b, (lstm_scan<MATH, KT, NT, INSIDE>), blocks, plan::THREADS, plan::bytes(steps), *s);                \
        return OC_OK;                                                                                                  \
    }
    SCANS_BF16(RUN)
    SCANS(RUN, OC_MATH_TF32)
#undef RUN
    return OC_FAIL(OC_ELIMIT, "lstm_forward: the persistent kernels hold %d units, not %d", OC_SCAN_UNITS_MAX,
                   s->hidden);
}
