/* returns.h - what the answers of a model would have earned, one dated return a sample, as the ledger keeps them:
 * position by argmax (buy +1, sell -1, hold 0) times the label's return from base price to horizon, less the cost of
 * the position: half the spread at either end, taken as one spread of the row over its mid. Returns of neighbouring
 * samples overlap. */
#ifndef OC_EVALUATE_RETURNS_H
#define OC_EVALUATE_RETURNS_H

#include "evaluate/context.h"

/* Of the first label, in order of time; [samples.count] each, caller's. */
void oc_returns_compute(const evaluation *e, int64_t *time_ns, double *returns);

#endif
