/* baselines.c - class shares, last known label, logistic regression: fitted on train, asked on test. */
#include "evaluate/baselines.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

static const double LOGISTIC_L2 = 1e-4;
enum { LOGISTIC_SAMPLES_MAX = 100000 }; /* of training: evenly strided beyond, so that the fit stays within seconds */

static void shares_of(const oc_dataset_label *label, const oc_samples *train, double shares[3])
{
    double counts[3] = {1, 1, 1}, sum = 3; /* Laplace: a class never seen is unlikely, not impossible */
    for (size_t i = 0; i < train->count; i++) counts[label->class_[train->row[i]]]++;
    sum += (double)train->count;
    for (int k = 0; k < 3; k++) shares[k] = counts[k] / sum;
}

static void put(float *p, const double q[3])
{
    for (int k = 0; k < 3; k++) p[k] = (float)q[k];
}

static oc_status predict_majority(const oc_dataset *d, const oc_dataset_label *label, const oc_samples *train,
                                  const oc_samples *test, float *p)
{
    (void)d;
    double shares[3];
    shares_of(label, train, shares);
    for (size_t i = 0; i < test->count; i++) put(p + 3 * i, shares);
    return OC_OK;
}

/* Latest row of the same symbol whose valid label is known at `row`'s time, -1 where none. known_ns rises with the row
 * within a symbol for labels of fixed horizon; *cursor goes along with rising rows, so a pass costs O(rows). */
static int64_t latest_known(const oc_dataset *d, const oc_dataset_label *label, int64_t row, int64_t *cursor,
                            int64_t *best)
{
    const oc_dataset_symbol *s = &d->symbols[oc_dataset_symbol_of(d, (size_t)row)];
    if (*cursor < (int64_t)s->first || *cursor > row) {
        *cursor = (int64_t)s->first;
        *best = -1;
    }
    for (; *cursor < row && (!label->valid[*cursor] || label->known_ns[*cursor] <= d->time_ns[row]); (*cursor)++) {
        if (label->valid[*cursor]) *best = *cursor;
    }
    return *best;
}

static oc_status predict_persistence(const oc_dataset *d, const oc_dataset_label *label, const oc_samples *train,
                                     const oc_samples *test, float *p)
{
    double table[3][3], shares[3];
    int64_t cursor = -1, best = -1;
    shares_of(label, train, shares);
    for (int a = 0; a < 3; a++) {
        for (int b = 0; b < 3; b++) table[a][b] = 1;
    }
    for (size_t i = 0; i < train->count; i++) {
        int64_t before = latest_known(d, label, train->row[i], &cursor, &best);
        if (before >= 0) table[label->class_[before]][label->class_[train->row[i]]]++;
    }
    for (int a = 0; a < 3; a++) {
        double sum = table[a][0] + table[a][1] + table[a][2];
        for (int b = 0; b < 3; b++) table[a][b] /= sum;
    }
    cursor = best = -1;
    for (size_t i = 0; i < test->count; i++) {
        int64_t before = latest_known(d, label, test->row[i], &cursor, &best);
        put(p + 3 * i, before >= 0 ? table[label->class_[before]] : shares);
    }
    return OC_OK;
}

typedef struct scaling {
    double mean[OC_FEATURES_MAX], scale[OC_FEATURES_MAX];
} scaling;

static void scaling_fit(scaling *s, const oc_dataset *d, const oc_samples *train)
{
    for (size_t f = 0; f < d->width; f++) {
        double sum = 0, square = 0, n = (double)train->count;
        for (size_t i = 0; i < train->count; i++) sum += (double)d->x[(size_t)train->row[i] * d->width + f];
        s->mean[f] = sum / n;
        for (size_t i = 0; i < train->count; i++) {
            double e = (double)d->x[(size_t)train->row[i] * d->width + f] - s->mean[f];
            square += e * e;
        }
        s->scale[f] = square > 0 ? sqrt(square / n) : 1.0; /* a constant column scales to 0 and is harmless here */
    }
}

static void scaled(const scaling *s, const oc_dataset *d, int64_t row, double *out)
{
    for (size_t f = 0; f < d->width; f++) {
        double z = ((double)d->x[(size_t)row * d->width + f] - s->mean[f]) / s->scale[f];
        out[f] = z > 8 ? 8 : z < -8 ? -8 : z;
    }
}

static oc_status predict_logistic(const oc_dataset *d, const oc_dataset_label *label, const oc_samples *train,
                                  const oc_samples *test, float *p)
{
    double *x = NULL, weights[3 * (OC_FEATURES_MAX + 1)], row[OC_FEATURES_MAX];
    int8_t *class_ = NULL;
    scaling *s = NULL;
    oc_status status;
    size_t stride = (train->count + LOGISTIC_SAMPLES_MAX - 1) / LOGISTIC_SAMPLES_MAX,
           count = (train->count + stride - 1) / stride;
    OC_TRY_GOTO(status, done, oc_memory_new(&s, sizeof *s, "logistic regression"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&x, count * d->width, sizeof *x, "logistic regression"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&class_, count, sizeof *class_, "logistic regression"));
    scaling_fit(s, d, train);
    for (size_t i = 0; i < count; i++) {
        scaled(s, d, train->row[i * stride], x + i * d->width);
        class_[i] = label->class_[train->row[i * stride]];
    }
    OC_TRY_GOTO(status, done, oc_logistic_fit(x, class_, count, d->width, LOGISTIC_L2, weights));
    for (size_t i = 0; i < test->count; i++) {
        scaled(s, d, test->row[i], row);
        oc_logistic_predict(weights, row, d->width, p + 3 * i);
    }
done:
    oc_memory_free(class_);
    oc_memory_free(x);
    oc_memory_free(s);
    return status;
}

static const struct {
    const char *name;
    oc_status (*predict)(const oc_dataset *, const oc_dataset_label *, const oc_samples *, const oc_samples *, float *);
} baselines[OC_BASELINE_COUNT] = {
    [OC_BASELINE_MAJORITY] = {"majority", predict_majority},
    [OC_BASELINE_PERSISTENCE] = {"persistence", predict_persistence},
    [OC_BASELINE_LOGISTIC] = {"logistic", predict_logistic},
};

const char *oc_baseline_name(oc_baseline b)
{
    return baselines[b].name;
}

oc_status oc_baseline_predict(oc_baseline b, const oc_dataset *d, const oc_dataset_label *label,
                              const oc_samples *train, const oc_samples *test, float *p)
{
    if (train->count == 0 || test->count == 0)
        return OC_FAIL(OC_EDATA, "%s: baseline %s: %zu training and %zu test samples", d->path, baselines[b].name,
                       train->count, test->count);
    OC_TRY(baselines[b].predict(d, label, train, test, p));
    return OC_OK;
}
