/* link.c - see link.h. A link's call is polled until its deadline; the comm is looked at meanwhile, because it hears of
 * a dead or stopped rank long before NCCL does, if NCCL does. A failure goes the comm's way: the close of this rank
 * tells the others. Where time runs out without a failure, a roll call over the comm finds who is missing. A call that
 * does not even return is ended by the guard, and the others see this process gone. */
#include "train/link.h"

#include <sched.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "train/guard.h"

enum { NAP_NS = 50000, CLOSE_SECONDS = 5 };
#define SPIN_NS      (2 * OC_SECOND_NS / 1000)
#define ROLL_CALL_NS (3 * OC_SECOND_NS / 2) /* within the guard's grace */

struct train_link {
    oc_comm *comm;
    oc_link *link;
    bool broken; /* or under way: whoever closes it then has failed elsewhere */
    int64_t starts;
};

static void nap(int64_t waited_ns)
{
    const struct timespec pause = {.tv_nsec = NAP_NS};
    if (waited_ns < SPIN_NS)
        sched_yield();
    else
        (void)nanosleep(&pause, NULL);
}

/* Nobody has failed, nothing moves: who does not answer is the one. */
static oc_status late_say(train_link *l, const char *what, double seconds)
{
    char none;
    OC_TRY(oc_comm_gather(l->comm, "NCCL stands still", &none, 0, ROLL_CALL_NS));
    return OC_FAIL(
        OC_EFAILED,
        "NCCL has not moved the %s for %.1f s, though all %d ranks answer: the network between their GPUs, or "
        "NCCL, is at fault (NCCL_DEBUG=INFO says more); comm.timeout_ns says how long is waited",
        what, seconds, l->comm->ranks);
}

static oc_status link_await(train_link *l, const char *what, oc_link_state wanted, int64_t start, int64_t timeout_ns)
{
    for (;;) {
        oc_link_state state;
        OC_TRY(oc_link_poll(l->link, &state));
        const int64_t waited = oc_clock_monotonic_ns() - start;
        if (state >= wanted) return OC_OK;
        if (waited > SPIN_NS && l->comm->kind && l->comm->kind->look) OC_TRY(l->comm->kind->look(l->comm, what));
        if (!(waited <= timeout_ns)) return late_say(l, what, (double)waited * 1e-9);
        nap(waited);
    }
}

/* After a call that was started, or was not. */
static oc_status link_settle(train_link *l, oc_status started, const char *what, oc_link_state wanted, int64_t start,
                             int64_t timeout_ns)
{
    oc_status status = started;
    if (status == OC_OK) status = link_await(l, what, wanted, start, timeout_ns);
    l->comm->wait_ns += oc_clock_monotonic_ns() - start;
    l->broken = status != OC_OK || wanted != OC_LINK_DONE;
    train_guard(NULL, NULL, 0);
    return status;
}

static int64_t guarded(const train_link *l, const char *call, const char *what, int64_t timeout_ns)
{
    char text[128];
    snprintf(text, sizeof text, "%s of NCCL (%s)", call, what);
    train_guard(l->comm->name, text, train_guard_seconds(timeout_ns));
    return oc_clock_monotonic_ns();
}

/* What the caller does now on its GPU may wait for it, where a kernel is loaded first: for ranks that may be gone. */
static oc_status link_started(train_link *l, oc_status started, const char *what, int64_t start, int64_t timeout_ns)
{
    OC_TRY(link_settle(l, started, what, OC_LINK_RUNS, start, timeout_ns));
    l->starts++;
    (void)guarded(l, "the GPU's work beside a move", what, timeout_ns);
    return OC_OK;
}

oc_status train_link_gather(train_link *l, const char *what, float *all, size_t count, int64_t timeout_ns)
{
    const int64_t start = guarded(l, "the gather", what, timeout_ns);
    OC_TRY(link_started(l, oc_link_gather(l->link, all, count), what, start, timeout_ns));
    return OC_OK;
}

oc_status train_link_sum(train_link *l, const char *what, float *data, size_t count, int64_t timeout_ns)
{
    const int64_t start = guarded(l, "the sum", what, timeout_ns);
    OC_TRY(link_started(l, oc_link_sum(l->link, data, count), what, start, timeout_ns));
    return OC_OK;
}

oc_status train_link_await(train_link *l, const char *what, int64_t timeout_ns)
{
    const int64_t start = guarded(l, "the end of a move", what, timeout_ns);
    return link_settle(l, OC_OK, what, OC_LINK_DONE, start, timeout_ns);
}

int64_t train_link_starts(const train_link *l)
{
    return l ? l->starts : 0;
}

bool train_link_broken(const train_link *l)
{
    return l && l->broken;
}

void train_link_close(train_link *l)
{
    if (!l) return;
    train_guard_close(l->comm->name, "the end of NCCL", l->broken, CLOSE_SECONDS);
    oc_link_close(l->link);
    train_guard(NULL, NULL, 0);
    oc_memory_free(l);
}

/* Everyone's library first: a rank without NCCL must be named before the others wait for it. */
static oc_status link_join(train_link *l, oc_backend *b, int64_t timeout_ns)
{
    oc_link_seat seat = {.rank = l->comm->rank, .ranks = l->comm->ranks};
    oc_status made = OC_OK;
    if (seat.rank == 0) {
        train_guard(l->comm->name, "the beginning of NCCL", train_guard_seconds(timeout_ns));
        made = oc_link_id(b, seat.id);
        train_guard(NULL, NULL, 0);
    }
    OC_TRY(made);
    OC_TRY(oc_comm_broadcast(l->comm, "NCCL's id", seat.id, sizeof seat.id, timeout_ns));
    train_guard(l->comm->name, "the beginning of NCCL", train_guard_seconds(timeout_ns)); /* a comm may use it too */
    const int64_t start = oc_clock_monotonic_ns();
    const oc_status status = oc_link_open(&l->link, b, &seat);
    return link_settle(l, status, "communicator", OC_LINK_DONE, start, timeout_ns);
}

oc_status train_link_open(train_link **out, oc_comm *comm, oc_backend *b, int64_t timeout_ns)
{
    OC_TRY(oc_memory_new(out, sizeof **out, "link"));
    (*out)->comm = comm;
    const oc_status status = link_join(*out, b, timeout_ns);
    if (status != OC_OK) {
        (*out)->broken = true;
        train_link_close(*out);
        *out = NULL;
    }
    return status;
}
