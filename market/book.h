/* book.h - an order book by price level. Fed with LEVEL and SNAPSHOT events of one instrument; the best OC_BOOK_LEVELS
 * levels of a side lie sorted in a plain array that features read. Plain data without pointers: copying saves it. No
 * allocation.
 *
 * Depth: up to OC_BOOK_DEPTH levels a side are kept below the visible ones, so that the visible ones are right after
 * deletions. Beyond that the worst level is dropped, counted, and its price becomes the side's horizon: what lies
 * there or deeper is unknown until the next snapshot and never shown, because levels between may be missing. A side
 * can so run short of levels; it never invents one. Why 4,096: a BTCUSDT capture holds 3,000 (spot) to 5,200
 * (futures) levels a side after ten minutes. Most of them lie within OC_BOOK_SPAN ticks of the best and are found by
 * their price (book.c; market/README.md).
 *
 * Snapshot: the first SNAPSHOT event of a packet clears both sides; one with lots 0 adds no level.
 * Gap: a LEVEL event with OC_EVENT_GAP_BEFORE clears the book and sets `stale`; levels are ignored (counted in
 * `ignored`) until the next snapshot, since nobody knows which of the old ones still stand. */
#ifndef OC_MARKET_BOOK_H
#define OC_MARKET_BOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "market/event.h"

enum { OC_BOOK_LEVELS = 64, OC_BOOK_DEPTH = 4096 };      /* a side: visible, kept */
enum { OC_BOOK_SPAN = 1 << 14 };                         /* ticks of a side that are kept by price (book.c) */

typedef struct oc_book_level { int64_t ticks, lots; } oc_book_level;

typedef struct oc_book_side {
    oc_book_level level[OC_BOOK_LEVELS];       /* best first */
    uint32_t count;                            /* of level: min(depth, OC_BOOK_LEVELS) */
    uint32_t depth, near;                      /* all that are kept; those of them in the window */
    uint32_t first;                            /* of the store */
    int64_t sign;                              /* 1 bid, -1 ask: sign * ticks rises towards the best */
    int64_t horizon;                           /* sign * ticks of the best price ever dropped; INT64_MIN: none */
    int64_t edge;                              /* sign * ticks of the last visible level; INT64_MIN: all are visible */
    int64_t low;                               /* least sign * ticks of the window; a multiple of 64 */
    uint64_t map[OC_BOOK_SPAN / 64];           /* of the window's ticks, which have a level */
    int64_t lots[OC_BOOK_SPAN];                /* at sign * ticks modulo the span; right where the bit is set */
    oc_book_level store[OC_BOOK_DEPTH];        /* the depth - near levels below the window, worst first */
} oc_book_side;

typedef struct oc_book {
    oc_book_side bid, ask;
    uint64_t dropped;                          /* levels that fell off or lay beyond the horizon */
    uint64_t ignored;                          /* levels that came while stale */
    bool snapshot_open;                        /* inside a snapshot packet */
    bool stale;                                /* events were lost: empty until the next snapshot */
} oc_book;

void oc_book_init(oc_book *b);
void oc_book_apply(oc_book *b, const oc_event *event);       /* other kinds are ignored */
/* LEVEL events without flags, as they lie within a packet: the same as one after another, and cheaper. */
void oc_book_levels(oc_book *b, const oc_event *events, size_t count);
/* A QUOTE event is the whole book where there is none deeper. False: the book has more levels or waits for a snapshot,
 * and the quote is left out. Decided by the book alone, so that a late start decides the same. */
bool oc_book_quote(oc_book *b, const oc_event *event);
bool oc_book_quoted(const oc_book *b);         /* such an event would be taken; right behind one: it was */
int64_t oc_book_lots(const oc_book_side *side, int64_t ticks);         /* at any kept price; 0: none */
/* The same book in the bytes of its levels: the bytes; `to` NULL: only counted. unpack fills *b whole. */
size_t oc_book_pack(const oc_book *b, unsigned char *to);
size_t oc_book_unpack(oc_book *b, const unsigned char *from);
bool oc_book_two_sided(const oc_book *b);
bool oc_book_crossed(const oc_book *b);                      /* best bid >= best ask */

#endif
