/* tether.c - a client, its session or stream, and what brings it back: rows that are kept here, events that the caller
 * keeps. What answers an earlier request, which nobody waits for any more, is known by its sequence and dropped. */
#include "serve/client/tether.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"

enum { LOOK_NS = 10000000, RETRY_NS = 10000000, ADDRESS_BYTES = 128 };

struct oc_tether {
    oc_client *client; /* NULL: to be connected anew */
    oc_client_model model;
    char address[ADDRESS_BYTES], symbol[OC_WIRE_SYMBOL];
    bool pushes;
    int64_t period_ns, timeout_ns, spin_ns;
    uint64_t schema_low, schema_high, sequence, connects;
    uint32_t session, run_length; /* session, or stream; run_length: of the last row; 0: none */
    float *rows;                  /* [T - 1, F], oldest first: the valid rows up to the last one */
    size_t kept;
    oc_wire_instrument *universe; /* [instruments]; NULL: no stream */
    uint32_t instruments;
    oc_client_stream stream;
    oc_tether_refill refill;
    unsigned char *refilled; /* [OC_WIRE_EVENTS_MAX] events */
    bool begins, told, due;  /* told: a tick was called; due: the stream waits for its refill */
};

typedef struct question {
    uint32_t kind, run_length;
    const void *payload; /* rows, a row, events */
    size_t events;
    oc_wire_reply *replies; /* NULL: nobody wants them */
    size_t replies_count;
} question;

static size_t rows_max(const oc_tether *l)
{
    return l->model.steps - 1;
}

static void row_keep(oc_tether *l, const float *row, uint32_t run_length)
{
    const size_t width = l->model.inputs;
    if (run_length == 0 || run_length != l->run_length + 1) l->kept = 0;
    l->run_length = run_length;
    if (run_length == 0 || rows_max(l) == 0) return;
    if (l->kept == rows_max(l)) {
        memmove(l->rows, l->rows + width, (l->kept - 1) * width * sizeof *l->rows);
        l->kept--;
    }
    memcpy(l->rows + l->kept++ * width, row, width * sizeof *l->rows);
}

/* The next reply of this kind. OC_EFAILED: the server is gone. */
static OC_MUST reply_next(oc_tether *l, uint32_t kind, int64_t end_ns, oc_wire_reply *reply)
{
    for (int64_t now = oc_clock_monotonic_ns(); now < end_ns; now = oc_clock_monotonic_ns()) {
        const int64_t left = end_ns - now;
        oc_client_wait(l->client, l->spin_ns, left < LOOK_NS ? left : LOOK_NS);
        while (oc_client_poll(l->client, reply, 1) == 1)
            if (reply->kind == kind) return OC_OK;
        if (oc_clock_monotonic_ns() - now >= LOOK_NS && !oc_client_alive(l->client))
            return OC_FAIL(OC_EFAILED, "%s: the server is gone", l->address);
    }
    return OC_FAIL(OC_EAGAIN, "%s: no answer within %lld ms", l->address, (long long)(l->timeout_ns / 1000000));
}

static OC_MUST reply_await(oc_tether *l, uint32_t kind, uint64_t sequence, int64_t end_ns, oc_wire_reply *reply)
{
    do {
        OC_TRY(reply_next(l, kind, end_ns, reply));
    } while (reply->sequence != sequence);
    return OC_OK;
}

/* A session with the rows that were kept; its sequence goes on. */
static OC_MUST session_begin(oc_tether *l, int64_t end_ns)
{
    oc_wire_reply reply;
    OC_TRY(oc_client_session_open(l->client, l->model.name, l->symbol, l->schema_low, l->schema_high, l->period_ns,
                                  end_ns - oc_clock_monotonic_ns(), &l->session));
    if (l->kept == 0) return OC_OK;
    const oc_stamp stamp = {.sequence = ++l->sequence};
    OC_TRY(oc_client_history(l->client, l->session, stamp, l->rows, l->kept, l->run_length));
    OC_TRY(reply_await(l, OC_REQUEST_HISTORY, stamp.sequence, end_ns, &reply));
    if (reply.state >= OC_REPLY_REFUSED_VALUE)
        return OC_FAIL(OC_EFAILED, "%s: the rows of %s are not taken (state %u)", l->address, l->symbol, reply.state);
    return OC_OK;
}

/* Its refill waits for the next tick, as it ends where that begins. */
static OC_MUST stream_begin(oc_tether *l, int64_t end_ns)
{
    const bool begins = l->begins && !l->told;
    OC_TRY(oc_client_stream_open(l->client, l->model.name, l->universe, l->instruments, l->period_ns, begins,
                                 end_ns - oc_clock_monotonic_ns(), &l->stream));
    l->session = l->stream.id;
    l->due = !begins && l->refill.next != NULL;
    return OC_OK;
}

static OC_MUST begin(oc_tether *l, int64_t end_ns)
{
    if (l->universe) return stream_begin(l, end_ns);
    return l->pushes ? session_begin(l, end_ns) : OC_OK;
}

static void leave(oc_tether *l)
{
    oc_client_close(l->client);
    l->client = NULL;
}

static OC_MUST connect_once(oc_tether *l, int64_t end_ns)
{
    OC_TRY(oc_client_open(&l->client, l->address, end_ns - oc_clock_monotonic_ns()));
    const oc_client_model *m = oc_client_describe(l->client), *had = &l->model;
    if (l->connects > 0 && (m->steps != had->steps || m->inputs != had->inputs || m->schema_low != had->schema_low ||
                            m->schema_high != had->schema_high)) {
        const oc_status status = OC_FAIL(
            OC_EDATA,
            "%s: %s %s takes windows of %u rows by %u of another kind than the %u by %u before: open a new tether",
            l->address, m->name, m->version, m->steps, m->inputs, had->steps, had->inputs);
        leave(l);
        return status;
    }
    l->model = *m;
    if (l->schema_low == 0 && l->schema_high == 0) l->schema_low = m->schema_low, l->schema_high = m->schema_high;
    const oc_status status = begin(l, end_ns);
    if (status != OC_OK) leave(l);
    l->connects += status == OC_OK;
    return status;
}

/* Until it is there or the time is over. What another try does not change is returned at once. */
static OC_MUST connect_again(oc_tether *l, int64_t end_ns)
{
    const struct timespec pause = {.tv_nsec = RETRY_NS};
    oc_status status;
    while ((status = connect_once(l, end_ns)) != OC_OK) {
        if (status != OC_EAGAIN && status != OC_EFAILED) return status;
        if (oc_clock_monotonic_ns() + RETRY_NS >= end_ns)
            return OC_FAIL(OC_EAGAIN, "%s: no server there within %lld ms", l->address,
                           (long long)(l->timeout_ns / 1000000));
        nanosleep(&pause, NULL);
    }
    return OC_OK;
}

static OC_MUST config_check(const oc_tether_config *c)
{
    if (strlen(c->address) >= ADDRESS_BYTES || (c->symbol && strlen(c->symbol) >= OC_WIRE_SYMBOL))
        return OC_FAIL(OC_EUSAGE, "an address is below %d bytes, a symbol below %d", ADDRESS_BYTES, OC_WIRE_SYMBOL);
    if (c->symbol && c->universe)
        return OC_FAIL(OC_EUSAGE, "a tether is one symbol's session or one stream: %s has a universe too", c->symbol);
    if (c->universe && !(c->instruments >= 1 && c->instruments <= OC_WIRE_INSTRUMENTS_MAX))
        return OC_FAIL(OC_EUSAGE, "a universe of %u instruments, not 1 to %d", c->instruments, OC_WIRE_INSTRUMENTS_MAX);
    if (!(c->timeout_ns > 0) || ((c->symbol || c->universe) && !(c->period_ns > 0)))
        return OC_FAIL(OC_EUSAGE, "a tether's timeout, and with a symbol or a universe its period, is above 0");
    return OC_OK;
}

static OC_MUST tether_fill(oc_tether *l, const oc_tether_config *c)
{
    memcpy(l->address, c->address, strlen(c->address));
    l->pushes = c->symbol != NULL;
    if (l->pushes) memcpy(l->symbol, c->symbol, strlen(c->symbol));
    l->period_ns = c->period_ns;
    l->timeout_ns = c->timeout_ns;
    l->spin_ns = c->spin_ns;
    l->schema_low = c->schema_low;
    l->schema_high = c->schema_high;
    if (c->universe) {
        OC_TRY(oc_memory_new_array(&l->universe, c->instruments, sizeof *l->universe, "a tether's universe"));
        OC_TRY(oc_memory_new_array(&l->refilled, OC_WIRE_EVENTS_MAX, OC_WIRE_EVENT_BYTES, "a tether's refill"));
        memcpy(l->universe, c->universe, c->instruments * sizeof *l->universe);
        l->instruments = c->instruments;
        l->begins = c->begins != 0;
        l->refill = c->refill;
    }
    OC_TRY(connect_once(l, oc_clock_monotonic_ns() + l->timeout_ns));
    if (!l->pushes) return OC_OK;
    OC_TRY(
        oc_memory_new_array(&l->rows, (size_t)l->model.steps * l->model.inputs, sizeof *l->rows, "rows of a tether"));
    return OC_OK;
}

oc_status oc_tether_open(oc_tether **out, const oc_tether_config *config)
{
    assert(out && config && config->address);
    oc_tether *l;
    *out = NULL;
    OC_TRY(config_check(config));
    OC_TRY(oc_memory_new(&l, sizeof *l, "tether"));
    const oc_status status = tether_fill(l, config);
    if (status != OC_OK) {
        oc_tether_close(l);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = l;
    return OC_OK;
}

void oc_tether_close(oc_tether *l)
{
    if (!l) return;
    leave(l);
    oc_memory_free(l->rows);
    oc_memory_free(l->universe);
    oc_memory_free(l->refilled);
    oc_memory_free(l);
}

const oc_client_model *oc_tether_describe(const oc_tether *l)
{
    return &l->model;
}

uint64_t oc_tether_connects(const oc_tether *l)
{
    return l->connects;
}

const oc_client_stream *oc_tether_stream(const oc_tether *l)
{
    return &l->stream;
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

typedef struct place {
    int64_t receive_ns;
    uint64_t sequence;
} place; /* in the order of events */

static place place_of(const void *events, size_t i)
{
    const unsigned char *at = (const unsigned char *)events + i * OC_WIRE_EVENT_BYTES;
    place p;
    memcpy(&p.receive_ns, at + OC_WIRE_EVENT_RECEIVE_AT, sizeof p.receive_ns);
    memcpy(&p.sequence, at + OC_WIRE_EVENT_SEQUENCE_AT, sizeof p.sequence);
    return p;
}

static bool before(place a, place b)
{
    return a.receive_ns < b.receive_ns || (a.receive_ns == b.receive_ns && a.sequence < b.sequence);
}

/* Behind these nothing comes to the request: what followed the event was dropped, or all of it. */
static bool ends(const oc_wire_reply *reply)
{
    return reply->state == OC_REPLY_REFUSED_EVENT || reply->state == OC_REPLY_REFUSED_ORDER ||
           reply->state == OC_REPLY_REFUSED_SESSION || reply->state == OC_REPLY_REFUSED_SHAPE;
}

/* Sends the events and waits for what answers the last of them: `last`. Replies to earlier requests are dropped. */
static OC_MUST events_ask(oc_tether *l, question *q, int64_t end_ns, oc_wire_reply *last)
{
    const place first = place_of(q->payload, 0), end = place_of(q->payload, q->events - 1);
    const oc_stamp stamp = {.sequence = end.sequence, .input_ns = end.receive_ns};
    q->replies_count = 0;
    const oc_status sent = oc_client_tick(l->client, l->session, stamp, q->payload, q->events);
    if (sent == OC_EAGAIN) leave(l); /* the events are missing there: all anew next time */
    OC_TRY(sent);
    while (q->replies_count < q->events) {
        OC_TRY(reply_next(l, OC_REQUEST_TICK, end_ns, last));
        const place at = {last->input_ns, last->sequence};
        if (last->session != l->session || before(at, first)) continue;
        if (q->replies) q->replies[q->replies_count] = *last;
        q->replies_count++;
        if (ends(last) || !before(at, end)) return OC_OK;
    }
    return OC_FAIL(OC_EFAILED, "%s: the server answers %zu events with more replies", l->address, q->events);
}

/* The caller's record, up to the events that are asked. Where it is not taken the stream is begun anew next time. */
static OC_MUST stream_refill(oc_tether *l, const question *q, int64_t end_ns, oc_wire_reply *last)
{
    struct oc_event *room = (struct oc_event *)(void *)l->refilled;
    size_t given = 0;
    for (;;) {
        question part = {.kind = OC_REQUEST_TICK, .payload = room};
        part.events = l->refill.next(l->refill.context, &l->stream, q->payload, given, room, OC_WIRE_EVENTS_MAX);
        if (part.events == 0) break;
        oc_status status = OC_OK;
        if (part.events > OC_WIRE_EVENTS_MAX)
            status = OC_FAIL(OC_EUSAGE, "a refill of %zu events at once, at most %d", part.events, OC_WIRE_EVENTS_MAX);
        if (status == OC_OK) status = events_ask(l, &part, end_ns, last);
        if (status == OC_OK && last->state == OC_REPLY_REFUSED_SESSION) return OC_OK; /* it ended before it began */
        if (status == OC_OK && ends(last))
            status = OC_FAIL(OC_EUSAGE,
                             "%s: the refill is not taken: event %llu of time %lld, among the %zu behind its first "
                             "%zu, is none or does not come behind the one before (state %u)",
                             l->address, (unsigned long long)last->sequence, (long long)last->input_ns, part.events,
                             given, last->state);
        if (status != OC_OK) {
            leave(l);
            return status;
        }
        given += part.events;
    }
    l->due = false;
    return OC_OK;
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static OC_MUST ask_once(oc_tether *l, question *q, int64_t end_ns, oc_wire_reply *last)
{
    if (q->kind == OC_REQUEST_TICK) {
        if (l->due) OC_TRY(stream_refill(l, q, end_ns, last));
        return l->due ? OC_OK : events_ask(l, q, end_ns, last); /* due still: *last says why */
    }
    const oc_stamp stamp = {.sequence = ++l->sequence};
    const oc_status sent = q->kind == OC_REQUEST_PUSH
                               ? oc_client_push(l->client, l->session, stamp, q->payload, q->run_length)
                               : oc_client_window(l->client, 0, stamp, q->payload, l->model.steps);
    if (sent == OC_EAGAIN && q->kind == OC_REQUEST_PUSH) leave(l); /* the row is missing there: all anew next time */
    OC_TRY(sent);
    return reply_await(l, q->kind, stamp.sequence, end_ns, last);
}

/* A server that went away is waited for, a session or stream that ended is opened again. */
static OC_MUST ask(oc_tether *l, question *q, oc_wire_reply *last)
{
    const int64_t end_ns = oc_clock_monotonic_ns() + l->timeout_ns;
    bool opened = false;
    for (;;) {
        if (!l->client) OC_TRY(connect_again(l, end_ns));
        oc_status status = ask_once(l, q, end_ns, last);
        if (status == OC_OK && last->state == OC_REPLY_REFUSED_SESSION && q->kind != OC_REQUEST_WINDOW && !opened) {
            opened = true;
            status = begin(l, end_ns);
            if (status == OC_OK) continue;
        }
        if (status == OC_OK || status == OC_EUSAGE) return status;
        if (status == OC_EAGAIN && (!l->client || oc_client_alive(l->client))) return status; /* it is only slow */
        leave(l);
    }
}

oc_status oc_tether_window(oc_tether *l, const float *rows_raw, size_t rows, oc_wire_reply *reply)
{
    if (rows != l->model.steps)
        return OC_FAIL(OC_EUSAGE, "a window of %zu rows, but %s takes %u", rows, l->model.name, l->model.steps);
    return ask(l, &(question){.payload = rows_raw, .kind = OC_REQUEST_WINDOW}, reply);
}

oc_status oc_tether_push(oc_tether *l, const float *row_raw, uint32_t run_length, oc_wire_reply *reply)
{
    if (!l->pushes) return OC_FAIL(OC_EUSAGE, "%s: a tether without a symbol takes no rows", l->address);
    const oc_status status =
        ask(l, &(question){.payload = row_raw, .kind = OC_REQUEST_PUSH, .run_length = run_length}, reply);
    if (status == OC_EUSAGE) return status;
    const bool refused = status == OC_OK && reply->state == OC_REPLY_REFUSED_VALUE; /* the windows begin anew */
    row_keep(l, row_raw, refused ? 0 : run_length);
    return status;
}

static OC_MUST events_check(const oc_tether *l, const struct oc_event *events, size_t count, size_t replies_cap)
{
    if (!l->universe) return OC_FAIL(OC_EUSAGE, "%s: a tether without a universe takes no events", l->address);
    if (!(count >= 1 && count <= OC_WIRE_EVENTS_MAX && replies_cap >= count))
        return OC_FAIL(OC_EUSAGE, "%zu events with room for %zu replies: 1 to %d, and room for as many", count,
                       replies_cap, OC_WIRE_EVENTS_MAX);
    for (size_t i = 1; i < count; i++)
        if (!before(place_of(events, i - 1), place_of(events, i)))
            return OC_FAIL(OC_EUSAGE,
                           "event %zu of %zu does not come behind the one before: (receive_ns, sequence) "
                           "rises",
                           i, count);
    return OC_OK;
}

oc_status oc_tether_tick(oc_tether *l, const struct oc_event *events, size_t count, oc_wire_reply *replies,
                         size_t replies_cap, size_t *replies_count)
{
    oc_wire_reply last = {.state = OC_REPLY_OK};
    *replies_count = 0;
    OC_TRY(events_check(l, events, count, replies_cap));
    question q = {.kind = OC_REQUEST_TICK, .payload = events, .events = count, .replies = replies};
    const oc_status status = ask(l, &q, &last);
    if (status == OC_OK && q.replies_count == 0) replies[q.replies_count++] = last; /* its stream ended twice */
    *replies_count = q.replies_count;
    l->told |= status != OC_EUSAGE;
    return status;
}
