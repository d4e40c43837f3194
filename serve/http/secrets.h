/* secrets.h - tokens and the key of TLS: read from files that only their owner may read, kept in memory that is neither
 * swapped out nor dumped, compared in constant time, and never printed. */
#ifndef OC_SERVE_HTTP_SECRETS_H
#define OC_SERVE_HTTP_SECRETS_H

#include <stdbool.h>
#include "base/status.h"

enum { OC_SECRET_TOKEN = 256, OC_SECRET_PEM = 65536, OC_SECRET_TOKEN_MIN = 16 };

typedef struct oc_secrets {                                /* mapped by open */
    char token[OC_SECRET_TOKEN], control[OC_SECRET_TOKEN]; /* NUL-padded; "": none */
    char certificate[OC_SECRET_PEM], key[OC_SECRET_PEM];
} oc_secrets;

typedef struct oc_secrets_config {
    const char *token_file, *control_token_file, *tls_cert, *tls_key; /* paths; NULL or "": none */
} oc_secrets_config;

/* OC_ECONFIG names the key and the file, never what is in it: mode 0600 or 0400, this user's (or one of
 * $CREDENTIALS_DIRECTORY, root's and 0440), one line of 16 to 255 printable characters;
 * certificate and key both or neither. */
OC_MUST oc_secrets_open(oc_secrets **out, const oc_secrets_config *config);
void oc_secrets_close(oc_secrets *s); /* wipes; NULL is fine */
/* Whether `header` is "Bearer TOKEN" with this token, which must be one; takes the same time for any header. */
bool oc_secrets_match(const char token[OC_SECRET_TOKEN], const char *header);

#endif
