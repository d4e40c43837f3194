/* spread.c - see the header. */
#include "base/spread.h"

#include <math.h>

static int bucket_of(uint64_t v)
{
    if (v < OC_SPREAD_LINEAR) return (int)v;
    const int shift = 63 - __builtin_clzll(v) - 7; /* v >> shift lies in [128, 256) */
    return OC_SPREAD_LINEAR + (shift - 1) * OC_SPREAD_OCTAVE + (int)(v >> shift) - OC_SPREAD_OCTAVE;
}

static int64_t bucket_end(int bucket)
{
    if (bucket < OC_SPREAD_LINEAR) return bucket;
    const int shift = (bucket - OC_SPREAD_LINEAR) / OC_SPREAD_OCTAVE + 1;
    const uint64_t step = (uint64_t)((bucket - OC_SPREAD_LINEAR) % OC_SPREAD_OCTAVE + OC_SPREAD_OCTAVE);
    return (int64_t)(((step + 1) << shift) - 1);
}

void oc_spread_add(oc_spread *s, int64_t value)
{
    if (value < 0) value = 0;
    s->buckets[bucket_of((uint64_t)value)]++;
    s->count++;
    if (value > s->max) s->max = value;
}

double oc_spread_quantile(const oc_spread *s, double q)
{
    if (s->count == 0 || !(q >= 0 && q <= 1)) return (double)NAN;
    const double want = ceil(q * (double)s->count);
    uint64_t seen = 0;
    for (int i = 0; i < OC_SPREAD_BUCKETS; i++) {
        seen += s->buckets[i];
        if (seen == 0 || !((double)seen >= want)) continue;
        const int64_t end = bucket_end(i);
        return (double)(end < s->max ? end : s->max);
    }
    return (double)s->max;
}
