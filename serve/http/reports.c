/* reports.c - figures over HTTP: /metrics, the status and drift of ours, the protocol's statistics and index. */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/memory.h"
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
        {"outcry_http_sequences", "gauge", "Open sequences of pushed rows, and streams of events, over HTTP.",
         &h->sequences_open},
        {"outcry_http_sequences_expired_total", "counter", "Sequences and streams closed because nobody asked of them.",
         &h->sequences_expired},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        oc_metrics_head(out, rows[i].name, rows[i].type, rows[i].help);
        oc_text_add(out, "%s %" PRIu64 "\n", rows[i].name, __atomic_load_n(rows[i].value, __ATOMIC_RELAXED));
    }
    oc_metrics_head(out, "outcry_http_connections_max", "gauge", "serve.http_connections: further ones wait.");
    oc_text_add(out, "outcry_http_connections_max %d\n", h->config.connections_max);
    if (oc_http_tls(h)) {
        oc_metrics_head(out, "outcry_tls_expiry_seconds", "gauge",
                        "When the first certificate of serve.tls_cert ends, since 1970; only with TLS.");
        oc_text_add(out, "outcry_tls_expiry_seconds %" PRId64 "\n", h->certificate_end_s);
    }
    oc_metrics_histogram(out, "outcry_http_seconds", "Inference over HTTP, from a request's head to its answer.",
                         &h->whole);
}

/* Of the process, by the names that Prometheus' own libraries give. */
static void process_metrics(const oc_http *h, oc_text *out)
{
    struct rusage used = {0};
    struct rlimit files = {0};
    size_t open_files = 0;
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
        {"process_resident_memory_bytes", "gauge", "Memory that it has.", (double)oc_memory_resident_bytes()},
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

static void total_write(oc_text *out, const char *name, uint64_t count, uint64_t ns)
{
    oc_text_add(out, "%s\"%s\":{\"count\":%" PRIu64 ",\"ns\":%" PRIu64 "}", name[0] == 's' ? "" : ",", name, count, ns);
}

/* By the exact number of requests; they are read and answered one by one, not as a batch. */
static void batches_write(oc_text *out, const oc_figures *f)
{
    const char *comma = "", *none = "{\"count\":0,\"ns\":0}";
    for (int i = 0; i < OC_OBSERVED_BATCH_MAX; i++) {
        if (f->batches[i] == 0) continue;
        oc_text_add(out, "%s{\"batch_size\":%d,\"compute_input\":%s", comma, i + 1, none);
        total_write(out, "compute_infer", f->batches[i], f->batches_ns[i]);
        oc_text_add(out, ",\"compute_output\":%s}", none);
        comma = ",";
    }
}

/* The statistics extension. Reading a request and writing its answer are HTTP's; over the rings there is neither. */
enum MHD_Result oc_http_statistics(oc_http *h, struct MHD_Connection *c, oc_http_slot *s)
{
    oc_figures f;
    oc_text text = {0};
    char version[32];
    uint32_t generation;
    (void)s;
    oc_server_figures(h->server, &f);
    oc_server_live(h->server, version, &generation);
    const int64_t ago_ns = oc_clock_monotonic_ns() - f.last_ns,
                  last_ms = f.last_ns == 0 ? 0 : (oc_clock_wall_ns() - ago_ns) / 1000000;
    const struct {
        const char *name;
        uint64_t count, ns;
    } totals[] = {{"success", f.whole.count, f.whole.ns},
                  {"fail", failures(&f), 0},
                  {"queue", f.queue.count, f.queue.ns},
                  {"compute_input", __atomic_load_n(&h->reading.count, __ATOMIC_RELAXED),
                   __atomic_load_n(&h->reading.ns, __ATOMIC_RELAXED)},
                  {"compute_infer", f.service.count, f.service.ns},
                  {"compute_output", __atomic_load_n(&h->writing.count, __ATOMIC_RELAXED),
                   __atomic_load_n(&h->writing.ns, __ATOMIC_RELAXED)},
                  {"cache_hit", 0, 0},
                  {"cache_miss", 0, 0}};
    oc_text_add(&text,
                "{\"model_stats\":[{\"name\":\"%s\",\"version\":\"%s\",\"last_inference\":%" PRId64
                ",\"inference_count\":%" PRIu64 ",\"execution_count\":%" PRIu64 ",\"inference_stats\":{",
                h->model->name, version, last_ms, f.whole.count, f.batch_count);
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++)
        total_write(&text, totals[i].name, totals[i].count, totals[i].ns);
    oc_text_add(&text, "},\"batch_stats\":[");
    batches_write(&text, &f);
    oc_text_add(&text, "]}]}");
    return oc_http_send_text(h, c, "application/json", &text);
}
