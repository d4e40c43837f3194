/* metrics.h - the figures of a server, summed over its batchers while they run: each number is right by itself, not all
 * at one instant. As Prometheus text, format 0.0.4: counters end in _total, one line a series. */
#ifndef OC_SERVE_METRICS_H
#define OC_SERVE_METRICS_H

#include "base/text.h"
#include "serve/batcher.h"

typedef struct oc_server_stats {
    uint64_t hellos[OC_HELLO_FAILED + 1]; /* clients by what they were told */
    uint64_t accept_failures;
    int stalled; /* batchers that end no rounds: watch.h */
} oc_server_stats;

enum { OC_FIGURES_SIZES = 13 }; /* up to OC_OBSERVED_BATCH_MAX */
typedef struct oc_figures {
    oc_batcher_stats stats;
    oc_histogram queue, service, whole;
    uint64_t batches[OC_OBSERVED_BATCH_MAX], batches_ns[OC_OBSERVED_BATCH_MAX]; /* of i + 1 requests */
    uint64_t sizes[OC_FIGURES_SIZES]; /* batches of up to 2^i, and of more than the one before */
    uint64_t batch_count, batch_requests, batch_ns, rows, in_queue;
    int64_t last_ns;              /* of the last answer, CLOCK_MONOTONIC; 0: none */
    double budget_used;           /* of the batcher that has the least left: 0 none, 1 all of serve.advance_budget */
    double shift_max, spread_max; /* largest |mean| of a standardised input, largest ratio of its deviation to 1 */
    int drifted, shift_at, spread_at; /* inputs beyond OC_DRIFT_SHIFT or OC_DRIFT_SPREAD; which are the largest */
} oc_figures;

/* An input has drifted where its running mean lies a standard deviation of training from training's, or its deviation
 * is twice or half of it; not before OC_DRIFT_ROWS_MIN rows came. */
#define OC_DRIFT_SHIFT  1.0
#define OC_DRIFT_SPREAD 2.0
enum { OC_DRIFT_ROWS_MIN = 100 };

typedef struct oc_scaling { /* of training, of the version that is live; [inputs] */
    float mean[OC_INPUTS_MAX], scale[OC_INPUTS_MAX];
} oc_scaling;

void oc_figures_sum(oc_figures *out, const oc_batcher *batchers, int batcher_count, const oc_scaling *live);
/* Over all batchers, weighted by the rows of each; mean and variance [inputs], in the units of `live`, whichever
 * version the batchers began with. Returns the rows. */
uint64_t oc_figures_drift(const oc_batcher *batchers, int batcher_count, const oc_scaling *live, float *mean,
                          float *variance);

void oc_metrics_head(oc_text *out, const char *name, const char *type, const char *help);
void oc_metrics_histogram(oc_text *out, const char *name, const char *help, const oc_histogram *h);
/* version: of the live one; the bundle is the first one's */
void oc_metrics_write(oc_text *out, const oc_bundle *bundle, const char *version, const oc_server_stats *server,
                      const oc_figures *figures, const char *backend);
extern const char *const oc_request_names[OC_BATCHER_KINDS];
extern const char *const oc_reply_names[OC_REPLY_STATE_COUNT];

#endif
