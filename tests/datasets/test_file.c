/* test_file.c - the HDF5 dataset: what is written comes back, and nothing else is accepted: flipped bits and cuts, and
 * hostile files whose hashes are right (re-sealed after the change). h5py reads it where Python has it. */
#include <hdf5.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "datasets/seal.h"
#include "datasets/synthetic.h"

static const char path[] = "test_datasets_file.h5";

/* libhdf5 1.10.8 loses 296 bytes of its own when the close of a file fails because the disk is full. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libhdf5"; }
static const synthetic small = {
    .rows = 300, .width = 5, .symbols = 2, .seed = 7, .labels = {"direction:10:0.0002"}, .break_every = 70};

static void write_small(void)
{
    oc_status status = synthetic_write(path, &small, NULL);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
}

static void round_trip(void **state)
{
    const synthetic s = {.rows = 50000,
                         .width = 70,
                         .symbols = 3,
                         .seed = 7,
                         .labels = {"direction:10:0.0002", "smooth:5:0.0001"},
                         .break_every = 700};
    oc_dataset *d;
    oc_hash root;
    (void)state;
    assert_int_equal(synthetic_write(path, &s, &root), OC_OK);
    oc_status status = oc_dataset_open(&d, path);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(d->rows, 150000);
    assert_true(oc_hash_equal(root, d->root));
    assert_string_equal(d->symbols[2].name, "S2");
    assert_string_equal(d->features[69], "f69");
    assert_string_equal(d->labels[1].rule.text, "smooth:5:0.0001");
    assert_string_equal(d->source[0].path, "synthetic.events");
    assert_int_equal(oc_dataset_symbol_of(d, 49999), 0);
    assert_int_equal(oc_dataset_symbol_of(d, 50000), 1);
    for (size_t row = 0; row < d->rows; row += 61) {
        for (size_t c = 0; c < 70; c += 23) {
            uint32_t key = oc_random_key(7, OC_RANDOM_TEST, row / 50000, c);
            assert_true(d->x[row * 70 + c] == (float)(2.0 * oc_random_uniform(key, row % 50000) - 1.0));
        }
        assert_int_equal(d->run_length[row], row % 50000 % 700 + 1);
        assert_int_equal(d->labels[0].valid[row], row % 50000 % 700 < 690 && row % 50000 < 49990);
    }
    oc_dataset_close(d);
}

static void same_bytes_twice(void **state)
{
    oc_hash a, b;
    (void)state;
    write_small();
    assert_int_equal(oc_hash_file(path, &a), OC_OK);
    write_small();
    assert_int_equal(oc_hash_file(path, &b), OC_OK);
    assert_true(oc_hash_equal(a, b));
}

static void damage_found(void **state)
{
    char *good;
    size_t bytes, refused = 0, tried = 0;
    oc_dataset *d;
    (void)state;
    write_small();
    assert_int_equal(oc_file_read(path, 1 << 28, &good, &bytes), OC_OK);
    int fd = open(path, O_RDWR);
    for (size_t bit = 5; bit < bytes * 8; bit += 251, tried++) {
        char bad = (char)(good[bit / 8] ^ 1 << bit % 8);
        assert_int_equal(pwrite(fd, &bad, 1, (off_t)(bit / 8)), 1);
        refused += oc_dataset_open(&d, path) == OC_EDATA;
        assert_int_equal(pwrite(fd, &good[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    assert_int_equal(oc_dataset_open(&d, path), OC_OK);          /* the harness: undamaged it opens */
    oc_dataset_close(d);
    for (size_t cut = 0; cut < bytes; cut += 1 + bytes / 101, tried++) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        refused += oc_dataset_open(&d, path) == OC_EDATA;
        assert_int_equal(pwrite(fd, good, bytes, 0), (ssize_t)bytes);
    }
    print_message("%zu of %zu damages refused\n", refused, tried);
    assert_int_equal(refused, tried);
    close(fd);
    oc_memory_free(good);
}

/* ---- hostile, but sealed ------------------------------------------------------------------------------------------
 */

static hid_t group_of(hid_t file) { return H5Gopen2(file, "symbols/S0", H5P_DEFAULT); }

static void make_external(hid_t file)
{
    hsize_t dims[1] = {300};
    hid_t g = group_of(file), space = H5Screate_simple(1, dims, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Ldelete(g, "mid", H5P_DEFAULT);
    H5Pset_external(plist, "/etc/passwd", 0, 2400);
    H5Dclose(H5Dcreate2(g, "mid", H5T_IEEE_F64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
}

static void make_external_config(hid_t file)
{
    hsize_t dims[1] = {5};
    hid_t g = H5Gopen2(file, "features", H5P_DEFAULT), space = H5Screate_simple(1, dims, NULL),
          plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Ldelete(g, "history_ns", H5P_DEFAULT);
    H5Pset_external(plist, "/etc/passwd", 0, 40);
    H5Dclose(H5Dcreate2(g, "history_ns", H5T_STD_I64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
}

static void make_soft(hid_t file)
{
    hid_t g = group_of(file);
    H5Ldelete(g, "spread", H5P_DEFAULT);
    H5Lcreate_soft("/symbols/S1/spread", g, "spread", H5P_DEFAULT, H5P_DEFAULT);
}

static void make_external_link(hid_t file)
{
    hid_t g = H5Gopen2(file, "symbols", H5P_DEFAULT);
    H5Ldelete(g, "S1", H5P_DEFAULT);
    H5Lcreate_external("other.h5", "/symbols/S1", g, "S1", H5P_DEFAULT, H5P_DEFAULT);
}

static void make_huge(hid_t file)
{
    hsize_t dims[1] = {(hsize_t)1 << 57};
    hid_t d = H5Dopen2(file, "symbols/S0/time_ns", H5P_DEFAULT);
    H5Dset_extent(d, dims);
}

static void make_other_type(hid_t file)
{
    hsize_t dims[1] = {300}, max[1] = {H5S_UNLIMITED}, chunk[1] = {64};
    hid_t g = group_of(file), space = H5Screate_simple(1, dims, max), plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Ldelete(g, "run_length", H5P_DEFAULT);
    H5Pset_chunk(plist, 1, chunk);
    H5Dclose(H5Dcreate2(g, "run_length", H5T_STD_U64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT));
}

static void make_missing(hid_t file) { H5Ldelete(file, "features", H5P_DEFAULT); }
static void make_nothing(hid_t file) { (void)file; }

static void make_version(hid_t file)
{
    int64_t two = 2;
    hid_t a = H5Aopen(file, "version", H5P_DEFAULT);
    H5Awrite(a, H5T_STD_I64LE, &two);
}

/* One change of a value behind the HDF5 library's back: in the first extent of a column. */
typedef struct poke { uint32_t column; size_t at; const void *value; size_t bytes; } poke;

static void reseal(void (*change)(hid_t), const poke *p)
{
    oc_seal s, again;
    int fd = open(path, O_RDWR);
    assert_int_equal(oc_seal_read(&s, fd, path), OC_OK);
    oc_extent *extents = malloc(s.extent_count * sizeof *extents);
    memcpy(extents, s.extents, s.extent_count * sizeof *extents);
    assert_int_equal(ftruncate(fd, (off_t)s.h5_bytes), 0);
    for (size_t i = 0; p && i < s.extent_count; i++)
        if (extents[i].column == p->column && extents[i].symbol == 0)
            assert_int_equal(pwrite(fd, p->value, p->bytes, (off_t)(extents[i].offset + p->at)), (ssize_t)p->bytes);
    close(fd);
    if (change) {
        hid_t access = H5Pcreate(H5P_FILE_ACCESS);
        H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
        H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
        hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
        assert_true(file >= 0);
        change(file);
        H5Fclose(file);
    }
    again = (oc_seal){.extent_count = s.extent_count,
                      .root_offset = s.root_offset,
                      .symbol_count = s.symbol_count,
                      .width = s.width,
                      .label_count = s.label_count};
    assert_int_equal(oc_seal_write(path, path, &again, s.symbol_rows, extents), OC_OK);
    oc_seal_free(&again);
    oc_seal_free(&s);
    free(extents);
}

static void hostile_refused(void **state)
{
    static const struct { void (*change)(hid_t); const char *says;
    } cases[] = {
        {make_external, "external"}, {make_external_config, "external"},
        {make_soft, "link"},         {make_external_link, "link"},
        {make_huge, "time_ns"},      {make_other_type, "run_length"},
        {make_missing, "features"},  {make_version, "version"},
    };
    oc_dataset *d;
    (void)state;
    write_small();
    reseal(make_nothing, NULL);                                  /* the harness: re-sealed without a change it opens */
    oc_status status = oc_dataset_open(&d, path);
    if (status != OC_OK) fail_msg("%s", oc_status_message());
    oc_dataset_close(d);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_small();
        reseal(cases[i].change, NULL);
        assert_int_equal(oc_dataset_open(&d, path), OC_EDATA);
        if (!strstr(oc_status_message(), cases[i].says)) fail_msg("case %zu: %s", i, oc_status_message());
    }
}

static void values_refused(void **state)
{
    static const float not_a_number = NAN, infinite = -INFINITY;
    static const int64_t early = -5;
    static const uint32_t run = 77;
    static const int8_t class_ = 3;
    static const uint8_t valid = 2;
    static const struct { poke p; const char *says; } cases[] = {
        {{0, (40 * 5 + 3) * 4, &not_a_number, 4}, "symbol S0, row 40, feature f3"},
        {{0, 0, &infinite, 4}, "symbol S0, row 0, feature f0"},
        {{0, (299 * 5 + 4) * 4, &infinite, 4}, "symbol S0, row 299, feature f4"},
        {{1, 50 * 8, &early, 8}, "row 50"}, {{2, 60 * 4, &run, 4}, "row 60"}, {{6, 9, &class_, 1}, "row 9"},
        {{7, 11, &valid, 1}, "row 11"}, {{8, 12 * 8, &early, 8}, "row 12"}, {{9, 13 * 4, &not_a_number, 4}, "row 13"},
    };
    oc_dataset *d;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_small();
        reseal(NULL, &cases[i].p);
        assert_int_equal(oc_dataset_open(&d, path), OC_EDATA);
        if (!strstr(oc_status_message(), cases[i].says)) fail_msg("case %zu: %s", i, oc_status_message());
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static void disk_full_keeps_the_old(void **state)
{
    const synthetic large = {.rows = 40000, .width = 40, .symbols = 1, .seed = 9, .labels = {"direction:10:0.0002"}};
    struct rlimit before, low = {0};
    oc_hash a, b;
    (void)state;
    write_small();
    assert_int_equal(oc_hash_file(path, &a), OC_OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    static const rlim_t limits[] = {0, 3000, 100000, 5000000};   /* at once, in the head, in the rows */
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        low = (struct rlimit){limits[i], before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        oc_status status = synthetic_write(path, &large, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, OC_EFAILED);
        assert_int_equal(oc_hash_file(path, &b), OC_OK);
        assert_true(oc_hash_equal(a, b));
        assert_int_equal(system("ls -A | grep -q '^[.]outcry-.*tmp'") == 0, 0);     /* no rubbish stays */
    }
}

static void python_reads(void **state)
{
    static const char script[] =
        "import sys\n"
        "try:\n    import h5py, numpy as np\nexcept ImportError:\n    sys.exit(77)\n"
        "f = h5py.File(sys.argv[1])\n"
        "assert f.attrs['format'] == b'outcry-dataset' or f.attrs['format'] == 'outcry-dataset'\n"
        "s = f['symbols/S1']\n"
        "x = s['x'][:]\n"
        "assert x.shape == (300, 5) and x.dtype == np.float32 and np.isfinite(x).all() and x.std() > 0.5\n"
        "assert s['time_ns'].dtype == np.int64 and (np.diff(s['time_ns'][:]) == 1000000000).all()\n"
        "assert s['run_length'].dtype == np.uint32 and s['run_length'][70] == 1 and s['mask'].shape == (300, 1)\n"
        "l = s['labels/direction:10:0.0002']\n"
        "c, v, r, m = l['class'][:], l['valid'][:], l['return'][:], s['mid'][:]\n"
        "ok = np.flatnonzero(v)\n"
        "assert len(ok) == 250 and np.allclose(r[ok], m[ok + 10] / m[ok] - 1, atol=1e-7)\n"
        "sure = ok[np.abs(np.abs(r[ok]) - 0.0002) > 1e-6]\n"
        "assert len(sure) > 100 and ((c[sure] == 0) == (r[sure] > 0.0002)).all() and len(f['root_hash'][()]) == 32\n"
        "assert f['features/name'][4] == b'f4'\n";
    const char *python = getenv("OUTCRY_PYTHON");
    char command[8192];
    (void)state;
    write_small();
    assert_int_equal(oc_file_write("test_datasets_file.py", script, sizeof script - 1), OC_OK);
    snprintf(command, sizeof command, "'%s' test_datasets_file.py %s", python ? python : "python3", path);
    int code = system(command);
    unlink("test_datasets_file.py");
    if (code == 77 << 8 || code == 127 << 8) {
        print_message("skipped: %s has no h5py (OUTCRY_PYTHON names another)\n", python ? python : "python3");
        skip();
    }
    assert_int_equal(code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip),     cmocka_unit_test(same_bytes_twice),
                                       cmocka_unit_test(damage_found),   cmocka_unit_test(hostile_refused),
                                       cmocka_unit_test(values_refused), cmocka_unit_test(disk_full_keeps_the_old),
                                       cmocka_unit_test(python_reads)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
