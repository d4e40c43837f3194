/* version.h - what lies in one folder of the repository, loaded: a bundle, with a stamp of its files as they were, so
 * that a change on disk afterwards is noticed. Shared by all batchers, which only read it. */
#ifndef OC_SERVE_VERSION_H
#define OC_SERVE_VERSION_H

#include "base/file.h"
#include "nn/bundle.h"

enum { OC_VERSION_MEMBERS_MAX = 8 };

typedef struct oc_version {
    char name[64], text[32], folder[OC_PATH_MAX];
    uint32_t generation; /* counts the versions that this server has loaded, from 1 */
    int count;           /* members: 1, or those of an ensemble */
    oc_bundle *members[OC_VERSION_MEMBERS_MAX];
    float weights[OC_VERSION_MEMBERS_MAX];
    oc_hash stamp;
    bool changed, borrowed; /* changed: seen on disk; borrowed: the bundles are somebody else's */
} oc_version;

/* OC_EDATA names the file: damaged, or changed while it was read. */
OC_MUST oc_version_load(oc_version **out, const char *folder, uint32_t generation);
void oc_version_close(oc_version *v);
void oc_version_of_bundle(oc_version *out, oc_bundle *bundle); /* generation 1; the bundle is borrowed */
/* OC_EDATA where the files are no longer those that were loaded. Reads them all. */
OC_MUST oc_version_check(const oc_version *v);
/* OC_EDATA with the reason where sessions of `live` cannot go on with v: another name, feature schema, T, F or
 * horizons. */
OC_MUST oc_version_fits(const oc_version *v, const oc_version *live);
const oc_model_shape *oc_version_shape(const oc_version *v); /* T, F and horizons are those of every member */

#endif
