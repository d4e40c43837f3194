/* test_progress.c - time is moved by shifting the start, not by sleeping. Would catch: output in the first half second,
 * a line too often, a bar that wraps, a rate that counts work done before a resume, output when quiet. */
#include "base/capture.h"

#include "base/clock.h"
#include "base/progress.h"

/* It is now so long after the start, and after what was shown last (at `shown` behind the start). Right before each
 * look, so that a machine that is busy in between changes nothing. */
static void at(oc_progress *p, double seconds, double shown)
{
    p->start_ns = oc_clock_monotonic_ns() - (int64_t)(seconds * 1e9);
    p->shown_ns = p->start_ns + (int64_t)(shown * 1e9);
}

static void test_lines(void **state)
{
    (void)state;
    oc_progress p;
    capture c;
    char early[256], first[256], soon[256], last[256], twice[256];
    capture_begin(&c);
    oc_progress_start(&p, "build", "rows", 1000);
    p.base = 400;
    at(&p, 0, 0);
    oc_progress_update(&p, 500);
    at(&p, 3, 0);
    oc_progress_update(&p, 550);
    capture_next(&c, early, sizeof early);
    oc_progress_extra(&p, "loss %.2f", 0.98);
    at(&p, 6, 0);
    oc_progress_update(&p, 700);
    capture_next(&c, first, sizeof first);
    at(&p, 6, 6);
    oc_progress_update(&p, 710);
    capture_next(&c, soon, sizeof soon);
    at(&p, 6, 6);
    oc_progress_update(&p, 1000);
    at(&p, 6, 6);
    oc_progress_finish(&p);
    capture_next(&c, last, sizeof last);
    oc_progress_finish(&p);
    capture_next(&c, twice, sizeof twice);
    capture_end(&c);
    assert_string_equal(early, "");
    assert_string_equal(first, "build  70% 700/1.00k rows, 50 rows/s, 6.0 s left, loss 0.98\n");
    assert_string_equal(soon, "");
    assert_string_equal(last, "build 100% 1.00k/1.00k rows, 100 rows/s, 6.0 s, loss 0.98\n");
    assert_string_equal(twice, "");
}

static void test_silence(void **state)
{
    (void)state;
    oc_progress p;
    capture c;
    char line[256], quiet[256];
    capture_begin(&c);
    oc_progress_start(&p, "build", "rows", 10);
    at(&p, 0, 0);
    oc_progress_finish(&p);                     /* over before half a second */
    capture_next(&c, line, sizeof line);
    oc_progress_set_quiet(true);
    oc_progress_start(&p, "build", "rows", 10);
    oc_progress_set_quiet(false);
    at(&p, 60, 0);
    oc_progress_update(&p, 5);
    oc_progress_finish(&p);
    capture_next(&c, quiet, sizeof quiet);
    capture_end(&c);
    assert_string_equal(line, "");
    assert_string_equal(quiet, "");
}

static void test_bar(void **state)
{
    (void)state;
    oc_progress p;
    capture c;
    char first[512], wide[512];
    capture_begin(&c);
    oc_progress_start(&p, "fit", "rows", 2000000);
    p.terminal = true;
    at(&p, 1, 0);
    oc_progress_update(&p, 1000000);
    capture_next(&c, first, sizeof first);
    oc_progress_extra(&p, "%s", "01234567890123456789012345678901234567890123456789012345678901234567890123456789");
    at(&p, 1e6, 1);
    oc_progress_update(&p, 3000000);            /* more than the total */
    capture_next(&c, wide, sizeof wide);
    capture_end(&c);
    assert_string_equal(first,
                        "\rfit [############            ]  50% 1.00M/2.00M rows, 1.00M rows/s, 1.0 s left\033[K");
    assert_true(strlen(wide) <= 80 + 3);        /* "\r", 79 columns, "\033[K" */
    assert_non_null(strstr(wide, "100%"));
}

static void test_unknown_total(void **state)
{
    (void)state;
    oc_progress p;
    capture c;
    char line[256];
    capture_begin(&c);
    oc_progress_start(&p, "import", "events", 0);
    at(&p, 4000, 0);
    oc_progress_update(&p, 123456789);
    capture_next(&c, line, sizeof line);
    capture_end(&c);
    assert_string_equal(line, "import 123M events, 30.9k events/s\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines), cmocka_unit_test(test_silence),
                                       cmocka_unit_test(test_bar), cmocka_unit_test(test_unknown_total)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
