/* cmd_study.c - outcry study: walk-forward folds, trials and seeds. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/progress.h"
#include "evaluate/study.h"
#include "tools/commands.h"
#include "train/train.h"

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

static oc_status config_read(const oc_cli *cli, oc_config **config)
{
    const oc_config_key *keys;
    size_t count;
    OC_TRY(oc_study_keys(&keys, &count));
    OC_TRY(oc_config_open(config, cli->arguments[0], keys, count, cli->sets, cli->set_count));
    return OC_OK;
}

/* `threads: 0` is one a core, and ranks of a host share its cores, bound to some or not. */
static oc_status threads_share(oc_cli *cli, const oc_comm *comm, oc_config **config)
{
    static char text[32];
    cpu_set_t set;
    if (comm->local == 1 || oc_config_int(*config, "threads") > 0 || cli->set_count == OC_CLI_SETS_MAX) return OC_OK;
    int bound = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int own = (int)sysconf(_SC_NPROCESSORS_ONLN) / comm->local, threads = bound < own ? bound : own;
    snprintf(text, sizeof text, "threads=%d", threads > 1 ? threads : 1);
    cli->sets[cli->set_count++] = text;
    oc_config_close(*config);
    *config = NULL;
    OC_TRY(config_read(cli, config));
    return OC_OK;
}

/* One rank of the study; rank 0 alone speaks, but for failures, which carry the rank's name. */
static oc_status ranks_run(oc_cli *cli, oc_config **config, int part, int parts, oc_study_result *r, bool *speaks)
{
    oc_comm comm;
    char name[OC_COMM_NAME];
    OC_TRY(oc_comm_open(&comm, NULL, oc_config_int(*config, "comm.start_timeout_ns")));
    *speaks = comm.rank == 0;
    bool several = comm.ranks > 1;
    memcpy(name, comm.name, sizeof name);
    if (!*speaks) {
        oc_cli_log_level(cli, "error");
        oc_progress_set_quiet(true);
        cli->json = false;
    }
    oc_status status = threads_share(cli, &comm, config);
    if (status == OC_OK && several && parts > 0)
        status = OC_FAIL(OC_EUSAGE, "--part %d/%d with %d ranks: the ranks are the parts", part, parts, comm.ranks);
    else if (status == OC_OK && parts > 0)
        status = oc_study_run(*config, oc_cli_text(cli, "out"), part, parts, r);
    else if (status == OC_OK)
        status = oc_study_run_ranks(&comm, *config, oc_cli_text(cli, "out"), r);
    oc_comm_close(&comm, status);
    return status != OC_OK && several ? oc_status_prefix(status, "%s", name) : status;
}

static oc_status run(oc_cli *cli)
{
    int part, parts;
    oc_config *config;
    oc_study_result r;
    bool speaks = true;
    char hash[OC_HASH_TEXT];
    OC_TRY(part_read(cli, &part, &parts));
    OC_TRY(config_read(cli, &config));
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    oc_cli_on_stop(oc_train_request_stop);
    oc_status status = ranks_run(cli, &config, part, parts, &r, &speaks);
    oc_config_close(config);
    OC_TRY(status);
    if (!speaks) return OC_OK;
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
        "Over several processes that share the folder: the same command with --part 1/4 … 4/4 at once, then without; "
        "or\n"
        "mpirun -n 4 outcry study …, whose ranks share the runs and whose first merges them.",
    .options = options,
    .config = true,
    .help = help,
    .run = run,
};
