/* resident.cu - the host's side of the resident kernel (kernels/resident.h): opened, started, sent away where calls
 * might wait for it (resident.cuh), and given up where it does not leave. Not run on a GPU. */
#include <mutex>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/attend_layout.cuh"
#include "kernels/cuda/resident.cuh"
#include "kernels/cuda/resident_plan.cuh"

static constexpr int64_t LEAVE_NS = INT64_C(2000000000); /* a kernel that is told to must be gone by then */

/* ---------------------------------------------------------------- those of this process
 * One lock for starting and sending away; the way of a call takes none. */
static std::mutex door;
static oc_resident *present_ones[64]; /* open, or stuck for good */
static int present_count, holds;
static bool stuck;

typedef struct resident_state {
    oc_resident_args args;
    cudaStream_t stream;
    void *device, *pinned;
} resident_state;

static resident_state *state_of(const oc_resident *r)
{
    return static_cast<resident_state *>(r->state);
}

/* Has it ended within the time that such a kernel has? Whoever asks holds the door. */
static bool away(oc_resident *r)
{
    resident_state *s = state_of(r);
    const int64_t end = oc_cuda_now_ns() + LEAVE_NS;
    if (!__atomic_load_n(&r->running, __ATOMIC_RELAXED)) return true;
    __atomic_store_n(r->leave, s->args.launch, __ATOMIC_RELEASE);
    while (cudaStreamQuery(s->stream) == cudaErrorNotReady)
        if (oc_cuda_now_ns() > end) return false;
    __atomic_store_n(&r->running, 0u, __ATOMIC_RELEASE);
    return true;
}

void oc_cuda_leave(void *what)
{
    struct left {
        void *what;
        left *before;
    };
    static left *last;
    const std::lock_guard<std::mutex> hold(door);
    left *one = what ? static_cast<left *>(malloc(sizeof *one)) : NULL;
    if (!one) return;
    *one = {what, last};
    last = one;
}

oc_cuda_quiet::oc_cuda_quiet()
{
    const std::lock_guard<std::mutex> hold(door);
    holds++;
    for (int i = 0; i < present_count && !::stuck && !oc_cuda_lost(); i++) {
        if (away(present_ones[i])) continue;
        ::stuck = true;
        __atomic_store_n(&present_ones[i]->silent, 1u, __ATOMIC_RELAXED);
    }
    stuck = ::stuck || oc_cuda_lost();
}

oc_cuda_quiet::~oc_cuda_quiet()
{
    const std::lock_guard<std::mutex> hold(door);
    holds--;
}

/* ---------------------------------------------------------------- kernels of open and keep */
/* to[k][j] = from[j][k], j < outputs, k < depth */
static __global__ void transpose(const float *from, int outputs, int depth, float *to)
{
    for (int64_t at = oc_thread_first(); at < (int64_t)outputs * depth; at += oc_thread_step())
        to[at] = from[at % outputs * depth + at / outputs];
}

/* The scaled row to where the advance reads it. */
static __global__ void resident_keep(oc_resident_args a, const int32_t *slots, const int64_t *rows, const float *raw,
                                     int64_t n, float *states)
{
    for (int64_t at = oc_thread_first(); at < n * a.inputs; at += oc_thread_step()) {
        const int64_t i = at / a.inputs, j = at % a.inputs;
        if (rows[i] >= 0)
            states[(size_t)slots[i] * a.m.count + oc_slide_x_at(a.m, rows[i]) + j] =
                oc_scaled(raw[at], a.mean[j], a.scale[j], a.clip);
    }
}

/* ---------------------------------------------------------------- the driver's rows */
static OC_MUST launch(oc_resident *r)
{
    resident_state *s = state_of(r);
    oc_backend *b = r->b;
    oc_cuda at = *oc_cuda_of(b);
    s->args.launch++;
    s->args.tag = r->tag + 1;
    at.stream = s->stream;
    OC_TRY(oc_cuda_result(b, cudaMemsetAsync(s->args.met, 0, sizeof *s->args.met, s->stream), "clearing memory"));
    OC_TRY(oc_cuda_result(b, oc_resident_start(&at, s->args, r->info), "the launch of the resident kernel"));
    __atomic_store_n(&r->running, 1u, __ATOMIC_RELEASE);
    return OC_OK;
}

static bool present(oc_resident *r)
{
    if (__atomic_load_n(&r->silent, __ATOMIC_RELAXED)) return false;
    if (__atomic_load_n(&r->running, __ATOMIC_ACQUIRE)) return true;
    if (!door.try_lock()) return false;
    const std::lock_guard<std::mutex> hold(door, std::adopt_lock);
    if (holds > 0) return false;
    if (launch(r) == OC_OK) return true;
    __atomic_store_n(&r->silent, 1u, __ATOMIC_RELAXED);
    return false;
}

static OC_MUST far_pack(oc_resident *r)
{
    const oc_resident_model *m = &r->model;
    const oc_resident_args *a = &state_of(r)->args;
    oc_backend *b = r->b;
    float *far = const_cast<float *>(a->far);
    const int hidden = m->shape.hidden, half = hidden / 2, outputs = m->horizons * OC_CLASSES;
    const size_t square = (size_t)hidden * (size_t)hidden;
    const oc_attention_shape shape = {1, m->shape.steps, hidden, m->shape.heads};
    const oc_cuda_attend_layout l = shape.heads > 0 ? oc_cuda_attend_layout_make(&shape) : oc_cuda_attend_layout();
    const float *packed = (const float *)m->attention.data;
    const struct {
        size_t to;
        const float *from;
        int outputs, depth;
        bool there;
    } rows[] = {
        {a->at.query, packed + l.in_w, hidden, hidden, m->shape.heads > 0},
        {a->at.key, packed + l.in_w + square, (int)square, 1, m->shape.heads > 0},
        {a->at.value, packed + l.in_w + 2 * square, hidden, hidden, m->shape.heads > 0},
        {a->at.out, packed + l.out_w, hidden, hidden, m->shape.heads > 0},
        {a->at.query_b, packed + l.in_b, hidden, 1, m->shape.heads > 0},
        {a->at.value_b, packed + l.in_b + 2 * hidden, hidden, 1, m->shape.heads > 0},
        {a->at.out_b, packed + l.out_b, hidden, 1, m->shape.heads > 0},
        {a->at.head[0], (const float *)m->head[0].data, half, hidden, true},
        {a->at.head_b[0], (const float *)m->head_bias[0].data, half, 1, true},
        {a->at.head[1], (const float *)m->head[1].data, outputs, half, true},
        {a->at.head_b[1], (const float *)m->head_bias[1].data, outputs, 1, true},
    };
    for (const auto &row : rows)
        if (row.there)
            OC_LAUNCH(b, transpose, oc_flat_grid(b, (int64_t)row.outputs * row.depth), OC_FLAT_THREADS, 0, row.from,
                      row.outputs, row.depth, far + row.to);
    OC_TRY(oc_cuda_result(b, cudaStreamSynchronize(oc_cuda_of(b)->stream), "waiting"));
    return OC_OK;
}

static OC_MUST memory_take(oc_resident *r, oc_resident_args *a)
{
    resident_state *s = state_of(r);
    const size_t rows = OC_RESIDENT_ROWS, outputs = (size_t)(a->horizons * OC_CLASSES);
    size_t floats = 0, words = 0;
    const auto word_take = [&](size_t count) {
        const size_t at = words;
        words += (count + OC_MAIL_LINE - 1) / OC_MAIL_LINE * OC_MAIL_LINE;
        return at;
    };
    const size_t far = oc_cuda_take(&floats, a->at.count),
                 exchange = oc_cuda_take(&floats, (size_t)a->layers * rows * (size_t)a->hidden),
                 x = oc_cuda_take(&floats, 2 * rows * (size_t)a->inputs),
                 commands = oc_cuda_take(&floats, (2 * sizeof(oc_resident_command) + 3) / sizeof(float)),
                 met = oc_cuda_take(&floats, 1);
    r->in_count = OC_MAIL_ROW + rows * oc_mail_row_words(&r->model);
    r->out_count = rows * outputs;
    const size_t leave = word_take(1), in = word_take(r->in_count), out = word_take(r->out_count);
    OC_TRY(oc_cuda_result(r->b, cudaMalloc(&s->device, floats * sizeof(float)), "taking device memory"));
    OC_TRY(oc_cuda_result(r->b, cudaMallocHost(&s->pinned, words * sizeof(uint64_t)), "pinning host memory"));
#ifdef OC_EMULATION
    emulation::hand_out(s->device, floats * sizeof(float));
#endif
    memset(s->pinned, 0, words * sizeof(uint64_t));
    OC_TRY(oc_cuda_result(r->b, cudaMemsetAsync(s->device, 0, floats * sizeof(float), oc_cuda_of(r->b)->stream),
                          "clearing memory"));
    float *base = static_cast<float *>(s->device);
    uint64_t *word = static_cast<uint64_t *>(s->pinned);
    a->far = base + far;
    a->exchange = base + exchange;
    a->command_x = base + x;
    a->commands = reinterpret_cast<oc_resident_command *>(base + commands);
    a->met = reinterpret_cast<unsigned *>(base + met);
    r->leave = a->leave = word + leave;
    r->in = a->words = word + in;
    r->out = a->answers = word + out;
    return OC_OK;
}

static OC_MUST fill(oc_resident *r)
{
    const oc_resident_model *m = &r->model;
    oc_resident_args *a = &state_of(r)->args;
    const oc_lstm_shape lstm = {m->shape.layers, 1, m->shape.steps, m->shape.inputs, m->shape.hidden};
    const oc_cuda_lstm_layout at = oc_cuda_lstm_layout_make(&lstm, r->b->info.math);
    const float *weights = (const float *)m->lstm.data;
    OC_TRY(oc_resident_plan(r->b, m, a, &r->info));
    a->m = oc_slide_layout_make(&m->shape);
    a->layers = m->shape.layers;
    a->hidden = m->shape.hidden;
    a->inputs = m->shape.inputs;
    a->heads = m->shape.heads;
    a->horizons = m->horizons;
    for (int l = 0; l < a->layers; l++) {
        a->w_ih[l] = weights + at.w_ih[l];
        a->w_hh[l] = weights + at.w_hh[l];
        a->bias[l] = weights + at.bias[l];
    }
    a->mean = (const float *)m->mean.data;
    a->scale = (const float *)m->scale.data;
    a->states = (const float *)m->states.data;
    a->clip = m->clip;
    for (int i = 0; i < m->horizons; i++) a->temperature.of[i] = m->temperature[i];
    OC_TRY(memory_take(r, a));
    OC_TRY(far_pack(r));
    OC_TRY(oc_cuda_result(r->b, cudaStreamCreateWithFlags(&state_of(r)->stream, cudaStreamNonBlocking),
                          "making a stream"));
    return OC_OK;
}

static void release(oc_resident *r)
{
    resident_state *s = state_of(r);
    (void)oc_cuda_of(r->b);
    if (s->stream) (void)cudaStreamDestroy(s->stream);
    if (s->pinned) (void)cudaFreeHost(s->pinned);
    if (s->device) (void)cudaFree(s->device);
    free(s);
}

static oc_status resident_open(oc_resident *r)
{
    const oc_cuda_quiet quiet;
    if (quiet.stuck) return OC_FAIL(OC_EFAILED, "gpu_path resident: " OC_CUDA_STUCK);
    r->state = calloc(1, sizeof(resident_state));
    if (!r->state) return OC_FAIL(OC_EMEMORY, "gpu_path resident: no memory for %zu bytes", sizeof(resident_state));
    oc_status status = fill(r);
    const std::lock_guard<std::mutex> hold(door);
    if (status == OC_OK && present_count == (int)(sizeof present_ones / sizeof *present_ones))
        status = OC_FAIL(OC_ELIMIT, "gpu_path resident: %d kernels are open", present_count);
    if (status == OC_OK)
        present_ones[present_count++] = r;
    else
        release(r);
    return status;
}

static oc_status resident_put(oc_resident *r, oc_tensor slots, oc_tensor rows, oc_tensor raw)
{
    oc_backend *b = r->b;
    const int64_t n = oc_cuda_count(slots);
    assert(oc_cuda_count(rows) == n && oc_cuda_count(raw) == n * r->model.shape.inputs);
    OC_LAUNCH(b, resident_keep, oc_flat_grid(b, n * r->model.shape.inputs), OC_FLAT_THREADS, 0, state_of(r)->args,
              (const int32_t *)slots.data, (const int64_t *)rows.data, (const float *)raw.data, n,
              (float *)r->model.states.data);
    return OC_OK;
}

static void resident_close(oc_resident *r)
{
    const oc_cuda_quiet quiet;
    {
        const std::lock_guard<std::mutex> hold(door);
        for (int i = 0; i < present_count; i++)
            if (present_ones[i] == r) present_ones[i] = present_ones[--present_count];
    }
    if (quiet.stuck)
        oc_cuda_leave(r->state);
    else
        release(r);
}

const oc_resident_driver oc_cuda_resident = {resident_open, present, resident_put, resident_close};
