/* engine.c - the parallel part. One graph a worker, each on its own backend; batch, partial gradients and packed
 * weights are shared. A rank has S / R neighbouring shards, which are a subtree of the fixed tree: it sums them, all
 * ranks get all sums, and each sums those by the upper part of the same tree and takes the same step; with `reduce:
 * allreduce` the network sums, in an order of its own. Everything is taken in open; a step allocates nothing.
 * A device with memory of its own (store.h) holds rows, weights and gradients; one graph takes a rank's shards one
 * after the other, ranks' sums go from device to device (link.h), and the host gets loss and norm, and the weights when
 * asked (train_engine_get). */
#include "train/engine_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "train/guard.h"

enum { RELEASE_SECONDS = 5 };

void train_worker_fail(train_worker *w, oc_status status)
{
    w->status = status;
    snprintf(w->message, sizeof w->message, "%s", oc_status_message());
}

/* The first worker's failure becomes the caller's. */
oc_status train_team_run(train_engine *e, oc_team_work work)
{
    for (int i = 0; i < e->worker_count; i++) e->workers[i].status = OC_OK;
    atomic_store_explicit(&e->next, 0, memory_order_relaxed); /* the team's start publishes it */
    oc_team_run(e->team, work, e);
    for (int i = 0; i < e->worker_count; i++) {
        if (e->workers[i].status != OC_OK) return OC_FAIL(e->workers[i].status, "%s", e->workers[i].message);
    }
    return OC_OK;
}

/* --- open and close --- */

static oc_status graphs_open(train_engine *e)
{
    const train_options *o = &e->p->o;
    const oc_backend_config backend = {.kind = o->backend, .device = e->gpu, .math = o->math, .lstm = o->lstm};
    oc_graph_rule rule = {.dropout = (float)o->dropout, .head_dropout = (float)o->head_dropout, .seed = o->seed};
    rule.loss.label_smoothing = (float)o->label_smoothing;
    rule.loss.horizons = o->shape.horizons;
    memcpy(rule.loss.class_weight, e->p->class_weight, sizeof rule.loss.class_weight);
    for (int i = 0; i < e->worker_count; i++)
        OC_TRY(oc_graph_open(&e->workers[i].graph, &backend, &o->shape, &rule, e->p->mean, e->p->scale, o->clip,
                             e->shard_windows, true));
    return OC_OK;
}

/* What operations read and write; in a device's memory where that is apart. */
typedef struct demand {
    void *out;
    size_t count, size;
    const char *purpose;
} demand;

/* Vectors that a rank holds of an exchange. */
size_t train_sums_count(const train_engine *e)
{
    return e->comm->ranks == 1 ? 0 : e->tree ? (size_t)e->comm->ranks : 1;
}

enum { DEMANDS = 17 };
static void demands_make(train_engine *e, demand all[DEMANDS])
{
    const size_t total = e->p->parameters.total, apart = e->apart, steps = (size_t)e->steps_max;
    const size_t batch = (size_t)e->p->o.batch, horizons = (size_t)e->p->o.shape.horizons;
    const bool whole = apart && e->shards_all == 1; /* then it is the gradient */
    oc_graph *graph = e->workers[0].graph;          /* not there yet where its own memory was too much */
    const demand list[DEMANDS] = {
        {&e->packed, graph ? oc_graph_packed_bytes(graph) : 0, 1, "packed weights"},
        {&e->partials, whole ? 0 : total * (size_t)e->shards, sizeof(float), "gradients"},
        {&e->gradient, total, sizeof(float), "gradients"},
        {&e->sums, total * train_sums_count(e), sizeof(float), "gradients of all ranks"},
        {&e->rows, apart * train_rows_room(e) * e->p->d->width, sizeof(float),
         e->stream.blocks > 0 ? "two blocks of rows" : "rows of the dataset"},
        {&e->at.state, 1, sizeof *e->at.state, "batches and results"},
        {&e->at.plans, steps, sizeof *e->at.plans, "batches and results"},
        {&e->at.results, steps, sizeof *e->at.results, "batches and results"},
        {&e->at.indices, apart * steps * batch, sizeof *e->at.indices, "batches and results"},
        {&e->at.targets, apart * steps * batch * horizons, sizeof *e->at.targets, "batches and results"},
        {&e->at.index, apart * batch, sizeof *e->at.index, "batches and results"},
        {&e->at.target, apart * batch * horizons, sizeof *e->at.target, "batches and results"},
        {&e->device.weights, apart * total, sizeof(float), "weights and optimiser"},
        {&e->device.m, apart * total, sizeof(float), "weights and optimiser"},
        {&e->device.v, apart * total, sizeof(float), "weights and optimiser"},
        {&e->device.average, apart * total, sizeof(float), "weights and optimiser"},
        {&e->device.best, apart * total, sizeof(float), "weights and optimiser"},
    };
    memcpy(all, list, sizeof list);
}

/* ", gradients 0.123 GB" for each purpose, neighbours added. */
static void demands_say(const demand *all, char *text, size_t cap)
{
    size_t used = 0;
    for (int i = 0; i < DEMANDS; i++) {
        size_t bytes = oc_store_bytes(all[i].count, all[i].size);
        while (i + 1 < DEMANDS && strcmp(all[i].purpose, all[i + 1].purpose) == 0)
            i++, bytes += oc_store_bytes(all[i].count, all[i].size);
        if (bytes == 0 || used >= cap) continue;
        const int n = snprintf(text + used, cap - used, ", %s %.6f GB", all[i].purpose, (double)bytes * 1e-9);
        used += n > 0 ? (size_t)n : 0;
    }
}

static oc_status store_open(train_engine *e, demand all[DEMANDS])
{
    size_t bytes = 0;
    demands_make(e, all);
    for (int i = 0; i < DEMANDS; i++) bytes += oc_store_bytes(all[i].count, all[i].size);
    OC_TRY(oc_store_open(&e->store, train_engine_backend(e), bytes));
    return OC_OK;
}

static oc_status demands_take(train_engine *e)
{
    demand all[DEMANDS];
    int64_t tried = 0;
    OC_TRY(train_rows_plan(e));
    oc_status status = store_open(e, all);
    while (status == OC_EMEMORY && train_rows_halve(e, &tried)) status = store_open(e, all);
    if (status == OC_EMEMORY && tried > 0) status = store_open(e, all); /* for its message, with all rows again */
    OC_TRY(status);
    for (int i = 0; i < DEMANDS; i++)
        if (all[i].count > 0) OC_TRY(oc_store_take(&e->store, all[i].out, all[i].count, all[i].size, all[i].purpose));
    if (!e->apart)
        e->rows = (float *)(uintptr_t)e->p->d->x;
    else if (e->stream.blocks == 0)
        OC_TRY(oc_store_put(&e->store, e->rows, e->p->d->x, e->p->d->rows * e->p->d->width * sizeof(float)));
    return OC_OK;
}

static oc_status buffers_take(train_engine *e)
{
    const train_options *o = &e->p->o;
    size_t ranks = (size_t)e->comm->ranks, horizons = (size_t)o->shape.horizons;
    OC_TRY(oc_memory_new_array(&e->losses, (size_t)e->shards_all, sizeof *e->losses, "losses"));
    if (e->apart && e->stream.blocks > 0)
        OC_TRY(oc_memory_new_array(&e->valid_index, (size_t)e->shard_windows, sizeof *e->valid_index, "validation"));
    OC_TRY(oc_memory_new_array(&e->hashes, ranks, sizeof *e->hashes, "hashes"));
    OC_TRY(oc_memory_new_array(&e->valid_target, e->p->valid.count * horizons, sizeof *e->valid_target, "validation"));
    OC_TRY(oc_memory_new_array(&e->logits, e->valid_block * ranks * horizons * OC_CLASSES, sizeof *e->logits,
                               "validation"));
    for (size_t i = 0; i < e->p->valid.count; i++)
        train_plan_target(e->p, e->p->valid.row[i], e->valid_target + i * horizons);
    return OC_OK;
}

/* A GPU for each rank of a host; where a process sees only one, whoever started it has chosen. */
static oc_status device_choose(train_engine *e, int devices)
{
    const oc_comm *c = e->comm;
    e->gpu = devices > 1 ? c->place : 0;
    if (devices <= 1 || devices >= c->local) return OC_OK;
    return OC_FAIL(OC_ECONFIG, "%d ranks on this host see %d GPUs: a GPU serves one rank", c->local, devices);
}

/* A backend without memory, on the GPU that will be the rank's, so that no rank begins work on another's: by its place
 * among the ranks of its host, or 0 where it sees one GPU only. */
static oc_status probe_open(const train_engine *e, oc_backend **out)
{
    const train_options *o = &e->p->o;
    oc_backend_config config = {
        .kind = o->backend, .math = o->math, .lstm = o->lstm, .device = e->comm->local > 1 ? e->comm->place : 0};
    oc_status status = oc_backend_open(out, &config);
    if (status == OC_ECONFIG && config.device > 0) {
        config.device = 0;
        status = oc_backend_open(out, &config);
    }
    OC_TRY(status);
    return OC_OK;
}

/* Where the job will run decides how it is divided: a probe asks. */
static oc_status place_find(train_engine *e)
{
    const train_options *o = &e->p->o;
    oc_backend *probe;
    OC_TRY(probe_open(e, &probe));
    const oc_backend_info info = *oc_backend_describe(probe);
    oc_backend_close(probe);
    e->apart = !info.shares_host_memory;
    if (!e->apart && o->math != OC_MATH_F32)
        return OC_FAIL(OC_ECONFIG,
                       "math is tf32 or bf16, but the CPU computes f32: set math to f32, or backend to cuda");
    if (!e->apart && e->comm->kind && e->comm->kind->agreements_only)
        return OC_FAIL(OC_ECONFIG,
                       "--store is for ranks on GPUs, and this one computes on a CPU (%s): CPU ranks are started by "
                       "mpirun or srun",
                       info.reason);
    OC_TRY(device_choose(e, info.devices));
    return OC_OK;
}

static oc_status division_make(train_engine *e)
{
    const train_options *o = &e->p->o;
    const size_t ranks = (size_t)e->comm->ranks;
    OC_TRY(place_find(e));
    e->tree = !o->allreduce;
    e->worker_count = e->apart ? 1 : o->workers;
    e->shards_all = o->shards;
    e->shard_windows = (o->batch + e->shards_all - 1) / e->shards_all;
    e->shards = e->shards_all / e->comm->ranks;
    e->shard_first = e->comm->rank * e->shards;
    e->valid_block = (e->p->valid.count + ranks - 1) / ranks;
    e->steps_max = train_steps_limit(e);
    return OC_OK;
}

/* A device without room for the job: what it would take, by purpose. */
static oc_status memory_explain(train_engine *e, oc_status status)
{
    demand all[DEMANDS];
    char text[400] = "", before[TRAIN_MESSAGE_BYTES];
    size_t bytes = 0;
    const oc_backend_config config = {
        .kind = OC_BACKEND_CUDA, .device = e->gpu, .math = e->p->o.math, .lstm = e->p->o.lstm};
    if (status != OC_EMEMORY || !e->apart) return status;
    snprintf(before, sizeof before, "%s", oc_status_message());
    if (oc_graph_bytes(&config, &e->p->o.shape, e->shard_windows, true, &bytes) != OC_OK) bytes = 0;
    demands_make(e, all);
    demands_say(all, text, sizeof text);
    return OC_FAIL(
        OC_EMEMORY,
        "%s; this job takes, by purpose: activations of %d windows %.6f GB%s: a smaller train.batch, shorter "
        "window.steps or fewer rows need less",
        before, e->shard_windows, (double)bytes * 1e-9, text);
}

static oc_status engine_fill(train_engine *e)
{
    OC_TRY(division_make(e));
    OC_TRY(oc_memory_new_array(&e->workers, (size_t)e->worker_count, sizeof *e->workers, "workers"));
    OC_TRY(oc_team_open(&e->team, e->worker_count));
    oc_status status = graphs_open(e);
    if (status == OC_OK) status = demands_take(e);
    if (status != OC_OK) return memory_explain(e, status);
    OC_TRY(buffers_take(e));
    OC_TRY(train_steps_open(e));
    if (e->apart && e->comm->ranks > 1)
        OC_TRY(train_link_open(&e->link, e->comm, train_backend(e), e->p->o.comm_start_timeout_ns));
    train_buckets_open(e);
    return OC_OK;
}

oc_status train_engine_open(train_engine **out, const train_plan *p, oc_comm *comm)
{
    assert(p->o.shards % comm->ranks == 0);
    OC_TRY(oc_memory_new(out, sizeof **out, "training"));
    (*out)->p = p;
    (*out)->comm = comm;
    oc_status status = engine_fill(*out);
    if (status != OC_OK) {
        train_engine_close(*out);
        *out = NULL;
    }
    return status;
}

void train_engine_close(train_engine *e)
{
    if (!e) return;
    const bool broken = train_link_broken(e->link); /* then the device may never be done */
    train_link_close(e->link);
    if (broken) train_guard_close(e->comm->name, "letting go of the GPU", true, RELEASE_SECONDS);
    if (e->team) oc_team_close(e->team);
    train_steps_close(e);
    for (int i = 0; e->workers && i < e->worker_count; i++) {
        if (e->workers[i].graph) oc_graph_close(e->workers[i].graph);
    }
    oc_store_close(&e->store);
    if (broken) train_guard(NULL, NULL, 0);
    train_rows_close(e);
    void *const blocks[] = {e->workers, e->losses, e->valid_target, e->valid_index, e->logits, e->hashes};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) oc_memory_free(blocks[i]);
    oc_memory_free(e);
}

const oc_backend_info *train_engine_backend(const train_engine *e)
{
    return oc_backend_describe(oc_graph_backend(e->workers[0].graph));
}

int train_engine_workers(const train_engine *e)
{
    return e->worker_count;
}

/* --- the state, where it lies apart --- */

static void vectors_of(const train_weights *w, float *out[4])
{
    float *const all[4] = {w->weights, w->m, w->v, w->average};
    memcpy(out, all, sizeof all);
}

oc_status train_engine_put(train_engine *e, const train_weights *w)
{
    float *from[4], *to[4];
    vectors_of(w, from);
    vectors_of(&e->device, to);
    for (int i = 0; i < 4 && e->apart; i++)
        OC_TRY(oc_store_put(&e->store, to[i], from[i], e->p->parameters.total * sizeof(float)));
    return OC_OK;
}

oc_status train_engine_get(train_engine *e, train_weights *w)
{
    float *from[4], *to[4];
    vectors_of(&e->device, from);
    vectors_of(w, to);
    for (int i = 0; i < 4 && e->apart; i++)
        OC_TRY(oc_store_get(&e->store, to[i], from[i], e->p->parameters.total * sizeof(float)));
    return OC_OK;
}

/* --- work and ranks --- */

int train_engine_own(const train_engine *e, int count)
{
    size_t first, last, none;
    oc_team_split((size_t)count, e->shard_first, e->shards_all, &first, &none);
    oc_team_split((size_t)count, e->shard_first + e->shards - 1, e->shards_all, &none, &last);
    return (int)(last - first);
}

/* Shards and pieces go to whoever is free: a worker that the system holds up costs one of them, not its whole part.
 * Who computes what changes no bit: each result has its own place. */
size_t train_work_next(train_engine *e)
{
    return atomic_fetch_add_explicit(&e->next, 1, memory_order_relaxed);
}

/* Everyone has come once losses are there: who does not is named. */
oc_status train_losses_gather(train_engine *e)
{
    OC_TRY(
        oc_comm_gather(e->comm, "losses", e->losses, (size_t)e->shards * sizeof *e->losses, e->p->o.comm_timeout_ns));
    return OC_OK;
}

oc_status train_ranks_exchange(train_engine *e)
{
    const int64_t timeout_ns = e->p->o.comm_timeout_ns;
    const size_t total = e->p->parameters.total;
    OC_TRY(train_losses_gather(e));
    if (e->tree)
        OC_TRY(oc_comm_gather(e->comm, "gradients", e->sums, total * sizeof *e->sums, timeout_ns));
    else
        OC_TRY(oc_comm_sum(e->comm, "gradients", e->sums, total, timeout_ns));
    return OC_OK;
}

/* --- validation --- */

static oc_status piece_run(train_engine *e, size_t first, size_t last, oc_graph *graph)
{
    size_t horizons = (size_t)e->p->o.shape.horizons;
    for (size_t end; first < last; first = end) { /* once, where all rows are at hand */
        const int64_t *index;
        end = train_rows_piece(e, first, last);
        OC_TRY(train_rows_validate(e, first, end, &index));
        const oc_graph_batch batch = {.rows = train_all_rows(e),
                                      .index = index,
                                      .target = e->valid_target + first * horizons,
                                      .count = (int)(end - first)};
        OC_TRY(oc_graph_logits(graph, e->flat, e->packed, &batch, e->logits + first * horizons * OC_CLASSES, NULL));
    }
    return OC_OK;
}

static void valid_work(void *context, int index, int workers)
{
    train_engine *e = context;
    train_worker *w = &e->workers[index];
    size_t first = (size_t)e->comm->rank * e->valid_block, count = first + e->valid_block;
    size_t step = (size_t)e->shard_windows;
    if (count > e->p->valid.count) count = e->p->valid.count;
    (void)workers;
    for (size_t at = first + train_work_next(e) * step; at < count && w->status == OC_OK;
         at = first + train_work_next(e) * step) {
        oc_status status = piece_run(e, at, at + step < count ? at + step : count, w->graph);
        if (status != OC_OK) train_worker_fail(w, status);
    }
}

/* Ranks that took the same steps hold the same bits; where not, memory or processor of one is at fault, and going on
 * would hide it. */
static oc_status weights_compare(train_engine *e, const float *flat)
{
    if (e->comm->ranks == 1) return OC_OK;
    e->hashes[e->comm->rank] = oc_hash_bytes(flat, e->p->parameters.total * sizeof *flat);
    OC_TRY(oc_comm_gather(e->comm, "weights", e->hashes, sizeof *e->hashes, e->p->o.comm_timeout_ns));
    for (int r = 1; r < e->comm->ranks; r++) {
        if (oc_hash_equal(e->hashes[r], e->hashes[0])) continue;
        return OC_FAIL(OC_EFAILED,
                       "after step %lld rank %d holds other weights than rank 0: a fault of memory or processor on one "
                       "of their machines%s; the last checkpoint stands",
                       (long long)e->step + 1, r,
                       e->tree ? "" : ", or MPI_Allreduce gave them different sums: set reduce to tree");
    }
    return OC_OK;
}

oc_status train_engine_validate(train_engine *e, const float *flat, const float **logits, const int32_t **target)
{
    e->flat = e->apart ? e->device.best : flat;
    if (e->apart) OC_TRY(oc_store_put(&e->store, e->device.best, flat, e->p->parameters.total * sizeof *flat));
    OC_TRY(oc_graph_pack(e->workers[0].graph, e->flat, e->packed));
    OC_TRY(oc_backend_wait(oc_graph_backend(e->workers[0].graph)));
    OC_TRY(weights_compare(e, flat));
    OC_TRY(train_team_run(e, valid_work));
    OC_TRY(oc_comm_gather(e->comm, "validation", e->logits,
                          e->valid_block * (size_t)e->p->o.shape.horizons * OC_CLASSES * sizeof *e->logits,
                          e->p->o.comm_timeout_ns));
    *logits = e->logits;
    *target = e->valid_target;
    return OC_OK;
}
