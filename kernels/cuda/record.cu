/* record.cu - lanes and recordings. A lane is a stream; lane 0 is the backend's own, and an operation that wants
 * several orders of work at once leads them from it and back by events. A recording is what lane 0, and the lanes that
 * were led from it, were given between begin and end: a CUDA graph, enqueued by one call. Not run on a GPU. */
#include <stdlib.h>
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/resident.cuh"

struct oc_recording {
    cudaGraphExec_t work;
};

/* ---------------------------------------------------------------- lanes */
oc_status oc_cuda_lanes_open(oc_backend *b)
{
    oc_cuda *c = oc_cuda_of(b);
    for (int i = 0; i < OC_CUDA_LANES; i++) {
        OC_TRY(oc_cuda_result(b, cudaStreamCreateWithFlags(&c->lanes[i], cudaStreamNonBlocking), "making a stream"));
        OC_TRY(oc_cuda_result(b, cudaEventCreateWithFlags(&c->marks[i], cudaEventDisableTiming), "making an event"));
    }
    c->stream = c->lanes[0];
    return OC_OK;
}

void oc_cuda_lanes_close(oc_backend *b)
{
    oc_cuda *c = oc_cuda_of(b);
    for (int i = 0; i < OC_CUDA_LANES; i++) {
        if (c->marks[i]) (void)cudaEventDestroy(c->marks[i]);
        if (c->lanes[i]) (void)cudaStreamDestroy(c->lanes[i]);
    }
}

void oc_cuda_on(oc_backend *b, int lane)
{
    assert(lane >= 0 && lane < OC_CUDA_LANES);
    oc_cuda_of(b)->stream = oc_cuda_of(b)->lanes[lane];
}

oc_status oc_cuda_after(oc_backend *b, int lane, int other)
{
    oc_cuda *c = oc_cuda_of(b);
    assert(lane >= 0 && lane < OC_CUDA_LANES && other >= 0 && other < OC_CUDA_LANES);
    OC_TRY(oc_cuda_result(b, cudaEventRecord(c->marks[other], c->lanes[other]), "marking a stream"));
    OC_TRY(oc_cuda_result(b, cudaStreamWaitEvent(c->lanes[lane], c->marks[other], 0), "ordering two streams"));
    return OC_OK;
}

oc_status oc_cuda_fork(oc_backend *b, int lanes)
{
    for (int i = 1; i <= lanes; i++) OC_TRY(oc_cuda_after(b, i, 0));
    return OC_OK;
}

oc_status oc_cuda_join(oc_backend *b, int lanes)
{
    oc_cuda_on(b, 0);
    for (int i = 1; i <= lanes; i++) OC_TRY(oc_cuda_after(b, 0, i));
    return OC_OK;
}

/* ---------------------------------------------------------------- recordings */
oc_status oc_cuda_record_begin(oc_backend *b)
{
    oc_cuda *c = oc_cuda_of(b);
    assert(!c->recording && c->stream == c->lanes[0]);
    OC_TRY(oc_cuda_result(b, cudaStreamBeginCapture(c->lanes[0], cudaStreamCaptureModeThreadLocal),
                          "beginning a recording"));
    c->recording = true;
    return OC_OK;
}

/* NULL where nothing is left of what was recorded. */
static cudaError_t capture_end(oc_cuda *c, cudaGraph_t *graph)
{
    c->recording = false;
    c->stream = c->lanes[0];
    *graph = NULL;
    return cudaStreamEndCapture(c->lanes[0], graph);
}

void oc_cuda_record_drop(oc_backend *b)
{
    cudaGraph_t graph;
    if (!oc_cuda_of(b)->recording) return;
    if (capture_end(oc_cuda_of(b), &graph) == cudaSuccess && graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError(); /* what made it fail was said already */
}

oc_status oc_cuda_record_end(oc_backend *b, oc_recording **out)
{
    cudaGraph_t graph;
    assert(oc_cuda_of(b)->recording);
    OC_TRY(oc_cuda_result(b, capture_end(oc_cuda_of(b), &graph), "ending a recording"));
    const oc_cuda_quiet quiet;
    if (quiet.stuck) return OC_FAIL(OC_EFAILED, "backend cuda: " OC_CUDA_STUCK);
    oc_recording *made = (oc_recording *)calloc(1, sizeof *made);
    const cudaError_t error = made ? cudaGraphInstantiate(&made->work, graph, 0) : cudaErrorMemoryAllocation;
    (void)cudaGraphDestroy(graph);
    if (error != cudaSuccess) free(made);
    OC_TRY(oc_cuda_result(b, error, "preparing a recording"));
    *out = made;
    return OC_OK;
}

oc_status oc_cuda_replay(oc_backend *b, oc_recording *recording)
{
    oc_cuda *c = oc_cuda_of(b);
    assert(!c->recording && c->stream == c->lanes[0]);
    if (oc_cuda_lost()) return OC_FAIL(OC_EFAILED, "backend cuda: " OC_CUDA_STUCK);
    c->launched = "one of a recording";
    OC_TRY(oc_cuda_result(b, cudaGraphLaunch(recording->work, c->stream), "the launch"));
    return OC_OK;
}

void oc_cuda_recording_free(oc_backend *b, oc_recording *recording)
{
    const oc_cuda_quiet quiet;
    (void)b;
    if (quiet.stuck) {
        oc_cuda_leave(recording);
        return;
    }
    (void)cudaGraphExecDestroy(recording->work);
    free(recording);
}
