/* slide.c - staggered windows: T recurrences over one stream of rows, begun one row apart (DESIGN section 6).
 * A row completes the oldest window: that is the critical path (slide_step), made as short as it gets by what the
 * advance before it prepared: the oldest window's h.W_hh of every layer, and its states side by side and transposed.
 * The others take the row as one batch (slide_advance); they share x, so x.W_ih of the first layer is computed once,
 * by the step.
 *
 * State of a slot, in floats (every part at a multiple of 16):
 *   h, c     [2][layers][T][H]     position a holds the window that has consumed a rows; an advance reads position a of
 *                                  one half and writes a + 1 of the other, so the newborn at 0 is always the zero state
 *   trail    top-layer states of unfinished windows, for the attention. The state after step t of the window that began
 *            at row s lives until row s + T - 1, so for each t there is a ring of T - 1 - t rows of H, at s modulo its
 *            size: T (T - 1) / 2 rows in all, a triangle
 *   ready    [T][H], columns [H][Tp]      the oldest window's states, and transposed
 *   prepared [layers][columns]     its h.W_hh;   first [columns]: x.W_ih of the last row;   last [2][H], cell [H]
 *   attend   reserve of oc_cpu_attend_one */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/attend_layout.h"
#include "kernels/cpu/lstm_layout.h"
#include "kernels/cpu/ops_cpu.h"

typedef struct slide {
    oc_lstm_shape lstm;
    oc_attention_shape attention;
    oc_lstm_layout packed;
    size_t steps, hidden, columns, padded;
    size_t half, layer; /* distances: between the halves of h and c, between layers */
    size_t h, c, trail, ready, turned, prepared, first, last, cell, attend, count;
} slide;

/* Where the ring of step t begins, in rows: t rings of T - 1, T - 2, … before it. */
static size_t ring_first(size_t steps, size_t t)
{
    return t * (steps - 1) - t * (t - 1) / 2;
}

static slide slide_make(const oc_slide_shape *s)
{
    slide m = {.lstm = {s->layers, s->steps > 1 ? s->steps - 1 : 1, s->steps, s->inputs, s->hidden},
               .attention = {1, s->steps, s->hidden, s->heads},
               .steps = (size_t)s->steps,
               .hidden = (size_t)s->hidden,
               .columns = oc_lstm_columns(s->hidden),
               .padded = oc_round_up((size_t)s->steps, 16)};
    const size_t layers = (size_t)s->layers;
    m.packed = oc_lstm_layout_make(&m.lstm);
    m.layer = oc_round_up(m.steps * m.hidden, 16);
    m.half = layers * m.layer;
    m.c = m.h + 2 * m.half;
    m.trail = m.c + 2 * m.half;
    m.ready = m.trail + (s->heads > 0 ? oc_round_up(m.steps * (m.steps - 1) / 2 * m.hidden, 16) : 0);
    m.turned = m.ready + (s->heads > 0 ? m.layer : 0);
    m.prepared = m.turned + (s->heads > 0 ? m.hidden * m.padded : 0);
    m.first = m.prepared + layers * m.columns;
    m.last = m.first + m.columns;
    m.cell = m.last + 2 * oc_round_up(m.hidden, 16);
    m.attend = m.cell + oc_round_up(m.hidden, 16);
    m.count = m.attend + (s->heads > 0 ? oc_attend_layout_make(&m.attention).reserve_count : 0);
    return m;
}

static OC_MUST slide_check(const oc_slide_shape *s)
{
    if (!(s->layers >= 1 && s->layers <= OC_LAYERS_MAX && s->steps >= 1 && s->steps <= OC_STEPS_MAX && s->inputs >= 1 &&
          s->inputs <= OC_INPUTS_MAX && s->hidden >= 1 && s->hidden <= OC_HIDDEN_MAX && s->heads >= 0 &&
          s->heads <= OC_HEADS_MAX && (s->heads == 0 || s->hidden % s->heads == 0)))
        return OC_FAIL(OC_ELIMIT,
                       "slide: %d layers, %d steps, %d inputs, %d hidden, %d heads: a bound of kernels/ops.h is passed",
                       s->layers, s->steps, s->inputs, s->hidden, s->heads);
    return OC_OK;
}

size_t oc_cpu_slide_bytes(oc_backend *b, const oc_slide_shape *s)
{
    (void)b;
    return oc_round_up(slide_make(s).count, 16) * sizeof(float);
}

size_t oc_cpu_slide_work_bytes(oc_backend *b, const oc_slide_shape *s, int n)
{
    (void)b;
    (void)s;
    (void)n;
    return 0; /* a slot after the other, in its own state */
}

static float *state_of(const slide *m, oc_tensor states, uint32_t slot)
{
    float *base = states.data;
    assert((int64_t)slot < states.dims[0]);
    return base + (size_t)slot * oc_round_up(m->count, 16);
}

oc_status oc_cpu_slide_reset(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(s);
    (void)b;
    memset(state_of(&m, states, slot), 0, m.count * sizeof(float));
    return OC_OK;
}

static void step_one(oc_backend *b, const slide *m, const oc_slide_weights *w, float *state, int64_t row,
                     const float *x, float *seen)
{
    const float *packed = w->lstm.data, *in = x;
    const size_t from = (size_t)row % 2 * m->half, oldest = (m->steps - 1) * m->hidden;
    const bool attention = m->attention.heads > 0;
    oc_lstm_project(b, m->lstm.hidden, 1, x, m->lstm.inputs, packed + m->packed.w_ih[0], packed + m->packed.bias[0],
                    state + m->first);
    for (int i = 0; i < m->lstm.layers; i++) {
        oc_cell c = oc_lstm_cell(&m->lstm, &m->packed, packed, i, 1);
        c.x = i == 0 ? NULL : in;
        c.xw = i == 0 ? state + m->first : NULL;
        c.hw = m->steps > 1 ? state + m->prepared + (size_t)i * m->columns : NULL;
        c.c = m->steps > 1 ? state + m->c + from + (size_t)i * m->layer + oldest : NULL;
        c.c_out = state + m->cell;
        c.h_out = i < m->lstm.layers - 1 ? state + m->last + (size_t)(i % 2) * oc_round_up(m->hidden, 16)
                  : attention            ? state + m->ready + oldest
                                         : seen;
        b->kernels->cell(&c);
        in = c.h_out;
    }
    if (!attention) return;
    for (size_t k = 0; k < m->hidden; k++) state[m->turned + k * m->padded + m->steps - 1] = in[k];
    oc_cpu_attend_one(b, &m->attention, w->attention.data, state + m->ready, state + m->turned, seen,
                      state + m->attend);
}

oc_status oc_cpu_slide_step(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                            oc_tensor work, oc_tensor slots, oc_tensor rows, oc_tensor x, oc_tensor seen)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(s);
    const int64_t n = oc_tensor_count(slots), *row = rows.data;
    const int32_t *slot = slots.data;
    const float *in = x.data;
    float *out = seen.data;
    (void)work;
    assert(oc_tensor_count(rows) == n && oc_tensor_count(x) >= n * s->inputs && oc_tensor_count(seen) >= n * s->hidden);
    for (int64_t i = 0; i < n; i++)
        if (row[i] >= 0)
            step_one(b, &m, w, state_of(&m, states, (uint32_t)slot[i]), row[i], in + i * s->inputs,
                     out + i * s->hidden);
    return OC_OK;
}

/* Row t of the trail of the window that began at row `start` (counted from any fixed number that keeps it positive). */
static float *trail_at(const slide *m, float *state, size_t t, int64_t start)
{
    const size_t size = m->steps - 1 - t;
    return state + m->trail + (ring_first(m->steps, t) + (size_t)start % size) * m->hidden;
}

/* What the next step needs: the oldest window now stands at position T - 1; it began at row - T + 2. */
static void prepare(oc_backend *b, const slide *m, const float *packed, float *state, int64_t row, size_t half)
{
    const size_t oldest = (m->steps - 1) * m->hidden;
    const int64_t start = row + 2; /* row - T + 2, plus T: never negative */
    for (int i = 0; i < m->lstm.layers; i++)
        oc_lstm_project(b, m->lstm.hidden, 1, state + m->h + half + (size_t)i * m->layer + oldest, m->lstm.hidden,
                        packed + m->packed.w_hh[i], NULL, state + m->prepared + (size_t)i * m->columns);
    if (m->attention.heads == 0) return;
    for (size_t t = 0; t + 1 < m->steps; t++)
        memcpy(state + m->ready + t * m->hidden, trail_at(m, state, t, start), m->hidden * sizeof *state);
    b->kernels->transpose(state + m->ready, m->hidden, m->lstm.steps - 1, m->lstm.hidden, state + m->turned, m->padded);
}

static void advance_one(oc_backend *b, const slide *m, const oc_slide_weights *w, float *state, int64_t row)
{
    const float *packed = w->lstm.data, *in = NULL;
    const size_t from = (size_t)row % 2 * m->half, to = m->half - from;
    const size_t windows = (uint64_t)row + 1 < m->steps - 1 ? (size_t)row + 1 : m->steps - 1;
    for (int i = 0; i < m->lstm.layers; i++) {
        const size_t layer = (size_t)i * m->layer, next = layer + to + m->hidden;
        oc_cell c = oc_lstm_cell(&m->lstm, &m->packed, packed, i, (int)windows);
        c.x = in;
        c.xw = i == 0 ? state + m->first : NULL;
        c.h = state + m->h + from + layer;
        c.c = state + m->c + from + layer;
        c.h_out = state + m->h + next;
        c.c_out = state + m->c + next;
        b->kernels->cell(&c);
        in = c.h_out;
    }
    for (size_t t = 0; t < windows && m->attention.heads > 0; t++) /* the window that began at row - t, plus T */
        memcpy(trail_at(m, state, t, row - (int64_t)t + (int64_t)m->steps), in + t * m->hidden,
               m->hidden * sizeof *state);
    if (windows == m->steps - 1) prepare(b, m, packed, state, row, to);
}

oc_status oc_cpu_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                               oc_tensor work, oc_tensor slots, oc_tensor rows)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(s);
    const int64_t n = oc_tensor_count(slots), *row = rows.data;
    const int32_t *slot = slots.data;
    (void)work;
    for (int64_t i = 0; i < n && m.steps > 1; i++)
        if (row[i] >= 0) advance_one(b, &m, w, state_of(&m, states, (uint32_t)slot[i]), row[i]);
    return OC_OK;
}
