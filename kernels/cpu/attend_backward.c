/* attend_backward.c - gradients of attention of the last query, absorbed form; names and formulas: attend_layout.h.
 *     dW_o = dy' joined      djoined = dy W_o      dW_v,n = djoined_n' pooled_n      dpooled_n = djoined_n W_v,n
 *     dmap = dpooled h'      ds = map (dmap - sum map dmap) / sqrt(D)                du_n = sum_t ds_nt h_t
 *     dh_t = sum_n map_nt dpooled_n + sum_n ds_nt u_n        dW_k,n = q_n' du_n      dq_n = du_n W_k,n'
 *     dW_q = dq' h_last      dh_last += dq W_q               the key's bias has no effect: 0
 * Sums over windows ascend; everything is the ordered product. Bound: as forward, about 1 % of a training step. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "kernels/cpu/attend_layout.h"
#include "kernels/cpu/ops_cpu.h"

typedef struct job {
    const oc_cpu_kernels *k;
    oc_attend_layout l;
    size_t rows, hidden, heads, depth, steps;
    const float *in_w, *out_w, *h, *map;
    float *reserve, *in_dw, *in_db, *dh;
} job;

/* c [m][n] (+)= a . b with a(i,k) = a[i][k], rows a_row apart */
static void plain(const job *j, size_t m, size_t n, size_t k, const float *a, size_t a_row, const float *b, size_t b_k,
                  float *c, size_t c_row, bool add)
{
    const oc_product p = {.m = (int)m,
                          .n = (int)n,
                          .k = (int)k,
                          .a = a,
                          .a_row = a_row,
                          .a_k = 1,
                          .b = b,
                          .b_k = b_k,
                          .b_panel = OC_PANEL,
                          .c = c,
                          .c_row = c_row,
                          .add = add};
    j->k->product(&p);
}

/* c [m][n] (+)= a' . b with a(i,k) = a[k][i], rows a_k apart */
static void turned(const job *j, size_t m, size_t n, size_t k, const float *a, size_t a_k, const float *b, size_t b_k,
                   float *c, size_t c_row, bool add)
{
    const oc_product p = {.m = (int)m,
                          .n = (int)n,
                          .k = (int)k,
                          .a = a,
                          .a_row = 1,
                          .a_k = a_k,
                          .b = b,
                          .b_k = b_k,
                          .b_panel = OC_PANEL,
                          .c = c,
                          .c_row = c_row,
                          .add = add};
    j->k->product(&p);
}

static void column_sums(const job *j, const float *x, float *sums)
{
    static const float one = 1.0f;
    turned(j, 1, j->hidden, j->rows, &one, 0, x, j->hidden, sums, j->hidden, false);
}

/* dy -> djoined, dpooled and the gradients of the values and of the output projection */
static void output_backward(const job *j, const float *dy, float *out_dw, float *out_db)
{
    const size_t H = j->hidden, wide = j->heads * H, value = 2 * H * H;
    float *djoined = j->reserve + j->l.djoined, *dpooled = j->reserve + j->l.dpooled;
    turned(j, H, H, j->rows, dy, H, j->reserve + j->l.joined, H, out_dw, H, false);
    column_sums(j, dy, out_db);
    plain(j, j->rows, H, H, dy, H, j->out_w, H, djoined, H, false);
    column_sums(j, djoined, j->in_db + 2 * H);
    for (size_t n = 0; n < j->heads; n++) {
        const size_t first = n * j->depth;
        turned(j, j->depth, H, j->rows, djoined + first, H, j->reserve + j->l.pooled + n * H, wide,
               j->in_dw + value + first * H, H, false);
        plain(j, j->rows, H, j->depth, djoined + first, H, j->in_w + value + first * H, H, dpooled + n * H, wide,
              false);
    }
}

/* One window: dh of all its steps, and du in the place of pooled. */
static void window_backward(const job *j, size_t b, float scale)
{
    const size_t H = j->hidden, T = j->steps, N = j->heads, row = j->rows * H, padded = oc_round_up(T, 16);
    const float *h = j->h + b * H, *map = j->map + b * N * T, *absorbed = j->reserve + j->l.absorbed + b * N * H;
    const float *dpooled = j->reserve + j->l.dpooled + b * N * H;
    float *columns = j->reserve + j->l.columns, *dmap = j->reserve + j->l.map;
    j->k->transpose(h, row, (int)T, (int)H, columns, padded);
    plain(j, N, T, H, dpooled, H, columns, padded, dmap, T, false);
    for (size_t n = 0; n < N; n++) j->k->softmax_gradient(map + n * T, dmap + n * T, (int)T, scale);
    plain(j, N, H, T, dmap, T, h, row, j->reserve + j->l.pooled + b * N * H, H, false);
    turned(j, T, H, N, map, T, dpooled, H, j->dh + b * H, row, false);
    turned(j, T, H, N, dmap, T, absorbed, H, j->dh + b * H, row, true);
}

/* du -> gradients of the query's and the key's weights, and the last state's share through the query */
static void query_backward(const job *j)
{
    const size_t H = j->hidden, wide = j->heads * H, last = (j->steps - 1) * j->rows * H;
    const float *du = j->reserve + j->l.pooled, *q = j->reserve + j->l.q, *key = j->in_w + H * H;
    float *dq = j->reserve + j->l.djoined, *key_turned = j->reserve + j->l.turned;
    for (size_t n = 0; n < j->heads; n++) {
        const size_t first = n * j->depth;
        turned(j, j->depth, H, j->rows, q + first, H, du + n * H, wide, j->in_dw + (H + first) * H, H, false);
        j->k->transpose(key + first * H, H, (int)j->depth, (int)H, key_turned, j->depth);
        plain(j, j->rows, j->depth, H, du + n * H, wide, key_turned, j->depth, dq + first, H, false);
    }
    turned(j, H, H, j->rows, dq, H, j->h + last, H, j->in_dw, H, false);
    column_sums(j, dq, j->in_db);
    memset(j->in_db + H, 0, H * sizeof(float));
    plain(j, j->rows, H, H, dq, H, j->in_w, H, j->dh + last, H, true);
}

oc_status oc_cpu_attend_backward(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w, oc_tensor h,
                                 oc_tensor map, oc_tensor reserve, oc_tensor dy, const oc_attention_weights *dw,
                                 oc_tensor dh)
{
    const job j = {.k = b->kernels,
                   .l = oc_attend_layout_make(s),
                   .rows = (size_t)s->batch,
                   .hidden = (size_t)s->hidden,
                   .heads = (size_t)s->heads,
                   .depth = (size_t)(s->hidden / s->heads),
                   .steps = (size_t)s->steps,
                   .in_w = w->in_w.data,
                   .out_w = w->out_w.data,
                   .h = h.data,
                   .map = map.data,
                   .reserve = reserve.data,
                   .in_dw = dw->in_w.data,
                   .in_db = dw->in_b.data,
                   .dh = dh.data};
    assert(oc_tensor_count(dy) == (int64_t)s->batch * s->hidden &&
           oc_tensor_count(dh) == (int64_t)s->steps * s->batch * s->hidden);
    assert(oc_tensor_count(map) == (int64_t)s->batch * s->heads * s->steps);
    if (s->batch == 0) return OC_OK;
    output_backward(&j, dy.data, dw->out_w.data, dw->out_b.data);
    for (size_t i = 0; i < j.rows; i++) window_backward(&j, i, 1.0f / sqrtf((float)j.depth));
    query_backward(&j);
    return OC_OK;
}
