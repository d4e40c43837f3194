/* cmd_trade.c - outcry trade: the backtest's loop with a running server, and with a clock. */
#include "evaluate/trade.h"
#include "tools/commands.h"
#include "tools/paper.h"

static const oc_cli_option options[] = {
    {"out", "RUN", NULL, true,
     "folder of the session: journal, venue.log, config.yaml, results.json; without --resume it must hold no journal"},
    {"resume", NULL, NULL, false, "go on with the session in RUN, whatever ended it: nothing is decided twice"},
    {"in-sample", NULL, NULL, false, "run also over times that the model has seen; every output is stamped"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status run(oc_cli *cli)
{
    const oc_config_key *keys;
    size_t count;
    oc_config *config;
    json_t *results = NULL;
    OC_TRY(oc_trade_keys(&keys, &count));
    OC_TRY(oc_config_open(&config, cli->arguments[0], keys, count, cli->sets, cli->set_count));
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    oc_cli_on_stop(oc_trade_request_stop);
    const oc_trade_flags flags = {.in_sample = oc_cli_flag(cli, "in-sample"), .resume = oc_cli_flag(cli, "resume")};
    oc_status status = oc_trade_run(config, oc_cli_text(cli, "out"), flags, &results);
    oc_config_close(config);
    OC_TRY(status);
    return oc_paper_give(cli, results);
}

static void help(FILE *out)
{
    const oc_config_key *keys;
    size_t count;
    if (oc_trade_keys(&keys, &count) == OC_OK) oc_config_help(keys, count, out);
}

const oc_command oc_command_trade = {
    .name = "trade",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Trades a feed of recorded events on paper, with predictions from a running server",
    .description =
        "The loop, risk gate, journal and simulated exchange of a backtest; each row of features is pushed to the "
        "server behind serve.socket, which must answer by the model of model.bundle. clock replay: time is the "
        "events', each answer is waited for at most serve.wait_ns [5 s], and the journal is that of a backtest with "
        "the same keys, byte for byte. clock live: time is the clock's at feed.speed times the record's, predictions "
        "enter when they come, and delays.json holds the decision delays for a backtest to draw from. Without a "
        "server the loop holds and connects again; without one at the start it ends with 75. SIGTERM ends with 75 and "
        "everything saved. Times are ns, money in JSON integer micro-units.\n\n"
        "  outcry trade configs/trade.yaml --set data.events=m.events --set model.bundle=run/model --set "
        "data.unseen=true --out paper",
    .options = options,
    .config = true,
    .help = help,
    .run = run,
};
