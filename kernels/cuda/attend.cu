/* attend.cu - attention of the last query over all states of a window, absorbed form [Vaswani17 eq.1], forward.
 * Strategy: queries and outputs of all windows are products (product.cu); between them one block a window takes scores,
 * softmax and pooled states while h stands in shared memory (attend_layout.cuh), so h, which is all the traffic, is
 * read once where a window fits (T 100: up to H 580).
 * Order: as on the CPU, its bits. Bound: memory, 4 T H bytes a window; 2 N products for each number read. Not run on a
 * GPU. */
#include <math.h>
#include "kernels/cuda/attend_layout.cuh"
#include "kernels/cuda/random.cuh"

static OC_MUST shape_check(const oc_attention_shape *s, const char *what)
{
    if (!(s->heads >= 1 && s->heads <= OC_HEADS_MAX && s->hidden >= 1 && s->hidden <= OC_HIDDEN_MAX && s->steps >= 1 &&
          s->steps <= OC_STEPS_MAX && s->batch >= 0 && s->batch <= 1 << 20 && s->hidden % s->heads == 0))
        return OC_FAIL(OC_ELIMIT, "%s: %d heads, %d hidden, %d steps, batch %d: a bound of kernels/ops.h is passed",
                       what, s->heads, s->hidden, s->steps, s->batch);
    return OC_OK;
}

size_t oc_cuda_attend_packed_bytes(oc_backend *b, const oc_attention_shape *s)
{
    (void)b;
    return oc_cuda_attend_layout_make(s).packed_count * sizeof(float);
}

static OC_MUST copy_part(oc_backend *b, oc_tensor packed, size_t at, oc_tensor from)
{
    float *base = (float *)packed.data;
    OC_TRY(oc_cuda_result(b,
                          cudaMemcpyAsync(base + at, from.data, (size_t)oc_cuda_count(from) * sizeof(float),
                                          cudaMemcpyDeviceToDevice, oc_cuda_of(b)->stream),
                          "a copy"));
    return OC_OK;
}

oc_status oc_cuda_attend_pack(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                              oc_tensor packed)
{
    OC_TRY(shape_check(s, "attend_pack"));
    const oc_cuda_attend_layout l = oc_cuda_attend_layout_make(s);
    assert(oc_cuda_count(w->in_w) == 3 * (int64_t)s->hidden * s->hidden && oc_cuda_count(w->out_b) == s->hidden);
    OC_TRY(copy_part(b, packed, l.in_w, w->in_w));
    OC_TRY(copy_part(b, packed, l.in_b, w->in_b));
    OC_TRY(copy_part(b, packed, l.out_w, w->out_w));
    OC_TRY(copy_part(b, packed, l.out_b, w->out_b));
    return OC_OK;
}

size_t oc_cuda_attend_reserve_bytes(oc_backend *b, const oc_attention_shape *s)
{
    (void)b;
    return oc_cuda_attend_layout_make(s).reserve_count * sizeof(float);
}

/* ---------------------------------------------------------------- a window */
static __global__ void __launch_bounds__(OC_ATTEND_THREADS)
    attend_window(oc_attend_window w, const float *absorbed, float *maps, float *pooled)
{
    OC_SHARED_DYNAMIC(float, tile);
    const int64_t wide = (int64_t)w.heads * w.hidden;
    float *map = maps + (int64_t)blockIdx.x * w.heads * w.steps;
    for (int t0 = 0; t0 < w.steps; t0 += w.rows) {
        const int count = w.steps - t0 < w.rows ? w.steps - t0 : w.rows;
        oc_attend_load(w, t0, count, tile);
        oc_attend_scores(w, t0, count, tile, absorbed + blockIdx.x * wide, map);
    }
    __syncthreads();
    for (int n = threadIdx.x / OC_WARP; n < w.heads; n += OC_ATTEND_THREADS / OC_WARP)
        oc_attend_softmax(map + (int64_t)n * w.steps, w.steps, w.scale);
    __syncthreads();
    for (int t0 = 0; t0 < w.steps; t0 += w.rows) {
        const int count = w.steps - t0 < w.rows ? w.steps - t0 : w.rows;
        if (w.rows < w.steps) oc_attend_load(w, t0, count, tile);
        oc_attend_pool(w, t0, count, tile, map, pooled + blockIdx.x * wide);
    }
}

/* ---------------------------------------------------------------- all windows */
/* c [B][n] from start: a [B][k], rows a_row apart, times w [n][k]' */
static oc_cuda_product forward_product(int rows, int n, int k, const float *a, int64_t a_row, const float *w, float *c,
                                       int64_t c_row)
{
    oc_cuda_product p = {};
    p.m = rows;
    p.n = n;
    p.k = k;
    p.a = a;
    p.a_row = a_row;
    p.a_k = 1;
    p.b = w;
    p.b_k = 1;
    p.b_column = k;
    p.c = c;
    p.c_row = c_row;
    return p;
}

/* Last states -> q -> absorbed, head by head: absorbed_n = q_n W_k,n, where W_k,n is [D][H]. */
static OC_MUST query_all(oc_backend *b, const oc_attention_shape *s, const oc_cuda_attend_layout *l,
                         const float *packed, const float *last, float *reserve)
{
    const int hidden = s->hidden, depth = hidden / s->heads;
    oc_cuda_product query =
        forward_product(s->batch, hidden, hidden, last, hidden, packed + l->in_w, reserve + l->q, hidden);
    query.start = packed + l->in_b;
    OC_TRY(oc_cuda_product_run(b, &query));
    oc_cuda_product absorb = forward_product(s->batch, hidden, depth, reserve + l->q, hidden,
                                             packed + l->in_w + (size_t)hidden * (size_t)hidden, reserve + l->absorbed,
                                             (int64_t)s->heads * hidden);
    absorb.b_k = hidden;
    absorb.b_column = 1;
    absorb.batch = s->heads;
    absorb.a_next = depth;
    absorb.b_next = (int64_t)depth * hidden;
    absorb.c_next = hidden;
    OC_TRY(oc_cuda_product_run(b, &absorb));
    return OC_OK;
}

/* Values head by head and the output projection: pooled -> joined -> y. */
static OC_MUST output_all(oc_backend *b, const oc_attention_shape *s, const oc_cuda_attend_layout *l,
                          const float *packed, float *reserve, float *y)
{
    const int hidden = s->hidden, depth = hidden / s->heads;
    oc_cuda_product value =
        forward_product(s->batch, depth, hidden, reserve + l->pooled, (int64_t)s->heads * hidden,
                        packed + l->in_w + 2 * (size_t)hidden * (size_t)hidden, reserve + l->joined, hidden);
    value.start = packed + l->in_b + 2 * (size_t)hidden;
    value.batch = s->heads;
    value.a_next = hidden;
    value.b_next = (int64_t)depth * hidden;
    value.c_next = value.start_next = depth;
    OC_TRY(oc_cuda_product_run(b, &value));
    oc_cuda_product out =
        forward_product(s->batch, hidden, hidden, reserve + l->joined, hidden, packed + l->out_w, y, hidden);
    out.start = packed + l->out_b;
    OC_TRY(oc_cuda_product_run(b, &out));
    return OC_OK;
}

oc_status oc_cuda_attend_forward(oc_backend *b, const oc_attention_shape *s, oc_tensor packed, oc_tensor h, oc_tensor y,
                                 oc_tensor map, oc_tensor reserve)
{
    OC_TRY(shape_check(s, "attend_forward"));
    const oc_cuda_attend_layout l = oc_cuda_attend_layout_make(s);
    const float *states = (const float *)h.data, *weights = (const float *)packed.data;
    float *kept = (float *)reserve.data, *maps = map.data ? (float *)map.data : kept + l.scores;
    const int64_t state = (int64_t)s->batch * s->hidden;
    assert(oc_cuda_count(h) == s->steps * state && oc_cuda_count(y) == state);
    assert(!map.data || oc_cuda_count(map) == (int64_t)s->batch * s->heads * s->steps);
    if (s->batch == 0) return OC_OK;
    const oc_attend_window w = oc_attend_window_make(b, s, states);
    OC_TRY(query_all(b, s, &l, weights, states + (s->steps - 1) * state, kept));
    OC_LAUNCH(b, attend_window, (unsigned)s->batch, OC_ATTEND_THREADS, oc_attend_window_bytes(&w), w,
              (const float *)(kept + l.absorbed), maps, kept + l.pooled);
    OC_TRY(output_all(b, s, &l, weights, kept, (float *)y.data));
    return OC_OK;
}

/* ---------------------------------------------------------------- dropout, in place */
static __global__ void dropout(oc_device_dropout d, int64_t count, int64_t batch, int64_t columns, float *x)
{
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        const int64_t row = i / columns;
        x[i] *= oc_device_dropout_factor(d, row % batch, row / batch, columns, i % columns);
    }
}

oc_status oc_cuda_dropout(oc_backend *b, const oc_dropout *d, oc_tensor x)
{
    const bool timed = x.dims[2] > 1;
    const int64_t batch = timed ? x.dims[1] : x.dims[0], columns = timed ? x.dims[2] : x.dims[1];
    const int64_t times = timed ? x.dims[0] : 1;
    if (!(d->p >= 0.0f && d->p < 1.0f)) return OC_FAIL(OC_ECONFIG, "dropout is %g, not in [0, 1)", (double)d->p);
    if (!((uint64_t)times * ((uint64_t)(columns + 3) / 4) <= 1u << 22))
        return OC_FAIL(OC_ELIMIT, "dropout: %lld steps of %lld numbers, over 2^24 a sample", (long long)times,
                       (long long)columns);
    if (batch == 0 || !(d->p > 0.0f)) return OC_OK;
    OC_LAUNCH(b, dropout, oc_flat_grid(b, oc_cuda_count(x)), OC_FLAT_THREADS, 0, oc_device_dropout_of(d),
              oc_cuda_count(x), batch, columns, (float *)x.data);
    return OC_OK;
}
