/* planted.cu - see planted.cuh. The kernels are small and plain, as a reader would write them on paper. */
#include "kernels/cuda/device.cuh"
#include "emulation/planted.cuh"

static constexpr int THREADS = 64, COUNT = 256;

/* Runs kernel(out, in) over COUNT numbers 0, 1, …; wanted(i) is what out[i] must be. */
template <class K> static int run_kernel(K kernel, dim3 grid, dim3 block, size_t shared, float (*wanted)(int))
{
    void *in = nullptr, *out = nullptr;
    float host[COUNT];
    static constexpr size_t GUARD = 64;
    int result = PLANTED_GOOD;
    if (cudaMalloc(&in, sizeof host + GUARD) != cudaSuccess || cudaMalloc(&out, sizeof host + GUARD) != cudaSuccess)
        return PLANTED_NO_ROOM;
    emulation::hand_out(in, sizeof host);
    emulation::hand_out(out, sizeof host);
    for (int i = 0; i < COUNT; i++) host[i] = (float)i;
    (void)cudaMemcpyAsync(in, host, sizeof host, cudaMemcpyHostToDevice, nullptr);
    (void)cudaMemsetAsync(out, 0, sizeof host, nullptr);
    if (emulation::launch_kernel({"planted", grid, block, shared, false}, kernel, (float *)out, (const float *)in) != 0)
        result = PLANTED_NO_ROOM;
    (void)cudaMemcpyAsync(host, out, sizeof host, cudaMemcpyDeviceToHost, nullptr);
    for (int i = 0; i < COUNT; i++)
        if (!(host[i] == wanted(i)) && result == PLANTED_GOOD) result = PLANTED_WRONG;
    (void)cudaFree(in);
    (void)cudaFree(out);
    return result;
}

static float reversed(int i)
{
    return (float)(i / THREADS * THREADS + THREADS - 1 - i % THREADS);
}

enum fault {
    NONE,
    NO_BARRIER,
    INDEX,
    UNWRITTEN,
    STRIDE,
    MISALIGNED,
    TORN_BARRIER,
    EARLY_END,
    GLOBAL_INDEX,
    BLOCKS_RACE
};

/* Each block turns its part of the numbers round, through shared memory. */
template <int FAULT> static __global__ void reverse(float *out, const float *in)
{
    OC_SHARED(float, tile, [THREADS]);
    OC_SHARED(float, other, [THREADS]);
    const int i = threadIdx.x, at = blockIdx.x * THREADS + i;
    if (FAULT != UNWRITTEN) tile[i] = 0.0f; /* so that without the second barrier old numbers are read, not none */
    __syncthreads();
    if (FAULT == EARLY_END && i == 7) return;
    if (FAULT != UNWRITTEN || i != 5) tile[i] = in[at];
    other[i] = 0.0f;
    if (FAULT == TORN_BARRIER && i < 32)
        __syncthreads();
    else if (FAULT != NO_BARRIER)
        __syncthreads();
    const int from = FAULT == INDEX ? THREADS - i : THREADS - 1 - i;
    const float x =
        FAULT == MISALIGNED && i == 3 ? *(const double *)(const void *)(tile + 1) > 0 ? 1.0f : 0.0f : (&tile[0])[from];
    out[FAULT == GLOBAL_INDEX && at == COUNT - 1 ? COUNT : FAULT == BLOCKS_RACE ? i : at] = x + other[i];
}

template <int FAULT> static int run_reverse()
{
    return run_kernel(reverse<FAULT>, COUNT / THREADS, THREADS, 0, reversed);
}

/* Lanes hand a number to the next lane: through shuffles, or through shared memory with a barrier of the warp. */
static float rotated(int i)
{
    return (float)(i / 32 * 32 + (i + 1) % 32);
}
static __global__ void rotate_shuffle(float *out, const float *in)
{
    const int at = blockIdx.x * THREADS + threadIdx.x;
    out[at] = __shfl_sync(OC_WHOLE_WARP, in[at], (threadIdx.x + 1) % 32);
}
template <bool SYNCED> static __global__ void rotate_shared(float *out, const float *in)
{
    OC_SHARED_DYNAMIC(float, tile);
    const int i = threadIdx.x, at = blockIdx.x * THREADS + i;
    tile[i] = 0.0f;
    __syncwarp();
    tile[i] = in[at];
    if (SYNCED) __syncwarp();
    out[at] = tile[i / 32 * 32 + (i + 1) % 32];
}
static __global__ void part_of_warp(float *out, const float *in)
{
    const int at = blockIdx.x * THREADS + threadIdx.x;
    if (threadIdx.x % 32 < 16) out[at] = __shfl_sync(OC_WHOLE_WARP, in[at], 0);
}
static __global__ void host_pointer(float *out, const float *in)
{
    const float *const *at = (const float *const *)&in;
    out[threadIdx.x] = **at + *(const float *)(const void *)(out == in ? in : (const float *)8);
}
static float zero(int)
{
    return 0.0f;
}

/* C = A B of one warp from both kinds of fragments, numbers that both hold exactly. */
template <bool BF16> static __global__ void fragments(float *out, const float *in)
{
    const int lane = threadIdx.x, g = lane / 4, i = lane % 4;
    float c[4] = {0, 0, 0, 0};
    uint32_t a[4], b[2];
    for (int n = 0; n < 4; n++) {
        const int row = g + n % 2 * 8, k = BF16 ? 2 * i + n / 2 * 8 : i + n / 2 * 4;
        a[n] = BF16 ? oc_bf16_pair(in[(row * 7 + k) % 16], in[(row * 7 + k + 1) % 16])
                    : oc_tf32_of(in[(row * 7 + k) % 16]);
    }
    for (int n = 0; n < 2; n++) {
        const int k = BF16 ? 2 * i + n * 8 : i + n * 4;
        b[n] = BF16 ? oc_bf16_pair(in[(k * 5 + g) % 16], in[((k + 1) * 5 + g) % 16]) : oc_tf32_of(in[(k * 5 + g) % 16]);
    }
    if (BF16)
        oc_mma_bf16(c, a, b);
    else
        oc_mma_tf32(c, a, b);
    for (int n = 0; n < 4; n++) out[(g + n / 2 * 8) * 8 + 2 * i + n % 2] = c[n];
}
template <int DEPTH> static float product_of(int at)
{
    float sum = 0;
    for (int k = 0; at < 128 && k < DEPTH; k++) sum += (float)((at / 8 * 7 + k) % 16) * (float)((k * 5 + at % 8) % 16);
    return sum;
}

static float summed(int i)
{
    return i < THREADS ? (float)(THREADS * (THREADS - 1) / 2) : 0.0f;
}
static __global__ void block_sum(float *out, const float *in)
{
    const float sum = oc_block_sum<float, THREADS>(in[threadIdx.x]);
    out[threadIdx.x] = oc_block_sum<float, THREADS>(threadIdx.x == 3 ? sum : 0.0f); /* the same memory twice */
}

/* ---------------------------------------------------------------- recordings of two branches */
enum branch_fault { BRANCHES_GOOD, LATE_JOIN, TWO_WRITERS, NO_JOIN };
static __global__ void plus(float *out, const float *in, float add)
{
    const int i = blockIdx.x * THREADS + threadIdx.x;
    out[i] = in[i] + add;
}
static __global__ void both(float *out, const float *one, const float *other)
{
    const int i = blockIdx.x * THREADS + threadIdx.x;
    out[i] = one[i] + other[i];
}
template <class... P, class... A> static void on(cudaStream_t stream, void (*kernel)(P...), A... arguments)
{
    (void)emulation::launch_kernel({"branch", COUNT / THREADS, THREADS, 0, false, stream}, kernel, arguments...);
}

typedef struct branches {
    cudaStream_t stream, side;
    cudaEvent_t event;
    float *number[4]; /* in, one, other, out */
    float *host;      /* pinned */
} branches;

static void order(const branches *b, cudaStream_t first, cudaStream_t then)
{
    (void)cudaEventRecord(b->event, first);
    (void)cudaStreamWaitEvent(then, b->event, 0);
}

/* upload; one = in + 1 beside other = in + 2; out = one + other; download */
static cudaError_t branches_record(const branches *b, branch_fault fault, cudaGraph_t *graph)
{
    static constexpr size_t BYTES = COUNT * sizeof(float);
    float *const in = b->number[0], *const one = b->number[1], *const other = b->number[2], *const out = b->number[3];
    (void)cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal);
    (void)cudaMemcpyAsync(in, b->host, BYTES, cudaMemcpyHostToDevice, b->stream);
    (void)cudaMemsetAsync(one, 0xff, BYTES, b->stream);
    order(b, b->stream, b->side);
    on(b->side, plus, one, (const float *)in, 1.0f);
    on(b->stream, plus, fault == TWO_WRITERS ? one : other, (const float *)in, 2.0f);
    if (fault == TWO_WRITERS) on(b->stream, plus, other, (const float *)in, 2.0f);
    if (fault != LATE_JOIN && fault != NO_JOIN) order(b, b->side, b->stream);
    on(b->stream, both, out, (const float *)one, (const float *)other);
    if (fault == LATE_JOIN) order(b, b->side, b->stream);
    (void)cudaMemcpyAsync(b->host + COUNT, out, BYTES, cudaMemcpyDeviceToHost, b->stream);
    return cudaStreamEndCapture(b->stream, graph);
}

static int branches_replay(const branches *b, cudaGraph_t graph)
{
    static constexpr int REPLAYS = 24; /* each in an order of its own */
    cudaGraphExec_t work = nullptr;
    int result = PLANTED_GOOD;
    (void)cudaGraphInstantiate(&work, graph, 0);
    (void)cudaGraphDestroy(graph);
    for (int n = 0; n < REPLAYS; n++) {
        for (int i = 0; i < COUNT; i++) b->host[i] = (float)(i + n);
        if (cudaGraphLaunch(work, b->stream) != cudaSuccess) result = PLANTED_NO_ROOM;
        for (int i = 0; i < COUNT; i++)
            if (!(b->host[COUNT + i] == (float)(2 * (i + n) + 3)) && result == PLANTED_GOOD) result = PLANTED_WRONG;
    }
    (void)cudaGraphExecDestroy(work);
    return result;
}

template <int FAULT> static int run_branches()
{
    static constexpr size_t BYTES = COUNT * sizeof(float), GUARD = 64;
    branches b = {};
    cudaGraph_t graph = nullptr;
    void *pinned = nullptr;
    if (cudaMallocHost(&pinned, 2 * BYTES) != cudaSuccess) return PLANTED_NO_ROOM;
    b.host = (float *)pinned;
    for (auto &number : b.number) {
        void *at = nullptr;
        if (cudaMalloc(&at, BYTES + GUARD) != cudaSuccess) return PLANTED_NO_ROOM;
        emulation::hand_out(at, BYTES);
        number = (float *)at;
    }
    (void)cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking);
    (void)cudaStreamCreateWithFlags(&b.side, cudaStreamNonBlocking);
    (void)cudaEventCreateWithFlags(&b.event, cudaEventDisableTiming);
    const cudaError_t ended = branches_record(&b, (branch_fault)FAULT, &graph);
    int result = FAULT == NO_JOIN && ended == cudaErrorStreamCaptureUnjoined ? PLANTED_GOOD : PLANTED_NO_ROOM;
    if (ended == cudaSuccess) result = branches_replay(&b, graph);
    for (float *number : b.number) (void)cudaFree(number);
    (void)cudaEventDestroy(b.event);
    (void)cudaStreamDestroy(b.side);
    (void)cudaStreamDestroy(b.stream);
    (void)cudaFreeHost(pinned);
    return result;
}

/* ---------------------------------------------------------------- a resident kernel and its host */
enum echo_fault { ECHO_GOOD, ECHO_ORDINARY, ECHO_FREE, ECHO_UNPINNED };

/* Answers word[0] by its successor in word[1], until it is 100. */
static __global__ void echo(uint64_t *word)
{
    for (uint64_t wanted = 1;; wanted++) {
        bool came = false, last = false;
        while (!__syncthreads_or(came)) {
            const uint64_t now = threadIdx.x == 0 ? oc_host_read(word) : 0;
            last = now == 100;
            came = now == wanted || last;
            if (!came && threadIdx.x == 0) oc_host_pause();
        }
        if (__syncthreads_or(last)) return;
        if (threadIdx.x == 0) oc_host_write(word + 1, wanted + 1);
    }
}

template <int FAULT> static int run_echo()
{
    static uint64_t plain[2];
    void *pinned = nullptr;
    cudaStream_t stream = nullptr;
    if (cudaMallocHost(&pinned, sizeof plain) != cudaSuccess) return PLANTED_NO_ROOM;
    uint64_t *word = FAULT == ECHO_UNPINNED ? plain : static_cast<uint64_t *>(pinned);
    word[0] = word[1] = 0;
    (void)cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    emulation::launch_shape shape = {"planted", 1, THREADS, 0, true, stream};
    shape.resident = FAULT != ECHO_ORDINARY;
    if (emulation::launch_kernel(shape, echo, word) != 0) return PLANTED_NO_ROOM;
    for (uint64_t i = 1; i < 4; i++) {
        __atomic_store_n(word, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(word + 1, __ATOMIC_ACQUIRE) != i + 1) {
        }
    }
    if (FAULT == ECHO_FREE) (void)cudaFreeHost(pinned);
    const bool busy = cudaStreamQuery(stream) == cudaErrorNotReady;
    __atomic_store_n(word, 100, __ATOMIC_RELEASE);
    (void)cudaStreamSynchronize(stream);
    (void)cudaStreamDestroy(stream);
    (void)cudaFreeHost(pinned);
    return busy ? PLANTED_GOOD : PLANTED_WRONG;
}

#define RUN(function) []() { return function; }
extern "C" const planted_case planted_cases[] = {
    {"reverse", run_reverse<NONE>, nullptr, nullptr},
    {"a removed barrier", run_reverse<NO_BARRIER>, "no barrier lies between (a race; shared", "wrong"},
    {"an index one too far", run_reverse<INDEX>, "out of bounds; shared", "AddressSanitizer"},
    {"a number never written", run_reverse<UNWRITTEN>, "nothing wrote (uninitialised; shared", "wrong"},
    {"an odd address", run_reverse<MISALIGNED>, "no multiple of that", "misaligned address"},
    {"barriers in two branches", run_reverse<TORN_BARRIER>, "is at the barrier of", "is at the barrier of"},
    {"a thread ends before a barrier", run_reverse<EARLY_END>, "barrier", "barrier"},
    {"an index past the tensor", run_reverse<GLOBAL_INDEX>, "out of bounds; device", "AddressSanitizer"},
    {"two blocks write one number", run_reverse<BLOCKS_RACE>, "a race; device", "wrong"},
    {"shuffle", RUN(run_kernel(rotate_shuffle, COUNT / THREADS, THREADS, 0, rotated)), nullptr, nullptr},
    {"warp barrier", RUN(run_kernel(rotate_shared<true>, COUNT / THREADS, THREADS, THREADS * 4, rotated)), nullptr,
     nullptr},
    {"a removed warp barrier", RUN(run_kernel(rotate_shared<false>, COUNT / THREADS, THREADS, THREADS * 4, rotated)),
     "a race; shared", "wrong"},
    {"shared memory past the launch's",
     RUN(run_kernel(rotate_shared<true>, COUNT / THREADS, THREADS, THREADS * 4 - 4, rotated)), "out of bounds; shared",
     "AddressSanitizer"},
    {"half a warp in a shuffle", RUN(run_kernel(part_of_warp, COUNT / THREADS, THREADS, 0, zero)), "is gone",
     "is gone"},
    {"a pointer of nowhere", RUN(run_kernel(host_pointer, 1, 1, 0, zero)), "pointer of the host", ""},
    {"bf16 fragments", RUN(run_kernel(fragments<true>, 1, 32, 0, product_of<16>)), nullptr, nullptr},
    {"tf32 fragments", RUN(run_kernel(fragments<false>, 1, 32, 0, product_of<8>)), nullptr, nullptr},
    {"block sum", RUN(run_kernel(block_sum, 1, THREADS, 0, summed)), nullptr, nullptr},
    {"two branches", run_branches<BRANCHES_GOOD>, nullptr, nullptr},
    {"a missing join of two branches", run_branches<LATE_JOIN>, "a race of branches", "wrong"},
    {"two branches write one tensor", run_branches<TWO_WRITERS>, "a race of branches", "wrong"},
    {"a branch that never comes back", run_branches<NO_JOIN>, nullptr, nullptr}, /* refused at the end */
    {"a resident kernel", run_echo<ECHO_GOOD>, nullptr, nullptr},
    {"an ordinary kernel that polls the host", run_echo<ECHO_ORDINARY>, "its launch is not resident",
     "its launch is not resident"},
    {"memory freed beside a resident kernel", run_echo<ECHO_FREE>, "while a resident kernel runs",
     "while a resident kernel runs"},
    {"a doorbell that is not pinned", run_echo<ECHO_UNPINNED>, "no aligned word of pinned memory",
     "no aligned word of pinned memory"},
};
extern "C" const int planted_count = sizeof planted_cases / sizeof *planted_cases;
