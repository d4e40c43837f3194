/* fuzz_batcher.c - any requests, and any shared memory, before a whole batcher with its model and sessions. The first
 * byte chooses: 255: what follows is the ring itself, with its tail; else it is a program of requests of five bytes
 * each, or of orders of the loader to one of two versions, or of streams and their events. After every round: no
 * probabilities but of a good answer, which sum to one; then the client goes, and no session is left. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nn/sample_bundle.h"
#include "serve/batcher.h"

enum { T = 4, F = 3, RING = 4096, SESSIONS = 3, STREAMS = 2, INSTRUMENTS = 2, ROUNDS_MAX = 400 };
static const char *const names[F] = {"return:1", "imbalance:1", "ofi:1"};
static const oc_instrument universe[INSTRUMENTS] = {
    {.symbol = "A", .tick = {1, 0, 0}, .lot = {1, 0, 0}, .order_tick = {1, 0, 0}},
    {.symbol = "B", .tick = {1, 0, 0}, .lot = {1, 0, 0}, .order_tick = {1, 0, 0}}};

static oc_batcher batcher;
static oc_channel channel;
static oc_ring requests, replies;

static void must(int good)
{
    if (!good) abort();
}

static void features_set(oc_bundle *b)
{
    const oc_feature_spec spec = {.features = names, .feature_count = F, .sample = "packet"};
    oc_features *engine;
    must(oc_features_open(&engine, &spec, universe, INSTRUMENTS) == OC_OK);
    b->schema = oc_features_schema(engine);
    for (int i = 0; i < F; i++) memcpy(b->features[i], names[i], strlen(names[i]) + 1);
    oc_features_close(engine);
}

static void batcher_make(void)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, T, F, 1, 4, 2, 1};
    const oc_batcher_config config = {
        .batch_max = 3,
        .sessions_max = SESSIONS,
        .memory_max_bytes = 1 << 20,
        .budget = 0.9,
        .two_slots = true,
        .ticks = {.sample = "packet", .streams = STREAMS, .instruments_max = INSTRUMENTS, .memory_max_bytes = 8 << 20}};
    static oc_slot box;
    static oc_version second;
    static oc_bundle *bundle;
    static oc_version version;
    static oc_ensemble ensemble;
    int fd;
    must(sample_bundle(&bundle, &shape, 3.0f, 4.0, 5) == OC_OK);
    features_set(bundle);
    oc_version_of_bundle(&version, &ensemble, bundle);
    must(oc_batcher_init(&batcher, 0, &version, &config, &channel, 1) == OC_OK);
    second = version;
    second.generation = 2;
    const oc_slot_config slot = oc_batcher_slot_config(&shape, &config, 0);
    must(oc_slot_open(&box, &second, &slot) == OC_OK);
    batcher.offer = &box;
    must(oc_channel_make(&channel, RING, &fd) == OC_OK);
    close(fd);
}

static void client_make(void)
{
    oc_ring *const theirs[] = {&channel.requests, &channel.replies}, *const ours[] = {&requests, &replies};
    memset(channel.region, 0, OC_WIRE_REGION_OFFSET + RING);
    for (int i = 0; i < 2; i++) {
        oc_ring_init(theirs[i], theirs[i]->shared, theirs[i]->data, theirs[i]->capacity);
        oc_ring_init(ours[i], theirs[i]->shared, theirs[i]->data, theirs[i]->capacity);
    }
    for (int i = 0; i < SESSIONS; i++) batcher.sessions[i] = (oc_session){.id = 0};
    for (int i = 0; i < STREAMS; i++) batcher.streams[i].generation = 0;
    batcher.due_count = 0;
    batcher.stats = (oc_batcher_stats){.batches = 0};
    batcher.order = OC_ORDER_MAKE(1, 0, 0); /* every input finds the first version live */
    for (int i = 0; i < 8; i++) (void)oc_batcher_round(&batcher);
    batcher.advance_ns = 1000; /* not measured: the same inputs find the same admissions */
    for (int i = 0; i < 2; i++) batcher.slots[i].advance_ns = 1000;
    must(batcher.live_generation == 1 && batcher.other_generation == 2);
    channel.state = OC_CHANNEL_LIVE;
    oc_batcher_welcome(&batcher);
}

static void replies_check(void)
{
    oc_wire_reply r;
    while (oc_ring_peek(&replies, &r, sizeof r) == OC_RING_DONE) {
        oc_ring_copy(&replies, (unsigned char *)&r + OC_WIRE_LINE, sizeof r - OC_WIRE_LINE);
        oc_ring_take(&replies, sizeof r);
        const float *p = r.probabilities[0];
        must(r.bytes == sizeof r && r.state < OC_REPLY_STATE_COUNT);
        must(r.model_version == 1 || r.model_version == 2);
        must(p[0] >= 0 && p[1] >= 0 && p[2] >= 0 && fabsf(p[0] + p[1] + p[2] - 1) < 1e-5f);
        must(r.state == OC_REPLY_OK || p[2] == 1);
    }
}

/* What the loader may want at any time. */
static void order_put(const uint8_t op[5])
{
    batcher.order = OC_ORDER_MAKE(1u + (op[1] & 1), (op[1] >> 1) & 1, (uint32_t)op[2] << 9);
}

/* kind; session and how much payload; run length; sequence; first number. */
static void request_put(const uint8_t op[5], uint64_t *sequence)
{
    static const uint32_t sessions[] = {0, 1u << 12, 1u << 12 | 1, 2u << 12, 3u << 12, 1u << 12 | 2, UINT32_MAX, 1};
    static const size_t cells[] = {F, T * F, (T - 1) * F, 2 * F, 0, F + 1, T * F - 1, 1};
    float payload[64] = {(float)op[4] - 128};
    const oc_bundle *b = batcher.slots[0].version->first;
    oc_wire_open open = {.schema_low = b->schema.low, .schema_high = b->schema.high, .period_ns = (op[4] % 4) * 10000};
    const bool opens = op[0] % 8 == OC_REQUEST_OPEN;
    const size_t bytes = opens ? sizeof open : cells[op[1] >> 5] * sizeof *payload;
    if (op[4] == 255) payload[0] = (float)NAN;
    for (int i = 1; i < T * F; i++) payload[i] = (float)(i * op[4] % 17) - 8;
    memcpy(open.model, b->name, strlen(b->name));
    open.model[0] = (char)(open.model[0] + (op[2] == 255));
    *sequence += op[3] % 4;
    const oc_wire_request q = {.bytes = (uint32_t)oc_ring_record_bytes(bytes),
                               .count = (uint32_t)bytes + (op[3] == 255 ? 4000 : 0),
                               .kind = op[0] % 8,
                               .session = opens ? 0 : sessions[op[1] % 8],
                               .run_length = op[2],
                               .deadline_ns = op[3] == 254,
                               .sequence = *sequence};
    (void)oc_ring_put(&requests, &q, sizeof q, opens ? (const void *)&open : payload, bytes);
}

/* Openings, right or with one byte of them wrong, closings, and up to five events, of which the last has one byte
 * wrong. */
static void ticks_put(const uint8_t op[5], uint64_t *sequence)
{
    static const uint32_t streams[] = {1u << 8, 1u << 8 | 1, 2u << 8, 0};
    struct {
        oc_wire_stream head;
        oc_wire_instrument universe[INSTRUMENTS];
    } open = {.head = {.period_ns = 10000, .instruments = INSTRUMENTS, .flags = op[1] & 1}};
    oc_event events[5];
    oc_wire_request q = {.session = streams[op[1] % 4], .sequence = *sequence, .deadline_ns = op[1] == 255};
    const size_t count = 1 + op[1] / 4 % 5;
    const void *payload = NULL;
    size_t bytes = 0;
    memset(events, 0, sizeof events);
    for (size_t i = 0; i < count; i++) {
        *sequence += 1;
        events[i] = (oc_event){.receive_ns = (int64_t)*sequence * 1000,
                               .sequence = *sequence,
                               .instrument = op[2] & 1,
                               .kind = (uint8_t)(1 + (op[2] >> 1) % (OC_EVENT_KIND_END - 1)),
                               .side = (uint8_t)(1 + (op[2] >> 6) % 2),
                               .flags = i + 1 == count || (op[2] & 32),
                               .as.bar = {op[2] + 5, op[2] + 9, op[2] + 1, op[2] + 7, 3}};
    }
    if (op[4]) ((unsigned char *)&events[count - 1])[op[3] % sizeof *events] ^= op[4];
    memcpy(open.head.model, batcher.name, strlen(batcher.name));
    for (int i = 0; i < INSTRUMENTS; i++)
        open.universe[i] = (oc_wire_instrument){.symbol = {universe[i].symbol[0]}, .tick = 1, .lot = 1};
    if (op[4] > 200) ((unsigned char *)&open)[op[3] % sizeof open] ^= op[4];
    q.kind = op[0] % 8 < 2 ? OC_REQUEST_STREAM_OPEN : op[0] % 8 == 2 ? OC_REQUEST_STREAM_CLOSE : OC_REQUEST_TICK;
    if (q.kind == OC_REQUEST_STREAM_OPEN) bytes = sizeof open, payload = &open;
    if (q.kind == OC_REQUEST_TICK) bytes = count * sizeof *events, payload = events;
    q.bytes = (uint32_t)oc_ring_record_bytes(bytes);
    q.count = (uint32_t)bytes;
    (void)oc_ring_put(&requests, &q, sizeof q, payload, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint64_t sequence = 1;
    if (!batcher.slots[0].version) batcher_make();
    if (bytes < 6) return 0;
    client_make();
    if (data[0] == 255) {
        memcpy(channel.requests.data, data + 6, bytes - 6 < RING ? bytes - 6 : RING);
        channel.requests.shared->tail = (uint64_t)data[1] << 6 | (uint64_t)data[2] << 14 | (data[3] & 1);
    }
    for (size_t at = 1; data[0] != 255 && at + 5 <= bytes; at += 5) {
        if (data[at] & 0x40)
            ticks_put(data + at, &sequence);
        else if (data[at] % 8 == 7)
            order_put(data + at);
        else
            request_put(data + at, &sequence);
        if ((data[at] & 0x80) == 0) continue; /* else others pile up */
        (void)oc_batcher_round(&batcher);
        replies_check();
    }
    for (int i = 0; i < ROUNDS_MAX && oc_batcher_round(&batcher); i++) replies_check();
    replies_check();
    if (channel.state == OC_CHANNEL_LIVE) channel.state = OC_CHANNEL_LEAVING;
    (void)oc_batcher_round(&batcher);
    must(channel.state == OC_CHANNEL_LEFT && batcher.stats.sessions == 0 && !batcher.history.busy);
    must(batcher.stats.streams == 0 && batcher.stats.load_ppb == 0);
    for (int i = 0; i < SESSIONS; i++) must(batcher.sessions[i].id == 0);
    return 0;
}
