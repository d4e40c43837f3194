/* activation.c - the descriptors from 3 on are told apart by their kind, not by their order or names. */
#include "serve/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

enum { FIRST = 3, HANDED_MAX = 16 };

/* A variable as a number from 0 to INT_MAX; -1: there is none, or it is none. */
static int number_get(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    errno = 0;
    const long value = text && *text ? strtol(text, &end, 10) : -1;
    return errno == 0 && value >= 0 && value <= INT_MAX && (!end || !*end) ? (int)value : -1;
}

static int option_get(int fd, int option)
{
    int value = -1;
    socklen_t bytes = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &bytes) == 0 ? value : -1;
}

static OC_MUST socket_take(oc_activation *out, int fd)
{
    const int domain = option_get(fd, SO_DOMAIN), type = option_get(fd, SO_TYPE);
    const bool rings = domain == AF_UNIX && type == SOCK_SEQPACKET,
               http = (domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM;
    int *place = rings ? &out->rings : &out->http;
    if ((!rings && !http) || option_get(fd, SO_ACCEPTCONN) != 1)
        return OC_FAIL(OC_ECONFIG,
                       "socket activation: descriptor %d is neither a listening SOCK_SEQPACKET Unix socket nor a "
                       "listening TCP socket (ListenSequentialPacket=, ListenStream= with Accept=no)",
                       fd);
    if (*place)
        return OC_FAIL(OC_ECONFIG, "socket activation: descriptors %d and %d are both for %s; one is used", *place, fd,
                       rings ? "serve.socket" : "serve.http");
    const int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return OC_FAIL(OC_EFAILED, "socket activation: descriptor %d: %s", fd, strerror(errno));
    *place = fd;
    return OC_OK;
}

oc_status oc_activation_take(oc_activation *out)
{
    const int pid = number_get("LISTEN_PID"), count = number_get("LISTEN_FDS");
    *out = (oc_activation){0};
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    if (pid != getpid() || count <= 0) return OC_OK; /* meant for a parent of ours, or nothing */
    if (count > HANDED_MAX) return OC_FAIL(OC_ECONFIG, "socket activation: %d descriptors, one or two are used", count);
    for (int i = 0; i < count; i++) OC_TRY(socket_take(out, FIRST + i));
    return OC_OK;
}

void oc_activation_tell(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    if (!path || !*path) return;
    const size_t length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length >= sizeof name.sun_path) {
        oc_log(OC_LOG_WARN, "NOTIFY_SOCKET is \"%.120s\", not a path or an abstract name: nothing is told", path);
        return;
    }
    memcpy(name.sun_path, path, length);
    if (path[0] == '@') name.sun_path[0] = 0;
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (fd < 0 || sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&name, bytes) < 0)
        oc_log(OC_LOG_WARN, "NOTIFY_SOCKET %s: %s is not told: %s", path, state, strerror(errno));
    if (fd >= 0) close(fd);
}
