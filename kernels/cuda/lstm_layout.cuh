/* lstm_layout.cuh - where things lie in `packed` and `reserve` of the CUDA LSTM. Offsets count floats; every part
 * begins at a multiple of 32 floats (128 bytes).
 * packed, per layer: w_ih [4H][in], w_hh [4H][H] as PyTorch has them, bias [4H] = b_ih + b_hh; where H fits, what the
 *   persistent kernels hold (lstm_plan.cuh)
 * reserve in training, per layer (backward CONSUMES it: gates become gradients):
 *   gates [T][B][4H]   first x . W_ih + bias, then i, f, g, o after activation
 *   cells [T][B][H]    out [T][B][H] (not of the last layer: that is y)    in [T][B][H] out with dropout applied
 *   dc [B][H];  and once parts: sums of split products
 * reserve in inference: gates [T][B][4H], cells [B][H], out [T][B][H] of two layers by turns but for the last (y), old
 *   [B][H] (lstm_step). It fits in the one of training
 * B is s->batch, the batch of the call. */
#ifndef OC_KERNELS_CUDA_LSTM_LAYOUT_CUH
#define OC_KERNELS_CUDA_LSTM_LAYOUT_CUH

#include "kernels/cuda/lstm_plan.cuh"

/* Of one layer; nothing where oc_scan_units is 0. */
typedef struct oc_cuda_scan_layout {
    size_t forward_hh, forward_ih, backward_hh;
} oc_cuda_scan_layout;

typedef struct oc_cuda_lstm_layout {
    size_t w_ih[OC_LAYERS_MAX], w_hh[OC_LAYERS_MAX], bias[OC_LAYERS_MAX], packed_count;
    oc_cuda_scan_layout scan[OC_LAYERS_MAX];
    size_t gates[OC_LAYERS_MAX], cells[OC_LAYERS_MAX], out[OC_LAYERS_MAX], in[OC_LAYERS_MAX], dc[OC_LAYERS_MAX];
    size_t parts;
    size_t reserve_count;
    size_t once_gates, once_cells, once_out[2], old, once_count; /* inference */
} oc_cuda_lstm_layout;

static inline size_t oc_cuda_take(size_t *used, size_t count)
{
    const size_t at = *used;
    *used += (count + 31) / 32 * 32;
    return at;
}

static inline int oc_cuda_layer_inputs(const oc_lstm_shape *s, int layer)
{
    return layer == 0 ? s->inputs : s->hidden;
}

/* Ranges of k that dW = dgates' . x over `rows` rows is cut into, so that its few tiles fill a device. A function of
 * the shape alone: the same sums on every device. */
static inline int oc_cuda_lstm_splits(int64_t rows, int hidden, int inputs)
{
    const int64_t tiles = (int64_t)((4 * hidden + 63) / 64) * ((inputs + 63) / 64);
    int64_t splits = 256 / tiles;
    if (splits > rows / 256) splits = rows / 256;
    return splits < 1 ? 1 : splits > 64 ? 64 : (int)splits;
}

static inline size_t oc_cuda_lstm_parts(int64_t rows, int hidden, int inputs)
{
    const int splits = oc_cuda_lstm_splits(rows, hidden, inputs);
    return splits > 1 ? (size_t)splits * 4 * (size_t)hidden * (size_t)inputs : 0;
}

static inline oc_cuda_scan_layout oc_cuda_scan_layout_make(oc_math math, int units, int inputs, size_t *used)
{
    oc_cuda_scan_layout l = {};
    const int padded = oc_scan_input_steps(math, inputs) * oc_scan_depth(math);
    l.forward_hh = oc_cuda_take(used, oc_scan_words(math, units, units));
    l.backward_hh = oc_cuda_take(used, oc_scan_words(math, units, units));
    if (math != OC_MATH_F32) l.forward_ih = oc_cuda_take(used, oc_scan_words(math, units, padded));
    return l;
}

static inline oc_cuda_lstm_layout oc_cuda_lstm_layout_make(const oc_lstm_shape *s, oc_math math)
{
    oc_cuda_lstm_layout l = {};
    const int units = oc_scan_units(s->hidden);
    const size_t hidden = (size_t)s->hidden, batch = (size_t)s->batch, rows = (size_t)s->steps * batch;
    size_t parts = 64 * 4 * hidden; /* sums of columns */
    for (int i = 0; i < s->layers; i++) {
        const size_t inputs = (size_t)oc_cuda_layer_inputs(s, i);
        l.w_ih[i] = oc_cuda_take(&l.packed_count, 4 * hidden * inputs);
        l.w_hh[i] = oc_cuda_take(&l.packed_count, 4 * hidden * hidden);
        l.bias[i] = oc_cuda_take(&l.packed_count, 4 * hidden);
        if (units > 0) l.scan[i] = oc_cuda_scan_layout_make(math, units, (int)inputs, &l.packed_count);
        const size_t both[2] = {oc_cuda_lstm_parts((int64_t)rows, s->hidden, (int)inputs),
                                oc_cuda_lstm_parts((int64_t)rows, s->hidden, s->hidden)};
        for (int n = 0; n < 2; n++) parts = both[n] > parts ? both[n] : parts;
    }
    for (int i = 0; i < s->layers; i++) {
        l.dc[i] = oc_cuda_take(&l.reserve_count, batch * hidden);
        l.gates[i] = oc_cuda_take(&l.reserve_count, rows * 4 * hidden);
        l.cells[i] = oc_cuda_take(&l.reserve_count, rows * hidden);
        if (i == s->layers - 1) continue;
        l.out[i] = oc_cuda_take(&l.reserve_count, rows * hidden);
        l.in[i] = oc_cuda_take(&l.reserve_count, rows * hidden);
    }
    l.parts = oc_cuda_take(&l.reserve_count, parts);
    l.once_gates = oc_cuda_take(&l.once_count, rows * 4 * hidden);
    l.once_cells = oc_cuda_take(&l.once_count, batch * hidden);
    for (int i = 0; i < 2; i++) l.once_out[i] = oc_cuda_take(&l.once_count, s->layers > i + 1 ? rows * hidden : 0);
    l.old = oc_cuda_take(&l.once_count, batch * hidden);
    return l;
}

#endif
