/* hash.c - libxxhash behind plain functions; no other file includes xxhash.h. */
#include "base/hash.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#ifdef OC_XXHASH_DISPATCH
#include <xxh_x86dispatch.h> /* the same names, chosen by instruction set: 20 -> 57 GB/s with AVX2 */
#endif

#include "base/file.h"
#include "base/memory.h"

struct oc_hasher {
    XXH3_state_t *state;                        /* its size belongs to the library */
};

static oc_hash from_xxh(XXH128_hash_t h)
{
    return (oc_hash){h.low64, h.high64};
}

oc_hash oc_hash_bytes(const void *data, size_t bytes)
{
    return from_xxh(XXH3_128bits(data, bytes));
}

oc_hash oc_hash_pair(oc_hash a, oc_hash b)
{
    XXH128_canonical_t both[2];                 /* big-endian bytes: the same on every machine */
    XXH128_canonicalFromHash(&both[0], (XXH128_hash_t){a.low, a.high});
    XXH128_canonicalFromHash(&both[1], (XXH128_hash_t){b.low, b.high});
    return oc_hash_bytes(both, sizeof both);
}

bool oc_hash_equal(oc_hash a, oc_hash b)
{
    return a.low == b.low && a.high == b.high;
}

const char *oc_hash_text(oc_hash hash, char text[OC_HASH_TEXT])
{
    snprintf(text, OC_HASH_TEXT, "%016llx%016llx", (unsigned long long)hash.high, (unsigned long long)hash.low);
    return text;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)((at - digits) & 15) : -1;
}

bool oc_hash_parse(const char *text, oc_hash *hash)
{
    uint64_t words[2] = {0, 0};
    if (!text) return false;
    for (int i = 0; i < 32; i++) {
        int digit = hex_digit(text[i]);
        if (digit < 0) return false;            /* also where the text is short */
        words[i / 16] = words[i / 16] << 4 | (uint64_t)digit;
    }
    if (text[32]) return false;
    *hash = (oc_hash){.low = words[1], .high = words[0]};
    return true;
}

oc_status oc_hasher_open(oc_hasher **out)
{
    OC_TRY(oc_memory_new(out, sizeof **out, "hasher"));
    (*out)->state = XXH3_createState();
    if (!(*out)->state) {
        oc_memory_free(*out);
        *out = NULL;
        return OC_FAIL(OC_EMEMORY, "hasher: no memory for its state");
    }
    oc_hasher_reset(*out);
    return OC_OK;
}

void oc_hasher_close(oc_hasher *h)
{
    if (h) XXH3_freeState(h->state);
    oc_memory_free(h);
}

void oc_hasher_reset(oc_hasher *h)
{
    XXH3_128bits_reset(h->state);
}

void oc_hasher_add(oc_hasher *h, const void *data, size_t bytes)
{
    if (bytes) XXH3_128bits_update(h->state, data, bytes);
}

oc_hash oc_hasher_result(const oc_hasher *h)
{
    return from_xxh(XXH3_128bits_digest(h->state));
}

oc_status oc_hash_file(const char *path, oc_hash *hash)
{
    oc_file_map map;
    OC_TRY(oc_file_map_open(&map, path));
    *hash = oc_hash_bytes(map.data, map.bytes);
    oc_file_map_close(&map);
    return OC_OK;
}
