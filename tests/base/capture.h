/* capture.h - what a piece of code writes to stderr, through a pipe, so that single writes stay visible as packets. */
#ifndef OC_TESTS_BASE_CAPTURE_H
#define OC_TESTS_BASE_CAPTURE_H

#include "base/cmocka_all.h"
#include <sys/socket.h>

typedef struct capture {
    int kept, read_end;
} capture;

static inline void capture_begin(capture *c)
{
    int ends[2];                                /* a datagram a write(2) */
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0) fail_msg("no socketpair");
    c->kept = dup(STDERR_FILENO);
    c->read_end = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

/* The next write, as a string; false where there was none. */
static inline int capture_next(const capture *c, char *out, size_t cap)
{
    ssize_t got = recv(c->read_end, out, cap - 1, MSG_DONTWAIT);
    out[got > 0 ? got : 0] = '\0';
    return got > 0;
}

static inline void capture_end(capture *c)
{
    dup2(c->kept, STDERR_FILENO);
    close(c->kept);
    close(c->read_end);
}

#endif
