/* guard.c - see guard.h. What the handler writes is made beforehand: it may call nothing else. */
#include "train/guard.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"

enum { GRACE_SECONDS = 2 };

static char alarm_text[1536];
static volatile size_t alarm_bytes;

static void on_alarm(int number)
{
    (void)number;
    ssize_t put = write(STDERR_FILENO, alarm_text, alarm_bytes);
    (void)put;
    _exit(1);
}

static void arm(const char *who, const char *what, const char *after, int64_t seconds)
{
    const struct itimerval value = {.it_value = {.tv_sec = (time_t)seconds}};
    struct sigaction action;
    if (seconds > 0) {
        int length = snprintf(alarm_text, sizeof alarm_text, "outcry: %s: %s has not returned for %lld s: ended%s%s\n",
                              who, what, (long long)seconds, *after ? ", after: " : "", after);
        alarm_bytes = length < (int)sizeof alarm_text ? (size_t)length : sizeof alarm_text - 1;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_alarm;
        (void)sigaction(SIGALRM, &action, NULL);
    }
    (void)setitimer(ITIMER_REAL, &value, NULL);
}

void train_guard(const char *who, const char *what, int64_t seconds)
{
    arm(who, what, "", seconds);
}

void train_guard_close(const char *who, const char *what, bool failed, int64_t seconds)
{
    arm(who, what, failed ? oc_status_message() : "", seconds);
}

int64_t train_guard_seconds(int64_t timeout_ns)
{
    return timeout_ns / OC_SECOND_NS + 1 + GRACE_SECONDS;
}
