/* features_recursive.c - EMA, MACD, Wilder's averages (RSI, ATR, ADX) with a bounded history.
 *
 * A recursive average remembers everything, so two runs that begin at different times never agree in bits. Here each
 * one runs as two overlapped accumulators, lane 0 the older, lane 1 the younger. Time is cut at multiples of
 * `period_ns` of the rows' receive_ns. With the first row of a new period the younger becomes the older and a fresh one
 * begins with that row; where a whole period had no row, the older one is dropped. The value is the older's, or the
 * younger's where there is no older, and missing until that one has its declared minimum of samples.
 *
 * So a value depends on rows of this period and the one before: 2 * period_ns, whenever the run began. A run whose
 * first row is anywhere inside a period does not know whether that row is the period's first: no accumulator begins
 * until the next boundary, and while an older one may exist that this run has not seen, the value is missing (`doubt`).
 * A row after a gap is a beginning for every run that sees it. So a value that is there is right, whenever a run began.
 * Period: 2 * minimum samples * the typical spacing of rows (oc_feature_spec.row_ns), so that in a stream of that
 * spacing the older one has about twice its minimum when it is first read. The minimum is where the weight of what was
 * before is below TAIL, so the change of lanes is invisible at f32.
 *
 * Conventions are TA-Lib's: the first value of an average is the plain mean of its first n samples; Wilder sums of ADX
 * start with n - 1 samples; MACD's fast average begins so that its first value is at the slow one's.
 * Both lanes advance together; the compiler makes one vector of them. */
#include <math.h>
#include <string.h>
#include "market/features_internal.h"

#define TAIL 3e-8              /* measured against TA-Lib over the full history: tests/market/test_features_talib.c */
#define TAIL_MACD 1e-8         /* a difference of two averages loses about a digit */

static int64_t boundary_after(int64_t time_ns, int64_t period_ns)
{
    int64_t k = time_ns / period_ns - (time_ns % period_ns < 0), next;
    if (__builtin_mul_overflow(k + 1, period_ns, &next)) return INT64_MAX;
    return next;
}

/* A row at or past the boundary, or the first one. Rare. */
static void lanes_turn(oc_lanes *l, const oc_node *n, const oc_view *v)
{
    int64_t following;
    if (__builtin_add_overflow(l->next_ns, n->period_ns, &following)) following = INT64_MAX;
    bool contiguous = l->seen && v->time_ns < following;
    if (l->seen || v->known_start) {
        l->count[0] = contiguous ? l->count[1] : 0;
        for (int i = 0; i < OC_LANE_PAIRS; i++) {
            l->x[i][0] = contiguous ? l->x[i][1] : 0.0;
            l->x[i][1] = 0.0;
        }
        l->count[1] = 0;
        l->live = 1;
        l->doubt = contiguous && l->doubt ? l->doubt - 1 : 0;
    } else {
        l->doubt = 2;
    }
    l->seen = 1;
    l->next_ns = boundary_after(v->time_ns, n->period_ns);
}

/* Counts the row; returns false while no lane runs. */
static inline bool lanes_row(oc_lanes *l, const oc_node *n, const oc_view *v)
{
    if (!l->seen || v->time_ns >= l->next_ns) lanes_turn(l, n, v);
    l->count[0] += l->count[0] != 0;
    l->count[1] += l->live;
    return l->live;
}

/* One step of an average of n samples in one lane: `sample` counts from 1. Plain mean first, then the recursion. */
static inline double average_step(double mean, double x, uint32_t sample, uint32_t n, double weight)
{
    if (sample > n) return mean + (x - mean) * weight;
    return sample == n ? (mean + x) / n : mean + x;
}

static void ema_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_lanes *l = state;
    if (!lanes_row(l, n, v)) return;
    double x = (double)v->now->s[OC_SERIES_CLOSE];
    if (l->count[0] > n->p[0] && l->count[1] > n->p[0]) {
        for (int i = 0; i < 2; i++) l->x[0][i] += (x - l->x[0][i]) * n->k[0];
        return;
    }
    for (int i = 0; i < 2; i++)
        if (l->count[i]) l->x[0][i] = average_step(l->x[0][i], x, l->count[i], n->p[0], n->k[0]);
}

/* x: fast, slow, signal. Samples of fast are counted so that it and slow have their first value together. */
static void macd_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_lanes *l = state;
    if (!lanes_row(l, n, v)) return;
    double x = (double)v->now->s[OC_SERIES_CLOSE];
    uint32_t fast = n->p[0], slow = n->p[1], signal = n->p[2], warm = slow + signal;
    if (l->count[0] > warm && l->count[1] > warm) {
        for (int i = 0; i < 2; i++) {
            l->x[0][i] += (x - l->x[0][i]) * n->k[0];
            l->x[1][i] += (x - l->x[1][i]) * n->k[1];
            l->x[2][i] += (l->x[0][i] - l->x[1][i] - l->x[2][i]) * n->k[2];
        }
        return;
    }
    for (int i = 0; i < 2; i++) {
        uint32_t count = l->count[i];
        if (count > slow - fast) l->x[0][i] = average_step(l->x[0][i], x, count - (slow - fast), fast, n->k[0]);
        if (count) l->x[1][i] = average_step(l->x[1][i], x, count, slow, n->k[1]);
        if (count >= slow)
            l->x[2][i] = average_step(l->x[2][i], l->x[0][i] - l->x[1][i], count - slow + 1, signal, n->k[2]);
    }
}

/* Wilder's mean of two series that need the row before: the first row of a lane has no sample. */
static inline void wilder_update(const oc_node *n, oc_lanes *l, double a, double b)
{
    uint32_t period = n->p[0];
    if (l->count[0] > period + 1 && l->count[1] > period + 1) {
        for (int i = 0; i < 2; i++) {
            l->x[0][i] += (a - l->x[0][i]) * n->k[0];
            l->x[1][i] += (b - l->x[1][i]) * n->k[0];
        }
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (l->count[i] < 2) continue;
        l->x[0][i] = average_step(l->x[0][i], a, l->count[i] - 1, period, n->k[0]);
        l->x[1][i] = average_step(l->x[1][i], b, l->count[i] - 1, period, n->k[0]);
    }
}

static void rsi_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_lanes *l = state;
    if (!lanes_row(l, n, v)) return;
    double change = (double)v->now->s[OC_SERIES_CHANGE];
    wilder_update(n, l, change > 0.0 ? change : 0.0, change < 0.0 ? -change : 0.0);
}

static void atr_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_lanes *l = state;
    if (!lanes_row(l, n, v)) return;
    wilder_update(n, l, (double)v->now->s[OC_SERIES_RANGE], 0.0);
}

/* |plus - minus| / (plus + minus): DX / 100; the true range has cancelled. */
static inline double adx_dx(double plus, double minus)
{
    double sum = plus + minus;
    return sum > 0.0 ? fabs(plus - minus) / sum : 0.0;
}

/* x: Wilder sums of +DM, -DM and true range, and the mean of DX. */
static void adx_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_lanes *l = state;
    if (!lanes_row(l, n, v)) return;
    const oc_ring_row *before = oc_row_ago(v, 1);
    int64_t up = v->now->s[OC_SERIES_HIGH] - before->s[OC_SERIES_HIGH];
    int64_t down = before->s[OC_SERIES_LOW] - v->now->s[OC_SERIES_LOW];
    double plus = up > 0 && up > down ? (double)up : 0.0, minus = down > 0 && down > up ? (double)down : 0.0;
    double range = (double)v->now->s[OC_SERIES_RANGE];
    uint32_t period = n->p[0];
    bool warm = l->count[0] > 2 * period && l->count[1] > 2 * period;
    for (int i = 0; i < 2; i++) {
        if (l->count[i] < 2) continue;
        uint32_t sample = l->count[i] - 1;
        double keep = sample < period ? 1.0 : n->k[1];
        l->x[0][i] = l->x[0][i] * keep + plus;
        l->x[1][i] = l->x[1][i] * keep + minus;
        l->x[2][i] = l->x[2][i] * keep + range;
        if (sample < period) continue;
        double dx = adx_dx(l->x[0][i], l->x[1][i]);
        if (warm)
            l->x[3][i] += (dx - l->x[3][i]) * n->k[0];
        else
            l->x[3][i] = average_step(l->x[3][i], dx, sample - period + 1, period, n->k[0]);
    }
}

/* Samples until the weight (1 - weight)^k of what was before is below `tail`. */
static uint32_t samples_until(double weight, double tail)
{
    uint32_t count = 0;
    for (double left = 1.0; left > tail && count < 64u * OC_FEATURE_WINDOW_MAX; left *= 1.0 - weight) count++;
    return count;
}

static oc_status recursive(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_node *n)
{
    if (!(n->samples <= 64u * OC_FEATURE_WINDOW_MAX) || !(n->p[0] <= OC_FEATURE_WINDOW_MAX))
        return OC_FAIL(OC_ECONFIG, "feature %s: an average over more than %d rows", c->info->name,
                       OC_FEATURE_WINDOW_MAX);
    if (__builtin_mul_overflow((int64_t)2 * n->samples, plan->row_ns, &n->period_ns) || n->period_ns > INT64_MAX / 4)
        return OC_FAIL(OC_ECONFIG, "feature %s: its period of 2 * %u rows of %lld ns is over 73 years", c->info->name,
                       n->samples, (long long)plan->row_ns);
    n->rows = 2;
    n->window = 1;
    n->bytes = sizeof(oc_lanes);
    return oc_plan_node(plan, c, slot, n);
}

oc_status oc_plan_ema(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n)
{
    double weight = 2.0 / (n + 1.0);
    return recursive(plan, c, slot, &(oc_node){.update = ema_update, .p = {n}, .k = {weight},
                                               .samples = n + samples_until(weight, TAIL)});
}

oc_status oc_plan_macd(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const uint32_t p[3])
{
    if (!(p[0] < p[1] && p[1] <= OC_FEATURE_WINDOW_MAX && p[2] <= OC_FEATURE_WINDOW_MAX))
        return OC_FAIL(OC_ECONFIG, "feature %s: the first average must be shorter than the second, none over %d rows",
                       c->info->name, OC_FEATURE_WINDOW_MAX);
    double slow = 2.0 / (p[1] + 1.0);
    return recursive(plan, c, slot,
                     &(oc_node){.update = macd_update, .p = {p[0], p[1], p[2]},
                                .k = {2.0 / (p[0] + 1.0), slow, 2.0 / (p[2] + 1.0)},
                                .samples = p[1] + p[2] + samples_until(slow, TAIL_MACD)});
}

oc_status oc_plan_rsi(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n)
{
    return recursive(plan, c, slot, &(oc_node){.update = rsi_update, .p = {n}, .k = {1.0 / n},
                                               .samples = n + 1 + samples_until(1.0 / n, TAIL)});
}

oc_status oc_plan_atr(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n)
{
    oc_plan_series(plan, OC_SERIES_RANGE);
    return recursive(plan, c, slot, &(oc_node){.update = atr_update, .p = {n}, .k = {1.0 / n},
                                               .samples = n + 1 + samples_until(1.0 / n, TAIL)});
}

/* Two averages in a row: the tail of the second is the first's times (1 + k / n), hence the larger count. */
oc_status oc_plan_adx(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, uint32_t n)
{
    oc_plan_series(plan, OC_SERIES_RANGE);
    return recursive(plan, c, slot, &(oc_node){.update = adx_update, .p = {n}, .k = {1.0 / n, 1.0 - 1.0 / n},
                                               .samples = 2 * n + samples_until(1.0 / n, TAIL / 32.0)});
}
