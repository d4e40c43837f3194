/* comm_mpi.c - ranks by MPI, host memory. Collectives of MPI neither end when a rank is gone nor say which, so every
 * exchange is messages between pairs, non-blocking and polled until a deadline: whose message lacks is named. A head
 * goes first; it says that its sender has arrived, where it stands, and that it has not failed. What fits rides in it.
 * A sum is the one collective: it follows the heads, so all have come; where it does not end in time, heads are
 * exchanged once more, and whose lacks then is named.
 *
 * Two calls of MPI block inside (init, finalize), and a fault of the library could make any do so: a timer around each
 * call of ours writes a line and ends the process. Speed: an exchange of 2 ranks on one machine is some microseconds,
 * and 1 MB one copy. */
#include "train/comm_mpi.h"

#include <limits.h>
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "train/guard.h"

enum { BODY_BYTES = 512, WHAT_BYTES = 32, TAG_HEAD = 1, TAG_BODY = 2, NAP_NS = 50000, NAMED_MAX = 4 };
enum { GRACE_SECONDS = 2, FINALIZE_SECONDS = 5 };
#define SPIN_NS        (2 * OC_SECOND_NS / 1000)
#define SECOND_LOOK_NS (OC_SECOND_NS / 2)
#define ROLL_CALL_NS   (3 * OC_SECOND_NS / 2)

typedef struct head {
    uint64_t sequence, bytes;
    int32_t status, reserved;
    char what[WHAT_BYTES];
    char body[BODY_BYTES]; /* small data, or the message of a failure */
} head;

typedef struct host {
    char name[64];
} host;

typedef struct mpi_state {
    MPI_Comm world;
    head mine, *theirs;    /* [ranks] */
    MPI_Request *requests; /* [2 ranks]: from each rank, to each rank */
    int *indices;          /* [2 ranks], of MPI_Testsome */
    host *hosts;           /* [ranks] */
    uint64_t sequence;
    int64_t spin_ns;
    bool told, broken;  /* a rank said that it failed; one did not answer */
    char failure[1024]; /* what broke it */
} mpi_state;

/* --- waiting --- */

static const char *rank_name(const mpi_state *s, int rank, char *text)
{
    if (s->hosts[rank].name[0])
        snprintf(text, OC_COMM_NAME, "rank %d on %s", rank, s->hosts[rank].name);
    else
        snprintf(text, OC_COMM_NAME, "rank %d", rank);
    return text;
}

static oc_status broken(mpi_state *s, oc_status status)
{
    s->broken = true;
    snprintf(s->failure, sizeof s->failure, "%s", oc_status_message());
    return status;
}

static bool missing(const oc_comm *c, const mpi_state *s, int rank)
{
    return s->requests[rank] != MPI_REQUEST_NULL || s->requests[c->ranks + rank] != MPI_REQUEST_NULL;
}

static int missing_count(const oc_comm *c, const mpi_state *s)
{
    int count = 0;
    for (int r = 0; r < c->ranks; r++) count += missing(c, s, r);
    return count;
}

/* Names the ranks from which nothing came or which took nothing. */
static oc_status missing_name(const oc_comm *c, mpi_state *s, const char *what, double seconds)
{
    char names[NAMED_MAX * (OC_COMM_NAME + 2) + 32] = "", one[OC_COMM_NAME];
    int count = 0;
    size_t used = 0;
    for (int r = 0; r < c->ranks; r++) {
        if (!missing(c, s, r)) continue;
        if (count++ >= NAMED_MAX) continue;
        used +=
            (size_t)snprintf(names + used, sizeof names - used, "%s%s", count > 1 ? ", " : "", rank_name(s, r, one));
    }
    if (count > NAMED_MAX) snprintf(names + used, sizeof names - used, " and %d more", count - NAMED_MAX);
    return broken(s, OC_FAIL(OC_EFAILED,
                             "no answer from %s for %.1f s (%s, exchange %llu): dead, stopped or too slow; "
                             "comm.timeout_ns says how long is waited; --resume goes on from the last checkpoint",
                             names, seconds, what, (unsigned long long)s->sequence));
}

static oc_status failure_seen(const oc_comm *c, mpi_state *s)
{
    char name[OC_COMM_NAME];
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank || s->requests[r] != MPI_REQUEST_NULL || s->theirs[r].status == OC_OK) continue;
        s->told = true;
        s->theirs[r].body[BODY_BYTES - 1] = '\0';
        return OC_FAIL((oc_status)s->theirs[r].status, "%s has failed: %s", rank_name(s, r, name), s->theirs[r].body);
    }
    return OC_OK;
}

/* The deadline is over. Who misses several ranks may be cut off itself (a process stopped in the middle of a shared
 * queue blocks its reader), so it lets those speak first who miss one; who stood still itself says so. */
static oc_status late_say(const oc_comm *c, mpi_state *s, const oc_comm_call *call, int64_t waited_ns, int64_t still_ns)
{
    if (still_ns > call->timeout_ns / 2)
        return broken(s, OC_FAIL(OC_EFAILED,
                                 "this rank itself stood still for %.1f s (%s, exchange %llu): stopped, or "
                                 "its machine was asleep",
                                 (double)still_ns * 1e-9, call->what, (unsigned long long)s->sequence));
    if (missing_count(c, s) > 1 && waited_ns <= call->timeout_ns + SECOND_LOOK_NS) return OC_OK;
    return missing_name(c, s, call->what, (double)waited_ns * 1e-9);
}

/* Who waits long sleeps between two looks: another rank may need this core. */
static void nap(const mpi_state *s, int64_t waited_ns)
{
    const struct timespec pause = {.tv_nsec = NAP_NS};
    if (waited_ns < s->spin_ns)
        sched_yield();
    else
        (void)nanosleep(&pause, NULL);
}

/* Until all requests are done; heads: a failure that has arrived ends it at once. */
static oc_status requests_await(const oc_comm *c, mpi_state *s, const oc_comm_call *call, bool heads)
{
    int64_t start = oc_clock_monotonic_ns(), last = 0;
    for (;;) {
        int done = 0;
        if (MPI_Testsome(2 * c->ranks, s->requests, &done, s->indices, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
            return missing_name(c, s, call->what, (double)(oc_clock_monotonic_ns() - start) * 1e-9);
        if (heads && done != 0) OC_TRY(failure_seen(c, s));
        if (done == MPI_UNDEFINED) return OC_OK; /* none is left */
        int64_t waited = oc_clock_monotonic_ns() - start;
        if (done == 0 && !(waited <= call->timeout_ns)) OC_TRY(late_say(c, s, call, waited, waited - last));
        if (done == 0) nap(s, waited);
        last = waited;
    }
}

/* --- an exchange --- */

static oc_status refuse(mpi_state *s, const char *what, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    (void)MPI_Error_string(code, text, &length);
    return broken(s, OC_FAIL(OC_EFAILED, "%s: MPI says: %s", what, text));
}

static oc_status heads_exchange(oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    int code = MPI_SUCCESS;
    for (int i = 0; i < 2 * c->ranks; i++) s->requests[i] = MPI_REQUEST_NULL;
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank) continue;
        s->theirs[r].status = OC_OK;
        if (code == MPI_SUCCESS)
            code = MPI_Irecv(&s->theirs[r], sizeof(head), MPI_BYTE, r, TAG_HEAD, s->world, &s->requests[r]);
    }
    for (int i = 1; i < c->ranks; i++) { /* each begins with its neighbour, so that no rank is everyone's first */
        int r = (c->rank + i) % c->ranks;
        if (code == MPI_SUCCESS)
            code = MPI_Isend(&s->mine, sizeof(head), MPI_BYTE, r, TAG_HEAD, s->world, &s->requests[c->ranks + r]);
    }
    if (code != MPI_SUCCESS) return refuse(s, call->what, code);
    OC_TRY(requests_await(c, s, call, true));
    return OC_OK;
}

/* All must stand at the same call, else bytes would be taken for what they are not. */
static oc_status heads_check(const oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    char name[OC_COMM_NAME];
    for (int r = 0; r < c->ranks; r++) {
        head *h = &s->theirs[r];
        if (r == c->rank) continue;
        h->what[WHAT_BYTES - 1] = '\0';
        if (h->sequence == s->mine.sequence && h->bytes == s->mine.bytes && strcmp(h->what, s->mine.what) == 0)
            continue;
        return broken(s, OC_FAIL(OC_EFAILED,
                                 "%s stands at exchange %llu (%s, %llu bytes), %s at %llu (%s, %llu bytes): the ranks "
                                 "do not run the same job",
                                 rank_name(s, r, name), (unsigned long long)h->sequence, h->what,
                                 (unsigned long long)h->bytes, c->name, (unsigned long long)s->mine.sequence,
                                 call->what, (unsigned long long)call->bytes));
    }
    return OC_OK;
}

static void inline_take(oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    for (int r = 0; r < c->ranks; r++) {
        if (r == c->rank || (call->broadcast && r != 0)) continue;
        memcpy(call->broadcast ? call->data : call->data + (size_t)r * call->bytes, s->theirs[r].body, call->bytes);
    }
}

static oc_status bodies_exchange(oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    int code = MPI_SUCCESS, bytes = (int)call->bytes;
    const unsigned char *own = call->broadcast ? call->data : call->data + (size_t)c->rank * call->bytes;
    for (int i = 1; i < c->ranks && code == MPI_SUCCESS; i++) {
        int r = (c->rank + c->ranks - i) % c->ranks;
        unsigned char *into = call->broadcast ? call->data : call->data + (size_t)r * call->bytes;
        if (!call->broadcast || r == 0) code = MPI_Irecv(into, bytes, MPI_BYTE, r, TAG_BODY, s->world, &s->requests[r]);
    }
    for (int i = 1; i < c->ranks && code == MPI_SUCCESS; i++) {
        int r = (c->rank + i) % c->ranks;
        if (!call->broadcast || c->rank == 0)
            code = MPI_Isend(own, bytes, MPI_BYTE, r, TAG_BODY, s->world, &s->requests[c->ranks + r]);
    }
    if (code != MPI_SUCCESS) return refuse(s, call->what, code);
    OC_TRY(requests_await(c, s, call, false));
    return OC_OK;
}

static void head_fill(mpi_state *s, const char *what, size_t bytes)
{
    s->mine.sequence = ++s->sequence;
    s->mine.bytes = bytes;
    s->mine.status = OC_OK;
    snprintf(s->mine.what, sizeof s->mine.what, "%s", what);
}

/* A sum has not ended, and a collective does not say for whom it waits: the living come here within moments of each
 * other, since all began it together. */
static oc_status sum_late(oc_comm *c, mpi_state *s, const oc_comm_call *call, int64_t waited_ns)
{
    const oc_comm_call again = {.what = call->what, .timeout_ns = ROLL_CALL_NS};
    head_fill(s, call->what, 0);
    oc_status status = heads_exchange(c, s, &again);
    if (status != OC_OK) return broken(s, status);
    return broken(s, OC_FAIL(OC_EFAILED,
                             "%s: all %d ranks answer, but their sum has not ended after %.1f s: the network is too "
                             "slow for comm.timeout_ns, or MPI is at fault",
                             call->what, c->ranks, (double)waited_ns * 1e-9));
}

static oc_status sum_run(oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    MPI_Request request;
    int64_t start = oc_clock_monotonic_ns();
    int code = MPI_Iallreduce(MPI_IN_PLACE, call->data, (int)(call->bytes / sizeof(float)), MPI_FLOAT, MPI_SUM,
                              s->world, &request);
    for (int done = 0; code == MPI_SUCCESS; nap(s, oc_clock_monotonic_ns() - start)) {
        code = MPI_Test(&request, &done, MPI_STATUS_IGNORE);
        if (code == MPI_SUCCESS && done) return OC_OK;
        int64_t waited = oc_clock_monotonic_ns() - start;
        if (!(waited <= call->timeout_ns)) return sum_late(c, s, call, waited);
    }
    return refuse(s, call->what, code);
}

static oc_status exchange_guarded(oc_comm *c, mpi_state *s, const oc_comm_call *call)
{
    bool small = call->bytes <= BODY_BYTES && !call->sum;
    int64_t start = oc_clock_monotonic_ns();
    head_fill(s, call->what, call->bytes);
    if (small && call->bytes)
        memcpy(s->mine.body, call->broadcast ? call->data : call->data + (size_t)c->rank * call->bytes, call->bytes);
    OC_TRY(heads_exchange(c, s, call));
    int64_t met = oc_clock_monotonic_ns();
    c->wait_ns += met - start;
    OC_TRY(heads_check(c, s, call));
    if (small)
        inline_take(c, s, call);
    else if (call->sum)
        OC_TRY(sum_run(c, s, call));
    else
        OC_TRY(bodies_exchange(c, s, call));
    c->move_ns += oc_clock_monotonic_ns() - met;
    return OC_OK;
}

static oc_status mpi_exchange(oc_comm *c, const oc_comm_call *call)
{
    mpi_state *s = c->state;
    if (call->bytes > INT_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: %zu bytes from each rank; MPI moves at most %d", call->what, call->bytes,
                       INT_MAX);
    train_guard(c->name, call->what,
                train_guard_seconds(call->timeout_ns + (call->sum ? ROLL_CALL_NS + SECOND_LOOK_NS : 0)));
    oc_status status = exchange_guarded(c, s, call);
    train_guard(NULL, NULL, 0);
    return status;
}

/* --- the end --- */

/* The others stand in their next exchange, or will: this head is what they get there. */
static void others_tell(oc_comm *c, mpi_state *s, oc_status status)
{
    const oc_comm_call call = {.what = "failure", .timeout_ns = GRACE_SECONDS * OC_SECOND_NS};
    char why[sizeof s->failure]; /* what the caller will say; a wait that fails must not take its place */
    snprintf(why, sizeof why, "%s", oc_status_message());
    s->mine.sequence = ++s->sequence;
    s->mine.bytes = 0;
    s->mine.status = (int32_t)status;
    snprintf(s->mine.what, sizeof s->mine.what, "%s", call.what);
    snprintf(s->mine.body, sizeof s->mine.body, "%.*s", BODY_BYTES - 1, why);
    for (int i = 0; i < 2 * c->ranks; i++) s->requests[i] = MPI_REQUEST_NULL;
    for (int r = 0; r < c->ranks; r++) {
        if (r != c->rank)
            (void)MPI_Isend(&s->mine, sizeof(head), MPI_BYTE, r, TAG_HEAD, s->world, &s->requests[c->ranks + r]);
    }
    oc_status sent = requests_await(c, s, &call, false);
    if (sent != OC_OK) (void)OC_FAIL(status, "%s", why); /* who does not take it finds out by its own deadline */
    s->broken = false;
}

static void requests_drop(const oc_comm *c, mpi_state *s)
{
    for (int i = 0; i < 2 * c->ranks; i++) {
        if (s->requests[i] == MPI_REQUEST_NULL) continue;
        (void)MPI_Cancel(&s->requests[i]);
        (void)MPI_Request_free(&s->requests[i]);
    }
}

static void state_free(mpi_state *s)
{
    void *const blocks[] = {s->theirs, s->requests, s->indices, s->hosts, s};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) oc_memory_free(blocks[i]);
}

static void mpi_close(oc_comm *c, oc_status status)
{
    mpi_state *s = c->state;
    train_guard_close(c->name, "the end of MPI", status != OC_OK, FINALIZE_SECONDS + GRACE_SECONDS);
    if (s->broken) {
        oc_log(OC_LOG_ERROR, "%s: %s", c->name, s->failure);
        MPI_Abort(s->world, oc_status_exit_code(OC_EFAILED));
        _exit(oc_status_exit_code(OC_EFAILED));
    }
    if (status != OC_OK && !s->told) others_tell(c, s, status);
    requests_drop(c, s);
    MPI_Finalize();
    train_guard(NULL, NULL, 0);
    state_free(s);
}

/* --- the beginning --- */

static const oc_comm_kind mpi_kind = {.name = "mpi", .exchange = mpi_exchange, .close = mpi_close};

static oc_status state_take(oc_comm *out, mpi_state **taken)
{
    mpi_state *s;
    size_t ranks = (size_t)out->ranks;
    OC_TRY(oc_memory_new(&s, sizeof *s, "ranks"));
    out->state = *taken = s;
    OC_TRY(oc_memory_new_array(&s->theirs, ranks, sizeof *s->theirs, "ranks"));
    OC_TRY(oc_memory_new_array(&s->requests, 2 * ranks, sizeof *s->requests, "ranks"));
    OC_TRY(oc_memory_new_array(&s->indices, 2 * ranks, sizeof *s->indices, "ranks"));
    OC_TRY(oc_memory_new_array(&s->hosts, ranks, sizeof *s->hosts, "ranks"));
    for (size_t i = 0; i < 2 * ranks; i++) s->requests[i] = MPI_REQUEST_NULL;
    return OC_OK;
}

/* The first exchange: everyone's host. */
static oc_status hosts_learn(oc_comm *out, mpi_state *s, int64_t timeout_ns)
{
    host *hosts;
    OC_TRY(oc_memory_new_array(&hosts, (size_t)out->ranks, sizeof *hosts, "ranks"));
    if (gethostname(hosts[out->rank].name, sizeof hosts->name - 1) != 0)
        snprintf(hosts[out->rank].name, sizeof hosts->name, "an unnamed host");
    oc_status status = oc_comm_gather(out, "hosts", hosts, sizeof *hosts, timeout_ns);
    if (status == OC_OK) memcpy(s->hosts, hosts, (size_t)out->ranks * sizeof *hosts);
    oc_memory_free(hosts);
    OC_TRY(status);
    out->local = 0;
    for (int r = 0; r < out->ranks; r++) {
        s->hosts[r].name[sizeof s->hosts[r].name - 1] = '\0';
        const bool here = strcmp(s->hosts[r].name, s->hosts[out->rank].name) == 0;
        out->local += here;
        out->place += here && r < out->rank;
    }
    rank_name(s, out->rank, out->name);
    s->spin_ns = out->local <= sysconf(_SC_NPROCESSORS_ONLN) ? SPIN_NS : 0;
    return OC_OK;
}

oc_status oc_comm_mpi_open(oc_comm *out, int64_t timeout_ns)
{
    int provided, rank = 0, ranks = 1;
    mpi_state *s = NULL;
    train_guard(out->name, "MPI_Init", train_guard_seconds(timeout_ns));
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return OC_FAIL(OC_EFAILED, "MPI does not start; is this the MPI of the launcher?");
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    train_guard(NULL, NULL, 0);
    *out = (oc_comm){.kind = &mpi_kind, .rank = rank, .ranks = ranks, .local = 1};
    snprintf(out->name, sizeof out->name, "rank %d", rank);
    oc_status status = state_take(out, &s);
    if (status != OC_OK) { /* without memory for some kilobytes nothing can be told to the others */
        MPI_Abort(MPI_COMM_WORLD, oc_status_exit_code(status));
        return status;
    }
    s->world = MPI_COMM_WORLD;
    MPI_Comm_set_errhandler(s->world, MPI_ERRORS_RETURN);
    status = hosts_learn(out, s, timeout_ns);
    if (status != OC_OK) oc_comm_close(out, status);
    OC_TRY(status);
    return OC_OK;
}

const char *oc_comm_mpi_version(void)
{
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "MPI";
    text[strcspn(text, ",\n")] = '\0';
    return text;
}
