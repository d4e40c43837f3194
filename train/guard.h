/* guard.h - the last net under calls of libraries that may block for ever (MPI, NCCL, a driver, a name server): a timer
 * that writes one line and ends the process. A process has one, around one call at a time. */
#ifndef OC_TRAIN_GUARD_H
#define OC_TRAIN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

/* "outcry: WHO: WHAT has not returned for N s: ended", exit code 1, unless the next call comes first; 0 seconds: none.
 */
void train_guard(const char *who, const char *what, int64_t seconds);
/* Around the last call of a rank, which says what it failed with only after it: the line then ends with that, "ended,
 * after: MESSAGE". */
void train_guard_close(const char *who, const char *what, bool failed, int64_t seconds);
/* For a call that should itself end after timeout_ns: that, and a grace. */
int64_t train_guard_seconds(int64_t timeout_ns);

#endif
