/* features_flow.c - trades: who was the aggressor, at what price, how much, with what effect. Bars have no aggressor:
 * their volume counts with the sign of the change (the tick rule on bars). All are missing where nothing traded. */
#include "market/features_table.h"

FEATURE_INIT(signed_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_sum(plan, c, 0, OC_SERIES_SIGNED, c->p[0]));
    return oc_plan_sum(plan, c, 1, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(signed_value)
{
    return ratio((double)oc_sum(v, c, 0), (double)oc_sum(v, c, 1), value);
}

FEATURE_INIT(vwap_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_sum(plan, c, 0, OC_SERIES_VALUE_HIGH, c->p[0]));
    OC_TRY(oc_plan_sum(plan, c, 1, OC_SERIES_VALUE_LOW, c->p[0]));
    return oc_plan_sum(plan, c, 2, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(vwap_value)                     /* values are sums of three times price * lots */
{
    oc_i128 value3 = (oc_i128)oc_sum(v, c, 0) * ((int64_t)1 << OC_VALUE_BITS) + oc_sum(v, c, 1);
    oc_i128 level3 = (oc_i128)(3 * v->now->s[OC_SERIES_CLOSE]) * oc_sum(v, c, 2);
    return ratio(oc_wide(level3 - value3), oc_wide(value3), value);
}

FEATURE_INIT(volume_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 0, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(volume_ratio_value)             /* bounded: v / (v + mean) - 1/2 */
{
    double now = now_of(v, OC_SERIES_VOLUME) * c->p[0];
    if (!ratio(now, now + (double)oc_sum(v, c, 0), value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(volume_z_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_moments(plan, c, 0, OC_SERIES_VOLUME, c->p[0]);
}

FEATURE_EVALUATE(volume_z_value)
{
    const oc_moments *m = oc_node_state(v, c, 0);
    return ratio((double)(v->now->s[OC_SERIES_VOLUME] * c->p[0] - m->sum), m->root, value);
}

FEATURE_INIT(intensity_init)
{
    for (uint32_t i = 0; i < 2; i++) {
        oc_plan_rows(plan, c, c->p[i] + 1);
        OC_TRY(oc_plan_sum(plan, c, i, OC_SERIES_VOLUME, c->p[i]));
    }
    return OC_OK;
}

FEATURE_EVALUATE(intensity_value)                /* short mean / (short + long mean) - 1/2 */
{
    double fast = (double)oc_sum(v, c, 0) * c->p[1], slow = (double)oc_sum(v, c, 1) * c->p[0];
    if (!ratio(fast, fast + slow, value)) return false;
    *value -= 0.5;
    return true;
}

/* Correlation about zero of return and signed volume: price impact without a unit [Kyle85]. */
FEATURE_INIT(impact_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    OC_TRY(oc_plan_product(plan, c, 0, OC_SERIES_RETURN, OC_SERIES_SIGNED, 0, c->p[0]));
    OC_TRY(oc_plan_squares(plan, c, 1, OC_SERIES_RETURN, c->p[0]));
    return oc_plan_squares(plan, c, 2, OC_SERIES_SIGNED, c->p[0]);
}

FEATURE_EVALUATE(impact_value)
{
    return ratio(oc_wide_sum(v, c, 0), sqrt(oc_wide_sum(v, c, 1)) * sqrt(oc_wide_sum(v, c, 2)), value);
}

/* |return| per lot now against the window's: above 0 where prices give way more easily than usual. */
FEATURE_INIT(illiquidity_init)
{
    OC_TRY(volume_init(plan, c));
    return oc_plan_sum(plan, c, 1, OC_SERIES_RETURN_ABS, c->p[0]);
}

FEATURE_EVALUATE(illiquidity_value)
{
    double now = now_of(v, OC_SERIES_RETURN_ABS) * (double)oc_sum(v, c, 0);
    double usual = (double)oc_sum(v, c, 1) * now_of(v, OC_SERIES_VOLUME);
    if (!ratio(now, now + usual, value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(profile_init)
{
    return volume_init(plan, c);
}

/* Of the volume of N rows, the share that traded at closes below the present one, ties by half, -0.5 to 0.5. */
FEATURE_EVALUATE(profile_value)
{
    int64_t close = v->now->s[OC_SERIES_CLOSE], balance = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        const int64_t *row = oc_row_ago(v, i)->s;
        int64_t sign = (row[OC_SERIES_CLOSE] < close) - (row[OC_SERIES_CLOSE] > close);
        balance += sign * row[OC_SERIES_VOLUME];
    }
    return ratio(0.5 * (double)balance, (double)oc_sum(v, c, 0), value);
}

/* Mean |signed volume| / volume over rows: the imbalance that informed flow leaves [Easley12]. */
FEATURE_INIT(toxicity_init)
{
    oc_plan_series(plan, OC_SERIES_SIGNED);
    return volume_init(plan, c);
}

FEATURE_EVALUATE(toxicity_value)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < c->p[0]; i++) {
        int64_t lots = oc_row_ago(v, i)->s[OC_SERIES_SIGNED];
        sum += lots < 0 ? -lots : lots;
    }
    return ratio((double)sum, (double)oc_sum(v, c, 0), value);
}

FEATURE_INIT(trade_size_init)
{
    OC_TRY(volume_init(plan, c));
    return oc_plan_sum(plan, c, 1, OC_SERIES_TRADES, c->p[0]);
}

FEATURE_EVALUATE(trade_size_value)               /* mean size of this row's trades m, of N rows' M: m / (m + M) - 1/2 */
{
    double now = now_of(v, OC_SERIES_VOLUME) * (double)oc_sum(v, c, 1);
    double usual = (double)oc_sum(v, c, 0) * now_of(v, OC_SERIES_TRADES);
    if (!(usual > 0.0) || !ratio(now, now + usual, value)) return false;
    *value -= 0.5;
    return true;
}

FEATURE_INIT(pressure_init)
{
    oc_plan_series(plan, OC_SERIES_SIGNED);
    return volume_init(plan, c);
}

FEATURE_EVALUATE(pressure_value) /* this row's buys - sells s against the mean volume m: s / (|s| + m) */
{
    double now = now_of(v, OC_SERIES_SIGNED) * c->p[0];
    return ratio(now, fabs(now) + (double)oc_sum(v, c, 0), value);
}

static const oc_feature_def rows[] = {
    {"signed_volume", ONE(20, 1), IMPUTE(0.0f), signed_init, signed_value, "[Lee91]",
     "(buys - sells) / volume of N rows"},
    {"pressure", ONE(50, 1), IMPUTE(0.0f), pressure_init, pressure_value, "[Lee91]",
     "this row's buys - sells s against the mean volume m: s / (|s| + m)"},
    {"vwap_gap", ONE(20, 1), IMPUTE(0.0f), vwap_init, vwap_value, "[Berkowitz88]",
     "close / volume-weighted price of N rows - 1"},
    {"volume_ratio", ONE(20, 1), IMPUTE(0.0f), volume_init, volume_ratio_value, "",
     "volume x against its mean m: x / (x + m) - 0.5"},
    {"volume_z", ONE(50, 2), IMPUTE(0.0f), volume_z_init, volume_z_value, "",
     "(volume - mean) / deviation over N rows"},
    {"intensity", TWO(5, 50, 1, 2), IMPUTE(0.0f), intensity_init, intensity_value, "",
     "mean volume a of A rows against b of B: a / (a + b) - 0.5"},
    {"impact", ONE(50, 2), IMPUTE(0.0f), impact_init, impact_value, "[Kyle85]",
     "correlation of return and signed volume about zero"},
    {"illiquidity", ONE(50, 1), IMPUTE(0.0f), illiquidity_init, illiquidity_value, "[Amihud02]",
     "|return| a lot against that of N rows, bounded by 0.5"},
    {"profile", ONE(50, 2), IMPUTE(0.0f), profile_init, profile_value, "[Steidlmayer89]",
     "volume of N rows at closes below minus above the present one / 2 volumes"},
    {"toxicity", ONE(50, 1), IMPUTE(0.0f), toxicity_init, toxicity_value, "[Easley12]",
     "sum of |signed volume| / volume over N rows"},
    {"trade_size", ONE(50, 1), IMPUTE(0.0f), trade_size_init, trade_size_value, "",
     "mean trade of the row against that of N rows; bars: missing"},
};
FEATURE_TABLE(OC_FEATURE_FLOW, flow);
