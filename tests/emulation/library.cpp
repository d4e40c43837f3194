/* library.cpp - the door of runtime.cuh for doubles of the vendor's libraries. */
#include "emulation/inside.cuh"

namespace emulation
{
static void enqueue(cudaStream_t stream, const char *name, const void *packet, size_t bytes, void (*run)(const void *))
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    if (capture_library(stream, name, packet, bytes, run)) return;
    era++;
    kernel_name = name;
    run(packet);
    kernel_name = nullptr;
    era++;
}

static void touch(const void *at, size_t bytes, bool writes)
{
    if (bytes == 0) return;
    if (!writes && !shadow_all_written(at, bytes))
        finding(nullptr, "a library reads device memory, %zu bytes, that nothing wrote", bytes);
    shadow_copied(at, bytes, writes);
    if (writes) shadow_written(at, bytes);
}

const library_door door = {enqueue, touch};
} // namespace emulation
