/* tether.h - liboutcry-client for whoever wants to wait: one symbol's session, or one stream of market events, behind
 * calls that return with the answer, or after timeout_ns without. Where the server went away, was started anew or ended
 * the session, the next call connects again, brings back what the windows need, and its answer has the bits that it
 * would have had. For a session that is the last T - 1 valid rows, which a tether keeps; for a stream they are events,
 * which the caller keeps (oc_tether_refill). One thread a tether; memory is taken when it opens and when it connects
 * again, never in a call that is answered. */
#ifndef OC_SERVE_CLIENT_TETHER_H
#define OC_SERVE_CLIENT_TETHER_H

#include "serve/client/client.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* Where the caller's own record of events comes back from, called inside oc_tether_tick when its stream had to be
 * opened anew, and before the first events of one that does not begin. Writes the next events of the record, the oldest
 * first, at most events_cap, and returns how many; 0: that was all. `given` counts those since the record's begin, so
 * it is 0 in the first call. The record: the books of a moment as SNAPSHOT events without OC_EVENT_LAST (none where
 * there are no books: bars, quotes), then every event behind that moment up to `until`, the first of the call that is
 * under way, which is not part of it. `needs` says how early the moment should lie: so that history_rows + T rows of
 * each instrument come before `until`, the last T - 1 of them history_ns or more behind the second; from a later one
 * rows are HOLD until so much lies behind them. The order of events holds from the books on: give these the time of the
 * first event behind them, less 1 ns. */
typedef struct oc_tether_refill {
    size_t (*next)(void *context, const oc_client_stream *needs, const struct oc_event *until, size_t given,
                   struct oc_event *events, size_t events_cap); /* NULL: nothing comes back */
    void *context;
} oc_tether_refill;

typedef struct oc_tether oc_tether;
typedef struct oc_tether_config {
    const char *address, *symbol; /* "unix:PATH"; symbol NULL: windows only, or a stream */
    int64_t period_ns;            /* shortest usual time between rows of a symbol */
    int64_t timeout_ns;           /* of every call, connecting again and the refill included */
    int64_t spin_ns;              /* a call spins so long for its answer before it sleeps */
    uint64_t schema_low,
        schema_high; /* that pushed rows were computed under; both 0: whatever the server's model has */
    const oc_wire_instrument *universe; /* a stream's, copied; NULL: none */
    uint32_t instruments, begins;       /* begins: nothing comes before its first event in any run (wire.h) */
    oc_tether_refill refill;            /* of a stream */
} oc_tether_config;

OC_MUST oc_tether_open(oc_tether **out, const oc_tether_config *config); /* OC_EAGAIN: no server there, or no room */
void oc_tether_close(oc_tether *l);                                      /* NULL is fine */
const oc_client_model *oc_tether_describe(const oc_tether *l);           /* of the first server; T, F and schema hold */
const oc_client_stream *oc_tether_stream(const oc_tether *l); /* how much history to keep; zeros: no stream */

/* Rows as oc_client_window and oc_client_push take them. OC_OK: *reply is the server's answer, whose state may be HOLD
 * or a refusal. OC_EAGAIN: no answer in time, or no server: a pushed row counts as pushed, call with the next one.
 * OC_EDATA: another model with another T, F or schema serves there now. */
OC_MUST oc_tether_window(oc_tether *l, const float *rows_raw, size_t rows, oc_wire_reply *reply);
OC_MUST oc_tether_push(oc_tether *l, const float *row_raw, uint32_t run_length, oc_wire_reply *reply);
/* Events as oc_client_tick takes them, in rising order. OC_OK: all replies to them (wire.h), in order; the last one
 * answers the last event, or refuses one and what follows it. OC_EAGAIN: not all replies in time, or no server: the
 * events count as sent, call with the next ones, and keep them for the refill. replies_cap: at least `count`. */
OC_MUST oc_tether_tick(oc_tether *l, const struct oc_event *events, size_t count, oc_wire_reply *replies,
                       size_t replies_cap, size_t *replies_count);
uint64_t oc_tether_connects(const oc_tether *l); /* 1 after open; one more each time it had to come back */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
