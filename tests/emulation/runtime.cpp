/* runtime.cpp - the CUDA runtime of the emulation: memory, copies, errors. Nothing runs beside the caller but resident
 * grids (schedule.cpp); streams and recordings: graph.cpp. */
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include "emulation/inside.cuh"

extern "C" {
__attribute__((visibility("default"))) oc_emulation_counts outcry_emulation_counts;
__attribute__((visibility("default"))) uint64_t outcry_emulation_ran(const char *name);
}

static std::map<std::string, uint64_t> &kernels_ran()
{
    static std::map<std::string, uint64_t> ran;
    return ran;
}

void emulation::count_kernel(const char *name)
{
    std::string plain = name;
    if (plain.front() == '(') plain = plain.substr(1, plain.size() - 2); /* a template with a comma */
    kernels_ran()[plain]++;
}

uint64_t outcry_emulation_ran(const char *name)
{
    const auto at = kernels_ran().find(name);
    return at == kernels_ran().end() ? 0 : at->second;
}

namespace
{
std::map<void *, size_t> blocks, host_blocks;
size_t used;

size_t device_bytes()
{
    const char *text = getenv("OUTCRY_EMULATION_MEMORY");
    return text ? strtoull(text, nullptr, 10) : size_t(4) << 30;
}

int device_count()
{
    const char *text = getenv("OUTCRY_EMULATION_DEVICES");
    return text ? static_cast<int>(strtol(text, nullptr, 10)) : 1;
}

const struct {
    cudaError_t code;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver", "the driver is too old or not there"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported", "not allowed while a stream is captured"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated", "the capture failed before"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched", "no capture began in this stream"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "a stream was not joined to the captured one"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation", "an event from outside of the capture"},
};
} // namespace

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

static bool device_is(int device)
{
    return device >= 0 && device < device_count();
}

static thread_local int device_now; /* each thread's own, as the runtime has it; it begins with 0 */

int emulation::current_device()
{
    return device_now;
}

cudaError_t cudaSetDevice(int device)
{
    if (!device_is(device)) return cudaErrorInvalidDevice;
    device_now = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (!device_is(device)) return cudaErrorInvalidDevice;
    *p = cudaDeviceProp();
    snprintf(p->name, sizeof p->name, "emulation");
    p->totalGlobalMem = device_bytes();
    p->sharedMemPerBlockOptin = emulation::SHARED_MAX;
    p->major = 9;
    p->minor = 0;
    p->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    *total = device_bytes();
    *free = *total - used;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaMalloc");
    *out = nullptr;
    if (bytes > device_bytes() - used) return cudaErrorMemoryAllocation;
    const size_t whole = (bytes + 4095) / 4096 * 4096;
    *out = aligned_alloc(4096, whole ? whole : 4096);
    if (!*out) return cudaErrorMemoryAllocation;
    outcry_emulation_counts.allocations++;
    blocks[*out] = bytes;
    used += bytes;
    emulation::shadow_add(*out, whole ? whole : 4096, "device memory");
    return cudaSuccess;
}

cudaError_t cudaFree(void *at)
{
    if (!at) return cudaSuccess;
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaFree");
    if (!blocks.count(at)) return cudaErrorInvalidValue;
    used -= blocks[at];
    blocks.erase(at);
    emulation::shadow_remove(at);
    free(at);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaMallocHost");
    *out = malloc(bytes ? bytes : 1);
    if (!*out) return cudaErrorMemoryAllocation;
    outcry_emulation_counts.allocations++;
    host_blocks[*out] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *at)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    emulation::quiet_check("cudaFreeHost");
    host_blocks.erase(at);
    free(at);
    return cudaSuccess;
}

namespace emulation
{
bool pinned(const void *at, size_t bytes)
{
    for (const auto &block : host_blocks) {
        const auto *first = static_cast<const unsigned char *>(block.first),
                   *from = static_cast<const unsigned char *>(at);
        if (from >= first && from + bytes <= first + block.second) return true;
    }
    return false;
}

cudaError_t copy_now(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    if (kind != cudaMemcpyHostToDevice && !shadow_all_written(from, bytes))
        finding(nullptr, "a copy of %zu bytes reads device memory that nothing wrote", bytes);
    memcpy(to, from, bytes);
    if (kind != cudaMemcpyDeviceToHost) shadow_written(to, bytes);
    return cudaSuccess;
}

void set_now(void *to, int value, size_t bytes)
{
    memset(to, value, bytes);
    shadow_written(to, bytes);
}
} // namespace emulation

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    if (bytes == 0 || emulation::capture_copy(to, from, bytes, kind, stream)) return cudaSuccess;
    emulation::work_count(stream);
    outcry_emulation_counts.uploads += kind == cudaMemcpyHostToDevice;
    outcry_emulation_counts.upload_bytes += kind == cudaMemcpyHostToDevice ? bytes : 0;
    outcry_emulation_counts.downloads += kind == cudaMemcpyDeviceToHost;
    return emulation::copy_now(to, from, bytes, kind);
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    if (bytes == 0 || emulation::capture_set(to, value, bytes, stream)) return cudaSuccess;
    emulation::work_count(stream);
    emulation::set_now(to, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    __atomic_fetch_add(&outcry_emulation_counts.waits, 1, __ATOMIC_RELAXED);
    if (emulation::captured(stream)) return cudaErrorStreamCaptureUnsupported;
    while (emulation::outside_busy(stream)) std::this_thread::yield();
    emulation::work_waited(stream);
    emulation::host_waited();
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    static long asked;
    const char *text = getenv("OUTCRY_EMULATION_BUSY");
    asked++;
    if (emulation::outside_busy(stream)) return cudaErrorNotReady;
    if (text && asked >= strtol(text, nullptr, 10)) return cudaErrorNotReady;
    emulation::host_waited();
    return cudaSuccess;
}

/* ---------------------------------------------------------------- what kernels were told */
static std::map<std::pair<int, const void *>, int> permitted; /* on which device; by one_at_a_time */

size_t emulation::shared_permitted(const void *kernel)
{
    const auto at = permitted.find({device_now, kernel});
    return static_cast<size_t>(at == permitted.end() ? static_cast<int>(SHARED_STATIC_MAX) : at->second);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *kernel)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    *out = {0, static_cast<int>(emulation::shared_permitted(kernel))};
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what, int value)
{
    const std::lock_guard<std::recursive_mutex> hold(emulation::one_at_a_time);
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > emulation::SHARED_MAX)
        return cudaErrorInvalidValue;
    permitted[{device_now, kernel}] = value;
    return cudaSuccess;
}

cudaError_t cudaGetLastError()
{
    return cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t code)
{
    for (const auto &e : errors)
        if (e.code == code) return e.name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t code)
{
    for (const auto &e : errors)
        if (e.code == code) return e.text;
    return "unknown error";
}
