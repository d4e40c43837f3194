/* kernels_cpu.h - the inner loops of kernels/cpu as one table per instruction set. The bodies (body_*.h) are written
 * once over the vector layer (vec_*.h) and compiled three times (isa_*.c); what stands above them (shapes, order of
 * calls, memory) is compiled once and calls through the table.
 * Add an inner loop: a static function in a body_*.h, and a row in OC_CPU_KERNELS with the same name. */
#ifndef OC_KERNELS_CPU_KERNELS_CPU_H
#define OC_KERNELS_CPU_KERNELS_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OC_PANEL = 64, OC_BLOCK = 16 }; /* columns of a packed panel; hidden units of a block of all four gates */

/* Packed columns of one LSTM layer: whole blocks [gate][16], then the hidden % 16 units of the tail [gate][units], side
 * by side, up to a multiple of 16: H = 100 has 400 columns and not 448, H = 200 has 800. A matrix is [block][k][columns
 * of the block], so row k of a block has OC_PANEL numbers, of the tail oc_tail_columns. In bf16 k counts words of two
 * (bf16.h): half as many. */
static inline size_t oc_tail_columns(int hidden)
{
    return ((size_t)hidden % OC_BLOCK * 4 + 15) / 16 * 16;
}

static inline size_t oc_whole_columns(int hidden)
{
    return (size_t)hidden / OC_BLOCK * OC_PANEL;
}

/* c[i][j] (+)= sum over k of a(i,k) b(k,j): m x n, chains over ascending k, from `start`[j], or from c where `add`, or
 * 0. a(i,k) = a[i * a_row + k * a_k]: either way round. Row k of b has its columns side by side:
 * b(k,j) = b[(j / 64) * b_panel + k * b_k + j % 64]; plain row-major b [k][ld]: b_panel = 64, b_k = ld.
 * Nothing outside of a, b, c is touched. c must not overlap a or b. k may be split over calls with `add`: same bits. */
typedef struct oc_product {
    int m, n, k;
    const float *a;
    size_t a_row, a_k;
    const float *b;
    size_t b_k, b_panel;
    float *c;
    size_t c_row;
    const float *start; /* [n] or NULL */
    bool add;
    size_t apart; /* of product_apart alone: row i has its own b + i * apart, start + i * apart */
} oc_product;

/* x [rows][count] against a packed matrix of a layer: to [rows][packed columns] = chains over k from start [columns],
 * or from 0 where it is NULL. */
typedef struct oc_projection {
    int rows, count, hidden;
    const float *x, *w, *start;
    float *to;
} oc_projection;

/* One layer, one step, `rows` rows. Pre-activation = X + H, X = x.W_ih chain from the bias, H = h.W_hh chain from 0;
 * each is either computed or read from memory in the order of the packed columns. */
typedef struct oc_cell {
    int rows, inputs, hidden;
    const float *w_ih, *w_hh, *bias; /* packed */
    const float *x, *xw;             /* x NULL: X is read from xw */
    const float *h, *hw;             /* h NULL: H is read from hw; both NULL: H is 0 (first step) */
    const float *c;                  /* NULL: 0 */
    float *c_out, *h_out;            /* c_out may be c; h_out may not be h */
    float *gates;                    /* [4][H] a row, after activation; NULL: not kept */
    size_t x_row, xw_row, h_row, hw_row, c_row, c_out_row, h_out_row,
        gates_row; /* distances; 0: the same for all rows */
} oc_cell;

/* One layer, all steps of one row from the zero state; X is there in packed column order. */
typedef struct oc_recurrence {
    int steps, hidden;
    const float *w_hh, *xw; /* packed; [steps][packed columns] */
    float *c, *y;           /* [hidden] scratch; [steps][hidden] */
} oc_recurrence;

/* to = (from - mean) / scale, clipped to +-clip where clip > 0, for rows that lie from_row and to_row apart. */
typedef struct oc_scaling {
    int rows, count;
    const float *from, *mean, *scale;
    float *to;
    size_t from_row, to_row;
    float clip;
} oc_scaling;

/* Gradient of one layer's step; all rows lie side by side. gates [rows][4H], after activation, become the gradients of
 * the pre-activations; dc [rows][H] becomes the one of the step before. dh = dy + dh, or dy where dh is NULL. */
typedef struct oc_cell_gradient {
    int rows, hidden;
    float *gates;
    const float *cells, *before; /* c of this step and of the one before; before NULL: 0 */
    const float *dy, *dh;
    float *dc;
} oc_cell_gradient;

#define OC_CPU_KERNELS(X)                                                                                              \
    X(product, void, (const oc_product *p))                                                                            \
    X(product_apart, void, (const oc_product *p)) /* few rows, n <= 64, no add */                                      \
    X(project, void, (const oc_projection *p))                                                                         \
    X(cell, void, (const oc_cell *cell))                                                                               \
    X(recurrence, void, (const oc_recurrence *r))                                                                      \
    X(transpose, void, (const float *from, size_t from_row, int rows, int columns, float *to, size_t to_row))          \
    X(softmax_row, void, (float *x, int count, float scale)) /* x = softmax(scale * x) */                              \
    X(scale_rows, void, (const oc_scaling *p))                                                                         \
    X(exp_row, void, (const float *x, int count, float *to))                                                           \
    X(tanh_row, void, (const float *x, int count, float *to))                                                          \
    X(sigmoid_row, void, (const float *x, int count, float *to))                                                       \
    X(fma_burst, float, (int64_t count, int64_t * operations)) /* peak.h */                                            \
    X(relu_row, void, (float *x, int count))                                                                           \
    X(cell_gradient, void, (const oc_cell_gradient *p))                                                                \
    X(column_sums, void, (const float *x, int rows, int columns, float *sums))                                         \
    X(relu_gradient, void, (const float *y, float *dy, int count))                                                     \
    X(softmax_gradient, void, (const float *map, float *dmap, int count, float scale))                                 \
    X(dropout_row, void, (uint32_t key, uint64_t counter, uint32_t least, float factor, float *x, int count))

typedef struct oc_cpu_kernels {
#define OC_CPU_KERNELS_FIELD(name, result, arguments) result(*name) arguments;
    OC_CPU_KERNELS(OC_CPU_KERNELS_FIELD)
#undef OC_CPU_KERNELS_FIELD
} oc_cpu_kernels;

/* _pairs: project, cell and recurrence read weights packed as words of two bf16 and round what the weights meet; all
 * else is the same. _native: by instructions for it; the others compute the same bits with two fma a word. */
extern const oc_cpu_kernels oc_cpu_kernels_scalar, oc_cpu_kernels_scalar_pairs;
#if defined(__x86_64__)
extern const oc_cpu_kernels oc_cpu_kernels_avx2, oc_cpu_kernels_avx2_pairs;
extern const oc_cpu_kernels oc_cpu_kernels_avx512, oc_cpu_kernels_avx512_pairs, oc_cpu_kernels_avx512_native;
#endif

#endif
