/* comm_hub_guests.c - the hub's door. Anyone can connect to a port: who does not say a good hello in time is shown out,
 * costs one of a few places for that long, and disturbs nobody. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "train/comm_hub_inside.h"

oc_status train_store_parse(const char *store, char *host, size_t host_bytes, char *port, size_t port_bytes)
{
    const char *colon = strrchr(store, ':');
    const bool bracket = store[0] == '[' && colon > store && colon[-1] == ']';
    if (colon) {
        const char *from = store + bracket;
        const size_t length = (size_t)(colon - store) - 2 * bracket, digits = strspn(colon + 1, "0123456789");
        const bool whole = digits >= 1 && digits <= 5 && colon[1 + digits] == '\0' && digits < port_bytes;
        const bool alone = bracket || !memchr(from, ':', length);
        if (whole && alone && length >= 1 && length < host_bytes) {
            memcpy(host, from, length);
            host[length] = '\0';
            snprintf(port, port_bytes, "%s", colon + 1);
            int number = 0;
            for (const char *d = port; *d; d++) number = 10 * number + (*d - '0');
            if (number >= 1 && number <= 65535) return OC_OK;
        }
    }
    return OC_FAIL(OC_EUSAGE, "--store %s: give rank 0's host:port, with a port from 1 to 65535", store);
}

static oc_status listen_at(const struct addrinfo *a, int *listener)
{
    const int yes = 1;
    *listener = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (*listener < 0) return OC_EFAILED;
    (void)setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* a job that ended may still linger */
    if (bind(*listener, a->ai_addr, a->ai_addrlen) == 0 && listen(*listener, 128) == 0) return OC_OK;
    const int error = errno;
    close(*listener);
    *listener = -1;
    errno = error;
    return OC_EFAILED;
}

oc_status hub_listen(int *listener, const char *store)
{
    char host[256], port[8];
    struct addrinfo *found = NULL;
    const struct addrinfo want = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    *listener = -1;
    OC_TRY(train_store_parse(store, host, sizeof host, port, sizeof port));
    const int code = getaddrinfo(host, port, &want, &found);
    if (code != 0) return OC_FAIL(OC_EFAILED, "--store %s: no address of %s: %s", store, host, gai_strerror(code));
    oc_status status = OC_EFAILED;
    for (const struct addrinfo *a = found; a && status != OC_OK; a = a->ai_next) status = listen_at(a, listener);
    const int error = errno;
    freeaddrinfo(found);
    if (status == OC_OK) return OC_OK;
    if (error == EADDRINUSE)
        return OC_FAIL(OC_EFAILED,
                       "--store %s: the port is taken: by a second rank 0 of this job, by another job, or by another "
                       "program",
                       store);
    if (error == EADDRNOTAVAIL)
        return OC_FAIL(OC_EFAILED,
                       "--store %s: this is no address of rank 0's machine: --store is where rank 0 runs, and only one "
                       "process is rank 0",
                       store);
    return OC_FAIL(OC_EFAILED, "--store %s: cannot listen there: %s", store, strerror(error));
}

void hub_guest_drop(hub_guest *g)
{
    if (g->fd >= 0) close(g->fd);
    *g = (hub_guest){.fd = -1};
}

void hub_guests_accept(train_hub *h)
{
    const int64_t now = oc_clock_monotonic_ns();
    for (int i = 0; i < HUB_GUESTS; i++) {
        hub_guest *g = &h->guests[i];
        const int yes = 1;
        if (g->fd >= 0 && now - g->since_ns > WIRE_CROWD_NS) hub_guest_drop(g); /* a rank's hello comes at once */
        if (g->fd >= 0) continue;
        const int fd = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) return; /* none is left, or it has gone again */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        *g = (hub_guest){.fd = fd, .since_ns = now};
    }
}

/* One write into an empty socket: it fits, or the guest has gone. */
static void guest_refuse(train_hub *h, hub_guest *g, oc_status code, const char *why)
{
    struct {
        wire_head head;
        char text[WIRE_TEXT_BYTES];
    } word = {.head = {.magic = WIRE_MAGIC, .kind = WIRE_VERDICT, .bytes = WIRE_TEXT_BYTES, .status = (int32_t)code}};
    snprintf(word.text, sizeof word.text, "%s", why);
    if (send(g->fd, &word, sizeof word, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)sizeof word)
        oc_log(OC_LOG_DEBUG, "train: the store could not tell a guest: %s", why);
    (void)shutdown(g->fd, SHUT_WR);
    snprintf(h->refused, sizeof h->refused, "%.250s", why);
    hub_guest_drop(g);
}

static void guest_judge(train_hub *h, hub_guest *g)
{
    wire_hello *hello = &g->hello;
    char why[HUB_WHY_BYTES + 128] = "";
    hello->host[WIRE_HOST_BYTES - 1] = '\0';
    oc_status code = OC_ECONFIG;
    if (h->verdict != OC_OK) {
        code = h->verdict;
        snprintf(why, sizeof why, "%.380s", h->verdict_text);
    } else if (hello->version != WIRE_VERSION)
        snprintf(why, sizeof why, "a process on %s speaks version %u of the store, rank 0 version %d: another build",
                 hello->host, hello->version, WIRE_VERSION);
    else if (!oc_hash_equal(hello->job, h->job))
        snprintf(why, sizeof why, "a process on %s has another OUTCRY_JOB than rank 0: two jobs at one store?",
                 hello->host);
    else if ((int64_t)hello->ranks != h->ranks)
        snprintf(why, sizeof why, "a process on %s was started with --ranks %u, rank 0 with --ranks %d", hello->host,
                 hello->ranks, h->ranks);
    else if (!(hello->rank < (uint32_t)h->ranks))
        snprintf(why, sizeof why, "a process on %s was started as --rank %u of %d: the last is %d", hello->host,
                 hello->rank, h->ranks, h->ranks - 1);
    else if (hello->rank == 0)
        snprintf(why, sizeof why, "a second rank 0, on %s: the first holds the store, on %s", hello->host,
                 h->peers[0].host);
    else if (h->peers[hello->rank].here)
        snprintf(why, sizeof why, "rank %u came twice: it is already here, from %s; now from %s", hello->rank,
                 h->peers[hello->rank].host, hello->host);
    if (*why) {
        guest_refuse(h, g, code, why);
        return;
    }
    hub_peer_admit(h, (int)hello->rank, g->fd, hello->host);
    *g = (hub_guest){.fd = -1};
}

void hub_guest_hear(train_hub *h, hub_guest *g)
{
    const ssize_t n = recv(g->fd, (char *)&g->hello + g->got, sizeof g->hello - g->got, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    g->got += n > 0 ? (size_t)n : 0;
    const size_t greeted = g->got < sizeof g->hello.greeting ? g->got : sizeof g->hello.greeting;
    if (n <= 0 || memcmp(g->hello.greeting, WIRE_GREETING, greeted) != 0) {
        oc_log(OC_LOG_DEBUG, "train: somebody at the store's port is no rank; shown out");
        hub_guest_drop(g);
    } else if (g->got == sizeof g->hello) {
        guest_judge(h, g);
    }
}

void hub_guests_expire(train_hub *h, int64_t now)
{
    for (int i = 0; i < HUB_GUESTS; i++)
        if (h->guests[i].fd >= 0 && now - h->guests[i].since_ns > WIRE_GUEST_NS) hub_guest_drop(&h->guests[i]);
}
