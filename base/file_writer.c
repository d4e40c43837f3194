/* file_writer.c - replace a file as a whole or not at all: temporary file in the same folder (file_beside.c), fsync,
 * rename, fsync of the folder. A crash leaves the old file, and at worst a temporary one, removed by a later writer. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

enum { BUFFER_BYTES = 1 << 18 };

struct oc_file_writer {
    int fd;
    int failed;                                 /* errno of the first failure; then only abort or a failing commit */
    bool prepared;                              /* all is on the disk, only the rename is missing */
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

oc_status oc_file_writer_open(oc_file_writer **out, const char *path)
{
    oc_file_writer *w;
    assert(out && path);
    *out = NULL;
    OC_TRY(oc_memory_new(&w, sizeof *w, path));
    w->fd = -1;
    oc_status status = oc_file_beside(path, w->target, w->temporary);
    if (status == OC_OK) w->fd = open(w->temporary, O_RDWR | O_CLOEXEC);
    if (status == OC_OK && w->fd < 0) status = OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(errno));
    if (status != OC_OK) {
        if (w->temporary[0]) unlink(w->temporary);
        oc_memory_free(w);
        return status;
    }
    *out = w;
    return OC_OK;
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
    assert(w && !w->prepared && (data || bytes == 0));
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
    assert(w && !w->prepared && (data || bytes == 0));
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

oc_status oc_file_writer_prepare(oc_file_writer *w)
{
    assert(w);
    if (w->prepared) return OC_OK;
    OC_TRY(flush(w));
    if (fsync(w->fd) != 0) return writer_fail(w, errno);
    int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0) return writer_fail(w, errno);
    w->prepared = true;
    return OC_OK;
}

static oc_status writer_finish(oc_file_writer *w)
{
    OC_TRY(oc_file_writer_prepare(w));
    OC_TRY(oc_file_replace(w->temporary, w->target));
    w->temporary[0] = '\0';
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
