/* scaler.c - mean and deviation of each feature, over training rows alone: a row counts once, however many windows hold
 * it. */
#include <math.h>

#include "base/memory.h"
#include "train/plan.h"

typedef struct column {
    double sum, squares;
    float low, high;
} column;

/* Runs of rows that some window covers: samples ascend, so each begins at its window's first row or after the last run.
 */
typedef struct run_walk {
    const oc_samples *samples;
    int64_t steps, next;
    size_t at;
} run_walk;

static bool run_next(run_walk *w, int64_t *first, int64_t *last)
{
    if (w->at == w->samples->count) return false;
    int64_t row = w->samples->row[w->at++], begin = row - w->steps + 1;
    *first = begin > w->next ? begin : w->next;
    *last = w->next = row + 1;
    return true;
}

static oc_status row_add(const oc_dataset *d, int64_t row, column *columns)
{
    const float *x = d->x + (size_t)row * d->width;
    for (size_t f = 0; f < d->width; f++) {
        if (!isfinite(x[f]))
            return OC_FAIL(OC_EDATA, "%s: feature %s is not finite in row %lld of %s", d->path, d->features[f],
                           (long long)((size_t)row - d->symbols[oc_dataset_symbol_of(d, (size_t)row)].first),
                           d->symbols[oc_dataset_symbol_of(d, (size_t)row)].name);
        columns[f].sum += (double)x[f];
        if (x[f] < columns[f].low) columns[f].low = x[f];
        if (x[f] > columns[f].high) columns[f].high = x[f];
    }
    return OC_OK;
}

static oc_status sums_take(const oc_dataset *d, run_walk walk, column *columns, size_t *rows)
{
    int64_t first, last;
    for (size_t f = 0; f < d->width; f++) columns[f] = (column){.low = INFINITY, .high = -INFINITY};
    for (*rows = 0; run_next(&walk, &first, &last);) {
        for (int64_t row = first; row < last; row++, ++*rows) OC_TRY(row_add(d, row, columns));
    }
    return OC_OK;
}

static void squares_take(const oc_dataset *d, run_walk walk, const double *mean, column *columns)
{
    for (int64_t first, last; run_next(&walk, &first, &last);) {
        for (int64_t row = first; row < last; row++) {
            const float *x = d->x + (size_t)row * d->width;
            for (size_t f = 0; f < d->width; f++)
                columns[f].squares += ((double)x[f] - mean[f]) * ((double)x[f] - mean[f]);
        }
    }
}

static oc_status fit(const oc_dataset *d, run_walk walk, column *columns, double *mean, double *scale)
{
    size_t rows;
    OC_TRY(sums_take(d, walk, columns, &rows));
    for (size_t f = 0; f < d->width; f++) mean[f] = columns[f].sum / (double)rows;
    squares_take(d, walk, mean, columns);
    for (size_t f = 0; f < d->width; f++) {
        scale[f] = sqrt(columns[f].squares / (double)rows);
        if (!(columns[f].high > columns[f].low) || !((float)scale[f] > 0 && isfinite((float)scale[f])))
            return OC_FAIL(
                OC_EDATA,
                "%s: feature %s does not vary over the %zu training rows (always %.9g): a model cannot learn "
                "from it, and its scale would be zero; leave it out of the build config and build again",
                d->path, d->features[f], rows, (double)columns[f].low);
    }
    return OC_OK;
}

oc_status train_scaler_fit(const oc_dataset *d, const oc_samples *samples, int steps, double *mean, double *scale)
{
    column *columns;
    OC_TRY(oc_memory_new_array(&columns, d->width, sizeof *columns, "scaler"));
    oc_status status = fit(d, (run_walk){.samples = samples, .steps = steps}, columns, mean, scale);
    oc_memory_free(columns);
    return status;
}
