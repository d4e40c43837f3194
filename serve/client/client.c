/* client.c - the client's end of both rings. What the hello says is checked against the region's size before it is
 * used. */
#include "serve/client/client.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/client/ring.h"

enum { YIELDS = 64, NAP_NS = 10000000 };
#define INPUT_OWN INT64_MIN /* input_ns of a request of this file's own */

struct oc_client {
    int socket;
    unsigned char *region;
    oc_wire_bell *bell;
    uint64_t region_bytes;
    oc_ring requests, replies;
    int64_t asked_ns, awaited_ns; /* deadlines of openings, each its own: of the last one; that is waited for, or 0 */
    oc_client_model model;
    char address[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* The hello and its two descriptors; both are -1 where there are none. */
static OC_MUST hello_receive(oc_client *c, oc_wire_hello *hello, int fds[2])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {hello, sizeof *hello};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    fds[0] = fds[1] = -1;
    const ssize_t got = recvmsg(c->socket, &message, MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h && got > 0; h = CMSG_NXTHDR(&message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS || h->cmsg_len != CMSG_LEN(2 * sizeof(int)))
            continue;
        memcpy(fds, CMSG_DATA(h), 2 * sizeof(int));
    }
    if (got != (ssize_t)sizeof *hello || hello->magic != OC_WIRE_MAGIC)
        return OC_FAIL(OC_EFAILED, "%s: no Outcry server answers there", c->address);
    if (hello->version != OC_WIRE_VERSION)
        return OC_FAIL(OC_EFAILED, "%s: the server speaks layout %u, this client %d", c->address, hello->version,
                       OC_WIRE_VERSION);
    if (hello->state == OC_HELLO_WRONG_UID)
        return OC_FAIL(OC_EFAILED, "%s: the server belongs to another user", c->address);
    if (hello->state == OC_HELLO_FULL)
        return OC_FAIL(OC_EAGAIN, "%s: the server has no room for another client", c->address);
    if (hello->state != OC_HELLO_WELCOME || fds[0] < 0)
        return OC_FAIL(OC_EFAILED, "%s: the server could not make a ring: its log says why", c->address);
    return OC_OK;
}

static bool ring_bytes_good(uint64_t bytes)
{
    return bytes >= 4096 && bytes <= UINT64_C(1) << 32 && (bytes & (bytes - 1)) == 0;
}

/* Memory that shrinks under a mapping ends the process that reads it. */
static bool sealed(int fd)
{
    const int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

static OC_MUST region_map(oc_client *c, const oc_wire_hello *hello, const int fds[2])
{
    struct stat region, bell;
    if (fstat(fds[0], &region) != 0 || fstat(fds[1], &bell) != 0)
        return OC_FAIL(OC_EFAILED, "%s: %s", c->address, strerror(errno));
    const uint64_t cells = (uint64_t)hello->steps * hello->inputs;
    if (!(ring_bytes_good(hello->request_bytes) && ring_bytes_good(hello->reply_bytes) && hello->steps >= 1 &&
          hello->inputs >= 1 && cells <= hello->request_bytes / sizeof(float) && hello->horizons >= 1 &&
          hello->horizons <= OC_WIRE_HORIZONS_MAX &&
          hello->region_bytes == OC_WIRE_REGION_OFFSET + hello->request_bytes + hello->reply_bytes &&
          (uint64_t)region.st_size == hello->region_bytes && (uint64_t)bell.st_size >= sizeof *c->bell))
        return OC_FAIL(OC_EFAILED, "%s: the server's hello contradicts the memory that it hands out", c->address);
    if (!sealed(fds[0]) || !sealed(fds[1]))
        return OC_FAIL(OC_EFAILED, "%s: the memory that is handed out there is not sealed: no Outcry server",
                       c->address);
    /* all pages at once, not one by one where a request is sent */
    void *at = mmap(NULL, hello->region_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fds[0], 0);
    if (at == MAP_FAILED) return OC_FAIL(OC_EFAILED, "%s: mmap: %s", c->address, strerror(errno));
    c->region = at;
    c->region_bytes = hello->region_bytes;
    at = mmap(NULL, OC_WIRE_REGION_OFFSET, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    if (at == MAP_FAILED) return OC_FAIL(OC_EFAILED, "%s: mmap: %s", c->address, strerror(errno));
    c->bell = at;
    oc_wire_control *control = (oc_wire_control *)(void *)c->region;
    oc_ring_init(&c->requests, &control->requests, c->region + OC_WIRE_REGION_OFFSET, hello->request_bytes);
    oc_ring_init(&c->replies, &control->replies, c->region + OC_WIRE_REGION_OFFSET + hello->request_bytes,
                 hello->reply_bytes);
    return OC_OK;
}

static void model_fill(oc_client_model *m, const oc_wire_hello *hello)
{
    memcpy(m->name, hello->model, sizeof m->name);
    memcpy(m->version, hello->version_text, sizeof m->version);
    m->name[sizeof m->name - 1] = m->version[sizeof m->version - 1] = 0;
    m->steps = hello->steps;
    m->inputs = hello->inputs;
    m->horizons = hello->horizons;
    m->generation = hello->model_version;
    m->schema_low = hello->schema_low;
    m->schema_high = hello->schema_high;
}

static int64_t end_of(int64_t timeout_ns)
{
    const int64_t most = INT64_MAX / 4; /* so that nothing overflows */
    return oc_clock_monotonic_ns() + (timeout_ns < most ? timeout_ns : most);
}

/* 0: the time is over. */
static int64_t left_ns(int64_t end_ns)
{
    const int64_t now = oc_clock_monotonic_ns();
    return end_ns > now ? end_ns - now : 0;
}

/* Where the server's queue of connections is full, connect(2) itself waits, at most as long as a send may. */
static OC_MUST socket_connect(oc_client *c, const struct sockaddr_un *name, int64_t end_ns)
{
    for (;;) {
        const int64_t left = left_ns(end_ns), us = left / 1000 + 1; /* 0 would be for ever */
        const struct timeval most = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
        if (setsockopt(c->socket, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most) != 0)
            return OC_FAIL(OC_EFAILED, "%s: a socket's time-out: %s", c->address, strerror(errno));
        if (connect(c->socket, (const struct sockaddr *)name, sizeof *name) == 0) return OC_OK;
        if (errno == EINTR && left > 0) continue;
        const bool again = errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN || errno == EINTR;
        return OC_FAIL(again ? OC_EAGAIN : OC_EFAILED, "%s: %s", c->address,
                       errno == EAGAIN ? "the server takes no connection in time" : strerror(errno));
    }
}

/* Anyone may listen in a folder like /tmp. systemd, which may hold the socket for the server, is root. */
static OC_MUST peer_check(const oc_client *c)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(c->socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        return OC_FAIL(OC_EFAILED, "%s: who listens there: %s", c->address, strerror(errno));
    if (peer.uid != geteuid() && peer.uid != 0)
        return OC_FAIL(OC_EFAILED, "%s: user %u listens there, and this process is of user %u: not its server",
                       c->address, (unsigned)peer.uid, (unsigned)geteuid());
    return OC_OK;
}

static OC_MUST hello_await(oc_client *c, int64_t end_ns)
{
    struct pollfd ready = {.fd = c->socket, .events = POLLIN};
    int found;
    do {
        const int64_t ms = (left_ns(end_ns) + 999999) / 1000000;
        found = poll(&ready, 1, ms < INT32_MAX ? (int)ms : INT32_MAX);
    } while (found < 0 && errno == EINTR && left_ns(end_ns) > 0);
    return found == 1 ? OC_OK : OC_FAIL(OC_EAGAIN, "%s: no hello in time", c->address);
}

static OC_MUST client_connect(oc_client *c, const char *address, int64_t timeout_ns)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const size_t length = strncmp(address, "unix:", 5) == 0 ? strlen(address + 5) : 0;
    const int64_t end_ns = end_of(timeout_ns);
    if (!(length >= 1 && length < sizeof name.sun_path))
        return OC_FAIL(OC_EUSAGE, "the server's address is \"%.200s\", not unix:PATH with a path below %zu bytes",
                       address, sizeof name.sun_path);
    memcpy(name.sun_path, address + 5, length + 1);
    memcpy(c->address, address + 5, length + 1);
    c->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (c->socket < 0) return OC_FAIL(OC_EFAILED, "socket: %s", strerror(errno));
    OC_TRY(socket_connect(c, &name, end_ns));
    OC_TRY(peer_check(c));
    OC_TRY(hello_await(c, end_ns));
    oc_wire_hello hello;
    int fds[2];
    oc_status status = hello_receive(c, &hello, fds);
    if (status == OC_OK) status = region_map(c, &hello, fds);
    if (status == OC_OK) model_fill(&c->model, &hello);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0) close(fds[i]);
    return status;
}

oc_status oc_client_open(oc_client **out, const char *address, int64_t timeout_ns)
{
    oc_client *c;
    assert(out && address);
    *out = NULL;
    OC_TRY(oc_memory_new(&c, sizeof *c, "client"));
    c->socket = -1;
    oc_status status = client_connect(c, address, timeout_ns);
    if (status != OC_OK) {
        oc_client_close(c);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = c;
    return OC_OK;
}

void oc_client_close(oc_client *c)
{
    if (!c) return;
    if (c->region) munmap(c->region, c->region_bytes);
    if (c->bell) munmap(c->bell, OC_WIRE_REGION_OFFSET);
    if (c->socket >= 0) close(c->socket);
    oc_memory_free(c);
}

const oc_client_model *oc_client_describe(const oc_client *c)
{
    return &c->model;
}

static oc_ring_state request_put(oc_client *c, oc_wire_request *request, const void *payload, size_t bytes)
{
    request->bytes = (uint32_t)oc_ring_record_bytes(bytes);
    request->count = (uint32_t)bytes;
    request->sent_ns = oc_clock_monotonic_ns();
    const oc_ring_state put = oc_ring_put(&c->requests, request, sizeof *request, payload, bytes);
    if (put == OC_RING_DONE) (void)oc_ring_wake(&c->bell->asleep);
    return put;
}

static OC_MUST send_request(oc_client *c, oc_wire_request *request, const void *payload, size_t bytes)
{
    if (!(oc_ring_record_bytes(bytes) <= c->requests.capacity))
        return OC_FAIL(OC_EUSAGE, "%s: a request of %zu bytes, but the server's rings hold %llu (serve.ring_kb)",
                       c->address, bytes, (unsigned long long)c->requests.capacity);
    const oc_ring_state put = request_put(c, request, payload, bytes);
    if (put == OC_RING_DONE) return OC_OK;
    if (put == OC_RING_FULL) return OC_FAIL(OC_EAGAIN, "the ring of requests is full");
    return OC_FAIL(OC_EFAILED, "%s: the server broke the ring's protocol", c->address);
}

oc_status oc_client_window(oc_client *c, uint32_t session, oc_stamp stamp, const float *rows_raw, size_t rows)
{
    if (rows != c->model.steps)
        return OC_FAIL(OC_EUSAGE, "a window of %zu rows, but %s takes %u", rows, c->model.name, c->model.steps);
    oc_wire_request request = {.kind = OC_REQUEST_WINDOW,
                               .session = session,
                               .sequence = stamp.sequence,
                               .input_ns = stamp.input_ns,
                               .deadline_ns = stamp.deadline_ns,
                               .model_version = stamp.model_version};
    return send_request(c, &request, rows_raw, rows * c->model.inputs * sizeof *rows_raw);
}

oc_status oc_client_push(oc_client *c, uint32_t session, oc_stamp stamp, const float *row_raw, uint32_t run_length)
{
    oc_wire_request request = {.kind = OC_REQUEST_PUSH,
                               .session = session,
                               .sequence = stamp.sequence,
                               .input_ns = stamp.input_ns,
                               .deadline_ns = stamp.deadline_ns,
                               .model_version = stamp.model_version,
                               .run_length = run_length};
    return send_request(c, &request, row_raw, c->model.inputs * sizeof *row_raw);
}

oc_status oc_client_history(oc_client *c, uint32_t session, oc_stamp stamp, const float *rows_raw, size_t rows,
                            uint32_t run_length)
{
    const size_t needed = c->model.steps - 1, skipped = rows > needed ? rows - needed : 0;
    if (!(rows <= run_length))
        return OC_FAIL(OC_EUSAGE, "a history of %zu rows, but the run of valid rows up to its last is %u", rows,
                       run_length);
    oc_wire_request request = {.kind = OC_REQUEST_HISTORY,
                               .session = session,
                               .sequence = stamp.sequence,
                               .input_ns = stamp.input_ns,
                               .deadline_ns = stamp.deadline_ns,
                               .model_version = stamp.model_version,
                               .run_length = run_length};
    return send_request(c, &request, rows_raw + skipped * c->model.inputs,
                        (rows - skipped) * c->model.inputs * sizeof *rows_raw);
}

/* A session or stream that was opened for nobody ends; false: its closing does not fit into the ring now. */
static bool opened_end(oc_client *c, const oc_wire_reply *opened)
{
    oc_wire_request request = {.kind = opened->kind == OC_REQUEST_OPEN ? OC_REQUEST_CLOSE : OC_REQUEST_STREAM_CLOSE,
                               .session = opened->session,
                               .input_ns = INPUT_OWN};
    if (opened->state != OC_REPLY_OK && opened->state != OC_REPLY_LATE) return true;
    return request_put(c, &request, NULL, 0) != OC_RING_FULL;
}

/* The next reply that is the caller's. An opening is known by its deadline: one that nobody waits for any more, as its
 * time was over, is undone here, and the answer to that is kept from the caller. */
static bool reply_take(oc_client *c, oc_wire_reply *reply)
{
    for (;;) {
        unsigned char *out = (unsigned char *)reply;
        if (oc_ring_peek(&c->replies, out, sizeof *reply) != OC_RING_DONE) return false;
        if (reply->bytes != sizeof *reply) {
            c->replies.broken = true;
            return false;
        }
        const bool opening = reply->kind == OC_REQUEST_OPEN || reply->kind == OC_REQUEST_STREAM_OPEN,
                   closing = reply->kind == OC_REQUEST_CLOSE || reply->kind == OC_REQUEST_STREAM_CLOSE,
                   nobodys = opening && reply->deadline_ns != c->awaited_ns;
        if (nobodys && !opened_end(c, reply)) return false; /* it stays until there is room */
        oc_ring_copy(&c->replies, out + OC_WIRE_LINE, sizeof *reply - OC_WIRE_LINE);
        oc_ring_take(&c->replies, sizeof *reply);
        if (!nobodys && !(closing && reply->input_ns == INPUT_OWN)) return true;
    }
}

size_t oc_client_poll(oc_client *c, oc_wire_reply *replies, size_t replies_cap)
{
    size_t n = 0;
    while (n < replies_cap && reply_take(c, &replies[n])) n++;
    return n;
}

void oc_client_wait(oc_client *c, int64_t spin_ns, int64_t timeout_ns)
{
    unsigned char header[OC_WIRE_LINE];
    uint32_t *asleep = &c->replies.shared->asleep;
    const int64_t start = oc_clock_monotonic_ns();
    int64_t now = start;
    for (int yields = 0;
         oc_ring_peek(&c->replies, header, sizeof(oc_wire_reply)) == OC_RING_EMPTY && now - start < timeout_ns;) {
        if (now - start < spin_ns) {
            oc_ring_pause();
        } else if (spin_ns >= 0 && yields < YIELDS) {
            sched_yield();
            yields++;
        } else {
            const int64_t left = timeout_ns - (now - start);
            oc_ring_nod(asleep, true);
            if (oc_ring_peek(&c->replies, header, sizeof(oc_wire_reply)) == OC_RING_EMPTY)
                oc_ring_sleep(asleep, left < NAP_NS ? left : NAP_NS);
            oc_ring_nod(asleep, false);
        }
        now = oc_clock_monotonic_ns();
    }
}

int oc_client_alive(const oc_client *c)
{
    struct pollfd state = {.fd = c->socket, .events = POLLIN};
    return !c->replies.broken && !c->requests.broken &&
           poll(&state, 1, 0) == 0; /* anything more is the end of the file */
}

static const char *const state_texts[] = {
#define STATE_TEXT(state, name, meaning) meaning,
    OC_REPLY_STATES(STATE_TEXT)
#undef STATE_TEXT
};

/* Other replies are dropped. */
static OC_MUST opening_await(oc_client *c, uint32_t kind, int64_t end_ns, oc_wire_reply *reply)
{
    for (;;) {
        while (oc_client_poll(c, reply, 1) == 1) {
            if (reply->kind != kind) continue;
            if (reply->state == OC_REPLY_OK) return OC_OK;
            if (reply->state == OC_REPLY_LATE) {
                (void)opened_end(c, reply);
                return OC_FAIL(OC_EAGAIN, "%s: the answer came too late", c->address);
            }
            return OC_FAIL(reply->state == OC_REPLY_REFUSED_FULL || reply->state == OC_REPLY_REFUSED_BUDGET ? OC_EAGAIN
                                                                                                            : OC_EUSAGE,
                           "%s: %s refused: %s", c->address, kind == OC_REQUEST_OPEN ? "session" : "stream",
                           reply->state < OC_REPLY_STATE_COUNT ? state_texts[reply->state] : "unknown reason");
        }
        if (!oc_client_alive(c)) return OC_FAIL(OC_EFAILED, "%s: the server is gone", c->address);
        if (left_ns(end_ns) == 0) return OC_FAIL(OC_EAGAIN, "%s: no answer in time", c->address);
        oc_client_wait(c, 0, left_ns(end_ns));
    }
}

static OC_MUST opening_ask(oc_client *c, uint32_t kind, const void *payload, size_t bytes, int64_t timeout_ns,
                           oc_wire_reply *reply)
{
    const int64_t end_ns = end_of(timeout_ns);
    c->asked_ns = end_ns > c->asked_ns ? end_ns : c->asked_ns + 1;
    oc_wire_request request = {.kind = kind, .deadline_ns = c->asked_ns};
    OC_TRY(send_request(c, &request, payload, bytes));
    c->awaited_ns = c->asked_ns;
    const oc_status status = opening_await(c, kind, end_ns, reply);
    c->awaited_ns = 0;
    return status;
}

oc_status oc_client_session_open(oc_client *c, const char *model, const char *symbol, uint64_t schema_low,
                                 uint64_t schema_high, int64_t period_ns, int64_t timeout_ns, uint32_t *session)
{
    oc_wire_open open = {.schema_low = schema_low, .schema_high = schema_high, .period_ns = period_ns};
    oc_wire_reply reply;
    if (strlen(model) >= sizeof open.model || strlen(symbol) >= sizeof open.symbol)
        return OC_FAIL(OC_EUSAGE, "a model's name is below %zu bytes, a symbol's below %zu", sizeof open.model,
                       sizeof open.symbol);
    memcpy(open.model, model, strlen(model));
    memcpy(open.symbol, symbol, strlen(symbol));
    OC_TRY(opening_ask(c, OC_REQUEST_OPEN, &open, sizeof open, timeout_ns, &reply));
    *session = reply.session;
    return OC_OK;
}

oc_status oc_client_session_close(oc_client *c, uint32_t session)
{
    oc_wire_request request = {.kind = OC_REQUEST_CLOSE, .session = session};
    return send_request(c, &request, NULL, 0);
}

oc_status oc_client_stream_open(oc_client *c, const char *model, const oc_wire_instrument *universe,
                                uint32_t instruments, int64_t period_ns, int begins, int64_t timeout_ns,
                                oc_client_stream *stream)
{
    struct {
        oc_wire_stream head;
        oc_wire_instrument universe[OC_WIRE_INSTRUMENTS_MAX];
    } open = {.head = {.period_ns = period_ns, .instruments = instruments, .flags = begins ? OC_STREAM_BEGINS : 0}};
    oc_wire_reply reply;
    if (strlen(model) >= sizeof open.head.model || !(instruments >= 1 && instruments <= OC_WIRE_INSTRUMENTS_MAX))
        return OC_FAIL(OC_EUSAGE, "a model's name is below %zu bytes, and a universe has 1 to %d instruments",
                       sizeof open.head.model, OC_WIRE_INSTRUMENTS_MAX);
    memcpy(open.head.model, model, strlen(model));
    memcpy(open.universe, universe, instruments * sizeof *universe);
    OC_TRY(opening_ask(c, OC_REQUEST_STREAM_OPEN, &open, sizeof open.head + instruments * sizeof *universe, timeout_ns,
                       &reply));
    *stream =
        (oc_client_stream){.id = reply.session, .history_rows = (uint32_t)reply.sequence, .history_ns = reply.input_ns};
    return OC_OK;
}

oc_status oc_client_stream_close(oc_client *c, uint32_t stream)
{
    oc_wire_request request = {.kind = OC_REQUEST_STREAM_CLOSE, .session = stream};
    return send_request(c, &request, NULL, 0);
}

oc_status oc_client_tick(oc_client *c, uint32_t stream, oc_stamp stamp, const struct oc_event *events, size_t count)
{
    oc_wire_request request = {.kind = OC_REQUEST_TICK,
                               .session = stream,
                               .sequence = stamp.sequence,
                               .input_ns = stamp.input_ns,
                               .deadline_ns = stamp.deadline_ns};
    if (!(count >= 1 && count <= OC_WIRE_EVENTS_MAX))
        return OC_FAIL(OC_EUSAGE, "%zu events, but a request carries 1 to %d", count, OC_WIRE_EVENTS_MAX);
    return send_request(c, &request, events, count * OC_WIRE_EVENT_BYTES);
}
