/* update.h - operations on flat vectors and on logits that are the same code for every instruction set: plain sums,
 * products, quotients and square roots, no fused multiply-add, so the compiler may vectorise without changing a bit. */
#ifndef OC_KERNELS_CPU_UPDATE_H
#define OC_KERNELS_CPU_UPDATE_H

#include "kernels/ops.h"

OC_MUST oc_cpu_tree_sum(oc_backend *b, oc_tensor partials, oc_tensor sum);
OC_MUST oc_cpu_square_sum(oc_backend *b, oc_tensor x, double *sum);
OC_MUST oc_cpu_adamw(oc_backend *b, const oc_adamw_rule *rule, oc_tensor p, oc_tensor g, oc_tensor m, oc_tensor v);
OC_MUST oc_cpu_blend(oc_backend *b, float keep, oc_tensor x, oc_tensor average);
OC_MUST oc_cpu_fill(oc_backend *b, float value, oc_tensor x);
OC_MUST oc_cpu_step_begin(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                          oc_tensor indices, oc_tensor targets, int64_t first, oc_tensor index, oc_tensor target);
OC_MUST oc_cpu_step_decide(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                           oc_step_result *results, int64_t count);
OC_MUST oc_cpu_step_apply(oc_backend *b, const oc_step_rule *rule, const oc_step *step, oc_tensor p, oc_tensor g,
                          oc_tensor m, oc_tensor v, oc_tensor average);
OC_MUST oc_cpu_softmax_loss(oc_backend *b, const oc_loss_rule *rule, oc_tensor logits, oc_tensor target,
                            double *loss_sum, double *weight_sum, oc_tensor dlogits);

#endif
