/* verify.c - one pass over the events with two engines. The first makes every row anew and compares it with the file.
 * For each chosen row the second begins right after the latest row that leaves the declared history, with the books of
 * that moment and no other state, is fed the events up to the row, and from then on garbage: it must give the same
 * bits. Events are kept from the earliest begun check on, so memory follows the history, not the file.
 *
 * run_length of a late start counts from that start: it is 0 exactly where the file's is, and never above it. */
#include <assert.h>
#include <stdio.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "datasets/folds.h"
#include "datasets/row_engine.h"
#include "market/event_file.h"

enum { ROWS_LEAST = 2000, GARBAGE_EVENTS = 256, BREAK = 1, CHOSEN = 2, DIFFERENT = 4 };

typedef struct check {
    size_t row, start;                           /* of the symbol; start 0: from the first event on */
    uint64_t position;                           /* of its first event in the stream */
    unsigned char *books;                        /* of all instruments, packed; NULL where start is 0 */
} check;

typedef struct of_symbol {                       /* one per symbol of the dataset */
    check *checks;                               /* in order of row, hence of start */
    size_t count, begun, ended;
    size_t rows;                                 /* made so far */
} of_symbol;

typedef struct verify {
    const oc_row_engine *rows;
    const oc_verify_options *options;
    oc_verify_result *result;
    oc_dataset *d;
    oc_config *config;
    oc_build_plan plan;
    const char *const *paths;
    oc_event_merge *merge;
    const oc_instrument *universe;
    uint32_t instruments;
    void *whole, *late;                          /* engines */
    int symbol_of[OC_INSTRUMENTS_MAX];           /* -1: not in the dataset */
    bool broken[OC_INSTRUMENTS_MAX];
    of_symbol symbols[OC_INSTRUMENTS_MAX];
    uint8_t *flags;                              /* [rows]: BREAK, CHOSEN, DIFFERENT */
    oc_event *events;                            /* stream positions [base, base + count) */
    size_t count, capacity;
    uint64_t base, position;                     /* position: of the event in hand */
    oc_book *book;                               /* scratch */
    uint32_t history_events;
    int64_t history_ns;
} verify;

/* ---- books, packed: a book keeps room for thousands of levels and holds a few -------------------------------------
 */

/* to NULL: only the bytes. */
static size_t books_pack(const verify *v, unsigned char *to)
{
    size_t at = 0;
    for (uint32_t i = 0; i < v->instruments; i++) {
        const oc_book *b = oc_features_book(v->rows->features(v->whole), i);
        if (!b) return 0;
        at += oc_book_pack(b, to ? to + at : NULL);
    }
    return at;
}

static void books_set(const verify *v, const unsigned char *from)
{
    for (uint32_t i = 0; from && i < v->instruments; i++) {
        from += oc_book_unpack(v->book, from);
        oc_features_set_book(v->rows->features(v->late), i, v->book);
    }
}

/* ---- differences --------------------------------------------------------------------------------------------------
 */

static void differ(verify *v, size_t symbol, size_t row, const char *how, const char *what)
{
    const oc_dataset_symbol *s = &v->d->symbols[symbol];
    char *text = v->result->first_difference;
    if (!text[0])
        snprintf(text, sizeof v->result->first_difference, "symbol %s, row %zu, %s: %s differs", s->name, row, what,
                 how);
    if (v->flags[s->first + row] & DIFFERENT) return;
    v->flags[s->first + row] |= DIFFERENT;
    v->result->rows_different++;
}

/* Name of the first thing that differs; NULL where all bits agree. */
static const char *row_compare(const oc_dataset *d, size_t at, const oc_feature_row *row, bool late)
{
    size_t words = (d->width + 63) / 64;
    if (row->time_ns != d->time_ns[at]) return "time_ns";
    for (size_t f = 0; f < d->width; f++)
        if (memcmp(&row->x[f], &d->x[at * d->width + f], sizeof *row->x) != 0) return d->features[f];
    if (memcmp(row->mask, d->mask + at * words, words * sizeof *row->mask) != 0) return "mask";
    if (memcmp(&row->mid, &d->mid[at], sizeof row->mid) != 0) return "mid";
    if (memcmp(&row->spread, &d->spread[at], sizeof row->spread) != 0) return "spread";
    uint32_t run = d->run_length[at];
    if (late ? (row->run_length == 0) != (run == 0) || row->run_length > run : row->run_length != run)
        return "run_length";
    return NULL;
}

/* ---- a late start -------------------------------------------------------------------------------------------------
 */

/* A valid event that says nothing true: the kind of the last one, a later time, prices around it. */
static void garbage_make(oc_event *e, uint32_t key, uint64_t number)
{
    uint64_t random = oc_random_philox(key, number);
    int64_t ticks = e->kind == OC_EVENT_BAR ? e->as.bar.close_ticks : e->as.price.ticks;
    int64_t moved = ticks + (int64_t)(random % 21) - 10;
    if (moved < 1) moved = 1;
    e->receive_ns += (int64_t)(random >> 32) % 1000000000 + 1;
    e->sequence++;
    e->flags = OC_EVENT_LAST;
    if (e->kind == OC_EVENT_BAR) {
        e->as.bar.open_ticks = e->as.bar.close_ticks = moved;
        e->as.bar.high_ticks = moved + 3;
        e->as.bar.low_ticks = moved > 2 ? moved - 2 : 1;
        e->as.bar.volume_lots = (int64_t)(random % 1000) + 1;
    } else if (e->kind != OC_EVENT_QUOTE && e->kind != OC_EVENT_STATUS && e->kind != OC_EVENT_EXTERNAL) {
        e->kind = OC_EVENT_TRADE;                /* changes no book, so it cannot cross or empty one */
        e->side = random & 1 ? OC_SIDE_BUY : OC_SIDE_SELL;
        e->as.price.ticks = moved;
        e->as.price.lots = (int64_t)(random % 1000) + 1;
    }
}

static oc_status check_run(verify *v, size_t symbol, const check *c)
{
    const oc_dataset *d = v->d;
    size_t at = d->symbols[symbol].first + c->row, made = 0, wanted = c->row - c->start + 1, end = v->count;
    const oc_feature_row *row;
    oc_event event = {0};
    uint32_t key = oc_random_key(v->options->seed, OC_RANDOM_VERIFY, symbol, c->row);
    v->rows->reset(v->late);
    if (c->start == 0) v->rows->begin(v->late);
    books_set(v, c->books);
    while (end > 0 && v->events[end - 1].receive_ns > d->time_ns[at]) end--;       /* nothing later than the row */
    size_t first = (size_t)(c->position - v->base);
    for (size_t i = first; i < end + GARBAGE_EVENTS; i++) {
        if (i < end) event = v->events[i];
        else garbage_make(&event, key, i - end);
        OC_TRY(v->rows->apply(v->late, &event, &row));
        if (!row || v->symbol_of[row->instrument] != (int)symbol || ++made < wanted) continue;
        const char *how = row_compare(d, at, row, true);
        if (how) differ(v, symbol, c->row, how, "from a late start");
        v->result->rows_checked++;
        return OC_OK;
    }
    v->result->rows_checked++;
    differ(v, symbol, c->row, "the row itself", "from a late start");
    return OC_OK;
}

/* Rows `row` of a symbol is made: checks that begin behind it take the books, those that end with it run. */
static oc_status checks_at(verify *v, size_t symbol, size_t row)
{
    of_symbol *s = &v->symbols[symbol];
    while (s->ended < s->count && s->checks[s->ended].row == row) {
        check *c = &s->checks[s->ended];
        OC_TRY(check_run(v, symbol, c));
        oc_memory_free(c->books);
        c->books = NULL;
        s->ended++;
    }
    while (s->begun < s->count && s->checks[s->begun].start <= row + 1) {
        check *c = &s->checks[s->begun++];
        if (c->start == 0) continue;
        size_t bytes = books_pack(v, NULL);
        c->position = v->position + 1;
        if (!bytes) continue;
        OC_TRY(oc_memory_new(&c->books, bytes, "books of a late start"));
        (void)books_pack(v, c->books);
    }
    return OC_OK;
}

/* ---- the pass -----------------------------------------------------------------------------------------------------
 */

static uint64_t earliest(const verify *v)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < v->d->symbol_count; i++) {
        const of_symbol *s = &v->symbols[i];
        if (s->ended < s->begun && s->checks[s->ended].position < least) least = s->checks[s->ended].position;
    }
    return least;
}

static oc_status event_keep(verify *v, const oc_event *event)
{
    if (v->count == v->capacity) {
        uint64_t from = earliest(v);
        size_t drop = from > v->base ? (from - v->base < v->count ? (size_t)(from - v->base) : v->count) : 0;
        memmove(v->events, v->events + drop, (v->count - drop) * sizeof *v->events);
        v->base += drop;
        v->count -= drop;
        if (v->count > v->capacity / 2)
            OC_TRY(oc_memory_grow(&v->events, &v->capacity, v->count * 2 + 65536, sizeof *v->events,
                                  "events of a history"));
    }
    v->events[v->count++] = *event;
    return OC_OK;
}

static oc_status event_verify(verify *v, const oc_event *event)
{
    const oc_feature_row *row;
    OC_TRY(event_keep(v, event));
    if (event->flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) v->broken[event->instrument] = true;
    OC_TRY(v->rows->apply(v->whole, event, &row));
    int symbol = row ? v->symbol_of[row->instrument] : -1;
    if (symbol >= 0) {
        const oc_dataset_symbol *s = &v->d->symbols[symbol];
        size_t n = v->symbols[symbol].rows++;
        if (n >= s->rows) {
            differ(v, (size_t)symbol, s->rows - 1, "the number of rows", "rebuilt");
        } else {
            const char *how = row_compare(v->d, s->first + n, row, false);
            if (how) differ(v, (size_t)symbol, n, how, "rebuilt");
            if (v->broken[row->instrument]) v->flags[s->first + n] |= BREAK;
            v->broken[row->instrument] = false;
            v->result->rows_rebuilt++;
            OC_TRY(checks_at(v, (size_t)symbol, n));
        }
    }
    v->position++;
    return OC_OK;
}

static oc_status pass(verify *v)
{
    const oc_event *events;
    size_t count;
    oc_progress progress;
    oc_progress_start(&progress, "verify", "events", oc_event_merge_total(v->merge));
    for (;;) {
        OC_TRY(oc_event_merge_run(v->merge, &events, &count));
        if (count == 0) break;
        for (size_t i = 0; i < count; i++) OC_TRY(event_verify(v, &events[i]));
        oc_progress_update(&progress, v->position);
    }
    oc_progress_finish(&progress);
    for (size_t i = 0; i < v->d->symbol_count; i++)
        if (v->symbols[i].rows < v->d->symbols[i].rows)
            differ(v, i, v->symbols[i].rows, "the number of rows", "rebuilt");
    return OC_OK;
}

/* ---- which rows ---------------------------------------------------------------------------------------------------
 */

/* First row of the symbol at or after a time. */
static size_t row_at(const oc_dataset *d, const oc_dataset_symbol *s, int64_t time_ns)
{
    size_t low = 0, high = s->rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->time_ns[s->first + middle] < time_ns) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Rows at the time of a break are all chosen: which of several at one time came after it, only the pass will know. */
static void break_choose(verify *v, const oc_event *event)
{
    int symbol = v->symbol_of[event->instrument];
    if (symbol < 0) return;
    const oc_dataset_symbol *s = &v->d->symbols[symbol];
    size_t row = row_at(v->d, s, event->receive_ns);
    v->result->breaks++;
    for (size_t i = row; i < s->rows && (i == row || v->d->time_ns[s->first + i] == event->receive_ns); i++)
        v->flags[s->first + i] |= CHOSEN;
}

static oc_status breaks_choose(verify *v)
{
    const oc_event *events;
    size_t count;
    oc_event_merge *merge;
    oc_status status = OC_OK;
    OC_TRY(oc_event_merge_open(&merge, v->paths, v->plan.event_count));
    for (;;) {
        status = oc_event_merge_run(merge, &events, &count);
        if (status != OC_OK || count == 0) break;
        for (size_t i = 0; i < count; i++)
            if (events[i].flags & (OC_EVENT_GAP_BEFORE | OC_EVENT_SESSION_BREAK)) break_choose(v, &events[i]);
    }
    oc_event_merge_close(merge);
    return status;
}

/* The latest row that leaves the whole declared history before `row`; 0 where none does. */
static size_t start_of(const verify *v, const oc_dataset_symbol *s, size_t row)
{
    const int64_t *time_ns = v->d->time_ns + s->first;
    if (row < v->history_events) return 0;
    int64_t latest;
    if (__builtin_sub_overflow(time_ns[row], v->history_ns, &latest)) return 0;
    size_t by_time = row_at(v->d, s, latest), by_rows = row - v->history_events;
    while (by_time < s->rows && time_ns[by_time] == latest) by_time++;             /* first row that is too late */
    if (by_time == 0) return 0;
    return by_time - 1 < by_rows ? by_time - 1 : by_rows;
}

static oc_status checks_make(verify *v, size_t symbol)
{
    const oc_dataset_symbol *s = &v->d->symbols[symbol];
    of_symbol *o = &v->symbols[symbol];
    for (size_t row = 0; row < s->rows; row++) o->count += (v->flags[s->first + row] & CHOSEN) != 0;
    OC_TRY(oc_memory_new_array(&o->checks, o->count ? o->count : 1, sizeof *o->checks, "rows to check"));
    size_t at = 0;
    for (size_t row = 0; row < s->rows; row++) {
        if (!(v->flags[s->first + row] & CHOSEN)) continue;
        o->checks[at++] = (check){.row = row, .start = start_of(v, s, row)};
    }
    while (o->begun < o->count && o->checks[o->begun].start == 0) o->begun++;      /* begin with the stream */
    return OC_OK;
}

static oc_status rows_choose(verify *v)
{
    const oc_dataset *d = v->d;
    uint64_t least = v->options->rows_least ? v->options->rows_least : ROWS_LEAST;
    if (least > d->rows) least = d->rows;
    for (size_t i = 0; i < d->symbol_count; i++) v->flags[d->symbols[i].first] |= CHOSEN;
    if (v->options->every)
        for (uint64_t row = 0; row < d->rows; row += v->options->every < d->rows ? v->options->every : d->rows)
            v->flags[row] |= CHOSEN;
    else
        for (uint64_t i = 0; i < least; i++) v->flags[oc_shuffle(v->options->seed, 0, d->rows, i)] |= CHOSEN;
    OC_TRY(breaks_choose(v));
    for (size_t i = 0; i < d->symbol_count; i++) OC_TRY(checks_make(v, i));
    return OC_OK;
}

static oc_status labels_verify(verify *v)
{
    const oc_dataset *d = v->d;
    for (size_t s = 0; s < d->symbol_count; s++) {
        for (size_t i = 0; i < v->symbols[s].count; i++) {
            for (size_t l = 0; l < d->label_count; l++) {
                size_t row = v->symbols[s].checks[i].row;
                bool same;
                OC_TRY(oc_verify_label(d, l, s, row, v->flags, v->options->seed, v->rows, &same));
                v->result->labels_checked++;
                if (same) continue;
                v->result->labels_different++;
                if (!v->result->first_difference[0])
                    snprintf(v->result->first_difference, sizeof v->result->first_difference,
                             "symbol %s, row %zu: label %s differs", d->symbols[s].name, row, d->labels[l].rule.text);
            }
        }
    }
    return OC_OK;
}

/* ---- open and close -----------------------------------------------------------------------------------------------
 */

static oc_status sources_check(const verify *v)
{
    if (v->plan.event_count != v->d->source_count)
        return OC_FAIL(OC_EDATA, "%s: made from %zu event files, %zu are given", v->d->path, v->d->source_count,
                       v->plan.event_count);
    for (size_t i = 0; i < v->plan.event_count; i++)
        if (!oc_hash_equal(oc_event_merge_source(v->merge, i)->content, v->d->source[i].content))
            return OC_FAIL(OC_EDATA,
                           "%s: is not the event file that %s was made from (another content hash); rows cannot be "
                           "recomputed. --hashes-only checks the dataset alone",
                           v->paths[i], v->d->path);
    return OC_OK;
}

static oc_status events_open(verify *v)
{
    v->paths = v->plan.events;
    if (v->options->events) {
        v->paths = v->options->events;
        v->plan.event_count = v->options->event_count;
    }
    if (oc_event_merge_open(&v->merge, v->paths, v->plan.event_count) != OC_OK)
        return oc_status_prefix(OC_EDATA,
                                "%s: hashes are right, but its rows cannot be recomputed (--events FILE says where the "
                                "event files are now, --hashes-only leaves the rows out)",
                                v->d->path);
    v->universe = oc_event_merge_instruments(v->merge, &v->instruments);
    return sources_check(v);
}

static oc_status engines_open(verify *v)
{
    const oc_dataset *d = v->d;
    OC_TRY(v->rows->open(v->rows->context, &v->whole, &v->plan.spec, v->universe, v->instruments));
    OC_TRY(v->rows->open(v->rows->context, &v->late, &v->plan.spec, v->universe, v->instruments));
    if (!oc_hash_equal(oc_features_schema(v->rows->features(v->whole)), d->schema))
        return OC_FAIL(OC_EDATA,
                       "%s: its feature schema is not that of this program: it was built by another version; build it "
                       "again",
                       d->path);
    v->rows->begin(v->whole);
    v->rows->history(v->whole, &v->history_events, &v->history_ns);
    v->result->longest_history = v->history_events;
    v->result->longest_history_ns = v->history_ns;
    for (uint32_t i = 0; i < v->instruments; i++) {
        const oc_dataset_symbol *s = oc_dataset_symbol_find(d, v->universe[i].symbol);
        v->symbol_of[i] = s ? (int)(s - d->symbols) : -1;
    }
    OC_TRY(oc_memory_new(&v->book, sizeof *v->book, "a book"));
    OC_TRY(oc_memory_grow(&v->events, &v->capacity, 65536, sizeof *v->events, "events of a history"));
    return oc_memory_new_array(&v->flags, d->rows, 1, "flags of rows");
}

static oc_status verify_run(verify *v, const char *path)
{
    OC_TRY(oc_dataset_open(&v->d, path));
    OC_TRY(oc_config_parse(&v->config, v->d->config, strlen(v->d->config), path, oc_build_keys, oc_build_key_count,
                           NULL, 0));
    OC_TRY(oc_build_plan_read(&v->plan, v->config));
    OC_TRY(events_open(v));
    OC_TRY(engines_open(v));
    OC_TRY(rows_choose(v));
    OC_TRY(pass(v));
    return labels_verify(v);
}

static void verify_free(verify *v)
{
    for (size_t i = 0; i < OC_INSTRUMENTS_MAX; i++) {
        for (size_t k = 0; k < v->symbols[i].count && v->symbols[i].checks; k++)
            oc_memory_free(v->symbols[i].checks[k].books);
        oc_memory_free(v->symbols[i].checks);
    }
    if (v->whole) v->rows->close(v->whole);
    if (v->late) v->rows->close(v->late);
    oc_event_merge_close(v->merge);
    oc_build_plan_free(&v->plan);
    if (v->config) oc_config_close(v->config);
    oc_dataset_close(v->d);
    oc_memory_free(v->flags);
    oc_memory_free(v->events);
    oc_memory_free(v->book);
    oc_memory_free(v);
}

oc_status oc_dataset_verify_with(const char *path, const oc_verify_options *options, const oc_row_engine *rows,
                                 oc_verify_result *result)
{
    verify *v;
    assert(path && options && rows && result);
    *result = (oc_verify_result){0};
    OC_TRY(oc_memory_new(&v, sizeof *v, "verify"));
    v->rows = rows;
    v->options = options;
    v->result = result;
    oc_status status = verify_run(v, path);
    verify_free(v);
    return status;
}

oc_status oc_dataset_verify(const char *path, const oc_verify_options *options, oc_verify_result *result)
{
    return oc_dataset_verify_with(path, options, &oc_row_engine_standard, result);
}
