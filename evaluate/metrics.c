/* metrics.c - figures of three-class probabilities; everything but the probabilities comes from the confusion table. */
#include "evaluate/metrics.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static const double LOSS_FLOOR = 1e-15;

int oc_argmax3(const float *p)
{
    int best = 0;
    for (int k = 1; k < 3; k++) {
        if (p[k] > p[best]) best = k;
    }
    return best;
}

double oc_log_loss_of(float p)
{
    return -log((double)p > LOSS_FLOOR ? (double)p : LOSS_FLOOR);
}

static double share(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0.0;
}

/* R_K: covariance of truth and prediction over classes, normalised [Gorodkin04 eq.8]. */
static double mcc_of(const uint64_t confusion[3][3], uint64_t count)
{
    double n = (double)count, correct = 0, cross = 0, truth_square = 0, predicted_square = 0;
    for (int k = 0; k < 3; k++) {
        double truth = 0, predicted = 0;
        for (int j = 0; j < 3; j++) {
            truth += (double)confusion[k][j];
            predicted += (double)confusion[j][k];
        }
        correct += (double)confusion[k][k];
        cross += truth * predicted;
        truth_square += truth * truth;
        predicted_square += predicted * predicted;
    }
    double scale = sqrt(n * n - predicted_square) * sqrt(n * n - truth_square);
    return scale > 0 ? (correct * n - cross) / scale : 0.0;
}

void oc_metrics_of_confusion(oc_metrics *out)
{
    uint64_t correct = 0;
    double f1_sum = 0;
    out->count = 0;
    for (int k = 0; k < 3; k++) {
        uint64_t truth = 0, predicted = 0, hit = out->confusion[k][k];
        for (int j = 0; j < 3; j++) {
            truth += out->confusion[k][j];
            predicted += out->confusion[j][k];
        }
        out->count += truth;
        correct += hit;
        out->precision[k] = share(hit, predicted);
        out->recall[k] = share(hit, truth);
        out->f1[k] = share(2 * hit, truth + predicted);
        f1_sum += out->f1[k];
    }
    out->accuracy = share(correct, out->count);
    out->macro_f1 = f1_sum / 3;
    out->mcc = mcc_of((const uint64_t(*)[3])out->confusion, out->count);
}

static bool is_distribution(const float *p)
{
    double sum = 0;
    for (int k = 0; k < 3; k++) {
        if (!(p[k] >= 0 && p[k] <= 1)) return false;
        sum += (double)p[k];
    }
    return fabs(sum - 1) <= 1e-5;
}

static void bins_finish(oc_metrics *out)
{
    out->ece = 0;
    for (int b = 0; b < OC_BINS; b++) {
        oc_reliability_bin *bin = &out->bin[b];
        if (bin->count == 0) continue;
        bin->confidence /= (double)bin->count;
        bin->accuracy /= (double)bin->count;
        out->ece += (double)bin->count / (double)out->count * fabs(bin->accuracy - bin->confidence);
    }
}

oc_status oc_metrics_compute(oc_metrics *out, const float *p, const int8_t *truth, size_t count)
{
    memset(out, 0, sizeof *out);
    if (count == 0) return OC_FAIL(OC_EDATA, "metrics: there is no sample");
    double brier = 0, loss = 0;
    for (size_t i = 0; i < count; i++) {
        const float *q = p + 3 * i;
        if (!is_distribution(q))
            return OC_FAIL(OC_EDATA, "metrics: sample %zu: %g, %g, %g are no probabilities", i, (double)q[0],
                           (double)q[1], (double)q[2]);
        if (!(truth[i] >= 0 && truth[i] <= 2)) return OC_FAIL(OC_EDATA, "metrics: sample %zu: class %d", i, truth[i]);
        int top = oc_argmax3(q);
        out->confusion[truth[i]][top]++;
        loss += oc_log_loss_of(q[truth[i]]);
        for (int k = 0; k < 3; k++) {
            double error = (double)q[k] - (k == truth[i] ? 1.0 : 0.0);
            brier += error * error;
        }
        int b = (int)((double)q[top] * OC_BINS); /* right-open bins, the last one closed */
        oc_reliability_bin *bin = &out->bin[b < OC_BINS ? b : OC_BINS - 1];
        bin->count++;
        bin->confidence += (double)q[top];
        bin->accuracy += top == truth[i] ? 1.0 : 0.0;
    }
    oc_metrics_of_confusion(out);
    out->brier = brier / (double)count;
    out->log_loss = loss / (double)count;
    bins_finish(out);
    return OC_OK;
}
