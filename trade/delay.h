/* delay.h - how long a decision takes, from a row's event to its prediction: a fixed time, or one drawn from what was
 * measured. A file of measured delays is JSON:
 *
 *     {"format": "outcry-delays", "version": 1, "count": 48211, "quantiles_ns": [q0, q1, … qN]}
 *
 * where q_i is the delay that a share i / N of all stayed below: q0 the shortest, qN the longest; never falling. A draw
 * is a pure function of (seed, instrument, sequence of the prediction): u in [0, 1), then the line between the two
 * quantiles beside u. So a backtest and a live loop draw the same, in any order, and again after a restart. */
#ifndef OC_TRADE_DELAY_H
#define OC_TRADE_DELAY_H

#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_DELAY_QUANTILES_MAX = 1025, OC_DELAY_BUCKETS = 64 * 64 };
#define OC_DELAY_MAX_NS INT64_C(60000000000)

typedef struct oc_delay {
    uint64_t seed;
    int64_t fixed_ns; /* where count is 0 */
    uint32_t count, reserved;
    int64_t quantile_ns[OC_DELAY_QUANTILES_MAX];
} oc_delay;

/* OC_EDATA names what of the file is wrong. */
OC_MUST oc_delay_load(oc_delay *d, const char *path, uint64_t seed);
int64_t oc_delay_draw(const oc_delay *d, uint32_t instrument, uint64_t sequence);

/* What was measured: exact below 128 ns, above within 1/64 of the value; constant memory. */
typedef struct oc_delay_record {
    uint64_t count, bucket[OC_DELAY_BUCKETS];
    int64_t least_ns, most_ns;
} oc_delay_record;

void oc_delay_add(oc_delay_record *r, int64_t delay_ns);
int64_t oc_delay_quantile(const oc_delay_record *r, double share); /* upper end of its bucket; 0 where empty */
OC_MUST oc_delay_save(const oc_delay_record *r, const char *path); /* OC_EDATA where nothing was measured */

#ifdef __cplusplus
}
#endif
#endif
