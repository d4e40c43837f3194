/* memory.c - aligned zeroed blocks and arenas. Zeroing touches every page, so a hot path meets no page fault later. */
#include "base/memory.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_size_t taken;

size_t oc_memory_count(void)
{
    return atomic_load_explicit(&taken, memory_order_relaxed);
}

size_t oc_memory_resident_bytes(void)
{
    size_t pages = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm && fscanf(statm, "%*s %zu", &pages) != 1) pages = 0;
    if (statm) fclose(statm);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t oc_align_up(size_t bytes)
{
    return bytes > SIZE_MAX - OC_ALIGNMENT ? SIZE_MAX : (bytes + OC_ALIGNMENT - 1) / OC_ALIGNMENT * OC_ALIGNMENT;
}

static void pointer_set(void *out, void *pointer)
{
    memcpy(out, &pointer, sizeof pointer);      /* out may point to a pointer of any type */
}

static void *pointer_get(const void *out)
{
    void *pointer;
    memcpy(&pointer, out, sizeof pointer);
    return pointer;
}

/* Blocks of several MiB ask for huge pages: fewer walks of the page table, 2 to 3 % of a training step. A wish only:
 * where the kernel has none, nothing changes. */
enum { HUGE_PAGE_BYTES = 2 << 20, HUGE_FROM_BYTES = 4 << 20 };

static void *block_new(size_t bytes)
{
    void *block = NULL;
    const bool huge = bytes >= HUGE_FROM_BYTES;
    if (posix_memalign(&block, huge ? HUGE_PAGE_BYTES : OC_ALIGNMENT, bytes ? bytes : 1) != 0) return NULL;
    if (huge) (void)madvise(block, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE);
    return block;
}

oc_status oc_memory_new(void *out, size_t bytes, const char *what)
{
    void *block = NULL;
    assert(out && what);
    pointer_set(out, NULL);
    /* PTRDIFF_MAX: beyond it pointer differences overflow, and glibc refuses too */
    if (bytes <= PTRDIFF_MAX) block = block_new(bytes);
    if (!block)
        return OC_FAIL(OC_EMEMORY, "%s: no memory for %zu bytes", what, bytes);
    memset(block, 0, bytes);
    atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    pointer_set(out, block);
    return OC_OK;
}

oc_status oc_memory_new_array(void *out, size_t count, size_t element_bytes, const char *what)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, element_bytes, &bytes)) {
        pointer_set(out, NULL);
        return OC_FAIL(OC_EMEMORY, "%s: no memory for %zu elements of %zu bytes", what, count, element_bytes);
    }
    OC_TRY(oc_memory_new(out, bytes, what));
    return OC_OK;
}

oc_status oc_memory_grow(void *in_out, size_t *capacity, size_t needed, size_t element_bytes, const char *what)
{
    assert(in_out && capacity && element_bytes > 0);
    if (needed <= *capacity) return OC_OK;
    size_t wanted = *capacity > SIZE_MAX / 2 ? needed : *capacity * 2;
    if (wanted < needed) wanted = needed;
    void *old = pointer_get(in_out), *block;
    oc_status status = oc_memory_new_array(&block, wanted, element_bytes, what);
    if (status != OC_OK) return oc_status_trail(status, __FILE__, __LINE__);    /* the old block stays whole */
    if (old) memcpy(block, old, *capacity * element_bytes);
    oc_memory_free(old);
    pointer_set(in_out, block);
    *capacity = wanted;
    return OC_OK;
}

void oc_memory_free(void *pointer)
{
    free(pointer);
}

oc_status oc_arena_init(oc_arena *arena, size_t bytes, const char *name)
{
    assert(arena && name);
    *arena = (oc_arena){.bytes = bytes, .name = name, .owned = true};
    oc_status status = oc_memory_new(&arena->base, bytes, name);
    if (status != OC_OK) *arena = (oc_arena){.name = name};
    return status;
}

void oc_arena_deinit(oc_arena *arena)
{
    if (!arena) return;
    if (arena->owned) oc_memory_free(arena->base);
    *arena = (oc_arena){0};
}

oc_status oc_arena_take(oc_arena *arena, void *out, size_t bytes, const char *what)
{
    assert(arena && out && what);
    size_t rounded = oc_align_up(bytes);
    pointer_set(out, NULL);
    if (arena->sealed) return OC_FAIL(OC_EMEMORY, "%s: %s wants %zu bytes after the seal", arena->name, what, bytes);
    if (bytes > arena->bytes - arena->used || rounded > arena->bytes - arena->used)
        return OC_FAIL(OC_EMEMORY, "%s: %s wants %zu bytes, %zu of %zu are taken", arena->name, what, bytes,
                       arena->used, arena->bytes);
    pointer_set(out, arena->base + arena->used);
    arena->used += rounded;
    return OC_OK;
}

void oc_arena_seal(oc_arena *arena)
{
    arena->sealed = true;
}
