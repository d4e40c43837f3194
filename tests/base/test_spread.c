/* test_spread.c - quantiles against the sorted values themselves, over the whole range; ends; what is empty. */
#include "base/cmocka_all.h"

#include <math.h>
#include <stdlib.h>

#include "base/random.h"
#include "base/spread.h"

enum { VALUES = 20000 };

static int by_value(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void test_quantiles(void **state)
{
    (void)state;
    static const double wanted[] = {0, 0.001, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static oc_spread s;
    static int64_t values[VALUES];
    for (uint64_t i = 0; i < VALUES; i++) { /* from 1 to 2^62, a decade as likely as another */
        values[i] = (int64_t)exp2(62 * oc_random_uniform(oc_random_key(3, OC_RANDOM_TEST, 0, 0), i));
        oc_spread_add(&s, values[i]);
    }
    qsort(values, VALUES, sizeof *values, by_value);
    for (size_t i = 0; i < COUNT(wanted); i++) {
        const double rank = ceil(wanted[i] * VALUES), exact = (double)values[rank >= 1 ? (size_t)rank - 1 : 0];
        const double got = oc_spread_quantile(&s, wanted[i]);
        if (!(got >= exact && got <= exact * (1 + 1.0 / 128)))
            fail_msg("q %g: %.17g, not %.17g", wanted[i], got, exact);
    }
    assert_true(s.count == VALUES && s.max == values[VALUES - 1]);
}

static void test_ends(void **state)
{
    (void)state;
    static oc_spread s, one;
    assert_true(isnan(oc_spread_quantile(&s, 0.5)));
    for (int64_t v = 0; v < 1000; v++) { /* small ones exactly */
        one = (oc_spread){0};
        oc_spread_add(&one, v);
        assert_true(oc_spread_quantile(&one, 0.5) == (double)v);
    }
    oc_spread_add(&s, -5);
    oc_spread_add(&s, INT64_MAX);
    assert_true(oc_spread_quantile(&s, 0.5) == 0 && oc_spread_quantile(&s, 1) == (double)INT64_MAX);
    assert_true(isnan(oc_spread_quantile(&s, 1.5)) && isnan(oc_spread_quantile(&s, (double)NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quantiles), cmocka_unit_test(test_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
