/* store.h - where vectors of a job or a model lie: plain memory where the backend computes there, else one block of the
 * device that all its backends share. Copies through it wait. */
#ifndef OC_NN_STORE_H
#define OC_NN_STORE_H

#include "kernels/ops.h"

enum { OC_STORE_BLOCKS = 16 };
typedef struct oc_store {
    oc_backend *device; /* NULL: plain memory */
    void *plain[OC_STORE_BLOCKS];
    int count;
} oc_store;

/* bytes: the sum of oc_store_bytes of all that will be taken. */
OC_MUST oc_store_open(oc_store *s, const oc_backend_info *where, size_t bytes);
void oc_store_close(oc_store *s);
size_t oc_store_bytes(size_t count, size_t size);
/* Zeroed, [count] of `size` bytes each, to *(void **)out. */
OC_MUST oc_store_take(oc_store *s, void *out, size_t count, size_t size, const char *what);
/* Waits. On plain memory: memcpy, or nothing where both are the same. */
OC_MUST oc_store_put(oc_store *s, void *to, const void *host, size_t bytes);
OC_MUST oc_store_get(oc_store *s, void *host, const void *from, size_t bytes);

#endif
