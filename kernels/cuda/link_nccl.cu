/* link_nccl.cu - kernels/link.h by NCCL: one communicator a rank, made so that none of its calls blocks by contract;
 * the library comes by dlopen ("libnccl.so.2", or OUTCRY_NCCL), once a process. States: starting -> ready -> given ->
 * running (-> given -> running ...) -> ready -> ...; a poll moves it on. Vectors move on a lane of their own, so that
 * the backend's work goes on beside. It ends by an abort, always: that waits for nobody. Traffic: gather moves R - 1
 * vectors to each rank, sum about two. Not run on a GPU: the state machine runs against a double
 * (tests/emulation/fake_nccl.c). */
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/library.cuh"
#include "kernels/cuda/nccl_api.h"
#include "kernels/cuda/ops_cuda.cuh"

/* ---------------------------------------------------------------- the library */
typedef struct nccl_calls {
#define MEMBER(name, result, parameters) result(*name) parameters;
    OC_NCCL_CALLS(MEMBER)
#undef MEMBER
} nccl_calls;

static OC_MUST calls_find(nccl_calls *nccl)
{
    oc_cuda_loaded library;
    OC_TRY(oc_cuda_library_load(&oc_cuda_nccl_library, &library));
    if (library.number < OC_NCCL_VERSION_MIN)
        return OC_FAIL(OC_EFAILED, "backend cuda: %s is NCCL %s: before 2.14 its calls may block for ever",
                       library.file, library.version);
#define FIND(name, result, parameters)                                                                                 \
    OC_TRY(oc_cuda_library_function(&library, #name, &nccl->name, sizeof nccl->name));
    OC_NCCL_CALLS(FIND)
#undef FIND
    return OC_OK;
}

/* ---------------------------------------------------------------- a link */
typedef enum { STARTING, READY, GIVEN, RUNNING, BROKEN } link_phase; /* given: NCCL may not have enqueued it yet */
typedef struct nccl_link {
    nccl_calls nccl;
    oc_nccl_comm *comm;
    link_phase phase;
    const char *call; /* whose outcome the next poll tells */
} nccl_link;

static nccl_link *state_of(oc_link *l)
{
    return (nccl_link *)l->state;
}

/* Started or done; anything else is a failure in NCCL's words. */
static OC_MUST outcome(nccl_link *n, oc_nccl_result result, const char *call)
{
    if (result == OC_NCCL_SUCCESS || result == OC_NCCL_IN_PROGRESS) return OC_OK;
    n->phase = BROKEN;
    const char *text = n->nccl.ncclGetErrorString(result),
               *more = n->comm ? n->nccl.ncclGetLastError(n->comm) : nullptr;
    return OC_FAIL(OC_EFAILED, "NCCL: %s failed: %.200s%s%.400s; NCCL_DEBUG=WARN says more", call, text ? text : "?",
                   more && *more ? ": " : "", more ? more : "");
}

static oc_status link_id(oc_backend *, unsigned char *id)
{
    oc_nccl_id made;
    nccl_link none = {};
    static_assert(sizeof made == OC_LINK_ID_BYTES, "an id travels whole");
    OC_TRY(calls_find(&none.nccl));
    OC_TRY(outcome(&none, none.nccl.ncclGetUniqueId(&made), "ncclGetUniqueId"));
    memcpy(id, &made, sizeof made);
    return OC_OK;
}

static void link_close(oc_link *l)
{
    nccl_link *n = state_of(l);
    if (!n) return;
    if (n->comm) (void)n->nccl.ncclCommAbort(n->comm); /* an end in order would wait for ranks that may be gone */
    free(n);
    l->state = nullptr;
}

static OC_MUST link_fill(oc_link *l, nccl_link *n, const oc_link_seat *seat)
{
    oc_nccl_id id;
    oc_nccl_config config = {sizeof config, OC_NCCL_CONFIG_MAGIC, OC_NCCL_VERSION_MIN, 0};
    OC_TRY(calls_find(&n->nccl));
    (void)oc_cuda_of(l->b); /* NCCL takes the thread's device */
    n->call = "ncclCommInitRankConfig";
    memcpy(&id, seat->id, sizeof id);
    OC_TRY(outcome(n, n->nccl.ncclCommInitRankConfig(&n->comm, seat->ranks, id, seat->rank, &config), n->call));
    if (!n->comm) return OC_FAIL(OC_EFAILED, "NCCL: %s made no communicator", n->call);
    return OC_OK;
}

static oc_status link_open(oc_link *l, const oc_link_seat *seat)
{
    nccl_link *n = (nccl_link *)calloc(1, sizeof *n);
    if (!n) return OC_FAIL(OC_EMEMORY, "NCCL: no memory for a link");
    l->state = n;
    const oc_status status = link_fill(l, n, seat);
    if (status != OC_OK) link_close(l);
    return status;
}

static oc_status link_start(oc_link *l, oc_link_work work, float *data, size_t count)
{
    nccl_link *n = state_of(l);
    void *stream = (void *)oc_cuda_of(l->b)->lanes[OC_CUDA_LANE_LINK];
    oc_nccl_result result = OC_NCCL_SUCCESS;
    assert(n->phase == READY || n->phase == RUNNING);
    OC_TRY(oc_cuda_after(l->b, OC_CUDA_LANE_LINK, 0));
    n->phase = GIVEN;
    if (work == OC_LINK_GATHER) {
        n->call = "ncclAllGather";
        result = n->nccl.ncclAllGather(data + (size_t)l->rank * count, data, count, OC_NCCL_FLOAT, n->comm, stream);
    } else {
        n->call = "ncclAllReduce";
        result = n->nccl.ncclAllReduce(data, data, count, OC_NCCL_FLOAT, OC_NCCL_SUM, n->comm, stream);
    }
    OC_TRY(outcome(n, result, n->call));
    return OC_OK;
}

static oc_status link_poll(oc_link *l, oc_link_state *out)
{
    nccl_link *n = state_of(l);
    oc_nccl_result state = OC_NCCL_SUCCESS;
    *out = OC_LINK_STARTS;
    if (n->phase == BROKEN) return OC_FAIL(OC_EFAILED, "NCCL: %s failed before", n->call);
    OC_TRY(outcome(n, n->nccl.ncclCommGetAsyncError(n->comm, &state), "ncclCommGetAsyncError"));
    OC_TRY(outcome(n, state, n->call));
    if (state == OC_NCCL_IN_PROGRESS) return OC_OK;
    if (n->phase == GIVEN) n->phase = RUNNING;
    if (n->phase == RUNNING) {
        const cudaError_t error = cudaStreamQuery(oc_cuda_of(l->b)->lanes[OC_CUDA_LANE_LINK]);
        *out = OC_LINK_RUNS;
        if (error == cudaErrorNotReady) return OC_OK;
        if (error != cudaSuccess) n->phase = BROKEN;
        OC_TRY(oc_cuda_result(l->b, error, n->call));
    }
    n->phase = READY;
    *out = OC_LINK_DONE;
    return OC_OK;
}

const oc_link_driver oc_cuda_link = {link_id, link_open, link_start, link_poll, link_close};
