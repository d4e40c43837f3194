/* link.h - the gradients of ranks on GPUs: kernels/link.h with its time bounded and its faults named. What NCCL cannot
 * tell, who does not come, the ranks find out over their comm (comm.h), which every rank has beside it. */
#ifndef OC_TRAIN_LINK_H
#define OC_TRAIN_LINK_H

#include "kernels/link.h"
#include "train/comm.h"

typedef struct train_link train_link;

/* All ranks together; timeout_ns: also for the slowest to come. b and comm outlive it. */
OC_MUST train_link_open(train_link **out, oc_comm *comm, oc_backend *b, int64_t timeout_ns);
/* all [ranks][count] in b's memory, each rank's own block in its place. Starts, behind what was enqueued on b, and
 * returns when the next may start; what is enqueued on b afterwards runs beside it, in bounded time after the last
 * start, or the process ends. train_link_await waits until all of what was started is there. */
OC_MUST train_link_gather(train_link *l, const char *what, float *all, size_t count, int64_t timeout_ns);
/* data [count]: the sum over the ranks, in NCCL's order. */
OC_MUST train_link_sum(train_link *l, const char *what, float *data, size_t count, int64_t timeout_ns);
OC_MUST train_link_await(train_link *l, const char *what, int64_t timeout_ns);
int64_t train_link_starts(const train_link *l); /* gathers and sums so far */
/* Waits for nobody: ranks that go on to it have agreed over comm that all are done, or have failed. Bounded. NULL is
 * fine. */
void train_link_close(train_link *l);
/* One has failed, or is under way: what waits for the device may wait for ever. */
bool train_link_broken(const train_link *l);

#endif
