/* sliding.c - staggered windows over slide_step and slide_advance of the table of operations: slots, counts of rows,
 * the scaler before and the head after. The places of a slot are cut into blocks that advance by themselves, a row at a
 * time: a step waits for the rows that the block of its own window lacks, and for no more; all the rest is due until
 * somebody asks for it. On a device apart there is one block, as its operations are recordings. All memory is one arena
 * of the sliding windows' own backend, planned by plan_all. Where the backend records, a step and an advance of 1, 2,
 * 4, … slots are recordings, made in open: what a call brings (slots, their rows, the new raw rows) and its answers lie
 * in pinned memory. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "nn/model_parts.h"
#include "nn/sliding_resident.h"

/* Slots of one call of an operation; windows of one on a device apart; places of a block elsewhere: a multiple of the
 * rows that the kernels compute together, and some 3 us of an advance with 2 layers of 64 units. */
enum { PIECE = 64, ADVANCE_ROWS = 8192, BLOCK = 6 };

typedef struct slot_state {
    int64_t rows, due; /* rows since the reset; rows that blocks have yet to consume, over all of them */
    uint64_t call;     /* in which it was named last */
} slot_state;

/* What a call brings and where its answers go: [n], [n], [n,F], [n,horizons*3]. */
typedef struct call {
    const int32_t *slots;
    const int64_t *rows;
    const float *raw;
    float *answer;
} call;

struct oc_sliding {
    oc_model *model;
    oc_backend *backend;
    const oc_ops *ops;
    oc_slide_shape shape;
    oc_graph_parts parts;
    size_t slot_max, piece; /* slots of one call */
    slot_state *slots;
    int64_t *consumed; /* [slot_max, blocks] rows */
    int places, block, blocks;
    uint64_t calls;
    oc_tensor states, work, slot, row, raw, x, index, seen, hidden, logits, answer;
    bool recorded;
    oc_reside *resident; /* NULL: steps are operations */
    void *pinned;        /* a call's worth of what recordings bring and take */
    int32_t *held_slots;
    int64_t *held_rows;
    float *held_raw, *held_answer;
    oc_recording *step[OC_RECORDINGS], *advance[OC_RECORDINGS];
};

typedef struct plan {
    oc_tensor *tensor[12];
    int count;
    size_t bytes;
} plan;

static void want(plan *p, oc_tensor *t, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    assert(p->count < (int)(sizeof p->tensor / sizeof p->tensor[0]));
    *t = oc_tensor_make(NULL, dtype, d0, d1, d2, 1);
    p->tensor[p->count++] = t;
    p->bytes += oc_align_up((size_t)oc_tensor_count(*t) * oc_dtype_bytes(dtype));
}

static bool recurrent(const oc_sliding *s)
{
    return s->model->bundle->shape.trunk == OC_TRUNK_LSTM;
}

static void plan_all(oc_sliding *s, plan *p)
{
    const oc_model_shape *m = &s->model->bundle->shape;
    const int64_t piece = (int64_t)s->piece;
    *p = (plan){.count = 0};
    want(p, &s->raw, OC_DTYPE_F32, piece, m->inputs, 1);
    want(p, &s->index, OC_DTYPE_I64, piece, 1, 1);
    want(p, &s->logits, OC_DTYPE_F32, piece, m->horizons, OC_CLASSES);
    want(p, &s->answer, OC_DTYPE_F32, piece, m->horizons, OC_CLASSES);
    if (!recurrent(s)) return;
    want(p, &s->slot, OC_DTYPE_I32, piece, 1, 1);
    want(p, &s->row, OC_DTYPE_I64, piece, 1, 1);
    want(p, &s->x, OC_DTYPE_F32, 1, piece, m->inputs);
    want(p, &s->seen, OC_DTYPE_F32, piece, m->hidden, 1);
    want(p, &s->hidden, OC_DTYPE_F32, piece, m->hidden / 2, 1);
    want(p, &s->work, OC_DTYPE_BYTES, (int64_t)s->ops->slide_work_bytes(s->model->backend, &s->shape, (int)s->piece), 1,
         1);
    want(p, &s->states, OC_DTYPE_BYTES, (int64_t)s->slot_max,
         (int64_t)s->ops->slide_bytes(s->model->backend, &s->shape), 1);
}

/* A power of two, so that a recording of any number of slots up to it is there. */
static size_t piece_of(const oc_model *m)
{
    const int windows = m->bundle->shape.steps;
    size_t piece = PIECE;
    while (m->apart && piece > 1 && piece * (size_t)windows > ADVANCE_ROWS) piece /= 2;
    return piece;
}

/* Places, and blocks of them; a model without a state has one block, which has nothing to do. */
static void blocks_plan(oc_sliding *s)
{
    s->places = recurrent(s) ? s->shape.steps - 1 : 0;
    s->block = s->model->apart || s->places < BLOCK ? s->places : BLOCK;
    s->blocks = s->places > 0 ? (s->places + s->block - 1) / s->block : 1;
}

static size_t pinned_bytes(const oc_sliding *s)
{
    const size_t numbers = (size_t)(s->shape.inputs + s->model->bundle->shape.horizons * OC_CLASSES);
    return s->piece * (sizeof(int64_t) + sizeof(int32_t) + numbers * sizeof(float));
}

static oc_sliding sliding_of(oc_model *m, size_t slot_max)
{
    const oc_model_shape *shape = &m->bundle->shape;
    oc_sliding s = {.model = m,
                    .ops = oc_backend_ops(m->backend),
                    .slot_max = slot_max,
                    .piece = piece_of(m),
                    .shape = {shape->layers, shape->steps, shape->inputs, shape->hidden, shape->heads}};
    blocks_plan(&s);
    return s;
}

size_t oc_sliding_bytes(const oc_model *m, size_t slot_max)
{
    union {
        const oc_model *in;
        oc_model *out;
    } borrowed = {.in = m};
    oc_sliding s = sliding_of(borrowed.out, slot_max);
    plan p;
    plan_all(&s, &p);
    return p.bytes + sizeof s + slot_max * (sizeof *s.slots + (size_t)s.blocks * sizeof *s.consumed) +
           (m->apart ? pinned_bytes(&s) : 0);
}

static oc_tensor first(oc_tensor t, int axis, size_t count)
{
    t.dims[axis] = (int64_t)count;
    return t;
}

/* Without a state: the last rows through the model's own graph, which takes model->piece windows at a time. */
static OC_MUST stateless_logits(oc_sliding *s, oc_tensor raw, size_t n)
{
    const size_t outputs = (size_t)s->model->bundle->shape.horizons * OC_CLASSES, piece = (size_t)s->model->piece;
    float logits[PIECE * OC_HORIZONS_MAX * OC_CLASSES];
    int64_t index[PIECE];
    OC_TRY(oc_backend_wait(s->backend)); /* the rows are there before another stream reads them */
    for (size_t i = 0; i < n; i++) index[i] = (int64_t)i;
    for (size_t i = 0; i < n; i += piece) {
        const oc_graph_batch batch = {.rows = raw, .index = index + i, .count = (int)(n - i < piece ? n - i : piece)};
        OC_TRY(oc_graph_logits(s->model->graph, s->model->flat, s->model->packed, &batch, logits + i * outputs, NULL));
    }
    OC_TRY(oc_backend_upload(s->backend, first(s->logits, 0, n), logits, n * outputs * sizeof *logits));
    return OC_OK;
}

/* Of the first n slots of c, at most a piece, to the device. */
static OC_MUST call_upload(oc_sliding *s, const call *c, size_t n)
{
    OC_TRY(oc_backend_upload(s->backend, s->slot, c->slots, n * sizeof *c->slots));
    OC_TRY(oc_backend_upload(s->backend, s->row, c->rows, n * sizeof *c->rows));
    return OC_OK;
}

/* Raw rows -> s->logits. */
static OC_MUST logits_enqueue(oc_sliding *s, const call *c, size_t n)
{
    const oc_tensor raw = first(s->raw, 0, n), x = first(s->x, 1, n), seen = first(s->seen, 0, n);
    const oc_tensor hidden = first(s->hidden, 0, n);
    const oc_slide_weights w = {s->parts.lstm, s->parts.attention};
    oc_tensor logits = first(s->logits, 0, n);
    OC_TRY(oc_backend_upload(s->backend, raw, c->raw, n * (size_t)s->shape.inputs * sizeof *c->raw));
    if (!recurrent(s)) {
        OC_TRY(stateless_logits(s, raw, n));
        return OC_OK;
    }
    logits.dims[1] *= logits.dims[2];
    logits.dims[2] = 1;
    OC_TRY(call_upload(s, c, n));
    OC_TRY(
        s->ops->gather_scale(s->backend, raw, first(s->index, 0, n), s->parts.mean, s->parts.scale, s->parts.clip, x));
    OC_TRY(s->ops->slide_step(s->backend, &s->shape, &w, s->states, s->work, first(s->slot, 0, n), first(s->row, 0, n),
                              x, seen));
    OC_TRY(s->ops->linear_forward(s->backend, seen, s->parts.head[0], s->parts.head_bias[0], true, hidden));
    OC_TRY(s->ops->linear_forward(s->backend, hidden, s->parts.head[1], s->parts.head_bias[1], false, logits));
    return OC_OK;
}

/* Raw rows -> answers; nothing waits where there is a state. */
static OC_MUST step_enqueue(oc_sliding *s, const call *c, size_t n)
{
    const int horizons = s->model->bundle->shape.horizons;
    const oc_tensor answer = first(s->answer, 0, n);
    OC_TRY(logits_enqueue(s, c, n));
    OC_TRY(s->ops->softmax(s->backend, horizons, s->model->temperature, first(s->logits, 0, n), answer));
    OC_TRY(oc_backend_download(s->backend, c->answer, (size_t)oc_tensor_count(answer) * sizeof *c->answer, answer));
    return OC_OK;
}

/* Some blocks of each slot, side by side, consume a row. */
static OC_MUST blocks_enqueue(oc_sliding *s, const call *c, size_t n, int block, int count)
{
    const oc_slide_weights w = {s->parts.lstm, s->parts.attention};
    const int place = block * s->block, left = s->places - place, most = count * s->block;
    OC_TRY(call_upload(s, c, n));
    if (s->resident) {
        const oc_tensor raw = first(s->raw, 0, n);
        OC_TRY(oc_backend_upload(s->backend, raw, c->raw, n * (size_t)s->shape.inputs * sizeof *c->raw));
        OC_TRY(oc_reside_keep(s->resident, first(s->slot, 0, n), first(s->row, 0, n), raw));
    }
    OC_TRY(s->ops->slide_advance(s->backend, &s->shape, &w, s->states, s->work, first(s->slot, 0, n),
                                 first(s->row, 0, n), place, left < most ? left : most));
    return OC_OK;
}

static OC_MUST advance_enqueue(oc_sliding *s, const call *c, size_t n)
{
    return blocks_enqueue(s, c, n, 0, s->blocks);
}

/* ---------------------------------------------------------------- recordings */
typedef oc_status (*enqueue)(oc_sliding *, const call *, size_t);

static OC_MUST record(oc_sliding *s, enqueue work, size_t n, oc_recording **out)
{
    const call held = {s->held_slots, s->held_rows, s->held_raw, s->held_answer};
    OC_TRY(work(s, &held, n)); /* once, for nobody */
    OC_TRY(oc_backend_wait(s->backend));
    OC_TRY(oc_backend_record_begin(s->backend));
    const oc_status status = work(s, &held, n);
    if (status != OC_OK) oc_backend_record_drop(s->backend);
    OC_TRY(status);
    OC_TRY(oc_backend_record_end(s->backend, out));
    return OC_OK;
}

static OC_MUST recordings_make(oc_sliding *s)
{
    OC_TRY(oc_backend_pin(s->backend, pinned_bytes(s), &s->pinned));
    s->held_rows = s->pinned;
    s->held_raw = (float *)(s->held_rows + s->piece);
    s->held_answer = s->held_raw + s->piece * (size_t)s->shape.inputs;
    s->held_slots = (int32_t *)(s->held_answer + s->piece * (size_t)s->model->bundle->shape.horizons * OC_CLASSES);
    for (size_t i = 0; i < s->piece; i++) s->held_rows[i] = -1;
    for (size_t place = 0, size = 1; size <= s->piece; place++, size *= 2) {
        OC_TRY(record(s, step_enqueue, size, &s->step[place]));
        OC_TRY(record(s, advance_enqueue, size, &s->advance[place]));
    }
    return OC_OK;
}

/* n slots, and nobody for what is left of the recording's. */
static OC_MUST replay(oc_sliding *s, oc_recording *const *of, const uint32_t *slots, const int64_t *rows, size_t n)
{
    int place;
    const size_t size = (size_t)oc_recording_size((int)n, &place);
    for (size_t i = 0; i < size; i++) {
        s->held_slots[i] = i < n ? (int32_t)slots[i] : 0;
        s->held_rows[i] = i < n ? rows[i] : -1;
    }
    OC_TRY(oc_backend_replay(s->backend, of[place]));
    OC_TRY(oc_backend_wait(s->backend));
    return OC_OK;
}

static OC_MUST sliding_fill(oc_sliding *s)
{
    plan p;
    plan_all(s, &p);
    const oc_backend_info *info = oc_backend_describe(s->model->backend);
    const oc_backend_config config = {.kind = info->kind,
                                      .isa = info->isa,
                                      .device = info->device_index,
                                      .math = info->math,
                                      .arena_bytes = p.bytes,
                                      .wait_max_ns = info->wait_max_ns};
    OC_TRY(oc_memory_new_array(&s->slots, s->slot_max, sizeof *s->slots, "slots of sliding windows"));
    OC_TRY(oc_memory_new_array(&s->consumed, s->slot_max * (size_t)s->blocks, sizeof *s->consumed,
                               "slots of sliding windows"));
    OC_TRY(oc_backend_open(&s->backend, &config));
    for (int i = 0; i < p.count; i++) OC_TRY(oc_backend_alloc(s->backend, p.tensor[i]));
    oc_backend_seal(s->backend);
    int64_t index[PIECE];
    for (int i = 0; i < PIECE; i++) index[i] = i;
    OC_TRY(oc_backend_upload(s->backend, s->index, index, sizeof index));
    OC_TRY(oc_backend_wait(s->backend));
    s->parts = oc_graph_parts_of(s->model->graph, s->model->flat, s->model->packed);
    s->recorded = recurrent(s) && s->model->apart && oc_backend_describe(s->backend)->records;
    if (s->recorded) OC_TRY(recordings_make(s));
    return OC_OK;
}

oc_status oc_sliding_open(oc_sliding **out, oc_model *m, size_t slot_max)
{
    oc_sliding *s;
    assert(out && m);
    *out = NULL;
    if (!(slot_max >= 1 && slot_max <= 1u << 20))
        return OC_FAIL(OC_ELIMIT, "model %s: sliding windows for %zu slots, not from 1 to 1048576", m->bundle->name,
                       slot_max);
    OC_TRY(oc_memory_new(&s, sizeof *s, "sliding windows"));
    *s = sliding_of(m, slot_max);
    m->sliding_open++;
    oc_status status = sliding_fill(s);
    if (status != OC_OK) {
        oc_sliding_close(s);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = s;
    return OC_OK;
}

static OC_MUST advances_record_anew(oc_sliding *s)
{
    for (size_t place = 0, size = 1; size <= s->piece; place++, size *= 2) {
        oc_backend_recording_free(s->backend, s->advance[place]);
        s->advance[place] = NULL;
        for (size_t i = 0; i < s->piece; i++) s->held_rows[i] = -1;
        OC_TRY(record(s, advance_enqueue, size, &s->advance[place]));
    }
    return OC_OK;
}

oc_status oc_sliding_reside(oc_sliding *s, int64_t bound_ns)
{
    const oc_graph_parts *p = &s->parts;
    oc_resident_model m = {.shape = s->shape,
                           .horizons = s->model->bundle->shape.horizons,
                           .lstm = p->lstm,
                           .attention = p->attention,
                           .head = {p->head[0], p->head[1]},
                           .head_bias = {p->head_bias[0], p->head_bias[1]},
                           .mean = p->mean,
                           .scale = p->scale,
                           .states = s->states,
                           .clip = p->clip};
    assert(!s->resident);
    memcpy(m.temperature, s->model->temperature, sizeof m.temperature);
    if (!s->recorded)
        return OC_FAIL(OC_ECONFIG, "model %s: gpu_path resident is for an LSTM on a GPU, beside its recordings%s",
                       s->model->bundle->name, s->model->apart ? "" : "; this backend is the CPU");
    OC_TRY(oc_reside_open(&s->resident, s->backend, &m, s->model->bundle->name, s->slot_max, bound_ns));
    OC_TRY(advances_record_anew(s));
    return OC_OK;
}

bool oc_sliding_resides(const oc_sliding *s)
{
    return s->resident && oc_reside_answers(s->resident);
}

bool oc_sliding_ping(oc_sliding *s)
{
    return s->resident && oc_reside_ping(s->resident);
}

void oc_sliding_close(oc_sliding *s)
{
    if (!s) return;
    s->model->sliding_open--;
    oc_reside_close(s->resident);
    for (int i = 0; i < OC_RECORDINGS && s->backend; i++) {
        oc_backend_recording_free(s->backend, s->step[i]);
        oc_backend_recording_free(s->backend, s->advance[i]);
    }
    if (s->backend) oc_backend_unpin(s->backend, s->pinned);
    oc_backend_close(s->backend);
    oc_memory_free(s->consumed);
    oc_memory_free(s->slots);
    oc_memory_free(s);
}

/* ---------------------------------------------------------------- calls */
/* Slot numbers as the operations want them. */
static void slots_narrow(int32_t *to, const uint32_t *slots, size_t n)
{
    for (size_t i = 0; i < n; i++) to[i] = (int32_t)slots[i];
}

static OC_MUST piece_run(oc_sliding *s, const uint32_t *slots, const int64_t *rows, const float *rows_raw, size_t n,
                         float *probabilities)
{
    const size_t inputs = (size_t)s->shape.inputs, outputs = (size_t)s->model->bundle->shape.horizons * OC_CLASSES;
    if (s->resident && oc_reside_step(s->resident, slots, rows, rows_raw, n, probabilities)) return OC_OK;
    if (s->recorded) {
        memcpy(s->held_raw, rows_raw, n * inputs * sizeof *rows_raw);
        OC_TRY(replay(s, s->step, slots, rows, n));
        memcpy(probabilities, s->held_answer, n * outputs * sizeof *probabilities);
        return OC_OK;
    }
    int32_t numbers[PIECE];
    slots_narrow(numbers, slots, n);
    OC_TRY(step_enqueue(s, &(call){numbers, rows, rows_raw, probabilities}, n));
    OC_TRY(oc_backend_wait(s->backend));
    return OC_OK;
}

static OC_MUST piece_step(oc_sliding *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                          uint8_t *full)
{
    const size_t outputs = (size_t)s->model->bundle->shape.horizons * OC_CLASSES;
    int64_t rows[PIECE];
    for (size_t i = 0; i < n; i++) rows[i] = s->slots[slots[i]].rows;
    OC_TRY(piece_run(s, slots, rows, rows_raw, n, probabilities));
    for (size_t i = 0; i < n; i++) {
        full[i] = s->slots[slots[i]].rows + 1 >= s->shape.steps;
        for (size_t j = 0; !full[i] && j < outputs; j++)
            probabilities[i * outputs + j] = j % OC_CLASSES == OC_CLASSES - 1 ? 1.0f : 0.0f;
        s->slots[slots[i]].rows++;
        s->slots[slots[i]].due += s->blocks;
    }
    return OC_OK;
}

/* The place in the call of the first slot that stands there twice, or has nothing due where something must be; n: none.
 */
static size_t slots_check(oc_sliding *s, const uint32_t *slots, size_t n, bool due)
{
    s->calls++;
    for (size_t i = 0; i < n; i++) {
        assert(slots[i] < s->slot_max);
        slot_state *slot = &s->slots[slots[i]];
        if (slot->call == s->calls || (due && slot->due == 0)) return i;
        slot->call = s->calls;
    }
    return n;
}

static int64_t *consumed_of(const oc_sliding *s, uint32_t slot)
{
    return s->consumed + (size_t)slot * (size_t)s->blocks;
}

/* That of the window which the slot's next row completes. */
static int oldest_block(const oc_sliding *s, uint32_t slot)
{
    return s->places > 0 ? (int)(s->slots[slot].rows % s->places) / s->block : 0;
}

/* Some blocks of n slots, at most a piece, consume their next row, in a slot the same for all, which is there. */
static OC_MUST blocks_advance(oc_sliding *s, const uint32_t *slots, size_t n, int block, int count)
{
    int64_t rows[PIECE];
    int32_t numbers[PIECE];
    for (size_t i = 0; i < n; i++) {
        rows[i] = consumed_of(s, slots[i])[block];
        for (int k = 0; k < count; k++) consumed_of(s, slots[i])[block + k]++;
        s->slots[slots[i]].due -= count;
    }
    if (s->places == 0) return OC_OK;
    if (s->resident) oc_reside_rows(s->resident, slots, n, s->held_raw); /* one block: the row is the last one */
    if (s->recorded) {
        OC_TRY(replay(s, s->advance, slots, rows, n));
        return OC_OK;
    }
    slots_narrow(numbers, slots, n);
    OC_TRY(blocks_enqueue(s, &(call){numbers, rows, NULL, NULL}, n, block, count));
    OC_TRY(oc_backend_wait(s->backend));
    return OC_OK;
}

/* All that the block of the next row's window lacks, and of the others what the rows kept ask for. */
oc_status oc_sliding_hasten(oc_sliding *s, uint32_t slot)
{
    assert(slot < s->slot_max);
    const int oldest = oldest_block(s, slot);
    const int64_t rows = s->slots[slot].rows;
    for (int block = 0; block < s->blocks && s->slots[slot].due > 0; block++)
        while (consumed_of(s, slot)[block] < (block == oldest ? rows : rows + 1 - OC_SLIDE_KEPT))
            OC_TRY(blocks_advance(s, &slot, 1, block, 1));
    return OC_OK;
}

oc_status oc_sliding_step(oc_sliding *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                          size_t probabilities_cap, uint8_t *full)
{
    const size_t inputs = (size_t)s->shape.inputs, outputs = (size_t)s->model->bundle->shape.horizons * OC_CLASSES;
    assert(probabilities_cap / outputs >= n);
    (void)probabilities_cap;
    const size_t good = oc_finite_prefix(rows_raw, n * inputs);
    if (good < n * inputs)
        return OC_FAIL(OC_EDATA, "slot %lu: feature %zu (%.63s) of the new row is not a finite number",
                       (unsigned long)slots[good / inputs], good % inputs, s->model->bundle->features[good % inputs]);
    const size_t distinct = slots_check(s, slots, n, false);
    if (distinct < n)
        return OC_FAIL(OC_EUSAGE, "sliding windows: slot %lu stands twice in a call", (unsigned long)slots[distinct]);
    for (size_t i = 0; i < n; i++) OC_TRY(oc_sliding_hasten(s, slots[i]));
    for (size_t i = 0; i < n; i += s->piece)
        OC_TRY(piece_step(s, slots + i, rows_raw + i * inputs, n - i < s->piece ? n - i : s->piece,
                          probabilities + i * outputs, full + i));
    return OC_OK;
}

/* A row of a block in those of the slots, at most a piece, that lack one; their number. */
static OC_MUST lacking_advance(oc_sliding *s, const uint32_t *slots, size_t n, int block, size_t *count)
{
    uint32_t chosen[PIECE];
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (consumed_of(s, slots[i])[block] < s->slots[slots[i]].rows) chosen[(*count)++] = slots[i];
    if (*count > 0) OC_TRY(blocks_advance(s, chosen, *count, block, 1));
    return OC_OK;
}

/* Whether every block lacks the last row and no other, so that they can take it together. */
static bool blocks_level(const oc_sliding *s, const uint32_t *slots, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (int block = 0; block < s->blocks; block++)
            if (consumed_of(s, slots[i])[block] + 1 != s->slots[slots[i]].rows) return false;
    return true;
}

/* All that is due in n slots, at most a piece. */
static OC_MUST piece_advance(oc_sliding *s, const uint32_t *slots, size_t n)
{
    if (blocks_level(s, slots, n)) {
        OC_TRY(blocks_advance(s, slots, n, 0, s->blocks)); /* weights are read once */
        return OC_OK;
    }
    for (int block = 0; block < s->blocks; block++)
        for (size_t count = 1; count > 0;) OC_TRY(lacking_advance(s, slots, n, block, &count));
    return OC_OK;
}

oc_status oc_sliding_advance(oc_sliding *s, const uint32_t *slots, size_t n)
{
    const size_t ready = slots_check(s, slots, n, true);
    if (ready < n)
        return OC_FAIL(OC_EUSAGE, "sliding windows: slot %lu has no row to advance by", (unsigned long)slots[ready]);
    for (size_t i = 0; i < n; i += s->piece) OC_TRY(piece_advance(s, slots + i, n - i < s->piece ? n - i : s->piece));
    return OC_OK;
}

oc_status oc_sliding_advance_some(oc_sliding *s, uint32_t slot)
{
    assert(slot < s->slot_max);
    if (s->slots[slot].due == 0)
        return OC_FAIL(OC_EUSAGE, "sliding windows: slot %lu has no row to advance by", (unsigned long)slot);
    int block = oldest_block(s, slot);
    while (consumed_of(s, slot)[block] == s->slots[slot].rows) block = (block + 1) % s->blocks;
    OC_TRY(blocks_advance(s, &slot, 1, block, 1));
    return OC_OK;
}

bool oc_sliding_due(const oc_sliding *s, uint32_t slot)
{
    return s->slots[slot].due > 0;
}

static OC_MUST rows_push(oc_sliding *s, uint32_t slot, const float *rows_raw, size_t rows)
{
    float ignored[OC_HORIZONS_MAX * OC_CLASSES];
    uint8_t full;
    for (size_t i = 0; i < rows; i++) {
        OC_TRY(oc_sliding_step(s, &slot, rows_raw + i * (size_t)s->shape.inputs, 1, ignored,
                               sizeof ignored / sizeof ignored[0], &full));
        OC_TRY(oc_sliding_advance(s, &slot, 1));
    }
    return OC_OK;
}

oc_status oc_sliding_rebuild(oc_sliding *s, uint32_t slot, const float *rows_raw, size_t rows)
{
    const size_t needed = (size_t)s->shape.steps - 1; /* older rows belong to no window that a coming row completes */
    const size_t skipped = rows > needed ? rows - needed : 0;
    oc_sliding_reset(s, slot);
    oc_status status = rows_push(s, slot, rows_raw + skipped * (size_t)s->shape.inputs, rows - skipped);
    if (status == OC_OK) return OC_OK;
    oc_sliding_reset(s, slot); /* rows before a bad one must not join those after it */
    return oc_status_trail(status, __FILE__, __LINE__);
}

void oc_sliding_reset(oc_sliding *s, uint32_t slot)
{
    assert(slot < s->slot_max);
    s->slots[slot].rows = s->slots[slot].due = 0;
    memset(consumed_of(s, slot), 0, (size_t)s->blocks * sizeof *s->consumed);
    if (!recurrent(s)) return;
    oc_status status = s->ops->slide_reset(s->backend, &s->shape, s->states, slot);
    assert(status == OC_OK); /* the shape was good in open */
    (void)status;
    if (s->resident)
        (void)!oc_backend_wait(s->backend); /* the kernel reads states; a failure comes with the next call */
}
