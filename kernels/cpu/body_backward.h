/* body_backward.h - inner loops that only training has: gradients of one LSTM cell, of ReLU, and dropout by counter.
 * Included by body.h after body_math.h and body_product.h. */
#ifndef OC_KERNELS_CPU_BODY_BACKWARD_H
#define OC_KERNELS_CPU_BODY_BACKWARD_H

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include "kernels/cpu/body_math.h"
#include "kernels/cpu/body_rows.h"
#include "kernels/cpu/kernels_cpu.h"

/* VW hidden units of one window. gates: i, f, g, o at distance `hidden`, replaced by the gradients of their
 * pre-activations:
 *   s = tanh(c)   d = dc + dh o (1 - s^2)   di = d g i (1 - i)   df = d c_before f (1 - f)   dg = d i (1 - g^2)
 *   do = dh s o (1 - o)   dc_before = d f                                                             [Hochreiter97] */
OC_INLINE void cell_gradient_lanes(vf *i, vf *f, vf *g, vf *o, vf cell, vf before, vf dh, vf *dc)
{
    const vf one = vf_set1(1.0f), s = vf_tanh(cell);
    const vf d = vf_fma(vf_mul(dh, *o), vf_sub(one, vf_mul(s, s)), *dc);
    const vf di = vf_mul(vf_mul(d, *g), vf_mul(*i, vf_sub(one, *i)));
    const vf dg = vf_mul(vf_mul(d, *i), vf_sub(one, vf_mul(*g, *g)));
    *o = vf_mul(vf_mul(dh, s), vf_mul(*o, vf_sub(one, *o)));
    *dc = vf_mul(d, *f);
    *f = vf_mul(vf_mul(d, before), vf_mul(*f, vf_sub(one, *f)));
    *i = di;
    *g = dg;
}

OC_INLINE vf load_some(const float *p, const bool whole, int part)
{
    return whole ? vf_load(p) : vf_load_part(p, part);
}

OC_INLINE void store_some(float *p, vf x, const bool whole, int part)
{
    if (whole)
        vf_store(p, x);
    else
        vf_store_part(p, x, part);
}

/* Units unit … of row r; a masked store is slow on some machines, so whole vectors do without. */
OC_INLINE void cell_gradient_some(const oc_cell_gradient *p, size_t r, size_t unit, const bool whole, int part)
{
    const size_t hidden = (size_t)p->hidden, here = r * hidden + unit;
    float *at = p->gates + r * 4 * hidden + unit;
    vf i = load_some(at, whole, part), f = load_some(at + hidden, whole, part),
       g = load_some(at + 2 * hidden, whole, part);
    vf o = load_some(at + 3 * hidden, whole, part), dc = load_some(p->dc + here, whole, part);
    const vf before = p->before ? load_some(p->before + here, whole, part) : vf_set1(0.0f);
    vf dh = load_some(p->dy + here, whole, part);
    if (p->dh) dh = vf_add(dh, load_some(p->dh + here, whole, part));
    cell_gradient_lanes(&i, &f, &g, &o, load_some(p->cells + here, whole, part), before, dh, &dc);
    store_some(at, i, whole, part);
    store_some(at + hidden, f, whole, part);
    store_some(at + 2 * hidden, g, whole, part);
    store_some(at + 3 * hidden, o, whole, part);
    store_some(p->dc + here, dc, whole, part);
}

static void cell_gradient(const oc_cell_gradient *p)
{
    for (int r = 0; r < p->rows; r++) {
        int unit = 0;
        for (; unit + VW <= p->hidden; unit += VW) cell_gradient_some(p, (size_t)r, (size_t)unit, true, VW);
        if (unit < p->hidden) cell_gradient_some(p, (size_t)r, (size_t)unit, false, p->hidden - unit);
    }
}

/* sums[j] += x[0][j], x[1][j], …: row by row, so that a block comes through the caches in order before products use
 * it. */
static void column_sums(const float *x, int rows, int columns, float *sums)
{
    for (int r = 0; r < rows; r++, x += columns)
        for (int j = 0; j < columns; j++) sums[j] += x[j];
}

/* dy = 0 where y <= 0; a NaN in y lets dy through, which is NaN then. */
static void relu_gradient(const float *y, float *dy, int count)
{
    for (int j = 0; j < count; j++) dy[j] = y[j] <= 0.0f ? 0.0f : dy[j];
}

/* dmap becomes the gradient of the scores before `scale` and softmax: scale map (dmap - sum map dmap). Sixteen
 * chains, lane j takes every element j mod 16, then halves are added: the same order at any width. */
static void softmax_gradient(const float *map, float *dmap, int count, float scale)
{
    float lane[SUM_LANES];
    for (int v = 0; v < SUM_LANES; v += VW) {
        vf sum = vf_set1(0.0f);
        for (int j = v; j < count; j += SUM_LANES)
            sum = vf_fma(vf_load_part(map + j, count - j), vf_load_part(dmap + j, count - j), sum);
        vf_store(lane + v, sum);
    }
    const float mean = lanes_sum(lane);
    for (int j = 0; j < count; j++) dmap[j] = scale * map[j] * (dmap[j] - mean);
}

enum { DRAWS = 16 };

/* oc_random_philox(key, counter …) of 16 counters, as four 16-bit numbers each, lowest first. Rounds outside and
 * counters inside, so that the compiler vectorises it; whole numbers, so every instruction set has the same bits. */
OC_INLINE void dropout_numbers(uint32_t key, uint64_t counter, uint16_t *number)
{
    uint64_t low[DRAWS], high[DRAWS];
    for (int i = 0; i < DRAWS; i++) {
        low[i] = (counter + (uint64_t)i) & 0xFFFFFFFFu;
        high[i] = (counter + (uint64_t)i) >> 32;
    }
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++, key += 0x9E3779B9u)
        for (int i = 0; i < DRAWS; i++) {
            const uint64_t product = low[i] * 0xD256D193u;
            low[i] = product >> 32 ^ key ^ high[i];
            high[i] = product & 0xFFFFFFFFu;
        }
    for (int i = 0; i < DRAWS; i++) low[i] |= high[i] << 32;
    static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are taken lowest first");
    memcpy(number, low, sizeof low);
}

/* x[j] *= kept ? factor : 0 for the elements of one row. A dropped NaN stays NaN. */
static void dropout_row(uint32_t key, uint64_t counter, uint32_t least, float factor, float *x, int count)
{
    uint16_t number[4 * DRAWS];
    for (; count >= 4 * DRAWS; x += 4 * DRAWS, count -= 4 * DRAWS, counter += DRAWS) {
        dropout_numbers(key, counter, number);
        for (int i = 0; i < 4 * DRAWS; i++) x[i] *= number[i] >= least ? factor : 0.0f;
    }
    if (count == 0) return;
    dropout_numbers(key, counter, number);
    for (int i = 0; i < count; i++) x[i] *= number[i] >= least ? factor : 0.0f;
}

#endif
