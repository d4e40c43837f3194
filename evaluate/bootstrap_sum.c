/* bootstrap_sum.c - circular block bootstrap of a sum, such as a P&L that is the sum of the changes of stretches of
 * time: blocks of neighbours are drawn until there are as many as before [Politis92]. */
#include <math.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/stats.h"
#include "evaluate/metrics.h"

static double resampled(const double *before, size_t count, const oc_bootstrap_rule *rule, size_t number)
{
    uint32_t key = oc_random_key(rule->seed, OC_RANDOM_BOOTSTRAP, number, 1);
    double sum = 0;
    for (size_t done = 0, draw = 0; done < count; draw++) {
        size_t length = rule->block < count - done ? rule->block : count - done;
        size_t first = oc_random_below(key, draw, count), last = first + length;
        sum += before[last < count ? last : count] - before[first];
        if (last > count) sum += before[last - count];
        done += length;
    }
    return sum;
}

oc_status oc_bootstrap_sum(oc_interval_of *out, const double *x, size_t count, const oc_bootstrap_rule *rule)
{
    if (!(count > 0 && rule->block > 0 && rule->block <= count && rule->resamples > 0 && rule->level > 0 &&
          rule->level < 1))
        return OC_FAIL(OC_EDATA, "bootstrap: %zu samples, block %zu, %zu resamples, level %g", count, rule->block,
                       rule->resamples, rule->level);
    double *before = NULL, *draws = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&before, count + 1, sizeof *before, "bootstrap"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&draws, rule->resamples, sizeof *draws, "bootstrap"));
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) OC_TRY_GOTO(status, done, OC_FAIL(OC_EDATA, "bootstrap: sample %zu is not finite", i));
        before[i + 1] = before[i] + x[i];
    }
    for (size_t r = 0; r < rule->resamples; r++) draws[r] = resampled(before, count, rule, r);
    out->value = before[count];
    out->low = oc_quantile(draws, rule->resamples, (1 - rule->level) / 2);
    out->high = oc_quantile(draws, rule->resamples, (1 + rule->level) / 2);
done:
    oc_memory_free(before);
    oc_memory_free(draws);
    return status;
}
