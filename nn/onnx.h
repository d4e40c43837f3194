/* onnx.h - a bundle as one ONNX file (IR 8, opset 17): input `window` [batch, T, F] raw features, output
 * `probabilities` [batch, horizons, 3]. Scaler, clip and temperature are inside; the runtime needs nothing else. */
#ifndef OC_NN_ONNX_H
#define OC_NN_ONNX_H

#include "nn/bundle.h"

OC_MUST oc_onnx_write(const oc_bundle *b, const char *path); /* atomic; OC_ELIMIT over protobuf's 2 GiB */
/* Reads the file back and evaluates its graph, in f64, by an interpreter of just the operators that oc_onnx_write uses:
 * windows [count, T, F] -> probabilities [count, horizons, 3]. It shares no arithmetic with kernels/. */
OC_MUST oc_onnx_evaluate(const char *path, const float *windows, size_t count, int steps, int inputs,
                         double *probabilities, size_t probabilities_cap);
/* Largest difference between that and oc_model_predict over `count` random windows, some of them beyond the clip. */
OC_MUST oc_onnx_compare(const oc_bundle *b, const char *path, size_t count, uint64_t seed, double *max_difference);
/* Writes beside `path`, compares as above, and only then replaces an old file: OC_EFAILED where the difference is not
 * at most difference_max. */
OC_MUST oc_onnx_export(const oc_bundle *b, const char *path, size_t count, uint64_t seed, double difference_max,
                       double *max_difference);

#endif
