/* clock.h - time in integer nanoseconds. Decisions use the monotonic clock; the wall clock is for records only. */
#ifndef OC_BASE_CLOCK_H
#define OC_BASE_CLOCK_H

#include <stdint.h>

#define OC_SECOND_NS INT64_C(1000000000)

/* Injectable: whoever needs time in a testable way takes an oc_clock. */
typedef struct oc_clock {
    int64_t (*now_ns)(void *context);
    void *context;
} oc_clock;

int64_t oc_clock_monotonic_ns(void);
int64_t oc_clock_wall_ns(void);                /* since 1970-01-01 UTC */
oc_clock oc_clock_monotonic(void);

/* "2012-06-21 13:02:11.318000000Z"; text holds at least OC_TIME_TEXT bytes. Returns text. */
#define OC_TIME_TEXT 40
const char *oc_time_text(int64_t wall_ns, char *text);

/* Civil UTC date and time to nanoseconds since 1970; proleptic Gregorian, years 1678 to 2261; -1 result impossible:
 * returns 0 and leaves *ns alone where a field is out of range. */
int oc_time_from_civil(int year, int month, int day, int hour, int minute, int second, int64_t fraction_ns,
                       int64_t *ns);
void oc_time_to_civil(int64_t ns, int *year, int *month, int *day, int *hour, int *minute, int *second, int *weekday);
                                               /* weekday: 0 Monday … 6 Sunday */

#endif
