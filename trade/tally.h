/* tally.h - what a run of trades came to, in constant memory: round trips, costs, turnover, drawdown, time in the
 * market, the mean and deviation of the equity's change over intervals of one length, and a bounded curve beside that
 * of buying and holding. Statistics, not accounts: sums of money that must be exact are the engine's. It sees what a
 * journal holds and nothing else, so whoever reads the journal gets the same figures.
 *
 * A round trip ends where a position is closed or turned; its result is after its fees.
 * Costs are taken against the mid at which an order was decided [Perold88]: for an order that took, half the quoted
 * spread of that moment is `spread`, and what else its price was worse is `slippage` (delay, depth); for one that
 * rested all of it is `spread` (negative: earned). So net + fees + spread + slippage is what trading at the mids of the
 * decisions would have made.
 * Buy and hold takes the policy's size of each instrument at the first quote: half the spread and the taker's fee are
 * paid there, and again at the end. */
#ifndef OC_TRADE_TALLY_H
#define OC_TRADE_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "market/instrument.h"
#include "trade/curve.h"
#include "trade/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_tally_setup {
    const oc_engine_config *engine;            /* borrowed during open */
    int64_t interval_ns;                       /* of the changes behind Sharpe and Sortino */
    int64_t taker_ppm, bar_half_spread_ticks;  /* of buy and hold, and of closing; half a spread: bars have none */
} oc_tally_setup;

typedef struct oc_tally_market {
    oc_money_scale scale;
    double micros;                             /* a tick x lot */
    int64_t hold_lots, bid_ticks, ask_ticks;   /* the last good quote; 0: none yet */
    int64_t beyond_ticks;                      /* what is paid beyond them: half the spread that a bar lacks */
    double trip_micros;                        /* of the round trip under way: got minus paid, after fees */
    bool held;
} oc_tally_market;

typedef struct oc_tally_order {                /* an order when it was decided */
    uint64_t id;                               /* 0: none */
    double mid_ticks, half_ticks;
} oc_tally_order;

typedef struct oc_tally {
    int64_t interval_ns, slot, taker_ppm, bar_half_spread_ticks;
    int64_t first_ns, now_ns;                                    /* of the inputs */
    int64_t equity_micros, slot_micros;                          /* now, where the interval began */
    int64_t peak_micros, drawdown_micros;                        /* drawdown: largest fall from the highest so far */
    int64_t held_ns;                                             /* with any position */
    uint64_t intervals, trades, wins, closed_at_end;
    double sum, squares, squares_down;                           /* of changes, micro-units */
    double gains_micros, losses_micros, turnover_micros;         /* losses: positive */
    double spread_micros, slippage_micros;
    double hold_micros, capital_micros;                          /* buy and hold: worth now; paid at its first mids */
    int64_t closing_spread_micros, closing_fee_micros;           /* of what was held at the end */
    uint32_t markets, held, order_at;
    bool begun;
    oc_curve curve;
    oc_tally_order order[OC_ENGINE_ORDERS_MAX];
    oc_tally_market market[OC_INSTRUMENTS_MAX];
} oc_tally;

void oc_tally_open(oc_tally *t, const oc_tally_setup *setup);

/* Around each oc_engine_apply: what a fill is about to change, then what it and everything else led to. */
typedef struct oc_tally_mark {
    oc_position position;
    uint64_t fills;
} oc_tally_mark;
oc_tally_mark oc_tally_before(const oc_engine *e, const oc_input *input);
void oc_tally_after(oc_tally *t, const oc_engine *e, const oc_input *input, const oc_tally_mark *mark,
                    const oc_action *actions, size_t count);

/* The run is over: what is held is closed at the last quote, with half the spread and the taker's fee (of any size at
 * the best price), and so is buy and hold. Equity, trades, costs and curve are after it. Once. */
void oc_tally_finish(oc_tally *t, const oc_engine *e);

/* The parts of it, for tests. */
void oc_tally_fill(oc_tally *t, const oc_position *before, const oc_venue_message *fill);
void oc_tally_equity(oc_tally *t, int64_t now_ns, int64_t equity_micros);

/* A year's, of whole intervals; NaN where fewer than two intervals are over or nothing moved. */
double oc_tally_sharpe(const oc_tally *t);
double oc_tally_sortino(const oc_tally *t);
double oc_tally_calmar(const oc_tally *t);                       /* a year's P&L by drawdown; NaN without a drawdown */
double oc_tally_win_rate(const oc_tally *t);                     /* NaN without a trade */
double oc_tally_profit_factor(const oc_tally *t);                /* NaN without a loss */
double oc_tally_mean_trade(const oc_tally *t);                   /* micro-units; NaN without a trade */
double oc_tally_time_in_market(const oc_tally *t);               /* 0 … 1; NaN where no time has passed */

#ifdef __cplusplus
}
#endif
#endif
