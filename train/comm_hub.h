/* comm_hub.h - the store of a job without a launcher: a thread of rank 0's process to which every rank, rank 0 too, has
 * one connection. It takes their blocks, hands all of them back, and names who does not come: one verdict, the same
 * words for every rank. */
#ifndef OC_TRAIN_COMM_HUB_H
#define OC_TRAIN_COMM_HUB_H

#include "train/comm_wire.h"

typedef struct train_hub train_hub;

/* Listens at `store`, an address of this machine. *own: rank 0's connection, which needs no hello; the caller closes
 * it. All ranks must come within timeout_ns. OC_EFAILED: the address is taken (a second rank 0?) or not ours. */
OC_MUST train_hub_open(train_hub **out, const char *store, int ranks, oc_hash job, int64_t timeout_ns, int *own);
/* Returns when the others have left or have had time to hear the verdict, WIRE_GRACE_NS at most. */
void train_hub_close(train_hub *h);

#endif
