/* simulated_internal.h - the venue's state, between its line (simulated.c) and its matching (simulated_match.c). */
#ifndef OC_TRADE_VENUES_SIMULATED_INTERNAL_H
#define OC_TRADE_VENUES_SIMULATED_INTERNAL_H

#include "trade/venues/simulated.h"

typedef struct resting_order {
    uint64_t id;
    int64_t price_ticks, left_lots, ahead_lots, since_ns;
    uint32_t instrument;
    uint8_t side, reserved[3];
} resting_order;

enum { TAKEN_MAX = OC_BOOK_LEVELS };
typedef struct taken_side { oc_book_level level[TAKEN_MAX]; uint32_t count; } taken_side;

typedef struct simulated_market {
    oc_simulated_market config;
    oc_simulated_account account;
    oc_simulated_reader reader;
    int64_t bar_ns;                            /* of the last bar */
    bool bar_seen, reserved[7];
    taken_side taken[2];                       /* of bids, of asks: what we took and the record does not know */
    oc_book book;
} simulated_market;

typedef struct flight { int64_t at_ns; oc_action action; } flight_slot;
typedef struct outbound { int64_t at_ns; oc_venue_message message; } outbound_slot;

struct oc_simulated {
    oc_simulated_config config;
    oc_simulated_clerk clerk;
    int64_t now_ns, flight_last_ns, out_last_ns;
    uint64_t flight_head, flight_tail;         /* counters; the ring is modulo its size */
    uint64_t out_head, out_tail;
    uint64_t message_id, drawn, ignored, last_id;      /* last_id: the highest order id so far */
    uint32_t key_to, key_back, key_reject, order_count;
    resting_order order[OC_SIMULATED_ORDERS_MAX];      /* in the order of their arrival */
    flight_slot flight[OC_SIMULATED_FLIGHT_MAX];
    outbound_slot out[OC_SIMULATED_MESSAGES_MAX];
    simulated_market market[];
};

/* simulated.c */
void oc_simulated_say(oc_simulated *v, oc_venue_message message);                 /* numbers it and sends it back */

/* simulated_match.c */
void oc_simulated_new(oc_simulated *v, const oc_action *a);
void oc_simulated_cancel(oc_simulated *v, const oc_action *a);
void oc_simulated_event(oc_simulated *v, const oc_event *event);
void oc_simulated_levels(oc_simulated *v, const oc_event *events, size_t count);  /* venue.h */

#endif
