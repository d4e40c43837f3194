/* stream.c - see stream.h. */
#include "serve/stream.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "market/event_format.h"

_Static_assert(sizeof(oc_event) == OC_WIRE_EVENT_BYTES && offsetof(oc_event, receive_ns) == OC_WIRE_EVENT_RECEIVE_AT &&
                   offsetof(oc_event, sequence) == OC_WIRE_EVENT_SEQUENCE_AT,
               "the wire carries events as they are");
_Static_assert(OC_INSTRUMENTS_MAX == OC_WIRE_INSTRUMENTS_MAX, "a universe on the wire is one of market");
_Static_assert(sizeof(oc_wire_stream) + OC_INSTRUMENTS_MAX * sizeof(oc_wire_instrument) <=
                   OC_WIRE_EVENTS_MAX * sizeof(oc_event),
               "the room of a request holds a universe");

/* Placeholders with names of their own: the memory depends on their number alone. */
static OC_MUST engine_open(oc_tick_stream *t, const oc_bundle *b, const oc_stream_config *c)
{
    const char *names[OC_FEATURES_MAX];
    const size_t inputs = (size_t)b->shape.inputs;
    if (inputs > OC_FEATURES_MAX)
        return OC_FAIL(OC_ECONFIG, "serve.streams: model %s has %zu features, a stream at most %d", b->name, inputs,
                       OC_FEATURES_MAX);
    for (size_t i = 0; i < inputs; i++) names[i] = b->features[i];
    for (uint32_t i = 0; i < t->instruments_max; i++)
        t->universe[i] = (oc_instrument){.symbol = {'-'}, .tick = {1, 0, 0}, .lot = {1, 0, 0}, .order_tick = {1, 0, 0}};
    const oc_feature_spec spec = {.features = names,
                                  .feature_count = inputs,
                                  .sample = c->sample,
                                  .bar_spread = c->bar_spread,
                                  .row_ns = c->row_ns};
    if (oc_features_open(&t->engine, &spec, t->universe, t->instruments_max) != OC_OK)
        return oc_status_prefix(OC_ECONFIG, "serve.streams: model %s", b->name);
    t->history_rows = oc_features_history_events(t->engine);
    t->history_ns = oc_features_history_ns(t->engine);
    return OC_OK;
}

static OC_MUST stream_fill(oc_tick_stream *t, const oc_bundle *bundle, const oc_stream_config *c)
{
    OC_TRY(oc_memory_new_array(&t->universe, t->instruments_max, sizeof *t->universe, "a stream's instruments"));
    OC_TRY(oc_memory_new_array(&t->seats, t->instruments_max, sizeof *t->seats, "a stream's instruments"));
    OC_TRY(oc_memory_new_array(&t->events, OC_WIRE_EVENTS_MAX, sizeof *t->events, "a stream's events"));
    return engine_open(t, bundle, c);
}

oc_status oc_tick_stream_open(oc_tick_stream *t, const oc_bundle *bundle, const oc_stream_config *c)
{
    if (!(c->instruments_max >= 1 && c->instruments_max <= OC_INSTRUMENTS_MAX))
        return OC_FAIL(OC_ECONFIG, "serve.stream_instruments: %d, not 1 to %d", c->instruments_max, OC_INSTRUMENTS_MAX);
    *t = (oc_tick_stream){.instruments_max = (uint32_t)c->instruments_max};
    const oc_status status = stream_fill(t, bundle, c);
    if (status == OC_OK) return OC_OK;
    oc_tick_stream_close(t);
    return oc_status_trail(status, __FILE__, __LINE__);
}

void oc_tick_stream_close(oc_tick_stream *t)
{
    oc_features_close(t->engine);
    oc_memory_free(t->universe);
    oc_memory_free(t->seats);
    oc_memory_free(t->events);
    *t = (oc_tick_stream){.engine = NULL};
}

size_t oc_tick_stream_bytes(const oc_tick_stream *t)
{
    return oc_features_state_bytes(t->engine) + t->instruments_max * (sizeof *t->universe + sizeof *t->seats) +
           OC_WIRE_EVENTS_MAX * sizeof *t->events;
}

static bool instrument_read(oc_instrument *out, const oc_wire_instrument *w)
{
    if (!memchr(w->symbol, 0, sizeof w->symbol)) return false;
    *out = (oc_instrument){.tick = {w->tick, w->tick_exponent, 0}, .lot = {w->lot, w->lot_exponent, 0}};
    memcpy(out->symbol, w->symbol, strlen(w->symbol));
    out->order_tick = out->tick;
    return !oc_instrument_problem(out);
}

oc_reply_state oc_tick_stream_begin(oc_tick_stream *t, const oc_wire_stream *open, oc_hash schema)
{
    const unsigned char *at = (const unsigned char *)t->events + sizeof *open;
    if (!(open->instruments >= 1 && open->instruments <= OC_INSTRUMENTS_MAX)) return OC_REPLY_REFUSED_SHAPE;
    if (open->instruments > t->instruments_max) return OC_REPLY_REFUSED_FULL;
    for (uint32_t i = 0; i < open->instruments; i++) {
        oc_wire_instrument w;
        memcpy(&w, at + i * sizeof w, sizeof w);
        if (!instrument_read(&t->universe[i], &w)) return OC_REPLY_REFUSED_SHAPE;
    }
    t->instruments = open->instruments;
    t->begins = (open->flags & OC_STREAM_BEGINS) != 0;
    t->any = false;
    t->count = t->at = 0;
    t->row = NULL;
    if (oc_features_set_universe(t->engine, t->universe, t->instruments) != OC_OK) return OC_REPLY_REFUSED_FULL;
    return oc_hash_equal(oc_features_schema(t->engine), schema) ? OC_REPLY_OK : OC_REPLY_REFUSED_SCHEMA;
}

void oc_tick_stream_reset(oc_tick_stream *t, uint32_t instrument)
{
    assert(instrument < t->instruments);
    t->seats[instrument] = (oc_stream_seat){.rows = 0};
    oc_features_reset_one(t->engine, instrument);
    if (t->begins && instrument + 1 == t->instruments) oc_features_begin(t->engine);
}

static void refuse(oc_tick_stream *t, oc_reply_state state)
{
    t->state = state;
    t->dropped = t->count - t->at + 1;
    t->at = t->count;
    for (uint32_t i = 0; i < t->instruments; i++) t->seats[i].gap = true;
}

/* The order alone; a late event has told nobody what it had to say, so it is a gap as well. */
static bool behind(const oc_tick_stream *t, const oc_event *e)
{
    return !t->any || e->receive_ns > t->previous.receive_ns ||
           (e->receive_ns == t->previous.receive_ns && e->sequence > t->previous.sequence);
}

/* A gap before the event. Whatever kind it is, nobody knows a book of levels any more, so the engine is shown a level
 * behind the gap, of no side; a book of one quote is whole again with the next. */
static oc_status gap_mark(oc_tick_stream *t, oc_stream_seat *s, oc_event *e)
{
    const bool level = e->kind == OC_EVENT_LEVEL || e->kind == OC_EVENT_SNAPSHOT,
               unknown = !s->levels && e->kind == OC_EVENT_LEVEL && !t->begins; /* its book was not handed over */
    const oc_feature_row *none;
    const oc_event lost = {.receive_ns = e->receive_ns,
                           .instrument = e->instrument,
                           .kind = OC_EVENT_LEVEL,
                           .flags = OC_EVENT_GAP_BEFORE | OC_EVENT_LAST};
    const bool gap = s->gap;
    if (gap && !s->levels) e->flags |= OC_EVENT_GAP_BEFORE;
    if (unknown) e->flags |= OC_EVENT_GAP_BEFORE;
    s->gap = false;
    if (gap && s->levels) OC_TRY(oc_features_apply(t->engine, &lost, &none));
    s->levels |= level;
    return OC_OK;
}

/* The run_length that is given for a row. A late stream's history counts from the second row of the instrument: the
 * first may be one that no other run has, made of the snapshot alone. */
static uint32_t run_of(const oc_tick_stream *t, oc_stream_seat *s, const oc_feature_row *row, bool *late)
{
    if (s->rows <= 1) s->first_ns = row->time_ns;
    const bool known = t->begins || (s->rows > t->history_rows && row->time_ns - s->first_ns >= t->history_ns);
    const bool follows = s->given > 0 && row->run_length == s->run + 1;
    *late = !known;
    s->rows++;
    s->run = row->run_length;
    s->given = !known || row->run_length == 0 ? 0 : follows ? s->given + 1 : 1;
    return s->given;
}

void oc_tick_stream_next(oc_tick_stream *t)
{
    assert(t->at < t->count);
    t->last = t->at;
    oc_event event = t->events[t->at++];
    bool late = false;
    t->row = NULL;
    t->state = OC_REPLY_OK;
    t->dropped = 0;
    /* The order apart, so that the refusal says which it is. */
    const oc_event *before = t->any ? &t->previous : NULL;
    if (oc_event_problem(&event, before, t->instruments)) {
        const bool sound = !oc_event_problem(&event, NULL, t->instruments);
        refuse(t, sound && !behind(t, &event) ? OC_REPLY_REFUSED_ORDER : OC_REPLY_REFUSED_EVENT);
        return;
    }
    t->previous = event;
    t->any = true;
    oc_stream_seat *s = &t->seats[event.instrument];
    if (gap_mark(t, s, &event) != OC_OK || oc_features_apply(t->engine, &event, &t->row) != OC_OK) {
        refuse(t, OC_REPLY_REFUSED_EVENT);
        return;
    }
    if (!t->row) return;
    t->run_length = run_of(t, s, t->row, &late);
    if (late) t->state = OC_REPLY_HOLD_HISTORY;
}
