/* lstm_plan.cuh - how the persistent LSTM kernels hold weights: the arithmetic that packing (lstm_pack.cu), the layout
 * of `packed` and the kernels share. H is padded to 32, 64 or 128 units, F to whole fragments, with zeros.
 * bf16, tf32: fragments of A (device.cuh), 16 bytes a lane, rounded already, in the order in which threads take them,
 * so that a kernel loads them as plain vectors: forward, W_hh and W_ih   [k-step][half m][units / 8 warps][32 lanes]:
 * rows 0 … 7 are gate 2m of a warp's 8 units, rows 8 … 15 gate 2m + 1 backward, W_hh           [k-step][units / 16
 * warps][32 lanes]: rows are units, k = gate units + unit of the step after f32: forward [k][4 unit + gate], backward
 * [k][4 unit + gate] = W_hh[gate H + k][unit]: a thread reads its column. */
#ifndef OC_KERNELS_CUDA_LSTM_PLAN_CUH
#define OC_KERNELS_CUDA_LSTM_PLAN_CUH

#include <stddef.h>
#include <stdint.h>
#include "kernels/ops.h"

static constexpr int OC_SCAN_UNITS_MAX = 128; /* what one multiprocessor holds */
/* Shared memory of a block on compute capability 8.0; 9.0 has 227 KB, 8.6 and 8.9 have 99 KB: the twin alone there. */
static constexpr size_t OC_SHARED_MAX_80 = 163 * 1024;

static constexpr int OC_FUSED_INPUTS_MAX = 160; /* x . W inside: 5 numbers of a row a lane on their way */

/* Width of the persistent kernels for H, 0: too wide for them. */
static inline int oc_scan_units(int hidden)
{
    return hidden <= 32 ? 32 : hidden <= 64 ? 64 : hidden <= OC_SCAN_UNITS_MAX ? OC_SCAN_UNITS_MAX : 0;
}

/* k of a fragment; f32 has none. */
static inline int oc_scan_depth(oc_math math)
{
    return math == OC_MATH_BF16 ? 16 : math == OC_MATH_TF32 ? 8 : 1;
}

/* k-steps of W_ih. */
static inline int oc_scan_input_steps(oc_math math, int inputs)
{
    return (inputs + oc_scan_depth(math) - 1) / oc_scan_depth(math);
}

/* Floats' worth of memory of 4 units x k numbers. */
static inline size_t oc_scan_words(oc_math math, int units, int k)
{
    return (size_t)4 * (size_t)units * (size_t)k / (math == OC_MATH_BF16 ? 2 : 1);
}

#endif
