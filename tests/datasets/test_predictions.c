/* predictions.h5 as it is read: what was written comes back symbol by symbol; whatever a hostile or careless maker puts
 * into it is refused by name and row. Files of wrong shapes are made with HDF5 itself. */
#include "base/cmocka_all.h"

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "datasets/h5_predictions.h"

enum { ROWS = 6, LABELS = 2 };
static const char path[] = "predictions_case.h5";

typedef struct columns {
    char names[2][OC_SYMBOL_BYTES];
    uint16_t symbol[ROWS], seen_symbol[2];
    int64_t row[ROWS], time_ns[ROWS], first_ns[2], last_ns[2];
    float p[ROWS * LABELS * 3];
    int8_t truth[ROWS * LABELS];
    size_t seen, count;
} columns;

/* Two symbols, interleaved in the file; the second label says another thing than the first. */
static columns good(void)
{
    columns c = {.names = {"AA", "BB"},
                 .symbol = {0, 1, 0, 1, 0, 0},
                 .seen_symbol = {0, 1},
                 .count = ROWS,
                 .seen = 2,
                 .row = {3, 7, 4, 8, 5, 6},
                 .time_ns = {10, 10, 20, 30, 40, 40},
                 .first_ns = {1, 2},
                 .last_ns = {5, 6}};
    for (int i = 0; i < ROWS; i++) {
        const float p[6] = {0.5f, 0.25f, 0.25f, 0.125f, 0.125f * (float)i, 0.875f - 0.125f * (float)i};
        memcpy(c.p + i * 6, p, sizeof p);
    }
    return c;
}

static void save(const columns *c)
{
    const oc_prediction_table t = {
        c->count,   LABELS,         2,        c->seen,    (const char(*)[OC_SYMBOL_BYTES])c->names,
        c->symbol,  c->seen_symbol, c->row,   c->time_ns, c->first_ns,
        c->last_ns, c->p,           c->truth, {1, 2},     {3, 4},
        "test",     "a\nb"};
    unlink(path);
    must(oc_prediction_table_save(&t, path));
}

static void comes_back(void **state)
{
    static const int64_t times[ROWS] = {10, 20, 40, 40, 10, 30};
    static const int from[ROWS] = {0, 2, 4, 5, 1, 3};
    oc_prediction_file *f;
    columns c = good();
    (void)state;
    save(&c);
    must(oc_prediction_file_open(&f, path, 1));
    assert_true(f->count == ROWS && f->horizons == 2 && f->symbol_count == 2 && f->seen_count == 2);
    assert_string_equal(f->symbols[1].name, "BB");
    assert_true(f->symbols[0].first == 0 && f->symbols[0].count == 4 && f->symbols[1].first == 4);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(f->time_ns[i], times[i]);
        assert_memory_equal(f->probabilities + 3 * i, c.p + from[i] * 6 + 3, 3 * sizeof(float));
    }
    assert_string_equal(f->seen[1].symbol, "BB");
    assert_true(f->seen[1].first_ns == 2 && f->seen[1].last_ns == 6);
    assert_true(f->bundle.low == 1 && f->dataset.high == 4);
    assert_string_equal(f->split, "test");
    oc_prediction_file_close(f);
    assert_int_equal(oc_prediction_file_open(&f, path, 2), OC_ECONFIG);
    c.seen = 0;
    save(&c);
    must(oc_prediction_file_open(&f, path, 0));
    assert_int_equal(f->seen_count, 0);
    assert_memory_equal(f->probabilities, c.p, 3 * sizeof(float));
    oc_prediction_file_close(f);
}

static void refused(const char *what, const char *says)
{
    oc_prediction_file *f;
    oc_status status = oc_prediction_file_open(&f, path, 0);
    if (status != OC_EDATA || !strstr(oc_status_message(), says))
        fail_msg("%s: status %d, \"%s\" does not say \"%s\"", what, status, oc_status_message(), says);
    assert_null(f);
}

/* ---- what a maker may write with the right shapes ---- */

static void is_nan(columns *c)
{
    c->p[2 * 6 + 4] = (float)NAN;
}
static void is_infinite(columns *c)
{
    c->p[2 * 6] = (float)INFINITY;
}
static void is_negative(columns *c)
{
    c->p[2 * 6] = -0.5f, c->p[2 * 6 + 1] = 1.25f;
}
static void is_over(columns *c)
{
    c->p[2 * 6] = 0.6f;
}
static void is_repeated(columns *c)
{
    c->row[2] = 3, c->time_ns[2] = 10;
}
static void is_earlier(columns *c)
{
    c->time_ns[2] = 9;
}
static void is_row_back(columns *c)
{
    c->row[2] = 2;
}
static void is_zero(columns *c)
{
    c->time_ns[0] = 0;
}
static void is_before_all(columns *c)
{
    c->time_ns[1] = INT64_MIN;
}
static void is_no_symbol(columns *c)
{
    c->symbol[2] = 2;
}
static void is_nameless(columns *c)
{
    c->names[1][0] = '\0';
}
static void is_twin(columns *c)
{
    memcpy(c->names[1], "AA", 3);
}
static void is_long_name(columns *c)
{
    memset(c->names[1], 'x', OC_SYMBOL_BYTES);
}
static void is_seen_backwards(columns *c)
{
    c->first_ns[1] = 7;
}
static void is_seen_nowhere(columns *c)
{
    c->seen_symbol[1] = 9;
}
static void is_empty(columns *c)
{
    c->count = 0;
}

static void bad_values(void **state)
{
    static const struct {
        void (*make)(columns *);
        const char *says;
    } cases[] = {{is_nan, "row 2 (AA), label 1"}, {is_infinite, "row 2 (AA), label 0"},
                 {is_negative, "row 2 (AA)"},     {is_over, "row 2 (AA)"},
                 {is_repeated, "row 2 (AA)"},     {is_earlier, "row 2 (AA)"},
                 {is_row_back, "row 2 (AA)"},     {is_zero, "row 0 (AA)"},
                 {is_before_all, "row 1 (BB)"},   {is_no_symbol, "row 2: symbol 2"},
                 {is_nameless, "symbol 1"},       {is_twin, "AA stands twice"},
                 {is_long_name, "symbol 1"},      {is_seen_backwards, "seen row 1"},
                 {is_seen_nowhere, "seen row 1"}, {is_empty, "probabilities"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        columns c = good();
        char what[32];
        snprintf(what, sizeof what, "case %zu", i);
        cases[i].make(&c);
        save(&c);
        refused(what, cases[i].says);
    }
}

/* ---- wrong shapes ---- */

static void put(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims, const void *data, hid_t create)
{
    (void)H5Ldelete(file, name, H5P_DEFAULT);
    hid_t space = H5Screate_simple(rank, dims, NULL);
    hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(set >= 0);
    if (data) assert_true(H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static const int64_t numbers[64];

static void shape_time_short(hid_t f)
{
    put(f, "time_ns", H5T_STD_I64LE, 1, (hsize_t[]){5}, numbers, H5P_DEFAULT);
}
static void shape_time_real(hid_t f)
{
    put(f, "time_ns", H5T_IEEE_F64LE, 1, (hsize_t[]){6}, numbers, H5P_DEFAULT);
}
static void shape_time_gone(hid_t f)
{
    assert_true(H5Ldelete(f, "time_ns", H5P_DEFAULT) >= 0);
}
static void shape_row_short(hid_t f)
{
    put(f, "row", H5T_STD_I64LE, 1, (hsize_t[]){5}, numbers, H5P_DEFAULT);
}
static void shape_class_flat(hid_t f)
{
    put(f, "class", H5T_STD_I8LE, 1, (hsize_t[]){6}, numbers, H5P_DEFAULT);
}
static void shape_flat(hid_t f)
{
    put(f, "probabilities", H5T_IEEE_F32LE, 2, (hsize_t[]){6, 3}, numbers, H5P_DEFAULT);
}

static void shape_four(hid_t f)
{
    put(f, "probabilities", H5T_IEEE_F32LE, 3, (hsize_t[]){6, 2, 4}, numbers, H5P_DEFAULT);
}

static void shape_deep(hid_t f)
{
    put(f, "probabilities", H5T_IEEE_F32LE, 3, (hsize_t[]){6, 9, 3}, NULL, H5P_DEFAULT);
}

static void shape_double(hid_t f)
{
    put(f, "probabilities", H5T_IEEE_F64LE, 3, (hsize_t[]){6, 2, 3}, numbers, H5P_DEFAULT);
}

/* Dimensions of terabytes in a file of kilobytes: chunks that were never written. */
static void shape_hollow(hid_t f)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 3, (hsize_t[]){1024, 2, 3});
    put(f, "probabilities", H5T_IEEE_F32LE, 3, (hsize_t[]){UINT64_C(1) << 31, 2, 3}, NULL, create);
    H5Pclose(create);
}

static void shape_outside(hid_t f)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(create, "/etc/hostname", 0, 48);
    put(f, "time_ns", H5T_STD_I64LE, 1, (hsize_t[]){6}, NULL, create);
    H5Pclose(create);
}

static void shape_filter(hid_t f)
{
    hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(create, 1, (hsize_t[]){6});
    H5Pset_shuffle(create);
    put(f, "time_ns", H5T_STD_I64LE, 1, (hsize_t[]){6}, numbers, create);
    H5Pclose(create);
}

static void shape_soft(hid_t f)
{
    assert_true(H5Ldelete(f, "time_ns", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/row", f, "time_ns", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void shape_seen_torn(hid_t f)
{
    assert_true(H5Ldelete(f, "seen/last_ns", H5P_DEFAULT) >= 0);
}
static void shape_no_hash(hid_t f)
{
    assert_true(H5Adelete(f, "bundle") >= 0);
}
static void shape_no_version(hid_t f)
{
    assert_true(H5Adelete(f, "version") >= 0);
}

static void attribute_put(hid_t f, const char *name, hid_t type, const void *value)
{
    hid_t space = H5Screate(H5S_SCALAR);
    assert_true(H5Adelete(f, name) >= 0);
    hid_t a = H5Acreate2(f, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(a >= 0 && H5Awrite(a, type, value) >= 0);
    H5Aclose(a);
    H5Sclose(space);
}

static void shape_next_version(hid_t f)
{
    attribute_put(f, "version", H5T_NATIVE_INT, &(int){2});
}

static void shape_bad_hash(hid_t f)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, 33);
    attribute_put(f, "dataset", type, "0123456789abcdef0123456789abcdeg");
    H5Tclose(type);
}

static void bad_shapes(void **state)
{
    static const struct {
        void (*make)(hid_t);
        const char *says;
    } cases[] = {{shape_time_short, "time_ns has 5"},
                 {shape_time_real, "time_ns"},
                 {shape_time_gone, "time_ns"},
                 {shape_row_short, "row has 5"},
                 {shape_class_flat, "class"},
                 {shape_flat, "probabilities"},
                 {shape_four, "probabilities"},
                 {shape_deep, "probabilities"},
                 {shape_double, "probabilities"},
                 {shape_hollow, "probabilities"},
                 {shape_outside, "time_ns"},
                 {shape_filter, "time_ns"},
                 {shape_soft, "time_ns"},
                 {shape_seen_torn, "last_ns"},
                 {shape_no_hash, "bundle"},
                 {shape_no_version, "version"},
                 {shape_next_version, "version 2"},
                 {shape_bad_hash, "dataset"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        columns c = good();
        char what[32];
        snprintf(what, sizeof what, "shape %zu", i);
        save(&c);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(file >= 0);
        cases[i].make(file);
        assert_true(H5Fclose(file) >= 0);
        refused(what, cases[i].says);
    }
}

/* A file that ends early is refused; no length of it brings the reader down. */
static void cut_short(void **state)
{
    char *data;
    size_t bytes, left = 0;
    columns c = good();
    (void)state;
    save(&c);
    must(oc_file_read(path, 1 << 20, &data, &bytes));
    for (size_t cut = 1; cut <= bytes; cut += 97) {
        oc_prediction_file *f;
        must(oc_file_write(path, data, bytes - cut));
        oc_status status = oc_prediction_file_open(&f, path, 0);
        left += status == OC_OK;
        if (status == OC_OK) oc_prediction_file_close(f);
    }
    assert_int_equal(left, 0);
    oc_memory_free(data);
    unlink(path);
    oc_prediction_file *f;
    assert_int_not_equal(oc_prediction_file_open(&f, path, 0), OC_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(comes_back), cmocka_unit_test(bad_values),
                                       cmocka_unit_test(bad_shapes), cmocka_unit_test(cut_short)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
