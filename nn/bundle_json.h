/* bundle_json.h - bundle.json as text, for bundle.c and its fuzz target; nobody else needs it. */
#ifndef OC_NN_BUNDLE_JSON_H
#define OC_NN_BUNDLE_JSON_H

#include "nn/bundle.h"

enum { OC_BUNDLE_JSON_MAX = 16 << 20 };

typedef struct oc_bundle_file {
    uint64_t bytes;
    oc_hash hash;
} oc_bundle_file; /* what bundle.json says of the weights */

/* Text with its self_hash filled in; malloc'ed: free(). */
OC_MUST oc_bundle_json_write(const oc_bundle *b, const oc_bundle_file *weights, char **text, size_t *bytes);
/* Every byte counts: the hash over the text with its own 32 digits as zeros must be those digits. OC_EDATA. */
OC_MUST oc_bundle_json_sealed(const char *text, size_t bytes, const char *name);
/* Everything but the seal: a bundle whose weights are still zero. actual: size of weights.safetensors as found. */
OC_MUST oc_bundle_json_read(oc_bundle **out, const char *text, size_t bytes, const char *name, uint64_t actual,
                            oc_bundle_file *weights);

#endif
