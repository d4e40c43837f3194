/* cmd_study.c - outcry study: walk-forward folds, trials and seeds. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "evaluate/study.h"
#include "tools/commands.h"

enum { PARTS_MAX = 100000 };

static const oc_cli_option options[] = {
    {"out", "FOLDER", NULL, true, "folder of the study; an unfinished one goes on where it stopped"},
    {"part", "I/N", NULL, false, "train only the I-th of N shares of the runs; without it, when all are done, merge"},
    {NULL, NULL, NULL, false, NULL},
};

/* "2/4": digits, a stroke, digits. */
static oc_status part_read(const oc_cli *cli, int *part, int *parts)
{
    const char *text = oc_cli_text(cli, "part");
    char *end = NULL;
    *part = *parts = 0;
    if (!text) return OC_OK;
    bool digits = text[strspn(text, "0123456789/")] == '\0';
    long i = strtol(text, &end, 10), n = *end == '/' ? strtol(end + 1, &end, 10) : 0;
    if (!digits || *end != '\0' || !(i >= 1 && i <= n && n <= PARTS_MAX))
        return OC_FAIL(OC_EUSAGE, "--part %s: wants I/N with I from 1 to N, N at most %d", text, PARTS_MAX);
    *part = (int)i;
    *parts = (int)n;
    return OC_OK;
}

static oc_status run(oc_cli *cli)
{
    int part, parts;
    const oc_config_key *keys;
    size_t count;
    oc_config *config;
    oc_study_result r;
    char hash[OC_HASH_TEXT];
    OC_TRY(part_read(cli, &part, &parts));
    OC_TRY(oc_study_keys(&keys, &count));
    OC_TRY(oc_config_open(&config, cli->arguments[0], keys, count, cli->sets, cli->set_count));
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    oc_status status = oc_study_run(config, oc_cli_text(cli, "out"), part, parts, &r);
    oc_config_close(config);
    OC_TRY(status);
    oc_cli_say(cli, "%lld runs%s: %lld folds, %lld trials; ledger %s\n", (long long)r.runs,
               parts ? " of this part" : "", (long long)r.folds, (long long)r.trials, oc_hash_text(r.ledger, hash));
    json_t *result = json_pack("{s:I, s:I, s:I, s:s}", "runs", (json_int_t)r.runs, "trials", (json_int_t)r.trials,
                               "folds", (json_int_t)r.folds, "ledger_hash", oc_hash_text(r.ledger, hash));
    int failed = json_object_update(cli->result, result);
    json_decref(result);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

static void help(FILE *out)
{
    const oc_config_key *keys;
    size_t count;
    if (oc_study_keys(&keys, &count) == OC_OK) oc_config_help(keys, count, out);
}

const oc_command oc_command_study = {
    .name = "study",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Trains and tests over walk-forward folds, trials and seeds; resumable",
    .description =
        "Reads a dataset and trains every trial with every seed on each fold; the trial with the best mean validation "
        "loss of a fold is tested, the\n"
        "others never see the test split. Every look at a test split is a line in the ledger beside the dataset.\n"
        "Example: outcry study configs/study.yaml --set data.dataset=eurusd.h5 --out study\n"
        "Over several processes that share the folder: the same command with --part 1/4 … 4/4 at once, then without.",
    .options = options,
    .config = true,
    .help = help,
    .run = run,
};
