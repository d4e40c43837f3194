/* inside.cuh - what the parts of the emulation know of each other: fibers, warps, blocks, the shadow of memory. */
#ifndef OC_TESTS_EMULATION_INSIDE_CUH
#define OC_TESTS_EMULATION_INSIDE_CUH

#include <mutex>
#include "emulation/outside.h"
#include "emulation/language.cuh"
#include "emulation/counts.h"
#include "emulation/runtime.cuh"

extern "C" oc_emulation_counts outcry_emulation_counts;

namespace emulation
{
enum { THREADS_MAX = 1024, WARPS_MAX = THREADS_MAX / 32, SITES_MAX = 64, FIBERS_MAX = 1 << 14, BLOCKS_MAX = 256 };
enum { SHARED_MAX = 227 * 1024, SHARED_STATIC_MAX = 48 * 1024, SHARED_GUARD = 64 };
/* A block's shared memory with a guard behind every array of it. */
enum { SHARED_SPAN = SHARED_MAX + SITES_MAX * 2 * SHARED_GUARD };

enum fiber_state { READY, AT_BARRIER, AT_WARP, AT_GRID, POLLING, STALLED, DONE };
struct block_state;
struct fiber {
    identity who;
    int number, warp, lane;
    fiber_state state;
    const char *file; /* where it waits */
    int line;
    block_state *block;
    void *sp;
    unsigned char *stack;
    void *fake_stack; /* of the address sanitizer */
};
struct warp_state {
    uint32_t arrived, epoch;
    uint32_t words[32][WARP_WORDS], answer[2][32][WARP_WORDS];
};
struct shared_site {
    const void *site;
    size_t at, bytes;
};
struct block_state {
    int first, threads, live, waiting; /* fibers */
    uint32_t number, epoch;
    int votes, answer[2];
    warp_state warp[WARPS_MAX];
    unsigned char *shared;
    size_t shared_used, shared_taken, dynamic_bytes;
    int sites;
    shared_site site[SITES_MAX];
};
/* Of this system thread; NULL: it is in a launcher, or the scheduler. */
#define OC_EMULATION_TLS __attribute__((tls_model("initial-exec")))
extern thread_local fiber *running OC_EMULATION_TLS;
extern const char *kernel_name;
/* From 2, goes up with every launch and every grid barrier: what lies between two eras is ordered, but for those of a
 * recording's branches. */
extern uint32_t era;
extern std::recursive_mutex one_at_a_time; /* the device: launches, replays, copies, memory */
void host_waited(); /* what was copied and set so far lies before what a resident grid does from now on */
/* A finding where a resident grid runs: on a device the call may wait for it, and so for ever. */
void quiet_check(const char *call);
bool is_given(uintptr_t at, size_t bytes); /* parameters, the thread's identity, a warp's words */
uint32_t random_below(uint32_t bound);
void random_seed();                  /* anew for every launch and replay */
void count_kernel(const char *name); /* it runs: counts.h */
cudaError_t run_grid(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *));

/* Recordings (graph.cpp). The operation is kept, not run, where the stream is captured. */
bool capture_library(cudaStream_t stream, const char *name, const void *packet, size_t bytes,
                     void (*run)(const void *));
bool capture_launch(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *));
bool capture_copy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
bool capture_set(void *to, int value, size_t bytes, cudaStream_t stream);
bool captured(cudaStream_t stream);
cudaError_t copy_now(void *to, const void *from, size_t bytes, cudaMemcpyKind kind); /* runtime.cpp */
void set_now(void *to, int value, size_t bytes);
bool pinned(const void *at, size_t bytes);
int current_device(); /* of this thread */
bool elsewhere(cudaStream_t stream); /* a stream of another device than this thread's: nothing may be launched there */
size_t shared_permitted(const void *kernel); /* bytes of dynamic shared memory, by cudaFuncSetAttribute */
/* Work that is not captured: given to a stream; waited for by the host; put there from outside and not done. */
void work_count(cudaStream_t stream);
void work_waited(cudaStream_t stream);
bool outside_busy(cudaStream_t stream);
void work_resident(cudaStream_t stream, int more); /* resident grids there */
/* While one is replayed: did what ran in that era end before what runs now, by the events between them? */
bool era_before(uint32_t then);
const char *era_name(uint32_t then);

enum { STACK_BYTES = 256 * 1024 };
void fiber_make(fiber *f, void (*entry)()); /* takes a stack where it has none */
void fiber_free(fiber *f);
void fiber_enter(fiber *f);                /* from the scheduler */
void fiber_leave(fiber *f, bool for_good); /* to the scheduler */

/* Says what is wrong with the running thread and ends the process: a finding is never a result. */
[[noreturn]] void finding(const void *code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Shadow of a piece of memory: what was written, and who touched it since the last barrier (shadow.cpp). */
void shadow_add(void *at, size_t bytes, const char *what); /* closed: kernels may not touch it */
void shadow_remove(void *at);
void shadow_open(void *at, size_t bytes); /* they may; nothing is written there */
void shadow_close(const void *at, size_t bytes);
void shadow_written(const void *at, size_t bytes); /* by the host */
bool shadow_all_written(const void *at, size_t bytes);
void shadow_copied(const void *at, size_t bytes, bool writes); /* in a replay: do events order it with the others? */
} // namespace emulation

#endif
