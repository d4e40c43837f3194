/* predict_csv.h - probabilities for a run of rows as text: symbol,row,time_ns,buy,sell,hold with %.9g; with several
 * horizons h0_buy, h0_sell, h0_hold, h1_buy … Rows count within the symbol. A row whose window is not full (run_length
 * below the model's steps: a gap, a session's start) has no answer and no line. */
#ifndef OC_EVALUATE_PREDICT_CSV_H
#define OC_EVALUATE_PREDICT_CSV_H

#include <stdio.h>

#include "datasets/dataset.h"
#include "nn/ensemble.h"

typedef struct oc_predict_csv_request {
    const char *symbol;
    uint64_t first, last; /* [first, last) */
    oc_math math;         /* F32, or BF16: the bits of a server with serve.dtype bf16 */
} oc_predict_csv_request;

typedef struct oc_predict_csv_result {
    size_t rows, left_out;
} oc_predict_csv_result;

/* OC_EDATA: another feature schema than the model's, unknown symbol, rows beyond it, or not one full window. */
OC_MUST oc_predict_csv(const oc_ensemble *ensemble, const oc_dataset *d, const oc_predict_csv_request *request,
                       FILE *out, oc_predict_csv_result *result);

#endif
