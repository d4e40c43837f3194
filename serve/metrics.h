/* metrics.h - the counters of a server as Prometheus text, format 0.0.4: counters end in _total, one line a series. */
#ifndef OC_SERVE_METRICS_H
#define OC_SERVE_METRICS_H

#include "base/text.h"
#include "serve/batcher.h"

typedef struct oc_server_stats {
    uint64_t hellos[OC_HELLO_FAILED + 1];
} oc_server_stats; /* clients by what they were told */

void oc_metrics_write(oc_text *out, const oc_bundle *bundle, const oc_server_stats *server, const oc_batcher *batchers,
                      int batcher_count);

#endif
