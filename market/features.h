/* features.h - the one feature engine: dataset, backtest and live loop run this code, one event at a time.
 *
 * One engine per stream of events, with its universe of instruments, so that cross-instrument features see one order.
 * A feature is one row in the table of features.def: name, group, parameters, declared history {events, ns}, missing
 * rule, init and update, formula source. Allocation-free after open.
 *
 * Rows: the sampling rule says when a row is made (`packet`: after the last event of each packet of an instrument;
 * `packet:N`: after every Nth; `bar`: after each bar; `trade:N`). A row's x is always finite: what is missing is
 * imputed by the feature's rule and marked in `mask`; run_length counts valid rows in a row since the last gap,
 * session break, crossed book or missing `required` feature. A window of T rows exists iff run_length >= T.
 * A crossed book makes a row of run_length 0 with every column masked. A one-sided book, or a price outside (0, 2^40)
 * ticks, has no mid: no row is made and run_length restarts. A gap restarts every window of its instrument; a session
 * break restarts run_length alone (windows of prices go on across the night). QUOTE events are a book of one level;
 * where an instrument's book has more levels or waits for a snapshot, its quotes are left out and make no row.
 *
 * History: begin a run right after any row of an instrument, with the books of that moment (oc_features_set_book; a
 * live feed sends a snapshot), and let s be that instrument's first row of the run. Each later row t with
 * t - s >= history_events and time(t) - time(s) >= history_ns has the same bits as in a run that began earlier. More
 * than that: a column that is not masked is right, because until its history is there it is masked (recursive averages
 * wait for the next boundaries of their period, up to 2 of them). Where the stream itself begins (a dataset's first
 * event, not a restart) call oc_features_begin: averages then begin at once, valid after their minimum of samples.
 *
 * Window sums are exact integers (ticks, lots, fixed-point returns); recursive averages are two overlapped
 * accumulators that begin at fixed multiples of the feature's own clock (rows' time), so a value depends on a bounded
 * history and never jumps. No raw price level is ever a feature: differences and ratios only. */
#ifndef OC_MARKET_FEATURES_H
#define OC_MARKET_FEATURES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "base/hash.h"
#include "base/status.h"
#include "market/book.h"
#include "market/event.h"
#include "market/instrument.h"

enum { OC_FEATURES_MAX = 256 };

typedef enum {
    OC_FEATURE_PRICE,
    OC_FEATURE_AVERAGE,
    OC_FEATURE_MOMENTUM,
    OC_FEATURE_VOLATILITY,
    OC_FEATURE_PATTERN,
    OC_FEATURE_BOOK,
    OC_FEATURE_FLOW,
    OC_FEATURE_STATISTICS,
    OC_FEATURE_TIME,
    OC_FEATURE_CROSS
} oc_feature_group;
typedef enum { OC_MISSING_REQUIRED, OC_MISSING_IMPUTE } oc_missing_rule;

typedef struct oc_feature_info {
    char name[64];                             /* column: "ema_gap:20" as configured */
    oc_feature_group group;
    const char *group_name, *source, *help;
    char parameters[32];
    uint32_t history_events;                   /* rows of this instrument */
    int64_t history_ns;
    oc_missing_rule missing;
    float imputed;                             /* the value that stands where it is missing */
} oc_feature_info;

typedef struct oc_feature_row {
    int64_t time_ns;                           /* receive_ns of the event that made the row */
    uint32_t instrument, run_length;
    const uint64_t *mask;                      /* bit f: column f was imputed */
    const float *x;                            /* [width], finite; engine's until the next apply */
    double mid, spread;                        /* price units; bars: close and the configured spread */
} oc_feature_row;

typedef struct oc_feature_spec {
    const char *const *features; /* "ema_gap:20"; "group:book" takes every row of a group with defaults; "all" */
    size_t feature_count;
    const char *sample;                        /* "packet", "packet:N", "bar", "trade:N" */
    double bar_spread;                         /* price units, for bars; dataset stamps it "assumed" */
    int64_t row_ns;                            /* mean time between rows, closed hours included: sets the periods of
                                                  recursive averages (features_recursive.c). 0: 100 ms a packet, 1 s a
                                                  trade, 1 min a bar. Bars of another length must say it */
} oc_feature_spec;

typedef struct oc_features oc_features;
OC_MUST oc_features_open(oc_features **out, const oc_feature_spec *spec, const oc_instrument *universe,
                         size_t instruments);
/* unknown names: OC_ECONFIG with the nearest known name */
void oc_features_close(oc_features *e);
/* Another universe in the memory of this engine: at most as many instruments as at open (OC_ELIMIT), the same columns;
 * its schema from now on. No allocation. Each of its instruments is as after open once oc_features_reset_one was called
 * for it; until then it must get no event. */
OC_MUST oc_features_set_universe(oc_features *e, const oc_instrument *universe, size_t instruments);
void oc_features_reset_one(oc_features *e, size_t instrument);
void oc_features_reset(oc_features *e);        /* as after open */
/* After open or reset, before the first event: nothing comes before these events in any run. */
void oc_features_begin(oc_features *e);
/* The book of an instrument now (NULL with bars), and the hand-over of a book to a run that begins late. */
const oc_book *oc_features_book(const oc_features *e, size_t instrument);
void oc_features_set_book(oc_features *e, size_t instrument, const oc_book *book);
/* Another's book (borrowed) instead of an own one: its owner gives it each event before apply. NULL: from now on an own
 * one again, which begins as that book is. Nothing with bars. State is saved with an own book alone. */
void oc_features_share_book(oc_features *e, size_t instrument, const oc_book *book);
size_t oc_features_width(const oc_features *e);
oc_hash oc_features_schema(const oc_features *e); /* names, parameters, engine version, sampling, universe, order */
const oc_feature_info *oc_features_info(const oc_features *e, size_t column);
/* *row NULL: this event made no row. Fails only for events that oc_event_reader would have refused. */
OC_MUST oc_features_apply(oc_features *e, const oc_event *event, const oc_feature_row **row);
/* LEVEL events without flags of one instrument, as they lie within a packet: the same as one after another. */
OC_MUST oc_features_levels(oc_features *e, const oc_event *events, size_t count);
uint32_t oc_features_history_events(const oc_features *e);     /* largest over all columns */
int64_t oc_features_history_ns(const oc_features *e);
size_t oc_features_state_bytes(const oc_features *e);
OC_MUST oc_features_save(const oc_features *e, void *state, size_t state_cap, size_t *state_bytes);
OC_MUST oc_features_load(oc_features *e, const void *state, size_t state_bytes); /* refuses another schema: OC_EDATA */

void oc_features_list(FILE *out);              /* the table as documentation: `outcry doctor --features` */
size_t oc_features_table_count(void);          /* rows of the table */
const char *oc_features_table_name(size_t index);

#endif
