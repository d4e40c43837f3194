/* link.c - see link.h: calls through the driver's rows. */
#include "kernels/link.h"

#include <assert.h>

#include "kernels/backend.h"

static OC_MUST rows_find(const oc_backend *b, const oc_link_driver **out)
{
    *out = b->driver->link;
    if (*out) return OC_OK;
    return OC_FAIL(OC_EFAILED, "backend %s: vectors of other ranks go through the host here: there is no link",
                   b->info.kind == OC_BACKEND_CPU ? "cpu" : "cuda");
}

oc_status oc_link_id(oc_backend *b, unsigned char id[OC_LINK_ID_BYTES])
{
    const oc_link_driver *rows;
    OC_TRY(rows_find(b, &rows));
    OC_TRY(rows->id(b, id));
    return OC_OK;
}

oc_status oc_link_open(oc_link **out, oc_backend *b, const oc_link_seat *seat)
{
    const oc_link_driver *rows;
    assert(seat->ranks >= 1 && seat->rank >= 0 && seat->rank < seat->ranks);
    *out = NULL;
    OC_TRY(rows_find(b, &rows));
    OC_TRY(oc_memory_new(out, sizeof **out, "link"));
    **out = (oc_link){.b = b, .rank = seat->rank, .ranks = seat->ranks};
    const oc_status status = rows->open(*out, seat);
    if (status != OC_OK) {
        oc_memory_free(*out);
        *out = NULL;
    }
    return status;
}

static OC_MUST start(oc_link *l, oc_link_work work, float *data, size_t count)
{
    OC_TRY(l->b->driver->link->start(l, work, data, count));
    return OC_OK;
}

oc_status oc_link_gather(oc_link *l, float *all, size_t count)
{
    return start(l, OC_LINK_GATHER, all, count);
}

oc_status oc_link_sum(oc_link *l, float *data, size_t count)
{
    return start(l, OC_LINK_SUM, data, count);
}

oc_status oc_link_poll(oc_link *l, oc_link_state *state)
{
    OC_TRY(l->b->driver->link->poll(l, state));
    return OC_OK;
}

void oc_link_close(oc_link *l)
{
    if (!l) return;
    l->b->driver->link->close(l);
    oc_memory_free(l);
}
