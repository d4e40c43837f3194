/* fake_nccl.c - a double of NCCL with its binary interface (kernels/cuda/nccl_api.h), loaded in its place by
 * OUTCRY_NCCL: moves the emulated device's memory between processes through a file that all map, named by the unique
 * id. It is strict where NCCL forgives (a call while another is under way, other counts on other ranks) and as silent
 * as NCCL at its worst: the death of a rank is noticed by nobody, what waits for it waits for ever.
 *
 * OUTCRY_FAKE_NCCL=CALL:HOW[:N][,...] spoils the Nth (1) of a call and, but for late and fail, all after it:
 *   fail    returns a system error          late    returns half a second later
 *   never   does not return                 stuck   says "in progress" for ever
 *   broken  is accepted, and fails when asked how it went
 *   old     ncclGetVersion: says 2.13 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernels/cuda/nccl_api.h"

#define SHOWN __attribute__((visibility("default")))

enum { RANKS_MAX = 64, CHUNK_FLOATS = 1 << 14 };

typedef struct seat {
    _Atomic uint64_t posted, taken; /* chunks */
    _Atomic int joined;
    uint64_t count;
    int work;
    float chunk[CHUNK_FLOATS];
} seat;

typedef struct table {
    seat seats[RANKS_MAX];
} table;

typedef enum { NOTHING, JOIN, GATHER, SUM } work;

struct oc_nccl_comm {
    table *t;
    int rank, ranks;
    work work;
    const float *send;
    float *receive;
    size_t count, at; /* at: of the chunk under way */
    uint64_t chunk;   /* all chunks so far */
    bool posted, stuck, broken;
    char path[OC_NCCL_ID_BYTES], last[160];
};

/* --- faults --- */

static void nap(long ns)
{
    const struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    (void)nanosleep(&time, NULL);
}

/* What the environment wants of a call, NULL where nothing. */
static const char *wish_find(const char *call)
{
    const size_t length = strlen(call);
    for (const char *at = getenv("OUTCRY_FAKE_NCCL"); at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, call, length) == 0 && at[length] == ':') return at + length + 1;
    return NULL;
}

/* The first letter of how a call is spoilt, 0 where it is not. late and never are done here. */
static char fault(const char *call, int *times)
{
    const char *how = wish_find(call);
    if (!how) return 0;
    const size_t word = strcspn(how, ":,");
    const int nth = how[word] == ':' ? (int)strtol(how + word + 1, NULL, 10) : 1;
    (*times)++;
    if (*times < nth || (*times > nth && (how[0] == 'f' || how[0] == 'l'))) return 0;
    if (how[0] == 'l') nap(500000000);
    while (how[0] == 'n') nap(1000000000);
    return how[0];
}

#define FAULT(call)                                                                                                    \
    static int times_;                                                                                                 \
    const char how_ = fault(call, &times_);                                                                            \
    if (how_ == 'f') return OC_NCCL_SYSTEM_ERROR

/* --- progress: what NCCL's threads and the device would do --- */

static bool all_reached(const oc_nccl_comm *c, uint64_t chunk, bool taken)
{
    for (int r = 0; r < c->ranks; r++)
        if (atomic_load(taken ? &c->t->seats[r].taken : &c->t->seats[r].posted) < chunk) return false;
    return true;
}

static bool all_joined(const oc_nccl_comm *c)
{
    for (int r = 0; r < c->ranks; r++)
        if (!atomic_load(&c->t->seats[r].joined)) return false;
    return true;
}

static size_t chunk_count(const oc_nccl_comm *c)
{
    return c->count - c->at < CHUNK_FLOATS ? c->count - c->at : CHUNK_FLOATS;
}

static void chunk_post(oc_nccl_comm *c)
{
    seat *own = &c->t->seats[c->rank];
    if (chunk_count(c)) memcpy(own->chunk, c->send + c->at, chunk_count(c) * sizeof(float));
    own->count = c->count;
    own->work = c->work;
    atomic_store(&own->posted, c->chunk + 1);
    c->posted = true;
}

static bool chunk_take(oc_nccl_comm *c)
{
    const size_t n = chunk_count(c);
    for (int r = 0; r < c->ranks; r++) {
        const seat *s = &c->t->seats[r];
        if (s->count != c->count || s->work != (int)c->work) {
            snprintf(c->last, sizeof c->last, "rank %d moves %llu numbers by another call than rank %d", r,
                     (unsigned long long)s->count, c->rank);
            return false;
        }
        if (c->work == GATHER && n) memcpy(c->receive + (size_t)r * c->count + c->at, s->chunk, n * sizeof(float));
        for (size_t i = 0; c->work == SUM && i < n; i++)
            c->receive[c->at + i] = r == 0 ? s->chunk[i] : c->receive[c->at + i] + s->chunk[i];
    }
    atomic_store(&c->t->seats[c->rank].taken, ++c->chunk);
    c->posted = false;
    c->at += n;
    return true;
}

static oc_nccl_result move(oc_nccl_comm *c)
{
    for (;;) {
        if (!c->posted) {
            if (!all_reached(c, c->chunk, true)) return OC_NCCL_IN_PROGRESS;
            chunk_post(c);
        }
        if (!all_reached(c, c->chunk + 1, false)) return OC_NCCL_IN_PROGRESS;
        if (!chunk_take(c)) return OC_NCCL_INVALID_ARGUMENT;
        if (c->at >= c->count) return OC_NCCL_SUCCESS;
    }
}

static oc_nccl_result progress(oc_nccl_comm *c)
{
    oc_nccl_result result = OC_NCCL_SUCCESS;
    if (c->stuck) return OC_NCCL_IN_PROGRESS;
    if (c->broken) {
        snprintf(c->last, sizeof c->last, "the double was told to break");
        return OC_NCCL_REMOTE_ERROR;
    }
    if (c->work == JOIN && !all_joined(c)) return OC_NCCL_IN_PROGRESS;
    if (c->work == JOIN) (void)unlink(c->path); /* all have it mapped */
    if (c->work == GATHER || c->work == SUM) result = move(c);
    if (result != OC_NCCL_IN_PROGRESS) c->work = NOTHING;
    return result;
}

/* --- the calls --- */

SHOWN oc_nccl_result ncclGetVersion(int *version);
SHOWN oc_nccl_result ncclGetVersion(int *version)
{
    FAULT("ncclGetVersion");
    *version = how_ == 'o' ? 21304 : 22907;
    return OC_NCCL_SUCCESS;
}

SHOWN oc_nccl_result ncclGetUniqueId(oc_nccl_id *id);
SHOWN oc_nccl_result ncclGetUniqueId(oc_nccl_id *id)
{
    const char *folder = getenv("TMPDIR");
    FAULT("ncclGetUniqueId");
    memset(id, 0, sizeof *id);
    if (snprintf(id->bytes, sizeof id->bytes, "%s/fake-nccl-XXXXXX", folder ? folder : "/tmp") >= (int)sizeof id->bytes)
        return OC_NCCL_SYSTEM_ERROR;
    const int fd = mkstemp(id->bytes);
    if (fd < 0) return OC_NCCL_SYSTEM_ERROR;
    close(fd);
    return OC_NCCL_SUCCESS;
}

static table *table_map(const char *path)
{
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    void *at = MAP_FAILED;
    if (fd < 0) return NULL;
    if (ftruncate(fd, sizeof(table)) == 0) at = mmap(NULL, sizeof(table), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

SHOWN oc_nccl_result ncclCommInitRankConfig(oc_nccl_comm **comm, int ranks, oc_nccl_id id, int rank,
                                            oc_nccl_config *config);
SHOWN oc_nccl_result ncclCommInitRankConfig(oc_nccl_comm **comm, int ranks, oc_nccl_id id, int rank,
                                            oc_nccl_config *config)
{
    FAULT("ncclCommInitRankConfig");
    if (config->magic != OC_NCCL_CONFIG_MAGIC || config->size < sizeof *config || config->blocking != 0 || ranks < 1 ||
        ranks > RANKS_MAX || rank < 0 || rank >= ranks)
        return OC_NCCL_INVALID_ARGUMENT;
    oc_nccl_comm *c = calloc(1, sizeof *c);
    if (!c) return OC_NCCL_SYSTEM_ERROR;
    memcpy(c->path, id.bytes, sizeof c->path);
    c->path[sizeof c->path - 1] = '\0';
    c->t = table_map(c->path);
    if (!c->t) {
        free(c);
        return OC_NCCL_SYSTEM_ERROR;
    }
    c->rank = rank;
    c->ranks = ranks;
    c->work = JOIN;
    c->stuck = how_ == 's';
    c->broken = how_ == 'b';
    if (!c->stuck) atomic_store(&c->t->seats[rank].joined, 1);
    *comm = c;
    return OC_NCCL_IN_PROGRESS;
}

SHOWN oc_nccl_result ncclCommGetAsyncError(oc_nccl_comm *comm, oc_nccl_result *state);
SHOWN oc_nccl_result ncclCommGetAsyncError(oc_nccl_comm *comm, oc_nccl_result *state)
{
    FAULT("ncclCommGetAsyncError");
    *state = how_ == 's' ? OC_NCCL_IN_PROGRESS : progress(comm);
    return OC_NCCL_SUCCESS;
}

static oc_nccl_result start(oc_nccl_comm *c, work w, char how)
{
    if (c->work != NOTHING) {
        snprintf(c->last, sizeof c->last, "a call while another is under way");
        return OC_NCCL_INVALID_USAGE;
    }
    c->work = w;
    c->at = 0;
    c->posted = false;
    c->stuck = how == 's';
    c->broken = how == 'b';
    return OC_NCCL_IN_PROGRESS;
}

SHOWN oc_nccl_result ncclAllGather(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_comm *comm,
                                   void *stream);
SHOWN oc_nccl_result ncclAllGather(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_comm *comm,
                                   void *stream)
{
    FAULT("ncclAllGather");
    (void)stream;
    comm->send = send;
    comm->receive = receive;
    comm->count = count;
    return type == OC_NCCL_FLOAT ? start(comm, GATHER, how_) : OC_NCCL_INVALID_ARGUMENT;
}

SHOWN oc_nccl_result ncclAllReduce(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_sum sum,
                                   oc_nccl_comm *comm, void *stream);
SHOWN oc_nccl_result ncclAllReduce(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_sum sum,
                                   oc_nccl_comm *comm, void *stream)
{
    FAULT("ncclAllReduce");
    (void)stream;
    comm->send = send;
    comm->receive = receive;
    comm->count = count;
    return type == OC_NCCL_FLOAT && sum == OC_NCCL_SUM ? start(comm, SUM, how_) : OC_NCCL_INVALID_ARGUMENT;
}

static void comm_free(oc_nccl_comm *c)
{
    (void)munmap(c->t, sizeof(table));
    free(c);
}

SHOWN oc_nccl_result ncclCommAbort(oc_nccl_comm *comm);
SHOWN oc_nccl_result ncclCommAbort(oc_nccl_comm *comm)
{
    FAULT("ncclCommAbort");
    comm_free(comm);
    return OC_NCCL_SUCCESS;
}

SHOWN const char *ncclGetErrorString(oc_nccl_result result);
SHOWN const char *ncclGetErrorString(oc_nccl_result result)
{
    static const char *const texts[] = {"no error",
                                        "unhandled cuda error",
                                        "unhandled system error",
                                        "internal error",
                                        "invalid argument",
                                        "invalid usage",
                                        "remote process exited or there was a network error",
                                        "in progress"};
    return (unsigned)result < sizeof texts / sizeof *texts ? texts[result] : "unknown result";
}

SHOWN const char *ncclGetLastError(oc_nccl_comm *comm);
SHOWN const char *ncclGetLastError(oc_nccl_comm *comm)
{
    return comm ? comm->last : "";
}
