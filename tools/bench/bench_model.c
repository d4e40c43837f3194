/* bench_model.c - see the header. */
#include "tools/bench/bench_model.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "kernels/cpu/peak.h"

enum { TIMES_MAX = 1 << 20 };

oc_model_shape bench_shape(const oc_bench_options *o)
{
    return (oc_model_shape){.trunk = OC_TRUNK_LSTM,
                            .steps = o->steps ? o->steps : 100,
                            .inputs = o->inputs ? o->inputs : 40,
                            .layers = o->layers ? o->layers : 2,
                            .hidden = o->hidden ? o->hidden : 64,
                            .heads = o->heads >= 0 ? o->heads : 4,
                            .horizons = 1};
}

static OC_MUST model_fill(bench_model *b, const oc_backend_config *config)
{
    const oc_model_shape *s = &b->shape;
    const size_t count = b->windows * (size_t)(s->steps * s->inputs);
    const uint32_t key = oc_random_key(1, OC_RANDOM_TEST, 0, 0);
    oc_parameters p;
    OC_TRY(oc_bundle_new(&b->bundle, s, 0));
    snprintf(b->bundle->name, sizeof b->bundle->name, "bench");
    oc_parameters_describe(&p, s);
    oc_parameters_init(&p, 1, b->bundle->flat);
    for (int i = 0; i < s->inputs; i++) b->bundle->scale[i] = 1;
    for (int i = 0; i < s->horizons; i++) b->bundle->temperature[i] = 1;
    b->bundle->clip = 8;
    OC_TRY(oc_model_open(&b->model, b->bundle, config, (int)b->windows));
    b->answers_cap = b->windows * OC_CLASSES * (size_t)s->horizons;
    OC_TRY(oc_memory_new_array(&b->rows, count, sizeof *b->rows, "rows"));
    OC_TRY(oc_memory_new_array(&b->answers, b->answers_cap, sizeof *b->answers, "answers"));
    for (size_t i = 0; i < count; i++) b->rows[i] = (float)(3.4 * oc_random_uniform(key, i) - 1.7);
    return OC_OK;
}

oc_status bench_model_open_on(bench_model *b, const oc_backend_config *config, const oc_model_shape *shape,
                              size_t windows)
{
    *b = (bench_model){.shape = *shape, .windows = windows};
    oc_status status = model_fill(b, config);
    if (status != OC_OK) bench_model_close(b);
    return status;
}

oc_status bench_model_open(bench_model *b, const oc_model_shape *shape, size_t windows)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    return bench_model_open_on(b, &config, shape, windows);
}

const char *bench_place(const bench_model *b)
{
    const oc_backend_info *info = oc_model_backend(b->model);
    return info->kind == OC_BACKEND_CUDA ? "cuda" : oc_isa_name(info->isa);
}

void bench_model_close(bench_model *b)
{
    oc_model_close(b->model);
    oc_bundle_close(b->bundle);
    oc_memory_free(b->rows);
    oc_memory_free(b->answers);
    *b = (bench_model){.windows = 0};
}

double bench_window_operations(const oc_model_shape *s)
{
    const double h = s->hidden, t = s->steps;
    double sum = h * h / 2 + h / 2 * OC_CLASSES * s->horizons;
    for (int i = 0; i < s->layers; i++) sum += t * 4 * h * ((i ? h : s->inputs) + h);
    if (s->heads > 0) sum += 4 * h * h + 2 * s->heads * t * h;
    return 2 * sum;
}

double bench_advance_operations(const oc_model_shape *s)
{
    const double h = s->hidden, windows = s->steps - 1;
    return 2 * 4 * h * h *
           (windows * (2 * s->layers - 1) + s->layers); /* x.W_ih of the first layer belongs to the step */
}

static cpu_set_t allowed;

void bench_pin(void)
{
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one) == 0) return;
    }
}

void bench_unpin(void)
{
    if (CPU_COUNT(&allowed) > 0) (void)!sched_setaffinity(0, sizeof allowed, &allowed);
}

double bench_peak(const oc_model *m, double seconds)
{
    return oc_cpu_fma_peak(oc_model_backend(m)->isa, seconds);
}

oc_status bench_times_open(bench_times *t)
{
    *t = (bench_times){.cap = TIMES_MAX};
    OC_TRY(oc_memory_new_array(&t->ns, t->cap, sizeof *t->ns, "times"));
    return OC_OK;
}

void bench_times_close(bench_times *t)
{
    oc_memory_free(t->ns);
}

void bench_times_add(bench_times *t, int64_t ns)
{
    if (t->count < t->cap) t->ns[t->count++] = ns;
}

static int ascending(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

double bench_times_us(bench_times *t, double quantile)
{
    if (t->count == 0) return (double)NAN;
    qsort(t->ns, t->count, sizeof *t->ns, ascending);
    return (double)t->ns[(size_t)(quantile * (double)(t->count - 1))] * 1e-3;
}

oc_status bench_onnxruntime(const oc_bench_options *o, const oc_model_shape *s, int batch, int threads,
                            const char *metric, bool lower, double *value, char *name, size_t name_cap)
{
    static const char *const graphs[] = {"last", "full"};
    char number[8][16], seconds[32];
    const int numbers[8] = {s->layers, s->hidden, s->heads, s->steps, s->inputs, batch, threads, 0};
    for (int i = 0; i < 8; i++) snprintf(number[i], sizeof number[i], "%d", numbers[i]);
    snprintf(seconds, sizeof seconds, "%g", o->seconds);
    *value = (double)NAN;
    snprintf(name, name_cap, "onnxruntime");
    if (o->backend == OC_BACKEND_CUDA) {
        const char *const arguments[] = {"--device", "cuda",    "--layers",     number[0],   "--hidden",   number[1],
                                         "--heads",  number[2], "--steps",      number[3],   "--features", number[4],
                                         "--batch",  number[5], "--last-query", "--seconds", seconds,      NULL};
        snprintf(name, name_cap, "PyTorch on cuda");
        OC_TRY(oc_bench_peer(o, "latency_torch.py", arguments, metric, lower, value));
        return OC_OK;
    }
    for (size_t i = 0; i < sizeof graphs / sizeof graphs[0]; i++) {
        const char *const arguments[] = {"--graph",    graphs[i],   "--layers", number[0], "--hidden",
                                         number[1],    "--heads",   number[2],  "--steps", number[3],
                                         "--features", number[4],   "--batch",  number[5], "--threads",
                                         number[6],    "--seconds", seconds,    NULL};
        double found;
        OC_TRY(oc_bench_peer(o, "latency_onnxruntime.py", arguments, metric, lower, &found));
        if (!isfinite(found) || (isfinite(*value) && (lower ? found >= *value : found <= *value))) continue;
        *value = found;
        snprintf(name, name_cap, "onnxruntime %s", graphs[i]);
    }
    return OC_OK;
}
