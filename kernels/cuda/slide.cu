/* slide.cu - staggered windows: a slot holds T windows over one stream of rows, begun one row apart (DESIGN section 6).
 * Built of lstm_step and attend_forward, so of their bits. The windows lie in a ring: the one that began at row s at
 * s modulo W, W = T - 1; the row that completes the oldest window is the row at which a new one begins in its place.
 * All slots of a call go as one batch: their states are led side by side in `work`, n rows for a step, n places' for an
 * advance, and back. Which slots, and at which rows they stand, is read from the device, so a call can be recorded.
 * State of a slot: slide_layout.cuh.
 * Bound: launches, 4 + layers of a step, some 2 us each, less in a recording. Bytes of an advance: h and c of a slot
 * read and written three times (a step's own twin included). Not run on a GPU. */
#include "kernels/cuda/attend_layout.cuh"
#include "kernels/cuda/resident.cuh"
#include "kernels/cuda/slide_layout.cuh"

/* The work of a call of n slots: a step, or an advance of some places. */
typedef struct slide_work {
    oc_lstm_shape lstm; /* batch: n, or n places */
    size_t x, h, c, ready, lstm_reserve, attend_reserve, count;
} slide_work;

static slide_work work_make(oc_backend *b, const oc_slide_layout *m, int64_t n, bool advance, int64_t places)
{
    slide_work k = {};
    const int64_t rows = n * places;
    const bool attention = m->attention.heads > 0 && !advance;
    const oc_attention_shape a = {(int)n, m->attention.steps, m->attention.hidden, m->attention.heads};
    k.lstm = {(int)m->layers, (int)rows, 1, (int)m->inputs, (int)m->hidden};
    k.x = oc_cuda_take(&k.count, advance ? (size_t)(rows * m->inputs) : 0);
    k.h = oc_cuda_take(&k.count, (size_t)(m->layers * rows * m->hidden));
    k.c = oc_cuda_take(&k.count, (size_t)(m->layers * rows * m->hidden));
    k.ready = oc_cuda_take(&k.count, attention ? (size_t)(m->steps * n * m->hidden) : 0);
    k.lstm_reserve = oc_cuda_take(&k.count, oc_cuda_lstm_reserve_bytes(b, &k.lstm, false) / sizeof(float));
    k.attend_reserve = oc_cuda_take(&k.count, attention ? oc_cuda_attend_reserve_bytes(b, &a) / sizeof(float) : 0);
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

size_t oc_cuda_slide_bytes(oc_backend *b, const oc_slide_shape *s)
{
    (void)b;
    return oc_slide_layout_make(s).count * sizeof(float);
}

size_t oc_cuda_slide_work_bytes(oc_backend *b, const oc_slide_shape *s, int n)
{
    const oc_slide_layout m = oc_slide_layout_make(s);
    const size_t step = work_make(b, &m, n, false, 1).count, advance = work_make(b, &m, n, true, m.windows).count;
    return (step > advance ? step : advance) * sizeof(float);
}

oc_status oc_cuda_slide_reset(oc_backend *b, const oc_slide_shape *s, oc_tensor states, uint32_t slot)
{
    OC_TRY(slide_check(s));
    const oc_slide_layout m = oc_slide_layout_make(s);
    assert((int64_t)slot < states.dims[0]);
    if (oc_cuda_lost()) return OC_OK; /* and the states with it */
    OC_TRY(oc_cuda_result(b,
                          cudaMemsetAsync((float *)states.data + (size_t)slot * m.count, 0, m.count * sizeof(float),
                                          oc_cuda_of(b)->stream),
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

/* ---------------------------------------------------------------- what a call's kernels know */
typedef struct slots_of {
    oc_slide_layout m;
    float *states;
    const int32_t *slots;
    const int64_t *rows;
    int64_t n, first, count;  /* slots; places of an advance */
    float *h, *c, *x, *ready; /* of the work */
} slots_of;

static slots_of call_make(const oc_slide_layout *m, const slide_work *k, oc_tensor states, oc_tensor work,
                          oc_tensor slots, oc_tensor rows, int64_t first, int64_t count)
{
    float *base = (float *)work.data;
    assert(slots.dtype == OC_DTYPE_I32 && rows.dtype == OC_DTYPE_I64 && oc_cuda_count(slots) == oc_cuda_count(rows));
    assert((size_t)oc_cuda_count(work) >= k->count * sizeof(float));
    return {*m,
            (float *)states.data,
            (const int32_t *)slots.data,
            (const int64_t *)rows.data,
            oc_cuda_count(slots),
            first,
            count,
            base + k->h,
            base + k->c,
            base + k->x,
            base + k->ready};
}

OC_DEVICE float *state_of(const slots_of &a, int64_t i)
{
    return a.states + (size_t)a.slots[i] * a.m.count;
}

/* ---------------------------------------------------------------- the row that completes the oldest window */
/* Its states, zero where it began with nothing; its trail; and the row for the advance. */
static __global__ void slide_oldest(slots_of a, const float *x, int64_t trail)
{
    const oc_slide_layout &m = a.m;
    for (int64_t at = oc_thread_first(); at < m.layers * a.n * m.hidden; at += oc_thread_step()) {
        const int64_t k = at % m.hidden, i = at / m.hidden % a.n, l = at / m.hidden / a.n, row = a.rows[i];
        const bool none = row < 0 || m.steps == 1;
        const int64_t from = none ? 0 : (l * m.windows + row % m.windows) * m.hidden + k;
        a.h[at] = none ? 0.0f : state_of(a, i)[m.h + from];
        a.c[at] = none ? 0.0f : state_of(a, i)[m.c + from];
    }
    for (int64_t at = oc_thread_first(); at < a.n * m.inputs; at += oc_thread_step())
        if (a.rows[at / m.inputs] >= 0)
            state_of(a, at / m.inputs)[oc_slide_x_at(m, a.rows[at / m.inputs]) + at % m.inputs] = x[at];
    for (int64_t at = oc_thread_first(); at < trail; at += oc_thread_step()) {
        const int64_t i = at / m.hidden % a.n, t = at / m.hidden / a.n, start = a.rows[i] - m.steps + 1;
        a.ready[at] = start < 0 ? 0.0f : state_of(a, i)[oc_slide_trail_at(m, t, start) + at % m.hidden];
    }
}

/* The top layer's states are the last step that the attention sees, or what the head reads. */
static __global__ void slide_put(const float *top, float *to, int64_t count)
{
    for (int64_t at = oc_thread_first(); at < count; at += oc_thread_step()) to[at] = top[at];
}

oc_status oc_cuda_slide_step(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                             oc_tensor work, oc_tensor slots, oc_tensor rows, oc_tensor x, oc_tensor seen)
{
    OC_TRY(slide_check(s));
    const oc_slide_layout m = oc_slide_layout_make(s);
    const int64_t n = oc_cuda_count(slots), top = n * m.hidden;
    const slide_work k = work_make(b, &m, n, false, 1);
    const slots_of a = call_make(&m, &k, states, work, slots, rows, 0, 1);
    const bool attention = m.attention.heads > 0;
    const int64_t trail = attention ? (m.steps - 1) * top : 0, load = m.layers * top;
    float *base = (float *)work.data;
    assert(oc_cuda_count(x) >= n * m.inputs && oc_cuda_count(seen) >= top);
    if (n == 0) return OC_OK;
    OC_LAUNCH(b, slide_oldest, oc_flat_grid(b, trail > load ? trail : load), OC_FLAT_THREADS, 0, a,
              (const float *)x.data, trail);
    OC_TRY(oc_cuda_lstm_step(b, &k.lstm, w->lstm, (int)n, part((float *)x.data, n, m.inputs, 1),
                             part(a.h, m.layers, n, m.hidden), part(a.c, m.layers, n, m.hidden),
                             part(base + k.lstm_reserve, 1, 1, 1)));
    OC_LAUNCH(b, slide_put, oc_flat_grid(b, top), OC_FLAT_THREADS, 0, a.h + (m.layers - 1) * top,
              attention ? a.ready + trail : (float *)seen.data, top);
    if (!attention) return OC_OK;
    const oc_attention_shape of = {(int)n, m.attention.steps, m.attention.hidden, m.attention.heads};
    OC_TRY(oc_cuda_attend_forward(b, &of, w->attention, part(a.ready, m.steps, n, m.hidden),
                                  part((float *)seen.data, n, m.hidden, 1), part(NULL, n, of.heads, m.steps),
                                  part(base + k.attend_reserve, 1, 1, 1)));
    return OC_OK;
}

/* ---------------------------------------------------------------- the others take it */
/* The places' windows of the slots side by side; the one that begins with this row from zero states. */
static __global__ void slide_load(slots_of a)
{
    const oc_slide_layout &m = a.m;
    const int64_t all = a.n * a.count;
    for (int64_t at = oc_thread_first(); at < m.layers * all * m.hidden; at += oc_thread_step()) {
        const int64_t k = at % m.hidden, one = at / m.hidden % all, l = at / m.hidden / all, i = one / a.count,
                      place = a.first + one % a.count, row = a.rows[i];
        const bool none = row < 0 || place == row % m.windows;
        const int64_t from = none ? 0 : (l * m.windows + place) * m.hidden + k;
        a.h[at] = none ? 0.0f : state_of(a, i)[m.h + from];
        a.c[at] = none ? 0.0f : state_of(a, i)[m.c + from];
    }
    for (int64_t at = oc_thread_first(); at < all * m.inputs; at += oc_thread_step()) {
        const int64_t i = at / m.inputs / a.count;
        a.x[at] = a.rows[i] < 0 ? 0.0f : state_of(a, i)[oc_slide_x_at(m, a.rows[i]) + at % m.inputs];
    }
}

/* Back, and the top layer into the trail: window `place` has now consumed step t. */
static __global__ void slide_store(slots_of a)
{
    const oc_slide_layout &m = a.m;
    const int64_t all = a.n * a.count;
    for (int64_t at = oc_thread_first(); at < m.layers * all * m.hidden; at += oc_thread_step()) {
        const int64_t k = at % m.hidden, one = at / m.hidden % all, l = at / m.hidden / all, i = one / a.count,
                      place = a.first + one % a.count, row = a.rows[i];
        if (row < 0) continue;
        float *state = state_of(a, i);
        state[m.h + (l * m.windows + place) * m.hidden + k] = a.h[at];
        state[m.c + (l * m.windows + place) * m.hidden + k] = a.c[at];
        const int64_t t = (row - place + m.windows) % m.windows;
        if (m.attention.heads > 0 && l == m.layers - 1 && t <= row)
            state[oc_slide_trail_at(m, t, row - t) + k] = a.h[at];
    }
}

oc_status oc_cuda_slide_advance(oc_backend *b, const oc_slide_shape *s, const oc_slide_weights *w, oc_tensor states,
                                oc_tensor work, oc_tensor slots, oc_tensor rows, int first, int count)
{
    OC_TRY(slide_check(s));
    const oc_slide_layout m = oc_slide_layout_make(s);
    const int64_t n = oc_cuda_count(slots), all = n * count;
    if (all == 0 || m.steps == 1) return OC_OK; /* T 1: a window is its row */
    assert(first >= 0 && count >= 0 && first <= m.windows - count);
    const slide_work k = work_make(b, &m, n, true, count);
    const slots_of a = call_make(&m, &k, states, work, slots, rows, first, count);
    const unsigned grid = oc_flat_grid(b, m.layers * all * m.hidden);
    OC_LAUNCH(b, slide_load, grid, OC_FLAT_THREADS, 0, a);
    OC_TRY(oc_cuda_lstm_step(b, &k.lstm, w->lstm, (int)all, part(a.x, all, m.inputs, 1),
                             part(a.h, m.layers, all, m.hidden), part(a.c, m.layers, all, m.hidden),
                             part((float *)work.data + k.lstm_reserve, 1, 1, 1)));
    OC_LAUNCH(b, slide_store, grid, OC_FLAT_THREADS, 0, a);
    return OC_OK;
}
