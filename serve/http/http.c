/* http.c - opening and closing: room for bodies and answers, the daemon, and what it is told. */
#include "serve/http/http.h"

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/build.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "serve/http/front.h"

static char tls_versions[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"; /* the library takes no const */
enum { DRAIN_IDLE_NS = 300000000, CONNECTION_BYTES = 131072, THREADS_MAX = 256, SEQUENCES_MAX = 65536 };

/* Room is mapped, not touched: what is never used costs nothing. */
static OC_MUST room_make(oc_http *h)
{
    const oc_http_config *c = &h->config;
    const size_t n = (size_t)c->connections_max, outputs = (size_t)h->model->shape.horizons * OC_CLASSES;
    const size_t body = oc_align_up(c->body_max + 1),
                 probabilities = oc_align_up((size_t)c->batch_max * outputs * sizeof(float));
    h->values_cap = c->body_max / 2 + 1; /* "1," is the shortest number of a body */
    h->answer_cap = oc_align_up(oc_infer_answer_bytes(h->model, (size_t)c->batch_max));
    const size_t values = oc_align_up(h->values_cap * sizeof(float)),
                 each = body + values + probabilities + h->answer_cap;
    h->room_bytes = n * each;
    void *room = mmap(NULL, h->room_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return OC_FAIL(OC_EMEMORY, "serve: %zu bytes for HTTP bodies: %s", h->room_bytes, strerror(errno));
    h->room = room;
    OC_TRY(oc_memory_new_array(&h->slots, n, sizeof *h->slots, "connections"));
    for (size_t i = 0; i < n; i++) {
        unsigned char *at = h->room + i * each;
        oc_http_slot *s = &h->slots[i];
        s->body = (char *)at;
        s->values = (float *)(void *)(at + body);
        s->probabilities = (float *)(void *)(at + body + values);
        s->answer = (char *)at + body + values + probabilities;
        oc_http_slot_give(h, s);
    }
    return OC_OK;
}

/* Paths are compared as they stand: no name of ours needs escapes, and "%00" would end a text early. */
static size_t leave_escapes(void *context, struct MHD_Connection *c, char *text)
{
    (void)context;
    (void)c;
    return strlen(text);
}

static void on_library_message(void *context, const char *format, va_list arguments) OC_PRINTF(2, 0);
static void on_library_message(void *context, const char *format, va_list arguments)
{
    char text[512];
    (void)context;
    vsnprintf(text, sizeof text, format, arguments);
    text[strcspn(text, "\n")] = 0;
    oc_log(OC_LOG_DEBUG, "http: %s", text);
}

/* What libmicrohttpd 0.9.75 does not go on behind. One such place is its own race: MHD_quiesce_daemon takes the
 * listener out of each thread's epoll set, and where that thread saw first that it shall and did it itself, there is
 * nothing to take out. Then it is called once more, until every thread has been found without. */
enum { QUIESCE_TRIES = 1000 };
static _Thread_local jmp_buf quiesce_again;
static _Thread_local int quiesce_tries; /* left; 0: this thread is not in it */

static void on_library_panic(void *context, const char *file, unsigned line, const char *reason)
{
    (void)context;
    if (quiesce_tries > 0 && --quiesce_tries > 0) longjmp(quiesce_again, 1);
    oc_log(OC_LOG_ERROR, "http: libmicrohttpd cannot go on: %s:%u: %.*s", file, line, (int)strcspn(reason, "\n"),
           reason);
    abort();
}

static void quiesce(struct MHD_Daemon *daemon)
{
    quiesce_tries = QUIESCE_TRIES;
    if (setjmp(quiesce_again) != 0) usleep(1000);
    (void)MHD_quiesce_daemon(daemon);
    quiesce_tries = 0;
}

/* TLS 1.2 and later, by GnuTLS inside libmicrohttpd: in poll mode, as in epoll mode 0.9.75 asks again and again,
 * without sleeping, for the rest of a handshake: who sends three bytes of one takes a core until the time-out. */
static OC_MUST daemon_start(oc_http *h)
{
    const oc_http_config *c = &h->config;
    const bool tls = h->secrets->certificate[0] != 0, pooled = c->threads > 1;
    const unsigned seconds = (unsigned)((c->timeout_ns + OC_SECOND_NS - 1) / OC_SECOND_NS),
                   flags = MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                           (tls ? MHD_USE_TLS | MHD_USE_POLL_INTERNAL_THREAD : MHD_USE_EPOLL_INTERNAL_THREAD);
    struct MHD_OptionItem more[6];
    int n = 0;
    if (pooled) more[n++] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, c->threads, NULL};
    if (c->peer_connections_max > 0)
        more[n++] = (struct MHD_OptionItem){MHD_OPTION_PER_IP_CONNECTION_LIMIT, c->peer_connections_max, NULL};
    if (tls) {
        more[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, h->secrets->certificate};
        more[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, h->secrets->key};
        more[n++] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_PRIORITIES, 0, tls_versions};
    }
    more[n] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
    if (tls && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
        return OC_FAIL(OC_ECONFIG, "serve.tls_cert: this libmicrohttpd was built without TLS");
    MHD_set_panic_func(on_library_panic, NULL);
    h->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, oc_http_on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_library_message,
                         NULL, MHD_OPTION_LISTEN_SOCKET, h->listener, MHD_OPTION_NOTIFY_COMPLETED, oc_http_on_completed,
                         h, MHD_OPTION_NOTIFY_CONNECTION, oc_http_on_connection, h, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)c->connections_max, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                         MHD_OPTION_CONNECTION_TIMEOUT, seconds, MHD_OPTION_STRICT_FOR_CLIENT, 0,
                         MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL, MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (!h->daemon && tls)
        return OC_FAIL(OC_ECONFIG,
                       "serve.tls_cert, serve.tls_key: GnuTLS does not take them as a certificate and its key in PEM");
    if (!h->daemon) return OC_FAIL(OC_EFAILED, "serve.http: libmicrohttpd does not start on %s", h->address);
    return OC_OK;
}

static OC_MUST http_fill(oc_http *h)
{
    const oc_http_config *c = &h->config;
    if (!(c->threads >= 1 && c->threads <= THREADS_MAX && c->connections_max >= c->threads &&
          c->connections_max <= c->threads * OC_HTTP_THREAD_CONNECTIONS && c->batch_max >= 1 && c->body_max >= 1 &&
          c->sequences_max >= 1 && c->sequences_max <= SEQUENCES_MAX && c->sequence_idle_ns > 0 &&
          c->sequence_period_ns > 0))
        return OC_FAIL(OC_ELIMIT, "serve: a number of HTTP's configuration is out of its bounds");
    OC_TRY(oc_secrets_open(&h->secrets, &c->secrets));
    if (oc_http_tls(h)) OC_TRY(oc_http_certificate_check(h));
    OC_TRY(oc_http_listen(h));
    OC_TRY(oc_http_connections_open(h));
    OC_TRY(room_make(h));
    OC_TRY(oc_http_explainer_open(h));
    OC_TRY(oc_http_askers_open(h));
    OC_TRY(oc_http_sequences_open(h));
    return daemon_start(h);
}

oc_status oc_http_open(oc_http **out, const oc_http_config *config, const oc_server *server)
{
    oc_http *h;
    assert(out && config && server);
    *out = NULL;
    OC_TRY(oc_memory_new(&h, sizeof *h, "HTTP"));
    h->config = *config;
    h->server = server;
    h->model = oc_server_bundle(server);
    h->listener = -1;
    h->start_ns = oc_clock_monotonic_ns();
    h->start_wall_ns = oc_clock_wall_ns();
    pthread_mutex_init(&h->lock, NULL);
    pthread_mutex_init(&h->sequences_lock, NULL);
    pthread_mutex_init(&h->connections_lock, NULL);
    pthread_mutex_init(&h->explaining, NULL);
    snprintf(h->version, sizeof h->version, "%s", oc_build_text());
    oc_status status = http_fill(h);
    if (status != OC_OK) {
        oc_http_close(h);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = h;
    return OC_OK;
}

/* Whether a request is under way. */
static bool busy(const oc_http *h)
{
    return __atomic_load_n(&h->under_way, __ATOMIC_ACQUIRE) > 0;
}

/* Every answer closes its connection now. Who asks again and again has gone with the next one; a connection on which
 * nothing came for DRAIN_IDLE_NS is idle. A suspended connection is none that the library may close. */
static void drain(oc_http *h)
{
    const int64_t end = oc_clock_monotonic_ns() + h->config.timeout_ns;
    int64_t quiet_since = oc_clock_monotonic_ns();
    for (int64_t now = quiet_since; now < end; now = oc_clock_monotonic_ns()) {
        if (__atomic_load_n(&h->connections_open, __ATOMIC_ACQUIRE) == 0) break;
        if (busy(h)) quiet_since = now;
        if (now - quiet_since > DRAIN_IDLE_NS) break;
        usleep(1000);
    }
    while (__atomic_load_n(&h->loading.busy, __ATOMIC_ACQUIRE)) usleep(1000);
}

void oc_http_close(oc_http *h)
{
    if (!h) return;
    __atomic_store_n(&h->draining, 1u, __ATOMIC_RELAXED);
    if (h->daemon) {
        quiesce(h->daemon);
        if (!h->config.listener) shutdown(h->listener, SHUT_RDWR); /* refused from here on; systemd's goes on */
        drain(h);
        MHD_stop_daemon(h->daemon);
    }
    if (h->listener >= 0) close(h->listener); /* quiesced: ours again */
    oc_http_sequences_close(h);
    oc_http_askers_close(h);
    oc_http_explainer_close(h);
    if (h->room) munmap(h->room, h->room_bytes);
    pthread_mutex_destroy(&h->lock);
    pthread_mutex_destroy(&h->sequences_lock);
    pthread_mutex_destroy(&h->connections_lock);
    oc_http_connections_close(h);
    pthread_mutex_destroy(&h->explaining);
    oc_secrets_close(h->secrets);
    oc_memory_free(h->slots);
    oc_memory_free(h);
}

const char *oc_http_address(const oc_http *h)
{
    return h->address;
}

bool oc_http_tls(const oc_http *h)
{
    return h->secrets->certificate[0] != 0;
}
