/* comm.h - what the ranks of one job say to each other. Six functions, and one that only tells what would be used; one
 * process (comm_single.c), MPI (comm_mpi.c) and a TCP store (comm_store.c) stand behind them, the tests' double a
 * fourth time. All ranks make the same calls in the same order.
 *
 * Every call ends in bounded time. Where a rank is dead, stopped or too slow, the call fails after its timeout and the
 * message names rank and host; where a rank has closed with a failure, all others get its message and its code. */
#ifndef OC_TRAIN_COMM_H
#define OC_TRAIN_COMM_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

enum { OC_COMM_NAME = 96, OC_COMM_RANKS_MAX = 4096 };

typedef struct oc_comm oc_comm;

typedef struct oc_comm_call {
    const char *what; /* for messages: "gradients"; the same on all ranks */
    /* gather: [ranks][bytes], each rank's own block in its place; broadcast: [bytes] of rank 0; sum: [bytes] of floats,
     * each rank's own before, the sum of all after */
    unsigned char *data;
    size_t bytes;
    bool broadcast, sum; /* neither: gather */
    int64_t timeout_ns;
} oc_comm_call;

typedef struct oc_comm_kind { /* what an implementation fills */
    const char *name;
    bool agreements_only; /* moves what ranks agree on; gradients need another way (train/link.h) */
    oc_status (*exchange)(oc_comm *c, const oc_comm_call *call); /* adds to wait_ns and move_ns */
    void (*close)(oc_comm *c, oc_status status);
    /* Between exchanges, at once: fails where the job is known to be over. NULL: the next exchange will tell. */
    oc_status (*look)(oc_comm *c, const char *what);
} oc_comm_kind;

struct oc_comm {
    const oc_comm_kind *kind;
    void *state;
    int rank, ranks, local;   /* local: ranks on this host, this one counted */
    int place;                /* which of these this one is, from 0 */
    char name[OC_COMM_NAME];  /* "rank 3 on host-b", for messages */
    int64_t wait_ns, move_ns; /* so far: until the last rank came, and until its bytes were here */
};

typedef struct oc_comm_place { /* of a process that no launcher started */
    const char *store;         /* rank 0's host:port */
    int rank, ranks;
} oc_comm_place;

oc_comm oc_comm_single(void); /* one rank: gather, broadcast and sum have nothing to do */
/* Where place is given: the ranks that meet at its store, whoever started them. NULL: those of the launcher that
 * started this process (mpirun, srun), one rank where none did. OC_EFAILED: it started several, and this build cannot
 * join them: never several jobs that each believe to be alone. */
OC_MUST oc_comm_open(oc_comm *out, const oc_comm_place *place, int64_t timeout_ns);
const char *oc_comm_about(void); /* what oc_comm_open would use, one line for people */

OC_MUST oc_comm_gather(oc_comm *c, const char *what, void *all, size_t bytes, int64_t timeout_ns);
OC_MUST oc_comm_broadcast(oc_comm *c, const char *what, void *data, size_t bytes, int64_t timeout_ns);
/* In an order that the implementation chooses, so that bits depend on it and on the number of ranks; all ranks get the
 * same. Not gather and the tree, because about two vectors arrive at a rank instead of R - 1. */
OC_MUST oc_comm_sum(oc_comm *c, const char *what, float *data, size_t count, int64_t timeout_ns);
/* Once, by every rank, also after a failure: with its status, which ends the others; after a rank did not answer, this
 * ends the whole job and does not return. */
void oc_comm_close(oc_comm *c, oc_status status);

#endif
