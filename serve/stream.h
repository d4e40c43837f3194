/* stream.h - one stream of ticks: a feature engine over the stream's universe, fed one event at a time, each looked at
 * before the engine sees it. Knows no session and no reply but their states: what the batcher does with the rows stands
 * in batcher_ticks.c. Memory is taken in open, for the largest universe; nothing is allocated afterwards. One thread.
 *
 * An event that is none, or does not come behind the one before, is refused; what was asked with it is dropped, and the
 * stream goes on with a gap: the next event of every instrument is the first behind it (OC_EVENT_GAP_BEFORE), and a
 * book of levels is unknown until a snapshot.
 *
 * A stream that does not say that it begins (OC_STREAM_BEGINS) gives run_length 0 until the declared history lies
 * behind a row (market/features.h), and counts from 1 from there on: what it answers is what a run from the first event
 * would have answered. Until a snapshot its books are unknown. */
#ifndef OC_SERVE_STREAM_H
#define OC_SERVE_STREAM_H

#include "market/features.h"
#include "nn/bundle.h"
#include "serve/client/wire.h"

typedef struct oc_stream_config { /* what a bundle does not say of its features, but their hash covers */
    const char *sample;           /* oc_feature_spec */
    double bar_spread;
    int64_t row_ns;
    int streams, instruments_max; /* streams of a batcher, 0: none; instruments of a stream */
    size_t memory_max_bytes;      /* of the streams of a batcher */
} oc_stream_config;

typedef struct oc_stream_seat { /* of one instrument */
    uint64_t rows;              /* that the engine made */
    int64_t first_ns;           /* time of the second of them */
    uint32_t run, given;        /* of the last row: the engine's run_length, and what was given for it */
    bool gap, levels;           /* events were lost before its next one; it had a LEVEL or a SNAPSHOT */
} oc_stream_seat;

typedef struct oc_tick_stream {
    oc_features *engine;
    oc_instrument *universe; /* [instruments_max] */
    oc_stream_seat *seats;   /* [instruments_max] */
    oc_event *events;        /* [OC_WIRE_EVENTS_MAX]: of the request that is worked on; also the payload of an open */
    uint32_t instruments, instruments_max, count, at; /* at: of count, the next one */
    uint32_t history_rows;
    int64_t history_ns;
    oc_event previous; /* the last good one; as it came */
    bool any, begins;
    uint32_t last;             /* event; what it came to: */
    oc_reply_state state;      /* OC_REPLY_OK, OC_REPLY_HOLD_HISTORY, OC_REPLY_REFUSED_EVENT, OC_REPLY_REFUSED_ORDER */
    const oc_feature_row *row; /* NULL: it made none; the engine's, until the next event */
    uint32_t run_length;       /* of the row */
    uint32_t dropped;          /* events of the request that were refused, or stood behind one */
} oc_tick_stream;

/* OC_ECONFIG where the bundle's features are not those of this engine, or the memory is too small. */
OC_MUST oc_tick_stream_open(oc_tick_stream *t, const oc_bundle *bundle, const oc_stream_config *config);
void oc_tick_stream_close(oc_tick_stream *t);
size_t oc_tick_stream_bytes(const oc_tick_stream *t);
/* The universe as it came over the wire, checked: instruments behind `open` in t->events. OC_REPLY_REFUSED_SHAPE,
 * OC_REPLY_REFUSED_FULL (too many instruments), OC_REPLY_REFUSED_SCHEMA where the features of this universe have not
 * that hash. Then oc_tick_stream_reset, once for each instrument, before any event. */
oc_reply_state oc_tick_stream_begin(oc_tick_stream *t, const oc_wire_stream *open, oc_hash schema);
void oc_tick_stream_reset(oc_tick_stream *t, uint32_t instrument);
/* The next of `count` events; at < count. */
void oc_tick_stream_next(oc_tick_stream *t);

#endif
