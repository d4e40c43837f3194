/* cmd_report.c - outcry report: results as one self-contained page. */
#include "evaluate/report.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"out", "R.html", NULL, true, "page to write; the same figures as JSON beside it (R.json)"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status run(oc_cli *cli)
{
    OC_TRY(oc_report_write(cli->arguments, cli->argument_count, oc_cli_text(cli, "out")));
    oc_cli_say(cli, "%s\n", oc_cli_text(cli, "out"));
    if (json_object_set_new(cli->result, "report", json_string(oc_cli_text(cli, "out"))) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    return OC_OK;
}

const oc_command oc_command_report = {
    .name = "report",
    .arguments = "RESULT|STUDY|RUN...",
    .arguments_min = 1,
    .arguments_max = 256,
    .summary = "Writes one self-contained HTML page about results, studies and paper trades",
    .description = "Each input is a folder of `outcry evaluate` (metrics.json, predictions.h5), of `outcry study` "
                   "(study.json), or of `outcry\n"
                   "backtest` or `outcry trade` (results.json and its journal). Predictions and journals are hashed "
                   "again: what has\n"
                   "changed since is refused. Intervals are 95 % block bootstrap.\n"
                   "Example: outcry report result study --out report.html",
    .options = options,
    .run = run,
};
