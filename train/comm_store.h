/* comm_store.h - the --store kind of comm.h: ranks as plain processes that meet at rank 0's host:port, with neither MPI
 * nor a shared file system. It carries what ranks agree on; gradients go between GPUs, by NCCL (train/link.h). */
#ifndef OC_TRAIN_COMM_STORE_H
#define OC_TRAIN_COMM_STORE_H

#include "train/comm.h"

/* Rank 0 listens, the others try until timeout_ns is over. OUTCRY_JOB in the environment, where set, must be the same
 * on all ranks. */
OC_MUST oc_comm_store_open(oc_comm *out, const oc_comm_place *place, int64_t timeout_ns);

#endif
