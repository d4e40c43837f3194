/* test_link.c - vectors between GPUs, with NCCL's double in its place and the emulated device: right sums and gathers,
 * and every call of NCCL failing once, coming late, never returning, never moving on or breaking later, on one rank of
 * several. Each rank ends in bounded time, and the message says which call and which rank on which host. Cases run side
 * by side, each as processes that meet at a store. */
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

#include "base/clock.h"
#include "base/log.h"
#include "train/comm_store.h"
#include "train/link.h"

enum { RANKS = 2, CASES_MAX = 64, COUNT = 20011, PART = 8000, ROUNDS = 4 };
#define WAIT_NS  (3 * OC_SECOND_NS)
#define BOUND_NS (60 * OC_SECOND_NS) /* WAIT_NS, the roll call, the guard's grace, and a busy machine's start */

typedef enum { WELL, SAYS, GONE } end; /* the rank succeeded; failed with words; was ended by the guard, with words */
typedef struct row {
    const char *fault; /* of NCCL's double on one rank; ! before: of the device */
    int rank;
    end end;
    const char *words, *others; /* others NULL: they succeed; %s: the rank's name */
} row;

#define FAILED(call) SAYS, "NCCL: " call " failed: unhandled system error", "%s has failed: NCCL: " call " failed"
#define BROKEN(call) SAYS, "NCCL: " call " failed: remote process", "%s has failed: NCCL: " call " failed"
#define ENDED(what)  GONE, what, "no answer from %s for"
#define STILL(what)  SAYS, "NCCL has not moved the " what, "NCCL has not moved the " what

static const row rows[] = {
    {"", 1, WELL, NULL, NULL},
    {"ncclGetVersion:fail", 1, SAYS, "does not tell its version", "%s has failed: backend cuda"},
    {"ncclGetVersion:old", 0, SAYS, "is NCCL 2.13.4: before 2.14", "%s has failed: backend cuda"},
    {"ncclGetVersion:late", 1, WELL, NULL, NULL},
    {"ncclGetVersion:never", 1, ENDED("the beginning of NCCL has not returned")},
    {"ncclGetUniqueId:fail", 0, FAILED("ncclGetUniqueId")},
    {"ncclGetUniqueId:late", 0, WELL, NULL, NULL},
    {"ncclGetUniqueId:never", 0, ENDED("the beginning of NCCL has not returned")},
    {"ncclCommInitRankConfig:fail", 1, FAILED("ncclCommInitRankConfig")},
    {"ncclCommInitRankConfig:late", 1, WELL, NULL, NULL},
    {"ncclCommInitRankConfig:never", 1, ENDED("the beginning of NCCL has not returned")},
    {"ncclCommInitRankConfig:stuck", 1, STILL("communicator")},
    {"ncclCommInitRankConfig:broken", 0, BROKEN("ncclCommInitRankConfig")},
    {"ncclCommGetAsyncError:fail", 1, FAILED("ncclCommGetAsyncError")},
    {"ncclCommGetAsyncError:fail:9", 0, FAILED("ncclCommGetAsyncError")},
    {"ncclCommGetAsyncError:late:3", 1, WELL, NULL, NULL},
    {"ncclCommGetAsyncError:never:3", 1, ENDED("has not returned")},
    {"ncclCommGetAsyncError:stuck", 1, STILL("")},
    {"ncclAllGather:fail", 1, FAILED("ncclAllGather")},
    {"ncclAllGather:fail:2", 0, FAILED("ncclAllGather")},
    {"ncclAllGather:late:2", 1, WELL, NULL, NULL},
    {"ncclAllGather:never:2", 1, ENDED("the gather of NCCL (gradients) has not returned")},
    {"ncclAllGather:stuck:2", 1, STILL("gradients")},
    {"ncclAllGather:hung:2", 1, STILL("gradients")},
    {"ncclAllGather:broken:2", 1, BROKEN("ncclAllGather")},
    {"ncclAllReduce:fail", 1, FAILED("ncclAllReduce")},
    {"ncclAllReduce:late", 1, WELL, NULL, NULL},
    {"ncclAllReduce:never:2", 1, ENDED("the sum of NCCL (gradients) has not returned")},
    {"ncclAllReduce:stuck", 1, STILL("gradients")},
    {"ncclAllReduce:hung:3", 0, STILL("gradients")},
    {"ncclAllReduce:broken", 0, BROKEN("ncclAllReduce")},
    {"ncclCommAbort:fail", 1, WELL, NULL, NULL},
    {"ncclCommAbort:late", 1, WELL, NULL, NULL},
    {"ncclCommAbort:never", 1, GONE, "the end of NCCL has not returned", NULL},
    {"ncclAllGather:fail:2,ncclCommAbort:fail", 1, FAILED("ncclAllGather")},
    {"ncclAllGather:fail:2,ncclCommAbort:late", 1, FAILED("ncclAllGather")},
    {"ncclAllGather:fail:2,ncclCommAbort:never", 1,
     ENDED("the end of NCCL has not returned for 5 s: ended, after: NCCL: ncclAllGather failed")},
    {"!3", 1, SAYS, "NCCL stands still", "%s stands at exchange"}, /* its kernel never ends on the device */
    {"kill", 1, GONE, "", "%s has gone: its process was killed"},
    {"stop", 1, GONE, "", "from %s for"},
};
enum { ROWS = sizeof rows / sizeof *rows };

typedef struct result {
    pid_t pid;
    volatile int status;
    volatile bool reported;
    volatile int64_t ended_ns;
    int64_t seen_ns; /* when its end was noticed */
    char message[1200];
} result;

static result (*results)[RANKS];
static char host[64];

static int store_name(char *text, size_t cap)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
        getsockname(fd, (struct sockaddr *)&a, &length) != 0)
        abort();
    snprintf(text, cap, "127.0.0.1:%d", ntohs(a.sin_port));
    return fd; /* held until all names are given */
}

static float number(int rank, int round, size_t i)
{
    return (float)(rank + 1) * (float)((i * 37 + (size_t)round * 11) % 1009);
}

static size_t place_of(const oc_comm *c, bool sum, int rank, size_t i)
{
    const size_t first = i / PART * PART, count = COUNT - first < PART ? COUNT - first : PART;
    return sum ? i : first * (size_t)c->ranks + (size_t)rank * count + (i - first);
}

static oc_status round_run(train_link *l, oc_comm *c, oc_backend *b, oc_tensor all, float *host_all, int round)
{
    const bool sum = round % 2 == 1;
    for (size_t i = 0; i < COUNT; i++) host_all[place_of(c, sum, c->rank, i)] = number(c->rank, round, i);
    OC_TRY(oc_backend_upload(b, all, host_all, sizeof(float) * COUNT * (size_t)c->ranks)); /* nobody waits for it */
    for (size_t first = 0; first < COUNT; first += PART) { /* several under way: [ranks][count] of each part */
        const size_t count = COUNT - first < PART ? COUNT - first : PART;
        if (sum)
            OC_TRY(train_link_sum(l, "gradients", (float *)all.data + first, count, WAIT_NS));
        else
            OC_TRY(train_link_gather(l, "gradients", (float *)all.data + first * (size_t)c->ranks, count, WAIT_NS));
    }
    OC_TRY(train_link_await(l, "gradients", WAIT_NS));
    OC_TRY(oc_backend_download(b, host_all, sizeof(float) * COUNT * (size_t)c->ranks, all));
    OC_TRY(oc_backend_wait(b));
    for (size_t i = 0; i < COUNT; i++) {
        if (sum && host_all[i] != number(0, round, i) + number(1, round, i))
            return OC_FAIL(OC_EDATA, "round %d: sum %zu is wrong", round, i);
        for (int r = 0; !sum && r < c->ranks; r++)
            if (host_all[place_of(c, sum, r, i)] != number(r, round, i))
                return OC_FAIL(OC_EDATA, "round %d: number %zu of rank %d is wrong", round, i, r);
    }
    return OC_OK;
}

static oc_status job_run(oc_comm *c, const char *deed)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .arena_bytes = sizeof(float) * COUNT * RANKS + 4096};
    oc_backend *b;
    train_link *l = NULL;
    float *host_all = calloc((size_t)COUNT * RANKS, sizeof *host_all);
    oc_tensor all = oc_tensor_make(NULL, OC_DTYPE_F32, RANKS, COUNT, 1, 1);
    if (!host_all) abort();
    OC_TRY(oc_backend_open(&b, &config));
    OC_TRY(oc_backend_alloc(b, &all));
    oc_status status = train_link_open(&l, c, b, WAIT_NS);
    for (int round = 0; round < ROUNDS && status == OC_OK; round++) {
        if (round == 1 && strcmp(deed, "kill") == 0) raise(SIGKILL);
        if (round == 1 && strcmp(deed, "stop") == 0) raise(SIGSTOP);
        status = round_run(l, c, b, all, host_all, round);
        char none;
        if (status == OC_OK) status = oc_comm_gather(c, "agreed", &none, 0, 4 * WAIT_NS);
    }
    train_link_close(l);
    oc_backend_close(b);
    free(host_all);
    return status;
}

static void rank_main(const row *w, int rank, const char *store, result *own)
{
    const oc_comm_place place = {store, rank, RANKS};
    oc_comm c;
    char said[32];
    snprintf(said, sizeof said, "said-%d-%d", (int)(w - rows), rank);
    if (!freopen(said, "w", stderr)) abort();
    if (rank == w->rank && w->fault[0] == '!')
        (void)setenv("OUTCRY_EMULATION_BUSY", w->fault + 1, 1);
    else if (rank == w->rank)
        (void)setenv("OUTCRY_FAKE_NCCL", w->fault, 1);
    oc_status status = oc_comm_store_open(&c, &place, 60 * OC_SECOND_NS);
    if (status == OC_OK) {
        status = job_run(&c, rank == w->rank ? w->fault : "");
        snprintf(own->message, sizeof own->message, "%s", status == OC_OK ? "" : oc_status_message());
        oc_comm_close(&c, status);
    } else {
        snprintf(own->message, sizeof own->message, "%s", oc_status_message());
    }
    own->status = (int)status;
    own->ended_ns = oc_clock_monotonic_ns();
    own->reported = true;
    _exit(0);
}

static void all_start(void)
{
    static char stores[CASES_MAX][32];
    int held[CASES_MAX];
    for (int i = 0; i < ROWS; i++) held[i] = store_name(stores[i], sizeof stores[i]);
    for (int i = 0; i < ROWS; i++) close(held[i]);
    for (int i = 0; i < ROWS; i++)
        for (int r = 0; r < RANKS; r++) {
            const pid_t pid = fork();
            if (pid == 0) rank_main(&rows[i], r, stores[i], &results[i][r]);
            results[i][r].pid = pid;
        }
}

/* A stopped process is no end: it is killed when its neighbour has ended. */
static void all_await(void)
{
    const int64_t start = oc_clock_monotonic_ns();
    for (int left = 1; left > 0;) {
        const struct timespec pause = {.tv_nsec = 2000000};
        left = 0;
        for (int i = 0; i < ROWS; i++)
            for (int r = 0; r < RANKS; r++) {
                result *own = &results[i][r];
                const bool stopped = strcmp(rows[i].fault, "stop") == 0 && r == rows[i].rank;
                if (own->seen_ns) continue;
                if (stopped && results[i][1 - r].seen_ns) kill(own->pid, SIGKILL);
                if (oc_clock_monotonic_ns() - start > 100 * OC_SECOND_NS) kill(own->pid, SIGKILL);
                if (waitpid(own->pid, NULL, WNOHANG) == own->pid) own->seen_ns = oc_clock_monotonic_ns() - start;
                left += own->seen_ns == 0;
            }
        (void)nanosleep(&pause, NULL);
    }
}

static bool guard_said(int i, int rank, const char *words)
{
    char path[32], text[1024] = "";
    snprintf(path, sizeof path, "said-%d-%d", i, rank);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    snprintf(results[i][rank].message, sizeof results[i][rank].message, "%s", text);
    return strstr(text, words) != NULL;
}

static bool ended_so(int i, int rank, end wanted, const char *words)
{
    const result *own = &results[i][rank];
    char text[256], name[OC_COMM_NAME];
    snprintf(name, sizeof name, "rank %d on %s", rows[i].rank, host);
    const char *mark = words ? strstr(words, "%s") : NULL;
    if (mark)
        snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - words), words, name, mark + 2);
    else
        snprintf(text, sizeof text, "%s", words ? words : "");
    if (wanted == GONE) return !own->reported && guard_said(i, rank, text);
    return own->reported && (own->status != OC_OK) == (wanted == SAYS) && strstr(own->message, text);
}

static void every_call_every_way(void **state)
{
    int faults = 0;
    (void)state;
    all_start();
    all_await();
    for (int i = 0; i < ROWS; i++) {
        for (int r = 0; r < RANKS; r++) {
            const row *w = &rows[i];
            const bool guilty = r == w->rank;
            const end wanted = guilty ? w->end : w->others ? SAYS : WELL;
            const bool good = ended_so(i, r, wanted, guilty ? w->words : w->others);
            const double seconds = (double)results[i][r].seen_ns * 1e-9;
            if (good && seconds * 1e9 <= BOUND_NS) continue;
            faults++;
            printf("%s on rank %d: rank %d after %.1f s: %s\n", w->fault, w->rank, r, seconds, results[i][r].message);
        }
        printf("%-44s %4.1f s  %.150s\n", rows[i].fault, (double)results[i][1 - rows[i].rank].seen_ns * 1e-9,
               results[i][1 - rows[i].rank].message);
    }
    assert_int_equal(faults, 0);
}

/* A library that is none, and none at all. */
static void no_nccl(void **state)
{
    unsigned char id[OC_LINK_ID_BYTES];
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA}, cpu = {.kind = OC_BACKEND_CPU};
    oc_backend *b;
    (void)state;
    (void)setenv("OUTCRY_NCCL", "/nonexistent/libnccl.so.2", 1);
    assert_int_equal(oc_backend_open(&b, &config), OC_OK);
    assert_int_equal(oc_link_id(b, id), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "backend cuda: no NCCL: /nonexistent/libnccl.so.2"));
    oc_backend_close(b);
    assert_int_equal(oc_backend_open(&b, &cpu), OC_OK);
    assert_int_equal(oc_link_id(b, id), OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "go through the host"));
    oc_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_every_way), cmocka_unit_test(no_nccl), /* last: a process looks for NCCL once */
    };
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 1);
    (void)setenv("OUTCRY_NCCL", OC_TEST_NCCL, 1);
    (void)setenv("TMPDIR", ".", 1);
    oc_log_set_level(OC_LOG_ERROR);
    results = mmap(NULL, ROWS * sizeof *results, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (results == MAP_FAILED || gethostname(host, sizeof host - 1) != 0) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
