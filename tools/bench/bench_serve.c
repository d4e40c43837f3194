/* bench_serve.c - what the server adds: round trip over the rings, both sides spinning, less the same work called
 * directly. One client and one batcher, a core each. Rows come 200 us apart, so that the advance behind a row is done
 * before the next. Then one client over HTTP, beside MLServer (bench_serve_http.c). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/file.h"
#include "serve/client/client.h"
#include "serve/client/ring.h"
#include "serve/server.h"
#include "tools/bench/bench_load.h"
#include "tools/bench/benches.h"

static const int64_t period_ns = 200000;

typedef struct serve_bench {
    bench_model b;
    oc_server *server;
    oc_client *client;
    oc_sliding *sliding;
    uint32_t session;
    uint64_t sequence;
    char folder[64];
} serve_bench;

/* What a bundle in memory may leave out and one on disk may not. */
static void bundle_name(oc_bundle *b)
{
    snprintf(b->name, sizeof b->name, "bench");
    snprintf(b->version, sizeof b->version, "1");
    snprintf(b->build, sizeof b->build, "bench");
    snprintf(b->created, sizeof b->created, "2020-01-01 00:00:00.000000000Z");
    snprintf(b->fold_name, sizeof b->fold_name, "none");
    for (int i = 0; i < b->shape.horizons; i++) snprintf(b->labels[i], sizeof b->labels[i], "direction:10:0.0001");
    for (int i = 0; i < b->shape.inputs; i++)
        if (!b->features[i][0]) snprintf(b->features[i], sizeof b->features[i], "feature:%d", i);
    for (size_t i = 0; i < b->seen_count; i++) snprintf(b->seen[i].symbol, sizeof b->seen[i].symbol, "BENCH%zu", i);
}

oc_status bench_folder_make(bench_model *b, char folder[64])
{
    snprintf(folder, 64, "/tmp/outcry-bench-XXXXXX");
    if (!mkdtemp(folder)) {
        folder[0] = 0;
        return OC_FAIL(OC_EFAILED, "bench: no folder can be made in /tmp");
    }
    bundle_name(b->bundle);
    return oc_bundle_save(b->bundle, folder);
}

void bench_folder_remove(const char *folder)
{
    static const char *const names[] = {"bundle.json", "weights.safetensors"};
    char path[OC_PATH_MAX];
    for (int i = 0; i < 2 && folder[0]; i++)
        if (oc_path_join(path, sizeof path, folder, names[i]) == OC_OK) unlink(path);
    if (folder[0]) rmdir(folder);
}

static OC_MUST bench_open(serve_bench *s, const oc_model_shape *shape)
{
    char socket[96], address[128];
    OC_TRY(bench_model_open(&s->b, shape, 1));
    OC_TRY(oc_sliding_open(&s->sliding, s->b.model, 1));
    OC_TRY(bench_folder_make(&s->b, s->folder));
    snprintf(socket, sizeof socket, "%s/s", s->folder);
    snprintf(address, sizeof address, "unix:%s", socket);
    const oc_server_config config = {.bundle = s->folder,
                                     .socket = socket,
                                     .threads = 1,
                                     .batch_max = 48,
                                     .clients_max = 2,
                                     .sessions_max = 1,
                                     .ring_bytes = 1 << 20,
                                     .memory_max_bytes = (size_t)1 << 30,
                                     .advance_budget = 1,
                                     .spin_ns = 3600 * OC_SECOND_NS};
    OC_TRY(oc_server_open(&s->server, &config));
    OC_TRY(oc_client_open(&s->client, address, OC_SECOND_NS));
    const oc_client_model *m = oc_client_describe(s->client);
    OC_TRY(oc_client_session_open(s->client, m->name, "BENCH", m->schema_low, m->schema_high, OC_SECOND_NS,
                                  OC_SECOND_NS, &s->session));
    return OC_OK;
}

static void bench_close(serve_bench *s)
{
    oc_client_close(s->client);
    oc_server_close(s->server);
    oc_sliding_close(s->sliding);
    bench_folder_remove(s->folder);
    bench_model_close(&s->b);
}

static OC_MUST answer_await(serve_bench *s)
{
    oc_wire_reply reply;
    const int64_t end = oc_clock_monotonic_ns() + 10 * OC_SECOND_NS;
    while (oc_client_poll(s->client, &reply, 1) != 1) {
        oc_ring_pause();
        if (oc_clock_monotonic_ns() > end) return OC_FAIL(OC_EFAILED, "bench: the server does not answer");
    }
    return OC_OK;
}

static OC_MUST window_direct(serve_bench *s)
{
    return oc_model_predict(s->b.model, s->b.rows, 1, s->b.answers, s->b.answers_cap);
}

static OC_MUST window_ring(serve_bench *s)
{
    OC_TRY(oc_client_window(s->client, 0, (oc_stamp){.sequence = ++s->sequence}, s->b.rows, (size_t)s->b.shape.steps));
    return answer_await(s);
}

static OC_MUST push_direct(serve_bench *s)
{
    const uint32_t slot = 0;
    uint8_t full;
    return oc_sliding_step(s->sliding, &slot, s->b.rows, 1, s->b.answers, s->b.answers_cap, &full);
}

static OC_MUST push_ring(serve_bench *s)
{
    s->sequence++;
    OC_TRY(
        oc_client_push(s->client, s->session, (oc_stamp){.sequence = s->sequence}, s->b.rows, (uint32_t)s->sequence));
    return answer_await(s);
}

static OC_MUST nothing(serve_bench *s)
{
    (void)s;
    return OC_OK;
}

/* The least that is answered: a session is closed that is not open. A record each way, the batcher's round, no model.
 */
static OC_MUST empty_ring(serve_bench *s)
{
    OC_TRY(oc_client_session_close(s->client, 0));
    return answer_await(s);
}

static OC_MUST push_after(serve_bench *s)
{
    const uint32_t slot = 0;
    return oc_sliding_advance(s->sliding, &slot, 1);
}

/* The least p50 of the repeats, microseconds. */
static OC_MUST time_it(serve_bench *s, const oc_bench_options *o, oc_status (*run)(serve_bench *),
                       oc_status (*after)(serve_bench *), double *p50, double *p99)
{
    bench_times times;
    *p50 = *p99 = HUGE_VAL;
    OC_TRY(bench_times_open(&times));
    oc_status status = OC_OK;
    for (int i = 0; i < o->repeats && status == OC_OK; i++) {
        const int64_t end = oc_clock_monotonic_ns() + (int64_t)(o->seconds * 1e9);
        times.count = 0;
        for (int64_t start = 0; start < end && status == OC_OK;) {
            start = oc_clock_monotonic_ns();
            status = run(s);
            bench_times_add(&times, oc_clock_monotonic_ns() - start);
            if (status == OC_OK) status = after(s);
            while (oc_clock_monotonic_ns() < start + period_ns) oc_ring_pause();
        }
        *p50 = fmin(*p50, bench_times_us(&times, 0.5));
        *p99 = fmin(*p99, bench_times_us(&times, 0.99));
    }
    bench_times_close(&times);
    return status;
}

static const struct {
    const char *name;
    oc_status (*direct)(serve_bench *), (*after)(serve_bench *), (*ring)(serve_bench *);
} rows[] = {
    {"push", push_direct, push_after, push_ring},
    {"window", window_direct, nothing, window_ring},
};

static OC_MUST measure(serve_bench *s, const oc_bench_options *o, oc_bench_report *report)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double direct, ring, direct_tail, ring_tail;
        char name[64];
        OC_TRY(time_it(s, o, rows[i].direct, rows[i].after, &direct, &direct_tail));
        OC_TRY(time_it(s, o, rows[i].ring, nothing, &ring, &ring_tail));
        snprintf(name, sizeof name, "serve_%s_p50", rows[i].name);
        oc_bench_add(report, name, ring, "us", "called directly", direct,
                     "round trip over the rings, both sides spinning");
        snprintf(name, sizeof name, "serve_%s_added_p50", rows[i].name);
        oc_bench_add(report, name, ring - direct, "us", "", (double)NAN, "may be below 0 where the machine is busy");
        snprintf(name, sizeof name, "serve_%s_p99", rows[i].name);
        oc_bench_add(report, name, ring_tail, "us", "called directly", direct_tail, "");
    }
    double empty, tail;
    OC_TRY(time_it(s, o, empty_ring, nothing, &empty, &tail));
    oc_bench_add(report, "serve_empty_p50", empty, "us", "", (double)NAN,
                 "round trip of an empty model: the close of a session that is not open");
    oc_bench_add(report, "serve_empty_p99", tail, "us", "", (double)NAN, "");
    return OC_OK;
}

oc_status oc_bench_serve(const oc_bench_options *o, oc_bench_report *report)
{
    if (o->load.rate > 0 || o->load.share > 0 || o->load.sweep || o->load.overload) return bench_serve_load(o, report);
    const oc_model_shape shape = bench_shape(o);
    serve_bench s = {.sequence = 0};
    oc_status status = bench_open(&s, &shape);
    if (status == OC_OK) status = measure(&s, o, report);
    oc_client_close(s.client); /* its server spins: it goes before the next is measured */
    oc_server_close(s.server);
    s.client = NULL;
    s.server = NULL;
    if (status == OC_OK) status = bench_serve_http(&s.b, s.folder, o, report);
    bench_close(&s);
    return status;
}
