/* batcher_parts.h - what the files batcher*.c share; nobody else includes it. */
#ifndef OC_SERVE_BATCHER_PARTS_H
#define OC_SERVE_BATCHER_PARTS_H

#include "serve/batcher.h"

/* The only writer is the batcher's thread: a load and a store, no locked instruction. */
static inline void count(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, *counter + by, __ATOMIC_RELAXED);
}

static inline const oc_model_shape *shape_of(const oc_batcher *e)
{
    return &e->shape;
}

static inline size_t window_cells(const oc_batcher *e)
{
    return (size_t)shape_of(e)->steps * (size_t)shape_of(e)->inputs;
}

static inline size_t output_count(const oc_batcher *e)
{
    return (size_t)shape_of(e)->horizons * OC_CLASSES;
}

/* batcher_ticks.c. Each take_* as those of batcher_admit.c: false where the request must wait for the next round. */
OC_MUST oc_ticks_init(oc_batcher *e, const oc_bundle *bundle, const oc_stream_config *config);
void oc_ticks_deinit(oc_batcher *e);
bool oc_ticks_go_on(oc_batcher *e); /* before a round's requests; whether a stream had work left */
bool oc_ticks_take_open(oc_batcher *e, oc_pending *p);
bool oc_ticks_take_close(oc_batcher *e, oc_pending *p);
bool oc_ticks_take(oc_batcher *e, oc_pending *p);
void oc_ticks_leave(oc_batcher *e, const oc_channel *c);
void oc_ticks_expire(oc_batcher *e, int64_t now_ns);

/* batcher_reply.c. A full ring of replies drops and counts: a client that does not read never holds the others up. */
void oc_batcher_answer(oc_batcher *e, const oc_pending *p, uint32_t session, oc_reply_state state,
                       const float *probabilities);
void oc_batcher_failed(oc_batcher *e, const oc_pending *list, int n); /* this thread's message goes to the log */
void oc_batcher_failure_say(oc_batcher *e);                           /* the message, at most once a second */
/* What may be told as probabilities: each 0 or more, their sum 1. Weights that overflow for an input give NaN. */
bool oc_batcher_probable(const oc_batcher *e, const float *answer);
void oc_batcher_improbable_say(oc_batcher *e, int slot, const float *answer); /* at most once a second */

/* batcher_sessions.c */
oc_session *oc_session_find(oc_batcher *e, const oc_channel *c,
                            uint32_t id); /* NULL: not one that this client opened */
oc_session *oc_session_take(oc_batcher *e, const oc_pending *p, const char *symbol,
                            int64_t period_ns);                                     /* NULL: none left */
void oc_session_open(oc_batcher *e, const oc_pending *p, const oc_wire_open *open); /* answers */
void oc_session_reckon(oc_batcher *e); /* advance_ns and the load of all: another version is live, or may become so */
const char *oc_session_reckoned(const oc_batcher *e); /* for a refusal: where advance_ns is not the live version's */
void oc_session_end(oc_batcher *e, oc_session *s);
void oc_session_begin_anew(oc_batcher *e, oc_session *s); /* its windows: none of the rows so far */
oc_reply_state oc_session_row_check(oc_batcher *e, oc_session *s, const oc_wire_request *q, const float *row);
void oc_session_expire(oc_batcher *e, int64_t now_ns); /* some of those that nobody asks of; in a second, all */
/* A sequence number that does not rise, counted; whoever has rows on the way when it breaks off may send them again. */
bool oc_session_old(oc_batcher *e, const oc_session *s, uint64_t sequence);
void oc_batcher_leave(oc_batcher *e, oc_channel *c); /* the client's sessions end, its channel has LEFT */

/* batcher_round.c: the last row is to be consumed by the session's other windows, in its turn. */
void oc_batcher_due(oc_batcher *e, oc_session *s);

/* batcher_swap.c */
void oc_swap_keep(oc_batcher *e, oc_session *s, const float *row, const float *answer); /* answer: NULL where none */
void oc_swap_sample(oc_batcher *e, const float *window, const float *answer); /* of the live version; one at a time */
int oc_swap_slot(const oc_batcher *e, uint32_t canary);                       /* that a session shall be in */
void oc_swap_tend(oc_batcher *e);   /* offers and orders; before the round's requests */
bool oc_swap_move(oc_batcher *e);   /* behind the answers: one session comes nearer to its slot, or into it */
bool oc_swap_follow(oc_batcher *e); /* in idle time: a row of one session, or a piece of its advance */

/* batcher_admit.c */
bool oc_batcher_finite(const float *x, size_t n);
bool oc_batcher_collect(oc_batcher *e); /* whether there was anything */
void oc_batcher_part(oc_batcher *e);    /* with clients that left, or broke the protocol */
/* Whoever has a row of a session, from a ring or made here: where it is ready, writes the row to oc_batcher_row_place,
 * then pushes. The row is taken into this round, or answered with what is wrong with it; p holds channel, session and
 * request (kind, sequence, run_length, times). Not ready: its last row is in this round, or its history goes in. */
bool oc_session_ready(const oc_batcher *e, const oc_session *s);
float *oc_batcher_row_place(oc_batcher *e);
void oc_batcher_push(oc_batcher *e, oc_pending *p);

#endif
