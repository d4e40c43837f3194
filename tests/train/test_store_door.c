/* test_store_door.c - the hub of --store by itself: what comes too early, more ranks than files may be open, and a rank
 * that waits for others longer than its own way here took. */
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "train/comm_hub.h"
#include "train/comm_store.h"

static char store[64];
static struct sockaddr_in address = {.sin_family = AF_INET};

static void port_take(void)
{
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = 0;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        abort();
    close(fd);
    snprintf(store, sizeof store, "127.0.0.1:%d", ntohs(address.sin_port));
}

/* *text: what follows the frame. */
static wire_kind answer(int fd, char text[static WIRE_TEXT_BYTES])
{
    wire_head head = {0};
    size_t got = 0, want = sizeof head;
    char *to = (char *)&head;
    text[0] = '\0';
    for (int part = 0; part < 2; part++, got = 0, to = text) {
        const int64_t start = oc_clock_monotonic_ns();
        while (got < want && oc_clock_monotonic_ns() - start < 30 * OC_SECOND_NS) {
            const ssize_t n = recv(fd, to + got, want - got, 0); /* rank 0's end does not block */
            got += n > 0 ? (size_t)n : 0;
        }
        assert_int_equal(got, want);
        want = head.kind == WIRE_VERDICT ? WIRE_TEXT_BYTES : 0;
    }
    return (wire_kind)head.kind;
}

static int come(int rank, int ranks)
{
    wire_hello hello = {.greeting = WIRE_GREETING,
                        .version = WIRE_VERSION,
                        .rank = (uint32_t)rank,
                        .ranks = (uint32_t)ranks,
                        .job = oc_hash_bytes("", 0),
                        .host = "elsewhere"};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(send(fd, &hello, sizeof hello, MSG_NOSIGNAL), (int)sizeof hello);
    return fd;
}

static train_hub *hub_start(int ranks, int64_t timeout_ns, int *own)
{
    train_hub *h;
    char text[WIRE_TEXT_BYTES];
    port_take();
    const oc_status status = train_hub_open(&h, store, ranks, oc_hash_bytes("", 0), timeout_ns, own);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(answer(*own, text), WIRE_HERE);
    return h;
}

static void hub_end(train_hub *h, int own)
{
    close(own);
    train_hub_close(h);
}

/* Exchange 0 is none: two calls of it with two sizes would fill memory that is as long as the smaller. */
static void a_call_before_all_are_here(void **state)
{
    (void)state;
    const wire_head call = {
        .magic = WIRE_MAGIC, .kind = WIRE_CALL, .bytes = 1, .timeout_ns = OC_SECOND_NS, .what = "x"};
    char text[WIRE_TEXT_BYTES];
    int own;
    train_hub *h = hub_start(3, 30 * OC_SECOND_NS, &own);
    const int fd = come(1, 3);
    assert_int_equal(answer(fd, text), WIRE_HERE);
    assert_int_equal(send(fd, &call, sizeof call, MSG_NOSIGNAL), (int)sizeof call);
    assert_int_equal(answer(fd, text), WIRE_VERDICT);
    if (!strstr(text, "rank 1 on elsewhere asked the store for what cannot be")) fail_msg("%s", text);
    close(fd);
    hub_end(h, own);
}

/* The guard of names that are looked up must not end a rank that waits for the others: they have as long again. */
static atomic_bool ended;

static void *rank_1(void *argument)
{
    oc_comm c;
    const oc_comm_place place = {store, 1, 3};
    const oc_status status = oc_comm_store_open(&c, &place, 30 * OC_SECOND_NS);
    snprintf(argument, WIRE_TEXT_BYTES, "%s", status == OC_OK ? "let in" : oc_status_message());
    atomic_store(&ended, true);
    return NULL;
}

/* Looks until the timer is as wanted, three times in a row, and rank 1 still on its way. */
static bool guarded_comes(bool wanted)
{
    const struct timespec moment = {.tv_nsec = 50000000};
    for (int seen = 0; seen < 3;) {
        struct itimerval timer;
        assert_int_equal(getitimer(ITIMER_REAL, &timer), 0);
        if (atomic_load(&ended)) return false;
        seen = (timer.it_value.tv_sec > 0) == wanted ? seen + 1 : 0;
        (void)nanosleep(&moment, NULL);
    }
    return true;
}

static void who_waits_is_not_guarded(void **state)
{
    (void)state;
    pthread_t thread;
    train_hub *h;
    char said[WIRE_TEXT_BYTES], text[WIRE_TEXT_BYTES];
    int own;
    port_take();
    assert_int_equal(pthread_create(&thread, NULL, rank_1, said), 0);
    const bool reaching = guarded_comes(true);
    const oc_status status = train_hub_open(&h, store, 3, oc_hash_bytes("", 0), 4 * OC_SECOND_NS, &own);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    const bool waiting = guarded_comes(false);
    pthread_join(thread, NULL);
    assert_int_equal(answer(own, text), WIRE_HERE);
    hub_end(h, own);
    assert_true(reaching && waiting);
    if (!strstr(said, "rank 2 of 3 did not come")) fail_msg("%s", said);
}

/* The last: the hard limit of this process goes down. */
static void more_ranks_than_files(void **state)
{
    (void)state;
    struct rlimit limit = {.rlim_cur = 64, .rlim_max = 512};
    char text[WIRE_TEXT_BYTES];
    int own;
    train_hub *h;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    h = hub_start(40, OC_SECOND_NS, &own);
    assert_int_equal(answer(own, text), WIRE_VERDICT);
    if (!strstr(text, "of 40 did not come")) fail_msg("%s", text);
    hub_end(h, own);
    port_take();
    assert_int_equal(train_hub_open(&h, store, 4000, oc_hash_bytes("", 0), OC_SECOND_NS, &own), OC_ELIMIT);
    if (!strstr(oc_status_message(), "4000 ranks want 4096 open files")) fail_msg("%s", oc_status_message());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_before_all_are_here),
        cmocka_unit_test(who_waits_is_not_guarded),
        cmocka_unit_test(more_ranks_than_files),
    };
    oc_log_set_level(OC_LOG_ERROR);
    (void)unsetenv("OUTCRY_JOB");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
