/* naive_features.h - the formula of every feature once more, over the whole list of rows, in doubles, with no running
 * state. R(k) is the row k rows ago; NEED(n) is missing with fewer than n rows since the restart. */
#ifndef OC_TESTS_NAIVE_FEATURES_H
#define OC_TESTS_NAIVE_FEATURES_H

#include "market/features_internal.h"
#include "market/naive_rows.h"

#define NONE ((double)NAN)

typedef struct at { const naive_row *r; size_t i, have; const uint32_t *p; const oc_feature_column *c; } at;
typedef double (*naive_feature)(const at *a);

#define R(k) (a->r[a->i - (size_t)(k)])
#define N ((int)a->p[0])
#define NEED(rows) if (a->have < (size_t)(rows)) return NONE
#define FEATURE(name) static double name(const at *a)

static double divide(double x, double y) { return y > 0 ? x / y : NONE; }
static double fixed(double x) { return floor(x * 0x1p40 + 0.5) * 0x1p-40; }
static double ret(const at *a, int k) { return fixed(log(R(k).c / R(k + 1).c)); }
static double typical(const naive_row *r) { return r->h + r->l + r->c; }
static double change(const at *a, int k) { return (size_t)k + 1 < a->have ? R(k).c - R(k + 1).c : 0; }
static double sign(double x) { return (x > 0) - (x < 0); }
static double true_range(const at *a, int k)
{
    if ((size_t)k + 1 >= a->have) return R(k).h - R(k).l;
    return fmax(R(k).h, R(k + 1).c) - fmin(R(k).l, R(k + 1).c);
}
static double top(const at *a, int n) { double m = 0; for (int k = 0; k < n; k++) m = fmax(m, R(k).h); return m; }
static double bottom(const at *a, int n)
{
    double m = 1e300;
    for (int k = 0; k < n; k++) m = fmin(m, R(k).l);
    return m;
}

typedef double (*term)(const at *a, int k);
static double t_close(const at *a, int k) { return R(k).c; }
static double t_square(const at *a, int k) { return ret(a, k) * ret(a, k); }
static double t_size(const at *a, int k) { return fabs(ret(a, k)); }
static double t_volume(const at *a, int k) { return R(k).volume; }
static double t_signed(const at *a, int k) { return R(k).sign_volume; }
static double t_typical(const at *a, int k) { return typical(&R(k)); }
static double t_change_size(const at *a, int k) { return fabs(change(a, k)); }
static double t_spread(const at *a, int k) { return R(k).spread; }
static double t_bid(const at *a, int k) { return R(k).bid_lots; }
static double t_ask(const at *a, int k) { return R(k).ask_lots; }
static double t_depth(const at *a, int k) { return R(k).depth; }
static double t_ofi(const at *a, int k) { return R(k).ofi; }
static double t_trades(const at *a, int k) { return R(k).trades; }
static double t_other(const at *a, int k) { return fixed(R(k).other); }
static double t_excess(const at *a, int k) { return ret(a, k) - fixed(R(k).other); }

static double sum(const at *a, term t, int n)
{
    long double s = 0;
    for (int k = 0; k < n; k++) s += (long double)t(a, k);
    return (double)s;
}
static double mean(const at *a, term t, int n) { return sum(a, t, n) / n; }
static double scatter(const at *a, term t, int n)
{
    double m = mean(a, t, n);
    long double s = 0;
    for (int k = 0; k < n; k++) s += (long double)(t(a, k) - m) * (long double)(t(a, k) - m);
    return (double)s;
}
static double deviation(const at *a, term t, int n) { return sqrt(scatter(a, t, n) / n); }
static double z(const at *a, term t, int n) { return divide(t(a, 0) - mean(a, t, n), deviation(a, t, n)); }

/* price */
FEATURE(f_return) { NEED(N + 1); return sum(a, ret, N); }
FEATURE(f_change) { NEED(N + 1); return R(0).c / R(N).c - 1; }
FEATURE(f_acceleration) { NEED(3); return ret(a, 0) - ret(a, 1); }
FEATURE(f_gap) { NEED(2); return R(0).o / R(1).c - 1; }
FEATURE(f_body) { return R(0).c / R(0).o - 1; }
FEATURE(f_typical_gap) { return typical(&R(0)) / 3 / R(0).c - 1; }
FEATURE(f_range_position) { NEED(N); return divide(R(0).c - bottom(a, N), top(a, N) - bottom(a, N)) - 0.5; }
FEATURE(f_range_width) { NEED(N); return (top(a, N) - bottom(a, N)) / R(0).c; }
FEATURE(f_high_distance) { NEED(N); return R(0).c / top(a, N) - 1; }
FEATURE(f_low_distance) { NEED(N); return R(0).c / bottom(a, N) - 1; }
/* averages */
FEATURE(f_sma_gap) { NEED(N); return R(0).c / mean(a, t_close, N) - 1; }
FEATURE(f_sma_slope)
{
    NEED(N + 1);
    double before = 0;
    for (int k = 1; k <= N; k++) before += R(k).c / N;
    return 1 - before / mean(a, t_close, N);
}
FEATURE(f_sma_cross) { NEED(a->p[1]); return mean(a, t_close, N) / mean(a, t_close, (int)a->p[1]) - 1; }
FEATURE(f_wma_gap)
{
    NEED(N);
    double s = 0, w = 0;
    for (int k = 0; k < N; k++) s += (N - k) * R(k).c, w += N - k;
    return R(0).c / (s / w) - 1;
}
FEATURE(f_vwma_gap)
{
    NEED(N);
    double s = 0, w = 0;
    for (int k = 0; k < N; k++) s += R(k).volume * R(k).c, w += R(k).volume;
    return divide(R(0).c * w, s) - 1;
}

/* Recursive ones: where the accumulator began by the rule of DESIGN section 4, then the textbook recursion from there.
 */
static int64_t period_of(int64_t t, int64_t p) { return (int64_t)floor((double)t / (double)p); }
static int began(const at *a, uint32_t slot, int *samples)
{
    int64_t p = a->c->node[slot]->period_ns, now = period_of(R(0).time_ns, p), first[2] = {-1, -1};
    for (int k = (int)a->have - 1; k >= 0; k--) {                        /* from the oldest row since the restart */
        int64_t at_period = period_of(R(k).time_ns, p);
        if (at_period == now - 1 && first[0] < 0) first[0] = k;
        if (at_period == now && first[1] < 0) first[1] = k;
    }
    int64_t begin = first[0] >= 0 ? first[0] : first[1];
    *samples = (int)begin + 1;
    return *samples >= (int)a->c->node[slot]->samples ? (int)begin : -1;
}
static double average(const double *x, int count, int n, double weight)
{
    double m = 0;
    for (int i = 0; i < n; i++) m += x[i] / n;
    for (int i = n; i < count; i++) m = (1 - weight) * m + weight * x[i];
    return m;
}
enum { LONGEST = 100000 };
static double series[8][LONGEST];
static double ema(const at *a, uint32_t slot, int n)
{
    int samples, begin = began(a, slot, &samples);
    if (begin < 0) return NONE;
    for (int k = begin; k >= 0; k--) series[0][begin - k] = R(k).c;
    return average(series[0], samples, n, 2.0 / (n + 1));
}
FEATURE(f_ema_gap) { NEED(2); return R(0).c / ema(a, 0, N) - 1; }
FEATURE(f_ema_cross) { NEED(2); return ema(a, 0, N) / ema(a, 1, (int)a->p[1]) - 1; }
static double macd(const at *a, int which)
{
    int samples, begin = began(a, 0, &samples), slow = (int)a->p[1], fast = N;
    if (begin < 0) return NONE;
    for (int k = begin; k >= 0; k--) series[0][begin - k] = R(k).c;
    for (int i = slow; i <= samples; i++)
        series[1][i - slow] = average(series[0] + slow - fast, i - (slow - fast), fast, 2.0 / (fast + 1)) -
                              average(series[0], i, slow, 2.0 / (slow + 1));
    double line = series[1][samples - slow],
           smooth = average(series[1], samples - slow + 1, (int)a->p[2], 2.0 / (a->p[2] + 1.0));
    return (which == 0 ? line : which == 1 ? smooth : line - smooth) / R(0).c;
}
FEATURE(f_macd) { NEED(2); return macd(a, 0); }
FEATURE(f_macd_signal) { NEED(2); return macd(a, 1); }
FEATURE(f_macd_histogram) { NEED(2); return macd(a, 2); }
FEATURE(f_rsi)
{
    NEED(2);
    int samples, begin = began(a, 0, &samples);
    if (begin < 0) return NONE;
    for (int k = begin - 1; k >= 0; k--) {
        series[0][begin - 1 - k] = fmax(change(a, k), 0);
        series[1][begin - 1 - k] = fmax(-change(a, k), 0);
    }
    double up = average(series[0], samples - 1, N, 1.0 / N), down = average(series[1], samples - 1, N, 1.0 / N);
    return divide(up, up + down) - 0.5;
}
FEATURE(f_atr)
{
    NEED(2);
    int samples, begin = began(a, 0, &samples);
    if (begin < 0) return NONE;
    for (int k = begin - 1; k >= 0; k--) series[0][begin - 1 - k] = true_range(a, k);
    return average(series[0], samples - 1, N, 1.0 / N) / R(0).c;
}
static double directional(const at *a, bool gap)
{
    int samples, begin = began(a, 0, &samples), dx = 0;
    if (begin < 0) return NONE;
    double plus = 0, minus = 0, range = 0;
    for (int k = begin - 1; k >= 0; k--) {
        double up = R(k).h - R(k + 1).h, down = R(k + 1).l - R(k).l;
        int sample = begin - k;
        if (sample >= N) plus -= plus / N, minus -= minus / N, range -= range / N;
        plus += up > down && up > 0 ? up : 0;
        minus += down > up && down > 0 ? down : 0;
        range += true_range(a, k);
        if (sample >= N) series[0][dx++] = plus + minus > 0 ? fabs(plus - minus) / (plus + minus) : 0;
    }
    return gap ? divide(plus - minus, range) : average(series[0], dx, N, 1.0 / N);
}
FEATURE(f_adx) { NEED(2); return directional(a, false); }
FEATURE(f_di_gap) { NEED(2); return directional(a, true); }

/* momentum */
FEATURE(f_roc) { NEED(N + 1); return 100 * (R(0).c / R(N).c - 1); }
static double fast_k(const at *a, int k)
{
    at b = *a;
    b.i -= (size_t)k;
    double h = top(&b, N), l = bottom(&b, N);
    return h > l ? (R(k).c - l) / (h - l) : 0;
}
static double slow_k(const at *a, int k)
{
    double s = 0;
    for (int j = 0; j < (int)a->p[1]; j++) s += fast_k(a, k + j);
    return s / a->p[1];
}
FEATURE(f_stoch_k) { NEED(a->p[0] + a->p[1] + a->p[2] - 2); return slow_k(a, 0) - 0.5; }
FEATURE(f_stoch_d)
{
    NEED(a->p[0] + a->p[1] + a->p[2] - 2);
    double s = 0;
    for (int k = 0; k < (int)a->p[2]; k++) s += slow_k(a, k);
    return s / a->p[2] - 0.5;
}
FEATURE(f_williams) { NEED(N); return 0.5 - divide(top(a, N) - R(0).c, top(a, N) - bottom(a, N)); }
FEATURE(f_cci)
{
    NEED(N);
    double m = mean(a, t_typical, N) / 3, d = 0;
    for (int k = 0; k < N; k++) d += fabs(typical(&R(k)) / 3 - m) / N;
    return d > 1e-9 ? (typical(&R(0)) / 3 - m) / (0.015 * d) / 100 : NONE;
}
FEATURE(f_aroon)
{
    NEED(N + 1);
    int high = 0, low = 0;
    for (int k = 1; k <= N; k++) {
        if (R(k).h > R(high).h) high = k;
        if (R(k).l < R(low).l) low = k;
    }
    return (double)(low - high) / N;
}
FEATURE(f_bop) { return divide(R(0).c - R(0).o, R(0).h - R(0).l); }
FEATURE(f_mfi)
{
    NEED(N + 1);
    double up = 0, down = 0;
    for (int k = 0; k < N; k++) {
        double now = typical(&R(k)), before = typical(&R(k + 1));
        up += now > before ? now * R(k).volume : 0;
        down += now < before ? now * R(k).volume : 0;
    }
    return divide(up, up + down) - 0.5;
}
FEATURE(f_ultimate)
{
    static const double weights[3] = {4, 2, 1};
    double s = 0;
    for (int j = 0; j < 3; j++) NEED(a->p[j] + 1);
    for (int j = 0; j < 3; j++) {
        double pressure = 0, range = 0;
        for (int k = 0; k < (int)a->p[j]; k++) pressure += R(k).c - fmin(R(k).l, R(k + 1).c), range += true_range(a, k);
        s += weights[j] / 7 * divide(pressure, range);
    }
    return s - 0.5;
}
static void line(const at *a, double *slope, double *end, double *fit)
{
    double mx = 0.5 * (N - 1), my = mean(a, t_close, N), xy = 0, xx = 0, yy = scatter(a, t_close, N);
    for (int k = 0; k < N; k++) {
        double x = N - 1 - k - mx;
        xy += x * (R(k).c - my);
        xx += x * x;
    }
    *slope = xy / xx;
    *end = my + *slope * mx;
    *fit = divide(xy * xy, xx * yy);
}
FEATURE(f_slope) { NEED(N); double s, e, f; line(a, &s, &e, &f); return s / R(0).c; }
FEATURE(f_line_gap) { NEED(N); double s, e, f; line(a, &s, &e, &f); return R(0).c / e - 1; }
FEATURE(f_line_fit) { NEED(N); double s, e, f; line(a, &s, &e, &f); return f; }
FEATURE(f_efficiency) { NEED(N + 1); return divide(R(0).c - R(N).c, sum(a, t_change_size, N)); }
FEATURE(f_up_ratio) { NEED(N + 1); double s = 0; for (int k = 0; k < N; k++) s += sign(change(a, k)); return s / N; }
FEATURE(f_obv_slope)
{
    NEED(N + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += sign(change(a, k)) * R(k).volume;
    return divide(s, sum(a, t_volume, N));
}
/* volatility */
FEATURE(f_true_range) { NEED(2); return true_range(a, 0) / R(0).c; }
FEATURE(f_band_width) { NEED(N); return 4 * deviation(a, t_close, N) / mean(a, t_close, N); }
FEATURE(f_band_position) { NEED(N); return z(a, t_close, N) / 4; }
FEATURE(f_realised) { NEED(N + 1); return sqrt(mean(a, t_square, N)); }
FEATURE(f_deviation) { NEED(N + 1); return deviation(a, ret, N); }
FEATURE(f_volatility_ratio)
{
    NEED(N + 1);
    NEED(a->p[1] + 1);
    return sqrt(divide(mean(a, t_square, N), mean(a, t_square, (int)a->p[1]))) - 1;
}
FEATURE(f_parkinson)
{
    NEED(N);
    double s = 0;
    for (int k = 0; k < N; k++) s += pow(fixed(log(R(k).h / R(k).l)), 2);
    return sqrt(s / N / (4 * log(2)));
}
FEATURE(f_downside)
{
    NEED(N + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += ret(a, k) < 0 ? t_square(a, k) : 0;
    return divide(s, sum(a, t_square, N)) - 0.5;
}
FEATURE(f_jump)
{
    NEED(N + 2);
    double s = 0;
    for (int k = 0; k < N; k++) s += t_size(a, k) * t_size(a, k + 1) / N;
    return 1 - divide(acos(0) * s, mean(a, t_square, N + 1));
}
FEATURE(f_volatility_cluster)
{
    NEED(N + 2);
    double xy = 0, yy = 0, m = mean(a, t_size, N), before = 0;
    for (int k = 0; k < N; k++) before += t_size(a, k + 1) / N;
    for (int k = 0; k < N; k++) {
        xy += (t_size(a, k) - m) * (t_size(a, k + 1) - before);
        yy += (t_size(a, k + 1) - before) * (t_size(a, k + 1) - before);
    }
    return divide(xy, sqrt(scatter(a, t_size, N) * yy));
}
/* patterns */
static double upper(const naive_row *r) { return r->h - fmax(r->o, r->c); }
static double lower(const naive_row *r) { return fmin(r->o, r->c) - r->l; }
FEATURE(f_upper_shadow) { return divide(upper(&R(0)), R(0).h - R(0).l); }
FEATURE(f_lower_shadow) { return divide(lower(&R(0)), R(0).h - R(0).l); }
FEATURE(f_doji) { return R(0).h > R(0).l && fabs(R(0).c - R(0).o) * 10 <= R(0).h - R(0).l; }
FEATURE(f_hammer)
{
    double body = fabs(R(0).c - R(0).o);
    if (body == 0) return 0;
    if (lower(&R(0)) >= 2 * body && upper(&R(0)) <= body / 2) return 1;
    return upper(&R(0)) >= 2 * body && lower(&R(0)) <= body / 2 ? -1 : 0;
}
FEATURE(f_engulfing)
{
    NEED(2);
    double body = R(0).c - R(0).o, last = R(1).c - R(1).o;
    bool around = fmin(R(0).o, R(0).c) <= fmin(R(1).o, R(1).c) && fmax(R(0).o, R(0).c) >= fmax(R(1).o, R(1).c);
    return around && body * last < 0 && fabs(body) > fabs(last) ? sign(body) : 0;
}
FEATURE(f_inside)
{
    NEED(2);
    if (R(0).h < R(1).h && R(0).l > R(1).l) return 1;
    return R(0).h > R(1).h && R(0).l < R(1).l ? -1 : 0;
}
FEATURE(f_streak)
{
    NEED(N + 1);
    int n = 0;
    while (n < N && change(a, n) * change(a, 0) > 0) n++;
    return sign(change(a, 0)) * n / N;
}
FEATURE(f_breakout)
{
    NEED(N + 1);
    double high = 0, low = 1e300;
    for (int k = 1; k <= N; k++) high = fmax(high, R(k).c), low = fmin(low, R(k).c);
    if (R(0).c >= high && R(0).c > R(1).c) return 1;
    return R(0).c <= low && R(0).c < R(1).c ? -1 : 0;
}
static double ranges(const at *a) { double s = 0; for (int k = 0; k < N; k++) s += true_range(a, k); return s / N; }
FEATURE(f_resistance) { NEED(N + 1); return divide(top(a, N) - R(0).c, ranges(a)); }
FEATURE(f_support) { NEED(N + 1); return divide(R(0).c - bottom(a, N), ranges(a)); }
/* book */
static double share(double x, double y) { return divide(x - y, x + y); }
static bool levels(const at *a, int n) { return R(0).two_sided && R(0).bids >= n && R(0).asks >= n; }
static double lots(const naive_level *l, int n, bool heavy)
{
    double s = 0;
    for (int i = 0; i < n; i++) s += (double)l[i].lots * (heavy ? n - i : 1);
    return s;
}
FEATURE(f_imbalance) { return levels(a, N) ? share(lots(R(0).bid, N, false), lots(R(0).ask, N, false)) : NONE; }
FEATURE(f_level_imbalance)
{
    return levels(a, N) ? share((double)R(0).bid[N - 1].lots, (double)R(0).ask[N - 1].lots) : NONE;
}
FEATURE(f_weighted_imbalance) { return levels(a, N) ? share(lots(R(0).bid, N, true), lots(R(0).ask, N, true)) : NONE; }
FEATURE(f_microprice_gap)
{
    if (!R(0).two_sided) return NONE;
    double b = (double)R(0).bid[0].lots, k = (double)R(0).ask[0].lots;
    return 2 * ((double)R(0).bid[0].ticks * k + (double)R(0).ask[0].ticks * b) / (b + k) / R(0).c - 1;
}
FEATURE(f_spread) { return R(0).two_sided ? R(0).spread / R(0).c : NONE; }
FEATURE(f_spread_ticks) { return R(0).two_sided ? (double)(R(0).ask[0].ticks - R(0).bid[0].ticks) : NONE; }
FEATURE(f_spread_ratio) { NEED(N); return R(0).spread / mean(a, t_spread, N) - 1; }
FEATURE(f_ofi) { NEED(N + 1); return divide(sum(a, t_ofi, N), 0.5 * (mean(a, t_bid, N) + mean(a, t_ask, N))); }
static double against_mean(const at *a, term t) { return divide(t(a, 0), t(a, 0) + mean(a, t, N)) - 0.5; }
FEATURE(f_bid_queue) { NEED(N); return against_mean(a, t_bid); }
FEATURE(f_ask_queue) { NEED(N); return against_mean(a, t_ask); }
FEATURE(f_depth_ratio) { NEED(N); return against_mean(a, t_depth); }
FEATURE(f_concentration)
{
    if (!levels(a, N)) return NONE;
    return (double)(R(0).bid[0].lots + R(0).ask[0].lots) / (lots(R(0).bid, N, false) + lots(R(0).ask, N, false));
}
FEATURE(f_slope_gap)
{
    return levels(a, N) ? share((double)(R(0).bid[0].ticks - R(0).bid[N - 1].ticks),
                                (double)(R(0).ask[N - 1].ticks - R(0).ask[0].ticks))
                        : NONE;
}
/* flow */
FEATURE(f_signed_volume) { NEED(N + 1); return divide(sum(a, t_signed, N), sum(a, t_volume, N)); }
FEATURE(f_pressure) { NEED(N + 1); return divide(R(0).sign_volume, fabs(R(0).sign_volume) + mean(a, t_volume, N)); }
FEATURE(f_vwap_gap)
{
    NEED(N + 1);
    long double value = 0;
    for (int k = 0; k < N; k++) value += R(k).value3 / 3;
    return divide(R(0).c * sum(a, t_volume, N), (double)value) - 1;
}
FEATURE(f_volume_ratio) { NEED(N + 1); return against_mean(a, t_volume); }
FEATURE(f_volume_z) { NEED(N + 1); return z(a, t_volume, N); }
FEATURE(f_intensity)
{
    NEED(N + 1);
    NEED(a->p[1] + 1);
    double x = mean(a, t_volume, N), y = mean(a, t_volume, (int)a->p[1]);
    return divide(x, x + y) - 0.5;
}
FEATURE(f_impact)
{
    NEED(N + 1);
    double xy = 0, yy = 0;
    for (int k = 0; k < N; k++) xy += ret(a, k) * R(k).sign_volume, yy += R(k).sign_volume * R(k).sign_volume;
    return divide(xy, sqrt(sum(a, t_square, N) * yy));
}
FEATURE(f_illiquidity)
{
    NEED(N + 1);
    double x = t_size(a, 0) * sum(a, t_volume, N), y = sum(a, t_size, N) * R(0).volume;
    return divide(x, x + y) - 0.5;
}
FEATURE(f_profile)
{
    NEED(N + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += sign(R(0).c - R(k).c) * R(k).volume;
    return divide(s / 2, sum(a, t_volume, N));
}
FEATURE(f_toxicity)
{
    NEED(N + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += fabs(R(k).sign_volume);
    return divide(s, sum(a, t_volume, N));
}
FEATURE(f_trade_size)
{
    NEED(N + 1);
    if (R(0).trades <= 0) return NONE;
    double x = R(0).volume / R(0).trades, y = divide(sum(a, t_volume, N), sum(a, t_trades, N));
    return divide(x, x + y) - 0.5;
}
/* statistics */
FEATURE(f_autocorrelation)
{
    int lag = (int)a->p[1];
    NEED(N + lag + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += ret(a, k) * ret(a, k + lag);
    return divide(s, sum(a, t_square, N + lag));
}
FEATURE(f_zscore) { NEED(N); return z(a, t_close, N); }
FEATURE(f_return_z) { NEED(N + 1); return z(a, ret, N); }
FEATURE(f_reversion)
{
    NEED(N + 1);
    double mx = 0, my = (R(0).c - R(N).c) / N, xy = 0, xx = 0;
    for (int k = 0; k < N; k++) mx += R(k + 1).c / N;
    for (int k = 0; k < N; k++) xy += (R(k + 1).c - mx) * (R(k).c - R(k + 1).c - my), xx += pow(R(k + 1).c - mx, 2);
    return divide(xy, xx);
}
FEATURE(f_variance_ratio)
{
    int lag = (int)a->p[1];
    NEED(N + lag + 1);
    double x = 0, y = 0;
    for (int k = 0; k < N; k++) x += pow(R(k).c - R(k + lag).c, 2) / N;
    for (int k = 0; k < N + lag - 1; k++) y += pow(R(k).c - R(k + 1).c, 2) / (N + lag - 1);
    return divide(x, lag * y) - 1;
}
static double moment(const at *a, int power)
{
    double m = mean(a, ret, N), s = 0;
    for (int k = 0; k < N; k++) s += pow(ret(a, k) - m, power) / N;
    return s;
}
FEATURE(f_skew) { NEED(N + 1); return divide(moment(a, 3), pow(moment(a, 2), 1.5)); }
FEATURE(f_kurtosis) { NEED(N + 1); return divide(moment(a, 4), pow(moment(a, 2), 2)) - 3; }
FEATURE(f_persistence)
{
    NEED(N + 2);
    double s = 0;
    for (int k = 0; k < N; k++) s += sign(change(a, k)) * sign(change(a, k + 1));
    return s / N;
}
FEATURE(f_drawdown)
{
    NEED(N);
    double worst = 0;
    for (int j = 0; j < N; j++)
        for (int k = 0; k < j; k++) worst = fmax(worst, R(j).c - R(k).c);
    return worst / R(0).c;
}
/* time */
static double turns(const at *a, double cycle_s, double origin_s)
{
    return 2 * acos(-1) * fmod((double)R(0).time_ns * 1e-9 - origin_s + 100 * cycle_s, cycle_s) / cycle_s;
}
FEATURE(f_minute_sin) { return sin(turns(a, 3600, 0)); }
FEATURE(f_minute_cos) { return cos(turns(a, 3600, 0)); }
FEATURE(f_hour_sin) { return sin(turns(a, 86400, 0)); }
FEATURE(f_hour_cos) { return cos(turns(a, 86400, 0)); }
FEATURE(f_weekday_sin) { return sin(turns(a, 604800, 345600)); }
FEATURE(f_weekday_cos) { return cos(turns(a, 604800, 345600)); }
FEATURE(f_season_sin) { return sin(turns(a, 31556952, 0)); }
FEATURE(f_season_cos) { return cos(turns(a, 31556952, 0)); }
static double hour(const at *a) { return fmod((double)R(0).time_ns / 3.6e12, 24); }
FEATURE(f_session_tokyo) { return hour(a) < 9; }
FEATURE(f_session_london) { return hour(a) >= 8 && hour(a) < 16.5; }
FEATURE(f_session_newyork) { return hour(a) >= 13.5 && hour(a) < 20; }
FEATURE(f_pace)
{
    NEED(N + 1);
    double d = (double)(R(0).time_ns - R(1).time_ns), m = (double)(R(0).time_ns - R(N).time_ns) / N;
    return divide(d, d + m) - 0.5;
}
/* cross */
FEATURE(f_cross_return) { NEED(N + 1); return sum(a, t_other, N); }
FEATURE(f_cross_excess) { NEED(N + 1); return sum(a, t_excess, N); }
FEATURE(f_cross_excess_z)
{
    NEED(N + 1);
    double s = 0;
    for (int k = 0; k < N; k++) s += t_excess(a, k) * t_excess(a, k);
    return divide(sum(a, t_excess, N), sqrt(s * N));
}
static double cross(const at *a, int lag, bool beta)
{
    double xy = 0, xx = 0;
    for (int k = 0; k < N; k++) xy += ret(a, k) * t_other(a, k + lag);
    for (int k = 0; k < N + lag; k++) xx += t_other(a, k) * t_other(a, k);
    return beta ? divide(xy, xx) : divide(xy, sqrt(xx * sum(a, t_square, N)));
}
FEATURE(f_cross_beta) { NEED(N + 1); return cross(a, 0, true); }
FEATURE(f_cross_correlation) { NEED(N + 1); return cross(a, 0, false); }
FEATURE(f_cross_lead) { NEED(N + 2); return cross(a, 1, false); }

#define ROW(name) {#name, f_##name}
typedef struct naive_row_of_table { const char *name; naive_feature f; } naive_row_of_table;
static const naive_row_of_table table[] = {ROW(return),
             ROW(change),
             ROW(acceleration),
             ROW(gap),
             ROW(body),
             ROW(typical_gap),
             ROW(range_position),
             ROW(range_width),
             ROW(high_distance),
             ROW(low_distance),
             ROW(sma_gap),
             ROW(sma_slope),
             ROW(sma_cross),
             ROW(ema_gap),
             ROW(ema_cross),
             ROW(wma_gap),
             ROW(vwma_gap),
             ROW(rsi),
             ROW(macd),
             ROW(macd_signal),
             ROW(macd_histogram),
             ROW(roc),
             ROW(stoch_k),
             ROW(stoch_d),
             ROW(williams),
             ROW(cci),
             ROW(adx),
             ROW(di_gap),
             ROW(aroon),
             ROW(bop),
             ROW(mfi),
             ROW(ultimate),
             ROW(slope),
             ROW(line_gap),
             ROW(efficiency),
             ROW(up_ratio),
             ROW(obv_slope),
             ROW(atr),
             ROW(true_range),
             ROW(band_width),
             ROW(band_position),
             ROW(realised),
             ROW(deviation),
             ROW(volatility_ratio),
             ROW(parkinson),
             ROW(downside),
             ROW(jump),
             ROW(volatility_cluster),
             ROW(upper_shadow),
             ROW(lower_shadow),
             ROW(doji),
             ROW(hammer),
             ROW(engulfing),
             ROW(inside),
             ROW(streak),
             ROW(breakout),
             ROW(resistance),
             ROW(support),
             ROW(imbalance),
             ROW(level_imbalance),
             ROW(weighted_imbalance),
             ROW(microprice_gap),
             ROW(spread),
             ROW(spread_ticks),
             ROW(spread_ratio),
             ROW(ofi),
             ROW(bid_queue),
             ROW(ask_queue),
             ROW(depth_ratio),
             ROW(concentration),
             ROW(slope_gap),
             ROW(signed_volume),
             ROW(pressure),
             ROW(vwap_gap),
             ROW(volume_ratio),
             ROW(volume_z),
             ROW(intensity),
             ROW(impact),
             ROW(illiquidity),
             ROW(profile),
             ROW(toxicity),
             ROW(trade_size),
             ROW(autocorrelation),
             ROW(zscore),
             ROW(return_z),
             ROW(reversion),
             ROW(variance_ratio),
             ROW(skew),
             ROW(kurtosis),
             ROW(line_fit),
             ROW(persistence),
             ROW(drawdown),
             ROW(minute_sin),
             ROW(minute_cos),
             ROW(hour_sin),
             ROW(hour_cos),
             ROW(weekday_sin),
             ROW(weekday_cos),
             ROW(season_sin),
             ROW(season_cos),
             ROW(session_tokyo),
             ROW(session_london),
             ROW(session_newyork),
             ROW(pace),
             ROW(cross_return),
             ROW(cross_excess),
             ROW(cross_excess_z),
             ROW(cross_beta),
             ROW(cross_correlation),
             ROW(cross_lead)};
enum { TABLE = sizeof table / sizeof *table };

#endif
