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
} oc_lstm_scan;
typedef struct oc_lstm_scan_gradient {
    int rows, steps, hidden;
    const void *w_hh; /* backward form */
    const float *cells, *dy;
    float *gates; /* in: gates after activation, out: gradients of the pre-activations */
} oc_lstm_scan_gradient;

/* Whether they serve this shape in this math; the step by step twin serves all. OUTCRY_CUDA_SCAN=0: never. */
bool oc_cuda_lstm_scan_serves(oc_backend *b, int hidden, bool backward);
OC_MUST oc_cuda_lstm_scan_run(oc_backend *b, const oc_lstm_scan *s);
OC_MUST oc_cuda_lstm_scan_gradient_run(oc_backend *b, const oc_lstm_scan_gradient *s);
OC_MUST oc_cuda_lstm_shape_check(const oc_lstm_shape *s, const char *what);

/* Rows a block: the fewest of the offered tiles, 8 rows each, with which all blocks lie side by side. */
static inline int oc_scan_tiles(oc_backend *b, int rows, int few, int many)
{
    return rows <= 8 * few * oc_cuda_of(b)->multiprocessors ? few : many;
}

/* ---------------------------------------------------------------- one unit of one row, for all LSTM kernels */
typedef struct oc_gates {
    float i, f, g, o;
} oc_gates;

OC_DEVICE oc_gates oc_gates_of(float i, float f, float g, float o)
{
    return {oc_device_sigmoid(i), oc_device_sigmoid(f), oc_device_tanh(g), oc_device_sigmoid(o)};
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

#endif
