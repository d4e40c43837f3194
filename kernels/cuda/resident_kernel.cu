/* resident_kernel.cu - the last step of up to four pushed rows by one kernel that stays (kernels/resident.h). G blocks,
 * each on a multiprocessor of its own, hold the LSTM's weights: block i has U = H / G units of every layer, a thread
 * for each gate of a unit and each of its two chains (x . W_ih from the bias, h . W_hh from 0). Of a chain's weights
 * the first K lie in registers, the rest in shared memory. Block 0 polls the doorbell, has the attention and the head
 * besides (in shared memory too where they fit, else from L2), and writes the probabilities. More than one block meet
 * behind the command and behind every layer; there the states go through device memory. No block waits for another
 * otherwise. Order of every sum: that of slide_step, linear_forward and softmax, so their bits. States are read only.
 * Bound: the way over PCIe and back, a chain of max(F, H) and one of H dependent multiply-adds a layer at once, some
 * ten barriers; G > 1: a meeting of all blocks a layer. Not run on a GPU. */
#include <math.h>
#include "kernels/cuda/attend_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"
#include "kernels/cuda/resident_plan.cuh"

static constexpr int THREADS = OC_RESIDENT_THREADS, ROWS = OC_RESIDENT_ROWS;

/* ---------------------------------------------------------------- weights */
OC_DEVICE int chain_length(const oc_resident_args &a, int layer, int half)
{
    return half == 0 && layer == 0 ? a.inputs : a.hidden;
}

template <int LAYER_COUNT> struct weights_of {
    static constexpr int K = oc_resident_held(LAYER_COUNT);
    float held[LAYER_COUNT][K];

    /* Thread: half (0: x . W, 1: h . W), then gate, then unit. Beyond the layer's units: zeros. */
    __device__ __forceinline__ void load(const oc_resident_args &a, float *shared)
    {
        const int columns = 4 * a.units, half = threadIdx.x / columns, column = threadIdx.x % columns;
        const int unit = blockIdx.x * a.units + column % a.units, gate = column / a.units;
        const bool there = half < 2 && unit < a.hidden;
        OC_UNROLL
        for (int l = 0; l < LAYER_COUNT; l++) {
            const int length = chain_length(a, l, half);
            const float *row = (half == 0 ? a.w_ih[l] : a.w_hh[l]) + ((int64_t)gate * a.hidden + unit) * length;
            float *rest = shared + a.in.w[l] + (half == 0 ? 0 : beyond(chain_length(a, l, 0)) * columns) + column;
            OC_UNROLL
            for (int k = 0; k < K; k++) held[l][k] = there && k < length ? row[k] : 0.0f;
            for (int k = K; half < 2 && k < length; k++) rest[(k - K) * columns] = there ? row[k] : 0.0f;
            if (half == 0) shared[a.in.bias + l * columns + column] = there ? a.bias[l][gate * a.hidden + unit] : 0.0f;
        }
    }
    static __device__ __forceinline__ int beyond(int length)
    {
        return length > K ? length - K : 0;
    }
    /* sum[r] += row r . the column, k ascending. */
    template <int N>
    __device__ __forceinline__ void add(int l, const float *x, int row, int length, const float *rest, int columns,
                                        float *sum) const
    {
        OC_UNROLL
        for (int k = 0; k < K; k += 4) {
            if (k >= length) break;
            OC_UNROLL
            for (int r = 0; r < N; r++) {
                const float4 v = *reinterpret_cast<const float4 *>(x + r * row + k);
                sum[r] = fmaf(v.x, held[l][k], sum[r]);
                sum[r] = k + 1 < length ? fmaf(v.y, held[l][k + 1], sum[r]) : sum[r];
                sum[r] = k + 2 < length ? fmaf(v.z, held[l][k + 2], sum[r]) : sum[r];
                sum[r] = k + 3 < length ? fmaf(v.w, held[l][k + 3], sum[r]) : sum[r];
            }
        }
        OC_UNROLL_4
        for (int k = K; k < length; k++) {
            const float w = rest[(k - K) * columns];
            OC_UNROLL
            for (int r = 0; r < N; r++) sum[r] = fmaf(x[r * row + k], w, sum[r]);
        }
    }
    template <int N> __device__ __forceinline__ void sums(const oc_resident_args &a, int l, float *shared) const
    {
        const int columns = 4 * a.units, half = threadIdx.x / columns, column = threadIdx.x % columns;
        const int first = beyond(chain_length(a, l, 0));
        float sum[N];
        if (half > 1) return;
        OC_UNROLL
        for (int r = 0; r < N; r++) sum[r] = half == 0 ? shared[a.in.bias + l * columns + column] : 0.0f;
        add<N>(l, shared + (half == 0 ? a.in.x : a.in.h + (size_t)l * ROWS * a.in.h_row),
               half == 0 ? a.in.x_row : a.in.h_row, chain_length(a, l, half),
               shared + a.in.w[l] + half * first * columns + column, columns, sum);
        OC_UNROLL
        for (int r = 0; r < N; r++) shared[a.in.work + (size_t)(r * 2 + half) * columns + column] = sum[r];
    }
};

/* ---------------------------------------------------------------- a oc_resident_command */
OC_DEVICE int64_t row_of(const oc_resident_command *c, int r)
{
    return (int64_t)((uint64_t)c->word[r][2] << 32 | c->word[r][1]);
}

/* Word i of row r as soon as it has the tag. */
OC_DEVICE bool word_take(const oc_resident_args &a, uint32_t tag, int r, int i, float *shared, oc_resident_command *c)
{
    const uint64_t word = oc_host_read(a.words + OC_MAIL_ROW + (size_t)r * (OC_MAIL_ROW_HEAD + a.inputs) + i);
    if ((uint32_t)(word >> 32) != tag) return false;
    const uint32_t x = (uint32_t)word;
    const int j = i - OC_MAIL_ROW_HEAD;
    if (j < 0)
        c->word[r][i] = x;
    else
        shared[a.in.x + r * a.in.x_row + j] =
            oc_scaled(__uint_as_float(x), shared[a.in.scaler + j], shared[a.in.scaler + a.inputs + j], a.clip);
    return true;
}

OC_DEVICE bool words_take(const oc_resident_args &a, uint32_t tag, int r, float *shared, oc_resident_command *c)
{
    bool all = true;
    for (int i = threadIdx.x; i < OC_MAIL_ROW_HEAD + a.inputs; i += THREADS) all &= word_take(a, tag, r, i, shared, c);
    return all;
}

/* Block 0: the first row's words are polled with the doorbell, since a second look costs a way over PCIe. */
OC_DEVICE void command_await(const oc_resident_args &a, uint32_t tag, float *shared, oc_resident_command *c)
{
    for (bool there = false; !there;) {
        bool stop = false, mine = words_take(a, tag, 0, shared, c);
        if (threadIdx.x == 0) {
            const uint64_t head = oc_host_read(a.words);
            const bool came = (uint32_t)(head >> 32) == tag;
            const bool leave = !came && oc_host_read(a.leave) == a.launch;
            c->n = leave ? -1 : (int)(uint32_t)head;
            stop = leave || (came && c->n == 0);
            mine &= came;
        }
        const bool all = __syncthreads_and(mine);
        there = __syncthreads_or(stop) || all;
        if (!there && threadIdx.x == 0) oc_host_pause();
    }
    __syncthreads();
    for (int r = 1; r < c->n; r++)
        while (!__syncthreads_and(words_take(a, tag, r, shared, c)))
            if (threadIdx.x == 0) oc_host_pause();
    oc_host_acquire();
    __syncthreads();
}

OC_DEVICE void command_copy(const oc_resident_command *from, oc_resident_command *to)
{
    const int i = threadIdx.x;
    if (i == 0) to->n = from->n;
    if (i < ROWS * OC_MAIL_ROW_HEAD)
        to->word[i / OC_MAIL_ROW_HEAD][i % OC_MAIL_ROW_HEAD] = from->word[i / OC_MAIL_ROW_HEAD][i % OC_MAIL_ROW_HEAD];
}

/* From block 0 to the others, by turns in two places: block 0 is at most one command ahead of who still reads. */
OC_DEVICE void command_share(const oc_resident_args &a, unsigned turn, float *shared, oc_resident_command *c,
                             unsigned *meeting)
{
    const bool first = blockIdx.x == 0;
    oc_resident_command *const there = a.commands + turn % 2;
    float *const x = a.command_x + (size_t)(turn % 2) * ROWS * a.inputs;
    if (gridDim.x == 1) return;
    if (first) command_copy(c, there);
    for (int at = threadIdx.x; first && at < c->n * a.inputs; at += THREADS)
        x[at] = shared[a.in.x + at / a.inputs * a.in.x_row + at % a.inputs];
    oc_grid_meet(a.met, ++*meeting);
    if (first) return;
    command_copy(there, c);
    __syncthreads();
    for (int at = threadIdx.x; at < c->n * a.inputs; at += THREADS)
        shared[a.in.x + at / a.inputs * a.in.x_row + at % a.inputs] = x[at];
    __syncthreads();
}

/* ---------------------------------------------------------------- the layers */
OC_DEVICE const float *slot_state(const oc_resident_args &a, const oc_resident_command *c, int r)
{
    return a.states + (size_t)c->word[r][0] * a.m.count;
}

/* States of the oldest windows: h of all units, cells of the block's own. */
OC_DEVICE void states_load(const oc_resident_args &a, const oc_resident_command *c, float *shared)
{
    const int all = a.layers * c->n;
    for (int at = threadIdx.x; at < all * a.hidden; at += THREADS) {
        const int k = at % a.hidden, r = at / a.hidden % c->n, l = at / a.hidden / c->n;
        const int64_t from = (l * a.m.windows + row_of(c, r) % a.m.windows) * a.hidden + k;
        shared[a.in.h + (size_t)(l * ROWS + r) * a.in.h_row + k] =
            a.m.steps == 1 ? 0.0f : slot_state(a, c, r)[a.m.h + from];
    }
    for (int at = threadIdx.x; at < all * a.units; at += THREADS) {
        const int u = at % a.units, r = at / a.units % c->n, l = at / a.units / c->n;
        const int unit = blockIdx.x * a.units + u;
        const int64_t from = (l * a.m.windows + row_of(c, r) % a.m.windows) * a.hidden + unit;
        const bool there = a.m.steps > 1 && unit < a.hidden;
        shared[a.in.c + (size_t)(l * ROWS + r) * a.units + u] = there ? slot_state(a, c, r)[a.m.c + from] : 0.0f;
    }
    __syncthreads();
}

/* The states of layer l, which the next layer or the attention reads from x. */
OC_DEVICE void layer_finish(const oc_resident_args &a, const oc_resident_command *c, int l, float *shared,
                            unsigned *meeting)
{
    const int columns = 4 * a.units;
    __syncthreads();
    for (int at = threadIdx.x; at < c->n * a.units; at += THREADS) {
        const int r = at / a.units, u = at % a.units, unit = blockIdx.x * a.units + u;
        const float *x = shared + a.in.work + (size_t)r * 2 * columns + u, *h = x + columns;
        float sum[OC_GATES], cell = shared[a.in.c + (size_t)(l * ROWS + r) * a.units + u];
        for (int g = 0; g < OC_GATES; g++) sum[g] = x[g * a.units] + h[g * a.units];
        const float out = oc_gates_state(oc_gates_of(sum[0], sum[1], sum[2], sum[3]), &cell);
        if (unit >= a.hidden) continue;
        if (gridDim.x == 1)
            shared[a.in.x + r * a.in.x_row + unit] = out;
        else
            a.exchange[(l * ROWS + r) * a.hidden + unit] = out;
    }
    if (gridDim.x > 1) {
        oc_grid_meet(a.met, ++*meeting);
        for (int at = threadIdx.x; at < c->n * a.hidden; at += THREADS)
            shared[a.in.x + at / a.hidden * a.in.x_row + at % a.hidden] =
                a.exchange[(l * ROWS + at / a.hidden) * a.hidden + at % a.hidden];
    }
    __syncthreads();
}

/* ---------------------------------------------------------------- attention and head, in block 0 */
/* y[j] = x[j / each] . w[.][j] from start[j], `count` outputs, k ascending; x's of `each` outputs lie `next` apart. */
OC_DEVICE void product_row(const float *x, int each, int next, int depth, const float *w, int w_next, int count,
                           const float *start, bool relu, float *y)
{
    for (int j = threadIdx.x; j < count; j += THREADS) {
        const float *mine = x + j / each * next, *column = w + j % w_next + (int64_t)(j / w_next) * depth * w_next;
        float sum = start ? start[j] : 0.0f;
        OC_UNROLL_4
        for (int k = 0; k < depth; k++) sum = fmaf(mine[k], column[(int64_t)k * w_next], sum);
        y[j] = relu && sum < 0.0f ? 0.0f : sum;
    }
    __syncthreads();
}

/* Steps t0 … t0 + count - 1 of the window that the row completes; its last is in x. */
OC_DEVICE void tile_load(const oc_resident_args &a, const oc_resident_command *c, int r, int t0, int count,
                         float *shared)
{
    const int row = a.hidden | 1;
    const int64_t start = row_of(c, r) - a.m.steps + 1;
    const float *state = slot_state(a, c, r);
    __syncthreads();
    for (int at = threadIdx.x; at < count * a.hidden; at += THREADS) {
        const int t = t0 + at / a.hidden, k = at % a.hidden;
        float h = 0.0f;
        if (t == a.m.steps - 1)
            h = shared[a.in.x + r * a.in.x_row + k];
        else if (start >= 0)
            h = state[oc_slide_trail_at(a.m, t, start) + k];
        shared[a.in.work + (size_t)(at / a.hidden) * row + k] = h;
    }
    __syncthreads();
}

/* -> shared seen [H] */
OC_DEVICE void attend_row(const oc_resident_args &a, const oc_resident_command *c, int r, const float *far,
                          float *shared)
{
    const int hidden = a.hidden, depth = hidden / a.heads, steps = (int)a.m.steps;
    const oc_attend_window w = {1, steps, hidden, a.heads, a.in.tile, hidden | 1, 1.0f / sqrtf((float)depth), NULL};
    float *map = shared + a.in.maps, *q = shared + a.in.q, *tile = shared + a.in.work;
    product_row(shared + a.in.x + r * a.in.x_row, hidden, 0, hidden, far + a.at.query, hidden, hidden,
                far + a.at.query_b, false, q);
    product_row(q, hidden, depth, depth, far + a.at.key, hidden, a.heads * hidden, NULL, false, shared + a.in.absorbed);
    for (int t0 = 0; t0 < steps; t0 += w.rows) {
        const int count = steps - t0 < w.rows ? steps - t0 : w.rows;
        tile_load(a, c, r, t0, count, shared);
        oc_attend_scores(w, t0, count, tile, shared + a.in.absorbed, map);
    }
    __syncthreads();
    for (int n = threadIdx.x / OC_WARP; n < a.heads; n += THREADS / OC_WARP)
        oc_attend_softmax(map + n * steps, steps, w.scale);
    __syncthreads();
    for (int t0 = 0; t0 < steps; t0 += w.rows) {
        const int count = steps - t0 < w.rows ? steps - t0 : w.rows;
        if (w.rows < steps) tile_load(a, c, r, t0, count, shared);
        oc_attend_pool(w, t0, count, tile, map, shared + a.in.pooled);
    }
    __syncthreads();
    product_row(shared + a.in.pooled, depth, hidden, hidden, far + a.at.value, hidden, hidden, far + a.at.value_b,
                false, shared + a.in.joined);
    product_row(shared + a.in.joined, hidden, 0, hidden, far + a.at.out, hidden, hidden, far + a.at.out_b, false,
                shared + a.in.seen);
}

/* Each probability is written by the thread that has it: nobody waits for all of them. */
OC_DEVICE void answer_row(const oc_resident_args &a, const oc_resident_command *c, int r, uint32_t tag, float *shared)
{
    const float *far = a.far_near ? shared + a.in.far : a.far;
    const int half = a.hidden / 2, outputs = a.horizons * OC_CLASSES;
    const float *seen = shared + (a.heads > 0 ? a.in.seen : a.in.x + (size_t)r * a.in.x_row);
    if (a.heads > 0) attend_row(a, c, r, far, shared);
    product_row(seen, half, 0, a.hidden, far + a.at.head[0], half, half, far + a.at.head_b[0], true,
                shared + a.in.hidden);
    product_row(shared + a.in.hidden, outputs, 0, half, far + a.at.head[1], outputs, outputs, far + a.at.head_b[1],
                false, shared + a.in.logits);
    for (int n = threadIdx.x; n < a.horizons; n += THREADS) {
        float p[OC_CLASSES];
        oc_softmax_classes(shared + a.in.logits + n * OC_CLASSES, a.temperature.of[n], p);
        for (int i = 0; i < OC_CLASSES; i++)
            oc_host_write(a.answers + r * outputs + n * OC_CLASSES + i, oc_mail_word(tag, __float_as_uint(p[i])));
    }
    __syncthreads();
}

/* ---------------------------------------------------------------- the kernel */
template <int LAYER_COUNT>
OC_DEVICE void layers_run(const oc_resident_args &a, const oc_resident_command *c,
                          const weights_of<LAYER_COUNT> &weights, float *shared, unsigned *meeting)
{
    states_load(a, c, shared);
    OC_UNROLL
    for (int l = 0; l < LAYER_COUNT; l++) {
        if (c->n == 1)
            weights.template sums<1>(a, l, shared);
        else if (c->n == 2)
            weights.template sums<2>(a, l, shared);
        else
            weights.template sums<ROWS>(a, l, shared);
        layer_finish(a, c, l, shared, meeting);
    }
}

template <int LAYER_COUNT> static __global__ void __launch_bounds__(THREADS, 1) resident(oc_resident_args a)
{
    OC_SHARED_DYNAMIC(float, shared);
    OC_SHARED(oc_resident_command, c, [1]);
    weights_of<LAYER_COUNT> weights;
    unsigned meeting = 0;
    for (size_t i = threadIdx.x; i < a.in.count; i += THREADS) shared[i] = 0.0f; /* rows are read past their ends */
    if (threadIdx.x < ROWS * OC_MAIL_ROW_HEAD)
        c->word[threadIdx.x / OC_MAIL_ROW_HEAD][threadIdx.x % OC_MAIL_ROW_HEAD] = 0;
    __syncthreads();
    weights.load(a, shared);
    for (int j = threadIdx.x; j < a.inputs; j += THREADS) {
        shared[a.in.scaler + j] = a.mean[j];
        shared[a.in.scaler + a.inputs + j] = a.scale[j];
    }
    for (size_t i = threadIdx.x; a.far_near && blockIdx.x == 0 && i < a.at.count; i += THREADS)
        shared[a.in.far + i] = a.far[i];
    __syncthreads();
    for (uint32_t tag = a.tag, turn = 0;; tag++, turn++) {
        tag += tag == 0;
        if (blockIdx.x == 0) command_await(a, tag, shared, c);
        command_share(a, turn, shared, c, &meeting);
        if (c->n < 0) break;
        if (c->n == 0) {
            if (blockIdx.x == 0 && threadIdx.x == 0) oc_host_write(a.answers, oc_mail_word(tag, 0));
            __syncthreads();
            continue;
        }
        layers_run(a, c, weights, shared, &meeting);
        for (int r = 0; blockIdx.x == 0 && r < c->n; r++) answer_row(a, c, r, tag, shared);
        __syncthreads();
    }
}

cudaError_t oc_resident_start(const oc_cuda *c, const oc_resident_args &a, const oc_resident_info &info)
{
    static void (*const of_layers[])(oc_resident_args) = {resident<1>, resident<2>, resident<3>, resident<4>};
    static_assert(sizeof of_layers / sizeof *of_layers == OC_RESIDENT_LAYERS_MAX, "one for each");
    return oc_launch_resident("resident", of_layers[a.layers - 1], (unsigned)info.blocks, THREADS, info.shared_bytes, c,
                              a);
}
