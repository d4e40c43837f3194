/* stats.c - compensated sums and what follows from them; the normal distribution through erfc. */
#include "base/stats.h"

#include <math.h>
#include <stdlib.h>

/* A running sum and the low part that its roundings lost [Neumaier74]. */
typedef struct sum_state {
    double high, low;
} sum_state;

static void sum_add(sum_state *s, double x)
{
    double t = s->high + x;
    s->low += fabs(s->high) >= fabs(x) ? (s->high - t) + x : (x - t) + s->high;
    s->high = t;
}

static double sum_value(const sum_state *s)
{
    return isfinite(s->high) ? s->high + s->low : s->high;      /* infinity less infinity would hide an infinite sum */
}

double oc_sum(const double *x, size_t count)
{
    sum_state s = {0, 0};
    for (size_t i = 0; i < count; i++) sum_add(&s, x[i]);
    return sum_value(&s);
}

double oc_mean(const double *x, size_t count)
{
    return count ? oc_sum(x, count) / (double)count : (double)NAN;
}

/* Two passes; the second sum takes back what the rounded mean cost. */
double oc_variance(const double *x, size_t count)
{
    if (count < 2) return (double)NAN;
    double mean = oc_mean(x, count);
    sum_state squares = {0, 0}, rest = {0, 0};
    for (size_t i = 0; i < count; i++) {
        double d = x[i] - mean;
        sum_add(&squares, d * d);
        sum_add(&rest, d);
    }
    double left = sum_value(&rest);
    return (sum_value(&squares) - left * left / (double)count) / (double)(count - 1);
}

static int compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    if (isnan(*x) || isnan(*y)) return !!isnan(*x) - !!isnan(*y);               /* NaN last: a total order */
    return (*x > *y) - (*x < *y);
}

double oc_quantile(double *x, size_t count, double q)
{
    if (count == 0 || !(q >= 0 && q <= 1)) return (double)NAN;
    qsort(x, count, sizeof *x, compare);
    if (isnan(x[count - 1])) return (double)NAN;
    double at = (double)(count - 1) * q;
    size_t i = (size_t)at;
    if (i + 1 >= count || !(x[i] < x[i + 1])) return x[i];      /* equal infinities have no difference */
    return x[i] + (at - (double)i) * (x[i + 1] - x[i]);
}

static const double sqrt_half = 0.70710678118654752440, sqrt_two_pi = 2.50662827463100050242;

double oc_normal_cdf(double z)
{
    return 0.5 * erfc(-z * sqrt_half);
}

/* Start within 4.5e-4 [Abramowitz64 26.2.23], then Halley's steps, each cubing the error; three reach rounding. The
 * residual near the middle is taken from erf, so that the answer near 0 is relatively exact too. */
static double quantile_below_half(double p)
{
    double t = sqrt(-2 * log(p));
    double z = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))));
    for (int i = 0; i < 3; i++) {
        double residual = p > 0.25 ? 0.5 * erf(z * sqrt_half) - (p - 0.5) : oc_normal_cdf(z) - p;
        double half = exp(0.25 * z * z);        /* squared it could overflow */
        double step = residual * half * sqrt_two_pi * half;
        z -= step / (1 + 0.5 * z * step);
    }
    return z;
}

double oc_normal_quantile(double p)
{
    if (!(p > 0 && p < 1)) return (double)NAN;
    if (!(p < 0.5 || p > 0.5)) return 0;
    return p < 0.5 ? quantile_below_half(p) : -quantile_below_half(1 - p);
}
