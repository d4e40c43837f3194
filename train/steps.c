/* steps.c - an interval of steps. Its plans and windows are made on the host in a block of pinned memory, a block ahead
 * of the device; a step takes its own by operations (kernels/ops.h, step_*), and what came of all is read back once.
 * A device that is alone gets a step as one recording a batch size; between two looks at results nothing waits for it.
 * Where memory is shared, and where ranks exchange in the midst of a step, an interval is one step: shards first, then
 * the sum in the fixed tree, then the same operations. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "train/engine_parts.h"

enum { WINDOWS_MAX = 1 << 22 }; /* of an interval: pinned memory and the device's are bounded */

static bool alone(const train_engine *e)
{
    return e->apart && e->comm->ranks == 1;
}

int train_steps_limit(const train_engine *e)
{
    const int most = WINDOWS_MAX / e->p->o.batch, wish = (int)e->p->o.read_every;
    return !alone(e) ? 1 : wish < most ? wish : most;
}

int train_engine_steps(const train_engine *e)
{
    return e->steps_max;
}

/* --- memory --- */

static size_t align(size_t *used, size_t bytes)
{
    const size_t at = *used;
    *used += oc_align_up(bytes);
    return at;
}

oc_status train_steps_open(train_engine *e)
{
    const train_options *o = &e->p->o;
    const size_t steps = (size_t)e->steps_max, windows = steps * (size_t)o->batch, horizons = (size_t)o->shape.horizons;
    size_t bytes = 0, plans[2], indices[2], targets[2];
    for (int i = 0; i < 2; i++) {
        plans[i] = align(&bytes, steps * sizeof(oc_step_plan));
        indices[i] = align(&bytes, windows * sizeof(int64_t));
        targets[i] = align(&bytes, windows * horizons * sizeof(int32_t));
    }
    const size_t begin = align(&bytes, sizeof(oc_step)), results = align(&bytes, steps * sizeof(oc_step_result));
    OC_TRY(oc_backend_pin(train_backend(e), bytes, &e->pinned));
    unsigned char *base = e->pinned;
    for (int i = 0; i < 2; i++)
        e->blocks[i] = (train_block){.plans = (void *)(base + plans[i]),
                                     .indices = (void *)(base + indices[i]),
                                     .targets = (void *)(base + targets[i])};
    e->begin = (void *)(base + begin);
    e->results = (void *)(base + results);
    e->rule = (oc_step_rule){.seed = o->seed,
                             .clip_norm = o->clip_norm,
                             .average = o->average,
                             .beta1 = 0.9f,
                             .beta2 = 0.999f,
                             .epsilon = 1e-8f,
                             .weight_decay = (float)o->weight_decay};
    return OC_OK;
}

void train_steps_close(train_engine *e)
{
    if (!e->workers || !e->workers[0].graph) return;
    for (int i = 0; i < 2; i++) oc_backend_recording_free(train_backend(e), e->recordings[i].steps);
    oc_backend_unpin(train_backend(e), e->pinned);
}

/* --- what an interval takes --- */

static int batch_count(const train_engine *e, const train_interval *of, int step)
{
    const int batch = e->p->o.batch, left = of->windows - step * batch;
    return left < batch ? left : batch;
}

static void block_fill(train_engine *e, train_block *b, const train_interval *of)
{
    const train_plan *p = e->p;
    const size_t horizons = (size_t)p->o.shape.horizons;
    assert(of->steps >= 1 && of->steps <= e->steps_max);
    b->of = *of;
    for (int i = 0; i < of->steps; i++)
        b->plans[i] = (oc_step_plan){.step = (uint64_t)(of->step + i),
                                     .rate = (float)train_rate(&p->o, of->step + i, p->steps_total)};
    for (int i = 0; i < of->windows; i++) {
        int64_t row;
        b->indices[i] = train_rows_place(e, of->epoch, of->position + i, &row);
        train_plan_target(p, row, b->targets + (size_t)i * horizons);
    }
}

static bool block_is(const train_block *b, const train_interval *of)
{
    return b->of.steps == of->steps && b->of.windows == of->windows && b->of.epoch == of->epoch &&
           b->of.position == of->position && b->of.step == of->step;
}

/* The block of the interval that begins: made while the one before ran, or now. */
static train_block *block_take(train_engine *e, const train_interval *now)
{
    e->running = block_is(&e->blocks[!e->running], now) ? !e->running : e->running;
    train_block *b = &e->blocks[e->running];
    if (!block_is(b, now)) block_fill(e, b, now);
    return b;
}

/* --- pieces of a step --- */

static oc_tensor bytes_at(const void *data, size_t bytes)
{
    return oc_tensor_make((void *)(uintptr_t)data, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1);
}

static oc_status upload(train_engine *e, const void *to, const void *from, size_t bytes)
{
    OC_TRY(oc_backend_upload(train_backend(e), bytes_at(to, bytes), from, bytes));
    return OC_OK;
}

/* The whole gradient is there: its norm, what becomes of the step, and the step. */
static oc_status step_finish(train_engine *e, const train_weights *w)
{
    oc_backend *b = train_backend(e);
    const oc_ops *ops = oc_backend_ops(b);
    const size_t total = e->p->parameters.total;
    const oc_tensor gradient = train_vector(e->gradient, total),
                    average = train_vector(e->rule.average > 0 ? w->average : NULL, total);
    OC_TRY(ops->square_sum(b, gradient, &e->at.state->square_sum));
    OC_TRY(ops->step_decide(b, &e->rule, e->at.state, e->at.plans, e->at.results, e->steps_max));
    OC_TRY(ops->step_apply(b, &e->rule, e->at.state, train_vector(w->weights, total), gradient,
                           train_vector(w->m, total), train_vector(w->v, total), average));
    return OC_OK;
}

/* --- a device that is alone --- */

/* Losses add up on the device, in shard order from 0: the bits of the host's sum where ranks exchange. */
static oc_status shard_enqueue(train_engine *e, int shard, float *gradient)
{
    size_t first, last;
    oc_backend *b = train_backend(e);
    const train_places *at = &e->at;
    oc_team_split((size_t)e->count, shard, e->shards_all, &first, &last);
    if (first == last) { /* the last batch of an epoch may leave shards without a window */
        OC_TRY(oc_backend_ops(b)->fill(b, 0.0f, train_vector(gradient, e->p->parameters.total)));
        return OC_OK;
    }
    const oc_graph_batch batch = {.rows = train_all_rows(e),
                                  .index = at->index + first,
                                  .target = at->target + first * (size_t)e->p->o.shape.horizons,
                                  .count = (int)(last - first),
                                  .sample_first = first,
                                  .keys = at->state->keys,
                                  .placed = true};
    OC_TRY(oc_graph_train_enqueue(e->workers[0].graph, e->flat, e->packed, &batch, &at->state->loss_sum,
                                  &at->state->weight_sum, gradient));
    return OC_OK;
}

static oc_status shards_enqueue(train_engine *e)
{
    oc_backend *b = train_backend(e);
    const size_t total = e->p->parameters.total;
    if (e->shards_all == 1) {
        OC_TRY(shard_enqueue(e, 0, e->gradient));
        return OC_OK;
    }
    for (int i = 0; i < e->shards_all; i++) OC_TRY(shard_enqueue(e, i, e->partials + (size_t)i * total));
    OC_TRY(oc_backend_ops(b)->tree_sum(b, train_sums_of(e->partials, e->shards_all, total),
                                       train_vector(e->gradient, total)));
    return OC_OK;
}

static oc_status step_enqueue(train_engine *e)
{
    oc_backend *b = train_backend(e);
    const int64_t steps = e->steps_max, batch = e->p->o.batch, horizons = e->p->o.shape.horizons;
    const train_places *at = &e->at;
    OC_TRY(oc_backend_ops(b)->step_begin(b, &e->rule, at->state, at->plans,
                                         oc_tensor_make(at->indices, OC_DTYPE_I64, steps, batch, 1, 1),
                                         oc_tensor_make(at->targets, OC_DTYPE_I32, steps, batch, horizons, 1), 0,
                                         oc_tensor_make(at->index, OC_DTYPE_I64, e->count, 1, 1, 1),
                                         oc_tensor_make(at->target, OC_DTYPE_I32, e->count, horizons, 1, 1)));
    OC_TRY(oc_graph_pack_enqueue(e->workers[0].graph, e->flat, e->packed));
    OC_TRY(shards_enqueue(e));
    OC_TRY(step_finish(e, &e->device));
    return OC_OK;
}

static oc_status step_record(train_engine *e, train_recording *r)
{
    oc_backend *b = train_backend(e);
    OC_TRY(oc_backend_record_begin(b));
    const oc_status status = step_enqueue(e);
    if (status != OC_OK) oc_backend_record_drop(b);
    OC_TRY(status);
    OC_TRY(oc_backend_record_end(b, &r->steps));
    return OC_OK;
}

/* The first step of a batch size runs by itself: what fails then is named, and kernels are loaded. */
static oc_status step_device(train_engine *e)
{
    oc_backend *b = train_backend(e);
    train_recording *r = &e->recordings[e->count != e->p->o.batch];
    if (r->count != e->count) {
        oc_backend_recording_free(b, r->steps);
        *r = (train_recording){.count = e->count};
    }
    if (!r->ran || !oc_backend_describe(b)->records) {
        r->ran = true;
        OC_TRY(step_enqueue(e));
        return OC_OK;
    }
    if (!r->steps) OC_TRY(step_record(e, r));
    OC_TRY(oc_backend_replay(b, r->steps));
    return OC_OK;
}

/* --- shards and ranks --- */

static oc_status shard_run(train_engine *e, int shard, oc_graph *graph)
{
    size_t first, last, total = e->p->parameters.total;
    float *gradient = e->partials + (size_t)(shard - e->shard_first) * total;
    const train_block *from = &e->blocks[e->running];
    const bool sets_out = e->link && shard == e->shard_first + e->shards - 1; /* the others are there already */
    oc_team_split((size_t)e->count, shard, e->shards_all, &first, &last);
    e->losses[shard] = (train_shard_loss){0};
    if (first == last) { /* the last batch of an epoch may leave shards without a window */
        OC_TRY(oc_backend_ops(oc_graph_backend(graph))
                   ->fill(oc_graph_backend(graph), 0.0f, train_vector(gradient, total)));
        if (sets_out) OC_TRY(train_buckets_final(e, 0));
        OC_TRY(oc_backend_wait(oc_graph_backend(graph)));
        return OC_OK;
    }
    const oc_graph_batch batch = {.rows = train_all_rows(e),
                                  .index = from->indices + first,
                                  .target = from->targets + first * (size_t)e->p->o.shape.horizons,
                                  .count = (int)(last - first),
                                  .step = (uint64_t)e->step,
                                  .sample_first = first,
                                  .watch = sets_out ? &e->watch : NULL};
    double *loss = &e->losses[shard].loss, *weight = &e->losses[shard].weight;
    if (e->apart) {
        loss = &e->at.state->loss_sum;
        weight = &e->at.state->weight_sum;
        OC_TRY(oc_store_put(&e->store, loss, &e->losses[shard], sizeof e->losses[shard]));
    }
    OC_TRY(oc_graph_train(graph, e->flat, e->packed, &batch, loss, weight, gradient));
    if (e->apart) OC_TRY(oc_store_get(&e->store, &e->losses[shard], loss, sizeof e->losses[shard]));
    return OC_OK;
}

static void shards_work(void *context, int index, int workers)
{
    train_engine *e = context;
    train_worker *w = &e->workers[index];
    (void)workers;
    for (size_t own = train_work_next(e); own < (size_t)e->shards && w->status == OC_OK; own = train_work_next(e)) {
        oc_status status = shard_run(e, e->shard_first + (int)own, w->graph);
        if (status != OC_OK) train_worker_fail(w, status);
    }
}

/* Sum of the shards' gradients in a fixed tree. */
static oc_status gradient_sum(train_engine *e)
{
    oc_backend *b = train_backend(e);
    const oc_ops *ops = oc_backend_ops(b);
    size_t total = e->p->parameters.total;
    bool single = e->comm->ranks == 1;
    float *own = single ? e->gradient : e->sums + (e->tree ? (size_t)e->comm->rank * total : 0);
    OC_TRY(ops->tree_sum(b, train_sums_of(e->partials, e->shards, total), train_vector(own, total)));
    if (single) return OC_OK;
    OC_TRY(oc_backend_wait(b));
    OC_TRY(train_ranks_exchange(e));
    OC_TRY(ops->tree_sum(b, train_sums_of(e->sums, (int)train_sums_count(e), total), train_vector(e->gradient, total)));
    return OC_OK;
}

/* In shard order. */
static oc_status losses_sum(train_engine *e)
{
    train_shard_loss sum = {0};
    for (int i = 0; i < e->shards_all; i++) {
        sum.loss += e->losses[i].loss;
        sum.weight += e->losses[i].weight;
    }
    OC_TRY(upload(e, &e->at.state->loss_sum, &sum.loss, sizeof sum.loss));
    OC_TRY(upload(e, &e->at.state->weight_sum, &sum.weight, sizeof sum.weight));
    return OC_OK;
}

static oc_status step_shards(train_engine *e, const train_weights *w)
{
    OC_TRY(oc_graph_pack(e->workers[0].graph, e->flat, e->packed));
    OC_TRY(train_team_run(e, shards_work));
    OC_TRY(e->link ? train_buckets_sum(e) : gradient_sum(e));
    OC_TRY(losses_sum(e));
    OC_TRY(step_finish(e, w));
    return OC_OK;
}

/* --- an interval --- */

static oc_status interval_begin(train_engine *e, const train_block *b)
{
    const size_t windows = (size_t)b->of.windows, horizons = (size_t)e->p->o.shape.horizons;
    memset(e->begin, 0, sizeof *e->begin);
    e->begin->updates = b->of.updates;
    OC_TRY(upload(e, e->at.state, e->begin, sizeof *e->begin));
    OC_TRY(upload(e, e->at.plans, b->plans, (size_t)b->of.steps * sizeof *b->plans));
    if (!alone(e)) return OC_OK;
    OC_TRY(upload(e, e->at.indices, b->indices, windows * sizeof *b->indices));
    OC_TRY(upload(e, e->at.targets, b->targets, windows * horizons * sizeof *b->targets));
    return OC_OK;
}

oc_status train_engine_run(train_engine *e, train_weights *w, const train_interval *now, const train_interval *next,
                           train_step_result *results)
{
    train_block *b = block_take(e, now);
    const train_weights *on = e->apart ? &e->device : w;
    b->of.updates = now->updates; /* known only now */
    e->flat = on->weights;
    OC_TRY(train_rows_need(e, now));
    OC_TRY(interval_begin(e, b));
    for (int i = 0; i < now->steps; i++) {
        e->step = now->step + i;
        e->count = batch_count(e, now, i);
        OC_TRY(alone(e) ? step_device(e) : step_shards(e, on));
    }
    const size_t bytes = (size_t)now->steps * sizeof *e->results;
    OC_TRY(oc_backend_download(train_backend(e), e->results, bytes, bytes_at(e->at.results, bytes)));
    if (next && alone(e)) block_fill(e, &e->blocks[!e->running], next);
    OC_TRY(train_rows_ahead(e, now));
    OC_TRY(oc_backend_wait(train_backend(e)));
    for (int i = 0; i < now->steps; i++)
        results[i] = (train_step_result){.loss_sum = e->results[i].loss_sum,
                                         .weight_sum = e->results[i].weight_sum,
                                         .norm = e->results[i].norm,
                                         .finite = e->results[i].finite != 0};
    return OC_OK;
}
