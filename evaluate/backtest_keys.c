/* backtest_keys.c - the keys of a backtest, and their way into the engine's and the venue's configuration. */
#include <stddef.h>
#include <string.h>

#include "evaluate/backtest.h"
#include "evaluate/backtest_parts.h"

#define DAY    86400e9
#define MONEY  2e18
#define LOTS   7e13
#define MINUTE 6e10

const oc_config_key oc_backtest_keys[] = {
    {"data.events", OC_CONFIG_LIST, 1, 65535, NULL, NULL, "", "event files, a path or a list"},
    {"data.first_ns", OC_CONFIG_INT, 0, 9.2e18, "0", NULL, "ns",
     "trades from here on; events before are history only. 0: from the first"},
    {"data.last_ns", OC_CONFIG_INT, 0, 9.2e18, "0", NULL, "ns", "trades up to here; 0: to the last"},
    {"data.unseen", OC_CONFIG_BOOL, 0, 0, "false", NULL, "",
     "begin behind everything that the bundle has seen, if that is later than first_ns"},
    {"data.dataset", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "the dataset that the bundle was trained on: the run gets a line in its ledger; empty: none"},
    {"model.bundle", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "folder RUN/model of a training; needed by policy model"},
    {"model.predictions", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "instead of a bundle: a file predictions.h5 of outcry evaluate, or one made elsewhere (docs/formats.md)"},
    {"model.horizon", OC_CONFIG_INT, 0, OC_HORIZONS_MAX - 1, "0", NULL, "", "which of its labels is traded"},
    {"features", OC_CONFIG_LIST, 0, OC_FEATURES_MAX, "", NULL, "",
     "columns of a run without a bundle, made at every row; a bundle brings its own"},
    {"sample", OC_CONFIG_TEXT, 0, 0, "packet", NULL, "", "as the dataset was built: packet, packet:N, bar, trade:N"},
    {"row_ns", OC_CONFIG_INT, 0, DAY * 31, "0", NULL, "ns", "as the dataset was built"},
    {"bar_spread", OC_CONFIG_REAL, 0, 1e9, "0", NULL, "price", "as the dataset was built"},
    {"policy.kind", OC_CONFIG_CHOICE, 0, 0, "model", "model|cross|quote", "", "what decides the wanted position"},
    {"policy.target_lots", OC_CONFIG_INT, 1, LOTS, "1", NULL, "lots", "position that a signal asks for"},
    {"policy.buy_threshold", OC_CONFIG_REAL, 0, 1, "0.5", NULL, "", "long from this probability of buy on"},
    {"policy.sell_threshold", OC_CONFIG_REAL, 0, 1, "0.5", NULL, "", "short (or flat) from this one of sell on"},
    {"policy.confidence_min", OC_CONFIG_REAL, 0, 1, "0", NULL, "", "below it neither counts"},
    {"policy.short_allowed", OC_CONFIG_BOOL, 0, 0, "true", NULL, "", "false: sell means flat"},
    {"policy.hold_flat", OC_CONFIG_BOOL, 0, 0, "false", NULL, "", "no signal means flat; false: as it is"},
    {"policy.order_type", OC_CONFIG_CHOICE, 0, 0, "market", "market|limit|post|ioc", "", "of orders that open"},
    {"policy.offset_ticks", OC_CONFIG_INT, -7e13, 7e13, "0", NULL, "ticks",
     "of limit prices beyond the own best price; negative: behind"},
    {"policy.lifetime_ns", OC_CONFIG_INT, 1, DAY * 366, "10000000000", NULL, "ns", "of a resting order"},
    {"policy.stop_bps", OC_CONFIG_INT, 0, 1e6, "0", NULL, "1e-4", "loss at which a position is closed; 0: none"},
    {"policy.take_bps", OC_CONFIG_INT, 0, 1e6, "0", NULL, "1e-4", "gain at which it is closed; 0: none"},
    {"policy.cooldown_ns", OC_CONFIG_INT, 0, DAY * 366, "0", NULL, "ns", "no new position for so long after these"},
    {"policy.prediction_stale_ns", OC_CONFIG_INT, 0, DAY, "1000000000", NULL, "ns", "older predictions are refused"},
    {"policy.fallback", OC_CONFIG_CHOICE, 0, 0, "hold", "hold|flat|cross", "", "when predictions stay away"},
    {"policy.fallback_after_ns", OC_CONFIG_INT, 0, DAY, "10000000000", NULL, "ns", "for so long"},
    {"policy.cross_fast", OC_CONFIG_INT, 1, OC_CROSS_MAX, "10", NULL, "samples", "of the fast moving average"},
    {"policy.cross_slow", OC_CONFIG_INT, 1, OC_CROSS_MAX, "50", NULL, "samples", "of the slow one"},
    {"policy.cross_interval_ns", OC_CONFIG_INT, 1, DAY, "1000000000", NULL, "ns", "between their samples"},
    {"policy.quote_interval_ns", OC_CONFIG_INT, 1, DAY, "100000000", NULL, "ns", "policy quote: between two pairs"},
    {"policy.quote_lots", OC_CONFIG_INT, 1, LOTS, "1", NULL, "lots", "policy quote: a side"},
    {"policy.quote_position_lots", OC_CONFIG_INT, 0, LOTS, "10", NULL, "lots", "policy quote: position kept within"},
    {"costs.maker_ppm", OC_CONFIG_INT, -100000, 100000, "100", NULL, "1e-6",
     "fee of resting orders; 100: a basis point"},
    {"costs.taker_ppm", OC_CONFIG_INT, -100000, 100000, "100", NULL, "1e-6", "fee of orders that take"},
    {"costs.bar_half_spread_ticks", OC_CONFIG_INT, 0, 7e13, "1", NULL, "ticks", "of bars, which have no book"},
    {"costs.bar_lots", OC_CONFIG_INT, 0, LOTS, "1000000", NULL, "lots", "displayed a side beside a bar"},
    {"decision_delay_ns", OC_CONFIG_INT, 0, MINUTE, "1000000", NULL, "ns", "from a row's event to its prediction"},
    {"decision_delay_file", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "delays that were measured (delays.json of a live session): one is drawn for each prediction, "
     "decision_delay_ns is not looked at; empty: none"},
    {"latency.to_ns", OC_CONFIG_INT, 1, MINUTE, "1000000", NULL, "ns", "from us to the venue"},
    {"latency.to_jitter_ns", OC_CONFIG_INT, 0, MINUTE, "0", NULL, "ns", "drawn on top, from 0 to this"},
    {"latency.back_ns", OC_CONFIG_INT, 1, MINUTE, "1000000", NULL, "ns", "from the venue to us"},
    {"latency.back_jitter_ns", OC_CONFIG_INT, 0, MINUTE, "0", NULL, "ns", "drawn on top, from 0 to this"},
    {"venue.reject_ppm", OC_CONFIG_INT, 0, 1e6, "0", NULL, "1e-6", "share of new orders refused, drawn"},
    {"venue.partial", OC_CONFIG_BOOL, 0, 0, "true", NULL, "", "fills of resting orders in parts"},
    {"risk.order_lots_max", OC_CONFIG_INT, 0, LOTS, "10", NULL, "lots", "one order"},
    {"risk.order_micros_max", OC_CONFIG_INT, 0, MONEY, "100000000000", NULL, "micro", "value of one order"},
    {"risk.position_lots_max", OC_CONFIG_INT, 0, LOTS, "10", NULL, "lots", "one instrument, open orders filled"},
    {"risk.collar_bps", OC_CONFIG_INT, 0, 1e6, "100", NULL, "1e-4", "an order's price against the mid"},
    {"risk.stale_ns", OC_CONFIG_INT, 0, DAY, "5000000000", NULL, "ns", "older quotes open nothing"},
    {"risk.exposure_micros_max", OC_CONFIG_INT, 0, MONEY, "1000000000000", NULL, "micro", "all instruments"},
    {"risk.daily_loss_micros", OC_CONFIG_INT, 0, MONEY, "10000000000", NULL, "micro", "from here on only reducing"},
    {"risk.daily_loss_halt_micros", OC_CONFIG_INT, 0, MONEY, "20000000000", NULL, "micro", "from here on halted"},
    {"risk.drawdown_micros", OC_CONFIG_INT, 0, MONEY, "10000000000", NULL, "micro", "from here on only reducing"},
    {"risk.drawdown_halt_micros", OC_CONFIG_INT, 0, MONEY, "20000000000", NULL, "micro", "from here on halted"},
    {"risk.message_ns", OC_CONFIG_INT, 1, DAY, "20000000", NULL, "ns", "throttle: one message so often, …"},
    {"risk.message_burst", OC_CONFIG_INT, 1, 10000, "50", NULL, "", "… so many at once, …"},
    {"risk.message_reserve", OC_CONFIG_INT, 0, 9999, "10", NULL, "", "… of which are kept for cancels"},
    {"risk.duplicate_ns", OC_CONFIG_INT, 0, DAY, "10000000", NULL, "ns", "the same order is refused for so long"},
    {"risk.open_orders_max", OC_CONFIG_INT, 1, OC_ENGINE_ORDERS_MAX, "32", NULL, "", "at once"},
    {"risk.leap_ns", OC_CONFIG_INT, 1, DAY * 3660, "2678400000000000", NULL, "ns",
     "time that goes further ahead in one step (31 days) is not believed at once, and from there on only reducing"},
    {"risk.confidence_min", OC_CONFIG_REAL, 0, 1, "0", NULL, "", "of an order that opens"},
    {"report.interval_ns", OC_CONFIG_INT, 1e6, DAY * 31, "60000000000", NULL, "ns",
     "of the returns behind Sharpe, Sortino"},
    {"report.capital_micros", OC_CONFIG_INT, 0, MONEY, "0", NULL, "micro",
     "what drawdowns and dated returns are fractions of; 0: what buying and holding takes at first"},
    {"journal.durability", OC_CONFIG_CHOICE, 0, 0, "group", "group|order", "", "when it is synced to the disk"},
    {"journal.snapshot_every", OC_CONFIG_INT, 0, 9e15, "0", NULL, "inputs", "state into the journal; 0: never"},
    {"seed", OC_CONFIG_INT, 0, 9e15, "1", NULL, "", "of the venue's jitter and rejects"},
    {"log.level", OC_CONFIG_CHOICE, 0, 0, "info", "error|warn|info|debug", "", "least level that is logged"},
};
const size_t oc_backtest_key_count = sizeof oc_backtest_keys / sizeof *oc_backtest_keys;

typedef struct place_row {
    const char *key;
    size_t at;
} place_row;

#define ACCOUNT(field) {#field, offsetof(oc_engine_account, field)}
static const place_row account_ints[] = {
    ACCOUNT(policy.offset_ticks), ACCOUNT(policy.lifetime_ns), ACCOUNT(policy.stop_bps), ACCOUNT(policy.take_bps),
    ACCOUNT(policy.cooldown_ns), ACCOUNT(policy.prediction_stale_ns), ACCOUNT(policy.fallback_after_ns),
    ACCOUNT(policy.cross_interval_ns), ACCOUNT(policy.quote_interval_ns), ACCOUNT(policy.quote_lots),
    ACCOUNT(policy.quote_position_lots), ACCOUNT(risk.exposure_micros_max), ACCOUNT(risk.daily_loss_micros),
    ACCOUNT(risk.daily_loss_halt_micros), ACCOUNT(risk.drawdown_micros), ACCOUNT(risk.drawdown_halt_micros),
    ACCOUNT(risk.message_ns), ACCOUNT(risk.message_burst), ACCOUNT(risk.message_reserve), ACCOUNT(risk.duplicate_ns),
    ACCOUNT(risk.open_orders_max),
};
static const place_row account_reals[] = {
    ACCOUNT(policy.buy_threshold), ACCOUNT(policy.sell_threshold), ACCOUNT(policy.confidence_min),
    ACCOUNT(risk.confidence_min),
};
#define MARKET(field) {#field, offsetof(oc_engine_market, field)}
static const place_row market_ints[] = {
    MARKET(risk.order_lots_max), MARKET(risk.order_micros_max), MARKET(risk.position_lots_max),
    MARKET(risk.collar_bps), MARKET(risk.stale_ns),
};

static void ints_take(const oc_config *c, const place_row *row, size_t rows, void *base)
{
    for (size_t i = 0; i < rows; i++) {
        int64_t value = oc_config_int(c, row[i].key);
        memcpy((unsigned char *)base + row[i].at, &value, sizeof value);
    }
}

/* The index of what a key chose among `names`; the config has refused anything else. */
static uint32_t choice(const oc_config *c, const char *key, const char *const *names, uint32_t count)
{
    uint32_t i = 0;
    while (i + 1 < count && strcmp(names[i], oc_config_text(c, key)) != 0) i++;
    return i;
}

static void account_read(const oc_config *c, oc_engine_account *a)
{
    static const char *const kinds[] = {"model", "cross", "quote"}, *const fallbacks[] = {"hold", "flat", "cross"},
                             *const types[] = {"market", "limit", "post", "ioc"};
    oc_engine_account_default(a);
    ints_take(c, account_ints, sizeof account_ints / sizeof *account_ints, a);
    for (size_t i = 0; i < sizeof account_reals / sizeof *account_reals; i++) {
        double value = oc_config_real(c, account_reals[i].key);
        memcpy((unsigned char *)a + account_reals[i].at, &value, sizeof value);
    }
    a->leap_ns = oc_config_int(c, "risk.leap_ns");
    a->policy.kind = OC_POLICY_MODEL + choice(c, "policy.kind", kinds, 3);
    a->policy.fallback = OC_FALLBACK_HOLD + choice(c, "policy.fallback", fallbacks, 3);
    a->policy.order_type = OC_ORDER_MARKET + choice(c, "policy.order_type", types, 4);
    a->policy.cross_fast = (uint32_t)oc_config_int(c, "policy.cross_fast");
    a->policy.cross_slow = (uint32_t)oc_config_int(c, "policy.cross_slow");
    a->policy.short_allowed = oc_config_bool(c, "policy.short_allowed");
    a->policy.hold_flat = oc_config_bool(c, "policy.hold_flat");
}

static oc_status market_read(backtest_setup *s, const oc_config *c, const oc_instrument *instrument, uint32_t i)
{
    oc_engine_market *m = &s->market[i];
    oc_money_scale scale;
    int64_t order_tick;
    oc_engine_market_default(m);
    ints_take(c, market_ints, sizeof market_ints / sizeof *market_ints, m);
    if (!oc_money_scale_of(instrument, &scale) ||
        !oc_decimal_divide(instrument->order_tick, instrument->tick, &order_tick) || order_tick < 1)
        return OC_FAIL(OC_EDATA, "%s: a tick x lot is not a sum of money that can be counted exactly",
                       instrument->symbol);
    m->risk.scale = scale;
    m->risk.order_tick_ticks = order_tick;
    m->target_lots = oc_config_int(c, "policy.target_lots");
    s->venue_market[i] = (oc_simulated_market){.scale = scale,
                                               .order_tick_ticks = order_tick,
                                               .maker_ppm = oc_config_int(c, "costs.maker_ppm"),
                                               .taker_ppm = oc_config_int(c, "costs.taker_ppm"),
                                               .bar_half_spread_ticks = oc_config_int(c, "costs.bar_half_spread_ticks"),
                                               .bar_lots = oc_config_int(c, "costs.bar_lots")};
    return OC_OK;
}

oc_status backtest_setup_read(backtest_setup *s, const oc_config *c, const oc_instrument *universe,
                              uint32_t instruments)
{
    account_read(c, &s->engine.account);
    for (uint32_t i = 0; i < instruments; i++) OC_TRY(market_read(s, c, &universe[i], i));
    s->engine.market = s->market;
    s->engine.markets = instruments;
    s->venue = (oc_simulated_config){.seed = (uint64_t)oc_config_int(c, "seed"),
                                     .to_ns = oc_config_int(c, "latency.to_ns"),
                                     .to_jitter_ns = oc_config_int(c, "latency.to_jitter_ns"),
                                     .back_ns = oc_config_int(c, "latency.back_ns"),
                                     .back_jitter_ns = oc_config_int(c, "latency.back_jitter_ns"),
                                     .reject_ppm = oc_config_int(c, "venue.reject_ppm"),
                                     .partial = oc_config_bool(c, "venue.partial"),
                                     .market = s->venue_market,
                                     .markets = instruments};
    return oc_engine_config_check(&s->engine);
}
