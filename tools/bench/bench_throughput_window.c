/* bench_throughput_window.c - whole windows a second: batches of 256 raw windows in memory to probabilities, one model
 * a thread, with one and with two threads. One thread is pinned to one core. Peer: ONNX Runtime's best form, same
 * threads. */
#include <math.h>
#include <stdio.h>
#include "base/clock.h"
#include "base/team.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/benches.h"

enum { WORKERS_MAX = 64 };

typedef struct job {
    bench_model model[WORKERS_MAX];
    oc_status status[WORKERS_MAX];
    oc_team *team;
    int threads;
} job;

static void share_run(void *context, int worker, int workers)
{
    job *j = context;
    bench_model *b = &j->model[worker];
    (void)workers;
    j->status[worker] = oc_model_predict(b->model, b->rows, b->windows, b->answers, b->answers_cap);
}

/* Median rate of the batches within o->seconds, operations a second of one core beside it. */
static OC_MUST part_run(job *j, const oc_bench_options *o, bench_times *times)
{
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
    times->count = 0;
    for (int64_t now = 0; now < end || times->count < 3;) {
        const int64_t start = oc_clock_monotonic_ns();
        oc_team_run(j->team, share_run, j);
        now = oc_clock_monotonic_ns();
        bench_times_add(times, now - start);
        for (int w = 0; w < j->threads; w++) OC_TRY(j->status[w]);
    }
    return OC_OK;
}

static OC_MUST measure(job *j, const oc_bench_options *o, const oc_model_shape *shape, int batch, bench_times *times,
                       oc_bench_report *report)
{
    double best = HUGE_VAL, peak = 0, peer;
    char name[64], note[128], figure[64];
    for (int i = 0; i < o->repeats; i++) {
        OC_TRY(part_run(j, o, times));
        const double now = bench_peak(j->model[0].model, 0.05);
        best = fmin(best, bench_times_us(times, 0.5));
        peak = now > peak ? now : peak;
    }
    OC_TRY(bench_onnxruntime(o, shape, batch, j->threads, "windows_per_second", false, &peer, name, sizeof name));
    const double rate = batch * 1e6 / best;
    snprintf(note, sizeof note, "%s, batch %d, %d threads", oc_isa_name(oc_model_backend(j->model[0].model)->isa),
             batch, j->threads);
    snprintf(figure, sizeof figure, "throughput_window_threads_%d", j->threads);
    oc_bench_add(report, figure, rate, "1/s", name, peer, note);
    snprintf(figure, sizeof figure, "fma_share_threads_%d", j->threads);
    oc_bench_add(report, figure, rate * bench_window_operations(shape) / peak / j->threads, "of peak", "", (double)NAN,
                 "");
    oc_bench_add(report, "fma_peak", peak * 1e-9, "GFLOP/s", "", (double)NAN, "of one core, measured between the runs");
    return OC_OK;
}

static OC_MUST threads_run(const oc_bench_options *o, int threads, int batch, bench_times *times,
                           oc_bench_report *report)
{
    static job j;
    const oc_model_shape shape = bench_shape(o);
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .math = o->math};
    j = (job){.threads = threads};
    oc_status status = oc_team_open(&j.team, threads);
    for (int w = 0; w < threads && status == OC_OK; w++) {
        size_t first, last;
        oc_team_split((size_t)batch, w, threads, &first, &last);
        status = bench_model_open_on(&j.model[w], &config, &shape, last - first);
    }
    if (status == OC_OK) status = measure(&j, o, &shape, batch, times, report);
    for (int w = 0; w < threads; w++) bench_model_close(&j.model[w]);
    oc_team_close(j.team);
    return status;
}

oc_status oc_bench_throughput_window(const oc_bench_options *o, oc_bench_report *report)
{
    const int batch = o->batch ? o->batch : o->tiny ? 8 : 256, most = o->threads ? o->threads : 2;
    bench_times times;
    if (most > WORKERS_MAX || batch < most)
        return OC_FAIL(OC_EUSAGE, "bench: %d threads for a batch of %d", most, batch);
    OC_TRY(bench_times_open(&times));
    oc_status status = OC_OK;
    bench_pin();
    status = threads_run(o, 1, batch, &times, report);
    bench_unpin();
    if (status == OC_OK && most > 1) status = threads_run(o, most, batch, &times, report);
    bench_times_close(&times);
    return status;
}
