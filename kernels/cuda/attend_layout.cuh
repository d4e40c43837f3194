/* attend_layout.cuh - where things lie in `packed` and `reserve` of the CUDA attention, and what its two files share.
 * Offsets count floats. N heads of D = H / N; names and formulas: kernels/cpu/attend_layout.h, attend_backward.c.
 *   packed    in_w [3H][H], in_b [3H], out_w [H][H], out_b [H], as PyTorch has them
 *   reserve   q [B][H], absorbed [B][N][H], pooled [B][N][H], joined [B][H], scores [B][N][T] (the map where the caller
 *             keeps none; backward's dmap), djoined [B][H], dpooled [B][N][H], parts: sums of split products */
#ifndef OC_KERNELS_CUDA_ATTEND_LAYOUT_CUH
#define OC_KERNELS_CUDA_ATTEND_LAYOUT_CUH

#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/ops_cuda.cuh"

typedef struct oc_cuda_attend_layout {
    size_t in_w, in_b, out_w, out_b, packed_count;
    size_t q, absorbed, pooled, joined, scores, djoined, dpooled, parts, reserve_count;
} oc_cuda_attend_layout;

/* Ranges of k that `count` products [m][n] over `rows` windows are cut into; up to 511 none, and the CPU's bits. */
static inline int oc_cuda_attend_splits(int64_t rows, int m, int n, int count)
{
    const int64_t tiles = (int64_t)((m + 63) / 64) * ((n + 63) / 64) * count;
    int64_t splits = rows < 512 ? 1 : 256 / tiles;
    if (splits > rows / 256) splits = rows / 256;
    return splits < 1 ? 1 : splits > 64 ? 64 : (int)splits;
}

static inline oc_cuda_attend_layout oc_cuda_attend_layout_make(const oc_attention_shape *s)
{
    oc_cuda_attend_layout l = {};
    const size_t hidden = (size_t)s->hidden, rows = (size_t)s->batch, wide = rows * (size_t)s->heads * hidden;
    const int one = oc_cuda_attend_splits(s->batch, s->hidden, s->hidden, 1),
              each = oc_cuda_attend_splits(s->batch, s->hidden / s->heads, s->hidden, s->heads);
    l.in_w = oc_cuda_take(&l.packed_count, 3 * hidden * hidden);
    l.in_b = oc_cuda_take(&l.packed_count, 3 * hidden);
    l.out_w = oc_cuda_take(&l.packed_count, hidden * hidden);
    l.out_b = oc_cuda_take(&l.packed_count, hidden);
    l.q = oc_cuda_take(&l.reserve_count, rows * hidden);
    l.absorbed = oc_cuda_take(&l.reserve_count, wide);
    l.pooled = oc_cuda_take(&l.reserve_count, wide);
    l.joined = oc_cuda_take(&l.reserve_count, rows * hidden);
    l.scores = oc_cuda_take(&l.reserve_count, rows * (size_t)s->heads * (size_t)s->steps);
    l.djoined = oc_cuda_take(&l.reserve_count, rows * hidden);
    l.dpooled = oc_cuda_take(&l.reserve_count, wide);
    l.parts = oc_cuda_take(&l.reserve_count, (size_t)(one > each ? one : each) * hidden * hidden);
    return l;
}

/* ---------------------------------------------------------------- a window in one block
 * h of the window passes through shared memory in tiles of `rows` steps, `row` floats apart (odd: no two threads that
 * read neighbouring steps meet in a bank). Where all T steps fit, `rows` is T and h is read once; where not, the second
 * half of the work reads it again, from L2. */
static constexpr int OC_ATTEND_THREADS = 256, OC_ATTEND_LANES = 16, OC_ATTEND_TILE_BYTES = 48 * 1024;

typedef struct oc_attend_window {
    int batch, steps, hidden, heads, rows, row;
    float scale;
    const float *h; /* [T][B][H] */
} oc_attend_window;

static inline oc_attend_window oc_attend_window_make(oc_backend *b, const oc_attention_shape *s, const float *h)
{
    const size_t row = (size_t)(s->hidden | 1), row_bytes = row * sizeof(float);
    const size_t most = oc_cuda_of(b)->shared_max / row_bytes, tile = OC_ATTEND_TILE_BYTES / row_bytes;
    const int rows = most >= (size_t)s->steps ? s->steps : (int)tile;
    const float scale = 1.0f / sqrtf((float)(s->hidden / s->heads));
    return {s->batch, s->steps, s->hidden, s->heads, rows, (int)row, scale, h};
}

static inline size_t oc_attend_window_bytes(const oc_attend_window *w)
{
    return (size_t)w->rows * (size_t)w->row * sizeof(float);
}

/* Steps t0 … t0 + count - 1 of window blockIdx.x into tile; barriers on both sides. */
OC_DEVICE void oc_attend_load(const oc_attend_window &w, int t0, int count, float *tile)
{
    __syncthreads();
    for (int n = threadIdx.x; n < count * w.hidden; n += OC_ATTEND_THREADS) {
        const int i = n / w.hidden, k = n % w.hidden;
        tile[i * w.row + k] = w.h[((int64_t)(t0 + i) * w.batch + blockIdx.x) * w.hidden + k];
    }
    __syncthreads();
}

/* to[n][t] = v_n . h_t, one chain over ascending k, for the steps of the tile; by all threads of the block. */
OC_DEVICE void oc_attend_scores(const oc_attend_window &w, int t0, int count, const float *tile, const float *v,
                                float *to)
{
    for (int at = threadIdx.x; at < w.heads * count; at += (int)blockDim.x) {
        const int n = at / count, i = at % count;
        const float *x = tile + i * w.row, *y = v + (int64_t)n * w.hidden;
        float sum = 0.0f;
        for (int k = 0; k < w.hidden; k++) sum = fmaf(y[k], x[k], sum);
        to[(int64_t)n * w.steps + t0 + i] = sum;
    }
}

/* to[n] = sum over ascending t of weight[n][t] h_t, continued from tile to tile. */
OC_DEVICE void oc_attend_pool(const oc_attend_window &w, int t0, int count, const float *tile, const float *weight,
                              float *to)
{
    for (int at = threadIdx.x; at < w.heads * w.hidden; at += (int)blockDim.x) {
        const int n = at / w.hidden, k = at % w.hidden;
        const float *of = weight + (int64_t)n * w.steps + t0;
        float sum = t0 == 0 ? 0.0f : to[at];
        for (int i = 0; i < count; i++) sum = fmaf(of[i], tile[i * w.row + k], sum);
        to[at] = sum;
    }
}

/* The sum of lanes 0 … 15, halves first; lanes 16 … 31 bring 0. The order of kernels/cpu/body_rows.h. */
OC_DEVICE float oc_attend_lanes(float x)
{
    for (int bits = OC_ATTEND_LANES / 2; bits > 0; bits /= 2) x += __shfl_xor_sync(OC_WHOLE_WARP, x, bits);
    return __shfl_sync(OC_WHOLE_WARP, x, 0);
}

/* One warp: x = softmax(x scale), in place. A NaN does not survive in `largest` but in its own exp, and through the sum
 * in every element. */
OC_DEVICE void oc_attend_softmax(float *x, int count, float scale)
{
    const int lane = threadIdx.x % OC_WARP;
    float largest = -__uint_as_float(0x7f800000u), sum = 0.0f;
    for (int i = lane; i < count; i += OC_WARP) largest = x[i] * scale > largest ? x[i] * scale : largest;
    for (int bits = OC_WARP / 2; bits > 0; bits /= 2) {
        const float other = __shfl_xor_sync(OC_WHOLE_WARP, largest, bits);
        largest = other > largest ? other : largest;
    }
    for (int i = lane; i < count && lane < OC_ATTEND_LANES; i += OC_ATTEND_LANES) {
        const float e = oc_device_exp(x[i] * scale - largest);
        x[i] = e;
        sum += e;
    }
    const float inverse = 1.0f / oc_attend_lanes(sum);
    for (int i = lane; i < count && lane < OC_ATTEND_LANES; i += OC_ATTEND_LANES) x[i] = x[i] * inverse;
}

#endif
