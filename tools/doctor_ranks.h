/* doctor_ranks.h - outcry doctor --ranks. */
#ifndef OC_TOOLS_DOCTOR_RANKS_H
#define OC_TOOLS_DOCTOR_RANKS_H

#include "tools/cli.h"

/* As one rank of the launcher's. gpu: what is said of this machine's. OC_EFAILED on rank 0: something is wrong. */
OC_MUST oc_doctor_ranks(oc_cli *cli, const char *gpu);

#endif
