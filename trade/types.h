/* types.h - what goes into the engine and what comes out. Fixed sizes, little-endian, no unnamed padding: the journal
 * holds these records as they are.
 *
 * Market inputs are oc_events of the kinds QUOTE, BAR, TRADE and STATUS: the engine keeps no order book. Whoever feeds
 * it from a book gives one QUOTE at the end of a packet whose best prices changed (trade/quote.h).
 * Venue messages carry message_id = 1, 2, 3, … of the account without holes: a repeated one is ignored, a hole is asked
 * for again, so a fill can be neither lost nor doubled. */
#ifndef OC_TRADE_TYPES_H
#define OC_TRADE_TYPES_H

#include <assert.h>
#include <stdint.h>

#include "market/event.h"
#include "trade/reason.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum oc_input_kind {
    OC_INPUT_MARKET = 1,
    OC_INPUT_PREDICTION,
    OC_INPUT_VENUE,
    OC_INPUT_OPERATOR,
    OC_INPUT_TIMER,              /* time is now input.time_ns; nothing else */
    OC_INPUT_KIND_END
} oc_input_kind;

typedef enum oc_prediction_state { OC_PREDICTION_OK, OC_PREDICTION_HOLD } oc_prediction_state;

typedef struct oc_prediction {
    int64_t input_ns;            /* receive_ns of the event that completed the window's last row */
    uint64_t sequence;           /* rising for each instrument */
    uint32_t instrument, model_version;
    float buy, sell, hold;
    uint32_t state;              /* OC_PREDICTION_* */
} oc_prediction;

typedef enum oc_venue_kind {
    OC_VENUE_ACK = 1,            /* the order rests (lots = what is left), or the answer to a query that it does */
    OC_VENUE_REJECT,
    OC_VENUE_FILL,               /* lots at price_ticks; fee_micros */
    OC_VENUE_CANCELLED,          /* the rest is gone, whoever asked */
    OC_VENUE_CANCEL_REJECT,
    OC_VENUE_NOT_FOUND,          /* answer to a query: never came, or long done */
    OC_VENUE_CONNECTED,
    OC_VENUE_DISCONNECTED,
    OC_VENUE_LOST,               /* messages asked for again are no more */
    OC_VENUE_KIND_END
} oc_venue_kind;

typedef struct oc_venue_message {
    uint64_t message_id, order_id;
    int64_t price_ticks, lots, fee_micros;     /* a rebate is a negative fee */
    uint32_t instrument;
    uint8_t kind, side, maker, reserved;
} oc_venue_message;

typedef enum oc_operator_kind {
    OC_OPERATOR_KILL = 1,        /* halt, cancel all; latched */
    OC_OPERATOR_HALT,
    OC_OPERATOR_REDUCE,
    OC_OPERATOR_FLATTEN,         /* reduce, and every target is 0 */
    OC_OPERATOR_REARM,           /* back to active; loss is counted from here; also lets go of the kill switch */
    OC_OPERATOR_RECOVER,         /* after a start: value = the new epoch; orders without an answer become unknown */
    OC_OPERATOR_KIND_END
} oc_operator_kind;

typedef struct oc_operator_command {
    uint32_t kind, reserved;
    int64_t value;
} oc_operator_command;

typedef struct oc_input {
    uint64_t sequence;           /* 1, 2, 3, … without holes */
    int64_t time_ns;             /* never backwards; 0 and above */
    uint32_t kind, reserved;
    union {
        oc_event market;
        oc_prediction prediction;
        oc_venue_message venue;
        oc_operator_command command;
    } as;
} oc_input;

typedef enum oc_order_type {
    OC_ORDER_MARKET = 1,         /* what a policy may ask for; it leaves as IOC at the collar's edge, never so named */
    OC_ORDER_LIMIT,
    OC_ORDER_POST,               /* limit that the venue refuses where it would trade at once */
    OC_ORDER_IOC,                /* limit; what does not trade at once is cancelled */
    OC_ORDER_TYPE_END
} oc_order_type;

typedef enum oc_action_kind {
    OC_ACTION_NEW = 1,
    OC_ACTION_CANCEL,
    OC_ACTION_QUERY,             /* order_id 0: send messages after `value` again; else: what of this order? */
    OC_ACTION_ALERT,             /* for people: reason, value against limit */
    OC_ACTION_TIMER,             /* asks for an OC_INPUT_TIMER at at_ns */
    OC_ACTION_KIND_END
} oc_action_kind;

typedef struct oc_action {
    uint64_t order_id;           /* epoch (16) | input sequence (40) | action index (8) */
    int64_t price_ticks, lots, value, limit, at_ns;
    uint32_t instrument;
    uint8_t kind, side, type, state;           /* state: OC_TRADING_* after this action */
    uint16_t reason, reserved[3];
} oc_action;

static_assert(sizeof(oc_prediction) == 40 && sizeof(oc_venue_message) == 48 && sizeof(oc_operator_command) == 16 &&
                  sizeof(oc_input) == 112 && sizeof(oc_action) == 64,
              "journals hold these records");

#define OC_ORDER_SEQUENCE_MAX ((UINT64_C(1) << 40) - 1)

static inline uint64_t oc_order_id(uint16_t epoch, uint64_t input_sequence, uint8_t action_index)
{
    return (uint64_t)epoch << 48 | (input_sequence & OC_ORDER_SEQUENCE_MAX) << 8 | action_index;
}

#ifdef __cplusplus
}
#endif
#endif
