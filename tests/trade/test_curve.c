/* The bounded curve against a naive one that keeps every input: equal at every length of a run, and never longer. */
#include "base/cmocka_all.h"

#include "base/memory.h"
#include "base/random.h"
#include "trade/curve.h"

enum { INPUTS = 20000 };

typedef struct history {
    int64_t time_ns[INPUTS], equity[INPUTS], hold[INPUTS], fall[INPUTS];
    size_t count;
} history;

static history seen;
static oc_curve curve;

/* The stretch [from, to): the last values before its end, the largest fall in it and at its beginning. */
static oc_curve_point naive(int64_t from, int64_t to, bool first)
{
    oc_curve_point p = {0};
    for (size_t i = 0; i < seen.count && seen.time_ns[i] < to; i++) {
        bool inside = seen.time_ns[i] >= from || first;
        p.equity_micros = seen.equity[i];
        p.hold_micros = seen.hold[i];
        if (!inside)
            p.drawdown_micros = seen.fall[i]; /* the latest before it begins */
        else if (seen.fall[i] > p.drawdown_micros)
            p.drawdown_micros = seen.fall[i];
    }
    return p;
}

static size_t differences(void)
{
    size_t wrong = 0;
    for (size_t i = 0; i < curve.count; i += curve.count / 40 + 1) {
        int64_t from = curve.start_ns + (int64_t)i * curve.step_ns;
        oc_curve_point want = naive(from, from + curve.step_ns, i == 0), have = curve.point[i];
        wrong += want.equity_micros != have.equity_micros || want.hold_micros != have.hold_micros ||
                 want.drawdown_micros != have.drawdown_micros;
    }
    return wrong;
}

static void add(int64_t now_ns, uint32_t key)
{
    size_t i = seen.count++;
    seen.time_ns[i] = now_ns;
    seen.equity[i] = (int64_t)oc_random_below(key, 2 * i, 1000000) - 500000;
    seen.hold[i] = (int64_t)i;
    seen.fall[i] = (int64_t)oc_random_below(key, 2 * i + 1, 1000000);
    oc_curve_add(&curve, now_ns, (oc_curve_point){seen.equity[i], seen.hold[i], seen.fall[i]});
}

/* Steps from nanoseconds to hours; some at the very same time. */
static void equals_the_naive(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 6; run++) {
        uint32_t key = oc_random_key(run, OC_RANDOM_TEST, 1, 0), gaps = oc_random_key(run, OC_RANDOM_TEST, 2, 0);
        int64_t now = INT64_C(1700000000000000000) + (int64_t)run, widest = 1;
        memset(&curve, 0, sizeof curve);
        seen.count = 0;
        size_t taken = oc_memory_count();
        for (uint64_t w = 0; w < 2 * run + 1; w++) widest *= 10;
        for (size_t i = 0; i < INPUTS; i++) {
            now += (int64_t)oc_random_below(gaps, i, (uint64_t)widest);
            if (i == INPUTS / 2) now += 100 * widest * (int64_t)run;
            add(now, key);
            assert_true(curve.count >= 1 && curve.count <= OC_CURVE_MAX);
            if ((i & (i - 1)) == 0) assert_int_equal(differences(), 0);
        }
        assert_int_equal(differences(), 0);
        assert_true(curve.step_ns == OC_CURVE_STEP_NS || curve.count > OC_CURVE_MAX / 2 - 1);
        assert_int_equal(oc_memory_count(), taken);
        assert_int_equal(curve.point[curve.count - 1].equity_micros, seen.equity[INPUTS - 1]);
        for (size_t i = 0; i < curve.count; i++) curve.point[i].drawdown_micros++; /* planted: must be found */
        assert_true(differences() > 0);
    }
}

/* A year of quiet, then one more: no loop over every millisecond of it. */
static void jumps(void **state)
{
    (void)state;
    memset(&curve, 0, sizeof curve);
    oc_curve_add(&curve, 1, (oc_curve_point){1, 2, 3});
    oc_curve_add(&curve, INT64_C(31536000000000000), (oc_curve_point){4, 5, 0});
    oc_curve_add(&curve, INT64_MAX / 2, (oc_curve_point){6, 7, 0});
    assert_true(curve.count <= OC_CURVE_MAX && curve.count > 2);
    assert_int_equal(curve.point[curve.count - 2].equity_micros, 4);
    assert_int_equal(curve.point[curve.count - 1].equity_micros, 6);
    assert_int_equal(curve.point[0].drawdown_micros, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_naive), cmocka_unit_test(jumps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
