/* event_file.h - the `.events` file: versioned header with instruments and sources, blocks of fixed records, a hash per
 * block, a trailer with the index. Read by mmap. A truncated tail, a flipped bit or a foreign version is refused with
 * the block, its offset and the time up to which the good blocks hold. Written beside its name and renamed at commit.
 */
#ifndef OC_MARKET_EVENT_FILE_H
#define OC_MARKET_EVENT_FILE_H

#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/status.h"
#include "market/event.h"
#include "market/instrument.h"

/* What a file says of itself. */
typedef struct oc_event_info {
    uint32_t instrument_count;
    const oc_instrument *instruments;
    uint64_t event_count;
    int64_t first_ns, last_ns;                 /* receive_ns; 0 where there is no event */
    const char *origin;                        /* "binance btcusdt_20240808.jsonl" or "simulate seed 7 …" */
    oc_hash content;                           /* of every byte before the trailer */
} oc_event_info;

typedef struct oc_event_writer oc_event_writer;
OC_MUST oc_event_writer_open(oc_event_writer **out, const char *path, const oc_instrument *instruments, uint32_t count,
                             const char *origin);
/* (receive_ns, sequence) must rise from event to event, source be 0, and every field in its range: else OC_EDATA, and
 * nothing can be committed any more. */
OC_MUST oc_event_writer_add(oc_event_writer *w, const oc_event *events, size_t count);
OC_MUST oc_event_writer_commit(oc_event_writer *w);                    /* closes w, also on failure */
void oc_event_writer_abort(oc_event_writer *w);                        /* closes w; NULL is fine */

typedef struct oc_event_reader oc_event_reader;
OC_MUST oc_event_reader_open(oc_event_reader **out, const char *path);         /* header and trailer checked */
void oc_event_reader_close(oc_event_reader *r);
const oc_event_info *oc_event_reader_info(const oc_event_reader *r);
/* The next run of events, in file order, each block's hash and each record's fields checked before it is handed out.
 * *count 0: the end. The records belong to the mapping and stay valid until close. */
OC_MUST oc_event_reader_next(oc_event_reader *r, const oc_event **events, size_t *count);
OC_MUST oc_event_reader_rewind(oc_event_reader *r);

/* Several files as one stream in the total order; `source` is set to the index of the file, instruments are joined by
 * symbol (tick and lot must agree). One path is the same as a reader. */
typedef struct oc_event_merge oc_event_merge;
OC_MUST oc_event_merge_open(oc_event_merge **out, const char *const *paths, size_t path_count);
void oc_event_merge_close(oc_event_merge *m);
const oc_instrument *oc_event_merge_instruments(const oc_event_merge *m, uint32_t *count);
const oc_event_info *oc_event_merge_source(const oc_event_merge *m, size_t index);
uint64_t oc_event_merge_total(const oc_event_merge *m);
OC_MUST oc_event_merge_next(oc_event_merge *m, oc_event *event, int *have);    /* have 0: the end */
/* The same without the copy of one event a call: a run that is valid until the next call. */
OC_MUST oc_event_merge_run(oc_event_merge *m, const oc_event **events, size_t *count);

#endif
