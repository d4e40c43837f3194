/* bench_serve_http.c - one client over HTTP, Outcry and MLServer in turn: the same client, the same window, the same
 * model (Outcry's ONNX export), both servers on this machine. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "nn/onnx.h"
#include "serve/http/http.h"
#include "tools/bench/bench_http.h"

enum { WARM_UPS = 50, START_SECONDS = 60, FORMS = 2 };
static const char *const forms[FORMS] = {"json", "binary"};

typedef struct figures {
    double p50[FORMS], p99[FORMS]; /* microseconds, the least of the repeats; NaN: not answered */
} figures;

static OC_MUST calls_time(bench_http *h, const oc_bench_options *o, bench_times *times, double *p50, double *p99)
{
    for (int i = 0; i < WARM_UPS; i++) OC_TRY(bench_http_call(h));
    for (int repeat = 0; repeat < o->repeats; repeat++) {
        const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
        times->count = 0;
        for (int64_t now = 0; now < end;) {
            const int64_t start = oc_clock_monotonic_ns();
            OC_TRY(bench_http_call(h));
            now = oc_clock_monotonic_ns();
            bench_times_add(times, now - start);
        }
        *p50 = fmin(*p50, bench_times_us(times, 0.5));
        *p99 = fmin(*p99, bench_times_us(times, 0.99));
    }
    return OC_OK;
}

/* `required`: a form that is refused is a failure of ours; else it is left out of the peer's figures. */
static OC_MUST server_time(const bench_model *b, const char *address, const char *model, const oc_bench_options *o,
                           bool required, figures *f)
{
    bench_times times;
    oc_status status = bench_times_open(&times);
    for (int i = 0; i < FORMS && status == OC_OK; i++) {
        bench_http h;
        f->p50[i] = f->p99[i] = (double)NAN; /* fmin takes the number */
        status = bench_http_open(&h, address, model, &b->shape, b->rows, i == 1);
        if (status == OC_OK) status = calls_time(&h, o, &times, &f->p50[i], &f->p99[i]);
        bench_http_close(&h);
        if (status == OC_OK || required) continue;
        oc_log(OC_LOG_WARN, "bench: the peer does not answer %s: %s", forms[i], oc_status_message());
        f->p50[i] = f->p99[i] = (double)NAN;
        status = OC_OK;
    }
    bench_times_close(&times);
    return status;
}

/* As `outcry serve` opens it by default. */
static OC_MUST outcry_time(const bench_model *b, const char *folder, const oc_bench_options *o, figures *f)
{
    char socket[96];
    oc_server *server;
    oc_http *http = NULL;
    snprintf(socket, sizeof socket, "%s/h", folder);
    const oc_server_config config = {.bundle = folder,
                                     .socket = socket,
                                     .threads = 1,
                                     .batch_max = 48,
                                     .clients_max = 16,
                                     .sessions_max = 8,
                                     .ring_bytes = 1 << 20,
                                     .memory_max_bytes = (size_t)1 << 30,
                                     .advance_budget = 0.7,
                                     .spin_ns = 50000};
    const oc_http_config front = {.address = "127.0.0.1:0",
                                  .socket = socket,
                                  .threads = 2,
                                  .connections_max = 64,
                                  .body_max = 1 << 20,
                                  .batch_max = 64,
                                  .spin_ns = 200000,
                                  .timeout_ns = 10 * OC_SECOND_NS,
                                  .sequences_max = 8,
                                  .sequence_idle_ns = 60 * OC_SECOND_NS,
                                  .sequence_period_ns = OC_SECOND_NS};
    OC_TRY(oc_server_open(&server, &config));
    oc_status status = oc_http_open(&http, &front, server);
    if (status == OC_OK) status = server_time(b, oc_http_address(http), b->bundle->name, o, true, f);
    oc_http_close(http);
    oc_server_close(server);
    return status;
}

/* A port that was free a moment ago. */
static int port_free(void)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof name;
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    int port = -1;
    if (s >= 0 && bind(s, (struct sockaddr *)&name, sizeof name) == 0 &&
        getsockname(s, (struct sockaddr *)&name, &bytes) == 0)
        port = ntohs(name.sin_port);
    if (s >= 0) close(s);
    return port;
}

static pid_t peer_start(const char *python, const char *script, const char *onnx, const char *port)
{
    const pid_t pid = fork();
    if (pid != 0) return pid;
    const char *argv[] = {python, script, "--onnx", onnx, "--port", port, NULL};
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    execv(python, (char *const *)(uintptr_t)argv);
    _exit(127);
}

static void peer_stop(pid_t pid)
{
    const int64_t end = oc_clock_monotonic_ns() + 10 * OC_SECOND_NS;
    kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (oc_clock_monotonic_ns() > end) kill(pid, SIGKILL);
        usleep(20000);
    }
}

/* Until it answers: it imports for seconds. False where it ended, or is not there in time. */
static bool peer_await(pid_t pid, const bench_model *b, const char *address)
{
    const int64_t end = oc_clock_monotonic_ns() + START_SECONDS * OC_SECOND_NS;
    while (oc_clock_monotonic_ns() < end && waitpid(pid, NULL, WNOHANG) == 0) {
        bench_http h;
        oc_status status = bench_http_open(&h, address, "reference", &b->shape, b->rows, false);
        if (status == OC_OK) status = bench_http_call(&h);
        bench_http_close(&h);
        if (status == OC_OK) return true;
        usleep(200000);
    }
    return false;
}

/* NaN everywhere where the peer is absent. */
static OC_MUST mlserver_time(const bench_model *b, const char *folder, const oc_bench_options *o, figures *f)
{
    char script[OC_PATH_MAX], onnx[OC_PATH_MAX], port[16], address[32];
    const char *named = getenv("OUTCRY_MLSERVER"), *python = named ? named : o->python;
    for (int i = 0; i < FORMS; i++) f->p50[i] = f->p99[i] = (double)NAN;
    if (!o->peers || !python || access(python, X_OK) != 0) return OC_OK;
    OC_TRY(oc_path_join(script, sizeof script, o->peers, "serve_mlserver.py"));
    OC_TRY(oc_path_join(onnx, sizeof onnx, folder, "model.onnx"));
    if (!oc_path_exists(script)) return OC_OK;
    OC_TRY(oc_onnx_write(b->bundle, onnx));
    snprintf(port, sizeof port, "%d", port_free());
    snprintf(address, sizeof address, "127.0.0.1:%s", port);
    const pid_t pid = peer_start(python, script, onnx, port);
    if (pid < 0) return OC_FAIL(OC_EFAILED, "bench: fork: %s", strerror(errno));
    oc_status status = OC_OK;
    if (peer_await(pid, b, address)) {
        status = server_time(b, address, "reference", o, false, f);
        peer_stop(pid);
    } else {
        oc_log(OC_LOG_WARN, "bench: %s has no MLServer that starts (OUTCRY_MLSERVER names a Python): left out", python);
        if (kill(pid, 0) == 0) peer_stop(pid);
    }
    unlink(onnx);
    return status;
}

oc_status bench_serve_http(bench_model *b, const char *folder, const oc_bench_options *o, oc_bench_report *report)
{
    figures ours, theirs;
    OC_TRY(outcry_time(b, folder, o, &ours));
    OC_TRY(mlserver_time(b, folder, o, &theirs));
    for (int i = 0; i < FORMS; i++) {
        char name[64];
        snprintf(name, sizeof name, "serve_http_%s_p50", forms[i]);
        oc_bench_add(report, name, ours.p50[i], "us", "mlserver", theirs.p50[i], "one client, one connection");
        snprintf(name, sizeof name, "serve_http_%s_p99", forms[i]);
        oc_bench_add(report, name, ours.p99[i], "us", "mlserver", theirs.p99[i], "");
    }
    return OC_OK;
}
