/* cmd_serve.c - outcry serve: a bundle answers over rings and HTTP until SIGTERM. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/file.h"
#include "base/log.h"
#include "serve/activation.h"
#include "serve/http/http.h"
#include "tools/commands.h"

/* Of descriptors: its own, bells, files that are read; of a thread of HTTP: an epoll set, a wake, a client's socket. */
enum { FILES_ELSEWHERE = 320, FILES_HTTP_THREAD = 3 };

static const oc_config_key keys[] = {
    {"model.bundle", OC_CONFIG_TEXT, 0, 0, "run/model", NULL, "", "folder of the bundle that answers"},
    {"serve.repository", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "folder of NAME/VERSION/ bundles instead of model.bundle: versions change while it runs (outcry models)"},
    {"serve.model", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "NAME in the repository; empty: the only one"},
    {"serve.verify_s", OC_CONFIG_INT, 0, 86400, "60", NULL, "s",
     "files of loaded versions are hashed again so often; 0: never"},
    {"backend", OC_CONFIG_CHOICE, 0, 0, "auto", "auto|cpu|cuda", "", "where it computes"},
    {"serve.dtype", OC_CONFIG_CHOICE, 0, 0, "f32", "f32|bf16", "",
     "of the LSTM's products; bf16: on CPUs with avx512_bf16 (backend cpu), and where the two bounds below hold"},
    {"serve.bf16_difference_max", OC_CONFIG_REAL, 0, 1, "0.01", NULL, "probability",
     "a version whose answers in bf16 differ more from f32's, on 256 drawn windows, is refused"},
    {"serve.bf16_decisions_max", OC_CONFIG_REAL, 0, 1, "0.02", NULL, "share",
     "of these windows whose most probable class may be another one than in f32"},
    {"serve.gpu_path", OC_CONFIG_CHOICE, 0, 0, "graph", "graph|resident", "",
     "on a GPU, last steps of pushed rows: by CUDA graphs, or by a kernel that stays there (an experiment)"},
    {"serve.gpu_watchdog_ms", OC_CONFIG_INT, 1, 3600000, "100", NULL, "ms",
     "a GPU that does not answer so long is not asked again: resident goes back to graph, else not ready"},
    {"threads", OC_CONFIG_INT, 1, 256, "1", NULL, "",
     "batchers; clients are spread over them, each holds its own windows"},
    {"log.level", OC_CONFIG_CHOICE, 0, 0, "info", "error|warn|info|debug", "", "what is logged on stderr"},
    {"log.format", OC_CONFIG_CHOICE, 0, 0, "text", "text|json", "", "json: an object a line (time, level, message)"},
    {"serve.http", OC_CONFIG_TEXT, 0, 0, "127.0.0.1:8000", NULL, "",
     "host:port; other than a loopback address needs token and TLS; port 0: any free one"},
    {"serve.token_file", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "file of the token that HTTP asks for, mode 0600; empty: none, on loopback only"},
    {"serve.control_token_file", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "file of another token, for model control over HTTP; empty: off"},
    {"serve.tls_cert", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "certificate of HTTPS (chain in PEM)"},
    {"serve.tls_key", OC_CONFIG_TEXT, 0, 0, "", NULL, "", "its key in PEM, mode 0600"},
    {"serve.proxy", OC_CONFIG_CHOICE, 0, 0, "none", "none|declared", "",
     "declared: a proxy before the server has the TLS"},
    {"serve.socket", OC_CONFIG_TEXT, 0, 0, "/tmp/outcry.sock", NULL, "",
     "Unix socket that hands out rings to the same user"},
    {"serve.batch_max", OC_CONFIG_INT, 1, 4096, "48", NULL, "windows", "largest batch of what is pending"},
    {"serve.sessions", OC_CONFIG_INT, 1, 4096, "8", NULL, "",
     "pushed sessions of a batcher; their memory is planned at start"},
    {"serve.memory_mb", OC_CONFIG_INT, 1, 1048576, "64", NULL, "MiB",
     "largest memory of sessions: windows and last rows; refused beyond it"},
    {"serve.advance_budget", OC_CONFIG_REAL, 0.01, 1, "0.7", NULL, "share",
     "of a batcher's time for advances; further sessions are refused"},
    {"serve.clients", OC_CONFIG_INT, 2, 1024, "16", NULL, "", "clients of the rings, HTTP's threads among them"},
    {"serve.ring_kb", OC_CONFIG_INT, 4, 1048576, "1024", NULL, "KiB", "a client's ring of requests, a power of two"},
    {"serve.queue_max_us", OC_CONFIG_INT, 0, 1000000000, "1000000", NULL, "us",
     "a window that waited longer is refused, not computed; 0: none is"},
    {"serve.session_idle_s", OC_CONFIG_INT, 0, 31536000, "604800", NULL, "s",
     "a session that nobody asks of for so long, and four of its periods, is ended; 0: never"},
    {"serve.streams", OC_CONFIG_INT, 0, OC_BATCHER_STREAMS_MAX, "0", NULL, "",
     "streams of market events (tick) of a batcher; their engines' memory is planned at start; 0: none"},
    {"serve.stream_instruments", OC_CONFIG_INT, 1, 256, "1", NULL, "", "largest universe of a stream"},
    {"serve.stream_mb", OC_CONFIG_INT, 1, 1048576, "64", NULL, "MiB",
     "largest memory of streams' engines; refused beyond it"},
    {"serve.sample", OC_CONFIG_TEXT, 0, 0, "packet", NULL, "",
     "of streams, as the dataset was built with: packet, packet:N, bar, trade:N"},
    {"serve.row_ns", OC_CONFIG_INT, 0, 86400e9 * 31, "0", NULL, "ns", "of streams, as the dataset was built with"},
    {"serve.bar_spread", OC_CONFIG_REAL, 0, 1e9, "0", NULL, "price", "of streams, as the dataset was built with"},
    {"serve.pin", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "core of each batcher, as 2,3, or auto: the last ones that this process may use; empty: none"},
    {"serve.gpus", OC_CONFIG_TEXT, 0, 0, "", NULL, "",
     "GPU of each batcher, as 0,1, in turn where batchers are more; empty: GPU 0"},
    {"serve.wait", OC_CONFIG_CHOICE, 0, 0, "block", "block|spin|yield", "",
     "of an idle batcher behind serve.spin_us: sleeps, or goes on spinning, or yields: both take a core"},
    {"serve.stall_s", OC_CONFIG_INT, 0, 86400, "30", NULL, "s",
     "a batcher that ends no round for so long has stalled: health checks fail; 0: none ever has"},
    {"serve.spin_us", OC_CONFIG_INT, 0, 1000000000, "50", NULL, "us", "an idle batcher spins so long before it sleeps"},
    {"serve.http_threads", OC_CONFIG_INT, 1, 256, "2", NULL, "", "threads of HTTP, each a client of the rings"},
    {"serve.http_connections", OC_CONFIG_INT, 1, 4096, "64", NULL, "",
     "connections at once, at most 120 a thread; more wait"},
    {"serve.http_peer_connections", OC_CONFIG_INT, 0, 4096, "0", NULL, "",
     "connections at once from one address; more are closed; 0: no bound of its own"},
    {"serve.http_body_kb", OC_CONFIG_INT, 1, 1048576, "1024", NULL, "KiB", "largest body of a request"},
    {"serve.http_batch_max", OC_CONFIG_INT, 1, 4096, "64", NULL, "windows", "largest batch of one HTTP request"},
    {"serve.http_timeout_s", OC_CONFIG_INT, 1, 3600, "10", NULL, "s", "of a request from first byte to answer"},
    {"serve.http_spin_us", OC_CONFIG_INT, 0, 1000000, "200", NULL, "us",
     "a request that is the only one looks so much longer for its answer than the last one took; 0: sleeps at once"},
    {"serve.http_sequences", OC_CONFIG_INT, 1, 65536, "64", NULL, "",
     "sequences of pushed rows, each a session, and streams of events over HTTP"},
    {"serve.http_sequence_idle_s", OC_CONFIG_INT, 1, 86400, "60", NULL, "s",
     "a sequence idle so long, and four of its periods, is closed"},
    {"serve.http_period_ms", OC_CONFIG_INT, 1, 86400000, "1000", NULL, "ms",
     "shortest usual time between rows of a sequence that says none"},
};

static void addresses_say(const oc_cli *cli, const oc_server *server, const oc_http *http, const char *socket)
{
    char version[32];
    uint32_t generation;
    oc_server_live(server, version, &generation);
    oc_cli_say(cli, "ready: model %s version %s on http%s://%s and unix:%s (%s, %.1f MiB planned)\n",
               oc_server_bundle(server)->name, version, oc_http_tls(http) ? "s" : "", oc_http_address(http), socket,
               oc_server_backend(server), (double)oc_server_planned_bytes(server) / 1048576);
    fflush(stdout);
}

/* SIGTERM and SIGINT are blocked in all threads and waited for here. */
static oc_status serve(const oc_cli *cli, const oc_server_config *server_config, const oc_http_config *http_config)
{
    oc_server_config rings = *server_config;
    oc_http_config web = *http_config;
    oc_activation handed;
    oc_server *server;
    oc_http *http;
    sigset_t stop;
    int number = 0;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (pthread_sigmask(SIG_BLOCK, &stop, NULL) != 0) return OC_FAIL(OC_EFAILED, "serve: signals cannot be blocked");
    OC_TRY(oc_activation_take(&handed));
    rings.listener = handed.rings;
    web.listener = handed.http;
    OC_TRY(oc_server_open(&server, &rings));
    const oc_status status = oc_http_open(&http, &web, server);
    if (status == OC_OK) {
        addresses_say(cli, server, http, server_config->socket);
        oc_activation_tell("READY=1");
        while (sigwait(&stop, &number) != 0) {
        }
        oc_log(OC_LOG_INFO, "serve: %s: answering what is pending", strsignal(number));
        oc_activation_tell("STOPPING=1");
        oc_http_close(http);
    }
    oc_server_close(server);
    return status;
}

static oc_server_config server_read(const oc_config *c)
{
    static const char *const kinds[] = {
        [OC_BACKEND_AUTO] = "auto", [OC_BACKEND_CPU] = "cpu", [OC_BACKEND_CUDA] = "cuda"};
    static const char *const waits[] = {[OC_WAIT_BLOCK] = "block", [OC_WAIT_SPIN] = "spin", [OC_WAIT_YIELD] = "yield"};
    oc_server_config server = {.bundle = oc_config_text(c, "model.bundle"),
                               .repository = oc_config_text(c, "serve.repository"),
                               .model = oc_config_text(c, "serve.model"),
                               .verify_ns = oc_config_int(c, "serve.verify_s") * INT64_C(1000000000),
                               .socket = oc_config_text(c, "serve.socket"),
                               .threads = (int)oc_config_int(c, "threads"),
                               .backend = {.wait_max_ns = oc_config_int(c, "serve.gpu_watchdog_ms") * INT64_C(1000000)},
                               .resident = strcmp(oc_config_text(c, "serve.gpu_path"), "resident") == 0,
                               .batch_max = (int)oc_config_int(c, "serve.batch_max"),
                               .clients_max = (int)oc_config_int(c, "serve.clients"),
                               .sessions_max = (int)oc_config_int(c, "serve.sessions"),
                               .ring_bytes = (size_t)oc_config_int(c, "serve.ring_kb") << 10,
                               .memory_max_bytes = (size_t)oc_config_int(c, "serve.memory_mb") << 20,
                               .advance_budget = oc_config_real(c, "serve.advance_budget"),
                               .accuracy = {.difference_max = oc_config_real(c, "serve.bf16_difference_max"),
                                            .decisions_max = oc_config_real(c, "serve.bf16_decisions_max")},
                               .ticks = {.sample = oc_config_text(c, "serve.sample"),
                                         .bar_spread = oc_config_real(c, "serve.bar_spread"),
                                         .row_ns = oc_config_int(c, "serve.row_ns"),
                                         .streams = (int)oc_config_int(c, "serve.streams"),
                                         .instruments_max = (int)oc_config_int(c, "serve.stream_instruments"),
                                         .memory_max_bytes = (size_t)oc_config_int(c, "serve.stream_mb") << 20},
                               .pin = oc_config_text(c, "serve.pin"),
                               .stall_ns = oc_config_int(c, "serve.stall_s") * INT64_C(1000000000),
                               .gpus = oc_config_text(c, "serve.gpus"),
                               .queue_max_ns = oc_config_int(c, "serve.queue_max_us") * 1000,
                               .session_idle_ns = oc_config_int(c, "serve.session_idle_s") * INT64_C(1000000000),
                               .spin_ns = oc_config_int(c, "serve.spin_us") * 1000};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++)
        if (strcmp(waits[i], oc_config_text(c, "serve.wait")) == 0) server.wait = (oc_batcher_wait)i;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i], oc_config_text(c, "backend")) == 0) server.backend.kind = (oc_backend_kind)i;
    if (strcmp(oc_config_text(c, "serve.dtype"), "bf16") == 0) server.backend.math = OC_MATH_BF16;
    return server;
}

static oc_http_config http_read(const oc_config *c, const oc_server_config *server)
{
    return (oc_http_config){.address = oc_config_text(c, "serve.http"),
                            .socket = server->socket,
                            .repository = server->repository[0] ? server->repository : NULL,
                            .secrets = {.token_file = oc_config_text(c, "serve.token_file"),
                                        .control_token_file = oc_config_text(c, "serve.control_token_file"),
                                        .tls_cert = oc_config_text(c, "serve.tls_cert"),
                                        .tls_key = oc_config_text(c, "serve.tls_key")},
                            .proxy = strcmp(oc_config_text(c, "serve.proxy"), "declared") == 0,
                            .threads = (int)oc_config_int(c, "serve.http_threads"),
                            .connections_max = (int)oc_config_int(c, "serve.http_connections"),
                            .peer_connections_max = (int)oc_config_int(c, "serve.http_peer_connections"),
                            .body_max = (size_t)oc_config_int(c, "serve.http_body_kb") << 10,
                            .batch_max = (int)oc_config_int(c, "serve.http_batch_max"),
                            .spin_ns = oc_config_int(c, "serve.http_spin_us") * 1000,
                            .timeout_ns = oc_config_int(c, "serve.http_timeout_s") * INT64_C(1000000000),
                            .sequences_max = (int)oc_config_int(c, "serve.http_sequences"),
                            .sequence_idle_ns = oc_config_int(c, "serve.http_sequence_idle_s") * INT64_C(1000000000),
                            .sequence_period_ns = oc_config_int(c, "serve.http_period_ms") * INT64_C(1000000)};
}

/* What one key alone cannot say. */
static OC_MUST together_check(const oc_config *c, const oc_server_config *server, const oc_http_config *http)
{
    const size_t files = (size_t)server->clients_max + (size_t)http->connections_max +
                         (size_t)http->threads * FILES_HTTP_THREAD + FILES_ELSEWHERE;
    const bool cpu = server->backend.kind == OC_BACKEND_CPU;
    if ((server->ring_bytes & (server->ring_bytes - 1)) != 0)
        return oc_config_refuse(c, "serve.ring_kb", "a ring is a power of two");
    if (server->resident && cpu)
        return oc_config_refuse(c, "serve.gpu_path", "resident is a kernel of a GPU, and backend is cpu");
    if (server->gpus[0] && cpu)
        return oc_config_refuse(c, "serve.gpus", "backend is cpu: leave it empty, or set backend to cuda");
    if (http->threads >= server->clients_max)
        return oc_config_refuse(c, "serve.clients", "HTTP's %d threads are clients too", http->threads);
    if (http->threads > http->connections_max)
        return oc_config_refuse(c, "serve.http_connections", "fewer than serve.http_threads");
    if (http->connections_max > http->threads * OC_HTTP_THREAD_CONNECTIONS)
        return oc_config_refuse(c, "serve.http_connections", "more than %d for each of serve.http_threads",
                                OC_HTTP_THREAD_CONNECTIONS);
    if (oc_file_allow_open(files, "clients and connections") != OC_OK)
        return oc_status_prefix(OC_ECONFIG, "serve.clients=%d, serve.http_connections=%d, serve.http_threads=%d",
                                server->clients_max, http->connections_max, http->threads);
    return OC_OK;
}

static oc_status serve_config(const oc_cli *cli, const oc_config *c)
{
    const oc_server_config server = server_read(c);
    const oc_http_config http = http_read(c, &server);
    oc_log_level level;
    OC_TRY(together_check(c, &server, &http));
    if (oc_config_given(c, "log.level") && oc_log_level_parse(oc_config_text(c, "log.level"), &level))
        oc_log_set_level(level);
    oc_log_set_json(strcmp(oc_config_text(c, "log.format"), "json") == 0);
    return serve(cli, &server, &http);
}

static oc_status run(oc_cli *cli)
{
    oc_config *config;
    OC_TRY(oc_config_open(&config, cli->arguments[0], keys, sizeof keys / sizeof keys[0], cli->sets, cli->set_count));
    const oc_status status = serve_config(cli, config);
    oc_config_close(config);
    return status;
}

static void help(FILE *out)
{
    oc_config_help(keys, sizeof keys / sizeof keys[0], out);
}

const oc_command oc_command_serve = {
    .name = "serve",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Answers feature windows with probabilities, over shared memory and HTTP",
    .description =
        "Loads the bundle of model.bundle, prints \"ready\" with its addresses, and answers until SIGTERM, when it "
        "finishes\n"
        "what is pending and exits with 0. HTTP speaks the Open Inference Protocol v2 and /metrics; the Unix socket "
        "hands\n"
        "out rings to clients of the same user (serve/client/client.h). configs/serve.yaml explains every key.\n"
        "Example: outcry serve configs/serve.yaml --set model.bundle=run/model --set serve.http=127.0.0.1:8000",
    .config = true,
    .help = help,
    .run = run,
};
