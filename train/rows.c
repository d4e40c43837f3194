/* rows.c - which window stands where in an epoch, and where its rows lie. Where all rows are at hand an epoch is one
 * permutation of all windows. Where a device has no room for them, or train.device_rows_mb says so, consecutive windows
 * make blocks whose rows fit in half of the room; an epoch is a permutation of the blocks, and of the windows within
 * each. Both are functions of (seed, epoch, blocks). The device has two halves: while steps read one, the next block
 * goes to the other, in pieces. An interval reads one block, or one step the end of a block and the beginning of the
 * next; so nothing waits but the first interval of a block, if its rows are not there yet. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "train/engine_parts.h"

static size_t row_bytes(const train_engine *e)
{
    return e->p->d->width * sizeof(float);
}

static bool in_blocks(const train_engine *e)
{
    return e->stream.blocks > 0;
}

static bool streamed(const train_engine *e)
{
    return in_blocks(e) && e->apart;
}

/* --- the plan --- */

static int64_t block_base(const train_engine *e, size_t window)
{
    return e->p->train.row[window] - (e->p->o.shape.steps - 1);
}

/* The first window from `from` on whose rows end beyond a half that begins with that window's. */
static size_t block_end(const train_engine *e, size_t from, int64_t rows)
{
    const int64_t *row = e->p->train.row, end = block_base(e, from) + rows;
    size_t low = from, high = e->p->train.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (row[middle] < end)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int64_t blocks_count(const train_engine *e, int64_t rows, size_t *first)
{
    int64_t count = 0;
    for (size_t at = 0; at < e->p->train.count; at = block_end(e, at, rows)) {
        if (first) first[count] = at;
        count++;
    }
    if (first) first[count] = e->p->train.count;
    return count;
}

/* As few rows a half as the same number of blocks takes: blocks of one size. */
static int64_t rows_level(const train_engine *e, int64_t rows)
{
    const int64_t blocks = blocks_count(e, rows, NULL);
    int64_t low = e->p->o.shape.steps, high = rows;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (blocks_count(e, middle, NULL) <= blocks)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void plan_free(train_stream *s)
{
    oc_memory_free(s->first);
    for (int i = 0; i < 2; i++) {
        oc_memory_free(s->epochs[i].order);
        oc_memory_free(s->epochs[i].start);
    }
    *s = (train_stream){.half = {{.block = -1}, {.block = -1}}};
}

static oc_status plan_fill(train_engine *e, int64_t rows)
{
    train_stream *s = &e->stream;
    s->rows = rows_level(e, rows);
    const int64_t blocks = blocks_count(e, s->rows, NULL);
    OC_TRY(oc_memory_new_array(&s->first, (size_t)blocks + 1, sizeof *s->first, "blocks"));
    for (int i = 0; i < 2; i++) {
        OC_TRY(oc_memory_new_array(&s->epochs[i].order, (size_t)blocks, sizeof *s->epochs[i].order, "blocks"));
        OC_TRY(oc_memory_new_array(&s->epochs[i].start, (size_t)blocks + 1, sizeof *s->epochs[i].start, "blocks"));
        s->epochs[i].epoch = -1;
    }
    s->blocks = blocks_count(e, s->rows, s->first);
    return OC_OK;
}

/* Blocks whose rows fit in half of `rows`. A batch may take of two blocks, not of three. */
static oc_status plan_make(train_engine *e, int64_t half_rows)
{
    train_stream *s = &e->stream;
    const train_plan *p = e->p;
    plan_free(s);
    if (half_rows < p->o.shape.steps)
        return OC_FAIL(OC_ECONFIG,
                       "rows on the device: two blocks of %lld rows of %zu features; a window takes %d rows",
                       (long long)half_rows, p->d->width, p->o.shape.steps);
    OC_TRY(plan_fill(e, half_rows));
    for (int64_t i = 0; s->blocks > 1 && i < s->blocks; i++) {
        const size_t windows = s->first[i + 1] - s->first[i];
        if (windows + 1 >= (size_t)p->o.batch) continue;
        return OC_FAIL(
            OC_ECONFIG,
            "rows on the device: a block of %lld rows has %zu training windows, fewer than train.batch %d: a "
            "larger train.device_rows_mb, a smaller train.batch or a smaller train.stride",
            (long long)s->rows, windows, p->o.batch);
    }
    return OC_OK;
}

oc_status train_rows_plan(train_engine *e)
{
    const double bytes = e->p->o.device_rows_mb * 1e6, each = (double)row_bytes(e);
    plan_free(&e->stream);
    if (!(bytes > 0) || (double)e->p->d->rows * each <= bytes) return OC_OK;
    OC_TRY(plan_make(e, (int64_t)(bytes / each / 2)));
    return OC_OK;
}

/* The device had no room: half as much, of all rows or of what was tried last. False: there is no smaller plan. Ranks
 * must have one plan, so there the config makes it. */
bool train_rows_halve(train_engine *e, int64_t *tried)
{
    if (!e->apart || e->comm->ranks > 1 || e->p->o.device_rows_mb > 0) return false;
    if (*tried == 0)
        for (*tried = 1; *tried < (int64_t)e->p->d->rows;) *tried *= 2;
    *tried /= 2; /* of both halves together; powers of two, so that a little more or less room makes no other plan */
    if (plan_make(e, *tried / 2) == OC_OK) return true;
    plan_free(&e->stream);
    return false;
}

void train_rows_close(train_engine *e)
{
    plan_free(&e->stream);
}

size_t train_rows_room(const train_engine *e)
{
    return streamed(e) ? 2 * (size_t)e->stream.rows : e->p->d->rows;
}

oc_tensor train_all_rows(const train_engine *e)
{
    return oc_tensor_make(e->rows, OC_DTYPE_F32, (int64_t)train_rows_room(e), (int64_t)e->p->d->width, 1, 1);
}

const char *train_engine_rows_text(const train_engine *e, char *text, size_t cap)
{
    *text = '\0';
    if (in_blocks(e))
        snprintf(text, cap, "%s, %lld blocks of %lld rows", e->apart ? "streamed" : "in memory",
                 (long long)e->stream.blocks, (long long)e->stream.rows);
    return text;
}

/* --- the order of an epoch --- */

static const train_epoch *epoch_take(train_engine *e, int64_t epoch)
{
    train_stream *s = &e->stream;
    train_epoch *t = &s->epochs[epoch & 1];
    if (t->epoch == epoch) return t;
    const uint64_t turn = (uint64_t)(epoch + 1) << 32 | 0xffffffffu; /* the streams of no block */
    t->epoch = epoch;
    for (int64_t i = 0; i < s->blocks; i++) {
        t->order[i] = (int64_t)oc_shuffle(e->p->o.seed, turn, (uint64_t)s->blocks, (uint64_t)i);
        t->start[i + 1] = t->start[i] + (int64_t)(s->first[t->order[i] + 1] - s->first[t->order[i]]);
    }
    return t;
}

/* Which of the epoch's blocks, in its order, holds a position. */
static int64_t place_of(const train_engine *e, const train_epoch *t, int64_t position)
{
    int64_t low = 0, high = e->stream.blocks - 1;
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        if (t->start[middle] <= position)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* The half that a block of an epoch's order goes to: they take turns, also from one epoch to the next. */
static int half_of(const train_engine *e, int64_t epoch, int64_t place)
{
    return e->stream.blocks == 1 ? 0 : (int)((epoch * e->stream.blocks + place) & 1);
}

static size_t sample_of(train_engine *e, int64_t epoch, int64_t position)
{
    const train_plan *p = e->p;
    const train_stream *s = &e->stream;
    if (!in_blocks(e)) return (size_t)oc_shuffle(p->o.seed, (uint64_t)epoch, p->train.count, (uint64_t)position);
    const train_epoch *t = epoch_take(e, epoch);
    const int64_t place = place_of(e, t, position), block = t->order[place];
    return s->first[block] + (size_t)oc_shuffle(p->o.seed, (uint64_t)(epoch + 1) << 32 | (uint64_t)block,
                                                s->first[block + 1] - s->first[block],
                                                (uint64_t)(position - t->start[place]));
}

int64_t train_engine_window(train_engine *e, int64_t epoch, int64_t position)
{
    return e->p->train.row[sample_of(e, epoch, position)];
}

int64_t train_rows_place(train_engine *e, int64_t epoch, int64_t position, int64_t *row)
{
    *row = train_engine_window(e, epoch, position);
    if (!streamed(e)) return *row;
    const train_epoch *t = epoch_take(e, epoch);
    const int64_t place = place_of(e, t, position), block = t->order[place];
    return *row - block_base(e, e->stream.first[block]) + half_of(e, epoch, place) * e->stream.rows;
}

int64_t train_engine_reach(train_engine *e, int64_t epoch, int64_t position)
{
    const int64_t left = e->p->epoch_windows - position, batch = e->p->o.batch;
    if (!in_blocks(e)) return left;
    const train_epoch *t = epoch_take(e, epoch);
    const int64_t here = t->start[place_of(e, t, position) + 1] - position;
    if (here >= left) return left;
    return here >= batch ? here / batch * batch : batch < left ? batch : left;
}

/* --- two halves --- */

/* Up to `bytes` more of a half's block; operations that follow on another stream must wait for the store. */
static oc_status half_load(train_engine *e, int half, size_t bytes)
{
    train_half *h = &e->stream.half[half];
    const size_t each = row_bytes(e);
    const int64_t base = block_base(e, e->stream.first[h->block]);
    if (bytes > h->bytes - h->loaded) bytes = h->bytes - h->loaded;
    unsigned char *to = (unsigned char *)e->rows + (size_t)half * (size_t)e->stream.rows * each + h->loaded;
    const unsigned char *from = (const unsigned char *)(e->p->d->x + (size_t)base * e->p->d->width) + h->loaded;
    if (bytes == 0) return OC_OK;
    OC_TRY(
        oc_backend_upload(e->store.device, oc_tensor_make(to, OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1), from, bytes));
    h->loaded += bytes;
    h->waited = false;
    return OC_OK;
}

static void half_begin(train_engine *e, int half, int64_t block)
{
    const int64_t base = block_base(e, e->stream.first[block]), last = e->p->train.row[e->stream.first[block + 1] - 1];
    e->stream.half[half] = (train_half){.block = block, .bytes = (size_t)(last + 1 - base) * row_bytes(e)};
}

oc_status train_rows_need(train_engine *e, const train_interval *now)
{
    if (!streamed(e)) return OC_OK;
    const train_epoch *t = epoch_take(e, now->epoch);
    const int64_t last = place_of(e, t, now->position + now->windows - 1);
    for (int64_t place = place_of(e, t, now->position); place <= last; place++) {
        const int half = half_of(e, now->epoch, place);
        train_half *h = &e->stream.half[half];
        if (h->block != t->order[place]) half_begin(e, half, t->order[place]);
        OC_TRY(half_load(e, half, h->bytes));
        if (!h->waited) OC_TRY(oc_backend_wait(e->store.device));
        h->waited = true;
    }
    return OC_OK;
}

/* While the steps of an interval run in one half: a share of the next block into the other, so that all of it is there
 * when half of this block is done. */
oc_status train_rows_ahead(train_engine *e, const train_interval *now)
{
    if (!streamed(e) || e->stream.blocks == 1) return OC_OK;
    const train_epoch *t = epoch_take(e, now->epoch);
    const int64_t place = place_of(e, t, now->position), windows = t->start[place + 1] - t->start[place];
    if (place_of(e, t, now->position + now->windows - 1) != place) return OC_OK;
    const bool over = t->start[place + 1] >= e->p->epoch_windows;
    const int64_t epoch = now->epoch + over, next = over ? 0 : place + 1;
    const int half = half_of(e, epoch, next);
    if (half == half_of(e, now->epoch, place) || epoch >= e->p->o.epochs) return OC_OK;
    const int64_t block = epoch_take(e, epoch)->order[next];
    train_half *h = &e->stream.half[half];
    if (h->block != block) half_begin(e, half, block);
    OC_TRY(half_load(e, half, oc_align_up((size_t)(2.0 * (double)h->bytes * (double)now->windows / (double)windows))));
    return OC_OK;
}

/* --- validation --- */

size_t train_rows_piece(const train_engine *e, size_t first, size_t last)
{
    const int64_t *row = e->p->valid.row, end = row[first] - (e->p->o.shape.steps - 1) + (int64_t)train_rows_room(e);
    if (!streamed(e)) return last;
    while (row[last - 1] >= end) last--; /* at least one: a half takes a window */
    return last;
}

oc_status train_rows_validate(train_engine *e, size_t first, size_t last, const int64_t **index)
{
    const int64_t *row = e->p->valid.row, base = row[first] - (e->p->o.shape.steps - 1);
    *index = row + first;
    if (!streamed(e)) return OC_OK;
    for (int i = 0; i < 2; i++) e->stream.half[i] = (train_half){.block = -1};
    for (size_t i = first; i < last; i++) e->valid_index[i - first] = row[i] - base;
    *index = e->valid_index;
    OC_TRY(oc_store_put(&e->store, e->rows, e->p->d->x + (size_t)base * e->p->d->width,
                        (size_t)(row[last - 1] + 1 - base) * row_bytes(e)));
    return OC_OK;
}
