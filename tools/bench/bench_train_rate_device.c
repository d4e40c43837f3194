/* bench_train_rate_device.c - training steps on a device: rows, weights and moments there, the batch as one shard, a
 * step as one recording with the operations step_* (as train/steps.c runs it, by hand here: train's engine wants a
 * dataset), GROUP steps to a look at their losses; windows of the next group are drawn meanwhile. */
#include <math.h>
#include <string.h>
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "nn/graph.h"
#include "nn/store.h"
#include "tools/bench/bench_train_rate.h"

enum { GROUP = 50, GROUP_TINY = 2, PARTS = 13 };

typedef struct group { /* in pinned memory: what the steps of a group take */
    oc_step_plan *plans;
    int64_t *indices;
    int32_t *targets;
} group;

typedef struct device_job {
    oc_model_shape shape;
    oc_parameters parameters;
    int64_t row_count, steps;
    int batch, group_steps;
    oc_graph *graph;
    oc_store store;
    oc_step_rule rule;
    float *rows, *flat, *m, *v, *gradient;
    void *packed, *pinned;
    oc_step *state;
    oc_step_plan *plans;
    oc_step_result *results, *seen; /* seen: pinned */
    int64_t *indices, *index;
    int32_t *targets, *target;
    group groups[2];
    oc_recording *step;
} device_job;

static OC_MUST memory_take(device_job *j)
{
    const size_t total = j->parameters.total, batch = (size_t)j->batch, steps = (size_t)j->group_steps;
    const struct {
        void *out;
        size_t count, size;
    } wanted[PARTS] = {{&j->rows, (size_t)(j->row_count * j->shape.inputs), sizeof(float)},
                       {&j->flat, total, sizeof(float)},
                       {&j->m, total, sizeof(float)},
                       {&j->v, total, sizeof(float)},
                       {&j->gradient, total, sizeof(float)},
                       {&j->packed, oc_graph_packed_bytes(j->graph), 1},
                       {&j->state, 1, sizeof(oc_step)},
                       {&j->plans, steps, sizeof(oc_step_plan)},
                       {&j->results, steps, sizeof(oc_step_result)},
                       {&j->indices, steps * batch, sizeof(int64_t)},
                       {&j->targets, steps * batch, sizeof(int32_t)},
                       {&j->index, batch, sizeof(int64_t)},
                       {&j->target, batch, sizeof(int32_t)}};
    size_t bytes = 0;
    for (size_t i = 0; i < PARTS; i++) bytes += oc_store_bytes(wanted[i].count, wanted[i].size);
    OC_TRY(oc_store_open(&j->store, oc_backend_describe(oc_graph_backend(j->graph)), bytes));
    for (size_t i = 0; i < PARTS; i++)
        OC_TRY(oc_store_take(&j->store, wanted[i].out, wanted[i].count, wanted[i].size, "bench"));
    const size_t each = steps * (sizeof(oc_step_plan) + batch * (sizeof(int64_t) + sizeof(int32_t)));
    const size_t aligned = oc_align_up(each);
    OC_TRY(oc_backend_pin(oc_graph_backend(j->graph), 2 * aligned + steps * sizeof *j->seen, &j->pinned));
    for (int i = 0; i < 2; i++) {
        j->groups[i].plans = (void *)((unsigned char *)j->pinned + (size_t)i * aligned);
        j->groups[i].indices = (void *)(j->groups[i].plans + steps);
        j->groups[i].targets = (void *)(j->groups[i].indices + steps * batch);
    }
    j->seen = (void *)((unsigned char *)j->pinned + 2 * aligned);
    return OC_OK;
}

/* Rows and first weights, made on the host. */
static OC_MUST numbers_put(device_job *j)
{
    const size_t count = (size_t)(j->row_count * j->shape.inputs), total = j->parameters.total;
    const uint32_t key = oc_random_key(1, OC_RANDOM_TEST, 0, 0);
    float *host;
    OC_TRY(oc_memory_new_array(&host, count > total ? count : total, sizeof *host, "rows"));
    for (size_t i = 0; i < count; i++) host[i] = (float)(3.4 * oc_random_uniform(key, i) - 1.7);
    oc_status status = oc_store_put(&j->store, j->rows, host, count * sizeof *host);
    oc_parameters_init(&j->parameters, 1, host);
    if (status == OC_OK) status = oc_store_put(&j->store, j->flat, host, total * sizeof *host);
    oc_memory_free(host);
    return status;
}

static void group_draw(device_job *j, group *g)
{
    const uint64_t span = (uint64_t)(j->row_count - j->shape.steps + 1);
    for (int s = 0; s < j->group_steps; s++, j->steps++) {
        const uint32_t key = oc_random_key(1, OC_RANDOM_SHUFFLE, (uint64_t)j->steps, 0);
        g->plans[s] = (oc_step_plan){.step = (uint64_t)j->steps, .rate = 3e-4f};
        for (int i = 0; i < j->batch; i++) {
            const uint64_t number = (uint64_t)i;
            g->indices[s * j->batch + i] = j->shape.steps - 1 + (int64_t)oc_random_below(key, number, span);
            g->targets[s * j->batch + i] = (int32_t)oc_random_below(key, (uint64_t)j->batch + number, OC_CLASSES);
        }
    }
}

static oc_tensor vector(const device_job *j, float *data)
{
    return oc_tensor_make(data, OC_DTYPE_F32, (int64_t)j->parameters.total, 1, 1, 1);
}

static OC_MUST step_enqueue(device_job *j)
{
    oc_backend *b = oc_graph_backend(j->graph);
    const oc_ops *ops = oc_backend_ops(b);
    const int64_t steps = j->group_steps, batch = j->batch;
    const oc_graph_batch shard = {.rows = oc_tensor_make(j->rows, OC_DTYPE_F32, j->row_count, j->shape.inputs, 1, 1),
                                  .index = j->index,
                                  .target = j->target,
                                  .count = j->batch,
                                  .keys = j->state->keys,
                                  .placed = true};
    OC_TRY(ops->step_begin(b, &j->rule, j->state, j->plans,
                           oc_tensor_make(j->indices, OC_DTYPE_I64, steps, batch, 1, 1),
                           oc_tensor_make(j->targets, OC_DTYPE_I32, steps, batch, 1, 1), 0,
                           oc_tensor_make(j->index, OC_DTYPE_I64, batch, 1, 1, 1),
                           oc_tensor_make(j->target, OC_DTYPE_I32, batch, 1, 1, 1)));
    OC_TRY(oc_graph_pack_enqueue(j->graph, j->flat, j->packed));
    OC_TRY(oc_graph_train_enqueue(j->graph, j->flat, j->packed, &shard, &j->state->loss_sum, &j->state->weight_sum,
                                  j->gradient));
    OC_TRY(ops->square_sum(b, vector(j, j->gradient), &j->state->square_sum));
    OC_TRY(ops->step_decide(b, &j->rule, j->state, j->plans, j->results, steps));
    OC_TRY(ops->step_apply(b, &j->rule, j->state, vector(j, j->flat), vector(j, j->gradient), vector(j, j->m),
                           vector(j, j->v), vector(j, NULL)));
    return OC_OK;
}

static OC_MUST upload(device_job *j, void *to, const void *from, size_t bytes)
{
    OC_TRY(oc_backend_upload(oc_graph_backend(j->graph), oc_tensor_make(to, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1),
                             from, bytes));
    return OC_OK;
}

/* The steps of a group, their plans and windows before, and beside them the next group's. */
static OC_MUST group_run(device_job *j, const group *now, group *next)
{
    oc_backend *b = oc_graph_backend(j->graph);
    const size_t steps = (size_t)j->group_steps, windows = steps * (size_t)j->batch;
    static const int64_t first_turn;
    OC_TRY(upload(j, &j->state->turn, &first_turn, sizeof first_turn));
    OC_TRY(upload(j, j->plans, now->plans, steps * sizeof *now->plans));
    OC_TRY(upload(j, j->indices, now->indices, windows * sizeof *now->indices));
    OC_TRY(upload(j, j->targets, now->targets, windows * sizeof *now->targets));
    for (size_t i = 0; i < steps; i++) OC_TRY(j->step ? oc_backend_replay(b, j->step) : step_enqueue(j));
    group_draw(j, next);
    const size_t bytes = steps * sizeof *j->seen;
    OC_TRY(oc_backend_download(b, j->seen, bytes, oc_tensor_make(j->results, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1)));
    OC_TRY(oc_backend_wait(b));
    for (size_t i = 0; i < steps; i++)
        if (!j->seen[i].finite) return OC_FAIL(OC_EFAILED, "train-rate: the loss of a step is not finite");
    return OC_OK;
}

static OC_MUST job_open(device_job *j, const oc_backend_config *config)
{
    const oc_graph_rule rule = {0.2f, 0.3f, {{1, 1, 1}, 0, 1}, 1};
    static double mean[OC_INPUTS_MAX], scale[OC_INPUTS_MAX];
    for (int f = 0; f < j->shape.inputs; f++) scale[f] = 1;
    oc_parameters_describe(&j->parameters, &j->shape);
    j->rule = (oc_step_rule){
        .seed = 1, .clip_norm = 1, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .weight_decay = 0.01f};
    OC_TRY(oc_graph_open(&j->graph, config, &j->shape, &rule, mean, scale, 8, j->batch, true));
    OC_TRY(memory_take(j));
    OC_TRY(numbers_put(j));
    group_draw(j, &j->groups[0]);
    OC_TRY(group_run(j, &j->groups[0], &j->groups[1])); /* call by call: kernels are loaded */
    oc_backend *b = oc_graph_backend(j->graph);
    if (!oc_backend_describe(b)->records) return OC_OK;
    OC_TRY(oc_backend_record_begin(b));
    const oc_status status = step_enqueue(j);
    if (status != OC_OK) oc_backend_record_drop(b);
    OC_TRY(status);
    OC_TRY(oc_backend_record_end(b, &j->step));
    return OC_OK;
}

static void job_close(device_job *j)
{
    if (j->graph) {
        oc_backend_recording_free(oc_graph_backend(j->graph), j->step);
        oc_backend_unpin(oc_graph_backend(j->graph), j->pinned);
    }
    oc_graph_close(j->graph);
    oc_store_close(&j->store);
}

/* The best of o->repeats runs of o->seconds. */
static OC_MUST rate_measure(device_job *j, const oc_bench_options *o, double *rate)
{
    int now = 1;
    *rate = 0;
    for (int r = 0; r < o->repeats; r++) {
        const int64_t start = oc_clock_monotonic_ns();
        int64_t end = start, steps = 0;
        while (end - start < (int64_t)(o->seconds * 1e9)) {
            OC_TRY(group_run(j, &j->groups[now], &j->groups[!now]));
            now = !now;
            steps += j->group_steps;
            end = oc_clock_monotonic_ns();
        }
        *rate = fmax(*rate, (double)(steps * j->batch) / ((double)(end - start) * 1e-9));
    }
    return OC_OK;
}

oc_status bench_train_rate_device(const oc_bench_options *o, const oc_model_shape *shape, int batch, int64_t rows,
                                  double *rate)
{
    static device_job j;
    const oc_backend_config config = {.kind = o->backend, .math = o->math};
    j = (device_job){.shape = *shape, .batch = batch, .row_count = rows, .group_steps = o->tiny ? GROUP_TINY : GROUP};
    oc_status status = job_open(&j, &config);
    if (status == OC_OK) status = rate_measure(&j, o, rate);
    job_close(&j);
    return status;
}
