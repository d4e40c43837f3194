/* slide.c - staggered windows: T - 1 recurrences over one stream of rows, begun one row apart (DESIGN section 6).
 * A row completes the oldest window: that is the critical path (slide_step), made as short as it gets by what the
 * advance of that window prepared: its h.W_hh of every layer, and its states side by side and transposed. Slots of a
 * call go together, since the weights come from L2. The others take the row some places at a time (slide_advance), as a
 * batch; they share x, so x.W_ih of the first layer is computed once, by the step, and kept for as many rows as a place
 * may lag behind.
 *
 * State of a slot, in floats (every part at a multiple of 16), with W = T - 1 places:
 *   mark     slide_mark
 *   h        [2][layers][W][H]     a window that consumes row r reads its place in half r mod 2 and writes it in the
 *                                  other;   c [layers][W][H], in place. A window begins with zeros
 *   trail    top-layer states of unfinished windows, for the attention. The state after step t of the window that began
 *            at row s lives until row s + T - 1, so for each t there is a ring of T - 1 - t rows of H, at s modulo its
 *            size: T (T - 1) / 2 rows in all, a triangle. What it overwrites is of the window that the row completed
 *   ready    [T][H], columns [H][Tp]      the oldest window's states, and transposed
 *   prepared [layers][columns]     its h.W_hh
 *   first    [OC_SLIDE_KEPT][columns]     x.W_ih of the last rows, at row modulo OC_SLIDE_KEPT */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/attend_layout.h"
#include "kernels/cpu/lstm_layout.h"
#include "kernels/cpu/ops_cpu.h"

/* Numbers of rows, 0 after a reset: of the last step, and of those before the row whose step has been prepared. */
typedef struct slide_mark {
    int64_t stepped, prepared;
} slide_mark;

typedef struct slide {
    oc_lstm_shape lstm;
    oc_attention_shape attention;
    oc_lstm_layout packed;
    size_t steps, windows, hidden, columns, padded;
    size_t half, layer; /* distances: between the halves of h, between layers */
    size_t h, c, trail, ready, turned, prepared, first, count;
} slide;

/* The work of a step of n slots: what they bring, side by side [n][columns], [n][H], and the reserve of the attention.
 */
typedef struct slide_work {
    size_t xw, hw, c, c_out, h[2], attend, count;
} slide_work;

enum { MARK_COUNT = 16, TOGETHER_MAX = 12 }; /* slots of a step that go together */
_Static_assert(sizeof(slide_mark) <= MARK_COUNT * sizeof(float), "the mark has room");

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
               .windows = s->steps > 1 ? (size_t)s->steps - 1 : 1,
               .hidden = (size_t)s->hidden,
               .columns = oc_lstm_columns(s->hidden),
               .padded = oc_round_up((size_t)s->steps, 16)};
    const size_t layers = (size_t)s->layers;
    m.packed = oc_lstm_layout_make(&m.lstm);
    m.layer = oc_round_up(m.windows * m.hidden, 16);
    m.half = layers * m.layer;
    m.h = MARK_COUNT;
    m.c = m.h + 2 * m.half;
    m.trail = m.c + m.half;
    m.ready = m.trail + (s->heads > 0 ? oc_round_up(m.steps * (m.steps - 1) / 2 * m.hidden, 16) : 0);
    m.turned = m.ready + (s->heads > 0 ? oc_round_up(m.steps * m.hidden, 16) : 0);
    m.prepared = m.turned + (s->heads > 0 ? m.hidden * m.padded : 0);
    m.first = m.prepared + layers * m.columns;
    m.count = m.first + OC_SLIDE_KEPT * m.columns;
    return m;
}

static slide_work work_make(const slide *m, size_t n)
{
    const oc_attention_shape attention = {(int)n, m->attention.steps, m->attention.hidden, m->attention.heads};
    const size_t state = oc_round_up(n * m->hidden, 16), wide = n * m->columns;
    slide_work k = {.xw = 0};
    k.hw = k.xw + wide;
    k.c = k.hw + wide;
    k.c_out = k.c + state;
    k.h[0] = k.c_out + state;
    k.h[1] = k.h[0] + state;
    k.attend = k.h[1] + state;
    k.count = k.attend + (attention.heads > 0 ? oc_attend_layout_make(&attention).reserve_count : 0);
    return k;
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
    const slide m = slide_make(s);
    (void)b;
    return work_make(&m, n < TOGETHER_MAX ? (size_t)n : TOGETHER_MAX).count * sizeof(float);
}

static slide_mark mark_of(const float *state)
{
    slide_mark mark;
    memcpy(&mark, state, sizeof mark);
    return mark;
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
    const slide_mark none = {0, 0}; /* windows begin with zeros, and none of another run is ever read */
    (void)b;
    memcpy(state_of(&m, states, slot), &none, sizeof none);
    return OC_OK;
}

/* Row t of the trail of the window that began at row `start`. */
static float *trail_at(const slide *m, float *state, size_t t, size_t start)
{
    const size_t size = m->windows - t;
    return state + m->trail + (ring_first(m->steps, t) + start % size) * m->hidden;
}

/* What the step of `row` needs of the window that it completes, which has consumed every row before. */
static void prepare(oc_backend *b, const slide *m, const float *packed, float *state, int64_t row)
{
    const size_t place = (size_t)row % m->windows * m->hidden, half = (size_t)row % 2 * m->half;
    slide_mark mark = mark_of(state);
    for (int i = 0; i < m->lstm.layers; i++)
        oc_lstm_project(b, m->lstm.hidden, 1, state + m->h + half + (size_t)i * m->layer + place, m->lstm.hidden,
                        packed + m->packed.w_hh[i], NULL, state + m->prepared + (size_t)i * m->columns);
    if (m->attention.heads > 0) {
        for (size_t t = 0; t < m->windows; t++)
            memcpy(state + m->ready + t * m->hidden, trail_at(m, state, t, (size_t)row - m->windows),
                   m->hidden * sizeof *state);
        b->kernels->transpose(state + m->ready, m->hidden, m->lstm.steps - 1, m->lstm.hidden, state + m->turned,
                              m->padded);
    }
    mark.prepared = row;
    memcpy(state, &mark, sizeof mark);
}

static float *first_of(const slide *m, float *state, int64_t row)
{
    return state + m->first + (size_t)row % OC_SLIDE_KEPT * m->columns;
}

/* A part of n states, `count` numbers of each, side by side; of one it lies well where it is. */
static const float *side_by_side(float *const *states, size_t n, size_t part, size_t count, float *to)
{
    if (n == 1) return states[0] + part;
    for (size_t i = 0; i < n; i++) memcpy(to + i * count, states[i] + part, count * sizeof *to);
    return to;
}

/* The cells of a layer of the windows that the rows complete, likewise. */
static const float *cells_together(const slide *m, float *const *states, const int64_t *rows, size_t n, int layer,
                                   float *to)
{
    for (size_t i = 0; i < n; i++) {
        const float *from = states[i] + m->c + (size_t)layer * m->layer + (size_t)rows[i] % m->windows * m->hidden;
        if (n == 1) return from;
        memcpy(to + i * m->hidden, from, m->hidden * sizeof *to);
    }
    return to;
}

/* The windows' last states in their places, and the attention over all. */
static void attend(oc_backend *b, const slide *m, const float *packed, float *const *states, size_t n,
                   const float *last, float *seen, float *reserve)
{
    const oc_attention_shape s = {(int)n, m->attention.steps, m->attention.hidden, m->attention.heads};
    oc_attend_window windows[TOGETHER_MAX];
    for (size_t i = 0; i < n; i++) {
        float *ready = states[i] + m->ready, *turned = states[i] + m->turned;
        memcpy(ready + (m->steps - 1) * m->hidden, last + i * m->hidden, m->hidden * sizeof *last);
        for (size_t k = 0; k < m->hidden; k++) turned[k * m->padded + m->steps - 1] = last[i * m->hidden + k];
        windows[i] = (oc_attend_window){ready, turned};
    }
    oc_cpu_attend_windows(b, &s, packed, last, windows, seen, reserve);
}

/* Rows of n slots, x [n,F] -> seen [n,H]. */
static void step_some(oc_backend *b, const slide *m, const oc_slide_weights *w, float *const *states,
                      const int64_t *rows, size_t n, const float *x, float *seen, float *work)
{
    const slide_work k = work_make(m, n);
    const float *packed = w->lstm.data, *in = x;
    const bool attention = m->attention.heads > 0;
    float *xw = n == 1 ? first_of(m, states[0], rows[0]) : work + k.xw;
    oc_lstm_project(b, m->lstm.hidden, (int)n, x, m->lstm.inputs, packed + m->packed.w_ih[0],
                    packed + m->packed.bias[0], xw);
    for (size_t i = 0; i < n; i++) {
        const slide_mark mark = {rows[i] + 1, mark_of(states[i]).prepared};
        memcpy(states[i], &mark, sizeof mark);
        if (n > 1) memcpy(first_of(m, states[i], rows[i]), xw + i * m->columns, m->columns * sizeof *xw);
    }
    for (int l = 0; l < m->lstm.layers; l++) {
        oc_cell c = oc_lstm_cell(&m->lstm, &m->packed, packed, l, (int)n);
        c.x = l == 0 ? NULL : in;
        c.xw = l == 0 ? xw : NULL;
        c.xw_row = c.hw_row = m->columns;
        if (m->steps > 1) {
            c.hw = side_by_side(states, n, m->prepared + (size_t)l * m->columns, m->columns, work + k.hw);
            c.c = cells_together(m, states, rows, n, l, work + k.c);
        }
        c.c_out = work + k.c_out;
        c.h_out = l < m->lstm.layers - 1 || attention ? work + k.h[l % 2] : seen;
        b->kernels->cell(&c);
        in = c.h_out;
    }
    if (attention) attend(b, m, w->attention.data, states, n, in, seen, work + k.attend);
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
    float *states_of[TOGETHER_MAX];
    assert(oc_tensor_count(rows) == n && oc_tensor_count(x) >= n * s->inputs && oc_tensor_count(seen) >= n * s->hidden);
    for (int64_t i = 0, together; i<n; i += together> 0 ? together : 1) {
        for (together = 0; together < TOGETHER_MAX && i + together < n && row[i + together] >= 0; together++) {
            float *state = state_of(&m, states, (uint32_t)slot[i + together]);
            if (m.steps > 1 && row[i + together] >= (int64_t)m.windows && mark_of(state).prepared != row[i + together])
                prepare(b, &m, w->lstm.data, state, row[i + together]);
            states_of[together] = state;
        }
        if (together > 0)
            step_some(b, &m, w, states_of, row + i, (size_t)together, in + i * s->inputs, out + i * s->hidden,
                      work.data);
    }
    return OC_OK;
}

/* The window that begins with `row` finds zeros in its place. */
static void window_begin(const slide *m, float *state, int64_t row)
{
    const size_t place = (size_t)row % m->windows * m->hidden, half = (size_t)row % 2 * m->half;
    for (int i = 0; i < m->lstm.layers; i++) {
        const size_t at = (size_t)i * m->layer + place;
        memset(state + m->h + half + at, 0, m->hidden * sizeof *state);
        memset(state + m->c + at, 0, m->hidden * sizeof *state);
    }
}

/* Of its windows in places first ... first + count - 1, those that have begun. */
static void advance_one(oc_backend *b, const slide *m, const oc_slide_weights *w, float *state, int64_t row,
                        size_t first, size_t count)
{
    const float *packed = w->lstm.data, *in = NULL;
    const size_t from = (size_t)row % 2 * m->half, at = first * m->hidden, newest = (size_t)row % m->windows;
    const size_t begun = (size_t)row < m->windows ? (size_t)row + 1 : m->windows;
    if (first >= begun) return;
    if (count > begun - first) count = begun - first;
    if (newest - first < count) window_begin(m, state, row);
    for (int i = 0; i < m->lstm.layers; i++) {
        const size_t layer = (size_t)i * m->layer + at;
        oc_cell c = oc_lstm_cell(&m->lstm, &m->packed, packed, i, (int)count);
        c.x = in;
        c.xw = i == 0 ? first_of(m, state, row) : NULL;
        c.h = state + m->h + from + layer;
        c.c = c.c_out = state + m->c + layer;
        c.h_out = state + m->h + (m->half - from) + layer;
        b->kernels->cell(&c);
        in = c.h_out;
    }
    for (size_t i = 0; i < count && m->attention.heads > 0; i++) {
        const size_t place = first + i, t = newest >= place ? newest - place : newest + m->windows - place;
        memcpy(trail_at(m, state, t, (size_t)row - t), in + i * m->hidden, m->hidden * sizeof *state);
    }
    const size_t next = ((size_t)row + 1) % m->windows;
    if (mark_of(state).stepped == row + 1 && (size_t)row + 1 >= m->windows && next - first < count)
        prepare(b, m, packed, state, row + 1);
}

oc_status oc_cpu_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                               oc_tensor work, oc_tensor slots, oc_tensor rows, int first, int count)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(s);
    const int64_t n = oc_tensor_count(slots), *row = rows.data;
    const int32_t *slot = slots.data;
    (void)work;
    assert(s->steps == 1 || (first >= 0 && count >= 0 && first <= s->steps - 1 - count));
    for (int64_t i = 0; i < n && m.steps > 1; i++)
        if (row[i] >= 0)
            advance_one(b, &m, w, state_of(&m, states, (uint32_t)slot[i]), row[i], (size_t)first, (size_t)count);
    return OC_OK;
}
