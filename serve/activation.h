/* activation.h - systemd's two small protocols, without its library: listening sockets that are handed to the process
 * (LISTEN_PID, LISTEN_FDS) and states that it is told (NOTIFY_SOCKET). A socket that outlives the server keeps clients
 * waiting through a restart where they would be refused. */
#ifndef OC_SERVE_ACTIVATION_H
#define OC_SERVE_ACTIVATION_H

#include "base/status.h"

typedef struct oc_activation { /* 0: not handed in */
    int rings, http;           /* a listening SOCK_SEQPACKET Unix socket; a listening TCP socket */
} oc_activation;

/* What was handed to this process, close-on-exec and non-blocking; the variables are removed. OC_ECONFIG names a socket
 * of another kind, or the second of one. Nothing handed in is OC_OK. Where the sockets lie is compared by who uses
 * them. */
OC_MUST oc_activation_take(oc_activation *out);

/* "READY=1", "STOPPING=1"; nothing where nobody asked for it. A failure is logged, no more. */
void oc_activation_tell(const char *state);

#endif
