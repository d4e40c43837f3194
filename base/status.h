/* status.h - how every fallible function of Outcry reports failure.
 *
 * A function that can fail returns OC_MUST = oc_status that must be looked at. The message lies in thread-local
 * storage until the next failure of the same thread; it is one sentence in the user's words that names the object
 * (file, dataset, row, key) and what to do. The trail of source places behind it is for the log at debug level.
 *
 *     if (rows == 0) return OC_FAIL(OC_EDATA, "%s: symbol %s has no rows", path, name);
 *     OC_TRY(oc_file_map_open(&map, path));
 *
 * Programmer errors (a NULL that the header forbids) assert. Hot paths count instead of formatting. */
#ifndef OC_BASE_STATUS_H
#define OC_BASE_STATUS_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One row a code: enum, name, exit code of the program (DESIGN section 10). */
#define OC_STATUS_CODES(X)                                                                                             \
    X(OC_OK, "ok", 0)                                                                                                  \
    X(OC_EFAILED, "failed", 1)       /* the environment: I/O, permission, device, disk full */                         \
    X(OC_EMEMORY, "memory", 1)       /* no memory, or over the planned amount */                                       \
    X(OC_ELIMIT, "limit", 1)         /* a bound of ours, named with its value */                                       \
    X(OC_EUSAGE, "usage", 64)        /* wrong command line */                                                          \
    X(OC_EDATA, "bad data", 65)      /* input damaged, malformed or refused */                                         \
    X(OC_EAGAIN, "again", 75)        /* try later: stopped by a signal with everything saved, or a queue is full */    \
    X(OC_ECONFIG, "bad config", 78)  /* a configuration key */

typedef enum oc_status {
#define OC_STATUS_ENUM(code, name, exit_code) code,
    OC_STATUS_CODES(OC_STATUS_ENUM)
#undef OC_STATUS_ENUM
} oc_status;

#define OC_WARN_UNUSED __attribute__((warn_unused_result))
#define OC_MUST OC_WARN_UNUSED oc_status
#define OC_PRINTF(format_at, first_at) __attribute__((format(printf, format_at, first_at)))

#define OC_FAIL(code, ...) oc_status_fail((code), __FILE__, __LINE__, __VA_ARGS__)

/* Passes a failure up and adds this place to its trail. */
#define OC_TRY(expression)                                                                                             \
    do {                                                                                                               \
        oc_status oc_try_ = (expression);                                                                              \
        if (oc_try_ != OC_OK) return oc_status_trail(oc_try_, __FILE__, __LINE__);                                     \
    } while (0)

/* The same for functions with a single exit that frees what they hold. `status` is the local variable. */
#define OC_TRY_GOTO(status, label, expression)                                                                         \
    do {                                                                                                               \
        (status) = (expression);                                                                                       \
        if ((status) != OC_OK) {                                                                                       \
            (void)oc_status_trail((status), __FILE__, __LINE__);                                                       \
            goto label;                                                                                                \
        }                                                                                                              \
    } while (0)

#pragma GCC visibility push(default) /* what a user of a library of ours calls */
/* Sets the message and starts a new trail; returns `code`. Messages over 2,047 bytes are cut; control bytes other than
 * the newline become '?'. */
oc_status oc_status_fail(oc_status code, const char *file, int line, const char *format, ...) OC_PRINTF(4, 5);
oc_status oc_status_trail(oc_status code, const char *file, int line);

/* Puts "prefix: " before the message of the failure being passed up; returns `code`. */
oc_status oc_status_prefix(oc_status code, const char *format, ...) OC_PRINTF(2, 3);

const char *oc_status_message(void);          /* of this thread's last failure; "" before the first */
const char *oc_status_places(void);           /* "file.c:12 < other.c:40 …" */
const char *oc_status_name(oc_status code);   /* never NULL */
int oc_status_exit_code(oc_status code);
#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif
