/* bench_latency_push.c - staggered windows: the critical path of a push (one raw row in memory to the probabilities of
 * the window that it completes), and beside it the advance of the other T - 1 windows, which runs between ticks. One
 * slot, one thread on one core. Peer: ONNX Runtime's best form on the whole window, which is what it must compute for
 * the answer. */
#include <math.h>
#include <stdio.h>
#include "base/clock.h"
#include "tools/bench/bench_model.h"
#include "tools/bench/benches.h"

/* A ping that is not answered for so long ends the bench; emulation on a busy machine takes its time. */
#define BOUND_NS INT64_C(20000000000)

typedef struct push_times {
    bench_times step, advance, ping;
} push_times;

/* The bare doorbell: a word there, a word back. */
static OC_MUST pings_run(oc_sliding *s, const oc_bench_options *o, bench_times *ping, oc_bench_report *report)
{
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
    ping->count = 0;
    for (int64_t now = 0; now < end;) {
        const int64_t start = oc_clock_monotonic_ns();
        if (!oc_sliding_ping(s)) return OC_FAIL(OC_EFAILED, "the resident kernel does not answer");
        now = oc_clock_monotonic_ns();
        bench_times_add(ping, now - start);
    }
    oc_bench_add(report, "doorbell_p50", bench_times_us(ping, 0.5), "us", "", (double)NAN,
                 "there and back, nothing computed");
    oc_bench_add(report, "doorbell_p99", bench_times_us(ping, 0.99), "us", "", (double)NAN, "");
    return OC_OK;
}

static OC_MUST part_run(bench_model *b, oc_sliding *s, const oc_bench_options *o, push_times *times)
{
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
    const uint32_t slot = 0;
    uint8_t full;
    times->step.count = times->advance.count = 0;
    OC_TRY(oc_sliding_rebuild(s, slot, b->rows, (size_t)b->shape.steps));
    for (int64_t row = 0, now = 0; now < end; row = (row + 1) % b->shape.steps) {
        const int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_sliding_step(s, &slot, b->rows + row * b->shape.inputs, 1, b->answers, b->answers_cap, &full));
        const int64_t answered = oc_clock_monotonic_ns();
        OC_TRY(oc_sliding_advance(s, &slot, 1));
        now = oc_clock_monotonic_ns();
        bench_times_add(&times->step, answered - start);
        bench_times_add(&times->advance, now - answered);
    }
    return OC_OK;
}

static OC_MUST measure(bench_model *b, oc_sliding *s, const oc_bench_options *o, push_times *times,
                       oc_bench_report *report)
{
    double best = HUGE_VAL, tail = HUGE_VAL, most = HUGE_VAL, advance = HUGE_VAL, peak = 0, peer;
    char name[64], note[128];
    for (int i = 0; i < o->repeats; i++) {
        OC_TRY(part_run(b, s, o, times));
        const double now = o->backend == OC_BACKEND_CUDA ? 0 : bench_peak(b->model, 0.05);
        best = fmin(best, bench_times_us(&times->step, 0.5));
        tail = fmin(tail, bench_times_us(&times->step, 0.99));
        most = fmin(most, bench_times_us(&times->step, 1) / bench_times_us(&times->step, 0.5));
        advance = fmin(advance, bench_times_us(&times->advance, 0.5));
        peak = now > peak ? now : peak;
    }
    OC_TRY(bench_onnxruntime(o, &b->shape, 1, 1, "latency_p50", true, &peer, name, sizeof name));
    snprintf(note, sizeof note, "%s%s, whole window there", bench_place(b), o->resident ? ", resident" : "");
    oc_bench_add(report, "latency_push_p50", best, "us", name, peer, note);
    oc_bench_add(report, "latency_push_p99", tail, "us", "", (double)NAN, "");
    oc_bench_add(report, "latency_push_max_over_median", most, "", "", (double)NAN, "of the best run");
    oc_bench_add(report, "push_advance_p50", advance, "us", "", (double)NAN, "the other windows, between ticks");
    oc_bench_add(report, "slot_memory", (double)oc_sliding_bytes(b->model, 1), "bytes", "", (double)NAN, "");
    if (o->resident && !oc_sliding_resides(s)) return OC_FAIL(OC_EFAILED, "the resident kernel fell silent meanwhile");
    if (o->resident) OC_TRY(pings_run(s, o, &times->ping, report));
    if (!(peak > 0)) return OC_OK;
    oc_bench_add(report, "push_advance_fma_share", bench_advance_operations(&b->shape) / advance * 1e6 / peak,
                 "of peak", "", (double)NAN, "");
    oc_bench_add(report, "fma_peak", peak * 1e-9, "GFLOP/s", "", (double)NAN, "measured between the runs");
    return OC_OK;
}

oc_status oc_bench_latency_push(const oc_bench_options *o, oc_bench_report *report)
{
    const oc_model_shape shape = bench_shape(o);
    const oc_backend_config config = {.kind = o->backend, .math = o->math};
    bench_model b;
    oc_sliding *s = NULL;
    push_times times = {{0}, {0}, {0}};
    bench_pin();
    oc_status status = bench_model_open_on(&b, &config, &shape, 1);
    if (status == OC_OK) status = bench_times_open(&times.step);
    if (status == OC_OK) status = bench_times_open(&times.advance);
    if (status == OC_OK) status = bench_times_open(&times.ping);
    if (status == OC_OK) status = oc_sliding_open(&s, b.model, 1);
    if (status == OC_OK && o->resident) status = oc_sliding_reside(s, BOUND_NS);
    if (status == OC_OK) status = measure(&b, s, o, &times, report);
    oc_sliding_close(s);
    bench_model_close(&b);
    bench_unpin();
    bench_times_close(&times.step);
    bench_times_close(&times.advance);
    bench_times_close(&times.ping);
    return status;
}
