/* test_observed.c - what a batcher notes. What it would catch: a time in a wrong bucket, a drift that is not the mean
 * and variance of what came, a reader who sees a window that is half of one row and half of another,
 * memory that no plan knows of. Oracles: a linear
 * search over the bounds, sums in f64, and rows whose numbers say which row they are. */
#include "base/cmocka_all.h"
#include <float.h>
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include "base/memory.h"
#include "nn/sample_bundle.h"
#include "serve/observed.h"

enum { T = 12, F = 5, SESSIONS = 3, WRITES = 20000 };
static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 2, 16, 2, 2};

static void buckets(void **state)
{
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    oc_histogram one = {{0}, 0, 0};
    uint64_t want[OC_HISTOGRAM_BUCKETS] = {0}, ns = 0;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        int64_t at = (int64_t)exp(oc_random_uniform(key, (uint64_t)i) * 30);
        if (i < 4 * OC_HISTOGRAM_BUCKETS - 4) at = oc_histogram_bound_ns(i / 4) + i % 4 - 2; /* around every bound */
        int b = 0;
        while (at >= oc_histogram_bound_ns(b)) b++;
        want[b]++;
        ns += (uint64_t)at;
        if (i & 1)
            oc_histogram_add(&one, at);
        else
            oc_histogram_add_shared(&one, at);
    }
    assert_memory_equal(one.buckets, want, sizeof want);
    assert_true(one.ns == ns && one.count == 20000);
    for (int b = 0; b < OC_HISTOGRAM_BUCKETS; b++) assert_true(want[b] > 0);
}

static void drift(void **state)
{
    const uint32_t key = oc_random_key(4, OC_RANDOM_TEST, 0, 0);
    double sum[F] = {0}, squares[F] = {0};
    float mean[F], variance[F], row[F], first = 0;
    oc_bundle *bundle;
    oc_observed o;
    (void)state;
    assert_int_equal(sample_bundle(&bundle, &shape, 1.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_observed_init(&o, bundle, SESSIONS), OC_OK);
    for (int n = 1; n <= 2000; n++) {
        for (int i = 0; i < F; i++) {
            row[i] = (float)(bundle->mean[i] +
                             bundle->scale[i] * (i + (1 + i) * (oc_random_uniform(key, (uint64_t)(n * F + i)) - 0.5)));
            const double z = ((double)row[i] - bundle->mean[i]) / bundle->scale[i];
            sum[i] += z;
            squares[i] += z * z;
        }
        oc_observed_push(&o, 0, "A", row, NULL, 1);
        oc_observed_drift(&o, mean, variance);
        for (int i = 0; i < F; i++) {
            const double m = sum[i] / n, v = squares[i] / n - m * m;
            assert_true(fabs((double)mean[i] - m) <= 1e-4 * (1 + m) && fabs((double)variance[i] - v) <= 2e-4 * (1 + v));
        }
        if (n == 1) first = mean[1];
    }
    assert_true(o.rows == 2000 && mean[1] != first);
    oc_observed_deinit(&o);
    oc_bundle_close(bundle);
}

/* One row of the largest numbers, as a feed of another unit sends them: everything stays finite, and is training's
 * again when good rows have come. */
static void far_away(void **state)
{
    float mean[F], variance[F], row[F];
    oc_bundle *bundle;
    oc_observed o;
    (void)state;
    assert_int_equal(sample_bundle(&bundle, &shape, 1.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_observed_init(&o, bundle, SESSIONS), OC_OK);
    for (int n = 0; n < 4 * OC_DRIFT_ROWS; n++) {
        for (int i = 0; i < F; i++) row[i] = (float)bundle->mean[i];
        if (n == OC_DRIFT_ROWS)
            for (int i = 0; i < F; i++) row[i] = i & 1 ? FLT_MAX : -FLT_MAX;
        oc_observed_push(&o, 0, "A", row, NULL, 1);
        oc_observed_drift(&o, mean, variance);
        for (int i = 0; i < F; i++) assert_true(fabsf(mean[i]) <= 64 && variance[i] <= 64 * 64);
        for (int i = 0; n == OC_DRIFT_ROWS && i < F; i++) /* seen, and no alarm of its own */
            assert_true(fabsf(mean[i]) > 0.02f && fabsf(mean[i]) < 1 && variance[i] > 1 && variance[i] < 3);
    }
    for (int i = 0; i < F; i++) assert_true(fabsf(mean[i]) < 0.02f && variance[i] < 0.5f);
    oc_observed_deinit(&o);
    oc_bundle_close(bundle);
}

typedef struct writer {
    oc_observed *o;
    uint32_t stop;
} writer;

static void *writer_main(void *argument)
{
    writer *w = argument;
    float row[F], answer[6];
    for (int n = 1; n <= WRITES || !__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE); n++) {
        for (int i = 0; i < F; i++) row[i] = (float)(n % 65536);
        for (int i = 0; i < 6; i++) answer[i] = (float)(n % 65536);
        oc_observed_push(w->o, 1, n & 64 ? "EURUSD" : "GOOG", row, answer, (uint32_t)n);
    }
    return NULL;
}

/* What is planned is what is taken: the allocator's own sizes, of which each may be rounded up. */
static void planned(void **state)
{
    const oc_model_shape wide = {
        OC_TRUNK_LSTM, 100, 40, 2, 16, 2, 2}; /* a window is more than all that is rounded up */
    oc_bundle *bundle;
    oc_observed o;
    (void)state;
    assert_int_equal(sample_bundle(&bundle, &wide, 1.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_observed_init(&o, bundle, SESSIONS), OC_OK);
    void *const owned[] = {o.seats, o.room, o.means, o.scales, o.shift, o.spread, o.shown, o.shown_spread};
    const size_t n = sizeof owned / sizeof owned[0], bytes = oc_observed_bytes(&bundle->shape, SESSIONS);
    size_t taken = 0;
    for (size_t i = 0; i < n; i++) taken += malloc_usable_size(owned[i]);
    assert_in_range(taken, bytes, bytes + n * 2 * OC_ALIGNMENT);
    oc_observed_deinit(&o);
    oc_bundle_close(bundle);
}

/* One writes, one reads: every view is of one instant. */
static void views(void **state)
{
    oc_bundle *bundle;
    oc_observed o;
    oc_seat_view v;
    float window[T * F];
    pthread_t thread;
    int seen = 0;
    (void)state;
    assert_int_equal(sample_bundle(&bundle, &shape, 1.0f, 4.0, 5), OC_OK);
    assert_int_equal(oc_observed_init(&o, bundle, SESSIONS), OC_OK);
    assert_false(oc_observed_read(&o, 1, &v, window));
    writer w = {.o = &o};
    assert_int_equal(pthread_create(&thread, NULL, writer_main, &w), 0);
    for (int i = 0; i < 20000000 && seen < 2000; i++) {
        if (!oc_observed_read(&o, 1, &v, window) || v.generation % 65536 < T) continue;
        const float last = window[T * F - 1];
        assert_true(v.full && v.answer[0][0] == last && v.answer[1][2] == last &&
                    (float)(v.generation % 65536) == last);
        for (int r = 0; r < T; r++)
            for (int k = 0; k < F; k++) assert_true(window[r * F + k] == last - (float)(T - 1 - r));
        assert_string_equal(v.symbol, v.generation & 64 ? "EURUSD" : "GOOG");
        seen++;
    }
    __atomic_store_n(&w.stop, 1u, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    assert_int_equal(seen, 2000);
    oc_observed_leave(&o, 1);
    assert_false(oc_observed_read(&o, 1, &v, window));
    oc_observed_deinit(&o);
    oc_bundle_close(bundle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(buckets), cmocka_unit_test(drift), cmocka_unit_test(far_away),
                                       cmocka_unit_test(planned), cmocka_unit_test(views)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
