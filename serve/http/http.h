/* http.h - the Open Inference Protocol v2 over HTTP/1.1, and /metrics: on a loopback address, or on another one with a
 * token and with TLS (or a proxy that has it). A client of the server's rings like any other: one connection of
 * oc_client a thread. libmicrohttpd in epoll mode: a request costs what it does however many connections are open (in
 * poll mode, which TLS needs, 1,000 slow ones took its p99 to 2.5 x). That mode stalls when one wait returns exactly
 * 128 events, which OC_HTTP_THREAD_CONNECTIONS keeps it from. All room for bodies and answers is mapped at start. */
#ifndef OC_SERVE_HTTP_HTTP_H
#define OC_SERVE_HTTP_HTTP_H

#include "serve/http/secrets.h"
#include "serve/server.h"

enum { OC_HTTP_THREAD_CONNECTIONS = 120 }; /* a thread's at most: connections_max / threads */

typedef struct oc_http_config {
    const char *address; /* host:port; the host is an IP address, or localhost; port 0: any */
    int listener;        /* a socket that already listens there (serve/activation.h); 0: none */
    oc_secrets_config secrets;
    bool proxy;             /* a proxy before us has the TLS that other than loopback addresses need */
    const char *repository; /* of the server; NULL: none */
    const char *socket;     /* of the server */
    int threads, connections_max;
    int peer_connections_max; /* of one address; 0: connections_max */
    size_t body_max;          /* bytes of a request's body */
    int batch_max;            /* windows of a request */
    /* A request that is the only one looks so much longer for its answer than the last one took, where that was ten
     * times this at most; 0: sleeps at once. */
    int64_t spin_ns;
    int64_t timeout_ns; /* of a request, from its first byte to its answer, and of idle connections */
    int sequences_max;  /* of pushed rows; each is a session of the server */
    int64_t sequence_idle_ns,
        sequence_period_ns; /* closed when idle so long (and four periods); time between rows where none is said */
} oc_http_config;

typedef struct oc_http oc_http;
OC_MUST oc_http_open(oc_http **out, const oc_http_config *config, const oc_server *server);
/* Takes no further connections, answers what has begun (at most timeout_ns), closes. */
void oc_http_close(oc_http *h);
const char *oc_http_address(const oc_http *h); /* "127.0.0.1:8000" */
bool oc_http_tls(const oc_http *h);

#endif
