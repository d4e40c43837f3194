/* top.h - a server's figures in a terminal: /outcry/status asked over HTTP on a loopback address, and two answers of it
 * as text. The address is not left: a token would travel in clear. */
#ifndef OC_SERVE_HTTP_TOP_H
#define OC_SERVE_HTTP_TOP_H

#include "base/json.h"
#include "base/text.h"

/* address: "127.0.0.1:8000"; token: NULL where the server asks for none. OC_EAGAIN: nobody answers there in time. */
OC_MUST oc_top_read(const char *address, const char *token, int64_t timeout_ns, json_t **status);

/* before: an earlier answer of the same server, or NULL: rates and percentiles since it began. Nothing but printable
 * characters and newlines, at most `columns` wide and `lines` high; `colour` adds escapes. */
typedef struct oc_top_view {
    int columns, lines;
    bool colour;
} oc_top_view;
void oc_top_print(oc_text *out, const json_t *now, const json_t *before, const oc_top_view *view);

/* {"rate", "p50_ns", "p90_ns", "p99_ns", "p999_ns"} of the answers; NULL: no memory. Percentiles are null where there
 * was no answer. */
json_t *oc_top_figures(const json_t *now, const json_t *before);

#endif
