/* body_product.h - the ordered product: every output is one fused-multiply-add chain over ascending k, a lane one
 * output, so the bits do not depend on the tile that an output falls in. Included by body.h after a vec_*.h.
 * Strategy: register tiles of ROWS_MAX rows x 4 vectors; the row of b is loaded once a tile and k, the elements of a
 * are broadcast. Bound: arithmetic where a panel of b (k x 64 numbers) lies in L1 or streams from L2. */
#ifndef OC_KERNELS_CPU_BODY_PRODUCT_H
#define OC_KERNELS_CPU_BODY_PRODUCT_H

#include "kernels/cpu/kernels_cpu.h"
#include "kernels/cpu/vec_scalar.h" /* nothing where another vector layer came first: they share a guard */

typedef struct product_tile {
    const float *a, *b;
    float *c;
    const float *start;
    int part;
} product_tile;

/* R rows x V vectors; of the last vector only the first `part` columns exist where `cut`. */
OC_INLINE void product_tile_run(const oc_product *p, const product_tile *at, const int R, const int V, const int cut)
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
        vf x[ROWS_MAX];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) x[r] = vf_set1(a[(size_t)r * a_row]);
#pragma GCC unroll 8
        for (int v = 0; v < V; v++) {
            vf w = cut && v == V - 1 ? vf_load_part(b + v * VW, at->part) : vf_load(b + v * VW);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) sum[r][v] = vf_fma(x[r], w, sum[r][v]);
        }
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

OC_INLINE void product_columns(const oc_product *p, const product_tile *at, const int R, int vectors)
{
    const int cut = at->part < VW;
    switch (vectors * 2 + cut) {
    case 2:
        product_tile_run(p, at, R, 1, 0);
        break;
    case 3:
        product_tile_run(p, at, R, 1, 1);
        break;
    case 4:
        product_tile_run(p, at, R, 2, 0);
        break;
    case 5:
        product_tile_run(p, at, R, 2, 1);
        break;
    case 6:
        product_tile_run(p, at, R, 3, 0);
        break;
    case 7:
        product_tile_run(p, at, R, 3, 1);
        break;
    case 8:
        product_tile_run(p, at, R, 4, 0);
        break;
    default:
        product_tile_run(p, at, R, 4, 1);
        break;
    }
}

static void product_rows(const oc_product *p, const product_tile *at, int rows, int vectors)
{
    switch (rows) {
    case 1:
        product_columns(p, at, 1, vectors);
        break;
    case 2:
        product_columns(p, at, 2, vectors);
        break;
#if OC_ROWS_MAX > 2
    case 3:
        product_columns(p, at, 3, vectors);
        break;
#endif
#if OC_ROWS_MAX > 3
    case 4:
        product_columns(p, at, 4, vectors);
        break;
    case 5:
        product_columns(p, at, 5, vectors);
        break;
    case 6:
        product_columns(p, at, 6, vectors);
        break;
#endif
    default:
        break;
    }
}

static void product(const oc_product *p)
{
    for (int j = 0; j < p->n; j += 4 * VW) {
        int columns = p->n - j < 4 * VW ? p->n - j : 4 * VW, vectors = (columns + VW - 1) / VW;
        product_tile at = {.b = p->b + (size_t)(j / OC_PANEL) * p->b_panel + j % OC_PANEL,
                           .start = p->start ? p->start + j : NULL,
                           .part = columns - (vectors - 1) * VW};
        for (int i = 0; i < p->m; i += ROWS_MAX) {
            at.a = p->a + (size_t)i * p->a_row;
            at.c = p->c + (size_t)i * p->c_row + j;
            product_rows(p, &at, p->m - i < ROWS_MAX ? p->m - i : ROWS_MAX, vectors);
        }
    }
}

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
