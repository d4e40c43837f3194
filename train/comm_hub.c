/* comm_hub.c - see comm_hub.h. One thread, sockets that never block, one exchange at a time: a rank asks for the next
 * only once it has the last, so two buffers are enough. Whom a verdict names is decided here alone, by the first of:
 * its connection closed, nothing was heard of it, the exchange's time is over since the first rank came. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "train/comm_hub_inside.h"

enum { TICK_MS = 100, NAMED_MAX = 4, TAKE_BYTES = 1 << 18, FILES_ELSEWHERE = 64 };

/* --- the verdict --- */

static void verdict(train_hub *h, oc_status code, const char *format, ...) OC_PRINTF(3, 4);
static void verdict(train_hub *h, oc_status code, const char *format, ...)
{
    va_list arguments;
    if (h->verdict != OC_OK) return; /* the first cause is the cause */
    va_start(arguments, format);
    (void)vsnprintf(h->verdict_text, sizeof h->verdict_text, format, arguments);
    va_end(arguments);
    h->verdict = code;
    h->ended_ns = oc_clock_monotonic_ns();
}

static void name(const train_hub *h, int rank, char text[static OC_COMM_NAME])
{
    if (h->peers[rank].host[0])
        snprintf(text, OC_COMM_NAME, "rank %d on %s", rank, h->peers[rank].host);
    else
        snprintf(text, OC_COMM_NAME, "rank %d", rank);
}

static bool in_exchange(const train_hub *h)
{
    return h->call.sequence != 0;
}

static bool silent(const hub_peer *p, int64_t now)
{
    return now - p->heard_ns > 2 * WIRE_BEAT_NS + WIRE_BEAT_NS / 2;
}

/* "rank 3 on host-b, rank 5 on host-c and 2 more": those that are not here (door), or have not come to the exchange; of
 * the latter only those that give no sign of life, if there are any: the rest may just wait for them elsewhere. */
static void missing_names(const train_hub *h, bool door, int64_t now, char *text, size_t cap)
{
    int count = 0, quiet = 0;
    size_t used = 0;
    char one[OC_COMM_NAME];
    for (int r = 0; r < h->ranks; r++) quiet += !door && !h->peers[r].arrived && silent(&h->peers[r], now);
    for (int r = 0; r < h->ranks; r++) {
        const hub_peer *p = &h->peers[r];
        if (door ? p->here : p->arrived || (quiet && !silent(p, now))) continue;
        if (count++ >= NAMED_MAX) continue;
        name(h, r, one);
        used += (size_t)snprintf(text + used, cap - used, "%s%s", count > 1 ? ", " : "", one);
    }
    if (count > NAMED_MAX) snprintf(text + used, cap - used, " and %d more", count - NAMED_MAX);
}

/* --- frames out --- */

static void frame_set(hub_peer *p, wire_head head, const void *body, size_t bytes)
{
    head.magic = WIRE_MAGIC;
    p->out = head;
    p->out_body = body;
    p->out_bytes = bytes;
    p->sent = 0;
    p->sending = true;
}

static void peer_gone(hub_peer *p)
{
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
    p->gone = true;
    p->sending = false;
}

static void verdict_frame(train_hub *h, hub_peer *p)
{
    const wire_head head = {.kind = WIRE_VERDICT, .bytes = WIRE_TEXT_BYTES, .status = (int32_t)h->verdict};
    frame_set(p, head, h->verdict_text, WIRE_TEXT_BYTES);
    p->told = true;
}

static void peer_send(train_hub *h, hub_peer *p)
{
    while (p->fd >= 0) {
        if (!p->sending) {
            if (h->verdict == OC_OK || p->told) return;
            verdict_frame(h, p);
        }
        const bool head = p->sent < sizeof p->out;
        const char *from =
            head ? (const char *)&p->out + p->sent : (const char *)p->out_body + (p->sent - sizeof p->out);
        const size_t left = head ? sizeof p->out - p->sent : p->out_bytes - (p->sent - sizeof p->out);
        const ssize_t n = left == 0 ? 0 : send(p->fd, from, left, MSG_NOSIGNAL | (head && p->out_bytes ? MSG_MORE : 0));
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) return; /* what it said last is still to be read: hearing finds the end */
        p->sent += (size_t)n;
        if (p->sent == sizeof p->out + p->out_bytes) p->sending = false;
    }
}

/* --- an exchange --- */

static size_t block_bytes(const wire_head *call, int rank)
{
    return call->broadcast && rank != 0 ? 0 : (size_t)call->bytes;
}

static unsigned char *block_place(const train_hub *h, int rank)
{
    unsigned char *data = h->data[h->sequence % 2];
    return h->call.broadcast ? data : data + (size_t)rank * (size_t)h->call.bytes;
}

static oc_status room_make(train_hub *h)
{
    const size_t bytes = (size_t)h->call.bytes * (h->call.broadcast ? 1 : (size_t)h->ranks), at = h->sequence % 2;
    if (bytes <= h->capacity[at]) return OC_OK;
    oc_memory_free(h->data[at]);
    h->data[at] = NULL;
    h->capacity[at] = 0;
    OC_TRY(oc_memory_new(&h->data[at], bytes, "the store"));
    h->capacity[at] = bytes;
    return OC_OK;
}

static void exchange_finish(train_hub *h)
{
    const size_t all = (size_t)h->call.bytes * (h->call.broadcast ? 1 : (size_t)h->ranks);
    for (int r = 0; r < h->ranks; r++) {
        hub_peer *p = &h->peers[r];
        wire_head head = h->call;
        head.kind = WIRE_RESULT;
        frame_set(p, head, h->data[h->sequence % 2], h->call.broadcast && r == 0 ? 0 : all);
        p->arrived = false;
    }
    h->sequence++;
    h->call = (wire_head){.sequence = 0};
    h->arrived = 0;
}

/* The head of a rank's call: the first one says what the exchange is, the others must agree. */
static void call_take(train_hub *h, int rank)
{
    const wire_head *c = &h->peers[rank].head;
    char one[OC_COMM_NAME];
    name(h, rank, one);
    if (!in_exchange(h)) {
        const uint64_t times = c->broadcast ? 1 : (uint64_t)h->ranks;
        if (h->sequence == 0 || c->sequence != h->sequence || !(c->bytes <= WIRE_BYTES_MAX / times) ||
            !(c->timeout_ns > 0 && c->timeout_ns <= 3600 * OC_SECOND_NS)) {
            verdict(h, OC_EFAILED, "%s asked the store for what cannot be (exchange %llu, %llu bytes)", one,
                    (unsigned long long)c->sequence, (unsigned long long)c->bytes);
            return;
        }
        h->call = *c;
        h->first_ns = oc_clock_monotonic_ns();
        if (room_make(h) != OC_OK) verdict(h, OC_EMEMORY, "the store, on rank 0: %s", oc_status_message());
        return;
    }
    if (c->sequence == h->sequence && c->bytes == h->call.bytes && c->broadcast == h->call.broadcast &&
        strncmp(c->what, h->call.what, sizeof c->what) == 0)
        return;
    verdict(h, OC_EFAILED,
            "%s stands at exchange %llu (%.31s, %llu bytes), others at %llu (%.31s, %llu bytes): the ranks do not run "
            "the same job",
            one, (unsigned long long)c->sequence, c->what, (unsigned long long)c->bytes,
            (unsigned long long)h->sequence, h->call.what, (unsigned long long)h->call.bytes);
}

static void leave_take(train_hub *h, int rank)
{
    hub_peer *p = &h->peers[rank];
    char one[OC_COMM_NAME];
    name(h, rank, one);
    p->text[WIRE_TEXT_BYTES - 1] = '\0';
    if (p->head.status != OC_OK) verdict(h, (oc_status)p->head.status, "%s has failed: %.900s", one, p->text);
    peer_gone(p);
    if (rank == 0 && h->ended_ns == 0) h->ended_ns = oc_clock_monotonic_ns();
}

/* A whole head is there. */
static void head_take(train_hub *h, int rank)
{
    hub_peer *p = &h->peers[rank];
    char one[OC_COMM_NAME];
    p->head.what[WIRE_WHAT_BYTES - 1] = '\0';
    const bool known = p->head.magic == WIRE_MAGIC && (p->head.kind == WIRE_BEAT || p->head.kind == WIRE_END ||
                                                       (p->head.kind == WIRE_CALL && !p->arrived));
    if (known && p->head.kind == WIRE_CALL) call_take(h, rank);
    if (known) return;
    name(h, rank, one);
    verdict(h, OC_EFAILED, "%s sent the store what is no frame of it", one);
    peer_gone(p);
}

/* Bytes of the body that follows the head, and where they go. */
static size_t body_find(const train_hub *h, int rank, char **to)
{
    hub_peer *p = &h->peers[rank];
    if (p->head.kind == WIRE_CALL) {
        *to = (char *)block_place(h, rank);
        return block_bytes(&p->head, rank);
    }
    *to = p->text;
    return p->head.kind == WIRE_END && p->head.status != OC_OK ? WIRE_TEXT_BYTES : 0;
}

static void body_done(train_hub *h, int rank)
{
    hub_peer *p = &h->peers[rank];
    p->got = 0;
    if (p->head.kind == WIRE_END) leave_take(h, rank);
    if (p->head.kind != WIRE_CALL) return;
    p->arrived = true;
    if (++h->arrived == h->ranks) exchange_finish(h);
}

/* Reads up to `want` bytes; false: there is nothing now, or the connection is at its end (*end). */
static bool bytes_take(hub_peer *p, char *to, size_t want, bool *end)
{
    const ssize_t n = recv(p->fd, to, want < TAKE_BYTES ? want : TAKE_BYTES, 0);
    *end = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    if (n <= 0) return false;
    p->got += (size_t)n;
    p->heard_ns = oc_clock_monotonic_ns();
    return true;
}

/* Everything that has come from a rank. False: its connection is at its end. After the verdict nothing counts. */
static bool peer_take(train_hub *h, int rank)
{
    hub_peer *p = &h->peers[rank];
    char scratch[1024], *to = scratch;
    bool end = false;
    while (p->fd >= 0 && h->verdict != OC_OK)
        if (!bytes_take(p, scratch, sizeof scratch, &end)) return !end;
    while (p->fd >= 0 && h->verdict == OC_OK) {
        if (p->got < sizeof p->head) {
            if (!bytes_take(p, (char *)&p->head + p->got, sizeof p->head - p->got, &end)) return !end;
            if (p->got < sizeof p->head) continue;
            head_take(h, rank);
        } else {
            const size_t at = p->got - sizeof p->head, bytes = body_find(h, rank, &to);
            if (!bytes_take(p, to + at, bytes - at, &end)) return !end;
        }
        if (p->fd >= 0 && h->verdict == OC_OK && p->got - sizeof p->head == body_find(h, rank, &to)) body_done(h, rank);
    }
    return true;
}

static void peer_hear(train_hub *h, int rank)
{
    char one[OC_COMM_NAME];
    if (peer_take(h, rank)) return;
    name(h, rank, one);
    verdict(h, OC_EFAILED, "%s has gone: its process was killed or its machine is down; --resume goes on", one);
    peer_gone(&h->peers[rank]);
}

/* --- who does not come --- */

void hub_peer_admit(train_hub *h, int rank, int fd, const char *host)
{
    hub_peer *p = &h->peers[rank];
    p->fd = fd;
    p->here = true;
    p->heard_ns = oc_clock_monotonic_ns();
    snprintf(p->host, sizeof p->host, "%s", host);
    memcpy(h->hosts[rank], p->host, sizeof p->host);
    frame_set(p, (wire_head){.kind = WIRE_HERE}, NULL, 0);
    h->here++;
}

static void welcome(train_hub *h)
{
    const wire_head head = {.kind = WIRE_WELCOME, .bytes = WIRE_HOST_BYTES};
    for (int r = 0; r < h->ranks; r++)
        if (h->peers[r].sending) return; /* its HERE is still on the way */
    for (int r = 0; r < h->ranks; r++) frame_set(&h->peers[r], head, h->hosts, (size_t)h->ranks * WIRE_HOST_BYTES);
    h->sequence = 1;
}

/* The hub's own process was stopped, or its machine slept: nobody else is to blame for the silence. */
static void standstill_look(train_hub *h, int64_t now)
{
    const int64_t still = now - h->looked_ns;
    h->looked_ns = now;
    if (still < OC_SECOND_NS) return;
    if (still > WIRE_SILENCE_NS / 2)
        verdict(h, OC_EFAILED,
                "rank 0 on %s, which holds the store, stood still for %.1f s: stopped, or its machine was asleep",
                h->peers[0].host, (double)still * 1e-9);
    for (int r = 0; r < h->ranks; r++) h->peers[r].heard_ns += still;
    h->first_ns += still;
}

static void silence_look(train_hub *h, int64_t now)
{
    char one[OC_COMM_NAME];
    for (int r = 0; r < h->ranks; r++) {
        const hub_peer *p = &h->peers[r];
        name(h, r, one);
        if (p->here && !p->gone && !(now - p->heard_ns <= WIRE_SILENCE_NS))
            verdict(h, OC_EFAILED,
                    "no sign of life from %s for %.1f s: its process is stopped, or its machine is cut off; --resume "
                    "goes on from the last checkpoint",
                    one, (double)(now - p->heard_ns) * 1e-9);
        if (p->gone && in_exchange(h) && !p->arrived)
            verdict(h, OC_EFAILED, "%s has left while others go on (%s, exchange %llu)", one, h->call.what,
                    (unsigned long long)h->sequence);
    }
}

static void lateness_look(train_hub *h, int64_t now)
{
    char names[NAMED_MAX * (OC_COMM_NAME + 2) + 32] = "";
    if (h->sequence == 0 && now - h->opened_ns > h->timeout_ns) {
        missing_names(h, true, now, names, sizeof names);
        verdict(h, OC_EFAILED, "%s of %d did not come to the store in %.1f s%s%s", names, h->ranks,
                (double)(now - h->opened_ns) * 1e-9, h->refused[0] ? "; refused was: " : "", h->refused);
    }
    if (in_exchange(h) && now - h->first_ns > h->call.timeout_ns) {
        int64_t heard_ns = 0;
        for (int r = 0; r < h->ranks; r++)
            if (!h->peers[r].arrived && h->peers[r].heard_ns > heard_ns) heard_ns = h->peers[r].heard_ns;
        missing_names(h, false, now, names, sizeof names);
        verdict(h, OC_EFAILED,
                "no answer from %s for %.1f s (%s, exchange %llu), last sign of life %.1f s ago: stopped, stuck or too "
                "slow; comm.timeout_ns says how long is waited; --resume goes on from the last checkpoint",
                names, (double)(now - h->first_ns) * 1e-9, h->call.what, (unsigned long long)h->sequence,
                (double)(now - heard_ns) * 1e-9);
    }
}

/* --- the thread --- */

/* Who is stopped hears no verdict: nobody waits for it. */
static bool finished(const train_hub *h, int64_t now)
{
    int left = 0;
    for (int r = 1; r < h->ranks; r++)
        left += h->peers[r].fd >= 0 && now - h->peers[r].heard_ns < WIRE_BEAT_NS + WIRE_BEAT_NS / 2;
    return h->ended_ns != 0 && h->peers[0].gone && (left == 0 || now - h->ended_ns > WIRE_GRACE_NS);
}

static void turn(train_hub *h)
{
    const int guests = h->ranks, door = h->ranks + HUB_GUESTS;
    for (int r = 0; r < h->ranks; r++) {
        const hub_peer *p = &h->peers[r];
        const bool more = p->sending || (h->verdict != OC_OK && !p->told);
        h->polls[r] = (struct pollfd){.fd = p->fd, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
    }
    for (int i = 0; i < HUB_GUESTS; i++)
        h->polls[guests + i] = (struct pollfd){.fd = h->guests[i].fd, .events = POLLIN};
    h->polls[door] = (struct pollfd){.fd = h->listener, .events = POLLIN};
    if (poll(h->polls, (nfds_t)door + 1, TICK_MS) < 0) return;
    standstill_look(h, oc_clock_monotonic_ns());
    for (int r = 0; r < h->ranks; r++)
        if (h->polls[r].revents & (POLLIN | POLLHUP | POLLERR)) peer_hear(h, r);
    for (int i = 0; i < HUB_GUESTS; i++)
        if (h->polls[guests + i].revents) hub_guest_hear(h, &h->guests[i]);
    if (h->polls[door].revents) hub_guests_accept(h);
    for (int r = 0; r < h->ranks; r++) peer_send(h, &h->peers[r]);
    if (h->sequence == 0 && h->here == h->ranks) welcome(h);
}

static void *hub_main(void *argument)
{
    train_hub *h = argument;
    for (;;) {
        turn(h);
        const int64_t now = oc_clock_monotonic_ns();
        hub_guests_expire(h, now);
        if (finished(h, now)) return NULL;
        silence_look(h, now);
        lateness_look(h, now);
    }
}

static oc_status thread_start(train_hub *h)
{
    sigset_t all, before; /* signals are for the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&h->thread, NULL, hub_main, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code != 0) return OC_FAIL(OC_EFAILED, "the store: no thread: %s", strerror(code));
    return OC_OK;
}

/* One for each rank; poll takes no more than may be open either. */
static oc_status files_allow(int ranks)
{
    char who[64];
    snprintf(who, sizeof who, "the store: on rank 0's machine %d ranks", ranks);
    return oc_file_allow_open((size_t)ranks + HUB_GUESTS + FILES_ELSEWHERE, who);
}

static void hub_free(train_hub *h)
{
    for (int r = 0; h->peers && r < h->ranks; r++) peer_gone(&h->peers[r]);
    for (int i = 0; i < HUB_GUESTS; i++) hub_guest_drop(&h->guests[i]);
    if (h->listener >= 0) close(h->listener);
    void *const blocks[] = {h->peers, h->polls, h->hosts, h->data[0], h->data[1], h};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) oc_memory_free(blocks[i]);
}

static oc_status hub_fill(train_hub *h, const char *store, int *own)
{
    char host[WIRE_HOST_BYTES] = "";
    int pair[2];
    const size_t ranks = (size_t)h->ranks;
    OC_TRY(files_allow(h->ranks));
    OC_TRY(oc_memory_new_array(&h->peers, ranks, sizeof *h->peers, "the store"));
    for (size_t r = 0; r < ranks; r++) h->peers[r].fd = -1;
    OC_TRY(oc_memory_new_array(&h->polls, ranks + HUB_GUESTS + 1, sizeof *h->polls, "the store"));
    OC_TRY(oc_memory_new_array(&h->hosts, ranks, sizeof *h->hosts, "the store"));
    OC_TRY(hub_listen(&h->listener, store));
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return OC_FAIL(OC_EFAILED, "the store: no socket: %s", strerror(errno));
    if (gethostname(host, sizeof host - 1) != 0) snprintf(host, sizeof host, "an unnamed host");
    hub_peer_admit(h, 0, pair[0], host);
    oc_status status = thread_start(h);
    if (status == OC_OK)
        *own = pair[1];
    else
        close(pair[1]);
    return status;
}

oc_status train_hub_open(train_hub **out, const char *store, int ranks, oc_hash job, int64_t timeout_ns, int *own)
{
    train_hub *h;
    *out = NULL;
    OC_TRY(oc_memory_new(&h, sizeof *h, "the store"));
    h->listener = -1;
    h->ranks = ranks;
    h->job = job;
    h->timeout_ns = timeout_ns;
    h->opened_ns = h->looked_ns = oc_clock_monotonic_ns();
    for (int i = 0; i < HUB_GUESTS; i++) h->guests[i].fd = -1;
    oc_status status = hub_fill(h, store, own);
    if (status == OC_OK)
        *out = h;
    else
        hub_free(h);
    return status;
}

void train_hub_close(train_hub *h)
{
    if (!h) return;
    pthread_join(h->thread, NULL);
    hub_free(h);
}
