/* sample_dataset.h - a small dataset in memory, no file: three symbols, F features, a class that depends on two rows of
 * the window, so that a model can learn it. The config text of a small, fast job beside it. */
#ifndef OC_TESTS_TRAIN_SAMPLE_DATASET_H
#define OC_TESTS_TRAIN_SAMPLE_DATASET_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "datasets/dataset.h"
#include "datasets/folds.h"

enum { SAMPLE_SYMBOLS = 3 };

typedef struct sample_dataset {
    oc_dataset d;
    oc_dataset_symbol symbols[SAMPLE_SYMBOLS];
    char features[64][64];
    float *x, *return_;
    int64_t *time_ns, *known_ns;
    uint32_t *run_length;
    int8_t *class_;
    uint8_t *valid;
    oc_fold fold;
    oc_folds folds;
} sample_dataset;

static inline void *sample_take(size_t count, size_t bytes)
{
    void *p = calloc(count, bytes);
    if (!p) abort();
    return p;
}

static inline void sample_columns(sample_dataset *s, size_t each, size_t width)
{
    const uint32_t key = oc_random_key(77, OC_RANDOM_TEST, each, width);
    for (size_t row = 0; row < each * SAMPLE_SYMBOLS; row++) {
        size_t within = row % each;
        s->time_ns[row] = (int64_t)(within + 1) * 1000; /* the symbols share their times */
        s->run_length[row] = (uint32_t)(within + 1 > 300 ? within - 299 : within + 1); /* a gap at row 300 */
        for (size_t f = 0; f < width; f++)
            s->x[row * width + f] = (float)(4 * oc_random_uniform(key, row * width + f) - 2 + (double)f);
        s->valid[row] = within + 5 < each;
        s->known_ns[row] = s->time_ns[row] + (s->valid[row] ? 5000 : 0);
        float signal = within >= 3 ? s->x[row * width] + s->x[(row - 3) * width + 1] - 1 : 0;
        s->class_[row] = (int8_t)(signal > 0.8f ? OC_CLASS_BUY : signal < -0.8f ? OC_CLASS_SELL : OC_CLASS_HOLD);
    }
}

/* each: rows of a symbol. The fold is 0.6 : 0.2 : 0.2 of the time. */
static inline sample_dataset *sample_dataset_open(const char *path, size_t each, size_t width)
{
    sample_dataset *s = sample_take(1, sizeof *s);
    size_t rows = each * SAMPLE_SYMBOLS;
    s->x = sample_take(rows * width, sizeof *s->x);
    s->return_ = sample_take(rows, sizeof *s->return_);
    s->time_ns = sample_take(rows, sizeof *s->time_ns);
    s->known_ns = sample_take(rows, sizeof *s->known_ns);
    s->run_length = sample_take(rows, sizeof *s->run_length);
    s->class_ = sample_take(rows, sizeof *s->class_);
    s->valid = sample_take(rows, sizeof *s->valid);
    for (int i = 0; i < SAMPLE_SYMBOLS; i++) {
        snprintf(s->symbols[i].name, sizeof s->symbols[i].name, "SYM%d", i);
        s->symbols[i].first = (size_t)i * each;
        s->symbols[i].rows = each;
    }
    for (size_t f = 0; f < width; f++) snprintf(s->features[f], sizeof s->features[f], "feature:%zu", f);
    sample_columns(s, each, width);
    snprintf(s->d.path, sizeof s->d.path, "%s", path);
    s->d.rows = rows;
    s->d.width = width;
    s->d.symbol_count = SAMPLE_SYMBOLS;
    s->d.symbols = s->symbols;
    s->d.features = s->features;
    s->d.label_count = 1;
    snprintf(s->d.labels[0].rule.text, sizeof s->d.labels[0].rule.text, "direction:5:0.001");
    s->d.labels[0].class_ = s->class_;
    s->d.labels[0].valid = s->valid;
    s->d.labels[0].known_ns = s->known_ns;
    s->d.labels[0].return_ = s->return_;
    s->d.x = s->x;
    s->d.time_ns = s->time_ns;
    s->d.run_length = s->run_length;
    s->d.schema = (oc_hash){11, 12};
    s->d.root = (oc_hash){13, 14};
    s->d.sources = (oc_hash){15, 16};
    int64_t cuts[4] = {0, (int64_t)each * 600, (int64_t)each * 800, (int64_t)each * 1000 + 1};
    snprintf(s->fold.name, sizeof s->fold.name, "fold-0");
    for (int i = 0; i < OC_SPLIT_COUNT; i++) {
        s->fold.interval[i][0] = (oc_interval){cuts[i], cuts[i + 1]};
        s->fold.interval_count[i] = 1;
    }
    s->folds = (oc_folds){.fold = &s->fold, .count = 1};
    return s;
}

static inline void sample_dataset_close(sample_dataset *s)
{
    void *const blocks[] = {s->x, s->return_, s->time_ns, s->known_ns, s->run_length, s->class_, s->valid, s};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

#endif
