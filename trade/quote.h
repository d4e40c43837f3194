/* quote.h - from a book to what the engine takes: one QUOTE at the end of a packet whose best prices or sizes are
 * others than before, or that confirmed them when the last QUOTE is old: else a calm market would look like a dead one.
 * A book that is empty, crossed or stale gives one STATUS event: from there on the quote is unknown. */
#ifndef OC_TRADE_QUOTE_H
#define OC_TRADE_QUOTE_H

#include <stdbool.h>

#include "market/book.h"
#include "market/event.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_quote_state {
    int64_t bid_ticks, bid_lots, ask_ticks, ask_lots;
    int64_t given_ns, repeat_ns;               /* of the last QUOTE; so old, the same one is given again. 0: never */
    bool known;
} oc_quote_state;

/* `event` has just been applied to `book`. True where *quote is to be given to the engine. */
bool oc_quote_next(oc_quote_state *state, const oc_book *book, const oc_event *event, oc_event *quote);

#ifdef __cplusplus
}
#endif
#endif
