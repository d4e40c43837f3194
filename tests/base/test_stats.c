/* test_stats.c - known values (numpy, mpmath), and the cases where a naive sum fails. */
#include "base/cmocka_all.h"

#include <math.h>

#include "base/stats.h"

static void near(double got, double want, double relative)
{
    if (!(fabs(got - want) <= relative * fabs(want))) fail_msg("%.17g, not %.17g", got, want);
}

static void test_sums(void **state)
{
    (void)state;
    const double cancel[] = {1, 1e100, 1, -1e100}, big[] = {1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16};
    const double infinite[] = {1, (double)INFINITY, 2}, undefined[] = {1, (double)NAN};
    static double tenth[100000];
    for (size_t i = 0; i < COUNT(tenth); i++) tenth[i] = 0.1;
    assert_true(oc_sum(cancel, 4) == 2);        /* a plain sum says 0 */
    assert_true(oc_sum(tenth, COUNT(tenth)) == 10000);
    assert_true(oc_sum(NULL, 0) == 0 && isnan(oc_mean(NULL, 0)) && isnan(oc_variance(big, 1)));
    assert_true(isinf(oc_sum(infinite, 3)) && isnan(oc_sum(undefined, 2)) && isnan(oc_variance(undefined, 2)));
    near(oc_mean(big, 4), 1e9 + 10, 1e-16);
    near(oc_variance(big, 4), 30, 1e-15);       /* the one-pass formula says 29.3 or worse */
}

static void test_quantiles(void **state)
{
    (void)state;
    static const struct { double q, value; } cases[] = {{0, 1}, {0.25, 2.5}, {0.5, 4}, {0.9, 7.8}, {1, 9}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        double x[] = {9, 1, 4, 3, 2, 5, 7};     /* numpy.quantile, linear */
        near(oc_quantile(x, COUNT(x), cases[i].q), cases[i].value, 1e-15);
    }
    double one[] = {5}, holes[] = {1, (double)NAN, 0}, ends[] = {-(double)INFINITY, (double)INFINITY, (double)INFINITY};
    assert_true(oc_quantile(one, 1, 0.3) == 5 && isnan(oc_quantile(one, 0, 0.3)));
    assert_true(isnan(oc_quantile(one, 1, 1.01)) && isnan(oc_quantile(one, 1, (double)NAN)) &&
                isnan(oc_quantile(holes, 3, 0)));
    assert_true(isinf(oc_quantile(ends, 3, 0.75)));
}

static void test_normal(void **state)
{
    (void)state;
    static const struct { double p, z; } cases[] = {            /* mpmath, 40 digits */
        {0.975, 1.9599639845400538556}, {0.995, 2.5758293035489004539}, {0.1, -1.2815515655446004353},
        {1e-10, -6.3613409024040561991}, {1e-300, -37.047096299361199237}, {0.25, -0.6744897501960817432}};
    for (size_t i = 0; i < COUNT(cases); i++) near(oc_normal_quantile(cases[i].p), cases[i].z, 1e-13);
    for (double z = -8; z < 5.5; z += 0.0137) near(oc_normal_quantile(oc_normal_cdf(z)), z, z < 3 ? 1e-12 : 1e-8);
    for (double d = 1e-15; d < 0.1; d *= 3) {   /* near the middle, relatively exact: sqrt(2 pi) d + … */
        double p = 0.5 + d, wanted = (p - 0.5) * 2.50662827463100050242;
        near(oc_normal_quantile(p), wanted * (1 + wanted * wanted / 6), d * d * d * d * 30 + 1e-13);
    }
    assert_true(oc_normal_quantile(0.5) == 0 && isnan(oc_normal_quantile(0)) && isnan(oc_normal_quantile(1)));
    assert_true(isnan(oc_normal_quantile((double)NAN)) && isnan(oc_normal_quantile(-0.1)));
    assert_true(oc_normal_cdf(0) == 0.5 && oc_normal_cdf((double)INFINITY) == 1 && oc_normal_cdf(-40) >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_quantiles),
                                       cmocka_unit_test(test_normal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
