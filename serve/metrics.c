/* metrics.c - the figures as Prometheus text; one row a series that stands alone. */
#include "serve/metrics.h"

#include "base/build.h"

const char *const oc_request_names[OC_BATCHER_KINDS] = {"unknown", "window",      "push",         "open", "close",
                                                        "history", "stream_open", "stream_close", "tick"};
static const char *const hello_names[OC_HELLO_FAILED + 1] = {"", "welcome", "wrong_uid", "full", "failed"};
const char *const oc_reply_names[OC_REPLY_STATE_COUNT] = {
#define STATE_NAME(state, name, meaning) name,
    OC_REPLY_STATES(STATE_NAME)
#undef STATE_NAME
};

void oc_metrics_head(oc_text *out, const char *name, const char *type, const char *help)
{
    oc_text_add(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void oc_metrics_histogram(oc_text *out, const char *name, const char *help, const oc_histogram *h)
{
    uint64_t all = 0;
    oc_metrics_head(out, name, "histogram", help);
    for (int i = 0; i < OC_HISTOGRAM_BUCKETS - 1; i++) {
        all += __atomic_load_n(&h->buckets[i], __ATOMIC_RELAXED);
        oc_text_add(out, "%s_bucket{le=\"%g\"} %llu\n", name, 1e-9 * (double)oc_histogram_bound_ns(i),
                    (unsigned long long)all);
    }
    all += __atomic_load_n(&h->buckets[OC_HISTOGRAM_BUCKETS - 1], __ATOMIC_RELAXED);
    oc_text_add(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, (unsigned long long)all, name,
                1e-9 * (double)__atomic_load_n(&h->ns, __ATOMIC_RELAXED), name, (unsigned long long)all);
}

/* Every series from the start: what appears with its first count never rises from 0, and no alarm sees it. */
static void write_replies(oc_text *out, const oc_figures *f)
{
    oc_metrics_head(out, "outcry_replies_total", "counter", "Replies by kind of request and state.");
    for (size_t kind = 0; kind < OC_BATCHER_KINDS; kind++)
        for (size_t state = 0; state < OC_REPLY_STATE_COUNT; state++)
            oc_text_add(out, "outcry_replies_total{kind=\"%s\",state=\"%s\"} %llu\n", oc_request_names[kind],
                        oc_reply_names[state], (unsigned long long)f->stats.replies[kind][state]);
}

/* A histogram whose buckets are numbers of requests. */
static void write_sizes(oc_text *out, const oc_figures *f)
{
    const char *name = "outcry_batch_requests";
    uint64_t all = 0;
    oc_metrics_head(out, name, "histogram", "Requests of a batch.");
    for (int i = 0; i < OC_FIGURES_SIZES; i++) {
        all += f->sizes[i];
        oc_text_add(out, "%s_bucket{le=\"%u\"} %llu\n", name, 1u << i, (unsigned long long)all);
    }
    oc_text_add(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %llu\n%s_count %llu\n", name, (unsigned long long)all, name,
                (unsigned long long)f->batch_requests, name, (unsigned long long)all);
}

static void write_rows(oc_text *out, const oc_figures *f)
{
    const struct {
        const char *name, *type, *help;
        double value;
    } rows[] = {
        {"outcry_batches_total", "counter", "Batches of steps or windows.", (double)f->stats.batches},
        {"outcry_batch_seconds_total", "counter", "Time spent in batches.", 1e-9 * (double)f->batch_ns},
        {"outcry_replies_dropped_total", "counter", "Replies lost because a client did not read.",
         (double)f->stats.dropped},
        {"outcry_broken_clients_total", "counter", "Clients dropped because they broke the ring's protocol.",
         (double)f->stats.broken},
        {"outcry_advances_total", "counter", "Advances of a session's windows.", (double)f->stats.advances},
        {"outcry_advance_seconds_total", "counter", "Time spent in advances.", 1e-9 * (double)f->stats.advance_ns},
        {"outcry_sessions_expired_total", "counter", "Sessions ended because nobody had asked of them for too long.",
         (double)f->stats.expired},
        {"outcry_rows_duplicate_total", "counter", "Pushed rows with the sequence number of the last one.",
         (double)f->stats.duplicates},
        {"outcry_rows_stale_total", "counter", "Pushed rows with an older sequence number.", (double)f->stats.stale},
        {"outcry_rows_gap_total", "counter", "Pushed rows before which one was missing.", (double)f->stats.gaps},
        {"outcry_ticks_total", "counter", "Events that streams took in.", (double)f->stats.ticks},
        {"outcry_ticks_dropped_total", "counter", "Events of streams that were refused, or stood behind one.",
         (double)f->stats.ticks_dropped},
        {"outcry_streams", "gauge", "Open streams.", (double)f->stats.streams},
        {"outcry_advance_load", "gauge", "Share of the batchers' time that open sessions may need, summed.",
         1e-9 * (double)f->stats.load_ppb},
        {"outcry_batchers_lost", "gauge", "Batchers whose GPU answers no more.", (double)f->stats.lost},
        {"outcry_sessions", "gauge", "Open sessions.", (double)f->stats.sessions},
        {"outcry_queue_requests", "gauge", "Requests that the last batches found waiting.", (double)f->in_queue},
        {"outcry_advance_budget_used", "gauge",
         "Share of serve.advance_budget that open sessions may need, of the busiest batcher.", f->budget_used},
        {"outcry_input_rows_total", "counter", "Rows whose drift was looked at.", (double)f->rows},
        {"outcry_input_shift_max", "gauge",
         "Largest distance of an input's running mean from training's, in training's deviations.", f->shift_max},
        {"outcry_input_spread_max", "gauge",
         "Largest ratio of an input's running deviation to training's, or its inverse.", f->spread_max},
        {"outcry_input_features_drifted", "gauge", "Inputs whose mean or deviation is no longer training's.",
         (double)f->drifted},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        oc_metrics_head(out, rows[i].name, rows[i].type, rows[i].help);
        oc_text_add(out, "%s %.15g\n", rows[i].name, rows[i].value); /* counts are whole up to 1e15 */
    }
}

void oc_metrics_write(oc_text *out, const oc_bundle *bundle, const char *version, const oc_server_stats *server,
                      const oc_figures *f, const char *backend)
{
    oc_metrics_head(out, "outcry_build_info", "gauge", "The program that answers.");
    oc_text_add(out, "outcry_build_info{version=\"%s\",backend=\"%s\"} 1\n", oc_build_text(), backend);
    oc_metrics_head(out, "outcry_model_info", "gauge", "The model in use.");
    oc_text_add(out, "outcry_model_info{model=\"%s\",version=\"%s\"} 1\n", bundle->name,
                version); /* both of a safe alphabet */
    write_replies(out, f);
    write_rows(out, f);
    write_sizes(out, f);
    oc_metrics_histogram(out, "outcry_queue_seconds", "From publication of a request until it is taken.", &f->queue);
    oc_metrics_histogram(out, "outcry_service_seconds", "From taking a request to its probabilities.", &f->service);
    oc_metrics_histogram(out, "outcry_answer_seconds", "From publication of a request to its probabilities.",
                         &f->whole);
    oc_metrics_head(out, "outcry_clients_total", "counter", "Clients of the socket by what they were told.");
    for (size_t i = OC_HELLO_WELCOME; i <= OC_HELLO_FAILED; i++)
        oc_text_add(out, "outcry_clients_total{hello=\"%s\"} %llu\n", hello_names[i],
                    (unsigned long long)__atomic_load_n(&server->hellos[i], __ATOMIC_RELAXED));
    oc_metrics_head(out, "outcry_batchers_stalled", "gauge",
                    "Batchers that have ended no round for serve.stall_s: nobody is answered by them.");
    oc_text_add(out, "outcry_batchers_stalled %d\n", __atomic_load_n(&server->stalled, __ATOMIC_RELAXED));
    oc_metrics_head(out, "outcry_accept_failures_total", "counter",
                    "Times that a client of the socket could not be accepted: no descriptors or memory.");
    oc_text_add(out, "outcry_accept_failures_total %llu\n",
                (unsigned long long)__atomic_load_n(&server->accept_failures, __ATOMIC_RELAXED));
}
