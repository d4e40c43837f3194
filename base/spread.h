/* spread.h - times as counts in buckets of 0.8 % of their value, so that p99.9 and the largest of millions cost 58 KB
 * and an addition each. 256 buckets of 1, then 128 an octave (log-linear, as HdrHistogram has them [Tene13]). One
 * writer. */
#ifndef OC_BASE_SPREAD_H
#define OC_BASE_SPREAD_H

#include <stdint.h>

enum { OC_SPREAD_LINEAR = 256, OC_SPREAD_OCTAVE = 128, OC_SPREAD_BUCKETS = 256 + 55 * 128 };

typedef struct oc_spread { /* all zero: empty */
    uint64_t count, buckets[OC_SPREAD_BUCKETS];
    int64_t max; /* exact */
} oc_spread;

void oc_spread_add(oc_spread *s, int64_t value); /* below 0 counts as 0 */
/* The value that a share q in [0, 1] does not exceed: its bucket's upper end, at most max. NaN where it is empty. */
double oc_spread_quantile(const oc_spread *s, double q);

#endif
