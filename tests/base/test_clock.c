/* test_clock.c - civil dates against libc's timegm over every day that nanoseconds can hold, and the ends by hand. */
#include "base/cmocka_all.h"

#include <time.h>

#include "base/clock.h"

static void test_every_day(void **state)
{
    (void)state;
    int year, month, day, hour, minute, second, weekday;
    for (int64_t d = -106650; d <= 106650; d++) {               /* 1678-01-01 … 2261-12-31 */
        time_t seconds = (time_t)(d * 86400 + (d * 7919 % 86400 + 86400) % 86400);
        struct tm tm;
        int64_t ns;
        assert_non_null(gmtime_r(&seconds, &tm));
        oc_time_to_civil((int64_t)seconds * OC_SECOND_NS + 999999999, &year, &month, &day, &hour, &minute, &second,
                         &weekday);
        int same = year == tm.tm_year + 1900 && month == tm.tm_mon + 1 && day == tm.tm_mday && hour == tm.tm_hour &&
                   minute == tm.tm_min && second == tm.tm_sec && weekday == (tm.tm_wday + 6) % 7;
        if (!same) fail_msg("day %lld is %d-%d-%d", (long long)d, year, month, day);
        if (year < 1678 || year > 2261) continue;
        assert_true(oc_time_from_civil(year, month, day, hour, minute, second, 5, &ns));
        assert_int_equal(ns, (int64_t)seconds * OC_SECOND_NS + 5);
    }
}

static void test_text(void **state)
{
    (void)state;
    static const struct { int64_t ns; const char *text; } cases[] = {
        {0, "1970-01-01 00:00:00.000000000Z"},
        {-1, "1969-12-31 23:59:59.999999999Z"},
        {INT64_C(1340283731318000000), "2012-06-21 13:02:11.318000000Z"},
        {INT64_C(951782400000000000), "2000-02-29 00:00:00.000000000Z"},
        {INT64_MAX, "2262-04-11 23:47:16.854775807Z"},
        {INT64_MIN, "1677-09-21 00:12:43.145224192Z"}};
    char text[OC_TIME_TEXT];
    for (size_t i = 0; i < COUNT(cases); i++) assert_string_equal(oc_time_text(cases[i].ns, text), cases[i].text);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct { int y, mo, d, h, mi, s; int64_t f; int good; } cases[] = {
        {2024, 2, 29, 23, 59, 59, 999999999, 1}, {2023, 2, 29, 0, 0, 0, 0, 0}, {1900, 2, 29, 0, 0, 0, 0, 0},
        {2000, 2, 29, 0, 0, 0, 0, 1},   {2024, 4, 31, 0, 0, 0, 0, 0},  {2024, 0, 1, 0, 0, 0, 0, 0},
        {2024, 13, 1, 0, 0, 0, 0, 0},   {2024, 1, 0, 0, 0, 0, 0, 0},   {2024, 1, 1, 24, 0, 0, 0, 0},
        {2024, 1, 1, 0, 60, 0, 0, 0},   {2024, 1, 1, 0, 0, 60, 0, 0},  {2024, 1, 1, 0, 0, 0, 1000000000, 0},
        {2024, 1, 1, 0, 0, 0, -1, 0},   {1677, 12, 31, 0, 0, 0, 0, 0}, {2262, 1, 1, 0, 0, 0, 0, 0},
        {1678, 1, 1, 0, 0, 0, 0, 1},    {2261, 12, 31, 23, 59, 59, 999999999, 1}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t ns = 42;
        int good = oc_time_from_civil(cases[i].y, cases[i].mo, cases[i].d, cases[i].h, cases[i].mi, cases[i].s,
                                      cases[i].f, &ns);
        assert_int_equal(good, cases[i].good);
        if (!good) assert_int_equal(ns, 42);
    }
}

static void test_clocks(void **state)
{
    (void)state;
    oc_clock clock = oc_clock_monotonic();
    int64_t a = oc_clock_monotonic_ns(), b = clock.now_ns(clock.context), c = oc_clock_monotonic_ns();
    assert_true(a <= b && b <= c);
    assert_true(oc_clock_wall_ns() > INT64_C(1700000000) * OC_SECOND_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_day), cmocka_unit_test(test_text),
                                       cmocka_unit_test(test_refusals), cmocka_unit_test(test_clocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
