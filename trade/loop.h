/* loop.h - the one loop that trades: feed -> features -> predictor -> desk (engine and journal) -> venue. A backtest
 * and a live session differ in how feed, predictor, venue and pace are filled, and in nothing else.
 *
 * Replayed time is that of the events and of what they lead to. A prediction is an input of its own, at the time of the
 * event that completed its row + the decision delay, and never before one made earlier; the loop waits for the
 * predictor, so it makes no difference who computes. What is due at the very time of an event (an answer of the venue,
 * a timer, a prediction) comes after all events of that time, in this order: venue, timer, prediction.
 *
 * Live time is a clock's: events are given when it reaches them, predictions when they come, and each input carries the
 * time at which it was given. A slow loop is late, it does not skip. The journal holds those times, so it replays.
 *
 * Memory is taken before the first event and does not grow with their number. At the end orders that are under way or
 * at work are left as they are; a position is worth the mid (tally.h: oc_tally_finish). */
#ifndef OC_TRADE_LOOP_H
#define OC_TRADE_LOOP_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/status.h"
#include "market/features.h"
#include "trade/delay.h"
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

/* One row of one instrument, in the order of the stream. input_ns, instrument and sequence of the prediction are filled
 * before the call and again behind it; the predictor fills buy, sell, hold, state and model_version. history (may be
 * NULL) gets the rows before first_ns, so that the windows are full when trading begins.
 * The last three are for live time (NULL where it is never asked for), and for all that waits on a clock. */
typedef struct oc_predictor {
    void *context;
    OC_MUST (*predict)(void *context, const oc_feature_row *row, oc_prediction *prediction, bool *made);
    OC_MUST (*history)(void *context, const oc_feature_row *row);
    OC_MUST (*send)(void *context, const oc_feature_row *row, const oc_prediction *stamp); /* never waits */
    OC_MUST (*poll)(void *context, oc_prediction *prediction, bool *came); /* whole, with its row's stamp */
    void (*wait)(void *context, int64_t timeout_ns); /* until an answer may have come; NULL: sleep */
} oc_predictor;

#define OC_LOOP_SPEED_MAX 1e6

typedef struct oc_loop_pace {
    bool live;
    double speed;   /* seconds of the market in one of the clock. 0: as fast as possible,
                       which live time cannot be */
    oc_clock clock; /* now_ns NULL: the monotonic one */
} oc_loop_pace;

typedef struct oc_loop_setup { /* everything is borrowed during the run */
    oc_feed feed;
    oc_features *features;  /* opened over the feed's instruments; keeps the books */
    oc_predictor predictor; /* predict NULL: none, for policies that need no model */
    oc_desk *desk;
    oc_venue venue;
    oc_tally *tally; /* opened; NULL: nobody counts */
    int64_t decision_delay_ns;
    int64_t first_ns, last_ns; /* events before first_ns are history only (features, books, venue) */
    int64_t resume_ns;         /* of a session that goes on: events up to it are history too, and counted */
    const oc_delay *delay;     /* of replayed time; NULL: decision_delay_ns */
    oc_loop_pace pace;
    oc_delay_record *delays;        /* of live time: what was measured, in time of the clock; NULL: nobody wants it */
    const oc_action *first_actions; /* sent before the first input: those of a recovery */
    size_t first_action_count;
    int64_t settle_ns; /* behind the last event: so long for what the venue has to say; 0: the end is the end */
    const volatile sig_atomic_t *stop; /* not 0: leave at the next event; NULL: never */
} oc_loop_setup;

typedef struct oc_loop_result {
    uint64_t events, traded_events, rows, predictions;
    int64_t first_ns, last_ns; /* of the traded events; 0 where there is none */
    bool stopped;              /* before the end */
} oc_loop_result;

OC_MUST oc_loop_run(const oc_loop_setup *setup, oc_loop_result *result);

#ifdef __cplusplus
}
#endif
#endif
