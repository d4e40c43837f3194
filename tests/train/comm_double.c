/* comm_double.c - see comm_double.h. A rank posts where its bytes lie, waits until all have posted, copies, and waits
 * until all have copied. */
#include "train/comm_double.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/random.h"
#include "train/train.h"

typedef struct seat {
    double_net *net;
    const oc_comm_call *call;
    int64_t posted, copied; /* exchanges */
    oc_status failed;
    bool harmed;
    char message[256];
} seat;

struct double_net {
    int ranks;
    double_fault fault;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    seat seats[];
};

static void nap(int64_t ns)
{
    const struct timespec time = {.tv_sec = (time_t)(ns / OC_SECOND_NS), .tv_nsec = (long)(ns % OC_SECOND_NS)};
    (void)nanosleep(&time, NULL);
}

static bool behind(const double_net *net, int rank, int64_t turn, bool copying)
{
    return (copying ? net->seats[rank].copied : net->seats[rank].posted) < turn;
}

static oc_status late_name(const double_net *net, const oc_comm_call *call, int64_t turn, bool copying)
{
    char names[256] = "";
    size_t used = 0;
    for (int r = 0; r < net->ranks && used < sizeof names - 32; r++) {
        if (behind(net, r, turn, copying)) used += (size_t)snprintf(names + used, sizeof names - used, " rank %d", r);
    }
    return OC_FAIL(OC_EFAILED, "no answer from%s (%s, exchange %lld)", names, call->what, (long long)turn);
}

/* With the lock held. */
static oc_status all_await(double_net *net, const oc_comm_call *call, int64_t turn, bool copying,
                           const struct timespec *until)
{
    for (;;) {
        int left = 0;
        for (int r = 0; r < net->ranks; r++) {
            const seat *s = &net->seats[r];
            if (!behind(net, r, turn, copying)) continue;
            if (s->failed != OC_OK) return OC_FAIL(s->failed, "rank %d has failed: %s", r, s->message);
            left++;
        }
        if (left == 0) return OC_OK;
        if (pthread_cond_timedwait(&net->changed, &net->lock, until) == ETIMEDOUT)
            return late_name(net, call, turn, copying);
    }
}

/* From the last rank to the first: an order that is not the tree's. Kept apart until all have read. */
static void sum(const double_net *net, const oc_comm_call *call, float *out)
{
    for (int r = net->ranks - 1; r >= 0; r--) {
        const oc_comm_call *theirs = net->seats[r].call;
        if (!theirs->sum || theirs->bytes != call->bytes || strcmp(theirs->what, call->what) != 0) abort();
        const float *from = (const float *)(const void *)theirs->data;
        for (size_t i = 0; i < call->bytes / sizeof *from; i++)
            out[i] = r == net->ranks - 1 ? from[i] : out[i] + from[i];
    }
}

static void copy(const double_net *net, int rank, const oc_comm_call *call)
{
    for (int r = 0; r < net->ranks; r++) {
        const oc_comm_call *theirs = net->seats[r].call;
        if (r == rank || (call->broadcast && r != 0)) continue;
        size_t at = call->broadcast ? 0 : (size_t)r * call->bytes;
        if (theirs->bytes != call->bytes || strcmp(theirs->what, call->what) != 0) abort();
        memcpy(call->data + at, theirs->data + at, call->bytes);
    }
}

static void harm(double_net *net, int rank, const oc_comm_call *call, double_fault_kind kind)
{
    seat *own = &net->seats[rank];
    const double_fault *f = &net->fault;
    const float nan = NAN;
    if (f->kind != kind || f->rank != rank || own->posted < f->at || own->harmed || strcmp(call->what, f->what) != 0)
        return;
    if (kind == DOUBLE_FLIPPED) /* in another rank's first number, or in the sum, among the lower bits */
        call->data[(rank == 0 && !call->sum ? call->bytes : 0) + 2] ^= 1;
    else
        memcpy(call->data + (call->sum ? 0 : (size_t)rank * call->bytes), &nan, sizeof nan);
    own->harmed = true;
}

static oc_status exchange(oc_comm *c, const oc_comm_call *call)
{
    seat *own = c->state;
    double_net *net = own->net;
    const double_fault *f = &net->fault;
    const int64_t turn = own->posted + 1;
    struct timespec until;
    if (f->jitter_seed)
        nap((int64_t)(2e5 * oc_random_uniform(oc_random_key(f->jitter_seed, OC_RANDOM_TEST, (uint64_t)c->rank, 0),
                                              (uint64_t)turn)));
    if (f->kind == DOUBLE_LOST && f->rank == c->rank && turn >= f->at) return OC_FAIL(OC_EFAILED, "this rank is lost");
    if (f->kind == DOUBLE_LATE && f->rank == c->rank && turn == f->at) nap(f->late_ns);
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + call->timeout_ns;
    until.tv_sec += (time_t)(ns / OC_SECOND_NS);
    until.tv_nsec = (long)(ns % OC_SECOND_NS);
    float *summed = call->sum ? malloc(call->bytes + 1) : NULL;
    if (call->sum && !summed) abort();
    harm(net, c->rank, call, DOUBLE_NAN);
    pthread_mutex_lock(&net->lock);
    own->call = call;
    own->posted = turn;
    pthread_cond_broadcast(&net->changed);
    oc_status status = all_await(net, call, turn, false, &until);
    if (status == OC_OK) {
        if (call->sum)
            sum(net, call, summed);
        else
            copy(net, c->rank, call);
        own->copied = turn;
        pthread_cond_broadcast(&net->changed);
        status = all_await(net, call, turn, true, &until);
        if (status == OC_OK && call->sum) memcpy(call->data, summed, call->bytes);
        if (status == OC_OK) harm(net, c->rank, call, DOUBLE_FLIPPED);
    }
    pthread_mutex_unlock(&net->lock);
    free(summed);
    if (f->kind == DOUBLE_STOPPED && f->rank == c->rank && turn == f->at) oc_train_request_stop();
    return status;
}

/* A lost rank tells nobody: it is gone. */
static void rank_close(oc_comm *c, oc_status status)
{
    seat *own = c->state;
    double_net *net = own->net;
    if (status == OC_OK || (net->fault.kind == DOUBLE_LOST && net->fault.rank == c->rank)) return;
    pthread_mutex_lock(&net->lock);
    if (strstr(oc_status_message(), "has failed: ") == NULL && strstr(oc_status_message(), "no answer") == NULL) {
        own->failed = status;
        snprintf(own->message, sizeof own->message, "%s", oc_status_message());
    }
    pthread_cond_broadcast(&net->changed);
    pthread_mutex_unlock(&net->lock);
}

static const oc_comm_kind kind = {.name = "double", .exchange = exchange, .close = rank_close};

double_net *double_open(int ranks, double_fault fault)
{
    pthread_condattr_t monotonic;
    double_net *net = calloc(1, sizeof *net + (size_t)ranks * sizeof *net->seats);
    if (!net) abort();
    net->ranks = ranks;
    net->fault = fault;
    pthread_mutex_init(&net->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&net->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (int r = 0; r < ranks; r++) net->seats[r].net = net;
    return net;
}

oc_comm double_rank(double_net *net, int rank)
{
    oc_comm c = {.kind = &kind, .state = &net->seats[rank], .rank = rank, .ranks = net->ranks, .local = net->ranks};
    snprintf(c.name, sizeof c.name, "rank %d", rank);
    return c;
}

void double_close(double_net *net)
{
    pthread_cond_destroy(&net->changed);
    pthread_mutex_destroy(&net->lock);
    free(net);
}
