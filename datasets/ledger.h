/* ledger.h - every look at data, beside the dataset: FOLDER/SOURCES.ledger, where SOURCES is the hash of the event
 * files, so that datasets of other features from the same events share one ledger. Append-only, one JSON line a record:
 *
 *   {"n":7,"time":"…","command":"evaluate",…,"previous":"<self of line 6>","self":"<hash of this line without self>"}
 *
 * `train`, `evaluate`, `study` and `backtest` append; every look at a test split counts as a trial. A changed, moved or
 * missing line breaks the chain; that the newest lines are missing shows only against a head that a report has printed.
 * A line that a crash has cut short is never repaired in silence: reading reports it (`torn`), and the next append
 * closes it with a record that names its bytes and hash. */
#ifndef OC_DATASETS_LEDGER_H
#define OC_DATASETS_LEDGER_H

#include "base/hash.h"
#include "base/status.h"
#include "datasets/dataset.h"

typedef struct oc_ledger_entry {
    const char *command;                       /* "train", "evaluate", … */
    oc_hash config, bundle;                    /* zero where none */
    uint64_t seed;
    const char *fold, *split;                  /* "fold-3", "test"; NULL: none */
    const int64_t *time_ns; /* dated returns; NULL where none: stored as their own hash, count, mean, deviation */
    const double *returns;
    size_t return_count;
} oc_ledger_entry;

OC_MUST oc_ledger_path(const oc_dataset *d, char *path, size_t cap);
/* Locked (OC_EAGAIN after a minute), one write, synced; a broken chain is refused: OC_EDATA. */
OC_MUST oc_ledger_append(const oc_dataset *d, const oc_ledger_entry *entry);

typedef struct oc_ledger_summary {
    uint64_t records, trials, distinct_configs;
    oc_hash head;                              /* `self` of the last whole line; zero where there is none */
    bool present, torn;                        /* torn: the last line was cut short by a crash */
} oc_ledger_summary;
OC_MUST oc_ledger_read(const oc_dataset *d, oc_ledger_summary *out); /* a broken chain is OC_EDATA with the line */

#endif
