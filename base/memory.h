/* memory.h - memory is planned, taken once, then sealed. An arena is one block; *_bytes() functions of its users say
 * how much before. Everything is aligned to 64 bytes and zeroed. */
#ifndef OC_BASE_MEMORY_H
#define OC_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OC_ALIGNMENT 64u

/* Zeroed, 64-byte aligned; OC_EMEMORY names `what` and the bytes. Release with oc_memory_free (NULL is fine). */
OC_MUST oc_memory_new(void *out, size_t bytes, const char *what);              /* out: address of any pointer */
OC_MUST oc_memory_new_array(void *out, size_t count, size_t element_bytes, const char *what); /* overflow-checked */
/* Keeps the first old_count elements; grows by doubling to hold `needed`. *capacity counts elements. */
OC_MUST oc_memory_grow(void *in_out, size_t *capacity, size_t needed, size_t element_bytes, const char *what);
void oc_memory_free(void *pointer);

/* Number of allocations of this process through this header, for tests that assert zero on hot paths. */
size_t oc_memory_count(void);
/* Memory that the process has, in bytes; 0 where the system does not tell. */
size_t oc_memory_resident_bytes(void);

typedef struct oc_arena {
    unsigned char *base;
    size_t bytes, used;
    bool sealed, owned;
    const char *name;
} oc_arena;

OC_MUST oc_arena_init(oc_arena *arena, size_t bytes, const char *name);       /* name: literal, for messages */
void oc_arena_deinit(oc_arena *arena);
OC_MUST oc_arena_take(oc_arena *arena, void *out, size_t bytes, const char *what);  /* OC_EMEMORY when full or sealed */
void oc_arena_seal(oc_arena *arena);
size_t oc_align_up(size_t bytes);                                             /* to OC_ALIGNMENT */

#ifdef __cplusplus
}
#endif
#endif
