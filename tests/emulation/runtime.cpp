/* runtime.cpp - the CUDA runtime of the emulation: memory, copies, errors. Nothing runs beside the caller. */
#include <cstdio>
#include <cstdlib>
#include <map>
#include "emulation/inside.cuh"

namespace
{
std::map<void *, size_t> blocks;
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
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
};
} // namespace

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaSetDevice(int device)
{
    return device >= 0 && device < device_count() ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (cudaSetDevice(device) != cudaSuccess) return cudaErrorInvalidDevice;
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
    *total = device_bytes();
    *free = *total - used;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    *out = nullptr;
    if (bytes > device_bytes() - used) return cudaErrorMemoryAllocation;
    const size_t whole = (bytes + 4095) / 4096 * 4096;
    *out = aligned_alloc(4096, whole ? whole : 4096);
    if (!*out) return cudaErrorMemoryAllocation;
    blocks[*out] = bytes;
    used += bytes;
    emulation::shadow_add(*out, whole ? whole : 4096, "device memory");
    return cudaSuccess;
}

cudaError_t cudaFree(void *at)
{
    if (!at) return cudaSuccess;
    if (!blocks.count(at)) return cudaErrorInvalidValue;
    used -= blocks[at];
    blocks.erase(at);
    emulation::shadow_remove(at);
    free(at);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    *out = malloc(bytes);
    return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void *at)
{
    free(at);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t)
{
    if (bytes == 0) return cudaSuccess;
    if (kind != cudaMemcpyHostToDevice && !emulation::shadow_all_written(from, bytes))
        emulation::finding(nullptr, "a copy of %zu bytes reads device memory that nothing wrote", bytes);
    memcpy(to, from, bytes);
    if (kind != cudaMemcpyDeviceToHost) emulation::shadow_written(to, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t)
{
    if (bytes == 0) return cudaSuccess;
    memset(to, value, bytes);
    emulation::shadow_written(to, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = nullptr;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
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
