/* buckets.c - gradients of ranks on GPUs, sent while backward still runs. They become final from the head back to the
 * first layer; as soon as a bucket (nn/shape.h) of the rank's last shard is, the rank's shards of it are summed and it
 * sets out, on a lane of its own, while the next layer is computed. Which bucket a number lies in changes no bit of the
 * tree: each number is summed by itself. In `sums` a bucket has one place, [ranks][count], that begins at first x
 * ranks. */
#include "train/engine_parts.h"
#include "train/guard.h"

static oc_status final(void *context, size_t first)
{
    OC_TRY(train_buckets_final(context, first));
    return OC_OK;
}

void train_buckets_open(train_engine *e)
{
    const size_t least = (size_t)(e->p->o.bucket_mb * 1e6 / sizeof(float));
    if (!e->link) return;
    e->bucket_count = oc_parameters_buckets(&e->p->parameters, least, e->buckets);
    e->watch = (oc_graph_watch){final, e};
}

int train_engine_buckets(const train_engine *e)
{
    return (int)e->bucket_count;
}

int64_t train_engine_moves(const train_engine *e)
{
    return train_link_starts(e->link);
}

static oc_status bucket_start(train_engine *e, const oc_parameter_range *r)
{
    oc_backend *b = train_backend(e);
    const int64_t timeout_ns = e->p->o.comm_timeout_ns;
    float *all = e->sums + r->first * train_sums_count(e),
          *own = all + (e->tree ? (size_t)e->comm->rank * r->count : 0);
    OC_TRY(oc_backend_ops(b)->tree_sum(b, train_sums_of(e->partials + r->first, e->shards, e->p->parameters.total),
                                       train_vector(own, r->count)));
    OC_TRY(e->tree ? train_link_gather(e->link, "gradients", all, r->count, timeout_ns)
                   : train_link_sum(e->link, "gradients", all, r->count, timeout_ns));
    return OC_OK;
}

oc_status train_buckets_final(train_engine *e, size_t first)
{
    for (; e->bucket_next < e->bucket_count && e->buckets[e->bucket_next].first >= first; e->bucket_next++)
        OC_TRY(bucket_start(e, &e->buckets[e->bucket_next]));
    return OC_OK;
}

oc_status train_buckets_sum(train_engine *e)
{
    oc_backend *b = train_backend(e);
    const size_t count = train_sums_count(e);
    if (e->bucket_next != e->bucket_count)
        return OC_FAIL(OC_EFAILED, "only %zu of %zu buckets of gradients have set out", e->bucket_next,
                       e->bucket_count);
    e->bucket_next = 0;
    train_guard(NULL, NULL, 0); /* the GPU's own work is done: whoever is late now is named by comm or link */
    OC_TRY(train_losses_gather(e));
    OC_TRY(train_link_await(e->link, "gradients", e->p->o.comm_timeout_ns));
    for (size_t i = 0; i < e->bucket_count; i++) {
        const oc_parameter_range *r = &e->buckets[i];
        OC_TRY(oc_backend_ops(b)->tree_sum(b, train_sums_of(e->sums + r->first * count, (int)count, r->count),
                                           train_vector(e->gradient + r->first, r->count)));
    }
    return OC_OK;
}
