/* models_state.h - which versions of a model shall be in use: NAME/state.json of the repository, replaced as a whole by
 * `outcry models promote` and `rollback`, read by the server when it changes. */
#ifndef OC_SERVE_MODELS_STATE_H
#define OC_SERVE_MODELS_STATE_H

#include <stdbool.h>
#include "base/file.h"
#include "base/json.h"

typedef struct oc_models_state {
    char live[32], previous[32], candidate[32]; /* versions; "": none */
    double canary;                              /* share of symbols that the candidate answers, 0 ... 1 */
} oc_models_state;

OC_MUST oc_models_state_path(const char *repository, const char *name, char path[OC_PATH_MAX]);
/* A file that is not there says nothing: all "". OC_EDATA with file and key. */
OC_MUST oc_models_state_read(const char *repository, const char *name, oc_models_state *state);
OC_MUST oc_models_state_write(const char *repository, const char *name, const oc_models_state *state);

/* wanted: NAME/VERSION; its bundle is loaded, which checks every byte, before anything is written. */
OC_MUST oc_models_promote(const char *repository, const char *wanted, oc_models_state *state); /* live */
OC_MUST oc_models_candidate(const char *repository, const char *wanted, double canary, oc_models_state *state);
/* A candidate is withdrawn; without one, the version that was live before is live again. */
OC_MUST oc_models_rollback(const char *repository, const char *name, oc_models_state *state);
json_t *oc_models_state_json(const oc_models_state *state); /* NULL: no memory */

#endif
