/* comm_mpi.h - the MPI kind of comm.h, in builds that have MPI; oc_comm_open chooses it. */
#ifndef OC_TRAIN_COMM_MPI_H
#define OC_TRAIN_COMM_MPI_H

#include "train/comm.h"

OC_MUST oc_comm_mpi_open(oc_comm *out, int64_t timeout_ns);
const char *oc_comm_mpi_version(void); /* "Open MPI v4.1.4, …" */

#endif
