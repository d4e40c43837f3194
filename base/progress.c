/* progress.c - one line of text from (done, total, elapsed), drawn over itself on a terminal. */
#include "base/progress.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define FIRST_NS    (OC_SECOND_NS / 2)          /* silence before */
#define TERMINAL_NS (OC_SECOND_NS / 10)         /* between two drawings */
#define LINE_NS     (5 * OC_SECOND_NS)          /* between two lines elsewhere */

enum { LINE_BYTES = 512, BAR_CELLS = 24 };

static atomic_bool process_quiet;

void oc_progress_set_quiet(bool quiet)
{
    atomic_store(&process_quiet, quiet);
}

void oc_progress_start(oc_progress *p, const char *what, const char *unit, uint64_t total)
{
    int64_t now = oc_clock_monotonic_ns();
    *p = (oc_progress){.what = what, .unit = unit, .total = total, .start_ns = now, .shown_ns = now,
                       .quiet = atomic_load(&process_quiet), .terminal = isatty(STDERR_FILENO) == 1};
}

/* "12.3k", "4.56M": three significant digits in at most six characters. */
static const char *short_number(double value, char *text, size_t cap)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P"};
    size_t unit = 0;
    for (; value >= 999.5 && unit + 1 < sizeof units / sizeof *units; unit++) value /= 1000;
    snprintf(text, cap, "%.*f%s",
             value >= 99.95 || (unit == 0 && value >= 10) ? 0
             : value >= 9.995                             ? 1
                                                          : 2,
             value, units[unit]);
    return text;
}

static const char *short_time(double seconds, char *text, size_t cap)
{
    long s = seconds < 1e9 ? (long)(seconds + 0.5) : 999999999;
    if (seconds < 9.95) snprintf(text, cap, "%.1f s", seconds);
    else if (s < 60) snprintf(text, cap, "%ld s", s);
    else if (s < 3600) snprintf(text, cap, "%ld:%02ld min", s / 60, s % 60);
    else snprintf(text, cap, "%ld:%02ld h", s / 3600, s / 60 % 60);
    return text;
}

static size_t terminal_columns(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

static void emit(const char *text, size_t bytes)
{
    ssize_t put = write(STDERR_FILENO, text, bytes);
    (void)put;                                  /* progress is a courtesy */
}

__attribute__((format(printf, 4, 5))) static void add(char *line, size_t *used, size_t cap, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line + *used, cap - *used, format, arguments);
    va_end(arguments);
    if (length > 0) *used += (size_t)length < cap - *used ? (size_t)length : cap - *used - 1;
}

/* "build [#####   ]  41% 1.20M/2.93M rows, 231k rows/s, 7.5 s left, loss 0.98" */
static size_t describe(const oc_progress *p, double elapsed, bool last, char *line, size_t cap)
{
    char a[48], b[48];
    size_t used = 0;
    double fraction = p->total ? (double)p->done / (double)p->total : 0;
    double fresh = p->done > p->base ? (double)(p->done - p->base) : 0, rate = elapsed > 0 ? fresh / elapsed : 0;
    if (fraction > 1) fraction = 1;
    add(line, &used, cap, "%s", p->what);
    if (p->terminal && p->total) {
        int full = (int)(fraction * BAR_CELLS);
        add(line, &used, cap, " [%.*s%*s]", full, "########################", BAR_CELLS - full, "");
    }
    if (p->total) add(line, &used, cap, " %3d%%", (int)(fraction * 100));
    add(line, &used, cap, " %s", short_number((double)p->done, a, sizeof a));
    if (p->total) add(line, &used, cap, "/%s", short_number((double)p->total, b, sizeof b));
    add(line, &used, cap, " %s, %s %s/s", p->unit, short_number(rate, a, sizeof a), p->unit);
    if (last) add(line, &used, cap, ", %s", short_time(elapsed, a, sizeof a));
    else if (p->total > p->done && rate > 0)
        add(line, &used, cap, ", %s left", short_time((double)(p->total - p->done) / rate, a, sizeof a));
    if (p->extra[0]) add(line, &used, cap, ", %s", p->extra);
    return used;
}

static void show(oc_progress *p, int64_t now, bool last)
{
    char line[LINE_BYTES] = "\r";
    size_t begin = p->terminal ? 1 : 0;
    size_t used = begin + describe(p, (double)(now - p->start_ns) * 1e-9, last, line + begin, sizeof line - 8);
    if (p->terminal) {
        size_t columns = terminal_columns();
        if (used > columns) used = columns;     /* "\r" and columns - 1 characters: never wraps */
        memcpy(line + used, "\033[K", 3);
        used += 3;
    }
    if (!p->terminal || last) line[used++] = '\n';
    emit(line, used);
    oc_log_bar(p->terminal && !last);
    p->shown_ns = now;
}

void oc_progress_update(oc_progress *p, uint64_t done)
{
    p->done = done;
    if (p->quiet) return;
    int64_t now = oc_clock_monotonic_ns();
    if (now - p->start_ns < FIRST_NS || now - p->shown_ns < (p->terminal ? TERMINAL_NS : LINE_NS)) return;
    show(p, now, false);
}

void oc_progress_extra(oc_progress *p, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->extra, sizeof p->extra, format, arguments);
    va_end(arguments);
}

void oc_progress_finish(oc_progress *p)
{
    int64_t now = oc_clock_monotonic_ns();
    if (!p->quiet && now - p->start_ns >= FIRST_NS) show(p, now, true);
    p->quiet = true;                            /* a second finish says nothing */
}
