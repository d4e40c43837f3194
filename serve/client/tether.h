/* tether.h - liboutcry-client for whoever wants to wait: one symbol's session behind calls that return with the answer,
 * or after timeout_ns without. A tether keeps the last T - 1 valid rows: where the server went away, was started anew
 * or ended the session, the next call connects again, hands them in, and its answer has the bits that it would have
 * had. One thread a tether; memory is taken when it opens and when it connects again, never in a call that is answered.
 */
#ifndef OC_SERVE_CLIENT_TETHER_H
#define OC_SERVE_CLIENT_TETHER_H

#include "serve/client/client.h"

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

typedef struct oc_tether oc_tether;
typedef struct oc_tether_config {
    const char *address, *symbol;     /* "unix:PATH"; symbol NULL: windows only */
    int64_t period_ns;                /* shortest usual time between pushed rows */
    int64_t timeout_ns;               /* of every call, connecting again included */
    int64_t spin_ns;                  /* a call spins so long for its answer before it sleeps */
    uint64_t schema_low, schema_high; /* that the rows were computed under; both 0: whatever the server's model has */
} oc_tether_config;

OC_MUST oc_tether_open(oc_tether **out, const oc_tether_config *config); /* OC_EAGAIN: no server there, or no room */
void oc_tether_close(oc_tether *l);                                      /* NULL is fine */
const oc_client_model *oc_tether_describe(const oc_tether *l);           /* of the first server; T, F and schema hold */

/* Rows as oc_client_window and oc_client_push take them. OC_OK: *reply is the server's answer, whose state may be HOLD
 * or a refusal. OC_EAGAIN: no answer in time, or no server: a pushed row counts as pushed, call with the next one.
 * OC_EDATA: another model with another T, F or schema serves there now. */
OC_MUST oc_tether_window(oc_tether *l, const float *rows_raw, size_t rows, oc_wire_reply *reply);
OC_MUST oc_tether_push(oc_tether *l, const float *row_raw, uint32_t run_length, oc_wire_reply *reply);
uint64_t oc_tether_connects(const oc_tether *l); /* 1 after open; one more each time it had to come back */

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
