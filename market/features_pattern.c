/* features_pattern.c - candle shapes and levels. A shape is 1 (rising), -1 (falling) or 0; proportions are compared in
 * integers. On rows of `packet` sampling a candle has no extent: shapes are 0 there, levels work. */
#include "market/features_table.h"

typedef struct candle { int64_t body, range, upper, lower; } candle;       /* body signed */

static candle candle_of(const oc_ring_row *r)
{
    int64_t open = r->s[OC_SERIES_OPEN], close = r->s[OC_SERIES_CLOSE];
    int64_t top = open > close ? open : close, bottom = open > close ? close : open;
    return (candle){close - open, r->s[OC_SERIES_HIGH] - r->s[OC_SERIES_LOW], r->s[OC_SERIES_HIGH] - top,
                    bottom - r->s[OC_SERIES_LOW]};
}

static int64_t size_of(int64_t x)
{
    return x < 0 ? -x : x;
}

FEATURE_INIT(rows_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return OC_OK;
}

FEATURE_INIT(two_init)
{
    oc_plan_rows(plan, c, 2);
    return OC_OK;
}

FEATURE_EVALUATE(upper_shadow_value)
{
    (void)c;
    candle k = candle_of(v->now);
    return ratio((double)k.upper, (double)k.range, value);
}

FEATURE_EVALUATE(lower_shadow_value)
{
    (void)c;
    candle k = candle_of(v->now);
    return ratio((double)k.lower, (double)k.range, value);
}

FEATURE_EVALUATE(doji_value)                     /* body at most a tenth of the range */
{
    (void)c;
    candle k = candle_of(v->now);
    *value = k.range > 0 && 10 * size_of(k.body) <= k.range ? 1.0 : 0.0;
    return true;
}

/* 1 hammer: lower shadow at least two bodies, upper at most half a body; -1 the shooting star, its mirror. */
FEATURE_EVALUATE(hammer_value)
{
    (void)c;
    candle k = candle_of(v->now);
    int64_t body = size_of(k.body);
    bool hammer = body > 0 && k.lower >= 2 * body && 2 * k.upper <= body;
    bool star = body > 0 && k.upper >= 2 * body && 2 * k.lower <= body;
    *value = hammer ? 1.0 : star ? -1.0 : 0.0;
    return true;
}

FEATURE_EVALUATE(engulfing_value)
{
    (void)c;
    const int64_t *now = v->now->s, *before = v->before->s;
    int64_t body = now[OC_SERIES_CLOSE] - now[OC_SERIES_OPEN], last = before[OC_SERIES_CLOSE] - before[OC_SERIES_OPEN];
    bool up = body > 0 && last < 0 && now[OC_SERIES_OPEN] <= before[OC_SERIES_CLOSE] &&
              now[OC_SERIES_CLOSE] >= before[OC_SERIES_OPEN] && body > -last;
    bool down = body < 0 && last > 0 && now[OC_SERIES_OPEN] >= before[OC_SERIES_CLOSE] &&
                now[OC_SERIES_CLOSE] <= before[OC_SERIES_OPEN] && -body > last;
    *value = up ? 1.0 : down ? -1.0 : 0.0;
    return true;
}

FEATURE_EVALUATE(inside_value)
{
    (void)c;
    const int64_t *now = v->now->s, *before = v->before->s;
    bool inside = now[OC_SERIES_HIGH] < before[OC_SERIES_HIGH] && now[OC_SERIES_LOW] > before[OC_SERIES_LOW];
    bool outside = now[OC_SERIES_HIGH] > before[OC_SERIES_HIGH] && now[OC_SERIES_LOW] < before[OC_SERIES_LOW];
    *value = inside ? 1.0 : outside ? -1.0 : 0.0;
    return true;
}

FEATURE_EVALUATE(streak_value)                   /* rows in a row with the same sign of change, at most N, / N */
{
    int64_t sign = v->now->s[OC_SERIES_SIGN];
    uint32_t count = 0;
    while (sign != 0 && count < c->p[0] && oc_row_ago(v, count)->s[OC_SERIES_SIGN] == sign) count++;
    *value = (double)sign * count / c->p[0];
    return true;
}

/* Extremes of the N rows before this one are found from those of N + 1 rows and this row's. */
FEATURE_INIT(breakout_init)
{
    OC_TRY(oc_plan_highest(plan, c, 0, OC_SERIES_CLOSE, c->p[0] + 1));
    return oc_plan_lowest(plan, c, 1, OC_SERIES_CLOSE, c->p[0] + 1);
}

FEATURE_EVALUATE(breakout_value)                 /* the new close alone is the extreme: 1 or -1; 0 between or flat */
{
    (void)c;
    const oc_extreme *high = oc_node_state(v, c, 0), *low = oc_node_state(v, c, 1);
    int64_t step = v->now->s[OC_SERIES_CHANGE];
    *value = high->age == 0 && step > 0 ? 1.0 : low->age == 0 && step < 0 ? -1.0 : 0.0;
    return true;
}

FEATURE_INIT(level_init)
{
    OC_TRY(oc_plan_highest(plan, c, 0, OC_SERIES_HIGH, c->p[0]));
    OC_TRY(oc_plan_lowest(plan, c, 1, OC_SERIES_LOW, c->p[0]));
    oc_plan_rows(plan, c, c->p[0] + 1);
    return oc_plan_sum(plan, c, 2, OC_SERIES_RANGE, c->p[0]);
}

FEATURE_EVALUATE(resistance_value)
{
    const oc_extreme *high = oc_node_state(v, c, 0);
    return ratio((double)(high->value - v->now->s[OC_SERIES_CLOSE]) * c->p[0], (double)oc_sum(v, c, 2), value);
}

FEATURE_EVALUATE(support_value)
{
    const oc_extreme *low = oc_node_state(v, c, 1);
    return ratio((double)(v->now->s[OC_SERIES_CLOSE] - low->value) * c->p[0], (double)oc_sum(v, c, 2), value);
}

static const oc_feature_def rows[] = {
    {"upper_shadow", NO_PARAMETER, IMPUTE(0.0f), NULL, upper_shadow_value, "[Nison91]",
     "upper shadow / range of the row"},
    {"lower_shadow", NO_PARAMETER, IMPUTE(0.0f), NULL, lower_shadow_value, "[Nison91]",
     "lower shadow / range of the row"},
    {"doji", NO_PARAMETER, REQUIRED, NULL, doji_value, "[Nison91 ch.8]",
     "1 where the body is at most a tenth of the range"},
    {"hammer", NO_PARAMETER, REQUIRED, NULL, hammer_value, "[Nison91 ch.4]", "1 hammer, -1 shooting star"},
    {"engulfing", NO_PARAMETER, REQUIRED, two_init, engulfing_value, "[Nison91 ch.4]",
     "1 rising, -1 falling engulfing body"},
    {"inside", NO_PARAMETER, REQUIRED, two_init, inside_value, "[Murphy99]",
     "1 inside, -1 outside the row before"},
    {"streak", ONE(10, 1), REQUIRED, rows_init, streak_value, "",
     "rows in a row in one direction, signed, at most N, / N"},
    {"breakout", ONE(20, 1), REQUIRED, breakout_init, breakout_value, "[Brock92]",
     "1 where close is a new high of N rows before, -1 a new low (equal counts)"},
    {"resistance", ONE(50, 2), IMPUTE(0.0f), level_init, resistance_value, "[Brock92]",
     "(highest high of N rows - close) / mean true range"},
    {"support", ONE(50, 2), IMPUTE(0.0f), level_init, support_value, "[Brock92]",
     "(close - lowest low of N rows) / mean true range"},
};
FEATURE_TABLE(OC_FEATURE_PATTERN, pattern);
