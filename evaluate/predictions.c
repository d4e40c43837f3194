/* predictions.c - a split through a model, in fixed pieces that workers take by number. */
#include "evaluate/predictions.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/team.h"
#include "datasets/h5_predictions.h"
#include "nn/model.h"

enum { BATCH = 256, THREADS_MAX = 256 };

oc_status oc_predictions_fit(const oc_bundle *bundle, const oc_dataset *d, const char *model)
{
    char want[OC_HASH_TEXT], have[OC_HASH_TEXT];
    if (oc_hash_equal(bundle->schema, d->schema) && (size_t)bundle->shape.inputs == d->width) return OC_OK;
    return OC_FAIL(
        OC_EDATA,
        "%s was trained on features with schema %s; %s has schema %s: build the dataset with the same features", model,
        oc_hash_text(bundle->schema, want), d->path, oc_hash_text(d->schema, have));
}

oc_status oc_predictions_labels(const oc_bundle *bundle, const oc_dataset *d, const char *model,
                                const oc_dataset_label **labels)
{
    OC_TRY(oc_predictions_fit(bundle, d, model));
    for (int h = 0; h < bundle->shape.horizons; h++) {
        labels[h] = oc_dataset_label_find(d, bundle->labels[h]);
        if (!labels[h])
            return OC_FAIL(OC_EDATA, "%s has no label %s, which %s predicts", d->path, bundle->labels[h], model);
    }
    return OC_OK;
}

typedef struct job {
    const oc_dataset *d;
    oc_model *model[THREADS_MAX];
    oc_status status[THREADS_MAX];
    char message[THREADS_MAX][256];
    oc_predictions *out;
} job;

static void work(void *context, int worker, int workers)
{
    job *j = context;
    size_t pieces = (j->out->count + BATCH - 1) / BATCH, stride = (size_t)j->out->horizons * 3;
    for (size_t piece = (size_t)worker; piece < pieces; piece += (size_t)workers) {
        size_t first = piece * BATCH, count = j->out->count - first < BATCH ? j->out->count - first : BATCH;
        j->status[worker] = oc_model_predict_rows(j->model[worker], j->d->x, j->d->rows, j->out->row + first, count,
                                                  j->out->probabilities + first * stride, count * stride);
        if (j->status[worker] != OC_OK) {
            snprintf(j->message[worker], sizeof j->message[worker], "%s", oc_status_message());
            return;
        }
    }
}

static oc_status predict(job *j, const oc_bundle *bundle, int threads)
{
    oc_team *team = NULL;
    oc_backend_config config = {.kind = OC_BACKEND_CPU};
    oc_status status = OC_OK;
    for (int w = 0; w < threads && status == OC_OK; w++) status = oc_model_open(&j->model[w], bundle, &config, BATCH);
    if (status == OC_OK) status = oc_team_open(&team, threads);
    if (status == OC_OK) oc_team_run(team, work, j);
    for (int w = 0; w < threads && status == OC_OK; w++) {
        if (j->status[w] != OC_OK) status = OC_FAIL(j->status[w], "%s", j->message[w]);
    }
    oc_team_close(team);
    for (int w = 0; w < threads; w++) oc_model_close(j->model[w]);
    return status;
}

oc_status oc_predictions_make(oc_predictions *out, const oc_bundle *bundle, const oc_dataset *d,
                              const oc_dataset_label *const *labels, const oc_samples *samples, int threads)
{
    memset(out, 0, sizeof *out);
    if (!(threads >= 1 && threads <= THREADS_MAX))
        return OC_FAIL(OC_ELIMIT, "%d threads: 1 to %d", threads, THREADS_MAX);
    if (samples->count == 0) return OC_FAIL(OC_EDATA, "%s: the split holds no sample", d->path);
    job *j = NULL;
    oc_status status;
    size_t horizons = (size_t)bundle->shape.horizons;
    out->count = samples->count;
    out->horizons = bundle->shape.horizons;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out->row, out->count, sizeof *out->row, "predictions"));
    OC_TRY_GOTO(status, done,
                oc_memory_new_array(&out->probabilities, out->count * horizons * 3, sizeof(float), "predictions"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&out->truth, out->count * horizons, 1, "predictions"));
    OC_TRY_GOTO(status, done, oc_memory_new(&j, sizeof *j, "predictions"));
    memcpy(out->row, samples->row, out->count * sizeof *out->row);
    for (size_t h = 0; h < horizons; h++) {
        for (size_t i = 0; i < out->count; i++) {
            int64_t row = out->row[i];
            out->truth[h * out->count + i] = labels[h]->valid[row] ? labels[h]->class_[row] : -1;
        }
    }
    j->d = d;
    j->out = out;
    status = predict(j, bundle, threads);
done:
    oc_memory_free(j);
    if (status != OC_OK) oc_predictions_free(out);
    return status;
}

void oc_predictions_free(oc_predictions *p)
{
    oc_memory_free(p->row);
    oc_memory_free(p->probabilities);
    oc_memory_free(p->truth);
    memset(p, 0, sizeof *p);
}

/* Row numbers within the symbol, times and symbol indices of every sample. */
static oc_status places_of(const oc_predictions *p, const oc_dataset *d, uint16_t *symbol, int64_t *row,
                           int64_t *time_ns, int8_t *truth)
{
    size_t horizons = (size_t)p->horizons;
    if (d->symbol_count > UINT16_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: %zu symbols, at most %d", d->path, d->symbol_count, UINT16_MAX);
    for (size_t i = 0; i < p->count; i++) {
        size_t at = oc_dataset_symbol_of(d, (size_t)p->row[i]);
        symbol[i] = (uint16_t)at;
        row[i] = p->row[i] - (int64_t)d->symbols[at].first;
        time_ns[i] = d->time_ns[p->row[i]];
        for (size_t h = 0; h < horizons; h++) truth[i * horizons + h] = p->truth[h * p->count + i];
    }
    return OC_OK;
}

/* What the bundle has seen, by the dataset's symbol numbers. */
static oc_status seen_of(const oc_bundle *b, const oc_dataset *d, uint16_t *symbol, int64_t *first, int64_t *last)
{
    for (size_t k = 0; k < b->seen_count; k++) {
        const oc_dataset_symbol *s = oc_dataset_symbol_find(d, b->seen[k].symbol);
        if (!s) return OC_FAIL(OC_EDATA, "%s has no symbol %s, which the model has seen", d->path, b->seen[k].symbol);
        symbol[k] = (uint16_t)(s - d->symbols);
        first[k] = b->seen[k].first_ns;
        last[k] = b->seen[k].last_ns;
    }
    return OC_OK;
}

oc_status oc_predictions_save(const oc_predictions *p, const oc_bundle *b, const oc_dataset *d, const char *split,
                              const char *path)
{
    size_t n = p->count, horizons = (size_t)p->horizons, used = 0;
    char labels[OC_HORIZONS_MAX * 97] = "", (*names)[OC_SYMBOL_BYTES];
    uint16_t *symbol, *seen_symbol;
    int64_t *row, *time_ns, *first, *last;
    int8_t *truth;
    oc_arena arena;
    size_t bytes = oc_align_up(n * 2) + 2 * oc_align_up(n * 8) + oc_align_up(n * horizons) +
                   oc_align_up(d->symbol_count * OC_SYMBOL_BYTES) + 3 * oc_align_up((b->seen_count + 1) * 8);
    OC_TRY(oc_arena_init(&arena, bytes, "predictions"));
    oc_status status;
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &symbol, n * 2, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &row, n * 8, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &time_ns, n * 8, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &truth, n * horizons, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &names, d->symbol_count * OC_SYMBOL_BYTES, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &seen_symbol, (b->seen_count + 1) * 8, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &first, (b->seen_count + 1) * 8, "predictions"));
    OC_TRY_GOTO(status, done, oc_arena_take(&arena, &last, (b->seen_count + 1) * 8, "predictions"));
    OC_TRY_GOTO(status, done, places_of(p, d, symbol, row, time_ns, truth));
    OC_TRY_GOTO(status, done, seen_of(b, d, seen_symbol, first, last));
    for (size_t s = 0; s < d->symbol_count; s++) /* not what lies behind a name's end: the file is the same each time */
        snprintf(names[s], OC_SYMBOL_BYTES, "%s", d->symbols[s].name);
    for (int h = 0; h < p->horizons; h++)
        used += (size_t)snprintf(labels + used, sizeof labels - used, "%s%s", h ? "\n" : "", b->labels[h]);
    oc_prediction_table t = {n,
                             horizons,
                             d->symbol_count,
                             b->seen_count,
                             (const char(*)[OC_SYMBOL_BYTES])names,
                             symbol,
                             seen_symbol,
                             row,
                             time_ns,
                             first,
                             last,
                             p->probabilities,
                             truth,
                             b->weights,
                             d->root,
                             split,
                             labels};
    status = oc_prediction_table_save(&t, path);
done:
    oc_arena_deinit(&arena);
    return status;
}
