/* status.h - the figures of a server as JSON, for a page or a terminal that looks on. */
#ifndef OC_SERVE_STATUS_H
#define OC_SERVE_STATUS_H

#include "serve/metrics.h"

/* Members of an object, without its braces: model, version, build, backend, stages (counts of oc_histogram's buckets),
 * bounds_ns, replies, sizes, sessions, budget, inputs (drift), instruments (of each session its last answer). */
void oc_status_write(oc_text *out, const oc_bundle *bundle, const char *version, const oc_figures *figures,
                     const oc_batcher *batchers, int batcher_count, const char *backend);
/* {"rows": n, "features": [{"name", "shift", "deviation"}]}: every input. */
void oc_status_drift(oc_text *out, const oc_bundle *bundle, const oc_batcher *batchers, int batcher_count,
                     const oc_scaling *live);
void oc_status_histogram(oc_text *out, const oc_histogram *h); /* [counts] */
void oc_status_string(oc_text *out, const char *text);         /* in quotes; other than printable ASCII becomes '?' */

#endif
