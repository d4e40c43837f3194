/* labels.h - what a model is asked to predict. Class 0 buy, 1 sell, 2 hold. Parsed from one text each:
 *   direction:K:THRESHOLD            return from the base price to the mid K rows later, against +-THRESHOLD
 *   direction:DURATION:THRESHOLD     the same, DURATION like 250ms, 10s, 5m, 1h: first row at or after the base time +
 * it smooth:K:THRESHOLD               mean of the next K mids against the base price, as in FI-2010 [Ntakaris18 eq.4]
 *   cost:K:COST                      buy or sell only if the return beats COST plus half the spread at both ends
 * THRESHOLD and COST are returns (0.0002 = 2 bp). Base row of row n: the first row from n on whose time is at or after
 * the time of n + entry_delay_ns (n itself where the delay is 0); K rows and DURATION count from it and its time.
 * Return = mid at the horizon / base mid - 1 in f64, buy where it is > THRESHOLD, sell where it is < -THRESHOLD.
 * `valid` is 0 where the span (n, horizon] crosses a gap, a session break or the end, or a price in it that is used is
 * not finite and positive. known_ns is the time of the last row that the label looked at: changing what comes after it
 * changes no valid label. */
#ifndef OC_DATASETS_LABELS_H
#define OC_DATASETS_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

enum { OC_CLASS_BUY, OC_CLASS_SELL, OC_CLASS_HOLD, OC_CLASS_COUNT };
typedef enum { OC_LABEL_DIRECTION, OC_LABEL_SMOOTH, OC_LABEL_COST } oc_label_kind;

typedef struct oc_label_rule {
    char text[96];                             /* as given; part of every hash */
    oc_label_kind kind;
    int64_t horizon_rows, horizon_ns;          /* one of them is 0 */
    double threshold;
    int64_t entry_delay_ns;
} oc_label_rule;

typedef struct oc_label_series {               /* borrowed inputs of one symbol */
    const int64_t *time_ns;
    const double *mid, *spread;
    const uint8_t *break_before;               /* 1: a gap or session break lies between row - 1 and row */
    size_t rows;
} oc_label_series;

typedef struct oc_label_columns {              /* caller's arrays [rows] */
    int8_t *class_;                            /* 0 1 2; where not valid: 2 */
    uint8_t *valid;
    int64_t *known_ns;                         /* where not valid: the row's own time */
    float *return_;                            /* where not valid: 0 */
} oc_label_columns;

OC_MUST oc_label_parse(oc_label_rule *out, const char *text, int64_t entry_delay_ns);          /* OC_ECONFIG */
OC_MUST oc_label_compute(const oc_label_rule *rule, const oc_label_series *series, size_t first, size_t last,
                         oc_label_columns *out);
/* rows [first,last) only; out is indexed by row - first */
#endif
