/* server.h - a running `outcry serve` as the loop's predictor: a session an instrument over one client's rings, a row
 * pushed when it is made. Replayed time waits for each answer; live time takes answers when they come.
 *
 * When the server is gone (killed, stopped, silent beyond wait_ns) rows go unanswered and are counted; the policy holds
 * by its fallback. A new connection is tried with growing pauses; sessions are opened anew and their windows filled
 * from the last T - 1 rows, which are kept here, so the first answer behind it is that of the whole window. Replayed
 * time waits for that up to wait_ns from the row that found the server gone, and says so when it goes on without.
 *
 * A server with another model, version, schema or window than was asked for is refused: at open the failure says which;
 * later it counts as gone. Where the server's operator puts another version live meanwhile, its answers are HOLD, and
 * counted, until the wanted one answers again. Memory is taken in open; a connection made anew takes what the client
 * library takes. */
#ifndef OC_TRADE_PREDICTORS_SERVER_H
#define OC_TRADE_PREDICTORS_SERVER_H

#include <signal.h>

#include "base/hash.h"
#include "trade/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_server_wanted { /* what the trading configuration expects to be answered by */
    const char *name, *version;   /* of the bundle */
    oc_hash schema;
    uint32_t steps, inputs, horizons;
    uint32_t horizon; /* which of them is traded */
} oc_server_wanted;

typedef struct oc_server_options {
    const char *socket; /* path of the Unix socket */
    oc_server_wanted wanted;
    const oc_instrument *universe;
    uint32_t instruments;
    int64_t period_ns;   /* shortest usual time between two rows; the server plans by it */
    int64_t wait_ns;     /* of replayed time, for one answer */
    int64_t deadline_ns; /* of live time: later answers are HOLD; 0: none */
    int64_t spin_ns;     /* waiting for an answer: spin so long, then sleep */
    bool live;
    const volatile sig_atomic_t *stop; /* ends a wait; NULL: never */
} oc_server_options;

typedef struct oc_server_counts {
    uint64_t asked, answered; /* rows pushed; probabilities that came of them */
    uint64_t unanswered;      /* rows that nobody was there for, or whose answer never came */
    uint64_t late, refused;   /* answers after their deadline; rows that the server would not take */
    uint64_t other_version;   /* answers of another version than was wanted: HOLD */
    uint64_t lost, connected; /* connections that ended by themselves, connections made */
    uint64_t restored_rows;   /* handed in again to fill windows */
} oc_server_counts;

typedef struct oc_server_predictor oc_server_predictor;

/* OC_EAGAIN: no server there, or no room; OC_ECONFIG: it answers by something else than was wanted. */
OC_MUST oc_server_predictor_open(oc_server_predictor **out, const oc_server_options *options);
void oc_server_predictor_close(oc_server_predictor *s);
oc_predictor oc_server_predictor_of(oc_server_predictor *s); /* s outlives it */
oc_server_counts oc_server_predictor_counts(const oc_server_predictor *s);

#ifdef __cplusplus
}
#endif
#endif
