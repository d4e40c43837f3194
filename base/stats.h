/* stats.h - descriptive statistics over f64, sums in index order (Neumaier compensated [Neumaier74]). */
#ifndef OC_BASE_STATS_H
#define OC_BASE_STATS_H

#include <stddef.h>
#include <stdint.h>

double oc_sum(const double *x, size_t count);
double oc_mean(const double *x, size_t count);                        /* NaN where count is 0 */
double oc_variance(const double *x, size_t count);                    /* ddof 1; NaN below 2 */
double oc_quantile(double *x, size_t count, double q); /* sorts x; linear interpolation, type 7 [Hyndman96] */
double oc_normal_cdf(double z);
double oc_normal_quantile(double p); /* p in (0, 1), else NaN; 1e-13 relative for p >= 1e-300 */

#endif
