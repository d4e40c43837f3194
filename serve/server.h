/* server.h - the inference server without any network: bundles loaded, batchers (one thread each) that answer clients
 * through shared-memory rings, and an acceptor that hands rings out on a Unix socket to clients of the same user.
 * HTTP stands before it as one more client (serve/http). All memory is planned and taken in open. */
#ifndef OC_SERVE_SERVER_H
#define OC_SERVE_SERVER_H

#include "base/text.h"
#include "nn/model.h"
#include "serve/batcher.h"
#include "serve/accuracy.h"

typedef struct oc_server_config {
    const char *bundle, *socket; /* folder; path of the Unix socket, replaced where it is left over */
    int listener; /* a socket that already listens there (activation.h), neither made nor removed; 0: none */
    /* NULL or "": bundle alone; else versions of one model, changed while it runs (models_state.h), and `bundle` is
     * not looked at. model: NULL or "" where the repository holds one. */
    const char *repository, *model;
    int64_t verify_ns;         /* files of loaded versions are hashed again so often; 0: never */
    oc_backend_config backend; /* math BF16: the CPU's, behind `accuracy`; wait_max_ns: serve.gpu_watchdog_ms */
    oc_accuracy accuracy;
    bool resident;                 /* serve.gpu_path */
    int threads;                   /* batchers; clients are spread over them */
    int batch_max;                 /* windows of one batch */
    int clients_max, sessions_max; /* of all batchers; of one batcher */
    size_t ring_bytes;             /* of a client's requests, a power of two */
    size_t memory_max_bytes;       /* of sessions' windows, all batchers; refused at start beyond it */
    double advance_budget;         /* share of a batcher's time that advances of its sessions may take */
    int64_t queue_max_ns;          /* a window that waited longer is refused; 0: none is */
    int64_t session_idle_ns;       /* a session that nobody asks of is ended; 0: never */
    oc_stream_config ticks;        /* streams of a batcher; memory_max_bytes: of all batchers */
    int64_t stall_ns;              /* a batcher that ends no round for so long has stalled: watch.h; 0: none has */
    const char *pin, *gpus;        /* oc_pin_parse, oc_gpus_parse */
    oc_batcher_wait wait;
    int64_t spin_ns; /* an idle batcher spins so long, then yields, then sleeps */
} oc_server_config;

typedef struct oc_server oc_server;
OC_MUST oc_server_open(oc_server **out, const oc_server_config *config); /* answers from here on */
/* Takes no further clients, answers what is in the rings (at most two seconds), stops the threads, removes the socket.
 */
void oc_server_close(oc_server *s);
const oc_bundle *
oc_server_bundle(const oc_server *s); /* the first version's: name, schema, T, F, horizons hold for all */
const oc_ensemble *oc_server_ensemble(const oc_server *s); /* the first version: of one member where it is a bundle */
/* The live version and its generation, as a reply names them; the text of a generation, false where none was; and the
 * generation of a version that is loaded (oc_loader_generation). */
void oc_server_live(const oc_server *s, char version[32], uint32_t *generation);
bool oc_server_version(const oc_server *s, uint32_t generation, char version[32]);
bool oc_server_generation(const oc_server *s, const char *version, uint32_t *generation);
void oc_server_models(const oc_server *s, oc_text *out); /* oc_loader_write */
const char *oc_server_trouble(const oc_server *s);       /* of a batcher that answers nobody; NULL: none */
const char *oc_server_backend(const oc_server *s); /* "cpu avx512", "cpu avx512_bf16 in bf16", "cuda NVIDIA H200" */
size_t oc_server_planned_bytes(const oc_server *s);
void oc_server_metrics(const oc_server *s, oc_text *out); /* Prometheus text format 0.0.4 */
void oc_server_status(const oc_server *s, oc_text *out);  /* serve/status.h */
void oc_server_drift(const oc_server *s, oc_text *out);   /* serve/status.h */
struct oc_figures;
struct oc_seat_view;
void oc_server_figures(const oc_server *s, struct oc_figures *out); /* serve/metrics.h */
/* The last window [T,F] and answer of a seat (serve/observed.h) of a batcher; false where there is none. */
bool oc_server_window(const oc_server *s, int batcher, size_t seat, struct oc_seat_view *out, float *window);

#endif
