/* fake_nccl.c - a double of NCCL with its binary interface (kernels/cuda/nccl_api.h), loaded in its place by
 * OUTCRY_NCCL: moves the emulated device's memory between processes through a file that all map, named by the unique
 * id. A call is taken when asked for the second time; its data move later, in order, whenever NCCL or the stream is
 * asked. It is strict where NCCL forgives (a call before the last was taken, other counts on other ranks, a stream that
 * no event put behind the work of the others) and as silent as NCCL at its worst: the death of a rank is noticed by
 * nobody, what waits for it waits for ever.
 *
 * OUTCRY_FAKE_NCCL=CALL:HOW[:N][,...] spoils the Nth (1) of a call and, but for late and fail, all after it:
 *   fail    returns a system error          late    returns half a second later
 *   never   does not return                 stuck   says "in progress" for ever
 *   broken  is accepted, and fails when asked how it went      hung  is taken, and never done on the device
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

#include "emulation/outside.h"
#include "kernels/cuda/nccl_api.h"

#define SHOWN __attribute__((visibility("default")))

enum { RANKS_MAX = 64, CHUNK_FLOATS = 1 << 14, OPS_MAX = 64 };

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

typedef enum { GATHER, SUM } work;

typedef struct op {
    work work;
    const float *send;
    float *receive;
    size_t count;
    bool hung;
} op;

struct oc_nccl_comm {
    table *t;
    int rank, ranks;
    op ops[OPS_MAX]; /* a ring: given … done */
    size_t given, done;
    size_t at;      /* in the oldest that is not done: of the chunk under way */
    uint64_t chunk; /* all chunks so far */
    bool joined, fresh, posted, stuck, broken, wrong;
    emulation_outside *stream;
    char path[OC_NCCL_ID_BYTES], last[160];
};

static const op *oldest(const oc_nccl_comm *c)
{
    return &c->ops[c->done % OPS_MAX];
}

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
    const size_t left = oldest(c)->count - c->at;
    return left < CHUNK_FLOATS ? left : CHUNK_FLOATS;
}

static void chunk_post(oc_nccl_comm *c)
{
    seat *own = &c->t->seats[c->rank];
    if (chunk_count(c)) memcpy(own->chunk, oldest(c)->send + c->at, chunk_count(c) * sizeof(float));
    own->count = oldest(c)->count;
    own->work = oldest(c)->work;
    atomic_store(&own->posted, c->chunk + 1);
    c->posted = true;
}

static bool chunk_take(oc_nccl_comm *c)
{
    const size_t n = chunk_count(c);
    const op *o = oldest(c);
    for (int r = 0; r < c->ranks; r++) {
        const seat *s = &c->t->seats[r];
        if (s->count != o->count || s->work != (int)o->work) {
            snprintf(c->last, sizeof c->last, "rank %d moves %llu numbers by another call than rank %d", r,
                     (unsigned long long)s->count, c->rank);
            return false;
        }
        if (o->work == GATHER && n) memcpy(o->receive + (size_t)r * o->count + c->at, s->chunk, n * sizeof(float));
        for (size_t i = 0; o->work == SUM && i < n; i++)
            o->receive[c->at + i] = r == 0 ? s->chunk[i] : o->receive[c->at + i] + s->chunk[i];
    }
    atomic_store(&c->t->seats[c->rank].taken, ++c->chunk);
    c->posted = false;
    c->at += n;
    return true;
}

/* True: the oldest has moved whole. */
static bool oldest_move(oc_nccl_comm *c)
{
    while (!c->wrong && !oldest(c)->hung) {
        if (!c->posted) {
            if (!all_reached(c, c->chunk, true)) return false;
            chunk_post(c);
        }
        if (!all_reached(c, c->chunk + 1, false)) return false;
        c->wrong = !chunk_take(c);
        if (!c->wrong && c->at >= oldest(c)->count) return true;
    }
    return false;
}

/* What the device would do by itself. True: it is not done. */
static bool work_move(void *context)
{
    oc_nccl_comm *c = context;
    while (c->done < c->given && oldest_move(c)) {
        c->done++;
        c->at = 0;
    }
    return c->done < c->given;
}

static oc_nccl_result progress(oc_nccl_comm *c)
{
    if (c->stuck) return OC_NCCL_IN_PROGRESS;
    if (c->broken) {
        snprintf(c->last, sizeof c->last, "the double was told to break");
        return OC_NCCL_REMOTE_ERROR;
    }
    if (!c->joined) {
        if (!all_joined(c)) return OC_NCCL_IN_PROGRESS;
        (void)unlink(c->path); /* all have it mapped */
        c->joined = true;
    }
    (void)work_move(c);
    if (c->wrong) return OC_NCCL_INVALID_ARGUMENT;
    const bool fresh = c->fresh;
    c->fresh = false;
    return fresh ? OC_NCCL_IN_PROGRESS : OC_NCCL_SUCCESS;
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

static oc_nccl_result refuse(oc_nccl_comm *c, const char *why)
{
    snprintf(c->last, sizeof c->last, "%s", why);
    return OC_NCCL_INVALID_USAGE;
}

static oc_nccl_result start(oc_nccl_comm *c, const op *o, oc_nccl_type type, char how, void *stream)
{
    if (type != OC_NCCL_FLOAT) return OC_NCCL_INVALID_ARGUMENT;
    if (!c->joined || c->fresh) return refuse(c, "a call before the last was taken");
    if (c->given - c->done >= OPS_MAX) return refuse(c, "too many calls at once for the double");
    c->stream = stream;
    if (!c->stream->behind_all(c->stream)) return refuse(c, "the stream is not behind what the others were given");
    c->ops[c->given % OPS_MAX] = *o;
    c->ops[c->given++ % OPS_MAX].hung = how == 'h';
    c->fresh = true;
    c->stuck = how == 's';
    c->broken = how == 'b';
    c->stream->busy = work_move;
    c->stream->context = c;
    return OC_NCCL_IN_PROGRESS;
}

SHOWN oc_nccl_result ncclAllGather(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_comm *comm,
                                   void *stream);
SHOWN oc_nccl_result ncclAllGather(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_comm *comm,
                                   void *stream)
{
    FAULT("ncclAllGather");
    return start(comm, &(op){GATHER, send, receive, count, false}, type, how_, stream);
}

SHOWN oc_nccl_result ncclAllReduce(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_sum sum,
                                   oc_nccl_comm *comm, void *stream);
SHOWN oc_nccl_result ncclAllReduce(const void *send, void *receive, size_t count, oc_nccl_type type, oc_nccl_sum sum,
                                   oc_nccl_comm *comm, void *stream)
{
    FAULT("ncclAllReduce");
    if (sum != OC_NCCL_SUM) return OC_NCCL_INVALID_ARGUMENT;
    return start(comm, &(op){SUM, send, receive, count, false}, type, how_, stream);
}

static void comm_free(oc_nccl_comm *c)
{
    if (c->stream) c->stream->busy = NULL;
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
