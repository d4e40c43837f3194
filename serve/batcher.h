/* batcher.h - one thread that answers: takes whatever is pending in its clients' rings, up to the largest batch, and
 * never waits to fill one. Clients take turns, a few requests each, so that one that floods holds nobody up; a window
 * that waited too long is refused instead of computed. Order within a round: last steps of pushed rows, then whole
 * windows; advances of the staggered windows run when nothing else is pending, a piece of one session a round, so that
 * nobody waits longer for them than for a piece; the next row of the session itself waits for what its own window
 * lacks. A history goes in the same way, behind the answers of a round.
 *
 * Two slots: the one that is live and another version beside it. The batcher keeps the last T rows of each session;
 * from these the other slot's windows are filled, and follow, a row at a time when nothing else is to be done, and its
 * answers are compared with those that were given (the shadow run). A session moves from one slot to the other between
 * two of its requests, once the other has every row: batcher_swap.c. */
#ifndef OC_SERVE_BATCHER_H
#define OC_SERVE_BATCHER_H

#include <stdbool.h>
#include <pthread.h>
#include "serve/channel.h"
#include "serve/observed.h"
#include "serve/slot.h"
#include "serve/stream.h"

enum { OC_BATCHER_SESSIONS_MAX = 4096, OC_BATCHER_STREAMS_MAX = 64, OC_BATCHER_KINDS = OC_REQUEST_TICK + 1 };

typedef struct oc_batcher_stats { /* written by the batcher alone; read at any time by __atomic loads */
    uint64_t replies[OC_BATCHER_KINDS][OC_REPLY_STATE_COUNT]; /* kind 0: unknown kinds */
    uint64_t batches, dropped, broken, advances, advance_ns;
    uint64_t sessions, load_ppb; /* load: share of a batcher's time that advances of the open sessions may need */
    /* The other slot, since it was put in: rows that followed, begun anew as they came too late, answers compared,
     * other decisions, sum and largest of the differences (of a comparison: the largest over classes and horizons). */
    uint64_t followed, restarts, compared, decided_other, difference_ppb, difference_max_ppb, follow_ns;
    uint64_t moves;   /* sessions that went from one slot to the other */
    uint64_t expired; /* sessions that nobody had asked of for too long */
    uint64_t duplicates, stale,
        gaps;      /* rows: of the last sequence number again, of an older one, behind a missing one */
    uint64_t lost; /* 1: its device answers no more */
    uint64_t streams, ticks, ticks_dropped; /* open; events taken in; events refused, or behind one in its request */
} oc_batcher_stats;

typedef struct oc_session {
    uint32_t id; /* generation << 12 | index; 0: free */
    uint32_t generation, run_length;
    bool of_stream; /* no request names it; it lives as long as its stream */
    oc_channel *channel;
    uint64_t sequence;                        /* of the last row */
    bool any, taken;                          /* a row came; a row is in this round */
    uint32_t due;                             /* rows that not all of its windows have consumed */
    bool queued;                              /* in the queue of advances, where it stays until its turn */
    uint64_t row_round;                       /* when it had a row last */
    bool follows;                             /* the other slot has been begun with it; `followed` says how far it is */
    uint8_t slot;                             /* that answers it */
    uint32_t canary;                          /* 0 ... 65535, from the symbol */
    uint64_t rows_first, rows_next, followed; /* rows are counted: of the present run, all, those in the other slot */
    int64_t period_ns, used_ns;               /* used: when it was last asked */
    char symbol[OC_WIRE_SYMBOL];
} oc_session;

typedef struct oc_pending {
    oc_channel *channel;
    oc_session *session;
    oc_wire_request request;
    int64_t taken_ns;
    int slot;            /* that answers it */
    uint32_t instrument; /* of a stream's row */
} oc_pending;

typedef enum { OC_STREAM_FREE, OC_STREAM_OPENING, OC_STREAM_IDLE, OC_STREAM_BUSY } oc_stream_work;
typedef struct oc_batcher_stream {
    oc_tick_stream ticks;
    oc_session **sessions; /* of its instruments */
    oc_pending pending;    /* the request that is worked on, or was last; its channel is the stream's */
    uint32_t id;           /* generation << 8 | index; 0: free */
    uint32_t generation, reset;
    oc_stream_work work;
    bool told;          /* what the last event came to */
    uint64_t row_round; /* when it had a row in a round last */
    uint64_t run_round; /* when it was run last, */
    int run_events;     /* and how many events of it in that round */
    int64_t period_ns, used_ns;
} oc_batcher_stream;

typedef struct oc_history { /* stored rows on their way into a session's windows; one at a time a batcher */
    oc_pending pending;
    size_t count, done; /* rows */
    float *rows;        /* [steps - 1, inputs], copied */
    bool busy;
} oc_history;

typedef struct oc_kept { /* the last T rows of each session, and what was answered to them; [sessions][T] */
    float *rows, *answers;
    uint8_t *answered; /* with probabilities */
} oc_kept;

typedef struct oc_sample { /* a window that no session asked, and its answer, for the other version to compare with */
    float *rows, answer[OC_HORIZONS_MAX * OC_CLASSES];
    bool held;
} oc_sample;

/* What the loader wants, one word so that it changes at once: see OC_ORDER_MAKE. */
typedef uint64_t oc_order;
#define OC_ORDER_MAKE(generation, follow, canary) ((oc_order)(generation) << 32 | (oc_order)(follow) << 31 | (canary))
#define OC_ORDER_GENERATION(order)                ((uint32_t)((order) >> 32))      /* that shall be live */
#define OC_ORDER_FOLLOW(order)                    ((uint32_t)((order) >> 31) & 1u) /* the other slot runs as a shadow */
#define OC_ORDER_CANARY(order)                    ((uint32_t)(order)&0x1ffffu)     /* of 65,536 symbols to the other */

/* What an idle batcher does behind spin_ns of spinning: sleeps until a request comes; goes on spinning; yields its core
 * to whoever wants it. The last two take a core, and no client ever has to wake them. */
typedef enum { OC_WAIT_BLOCK, OC_WAIT_SPIN, OC_WAIT_YIELD } oc_batcher_wait;

typedef struct oc_batcher {
    oc_slot slots[2];
    int live;                                   /* slot of new sessions and of windows without one */
    uint32_t live_generation, other_generation; /* for the loader, by __atomic; other: 0 where that slot is empty */
    oc_order order, seen;                       /* by __atomic; seen: the order that is followed */
    /* By __atomic; put into the other slot as soon as no session is there. NULL again: taken, and what was there lies
     * in its place. */
    oc_slot *offer;
    bool moving, lagging; /* a session is in a slot that it shall not be in; rows are there to follow */
    int follow_at;        /* whose turn it is */
    oc_kept kept;
    oc_sample sample;
    oc_batcher_stream *streams;
    int stream_count;
    size_t stream_bytes;
    char name[64];
    oc_model_shape shape; /* T, F and horizons hold for every version */
    oc_hash schema;
    oc_channel *channels;             /* all; those with .batcher == index are ours */
    oc_channel **ours;                /* [our_count] that live; looked for among all only where one came */
    uint32_t welcomed, welcomed_seen; /* welcomed: by __atomic; counts those that came */
    int our_count;
    int channel_count, index, batch_max, sessions_max, first;
    oc_batcher_wait wait;
    int cpu; /* -1: any */
    int gpu; /* that its slots are opened on, where the backend is one */
    int64_t spin_ns;
    /* One advance, measured when its version was loaded, that sessions are admitted and reckoned by: the live
     * version's, or admit_ns where that is more. admit_ns: the loader's, of live and what may become live the heavier
     * one; 0: only live. admit_seen_ns: that is reckoned with. Both by __atomic. */
    int64_t advance_ns, admit_ns, admit_seen_ns;
    int64_t queue_max_ns, idle_max_ns, expire_at_ns, refusal_due_ns, failure_due_ns; /* *_due: oc_log_due */
    uint64_t rounds; /* begun; written by __atomic, for watch.h */
    double budget;
    oc_wire_bell *bell;
    int bell_fd;
    uint64_t record_max;
    oc_session *sessions;
    int free_first, expire_next;  /* no session below it is free; whose idleness is looked at next */
    oc_pending *windows, *pushes; /* [batch_max], [sessions_max] */
    int window_count, push_count;
    oc_history history;
    float *window_rows, *push_rows, *answers;
    size_t answers_cap;
    uint32_t *chosen; /* sessions of one call */
    uint32_t *due;    /* [sessions_max], a ring: sessions whose advance is due, whose turn is next first */
    int due_first, due_count;
    oc_channel **turns; /* [channel_count]: clients that have more in this round */
    uint8_t *full;      /* of each answer of a call, whether it is probabilities of a full window */
    uint32_t stop;      /* by __atomic */
    bool started, woke; /* woke: a client slept until its answer of this round came */
    pthread_t thread;
    oc_batcher_stats stats;
    oc_observed observed;
} oc_batcher;

typedef struct oc_batcher_config {
    int batch_max, sessions_max;
    size_t memory_max_bytes; /* of oc_batcher_planned_bytes, less the streams */
    double budget;
    oc_batcher_wait wait;
    int64_t spin_ns;
    int64_t queue_max_ns, idle_max_ns; /* 0: windows wait however long; sessions stay until they are closed */
    bool two_slots;                    /* rows are kept, and half of the memory is for another version */
    oc_stream_config ticks;
    oc_backend_config backend;
    bool resident; /* oc_slot_config */
} oc_batcher_config;
OC_MUST oc_batcher_init(oc_batcher *e, int index, const oc_version *version, const oc_batcher_config *config,
                        oc_channel *channels, int channel_count);
size_t oc_batcher_kept_bytes(const oc_model_shape *shape, size_t sessions);
/* Windows of both slots, as wide as the first, kept rows, what is shown of each session (observed.h), streams. */
size_t oc_batcher_planned_bytes(const oc_batcher *e);
oc_slot_config oc_batcher_slot_config(const oc_model_shape *shape, const oc_batcher_config *config, int gpu);
OC_MUST oc_batcher_start(oc_batcher *e, int cpu); /* the thread "batcher-I", on that core alone; -1: on any */
void oc_batcher_deinit(oc_batcher *e);  /* answers what is pending, at most two seconds, and joins the thread */
void oc_batcher_welcome(oc_batcher *e); /* a channel of it has become LIVE; by any thread */
/* How long nobody may ask of a session or stream before it ends: idle_ns, or four of its own periods. */
int64_t oc_batcher_patience_ns(int64_t idle_ns, int64_t period_ns);
/* One round, for tests and the thread: what is pending is answered; returns whether there was anything to do. */
bool oc_batcher_round(oc_batcher *e);

#endif
