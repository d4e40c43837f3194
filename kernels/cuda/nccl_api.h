/* nccl_api.h - the part of NCCL 2's binary interface that is used here, stated by ourselves: the library is loaded at
 * run time, so a build needs neither it nor its header. Where nccl.h is installed, tests/kernels_cuda/nccl_abi.cpp
 * compares. The names are NCCL's, so that they can be looked up. */
#ifndef OC_KERNELS_CUDA_NCCL_API_H
#define OC_KERNELS_CUDA_NCCL_API_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_NCCL_VERSION_MIN = 21400, OC_NCCL_ID_BYTES = 128 }; /* 2.14: the first with communicators that do not block */
#define OC_NCCL_CONFIG_MAGIC 0xcafebeefu

typedef enum {
    OC_NCCL_SUCCESS = 0,
    OC_NCCL_CUDA_ERROR = 1,
    OC_NCCL_SYSTEM_ERROR = 2,
    OC_NCCL_INTERNAL_ERROR = 3,
    OC_NCCL_INVALID_ARGUMENT = 4,
    OC_NCCL_INVALID_USAGE = 5,
    OC_NCCL_REMOTE_ERROR = 6,
    OC_NCCL_IN_PROGRESS = 7
} oc_nccl_result;
typedef enum { OC_NCCL_FLOAT = 7 } oc_nccl_type;
typedef enum { OC_NCCL_SUM = 0 } oc_nccl_sum;

typedef struct oc_nccl_id {
    char bytes[OC_NCCL_ID_BYTES];
} oc_nccl_id;

/* As of 2.14. A later library reads `size` and `version` and takes its defaults for what it knows more of. */
typedef struct oc_nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
} oc_nccl_config;

typedef struct oc_nccl_comm oc_nccl_comm;

/* name, result, parameters; stream: a cudaStream_t */
#define OC_NCCL_CALLS(X)                                                                                               \
    X(ncclGetUniqueId, oc_nccl_result, (oc_nccl_id * id))                                                              \
    X(ncclCommInitRankConfig, oc_nccl_result,                                                                          \
      (oc_nccl_comm * *comm, int ranks, oc_nccl_id id, int rank, oc_nccl_config *config))                              \
    X(ncclCommGetAsyncError, oc_nccl_result, (oc_nccl_comm * comm, oc_nccl_result * state))                            \
    X(ncclAllGather, oc_nccl_result,                                                                                   \
      (const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_comm *comm, void *stream))            \
    X(ncclAllReduce, oc_nccl_result,                                                                                   \
      (const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_sum sum, oc_nccl_comm *comm,          \
       void *stream))                                                                                                  \
    X(ncclCommAbort, oc_nccl_result, (oc_nccl_comm * comm))                                                            \
    X(ncclGetErrorString, const char *, (oc_nccl_result result))                                                       \
    X(ncclGetLastError, const char *, (oc_nccl_comm * comm))

#ifdef __cplusplus
}
#endif
#endif
