/* test_store.c - ranks that meet at a TCP store: processes of their own, exchanges of all sizes, and everything that
 * can be wrong with a rank, its network or who else is at the port. Whatever it is, each survivor ends in bounded time
 * and names rank and host. Harness proven by a rank that sends another byte than the others expect. */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "train/comm_store.h"
#include "train/comm_wire.h"

enum { RANKS_MAX = 8 };
#define LATE_NS  (3 * OC_SECOND_NS)  /* a time-out that a rank on a busy machine does not pass */
#define BOUND_NS (20 * OC_SECOND_NS) /* the promise is 10; measured: each case ends right after what it waits for */

typedef struct result { /* of one rank, in memory that the processes share */
    pid_t pid;
    volatile int status, exchanges;
    volatile int64_t ended_ns;
    int local, place;
    char name[OC_COMM_NAME], message[1200];
} result;

typedef enum { PLAIN, WRONG_BYTE, SLEEPS, FAILS, OTHER_SIZE, LEAVES, KILLED, STOPPED } deed;

typedef struct job {
    int ranks, culprit;
    deed deed;
    int64_t timeout_ns, start_ns;
    int rounds;
    int absent; /* never started; 0: none */
} job;

static result *results;
static char store[64], host[64], named[160];

static void nap(int64_t ns)
{
    const struct timespec time = {.tv_sec = (time_t)(ns / OC_SECOND_NS), .tv_nsec = (long)(ns % OC_SECOND_NS)};
    (void)nanosleep(&time, NULL);
}

static int port; /* of the store */

/* One that is free now. */
static void port_take(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) != 0)
        abort();
    close(fd);
    port = ntohs(a.sin_port);
    snprintf(store, sizeof store, "127.0.0.1:%d", port);
}

/* --- what a rank does --- */

static const size_t sizes[] = {1, 0, 700, 65537, 1 << 20, 16};

static unsigned char pattern(int rank, int round, size_t at)
{
    return (unsigned char)(31 * rank + 7 * round + (int)(at % 251));
}

static oc_status round_run(oc_comm *c, const job *j, int round, unsigned char *data)
{
    const bool guilty = c->rank == j->culprit && round == j->rounds / 2;
    size_t bytes = sizes[(size_t)round % (sizeof sizes / sizeof *sizes)];
    const bool broadcast = round % 3 == 2;
    if (guilty && j->deed == OTHER_SIZE) bytes++;
    if (guilty && j->deed == SLEEPS) nap(3 * LATE_NS);
    if (guilty && j->deed == KILLED) raise(SIGKILL);
    if (guilty && j->deed == STOPPED) raise(SIGSTOP);
    if (guilty && j->deed == FAILS) return OC_FAIL(OC_EDATA, "d.h5: row 7 is damaged");
    unsigned char *own = broadcast ? data : data + (size_t)c->rank * bytes;
    for (size_t i = 0; i < bytes && (c->rank == 0 || !broadcast); i++) own[i] = pattern(c->rank, round, i);
    if (guilty && j->deed == WRONG_BYTE && bytes > 0) own[bytes - 1] ^= 1;
    if (broadcast)
        OC_TRY(oc_comm_broadcast(c, "round", data, bytes, j->timeout_ns));
    else
        OC_TRY(oc_comm_gather(c, "round", data, bytes, j->timeout_ns));
    for (int r = 0; r < (broadcast ? 1 : c->ranks); r++)
        for (size_t i = 0; i < bytes; i++)
            if (data[(size_t)r * bytes + i] != pattern(r, round, i))
                return OC_FAIL(OC_EDATA, "round %d: byte %zu of rank %d is wrong", round, i, r);
    return OC_OK;
}

static oc_status rank_run(const job *j, int rank, result *own)
{
    const oc_comm_place place = {store, rank, j->ranks};
    unsigned char *data = malloc((size_t)j->ranks << 21);
    oc_comm c;
    if (!data) abort();
    OC_TRY(oc_comm_store_open(&c, &place, j->start_ns));
    snprintf(own->name, sizeof own->name, "%s", c.name);
    own->local = c.local;
    own->place = c.place;
    oc_status status = OC_OK;
    for (int i = 0; i < j->rounds && status == OC_OK; i++) {
        if (j->deed == LEAVES && rank == j->culprit && i == j->rounds / 2) break;
        status = round_run(&c, j, i, data);
        own->exchanges = i + 1;
    }
    snprintf(own->message, sizeof own->message, "%s", status == OC_OK ? "" : oc_status_message());
    oc_comm_close(&c, status);
    free(data);
    return status;
}

static void rank_start(const job *j, int rank)
{
    result *own = &results[rank];
    memset(own, 0, sizeof *own);
    own->status = -1;
    const pid_t pid = fork();
    if (pid == 0) {
        const oc_status status = rank_run(j, rank, own);
        if (status != OC_OK && !own->message[0]) snprintf(own->message, sizeof own->message, "%s", oc_status_message());
        own->status = (int)status;
        own->ended_ns = oc_clock_monotonic_ns();
        _exit(0);
    }
    own->pid = pid;
}

/* Waits for all but the culprit; a hang is a fault of its own. Returns how long it took. */
static int64_t ranks_await(const job *j, int but)
{
    const int64_t start = oc_clock_monotonic_ns();
    for (int r = 0; r < j->ranks; r++) {
        if (r == but || results[r].pid == 0) continue;
        while (waitpid(results[r].pid, NULL, WNOHANG) == 0) {
            if (oc_clock_monotonic_ns() - start > 60 * OC_SECOND_NS) {
                kill(results[r].pid, SIGKILL);
                (void)waitpid(results[r].pid, NULL, 0);
            }
            nap(2000000);
        }
    }
    const int64_t took = oc_clock_monotonic_ns() - start;
    if (but >= 0 && results[but].pid) {
        kill(results[but].pid, SIGKILL);
        (void)waitpid(results[but].pid, NULL, 0);
    }
    return took;
}

static void job_start(const job *j)
{
    port_take();
    memset(results, 0, RANKS_MAX * sizeof *results);
    for (int r = j->ranks - 1; r >= 0; r--) /* the store comes last: the others try until it is there */
        if (r != j->absent || r == 0) rank_start(j, r);
}

static void said(int rank, oc_status status, const char *words)
{
    if (results[rank].status != (int)status || !strstr(results[rank].message, words))
        fail_msg("rank %d: status %d, not %d with \"%s\": %s", rank, results[rank].status, (int)status, words,
                 results[rank].message);
}

/* --- all is well --- */

static void exchanges_of_all_sizes(void **state)
{
    (void)state;
    for (int ranks = 1; ranks <= 8; ranks *= 2) {
        const job j = {.ranks = ranks,
                       .culprit = -1,
                       .rounds = 60,
                       .timeout_ns = 30 * OC_SECOND_NS,
                       .start_ns = 30 * OC_SECOND_NS};
        job_start(&j);
        (void)ranks_await(&j, -1);
        for (int r = 0; r < ranks; r++) {
            said(r, OC_OK, "");
            snprintf(named, sizeof named, "rank %d on %s", r, host);
            assert_string_equal(results[r].name, named);
            assert_int_equal(results[r].exchanges, 60);
            assert_int_equal(results[r].local, ranks);
            assert_int_equal(results[r].place, r);
        }
    }
}

static void a_wrong_byte_is_seen(void **state)
{
    (void)state;
    const job j = {.ranks = 3,
                   .culprit = 1,
                   .deed = WRONG_BYTE,
                   .rounds = 8,
                   .timeout_ns = 9 * OC_SECOND_NS,
                   .start_ns = 30 * OC_SECOND_NS};
    job_start(&j);
    (void)ranks_await(&j, -1);
    for (int r = 0; r < 3; r++) assert_int_equal(results[r].status, OC_EDATA);
}

/* --- a rank that dies, stands still, is late, fails, leaves --- */

static void every_end_of_a_rank(void **state)
{
    (void)state;
    const struct {
        deed deed;
        int culprit;
        oc_status status;
        const char *words; /* with the culprit's name where %s stands */
        int64_t timeout_ns;
    } rows[] = {
        {KILLED, 2, OC_EFAILED, "%s has gone: its process was killed", 60 * OC_SECOND_NS},
        {KILLED, 0, OC_EFAILED, "%s has closed the store", 60 * OC_SECOND_NS},
        {STOPPED, 2, OC_EFAILED, "no sign of life from %s for ", 60 * OC_SECOND_NS},
        {STOPPED, 3, OC_EFAILED, "no answer from %s for ", LATE_NS},
        {STOPPED, 0, OC_EFAILED, "no answer from %s, which holds the store", LATE_NS},
        {SLEEPS, 1, OC_EFAILED, "no answer from %s for ", LATE_NS},
        {SLEEPS, 0, OC_EFAILED, "no answer from %s for ", LATE_NS},
        {FAILS, 3, OC_EDATA, "%s has failed: d.h5: row 7 is damaged", 60 * OC_SECOND_NS},
        {FAILS, 0, OC_EDATA, "%s has failed: d.h5: row 7 is damaged", 60 * OC_SECOND_NS},
        {LEAVES, 1, OC_EFAILED, "%s has left while others go on", 60 * OC_SECOND_NS},
        {LEAVES, 0, OC_EFAILED, "%s has left while others go on", 60 * OC_SECOND_NS},
        {OTHER_SIZE, 2, OC_EFAILED, "the ranks do not run the same job", 60 * OC_SECOND_NS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const bool late = rows[i].deed == STOPPED || rows[i].deed == SLEEPS;
        const int64_t least_ns = !late ? 0 : rows[i].timeout_ns == LATE_NS ? LATE_NS : 6 * OC_SECOND_NS;
        const job j = {.ranks = 4,
                       .culprit = rows[i].culprit,
                       .deed = rows[i].deed,
                       .rounds = 9,
                       .timeout_ns = rows[i].timeout_ns,
                       .start_ns = 30 * OC_SECOND_NS};
        char name[OC_COMM_NAME];
        const int64_t start = oc_clock_monotonic_ns();
        job_start(&j);
        const int64_t took = ranks_await(&j, rows[i].culprit), whole = oc_clock_monotonic_ns() - start;
        snprintf(name, sizeof name, "rank %d on %s", rows[i].culprit, host);
        const char *mark = strstr(rows[i].words, "%s");
        const int before = mark ? (int)(mark - rows[i].words) : 0;
        snprintf(named, sizeof named, "%.*s%s%s", before, rows[i].words, mark ? name : "",
                 mark ? mark + 2 : rows[i].words);
        for (int r = 0; r < 4; r++)
            if (r != rows[i].culprit) said(r, rows[i].status, named);
        if (!(took <= BOUND_NS && whole >= least_ns)) fail_msg("row %zu took %.1f s", i, (double)took * 1e-9);
        printf("%s: %.1f s\n", results[rows[i].culprit == 1 ? 2 : 1].message, (double)took * 1e-9);
    }
}

/* --- at the start --- */

static void a_rank_never_comes(void **state)
{
    (void)state;
    const job j = {
        .ranks = 3, .culprit = -1, .rounds = 3, .absent = 2, .timeout_ns = 9 * OC_SECOND_NS, .start_ns = LATE_NS};
    const int64_t start = oc_clock_monotonic_ns();
    job_start(&j);
    (void)ranks_await(&j, -1);
    for (int r = 0; r < 2; r++) said(r, OC_EFAILED, "rank 2 of 3 did not come to the store in ");
    assert_true(oc_clock_monotonic_ns() - start >= LATE_NS);
}

static oc_status open_as(const char *where, int rank, int ranks, int64_t timeout_ns, const char *words)
{
    oc_comm c;
    const oc_comm_place place = {where, rank, ranks};
    const int64_t start = oc_clock_monotonic_ns();
    const oc_status status = oc_comm_store_open(&c, &place, timeout_ns);
    if (status == OC_OK) fail_msg("%s: rank %d was let in", where, rank);
    if (!strstr(oc_status_message(), words)) fail_msg("not \"%s\": %s", words, oc_status_message());
    if (!(oc_clock_monotonic_ns() - start < BOUND_NS)) fail_msg("%s: too long", words);
    return status;
}

static void addresses_that_cannot_be(void **state)
{
    (void)state;
    const char *const bad[] = {"",        "host",     ":7000",     "host:", "host:0", "host:65536", "host:99999999999",
                               "host:7x", "::1:7000", "[::1:7000", "[]:1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(open_as(bad[i], 1, 2, OC_SECOND_NS, "give rank 0's host:port"), OC_EUSAGE);
    assert_int_equal(open_as("127.0.0.1:7000", 2, 2, OC_SECOND_NS, "--rank 2 of --ranks 2"), OC_EUSAGE);
    assert_int_equal(open_as("192.0.2.1:7000", 0, 2, OC_SECOND_NS, "this is no address of rank 0's machine"),
                     OC_EFAILED);
    assert_int_equal(open_as("no-such-host.invalid:7000", 1, 2, OC_SECOND_NS, "no"), OC_EFAILED);
    port_take();
    assert_int_equal(open_as(store, 1, 2, OC_SECOND_NS / 2, "no rank 0 there within 0.5 s (Connection refused)"),
                     OC_EFAILED);
}

/* Something listens there: says nothing, says something else, hangs up. */
static void listeners_that_are_no_store(void **state)
{
    (void)state;
    const char *const says[] = {"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n<html><body>bad request, this "
                                "is a server of another kind</body></html>",
                                "", NULL};
    const char *const words[] = {"answers, but is no store", "no answer from rank 0", "closed the store"};
    for (int i = 0; i < 3; i++) {
        const int yes = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
        port_take();
        const struct sockaddr_in a = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        if (bind(fd, (const struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 4) != 0) abort();
        const pid_t pid = fork();
        if (pid == 0) {
            const int one = accept(fd, NULL, NULL);
            if (says[i]) (void)!write(one, says[i], strlen(says[i]));
            if (says[i]) nap(20 * OC_SECOND_NS);
            _exit(0);
        }
        close(fd);
        assert_int_equal(open_as(store, 1, 2, 20 * OC_SECOND_NS, words[i]), OC_EFAILED);
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
}

/* --- who else is at the port --- */

static int knock(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons((uint16_t)port);
    const int64_t start = oc_clock_monotonic_ns();
    for (;;) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
        close(fd);
        if (oc_clock_monotonic_ns() - start > 20 * OC_SECOND_NS) fail_msg("nobody listens");
        nap(10000000);
    }
}

/* A port scanner, garbage, half a hello, hundreds who say nothing: the ranks do not notice. */
static void strangers_disturb_nobody(void **state)
{
    (void)state;
    const job j = {.ranks = 3,
                   .culprit = -1,
                   .rounds = 30,
                   .absent = 2,
                   .timeout_ns = 30 * OC_SECOND_NS,
                   .start_ns = 50 * OC_SECOND_NS};
    int silent[64];
    unsigned char noise[4096];
    job_start(&j);
    for (size_t i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)(i * 2654435761u >> 13);
    for (int i = 0; i < 64; i++) silent[i] = knock();
    for (int i = 0; i < 20; i++) {
        const int fd = knock();
        (void)send(fd, i % 2 ? (const void *)noise : "GET / HTTP/1.1\r\n\r\n", i % 2 ? sizeof noise : 18, MSG_NOSIGNAL);
        if (i % 3 == 0) (void)send(fd, WIRE_GREETING "half of", 15, MSG_NOSIGNAL);
        close(fd);
    }
    rank_start(&j, 2);
    (void)ranks_await(&j, -1);
    for (int r = 0; r < 3; r++) said(r, OC_OK, "");
    for (int i = 0; i < 64; i++) close(silent[i]);
}

/* Says hello as the test wants; *text: what the store answered. */
static void hello_as(wire_hello hello, char text[static WIRE_TEXT_BYTES])
{
    wire_head head = {0};
    const int fd = knock();
    memcpy(hello.greeting, WIRE_GREETING, sizeof hello.greeting);
    snprintf(hello.host, sizeof hello.host, "elsewhere");
    text[0] = '\0';
    assert_int_equal(send(fd, &hello, sizeof hello, MSG_NOSIGNAL), (int)sizeof hello);
    if (recv(fd, &head, sizeof head, MSG_WAITALL) == (ssize_t)sizeof head && head.kind == WIRE_VERDICT)
        (void)recv(fd, text, WIRE_TEXT_BYTES, MSG_WAITALL);
    close(fd);
}

/* Rank 1 must be there before its double. It tries every 0.1 s, and nobody sees from outside that it was let in: where
 * the double was first after all, as on a busy machine, both begin again, and it comes later. */
static void job_start_with_rank_1(const job *j)
{
    const wire_hello twice = {.version = WIRE_VERSION, .rank = 1, .ranks = 3, .job = oc_hash_bytes("", 0)};
    char text[WIRE_TEXT_BYTES];
    for (int64_t wait_ns = OC_SECOND_NS / 2; wait_ns < 20 * OC_SECOND_NS; wait_ns *= 3) {
        job_start(j);
        nap(wait_ns);
        hello_as(twice, text);
        if (text[0]) return;
        for (int r = 0; r < 2; r++) {
            kill(results[r].pid, SIGKILL);
            (void)waitpid(results[r].pid, NULL, 0);
        }
    }
    fail_msg("rank 1 came twice and was let in");
}

static void second_comers_are_refused(void **state)
{
    (void)state;
    const job j = {.ranks = 3,
                   .culprit = -1,
                   .rounds = 30,
                   .absent = 2,
                   .timeout_ns = 30 * OC_SECOND_NS,
                   .start_ns = 50 * OC_SECOND_NS};
    const oc_hash job_hash = oc_hash_bytes("", 0), other = oc_hash_bytes("x", 1);
    const struct {
        wire_hello hello;
        const char *words;
    } rows[] = {
        {{.version = WIRE_VERSION, .rank = 0, .ranks = 3, .job = job_hash},
         "a second rank 0, on elsewhere: the first holds the store"},
        {{.version = WIRE_VERSION, .rank = 1, .ranks = 3, .job = job_hash}, "rank 1 came twice"},
        {{.version = WIRE_VERSION, .rank = 3, .ranks = 3, .job = job_hash}, "--rank 3 of 3: the last is 2"},
        {{.version = WIRE_VERSION, .rank = 4000000000u, .ranks = 3, .job = job_hash}, "--rank 4000000000 of 3"},
        {{.version = WIRE_VERSION, .rank = 2, .ranks = 4, .job = job_hash}, "--ranks 4, rank 0 with --ranks 3"},
        {{.version = WIRE_VERSION, .rank = 2, .ranks = 3, .job = other}, "another OUTCRY_JOB"},
        {{.version = 9, .rank = 2, .ranks = 3, .job = job_hash}, "version 9 of the store"},
    };
    job_start_with_rank_1(&j);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[WIRE_TEXT_BYTES];
        hello_as(rows[i].hello, text);
        if (!strstr(text, rows[i].words)) fail_msg("not \"%s\": %s", rows[i].words, text);
    }
    assert_int_equal(open_as(store, 0, 3, 15 * OC_SECOND_NS, "the port is taken: by a second rank 0"), OC_EFAILED);
    assert_int_equal(open_as(store, 1, 3, 15 * OC_SECOND_NS, "came twice"), OC_ECONFIG);
    rank_start(&j, 2);
    (void)ranks_await(&j, -1);
    for (int r = 0; r < 3; r++) said(r, OC_OK, "");
}

/* A rank that was let in and then sends what cannot be: sizes beyond all bounds, unknown frames, an order of its own.
 */
static void frames_that_cannot_be(void **state)
{
    (void)state;
    const job j = {.ranks = 2,
                   .culprit = 1,
                   .absent = 1,
                   .rounds = 9,
                   .timeout_ns = 30 * OC_SECOND_NS,
                   .start_ns = 30 * OC_SECOND_NS};
    const wire_head rows[] = {
        {.magic = WIRE_MAGIC,
         .kind = WIRE_CALL,
         .sequence = 1,
         .bytes = UINT64_MAX / 2,
         .timeout_ns = OC_SECOND_NS,
         .what = "round"},
        {.magic = WIRE_MAGIC,
         .kind = WIRE_CALL,
         .sequence = 1,
         .bytes = WIRE_BYTES_MAX,
         .timeout_ns = OC_SECOND_NS,
         .what = "round"},
        {.magic = WIRE_MAGIC,
         .kind = WIRE_CALL,
         .sequence = 77,
         .bytes = 1,
         .timeout_ns = OC_SECOND_NS,
         .what = "round"},
        {.magic = WIRE_MAGIC,
         .kind = WIRE_CALL,
         .sequence = 1,
         .bytes = 1,
         .timeout_ns = -1,
         .broadcast = 1,
         .what = "round"},
        {.magic = WIRE_MAGIC, .kind = WIRE_RESULT, .sequence = 1},
        {.magic = WIRE_MAGIC, .kind = 12345},
        {.magic = 99, .kind = WIRE_BEAT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        wire_hello hello = {.greeting = WIRE_GREETING,
                            .version = WIRE_VERSION,
                            .rank = 1,
                            .ranks = 2,
                            .job = oc_hash_bytes("", 0),
                            .host = "elsewhere"};
        job_start(&j);
        const int fd = knock();
        assert_int_equal(send(fd, &hello, sizeof hello, MSG_NOSIGNAL), (int)sizeof hello);
        assert_int_equal(send(fd, &rows[i], sizeof rows[i], MSG_NOSIGNAL), (int)sizeof rows[i]);
        close(fd);
        const int64_t took = ranks_await(&j, -1);
        if (results[0].status != OC_EFAILED || !strstr(results[0].message, "rank 1 on elsewhere"))
            fail_msg("row %zu: %s", i, results[0].message);
        assert_true(took <= BOUND_NS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exchanges_of_all_sizes),   cmocka_unit_test(a_wrong_byte_is_seen),
        cmocka_unit_test(every_end_of_a_rank),      cmocka_unit_test(a_rank_never_comes),
        cmocka_unit_test(addresses_that_cannot_be), cmocka_unit_test(listeners_that_are_no_store),
        cmocka_unit_test(strangers_disturb_nobody), cmocka_unit_test(second_comers_are_refused),
        cmocka_unit_test(frames_that_cannot_be),
    };
    oc_log_set_level(OC_LOG_ERROR);
    results = mmap(NULL, RANKS_MAX * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED || gethostname(host, sizeof host - 1) != 0) return 1;
    (void)unsetenv("OUTCRY_JOB");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
