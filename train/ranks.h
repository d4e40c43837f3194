/* ranks.h - before the first step: do all ranks run the same job, and do all begin where rank 0 does? */
#ifndef OC_TRAIN_RANKS_H
#define OC_TRAIN_RANKS_H

#include "train/loop.h"

/* OC_ECONFIG names the first rank whose build, config, dataset or fold is another than rank 0's, and what differs. */
OC_MUST train_ranks_agree(const train_job *j, bool resume);
/* found: rank 0 has a checkpoint in c and w. All ranks get it, so that only rank 0 needs the folder. */
OC_MUST train_ranks_share(train_job *j, bool *found);
/* Ends together: the others wait here while rank 0 writes. Fills rank_windows; OC_EFAILED: they are not the job's. */
OC_MUST train_ranks_end(train_job *j);

#endif
