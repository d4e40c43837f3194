/* bench_latency_window.c - a whole raw window in memory to probabilities in memory: oc_model_predict of one window (on
 * a GPU of --batch windows), closed loop, one thread on one core. Peer: ONNX Runtime's best form on the same core (its
 * Python binding, a few us, inside). */
#include <math.h>
#include <stdio.h>
#include "base/clock.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/benches.h"

/* One timed part: quantiles of the calls within o->seconds. */
static OC_MUST part_run(bench_model *b, const oc_bench_options *o, bench_times *times)
{
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
    times->count = 0;
    for (int64_t now = 0; now < end;) {
        const int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_model_predict(b->model, b->rows, b->windows, b->answers, b->answers_cap));
        now = oc_clock_monotonic_ns();
        bench_times_add(times, now - start);
    }
    return OC_OK;
}

static OC_MUST measure(bench_model *b, const oc_bench_options *o, bench_times *times, oc_bench_report *report)
{
    const double windows = (double)b->windows;
    double best = HUGE_VAL, tail = HUGE_VAL, most = HUGE_VAL, peak = 0, peer, peer_tail;
    char name[64], note[128];
    for (int i = 0; i < o->repeats; i++) {
        OC_TRY(part_run(b, o, times));
        const double middle = bench_times_us(times, 0.5), late = bench_times_us(times, 0.99),
                     now = o->backend == OC_BACKEND_CUDA ? 0 : bench_peak(b->model, 0.05);
        most = fmin(most, bench_times_us(times, 1) / middle);
        best = middle < best ? middle : best;
        tail = late < tail ? late : tail;
        peak = now > peak ? now : peak;
    }
    OC_TRY(bench_onnxruntime(o, &b->shape, (int)b->windows, 1, "latency_p50", true, &peer, name, sizeof name));
    OC_TRY(bench_onnxruntime(o, &b->shape, (int)b->windows, 1, "latency_p99", true, &peer_tail, name, sizeof name));
    const double rate = windows * bench_window_operations(&b->shape) / best * 1e6;
    snprintf(note, sizeof note, "%s, %.1f GFLOP/s", bench_place(b), rate * 1e-9);
    oc_bench_add(report, "latency_window_p50", best, "us", name, peer, note);
    oc_bench_add(report, "latency_window_p99", tail, "us", name, peer_tail, "");
    oc_bench_add(report, "latency_window_max_over_median", most, "", "", (double)NAN, "of the best run");
    if (windows > 1) {
        snprintf(note, sizeof note, "batch %.0f", windows);
        oc_bench_add(report, "windows_per_second", windows * 1e6 / best, "1/s", "", (double)NAN, note);
    }
    if (!(peak > 0)) return OC_OK;
    oc_bench_add(report, "latency_window_fma_share", rate / peak, "of peak", "", (double)NAN, "");
    oc_bench_add(report, "fma_peak", peak * 1e-9, "GFLOP/s", "", (double)NAN, "measured between the runs");
    return OC_OK;
}

oc_status oc_bench_latency_window(const oc_bench_options *o, oc_bench_report *report)
{
    const oc_model_shape shape = bench_shape(o);
    const oc_backend_config config = {.kind = o->backend, .math = o->math};
    bench_model b;
    bench_times times;
    bench_pin();
    OC_TRY(bench_times_open(&times));
    oc_status status =
        bench_model_open_on(&b, &config, &shape, o->backend == OC_BACKEND_CUDA && o->batch > 1 ? (size_t)o->batch : 1);
    if (status == OC_OK) status = measure(&b, o, &times, report);
    bench_model_close(&b);
    bench_unpin();
    bench_times_close(&times);
    return status;
}
