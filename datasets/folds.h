/* folds.h - which windows may be trained on, validated on, tested on. A fold is intervals in time, for all symbols
 * alike; a manifest (YAML, hashed) holds several, or folds are made from a rule: chronological: TRAIN:VALID:TEST shares
 * of the time span        e.g. "0.7:0.15:0.15" walk-forward:  N folds, each trained on the past (anchored or of fixed
 * length), validated, then tested on what follows A sample spans [time of its window's first row, known_ns of its
 * label]. A training sample whose span overlaps a later interval's span is dropped (purge); training after a validation
 * or test interval begins embargo_ns after the interval's last known_ns. T and horizon come in through the spans, so
 * changing either changes no file. */
#ifndef OC_DATASETS_FOLDS_H
#define OC_DATASETS_FOLDS_H

#include "datasets/dataset.h"

typedef enum { OC_SPLIT_TRAIN, OC_SPLIT_VALID, OC_SPLIT_TEST, OC_SPLIT_COUNT } oc_split;

typedef struct oc_interval { int64_t first_ns, last_ns; } oc_interval;         /* [first, last) of the row's time */
enum { OC_FOLD_INTERVALS_MAX = 8 };
typedef struct oc_fold {
    char name[64];
    oc_interval interval[OC_SPLIT_COUNT][OC_FOLD_INTERVALS_MAX];
    size_t interval_count[OC_SPLIT_COUNT];
} oc_fold;

typedef struct oc_folds {
    oc_fold *fold;
    size_t count;
    int64_t embargo_ns;
    oc_hash hash;
} oc_folds;

/* spec: "chronological:0.7:0.15:0.15", "walk-forward:N[:rolling|anchored]" or the path of a manifest. */
OC_MUST oc_folds_open(oc_folds **out, const char *spec, int64_t embargo_ns, const oc_dataset *d);
void oc_folds_close(oc_folds *f);
OC_MUST oc_folds_save(const oc_folds *f, const char *path);
oc_hash oc_fold_hash(const oc_fold *fold, int64_t embargo_ns);

/* Windows of one split: global row index of each window's last row, ascending; only rows with run_length >= steps and
 * valid label (of every label asked for). */
typedef struct oc_samples {
    int64_t *row;
    size_t count;
    size_t purged, embargoed, without_label, without_window;   /* left out, by reason */
} oc_samples;
OC_MUST oc_samples_select(oc_samples *out, const oc_dataset *d, const oc_fold *fold, int64_t embargo_ns, oc_split split,
                          int steps, const oc_dataset_label *const *labels, size_t label_count);
void oc_samples_free(oc_samples *s);

/* The order of an epoch: a permutation computed from (seed, epoch) alone; position -> sample. O(1) memory. */
uint64_t oc_shuffle(uint64_t seed, uint64_t epoch, uint64_t count, uint64_t position);

#endif
