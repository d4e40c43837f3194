/* cmd_train.c - outcry train: a dataset and a fold become RUN/{config.yaml, log.jsonl, checkpoints/, model/}. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "tools/commands.h"
#include "train/train.h"

static const oc_cli_option options[] = {
    {"out", "RUN", NULL, true, "folder of the run; absent or empty without --resume"},
    {"resume", NULL, NULL, false, "go on from the newest checkpoint in RUN; the result is that of an unbroken run"},
    {"store", "HOST:PORT", NULL, false,
     "where rank 0 runs: GPU ranks as plain processes that meet there; without it a launcher's ranks, or one"},
    {"rank", "I", NULL, false, "with --store: which rank this process is, from 0"},
    {"ranks", "N", NULL, false, "with --store: how many there are, 1 to 4096"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status train(oc_cli *cli, oc_comm *comm, const oc_config *config, oc_train_result *result)
{
    oc_dataset *d;
    oc_folds *folds;
    OC_TRY(oc_dataset_open(&d, oc_config_text(config, "data.dataset")));
    oc_status status =
        oc_folds_open(&folds, oc_config_text(config, "data.folds"), oc_config_int(config, "data.embargo_ns"), d);
    if (status == OC_OK) {
        status = oc_train_run_ranks(comm, config, d, folds, (size_t)oc_config_int(config, "data.fold"),
                                    oc_cli_text(cli, "out"), oc_cli_flag(cli, "resume"), result);
        oc_folds_close(folds);
    }
    oc_dataset_close(d);
    return status;
}

static oc_status result_set(oc_cli *cli, const oc_train_result *r)
{
    char hash[OC_HASH_TEXT];
    oc_hash_text(r->weights, hash);
    oc_cli_say(cli, "%lld steps, best at %lld: validation loss %.5f, temperature %.3f; %.0f windows/s; weights %s\n",
               (long long)r->steps, (long long)r->best_step, r->valid_loss, r->temperature, r->windows_per_second,
               hash);
    json_t *result =
        json_pack("{s:I, s:I, s:f, s:f, s:s, s:I, s:f, s:i, s:f}", "steps", (json_int_t)r->steps, "best_step",
                  (json_int_t)r->best_step, "valid_loss", r->valid_loss, "windows_per_second", r->windows_per_second,
                  "weights_hash", hash, "skipped_steps", (json_int_t)r->skipped_steps, "temperature", r->temperature,
                  "ranks", r->ranks, "communication", r->communication);
    json_t *windows = json_array();
    for (int i = 0; i < r->ranks; i++)
        (void)json_array_append_new(windows, json_integer((json_int_t)r->rank_windows[i]));
    int failed = json_object_update(cli->result, result) | json_object_set_new(cli->result, "rank_windows", windows);
    json_decref(result);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

/* DIR/rank-N.log of log.ranks; *fd -1 where none is wanted. */
static oc_status log_open(const oc_config *config, int rank, int *fd)
{
    char name[32], path[OC_PATH_MAX];
    const char *folder = oc_config_text(config, "log.ranks");
    *fd = -1;
    if (!*folder) return OC_OK;
    snprintf(name, sizeof name, "rank-%d.log", rank);
    OC_TRY(oc_path_make_folders(folder));
    OC_TRY(oc_path_join(path, sizeof path, folder, name));
    *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (*fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(errno));
    oc_log_also(*fd, OC_LOG_DEBUG);
    return OC_OK;
}

static void log_close(int fd, oc_status status)
{
    if (status != OC_OK) oc_log_failure(OC_LOG_DEBUG);
    oc_log_also(-1, OC_LOG_ERROR);
    if (fd >= 0) close(fd);
}

/* The place in a job without a launcher; *given false: no --store. */
static oc_status place_read(oc_cli *cli, const oc_config *config, oc_comm_place *place, bool *given)
{
    int64_t rank = 0, ranks = 0;
    *given = oc_cli_given(cli, "store");
    if (oc_cli_given(cli, "rank") != *given || oc_cli_given(cli, "ranks") != *given)
        return OC_FAIL(OC_EUSAGE, "--store, --rank and --ranks go together: all three, or none");
    if (!*given) return OC_OK;
    OC_TRY(oc_cli_int(cli, "ranks", 1, OC_COMM_RANKS_MAX, &ranks));
    OC_TRY(oc_cli_int(cli, "rank", 0, ranks - 1, &rank));
    *place = (oc_comm_place){oc_cli_text(cli, "store"), (int)rank, (int)ranks};
    if (strcmp(oc_config_text(config, "backend"), "cpu") == 0)
        return OC_FAIL(OC_EUSAGE,
                       "--store is for ranks on GPUs, and backend is cpu: CPU ranks are started by mpirun or "
                       "srun");
    return OC_OK;
}

/* One rank of the job, or all of it. Rank 0 alone speaks, but for failures, which carry the rank's name. */
static oc_status rank_run(oc_cli *cli, const oc_config *config)
{
    oc_comm comm;
    oc_train_result result;
    char name[OC_COMM_NAME];
    oc_comm_place place;
    bool placed;
    OC_TRY(place_read(cli, config, &place, &placed));
    OC_TRY(oc_comm_open(&comm, placed ? &place : NULL, oc_config_int(config, "comm.start_timeout_ns")));
    bool first = comm.rank == 0, several = comm.ranks > 1;
    memcpy(name, comm.name, sizeof name);
    if (!first) {
        oc_cli_log_level(cli, "error");
        cli->json = false;
    }
    int fd;
    oc_status status = log_open(config, comm.rank, &fd);
    oc_log(OC_LOG_DEBUG, "train: %s of %d, %d on this host; %s", name, comm.ranks, comm.local, oc_comm_about());
    if (status == OC_OK) status = train(cli, &comm, config, &result);
    oc_comm_close(&comm, status);
    log_close(fd, status);
    if (status != OC_OK && several) return oc_status_prefix(status, "%s", name);
    if (status == OC_OK && first) status = result_set(cli, &result);
    return status;
}

static oc_status run(oc_cli *cli)
{
    oc_config *config;
    OC_TRY(oc_config_open(&config, cli->arguments[0], oc_train_keys, oc_train_key_count, cli->sets, cli->set_count));
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    oc_cli_on_stop(oc_train_request_stop);
    oc_status status = rank_run(cli, config);
    oc_config_close(config);
    return status;
}

static void help(FILE *out)
{
    oc_config_help(oc_train_keys, oc_train_key_count, out);
}

const oc_command oc_command_train = {
    .name = "train",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Trains a model on a dataset's fold; any number of threads, killed and resumed: the same weights",
    .description =
        "Reads the dataset of data.dataset and writes RUN/config.yaml (resolved), RUN/log.jsonl (losses),\n"
        "RUN/checkpoints and RUN/model, the bundle of the best validation loss. Ctrl-C finishes the step, saves\n"
        "and exits with 75 (SIGTERM and SIGUSR1 too); --resume goes on. configs/train.yaml explains every key.\n"
        "Started by mpirun or srun, the ranks share the work of train.shards: any number of them, the same weights.\n"
        "GPU ranks also start as plain processes: each with --store HOST:PORT of rank 0, --rank I and --ranks N.\n"
        "Example: outcry train configs/train.yaml --set data.dataset=eurusd.h5 --out run --json\n"
        "         mpirun -n 4 outcry train configs/train.yaml --set data.dataset=eurusd.h5 --out run --json",
    .options = options,
    .config = true,
    .help = help,
    .run = run,
};
