/* outside.h - a stream of the emulation as a double of a library sees it that puts work there by itself (fake_nccl.c):
 * the stream begins with it. Such work is done later than the call that gives it, unlike all else in emulation. */
#ifndef OC_TESTS_EMULATION_OUTSIDE_H
#define OC_TESTS_EMULATION_OUTSIDE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct emulation_outside {
    bool (*busy)(void *context); /* NULL: no such work. Moves it on; true: it is not done */
    void *context;
    uint64_t last, after; /* number of the newest work here that nobody waited for, and of the newest elsewhere that
                           * an event put before what comes */
    bool (*behind_all)(const struct emulation_outside *stream); /* is what comes here behind all other streams' work? */
} emulation_outside;

#endif
