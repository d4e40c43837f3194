/* body_cell.h - one LSTM layer, one time step, any number of rows: both products, the gates and the new state of a unit
 * without leaving the registers. Included by body.h.
 * Strategy: a tile is R rows x VW hidden units with all four gates, so that i, f, g, o of a unit meet in one lane. A
 *           block's weights (64 * (in + H) numbers) stay in L1 from tile to tile.
 * Order:    pre = (x.W_ih from the bias) + (h.W_hh from 0); c = fma(f, c, i * g); h = o * tanh(c). */
#ifndef OC_KERNELS_CPU_BODY_CELL_H
#define OC_KERNELS_CPU_BODY_CELL_H

#include "kernels/cpu/body_math.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

enum { TOGETHER = 3 }; /* rows whose gates are computed together */

typedef struct cell_tile {
    int row, block, lane;
} cell_tile; /* first row, first block, first of its 16 units */

/* sum[r][gate] = chain over k, going on from sum. w: [k][gate][16], already at the tile's block and lane. */
OC_INLINE void cell_chain(vf (*sum)[4], const float *x, size_t x_row, const float *w, int count, const int R)
{
#pragma GCC unroll 4
    for (int k = 0; k < count; k++, x++, w += OC_PANEL) {
        vf in[ROWS_MAX];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) in[r] = vf_set1(x[(size_t)r * x_row]);
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            vf weight = vf_load(w + g * OC_BLOCK);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sum[r][g] = vf_fma(in[r], weight, sum[r][g]);
        }
    }
}

/* Gates of VW units (pre[0 … 3] in, gates out) and their new cell; the new state is gate o times tanh of it. */
OC_INLINE vf cell_gates(vf *pre, vf old)
{
    pre[0] = vf_sigmoid(pre[0]);
    pre[1] = vf_sigmoid(pre[1]);
    pre[2] = vf_tanh(pre[2]);
    pre[3] = vf_sigmoid(pre[3]);
    return vf_fma(pre[1], old, vf_mul(pre[0], pre[2]));
}

OC_INLINE vf cell_load(const float *from, int count)
{
    return count >= VW ? vf_load(from) : vf_load_part(from, count);
}

OC_INLINE void cell_store(float *to, vf x, int count)
{
    if (count >= VW)
        vf_store(to, x);
    else
        vf_store_part(to, x, count);
}

/* VW units of `rows` rows. All cells before all states: chains of operations are long, and the window in which a core
 * finds independent ones is short (Zen 4, cycles a row of 64 units: 400 one by one, 372 by two, 360 by three, 450 by
 * six). */
OC_INLINE void cell_finish(const oc_cell *cell, size_t row, int unit, vf (*pre)[4], const int rows)
{
    const int count = cell->hidden - unit;
    vf c[TOGETHER];
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++) {
        const size_t at = row + (size_t)r;
        c[r] = cell_gates(pre[r], cell->c ? cell_load(cell->c + at * cell->c_row + unit, count) : vf_set1(0.0f));
        cell_store(cell->c_out + at * cell->c_out_row + unit, c[r], count);
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++)
        cell_store(cell->h_out + (row + (size_t)r) * cell->h_out_row + unit, vf_mul(pre[r][3], vf_tanh(c[r])), count);
    for (int r = 0; r < rows && cell->gates; r++)
        for (int n = 0; n < 4; n++)
            cell_store(cell->gates + (row + (size_t)r) * cell->gates_row + (size_t)n * (size_t)cell->hidden + unit,
                       pre[r][n], count);
}

OC_INLINE void cell_tile_run(const oc_cell *cell, const cell_tile *t, const int R)
{
    vf pre[ROWS_MAX][4], sum[ROWS_MAX][4];
    const size_t row = (size_t)t->row, block = (size_t)t->block, column = block * OC_PANEL + (size_t)t->lane;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            const size_t at = column + (size_t)g * OC_BLOCK;
            pre[r][g] = vf_load(cell->x ? cell->bias + at : cell->xw + (row + (size_t)r) * cell->xw_row + at);
            sum[r][g] = vf_set1(0.0f);
        }
    if (cell->x)
        cell_chain(pre, cell->x + row * cell->x_row, cell->x_row,
                   cell->w_ih + block * (size_t)cell->inputs * OC_PANEL + t->lane, cell->inputs, R);
    if (cell->h)
        cell_chain(sum, cell->h + row * cell->h_row, cell->h_row,
                   cell->w_hh + block * (size_t)cell->hidden * OC_PANEL + t->lane, cell->hidden, R);
    else if (cell->hw)
        for (int r = 0; r < R; r++)
            for (int g = 0; g < 4; g++)
                sum[r][g] = vf_load(cell->hw + (row + (size_t)r) * cell->hw_row + column + (size_t)g * OC_BLOCK);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) pre[r][g] = vf_add(pre[r][g], sum[r][g]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r += TOGETHER)
        cell_finish(cell, row + (size_t)r, t->block * OC_BLOCK + t->lane, pre + r, R - r < TOGETHER ? R - r : TOGETHER);
}

static void cell_rows(const oc_cell *cell, const cell_tile *t, int rows)
{
    switch (rows) {
    case 1:
        cell_tile_run(cell, t, 1);
        break;
    case 2:
        cell_tile_run(cell, t, 2);
        break;
#if OC_ROWS_MAX > 2
    case 3:
        cell_tile_run(cell, t, 3);
        break;
#endif
#if OC_ROWS_MAX > 3
    case 4:
        cell_tile_run(cell, t, 4);
        break;
    case 5:
        cell_tile_run(cell, t, 5);
        break;
    case 6:
        cell_tile_run(cell, t, 6);
        break;
#endif
    default:
        break;
    }
}

static void cell(const oc_cell *cell)
{
    const int blocks = (cell->hidden + OC_BLOCK - 1) / OC_BLOCK;
    for (int i = 0; i < blocks; i++)
        for (int lane = 0; lane < OC_BLOCK; lane += VW) {
            cell_tile t = {.block = i, .lane = lane};
            if (t.block * OC_BLOCK + lane >= cell->hidden) break;
            for (t.row = 0; t.row < cell->rows; t.row += ROWS_MAX)
                cell_rows(cell, &t, cell->rows - t.row < ROWS_MAX ? cell->rows - t.row : ROWS_MAX);
        }
}

/* Units of one row that are computed together: a block, or one unit where a block would need too many registers. 8 sums
 * of 8 lanes keep two multiply-adders busy, 4 sums of 16 lanes the one that there is in effect. */
enum { RECUR_PARTS = VW == 1 ? 1 : OC_BLOCK / VW, RECUR_UNITS = RECUR_PARTS * VW };

OC_INLINE void recurrence_units(const oc_recurrence *r, const float *w, const float *xw, const float *h, float *h_out,
                                int unit)
{
    const int before = h ? r->hidden : 0;
    vf sum[RECUR_PARTS][4];
#pragma GCC unroll 2
    for (int p = 0; p < RECUR_PARTS; p++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) sum[p][g] = vf_set1(0.0f);
#pragma GCC unroll 4
    for (int k = 0; k < before; k++) {
        const vf in = vf_set1(h[k]);
#pragma GCC unroll 2
        for (int p = 0; p < RECUR_PARTS; p++)
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                sum[p][g] = vf_fma(in, vf_load(w + (size_t)k * OC_PANEL + p * VW + g * OC_BLOCK), sum[p][g]);
    }
#pragma GCC unroll 2
    for (int p = 0; p < RECUR_PARTS; p++) {
        const int at = unit + p * VW, count = r->hidden - at;
        if (count <= 0) continue;
        for (int g = 0; g < 4; g++) sum[p][g] = vf_add(vf_load(xw + p * VW + g * OC_BLOCK), sum[p][g]);
        const vf c = cell_gates(sum[p], h ? cell_load(r->c + at, count) : vf_set1(0.0f));
        cell_store(r->c + at, c, count);
        cell_store(h_out + at, vf_mul(sum[p][3], vf_tanh(c)), count);
    }
}

/* All steps of one row whose x.W_ih is there. W_hh of 64 units is 64 KiB and streams from L2 again each step, which is
 * the bound; blocks are visited in alternating direction from step to step, so that what is still in L1 is used first.
 * */
static void recurrence(const oc_recurrence *r)
{
    const int blocks = (r->hidden + OC_BLOCK - 1) / OC_BLOCK;
    const size_t columns = (size_t)blocks * OC_PANEL, hidden = (size_t)r->hidden;
    for (size_t t = 0; t < (size_t)r->steps; t++)
        for (int i = 0; i < blocks; i++) {
            const int block = t % 2 ? blocks - 1 - i : i;
            for (int unit = block * OC_BLOCK; unit < (block + 1) * OC_BLOCK && unit < r->hidden; unit += RECUR_UNITS)
                recurrence_units(r, r->w_hh + (size_t)block * hidden * OC_PANEL + unit % OC_BLOCK,
                                 r->xw + t * columns + (size_t)block * OC_PANEL + unit % OC_BLOCK,
                                 t == 0 ? NULL : r->y + (t - 1) * hidden, r->y + t * hidden, unit);
        }
}

#endif
