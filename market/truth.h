/* truth.h - `F.truth`, written by `outcry simulate` beside F.events: for each row (packet) the exact probabilities of
 * its label given the events published up to it. Little-endian, mapped, every byte under a hash:
 *
 *     oc_truth_info   168 bytes; its last field is the hash of the bytes before it
 *     oc_truth_row    32 bytes each, `rows` of them, receive_ns rising; oc_truth_info.content is their hash
 *
 * How to use it: for each row of a test split, look up its time_ns; the expected accuracy of a model's decisions is the
 * mean of p[decision], that of the best possible ones the mean of the largest p. Expectations leave out the luck of the
 * realised labels, which is as large as several per cent of the gap on a short split. */
#ifndef OC_MARKET_TRUTH_H
#define OC_MARKET_TRUTH_H

#include <assert.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/status.h"

typedef struct oc_truth_info {
    char magic[8];
    uint32_t version, horizon;   /* rows */
    uint64_t rows, seed;
    double signal, threshold, best_accuracy;
    char label[64];              /* "direction:12:0.0003" */
    oc_hash events;              /* content hash of the `.events` file (oc_event_info.content) */
    oc_hash content, own;
} oc_truth_info;

typedef struct oc_truth_row {
    int64_t receive_ns;
    double p[3];                 /* buy, sell, hold */
} oc_truth_row;

static_assert(sizeof(oc_truth_info) == 168 && sizeof(oc_truth_row) == 32, "the .truth format holds these records");

typedef struct oc_truth oc_truth;
OC_MUST oc_truth_open(oc_truth **out, const char *path);                      /* hashes and order checked: OC_EDATA */
void oc_truth_close(oc_truth *t);                                             /* NULL is fine */
const oc_truth_info *oc_truth_about(const oc_truth *t);
const oc_truth_row *oc_truth_at(const oc_truth *t, uint64_t index);           /* index < rows */
const oc_truth_row *oc_truth_find(const oc_truth *t, int64_t receive_ns);     /* NULL where no row has that time */

typedef struct oc_truth_writer oc_truth_writer;
OC_MUST oc_truth_writer_open(oc_truth_writer **out, const char *path);
OC_MUST oc_truth_writer_add(oc_truth_writer *w, const oc_truth_row *row);
/* Takes signal … events from `about`; the rest is filled in. Closes w, also on failure. */
OC_MUST oc_truth_writer_commit(oc_truth_writer *w, const oc_truth_info *about);
void oc_truth_writer_abort(oc_truth_writer *w);                               /* closes w; NULL is fine */

#endif
