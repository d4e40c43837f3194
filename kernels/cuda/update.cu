/* update.cu - sums of gradients and the optimiser's step over flat vectors. Bound: memory, or the launch: 80,000
 * parameters (2 x 64) are 320 kB. The formulas and their order are those of kernels/cpu/update.c: the CPU's bits, but
 * for square_sum, whose tree is another (as fixed). Not run on a GPU. */
#include <math.h>
#include "kernels/cuda/ops_cuda.cuh"

static constexpr int THREADS = 256, TREE_DEPTH = 21;

/* Rows 0 … rows - 1 of one column as a tree, halves first: a stack of sums of 1, 2, 4 … rows, as a binary counter. */
static __global__ void tree_sum(const float *x, int64_t rows, int64_t stride, int64_t width, float *sum)
{
    for (int64_t j = oc_thread_first(); j < width; j += oc_thread_step()) {
        float level[TREE_DEPTH];
        for (int64_t r = 0; r < rows; r++) {
            float s = x[r * stride + j];
            int up = 0;
            for (; r >> up & 1; up++) s = level[up] + s;
            level[up] = s;
            if (r == rows - 1) sum[j] = s;
        }
    }
}

oc_status oc_cuda_tree_sum(oc_backend *b, oc_tensor partials, oc_tensor sum)
{
    const int64_t rows = partials.dims[0], width = oc_cuda_count(sum), all = oc_cuda_count(partials);
    assert(all % rows == 0 && width <= all / rows);
    if (!(rows >= 1 && rows <= 1 << (TREE_DEPTH - 1) && (rows & (rows - 1)) == 0))
        return OC_FAIL(OC_ELIMIT, "tree_sum: %lld partial sums are not a power of two up to 2^20", (long long)rows);
    OC_LAUNCH(b, tree_sum, oc_flat_grid(b, width), OC_FLAT_THREADS, 0, (const float *)partials.data, rows, all / rows,
              width, (float *)sum.data);
    return OC_OK;
}

static constexpr int SQUARE_BLOCKS = 128, SQUARE_EACH = 16; /* a fixed function of the count, not of the device */

static __global__ void __launch_bounds__(THREADS) square_parts(const float *x, int64_t count, double *parts)
{
    double sum = 0;
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) sum += (double)x[i] * (double)x[i];
    sum = oc_block_sum<double, THREADS>(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS) square_finish(const double *parts, int count, double *sum)
{
    const double all = oc_block_sum<double, THREADS>((int)threadIdx.x < count ? parts[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) *sum = all;
}

oc_status oc_cuda_square_sum(oc_backend *b, oc_tensor x, double *sum)
{
    const int64_t count = oc_cuda_count(x), wanted = (count + THREADS * SQUARE_EACH - 1) / (THREADS * SQUARE_EACH);
    const int blocks = (int)(wanted < 1 ? 1 : wanted < SQUARE_BLOCKS ? wanted : SQUARE_BLOCKS);
    static_assert(SQUARE_BLOCKS <= THREADS && SQUARE_BLOCKS <= OC_CUDA_PARTS, "one block adds the parts");
    OC_LAUNCH(b, square_parts, blocks, THREADS, 0, (const float *)x.data, count, oc_cuda_of(b)->parts);
    OC_LAUNCH(b, square_finish, 1, THREADS, 0, (const double *)oc_cuda_of(b)->parts, blocks, sum);
    return OC_OK;
}

typedef struct adamw_step {
    float scale, pull, keep, add, decay, rate, root, epsilon;
} adamw_step;

static __global__ void adamw(adamw_step s, int64_t count, float *p, const float *g, float *m, float *v)
{
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        const float d = g[i] * s.scale;
        const float first = m[i] + (d - m[i]) * s.pull, second = v[i] * s.keep + s.add * d * d;
        m[i] = first;
        v[i] = second;
        p[i] = p[i] * s.decay - s.rate * (first / (sqrtf(second) / s.root + s.epsilon));
    }
}

static double power(double x, int64_t n)
{
    double result = 1;
    for (; n > 0; n >>= 1, x *= x)
        if (n & 1) result *= x;
    return result;
}

oc_status oc_cuda_adamw(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v)
{
    const int64_t count = oc_cuda_count(p);
    const double correction1 = 1 - power((double)rule->beta1, rule->step);
    const double correction2 = 1 - power((double)rule->beta2, rule->step);
    const adamw_step s = {rule->gradient_scale,
                          (float)(1 - (double)rule->beta1),
                          rule->beta2,
                          (float)(1 - (double)rule->beta2),
                          (float)(1 - (double)rule->rate * (double)rule->weight_decay),
                          (float)((double)rule->rate / correction1),
                          (float)sqrt(correction2),
                          rule->epsilon};
    assert(rule->step >= 1 && oc_cuda_count(g) == count && oc_cuda_count(m) == count && oc_cuda_count(v) == count);
    OC_LAUNCH(b, adamw, oc_flat_grid(b, count), OC_FLAT_THREADS, 0, s, count, (float *)p.data, (const float *)g.data,
              (float *)m.data, (float *)v.data);
    return OC_OK;
}

static __global__ void blend(float keep, float add, int64_t count, const float *x, float *average)
{
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) average[i] = keep * average[i] + add * x[i];
}

oc_status oc_cuda_blend(oc_backend *b, float keep, oc_tensor x, oc_tensor average)
{
    const int64_t count = oc_cuda_count(x);
    assert(oc_cuda_count(average) == count);
    OC_LAUNCH(b, blend, oc_flat_grid(b, count), OC_FLAT_THREADS, 0, keep, 1.0f - keep, count, (const float *)x.data,
              (float *)average.data);
    return OC_OK;
}

static __global__ void fill(float value, int64_t count, float *x)
{
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) x[i] = value;
}

oc_status oc_cuda_fill(oc_backend *b, float value, oc_tensor x)
{
    OC_LAUNCH(b, fill, oc_flat_grid(b, oc_cuda_count(x)), OC_FLAT_THREADS, 0, value, oc_cuda_count(x), (float *)x.data);
    return OC_OK;
}
