/* features_cross.c - against another instrument of the universe: the first one; for the first, the second. Its return
 * is taken between this instrument's rows, at its latest price by arrival; stale after OC_OTHER_AGE rows without an
 * update. Missing where the universe has one instrument. */
#include "market/features_table.h"

/* The window of the other's returns also needs a first price and rows in which it was updated. */
static void other_rows(oc_feature_plan *plan, oc_feature_column *c, uint32_t window)
{
    oc_plan_series(plan, OC_SERIES_OTHER);
    oc_plan_rows(plan, c, window + 1);
    if (window + OC_OTHER_AGE + 2 > c->info->history_events) c->info->history_events = window + OC_OTHER_AGE + 2;
}

static bool other_there(const oc_view *v, uint32_t window)
{
    return v->stream->other_run >= window;
}

FEATURE_INIT(other_init)
{
    other_rows(plan, c, c->p[0]);
    return oc_plan_sum(plan, c, 0, OC_SERIES_OTHER, c->p[0]);
}

FEATURE_EVALUATE(other_value)
{
    *value = (double)oc_sum(v, c, 0) / OC_RETURN_SCALE;
    return other_there(v, c->p[0]);
}

FEATURE_INIT(excess_init)
{
    other_rows(plan, c, c->p[0]);
    return oc_plan_sum(plan, c, 0, OC_SERIES_EXCESS, c->p[0]);
}

FEATURE_INIT(excess_z_init)
{
    OC_TRY(excess_init(plan, c));
    return oc_plan_squares(plan, c, 1, OC_SERIES_EXCESS, c->p[0]);
}

FEATURE_EVALUATE(excess_z_value)
{
    return other_there(v, c->p[0]) &&
           ratio((double)oc_sum(v, c, 0), sqrt(oc_wide_sum(v, c, 1) * c->p[0]), value);
}

FEATURE_INIT(beta_init)
{
    other_rows(plan, c, c->p[0]);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_RETURN, OC_SERIES_OTHER, 0, c->p[0]));
    OC_TRY(oc_plan_squares(plan, c, 1, OC_SERIES_OTHER, c->p[0]));
    return oc_plan_squares(plan, c, 2, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(beta_value)
{
    return other_there(v, c->p[0]) && ratio(oc_wide_sum(v, c, 0), oc_wide_sum(v, c, 1), value);
}

FEATURE_EVALUATE(correlation_value)
{
    return other_there(v, c->p[0]) &&
           ratio(oc_wide_sum(v, c, 0), sqrt(oc_wide_sum(v, c, 1)) * sqrt(oc_wide_sum(v, c, 2)), value);
}

/* Own return against the other's of the row before: whether the other leads. */
FEATURE_INIT(lead_init)
{
    other_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_RETURN, OC_SERIES_OTHER, 1, c->p[0]));
    OC_TRY(oc_plan_squares(plan, c, 1, OC_SERIES_OTHER, c->p[0] + 1));
    return oc_plan_squares(plan, c, 2, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(lead_value)
{
    return other_there(v, c->p[0] + 1) &&
           ratio(oc_wide_sum(v, c, 0), sqrt(oc_wide_sum(v, c, 1)) * sqrt(oc_wide_sum(v, c, 2)), value);
}

static const oc_feature_def rows[] = {
    {"cross_return", ONE(5, 1), IMPUTE_TWO(0.0f), other_init, other_value, "",
     "the other's log return over N own rows"},
    {"cross_excess", ONE(20, 1), IMPUTE_TWO(0.0f), excess_init, other_value, "",
     "own - other's log return: change of the price ratio"},
    {"cross_excess_z", ONE(50, 2), IMPUTE_TWO(0.0f), excess_z_init, excess_z_value, "[Gatev06]",
     "the same in its own deviations"},
    {"cross_beta", ONE(50, 2), IMPUTE_TWO(0.0f), beta_init, beta_value, "[Sharpe64]",
     "slope of own on the other's returns about zero"},
    {"cross_correlation", ONE(50, 2), IMPUTE_TWO(0.0f), beta_init, correlation_value, "[Tsay10 ch.8]",
     "their correlation about zero"},
    {"cross_lead", ONE(50, 2), IMPUTE_TWO(0.0f), lead_init, lead_value, "[Lo90]",
     "correlation of own returns with the other's one row before"},
};
FEATURE_TABLE(OC_FEATURE_CROSS, cross);
