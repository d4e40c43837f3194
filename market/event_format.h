/* event_format.h - the bytes of a `.events` file, shared by writer and reader; everybody else uses event_file.h,
 * but for oc_event_problem, which looks at any event that comes from outside.
 *
 *   header   oc_event_head | oc_instrument[instruments] | origin, NUL, padded to 8 | oc_hash of all before it
 *   block b  oc_event_block_head | oc_event[records]     every block but the last holds OC_EVENT_BLOCK records
 *   index    oc_event_index[blocks]
 *   tail     oc_event_tail
 *
 * Little-endian, no padding, every offset follows from the counts, and the length must be exactly that. Every byte is
 * under a hash: header by its own, block head and records by the block's, index by the content hash, tail by its own.
 * The block's hash stands in front of it as well as in the index, so that a file without its end can still say how far
 * it is good. content = fold of oc_hash_pair over header hash and block hashes. */
#ifndef OC_MARKET_EVENT_FORMAT_H
#define OC_MARKET_EVENT_FORMAT_H

#include <stddef.h>
#include <assert.h>
#include <stdint.h>
#include "base/hash.h"
#include "market/event.h"
#include "market/instrument.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the .events format is little-endian");

enum { OC_EVENT_VERSION = 1, OC_EVENT_BLOCK = 4096, OC_EVENT_ORIGIN_MAX = 4096 };
#define OC_EVENT_MAGIC "OCEVENT\n"
#define OC_EVENT_TAIL_MAGIC "\nOCEVEND"
#define OC_EVENT_MAGNITUDE_MAX (INT64_C(1) << 60) /* of ticks and lots: sums and differences of two stay in range */

typedef struct oc_event_head {
    char magic[8];
    uint32_t version, header_bytes, record_bytes, block_records, instruments, origin_bytes;
} oc_event_head;

typedef struct oc_event_block_head {
    oc_hash hash;                              /* of index, records, reserved and the records that follow */
    uint64_t index;
    uint32_t records, reserved;
} oc_event_block_head;

typedef struct oc_event_index {
    oc_hash hash;
    int64_t first_ns, last_ns;
} oc_event_index;

typedef struct oc_event_tail {
    uint64_t events, blocks;
    int64_t first_ns, last_ns;
    oc_hash header, content;
    oc_hash hash;                              /* of the tail up to here */
    char magic[8];                             /* compared, so it needs no hash */
} oc_event_tail;

static_assert(sizeof(oc_event_head) == 32 && sizeof(oc_event_block_head) == 32, "no padding");
static_assert(sizeof(oc_event_index) == 32 && sizeof(oc_event_tail) == 88, "no padding");
static_assert(sizeof(oc_instrument) == 80, "no padding");

/* What every record of a file must fulfil; NULL, or what is wrong with it. `previous` NULL: the first record. */
const char *oc_event_problem(const oc_event *event, const oc_event *previous, uint32_t instruments);
oc_hash oc_event_block_hash(const oc_event_block_head *head);  /* the records follow the head in memory */

#endif
