/* features_time.c - where the row lies in the day, the week and the year: UTC of receive_ns, leap seconds left out as
 * in Unix time. Cycles as sine and cosine. Times before 1970 work. */
#include "market/features_table.h"

#define DAY_NS INT64_C(86400000000000)
#define HOUR_NS INT64_C(3600000000000)

/* sin(2 pi x) for x in [0, 1): reduced to an eighth of a turn, Taylor to degree 15 and 14; error below 1e-15. Own, so
 * that the bits do not depend on the C library. */
static double turn_sin_eighth(double t)          /* |t| <= 1/8 turn, t in radians */
{
    double s = t * t;
    return t * (1.0 + s * (-1.0 / 6 + s * (1.0 / 120 + s * (-1.0 / 5040 + s * (1.0 / 362880 + s * (-1.0 / 39916800 +
               s * (1.0 / 6227020800.0)))))));
}

static double turn_cos_eighth(double t)
{
    double s = t * t;
    return 1.0 + s * (-0.5 + s * (1.0 / 24 + s * (-1.0 / 720 + s * (1.0 / 40320 + s * (-1.0 / 3628800 +
           s * (1.0 / 479001600.0 - s / 87178291200.0))))));
}

static double turn_sin(double x)
{
    double quarter = floor(x * 4.0 + 0.5), t = (x - quarter * 0.25) * 6.283185307179586;
    switch ((int)quarter & 3) {
    case 0: return turn_sin_eighth(t);
    case 1: return turn_cos_eighth(t);
    case 2: return -turn_sin_eighth(t);
    default: return -turn_cos_eighth(t);
    }
}

/* Part of a cycle, [0, 1). */
static double part_of(int64_t time_ns, int64_t cycle_ns, int64_t origin_ns)
{
    int64_t rest = (time_ns % cycle_ns - origin_ns) % cycle_ns;
    return (double)(rest < 0 ? rest + cycle_ns : rest) / (double)cycle_ns;
}

static double cosine(double x)
{
    return turn_sin(x < 0.75 ? x + 0.25 : x - 0.75);
}

/* 1 January 1970 was a Thursday: the week begins on Monday, 5 January. The year is the mean Gregorian one. */
enum { CYCLES = 4 };
static const struct { int64_t cycle_ns, origin_ns; } cycles[CYCLES] = {
    {HOUR_NS, 0}, {DAY_NS, 0}, {7 * DAY_NS, 4 * DAY_NS}, {INT64_C(31556952000000000), 0}};

#define CYCLE(name, index)                                                                                             \
    FEATURE_EVALUATE(name##_sin_value)                                                                                 \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        *value = turn_sin(part_of(v->time_ns, cycles[index].cycle_ns, cycles[index].origin_ns));                       \
        return true;                                                                                                   \
    }                                                                                                                  \
    FEATURE_EVALUATE(name##_cos_value)                                                                                 \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        *value = cosine(part_of(v->time_ns, cycles[index].cycle_ns, cycles[index].origin_ns));                         \
        return true;                                                                                                   \
    }
CYCLE(minute, 0)
CYCLE(hour, 1)
CYCLE(weekday, 2)
CYCLE(season, 3)

/* 1 inside [from, to) of the UTC day. */
static double between(int64_t time_ns, double from_hour, double to_hour)
{
    double hour = part_of(time_ns, DAY_NS, 0) * 24.0;
    return hour >= from_hour && hour < to_hour ? 1.0 : 0.0;
}

FEATURE_EVALUATE(tokyo_value)
{
    (void)c;
    *value = between(v->time_ns, 0.0, 9.0);
    return true;
}

FEATURE_EVALUATE(london_value)
{
    (void)c;
    *value = between(v->time_ns, 8.0, 16.5);
    return true;
}

FEATURE_EVALUATE(newyork_value)
{
    (void)c;
    *value = between(v->time_ns, 13.5, 20.0);
    return true;
}

FEATURE_INIT(pace_init)
{
    oc_plan_rows(plan, c, c->p[0] + 1);
    return OC_OK;
}

/* Time since the row before, d, against the mean of N rows, m: d / (d + m) - 1/2; times that overflow are missing. */
FEATURE_EVALUATE(pace_value)
{
    int64_t now, all;
    if (__builtin_sub_overflow(v->now->s[OC_SERIES_TIME], v->before->s[OC_SERIES_TIME], &now) ||
        __builtin_sub_overflow(v->now->s[OC_SERIES_TIME], oc_row_ago(v, c->p[0])->s[OC_SERIES_TIME], &all) || now < 0)
        return false;
    double d = (double)now * c->p[0];
    if (!ratio(d, d + (double)all, value)) return false;
    *value -= 0.5;
    return true;
}

static const oc_feature_def rows[] = {
    {"minute_sin", NO_PARAMETER, REQUIRED, NULL, minute_sin_value, "", "place in the hour, sine"},
    {"minute_cos", NO_PARAMETER, REQUIRED, NULL, minute_cos_value, "", "place in the hour, cosine"},
    {"hour_sin", NO_PARAMETER, REQUIRED, NULL, hour_sin_value, "", "place in the UTC day, sine"},
    {"hour_cos", NO_PARAMETER, REQUIRED, NULL, hour_cos_value, "", "place in the UTC day, cosine"},
    {"weekday_sin", NO_PARAMETER, REQUIRED, NULL, weekday_sin_value, "", "place in the week from Monday 0 h UTC, sine"},
    {"weekday_cos", NO_PARAMETER, REQUIRED, NULL, weekday_cos_value, "",
     "place in the week from Monday 0 h UTC, cosine"},
    {"season_sin", NO_PARAMETER, REQUIRED, NULL, season_sin_value, "", "place in the mean year, sine"},
    {"season_cos", NO_PARAMETER, REQUIRED, NULL, season_cos_value, "", "place in the mean year, cosine"},
    {"session_tokyo", NO_PARAMETER, REQUIRED, NULL, tokyo_value, "", "1 from 0 to 9 h UTC"},
    {"session_london", NO_PARAMETER, REQUIRED, NULL, london_value, "", "1 from 8 to 16:30 h UTC"},
    {"session_newyork", NO_PARAMETER, REQUIRED, NULL, newyork_value, "", "1 from 13:30 to 20 h UTC"},
    {"pace", ONE(20, 1), IMPUTE(0.0f), pace_init, pace_value, "[Engle98]",
     "time since the row before against N rows' mean, bounded by 0.5"},
};
FEATURE_TABLE(OC_FEATURE_TIME, time);
