/* clock.c - clocks, and the civil calendar by 400-year cycles that begin on 1 March, so that the leap day stands last
 * [Hinnant13]. */
#include "base/clock.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_SECONDS INT64_C(86400)
#define CYCLE_DAYS  INT64_C(146097)             /* of 400 years */
#define EPOCH_DAYS  INT64_C(719468)             /* 0000-03-01 to 1970-01-01 */

static int64_t clock_read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * OC_SECOND_NS + now.tv_nsec;
}

int64_t oc_clock_monotonic_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

int64_t oc_clock_wall_ns(void)
{
    return clock_read_ns(CLOCK_REALTIME);
}

static int64_t monotonic_now(void *context)
{
    (void)context;
    return oc_clock_monotonic_ns();
}

oc_clock oc_clock_monotonic(void)
{
    return (oc_clock){monotonic_now, NULL};
}

static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t days_from_civil(int64_t year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t cycle = floor_divide(y, 400), year_of_cycle = y - cycle * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return cycle * CYCLE_DAYS + year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year -
           EPOCH_DAYS;
}

static int month_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

int oc_time_from_civil(int year, int month, int day, int hour, int minute, int second, int64_t fraction_ns, int64_t *ns)
{
    if (!(year >= 1678 && year <= 2261 && month >= 1 && month <= 12)) return 0;
    if (!(day >= 1 && day <= month_days(year, month))) return 0;
    if (!(hour >= 0 && hour < 24 && minute >= 0 && minute < 60 && second >= 0 && second < 60)) return 0;
    if (!(fraction_ns >= 0 && fraction_ns < OC_SECOND_NS)) return 0;
    int64_t seconds = days_from_civil(year, month, day) * DAY_SECONDS + (hour * 60 + minute) * 60 + second;
    *ns = seconds * OC_SECOND_NS + fraction_ns;
    return 1;
}

void oc_time_to_civil(int64_t ns, int *year, int *month, int *day, int *hour, int *minute, int *second, int *weekday)
{
    int64_t seconds = floor_divide(ns, OC_SECOND_NS), days = floor_divide(seconds, DAY_SECONDS);
    int64_t rest = seconds - days * DAY_SECONDS;
    int64_t shifted = days + EPOCH_DAYS, cycle = floor_divide(shifted, CYCLE_DAYS), d = shifted - cycle * CYCLE_DAYS;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365;          /* year of the cycle */
    int64_t day_of_year = d - (365 * y + y / 4 - y / 100), m = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + cycle * 400 + (*month <= 2));
    *hour = (int)(rest / 3600);
    *minute = (int)(rest / 60 % 60);
    *second = (int)(rest % 60);
    *weekday = (int)(days + 3 - floor_divide(days + 3, 7) * 7);         /* 1970-01-01 was a Thursday */
}

const char *oc_time_text(int64_t wall_ns, char *text)
{
    int year, month, day, hour, minute, second, weekday;
    oc_time_to_civil(wall_ns, &year, &month, &day, &hour, &minute, &second, &weekday);
    int64_t fraction = (wall_ns % OC_SECOND_NS + OC_SECOND_NS) % OC_SECOND_NS;
    char wide[96];                              /* what the compiler believes the integers could need */
    int length = snprintf(wide, sizeof wide, "%04d-%02d-%02d %02d:%02d:%02d.%09dZ", year, month, day, hour, minute,
                          second, (int)fraction);
    assert(length > 0 && length < OC_TIME_TEXT);
    memcpy(text, wide, (size_t)length + 1);
    return text;
}
