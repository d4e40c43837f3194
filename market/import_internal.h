/* import_internal.h - what the formats share: options as values, one packet in the making, refusals, the two passes.
 *
 * Where tick or lot is not given, an import reads its input twice. In the first pass (`measuring`) a format only reads
 * the numbers of each line and calls oc_import_measured(); the second makes events. A function of a format that looks
 * at a line returns false when it refused it; oc_import_refuse() counts only in the second pass. */
#ifndef OC_MARKET_IMPORT_INTERNAL_H
#define OC_MARKET_IMPORT_INTERNAL_H

#include "market/book.h"
#include "market/import.h"
#include "market/lines.h"
#include "market/zone.h"

enum { OC_IMPORT_OFFSETS_MAX = 1 << 20 };
#define OC_IMPORT_TIME_MAX (INT64_C(7258118400) * 1000000000)  /* the year 2200: room for a bar and a delay */

typedef struct oc_import {
    const oc_import_options *options;
    const oc_import_input *inputs;
    size_t input_count;
    oc_import_report *report;
    oc_import_sink sink;
    void *sink_context;
    oc_progress *progress;
    uint64_t consumed;                         /* bytes of inputs that are done, over both passes */

    bool measuring;
    oc_instrument instrument;
    int32_t line_tick, line_lot;               /* smallest exponents on this line */
    int32_t finest_tick, finest_lot;           /* of all lines so far */

    oc_zone zone;
    bool zone_open;
    int64_t bar_ns;
    bool bar_is_days, stamp_is_end;

    oc_import_place at;                        /* the line under work */
    oc_event *packet;
    size_t packet_count, packet_cap;
    bool gap_before, session_break;            /* flags that the next packet's first event will carry */
    uint64_t sequence;
    int64_t previous_ns;                       /* receive_ns of the last packet */
    int64_t *offsets;
    uint64_t offset_stride, offset_seen;
    size_t offset_count;
    oc_book *book;
} oc_import;

typedef struct oc_import_format {
    const char *name, *help;
    bool bars;                                 /* --bar and --stamp must be given */
    const char *tick, *lot;                    /* the format's own units; NULL: found in the data */
    oc_status (*pass)(oc_import *im);          /* reads all inputs once */
} oc_import_format;

oc_status oc_import_bars(oc_import *im);
oc_status oc_import_lobster(oc_import *im);
oc_status oc_import_binance(oc_import *im);

/* Opens input i and makes it the place of messages. */
OC_MUST oc_import_text_open(oc_import *im, size_t i, uint32_t line_max, oc_lines **out);
/* Next line of t; lines too long or with control bytes are refused here. Blank lines are left out. */
OC_MUST oc_import_line(oc_import *im, oc_lines *t, oc_line *line, bool *have);
void oc_import_text_done(oc_import *im, oc_lines *t);
void oc_import_expect(oc_import *im, uint64_t bytes); /* of a file that is read beside the inputs: progress counts it */

bool oc_import_refuse(oc_import *im, oc_import_reason reason);                 /* false */
bool oc_import_price(oc_import *im, oc_field field, int64_t *ticks);           /* positive, exact */
bool oc_import_size(oc_import *im, oc_field field, int64_t least, int64_t *lots);      /* at least 0 or 1 lots, exact */
void oc_import_measured(oc_import *im);        /* the line's numbers count for tick and lot */
void oc_import_note(oc_import *im, const char *format, ...) OC_PRINTF(2, 3);   /* only once each; not while measuring */

/* Local time to UTC; refuses local times that the zone skips or that are not from 1970 to 2200; of two instants takes
 * the earlier one that is after `after_ns`. */
bool oc_import_utc(oc_import *im, int64_t local_ns, int64_t after_ns, int64_t *utc_ns);

OC_MUST oc_import_event(oc_import *im, oc_event_kind kind, oc_event **event);  /* zeroed, in the packet */
/* Numbers, stamps and hands out the packet; no event: nothing. The book is kept and looked at. */
OC_MUST oc_import_packet(oc_import *im, int64_t exchange_ns, int64_t receive_ns);
void oc_import_packet_drop(oc_import *im);     /* forgets the packet in the making */

#endif
