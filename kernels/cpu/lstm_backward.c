/* lstm_backward.c - gradients of an LSTM stack from what lstm_forward left in reserve (lstm_layout.h).
 * Strategy: per layer, from the top, a scan over descending time turns gates into gradients of pre-activations in
 * place:
 *     dh_t = dy_t + dgates_{t+1} . W_hh       (one product a step, k = 4H)
 * then everything else is a large product over rows (t, b): dW_ih = dgates' . in, dW_hh = dgates' . h_before, and
 * dx = dgates . W_ih, which takes the place of dy for the layer below. Rows are taken in blocks that stay in L2, in
 * ascending order, so every sum is one chain over t outer, b inner.
 * Bound: arithmetic of the products; shares of the peak in docs/performance.md. */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/lstm_layout.h"
#include "kernels/cpu/ops_cpu.h"

enum { BLOCK_ROWS = 128 }; /* rows a block of the large products: 128 x 4H x 4 B = 128 KiB at H = 64 */

typedef struct layer {
    const oc_cpu_kernels *k;
    int batch, steps, inputs, hidden, number;
    const float *back_ih, *back_hh, *in, *out, *cells;
    float *gates, *dy, *dh, *dc; /* [T,B,4H], [T,B,H], [B,H], [B,H] */
} layer;

static void scan(const layer *l)
{
    const size_t rows = (size_t)l->batch, hidden = (size_t)l->hidden, state = rows * hidden;
    memset(l->dc, 0, state * sizeof *l->dc);
    for (int t = l->steps - 1; t >= 0; t--) {
        const bool last = t == l->steps - 1;
        float *gates = l->gates + (size_t)t * 4 * state;
        if (!last) {
            const oc_product p = {.m = l->batch,
                                  .n = l->hidden,
                                  .k = 4 * l->hidden,
                                  .a = gates + 4 * state,
                                  .a_row = 4 * hidden,
                                  .a_k = 1,
                                  .b = l->back_hh,
                                  .b_k = hidden,
                                  .b_panel = OC_PANEL,
                                  .c = l->dh,
                                  .c_row = hidden};
            l->k->product(&p);
        }
        const oc_cell_gradient g = {.rows = l->batch,
                                    .hidden = l->hidden,
                                    .gates = gates,
                                    .cells = l->cells + (size_t)t * state,
                                    .before = t > 0 ? l->cells + (size_t)(t - 1) * state : NULL,
                                    .dy = l->dy + (size_t)t * state,
                                    .dh = last ? NULL : l->dh,
                                    .dc = l->dc};
        l->k->cell_gradient(&g);
    }
}

/* dw [4H,n] (+)= dgates' . x over `rows` rows */
static void add_weight_gradient(const layer *l, const float *dgates, const float *x, int n, int rows, bool add,
                                oc_tensor dw)
{
    const oc_product p = {.m = 4 * l->hidden,
                          .n = n,
                          .k = rows,
                          .a = dgates,
                          .a_row = 1,
                          .a_k = 4 * (size_t)l->hidden,
                          .b = x,
                          .b_k = (size_t)n,
                          .b_panel = OC_PANEL,
                          .c = dw.data,
                          .c_row = (size_t)n,
                          .add = add};
    l->k->product(&p);
}

static OC_MUST large_products(const layer *l, const oc_dropout *below, const oc_lstm_weights *dw)
{
    const int rows = l->steps * l->batch, n = l->number;
    const size_t hidden = (size_t)l->hidden, inputs = (size_t)l->inputs;
    float *db = dw->b_ih[n].data;
    memset(db, 0, 4 * hidden * sizeof *db);
    if (l->steps == 1) memset(dw->w_hh[n].data, 0, 4 * hidden * hidden * sizeof(float));
    for (int first = 0; first < rows; first += BLOCK_ROWS) {
        const int count = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        const float *dgates = l->gates + (size_t)first * 4 * hidden;
        l->k->column_sums(dgates, count, 4 * l->hidden, db);
        add_weight_gradient(l, dgates, l->in + (size_t)first * inputs, l->inputs, count, first > 0, dw->w_ih[n]);
        const int lead = first < l->batch ? l->batch - first : 0; /* rows of step 0 have no state before them */
        if (lead < count) {
            const size_t from = (size_t)(first + lead);
            add_weight_gradient(l, l->gates + from * 4 * hidden, l->out + (from - (size_t)l->batch) * hidden, l->hidden,
                                count - lead, from > (size_t)l->batch, dw->w_hh[n]);
        }
        if (n == 0) continue;
        const oc_product p = {.m = count,
                              .n = l->inputs,
                              .k = 4 * l->hidden,
                              .a = dgates,
                              .a_row = 4 * hidden,
                              .a_k = 1,
                              .b = l->back_ih,
                              .b_k = inputs,
                              .b_panel = OC_PANEL,
                              .c = l->dy + (size_t)first * inputs,
                              .c_row = inputs};
        l->k->product(&p);
        if (below) OC_TRY(oc_cpu_dropout_rows(l->k, below, first, count, l->batch, l->inputs, p.c));
    }
    memcpy(dw->b_hh[n].data, db, 4 * hidden * sizeof(float));
    return OC_OK;
}

oc_status oc_cpu_lstm_backward_layer(oc_backend *b, const oc_lstm_shape *s, int n, oc_tensor packed, oc_tensor x,
                                     oc_tensor y, oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve,
                                     const oc_lstm_weights *dw)
{
    const oc_lstm_layout at = oc_lstm_layout_make(s);
    const size_t state = (size_t)s->batch * (size_t)s->hidden;
    const float *weights = packed.data;
    float *kept = reserve.data;
    const bool drop = dropout && dropout->p > 0.0f;
    assert(2 * state <= at.work_count && oc_tensor_count(dy) == (int64_t)state * s->steps);
    if (s->batch == 0) return OC_OK;
    const layer l = {.k = b->kernels,
                     .batch = s->batch,
                     .steps = s->steps,
                     .inputs = n ? s->hidden : s->inputs,
                     .hidden = s->hidden,
                     .number = n,
                     .back_ih = weights + at.back_ih[n],
                     .back_hh = weights + at.back_hh[n],
                     .in = n == 0 ? x.data : kept + (drop ? at.in[n - 1] : at.out[n - 1]),
                     .out = n == s->layers - 1 ? y.data : kept + at.out[n],
                     .cells = kept + at.cells[n],
                     .gates = kept + at.gates[n],
                     .dy = dy.data,
                     .dh = kept + at.work,
                     .dc = kept + at.work + state};
    oc_dropout below = drop ? *dropout : (oc_dropout){0};
    below.tensor += (uint32_t)(n - 1);
    scan(&l);
    OC_TRY(large_products(&l, drop && n > 0 ? &below : NULL, dw));
    return OC_OK;
}

oc_status oc_cpu_lstm_backward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                               oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw)
{
    for (int n = s->layers - 1; n >= 0; n--)
        OC_TRY(oc_cpu_lstm_backward_layer(b, s, n, packed, x, y, dy, dropout, reserve, dw));
    return OC_OK;
}
