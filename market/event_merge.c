/* event_merge.c - several `.events` files as one stream. A binary heap of the files by (receive_ns, index); the file on
 * top is copied until the next one's turn. Sequence numbers need no place in the heap: they order only within a file.
 * One file whose numbering is already right is handed through without a copy. */
#include "market/event_file.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

enum { RUN_EVENTS = 1024, SOURCES_MAX = 65535 };

typedef struct source {
    oc_event_reader *reader;
    const oc_event *events;
    size_t at, count;
    uint32_t map[OC_INSTRUMENTS_MAX];          /* its instruments in the joined list */
} source;

struct oc_event_merge {
    source *sources;
    size_t source_count;
    uint32_t *heap;                            /* indices of sources that still have events, first one least */
    size_t heap_count;
    oc_instrument instruments[OC_INSTRUMENTS_MAX];
    uint32_t instrument_count;
    uint64_t total;
    const oc_event *run;                       /* what next() hands out one by one */
    size_t run_at, run_count;
    oc_event buffer[RUN_EVENTS];
};

static oc_status instrument_join(oc_event_merge *m, const char *path, const oc_instrument *one, uint32_t *index)
{
    for (uint32_t i = 0; i < m->instrument_count; i++) {
        if (strcmp(m->instruments[i].symbol, one->symbol) != 0) continue;
        if (memcmp(&m->instruments[i], one, sizeof *one) != 0)
            return OC_FAIL(OC_EDATA,
                           "%s: tick, lot or order tick of %s differ from those of an earlier file; import both "
                           "with the same --tick and --lot",
                           path, one->symbol);
        *index = i;
        return OC_OK;
    }
    if (m->instrument_count == OC_INSTRUMENTS_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: more than %d instruments in all", path, OC_INSTRUMENTS_MAX);
    *index = m->instrument_count;
    m->instruments[m->instrument_count++] = *one;
    return OC_OK;
}

static bool before(const oc_event_merge *m, uint32_t a, uint32_t b)
{
    const source *x = &m->sources[a], *y = &m->sources[b];
    int64_t x_ns = x->events[x->at].receive_ns, y_ns = y->events[y->at].receive_ns;
    return x_ns != y_ns ? x_ns < y_ns : a < b;
}

static void heap_sink(oc_event_merge *m, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= m->heap_count) return;
        if (child + 1 < m->heap_count && before(m, m->heap[child + 1], m->heap[child])) child++;
        if (!before(m, m->heap[child], m->heap[at])) return;
        uint32_t swap = m->heap[at];
        m->heap[at] = m->heap[child];
        m->heap[child] = swap;
        at = child;
    }
}

static oc_status source_fill(source *s)
{
    s->at = 0;
    OC_TRY(oc_event_reader_next(s->reader, &s->events, &s->count));
    return OC_OK;
}

static oc_status merge_fill(oc_event_merge *m, const char *const *paths, size_t path_count)
{
    OC_TRY(oc_memory_new_array(&m->sources, path_count, sizeof *m->sources, "event sources"));
    OC_TRY(oc_memory_new_array(&m->heap, path_count, sizeof *m->heap, "event sources"));
    for (size_t i = 0; i < path_count; i++) {
        source *s = &m->sources[i];
        OC_TRY(oc_event_reader_open(&s->reader, paths[i]));
        m->source_count = i + 1;
        const oc_event_info *info = oc_event_reader_info(s->reader);
        for (uint32_t k = 0; k < info->instrument_count; k++)
            OC_TRY(instrument_join(m, paths[i], &info->instruments[k], &s->map[k]));
        m->total += info->event_count;
        OC_TRY(source_fill(s));
        if (s->count) m->heap[m->heap_count++] = (uint32_t)i;
    }
    for (size_t i = m->heap_count; i-- > 0;) heap_sink(m, i);
    return OC_OK;
}

oc_status oc_event_merge_open(oc_event_merge **out, const char *const *paths, size_t path_count)
{
    oc_event_merge *m = NULL;
    *out = NULL;
    if (path_count == 0 || path_count > SOURCES_MAX)
        return OC_FAIL(OC_ELIMIT, "%zu .events files, not 1 to %d", path_count, SOURCES_MAX);
    OC_TRY(oc_memory_new(&m, sizeof *m, "event merge"));
    oc_status status = merge_fill(m, paths, path_count);
    if (status != OC_OK) {
        oc_event_merge_close(m);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = m;
    return OC_OK;
}

void oc_event_merge_close(oc_event_merge *m)
{
    if (!m) return;
    for (size_t i = 0; i < m->source_count; i++) oc_event_reader_close(m->sources[i].reader);
    oc_memory_free(m->sources);
    oc_memory_free(m->heap);
    oc_memory_free(m);
}

const oc_instrument *oc_event_merge_instruments(const oc_event_merge *m, uint32_t *count)
{
    *count = m->instrument_count;
    return m->instruments;
}

const oc_event_info *oc_event_merge_source(const oc_event_merge *m, size_t index)
{
    assert(index < m->source_count);
    return oc_event_reader_info(m->sources[index].reader);
}

uint64_t oc_event_merge_total(const oc_event_merge *m)
{
    return m->total;
}

/* Copies from the least file until another's turn, the end of its block, or a full buffer. */
static size_t run_copy(oc_event_merge *m, source *s, uint32_t index)
{
    int64_t limit_ns = INT64_MAX;
    uint32_t rival = UINT32_MAX;
    for (size_t child = 1; child <= 2 && child < m->heap_count; child++) {
        const source *other = &m->sources[m->heap[child]];
        int64_t ns = other->events[other->at].receive_ns;
        if (ns > limit_ns || (ns == limit_ns && m->heap[child] > rival)) continue;
        limit_ns = ns;
        rival = m->heap[child];
    }
    size_t copied = 0;
    while (s->at < s->count && copied < RUN_EVENTS) {
        const oc_event *e = &s->events[s->at];
        if (e->receive_ns > limit_ns || (e->receive_ns == limit_ns && index > rival)) break;
        m->buffer[copied] = *e;
        m->buffer[copied].source = (uint16_t)index;
        m->buffer[copied++].instrument = s->map[e->instrument];
        s->at++;
    }
    return copied;
}

oc_status oc_event_merge_run(oc_event_merge *m, const oc_event **events, size_t *count)
{
    *events = NULL;
    *count = 0;
    if (m->source_count == 1) {                /* its numbering is the joined one */
        source *s = &m->sources[0];
        if (s->at) OC_TRY(source_fill(s));
        *events = s->events;
        *count = s->count;
        s->at = s->count;
        return OC_OK;
    }
    if (m->heap_count == 0) return OC_OK;
    uint32_t index = m->heap[0];
    source *s = &m->sources[index];
    *count = run_copy(m, s, index);
    *events = m->buffer;
    if (s->at == s->count) OC_TRY(source_fill(s));
    if (s->count == 0) m->heap[0] = m->heap[--m->heap_count];
    heap_sink(m, 0);
    return OC_OK;
}

oc_status oc_event_merge_next(oc_event_merge *m, oc_event *event, int *have)
{
    *have = 0;
    if (m->run_at == m->run_count) {
        m->run_at = 0;
        OC_TRY(oc_event_merge_run(m, &m->run, &m->run_count));
        if (m->run_count == 0) return OC_OK;
    }
    *event = m->run[m->run_at++];
    *have = 1;
    return OC_OK;
}
