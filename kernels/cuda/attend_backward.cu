/* attend_backward.cu - gradients of attention of the last query, absorbed form; formulas:
 * kernels/cpu/attend_backward.c. Strategy: weights' gradients are products over the windows, split where the batch is
 * large; between them one block a window takes dmap, ds, du and dh while h stands in shared memory, so h is read once
 * and dh written once. Order: the CPU's, its bits, up to 511 windows. No atomics. Bound: memory, 8 T H bytes a window.
 * Not run on a GPU. */
#include <math.h>
#include "kernels/cuda/attend_layout.cuh"

/* ---------------------------------------------------------------- a window */
typedef struct window_gradient {
    oc_attend_window w;
    const float *map, *dpooled, *absorbed;
    float *dscores, *du, *dh;
} window_gradient;

/* d = scale map (d - sum map d), by one warp. */
OC_DEVICE void softmax_gradient(const float *map, float *d, int count, float scale)
{
    const int lane = threadIdx.x % OC_WARP;
    float sum = 0.0f;
    for (int i = lane; i < count && lane < OC_ATTEND_LANES; i += OC_ATTEND_LANES) sum = fmaf(map[i], d[i], sum);
    const float mean = oc_attend_lanes(sum);
    for (int i = lane; i < count && lane < OC_ATTEND_LANES; i += OC_ATTEND_LANES) d[i] = scale * map[i] * (d[i] - mean);
}

/* dh_t = sum_n map_nt dpooled_n + sum_n ds_nt u_n */
OC_DEVICE void states_gradient(const window_gradient &g, const float *map, const float *ds, const float *dpooled,
                               const float *absorbed)
{
    const oc_attend_window &w = g.w;
    for (int64_t at = threadIdx.x; at < (int64_t)w.steps * w.hidden; at += OC_ATTEND_THREADS) {
        const int64_t t = at / w.hidden, k = at % w.hidden;
        float sum = 0.0f;
        for (int64_t n = 0; n < w.heads; n++) sum = fmaf(map[n * w.steps + t], dpooled[n * w.hidden + k], sum);
        for (int64_t n = 0; n < w.heads; n++) sum = fmaf(ds[n * w.steps + t], absorbed[n * w.hidden + k], sum);
        g.dh[(t * w.batch + blockIdx.x) * w.hidden + k] = sum;
    }
}

static __global__ void __launch_bounds__(OC_ATTEND_THREADS) attend_window_gradient(window_gradient g)
{
    OC_SHARED_DYNAMIC(float, tile);
    const oc_attend_window &w = g.w;
    const int64_t wide = (int64_t)w.heads * w.hidden, scores = (int64_t)w.heads * w.steps;
    const float *map = g.map + blockIdx.x * scores, *dpooled = g.dpooled + blockIdx.x * wide;
    float *ds = g.dscores + blockIdx.x * scores;
    for (int t0 = 0; t0 < w.steps; t0 += w.rows) {
        const int count = w.steps - t0 < w.rows ? w.steps - t0 : w.rows;
        oc_attend_load(w, t0, count, tile);
        oc_attend_scores(w, t0, count, tile, dpooled, ds);
    }
    __syncthreads();
    for (int n = threadIdx.x / OC_WARP; n < w.heads; n += OC_ATTEND_THREADS / OC_WARP)
        softmax_gradient(map + (int64_t)n * w.steps, ds + (int64_t)n * w.steps, w.steps, w.scale);
    __syncthreads();
    for (int t0 = 0; t0 < w.steps; t0 += w.rows) {
        const int count = w.steps - t0 < w.rows ? w.steps - t0 : w.rows;
        if (w.rows < w.steps) oc_attend_load(w, t0, count, tile);
        oc_attend_pool(w, t0, count, tile, ds, g.du + blockIdx.x * wide);
    }
    states_gradient(g, map, ds, dpooled, g.absorbed + blockIdx.x * wide);
}

/* ---------------------------------------------------------------- all windows */
typedef struct job {
    oc_backend *b;
    oc_cuda_attend_layout l;
    int rows, hidden, heads, depth;
    const float *in_w, *out_w, *h_last;
    float *reserve, *in_dw, *in_db, *dh_last;
} job;

/* c_n [m][columns] = a_n' . b_n over all windows, n < count; rows of a are a_k apart, of b b_k. */
static OC_MUST weights_gradient(const job *j, int m, int count, const float *a, int64_t a_k, const float *x,
                                int64_t b_k, int64_t b_next, float *c)
{
    oc_cuda_product p = {};
    p.m = m;
    p.n = j->hidden;
    p.k = j->rows;
    p.a = a;
    p.a_row = 1;
    p.a_k = a_k;
    p.b = x;
    p.b_k = b_k;
    p.b_column = 1;
    p.c = c;
    p.c_row = j->hidden;
    p.splits = oc_cuda_attend_splits(j->rows, m, j->hidden, count);
    p.parts = j->reserve + j->l.parts;
    p.batch = count;
    p.a_next = m;
    p.b_next = b_next;
    p.c_next = (int64_t)m * j->hidden;
    OC_TRY(oc_cuda_product_run(j->b, &p));
    return OC_OK;
}

/* c (+)= a . w over a's columns, w [k][H] */
static OC_MUST states_product(const job *j, const float *a, const float *w, float *c, bool add)
{
    oc_cuda_product p = {};
    p.m = j->rows;
    p.n = j->hidden;
    p.k = j->hidden;
    p.a = a;
    p.a_row = j->hidden;
    p.a_k = 1;
    p.b = w;
    p.b_k = j->hidden;
    p.b_column = 1;
    p.c = c;
    p.c_row = j->hidden;
    p.add = add;
    OC_TRY(oc_cuda_product_run(j->b, &p));
    return OC_OK;
}

/* dpooled_n = djoined_n W_v,n (down) or dq_n = du_n W_k,n' (back): between [B][H] and [B][N][H], head by head. */
static OC_MUST heads_product(const job *j, bool down, const float *a, const float *w, float *c)
{
    const int64_t wide = (int64_t)j->heads * j->hidden;
    oc_cuda_product p = {};
    p.m = j->rows;
    p.n = down ? j->hidden : j->depth;
    p.k = down ? j->depth : j->hidden;
    p.a = a;
    p.a_row = down ? j->hidden : wide;
    p.a_k = 1;
    p.b = w;
    p.b_k = down ? j->hidden : 1;
    p.b_column = down ? 1 : j->hidden;
    p.c = c;
    p.c_row = down ? wide : j->hidden;
    p.batch = j->heads;
    p.a_next = down ? j->depth : j->hidden;
    p.b_next = (int64_t)j->depth * j->hidden;
    p.c_next = down ? j->hidden : j->depth;
    OC_TRY(oc_cuda_product_run(j->b, &p));
    return OC_OK;
}

static OC_MUST bias_gradient(const job *j, const float *x, float *sums)
{
    OC_TRY(oc_cuda_column_sums(j->b, x, j->rows, j->hidden, oc_cuda_attend_splits(j->rows, j->hidden, j->hidden, 1),
                               j->reserve + j->l.parts, sums, NULL));
    return OC_OK;
}

static OC_MUST output_backward(const job *j, const float *dy, float *out_dw, float *out_db)
{
    const int64_t H = j->hidden, value = 2 * H * H;
    float *djoined = j->reserve + j->l.djoined;
    OC_TRY(weights_gradient(j, j->hidden, 1, dy, H, j->reserve + j->l.joined, H, 0, out_dw));
    OC_TRY(bias_gradient(j, dy, out_db));
    OC_TRY(states_product(j, dy, j->out_w, djoined, false));
    OC_TRY(bias_gradient(j, djoined, j->in_db + 2 * H));
    OC_TRY(weights_gradient(j, j->depth, j->heads, djoined, H, j->reserve + j->l.pooled, j->heads * H, H,
                            j->in_dw + value));
    OC_TRY(heads_product(j, true, djoined, j->in_w + value, j->reserve + j->l.dpooled));
    return OC_OK;
}

static OC_MUST query_backward(const job *j)
{
    const int64_t H = j->hidden;
    const float *du = j->reserve + j->l.pooled;
    float *dq = j->reserve + j->l.djoined;
    OC_TRY(weights_gradient(j, j->depth, j->heads, j->reserve + j->l.q, H, du, j->heads * H, H, j->in_dw + H * H));
    OC_TRY(heads_product(j, false, du, j->in_w + H * H, dq));
    OC_TRY(weights_gradient(j, j->hidden, 1, dq, H, j->h_last, H, 0, j->in_dw));
    OC_TRY(bias_gradient(j, dq, j->in_db));
    OC_TRY(oc_cuda_result(j->b, cudaMemsetAsync(j->in_db + H, 0, (size_t)H * sizeof(float), oc_cuda_of(j->b)->stream),
                          "clearing memory"));
    OC_TRY(states_product(j, dq, j->in_w, j->dh_last, true));
    return OC_OK;
}

oc_status oc_cuda_attend_backward(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                                  oc_tensor h, oc_tensor map, oc_tensor reserve, oc_tensor dy,
                                  const oc_attention_weights *dw, oc_tensor dh)
{
    const oc_cuda_attend_layout l = oc_cuda_attend_layout_make(s);
    const int64_t state = (int64_t)s->batch * s->hidden, last = (s->steps - 1) * state;
    float *kept = (float *)reserve.data;
    const job j = {b,
                   l,
                   s->batch,
                   s->hidden,
                   s->heads,
                   s->hidden / s->heads,
                   (const float *)w->in_w.data,
                   (const float *)w->out_w.data,
                   (const float *)h.data + last,
                   kept,
                   (float *)dw->in_w.data,
                   (float *)dw->in_b.data,
                   (float *)dh.data + last};
    assert(oc_cuda_count(dy) == state && oc_cuda_count(dh) == s->steps * state && map.data);
    assert(oc_cuda_count(map) == (int64_t)s->batch * s->heads * s->steps);
    if (s->batch == 0) return OC_OK;
    OC_TRY(output_backward(&j, (const float *)dy.data, (float *)dw->out_w.data, (float *)dw->out_b.data));
    const window_gradient g = {oc_attend_window_make(b, s, (const float *)h.data),
                               (const float *)map.data,
                               kept + l.dpooled,
                               kept + l.absorbed,
                               kept + l.scores,
                               kept + l.pooled,
                               (float *)dh.data};
    OC_LAUNCH(b, attend_window_gradient, (unsigned)s->batch, OC_ATTEND_THREADS, oc_attend_window_bytes(&g.w), g);
    OC_TRY(query_backward(&j));
    return OC_OK;
}
