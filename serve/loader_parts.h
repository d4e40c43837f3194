/* loader_parts.h - what loader.c and loader_tell.c share; nobody else includes it. */
#ifndef OC_SERVE_LOADER_PARTS_H
#define OC_SERVE_LOADER_PARTS_H

#include <pthread.h>
#include <sys/stat.h>
#include "serve/loader.h"
#include "serve/models_state.h"

enum { OC_LOADER_REASON = 512 };

typedef enum { PHASE_LIVE, PHASE_LOADING, PHASE_SHADOW, PHASE_SWAPPING } oc_loader_phase;

typedef struct oc_loader_stats { /* by __atomic */
    uint64_t loads, refusals, turns, changed;
} oc_loader_stats;

struct oc_loader {
    oc_loader_config config;
    char name[64];
    oc_version *first, *live, *other; /* other: NULL where that slot is empty */
    oc_version *handing;              /* on its way to the batchers */
    bool other_was_live;              /* and not loaded since */
    oc_batcher *batchers;
    int batcher_count;
    oc_slot *boxes;    /* [batcher_count] */
    char (*texts)[32]; /* by generation */
    uint32_t generations;
    oc_models_state wanted;
    struct stat state_seen;
    int64_t acted_ns; /* of the state that is being followed */
    bool settled;     /* nothing to do until the state changes, or a swap is under way */
    oc_loader_phase phase;
    char refused[32], reason[OC_LOADER_REASON];
    int64_t verify_at_ns, write_at_ns, retry_at_ns;
    bool dirty;           /* the status file lags */
    pthread_mutex_t lock; /* of what oc_loader_live and oc_loader_write read */
    pthread_t thread;
    bool started;
    uint32_t stop;
    oc_loader_stats stats;
};

#endif
