/* engine_check.c - what a saved state must hold to be taken over. Its checksum says that nothing fell over, not that an
 * engine wrote it: whoever can write a file can write a checksum. Accept only if every count is within its array, every
 * number within what an engine could have, and every sum the sum of its parts. */
#include <string.h>

#include "trade/engine_internal.h"

typedef enum field_width { I64, U64, U32, U8 } field_width;

typedef struct field_row {
    const char *name;
    size_t at;
    field_width width;
    int64_t min, max;
} field_row;

#define TIME_MAX  (INT64_MAX / 2)
#define CROSS_SUM (2 * OC_TRADE_PRICE_MAX * OC_CROSS_MAX)
#define ENGINE(field, width, min, max)                                                                                 \
    {                                                                                                                  \
#field, offsetof(oc_engine, field), width, min, max                                                            \
    }
static const field_row engine_rows[] = {
    ENGINE(account.epoch, U32, 1, UINT16_MAX),
    ENGINE(totals.state, U32, OC_TRADING_ACTIVE, OC_TRADING_HALTED),
    ENGINE(totals.epoch, U32, 1, UINT16_MAX),
    ENGINE(totals.killed, U8, 0, 1),
    ENGINE(totals.connected, U8, 0, 1),
    ENGINE(totals.unknown_orders, U8, 0, 0), /* told when asked, never kept */
    ENGINE(next_sequence, U64, 1, (int64_t)OC_ORDER_SEQUENCE_MAX + 1),
    ENGINE(now_ns, I64, 0, TIME_MAX),
    ENGINE(day, I64, -1, TIME_MAX),
    ENGINE(token_ns, I64, 0, INT64_MAX),
    ENGINE(token_at_ns, I64, 0, TIME_MAX),
    ENGINE(asked_ns, I64, 0, TIME_MAX),
    ENGINE(timer_ns, I64, 0, INT64_MAX),
    ENGINE(order_count, U32, 0, OC_ENGINE_ORDERS_MAX),
    ENGINE(recent_at, U32, 0, RECENT_MAX - 1),
    ENGINE(reserved, U32, 0, 0),
    ENGINE(day_known, U8, 0, 1),
    ENGINE(timer_set, U8, 0, 1),
    ENGINE(asked, U8, 0, 1),
    ENGINE(leapt, U8, 0, 1),
};

#define MARKET(field, width, min, max)                                                                                 \
    {                                                                                                                  \
#field, offsetof(market_state, field), width, min, max                                                         \
    }
static const field_row market_rows[] = {
    MARKET(cross.fast_sum, I64, 0, CROSS_SUM),
    MARKET(cross.slow_sum, I64, 0, CROSS_SUM),
    MARKET(cross.slot, I64, 0, TIME_MAX),
    MARKET(position.lots, I64, -INT64_MAX, INT64_MAX),
    MARKET(position.target_lots, I64, -OC_TRADE_LOTS_MAX, OC_TRADE_LOTS_MAX),
    MARKET(bid_ticks, I64, 0, OC_TRADE_PRICE_MAX),
    MARKET(ask_ticks, I64, 0, OC_TRADE_PRICE_MAX),
    MARKET(quote_ns, I64, 0, TIME_MAX),
    MARKET(predicted_ns, I64, 0, TIME_MAX),
    MARKET(cooling_until_ns, I64, 0, INT64_MAX),
    MARKET(quote_next_ns, I64, 0, INT64_MAX),
    MARKET(target_reason, U32, 0, OC_REASON_END - 1),
    MARKET(refusal, U32, 0, OC_REASON_END - 1),
    MARKET(quote_known, U8, 0, 1),
    MARKET(predicted, U8, 0, 1),
    MARKET(targeted, U8, 0, 1),
    MARKET(exiting, U8, 0, 1),
    MARKET(quoting, U8, 0, 1),
    MARKET(sequenced, U8, 0, 1),
};

#define ORDER(field, width, min, max)                                                                                  \
    {                                                                                                                  \
#field, offsetof(oc_open_order, field), width, min, max                                                        \
    }
static const field_row order_rows[] = {
    ORDER(price_ticks, I64, 1, OC_TRADE_PRICE_MAX),
    ORDER(lots, I64, 1, OC_TRADE_LOTS_MAX),
    ORDER(filled_lots, I64, 0, OC_TRADE_LOTS_MAX),
    ORDER(sent_ns, I64, 0, TIME_MAX),
    ORDER(until_ns, I64, 0, INT64_MAX),
    ORDER(side, U8, OC_SIDE_BUY, OC_SIDE_SELL),
    ORDER(type, U8, OC_ORDER_MARKET, OC_ORDER_TYPE_END - 1),
    ORDER(state, U8, OC_ORDER_SENT, OC_ORDER_SENT_UNKNOWN),
    ORDER(cancelling, U8, 0, 1),
};

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Bytes, not members: a bool that is 7 must not be read as one. */
static bool field_within(const void *base, const field_row *row, int64_t *value)
{
    static const size_t bytes[] = {[I64] = 8, [U64] = 8, [U32] = 4, [U8] = 1};
    int64_t raw = 0; /* little-endian; a U64 over the bounds is negative and refused */
    memcpy(&raw, (const unsigned char *)base + row->at, bytes[row->width]);
    *value = raw;
    return raw >= row->min && raw <= row->max;
}

static oc_status fields_check(const void *base, const field_row *row, size_t rows, const char *what, uint32_t index)
{
    int64_t value;
    for (size_t i = 0; i < rows; i++) {
        if (field_within(base, &row[i], &value)) continue;
        return OC_FAIL(OC_EDATA, "engine state: %s %u: %s is %lld, not from %lld to %lld", what, index, row[i].name,
                       (long long)value, (long long)row[i].min, (long long)row[i].max);
    }
    return OC_OK;
}

static oc_status wrong(const char *what, uint32_t index, const char *field)
{
    return OC_FAIL(OC_EDATA, "engine state: %s %u: %s does not go with the rest of the state", what, index, field);
}

static oc_status times_check(const oc_engine *s)
{
    const oc_risk_account *risk = &s->account.risk;
    if (s->token_ns > risk->message_burst * risk->message_ns) return wrong("engine", 0, "token_ns");
    if (s->token_at_ns > s->now_ns) return wrong("engine", 0, "token_at_ns");
    if (s->asked_ns > s->now_ns) return wrong("engine", 0, "asked_ns");
    for (uint32_t i = 0; i < RECENT_MAX; i++) {
        const recent_order *o = &s->recent[i];
        if (!(o->lots >= 0 && o->lots <= OC_TRADE_LOTS_MAX)) return wrong("recent order", i, "lots");
        if (!(o->time_ns >= 0 && o->time_ns <= s->now_ns)) return wrong("recent order", i, "time_ns");
    }
    return OC_OK;
}

static oc_status orders_check(const oc_engine *s)
{
    uint64_t last = 0;
    for (uint32_t i = 0; i < s->order_count; i++) {
        const oc_open_order *o = &s->order[i];
        OC_TRY(fields_check(o, order_rows, COUNT_OF(order_rows), "order", i));
        if (o->instrument >= s->markets) return wrong("order", i, "instrument");
        if (o->filled_lots >= o->lots) return wrong("order", i, "filled_lots");
        if (o->sent_ns > s->now_ns) return wrong("order", i, "sent_ns");
        if (o->id <= last) return wrong("order", i, "id"); /* oldest first, none twice */
        last = o->id;
    }
    return OC_OK;
}

static bool open_lots_fit(const oc_engine *s, uint32_t instrument)
{
    int64_t buys = 0, sells = 0; /* few of bounded size: they fit */
    for (uint32_t i = 0; i < s->order_count; i++) {
        const oc_open_order *o = &s->order[i];
        if (o->instrument == instrument) *(o->side == OC_SIDE_BUY ? &buys : &sells) += o->lots - o->filled_lots;
    }
    return s->market[instrument].open_buy_lots == buys && s->market[instrument].open_sell_lots == sells;
}

static bool ring_fits(const oc_engine *s, uint32_t instrument)
{
    const uint32_t slow = s->account.policy.cross_slow;
    const unsigned char *ring = (const unsigned char *)s + s->rings_at + (size_t)instrument * slow * sizeof(int64_t);
    for (uint32_t i = 0; i < slow; i++) {
        int64_t value;
        memcpy(&value, ring + i * sizeof value, sizeof value);
        if (!(value >= 0 && value <= 2 * OC_TRADE_PRICE_MAX)) return false;
    }
    return true;
}

static oc_status market_check(const oc_engine *e, const oc_engine *s, uint32_t i)
{
    const market_state *m = &s->market[i];
    const uint32_t slow = s->account.policy.cross_slow;
    OC_TRY(fields_check(m, market_rows, COUNT_OF(market_rows), "market", i));
    if (memcmp(&m->config, &e->market[i].config, sizeof m->config) != 0) return wrong("market", i, "config");
    if (!(m->cross.count <= slow)) return wrong("market", i, "cross.count");
    if (!(m->cross.at < slow)) return wrong("market", i, "cross.at");
    if (!ring_fits(s, i)) return wrong("market", i, "a sample of cross");
    if (m->quote_known && !(m->bid_ticks >= 1 && m->bid_ticks <= m->ask_ticks)) return wrong("market", i, "bid_ticks");
    if (!(m->quote_ns <= s->now_ns)) return wrong("market", i, "quote_ns");
    if (!(m->predicted_ns <= s->now_ns)) return wrong("market", i, "predicted_ns");
    if (!(m->confidence >= 0 && m->confidence <= 1)) return wrong("market", i, "confidence");
    if (!open_lots_fit(s, i)) return wrong("market", i, "open lots");
    return OC_OK;
}

static oc_status sums_check(const oc_engine *s)
{
    oc_wide value = 0, exposure = 0, fees = 0;
    for (uint32_t i = 0; i < s->markets; i++) {
        value += s->market[i].position.value_micros;
        exposure += s->market[i].exposure_micros;
        fees += s->market[i].position.fees_micros;
    }
    if (fees != s->totals.fees_micros) return wrong("engine", 0, "totals.fees_micros");
    if (exposure != s->totals.exposure_micros) return wrong("engine", 0, "totals.exposure_micros");
    if (value - fees != s->totals.equity_micros) return wrong("engine", 0, "totals.equity_micros");
    return OC_OK;
}

oc_status oc_engine_state_check(const oc_engine *e, const oc_engine *s)
{
    oc_engine_account account = s->account;
    account.epoch = e->account.epoch; /* rises with every start */
    if (s->bytes != e->bytes || s->rings_at != e->rings_at || s->markets != e->markets)
        return wrong("engine", 0, "a size");
    if (!oc_hash_equal(s->config_hash, e->config_hash)) return wrong("engine", 0, "config_hash");
    if (memcmp(&account, &e->account, sizeof account) != 0) return wrong("engine", 0, "account");
    OC_TRY(fields_check(s, engine_rows, COUNT_OF(engine_rows), "engine", 0));
    OC_TRY(times_check(s));
    OC_TRY(orders_check(s));
    for (uint32_t i = 0; i < s->markets; i++) OC_TRY(market_check(e, s, i));
    return sums_check(s);
}
