/* naive_rows.h - rows of an event stream made a second time, naively: a book as an unsorted list, prices as doubles in
 * half ticks, sums in long double. Shares no code with the engine. */
#ifndef OC_TESTS_NAIVE_ROWS_H
#define OC_TESTS_NAIVE_ROWS_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "market/event.h"

enum { NAIVE_LEVELS = 512, NAIVE_TOP = 12 };

typedef struct naive_level { int64_t ticks, lots; } naive_level;
typedef struct naive_side { naive_level level[NAIVE_LEVELS]; int count; } naive_side;

typedef struct naive_row {
    double o, h, l, c, volume, sign_volume, trades, other; /* other: its log return since the row before, NaN: none */
    long double value3;
    double ofi, spread, bid_lots, ask_lots, depth;
    naive_level bid[NAIVE_TOP], ask[NAIVE_TOP];
    int bids, asks;
    int64_t time_ns;
    size_t start;                            /* index of the first row since the restart */
    bool crossed, two_sided;
} naive_row;

typedef struct naive_stream {
    naive_side side[2];
    bool snapshot, stale, quoted, opened;
    naive_level bid, ask;                    /* best, after the packet before */
    double open, high, low, price, other_price;
    double volume, sign_volume, trades, ofi;
    long double value3;
    long updates, other_updates, age;
    naive_row *rows;
    size_t count, start;
} naive_stream;

static void naive_set(naive_side *s, int64_t ticks, int64_t lots)
{
    for (int i = 0; i < s->count; i++) {
        if (s->level[i].ticks != ticks) continue;
        if (lots > 0) s->level[i].lots = lots;
        else s->level[i] = s->level[--s->count];
        return;
    }
    if (lots > 0 && s->count < NAIVE_LEVELS) s->level[s->count++] = (naive_level){ticks, lots};
}

static int naive_rising(const void *a, const void *b)
{
    int64_t x = ((const naive_level *)a)->ticks, y = ((const naive_level *)b)->ticks;
    return (x > y) - (x < y);
}

static void naive_book(naive_stream *s, const oc_event *e)
{
    if (e->kind == OC_EVENT_SNAPSHOT && !s->snapshot) {
        s->side[0].count = s->side[1].count = 0;
        s->snapshot = true;
    }
    naive_set(&s->side[e->side == OC_SIDE_SELL], e->as.price.ticks, e->as.price.lots);
}

static void naive_trade(naive_stream *s, const oc_event *e)
{
    double lots = (double)e->as.price.lots;
    if (lots <= 0) return;
    s->volume += lots;
    s->trades += 1;
    s->sign_volume += e->side == OC_SIDE_BUY ? lots : e->side == OC_SIDE_SELL ? -lots : 0;
    s->value3 += (long double)(6 * e->as.price.ticks) * (long double)lots;
}

/* e_n of [Cont14] written out by cases. */
static double naive_flow(naive_level b0, naive_level a0, naive_level b1, naive_level a1)
{
    double bid = b1.ticks > b0.ticks   ? (double)b1.lots
                 : b1.ticks < b0.ticks ? -(double)b0.lots
                                       : (double)(b1.lots - b0.lots);
    double ask = a1.ticks < a0.ticks   ? (double)a1.lots
                 : a1.ticks > a0.ticks ? -(double)a0.lots
                                       : (double)(a1.lots - a0.lots);
    return bid - ask;
}

/* Sorts copies of the sides into the row; false where a side is empty. */
static bool naive_look(naive_stream *s, naive_row *r)
{
    static naive_level b[NAIVE_LEVELS], a[NAIVE_LEVELS];
    int nb = s->side[0].count, na = s->side[1].count;
    memcpy(b, s->side[0].level, sizeof b);
    memcpy(a, s->side[1].level, sizeof a);
    qsort(b, (size_t)nb, sizeof *b, naive_rising);
    qsort(a, (size_t)na, sizeof *a, naive_rising);
    r->bids = nb < NAIVE_TOP ? nb : NAIVE_TOP;
    r->asks = na < NAIVE_TOP ? na : NAIVE_TOP;
    for (int i = 0; i < r->bids; i++) r->bid[i] = b[nb - 1 - i];
    for (int i = 0; i < r->asks; i++) r->ask[i] = a[i];
    return nb > 0 && na > 0;
}

static void naive_bar(naive_row *r, const oc_event *e, const naive_row *before)
{
    r->o = 2.0 * (double)e->as.bar.open_ticks;
    r->h = 2.0 * (double)e->as.bar.high_ticks;
    r->l = 2.0 * (double)e->as.bar.low_ticks;
    r->c = 2.0 * (double)e->as.bar.close_ticks;
    r->volume = (double)e->as.bar.volume_lots;
    r->sign_volume = !before || r->c == before->c ? 0.0 : r->c > before->c ? r->volume : -r->volume;
    r->value3 = (long double)(r->h + r->l + r->c) * (long double)r->volume;
}

/* Feeds one event of a stream sampled by packet or bar; returns the new row or NULL. `all`: the universe of two. */
static naive_row *naive_apply(naive_stream all[2], const oc_event *e)
{
    naive_stream *s = &all[e->instrument], *other = &all[e->instrument == 0];
    if (e->flags & OC_EVENT_GAP_BEFORE) {
        s->start = s->count;
        s->volume = s->sign_volume = s->trades = s->ofi = 0;
        s->value3 = 0;
        s->quoted = s->opened = false;
        s->other_price = (double)NAN;
        s->age = 100;
    }
    if (e->kind == OC_EVENT_TRADE) naive_trade(s, e);
    if (e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT) naive_book(s, e);
    if (!(e->flags & OC_EVENT_LAST)) return NULL;
    s->snapshot = false;
    naive_row *r = &s->rows[s->count];
    memset(r, 0, sizeof *r);
    if (e->kind == OC_EVENT_BAR) {
        naive_bar(r, e, s->count > s->start ? r - 1 : NULL);
        s->price = r->c;
    } else {
        if (!naive_look(s, r)) {
            s->quoted = false;
            return NULL;
        }
        r->crossed = r->bid[0].ticks >= r->ask[0].ticks;
        r->two_sided = !r->crossed;
        if (s->quoted && r->two_sided) s->ofi += naive_flow(s->bid, s->ask, r->bid[0], r->ask[0]);
        s->quoted = r->two_sided;
        s->bid = r->bid[0];
        s->ask = r->ask[0];
        s->price = (double)(s->bid.ticks + s->ask.ticks);
        r->o = r->h = r->l = r->c = s->price;
        r->volume = s->volume;
        r->sign_volume = s->sign_volume;
        r->trades = s->trades;
        r->value3 = s->value3;
        r->ofi = s->ofi;
        if (r->two_sided) {
            r->spread = 2.0 * (double)(s->ask.ticks - s->bid.ticks);
            r->bid_lots = (double)s->bid.lots;
            r->ask_lots = (double)s->ask.lots;
        }
        for (int i = 0; i < 10; i++)
            r->depth += (i < r->bids ? (double)r->bid[i].lots : 0) + (i < r->asks ? (double)r->ask[i].lots : 0);
        s->volume = s->sign_volume = s->trades = s->ofi = 0;
        s->value3 = 0;
    }
    s->updates++;
    r->time_ns = e->receive_ns;
    r->start = s->start;
    bool fresh = other->updates != s->other_updates;
    s->age = fresh ? 0 : s->age + 1;
    if (s->count == s->start && !fresh) s->age = 100;
    s->other_updates = other->updates;
    double price = s->age <= 4 && other->updates ? other->price : (double)NAN;
    r->other = s->count == s->start ? (double)NAN : log(price / s->other_price);
    s->other_price = price;
    s->count++;
    return r;
}

#endif
