/* features_average.c - moving averages as gaps and crossovers, never as levels. TA-Lib parity: SMA, EMA, WMA. */
#include "market/features_table.h"

FEATURE_INIT(sma_init)
{
    return oc_plan_sum(plan, c, 0, OC_SERIES_CLOSE, c->p[0]);
}

FEATURE_EVALUATE(sma_gap_value)
{
    double sum = (double)oc_sum(v, c, 0);
    return ratio(now_of(v, OC_SERIES_CLOSE) * c->p[0] - sum, sum, value);
}

FEATURE_EVALUATE(sma_slope_value)                /* the sum one row ago is the sum now - newest + the one that left */
{
    double sum = (double)oc_sum(v, c, 0);
    double step = (double)(v->now->s[OC_SERIES_CLOSE] - oc_row_ago(v, c->p[0])->s[OC_SERIES_CLOSE]);
    return ratio(step, sum, value);
}

FEATURE_INIT(sma_slope_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return sma_init(plan, c);
}

FEATURE_INIT(sma_cross_init)
{
    OC_TRY(oc_plan_sum(plan, c, 0, OC_SERIES_CLOSE, c->p[0]));
    return oc_plan_sum(plan, c, 1, OC_SERIES_CLOSE, c->p[1]);
}

FEATURE_EVALUATE(sma_cross_value)
{
    double slow = (double)oc_sum(v, c, 1) * c->p[0];
    return ratio((double)oc_sum(v, c, 0) * c->p[1] - slow, slow, value);
}

FEATURE_INIT(ema_init)
{
    return oc_plan_ema(plan, c, 0, c->p[0]);
}

FEATURE_EVALUATE(ema_gap_value)
{
    double ema[4];
    return oc_recursive(v, c, 0, ema) && ratio(now_of(v, OC_SERIES_CLOSE) - ema[0], ema[0], value);
}

FEATURE_INIT(ema_cross_init)
{
    OC_TRY(oc_plan_ema(plan, c, 0, c->p[0]));
    return oc_plan_ema(plan, c, 1, c->p[1]);
}

FEATURE_EVALUATE(ema_cross_value)
{
    double fast[4], slow[4];
    return oc_recursive(v, c, 0, fast) && oc_recursive(v, c, 1, slow) && ratio(fast[0] - slow[0], slow[0], value);
}

FEATURE_INIT(wma_init)
{
    return oc_plan_ramp(plan, c, 0, OC_SERIES_CLOSE, c->p[0]);
}

FEATURE_EVALUATE(wma_gap_value)                  /* weights 1 for the oldest to N for the newest */
{
    const oc_ramp *r = oc_node_state(v, c, 0);
    double weighted = oc_wide(r->ramp + r->sum), weights = 0.5 * c->p[0] * (c->p[0] + 1.0);
    return ratio(now_of(v, OC_SERIES_CLOSE) * weights - weighted, weighted, value);
}

FEATURE_INIT(vwma_init)
{
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_CLOSE, OC_SERIES_VOLUME, 0, c->p[0]));
    return oc_plan_sum(plan, c, 1, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(vwma_gap_value)
{
    oc_i128 weighted = *(const oc_i128 *)oc_node_state(v, c, 0);
    oc_i128 level = (oc_i128)v->now->s[OC_SERIES_CLOSE] * oc_sum(v, c, 1);
    return ratio(oc_wide(level - weighted), oc_wide(weighted), value);
}

static const oc_feature_def rows[] = {
    {"sma_gap", ONE(20, 2), REQUIRED, sma_init, sma_gap_value, "[Murphy99 ch.9]", "close / mean close of N rows - 1"},
    {"sma_slope", ONE(20, 1), REQUIRED, sma_slope_init, sma_slope_value, "[Murphy99 ch.9]",
     "change of the N-row mean in one row / mean"},
    {"sma_cross", TWO(5, 20, 1, 2), REQUIRED, sma_cross_init, sma_cross_value, "[Murphy99 ch.9]",
     "mean of A rows / mean of B rows - 1"},
    {"ema_gap", ONE(20, 2), REQUIRED, ema_init, ema_gap_value, "[Hunter86]",
     "close / exponential mean (2 / (N + 1)) - 1"},
    {"ema_cross", TWO(12, 26, 2, 2), REQUIRED, ema_cross_init, ema_cross_value, "[Hunter86]",
     "exponential mean A / B - 1"},
    {"wma_gap", ONE(20, 2), REQUIRED, wma_init, wma_gap_value, "[Murphy99 ch.9]", "close / linearly weighted mean - 1"},
    {"vwma_gap", ONE(20, 2), IMPUTE(0.0f), vwma_init, vwma_gap_value, "[Murphy99 ch.7]",
     "close / volume-weighted mean close - 1; missing without volume"},
};
FEATURE_TABLE(OC_FEATURE_AVERAGE, average);
