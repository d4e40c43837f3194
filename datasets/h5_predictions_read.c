/* h5_predictions_read.c - predictions.h5 into memory, from us or made elsewhere; nothing in it is believed. Columns are
 * read in pieces, checked value by value, and put symbol by symbol, so that a reader walks forward in time. */
#include <hdf5.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "datasets/h5_inside.h"
#include "datasets/h5_predictions.h"

enum { PIECE_ROWS = 1 << 16, NAME_STRIDE = 64 };
static const uint64_t rows_max = UINT64_C(1) << 32;

typedef struct reading {
    const char *path;
    hid_t file;
    oc_prediction_file *f;
    size_t keep;       /* the horizon that is kept */
    uint16_t *symbol;  /* [count] in the file's order */
    int64_t *row;      /* [count] as well; NULL: the file has none */
    uint64_t *next;    /* [symbols] where the symbol's next row goes */
    int64_t *last_row; /* [symbols] the row number before, -1: none yet */
    void *piece;
} reading;

/* ---- shapes ---- */

static bool type_is(hid_t set, hid_t wanted)
{
    hid_t have = H5Dget_type(set);
    bool same = have >= 0 && H5Tequal(have, wanted) > 0;
    if (have >= 0) H5Tclose(have);
    return same;
}

/* A dataset of exactly this type and rank, whose values are all in the file. */
static oc_status column_open(const reading *r, const char *name, hid_t type, int rank, hsize_t dims[3], hid_t *out)
{
    OC_TRY(h5_dataset_open(out, r->file, name, r->path));
    hid_t space = H5Dget_space(*out);
    hsize_t file_bytes = 0;
    bool good = space >= 0 && H5Fget_filesize(r->file, &file_bytes) >= 0 && H5Sget_simple_extent_ndims(space) == rank &&
                H5Sget_simple_extent_dims(space, dims, NULL) == rank && type_is(*out, type);
    uint64_t bytes = H5Tget_size(type);
    for (int i = 0; good && i < rank; i++)
        good = dims[i] <= rows_max && !__builtin_mul_overflow(bytes, dims[i], &bytes);
    good = good && H5Dget_storage_size(*out) >= bytes && bytes <= file_bytes;
    if (space >= 0) H5Sclose(space);
    if (good) return OC_OK;
    H5Dclose(*out);
    *out = -1;
    return OC_FAIL(OC_EDATA, "%s: %s has not the type and shape of this format, or is not all there", r->path, name);
}

/* Rows first … first + count of a column into `to`. */
static oc_status rows_read(const reading *r, hid_t set, const char *name, hid_t type, int rank, const hsize_t dims[3],
                           uint64_t first, size_t count, void *to)
{
    hsize_t start[3] = {first, 0, 0}, size[3] = {count, rank > 1 ? dims[1] : 1, rank > 2 ? dims[2] : 1};
    hid_t file_space = H5Dget_space(set), memory = H5Screate_simple(rank, size, NULL);
    bool done = file_space >= 0 && memory >= 0 &&
                H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start, NULL, size, NULL) >= 0 &&
                H5Dread(set, type, memory, file_space, H5P_DEFAULT, to) >= 0;
    if (file_space >= 0) H5Sclose(file_space);
    if (memory >= 0) H5Sclose(memory);
    return done ? OC_OK : h5_fail(OC_EDATA, r->path, name);
}

typedef oc_status (*rows_take)(reading *r, uint64_t first, size_t count);

static oc_status column_read(reading *r, const char *name, hid_t type, int rank, const hsize_t want[3], rows_take take)
{
    hsize_t dims[3] = {1, 1, 1};
    hid_t set;
    OC_TRY(column_open(r, name, type, rank, dims, &set));
    oc_status status = OC_OK;
    for (int i = 0; i < rank; i++) {
        if (dims[i] != want[i])
            status = OC_FAIL(OC_EDATA, "%s: %s has %llu along axis %d, the format wants %llu", r->path, name,
                             (unsigned long long)dims[i], i, (unsigned long long)want[i]);
    }
    for (uint64_t at = 0; take && status == OC_OK && at < dims[0]; at += PIECE_ROWS) {
        size_t count = dims[0] - at < PIECE_ROWS ? (size_t)(dims[0] - at) : PIECE_ROWS;
        status = rows_read(r, set, name, type, rank, dims, at, count, r->piece);
        if (status == OC_OK) status = take(r, at, count);
    }
    H5Dclose(set);
    return status;
}

/* ---- rows ---- */

static const char *name_of(const reading *r, uint64_t row)
{
    return r->f->symbols[r->symbol[row]].name;
}

static oc_status symbol_take(reading *r, uint64_t first, size_t count)
{
    const uint16_t *piece = r->piece;
    for (size_t i = 0; i < count; i++) {
        if (piece[i] >= r->f->symbol_count)
            return OC_FAIL(OC_EDATA, "%s: row %" PRIu64 ": symbol %u, there are %zu", r->path, first + i, piece[i],
                           r->f->symbol_count);
        r->symbol[first + i] = piece[i];
        r->f->symbols[piece[i]].count++;
    }
    return OC_OK;
}

static void places_reset(reading *r)
{
    for (uint64_t s = 0, at = 0; s < r->f->symbol_count; at += r->f->symbols[s++].count)
        r->next[s] = r->f->symbols[s].first = at;
}

static oc_status row_take(reading *r, uint64_t first, size_t count)
{
    memcpy(r->row + first, r->piece, count * sizeof *r->row);
    return OC_OK;
}

/* What is wrong with a row of this time behind one of `before`; NULL: nothing. Two rows of one moment (packets that
 * came together) are told apart by their numbers. */
static const char *order_problem(reading *r, uint64_t row, int64_t time_ns, int64_t before)
{
    int64_t *last = &r->last_row[r->symbol[row]], was = *last;
    bool numbered = r->row != NULL;
    if (numbered) *last = r->row[row];
    if (time_ns <= 0) return "is not above 0";
    if (time_ns < before) return "is earlier than that of the row before it: out of order";
    if (numbered && r->row[row] <= was) return "comes with a row number that does not rise: repeated or out of order";
    return time_ns == before && !numbered ? "is that of the row before it: repeated" : NULL;
}

static oc_status time_take(reading *r, uint64_t first, size_t count)
{
    const int64_t *piece = r->piece;
    for (size_t i = 0; i < count; i++) {
        uint16_t s = r->symbol[first + i];
        uint64_t at = r->next[s]++;
        int64_t before = at > r->f->symbols[s].first ? r->f->time_ns[at - 1] : 0;
        const char *problem = order_problem(r, first + i, piece[i], before);
        if (problem)
            return OC_FAIL(OC_EDATA, "%s: row %" PRIu64 " (%s): time_ns %lld %s", r->path, first + i,
                           name_of(r, first + i), (long long)piece[i], problem);
        r->f->time_ns[at] = piece[i];
    }
    return OC_OK;
}

/* As the engine wants them (trade/policy.h): each in [0, 1], together 1 within 1e-5. */
static bool answer_sane(const float *p)
{
    double sum = (double)p[0] + (double)p[1] + (double)p[2];
    for (int k = 0; k < 3; k++) {
        if (!(p[k] >= 0 && p[k] <= 1)) return false;
    }
    return fabs(sum - 1) <= 1e-5;
}

static oc_status probabilities_take(reading *r, uint64_t first, size_t count)
{
    const float *piece = r->piece;
    for (size_t i = 0; i < count; i++) {
        for (size_t h = 0; h < r->f->horizons; h++) {
            const float *p = piece + (i * r->f->horizons + h) * 3;
            if (!answer_sane(p))
                return OC_FAIL(OC_EDATA, "%s: row %" PRIu64 " (%s), label %zu: %g, %g, %g are no probabilities",
                               r->path, first + i, name_of(r, first + i), h, (double)p[0], (double)p[1], (double)p[2]);
            if (h == r->keep) memcpy(r->f->probabilities + 3 * r->next[r->symbol[first + i]]++, p, 3 * sizeof *p);
        }
    }
    return OC_OK;
}

/* ---- head ---- */

static oc_status hash_attribute(const reading *r, const char *name, oc_hash *out)
{
    char text[64];
    OC_TRY(h5_text_read(r->file, name, text, sizeof text, r->path));
    if (oc_hash_parse(text, out)) return OC_OK;
    return OC_FAIL(OC_EDATA, "%s: attribute %s is no hash of 32 hexadecimal digits", r->path, name);
}

static oc_status version_check(const reading *r)
{
    int64_t version = 0;
    hid_t a = H5Aexists(r->file, "version") > 0 ? H5Aopen(r->file, "version", H5P_DEFAULT) : -1;
    hid_t type = a < 0 ? -1 : H5Aget_type(a), space = a < 0 ? -1 : H5Aget_space(a);
    bool good = type >= 0 && H5Tget_class(type) == H5T_INTEGER && space >= 0 &&
                H5Sget_simple_extent_type(space) == H5S_SCALAR && H5Aread(a, H5T_NATIVE_INT64, &version) >= 0;
    if (type >= 0) H5Tclose(type);
    if (space >= 0) H5Sclose(space);
    if (a >= 0) H5Aclose(a);
    if (good && version == 1) return OC_OK;
    return good ? OC_FAIL(OC_EDATA, "%s: version %lld, this program reads 1", r->path, (long long)version)
                : OC_FAIL(OC_EDATA, "%s: attribute version is missing or no number", r->path);
}

static oc_status head_read(const reading *r)
{
    char format[32];
    OC_TRY(h5_text_read(r->file, "format", format, sizeof format, r->path));
    if (strcmp(format, "outcry-predictions") != 0)
        return OC_FAIL(OC_EDATA, "%s: its format is %s, not outcry-predictions", r->path, format);
    OC_TRY(version_check(r));
    OC_TRY(hash_attribute(r, "bundle", &r->f->bundle));
    OC_TRY(hash_attribute(r, "dataset", &r->f->dataset));
    OC_TRY(h5_text_read(r->file, "split", r->f->split, sizeof r->f->split, r->path));
    return h5_text_read(r->file, "labels", r->f->labels, sizeof r->f->labels, r->path);
}

static oc_status sizes_read(const reading *r)
{
    hsize_t dims[3] = {0}, names[3] = {0};
    hid_t set, space;
    OC_TRY(column_open(r, "probabilities", H5T_IEEE_F32LE, 3, dims, &set));
    H5Dclose(set);
    if (!(dims[0] >= 1 && dims[0] < rows_max && dims[1] >= 1 && dims[1] <= OC_PREDICTION_HORIZONS_MAX && dims[2] == 3))
        return OC_FAIL(OC_EDATA, "%s: probabilities is [%llu,%llu,%llu], not [rows,1 to %d labels,3]", r->path,
                       (unsigned long long)dims[0], (unsigned long long)dims[1], (unsigned long long)dims[2],
                       OC_PREDICTION_HORIZONS_MAX);
    OC_TRY(h5_dataset_open(&set, r->file, "symbols", r->path));
    space = H5Dget_space(set);
    bool good = space >= 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, names, NULL) == 1 && names[0] >= 1 && names[0] <= UINT16_MAX;
    if (space >= 0) H5Sclose(space);
    H5Dclose(set);
    if (!good) return OC_FAIL(OC_EDATA, "%s: symbols is no list of 1 to 65,535 names", r->path);
    r->f->count = (size_t)dims[0];
    r->f->horizons = (size_t)dims[1];
    r->f->symbol_count = (size_t)names[0];
    return OC_OK;
}

static oc_status symbols_read(const reading *r)
{
    char(*text)[NAME_STRIDE] = NULL;
    size_t count = r->f->symbol_count;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&text, count, sizeof *text, "symbols"));
    OC_TRY_GOTO(status, done, h5_strings_read(r->file, "symbols", count, text, sizeof *text, r->path));
    for (size_t i = 0; i < count; i++) {
        size_t length = strnlen(text[i], sizeof *text);
        if (length == 0 || length >= OC_SYMBOL_BYTES)
            OC_TRY_GOTO(status, done, OC_FAIL(OC_EDATA, "%s: symbol %zu has %zu letters", r->path, i, length));
        memcpy(r->f->symbols[i].name, text[i], length + 1);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(r->f->symbols[k].name, text[i]) == 0)
                OC_TRY_GOTO(status, done, OC_FAIL(OC_EDATA, "%s: symbol %s stands twice", r->path, text[i]));
        }
    }
done:
    oc_memory_free(text);
    return status;
}

/* ---- what was seen ---- */

static oc_status seen_read(const reading *r)
{
    hsize_t dims[3] = {0};
    hid_t set;
    oc_prediction_file *f = r->f;
    if (H5Lexists(r->file, "seen", H5P_DEFAULT) <= 0) return OC_OK;
    hid_t group;
    OC_TRY(h5_group_read(&group, r->file, "seen", r->path));
    H5Gclose(group);
    OC_TRY(column_open(r, "seen/symbol", H5T_STD_U16LE, 1, dims, &set));
    H5Dclose(set);
    size_t n = (size_t)dims[0];
    uint16_t *symbol = NULL;
    int64_t *first = NULL, *last = NULL;
    oc_status status = OC_OK;
    if (n == 0) return OC_OK;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&f->seen, n, sizeof *f->seen, "seen"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&symbol, n, sizeof *symbol, "seen"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&first, n, sizeof *first, "seen"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&last, n, sizeof *last, "seen"));
    OC_TRY_GOTO(status, done, h5_small_read(r->file, "seen/symbol", H5T_STD_U16LE, n, symbol, n * 2, r->path));
    OC_TRY_GOTO(status, done, h5_small_read(r->file, "seen/first_ns", H5T_STD_I64LE, n, first, n * 8, r->path));
    OC_TRY_GOTO(status, done, h5_small_read(r->file, "seen/last_ns", H5T_STD_I64LE, n, last, n * 8, r->path));
    for (size_t i = 0; i < n; i++) {
        if (symbol[i] >= f->symbol_count || !(first[i] >= 0 && first[i] <= last[i]))
            OC_TRY_GOTO(status, done, OC_FAIL(OC_EDATA, "%s: seen row %zu is no interval of a symbol", r->path, i));
        memcpy(f->seen[i].symbol, f->symbols[symbol[i]].name, OC_SYMBOL_BYTES);
        f->seen[i].first_ns = first[i];
        f->seen[i].last_ns = last[i];
    }
    f->seen_count = n;
done:
    oc_memory_free(symbol);
    oc_memory_free(first);
    oc_memory_free(last);
    return status;
}

/* ---- the whole ---- */

static oc_status columns_read(reading *r)
{
    oc_prediction_file *f = r->f;
    const hsize_t n[3] = {f->count, f->horizons, 3};
    size_t widest =
        f->horizons * 3 * sizeof(float) > sizeof(int64_t) ? f->horizons * 3 * sizeof(float) : sizeof(int64_t);
    OC_TRY(oc_memory_new_array(&r->piece, PIECE_ROWS, widest, "a piece of predictions"));
    OC_TRY(oc_memory_new_array(&r->symbol, f->count, sizeof *r->symbol, "predictions"));
    OC_TRY(oc_memory_new_array(&r->next, f->symbol_count, sizeof *r->next, "predictions"));
    OC_TRY(oc_memory_new_array(&f->time_ns, f->count, sizeof *f->time_ns, "predictions"));
    OC_TRY(oc_memory_new_array(&f->probabilities, f->count, 3 * sizeof *f->probabilities, "predictions"));
    OC_TRY(oc_memory_new_array(&r->last_row, f->symbol_count, sizeof *r->last_row, "predictions"));
    for (size_t s = 0; s < f->symbol_count; s++) r->last_row[s] = -1;
    OC_TRY(column_read(r, "symbol", H5T_STD_U16LE, 1, n, symbol_take));
    if (H5Lexists(r->file, "row", H5P_DEFAULT) > 0) {
        OC_TRY(oc_memory_new_array(&r->row, f->count, sizeof *r->row, "predictions"));
        OC_TRY(column_read(r, "row", H5T_STD_I64LE, 1, n, row_take));
    }
    places_reset(r);
    OC_TRY(column_read(r, "time_ns", H5T_STD_I64LE, 1, n, time_take));
    places_reset(r);
    OC_TRY(column_read(r, "probabilities", H5T_IEEE_F32LE, 3, n, probabilities_take));
    if (H5Lexists(r->file, "class", H5P_DEFAULT) > 0) OC_TRY(column_read(r, "class", H5T_STD_I8LE, 2, n, NULL));
    return seen_read(r);
}

static oc_status all_read(reading *r)
{
    oc_prediction_file *f = r->f;
    OC_TRY(head_read(r));
    OC_TRY(sizes_read(r));
    if (r->keep >= f->horizons)
        return OC_FAIL(OC_ECONFIG, "%s has %zu labels, counted from 0; label %zu was asked for", r->path, f->horizons,
                       r->keep);
    OC_TRY(oc_memory_new_array(&f->symbols, f->symbol_count, sizeof *f->symbols, "symbols"));
    OC_TRY(symbols_read(r));
    return columns_read(r);
}

oc_status oc_prediction_file_open(oc_prediction_file **out, const char *path, size_t horizon)
{
    reading r = {.path = path, .keep = horizon};
    *out = NULL;
    h5_quiet();
    OC_TRY(oc_memory_new(&r.f, sizeof *r.f, "predictions"));
    oc_status status = oc_hash_file(path, &r.f->content);
    if (status == OC_OK) status = h5_file_open(&r.file, path);
    if (status == OC_OK) {
        status = all_read(&r);
        H5Fclose(r.file);
    }
    oc_memory_free(r.piece);
    oc_memory_free(r.symbol);
    oc_memory_free(r.next);
    oc_memory_free(r.row);
    oc_memory_free(r.last_row);
    if (status == OC_OK)
        *out = r.f;
    else
        oc_prediction_file_close(r.f);
    return status;
}

void oc_prediction_file_close(oc_prediction_file *f)
{
    if (!f) return;
    oc_memory_free(f->symbols);
    oc_memory_free(f->time_ns);
    oc_memory_free(f->probabilities);
    oc_memory_free(f->seen);
    oc_memory_free(f);
}
