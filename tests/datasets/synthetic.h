/* synthetic.h - small datasets for tests, made by the real writer from functions: no event file, no feature engine. */
#ifndef OC_TESTS_DATASETS_SYNTHETIC_H
#define OC_TESTS_DATASETS_SYNTHETIC_H

#include "datasets/dataset_writer.h"

typedef struct synthetic {
    size_t rows, width, symbols;               /* rows of each symbol; symbols named S0, S1, … */
    uint64_t seed;
    int64_t first_ns, step_ns;                 /* row i at first_ns + i * step_ns; 0: 1.6e18 and one second */
    const char *labels[8];                     /* "direction:10:0.0002"; the first NULL ends them */
    size_t break_every;                        /* rows between gaps; 0: none. run_length restarts there */
    const char *source;                        /* name of the only source; NULL: "synthetic.events" */
    /* Each may be NULL. x: default uniform in [-1, 1) by (seed, symbol, row, column). mid: default a random walk of
     * 1 bp steps from 100 that the next row's x[0] > 0 announces a little. spread: default 0.01. */
    float (*x)(void *context, size_t symbol, size_t row, size_t column);
    double (*mid)(void *context, size_t symbol, size_t row);
    oc_label_function label;                   /* default oc_label_compute */
    void *context;
} synthetic;

OC_MUST synthetic_write(const char *path, const synthetic *s, oc_hash *root);      /* root may be NULL */

#endif
