/* journal.h - what the engine was told and what it answered, in order, in an append-only file. docs/journal.md is the
 * format. Every record is checked and chained to the one before it, so any changed, missing, moved or doubled byte is
 * found and named; a file is never written over: after a crash the next segment goes on where the good bytes end.
 *
 * A record of an input holds the actions it led to, and is written before any of them leaves. `write` survives the
 * death of the process; power loss needs fdatasync, and the durability says when it is asked for:
 *     order   before every order that leaves, at an operator's command and where the trading state changes
 *     group   at least every GROUP_BYTES of records, and at close
 *     run     at close, and records are written when the buffer is full: for a venue within this process, which dies
 *             with it. Nothing leaves, and the run can be made again. The bytes of a whole run are the same
 * A failed write or sync is final (the kernel may have dropped the pages): every later call fails, the caller halts. */
#ifndef OC_TRADE_JOURNAL_H
#define OC_TRADE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "trade/types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { OC_JOURNAL_VERSION = 2, OC_JOURNAL_HEADER_BYTES = 112, OC_JOURNAL_RECORD_BYTES = 32 };

typedef enum oc_journal_kind {
    OC_JOURNAL_CONFIG = 1,       /* the engine's configuration: account, then markets */
    OC_JOURNAL_INPUT,            /* an input and its actions */
    OC_JOURNAL_SNAPSHOT,         /* oc_engine_save at this point */
    OC_JOURNAL_END,              /* the last record of a run that was closed; without it the run was cut short */
    OC_JOURNAL_KIND_END
} oc_journal_kind;

typedef enum oc_durability { OC_DURABILITY_GROUP, OC_DURABILITY_ORDER, OC_DURABILITY_RUN } oc_durability;

typedef struct oc_journal_header {             /* of a segment */
    char magic[8];                             /* "OCJOURNL" */
    uint32_t version, segment;
    oc_hash build, config;
    uint32_t epoch, previous_segment;          /* previous_*: what this one goes on from; equal to segment: nothing */
    uint64_t previous_bytes, previous_check, first_record;
    uint64_t reserved[2];
    oc_hash check;                             /* of everything before it */
} oc_journal_header;

typedef struct oc_journal_record {             /* of a record; the payload follows */
    uint32_t bytes, kind;                      /* bytes: of the payload */
    uint64_t number;                           /* 0, 1, 2, … over all segments */
    uint32_t head_check, reserved;             /* head_check: of the 16 bytes before it */
    uint64_t check;                            /* of the previous record's check, this header and the payload */
} oc_journal_record;

static_assert(sizeof(oc_journal_header) == OC_JOURNAL_HEADER_BYTES &&
                  sizeof(oc_journal_record) == OC_JOURNAL_RECORD_BYTES,
              "files hold these");

/* "FOLDER/journal-000003.ocj" */
OC_MUST oc_journal_path(char *path, size_t cap, const char *folder, uint32_t segment);

/* ---- writing: one thread ---- */

typedef struct oc_journal oc_journal;

typedef struct oc_journal_start {
    oc_hash build, config;
    uint32_t epoch, segment, previous_segment;
    uint64_t previous_bytes, previous_check, first_record;
    size_t payload_bytes_max;                  /* of one record; memory is taken once, for this */
    oc_durability durability;
} oc_journal_start;

/* One process at a time writes in a folder or recovers it: OC_EAGAIN where another one does. The lock is the open
 * file's, so it goes with the process; it is taken before the first byte is read that a recovery goes by. */
OC_MUST oc_journal_lock(const char *folder, int *fd);
/* Creates the segment, which must not exist, and writes its header. The folder is locked. */
OC_MUST oc_journal_create(oc_journal **out, const char *folder, const oc_journal_start *start);
/* Buffered: leaves with the next write. OC_ELIMIT where the payload is over the planned size. */
OC_MUST oc_journal_add(oc_journal *j, oc_journal_kind kind, const void *payload, size_t bytes);
OC_MUST oc_journal_add_input(oc_journal *j, const oc_input *input, const oc_action *actions, size_t count);
OC_MUST oc_journal_write(oc_journal *j);       /* what is buffered, to the file; syncs where the group is full */
OC_MUST oc_journal_sync(oc_journal *j);        /* write, then fdatasync */
/* Adds OC_JOURNAL_END where `complete`, syncs and closes; j is gone in any case. */
OC_MUST oc_journal_close(oc_journal *j, bool complete);
uint64_t oc_journal_records(const oc_journal *j);                /* number of the next record */
oc_hash oc_journal_hash(const oc_journal *j);  /* of all records up to here, whatever their segments and build */

/* ---- reading ---- */

/* How a segment ends: END record; cut at a record's edge; cut within a record (a crash during a write). */
typedef enum oc_journal_tail { OC_JOURNAL_CLOSED, OC_JOURNAL_CUT, OC_JOURNAL_TORN } oc_journal_tail;

typedef struct oc_journal_reader {
    oc_journal_header header;
    oc_file_map map;
    char path[OC_PATH_MAX];
    uint64_t at, number, check;                /* byte, record, chain: of what comes next */
    oc_journal_tail tail;                      /* valid once next said that there is no more */
    bool header_torn;                          /* the file ends within its header: it holds nothing */
    bool closed;
} oc_journal_reader;

typedef struct oc_journal_item {
    oc_journal_kind kind;
    const unsigned char *payload;              /* in the mapping, unaligned */
    size_t bytes;
    uint64_t number, at;
} oc_journal_item;

/* OC_EDATA names file, byte and record of anything that is not as it was written. */
OC_MUST oc_journal_reader_open(oc_journal_reader *r, const char *folder, uint32_t segment);
void oc_journal_reader_close(oc_journal_reader *r);
OC_MUST oc_journal_reader_next(oc_journal_reader *r, oc_journal_item *item, bool *more);
/* From the payload of OC_JOURNAL_INPUT. actions_cap >= OC_ACTIONS_MAX. */
OC_MUST oc_journal_input_read(const oc_journal_item *item, oc_input *input, oc_action *actions, size_t actions_cap,
                              size_t *count);
oc_hash oc_journal_chain_hash(uint64_t check, uint64_t records); /* what oc_journal_hash says of the same records */

#ifdef __cplusplus
}
#endif
#endif
