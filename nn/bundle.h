/* bundle.h - a trained model as a folder of exactly two files: bundle.json (shape, scaler, feature schema, label rule,
 * temperature, provenance, hashes) and weights.safetensors (PyTorch's names). Every byte of both is covered by a hash
 * that is checked at load: bundle.json carries the hash of the weights file, and last `self_hash` of itself, taken with
 * its own 32 digits as zeros. */
#ifndef OC_NN_BUNDLE_H
#define OC_NN_BUNDLE_H

#include "base/hash.h"
#include "nn/shape.h"

typedef struct oc_seen { /* what a model has seen of a symbol: training and validation */
    char symbol[32];
    int64_t first_ns, last_ns; /* time of the first window's first row … last known_ns */
} oc_seen;

typedef struct oc_bundle {
    char name[64], version[32], build[64], created[40];
    oc_model_shape shape;
    oc_hash schema;                   /* of the feature engine: oc_features_schema */
    char (*features)[64];             /* [inputs] column names */
    double *mean, *scale;             /* [inputs]: stored with 17 digits, used as f32 */
    double clip;                      /* in units of scale; 0: none */
    char labels[OC_HORIZONS_MAX][96]; /* "direction:10:0.0002" */
    double temperature[OC_HORIZONS_MAX];
    oc_hash dataset, fold;
    char fold_name[64], folds[256]; /* folds: the spec that oc_folds_open takes, so that a split can be found again */
    int64_t fold_index, embargo_ns;
    oc_seen *seen;
    size_t seen_count;
    uint64_t seed;
    int64_t train_steps;
    char reduce[32];    /* how ranks summed gradients: "tree" (any number of them, the same weights), "allreduce of 4
                           ranks" */
    char computed[160]; /* what trained it: "cpu", "cuda, large products by hand, LSTM by cuDNN 9.19.0", "not said" */
    float *flat;        /* weights, laid out by oc_parameters_describe */
    oc_hash weights;    /* weights_hash: oc_weights_hash, filled by save and load */
} oc_bundle;

OC_MUST oc_bundle_new(oc_bundle **out, const oc_model_shape *shape, size_t seen_count); /* zeroed, arrays taken */
void oc_bundle_close(oc_bundle *b);
OC_MUST oc_bundle_save(oc_bundle *b, const char *folder);    /* both files atomic, weights first; fills b->weights */
OC_MUST oc_bundle_load(oc_bundle **out, const char *folder); /* OC_EDATA names the file and what is wrong with it */
/* h = XXH3-128(h, XXH3-128(name)), then h = XXH3-128(h, XXH3-128(bytes)), over the tensors in table order, from zero.
 */
oc_hash oc_weights_hash(const oc_parameters *p, const float *flat);

#endif
