/* ring.h - one end of a single-producer single-consumer ring in shared memory. Own positions are private, the other
 * side's are cached and read again only where the cache says full or empty: an exchange costs two lines of traffic.
 * Nothing here allocates, blocks or calls the system, but oc_ring_sleep and oc_ring_wake.
 * A position from the other side that cannot be makes the ring broken for good: the caller drops the peer. */
#ifndef OC_SERVE_CLIENT_RING_H
#define OC_SERVE_CLIENT_RING_H

#include <stdbool.h>
#include <stddef.h>
#include "serve/client/wire.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_ring {
    oc_wire_ring *shared;
    unsigned char *data;
    uint64_t capacity;     /* a power of two, at least 4096 */
    uint64_t mine, theirs; /* producer: tail, cached head; consumer: head, cached tail */
    bool broken;
} oc_ring;

typedef enum { OC_RING_DONE, OC_RING_EMPTY, OC_RING_FULL, OC_RING_BROKEN } oc_ring_state;

void oc_ring_init(oc_ring *r, oc_wire_ring *shared, void *data, uint64_t capacity);
uint64_t oc_ring_record_bytes(size_t payload_bytes); /* header and payload, rounded up to 64 */

/* Producer. The record's first field is its size in bytes, a multiple of 64 not over the capacity; `record` is its
 * first record_bytes (a multiple of 4), payload follows, what is left up to the size is zeroed. */
oc_ring_state oc_ring_put(oc_ring *r, const void *record, size_t record_bytes, const void *payload,
                          size_t payload_bytes);

/* Consumer. peek copies the header of the next record (64 bytes) and checks its size: at least 64, a multiple of 64, at
 * most bytes_max, all of it published. copy takes payload bytes behind the 64 of the header; take passes the record. */
oc_ring_state oc_ring_peek(oc_ring *r, void *header, uint64_t bytes_max);
void oc_ring_copy(const oc_ring *r, void *out, size_t bytes); /* bytes <= size - 64, as peeked */
void oc_ring_take(oc_ring *r, uint32_t bytes);                /* bytes: the size, as peeked */

/* Sleep of a consumer on a shared word. Before: oc_ring_nod (sets the word), then look once more, then sleep. */
void oc_ring_nod(uint32_t *asleep, bool sleeping);
void oc_ring_sleep(uint32_t *asleep, int64_t timeout_ns);
bool oc_ring_wake(uint32_t *asleep); /* a system call, and true, only where the word says that somebody sleeps */
void oc_ring_pause(void);            /* the processor's hint for a spinning loop */

#ifdef __cplusplus
}
#endif
#endif
