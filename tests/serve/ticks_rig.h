/* ticks_rig.h - the rig with streams: a market of two drawn order books, and the feature engine beside it as oracle. */
#ifndef OC_TESTS_SERVE_TICKS_RIG_H
#define OC_TESTS_SERVE_TICKS_RIG_H

#include <stdio.h>
#include "serve/rig.h"

enum { TICKS_INSTRUMENTS = 2, TICKS_STREAMS = 2, TICKS_ROW_NS = 1000000 };

static const char *const ticks_features[RIG_F] = {"return:1", "ema_gap:5", "ofi:3", "cross_return:3", "imbalance:3"};
static const oc_instrument ticks_universe[TICKS_INSTRUMENTS] = {
    {.symbol = "ONE", .tick = {1, -2, 0}, .lot = {1, 0, 0}, .order_tick = {1, -2, 0}},
    {.symbol = "TWO", .tick = {5, -3, 0}, .lot = {1, 1, 0}, .order_tick = {5, -3, 0}}};

static inline oc_features *ticks_engine(void)
{
    const oc_feature_spec spec = {
        .features = ticks_features, .feature_count = RIG_F, .sample = "packet", .row_ns = TICKS_ROW_NS};
    oc_features *engine;
    if (oc_features_open(&engine, &spec, ticks_universe, TICKS_INSTRUMENTS) != OC_OK)
        fail_msg("%s", oc_status_message());
    return engine;
}

static inline void ticks_rig_open(rig *r)
{
    static const oc_stream_config ticks = {.sample = "packet",
                                           .row_ns = TICKS_ROW_NS,
                                           .streams = TICKS_STREAMS,
                                           .instruments_max = TICKS_INSTRUMENTS,
                                           .memory_max_bytes = 64 << 20};
    oc_features *engine = ticks_engine();
    const oc_hash schema = oc_features_schema(engine);
    oc_features_close(engine);
    rig_open_with(r, ticks_features, schema, &ticks);
}

/* ---- the market: packets of a few levels or a trade around a mid that walks; its own tick is always free ---- */

typedef struct ticks_market {
    uint32_t key;
    uint64_t drawn, sequence;
    int64_t now_ns, mid[TICKS_INSTRUMENTS];
    bool begun[TICKS_INSTRUMENTS];
} ticks_market;

static inline int64_t ticks_draw(ticks_market *m, int64_t below)
{
    return (int64_t)(oc_random_uniform(m->key, m->drawn++) * (double)below);
}

static inline void ticks_market_open(ticks_market *m, uint64_t seed)
{
    *m = (ticks_market){
        .key = oc_random_key(seed, OC_RANDOM_TEST, 3, 4), .now_ns = 1000 * OC_SECOND_NS, .mid = {5000, 900}};
}

static inline oc_event ticks_level(const ticks_market *m, uint32_t i, oc_event_kind kind, int64_t ticks, int64_t lots)
{
    return (oc_event){.instrument = i,
                      .kind = (uint8_t)kind,
                      .side = ticks < m->mid[i] ? OC_SIDE_BUY : OC_SIDE_SELL,
                      .level = 255,
                      .as.price = {ticks, lots}};
}

/* The next packet, at most 32 events. breaks: now and then a gap, with a snapshot, or a session break. */
static inline size_t ticks_packet(ticks_market *m, oc_event *out, bool breaks)
{
    const uint32_t i = (uint32_t)ticks_draw(m, TICKS_INSTRUMENTS);
    const int64_t chance = ticks_draw(m, 400);
    size_t n = 0;
    m->now_ns += 1 + ticks_draw(m, TICKS_ROW_NS);
    if (!m->begun[i] || (breaks && chance == 0)) { /* a gap, or the beginning */
        for (int64_t k = 1; k <= 6; k++)
            for (int64_t side = -1; side <= 1; side += 2)
                out[n++] = ticks_level(m, i, OC_EVENT_SNAPSHOT, m->mid[i] + side * k, 1 + ticks_draw(m, 20));
        out[0].flags = m->begun[i] ? OC_EVENT_GAP_BEFORE : 0;
        m->begun[i] = true;
    } else if (chance < 40) {
        out[n++] = ticks_level(m, i, OC_EVENT_TRADE, m->mid[i] + (chance % 2 ? 1 : -1), 1 + ticks_draw(m, 9));
    } else if (chance < 120) { /* the mid walks: what stands at its new place goes, what it leaves is taken */
        const int64_t step = chance % 2 ? 1 : -1, old = m->mid[i];
        out[n++] = ticks_level(m, i, OC_EVENT_LEVEL, old + step, 0);
        m->mid[i] += step;
        out[n++] = ticks_level(m, i, OC_EVENT_LEVEL, old, 1 + ticks_draw(m, 20));
    } else {
        for (int64_t k = ticks_draw(m, 3); k >= 0; k--) {
            const int64_t off = 1 + ticks_draw(m, 8), lots = ticks_draw(m, 20);
            out[n++] =
                ticks_level(m, i, OC_EVENT_LEVEL, m->mid[i] + (ticks_draw(m, 2) ? off : -off), off > 1 ? lots : 5);
        }
    }
    if (breaks && chance == 399) out[0].flags |= OC_EVENT_SESSION_BREAK;
    for (size_t k = 0; k < n; k++) {
        out[k].receive_ns = m->now_ns;
        out[k].sequence = ++m->sequence;
    }
    out[n - 1].flags |= OC_EVENT_LAST;
    return n;
}

/* ---- the oracle: rows by the engine alone, their windows by the model alone ---- */

typedef struct ticks_want {
    uint64_t sequence;
    int64_t time_ns;
    uint32_t instrument;
    oc_reply_state state;
    float answer[RIG_OUTPUTS];
} ticks_want;

typedef struct ticks_oracle {
    oc_features *engine;
    float rows[TICKS_INSTRUMENTS][RIG_T][RIG_F]; /* the last T, a ring */
    uint64_t count[TICKS_INSTRUMENTS];
} ticks_oracle;

static inline void ticks_oracle_open(ticks_oracle *o)
{
    memset(o, 0, sizeof *o);
    o->engine = ticks_engine();
    oc_features_begin(o->engine);
}

/* Whether the event made a row, and then what is to be answered. */
static inline bool ticks_oracle_event(ticks_oracle *o, const rig *r, const oc_event *event, ticks_want *want)
{
    const oc_feature_row *row;
    float window[RIG_T][RIG_F];
    assert_int_equal(oc_features_apply(o->engine, event, &row), OC_OK);
    if (!row) return false;
    const uint32_t i = row->instrument;
    memcpy(o->rows[i][o->count[i]++ % RIG_T], row->x, sizeof o->rows[i][0]);
    *want = (ticks_want){.sequence = event->sequence,
                         .time_ns = row->time_ns,
                         .instrument = i,
                         .state = row->run_length >= RIG_T ? OC_REPLY_OK
                                  : row->run_length > 0    ? OC_REPLY_HOLD_SHORT
                                                           : OC_REPLY_HOLD_GAP};
    for (int h = 0; h < RIG_OUTPUTS; h += OC_CLASSES) want->answer[h + OC_CLASSES - 1] = 1;
    if (want->state != OC_REPLY_OK) return true;
    for (uint64_t k = 0; k < RIG_T; k++) memcpy(window[k], o->rows[i][(o->count[i] + k) % RIG_T], sizeof window[k]);
    assert_int_equal(oc_model_predict(r->model, window[0], 1, want->answer, RIG_OUTPUTS), OC_OK);
    return true;
}

/* ---- the client's side ---- */

static inline void ticks_wire_universe(oc_wire_instrument *out)
{
    for (size_t i = 0; i < TICKS_INSTRUMENTS; i++) {
        const oc_instrument *u = &ticks_universe[i];
        out[i] = (oc_wire_instrument){.tick = u->tick.mantissa,
                                      .lot = u->lot.mantissa,
                                      .tick_exponent = u->tick.exponent,
                                      .lot_exponent = u->lot.exponent};
        memcpy(out[i].symbol, u->symbol, sizeof out[i].symbol);
    }
}

typedef struct ticks_open {
    oc_wire_stream head;
    oc_wire_instrument universe[TICKS_INSTRUMENTS + 1];
} ticks_open;

static inline ticks_open ticks_open_of(const rig *r, uint32_t flags)
{
    ticks_open open = {.head = {.period_ns = OC_SECOND_NS, .instruments = TICKS_INSTRUMENTS, .flags = flags}};
    memcpy(open.head.model, r->bundle->name, strlen(r->bundle->name));
    ticks_wire_universe(open.universe);
    return open;
}

static inline oc_wire_reply ticks_open_send(rig *r, int channel, const ticks_open *open)
{
    rig_send(r, channel, (oc_wire_request){.kind = OC_REQUEST_STREAM_OPEN}, open,
             sizeof open->head + open->head.instruments * sizeof *open->universe);
    return rig_await(r, channel);
}

static inline uint32_t ticks_stream(rig *r, int channel, uint32_t flags)
{
    const ticks_open open = ticks_open_of(r, flags);
    const oc_wire_reply reply = ticks_open_send(r, channel, &open);
    assert_int_equal(reply.state, OC_REPLY_OK);
    return reply.session;
}

static inline void ticks_send(rig *r, int channel, uint32_t stream, const oc_event *events, size_t count)
{
    rig_send(r, channel, (oc_wire_request){.kind = OC_REQUEST_TICK, .session = stream, .sequence = 77}, events,
             count * sizeof *events);
}

#endif
