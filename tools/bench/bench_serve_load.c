/* bench_serve_load.c - what is asked of a load: one rate, a sweep of rates, an overload and what comes after it. */
#include <math.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/memory.h"
#include "tools/bench/bench_load.h"

enum { POINTS = 8, OVERLOAD_TIMES = 10 };
static const char CAPACITY[] =
    "one over the least time called directly: an advance, with ticks a packet's features too; a window in a batch of 8";
static const char *const modes[] = {[OC_BENCH_WINDOW] = "window", [OC_BENCH_PUSH] = "push", [OC_BENCH_TICK] = "tick"};
static const double shares[POINTS] = {0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.05};
static const struct {
    const char *name;
    double quantile;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};

static double us(const load_segment *s, double quantile)
{
    return 1e-3 * oc_spread_quantile(&s->spread, quantile);
}

/* Requests a second that a core can do: one over the least time, of many tries, of a row's advance (and of the packet
 * that makes it) or of a window in a batch of LOAD_BATCH, called directly, so that other work does not count. */
static OC_MUST capacity_measure(load_rig *r, const oc_bench_options *o, double *capacity)
{
    const int64_t end = oc_clock_monotonic_ns() + (int64_t)(5e8 * fmin(o->seconds, 2));
    int64_t least = INT64_MAX, now = 0;
    if (r->o->mode != OC_BENCH_WINDOW) {
        double packet_s = 0;
        if (r->o->mode == OC_BENCH_TICK) OC_TRY(bench_load_engine_s(r, &packet_s));
        *capacity = 1 / (bench_load_advance_s(r) + packet_s);
        return OC_OK;
    }
    while (now < end) {
        const int64_t start = oc_clock_monotonic_ns();
        OC_TRY(oc_model_predict(r->b.model, r->b.rows, LOAD_BATCH, r->b.answers, r->b.answers_cap));
        now = oc_clock_monotonic_ns();
        least = now - start < least ? now - start : least;
    }
    *capacity = 1e9 * LOAD_BATCH / (double)(least > 0 ? least : 1);
    return OC_OK;
}

static void one_report(const load_rig *r, const load_segment *s, double capacity, oc_bench_report *report)
{
    char name[64], note[160];
    snprintf(note, sizeof note, "%s by %s, %d clients, bursts of %d, %s gaps, seed %llu, %.6g/s due", modes[r->o->mode],
             r->o->http ? "http" : "ring", r->client_count, r->o->burst, r->o->even ? "even" : "poisson",
             (unsigned long long)r->o->seed, s->rate);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        snprintf(name, sizeof name, "load_%s", quantiles[i].name);
        oc_bench_add(report, name, us(s, quantiles[i].quantile), "us", "", (double)NAN, i == 0 ? note : "");
    }
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {{"due", s->due},   {"answered", s->spread.count}, {"refused", s->refused},
                  {"late", s->late}, {"failed", s->failed},         {"lost", s->lost}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        snprintf(name, sizeof name, "load_%s", counts[i].name);
        oc_bench_add(report, name, (double)counts[i].count, "requests", "", (double)NAN, "");
    }
    if (isfinite(capacity))
        oc_bench_add(report, "load_share", s->rate / capacity, "", "", (double)NAN, "of the capacity");
    if (r->o->mode == OC_BENCH_TICK) {
        oc_bench_add(report, "load_events", s->rate * r->packet_events, "events/s", "", (double)NAN, "due");
        oc_bench_add(report, "load_packet", r->packet_events, "events", "", (double)NAN,
                     "in the mean of a packet, which is a request and makes a row");
    }
    if (r->o->mode != OC_BENCH_WINDOW)
        oc_bench_add(report, "load_advance", 1e6 * bench_load_advance_s(r), "us", "", (double)NAN, "measured at start");
}

static OC_MUST one_run(load_rig *r, const oc_bench_options *o, oc_bench_report *report)
{
    static load_segment s;
    double capacity = (double)NAN;
    if (!(r->o->rate > 0) || r->o->mode != OC_BENCH_WINDOW) OC_TRY(capacity_measure(r, o, &capacity));
    s.rate = r->o->rate > 0 ? r->o->rate / r->packet_events : r->o->share * capacity;
    s.seconds = o->seconds;
    OC_TRY(bench_load_run(r, &s, 1));
    one_report(r, &s, capacity, report);
    return OC_OK;
}

static OC_MUST sweep_run(load_rig *r, const oc_bench_options *o, oc_bench_report *report)
{
    load_segment *points;
    double capacity;
    char name[64];
    OC_TRY(capacity_measure(r, o, &capacity));
    OC_TRY(oc_memory_new_array(&points, POINTS, sizeof *points, "a sweep"));
    oc_bench_add(report, "load_capacity", capacity, "requests/s", "", (double)NAN, CAPACITY);
    oc_status status = OC_OK;
    for (int i = 0; i < POINTS && status == OC_OK; i++) {
        points[i].rate = shares[i] * capacity;
        points[i].seconds = o->seconds;
        status = bench_load_run(r, &points[i], 1);
        for (size_t k = 0; k < 3; k++) { /* p50, p90, p99 */
            snprintf(name, sizeof name, "load_%s_at_%g", quantiles[k].name, shares[i]);
            oc_bench_add(report, name, us(&points[i], quantiles[k].quantile), "us", "", (double)NAN, "");
        }
    }
    if (status == OC_OK && r->o->page)
        status = bench_load_page(r->o->page, r, points, POINTS, capacity, bench_place(&r->b));
    oc_memory_free(points);
    return status;
}

static OC_MUST overload_run(load_rig *r, const oc_bench_options *o, oc_bench_report *report)
{
    static load_segment s[LOAD_SEGMENTS_MAX];
    static const double times[LOAD_SEGMENTS_MAX] = {0.8, OVERLOAD_TIMES, 0.8};
    static const char *const names[LOAD_SEGMENTS_MAX] = {"before", "overload", "after"};
    double capacity;
    char name[64];
    OC_TRY(capacity_measure(r, o, &capacity));
    for (int i = 0; i < LOAD_SEGMENTS_MAX; i++)
        s[i] = (load_segment){.rate = times[i] * capacity, .seconds = o->seconds};
    OC_TRY(bench_load_run(r, s, LOAD_SEGMENTS_MAX));
    oc_bench_add(report, "overload_p999", us(&s[1], 0.999), "us", "at 80 % before", us(&s[0], 0.999),
                 "of those answered, at ten times the capacity");
    oc_bench_add(report, "overload_recovery", s[2].good_s, "s", "", (double)NAN,
                 "from its end to 100 answers in a row");
    oc_bench_add(report, "overload_growth", 1e-3 * (s[1].end_bytes - s[1].half_bytes), "kB", "", (double)NAN,
                 "resident memory, second half of the overload");
    oc_bench_add(report, "overload_capacity", capacity, "requests/s", "", (double)NAN, CAPACITY);
    for (int i = 0; i < LOAD_SEGMENTS_MAX; i++) {
        const struct {
            const char *name;
            uint64_t count;
        } counts[] = {{"due", s[i].due},   {"answered", s[i].spread.count}, {"refused", s[i].refused},
                      {"late", s[i].late}, {"failed", s[i].failed},         {"lost", s[i].lost}};
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            snprintf(name, sizeof name, "overload_%s_%s", names[i], counts[k].name);
            oc_bench_add(report, name, (double)counts[k].count, "requests", "", (double)NAN, "");
        }
    }
    return OC_OK;
}

oc_status bench_serve_load(const oc_bench_options *given, oc_bench_report *report)
{
    oc_bench_options o = *given;
    load_rig r;
    if (o.load.overload && o.load.queue_max_ns == 0) o.load.queue_max_ns = 1000000;
    if (o.load.overload && o.load.mode != OC_BENCH_WINDOW && o.load.deadline_ns == 0) o.load.deadline_ns = 1000000;
    oc_status status = bench_load_open(&r, &o);
    if (status == OC_OK)
        status = o.load.sweep      ? sweep_run(&r, &o, report)
                 : o.load.overload ? overload_run(&r, &o, report)
                                   : one_run(&r, &o, report);
    bench_load_close(&r);
    return status;
}
