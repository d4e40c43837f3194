/* store.c - see store.h. */
#include "nn/store.h"

#include <assert.h>
#include <string.h>

oc_status oc_store_open(oc_store *s, const oc_backend_info *where, size_t bytes)
{
    *s = (oc_store){.device = NULL};
    if (where->shares_host_memory) return OC_OK;
    const oc_backend_config config = {
        .kind = where->kind, .device = where->device_index, .arena_bytes = bytes}; /* computes nothing */
    OC_TRY(oc_backend_open(&s->device, &config));
    return OC_OK;
}

void oc_store_close(oc_store *s)
{
    oc_backend_close(s->device);
    for (int i = 0; i < s->count; i++) oc_memory_free(s->plain[i]);
    *s = (oc_store){.device = NULL};
}

size_t oc_store_bytes(size_t count, size_t size)
{
    return oc_align_up(count * size);
}

static oc_tensor bytes_at(const void *data, size_t bytes)
{
    return oc_tensor_make((void *)(uintptr_t)data, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1);
}

oc_status oc_store_take(oc_store *s, void *out, size_t count, size_t size, const char *what)
{
    void *data = NULL;
    if (s->device) {
        oc_tensor t = bytes_at(NULL, count * size);
        OC_TRY(oc_backend_alloc(s->device, &t));
        OC_TRY(oc_backend_wait(s->device)); /* cleared, before another stream writes it */
        data = t.data;
    } else {
        assert(s->count < OC_STORE_BLOCKS);
        OC_TRY(oc_memory_new_array(&data, count * size, 1, what));
        s->plain[s->count++] = data;
    }
    memcpy(out, &data, sizeof data);
    return OC_OK;
}

oc_status oc_store_put(oc_store *s, void *to, const void *host, size_t bytes)
{
    if (!s->device) {
        if (to != host) memcpy(to, host, bytes);
        return OC_OK;
    }
    OC_TRY(oc_backend_upload(s->device, bytes_at(to, bytes), host, bytes));
    OC_TRY(oc_backend_wait(s->device));
    return OC_OK;
}

oc_status oc_store_get(oc_store *s, void *host, const void *from, size_t bytes)
{
    if (!s->device) {
        if (host != from) memcpy(host, from, bytes);
        return OC_OK;
    }
    OC_TRY(oc_backend_download(s->device, host, bytes, bytes_at(from, bytes)));
    OC_TRY(oc_backend_wait(s->device));
    return OC_OK;
}
