/* version.h - what lies in one folder of the repository, loaded: a bundle, with a stamp of its files as they were, so
 * that a change on disk afterwards is noticed. Shared by all batchers, which only read it. */
#ifndef OC_SERVE_VERSION_H
#define OC_SERVE_VERSION_H

#include "base/file.h"
#include "nn/agreement.h"
#include "nn/ensemble.h"

typedef struct oc_version {
    char name[64], text[32];
    uint32_t generation;    /* counts the versions that this server has loaded, from 1 */
    oc_ensemble *ensemble;  /* of one, where it is a bundle */
    const oc_bundle *first; /* member: its name, schema, T, F and horizons are those of all */
    bool changed;           /* seen on disk */
    oc_agreement agreement; /* of its answers in bf16 with those in f32 (accuracy.h); zeros in f32 */
} oc_version;

/* OC_EDATA names the file: damaged, or changed while it was read. */
OC_MUST oc_version_load(oc_version **out, const char *folder, uint32_t generation);
void oc_version_close(oc_version *v);
/* For tests: of an ensemble of one, in the caller's storage, that borrows the bundle; generation 1; never closed. */
void oc_version_of_bundle(oc_version *out, oc_ensemble *storage, oc_bundle *bundle);
/* OC_EDATA where the files are no longer those that were loaded. Reads them all. */
OC_MUST oc_version_check(const oc_version *v);
/* OC_EDATA with the reason where sessions of `live` cannot go on with v: another name, feature schema, T, F or
 * horizons. */
OC_MUST oc_version_fits(const oc_version *v, const oc_version *live);
const oc_model_shape *oc_version_shape(const oc_version *v); /* T, F and horizons are those of every member */

#endif
