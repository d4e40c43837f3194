/* lt_calls.cuh - the functions of cuBLASLt that product_lt.cu loads by name; and the values and types of lt_api.cuh,
 * for the test that compares them with the vendor's. */
#ifndef OC_KERNELS_CUDA_LT_CALLS_CUH
#define OC_KERNELS_CUDA_LT_CALLS_CUH

#define OC_LT_CALLS(X)                                                                                                 \
    X(cublasLtGetVersion)                                                                                              \
    X(cublasLtGetStatusName)                                                                                           \
    X(cublasLtGetStatusString)                                                                                         \
    X(cublasLtCreate)                                                                                                  \
    X(cublasLtDestroy)                                                                                                 \
    X(cublasLtMatmulDescCreate)                                                                                        \
    X(cublasLtMatmulDescDestroy)                                                                                       \
    X(cublasLtMatmulDescSetAttribute)                                                                                  \
    X(cublasLtMatrixLayoutCreate)                                                                                      \
    X(cublasLtMatrixLayoutDestroy)                                                                                     \
    X(cublasLtMatmulPreferenceCreate)                                                                                  \
    X(cublasLtMatmulPreferenceDestroy)                                                                                 \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                            \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                  \
    X(cublasLtMatmul)

#define OC_LT_VALUES(X)                                                                                                \
    X(CUBLAS_STATUS_SUCCESS)                                                                                           \
    X(CUBLAS_STATUS_ALLOC_FAILED)                                                                                      \
    X(CUBLAS_STATUS_INVALID_VALUE)                                                                                     \
    X(CUBLAS_STATUS_EXECUTION_FAILED)                                                                                  \
    X(CUBLAS_STATUS_NOT_SUPPORTED)                                                                                     \
    X(CUBLAS_OP_N)                                                                                                     \
    X(CUBLAS_OP_T)                                                                                                     \
    X(CUBLAS_COMPUTE_32F)                                                                                              \
    X(CUBLAS_COMPUTE_32F_FAST_16BF)                                                                                    \
    X(CUBLAS_COMPUTE_32F_FAST_TF32)                                                                                    \
    X(CUBLASLT_MATMUL_DESC_TRANSA)                                                                                     \
    X(CUBLASLT_MATMUL_DESC_TRANSB)                                                                                     \
    X(CUBLASLT_MATMUL_DESC_EPILOGUE)                                                                                   \
    X(CUBLASLT_MATMUL_DESC_BIAS_POINTER)                                                                               \
    X(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)                                                                        \
    X(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)                                                                      \
    X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES)                                                                      \
    X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES)                                                                      \
    X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES)                                                                      \
    X(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES)                                                                      \
    X(CUBLASLT_REDUCTION_SCHEME_NONE)                                                                                  \
    X(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)                                                                          \
    X(CUBLASLT_EPILOGUE_DEFAULT)                                                                                       \
    X(CUBLASLT_EPILOGUE_BIAS)                                                                                          \
    X(CUDA_R_32F)

#define OC_LT_TYPES(X)                                                                                                 \
    X(cublasComputeType_t)                                                                                             \
    X(cublasLtEpilogue_t)                                                                                              \
    X(cublasLtHandle_t)                                                                                                \
    X(cublasLtMatmulAlgo_t)                                                                                            \
    X(cublasLtMatmulDescAttributes_t)                                                                                  \
    X(cublasLtMatmulDescOpaque_t)                                                                                      \
    X(cublasLtMatmulDesc_t)                                                                                            \
    X(cublasLtMatmulHeuristicResult_t)                                                                                 \
    X(cublasLtMatmulPreferenceAttributes_t)                                                                            \
    X(cublasLtMatmulPreferenceOpaque_t)                                                                                \
    X(cublasLtMatmulPreference_t)                                                                                      \
    X(cublasLtMatrixLayoutOpaque_t)                                                                                    \
    X(cublasLtMatrixLayout_t)                                                                                          \
    X(cublasLtReductionScheme_t)                                                                                       \
    X(cublasOperation_t)                                                                                               \
    X(cublasStatus_t)

#endif
