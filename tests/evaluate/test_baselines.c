/* Oracle: persistence written as a search over all rows for each sample, sharing nothing with baselines.c; class shares
 * counted; logistic regression must find a signal that is planted in one column and nothing where there is none. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/random.h"
#include "datasets/synthetic.h"
#include "evaluate/baselines.h"
#include "evaluate/metrics.h"

enum { ROWS = 1500, SYMBOLS = 2, WIDTH = 3, STEPS = 5 };
static const char LABEL[] = "direction:4:0.00005";
static const char PATH[] = "test_baselines.h5";

/* A walk whose next steps follow column 0 of the row `strength` of the time. */
static double strength;

static float column(void *context, size_t symbol, size_t row, size_t at)
{
    (void)context;
    double u = oc_random_uniform(oc_random_key(3, OC_RANDOM_TEST, symbol, at), at == 0 ? row / 5 : row);
    return (float)(2 * u - 1);
}

static double mid(void *context, size_t symbol, size_t row)
{
    double price = 100;
    for (size_t i = 0; i < row; i++) {
        uint32_t key = oc_random_key(4, OC_RANDOM_TEST, symbol, 0);
        bool follow = oc_random_uniform(key, 2 * i) < strength, up = oc_random_uniform(key, 2 * i + 1) < 0.5;
        if (follow) up = column(context, symbol, i, 0) > 0;
        price *= up ? 1.0001 : 1 / 1.0001;
    }
    return price;
}

typedef struct setup {
    oc_dataset *d;
    oc_folds *folds;
    const oc_dataset_label *label;
    oc_samples train, test;
    float *p;
} setup;

static void open_setup(setup *s, double follow)
{
    strength = follow;
    synthetic data = {.rows = ROWS,
                      .width = WIDTH,
                      .symbols = SYMBOLS,
                      .seed = 1,
                      .labels = {LABEL},
                      .break_every = 400,
                      .x = column,
                      .mid = mid};
    assert_int_equal(synthetic_write(PATH, &data, NULL), OC_OK);
    assert_int_equal(oc_dataset_open(&s->d, PATH), OC_OK);
    assert_int_equal(oc_folds_open(&s->folds, "chronological:0.6:0.2:0.2", 0, s->d), OC_OK);
    s->label = oc_dataset_label_find(s->d, LABEL);
    assert_non_null(s->label);
    assert_int_equal(oc_samples_select(&s->train, s->d, &s->folds->fold[0], 0, OC_SPLIT_TRAIN, STEPS, &s->label, 1),
                     OC_OK);
    assert_int_equal(oc_samples_select(&s->test, s->d, &s->folds->fold[0], 0, OC_SPLIT_TEST, STEPS, &s->label, 1),
                     OC_OK);
    assert_true(s->train.count > 500 && s->test.count > 200);
    assert_int_equal(oc_memory_new_array(&s->p, s->test.count * 3, sizeof(float), "test"), OC_OK);
}

static void close_setup(setup *s)
{
    oc_memory_free(s->p);
    oc_samples_free(&s->train);
    oc_samples_free(&s->test);
    oc_folds_close(s->folds);
    oc_dataset_close(s->d);
    unlink(PATH);
}

/* The latest earlier row of the same symbol whose label is valid and known by now, by looking at all of them. */
static int latest_class(const oc_dataset *d, const oc_dataset_label *label, int64_t row)
{
    const oc_dataset_symbol *symbol = &d->symbols[oc_dataset_symbol_of(d, (size_t)row)];
    for (int64_t r = row - 1; r >= (int64_t)symbol->first; r--) {
        if (label->valid[r] && label->known_ns[r] <= d->time_ns[row]) return label->class_[r];
    }
    return -1;
}

static double persistence_error(const setup *s)
{
    double table[3][3] = {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}}, worst = 0;
    for (size_t i = 0; i < s->train.count; i++) {
        int before = latest_class(s->d, s->label, s->train.row[i]);
        if (before >= 0) table[before][s->label->class_[s->train.row[i]]]++;
    }
    for (size_t i = 0; i < s->test.count; i++) {
        int before = latest_class(s->d, s->label, s->test.row[i]);
        if (before < 0) continue;
        double sum = table[before][0] + table[before][1] + table[before][2];
        for (int k = 0; k < 3; k++) worst = fmax(worst, fabs(table[before][k] / sum - (double)s->p[3 * i + (size_t)k]));
    }
    return worst;
}

static void persistence_equals_the_search(void **state)
{
    (void)state;
    setup s;
    open_setup(&s, 0.7);
    assert_int_equal(oc_baseline_predict(OC_BASELINE_PERSISTENCE, s.d, s.label, &s.train, &s.test, s.p), OC_OK);
    assert_true(persistence_error(&s) <= 1e-6);
    s.p[3] += 0.01f; /* planted: one answer off */
    assert_false(persistence_error(&s) <= 1e-6);
    close_setup(&s);
}

static void majority_is_the_class_share(void **state)
{
    (void)state;
    setup s;
    double count[3] = {1, 1, 1};
    open_setup(&s, 0.3);
    assert_int_equal(oc_baseline_predict(OC_BASELINE_MAJORITY, s.d, s.label, &s.train, &s.test, s.p), OC_OK);
    for (size_t i = 0; i < s.train.count; i++) count[s.label->class_[s.train.row[i]]]++;
    for (int k = 0; k < 3; k++) {
        assert_true(fabs((double)s.p[k] - count[k] / (double)(s.train.count + 3)) < 1e-6);
        assert_true(s.p[k] == s.p[3 * (s.test.count - 1) + (size_t)k]);
    }
    s.test.count = 0;
    assert_int_equal(oc_baseline_predict(OC_BASELINE_MAJORITY, s.d, s.label, &s.train, &s.test, s.p), OC_EDATA);
    close_setup(&s);
}

static double logistic_accuracy(double follow)
{
    setup s;
    size_t hits = 0;
    open_setup(&s, follow);
    assert_int_equal(oc_baseline_predict(OC_BASELINE_LOGISTIC, s.d, s.label, &s.train, &s.test, s.p), OC_OK);
    for (size_t i = 0; i < s.test.count; i++) hits += oc_argmax3(s.p + 3 * i) == s.label->class_[s.test.row[i]];
    double accuracy = (double)hits / (double)s.test.count;
    close_setup(&s);
    return accuracy;
}

static void logistic_finds_what_is_there(void **state)
{
    (void)state;
    double planted = logistic_accuracy(0.9), nothing = logistic_accuracy(0.0);
    print_message("logistic regression: %.3f with a planted signal, %.3f without\n", planted, nothing);
    assert_true(planted > 0.6);
    assert_true(nothing < 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(persistence_equals_the_search),
                                       cmocka_unit_test(majority_is_the_class_share),
                                       cmocka_unit_test(logistic_finds_what_is_there)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
