/* bench_train_rate.h - the half of train-rate that runs on a device. */
#ifndef OC_TOOLS_BENCH_TRAIN_RATE_H
#define OC_TOOLS_BENCH_TRAIN_RATE_H

#include "nn/shape.h"
#include "tools/bench/bench.h"

/* Windows a second of whole training steps on o->backend, over `rows` rows that lie there. */
OC_MUST bench_train_rate_device(const oc_bench_options *o, const oc_model_shape *shape, int batch, int64_t rows,
                                double *rate);

#endif
