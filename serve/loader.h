/* loader.h - a thread beside the batchers that loads versions, hands them over, and watches the files: the repository's
 * state (models_state.h) says which version shall be live, which one runs as its shadow or canary. Loading, checking,
 * packing and warming are done here; a batcher only exchanges a slot. What is refused stays refused, with its reason,
 * until the state changes. */
#ifndef OC_SERVE_LOADER_H
#define OC_SERVE_LOADER_H

#include "base/text.h"
#include "serve/batcher.h"
#include "serve/accuracy.h"

typedef struct oc_loader_config {
    const char *bundle;            /* folder, where there is no repository */
    const char *repository, *name; /* repository: NULL or "" for none; name: NULL or "" where it holds one model */
    const char *status_path;       /* rewritten when something changes; NULL: nowhere */
    int64_t verify_ns;             /* files of loaded versions are hashed again so often */
    oc_accuracy accuracy;          /* where batcher.backend.math is BF16 */
    oc_batcher_config batcher;
} oc_loader_config;

typedef struct oc_loader oc_loader;
/* Loads the version that is to be live first: state.json's, or the only one. */
OC_MUST oc_loader_open(oc_loader **out, const oc_loader_config *config);
const oc_version *oc_loader_first(const oc_loader *l); /* lives as long as the loader */
OC_MUST oc_loader_start(oc_loader *l, oc_batcher *batchers, int count);
void oc_loader_stop(oc_loader *l);  /* before the batchers end */
void oc_loader_close(oc_loader *l); /* after them; NULL is fine */

void oc_loader_live(oc_loader *l, char version[32], uint32_t *generation); /* of a client that comes now */
void oc_loader_scaler(oc_loader *l, float *mean, float *scale); /* of the live version's first member; [inputs] */
/* The text of a generation of this server; false where there was none. */
bool oc_loader_version(oc_loader *l, uint32_t generation, char version[32]);
/* Of a version that is loaded, the live one or the one beside it; false where it is neither. */
bool oc_loader_generation(oc_loader *l, const char *version, uint32_t *generation);
/* One JSON object: model, live, other, candidate, canary, phase, refused, report. "" and no more where memory is short.
 */
void oc_loader_write(oc_loader *l, oc_text *out);

void oc_loader_metrics(oc_loader *l, oc_text *out); /* Prometheus text */

#endif
