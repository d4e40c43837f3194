/* bench_ranks.c - what a second rank brings: `outcry train` as one process and as two under mpirun, a thread each,
 * taken in turns on data made here, the best of each. The figure is a whole job's steps, validation left out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "tools/bench/benches.h"

enum { LINE_BYTES = 4096, COMMAND_BYTES = 8192 };

typedef struct job {
    char folder[256], program[2048], sets[1024];
    int runs;
} job;

typedef struct rates {
    double windows, communication;
} rates;

/* The last line of a command's stdout; what it says on stderr is kept in FOLDER/said for a failure's message. */
static oc_status command_run(const job *j, const char *command, char line[LINE_BYTES])
{
    char whole[COMMAND_BYTES], next[LINE_BYTES];
    line[0] = '\0';
    if (snprintf(whole, sizeof whole, "%s 2>%s/said", command, j->folder) >= (int)sizeof whole)
        return OC_FAIL(OC_ELIMIT, "bench: a command is too long");
    FILE *out = popen(whole, "r");
    if (!out) return OC_FAIL(OC_EFAILED, "bench: no shell");
    while (fgets(next, sizeof next, out)) memcpy(line, next, sizeof next);
    int code = pclose(out);
    return code == 0 ? OC_OK
                     : OC_FAIL(OC_EFAILED, "bench: %.300s ended with %d; see %s/said", command, code, j->folder);
}

static oc_status data_make(const job *j, int events)
{
    char command[COMMAND_BYTES], line[LINE_BYTES];
    snprintf(command, sizeof command,
             "cd %s && %s simulate --out s.events --events %d --seed 1 --levels 10 --signal 0.5 "
             "--label direction:10:0.0001 --quiet >/dev/null && printf 'data:\\n  events: s.events\\nsample: packet\\n"
             "features: [imbalance:1, imbalance:5, microprice_gap, spread, ofi:10, bid_queue:50, return:1, "
             "return:5]\\nlabels: [\"direction:10:0.0001\"]\\n' >b.yaml && "
             "%s build b.yaml --out d.h5 --quiet >/dev/null && : >t.yaml",
             j->folder, j->program, events, j->program);
    return command_run(j, command, line);
}

/* One training of `ranks`; *best keeps the fastest. */
static oc_status train_once(job *j, int ranks, rates *best)
{
    char command[COMMAND_BYTES], line[LINE_BYTES], launcher[160] = "";
    json_t *result;
    double windows = 0, spoken = 0;
    if (ranks > 1)
        snprintf(launcher, sizeof launcher, "mpirun --oversubscribe --allow-run-as-root --bind-to none -n %d", ranks);
    snprintf(command, sizeof command, "cd %s && %s %s train t.yaml %s --out run%d --json --quiet", j->folder, launcher,
             j->program, j->sets, j->runs++);
    OC_TRY(command_run(j, command, line));
    OC_TRY(oc_json_parse(line, strlen(line), "outcry train", &result));
    oc_status status = oc_json_real(result, "windows_per_second", "outcry train", 0, HUGE_VAL, &windows);
    if (status == OC_OK) status = oc_json_real(result, "communication", "outcry train", 0, 1, &spoken);
    json_decref(result);
    OC_TRY(status);
    if (windows > best->windows) *best = (rates){windows, spoken};
    return OC_OK;
}

static oc_status measure(job *j, const oc_bench_options *o, oc_bench_report *report)
{
    rates one = {0}, two = {0};
    char note[160];
    OC_TRY(data_make(j, o->tiny ? 20000 : 60000));
    bool launcher = system("command -v mpirun >/dev/null 2>&1") == 0;
    for (int r = 0; r < o->repeats; r++) {
        OC_TRY(train_once(j, 1, &one));
        if (!launcher) continue;
        if (train_once(j, 2, &two) == OC_OK) continue;
        oc_log_failure(OC_LOG_WARN);
        launcher = false;
    }
    if (!launcher) {
        oc_bench_add(report, "training, one rank", one.windows, "windows/s", "", (double)NAN, "no mpirun, or no MPI");
        return OC_OK;
    }
    snprintf(note, sizeof note, "communication of the best run: %.1f %% of the time", 100 * two.communication);
    oc_bench_add(report, "training, two ranks", two.windows, "windows/s", "one rank", one.windows, note);
    return OC_OK;
}

oc_status oc_bench_ranks(const oc_bench_options *o, oc_bench_report *report)
{
    job j = {.folder = "/tmp/outcry-bench-XXXXXX"};
    char command[512];
    ssize_t length = readlink("/proc/self/exe", j.program, sizeof j.program - 1);
    if (length <= 0) return OC_FAIL(OC_EFAILED, "bench: cannot tell where this program lies");
    int hidden = o->hidden ? o->hidden : o->tiny ? 8 : 128, steps = o->steps ? o->steps : o->tiny ? 10 : 100;
    int batch = o->batch ? o->batch : o->tiny ? 32 : 256, windows = batch * (o->tiny ? 4 : (int)ceil(o->seconds * 3));
    snprintf(j.sets, sizeof j.sets,
             "--set data.dataset=d.h5 --set threads=1 --set model.hidden=%d --set window.steps=%d --set train.batch=%d "
             "--set train.epochs=1 --set train.windows_per_epoch=%d --set train.valid_windows=32 "
             "--set train.checkpoint_seconds=3600",
             hidden, steps, batch, windows);
    if (!mkdtemp(j.folder)) return OC_FAIL(OC_EFAILED, "bench: no temporary folder %s", j.folder);
    oc_status status = measure(&j, o, report);
    if (status == OC_OK) {
        snprintf(command, sizeof command, "rm -rf %s", j.folder);
        if (system(command) != 0) oc_log(OC_LOG_WARN, "bench: %s is left", j.folder);
    }
    return status;
}
