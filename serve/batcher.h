/* batcher.h - one thread that answers: takes whatever is pending in its clients' rings, up to the largest batch, and
 * never waits to fill one. Order within a round: last steps of pushed rows, then whole windows; advances of the
 * staggered windows run one at a time when nothing else is pending, or before the next row of their own session. A
 * history goes in by one row a round, behind the answers, so that nobody waits longer for it than for an advance. */
#ifndef OC_SERVE_BATCHER_H
#define OC_SERVE_BATCHER_H

#include <stdbool.h>
#include <pthread.h>
#include "nn/model.h"
#include "serve/channel.h"

enum { OC_BATCHER_SESSIONS_MAX = 4096, OC_BATCHER_KINDS = OC_REQUEST_HISTORY + 1, OC_BATCHER_BUCKETS = 16 };

typedef struct oc_batcher_stats { /* written by the batcher alone; read at any time by __atomic loads */
    uint64_t replies[OC_BATCHER_KINDS][OC_REPLY_STATE_COUNT]; /* kind 0: unknown kinds */
    uint64_t batches, dropped, broken, advances, advance_ns;
    uint64_t latency[OC_BATCHER_BUCKETS], latency_ns, latency_count; /* publication to answer; bucket i: below 2^i us */
    uint64_t sessions;
    double load; /* share of the budgeted time that admitted sessions may need */
} oc_batcher_stats;

typedef struct oc_session {
    uint32_t id; /* generation << 12 | index; 0: free */
    uint32_t generation, run_length;
    oc_channel *channel;
    uint64_t sequence;    /* of the last row */
    bool any, due, taken; /* a row came; its advance is due; a row is in this round */
    double load;
    char symbol[OC_WIRE_SYMBOL];
} oc_session;

typedef struct oc_pending {
    oc_channel *channel;
    oc_session *session;
    oc_wire_request request;
    int64_t taken_ns;
} oc_pending;

typedef struct oc_history { /* stored rows on their way into a session's windows; one at a time a batcher */
    oc_pending pending;
    size_t count, done; /* rows */
    float *rows;        /* [steps - 1, inputs], copied */
    bool busy;
} oc_history;

typedef struct oc_batcher {
    oc_model *model;
    oc_sliding *sliding;
    oc_channel *channels; /* all; those with .batcher == index are ours */
    int channel_count, index, batch_max, sessions_max, first;
    int64_t spin_ns, advance_ns; /* advance_ns: measured at start */
    double budget;
    oc_wire_bell *bell;
    int bell_fd;
    uint64_t record_max;
    oc_session *sessions;
    oc_pending *windows, *pushes; /* [batch_max], [sessions_max] */
    int window_count, push_count;
    oc_history history;
    float *window_rows, *push_rows, *answers;
    uint32_t *slots;
    uint8_t *full;
    uint32_t stop;      /* by __atomic */
    bool started, woke; /* woke: a client slept until its answer of this round came */
    pthread_t thread;
    oc_batcher_stats stats;
} oc_batcher;

typedef struct oc_batcher_config {
    int batch_max, sessions_max;
    size_t memory_max_bytes; /* of the sessions' windows of this batcher */
    double budget;
    int64_t spin_ns;
    oc_backend_config backend;
} oc_batcher_config;
OC_MUST oc_batcher_init(oc_batcher *e, int index, const oc_bundle *bundle, const oc_batcher_config *config,
                        oc_channel *channels, int channel_count);
OC_MUST oc_batcher_start(oc_batcher *e);
void oc_batcher_deinit(oc_batcher *e); /* answers what is pending, at most two seconds, and joins the thread */
/* One round, for tests and the thread: what is pending is answered; returns whether there was anything to do. */
bool oc_batcher_round(oc_batcher *e);

#endif
