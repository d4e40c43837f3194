/* nccl.cpp - our statement of NCCL's binary interface (kernels/cuda/nccl_api.h) beside its own header: values, sizes,
 * places in the config, parameters. Only compiled (check_nccl.sh); the planted faults must not be. */
#include <nccl.h>

#include <cstddef>
#include <type_traits>

#include "kernels/cuda/nccl_api.h"

#define SAME(ours, theirs) static_assert(static_cast<long long>(ours) == static_cast<long long>(theirs), #theirs)
SAME(OC_NCCL_SUCCESS, ncclSuccess);
SAME(OC_NCCL_CUDA_ERROR, ncclUnhandledCudaError);
SAME(OC_NCCL_SYSTEM_ERROR, ncclSystemError);
SAME(OC_NCCL_INTERNAL_ERROR, ncclInternalError);
SAME(OC_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
SAME(OC_NCCL_INVALID_USAGE, ncclInvalidUsage);
SAME(OC_NCCL_REMOTE_ERROR, ncclRemoteError);
SAME(OC_NCCL_IN_PROGRESS, ncclInProgress);
SAME(OC_NCCL_FLOAT, ncclFloat32);
SAME(OC_NCCL_SUM, ncclSum);
SAME(sizeof(oc_nccl_id), sizeof(ncclUniqueId));
SAME(sizeof(oc_nccl_result), sizeof(ncclResult_t));
SAME(offsetof(oc_nccl_config, size), offsetof(ncclConfig_t, size));
SAME(offsetof(oc_nccl_config, magic), offsetof(ncclConfig_t, magic));
SAME(offsetof(oc_nccl_config, version), offsetof(ncclConfig_t, version));
SAME(offsetof(oc_nccl_config, blocking), offsetof(ncclConfig_t, blocking));
static constexpr ncclConfig_t first = NCCL_CONFIG_INITIALIZER;
SAME(OC_NCCL_CONFIG_MAGIC, first.magic);
static_assert(sizeof(oc_nccl_config) <= sizeof(ncclConfig_t) && OC_NCCL_VERSION_MIN <= NCCL_VERSION_CODE, "older");
#ifdef OC_PLANTED_VALUE
SAME(OC_NCCL_REMOTE_ERROR, ncclInProgress);
#endif

/* Their types in the places of ours. */
template <class T> struct theirs { using type = T; };
template <> struct theirs<oc_nccl_result> { using type = ncclResult_t; };
template <> struct theirs<oc_nccl_type> { using type = ncclDataType_t; };
template <> struct theirs<oc_nccl_sum> { using type = ncclRedOp_t; };
template <> struct theirs<oc_nccl_id> { using type = ncclUniqueId; };
template <> struct theirs<oc_nccl_id *> { using type = ncclUniqueId *; };
template <> struct theirs<oc_nccl_result *> { using type = ncclResult_t *; };
template <> struct theirs<oc_nccl_config *> { using type = ncclConfig_t *; };
template <> struct theirs<oc_nccl_comm *> { using type = ncclComm_t; };
template <> struct theirs<oc_nccl_comm **> { using type = ncclComm_t *; };
template <class R, class... P> struct theirs<R(P...)> {
    using type = typename theirs<R>::type(typename theirs<P>::type...);
};
/* A stream is a pointer in both: compared as one. */
template <class T> struct plain { using type = T; };
template <> struct plain<cudaStream_t> { using type = void *; };
template <class R, class... P> struct plain<R(P...)> {
    using type = R(typename plain<P>::type...);
};
#define CALL(name, result, parameters)                                                                                 \
    static_assert(std::is_same<theirs<result parameters>::type, plain<decltype(name)>::type>::value, #name);
OC_NCCL_CALLS(CALL)
#ifdef OC_PLANTED_PARAMETERS
CALL(ncclAllGather, oc_nccl_result, (const void *, void *, oc_nccl_type, size_t, oc_nccl_comm *, void *))
#endif
