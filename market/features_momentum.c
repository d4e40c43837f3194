/* features_momentum.c - momentum and trend. TA-Lib parity: RSI, MACD, ROC, STOCH, WILLR, CCI, ADX, PLUS_DI, MINUS_DI,
 * AROONOSC, BOP, MFI, ULTOSC, LINEARREG, LINEARREG_SLOPE, OBV. Scaled to about one. Where TA-Lib gives 0 because a
 * denominator is 0 (RSI, STOCH, WILLR, CCI, MFI, BOP, ULTOSC without any movement), the feature is missing, at its
 * imputed value: no movement is no signal. */
#include "market/features_table.h"

FEATURE_INIT(rsi_init)
{
    return oc_plan_rsi(plan, c, 0, c->p[0]);
}

FEATURE_EVALUATE(rsi_value)
{
    double x[4];
    if (!oc_recursive(v, c, 0, x) || !ratio(x[0], x[0] + x[1], value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(macd_init)
{
    return oc_plan_macd(plan, c, 0, c->p);
}

FEATURE_EVALUATE(macd_value)
{
    double x[4];
    return oc_recursive(v, c, 0, x) && ratio(x[0] - x[1], now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_EVALUATE(macd_signal_value)
{
    double x[4];
    return oc_recursive(v, c, 0, x) && ratio(x[2], now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_EVALUATE(macd_histogram_value)
{
    double x[4];
    return oc_recursive(v, c, 0, x) && ratio(x[0] - x[1] - x[2], now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_INIT(roc_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return OC_OK;
}

FEATURE_EVALUATE(roc_value)
{
    double before = (double)oc_row_ago(v, c->p[0])->s[OC_SERIES_CLOSE];
    return ratio(100.0 * (now_of(v, OC_SERIES_CLOSE) - before), before, value);
}

FEATURE_INIT(stochastic_init)
{
    return oc_plan_stochastic(plan, c, 0, c->p);
}

FEATURE_EVALUATE(stochastic_k_value)
{
    *value = ((const oc_stochastic *)oc_node_state(v, c, 0))->k - 0.5;
    return true;
}

FEATURE_EVALUATE(stochastic_d_value)
{
    *value = ((const oc_stochastic *)oc_node_state(v, c, 0))->d - 0.5;
    return true;
}

FEATURE_INIT(extremes_init)
{
    OC_TRY(oc_plan_highest(plan, c, 0, OC_SERIES_HIGH, c->p[0]));
    return oc_plan_lowest(plan, c, 1, OC_SERIES_LOW, c->p[0]);
}

FEATURE_EVALUATE(williams_value)
{
    const oc_extreme *high = oc_node_state(v, c, 0), *low = oc_node_state(v, c, 1);
    if (!ratio(now_of(v, OC_SERIES_CLOSE) - (double)high->value, (double)(high->value - low->value), value))
        return false;
    *value += 0.5;
    return true;
}

FEATURE_INIT(cci_init)
{
    return oc_plan_deviation(plan, c, 0, OC_SERIES_TYPICAL, c->p[0]);
}

/* Deviations sum to zero, so the sum of their absolute values is twice the sum of the positive ones [Lambert80]. */
FEATURE_EVALUATE(cci_value)
{
    const oc_deviation *d = oc_node_state(v, c, 0);
    double off = (double)(v->now->s[OC_SERIES_TYPICAL] * c->p[0] - d->sum);
    return ratio(off, 0.015 * 100.0 * 2.0 * d->above, value);
}

FEATURE_INIT(adx_init)
{
    return oc_plan_adx(plan, c, 0, c->p[0]);
}

FEATURE_EVALUATE(adx_value)
{
    double x[4];
    if (!oc_recursive(v, c, 0, x)) return false;
    *value = x[3];
    return true;
}

FEATURE_EVALUATE(di_gap_value)
{
    double x[4];
    return oc_recursive(v, c, 0, x) && ratio(x[0] - x[1], x[2], value);
}

FEATURE_INIT(aroon_init)
{
    OC_TRY(oc_plan_highest(plan, c, 0, OC_SERIES_HIGH, c->p[0] + 1));
    return oc_plan_lowest(plan, c, 1, OC_SERIES_LOW, c->p[0] + 1);
}

FEATURE_EVALUATE(aroon_value)
{
    const oc_extreme *high = oc_node_state(v, c, 0), *low = oc_node_state(v, c, 1);
    *value = ((double)low->age - (double)high->age) / c->p[0];
    return true;
}

FEATURE_EVALUATE(bop_value)
{
    (void)c;
    return ratio(now_of(v, OC_SERIES_CLOSE) - now_of(v, OC_SERIES_OPEN),
                 now_of(v, OC_SERIES_HIGH) - now_of(v, OC_SERIES_LOW), value);
}

FEATURE_INIT(mfi_init)
{
    oc_plan_series(plan, OC_SERIES_TYPICAL);
    oc_plan_rows(plan, c, c->p[0] + 1);
    return OC_OK;
}

FEATURE_EVALUATE(mfi_value)
{
    oc_i128 up = 0, down = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        const int64_t *now = oc_row_ago(v, i)->s, *before = oc_row_ago(v, i + 1)->s;
        oc_i128 flow = (oc_i128)now[OC_SERIES_TYPICAL] * now[OC_SERIES_VOLUME];
        if (now[OC_SERIES_TYPICAL] > before[OC_SERIES_TYPICAL]) up += flow;
        if (now[OC_SERIES_TYPICAL] < before[OC_SERIES_TYPICAL]) down += flow;
    }
    if (!ratio(oc_wide(up), oc_wide(up + down), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(ultimate_init)
{
    for (uint32_t i = 0; i < 3; i++) {
        OC_TRY(oc_plan_sum(plan, c, 2 * i, OC_SERIES_PRESSURE, c->p[i]));
        OC_TRY(oc_plan_sum(plan, c, 2 * i + 1, OC_SERIES_RANGE, c->p[i]));
        oc_plan_rows(plan, c, c->p[i] + 1);
    }
    return OC_OK;
}

FEATURE_EVALUATE(ultimate_value)
{
    static const double weight[3] = {4.0 / 7.0, 2.0 / 7.0, 1.0 / 7.0};
    double sum = 0.0, part = 0.0;
    for (uint32_t i = 0; i < 3; i++) {
        if (!ratio((double)oc_sum(v, c, 2 * i), (double)oc_sum(v, c, 2 * i + 1), &part)) return false;
        sum += weight[i] * part;
    }
    *value = sum - 0.5;
    return true;
}

FEATURE_INIT(ramp_init)
{
    return oc_plan_ramp(plan, c, 0, OC_SERIES_CLOSE, c->p[0]);
}

/* Least-squares line through N closes at i = 0 … N-1: slope = 6 (2 sum(i x) - (N - 1) sum(x)) / (N (N^2 - 1)). */
static double line_slope(const oc_view *v, const oc_feature_column *c)
{
    const oc_ramp *r = oc_node_state(v, c, 0);
    double n = c->p[0];
    return 6.0 * oc_wide(2 * r->ramp - (oc_i128)(c->p[0] - 1) * r->sum) / (n * (n * n - 1.0));
}

FEATURE_EVALUATE(slope_value)
{
    return ratio(line_slope(v, c), now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_EVALUATE(line_gap_value)
{
    double n = c->p[0], mean = (double)((const oc_ramp *)oc_node_state(v, c, 0))->sum / n;
    double end = mean + 0.5 * (n - 1.0) * line_slope(v, c);
    return ratio(now_of(v, OC_SERIES_CLOSE) - end, end, value);
}

FEATURE_INIT(efficiency_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 0, OC_SERIES_MOVE, c->p[0]);
}

FEATURE_EVALUATE(efficiency_value)
{
    double net = now_of(v, OC_SERIES_CLOSE) - (double)oc_row_ago(v, c->p[0])->s[OC_SERIES_CLOSE];
    return ratio(net, (double)oc_sum(v, c, 0), value);
}

FEATURE_INIT(up_ratio_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 0, OC_SERIES_SIGN, c->p[0]);
}

FEATURE_EVALUATE(up_ratio_value)
{
    *value = (double)oc_sum(v, c, 0) / c->p[0];
    return true;
}

FEATURE_INIT(obv_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_sum(plan, c, 0, OC_SERIES_OBV, c->p[0]));
    return oc_plan_sum(plan, c, 1, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(obv_value)
{
    return ratio((double)oc_sum(v, c, 0), (double)oc_sum(v, c, 1), value);
}

static const oc_feature_def rows[] = {
    {"rsi", ONE(14, 2), IMPUTE(0.0f), rsi_init, rsi_value, "[Wilder78]", "RSI / 100 - 0.5"},
    {"macd", THREE(12, 26, 9, 2, 3, 1), REQUIRED, macd_init, macd_value, "[Appel05]", "MACD line / close"},
    {"macd_signal", THREE(12, 26, 9, 2, 3, 1), REQUIRED, macd_init, macd_signal_value, "[Appel05]",
     "signal line / close"},
    {"macd_histogram", THREE(12, 26, 9, 2, 3, 1), REQUIRED, macd_init, macd_histogram_value, "[Appel05]",
     "(line - signal) / close"},
    {"roc", ONE(10, 1), REQUIRED, roc_init, roc_value, "[Murphy99 ch.10]", "rate of change over N rows, percent"},
    {"stoch_k", THREE(5, 3, 3, 1, 1, 1), REQUIRED, stochastic_init, stochastic_k_value, "[Lane84]",
     "slow %K / 100 - 0.5; %K of a window without range counts as 0, as in TA-Lib"},
    {"stoch_d", THREE(5, 3, 3, 1, 1, 1), REQUIRED, stochastic_init, stochastic_d_value, "[Lane84]",
     "slow %D / 100 - 0.5"},
    {"williams", ONE(14, 2), IMPUTE(0.0f), extremes_init, williams_value, "[Williams79]", "Williams %R / 100 + 0.5"},
    {"cci", ONE(20, 2), IMPUTE(0.0f), cci_init, cci_value, "[Lambert80]", "commodity channel index / 100"},
    {"adx", ONE(14, 2), REQUIRED, adx_init, adx_value, "[Wilder78]", "average directional index / 100"},
    {"di_gap", ONE(14, 2), IMPUTE(0.0f), adx_init, di_gap_value, "[Wilder78]", "(+DI - -DI) / 100"},
    {"aroon", ONE(14, 2), REQUIRED, aroon_init, aroon_value, "[Chande95]", "Aroon oscillator / 100"},
    {"bop", NO_PARAMETER, IMPUTE(0.0f), NULL, bop_value, "[Livshin01]",
     "balance of power: (close - open) / (high - low)"},
    {"mfi", ONE(14, 2), IMPUTE(0.0f), mfi_init, mfi_value, "[Quong89]", "money flow index / 100 - 0.5"},
    {"ultimate", THREE(7, 14, 28, 2, 2, 2), IMPUTE(0.0f), ultimate_init, ultimate_value, "[Williams85]",
     "ultimate oscillator / 100 - 0.5"},
    {"slope", ONE(20, 2), REQUIRED, ramp_init, slope_value, "[Draper98 ch.1]", "least-squares slope a row / close"},
    {"line_gap", ONE(20, 2), REQUIRED, ramp_init, line_gap_value, "[Draper98 ch.1]",
     "close / end of the least-squares line - 1"},
    {"efficiency", ONE(10, 1), IMPUTE(0.0f), efficiency_init, efficiency_value, "[Kaufman95]",
     "net move / sum of moves, signed"},
    {"up_ratio", ONE(20, 1), REQUIRED, up_ratio_init, up_ratio_value, "", "(rising - falling rows) / N"},
    {"obv_slope", ONE(20, 1), IMPUTE(0.0f), obv_init, obv_value, "[Granville63]",
     "change of on-balance volume over N rows / volume"},
};
FEATURE_TABLE(OC_FEATURE_MOMENTUM, momentum);
