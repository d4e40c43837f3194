/* bench_lstm_layer.c - the LSTM alone: microseconds a time step of one layer (--layers for more), forward and forward +
 * backward, x.W included. The default is the shape of reference/training-and-data-path.md section 1: H 768, batch 16,
 * T 1,024, F as wide as H. Every variant of the kernels that the backend offers is measured, one backend each
 * (VARIANTS: the environment that chooses it is read at open), and must agree with the first; the fastest is the row
 * that the choice table of kernels/cuda should have for this shape. Where the backend records, a pass is one recording,
 * as a training step is. A step's dy is copied anew before each backward, which overwrites it, inside the time. dx of
 * the first layer is not computed, as in a model; PyTorch's x asks for no gradient either, though cuDNN computes it.
 * Peer: PyTorch's nn.LSTM in the same dtype on the same device, on a GPU cuDNN (peers/lstm_layer_torch.py). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "tools/bench/benches.h"

enum { TENSORS_MAX = 16 + 8 * OC_LAYERS_MAX, GROUP_APART = 10, SEEN_MAX = 4096 };

/* cuda: name, and what in the environment chooses it. The first is what training takes. */
static const struct variant {
    const char *name, *variable, *value;
    oc_lstm_by by;
} variants[] = {{"chosen", NULL, NULL, OC_LSTM_HAND},
                {"twin", "OUTCRY_CUDA_LSTM", "twin", OC_LSTM_HAND},
                {"scan", "OUTCRY_CUDA_LSTM", "scan", OC_LSTM_HAND},
                {"fused", "OUTCRY_CUDA_LSTM", "fused", OC_LSTM_HAND},
                {"twin-wave", "OUTCRY_CUDA_LSTM", "twin-wave", OC_LSTM_HAND},
                {"scan-wave", "OUTCRY_CUDA_LSTM", "scan-wave", OC_LSTM_HAND},
                {"fused-wave", "OUTCRY_CUDA_LSTM", "fused-wave", OC_LSTM_HAND},
                {"products by hand", "OUTCRY_CUDA_PRODUCT", "hand", OC_LSTM_HAND},
                {"products by cuBLASLt", "OUTCRY_CUDA_PRODUCT", "lt", OC_LSTM_HAND},
                {"cuDNN", NULL, NULL, OC_LSTM_CUDNN}};

/* A shape may be beyond what two kinds of sums agree on: bf16 rounds a product's inputs to 8 bits. */
static const double agree[] = {[OC_MATH_F32] = 1e-4, [OC_MATH_TF32] = 1e-2, [OC_MATH_BF16] = 5e-2};
static const char *const maths[] = {[OC_MATH_F32] = "f32", [OC_MATH_TF32] = "tf32", [OC_MATH_BF16] = "bf16"};

typedef struct layer {
    oc_lstm_shape shape;
    oc_backend *b;
    const oc_ops *ops;
    oc_lstm_weights w, dw;
    oc_tensor x, y, dy, dy_kept, packed, reserve, forward_reserve;
    oc_tensor *planned[TENSORS_MAX];
    int count;
    size_t bytes;
    float seen[SEEN_MAX]; /* the last of y, and of dW_hh, for the comparison */
} layer;

/* ---------------------------------------------------------------- memory */
static void want(layer *l, oc_tensor *t, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    *t = oc_tensor_make(NULL, dtype, d0, d1, d2, 1);
    l->planned[l->count++] = t;
    l->bytes += oc_align_up((size_t)oc_tensor_count(*t) * oc_dtype_bytes(dtype));
}

static void want_weights(layer *l, oc_lstm_weights *w)
{
    const int64_t gates = (int64_t)OC_GATES * l->shape.hidden;
    for (int i = 0; i < l->shape.layers; i++) {
        want(l, &w->w_ih[i], OC_DTYPE_F32, gates, i ? l->shape.hidden : l->shape.inputs, 1);
        want(l, &w->w_hh[i], OC_DTYPE_F32, gates, l->shape.hidden, 1);
        want(l, &w->b_ih[i], OC_DTYPE_F32, gates, 1, 1);
        want(l, &w->b_hh[i], OC_DTYPE_F32, gates, 1, 1);
    }
}

static void plan_all(layer *l)
{
    const oc_lstm_shape *s = &l->shape;
    l->count = 0;
    l->bytes = 0;
    want_weights(l, &l->w);
    want_weights(l, &l->dw);
    want(l, &l->x, OC_DTYPE_F32, s->steps, s->batch, s->inputs);
    want(l, &l->y, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    want(l, &l->dy, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    want(l, &l->dy_kept, OC_DTYPE_F32, s->steps, s->batch, s->hidden);
    want(l, &l->packed, OC_DTYPE_BYTES, (int64_t)l->ops->lstm_packed_bytes(l->b, s), 1, 1);
    want(l, &l->reserve, OC_DTYPE_BYTES, (int64_t)l->ops->lstm_reserve_bytes(l->b, s, true), 1, 1);
    want(l, &l->forward_reserve, OC_DTYPE_BYTES, (int64_t)l->ops->lstm_reserve_bytes(l->b, s, false), 1, 1);
}

static OC_MUST fill(layer *l, oc_tensor t, double size, uint64_t stream)
{
    const uint32_t key = oc_random_key(1, OC_RANDOM_TEST, stream, 0);
    const size_t count = (size_t)oc_tensor_count(t);
    float *x;
    OC_TRY(oc_memory_new_array(&x, count, sizeof *x, "numbers"));
    for (size_t i = 0; i < count; i++) x[i] = (float)(size * (2 * oc_random_uniform(key, i) - 1));
    oc_status status = oc_backend_upload(l->b, t, x, count * sizeof *x);
    if (status == OC_OK) status = oc_backend_wait(l->b);
    oc_memory_free(x);
    return status;
}

static OC_MUST layer_open(layer *l, const oc_backend_config *config)
{
    oc_backend_config mine = *config;
    OC_TRY(oc_backend_open(&l->b, &mine)); /* without memory, only to ask how much */
    l->ops = oc_backend_ops(l->b);
    plan_all(l);
    oc_backend_close(l->b);
    l->b = NULL;
    mine.arena_bytes = l->bytes;
    OC_TRY(oc_backend_open(&l->b, &mine));
    l->ops = oc_backend_ops(l->b);
    plan_all(l);
    for (int i = 0; i < l->count; i++) OC_TRY(oc_backend_alloc(l->b, l->planned[i]));
    oc_backend_seal(l->b);
    const double size = 1 / sqrt(l->shape.hidden); /* as PyTorch begins */
    for (int i = 0; i < 4 * l->shape.layers; i++) OC_TRY(fill(l, *l->planned[i], size, (uint64_t)i));
    OC_TRY(fill(l, l->x, 1.7, 100));
    OC_TRY(fill(l, l->dy_kept, 1.7, 101));
    OC_TRY(l->ops->lstm_pack(l->b, &l->shape, &l->w, l->packed));
    OC_TRY(oc_backend_wait(l->b));
    return OC_OK;
}

/* ---------------------------------------------------------------- a pass, and its time */
static OC_MUST pass_forward(layer *l)
{
    OC_TRY(l->ops->lstm_forward(l->b, &l->shape, l->packed, l->x, NULL, false, l->y, l->forward_reserve));
    return OC_OK;
}

static OC_MUST pass_train(layer *l)
{
    OC_TRY(l->ops->lstm_forward(l->b, &l->shape, l->packed, l->x, NULL, true, l->y, l->reserve));
    OC_TRY(oc_backend_copy(l->b, l->dy, l->dy_kept));
    OC_TRY(l->ops->lstm_backward(l->b, &l->shape, l->packed, l->x, l->y, l->dy, NULL, l->reserve, &l->dw));
    return OC_OK;
}

typedef struct timed {
    oc_status (*pass)(layer *);
    oc_recording *recording; /* of one pass; NULL: it goes call by call */
} timed;

/* Once before it is recorded. */
static OC_MUST timed_make(layer *l, timed *t)
{
    OC_TRY(t->pass(l));
    OC_TRY(oc_backend_wait(l->b));
    if (!oc_backend_describe(l->b)->records) return OC_OK;
    OC_TRY(oc_backend_record_begin(l->b));
    const oc_status status = t->pass(l);
    if (status != OC_OK) oc_backend_record_drop(l->b);
    OC_TRY(status);
    OC_TRY(oc_backend_record_end(l->b, &t->recording));
    return OC_OK;
}

static OC_MUST timed_run(layer *l, const timed *t)
{
    OC_TRY(t->recording ? oc_backend_replay(l->b, t->recording) : t->pass(l));
    return OC_OK;
}

/* Passes side by side until a wait, so that a GPU's queue is never empty; of such groups the fastest. */
static OC_MUST groups_run(layer *l, const oc_bench_options *o, const timed *t, double *us)
{
    const int group = o->tiny || o->backend == OC_BACKEND_CPU ? 1 : GROUP_APART;
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * o->repeats * 1e9);
    int64_t now = 0;
    *us = HUGE_VAL;
    do {
        const int64_t start = oc_clock_monotonic_ns();
        for (int i = 0; i < group; i++) OC_TRY(timed_run(l, t));
        OC_TRY(oc_backend_wait(l->b));
        now = oc_clock_monotonic_ns();
        *us = fmin(*us, (double)(now - start) * 1e-3 / group / l->shape.steps);
    } while (now < end);
    return OC_OK;
}

static oc_status time_least(layer *l, const oc_bench_options *o, oc_status (*pass)(layer *), double *us)
{
    timed t = {pass, NULL};
    oc_status status = timed_make(l, &t);
    if (status == OC_OK) status = groups_run(l, o, &t, us);
    oc_backend_recording_free(l->b, t.recording);
    return status;
}

/* The last numbers of y and of dW_hh of the first layer, half of `seen` each. */
static OC_MUST seen_take(layer *l)
{
    const oc_tensor of[2] = {l->y, l->dw.w_hh[0]};
    for (int i = 0; i < 2; i++) {
        const int64_t count = oc_tensor_count(of[i]), half = SEEN_MAX / 2, take = count < half ? count : half;
        const oc_tensor last = oc_tensor_make((float *)of[i].data + (count - take), OC_DTYPE_F32, take, 1, 1, 1);
        OC_TRY(oc_backend_download(l->b, l->seen + i * half, (size_t)take * sizeof *l->seen, last));
    }
    OC_TRY(oc_backend_wait(l->b));
    return OC_OK;
}

/* Largest difference over largest number, the worse half. */
static double apart(const float *a, const float *b)
{
    double worst = 0;
    for (int half = 0; half < 2; half++) {
        double size = 0, most = 0;
        for (int i = 0; i < SEEN_MAX / 2; i++) {
            const double one = (double)a[half * SEEN_MAX / 2 + i], other = (double)b[half * SEEN_MAX / 2 + i];
            size = fmax(size, fabs(one));
            if (!(fabs(one - other) <= most)) most = fabs(one - other); /* NaN stays */
        }
        const double relative = most / size;
        if (!(relative <= worst)) worst = relative;
    }
    return worst;
}

/* ---------------------------------------------------------------- one variant, one backend */
/* Where the backend does not offer it, or not for this shape: *forward and *train stay NaN, and `why` says so. */
static OC_MUST variant_measure(const oc_bench_options *o, oc_lstm_by by, layer *l, double *forward, double *train,
                               char why[128])
{
    const oc_backend_config config = {.kind = o->backend, .math = o->math, .lstm = by};
    oc_backend *b;
    *forward = *train = (double)NAN;
    oc_status status = oc_backend_open(&b, &config);
    if (status == OC_OK) {
        oc_backend_close(b);
        OC_TRY(layer_open(l, &config));
        status = pass_train(l);
        if (status != OC_OK && status != OC_ELIMIT) return oc_status_trail(status, __FILE__, __LINE__);
    }
    if (status != OC_OK) {
        snprintf(why, 128, "%s", oc_status_message());
        return OC_OK;
    }
    OC_TRY(time_least(l, o, pass_forward, forward));
    OC_TRY(time_least(l, o, pass_train, train));
    OC_TRY(seen_take(l));
    return OC_OK;
}

static oc_status variant_run(const oc_bench_options *o, const struct variant *v, layer *l, double *forward,
                             double *train, char why[128])
{
    const char *was = v->variable ? getenv(v->variable) : NULL;
    char kept[64];
    snprintf(kept, sizeof kept, "%s", was ? was : "");
    if (v->variable) (void)setenv(v->variable, v->value, 1);
    oc_status status = variant_measure(o, v->by, l, forward, train, why);
    oc_backend_close(l->b);
    l->b = NULL;
    if (v->variable && was) (void)setenv(v->variable, kept, 1);
    if (v->variable && !was) (void)unsetenv(v->variable);
    return status;
}

static OC_MUST peer_times(const oc_bench_options *o, const oc_lstm_shape *s, double *forward, double *train)
{
    char path[OC_PATH_MAX], text[7][16];
    const int numbers[6] = {s->hidden, s->batch, s->steps, s->inputs, s->layers, o->threads ? o->threads : 1};
    for (int i = 0; i < 6; i++) snprintf(text[i], sizeof text[i], "%d", numbers[i]);
    snprintf(text[6], sizeof text[6], "%g", o->seconds);
    const char *const arguments[] = {
        "--hidden",  text[0], "--batch",  text[1],        "--steps",   text[2],
        "--inputs",  text[3], "--layers", text[4],        "--threads", text[5],
        "--seconds", text[6], "--dtype",  maths[o->math], "--device",  o->backend == OC_BACKEND_CUDA ? "cuda" : "cpu",
        NULL};
    oc_bench_want found[2] = {{NULL, "lstm_train", "value", (double)NAN}, {NULL, "lstm_forward", "value", (double)NAN}};
    *forward = *train = (double)NAN;
    if (!o->peers) return OC_OK;
    OC_TRY(oc_bench_own_peer(path, sizeof path, "lstm_layer_torch.py"));
    OC_TRY(oc_bench_peer_run(o, o->python, path, arguments, found, 2, true));
    *train = found[0].value;
    *forward = found[1].value;
    return OC_OK;
}

static void rows_add(const oc_bench_options *o, const oc_lstm_shape *s, const char *name, const double us[2],
                     const double peer[2], const char *difference, oc_bench_report *r)
{
    static const char *const what[2] = {"forward + backward", "forward"};
    char figure[64], note[160];
    const char *of = o->backend == OC_BACKEND_CUDA ? "PyTorch cuDNN" : "PyTorch";
    for (int i = 0; i < 2; i++) {
        snprintf(figure, sizeof figure, "lstm-layer %s, %s", what[i], name);
        snprintf(note, sizeof note, "%dx%d batch %d %dx%d %s%.48s", s->layers, s->hidden, s->batch, s->steps, s->inputs,
                 maths[o->math], difference);
        oc_bench_add(r, figure, us[i], "us/step", of, peer[i], note);
    }
}

static oc_lstm_shape shape_of(const oc_bench_options *o)
{
    const int hidden = o->hidden ? o->hidden : o->tiny ? 24 : 768;
    return (oc_lstm_shape){.layers = o->layers ? o->layers : 1,
                           .batch = o->batch  ? o->batch
                                    : o->tiny ? 3
                                              : 16,
                           .steps = o->steps  ? o->steps
                                    : o->tiny ? 5
                                              : 1024,
                           .inputs = o->inputs ? o->inputs : hidden,
                           .hidden = hidden};
}

/* The fastest so far, by forward + backward. */
typedef struct winner {
    const char *name;
    double us;
} winner;

static OC_MUST variant_row(const oc_bench_options *o, const oc_lstm_shape *s, int place, const double peer[2],
                           const layer *first, layer *l, winner *w, oc_bench_report *r)
{
    const char *name = o->backend == OC_BACKEND_CUDA ? variants[place].name : "cpu";
    char why[128] = "", from[48] = "";
    double us[2];
    *l = (layer){.shape = *s};
    OC_TRY(variant_run(o, &variants[place], l, &us[1], &us[0], why));
    if (*why && place == 0) return OC_FAIL(OC_EFAILED, "%s", why);
    if (*why) {
        char figure[64];
        snprintf(figure, sizeof figure, "lstm-layer, %s", name);
        oc_bench_add(r, figure, (double)NAN, "not offered", "", (double)NAN, why);
        return OC_OK;
    }
    const double difference = place ? apart(first->seen, l->seen) : 0;
    if (!(difference <= agree[o->math]))
        return OC_FAIL(OC_EFAILED, "lstm-layer: the variant \"%s\" is %.1e from the first, over %.1e", name, difference,
                       agree[o->math]);
    if (place) snprintf(from, sizeof from, "; %.1e from the first variant", difference);
    rows_add(o, s, name, us, peer, from, r);
    if (!(us[0] >= w->us)) *w = (winner){name, us[0]};
    return OC_OK;
}

oc_status oc_bench_lstm_layer(const oc_bench_options *o, oc_bench_report *r)
{
    const oc_lstm_shape shape = shape_of(o);
    const bool cuda = o->backend == OC_BACKEND_CUDA;
    const int count = cuda ? (int)(sizeof variants / sizeof *variants) : 1;
    static layer l, first;
    winner w = {"", HUGE_VAL};
    double peer[2];
    char note[160];
    OC_TRY(peer_times(o, &shape, &peer[1], &peer[0]));
    for (int i = 0; i < count; i++) {
        OC_TRY(variant_row(o, &shape, i, peer, &first, &l, &w, r));
        if (i == 0) first = l;
    }
    if (!cuda) return OC_OK;
    snprintf(note, sizeof note, "for the choice table: H %d, batch %d, T %d, F %d, %s: %s", shape.hidden, shape.batch,
             shape.steps, shape.inputs, maths[o->math], w.name);
    oc_bench_add(r, "lstm-layer fastest variant", w.us, "us/step", "PyTorch cuDNN", peer[0], note);
    return OC_OK;
}
