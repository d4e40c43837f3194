/* rig.h - a batcher without its thread, and clients' ends of its rings in the same process: each round is run by the
 * test, so that what one round does can be seen. */
#ifndef OC_TESTS_SERVE_RIG_H
#define OC_TESTS_SERVE_RIG_H

#include "base/cmocka_all.h"
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "nn/sample_bundle.h"
#include "serve/batcher.h"

/* PIECES: of an advance of T - 1 windows (nn/model.h). */
enum { RIG_T = 12, RIG_PIECES = 2, RIG_F = 5, RIG_OUTPUTS = 6, RIG_CHANNELS = 2, RIG_SESSIONS = 4, RIG_RING = 8192 };

typedef struct rig {
    oc_bundle *bundle;
    oc_model *model; /* the oracle */
    oc_version version;
    oc_ensemble ensemble;
    oc_batcher batcher;
    oc_channel channels[RIG_CHANNELS];
    oc_ring requests[RIG_CHANNELS], replies[RIG_CHANNELS]; /* the clients' ends */
} rig;

/* names: of the features, NULL: those of sample_bundle, which no engine knows. */
static inline void rig_open_with(rig *r, const char *const *names, oc_hash schema, const oc_stream_config *ticks)
{
    static const oc_model_shape shape = {OC_TRUNK_LSTM, RIG_T, RIG_F, 2, 16, 2, 2};
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU};
    const oc_batcher_config config = {.batch_max = 7,
                                      .sessions_max = RIG_SESSIONS,
                                      .memory_max_bytes = 64 << 20,
                                      .budget = 0.9,
                                      .spin_ns = 0,
                                      .two_slots = true,
                                      .ticks = *ticks,
                                      .backend = cpu};
    memset(r, 0, sizeof *r);
    assert_int_equal(sample_bundle(&r->bundle, &shape, 3.0f, 4.0, 5), OC_OK);
    for (int i = 0; names && i < RIG_F; i++) snprintf(r->bundle->features[i], 64, "%s", names[i]);
    r->bundle->schema = schema;
    assert_int_equal(oc_model_open(&r->model, r->bundle, &cpu, 1), OC_OK);
    oc_version_of_bundle(&r->version, &r->ensemble, r->bundle);
    if (oc_batcher_init(&r->batcher, 0, &r->version, &config, r->channels, RIG_CHANNELS) != OC_OK)
        fail_msg("%s", oc_status_message());
    for (int i = 0; i < RIG_CHANNELS; i++) {
        oc_channel *c = &r->channels[i];
        int fd;
        assert_int_equal(oc_channel_make(c, RIG_RING, &fd), OC_OK);
        close(fd);
        c->socket = -1;
        c->state = OC_CHANNEL_LIVE;
        oc_ring_init(&r->requests[i], c->requests.shared, c->requests.data, c->requests.capacity);
        oc_ring_init(&r->replies[i], c->replies.shared, c->replies.data, c->replies.capacity);
    }
}

static inline void rig_open(rig *r)
{
    static const oc_stream_config none = {.streams = 0};
    rig_open_with(r, NULL, (oc_hash){0, 0}, &none);
}

static inline void rig_close(rig *r)
{
    oc_batcher_deinit(&r->batcher);
    for (int i = 0; i < RIG_CHANNELS; i++) oc_channel_drop(&r->channels[i]);
    oc_model_close(r->model);
    oc_bundle_close(r->bundle);
}

static inline void rig_send(rig *r, int channel, oc_wire_request q, const void *payload, size_t bytes)
{
    q.bytes = (uint32_t)oc_ring_record_bytes(bytes);
    q.count = (uint32_t)bytes;
    q.sent_ns = oc_clock_monotonic_ns();
    assert_int_equal(oc_ring_put(&r->requests[channel], &q, sizeof q, payload, bytes), OC_RING_DONE);
}

static inline bool rig_poll(rig *r, int channel, oc_wire_reply *reply)
{
    if (oc_ring_peek(&r->replies[channel], reply, sizeof *reply) != OC_RING_DONE) return false;
    oc_ring_copy(&r->replies[channel], (unsigned char *)reply + OC_WIRE_LINE, sizeof *reply - OC_WIRE_LINE);
    oc_ring_take(&r->replies[channel], sizeof *reply);
    return true;
}

/* Rounds until the reply is there. */
static inline oc_wire_reply rig_await(rig *r, int channel)
{
    oc_wire_reply reply = {.state = OC_REPLY_STATE_COUNT};
    for (int i = 0; i < 1000; i++) {
        if (rig_poll(r, channel, &reply)) return reply;
        (void)oc_batcher_round(&r->batcher);
    }
    fail_msg("no reply in a thousand rounds");
    return reply;
}

static inline uint32_t rig_session(rig *r, int channel)
{
    oc_wire_open open = {
        .schema_low = r->bundle->schema.low, .schema_high = r->bundle->schema.high, .period_ns = OC_SECOND_NS};
    snprintf(open.model, sizeof open.model, "%s", r->bundle->name);
    rig_send(r, channel, (oc_wire_request){.kind = OC_REQUEST_OPEN}, &open, sizeof open);
    const oc_wire_reply reply = rig_await(r, channel);
    assert_int_equal(reply.state, OC_REPLY_OK);
    return reply.session;
}

static inline void rig_row(float *row, uint64_t session, uint64_t number)
{
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, session, number);
    for (int i = 0; i < RIG_F; i++) row[i] = (float)(4 * oc_random_uniform(key, (uint64_t)i) - 2);
}

/* `count` rows of a session, from number `first`. */
static inline void rig_rows(float *rows, uint64_t session, uint64_t first, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) rig_row(rows + i * RIG_F, session, first + i);
}

/* The model's own answer to the window that ends with row `last`. */
static inline void rig_oracle(const rig *r, uint64_t session, uint64_t last, float *probabilities)
{
    float window[RIG_T * RIG_F];
    rig_rows(window, session, last + 1 - RIG_T, RIG_T);
    assert_int_equal(oc_model_predict(r->model, window, 1, probabilities, RIG_OUTPUTS), OC_OK);
}

#endif
