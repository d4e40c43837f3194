/* loss.cu - weighted cross entropy with label smoothing [Szegedy16] in f64, and softmax. The formulas:
 * kernels/cpu/loss.c. One block for the whole batch: a few thousand rows, so the sum needs no second pass and has one
 * order. Not run on a GPU. */
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/rows.cuh"

static constexpr int THREADS = 256;

typedef struct losses {
    oc_loss_rule rule;
    const float *logits;
    const int32_t *target;
    int64_t count;
    double *loss_sum, *weight_sum;
    float *dlogits;
    oc_cuda_fault *fault;
} losses;

/* One row of class `target`: its loss; its gradient to d[0 … 2]. */
OC_DEVICE double row_loss(const oc_loss_rule &rule, const float *logits, int target, float *d)
{
    double largest = (double)logits[0], power[OC_CLASSES], wish[OC_CLASSES], sum = 0, all = 0, loss = 0;
    const double smooth = (double)rule.label_smoothing;
    for (int c = 1; c < OC_CLASSES; c++)
        if ((double)logits[c] > largest) largest = (double)logits[c];
    for (int c = 0; c < OC_CLASSES; c++) sum += power[c] = oc_device_expd((double)logits[c] - largest);
    const double log_sum = oc_device_logd(sum);
    for (int c = 0; c < OC_CLASSES; c++) {
        wish[c] = (double)rule.class_weight[c] * ((c == target ? 1 - smooth : 0) + smooth / OC_CLASSES);
        all += wish[c];
        loss -= wish[c] * ((double)logits[c] - largest - log_sum);
    }
    for (int c = 0; c < OC_CLASSES; c++) d[c] = (float)(all * (power[c] / sum) - wish[c]);
    return loss;
}

static __global__ void __launch_bounds__(THREADS) softmax_loss(losses l)
{
    double loss = 0, weight = 0;
    for (int64_t i = threadIdx.x; i < l.count; i += THREADS) {
        const int target = l.target[i];
        float *d = l.dlogits + OC_CLASSES * i;
        if (!(target >= -1 && target < OC_CLASSES)) oc_fault(l.fault, OC_FAULT_TARGET, i);
        if (!(target >= 0 && target < OC_CLASSES)) {
            d[0] = d[1] = d[2] = 0.0f;
            continue;
        }
        loss += row_loss(l.rule, l.logits + OC_CLASSES * i, target, d);
        weight += (double)l.rule.class_weight[target];
    }
    loss = oc_block_sum<double, THREADS>(loss);
    weight = oc_block_sum<double, THREADS>(weight);
    if (threadIdx.x != 0) return;
    *l.loss_sum += loss;
    *l.weight_sum += weight;
}

oc_status oc_cuda_softmax_loss(oc_backend *b, const oc_loss_rule *rule, oc_tensor logits, oc_tensor target,
                               double *loss_sum, double *weight_sum, oc_tensor dlogits)
{
    const losses l = {
        *rule,      (const float *)logits.data, (const int32_t *)target.data, oc_cuda_count(target), loss_sum,
        weight_sum, (float *)dlogits.data,      oc_cuda_of(b)->fault};
    assert(target.dtype == OC_DTYPE_I32 && oc_cuda_count(logits) == OC_CLASSES * l.count);
    if (l.count > 0) OC_LAUNCH(b, softmax_loss, 1, THREADS, 0, l);
    return OC_OK;
}

static __global__ void softmax(const float *z, float *p, int64_t rows, int horizons, oc_cuda_temperatures t)
{
    for (int64_t i = oc_thread_first(); i < rows; i += oc_thread_step())
        oc_softmax_classes(z + i * OC_CLASSES, t.of[i % horizons], p + i * OC_CLASSES);
}

oc_status oc_cuda_softmax(oc_backend *b, int horizons, const float *temperature, oc_tensor logits,
                          oc_tensor probabilities)
{
    const int64_t rows = oc_cuda_count(logits) / OC_CLASSES;
    oc_cuda_temperatures t = {};
    assert(horizons >= 1 && horizons <= OC_HORIZONS_MAX && rows % horizons == 0);
    for (int i = 0; i < horizons; i++) t.of[i] = temperature[i];
    OC_LAUNCH(b, softmax, oc_flat_grid(b, rows), OC_FLAT_THREADS, 0, (const float *)logits.data,
              (float *)probabilities.data, rows, horizons, t);
    return OC_OK;
}
