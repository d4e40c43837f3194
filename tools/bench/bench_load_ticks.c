/* bench_load_ticks.c - streams under load: packets of a simulated order book, each a request that makes one row. Every
 * stream takes the same market, over and over; a lap's events are later and numbered on, and its snapshot takes the
 * place of the book. An answer brings back its deadline, and with it when its packet was due. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "market/features.h"
#include "tools/bench/bench_load.h"

enum { MARKET_EVENTS = 20000, LAP_NS = 100000000, WARM_PACKETS_MAX = 20000 };
static const int64_t no_deadline_ns = 3600 * OC_SECOND_NS;

static OC_MUST engine_open(const load_rig *r, oc_features **engine)
{
    const char *names[sizeof oc_bench_forty / sizeof *oc_bench_forty];
    const size_t inputs = (size_t)r->b.shape.inputs;
    if (inputs > sizeof names / sizeof *names)
        return OC_FAIL(OC_EUSAGE, "--mode tick: --inputs %zu, but its features are %zu at most", inputs,
                       sizeof names / sizeof *names);
    for (size_t i = 0; i < inputs; i++) names[i] = oc_bench_forty[i];
    const oc_feature_spec spec = {.features = names, .feature_count = inputs, .sample = "packet"};
    return oc_features_open(engine, &spec, &r->market.instrument, 1);
}

oc_status bench_load_market(load_rig *r)
{
    oc_features *engine;
    size_t packets = 0;
    OC_TRY(bench_market_open(&r->market, r->o->seed, MARKET_EVENTS));
    for (size_t i = 0; i < r->market.count; i++) packets += (r->market.events[i].flags & OC_EVENT_LAST) != 0;
    r->packet_events = (double)r->market.count / (double)packets;
    OC_TRY(engine_open(r, &engine));
    r->b.bundle->schema = oc_features_schema(engine);
    for (int i = 0; i < r->b.shape.inputs; i++)
        snprintf(r->b.bundle->features[i], sizeof r->b.bundle->features[i], "%s", oc_bench_forty[i]);
    oc_features_close(engine);
    return OC_OK;
}

oc_stream_config bench_load_streams(const load_rig *r)
{
    return (oc_stream_config){.sample = "packet",
                              .streams = r->o->mode == OC_BENCH_TICK ? r->o->clients : 0,
                              .instruments_max = 1,
                              .memory_max_bytes = (size_t)1 << 31};
}

oc_status bench_load_engine_s(const load_rig *r, double *packet_s)
{
    oc_features *engine;
    const oc_feature_row *row;
    int64_t least = INT64_MAX;
    OC_TRY(engine_open(r, &engine));
    oc_status status = OC_OK;
    for (int lap = 0; lap < 3 && status == OC_OK; lap++) {
        oc_features_reset(engine);
        oc_features_begin(engine);
        const int64_t start = oc_clock_monotonic_ns();
        for (size_t i = 0; i < r->market.count && status == OC_OK; i++)
            status = oc_features_apply(engine, &r->market.events[i], &row);
        const int64_t took = oc_clock_monotonic_ns() - start;
        least = took < least ? took : least;
    }
    oc_features_close(engine);
    *packet_s = 1e-9 * (double)least * r->packet_events / (double)r->market.count;
    return status;
}

/* The client's next packet, as it is in this lap, in r->packet; how many events. */
static size_t packet_make(load_rig *r, const load_client *c)
{
    const oc_event *from = r->market.events + c->at;
    size_t n = 0;
    do {
        r->packet[n] = from[n];
        r->packet[n].receive_ns += c->later_ns;
        r->packet[n].sequence += c->behind;
    } while (!(from[n++].flags & OC_EVENT_LAST));
    return n;
}

static void packet_sent(const load_rig *r, load_client *c, size_t events)
{
    const oc_event *first = r->market.events, *last = first + r->market.count - 1;
    c->at += events;
    if (c->at < r->market.count) return;
    c->at = 0;
    c->later_ns += last->receive_ns - first->receive_ns + LAP_NS;
    c->behind += last->sequence;
}

static int64_t patience_ns(const load_rig *r)
{
    return r->o->deadline_ns > 0 ? r->o->deadline_ns : no_deadline_ns;
}

static OC_MUST ticks_send(load_rig *r, load_client *c, int64_t due_ns)
{
    const size_t events = packet_make(r, c);
    const oc_stamp stamp = {.deadline_ns = due_ns + patience_ns(r)};
    OC_TRY(oc_client_tick(c->ring, c->session, stamp, r->packet, events));
    packet_sent(r, c, events);
    return OC_OK;
}

/* Packet by packet until one is answered with probabilities: its window and the history of its features are there. */
static OC_MUST ticks_warm(load_rig *r, load_client *c)
{
    oc_wire_reply reply;
    for (int i = 0; i < WARM_PACKETS_MAX; i++) {
        const size_t events = packet_make(r, c);
        OC_TRY(oc_client_tick(c->ring, c->session, (oc_stamp){.deadline_ns = 0}, r->packet, events));
        packet_sent(r, c, events);
        const int64_t end_ns = oc_clock_monotonic_ns() + 10 * OC_SECOND_NS;
        while (oc_client_poll(c->ring, &reply, 1) != 1) {
            if (oc_clock_monotonic_ns() > end_ns) return OC_FAIL(OC_EFAILED, "bench: the server does not answer");
            oc_client_wait(c->ring, 0, OC_SECOND_NS);
        }
        if (reply.state == OC_REPLY_OK) return OC_OK;
        if (oc_reply_refused(reply.state) || reply.state == OC_REPLY_FAILED)
            return OC_FAIL(OC_EFAILED, "bench: the server refuses a packet (state %u)", reply.state);
    }
    return OC_FAIL(OC_EFAILED, "bench: no answer after %d packets (state %u)", WARM_PACKETS_MAX, reply.state);
}

static OC_MUST ticks_open(load_rig *r, load_client *c, int number)
{
    const oc_instrument *i = &r->market.instrument;
    oc_wire_instrument universe = {.tick = i->tick.mantissa,
                                   .lot = i->lot.mantissa,
                                   .tick_exponent = i->tick.exponent,
                                   .lot_exponent = i->lot.exponent};
    oc_client_stream stream;
    (void)number;
    memcpy(universe.symbol, i->symbol, sizeof universe.symbol);
    OC_TRY(oc_client_open(&c->ring, r->address, 5 * OC_SECOND_NS));
    OC_TRY(oc_client_stream_open(c->ring, oc_client_describe(c->ring)->name, &universe, 1, OC_SECOND_NS, 1,
                                 5 * OC_SECOND_NS, &stream));
    c->session = stream.id;
    return ticks_warm(r, c);
}

static OC_MUST ticks_poll(load_rig *r, load_client *c, load_answer *a, bool *any)
{
    oc_wire_reply reply;
    *any = oc_client_poll(c->ring, &reply, 1) == 1;
    if (!*any) return OC_OK;
    a->due_ns = reply.deadline_ns - patience_ns(r);
    a->outcome = bench_load_outcome(reply.state);
    return OC_OK;
}

static void ticks_close(load_client *c)
{
    oc_client_close(c->ring);
}

/* ---- over HTTP: bench_load_ways.c has one request of a connection under way ------------------------------------- */

oc_status bench_load_packet_request(load_rig *r, load_client *c)
{
    char path[64];
    const size_t events = packet_make(r, c);
    snprintf(path, sizeof path, "/outcry/streams/bench-%d/events", (int)c->session);
    OC_TRY(bench_http_post(&c->http, r->address, path, r->packet, events * sizeof *r->packet));
    packet_sent(r, c, events);
    return OC_OK;
}

oc_status bench_load_stream_http(load_rig *r, load_client *c, int number)
{
    char path[64], body[256], tick[OC_DECIMAL_TEXT], lot[OC_DECIMAL_TEXT];
    bool answered = false;
    c->session = (uint32_t)number;
    if (!oc_decimal_text(r->market.instrument.tick, tick, sizeof tick) ||
        !oc_decimal_text(r->market.instrument.lot, lot, sizeof lot))
        return OC_FAIL(OC_EFAILED, "bench: a tick or lot of the market is too long");
    snprintf(path, sizeof path, "/outcry/streams/bench-%d", number);
    const int bytes = snprintf(body, sizeof body,
                               "{\"universe\":[{\"symbol\":\"%s\",\"tick\":\"%s\",\"lot\":\"%s\"}],\"begins\":true,"
                               "\"period_ns\":%lld,\"timeout\":%lld}",
                               r->market.instrument.symbol, tick, lot, (long long)OC_SECOND_NS,
                               (long long)(r->o->deadline_ns / 1000));
    OC_TRY(bench_http_connect(&c->http, r->address));
    OC_TRY(bench_http_post(&c->http, r->address, path, body, (size_t)bytes));
    OC_TRY(bench_http_call(&c->http));
    for (int i = 0; i < WARM_PACKETS_MAX && !answered; i++) {
        OC_TRY(bench_load_packet_request(r, c));
        OC_TRY(bench_http_call_for(&c->http, "\"hold_", &answered));
        answered = !answered; /* ok, or late */
    }
    if (!answered) return OC_FAIL(OC_EFAILED, "bench: no answer after %d packets", WARM_PACKETS_MAX);
    return OC_OK;
}

const load_transport bench_load_ticks = {ticks_open, ticks_send, ticks_poll, ticks_close};
