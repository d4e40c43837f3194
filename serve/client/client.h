/* client.h - liboutcry-client: windows and rows to a server on this machine, probabilities back, through shared memory.
 * One thread a client. Memory is mapped in open; window, push and poll never allocate, block, or call the system, but
 * to wake a sleeping server. See example.c for the whole of it in 40 lines. */
#ifndef OC_SERVE_CLIENT_CLIENT_H
#define OC_SERVE_CLIENT_CLIENT_H

#include "base/status.h"
#include "serve/client/wire.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default) /* all of this header, and nothing else, is what the library shows */

typedef struct oc_client oc_client;
typedef struct oc_client_model {
    char name[OC_WIRE_NAME], version[OC_WIRE_SYMBOL];
    uint32_t steps, inputs, horizons, generation; /* T, F; generation: model_version of replies */
    uint64_t schema_low, schema_high;
} oc_client_model;
typedef struct oc_stamp {
    uint64_t sequence;
    int64_t input_ns, deadline_ns;
    uint32_t model_version; /* that shall answer (not to ticks), as replies name it; 0: any; else REFUSED_VERSION */
} oc_stamp;                 /* caller's; all but model_version is echoed in the reply, which has that of who answers */

/* address: "unix:PATH". Waits at most timeout_ns for the server's hello. OC_EAGAIN: no server there, or no room.
 * OC_EFAILED: what listens there is another user's (neither this one's nor root's), or no Outcry server. */
OC_MUST oc_client_open(oc_client **out, const char *address, int64_t timeout_ns);
void oc_client_close(oc_client *c); /* the server drops its sessions; outstanding replies are lost; NULL is fine */
const oc_client_model *oc_client_describe(const oc_client *c);

/* A session for pushes at least period_ns apart (the server admits as much as it can keep up with). Waits for the
 * answer; replies to other requests that come meanwhile are lost, so open sessions first. Refusals: OC_EAGAIN or
 * OC_EUSAGE with the reason in the message. An answer behind timeout_ns is nobody's: what it opened ends again. schema:
 * both words of the schema hash that the rows were computed under. */
OC_MUST oc_client_session_open(oc_client *c, const char *model, const char *symbol, uint64_t schema_low,
                               uint64_t schema_high, int64_t period_ns, int64_t timeout_ns, uint32_t *session);
OC_MUST oc_client_session_close(oc_client *c, uint32_t session);

/* A stream of market events over a universe (wire.h): the server computes the rows. The answer says how much history a
 * stream needs that does not begin (begins 0) before its rows are exact: events of at least history_rows rows of each
 * instrument behind its second and history_ns, then T rows more for its first window, the books of the start in front.
 * Refusals as for a session; OC_EUSAGE too where the model was trained on another universe, tick, lot or order of it.
 * That and the server's serve.sample, serve.row_ns and serve.bar_spread are what the schema's hash covers. */
typedef struct oc_client_stream {
    uint32_t id, history_rows;
    int64_t history_ns;
} oc_client_stream;
OC_MUST oc_client_stream_open(oc_client *c, const char *model, const oc_wire_instrument *universe, uint32_t instruments,
                              int64_t period_ns, int begins, int64_t timeout_ns, oc_client_stream *stream);
OC_MUST oc_client_stream_close(oc_client *c, uint32_t stream);
/* 1 to OC_WIRE_EVENTS_MAX events of a stream (market/event.h), copied; what they must fulfil and what is answered to
 * them stands in wire.h. Of the stamp only the deadline counts, but where the stream or the size is wrong. Returns as
 * oc_client_window. */
struct oc_event;
OC_MUST oc_client_tick(oc_client *c, uint32_t stream, oc_stamp stamp, const struct oc_event *events, size_t count);

/* One whole window [T,F] of raw rows; copied. OC_EAGAIN: the ring is full, poll and come again. OC_EFAILED: the server
 * is gone or broke the protocol: close and open anew. `session` 0: no session is needed for windows. */
OC_MUST oc_client_window(oc_client *c, uint32_t session, oc_stamp stamp, const float *rows_raw, size_t rows);
/* One new row [F]; run_length: valid rows in a row up to this one, 0 where this row itself is not valid. Sequences
 * rise. */
OC_MUST oc_client_push(oc_client *c, uint32_t session, oc_stamp stamp, const float *row_raw, uint32_t run_length);
/* Stored rows of a session just opened, so that after a reconnect its windows go on where they were: the same bits as
 * if each had been pushed. The last T - 1 of the rows [rows,F], oldest first, are sent and copied; run_length is the
 * last row's, at least `rows`. One reply, of kind OC_REQUEST_HISTORY; rows may be pushed at once behind it. Whatever
 * the session held before is dropped; the stamp's sequence counts as the last row's. Returns as oc_client_window. */
OC_MUST oc_client_history(oc_client *c, uint32_t session, oc_stamp stamp, const float *rows_raw, size_t rows,
                          uint32_t run_length);
size_t oc_client_poll(oc_client *c, oc_wire_reply *replies, size_t replies_cap); /* returns how many; copies */
/* Sleeps until a reply is there or the time is over: spin_ns of spinning, then yields, then the kernel; spin_ns below
 * 0: the kernel at once. */
void oc_client_wait(oc_client *c, int64_t spin_ns, int64_t timeout_ns);
/* Whether the server is still there; asks the kernel, so not for every request. */
int oc_client_alive(const oc_client *c);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
