/* lstm_cudnn.cu - training's LSTM by cuDNN: weights into its space, numbers into its type, one call for the stack or
 * one a layer with our dropout between, gradients out of its space. Activations of ours are f32: in bf16 they are cast
 * on the way in and out, T B (F + 2 H) numbers forward, which a peer must be forgiven; in f32 and tf32 tensors go in as
 * they are. Nothing here waits or allocates, so a stream that records takes it, once its shape is known. Two runs are
 * bit-equal as far as cuDNN's are; that is not promised. Not run on a GPU. */
#include "kernels/cuda/cudnn.cuh"
#include "kernels/cuda/random.cuh"

static constexpr size_t ALIGNMENT = 256;

/* Layers that one call computes: all of them, or one by one. */
typedef struct grouping {
    int count, each;
} grouping;

static grouping grouping_of(const oc_lstm_shape *s, bool dropping)
{
    const bool apart = dropping && s->layers > 1;
    return {apart ? s->layers : 1, apart ? 1 : s->layers};
}

static OC_MUST plan_of(oc_backend *b, const oc_lstm_shape *s, grouping g, int group, oc_cuda_dnn_plan **out)
{
    const oc_lstm_shape mine = {g.each, s->batch, s->steps, group == 0 ? s->inputs : s->hidden, s->hidden};
    OC_TRY(oc_cuda_dnn_plan_find(b, &mine, out));
    return OC_OK;
}

/* ---------------------------------------------------------------- where things lie */
typedef struct places {
    size_t x[OC_LAYERS_MAX], y[OC_LAYERS_MAX], kept[OC_LAYERS_MAX]; /* of each group */
    size_t work, space, dy, dx[2], bytes;
    size_t work_bytes, space_bytes;
} places;

static size_t take(size_t *used, size_t bytes)
{
    const size_t at = *used;
    *used += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return at;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static OC_MUST places_make(oc_backend *b, const oc_lstm_shape *s, grouping g, places *p)
{
    const size_t element = oc_cuda_of(b)->dnn->element, rows = (size_t)s->steps * (size_t)s->batch;
    const size_t states = rows * (size_t)s->hidden * element, inputs = rows * (size_t)s->inputs * element;
    *p = places();
    for (int i = 0; i < g.count; i++) {
        oc_cuda_dnn_plan *plan = NULL;
        OC_TRY(plan_of(b, s, g, i, &plan));
        p->x[i] = take(&p->bytes, i == 0 ? inputs : states);
        p->y[i] = take(&p->bytes, states);
        p->kept[i] = take(&p->bytes, plan->reserve_bytes);
        p->work_bytes = larger(p->work_bytes, plan->work_bytes);
        p->space_bytes = larger(p->space_bytes, plan->space_bytes);
    }
    p->work = take(&p->bytes, p->work_bytes);
    p->space = take(&p->bytes, p->space_bytes);
    p->dy = take(&p->bytes, states);
    for (int i = 0; i < 2; i++) p->dx[i] = take(&p->bytes, larger(states, inputs));
    p->bytes += ALIGNMENT; /* for a beginning that is not aligned */
    return OC_OK;
}

static unsigned char *aligned(void *at)
{
    return (unsigned char *)(((uintptr_t)at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

size_t oc_cuda_dnn_reserve_bytes(oc_backend *b, const oc_lstm_shape *s)
{
    places fused, apart;
    if (s->batch == 0) return 0;
    if (places_make(b, s, grouping_of(s, false), &fused) != OC_OK) return 0;
    if (places_make(b, s, grouping_of(s, true), &apart) != OC_OK) return 0;
    return larger(fused.bytes, apart.bytes);
}

/* The weight spaces: of the fused stack, then of each layer alone where there are several. */
static OC_MUST spaces_make(oc_backend *b, const oc_lstm_shape *s, bool dropping, int group, size_t *at, size_t *bytes)
{
    const grouping both[2] = {grouping_of(s, false), grouping_of(s, true)};
    *bytes = 0;
    for (int n = 0; n < (s->layers > 1 ? 2 : 1); n++)
        for (int i = 0; i < both[n].count; i++) {
            oc_cuda_dnn_plan *plan = NULL;
            OC_TRY(plan_of(b, s, both[n], i, &plan));
            const size_t here = take(bytes, plan->space_bytes);
            if (n == (dropping && s->layers > 1) && i == group) *at = here;
        }
    *bytes += ALIGNMENT;
    return OC_OK;
}

size_t oc_cuda_dnn_packed_bytes(oc_backend *b, const oc_lstm_shape *s)
{
    size_t at = 0, bytes = 0;
    return spaces_make(b, s, false, 0, &at, &bytes) == OC_OK ? bytes : 0;
}

/* ---------------------------------------------------------------- casts */
OC_DEVICE float number_of(float x)
{
    return x;
}
OC_DEVICE float number_of(oc_bf16 x)
{
    return oc_bf16_to_float(x);
}
OC_DEVICE void number_set(float *to, float x)
{
    *to = x;
}
OC_DEVICE void number_set(oc_bf16 *to, float x)
{
    *to = oc_bf16_of(x);
}

typedef struct carrying {
    int64_t steps, batch, width;
    oc_device_dropout dropout;
    bool drops;
} carrying;

/* [T][B][width] into another type, or the same in place, times dropout. */
template <class To, class From> static __global__ void carry(To *to, const From *from, carrying c)
{
    const int64_t count = c.steps * c.batch * c.width;
    for (int64_t i = oc_thread_first(); i < count; i += oc_thread_step()) {
        float x = number_of(from[i]);
        if (c.drops) {
            const int64_t j = i % c.width, row = i / c.width % c.batch, t = i / c.width / c.batch;
            x *= oc_device_dropout_factor(c.dropout, row, t, c.width, j);
        }
        number_set(&to[i], x);
    }
}

template <class To, class From>
static OC_MUST carry_run(oc_backend *b, const oc_lstm_shape *s, int width, void *to, const void *from,
                         const oc_dropout *dropout)
{
    const carrying c = {s->steps, s->batch, width, oc_device_dropout_of(dropout), dropout != NULL};
    OC_LAUNCH(b, (carry<To, From>), oc_flat_grid(b, c.steps * c.batch * c.width), OC_FLAT_THREADS, 0, (To *)to,
              (const From *)from, c);
    return OC_OK;
}

/* Where cuDNN's numbers are f32, ours are taken as they are. */
static bool narrow(const oc_backend *b)
{
    return b->info.math == OC_MATH_BF16;
}

static OC_MUST dropped(oc_backend *b, const oc_lstm_shape *s, void *to, const void *from, const oc_dropout *dropout)
{
    if (narrow(b))
        OC_TRY((carry_run<oc_bf16, oc_bf16>(b, s, s->hidden, to, from, dropout)));
    else
        OC_TRY((carry_run<float, float>(b, s, s->hidden, to, from, dropout)));
    return OC_OK;
}

/* ---------------------------------------------------------------- weights in and out */
typedef struct pieces {
    unsigned char *space;
    size_t offset[2][OC_DNN_PIECES];
    float *weights[2][OC_DNN_PIECES];
    int64_t count[2][OC_DNN_PIECES];
} pieces;

/* Block row y: a gate's matrix, or its bias. */
template <class E> static __global__ void pieces_in(pieces p)
{
    const int bias = blockIdx.y / OC_DNN_PIECES, which = blockIdx.y % OC_DNN_PIECES;
    E *to = reinterpret_cast<E *>(p.space + p.offset[bias][which]);
    const float *from = p.weights[bias][which];
    for (int64_t i = oc_thread_first(); i < p.count[bias][which]; i += oc_thread_step()) number_set(&to[i], from[i]);
}
template <class E> static __global__ void pieces_out(pieces p)
{
    const int bias = blockIdx.y / OC_DNN_PIECES, which = blockIdx.y % OC_DNN_PIECES;
    const E *from = reinterpret_cast<const E *>(p.space + p.offset[bias][which]);
    float *to = p.weights[bias][which];
    for (int64_t i = oc_thread_first(); i < p.count[bias][which]; i += oc_thread_step()) to[i] = number_of(from[i]);
}

/* cuDNN's linear layers 0 … 3: input, forget, new memory, output gate of W_ih; 4 … 7 of W_hh. */
static const oc_gate gate_of[OC_GATES] = {OC_GATE_I, OC_GATE_F, OC_GATE_G, OC_GATE_O};

/* Layer `layer` of the stack is number `number` of the plan. */
static pieces pieces_of(const oc_lstm_shape *s, const oc_cuda_dnn_plan *plan, int number, int layer,
                        const oc_lstm_weights *w, unsigned char *space)
{
    pieces p = {};
    const int64_t hidden = s->hidden, inputs = layer == 0 ? s->inputs : s->hidden;
    p.space = space;
    for (int which = 0; which < OC_DNN_PIECES; which++) {
        const bool recurrent = which >= OC_GATES;
        const int64_t gate = gate_of[which % OC_GATES], columns = recurrent ? hidden : inputs;
        const oc_tensor *matrix = recurrent ? &w->w_hh[layer] : &w->w_ih[layer],
                        *bias = recurrent ? &w->b_hh[layer] : &w->b_ih[layer];
        for (int i = 0; i < 2; i++) p.offset[i][which] = plan->offset[number][i][which];
        p.weights[0][which] = (float *)matrix->data + gate * hidden * columns;
        p.weights[1][which] = (float *)bias->data + gate * hidden;
        p.count[0][which] = hidden * columns;
        p.count[1][which] = hidden;
    }
    return p;
}

static OC_MUST group_move(oc_backend *b, const oc_lstm_shape *s, oc_cuda_dnn_plan *plan, int first,
                          const oc_lstm_weights *w, unsigned char *space, bool out)
{
    OC_TRY(oc_cuda_dnn_weights_find(b, plan, space));
    for (int i = 0; i < plan->shape.layers; i++) {
        const pieces p = pieces_of(s, plan, i, first + i, w, space);
        const dim3 grid(oc_flat_grid(b, p.count[0][0]), 2 * OC_DNN_PIECES);
        if (narrow(b) && out)
            OC_LAUNCH(b, pieces_out<oc_bf16>, grid, OC_FLAT_THREADS, 0, p);
        else if (narrow(b))
            OC_LAUNCH(b, pieces_in<oc_bf16>, grid, OC_FLAT_THREADS, 0, p);
        else if (out)
            OC_LAUNCH(b, pieces_out<float>, grid, OC_FLAT_THREADS, 0, p);
        else
            OC_LAUNCH(b, pieces_in<float>, grid, OC_FLAT_THREADS, 0, p);
    }
    return OC_OK;
}

oc_status oc_cuda_dnn_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, void *packed)
{
    const grouping both[2] = {grouping_of(s, false), grouping_of(s, true)};
    unsigned char *base = aligned(packed);
    for (int n = 0; n < (s->layers > 1 ? 2 : 1); n++)
        for (int i = 0; i < both[n].count; i++) {
            oc_cuda_dnn_plan *plan = NULL;
            size_t at = 0, bytes = 0;
            OC_TRY(plan_of(b, s, both[n], i, &plan));
            OC_TRY(spaces_make(b, s, n == 1, i, &at, &bytes));
            OC_TRY(group_move(b, s, plan, i * both[n].each, w, base + at, false));
        }
    return OC_OK;
}

/* ---------------------------------------------------------------- passes */
/* What one call is given: a group's plan, its weights, and its numbers in cuDNN's type. */
typedef struct pass {
    oc_cuda_dnn_plan *plan;
    unsigned char *space, *x, *y, *kept;
} pass;

static OC_MUST pass_of(oc_backend *b, const oc_lstm_shape *s, grouping g, int group, const places *p, void *packed,
                       const oc_tensor *x, const oc_tensor *y, unsigned char *reserve, pass *out)
{
    size_t at = 0, bytes = 0;
    OC_TRY(plan_of(b, s, g, group, &out->plan));
    OC_TRY(spaces_make(b, s, g.count > 1, group, &at, &bytes));
    out->space = aligned(packed) + at;
    out->x = group == 0 && !narrow(b) ? (unsigned char *)x->data : reserve + p->x[group];
    out->y = group == g.count - 1 && !narrow(b) ? (unsigned char *)y->data : reserve + p->y[group];
    out->kept = reserve + p->kept[group];
    return OC_OK;
}

/* On the current stream; `launched` names what an error of the device may come from. */
static OC_MUST stream_give(oc_backend *b, const char *what)
{
    oc_cuda *c = oc_cuda_of(b);
    OC_DNN_TRY(c->dnn, cudnnSetStream, c->dnn->handle, c->stream);
    c->launched = what;
    return OC_OK;
}

static OC_MUST wait_where_wished(oc_backend *b)
{
    const oc_cuda *c = oc_cuda_of(b);
    if (c->wait_always) OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(c->stream), "it"));
    return OC_OK;
}

static OC_MUST forward_run(oc_backend *b, const pass *p, const places *at, unsigned char *reserve)
{
    const oc_cuda_dnn *d = oc_cuda_of(b)->dnn;
    const oc_cuda_dnn_plan *plan = p->plan;
    OC_TRY(stream_give(b, "cudnnRNNForward"));
    OC_DNN_TRY(d, cudnnRNNForward, d->handle, plan->rnn, CUDNN_FWD_MODE_TRAINING, NULL, plan->x, p->x, plan->y, p->y,
               plan->state, NULL, NULL, plan->state, NULL, NULL, plan->space_bytes, p->space, at->work_bytes,
               reserve + at->work, plan->reserve_bytes, p->kept);
    OC_TRY(wait_where_wished(b));
    return OC_OK;
}

static OC_MUST room_check(const places *p, oc_tensor reserve)
{
    const size_t bytes = (size_t)oc_cuda_count(reserve);
    if (p->bytes > bytes)
        return OC_FAIL(OC_EMEMORY, "backend cuda: cuDNN wants %zu bytes of reserve, the plan has %zu", p->bytes, bytes);
    return OC_OK;
}

oc_status oc_cuda_dnn_forward(oc_backend *b, const oc_lstm_shape *s, void *packed, oc_tensor x,
                              const oc_dropout *dropout, oc_tensor y, oc_tensor reserve)
{
    const grouping g = grouping_of(s, dropout && dropout->p > 0.0f);
    unsigned char *base = aligned(reserve.data);
    places at;
    OC_TRY(places_make(b, s, g, &at));
    OC_TRY(room_check(&at, reserve));
    if (narrow(b)) OC_TRY((carry_run<oc_bf16, float>(b, s, s->inputs, base + at.x[0], x.data, NULL)));
    for (int i = 0; i < g.count; i++) {
        pass p;
        OC_TRY(pass_of(b, s, g, i, &at, packed, &x, &y, base, &p));
        OC_TRY(forward_run(b, &p, &at, base));
        if (i == g.count - 1) break;
        oc_dropout d = *dropout;
        d.tensor += (uint32_t)i;
        OC_TRY(dropped(b, s, base + at.x[i + 1], p.y, &d));
    }
    if (narrow(b)) OC_TRY((carry_run<float, oc_bf16>(b, s, s->hidden, y.data, base + at.y[g.count - 1], NULL)));
    return OC_OK;
}

static OC_MUST backward_run(oc_backend *b, const pass *p, const places *at, unsigned char *reserve,
                            const unsigned char *dy, unsigned char *dx)
{
    oc_cuda *c = oc_cuda_of(b);
    const oc_cuda_dnn *d = c->dnn;
    const oc_cuda_dnn_plan *plan = p->plan;
    unsigned char *work = reserve + at->work, *space = reserve + at->space;
    OC_TRY(stream_give(b, "cudnnRNNBackwardData_v8"));
    OC_DNN_TRY(d, cudnnRNNBackwardData_v8, d->handle, plan->rnn, NULL, plan->y, p->y, dy, plan->x, dx, plan->state,
               NULL, NULL, NULL, plan->state, NULL, NULL, NULL, plan->space_bytes, p->space, at->work_bytes, work,
               plan->reserve_bytes, p->kept);
    OC_TRY(wait_where_wished(b));
    OC_TRY(oc_cuda_result(b, cudaMemsetAsync(space, 0, plan->space_bytes, c->stream), "clearing gradients"));
    c->launched = "cudnnRNNBackwardWeights_v8";
    OC_DNN_TRY(d, cudnnRNNBackwardWeights_v8, d->handle, plan->rnn, CUDNN_WGRAD_MODE_ADD, NULL, plan->x, p->x,
               plan->state, NULL, plan->y, p->y, plan->space_bytes, space, at->work_bytes, work, plan->reserve_bytes,
               p->kept);
    OC_TRY(wait_where_wished(b));
    return OC_OK;
}

oc_status oc_cuda_dnn_backward(oc_backend *b, const oc_lstm_shape *s, void *packed, oc_tensor x, oc_tensor y,
                               oc_tensor dy, const oc_dropout *dropout, oc_tensor reserve, const oc_lstm_weights *dw)
{
    const grouping g = grouping_of(s, dropout && dropout->p > 0.0f);
    unsigned char *base = aligned(reserve.data), *above = narrow(b) ? base : (unsigned char *)dy.data;
    places at;
    OC_TRY(places_make(b, s, g, &at));
    OC_TRY(room_check(&at, reserve));
    if (narrow(b)) {
        above = base + at.dy;
        OC_TRY((carry_run<oc_bf16, float>(b, s, s->hidden, above, dy.data, NULL)));
    }
    for (int i = g.count - 1; i >= 0; i--) {
        unsigned char *below = base + at.dx[i % 2];
        pass p;
        OC_TRY(pass_of(b, s, g, i, &at, packed, &x, &y, base, &p));
        OC_TRY(backward_run(b, &p, &at, base, above, below));
        OC_TRY(group_move(b, s, p.plan, i * g.each, dw, base + at.space, true));
        if (i == 0) break;
        oc_dropout d = *dropout;
        d.tensor += (uint32_t)(i - 1);
        OC_TRY(dropped(b, s, below, below, &d));
        above = below;
    }
    return OC_OK;
}
