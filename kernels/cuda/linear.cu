/* linear.cu - gather and scale of windows, linear layers forward and backward. f32 with the CPU's bits: the same chains
 * (product.cu). Bound: gather_scale moves each number of x twice; the linear layers are small. Not run on a GPU. */
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/rows.cuh"

typedef struct gathering {
    const float *rows;
    const int64_t *index;
    const float *mean, *scale;
    float clip;
    float *x;
    int64_t row_count, steps, batch, inputs;
    oc_cuda_fault *fault;
} gathering;

/* A window that does not lie in the rows is NaN, and a fault. */
static __global__ void gather_scale(gathering g)
{
    const int64_t count = g.steps * g.batch * g.inputs;
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        const int64_t column = i % g.inputs, window = i / g.inputs % g.batch, step = i / g.inputs / g.batch;
        const int64_t last = g.index[window];
        if (!(last >= g.steps - 1 && last < g.row_count)) {
            oc_fault(g.fault, OC_FAULT_WINDOW, window);
            g.x[i] = __uint_as_float(0x7fc00000u);
            continue;
        }
        g.x[i] =
            oc_scaled(g.rows[(last - g.steps + 1 + step) * g.inputs + column], g.mean[column], g.scale[column], g.clip);
    }
}

oc_status oc_cuda_gather_scale(oc_backend *b, oc_tensor rows, oc_tensor index, oc_tensor mean, oc_tensor scale,
                               float clip, oc_tensor x)
{
    assert(index.dtype == OC_DTYPE_I64 && oc_cuda_count(index) == x.dims[1] && x.dims[2] == rows.dims[1]);
    const gathering g = {(const float *)rows.data,
                         (const int64_t *)index.data,
                         (const float *)mean.data,
                         (const float *)scale.data,
                         clip,
                         (float *)x.data,
                         rows.dims[0],
                         x.dims[0],
                         x.dims[1],
                         x.dims[2],
                         oc_cuda_of(b)->fault};
    OC_LAUNCH(b, gather_scale, oc_flat_grid(b, oc_cuda_count(x)), OC_FLAT_THREADS, 0, g);
    return OC_OK;
}

/* ---------------------------------------------------------------- linear layers: packed weights are the weights */
size_t oc_cuda_linear_packed_bytes(oc_backend *b, int outputs, int inputs)
{
    (void)b;
    return (size_t)outputs * (size_t)inputs * sizeof(float);
}

oc_status oc_cuda_linear_pack(oc_backend *b, oc_tensor w, oc_tensor packed)
{
    const size_t bytes = (size_t)oc_cuda_count(w) * sizeof(float);
    OC_TRY(oc_cuda_result(
        b, cudaMemcpyAsync(packed.data, w.data, bytes, cudaMemcpyDeviceToDevice, oc_cuda_of(b)->stream), "a copy"));
    return OC_OK;
}

oc_status oc_cuda_linear_forward(oc_backend *b, oc_tensor x, oc_tensor packed, oc_tensor bias, bool relu, oc_tensor y)
{
    const int inputs = (int)x.dims[1];
    oc_cuda_product p = {};
    assert(y.dims[0] == x.dims[0] && oc_cuda_count(bias) == y.dims[1]);
    p.m = (int)x.dims[0];
    p.n = (int)y.dims[1];
    p.k = inputs;
    p.a = (const float *)x.data;
    p.a_row = inputs;
    p.a_k = 1;
    p.b = (const float *)packed.data;
    p.b_k = 1;
    p.b_column = inputs;
    p.c = (float *)y.data;
    p.c_row = p.n;
    p.start = (const float *)bias.data;
    p.relu = relu;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

static __global__ void relu_gradient(const float *y, float *dy, int64_t count)
{
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step())
        if (y[i] <= 0.0f) dy[i] = 0.0f;
}

oc_status oc_cuda_linear_backward(oc_backend *b, oc_tensor x, oc_tensor w, oc_tensor y, bool relu, oc_tensor dy,
                                  oc_tensor dx, oc_tensor dw, oc_tensor dbias)
{
    const int rows = (int)x.dims[0], inputs = (int)w.dims[1], outputs = (int)w.dims[0];
    assert(oc_cuda_count(dy) == (int64_t)rows * outputs && oc_cuda_count(dw) == oc_cuda_count(w));
    if (relu)
        OC_LAUNCH(b, relu_gradient, oc_flat_grid(b, oc_cuda_count(dy)), OC_FLAT_THREADS, 0, (const float *)y.data,
                  (float *)dy.data, oc_cuda_count(dy));
    oc_cuda_product p = {};
    p.m = outputs;
    p.n = inputs;
    p.k = rows;
    p.a = (const float *)dy.data;
    p.a_row = 1;
    p.a_k = outputs;
    p.b = (const float *)x.data;
    p.b_k = inputs;
    p.b_column = 1;
    p.c = (float *)dw.data;
    p.c_row = inputs;
    OC_TRY(oc_cuda_product_run(b, &p));
    OC_TRY(oc_cuda_column_sums(b, (const float *)dy.data, rows, outputs, 1, NULL, (float *)dbias.data, NULL));
    if (!dx.data) return OC_OK;
    p.m = rows;
    p.k = outputs;
    p.a_row = outputs;
    p.a_k = 1;
    p.b = (const float *)w.data;
    p.c = (float *)dx.data;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}
