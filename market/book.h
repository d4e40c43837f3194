/* book.h - an order book by price level. Fed with LEVEL and SNAPSHOT events of one instrument; keeps up to
 * OC_BOOK_LEVELS sorted levels a side that features read as plain arrays. No allocation after init. */
#ifndef OC_MARKET_BOOK_H
#define OC_MARKET_BOOK_H

#include <stdbool.h>
#include <stdint.h>
#include "market/event.h"

enum { OC_BOOK_LEVELS = 64 };      /* kept a side; deeper levels fall off and are counted in `dropped` */

typedef struct oc_book_level { int64_t ticks, lots; } oc_book_level;

typedef struct oc_book_side {
    oc_book_level level[OC_BOOK_LEVELS];       /* best first */
    uint32_t count;
} oc_book_side;

typedef struct oc_book {
    oc_book_side bid, ask;
    uint64_t dropped;
    bool snapshot_open;                        /* inside a snapshot packet */
} oc_book;

void oc_book_init(oc_book *b);
void oc_book_apply(oc_book *b, const oc_event *event);       /* other kinds are ignored */
bool oc_book_two_sided(const oc_book *b);
bool oc_book_crossed(const oc_book *b);                      /* best bid >= best ask */

#endif
