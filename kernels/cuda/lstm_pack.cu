/* lstm_pack.cu - weights of an LSTM stack in the forms that its kernels want: as PyTorch has them for the step by step
 * twin and the large products, and, where H fits, what the persistent kernels hold (lstm_plan.cuh).
 * Parallel over what is written, each thread gathers the 4 to 8 numbers of one lane's fragment. Reads uncoalesced, some
 * 0.2 MB a layer from L2: far below a launch. Once a training step. Not run on a GPU. */
#include "kernels/cuda/lstm_cudnn.cuh"
#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"
#include "kernels/cuda/number.cuh"

size_t oc_cuda_lstm_packed_bytes(oc_backend *b, const oc_lstm_shape *s)
{
    const size_t ours = oc_cuda_lstm_layout_make(s, b->info.math).packed_count * sizeof(float);
    return oc_cuda_dnn_serves(b, s) ? ours + oc_cuda_dnn_packed_bytes(b, s) : ours;
}

typedef struct packing {
    const float *w_ih, *w_hh, *b_ih, *b_hh;
    float *to_ih, *to_hh, *bias;
    int64_t count_ih, count_hh, count_bias;
} packing;

static __global__ void lstm_pack(packing p)
{
    for (int64_t i = oc_thread_first(); i < p.count_ih; i += oc_thread_step()) p.to_ih[i] = p.w_ih[i];
    for (int64_t i = oc_thread_first(); i < p.count_hh; i += oc_thread_step()) p.to_hh[i] = p.w_hh[i];
    for (int64_t i = oc_thread_first(); i < p.count_bias; i += oc_thread_step()) p.bias[i] = p.b_ih[i] + p.b_hh[i];
}

typedef struct scan_packing {
    const float *w; /* [4H][inputs] */
    int hidden, inputs, units, steps;
    void *to; /* uint4 a fragment, or floats */
} scan_packing;

template <int MATH> static __global__ void lstm_pack_forward(scan_packing p)
{
    typedef oc_number<MATH> number;
    const int warps = p.units / 8, count = p.steps * 2 * warps * 32;
    for (int at = (int)oc_thread_first(); at < count; at += (int)oc_thread_step()) {
        const int lane = at % 32, first = at / 32 % warps * 8, m = at / 32 / warps % 2, step = at / 64 / warps;
        const auto of = [&](int row, int k) {
            const int gate = 2 * m + row / 8, unit = first + row % 8;
            return unit < p.hidden && k < p.inputs ? p.w[((int64_t)gate * p.hidden + unit) * p.inputs + k] : 0.0f;
        };
        uint32_t a[4];
        for (int n = 0; n < 4; n++) a[n] = number::a(of, step * number::DEPTH, lane / 4, lane % 4, n);
        static_cast<uint4 *>(p.to)[at] = {a[0], a[1], a[2], a[3]};
    }
}

template <int MATH> static __global__ void lstm_pack_backward(scan_packing p)
{
    typedef oc_number<MATH> number;
    const int warps = p.units / 16, count = p.steps * warps * 32;
    for (int at = (int)oc_thread_first(); at < count; at += (int)oc_thread_step()) {
        const int lane = at % 32, first = at / 32 % warps * 16, step = at / 32 / warps;
        const auto of = [&](int row, int k) {
            const int gate = k / p.units, from = k % p.units, unit = first + row;
            return unit < p.hidden && from < p.hidden ? p.w[((int64_t)gate * p.hidden + from) * p.hidden + unit] : 0.0f;
        };
        uint32_t a[4];
        for (int n = 0; n < 4; n++) a[n] = number::a(of, step * number::DEPTH, lane / 4, lane % 4, n);
        static_cast<uint4 *>(p.to)[at] = {a[0], a[1], a[2], a[3]};
    }
}

static __global__ void lstm_pack_f32(scan_packing p, float *backward)
{
    const int columns = 4 * p.units, count = p.units * columns;
    for (int at = (int)oc_thread_first(); at < count; at += (int)oc_thread_step()) {
        const int k = at / columns, unit = at % columns / 4, gate = at % 4;
        const bool there = k < p.hidden && unit < p.hidden;
        const float *w = p.w + (int64_t)gate * p.hidden * p.hidden;
        static_cast<float *>(p.to)[at] = there ? w[(int64_t)unit * p.hidden + k] : 0.0f;
        backward[at] = there ? w[(int64_t)k * p.hidden + unit] : 0.0f;
    }
}

template <int MATH>
static OC_MUST pack_fragments(oc_backend *b, const packing *w, int hidden, int inputs, float *base,
                              const oc_cuda_scan_layout *at)
{
    const int units = oc_scan_units(hidden), depth = oc_number<MATH>::DEPTH;
    const scan_packing hh = {w->w_hh, hidden, hidden, units, units / depth, base + at->forward_hh},
                       back = {w->w_hh, hidden, hidden, units, 4 * units / depth, base + at->backward_hh},
                       ih = {w->w_ih,
                             hidden,
                             inputs,
                             units,
                             oc_scan_input_steps((oc_math)MATH, inputs),
                             base + at->forward_ih};
    const auto grid = [&](const scan_packing &p) { return oc_flat_grid(b, (int64_t)p.steps * p.units * 8); };
    OC_LAUNCH(b, lstm_pack_forward<MATH>, grid(hh), OC_FLAT_THREADS, 0, hh);
    OC_LAUNCH(b, lstm_pack_forward<MATH>, grid(ih), OC_FLAT_THREADS, 0, ih);
    OC_LAUNCH(b, lstm_pack_backward<MATH>, grid(back), OC_FLAT_THREADS, 0, back);
    return OC_OK;
}

static OC_MUST pack_scan(oc_backend *b, const packing *w, int hidden, int inputs, float *base,
                         const oc_cuda_scan_layout *at)
{
    const int units = oc_scan_units(hidden);
    if (b->info.math == OC_MATH_BF16) return pack_fragments<OC_MATH_BF16>(b, w, hidden, inputs, base, at);
    if (b->info.math == OC_MATH_TF32) return pack_fragments<OC_MATH_TF32>(b, w, hidden, inputs, base, at);
    const scan_packing p = {w->w_hh, hidden, hidden, units, units, base + at->forward_hh};
    OC_LAUNCH(b, lstm_pack_f32, oc_flat_grid(b, (int64_t)4 * units * units), OC_FLAT_THREADS, 0, p,
              base + at->backward_hh);
    return OC_OK;
}

oc_status oc_cuda_lstm_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, oc_tensor packed)
{
    OC_TRY(oc_cuda_lstm_shape_check(s, "lstm_pack"));
    const oc_cuda_lstm_layout l = oc_cuda_lstm_layout_make(s, b->info.math);
    float *base = (float *)packed.data;
    for (int i = 0; i < s->layers; i++) {
        const int64_t hidden = s->hidden;
        const int inputs = oc_cuda_layer_inputs(s, i);
        const packing p = {(const float *)w->w_ih[i].data,
                           (const float *)w->w_hh[i].data,
                           (const float *)w->b_ih[i].data,
                           (const float *)w->b_hh[i].data,
                           base + l.w_ih[i],
                           base + l.w_hh[i],
                           base + l.bias[i],
                           4 * hidden * inputs,
                           4 * hidden * hidden,
                           4 * hidden};
        assert(oc_cuda_count(w->w_ih[i]) == p.count_ih && oc_cuda_count(w->w_hh[i]) == p.count_hh);
        OC_LAUNCH(b, lstm_pack, oc_flat_grid(b, p.count_hh + p.count_ih), OC_FLAT_THREADS, 0, p);
        if (oc_scan_units(s->hidden) > 0) OC_TRY(pack_scan(b, &p, s->hidden, inputs, base, &l.scan[i]));
    }
    if (oc_cuda_dnn_serves(b, s)) OC_TRY(oc_cuda_dnn_pack(b, s, w, (float *)packed.data + l.packed_count));
    return OC_OK;
}
