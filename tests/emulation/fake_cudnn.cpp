/* fake_cudnn.cpp - stands in for libcudnn where kernels/cuda runs in emulation: the same functions with the same
 * signatures. It believes only what the descriptors and its own weight space say, so a wrong gate, offset, size, order
 * of calls or buffer gives wrong numbers, which the oracle of the test finds. The environment makes failures:
 *   OUTCRY_FAKE_FAIL=NAME    that function returns a failure
 *   OUTCRY_FAKE_PLANT=gates  input and forget gate change places: the test must notice */
#include <cstdio>
#include <cstring>
#include "emulation/fake_cudnn.cuh"

using namespace fake;
const emulation::library_door *outcry_emulation_door;

#define MAY_FAIL                                                                                                       \
    if (told("OUTCRY_FAKE_FAIL", __func__)) return CUDNN_STATUS_EXECUTION_FAILED

/* The descriptors agree with each other and with the buffers. */
static bool fits(const cudnnRNNStruct *r, const cudnnRNNDataStruct *x, const cudnnRNNDataStruct *y,
                 const cudnnTensorStruct *h, size_t space_bytes, size_t work_bytes, const void *workspace,
                 size_t reserve_bytes, const void *reserve)
{
    if (!r || !x || !y || !h || !workspace || !reserve) return false;
    const size_t states =
        static_cast<size_t>(x->steps) * static_cast<size_t>(x->batch) * static_cast<size_t>(r->hidden);
    return r->type == x->type && r->type == y->type && r->type == h->type && x->steps == y->steps &&
           x->batch == y->batch && x->width == r->inputs && y->width == r->hidden && h->dim[0] == r->layers &&
           h->dim[1] == x->batch && h->dim[2] == r->hidden &&
           space_bytes == place_of(*r, -1, 0, false) * bytes_of(r->type) && work_bytes >= WORK_BYTES &&
           reserve_bytes >= kept_bytes(*r, states) && reinterpret_cast<uintptr_t>(reserve) % 16 == 0;
}

template <class T> static cudnnStatus_t made(T **out)
{
    *out = new T();
    return CUDNN_STATUS_SUCCESS;
}

template <class T> static cudnnStatus_t gone(T *x)
{
    delete x;
    return CUDNN_STATUS_SUCCESS;
}

extern "C" {
size_t cudnnGetVersion(void)
{
    return 90099;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    return status == CUDNN_STATUS_EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED" : "CUDNN_STATUS_BAD_PARAM";
}

void cudnnGetLastErrorString(char *message, size_t cap)
{
    snprintf(message, cap, "what the double was told");
}

#define CREATE(name, type)                                                                                             \
    cudnnStatus_t name(type *out)                                                                                      \
    {                                                                                                                  \
        MAY_FAIL;                                                                                                      \
        return made(out);                                                                                              \
    }
#define DESTROY(name, type)                                                                                            \
    cudnnStatus_t name(type x)                                                                                         \
    {                                                                                                                  \
        return gone(x);                                                                                                \
    }
CREATE(cudnnCreate, cudnnHandle_t)
DESTROY(cudnnDestroy, cudnnHandle_t)
CREATE(cudnnCreateDropoutDescriptor, cudnnDropoutDescriptor_t)
DESTROY(cudnnDestroyDropoutDescriptor, cudnnDropoutDescriptor_t)
CREATE(cudnnCreateTensorDescriptor, cudnnTensorDescriptor_t)
DESTROY(cudnnDestroyTensorDescriptor, cudnnTensorDescriptor_t)
CREATE(cudnnCreateRNNDescriptor, cudnnRNNDescriptor_t)
DESTROY(cudnnDestroyRNNDescriptor, cudnnRNNDescriptor_t)
CREATE(cudnnCreateRNNDataDescriptor, cudnnRNNDataDescriptor_t)
DESTROY(cudnnDestroyRNNDataDescriptor, cudnnRNNDataDescriptor_t)

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    MAY_FAIL;
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t d, cudnnHandle_t handle, float dropout, void *states,
                                        size_t states_bytes, unsigned long long)
{
    MAY_FAIL;
    d->none = handle && !(dropout > 0) && !states && states_bytes == 0;
    return d->none ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_NOT_SUPPORTED;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int dims, const int dim[],
                                         const int stride[])
{
    MAY_FAIL;
    if (dims != 3 || stride[2] != 1 || stride[1] != dim[2] || stride[0] != dim[1] * dim[2])
        return CUDNN_STATUS_BAD_PARAM;
    d->type = type;
    d->dims = dims;
    memcpy(d->dim, dim, sizeof d->dim);
    memcpy(d->stride, stride, sizeof d->stride);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t d, int wanted, cudnnDataType_t *type, int *dims,
                                         int dim[], int stride[])
{
    MAY_FAIL;
    if (wanted < d->dims) return CUDNN_STATUS_BAD_PARAM;
    *type = d->type;
    *dims = d->dims;
    memcpy(dim, d->dim, sizeof d->dim);
    memcpy(stride, d->stride, sizeof d->stride);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t d, cudnnRNNAlgo_t, cudnnRNNMode_t cell,
                                       cudnnRNNBiasMode_t bias, cudnnDirectionMode_t, cudnnRNNInputMode_t,
                                       cudnnDataType_t type, cudnnDataType_t precision, cudnnMathType_t math,
                                       int32_t inputs, int32_t hidden, int32_t projection, int32_t layers,
                                       cudnnDropoutDescriptor_t dropout, uint32_t flags)
{
    MAY_FAIL;
    if (cell != CUDNN_LSTM || bias != CUDNN_RNN_DOUBLE_BIAS || precision != CUDNN_DATA_FLOAT || projection != hidden ||
        !dropout || !dropout->none || flags != 0 || (type == CUDNN_DATA_BFLOAT16) != (math == CUDNN_TENSOR_OP_MATH))
        return CUDNN_STATUS_BAD_PARAM;
    *d = {type, math, inputs, hidden, layers};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type, cudnnRNNDataLayout_t layout,
                                        int steps, int batch, int width, const int lengths[], void *padding)
{
    MAY_FAIL;
    if (layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED || padding) return CUDNN_STATUS_BAD_PARAM;
    for (int i = 0; i < batch; i++)
        if (lengths[i] != steps) return CUDNN_STATUS_NOT_SUPPORTED;
    *d = {type, steps, batch, width};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t rnn, size_t *bytes)
{
    MAY_FAIL;
    *bytes = place_of(*rnn, -1, 0, false) * bytes_of(rnn->type);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t, cudnnRNNDescriptor_t rnn, int32_t layer, size_t bytes,
                                      const void *space, int32_t which, cudnnTensorDescriptor_t matrix,
                                      void **matrix_at, cudnnTensorDescriptor_t bias, void **bias_at)
{
    MAY_FAIL;
    if (layer < 0 || layer >= rnn->layers || which < 0 || which >= 2 * GATES || !space ||
        bytes != place_of(*rnn, -1, 0, false) * bytes_of(rnn->type))
        return CUDNN_STATUS_BAD_PARAM;
    const int columns = static_cast<int>(columns_of(*rnn, layer, which));
    unsigned char *base = static_cast<unsigned char *>(const_cast<void *>(space));
    *matrix = {rnn->type, 3, {1, rnn->hidden, columns}, {rnn->hidden * columns, columns, 1}};
    *bias = {rnn->type, 3, {1, rnn->hidden, 1}, {rnn->hidden, 1, 1}};
    *matrix_at = base + place_of(*rnn, layer, which, false) * bytes_of(rnn->type);
    *bias_at = base + place_of(*rnn, layer, which, true) * bytes_of(rnn->type);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                                        cudnnRNNDataDescriptor_t x, size_t *work_bytes, size_t *reserve_bytes)
{
    MAY_FAIL;
    if (mode != CUDNN_FWD_MODE_TRAINING) return CUDNN_STATUS_BAD_PARAM;
    *work_bytes = WORK_BYTES;
    *reserve_bytes = kept_bytes(*rnn, static_cast<size_t>(x->steps) * static_cast<size_t>(x->batch) *
                                          static_cast<size_t>(rnn->hidden));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                              const int32_t lengths[], cudnnRNNDataDescriptor_t x_of, const void *x,
                              cudnnRNNDataDescriptor_t y_of, void *y, cudnnTensorDescriptor_t h_of, const void *hx,
                              void *hy, cudnnTensorDescriptor_t c_of, const void *cx, void *cy, size_t space_bytes,
                              const void *space, size_t work_bytes, void *workspace, size_t reserve_bytes,
                              void *reserve)
{
    MAY_FAIL;
    if (mode != CUDNN_FWD_MODE_TRAINING || lengths || hx || hy || cx || cy || h_of != c_of ||
        !fits(rnn, x_of, y_of, h_of, space_bytes, work_bytes, workspace, reserve_bytes, reserve))
        return CUDNN_STATUS_BAD_PARAM;
    work w = {};
    w.r = *rnn;
    w.steps = x_of->steps;
    w.batch = x_of->batch;
    w.x = static_cast<const unsigned char *>(x);
    w.out_y = static_cast<unsigned char *>(y);
    w.space = static_cast<const unsigned char *>(space);
    w.workspace = static_cast<unsigned char *>(workspace);
    w.kept = static_cast<unsigned char *>(reserve);
    outcry_emulation_door->enqueue(handle->stream, "cudnnRNNForward", &w, sizeof w, forward);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNBackwardData_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, const int32_t lengths[],
                                      cudnnRNNDataDescriptor_t y_of, const void *y, const void *dy,
                                      cudnnRNNDataDescriptor_t x_of, void *dx, cudnnTensorDescriptor_t h_of,
                                      const void *hx, const void *dhy, void *dhx, cudnnTensorDescriptor_t c_of,
                                      const void *cx, const void *dcy, void *dcx, size_t space_bytes, const void *space,
                                      size_t work_bytes, void *workspace, size_t reserve_bytes, void *reserve)
{
    MAY_FAIL;
    if (lengths || hx || dhy || dhx || cx || dcy || dcx || h_of != c_of || !dx ||
        !fits(rnn, x_of, y_of, h_of, space_bytes, work_bytes, workspace, reserve_bytes, reserve))
        return CUDNN_STATUS_BAD_PARAM;
    work w = {};
    w.r = *rnn;
    w.steps = x_of->steps;
    w.batch = x_of->batch;
    w.y = static_cast<const unsigned char *>(y);
    w.dy = static_cast<const unsigned char *>(dy);
    w.dx = static_cast<unsigned char *>(dx);
    w.space = static_cast<const unsigned char *>(space);
    w.workspace = static_cast<unsigned char *>(workspace);
    w.kept = static_cast<unsigned char *>(reserve);
    outcry_emulation_door->enqueue(handle->stream, "cudnnRNNBackwardData_v8", &w, sizeof w, backward_data);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnWgradMode_t mode,
                                         const int32_t lengths[], cudnnRNNDataDescriptor_t x_of, const void *x,
                                         cudnnTensorDescriptor_t h_of, const void *hx, cudnnRNNDataDescriptor_t y_of,
                                         const void *y, size_t space_bytes, void *dspace, size_t work_bytes,
                                         void *workspace, size_t reserve_bytes, void *reserve)
{
    MAY_FAIL;
    if (mode != CUDNN_WGRAD_MODE_ADD || lengths || hx || !y ||
        !fits(rnn, x_of, y_of, h_of, space_bytes, work_bytes, workspace, reserve_bytes, reserve))
        return CUDNN_STATUS_BAD_PARAM;
    work w = {};
    w.r = *rnn;
    w.steps = x_of->steps;
    w.batch = x_of->batch;
    w.x = static_cast<const unsigned char *>(x);
    w.y = static_cast<const unsigned char *>(y);
    w.dspace = static_cast<unsigned char *>(dspace);
    w.workspace = static_cast<unsigned char *>(workspace);
    w.kept = static_cast<unsigned char *>(reserve);
    outcry_emulation_door->enqueue(handle->stream, "cudnnRNNBackwardWeights_v8", &w, sizeof w, backward_weights);
    return CUDNN_STATUS_SUCCESS;
}
}
