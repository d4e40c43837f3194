/* team.h - a team of threads with a fixed split of work: item i of n always belongs to the same worker for the same
 * team size, and whoever needs results that do not depend on the size sums per item, not per worker. Workers spin
 * briefly, then sleep on a futex. A run allocates nothing. */
#ifndef OC_BASE_TEAM_H
#define OC_BASE_TEAM_H

#include <stddef.h>
#include "base/status.h"

typedef struct oc_team oc_team;
typedef void (*oc_team_work)(void *context, int worker, int workers);

OC_MUST oc_team_open(oc_team **out, int threads);      /* threads >= 1, the caller is worker 0; 1 starts no thread */
void oc_team_close(oc_team *t);
int oc_team_size(const oc_team *t);
void oc_team_run(oc_team *t, oc_team_work work, void *context);       /* returns when every worker has */
void oc_team_split(size_t count, int worker, int workers, size_t *first, size_t *last);  /* contiguous, [first, last) */

#endif
