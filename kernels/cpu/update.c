/* update.c - sums of gradients and the optimiser's step over flat vectors.
 * Bound:  memory; 80,000 parameters (2 x 64) take about 0.1 ms, a training step of 256 windows takes tens of ms. */
#include "kernels/cpu/update.h"

#include <assert.h>
#include <math.h>
#include <string.h>
#include "base/random.h"
#include "kernels/step.h"

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
    const int64_t rows = partials.dims[0], width = oc_tensor_count(sum), all = oc_tensor_count(partials);
    const float *x = partials.data;
    float *out = sum.data;
    (void)b;
    assert(partials.dtype == OC_DTYPE_F32 && sum.dtype == OC_DTYPE_F32 && all % rows == 0 && width <= all / rows);
    if (!(rows >= 1 && rows <= 1 << 20 && (rows & (rows - 1)) == 0))
        return OC_FAIL(OC_ELIMIT, "tree_sum: %lld partial sums are not a power of two up to 2^20", (long long)rows);
    for (int64_t i = 0; i < width; i += TREE_WIDTH)
        tree(x + i, all / rows, 0, rows, out + i, width - i < TREE_WIDTH ? width - i : TREE_WIDTH);
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

/* Numbers of one step of AdamW over a flat vector. */
typedef struct adamw_step {
    float scale, pull, keep, add, decay, rate, root, epsilon;
} adamw_step;

/* [Loshchilov19 alg.2], in the order of torch.optim.AdamW: decay, moments, then p -= rate/c1 * m / (sqrt(v)/sqrt(c2)
 * + e) */
static void adamw_run(const adamw_step *s, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v)
{
    const int64_t count = oc_tensor_count(p);
    const adamw_step a = *s;
    float *restrict weight = p.data, *restrict first = m.data, *restrict second = v.data;
    const float *restrict gradient = g.data;
    assert(oc_tensor_count(g) == count && oc_tensor_count(m) == count && oc_tensor_count(v) == count);
    for (int64_t i = 0; i < count; i++) {
        const float d = gradient[i] * a.scale;
        first[i] += (d - first[i]) * a.pull;
        second[i] = second[i] * a.keep + a.add * d * d;
        weight[i] = weight[i] * a.decay - a.rate * (first[i] / (sqrtf(second[i]) / a.root + a.epsilon));
    }
}

oc_status oc_cpu_adamw(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v)
{
    const double correction1 = 1 - oc_step_power((double)rule->beta1, rule->step);
    const double correction2 = 1 - oc_step_power((double)rule->beta2, rule->step);
    const adamw_step s = {.scale = rule->gradient_scale,
                          .pull = (float)(1 - (double)rule->beta1),
                          .keep = rule->beta2,
                          .add = (float)(1 - (double)rule->beta2),
                          .decay = (float)(1 - (double)rule->rate * (double)rule->weight_decay),
                          .rate = (float)((double)rule->rate / correction1),
                          .root = (float)sqrt(correction2),
                          .epsilon = rule->epsilon};
    (void)b;
    assert(rule->step >= 1);
    adamw_run(&s, p, g, m, v);
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

/* ---------------------------------------------------------------- a step whose numbers lie in memory */
oc_status oc_cpu_step_begin(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                            oc_tensor indices, oc_tensor targets, int64_t first, oc_tensor index, oc_tensor target)
{
    const int64_t count = oc_tensor_count(index), batch = indices.dims[1], horizons = targets.dims[2];
    const int64_t *windows = indices.data;
    const int32_t *classes = targets.data;
    (void)b;
    if (!(step->turn >= 0 && step->turn < indices.dims[0]))
        return OC_FAIL(OC_EDATA, "step_begin: turn %lld has no plan", (long long)step->turn);
    assert(first >= 0 && first + count <= batch && oc_tensor_count(target) == count * horizons);
    step->loss_sum = step->weight_sum = 0;
    for (uint32_t i = 0; i < OC_STEP_KEYS; i++)
        step->keys[i] = oc_random_key(rule->seed, OC_RANDOM_DROPOUT, plans[step->turn].step, i);
    const int64_t from = step->turn * batch + first;
    memcpy(index.data, windows + from, (size_t)count * sizeof *windows);
    memcpy(target.data, classes + from * horizons, (size_t)(count * horizons) * sizeof *classes);
    return OC_OK;
}

oc_status oc_cpu_step_decide(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                             oc_step_result *results, int64_t count)
{
    (void)b;
    if (!(step->turn >= 0 && step->turn < count))
        return OC_FAIL(OC_EDATA, "step_decide: turn %lld has no plan", (long long)step->turn);
    oc_step_decide(rule, plans[step->turn].rate, step);
    results[step->turn++] = (oc_step_result){step->loss_sum, step->weight_sum, step->norm, step->finite};
    return OC_OK;
}

oc_status oc_cpu_step_apply(oc_backend *b, const oc_step_rule *rule, const oc_step *step, oc_tensor p, oc_tensor g,
                            oc_tensor m, oc_tensor v, oc_tensor average)
{
    const adamw_step s = {.scale = step->gradient_scale,
                          .pull = (float)(1 - (double)rule->beta1),
                          .keep = rule->beta2,
                          .add = (float)(1 - (double)rule->beta2),
                          .decay = step->decay,
                          .rate = step->rate,
                          .root = step->root,
                          .epsilon = rule->epsilon};
    if (!step->finite) return OC_OK;
    adamw_run(&s, p, g, m, v);
    if (average.data) OC_TRY(oc_cpu_blend(b, step->keep, p, average));
    return OC_OK;
}
