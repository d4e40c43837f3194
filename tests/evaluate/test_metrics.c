/* Oracle: figures written from their definitions by naive loops over samples, sharing no code with metrics.c; and
 * constants computed once with public libraries (scikit-learn 1.9.1 conventions, see docs/references.md).
 * The harness is proven by a run with one planted wrong answer, which must be noticed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "evaluate/metrics.h"

enum { COUNT = 3000 };

static float p[COUNT * 3];
static int8_t truth[COUNT];

/* Random answers that are right more often than chance, and right in runs. */
static void fill(uint64_t seed, double skill)
{
    uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        double sum = 0, q[3];
        truth[i] = (int8_t)oc_random_below(key, (uint64_t)i * 8 / 5, 3);
        for (int k = 0; k < 3; k++)
            sum += q[k] =
                -log(1 - oc_random_uniform(key, (uint64_t)(100000 + 3 * i + k))) + (k == truth[i] ? skill : 0);
        for (int k = 0; k < 3; k++) p[3 * i + k] = (float)(q[k] / sum);
    }
}

typedef struct naive {
    double accuracy, macro_f1, brier, log_loss, ece, mcc;
} naive;

/* Pearson form of R_K: covariance of one-hot vectors [Gorodkin04 eq.2]. */
static double naive_mcc(const int *top)
{
    double xy = 0, xx = 0, yy = 0;
    for (int k = 0; k < 3; k++) {
        double mx = 0, my = 0;
        for (int i = 0; i < COUNT; i++) mx += (top[i] == k) / (double)COUNT, my += (truth[i] == k) / (double)COUNT;
        for (int i = 0; i < COUNT; i++) {
            double x = (top[i] == k) - mx, y = (truth[i] == k) - my;
            xy += x * y;
            xx += x * x;
            yy += y * y;
        }
    }
    return xy / sqrt(xx * yy);
}

static naive naive_of(void)
{
    naive n = {0};
    static int top[COUNT];
    for (int i = 0; i < COUNT; i++) {
        const float *q = p + 3 * i;
        top[i] = q[0] >= q[1] && q[0] >= q[2] ? 0 : q[1] >= q[2] ? 1 : 2;
        n.accuracy += (top[i] == truth[i]) / (double)COUNT;
        n.log_loss -= log((double)q[truth[i]]) / COUNT;
        for (int k = 0; k < 3; k++) n.brier += pow((double)q[k] - (truth[i] == k), 2) / COUNT;
    }
    for (int k = 0; k < 3; k++) {
        double hit = 0, predicted = 0, actual = 0;
        for (int i = 0; i < COUNT; i++)
            hit += top[i] == k && truth[i] == k, predicted += top[i] == k, actual += truth[i] == k;
        double precision = hit / predicted, recall = hit / actual;
        n.macro_f1 += 2 * precision * recall / (precision + recall) / 3;
    }
    for (int b = 0; b < 10; b++) {
        double count = 0, confidence = 0, hits = 0;
        for (int i = 0; i < COUNT; i++) {
            double c = (double)p[3 * i + top[i]];
            if (!(c >= b / 10.0 && (c < (b + 1) / 10.0 || b == 9))) continue;
            count++, confidence += c, hits += top[i] == truth[i];
        }
        if (count > 0) n.ece += fabs(hits - confidence) / COUNT;
    }
    n.mcc = naive_mcc(top);
    return n;
}

static int differs(const oc_metrics *m, const naive *n)
{
    const double pairs[][2] = {{m->accuracy, n->accuracy}, {m->macro_f1, n->macro_f1}, {m->brier, n->brier},
                               {m->log_loss, n->log_loss}, {m->ece, n->ece},           {m->mcc, n->mcc}};
    int wrong = 0;
    for (size_t i = 0; i < 6; i++) wrong += !(fabs(pairs[i][0] - pairs[i][1]) <= 1e-9); /* measured: below 1e-12 */
    return wrong;
}

static void figures_equal_the_definitions(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        oc_metrics m;
        fill(seed, 0.1 * (double)seed);
        naive n = naive_of();
        assert_int_equal(oc_metrics_compute(&m, p, truth, COUNT), OC_OK);
        assert_int_equal(differs(&m, &n), 0);
        truth[seed] = (int8_t)((truth[seed] + 1) % 3); /* planted: must be noticed */
        assert_int_equal(oc_metrics_compute(&m, p, truth, COUNT), OC_OK);
        assert_true(differs(&m, &n) > 0);
    }
}

static void known_values(void **state)
{
    (void)state;
    const float q[] = {0.7f, 0.2f, 0.1f, 0.1f, 0.6f, 0.3f, 0.3f, 0.3f, 0.4f, 0.5f, 0.25f, 0.25f};
    const int8_t y[] = {0, 1, 0, 2};
    oc_metrics m;
    assert_int_equal(oc_metrics_compute(&m, q, y, 4), OC_OK);
    assert_true(fabs(m.accuracy - 0.5) < 1e-12);
    assert_true(fabs(m.log_loss - -(log(0.7) + log(0.6) + log(0.3) + log(0.25)) / 4) < 1e-7);
    assert_true(fabs(m.brier - (0.14 + 0.26 + 0.74 + 0.875) / 4) < 1e-7);
    assert_true(fabs(m.macro_f1 - (0.5 + 1.0 + 0.0) / 3) < 1e-12);
    assert_true(fabs(m.mcc - (2 * 4 - 6) / sqrt((16 - 6) * (16 - 6.0))) < 1e-12);
}

static void bad_probabilities_are_refused(void **state)
{
    (void)state;
    const float bad[][3] = {
        {NAN, 0.5f, 0.5f}, {0.5f, 0.6f, 0.2f}, {-0.1f, 0.6f, 0.5f}, {INFINITY, 0, 0}, {0.3f, 0.3f, 0.3f}};
    const int8_t y = 0, no_class = 3;
    const float good[3] = {0.2f, 0.3f, 0.5f};
    oc_metrics m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(oc_metrics_compute(&m, bad[i], &y, 1), OC_EDATA);
    assert_int_equal(oc_metrics_compute(&m, good, &no_class, 1), OC_EDATA);
    assert_int_equal(oc_metrics_compute(&m, good, &y, 0), OC_EDATA);
    assert_int_equal(oc_metrics_compute(&m, good, &y, 1), OC_OK);
}

static uint8_t a[COUNT], b[COUNT];
static double loss[COUNT], baseline[COUNT];

/* 95 % intervals of the accuracy of clustered answers must hold the true value about 95 times in 100: with blocks they
 * do, with single samples (the planted fault) they are far too narrow. */
static int coverage(size_t block)
{
    int inside = 0;
    for (uint64_t trial = 0; trial < 200; trial++) {
        uint32_t key = oc_random_key(trial, OC_RANDOM_TEST, 1, 0);
        for (int i = 0; i < COUNT; i++) {
            a[i] = 0;
            b[i] = oc_random_uniform(key, (uint64_t)(i / 20)) < 0.6 ? 0 : 1; /* right or wrong 20 samples in a row */
            loss[i] = b[i] ? 2 : 0.5;
        }
        oc_bootstrap_input in = {a, b, loss, NULL, COUNT};
        oc_bootstrap_rule rule = {block, 200, 0.95, trial};
        oc_bootstrap_result r;
        assert_int_equal(oc_bootstrap(&r, &in, &rule), OC_OK);
        assert_true(r.accuracy.low <= r.accuracy.value && r.accuracy.value <= r.accuracy.high);
        inside += r.accuracy.low <= 0.6 && 0.6 <= r.accuracy.high;
    }
    return inside;
}

static void intervals_cover(void **state)
{
    (void)state;
    int blocks = coverage(60), single = coverage(1);
    print_message("true value inside: blocks %d of 200, single samples %d\n", blocks, single);
    assert_true(blocks >= 170);
    assert_true(single <= 110);
}

static void bootstrap_is_repeatable_and_total(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++)
        a[i] = (uint8_t)(i % 3), b[i] = (uint8_t)(i % 2), loss[i] = 1 + i % 5, baseline[i] = 2;
    oc_bootstrap_input in = {a, b, loss, baseline, COUNT};
    oc_bootstrap_rule rule = {7, 300, 0.9, 5};
    oc_bootstrap_result r, again;
    assert_int_equal(oc_bootstrap(&r, &in, &rule), OC_OK);
    assert_int_equal(oc_bootstrap(&again, &in, &rule), OC_OK);
    assert_memory_equal(&r, &again, sizeof r);
    assert_true(fabs(r.skill.value - (1 - 3.0 / 2.0)) < 1e-12);
    rule.block = 0;
    assert_int_equal(oc_bootstrap(&r, &in, &rule), OC_EDATA);
    rule.block = COUNT + 1;
    assert_int_equal(oc_bootstrap(&r, &in, &rule), OC_EDATA);
    assert_int_equal(oc_bootstrap_block(1000, 6), 12);
    assert_int_equal(oc_bootstrap_block(1000000, 6), 100);
    assert_int_equal(oc_bootstrap_block(3, 6), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_equal_the_definitions),     cmocka_unit_test(known_values),
        cmocka_unit_test(bad_probabilities_are_refused),     cmocka_unit_test(intervals_cover),
        cmocka_unit_test(bootstrap_is_repeatable_and_total),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
