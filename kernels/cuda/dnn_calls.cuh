/* dnn_calls.cuh - the functions of cuDNN that lstm_cudnn.cu loads by name; and the values and types of dnn_api.cuh, for
 * the test that compares them with the vendor's. */
#ifndef OC_KERNELS_CUDA_DNN_CALLS_CUH
#define OC_KERNELS_CUDA_DNN_CALLS_CUH

#define OC_DNN_CALLS(X)                                                                                                \
    X(cudnnGetVersion)                                                                                                 \
    X(cudnnGetErrorString)                                                                                             \
    X(cudnnGetLastErrorString)                                                                                         \
    X(cudnnCreate)                                                                                                     \
    X(cudnnDestroy)                                                                                                    \
    X(cudnnSetStream)                                                                                                  \
    X(cudnnCreateDropoutDescriptor)                                                                                    \
    X(cudnnDestroyDropoutDescriptor)                                                                                   \
    X(cudnnSetDropoutDescriptor)                                                                                       \
    X(cudnnCreateTensorDescriptor)                                                                                     \
    X(cudnnDestroyTensorDescriptor)                                                                                    \
    X(cudnnSetTensorNdDescriptor)                                                                                      \
    X(cudnnGetTensorNdDescriptor)                                                                                      \
    X(cudnnCreateRNNDescriptor)                                                                                        \
    X(cudnnDestroyRNNDescriptor)                                                                                       \
    X(cudnnSetRNNDescriptor_v8)                                                                                        \
    X(cudnnCreateRNNDataDescriptor)                                                                                    \
    X(cudnnDestroyRNNDataDescriptor)                                                                                   \
    X(cudnnSetRNNDataDescriptor)                                                                                       \
    X(cudnnGetRNNWeightSpaceSize)                                                                                      \
    X(cudnnGetRNNWeightParams)                                                                                         \
    X(cudnnGetRNNTempSpaceSizes)                                                                                       \
    X(cudnnRNNForward)                                                                                                 \
    X(cudnnRNNBackwardData_v8)                                                                                         \
    X(cudnnRNNBackwardWeights_v8)

#define OC_DNN_VALUES(X)                                                                                               \
    X(CUDNN_STATUS_SUCCESS)                                                                                            \
    X(CUDNN_STATUS_BAD_PARAM)                                                                                          \
    X(CUDNN_STATUS_NOT_SUPPORTED)                                                                                      \
    X(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)                                                            \
    X(CUDNN_STATUS_EXECUTION_FAILED)                                                                                   \
    X(CUDNN_DATA_FLOAT)                                                                                                \
    X(CUDNN_DATA_BFLOAT16)                                                                                             \
    X(CUDNN_DEFAULT_MATH)                                                                                              \
    X(CUDNN_TENSOR_OP_MATH)                                                                                            \
    X(CUDNN_FMA_MATH)                                                                                                  \
    X(CUDNN_RNN_ALGO_STANDARD)                                                                                         \
    X(CUDNN_RNN_ALGO_PERSIST_STATIC)                                                                                   \
    X(CUDNN_FWD_MODE_TRAINING)                                                                                         \
    X(CUDNN_LSTM)                                                                                                      \
    X(CUDNN_RNN_DOUBLE_BIAS)                                                                                           \
    X(CUDNN_UNIDIRECTIONAL)                                                                                            \
    X(CUDNN_LINEAR_INPUT)                                                                                              \
    X(CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED)                                                                          \
    X(CUDNN_WGRAD_MODE_ADD)

#define OC_DNN_TYPES(X)                                                                                                \
    X(cudnnDataType_t)                                                                                                 \
    X(cudnnDirectionMode_t)                                                                                            \
    X(cudnnDropoutDescriptor_t)                                                                                        \
    X(cudnnForwardMode_t)                                                                                              \
    X(cudnnHandle_t)                                                                                                   \
    X(cudnnMathType_t)                                                                                                 \
    X(cudnnRNNAlgo_t)                                                                                                  \
    X(cudnnRNNBiasMode_t)                                                                                              \
    X(cudnnRNNDataDescriptor_t)                                                                                        \
    X(cudnnRNNDataLayout_t)                                                                                            \
    X(cudnnRNNDescriptor_t)                                                                                            \
    X(cudnnRNNInputMode_t)                                                                                             \
    X(cudnnRNNMode_t)                                                                                                  \
    X(cudnnStatus_t)                                                                                                   \
    X(cudnnTensorDescriptor_t)                                                                                         \
    X(cudnnWgradMode_t)

#endif
