/* import.h - market data files to `.events`. A format is one row of the table in import.c and one file import_*.c.
 *
 * What is wrong in the input is refused line by line, counted by reason and reported with file:line; nothing is
 * repaired. The event after refused input carries OC_EVENT_GAP_BEFORE. More than max_rejected of the lines refused:
 * OC_EDATA, and the output keeps its old content. Inputs packed as .xz or .gz (known by their first bytes) are read
 * as they are. Several inputs are one stream, in the order given. */
#ifndef OC_MARKET_IMPORT_H
#define OC_MARKET_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/progress.h"
#include "base/status.h"
#include "market/event.h"
#include "market/instrument.h"

enum { OC_IMPORT_PLACES = 3, OC_IMPORT_NOTES_MAX = 24, OC_IMPORT_NOTE_BYTES = 256 };

/* Why a line may be refused; the text is what the report says. */
#define OC_IMPORT_REASONS(X)                                                                                           \
    X(FIELDS, "malformed: fields are missing or too many")                                                             \
    X(NUMBER, "malformed number (NaN, infinity, text, over 18 digits)")                                                \
    X(TIME, "malformed time")                                                                                          \
    X(TIME_ZERO, "a time of 0 or before 1970")                                                                         \
    X(TIME_GAP, "a local time that the time zone skips")                                                               \
    X(TIME_BACK, "time goes back")                                                                                     \
    X(DUPLICATE, "duplicate")                                                                                          \
    X(OVERLAP, "begins before the bar before it ended")                                                                \
    X(PRICE, "a price that is not positive")                                                                           \
    X(SIZE, "a size that is negative, or zero where none may be")                                                      \
    X(RANGE, "open or close outside low to high")                                                                      \
    X(CROSSED, "crossed: bid not below ask")                                                                           \
    X(LEVELS, "book levels out of order or doubled")                                                                   \
    X(TICK, "a price that is no multiple of the tick, or too large for it")                                            \
    X(LOT, "a size that is no multiple of the lot, or too large for it")                                               \
    X(LONG, "a line over the length limit")                                                                            \
    X(BYTES, "control bytes in a line")                                                                                \
    X(JSON, "malformed JSON, or not of this format")                                                                   \
    X(SYMBOL, "another symbol")                                                                                        \
    X(KIND, "an unknown message type")

typedef enum oc_import_reason {
#define OC_IMPORT_REASON_ENUM(name, text) OC_REFUSED_##name,
    OC_IMPORT_REASONS(OC_IMPORT_REASON_ENUM)
#undef OC_IMPORT_REASON_ENUM
    OC_REFUSED_COUNT
} oc_import_reason;

typedef struct oc_import_input {
    const char *name;                          /* path, or what messages call the buffer */
    const void *data;                          /* NULL: the file `name` is read */
    size_t bytes;
} oc_import_input;

/* Texts are as on the command line; NULL: not given. */
typedef struct oc_import_options {
    const char *format, *symbol, *source_symbol;
    const char *tick, *lot, *order_tick;
    const char *timezone, *bar, *stamp, *date;
    const char *columns, *delimiter, *time_format;
    int64_t arrival_delay_ns, gap_bars;
    double max_rejected;
    bool float_noise;                          /* 0.30000000000000004 is 0.3: needs tick and lot; counted */
} oc_import_options;
void oc_import_options_init(oc_import_options *options);       /* gap_bars 72, max_rejected 0.01, delay 0 */

typedef struct oc_import_place { char where[192]; uint64_t line; } oc_import_place;

typedef struct oc_import_report {
    oc_instrument instrument;
    bool tick_found, lot_found;                /* from the data, not given */
    uint64_t lines, rejected, events, packets;
    uint64_t reasons[OC_REFUSED_COUNT];
    oc_import_place places[OC_REFUSED_COUNT][OC_IMPORT_PLACES];
    uint64_t gaps, session_breaks, missing_bars, crossed;      /* crossed: packets after which the book was */
    uint64_t denoised;                         /* numbers taken as the multiple they lie at, by float_noise */
    uint64_t ambiguous_times;                  /* local times that the zone has twice; resolved by order */
    uint64_t offsets;                          /* events with both clocks */
    int64_t offset_min_ns, offset_median_ns, offset_max_ns;    /* receive - exchange */
    int64_t first_ns, last_ns;
    uint32_t note_count;
    char notes[OC_IMPORT_NOTES_MAX][OC_IMPORT_NOTE_BYTES];     /* what was assumed or found, a sentence each */
} oc_import_report;

const char *oc_import_reason_text(oc_import_reason reason);

/* Where events go: an `.events` file in oc_import_run; anything in oc_import_scan (tests, fuzzing). */
typedef oc_status (*oc_import_sink)(void *context, const oc_event *events, size_t count);

/* Fills *report also on failure, as far as it got. `progress` may be NULL. */
OC_MUST oc_import_run(const oc_import_options *options, const oc_import_input *inputs, size_t input_count,
                      const char *out, oc_import_report *report, oc_progress *progress);
OC_MUST oc_import_scan(const oc_import_options *options, const oc_import_input *inputs, size_t input_count,
                       oc_import_sink sink, void *context, oc_import_report *report, oc_progress *progress);

size_t oc_import_format_count(void);
const char *oc_import_format_name(size_t index);
const char *oc_import_format_help(size_t index);

#endif
