/* h5_inside.h - shared by datasets/h5_*.c, the only files that see HDF5. What the format fixes: the columns, the file
 * properties (bounds v110, no times, hard links, no filters), and reads that accept exactly one type and shape. */
#ifndef OC_DATASETS_H5_INSIDE_H
#define OC_DATASETS_H5_INSIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef int64_t hid_t;                         /* as hdf5.h says since 1.10: so this header needs none of it */

enum { H5_X, H5_TIME, H5_RUN, H5_MASK, H5_MID, H5_SPREAD, H5_COLUMNS };
enum { H5_CLASS, H5_VALID, H5_KNOWN, H5_RETURN, H5_LABEL_COLUMNS };
enum { H5_LABELS_MAX = 8, H5_COLUMNS_MAX = H5_COLUMNS + H5_LABELS_MAX * H5_LABEL_COLUMNS, H5_DATASET_VERSION = 1,
       H5_ALIGNMENT = 64 };                    /* of every extent in the file: a piece of it never cuts a value */
#define H5_CHUNK_BYTES_MIN (UINT64_C(64) << 10)
#define H5_CHUNK_BYTES_MAX (UINT64_C(4) << 20)

typedef struct h5_column_type {
    const char *name;
    size_t element_bytes;
    bool wide;                                 /* two dimensions: x, mask */
} h5_column_type;
extern const h5_column_type h5_columns[H5_COLUMNS], h5_label_columns[H5_LABEL_COLUMNS];

hid_t h5_column_file_type(int column, bool label);           /* predefined: never closed */
size_t h5_column_width(int column, size_t width);            /* elements in a row of one of h5_columns */

/* A failure of the library: its own words about the innermost error, and errno where the system said something. */
oc_status h5_fail(oc_status code, const char *path, const char *what);
#define H5_TRY(path, what, expression)                                                                                 \
    do {                                                                                                               \
        if ((expression) < 0) return h5_fail(OC_EFAILED, (path), (what));                                              \
    } while (0)

void h5_quiet(void);                           /* no plug-ins, no error stack on stderr; call first */
OC_MUST h5_file_new(hid_t *out, const char *temporary, const char *path);
OC_MUST h5_file_open(hid_t *out, const char *path);
OC_MUST h5_group_new(hid_t *out, hid_t parent, const char *name, const char *path);

OC_MUST h5_text_write(hid_t parent, const char *name, const char *text, const char *path);           /* attribute */
OC_MUST h5_int_write(hid_t parent, const char *name, int64_t value, const char *path);               /* attribute */
/* A small contiguous dataset [rows] (rows 0: a scalar). Strings: type from h5_string_type. */
OC_MUST h5_small_write(hid_t parent, const char *name, hid_t type, size_t rows, const void *data, const char *path);
OC_MUST h5_string_type(hid_t *out, size_t bytes); /* fixed length, NUL-padded, UTF-8; close it */

/* Guarded reads: the link is hard, the type and shape exactly these, nothing lies in another file. OC_EDATA. */
OC_MUST h5_group_read(hid_t *out, hid_t parent, const char *name, const char *path);
OC_MUST h5_text_read(hid_t parent, const char *name, char *text, size_t cap, const char *path);
OC_MUST h5_int_read(hid_t parent, const char *name, int64_t min, int64_t max, int64_t *out, const char *path);
OC_MUST h5_small_read(hid_t parent, const char *name, hid_t type, size_t rows, void *data, size_t bytes,
                      const char *path);
OC_MUST h5_strings_read(hid_t parent, const char *name, size_t rows, void *data, size_t stride, const char *path);
OC_MUST h5_dataset_open(hid_t *out, hid_t parent, const char *name,
                        const char *path); /* hard link, no external or virtual storage, no filter */
/* Name of link `index` in rising order of names; every link is hard. */
OC_MUST h5_link_name(hid_t group, size_t index, char *name, size_t cap, const char *path);
OC_MUST h5_link_count(hid_t group, size_t *count, const char *path);

#endif
