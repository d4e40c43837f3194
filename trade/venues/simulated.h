/* simulated.h - an exchange beside the recorded market: a deterministic function of its configuration, the events and
 * the actions, in their order. What we do does not move the record; what the record holds decides what we get.
 *
 * Time      an action reaches the venue to_ns (+ drawn jitter) after it was sent, an answer us back_ns (+ jitter) after
 *           it was given; neither overtakes another of its direction. What arrives at the very time of a market event
 *           comes after it. Draws are counter-based in (seed, order id or message number).
 * Taking    market orders and limit orders that cross walk the displayed book, level by level. What we took stays taken
 *           until the record says something new of that level. What is left of a market or IOC order is cancelled.
 * Resting   joins behind all that is displayed at its price. Trades at the price use up what is ahead; a level that
 *           shrinks below what is ahead shortens it (cancels are taken to be behind us: the cautious reading). A trade
 *           through the price, or the other side's best price reaching it, fills.
 *           A crossed or stale book is not looked at for that.
 * Quotes    are a book of one level a side where the record holds nothing deeper; beside levels they are left out, as
 *           the feature engine leaves them out: they would tear the levels behind the best ones away.
 * Partial   on: a fill is at most what was traded beyond the queue, or displayed where the market crossed; several own
 *           orders share it in price-time order. off: an order whose turn comes is filled whole.
 * Bars      the book is close -+ bar_half_spread_ticks with bar_lots a side; an order that rested since the last bar is
 *           filled where high or low went through its price.
 * Bounds    ids rise: an order with one that was used is refused. Own orders never meet each other. Events beyond the
 *           bounds of trade/money.h are ignored, fills that no account can hold do not happen: the order is cancelled.
 * Fees      ppm of the value, rounded against us; negative: a rebate. */
#ifndef OC_TRADE_VENUES_SIMULATED_H
#define OC_TRADE_VENUES_SIMULATED_H

#include "market/book.h"
#include "trade/money.h"
#include "trade/venue.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_SIMULATED_ORDERS_MAX = 256, OC_SIMULATED_FLIGHT_MAX = 1024, OC_SIMULATED_MESSAGES_MAX = 4096 };

typedef struct oc_simulated_market {
    oc_money_scale scale;
    int64_t order_tick_ticks, maker_ppm, taker_ppm;
    int64_t bar_half_spread_ticks, bar_lots;
} oc_simulated_market;

/* Who keeps the venue's record: told of each numbered message at the moment it is given. */
typedef struct oc_simulated_clerk {
    void *context;
    void (*said)(void *context, int64_t now_ns, const oc_venue_message *message); /* NULL: nobody */
} oc_simulated_clerk;

/* Who reads a market's book here instead of keeping an own one. The venue leaves out what is beyond its bounds and
 * makes books of bars; before the first event by which its book would be another than that of all events, it says so:
 * once a market, and behind that its book is not to be read. */
typedef struct oc_simulated_reader {
    void *context;
    void (*part)(void *context, uint32_t market); /* NULL: nobody reads */
} oc_simulated_reader;

typedef struct oc_simulated_config {
    uint64_t seed;
    int64_t to_ns, to_jitter_ns, back_ns, back_jitter_ns;
    int64_t reject_ppm; /* of new orders, drawn */
    bool partial;
    const oc_simulated_market *market; /* borrowed during open */
    uint32_t markets;
} oc_simulated_config;

typedef struct oc_simulated_account { /* the venue's own record of us, an instrument */
    int64_t position_lots, cash_ticks_lots, fees_micros;
    uint64_t fills, maker_fills;
} oc_simulated_account;

typedef struct oc_simulated oc_simulated;

OC_MUST oc_simulated_open(oc_simulated **out, const oc_simulated_config *config);
void oc_simulated_close(oc_simulated *v);
void oc_simulated_told(oc_simulated *v, oc_simulated_clerk clerk); /* from now on */
oc_venue oc_simulated_venue(oc_simulated *v); /* v outlives it */
const oc_book *oc_simulated_share(oc_simulated *v, uint32_t market, oc_simulated_reader reader);

/* The line breaks: answers on their way are lost, actions on theirs arrive; connect leads back. */
void oc_simulated_break(oc_simulated *v);
oc_simulated_account oc_simulated_account_of(const oc_simulated *v, uint32_t market);
uint32_t oc_simulated_open_orders(const oc_simulated *v);
uint64_t oc_simulated_messages(const oc_simulated *v); /* numbered ones so far */
uint64_t oc_simulated_ignored(const oc_simulated *v);  /* events of kinds it cannot use */

#ifdef __cplusplus
}
#endif
#endif
