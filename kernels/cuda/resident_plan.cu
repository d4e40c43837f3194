/* resident_plan.cu - how a model is spread over blocks of the resident kernel: the fewest in whose registers and shared
 * memory the LSTM's weights fit, up to half of the device's multiprocessors, and what lies where in a block's. */
#include <stdlib.h>
#include "kernels/cuda/resident_plan.cuh"

static constexpr int ROWS = OC_RESIDENT_ROWS;
static constexpr int TILE_MIN = 8; /* steps of a window in shared memory at a time, at least */

static oc_resident_far far_make(const oc_resident_model *m)
{
    oc_resident_far l = {};
    const size_t hidden = (size_t)m->shape.hidden, outputs = (size_t)m->horizons * OC_CLASSES;
    const size_t square = m->shape.heads > 0 ? hidden * hidden : 0, side = m->shape.heads > 0 ? hidden : 0;
    size_t *const squares[] = {&l.query, &l.key, &l.value, &l.out}, *const sides[] = {&l.query_b, &l.value_b, &l.out_b};
    for (size_t *at : squares) *at = oc_cuda_take(&l.count, square);
    for (size_t *at : sides) *at = oc_cuda_take(&l.count, side);
    l.head[0] = oc_cuda_take(&l.count, hidden * (hidden / 2));
    l.head_b[0] = oc_cuda_take(&l.count, hidden / 2);
    l.head[1] = oc_cuda_take(&l.count, hidden / 2 * outputs);
    l.head_b[1] = oc_cuda_take(&l.count, outputs);
    return l;
}

/* Of a block that has `units` units; tile and far: 0 where they are not there. */
static oc_resident_shared shared_make(const oc_resident_model *m, int units, int tile, size_t far)
{
    const oc_slide_shape *s = &m->shape;
    const size_t hidden = (size_t)s->hidden, columns = 4 * (size_t)units, heads = (size_t)s->heads;
    const size_t held = (size_t)oc_resident_held(s->layers), row = (size_t)(s->hidden | 1);
    const size_t sums = 2 * ROWS * columns, states = (size_t)tile * row;
    oc_resident_shared l = {};
    l.x_row = ((s->inputs > s->hidden ? s->inputs : s->hidden) + 3) / 4 * 4;
    l.h_row = (s->hidden + 3) / 4 * 4;
    for (int i = 0; i < s->layers; i++) {
        const size_t in = (size_t)(i == 0 ? s->inputs : s->hidden);
        l.w[i] = oc_cuda_take(&l.count, ((in > held ? in - held : 0) + (hidden > held ? hidden - held : 0)) * columns);
    }
    l.bias = oc_cuda_take(&l.count, (size_t)s->layers * columns);
    l.x = oc_cuda_take(&l.count, ROWS * (size_t)l.x_row);
    l.h = oc_cuda_take(&l.count, (size_t)s->layers * ROWS * (size_t)l.h_row);
    l.c = oc_cuda_take(&l.count, (size_t)s->layers * ROWS * (size_t)units);
    l.scaler = oc_cuda_take(&l.count, 2 * (size_t)s->inputs);
    l.work = oc_cuda_take(&l.count, sums > states ? sums : states);
    l.q = oc_cuda_take(&l.count, hidden);
    l.absorbed = oc_cuda_take(&l.count, heads * hidden);
    l.maps = oc_cuda_take(&l.count, heads * (size_t)s->steps);
    l.pooled = oc_cuda_take(&l.count, heads * hidden);
    l.joined = oc_cuda_take(&l.count, hidden);
    l.seen = oc_cuda_take(&l.count, hidden);
    l.hidden = oc_cuda_take(&l.count, hidden / 2);
    l.logits = oc_cuda_take(&l.count, (size_t)m->horizons * OC_CLASSES);
    l.far = oc_cuda_take(&l.count, far);
    l.tile = tile;
    return l;
}

/* The LSTM must fit; then the head and attention, then as many steps of a window as there is room for. */
static bool shared_fit(const oc_resident_model *m, int units, size_t far, size_t bytes, oc_resident_shared *out,
                       bool *near)
{
    const int steps = m->shape.heads > 0 ? m->shape.steps : 0, least = steps < TILE_MIN ? steps : TILE_MIN;
    const auto fits = [&](int tile, size_t beside) {
        *out = shared_make(m, units, tile, beside);
        return out->count * sizeof(float) <= bytes;
    };
    *near = fits(least, far);
    if (!*near && !fits(least, 0)) return false;
    int tile = steps;
    while (tile > least && !fits(tile, *near ? far : 0)) tile--;
    (void)fits(tile, *near ? far : 0);
    return true;
}

static size_t lstm_bytes(const oc_slide_shape *s)
{
    const size_t in = (size_t)s->inputs, hidden = (size_t)s->hidden, layers = (size_t)s->layers;
    return 4 * hidden * (in + hidden + (layers - 1) * 2 * hidden) * sizeof(float);
}

oc_status oc_resident_plan(oc_backend *b, const oc_resident_model *m, oc_resident_args *a, oc_resident_info *info)
{
    static constexpr size_t OWN = 1024; /* shared memory by declaration */
    const oc_slide_shape *s = &m->shape;
    const oc_cuda *c = oc_cuda_of(b);
    const char *wish = getenv("OUTCRY_CUDA_RESIDENT_BYTES"); /* fewer than the device has */
    const size_t wished = wish ? strtoul(wish, NULL, 10) : 0, most_bytes = c->shared_max - OWN;
    const size_t shared = wished > 0 && wished < most_bytes ? wished : most_bytes;
    const int most = c->multiprocessors / 2 < s->hidden ? c->multiprocessors / 2 : s->hidden;
    if (b->info.math != OC_MATH_F32)
        return OC_FAIL(OC_ECONFIG, "gpu_path resident computes f32; math tf32 and bf16 go by gpu_path graph");
    if (!(s->layers >= 1 && s->layers <= OC_RESIDENT_LAYERS_MAX && s->hidden >= 2))
        return OC_FAIL(OC_ELIMIT,
                       "gpu_path resident holds 1 to %d layers of 2 units or more, not %d of %d: use gpu_path "
                       "graph",
                       OC_RESIDENT_LAYERS_MAX, s->layers, s->hidden);
    a->at = far_make(m);
    for (int blocks = 1; blocks <= most; blocks++) {
        const int units = (s->hidden + blocks - 1) / blocks;
        if (8 * units > OC_RESIDENT_THREADS) continue;
        if (!shared_fit(m, units, a->at.count, shared, &a->in, &a->far_near)) continue;
        a->units = units;
        *info = {(s->hidden + units - 1) / units, lstm_bytes(s), a->in.count * sizeof(float),
                 a->far_near ? 0 : a->at.count * sizeof(float)};
        return OC_OK;
    }
    return OC_FAIL(OC_ELIMIT,
                   "gpu_path resident: %d layers of %d units at %d inputs are %.2f MB of LSTM weights (f32), and "
                   "half of this device's %d multiprocessors with %zu bytes of shared memory and at most %d bytes of "
                   "registers for them do not hold that: use gpu_path graph",
                   s->layers, s->hidden, s->inputs, (double)lstm_bytes(s) * 1e-6, c->multiprocessors, shared,
                   OC_RESIDENT_THREADS * oc_resident_held(s->layers) * s->layers * (int)sizeof(float));
}
