/* test_quiet.c - the ring's hot path makes no system call: a child process opens a client, then gives up every system
 * call but its end by seccomp, and exchanges windows and rows with a spinning server. A system call would kill it,
 * which the planted run shows. Then the other side: a thread of the test's own runs the batcher's rounds behind the
 * same filter, while versions run as a shadow and change. Neither takes memory, and each has every page of its
 * rings before it begins: the fault at a page's first record is no system call, and costs as much. clock_gettime is
 * answered by the vDSO.
 * Skipped where the kernel has no seccomp, and under sanitizers. */
#include "base/cmocka_all.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/memory.h"
#include "serve/client/client.h"
#include "serve/served.h"
#include "serve/ticks_rig.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
enum { T = 12, F = 5, ROUNDS = 2000, NO_SECCOMP = 9, LOST = 3, WRONG = 4, GREW = 5, ABSENT = 6 };
static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 16, 2, 1};

static bool seal_system_calls(void)
{
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {sizeof rules / sizeof rules[0], rules};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* Rings of which this process has every page mapped; of those that a parent mapped it has none at first. */
static int rings_present(void)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    unsigned long size = 0, resident = 0;
    bool ring = false;
    int present = 0;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &size, &resident) == 2) ring = strstr(line, "outcry-rings") != NULL;
        (void)sscanf(line, "Size: %lu kB", &size);
        present += ring && sscanf(line, "Rss: %lu kB", &resident) == 1 && resident == size;
    }
    if (f) fclose(f);
    return present;
}

static int exchange(oc_client *c, uint32_t session, bool planted)
{
    static float window[T * F];
    const size_t before = oc_memory_count();
    if (rings_present() != 1) return ABSENT;
    if (!seal_system_calls()) return NO_SECCOMP;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        oc_wire_reply reply;
        const oc_stamp stamp = {.sequence = i};
        if ((i & 1 ? oc_client_push(c, session, stamp, window, (uint32_t)(i / 2 + 1))
                   : oc_client_window(c, 0, stamp, window, T)) != OC_OK)
            return LOST;
        const int64_t end = oc_clock_monotonic_ns() + 60 * OC_SECOND_NS;
        while (oc_client_poll(c, &reply, 1) != 1)
            if (oc_clock_monotonic_ns() > end) return LOST;
        if (reply.sequence != i || (reply.state != OC_REPLY_OK && reply.state != OC_REPLY_HOLD_SHORT)) return WRONG;
        if (planted && i == ROUNDS / 2) (void)getppid();
    }
    return oc_memory_count() == before ? 0 : GREW;
}

/* It sleeps where its last client slept for the answer; behind one that did not it spins. */
static bool server_spins(oc_client *c)
{
    static float window[T * F];
    oc_wire_reply reply;
    const int64_t end = oc_clock_monotonic_ns() + 60 * OC_SECOND_NS;
    if (oc_client_window(c, 0, (oc_stamp){.sequence = 1}, window, T) != OC_OK) return false;
    while (oc_client_poll(c, &reply, 1) != 1)
        if (oc_clock_monotonic_ns() > end) return false;
    return usleep(5000) == 0; /* longer than where it would go to sleep with spin_ns 0 */
}

static int child_run(const char *address, bool planted)
{
    int code = -1;
    const pid_t pid = fork();
    if (pid == 0) {
        oc_client *c;
        uint32_t session;
        if (oc_client_open(&c, address, 20 * OC_SECOND_NS) != OC_OK) _exit(1);
        const oc_client_model *m = oc_client_describe(c);
        if (oc_client_session_open(c, m->name, "A", m->schema_low, m->schema_high, OC_SECOND_NS, 20 * OC_SECOND_NS,
                                   &session) != OC_OK)
            _exit(2);
        if (!server_spins(c)) _exit(LOST);
        syscall(SYS_exit_group, exchange(c, session, planted));
    }
    assert_int_equal(waitpid(pid, &code, 0), pid);
    return code;
}

static void no_system_call(void **state)
{
    served at;
    (void)state;
    if (SANITIZED) skip();
    served_make(&at);
    oc_bundle_close(served_bundle(&at, &shape));
    oc_server_config config = served_config(&at);
    config.batch_max = 4;
    config.clients_max = 4;
    config.sessions_max = 2;
    config.spin_ns = 60 * OC_SECOND_NS;
    served_start(&at, &config);
    int clean = child_run(at.address, false);
    const int planted = child_run(at.address, true);
    served_stop(&at);
    for (config.wait = OC_WAIT_SPIN; config.wait <= OC_WAIT_YIELD && clean == 0; config.wait++) {
        config.spin_ns = 0; /* it never sleeps all the same */
        served_start(&at, &config);
        clean = child_run(at.address, false);
        served_stop(&at);
    }
    served_remove(&at);
    if (WIFEXITED(clean) && WEXITSTATUS(clean) == NO_SECCOMP) skip();
    if (!(WIFEXITED(clean) && WEXITSTATUS(clean) == 0)) fail_msg("the exchange ended with %x", (unsigned)clean);
    assert_true(WIFSIGNALED(planted)); /* the planted system call is found */
}

/* ---- the batcher's side: its rounds behind the filter, requests of every kind from the thread beside it
 * ---------------------------------------------------------------------------------------------------------------- */
typedef struct sealed {
    rig *r;
    bool planted;
    uint32_t rounds, refused; /* refused: no filter here; both by __atomic */
} sealed;

static void *rounds_run(void *argument)
{
    sealed *s = argument;
    if (!seal_system_calls()) __atomic_store_n(&s->refused, 1u, __ATOMIC_RELEASE);
    for (;;) { /* the process ends it: a thread's own end would be a system call */
        if (!oc_batcher_round(&s->r->batcher)) oc_ring_pause();
        if (s->planted && s->rounds == ROUNDS / 2) (void)getppid();
        __atomic_store_n(&s->rounds, s->rounds + 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

static bool answer_take(rig *r, oc_wire_reply *reply)
{
    const int64_t end = oc_clock_monotonic_ns() + 60 * OC_SECOND_NS;
    while (!rig_poll(r, 0, reply))
        if (oc_clock_monotonic_ns() > end) return false;
    return true;
}

/* One request of each kind in turn: row, window, history, a row that is none, a kind that is none. */
static oc_wire_request request_of(uint64_t i, uint32_t session, size_t *rows)
{
    static const struct {
        uint32_t kind, run;
        size_t rows;
    } turns[] = {{OC_REQUEST_PUSH, RIG_T + 1, 1},        {OC_REQUEST_WINDOW, 0, RIG_T}, {OC_REQUEST_PUSH, 0, 1},
                 {OC_REQUEST_HISTORY, RIG_T, RIG_T - 1}, {OC_REQUEST_PUSH, 7, 1},       {77, 0, 0},
                 {OC_REQUEST_HISTORY, RIG_T, RIG_T - 1}};
    const size_t turn = i % (sizeof turns / sizeof turns[0]);
    *rows = turns[turn].rows;
    return (oc_wire_request){
        .kind = turns[turn].kind, .session = session, .sequence = i, .run_length = turns[turn].run};
}

/* What the loader asks of the batcher meanwhile: another version beside the live one, as a shadow, live, back again. */
static void orders_give(rig *r, oc_slot *box, uint64_t i)
{
    static const struct {
        uint64_t at;
        oc_order order;
    } orders[] = {{300, OC_ORDER_MAKE(1, 1, 0)},
                  {600, OC_ORDER_MAKE(2, 0, 0)},
                  {900, OC_ORDER_MAKE(2, 1, 65536)},
                  {1200, OC_ORDER_MAKE(1, 1, 0)},
                  {1500, OC_ORDER_MAKE(2, 0, 0)}};
    if (i == 100) __atomic_store_n(&r->batcher.offer, box, __ATOMIC_RELEASE);
    for (size_t k = 0; k < sizeof orders / sizeof orders[0]; k++)
        if (i == orders[k].at) __atomic_store_n(&r->batcher.order, orders[k].order, __ATOMIC_RELEASE);
}

/* A packet of a stream, one reply; now and then the stream ends and another begins. */
static bool ticks_exchange(rig *r, ticks_market *m, uint32_t *stream, uint64_t i)
{
    oc_event events[40];
    oc_wire_reply reply;
    if (i % 200 == 1) {
        const ticks_open open = ticks_open_of(r, OC_STREAM_BEGINS);
        const size_t bytes = sizeof open.head + TICKS_INSTRUMENTS * sizeof *open.universe;
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_CLOSE, .session = *stream}, NULL, 0);
        if (!answer_take(r, &reply) || reply.state != (i > 1 ? OC_REPLY_OK : OC_REPLY_REFUSED_SESSION)) return false;
        rig_send(r, 0, (oc_wire_request){.kind = OC_REQUEST_STREAM_OPEN}, &open, bytes);
        if (!answer_take(r, &reply) || reply.state != OC_REPLY_OK) return false;
        *stream = reply.session;
        m->begun[0] = m->begun[1] = false;
    }
    const size_t n = ticks_packet(m, events, false);
    ticks_send(r, 0, *stream, events, n);
    return answer_take(r, &reply) && reply.kind == OC_REQUEST_TICK && reply.sequence == events[n - 1].sequence;
}

/* The exit code of a child that lets a sealed thread answer ROUNDS requests. */
static int batcher_exchange(bool planted)
{
    static rig r;
    float window[RIG_T * RIG_F];
    size_t ok = 0;
    ticks_market market;
    uint32_t stream = 0;
    ticks_rig_open(&r);
    ticks_market_open(&market, 5);
    rig_rows(window, 1, 0, RIG_T);
    const uint32_t session = rig_session(&r, 0);
    sealed s = {.r = &r, .planted = planted};
    pthread_t thread;
    oc_slot box;
    oc_version second = r.version;
    second.generation = 2;
    const oc_slot_config slot = {7, RIG_SESSIONS, 32 << 20, {.kind = OC_BACKEND_CPU}, false};
    if (oc_slot_open(&box, &second, &slot) != OC_OK) return LOST;
    const size_t before = oc_memory_count();
    if (rings_present() != RIG_CHANNELS) return ABSENT;
    if (pthread_create(&thread, NULL, rounds_run, &s) != 0) return LOST;
    while (__atomic_load_n(&s.rounds, __ATOMIC_ACQUIRE) == 0) oc_ring_pause();
    if (__atomic_load_n(&s.refused, __ATOMIC_ACQUIRE)) return NO_SECCOMP;
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        oc_wire_reply reply;
        size_t rows;
        orders_give(&r, &box, i);
        if (!ticks_exchange(&r, &market, &stream, i)) return WRONG;
        const oc_wire_request q = request_of(i, session, &rows);
        rig_send(&r, 0, q, window, rows * RIG_F * sizeof *window);
        if (!answer_take(&r, &reply)) return LOST;
        if (reply.sequence != i || reply.kind != q.kind) return WRONG;
        ok += reply.state == OC_REPLY_OK;
    }
    if (ok < ROUNDS / 2) return WRONG;
    if (__atomic_load_n(&r.batcher.stats.replies[OC_REQUEST_TICK][OC_REPLY_OK], __ATOMIC_RELAXED) < ROUNDS / 4)
        return WRONG;
    if (__atomic_load_n(&r.batcher.live_generation, __ATOMIC_ACQUIRE) != 2) return WRONG;
    if (__atomic_load_n(&r.batcher.stats.moves, __ATOMIC_RELAXED) < 3) return WRONG;
    if (__atomic_load_n(&r.batcher.stats.followed, __ATOMIC_RELAXED) < RIG_T) return WRONG;
    return oc_memory_count() == before ? 0 : GREW;
}

static void batcher_no_system_call(void **state)
{
    int codes[2];
    (void)state;
    if (SANITIZED) skip();
    for (int planted = 0; planted < 2; planted++) {
        const pid_t pid = fork();
        if (pid == 0) syscall(SYS_exit_group, batcher_exchange(planted));
        assert_int_equal(waitpid(pid, &codes[planted], 0), pid);
    }
    if (WIFEXITED(codes[0]) && WEXITSTATUS(codes[0]) == NO_SECCOMP) skip();
    if (!(WIFEXITED(codes[0]) && WEXITSTATUS(codes[0]) == 0)) fail_msg("it ended with %x", (unsigned)codes[0]);
    assert_true(WIFSIGNALED(codes[1])); /* the planted system call is found */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_system_call), cmocka_unit_test(batcher_no_system_call)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
