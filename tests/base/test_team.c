/* test_team.c - every worker runs exactly once a run and sees what the caller wrote before it; nothing is allocated;
 * more threads than cores finish. Under the thread sanitizer (preset tsan) it proves the hand-over; plain memory is
 * used on purpose. The checker is proven by a run that skips one item. */
#include "base/cmocka_all.h"

#include <time.h>

#include "base/memory.h"
#include "base/team.h"

enum { ITEMS = 1000, WORKERS_MAX = 64 };

typedef struct job {
    int round, calls[WORKERS_MAX], items[ITEMS];
    bool skip_one;
} job;

static void fill(void *context, int worker, int workers)
{
    job *j = context;
    size_t first, last;
    oc_team_split(ITEMS, worker, workers, &first, &last);
    for (size_t i = first; i < last; i++) j->items[i] = j->round * 7 + (int)i;
    if (j->skip_one && worker == 0) j->items[0]--;
    j->calls[worker]++;
}

static bool right(const job *j, int workers)
{
    for (int i = 0; i < ITEMS; i++) {
        if (j->items[i] != j->round * 7 + i) return false;
    }
    for (int w = 0; w < workers; w++) {
        if (j->calls[w] != j->round) return false;
    }
    return true;
}

static void test_rounds(void **state)
{
    (void)state;
    static const struct { int threads, rounds; } cases[] = {{1, 1000}, {2, 5000}, {3, 500}, {WORKERS_MAX, 50}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        oc_team *t;
        static job j;
        memset(&j, 0, sizeof j);
        must(oc_team_open(&t, cases[i].threads));
        assert_int_equal(oc_team_size(t), cases[i].threads);
        size_t before = oc_memory_count();
        for (j.round = 1; j.round <= cases[i].rounds; j.round++) {
            oc_team_run(t, fill, &j);
            if (!right(&j, cases[i].threads)) fail_msg("%d threads, round %d", cases[i].threads, j.round);
        }
        j.skip_one = true;
        oc_team_run(t, fill, &j);
        assert_false(right(&j, cases[i].threads));
        assert_int_equal(oc_memory_count(), before);
        oc_team_close(t);
    }
    oc_team_close(NULL);
}

/* Both sides must really fall asleep, and wake: longer than any spin. */
static void sleepy(void *context, int worker, int workers)
{
    (void)workers;
    const struct timespec pause = {0, 3000000};
    if (worker == 1) nanosleep(&pause, NULL);
    ((int *)context)[worker]++;
}

static void test_sleep(void **state)
{
    (void)state;
    const struct timespec pause = {0, 3000000};
    oc_team *t;
    int calls[2] = {0, 0};
    must(oc_team_open(&t, 2));
    for (int i = 0; i < 20; i++) {
        oc_team_run(t, sleepy, calls);
        nanosleep(&pause, NULL);
    }
    oc_team_close(t);
    assert_true(calls[0] == 20 && calls[1] == 20);
}

static void test_split(void **state)
{
    (void)state;
    static const size_t counts[] = {0, 1, 5, 64, 1000003};
    for (size_t i = 0; i < COUNT(counts); i++) {
        for (int workers = 1; workers <= 9; workers++) {
            size_t end = 0;
            for (int w = 0; w < workers; w++) {
                size_t first, last;
                oc_team_split(counts[i], w, workers, &first, &last);
                assert_int_equal(first, end);
                assert_true(last - first <= counts[i] / (size_t)workers + 1 &&
                            last - first >= counts[i] / (size_t)workers);
                end = last;
            }
            assert_int_equal(end, counts[i]);
        }
    }
}

static void test_limits(void **state)
{
    (void)state;
    oc_team *t;
    static const int wrong[] = {0, -1, 1025};
    for (size_t i = 0; i < COUNT(wrong); i++) must_fail(oc_team_open(&t, wrong[i]), OC_ELIMIT, "1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rounds), cmocka_unit_test(test_sleep),
                                       cmocka_unit_test(test_split), cmocka_unit_test(test_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
