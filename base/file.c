/* file.c - paths, whole reads and mappings. Writing with replacement is in file_writer.c. */
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

bool oc_path_exists(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0;
}

bool oc_path_is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

oc_status oc_path_join(char *out, size_t cap, const char *folder, const char *name)
{
    size_t used = strlen(folder);
    bool slash = used > 0 && folder[used - 1] != '/';
    int length = snprintf(out, cap, "%s%s%s", folder, slash ? "/" : "", name);
    if (length < 0 || (size_t)length >= cap)
        return OC_FAIL(OC_ELIMIT, "%.64s…/%.64s: a path over %zu bytes", folder, name, cap ? cap - 1 : 0);
    return OC_OK;
}

static oc_status folder_make(const char *path)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && oc_path_is_folder(path))) return OC_OK;
    int reason = errno;
    if (oc_path_is_folder(path)) return OC_OK;  /* "/" on a read-only file system says EROFS */
    return OC_FAIL(OC_EFAILED, "%s: cannot make the folder: %s", path, strerror(reason));
}

oc_status oc_path_make_folders(const char *path)
{
    char part[OC_PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof part) return OC_FAIL(OC_ELIMIT, "%.64s…: a path over %d bytes", path, OC_PATH_MAX - 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        if (path[i - 1] == '/') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        OC_TRY(folder_make(part));
    }
    return OC_OK;
}

oc_status oc_path_make_parent(const char *path)
{
    char folder[OC_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return OC_OK;
    size_t length = (size_t)(slash - path);
    if (length >= sizeof folder) return OC_FAIL(OC_ELIMIT, "%.64s…: a path over %d bytes", path, OC_PATH_MAX - 1);
    memcpy(folder, path, length);
    folder[length] = '\0';
    OC_TRY(oc_path_make_folders(folder));
    return OC_OK;
}

static oc_status file_open(const char *path, int *fd, struct stat *s)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) return OC_FAIL(OC_EFAILED, "%s: cannot open: %s", path, strerror(errno));
    int failed = fstat(*fd, s) != 0 ? errno : S_ISDIR(s->st_mode) ? EISDIR : 0;
    if (!failed) return OC_OK;
    close(*fd);
    return OC_FAIL(OC_EFAILED, "%s: cannot read: %s", path, strerror(failed));
}

/* Reads to the end of the file, whatever its size was said to be: pipes and /proc say 0. */
static oc_status read_all(int fd, const char *path, size_t bytes_max, char **data, size_t *bytes, size_t capacity)
{
    for (;;) {
        if (*bytes + 1 >= capacity) OC_TRY(oc_memory_grow(data, &capacity, *bytes + 2, 1, path));
        ssize_t got = read(fd, *data + *bytes, capacity - 1 - *bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return OC_FAIL(OC_EFAILED, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0) break;
        *bytes += (size_t)got;
        if (*bytes > bytes_max) return OC_FAIL(OC_ELIMIT, "%s: is over the limit of %zu bytes", path, bytes_max);
    }
    (*data)[*bytes] = '\0';
    return OC_OK;
}

oc_status oc_file_read(const char *path, size_t bytes_max, char **data, size_t *bytes)
{
    struct stat s;
    int fd;
    *data = NULL;
    *bytes = 0;
    OC_TRY(file_open(path, &fd, &s));
    oc_status status = OC_OK;
    if (S_ISREG(s.st_mode) && (uint64_t)s.st_size > bytes_max)
        status = OC_FAIL(OC_ELIMIT, "%s: %lld bytes are over the limit of %zu", path, (long long)s.st_size, bytes_max);
    size_t capacity = S_ISREG(s.st_mode) && s.st_size > 0 ? (size_t)s.st_size + 2 : 4096;
    if (status == OC_OK) status = oc_memory_new(data, capacity, path);
    if (status == OC_OK) status = read_all(fd, path, bytes_max, data, bytes, capacity);
    close(fd);
    if (status != OC_OK) {
        oc_memory_free(*data);
        *data = NULL;
        *bytes = 0;
    }
    return status;
}

oc_status oc_file_map_open(oc_file_map *map, const char *path)
{
    struct stat s;
    int fd;
    *map = (oc_file_map){0};
    OC_TRY(file_open(path, &fd, &s));
    if (!S_ISREG(s.st_mode)) {
        close(fd);
        return OC_FAIL(OC_EFAILED, "%s: is not a regular file", path);
    }
    void *data = s.st_size > 0 ? mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int reason = errno;
    close(fd);
    if (data == MAP_FAILED) return OC_FAIL(OC_EFAILED, "%s: cannot map: %s", path, strerror(reason));
    *map = (oc_file_map){data, (size_t)s.st_size};
    return OC_OK;
}

void oc_file_map_close(oc_file_map *map)
{
    if (map->data) munmap((void *)(uintptr_t)map->data, map->bytes);
    *map = (oc_file_map){0};
}

oc_status oc_file_allow_open(size_t wanted, const char *who)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return OC_OK;
    limit.rlim_cur = wanted;
    if (limit.rlim_max >= wanted && setrlimit(RLIMIT_NOFILE, &limit) == 0) return OC_OK;
    return OC_FAIL(OC_ELIMIT, "%s want %zu open files, %llu are allowed (ulimit -n)", who, wanted,
                   (unsigned long long)limit.rlim_max);
}
