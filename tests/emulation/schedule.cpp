/* schedule.cpp - runs the threads of a grid as fibers, block after block (all blocks at once where the grid is
 * cooperative). Who goes next is drawn from a seed (OUTCRY_EMULATION_SEED [1]) among all that can go on, blocks too; so
 * the same seed is the same run, and other seeds are other orders. A thread goes on until it waits for others.
 * Findings: threads of a block at different barriers, or gone while others wait; lanes of a warp that are not all
 * there; a launch beyond a device's limits. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "emulation/inside.cuh"

namespace emulation
{
void fiber_arrived();

fiber *running;
const identity *self;
const char *kernel_name;
uint32_t era = 2;

static fiber fibers[FIBERS_MAX];
static block_state blocks[BLOCKS_MAX];
static int block_count;
static bool cooperative;
static std::vector<int> ready;
static int grid_waiting;
static uint64_t random_state;
alignas(16) static unsigned char parameters[PARAMETER_BYTES];
static void (*entry_run)(const void *);
std::recursive_mutex one_at_a_time;

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
        if (fibers[i].state != from) continue;
        fibers[i].state = READY;
        ready.push_back(i);
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
        const fiber *f = &fibers[i];
        if (f->state == state && (f->line != line || strcmp(f->file, file) != 0))
            finding(nullptr, "is at the barrier of %s:%d while thread %d waits at %s:%d", file, line, f->number,
                    f->file, f->line);
    }
}

void barrier(const char *file, int line)
{
    block_state *b = running->block;
    check_same_place(b, AT_BARRIER, file, line);
    if (b->live < b->threads)
        finding(nullptr, "waits at the barrier of %s:%d, but %d threads of its block are gone", file, line,
                b->threads - b->live);
    if (++b->waiting == b->threads) {
        b->waiting = 0;
        b->epoch++;
        release(b, AT_BARRIER);
        ready.push_back(static_cast<int>(running - fibers));
    }
    wait(b->waiting == 0 ? READY : AT_BARRIER, file, line);
}

void grid_barrier(const char *file, int line)
{
    if (!cooperative) finding(nullptr, "waits for the grid at %s:%d, but its launch is not cooperative", file, line);
    int all = 0;
    for (int i = 0; i < block_count; i++) {
        check_same_place(&blocks[i], AT_GRID, file, line);
        all += blocks[i].threads;
    }
    if (++grid_waiting < all) {
        wait(AT_GRID, file, line);
        return;
    }
    grid_waiting = 0;
    era++;
    for (int i = 0; i < block_count; i++) release(&blocks[i], AT_GRID);
    ready.push_back(static_cast<int>(running - fibers));
    wait(READY, file, line);
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
        const fiber *o = &fibers[first + i];
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
        fibers[first + i].state = READY;
        ready.push_back(first + i);
    }
    ready.push_back(first + f->lane);
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
    entry_run(parameters);
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
        fiber *f = &fibers[first + i];
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
        ready.push_back(first + i);
    }
}

/* Whoever is left waits for somebody who never comes. */
static void check_all_done()
{
    for (int i = 0; i < block_count; i++)
        for (int n = blocks[i].first; n < blocks[i].first + blocks[i].threads; n++) {
            if (fibers[n].state == DONE) continue;
            running = &fibers[n];
            finding(nullptr, "waits for ever at %s:%d: %d of %d threads of its block are gone", fibers[n].file,
                    fibers[n].line, blocks[i].threads - blocks[i].live, blocks[i].threads);
        }
}

static void run_ready()
{
    while (!ready.empty()) {
        const size_t pick = random_below(static_cast<uint32_t>(ready.size()));
        const int number = ready[pick];
        ready[pick] = ready.back();
        ready.pop_back();
        fiber *f = &fibers[number];
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
        block_count = static_cast<int>(together);
        for (uint32_t n = 0; n < together; n++) block_begin(&blocks[n], s, static_cast<int>(n * threads), order[i + n]);
        run_ready();
    }
}

cudaError_t run_grid(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *))
{
    const char *fail = getenv("OUTCRY_EMULATION_FAIL");
    if (fail && *fail && strstr(shape.name, fail)) return cudaErrorIllegalAddress;
    if (shape.shared_bytes > shared_permitted(shape.kernel)) return cudaErrorInvalidValue;
    random_seed();
    memcpy(parameters, packet, bytes);
    entry_run = run;
    kernel_name = shape.name;
    count_kernel(shape.name);
    cooperative = shape.cooperative;
    era++;
    grid_run(shape);
    era++;
    self = nullptr;
    kernel_name = nullptr;
    return cudaSuccess;
}

int launch(const launch_shape &shape, const void *packet, size_t bytes, void (*run)(const void *))
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    const cudaError_t wrong = shape_check(shape, bytes);
    if (wrong != cudaSuccess) return wrong;
    if (capture_launch(shape, packet, bytes, run)) return cudaSuccess;
    outcry_emulation_counts.launches++;
    work_count(shape.stream);
    return run_grid(shape, packet, bytes, run);
}
} // namespace emulation
