/* linear.c - a linear layer, the gather of windows with the scaler, and the softmax of the answer.
 * Packed weights of a linear layer: transposed, [K][ld], ld = outputs rounded up to 16, so that outputs are the lanes.
 * */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/ops_cpu.h"

size_t oc_cpu_linear_packed_bytes(oc_backend *b, int outputs, int inputs)
{
    (void)b;
    return oc_round_up((size_t)outputs, 16) * (size_t)inputs * sizeof(float);
}

oc_status oc_cpu_linear_pack(oc_backend *b, oc_tensor w, oc_tensor packed)
{
    const int outputs = (int)w.dims[0], inputs = (int)w.dims[1];
    const size_t ld = oc_round_up((size_t)outputs, 16);
    assert((size_t)oc_tensor_count(packed) * oc_dtype_bytes(packed.dtype) >=
           oc_cpu_linear_packed_bytes(b, outputs, inputs));
    memset(packed.data, 0, ld * (size_t)inputs * sizeof(float));
    b->kernels->transpose(w.data, (size_t)inputs, outputs, inputs, packed.data, ld);
    return OC_OK;
}

oc_status oc_cpu_linear_forward(oc_backend *b, oc_tensor x, oc_tensor packed, oc_tensor bias, bool relu, oc_tensor y)
{
    const int rows = (int)x.dims[0], inputs = (int)x.dims[1], outputs = (int)y.dims[1];
    assert(y.dims[0] == rows && oc_tensor_count(bias) == outputs);
    const oc_product p = {.m = rows,
                          .n = outputs,
                          .k = inputs,
                          .a = x.data,
                          .a_row = (size_t)inputs,
                          .a_k = 1,
                          .b = packed.data,
                          .b_k = oc_round_up((size_t)outputs, 16),
                          .b_panel = OC_PANEL,
                          .c = y.data,
                          .c_row = (size_t)outputs,
                          .start = bias.data};
    b->kernels->product(&p);
    if (relu) b->kernels->relu_row(y.data, rows * outputs);
    return OC_OK;
}

oc_status oc_cpu_gather_scale(oc_backend *b, oc_tensor rows, oc_tensor index, oc_tensor mean, oc_tensor scale,
                              float clip, oc_tensor x)
{
    const int64_t count = rows.dims[0], steps = x.dims[0], batch = x.dims[1];
    const int inputs = (int)rows.dims[1];
    const float *from = rows.data;
    const int64_t *last = index.data;
    float *to = x.data;
    assert(index.dtype == OC_DTYPE_I64 && oc_tensor_count(index) == batch && x.dims[2] == inputs);
    assert(oc_tensor_count(mean) == inputs && oc_tensor_count(scale) == inputs);
    for (int64_t i = 0; i < batch; i++)
        if (!(last[i] >= steps - 1 && last[i] < count))
            return OC_FAIL(
                OC_EDATA, "gather_scale: window %lld ends at row %lld; %lld rows hold windows ending at %lld to %lld",
                (long long)i, (long long)last[i], (long long)count, (long long)steps - 1, (long long)count - 1);
    for (int64_t i = 0; i < batch; i++) {
        const oc_scaling window = {.rows = (int)steps,
                                   .count = inputs,
                                   .from = from + (last[i] - steps + 1) * inputs,
                                   .from_row = (size_t)inputs,
                                   .mean = mean.data,
                                   .scale = scale.data,
                                   .clip = clip,
                                   .to = to + i * inputs,
                                   .to_row = (size_t)(batch * inputs)};
        b->kernels->scale_rows(&window);
    }
    return OC_OK;
}

oc_status oc_cpu_softmax(oc_backend *b, int horizons, const float *temperature, oc_tensor logits,
                         oc_tensor probabilities)
{
    const int64_t rows = oc_tensor_count(logits) / OC_CLASSES;
    const float *z = logits.data;
    float *p = probabilities.data;
    assert(horizons >= 1 && rows % horizons == 0 && oc_tensor_count(probabilities) == oc_tensor_count(logits));
    for (int64_t i = 0; i < rows; i++) {
        for (int c = 0; c < OC_CLASSES; c++) p[i * OC_CLASSES + c] = z[i * OC_CLASSES + c] / temperature[i % horizons];
        b->kernels->softmax_row(p + i * OC_CLASSES, OC_CLASSES, 1.0f);
    }
    return OC_OK;
}
