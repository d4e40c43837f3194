/* h5_common.c - HDF5 as this project uses it: deterministic files (no times), and reads that trust nothing. A file
 * whose hashes are right may still be hostile (a hash is not a signature): soft and external links, external and
 * virtual storage, filters, variable lengths and unexpected shapes are refused before any data is read [HDF5Guide]. */
#include "datasets/h5_inside.h"

#include <hdf5.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

const h5_column_type h5_columns[H5_COLUMNS] = {
    [H5_X] = {"x", 4, true}, [H5_TIME] = {"time_ns", 8, false}, [H5_RUN] = {"run_length", 4, false},
    [H5_MASK] = {"mask", 8, true}, [H5_MID] = {"mid", 8, false}, [H5_SPREAD] = {"spread", 8, false},
};
const h5_column_type h5_label_columns[H5_LABEL_COLUMNS] = {
    [H5_CLASS] = {"class", 1, false}, [H5_VALID] = {"valid", 1, false}, [H5_KNOWN] = {"known_ns", 8, false},
    [H5_RETURN] = {"return", 4, false},
};

hid_t h5_column_file_type(int column, bool label)
{
    const hid_t rows[H5_COLUMNS] = {H5T_IEEE_F32LE, H5T_STD_I64LE,  H5T_STD_U32LE,
                                    H5T_STD_U64LE,  H5T_IEEE_F64LE, H5T_IEEE_F64LE};
    const hid_t labels[H5_LABEL_COLUMNS] = {H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I64LE, H5T_IEEE_F32LE};
    return label ? labels[column] : rows[column];
}

size_t h5_column_width(int column, size_t width)
{
    return column == H5_X ? width : column == H5_MASK ? (width + 63) / 64 : 1;
}

enum { REASON_BYTES = 200 };

static herr_t innermost(unsigned n, const H5E_error2_t *error, void *data)
{
    char *text = data;
    if (n == 0 && error->desc) {
        snprintf(text, REASON_BYTES, "%s", error->desc);
    }
    return 0;
}

oc_status h5_fail(oc_status code, const char *path, const char *what)
{
    char text[REASON_BYTES] = "no reason given";
    int reason = errno;
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, innermost, text);
    (void)H5Eclear2(H5E_DEFAULT);
    if (code == OC_EFAILED && reason)
        return OC_FAIL(code, "%s: cannot write %s: %s (HDF5: %s)", path, what, strerror(reason), text);
    return OC_FAIL(code, "%s: %s: HDF5 says: %s", path, what, text);
}

void h5_quiet(void)
{
    (void)H5dont_atexit(); /* first: a file whose close failed (disk full) crashes HDF5's own at exit */
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    (void)H5PLset_loading_state(0);
}

static oc_status access_new(hid_t *out)
{
    *out = H5Pcreate(H5P_FILE_ACCESS);
    if (*out < 0 || H5Pset_libver_bounds(*out, H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
        H5Pset_alignment(*out, 1, H5_ALIGNMENT) < 0 ||
        H5Pset_fclose_degree(*out, H5F_CLOSE_STRONG) < 0)
        return h5_fail(OC_EFAILED, "hdf5", "file access properties");
    return OC_OK;
}

oc_status h5_file_new(hid_t *out, const char *temporary, const char *path)
{
    hid_t access, creation = H5Pcreate(H5P_FILE_CREATE);
    OC_TRY(access_new(&access));
    errno = 0;
    if (creation < 0 || H5Pset_obj_track_times(creation, 0) < 0) return h5_fail(OC_EFAILED, path, "file properties");
    *out = H5Fcreate(temporary, H5F_ACC_TRUNC, creation, access);
    H5Pclose(creation);
    H5Pclose(access);
    return *out < 0 ? h5_fail(OC_EFAILED, path, "the file") : OC_OK;
}

oc_status h5_file_open(hid_t *out, const char *path)
{
    hid_t access;
    OC_TRY(access_new(&access));
    *out = H5Fopen(path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    return *out < 0 ? h5_fail(OC_EDATA, path, "is no readable HDF5 file") : OC_OK;
}

oc_status h5_group_new(hid_t *out, hid_t parent, const char *name, const char *path)
{
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    errno = 0;
    if (creation < 0 || H5Pset_obj_track_times(creation, 0) < 0) return h5_fail(OC_EFAILED, path, name);
    *out = H5Gcreate2(parent, name, H5P_DEFAULT, creation, H5P_DEFAULT);
    H5Pclose(creation);
    return *out < 0 ? h5_fail(OC_EFAILED, path, name) : OC_OK;
}

oc_status h5_string_type(hid_t *out, size_t bytes)
{
    *out = H5Tcopy(H5T_C_S1);
    if (*out < 0 || H5Tset_size(*out, bytes ? bytes : 1) < 0 || H5Tset_strpad(*out, H5T_STR_NULLPAD) < 0 ||
        H5Tset_cset(*out, H5T_CSET_UTF8) < 0)
        return h5_fail(OC_EFAILED, "hdf5", "a string type");
    return OC_OK;
}

static oc_status attribute_write(hid_t parent, const char *name, hid_t type, const void *value, const char *path)
{
    hid_t space = H5Screate(H5S_SCALAR);
    errno = 0;
    hid_t a = space < 0 ? -1 : H5Acreate2(parent, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    herr_t written = a < 0 ? -1 : H5Awrite(a, type, value);
    if (a >= 0) H5Aclose(a);
    if (space >= 0) H5Sclose(space);
    return written < 0 ? h5_fail(OC_EFAILED, path, name) : OC_OK;
}

oc_status h5_text_write(hid_t parent, const char *name, const char *text, const char *path)
{
    hid_t type;
    OC_TRY(h5_string_type(&type, strlen(text)));
    oc_status status = attribute_write(parent, name, type, text, path);
    H5Tclose(type);
    return status;
}

oc_status h5_int_write(hid_t parent, const char *name, int64_t value, const char *path)
{
    return attribute_write(parent, name, H5T_STD_I64LE, &value, path);
}

oc_status h5_small_write(hid_t parent, const char *name, hid_t type, size_t rows, const void *data, const char *path)
{
    hsize_t dims[1] = {rows};
    hid_t space = rows ? H5Screate_simple(1, dims, NULL) : H5Screate(H5S_SCALAR),
          creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t d = -1;
    errno = 0;
    if (space >= 0 && creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0 &&
        H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 && H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY) >= 0)
        d = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    herr_t written = d < 0 ? -1 : H5Dwrite(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (d >= 0 && H5Dclose(d) < 0) written = -1;
    H5Sclose(space);
    H5Pclose(creation);
    return written < 0 ? h5_fail(OC_EFAILED, path, name) : OC_OK;
}

/* ---- guarded reads ------------------------------------------------------------------------------------------------
 */

static oc_status link_hard(hid_t parent, const char *name, const char *path)
{
    H5L_info_t info;
    if (H5Lexists(parent, name, H5P_DEFAULT) <= 0) return OC_FAIL(OC_EDATA, "%s: %s is missing", path, name);
    if (H5Lget_info(parent, name, &info, H5P_DEFAULT) < 0) return h5_fail(OC_EDATA, path, name);
    if (info.type != H5L_TYPE_HARD) return OC_FAIL(OC_EDATA, "%s: %s is a link to elsewhere: refused", path, name);
    return OC_OK;
}

oc_status h5_group_read(hid_t *out, hid_t parent, const char *name, const char *path)
{
    OC_TRY(link_hard(parent, name, path));
    *out = H5Gopen2(parent, name, H5P_DEFAULT);
    return *out < 0 ? h5_fail(OC_EDATA, path, name) : OC_OK;
}

oc_status h5_link_count(hid_t group, size_t *count, const char *path)
{
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0) return h5_fail(OC_EDATA, path, "a group");
    *count = (size_t)info.nlinks;
    return OC_OK;
}

oc_status h5_link_name(hid_t group, size_t index, char *name, size_t cap, const char *path)
{
    ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, (hsize_t)index, name, cap, H5P_DEFAULT);
    if (length < 1 || (size_t)length >= cap)
        return OC_FAIL(OC_EDATA, "%s: a link's name is empty or over %zu bytes", path, cap - 1);
    return link_hard(group, name, path);
}

oc_status h5_dataset_open(hid_t *out, hid_t parent, const char *name, const char *path)
{
    *out = -1;
    OC_TRY(link_hard(parent, name, path));
    *out = H5Dopen2(parent, name, H5P_DEFAULT);
    if (*out < 0) return h5_fail(OC_EDATA, path, name);
    hid_t creation = H5Dget_create_plist(*out);
    H5D_layout_t layout = creation < 0 ? H5D_LAYOUT_ERROR : H5Pget_layout(creation);
    bool good = (layout == H5D_CONTIGUOUS || layout == H5D_CHUNKED) && H5Pget_external_count(creation) == 0 &&
                H5Pget_nfilters(creation) == 0;
    if (creation >= 0) H5Pclose(creation);
    if (good) return OC_OK;
    H5Dclose(*out);
    *out = -1;
    return OC_FAIL(OC_EDATA, "%s: %s has external or virtual storage or a filter: refused", path, name);
}

static bool shape_is(hid_t space, size_t rows)
{
    if (rows == 0) return H5Sget_simple_extent_type(space) == H5S_SCALAR;
    hsize_t dims[1] = {0};
    return H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_dims(space, dims, NULL) == 1 &&
           dims[0] == rows;
}

static bool type_is(hid_t dataset_type, hid_t type)
{
    return dataset_type >= 0 && H5Tequal(dataset_type, type) > 0;
}

oc_status h5_small_read(hid_t parent, const char *name, hid_t type, size_t rows, void *data, size_t bytes,
                        const char *path)
{
    hid_t d = -1;
    assert(bytes == (rows ? rows : 1) * H5Tget_size(type));
    (void)bytes;
    OC_TRY(h5_dataset_open(&d, parent, name, path));
    hid_t space = H5Dget_space(d), have = H5Dget_type(d);
    bool good = space >= 0 && shape_is(space, rows) && type_is(have, type);
    herr_t done = good ? H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) : 0;
    if (space >= 0) H5Sclose(space);
    if (have >= 0) H5Tclose(have);
    H5Dclose(d);
    if (!good) return OC_FAIL(OC_EDATA, "%s: %s has not the type and shape of this format", path, name);
    return done < 0 ? h5_fail(OC_EDATA, path, name) : OC_OK;
}

/* The fixed length of a string type; 0 where it is none. */
static size_t string_bytes(hid_t type)
{
    if (type < 0 || H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0) return 0;
    return H5Tget_size(type);
}

oc_status h5_strings_read(hid_t parent, const char *name, size_t rows, void *data, size_t stride, const char *path)
{
    hid_t d = -1;
    OC_TRY(h5_dataset_open(&d, parent, name, path));
    hid_t space = H5Dget_space(d), type = H5Dget_type(d);
    size_t bytes = string_bytes(type);
    bool good = space >= 0 && shape_is(space, rows) && bytes > 0 && bytes < stride;
    char *raw = NULL;
    oc_status status = OC_OK;
    if (!good) status = OC_FAIL(OC_EDATA, "%s: %s is not text of this format", path, name);
    else status = oc_memory_new_array(&raw, rows ? rows : 1, bytes, "text of a dataset");
    if (status == OC_OK && H5Dread(d, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, raw) < 0)
        status = h5_fail(OC_EDATA, path, name);
    for (size_t i = 0; status == OC_OK && i < (rows ? rows : 1); i++) {
        memcpy((char *)data + i * stride, raw + i * bytes, bytes);
        ((char *)data)[i * stride + bytes] = '\0';
    }
    oc_memory_free(raw);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    H5Dclose(d);
    return status;
}

static oc_status attribute_read(hid_t parent, const char *name, hid_t wanted, void *value, size_t cap, const char *path)
{
    hid_t a = H5Aexists(parent, name) > 0 ? H5Aopen(parent, name, H5P_DEFAULT) : -1;
    if (a < 0) return OC_FAIL(OC_EDATA, "%s: attribute %s is missing", path, name);
    hid_t type = H5Aget_type(a), space = H5Aget_space(a);
    size_t bytes = wanted >= 0 ? (type_is(type, wanted) ? H5Tget_size(wanted) : 0) : string_bytes(type);
    bool good = space >= 0 && shape_is(space, 0) && bytes > 0 && bytes <= cap;
    herr_t done = good ? H5Aread(a, type, value) : 0;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    H5Aclose(a);
    if (!good) return OC_FAIL(OC_EDATA, "%s: attribute %s has not the type of this format", path, name);
    return done < 0 ? h5_fail(OC_EDATA, path, name) : OC_OK;
}

oc_status h5_text_read(hid_t parent, const char *name, char *text, size_t cap, const char *path)
{
    memset(text, 0, cap);
    return attribute_read(parent, name, -1, text, cap - 1, path);
}

oc_status h5_int_read(hid_t parent, const char *name, int64_t min, int64_t max, int64_t *out, const char *path)
{
    OC_TRY(attribute_read(parent, name, H5T_STD_I64LE, out, sizeof *out, path));
    if (*out < min || *out > max)
        return OC_FAIL(OC_EDATA, "%s: attribute %s is %lld, not from %lld to %lld", path, name, (long long)*out,
                       (long long)min, (long long)max);
    return OC_OK;
}
