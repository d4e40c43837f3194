/* The optimum of a convex problem is checked by what defines it: the gradient of the penalised loss, taken by finite
 * differences of a loss written again here, vanishes, and no nearby point is better. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "evaluate/baselines.h"

enum { COUNT = 2000, WIDTH = 5, SIZE = 3 * (WIDTH + 1) };

static double x[COUNT * WIDTH];
static int8_t y[COUNT];

static double loss_of(const double *w, double l2)
{
    double sum = 0, penalty = 0;
    for (int i = 0; i < COUNT; i++) {
        double z[3], total = 0;
        for (int k = 0; k < 3; k++) {
            z[k] = w[k * (WIDTH + 1) + WIDTH];
            for (int f = 0; f < WIDTH; f++) z[k] += w[k * (WIDTH + 1) + f] * x[i * WIDTH + f];
            total += exp(z[k]);
        }
        sum += log(total) - z[y[i]];
    }
    for (int k = 0; k < 3; k++) {
        for (int f = 0; f < WIDTH; f++) penalty += pow(w[k * (WIDTH + 1) + f], 2);
    }
    return sum / COUNT + l2 / 2 * penalty;
}

static void make(uint64_t seed)
{
    uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 2, 0);
    for (int i = 0; i < COUNT; i++) {
        double z = 0;
        for (int f = 0; f < WIDTH; f++) {
            x[i * WIDTH + f] = 2 * oc_random_uniform(key, (uint64_t)(i * WIDTH + f)) - 1;
            z += (f - 1) * x[i * WIDTH + f];
        }
        double u = oc_random_uniform(key, (uint64_t)(1000000 + i));
        y[i] = (int8_t)(z > 0.6 ? (u < 0.8 ? 0 : 2) : z < -0.6 ? (u < 0.8 ? 1 : 2) : (int)(u * 3));
    }
}

static double steepest(const double *w, double l2)
{
    double worst = 0, at[SIZE];
    memcpy(at, w, sizeof at);
    for (int j = 0; j < SIZE; j++) {
        at[j] = w[j] + 1e-5;
        double up = loss_of(at, l2);
        at[j] = w[j] - 1e-5;
        double slope = fabs(up - loss_of(at, l2)) / 2e-5;
        at[j] = w[j];
        worst = slope > worst ? slope : worst;
    }
    return worst;
}

static void fit_is_at_the_optimum(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double w[SIZE];
        make(seed);
        assert_int_equal(oc_logistic_fit(x, y, COUNT, WIDTH, 1e-3, w), OC_OK);
        assert_true(steepest(w, 1e-3) <= 1e-6); /* measured: below 2e-7 */
        w[2] += 0.01;                           /* planted: not the optimum */
        assert_false(steepest(w, 1e-3) <= 1e-6);
    }
}

static void fit_separable_and_single_class(void **state)
{
    (void)state;
    double w[SIZE];
    float p[3];
    make(9);
    for (int i = 0; i < COUNT; i++) y[i] = x[i * WIDTH] > 0 ? 0 : 1; /* separable: the penalty keeps it finite */
    assert_int_equal(oc_logistic_fit(x, y, COUNT, WIDTH, 1e-3, w), OC_OK);
    oc_logistic_predict(w, x, WIDTH, p);
    assert_true(p[0] >= 0 && p[0] <= 1 && fabs((double)p[0] + (double)p[1] + (double)p[2] - 1) < 1e-6);
    memset(y, 2, sizeof y);
    assert_int_equal(oc_logistic_fit(x, y, COUNT, WIDTH, 1e-3, w), OC_OK);
    oc_logistic_predict(w, x, WIDTH, p);
    assert_true(p[2] > 0.99f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fit_is_at_the_optimum),
                                       cmocka_unit_test(fit_separable_and_single_class)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
