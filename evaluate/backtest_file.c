/* backtest_file.c - predictions made elsewhere answer the loop: a row meets the prediction of its symbol and its exact
 * time, or none. The trading side knows no HDF5: it sees one more predictor. */
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "evaluate/backtest_parts.h"

enum { METRICS_BYTES_MAX = 256 << 20 };

/* A file of `outcry evaluate` has its hash beside it. */
static oc_status pair_check(const oc_prediction_file *f, const char *path)
{
    char metrics[OC_PATH_MAX], have[OC_HASH_TEXT];
    const char *slash = strrchr(path, '/'), *want;
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    json_t *judged;
    if (strcmp(path + folder, "predictions.h5") != 0 || folder + sizeof "metrics.json" > sizeof metrics) return OC_OK;
    memcpy(metrics, path, folder);
    memcpy(metrics + folder, "metrics.json", sizeof "metrics.json");
    if (!oc_path_exists(metrics)) return OC_OK;
    OC_TRY(oc_json_load(metrics, METRICS_BYTES_MAX, &judged));
    oc_status status = oc_json_text(judged, "predictions_hash", metrics, &want);
    if (status == OC_OK && strcmp(oc_hash_text(f->content, have), want) != 0)
        status = OC_FAIL(OC_EDATA, "%s has hash %s, %s beside it was made with %s: evaluate again", path, have, metrics,
                         want);
    json_decref(judged);
    return status;
}

oc_status backtest_file_load(backtest_file *f, const oc_config *c)
{
    const char *path = oc_config_text(c, "model.predictions");
    OC_TRY(oc_prediction_file_open(&f->file, path, (size_t)oc_config_int(c, "model.horizon")));
    return pair_check(f->file, path);
}

void backtest_file_close(backtest_file *f)
{
    oc_prediction_file_close(f->file);
    f->file = NULL;
}

/* Its predictions within the span. */
static uint64_t within(const oc_prediction_file *f, const oc_prediction_symbol *s, const backtest_span *span)
{
    uint64_t count = 0;
    for (uint64_t i = s->first; i < s->first + s->count; i++)
        count += f->time_ns[i] >= span->first_ns && f->time_ns[i] <= span->last_ns;
    return count;
}

oc_status backtest_file_join(backtest_file *f, const oc_config *c, const backtest_span *span,
                             const oc_instrument *universe, uint32_t instruments)
{
    char from[OC_TIME_TEXT], to[OC_TIME_TEXT];
    uint64_t found = 0;
    for (uint32_t i = 0; i < instruments; i++) {
        f->symbol[i] = -1;
        for (size_t s = 0; s < f->file->symbol_count; s++) {
            const oc_prediction_symbol *symbol = &f->file->symbols[s];
            if (strcmp(symbol->name, universe[i].symbol) != 0) continue;
            f->symbol[i] = (int32_t)s;
            f->at[i] = symbol->first;
            found += within(f->file, symbol, span);
        }
    }
    if (found > 0) return OC_OK;
    return OC_FAIL(OC_EDATA, "%s predicts nothing of the symbols of %s from %s to %s",
                   oc_config_text(c, "model.predictions"), oc_config_item(c, "data.events", 0),
                   oc_time_text(span->first_ns, from), oc_time_text(span->last_ns, to));
}

oc_status backtest_file_joined(const backtest_file *f, const oc_config *c)
{
    if (f->joined > 0) return OC_OK;
    return OC_FAIL(
        OC_EDATA,
        "no prediction of %s lies at the very time of a row: set sample and row_ns as of the dataset that it "
        "was made from",
        oc_config_text(c, "model.predictions"));
}

/* Rows of run_length 0 belong to no window, whoever answers. */
static oc_status predict(void *context, const oc_feature_row *row, oc_prediction *p, bool *made)
{
    backtest_file *f = context;
    int32_t s = f->symbol[row->instrument];
    *made = false;
    if (s < 0 || row->run_length == 0) return OC_OK;
    uint64_t *at = &f->at[row->instrument], end = f->file->symbols[s].first + f->file->symbols[s].count;
    while (*at < end && f->file->time_ns[*at] < row->time_ns) ++*at;
    if (*at == end || f->file->time_ns[*at] != row->time_ns) return OC_OK;
    const float *answer = f->file->probabilities + 3 * (*at)++;
    *p = (oc_prediction){
        .buy = answer[0], .sell = answer[1], .hold = answer[2], .state = OC_PREDICTION_OK, .model_version = 1};
    *made = true;
    f->joined++;
    return OC_OK;
}

oc_predictor backtest_file_predictor(backtest_file *f)
{
    return (oc_predictor){.context = f, .predict = predict};
}
