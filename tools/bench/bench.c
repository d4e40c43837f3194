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

enum { ARGUMENTS_MAX = 32, LINE_BYTES = 4096, WANTS_MAX = 8 };

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
static oc_status peer_start(const char *python, const char *script, const char *const *arguments, pid_t *pid,
                            FILE **out)
{
    const char *argv[ARGUMENTS_MAX + 3] = {python, script};
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
        execv(python, (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(ends[1]);
    *out = fdopen(ends[0], "r");
    if (*out) return OC_OK;
    close(ends[0]);
    return OC_FAIL(OC_EFAILED, "bench: fdopen: %s", strerror(errno));
}

static void line_take(const json_t *row, oc_bench_want *want, size_t wants)
{
    const char *metric = json_string_value(json_object_get(row, "metric"));
    const char *workload = json_string_value(json_object_get(row, "workload"));
    for (size_t i = 0; metric && i < wants; i++) {
        const json_t *value = json_object_get(row, want[i].key);
        const char *begins = want[i].workload ? want[i].workload : "";
        bool fits = strcmp(metric, want[i].metric) == 0;
        if (fits) fits = strncmp(workload ? workload : "", begins, strlen(begins)) == 0;
        if (fits && json_is_number(value)) want[i].value = json_number_value(value);
    }
}

static void peer_read(FILE *out, oc_bench_want *want, size_t wants)
{
    char line[LINE_BYTES];
    for (size_t i = 0; i < wants; i++) want[i].value = (double)NAN;
    while (fgets(line, sizeof line, out)) {
        json_t *row = json_loads(line, 0, NULL);
        line_take(row, want, wants);
        json_decref(row);
    }
}

static oc_status peer_once(const char *python, const char *script, const char *const *arguments, oc_bench_want *found,
                           size_t wants)
{
    pid_t pid = -1;
    FILE *out = NULL;
    int code = 0;
    OC_TRY(peer_start(python, script, arguments, &pid, &out));
    peer_read(out, found, wants);
    fclose(out);
    while (waitpid(pid, &code, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0 && isfinite(found[0].value)) return OC_OK;
    oc_log(OC_LOG_WARN, "bench: the peer %s did not print %s (status %d): left out", script, found[0].metric, code);
    found[0].value = (double)NAN;
    return OC_OK;
}

oc_status oc_bench_peer_run(const oc_bench_options *o, const char *python, const char *script,
                            const char *const *arguments, oc_bench_want *want, size_t wants, bool lower_is_better)
{
    oc_bench_want found[WANTS_MAX];
    for (size_t i = 0; i < wants; i++) want[i].value = (double)NAN;
    if (wants == 0 || wants > WANTS_MAX) return OC_FAIL(OC_ELIMIT, "bench: %zu numbers of one peer", wants);
    if (!python || access(python, X_OK) != 0 || !oc_path_exists(script)) return OC_OK;
    for (int run = 0; run < o->repeats; run++) {
        memcpy(found, want, wants * sizeof *want);
        OC_TRY(peer_once(python, script, arguments, found, wants));
        double is = found[0].value, was = want[0].value;
        if (isfinite(is) && (isnan(was) || (lower_is_better ? is < was : is > was)))
            memcpy(want, found, wants * sizeof *want);
    }
    return OC_OK;
}

oc_status oc_bench_own_peer(char *path, size_t cap, const char *script)
{
    const char *folder = getenv("OUTCRY_OWN_PEERS");
    OC_TRY(oc_path_join(path, cap, folder ? folder : OC_BENCH_PEERS, script));
    return OC_OK;
}

oc_status oc_bench_peer(const oc_bench_options *o, const char *script, const char *const *arguments, const char *metric,
                        bool lower_is_better, double *value)
{
    char path[OC_PATH_MAX];
    oc_bench_want want = {NULL, metric, "value", (double)NAN};
    *value = (double)NAN;
    if (!o->peers) return OC_OK;
    OC_TRY(oc_path_join(path, sizeof path, o->peers, script));
    OC_TRY(oc_bench_peer_run(o, o->python, path, arguments, &want, 1, lower_is_better));
    *value = want.value;
    return OC_OK;
}
