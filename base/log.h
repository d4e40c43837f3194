/* log.h - one line a record on stderr (or a file), each a single write(2); control bytes are escaped. As text, or as
 * one JSON object a line: time, level, message. */
#ifndef OC_BASE_LOG_H
#define OC_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

typedef enum { OC_LOG_ERROR, OC_LOG_WARN, OC_LOG_INFO, OC_LOG_DEBUG } oc_log_level;

void oc_log_set_level(oc_log_level level);                            /* default INFO */
void oc_log_set_json(bool json);                                       /* default text */
int oc_log_level_parse(const char *name, oc_log_level *level);        /* error warn info debug; 0 where unknown */
void oc_log(oc_log_level level, const char *format, ...) OC_PRINTF(2, 3);
/* True once a second: what goes on failing fills no disk. *next_ns: the caller's, 0 at first. */
bool oc_log_due(int64_t *next_ns);
void oc_log_failure(oc_log_level level);     /* this thread's message, a record a line; its trail at debug level */
/* Records up to `level` also go to fd, whatever stderr shows; fd -1: no longer. fd stays the caller's. */
void oc_log_also(int fd, oc_log_level level);
void oc_log_bar(bool shown);                 /* progress: a bar stands on the line, the next record clears it */

#endif
