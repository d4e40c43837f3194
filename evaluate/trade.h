/* trade.h - the backtest's session (backtest.h) as a live one: the same keys, events, features, engine, journal and
 * simulated venue; predictions come from a running `outcry serve`. RUN holds what a backtest's does, and
 *
 *     RUN/venue.log       the venue's own record of what it was told and what it said (trade/venues/recorded.h)
 *     RUN/delays.json     clock live: the decision delays that were measured (trade/delay.h)
 *
 * clock replay: time is the events', and the loop waits for the server: the journal is that of a backtest, byte for
 * byte. clock live: time is the clock's, predictions enter when they come. */
#ifndef OC_EVALUATE_TRADE_H
#define OC_EVALUATE_TRADE_H

#include <stdbool.h>
#include "base/config.h"
#include "base/json.h"

OC_MUST oc_trade_keys(const oc_config_key **keys, size_t *count); /* those of a backtest, and its own */

typedef struct oc_trade_flags {
    bool in_sample, resume;
} oc_trade_flags;

/* OC_EAGAIN: no server there; or stopped by oc_trade_request_stop with everything saved: resume goes on. */
OC_MUST oc_trade_run(const oc_config *config, const char *out, oc_trade_flags flags, json_t **results);
void oc_trade_request_stop(void); /* from a signal handler */

#endif
