/* link.h - vectors between the devices of a job's ranks, without the host between them: NCCL behind the CUDA backend,
 * nothing behind the CPU's. All ranks make the same calls in the same order. Every call only starts something, behind
 * what was enqueued on the backend before; what is enqueued there afterwards runs beside it, and must leave its memory
 * alone until oc_link_poll has said OC_LINK_DONE. The next may start once it says OC_LINK_RUNS. Nothing here waits or
 * knows which rank does not come: the caller bounds the time (train/link.h). */
#ifndef OC_KERNELS_LINK_H
#define OC_KERNELS_LINK_H

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_LINK_ID_BYTES = 128 };

typedef struct oc_link oc_link;
typedef enum { OC_LINK_STARTS, OC_LINK_RUNS, OC_LINK_DONE } oc_link_state; /* of all that was started */
typedef struct oc_link_seat {
    unsigned char id[OC_LINK_ID_BYTES]; /* of the whole job: rank 0 makes it, the others are told */
    int rank, ranks;
} oc_link_seat;

/* OC_EFAILED: no NCCL, and why. */
OC_MUST oc_link_id(oc_backend *b, unsigned char id[OC_LINK_ID_BYTES]);
OC_MUST oc_link_open(oc_link **out, oc_backend *b, const oc_link_seat *seat); /* the backend outlives it */
/* all [ranks][count]: each rank's own block lies in its place, all blocks on every rank afterwards. */
OC_MUST oc_link_gather(oc_link *l, float *all, size_t count);
/* The sum of all ranks' data, in an order that NCCL chooses: the same bits on every rank, others for other counts. */
OC_MUST oc_link_sum(oc_link *l, float *data, size_t count);
OC_MUST oc_link_poll(oc_link *l, oc_link_state *state); /* a failure of what was started is returned here */
/* Waits for nobody: what is under way is aborted. So all ranks should have said that they are done. NULL is fine. */
void oc_link_close(oc_link *l);

#ifdef __cplusplus
}
#endif
#endif
