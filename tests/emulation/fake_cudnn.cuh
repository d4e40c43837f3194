/* fake_cudnn.cuh - the two halves of the double of cuDNN: fake_cudnn.cpp answers the calls, fake_cudnn_math.cpp
 * computes.
 */
#ifndef OC_TESTS_EMULATION_FAKE_CUDNN_CUH
#define OC_TESTS_EMULATION_FAKE_CUDNN_CUH

#include <cstddef>
#pragma GCC visibility push(default)
#include "emulation/runtime.cuh"
#include "kernels/cuda/dnn_api.cuh"
extern "C" const emulation::library_door *outcry_emulation_door;
#pragma GCC visibility pop

struct cudnnContext {
    cudaStream_t stream;
};
struct cudnnDropoutStruct {
    bool none;
};
struct cudnnTensorStruct {
    cudnnDataType_t type;
    int dims, dim[3], stride[3];
};
struct cudnnRNNStruct {
    cudnnDataType_t type;
    cudnnMathType_t math;
    int inputs, hidden, layers;
};
struct cudnnRNNDataStruct {
    cudnnDataType_t type;
    int steps, batch, width;
};

namespace fake
{
enum { GATES = 4, WORK_BYTES = 512 };

/* One call, by value. */
struct work {
    cudnnRNNStruct r;
    int steps, batch;
    const unsigned char *x, *y, *dy, *space;
    unsigned char *out_y, *dx, *dspace, *workspace, *kept;
};

bool told(const char *variable, const char *name); /* the environment says so */
size_t bytes_of(cudnnDataType_t type);
size_t columns_of(const cudnnRNNStruct &r, int layer, int which);
/* Of a linear layer's matrix or bias in the weight space, in elements; of layer -1: the end. */
size_t place_of(const cudnnRNNStruct &r, int layer, int which, bool bias);
size_t kept_bytes(const cudnnRNNStruct &r, size_t states); /* from forward to backward */

/* Run on a stream; the packet is a work. */
void forward(const void *packet);
void backward_data(const void *packet);
void backward_weights(const void *packet);
} // namespace fake

#endif
