/* study_ranks.c - a study by the ranks of one launcher. Each trains its share of the runs in a second thread, alone, as
 * one of R parts would; the first thread says five times a second that it lives, and hears the same of the others. So a
 * run may take hours, and a rank that is gone is named in seconds. When all shares are done rank 0 merges them. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/build.h"
#include "base/log.h"
#include "base/memory.h"
#include "evaluate/study.h"
#include "train/train.h"

enum { BEAT_NS = 200000000, LEAVE_SECONDS = 2, MESSAGE_BYTES = 1024, BUILD_BYTES = 64 };
typedef enum { WORKING, DONE, STOPPED } stage;

typedef struct share {
    const oc_config *config;
    const char *out;
    int part, parts;
    oc_study_result result;
    oc_status status;
    char message[MESSAGE_BYTES]; /* failures speak to their own thread only */
    atomic_bool ended;
} share;

static void *share_main(void *argument)
{
    share *s = argument;
    s->status = oc_study_run(s->config, s->out, s->part, s->parts, &s->result);
    if (s->status != OC_OK) snprintf(s->message, sizeof s->message, "%s", oc_status_message());
    atomic_store(&s->ended, true);
    return NULL;
}

/* What this rank says of itself; one whose share is done passes a signal on too. A failure becomes the caller's, who
 * ends the others with it. */
static oc_status state_of(share *own, uint8_t *state)
{
    *state = WORKING;
    if (!atomic_load(&own->ended)) return OC_OK;
    *state = own->status == OC_EAGAIN || oc_train_stop_requested() ? STOPPED : DONE;
    if (own->status != OC_OK && own->status != OC_EAGAIN) return OC_FAIL(own->status, "%s", own->message);
    return OC_OK;
}

/* Until no rank works. A signal comes to one rank; all of them save, and end with OC_EAGAIN. */
static oc_status beat(oc_comm *comm, share *own, int64_t timeout_ns)
{
    const struct timespec pause = {.tv_nsec = BEAT_NS};
    uint8_t states[OC_COMM_RANKS_MAX];
    for (;;) {
        OC_TRY(state_of(own, &states[comm->rank]));
        OC_TRY(oc_comm_gather(comm, "study", states, sizeof *states, timeout_ns));
        bool stopped = memchr(states, STOPPED, (size_t)comm->ranks) != NULL;
        if (stopped) oc_train_request_stop();
        if (!memchr(states, WORKING, (size_t)comm->ranks)) {
            if (own->status == OC_EAGAIN) return OC_FAIL(OC_EAGAIN, "%s", own->message);
            if (stopped)
                return OC_FAIL(OC_EAGAIN, "%s: another rank was stopped; all is saved: go on with the same", own->out);
            return OC_OK;
        }
        (void)nanosleep(&pause, NULL);
    }
}

/* The others have failed or are gone: this rank saves if a step is short, and leaves. */
static void leave(oc_comm *comm, pthread_t thread, oc_status status)
{
    struct timespec until;
    oc_train_request_stop();
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LEAVE_SECONDS;
    if (pthread_timedjoin_np(thread, NULL, &until) == 0) return;
    oc_log_failure(OC_LOG_ERROR);
    oc_comm_close(comm, status);
    _exit(oc_status_exit_code(status)); /* a thread still works: nothing may be taken from under it */
}

/* works: this rank has a share of this stage. */
static oc_status stage_run(oc_comm *comm, share *own, bool works, int64_t timeout_ns)
{
    pthread_t thread;
    atomic_store(&own->ended, !works);
    own->status = OC_OK;
    if (works && pthread_create(&thread, NULL, share_main, own) != 0)
        return OC_FAIL(OC_EFAILED, "%s: cannot start a thread", own->out);
    oc_status status = beat(comm, own, timeout_ns);
    if (!works) return status;
    if (status != OC_OK && !atomic_load(&own->ended))
        leave(comm, thread, status);
    else
        pthread_join(thread, NULL);
    return status;
}

/* The runs of one study must come from one program. */
static oc_status builds_compare(oc_comm *comm, int64_t timeout_ns)
{
    char(*builds)[BUILD_BYTES];
    OC_TRY(oc_memory_new_array(&builds, (size_t)comm->ranks, sizeof *builds, "ranks"));
    snprintf(builds[comm->rank], BUILD_BYTES, "%s", oc_build_text());
    oc_status status = oc_comm_gather(comm, "build", builds, sizeof *builds, timeout_ns);
    for (int r = 1; r < comm->ranks && status == OC_OK; r++) {
        if (memcmp(builds[r], builds[0], BUILD_BYTES) != 0)
            status = OC_FAIL(OC_ECONFIG, "the ranks differ in their build: rank 0 has %.63s, rank %d %.63s", builds[0],
                             r, builds[r]);
    }
    oc_memory_free(builds);
    return status;
}

oc_status oc_study_run_ranks(oc_comm *comm, const oc_config *config, const char *out, oc_study_result *result)
{
    const int64_t timeout_ns = oc_config_int(config, "comm.timeout_ns");
    share own = {.config = config, .out = out, .part = comm->rank + 1, .parts = comm->ranks};
    if (comm->ranks == 1) return oc_study_run(config, out, 0, 0, result);
    OC_TRY(builds_compare(comm, oc_config_int(config, "comm.start_timeout_ns")));
    OC_TRY(stage_run(comm, &own, true, timeout_ns));
    own.part = own.parts = 0;
    OC_TRY(stage_run(comm, &own, comm->rank == 0, timeout_ns));
    *result = own.result;
    return OC_OK;
}
