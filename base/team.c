/* team.c - one generation counter starts a run, one counter of unfinished workers ends it. Both sides spin a little and
 * then sleep on a futex; a sleeper announces itself before the kernel compares the word again, and the waker changes
 * the word before it looks for sleepers, all sequentially consistent, so no wake-up is lost. */
#include "base/team.h"

#include <assert.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"

enum { THREADS_MAX = 1024, SPINS = 2000 }; /* about 30 µs of pauses: longer than the gap between two runs of a step */

typedef struct member {
    oc_team *team;
    int worker;
    pthread_t thread;
} member;

struct oc_team {
    _Alignas(64) _Atomic uint32_t generation;   /* + 1 a run */
    atomic_int sleepers;                        /* workers that wait for `generation` in the kernel */
    _Alignas(64) _Atomic uint32_t unfinished;   /* workers of this run, the caller not counted */
    atomic_bool caller_sleeps;
    _Alignas(64) oc_team_work work;             /* written before `generation`, read after */
    void *context;
    bool stop, running;
    int threads, started, spins;
    member members[];
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(_Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL,
            0); /* a false wake-up is checked by the caller */
}

static void futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void run_await(oc_team *t, uint32_t seen)
{
    for (int i = 0; i < t->spins; i++) {
        if (atomic_load(&t->generation) != seen) return;
        pause_briefly();
    }
    atomic_fetch_add(&t->sleepers, 1);
    while (atomic_load(&t->generation) == seen) futex_wait(&t->generation, seen);
    atomic_fetch_sub(&t->sleepers, 1);
}

static void run_finish(oc_team *t)
{
    if (atomic_fetch_sub(&t->unfinished, 1) == 1 && atomic_load(&t->caller_sleeps)) futex_wake(&t->unfinished);
}

static void *worker_main(void *argument)
{
    const member *m = argument;
    oc_team *t = m->team;
    uint32_t seen = 0;
    for (;;) {
        run_await(t, seen);
        seen++;                                 /* the caller waits for all, so no generation is ever skipped */
        if (t->stop) return NULL;
        t->work(t->context, m->worker, t->threads);
        run_finish(t);
    }
}

static void all_start(oc_team *t)
{
    atomic_store(&t->unfinished, (uint32_t)t->started);
    atomic_fetch_add(&t->generation, 1);
    if (atomic_load(&t->sleepers) > 0) futex_wake(&t->generation);
}

static void all_await(oc_team *t)
{
    for (int i = 0; i < t->spins; i++) {
        if (atomic_load(&t->unfinished) == 0) return;
        pause_briefly();
    }
    atomic_store(&t->caller_sleeps, true);
    for (uint32_t left; (left = atomic_load(&t->unfinished)) != 0;) futex_wait(&t->unfinished, left);
    atomic_store(&t->caller_sleeps, false);
}

void oc_team_run(oc_team *t, oc_team_work work, void *context)
{
    assert(t && work && !t->running);           /* not from within its own work */
    t->running = true;
    t->work = work;
    t->context = context;
    if (t->started > 0) all_start(t);
    work(context, 0, t->threads);
    if (t->started > 0) all_await(t);
    t->running = false;
}

static int cores_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

/* Signals belong to the caller: a worker that took SIGINT would only wake for nothing. */
static int threads_start(oc_team *t)
{
    sigset_t all, before;
    int failed = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (!failed && t->started + 1 < t->threads) {
        member *m = &t->members[t->started];
        *m = (member){.team = t, .worker = t->started + 1};
        failed = pthread_create(&m->thread, NULL, worker_main, m);
        if (!failed) t->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

oc_status oc_team_open(oc_team **out, int threads)
{
    assert(out);
    *out = NULL;
    if (!(threads >= 1 && threads <= THREADS_MAX))
        return OC_FAIL(OC_ELIMIT, "a team of %d threads: from 1 to %d are possible", threads, THREADS_MAX);
    oc_team *t;
    OC_TRY(oc_memory_new(&t, sizeof *t + (size_t)threads * sizeof *t->members, "thread team"));
    t->threads = threads;
    t->spins = threads <= cores_count() ? SPINS : 0; /* who spins without a core keeps another from working */
    int failed = threads_start(t);
    if (failed) {
        int started = t->started + 1;
        oc_team_close(t);
        return OC_FAIL(OC_EFAILED, "cannot start thread %d of %d: %s", started + 1, threads, strerror(failed));
    }
    *out = t;
    return OC_OK;
}

void oc_team_close(oc_team *t)
{
    if (!t) return;
    assert(!t->running);
    t->stop = true;
    all_start(t);
    for (int i = 0; i < t->started; i++) pthread_join(t->members[i].thread, NULL);
    oc_memory_free(t);
}

int oc_team_size(const oc_team *t)
{
    return t->threads;
}

void oc_team_split(size_t count, int worker, int workers, size_t *first, size_t *last)
{
    assert(worker >= 0 && worker < workers);
    size_t share = count / (size_t)workers, rest = count % (size_t)workers, w = (size_t)worker;
    *first = w * share + (w < rest ? w : rest);
    *last = *first + share + (w < rest);
}
