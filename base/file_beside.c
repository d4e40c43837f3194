/* file_beside.c - the temporary file beside a target, and the rename over it. Its name says whose it is:
 * ".outcry-PID-N-TARGET.tmp". What a killed process left beside the same target is removed when the next one comes: its
 * process is gone and nobody has written to it for STALE_NS - a process on another machine of a shared file system
 * cannot be asked whether it lives, but it writes. */
#include "base/file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

enum { NAME_TRIES = 1000, NAME_BYTES = 200 }; /* of the target's name: with the rest below the 255 of a file name */
#define STALE_NS (600 * OC_SECOND_NS)
static const char prefix[] = ".outcry-", suffix[] = ".tmp";

static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static void folder_of(const char *path, char folder[OC_PATH_MAX])
{
    size_t length = folder_length(path);
    if (length + 2 > OC_PATH_MAX) length = 0; /* no path of ours is that long */
    memcpy(folder, path, length);
    memcpy(folder + length, ".", 2);          /* "a/b/." or "." */
}

/* The file that a name means: behind links, so that a link stays one. A device or folder must not be renamed over. */
static oc_status target_resolve(const char *path, char target[OC_PATH_MAX], mode_t *mode)
{
    struct stat s;
    *mode = 0;
    if (strlen(path) >= OC_PATH_MAX) return OC_FAIL(OC_ELIMIT, "%.64s…: a path over %d bytes", path, OC_PATH_MAX - 1);
    memcpy(target, path, strlen(path) + 1);
    if (stat(path, &s) != 0) return OC_OK;
    if (!S_ISREG(s.st_mode))
        return OC_FAIL(OC_EFAILED, "%s: cannot write: it is there and is not a regular file", path);
    *mode = s.st_mode & 07777;
    if (!realpath(path, target)) return OC_FAIL(OC_EFAILED, "%s: cannot resolve: %s", path, strerror(errno));
    return OC_OK;
}

/* Whether `entry` is a temporary file for `name` whose process is gone. */
static bool is_orphan(const char *entry, const char *name)
{
    char *end = NULL, rest[NAME_BYTES + sizeof suffix + 1];
    if (strncmp(entry, prefix, sizeof prefix - 1) != 0) return false;
    long pid = strtol(entry + sizeof prefix - 1, &end, 10);
    if (pid <= 0 || pid > INT32_MAX || *end != '-') return false;
    end += 1 + strspn(end + 1, "0123456789");
    snprintf(rest, sizeof rest, "-%.*s%s", NAME_BYTES, name, suffix);
    return strcmp(end, rest) == 0 && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}

static void orphans_remove(const char *target)
{
    char folder[OC_PATH_MAX];
    folder_of(target, folder);
    DIR *d = opendir(folder);
    if (!d) return;                           /* a folder that may be written but not read */
    for (struct dirent *e; (e = readdir(d));) {
        struct stat s;
        if (!is_orphan(e->d_name, target + folder_length(target))) continue;
        if (fstatat(dirfd(d), e->d_name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(s.st_mode)) continue;
        int64_t written_ns = (int64_t)s.st_mtim.tv_sec * OC_SECOND_NS + s.st_mtim.tv_nsec;
        if (oc_clock_wall_ns() - written_ns < STALE_NS || unlinkat(dirfd(d), e->d_name, 0) != 0) continue;
        oc_log(OC_LOG_INFO, "%s%s: removed, a process that was killed had left it", folder, e->d_name);
    }
    closedir(d);
}

oc_status oc_file_beside(const char *path, char target[OC_PATH_MAX], char temporary[OC_PATH_MAX])
{
    static atomic_uint serial;
    mode_t mode;
    assert(path && target && temporary);
    OC_TRY(target_resolve(path, target, &mode));
    orphans_remove(target);
    int folder = (int)folder_length(target);
    for (int i = 0; i < NAME_TRIES; i++) {
        int length = snprintf(temporary, OC_PATH_MAX, "%.*s%s%ld-%u-%.*s%s", folder, target, prefix, (long)getpid(),
                              atomic_fetch_add(&serial, 1), NAME_BYTES, target + folder, suffix);
        if (length < 0 || length >= OC_PATH_MAX) break;
        int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode ? (mode & 0777) | 0600 : 0666);
        if (fd < 0 && errno == EEXIST) continue; /* left by a crash, not long ago */
        if (fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(errno));
        close(fd);
        return OC_OK;
    }
    return OC_FAIL(OC_ELIMIT, "%.64s…: found no name for a temporary file beside it", target);
}

oc_status oc_file_replace(const char *temporary, const char *target)
{
    char folder[OC_PATH_MAX];
    struct stat old, new;
    bool there = stat(target, &old) == 0 && stat(temporary, &new) == 0; /* a replaced file keeps its mode */
    if (there && old.st_mode != new.st_mode && chmod(temporary, old.st_mode & 07777) != 0)
        return OC_FAIL(OC_EFAILED, "%s: cannot keep its mode: %s", target, strerror(errno));
    if (rename(temporary, target) != 0)
        return OC_FAIL(OC_EFAILED, "%s: cannot write: %s; the old file, if any, is untouched", target,
                       strerror(errno));
    folder_of(target, folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int failed = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    if (failed && failed != EINVAL && failed != EACCES) /* some file systems cannot, some folders are write-only */
        return OC_FAIL(OC_EFAILED, "%s: cannot sync its folder: %s", target, strerror(failed));
    return OC_OK;
}
