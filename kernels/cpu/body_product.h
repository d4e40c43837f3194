/* body_product.h - the ordered product: every output is one fused-multiply-add chain over ascending k, a lane one
 * output, so the bits do not depend on the tile that an output falls in. Included by body.h after a vec_*.h.
 * Strategy: register tiles of ROWS_MAX rows x 4 vectors; the row of b is loaded once a tile and k, the elements of a
 * are broadcast. Bound: arithmetic where a panel of b (k x 64 numbers) lies in L1 or streams from L2. */
#ifndef OC_KERNELS_CPU_BODY_PRODUCT_H
#define OC_KERNELS_CPU_BODY_PRODUCT_H

#include "kernels/cpu/body_pairs.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

enum { ROW_BY_ROW = VW == 16 && PAIRS };

typedef struct product_tile {
    const float *a, *b;
    float *c;
    const float *start;
    int part;
} product_tile;

/* One k of a tile: sum[r][v] goes on with x[r * x_row] and vector v of w; of the last one only `part` lanes are read.
 * With 32 registers the weights stay and rows pass: vdpbf16ps is not given a broadcast from memory by the compiler, and
 * six broadcasts beside 24 sums and a weight cost a sum its register. */
OC_INLINE void tile_step(vf (*sum)[4], const float *x, size_t x_row, const float *w, size_t w_step, const int part,
                         const int R, const int V, const int pairs)
{
    vf in[ROWS_MAX], weight[4];
#pragma GCC unroll 4
    for (int v = 0; v < V && ROW_BY_ROW; v++)
        weight[v] =
            part < VW && v == V - 1 ? vf_load_part(w + (size_t)v * w_step, part) : vf_load(w + (size_t)v * w_step);
#pragma GCC unroll 8
    for (int r = 0; r < R && ROW_BY_ROW; r++) {
        const vf one = vf_set1(x[(size_t)r * x_row]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sum[r][v] = vf_step(one, weight[v], sum[r][v], pairs);
    }
    if (ROW_BY_ROW) return;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) in[r] = vf_set1(x[(size_t)r * x_row]);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
        weight[0] =
            part < VW && v == V - 1 ? vf_load_part(w + (size_t)v * w_step, part) : vf_load(w + (size_t)v * w_step);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r][v] = vf_step(in[r], weight[0], sum[r][v], pairs);
    }
}

/* R rows x V vectors; of the last vector only the first `part` columns exist where `cut`. pairs: a and b are words. */
OC_INLINE void product_tile_run(const oc_product *p, const product_tile *at, const int R, const int V, const int cut,
                                const int pairs)
{
    vf sum[ROWS_MAX][4];
    const float *a = at->a, *b = at->b;
    const size_t a_row = p->a_row, a_k = p->a_k, b_k = p->b_k;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            const float *from = p->add ? at->c + (size_t)r * p->c_row + v * VW : at->start ? at->start + v * VW : NULL;
            sum[r][v] = !from ? vf_set1(0.0f) : cut && v == V - 1 ? vf_load_part(from, at->part) : vf_load(from);
        }
    }
    for (int k = 0; k < p->k; k++, a += a_k, b += b_k) {
        tile_step(sum, a, a_row, b, VW, cut ? at->part : VW, R, V, pairs);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            float *to = at->c + (size_t)r * p->c_row + v * VW;
            if (cut && v == V - 1)
                vf_store_part(to, sum[r][v], at->part);
            else
                vf_store(to, sum[r][v]);
        }
    }
}

OC_INLINE void product_columns(const oc_product *p, const product_tile *at, const int R, int vectors, const int pairs)
{
    const int cut = at->part < VW;
    switch (vectors * 2 + cut) {
    case 2:
        product_tile_run(p, at, R, 1, 0, pairs);
        break;
    case 3:
        product_tile_run(p, at, R, 1, 1, pairs);
        break;
    case 4:
        product_tile_run(p, at, R, 2, 0, pairs);
        break;
    case 5:
        product_tile_run(p, at, R, 2, 1, pairs);
        break;
    case 6:
        product_tile_run(p, at, R, 3, 0, pairs);
        break;
    case 7:
        product_tile_run(p, at, R, 3, 1, pairs);
        break;
    case 8:
        product_tile_run(p, at, R, 4, 0, pairs);
        break;
    default:
        product_tile_run(p, at, R, 4, 1, pairs);
        break;
    }
}

OC_INLINE void product_rows(const oc_product *p, const product_tile *at, int rows, int vectors, const int pairs)
{
    switch (rows) {
    case 1:
        product_columns(p, at, 1, vectors, pairs);
        break;
    case 2:
        product_columns(p, at, 2, vectors, pairs);
        break;
#if OC_ROWS_MAX > 2
    case 3:
        product_columns(p, at, 3, vectors, pairs);
        break;
#endif
#if OC_ROWS_MAX > 3
    case 4:
        product_columns(p, at, 4, vectors, pairs);
        break;
    case 5:
        product_columns(p, at, 5, vectors, pairs);
        break;
    case 6:
        product_columns(p, at, 6, vectors, pairs);
        break;
#endif
    default:
        break;
    }
}

OC_INLINE void product_of(const oc_product *p, const int pairs)
{
    for (int j = 0; j < p->n; j += 4 * VW) {
        int columns = p->n - j < 4 * VW ? p->n - j : 4 * VW, vectors = (columns + VW - 1) / VW;
        product_tile at = {.b = p->b + (size_t)(j / OC_PANEL) * p->b_panel + j % OC_PANEL,
                           .start = p->start ? p->start + j : NULL,
                           .part = columns - (vectors - 1) * VW};
        for (int i = 0; i < p->m; i += ROWS_MAX) {
            at.a = p->a + (size_t)i * p->a_row;
            at.c = p->c + (size_t)i * p->c_row + j;
            product_rows(p, &at, p->m - i < ROWS_MAX ? p->m - i : ROWS_MAX, vectors, pairs);
        }
    }
}

static void product(const oc_product *p)
{
    product_of(p, 0);
}

#if OC_PAIRS
/* The same over words: a, b, k and the distances in a and b count them. */
static void product_pairs(const oc_product *p)
{
    product_of(p, 1);
}
#endif

enum { APART_ROWS = 4 };

/* One vector of columns of up to four rows, each against its own b: four chains side by side instead of one by one. */
static void product_apart(const oc_product *p)
{
    for (int i = 0; i < p->m; i += APART_ROWS)
        for (int j = 0; j < p->n; j += VW) {
            const int left = p->n - j;
            const float *a[APART_ROWS], *b[APART_ROWS];
            size_t row[APART_ROWS];
            vf sum[APART_ROWS];
            for (int r = 0; r < APART_ROWS; r++) { /* rows past the last repeat it */
                row[r] = (size_t)(i + r < p->m ? i + r : p->m - 1);
                a[r] = p->a + row[r] * p->a_row;
                b[r] = p->b + row[r] * p->apart + j;
                sum[r] = p->start ? vf_load_part(p->start + row[r] * p->apart + j, left) : vf_set1(0.0f);
            }
            for (size_t k = 0; k < (size_t)p->k; k++)
#pragma GCC unroll 4
                for (int r = 0; r < APART_ROWS; r++)
                    sum[r] = vf_fma(vf_set1(a[r][k * p->a_k]), vf_load_part(b[r] + k * p->b_k, left), sum[r]);
            for (int r = 0; r < APART_ROWS; r++) vf_store_part(p->c + row[r] * p->c_row + j, sum[r], left);
        }
}

#endif
