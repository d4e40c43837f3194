/* journal_read.c - reading, with nothing believed that is not checked first. A file that ends within a record was cut
 * by a crash; anything else that is wrong is damage, and the difference matters: a torn tail is recovered from, damage
 * is not. The header of a record has a check of its own, so a changed length cannot pass for a cut file. Power loss may
 * leave a file that is longer than what reached the disk: zeros from the last good record to the end are a torn write
 * too. Zeros that begin within a record are not told from a damaged one, and neither are zeros behind an end record. */
#include <string.h>

#include "trade/engine.h"
#include "trade/journal_format.h"

static oc_status header_check(const oc_journal_reader *r, uint32_t segment)
{
    const oc_journal_header *h = &r->header;
    if (memcmp(h->magic, "OCJOURNL", sizeof h->magic) != 0) return OC_FAIL(OC_EDATA, "%s: is no journal", r->path);
    if (!oc_hash_equal(h->check, journal_header_check(h)))
        return OC_FAIL(OC_EDATA, "%s: the header is damaged (bytes 0 to %d)", r->path, OC_JOURNAL_HEADER_BYTES - 1);
    if (h->version != OC_JOURNAL_VERSION)
        return OC_FAIL(OC_EDATA, "%s: version %u, this build reads %d", r->path, h->version, OC_JOURNAL_VERSION);
    if (h->segment != segment) return OC_FAIL(OC_EDATA, "%s: is segment %u under another's name", r->path, h->segment);
    return OC_OK;
}

static bool zeros_from(const oc_journal_reader *r, uint64_t at)
{
    while (at < r->map.bytes && r->map.data[at] == 0) at++;
    return at == r->map.bytes;
}

oc_status oc_journal_reader_open(oc_journal_reader *r, const char *folder, uint32_t segment)
{
    memset(r, 0, sizeof *r);
    OC_TRY(oc_journal_path(r->path, sizeof r->path, folder, segment));
    OC_TRY(oc_file_map_open(&r->map, r->path));
    r->tail = OC_JOURNAL_CUT;
    if (r->map.bytes < OC_JOURNAL_HEADER_BYTES || zeros_from(r, 0)) {
        r->header_torn = true;
        r->tail = OC_JOURNAL_TORN;
        return OC_OK;
    }
    memcpy(&r->header, r->map.data, sizeof r->header);
    oc_status status = header_check(r, segment);
    if (status != OC_OK) {
        oc_journal_reader_close(r);
        return status;
    }
    r->at = OC_JOURNAL_HEADER_BYTES;
    r->number = r->header.first_record;
    r->check = r->header.previous_check;
    return OC_OK;
}

void oc_journal_reader_close(oc_journal_reader *r)
{
    oc_file_map_close(&r->map);
}

static oc_status damaged(const oc_journal_reader *r, const char *what)
{
    return OC_FAIL(OC_EDATA, "%s: record %llu at byte %llu: %s; the records before it are good", r->path,
                   (unsigned long long)r->number, (unsigned long long)r->at, what);
}

/* The check is over the record with its predecessor's check in the check's place. The payload is hashed where it lies,
 * in one run with the header, so a small buffer serves for small records and the mapping is never written. */
static uint64_t record_hash(const oc_journal_record *h, const unsigned char *payload, uint64_t previous,
                            unsigned char *scratch, size_t scratch_bytes, bool *fits)
{
    oc_journal_record chained = *h;
    chained.check = previous;
    *fits = sizeof chained + h->bytes <= scratch_bytes;
    if (!*fits) return 0;
    memcpy(scratch, &chained, sizeof chained);
    memcpy(scratch + sizeof chained, payload, h->bytes);
    return oc_hash_bytes(scratch, sizeof chained + h->bytes).low;
}

/* Large records (snapshots) do not fit the scratch: streamed. */
static oc_status record_hash_long(const oc_journal_record *h, const unsigned char *payload, uint64_t previous,
                                  uint64_t *check)
{
    oc_hasher *hasher;
    oc_journal_record chained = *h;
    chained.check = previous;
    OC_TRY(oc_hasher_open(&hasher));
    oc_hasher_add(hasher, &chained, sizeof chained);
    oc_hasher_add(hasher, payload, h->bytes);
    *check = oc_hasher_result(hasher).low;
    oc_hasher_close(hasher);
    return OC_OK;
}

oc_status oc_journal_reader_next(oc_journal_reader *r, oc_journal_item *item, bool *more)
{
    unsigned char scratch[4096];
    oc_journal_record h;
    uint64_t left = r->map.bytes - r->at, check;
    bool fits;
    *more = false;
    if (r->header_torn) return OC_OK;
    if (left == 0) {
        r->tail = r->closed ? OC_JOURNAL_CLOSED : OC_JOURNAL_CUT;
        return OC_OK;
    }
    if (r->closed) return damaged(r, "stands behind the end");
    r->tail = OC_JOURNAL_TORN;
    if (left < sizeof h) return OC_OK;
    memcpy(&h, r->map.data + r->at, sizeof h);
    if (h.head_check != journal_head_check(&h))
        return zeros_from(r, r->at) ? OC_OK : damaged(r, "its header is damaged");
    if (h.number != r->number || h.kind == 0 || h.kind >= OC_JOURNAL_KIND_END)
        return damaged(r, "is not the record that belongs here");
    if (left - sizeof h < h.bytes) return OC_OK;
    const unsigned char *payload = r->map.data + r->at + sizeof h;
    check = record_hash(&h, payload, r->check, scratch, sizeof scratch, &fits);
    if (!fits) OC_TRY(record_hash_long(&h, payload, r->check, &check));
    if (check != h.check) return damaged(r, "its content is damaged (checksum)");
    *item = (oc_journal_item){(oc_journal_kind)h.kind, payload, h.bytes, h.number, r->at};
    r->closed = h.kind == OC_JOURNAL_END;
    r->check = check;
    r->number++;
    r->at += sizeof h + h.bytes;
    *more = true;
    return OC_OK;
}

oc_status oc_journal_input_read(const oc_journal_item *item, oc_input *input, oc_action *actions, size_t actions_cap,
                                size_t *count)
{
    journal_input_head h;
    unsigned long long number = item->number;
    *count = 0;
    if (item->bytes < sizeof h) return OC_FAIL(OC_EDATA, "journal: record %llu is too short for an input", number);
    memcpy(&h, item->payload, sizeof h);
    bool sized = h.body_bytes == journal_body_bytes(h.kind) && h.count <= OC_ACTIONS_MAX && h.count <= actions_cap &&
                 item->bytes == sizeof h + h.body_bytes + (size_t)h.count * sizeof *actions;
    if (!sized) return OC_FAIL(OC_EDATA, "journal: record %llu: sizes of input and actions do not fit", number);
    memset(input, 0, sizeof *input);
    input->sequence = h.sequence;
    input->time_ns = h.time_ns;
    input->kind = h.kind;
    input->reserved = h.reserved;
    memcpy(&input->as, item->payload + sizeof h, h.body_bytes);
    if (h.count) memcpy(actions, item->payload + sizeof h + h.body_bytes, h.count * sizeof *actions);
    *count = h.count;
    return OC_OK;
}
