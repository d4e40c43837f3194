/* event.h - the one record that everything upstream produces and the feature engine, the backtest and the live loop
 * consume (DESIGN section 4). Fixed 88 bytes, little-endian, no padding left unnamed: files hold it as it is.
 *
 * Order: the total order of events is (receive_ns, source, sequence). Everything that decides (order, staleness,
 * features) uses receive_ns alone; exchange_ns is a record and is never subtracted from or ordered against it.
 * Prices are integer ticks of the data (oc_instrument.tick), sizes integer lots. A bar exists at its end.
 * A book is looked at only after the last event of a packet (OC_EVENT_LAST). */
#ifndef OC_MARKET_EVENT_H
#define OC_MARKET_EVENT_H

#include <assert.h>
#include <stdint.h>

typedef enum oc_event_kind {
    OC_EVENT_BAR = 1,            /* as.bar */
    OC_EVENT_TRADE,              /* as.price; side of the aggressor, OC_SIDE_NONE where unknown */
    OC_EVENT_QUOTE,              /* as.quote: best bid and ask */
    OC_EVENT_LEVEL,              /* as.price: the size at this price is now size_lots (0: gone); side */
    OC_EVENT_SNAPSHOT,           /* as.price: one level of a full book; the first of a packet clears the book */
    OC_EVENT_ORDER_ADD,          /* as.price, order_id, side */
    OC_EVENT_ORDER_CANCEL,       /* as.price: size_lots taken off order_id */
    OC_EVENT_ORDER_EXECUTE,      /* as.price: size_lots executed of resting order_id; side of the resting order */
    OC_EVENT_EXTERNAL,           /* as.external */
    OC_EVENT_STATUS,             /* halt, session; flags say which */
    OC_EVENT_KIND_END
} oc_event_kind;

typedef enum oc_side { OC_SIDE_NONE, OC_SIDE_BUY, OC_SIDE_SELL } oc_side;     /* buy: bid side of a book */

enum oc_event_flag {
    OC_EVENT_LAST = 1,           /* last event of its packet (an exchange message, a line, a bar) */
    OC_EVENT_GAP_BEFORE = 2,     /* events were lost before this one: windows may not cross */
    OC_EVENT_SESSION_BREAK = 4   /* first event of a new session */
};

typedef struct oc_event {
    int64_t exchange_ns;         /* 0 where the source has none; else its clock */
    int64_t receive_ns;
    uint64_t sequence;           /* of its source, rising */
    uint64_t order_id;           /* 0 where none */
    uint32_t instrument;         /* index into the file's instruments */
    uint16_t source;             /* index of the file in data.events */
    uint8_t kind, side, level;   /* level: 0 best, where the source says so; 255 unknown */
    uint8_t flags;
    uint8_t reserved[6];         /* zero */
    union {
        struct { int64_t ticks, lots; } price;                                   /* TRADE LEVEL SNAPSHOT ORDER_* */
        struct { int64_t open_ticks, high_ticks, low_ticks, close_ticks, volume_lots; } bar;
        struct { int64_t bid_ticks, bid_lots, ask_ticks, ask_lots; } quote;
        struct { uint64_t series; double value; } external;
        struct { int64_t code, reserved; } status;
    } as;
} oc_event;

static_assert(sizeof(oc_event) == 88, "the .events format holds this record");

#endif
