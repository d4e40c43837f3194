/* observed.h - what a batcher notes of its work for those who look on: times by stage, sizes of batches, how far inputs
 * have drifted from what the model was trained on, and of each session its last answer and window. Written by the
 * batcher's thread alone, behind its answers, without a system call or an allocation; read by any thread at any time.
 */
#ifndef OC_SERVE_OBSERVED_H
#define OC_SERVE_OBSERVED_H

#include "nn/bundle.h"
#include "serve/client/wire.h"

enum {
    OC_HISTOGRAM_BUCKETS = 36,
    OC_OBSERVED_BATCH_MAX = 4096 /* requests of a batch: windows (serve.batch_max), rows */
};

typedef struct oc_histogram { /* two buckets an octave from 1 us; the last one holds all that is longer */
    uint64_t buckets[OC_HISTOGRAM_BUCKETS], ns, count;
} oc_histogram;
int64_t oc_histogram_bound_ns(int bucket);          /* of the last one: INT64_MAX */
void oc_histogram_add(oc_histogram *h, int64_t ns); /* one writer */
void oc_histogram_add_shared(oc_histogram *h, int64_t ns);

typedef struct oc_seat { /* of one session; a reader copies it and looks whether `turn` is still the same, and even */
    uint64_t turn, full; /* full: the rows are a whole window */
    uint64_t at;         /* where the next row goes */
    int64_t answered_ns; /* CLOCK_MONOTONIC; 0: nothing was answered yet */
    uint32_t generation; /* of the model */
    char symbol[OC_WIRE_SYMBOL];
    float answer[OC_WIRE_HORIZONS_MAX][3];
    float *rows; /* [steps, inputs], a ring */
} oc_seat;

typedef struct oc_observed {
    oc_histogram queue, service, whole;
    uint64_t batches[OC_OBSERVED_BATCH_MAX], batches_ns[OC_OBSERVED_BATCH_MAX]; /* of i + 1 requests; time in them */
    uint64_t rows;                                                              /* seen */
    uint64_t in_queue;                                                          /* requests of the last batch */
    int64_t last_ns; /* of the last answer, CLOCK_MONOTONIC */
    int steps, inputs, horizons;
    size_t seat_count; /* sessions, and one more for windows of no session */
    oc_seat *seats;
    float *means, *scales;       /* [inputs]: of training; scales inverted */
    float *shift, *spread;       /* [inputs]: the batcher's own */
    float *shown, *shown_spread; /* [inputs]: the same, for readers */
    float *room;                 /* the seats' rows */
    int64_t window_ns;           /* when a window of no session was kept last */
} oc_observed;

size_t oc_observed_bytes(const oc_model_shape *shape, size_t sessions); /* that init takes */
OC_MUST oc_observed_init(oc_observed *o, const oc_bundle *bundle, size_t sessions);
void oc_observed_deinit(oc_observed *o);
void oc_observed_times(oc_observed *o, int64_t queue_ns, int64_t service_ns, int64_t now_ns);
void oc_observed_batch(oc_observed *o, int n, int64_t ns);
/* A pushed row; answer [horizons,3], NULL where the window is not complete. */
void oc_observed_push(oc_observed *o, size_t session, const char *symbol, const float *row, const float *answer,
                      uint32_t generation);
/* A whole window: its last row counts for drift; it is kept, as the seat behind the sessions, ten times a second. */
void oc_observed_window(oc_observed *o, const float *rows, const float *answer, uint32_t generation);
void oc_observed_leave(oc_observed *o, size_t session); /* it ended */

/* Readers. A view of a seat that is written meanwhile is tried again; false: empty, or always just being written. */
typedef struct oc_seat_view {
    char symbol[OC_WIRE_SYMBOL];
    int64_t answered_ns;
    uint32_t generation;
    bool full; /* `window` is one */
    float answer[OC_WIRE_HORIZONS_MAX][3];
} oc_seat_view;
bool oc_observed_read(const oc_observed *o, size_t seat, oc_seat_view *out, float *window); /* window: or NULL */
/* Running mean and variance of (x - mean) / scale per feature, over about the last OC_DRIFT_ROWS rows; [inputs] each,
 * finite: what lies over 64 deviations away counts as 64. */
enum { OC_DRIFT_ROWS = 2048 };
void oc_observed_drift(const oc_observed *o, float *mean, float *variance);

#endif
