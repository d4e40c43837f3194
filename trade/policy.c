/* policy.c - the table of policies, the check of predictions, exits. Comparisons are written so that NaN decides
 * nothing: a probability that is none is HOLD. */
#include "trade/policy.h"

#include <stddef.h>

#include "trade/money.h"

static const oc_decision nothing = {OC_DECISION_NONE, 0, 0, OC_REASON_NONE};

static oc_decision target(int64_t lots, double confidence, oc_reason reason)
{
    return (oc_decision){OC_DECISION_TARGET, lots, confidence, reason};
}

static oc_decision cross_decide(const oc_policy_view *v, oc_reason reason)
{
    int sign = oc_cross_sign(v->cross, v->config);
    if (!v->sampled || sign == 0) return nothing;
    if (sign < 0 && !v->config->short_allowed) return target(0, 1, reason);
    return target(sign * v->size_lots, 1, reason);
}

/* Predictions are missing: since the last good one, or since the engine began to run. */
static oc_decision fallback_decide(const oc_policy_view *v)
{
    int64_t age;
    bool fresh =
        v->predicted && oc_money_subtract(v->now_ns, v->predicted_ns, &age) && age <= v->config->fallback_after_ns;
    if (fresh) return nothing;
    switch ((oc_fallback_kind)v->config->fallback) {
    case OC_FALLBACK_FLAT:
        return target(0, 1, OC_REASON_FALLBACK);
    case OC_FALLBACK_CROSS:
        return cross_decide(v, OC_REASON_FALLBACK);
    default:
        return nothing;
    }
}

static oc_decision model_decide(const oc_policy_view *v)
{
    const oc_policy_config *c = v->config;
    const oc_prediction *p = v->prediction;
    if (!p) return fallback_decide(v);
    double buy = (double)p->buy, sell = (double)p->sell;
    if (buy > sell && buy >= c->buy_threshold && buy >= c->confidence_min)
        return target(v->size_lots, buy, OC_REASON_SIGNAL);
    if (sell > buy && sell >= c->sell_threshold && sell >= c->confidence_min)
        return target(c->short_allowed ? -v->size_lots : 0, sell, OC_REASON_SIGNAL);
    return c->hold_flat ? target(0, 1, OC_REASON_SIGNAL) : nothing;
}

static oc_decision rule_decide(const oc_policy_view *v)
{
    return cross_decide(v, OC_REASON_SIGNAL);
}

static oc_decision quote_decide(const oc_policy_view *v)
{
    return v->quote_due ? (oc_decision){OC_DECISION_QUOTE, 0, 1, OC_REASON_QUOTE} : nothing;
}

typedef struct policy_row {
    const char *name;
    oc_decision (*decide)(const oc_policy_view *);
} policy_row;

static const policy_row policies[OC_POLICY_KIND_END] = {
    [OC_POLICY_MODEL] = {"model", model_decide},
    [OC_POLICY_CROSS] = {"cross", rule_decide},
    [OC_POLICY_QUOTE] = {"quote", quote_decide},
};

oc_decision oc_policy_decide(const oc_policy_view *view)
{
    return policies[view->config->kind].decide(view);
}

const char *oc_policy_name(unsigned kind)
{
    return kind < OC_POLICY_KIND_END ? policies[kind].name : "unknown";
}

const char *oc_fallback_name(unsigned kind)
{
    static const char *const names[OC_FALLBACK_KIND_END] = {"hold", "flat", "cross"};
    return kind < OC_FALLBACK_KIND_END ? names[kind] : "unknown";
}

static bool probability(float p)
{
    return p >= 0 && p <= 1;
}

oc_reason oc_prediction_check(const oc_prediction *p, int64_t now_ns, int64_t stale_ns, bool sequenced,
                              uint64_t last_sequence)
{
    double off = (double)p->buy + (double)p->sell + (double)p->hold - 1;
    int64_t age;
    if (sequenced && p->sequence <= last_sequence) return OC_REASON_PREDICTION_ORDER;
    if (!oc_money_subtract(now_ns, p->input_ns, &age) || age < 0) return OC_REASON_PREDICTION_ORDER;
    if (age > stale_ns) return OC_REASON_PREDICTION_STALE;
    if (p->state != OC_PREDICTION_OK) return OC_REASON_PREDICTION_HOLD;
    bool sane = probability(p->buy) && probability(p->sell) && probability(p->hold) && off <= 1e-5 && off >= -1e-5;
    return sane ? OC_REASON_NONE : OC_REASON_PREDICTION_BAD;
}

void oc_cross_add(oc_cross *cross, int64_t *ring, const oc_policy_config *config, int64_t bid_plus_ask_ticks)
{
    uint32_t slow = config->cross_slow, fast = config->cross_fast;
    if (cross->count >= fast) cross->fast_sum -= ring[(cross->at + slow - fast) % slow];
    if (cross->count >= slow)
        cross->slow_sum -= ring[cross->at];
    else
        cross->count++;
    cross->fast_sum += bid_plus_ask_ticks;
    cross->slow_sum += bid_plus_ask_ticks;
    ring[cross->at] = bid_plus_ask_ticks;
    cross->at = (cross->at + 1) % slow;
}

int oc_cross_sign(const oc_cross *cross, const oc_policy_config *config)
{
    if (cross->count < config->cross_slow) return 0;
    oc_wide fast = (oc_wide)cross->fast_sum * config->cross_slow, slow = (oc_wide)cross->slow_sum * config->cross_fast;
    return (fast > slow) - (fast < slow);
}

oc_reason oc_exit_check(const oc_policy_config *config, int64_t lots, int64_t entry_ticks_lots,
                        int64_t bid_plus_ask_ticks)
{
    if (lots == 0) return OC_REASON_NONE;
    oc_wide gain = ((oc_wide)lots * bid_plus_ask_ticks - 2 * (oc_wide)entry_ticks_lots) * 10000;
    oc_wide base = 2 * (oc_wide)(entry_ticks_lots < 0 ? -(oc_wide)entry_ticks_lots : entry_ticks_lots);
    if (config->stop_bps > 0 && -gain >= base * config->stop_bps) return OC_REASON_STOP;
    if (config->take_bps > 0 && gain >= base * config->take_bps) return OC_REASON_TAKE_PROFIT;
    return OC_REASON_NONE;
}
