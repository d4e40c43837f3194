/* server.c - opening and closing, and the acceptor: one thread that hands out rings on the Unix socket and notices when
 * a client goes. It sends the hello without waiting for anything from the client, so no client can hold it up. */
#include "serve/server.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/batcher.h"
#include "serve/loader.h"
#include "serve/metrics.h"
#include "serve/pin.h"
#include "serve/status.h"
#include "serve/watch.h"

enum { CLIENTS_MAX = 1024, THREADS_MAX = 256, POLL_MS = 50, BACKLOG = 64 };

struct oc_server {
    oc_server_config config;
    oc_loader *loader;
    const oc_version *version; /* the first */
    oc_batcher *batchers;
    oc_watch *watches; /* [batcher_count], the acceptor's */
    oc_channel *channels;
    int batcher_count, listener;
    uint32_t stop;
    bool accepting;
    pthread_t acceptor;
    oc_server_stats stats;
    int64_t failure_due_ns; /* the acceptor's; oc_log_due */
    char socket_path[sizeof(((struct sockaddr_un *)0)->sun_path)], status_path[128], backend_text[96];
    size_t planned_bytes;
};

/* The batcher with the fewest clients. */
static int batcher_choose(const oc_server *s)
{
    int best = 0, least = INT32_MAX;
    for (int i = 0; i < s->batcher_count; i++) {
        int n = 0;
        for (int k = 0; k < s->config.clients_max; k++)
            n += __atomic_load_n(&s->channels[k].state, __ATOMIC_ACQUIRE) != OC_CHANNEL_FREE &&
                 s->channels[k].batcher == i;
        if (n < least) best = i;
        if (n < least) least = n;
    }
    return best;
}

static void hello_fill(const oc_server *s, oc_wire_hello *hello)
{
    const oc_bundle *b = s->version->first;
    char version[OC_WIRE_SYMBOL];
    memset(hello, 0, sizeof *hello);
    hello->magic = OC_WIRE_MAGIC;
    hello->version = OC_WIRE_VERSION;
    hello->request_bytes = s->config.ring_bytes;
    hello->reply_bytes = OC_CHANNEL_REPLY_BYTES;
    hello->region_bytes = OC_WIRE_REGION_OFFSET + hello->request_bytes + hello->reply_bytes;
    hello->steps = (uint32_t)b->shape.steps;
    hello->inputs = (uint32_t)b->shape.inputs;
    hello->horizons = (uint32_t)b->shape.horizons;
    oc_loader_live(s->loader, version, &hello->model_version);
    hello->schema_low = b->schema.low;
    hello->schema_high = b->schema.high;
    snprintf(hello->model, sizeof hello->model, "%s", b->name);
    snprintf(hello->version_text, sizeof hello->version_text, "%s", version);
}

static bool hello_send(int socket, const oc_wire_hello *hello, int region, int bell)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    union {
        const oc_wire_hello *in;
        void *out;
    } borrowed = {.in = hello};
    struct iovec part = {borrowed.out, sizeof *hello};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    const int fds[2] = {region, bell};
    if (hello->state == OC_HELLO_WELCOME) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *h = CMSG_FIRSTHDR(&message);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(h), fds, sizeof fds);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof *hello;
}

static bool same_user(int socket)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == geteuid();
}

/* Takes a free channel for the socket; closes the socket where that fails. */
static void client_welcome(oc_server *s, int socket)
{
    oc_wire_hello hello;
    oc_channel *c = NULL;
    int region = -1;
    hello_fill(s, &hello);
    for (int i = 0; i < s->config.clients_max && !c; i++)
        if (__atomic_load_n(&s->channels[i].state, __ATOMIC_ACQUIRE) == OC_CHANNEL_FREE) c = &s->channels[i];
    hello.state = !same_user(socket) ? OC_HELLO_WRONG_UID : !c ? OC_HELLO_FULL : OC_HELLO_WELCOME;
    if (hello.state == OC_HELLO_WELCOME && oc_channel_make(c, s->config.ring_bytes, &region) != OC_OK) {
        if (oc_log_due(&s->failure_due_ns)) oc_log_failure(OC_LOG_ERROR);
        hello.state = OC_HELLO_FAILED;
    }
    __atomic_fetch_add(&s->stats.hellos[hello.state], 1, __ATOMIC_RELAXED);
    if (hello.state != OC_HELLO_WELCOME) {
        (void)hello_send(socket, &hello, -1, -1);
        close(socket);
        return;
    }
    c->socket = socket;
    c->batcher = batcher_choose(s);
    const bool sent = hello_send(socket, &hello, region, s->batchers[c->batcher].bell_fd);
    close(region);
    if (!sent) {
        oc_channel_drop(c);
        return;
    }
    __atomic_store_n(&c->state, OC_CHANNEL_LIVE, __ATOMIC_RELEASE);
    oc_batcher_welcome(&s->batchers[c->batcher]);
}

static void client_accept(oc_server *s)
{
    const int socket = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    if (socket >= 0) {
        client_welcome(s, socket);
        return;
    }
    const int reason = errno;
    if (reason == EAGAIN || reason == EINTR || reason == ECONNABORTED) return;
    __atomic_fetch_add(&s->stats.accept_failures, 1, __ATOMIC_RELAXED);
    if (oc_log_due(&s->failure_due_ns))
        oc_log(OC_LOG_ERROR, "serve: %s: a client waits that cannot be accepted: %s (ulimit -n)", s->config.socket,
               strerror(reason));
    usleep(POLL_MS * 1000); /* it stays in the queue, and poll would say so at once, for ever */
}

/* A socket that can be read has ended, or its client talks where nothing is to be said: both end it. */
static void channels_tend(oc_server *s, const struct pollfd *polled, const int *channel_of, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t live = OC_CHANNEL_LIVE;
        if (polled[i].revents)
            __atomic_compare_exchange_n(&s->channels[channel_of[i]].state, &live, OC_CHANNEL_LEAVING, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    for (int i = 0; i < s->config.clients_max; i++) {
        oc_channel *c = &s->channels[i];
        if (__atomic_load_n(&c->state, __ATOMIC_ACQUIRE) != OC_CHANNEL_LEFT) continue;
        oc_channel_drop(c);
        __atomic_store_n(&c->state, OC_CHANNEL_FREE, __ATOMIC_RELEASE);
    }
}

static void *acceptor_main(void *argument)
{
    oc_server *s = argument;
    static _Thread_local struct pollfd polled[CLIENTS_MAX + 1];
    static _Thread_local int channel_of[CLIENTS_MAX];
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        int n = 0;
        __atomic_store_n(
            &s->stats.stalled,
            oc_watch_look(s->watches, s->batchers, s->batcher_count, s->config.stall_ns, oc_clock_monotonic_ns()),
            __ATOMIC_RELAXED);
        polled[0] = (struct pollfd){.fd = s->listener, .events = POLLIN};
        for (int i = 0; i < s->config.clients_max; i++) {
            if (__atomic_load_n(&s->channels[i].state, __ATOMIC_ACQUIRE) != OC_CHANNEL_LIVE) continue;
            channel_of[n++] = i;
            polled[n] = (struct pollfd){.fd = s->channels[i].socket, .events = POLLIN};
        }
        if (poll(polled, (nfds_t)n + 1, POLL_MS) < 0) continue;
        channels_tend(s, polled + 1, channel_of, n);
        if (polled[0].revents) client_accept(s);
    }
    return NULL;
}

/* What was handed in must be where clients, and HTTP among them, will look for it. */
static OC_MUST socket_adopt(oc_server *s)
{
    struct sockaddr_un name = {0};
    socklen_t bytes = sizeof name;
    s->listener = s->config.listener;
    if (getsockname(s->listener, (struct sockaddr *)&name, &bytes) != 0)
        return OC_FAIL(OC_EFAILED, "serve.socket: %s", strerror(errno));
    if (strncmp(name.sun_path, s->config.socket, sizeof name.sun_path) != 0)
        return OC_FAIL(OC_ECONFIG,
                       "serve.socket is \"%.200s\", but the socket handed in lies at \"%.*s\": set one to the other",
                       s->config.socket, (int)sizeof name.sun_path, name.sun_path);
    return OC_OK;
}

/* A socket file that nobody listens on is left over from a killed server: replaced. A living one is an error. */
static OC_MUST socket_listen(oc_server *s)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat found;
    if (!(strlen(s->config.socket) >= 1 && strlen(s->config.socket) < sizeof name.sun_path))
        return OC_FAIL(OC_ECONFIG, "serve.socket is \"%.200s\", not a path below %zu bytes", s->config.socket,
                       sizeof name.sun_path);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", s->config.socket);
    if (lstat(name.sun_path, &found) == 0) {
        const int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        const bool stale = S_ISSOCK(found.st_mode) && probe >= 0 &&
                           connect(probe, (struct sockaddr *)&name, sizeof name) != 0 && errno == ECONNREFUSED;
        if (probe >= 0) close(probe);
        if (!stale)
            return OC_FAIL(OC_ECONFIG, "serve.socket: %s is in use; stop the other server, or choose another path",
                           name.sun_path);
        unlink(name.sun_path);
    }
    s->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const mode_t before = umask(0177); /* as the process has one thread here, nothing else sees it */
    const int bound = s->listener < 0 ? -1 : bind(s->listener, (struct sockaddr *)&name, sizeof name);
    umask(before);
    if (bound != 0) return OC_FAIL(OC_ECONFIG, "serve.socket: %s: %s", name.sun_path, strerror(errno));
    snprintf(s->socket_path, sizeof s->socket_path, "%s", name.sun_path);
    if (listen(s->listener, BACKLOG) != 0) return OC_FAIL(OC_EFAILED, "%s: listen: %s", name.sun_path, strerror(errno));
    return OC_OK;
}

static OC_MUST numbers_check(const oc_server_config *c)
{
    if (!(c->threads >= 1 && c->threads <= THREADS_MAX && c->clients_max >= 1 && c->clients_max <= CLIENTS_MAX &&
          c->batch_max >= 1 && c->batch_max <= OC_OBSERVED_BATCH_MAX && c->sessions_max >= 1 &&
          c->sessions_max <= OC_BATCHER_SESSIONS_MAX && c->spin_ns >= 0 && c->queue_max_ns >= 0 &&
          c->session_idle_ns >= 0 && c->advance_budget > 0 && c->ticks.streams >= 0 &&
          c->ticks.streams <= OC_BATCHER_STREAMS_MAX))
        return OC_FAIL(OC_ELIMIT, "serve: a number of its configuration is out of its bounds");
    if (!(c->ring_bytes >= 4096 && c->ring_bytes <= UINT64_C(1) << 30 && (c->ring_bytes & (c->ring_bytes - 1)) == 0))
        return OC_FAIL(OC_ECONFIG, "a ring of %zu bytes, not a power of two from 4096 to 2^30", c->ring_bytes);
    return OC_OK;
}

/* What is asked of the model fits into the rings. */
static OC_MUST rings_check(const oc_server_config *c, const oc_bundle *b)
{
    const uint64_t record = oc_ring_record_bytes((size_t)b->shape.steps * (size_t)b->shape.inputs * sizeof(float));
    if (!(record <= c->ring_bytes / 2))
        return OC_FAIL(OC_ECONFIG,
                       "serve.ring_kb: a ring of %zu bytes does not hold two windows of %llu bytes; raise it",
                       c->ring_bytes, (unsigned long long)record);
    const uint64_t ticks = oc_ring_record_bytes(OC_WIRE_EVENTS_MAX * OC_WIRE_EVENT_BYTES);
    if (c->ticks.streams > 0 && !(ticks <= c->ring_bytes / 2))
        return OC_FAIL(OC_ECONFIG,
                       "serve.ring_kb: a ring of %zu bytes does not hold two requests of %d events, %llu bytes each; "
                       "raise it, or set serve.streams=0",
                       c->ring_bytes, OC_WIRE_EVENTS_MAX, (unsigned long long)ticks);
    return OC_OK;
}

static OC_MUST loader_make(oc_server *s, const oc_batcher_config *batcher)
{
    const oc_server_config *c = &s->config;
    const bool repository = c->repository && c->repository[0];
    const oc_loader_config loader = {.bundle = c->bundle,
                                     .repository = c->repository,
                                     .name = c->model,
                                     .status_path = repository ? s->status_path : NULL,
                                     .verify_ns = c->verify_ns > 0 ? c->verify_ns : INT64_MAX / 2,
                                     .accuracy = c->accuracy,
                                     .batcher = *batcher};
    snprintf(s->status_path, sizeof s->status_path, "%.120s.json", c->socket);
    OC_TRY(oc_loader_open(&s->loader, &loader));
    s->version = oc_loader_first(s->loader);
    return OC_OK;
}

static void backend_name(oc_server *s)
{
    const oc_backend_info *info = oc_model_backend(s->batchers[0].slots[0].models[0]);
    if (info->kind == OC_BACKEND_CUDA)
        snprintf(s->backend_text, sizeof s->backend_text, "cuda %.60s%s", info->device,
                 s->config.resident ? ", gpu_path resident" : "");
    else
        snprintf(s->backend_text, sizeof s->backend_text, "cpu %s%s", oc_isa_name(info->isa),
                 info->math == OC_MATH_BF16 ? " in bf16" : "");
}

static OC_MUST server_fill(oc_server *s)
{
    const oc_server_config *c = &s->config;
    oc_batcher_config batcher = {.batch_max = c->batch_max,
                                 .sessions_max = c->sessions_max,
                                 .budget = c->advance_budget,
                                 .wait = c->wait,
                                 .spin_ns = c->spin_ns,
                                 .queue_max_ns = c->queue_max_ns,
                                 .idle_max_ns = c->session_idle_ns,
                                 .memory_max_bytes = c->memory_max_bytes / (size_t)c->threads,
                                 .two_slots = c->repository && c->repository[0],
                                 .ticks = c->ticks,
                                 .backend = c->backend,
                                 .resident = c->resident};
    int cpus[THREADS_MAX], gpus[THREADS_MAX];
    batcher.ticks.memory_max_bytes /= (size_t)c->threads;
    OC_TRY(loader_make(s, &batcher));
    OC_TRY(rings_check(c, s->version->first));
    OC_TRY(oc_pin_parse(c->pin, c->threads, cpus));
    OC_TRY(oc_gpus_parse(c->gpus, c->threads, gpus));
    OC_TRY(oc_memory_new_array(&s->channels, (size_t)c->clients_max, sizeof *s->channels, "clients"));
    OC_TRY(oc_memory_new_array(&s->watches, (size_t)c->threads, sizeof *s->watches, "watches"));
    OC_TRY(oc_memory_new_array(&s->batchers, (size_t)c->threads, sizeof *s->batchers, "batchers"));
    for (int i = 0; i < c->threads; i++) {
        s->batcher_count = i + 1;
        batcher.backend.device = gpus[i];
        OC_TRY(oc_batcher_init(&s->batchers[i], i, s->version, &batcher, s->channels, c->clients_max));
        s->planned_bytes += oc_batcher_planned_bytes(&s->batchers[i]);
    }
    backend_name(s);
    OC_TRY(c->listener ? socket_adopt(s) : socket_listen(s));
    for (int i = 0; i < c->threads; i++) OC_TRY(oc_batcher_start(&s->batchers[i], cpus[i]));
    OC_TRY(oc_loader_start(s->loader, s->batchers, s->batcher_count));
    const int code = pthread_create(&s->acceptor, NULL, acceptor_main, s);
    if (code != 0) return OC_FAIL(OC_EFAILED, "serve: a thread: %s", strerror(code));
    s->accepting = true;
    return OC_OK;
}

oc_status oc_server_open(oc_server **out, const oc_server_config *config)
{
    oc_server *s;
    assert(out && config);
    *out = NULL;
    if (config->backend.kind != OC_BACKEND_CPU) {
        /* Before CUDA begins. A kernel that is loaded when it is first wanted may wait for a resident one, and with the
         * usual eight queues streams share them. */
        (void)setenv("CUDA_MODULE_LOADING", "EAGER", 0);
        (void)setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);
    }
    OC_TRY(oc_memory_new(&s, sizeof *s, "server"));
    s->config = *config;
    s->listener = -1;
    oc_status status = numbers_check(config);
    if (status == OC_OK) status = server_fill(s);
    if (status != OC_OK) {
        oc_server_close(s);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = s;
    return OC_OK;
}

void oc_server_close(oc_server *s)
{
    if (!s) return;
    __atomic_store_n(&s->stop, 1u, __ATOMIC_RELEASE);
    if (s->accepting) pthread_join(s->acceptor, NULL);
    if (s->socket_path[0]) unlink(s->socket_path);
    if (s->listener >= 0) close(s->listener);
    oc_loader_stop(s->loader);
    for (int i = 0; i < s->batcher_count; i++) oc_batcher_deinit(&s->batchers[i]);
    for (int i = 0; s->channels && i < s->config.clients_max; i++)
        if (s->channels[i].region) oc_channel_drop(&s->channels[i]);
    oc_memory_free(s->channels);
    oc_memory_free(s->batchers);
    oc_memory_free(s->watches);
    oc_loader_close(s->loader);
    oc_memory_free(s);
}

const oc_ensemble *oc_server_ensemble(const oc_server *s)
{
    return s->version->ensemble;
}

const oc_bundle *oc_server_bundle(const oc_server *s)
{
    return s->version->first;
}

void oc_server_live(const oc_server *s, char version[32], uint32_t *generation)
{
    oc_loader_live(s->loader, version, generation);
}

bool oc_server_version(const oc_server *s, uint32_t generation, char version[32])
{
    return oc_loader_version(s->loader, generation, version);
}

bool oc_server_generation(const oc_server *s, const char *version, uint32_t *generation)
{
    return oc_loader_generation(s->loader, version, generation);
}

void oc_server_models(const oc_server *s, oc_text *out)
{
    oc_loader_write(s->loader, out);
}

const char *oc_server_trouble(const oc_server *s)
{
    if (__atomic_load_n(&s->stats.stalled, __ATOMIC_RELAXED) > 0)
        return "a batcher has ended no round for serve.stall_s, the log says which";
    for (int i = 0; i < s->batcher_count; i++)
        if (__atomic_load_n(&s->batchers[i].stats.lost, __ATOMIC_RELAXED)) return "the GPU answers no more";
    return NULL;
}

const char *oc_server_backend(const oc_server *s)
{
    return s->backend_text;
}

size_t oc_server_planned_bytes(const oc_server *s)
{
    return s->planned_bytes;
}

void oc_server_figures(const oc_server *s, struct oc_figures *out)
{
    oc_scaling live;
    oc_loader_scaler(s->loader, live.mean, live.scale);
    oc_figures_sum(out, s->batchers, s->batcher_count, &live);
}

void oc_server_metrics(const oc_server *s, oc_text *out)
{
    char version[32];
    uint32_t generation;
    oc_figures f;
    oc_server_figures(s, &f);
    oc_loader_live(s->loader, version, &generation);
    oc_metrics_write(out, s->version->first, version, &s->stats, &f, s->backend_text);
    oc_loader_metrics(s->loader, out);
}

void oc_server_status(const oc_server *s, oc_text *out)
{
    char version[32];
    uint32_t generation;
    oc_figures f;
    oc_server_figures(s, &f);
    oc_loader_live(s->loader, version, &generation);
    oc_status_write(out, s->version->first, version, &f, s->batchers, s->batcher_count, s->backend_text);
}

void oc_server_drift(const oc_server *s, oc_text *out)
{
    oc_scaling live;
    oc_loader_scaler(s->loader, live.mean, live.scale);
    oc_status_drift(out, s->version->first, s->batchers, s->batcher_count, &live);
}

bool oc_server_window(const oc_server *s, int batcher, size_t seat, struct oc_seat_view *out, float *window)
{
    return batcher >= 0 && batcher < s->batcher_count && seat < s->batchers[batcher].observed.seat_count &&
           oc_observed_read(&s->batchers[batcher].observed, seat, out, window);
}
