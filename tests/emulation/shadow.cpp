/* shadow.cpp - what each two bytes of shared and device memory went through. The kernels' files are compiled with
 * -fsanitize=thread, but not linked with its library: the calls that the compiler puts at every load and store end
 * here, so every access of a kernel is looked at, in plain C++ source. Bounds    an address must be in an array of
 * shared memory, in a tensor of device memory, on the thread's own stack, or (to read) in the program's image. Guards
 * lie between arrays and between tensors. Unwritten memory must have been written before it is read: shared memory
 * since its block began. Races     two accesses of different threads to the same bytes, one of them a write, need a
 * barrier between: of the block, of the warp where both are of one, of the grid, or the end of the launch. Found
 * whatever order the threads ran in, since it asks for the barrier and not for the outcome. The cost is some 10 ns an
 * access. Under the address sanitizer there are no such calls: guards become its poison, and unwritten memory is NaN.
 * The idea of keeping the last write and the last reads with their epochs is of [Flanagan09]. */
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <link.h>
#include "emulation/inside.cuh"

#if defined(__SANITIZE_ADDRESS__)
#define SHADOW_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SHADOW_ASAN 1
#endif
#endif
#ifdef SHADOW_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace emulation
{
/* Who touched a cell last, and when. More than one reader: of one warp, of one block, of anywhere. */
struct touch {
    uint32_t era, block, epoch;
    uint16_t thread, warp_epoch;
};
struct cell {
    touch write, read;
};
/* Eras that are none; a region begins as zeros, that is closed. */
enum : uint32_t { CLOSED = 0, NEVER = 0, UNWRITTEN = 1, ANY_BLOCK = 0xffffffff };
enum : uint16_t { ANY_THREAD = 0xffff, WARP_FLAG = 0x8000 };
enum { GRAIN = 2, REGIONS_MAX = BLOCKS_MAX + 64 };

struct region {
    uintptr_t begin, end;
    cell *cells;
    const char *what;
};
static region regions[REGIONS_MAX];
static int region_count;

/* ---------------------------------------------------------------- findings */
static void place_print(const void *code)
{
    Dl_info info;
    char command[1024];
    if (!code || !dladdr(code, &info)) return;
    const size_t offset =
        static_cast<size_t>(static_cast<const char *>(code) - static_cast<char *>(info.dli_fbase)) - 1;
    snprintf(command, sizeof command, "addr2line -Cfpie '%s' 0x%zx >&2", info.dli_fname, offset);
    fflush(stderr);
    if (system(command) != 0) fprintf(stderr, "  at %s + 0x%zx\n", info.dli_fname, offset);
}

void finding(const void *code, const char *format, ...)
{
    va_list arguments;
    const fiber *f = running;
    fprintf(stderr, "emulation: kernel %s: ", kernel_name ? kernel_name : "(none)");
    if (f)
        fprintf(stderr, "block (%u,%u,%u) thread (%u,%u,%u) ", f->who.block.x, f->who.block.y, f->who.block.z,
                f->who.thread.x, f->who.thread.y, f->who.thread.z);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    place_print(code);
    abort();
}

/* ---------------------------------------------------------------- regions */
static region *region_of(uintptr_t at)
{
    for (int i = 0; i < region_count; i++)
        if (at >= regions[i].begin && at < regions[i].end) return &regions[i];
    return nullptr;
}

void shadow_add(void *at, size_t bytes, const char *what)
{
    if (region_count == REGIONS_MAX) abort();
    region *r = &regions[region_count++];
    *r = {reinterpret_cast<uintptr_t>(at), reinterpret_cast<uintptr_t>(at) + bytes, nullptr, what};
#ifdef OC_EMULATION_HOOKS
    r->cells = static_cast<cell *>(calloc(bytes / GRAIN + 1, sizeof(cell)));
    if (!r->cells) abort();
#endif
#ifdef SHADOW_ASAN
    ASAN_POISON_MEMORY_REGION(at, bytes);
#endif
}

void shadow_remove(void *at)
{
    region *r = region_of(reinterpret_cast<uintptr_t>(at));
    if (!r) abort();
#ifdef SHADOW_ASAN
    ASAN_UNPOISON_MEMORY_REGION(at, r->end - r->begin);
#endif
    free(r->cells);
    *r = regions[--region_count];
}

/* Every cell of [at, at + bytes) becomes this. */
static void cells_set(const void *at, size_t bytes, uint32_t era_of_write)
{
    const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
    const region *r = region_of(begin);
    if (!r || begin + bytes > r->end) finding(nullptr, "memory at %p, %zu bytes, is not the device's", at, bytes);
    if (!r->cells) return;
    const cell fresh = {{era_of_write, ANY_BLOCK, 0, ANY_THREAD, 0}, {NEVER, 0, 0, 0, 0}};
    for (size_t i = (begin - r->begin) / GRAIN; i < (begin - r->begin + bytes + GRAIN - 1) / GRAIN; i++)
        r->cells[i] = fresh;
}

void shadow_open(void *at, size_t bytes)
{
#ifdef SHADOW_ASAN
    ASAN_UNPOISON_MEMORY_REGION(at, bytes);
#endif
    memset(at, 0xff, bytes); /* NaN as f32, f64 and bf16 */
    cells_set(at, bytes, UNWRITTEN);
}

void shadow_close(const void *at, size_t bytes)
{
    cells_set(at, bytes, CLOSED);
#ifdef SHADOW_ASAN
    ASAN_POISON_MEMORY_REGION(at, bytes);
#endif
}

void shadow_written(const void *at, size_t bytes)
{
    cells_set(at, bytes, era);
}

void hand_out(void *at, size_t bytes)
{
    const std::lock_guard<std::recursive_mutex> hold(one_at_a_time);
    shadow_open(at, bytes);
}

bool shadow_all_written(const void *at, size_t bytes)
{
    const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
    const region *r = region_of(begin);
    if (!r || begin + bytes > r->end) return false;
    for (size_t i = (begin - r->begin) / GRAIN; r->cells && i < (begin - r->begin + bytes + GRAIN - 1) / GRAIN; i++)
        if (r->cells[i].write.era == UNWRITTEN || r->cells[i].write.era == CLOSED) return false;
    return true;
}

/* ---------------------------------------------------------------- the image of the library or program that we are in
 */
struct image {
    uintptr_t begin, end;
};

static int image_of_object(dl_phdr_info *info, size_t, void *out)
{
    image *i = static_cast<image *>(out);
    image whole = {UINTPTR_MAX, 0};
    for (int n = 0; n < info->dlpi_phnum; n++) {
        const ElfW(Phdr) &p = info->dlpi_phdr[n];
        if (p.p_type != PT_LOAD) continue;
        if (info->dlpi_addr + p.p_vaddr < whole.begin) whole.begin = info->dlpi_addr + p.p_vaddr;
        if (info->dlpi_addr + p.p_vaddr + p.p_memsz > whole.end) whole.end = info->dlpi_addr + p.p_vaddr + p.p_memsz;
    }
    const uintptr_t here = reinterpret_cast<uintptr_t>(&region_count);
    if (here < whole.begin || here >= whole.end) return 0;
    *i = whole;
    return 1;
}

static image image_find()
{
    image i = {0, 0};
    (void)dl_iterate_phdr(image_of_object, &i);
    return i;
}

/* ---------------------------------------------------------------- accesses */
static bool ordered(const touch &t, const fiber *f)
{
    const block_state *b = f->block;
    if (t.era != era) return era_before(t.era);
    if (t.block != b->number) return false;
    if (t.epoch != b->epoch || t.thread == f->number) return true;
    const int warp = t.thread == ANY_THREAD ? -1 : t.thread & WARP_FLAG ? t.thread & ~WARP_FLAG : t.thread / 32;
    return warp == f->warp && t.warp_epoch != static_cast<uint16_t>(b->warp[f->warp].epoch);
}

static touch touch_of(const fiber *f)
{
    const block_state *b = f->block;
    return {era, b->number, b->epoch, static_cast<uint16_t>(f->number), static_cast<uint16_t>(b->warp[f->warp].epoch)};
}

[[noreturn]] static void race(const touch &t, bool wrote, bool writes, const region *r, uintptr_t at, const void *code)
{
    char who[64];
    if (t.era != era)
        finding(code, "%s what %s of the same recording %s: no event orders the two (a race of branches; %s, byte %zu)",
                writes ? "writes" : "reads", era_name(t.era), wrote ? "wrote" : "read", r->what, at - r->begin);
    if (t.block == ANY_BLOCK)
        snprintf(who, sizeof who, "several blocks");
    else if (t.thread == ANY_THREAD)
        snprintf(who, sizeof who, "several threads of block %u", t.block);
    else if (t.thread & WARP_FLAG)
        snprintf(who, sizeof who, "several threads of warp %d of block %u", t.thread & ~WARP_FLAG, t.block);
    else
        snprintf(who, sizeof who, "thread %d of block %u", t.thread, t.block);
    finding(code, "%s what %s %s: no barrier lies between (a race; %s, byte %zu)", writes ? "writes" : "reads", who,
            wrote ? "wrote" : "read", r->what, at - r->begin);
}

static void merge_read(touch *t, const fiber *f)
{
    const touch mine = touch_of(f);
    if (t->era == NEVER || ordered(*t, f)) {
        *t = mine;
        return;
    }
    if (t->era != era) return; /* a reader in another branch: one of the two is kept, in a drawn order */
    if (t->block != mine.block) {
        t->block = ANY_BLOCK;
        return;
    }
    const int warp = t->thread == ANY_THREAD ? -1 : t->thread & WARP_FLAG ? t->thread & ~WARP_FLAG : t->thread / 32;
    t->thread = warp == f->warp ? static_cast<uint16_t>(WARP_FLAG | warp) : static_cast<uint16_t>(ANY_THREAD);
    t->warp_epoch = mine.warp_epoch;
}

static void access_cell(cell *c, const region *r, uintptr_t at, bool writes, const void *code)
{
    fiber *f = running;
    if (c->write.era == CLOSED)
        finding(code, "%s outside of every array (out of bounds; %s, byte %zu)", writes ? "writes" : "reads", r->what,
                at - r->begin);
    if (!writes) {
        if (c->write.era == UNWRITTEN)
            finding(code, "reads what nothing wrote (uninitialised; %s, byte %zu)", r->what, at - r->begin);
        if (!ordered(c->write, f)) race(c->write, true, false, r, at, code);
        merge_read(&c->read, f);
        return;
    }
    if (c->write.era != UNWRITTEN && !ordered(c->write, f)) race(c->write, true, true, r, at, code);
    if (c->read.era != NEVER && !ordered(c->read, f)) race(c->read, false, true, r, at, code);
    c->write = touch_of(f);
}

static void outside(const fiber *f, uintptr_t at, size_t bytes, bool writes, const void *code)
{
    static const image mine = image_find();
    const uintptr_t stack = reinterpret_cast<uintptr_t>(f->stack);
    if (at >= stack && at + bytes <= stack + STACK_BYTES) return;
    if (!writes && ((at >= mine.begin && at + bytes <= mine.end) || is_given(at, bytes))) return;
    finding(code, "%s address %p, which is not in the device's memory (out of bounds, or a pointer of the host)",
            writes ? "writes" : "reads", reinterpret_cast<void *>(at));
}

[[maybe_unused]] static inline void access(const void *pointer, size_t bytes, bool writes, const void *code)
{
    static region *last;
    const fiber *f = running;
    const uintptr_t at = reinterpret_cast<uintptr_t>(pointer);
    if (!f) return; /* a launcher, on the host */
    region *r = last && at >= last->begin && at < last->end && last < regions + region_count ? last : region_of(at);
    if (!r) {
        outside(f, at, bytes, writes, code);
        return;
    }
    last = r;
    if (bytes <= 16 && at % bytes != 0)
        finding(code, "touches %zu bytes at an address that is no multiple of that (%s, byte %zu)", bytes, r->what,
                at - r->begin);
    if (at + bytes > r->end) finding(code, "touches past the end of %s", r->what);
    const size_t first = (at - r->begin) / GRAIN, end = (at - r->begin + bytes + GRAIN - 1) / GRAIN;
    const cell before = r->cells[first];
    access_cell(&r->cells[first], r, at, writes, code);
    for (size_t i = first + 1; i < end; i++) {
        if (memcmp(&r->cells[i], &before, sizeof before) == 0)
            r->cells[i] = r->cells[first];
        else
            access_cell(&r->cells[i], r, r->begin + i * GRAIN, writes, code);
    }
}

void shadow_copied(const void *at, size_t bytes, bool writes)
{
    const uintptr_t begin = reinterpret_cast<uintptr_t>(at);
    const region *r = region_of(begin);
    if (!r || begin + bytes > r->end) finding(nullptr, "memory at %p, %zu bytes, is not the device's", at, bytes);
    for (size_t i = (begin - r->begin) / GRAIN; r->cells && i < (begin - r->begin + bytes + GRAIN - 1) / GRAIN; i++) {
        cell *c = &r->cells[i];
        if (c->write.era > UNWRITTEN && !era_before(c->write.era))
            race(c->write, true, writes, r, r->begin + i * GRAIN, nullptr);
        if (writes && c->read.era > UNWRITTEN && !era_before(c->read.era))
            race(c->read, false, writes, r, r->begin + i * GRAIN, nullptr);
        if (!writes) c->read = {era, ANY_BLOCK, 0, ANY_THREAD, 0};
    }
}

void atomic_touch(const void *at, size_t bytes)
{
#ifdef OC_EMULATION_HOOKS
    const region *r = region_of(reinterpret_cast<uintptr_t>(at));
    if (!r) finding(nullptr, "does an atomic operation on %p, which is not the device's memory", at);
    for (size_t i = 0; i < bytes; i += GRAIN) {
        cell *c = &r->cells[(reinterpret_cast<uintptr_t>(at) - r->begin + i) / GRAIN];
        if (c->write.era == CLOSED) finding(nullptr, "does an atomic operation outside of every array");
        if (c->write.era == UNWRITTEN) finding(nullptr, "does an atomic operation on what nothing wrote");
    }
#else
    (void)at;
    (void)bytes;
#endif
}
} // namespace emulation

#ifdef OC_EMULATION_HOOKS
/* The names that gcc and clang call. */
#define HOOK(name, bytes, writes)                                                                                      \
    extern "C" __attribute__((visibility("hidden"))) void __tsan_##name(void *at)                                      \
    {                                                                                                                  \
        emulation::access(at, bytes, writes, __builtin_return_address(0));                                             \
    }
HOOK(read1, 1, false)
HOOK(read2, 2, false)
HOOK(read4, 4, false)
HOOK(read8, 8, false)
HOOK(read16, 16, false)
HOOK(write1, 1, true)
HOOK(write2, 2, true)
HOOK(write4, 4, true)
HOOK(write8, 8, true)
HOOK(write16, 16, true)
HOOK(unaligned_read2, 2, false)
HOOK(unaligned_read4, 4, false)
HOOK(unaligned_read8, 8, false)
HOOK(unaligned_read16, 16, false)
HOOK(unaligned_write2, 2, true)
HOOK(unaligned_write4, 4, true)
HOOK(unaligned_write8, 8, true)
HOOK(unaligned_write16, 16, true)
#define HOOK_RANGE(name, writes)                                                                                       \
    extern "C" __attribute__((visibility("hidden"))) void __tsan_##name(void *at, long bytes)                          \
    {                                                                                                                  \
        for (long i = 0; i < bytes; i++)                                                                               \
            emulation::access(static_cast<char *>(at) + i, 1, writes, __builtin_return_address(0));                    \
    }
HOOK_RANGE(read_range, false)
HOOK_RANGE(write_range, true)
#define HOOK_NOTHING(name, ...)                                                                                        \
    extern "C" __attribute__((visibility("hidden"))) void __tsan_##name(__VA_ARGS__)                                   \
    {                                                                                                                  \
    }
HOOK_NOTHING(init, void)
HOOK_NOTHING(func_entry, void *)
HOOK_NOTHING(func_exit, void)
HOOK_NOTHING(vptr_update, void **, void *)
HOOK_NOTHING(vptr_read, void **)
/* Atomics of launchers, which the compiler turns into calls too; kernels have theirs in language.cuh. */
#define HOOK_ATOMIC(bits, type)                                                                                        \
    extern "C" __attribute__((visibility("hidden"))) type __tsan_atomic##bits##_load(const volatile type *at, int)     \
    {                                                                                                                  \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                                  \
    }                                                                                                                  \
    extern "C" __attribute__((visibility("hidden"))) void __tsan_atomic##bits##_store(volatile type *at, type x, int)  \
    {                                                                                                                  \
        __atomic_store_n(at, x, __ATOMIC_SEQ_CST);                                                                     \
    }
HOOK_ATOMIC(8, uint8_t)
HOOK_ATOMIC(32, uint32_t)
HOOK_ATOMIC(64, uint64_t)
#endif
