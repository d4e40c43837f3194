/* update.c - sums of gradients and the optimiser's step over flat vectors.
 * Bound:  memory; 80,000 parameters (2 x 64) take about 0.1 ms, a training step of 256 windows takes tens of ms. */
#include "kernels/cpu/update.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TREE_WIDTH = 256, SQUARE_LANES = 8, SQUARE_BLOCK = 512 };

/* out[width] = the sum of rows first … first + rows - 1, halves first: ((0+1)+(2+3))+… Depth is log2(rows). */
static void tree(const float *x, int64_t stride, int64_t first, int64_t rows, float *out, int64_t width)
{
    float right[TREE_WIDTH];
    if (rows == 1) {
        memcpy(out, x + first * stride, (size_t)width * sizeof *out);
        return;
    }
    tree(x, stride, first, rows / 2, out, width);
    tree(x, stride, first + rows / 2, rows / 2, right, width);
    for (int64_t i = 0; i < width; i++) out[i] += right[i];
}

oc_status oc_cpu_tree_sum(oc_backend *b, oc_tensor partials, oc_tensor sum)
{
    const int64_t rows = partials.dims[0], width = oc_tensor_count(sum);
    const float *x = partials.data;
    float *out = sum.data;
    (void)b;
    assert(partials.dtype == OC_DTYPE_F32 && sum.dtype == OC_DTYPE_F32 && oc_tensor_count(partials) == rows * width);
    if (!(rows >= 1 && rows <= 1 << 20 && (rows & (rows - 1)) == 0))
        return OC_FAIL(OC_ELIMIT, "tree_sum: %lld partial sums are not a power of two up to 2^20", (long long)rows);
    for (int64_t i = 0; i < width; i += TREE_WIDTH)
        tree(x + i, width, 0, rows, out + i, width - i < TREE_WIDTH ? width - i : TREE_WIDTH);
    return OC_OK;
}

/* Squares of f32 are exact in f64. Lanes inside a block, a tree over lanes, blocks in order: a function of count
 * alone. */
static double square_block(const float *x, int64_t count)
{
    double lane[SQUARE_LANES] = {0};
    int64_t i = 0;
    for (; i + SQUARE_LANES <= count; i += SQUARE_LANES)
        for (int j = 0; j < SQUARE_LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i + j < count; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int width = SQUARE_LANES / 2; width > 0; width /= 2)
        for (int j = 0; j < width; j++) lane[j] += lane[j + width];
    return lane[0];
}

oc_status oc_cpu_square_sum(oc_backend *b, oc_tensor x, double *sum)
{
    const int64_t count = oc_tensor_count(x);
    const float *data = x.data;
    double total = 0;
    (void)b;
    assert(x.dtype == OC_DTYPE_F32);
    for (int64_t i = 0; i < count; i += SQUARE_BLOCK)
        total += square_block(data + i, count - i < SQUARE_BLOCK ? count - i : SQUARE_BLOCK);
    *sum = total;
    return OC_OK;
}

/* x^n by squaring: the same bits everywhere, which libm's pow does not promise. */
static double power(double x, int64_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) result *= x;
    return result;
}

/* [Loshchilov19 alg.2], in the order of torch.optim.AdamW: decay, moments, then p -= rate/c1 * m / (sqrt(v)/sqrt(c2)
 * + e) */
oc_status oc_cpu_adamw(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v)
{
    const int64_t count = oc_tensor_count(p);
    const double correction1 = 1 - power((double)rule->beta1, rule->step);
    const double correction2 = 1 - power((double)rule->beta2, rule->step);
    const float decay = (float)(1 - (double)rule->rate * (double)rule->weight_decay),
                pull = (float)(1 - (double)rule->beta1);
    const float rate = (float)((double)rule->rate / correction1), root = (float)sqrt(correction2);
    const float keep = rule->beta2, add = (float)(1 - (double)rule->beta2), epsilon = rule->epsilon;
    const float scale = rule->gradient_scale;
    float *restrict weight = p.data, *restrict first = m.data, *restrict second = v.data;
    const float *restrict gradient = g.data;
    (void)b;
    assert(rule->step >= 1 && oc_tensor_count(g) == count && oc_tensor_count(m) == count &&
           oc_tensor_count(v) == count);
    for (int64_t i = 0; i < count; i++) {
        const float d = gradient[i] * scale;
        first[i] += (d - first[i]) * pull;
        second[i] = second[i] * keep + add * d * d;
        weight[i] = weight[i] * decay - rate * (first[i] / (sqrtf(second[i]) / root + epsilon));
    }
    return OC_OK;
}

oc_status oc_cpu_blend(oc_backend *b, float keep, oc_tensor x, oc_tensor average)
{
    const int64_t count = oc_tensor_count(x);
    const float add = 1.0f - keep, *restrict from = x.data;
    float *restrict to = average.data;
    (void)b;
    assert(oc_tensor_count(average) == count);
    for (int64_t i = 0; i < count; i++) to[i] = keep * to[i] + add * from[i];
    return OC_OK;
}

oc_status oc_cpu_fill(oc_backend *b, float value, oc_tensor x)
{
    const int64_t count = oc_tensor_count(x);
    float *to = x.data;
    (void)b;
    assert(x.dtype == OC_DTYPE_F32);
    for (int64_t i = 0; i < count; i++) to[i] = value;
    return OC_OK;
}
