/* watch.h - whether the batchers still end their rounds. One that is computing, or idle, ends one every few
 * milliseconds at most; one that waits for a device that is gone, or is broken, ends none, and nobody is answered. Kept
 * by one thread that looks now and then; costs a batcher nothing. */
#ifndef OC_SERVE_WATCH_H
#define OC_SERVE_WATCH_H

#include "serve/batcher.h"

typedef struct oc_watch {
    uint64_t rounds; /* when last looked at */
    int64_t since_ns;
    bool stalled;
} oc_watch;

/* Looks at all batchers; logs each that stalls or goes on again. Returns how many have ended no round for stall_ns;
 * stall_ns 0: none ever has. */
int oc_watch_look(oc_watch *watches, const oc_batcher *batchers, int count, int64_t stall_ns, int64_t now_ns);

#endif
