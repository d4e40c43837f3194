/* hash.h - XXH3-128 over bytes and files: finds damage, names contents. It is no defence against an attacker. */
#ifndef OC_BASE_HASH_H
#define OC_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct oc_hash {
    uint64_t low, high;
} oc_hash;

#define OC_HASH_TEXT 33                         /* 32 hex digits, high first, and the NUL */

oc_hash oc_hash_bytes(const void *data, size_t bytes);
oc_hash oc_hash_pair(oc_hash a, oc_hash b);     /* of the 32 bytes a, b: chains and trees */
bool oc_hash_equal(oc_hash a, oc_hash b);
const char *oc_hash_text(oc_hash hash, char text[OC_HASH_TEXT]);              /* returns text */
bool oc_hash_parse(const char *text, oc_hash *hash);                          /* exactly 32 hex digits */

typedef struct oc_hasher oc_hasher;             /* streaming */
OC_MUST oc_hasher_open(oc_hasher **out);
void oc_hasher_close(oc_hasher *h);
void oc_hasher_reset(oc_hasher *h);
void oc_hasher_add(oc_hasher *h, const void *data, size_t bytes);
oc_hash oc_hasher_result(const oc_hasher *h);

OC_MUST oc_hash_file(const char *path, oc_hash *hash);

#endif
