/* features_volatility.c - how much prices move: ranges, bands, realised volatility and its clustering. TA-Lib parity:
 * ATR, TRANGE, BBANDS, STDDEV (population, as TA-Lib's). */
#include "market/features_table.h"

FEATURE_INIT(atr_init)
{
    return oc_plan_atr(plan, c, 0, c->p[0]);
}

FEATURE_EVALUATE(atr_value)
{
    double x[4];
    return oc_recursive(v, c, 0, x) && ratio(x[0], now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_INIT(true_range_init)
{
    oc_plan_rows(plan, c, 2);
    return OC_OK;
}

FEATURE_EVALUATE(true_range_value)
{
    (void)c;
    return ratio(now_of(v, OC_SERIES_RANGE), now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_INIT(bands_init)
{
    return oc_plan_moments(plan, c, 0, OC_SERIES_CLOSE, c->p[0]);
}

FEATURE_EVALUATE(band_width_value)               /* 4 deviations / mean; the scatter is n^2 variances */
{
    const oc_moments *m = oc_node_state(v, c, 0);
    return ratio(4.0 * m->root, (double)m->sum, value);
}

FEATURE_EVALUATE(band_position_value)
{
    const oc_moments *m = oc_node_state(v, c, 0);
    return ratio((double)(v->now->s[OC_SERIES_CLOSE] * c->p[0] - m->sum), 4.0 * m->root, value);
}

FEATURE_INIT(realised_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_squares(plan, c, 0, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(realised_value)
{
    *value = sqrt(oc_wide_sum(v, c, 0) / c->p[0]) / OC_RETURN_SCALE;
    return true;
}

FEATURE_INIT(ratio_init)
{
    for (uint32_t i = 0; i < 2; i++) {
        oc_plan_rows(plan, c, c->p[i] + 1);
        OC_TRY(oc_plan_squares(plan, c, i, OC_SERIES_RETURN, c->p[i]));
    }
    return OC_OK;
}

FEATURE_EVALUATE(volatility_ratio_value)
{
    if (!ratio(oc_wide_sum(v, c, 0) * c->p[1], oc_wide_sum(v, c, 1) * c->p[0], value)) return false;
    *value = sqrt(*value) - 1.0;
    return true;
}

FEATURE_INIT(deviation_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_moments(plan, c, 0, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(deviation_value)
{
    *value = ((const oc_moments *)oc_node_state(v, c, 0))->root / c->p[0] / OC_RETURN_SCALE;
    return true;
}

FEATURE_INIT(parkinson_init)
{
    return oc_plan_squares(plan, c, 0, OC_SERIES_LOG_RANGE, c->p[0]);
}

FEATURE_EVALUATE(parkinson_value)                /* 4 ln 2 = 2.7725887… */
{
    *value = sqrt(oc_wide_sum(v, c, 0) / (2.772588722239781 * c->p[0])) / OC_RETURN_SCALE;
    return true;
}

FEATURE_INIT(downside_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_squares(plan, c, 0, OC_SERIES_RETURN_DOWN, c->p[0]));
    return oc_plan_squares(plan, c, 1, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(downside_value)
{
    if (!ratio(oc_wide_sum(v, c, 0), oc_wide_sum(v, c, 1), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(jump_init)
{
    oc_plan_rows(plan, c, c->p[0] + 2);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_RETURN_ABS, OC_SERIES_RETURN_ABS, 1, c->p[0]));
    return oc_plan_squares(plan, c, 1, OC_SERIES_RETURN, c->p[0] + 1);
}

FEATURE_EVALUATE(jump_value)                     /* pi / 2 times the mean product of neighbours / mean square */
{
    double bipower = 1.5707963267948966 * oc_wide_sum(v, c, 0) * (c->p[0] + 1.0);
    if (!ratio(bipower, oc_wide_sum(v, c, 1) * c->p[0], value)) return false;
    *value = 1.0 - *value;
    return true;
}

/* Correlation of |return| with the one before. */
FEATURE_INIT(cluster_init)
{
    oc_plan_rows(plan, c, c->p[0] + 2);
    OC_TRY(oc_plan_moments(plan, c, 0, OC_SERIES_RETURN_ABS, c->p[0]));
    return oc_plan_product(plan, c, 1, OC_SERIES_RETURN_ABS, OC_SERIES_RETURN_ABS, 1, c->p[0]);
}

FEATURE_EVALUATE(cluster_value)
{
    const oc_moments *m = oc_node_state(v, c, 0);
    int64_t n = c->p[0], now = v->now->s[OC_SERIES_RETURN_ABS], first = oc_row_ago(v, c->p[0])->s[OC_SERIES_RETURN_ABS];
    int64_t sum = m->sum, before = sum - now + first;                /* before: of the window one row earlier */
    oc_i128 squares = m->squares - (oc_i128)now * now + (oc_i128)first * first;
    oc_i128 cross = *(const oc_i128 *)oc_node_state(v, c, 1) * n - (oc_i128)sum * before;
    double scatter = oc_wide(squares * n - (oc_i128)before * before);
    return ratio(oc_wide(cross), m->root * sqrt(scatter), value);
}

static const oc_feature_def rows[] = {
    {"atr", ONE(14, 2), REQUIRED, atr_init, atr_value, "[Wilder78]", "average true range / close"},
    {"true_range", NO_PARAMETER, REQUIRED, true_range_init, true_range_value, "[Wilder78]", "true range / close"},
    {"band_width", ONE(20, 2), REQUIRED, bands_init, band_width_value, "[Bollinger01]",
     "(upper - lower band) / mean, 2 deviations"},
    {"band_position", ONE(20, 2), IMPUTE(0.0f), bands_init, band_position_value, "[Bollinger01]",
     "(close - mean) / (upper - lower band); missing where nothing moved"},
    {"realised", ONE(20, 1), REQUIRED, realised_init, realised_value, "[Andersen03]", "root mean square of N returns"},
    {"deviation", ONE(20, 2), REQUIRED, deviation_init, deviation_value, "[Tsay10 ch.1]",
     "standard deviation of N returns"},
    {"volatility_ratio", TWO(10, 50, 1, 2), IMPUTE(0.0f), ratio_init, volatility_ratio_value, "[Andersen03]",
     "realised of A rows / of B rows - 1"},
    {"parkinson", ONE(20, 1), REQUIRED, parkinson_init, parkinson_value, "[Parkinson80]",
     "volatility a row from highs and lows"},
    {"downside", ONE(20, 1), IMPUTE(0.0f), downside_init, downside_value, "[Barndorff10]",
     "share of falling rows in the sum of squares - 0.5"},
    {"jump", ONE(20, 2), IMPUTE(0.0f), jump_init, jump_value, "[Barndorff04]",
     "1 - bipower variation / sum of squares"},
    {"volatility_cluster", ONE(50, 3), IMPUTE(0.0f), cluster_init, cluster_value, "[Cont01]",
     "correlation of |return| with the one before over N rows"},
};
FEATURE_TABLE(OC_FEATURE_VOLATILITY, volatility);
