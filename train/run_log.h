/* run_log.h - RUN/log.jsonl: one JSON object a line, appended whole. After a resume it is cut to the bytes that the
 * checkpoint knows, so that it equals an unbroken run's but for the values under "time". The open file is also the lock
 * of the folder: a second process in the same RUN is refused. */
#ifndef OC_TRAIN_RUN_LOG_H
#define OC_TRAIN_RUN_LOG_H

#include <stdint.h>
#include "base/json.h"

typedef struct train_log {
    int fd;
    int64_t bytes, start_ns;
    const char *path;
} train_log;

OC_MUST train_log_open(train_log *log, const char *path); /* path outlives it; OC_EAGAIN where locked */
OC_MUST train_log_cut(train_log *log, int64_t bytes);     /* OC_EDATA where the file is shorter */
/* Adds "time": {"wall", "seconds", and windows_per_second unless negative}; line is consumed, NULL: no memory. */
OC_MUST train_log_add(train_log *log, json_t *line, double windows_per_second);
OC_MUST train_log_sync(train_log *log);
void train_log_close(train_log *log);

#endif
