/* lstm_backward.cu - gradients of an LSTM stack from what lstm_forward left in reserve, by the same variant for each
 * layer (choice.cuh): a persistent scan (lstm_persistent_backward.cu), or the twin here, which serves every shape.
 * Strategy of the twin: per layer, from the top, a launch a step downwards in time: a block for 32 rows x 32 units
 * takes dh = dy_t + dgates_{t+1} . W_hh (k = 4H, through shared memory) and turns the gates of its units into the
 * gradients of their pre-activations. Of all: then dW_ih, dW_hh, dx as products over all (t, b), split over k where
 * their tiles alone would not fill a device, and the bias as sums of columns. Order: as on the CPU where nothing is
 * split, so up to 511 rows (t, b) the CPU's bits. No atomics. Not run on a GPU. */
#include "kernels/cuda/choice.cuh"
#include "kernels/cuda/lstm_cudnn.cuh"
#include "kernels/cuda/lstm_layout.cuh"
#include "kernels/cuda/lstm_scan.cuh"

static constexpr int ROWS = 32, UNITS = 32, DEPTH = 32, EACH = 4, THREADS = ROWS * UNITS / EACH;

typedef struct gradient_step {
    int rows, hidden;
    const float *w_hh, *next; /* dgates of the step after; NULL: this is the last */
    float *gates;             /* in: gates after activation, out: gradients of the pre-activations */
    const float *cells, *before, *dy;
    float *dc;
    bool first_visit; /* dc is 0 */
} gradient_step;

OC_DEVICE void unit_gradient(const gradient_step &s, int row, int unit, float dh)
{
    const int64_t at = (int64_t)row * s.hidden + unit, hidden = s.hidden;
    float *gates = s.gates + (int64_t)row * 4 * hidden + unit, dc = s.first_visit ? 0.0f : s.dc[at];
    const oc_gates a = {gates[0], gates[hidden], gates[2 * hidden], gates[3 * hidden]};
    const oc_gates d = oc_gates_gradient(a, s.cells[at], s.before ? s.before[at] : 0.0f, dh, &dc);
    gates[0] = d.i;
    gates[hidden] = d.f;
    gates[2 * hidden] = d.g;
    gates[3 * hidden] = d.o;
    s.dc[at] = dc;
}

static __global__ void __launch_bounds__(THREADS) lstm_cell_gradient(gradient_step s)
{
    OC_SHARED(float, a, [ROWS][DEPTH + 1]);
    OC_SHARED(float, w, [DEPTH][UNITS + 1]);
    const int first_row = blockIdx.x * ROWS, first_unit = blockIdx.y * UNITS, depth_all = 4 * s.hidden;
    const int u = threadIdx.x % UNITS, r0 = threadIdx.x / UNITS * EACH, unit = first_unit + u;
    float sum[EACH] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int k0 = 0; s.next && k0 < depth_all; k0 += DEPTH) {
        for (int n = threadIdx.x; n < ROWS * DEPTH; n += THREADS) {
            const int i = n / DEPTH, k = n % DEPTH;
            const bool there = first_row + i < s.rows && k0 + k < depth_all;
            a[i][k] = there ? s.next[(int64_t)(first_row + i) * depth_all + k0 + k] : 0.0f;
        }
        for (int n = threadIdx.x; n < DEPTH * UNITS; n += THREADS) {
            const int k = n / UNITS, j = n % UNITS;
            const bool there = first_unit + j < s.hidden && k0 + k < depth_all;
            w[k][j] = there ? s.w_hh[(int64_t)(k0 + k) * s.hidden + first_unit + j] : 0.0f;
        }
        __syncthreads();
        const int depth = depth_all - k0 < DEPTH ? depth_all - k0 : DEPTH;
        for (int k = 0; k < depth; k++)
            for (int i = 0; i < EACH; i++) sum[i] = fmaf(a[r0 + i][k], w[k][u], sum[i]);
        __syncthreads();
    }
    for (int i = 0; i < EACH; i++) {
        const int row = first_row + r0 + i;
        if (row >= s.rows || unit >= s.hidden) continue;
        const float dy = s.dy[(int64_t)row * s.hidden + unit];
        unit_gradient(s, row, unit, s.next ? dy + sum[i] : dy);
    }
}

typedef struct layer {
    oc_lstm_plan plan;
    int batch, steps, inputs, hidden, number;
    const float *w_ih, *w_hh;
    const void *scan_hh;
    const float *in, *out, *cells;
    float *gates, *dy, *dc, *parts;
    bool drop; /* dropout of what the layer below put out */
    oc_device_dropout dropout;
} layer;

/* dy_t += dgates_{t+1} . W_hh by fragments. */
static OC_MUST add_recurrent(oc_backend *b, const layer *l, const float *next, float *dy)
{
    oc_cuda_product p = {};
    p.m = l->batch;
    p.n = l->hidden;
    p.k = 4 * l->hidden;
    p.a = next;
    p.a_row = p.k;
    p.a_k = 1;
    p.b = l->w_hh;
    p.b_k = l->hidden;
    p.b_column = 1;
    p.c = dy;
    p.c_row = p.n;
    p.add = true;
    p.math = b->info.math;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

/* Steps to - 1 down to from; what lies behind them has run. */
static OC_MUST scan(oc_backend *b, const layer *l, int from, int to)
{
    const int64_t state = (int64_t)l->batch * l->hidden;
    const dim3 grid((unsigned)((l->batch + ROWS - 1) / ROWS), (unsigned)((l->hidden + UNITS - 1) / UNITS));
    if (l->plan.persistent) {
        oc_lstm_scan_gradient s = {};
        s.rows = l->batch;
        s.steps = to - from;
        s.hidden = l->hidden;
        s.w_hh = l->scan_hh;
        s.cells = l->cells + from * state;
        s.dy = l->dy + from * state;
        s.gates = l->gates + from * 4 * state;
        s.next = to < l->steps ? l->gates + to * 4 * state : NULL;
        s.earlier = from > 0;
        s.dc = l->dc;
        OC_TRY(oc_cuda_lstm_scan_gradient_run(b, &s));
        return OC_OK;
    }
    gradient_step g = {};
    g.rows = l->batch;
    g.hidden = l->hidden;
    g.w_hh = l->w_hh;
    g.dc = l->dc;
    for (int64_t t = to - 1; t >= from; t--) {
        g.first_visit = t == l->steps - 1;
        g.gates = l->gates + t * 4 * state;
        g.next = g.first_visit ? NULL : g.gates + 4 * state;
        g.cells = l->cells + t * state;
        g.before = t > 0 ? g.cells - state : NULL;
        g.dy = l->dy + t * state;
        if (g.next && b->info.math != OC_MATH_F32) {
            OC_TRY(add_recurrent(b, l, g.next, l->dy + t * state));
            g.next = NULL;
        }
        OC_LAUNCH(b, lstm_cell_gradient, grid, THREADS, 0, g);
    }
    return OC_OK;
}

/* dw [4H][n] = dgates' . x over `rows` rows */
static OC_MUST weight_gradient(oc_backend *b, const layer *l, const float *dgates, const float *x, int n, int rows,
                               oc_tensor dw)
{
    oc_cuda_product p = {};
    p.m = 4 * l->hidden;
    p.n = n;
    p.k = rows;
    p.a = dgates;
    p.a_row = 1;
    p.a_k = 4 * l->hidden;
    p.b = x;
    p.b_k = n;
    p.b_column = 1;
    p.c = (float *)dw.data;
    p.c_row = n;
    p.splits = oc_cuda_lstm_splits((int64_t)l->steps * l->batch, l->hidden, n);
    p.parts = l->parts;
    p.math = b->info.math;
    p.large = true;
    OC_TRY(oc_cuda_product_run(b, &p));
    return OC_OK;
}

typedef struct dropping {
    float *dy;
    int64_t first, steps, batch, hidden;
    oc_device_dropout dropout;
} dropping;

static __global__ void lstm_dropout_gradient(dropping d)
{
    const int64_t count = d.steps * d.batch * d.hidden;
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        const int64_t j = i % d.hidden, b = i / d.hidden % d.batch, t = d.first + i / d.hidden / d.batch;
        d.dy[i] *= oc_device_dropout_factor(d.dropout, b, t, d.hidden, j);
    }
}

/* dx = dgates . W_ih of steps from … to - 1 takes the place of dy for the layer below. */
static OC_MUST pass_down(oc_backend *b, const layer *l, int from, int to)
{
    const int64_t first = (int64_t)from * l->batch;
    oc_cuda_product p = {};
    p.m = (to - from) * l->batch;
    p.n = l->inputs;
    p.k = 4 * l->hidden;
    p.a = l->gates + first * p.k;
    p.a_row = p.k;
    p.a_k = 1;
    p.b = l->w_ih;
    p.b_k = l->inputs;
    p.b_column = 1;
    p.c = l->dy + first * l->inputs;
    p.c_row = l->inputs;
    p.math = b->info.math;
    p.large = !l->plan.wave; /* the library's workspace is lane 0's */
    OC_TRY(oc_cuda_product_run(b, &p));
    if (!l->drop) return OC_OK;
    const dropping d = {p.c, from, to - from, l->batch, l->inputs, l->dropout};
    OC_LAUNCH(b, lstm_dropout_gradient, oc_flat_grid(b, (int64_t)p.m * p.n), OC_FLAT_THREADS, 0, d);
    return OC_OK;
}

static OC_MUST large_products(oc_backend *b, const layer *l, const oc_lstm_weights *dw)
{
    const int rows = l->steps * l->batch, n = l->number, columns = 4 * l->hidden;
    const int splits = rows < 512 ? 1 : rows / 256 < 64 ? rows / 256 : 64;
    OC_TRY(oc_cuda_column_sums(b, l->gates, rows, columns, splits, l->parts, (float *)dw->b_ih[n].data,
                               (float *)dw->b_hh[n].data));
    OC_TRY(weight_gradient(b, l, l->gates, l->in, l->inputs, rows, dw->w_ih[n]));
    OC_TRY(
        weight_gradient(b, l, l->gates + (int64_t)l->batch * columns, l->out, l->hidden, rows - l->batch, dw->w_hh[n]));
    return OC_OK;
}

/* As wave_run of lstm.cu, from the top layer and the last chunk on; dW after all, its parts being one memory. */
static OC_MUST wave_run(oc_backend *b, const layer *layers, int count)
{
    const int last = (layers->steps - 1) / OC_LSTM_CHUNK * OC_LSTM_CHUNK;
    OC_TRY(oc_cuda_fork(b, count));
    for (int from = last; from >= 0; from -= OC_LSTM_CHUNK)
        for (int i = count - 1; i >= 0; i--) {
            const int to = from == last ? layers->steps : from + OC_LSTM_CHUNK;
            oc_cuda_on(b, i + 1);
            if (i < count - 1) OC_TRY(oc_cuda_after(b, i + 1, i + 2));
            OC_TRY(scan(b, &layers[i], from, to));
            if (i > 0) OC_TRY(pass_down(b, &layers[i], from, to));
        }
    OC_TRY(oc_cuda_join(b, count));
    return OC_OK;
}

/* All layers: forward and backward agree on the plan of each, and layer 0's says whether they go as a wavefront. */
static OC_MUST layers_make(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                           oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, layer layers[OC_LAYERS_MAX])
{
    const oc_cuda_lstm_layout at = oc_cuda_lstm_layout_make(s, b->info.math);
    const float *weights = (const float *)packed.data;
    float *kept = (float *)reserve.data;
    const bool drop = dropout && dropout->p > 0.0f;
    for (int n = 0; n < s->layers; n++) {
        const float *below = n == 0 ? (const float *)x.data : kept + (drop ? at.in[n - 1] : at.out[n - 1]);
        oc_dropout d = drop ? *dropout : oc_dropout();
        layer *l = &layers[n];
        d.tensor += (uint32_t)(n - 1);
        OC_TRY(oc_cuda_lstm_choose(b, s, n, true, &l->plan));
        l->batch = s->batch;
        l->steps = s->steps;
        l->inputs = oc_cuda_layer_inputs(s, n);
        l->hidden = s->hidden;
        l->number = n;
        l->w_ih = weights + at.w_ih[n];
        l->w_hh = weights + at.w_hh[n];
        l->scan_hh = weights + at.scan[n].backward_hh;
        l->in = below;
        l->out = n == s->layers - 1 ? (const float *)y.data : kept + at.out[n];
        l->cells = kept + at.cells[n];
        l->gates = kept + at.gates[n];
        l->dy = (float *)dy.data;
        l->dc = kept + at.dc[n];
        l->parts = kept + at.parts;
        l->drop = n > 0 && drop;
        l->dropout = oc_device_dropout_of(l->drop ? &d : NULL);
    }
    for (int n = 1; n < s->layers; n++) layers[n].plan.wave = layers->plan.wave;
    return OC_OK;
}

/* With the top layer come the scans of all where they go as a wavefront, and all there is to do where cuDNN does it. */
oc_status oc_cuda_lstm_backward_layer(oc_backend *b, const oc_lstm_shape *s, int n, oc_tensor packed, oc_tensor x,
                                      oc_tensor y, oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve,
                                      const oc_lstm_weights *dw)
{
    layer layers[OC_LAYERS_MAX] = {};
    assert(oc_cuda_count(dy) == (int64_t)s->steps * s->batch * s->hidden);
    if (s->batch == 0) return OC_OK;
    if (oc_cuda_dnn_serves(b, s)) {
        float *weights = (float *)packed.data + oc_cuda_lstm_layout_make(s, b->info.math).packed_count;
        if (n == s->layers - 1) OC_TRY(oc_cuda_dnn_backward(b, s, weights, x, y, dy, dropout, reserve, dw));
        return OC_OK;
    }
    OC_TRY(layers_make(b, s, packed, x, y, dy, dropout, reserve, layers));
    const bool wave = layers->plan.wave;
    if (wave && n == s->layers - 1) OC_TRY(wave_run(b, layers, s->layers));
    if (!wave) OC_TRY(scan(b, &layers[n], 0, s->steps));
    OC_TRY(large_products(b, &layers[n], dw));
    if (!wave && n > 0) OC_TRY(pass_down(b, &layers[n], 0, s->steps));
    return OC_OK;
}

oc_status oc_cuda_lstm_backward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x, oc_tensor y,
                                oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw)
{
    for (int n = s->layers - 1; n >= 0; n--)
        OC_TRY(oc_cuda_lstm_backward_layer(b, s, n, packed, x, y, dy, dropout, reserve, dw));
    return OC_OK;
}
