/* temperature.c - log loss, and the one number that calibrates a model [Guo17]. With b = 1 / temperature the loss is
 * convex in b, its derivative E_p[z] - z_target is monotone: bisection of log b, always the same number of halvings. */
#include "train/train.h"

#include "base/mathf.h"

enum { HALVINGS = 48 };
static const double inverse_min = 0.05, inverse_max = 20;

/* Loss and, where slope is not NULL, its derivative by b of one answer. */
static double one_loss(const float *z, int32_t target, double b, double *slope)
{
    double largest = (double)z[0], sum = 0, mean = 0;
    for (int i = 1; i < OC_CLASSES; i++) largest = (double)z[i] > largest ? (double)z[i] : largest;
    for (int i = 0; i < OC_CLASSES; i++) {
        double e = oc_expd(((double)z[i] - largest) * b);
        sum += e;
        mean += e * (double)z[i];
    }
    if (slope) *slope = mean / sum - (double)z[target];
    return oc_logd(sum) - ((double)z[target] - largest) * b;
}

double oc_log_loss(const float *logits, const int32_t *target, size_t count, int horizons, const double *temperature)
{
    double sum = 0;
    size_t counted = 0;
    for (size_t i = 0; i < count * (size_t)horizons; i++) {
        if (target[i] < 0) continue;
        sum +=
            one_loss(logits + i * OC_CLASSES, target[i], temperature ? 1 / temperature[i % (size_t)horizons] : 1, NULL);
        counted++;
    }
    return sum / (double)counted;
}

static double slope_at(const float *logits, const int32_t *target, size_t count, int horizons, int horizon, double b)
{
    double sum = 0, slope;
    for (size_t i = (size_t)horizon; i < count * (size_t)horizons; i += (size_t)horizons) {
        if (target[i] < 0) continue;
        (void)one_loss(logits + i * OC_CLASSES, target[i], b, &slope);
        sum += slope;
    }
    return sum;
}

void oc_temperature_fit(const float *logits, const int32_t *target, size_t count, int horizons, double *temperature)
{
    for (int h = 0; h < horizons; h++) {
        double low = oc_logd(inverse_min), high = oc_logd(inverse_max);
        for (int i = 0; i < HALVINGS; i++) {
            double middle = 0.5 * (low + high);
            if (slope_at(logits, target, count, horizons, h, oc_expd(middle)) < 0)
                low = middle; /* a NaN lowers b: no confidence */
            else
                high = middle;
        }
        temperature[h] = oc_expd(-0.5 * (low + high));
    }
}
