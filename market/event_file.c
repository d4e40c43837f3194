/* event_file.c - writes `.events` files: one block in memory, hashed and handed to the atomic file writer when full. */
#include "market/event_file.h"

#include <stddef.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "market/event_format.h"

enum { FLAGS_ALL = OC_EVENT_LAST | OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK };

typedef struct block {
    oc_event_block_head head;
    oc_event records[OC_EVENT_BLOCK];
} block;

struct oc_event_writer {
    oc_file_writer *file;
    const char *failed;                        /* what went wrong before: nothing may be committed then */
    char path[OC_PATH_MAX];
    oc_event_index *index;
    size_t index_cap;
    oc_event_tail tail;
    uint32_t instruments;
    oc_event previous;
    block block;
};

static bool magnitude_ok(int64_t value)
{
    return value >= -OC_EVENT_MAGNITUDE_MAX && value <= OC_EVENT_MAGNITUDE_MAX;
}

static bool lots_ok(int64_t value)
{
    return value >= 0 && value <= OC_EVENT_MAGNITUDE_MAX;
}

static const char *price_problem(const oc_event *e)
{
    if (!magnitude_ok(e->as.price.ticks)) return "a price out of range";
    return lots_ok(e->as.price.lots) ? NULL : "a size below 0 or out of range";
}

static const char *bar_problem(const oc_event *e)
{
    int64_t low = e->as.bar.low_ticks, high = e->as.bar.high_ticks;
    if (!magnitude_ok(low) || !magnitude_ok(high)) return "a price out of range";
    if (e->as.bar.open_ticks < low || e->as.bar.open_ticks > high || e->as.bar.close_ticks < low
        || e->as.bar.close_ticks > high)
        return "a bar whose open or close is outside low to high";
    return lots_ok(e->as.bar.volume_lots) ? NULL : "a volume below 0 or out of range";
}

static const char *quote_problem(const oc_event *e)
{
    if (!magnitude_ok(e->as.quote.bid_ticks) || !magnitude_ok(e->as.quote.ask_ticks)) return "a price out of range";
    return lots_ok(e->as.quote.bid_lots) && lots_ok(e->as.quote.ask_lots) ? NULL : "a size below 0 or out of range";
}

static const char *external_problem(const oc_event *e)
{
    double value = e->as.external.value;
    return value - value == 0.0 ? NULL : "an external value that is not finite";
}

static const char *status_problem(const oc_event *e)
{
    (void)e;
    return NULL;
}

static const char *(*const kind_problem[OC_EVENT_KIND_END])(const oc_event *) = {
    [OC_EVENT_BAR] = bar_problem,
    [OC_EVENT_TRADE] = price_problem,
    [OC_EVENT_QUOTE] = quote_problem,
    [OC_EVENT_LEVEL] = price_problem,
    [OC_EVENT_SNAPSHOT] = price_problem,
    [OC_EVENT_ORDER_ADD] = price_problem,
    [OC_EVENT_ORDER_CANCEL] = price_problem,
    [OC_EVENT_ORDER_EXECUTE] = price_problem,
    [OC_EVENT_EXTERNAL] = external_problem,
    [OC_EVENT_STATUS] = status_problem,
};

/* Nothing is wrong with a price event: the questions below, asked of whole words. */
static inline bool price_fine(const oc_event *e, const oc_event *previous, uint32_t instruments)
{
    static_assert(offsetof(oc_event, kind) == offsetof(oc_event, source) + 2, "the words below");
    static_assert(offsetof(oc_event, side) == offsetof(oc_event, source) + 3, "the words below");
    static_assert(offsetof(oc_event, flags) == offsetof(oc_event, level) + 1, "the words below");
    static_assert(offsetof(oc_event, reserved) == offsetof(oc_event, level) + 2, "the words below");
    const uint32_t priced = 1u << OC_EVENT_TRADE | 1u << OC_EVENT_LEVEL | 1u << OC_EVENT_SNAPSHOT |
                            1u << OC_EVENT_ORDER_ADD | 1u << OC_EVENT_ORDER_CANCEL | 1u << OC_EVENT_ORDER_EXECUTE;
    uint32_t who;
    uint64_t rest;
    memcpy(&who, &e->source, sizeof who);
    memcpy(&rest, &e->level, sizeof rest);
    bool fine = (rest & ~(uint64_t)(FLAGS_ALL << 8 | 0xff)) == 0;                  /* reserved, flags; any level */
    fine &= (who & 0xffff) == 0 && who >> 24 <= OC_SIDE_SELL && (who >> 16 & 0xff) < 32; /* source, side, kind */
    fine &= (priced >> (who >> 16 & 31) & 1) && e->instrument < instruments;
    fine &= (uint64_t)e->as.price.lots <= OC_EVENT_MAGNITUDE_MAX && magnitude_ok(e->as.price.ticks);
    return fine && e->receive_ns >= previous->receive_ns &&
           (e->receive_ns > previous->receive_ns || e->sequence > previous->sequence);
}

const char *oc_event_problem(const oc_event *e, const oc_event *previous, uint32_t instruments)
{
    if (previous && price_fine(e, previous, instruments)) return NULL;
    static const uint8_t zero[sizeof e->reserved];
    if (e->kind == 0 || e->kind >= OC_EVENT_KIND_END) return "an unknown kind";
    if (e->side > OC_SIDE_SELL) return "an unknown side";
    if (e->flags > FLAGS_ALL) return "an unknown flag";
    if (e->instrument >= instruments) return "an instrument that the header does not name";
    if (e->source != 0) return "a source that is not 0 (a file is one source; merging numbers them)";
    if (memcmp(e->reserved, zero, sizeof zero) != 0) return "reserved bytes that are not 0";
    if (e->receive_ns <= 0) return "a receive time that is not after 1970";
    if (previous && (e->receive_ns < previous->receive_ns
                     || (e->receive_ns == previous->receive_ns && e->sequence <= previous->sequence)))
        return "a time and sequence not after the one before";
    return kind_problem[e->kind](e);
}

oc_hash oc_event_block_hash(const oc_event_block_head *head)
{
    const unsigned char *bytes = (const unsigned char *)head;
    return oc_hash_bytes(bytes + sizeof head->hash,
                         sizeof *head - sizeof head->hash + head->records * sizeof(oc_event));
}

/* The header goes out piece by piece and through a hasher. */
static oc_status header_write(oc_event_writer *w, const oc_instrument *instruments, const char *origin,
                              oc_hasher *hasher)
{
    static const char zeros[8];
    size_t length = strlen(origin) + 1, padding = (8 - length % 8) % 8;
    oc_event_head head = {
        .version = OC_EVENT_VERSION, .record_bytes = sizeof(oc_event), .block_records = OC_EVENT_BLOCK};
    memcpy(head.magic, OC_EVENT_MAGIC, sizeof head.magic);
    head.instruments = w->instruments;
    head.origin_bytes = (uint32_t)(length + padding);
    head.header_bytes =
        (uint32_t)(sizeof head + w->instruments * sizeof *instruments + length + padding + sizeof(oc_hash));
    const struct { const void *data; size_t bytes; } pieces[] = {
        {&head, sizeof head}, {instruments, w->instruments * sizeof *instruments}, {origin, length}, {zeros, padding}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        oc_hasher_add(hasher, pieces[i].data, pieces[i].bytes);
        OC_TRY(oc_file_writer_add(w->file, pieces[i].data, pieces[i].bytes));
    }
    w->tail.header = w->tail.content = oc_hasher_result(hasher);
    OC_TRY(oc_file_writer_add(w->file, &w->tail.header, sizeof w->tail.header));
    return OC_OK;
}

static oc_status instruments_check(const char *path, const oc_instrument *instruments, uint32_t count)
{
    if (count == 0 || count > OC_INSTRUMENTS_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: %u instruments, not 1 to %d", path, count, OC_INSTRUMENTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const char *problem = oc_instrument_problem(&instruments[i]);
        if (problem) return OC_FAIL(OC_EDATA, "%s: instrument %u: %s", path, i, problem);
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(instruments[i].symbol, instruments[j].symbol) == 0)
                return OC_FAIL(OC_EDATA, "%s: instrument %s stands twice", path, instruments[i].symbol);
        }
    }
    return OC_OK;
}

oc_status oc_event_writer_open(oc_event_writer **out, const char *path, const oc_instrument *instruments,
                               uint32_t count, const char *origin)
{
    oc_event_writer *w = NULL;
    oc_hasher *hasher = NULL;
    oc_status status;
    *out = NULL;
    OC_TRY(instruments_check(path, instruments, count));
    if (strlen(path) >= OC_PATH_MAX) return OC_FAIL(OC_ELIMIT, "a path of over %d bytes", OC_PATH_MAX - 1);
    if (strlen(origin) >= OC_EVENT_ORIGIN_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: an origin of over %d bytes", path, OC_EVENT_ORIGIN_MAX - 1);
    OC_TRY(oc_memory_new(&w, sizeof *w, "event writer"));
    memcpy(w->path, path, strlen(path) + 1);
    w->instruments = count;
    OC_TRY_GOTO(status, fail, oc_hasher_open(&hasher));
    OC_TRY_GOTO(status, fail, oc_file_writer_open(&w->file, path));
    OC_TRY_GOTO(status, fail, header_write(w, instruments, origin, hasher));
    oc_hasher_close(hasher);
    *out = w;
    return OC_OK;
fail:
    oc_hasher_close(hasher);
    oc_event_writer_abort(w);
    return status;
}

static oc_status block_write(oc_event_writer *w)
{
    oc_event_block_head *head = &w->block.head;
    uint32_t records = head->records;
    if (records == 0) return OC_OK;
    head->index = w->tail.blocks;
    head->hash = oc_event_block_hash(head);
    OC_TRY(oc_memory_grow(&w->index, &w->index_cap, w->tail.blocks + 1, sizeof *w->index, "event index"));
    w->index[w->tail.blocks] =
        (oc_event_index){head->hash, w->block.records[0].receive_ns, w->block.records[records - 1].receive_ns};
    OC_TRY(oc_file_writer_add(w->file, &w->block, sizeof *head + records * sizeof(oc_event)));
    w->tail.content = oc_hash_pair(w->tail.content, head->hash);
    w->tail.blocks++;
    head->records = 0;
    return OC_OK;
}

oc_status oc_event_writer_add(oc_event_writer *w, const oc_event *events, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *problem = oc_event_problem(&events[i], w->tail.events ? &w->previous : NULL, w->instruments);
        if (problem) {
            w->failed = problem;
            return OC_FAIL(OC_EDATA, "%s: event %llu has %s", w->path, (unsigned long long)w->tail.events, problem);
        }
        if (w->tail.events == 0) w->tail.first_ns = events[i].receive_ns;
        w->previous = w->block.records[w->block.head.records++] = events[i];
        w->tail.last_ns = events[i].receive_ns;
        w->tail.events++;
        if (w->block.head.records == OC_EVENT_BLOCK && block_write(w) != OC_OK) {
            w->failed = "a failed write";
            return oc_status_trail(OC_EFAILED, __FILE__, __LINE__);
        }
    }
    return OC_OK;
}

static oc_status writer_finish(oc_event_writer *w)
{
    if (w->failed) return OC_FAIL(OC_EDATA, "%s: not written: %s before", w->path, w->failed);
    OC_TRY(block_write(w));
    if (w->tail.blocks) OC_TRY(oc_file_writer_add(w->file, w->index, w->tail.blocks * sizeof *w->index));
    w->tail.hash = oc_hash_bytes(&w->tail, offsetof(oc_event_tail, hash));
    memcpy(w->tail.magic, OC_EVENT_TAIL_MAGIC, sizeof w->tail.magic);
    OC_TRY(oc_file_writer_add(w->file, &w->tail, sizeof w->tail));
    oc_file_writer *file = w->file;
    w->file = NULL;                            /* commit closes it, also on failure */
    OC_TRY(oc_file_writer_commit(file));
    return OC_OK;
}

oc_status oc_event_writer_commit(oc_event_writer *w)
{
    oc_status status = writer_finish(w);
    oc_event_writer_abort(w);
    return status;
}

void oc_event_writer_abort(oc_event_writer *w)
{
    if (!w) return;
    if (w->file) oc_file_writer_abort(w->file);
    oc_memory_free(w->index);
    oc_memory_free(w);
}
