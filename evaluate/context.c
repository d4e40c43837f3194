/* context.c - opens what an evaluation needs and refuses what does not belong together. */
#include "evaluate/context.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The largest number of rows between a sample and the row at which its label is known, over a few samples. */
static size_t rows_ahead(const oc_dataset *d, const oc_dataset_label *label, const oc_samples *samples)
{
    size_t most = 1;
    for (size_t i = 0; i < samples->count; i += 1 + samples->count / 64) {
        size_t row = (size_t)samples->row[i], ahead = 0;
        const oc_dataset_symbol *s = &d->symbols[oc_dataset_symbol_of(d, row)];
        while (row + ahead + 1 < s->first + s->rows && d->time_ns[row + ahead] < label->known_ns[row]) ahead++;
        most = ahead > most ? ahead : most;
    }
    return most;
}

static oc_status fold_find(evaluation *e)
{
    const oc_bundle *b = e->bundle;
    char want[OC_HASH_TEXT], have[OC_HASH_TEXT];
    if (!oc_hash_equal(b->dataset, e->d->root))
        return OC_FAIL(OC_EDATA, "%s was trained on the dataset %s; %s is %s: its splits are unknown here",
                       e->options->model, oc_hash_text(b->dataset, want), e->d->path, oc_hash_text(e->d->root, have));
    OC_TRY(oc_folds_open(&e->folds, b->folds, b->embargo_ns, e->d));
    if (!(b->fold_index >= 0 && (size_t)b->fold_index < e->folds->count))
        return OC_FAIL(OC_EDATA, "%s: fold %lld of %zu in %s", e->options->model, (long long)b->fold_index,
                       e->folds->count, b->folds);
    e->fold = &e->folds->fold[b->fold_index];
    oc_hash hash = oc_fold_hash(e->fold, b->embargo_ns);
    if (!oc_hash_equal(hash, b->fold))
        return OC_FAIL(OC_EDATA, "%s was trained on fold %s, %s now gives %s", e->options->model,
                       oc_hash_text(b->fold, want), b->folds, oc_hash_text(hash, have));
    return OC_OK;
}

typedef struct dated {
    int64_t time_ns;
    uint32_t sample;
} dated;

static int dated_order(const void *a, const void *b)
{
    const dated *x = a, *y = b;
    if (x->time_ns != y->time_ns) return x->time_ns < y->time_ns ? -1 : 1;
    return x->sample < y->sample ? -1 : x->sample > y->sample;
}

/* Symbols of one moment move together. In the dataset's order, symbol by symbol, the bootstrap would draw them apart,
 * as if each were evidence of its own, and the intervals would be too narrow by up to the root of their number. */
static oc_status order_make(evaluation *e)
{
    const oc_samples *s = &e->samples;
    dated *all;
    e->symbols = 0;
    for (size_t i = 0; i < s->count; i++)
        e->symbols += i == 0 || oc_dataset_symbol_of(e->d, (size_t)s->row[i]) !=
                                    oc_dataset_symbol_of(e->d, (size_t)s->row[i - 1]);
    if (e->symbols <= 1) return OC_OK;
    if (s->count > UINT32_MAX) return OC_FAIL(OC_ELIMIT, "%s: %zu samples are too many to judge", e->d->path, s->count);
    OC_TRY(oc_memory_new_array(&e->order, s->count, sizeof *e->order, "evaluation"));
    OC_TRY(oc_memory_new_array(&all, s->count, sizeof *all, "evaluation"));
    for (size_t i = 0; i < s->count; i++) all[i] = (dated){e->d->time_ns[s->row[i]], (uint32_t)i};
    qsort(all, s->count, sizeof *all, dated_order);
    for (size_t i = 0; i < s->count; i++) e->order[i] = all[i].sample;
    oc_memory_free(all);
    return OC_OK;
}

oc_status evaluation_open(evaluation *e, const oc_evaluate_options *o, const oc_dataset *d)
{
    memset(e, 0, sizeof *e);
    e->options = o;
    e->d = d;
    OC_TRY(oc_bundle_load(&e->bundle, o->model));
    size_t horizons = (size_t)e->bundle->shape.horizons;
    int steps = e->bundle->shape.steps;
    OC_TRY(oc_predictions_labels(e->bundle, d, o->model, e->labels));
    OC_TRY(fold_find(e));
    OC_TRY(oc_samples_select(&e->train, d, e->fold, e->bundle->embargo_ns, OC_SPLIT_TRAIN, steps, e->labels, horizons));
    OC_TRY(oc_samples_select(&e->valid, d, e->fold, e->bundle->embargo_ns, OC_SPLIT_VALID, steps, e->labels, horizons));
    OC_TRY(oc_samples_select(&e->samples, d, e->fold, e->bundle->embargo_ns, o->split, steps, e->labels, horizons));
    if (e->samples.count == 0)
        return OC_FAIL(OC_EDATA,
                       "%s: the %s split of %s holds no sample (left out: %zu without a full window of %d rows, %zu "
                       "without a label, %zu purged, %zu embargoed)",
                       d->path, oc_split_name[o->split], e->fold->name, e->samples.without_window, steps,
                       e->samples.without_label, e->samples.purged, e->samples.embargoed);
    OC_TRY(order_make(e));
    for (size_t h = 0; h < horizons; h++) e->horizon_rows[h] = rows_ahead(d, e->labels[h], &e->samples);
    return OC_OK;
}

void evaluation_close(evaluation *e)
{
    oc_predictions_free(&e->predictions);
    oc_memory_free(e->order);
    oc_samples_free(&e->train);
    oc_samples_free(&e->valid);
    oc_samples_free(&e->samples);
    oc_folds_close(e->folds);
    oc_bundle_close(e->bundle);
    memset(e, 0, sizeof *e);
}
