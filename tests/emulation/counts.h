/* counts.h - what the emulated device was asked for so far, for tests that say what a step may not do: the module's
 * variable OC_EMULATION_COUNTS, found by dlsym. */
#ifndef OC_TESTS_EMULATION_COUNTS_H
#define OC_TESTS_EMULATION_COUNTS_H

#include <stdint.h>

typedef struct oc_emulation_counts {
    uint64_t waits; /* of the host for a stream */
    uint64_t uploads, downloads, launches, replays; /* by the host: not those within a replay */
    uint64_t upload_bytes;
    uint64_t allocations; /* of device and of pinned memory */
} oc_emulation_counts;
#define OC_EMULATION_COUNTS "outcry_emulation_counts"

/* How often the kernel of exactly this name ran, replays included; a template's name is as its launch has it. */
typedef uint64_t (*oc_emulation_ran)(const char *name);
#define OC_EMULATION_RAN "outcry_emulation_ran"

#endif
