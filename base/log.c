/* log.c - a record is formatted and escaped in fixed buffers and leaves in one write(2), so that lines of several
 * threads and processes never mix. */
#include "base/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { TEXT_BYTES = 2560, LINE_BYTES = 4096 };

static const char *const level_names[] = {
    [OC_LOG_ERROR] = "error", [OC_LOG_WARN] = "warn", [OC_LOG_INFO] = "info", [OC_LOG_DEBUG] = "debug"};
static atomic_int level_most = OC_LOG_INFO;
static atomic_bool bar_shown, json_lines;
static atomic_int also_fd = -1, also_most = -1;

void oc_log_set_level(oc_log_level level)
{
    atomic_store_explicit(&level_most, (int)level, memory_order_relaxed);
}

void oc_log_set_json(bool json)
{
    atomic_store_explicit(&json_lines, json, memory_order_relaxed);
}

int oc_log_level_parse(const char *name, oc_log_level *level)
{
    for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
        if (strcmp(name, level_names[i]) != 0) continue;
        *level = (oc_log_level)i;
        return 1;
    }
    return 0;
}

void oc_log_also(int fd, oc_log_level level)
{
    atomic_store_explicit(&also_fd, fd, memory_order_relaxed);
    atomic_store_explicit(&also_most, fd < 0 ? -1 : (int)level, memory_order_relaxed);
}

void oc_log_bar(bool shown)
{
    atomic_store_explicit(&bar_shown, shown, memory_order_relaxed);
}

/* Bytes of the well-formed UTF-8 character at s that may be shown, 0 where the byte must be escaped: controls (also
 * those of C1, which some terminals obey), lone or cut sequences. */
static size_t shown_bytes(const unsigned char *s)
{
    if (s[0] < 0x80) return s[0] >= 0x20 && s[0] != 0x7f;
    size_t bytes = s[0] >= 0xc2 && s[0] < 0xe0   ? 2
                   : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
                   : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                                 : 0;
    for (size_t i = 1; i < bytes; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;    /* the NUL at the end stops here too */
    }
    return s[0] == 0xc2 && s[1] < 0xa0 ? 0 : bytes;
}

/* Appends text to line, escaped; what does not fit is cut. Returns the new length. */
static size_t escape(char *line, size_t used, size_t cap, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        size_t bytes = shown_bytes(s), needed = bytes ? bytes : 4;
        if (used + needed >= cap) break;
        if (bytes) memcpy(line + used, s, bytes);
        else snprintf(line + used, cap - used, "\\x%02x", *s);
        used += needed;
        s += bytes ? bytes : 1;
    }
    return used;
}

/* The same inside a JSON string. A byte that is no character becomes U+FFFD. */
static size_t escape_json(char *line, size_t used, size_t cap, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    while (*s) {
        const size_t bytes = shown_bytes(s);
        const bool quoted = *s == '"' || *s == '\\';
        if (used + 7 >= cap) break;
        if (quoted) line[used++] = '\\';
        if (bytes) memcpy(line + used, s, bytes);
        else snprintf(line + used, cap - used, "\\u%04x", *s < 0x80 ? *s : 0xfffdu);
        used += bytes ? bytes : 6;
        s += bytes ? bytes : 1;
    }
    return used;
}

static size_t record_json(char *line, size_t cap, oc_log_level level, const char *text)
{
    char time[OC_TIME_TEXT];
    const int length = snprintf(line, cap, "{\"time\":\"%s\",\"level\":\"%s\",\"message\":\"",
                                oc_time_text(oc_clock_wall_ns(), time), level_names[level]);
    const size_t used = escape_json(line, (size_t)length, cap - 2, text);
    memcpy(line + used, "\"}", 2);
    return used + 2;
}

static size_t record_text(char *line, size_t cap, oc_log_level level, const char *text)
{
    char time[OC_TIME_TEXT];
    const int length = snprintf(line, cap, "%s %-5s ", oc_time_text(oc_clock_wall_ns(), time), level_names[level]);
    return escape(line, (size_t)length, cap, text);
}

static void record_write(oc_log_level level, const char *text)
{
    char line[LINE_BYTES];
    const bool shown = (int)level <= atomic_load_explicit(&level_most, memory_order_relaxed);
    const bool also = (int)level <= atomic_load_explicit(&also_most, memory_order_relaxed);
    const bool json = atomic_load_explicit(&json_lines, memory_order_relaxed);
    const char *clear = shown && atomic_exchange_explicit(&bar_shown, false, memory_order_relaxed) ? "\r\033[K" : "";
    const size_t cleared = strlen(clear);
    memcpy(line, clear, cleared);
    size_t used = cleared + (json ? record_json : record_text)(line + cleared, sizeof line - 1 - cleared, level, text);
    int reason = errno;                         /* logging leaves errno alone */
    line[used++] = '\n';
    ssize_t put = shown ? write(STDERR_FILENO, line, used) : 0;
    if (also) put = write(atomic_load_explicit(&also_fd, memory_order_relaxed), line + cleared, used - cleared);
    (void)put;                                  /* nowhere to complain */
    errno = reason;
}

static int wanted(oc_log_level level)
{
    return (int)level <= atomic_load_explicit(&level_most, memory_order_relaxed) ||
           (int)level <= atomic_load_explicit(&also_most, memory_order_relaxed);
}

void oc_log(oc_log_level level, const char *format, ...)
{
    char text[TEXT_BYTES];
    if (!wanted(level)) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    record_write(level, text);
}

bool oc_log_due(int64_t *next_ns)
{
    const int64_t now = oc_clock_monotonic_ns();
    if (now < *next_ns) return false;
    *next_ns = now + OC_SECOND_NS;
    return true;
}

void oc_log_failure(oc_log_level level)
{
    const char *line = oc_status_message();
    while (wanted(level) && *line) {            /* a message of several lines is several records */
        int length = (int)strcspn(line, "\n");
        oc_log(level, "%.*s", length, line);
        line += length + (line[length] == '\n');
    }
    if (*oc_status_places()) oc_log(OC_LOG_DEBUG, "at %s", oc_status_places());
}
