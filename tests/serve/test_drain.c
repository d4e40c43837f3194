/* test_drain.c - HTTP is closed under load, while each of its threads sees of itself that it shall take no further
 * connections. libmicrohttpd 0.9.75 ended the process where the thread was faster than MHD_quiesce_daemon: there is a
 * single call between the two, so this test makes that call wait until it has happened. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "serve/http/http.h"
#include "served.h"

enum { CONNECTIONS = 30, CONNECTIONS_MAX = 40, DESCRIPTORS = 1024, LOOKS_MAX = 5000 };

static _Thread_local bool closing;
static bool removed[DESCRIPTORS]; /* epoll set: a thread of HTTP took the listener out; by __atomic */
static int listener = -1, overtaken;

/* Instead of the C library's, for libmicrohttpd. */
__attribute__((visibility("default"))) int epoll_ctl(int set, int operation, int fd, struct epoll_event *event)
{
    const bool ours = operation == EPOLL_CTL_DEL && fd == listener && set < DESCRIPTORS;
    for (int i = 0; ours && closing && i < LOOKS_MAX && !__atomic_load_n(&removed[set], __ATOMIC_ACQUIRE); i++)
        usleep(1000);
    if (ours && closing && __atomic_load_n(&removed[set], __ATOMIC_ACQUIRE)) overtaken++;
    const int result = (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
    if (ours && !closing && result == 0) __atomic_store_n(&removed[set], true, __ATOMIC_RELEASE);
    return result;
}

static int connect_to(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)strtol(strchr(address, ':') + 1, NULL, 10));
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

/* Asks on every connection again and again, until the answers close them. */
static void *ask(void *argument)
{
    static const char request[] = "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    int *fds = argument;
    char answer[1024];
    for (int open = CONNECTIONS; open > 0;)
        for (int i = 0; i < CONNECTIONS; i++) {
            if (fds[i] < 0) continue;
            if (send(fds[i], request, sizeof request - 1, MSG_NOSIGNAL) > 0 &&
                recv(fds[i], answer, sizeof answer, 0) > 0)
                continue;
            close(fds[i]);
            fds[i] = -1;
            open--;
        }
    return NULL;
}

static int listener_find(const char *address)
{
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        struct sockaddr_in at = {0};
        int listens = 0;
        socklen_t bytes = sizeof listens, at_bytes = sizeof at;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) != 0 || !listens) continue;
        if (getsockname(fd, (struct sockaddr *)&at, &at_bytes) != 0 || at.sin_family != AF_INET) continue;
        if (ntohs(at.sin_port) == strtol(strchr(address, ':') + 1, NULL, 10)) return fd;
    }
    fail_msg("nobody listens at %s", address);
    return -1;
}

static void threads_are_faster(void **state)
{
    const oc_model_shape shape = {.inputs = 4, .hidden = 8, .layers = 1, .heads = 2, .steps = 6, .horizons = 1};
    served s;
    oc_http *h;
    pthread_t client;
    int fds[CONNECTIONS];
    (void)state;
    served_make(&s);
    oc_bundle_close(served_bundle(&s, &shape));
    const oc_server_config config = served_config(&s);
    served_start(&s, &config);
    const oc_http_config http = {.address = "127.0.0.1:0",
                                 .socket = s.socket,
                                 .threads = 2,
                                 .connections_max = CONNECTIONS_MAX,
                                 .body_max = 4096,
                                 .batch_max = 2,
                                 .timeout_ns = INT64_C(20000000000),
                                 .sequences_max = 2,
                                 .sequence_idle_ns = INT64_C(60000000000),
                                 .sequence_period_ns = INT64_C(1000000000)};
    must(oc_http_open(&h, &http, s.server));
    listener = listener_find(oc_http_address(h));
    for (int i = 0; i < CONNECTIONS; i++)
        fds[i] = connect_to(oc_http_address(h)); /* 20 a thread at most: both have some */
    assert_int_equal(pthread_create(&client, NULL, ask, fds), 0);
    closing = true;
    oc_http_close(h);
    closing = false;
    assert_int_equal(pthread_join(client, NULL), 0);
    assert_in_range(overtaken, 1, 1000); /* else nothing was tested */
    served_remove(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_are_faster)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
