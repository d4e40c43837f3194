/* features_price.c - price and returns. close is the mid on rows of books; a return is a log return, the exact sum of
 * the fixed-point returns of its rows. */
#include "market/features_table.h"

FEATURE_INIT(return_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 0, OC_SERIES_RETURN, c->p[0]);
}

FEATURE_EVALUATE(return_value)
{
    *value = (double)oc_sum(v, c, 0) / OC_RETURN_SCALE;
    return true;
}

FEATURE_INIT(rows_one_more_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return OC_OK;
}

FEATURE_EVALUATE(change_value)
{
    double before = (double)oc_row_ago(v, c->p[0])->s[OC_SERIES_CLOSE];
    return ratio(now_of(v, OC_SERIES_CLOSE) - before, before, value);
}

FEATURE_INIT(acceleration_init)
{
    oc_plan_series(plan, OC_SERIES_RETURN);
    oc_plan_rows(plan, c, 3);
    return OC_OK;
}

FEATURE_EVALUATE(acceleration_value)
{
    (void)c;
    *value = (double)(v->now->s[OC_SERIES_RETURN] - v->before->s[OC_SERIES_RETURN]) / OC_RETURN_SCALE;
    return true;
}

FEATURE_INIT(two_rows_init)
{
    oc_plan_rows(plan, c, 2);
    return OC_OK;
}

FEATURE_EVALUATE(gap_value)
{
    (void)c;
    double before = (double)v->before->s[OC_SERIES_CLOSE];
    return ratio(now_of(v, OC_SERIES_OPEN) - before, before, value);
}

FEATURE_EVALUATE(body_value)
{
    (void)c;
    return ratio(now_of(v, OC_SERIES_CLOSE) - now_of(v, OC_SERIES_OPEN), now_of(v, OC_SERIES_OPEN), value);
}

FEATURE_EVALUATE(typical_value)
{
    (void)c;
    double close3 = 3.0 * now_of(v, OC_SERIES_CLOSE);
    return ratio(now_of(v, OC_SERIES_TYPICAL) - close3, close3, value);
}

FEATURE_INIT(range_init)
{
    OC_TRY(oc_plan_highest(plan, c, 0, OC_SERIES_HIGH, c->p[0]));
    return oc_plan_lowest(plan, c, 1, OC_SERIES_LOW, c->p[0]);
}

static double extreme_of(const oc_view *v, const oc_feature_column *c, uint32_t slot)
{
    return (double)((const oc_extreme *)oc_node_state(v, c, slot))->value;
}

FEATURE_EVALUATE(range_position_value)
{
    double high = extreme_of(v, c, 0), low = extreme_of(v, c, 1);
    if (!ratio(now_of(v, OC_SERIES_CLOSE) - low, high - low, value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_EVALUATE(range_width_value)
{
    return ratio(extreme_of(v, c, 0) - extreme_of(v, c, 1), now_of(v, OC_SERIES_CLOSE), value);
}

FEATURE_EVALUATE(high_distance_value)
{
    double high = extreme_of(v, c, 0);
    return ratio(now_of(v, OC_SERIES_CLOSE) - high, high, value);
}

FEATURE_EVALUATE(low_distance_value)
{
    double low = extreme_of(v, c, 1);
    return ratio(now_of(v, OC_SERIES_CLOSE) - low, low, value);
}

static const oc_feature_def rows[] = {
    {"return", ONE(1, 1), REQUIRED, return_init, return_value, "[Tsay10 ch.1]", "log return over N rows"},
    {"change", ONE(5, 1), REQUIRED, rows_one_more_init, change_value, "[Tsay10 ch.1]", "close / close N rows ago - 1"},
    {"acceleration", NO_PARAMETER, REQUIRED, acceleration_init, acceleration_value, "",
     "return - return of the row before"},
    {"gap", NO_PARAMETER, REQUIRED, two_rows_init, gap_value, "", "open / previous close - 1"},
    {"body", NO_PARAMETER, REQUIRED, NULL, body_value, "", "close / open - 1"},
    {"typical_gap", NO_PARAMETER, REQUIRED, NULL, typical_value, "[Lambert80]", "(high + low + close) / (3 close) - 1"},
    {"range_position", ONE(20, 2), IMPUTE(0.0f), range_init, range_position_value, "[Lane84]",
     "place of close between lowest low and highest high of N rows, -0.5 to 0.5; missing where they are equal"},
    {"range_width", ONE(20, 2), REQUIRED, range_init, range_width_value, "", "(highest high - lowest low) / close"},
    {"high_distance", ONE(50, 2), REQUIRED, range_init, high_distance_value, "", "close / highest high of N rows - 1"},
    {"low_distance", ONE(50, 2), REQUIRED, range_init, low_distance_value, "", "close / lowest low of N rows - 1"},
};
FEATURE_TABLE(OC_FEATURE_PRICE, price);
