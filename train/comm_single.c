/* comm_single.c - one process, and what all kinds have in common. A job of one rank takes the same way through the code
 * as one of many; only nothing travels. */
#include "train/comm.h"

#include <assert.h>

oc_comm oc_comm_single(void)
{
    return (oc_comm){.ranks = 1, .local = 1, .name = "rank 0"};
}

static oc_status exchange(oc_comm *c, const oc_comm_call *call)
{
    assert(call->what && call->timeout_ns > 0 && (call->data || call->bytes == 0));
    if (c->ranks == 1) return OC_OK;
    OC_TRY(c->kind->exchange(c, call));
    return OC_OK;
}

oc_status oc_comm_gather(oc_comm *c, const char *what, void *all, size_t bytes, int64_t timeout_ns)
{
    const oc_comm_call call = {.what = what, .data = all, .bytes = bytes, .timeout_ns = timeout_ns};
    return exchange(c, &call);
}

oc_status oc_comm_broadcast(oc_comm *c, const char *what, void *data, size_t bytes, int64_t timeout_ns)
{
    const oc_comm_call call = {.what = what, .data = data, .bytes = bytes, .broadcast = true, .timeout_ns = timeout_ns};
    return exchange(c, &call);
}

oc_status oc_comm_sum(oc_comm *c, const char *what, float *data, size_t count, int64_t timeout_ns)
{
    const oc_comm_call call = {.what = what,
                               .data = (unsigned char *)data,
                               .bytes = count * sizeof *data,
                               .sum = true,
                               .timeout_ns = timeout_ns};
    return exchange(c, &call);
}

void oc_comm_close(oc_comm *c, oc_status status)
{
    if (c->kind) c->kind->close(c, status);
    *c = oc_comm_single();
}
