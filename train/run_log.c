/* run_log.c - see run_log.h. */
#include "train/run_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static oc_status system_fail(const train_log *log, const char *what)
{
    return OC_FAIL(OC_EFAILED, "%s: cannot %s: %s", log->path, what, strerror(errno));
}

oc_status train_log_open(train_log *log, const char *path)
{
    *log = (train_log){.fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666),
                       .path = path,
                       .start_ns = oc_clock_monotonic_ns()};
    if (log->fd < 0) return system_fail(log, "write");
    if (flock(log->fd, LOCK_EX | LOCK_NB) != 0) {
        int reason = errno;
        train_log_close(log);
        if (reason == EWOULDBLOCK) return OC_FAIL(OC_EAGAIN, "%s: another process trains in this folder", path);
        return OC_FAIL(OC_EFAILED, "%s: cannot lock: %s", path, strerror(reason));
    }
    return OC_OK;
}

oc_status train_log_cut(train_log *log, int64_t bytes)
{
    struct stat s;
    if (fstat(log->fd, &s) != 0) return system_fail(log, "look at it");
    if (s.st_size < bytes)
        return OC_FAIL(
            OC_EDATA,
            "%s: has %lld bytes, the checkpoint knows of %lld: cut or replaced since; put it back, or train anew",
            log->path, (long long)s.st_size, (long long)bytes);
    if (ftruncate(log->fd, bytes) != 0) return system_fail(log, "cut it");
    log->bytes = bytes;
    return OC_OK;
}

static oc_status text_add(train_log *log, char *text)
{
    size_t length = strlen(text);
    text[length++] = '\n'; /* in place of the NUL */
    for (size_t at = 0; at < length;) {
        ssize_t done = write(log->fd, text + at, length - at);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return system_fail(log, "write");
        at += (size_t)done;
    }
    log->bytes += (int64_t)length;
    return OC_OK;
}

oc_status train_log_add(train_log *log, json_t *line, double windows_per_second)
{
    char wall[OC_TIME_TEXT];
    double seconds = (double)(oc_clock_monotonic_ns() - log->start_ns) * 1e-9;
    json_t *time = json_pack("{s:s, s:f}", "wall", oc_time_text(oc_clock_wall_ns(), wall), "seconds", seconds);
    if (time && windows_per_second >= 0) json_object_set_new(time, "windows_per_second", json_real(windows_per_second));
    char *text = NULL;
    if (line && time && json_object_set(line, "time", time) == 0) text = oc_json_line(line);
    json_decref(time);
    json_decref(line);
    if (!text) return OC_FAIL(OC_EMEMORY, "%s: no memory for a line, or a number in it is not finite", log->path);
    oc_status status = text_add(log, text);
    free(text);
    return status;
}

oc_status train_log_sync(train_log *log)
{
    if (fdatasync(log->fd) != 0 && errno != EINVAL) return system_fail(log, "sync");
    return OC_OK;
}

void train_log_close(train_log *log)
{
    if (log->fd >= 0) close(log->fd);
    log->fd = -1;
}
