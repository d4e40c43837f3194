/* loss.c - weighted cross entropy with label smoothing [Szegedy16], three classes a horizon, in f64: a few hundred
 * exponentials a step, so precision costs nothing. With w the class weights and e the smoothing, a sample of class y
 * adds
 *     loss   -sum_c w_c ((1 - e) [c = y] + e / 3) log p_c        weight   w_y
 * and the mean, as torch.nn.CrossEntropyLoss takes it, is the sum of losses over the sum of weights. */
#include <assert.h>
#include "base/mathf.h"
#include "kernels/cpu/update.h"

typedef struct term {
    double loss, gradient[OC_CLASSES];
} term;

static term term_of(const oc_loss_rule *rule, const float *logits, int target)
{
    double largest = (double)logits[0], power[OC_CLASSES], sum = 0, all = 0, wish[OC_CLASSES];
    const double smooth = (double)rule->label_smoothing;
    term t = {0};
    for (int c = 1; c < OC_CLASSES; c++)
        if ((double)logits[c] > largest) largest = (double)logits[c];
    for (int c = 0; c < OC_CLASSES; c++) sum += power[c] = oc_expd((double)logits[c] - largest);
    const double log_sum = oc_logd(sum);
    for (int c = 0; c < OC_CLASSES; c++) {
        wish[c] = (double)rule->class_weight[c] * ((c == target ? 1 - smooth : 0) + smooth / OC_CLASSES);
        all += wish[c];
        t.loss -= wish[c] * ((double)logits[c] - largest - log_sum);
    }
    for (int c = 0; c < OC_CLASSES; c++) t.gradient[c] = all * (power[c] / sum) - wish[c];
    return t;
}

oc_status oc_cpu_softmax_loss(oc_backend *b, const oc_loss_rule *rule, oc_tensor logits, oc_tensor target,
                              double *loss_sum, double *weight_sum, oc_tensor dlogits)
{
    const int64_t count = oc_tensor_count(target);
    const float *z = logits.data;
    const int32_t *class = target.data;
    float *gradient = dlogits.data;
    double loss = 0, weight = 0; /* of this call first: the sum must not depend on *loss_sum */
    (void)b;
    assert(target.dtype == OC_DTYPE_I32 && oc_tensor_count(logits) == OC_CLASSES * count);
    assert(oc_tensor_count(dlogits) == OC_CLASSES * count);
    for (int64_t i = 0; i < count; i++) {
        if (!(class[i] >= -1 && class[i] < OC_CLASSES))
            return OC_FAIL(OC_EDATA, "softmax_loss: target %lld is class %d, not -1, 0, 1 or 2", (long long)i,
                           (int)class[i]);
        const term t = class[i] < 0 ? (term){0} : term_of(rule, z + OC_CLASSES * i, class[i]);
        for (int c = 0; c < OC_CLASSES; c++) gradient[OC_CLASSES * i + c] = (float)t.gradient[c];
        loss += t.loss;
        weight += class[i] < 0 ? 0 : (double)rule->class_weight[class[i]];
    }
    *loss_sum += loss;
    *weight_sum += weight;
    return OC_OK;
}
