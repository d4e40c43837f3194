/* comm_double.h - the ranks of a job as threads of one process, behind train/comm.h: a network whose messages come
 * late, come wrong or never come, as the test says. Nothing of MPI is needed. */
#ifndef OC_TESTS_TRAIN_COMM_DOUBLE_H
#define OC_TESTS_TRAIN_COMM_DOUBLE_H

#include "train/comm.h"

typedef enum { DOUBLE_NONE, DOUBLE_LOST, DOUBLE_LATE, DOUBLE_FLIPPED, DOUBLE_NAN, DOUBLE_STOPPED } double_fault_kind;

typedef struct double_fault {
    /* lost: never answers again; late: by late_ns; flipped: one bit of what it receives; nan: its first number;
     * stopped: a signal comes that all shall stop, behind that exchange */
    double_fault_kind kind;
    int rank;
    int64_t at; /* which exchange of that rank, from 1; flipped, nan: the first of `what` from there on */
    const char *what;
    int64_t late_ns;
    uint64_t jitter_seed; /* not 0: every message is up to 0.2 ms late */
} double_fault;

typedef struct double_net double_net;

double_net *double_open(int ranks, double_fault fault);
oc_comm double_rank(double_net *net, int rank);
void double_close(double_net *net); /* when no rank uses it */

#endif
