/* feature_stream.h - random event streams for the tests of the feature engine: two instruments, books by packet with
 * snapshots, level changes and trades, or bars; with gaps, session breaks, silent spells, crossed and one-sided books,
 * zero sizes. Everything from a seed. */
#ifndef OC_TESTS_FEATURE_STREAM_H
#define OC_TESTS_FEATURE_STREAM_H

#include <stdbool.h>
#include <string.h>
#include "base/random.h"
#include "market/event.h"
#include "market/instrument.h"

typedef struct feature_stream {
    uint32_t key;
    uint64_t counter, sequence;
    int64_t time_ns, mid[2];
    bool bars, calm, need_snapshot[2];
    oc_event packet[64];
    int count, at;
} feature_stream;

static const oc_instrument stream_universe[2] = {
    {.symbol = "ONE", .tick = {1, -2, 0}, .lot = {1, 0, 0}, .order_tick = {1, -2, 0}},
    {.symbol = "TWO", .tick = {1, -4, 0}, .lot = {1, -3, 0}, .order_tick = {1, -4, 0}}};

static inline uint64_t stream_below(feature_stream *s, uint64_t bound)
{
    return oc_random_below(s->key, s->counter++, bound);
}

static inline void stream_init(feature_stream *s, uint64_t seed, bool bars, bool calm)
{
    memset(s, 0, sizeof *s);
    s->key = oc_random_key(seed, OC_RANDOM_TEST, 4, bars);
    s->bars = bars;
    s->calm = calm;
    s->mid[0] = 10000;
    s->mid[1] = 250000;
    s->need_snapshot[0] = s->need_snapshot[1] = true;
}

static inline oc_event *stream_add(feature_stream *s, uint32_t instrument, oc_event_kind kind)
{
    oc_event *e = &s->packet[s->count++];
    memset(e, 0, sizeof *e);
    e->receive_ns = s->time_ns;
    e->sequence = ++s->sequence;
    e->instrument = instrument;
    e->kind = (uint8_t)kind;
    return e;
}

static inline void stream_level(feature_stream *s, uint32_t i, oc_event_kind kind, int side, int64_t ticks,
                                int64_t lots)
{
    oc_event *e = stream_add(s, i, kind);
    e->side = (uint8_t)side;
    e->as.price.ticks = ticks;
    e->as.price.lots = lots;
}

static inline void stream_snapshot(feature_stream *s, uint32_t i)
{
    for (int k = 0; k < 12; k++) {
        stream_level(s, i, OC_EVENT_SNAPSHOT, OC_SIDE_BUY, s->mid[i] - 1 - 2 * k, 1 + (int64_t)stream_below(s, 50));
        stream_level(s, i, OC_EVENT_SNAPSHOT, OC_SIDE_SELL, s->mid[i] + 1 + 2 * k, 1 + (int64_t)stream_below(s, 50));
    }
    s->need_snapshot[i] = false;
}

static inline void stream_book(feature_stream *s, uint32_t i)
{
    uint64_t what = stream_below(s, 1000);
    if (s->need_snapshot[i] || what < 15) {
        stream_snapshot(s, i);
        return;
    }
    int64_t step = (int64_t)stream_below(s, 5) - 2;
    s->mid[i] += step;
    int changes = 1 + (int)stream_below(s, 4);
    for (int k = 0; k < changes; k++) {
        int side = stream_below(s, 2) ? OC_SIDE_BUY : OC_SIDE_SELL;
        int64_t away = 1 + (int64_t)stream_below(s, 12), lots = (int64_t)stream_below(s, 40);
        stream_level(s, i, OC_EVENT_LEVEL, side, side == OC_SIDE_BUY ? s->mid[i] - away : s->mid[i] + away, lots);
    }
    /* keep the two sides apart, except now and then */
    if (what >= 25) {
        for (int64_t t = -3; t <= 0; t++) {
            stream_level(s, i, OC_EVENT_LEVEL, OC_SIDE_SELL, s->mid[i] + t, 0);
            stream_level(s, i, OC_EVENT_LEVEL, OC_SIDE_BUY, s->mid[i] - t, 0);
        }
    }
    if (what < 400) {
        stream_level(s, i, OC_EVENT_TRADE, (int)stream_below(s, 3), s->mid[i] + (int64_t)stream_below(s, 3) - 1,
                     (int64_t)stream_below(s, 20));
    }
}

static inline void stream_bar(feature_stream *s, uint32_t i)
{
    int64_t open = s->mid[i] + (int64_t)stream_below(s, 3) - 1, close = open + (int64_t)stream_below(s, 21) - 10;
    int64_t high = (open > close ? open : close) + (int64_t)stream_below(s, 6);
    int64_t low = (open < close ? open : close) - (int64_t)stream_below(s, 6);
    if (stream_below(s, 20) == 0) open = close = high = low = s->mid[i];
    if (low < 1) low = open = close = high = 1000;
    s->mid[i] = close;
    oc_event *e = stream_add(s, i, OC_EVENT_BAR);
    e->as.bar.open_ticks = open;
    e->as.bar.high_ticks = high;
    e->as.bar.low_ticks = low;
    e->as.bar.close_ticks = close;
    e->as.bar.volume_lots = stream_below(s, 8) ? (int64_t)stream_below(s, 1000) : 0;
}

static inline oc_event stream_next(feature_stream *s)
{
    if (s->at < s->count) return s->packet[s->at++];
    s->count = s->at = 0;
    uint32_t i = (uint32_t)stream_below(s, 2);
    s->time_ns += 1 + (int64_t)stream_below(s, 2000000);                 /* 1 ms on average */
    uint64_t what = s->calm ? 1000 : stream_below(s, 1000);
    if (what < 3) s->time_ns += (int64_t)stream_below(s, 2000) * 1000000;         /* a silent spell */
    bool gap = what == 3 && stream_below(s, 3) == 0;
    if (gap) s->need_snapshot[i] = true;
    if (s->bars) stream_bar(s, i);
    else stream_book(s, i);
    if (gap) s->packet[0].flags |= OC_EVENT_GAP_BEFORE;
    if (what == 4) s->packet[0].flags |= OC_EVENT_SESSION_BREAK;
    s->packet[s->count - 1].flags |= OC_EVENT_LAST;
    return s->packet[s->at++];
}

#endif
