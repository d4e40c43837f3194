/* bench_load.c - server and clients of a load, the schedule, the loop. */
#include "tools/bench/bench_load.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/random.h"
#include "serve/client/ring.h"
#include "serve/metrics.h"

enum { LOST_SECONDS = 5, GOOD_ANSWERS = 100, SHOWN = 10, LEAD_NS = 2000000 };

/* Of a client's requests: at least two of the largest. Under an overload of rows or packets no more than needed, since
 * nothing else bounds what waits of them: a row that was sent belongs to its window. */
static size_t ring_bytes(const load_rig *r)
{
    const size_t window = oc_ring_record_bytes((size_t)(r->b.shape.steps * r->b.shape.inputs) * sizeof(float)),
                 events = oc_ring_record_bytes(OC_WIRE_EVENTS_MAX * OC_WIRE_EVENT_BYTES);
    size_t bytes = r->o->overload && r->o->mode != OC_BENCH_WINDOW ? 1 << 14 : 1 << 20;
    while (bytes < 2 * window || (r->o->mode == OC_BENCH_TICK && bytes < 2 * events)) bytes *= 2;
    return bytes;
}

static OC_MUST server_open(load_rig *r, const oc_bench_options *o)
{
    char socket[96];
    snprintf(socket, sizeof socket, "%s/s", r->folder);
    snprintf(r->address, sizeof r->address, "unix:%s", socket);
    const oc_server_config config = {.bundle = r->folder,
                                     .socket = socket,
                                     .threads = 1,
                                     .batch_max = o->batch           ? o->batch
                                                  : o->load.overload ? 8
                                                                     : 48,
                                     .clients_max = OC_BENCH_CLIENTS_MAX + 16,
                                     .sessions_max = OC_BENCH_CLIENTS_MAX,
                                     .ring_bytes = ring_bytes(r),
                                     .memory_max_bytes = (size_t)1 << 31,
                                     .advance_budget = 1,
                                     .queue_max_ns = o->load.queue_max_ns,
                                     .ticks = bench_load_streams(r),
                                     .spin_ns = o->load.http ? 50000 : 3600 * OC_SECOND_NS};
    OC_TRY(oc_server_open(&r->server, &config));
    if (!o->load.http) return OC_OK;
    const oc_http_config front = {.address = "127.0.0.1:0",
                                  .socket = socket,
                                  .threads = 2,
                                  .connections_max = OC_BENCH_CLIENTS_MAX,
                                  .body_max = 1 << 22,
                                  .batch_max = 64,
                                  .spin_ns = 200000,
                                  .timeout_ns = 10 * OC_SECOND_NS,
                                  .sequences_max = OC_BENCH_CLIENTS_MAX,
                                  .sequence_idle_ns = 60 * OC_SECOND_NS,
                                  .sequence_period_ns = OC_SECOND_NS};
    OC_TRY(oc_http_open(&r->front, &front, r->server));
    snprintf(r->address, sizeof r->address, "%s", oc_http_address(r->front));
    return OC_OK;
}

oc_status bench_load_open(load_rig *r, const oc_bench_options *o)
{
    const oc_model_shape shape = bench_shape(o);
    *r = (load_rig){.o = &o->load,
                    .packet_events = 1,
                    .by = o->load.http                    ? &bench_load_http
                          : o->load.mode == OC_BENCH_TICK ? &bench_load_ticks
                                                          : &bench_load_ring};
    OC_TRY(bench_model_open(&r->b, &shape, LOAD_BATCH));
    if (o->load.mode == OC_BENCH_TICK) OC_TRY(bench_load_market(r));
    OC_TRY(bench_folder_make(&r->b, r->folder));
    OC_TRY(server_open(r, o));
    OC_TRY(oc_memory_new_array(&r->clients, (size_t)o->load.clients, sizeof *r->clients, "clients"));
    for (int i = 0; i < o->load.clients; i++) {
        r->clients[i].http.socket = -1;
        r->client_count++;
        OC_TRY(r->by->open(r, &r->clients[i], i));
    }
    return OC_OK;
}

void bench_load_close(load_rig *r)
{
    for (int i = 0; i < r->client_count; i++) r->by->close(&r->clients[i]);
    oc_memory_free(r->clients);
    oc_http_close(r->front);
    oc_server_close(r->server);
    bench_folder_remove(r->folder);
    bench_market_close(&r->market);
    bench_model_close(&r->b);
}

double bench_load_advance_s(const load_rig *r)
{
    oc_figures f;
    oc_server_figures(r->server, &f);
    /* sessions say a row a second, so that the load that the server admits them with is an advance */
    return f.stats.sessions ? 1e-9 * (double)f.stats.load_ppb / (double)f.stats.sessions : (double)NAN;
}

/* Request after request: when it is due, whose it is. A pure function of seed, rates, clients and burst. */
typedef struct schedule {
    const load_rig *r;
    const load_segment *segments;
    int count, segment, in_burst, client;
    uint32_t key;
    uint64_t burst;
    double at_s, begun_s; /* of the next burst; of the segment */
} schedule;

static double gap_s(schedule *s)
{
    const double u = oc_random_uniform(s->key, 2 * s->burst);
    const double mean = s->r->o->burst / s->segments[s->segment].rate;
    return mean * (s->r->o->even ? 0.75 + 0.5 * u : -log1p(-u));
}

static void burst_next(schedule *s)
{
    s->at_s += gap_s(s);
    while (s->segment < s->count && s->at_s >= s->begun_s + s->segments[s->segment].seconds) {
        s->begun_s += s->segments[s->segment].seconds;
        s->at_s = s->begun_s; /* another rate begins with a gap of its own */
        if (++s->segment < s->count) s->at_s += gap_s(s);
    }
    s->client = (int)oc_random_below(s->key, 2 * s->burst + 1, (uint64_t)s->r->client_count);
    s->burst++;
    s->in_burst = 0;
}

static schedule schedule_begin(const load_rig *r, const load_segment *segments, int count)
{
    schedule s = {.r = r, .segments = segments, .count = count, .key = oc_random_key(r->o->seed, OC_RANDOM_TEST, 7, 0)};
    burst_next(&s);
    return s;
}

static void schedule_next(schedule *s)
{
    if (++s->in_burst == s->r->o->burst)
        burst_next(s);
    else
        s->client = (s->client + 1) % s->r->client_count;
}

/* What comes, before it comes: enough to see it, and a number by which two runs are known to be the same. */
static void schedule_print(const load_rig *r, const load_segment *segments, int count)
{
    char text[OC_HASH_TEXT], shown[SHOWN * 24] = "";
    uint64_t requests = 0, chain[2] = {0};
    size_t length = 0;
    for (schedule s = schedule_begin(r, segments, count); s.segment < count; schedule_next(&s), requests++) {
        const int64_t item[4] = {(int64_t)(1e9 * s.at_s), s.client, (int64_t)chain[0], (int64_t)chain[1]};
        const oc_hash hash = oc_hash_bytes(item, sizeof item);
        chain[0] = hash.low;
        chain[1] = hash.high;
        if (requests < SHOWN)
            length += (size_t)snprintf(shown + length, sizeof shown - length, " %.1f:%d", 1e6 * s.at_s, s.client);
    }
    oc_log(OC_LOG_INFO,
           "bench: schedule: seed %llu, %llu requests in bursts of %d over %d clients, %s gaps, hash %s; first "
           "(us:client)%s",
           (unsigned long long)r->o->seed, (unsigned long long)requests, r->o->burst, r->client_count,
           r->o->even ? "even" : "poisson", oc_hash_text((oc_hash){chain[0], chain[1]}, text), shown);
}

typedef struct loop {
    load_segment *segments;
    int count;
    int64_t start_ns;
    uint64_t under_way;
    int64_t good_due_ns[LOAD_SEGMENTS_MAX];
    int good[LOAD_SEGMENTS_MAX], halves; /* answered in a row; readings of memory taken */
} loop;

static int segment_of(const loop *l, int64_t due_ns)
{
    double end = 0;
    for (int i = 0; i < l->count - 1; i++)
        if (1e-9 * (double)(due_ns - l->start_ns) < (end += l->segments[i].seconds)) return i;
    return l->count - 1;
}

static void good_count(loop *l, int i, int64_t due_ns, bool good)
{
    double begun = 0;
    for (int k = 0; k < i; k++) begun += l->segments[k].seconds;
    if (!good) {
        l->good[i] = 0;
        return;
    }
    if (l->good[i]++ == 0) l->good_due_ns[i] = due_ns;
    if (l->good[i] == GOOD_ANSWERS && isnan(l->segments[i].good_s))
        l->segments[i].good_s = 1e-9 * (double)(l->good_due_ns[i] - l->start_ns) - begun;
}

static void answer_count(loop *l, const load_answer *a, int64_t now)
{
    const int i = segment_of(l, a->due_ns);
    load_segment *s = &l->segments[i];
    if (a->outcome == LOAD_OK) oc_spread_add(&s->spread, now - a->due_ns);
    s->late += a->outcome == LOAD_LATE;
    s->refused += a->outcome == LOAD_REFUSED;
    s->failed += a->outcome == LOAD_FAILED;
    good_count(l, i, a->due_ns, a->outcome == LOAD_OK);
}

static OC_MUST answers_take(load_rig *r, loop *l)
{
    for (int i = 0; i < r->client_count; i++) {
        bool any = true;
        while (l->under_way > 0) {
            load_answer a = {0};
            OC_TRY(r->by->poll(r, &r->clients[i], &a, &any));
            if (!any) break;
            answer_count(l, &a, oc_clock_monotonic_ns());
            l->under_way--;
        }
    }
    return OC_OK;
}

static OC_MUST one_send(load_rig *r, loop *l, int client, int64_t due_ns)
{
    l->segments[segment_of(l, due_ns)].due++;
    const oc_status status = r->by->send(r, &r->clients[client], due_ns);
    if (status == OC_EAGAIN) {
        answer_count(l, &(load_answer){due_ns, LOAD_REFUSED}, due_ns);
        return OC_OK;
    }
    l->under_way += status == OC_OK;
    return status;
}

/* Readings fall between requests: one costs some 20 us, which the requests that wait meanwhile are not spared. */
static void memory_read(loop *l, double at_s)
{
    double begun = 0;
    for (int i = 0; i < l->count; begun += l->segments[i++].seconds) {
        const bool end = l->halves == 2 * i + 1, half = l->halves == 2 * i;
        if (!(half || end) || at_s < begun + (half ? 0.5 : 1) * l->segments[i].seconds) continue;
        const size_t bytes = oc_memory_resident_bytes();
        *(half ? &l->segments[i].half_bytes : &l->segments[i].end_bytes) = bytes > 0 ? (double)bytes : (double)NAN;
        l->halves++;
    }
}

oc_status bench_load_run(load_rig *r, load_segment *segments, int count)
{
    loop l = {.segments = segments, .count = count};
    double seconds = 0;
    for (int i = 0; i < count; i++) {
        segments[i] = (load_segment){.rate = segments[i].rate,
                                     .seconds = segments[i].seconds,
                                     .good_s = (double)NAN,
                                     .half_bytes = (double)NAN,
                                     .end_bytes = (double)NAN};
        seconds += segments[i].seconds;
    }
    schedule_print(r, segments, count);
    schedule s = schedule_begin(r, segments, count);
    l.start_ns = oc_clock_monotonic_ns() + LEAD_NS;
    const int64_t end_ns = l.start_ns + (int64_t)(1e9 * seconds) + LOST_SECONDS * OC_SECOND_NS;
    for (int64_t now = 0; (s.segment < count || l.under_way > 0) && now < end_ns;) {
        now = oc_clock_monotonic_ns();
        for (int n = 0; n < 64 && s.segment < count; n++, schedule_next(&s)) { /* answers are looked for in between */
            const int64_t due_ns = l.start_ns + (int64_t)(1e9 * s.at_s);
            if (due_ns > now) break;
            OC_TRY(one_send(r, &l, s.client, due_ns));
        }
        OC_TRY(answers_take(r, &l));
        memory_read(&l, 1e-9 * (double)(now - l.start_ns));
        oc_ring_pause();
    }
    for (; s.segment < count; schedule_next(&s)) segments[s.segment].due++, l.under_way++; /* could not even be sent */
    memory_read(&l, seconds);
    memory_read(&l, seconds);
    for (int i = 0; i < count; i++) {
        load_segment *g = &segments[i];
        g->lost = g->due - g->spread.count - g->late - g->refused - g->failed;
    }
    return OC_OK;
}
