/* engine_internal.h - the state of the engine and the calls between its files. The state is one block of the caller's
 * memory: this struct, its markets, then the rings of the moving averages at rings_at. Offsets, no pointers: a copy of
 * the bytes is a copy of the engine. Every field is named, also padding, so that equal states have equal bytes. */
#ifndef OC_TRADE_ENGINE_INTERNAL_H
#define OC_TRADE_ENGINE_INTERNAL_H

#include "trade/engine.h"

enum { RECENT_MAX = 64 };                      /* orders remembered against duplicates */

typedef struct recent_order {
    int64_t time_ns, price_ticks, lots;
    uint32_t instrument;
    uint8_t side, type, reserved[2];
} recent_order;

typedef struct market_state {
    oc_engine_market config;
    oc_cross cross;
    oc_position position;
    int64_t bid_ticks, ask_ticks, quote_ns;    /* valid where quote_known; the last ones value the position else */
    int64_t exposure_micros, open_buy_lots, open_sell_lots;
    double confidence;                         /* of the decision behind the target */
    uint64_t prediction_sequence;
    int64_t predicted_ns, cooling_until_ns, quote_next_ns;
    uint32_t target_reason, refusal;           /* refusal: the last one alerted, so that it is said once */
    uint8_t quote_known, predicted, targeted, exiting, quoting;
    uint8_t sequenced, reserved[2];            /* sequenced: prediction_sequence holds one, of whatever worth */
} market_state;

struct oc_engine {
    uint64_t bytes, rings_at;
    oc_hash config_hash;
    oc_engine_account account;
    oc_engine_totals totals;
    uint64_t next_sequence;
    int64_t now_ns, day, token_ns, token_at_ns, timer_ns, asked_ns;
    uint32_t markets, order_count, recent_at, reserved;
    uint8_t day_known, timer_set, asked, leapt, reserved_bytes[4];    /* leapt: the input before leapt ahead */
    oc_open_order order[OC_ENGINE_ORDERS_MAX];
    recent_order recent[RECENT_MAX];           /* the next goes to recent_at; lots 0: never used */
    market_state market[];
};

typedef struct engine_run {                    /* one apply */
    oc_engine *e;
    const oc_input *input;
    oc_action *actions;
    uint32_t count;
    bool absorbing;                            /* actions are recorded ones: decide nothing */
} engine_run;

/* engine_orders.c */
void oc_run_alert(engine_run *r, oc_reason reason, uint32_t instrument, uint64_t order_id, int64_t value,
                  int64_t limit);
void oc_run_escalate(engine_run *r, oc_trading_state state, oc_reason reason, int64_t value, int64_t limit);
void oc_run_query(engine_run *r, uint64_t order_id, oc_reason reason);
void oc_run_timer(engine_run *r, int64_t at_ns);
void oc_run_timer_next(engine_run *r);         /* for the earliest lifetime or quote that is to come, or is overdue */
void oc_run_cancel(engine_run *r, oc_open_order *order, oc_reason reason);
void oc_run_cancel_all(engine_run *r, uint32_t instrument, oc_reason reason);   /* UINT32_MAX: of all instruments */
void oc_run_refuse(engine_run *r, uint32_t instrument, oc_risk_finding finding);    /* counted, told once */
bool oc_run_place(engine_run *r, uint32_t instrument, oc_risk_order order, oc_reason reason);
oc_open_order *oc_run_find(oc_engine *e, uint64_t id);
void oc_run_remove(engine_run *r, oc_open_order *order);
bool oc_run_register_new(engine_run *r, const oc_action *action);               /* false: no room, or a broken action */
void oc_run_register_cancel(engine_run *r, oc_open_order *order);

/* engine_decide.c */
void oc_run_market(engine_run *r);
void oc_run_prediction(engine_run *r);
void oc_run_timer_due(engine_run *r);
void oc_run_pursue(engine_run *r, uint32_t instrument);                         /* orders towards the target */

/* engine_venue.c */
void oc_run_venue(engine_run *r);

/* engine_check.c */
OC_MUST oc_engine_state_check(const oc_engine *e, const oc_engine *saved);      /* OC_EDATA names the field */

/* portfolio.c */
bool oc_portfolio_fill(oc_position *p, uint8_t side, int64_t lots, int64_t price_ticks, int64_t fee_micros);
void oc_portfolio_value(engine_run *r, uint32_t instrument);                       /* value, exposure, totals, peak */
void oc_portfolio_breakers(engine_run *r);
void oc_portfolio_day(engine_run *r);

#endif
