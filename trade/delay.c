/* delay.c - quantiles in and out of a file, draws between them, a histogram of fixed size. */
#include "trade/delay.h"

#include <string.h>

#include "base/json.h"
#include "base/random.h"

enum { FILE_BYTES_MAX = 1 << 20, SUB_BITS = 6, SAVED = 256 };

/* ---- drawing ---- */

static oc_status quantiles_read(oc_delay *d, const json_t *root, const char *path)
{
    json_t *list;
    int64_t version;
    const char *format;
    OC_TRY(oc_json_text(root, "format", path, &format));
    if (strcmp(format, "outcry-delays") != 0)
        return OC_FAIL(OC_EDATA, "%s: format is \"%.40s\", not \"outcry-delays\"", path, format);
    OC_TRY(oc_json_int(root, "version", path, 1, 1, &version));
    OC_TRY(oc_json_get(root, "quantiles_ns", path, JSON_ARRAY, &list));
    size_t count = json_array_size(list);
    if (!(count >= 2 && count <= OC_DELAY_QUANTILES_MAX))
        return OC_FAIL(OC_EDATA, "%s: %zu quantiles_ns, not 2 to %d", path, count, OC_DELAY_QUANTILES_MAX);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        int64_t ns = json_is_integer(item) ? (int64_t)json_integer_value(item) : -1;
        if (!(ns >= (i ? d->quantile_ns[i - 1] : 0) && ns <= OC_DELAY_MAX_NS))
            return OC_FAIL(OC_EDATA, "%s: quantiles_ns[%zu] is no integer from %s to %lld ns", path, i,
                           i ? "the one before it" : "0", (long long)OC_DELAY_MAX_NS);
        d->quantile_ns[i] = ns;
    }
    d->count = (uint32_t)count;
    return OC_OK;
}

oc_status oc_delay_load(oc_delay *d, const char *path, uint64_t seed)
{
    json_t *root;
    memset(d, 0, sizeof *d);
    d->seed = seed;
    OC_TRY(oc_json_load(path, FILE_BYTES_MAX, &root));
    oc_status status = quantiles_read(d, root, path);
    json_decref(root);
    return status;
}

/* 32.32 fixed point: the same bits on any machine. */
int64_t oc_delay_draw(const oc_delay *d, uint32_t instrument, uint64_t sequence)
{
    if (d->count < 2) return d->fixed_ns;
    uint32_t key = oc_random_key(d->seed, OC_RANDOM_DELAY, instrument, 0);
    uint64_t at = oc_random_below(key, sequence, (uint64_t)(d->count - 1) << 32);
    int64_t low = d->quantile_ns[at >> 32], high = d->quantile_ns[(at >> 32) + 1];
    __extension__ typedef unsigned __int128 wide;
    return low + (int64_t)(((wide)(high - low) * (at & UINT32_MAX)) >> 32);
}

/* ---- measuring ---- */

static size_t bucket_of(uint64_t ns)
{
    if (ns < 1u << SUB_BITS) return (size_t)ns;
    int octave = 63 - __builtin_clzll(ns) - SUB_BITS;
    return (size_t)(octave + 1) << SUB_BITS | (size_t)(ns >> octave & ((1u << SUB_BITS) - 1));
}

/* The largest value of a bucket. */
static int64_t bucket_end(size_t bucket)
{
    size_t octave = bucket >> SUB_BITS;
    if (octave == 0) return (int64_t)bucket;
    uint64_t low = (bucket & ((1u << SUB_BITS) - 1)) | 1u << SUB_BITS;
    return (int64_t)(((low + 1) << (octave - 1)) - 1);
}

void oc_delay_add(oc_delay_record *r, int64_t delay_ns)
{
    int64_t ns = delay_ns < 0 ? 0 : delay_ns > OC_DELAY_MAX_NS ? OC_DELAY_MAX_NS : delay_ns;
    if (r->count == 0 || ns < r->least_ns) r->least_ns = ns;
    if (r->count == 0 || ns > r->most_ns) r->most_ns = ns;
    r->bucket[bucket_of((uint64_t)ns)]++;
    r->count++;
}

int64_t oc_delay_quantile(const oc_delay_record *r, double share)
{
    uint64_t before = 0;
    double wanted = share * (double)r->count;
    if (r->count == 0 || share <= 0) return r->least_ns;
    for (size_t i = 0; i < OC_DELAY_BUCKETS; i++) {
        before += r->bucket[i];
        int64_t end = bucket_end(i);
        if (r->bucket[i] && (double)before >= wanted)
            return end < r->least_ns ? r->least_ns : end > r->most_ns ? r->most_ns : end;
    }
    return r->most_ns;
}

oc_status oc_delay_save(const oc_delay_record *r, const char *path)
{
    if (r->count == 0) return OC_FAIL(OC_EDATA, "%s: no delay was measured", path);
    json_t *list = json_array(), *root;
    for (int i = 0; i <= SAVED; i++) {
        double share = (double)i / SAVED;
        (void)json_array_append_new(list, json_integer((json_int_t)oc_delay_quantile(r, share)));
    }
    root = json_pack("{s:s, s:i, s:I, s:o}", "format", "outcry-delays", "version", 1, "count", (json_int_t)r->count,
                     "quantiles_ns", list);
    if (!root) return OC_FAIL(OC_EMEMORY, "%s: no memory", path);
    oc_status status = oc_json_save(path, root);
    json_decref(root);
    return status;
}
