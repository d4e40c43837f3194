/* dataset_writer.h - rows in, HDF5 dataset out. Rows are streamed to disk chunk by chunk; only time, mid, spread and
 * breaks stay in memory (25 bytes a row) until commit computes the labels from them. The file is written beside its
 * name and renamed at commit; any failure leaves the old file as it was. */
#ifndef OC_DATASETS_DATASET_WRITER_H
#define OC_DATASETS_DATASET_WRITER_H

#include "datasets/dataset.h"

/* oc_label_compute with a context; what `build` and `verify` label with (NULL: oc_label_compute itself). */
typedef oc_status (*oc_label_function)(void *context, const oc_label_rule *rule, const oc_label_series *series,
                                       size_t first, size_t last, oc_label_columns *out);

typedef struct oc_dataset_plan {               /* borrowed until commit or abort */
    const oc_feature_info *features;
    size_t width;                              /* 1 to OC_FEATURES_MAX */
    const char *const *symbols;
    size_t symbol_count;                       /* those without rows do not appear in the file */
    const oc_label_rule *labels;
    size_t label_count;                        /* at most 8 */
    const oc_dataset_source *sources;
    size_t source_count;
    oc_hash schema;
    const char *config;                        /* resolved build config, YAML */
    const char *spread_note;                   /* "assumed" or "measured" */
    uint64_t rows_expected;                    /* per symbol: sets the size of the chunks, nothing else */
    oc_label_function label;
    void *label_context;
} oc_dataset_plan;

typedef struct oc_dataset_writer oc_dataset_writer;
OC_MUST oc_dataset_writer_open(oc_dataset_writer **out, const char *path, const oc_dataset_plan *plan);
/* Rows of one symbol come in order of time. row->instrument is not looked at. break_before: a gap or session break lies
 * between the symbol's row before and this one. */
OC_MUST oc_dataset_writer_row(oc_dataset_writer *w, size_t symbol, const oc_feature_row *row, bool break_before);
uint64_t oc_dataset_writer_rows(const oc_dataset_writer *w);
OC_MUST oc_dataset_writer_commit(oc_dataset_writer *w, oc_hash *root);         /* closes w, also on failure */
void oc_dataset_writer_abort(oc_dataset_writer *w);                            /* closes w; NULL is fine */

#endif
