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
    return &oc_model_bundle(e->model)->shape;
}

static inline size_t window_cells(const oc_batcher *e)
{
    return (size_t)shape_of(e)->steps * (size_t)shape_of(e)->inputs;
}

static inline size_t output_count(const oc_batcher *e)
{
    return (size_t)shape_of(e)->horizons * OC_CLASSES;
}

/* batcher_reply.c. A full ring of replies drops and counts: a client that does not read never holds the others up. */
void oc_batcher_answer(oc_batcher *e, const oc_pending *p, uint32_t session, oc_reply_state state,
                       const float *probabilities);
void oc_batcher_failed(oc_batcher *e, const oc_pending *list, int n); /* this thread's message goes to the log */

/* batcher_sessions.c */
oc_session *oc_session_find(oc_batcher *e, const oc_channel *c, uint32_t id);       /* NULL: not one of this client */
void oc_session_open(oc_batcher *e, const oc_pending *p, const oc_wire_open *open); /* answers */
void oc_session_end(oc_batcher *e, oc_session *s);
void oc_session_begin_anew(oc_batcher *e, oc_session *s); /* its windows: none of the rows so far */
oc_reply_state oc_session_row_check(oc_batcher *e, oc_session *s, const oc_wire_request *q, const float *row);
void oc_batcher_leave(oc_batcher *e, oc_channel *c); /* the client's sessions end, its channel has LEFT */

/* batcher_admit.c */
bool oc_batcher_finite(const float *x, size_t n);
bool oc_batcher_collect(oc_batcher *e, oc_channel *c); /* whether there was anything */

#endif
