/* cmd_replay.c - outcry replay: a journal decides again, and must come to the same. */
#include "evaluate/backtest.h"
#include "tools/commands.h"

static oc_status run(oc_cli *cli)
{
    json_t *results = NULL;
    OC_TRY(oc_backtest_replay(cli->arguments[0], &results));
    oc_cli_say(cli, "%s: identical; %lld records, state %s\n", cli->arguments[0],
               (long long)json_integer_value(json_object_get(results, "records")),
               json_string_value(json_object_get(results, "state_hash")));
    int failed = json_object_update(cli->result, results);
    json_decref(results);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

const oc_command oc_command_replay = {
    .name = "replay",
    .arguments = "RUN",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Reads the journal of a run, decides everything again and compares",
    .description =
        "Every record is checked, every input is given to a fresh engine, every answer is compared with the recorded "
        "one, and the end with results.json where it lies beside the journal. Damage, a cut and a difference are named "
        "and end with 65. A journal is replayed by the build that wrote it.\n\n"
        "  outcry replay paper --json",
    .run = run,
};
