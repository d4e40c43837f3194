/* h5_predictions.h - predictions.h5: probabilities of samples, with what they were made from (DESIGN section 10).
 *
 *   attributes of /   format "outcry-predictions", version 1, bundle, dataset (32 hex digits each), split, labels (one
 * a line) /symbols [S] text      /symbol [N] u16 index into it     /row [N] i64 within the symbol     /time_ns [N] i64
 *   /probabilities [N,horizons,3] f32: buy, sell, hold       /class [N,horizons] i8: what happened, -1 unknown
 *   /seen/symbol [K] u16   /seen/first_ns [K] i64            /seen/last_ns [K] i64: training and validation
 * Readable with h5py. Written beside its name and renamed. */
#ifndef OC_DATASETS_H5_PREDICTIONS_H
#define OC_DATASETS_H5_PREDICTIONS_H

#include "base/hash.h"
#include "base/status.h"
#include "market/instrument.h"

typedef struct oc_prediction_table { /* borrowed columns */
    size_t count, horizons, symbol_count, seen_count;
    const char (*symbols)[OC_SYMBOL_BYTES];
    const uint16_t *symbol, *seen_symbol;
    const int64_t *row, *time_ns, *seen_first_ns, *seen_last_ns;
    const float *probabilities;
    const int8_t *truth; /* [count,horizons] */
    oc_hash bundle, dataset;
    const char *split, *labels;
} oc_prediction_table;

OC_MUST oc_prediction_table_save(const oc_prediction_table *t, const char *path);

/* ---- reading: 20 bytes a row, whatever else is in the file ---- */

enum { OC_PREDICTION_HORIZONS_MAX = 8 };

typedef struct oc_prediction_symbol {
    char name[OC_SYMBOL_BYTES];
    uint64_t first, count; /* its rows, in order of time */
} oc_prediction_symbol;

typedef struct oc_prediction_seen {
    char symbol[OC_SYMBOL_BYTES];
    int64_t first_ns, last_ns;
} oc_prediction_seen;

typedef struct oc_prediction_file {
    size_t count, horizons, symbol_count, seen_count; /* seen_count 0: nobody says what was seen */
    oc_prediction_symbol *symbols;
    int64_t *time_ns;     /* [count] symbol by symbol, rising within each */
    float *probabilities; /* [count,3] of the label that was asked for */
    oc_prediction_seen *seen;
    oc_hash bundle, dataset, content; /* content: of the file's bytes */
    char split[32], labels[1024];
} oc_prediction_file;

/* horizon: which label's answers are kept. OC_EDATA names what is absent, of another type or shape, and the row that is
 * not finite, no probability, repeated or out of order within its symbol. */
OC_MUST oc_prediction_file_open(oc_prediction_file **out, const char *path, size_t horizon);
void oc_prediction_file_close(oc_prediction_file *f);

#endif
