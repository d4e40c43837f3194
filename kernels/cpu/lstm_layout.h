/* lstm_layout.h - where things lie in `packed` and in `reserve` of the CPU's LSTM: the agreement between lstm.c (pack,
 * forward, step) and lstm_backward.c. Offsets count floats; every part begins at a multiple of 16 floats.
 *   packed, per layer
 *     w_ih, w_hh   [block][k][gate][16], then the tail's [k][gate][units]: the order of the forward kernels
 *                                        (kernels_cpu.h); a block is 16 hidden units, the tail what is left of them
 *     bias         in the same order of columns: b_ih + b_hh
 *     back_ih      [4H][in]              row-major as PyTorch has them, for dgates . W; back_ih only where layer > 0
 *     back_hh      [4H][H]
 *   reserve in training, per layer; backward CONSUMES it (gates become gradients)
 *     gates        [T][B][4H]            i, f, g, o after activation, gate-major as in PyTorch
 *     cells        [T][B][H]             c_t
 *     out          [T][B][H]             h_t before dropout; not of the last layer (that is y)
 *     in           [T][B][H]             what the next layer reads: out with dropout applied; only where dropout may be
 *                                        (with dropout NULL or p = 0 it stays unwritten: the next layer reads `out`)
 *     work         what a pass needs for itself: at least work_count floats
 *   reserve in inference: `out` of one layer at a time and work, as lstm.c likes.
 * B is s->batch, the batch of the call. */
#ifndef OC_KERNELS_CPU_LSTM_LAYOUT_H
#define OC_KERNELS_CPU_LSTM_LAYOUT_H

#include "kernels/cpu/kernels_cpu.h"
#include "kernels/ops.h"

typedef struct oc_lstm_layout {
    size_t w_ih[OC_LAYERS_MAX], w_hh[OC_LAYERS_MAX], bias[OC_LAYERS_MAX];
    size_t back_ih[OC_LAYERS_MAX], back_hh[OC_LAYERS_MAX];
    size_t packed_count;
    size_t gates[OC_LAYERS_MAX], cells[OC_LAYERS_MAX], out[OC_LAYERS_MAX], in[OC_LAYERS_MAX], work, work_count;
    size_t reserve_count; /* in training */
} oc_lstm_layout;

static inline size_t oc_lstm_take(size_t *used, size_t count)
{
    size_t at = *used;
    *used += (count + 15) / 16 * 16;
    return at;
}

static inline size_t oc_lstm_columns(int hidden)
{
    return oc_whole_columns(hidden) + oc_tail_columns(hidden);
}

static inline oc_lstm_layout oc_lstm_layout_make(const oc_lstm_shape *s)
{
    oc_lstm_layout l = {0};
    const size_t hidden = (size_t)s->hidden, columns = oc_lstm_columns(s->hidden);
    const size_t rows = (size_t)s->steps * (size_t)s->batch;
    for (int i = 0; i < s->layers; i++) {
        const size_t inputs = i == 0 ? (size_t)s->inputs : hidden;
        l.w_ih[i] = oc_lstm_take(&l.packed_count, inputs * columns);
        l.w_hh[i] = oc_lstm_take(&l.packed_count, hidden * columns);
        l.bias[i] = oc_lstm_take(&l.packed_count, columns);
        l.back_ih[i] = oc_lstm_take(&l.packed_count, i == 0 ? 0 : OC_GATES * hidden * inputs);
        l.back_hh[i] = oc_lstm_take(&l.packed_count, OC_GATES * hidden * hidden);
    }
    for (int i = 0; i < s->layers; i++) {
        l.gates[i] = oc_lstm_take(&l.reserve_count, rows * OC_GATES * hidden);
        l.cells[i] = oc_lstm_take(&l.reserve_count, rows * hidden);
        if (i == s->layers - 1) continue;
        l.out[i] = oc_lstm_take(&l.reserve_count, rows * hidden);
        l.in[i] = oc_lstm_take(&l.reserve_count, rows * hidden);
    }
    /* forward: two [B,H] states; backward: dh, dc [B,H], keep factors of some rows: never less than this */
    l.work_count = ((size_t)s->batch * 4 + 256) * ((hidden + 15) / 16 * 16);
    l.work = oc_lstm_take(&l.reserve_count, l.work_count);
    return l;
}

/* A cell of one layer for `rows` rows that lie side by side, over packed weights; the caller adds x, h, c and the
 * outputs. */
oc_cell oc_lstm_cell(const oc_lstm_shape *s, const oc_lstm_layout *l, const float *packed, int layer, int rows);

/* `rows` rows of x [rows][count], side by side, against a packed matrix: to [rows][columns] = chains over k from start
 * [columns], or from 0 where it is NULL. */
void oc_lstm_project(oc_backend *b, int hidden, int rows, const float *x, int count, const float *w, const float *start,
                     float *to);

#endif
