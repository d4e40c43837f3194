/* lstm_scan.cuh - what lstm.cu and lstm_backward.cu ask of the persistent kernels (lstm_persistent*.cu): all steps of
 * one layer, or of a chunk of them, in one launch, recurrent weights resident. Their weights: lstm_plan.cuh. */
#ifndef OC_KERNELS_CUDA_LSTM_SCAN_CUH
#define OC_KERNELS_CUDA_LSTM_SCAN_CUH

#include "kernels/cuda/lstm_plan.cuh"
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/random.cuh"

typedef struct oc_lstm_scan {
    int rows, steps, hidden;
    const void *w_hh; /* forward form */
    float *gates;     /* [T][rows][4H]: x . W + bias; after activation where `keep` */
    float *cells;     /* [T][rows][H] where `keep`, else not touched */
    float *out;       /* [T][rows][H] */
    float *dropped;   /* out times dropout, or NULL */
    bool keep;
    oc_device_dropout dropout;
    const float *h_first, *c_first; /* [rows][H], or NULL: 0 */
    float *c_last;                  /* or NULL. out may be h_first where steps is 1, c_last may be c_first */
    int64_t t_first;                /* of the window, for dropout: a chunk begins later */
    const float *x, *bias;          /* x . W inside (bf16, tf32): x [T][rows][inputs], or NULL */
    const void *w_ih;               /* forward form */
    int inputs;
} oc_lstm_scan;
typedef struct oc_lstm_scan_gradient {
    int rows, steps, hidden;
    const void *w_hh; /* backward form */
    const float *cells, *dy;
    float *gates; /* in: gates after activation, out: gradients of the pre-activations */
    /* A chunk: the gradients of the step after it, or NULL; whether cells has a step before it; dc [rows][H] is read
     * where next, written where earlier. */
    const float *next;
    bool earlier;
    float *dc;
} oc_lstm_scan_gradient;

/* Whether x . W of this width fits inside. */
bool oc_cuda_lstm_fused_serves(oc_backend *b, int hidden, int inputs);
OC_MUST oc_cuda_lstm_scan_run(oc_backend *b, const oc_lstm_scan *s);
OC_MUST oc_cuda_lstm_scan_gradient_run(oc_backend *b, const oc_lstm_scan_gradient *s);
OC_MUST oc_cuda_lstm_shape_check(const oc_lstm_shape *s, const char *what);

OC_MUST oc_cuda_lstm_scan_f32(oc_backend *b, const oc_lstm_scan *s); /* of these two alone */
OC_MUST oc_cuda_lstm_scan_gradient_f32(oc_backend *b, const oc_lstm_scan_gradient *s);

/* Rows a block: the few where all blocks then lie side by side, so that a small batch fills the device, else the many.
 * A row's bits do not depend on it. */
static inline int oc_scan_rows(oc_backend *b, int rows, int few, int many)
{
    return rows <= few * oc_cuda_of(b)->multiprocessors ? few : many;
}

/* ---------------------------------------------------------------- one unit of one row, for all LSTM kernels */
typedef struct oc_gates {
    float i, f, g, o;
} oc_gates;

OC_DEVICE oc_gates oc_gates_of(float i, float f, float g, float o)
{
    return {oc_device_sigmoid(i), oc_device_sigmoid(f), oc_device_tanh(g), oc_device_sigmoid(o)};
}

/* The cell of the step before becomes this one's; returns the state. */
OC_DEVICE float oc_gates_state(const oc_gates &a, float *cell)
{
    *cell = fmaf(a.f, *cell, a.i * a.g);
    return a.o * oc_device_tanh(*cell);
}

/* Gradients of the pre-activations; *dc becomes the one of the step before. The formulas of
 * kernels/cpu/body_backward.h, in their order [Hochreiter97]. */
OC_DEVICE oc_gates oc_gates_gradient(oc_gates a, float cell, float before, float dh, float *dc)
{
    const float squashed = oc_device_tanh(cell);
    const float d = fmaf(dh * a.o, 1.0f - squashed * squashed, *dc);
    *dc = d * a.f;
    return {(d * a.g) * (a.i * (1.0f - a.i)), (d * before) * (a.f * (1.0f - a.f)), (d * a.i) * (1.0f - a.g * a.g),
            (dh * squashed) * (a.o * (1.0f - a.o))};
}

/* ---------------------------------------------------------------- what persistent kernels do with it
 * Rows and units beyond the layer's read nothing, write nothing and are 0. Offsets within a step fit 32 bits, so that
 * an address is one register beside a base that all threads share. */

/* Cell and state of one unit of one row at step t from the sums of its gates. */
OC_DEVICE float oc_scan_unit(const oc_lstm_scan &s, int64_t t, int row, int unit, const float *sum, float *cell)
{
    if (row >= s.rows || unit >= s.hidden) return 0.0f;
    const unsigned H = (unsigned)s.hidden, at = (unsigned)row * H + (unsigned)unit, gate = at + 3 * (unsigned)row * H;
    const int64_t base = t * s.rows * s.hidden;
    const oc_gates a = oc_gates_of(sum[0], sum[1], sum[2], sum[3]);
    const float h = oc_gates_state(a, cell);
    (s.out + base)[at] = h;
    if (s.c_last && t == s.steps - 1) s.c_last[at] = *cell;
    if (s.dropped) (s.dropped + base)[at] = h * oc_device_dropout_factor(s.dropout, row, s.t_first + t, s.hidden, unit);
    if (s.keep) {
        float *gates = s.gates + 4 * base;
        (s.cells + base)[at] = *cell;
        gates[gate] = a.i;
        gates[gate + H] = a.f;
        gates[gate + 2 * H] = a.g;
        gates[gate + 3 * H] = a.o;
    }
    return h;
}

/* x . W + bias of its gates. */
OC_DEVICE void oc_scan_inputs(const oc_lstm_scan &s, int64_t t, int row, int unit, float *x)
{
    const bool there = row < s.rows && unit < s.hidden;
    const float *gates = s.gates + t * s.rows * 4 * s.hidden;
    const unsigned at = (unsigned)(row * 4 * s.hidden + unit), H = (unsigned)s.hidden;
    OC_UNROLL
    for (int g = 0; g < OC_GATES; g++) x[g] = there ? gates[at + (unsigned)g * H] : 0.0f;
}

/* What one unit of one row needs of memory at a step of backward. */
typedef struct oc_scan_kept {
    oc_gates a;
    float before, dy; /* the cell of the step before */
} oc_scan_kept;

OC_DEVICE float oc_scan_cell(const oc_lstm_scan_gradient &s, int64_t t, int row, int unit)
{
    const unsigned at = (unsigned)row * (unsigned)s.hidden + (unsigned)unit;
    return row < s.rows && unit < s.hidden ? (s.cells + t * s.rows * s.hidden)[at] : 0.0f;
}

OC_DEVICE oc_scan_kept oc_scan_kept_of(const oc_lstm_scan_gradient &s, int64_t t, int row, int unit)
{
    if (row >= s.rows || unit >= s.hidden) return {};
    const unsigned H = (unsigned)s.hidden, at = (unsigned)row * H + (unsigned)unit, gate = at + 3 * (unsigned)row * H;
    const int64_t base = t * s.rows * s.hidden;
    const float *gates = s.gates + 4 * base;
    return {{gates[gate], gates[gate + H], gates[gate + 2 * H], gates[gate + 3 * H]},
            t > 0 || s.earlier ? oc_scan_cell(s, t - 1, row, unit) : 0.0f,
            (s.dy + base)[at]};
}

/* Where a chunk begins and ends: the gradient of gate g of the step after it, and dc of the unit. */
OC_DEVICE float oc_scan_next(const oc_lstm_scan_gradient &s, int row, int unit, int g)
{
    const unsigned H = (unsigned)s.hidden;
    return row < s.rows && unit < s.hidden ? s.next[((unsigned)row * 4 + (unsigned)g) * H + (unsigned)unit] : 0.0f;
}
OC_DEVICE float oc_scan_dc(const oc_lstm_scan_gradient &s, int row, int unit)
{
    const bool there = s.next && row < s.rows && unit < s.hidden;
    return there ? s.dc[(unsigned)row * (unsigned)s.hidden + (unsigned)unit] : 0.0f;
}
OC_DEVICE void oc_scan_dc_keep(const oc_lstm_scan_gradient &s, int row, int unit, float dc)
{
    if (s.earlier && row < s.rows && unit < s.hidden) s.dc[(unsigned)row * (unsigned)s.hidden + (unsigned)unit] = dc;
}

/* Writes them; returns what the step before reads of this unit: zeros beyond the layer. */
OC_DEVICE oc_gates oc_scan_keep(const oc_lstm_scan_gradient &s, int64_t t, int row, int unit, const oc_gates &d)
{
    if (row >= s.rows || unit >= s.hidden) return {0.0f, 0.0f, 0.0f, 0.0f};
    const unsigned H = (unsigned)s.hidden, gate = 4 * (unsigned)row * H + (unsigned)unit;
    float *gates = s.gates + 4 * t * s.rows * s.hidden;
    gates[gate] = d.i;
    gates[gate + H] = d.f;
    gates[gate + 2 * H] = d.g;
    gates[gate + 3 * H] = d.o;
    return d;
}

#endif
