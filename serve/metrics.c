/* metrics.c - sums over the batchers, read while they run: each number is right by itself, not all at one instant. */
#include "serve/metrics.h"

static const char *const kind_names[OC_BATCHER_KINDS] = {"unknown", "window", "push", "open", "close", "history"};
static const char *const hello_names[OC_HELLO_FAILED + 1] = {"", "welcome", "wrong_uid", "full", "failed"};
static const char *const state_names[] = {
#define STATE_NAME(state, name, meaning) name,
    OC_REPLY_STATES(STATE_NAME)
#undef STATE_NAME
};

static uint64_t sum(const oc_batcher *batchers, int n, size_t offset)
{
    uint64_t all = 0;
    for (int i = 0; i < n; i++) {
        const void *at = (const unsigned char *)&batchers[i].stats + offset;
        all += __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
    }
    return all;
}

static void head(oc_text *out, const char *name, const char *type, const char *help)
{
    oc_text_add(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void write_replies(oc_text *out, const oc_batcher *batchers, int n)
{
    head(out, "outcry_replies_total", "counter", "Replies by kind of request and state.");
    for (size_t kind = 0; kind < OC_BATCHER_KINDS; kind++) {
        for (size_t state = 0; state < OC_REPLY_STATE_COUNT; state++) {
            const uint64_t value =
                sum(batchers, n,
                    offsetof(oc_batcher_stats, replies) + (kind * OC_REPLY_STATE_COUNT + state) * sizeof(uint64_t));
            if (value > 0 || state == OC_REPLY_OK)
                oc_text_add(out, "outcry_replies_total{kind=\"%s\",state=\"%s\"} %llu\n", kind_names[kind],
                            state_names[state], (unsigned long long)value);
        }
    }
}

static void write_latency(oc_text *out, const oc_batcher *batchers, int n)
{
    const char *name = "outcry_answer_seconds";
    uint64_t all = 0;
    head(out, name, "histogram", "From publication of a request to its probabilities.");
    for (size_t i = 0; i + 1 < OC_BATCHER_BUCKETS; i++) {
        all += sum(batchers, n, offsetof(oc_batcher_stats, latency) + i * sizeof(uint64_t));
        oc_text_add(out, "%s_bucket{le=\"%g\"} %llu\n", name, 1e-6 * (double)(1u << i), (unsigned long long)all);
    }
    all += sum(batchers, n, offsetof(oc_batcher_stats, latency) + (OC_BATCHER_BUCKETS - 1) * sizeof(uint64_t));
    oc_text_add(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, (unsigned long long)all, name,
                1e-9 * (double)sum(batchers, n, offsetof(oc_batcher_stats, latency_ns)), name, (unsigned long long)all);
}

static const struct {
    const char *name, *type, *help;
    size_t offset;
    double scale;
} rows[] = {
    {"outcry_batches_total", "counter", "Batches of steps or windows.", offsetof(oc_batcher_stats, batches), 1},
    {"outcry_replies_dropped_total", "counter", "Replies lost because a client did not read.",
     offsetof(oc_batcher_stats, dropped), 1},
    {"outcry_broken_clients_total", "counter", "Clients dropped because they broke the ring's protocol.",
     offsetof(oc_batcher_stats, broken), 1},
    {"outcry_advances_total", "counter", "Advances of a session's windows.", offsetof(oc_batcher_stats, advances), 1},
    {"outcry_advance_seconds_total", "counter", "Time spent in advances.", offsetof(oc_batcher_stats, advance_ns),
     1e-9},
    {"outcry_sessions", "gauge", "Open sessions.", offsetof(oc_batcher_stats, sessions), 1},
};

void oc_metrics_write(oc_text *out, const oc_bundle *bundle, const oc_server_stats *server, const oc_batcher *batchers,
                      int batcher_count)
{
    head(out, "outcry_model_info", "gauge", "The model in use.");
    oc_text_add(out, "outcry_model_info{model=\"%s\",version=\"%s\"} 1\n", bundle->name,
                bundle->version); /* both of a safe alphabet */
    write_replies(out, batchers, batcher_count);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        head(out, rows[i].name, rows[i].type, rows[i].help);
        oc_text_add(out, "%s %.9g\n", rows[i].name,
                    rows[i].scale * (double)sum(batchers, batcher_count, rows[i].offset));
    }
    write_latency(out, batchers, batcher_count);
    head(out, "outcry_clients_total", "counter", "Clients of the socket by what they were told.");
    for (size_t i = OC_HELLO_WELCOME; i <= OC_HELLO_FAILED; i++)
        oc_text_add(out, "outcry_clients_total{hello=\"%s\"} %llu\n", hello_names[i],
                    (unsigned long long)__atomic_load_n(&server->hellos[i], __ATOMIC_RELAXED));
}
