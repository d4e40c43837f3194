/* desk.h - engine and journal together: nothing leaves before it is written; what was written is never decided again.
 *
 *     apply:    the input gets its sequence number, the engine answers, the record is written, the caller may send
 *     recover:  the records are checked from the first byte, the engine is built from the last snapshot and the inputs
 *               behind it; each answer is compared with the recorded one, and a difference stops the recovery. Records
 *               of another build are not compared but taken over (oc_engine_absorb). A new segment goes on, with the
 *               next epoch. Orders that were sent without an answer are SENT_UNKNOWN until the venue has told.
 *     replay:   the same, from the first record, for the proof only
 * When the journal fails, apply returns the failure together with the cancels of all open orders: they may leave,
 * because fewer orders are never worse; nothing else can, now or later. */
#ifndef OC_TRADE_DESK_H
#define OC_TRADE_DESK_H

#include "trade/engine.h"
#include "trade/journal.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct oc_desk oc_desk;

typedef struct oc_desk_options {
    const char *folder;                        /* of the journal */
    oc_hash build;                             /* of the program: records of the same build are compared */
    oc_durability durability;
    uint64_t snapshot_every;                   /* inputs; 0: where a segment begins. Bounds a recovery's time */
} oc_desk_options;

typedef struct oc_desk_report {
    uint64_t records, inputs, compared, absorbed;
    uint32_t segments, epoch;
    oc_journal_tail tail;                      /* of the last segment that holds records */
    uint64_t torn_bytes;                       /* behind the last good record */
    oc_hash journal_hash, state_hash;
} oc_desk_report;

/* A new journal: OC_EFAILED where the folder already holds one. */
OC_MUST oc_desk_open(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options);
/* Goes on with the folder's journal. The actions of the recovery's own input must be sent like any others. */
OC_MUST oc_desk_recover(oc_desk **out, const oc_engine_config *config, const oc_desk_options *options,
                        oc_desk_report *report, oc_action *actions, size_t cap, size_t *count);
/* input->sequence is set here. On a failure of the journal: OC_EFAILED, and *actions are cancels that may be sent. */
OC_MUST oc_desk_apply(oc_desk *d, oc_input *input, oc_action *actions, size_t cap, size_t *count);
OC_MUST oc_desk_snapshot(oc_desk *d);
const oc_engine *oc_desk_engine(const oc_desk *d);
oc_hash oc_desk_journal_hash(const oc_desk *d);
/* The run is over: the END record, synced. What follows is oc_desk_close(d, false); the hash is that of a replay. */
OC_MUST oc_desk_end(oc_desk *d);
OC_MUST oc_desk_close(oc_desk *d, bool complete);                /* complete: the run is over; else: as after a crash */

/* Reads everything, decides again, compares. Fails where a byte is damaged or an answer differs, and names it.
 * build: of this program; a journal of another one is refused, since equality is promised for the same build alone. */
OC_MUST oc_desk_replay(const char *folder, oc_hash build, oc_desk_report *report);

#ifdef __cplusplus
}
#endif
#endif
