/* benches.h - the list of benches: name, what the figure means. One row adds one. */
#ifndef OC_TOOLS_BENCHES_H
#define OC_TOOLS_BENCHES_H

#include "tools/bench/bench.h"

#define OC_BENCHES(X)                                                                                                  \
    X("features", features, "rows a second of the feature engine: 40 features on a book, nine indicators on bars")     \
    X("latency-window", latency_window, "time of one answer to a whole window, one core")                              \
    X("latency-push", latency_push, "time of the answer to one pushed row, and of the advance behind it, one core")    \
    X("throughput-window", throughput_window, "whole windows a second in batches of 256, one and two threads")         \
    X("serve", serve, "added over the rings; HTTP beside MLServer; under --rate, --load, --sweep, --overload")         \
    X("train-rate", train_rate, "windows a second of whole training steps at H = 64 and 128, beside PyTorch eager")    \
    X("lstm-layer", lstm_layer, "us a time step of one LSTM layer, forward and forward + backward, each variant")      \
    X("ranks", ranks, "windows a second of two ranks of mpirun, a thread each, beside one; H = 128")                  \
    X("dataset-load", dataset_load, "opening a dataset with every hash and value checked, against memcpy and h5py") \
    X("backtest", backtest, "messages a second of whole backtests, one core, beside hftbacktest and nautilus_trader")  \
    X("risk", risk, "time from a prediction to an order through the whole risk gate, one core")

#define OC_BENCH_DECLARE(name, function, text)                                                                         \
    oc_status oc_bench_##function(const oc_bench_options *, oc_bench_report *);
OC_BENCHES(OC_BENCH_DECLARE)
#undef OC_BENCH_DECLARE

#endif
