/* test_book.c - random events against a naive book (an unsorted list that is searched in full).
 * Would catch: a level shown that is gone, a wrong size, wrong order, a level invented after the deep ones were
 * dropped, levels that survive a snapshot or a gap. The harness is proven by a corrupted event, which must be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "market/book.h"

enum { NAIVE_MAX = 20000 };

typedef struct naive_side { oc_book_level level[NAIVE_MAX]; size_t count; } naive_side;

typedef struct book_case {
    const char *name;
    uint64_t seed;
    int events;
    uint32_t span;                              /* prices lie within +- span of the middle */
    int removals, snapshot_every, near;         /* percent; events; percent near the best */
    int stride, drift;                          /* ticks between prices; ticks that the middle moves in 100 events */
    int corrupt_at;                             /* from this event on sizes differ for one of the two: must be found */
} book_case;

static const book_case cases[] = {
    {"few levels", 1, 200000, 20, 40, 5000, 0, 1, 0, 0},
    {"around the visible end", 2, 200000, 150, 45, 0, 0, 1, 0, 0},
    {"deep, never full", 3, 60000, 4000, 30, 20000, 30, 1, 0, 0},
    {"wider than the window", 5, 30000, 60000, 60, 7000, 50, 1, 0, 0},
    {"the market rises through it", 6, 40000, 3000, 45, 9000, 60, 1, 150, 0},
    {"and falls", 7, 40000, 3000, 45, 9000, 60, 1, -150, 0},
    {"far apart: few in the window", 8, 60000, 300, 45, 20000, 30, 1000, 0, 0},
    {"none in it, and moving", 9, 40000, 200, 45, 9000, 60, 20000, 20000, 0},
    {"around zero", 10, 40000, 120, 45, 9000, 60, 5000, -25000, 0},
    {"injected fault", 4, 20000, 100, 40, 0, 0, 1, 0, 10000},
};

static oc_book book;
static naive_side naive[2];

static void naive_set(naive_side *s, int64_t ticks, int64_t lots)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->level[i].ticks != ticks) continue;
        if (lots > 0) s->level[i].lots = lots;
        else s->level[i] = s->level[--s->count];
        return;
    }
    if (lots > 0) s->level[s->count++] = (oc_book_level){ticks, lots};
}

static int level_descends(const void *a, const void *b)
{
    int64_t x = ((const oc_book_level *)a)->ticks, y = ((const oc_book_level *)b)->ticks;
    return (x < y) - (x > y);
}

/* Every kept level can be asked for, and nothing else. */
static int deep_same(const oc_book_side *s, const naive_side *n, int stride)
{
    if (s->depth != n->count) return 0;
    for (size_t i = 0; i < n->count; i++) {
        const oc_book_level *l = &n->level[i];
        if (oc_book_lots(s, l->ticks) != l->lots) return 0;
        bool next = i > 0 && n->level[i - 1].ticks == l->ticks + stride; /* sorted, best bid first */
        if (i > 0 && !next && oc_book_lots(s, l->ticks + stride) != 0) return 0;
    }
    return 1;
}

/* The same book again from its packed bytes; what it does from then on is the rest of the run. */
static int repacked(void)
{
    static unsigned char bytes[2 * sizeof book], again[2 * sizeof book];
    static oc_book other;
    size_t count = oc_book_pack(&book, bytes);
    memset(&other, 0x55, sizeof other);
    int whole = oc_book_pack(&book, NULL) == count && oc_book_unpack(&other, bytes) == count;
    whole &= oc_book_pack(&other, again) == count;
    memcpy(&book, &other, sizeof book);
    return whole;
}

/* 1 where the visible levels of both books are the same. */
static int side_same(const oc_book_side *s, naive_side *n, int sign)
{
    qsort(n->level, n->count, sizeof *n->level, level_descends);
    size_t visible = n->count < OC_BOOK_LEVELS ? n->count : OC_BOOK_LEVELS;
    if (s->count != visible) return 0;
    for (size_t i = 0; i < visible; i++) {
        oc_book_level expected = n->level[sign > 0 ? i : n->count - 1 - i];
        if (s->level[i].ticks != expected.ticks || s->level[i].lots != expected.lots) return 0;
    }
    return 1;
}

static oc_event event_draw(const book_case *c, uint32_t key, uint64_t i)
{
    uint64_t r = oc_random_philox(key, 4 * i), q = oc_random_philox(key, 4 * i + 1);
    oc_event e = {.kind = OC_EVENT_LEVEL, .flags = OC_EVENT_LAST, .side = r & 1 ? OC_SIDE_BUY : OC_SIDE_SELL};
    uint32_t span = (int)(q % 100) < c->near ? 40 : c->span;
    int64_t offset = (int64_t)oc_random_below(key, 4 * i + 2, span);
    int64_t middle = 100000 + (int64_t)(i / 100) * c->drift;
    e.as.price.ticks = middle + c->stride * (e.side == OC_SIDE_BUY ? -1 - offset : offset);
    e.as.price.lots = (int)(r >> 8 & 0xffff) % 100 < c->removals ? 0 : (int64_t)(q >> 32 & 0xff) + 1;
    if (c->snapshot_every && i % (uint64_t)c->snapshot_every == 0) e.kind = OC_EVENT_SNAPSHOT;
    return e;
}

static int case_run(const book_case *c)
{
    uint32_t key = oc_random_key(c->seed, OC_RANDOM_TEST, 0, 0);
    oc_book_init(&book);
    naive[0].count = naive[1].count = 0;
    for (int i = 0; i < c->events; i++) {
        oc_event e = event_draw(c, key, (uint64_t)i);
        if (e.kind == OC_EVENT_SNAPSHOT) naive[0].count = naive[1].count = 0;
        naive_set(&naive[e.side == OC_SIDE_SELL], e.as.price.ticks, e.as.price.lots);
        if (c->corrupt_at && i >= c->corrupt_at && e.as.price.lots > 0) e.as.price.lots++;
        oc_book_apply(&book, &e);
        if (i % 97 == 0 && (!side_same(&book.bid, &naive[0], 1) || !side_same(&book.ask, &naive[1], -1))) return 0;
        bool deep = i % 997 == 0 && !c->corrupt_at;
        if (deep && !(side_same(&book.bid, &naive[0], 1) && deep_same(&book.bid, &naive[0], c->stride))) return 0;
        if (deep && !(side_same(&book.ask, &naive[1], -1) && deep_same(&book.ask, &naive[1], c->stride))) return 0;
        if (i % 5003 == 0 && !repacked()) return 0;
    }
    return side_same(&book.bid, &naive[0], 1) && side_same(&book.ask, &naive[1], -1) && book.dropped == 0;
}

static void equals_naive(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int same = case_run(&cases[i]);
        print_message("%s: seed %llu, %d events: %s\n", cases[i].name, (unsigned long long)cases[i].seed,
                      cases[i].events, same ? "equal" : "different");
        assert_int_equal(same, cases[i].corrupt_at == 0);
    }
}

static void apply(uint8_t kind, uint8_t side, int64_t ticks, int64_t lots, uint8_t flags)
{
    oc_event e = {.kind = kind, .side = side, .flags = flags, .as.price = {ticks, lots}};
    oc_book_apply(&book, &e);
}

/* Filled beyond its depth with ever worse prices, then emptied from the best: what stays is a prefix, never a level
 * behind a hole. */
static void drop_and_empty(int64_t top, int64_t stride)
{
    oc_book_init(&book);
    for (int i = 0; i < OC_BOOK_DEPTH + 10; i++) apply(OC_EVENT_LEVEL, OC_SIDE_BUY, top - i * stride, 1, OC_EVENT_LAST);
    assert_true(book.dropped == 10);
    assert_true(book.bid.depth == OC_BOOK_DEPTH);
    apply(OC_EVENT_LEVEL, OC_SIDE_BUY, top + stride, 5, OC_EVENT_LAST);          /* pushes one more off */
    assert_true(book.bid.level[0].ticks == top + stride && book.dropped == 11);
    for (int i = -1; i < OC_BOOK_DEPTH - 3; i++) apply(OC_EVENT_LEVEL, OC_SIDE_BUY, top - i * stride, 0, OC_EVENT_LAST);
    assert_int_equal(book.bid.depth, 2);
    /* beyond the horizon; dropped once: unknown */
    apply(OC_EVENT_LEVEL, OC_SIDE_BUY, top - (OC_BOOK_DEPTH + 50) * stride, 9, OC_EVENT_LAST);
    apply(OC_EVENT_LEVEL, OC_SIDE_BUY, top - (OC_BOOK_DEPTH - 1) * stride, 9, OC_EVENT_LAST);
    assert_int_equal(book.bid.count, 2);
    apply(OC_EVENT_SNAPSHOT, OC_SIDE_BUY, 5, 9, OC_EVENT_LAST);            /* a snapshot ends the horizon */
    assert_true(book.bid.count == 1 && book.bid.level[0].ticks == 5);
}

static void dropped_levels_are_not_invented(void **state)
{
    static const int64_t strides[] = {1, 3, 5, 1000, 100000}; /* in the window, at its end, below it */
    (void)state;
    for (size_t i = 0; i < sizeof strides / sizeof *strides; i++) drop_and_empty(1000000000, strides[i]);
}

static void gap_empties_until_snapshot(void **state)
{
    (void)state;
    oc_book_init(&book);
    apply(OC_EVENT_SNAPSHOT, OC_SIDE_BUY, 99, 1, 0);
    apply(OC_EVENT_SNAPSHOT, OC_SIDE_SELL, 101, 1, OC_EVENT_LAST);
    assert_true(oc_book_two_sided(&book) && !oc_book_crossed(&book));
    apply(OC_EVENT_TRADE, OC_SIDE_BUY, 101, 1, OC_EVENT_LAST | OC_EVENT_GAP_BEFORE);
    assert_true(oc_book_two_sided(&book));
    apply(OC_EVENT_LEVEL, OC_SIDE_BUY, 100, 1, OC_EVENT_LAST | OC_EVENT_GAP_BEFORE);
    assert_true(!oc_book_two_sided(&book) && book.stale && book.bid.count == 0);
    apply(OC_EVENT_LEVEL, OC_SIDE_SELL, 101, 1, OC_EVENT_LAST);
    assert_true(book.ask.count == 0 && book.ignored == 2);
    apply(OC_EVENT_SNAPSHOT, OC_SIDE_BUY, 98, 3, 0);
    apply(OC_EVENT_SNAPSHOT, OC_SIDE_SELL, 97, 3, OC_EVENT_LAST);
    assert_true(!book.stale && oc_book_crossed(&book));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_naive),
        cmocka_unit_test(dropped_levels_are_not_invented),
        cmocka_unit_test(gap_empties_until_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
