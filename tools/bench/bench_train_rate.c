/* bench_train_rate.c - windows a second of whole training steps: gather, forward, backward over 8 shards on a team,
 * sum,
 * clipping at 1.0, AdamW, packing; dropout 0.2 and 0.3 as in the peer. Peer: PyTorch eager, the better of the textbook
 * attention layer and of one that asks for the last query only. Rows are made beforehand on both sides.
 * --backend cuda: bench_train_rate_device.c; the peer on the same device with the same type of products. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/team.h"
#include "nn/graph.h"
#include "tools/bench/bench_train_rate.h"
#include "tools/bench/benches.h"

enum { SHARDS = 8, ROWS = 200000, ROWS_TINY = 4000, WORKERS_MAX = 64 };

static const char *const types[] = {[OC_MATH_F32] = "f32", [OC_MATH_TF32] = "tf32", [OC_MATH_BF16] = "bf16"};

typedef struct job {
    oc_model_shape shape;
    oc_parameters parameters;
    int batch, workers;
    int64_t row_count;
    float *rows, *flat, *m, *v, *partials, *sum;
    int64_t *index;
    int32_t *target;
    void *packed;
    oc_graph *graph[WORKERS_MAX];
    oc_team *team;
    double loss[SHARDS], weight[SHARDS];
    oc_status status[WORKERS_MAX];
    int64_t step;
    atomic_int next;
} job;

/* Whoever is free takes the next shard: results are per shard, so who computed one changes no bit, and a worker that
 * the machine holds up does not hold up the others. */
static void shards_run(void *context, int worker, int workers)
{
    job *j = context;
    const size_t each = (size_t)(j->batch / SHARDS);
    (void)workers;
    for (;;) {
        const int taken = atomic_fetch_add_explicit(&j->next, 1, memory_order_relaxed);
        if (taken >= SHARDS || j->status[worker] != OC_OK) return;
        const size_t s = (size_t)taken;
        const oc_graph_batch batch = {
            .rows = {.data = j->rows, .dims = {j->row_count, j->shape.inputs, 1, 1}, .dtype = OC_DTYPE_F32},
            .index = j->index + s * each,
            .target = j->target + s * each,
            .count = (int)each,
            .step = (uint64_t)j->step,
            .sample_first = s * each};
        j->loss[s] = j->weight[s] = 0;
        j->status[worker] = oc_graph_train(j->graph[worker], j->flat, j->packed, &batch, &j->loss[s], &j->weight[s],
                                           j->partials + s * j->parameters.total);
    }
}

static oc_status step_run(job *j)
{
    const int64_t total = (int64_t)j->parameters.total;
    const uint32_t key = oc_random_key(1, OC_RANDOM_SHUFFLE, (uint64_t)++j->step, 0);
    double weight = 0, squares = 0;
    for (int i = 0; i < j->batch; i++) {
        const uint64_t span = (uint64_t)(j->row_count - j->shape.steps + 1);
        j->index[i] = j->shape.steps - 1 + (int64_t)oc_random_below(key, (uint64_t)i, span);
        j->target[i] = (int32_t)oc_random_below(key, (uint64_t)(j->batch + i), OC_CLASSES);
    }
    oc_backend *b = oc_graph_backend(j->graph[0]);
    const oc_ops *ops = oc_backend_ops(b);
    OC_TRY(oc_graph_pack(j->graph[0], j->flat, j->packed));
    atomic_store_explicit(&j->next, 0, memory_order_relaxed);
    oc_team_run(j->team, shards_run, j);
    for (int w = 0; w < j->workers; w++) OC_TRY(j->status[w]);
    const oc_tensor sum = oc_tensor_make(j->sum, OC_DTYPE_F32, total, 1, 1, 1);
    OC_TRY(ops->tree_sum(b, oc_tensor_make(j->partials, OC_DTYPE_F32, SHARDS, total, 1, 1), sum));
    OC_TRY(ops->square_sum(b, sum, &squares));
    OC_TRY(oc_backend_wait(b));
    for (int s = 0; s < SHARDS; s++) weight += j->weight[s];
    const double norm = sqrt(squares) / weight;
    const oc_adamw_rule rule = {3e-4f,  0.9f, 0.999f, 1e-8f, 0.01f, (float)((norm > 1 ? 1 / norm : 1) / weight),
                                j->step};
    OC_TRY(ops->adamw(b, &rule, oc_tensor_make(j->flat, OC_DTYPE_F32, total, 1, 1, 1), sum,
                      oc_tensor_make(j->m, OC_DTYPE_F32, total, 1, 1, 1),
                      oc_tensor_make(j->v, OC_DTYPE_F32, total, 1, 1, 1)));
    return OC_OK;
}

static oc_status job_memory(job *j)
{
    const size_t total = j->parameters.total, inputs = (size_t)j->shape.inputs, batch = (size_t)j->batch;
    const uint32_t key = oc_random_key(1, OC_RANDOM_TEST, 0, 0);
    OC_TRY(oc_memory_new_array(&j->rows, (size_t)j->row_count * inputs, sizeof *j->rows, "rows"));
    OC_TRY(oc_memory_new_array(&j->flat, total, sizeof *j->flat, "weights"));
    OC_TRY(oc_memory_new_array(&j->m, total, sizeof *j->m, "m"));
    OC_TRY(oc_memory_new_array(&j->v, total, sizeof *j->v, "v"));
    OC_TRY(oc_memory_new_array(&j->sum, total, sizeof *j->sum, "gradient"));
    OC_TRY(oc_memory_new_array(&j->partials, SHARDS * total, sizeof *j->partials, "gradients"));
    OC_TRY(oc_memory_new(&j->packed, oc_graph_packed_bytes(j->graph[0]), "packed weights"));
    OC_TRY(oc_memory_new_array(&j->index, batch, sizeof *j->index, "index"));
    OC_TRY(oc_memory_new_array(&j->target, batch, sizeof *j->target, "target"));
    for (size_t i = 0; i < (size_t)j->row_count * inputs; i++)
        j->rows[i] = (float)(3.4 * oc_random_uniform(key, i) - 1.7);
    oc_parameters_init(&j->parameters, 1, j->flat);
    return OC_OK;
}

static oc_status job_open(job *j)
{
    const oc_graph_rule rule = {0.2f, 0.3f, {{1, 1, 1}, 0, 1}, 1};
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    static double mean[OC_INPUTS_MAX], scale[OC_INPUTS_MAX];
    oc_parameters_describe(&j->parameters, &j->shape);
    for (int f = 0; f < j->shape.inputs; f++) scale[f] = 1;
    OC_TRY(oc_team_open(&j->team, j->workers));
    for (int w = 0; w < j->workers; w++)
        OC_TRY(oc_graph_open(&j->graph[w], &config, &j->shape, &rule, mean, scale, 8, j->batch / SHARDS, true));
    OC_TRY(job_memory(j));
    return OC_OK;
}

static void job_close(job *j)
{
    for (int w = 0; w < j->workers; w++) oc_graph_close(j->graph[w]);
    oc_team_close(j->team);
    void *const taken[] = {j->rows, j->flat, j->m, j->v, j->sum, j->partials, j->packed, j->index, j->target};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) oc_memory_free(taken[i]);
}

/* The best of o->repeats runs of o->seconds. */
static oc_status rate_measure(job *j, const oc_bench_options *o, double *rate)
{
    OC_TRY(job_open(j));
    for (int i = 0; i < (o->tiny ? 1 : 3); i++) OC_TRY(step_run(j));
    *rate = 0;
    for (int r = 0; r < o->repeats; r++) {
        const int64_t start = oc_clock_monotonic_ns(), first = j->step;
        int64_t now = start;
        while (now - start < (int64_t)(o->seconds * 1e9)) {
            OC_TRY(step_run(j));
            now = oc_clock_monotonic_ns();
        }
        *rate = fmax(*rate, (double)(j->step - first) * j->batch / ((double)(now - start) * 1e-9));
    }
    return OC_OK;
}

/* Multiplications and additions of one window's training step: LSTM forward, and backward without dx of layer 0. */
static double window_flop(const oc_model_shape *s)
{
    double products = 0;
    for (int l = 0; l < s->layers; l++) {
        const double in = l ? s->hidden : s->inputs, h = s->hidden;
        products += (in + h) * 4 * h * 2 + h * 4 * h + (l ? in * 4 * h : 0);
    }
    return 2 * products * s->steps;
}

static oc_status peer_rate(const oc_bench_options *o, const oc_model_shape *s, int batch, int threads, double *rate)
{
    char text[8][16];
    const int numbers[8] = {s->hidden, s->layers, s->heads, s->steps, s->inputs, batch, threads, (int)ceil(o->seconds)};
    const char *arguments[22] = {"--hidden",  text[0], "--layers",   text[1], "--heads", text[2],
                                 "--steps",   text[3], "--features", text[4], "--batch", text[5],
                                 "--threads", text[6], "--seconds",  text[7], NULL};
    int count = 16;
    for (int i = 0; i < 8; i++) snprintf(text[i], sizeof text[i], "%d", numbers[i]);
    double whole = (double)NAN, last = (double)NAN;
    const char *const device[] = {"--device", "cuda", "--dtype", types[o->math]};
    for (int i = 0; i < 4 && o->backend == OC_BACKEND_CUDA; i++) arguments[count++] = device[i];
    OC_TRY(oc_bench_peer(o, "train_torch.py", arguments, "train_windows_per_second", false, &whole));
    arguments[count] = "--last-query";
    OC_TRY(oc_bench_peer(o, "train_torch.py", arguments, "train_windows_per_second", false, &last));
    *rate = fmax(whole, last);
    return OC_OK;
}

static oc_status measure_host(const oc_bench_options *o, const oc_model_shape *s, int batch, int64_t rows, int threads,
                              double *rate)
{
    static job j;
    j = (job){.shape = *s, .batch = batch, .workers = threads, .row_count = rows};
    if (batch % SHARDS != 0) return OC_FAIL(OC_EUSAGE, "--batch %d does not divide by %d shards", batch, SHARDS);
    if (threads > WORKERS_MAX) return OC_FAIL(OC_EUSAGE, "--threads %d, over %d", threads, WORKERS_MAX);
    const oc_status status = rate_measure(&j, o, rate);
    job_close(&j);
    return status;
}

static oc_status measure_shape(const oc_bench_options *o, oc_bench_report *r, int hidden)
{
    const oc_model_shape s = {OC_TRUNK_LSTM,
                              o->steps ? o->steps : 100,
                              o->inputs ? o->inputs : 40,
                              o->layers ? o->layers : 2,
                              hidden,
                              o->heads >= 0 ? o->heads : 4,
                              1};
    const int threads = o->threads ? o->threads : 2, batch = o->batch ? o->batch : 256;
    const int64_t rows = o->tiny ? ROWS_TINY : ROWS;
    const bool device = o->backend == OC_BACKEND_CUDA;
    double rate = 0, peer = (double)NAN;
    char figure[64], note[160], where[32];
    OC_TRY(oc_model_shape_check(&s));
    if (device)
        OC_TRY(bench_train_rate_device(o, &s, batch, rows, &rate));
    else
        OC_TRY(measure_host(o, &s, batch, rows, threads, &rate));
    OC_TRY(peer_rate(o, &s, batch, threads, &peer));
    snprintf(where, sizeof where, "threads %d", threads);
    if (device) snprintf(where, sizeof where, "cuda %s", types[o->math]);
    snprintf(figure, sizeof figure, "train-rate %dx%d %dx%d batch %d %s", s.layers, hidden, s.steps, s.inputs, batch,
             where);
    snprintf(note, sizeof note, "LSTM products at %.1f GFLOP/s%s",
             window_flop(&s) * rate / (device ? 1 : threads) * 1e-9, device ? "" : " a thread");
    oc_bench_add(r, figure, rate, "windows/s", "PyTorch", peer, note);
    return OC_OK;
}

oc_status oc_bench_train_rate(const oc_bench_options *o, oc_bench_report *r)
{
    static const int hidden[] = {64, 128};
    if (o->hidden) {
        OC_TRY(measure_shape(o, r, o->hidden));
        return OC_OK;
    }
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        OC_TRY(measure_shape(o, r, o->tiny && i > 0 ? 32 : hidden[i]));
    return OC_OK;
}
