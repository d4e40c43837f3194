/* tally.h - what a run of trades came to, in constant memory: round trips, turnover, drawdown, and the mean and
 * deviation of the equity's change over intervals of one length. Statistics, not accounts: sums of money that must be
 * exact are the engine's. A round trip ends where a position is closed or turned; its result is after its fees. */
#ifndef OC_TRADE_TALLY_H
#define OC_TRADE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "market/instrument.h"
#include "trade/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_tally {
    int64_t interval_ns, slot;
    int64_t equity_micros, slot_micros;                          /* now, where the interval began */
    int64_t peak_micros, drawdown_micros;                        /* drawdown: largest fall from the highest so far */
    uint64_t intervals, trades, wins;
    double sum, squares, squares_down;                           /* of changes, micro-units */
    double gains_micros, losses_micros, turnover_micros;         /* losses: positive */
    bool begun;
    double scale[OC_INSTRUMENTS_MAX];                            /* micro-units a tick x lot */
    double trip_micros[OC_INSTRUMENTS_MAX], fees_micros[OC_INSTRUMENTS_MAX];
} oc_tally;

void oc_tally_open(oc_tally *t, int64_t interval_ns, const oc_engine_config *config);
void oc_tally_fill(oc_tally *t, const oc_position *before, const oc_venue_message *fill);
void oc_tally_equity(oc_tally *t, int64_t now_ns, int64_t equity_micros);

/* A year's, of whole intervals; NaN where fewer than two intervals are over or nothing moved. */
double oc_tally_sharpe(const oc_tally *t);
double oc_tally_sortino(const oc_tally *t);
double oc_tally_win_rate(const oc_tally *t);                     /* NaN without a trade */
double oc_tally_profit_factor(const oc_tally *t);                /* NaN without a loss */

#ifdef __cplusplus
}
#endif
#endif
