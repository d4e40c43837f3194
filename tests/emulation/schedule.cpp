/* schedule.cpp - runs the threads of a grid as fibers, block after block (all blocks at once where the grid is
 * cooperative). Who goes next is drawn from a seed (OUTCRY_EMULATION_SEED [1]) among all that can go on, blocks too; so
 * the same seed is the same run, and other seeds are other orders. A thread goes on until it waits for others.
 * A resident grid (launch_shape.resident) has a system thread and fibers of its own; it goes on whenever nothing else
 * runs on the device, and naps when all its threads poll the host.
 * Findings: threads of a block at different barriers, or gone while others wait; lanes of a warp that are not all
 * there; a launch beyond a device's limits. */
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#include "emulation/inside.cuh"

namespace emulation
{
void fiber_arrived();

thread_local fiber *running OC_EMULATION_TLS;
const identity *self;
const char *kernel_name;
uint32_t era = 2;

/* What is being run. */
struct grid {
    fiber *fibers;
    block_state *blocks;
    int block_count = 0, grid_waiting = 0, polling = 0, stalled = 0, nap_us = 20;
    bool cooperative = false, resident = false;
    long stores_left = -1; /* to the host, before the grid stalls; -1: any number */
    std::vector<int> ready = {};
    void (*entry_run)(const void *) = nullptr;
    alignas(16) unsigned char parameters[PARAMETER_BYTES] = {};
};
static fiber fibers[FIBERS_MAX];
static block_state blocks[BLOCKS_MAX];
static grid ordinary = {fibers, blocks}, *now = &ordinary; /* by one_at_a_time */
static std::atomic<int> residents;
static uint64_t random_state;
std::recursive_mutex one_at_a_time;

bool is_given(uintptr_t at, size_t bytes)
{
    const auto within = [&](const void *first, size_t count) {
        const uintptr_t begin = reinterpret_cast<uintptr_t>(first);
        return at >= begin && at + bytes <= begin + count;
    };
    return within(now->parameters, PARAMETER_BYTES) || within(self, sizeof *self) ||
           within(now->blocks, static_cast<size_t>(now->block_count) * sizeof *now->blocks);
}

uint32_t random_below(uint32_t bound)
{
    random_state += 0x9E3779B97F4A7C15u; /* SplitMix64 [Steele14] */
    uint64_t z = random_state;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    z ^= z >> 31;
    return static_cast<uint32_t>((z >> 32) * bound >> 32);
}

void random_seed()
{
    static uint64_t launches;
    const char *text = getenv("OUTCRY_EMULATION_SEED");
    random_state = (text ? strtoull(text, nullptr, 10) : 1) * 0xD1342543DE82EF95u + launches++;
}

/* ---------------------------------------------------------------- waiting */
static void release(block_state *b, fiber_state from)
{
    for (int i = b->first; i < b->first + b->threads; i++) {
        if (now->fibers[i].state != from) continue;
        now->fibers[i].state = READY;
        now->ready.push_back(i);
    }
}

static void wait(fiber_state state, const char *file, int line)
{
    fiber *f = running;
    f->state = state;
    f->file = file;
    f->line = line;
    fiber_leave(f, false);
}

static void check_same_place(const block_state *b, fiber_state state, const char *file, int line)
{
    for (int i = b->first; i < b->first + b->threads; i++) {
        const fiber *f = &now->fibers[i];
        if (f->state == state && (f->line != line || strcmp(f->file, file) != 0))
            finding(nullptr, "is at the barrier of %s:%d while thread %d waits at %s:%d", file, line, f->number,
                    f->file, f->line);
    }
}

void barrier(const char *file, int line)
{
    (void)barrier_count(file, line, false);
}

/* Answers are kept twice: a thread cannot be two barriers ahead of another of its block. */
int barrier_count(const char *file, int line, bool vote)
{
    block_state *b = running->block;
    const uint32_t turn = b->epoch & 1;
    check_same_place(b, AT_BARRIER, file, line);
    if (b->live < b->threads)
        finding(nullptr, "waits at the barrier of %s:%d, but %d threads of its block are gone", file, line,
                b->threads - b->live);
    b->votes += vote;
    if (++b->waiting == b->threads) {
        b->waiting = 0;
        b->answer[turn] = b->votes;
        b->votes = 0;
        b->epoch++;
        release(b, AT_BARRIER);
        now->ready.push_back(static_cast<int>(running - now->fibers));
    }
    wait(b->waiting == 0 ? READY : AT_BARRIER, file, line);
    return b->answer[turn];
}

void grid_barrier(const char *file, int line)
{
    if (!now->cooperative)
        finding(nullptr, "waits for the grid at %s:%d, but its launch is not cooperative", file, line);
    int all = 0;
    for (int i = 0; i < now->block_count; i++) {
        check_same_place(&now->blocks[i], AT_GRID, file, line);
        all += now->blocks[i].threads;
    }
    if (++now->grid_waiting < all) {
        wait(AT_GRID, file, line);
        return;
    }
    now->grid_waiting = 0;
    era++;
    for (int i = 0; i < now->block_count; i++) release(&now->blocks[i], AT_GRID);
    now->ready.push_back(static_cast<int>(running - now->fibers));
    wait(READY, file, line);
}

/* ---------------------------------------------------------------- the host's memory */
static void host_check(const void *at, const char *what)
{
    if (!pinned(at, sizeof(uint64_t)) || reinterpret_cast<uintptr_t>(at) % sizeof(uint64_t) != 0)
        finding(nullptr, "%s address %p of the host, which is no aligned word of pinned memory", what, at);
}

uint64_t host_read(const uint64_t *at)
{
    host_check(at, "reads");
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

void host_write(uint64_t *at, uint64_t value)
{
    host_check(at, "writes");
    if (now->stores_left == 0) {
        now->stalled++;
        wait(STALLED, "a write to the host", 0);
    }
    now->stores_left -= now->stores_left > 0;
    now->nap_us = 20;
    __atomic_store_n(at, value, __ATOMIC_RELAXED);
}

void host_pause(const char *file, int line)
{
    if (!now->resident) finding(nullptr, "polls the host at %s:%d, but its launch is not resident", file, line);
    now->polling++;
    wait(POLLING, file, line);
}

void host_waited()
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    era++;
}

void quiet_check(const char *call)
{
    if (residents > 0)
        finding(nullptr, "%s while a resident kernel runs, which it may wait for on a device, for ever", call);
}

unsigned lane()
{
    return static_cast<unsigned>(running->lane);
}

/* Answers are kept twice: a lane cannot be two collectives ahead of another of its warp. */
const uint32_t *warp_exchange(const char *file, int line, uint32_t mask, const uint32_t *mine, int words)
{
    fiber *f = running;
    block_state *b = f->block;
    warp_state *w = &b->warp[f->warp];
    const int first = b->first + 32 * f->warp;
    if (mask != 0xffffffffu || b->threads - 32 * f->warp < 32)
        finding(nullptr, "%s:%d: a collective of part of a warp (mask %08x); only whole warps are emulated", file, line,
                mask);
    for (int i = 0; i < 32; i++) {
        const fiber *o = &now->fibers[first + i];
        if (o->state == DONE || (o->state == AT_WARP && (o->line != line || strcmp(o->file, file) != 0)))
            finding(nullptr, "is at the warp collective of %s:%d while lane %d %s %s:%d", file, line, i,
                    o->state == DONE ? "is gone; it was last at" : "is at", o->file ? o->file : "its start", o->line);
    }
    memcpy(w->words[f->lane], mine, static_cast<size_t>(words) * sizeof *mine);
    w->arrived |= 1u << f->lane;
    const uint32_t turn = w->epoch & 1;
    if (w->arrived != 0xffffffffu) {
        wait(AT_WARP, file, line);
        return w->answer[turn][0];
    }
    w->arrived = 0;
    memcpy(w->answer[turn], w->words, sizeof w->words);
    w->epoch++;
    for (int i = 0; i < 32; i++) {
        if (i == f->lane) continue;
        now->fibers[first + i].state = READY;
        now->ready.push_back(first + i);
    }
    now->ready.push_back(first + f->lane);
    wait(READY, file, line);
    return w->answer[turn][0];
}

uint32_t ballot(const char *file, int line, uint32_t mask, bool vote)
{
    const uint32_t mine = vote;
    const uint32_t *all = warp_exchange(file, line, mask, &mine, 1);
    uint32_t votes = 0;
    for (int i = 0; i < 32; i++) votes |= all[i * WARP_WORDS] << i;
    return votes;
}

void multiply(const char *file, int line, float *c, const uint32_t *a, const uint32_t *b, bool bf16)
{
    const uint32_t mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const int row = running->lane / 4, column = running->lane % 4 * 2;
    const uint32_t *all = warp_exchange(file, line, 0xffffffffu, mine, 6);
    for (int n = 0; n < 4; n++) {
        const int r = n / 2, j = column + n % 2;
        for (int k = 0; k < (bf16 ? 16 : 8); k++) {
            const int pair = bf16 ? k % 8 / 2 : k % 4, half = bf16 ? k / 8 : k / 4;
            uint32_t x = all[(row * 4 + pair) * WARP_WORDS + r + 2 * half];
            uint32_t y = all[(j * 4 + pair) * WARP_WORDS + 4 + half];
            if (bf16) {
                x = x >> 16 * (k % 2) << 16;
                y = y >> 16 * (k % 2) << 16;
            }
            c[n] = fmaf(__uint_as_float(x), __uint_as_float(y), c[n]);
        }
    }
}

/* ---------------------------------------------------------------- shared memory */
static const char dynamic_site = 0;

static void *shared_take(block_state *b, size_t bytes, size_t alignment)
{
    const size_t at = (b->shared_used + SHARED_GUARD + alignment - 1) / alignment * alignment;
    b->shared_used = at + bytes;
    b->shared_taken += bytes;
    if (b->shared_taken > SHARED_MAX)
        finding(nullptr, "takes %zu bytes of shared memory; a block has %d", b->shared_taken, SHARED_MAX);
    if (b->shared_taken - b->dynamic_bytes > SHARED_STATIC_MAX)
        finding(nullptr, "takes %zu bytes of shared memory by declaration; %d are allowed",
                b->shared_taken - b->dynamic_bytes, SHARED_STATIC_MAX);
    shadow_open(b->shared + at, bytes);
    return b->shared + at;
}

void *shared(const void *site, size_t bytes, size_t alignment)
{
    block_state *b = running->block;
    for (int i = 0; i < b->sites; i++)
        if (b->site[i].site == site) return b->shared + b->site[i].at;
    if (b->sites == SITES_MAX) finding(nullptr, "declares more than %d arrays of shared memory", SITES_MAX);
    unsigned char *at = static_cast<unsigned char *>(shared_take(b, bytes, alignment < 16 ? 16 : alignment));
    b->site[b->sites++] = {site, static_cast<size_t>(at - b->shared), bytes};
    return at;
}

void *shared_dynamic()
{
    block_state *b = running->block;
    for (int i = 0; i < b->sites; i++)
        if (b->site[i].site == &dynamic_site) return b->shared + b->site[i].at;
    finding(nullptr, "wants dynamic shared memory, but its launch gives none");
}

size_t shared_dynamic_bytes()
{
    return running->block->dynamic_bytes;
}

/* ---------------------------------------------------------------- a launch */
static void fiber_main()
{
    fiber_arrived();
    now->entry_run(now->parameters);
    running->state = DONE;
    fiber_leave(running, true);
    abort();
}

static void block_begin(block_state *b, const launch_shape &s, int first, uint32_t number)
{
    if (!b->shared) {
        b->shared = static_cast<unsigned char *>(aligned_alloc(4096, (SHARED_SPAN + 4095) / 4096 * 4096));
        if (!b->shared) abort();
        shadow_add(b->shared, SHARED_SPAN, "shared memory");
    }
    shadow_close(b->shared, b->shared_used); /* of the block before */
    unsigned char *const keep = b->shared;
    memset(b, 0, sizeof *b);
    b->shared = keep;
    b->first = first;
    b->threads = b->live = static_cast<int>(s.block.x * s.block.y * s.block.z);
    b->number = number;
    b->dynamic_bytes = s.shared_bytes;
    if (s.shared_bytes > 0) {
        unsigned char *at = static_cast<unsigned char *>(shared_take(b, s.shared_bytes, 128));
        b->site[b->sites++] = {&dynamic_site, static_cast<size_t>(at - b->shared), s.shared_bytes};
    }
    for (int i = 0; i < b->threads; i++) {
        fiber *f = &now->fibers[first + i];
        const unsigned n = static_cast<unsigned>(i);
        f->who = {{n % s.block.x, n / s.block.x % s.block.y, n / s.block.x / s.block.y},
                  {number % s.grid.x, number / s.grid.x % s.grid.y, number / s.grid.x / s.grid.y},
                  s.block,
                  s.grid};
        f->number = i;
        f->warp = i / 32;
        f->lane = i % 32;
        f->state = READY;
        f->file = nullptr;
        f->line = 0;
        f->block = b;
        fiber_make(f, fiber_main);
        now->ready.push_back(first + i);
    }
}

/* Whoever is left waits for somebody who never comes. */
static void check_all_done()
{
    for (int i = 0; i < now->block_count; i++)
        for (int n = now->blocks[i].first; n < now->blocks[i].first + now->blocks[i].threads; n++) {
            if (now->fibers[n].state == DONE) continue;
            running = &now->fibers[n];
            finding(nullptr, "waits for ever at %s:%d: %d of %d threads of its block are gone", now->fibers[n].file,
                    now->fibers[n].line, now->blocks[i].threads - now->blocks[i].live, now->blocks[i].threads);
        }
}

/* Nobody can go on but those who poll: the device and the host may. */
static void nap()
{
    grid *const mine = now;
    const char *const name = kernel_name;
    now = &ordinary;
    kernel_name = nullptr;
    one_at_a_time.unlock();
    std::this_thread::sleep_for(std::chrono::microseconds(mine->polling > 0 ? mine->nap_us : 1000));
    mine->nap_us = std::min(2 * mine->nap_us, 500);
    one_at_a_time.lock();
    now = mine;
    kernel_name = name;
    mine->polling = 0;
    for (int i = 0; i < mine->block_count; i++) release(&mine->blocks[i], POLLING);
}

static void run_some()
{
    while (!now->ready.empty()) {
        const size_t pick = random_below(static_cast<uint32_t>(now->ready.size()));
        const int number = now->ready[pick];
        now->ready[pick] = now->ready.back();
        now->ready.pop_back();
        fiber *f = &now->fibers[number];
        running = f;
        self = &f->who;
        fiber_enter(f);
        if (f->state == DONE) {
            block_state *b = f->block;
            b->live--;
            if (b->waiting > 0) finding(nullptr, "ends while %d threads of its block wait at a barrier", b->waiting);
        }
        running = nullptr;
    }
}

static void run_ready()
{
    for (run_some(); now->polling > 0 || now->stalled > 0; run_some()) nap();
    check_all_done();
}

static cudaError_t shape_check(const launch_shape &s, size_t bytes)
{
    const uint64_t threads = static_cast<uint64_t>(s.block.x) * s.block.y * s.block.z;
    const uint64_t grid = static_cast<uint64_t>(s.grid.x) * s.grid.y * s.grid.z;
    if (threads == 0 || grid == 0 || threads > THREADS_MAX || s.grid.y > 65535 || s.grid.z > 65535 ||
        s.shared_bytes > SHARED_MAX || bytes > PARAMETER_BYTES)
        return cudaErrorInvalidConfiguration;
    if (s.cooperative && (grid > BLOCKS_MAX || grid * threads > FIBERS_MAX)) return cudaErrorInvalidConfiguration;
    return cudaSuccess;
}

static void grid_run(const launch_shape &s)
{
    const uint32_t grid = s.grid.x * s.grid.y * s.grid.z, threads = s.block.x * s.block.y * s.block.z;
    std::vector<uint32_t> order(grid);
    for (uint32_t i = 0; i < grid; i++) order[i] = i;
    for (uint32_t i = grid; i > 1; i--) std::swap(order[i - 1], order[random_below(i)]);
    const uint32_t together = s.cooperative ? grid : 1;
    for (uint32_t i = 0; i < grid; i += together) {
        now->block_count = static_cast<int>(together);
        for (uint32_t n = 0; n < together; n++)
            block_begin(&now->blocks[n], s, static_cast<int>(n * threads), order[i + n]);
        run_ready();
    }
}

static cudaError_t refused(const launch_shape &shape)
{
    const char *fail = getenv("OUTCRY_EMULATION_FAIL");
    if (fail && *fail && strstr(shape.name, fail)) return cudaErrorIllegalAddress;
    return shape.shared_bytes > shared_permitted(shape.kernel) ? cudaErrorInvalidValue : cudaSuccess;
}

cudaError_t run_grid(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *))
{
    const cudaError_t wrong = refused(shape);
    if (wrong != cudaSuccess) return wrong;
    random_seed();
    memcpy(now->parameters, packet, bytes);
    now->entry_run = run;
    kernel_name = shape.name;
    count_kernel(shape.name);
    now->cooperative = shape.cooperative;
    era++;
    grid_run(shape);
    era++;
    self = nullptr;
    kernel_name = nullptr;
    return cudaSuccess;
}

/* ---------------------------------------------------------------- a resident grid */
struct resident {
    launch_shape shape;
    std::vector<unsigned char> packet;
    void (*run)(const void *);
    long stores_left;
};

static void resident_main(const resident *r)
{
    const uint32_t count = r->shape.grid.x * r->shape.grid.y * r->shape.grid.z,
                   threads = count * r->shape.block.x * r->shape.block.y * r->shape.block.z;
    grid own = {static_cast<fiber *>(calloc(threads, sizeof(fiber))),
                static_cast<block_state *>(calloc(count, sizeof(block_state)))};
    if (!own.fibers || !own.blocks) abort();
    own.resident = true;
    own.stores_left = r->stores_left;
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    now = &own;
    (void)run_grid(r->shape, r->packet.data(), r->packet.size(), r->run);
    now = &ordinary;
    for (uint32_t i = 0; i < threads; i++) fiber_free(&own.fibers[i]);
    for (uint32_t i = 0; i < count; i++) {
        shadow_remove(own.blocks[i].shared);
        free(own.blocks[i].shared);
    }
    free(own.fibers);
    free(own.blocks);
    residents--;
    work_resident(r->shape.stream, -1);
    delete r;
}

static cudaError_t resident_start(const launch_shape &shape, const void *packet, size_t bytes,
                                  void (*run)(const void *))
{
    const cudaError_t wrong = refused(shape);
    if (wrong != cudaSuccess) return wrong;
    if (!shape.cooperative) return cudaErrorInvalidConfiguration; /* nothing promises that all blocks are there */
    const char *stall = getenv("OUTCRY_EMULATION_STALL");
    const auto *at = static_cast<const unsigned char *>(packet);
    residents++;
    work_resident(shape.stream, 1);
    std::thread(resident_main, new resident{shape, {at, at + bytes}, run, stall ? strtol(stall, nullptr, 10) : -1})
        .detach();
    return cudaSuccess;
}

int launch(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *))
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    const cudaError_t wrong = shape_check(shape, bytes);
    if (wrong != cudaSuccess) return wrong;
    if (elsewhere(shape.stream)) return cudaErrorInvalidResourceHandle;
    if (capture_launch(shape, packet, bytes, run)) return cudaSuccess;
    outcry_emulation_counts.launches++;
    work_count(shape.stream);
    if (shape.resident) return resident_start(shape, packet, bytes, run);
    return run_grid(shape, packet, bytes, run);
}
} // namespace emulation
