/* h5_predictions.c - a table of columns into one small HDF5 file; every call checked, one exit. No time is stored: the
 * same predictions are the same bytes, so that their hash names them. */
#include "datasets/h5_predictions.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

static oc_status failed(const char *path, const char *what)
{
    return OC_FAIL(OC_EFAILED, "%s: HDF5 could not write %s (is the disk full?)", path, what);
}

/* A creation list of a class, without times; negative where it fails. */
static hid_t timeless(hid_t class)
{
    hid_t list = H5Pcreate(class);
    if (list >= 0 && H5Pset_obj_track_times(list, 0) >= 0) return list;
    if (list >= 0) H5Pclose(list);
    return -1;
}

static oc_status column(hid_t file, const char *path, const char *name, hid_t type, const void *data, int rank,
                        const hsize_t *dims)
{
    hid_t space = H5Screate_simple(rank, dims, NULL), creation = timeless(H5P_DATASET_CREATE), set = -1;
    if (space >= 0 && creation >= 0) set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    bool empty = dims[0] == 0;
    bool good = set >= 0 && (empty || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    if (set >= 0 && H5Dclose(set) < 0) good = false;
    if (creation >= 0) H5Pclose(creation);
    if (space >= 0) H5Sclose(space);
    return good ? OC_OK : failed(path, name);
}

static oc_status attribute(hid_t file, const char *path, const char *name, hid_t type, const void *data)
{
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t set = space < 0 ? -1 : H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool good = set >= 0 && H5Awrite(set, type, data) >= 0;
    if (set >= 0 && H5Aclose(set) < 0) good = false;
    if (space >= 0) H5Sclose(space);
    return good ? OC_OK : failed(path, name);
}

static oc_status text_attribute(hid_t file, const char *path, const char *name, const char *text)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    oc_status status = type >= 0 && H5Tset_size(type, strlen(text) + 1) >= 0 ? attribute(file, path, name, type, text)
                                                                             : failed(path, name);
    if (type >= 0) H5Tclose(type);
    return status;
}

static oc_status symbols_write(hid_t file, const char *path, const oc_prediction_table *t)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    const hsize_t dims[1] = {t->symbol_count};
    oc_status status = type >= 0 && H5Tset_size(type, OC_SYMBOL_BYTES) >= 0
                           ? column(file, path, "symbols", type, t->symbols, 1, dims)
                           : failed(path, "symbols");
    if (type >= 0) H5Tclose(type);
    return status;
}

static oc_status attributes_write(hid_t file, const char *path, const oc_prediction_table *t)
{
    const int version = 1;
    char hash[OC_HASH_TEXT];
    OC_TRY(text_attribute(file, path, "format", "outcry-predictions"));
    OC_TRY(attribute(file, path, "version", H5T_NATIVE_INT, &version));
    OC_TRY(text_attribute(file, path, "bundle", oc_hash_text(t->bundle, hash)));
    OC_TRY(text_attribute(file, path, "dataset", oc_hash_text(t->dataset, hash)));
    OC_TRY(text_attribute(file, path, "split", t->split));
    return text_attribute(file, path, "labels", t->labels);
}

static oc_status seen_write(hid_t file, const char *path, const oc_prediction_table *t)
{
    const hsize_t dims[1] = {t->seen_count};
    hid_t creation = timeless(H5P_GROUP_CREATE), group = -1;
    if (creation >= 0) group = H5Gcreate2(file, "seen", H5P_DEFAULT, creation, H5P_DEFAULT);
    if (creation >= 0) H5Pclose(creation);
    if (group < 0 || H5Gclose(group) < 0) return failed(path, "seen");
    OC_TRY(column(file, path, "seen/symbol", H5T_NATIVE_UINT16, t->seen_symbol, 1, dims));
    OC_TRY(column(file, path, "seen/first_ns", H5T_NATIVE_INT64, t->seen_first_ns, 1, dims));
    return column(file, path, "seen/last_ns", H5T_NATIVE_INT64, t->seen_last_ns, 1, dims);
}

static oc_status all_write(hid_t file, const char *path, const oc_prediction_table *t)
{
    const hsize_t dims[3] = {t->count, t->horizons, 3};
    OC_TRY(attributes_write(file, path, t));
    OC_TRY(symbols_write(file, path, t));
    OC_TRY(column(file, path, "symbol", H5T_NATIVE_UINT16, t->symbol, 1, dims));
    OC_TRY(column(file, path, "row", H5T_NATIVE_INT64, t->row, 1, dims));
    OC_TRY(column(file, path, "time_ns", H5T_NATIVE_INT64, t->time_ns, 1, dims));
    OC_TRY(column(file, path, "probabilities", H5T_NATIVE_FLOAT, t->probabilities, 3, dims));
    OC_TRY(column(file, path, "class", H5T_NATIVE_INT8, t->truth, 2, dims));
    return seen_write(file, path, t);
}

static oc_status sync_file(const char *temporary, const char *path)
{
    int fd = open(temporary, O_RDONLY | O_CLOEXEC);
    int reason = fd < 0 || fsync(fd) != 0 ? errno : 0;
    if (fd >= 0) close(fd);
    return reason ? OC_FAIL(OC_EFAILED, "%s: cannot write: %s", path, strerror(reason)) : OC_OK;
}

oc_status oc_prediction_table_save(const oc_prediction_table *t, const char *path)
{
    char target[OC_PATH_MAX], temporary[OC_PATH_MAX];
    OC_TRY(oc_path_make_parent(path));
    OC_TRY(oc_file_beside(path, target, temporary));
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = timeless(H5P_FILE_CREATE);
    if (creation < 0 || access < 0 || H5Pset_libver_bounds(access, H5F_LIBVER_EARLIEST, H5F_LIBVER_V110) < 0)
        return failed(path, "its properties");
    hid_t file = H5Fcreate(temporary, H5F_ACC_TRUNC, creation, access);
    H5Pclose(access);
    H5Pclose(creation);
    oc_status status = file < 0 ? failed(path, "the file") : all_write(file, path, t);
    if (file >= 0 && H5Fclose(file) < 0 && status == OC_OK) status = failed(path, "the file");
    if (status == OC_OK) status = sync_file(temporary, path);
    if (status == OC_OK) status = oc_file_replace(temporary, target);
    if (status != OC_OK) (void)unlink(temporary);
    return status;
}
