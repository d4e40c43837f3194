/* sliding.c - staggered windows over slide_step and slide_advance of the table of operations: slots, counts of rows,
 * the scaler before and the head after. All memory is one arena of the sliding windows' own backend, planned by
 * plan_all. */
#include <assert.h>
#include <math.h>
#include <string.h>
#include "nn/model_parts.h"

enum { PIECE = 64 }; /* slots of one call of an operation */

typedef struct slot_state {
    int64_t rows;
    bool pending;
} slot_state; /* rows consumed since the reset; step done, advance not */

struct oc_sliding {
    oc_model *model;
    oc_backend *backend;
    const oc_ops *ops;
    oc_slide_shape shape;
    oc_graph_parts parts;
    size_t slot_max;
    slot_state *slots;
    oc_tensor states, raw, x, index, seen, hidden, logits, answer;
};

typedef struct plan {
    oc_tensor *tensor[8];
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
    *p = (plan){.count = 0};
    want(p, &s->raw, OC_DTYPE_F32, PIECE, m->inputs, 1);
    want(p, &s->index, OC_DTYPE_I64, PIECE, 1, 1);
    want(p, &s->logits, OC_DTYPE_F32, PIECE, m->horizons, OC_CLASSES);
    want(p, &s->answer, OC_DTYPE_F32, PIECE, m->horizons, OC_CLASSES);
    if (!recurrent(s)) return;
    want(p, &s->x, OC_DTYPE_F32, 1, PIECE, m->inputs);
    want(p, &s->seen, OC_DTYPE_F32, PIECE, m->hidden, 1);
    want(p, &s->hidden, OC_DTYPE_F32, PIECE, m->hidden / 2, 1);
    want(p, &s->states, OC_DTYPE_BYTES, (int64_t)s->slot_max,
         (int64_t)s->ops->slide_bytes(s->model->backend, &s->shape), 1);
}

static oc_sliding sliding_of(oc_model *m, size_t slot_max)
{
    const oc_model_shape *shape = &m->bundle->shape;
    return (oc_sliding){.model = m,
                        .ops = oc_backend_ops(m->backend),
                        .slot_max = slot_max,
                        .shape = {shape->layers, shape->steps, shape->inputs, shape->hidden, shape->heads}};
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
    return p.bytes + sizeof s + slot_max * sizeof *s.slots;
}

static OC_MUST sliding_fill(oc_sliding *s)
{
    plan p;
    plan_all(s, &p);
    const oc_backend_info *info = oc_backend_describe(s->model->backend);
    const oc_backend_config config = {.kind = info->kind, .isa = info->isa, .math = info->math, .arena_bytes = p.bytes};
    OC_TRY(oc_memory_new_array(&s->slots, s->slot_max, sizeof *s->slots, "slots of sliding windows"));
    OC_TRY(oc_backend_open(&s->backend, &config));
    for (int i = 0; i < p.count; i++) OC_TRY(oc_backend_alloc(s->backend, p.tensor[i]));
    oc_backend_seal(s->backend);
    int64_t index[PIECE];
    for (int i = 0; i < PIECE; i++) index[i] = i;
    OC_TRY(oc_backend_upload(s->backend, s->index, index, sizeof index));
    OC_TRY(oc_backend_wait(s->backend));
    s->parts = oc_graph_parts_of(s->model->graph, s->model->flat, s->model->packed);
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

void oc_sliding_close(oc_sliding *s)
{
    if (!s) return;
    s->model->sliding_open--;
    oc_backend_close(s->backend);
    oc_memory_free(s->slots);
    oc_memory_free(s);
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

/* Raw rows -> s->logits, for at most PIECE slots. */
static OC_MUST piece_logits(oc_sliding *s, const uint32_t *slots, const float *rows_raw, size_t n)
{
    int64_t rows[PIECE];
    const size_t inputs = (size_t)s->shape.inputs;
    const oc_tensor raw = first(s->raw, 0, n), x = first(s->x, 1, n), seen = first(s->seen, 0, n);
    const oc_tensor hidden = first(s->hidden, 0, n);
    const oc_slide_weights w = {s->parts.lstm, s->parts.attention};
    oc_tensor logits = first(s->logits, 0, n);
    OC_TRY(oc_backend_upload(s->backend, raw, rows_raw, n * inputs * sizeof *rows_raw));
    if (!recurrent(s)) {
        OC_TRY(stateless_logits(s, raw, n));
        return OC_OK;
    }
    for (size_t i = 0; i < n; i++) rows[i] = s->slots[slots[i]].rows;
    logits.dims[1] *= logits.dims[2];
    logits.dims[2] = 1;
    OC_TRY(
        s->ops->gather_scale(s->backend, raw, first(s->index, 0, n), s->parts.mean, s->parts.scale, s->parts.clip, x));
    OC_TRY(s->ops->slide_step(s->backend, &s->shape, &w, s->states, (int)n, slots, rows, x, seen));
    OC_TRY(s->ops->linear_forward(s->backend, seen, s->parts.head[0], s->parts.head_bias[0], true, hidden));
    OC_TRY(s->ops->linear_forward(s->backend, hidden, s->parts.head[1], s->parts.head_bias[1], false, logits));
    return OC_OK;
}

static OC_MUST piece_step(oc_sliding *s, const uint32_t *slots, const float *rows_raw, size_t n, float *probabilities,
                          uint8_t *full)
{
    const int horizons = s->model->bundle->shape.horizons;
    const size_t outputs = (size_t)horizons * OC_CLASSES;
    const oc_tensor answer = first(s->answer, 0, n);
    OC_TRY(piece_logits(s, slots, rows_raw, n));
    OC_TRY(s->ops->softmax(s->backend, horizons, s->model->temperature, first(s->logits, 0, n), answer));
    OC_TRY(oc_backend_download(s->backend, probabilities, n * outputs * sizeof *probabilities, answer));
    OC_TRY(oc_backend_wait(s->backend));
    for (size_t i = 0; i < n; i++) {
        full[i] = s->slots[slots[i]].rows + 1 >= s->shape.steps;
        for (size_t j = 0; !full[i] && j < outputs; j++)
            probabilities[i * outputs + j] = j % OC_CLASSES == OC_CLASSES - 1 ? 1.0f : 0.0f;
    }
    return OC_OK;
}

/* Changes `pending` of the slots from !pending, each once -> n; or, nothing changed, the place of one that stands
 * otherwise. */
static size_t slots_mark(oc_sliding *s, const uint32_t *slots, size_t n, bool pending)
{
    for (size_t i = 0; i < n; i++) {
        assert(slots[i] < s->slot_max);
        if (s->slots[slots[i]].pending == pending) {
            for (size_t j = 0; j < i; j++) s->slots[slots[j]].pending = !pending;
            return i;
        }
        s->slots[slots[i]].pending = pending;
    }
    return n;
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
    const size_t ready = slots_mark(s, slots, n, true);
    if (ready < n)
        return OC_FAIL(OC_EUSAGE, "sliding windows: slot %lu was given a row before the advance of its last one",
                       (unsigned long)slots[ready]);
    for (size_t i = 0; i < n; i += PIECE)
        OC_TRY(piece_step(s, slots + i, rows_raw + i * inputs, n - i < PIECE ? n - i : PIECE,
                          probabilities + i * outputs, full + i));
    return OC_OK;
}

oc_status oc_sliding_advance(oc_sliding *s, const uint32_t *slots, size_t n)
{
    const oc_slide_weights w = {s->parts.lstm, s->parts.attention};
    const size_t ready = slots_mark(s, slots, n, false);
    if (ready < n)
        return OC_FAIL(OC_EUSAGE, "sliding windows: slot %lu has no row to advance by", (unsigned long)slots[ready]);
    for (size_t i = 0; i < n; i += PIECE) {
        int64_t rows[PIECE];
        const size_t count = n - i < PIECE ? n - i : PIECE;
        for (size_t j = 0; j < count; j++) rows[j] = s->slots[slots[i + j]].rows++;
        if (recurrent(s))
            OC_TRY(s->ops->slide_advance(s->backend, &s->shape, &w, s->states, (int)count, slots + i, rows));
    }
    OC_TRY(oc_backend_wait(s->backend));
    return OC_OK;
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
    s->slots[slot].rows = 0;
    s->slots[slot].pending = false;
    if (!recurrent(s)) return;
    oc_status status = s->ops->slide_reset(s->backend, &s->shape, s->states, slot);
    assert(status == OC_OK); /* the shape was good in open */
    (void)status;
}
