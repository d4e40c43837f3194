/* loop.h - the one loop that trades: feed -> features -> predictor -> desk (engine and journal) -> venue. A backtest
 * and a live session differ in how feed, predictor and venue are filled, and in nothing else.
 *
 * Time is simulated: it is that of the events and of what they lead to. A prediction is an input of its own, at the
 * time of the event that completed its row + decision_delay_ns. What is due at the very time of an event (an answer of
 * the venue, a timer, a prediction) comes after all events of that time, in this order: venue, timer, prediction.
 *
 * Memory is taken before the first event and does not grow with their number. At the end orders that are under way or
 * at work are left as they are; a position is worth the mid. */
#ifndef OC_TRADE_LOOP_H
#define OC_TRADE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "market/features.h"
#include "trade/desk.h"
#include "trade/tally.h"
#include "trade/venue.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_LOOP_PENDING_MAX = 1 << 14 }; /* predictions that were made and are not yet due */

typedef struct oc_feed { /* events in their total order; *count 0: the end */
    void *context;
    OC_MUST (*next)(void *context, const oc_event **events, size_t *count);
} oc_feed;

/* One row of one instrument, in the order of the stream. *made false: no window is complete. Fills buy, sell, hold,
 * state and model_version; the rest is the loop's. history (may be NULL) gets the rows before first_ns, so that the
 * windows are full when trading begins. */
typedef struct oc_predictor {
    void *context;
    OC_MUST (*predict)(void *context, const oc_feature_row *row, oc_prediction *prediction, bool *made);
    OC_MUST (*history)(void *context, const oc_feature_row *row);
} oc_predictor;

typedef struct oc_loop_setup { /* everything is borrowed during the run */
    oc_feed feed;
    oc_features *features;  /* opened over the feed's instruments; keeps the books */
    oc_predictor predictor; /* predict NULL: none, for policies that need no model */
    oc_desk *desk;
    oc_venue venue;
    oc_tally *tally; /* opened; NULL: nobody counts */
    int64_t decision_delay_ns;
    int64_t first_ns, last_ns; /* events before first_ns are history only (features, books, venue) */
} oc_loop_setup;

typedef struct oc_loop_result {
    uint64_t events, traded_events, rows, predictions;
    int64_t first_ns, last_ns; /* of the traded events; 0 where there is none */
} oc_loop_result;

OC_MUST oc_loop_run(const oc_loop_setup *setup, oc_loop_result *result);

#ifdef __cplusplus
}
#endif
#endif
