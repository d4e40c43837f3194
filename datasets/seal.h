/* seal.h - what stands behind the last byte of an HDF5 file of ours, so that any damage to any byte is found before
 * libhdf5 parses it, and so that the columns are read with one pass over the file (docs/formats.md has the bytes):
 *
 *   HDF5 file | hash of each 4 MiB block of it | rows of each symbol | extents | footer
 *
 * HDF5 ignores bytes behind its own end of file, so h5py reads the file as it is. The root hash is that of the tables;
 * it also stands in the HDF5 file as the dataset /root_hash, whose 32 bytes count as zero in their block's hash. */
#ifndef OC_DATASETS_SEAL_H
#define OC_DATASETS_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"

enum { OC_SEAL_BLOCK_BYTES = 4 << 20, OC_SEAL_ROOT_BYTES = 32 };

/* One run of bytes of the file that is a run of rows of a column. */
typedef struct oc_extent {
    uint64_t offset, bytes;
    uint64_t first_row;                        /* within the symbol */
    uint32_t symbol, column;
} oc_extent;

typedef struct oc_seal {
    uint64_t h5_bytes, block_count, extent_count, root_offset;
    uint32_t symbol_count, width, label_count;
    oc_hash root;
    unsigned char *tables;                     /* owned */
    const oc_hash *blocks;                     /* in tables, as all that follow */
    const uint64_t *symbol_rows;
    const oc_extent *extents;                  /* sorted by offset, not overlapping, inside the HDF5 part: checked */
} oc_seal;

/* Hashes the HDF5 file at `path` (h5_bytes, block_count, root are filled in; extents and symbol rows given), writes the
 * root hash at root_offset, appends tables and footer, and syncs the file. */
OC_MUST oc_seal_write(const char *path, const char *name, oc_seal *seal, const uint64_t *symbol_rows,
                      oc_extent *extents);

/* Reads and checks footer and tables. OC_EDATA where the file is cut short, damaged there, or is none of ours. */
OC_MUST oc_seal_read(oc_seal *out, int fd, const char *path);
void oc_seal_free(oc_seal *seal);

/* Reads the whole HDF5 part once, hashes it, and puts every extent's bytes where `place` says (NULL: hashed only);
 * `check` (may be NULL) then sees each piece while it is in the cache. threads workers share the blocks. OC_EDATA names
 * the first damaged block. */
typedef struct oc_seal_sink {
    void *context;
    void *(*place)(void *context, const oc_extent *extent);            /* address of the extent's first byte */
    bool (*check)(void *context, const oc_extent *extent, const void *data, size_t bytes);   /* false: bad content */
} oc_seal_sink;
OC_MUST oc_seal_load(const oc_seal *seal, int fd, const char *path, const oc_seal_sink *sink, int threads,
                     bool *content_good);

#endif
