/* book.c - levels by price. A window of BOOK_SPAN ticks around the best holds its levels by price itself: a ring of
 * sizes, one for each tick, and a bit for each that is there, so that setting, adding and removing cost the same
 * anywhere in it. Worse levels than the window's lie sorted in the store, worst first; a fine-grained market keeps
 * nearly none there, a coarse one (its ticks far apart) nearly all. The visible array is the best end of both. The
 * window moves when a price above it comes, and down to the best when the market has left its upper part. */
#include "market/book.h"

#include <assert.h>
#include <string.h>

enum { WORDS = OC_BOOK_SPAN / 64, ABOVE = OC_BOOK_SPAN / 4, BELOW = OC_BOOK_SPAN - ABOVE };

static_assert((OC_BOOK_SPAN & (OC_BOOK_SPAN - 1)) == 0 && ABOVE % 64 == 0, "slots are keys modulo the span");

static inline uint32_t slot_of(int64_t key)
{
    return (uint32_t)key & (OC_BOOK_SPAN - 1);
}

static void side_clear(oc_book_side *s, int64_t sign)
{
    for (uint32_t i = 0; s->depth <= OC_BOOK_LEVELS && i < s->count; i++)
        s->map[slot_of(sign * s->level[i].ticks) / 64] = 0; /* the few of a quote: without a pass over the map */
    if (s->depth > OC_BOOK_LEVELS) memset(s->map, 0, sizeof s->map);
    s->count = s->depth = s->near = s->first = 0;
    s->edge = INT64_MIN;
    s->sign = sign;
    s->horizon = INT64_MIN;
    s->low = 0;
}

void oc_book_init(oc_book *b)
{
    memset(b, 0, sizeof *b);
    side_clear(&b->bid, 1);
    side_clear(&b->ask, -1);
}

/* ---- the window ------------------------------------------------------------------------------------------------- */

static inline bool bit_get(const oc_book_side *s, int64_t key)
{
    return s->map[slot_of(key) / 64] >> (slot_of(key) % 64) & 1;
}

static inline bool in_window(const oc_book_side *s, int64_t key)
{
    return (uint64_t)key - (uint64_t)s->low < OC_BOOK_SPAN;
}

static void near_add(oc_book_side *s, oc_book_level level)
{
    uint32_t slot = slot_of(s->sign * level.ticks);
    s->map[slot / 64] |= (uint64_t)1 << (slot % 64);
    s->lots[slot] = level.lots;
    s->near++;
}

static void near_remove(oc_book_side *s, int64_t key)
{
    uint32_t slot = slot_of(key);
    s->map[slot / 64] &= ~((uint64_t)1 << (slot % 64));
    s->near--;
}

/* The highest key in [low, key) that is there; the caller knows that there is one. */
static int64_t near_below(const oc_book_side *s, int64_t key)
{
    int64_t at = key - 1;
    uint64_t word = s->map[slot_of(at) / 64] << (63 - slot_of(at) % 64);
    if (word) return at - __builtin_clzll(word);
    at -= slot_of(at) % 64 + 1;                 /* the last key of the word below */
    while (!s->map[slot_of(at) / 64]) at -= 64;
    return at - __builtin_clzll(s->map[slot_of(at) / 64]);
}

/* The lowest key in [key, …) that is there; likewise. low is a multiple of 64, so words do not wrap. */
static int64_t near_from(const oc_book_side *s, int64_t key)
{
    uint64_t word = s->map[slot_of(key) / 64] >> (slot_of(key) % 64);
    if (word) return key + __builtin_ctzll(word);
    key += 64 - slot_of(key) % 64;
    while (!s->map[slot_of(key) / 64]) key += 64;
    return key + __builtin_ctzll(s->map[slot_of(key) / 64]);
}

static inline oc_book_level near_level(const oc_book_side *s, int64_t key)
{
    return (oc_book_level){s->sign * key, s->lots[slot_of(key)]};
}

/* ---- the store -------------------------------------------------------------------------------------------------- */

static inline uint32_t far_count(const oc_book_side *s)
{
    return s->depth - s->near;
}

/* Its i-th level, worst first. It begins at `first`, so that the worst one falls off without moving the others. */
static inline oc_book_level *far_at(oc_book_side *s, uint32_t i)
{
    return &s->store[s->first + i];
}

static inline int64_t far_key(const oc_book_side *s, uint32_t i)
{
    return s->sign * s->store[s->first + i].ticks;
}

/* Room for `more` levels behind the `far` that there are. */
static void far_room(oc_book_side *s, uint32_t far, uint32_t more)
{
    if (s->first + far + more <= OC_BOOK_DEPTH) return;
    memmove(s->store, &s->store[s->first], far * sizeof *s->store);
    s->first = 0;
}

/* First place whose key is not below `key`. */
static uint32_t far_find(const oc_book_side *s, int64_t key)
{
    uint32_t high = far_count(s), step = 1, low = 0;
    while (high > 0) {                          /* gallop from the best end: after it low <= answer <= high */
        uint32_t probe = high > step ? high - step : 0;
        if (far_key(s, probe) < key) {
            low = probe + 1;
            break;
        }
        high = probe;
        step *= 2;
    }
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (far_key(s, middle) < key) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* ---- the window moves ------------------------------------------------------------------------------------------- */

static inline int64_t aligned(int64_t key)     /* down, also below 0 */
{
    return (int64_t)((uint64_t)key & ~(uint64_t)63);
}

/* Up, so that `key` has room above it: the levels that the window leaves go into the store, whose best they are. */
static void window_raise(oc_book_side *s, int64_t key)
{
    int64_t low = aligned(key - BELOW), at = s->low;
    uint32_t far = far_count(s);
    while (s->near > 0) {
        at = near_from(s, at);
        if (at >= low) break;
        far_room(s, far, 1);
        *far_at(s, far++) = near_level(s, at);
        near_remove(s, at);
    }
    s->low = low;
}

/* Down to where the best is: the store gives back what lies in the window now. */
static void window_lower(oc_book_side *s, int64_t best)
{
    uint32_t far = far_count(s);
    s->low = aligned(best - BELOW);
    while (far > 0 && far_key(s, far - 1) >= s->low) near_add(s, *far_at(s, --far));
}

/* ---- the visible levels ----------------------------------------------------------------------------------------- */

static void edge_set(oc_book_side *s)
{
    s->edge = s->count == OC_BOOK_LEVELS ? s->sign * s->level[OC_BOOK_LEVELS - 1].ticks : INT64_MIN;
}

/* Where `key`, not below the edge, is or would stand. */
static uint32_t visible_find(const oc_book_side *s, int64_t key)
{
    uint32_t low = 0, left = s->count;
    while (left > 0) {                          /* halves without branches: which one is anybody's guess */
        uint32_t half = (left + 1) / 2, next = low + half;
        low = s->sign * s->level[next - 1].ticks > key ? next : low;
        left -= half;
    }
    return low;
}

static void visible_insert(oc_book_side *s, oc_book_level level)
{
    uint32_t rank = visible_find(s, s->sign * level.ticks);
    uint32_t kept = s->count < OC_BOOK_LEVELS ? s->count : OC_BOOK_LEVELS - 1;
    memmove(&s->level[rank + 1], &s->level[rank], (size_t)(kept - rank) * sizeof *s->level);
    s->level[rank] = level;
    s->count = kept + 1;
    edge_set(s);
}

/* The level is gone from window or store: what is behind the last one comes into sight. */
static void visible_remove(oc_book_side *s, int64_t key)
{
    uint32_t rank = visible_find(s, key), last = s->count - 1;
    int64_t worst = s->sign * s->level[last].ticks;
    memmove(&s->level[rank], &s->level[rank + 1], (size_t)(last - rank) * sizeof *s->level);
    s->count = last;
    if (s->depth > last)
        s->level[s->count++] = last < s->near ? near_level(s, near_below(s, worst))
                                              : *far_at(s, far_count(s) - 1 - (last - s->near));
    edge_set(s);
}

/* ---- one level -------------------------------------------------------------------------------------------------- */

/* at: its place in the store, where it is there. */
static void level_remove(oc_book_side *s, int64_t key, uint32_t at)
{
    if (key >= s->low) near_remove(s, key);
    else memmove(far_at(s, at), far_at(s, at + 1), (size_t)(far_count(s) - 1 - at) * sizeof *s->store);
    s->depth--;
    if (key >= s->edge) visible_remove(s, key);
}

static int64_t worst_key(const oc_book_side *s)
{
    return far_count(s) ? far_key(s, 0) : near_from(s, s->low);
}

/* The worst level falls off; it is not visible, because the depth is over the visible count. */
static void worst_drop(oc_book_side *s)
{
    s->horizon = worst_key(s);
    if (far_count(s)) s->first++;
    else near_remove(s, s->horizon);
    s->depth--;
}

static void level_add(oc_book *b, oc_book_side *s, int64_t key, oc_book_level level)
{
    if (s->depth == OC_BOOK_DEPTH) {
        b->dropped++;
        if (key < worst_key(s)) {               /* itself the worst */
            s->horizon = key;
            return;
        }
        worst_drop(s);
    }
    if (s->depth == 0) s->low = aligned(key - BELOW);
    if (key >= s->low && !in_window(s, key)) window_raise(s, key);
    if (key >= s->low) {
        near_add(s, level);
    } else {
        uint32_t far = far_count(s), at = far_find(s, key);
        far_room(s, far, 1);
        memmove(far_at(s, at + 1), far_at(s, at), (size_t)(far - at) * sizeof *s->store);
        *far_at(s, at) = level;
    }
    s->depth++;
    if (key >= s->edge) visible_insert(s, level);
}

/* The size at `key`, NULL: there is no such level. at: as above. */
static int64_t *level_find(oc_book_side *s, int64_t key, uint32_t *at)
{
    if (in_window(s, key)) return bit_get(s, key) ? &s->lots[slot_of(key)] : NULL;
    if (key >= s->low) return NULL;
    *at = far_find(s, key);
    return *at < far_count(s) && far_key(s, *at) == key ? &far_at(s, *at)->lots : NULL;
}

/* Out of the way of the common case, which needs no register saved. */
__attribute__((noinline)) static void level_change(oc_book *b, oc_book_side *s, int64_t key, oc_book_level level)
{
    uint32_t at = 0;
    int64_t *there = level_find(s, key, &at);
    if (there && level.lots > 0) {
        *there = level.lots;
        if (key >= s->edge) s->level[visible_find(s, key)].lots = level.lots;
    } else if (there) {
        level_remove(s, key, at);
    } else if (key <= s->horizon) {
        b->dropped++;
    } else if (level.lots > 0) {
        level_add(b, s, key, level);
    }
    if (key >= s->low || s->count == 0) return;
    /* Work in the store while the window lies above the market: bring it down. */
    int64_t best = s->sign * s->level[0].ticks;
    if (best < s->low + ABOVE) window_lower(s, best);
}

/* Most changes give another size to a level that is not visible. */
static inline void side_set(oc_book *b, oc_book_side *s, int64_t ticks, int64_t lots)
{
    int64_t key = s->sign * ticks;
    if (lots > 0 && key < s->edge && in_window(s, key) && bit_get(s, key)) s->lots[slot_of(key)] = lots;
    else level_change(b, s, key, (oc_book_level){ticks, lots});
}

int64_t oc_book_lots(const oc_book_side *s, int64_t ticks)
{
    int64_t key = s->sign * ticks;
    if (in_window(s, key)) return bit_get(s, key) ? s->lots[slot_of(key)] : 0;
    if (key >= s->low) return 0;
    uint32_t at = far_find(s, key);
    return at < far_count(s) && far_key(s, at) == key ? s->store[s->first + at].lots : 0;
}

/* ---- packed ----------------------------------------------------------------------------------------------------- */

enum { SIDE_HEAD = offsetof(oc_book_side, map), BOOK_TAIL = sizeof(oc_book) - offsetof(oc_book, dropped) };

static size_t side_pack(unsigned char *to, const oc_book_side *s)
{
    uint32_t far = far_count(s);
    if (!to) return SIDE_HEAD + s->depth * sizeof *s->store;
    memcpy(to, s, SIDE_HEAD);
    memcpy(to + SIDE_HEAD, &s->store[s->first], far * sizeof *s->store);
    int64_t key = s->low;
    for (uint32_t i = far; i < s->depth; i++, key++) {
        key = near_from(s, key);
        const oc_book_level level = near_level(s, key);
        memcpy(to + SIDE_HEAD + i * sizeof level, &level, sizeof level);
    }
    return SIDE_HEAD + s->depth * sizeof *s->store;
}

static size_t side_unpack(oc_book_side *s, const unsigned char *from)
{
    memset(s->map, 0, sizeof s->map);
    memcpy(s, from, SIDE_HEAD);
    uint32_t far = far_count(s);
    s->first = 0;
    memcpy(s->store, from + SIDE_HEAD, far * sizeof *s->store);
    s->near = 0;
    for (uint32_t i = far; i < s->depth; i++) {
        oc_book_level level;
        memcpy(&level, from + SIDE_HEAD + i * sizeof level, sizeof level);
        near_add(s, level);
    }
    return SIDE_HEAD + s->depth * sizeof *s->store;
}

size_t oc_book_pack(const oc_book *b, unsigned char *to)
{
    size_t bid = side_pack(to, &b->bid), ask = side_pack(to ? to + bid : NULL, &b->ask);
    if (to) memcpy(to + bid + ask, &b->dropped, BOOK_TAIL);
    return bid + ask + BOOK_TAIL;
}

size_t oc_book_unpack(oc_book *b, const unsigned char *from)
{
    size_t bid = side_unpack(&b->bid, from), ask = side_unpack(&b->ask, from + bid);
    memcpy(&b->dropped, from + bid + ask, BOOK_TAIL);
    return bid + ask + BOOK_TAIL;
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static void book_clear(oc_book *b)
{
    side_clear(&b->bid, 1);
    side_clear(&b->ask, -1);
}

static inline void level_apply(oc_book *b, const oc_event *event)
{
    if (b->stale) b->ignored++;
    else if (event->side == OC_SIDE_BUY) side_set(b, &b->bid, event->as.price.ticks, event->as.price.lots);
    else if (event->side == OC_SIDE_SELL) side_set(b, &b->ask, event->as.price.ticks, event->as.price.lots);
}

void oc_book_levels(oc_book *b, const oc_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) level_apply(b, &events[i]);
}

void oc_book_apply(oc_book *b, const oc_event *event)
{
    if (event->kind == OC_EVENT_LEVEL && !event->flags) {    /* within a packet */
        level_apply(b, event);
        return;
    }
    if (event->kind == OC_EVENT_SNAPSHOT && !b->snapshot_open) {
        book_clear(b);
        b->snapshot_open = true;
        b->stale = false;
    }
    if (event->kind == OC_EVENT_LEVEL && (event->flags & OC_EVENT_GAP_BEFORE)) {
        book_clear(b);
        b->stale = true;
    }
    if (event->kind == OC_EVENT_LEVEL || event->kind == OC_EVENT_SNAPSHOT) level_apply(b, event);
    if (event->flags & OC_EVENT_LAST) b->snapshot_open = false;
}

bool oc_book_quoted(const oc_book *b)
{
    return !b->stale && b->bid.depth <= 1 && b->ask.depth <= 1;
}

bool oc_book_quote(oc_book *b, const oc_event *event)
{
    if (!oc_book_quoted(b)) return false;
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
