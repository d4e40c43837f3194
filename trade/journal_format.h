/* journal_format.h - what writer and reader share: checks of header and record, sizes of inputs. */
#ifndef OC_TRADE_JOURNAL_FORMAT_H
#define OC_TRADE_JOURNAL_FORMAT_H

#include <string.h>

#include "trade/journal.h"

typedef struct journal_input_head {            /* of an input's payload; the body, then the actions */
    uint64_t sequence;
    int64_t time_ns;
    uint32_t kind, reserved, body_bytes, count;
} journal_input_head;

static_assert(sizeof(journal_input_head) == 32, "files hold it");

static inline oc_hash journal_header_check(const oc_journal_header *h)
{
    return oc_hash_bytes(h, offsetof(oc_journal_header, check));
}

static inline uint32_t journal_head_check(const oc_journal_record *h)
{
    return (uint32_t)oc_hash_bytes(h, offsetof(oc_journal_record, head_check)).low;
}

/* The union's bytes that an input of this kind uses; all of them where the kind is none. */
static inline uint32_t journal_body_bytes(uint32_t kind)
{
    static const uint32_t bytes[OC_INPUT_KIND_END] = {     /* in the order of oc_input_kind */
        0, sizeof(oc_event), sizeof(oc_prediction), sizeof(oc_venue_message), sizeof(oc_operator_command), 0};
    return kind > 0 && kind < OC_INPUT_KIND_END ? bytes[kind] : (uint32_t)sizeof(oc_event);
}

#endif
