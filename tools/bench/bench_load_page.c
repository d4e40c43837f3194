/* bench_load_page.c - a sweep as one page: the curve of latency against load, the figures, the machine, the schedule's
 * seed. Style and chart are those of `outcry report`. */
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "evaluate/report.h"
#include "evaluate/svg.h"
#include "tools/bench/bench_load.h"

enum { CURVES = 4, POINTS_MAX = 16 };
static const struct {
    const char *name;
    double quantile;
} curves[CURVES] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}};

static const char *const asked[] = {[OC_BENCH_WINDOW] = "Whole windows",
                                    [OC_BENCH_PUSH] = "Pushed rows",
                                    [OC_BENCH_TICK] = "Packets of market events, a row each,"};

static void head_add(oc_text *t, const load_rig *r, double capacity, const char *place)
{
    const oc_model_shape *m = &r->b.shape;
    char when[OC_TIME_TEXT];
    double load[3] = {0};
    if (getloadavg(load, 3) != 3) load[0] = -1;
    oc_text_add(
        t,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" "
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>Outcry: latency against load</title>"
        "<style>%s</style></head><body>\n<h1>Latency against load</h1>\n",
        oc_report_style);
    oc_text_add(t,
                "<p>%s over %s, %d clients, bursts of %d, %s gaps, seed %llu. Open loop: a request's time counts from "
                "when it was due. Model: %d layers of %d, windows of %d rows by %d, %d heads, on one core (%s).</p>\n",
                asked[r->o->mode], r->o->http ? "HTTP" : "rings", r->client_count, r->o->burst,
                r->o->even ? "even" : "Poisson's", (unsigned long long)r->o->seed, m->layers, m->hidden, m->steps,
                m->inputs, m->heads, place);
    oc_text_add(
        t,
        "<p class=\"soft\">%.19s UTC; %d cores, load average at the end %.1f; capacity %.0f requests a second.</p>\n",
        oc_time_text(oc_clock_wall_ns(), when), get_nprocs(), load[0], capacity);
}

static void curve_add(oc_text *t, const load_segment *points, int count, double capacity)
{
    double x[POINTS_MAX], y[CURVES][POINTS_MAX];
    oc_svg_chart chart = {.title = "Latency against load",
                          .x_label = "load, share of the capacity",
                          .y_label = "us from due to answered",
                          .x_min = 0,
                          .x_max = points[count - 1].rate / capacity,
                          .y_min = 1,
                          .y_max = -1,
                          .series_count = CURVES};
    for (int i = 0; i < count; i++) {
        x[i] = points[i].rate / capacity;
        for (int c = 0; c < CURVES; c++) y[c][i] = 1e-3 * oc_spread_quantile(&points[i].spread, curves[c].quantile);
    }
    for (int c = 0; c < CURVES; c++)
        chart.series[c] = (oc_svg_series){
            .name = curves[c].name, .x = x, .y = y[c], .count = (size_t)count, .line = true, .dots = true};
    oc_svg_draw(t, &chart);
}

static void table_add(oc_text *t, const load_segment *points, int count, double capacity)
{
    oc_text_add(
        t, "<div class=\"scroll\"><table><tr><th>share</th><th>due/s</th><th>p50 us</th><th>p90</th><th>p99</th>"
           "<th>p99.9</th><th>max</th><th>due</th><th>refused</th><th>late</th><th>failed</th><th>lost</th></tr>\n");
    for (int i = 0; i < count; i++) {
        const load_segment *s = &points[i];
        oc_text_add(t, "<tr><td>%.2f</td><td>%.0f</td>", s->rate / capacity, s->rate);
        for (int c = 0; c < CURVES; c++)
            oc_text_add(t, "<td>%.1f</td>", 1e-3 * oc_spread_quantile(&s->spread, curves[c].quantile));
        oc_text_add(t, "<td>%.1f</td><td>%llu</td><td>%llu</td><td>%llu</td><td>%llu</td><td>%llu</td></tr>\n",
                    1e-3 * oc_spread_quantile(&s->spread, 1), (unsigned long long)s->due,
                    (unsigned long long)s->refused, (unsigned long long)s->late, (unsigned long long)s->failed,
                    (unsigned long long)s->lost);
    }
    oc_text_add(t, "</table></div>\n");
}

oc_status bench_load_page(const char *path, const load_rig *r, const load_segment *points, int count, double capacity,
                          const char *place)
{
    oc_text t = {0};
    if (count > POINTS_MAX) return OC_FAIL(OC_ELIMIT, "bench: a page of %d points, at most %d", count, POINTS_MAX);
    head_add(&t, r, capacity, place);
    curve_add(&t, points, count, capacity);
    table_add(&t, points, count, capacity);
    oc_text_add(&t, "</body></html>\n");
    oc_status status = oc_text_finish(&t, path);
    if (status == OC_OK) status = oc_file_write(path, t.data, t.bytes);
    oc_text_free(&t);
    if (status == OC_OK) oc_log(OC_LOG_INFO, "bench: wrote %s", path);
    return status;
}
