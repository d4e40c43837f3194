/* ensemble.h - several bundles that answer as one: the sum of weight times probabilities. In a repository of models
 * NAME/VERSION/ensemble.json stands where a bundle's two files would: it names versions of the same NAME, each with its
 * weight and the hash of its files, so that what answers is what was put together. All members have one feature schema,
 * T, F, horizons and label rules. A folder with a bundle is read as an ensemble of one. */
#ifndef OC_NN_ENSEMBLE_H
#define OC_NN_ENSEMBLE_H

#include "base/file.h"
#include "nn/bundle.h"

enum { OC_ENSEMBLE_MAX = 8 };

typedef struct oc_ensemble {
    char name[64], version[32];
    int count;
    oc_bundle *members[OC_ENSEMBLE_MAX];
    float weights[OC_ENSEMBLE_MAX]; /* above 0; their sum is 1 within 1e-6 */
    oc_hash stamp;                  /* of every file that was read, as it was then */
    oc_hash member_stamps[OC_ENSEMBLE_MAX];
    char folder[OC_PATH_MAX], member_folders[OC_ENSEMBLE_MAX][OC_PATH_MAX];
} oc_ensemble;

/* OC_EDATA names the file and what is wrong: damaged, a member that is another one than when it was put together,
 * members that do not fit each other. */
OC_MUST oc_ensemble_load(oc_ensemble **out, const char *folder);
void oc_ensemble_close(oc_ensemble *e);                        /* NULL is fine */
OC_MUST oc_ensemble_stamp(const oc_ensemble *e, oc_hash *now); /* reads all files again */
/* Writes FOLDER/ensemble.json, FOLDER being NAME/VERSION, from versions of NAME beside it; weights are divided by their
 * sum. OC_EUSAGE where something lies there already; where the members do not
 * fit, nothing is left there. */
OC_MUST oc_ensemble_save(const char *folder, const char *name, const char *version, const char *const *members,
                         const double *weights, int count);
/* What every user does with the members' answers in turn, in f32, so that all get the same bits: answers [n] holds the
 * first one's and is weighed, then weight times `more` is added. One member: nothing is done. */
void oc_ensemble_add(const oc_ensemble *e, int member, const float *more, float *answers, size_t n);

#endif
