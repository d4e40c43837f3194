/* curve.h - what an account was worth over time, in memory that does not grow: stretches of one length, one behind the
 * other. Where they run out, every two neighbours become one, and a stretch is twice as long from then on. So a run of
 * any length ends with a curve of OC_CURVE_MAX / 2 to OC_CURVE_MAX points (fewer where it is shorter than that many
 * milliseconds), and the same run gives the same curve. */
#ifndef OC_TRADE_CURVE_H
#define OC_TRADE_CURVE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_CURVE_MAX = 2048, OC_CURVE_STEP_NS = 1000000 };        /* STEP: the length to begin with */

typedef struct oc_curve_point {
    int64_t equity_micros, hold_micros;        /* at the end of the stretch: the account, and buy and hold */
    int64_t drawdown_micros;                   /* within it: the largest fall from the highest so far */
} oc_curve_point;

typedef struct oc_curve {
    int64_t start_ns, step_ns;                 /* point i covers start + i x step up to start + (i + 1) x step */
    size_t count;                              /* the last one is still open */
    oc_curve_point latest;                     /* as it was added last */
    oc_curve_point point[OC_CURVE_MAX];
} oc_curve;

/* Times never go backwards. Stretches in which nothing came hold what was before them. */
void oc_curve_add(oc_curve *c, int64_t now_ns, oc_curve_point now);

#ifdef __cplusplus
}
#endif
#endif
