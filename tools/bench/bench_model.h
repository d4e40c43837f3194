/* bench_model.h - what the inference benches share: a model with fresh weights in memory, rows to feed it, its
 * operations by shape, the peak of the core, timing, and ONNX Runtime's best form as the peer. */
#ifndef OC_TOOLS_BENCH_MODEL_H
#define OC_TOOLS_BENCH_MODEL_H

#include <stdint.h>
#include "nn/model.h"
#include "tools/bench/bench.h"

typedef struct bench_model {
    oc_model_shape shape;
    oc_bundle *bundle;
    oc_model *model;
    float *rows; /* [batch, T, F] */
    size_t windows;
    float *answers;
    size_t answers_cap;
} bench_model;

oc_model_shape bench_shape(const oc_bench_options *o); /* the default is S: 2 x 64, T 100, F 40, 4 heads */
OC_MUST bench_model_open(bench_model *b, const oc_model_shape *shape, size_t windows); /* on the CPU */
OC_MUST bench_model_open_on(bench_model *b, const oc_backend_config *config, const oc_model_shape *shape,
                            size_t windows);
/* "avx2"; "cuda" */
const char *bench_place(const bench_model *b);
void bench_model_close(bench_model *b);

/* Operations (two a fused multiply-add) of one window, and of the advance of T - 1 windows with what it prepares. */
double bench_window_operations(const oc_model_shape *s);
double bench_advance_operations(const oc_model_shape *s);

void bench_pin(void);   /* this process, and its peers with it, to its last allowed core … */
void bench_unpin(void); /* … and back to all that it had */
double bench_peak(const oc_model *m, double seconds); /* operations a second of this core */

typedef struct bench_times {
    int64_t *ns;
    size_t count, cap;
} bench_times;
OC_MUST bench_times_open(bench_times *t);
void bench_times_close(bench_times *t);
void bench_times_add(bench_times *t, int64_t ns);
double bench_times_us(bench_times *t, double quantile); /* sorts */

/* The best of ONNX Runtime over the graphs `last` and `full` (both with the shape's sizes); name: "onnxruntime last".
 * */
OC_MUST bench_onnxruntime(const oc_bench_options *o, const oc_model_shape *s, int batch, int threads,
                          const char *metric, bool lower, double *value, char *name, size_t name_cap);

#endif
