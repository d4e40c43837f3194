/* cudnn.cuh - cuDNN of one backend: its functions, a handle, and a plan for each shape (cudnn.cu); for lstm_cudnn.cu.
 */
#ifndef OC_KERNELS_CUDA_CUDNN_CUH
#define OC_KERNELS_CUDA_CUDNN_CUH

#include "kernels/cuda/dnn_api.cuh"
#include "kernels/cuda/library.cuh"
#include "kernels/cuda/lstm_cudnn.cuh"

static constexpr int OC_DNN_PLANS_MAX = 24, OC_DNN_PIECES = 2 * OC_GATES; /* gates of W_ih, then of W_hh */

typedef struct oc_cuda_dnn_plan {
    oc_lstm_shape shape; /* of the layers that one call computes */
    cudnnRNNDescriptor_t rnn;
    cudnnRNNDataDescriptor_t x, y;
    cudnnTensorDescriptor_t state;
    size_t space_bytes, work_bytes, reserve_bytes;
    bool found;
    size_t offset[OC_LAYERS_MAX][2][OC_DNN_PIECES]; /* of each gate's matrix and bias in the weight space */
} oc_cuda_dnn_plan;

struct oc_cuda_dnn {
    oc_cuda_loaded library;
#define MEMBER(name) decltype(&::name) name;
    OC_DNN_CALLS(MEMBER)
#undef MEMBER
    cudnnHandle_t handle;
    cudnnDropoutDescriptor_t no_dropout;
    cudnnRNNAlgo_t algorithm; /* OUTCRY_CUDNN_ALGORITHM=standard|persist, read once at open */
    cudnnDataType_t type;     /* of numbers and weights in cuDNN's memory */
    cudnnMathType_t math;
    size_t element;
    bool always; /* lstm: cudnn */
    int count;
    oc_cuda_dnn_plan plan[OC_DNN_PLANS_MAX];
};

/* A call by name, so that an error can name it. */
#define OC_DNN_TRY(d, call, ...) OC_TRY(oc_cuda_dnn_result(d, #call, (d)->call(__VA_ARGS__)))
OC_MUST oc_cuda_dnn_result(const oc_cuda_dnn *d, const char *call, cudnnStatus_t status);

OC_MUST oc_cuda_dnn_plan_find(oc_backend *b, const oc_lstm_shape *s, oc_cuda_dnn_plan **out);
/* Fills the offsets, once; `space` is any weight space of the plan. */
OC_MUST oc_cuda_dnn_weights_find(oc_backend *b, oc_cuda_dnn_plan *p, const void *space);

#endif
