/* checkpoint.h - RUN/checkpoints/NNNNNNNN.ckpt: everything that training goes on from. One file: head, identity text,
 * five vectors, XXH3-128 of all before. Written beside, synced, renamed; the two newest are kept. */
#ifndef OC_TRAIN_CHECKPOINT_H
#define OC_TRAIN_CHECKPOINT_H

#include "train/engine.h"

typedef struct train_counters {            /* as stored: all fields 8 bytes */
    int64_t step, epoch, position;         /* steps done; the next window of which epoch */
    int64_t updates, skipped, skipped_row; /* AdamW's count; steps left out, of them in a row at the end */
    int64_t best_step, stale, ended;       /* stale: validations since the best; ended: training is over */
    int64_t log_bytes, windows;            /* of log.jsonl that belong to this state; windows trained on */
    int64_t interval_steps;                /* since the last line of log.jsonl: */
    double interval_loss, interval_weight, interval_norm;
    double best_loss, train_seconds;
} train_counters;

typedef struct train_origin { /* what a checkpoint must agree with */
    const char *identity;     /* oc_train_identity */
    oc_hash dataset, fold;
    const char *build;
    int64_t epoch_windows, batch; /* they say at which window of which epoch a step stands */
} train_origin;

OC_MUST train_checkpoint_save(const char *folder, const train_origin *origin, const train_counters *c,
                              const train_weights *w, size_t total);
/* The newest whole one into *c and *w. *found false: there is none at all. A damaged one is named (log, WARN), set
 * aside as NAME.damaged, and the one before it is used; all damaged: OC_EDATA. Another origin: OC_ECONFIG says what
 * differs. */
OC_MUST train_checkpoint_load(const char *folder, const train_origin *origin, train_counters *c, train_weights *w,
                              size_t total, bool *found);

#endif
