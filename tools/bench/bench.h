/* bench.h - `outcry bench NAME`: one row a bench. A bench measures Outcry and its peer in the same run, several times,
 * and compares with the peer's best; without the peer's scripts or Python it prints its own figure and says that the
 * peer is absent.
 * Add one: a file bench_NAME.c with `oc_status oc_bench_NAME(const oc_bench_options *, oc_bench_report *)`, and a row
 * in benches.h. */
#ifndef OC_TOOLS_BENCH_H
#define OC_TOOLS_BENCH_H

#include <stdbool.h>
#include "base/status.h"
#include "kernels/ops.h"

/* `bench serve` under load: on where a rate, a share, a sweep or an overload is asked for. */
enum { OC_BENCH_CLIENTS_MAX = 64 };
typedef enum { OC_BENCH_WINDOW, OC_BENCH_PUSH, OC_BENCH_TICK } oc_bench_mode;
typedef struct oc_bench_load {
    oc_bench_mode mode;
    double rate, share; /* requests a second, with ticks events; of the capacity; 0: not given */
    int clients, burst;                        /* burst: requests due at one instant, of so many sessions */
    bool http, even, sweep, overload;    /* even: gaps within a quarter of their mean, else as Poisson's */
    uint64_t seed;
    int64_t deadline_ns, queue_max_ns;         /* 0: none */
    const char *page;                          /* of the sweep, NULL: none */
} oc_bench_load;

typedef struct oc_bench_options {
    double seconds;                            /* length of each timed part */
    int repeats, threads, hidden, steps, inputs, layers, heads, batch;   /* 0: the bench's own default */
    const char *peers, *python;                /* folder of the peer scripts; interpreter; NULL: no peer */
    const char *trading_python;                /* of the trading peers, which want other versions; NULL: python */
    const char *data;                          /* folder of recorded market data; NULL: none */
    bool tiny;                                 /* CI: a fraction of the work, to keep it from rotting */
    oc_backend_kind backend;                   /* CPU or CUDA: benches that do not know CUDA are not called with it */
    oc_math math;                              /* CUDA */
    bool resident;                             /* CUDA, latency-push: gpu_path resident */
    oc_bench_load load;
} oc_bench_options;

typedef struct oc_bench_figure {
    char figure[64], unit[24], peer[64], note[160];
    double value, peer_value, ratio;           /* peer_value, ratio NaN where the peer is absent */
} oc_bench_figure;

enum { OC_BENCH_FIGURES_MAX = 32 };
typedef struct oc_bench_report { oc_bench_figure figure[OC_BENCH_FIGURES_MAX]; int count; } oc_bench_report;

/* ratio = value / peer_value as it stands; peer "" and peer_value NaN where there is none. */
void oc_bench_add(oc_bench_report *r, const char *figure, double value, const char *unit, const char *peer,
                  double peer_value, const char *note);
/* One number of a peer's JSON lines: of the last line with this metric whose workload begins so (NULL: any). */
typedef struct oc_bench_want {
    const char *workload, *metric, *key;
    double value;                              /* NaN: not found */
} oc_bench_want;

/* Runs `python script arguments…` (arguments end with NULL), options->repeats times, and keeps the numbers of the
 * run with the best want[0]. NaN and OC_OK where interpreter or script is not there, or the run failed (the log says
 * so). */
OC_MUST oc_bench_peer_run(const oc_bench_options *o, const char *python, const char *script,
                          const char *const *arguments, oc_bench_want *want, size_t wants, bool lower_is_better);
/* The same for a script of the peers' folder and the `value` of one metric, with o->python. */
OC_MUST oc_bench_peer(const oc_bench_options *o, const char *script, const char *const *arguments, const char *metric,
                      bool lower_is_better, double *value);

/* The place of a script of the project's own, tools/bench/peers; of another folder where OUTCRY_OWN_PEERS names one
 * (programs that were built elsewhere). */
OC_MUST oc_bench_own_peer(char *path, size_t cap, const char *script);

extern const char *const oc_bench_forty[40];   /* features: what a row of 40 is in every bench */

#endif
