/* file.h - whole files in and out. A file that is replaced is written beside itself, synced, renamed, and its folder
 * synced: after a crash or a full disk the old content is intact. Errors name the path and the system's reason. */
#ifndef OC_BASE_FILE_H
#define OC_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

#define OC_PATH_MAX 4096

bool oc_path_exists(const char *path);
bool oc_path_is_folder(const char *path);
OC_MUST oc_path_join(char *out, size_t cap, const char *folder, const char *name);
OC_MUST oc_path_make_folders(const char *path);                       /* like mkdir -p */
OC_MUST oc_path_make_parent(const char *path);

/* Reads a file of at most bytes_max; *data is NUL-terminated beyond *bytes; release with oc_memory_free. */
OC_MUST oc_file_read(const char *path, size_t bytes_max, char **data, size_t *bytes);
OC_MUST oc_file_write(const char *path, const void *data, size_t bytes);      /* atomic replace, as above */

/* Read-only mapping; data stays valid until close. An empty file maps to data = NULL, bytes = 0. */
typedef struct oc_file_map {
    const unsigned char *data;
    size_t bytes;
} oc_file_map;
OC_MUST oc_file_map_open(oc_file_map *map, const char *path);
void oc_file_map_close(oc_file_map *map);

/* Lets this process have `wanted` descriptors open at once, by its soft limit (usually 1024). OC_ELIMIT: its hard limit
 * is lower; the message begins with `who`, several of something. */
OC_MUST oc_file_allow_open(size_t wanted, const char *who);

/* A large file written in pieces beside `path`, which appears only at commit. A failed or aborted writer leaves the
 * old file alone and no rubbish behind. */
typedef struct oc_file_writer oc_file_writer;
OC_MUST oc_file_writer_open(oc_file_writer **out, const char *path);
OC_MUST oc_file_writer_add(oc_file_writer *w, const void *data, size_t bytes);        /* buffered */
OC_MUST oc_file_writer_patch(oc_file_writer *w, uint64_t offset, const void *data,
                             size_t bytes); /* already written bytes */
uint64_t oc_file_writer_bytes(const oc_file_writer *w);
OC_MUST oc_file_writer_prepare(oc_file_writer *w); /* all of commit that can fail but the rename: files of a set */
OC_MUST oc_file_writer_commit(oc_file_writer *w);                     /* closes w, also on failure */
void oc_file_writer_abort(oc_file_writer *w);                         /* closes w; NULL is fine */

/* The same for a library that writes a file by its name: an empty temporary file beside the file that `path` means
 * (behind links), to be synced by the caller, then renamed over it, or unlinked. Removes what killed processes left
 * beside it. */
OC_MUST oc_file_beside(const char *path, char target[OC_PATH_MAX], char temporary[OC_PATH_MAX]);
OC_MUST oc_file_replace(const char *temporary, const char *target);   /* keeps the target's mode; syncs the folder */

#endif
