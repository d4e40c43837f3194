/* test_check.c - what `outcry doctor --ranks` finds before a job, with ranks as threads behind comm_double.h. The
 * harness's injected faults: a rank of another MPI, a clock that is off, a rank that does not come. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "train/comm_check.h"
#include "train/comm_double.h"

enum { RANKS = 4 };

typedef struct rank_run {
    oc_comm comm;
    int64_t timeout_ns;
    const char *about;
    oc_comm_report report;
    oc_status status;
    char message[512];
} rank_run;

static rank_run runs[RANKS];

static void *rank_main(void *argument)
{
    rank_run *r = argument;
    const oc_comm_self self = {.about = r->about, .gpu = "none", .nccl = "not found"};
    r->status = oc_comm_check(&r->comm, &self, r->timeout_ns, &r->report);
    snprintf(r->message, sizeof r->message, "%s", r->status == OC_OK ? "" : oc_status_message());
    oc_comm_close(&r->comm, r->status);
    return NULL;
}

/* odd: a rank of another MPI; -1: none. */
static void check_run(double_fault fault, int odd)
{
    pthread_t threads[RANKS];
    double_net *net = double_open(RANKS, fault);
    for (int r = 0; r < RANKS; r++) {
        runs[r] = (rank_run){.comm = double_rank(net, r),
                             .timeout_ns = (fault.kind == DOUBLE_LOST ? 3 : 60) * OC_SECOND_NS,
                             .about = r == odd ? "MPI 2" : "MPI 1"};
        assert_int_equal(pthread_create(&threads[r], NULL, rank_main, &runs[r]), 0);
    }
    for (int r = 0; r < RANKS; r++) pthread_join(threads[r], NULL);
    double_close(net);
}

static void all_is_well(void **state)
{
    (void)state;
    check_run((double_fault){.jitter_seed = 4}, -1);
    for (int r = 0; r < RANKS; r++) {
        const oc_comm_report *report = &runs[r].report;
        assert_int_equal(runs[r].status, OC_OK);
        assert_true(report->ranks == RANKS && report->sizes == OC_CHECK_SIZES && report->wrong_count == 0);
        for (int i = 0; i < RANKS; i++) {
            const oc_comm_seat *s = &report->seats[i];
            char name[32];
            snprintf(name, sizeof name, "rank %d", i);
            assert_string_equal(s->name, name);
            assert_true(s->cores >= 1 && s->free_bytes > 0 && llabs(s->skew_ns) <= s->skew_error_ns);
            for (int k = 0; k < report->sizes; k++) assert_true(s->gather_us[k] > 0 && s->sum_us[k] > 0);
        }
        oc_comm_report_free(&runs[r].report);
    }
}

static void what_differs_is_wrong(void **state)
{
    (void)state;
    check_run((double_fault){.kind = DOUBLE_NONE}, 2);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(runs[r].status, OC_OK);
        assert_int_equal(runs[r].report.wrong_count, 1);
        assert_string_equal(runs[r].report.wrong[0], "different MPI or launchers: rank 0 has MPI 1, rank 2 MPI 2");
        oc_comm_report_free(&runs[r].report);
    }
}

static void who_does_not_come_is_named(void **state)
{
    (void)state;
    for (int64_t at = 1; at < 60; at += 13) { /* at the start, between clocks, between speeds */
        check_run((double_fault){.kind = DOUBLE_LOST, .rank = 3, .at = at}, -1);
        for (int r = 0; r < 3; r++) {
            assert_int_equal(runs[r].status, OC_EFAILED);
            if (!strstr(runs[r].message, "no answer from rank 3")) fail_msg("%s", runs[r].message);
        }
    }
}

/* Rank 1's clock is 5 s ahead; each round ends as far apart on the two as it can: one began when the other ended. The
 * true skew lies within the bound, at its edge; of several rounds the shortest decides. */
static void a_clock_that_is_off(void **state)
{
    (void)state;
    const int64_t ahead = 5 * OC_SECOND_NS;
    const struct {
        int64_t first_ends, first_took, other_ends, other_took; /* true times */
    } rows[] = {{1000, 100, 1900, 900}, {5900, 900, 5000, 100}, {9060, 60, 9000, 50}};
    oc_clock_round first[3], other[3];
    int64_t skew, error;
    for (int i = 0; i < 3; i++) {
        first[i] = (oc_clock_round){rows[i].first_ends, rows[i].first_took};
        other[i] = (oc_clock_round){rows[i].other_ends + ahead, rows[i].other_took};
        oc_clock_skew(&first[i], &other[i], 1, &skew, &error);
        assert_int_equal(error, (rows[i].first_took + rows[i].other_took) / 2);
        assert_true(llabs(skew - ahead) == error);
    }
    oc_clock_skew(first, other, 3, &skew, &error);
    assert_int_equal(error, 55);
    assert_true(llabs(skew - ahead) == error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_is_well),
        cmocka_unit_test(what_differs_is_wrong),
        cmocka_unit_test(who_does_not_come_is_named),
        cmocka_unit_test(a_clock_that_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
