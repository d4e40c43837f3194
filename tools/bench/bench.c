/* bench.c - rows of a report, and the runner of a peer's script: a child process whose last JSON line of the wanted
 * metric counts. */
#include "tools/bench/bench.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

enum { ARGUMENTS_MAX = 32, LINE_BYTES = 4096 };

void oc_bench_add(oc_bench_report *r, const char *figure, double value, const char *unit, const char *peer,
                  double peer_value, const char *note)
{
    if (r->count == OC_BENCH_FIGURES_MAX) return;
    oc_bench_figure *f = &r->figure[r->count++];
    memset(f, 0, sizeof *f);
    snprintf(f->figure, sizeof f->figure, "%s", figure);
    snprintf(f->unit, sizeof f->unit, "%s", unit);
    snprintf(f->peer, sizeof f->peer, "%s", peer);
    snprintf(f->note, sizeof f->note, "%s", note);
    f->value = value;
    f->peer_value = peer_value;
    f->ratio = value / peer_value;
}

/* Starts the script with stdout in a pipe; its stderr goes nowhere unless logging at debug level. */
static oc_status peer_start(const oc_bench_options *o, const char *script, const char *const *arguments, pid_t *pid,
                            FILE **out)
{
    const char *argv[ARGUMENTS_MAX + 3] = {o->python, script};
    int n = 2, ends[2];
    for (int i = 0; arguments[i]; i++) {
        if (n == ARGUMENTS_MAX + 2)
            return OC_FAIL(OC_ELIMIT, "bench: more than %d arguments for %s", ARGUMENTS_MAX, script);
        argv[n++] = arguments[i];
    }
    if (pipe(ends) != 0) return OC_FAIL(OC_EFAILED, "bench: pipe: %s", strerror(errno));
    *pid = fork();
    if (*pid < 0) {
        close(ends[0]);
        close(ends[1]);
        return OC_FAIL(OC_EFAILED, "bench: fork: %s", strerror(errno));
    }
    if (*pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (!freopen("/dev/null", "w", stderr)) _exit(127);
        execv(o->python, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    *out = fdopen(ends[0], "r");
    if (*out) return OC_OK;
    close(ends[0]);
    return OC_FAIL(OC_EFAILED, "bench: fdopen: %s", strerror(errno));
}

/* Reads the peer's lines; *found is the value of the last line with that metric, NaN where there is none. */
static void peer_read(FILE *out, const char *metric, double *found)
{
    char line[LINE_BYTES];
    *found = (double)NAN;
    while (fgets(line, sizeof line, out)) {
        json_t *row = json_loads(line, 0, NULL);
        const char *name = json_string_value(json_object_get(row, "metric"));
        const json_t *value = json_object_get(row, "value");
        if (name && strcmp(name, metric) == 0 && json_is_number(value)) *found = json_number_value(value);
        json_decref(row);
    }
}

oc_status oc_bench_peer(const oc_bench_options *o, const char *script, const char *const *arguments, const char *metric,
                        bool lower_is_better, double *value)
{
    *value = (double)NAN;
    char path[OC_PATH_MAX];
    if (!o->peers || !o->python || access(o->python, X_OK) != 0) return OC_OK;
    OC_TRY(oc_path_join(path, sizeof path, o->peers, script));
    if (!oc_path_exists(path)) return OC_OK;
    for (int run = 0; run < o->repeats; run++) {
        pid_t pid = -1;
        FILE *out = NULL;
        double found;
        int code = 0;
        OC_TRY(peer_start(o, path, arguments, &pid, &out));
        peer_read(out, metric, &found);
        fclose(out);
        while (waitpid(pid, &code, 0) < 0 && errno == EINTR) {
        }
        if (!WIFEXITED(code) || WEXITSTATUS(code) != 0 || !isfinite(found)) {
            oc_log(OC_LOG_WARN, "bench: the peer %s did not print %s (status %d): left out", script, metric, code);
            continue;
        }
        if (isnan(*value) || (lower_is_better ? found < *value : found > *value)) *value = found;
    }
    return OC_OK;
}
