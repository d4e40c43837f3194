/* status.c - thread-local message and trail of the last failure. Fixed buffers: failing must not allocate. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048, TRAIL_BYTES = 1024 };

static _Thread_local char message[MESSAGE_BYTES];
static _Thread_local char trail[TRAIL_BYTES];

/* Appends what fits. */
static size_t text_add(char *text, size_t used, size_t cap, const char *more)
{
    size_t length = strnlen(more, cap - 1 - used);
    memcpy(text + used, more, length);
    text[used + length] = '\0';
    return used + length;
}

/* File names and values come from outside: an escape sequence in one must not reach a terminal. */
static void message_set(char *text)
{
    for (char *c = text; *c; c++) {
        if (((unsigned char)*c < 0x20 && *c != '\n') || *c == 0x7f) *c = '?';
    }
    memcpy(message, text, strlen(text) + 1);
}

static void trail_add(const char *file, int line)
{
    size_t used = strlen(trail);
    if (used + 1 < sizeof trail) snprintf(trail + used, sizeof trail - used, "%s%s:%d", used ? " < " : "", file, line);
}

oc_status oc_status_fail(oc_status code, const char *file, int line, const char *format, ...)
{
    char text[MESSAGE_BYTES];   /* arguments may point into `message` */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message_set(text);
    trail[0] = '\0';
    trail_add(file, line);
    return code;
}

oc_status oc_status_trail(oc_status code, const char *file, int line)
{
    trail_add(file, line);
    return code;
}

oc_status oc_status_prefix(oc_status code, const char *format, ...)
{
    char text[MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0) return code;
    size_t used = (size_t)length < sizeof text ? (size_t)length : sizeof text - 1;
    used = text_add(text, used, sizeof text, ": ");
    text_add(text, used, sizeof text, message);
    message_set(text);
    return code;
}

const char *oc_status_message(void)
{
    return message;
}

const char *oc_status_places(void)
{
    return trail;
}

const char *oc_status_name(oc_status code)
{
    static const char *const names[] = {
#define OC_STATUS_NAME(code_, name_, exit_) [code_] = name_,
        OC_STATUS_CODES(OC_STATUS_NAME)
#undef OC_STATUS_NAME
    };
    return (size_t)code < sizeof names / sizeof *names ? names[code] : "unknown";
}

int oc_status_exit_code(oc_status code)
{
    static const int codes[] = {
#define OC_STATUS_EXIT(code_, name_, exit_) [code_] = exit_,
        OC_STATUS_CODES(OC_STATUS_EXIT)
#undef OC_STATUS_EXIT
    };
    return (size_t)code < sizeof codes / sizeof *codes ? codes[code] : 1;
}
