/* channel.h - the server's end of one client: its region of shared memory, its socket, both rings.
 * Life: FREE -> (acceptor) LIVE -> LEAVING by the acceptor when the socket ends, or at once LEFT by the batcher when
 * the client broke the protocol -> LEFT by the batcher, its sessions dropped -> (acceptor) unmapped, FREE. Who may move
 * the state is fixed by the state, so no lock is needed. */
#ifndef OC_SERVE_CHANNEL_H
#define OC_SERVE_CHANNEL_H

#include <stdalign.h>
#include "base/status.h"
#include "serve/client/ring.h"

typedef enum { OC_CHANNEL_FREE, OC_CHANNEL_LIVE, OC_CHANNEL_LEAVING, OC_CHANNEL_LEFT } oc_channel_state;

typedef struct oc_channel {
    alignas(OC_WIRE_LINE) uint32_t state; /* oc_channel_state, by __atomic; neighbours may be another batcher's */
    int batcher, socket;
    void *region;
    uint64_t region_bytes;
    oc_ring requests, replies;
    int taken; /* requests of this round; the batcher's */
} oc_channel;

enum { OC_CHANNEL_REPLY_BYTES = 1 << 18 }; /* 1,365 replies of 192 bytes */

/* Makes the region; *fd is to be handed out and closed. */
OC_MUST oc_channel_make(oc_channel *c, uint64_t request_bytes, int *fd);
void oc_channel_drop(oc_channel *c); /* unmaps and closes the socket; leaves the state alone */
OC_MUST oc_channel_memory(const char *name, uint64_t bytes, int *fd, void **at); /* a sealed memfd, mapped; or NULL */

#endif
