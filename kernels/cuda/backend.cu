/* backend.cu - the CUDA driver of kernels/backend.c: which device, its one planned block of memory, copies, waiting,
 * errors, and the table of operations. It is the module's door: liboutcry-cuda.so exports outcry_cuda_module alone, and
 * has the CUDA runtime linked in, so that a machine without a driver can load it and be told so. Not run on a GPU. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernels/cuda/choice.cuh"
#include "kernels/cuda/library.cuh"
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/resident.cuh"

static constexpr size_t ALIGNMENT = 64, OWN_BYTES = OC_CUDA_PARTS * 8 + 256;
static constexpr int MAJOR_MIN = 8;
/* STAYS: what a plan leaves free, since kernels are loaded when first started, and recordings made after that. */
#ifdef OC_EMULATION
static constexpr size_t GUARD_BYTES = 64, STAYS_BYTES = 0,
                        GUARDS_MAX = 4096; /* behind every tensor, so that a step beside it is found */
#else
static constexpr size_t GUARD_BYTES = 0, GUARDS_MAX = 0, STAYS_BYTES = (size_t)256 << 20;
#endif

/* ---------------------------------------------------------------- messages go to the program */
static const oc_backend_host *host;

extern "C" oc_status oc_status_fail(oc_status code, const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return host->fail(code, file, line, text);
}

extern "C" oc_status oc_status_trail(oc_status code, const char *file, int line)
{
    return host->trail(code, file, line);
}

oc_status oc_cuda_result(oc_backend *b, cudaError_t error, const char *what)
{
    const oc_cuda *c = oc_cuda_of(b);
    if (error == cudaSuccess) return OC_OK;
    return OC_FAIL(error == cudaErrorMemoryAllocation ? OC_EMEMORY : OC_EFAILED,
                   "backend cuda: %s failed with %s (%s); the last kernel started was %s%s", what,
                   cudaGetErrorName(error), cudaGetErrorString(error), c && c->launched ? c->launched : "none",
                   c && c->launched && !c->wait_always ? "; OUTCRY_CUDA_WAIT=1 finds which one it is" : "");
}

/* ---------------------------------------------------------------- opening */
static OC_MUST device_find(int *count)
{
    const cudaError_t error = cudaGetDeviceCount(count);
    if (error == cudaSuccess && *count > 0) return OC_OK;
#ifndef OC_EMULATION
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!driver) return OC_FAIL(OC_EFAILED, "backend cuda: no driver libcuda.so.1 on this machine");
    (void)dlclose(driver);
#endif
    if (error == cudaErrorInsufficientDriver)
        return OC_FAIL(OC_EFAILED, "backend cuda: the driver is too old for CUDA 12: %s", cudaGetErrorString(error));
    return OC_FAIL(OC_EFAILED, "backend cuda: a driver, but no usable GPU (%s: %s)", cudaGetErrorName(error),
                   cudaGetErrorString(error));
}

__thread int oc_cuda_current = -1;

/* A device that cannot be entered is found by the next call, which meets the wrong one. */
void oc_cuda_enter(int device)
{
    oc_cuda_current = cudaSetDevice(device) == cudaSuccess ? device : -1;
}

static OC_MUST device_take(oc_backend *b, oc_cuda *c, int wish)
{
    cudaDeviceProp p;
    int count = 0;
    OC_TRY(device_find(&count));
    if (!(wish >= 0 && wish < count))
        return OC_FAIL(OC_ECONFIG, "backend cuda: device %d; this machine has %d, from 0 on", wish, count);
    OC_TRY(oc_cuda_result(b, cudaSetDevice(wish), "choosing the device"));
    oc_cuda_current = wish;
    OC_TRY(oc_cuda_result(b, cudaGetDeviceProperties(&p, wish), "asking for the device's properties"));
    if (p.major < MAJOR_MIN)
        return OC_FAIL(OC_EFAILED, "backend cuda: %s has compute capability %d.%d; %d.0 or later is needed", p.name,
                       p.major, p.minor, MAJOR_MIN);
    c->device = wish;
    c->multiprocessors = p.multiProcessorCount;
    c->shared_max = p.sharedMemPerBlockOptin;
    b->info.kind = OC_BACKEND_CUDA;
    b->info.device_index = wish;
    b->info.devices = count;
    snprintf(b->info.device, sizeof b->info.device, "%.*s", (int)sizeof b->info.device - 1, p.name);
    snprintf(b->info.reason, sizeof b->info.reason, "cuda: device %d, compute capability %d.%d, %d multiprocessors",
             wish, p.major, p.minor, p.multiProcessorCount);
    return OC_OK;
}

static OC_MUST memory_take(oc_backend *b, oc_cuda *c, size_t arena_bytes)
{
    size_t available = 0, total = 0;
    const size_t bytes = arena_bytes + GUARD_BYTES * GUARDS_MAX;
    const size_t own = OWN_BYTES + (arena_bytes > 0 ? oc_cuda_lt_bytes(b) : 0);
    OC_TRY(oc_cuda_result(b, cudaMemGetInfo(&available, &total), "asking for free memory"));
    void *block = NULL, *pinned = NULL;
    const size_t stays = arena_bytes > 0 ? STAYS_BYTES : 0;
    const cudaError_t error =
        bytes + own + stays > available ? cudaErrorMemoryAllocation : cudaMalloc(&block, bytes + own);
    if (error != cudaSuccess)
        return OC_FAIL(
            OC_EMEMORY,
            "backend cuda: %s has %.3f of %.3f GB free, the plan takes %.3f GB, and %.3f GB stay for kernels "
            "and recordings",
            b->info.device, (double)available * 1e-9, (double)total * 1e-9, (double)(bytes + own) * 1e-9,
            (double)stays * 1e-9);
    c->block = (unsigned char *)block;
    c->bytes = bytes;
    c->parts = (double *)(void *)(c->block + (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    c->fault = (oc_cuda_fault *)(c->parts + OC_CUDA_PARTS);
#ifdef OC_EMULATION
    emulation::hand_out(c->parts, OC_CUDA_PARTS * sizeof *c->parts);
    emulation::hand_out(c->fault, sizeof *c->fault);
#endif
    if (own > OWN_BYTES) oc_cuda_lt_memory(b, c->block + (bytes + OWN_BYTES + 255) / 256 * 256);
    OC_TRY(oc_cuda_result(b, cudaMallocHost(&pinned, sizeof *c->fault_host), "pinning host memory"));
    c->fault_host = (oc_cuda_fault *)pinned;
    return OC_OK;
}

static OC_MUST fault_clear(oc_backend *b)
{
    oc_cuda *c = oc_cuda_of(b);
    *c->fault_host = {0, 0xffffffffu};
    OC_TRY(oc_cuda_result(
        b, cudaMemcpyAsync(c->fault, c->fault_host, sizeof *c->fault, cudaMemcpyHostToDevice, c->stream), "a copy"));
    return OC_OK;
}

static OC_MUST fill_state(oc_backend *b, const oc_backend_config *config)
{
    oc_cuda *c = oc_cuda_of(b);
    const char *wait = getenv("OUTCRY_CUDA_WAIT"), *record = getenv("OUTCRY_CUDA_RECORD");
    OC_TRY(device_take(b, c, config->device));
    b->info.math = config->math;
    b->info.wait_max_ns = config->wait_max_ns;
    c->wait_always = wait && strcmp(wait, "1") == 0;
    OC_TRY(oc_cuda_lstm_insist(b, getenv("OUTCRY_CUDA_LSTM")));
    b->info.records = !c->wait_always && !(record && strcmp(record, "0") == 0);
    OC_TRY(oc_cuda_lanes_open(b));
    OC_TRY(oc_cuda_lt_open(b));
    OC_TRY(oc_cuda_dnn_open(b, config->lstm));
    OC_TRY(memory_take(b, c, config->arena_bytes));
    OC_TRY(fault_clear(b));
    OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(c->stream), "waiting"));
    return OC_OK;
}

static void cuda_close(oc_backend *b)
{
    oc_cuda *c = oc_cuda_of(b);
    if (!c) return;
    const oc_cuda_quiet quiet;
    if (quiet.stuck) {
        oc_cuda_leave(c); /* whatever frees would wait for ever */
        return;
    }
    oc_cuda_record_drop(b);
    if (c->block) {
        (void)cudaStreamSynchronize(c->lanes[0]);
        (void)cudaFree(c->block);
    }
    oc_cuda_dnn_close(b);
    oc_cuda_lt_close(b);
    if (c->fault_host) (void)cudaFreeHost(c->fault_host);
    oc_cuda_lanes_close(b);
    free(c);
    b->state = NULL;
}

static oc_status cuda_open(oc_backend *b, const oc_backend_config *config)
{
    const oc_cuda_quiet quiet;
    if (quiet.stuck) return OC_FAIL(OC_EFAILED, "backend cuda: " OC_CUDA_STUCK);
    b->state = calloc(1, sizeof(oc_cuda));
    if (!b->state) return OC_FAIL(OC_EMEMORY, "backend cuda: no memory for %zu bytes", sizeof(oc_cuda));
    ((oc_cuda *)b->state)->device = config->device;
    const oc_status status = fill_state(b, config);
    if (status != OC_OK) cuda_close(b);
    return status;
}

/* ---------------------------------------------------------------- memory */
static oc_status cuda_alloc(oc_backend *b, size_t bytes, void **data)
{
    oc_cuda *c = oc_cuda_of(b);
    const size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + GUARD_BYTES;
    if (c->sealed || whole < bytes || whole > c->bytes - c->used)
        return OC_FAIL(OC_EMEMORY, "backend cuda: a tensor of %zu bytes, but %s of the planned %zu bytes are used",
                       bytes, c->sealed ? "the block is sealed and all" : "too many", c->bytes);
    *data = c->block + c->used;
    c->used += whole;
#ifdef OC_EMULATION
    emulation::hand_out(*data, bytes);
#endif
    if (bytes > 0) OC_TRY(oc_cuda_result(b, cudaMemsetAsync(*data, 0, bytes, c->stream), "clearing memory"));
    return OC_OK;
}

static void cuda_seal(oc_backend *b)
{
    oc_cuda_of(b)->sealed = true;
}

static oc_status cuda_pin(oc_backend *b, size_t bytes, void **out)
{
    const oc_cuda_quiet quiet;
    if (quiet.stuck) return OC_FAIL(OC_EFAILED, "backend cuda: " OC_CUDA_STUCK);
    (void)oc_cuda_of(b);
    OC_TRY(oc_cuda_result(b, cudaMallocHost(out, bytes), "pinning host memory"));
    memset(*out, 0, bytes);
    return OC_OK;
}

static void cuda_unpin(oc_backend *b, void *pinned)
{
    const oc_cuda_quiet quiet;
    (void)oc_cuda_of(b);
    if (!quiet.stuck) (void)cudaFreeHost(pinned);
}

/* A device that once did not answer is asked no more: its queues would fill, and then the call itself would not come
 * back. */
static uint32_t lost; /* by __atomic */

bool oc_cuda_lost()
{
    return __atomic_load_n(&lost, __ATOMIC_RELAXED);
}

static bool cuda_lost(const oc_backend *b)
{
    (void)b;
    return oc_cuda_lost();
}

int64_t oc_cuda_now_ns()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static OC_MUST answer_await(oc_backend *b)
{
    const oc_cuda *c = oc_cuda_of(b);
    const int64_t bound = b->info.wait_max_ns, start = oc_cuda_now_ns();
    if (bound <= 0) {
        OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(c->stream), "waiting for the GPU"));
        return OC_OK;
    }
    for (cudaError_t error;
         (error = cudaStreamQuery(c->stream)) != cudaErrorNotReady || oc_cuda_now_ns() - start < bound;)
        if (error != cudaErrorNotReady) {
            OC_TRY(oc_cuda_result(b, error, "waiting for the GPU"));
            return OC_OK;
        }
    __atomic_store_n(&lost, 1u, __ATOMIC_RELAXED);
    return OC_FAIL(OC_EFAILED,
                   "backend cuda: %s has not answered within %.3f ms (the last kernel started was %s) and is asked no "
                   "more: this process must be started anew",
                   b->info.device, (double)bound * 1e-6, c->launched ? c->launched : "none");
}

static OC_MUST lost_check(void)
{
    return oc_cuda_lost() ? OC_FAIL(OC_EFAILED, "backend cuda: " OC_CUDA_STUCK) : OC_OK;
}

static oc_status cuda_upload(oc_backend *b, void *to, const void *from, size_t bytes)
{
    OC_TRY(lost_check());
    OC_TRY(oc_cuda_result(b, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, oc_cuda_of(b)->stream),
                          "an upload"));
    return OC_OK;
}

static oc_status cuda_download(oc_backend *b, void *to, const void *from, size_t bytes)
{
    OC_TRY(oc_cuda_result(b, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, oc_cuda_of(b)->stream),
                          "a download"));
    return OC_OK;
}

static oc_status cuda_copy(oc_backend *b, void *to, const void *from, size_t bytes)
{
    OC_TRY(
        oc_cuda_result(b, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, oc_cuda_of(b)->stream), "a copy"));
    return OC_OK;
}

static oc_status cuda_wait(oc_backend *b)
{
    static const char *const words[][2] = {{"", ""},
#define FAULT_WORDS(name, before, behind) {before, behind},
                                           OC_CUDA_FAULTS(FAULT_WORDS)
#undef FAULT_WORDS
    };
    oc_cuda *c = oc_cuda_of(b);
    assert(!c->recording);
    OC_TRY(lost_check());
    c->stream = c->lanes[0]; /* an operation that failed may have left another */
    OC_TRY(oc_cuda_result(
        b, cudaMemcpyAsync(c->fault_host, c->fault, sizeof *c->fault, cudaMemcpyDeviceToHost, c->stream), "a copy"));
    OC_TRY(answer_await(b));
    const oc_cuda_fault found = *c->fault_host;
    if (found.code == OC_FAULT_NONE) return OC_OK;
    OC_TRY(fault_clear(b));
    return OC_FAIL(OC_EDATA, "%s %u %s", words[found.code][0], found.place, words[found.code][1]);
}

/* ---------------------------------------------------------------- the door */
static oc_backend_driver driver; /* filled by the one call that the program makes */

static void driver_fill(oc_backend_driver &d)
{
    d.abi = OC_BACKEND_ABI;
    d.kind = OC_BACKEND_CUDA;
    d.open = cuda_open;
    d.close = cuda_close;
    d.alloc = cuda_alloc;
    d.seal = cuda_seal;
    d.upload = cuda_upload;
    d.download = cuda_download;
    d.copy = cuda_copy;
    d.wait = cuda_wait;
    d.lost = cuda_lost;
    d.pin = cuda_pin;
    d.unpin = cuda_unpin;
    d.record_begin = oc_cuda_record_begin;
    d.record_end = oc_cuda_record_end;
    d.record_drop = oc_cuda_record_drop;
    d.replay = oc_cuda_replay;
    d.recording_free = oc_cuda_recording_free;
    d.libraries = oc_cuda_libraries;
    d.resident = &oc_cuda_resident;
    d.link = &oc_cuda_link;
    d.ops.gather_scale = oc_cuda_gather_scale;
    d.ops.lstm_packed_bytes = oc_cuda_lstm_packed_bytes;
    d.ops.lstm_pack = oc_cuda_lstm_pack;
    d.ops.lstm_reserve_bytes = oc_cuda_lstm_reserve_bytes;
    d.ops.lstm_forward = oc_cuda_lstm_forward;
    d.ops.lstm_backward = oc_cuda_lstm_backward;
    d.ops.lstm_backward_layer = oc_cuda_lstm_backward_layer;
    d.ops.lstm_step = oc_cuda_lstm_step;
    d.ops.attend_packed_bytes = oc_cuda_attend_packed_bytes;
    d.ops.attend_pack = oc_cuda_attend_pack;
    d.ops.attend_reserve_bytes = oc_cuda_attend_reserve_bytes;
    d.ops.attend_forward = oc_cuda_attend_forward;
    d.ops.attend_backward = oc_cuda_attend_backward;
    d.ops.slide_bytes = oc_cuda_slide_bytes;
    d.ops.slide_work_bytes = oc_cuda_slide_work_bytes;
    d.ops.slide_reset = oc_cuda_slide_reset;
    d.ops.slide_step = oc_cuda_slide_step;
    d.ops.slide_advance = oc_cuda_slide_advance;
    d.ops.dropout = oc_cuda_dropout;
    d.ops.linear_packed_bytes = oc_cuda_linear_packed_bytes;
    d.ops.linear_pack = oc_cuda_linear_pack;
    d.ops.linear_forward = oc_cuda_linear_forward;
    d.ops.linear_backward = oc_cuda_linear_backward;
    d.ops.softmax_loss = oc_cuda_softmax_loss;
    d.ops.softmax = oc_cuda_softmax;
    d.ops.tree_sum = oc_cuda_tree_sum;
    d.ops.square_sum = oc_cuda_square_sum;
    d.ops.adamw = oc_cuda_adamw;
    d.ops.blend = oc_cuda_blend;
    d.ops.fill = oc_cuda_fill;
    d.ops.step_begin = oc_cuda_step_begin;
    d.ops.step_decide = oc_cuda_step_decide;
    d.ops.step_apply = oc_cuda_step_apply;
}

extern "C" __attribute__((visibility("default"))) const oc_backend_driver *outcry_cuda_module(const oc_backend_host *h)
{
    if (h->abi != OC_BACKEND_ABI || h->host_bytes != sizeof *h || h->config_bytes != sizeof(oc_backend_config) ||
        h->info_bytes != sizeof(struct oc_backend) || h->ops_bytes != sizeof driver)
        return NULL;
    host = h;
    driver_fill(driver);
    return &driver;
}
