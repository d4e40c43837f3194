/* paper_results.c - what a backtest or a paper session came to: results.json, and its dated returns in the ledger. All
 * figures are defined in docs/reading-a-report.md. The ledger gets its line before anyone can read a figure. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/build.h"
#include "base/file.h"
#include "base/memory.h"
#include "datasets/ledger.h"
#include "evaluate/backtest.h"
#include "evaluate/backtest_parts.h"
#include "evaluate/metrics.h"

enum { RESAMPLES = 1000, SAMPLES_MIN = 16 };

static void real_set(json_t *object, const char *key, double value) /* what is undefined is null */
{
    (void)json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

static void int_set(json_t *object, const char *key, int64_t value)
{
    (void)json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void micros_set(json_t *object, const char *key, double value) /* statistics, to the nearest micro-unit */
{
    (void)json_object_set_new(object, key, isfinite(value) ? json_integer((json_int_t)llrint(value)) : json_null());
}

static void text_set(json_t *object, const char *key, const char *text)
{
    (void)json_object_set_new(object, key, json_string(text));
}

/* ---- the ledger ---- */

/* Of the dataset only its name and hashes are kept: a backtest must not hold its rows. */
static oc_status ledger_key(const oc_dataset *d, oc_dataset **out)
{
    OC_TRY(oc_memory_new(out, sizeof **out, "the ledger's key"));
    memcpy((*out)->path, d->path, sizeof d->path);
    (*out)->root = d->root;
    (*out)->sources = d->sources;
    return OC_OK;
}

oc_status backtest_ledger_open(backtest *b)
{
    const char *path = oc_config_text(b->config, "data.dataset");
    const oc_hash *of = backtest_model_dataset(&b->model);
    oc_dataset *d;
    if (!*path) return OC_OK;
    OC_TRY(oc_dataset_open(&d, path));
    oc_status status = of && !oc_hash_equal(d->root, *of)
                           ? OC_FAIL(OC_EDATA, "%s is not the dataset that %s was trained on: name that, or none", path,
                                     backtest_model_name(&b->model, b->config))
                           : ledger_key(d, &b->ledger);
    oc_dataset_close(d);
    return status;
}

/* Changes of the account from stretch to stretch of the curve; the first from nothing. */
static size_t changes_of(const oc_curve *c, double capital, double *change, int64_t *end_ns)
{
    for (size_t i = 0; i < c->count; i++) {
        change[i] = (double)(c->point[i].equity_micros - (i ? c->point[i - 1].equity_micros : 0)) / capital;
        end_ns[i] = c->start_ns + (int64_t)(i + 1) * c->step_ns;
    }
    return c->count;
}

static double capital_of(const backtest *b)
{
    int64_t given = oc_config_int(b->config, "report.capital_micros");
    return given > 0 ? (double)given : b->tally.capital_micros;
}

/* The run is a trial where it looks at what the model has not seen. */
static oc_status ledger_note(const backtest *b, double *change, int64_t *end_ns)
{
    double capital = capital_of(b);
    if (!b->ledger) return OC_OK;
    size_t count = capital > 0 ? changes_of(&b->tally.curve, capital, change, end_ns) : 0;
    const oc_hash *bundle = backtest_model_weights(&b->model);
    const oc_ledger_entry entry = {.command = "backtest",
                                   .config = oc_hash_bytes(b->yaml, strlen(b->yaml)),
                                   .bundle = bundle ? *bundle : (oc_hash){0, 0},
                                   .seed = (uint64_t)oc_config_int(b->config, "seed"),
                                   .split = b->span.in_sample ? NULL : "test",
                                   .time_ns = end_ns,
                                   .returns = change,
                                   .return_count = count};
    return oc_ledger_append(b->ledger, &entry);
}

static oc_status trials_set(const backtest *b, json_t *out)
{
    char hash[OC_HASH_TEXT];
    oc_ledger_summary summary = {0};
    if (b->ledger) OC_TRY(oc_ledger_read(b->ledger, &summary));
    (void)json_object_set_new(out, "trials", summary.present ? json_integer((json_int_t)summary.trials) : json_null());
    (void)json_object_set_new(out, "ledger_hash",
                              summary.present ? json_string(oc_hash_text(summary.head, hash)) : json_null());
    return OC_OK;
}

/* ---- money ---- */

static void money_set(const backtest *b, json_t *out)
{
    const oc_tally *t = &b->tally;
    oc_engine_totals e = oc_engine_totals_of(oc_desk_engine(b->desk));
    int64_t fees = e.fees_micros + t->closing_fee_micros;
    double capital = capital_of(b);
    int_set(out, "pnl_micros", t->equity_micros);
    int_set(out, "gross_micros", t->equity_micros + fees);
    int_set(out, "fees_micros", fees);
    micros_set(out, "spread_micros", t->spread_micros);
    micros_set(out, "slippage_micros", t->slippage_micros);
    micros_set(out, "before_costs_micros", (double)(t->equity_micros + fees) + t->spread_micros + t->slippage_micros);
    micros_set(out, "turnover_micros", t->turnover_micros);
    micros_set(out, "hold_micros", t->hold_micros);
    micros_set(out, "capital_micros", capital);
    text_set(out, "capital_is",
             oc_config_int(b->config, "report.capital_micros") > 0 ? "report.capital_micros"
                                                                   : "buy and hold, at first");
    (void)json_object_set_new(out, "closing",
                              json_pack("{s:I, s:I, s:I, s:I}", "positions", (json_int_t)t->closed_at_end,
                                        "spread_micros", (json_int_t)t->closing_spread_micros, "fee_micros",
                                        (json_int_t)t->closing_fee_micros, "equity_before_micros",
                                        (json_int_t)e.equity_micros));
    int_set(out, "max_drawdown", t->drawdown_micros);
    real_set(out, "max_drawdown_fraction", capital > 0 ? (double)t->drawdown_micros / capital : (double)NAN);
}

static void figures_set(const backtest *b, json_t *out)
{
    const oc_tally *t = &b->tally;
    oc_engine_totals e = oc_engine_totals_of(oc_desk_engine(b->desk));
    real_set(out, "sharpe", oc_tally_sharpe(t));
    real_set(out, "sortino", oc_tally_sortino(t));
    real_set(out, "calmar", oc_tally_calmar(t));
    int_set(out, "intervals", (int64_t)t->intervals);
    int_set(out, "interval_ns", t->interval_ns);
    int_set(out, "trades", (int64_t)t->trades);
    real_set(out, "win_rate", oc_tally_win_rate(t));
    real_set(out, "profit_factor", oc_tally_profit_factor(t));
    micros_set(out, "mean_trade_micros", oc_tally_mean_trade(t));
    real_set(out, "time_in_market", oc_tally_time_in_market(t));
    int_set(out, "orders", (int64_t)e.orders);
    int_set(out, "cancels", (int64_t)e.cancels);
    int_set(out, "fills", (int64_t)e.fills);
    int_set(out, "refusals", (int64_t)e.refusals);
    int_set(out, "bad_inputs", (int64_t)e.bad_inputs);
    int_set(out, "state", e.state);
}

/* A block covers twice the time that a position is held on average: what one position earns hangs together. */
static size_t block_of(const oc_tally *t)
{
    size_t count = t->curve.count;
    double held = t->trades ? (double)t->held_ns / (double)t->trades / (double)t->curve.step_ns : 0;
    return oc_bootstrap_block(count, held < (double)count ? (size_t)ceil(held) : count);
}

static const char *verdict_of(const backtest *b, const oc_interval_of *i)
{
    if (b->tally.turnover_micros <= 0) return "It did not trade.";
    if (!isfinite(i->low)) return "The run is too short for an interval: nothing is shown.";
    if (i->high < 0) return "A loss after costs: the whole 95 % interval lies below 0.";
    if (!(i->low > 0)) return "Nothing is shown: the 95 % interval of the net P&L holds 0.";
    if (b->span.in_sample)
        return "The 95 % interval lies above 0, over times that the model has seen: that shows nothing.";
    if (!backtest_model_provenance(&b->model))
        return "The 95 % interval lies above 0; whether the predictions had seen these times is unknown.";
    return "A profit after costs: the whole 95 % interval of the net P&L lies above 0.";
}

static oc_status interval_set(const backtest *b, json_t *out, double *change, int64_t *end_ns)
{
    const oc_tally *t = &b->tally;
    oc_interval_of i = {(double)t->equity_micros, (double)NAN, (double)NAN};
    const oc_bootstrap_rule rule = {block_of(t), RESAMPLES, 0.95, (uint64_t)oc_config_int(b->config, "seed")};
    size_t count = changes_of(&t->curve, 1, change, end_ns);
    if (count >= SAMPLES_MIN) OC_TRY(oc_bootstrap_sum(&i, change, count, &rule));
    json_t *row = json_object();
    micros_set(row, "value", i.value);
    micros_set(row, "low", i.low);
    micros_set(row, "high", i.high);
    int_set(row, "samples", (int64_t)count);
    int_set(row, "block", (int64_t)rule.block);
    int_set(row, "resamples", RESAMPLES);
    (void)json_object_set_new(out, "pnl_interval_micros", row);
    bool shown = i.low > 0 && !b->span.in_sample && backtest_model_provenance(&b->model);
    (void)json_object_set_new(out, "verdict", json_pack("{s:s, s:b}", "text", verdict_of(b, &i), "shown", shown));
    return OC_OK;
}

/* ---- the rest ---- */

static json_t *positions(const backtest *b)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < b->instruments; i++) {
        oc_position p = oc_engine_position(oc_desk_engine(b->desk), i);
        json_t *row = json_pack("{s:s, s:I, s:I, s:I}", "symbol", b->universe[i].symbol, "lots", (json_int_t)p.lots,
                                "value_micros", (json_int_t)p.value_micros, "fees_micros", (json_int_t)p.fees_micros);
        if (row) (void)json_array_append_new(list, row);
    }
    return list;
}

static json_t *value_of(const oc_config *c, const oc_config_key *key)
{
    switch (key->type) {
    case OC_CONFIG_INT:
        return json_integer((json_int_t)oc_config_int(c, key->key));
    case OC_CONFIG_REAL:
        return json_real(oc_config_real(c, key->key));
    case OC_CONFIG_BOOL:
        return json_boolean(oc_config_bool(c, key->key));
    case OC_CONFIG_TEXT:
    case OC_CONFIG_CHOICE:
        return json_string(oc_config_text(c, key->key));
    default:
        break;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < oc_config_count(c, key->key); i++)
        (void)json_array_append_new(list, json_string(oc_config_item(c, key->key, i)));
    return list;
}

/* How everything was set, by the config's own names. */
static json_t *settings(const backtest *b)
{
    json_t *out = json_object();
    for (size_t i = 0; i < oc_backtest_key_count; i++)
        (void)json_object_set_new(out, oc_backtest_keys[i].key, value_of(b->config, &oc_backtest_keys[i]));
    return out;
}

static json_t *curve(const oc_curve *c)
{
    json_t *equity = json_array(), *hold = json_array(), *fall = json_array();
    for (size_t i = 0; i < c->count; i++) {
        (void)json_array_append_new(equity, json_integer((json_int_t)c->point[i].equity_micros));
        (void)json_array_append_new(hold, json_integer((json_int_t)c->point[i].hold_micros));
        (void)json_array_append_new(fall, json_integer((json_int_t)c->point[i].drawdown_micros));
    }
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "start_ns", (json_int_t)c->start_ns, "step_ns",
                     (json_int_t)c->step_ns, "equity_micros", equity, "hold_micros", hold, "drawdown_micros", fall);
}

static void head_set(const backtest *b, json_t *out)
{
    double seconds = (double)(b->took_ns > 0 ? b->took_ns : 1) / 1e9;
    text_set(out, "format", "outcry-backtest");
    int_set(out, "version", 1);
    (void)json_object_set_new(out, "in_sample", json_boolean(b->span.in_sample));
    text_set(out, "provenance", backtest_model_provenance(&b->model) ? "known" : "provenance unknown");
    (void)json_object_set_new(out, "predictor", backtest_model_json(&b->model, b->config));
    text_set(out, "build", oc_build_text());
    int_set(out, "events", (int64_t)b->loop.events);
    int_set(out, "traded_events", (int64_t)b->loop.traded_events);
    int_set(out, "rows", (int64_t)b->loop.rows);
    int_set(out, "predictions", (int64_t)b->loop.predictions);
    int_set(out, "first_ns", b->loop.first_ns);
    int_set(out, "last_ns", b->loop.last_ns);
    real_set(out, "events_per_second", (double)b->loop.events / seconds);
}

static oc_status results_fill(const backtest *b, json_t *out)
{
    char journal[OC_HASH_TEXT], state[OC_HASH_TEXT];
    double *change = NULL;
    int64_t *end_ns = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&change, OC_CURVE_MAX, sizeof *change, "results"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&end_ns, OC_CURVE_MAX, sizeof *end_ns, "results"));
    OC_TRY_GOTO(status, done, ledger_note(b, change, end_ns));
    head_set(b, out);
    money_set(b, out);
    OC_TRY_GOTO(status, done, interval_set(b, out, change, end_ns));
    figures_set(b, out);
    OC_TRY_GOTO(status, done, trials_set(b, out));
    (void)json_object_set_new(out, "positions", positions(b));
    text_set(out, "journal_hash", oc_hash_text(oc_desk_journal_hash(b->desk), journal));
    text_set(out, "state_hash", oc_hash_text(oc_engine_state_hash(oc_desk_engine(b->desk)), state));
    (void)json_object_set_new(out, "settings", settings(b));
    (void)json_object_set_new(out, "curve", curve(&b->tally.curve));
done:
    oc_memory_free(change);
    oc_memory_free(end_ns);
    return status;
}

oc_status backtest_results(const backtest *b, json_t **results)
{
    char path[OC_PATH_MAX];
    json_t *out = json_object();
    if (!out) return OC_FAIL(OC_EMEMORY, "no memory for the results");
    oc_status status = results_fill(b, out);
    if (b->more) (void)json_object_update(out, b->more);
    if (status == OC_OK) status = oc_path_join(path, sizeof path, b->out, "results.json");
    if (status == OC_OK) status = oc_json_save(path, out);
    if (status == OC_OK)
        *results = out;
    else
        json_decref(out);
    return status;
}
