/* front.h - what the files of the HTTP front share; nobody outside serve/http includes it.
 * A request takes a slot (room for body and answer) at its head and gives it back when it is completed. What it asks of
 * the model goes through an asker: a client of the server's rings. */
#ifndef OC_SERVE_HTTP_FRONT_H
#define OC_SERVE_HTTP_FRONT_H

#include <microhttpd.h>
#include <pthread.h>

#include "serve/client/client.h"
#include "serve/http/http.h"
#include "serve/http/infer.h"
#include "serve/http/secrets.h"
#include "serve/observed.h"

/* Why a request was not answered with what it asked for; one row: enum, label in metrics, status. */
#define OC_HTTP_REFUSALS(X)                                                                                            \
    X(OC_HTTP_FRAMING, "framing", 400)                                                                                 \
    X(OC_HTTP_SIZE, "size", 413)                                                                                       \
    X(OC_HTTP_REQUEST, "request", 400)                                                                                 \
    X(OC_HTTP_VALUE, "value", 400)                                                                                     \
    X(OC_HTTP_SCHEMA, "schema", 409)                                                                                   \
    X(OC_HTTP_ORDER, "order", 409)                                                                                     \
    X(OC_HTTP_SEQUENCE, "sequence", 404)                                                                               \
    X(OC_HTTP_FULL, "full", 429)                                                                                       \
    X(OC_HTTP_PATH, "path", 404)                                                                                       \
    X(OC_HTTP_METHOD, "method", 405)                                                                                   \
    X(OC_HTTP_CONNECTIONS, "connections", 503)                                                                         \
    X(OC_HTTP_OVERLOAD, "overload", 503)                                                                               \
    X(OC_HTTP_DRAINING, "draining", 503)                                                                               \
    X(OC_HTTP_FAILED, "failed", 503)                                                                                   \
    X(OC_HTTP_SLOW, "slow", 408)                                                                                       \
    X(OC_HTTP_TOKEN, "token", 401)                                                                                     \
    X(OC_HTTP_ORIGIN, "origin", 403)                                                                                   \
    X(OC_HTTP_ENCODING, "encoding", 415)                                                                               \
    X(OC_HTTP_CONTROL, "control", 403)

typedef enum oc_http_refusal {
#define OC_HTTP_ENUM(refusal, name, status) refusal,
    OC_HTTP_REFUSALS(OC_HTTP_ENUM)
#undef OC_HTTP_ENUM
        OC_HTTP_REFUSAL_COUNT
} oc_http_refusal;

enum { OC_HTTP_CODES = 600 };

typedef struct oc_http_header { /* of a request; the last one, and how many there were */
    const char *value;
    int count;
} oc_http_header;

typedef struct oc_http_sender { /* what a request says of who sends it */
    oc_http_header host, origin, authorization;
} oc_http_sender;

typedef struct oc_http_asker { /* a client of the rings; one user at a time */
    pthread_mutex_t lock;
    oc_client *client;
    uint64_t sequence;        /* of the next window */
    int64_t service_ns;       /* that the last answer took to compute */
    int64_t crowded_until_ns; /* until then it does not look for answers, it sleeps: somebody else wants its core */
} oc_http_asker;

typedef struct oc_http_slot { /* what one connection's request needs; taken at its first line */
    struct oc_http_slot *next;
    int64_t begun_ns, json_header; /* json_header: Inference-Header-Content-Length; -1: none */
    size_t body_bytes, answer_bytes, json_bytes;
    bool refused;                   /* before the body has come */
    uint32_t generation;            /* of the version that the path names; 0: none */
    char stream[OC_INFER_SEQUENCE]; /* likewise */
    const char *method;             /* that the path knows, where the request has another */
    int route;                      /* oc_http_route_find's */
    bool loading; /* it is what oc_http_loading is busy with; its connection is suspended until that is done */
    char *body, *answer;
    float *values, *probabilities;
} oc_http_slot;

typedef struct oc_http_loading { /* the one load that is under way; busy by __atomic, the rest is its thread's */
    bool busy;
    pthread_t thread;
    struct MHD_Connection *connection;
    char version[32], message[400];
    oc_status status;
} oc_http_loading;

typedef struct oc_http_total { /* by __atomic */
    uint64_t count, ns;
} oc_http_total;

typedef struct oc_http_explainer { /* of the live version */
    uint32_t generation;
    const oc_ensemble *ensemble; /* `own`, or the server's first version */
    oc_ensemble *own;
    int count; /* 0: it has no attention */
    oc_model *models[OC_ENSEMBLE_MAX];
} oc_http_explainer;

typedef struct oc_http_sequence { /* pushed rows: a session of an asker's ring; or events: a stream of it */
    char id[OC_INFER_SEQUENCE];
    bool stream;          /* rows and events have names of their own */
    bool busy;            /* a request of it is under way: nobody else may touch what stands below */
    oc_http_asker *asker; /* NULL: not yet */
    uint32_t session, run_length;
    uint64_t number;
    int64_t period_ns, used_ns, timeout_ns; /* timeout: of a stream's answers, 0: none */
} oc_http_sequence;
typedef struct oc_http_connection oc_http_connection;
struct oc_http {
    oc_http_config config;
    const oc_server *server;
    const oc_bundle *model;
    struct MHD_Daemon *daemon;
    oc_secrets *secrets;
    int listener;
    pthread_mutex_t lock; /* of the free slots */
    oc_http_slot *slots, *free_slots;
    oc_http_explainer explainer; /* one user at a time */
    pthread_mutex_t explaining;
    float *window, *attention, *attention_mean; /* [T, F], [heads, T], [T] */
    oc_http_asker *askers;
    int asker_count;
    uint32_t asker_next, asking; /* asking: askers that are held, by __atomic */
    oc_http_loading loading;
    oc_http_connection *connections;
    pthread_mutex_t connections_lock;
    oc_http_sequence *sequences;
    pthread_mutex_t sequences_lock;
    pthread_cond_t sequences_stop;
    pthread_t tender;
    bool tending, stopping; /* stopping: under sequences_lock */
    unsigned char *room;
    size_t room_bytes, values_cap, answer_cap;
    int64_t start_ns, start_wall_ns; /* CLOCK_MONOTONIC; since 1970 */
    int64_t certificate_end_s;       /* since 1970; of TLS alone */
    uint32_t draining;
    uint64_t answers[OC_HTTP_CODES], refusals[OC_HTTP_REFUSAL_COUNT]; /* by __atomic */
    uint64_t sequences_open, sequences_expired, under_way, connections_open;
    oc_http_total reading, writing; /* of inference requests and their answers, as bytes */
    oc_histogram whole;             /* from a request's head to its answer, inference alone */
    char address[64], version[32];
};

/* answer.c: each is the end of a request. `last`: and of its connection. */
enum MHD_Result oc_http_respond(oc_http *h, struct MHD_Connection *c, int status, const char *type, const char *data,
                                size_t bytes, bool last);
enum MHD_Result oc_http_send_text(oc_http *h, struct MHD_Connection *c, const char *type, oc_text *text); /* frees it */
enum MHD_Result oc_http_say(oc_http *h, struct MHD_Connection *c, const char *json);
enum MHD_Result oc_http_refuse(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message);
/* A refusal that says more: JSON with "error". Frees it. */
enum MHD_Result oc_http_refuse_text(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, oc_text *text);
enum MHD_Result oc_http_refuse_last(oc_http *h, struct MHD_Connection *c, oc_http_refusal why, const char *message);
enum MHD_Result oc_http_refuse_method(oc_http *h, struct MHD_Connection *c, const char *allowed);
enum MHD_Result oc_http_queue(oc_http *h, struct MHD_Connection *c, int status, struct MHD_Response *r, bool good);
enum MHD_Result oc_http_send(oc_http *h, struct MHD_Connection *c, const oc_infer *r, const oc_http_slot *s);
void oc_http_refusal_count(oc_http *h, oc_http_refusal why);
const char *oc_http_refusal_name(oc_http_refusal why);
bool oc_http_status_known(int status); /* an answer may have it */

/* address.c: a listening socket on config.address; h->address says where. Whether a Host ("localhost:8000") names a
 * loopback address. */
OC_MUST oc_http_listen(oc_http *h);
bool oc_http_host_loopback(const char *host);
bool oc_http_decimal(const char *text, uint64_t max, uint64_t *out);

/* certificate.c: OC_ECONFIG where serve.tls_cert does not hold now; a warning where it will not for long. */
OC_MUST oc_http_certificate_check(oc_http *h);

/* request.c: libmicrohttpd's callbacks, and the slots. */
enum MHD_Result oc_http_on_request(void *context, struct MHD_Connection *c, const char *url, const char *method,
                                   const char *version, const char *data, size_t *data_bytes, void **state);
void oc_http_on_completed(void *context, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code);
void oc_http_slot_give(oc_http *h, oc_http_slot *s);

/* connections.c: a connection is closed that completes neither a head nor a request for config.timeout_ns and a second,
 * whatever drips in; so is one, without waiting so long, whose client has said that nothing more comes. */
OC_MUST oc_http_connections_open(oc_http *h);
void oc_http_connections_close(oc_http *h);
void oc_http_on_connection(void *context, struct MHD_Connection *c, void **own,
                           enum MHD_ConnectionNotificationCode code);
void oc_http_connection_touch(struct MHD_Connection *c); /* a head or a request is complete */
void oc_http_connections_tend(oc_http *h);               /* once a second or so */

/* ask.c */
typedef struct oc_http_asked {
    uint32_t worst, generation; /* oc_reply_state; of the version that answered */
    bool mixed;                 /* not all windows by the same version: it was swapped meanwhile */
    char version[OC_WIRE_SYMBOL];
    oc_infer_times times;
} oc_http_asked;
OC_MUST oc_http_askers_open(oc_http *h);
void oc_http_askers_close(oc_http *h);
oc_http_asker *oc_http_asker_take(oc_http *h);         /* locked; any, preferably a free one */
void oc_http_asker_hold(oc_http *h, oc_http_asker *a); /* likewise, this very one */
void oc_http_asker_give(oc_http *h, oc_http_asker *a);
/* All windows of the request; OC_EAGAIN: no answer in time. */
OC_MUST oc_http_ask_windows(const oc_http *h, oc_http_asker *a, oc_http_slot *s, const oc_infer *r, oc_http_asked *out);
/* Rows before the last as a history, then the last one; the asker is locked. */
OC_MUST oc_http_ask_push(const oc_http *h, oc_http_asker *a, oc_http_slot *s, const oc_infer *r, uint32_t session,
                         uint64_t number, uint32_t run_length, oc_http_asked *out);

/* Events of a stream; each reply to them is given to `take`, the last one also to *last: of the last event, or one that
 * refuses an event or all of them. OC_EAGAIN: not all came in time, or the events do not fit into the ring. */
OC_MUST oc_http_ask_events(const oc_http *h, const oc_http_sequence *q, oc_http_slot *s, const struct oc_event *events,
                           size_t count, oc_wire_reply *last, void (*take)(void *, const oc_wire_reply *),
                           void *context);

/* inference.c, routes.c */
enum MHD_Result oc_http_infer(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_finish(oc_http *h, struct MHD_Connection *c, oc_http_slot *s, oc_infer *r,
                               const oc_http_asked *asked); /* an answer, or the refusal that its state means */
/* What the path and method lead to; never fails: what is refused is a route too. */
int oc_http_route_find(const oc_http *h, oc_http_slot *s, const char *url, const char *method);
/* Whether this sender may ask for it; `why` and `message` of the refusal where not. */
bool oc_http_route_allowed(const oc_http *h, int route, const oc_http_sender *sender, oc_http_refusal *why,
                           const char **message);
enum MHD_Result oc_http_route(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);

const char *oc_http_route_path(int route);

/* page.c: the dashboard. attention.c: what it shows of a window. */
enum MHD_Result oc_http_page(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_attention(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
OC_MUST oc_http_explainer_open(oc_http *h);
void oc_http_explainer_tend(oc_http *h); /* once a second or so */
void oc_http_explainer_close(oc_http *h);

/* control.c: the repository extension. */
enum MHD_Result oc_http_index(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_load(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
void oc_http_load_completed(oc_http *h, oc_http_slot *s); /* also of a load whose client has gone meanwhile */
enum MHD_Result oc_http_unload(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);

/* reports.c: what is told of the server and its model, and of this front. */
enum MHD_Result oc_http_metrics(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_status(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_drift(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_statistics(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);

/* streams.c: market events. */
enum MHD_Result oc_http_stream_open(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_stream_events(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);
enum MHD_Result oc_http_stream_close(oc_http *h, struct MHD_Connection *c, oc_http_slot *s);

/* sequences.c: pushes, and the table of sequences and streams. enter: the one of that id, made where it begins and
 * there is none; it is the caller's until leave, and NULL where it is another's, unknown or one too many. close: what
 * it has at its asker, which is locked. */
oc_http_sequence *oc_http_sequence_enter(oc_http *h, const char *id, bool stream, bool begins, oc_http_refusal *why,
                                         const char **message);
void oc_http_sequence_leave(oc_http *h, oc_http_sequence *q, bool end);
void oc_http_sequence_close(const oc_http_sequence *q);
OC_MUST oc_http_sequences_open(oc_http *h);
void oc_http_sequences_close(oc_http *h); /* before the askers are closed */
enum MHD_Result oc_http_push(oc_http *h, struct MHD_Connection *c, oc_http_slot *s, oc_infer *r);

#endif
