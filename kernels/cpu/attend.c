/* attend.c - attention of the last query over all states of a window, absorbed form [Vaswani17 eq.1]: neither keys nor
 * values are ever built. Where things lie and the formulas: attend_layout.h.
 * Order:  every product over ascending k (or t); a row's softmax sums as body_rows.h says; so the same bits for any
 *         batch.
 * Bound:  2 * N * T * H products a window, as much as one window's share of a step; a transpose puts time into the
 *         lanes. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "kernels/cpu/attend_layout.h"
#include "kernels/cpu/ops_cpu.h"

static OC_MUST shape_check(const oc_attention_shape *s, const char *what)
{
    if (!(s->heads >= 1 && s->heads <= OC_HEADS_MAX && s->hidden >= 1 && s->hidden <= OC_HIDDEN_MAX && s->steps >= 1 &&
          s->steps <= OC_STEPS_MAX && s->batch >= 0 && s->hidden % s->heads == 0))
        return OC_FAIL(OC_ELIMIT, "%s: %d heads, %d hidden, %d steps, batch %d: a bound of kernels/ops.h is passed",
                       what, s->heads, s->hidden, s->steps, s->batch);
    return OC_OK;
}

size_t oc_cpu_attend_packed_bytes(oc_backend *b, const oc_attention_shape *s)
{
    (void)b;
    return oc_attend_layout_make(s).packed_count * sizeof(float);
}

oc_status oc_cpu_attend_pack(oc_backend *b, const oc_attention_shape *s, const oc_attention_weights *w,
                             oc_tensor packed)
{
    OC_TRY(shape_check(s, "attend_pack"));
    const oc_attend_layout l = oc_attend_layout_make(s);
    const size_t hidden = (size_t)s->hidden;
    const float *in_w = w->in_w.data, *in_b = w->in_b.data;
    float *base = packed.data;
    memset(base, 0, l.packed_count * sizeof *base);
    b->kernels->transpose(in_w, hidden, s->hidden, s->hidden, base + l.query, l.ld);
    for (size_t i = 0; i < hidden; i++)
        memcpy(base + l.key + i * l.ld, in_w + (hidden + i) * hidden, hidden * sizeof *base);
    b->kernels->transpose(in_w + 2 * hidden * hidden, hidden, s->hidden, s->hidden, base + l.value, l.ld);
    b->kernels->transpose(w->out_w.data, hidden, s->hidden, s->hidden, base + l.out, l.ld);
    memcpy(base + l.query_bias, in_b, hidden * sizeof *base);
    memcpy(base + l.value_bias, in_b + 2 * hidden, hidden * sizeof *base);
    memcpy(base + l.out_bias, w->out_b.data, hidden * sizeof *base);
    return OC_OK;
}

size_t oc_cpu_attend_reserve_bytes(oc_backend *b, const oc_attention_shape *s)
{
    (void)b;
    return oc_attend_layout_make(s).reserve_count * sizeof(float);
}

/* The absorbed queries of all windows: last [B,H] -> q, absorbed. */
static void query_all(oc_backend *b, const oc_attention_shape *s, const oc_attend_layout *l, const float *packed,
                      const float *last, float *reserve)
{
    const size_t hidden = (size_t)s->hidden, heads = (size_t)s->heads, depth = hidden / heads;
    const oc_product query = {.m = s->batch,
                              .n = s->hidden,
                              .k = s->hidden,
                              .a = last,
                              .a_row = hidden,
                              .a_k = 1,
                              .b = packed + l->query,
                              .b_k = l->ld,
                              .b_panel = OC_PANEL,
                              .c = reserve + l->q,
                              .c_row = hidden,
                              .start = packed + l->query_bias};
    b->kernels->product(&query);
    for (size_t n = 0; n < heads; n++) {
        const oc_product absorb = {.m = s->batch,
                                   .n = s->hidden,
                                   .k = (int)depth,
                                   .a = reserve + l->q + n * depth,
                                   .a_row = hidden,
                                   .a_k = 1,
                                   .b = packed + l->key + n * depth * l->ld,
                                   .b_k = l->ld,
                                   .b_panel = OC_PANEL,
                                   .c = reserve + l->absorbed + n * hidden,
                                   .c_row = heads * hidden};
        b->kernels->product(&absorb);
    }
}

/* One window: its map and its pooled states. h: states of the window, h_row apart; columns: the same, transposed. */
static void pool_one(oc_backend *b, const oc_attention_shape *s, const float *h, size_t h_row, const float *columns,
                     const float *absorbed, float *map, float *pooled)
{
    const size_t hidden = (size_t)s->hidden, steps = (size_t)s->steps, padded = oc_round_up(steps, 16);
    const float scale = 1.0f / sqrtf((float)(s->hidden / s->heads));
    const oc_product score = {.m = s->heads,
                              .n = s->steps,
                              .k = s->hidden,
                              .a = absorbed,
                              .a_row = hidden,
                              .a_k = 1,
                              .b = columns,
                              .b_k = padded,
                              .b_panel = OC_PANEL,
                              .c = map,
                              .c_row = steps};
    b->kernels->product(&score);
    for (size_t n = 0; n < (size_t)s->heads; n++) b->kernels->softmax_row(map + n * steps, s->steps, scale);
    const oc_product pool = {.m = s->heads,
                             .n = s->hidden,
                             .k = s->steps,
                             .a = map,
                             .a_row = steps,
                             .a_k = 1,
                             .b = h,
                             .b_k = h_row,
                             .b_panel = OC_PANEL,
                             .c = pooled,
                             .c_row = hidden};
    b->kernels->product(&pool);
}

/* Values and output projection of all windows: pooled -> joined -> y [B,H]. */
static void output_all(oc_backend *b, const oc_attention_shape *s, const oc_attend_layout *l, const float *packed,
                       float *reserve, float *y)
{
    const size_t hidden = (size_t)s->hidden, heads = (size_t)s->heads, depth = hidden / heads;
    const oc_product values = {.m = s->heads,
                               .n = (int)depth,
                               .k = s->hidden,
                               .a = reserve + l->pooled,
                               .a_row = hidden,
                               .a_k = 1,
                               .b = packed + l->value,
                               .b_k = l->ld,
                               .b_panel = OC_PANEL,
                               .c = reserve + l->joined,
                               .c_row = depth,
                               .start = packed + l->value_bias,
                               .apart = depth};
    if (s->batch == 1) b->kernels->product_apart(&values); /* heads are the rows: the same chains */
    for (size_t n = 0; n < heads && s->batch > 1; n++) {
        const oc_product value = {.m = s->batch,
                                  .n = (int)depth,
                                  .k = s->hidden,
                                  .a = reserve + l->pooled + n * hidden,
                                  .a_row = heads * hidden,
                                  .a_k = 1,
                                  .b = packed + l->value + n * depth,
                                  .b_k = l->ld,
                                  .b_panel = OC_PANEL,
                                  .c = reserve + l->joined + n * depth,
                                  .c_row = hidden,
                                  .start = packed + l->value_bias + n * depth};
        b->kernels->product(&value);
    }
    const oc_product out = {.m = s->batch,
                            .n = s->hidden,
                            .k = s->hidden,
                            .a = reserve + l->joined,
                            .a_row = hidden,
                            .a_k = 1,
                            .b = packed + l->out,
                            .b_k = l->ld,
                            .b_panel = OC_PANEL,
                            .c = y,
                            .c_row = hidden,
                            .start = packed + l->out_bias};
    b->kernels->product(&out);
}

oc_status oc_cpu_attend_forward(oc_backend *b, const oc_attention_shape *s, oc_tensor packed, oc_tensor h, oc_tensor y,
                                oc_tensor map, oc_tensor reserve)
{
    OC_TRY(shape_check(s, "attend_forward"));
    const oc_attend_layout l = oc_attend_layout_make(s);
    const size_t hidden = (size_t)s->hidden, rows = (size_t)s->batch, heads = (size_t)s->heads,
                 steps = (size_t)s->steps;
    const float *states = h.data;
    float *base = reserve.data, *maps = map.data;
    assert(oc_tensor_count(h) == (int64_t)steps * s->batch * s->hidden &&
           oc_tensor_count(y) == (int64_t)s->batch * s->hidden);
    assert(!maps || oc_tensor_count(map) == (int64_t)s->batch * s->heads * s->steps);
    if (s->batch == 0) return OC_OK;
    query_all(b, s, &l, packed.data, states + (steps - 1) * rows * hidden, base);
    for (size_t i = 0; i < rows; i++) {
        const float *window = states + i * hidden;
        b->kernels->transpose(window, rows * hidden, s->steps, s->hidden, base + l.columns, oc_round_up(steps, 16));
        pool_one(b, s, window, rows * hidden, base + l.columns, base + l.absorbed + i * heads * hidden,
                 maps ? maps + i * heads * steps : base + l.map, base + l.pooled + i * heads * hidden);
    }
    output_all(b, s, &l, packed.data, base, y.data);
    return OC_OK;
}

void oc_cpu_attend_windows(oc_backend *b, const oc_attention_shape *s, const float *packed, const float *last,
                           const oc_attend_window *windows, float *y, float *reserve)
{
    const oc_attend_layout l = oc_attend_layout_make(s);
    const size_t hidden = (size_t)s->hidden, each = (size_t)s->heads * hidden;
    query_all(b, s, &l, packed, last, reserve);
    for (size_t i = 0; i < (size_t)s->batch; i++)
        pool_one(b, s, windows[i].h, hidden, windows[i].columns, reserve + l.absorbed + i * each, reserve + l.map,
                 reserve + l.pooled + i * each);
    output_all(b, s, &l, packed, reserve, y);
}
