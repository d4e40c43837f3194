/* test_labels.c - labels against a naive second implementation that looks at every row for every row, on random series
 * with gaps, equal times, bad prices; and the promise that nothing after known_ns matters.
 * The harness itself is proven by a naive label that is wrong by one row, which must be found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "datasets/labels.h"

enum { ROWS = 400, SERIES = 60 };

typedef struct data {
    int64_t time_ns[ROWS];
    double mid[ROWS], spread[ROWS];
    uint8_t broken[ROWS];
} data;

typedef struct answer { int8_t class_; uint8_t valid; int64_t known_ns; float return_; } answer;

static const char *const rules[] = {"direction:1:0",       "direction:7:0.0005",    "direction:40:0.002",
                                    "direction:3s:0.0005", "direction:900ms:0.001", "smooth:1:0.0003",
                                    "smooth:9:0.0004",     "cost:5:0.0002",         "cost:2s:0.0001",
                                    "direction:399:0.1",   "direction:400:0.1"};
static const int64_t delays[] = {0, 1, 700000000, INT64_C(5000000000)};

static uint64_t draw(uint64_t seed, uint64_t what, uint64_t i)
{
    return oc_random_philox(oc_random_key(seed, OC_RANDOM_TEST, what, 0), i);
}

static void series_fill(data *d, uint64_t seed, size_t first)
{
    for (size_t i = first; i < ROWS; i++) {
        uint64_t r = draw(seed, 1, i);
        int64_t step = r % 4 == 0 ? 0 : (int64_t)(r % 1500000000);
        d->time_ns[i] = (i ? d->time_ns[i - 1] : (int64_t)(seed % 3) * 1000) + step;
        d->mid[i] = 100.0 * (1.0 + 0.001 * ((double)(draw(seed, 2, i) % 2001) - 1000.0) / 1000.0);
        if (draw(seed, 3, i) % 61 == 0) d->mid[i] = (double)(draw(seed, 3, i) % 2 ? NAN : -INFINITY);
        d->spread[i] = draw(seed, 4, i) % 67 == 0 ? (double)NAN : 0.0001 * (double)(draw(seed, 4, i) % 300);
        d->broken[i] = draw(seed, 5, i) % 41 == 0;
    }
}

/* From the header's words, one row at a time. `fault` moves the horizon by one row: the harness must see it. */
static answer naive(const oc_label_rule *r, const data *d, size_t rows, size_t n, size_t fault)
{
    answer none = {OC_CLASS_HOLD, 0, d->time_ns[n], 0.0f}, a = none;
    size_t base = n, horizon;
    while (base < rows && d->time_ns[base] < d->time_ns[n] + r->entry_delay_ns) base++;
    if (base >= rows) return none;
    if (r->horizon_rows) horizon = base + (size_t)r->horizon_rows;
    else for (horizon = base; horizon < rows && d->time_ns[horizon] - d->time_ns[base] < r->horizon_ns;) horizon++;
    horizon += fault;
    if (horizon >= rows) return none;
    for (size_t i = n + 1; i <= horizon; i++) if (d->broken[i]) return none;
    double later = d->mid[horizon];
    if (r->kind == OC_LABEL_SMOOTH) {
        later = 0.0;
        for (size_t i = base + 1; i <= horizon; i++) {
            if (!(isfinite(d->mid[i]) && d->mid[i] > 0)) return none;
            later += d->mid[i];
        }
        later /= (double)(horizon - base);
    }
    if (!(isfinite(d->mid[base]) && d->mid[base] > 0 && isfinite(later) && later > 0)) return none;
    double change = later / d->mid[base] - 1.0, least = r->threshold;
    if (r->kind == OC_LABEL_COST) {
        if (!(isfinite(d->spread[base]) && isfinite(d->spread[horizon]))) return none;
        least += 0.5 * (d->spread[base] + d->spread[horizon]) / d->mid[base];
    }
    a.valid = 1;
    a.class_ = change > least ? 0 : change < -least ? 1 : 2;
    a.known_ns = d->time_ns[horizon];
    a.return_ = (float)change;
    return a;
}

static void compute(const oc_label_rule *r, const data *d, size_t rows, size_t first, size_t last, answer *out)
{
    static int8_t class_[ROWS];
    static uint8_t valid[ROWS];
    static int64_t known[ROWS];
    static float returns[ROWS];
    const oc_label_series s = {d->time_ns, d->mid, d->spread, d->broken, rows};
    oc_label_columns c = {class_, valid, known, returns};
    assert_int_equal(oc_label_compute(r, &s, first, last, &c), OC_OK);
    for (size_t i = 0; i < last - first; i++) out[i] = (answer){class_[i], valid[i], known[i], returns[i]};
}

static int same(const answer *a, const answer *b)
{
    return a->class_ == b->class_ && a->valid == b->valid && a->known_ns == b->known_ns &&
           memcmp(&a->return_, &b->return_, 4) == 0;
}

static size_t differences(size_t fault, size_t *valid)
{
    static data d;
    static answer got[ROWS];
    size_t different = 0;
    for (uint64_t seed = 1; seed <= SERIES; seed++) {
        series_fill(&d, seed, 0);
        for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
            oc_label_rule r;
            assert_int_equal(oc_label_parse(&r, rules[k], delays[seed % 4]), OC_OK);
            size_t first = seed % 7, rows = ROWS - seed % 5;
            compute(&r, &d, rows, first, rows, got);
            for (size_t n = first; n < rows; n++) {
                answer wanted = naive(&r, &d, rows, n, fault);
                different += !same(&wanted, &got[n - first]);
                *valid += wanted.valid;
            }
        }
    }
    return different;
}

static void against_naive(void **state)
{
    size_t valid = 0, ignored = 0;
    (void)state;
    assert_int_equal(differences(0, &valid), 0);
    assert_true(valid > 50000);
    assert_true(differences(1, &ignored) > 1000);                /* the harness sees a horizon that is one row off */
}

/* Everything later than known_ns is made anew: no valid label may change. */
static void future_is_nothing(void **state)
{
    static data d, other;
    static answer got[ROWS], again[ROWS];
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        series_fill(&d, seed, 0);
        for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
            oc_label_rule r;
            assert_int_equal(oc_label_parse(&r, rules[k], delays[seed % 4]), OC_OK);
            compute(&r, &d, ROWS, 0, ROWS, got);
            for (size_t n = 0; n < ROWS; n += 7) {
                size_t end = n;
                while (end < ROWS && d.time_ns[end] <= got[n].known_ns) end++;
                if (!got[n].valid || end >= ROWS) continue;
                other = d;
                series_fill(&other, seed + 1000, end);
                for (size_t i = end; i < ROWS; i++)
                    if (other.time_ns[i] <= got[n].known_ns) other.time_ns[i] = got[n].known_ns + 1 + (int64_t)i;
                compute(&r, &other, ROWS, n, n + 1, again);
                assert_true(same(&got[n], &again[0]));
            }
        }
    }
}

static void thresholds(void **state)
{
    const int64_t time_ns[] = {0, 1, 2};
    const double mid[] = {100.0, 101.0, 100.0}, spread[] = {0, 0, 0};
    const uint8_t broken[] = {0, 0, 0};
    const oc_label_series s = {time_ns, mid, spread, broken, 3};
    int8_t class_[3];
    uint8_t valid[3];
    int64_t known[3];
    float returns[3];
    oc_label_columns out = {class_, valid, known, returns};
    oc_label_rule r;
    (void)state;
    assert_int_equal(oc_label_parse(&r, "direction:1:0.009", 0), OC_OK);
    assert_int_equal(oc_label_compute(&r, &s, 0, 3, &out), OC_OK);
    assert_int_equal(class_[0], OC_CLASS_BUY);
    assert_int_equal(class_[1], OC_CLASS_SELL);
    assert_int_equal(valid[2], 0);
    assert_int_equal(known[0], 1);
    assert_int_equal(known[2], 2);
    assert_int_equal(oc_label_parse(&r, "direction:2:0", 0), OC_OK);     /* no change is hold, also at threshold 0 */
    assert_int_equal(oc_label_compute(&r, &s, 0, 1, &out), OC_OK);
    assert_int_equal(class_[0], OC_CLASS_HOLD);
    assert_int_equal(valid[0], 1);
}

static void refused(void **state)
{
    static const char *const bad[] = {"",
                                      "direction",
                                      "direction:10",
                                      "direction::0.1",
                                      "direction:0:0.1",
                                      "direction:-1:0.1",
                                      "direction:10:nan",
                                      "direction:10:1",
                                      "direction:10:-0.1",
                                      "direction:10:0.1x",
                                      "direction:10w:0.1",
                                      "smooth:10s:0.1",
                                      "up:10:0.1",
                                      "direction:1000001:0.1",
                                      "direction:999999999999999999999:0.1",
                                      "direction:400d:0.1",
                                      "direction:10:0.1:3",
                                      "direction:10: 0.1",
                                      "cost:5:inf",
                                      "direction:10:0x1p-3"};
    oc_label_rule r;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (oc_label_parse(&r, bad[i], 0) != OC_ECONFIG) fail_msg("accepted \"%s\"", bad[i]);
    assert_int_equal(oc_label_parse(&r, "direction:10:0.1", -1), OC_ECONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_naive), cmocka_unit_test(future_is_nothing),
                                       cmocka_unit_test(thresholds), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
