/* backend_cuda.cuh - what the files of kernels/cuda know of a backend: its stream, its planned block, the device's
 * shape, faults that kernels find; and how a kernel is launched. Operations enqueue and return. */
#ifndef OC_KERNELS_CUDA_BACKEND_CUDA_CUH
#define OC_KERNELS_CUDA_BACKEND_CUDA_CUH

#include <assert.h>
#include "kernels/backend.h"
#include "kernels/cuda/device.cuh"

/* What a kernel finds wrong in its data: reported by the next wait. One row a fault: name, and the words before and
 * behind the smallest place where it was found. */
#define OC_CUDA_FAULTS(X)                                                                                              \
    X(OC_FAULT_WINDOW, "gather_scale: window", "does not lie in the rows")                                             \
    X(OC_FAULT_TARGET, "softmax_loss: target", "is not class -1, 0, 1 or 2")                                           \
    X(OC_FAULT_TURN, "step_begin: turn", "has no plan")
typedef enum {
    OC_FAULT_NONE,
#define OC_CUDA_FAULT_ENUM(name, before, behind) name,
    OC_CUDA_FAULTS(OC_CUDA_FAULT_ENUM)
#undef OC_CUDA_FAULT_ENUM
} oc_cuda_fault_code;
typedef struct oc_cuda_fault {
    unsigned code, place;
} oc_cuda_fault;

static constexpr int OC_CUDA_PARTS = 1024;                  /* of a sum in two passes */
static constexpr int OC_CUDA_LANE_LINK = 1 + OC_LAYERS_MAX; /* link_nccl.cu alone */
static constexpr int OC_CUDA_LANES = OC_CUDA_LANE_LINK + 1;

typedef struct oc_cuda_lt oc_cuda_lt;   /* product_lt.cu */
typedef struct oc_cuda_dnn oc_cuda_dnn; /* cudnn.cu */
typedef struct oc_cuda {
    int device, multiprocessors;
    size_t shared_max;   /* of one block */
    bool wait_always;    /* OUTCRY_CUDA_WAIT=1: after every launch, so that an error names its kernel */
    int lstm_variant;    /* of choice.cuh, which OUTCRY_CUDA_LSTM insists on; -1: the table chooses */
    cudaStream_t stream; /* where things go: that of the current lane */
    cudaStream_t lanes[OC_CUDA_LANES];
    cudaEvent_t marks[OC_CUDA_LANES];
    bool recording;
    unsigned char *block; /* the planned memory, then what the backend needs itself */
    size_t bytes, used;
    bool sealed;
    double *parts; /* [OC_CUDA_PARTS] */
    oc_cuda_fault *fault, *fault_host;
    const char *launched; /* the last kernel */
    oc_cuda_lt *lt;       /* cuBLASLt for large products; NULL: by hand */
    oc_cuda_dnn *dnn;     /* cuDNN for the LSTM in training; NULL: by hand */
} oc_cuda;

/* oc_tensor_count lives in the program; the module has its own. */
static inline int64_t oc_cuda_count(oc_tensor t)
{
    return t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
}

/* The runtime keeps for each thread which device its calls mean, and refuses launches into a stream of another one; a
 * backend may be opened by one thread and used by the next. So whoever asks for the state is led to its device. */
extern __thread int oc_cuda_current;
void oc_cuda_enter(int device);

static inline oc_cuda *oc_cuda_of(oc_backend *b)
{
    oc_cuda *c = (oc_cuda *)b->state;
    if (c && c->device != oc_cuda_current) oc_cuda_enter(c->device);
    return c;
}

/* Monotonic; oc_clock_monotonic_ns lives in the program. */
int64_t oc_cuda_now_ns();

/* First fault wins; of its places the smallest, whatever order threads come in. */
OC_DEVICE void oc_fault(oc_cuda_fault *fault, oc_cuda_fault_code code, int64_t place)
{
    const unsigned before = atomicCAS(&fault->code, 0u, (unsigned)code);
    if (before == 0 || before == (unsigned)code) (void)atomicMin(&fault->place, (unsigned)place);
}

OC_MUST oc_cuda_result(oc_backend *b, cudaError_t error, const char *what);

/* ---------------------------------------------------------------- lanes (record.cu)
 * Work goes to lane 0, in order, unless an operation leads some of it beside: fork, oc_cuda_on(b, 1 …), launches (any
 * function here that takes b), oc_cuda_after wherever one lane needs what another has made so far, join. Nothing else
 * orders lanes; oc_cuda.parts is lane 0's. In emulation a recording runs unordered branches in a drawn order, and two
 * that touch the same bytes, one of them writing, are a finding. */
void oc_cuda_on(oc_backend *b, int lane);                  /* what comes next goes there */
OC_MUST oc_cuda_after(oc_backend *b, int lane, int other); /* what comes next on lane waits for all on other so far */
OC_MUST oc_cuda_fork(oc_backend *b, int lanes);            /* 1 … lanes after 0 */
OC_MUST oc_cuda_join(oc_backend *b, int lanes);            /* 0, now the current one, after 1 … lanes */
OC_MUST oc_cuda_lanes_open(oc_backend *b);                 /* these two of backend.cu alone */
void oc_cuda_lanes_close(oc_backend *b);

/* Decides who takes large products, and says it in info.products. Close stands in for an open that failed. */
OC_MUST oc_cuda_lt_open(oc_backend *b);
size_t oc_cuda_lt_bytes(oc_backend *b); /* of workspace in the planned block */
void oc_cuda_lt_memory(oc_backend *b, void *workspace);
void oc_cuda_lt_close(oc_backend *b);
/* The same for the LSTM in training: info.lstm, info.lstm_by. */
OC_MUST oc_cuda_dnn_open(oc_backend *b, oc_lstm_by wish);
void oc_cuda_dnn_close(oc_backend *b);

/* ---------------------------------------------------------------- launching */
/* Over 48 KB a kernel must be told beforehand. It is told the most that the device has, whatever this launch takes: a
 * lesser number, of another thread or of a later launch in the recording, would take away what this one was given. */
static inline cudaError_t oc_shared_permit(const void *kernel, size_t bytes, size_t most)
{
    cudaFuncAttributes has;
    if (bytes <= 48 * 1024) return cudaSuccess;
    const cudaError_t error = cudaFuncGetAttributes(&has, kernel);
    if (error != cudaSuccess || has.maxDynamicSharedSizeBytes >= (int)bytes) return error;
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(most - has.sharedSizeBytes));
}

template <class... P, class... A>
static cudaError_t oc_launch(const char *name, bool cooperative, void (*kernel)(P...), dim3 grid, dim3 block,
                             size_t shared_bytes, const oc_cuda *c, const A &...arguments)
{
    const cudaError_t error = oc_shared_permit(reinterpret_cast<const void *>(kernel), shared_bytes, c->shared_max);
    if (error != cudaSuccess) return error;
#ifdef OC_EMULATION
    return (cudaError_t)emulation::launch_kernel({name, grid, block, shared_bytes, cooperative, c->stream}, kernel,
                                                 arguments...);
#else
    (void)name;
    cudaLaunchConfig_t config = {};
    cudaLaunchAttribute attribute = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = c->stream;
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    config.attrs = &attribute;
    config.numAttrs = cooperative ? 1 : 0;
    return cudaLaunchKernelEx(&config, kernel, P(arguments)...);
#endif
}

/* Cooperative, so that all its blocks are there at once; it runs on beside everything else (resident_kernel.cu). */
template <class... P, class... A>
static cudaError_t oc_launch_resident(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                      size_t shared_bytes, const oc_cuda *c, const A &...arguments)
{
#ifdef OC_EMULATION
    const cudaError_t error = oc_shared_permit(reinterpret_cast<const void *>(kernel), shared_bytes, c->shared_max);
    if (error != cudaSuccess) return error;
    return (cudaError_t)emulation::launch_kernel({name, grid, block, shared_bytes, true, c->stream, nullptr, true},
                                                 kernel, arguments...);
#else
    return oc_launch(name, true, kernel, grid, block, shared_bytes, c, arguments...);
#endif
}

/* Starts kernel(arguments...) on the backend's stream, or returns from the operation with an error that names it. An
 * empty grid starts nothing. A template with a comma goes in parentheses. */
#define OC_LAUNCH_AS(cooperative, b, kernel, grid, block, shared_bytes, ...)                                           \
    do {                                                                                                               \
        const dim3 oc_grid_ = (grid);                                                                                  \
        if (oc_grid_.x == 0 || oc_grid_.y == 0 || oc_grid_.z == 0) break;                                              \
        oc_cuda_of(b)->launched = #kernel;                                                                             \
        OC_TRY(oc_cuda_result(                                                                                         \
            b, oc_launch(#kernel, cooperative, kernel, oc_grid_, block, shared_bytes, oc_cuda_of(b), __VA_ARGS__),     \
            "the launch"));                                                                                            \
        if (oc_cuda_of(b)->wait_always) OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(oc_cuda_of(b)->stream), "it")); \
    } while (0)
#define OC_LAUNCH(b, kernel, grid, block, shared_bytes, ...)                                                           \
    OC_LAUNCH_AS(false, b, kernel, grid, block, shared_bytes, __VA_ARGS__)
#define OC_LAUNCH_COOPERATIVE(b, kernel, grid, block, shared_bytes, ...)                                               \
    OC_LAUNCH_AS(true, b, kernel, grid, block, shared_bytes, __VA_ARGS__)

static constexpr int OC_FLAT_THREADS = 256;
/* Blocks for a flat loop over count elements: enough for the device, no more. */
static inline unsigned oc_flat_grid(oc_backend *b, int64_t count)
{
    const int64_t blocks = (count + OC_FLAT_THREADS - 1) / OC_FLAT_THREADS;
    const int64_t most = (int64_t)oc_cuda_of(b)->multiprocessors * 8;
    return (unsigned)(blocks < most ? blocks : most);
}

#endif
