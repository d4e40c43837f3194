/* engine_state.c - the configuration's check, the storage, saving and loading, and looking inside. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "trade/engine_internal.h"

/* What is hashed and saved has no padding. */
static_assert(sizeof(oc_risk_account) == 88 && sizeof(oc_policy_config) == 136 && sizeof(oc_engine_account) == 248 &&
                  sizeof(oc_risk_instrument) == 64 && sizeof(oc_engine_market) == 72 && sizeof(oc_cross) == 32 &&
                  sizeof(oc_position) == 48 && sizeof(oc_open_order) == 56 && sizeof(recent_order) == 32,
              "no unnamed padding");
static_assert(sizeof(market_state) == 72 + 32 + 48 + 11 * 8 + 2 * 4 + 8, "no unnamed padding");

/* ---- configuration ---- */

#define DAY_NS     INT64_C(86400000000000)
#define MICROS_MAX (INT64_MAX / 4)

typedef struct bound_row {
    const char *key;
    size_t at;
    int64_t min, max;
} bound_row;

#define ACCOUNT(field, min, max)                                                                                       \
    {                                                                                                                  \
#field, offsetof(oc_engine_account, field), min, max                                                           \
    }
static const bound_row account_bounds[] = {
    ACCOUNT(risk.exposure_micros_max, 0, MICROS_MAX),
    ACCOUNT(risk.daily_loss_micros, 0, MICROS_MAX),
    ACCOUNT(risk.daily_loss_halt_micros, 0, MICROS_MAX),
    ACCOUNT(risk.drawdown_micros, 0, MICROS_MAX),
    ACCOUNT(risk.drawdown_halt_micros, 0, MICROS_MAX),
    ACCOUNT(risk.message_ns, 1, DAY_NS),
    ACCOUNT(risk.message_burst, 1, 10000),
    ACCOUNT(risk.message_reserve, 0, 9999),
    ACCOUNT(risk.duplicate_ns, 0, DAY_NS),
    ACCOUNT(risk.open_orders_max, 1, OC_ENGINE_ORDERS_MAX),
    ACCOUNT(policy.prediction_stale_ns, 0, DAY_NS),
    ACCOUNT(policy.fallback_after_ns, 0, DAY_NS),
    ACCOUNT(policy.cross_interval_ns, 1, DAY_NS),
    ACCOUNT(policy.quote_interval_ns, 1, DAY_NS),
    ACCOUNT(policy.quote_lots, 1, OC_TRADE_LOTS_MAX),
    ACCOUNT(policy.quote_position_lots, 0, OC_TRADE_LOTS_MAX),
    ACCOUNT(policy.lifetime_ns, 1, 366 * DAY_NS),
    ACCOUNT(policy.offset_ticks, -OC_TRADE_PRICE_MAX, OC_TRADE_PRICE_MAX),
    ACCOUNT(policy.stop_bps, 0, 1000000),
    ACCOUNT(policy.take_bps, 0, 1000000),
    ACCOUNT(policy.cooldown_ns, 0, 366 * DAY_NS),
    ACCOUNT(day_offset_ns, 0, DAY_NS - 1),
    ACCOUNT(leap_ns, 1, 3660 * DAY_NS),
};

#define MARKET(field, min, max)                                                                                        \
    {                                                                                                                  \
#field, offsetof(oc_engine_market, field), min, max                                                            \
    }
static const bound_row market_bounds[] = {
    MARKET(risk.scale.numerator, 1, OC_TRADE_SCALE_MAX),
    MARKET(risk.scale.denominator, 1, OC_TRADE_SCALE_MAX),
    MARKET(risk.order_tick_ticks, 1, OC_TRADE_PRICE_MAX),
    MARKET(risk.order_lots_max, 0, OC_TRADE_LOTS_MAX),
    MARKET(risk.order_micros_max, 0, MICROS_MAX),
    MARKET(risk.position_lots_max, 0, OC_TRADE_LOTS_MAX),
    MARKET(risk.collar_bps, 0, 1000000),
    MARKET(risk.stale_ns, 0, DAY_NS),
    MARKET(target_lots, 1, OC_TRADE_LOTS_MAX),
};

static oc_status bounds_check(const void *base, const bound_row *row, size_t rows, const char *where)
{
    for (size_t i = 0; i < rows; i++) {
        int64_t value;
        memcpy(&value, (const unsigned char *)base + row[i].at, sizeof value);
        if (!(value >= row[i].min && value <= row[i].max))
            return OC_FAIL(OC_ECONFIG, "%s%s is %lld, not from %lld to %lld", where, row[i].key, (long long)value,
                           (long long)row[i].min, (long long)row[i].max);
    }
    return OC_OK;
}

typedef struct share_row {
    const char *key;
    double value;
} share_row;

static oc_status account_check(const oc_engine_account *a)
{
    const oc_policy_config *p = &a->policy;
    const share_row shares[] = {{"policy.buy_threshold", p->buy_threshold},
                                {"policy.sell_threshold", p->sell_threshold},
                                {"policy.confidence_min", p->confidence_min},
                                {"risk.confidence_min", a->risk.confidence_min}};
    OC_TRY(bounds_check(a, account_bounds, sizeof account_bounds / sizeof *account_bounds, ""));
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        if (!(shares[i].value >= 0 && shares[i].value <= 1))
            return OC_FAIL(OC_ECONFIG, "%s is %g, not a number from 0 to 1", shares[i].key, shares[i].value);
    }
    if (!(p->kind < OC_POLICY_KIND_END)) return OC_FAIL(OC_ECONFIG, "policy.kind %u is unknown", p->kind);
    if (!(p->fallback < OC_FALLBACK_KIND_END)) return OC_FAIL(OC_ECONFIG, "policy.fallback %u is unknown", p->fallback);
    if (!(p->order_type >= OC_ORDER_MARKET && p->order_type < OC_ORDER_TYPE_END))
        return OC_FAIL(OC_ECONFIG, "policy.order_type %u is unknown", p->order_type);
    if (!(p->cross_fast >= 1 && p->cross_fast < p->cross_slow && p->cross_slow <= OC_CROSS_MAX))
        return OC_FAIL(OC_ECONFIG, "policy.cross_fast %u and cross_slow %u: 1 <= fast < slow <= %d is needed",
                       p->cross_fast, p->cross_slow, OC_CROSS_MAX);
    if (a->risk.message_reserve >= a->risk.message_burst)
        return OC_FAIL(OC_ECONFIG, "risk.message_reserve %lld leaves no order of message_burst %lld",
                       (long long)a->risk.message_reserve, (long long)a->risk.message_burst);
    if (a->risk.daily_loss_halt_micros < a->risk.daily_loss_micros ||
        a->risk.drawdown_halt_micros < a->risk.drawdown_micros)
        return OC_FAIL(OC_ECONFIG, "risk: the loss that halts is below the loss that reduces");
    if (!(a->epoch >= 1 && a->epoch <= UINT16_MAX))
        return OC_FAIL(OC_ECONFIG, "epoch is %u, not from 1 to 65535", a->epoch);
    if (a->reserved || p->reserved[0] || p->reserved[1] || p->short_allowed > 1 || p->hold_flat > 1)
        return OC_FAIL(OC_ECONFIG, "policy: a flag or reserved field is not 0 or 1");
    return OC_OK;
}

oc_status oc_engine_config_check(const oc_engine_config *config)
{
    if (!(config->markets >= 1 && config->markets <= OC_INSTRUMENTS_MAX))
        return OC_FAIL(OC_ECONFIG, "engine: %u instruments, not from 1 to %d", config->markets, OC_INSTRUMENTS_MAX);
    OC_TRY(account_check(&config->account));
    for (uint32_t i = 0; i < config->markets; i++) {
        OC_TRY(
            bounds_check(&config->market[i], market_bounds, sizeof market_bounds / sizeof *market_bounds, "market."));
    }
    return OC_OK;
}

oc_hash oc_engine_config_hash(const oc_engine_config *config)
{
    oc_engine_account account = config->account;
    account.epoch = 0; /* rises with every start, decides nothing */
    oc_hash a = oc_hash_bytes(&account, sizeof account);
    return oc_hash_pair(a, oc_hash_bytes(config->market, config->markets * sizeof *config->market));
}

void oc_engine_account_default(oc_engine_account *account)
{
    const int64_t second = OC_SECOND_NS, money = INT64_C(1000000);
    memset(account, 0, sizeof *account);
    account->epoch = 1;
    account->leap_ns = 31 * DAY_NS; /* longer than markets are closed, and than from one monthly file to the next */
    account->risk = (oc_risk_account){1000000 * money,
                                      10000 * money,
                                      20000 * money,
                                      10000 * money,
                                      20000 * money,
                                      second / 50,
                                      50,
                                      10,
                                      second / 100,
                                      32,
                                      0};
    oc_policy_config *p = &account->policy;
    p->buy_threshold = p->sell_threshold = 0.5;
    p->prediction_stale_ns = second;
    p->fallback_after_ns = 10 * second;
    p->cross_interval_ns = second;
    p->quote_interval_ns = second / 10;
    p->quote_lots = 1;
    p->quote_position_lots = 10;
    p->lifetime_ns = 10 * second;
    p->cross_fast = 10;
    p->cross_slow = 50;
    p->order_type = OC_ORDER_MARKET;
    p->short_allowed = 1;
}

void oc_engine_market_default(oc_engine_market *market)
{
    memset(market, 0, sizeof *market);
    market->risk = (oc_risk_instrument){{1, 1}, 1, 1, INT64_C(100000) * 1000000, 1, 100, 5 * OC_SECOND_NS};
    market->target_lots = 1;
}

/* ---- storage ---- */

static size_t rings_at(const oc_engine_config *config)
{
    return oc_align_up(sizeof(oc_engine) + config->markets * sizeof(market_state));
}

size_t oc_engine_bytes(const oc_engine_config *config)
{
    return oc_align_up(rings_at(config) +
                       (size_t)config->markets * config->account.policy.cross_slow * sizeof(int64_t));
}

oc_status oc_engine_init(oc_engine **out, void *memory, size_t memory_bytes, const oc_engine_config *config)
{
    *out = NULL;
    OC_TRY(oc_engine_config_check(config));
    size_t needed = oc_engine_bytes(config);
    if (memory_bytes < needed)
        return OC_FAIL(OC_EMEMORY, "engine: %zu bytes given, %zu are needed", memory_bytes, needed);
    memset(memory, 0, needed);
    oc_engine *e = memory;
    e->bytes = needed;
    e->rings_at = rings_at(config);
    e->config_hash = oc_engine_config_hash(config);
    e->account = config->account;
    e->markets = config->markets;
    e->next_sequence = 1;
    e->totals.epoch = config->account.epoch;
    e->token_ns = config->account.risk.message_burst * config->account.risk.message_ns;
    for (uint32_t i = 0; i < config->markets; i++) {
        e->market[i].config = config->market[i];
        e->market[i].confidence = 1;
    }
    *out = e;
    return OC_OK;
}

/* ---- saving ---- */

typedef struct state_header {
    char magic[8];
    uint32_t version, reserved;
    uint64_t bytes;        /* of the state behind this header */
    oc_hash config, check; /* check: of the header before it and the state */
} state_header;

static const char magic[8] = "OCENGINE";

static oc_hash state_check(const state_header *h, const void *state)
{
    return oc_hash_pair(oc_hash_bytes(h, offsetof(state_header, check)), oc_hash_bytes(state, (size_t)h->bytes));
}

size_t oc_engine_save_bytes(const oc_engine *e)
{
    return sizeof(state_header) + (size_t)e->bytes;
}

oc_status oc_engine_save(const oc_engine *e, void *state, size_t cap, size_t *bytes)
{
    state_header h = {.version = OC_ENGINE_VERSION, .bytes = e->bytes, .config = e->config_hash};
    *bytes = oc_engine_save_bytes(e);
    if (cap < *bytes) return OC_FAIL(OC_ELIMIT, "engine state: room for %zu bytes, %zu are needed", cap, *bytes);
    memcpy(h.magic, magic, sizeof magic);
    h.check = state_check(&h, e);
    memcpy(state, &h, sizeof h);
    memcpy((unsigned char *)state + sizeof h, e, (size_t)e->bytes);
    return OC_OK;
}

oc_status oc_engine_load(oc_engine *e, const void *state, size_t bytes)
{
    state_header h;
    const unsigned char *body = (const unsigned char *)state + sizeof h;
    if (bytes < sizeof h) return OC_FAIL(OC_EDATA, "engine state: %zu bytes are less than a header", bytes);
    memcpy(&h, state, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) != 0) return OC_FAIL(OC_EDATA, "engine state: this is none");
    if (h.version != OC_ENGINE_VERSION)
        return OC_FAIL(OC_EDATA, "engine state: version %u, this build reads %d", h.version, OC_ENGINE_VERSION);
    if (!oc_hash_equal(h.config, e->config_hash))
        return OC_FAIL(OC_EDATA, "engine state: it belongs to another configuration");
    if (h.bytes != e->bytes || bytes != sizeof h + h.bytes)
        return OC_FAIL(OC_EDATA, "engine state: %zu bytes, not %zu: cut or of another build", bytes,
                       sizeof h + (size_t)e->bytes);
    if (!oc_hash_equal(h.check, state_check(&h, body))) return OC_FAIL(OC_EDATA, "engine state: damaged (checksum)");
    oc_engine *saved; /* aligned, and e as it was where the check refuses */
    OC_TRY(oc_memory_new(&saved, (size_t)h.bytes, "engine state"));
    memcpy(saved, body, (size_t)h.bytes);
    oc_status status = oc_engine_state_check(e, saved);
    if (status == OC_OK) memcpy(e, saved, (size_t)h.bytes);
    oc_memory_free(saved);
    return status;
}

oc_hash oc_engine_state_hash(const oc_engine *e)
{
    return oc_hash_bytes(e, (size_t)e->bytes);
}

/* ---- looking inside ---- */

oc_trading_state oc_engine_trading_state(const oc_engine *e)
{
    return (oc_trading_state)e->totals.state;
}

oc_engine_totals oc_engine_totals_of(const oc_engine *e)
{
    oc_engine_totals t = e->totals;
    for (uint32_t i = 0; i < e->order_count; i++) t.unknown_orders |= e->order[i].state == OC_ORDER_SENT_UNKNOWN;
    return t;
}

oc_position oc_engine_position(const oc_engine *e, uint32_t instrument)
{
    assert(instrument < e->markets);
    return e->market[instrument].position;
}

uint32_t oc_engine_markets(const oc_engine *e)
{
    return e->markets;
}

int64_t oc_engine_stale_ns(const oc_engine *e, uint32_t instrument)
{
    assert(instrument < e->markets);
    return e->market[instrument].config.risk.stale_ns;
}

uint32_t oc_engine_order_count(const oc_engine *e)
{
    return e->order_count;
}

const oc_open_order *oc_engine_order(const oc_engine *e, uint32_t index)
{
    assert(index < e->order_count);
    return &e->order[index];
}

uint64_t oc_engine_next_sequence(const oc_engine *e)
{
    return e->next_sequence;
}

int64_t oc_engine_time(const oc_engine *e)
{
    return e->now_ns;
}
