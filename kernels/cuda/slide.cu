/* slide.cu - staggered windows: a slot holds T windows over one stream of rows, begun one row apart (DESIGN section 6).
 * Built of lstm_step and attend_forward, so of their bits. The windows lie in a ring: the one that began at row s at
 * s modulo W, W = T - 1; the row that completes the oldest window is the row at which a new one begins in its place, so
 * an advance clears that place and takes all W as one batch. A slot after the other: some 6 + 3 layers launches each.
 *
 * State of a slot, in floats (every part at a multiple of 32):
 *   h, c    [layers][W][H]    x [W][F] the last row, W times      trail: as in kernels/cpu/slide.c, a triangle of rings
 *   ready   [T][H] states of the window that the next row completes; its last row comes with the step
 *   old_h, old_c [layers][H]  the oldest window's states, copied by the advance before
 *   lstm, attend              workspace of the two
 * Bound: launches, 2 us each. Not run on a GPU. */
#include "kernels/cuda/attend_layout.cuh"

typedef struct slide {
    oc_lstm_shape lstm;
    oc_attention_shape attention;
    int64_t steps, hidden, windows, layers, inputs;
    size_t h, c, x, trail, ready, old_h, old_c, work, attend, count;
} slide;

static slide slide_make(oc_backend *b, const oc_slide_shape *s)
{
    slide m = {};
    const int windows = s->steps > 1 ? s->steps - 1 : 1;
    m.lstm = {s->layers, windows, 1, s->inputs, s->hidden};
    m.attention = {1, s->steps, s->hidden, s->heads};
    m.steps = s->steps;
    m.hidden = s->hidden;
    m.windows = windows;
    m.layers = s->layers;
    m.inputs = s->inputs;
    const size_t hidden = (size_t)s->hidden, each = (size_t)(s->layers * windows) * hidden, steps = (size_t)s->steps;
    m.h = oc_cuda_take(&m.count, each);
    m.c = oc_cuda_take(&m.count, each);
    m.x = oc_cuda_take(&m.count, (size_t)windows * (size_t)s->inputs);
    m.trail = oc_cuda_take(&m.count, s->heads > 0 ? steps * (steps - 1) / 2 * hidden : 0);
    m.ready = oc_cuda_take(&m.count, s->heads > 0 ? steps * hidden : 0);
    m.old_h = oc_cuda_take(&m.count, (size_t)s->layers * hidden);
    m.old_c = oc_cuda_take(&m.count, (size_t)s->layers * hidden);
    m.work = oc_cuda_take(&m.count, oc_cuda_lstm_reserve_bytes(b, &m.lstm, false) / sizeof(float));
    m.attend = oc_cuda_take(&m.count, s->heads > 0 ? oc_cuda_attend_reserve_bytes(b, &m.attention) / sizeof(float) : 0);
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

size_t oc_cuda_slide_bytes(oc_backend *b, const oc_slide_shape *s)
{
    return slide_make(b, s).count * sizeof(float);
}

static float *state_of(const slide *m, oc_tensor states, uint32_t slot)
{
    assert((int64_t)slot < states.dims[0]);
    return (float *)states.data + (size_t)slot * m->count;
}

oc_status oc_cuda_slide_reset(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(b, s);
    OC_TRY(oc_cuda_result(
        b, cudaMemsetAsync(state_of(&m, states, slot), 0, m.count * sizeof(float), oc_cuda_of(b)->stream),
        "clearing memory"));
    return OC_OK;
}

static oc_tensor part(float *data, int64_t d0, int64_t d1, int64_t d2)
{
    oc_tensor t = {};
    t.data = data;
    t.dims[0] = d0;
    t.dims[1] = d1;
    t.dims[2] = d2;
    t.dims[3] = 1;
    t.dtype = OC_DTYPE_F32;
    return t;
}

/* ---------------------------------------------------------------- the row that completes the oldest window */
static __global__ void slide_take(slide m, float *state, const float *row)
{
    for (int64_t i = oc_thread_first(); i < m.windows * m.inputs; i += oc_thread_step())
        state[m.x + i] = row[i % m.inputs];
}

/* The top layer's state of the completed window: the last of `ready`, or the answer itself. */
static __global__ void slide_put(slide m, float *state, float *seen)
{
    float *to = seen ? seen : state + m.ready + (m.steps - 1) * m.hidden;
    for (int64_t k = oc_thread_first(); k < m.hidden; k += oc_thread_step())
        to[k] = state[m.old_h + (m.layers - 1) * m.hidden + k];
}

static OC_MUST step_one(oc_backend *b, const slide *m, const oc_slide_weights *w, float *state, const float *x,
                        float *seen)
{
    const bool attention = m->attention.heads > 0;
    OC_LAUNCH(b, slide_take, oc_flat_grid(b, m->windows * m->inputs), OC_FLAT_THREADS, 0, *m, state, x);
    OC_TRY(oc_cuda_lstm_step(b, &m->lstm, w->lstm, 1, part(state + m->x, 1, m->inputs, 1),
                             part(state + m->old_h, m->layers, 1, m->hidden),
                             part(state + m->old_c, m->layers, 1, m->hidden), part(state + m->work, 1, 1, 1)));
    OC_LAUNCH(b, slide_put, oc_flat_grid(b, m->hidden), OC_FLAT_THREADS, 0, *m, state,
              attention ? (float *)NULL : seen);
    if (!attention) return OC_OK;
    OC_TRY(oc_cuda_attend_forward(b, &m->attention, w->attention, part(state + m->ready, m->steps, 1, m->hidden),
                                  part(seen, 1, m->hidden, 1), part(NULL, 1, m->attention.heads, m->steps),
                                  part(state + m->attend, 1, 1, 1)));
    return OC_OK;
}

oc_status oc_cuda_slide_step(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states, int n,
                             const uint32_t *slots, const int64_t *rows, oc_tensor x, oc_tensor seen)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(b, s);
    (void)rows; /* the advance before has put the oldest window in its place */
    assert(oc_cuda_count(x) >= n * m.inputs && oc_cuda_count(seen) >= n * m.hidden);
    for (int i = 0; i < n; i++)
        OC_TRY(step_one(b, &m, w, state_of(&m, states, slots[i]), (const float *)x.data + i * m.inputs,
                        (float *)seen.data + i * m.hidden));
    return OC_OK;
}

/* ---------------------------------------------------------------- the others take it */
/* Row t of the trail of the window that began at row `start`; the ring of step t has T - 1 - t rows, behind those of
 * T - 1, T - 2, … rows. */
OC_DEVICE int64_t trail_at(const slide &m, int64_t t, int64_t start)
{
    const int64_t before = t * (m.steps - 1) - t * (t - 1) / 2;
    return (int64_t)m.trail + (before + start % (m.steps - 1 - t)) * m.hidden;
}

/* The window that begins with this row: from zero states. */
static __global__ void slide_begin(slide m, float *state, int64_t row)
{
    const int64_t count = m.layers * m.hidden;
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        const int64_t at = (i / m.hidden * m.windows + row % m.windows) * m.hidden + i % m.hidden;
        state[m.h + at] = state[m.c + at] = 0.0f;
    }
}

/* Every window's new top state goes to the trail; the window at place p began at the last row <= row that is p modulo
 * W. Those that "began" before row 0 are not there yet. */
static __global__ void slide_trail(slide m, float *state, int64_t row)
{
    const float *top = state + m.h + (m.layers - 1) * m.windows * m.hidden;
    for (int64_t i = oc_thread_first(); i < m.windows * m.hidden; i += oc_thread_step()) {
        const int64_t place = i / m.hidden, t = (row - place % m.windows + m.windows) % m.windows;
        if (t <= row) state[trail_at(m, t, row - t) + i % m.hidden] = top[i];
    }
}

/* For the next step: states of the window that row + 1 completes. It began at row - T + 2; T - 1 = W later, W places
 * on. */
static __global__ void slide_prepare(slide m, float *state, int64_t row, int64_t trail_count)
{
    const int64_t start = row - m.steps + 2, place = (row + 1) % m.windows;
    for (int64_t i = oc_thread_first(); i < m.layers * m.hidden; i += oc_thread_step()) {
        const int64_t at = (i / m.hidden * m.windows + place) * m.hidden + i % m.hidden;
        state[m.old_h + i] = state[m.h + at];
        state[m.old_c + i] = state[m.c + at];
    }
    if (start < 0) return;
    for (int64_t i = oc_thread_first(); i < trail_count; i += oc_thread_step())
        state[m.ready + i] = state[trail_at(m, i / m.hidden, start) + i % m.hidden];
}

static OC_MUST advance_one(oc_backend *b, const slide *m, const oc_slide_weights *w, float *state, int64_t row)
{
    const int64_t trail = m->attention.heads > 0 ? m->windows * m->hidden : 0;
    OC_LAUNCH(b, slide_begin, oc_flat_grid(b, m->layers * m->hidden), OC_FLAT_THREADS, 0, *m, state, row);
    OC_TRY(oc_cuda_lstm_step(b, &m->lstm, w->lstm, (int)m->windows, part(state + m->x, m->windows, m->inputs, 1),
                             part(state + m->h, m->layers, m->windows, m->hidden),
                             part(state + m->c, m->layers, m->windows, m->hidden), part(state + m->work, 1, 1, 1)));
    if (trail > 0) OC_LAUNCH(b, slide_trail, oc_flat_grid(b, trail), OC_FLAT_THREADS, 0, *m, state, row);
    OC_LAUNCH(b, slide_prepare, oc_flat_grid(b, m->windows * m->hidden), OC_FLAT_THREADS, 0, *m, state, row, trail);
    return OC_OK;
}

/* T 1: a window is its row; only the states before it must be zero again. */
static OC_MUST forget_one(oc_backend *b, const slide *m, float *state)
{
    const size_t bytes = (m->old_c - m->old_h + (size_t)(m->layers * m->hidden)) * sizeof(float);
    OC_TRY(oc_cuda_result(b, cudaMemsetAsync(state + m->old_h, 0, bytes, oc_cuda_of(b)->stream), "clearing memory"));
    return OC_OK;
}

oc_status oc_cuda_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                                int n, const uint32_t *slots, const int64_t *rows)
{
    OC_TRY(slide_check(s));
    const slide m = slide_make(b, s);
    for (int i = 0; i < n; i++) {
        float *state = state_of(&m, states, slots[i]);
        if (m.steps > 1)
            OC_TRY(advance_one(b, &m, w, state, rows[i]));
        else
            OC_TRY(forget_one(b, &m, state));
    }
    return OC_OK;
}
