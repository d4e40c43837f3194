/* sample_bundle.h - bundles for tests, with enlarged weights: with fresh ones all windows get nearly the same answer,
 * and a model that ignores its input would pass. */
#ifndef OC_TESTS_NN_SAMPLE_BUNDLE_H
#define OC_TESTS_NN_SAMPLE_BUNDLE_H

#include <stdio.h>
#include <string.h>
#include "base/random.h"
#include "nn/bundle.h"

static inline oc_status sample_bundle(oc_bundle **out, const oc_model_shape *shape, float enlarge, double clip,
                                      uint64_t seed)
{
    oc_parameters p;
    OC_TRY(oc_bundle_new(out, shape, 1));
    oc_bundle *b = *out;
    snprintf(b->name, sizeof b->name, "sample");
    snprintf(b->version, sizeof b->version, "1");
    snprintf(b->build, sizeof b->build, "test");
    snprintf(b->created, sizeof b->created, "2020-01-01 00:00:00.000000000Z");
    snprintf(b->fold_name, sizeof b->fold_name, "fold-0");
    snprintf(b->seen[0].symbol, sizeof b->seen[0].symbol, "SIM");
    for (int i = 0; i < shape->inputs; i++) {
        snprintf(b->features[i], sizeof *b->features, "feature:%d", i);
        b->mean[i] = 0.3 * i - 1;
        b->scale[i] = 0.5 + 0.1 * i;
    }
    for (int i = 0; i < shape->horizons; i++) {
        snprintf(b->labels[i], sizeof *b->labels, "direction:%d:0.0001", 10 * (i + 1));
        b->temperature[i] = 1.3 + 0.4 * i;
    }
    b->clip = clip;
    oc_parameters_describe(&p, shape);
    oc_parameters_init(&p, seed, b->flat);
    const uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 9, 0);
    for (size_t i = 0; i < p.count; i++) {
        for (size_t k = 0; k < p.row[i].count; k++) { /* biases that start at zero too: their place must show */
            float *x = &b->flat[p.row[i].first + k];
            *x =
                (p.row[i].init_bound > 0 ? *x : (float)(0.4 * oc_random_uniform(key, i * 1000003 + k) - 0.2)) * enlarge;
        }
    }
    return OC_OK;
}

#endif
