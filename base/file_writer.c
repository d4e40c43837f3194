/* file_writer.c - replace a file as a whole or not at all: temporary file in the same folder, fsync, rename, fsync of
 * the folder. A crash leaves the old file, and at worst a ".outcry-PID-N.tmp" beside it. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

enum { BUFFER_BYTES = 1 << 18, NAME_TRIES = 1000 };

struct oc_file_writer {
    int fd;
    int failed;                                 /* errno of the first failure; then only abort or a failing commit */
    size_t buffered;
    uint64_t written;                           /* bytes in the file; `buffered` more in the buffer */
    char target[OC_PATH_MAX], temporary[OC_PATH_MAX];
    unsigned char buffer[BUFFER_BYTES];
};

static oc_status writer_fail(oc_file_writer *w, int reason)
{
    if (!w->failed) w->failed = reason;
    return OC_FAIL(OC_EFAILED, "%s: cannot write: %s; the old file, if any, is untouched", w->target,
                   strerror(w->failed));
}

/* The file that a name means: behind links, so that a link stays one. A device or folder must not be renamed over. */
static oc_status target_resolve(oc_file_writer *w, const char *path, mode_t *mode)
{
    struct stat s;
    *mode = 0;
    if (strlen(path) >= sizeof w->target)
        return OC_FAIL(OC_ELIMIT, "%.64s…: a path over %d bytes", path, OC_PATH_MAX - 1);
    memcpy(w->target, path, strlen(path) + 1);
    if (stat(path, &s) != 0) return OC_OK;
    if (!S_ISREG(s.st_mode))
        return OC_FAIL(OC_EFAILED, "%s: cannot write: it is there and is not a regular file", path);
    *mode = s.st_mode & 07777;
    if (!realpath(path, w->target)) return OC_FAIL(OC_EFAILED, "%s: cannot resolve: %s", path, strerror(errno));
    return OC_OK;
}

static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static oc_status temporary_open(oc_file_writer *w, mode_t mode)
{
    static atomic_uint serial;
    int folder = (int)folder_length(w->target);
    for (int i = 0; i < NAME_TRIES; i++) {
        int length = snprintf(w->temporary, sizeof w->temporary, "%.*s.outcry-%ld-%u.tmp", folder, w->target,
                              (long)getpid(), atomic_fetch_add(&serial, 1));
        if (length < 0 || (size_t)length >= sizeof w->temporary) break;
        w->fd = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd < 0 && errno == EEXIST) continue;             /* left by a crash */
        if (w->fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", w->target, strerror(errno));
        if (mode && fchmod(w->fd, mode) != 0) {                 /* a replaced file keeps its mode */
            int reason = errno;
            close(w->fd);
            unlink(w->temporary);
            return OC_FAIL(OC_EFAILED, "%s: cannot keep its mode: %s", w->target, strerror(reason));
        }
        return OC_OK;
    }
    return OC_FAIL(OC_ELIMIT, "%.64s…: found no name for a temporary file beside it", w->target);
}

oc_status oc_file_writer_open(oc_file_writer **out, const char *path)
{
    mode_t mode;
    assert(out && path);
    OC_TRY(oc_memory_new(out, sizeof **out, path));
    oc_status status = target_resolve(*out, path, &mode);
    if (status == OC_OK) status = temporary_open(*out, mode);
    if (status != OC_OK) {
        oc_memory_free(*out);
        *out = NULL;
    }
    return status;
}

static oc_status put(oc_file_writer *w, const unsigned char *data, size_t bytes, uint64_t offset)
{
    while (bytes > 0) {
        ssize_t done = pwrite(w->fd, data, bytes, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return writer_fail(w, done < 0 ? errno : ENOSPC);
        data += done;
        bytes -= (size_t)done;
        offset += (uint64_t)done;
    }
    return OC_OK;
}

static oc_status flush(oc_file_writer *w)
{
    if (w->failed) return writer_fail(w, w->failed);
    OC_TRY(put(w, w->buffer, w->buffered, w->written));
    w->written += w->buffered;
    w->buffered = 0;
    return OC_OK;
}

oc_status oc_file_writer_add(oc_file_writer *w, const void *data, size_t bytes)
{
    assert(w && (data || bytes == 0));
    if (w->failed) return writer_fail(w, w->failed);
    if (bytes > sizeof w->buffer - w->buffered) OC_TRY(flush(w));
    if (bytes >= sizeof w->buffer) {
        OC_TRY(put(w, data, bytes, w->written));
        w->written += bytes;
        return OC_OK;
    }
    if (bytes) memcpy(w->buffer + w->buffered, data, bytes);
    w->buffered += bytes;
    return OC_OK;
}

oc_status oc_file_writer_patch(oc_file_writer *w, uint64_t offset, const void *data, size_t bytes)
{
    assert(w && (data || bytes == 0));
    uint64_t total = oc_file_writer_bytes(w);
    assert(offset <= total && bytes <= total - offset);         /* only what is already there */
    (void)total;
    OC_TRY(flush(w));
    OC_TRY(put(w, data, bytes, offset));
    return OC_OK;
}

uint64_t oc_file_writer_bytes(const oc_file_writer *w)
{
    return w->written + w->buffered;
}

static oc_status folder_sync(const char *path)
{
    char folder[OC_PATH_MAX];
    size_t length = folder_length(path);
    memcpy(folder, path, length);
    memcpy(folder + length, ".", 2);            /* "a/b/." or "." */
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    if (failed && failed != EINVAL && failed != EACCES) /* some file systems cannot, some folders are write-only */
        return OC_FAIL(OC_EFAILED, "%s: cannot sync its folder: %s", path, strerror(failed));
    return OC_OK;
}

static oc_status writer_finish(oc_file_writer *w)
{
    OC_TRY(flush(w));
    if (fsync(w->fd) != 0) return writer_fail(w, errno);
    int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0) return writer_fail(w, errno);
    if (rename(w->temporary, w->target) != 0) return writer_fail(w, errno);
    w->temporary[0] = '\0';
    OC_TRY(folder_sync(w->target));
    return OC_OK;
}

oc_status oc_file_writer_commit(oc_file_writer *w)
{
    oc_status status = writer_finish(w);
    oc_file_writer_abort(w);
    return status;
}

void oc_file_writer_abort(oc_file_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->temporary[0]) unlink(w->temporary);
    oc_memory_free(w);
}

oc_status oc_file_write(const char *path, const void *data, size_t bytes)
{
    oc_file_writer *w;
    OC_TRY(oc_file_writer_open(&w, path));
    oc_status status = oc_file_writer_add(w, data, bytes);
    if (status != OC_OK) {
        oc_file_writer_abort(w);
        return status;
    }
    OC_TRY(oc_file_writer_commit(w));
    return OC_OK;
}
