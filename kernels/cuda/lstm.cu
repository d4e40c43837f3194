/* lstm.cu - forward and single step of a stacked LSTM, one launch a step: the twin that serves every shape in
 * f32, and the oracle of the persistent kernels (lstm_persistent.cu).
 * Strategy: x . W_ih + bias of all steps as one product into `gates`; then a launch a step, a block for 16 rows x 16
 * units with all four gates, h . W_hh through shared memory, gates and cell in registers.
 * Order: as on the CPU (x.W from the bias) + (h.W from 0): the CPU's bits. Bound: a launch a step, some 2 us, where the
 * batch is small; W_hh from L2 in every step. Not run on a GPU. */
#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"

static constexpr int ROWS = 16, UNITS = 16, DEPTH = 32, THREADS = ROWS * UNITS;

oc_status oc_cuda_lstm_shape_check(const oc_lstm_shape *s, const char *what)
{
    if (!(s->layers >= 1 && s->layers <= OC_LAYERS_MAX && s->steps >= 1 && s->steps <= OC_STEPS_MAX && s->inputs >= 1 &&
          s->inputs <= OC_INPUTS_MAX && s->hidden >= 1 && s->hidden <= OC_HIDDEN_MAX && s->batch >= 0 &&
          s->batch <= 1 << 20))
        return OC_FAIL(OC_ELIMIT,
                       "%s: %d layers, %d steps, %d inputs, %d hidden, batch %d: a bound of kernels/ops.h is passed",
                       what, s->layers, s->steps, s->inputs, s->hidden, s->batch);
    return OC_OK;
}

size_t oc_cuda_lstm_reserve_bytes(oc_backend *b, const oc_lstm_shape *s, bool training)
{
    const oc_cuda_lstm_layout l = oc_cuda_lstm_layout_make(s, b->info.math);
    return (training ? l.reserve_count : l.once_count) * sizeof(float);
}

/* ---------------------------------------------------------------- a step */
typedef struct cell_step {
    int rows, hidden;
    const float *w_hh, *h; /* h NULL: the first step */
    const float *before;   /* c of the step before; NULL: 0 */
    float *gates;          /* [rows][4H]: x . W + bias; the gates after activation where `keep` */
    float *cells, *out;
    bool keep;
    float *dropped; /* out times dropout, or NULL */
    oc_device_dropout dropout;
    int64_t step;
} cell_step;

static __global__ void __launch_bounds__(THREADS) lstm_cell(cell_step s)
{
    OC_SHARED(float, h, [ROWS][DEPTH + 1]);
    OC_SHARED(float, w, [OC_GATES * UNITS][DEPTH + 1]);
    const int first_row = blockIdx.x * ROWS, first_unit = blockIdx.y * UNITS;
    const int r = threadIdx.x / UNITS, u = threadIdx.x % UNITS, row = first_row + r, unit = first_unit + u;
    float sum[OC_GATES] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int k0 = 0; s.h && k0 < s.hidden; k0 += DEPTH) {
        for (int n = threadIdx.x; n < ROWS * DEPTH; n += THREADS) {
            const int i = n / DEPTH, k = n % DEPTH;
            const bool there = first_row + i < s.rows && k0 + k < s.hidden;
            h[i][k] = there ? s.h[(int64_t)(first_row + i) * s.hidden + k0 + k] : 0.0f;
        }
        for (int n = threadIdx.x; n < OC_GATES * UNITS * DEPTH; n += THREADS) {
            const int i = n / DEPTH, k = n % DEPTH, gate = i / UNITS, of = first_unit + i % UNITS;
            const bool there = of < s.hidden && k0 + k < s.hidden;
            w[i][k] = there ? s.w_hh[((int64_t)gate * s.hidden + of) * s.hidden + k0 + k] : 0.0f;
        }
        __syncthreads();
        const int depth = s.hidden - k0 < DEPTH ? s.hidden - k0 : DEPTH;
        for (int k = 0; k < depth; k++) {
            const float x = h[r][k];
            for (int g = 0; g < OC_GATES; g++) sum[g] = fmaf(x, w[g * UNITS + u][k], sum[g]);
        }
        __syncthreads();
    }
    if (row >= s.rows || unit >= s.hidden) return;
    float *gates = s.gates + (int64_t)row * 4 * s.hidden + unit;
    for (int g = 0; g < OC_GATES; g++) sum[g] = gates[(int64_t)g * s.hidden] + sum[g];
    const oc_gates a = oc_gates_of(sum[0], sum[1], sum[2], sum[3]);
    const int64_t at = (int64_t)row * s.hidden + unit;
    const float c = fmaf(a.f, s.before ? s.before[at] : 0.0f, a.i * a.g), out = a.o * oc_device_tanh(c);
    s.cells[at] = c;
    s.out[at] = out;
    if (s.dropped) s.dropped[at] = out * oc_device_dropout_factor(s.dropout, row, s.step, s.hidden, unit);
    if (!s.keep) return;
    gates[0] = a.i;
    gates[(int64_t)s.hidden] = a.f;
    gates[2 * (int64_t)s.hidden] = a.g;
    gates[3 * (int64_t)s.hidden] = a.o;
}

/* gates += h . W_hh' by fragments; then lstm_cell has only the functions left. */
static OC_MUST add_recurrent(oc_backend *b, const cell_step *s)
{
    oc_cuda_product p = {};
    p.m = s->rows;
    p.n = 4 * s->hidden;
    p.k = s->hidden;
    p.a = s->h;
    p.a_row = s->hidden;
    p.a_k = 1;
    p.b = s->w_hh;
    p.b_k = 1;
    p.b_column = s->hidden;
    p.c = s->gates;
    p.c_row = p.n;
    p.add = true;
    p.math = b->info.math;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

static OC_MUST cell_run(oc_backend *b, const cell_step *wanted)
{
    cell_step one = *wanted, *const s = &one;
    if (b->info.math != OC_MATH_F32 && s->h) {
        OC_TRY(add_recurrent(b, s));
        s->h = NULL;
    }
    const dim3 grid((unsigned)((s->rows + ROWS - 1) / ROWS), (unsigned)((s->hidden + UNITS - 1) / UNITS));
    OC_LAUNCH(b, lstm_cell, grid, THREADS, 0, *s);
    return OC_OK;
}

/* gates [rows][4H] = x . W_ih' + bias */
static OC_MUST project(oc_backend *b, const oc_lstm_shape *s, const oc_cuda_lstm_layout *l, const float *packed,
                       int layer, int rows, const float *x, float *gates, bool training)
{
    const int inputs = oc_cuda_layer_inputs(s, layer);
    oc_cuda_product p = {};
    p.m = rows;
    p.n = 4 * s->hidden;
    p.k = inputs;
    p.a = x;
    p.a_row = inputs;
    p.a_k = 1;
    p.b = packed + l->w_ih[layer];
    p.b_k = 1;
    p.b_column = inputs;
    p.c = gates;
    p.c_row = p.n;
    p.start = packed + l->bias[layer];
    p.math = b->info.math;
    p.large = training;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

/* ---------------------------------------------------------------- forward */
typedef struct layer_memory {
    float *gates, *cells, *out, *dropped;
    bool cells_kept; /* [T][B][H], or [B][H] used over and over */
} layer_memory;

static OC_MUST layer_run(oc_backend *b, const oc_lstm_shape *s, const oc_cuda_lstm_layout *l, const float *packed,
                         int layer, const float *x, const oc_dropout *dropout, bool training, const layer_memory *m)
{
    const int64_t state = (int64_t)s->batch * s->hidden;
    OC_TRY(project(b, s, l, packed, layer, s->steps * s->batch, x, m->gates, training));
    if (oc_cuda_lstm_scan_serves(b, s->hidden, false)) {
        const oc_lstm_scan scan = {
            s->batch, s->steps,   s->hidden, packed + l->scan[layer].forward_hh, m->gates, m->cells,
            m->out,   m->dropped, training,  oc_device_dropout_of(dropout),      NULL,     NULL,
            NULL};
        OC_TRY(oc_cuda_lstm_scan_run(b, &scan));
        return OC_OK;
    }
    cell_step c = {};
    c.rows = s->batch;
    c.hidden = s->hidden;
    c.w_hh = packed + l->w_hh[layer];
    c.keep = training;
    c.dropout = oc_device_dropout_of(dropout);
    for (int64_t t = 0; t < s->steps; t++) {
        c.h = t > 0 ? m->out + (t - 1) * state : NULL;
        c.cells = m->cells + (m->cells_kept ? t * state : 0);
        c.before = t == 0 ? NULL : m->cells_kept ? c.cells - state : c.cells;
        c.gates = m->gates + t * 4 * state;
        c.out = m->out + t * state;
        c.dropped = m->dropped ? m->dropped + t * state : NULL;
        c.step = t;
        OC_TRY(cell_run(b, &c));
    }
    return OC_OK;
}

static OC_MUST dropout_check(const oc_lstm_shape *s, const oc_dropout *d)
{
    if (!d) return OC_OK;
    if (!(d->p >= 0.0f && d->p < 1.0f)) return OC_FAIL(OC_ECONFIG, "dropout is %g, not in [0, 1)", (double)d->p);
    if (!((uint64_t)s->steps * (((uint64_t)s->hidden + 3) / 4) <= 1u << 22))
        return OC_FAIL(OC_ELIMIT, "dropout: %d steps of %d numbers, over 2^24 a sample", s->steps, s->hidden);
    return OC_OK;
}

oc_status oc_cuda_lstm_forward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x,
                               const oc_dropout *dropout, bool training, oc_tensor y, oc_tensor reserve)
{
    OC_TRY(oc_cuda_lstm_shape_check(s, "lstm_forward"));
    OC_TRY(dropout_check(s, dropout));
    const oc_cuda_lstm_layout l = oc_cuda_lstm_layout_make(s, b->info.math);
    float *kept = (float *)reserve.data;
    const float *in = (const float *)x.data;
    assert(oc_cuda_count(x) == (int64_t)s->steps * s->batch * s->inputs && (training || !dropout));
    assert(oc_cuda_count(y) == (int64_t)s->steps * s->batch * s->hidden);
    if (s->batch == 0) return OC_OK;
    for (int i = 0; i < s->layers; i++) {
        const bool last = i == s->layers - 1, drop = !last && dropout && dropout->p > 0.0f;
        oc_dropout d = dropout ? *dropout : oc_dropout();
        d.tensor += (uint32_t)i;
        layer_memory m = {kept + l.once_gates, kept + l.once_cells, kept + l.once_out[i % 2], NULL, false};
        if (training) m = {kept + l.gates[i], kept + l.cells[i], kept + l.out[i], drop ? kept + l.in[i] : NULL, true};
        if (last) m.out = (float *)y.data;
        OC_TRY(layer_run(b, s, &l, (const float *)packed.data, i, in, drop ? &d : NULL, training, &m));
        in = drop ? m.dropped : m.out;
    }
    return OC_OK;
}

oc_status oc_cuda_lstm_step(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                            oc_tensor c, oc_tensor reserve)
{
    OC_TRY(oc_cuda_lstm_shape_check(s, "lstm_step"));
    const oc_cuda_lstm_layout l = oc_cuda_lstm_layout_make(s, b->info.math);
    const float *weights = (const float *)packed.data, *in = (const float *)x.data;
    float *kept = (float *)reserve.data;
    const int64_t state = (int64_t)n * s->hidden;
    assert(n >= 0 && n <= s->batch && oc_cuda_count(h) == s->layers * state && oc_cuda_count(c) == s->layers * state);
    for (int i = 0; i < s->layers && n > 0; i++) {
        float *states = (float *)h.data + i * state, *cells = (float *)c.data + i * state;
        if (oc_cuda_lstm_scan_serves(b, s->hidden, false)) {
            OC_TRY(project(b, s, &l, weights, i, n, in, kept + l.once_gates, false));
            const oc_lstm_scan scan = {n,
                                       1,
                                       s->hidden,
                                       weights + l.scan[i].forward_hh,
                                       kept + l.once_gates,
                                       NULL,
                                       states,
                                       NULL,
                                       false,
                                       oc_device_dropout(),
                                       states,
                                       cells,
                                       cells};
            OC_TRY(oc_cuda_lstm_scan_run(b, &scan));
            in = states;
            continue;
        }
        OC_TRY(oc_cuda_result(b,
                              cudaMemcpyAsync(kept + l.old, states, (size_t)state * sizeof(float),
                                              cudaMemcpyDeviceToDevice, oc_cuda_of(b)->stream),
                              "a copy"));
        OC_TRY(project(b, s, &l, weights, i, n, in, kept + l.once_gates, false));
        cell_step one = {};
        one.rows = n;
        one.hidden = s->hidden;
        one.w_hh = weights + l.w_hh[i];
        one.h = kept + l.old;
        one.before = one.cells = cells;
        one.gates = kept + l.once_gates;
        one.out = states;
        OC_TRY(cell_run(b, &one));
        in = states;
    }
    return OC_OK;
}
