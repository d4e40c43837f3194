/* step.cu - a training step whose numbers lie in device memory (kernels/step.h): begin takes the next plan, decide says
 * whether it is a step and how long, apply takes it. So one recording serves every step, and the host need not look
 * before the results of many. Bound: launches; apply moves p, m, v and the average once. Not run on a GPU. */
#include "kernels/cuda/ops_cuda.cuh"
#include "kernels/cuda/random.cuh"
#include "kernels/step.h"

typedef struct beginning {
    oc_step_rule rule;
    oc_step *step;
    const oc_step_plan *plans;
    const int64_t *indices;
    const int32_t *targets;
    int64_t turns, batch, horizons, first, count;
    int64_t *index;
    int32_t *target;
    oc_cuda_fault *fault;
} beginning;

static __global__ void step_begin(beginning b)
{
    const int64_t turn = b.step->turn;
    const bool planned = turn >= 0 && turn < b.turns;
    if (oc_thread_first() == 0) {
        if (!planned) oc_fault(b.fault, OC_FAULT_TURN, turn);
        b.step->loss_sum = b.step->weight_sum = 0;
    }
    if (oc_thread_first() < OC_STEP_KEYS)
        b.step->keys[oc_thread_first()] = oc_device_random_key(
            b.rule.seed, OC_RANDOM_DROPOUT, planned ? b.plans[turn].step : 0, (uint64_t)oc_thread_first());
    const int64_t from = (planned ? turn : 0) * b.batch + b.first;
    for (int64_t i = oc_thread_first(); i < b.count; i += oc_thread_step()) b.index[i] = b.indices[from + i];
    for (int64_t i = oc_thread_first(); i < b.count * b.horizons; i += oc_thread_step())
        b.target[i] = b.targets[from * b.horizons + i];
}

oc_status oc_cuda_step_begin(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                             oc_tensor indices, oc_tensor targets, int64_t first, oc_tensor index, oc_tensor target)
{
    beginning at = {};
    at.rule = *rule;
    at.step = step;
    at.plans = plans;
    at.indices = (const int64_t *)indices.data;
    at.targets = (const int32_t *)targets.data;
    at.turns = indices.dims[0];
    at.batch = indices.dims[1];
    at.horizons = targets.dims[2];
    at.first = first;
    at.count = oc_cuda_count(index);
    at.index = (int64_t *)index.data;
    at.target = (int32_t *)target.data;
    at.fault = oc_cuda_of(b)->fault;
    assert(first >= 0 && first + at.count <= at.batch && oc_cuda_count(target) == at.count * at.horizons);
    OC_LAUNCH(b, step_begin, oc_flat_grid(b, at.count * at.horizons + 1), OC_FLAT_THREADS, 0, at);
    return OC_OK;
}

static __global__ void step_decide(oc_step_rule rule, oc_step *step, const oc_step_plan *plans, int64_t turns,
                                   oc_step_result *results)
{
    if (!(step->turn >= 0 && step->turn < turns)) return; /* begin has said so */
    oc_step_decide(&rule, plans[step->turn].rate, step);
    results[step->turn++] = {step->loss_sum, step->weight_sum, step->norm, step->finite};
}

oc_status oc_cuda_step_decide(oc_backend *b, const oc_step_rule *rule, oc_step *step, const oc_step_plan *plans,
                              oc_step_result *results, int64_t count)
{
    OC_LAUNCH(b, step_decide, 1, 1, 0, *rule, step, plans, count, results);
    return OC_OK;
}

typedef struct application {
    const oc_step *step;
    float pull, keep, add, epsilon;
    int64_t count;
    float *p, *m, *v, *average;
    const float *g;
} application;

static __global__ void step_apply(application a)
{
    if (!a.step->finite) return;
    const float scale = a.step->gradient_scale, decay = a.step->decay, rate = a.step->rate, root = a.step->root;
    const float stays = a.step->keep, comes = 1.0f - stays;
    for (int64_t i = oc_thread_first(); i < a.count; i += oc_thread_step()) {
        const float d = a.g[i] * scale;
        const float first = a.m[i] + (d - a.m[i]) * a.pull, second = a.v[i] * a.keep + a.add * d * d;
        const float p = a.p[i] * decay - rate * (first / (sqrtf(second) / root + a.epsilon));
        a.m[i] = first;
        a.v[i] = second;
        a.p[i] = p;
        if (a.average) a.average[i] = stays * a.average[i] + comes * p;
    }
}

oc_status oc_cuda_step_apply(oc_backend *b, const oc_step_rule *rule, const oc_step *step, oc_tensor p, oc_tensor g,
                             oc_tensor m, oc_tensor v, oc_tensor average)
{
    application a = {};
    a.step = step;
    a.pull = (float)(1 - (double)rule->beta1);
    a.keep = rule->beta2;
    a.add = (float)(1 - (double)rule->beta2);
    a.epsilon = rule->epsilon;
    a.count = oc_cuda_count(p);
    a.p = (float *)p.data;
    a.m = (float *)m.data;
    a.v = (float *)v.data;
    a.average = (float *)average.data;
    a.g = (const float *)g.data;
    assert(oc_cuda_count(g) == a.count && oc_cuda_count(m) == a.count && oc_cuda_count(v) == a.count);
    OC_LAUNCH(b, step_apply, oc_flat_grid(b, a.count), OC_FLAT_THREADS, 0, a);
    return OC_OK;
}
