/* bench_dataset_load.c - oc_dataset_open of a dataset in the page cache, every hash and value checked, into fresh
 * memory; against memcpy of as many bytes into memory already touched (one thread, this run), and against h5py reading
 * 4 MiB chunks without any check. Figures count the bytes of the dataset's columns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "datasets/dataset_writer.h"
#include "tools/bench/benches.h"

enum { COLUMNS = 64, ROWS = 1 << 20, ROWS_TINY = 1 << 14, REPEATS = 20 };

static oc_status rows_write(oc_dataset_writer *w, size_t rows)
{
    static const uint64_t mask[1];
    float x[COLUMNS];
    for (size_t i = 0; i < rows; i++) {
        for (size_t c = 0; c < COLUMNS; c++) x[c] = (float)oc_random_uniform(7, i * COLUMNS + c);
        const oc_feature_row row = {.time_ns = (int64_t)i * 1000000,
                                    .run_length = (uint32_t)i + 1,
                                    .mask = mask,
                                    .x = x,
                                    .mid = 100.0 + (double)x[0],
                                    .spread = 0.01};
        OC_TRY(oc_dataset_writer_row(w, 0, &row, false));
    }
    return OC_OK;
}

static oc_status dataset_write(const char *path, size_t rows)
{
    static oc_feature_info features[COLUMNS];
    const char *symbol = "BENCH";
    oc_label_rule label;
    oc_dataset_source source = {.path = "none"};
    oc_dataset_writer *w;
    for (int i = 0; i < COLUMNS; i++) snprintf(features[i].name, sizeof features[i].name, "f%d", i);
    OC_TRY(oc_label_parse(&label, "direction:10:0.0002", 0));
    const oc_dataset_plan plan = {.features = features,
                                  .width = COLUMNS,
                                  .symbols = &symbol,
                                  .symbol_count = 1,
                                  .labels = &label,
                                  .label_count = 1,
                                  .sources = &source,
                                  .source_count = 1,
                                  .config = "# bench\n",
                                  .spread_note = "assumed",
                                  .rows_expected = rows};
    OC_TRY(oc_dataset_writer_open(&w, path, &plan));
    oc_status status = rows_write(w, rows);
    if (status == OC_OK) return oc_dataset_writer_commit(w, NULL);
    oc_dataset_writer_abort(w);
    return status;
}

static oc_status load_best(const char *path, int repeats, double *seconds)
{
    *seconds = HUGE_VAL;
    for (int i = 0; i < repeats; i++) {
        oc_dataset *d;
        int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_dataset_open(&d, path));
        double took = (double)(oc_clock_monotonic_ns() - start) / 1e9;
        oc_dataset_close(d);
        if (took < *seconds) *seconds = took;
    }
    return OC_OK;
}

static oc_status copy_best(size_t bytes, int repeats, double *seconds)
{
    unsigned char *from = NULL, *to = NULL;
    oc_status status = oc_memory_new(&from, bytes, "bench");
    if (status == OC_OK) status = oc_memory_new(&to, bytes, "bench");
    *seconds = HUGE_VAL;
    for (int i = 0; status == OC_OK && i < repeats; i++) {
        from[i] = (unsigned char)i;
        int64_t start = oc_clock_monotonic_ns();
        memcpy(to, from, bytes);
        double took = (double)(oc_clock_monotonic_ns() - start) / 1e9;
        if (to[i] == (unsigned char)i && took < *seconds) *seconds = took;
    }
    oc_memory_free(from);
    oc_memory_free(to);
    return status;
}

static oc_status measure(const char *path, size_t rows, const oc_bench_options *o, oc_bench_report *report)
{
    double load, copy, peer = (double)NAN;
    int repeats = o->repeats > REPEATS ? o->repeats : o->tiny ? 3 : REPEATS;
    double bytes = (double)rows * (COLUMNS * 4 + 8 + 4 + 8 + 8 + 8 + 1 + 1 + 8 + 4);
    OC_TRY(dataset_write(path, rows));
    OC_TRY(load_best(path, repeats, &load));
    OC_TRY(copy_best((size_t)bytes, repeats, &copy));
    oc_bench_add(report, "dataset-load", bytes / 1e6 / load, "MB/s", "memcpy", bytes / 1e6 / copy,
                 "open with every hash and value checked, fresh memory; memcpy: one thread, touched memory");
    char mib[24];
    snprintf(mib, sizeof mib, "%zu", rows * COLUMNS * 4 >> 20 ? rows * COLUMNS * 4 >> 20 : 1);
    const char *arguments[] = {"--mib", mib, NULL};
    OC_TRY(oc_bench_peer(o, "hdf5_read.py", arguments, "read_mb_per_second", false, &peer));
    oc_bench_add(report, "dataset-load-h5py", bytes / 1e6 / load, "MB/s", "h5py, 4 MiB chunks with fletcher32", peer,
                 "h5py reads into touched memory and checks HDF5's checksum");
    return OC_OK;
}

oc_status oc_bench_dataset_load(const oc_bench_options *o, oc_bench_report *report)
{
    const char *folder = getenv("TMPDIR");
    char path[OC_PATH_MAX];
    int length =
        snprintf(path, sizeof path, "%s/outcry-bench-%ld.h5", folder && *folder ? folder : "/tmp", (long)getpid());
    if (length < 0 || (size_t)length >= sizeof path) return OC_FAIL(OC_ELIMIT, "bench: TMPDIR is too long a path");
    oc_status status = measure(path, o->tiny ? ROWS_TINY : ROWS, o, report);
    unlink(path);
    return status;
}
