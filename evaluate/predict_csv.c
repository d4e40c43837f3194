/* predict_csv.c - see predict_csv.h. Pieces of BATCH windows, so that memory does not grow with the rows asked for. */
#include "evaluate/predict_csv.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "evaluate/predictions.h"
#include "nn/model.h"

enum { BATCH = 256 };

typedef struct answerer { /* the members of an ensemble; a bundle is one of one */
    const oc_ensemble *ensemble;
    oc_model *models[OC_ENSEMBLE_MAX];
    float more[BATCH * OC_HORIZONS_MAX * OC_CLASSES];
} answerer;

typedef struct piece {
    int64_t row[BATCH]; /* global */
    size_t count;
    float probabilities[BATCH * OC_HORIZONS_MAX * OC_CLASSES];
} piece;

static oc_status request_check(const oc_bundle *bundle, const oc_dataset *d, const oc_predict_csv_request *request,
                               const oc_dataset_symbol **symbol)
{
    OC_TRY(oc_predictions_fit(bundle, d, bundle->name));
    const oc_dataset_symbol *found = oc_dataset_symbol_find(d, request->symbol);
    if (!found)
        return OC_FAIL(OC_EDATA, "%s: there is no symbol %s among its %zu", d->path, request->symbol, d->symbol_count);
    if (request->last > found->rows || request->first >= request->last)
        return OC_FAIL(OC_EDATA, "%s: rows %llu:%llu do not lie within the %zu rows of %s", d->path,
                       (unsigned long long)request->first, (unsigned long long)request->last, found->rows,
                       request->symbol);
    *symbol = found;
    return OC_OK;
}

static void header_print(const oc_bundle *bundle, FILE *out)
{
    static const char *const classes[OC_CLASSES] = {"buy", "sell", "hold"};
    fprintf(out, "symbol,row,time_ns");
    for (int i = 0; i < bundle->shape.horizons * OC_CLASSES; i++) {
        if (bundle->shape.horizons > 1)
            fprintf(out, ",h%d_%s", i / OC_CLASSES, classes[i % OC_CLASSES]);
        else
            fprintf(out, ",%s", classes[i % OC_CLASSES]);
    }
    fputc('\n', out);
}

static oc_status piece_answer(answerer *a, const oc_dataset *d, piece *p, size_t n)
{
    for (int i = 0; i < a->ensemble->count; i++) {
        OC_TRY(oc_model_predict_rows(a->models[i], d->x, d->rows, p->row, p->count, i == 0 ? p->probabilities : a->more,
                                     n));
        oc_ensemble_add(a->ensemble, i, a->more, p->probabilities, n);
    }
    return OC_OK;
}

static oc_status piece_print(answerer *a, const oc_dataset *d, const oc_dataset_symbol *symbol, piece *p, FILE *out)
{
    size_t each = (size_t)a->ensemble->members[0]->shape.horizons * OC_CLASSES;
    OC_TRY(piece_answer(a, d, p, p->count * each));
    for (size_t i = 0; i < p->count; i++) {
        fprintf(out, "%s,%lld,%lld", symbol->name, (long long)(p->row[i] - (int64_t)symbol->first),
                (long long)d->time_ns[p->row[i]]);
        for (size_t k = 0; k < each; k++) fprintf(out, ",%.9g", (double)p->probabilities[i * each + k]);
        fputc('\n', out);
    }
    p->count = 0;
    return OC_OK;
}

static oc_status rows_print(answerer *a, const oc_dataset *d, const oc_dataset_symbol *symbol,
                            const oc_predict_csv_request *request, FILE *out, oc_predict_csv_result *result)
{
    const uint32_t steps = (uint32_t)a->ensemble->members[0]->shape.steps;
    piece p = {.count = 0};
    for (uint64_t row = request->first; row < request->last; row++) {
        if (d->run_length[symbol->first + row] < steps) {
            result->left_out++;
            continue;
        }
        if (result->rows == 0) header_print(a->ensemble->members[0], out);
        p.row[p.count++] = (int64_t)(symbol->first + row);
        result->rows++;
        if (p.count == BATCH) OC_TRY(piece_print(a, d, symbol, &p, out));
    }
    if (p.count > 0) OC_TRY(piece_print(a, d, symbol, &p, out));
    return OC_OK;
}

static oc_status models_answer(answerer *a, const oc_dataset *d, const oc_dataset_symbol *symbol,
                               const oc_predict_csv_request *request, FILE *out, oc_predict_csv_result *result)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .math = request->math};
    oc_status status = OC_OK;
    for (int i = 0; i < a->ensemble->count && status == OC_OK; i++)
        status = oc_model_open(&a->models[i], a->ensemble->members[i], &config, BATCH);
    if (status == OC_OK && config.math == OC_MATH_BF16)
        oc_log(OC_LOG_INFO, "predict: products of the LSTM in bf16 by %s",
               oc_isa_name(oc_model_backend(a->models[0])->isa));
    if (status == OC_OK) status = rows_print(a, d, symbol, request, out, result);
    for (int i = 0; i < a->ensemble->count; i++) oc_model_close(a->models[i]);
    return status;
}

oc_status oc_predict_csv(const oc_ensemble *ensemble, const oc_dataset *d, const oc_predict_csv_request *request,
                         FILE *out, oc_predict_csv_result *result)
{
    const oc_bundle *bundle = ensemble->members[0];
    const oc_dataset_symbol *symbol = NULL;
    answerer a = {.ensemble = ensemble};
    *result = (oc_predict_csv_result){0};
    OC_TRY(request_check(bundle, d, request, &symbol));
    OC_TRY(models_answer(&a, d, symbol, request, out, result));
    if (fflush(out) != 0 || ferror(out)) return OC_FAIL(OC_EFAILED, "cannot write the CSV: %s", strerror(errno));
    if (result->rows == 0)
        return OC_FAIL(OC_EDATA, "%s: none of the rows %llu:%llu of %s ends a full window of %d rows", d->path,
                       (unsigned long long)request->first, (unsigned long long)request->last, request->symbol,
                       bundle->shape.steps);
    if (result->left_out > 0)
        oc_log(OC_LOG_INFO, "predict: %zu of the rows asked for end no full window of %d rows and are left out",
               result->left_out, bundle->shape.steps);
    return OC_OK;
}
