/* book.c - sorted levels. The store is sorted with the best level last, so an insertion near the best moves few
 * bytes; the visible array is its best end mirrored, kept in step by the same insertion and removal. The search gallops
 * from the best end, where nearly all updates are. */
#include "market/book.h"

#include <assert.h>
#include <string.h>

static void side_clear(oc_book_side *s, int64_t sign)
{
    s->count = s->depth = 0;
    s->sign = sign;
    s->horizon = INT64_MIN;
}

void oc_book_init(oc_book *b)
{
    memset(b, 0, sizeof *b);
    side_clear(&b->bid, 1);
    side_clear(&b->ask, -1);
}

/* First place in the store whose key is not below `key`; depth where all are. */
static uint32_t side_find(const oc_book_side *s, int64_t key)
{
    uint32_t high = s->depth, step = 1, low = 0;
    while (high > 0) {                          /* gallop: after it low <= answer <= high */
        uint32_t probe = high > step ? high - step : 0;
        if (s->sign * s->store[probe].ticks < key) {
            low = probe + 1;
            break;
        }
        high = probe;
        step *= 2;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->sign * s->store[middle].ticks < key) low = middle + 1;
        else high = middle;
    }
    return low;
}

static void side_remove(oc_book_side *s, uint32_t at)
{
    uint32_t rank = s->depth - 1 - at;
    memmove(&s->store[at], &s->store[at + 1], (size_t)rank * sizeof *s->store);
    s->depth--;
    if (rank >= OC_BOOK_LEVELS) return;
    memmove(&s->level[rank], &s->level[rank + 1], (size_t)(s->count - rank - 1) * sizeof *s->level);
    if (s->depth >= OC_BOOK_LEVELS) s->level[OC_BOOK_LEVELS - 1] = s->store[s->depth - OC_BOOK_LEVELS];
    else s->count--;
}

/* The worst level falls off; it is not visible, because the depth is over the visible count. */
static void side_drop_worst(oc_book_side *s)
{
    s->horizon = s->sign * s->store[0].ticks;
    s->depth--;
    memmove(&s->store[0], &s->store[1], (size_t)s->depth * sizeof *s->store);
}

static void side_insert(oc_book_side *s, uint32_t at, oc_book_level level)
{
    uint32_t rank = s->depth - at;
    memmove(&s->store[at + 1], &s->store[at], (size_t)rank * sizeof *s->store);
    s->store[at] = level;
    s->depth++;
    if (rank >= OC_BOOK_LEVELS) return;
    uint32_t kept = s->count < OC_BOOK_LEVELS ? s->count : OC_BOOK_LEVELS - 1;
    memmove(&s->level[rank + 1], &s->level[rank], (size_t)(kept - rank) * sizeof *s->level);
    s->level[rank] = level;
    s->count = kept + 1;
}

static void side_set(oc_book *b, oc_book_side *s, int64_t ticks, int64_t lots)
{
    int64_t key = s->sign * ticks;
    if (key <= s->horizon) {
        b->dropped++;
        return;
    }
    uint32_t at = side_find(s, key);
    bool found = at < s->depth && s->store[at].ticks == ticks;
    if (lots <= 0) {
        if (found) side_remove(s, at);
        return;
    }
    if (found) {
        uint32_t rank = s->depth - 1 - at;
        s->store[at].lots = lots;
        if (rank < OC_BOOK_LEVELS) s->level[rank].lots = lots;
        return;
    }
    if (s->depth == OC_BOOK_DEPTH) {
        b->dropped++;
        if (at == 0) {                          /* itself the worst */
            s->horizon = key;
            return;
        }
        side_drop_worst(s);
        at--;
    }
    side_insert(s, at, (oc_book_level){ticks, lots});
}

static void book_clear(oc_book *b)
{
    side_clear(&b->bid, 1);
    side_clear(&b->ask, -1);
}

void oc_book_apply(oc_book *b, const oc_event *event)
{
    if (event->kind == OC_EVENT_SNAPSHOT && !b->snapshot_open) {
        book_clear(b);
        b->snapshot_open = true;
        b->stale = false;
    }
    if (event->kind == OC_EVENT_LEVEL && (event->flags & OC_EVENT_GAP_BEFORE)) {
        book_clear(b);
        b->stale = true;
    }
    if (event->kind == OC_EVENT_LEVEL || event->kind == OC_EVENT_SNAPSHOT) {
        if (b->stale) b->ignored++;
        else if (event->side == OC_SIDE_BUY) side_set(b, &b->bid, event->as.price.ticks, event->as.price.lots);
        else if (event->side == OC_SIDE_SELL) side_set(b, &b->ask, event->as.price.ticks, event->as.price.lots);
    }
    if (event->flags & OC_EVENT_LAST) b->snapshot_open = false;
}

bool oc_book_quote(oc_book *b, const oc_event *event)
{
    if (b->stale || b->bid.depth > 1 || b->ask.depth > 1) return false;
    book_clear(b);
    b->snapshot_open = false;
    side_set(b, &b->bid, event->as.quote.bid_ticks, event->as.quote.bid_lots);
    side_set(b, &b->ask, event->as.quote.ask_ticks, event->as.quote.ask_lots);
    return true;
}

bool oc_book_two_sided(const oc_book *b)
{
    return b->bid.count > 0 && b->ask.count > 0;
}

bool oc_book_crossed(const oc_book *b)
{
    return oc_book_two_sided(b) && b->bid.level[0].ticks >= b->ask.level[0].ticks;
}
