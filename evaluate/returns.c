/* returns.c - see returns.h. */
#include "evaluate/returns.h"

#include "evaluate/metrics.h"

static const double POSITION[OC_CLASS_COUNT] = {[OC_CLASS_BUY] = 1, [OC_CLASS_SELL] = -1, [OC_CLASS_HOLD] = 0};

void oc_returns_compute(const evaluation *e, int64_t *time_ns, double *returns)
{
    const oc_predictions *p = &e->predictions;
    for (size_t k = 0; k < p->count; k++) {
        size_t i = e->order ? e->order[k] : k, row = (size_t)p->row[i];
        double position = POSITION[oc_argmax3(p->probabilities + i * (size_t)p->horizons * 3)];
        double cost = position * position * e->d->spread[row] / e->d->mid[row];
        time_ns[k] = e->d->time_ns[row];
        returns[k] = position * (double)e->labels[0]->return_[row] - cost;
    }
}
