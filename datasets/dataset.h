/* dataset.h - the HDF5 dataset (DESIGN section 4): rows, never materialised windows. Written by oc_dataset_writer while
 * the feature engine runs, read whole into memory with every hash checked. Readable with h5py; all names stand in the
 * file.
 *
 * In memory all symbols lie in one matrix x [rows,F], symbol by symbol; a window is (symbol, row) or just the global
 * row index of its last row. */
#ifndef OC_DATASETS_DATASET_H
#define OC_DATASETS_DATASET_H

#include <stdbool.h>
#include "base/config.h"
#include "base/hash.h"
#include "datasets/labels.h"
#include "market/features.h"

typedef struct oc_dataset_label {
    oc_label_rule rule;
    const int8_t *class_;                      /* [rows] over all symbols, as x */
    const uint8_t *valid;
    const int64_t *known_ns;
    const float *return_;
} oc_dataset_label;

typedef struct oc_dataset_symbol {
    char name[OC_SYMBOL_BYTES];
    size_t first, rows;                        /* in the matrix */
} oc_dataset_symbol;

typedef struct oc_dataset_source {             /* an event file that the rows were made from */
    char path[512];                            /* as given in data.events */
    oc_hash content;
} oc_dataset_source;

typedef struct oc_dataset {
    char path[4096];
    size_t rows, width, symbol_count, label_count;
    oc_dataset_symbol *symbols;
    oc_dataset_label labels[8];
    char (*features)[64];                      /* [width] */
    oc_hash schema, root;                      /* root: names the content of the whole dataset */
    oc_hash sources;                           /* of all event files: the ledger's key */
    const float *x;                            /* [rows,width] */
    const int64_t *time_ns;
    const uint32_t *run_length;
    const double *mid, *spread;
    const uint64_t *mask;                      /* [rows, (width + 63) / 64] */
    uint32_t history_events;                   /* longest declared history of a feature */
    int64_t history_ns;
    char *config;                              /* resolved build config (YAML) */
    char spread_note[16];                      /* "assumed": from the config; "measured": of the book */
    size_t source_count;
    oc_dataset_source *source;
} oc_dataset;

/* Every block hash and the root hash are checked before HDF5 parses anything (OC_EDATA names the block), then every
 * value: x finite (OC_EDATA names symbol, row and feature), times rising, run_length and labels possible. Held once. */
OC_MUST oc_dataset_open(oc_dataset **out, const char *path);
void oc_dataset_close(oc_dataset *d);
const oc_dataset_symbol *oc_dataset_symbol_find(const oc_dataset *d, const char *name);        /* NULL where absent */
const oc_dataset_label *oc_dataset_label_find(const oc_dataset *d, const char *text);          /* NULL where absent */
size_t oc_dataset_symbol_of(const oc_dataset *d, size_t row);

/* `outcry build`: events -> features -> labels -> file. */
typedef struct oc_build_result {
    uint64_t rows, features, labels;
    oc_hash schema, root;
    double rows_per_second;
    uint64_t events;
} oc_build_result;
extern const oc_config_key oc_build_keys[];
extern const size_t oc_build_key_count;
OC_MUST oc_dataset_build(const oc_config *config, const char *out_path, oc_build_result *result);

/* `outcry verify`. Every row is made anew from the events and compared; then chosen rows again from a start as late as
 * their declared history allows, with nothing but garbage behind them, and their labels with garbage behind known_ns:
 * all in bits. Chosen: rows_least seeded rows (or every Nth), the first row of each symbol and the first after each gap
 * and break. */
typedef struct oc_verify_options {
    uint64_t every;                            /* 0: rows_least seeded rows */
    uint64_t seed, rows_least;                 /* rows_least 0: 2,000 */
    const char *const *events;                 /* where the event files lie now; NULL: where the dataset says */
    size_t event_count;
} oc_verify_options;
typedef struct oc_verify_result {
    uint64_t rows_rebuilt, rows_checked, rows_different, labels_checked, labels_different, breaks;
    uint32_t longest_history;                  /* rows */
    int64_t longest_history_ns;
    char first_difference[256];                /* "" where there is none */
} oc_verify_result;
/* OC_OK also where rows differ: look at the result. OC_EDATA where hashes fail or events are absent or others. */
OC_MUST oc_dataset_verify(const char *path, const oc_verify_options *options, oc_verify_result *result);

#endif
