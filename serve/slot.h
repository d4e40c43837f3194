/* slot.h - one version in one batcher: its models, and the staggered windows of every session in it. A batcher has two,
 * the one that is live and the one that is to be or was. Opened, warmed and measured by whoever loads; then used by the
 * batcher's thread alone. Nothing is allocated after open. */
#ifndef OC_SERVE_SLOT_H
#define OC_SERVE_SLOT_H

#include "nn/model.h"
#include "serve/version.h"

typedef struct oc_slot {
    const oc_version *version; /* outlives the slot; NULL: an empty slot */
    oc_model *models[OC_ENSEMBLE_MAX];
    oc_sliding *slidings[OC_ENSEMBLE_MAX];
    float *scratch; /* answers of one member */
    size_t scratch_cap, bytes;
    int64_t advance_ns; /* one advance of one session, all its pieces, the least of a few */
} oc_slot;

typedef struct oc_slot_config {
    int batch_max, sessions_max;
    size_t memory_max_bytes; /* of the windows in this slot */
    oc_backend_config backend;
    bool resident; /* serve.gpu_path: oc_sliding_reside */
} oc_slot_config;

OC_MUST oc_slot_open(oc_slot *s, const oc_version *version, const oc_slot_config *config);
void oc_slot_close(oc_slot *s); /* empty afterwards; an empty one is fine */

/* As oc_model_predict and oc_sliding_*. Of an ensemble: the sum of weight times answer, member by member in f32, in the
 * order of its file; a piece of an advance is one of the first member that has one. */
OC_MUST oc_slot_predict(oc_slot *s, const float *rows_raw, size_t windows, float *probabilities, size_t cap);
OC_MUST oc_slot_step(oc_slot *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                     size_t cap, uint8_t *full);
OC_MUST oc_slot_advance_some(oc_slot *s, uint32_t slot);
OC_MUST oc_slot_hasten(oc_slot *s, uint32_t slot);
bool oc_slot_due(const oc_slot *s, uint32_t slot);
void oc_slot_reset(oc_slot *s, uint32_t slot);

#endif
