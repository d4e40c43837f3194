/* body_rows.h - elementwise work on rows: softmax, scaling, activations, a transpose. Included by body.h.
 * Sums over a row run in 16 lanes (lane j takes elements j, j + 16, …, ascending) and then in a fixed tree of halves,
 * whatever the vector width, so their bits are the same on every instruction set. */
#ifndef OC_KERNELS_CPU_BODY_ROWS_H
#define OC_KERNELS_CPU_BODY_ROWS_H

#include "kernels/cpu/body_math.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

enum { SUM_LANES = 16, SUM_VECTORS = SUM_LANES / VW };

static void transpose(const float *from, size_t from_row, int rows, int columns, float *to, size_t to_row)
{
    const int whole_rows = rows - rows % VW, whole_columns = columns - columns % VW;
    for (int i = 0; i < whole_rows; i += VW)
        for (int j = 0; j < whole_columns; j += VW) {
            vf square[VW];
#pragma GCC unroll 16
            for (int n = 0; n < VW; n++) square[n] = vf_load(from + (size_t)(i + n) * from_row + (size_t)j);
            vf_transpose(square);
#pragma GCC unroll 16
            for (int n = 0; n < VW; n++) vf_store(to + (size_t)(j + n) * to_row + (size_t)i, square[n]);
        }
    for (int i = 0; i < rows; i++) /* the rims */
        for (int j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            to[(size_t)j * to_row + (size_t)i] = from[(size_t)i * from_row + (size_t)j];
}

static float lanes_sum(float *lane)
{
    for (int width = SUM_LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

/* A NaN does not survive in `largest` but in its own exp, and through the sum in every element. */
static float row_largest(const float *x, int count, float scale)
{
    float lane[SUM_LANES], largest = -INFINITY;
    vf most[SUM_VECTORS], factor = vf_set1(scale);
    for (int v = 0; v < SUM_VECTORS; v++) most[v] = vf_set1(-INFINITY);
    int i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES)
        for (int v = 0; v < SUM_VECTORS; v++) most[v] = vf_max(vf_mul(vf_load(x + i + v * VW), factor), most[v]);
    for (int v = 0; v < SUM_VECTORS; v++) vf_store(lane + v * VW, most[v]);
    for (int j = 0; j < SUM_LANES; j++) largest = lane[j] > largest ? lane[j] : largest;
    for (; i < count; i++) largest = x[i] * scale > largest ? x[i] * scale : largest;
    return largest;
}

static void softmax_row(float *x, int count, float scale)
{
    float lane[SUM_LANES];
    const vf factor = vf_set1(scale), largest = vf_set1(row_largest(x, count, scale));
    vf sum[SUM_VECTORS];
    for (int v = 0; v < SUM_VECTORS; v++) sum[v] = vf_set1(0.0f);
    int i = 0;
    for (; i + SUM_LANES <= count; i += SUM_LANES)
        for (int v = 0; v < SUM_VECTORS; v++) {
            vf e = vf_exp(vf_sub(vf_mul(vf_load(x + i + v * VW), factor), largest));
            vf_store(x + i + v * VW, e);
            sum[v] = vf_add(sum[v], e);
        }
    for (int v = 0; v < SUM_VECTORS; v++) vf_store(lane + v * VW, sum[v]);
    for (int j = 0; i < count; i += VW, j += VW) {
        const int left = count - i < VW ? count - i : VW;
        vf_store_part(x + i, vf_exp(vf_sub(vf_mul(vf_load_part(x + i, left), factor), largest)), left);
        for (int n = 0; n < left; n++) lane[j + n] += x[i + n];
    }
    const vf inverse = vf_set1(1.0f / lanes_sum(lane));
    for (i = 0; i + VW <= count; i += VW) vf_store(x + i, vf_mul(vf_load(x + i), inverse));
    if (i < count) vf_store_part(x + i, vf_mul(vf_load_part(x + i, count - i), inverse), count - i);
}

/* Columns outside, so that mean and scale stay in registers. Lanes past the end divide 0 by 0: nobody sees it. */
static void scale_rows(const oc_scaling *p)
{
    const vf high = vf_set1(p->clip), low = vf_set1(-p->clip);
    for (int i = 0; i < p->count; i += VW) {
        const int left = p->count - i;
        const vf mean = vf_load_part(p->mean + i, left), scale = vf_load_part(p->scale + i, left);
        for (size_t r = 0; r < (size_t)p->rows; r++) {
            vf y = vf_div(vf_sub(vf_load_part(p->from + r * p->from_row + i, left), mean), scale);
            if (p->clip > 0.0f) y = vf_max(low, vf_min(high, y)); /* NaN stays */
            vf_store_part(p->to + r * p->to_row + i, y, left);
        }
    }
}

#define ROW_FUNCTION(name, function)                                                                                   \
    static void name(const float *x, int count, float *to)                                                             \
    {                                                                                                                  \
        for (int i = 0; i < count; i += VW)                                                                            \
            vf_store_part(to + i, function(vf_load_part(x + i, count - i)), count - i);                                \
    }
ROW_FUNCTION(exp_row, vf_exp)
ROW_FUNCTION(tanh_row, vf_tanh)
ROW_FUNCTION(sigmoid_row, vf_sigmoid)
#undef ROW_FUNCTION

static void relu_row(float *x, int count)
{
    for (int i = 0; i < count; i += VW)
        vf_store_part(x + i, vf_max(vf_set1(0.0f), vf_load_part(x + i, count - i)), count - i);
}

#endif
