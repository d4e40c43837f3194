/* comm_store.c - a rank's end of --store: one connection to the hub in rank 0's process (comm_hub.c). Sockets never
 * block; every wait has a deadline. A second thread sends a sign of life each second, so that the hub tells a process
 * that is stopped from one that is late. Speed: an exchange is two messages and two wake-ups, some 0.1 ms. */
#include "train/comm_store.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "train/comm_hub.h"
#include "train/guard.h"

enum { RETRY_NS = 100000000 };

typedef struct store_state {
    int fd;
    train_hub *hub; /* rank 0's */
    char where[320], text[WIRE_TEXT_BYTES];
    char (*hosts)[WIRE_HOST_BYTES]; /* [ranks] */
    uint64_t sequence;
    bool over; /* the verdict has come, or the store has gone */
    pthread_t pulse;
    pthread_mutex_t lock; /* of writing, and of what follows */
    pthread_cond_t changed;
    bool pulsing, stop;
} store_state;

/* --- bytes --- */

static bool ready(int fd, short events, int64_t deadline)
{
    const int64_t left = deadline - oc_clock_monotonic_ns();
    struct pollfd p = {.fd = fd, .events = events};
    if (left <= 0) return false;
    const int64_t ms = (left + 999999) / 1000000;
    return poll(&p, 1, ms < 1000 ? (int)ms : 1000) >= 0 || errno == EINTR;
}

/* All of them until the deadline, else false with errno, ETIMEDOUT where that was it. */
static bool bytes_send(int fd, const void *from, size_t bytes, int64_t deadline)
{
    for (size_t sent = 0; sent < bytes;) {
        const ssize_t n = send(fd, (const char *)from + sent, bytes - sent, MSG_NOSIGNAL);
        if (n > 0) sent += (size_t)n;
        if (n >= 0 || errno == EINTR) continue;
        if (errno != EAGAIN) return false;
        if (ready(fd, POLLOUT, deadline)) continue;
        errno = ETIMEDOUT;
        return false;
    }
    return true;
}

static bool bytes_receive(int fd, void *to, size_t bytes, int64_t deadline)
{
    for (size_t got = 0; got < bytes;) {
        const ssize_t n = recv(fd, (char *)to + got, bytes - got, 0);
        if (n > 0) got += (size_t)n;
        if (n > 0 || (n < 0 && errno == EINTR)) continue;
        if (n == 0) errno = ECONNRESET;
        if (n == 0 || errno != EAGAIN) return false;
        if (ready(fd, POLLIN, deadline)) continue;
        errno = ETIMEDOUT;
        return false;
    }
    return true;
}

/* --- the hub's words --- */

static const char *hub_name(const store_state *s, char text[static OC_COMM_NAME])
{
    snprintf(text, OC_COMM_NAME, "rank 0%s%s", s->hosts && s->hosts[0][0] ? " on " : "", s->hosts ? s->hosts[0] : "");
    return text;
}

static oc_status hub_lost(store_state *s, const char *what, double seconds)
{
    char name[OC_COMM_NAME];
    const int error = errno;
    s->over = true;
    if (error == ETIMEDOUT)
        return OC_FAIL(
            OC_EFAILED,
            "no answer from %s, which holds the store %s, for %.1f s (%s): its process is stopped, or it is cut off",
            hub_name(s, name), s->where, seconds, what);
    return OC_FAIL(OC_EFAILED, "%s has closed the store %s (%s: %s): its process was killed, or its machine is down",
                   hub_name(s, name), s->where, what, strerror(error));
}

static oc_status verdict_take(store_state *s, const wire_head *head, int64_t deadline)
{
    s->over = true;
    if (head->bytes != WIRE_TEXT_BYTES || head->status == OC_OK ||
        !bytes_receive(s->fd, s->text, WIRE_TEXT_BYTES, deadline))
        return OC_FAIL(OC_EFAILED, "the store %s has ended the job without a reason", s->where);
    s->text[WIRE_TEXT_BYTES - 1] = '\0';
    return OC_FAIL((oc_status)head->status, "%s", s->text);
}

/* The next frame, which must be of this kind. */
static oc_status frame_await(store_state *s, wire_kind kind, const char *what, wire_head *head, int64_t start,
                             int64_t timeout_ns)
{
    if (!bytes_receive(s->fd, head, sizeof *head, start + timeout_ns))
        return hub_lost(s, what, (double)(oc_clock_monotonic_ns() - start) * 1e-9);
    if (head->magic == WIRE_MAGIC && head->kind == WIRE_VERDICT) return verdict_take(s, head, start + timeout_ns);
    if (head->magic == WIRE_MAGIC && head->kind == (uint32_t)kind) return OC_OK;
    s->over = true;
    return OC_FAIL(OC_EFAILED, "%s answers, but is no store of a job of this build", s->where);
}

/* --- an exchange --- */

static oc_status call_send(const oc_comm *c, store_state *s, const oc_comm_call *call, int64_t deadline)
{
    wire_head head = {.magic = WIRE_MAGIC,
                      .kind = WIRE_CALL,
                      .sequence = ++s->sequence,
                      .bytes = call->bytes,
                      .timeout_ns = call->timeout_ns,
                      .broadcast = call->broadcast};
    const size_t own = call->broadcast && c->rank != 0 ? 0 : call->bytes;
    const unsigned char *block = call->broadcast ? call->data : call->data + (size_t)c->rank * call->bytes;
    snprintf(head.what, sizeof head.what, "%s", call->what);
    pthread_mutex_lock(&s->lock);
    const bool sent = bytes_send(s->fd, &head, sizeof head, deadline) && bytes_send(s->fd, block, own, deadline);
    pthread_mutex_unlock(&s->lock);
    (void)sent; /* where not, what comes back says why: a verdict, or the end */
    return OC_OK;
}

static oc_status store_exchange(oc_comm *c, const oc_comm_call *call)
{
    store_state *s = c->state;
    wire_head head;
    const int64_t start = oc_clock_monotonic_ns(), timeout_ns = call->timeout_ns + WIRE_LATE_NS;
    const size_t all = call->broadcast ? (c->rank == 0 ? 0 : call->bytes) : (size_t)c->ranks * call->bytes;
    if (!(call->bytes <= WIRE_BYTES_MAX / (call->broadcast ? 1 : (uint64_t)c->ranks)))
        return OC_FAIL(OC_ELIMIT, "%s: %zu bytes from each rank; the store moves at most %llu in all", call->what,
                       call->bytes, (unsigned long long)WIRE_BYTES_MAX);
    if (call->sum) return OC_FAIL(OC_EFAILED, "%s: the store adds nothing up", call->what);
    if (s->over) return OC_FAIL(OC_EFAILED, "%s: the store has ended the job", call->what);
    OC_TRY(call_send(c, s, call, start + timeout_ns));
    OC_TRY(frame_await(s, WIRE_RESULT, call->what, &head, start, timeout_ns));
    const int64_t met = oc_clock_monotonic_ns();
    c->wait_ns += met - start;
    if (head.sequence != s->sequence || head.bytes != call->bytes || (head.broadcast != 0) != call->broadcast) {
        s->over = true;
        return OC_FAIL(OC_EFAILED, "%s: the store answers another exchange", call->what);
    }
    if (!bytes_receive(s->fd, call->data, all, met + timeout_ns))
        return hub_lost(s, call->what, (double)(oc_clock_monotonic_ns() - met) * 1e-9);
    c->move_ns += oc_clock_monotonic_ns() - met;
    return OC_OK;
}

/* While this rank waits for something else: whatever comes now is the end. */
static oc_status store_look(oc_comm *c, const char *what)
{
    store_state *s = c->state;
    wire_head head;
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    if (s->over || poll(&p, 1, 0) <= 0) return OC_OK;
    OC_TRY(frame_await(s, WIRE_VERDICT, what, &head, oc_clock_monotonic_ns(), WIRE_GRACE_NS));
    return OC_OK;
}

/* --- signs of life --- */

static void *pulse_main(void *argument)
{
    store_state *s = argument;
    const wire_head beat = {.magic = WIRE_MAGIC, .kind = WIRE_BEAT};
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        until.tv_sec += WIRE_BEAT_NS / OC_SECOND_NS;
        while (!s->stop && pthread_cond_timedwait(&s->changed, &s->lock, &until) != ETIMEDOUT) {
        }
        const ssize_t n = s->stop ? 0 : send(s->fd, &beat, sizeof beat, MSG_NOSIGNAL);
        if (n > 0 && (size_t)n < sizeof beat) /* half a frame would be garbage */
            s->stop = !bytes_send(s->fd, (const char *)&beat + n, sizeof beat - (size_t)n,
                                  oc_clock_monotonic_ns() + WIRE_GRACE_NS);
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static oc_status pulse_start(store_state *s)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&s->pulse, NULL, pulse_main, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->pulsing = code == 0;
    return code == 0 ? OC_OK : OC_FAIL(OC_EFAILED, "the store: no thread: %s", strerror(code));
}

static void pulse_stop(store_state *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->pulsing) pthread_join(s->pulse, NULL);
    s->pulsing = false;
}

/* --- the end --- */

static void end_send(store_state *s, oc_status status)
{
    const int64_t deadline = oc_clock_monotonic_ns() + WIRE_GRACE_NS;
    const wire_head head = {.magic = WIRE_MAGIC, .kind = WIRE_END, .status = (int32_t)status};
    snprintf(s->text, sizeof s->text, "%.*s", WIRE_TEXT_BYTES - 1, oc_status_message());
    if (bytes_send(s->fd, &head, sizeof head, deadline) && status != OC_OK)
        (void)!bytes_send(s->fd, s->text, sizeof s->text, deadline);
}

static void state_free(store_state *s)
{
    if (s->fd >= 0) close(s->fd);
    train_hub_close(s->hub);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    oc_memory_free(s->hosts);
    oc_memory_free(s);
}

static void store_close(oc_comm *c, oc_status status)
{
    store_state *s = c->state;
    pulse_stop(s);
    if (!s->over) end_send(s, status);
    state_free(s);
}

/* --- the beginning --- */

static const oc_comm_kind store_kind = {
    .name = "store", .agreements_only = true, .exchange = store_exchange, .close = store_close, .look = store_look};

static int connect_to(const struct addrinfo *a, int64_t deadline)
{
    int error = 0;
    socklen_t length = sizeof error;
    const int yes = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) return -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    const int64_t soon = oc_clock_monotonic_ns() + OC_SECOND_NS;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    error = errno;
    if (error == EINPROGRESS) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        (void)ready(fd, POLLOUT, soon < deadline ? soon : deadline);
        if (poll(&p, 1, 0) == 1 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0) return fd;
        if (error == EINPROGRESS || error == 0) error = ETIMEDOUT;
    }
    close(fd);
    errno = error;
    return -1;
}

/* Rank 0 may come later than this rank: it is tried again until the deadline. */
static oc_status store_reach(store_state *s, const char *store, int64_t deadline, double seconds)
{
    char host[256], port[8], why[128] = "no address";
    const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    OC_TRY(train_store_parse(store, host, sizeof host, port, sizeof port));
    while (s->fd < 0) {
        struct addrinfo *found = NULL;
        const int code = getaddrinfo(host, port, &want, &found);
        if (code != 0 && code != EAI_AGAIN)
            return OC_FAIL(OC_EFAILED, "--store %s: no address of %s: %s", store, host, gai_strerror(code));
        for (const struct addrinfo *a = found; code == 0 && a && s->fd < 0; a = a->ai_next) {
            s->fd = connect_to(a, deadline);
            if (s->fd < 0) snprintf(why, sizeof why, "%s", strerror(errno));
        }
        if (code == 0) freeaddrinfo(found);
        if (s->fd >= 0) break;
        if (oc_clock_monotonic_ns() >= deadline)
            return OC_FAIL(OC_EFAILED,
                           "--store %s: no rank 0 there within %.1f s (%s): is it running, is this its address, does a "
                           "firewall stand "
                           "between? comm.start_timeout_ns says how long is tried",
                           store, seconds, why);
        (void)nanosleep(&pause, NULL);
    }
    return OC_OK;
}

static oc_status hello_say(store_state *s, const oc_comm_place *place, oc_hash job)
{
    wire_hello hello = {.greeting = WIRE_GREETING,
                        .version = WIRE_VERSION,
                        .rank = (uint32_t)place->rank,
                        .ranks = (uint32_t)place->ranks,
                        .job = job};
    wire_head head;
    const int64_t start = oc_clock_monotonic_ns();
    if (gethostname(hello.host, sizeof hello.host - 1) != 0) snprintf(hello.host, sizeof hello.host, "an unnamed host");
    if (!bytes_send(s->fd, &hello, sizeof hello, start + WIRE_HELLO_NS)) return hub_lost(s, "hello", 0);
    return frame_await(s, WIRE_HERE, "hello", &head, start, WIRE_HELLO_NS);
}

static oc_status hosts_learn(oc_comm *out, store_state *s, int64_t timeout_ns)
{
    wire_head head;
    const int64_t start = oc_clock_monotonic_ns();
    const size_t bytes = (size_t)out->ranks * WIRE_HOST_BYTES;
    OC_TRY(frame_await(s, WIRE_WELCOME, "waiting for all ranks", &head, start, timeout_ns + WIRE_LATE_NS));
    if (head.bytes != WIRE_HOST_BYTES || !bytes_receive(s->fd, s->hosts, bytes, start + timeout_ns + WIRE_LATE_NS))
        return hub_lost(s, "hosts", 0);
    out->local = 0;
    for (int r = 0; r < out->ranks; r++) {
        s->hosts[r][WIRE_HOST_BYTES - 1] = '\0';
        const bool here = strcmp(s->hosts[r], s->hosts[out->rank]) == 0;
        out->local += here;
        out->place += here && r < out->rank;
    }
    snprintf(out->name, sizeof out->name, "rank %d on %s", out->rank, s->hosts[out->rank]);
    return OC_OK;
}

static oc_status store_join(oc_comm *out, store_state *s, const oc_comm_place *place, int64_t timeout_ns)
{
    const char *key = getenv("OUTCRY_JOB");
    const oc_hash job = oc_hash_bytes(key ? key : "", key ? strlen(key) : 0);
    wire_head head;
    const int64_t start = oc_clock_monotonic_ns();
    const bool first = place->rank == 0;
    train_guard(out->name, "reaching the store", train_guard_seconds(timeout_ns)); /* names may be looked up for long */
    const oc_status reached = first ? train_hub_open(&s->hub, place->store, place->ranks, job, timeout_ns, &s->fd)
                                    : store_reach(s, place->store, start + timeout_ns, (double)timeout_ns * 1e-9);
    train_guard(NULL, NULL, 0); /* all that follows knows its own time */
    OC_TRY(reached);
    if (first)
        OC_TRY(frame_await(s, WIRE_HERE, "hello", &head, oc_clock_monotonic_ns(), WIRE_HELLO_NS));
    else
        OC_TRY(hello_say(s, place, job));
    OC_TRY(pulse_start(s));
    return hosts_learn(out, s, timeout_ns);
}

static oc_status state_take(store_state **out, const oc_comm_place *place)
{
    pthread_condattr_t monotonic;
    store_state *s;
    *out = NULL;
    OC_TRY(oc_memory_new(&s, sizeof *s, "the store"));
    s->fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    snprintf(s->where, sizeof s->where, "%s", place->store);
    const oc_status status = oc_memory_new_array(&s->hosts, (size_t)place->ranks, sizeof *s->hosts, "the store");
    if (status != OC_OK)
        state_free(s);
    else
        *out = s;
    return status;
}

oc_status oc_comm_store_open(oc_comm *out, const oc_comm_place *place, int64_t timeout_ns)
{
    store_state *s;
    *out = oc_comm_single();
    if (!(place->ranks >= 1 && place->ranks <= OC_COMM_RANKS_MAX && place->rank >= 0 && place->rank < place->ranks))
        return OC_FAIL(OC_EUSAGE, "--rank %d of --ranks %d: ranks are 1 to %d, and a rank is 0 to ranks - 1",
                       place->rank, place->ranks, OC_COMM_RANKS_MAX);
    OC_TRY(state_take(&s, place));
    *out = (oc_comm){.kind = &store_kind, .state = s, .rank = place->rank, .ranks = place->ranks, .local = 1};
    snprintf(out->name, sizeof out->name, "rank %d", place->rank);
    const oc_status status = store_join(out, s, place, timeout_ns);
    if (status != OC_OK) oc_comm_close(out, status);
    return status;
}
