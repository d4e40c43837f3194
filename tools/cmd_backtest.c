/* cmd_backtest.c - outcry backtest: a model or a rule over recorded events, through the trading loop. */
#include "evaluate/backtest.h"
#include "tools/commands.h"
#include "tools/paper.h"

static const oc_cli_option options[] = {
    {"out", "RUN", NULL, true, "folder of the run: journal, config.yaml, results.json; must hold no journal yet"},
    {"in-sample", NULL, NULL, false, "run also over times that the model has seen; every output is stamped"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status run(oc_cli *cli)
{
    oc_config *config;
    json_t *results = NULL;
    OC_TRY(
        oc_config_open(&config, cli->arguments[0], oc_backtest_keys, oc_backtest_key_count, cli->sets, cli->set_count));
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    oc_status status = oc_backtest_run(config, oc_cli_text(cli, "out"), oc_cli_flag(cli, "in-sample"), &results);
    oc_config_close(config);
    OC_TRY(status);
    return oc_paper_give(cli, results);
}

static void help(FILE *out)
{
    oc_config_help(oc_backtest_keys, oc_backtest_key_count, out);
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
    .help = help,
    .run = run,
};
