/* bench_load.h - a server in this process under an open loop: requests are due at the times of a seeded schedule,
 * whether or not answers keep up, and an answer's time counts from when its request was due, not from when it could be
 * sent (no coordinated omission). One thread sends and polls, spinning; the server's batcher has the other core. */
#ifndef OC_TOOLS_BENCH_LOAD_H
#define OC_TOOLS_BENCH_LOAD_H

#include "base/spread.h"
#include "serve/client/client.h"
#include "serve/server.h"
#include "serve/http/http.h"
#include "tools/bench/bench_http.h"
#include "tools/bench/bench_market.h"

enum { LOAD_SEGMENTS_MAX = 3, LOAD_WAITING_MAX = 256, LOAD_ANSWER_BYTES = 8192, LOAD_BATCH = 8 };

typedef struct load_client {
    oc_client *ring;
    uint32_t session;
    uint64_t sequence;
    size_t at; /* of the market: the next packet, */
    int64_t later_ns;
    uint64_t behind; /* and what is added to its time and numbers in this lap */
    bench_http http; /* one request at a time is under way; those that are due meanwhile wait here */
    int64_t due_ns[LOAD_WAITING_MAX];
    unsigned waiting, first;
    bool asked;
    char answer[LOAD_ANSWER_BYTES];
    size_t have, want;
} load_client;

typedef struct load_rig {
    bench_model b;
    const oc_bench_load *o;
    oc_server *server;
    oc_http *front;
    load_client *clients;
    int client_count; /* opened */
    char folder[64], address[128];
    const struct load_transport *by;
    bench_market market;                 /* --mode tick: of every stream, over and over */
    double packet_events;                /* of a request, in the mean; 1 but with ticks */
    oc_event packet[OC_WIRE_EVENTS_MAX]; /* the one that is sent */
} load_rig;

typedef enum { LOAD_OK, LOAD_LATE, LOAD_REFUSED, LOAD_FAILED } load_outcome;
typedef struct load_answer {
    int64_t due_ns;
    load_outcome outcome;
} load_answer;

typedef struct load_transport {
    oc_status (*open)(load_rig *, load_client *, int number);
    oc_status (*send)(load_rig *, load_client *, int64_t due_ns); /* OC_EAGAIN: no room, which is a refusal */
    oc_status (*poll)(load_rig *, load_client *, load_answer *, bool *any);
    void (*close)(load_client *);
} load_transport;
extern const load_transport bench_load_ring, bench_load_http, bench_load_ticks;

/* A stretch of the schedule and what came of the requests due in it. */
typedef struct load_segment {
    double rate, seconds;
    oc_spread spread; /* ns from due to answered, of those answered in time */
    uint64_t due, late, refused, failed,
        lost;                     /* refused: by the server, or no room to ask; lost: no answer within 5 s */
    double good_s;                /* from its begin to the first request of 100 answered in a row; NaN: never */
    double half_bytes, end_bytes; /* of this process in the middle and at the end */
} load_segment;

OC_MUST bench_load_open(load_rig *r, const oc_bench_options *o);
void bench_load_close(load_rig *r);
OC_MUST bench_load_run(load_rig *r, load_segment *segments, int count);
double bench_load_advance_s(const load_rig *r); /* of one pushed row; NaN where there are no sessions */

load_outcome bench_load_outcome(uint32_t reply_state); /* bench_load_ways.c */
/* bench_load_ticks.c: the market, and the schema of its rows in r->b.bundle; what a server must know of them; seconds
 * of the feature engine for a packet, called directly. */
OC_MUST bench_load_market(load_rig *r);
oc_stream_config bench_load_streams(const load_rig *r);
OC_MUST bench_load_stream_http(load_rig *r, load_client *c, int number); /* opens it, and sends until it answers */
OC_MUST bench_load_packet_request(load_rig *r, load_client *c);          /* the next packet as a request */
OC_MUST bench_load_engine_s(const load_rig *r, double *packet_s);

/* bench_serve.c: a bundle on disk, in a folder of its own */
OC_MUST bench_folder_make(bench_model *b, char folder[64]);
void bench_folder_remove(const char *folder);

/* bench_load_page.c */
OC_MUST bench_load_page(const char *path, const load_rig *r, const load_segment *points, int count, double capacity,
                        const char *place);
/* bench_serve_load.c */
OC_MUST bench_serve_load(const oc_bench_options *o, oc_bench_report *report);

#endif
