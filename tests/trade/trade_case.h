/* trade_case.h - what the tests of trade share: an engine with open limits, inputs in one line, actions by kind. */
#ifndef OC_TESTS_TRADE_TRADE_CASE_H
#define OC_TESTS_TRADE_TRADE_CASE_H

#include "base/cmocka_all.h"

#include "base/memory.h"
#include "trade/engine.h"

#define SECOND INT64_C(1000000000)

/* The large counts of tools/test --full; OUTCRY_FULL=0 and nothing at all are the small ones. */
static inline bool counts_full(void)
{
    const char *full = getenv("OUTCRY_FULL");
    return full && strcmp(full, "1") == 0;
}

typedef struct rig {
    oc_engine_market market[4];
    oc_engine_config config;
    oc_engine *engine;
    void *memory;
    int64_t now_ns;
    uint64_t message_id, prediction;
    oc_action action[OC_ACTIONS_MAX];
    size_t count;
} rig;

/* Limits far away; a test brings near the one that it is about, then calls rig_open. */
static inline void rig_defaults(rig *r, uint32_t markets)
{
    memset(r, 0, sizeof *r);
    oc_engine_account_default(&r->config.account);
    for (uint32_t i = 0; i < markets; i++) {
        oc_engine_market_default(&r->market[i]);
        r->market[i].risk.order_lots_max = 100;
        r->market[i].risk.position_lots_max = 1000;
        r->market[i].target_lots = 10;
    }
    r->config.account.risk.duplicate_ns = 0;
    r->config.market = r->market;
    r->config.markets = markets;
    r->now_ns = SECOND;
}

static inline void rig_start(rig *r)
{
    size_t bytes = oc_engine_bytes(&r->config);
    must(oc_memory_new(&r->memory, bytes, "rig"));
    must(oc_engine_init(&r->engine, r->memory, bytes, &r->config));
}

static inline void rig_close(rig *r)
{
    oc_memory_free(r->memory);
    r->memory = NULL;
}

static inline void rig_apply(rig *r, oc_input input)
{
    input.sequence = oc_engine_next_sequence(r->engine);
    input.time_ns = r->now_ns;
    must(oc_engine_apply(r->engine, &input, r->action, OC_ACTIONS_MAX, &r->count));
}

static inline void rig_venue(rig *r, oc_venue_message message)
{
    bool numbered = message.kind != OC_VENUE_CONNECTED && message.kind != OC_VENUE_DISCONNECTED &&
                    message.kind != OC_VENUE_LOST;
    if (numbered && message.message_id == 0) message.message_id = ++r->message_id;
    rig_apply(r, (oc_input){.kind = OC_INPUT_VENUE, .as.venue = message});
}

static inline void rig_open(rig *r)
{
    rig_start(r);
    rig_venue(r, (oc_venue_message){.kind = OC_VENUE_CONNECTED});
}

static inline void rig_quote(rig *r, uint32_t instrument, int64_t bid, int64_t ask)
{
    oc_input in = {.kind = OC_INPUT_MARKET};
    in.as.market = (oc_event){.receive_ns = r->now_ns, .instrument = instrument, .kind = OC_EVENT_QUOTE,
                              .flags = OC_EVENT_LAST};
    in.as.market.as.quote.bid_ticks = bid;
    in.as.market.as.quote.ask_ticks = ask;
    in.as.market.as.quote.bid_lots = in.as.market.as.quote.ask_lots = 1000;
    rig_apply(r, in);
}

static inline void rig_predict(rig *r, uint32_t instrument, float buy, float sell)
{
    oc_prediction p = {r->now_ns, ++r->prediction, instrument, 1, buy, sell, 1 - buy - sell, OC_PREDICTION_OK};
    rig_apply(r, (oc_input){.kind = OC_INPUT_PREDICTION, .as.prediction = p});
}

static inline void rig_operate(rig *r, uint32_t kind, int64_t value)
{
    rig_apply(r, (oc_input){.kind = OC_INPUT_OPERATOR, .as.command = {kind, 0, value}});
}

static inline void rig_timer(rig *r)
{
    rig_apply(r, (oc_input){.kind = OC_INPUT_TIMER});
}

/* The nth action of this kind in the last answer; NULL: there is none. */
static inline const oc_action *rig_action(const rig *r, unsigned kind, int nth)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->action[i].kind == kind && nth-- == 0) return &r->action[i];
    }
    return NULL;
}

static inline int rig_count(const rig *r, unsigned kind)
{
    int count = 0;
    for (size_t i = 0; i < r->count; i++) count += r->action[i].kind == kind;
    return count;
}

static inline unsigned rig_alert(const rig *r)
{
    const oc_action *a = rig_action(r, OC_ACTION_ALERT, 0);
    return a ? a->reason : OC_REASON_NONE;
}

static inline void rig_ack(rig *r, oc_action a)
{
    rig_venue(r, (oc_venue_message){.order_id = a.order_id, .lots = a.lots, .instrument = a.instrument,
                                    .kind = OC_VENUE_ACK, .side = a.side});
}

static inline void rig_fill(rig *r, oc_action a, int64_t price, int64_t lots)
{
    rig_venue(r, (oc_venue_message){.order_id = a.order_id, .price_ticks = price, .lots = lots,
                                    .instrument = a.instrument, .kind = OC_VENUE_FILL, .side = a.side});
}

#endif
