/* wire.h - what lies in the shared memory between the server and one client, and what crosses the Unix socket.
 *
 * The server makes one region per client: a memfd, sealed against any change of its size, handed out with a hello over
 * the socket. It holds two rings: requests (client writes) and replies (server writes). A ring is bytes; a record is a
 * multiple of 64 bytes that opens with 64 bytes of header, so that a header never wraps and a payload wraps at most
 * once. Positions count bytes since the start and never wrap; position % capacity is the place. Neither side believes
 * the other: each keeps its own position to itself, checks the other's on every read, and copies a record before it
 * looks at it. Little-endian, fixed layout; another layout is another OC_WIRE_VERSION. */
#ifndef OC_SERVE_CLIENT_WIRE_H
#define OC_SERVE_CLIENT_WIRE_H

#include <stdint.h>

#define OC_WIRE_MAGIC UINT64_C(0x31455249574f434f) /* "OCOWIRE1" */
enum { OC_WIRE_VERSION = 3, OC_WIRE_LINE = 64, OC_WIRE_HORIZONS_MAX = 8, OC_WIRE_NAME = 64, OC_WIRE_SYMBOL = 32 };
enum { OC_WIRE_REGION_OFFSET = 4096 }; /* rings begin on the second page; the first holds both oc_wire_ring */

/* The control words of a ring; each on a line of its own, so that writers do not share one. */
typedef struct oc_wire_ring {
    uint64_t tail; /* bytes written; by the producer */
    uint64_t tail_line[7];
    uint64_t head; /* bytes read; by the consumer */
    uint64_t head_line[7];
    uint32_t asleep; /* futex: 1 where the consumer sleeps; replies only */
    uint32_t asleep_line[15];
} oc_wire_ring;

typedef struct oc_wire_control {
    oc_wire_ring requests, replies;
} oc_wire_control; /* the region's first page */

/* One page for all clients of one batcher: the batcher's own sleep. A client that spoils it costs the others at most
 * OC_WIRE_NAP_NS a request: the batcher never sleeps longer without looking. */
typedef struct oc_wire_bell {
    uint32_t asleep;
    uint32_t line[15];
} oc_wire_bell;
enum { OC_WIRE_NAP_NS = 2000000 };

typedef enum {
    OC_REQUEST_WINDOW = 1, /* payload: T * F floats, raw rows, oldest first */
    OC_REQUEST_PUSH,       /* payload: F floats */
    OC_REQUEST_OPEN,       /* payload: oc_wire_open */
    OC_REQUEST_CLOSE,
    OC_REQUEST_HISTORY,     /* payload: up to T - 1 rows of F floats, oldest first; one reply, once all are taken in */
    OC_REQUEST_STREAM_OPEN, /* payload: oc_wire_stream, then oc_wire_instrument[instruments]; below */
    OC_REQUEST_STREAM_CLOSE,
    OC_REQUEST_TICK /* payload: 1 to OC_WIRE_EVENTS_MAX records of 88 bytes, oc_event of market/event.h */
} oc_request_kind;

typedef struct oc_wire_request {
    uint32_t bytes; /* whole record, a multiple of 64 */
    uint32_t kind;
    uint32_t session;              /* 0: the channel itself, for windows and for OPEN */
    uint32_t count;                /* bytes of payload that count */
    uint64_t sequence;             /* caller's; within a pushed session it must rise */
    int64_t input_ns, deadline_ns; /* caller's; deadline on CLOCK_MONOTONIC, 0: none */
    int64_t sent_ns;               /* CLOCK_MONOTONIC at publication */
    uint32_t run_length;    /* PUSH: valid rows in a row up to this one; 0: it is none; HISTORY: up to its last */
    uint32_t model_version; /* WINDOW, PUSH, HISTORY: that shall answer, as replies name it; 0: any. Where another one
                             * would: REFUSED_VERSION, and nothing is taken in */
    uint32_t reserved[2];
} oc_wire_request;

typedef struct oc_wire_open {
    char model[OC_WIRE_NAME], symbol[OC_WIRE_SYMBOL];
    uint64_t schema_low, schema_high;
    int64_t period_ns; /* shortest usual time between pushes; 0: a session of windows only */
    uint64_t reserved;
} oc_wire_open;

/* A stream is one order of events over a universe: the server runs the feature engine over it, and every row that comes
 * out is pushed into a session that the stream has for its instrument. Events: instrument counts in the universe,
 * source is 0, and (receive_ns, sequence) rises from event to event over the whole stream.
 *
 * Replies to a TICK, in the order of its events, all with the stream's number in `session` and the event's in
 * `instrument`, `sequence` (the event's, not the request's) and `input_ns` (its receive_ns, so the row's time):
 *   - one for each row: as for a pushed row, with the run_length of the engine;
 *   - for a last event that made no row: HOLD_NO_ROW. So the last reply of a request has the sequence of its last
 * event;
 *   - for an event that is none, or not behind the one before: REFUSED_EVENT or REFUSED_ORDER. What follows it in the
 *     request is dropped, and the stream has a gap: every instrument begins anew, its book with the next snapshot.
 * A request whose stream or size is wrong has one reply with the sequence of the request.
 *
 * OC_STREAM_BEGINS says that nothing comes before the first event in any run, as in a dataset. Without it the stream
 * begins late (a restart): rows are HOLD_HISTORY until the declared history of the features lies behind them, and from
 * then on have the bits of a run that began earlier. The reply to STREAM_OPEN says how much that is: `sequence` rows of
 * an instrument behind its second, and `input_ns` ns; then T rows make the first window. The books of that moment come
 * first, as SNAPSHOT events without OC_EVENT_LAST; levels before them are left out. With packet:N and trade:N the
 * events of an instrument begin right behind one that made a row. */
enum { OC_WIRE_EVENTS_MAX = 512, OC_WIRE_EVENT_BYTES = 88, OC_WIRE_INSTRUMENTS_MAX = 256 };
enum { OC_WIRE_EVENT_RECEIVE_AT = 8, OC_WIRE_EVENT_SEQUENCE_AT = 16 }; /* where an event has receive_ns and sequence */
enum { OC_STREAM_BEGINS = 1 };

typedef struct oc_wire_instrument { /* tick and lot: mantissa * 10^exponent, no zeros at the mantissa's end */
    char symbol[OC_WIRE_SYMBOL];
    int64_t tick, lot;
    int32_t tick_exponent, lot_exponent;
    uint64_t reserved;
} oc_wire_instrument;

typedef struct oc_wire_stream {
    char model[OC_WIRE_NAME];
    int64_t period_ns; /* shortest usual time between rows of an instrument */
    uint32_t instruments, flags;
    uint64_t reserved[6];
} oc_wire_stream;

/* What a reply says; one row: enum, name in metrics, meaning. */
#define OC_REPLY_STATES(X)                                                                                             \
    X(OC_REPLY_OK, "ok", "probabilities of the window")                                                                \
    X(OC_REPLY_LATE, "late", "HOLD: the answer came after its deadline; a pushed row is in its window all the same")   \
    X(OC_REPLY_HOLD_SHORT, "hold_short", "HOLD: fewer than T valid rows in a row so far")                              \
    X(OC_REPLY_HOLD_GAP, "hold_gap", "HOLD: the row is not valid (run_length 0)")                                      \
    X(OC_REPLY_REFUSED_VALUE, "refused_value", "a number is not finite; a pushed session begins anew")                 \
    X(OC_REPLY_REFUSED_SHAPE, "refused_shape", "the payload is not one window, one row or a history of the model")     \
    X(OC_REPLY_REFUSED_ORDER, "refused_order", "the sequence number of a pushed row did not rise")                     \
    X(OC_REPLY_REFUSED_SESSION, "refused_session", "no such session of this client")                                   \
    X(OC_REPLY_REFUSED_MODEL, "refused_model", "no such model")                                                        \
    X(OC_REPLY_REFUSED_SCHEMA, "refused_schema", "the model was trained on another feature schema")                    \
    X(OC_REPLY_REFUSED_FULL, "refused_full", "no session is left")                                                     \
    X(OC_REPLY_REFUSED_BUDGET, "refused_budget", "the core has no time left for its advances")                         \
    X(OC_REPLY_REFUSED_DRAINING, "refused_draining", "the server is stopping")                                         \
    X(OC_REPLY_REFUSED_OVERLOAD, "refused_overload", "the window waited longer than serve.queue_max_us")               \
    X(OC_REPLY_REFUSED_KIND, "refused_kind", "no such request")                                                        \
    X(OC_REPLY_FAILED, "failed", "the server could not compute; its log says why")                                     \
    X(OC_REPLY_HOLD_NO_ROW, "hold_no_row", "HOLD: the events are taken in, and the last of them made no row")          \
    X(OC_REPLY_HOLD_HISTORY, "hold_history", "HOLD: the stream began too late for the history of this row")            \
    X(OC_REPLY_REFUSED_EVENT, "refused_event", "an event is none; what follows it was dropped, the stream has a gap")  \
    X(OC_REPLY_REFUSED_VERSION, "refused_version", "another version would answer than the one asked for")

typedef enum oc_reply_state {
#define OC_REPLY_ENUM(state, name, meaning) state,
    OC_REPLY_STATES(OC_REPLY_ENUM)
#undef OC_REPLY_ENUM
        OC_REPLY_STATE_COUNT
} oc_reply_state;

/* Nothing was computed for it, and nothing taken in but the events before a refused one. */
static inline int oc_reply_refused(uint32_t state)
{
    return (state >= OC_REPLY_REFUSED_VALUE && state <= OC_REPLY_REFUSED_KIND) || state == OC_REPLY_REFUSED_EVENT ||
           state == OC_REPLY_REFUSED_VERSION;
}

typedef struct oc_wire_reply { /* 192 bytes, a record of its own */
    uint32_t bytes, kind;      /* kind of the request */
    uint32_t session, state;
    uint64_t sequence;
    int64_t input_ns, deadline_ns; /* as sent */
    int64_t queue_ns, service_ns;  /* publication -> taken -> answered, on the server */
    uint32_t model_version;        /* that answered, or would; counts what this server has loaded, from 1 */
    uint16_t horizons, instrument; /* instrument: of a TICK, in its stream's universe */
    float probabilities[OC_WIRE_HORIZONS_MAX][3];
    char version_text[OC_WIRE_SYMBOL]; /* the bundle's own name of that version, NUL at its end */
} oc_wire_reply;

/* The one message on the socket, server to client; with OC_HELLO_WELCOME two descriptors follow: region and bell. */
typedef enum { OC_HELLO_WELCOME = 1, OC_HELLO_WRONG_UID, OC_HELLO_FULL, OC_HELLO_FAILED } oc_hello_state;
typedef struct oc_wire_hello {
    uint64_t magic;
    uint32_t version, state;
    uint64_t region_bytes, request_bytes, reply_bytes; /* request_bytes, reply_bytes: capacities */
    uint32_t steps, inputs, horizons, model_version;
    uint64_t schema_low, schema_high;
    char model[OC_WIRE_NAME], version_text[OC_WIRE_SYMBOL];
} oc_wire_hello;

#endif
