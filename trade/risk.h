/* risk.h - the gate before every order: a table of rows, each accepts or names its reason. A row is written so that
 * what cannot be compared (NaN, an overflow, an unknown quote) is refused. The gate is a pure function of plain
 * numbers: it looks at nothing but its arguments and changes nothing; the engine keeps the sums.
 *
 * An order that reduces (against the position, and together with the open orders of its side not past zero) is excused
 * from the rows that would keep a position open: see the column `reducing` in risk.c. Cancels never pass the gate. */
#ifndef OC_TRADE_RISK_H
#define OC_TRADE_RISK_H

#include <stdbool.h>
#include <stdint.h>

#include "trade/money.h"
#include "trade/reason.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_risk_account {               /* limits of the account */
    int64_t exposure_micros_max;
    int64_t daily_loss_micros, daily_loss_halt_micros;       /* reducing from the first, halted from the second */
    int64_t drawdown_micros, drawdown_halt_micros;
    int64_t message_ns;                        /* one message may leave every so many ns, … */
    int64_t message_burst, message_reserve;    /* … so many at once, of which the reserve is for cancels alone */
    int64_t duplicate_ns;                      /* the same order is refused for so long */
    int64_t open_orders_max;
    double confidence_min;
} oc_risk_account;

typedef struct oc_risk_instrument {            /* limits of one instrument */
    oc_money_scale scale;
    int64_t order_tick_ticks;                  /* orders are priced in multiples of so many ticks */
    int64_t order_lots_max, order_micros_max, position_lots_max;
    int64_t collar_bps, stale_ns;
} oc_risk_instrument;

typedef struct oc_risk_view {                  /* what is so at this moment */
    int64_t now_ns, quote_ns, bid_ticks, ask_ticks;
    int64_t position_lots, open_buy_lots, open_sell_lots;
    int64_t exposure_micros;                   /* of this instrument, its open orders filled */
    int64_t exposure_total_micros;
    int64_t equity_micros, day_micros, peak_micros;          /* now, when the day began, at the highest */
    int64_t token_ns;                          /* of the throttle: message_ns are one message */
    int64_t open_orders;
    int64_t own_bid_ticks, own_ask_ticks;      /* best of our open orders that no cancel is under way for; 0: none */
    uint32_t state;                            /* OC_TRADING_* */
    bool quote_known, killed, connected, duplicate;
} oc_risk_view;

typedef struct oc_risk_order {
    double confidence;
    int64_t price_ticks, lots;
    uint8_t side, type;
} oc_risk_order;

typedef struct oc_risk_finding {
    oc_reason reason;                          /* OC_REASON_NONE: may leave */
    int64_t value, limit;                      /* of the row that refused; saturated */
} oc_risk_finding;

oc_risk_finding oc_risk_check(const oc_risk_account *account, const oc_risk_instrument *instrument,
                              const oc_risk_view *view, const oc_risk_order *order);

/* Worst case of an instrument in micro-units, rounded up: the larger position of all open buys or all open sells
 * filled, at the mid. False where it does not fit. */
bool oc_risk_exposure(int64_t position_lots, int64_t buy_lots, int64_t sell_lots, int64_t bid_plus_ask_ticks,
                      oc_money_scale scale, int64_t *micros);

int oc_risk_row_count(void);
oc_reason oc_risk_row_reason(int row);         /* in the order in which they are asked */
const char *oc_risk_row_text(int row);

#ifdef __cplusplus
}
#endif
#endif
