/* figures.c - sums over the batchers. oc_batcher_stats and oc_histogram are made of 64-bit counters alone. */
#include <math.h>
#include <string.h>

#include "serve/metrics.h"

static void counters_add(void *to, const void *from, size_t bytes)
{
    uint64_t *out = to;
    const uint64_t *in = from;
    for (size_t i = 0; i < bytes / sizeof *out; i++) out[i] += __atomic_load_n(&in[i], __ATOMIC_RELAXED);
}

static void observed_add(oc_figures *out, const oc_observed *o)
{
    counters_add(&out->queue, &o->queue, sizeof o->queue);
    counters_add(&out->service, &o->service, sizeof o->service);
    counters_add(&out->whole, &o->whole, sizeof o->whole);
    counters_add(out->batches, o->batches, sizeof o->batches);
    counters_add(out->batches_ns, o->batches_ns, sizeof o->batches_ns);
    counters_add(&out->in_queue, &o->in_queue, sizeof o->in_queue);
    const int64_t last = __atomic_load_n(&o->last_ns, __ATOMIC_RELAXED);
    if (last > out->last_ns) out->last_ns = last;
}

static uint64_t drift_gather(const oc_batcher *batchers, int batcher_count, float *mean, float *variance)
{
    const int inputs = batchers[0].observed.inputs;
    double weight[2] = {0, 0}; /* so far, and of this batcher */
    uint64_t all = 0;
    for (int i = 0; i < batcher_count; i++) {
        float m[OC_INPUTS_MAX], v[OC_INPUTS_MAX];
        const uint64_t rows = __atomic_load_n(&batchers[i].observed.rows, __ATOMIC_RELAXED);
        all += rows;
        weight[1] = (double)(rows < OC_DRIFT_ROWS ? rows : OC_DRIFT_ROWS);
        const float part = weight[1] > 0 ? (float)(weight[1] / (weight[0] + weight[1])) : 0;
        weight[0] += weight[1];
        oc_observed_drift(&batchers[i].observed, m, v);
        for (int k = 0; k < inputs; k++) {
            const float off = i == 0 ? 0 : m[k] - mean[k];
            mean[k] = i == 0 ? m[k] : mean[k] + part * off;
            variance[k] = i == 0 ? v[k] : (1 - part) * variance[k] + part * v[k] + part * (1 - part) * off * off;
        }
    }
    return all;
}

/* The batchers count in units of the version that they began with. */
uint64_t oc_figures_drift(const oc_batcher *batchers, int batcher_count, const oc_scaling *live, float *mean,
                          float *variance)
{
    const oc_observed *o = &batchers[0].observed;
    const uint64_t rows = drift_gather(batchers, batcher_count, mean, variance);
    for (int k = 0; k < o->inputs; k++) {
        const double ratio = 1 / ((double)o->scales[k] * (double)live->scale[k]),
                     moved = ((double)o->means[k] - (double)live->mean[k]) / (double)live->scale[k];
        mean[k] = (float)((double)mean[k] * ratio + moved);
        variance[k] = (float)((double)variance[k] * ratio * ratio);
    }
    return rows;
}

static void batches_sum(oc_figures *out)
{
    int size = 0;
    for (uint64_t n = 1; n <= OC_OBSERVED_BATCH_MAX; n++) {
        if (n > UINT64_C(1) << size) size++;
        out->sizes[size] += out->batches[n - 1];
        out->batch_count += out->batches[n - 1];
        out->batch_requests += out->batches[n - 1] * n;
        out->batch_ns += out->batches_ns[n - 1];
    }
}

static void drift_sum(oc_figures *out, const oc_batcher *batchers, int batcher_count, const oc_scaling *live)
{
    float mean[OC_INPUTS_MAX], variance[OC_INPUTS_MAX];
    out->spread_max = 1;
    out->rows = oc_figures_drift(batchers, batcher_count, live, mean, variance);
    if (out->rows < OC_DRIFT_ROWS_MIN) return;
    for (int k = 0; k < batchers[0].observed.inputs; k++) {
        const double shift = fabs((double)mean[k]), deviation = sqrt((double)variance[k]),
                     spread = deviation > 1 ? deviation : 1 / fmax(deviation, 1e-6);
        out->drifted += !(shift <= OC_DRIFT_SHIFT && spread <= OC_DRIFT_SPREAD);
        if (!(shift <= out->shift_max)) out->shift_max = shift, out->shift_at = k;
        if (!(spread <= out->spread_max)) out->spread_max = spread, out->spread_at = k;
    }
}

void oc_figures_sum(oc_figures *out, const oc_batcher *batchers, int batcher_count, const oc_scaling *live)
{
    memset(out, 0, sizeof *out);
    for (int i = 0; i < batcher_count; i++) {
        const oc_batcher *e = &batchers[i];
        const uint64_t most = out->stats.difference_max_ppb,
                       theirs = __atomic_load_n(&e->stats.difference_max_ppb, __ATOMIC_RELAXED);
        counters_add(&out->stats, &e->stats, sizeof e->stats);
        out->stats.difference_max_ppb = most > theirs ? most : theirs;
        observed_add(out, &e->observed);
        const double load = 1e-9 * (double)__atomic_load_n(&e->stats.load_ppb, __ATOMIC_RELAXED);
        if (load / e->budget > out->budget_used) out->budget_used = load / e->budget;
    }
    batches_sum(out);
    drift_sum(out, batchers, batcher_count, live);
}
