/* cmd_backtest.c - outcry backtest: a model or a rule over recorded events, through the trading loop. */
#include "base/log.h"
#include "evaluate/backtest.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"out", "RUN", NULL, true, "folder of the run: journal, config.yaml, results.json; must hold no journal yet"},
    {"in-sample", NULL, NULL, false, "run also over times that the model has seen; every output is stamped"},
    {NULL, NULL, NULL, false, NULL},
};

static double units(const json_t *r, const char *key)
{
    return (double)json_integer_value(json_object_get(r, key)) / 1e6;
}

static void print(const oc_cli *cli, const json_t *r)
{
    const json_t *sharpe = json_object_get(r, "sharpe");
    oc_cli_say(cli, "%s%lld events, %lld orders, %lld fills, %lld trades\n",
               json_is_true(json_object_get(r, "in_sample")) ? "IN SAMPLE: the model has seen this. " : "",
               (long long)json_integer_value(json_object_get(r, "events")),
               (long long)json_integer_value(json_object_get(r, "orders")),
               (long long)json_integer_value(json_object_get(r, "fills")),
               (long long)json_integer_value(json_object_get(r, "trades")));
    oc_cli_say(cli, "net P&L %.2f after fees %.2f (before fees %.2f; the spread is in both), drawdown %.2f, "
               "turnover %.2f",
               units(r, "pnl_micros"), units(r, "fees_micros"), units(r, "gross_micros"), units(r, "max_drawdown"),
               units(r, "turnover_micros"));
    if (json_is_real(sharpe)) oc_cli_say(cli, ", Sharpe %.2f", json_real_value(sharpe));
    oc_cli_say(cli, "\njournal %s\n", json_string_value(json_object_get(r, "journal_hash")));
}

static oc_status run(oc_cli *cli)
{
    oc_config *config;
    oc_log_level level;
    json_t *results = NULL;
    OC_TRY(oc_config_open(&config, cli->arguments[0], oc_backtest_keys, oc_backtest_key_count, cli->sets,
                          cli->set_count));
    if (oc_log_level_parse(oc_config_text(config, "log.level"), &level)) oc_log_set_level(level);
    oc_status status =
        oc_backtest_run(config, oc_cli_text(cli, "out"), oc_cli_flag(cli, "in-sample"), &results);
    oc_config_close(config);
    OC_TRY(status);
    print(cli, results);
    int failed = json_object_update(cli->result, results);
    json_decref(results);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

const oc_command oc_command_backtest = {
    .name = "backtest",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Trades recorded events on paper, through the loop, risk gate and journal of live trading",
    .description =
        "Reads events and a model, computes the same features, and lets the trading engine send orders to a simulated "
        "exchange beside the record. Prices are the book's, so half the spread is paid; fees, delays and limits are "
        "the config's. Times that the model has seen in training or validation are refused without --in-sample. Money "
        "in JSON is integer micro-units.\n\n"
        "  outcry backtest configs/backtest.yaml --set data.events=m.events --set model.bundle=run/model --set "
        "data.unseen=true --out paper",
    .options = options,
    .config = true,
    .run = run,
};
