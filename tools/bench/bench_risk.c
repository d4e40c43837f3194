/* bench_risk.c - the time of one decision: a prediction goes in, policy, target, all rows of the risk gate, an order
 * comes out (oc_engine_apply; no journal, no venue). Measured over rounds of 64 predictions for 64 instruments, each of
 * which leads to an order; quotes and fills between the rounds are not timed. Beside it the gate alone, as a function.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tools/bench/benches.h"
#include "trade/engine.h"

enum { MARKETS = 64, GATES = 1 << 16 };

typedef struct bench_desk {
    oc_engine *engine;
    oc_action actions[OC_ACTIONS_MAX], order[MARKETS];
    size_t count;
    uint64_t message_id, prediction;
    int64_t now_ns;
    int round; /* over all repeats: buys and sells take turns */
} bench_desk;

static oc_status take(bench_desk *d, oc_input *in)
{
    in->sequence = oc_engine_next_sequence(d->engine);
    in->time_ns = d->now_ns;
    return oc_engine_apply(d->engine, in, d->actions, OC_ACTIONS_MAX, &d->count);
}

static oc_status venue_say(bench_desk *d, oc_venue_message m)
{
    oc_input in = {.kind = OC_INPUT_VENUE, .as.venue = m};
    return take(d, &in);
}

static oc_status quotes_give(bench_desk *d, int round)
{
    for (uint32_t i = 0; i < MARKETS; i++) {
        oc_input in = {.kind = OC_INPUT_MARKET};
        in.as.market =
            (oc_event){.receive_ns = d->now_ns, .instrument = i, .kind = OC_EVENT_QUOTE, .flags = OC_EVENT_LAST};
        in.as.market.as.quote.bid_ticks = 10000 + round % 5;
        in.as.market.as.quote.ask_ticks = 10002 + round % 5;
        OC_TRY(take(d, &in));
    }
    return OC_OK;
}

static oc_status fills_give(bench_desk *d)
{
    for (uint32_t i = 0; i < MARKETS; i++) {
        const oc_action *a = &d->order[i];
        OC_TRY(venue_say(d, (oc_venue_message){.message_id = ++d->message_id,
                                               .order_id = a->order_id,
                                               .price_ticks = a->side == OC_SIDE_BUY ? 10002 : 10000,
                                               .lots = a->lots,
                                               .instrument = i,
                                               .kind = OC_VENUE_FILL,
                                               .side = a->side}));
    }
    return OC_OK;
}

/* Nanoseconds for MARKETS decisions, each of which must have led to an order. */
static oc_status round_time(bench_desk *d, int round, int64_t *took_ns)
{
    float buy = round & 1 ? 0.1f : 0.8f;
    OC_TRY(quotes_give(d, round));
    int64_t start = oc_clock_monotonic_ns();
    for (uint32_t i = 0; i < MARKETS; i++) {
        oc_input in = {.kind = OC_INPUT_PREDICTION};
        in.as.prediction = (oc_prediction){d->now_ns, ++d->prediction, i, 1, buy, 0.9f - buy, 0.1f, 0};
        OC_TRY(take(d, &in));
        if (d->count != 1 || d->actions[0].kind != OC_ACTION_NEW)
            return OC_FAIL(OC_EFAILED, "bench risk: round %d, %u: no order (%zu actions, %s)", round, i, d->count,
                           oc_reason_name(d->count ? d->actions[0].reason : 0));
        d->order[i] = d->actions[0];
    }
    *took_ns = oc_clock_monotonic_ns() - start;
    return fills_give(d);
}

static oc_status decisions_time(bench_desk *d, double seconds, double *best_ns)
{
    int64_t end = oc_clock_monotonic_ns() + (int64_t)(seconds * 1e9), took = 0;
    for (int i = 0; i < 4 || oc_clock_monotonic_ns() < end; i++) {
        d->now_ns += OC_SECOND_NS;
        OC_TRY(round_time(d, d->round++, &took));
        double each = (double)took / MARKETS;
        if (i >= 2 && !(each >= *best_ns)) *best_ns = each;
    }
    return OC_OK;
}

static double gate_time(const oc_engine_config *c)
{
    oc_risk_view v = {.now_ns = OC_SECOND_NS,
                      .quote_ns = OC_SECOND_NS,
                      .bid_ticks = 10000,
                      .ask_ticks = 10002,
                      .position_lots = 5,
                      .token_ns = OC_SECOND_NS,
                      .quote_known = true,
                      .connected = true};
    oc_risk_order o = {0.8, 10002, 1, OC_SIDE_BUY, OC_ORDER_LIMIT};
    uint64_t refused = 0;
    int64_t start = oc_clock_monotonic_ns();
    for (int i = 0; i < GATES; i++) {
        v.position_lots = i & 7;
        refused += oc_risk_check(&c->account.risk, &c->market[0].risk, &v, &o).reason != OC_REASON_NONE;
    }
    int64_t took = oc_clock_monotonic_ns() - start;
    return refused ? (double)NAN : (double)took / GATES;
}

static oc_status measure(const oc_bench_options *o, oc_bench_report *r, bench_desk *d, const oc_engine_config *config)
{
    double decision = (double)NAN, gate = (double)NAN;
    OC_TRY(venue_say(d, (oc_venue_message){.kind = OC_VENUE_CONNECTED}));
    size_t allocations = oc_memory_count();
    for (int i = 0; i < o->repeats; i++) {
        OC_TRY(decisions_time(d, o->seconds, &decision));
        double once = gate_time(config);
        if (!(once >= gate)) gate = once;
    }
    if (oc_memory_count() != allocations) return OC_FAIL(OC_EFAILED, "bench risk: memory was taken while deciding");
    oc_bench_add(r, "prediction to order through the whole gate", decision, "ns", "", (double)NAN,
                 "one core, 64 instruments, best round; at most 300 is asked");
    oc_bench_add(r, "risk gate alone, 18 rows, accepted", gate, "ns", "", (double)NAN, "oc_risk_check");
    return OC_OK;
}

oc_status oc_bench_risk(const oc_bench_options *o, oc_bench_report *r)
{
    oc_engine_market market[MARKETS];
    oc_engine_config config = {.market = market, .markets = MARKETS};
    bench_desk *d = NULL;
    void *memory = NULL;
    oc_engine_account_default(&config.account);
    config.account.risk.message_ns = 1;
    config.account.risk.message_burst = 10000;
    config.account.risk.open_orders_max = MARKETS;
    for (int i = 0; i < MARKETS; i++) {
        oc_engine_market_default(&market[i]);
        market[i].risk.order_lots_max = market[i].risk.position_lots_max = 100;
        market[i].target_lots = 10;
    }
    size_t bytes = oc_engine_bytes(&config);
    oc_status status = oc_memory_new(&d, sizeof *d, "bench");
    if (status == OC_OK) status = oc_memory_new(&memory, bytes, "bench");
    if (status == OC_OK) status = oc_engine_init(&d->engine, memory, bytes, &config);
    if (status == OC_OK) status = measure(o, r, d, &config);
    oc_memory_free(memory);
    oc_memory_free(d);
    return status;
}
