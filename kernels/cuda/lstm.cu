/* lstm.cu - forward and single step of a stacked LSTM: the variant of choice.cuh for each layer, layers one after the
 * other or as a wavefront of chunks; and the variant `twin`, one launch a step, which serves every shape and is what
 * the persistent kernels (lstm_persistent.cu) are held against. Strategy: x . W_ih + bias of all steps as one product
 * into `gates`; then a launch a step, a block for 16 rows x 16 units with all four gates, h . W_hh through shared
 * memory, gates and cell in registers. Order: as on the CPU (x.W from the bias) + (h.W from 0): the CPU's bits. Bound:
 * a launch a step, some 2 us, where the batch is small; W_hh from L2 in every step. Not run on a GPU. */
#include "kernels/cuda/choice.cuh"
#include "kernels/cuda/lstm_cudnn.cuh"
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
    if ((int64_t)s->steps * s->batch > INT32_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: %d steps of a batch of %d are over 2^31 - 1 rows", what, s->steps, s->batch);
    return OC_OK;
}

size_t oc_cuda_lstm_reserve_bytes(oc_backend *b, const oc_lstm_shape *s, bool training)
{
    const oc_cuda_lstm_layout l = oc_cuda_lstm_layout_make(s, b->info.math);
    const size_t once = l.once_count * sizeof(float);
    size_t bytes = training ? l.reserve_count * sizeof(float) : once;
    if (training && oc_cuda_dnn_serves(b, s)) bytes = oc_cuda_dnn_reserve_bytes(b, s);
    return bytes > once ? bytes : once; /* a validation runs in the reserve of training */
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
    float c = s.before ? s.before[at] : 0.0f;
    const float out = oc_gates_state(a, &c);
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

/* ---------------------------------------------------------------- a layer */
typedef struct layer {
    oc_lstm_plan plan;
    int batch, steps, inputs, hidden;
    const float *w_ih, *w_hh, *bias; /* of `packed` */
    const void *scan_ih, *scan_hh;
    const float *x;
    float *gates, *cells, *out, *dropped; /* cells [T][B][H] where `training`, else [B][H] used over and over */
    bool training;
    oc_device_dropout dropout;
} layer;

/* gates [rows][4H] = x . W_ih' + bias */
static OC_MUST project(oc_backend *b, const layer *l, int rows, const float *x, float *gates)
{
    oc_cuda_product p = {};
    p.m = rows;
    p.n = 4 * l->hidden;
    p.k = l->inputs;
    p.a = x;
    p.a_row = l->inputs;
    p.a_k = 1;
    p.b = l->w_ih;
    p.b_k = 1;
    p.b_column = l->inputs;
    p.c = gates;
    p.c_row = p.n;
    p.start = l->bias;
    p.math = b->info.math;
    p.large = l->training && !l->plan.wave; /* the library's workspace is lane 0's */
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

/* The persistent form of a layer from `step` on; x . W outside leaves its sums in gates first. */
static oc_lstm_scan scan_of(const layer *l, int step, int steps)
{
    const int64_t state = (int64_t)l->batch * l->hidden;
    oc_lstm_scan s = {};
    s.rows = l->batch;
    s.steps = steps;
    s.hidden = l->hidden;
    s.w_hh = l->scan_hh;
    s.gates = l->gates + step * 4 * state;
    s.cells = l->training ? l->cells + step * state : l->cells;
    s.out = l->out + step * state;
    s.dropped = l->dropped ? l->dropped + step * state : NULL;
    s.keep = l->training;
    s.dropout = l->dropout;
    s.t_first = step;
    if (!l->plan.fused) return s;
    s.x = l->x + (int64_t)step * l->batch * l->inputs;
    s.inputs = l->inputs;
    s.w_ih = l->scan_ih;
    s.bias = l->bias;
    return s;
}

static OC_MUST steps_run(oc_backend *b, const layer *l, int from, int to)
{
    const int64_t state = (int64_t)l->batch * l->hidden;
    cell_step c = {};
    c.rows = l->batch;
    c.hidden = l->hidden;
    c.w_hh = l->w_hh;
    c.keep = l->training;
    c.dropout = l->dropout;
    for (int64_t t = from; t < to; t++) {
        c.h = t > 0 ? l->out + (t - 1) * state : NULL;
        c.cells = l->cells + (l->training ? t * state : 0);
        c.before = t == 0 ? NULL : l->training ? c.cells - state : c.cells;
        c.gates = l->gates + t * 4 * state;
        c.out = l->out + t * state;
        c.dropped = l->dropped ? l->dropped + t * state : NULL;
        c.step = t;
        OC_TRY(cell_run(b, &c));
    }
    return OC_OK;
}

/* Steps from … to - 1; what lies before them has run, in training or from the first on. */
static OC_MUST layer_run(oc_backend *b, const layer *l, int from, int to)
{
    const int64_t state = (int64_t)l->batch * l->hidden;
    if (!l->plan.fused)
        OC_TRY(project(b, l, (to - from) * l->batch, l->x + (int64_t)from * l->batch * l->inputs,
                       l->gates + from * 4 * state));
    if (!l->plan.persistent) return steps_run(b, l, from, to);
    oc_lstm_scan s = scan_of(l, from, to - from);
    assert(from == 0 || l->training);
    if (from > 0) {
        s.h_first = s.out - state;
        s.c_first = s.cells - state;
    }
    OC_TRY(oc_cuda_lstm_scan_run(b, &s));
    return OC_OK;
}

/* Layer l takes a chunk of steps while the layer above takes the one before: a lane each. */
static OC_MUST wave_run(oc_backend *b, const layer *layers, int count)
{
    OC_TRY(oc_cuda_fork(b, count));
    for (int from = 0; from < layers->steps; from += OC_LSTM_CHUNK)
        for (int i = 0; i < count; i++) {
            const int to = from + OC_LSTM_CHUNK < layers->steps ? from + OC_LSTM_CHUNK : layers->steps;
            oc_cuda_on(b, i + 1);
            if (i > 0) OC_TRY(oc_cuda_after(b, i + 1, i));
            OC_TRY(layer_run(b, &layers[i], from, to));
        }
    OC_TRY(oc_cuda_join(b, count));
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

/* What does not depend on where the states lie. */
static OC_MUST layer_make(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int number, bool training, layer *l)
{
    const oc_cuda_lstm_layout at = oc_cuda_lstm_layout_make(s, b->info.math);
    const float *weights = (const float *)packed.data;
    *l = {};
    OC_TRY(oc_cuda_lstm_choose(b, s, number, training, &l->plan));
    l->batch = s->batch;
    l->steps = s->steps;
    l->inputs = oc_cuda_layer_inputs(s, number);
    l->hidden = s->hidden;
    l->w_ih = weights + at.w_ih[number];
    l->w_hh = weights + at.w_hh[number];
    l->bias = weights + at.bias[number];
    l->scan_ih = weights + at.scan[number].forward_ih;
    l->scan_hh = weights + at.scan[number].forward_hh;
    l->training = training;
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
    layer layers[OC_LAYERS_MAX];
    assert(oc_cuda_count(x) == (int64_t)s->steps * s->batch * s->inputs && (training || !dropout));
    assert(oc_cuda_count(y) == (int64_t)s->steps * s->batch * s->hidden);
    if (s->batch == 0) return OC_OK;
    if (training && oc_cuda_dnn_serves(b, s)) {
        OC_TRY(oc_cuda_dnn_forward(b, s, (float *)packed.data + l.packed_count, x, dropout, y, reserve));
        return OC_OK;
    }
    for (int i = 0; i < s->layers; i++) {
        const bool last = i == s->layers - 1, drop = !last && dropout && dropout->p > 0.0f;
        layer *one = &layers[i];
        oc_dropout d = dropout ? *dropout : oc_dropout();
        d.tensor += (uint32_t)i;
        OC_TRY(layer_make(b, s, packed, i, training, one));
        one->gates = kept + (training ? l.gates[i] : l.once_gates);
        one->cells = kept + (training ? l.cells[i] : l.once_cells);
        one->out = last ? (float *)y.data : kept + (training ? l.out[i] : l.once_out[i % 2]);
        one->dropped = drop ? kept + l.in[i] : NULL;
        one->dropout = oc_device_dropout_of(drop ? &d : NULL);
        one->x = in;
        in = drop ? one->dropped : one->out;
    }
    for (int i = 0; i < s->layers; i++) layers[i].plan.wave = layers->plan.wave;
    if (layers->plan.wave) return wave_run(b, layers, s->layers);
    for (int i = 0; i < s->layers; i++) OC_TRY(layer_run(b, &layers[i], 0, s->steps));
    return OC_OK;
}

oc_status oc_cuda_lstm_step(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                            oc_tensor c, oc_tensor reserve)
{
    OC_TRY(oc_cuda_lstm_shape_check(s, "lstm_step"));
    const oc_cuda_lstm_layout at = oc_cuda_lstm_layout_make(s, b->info.math);
    float *kept = (float *)reserve.data;
    const float *in = (const float *)x.data;
    const int64_t state = (int64_t)n * s->hidden;
    assert(n >= 0 && n <= s->batch && oc_cuda_count(h) == s->layers * state && oc_cuda_count(c) == s->layers * state);
    for (int i = 0; i < s->layers && n > 0; i++) {
        layer l;
        OC_TRY(layer_make(b, s, packed, i, false, &l));
        l.batch = n;
        l.x = in;
        l.gates = kept + at.once_gates;
        l.out = (float *)h.data + i * state;
        l.cells = (float *)c.data + i * state;
        in = l.out;
        if (!l.plan.fused) OC_TRY(project(b, &l, n, l.x, l.gates));
        if (l.plan.persistent) {
            oc_lstm_scan one = scan_of(&l, 0, 1);
            one.h_first = l.out;
            one.c_first = one.c_last = l.cells;
            OC_TRY(oc_cuda_lstm_scan_run(b, &one));
            continue;
        }
        OC_TRY(oc_cuda_result(b,
                              cudaMemcpyAsync(kept + at.old, l.out, (size_t)state * sizeof(float),
                                              cudaMemcpyDeviceToDevice, oc_cuda_of(b)->stream),
                              "a copy"));
        cell_step one = {};
        one.rows = n;
        one.hidden = s->hidden;
        one.w_hh = l.w_hh;
        one.h = kept + at.old;
        one.before = one.cells = l.cells;
        one.gates = l.gates;
        one.out = l.out;
        OC_TRY(cell_run(b, &one));
    }
    return OC_OK;
}
