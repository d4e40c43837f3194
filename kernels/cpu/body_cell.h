/* body_cell.h - one LSTM layer, one time step, any number of rows: both products, the gates and the new state of a unit
 * without leaving the registers. Included by body.h.
 * Strategy: a tile is R rows x VW hidden units with all four gates, so that i, f, g, o of a unit meet in one lane. A
 *           block's weights (64 * (in + H) numbers) stay in L1 from tile to tile.
 * Order:    pre = (x.W_ih from the bias) + (h.W_hh from 0); c = fma(f, c, i * g); h = o * tanh(c). */
#ifndef OC_KERNELS_CPU_BODY_CELL_H
#define OC_KERNELS_CPU_BODY_CELL_H

#include "kernels/cpu/body_math.h"
#include "kernels/cpu/body_pairs.h"
#include "kernels/cpu/body_product.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/ops.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

enum { TOGETHER = 3 }; /* rows whose gates are computed together */

typedef struct cell_tile {
    int row, block, lane;
} cell_tile; /* first row, first block, first of its 16 units */

/* sum[r][gate] = chain over k, going on from sum. w: [k][gate][16], already at the tile's block and lane. */
OC_INLINE void cell_chain(vf (*sum)[4], const float *x, size_t x_row, const float *w, int count, const int R)
{
#pragma GCC unroll 4
    for (int k = 0; k < count; k++, x++, w += OC_PANEL) tile_step(sum, x, x_row, w, OC_BLOCK, VW, R, 4, PAIRS);
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
                   cell->w_ih + block * (size_t)words_of(cell->inputs) * OC_PANEL + t->lane, words_of(cell->inputs), R);
    if (cell->h)
        cell_chain(sum, cell->h + row * cell->h_row, cell->h_row,
                   cell->w_hh + block * (size_t)words_of(cell->hidden) * OC_PANEL + t->lane, words_of(cell->hidden), R);
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

static void words_product(const oc_product *p)
{
#if OC_PAIRS
    product_pairs(p);
#else
    product(p);
#endif
}

/* The tail's columns of one product of R rows: to [R][OC_PANEL]. */
static void tail_product(const oc_cell *cell, size_t row, int rows, bool input, float *to)
{
    const size_t whole = oc_whole_columns(cell->hidden), columns = oc_tail_columns(cell->hidden);
    const int count = words_of(input ? cell->inputs : cell->hidden);
    const oc_product p = {.m = rows,
                          .n = (int)columns,
                          .k = count,
                          .a = input ? cell->x + row * cell->x_row : cell->h + row * cell->h_row,
                          .a_row = input ? cell->x_row : cell->h_row,
                          .a_k = 1,
                          .b = (input ? cell->w_ih : cell->w_hh) + whole * (size_t)count,
                          .b_k = columns,
                          .c = to,
                          .c_row = OC_PANEL,
                          .start = input ? cell->bias + whole : NULL};
    words_product(&p);
}

/* Units past the last whole block: their four gates lie side by side, so a tile of the columns is stored, and the gates
 * are read out of it. */
static void cell_tail(const oc_cell *cell, int first, int rows)
{
    const int units = cell->hidden % OC_BLOCK, whole = cell->hidden - units;
    const size_t row = (size_t)first, column = oc_whole_columns(cell->hidden);
    float x[ROWS_MAX][OC_PANEL], h[ROWS_MAX][OC_PANEL] = {{0}};
    const float *pre = cell->x ? x[0] : cell->xw + row * cell->xw_row + column, *sum = h[0];
    const size_t pre_row = cell->x ? OC_PANEL : cell->xw_row, sum_row = cell->h || !cell->hw ? OC_PANEL : cell->hw_row;
    if (cell->x) tail_product(cell, row, rows, true, x[0]);
    if (cell->h)
        tail_product(cell, row, rows, false, h[0]);
    else if (cell->hw)
        sum = cell->hw + row * cell->hw_row + column;
    for (size_t r = 0; r < (size_t)rows; r++)
        for (int lane = 0; lane < units; lane += VW) {
            vf gates[1][4];
            for (int g = 0; g < 4; g++) {
                const size_t at = (size_t)(g * units + lane);
                gates[0][g] = vf_add(vf_load_part(pre + r * pre_row + at, units - lane),
                                     vf_load_part(sum + r * sum_row + at, units - lane));
            }
            cell_finish(cell, row + r, whole + lane, gates, 1);
        }
}

static void cell_blocks(const oc_cell *cell)
{
    for (int i = 0; i < cell->hidden / OC_BLOCK; i++)
        for (int lane = 0; lane < OC_BLOCK; lane += VW) {
            cell_tile t = {.block = i, .lane = lane};
            for (t.row = 0; t.row < cell->rows; t.row += ROWS_MAX)
                cell_rows(cell, &t, cell->rows - t.row < ROWS_MAX ? cell->rows - t.row : ROWS_MAX);
        }
    for (int row = 0; row < cell->rows && cell->hidden % OC_BLOCK; row += ROWS_MAX)
        cell_tail(cell, row, cell->rows - row < ROWS_MAX ? cell->rows - row : ROWS_MAX);
}

/* Rows first … first + rows - 1 of a cell. */
static oc_cell cell_part(const oc_cell *cell, size_t first, int rows)
{
    oc_cell part = *cell;
    part.rows = rows;
    if (cell->x) part.x += first * cell->x_row;
    if (cell->xw) part.xw += first * cell->xw_row;
    if (cell->h) part.h += first * cell->h_row;
    if (cell->hw) part.hw += first * cell->hw_row;
    if (cell->c) part.c += first * cell->c_row;
    part.c_out += first * cell->c_out_row;
    part.h_out += first * cell->h_out_row;
    if (cell->gates) part.gates += first * cell->gates_row;
    return part;
}

/* In bf16: as many rows at a time as there is room for their words. */
static void cell_words(const oc_cell *cell)
{
    const int in = cell->x ? words_of(cell->inputs) : 0, before = cell->h ? words_of(cell->hidden) : 0;
    const int group = in + before > 0 ? PAIRS_ROOM / (in + before) : cell->rows;
    float room[PAIRS_ROOM];
    for (int first = 0; first < cell->rows; first += group) {
        const int rows = cell->rows - first < group ? cell->rows - first : group;
        oc_cell part = cell_part(cell, (size_t)first, rows);
        float *states = room + rows * in;
        if (cell->x) rows_pairs(part.x, part.x_row, rows, cell->inputs, room);
        if (cell->h) rows_pairs(part.h, part.h_row, rows, cell->hidden, states);
        if (cell->x) part.x = room;
        if (cell->h) part.h = states;
        part.x_row = (size_t)in;
        part.h_row = (size_t)before;
        cell_blocks(&part);
    }
}

static void cell(const oc_cell *cell)
{
    if (PAIRS)
        cell_words(cell);
    else
        cell_blocks(cell);
}

static void project_rows(const oc_projection *q, const float *x, int rows, float *to)
{
    const size_t whole = oc_whole_columns(q->hidden), tail = oc_tail_columns(q->hidden);
    const size_t count = (size_t)words_of(q->count);
    oc_product p = {.m = rows,
                    .n = (int)whole,
                    .k = (int)count,
                    .a = x,
                    .a_row = count,
                    .a_k = 1,
                    .b = q->w,
                    .b_k = OC_PANEL,
                    .b_panel = count * OC_PANEL,
                    .c = to,
                    .c_row = whole + tail,
                    .start = q->start};
    words_product(&p);
    p.n = (int)tail;
    p.b += whole * count;
    p.b_k = tail;
    p.c += whole;
    p.start = q->start ? q->start + whole : NULL;
    words_product(&p);
}

static void project(const oc_projection *q)
{
    const size_t columns = oc_whole_columns(q->hidden) + oc_tail_columns(q->hidden), count = (size_t)q->count;
    if (!PAIRS) {
        project_rows(q, q->x, q->rows, q->to);
        return;
    }
    const int group = PAIRS_ROOM / words_of(q->count);
    float room[PAIRS_ROOM];
    for (int first = 0; first < q->rows; first += group) {
        const int rows = q->rows - first < group ? q->rows - first : group;
        rows_pairs(q->x + (size_t)first * count, count, rows, q->count, room);
        project_rows(q, room, rows, q->to + (size_t)first * columns);
    }
}

/* Units of one row that are computed together: a block, or one unit where a block would need too many registers. 8 sums
 * of 8 lanes keep two multiply-adders busy, 4 sums of 16 lanes what L2 gives. */
enum { RECUR_PARTS = VW == 1 ? 1 : OC_BLOCK / VW, RECUR_UNITS = RECUR_PARTS * VW, RECUR_PARTS_MAX = 2 };

/* One step's place in a recurrence. */
typedef struct recur_step {
    const float *xw, *h; /* x.W of the step; the state before it (in bf16 its words), NULL at the first */
    float *h_out;
} recur_step;

/* Sums of the tail's columns -> its gates, cells, states. */
static void recurrence_tail(const oc_recurrence *r, const recur_step *s, const float *sum)
{
    const int units = r->hidden % OC_BLOCK, whole = r->hidden - units;
    const float *xw = s->xw + oc_whole_columns(r->hidden);
    for (int lane = 0; lane < units; lane += VW) {
        const int at = whole + lane, count = units - lane;
        vf pre[4];
        for (int g = 0; g < 4; g++)
            pre[g] = vf_add(vf_load_part(xw + g * units + lane, count), vf_load_part(sum + g * units + lane, count));
        const vf c = cell_gates(pre, s->h ? vf_load_part(r->c + at, count) : vf_set1(0.0f));
        vf_store_part(r->c + at, c, count);
        vf_store_part(s->h_out + at, vf_mul(pre[3], vf_tanh(c)), count);
    }
}

/* parts * VW units, and `tail` vectors of the tail's columns with them (see recurrence_joined). */
OC_INLINE void recurrence_units(const oc_recurrence *r, const recur_step *s, int unit, const int parts, const int tail)
{
    const int before = s->h ? words_of(r->hidden) : 0;
    const size_t row = (size_t)words_of(r->hidden);
    const float *w[RECUR_PARTS_MAX], *xw[RECUR_PARTS_MAX];
#pragma GCC unroll 2
    for (int p = 0; p < parts; p++) {
        const size_t block = (size_t)((unit + p * VW) / OC_BLOCK), lane = (size_t)((unit + p * VW) % OC_BLOCK);
        w[p] = r->w_hh + block * row * OC_PANEL + lane;
        xw[p] = s->xw + block * OC_PANEL + lane;
    }
    const float *tail_w = r->w_hh + oc_whole_columns(r->hidden) * row;
    vf sum[RECUR_PARTS_MAX][4], tail_sum[4];
#pragma GCC unroll 2
    for (int p = 0; p < parts; p++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) sum[p][g] = vf_set1(0.0f);
#pragma GCC unroll 4
    for (int v = 0; v < tail; v++) tail_sum[v] = vf_set1(0.0f);
#pragma GCC unroll 4
    for (int k = 0; k < before; k++) {
        const vf in = vf_set1(s->h[k]);
#pragma GCC unroll 2
        for (int p = 0; p < parts; p++)
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++)
                sum[p][g] = vf_step(in, vf_load(w[p] + (size_t)k * OC_PANEL + g * OC_BLOCK), sum[p][g], PAIRS);
#pragma GCC unroll 4
        for (int v = 0; v < tail; v++)
            tail_sum[v] = vf_step(in, vf_load(tail_w + (size_t)(k * tail + v) * VW), tail_sum[v], PAIRS);
    }
#pragma GCC unroll 2
    for (int p = 0; p < parts; p++) {
        const int at = unit + p * VW;
        for (int g = 0; g < 4; g++) sum[p][g] = vf_add(vf_load(xw[p] + g * OC_BLOCK), sum[p][g]);
        const vf c = cell_gates(sum[p], s->h ? vf_load(r->c + at) : vf_set1(0.0f));
        vf_store(r->c + at, c);
        vf_store(s->h_out + at, vf_mul(sum[p][3], vf_tanh(c)));
    }
    float stored[OC_PANEL];
#pragma GCC unroll 4
    for (int v = 0; v < tail; v++) vf_store(stored + v * VW, tail_sum[v]);
    if (tail) recurrence_tail(r, s, stored);
}

/* The last whole block with the tail, where a vector holds 16 columns: alone the tail's few sums would wait for each
 * other (H = 100: 16 % of a step, as much as not padding it saves). */
static void recurrence_joined(const oc_recurrence *r, const recur_step *s, int unit)
{
    switch (oc_tail_columns(r->hidden) / VW) {
    case 1:
        recurrence_units(r, s, unit, RECUR_PARTS, 1);
        break;
    case 2:
        recurrence_units(r, s, unit, RECUR_PARTS, 2);
        break;
    case 3:
        recurrence_units(r, s, unit, RECUR_PARTS, 3);
        break;
    default:
        recurrence_units(r, s, unit, RECUR_PARTS, 4);
        break;
    }
}

static void recurrence_alone(const oc_recurrence *r, const recur_step *s)
{
    const size_t whole = oc_whole_columns(r->hidden), columns = oc_tail_columns(r->hidden);
    float sum[OC_PANEL];
    const oc_product p = {.m = 1,
                          .n = (int)columns,
                          .k = s->h ? words_of(r->hidden) : 0,
                          .a = s->h ? s->h : s->xw, /* of none, but no null pointer is moved */
                          .a_k = 1,
                          .b = r->w_hh + whole * (size_t)words_of(r->hidden),
                          .b_k = columns,
                          .c = sum,
                          .c_row = columns};
    words_product(&p);
    recurrence_tail(r, s, sum);
}

/* Two blocks at once, where W_hh is small: L1 then gives more than 4 sums of 16 lanes can take, each waiting for
 * itself. Larger ones come from L2, and there two streams are slower than one (H = 64: 33 to 30 us of 100 steps, 128:
 * 138 to 158). */
enum { COUPLED_WORDS = 16384 };

static bool recurrence_coupled(const oc_recurrence *r)
{
    return (int)VW == (int)OC_BLOCK && r->hidden % (2 * OC_BLOCK) == 0 &&
           (size_t)r->hidden * 4 * (size_t)words_of(r->hidden) <= COUPLED_WORDS;
}

/* All steps of one row whose x.W_ih is there. W_hh of 64 units is 64 KiB and streams from L2 again each step, which is
 * the bound; blocks are visited in alternating direction from step to step, so that what is still in L1 is used first.
 * */
static void recurrence(const oc_recurrence *r)
{
    const bool coupled = recurrence_coupled(r);
    const int blocks = r->hidden / OC_BLOCK;
    const bool tail = r->hidden % OC_BLOCK != 0, joined = tail && (int)VW == (int)OC_BLOCK && blocks > 0;
    const size_t columns = oc_whole_columns(r->hidden) + oc_tail_columns(r->hidden), hidden = (size_t)r->hidden;
    float words[PAIRS ? OC_HIDDEN_MAX / 2 : 1];
    for (size_t t = 0; t < (size_t)r->steps; t++) {
        const float *before = t == 0 ? NULL : r->y + (t - 1) * hidden;
        if (PAIRS && before) row_pairs(before, r->hidden, words);
        const recur_step s = {r->xw + t * columns, PAIRS && before ? words : before, r->y + t * hidden};
        for (int i = 0; i < blocks; i += coupled ? 2 : 1) {
            const int block = t % 2 ? blocks - 1 - i - coupled : i, unit = block * OC_BLOCK;
            if (coupled)
                recurrence_units(r, &s, unit, RECUR_PARTS_MAX, 0);
            else if (joined && block == blocks - 1)
                recurrence_joined(r, &s, unit);
            else
                for (int lane = 0; lane < OC_BLOCK; lane += RECUR_UNITS)
                    recurrence_units(r, &s, unit + lane, RECUR_PARTS, 0);
        }
        if (tail && !joined) recurrence_alone(r, &s);
    }
}

#endif
