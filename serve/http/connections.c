/* connections.c - total deadlines. libmicrohttpd's own time-out begins anew with every byte: who sends one byte in a
 * while holds a connection for ever, and where the head is not yet complete nobody of ours is asked. So a connection
 * that has neither completed a head nor a request for config.timeout_ns and a second is shut down.
 *
 * In epoll mode 0.9.75 does not see the end of what a client sends where it comes together with the last bytes: the
 * read that is shorter than its room was the last one for it, until something new comes. So it is told again. */
#include <sys/socket.h>

#include "base/clock.h"
#include "base/memory.h"
#include "serve/http/front.h"

struct oc_http_connection {
    int fd; /* -1: free */
    bool cut;
    int64_t since_ns; /* by __atomic: accepted, or its last head or request was completed */
};

oc_status oc_http_connections_open(oc_http *h)
{
    OC_TRY(
        oc_memory_new_array(&h->connections, (size_t)h->config.connections_max, sizeof *h->connections, "connections"));
    for (int i = 0; i < h->config.connections_max; i++) h->connections[i].fd = -1;
    return OC_OK;
}

void oc_http_connections_close(oc_http *h)
{
    oc_memory_free(h->connections);
}

/* The library says that one ends before it closes the socket: until then the number is this connection's. */
void oc_http_on_connection(void *context, struct MHD_Connection *c, void **own,
                           enum MHD_ConnectionNotificationCode code)
{
    oc_http *h = context;
    oc_http_connection *one = *own;
    pthread_mutex_lock(&h->connections_lock);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (one) one->fd = -1;
        *own = NULL;
        __atomic_fetch_sub(&h->connections_open, 1, __ATOMIC_RELAXED);
    } else {
        __atomic_fetch_add(&h->connections_open, 1, __ATOMIC_RELAXED);
        for (int i = 0; i < h->config.connections_max && !*own; i++)
            if (h->connections[i].fd < 0) *own = &h->connections[i];
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
        one = *own;
        if (one) *one = (oc_http_connection){.fd = info ? info->connect_fd : -1, .since_ns = oc_clock_monotonic_ns()};
    }
    pthread_mutex_unlock(&h->connections_lock);
}

void oc_http_connection_touch(struct MHD_Connection *c)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    oc_http_connection *one = info ? info->socket_context : NULL;
    if (one) __atomic_store_n(&one->since_ns, oc_clock_monotonic_ns(), __ATOMIC_RELAXED);
}

/* A wake for whoever waits for something to read, no more: what is still to be sent is sent. */
static void end_tell(int fd)
{
    char byte;
    if (recv(fd, &byte, sizeof byte, MSG_PEEK | MSG_DONTWAIT) == 0) shutdown(fd, SHUT_RD);
}

void oc_http_connections_tend(oc_http *h)
{
    const int64_t now = oc_clock_monotonic_ns();
    pthread_mutex_lock(&h->connections_lock);
    for (int i = 0; i < h->config.connections_max; i++) {
        oc_http_connection *one = &h->connections[i];
        if (one->fd < 0 || one->cut) continue;
        end_tell(one->fd);
        if (now - __atomic_load_n(&one->since_ns, __ATOMIC_RELAXED) <= h->config.timeout_ns + OC_SECOND_NS) continue;
        one->cut = true;
        shutdown(one->fd, SHUT_RDWR); /* its thread sees the end, and closes */
        oc_http_refusal_count(h, OC_HTTP_SLOW);
    }
    pthread_mutex_unlock(&h->connections_lock);
}
