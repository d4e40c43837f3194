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

#endif
