/* test_client.c - the client against servers that are none: another user's, one that hands out memory which it can
 * shrink, one that takes no connection or says no hello; and against a real one that answers an opening too late. What
 * it would catch: a wait without an end, probabilities believed of whoever listens, a session that is taken for another
 * one's, a session that stays open for nobody. */
#include "base/cmocka_all.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "serve/client/client.h"
#include "serve/served.h"

enum { T = 12, F = 5, RING = 4096 };

static int setup(void **state)
{
    served *p = calloc(1, sizeof *p);
    if (!p) return -1;
    served_make(p);
    *state = p;
    return chmod(p->folder, 0755);
}

static int teardown(void **state)
{
    served_remove(*state);
    free(*state);
    return 0;
}

static int listen_at(const char *path, int backlog)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
    return fd >= 0 && bind(fd, (struct sockaddr *)&name, sizeof name) == 0 && listen(fd, backlog) == 0 ? fd : -1;
}

/* ---- servers that are none ----------------------------------------------------------------------------------------
 */
typedef struct fake {
    int listener, seals;
} fake;

static int memory_of(uint64_t bytes, int seals)
{
    const int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

/* Welcomes one client with a hello that is right, and memory with these seals. */
static void *fake_welcome(void *argument)
{
    const fake *f = argument;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control = {.bytes = {0}};
    oc_wire_hello hello = {.magic = OC_WIRE_MAGIC,
                           .version = OC_WIRE_VERSION,
                           .state = OC_HELLO_WELCOME,
                           .region_bytes = OC_WIRE_REGION_OFFSET + 2 * RING,
                           .request_bytes = RING,
                           .reply_bytes = RING,
                           .steps = T,
                           .inputs = F,
                           .horizons = 1};
    const int fds[2] = {memory_of(hello.region_bytes, f->seals), memory_of(OC_WIRE_REGION_OFFSET, f->seals)};
    struct iovec part = {&hello, sizeof hello};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *h = CMSG_FIRSTHDR(&message);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(h), fds, sizeof fds);
    const int peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(sendmsg(peer, &message, MSG_NOSIGNAL), sizeof hello);
    for (int i = 0; i < 2; i++) close(fds[i]);
    char byte;
    (void)recv(peer, &byte, 1, 0); /* until the client goes */
    close(peer);
    return NULL;
}

static void memory_that_shrinks(void **state)
{
    static const struct {
        int seals;
        oc_status want;
    } cases[] = {{0, OC_EFAILED}, {F_SEAL_GROW, OC_EFAILED}, {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL, OC_OK}};
    const served *p = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fake f = {listen_at(p->socket, 4), cases[i].seals};
        pthread_t thread;
        oc_client *c;
        assert_true(f.listener >= 0);
        assert_int_equal(pthread_create(&thread, NULL, fake_welcome, &f), 0);
        assert_int_equal(oc_client_open(&c, p->address, 30 * OC_SECOND_NS), cases[i].want);
        if (cases[i].want != OC_OK) assert_non_null(strstr(oc_status_message(), "not sealed"));
        oc_client_close(c);
        pthread_join(thread, NULL);
        close(f.listener);
        unlink(p->socket);
    }
}

/* Whoever was first to put a socket there, in a folder that all may write to. */
static void anothers(void **state)
{
    const served *p = *state;
    oc_client *c;
    int ready[2], code;
    if (geteuid() != 0) skip();
    assert_int_equal(chmod(p->folder, 0777), 0);
    assert_int_equal(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        if (setuid(65534) != 0) _exit(2);
        const int listener = listen_at(p->socket, 4);
        if (listener < 0 || chmod(p->socket, 0777) != 0 || write(ready[1], "r", 1) != 1) _exit(3);
        (void)accept(listener, NULL, NULL);
        for (;;) pause();
    }
    char byte;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    const oc_status status = oc_client_open(&c, p->address, 30 * OC_SECOND_NS);
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &code, 0), pid);
    for (int i = 0; i < 2; i++) close(ready[i]);
    assert_int_equal(status, OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "user 65534"));
}

/* A server that is stopped, or lives behind a socket that something else holds: accepts nothing, says nothing. */
static void no_answer(void **state)
{
    static const int64_t timeouts[] = {100000000, 1, 0, -1, -5 * OC_SECOND_NS, INT64_MIN};
    const served *p = *state;
    const int listener = listen_at(p->socket, 0);
    oc_client *c;
    assert_true(listener >= 0);
    (void)alarm(60); /* the failure is a wait without an end */
    for (int taken = 0; taken < 2; taken++) {
        const int64_t start = oc_clock_monotonic_ns();
        for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
            assert_int_equal(oc_client_open(&c, p->address, timeouts[i]), OC_EAGAIN);
            assert_null(c);
        }
        const int64_t took = oc_clock_monotonic_ns() - start;
        assert_true(took >= timeouts[0] && took < 20 * OC_SECOND_NS);
        struct sockaddr_un name = {.sun_family = AF_UNIX}; /* from now on the queue of connections is full */
        snprintf(name.sun_path, sizeof name.sun_path, "%s", p->socket);
        for (int i = 0; i < 4 && taken == 0; i++) {
            const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            (void)connect(fd, (struct sockaddr *)&name, sizeof name); /* kept open, till the process ends */
        }
    }
    assert_non_null(strstr(oc_status_message(), "takes no connection"));
    (void)alarm(0);
    close(listener);
}

/* ---- answers too late ---------------------------------------------------------------------------------------------
 */
static bool status_has(const oc_server *server, const char *what)
{
    oc_text text = {0};
    oc_server_status(server, &text);
    const bool has = strstr(text.data, what) != NULL;
    oc_text_free(&text);
    return has;
}

static oc_status session(oc_client *c, const char *symbol, int64_t timeout_ns, uint32_t *id)
{
    const oc_client_model *m = oc_client_describe(c);
    return oc_client_session_open(c, m->name, symbol, m->schema_low, m->schema_high, OC_SECOND_NS, timeout_ns, id);
}

/* An opening that is given up at once; where the answer was there at once all the same, as the server ran while this
 * thread did not, it is closed and asked again. */
static void given_up(oc_client *c, int64_t timeout_ns)
{
    oc_wire_reply reply;
    for (int i = 0; i < 1000; i++) {
        uint32_t id = 0;
        const oc_status status = session(c, "LATE", timeout_ns, &id);
        if (status == OC_EAGAIN) return;
        must(status);
        must(oc_client_session_close(c, id));
        do {
            while (oc_client_poll(c, &reply, 1) == 0) oc_client_wait(c, 0, OC_SECOND_NS);
        } while (reply.kind != OC_REQUEST_CLOSE);
    }
    fail_msg("an opening is waited for all the same");
}

/* An opening that was given up is not the next one's answer, and leaves no session behind, whatever is asked next. */
static void late_openings(void **state)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 16, 2, 2};
    served *p = *state;
    oc_server_config config = served_config(p);
    oc_client *c;
    uint32_t id = 0;
    float window[T * F] = {0}, row[F] = {0};
    oc_wire_reply reply;
    config.sessions_max = 4;
    oc_bundle_close(served_bundle(p, &shape));
    served_start(p, &config);
    must(oc_client_open(&c, p->address, 30 * OC_SECOND_NS));
    for (int i = 0; i < 3; i++) { /* the last is waited for: its number is not one of those before */
        for (int k = 0; k < 2; k++) given_up(c, i - 1);
        assert_int_equal(session(c, "MINE", 30 * OC_SECOND_NS, &id), OC_OK);
        for (uint64_t row_number = 1; row_number <= T; row_number++) {
            assert_int_equal(oc_client_push(c, id, (oc_stamp){.sequence = row_number}, row, (uint32_t)row_number),
                             OC_OK);
            while (oc_client_poll(c, &reply, 1) == 0) oc_client_wait(c, 0, OC_SECOND_NS);
            assert_true(reply.kind == OC_REQUEST_PUSH && reply.session == id && reply.sequence == row_number);
        }
        assert_true(status_has(p->server, "\"symbol\":\"MINE\"") && !status_has(p->server, "LATE"));
        assert_true(status_has(p->server, "\"sessions\":1,"));
        assert_int_equal(oc_client_session_close(c, id), OC_OK);
        while (oc_client_poll(c, &reply, 1) == 0) oc_client_wait(c, 0, OC_SECOND_NS);
        assert_true(reply.kind == OC_REQUEST_CLOSE && reply.state == OC_REPLY_OK && reply.session == id);
    }
    for (int i = 0; i < 4; i++) given_up(c, 0);
    for (uint64_t i = 0; i < 8; i++) { /* who asks for windows only sees answers to windows */
        assert_int_equal(oc_client_window(c, 0, (oc_stamp){.sequence = i}, window, T), OC_OK);
        while (oc_client_poll(c, &reply, 1) == 0) oc_client_wait(c, 0, OC_SECOND_NS);
        assert_true(reply.kind == OC_REQUEST_WINDOW && reply.sequence == i);
    }
    assert_true(status_has(p->server, "\"sessions\":0,"));
    oc_client_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_that_shrinks, setup, teardown),
        cmocka_unit_test_setup_teardown(anothers, setup, teardown),
        cmocka_unit_test_setup_teardown(no_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(late_openings, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
