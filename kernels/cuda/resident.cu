/* resident.cu - the last step of up to four pushed rows by one kernel that stays (kernels/resident.h). G blocks, each
 * on a multiprocessor of its own, hold the LSTM's weights: block i has U = H / G units of every layer, a thread for
 * each gate of a unit and each of its two chains (x . W_ih from the bias, h . W_hh from 0). Of a chain's weights the
 * first HELD lie in registers, the rest in shared memory. Block 0 polls the doorbell, has the attention and the head
 * besides (in shared memory too where they fit, else from L2), and writes the probabilities. More than one block meet
 * behind the command and behind every layer; there the states go through device memory. No block waits for another
 * otherwise. Order of every sum: that of slide_step, linear_forward and softmax, so their bits. States are read only.
 * Bound: the way over PCIe and back, a chain of max(F, H) and one of H dependent multiply-adds a layer at once, some
 * ten barriers; G > 1: a meeting of all blocks a layer. Not run on a GPU. */
#include <math.h>
#include <mutex>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/cuda/attend_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"
#include "kernels/cuda/resident.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/slide_layout.cuh"
#include "kernels/resident_mail.h"

static constexpr int THREADS = 512, ROWS = OC_RESIDENT_ROWS, LAYERS = OC_RESIDENT_LAYERS_MAX;
static constexpr int TILE_MIN = 8;                       /* steps of a window in shared memory at a time, at least */
static constexpr int64_t LEAVE_NS = INT64_C(2000000000); /* a kernel that is told to must be gone by then */

/* k of every chain in registers: 512 threads have 128 each, of which a layer takes so many. */
template <int LAYER_COUNT> struct held_of {
    static constexpr int K = LAYER_COUNT == 1 ? 64 : LAYER_COUNT == 2 ? 32 : LAYER_COUNT == 3 ? 20 : 12;
};
static int held_count(int layers)
{
    return layers == 1 ? held_of<1>::K : layers == 2 ? held_of<2>::K : layers == 3 ? held_of<3>::K : held_of<4>::K;
}

/* Weights of attention and head as chains read them, [k][output], and their biases; floats. */
typedef struct far_layout {
    size_t query, key, value, out, query_b, value_b, out_b, head[2], head_b[2], count;
} far_layout;

/* Shared memory of a block, in floats. `work`: sums of a layer, then a window's states. */
typedef struct shared_layout {
    size_t w[LAYERS], bias, x, h, c, scaler, work, q, absorbed, maps, pooled, joined, seen, hidden, logits, far, count;
    int tile; /* steps */
} shared_layout;

typedef struct resident_args {
    oc_slide_layout m;
    far_layout at;
    shared_layout in;
    int layers, hidden, inputs, heads, horizons, units, x_row, h_row;
    bool far_near; /* attention and head in shared memory */
    const float *w_ih[LAYERS], *w_hh[LAYERS], *bias[LAYERS], *far, *mean, *scale, *states;
    float clip;
    oc_cuda_temperatures temperature;
    uint64_t *leave, *ended, *words, *answers;
    float *exchange;          /* [layers][ROWS][H] */
    float *command_x;         /* [2][ROWS][F] scaled */
    struct command *commands; /* [2] */
    unsigned *met;
    uint32_t tag, launch;
} resident_args;

/* ---------------------------------------------------------------- weights */
OC_DEVICE int chain_length(const resident_args &a, int layer, int half)
{
    return half == 0 && layer == 0 ? a.inputs : a.hidden;
}

template <int LAYER_COUNT> struct weights_of {
    static constexpr int K = held_of<LAYER_COUNT>::K;
    float held[LAYER_COUNT][K];

    /* Thread: half (0: x . W, 1: h . W), then gate, then unit. Beyond the layer's units: zeros. */
    __device__ __forceinline__ void load(const resident_args &a, float *shared)
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
    template <int N> __device__ __forceinline__ void sums(const resident_args &a, int l, float *shared) const
    {
        const int columns = 4 * a.units, half = threadIdx.x / columns, column = threadIdx.x % columns;
        const int first = beyond(chain_length(a, l, 0));
        float sum[N];
        if (half > 1) return;
        OC_UNROLL
        for (int r = 0; r < N; r++) sum[r] = half == 0 ? shared[a.in.bias + l * columns + column] : 0.0f;
        add<N>(l, shared + (half == 0 ? a.in.x : a.in.h + (size_t)l * ROWS * a.h_row), half == 0 ? a.x_row : a.h_row,
               chain_length(a, l, half), shared + a.in.w[l] + half * first * columns + column, columns, sum);
        OC_UNROLL
        for (int r = 0; r < N; r++) shared[a.in.work + (size_t)(r * 2 + half) * columns + column] = sum[r];
    }
};

/* ---------------------------------------------------------------- a command */
typedef struct command {
    int n;                                 /* rows; 0: empty; -1: leave */
    uint32_t word[ROWS][OC_MAIL_ROW_HEAD]; /* slot, rows consumed: low and high half */
} command;

OC_DEVICE int64_t row_of(const command *c, int r)
{
    return (int64_t)((uint64_t)c->word[r][2] << 32 | c->word[r][1]);
}

/* Word i of row r as soon as it has the tag. */
OC_DEVICE bool word_take(const resident_args &a, uint32_t tag, int r, int i, float *shared, command *c)
{
    const uint64_t word = oc_host_read(a.words + OC_MAIL_ROW + (size_t)r * (OC_MAIL_ROW_HEAD + a.inputs) + i);
    if ((uint32_t)(word >> 32) != tag) return false;
    const uint32_t x = (uint32_t)word;
    const int j = i - OC_MAIL_ROW_HEAD;
    if (j < 0)
        c->word[r][i] = x;
    else
        shared[a.in.x + r * a.x_row + j] =
            oc_scaled(__uint_as_float(x), shared[a.in.scaler + j], shared[a.in.scaler + a.inputs + j], a.clip);
    return true;
}

OC_DEVICE bool words_take(const resident_args &a, uint32_t tag, int r, float *shared, command *c)
{
    bool all = true;
    for (int i = threadIdx.x; i < OC_MAIL_ROW_HEAD + a.inputs; i += THREADS) all &= word_take(a, tag, r, i, shared, c);
    return all;
}

/* Block 0: the first row's words are polled with the doorbell, since a second look costs a way over PCIe. */
OC_DEVICE void command_await(const resident_args &a, uint32_t tag, float *shared, command *c)
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

OC_DEVICE void command_copy(const command *from, command *to)
{
    const int i = threadIdx.x;
    if (i == 0) to->n = from->n;
    if (i < ROWS * OC_MAIL_ROW_HEAD)
        to->word[i / OC_MAIL_ROW_HEAD][i % OC_MAIL_ROW_HEAD] = from->word[i / OC_MAIL_ROW_HEAD][i % OC_MAIL_ROW_HEAD];
}

/* From block 0 to the others, by turns in two places: block 0 is at most one command ahead of who still reads. */
OC_DEVICE void command_share(const resident_args &a, unsigned turn, float *shared, command *c, unsigned *meeting)
{
    const bool first = blockIdx.x == 0;
    command *const there = a.commands + turn % 2;
    float *const x = a.command_x + (size_t)(turn % 2) * ROWS * a.inputs;
    if (gridDim.x == 1) return;
    if (first) command_copy(c, there);
    for (int at = threadIdx.x; first && at < c->n * a.inputs; at += THREADS)
        x[at] = shared[a.in.x + at / a.inputs * a.x_row + at % a.inputs];
    oc_grid_meet(a.met, ++*meeting);
    if (first) return;
    command_copy(there, c);
    __syncthreads();
    for (int at = threadIdx.x; at < c->n * a.inputs; at += THREADS)
        shared[a.in.x + at / a.inputs * a.x_row + at % a.inputs] = x[at];
    __syncthreads();
}

/* ---------------------------------------------------------------- the layers */
OC_DEVICE const float *slot_state(const resident_args &a, const command *c, int r)
{
    return a.states + (size_t)c->word[r][0] * a.m.count;
}

/* States of the oldest windows: h of all units, cells of the block's own. */
OC_DEVICE void states_load(const resident_args &a, const command *c, float *shared)
{
    const int all = a.layers * c->n;
    for (int at = threadIdx.x; at < all * a.hidden; at += THREADS) {
        const int k = at % a.hidden, r = at / a.hidden % c->n, l = at / a.hidden / c->n;
        const int64_t from = (l * a.m.windows + row_of(c, r) % a.m.windows) * a.hidden + k;
        shared[a.in.h + (size_t)(l * ROWS + r) * a.h_row + k] =
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
OC_DEVICE void layer_finish(const resident_args &a, const command *c, int l, float *shared, unsigned *meeting)
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
            shared[a.in.x + r * a.x_row + unit] = out;
        else
            a.exchange[(l * ROWS + r) * a.hidden + unit] = out;
    }
    if (gridDim.x > 1) {
        oc_grid_meet(a.met, ++*meeting);
        for (int at = threadIdx.x; at < c->n * a.hidden; at += THREADS)
            shared[a.in.x + at / a.hidden * a.x_row + at % a.hidden] =
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
OC_DEVICE void tile_load(const resident_args &a, const command *c, int r, int t0, int count, float *shared)
{
    const int row = a.hidden | 1;
    const int64_t start = row_of(c, r) - a.m.steps + 1;
    const float *state = slot_state(a, c, r);
    __syncthreads();
    for (int at = threadIdx.x; at < count * a.hidden; at += THREADS) {
        const int t = t0 + at / a.hidden, k = at % a.hidden;
        float h = 0.0f;
        if (t == a.m.steps - 1)
            h = shared[a.in.x + r * a.x_row + k];
        else if (start >= 0)
            h = state[oc_slide_trail_at(a.m, t, start) + k];
        shared[a.in.work + (size_t)(at / a.hidden) * row + k] = h;
    }
    __syncthreads();
}

/* -> shared seen [H] */
OC_DEVICE void attend_row(const resident_args &a, const command *c, int r, const float *far, float *shared)
{
    const int hidden = a.hidden, depth = hidden / a.heads, steps = (int)a.m.steps;
    const oc_attend_window w = {1, steps, hidden, a.heads, a.in.tile, hidden | 1, 1.0f / sqrtf((float)depth), NULL};
    float *map = shared + a.in.maps, *q = shared + a.in.q, *tile = shared + a.in.work;
    product_row(shared + a.in.x + r * a.x_row, hidden, 0, hidden, far + a.at.query, hidden, hidden, far + a.at.query_b,
                false, q);
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
OC_DEVICE void answer_row(const resident_args &a, const command *c, int r, uint32_t tag, float *shared)
{
    const float *far = a.far_near ? shared + a.in.far : a.far;
    const int half = a.hidden / 2, outputs = a.horizons * OC_CLASSES;
    const float *seen = shared + (a.heads > 0 ? a.in.seen : a.in.x + (size_t)r * a.x_row);
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
OC_DEVICE void layers_run(const resident_args &a, const command *c, const weights_of<LAYER_COUNT> &weights,
                          float *shared, unsigned *meeting)
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

template <int LAYER_COUNT> static __global__ void __launch_bounds__(THREADS, 1) resident(resident_args a)
{
    OC_SHARED_DYNAMIC(float, shared);
    OC_SHARED(command, c, [1]);
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
    if (blockIdx.x == 0 && threadIdx.x == 0) oc_host_write(a.ended, a.launch);
}

/* to[k][j] = from[j][k], j < outputs, k < depth */
static __global__ void transpose(const float *from, int outputs, int depth, float *to)
{
    for (int64_t at = oc_thread_first(); at < (int64_t)outputs * depth; at += oc_thread_step())
        to[at] = from[at % outputs * depth + at / outputs];
}

/* The scaled row to where the advance reads it. */
static __global__ void resident_keep(resident_args a, const int32_t *slots, const int64_t *rows, const float *raw,
                                     int64_t n, float *states)
{
    for (int64_t at = oc_thread_first(); at < n * a.inputs; at += oc_thread_step()) {
        const int64_t i = at / a.inputs, j = at % a.inputs;
        if (rows[i] >= 0)
            states[(size_t)slots[i] * a.m.count + oc_slide_x_at(a.m, rows[i]) + j] =
                oc_scaled(raw[at], a.mean[j], a.scale[j], a.clip);
    }
}

/* ---------------------------------------------------------------- what fits */
static far_layout far_layout_make(const oc_resident_model *m)
{
    far_layout l = {};
    const size_t hidden = (size_t)m->shape.hidden, outputs = (size_t)m->horizons * OC_CLASSES;
    const size_t square = m->shape.heads > 0 ? hidden * hidden : 0, side = m->shape.heads > 0 ? hidden : 0;
    size_t *const squares[] = {&l.query, &l.key, &l.value, &l.out}, *const sides[] = {&l.query_b, &l.value_b, &l.out_b};
    for (size_t *at : squares) *at = oc_cuda_take(&l.count, square);
    for (size_t *at : sides) *at = oc_cuda_take(&l.count, side);
    l.head[0] = oc_cuda_take(&l.count, hidden * (hidden / 2));
    l.head_b[0] = oc_cuda_take(&l.count, hidden / 2);
    l.head[1] = oc_cuda_take(&l.count, hidden / 2 * outputs);
    l.head_b[1] = oc_cuda_take(&l.count, outputs);
    return l;
}

/* Of a block that has `units` units; tile and far: 0 where they are not there. */
static shared_layout shared_layout_make(const oc_resident_model *m, int units, int tile, size_t far)
{
    const oc_slide_shape *s = &m->shape;
    const size_t hidden = (size_t)s->hidden, columns = 4 * (size_t)units, heads = (size_t)s->heads;
    const size_t held = (size_t)held_count(s->layers), row = (size_t)(s->hidden | 1);
    const size_t sums = 2 * ROWS * columns, states = (size_t)tile * row;
    const size_t x_row = (size_t)(s->inputs > s->hidden ? s->inputs : s->hidden) + 3, h_row = hidden + 3;
    shared_layout l = {};
    for (int i = 0; i < s->layers; i++) {
        const size_t in = (size_t)(i == 0 ? s->inputs : s->hidden);
        l.w[i] = oc_cuda_take(&l.count, ((in > held ? in - held : 0) + (hidden > held ? hidden - held : 0)) * columns);
    }
    l.bias = oc_cuda_take(&l.count, (size_t)s->layers * columns);
    l.x = oc_cuda_take(&l.count, ROWS * x_row);
    l.h = oc_cuda_take(&l.count, (size_t)s->layers * ROWS * h_row);
    l.c = oc_cuda_take(&l.count, (size_t)s->layers * ROWS * (size_t)units);
    l.scaler = oc_cuda_take(&l.count, 2 * (size_t)s->inputs);
    l.work = oc_cuda_take(&l.count, sums > states ? sums : states);
    l.q = oc_cuda_take(&l.count, hidden);
    l.absorbed = oc_cuda_take(&l.count, heads * hidden);
    l.maps = oc_cuda_take(&l.count, heads * (size_t)s->steps);
    l.pooled = oc_cuda_take(&l.count, heads * hidden);
    l.joined = oc_cuda_take(&l.count, hidden);
    l.seen = oc_cuda_take(&l.count, hidden);
    l.hidden = oc_cuda_take(&l.count, hidden / 2);
    l.logits = oc_cuda_take(&l.count, (size_t)m->horizons * OC_CLASSES);
    l.far = oc_cuda_take(&l.count, far);
    l.tile = tile;
    return l;
}

/* The LSTM must fit; then the head and attention, then as many steps of a window as there is room for. */
static bool shared_fit(const oc_resident_model *m, int units, size_t far, size_t bytes, shared_layout *out, bool *near)
{
    const int steps = m->shape.heads > 0 ? m->shape.steps : 0, least = steps < TILE_MIN ? steps : TILE_MIN;
    const auto fits = [&](int tile, size_t beside) {
        *out = shared_layout_make(m, units, tile, beside);
        return out->count * sizeof(float) <= bytes;
    };
    *near = fits(least, far);
    if (!*near && !fits(least, 0)) return false;
    int tile = steps;
    while (tile > least && !fits(tile, *near ? far : 0)) tile--;
    (void)fits(tile, *near ? far : 0);
    return true;
}

static size_t lstm_bytes(const oc_slide_shape *s)
{
    const size_t in = (size_t)s->inputs, hidden = (size_t)s->hidden, layers = (size_t)s->layers;
    return 4 * hidden * (in + hidden + (layers - 1) * 2 * hidden) * sizeof(float);
}

static OC_MUST plan_make(oc_backend *b, const oc_resident_model *m, resident_args *a, oc_resident_info *info)
{
    static constexpr size_t OWN = 1024; /* shared memory by declaration */
    const oc_slide_shape *s = &m->shape;
    const oc_cuda *c = oc_cuda_of(b);
    const char *wish = getenv("OUTCRY_CUDA_RESIDENT_BYTES"); /* fewer than the device has */
    const size_t wished = wish ? strtoul(wish, NULL, 10) : 0;
    const size_t shared = (wished > 0 && wished < c->shared_max ? wished : c->shared_max - OWN);
    const int most = c->multiprocessors / 2 < s->hidden ? c->multiprocessors / 2 : s->hidden;
    if (b->info.math != OC_MATH_F32)
        return OC_FAIL(OC_ECONFIG, "gpu_path resident computes f32; math tf32 and bf16 go by gpu_path graph");
    if (!(s->layers >= 1 && s->layers <= LAYERS && s->hidden >= 2))
        return OC_FAIL(OC_ELIMIT,
                       "gpu_path resident holds 1 to %d layers of 2 units or more, not %d of %d: use gpu_path "
                       "graph",
                       LAYERS, s->layers, s->hidden);
    a->at = far_layout_make(m);
    for (int blocks = 1; blocks <= most; blocks++) {
        const int units = (s->hidden + blocks - 1) / blocks;
        if (8 * units > THREADS) continue;
        if (!shared_fit(m, units, a->at.count, shared, &a->in, &a->far_near)) continue;
        a->units = units;
        *info = {(s->hidden + units - 1) / units, lstm_bytes(s), a->in.count * sizeof(float),
                 a->far_near ? 0 : a->at.count * sizeof(float)};
        return OC_OK;
    }
    return OC_FAIL(OC_ELIMIT,
                   "gpu_path resident: %d layers of %d units at %d inputs are %.2f MB of LSTM weights (f32), and "
                   "half of this device's %d multiprocessors with %zu bytes of shared memory and at most %d bytes of "
                   "registers for them do not hold that: use gpu_path graph",
                   s->layers, s->hidden, s->inputs, (double)lstm_bytes(s) * 1e-6, c->multiprocessors, shared,
                   THREADS * held_count(s->layers) * s->layers * (int)sizeof(float));
}

/* ---------------------------------------------------------------- those of this process
 * One lock for starting and sending away; the way of a call takes none. */
static std::mutex door;
static oc_resident *present_ones[64]; /* open, or stuck for good */
static int present_count, holds;
static bool stuck;

typedef struct resident_state {
    resident_args args;
    cudaStream_t stream;
    void *device, *pinned;
} resident_state;

static resident_state *state_of(const oc_resident *r)
{
    return static_cast<resident_state *>(r->state);
}

static int64_t now_ns()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Has it ended within the time that such a kernel has? Whoever asks holds the door. */
static bool away(oc_resident *r)
{
    resident_state *s = state_of(r);
    const int64_t end = now_ns() + LEAVE_NS;
    if (!__atomic_load_n(&r->running, __ATOMIC_RELAXED)) return true;
    __atomic_store_n(r->leave, s->args.launch, __ATOMIC_RELEASE);
    while (cudaStreamQuery(s->stream) == cudaErrorNotReady)
        if (now_ns() > end) return false;
    __atomic_store_n(&r->running, 0u, __ATOMIC_RELEASE);
    return true;
}

void oc_cuda_leave(void *what)
{
    struct left {
        void *what;
        left *before;
    };
    static left *last;
    const std::lock_guard<std::mutex> hold(door);
    left *one = what ? static_cast<left *>(malloc(sizeof *one)) : NULL;
    if (!one) return;
    *one = {what, last};
    last = one;
}

oc_cuda_quiet::oc_cuda_quiet()
{
    const std::lock_guard<std::mutex> hold(door);
    holds++;
    for (int i = 0; i < present_count && !::stuck && !oc_cuda_lost(); i++) {
        if (away(present_ones[i])) continue;
        ::stuck = true;
        __atomic_store_n(&present_ones[i]->silent, 1u, __ATOMIC_RELAXED);
    }
    stuck = ::stuck || oc_cuda_lost();
}

oc_cuda_quiet::~oc_cuda_quiet()
{
    const std::lock_guard<std::mutex> hold(door);
    holds--;
}

/* ---------------------------------------------------------------- the driver's rows */
static OC_MUST launch(oc_resident *r)
{
    resident_state *s = state_of(r);
    oc_backend *b = r->b;
    oc_cuda at = *oc_cuda_of(b);
    s->args.launch++;
    s->args.tag = r->tag + 1;
    at.stream = s->stream;
    OC_TRY(oc_cuda_result(b, cudaMemsetAsync(s->args.met, 0, sizeof *s->args.met, s->stream), "clearing memory"));
#define RUN(COUNT)                                                                                                     \
    if (s->args.layers == COUNT)                                                                                       \
        OC_TRY(oc_cuda_result(b,                                                                                       \
                              oc_launch_resident("resident", resident<COUNT>, (unsigned)r->info.blocks, THREADS,       \
                                                 r->info.shared_bytes, &at, s->args),                                  \
                              "the launch of the resident kernel"));
    RUN(1)
    RUN(2)
    RUN(3)
    RUN(4)
#undef RUN
    __atomic_store_n(&r->running, 1u, __ATOMIC_RELEASE);
    return OC_OK;
}

static bool present(oc_resident *r)
{
    if (__atomic_load_n(&r->silent, __ATOMIC_RELAXED)) return false;
    if (__atomic_load_n(&r->running, __ATOMIC_ACQUIRE)) return true;
    if (!door.try_lock()) return false;
    const std::lock_guard<std::mutex> hold(door, std::adopt_lock);
    if (holds > 0) return false;
    if (launch(r) == OC_OK) return true;
    __atomic_store_n(&r->silent, 1u, __ATOMIC_RELAXED);
    return false;
}

static OC_MUST far_pack(oc_resident *r)
{
    const oc_resident_model *m = &r->model;
    const resident_args *a = &state_of(r)->args;
    oc_backend *b = r->b;
    float *far = const_cast<float *>(a->far);
    const int hidden = m->shape.hidden, half = hidden / 2, outputs = m->horizons * OC_CLASSES;
    const size_t square = (size_t)hidden * (size_t)hidden;
    const oc_attention_shape shape = {1, m->shape.steps, hidden, m->shape.heads};
    const oc_cuda_attend_layout l = shape.heads > 0 ? oc_cuda_attend_layout_make(&shape) : oc_cuda_attend_layout();
    const float *packed = (const float *)m->attention.data;
    const struct {
        size_t to;
        const float *from;
        int outputs, depth;
        bool there;
    } rows[] = {
        {a->at.query, packed + l.in_w, hidden, hidden, m->shape.heads > 0},
        {a->at.key, packed + l.in_w + square, (int)square, 1, m->shape.heads > 0},
        {a->at.value, packed + l.in_w + 2 * square, hidden, hidden, m->shape.heads > 0},
        {a->at.out, packed + l.out_w, hidden, hidden, m->shape.heads > 0},
        {a->at.query_b, packed + l.in_b, hidden, 1, m->shape.heads > 0},
        {a->at.value_b, packed + l.in_b + 2 * hidden, hidden, 1, m->shape.heads > 0},
        {a->at.out_b, packed + l.out_b, hidden, 1, m->shape.heads > 0},
        {a->at.head[0], (const float *)m->head[0].data, half, hidden, true},
        {a->at.head_b[0], (const float *)m->head_bias[0].data, half, 1, true},
        {a->at.head[1], (const float *)m->head[1].data, outputs, half, true},
        {a->at.head_b[1], (const float *)m->head_bias[1].data, outputs, 1, true},
    };
    for (const auto &row : rows)
        if (row.there)
            OC_LAUNCH(b, transpose, oc_flat_grid(b, (int64_t)row.outputs * row.depth), OC_FLAT_THREADS, 0, row.from,
                      row.outputs, row.depth, far + row.to);
    OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(oc_cuda_of(b)->stream), "waiting"));
    return OC_OK;
}

static OC_MUST memory_take(oc_resident *r, resident_args *a)
{
    resident_state *s = state_of(r);
    const size_t rows = ROWS, outputs = (size_t)(a->horizons * OC_CLASSES);
    size_t floats = 0, words = 0;
    const auto word_take = [&](size_t count) {
        const size_t at = words;
        words += (count + OC_MAIL_LINE - 1) / OC_MAIL_LINE * OC_MAIL_LINE;
        return at;
    };
    const size_t far = oc_cuda_take(&floats, a->at.count),
                 exchange = oc_cuda_take(&floats, (size_t)a->layers * rows * (size_t)a->hidden),
                 x = oc_cuda_take(&floats, 2 * rows * (size_t)a->inputs),
                 commands = oc_cuda_take(&floats, (2 * sizeof(command) + 3) / sizeof(float)),
                 met = oc_cuda_take(&floats, 1);
    r->in_count = OC_MAIL_ROW + rows * oc_mail_row_words(&r->model);
    r->out_count = rows * outputs;
    const size_t leave = word_take(1), ended = word_take(1), in = word_take(r->in_count), out = word_take(r->out_count);
    OC_TRY(oc_cuda_result(r->b, cudaMalloc(&s->device, floats * sizeof(float)), "taking device memory"));
    OC_TRY(oc_cuda_result(r->b, cudaMallocHost(&s->pinned, words * sizeof(uint64_t)), "pinning host memory"));
#ifdef OC_EMULATION
    emulation::hand_out(s->device, floats * sizeof(float));
#endif
    memset(s->pinned, 0, words * sizeof(uint64_t));
    OC_TRY(oc_cuda_result(r->b, cudaMemsetAsync(s->device, 0, floats * sizeof(float), oc_cuda_of(r->b)->stream),
                          "clearing memory"));
    float *base = static_cast<float *>(s->device);
    uint64_t *word = static_cast<uint64_t *>(s->pinned);
    a->far = base + far;
    a->exchange = base + exchange;
    a->command_x = base + x;
    a->commands = reinterpret_cast<command *>(base + commands);
    a->met = reinterpret_cast<unsigned *>(base + met);
    r->leave = a->leave = word + leave;
    r->ended = a->ended = word + ended;
    r->in = a->words = word + in;
    r->out = a->answers = word + out;
    return OC_OK;
}

static OC_MUST fill(oc_resident *r)
{
    const oc_resident_model *m = &r->model;
    resident_args *a = &state_of(r)->args;
    const oc_lstm_shape lstm = {m->shape.layers, 1, m->shape.steps, m->shape.inputs, m->shape.hidden};
    const oc_cuda_lstm_layout at = oc_cuda_lstm_layout_make(&lstm, r->b->info.math);
    const float *weights = (const float *)m->lstm.data;
    OC_TRY(plan_make(r->b, m, a, &r->info));
    a->m = oc_slide_layout_make(&m->shape);
    a->layers = m->shape.layers;
    a->hidden = m->shape.hidden;
    a->inputs = m->shape.inputs;
    a->heads = m->shape.heads;
    a->horizons = m->horizons;
    a->x_row = ((a->inputs > a->hidden ? a->inputs : a->hidden) + 3) / 4 * 4;
    a->h_row = (a->hidden + 3) / 4 * 4;
    for (int l = 0; l < a->layers; l++) {
        a->w_ih[l] = weights + at.w_ih[l];
        a->w_hh[l] = weights + at.w_hh[l];
        a->bias[l] = weights + at.bias[l];
    }
    a->mean = (const float *)m->mean.data;
    a->scale = (const float *)m->scale.data;
    a->states = (const float *)m->states.data;
    a->clip = m->clip;
    for (int i = 0; i < m->horizons; i++) a->temperature.of[i] = m->temperature[i];
    OC_TRY(memory_take(r, a));
    OC_TRY(far_pack(r));
    OC_TRY(oc_cuda_result(r->b, cudaStreamCreateWithFlags(&state_of(r)->stream, cudaStreamNonBlocking),
                          "making a stream"));
    return OC_OK;
}

static void release(oc_resident *r)
{
    resident_state *s = state_of(r);
    (void)oc_cuda_of(r->b);
    if (s->stream) (void)cudaStreamDestroy(s->stream);
    if (s->pinned) (void)cudaFreeHost(s->pinned);
    if (s->device) (void)cudaFree(s->device);
    free(s);
}

static oc_status resident_open(oc_resident *r)
{
    const oc_cuda_quiet quiet;
    if (quiet.stuck) return OC_FAIL(OC_EFAILED, "gpu_path resident: " OC_CUDA_STUCK);
    r->state = calloc(1, sizeof(resident_state));
    if (!r->state) return OC_FAIL(OC_EMEMORY, "gpu_path resident: no memory for %zu bytes", sizeof(resident_state));
    oc_status status = fill(r);
    const std::lock_guard<std::mutex> hold(door);
    if (status == OC_OK && present_count == (int)(sizeof present_ones / sizeof *present_ones))
        status = OC_FAIL(OC_ELIMIT, "gpu_path resident: %d kernels are open", present_count);
    if (status == OC_OK)
        present_ones[present_count++] = r;
    else
        release(r);
    return status;
}

static oc_status resident_put(oc_resident *r, oc_tensor slots, oc_tensor rows, oc_tensor raw)
{
    oc_backend *b = r->b;
    const int64_t n = oc_cuda_count(slots);
    assert(oc_cuda_count(rows) == n && oc_cuda_count(raw) == n * r->model.shape.inputs);
    OC_LAUNCH(b, resident_keep, oc_flat_grid(b, n * r->model.shape.inputs), OC_FLAT_THREADS, 0, state_of(r)->args,
              (const int32_t *)slots.data, (const int64_t *)rows.data, (const float *)raw.data, n,
              (float *)r->model.states.data);
    return OC_OK;
}

static void resident_close(oc_resident *r)
{
    const oc_cuda_quiet quiet;
    {
        const std::lock_guard<std::mutex> hold(door);
        for (int i = 0; i < present_count; i++)
            if (present_ones[i] == r) present_ones[i] = present_ones[--present_count];
    }
    if (quiet.stuck)
        oc_cuda_leave(r->state);
    else
        release(r);
}

const oc_resident_driver oc_cuda_resident = {resident_open, present, resident_put, resident_close};
