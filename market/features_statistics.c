/* features_statistics.c - dependence, mean reversion and shape of recent returns. Sums are exact; the moments of third
 * and fourth order are summed anew each row from the newest, in f64, which has no history beyond the window either. */
#include "market/features_table.h"

FEATURE_INIT(autocorrelation_init)
{
    if (!(c->p[1] < c->p[0]))
        return OC_FAIL(OC_ECONFIG, "feature %s: the lag must be shorter than the window", c->info->name);
    oc_plan_rows(plan, c, c->p[0] + c->p[1] + 1);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_RETURN, OC_SERIES_RETURN, c->p[1], c->p[0]));
    return oc_plan_squares(plan, c, 1, OC_SERIES_RETURN,
                           c->p[0] + c->p[1]); /* all that the products hold: |value| <= 1 */
}

FEATURE_EVALUATE(autocorrelation_value)
{
    return ratio(oc_wide_sum(v, c, 0), oc_wide_sum(v, c, 1), value);
}

FEATURE_INIT(zscore_init)
{
    return oc_plan_moments(plan, c, 0, OC_SERIES_CLOSE, c->p[0]);
}

FEATURE_EVALUATE(zscore_value)
{
    const oc_moments *m = oc_node_state(v, c, 0);
    return ratio((double)(v->now->s[OC_SERIES_CLOSE] * c->p[0] - m->sum), m->root, value);
}

FEATURE_INIT(return_z_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_moments(plan, c, 0, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(return_z_value)
{
    const oc_moments *m = oc_node_state(v, c, 0);
    return ratio((double)(v->now->s[OC_SERIES_RETURN] * c->p[0] - m->sum), m->root, value);
}

/* Regression of the change on the close before it: the pull to the mean a row, negative where there is one. */
FEATURE_INIT(reversion_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_CHANGE, OC_SERIES_CLOSE, 1, c->p[0]));
    return oc_plan_moments(plan, c, 1, OC_SERIES_CLOSE, c->p[0]);
}

FEATURE_EVALUATE(reversion_value)
{
    int64_t n = c->p[0], now = v->now->s[OC_SERIES_CLOSE], first = oc_row_ago(v, c->p[0])->s[OC_SERIES_CLOSE];
    const oc_moments *m = oc_node_state(v, c, 1);
    int64_t sum = m->sum - now + first;                     /* of the closes one row earlier */
    oc_i128 squares = m->squares - (oc_i128)now * now + (oc_i128)first * first;
    oc_i128 cross = *(const oc_i128 *)oc_node_state(v, c, 0) * n - (oc_i128)(now - first) * sum;
    return ratio(oc_wide(cross), oc_wide(squares * n - (oc_i128)sum * sum), value);
}

FEATURE_INIT(variance_ratio_init)
{
    oc_plan_rows(plan, c, c->p[0] + c->p[1] + 1);
    return oc_plan_squares(plan, c, 0, OC_SERIES_CHANGE, c->p[0] + c->p[1] - 1);
}

FEATURE_EVALUATE(variance_ratio_value)           /* changes over K rows against K times changes over one [Lo88] */
{
    oc_i128 sum = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        int64_t d = oc_row_ago(v, i)->s[OC_SERIES_CLOSE] - oc_row_ago(v, i + c->p[1])->s[OC_SERIES_CLOSE];
        sum += (oc_i128)d * d;
    }
    double one = oc_wide_sum(v, c, 0) * c->p[1] * c->p[0];
    if (!ratio(oc_wide(sum) * (c->p[0] + c->p[1] - 1.0), one, value)) return false;
    *value -= 1.0;
    return true;
}

FEATURE_INIT(moments_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 0, OC_SERIES_RETURN, c->p[0]);
}

/* Central moments of the window's returns, in units of 2^-40. */
static void moments(const oc_feature_column *c, const oc_view *v, double m[3])
{
    double mean = (double)oc_sum(v, c, 0) / c->p[0], two = 0.0, three = 0.0, four = 0.0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        double d = (double)oc_row_ago(v, i)->s[OC_SERIES_RETURN] - mean, square = d * d;
        two += square;
        three += square * d;
        four += square * square;
    }
    m[0] = two / c->p[0];
    m[1] = three / c->p[0];
    m[2] = four / c->p[0];
}

FEATURE_EVALUATE(skew_value)
{
    double m[3];
    moments(c, v, m);
    return ratio(m[1], m[0] * sqrt(m[0]), value);
}

FEATURE_EVALUATE(kurtosis_value)
{
    double m[3];
    moments(c, v, m);
    if (!ratio(m[2], m[0] * m[0], value)) return false;
    *value -= 3.0;
    return true;
}

FEATURE_INIT(fit_init)
{
    OC_TRY(oc_plan_ramp(plan, c, 0, OC_SERIES_CLOSE, c->p[0]));
    return oc_plan_moments(plan, c, 1, OC_SERIES_CLOSE, c->p[0]);
}

/* R squared of the least-squares line: (n sum(i x) - sum(i) sum(x))^2 / (n^2 (n^2 - 1) / 12 * scatter). */
FEATURE_EVALUATE(fit_value)
{
    const oc_ramp *r = oc_node_state(v, c, 0);
    double n = c->p[0];
    double cross = 0.5 * n * oc_wide(2 * r->ramp - (oc_i128)(c->p[0] - 1) * r->sum);
    const oc_moments *m = oc_node_state(v, c, 1);
    return ratio(cross * cross * 12.0, n * n * (n * n - 1.0) * m->scatter, value);
}

FEATURE_INIT(persistence_init)
{
    oc_plan_rows(plan, c, c->p[0] + 2);
    return oc_plan_product(plan, c, 0, OC_SERIES_SIGN, OC_SERIES_SIGN, 1, c->p[0]);
}

FEATURE_EVALUATE(persistence_value)
{
    *value = oc_wide_sum(v, c, 0) / c->p[0];
    return true;
}

FEATURE_INIT(drawdown_init)
{
    oc_plan_rows(plan, c, c->p[0]);
    return OC_OK;
}

FEATURE_EVALUATE(drawdown_value)                 /* the largest fall from a close to a later one, / close */
{
    int64_t low = v->now->s[OC_SERIES_CLOSE], worst = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        int64_t close = oc_row_ago(v, i)->s[OC_SERIES_CLOSE];
        low = close < low ? close : low;
        worst = close - low > worst ? close - low : worst;
    }
    return ratio((double)worst, now_of(v, OC_SERIES_CLOSE), value);
}

static const oc_feature_def rows[] = {
    {"autocorrelation", TWO(50, 1, 3, 1), IMPUTE(0.0f), autocorrelation_init, autocorrelation_value, "[Box15 ch.2]",
     "sum of return * return K rows before over N rows / sum of squares of the N + K"},
    {"zscore", ONE(20, 2), IMPUTE(0.0f), zscore_init, zscore_value, "[Tsay10 ch.1]",
     "(close - mean) / deviation of N closes"},
    {"return_z", ONE(50, 2), IMPUTE(0.0f), return_z_init, return_z_value, "[Tsay10 ch.1]",
     "(return - mean) / deviation of N returns"},
    {"reversion", ONE(50, 3), IMPUTE(0.0f), reversion_init, reversion_value, "[Dickey79]",
     "slope of change on the close before"},
    {"variance_ratio", TWO(50, 5, 2, 2), IMPUTE(0.0f), variance_ratio_init, variance_ratio_value, "[Lo88]",
     "mean square of K-row changes / K times that of one-row changes - 1"},
    {"skew", ONE(50, 3), IMPUTE(0.0f), moments_init, skew_value, "[Tsay10 ch.1]", "skewness of N returns"},
    {"kurtosis", ONE(50, 4), IMPUTE(0.0f), moments_init, kurtosis_value, "[Tsay10 ch.1]",
     "excess kurtosis of N returns"},
    {"line_fit", ONE(20, 3), IMPUTE(0.0f), fit_init, fit_value, "[Draper98 ch.1]",
     "R squared of the least-squares line"},
    {"persistence", ONE(20, 1), REQUIRED, persistence_init, persistence_value, "",
     "mean product of the signs of changes in a row"},
    {"drawdown", ONE(50, 2), REQUIRED, drawdown_init, drawdown_value, "[Magdon04]",
     "largest fall within N rows / close"},
};
FEATURE_TABLE(OC_FEATURE_STATISTICS, statistics);
