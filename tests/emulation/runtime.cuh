/* runtime.cuh - the calls of the CUDA runtime that kernels/cuda makes. One device, "emulation", whose memory is a part
 * of the process that only uploads, downloads and kernels may touch; everything is done when a call returns, but for
 * what a captured stream is given (graph.cpp) and resident grids (schedule.cpp). */
#ifndef OC_TESTS_EMULATION_RUNTIME_CUH
#define OC_TESTS_EMULATION_RUNTIME_CUH

#include <cstddef>

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
    cudaErrorStreamCaptureUnmatched = 903,
    cudaErrorStreamCaptureUnjoined = 904,
    cudaErrorStreamCaptureIsolation = 905
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
typedef struct emulation_stream *cudaStream_t;
typedef struct emulation_event *cudaEvent_t;
typedef struct emulation_graph *cudaGraph_t, *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount;
};

struct cudaFuncAttributes {
    size_t sharedSizeBytes; /* of the source: not known here, 0 */
    int maxDynamicSharedSizeBytes;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *at);
cudaError_t cudaMallocHost(void **out, size_t bytes);
cudaError_t cudaFreeHost(void *at);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t work, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t work);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *kernel);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what, int value);
cudaError_t cudaGetLastError();
const char *cudaGetErrorName(cudaError_t code);
const char *cudaGetErrorString(cudaError_t code);

namespace emulation
{
/* Memory from cudaMalloc is one block that nobody may touch; a backend hands out parts of it, as NaN that nothing
 * wrote. What it leaves between two of them is a guard. */
void hand_out(void *at, size_t bytes);
/* The environment makes failures, so that a test sees what the program makes of them:
 *   OUTCRY_EMULATION_FAIL=NAME   the launch of the first kernel whose name has NAME in it reports an illegal address
 *   OUTCRY_EMULATION_BUSY=N      from the Nth question on whether a stream is done, it never is
 *   OUTCRY_EMULATION_STALL=N     a resident grid stops for good before its Nth + 1 write to the host, read at its
 *                                launch
 *   OUTCRY_EMULATION_MEMORY=N    the device has N bytes
 *   OUTCRY_EMULATION_DEVICES=N   how many; 0: no device   */

/* How a double of a vendor's library (fake_*.cpp, an object of its own) reaches the emulation: what it does on a stream
 * is done at once, or becomes a node of what the stream records; and the shadow hears what it touches. A double exports
 * a pointer of this name, which kernels/cuda/library.cu fills after loading. */
#define OC_LIBRARY_DOOR "outcry_emulation_door"
struct library_door {
    /* Runs run(packet), now or at each replay; the packet is copied. */
    void (*enqueue)(cudaStream_t stream, const char *name, const void *packet, size_t bytes, void (*run)(const void *));
    void (*touch)(const void *at, size_t bytes, bool writes); /* inside run */
};
extern const library_door door;
} // namespace emulation

#endif
