/* served.h - a folder of a test's own, and in it a bundle, a server and the server's socket. Below /tmp, as a socket's
 * path is short and another user must come there too. */
#ifndef OC_TESTS_SERVE_SERVED_H
#define OC_TESTS_SERVE_SERVED_H

#include "base/cmocka_all.h"
#include "nn/sample_bundle.h"
#include "serve/server.h"

typedef struct served {
    char folder[32], socket[48], address[64];
    oc_server *server; /* NULL: none runs */
} served;

static inline void served_make(served *s)
{
    *s = (served){.folder = "/tmp/oc_serve_XXXXXX"};
    if (!mkdtemp(s->folder)) fail_msg("no folder %s", s->folder);
    snprintf(s->socket, sizeof s->socket, "%s/s.sock", s->folder);
    snprintf(s->address, sizeof s->address, "unix:%s", s->socket);
}

/* A bundle of this shape, with enlarged weights, also saved in the folder; the caller's to close. */
static inline oc_bundle *served_bundle(const served *s, const oc_model_shape *shape)
{
    oc_bundle *bundle;
    must(sample_bundle(&bundle, shape, 3.0f, 4.0, 5));
    must(oc_bundle_save(bundle, s->folder));
    return bundle;
}

/* Of a small server on the folder's bundle; a test changes what it is about. */
static inline oc_server_config served_config(const served *s)
{
    return (oc_server_config){.bundle = s->folder,
                              .socket = s->socket,
                              .threads = 1,
                              .batch_max = 7,
                              .clients_max = 6,
                              .sessions_max = 8,
                              .ring_bytes = 4096,
                              .memory_max_bytes = 64 << 20,
                              .advance_budget = 0.9,
                              .backend = {.kind = OC_BACKEND_CPU}};
}

static inline void served_start(served *s, const oc_server_config *config)
{
    must(oc_server_open(&s->server, config));
}

/* It takes its socket with it. */
static inline void served_stop(served *s)
{
    if (!s->server) return;
    oc_server_close(s->server);
    s->server = NULL;
    assert_int_not_equal(access(s->socket, F_OK), 0);
}

static inline void served_remove(served *s)
{
    char command[64];
    served_stop(s);
    snprintf(command, sizeof command, "rm -r %s", s->folder);
    assert_int_equal(system(command), 0);
}

#endif
