/* models_server.h - what a running server says of its versions: the file SOCKET.json that it keeps beside its socket.
 */
#ifndef OC_SERVE_MODELS_SERVER_H
#define OC_SERVE_MODELS_SERVER_H

#include "base/json.h"

/* OC_EDATA where no server has written it; release with json_decref. */
OC_MUST oc_models_server_read(const char *socket, json_t **out);
/* Waits until the server has done what state.json says: `version` is live, or (candidate) runs beside it; OC_EDATA with
 * the server's reason where it refuses, OC_EAGAIN after timeout_ns. *out: what it said last. */
OC_MUST oc_models_server_await(const char *socket, const char *repository, const char *name, const char *version,
                               bool candidate, int64_t timeout_ns, json_t **out);

#endif
