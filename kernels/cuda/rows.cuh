/* rows.cuh - one number of a raw row through the scaler, and one row of logits to probabilities: the steps of
 * kernels/cpu/body_rows.h in their order, so its bits. */
#ifndef OC_KERNELS_CUDA_ROWS_CUH
#define OC_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/device.cuh"
#include "kernels/ops.h"

typedef struct oc_cuda_temperatures {
    float of[OC_HORIZONS_MAX];
} oc_cuda_temperatures;

/* clip <= 0: none. NaN stays. */
OC_DEVICE float oc_scaled(float x, float mean, float scale, float clip)
{
    float y = (x - mean) / scale;
    if (!(clip > 0.0f)) return y;
    y = clip < y ? clip : y;
    return -clip > y ? -clip : y;
}

OC_DEVICE void oc_softmax_classes(const float *z, float temperature, float *p)
{
    float e[OC_CLASSES], largest = -__uint_as_float(0x7f800000u), sum = 0.0f;
    for (int c = 0; c < OC_CLASSES; c++) {
        e[c] = z[c] / temperature;
        largest = e[c] > largest ? e[c] : largest;
    }
    for (int c = 0; c < OC_CLASSES; c++) e[c] = oc_device_exp(e[c] - largest);
    sum = (e[0] + e[2]) + e[1]; /* lanes 0, 1, 2 of 16, halves first */
    for (int c = 0; c < OC_CLASSES; c++) p[c] = e[c] * (1.0f / sum);
}

#endif
