/* fuzz_ring.c - any bytes as the shared memory of a ring, positions included, before a consumer that copies what it is
 * given. No byte is read or written beyond the ring, and the consumer ends. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "serve/client/ring.h"

enum { CAPACITY = 4096, RECORD_MAX = 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 16) return 0;
    oc_wire_ring *shared = calloc(1, sizeof *shared);
    unsigned char *memory = calloc(1, CAPACITY);
    if (!shared || !memory) abort();
    uint64_t tails[2];
    memcpy(tails, data, sizeof tails);
    memcpy(memory, data + 16, bytes - 16 < CAPACITY ? bytes - 16 : CAPACITY);
    oc_ring r;
    oc_ring_init(&r, shared, memory, CAPACITY);
    for (int i = 0; i < 2; i++) {
        oc_wire_request q;
        unsigned char payload[RECORD_MAX];
        shared->tail = tails[i];
        for (int n = 0; n <= CAPACITY / OC_WIRE_LINE; n++) {
            if (oc_ring_peek(&r, &q, RECORD_MAX) != OC_RING_DONE) break;
            if (n == CAPACITY / OC_WIRE_LINE) abort(); /* more records than the ring can hold */
            oc_ring_copy(&r, payload, q.bytes - OC_WIRE_LINE);
            oc_ring_take(&r, q.bytes);
        }
    }
    free(shared);
    free(memory);
    return 0;
}
