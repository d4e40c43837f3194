/* event_reader.c - maps a `.events` file, checks header, index and tail at once and each block when it is reached. A
 * damaged file says how many blocks are good and up to which time, found by walking the blocks from the start. */
#include "market/event_file.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "market/event_format.h"

enum { WINDOW_BLOCKS = 8, DROP_BLOCKS = 32 };  /* mapped at once and given back behind; looked at before giving back */
enum { BLOCK_BYTES = sizeof(oc_event_block_head) + OC_EVENT_BLOCK * sizeof(oc_event) };

struct oc_event_reader {
    oc_file_map map;
    char path[OC_PATH_MAX];
    const oc_event_head *head;
    const oc_event_index *index;
    const oc_event_tail *tail;
    oc_event_info info;
    uint64_t at;                               /* next block */
    oc_event previous;                         /* last record handed out */
};

/* How far the blocks behind a good header are good: for the message only. */
typedef struct extent {
    uint64_t blocks, offset;
    int64_t last_ns;
} extent;

static const oc_event_block_head *block_at(const oc_event_reader *r, uint64_t index)
{
    return (const oc_event_block_head *)(const void *)(r->map.data + r->head->header_bytes + index * BLOCK_BYTES);
}

static extent extent_find(const oc_event_reader *r, uint64_t blocks_max)
{
    extent e = {0, r->head->header_bytes, 0};
    for (; e.blocks < blocks_max; e.blocks++, e.offset += BLOCK_BYTES) {
        if (r->map.bytes - e.offset < sizeof(oc_event_block_head)) break;
        const oc_event_block_head *b = block_at(r, e.blocks);
        uint64_t bytes = sizeof *b + (uint64_t)b->records * sizeof(oc_event);
        if (b->index != e.blocks || b->records == 0 || b->records > OC_EVENT_BLOCK || r->map.bytes - e.offset < bytes)
            break;
        if (!oc_hash_equal(oc_event_block_hash(b), b->hash)) break;
        e.last_ns = ((const oc_event *)(b + 1))[b->records - 1].receive_ns;
        if (b->records < OC_EVENT_BLOCK) {
            e.blocks++, e.offset += bytes;
            break;
        }
        if (r->map.bytes - e.offset < BLOCK_BYTES) break;
    }
    return e;
}

enum { NUMBER_TEXT = 28 };

/* "26,607,616" */
static const char *grouped(uint64_t value, char *text)
{
    char *at = text + NUMBER_TEXT - 1;
    *at = '\0';
    for (int digits = 0; digits == 0 || value; digits++, value /= 10) {
        if (digits && digits % 3 == 0) *--at = ',';
        *--at = (char)('0' + value % 10);
    }
    return at;
}

static const char *extent_text(extent e, char *text, size_t cap)
{
    char time[OC_TIME_TEXT], number[NUMBER_TEXT];
    if (e.blocks == 0) snprintf(text, cap, "no good block before it");
    else snprintf(text, cap, "%s good block%s events up to %s", grouped(e.blocks, number),
                  e.blocks == 1 ? " holds" : "s hold", oc_time_text(e.last_ns, time));
    return text;
}

static oc_status block_fail(const oc_event_reader *r, uint64_t block, const char *what)
{
    char text[160], number[NUMBER_TEXT], of[NUMBER_TEXT], offset[NUMBER_TEXT];
    return OC_FAIL(OC_EDATA, "%s: block %s of %s %s (offset %s); %s", r->path, grouped(block + 1, number),
                   grouped(r->tail->blocks, of), what, grouped(r->head->header_bytes + block * BLOCK_BYTES, offset),
                   extent_text(extent_find(r, block), text, sizeof text));
}

static oc_status header_check(oc_event_reader *r)
{
    const oc_file_map *m = &r->map;
    const oc_event_head *h = (const oc_event_head *)(const void *)m->data;
    r->head = h;
    if (m->bytes < sizeof *h || memcmp(h->magic, OC_EVENT_MAGIC, sizeof h->magic) != 0)
        return OC_FAIL(OC_EDATA,
                       "%s: not an .events file (%zu bytes); make one with `outcry import` or `outcry simulate`",
                       r->path, m->bytes);
    if (h->version != OC_EVENT_VERSION || h->record_bytes != sizeof(oc_event) || h->block_records != OC_EVENT_BLOCK)
        return OC_FAIL(OC_EDATA,
                       "%s: format version %u with records of %u bytes in blocks of %u; this build reads version "
                       "%d, %zu, %d. Import it again",
                       r->path, h->version, h->record_bytes, h->block_records, OC_EVENT_VERSION, sizeof(oc_event),
                       OC_EVENT_BLOCK);
    if (h->instruments == 0 || h->instruments > OC_INSTRUMENTS_MAX || h->origin_bytes == 0 || h->origin_bytes % 8 != 0
        || h->origin_bytes > OC_EVENT_ORIGIN_MAX + 8 || h->header_bytes > m->bytes
        || h->header_bytes != sizeof *h + h->instruments * sizeof(oc_instrument) + h->origin_bytes + sizeof(oc_hash))
        return OC_FAIL(OC_EDATA, "%s: the header is damaged or cut", r->path);
    oc_hash hash = oc_hash_bytes(m->data, h->header_bytes - sizeof(oc_hash)), stored;
    memcpy(&stored, m->data + h->header_bytes - sizeof stored, sizeof stored);
    if (!oc_hash_equal(hash, stored)) return OC_FAIL(OC_EDATA, "%s: the header fails its hash", r->path);
    r->info.instrument_count = h->instruments;
    r->info.instruments = (const oc_instrument *)(const void *)(h + 1);
    r->info.origin = (const char *)(r->info.instruments + h->instruments);
    if (r->info.origin[h->origin_bytes - 1] != '\0')
        return OC_FAIL(OC_EDATA, "%s: the header's origin has no end", r->path);
    for (uint32_t i = 0; i < h->instruments; i++) {
        const char *problem = oc_instrument_problem(&r->info.instruments[i]);
        if (problem) return OC_FAIL(OC_EDATA, "%s: instrument %u: %s", r->path, i, problem);
    }
    return OC_OK;
}

/* Where the end of the file is: everything must add up to its length, byte for byte. */
static bool tail_sound(oc_event_reader *r)
{
    const oc_file_map *m = &r->map;
    if (m->bytes < r->head->header_bytes + sizeof(oc_event_tail) || (m->bytes - r->head->header_bytes) % 8 != 0)
        return false;
    const oc_event_tail *t = (const oc_event_tail *)(const void *)(m->data + m->bytes - sizeof *t);
    r->tail = t;
    if (memcmp(t->magic, OC_EVENT_TAIL_MAGIC, sizeof t->magic) != 0) return false;
    if (!oc_hash_equal(oc_hash_bytes(t, offsetof(oc_event_tail, hash)), t->hash)) return false;
    uint64_t room = m->bytes - r->head->header_bytes - sizeof *t;
    if (t->events > room / sizeof(oc_event) || t->blocks != (t->events + OC_EVENT_BLOCK - 1) / OC_EVENT_BLOCK)
        return false;
    uint64_t index_bytes = t->blocks * sizeof(oc_event_index);
    if (room != t->events * sizeof(oc_event) + t->blocks * sizeof(oc_event_block_head) + index_bytes) return false;
    r->index = (const oc_event_index *)(const void *)(m->data + m->bytes - sizeof *t - index_bytes);
    return true;
}

/* Pages that were read go: a long file would fill the memory that is ours. */
static void pages_drop(const oc_event_reader *r)
{
    (void)madvise((void *)(uintptr_t)r->map.data, r->map.bytes, MADV_DONTNEED);
}

static oc_status tail_check(oc_event_reader *r)
{
    char text[160], offset[NUMBER_TEXT], bytes[NUMBER_TEXT];
    if (!tail_sound(r)) {
        extent e = extent_find(r, UINT64_MAX);
        return OC_FAIL(OC_EDATA,
                       "%s: the end is missing or damaged: after offset %s of %s nothing is sure; %s. Import it again",
                       r->path, grouped(e.offset, offset), grouped(r->map.bytes, bytes),
                       extent_text(e, text, sizeof text));
    }
    oc_hash stored, content;
    memcpy(&stored, r->map.data + r->head->header_bytes - sizeof stored, sizeof stored);
    content = stored;
    for (uint64_t b = 0; b < r->tail->blocks; b++) content = oc_hash_pair(content, r->index[b].hash);
    for (uint64_t b = 0; b < r->tail->blocks; b++) {
        const oc_event_block_head *head = block_at(r, b);
        uint64_t records = b + 1 < r->tail->blocks ? OC_EVENT_BLOCK : r->tail->events - b * OC_EVENT_BLOCK;
        const oc_event *e = (const oc_event *)(head + 1);
        if (head->index != b || head->records != records || !oc_hash_equal(head->hash, r->index[b].hash)
            || e[0].receive_ns != r->index[b].first_ns || e[records - 1].receive_ns != r->index[b].last_ns)
            return block_fail(r, b, "does not agree with the index");
        if (b % DROP_BLOCKS == DROP_BLOCKS - 1) pages_drop(r);
    }
    if (!oc_hash_equal(stored, r->tail->header) || !oc_hash_equal(content, r->tail->content))
        return OC_FAIL(OC_EDATA, "%s: the index fails the hash of the whole", r->path);
    int64_t first = r->tail->blocks ? r->index[0].first_ns : 0;
    int64_t last = r->tail->blocks ? r->index[r->tail->blocks - 1].last_ns : 0;
    if (first != r->tail->first_ns || last != r->tail->last_ns)
        return OC_FAIL(OC_EDATA, "%s: the index does not agree with the tail", r->path);
    r->info.event_count = r->tail->events;
    r->info.first_ns = first;
    r->info.last_ns = last;
    r->info.content = content;
    return OC_OK;
}

oc_status oc_event_reader_open(oc_event_reader **out, const char *path)
{
    oc_event_reader *r = NULL;
    oc_status status;
    *out = NULL;
    if (strlen(path) >= OC_PATH_MAX) return OC_FAIL(OC_ELIMIT, "a path of over %d bytes", OC_PATH_MAX - 1);
    OC_TRY(oc_memory_new(&r, sizeof *r, "event reader"));
    memcpy(r->path, path, strlen(path) + 1);
    OC_TRY_GOTO(status, fail, oc_file_map_open(&r->map, path));
    OC_TRY_GOTO(status, fail, header_check(r));
    OC_TRY_GOTO(status, fail, tail_check(r));
    *out = r;
    return OC_OK;
fail:
    oc_event_reader_close(r);
    return status;
}

void oc_event_reader_close(oc_event_reader *r)
{
    if (!r) return;
    oc_file_map_close(&r->map);
    oc_memory_free(r);
}

const oc_event_info *oc_event_reader_info(const oc_event_reader *r)
{
    return &r->info;
}

/* Pages that were read go, or a long file would fill the memory that is ours; those to come are mapped by one call
 * instead of a fault each. Hints: what the system does not know it refuses, and nothing is lost by that. */
static void window_move(oc_event_reader *r)
{
    if (r->at % WINDOW_BLOCKS != 0) return;
    const size_t page = 4096, bytes = (size_t)WINDOW_BLOCKS * BLOCK_BYTES;
    uintptr_t start = (uintptr_t)r->map.data, end = start + r->map.bytes, at = (uintptr_t)block_at(r, r->at);
    uintptr_t from = at & ~(uintptr_t)(page - 1), before = from - start > bytes ? from - bytes - page : start;
    if (from > before) (void)madvise((void *)(before & ~(uintptr_t)(page - 1)), from - before, MADV_DONTNEED);
#ifdef MADV_POPULATE_READ
    (void)madvise((void *)from, end - from < bytes + page ? end - from : bytes + page, MADV_POPULATE_READ);
#else
    (void)end;
#endif
}

oc_status oc_event_reader_next(oc_event_reader *r, const oc_event **events, size_t *count)
{
    *events = NULL;
    *count = 0;
    if (r->at == r->tail->blocks) return OC_OK;
    window_move(r);
    const oc_event_block_head *head = block_at(r, r->at);
    const oc_event *records = (const oc_event *)(head + 1);
    if (!oc_hash_equal(oc_event_block_hash(head), head->hash)) return block_fail(r, r->at, "fails its hash");
    const oc_event *previous = r->at ? &r->previous : NULL;
    for (uint32_t i = 0; i < head->records; previous = &records[i++]) {
        const char *problem = oc_event_problem(&records[i], previous, r->info.instrument_count);
        if (problem)
            return OC_FAIL(OC_EDATA, "%s: event %llu has %s", r->path,
                           (unsigned long long)(r->at * OC_EVENT_BLOCK + i), problem);
    }
    r->previous = records[head->records - 1];
    r->at++;
    *events = records;
    *count = head->records;
    return OC_OK;
}

oc_status oc_event_reader_rewind(oc_event_reader *r)
{
    r->at = 0;
    return OC_OK;
}
