/* linear_backward.c - gradients of y = x . w' + bias, and dropout in place. */
#include <assert.h>
#include <math.h>
#include "base/random.h"
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/ops_cpu.h"

oc_status oc_cpu_linear_backward(oc_backend *b, oc_tensor x, oc_tensor w, oc_tensor y, bool relu, oc_tensor dy,
                                 oc_tensor dx, oc_tensor dw, oc_tensor dbias)
{
    static const float one = 1.0f;
    const oc_cpu_kernels *k = b->kernels;
    const int rows = (int)x.dims[0], inputs = (int)w.dims[1], outputs = (int)w.dims[0];
    assert(oc_tensor_count(dy) == (int64_t)rows * outputs && oc_tensor_count(x) == (int64_t)rows * inputs);
    assert(oc_tensor_count(dw) == oc_tensor_count(w) && oc_tensor_count(dbias) == outputs);
    if (relu) k->relu_gradient(y.data, dy.data, rows * outputs);
    const oc_product weights = {.m = outputs,
                                .n = inputs,
                                .k = rows,
                                .a = dy.data,
                                .a_row = 1,
                                .a_k = (size_t)outputs,
                                .b = x.data,
                                .b_k = (size_t)inputs,
                                .b_panel = OC_PANEL,
                                .c = dw.data,
                                .c_row = (size_t)inputs};
    const oc_product bias = {.m = 1,
                             .n = outputs,
                             .k = rows,
                             .a = &one,
                             .b = dy.data,
                             .b_k = (size_t)outputs,
                             .b_panel = OC_PANEL,
                             .c = dbias.data,
                             .c_row = (size_t)outputs};
    k->product(&weights);
    k->product(&bias);
    if (!dx.data) return OC_OK;
    const oc_product below = {.m = rows,
                              .n = inputs,
                              .k = outputs,
                              .a = dy.data,
                              .a_row = (size_t)outputs,
                              .a_k = 1,
                              .b = w.data,
                              .b_k = (size_t)inputs,
                              .b_panel = OC_PANEL,
                              .c = dx.data,
                              .c_row = (size_t)inputs};
    k->product(&below);
    return OC_OK;
}

static OC_MUST dropout_check(const oc_dropout *d, int64_t times, int64_t columns)
{
    if (!(d->p >= 0.0f && d->p < 1.0f)) return OC_FAIL(OC_ECONFIG, "dropout is %g, not in [0, 1)", (double)d->p);
    if (!((uint64_t)times * ((uint64_t)(columns + 3) / 4) <= 1u << 22))
        return OC_FAIL(OC_ELIMIT, "dropout: %lld steps of %lld numbers, over 2^24 a sample", (long long)times,
                       (long long)columns);
    return OC_OK;
}

/* What number an element has: kernels/ops.h. Kept iff draw / 2^16 >= p, that is draw >= ceil(p 2^16). */
oc_status oc_cpu_dropout_rows(const oc_cpu_kernels *k, const oc_dropout *d, int64_t first, int64_t count, int64_t batch,
                              int64_t columns, float *x)
{
    const uint64_t groups = (uint64_t)(columns + 3) / 4;
    OC_TRY(dropout_check(d, (first + count + batch - 1) / batch, columns));
    const uint32_t key = d->keys ? d->keys[d->tensor] : oc_random_key(d->seed, OC_RANDOM_DROPOUT, d->step, d->tensor);
    const uint32_t least = (uint32_t)ceil((double)d->p * 65536.0);
    const float factor = (float)(1 / (1 - (double)d->p));
    for (int64_t i = first; i < first + count && d->p > 0.0f; i++, x += columns)
        k->dropout_row(key, (d->sample_first + (uint64_t)(i % batch)) << 22 | (uint64_t)(i / batch) * groups, least,
                       factor, x, (int)columns);
    return OC_OK;
}

oc_status oc_cpu_dropout(oc_backend *b, const oc_dropout *d, oc_tensor x)
{
    const bool timed = x.dims[2] > 1;
    const int64_t batch = timed ? x.dims[1] : x.dims[0], columns = timed ? x.dims[2] : x.dims[1];
    if (batch == 0) return OC_OK;
    OC_TRY(oc_cpu_dropout_rows(b->kernels, d, 0, timed ? x.dims[0] * batch : batch, batch, columns, x.data));
    return OC_OK;
}
