/* attend_layout.h - where things lie in `packed` and `reserve` of the CPU's attention: the agreement between attend.c
 * and attend_backward.c. Offsets count floats; every part begins at a multiple of 16. N heads of D = H / N, ld = H
 * rounded up to 16; rows of `packed` have ld numbers, the last of them 0.
 *   packed    query [H][ld]   W_q transposed: query[k][out]        key [H][ld]     W_k as it is: key[out][k]
 *             value [H][ld]   W_v transposed                       out [H][ld]     W_o transposed
 *             query_bias, value_bias, out_bias [ld]                (the key's bias shifts all scores of a head alike:
 *             no effect)
 *   reserve   q [B][H]  q = W_q h_last + b_q                       absorbed [B][N][H]  u_n = sum_d q_nd W_k[nD + d]
 *             pooled [B][N][H]  p_n = sum_t map_nt h_t             joined [B][H]  o_nd = W_v[nD + d] . p_n + b_v
 *             map [N][Tp], columns [H][Tp]: scratch of one window, Tp = T rounded up to 16
 *             djoined [B][H], dpooled [B][N][H], turned [H][H] (W_k transposed, head by head): of attend_backward,
 *             which also puts the gradients of absorbed into pooled
 * scores_nt = (u_n . h_t) / sqrt(D), map = softmax over t, y = W_o joined + b_o. */
#ifndef OC_KERNELS_CPU_ATTEND_LAYOUT_H
#define OC_KERNELS_CPU_ATTEND_LAYOUT_H

#include "kernels/cpu/backend_cpu.h"

typedef struct oc_attend_layout {
    size_t ld, query, key, value, out, query_bias, value_bias, out_bias, packed_count;
    size_t q, absorbed, pooled, joined, map, columns, djoined, dpooled, turned, reserve_count;
} oc_attend_layout;

static inline oc_attend_layout oc_attend_layout_make(const oc_attention_shape *s)
{
    oc_attend_layout l = {.ld = oc_round_up((size_t)s->hidden, 16)};
    const size_t square = (size_t)s->hidden * l.ld, rows = (size_t)s->batch, hidden = (size_t)s->hidden;
    const size_t heads = (size_t)s->heads, steps = oc_round_up((size_t)s->steps, 16);
    l.key = l.query + square;
    l.value = l.key + square;
    l.out = l.value + square;
    l.query_bias = l.out + square;
    l.value_bias = l.query_bias + l.ld;
    l.out_bias = l.value_bias + l.ld;
    l.packed_count = l.out_bias + l.ld;
    l.absorbed = l.q + oc_round_up(rows * hidden, 16);
    l.pooled = l.absorbed + oc_round_up(rows * heads * hidden, 16);
    l.joined = l.pooled + oc_round_up(rows * heads * hidden, 16);
    l.map = l.joined + oc_round_up(rows * hidden, 16);
    l.columns = l.map + heads * steps;
    l.djoined = l.columns + hidden * steps;
    l.dpooled = l.djoined + oc_round_up(rows * hidden, 16);
    l.turned = l.dpooled + oc_round_up(rows * heads * hidden, 16);
    l.reserve_count = l.turned + oc_round_up(hidden * hidden, 16);
    return l;
}

/* A window's states and their transpose. */
typedef struct oc_attend_window {
    const float *h, *columns;
} oc_attend_window; /* [T][H], [H][Tp] */
/* attend_forward of s->batch windows that lie anywhere; last [B,H]: their last states side by side. -> y [B,H] */
void oc_cpu_attend_windows(oc_backend *b, const oc_attention_shape *s, const float *packed, const float *last,
                           const oc_attend_window *windows, float *y, float *reserve);

#endif
