/* policy.h - what position is wanted. One row of the table in policy.c is one policy: functions from what is known of
 * an instrument to a decision. A policy sees no account and no order: sizes are cut, slices made and limits kept behind
 * it. To add one: a function or two, a row, a value of the enum at its end (values stand in journals). */
#ifndef OC_TRADE_POLICY_H
#define OC_TRADE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "trade/types.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum oc_policy_kind {
    OC_POLICY_MODEL,             /* probabilities over thresholds set the target */
    OC_POLICY_CROSS,             /* the fast moving average over the slow one: long; under: short */
    OC_POLICY_QUOTE,             /* a bid and an ask at the best prices, placed anew at every interval */
    OC_POLICY_KIND_END
} oc_policy_kind;

typedef enum oc_fallback_kind {  /* of the model policy, when the last good prediction is too old */
    OC_FALLBACK_HOLD,            /* keep the position, open nothing */
    OC_FALLBACK_FLAT,
    OC_FALLBACK_CROSS,
    OC_FALLBACK_KIND_END
} oc_fallback_kind;

enum { OC_CROSS_MAX = 1024 };                  /* samples of the slow average */

typedef struct oc_policy_config {
    double buy_threshold, sell_threshold, confidence_min;       /* probabilities; the larger of the two counts */
    int64_t prediction_stale_ns;               /* older inputs are refused */
    int64_t fallback_after_ns;
    int64_t cross_interval_ns;                 /* a sample of the mid so often; bars are one sample each */
    int64_t quote_interval_ns, quote_lots, quote_position_lots; /* a side is quoted while the position is within */
    int64_t lifetime_ns;                       /* of a resting order, then cancelled and thought over */
    int64_t offset_ticks;                      /* limit orders: so far beyond the own best price; negative: behind */
    int64_t stop_bps, take_bps;                /* of the entry price; 0: no such exit */
    int64_t cooldown_ns;                       /* after an exit no new position for so long */
    uint32_t kind, fallback, cross_fast, cross_slow, order_type;
    uint8_t short_allowed, hold_flat, reserved[2];              /* hold_flat: hold means flat, else: as it is */
} oc_policy_config;

typedef enum oc_decision_kind { OC_DECISION_NONE, OC_DECISION_TARGET, OC_DECISION_QUOTE } oc_decision_kind;

typedef struct oc_decision {
    oc_decision_kind kind;
    int64_t target_lots;
    double confidence;
    oc_reason reason;
} oc_decision;

/* Sums of the last samples of twice the mid; exact. ring holds cross_slow values. */
typedef struct oc_cross {
    int64_t fast_sum, slow_sum, slot;          /* slot: of the last sample in units of cross_interval_ns */
    uint32_t count, at;
} oc_cross;

typedef struct oc_policy_view {
    const oc_policy_config *config;
    const oc_cross *cross;
    const oc_prediction *prediction;           /* NULL where the input is none */
    int64_t now_ns, predicted_ns, size_lots;   /* predicted_ns: time of the last good prediction's arrival */
    bool predicted, sampled;                   /* there was one; this input completed a sample */
    bool quote_due;
} oc_policy_view;

oc_decision oc_policy_decide(const oc_policy_view *view);
const char *oc_policy_name(unsigned kind);
const char *oc_fallback_name(unsigned kind);

/* OC_REASON_NONE, or why this prediction is not believed. last_sequence counts only where `sequenced`. */
oc_reason oc_prediction_check(const oc_prediction *prediction, int64_t now_ns, int64_t stale_ns, bool sequenced,
                              uint64_t last_sequence);

void oc_cross_add(oc_cross *cross, int64_t *ring, const oc_policy_config *config, int64_t bid_plus_ask_ticks);
int oc_cross_sign(const oc_cross *cross, const oc_policy_config *config);   /* 1, -1; 0: equal, or too few samples */

/* The exit that the position asks for: OC_REASON_STOP, OC_REASON_TAKE_PROFIT or NONE. */
oc_reason oc_exit_check(const oc_policy_config *config, int64_t lots, int64_t entry_ticks_lots,
                        int64_t bid_plus_ask_ticks);

#ifdef __cplusplus
}
#endif
#endif
