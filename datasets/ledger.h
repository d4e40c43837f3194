/* ledger.h - every look at data, beside the dataset: PATH.ledger next to the .h5, keyed by the hash of its sources,
 * append-only, one JSON line a record, each with the hash of the line before it. `train`, `evaluate`, `study` and
 * `backtest` append; every look at a test split counts as a trial. */
#ifndef OC_DATASETS_LEDGER_H
#define OC_DATASETS_LEDGER_H

#include "base/hash.h"
#include "base/status.h"
#include "datasets/dataset.h"

typedef struct oc_ledger_entry {
    const char *command;                       /* "train", "evaluate", … */
    oc_hash config, bundle;                    /* zero where none */
    uint64_t seed;
    const char *fold, *split;                  /* "fold-3", "test" */
    const int64_t *time_ns;                    /* dated returns; NULL where none: stored as their own hash, count, mean, deviation */
    const double *returns;
    size_t return_count;
} oc_ledger_entry;

OC_MUST oc_ledger_append(const oc_dataset *d, const oc_ledger_entry *entry);   /* locked, one write, synced */
typedef struct oc_ledger_summary { uint64_t records, trials, distinct_configs; oc_hash head; bool present; } oc_ledger_summary;
OC_MUST oc_ledger_read(const oc_dataset *d, oc_ledger_summary *out);           /* a broken chain is OC_EDATA with the line */

#endif
