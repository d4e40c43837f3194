/* models.h - the model repository: a folder of bundles, NAME/VERSION/{bundle.json, weights.safetensors}. */
#ifndef OC_SERVE_MODELS_H
#define OC_SERVE_MODELS_H

#include <stdbool.h>
#include "base/json.h"

enum { OC_MODELS_MAX = 4096 };

/* Every NAME/VERSION of the repository, sorted by name and then version, as an array of objects: model, version,
 * folder, good, and what the bundle says of itself or, where it cannot be loaded (loading checks every byte), the
 * error. wanted: NULL, or "NAME" or "NAME/VERSION" to take only those; OC_EDATA where there is none. *bad counts
 * bundles that cannot be used, those whose own name and version differ from their folders' among them. */
OC_MUST oc_models_list(const char *repository, const char *wanted, json_t **models, size_t *bad);

#endif
