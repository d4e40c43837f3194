/* reports.c - figures over HTTP: /metrics, the status and drift of ours, the protocol's statistics and index. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/http/front.h"
#include "serve/metrics.h"
#include "serve/status.h"

static void own_metrics(oc_http *h, oc_text *out)
{
    oc_metrics_head(out, "outcry_http_answers_total", "counter", "Answers over HTTP by status.");
    for (int code = 0; code < OC_HTTP_CODES; code++)
        if (oc_http_status_known(code))
            oc_text_add(out, "outcry_http_answers_total{code=\"%d\"} %" PRIu64 "\n", code,
                        __atomic_load_n(&h->answers[code], __ATOMIC_RELAXED));
    oc_metrics_head(out, "outcry_http_refusals_total", "counter", "Requests over HTTP that were refused, by reason.");
    for (int i = 0; i < OC_HTTP_REFUSAL_COUNT; i++)
        oc_text_add(out, "outcry_http_refusals_total{reason=\"%s\"} %" PRIu64 "\n",
                    oc_http_refusal_name((oc_http_refusal)i), __atomic_load_n(&h->refusals[i], __ATOMIC_RELAXED));
    const struct {
        const char *name, *type, *help;
        const uint64_t *value;
    } rows[] = {
        {"outcry_http_requests_under_way", "gauge", "Requests over HTTP that have begun.", &h->under_way},
        {"outcry_http_connections", "gauge", "Open connections.", &h->connections_open},
        {"outcry_http_sequences", "gauge", "Open sequences of pushed rows over HTTP.", &h->sequences_open},
        {"outcry_http_sequences_expired_total", "counter", "Sequences closed because nobody asked of them.",
         &h->sequences_expired},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        oc_metrics_head(out, rows[i].name, rows[i].type, rows[i].help);
        oc_text_add(out, "%s %" PRIu64 "\n", rows[i].name, __atomic_load_n(rows[i].value, __ATOMIC_RELAXED));
    }
    oc_metrics_head(out, "outcry_http_connections_max", "gauge", "serve.http_connections: further ones wait.");
    oc_text_add(out, "outcry_http_connections_max %d\n", h->config.connections_max);
    oc_metrics_histogram(out, "outcry_http_seconds", "Inference over HTTP, from a request's head to its answer.",
                         &h->whole);
}

/* Of the process, by the names that Prometheus' own libraries give. */
static void process_metrics(const oc_http *h, oc_text *out)
{
    struct rusage used = {0};
    struct rlimit files = {0};
    unsigned long pages = 0;
    size_t open_files = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm && fscanf(statm, "%*s %lu", &pages) != 1) pages = 0;
    if (statm) fclose(statm);
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder)) open_files++;
    if (folder) closedir(folder);
    getrusage(RUSAGE_SELF, &used);
    getrlimit(RLIMIT_NOFILE, &files);
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"process_start_time_seconds", "gauge", "When the server began, since 1970.", 1e-9 * (double)h->start_wall_ns},
        {"process_cpu_seconds_total", "counter", "Time of processors, of user and system.",
         (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
             1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec)},
        {"process_resident_memory_bytes", "gauge", "Memory that it has.",
         (double)pages * (double)sysconf(_SC_PAGESIZE)},
        {"process_open_fds", "gauge", "Open descriptors.",
         open_files > 3 ? (double)(open_files - 3) : 0}, /* ., .., its own */
        {"process_max_fds", "gauge", "Most of them.", (double)files.rlim_cur},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        oc_metrics_head(out, rows[i].name, rows[i].type, rows[i].help);
        oc_text_add(out, "%s %.16g\n", rows[i].name, rows[i].value);
    }
}

enum MHD_Result oc_http_metrics(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_text text = {0};
    (void)s;
    oc_server_metrics(h->server, &text);
    own_metrics(h, &text);
    process_metrics(h, &text);
    return oc_http_send_text(h, c, "text/plain; version=0.0.4; charset=utf-8", &text);
}

enum MHD_Result oc_http_status(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    const char *comma = "";
    oc_text text = {0};
    (void)s;
    oc_text_add(&text, "{");
    oc_server_status(h->server, &text);
    oc_text_add(&text, ",\"start_ns\":%" PRId64 ",\"models\":", h->start_ns);
    oc_server_models(h->server, &text);
    oc_text_add(&text, ",\"http\":{\"seconds\":");
    oc_status_histogram(&text, &h->whole);
    oc_text_add(&text, ",\"under_way\":%" PRIu64 ",\"sequences\":%" PRIu64 ",\"answers\":{",
                __atomic_load_n(&h->under_way, __ATOMIC_RELAXED),
                __atomic_load_n(&h->sequences_open, __ATOMIC_RELAXED));
    for (int code = 0; code < OC_HTTP_CODES; code++) {
        const uint64_t n = __atomic_load_n(&h->answers[code], __ATOMIC_RELAXED);
        if (n == 0) continue;
        oc_text_add(&text, "%s\"%d\":%" PRIu64, comma, code, n);
        comma = ",";
    }
    oc_text_add(&text, "},\"refusals\":{");
    for (int i = 0; i < OC_HTTP_REFUSAL_COUNT; i++)
        oc_text_add(&text, "%s\"%s\":%" PRIu64, i ? "," : "", oc_http_refusal_name((oc_http_refusal)i),
                    __atomic_load_n(&h->refusals[i], __ATOMIC_RELAXED));
    oc_text_add(&text, "}}}");
    return oc_http_send_text(h, c, "application/json", &text);
}

enum MHD_Result oc_http_drift(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_text text = {0};
    (void)s;
    oc_server_drift(h->server, &text);
    return oc_http_send_text(h, c, "application/json", &text);
}

static uint64_t failures(const oc_figures *f)
{
    uint64_t n = 0;
    for (int kind = OC_REQUEST_WINDOW; kind <= OC_REQUEST_PUSH; kind++)
        for (int state = OC_REPLY_REFUSED_VALUE; state < OC_REPLY_STATE_COUNT; state++)
            n += f->stats.replies[kind][state];
    return n;
}

/* The statistics extension. Batches are counted by powers of two, so batch_stats, which is by exact size, is empty;
 * reading a request and writing its answer are not timed apart. */
enum MHD_Result oc_http_statistics(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_figures f;
    oc_text text = {0};
    const char *none = "{\"count\":0,\"ns\":0}";
    (void)s;
    oc_server_figures(h->server, &f);
    const int64_t ago_ns = oc_clock_monotonic_ns() - f.last_ns,
                  last_ms = f.last_ns == 0 ? 0 : (oc_clock_wall_ns() - ago_ns) / 1000000;
    oc_text_add(&text,
                "{\"model_stats\":[{\"name\":\"%s\",\"version\":\"%s\",\"last_inference\":%" PRId64
                ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64 ",\"inference_stats\":{",
                h->model->name, h->model->version, last_ms, f.whole.count, f.stats.batches);
    oc_text_add(&text,
                "\"success\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "},\"fail\":{\"count\":%" PRIu64 ",\"ns\":0},",
                f.whole.count, f.whole.ns, failures(&f));
    oc_text_add(&text,
                "\"queue\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64
                "},\"compute_input\":%s,\"compute_infer\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64
                "},\"compute_output\":%s,\"cache_hit\":%s,\"cache_miss\":%s},\"batch_stats\":[]}]}",
                f.queue.count, f.queue.ns, none, f.service.count, f.service.ns, none, none, none);
    return oc_http_send_text(h, c, "application/json", &text);
}
