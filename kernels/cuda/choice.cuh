/* choice.cuh - which variant of the LSTM serves which shape: the first row that fits the shape and that the device can
 * hold. OUTCRY_CUDA_LSTM=NAME, read once at open, takes that variant for every shape, or refuses a shape that it does
 * not serve. `outcry bench lstm-layer` measures them; a row's last column says what it rests on.
 *
 * "roofline" is arithmetic (reference/training-and-data-path.md section 7), not a measurement, for one H200 of 132
 * multiprocessors and 4.8 TB/s, T = 100, two layers, F = H = 64, numbers of 4 bytes in memory:
 *   inside   forward of a layer moves, a sample and step: `scan` F + 4H (x . W written) + 4H (read) + 4H + 2H (gates,
 *            cells, states written) = F + 14 H, 0.77 MB a sample; `fused` F + 6 H, 0.36 MB: 6.3 and 13 M samples/s.
 *   wave     rows a block x 132 rows are what all multiprocessors take at once. While a batch is half of that or less,
 *            a second layer finds idle ones: (chunks + layers - 1) / chunks x T steps instead of layers x T, 116 and
 *            200 at T = 100 in chunks of 16, less 7 x 3 launches.
 *   resident the recurrent weights of H <= 128 fit one multiprocessor: no launch (2 us) and no W_hh from L2 a step. */
#ifndef OC_KERNELS_CUDA_CHOICE_CUH
#define OC_KERNELS_CUDA_CHOICE_CUH

#include "kernels/cuda/backend_cuda.cuh"
#include "kernels/ops.h"

/* enum, name in the environment, persistent, x . W inside, layers as a wavefront in training */
#define OC_LSTM_VARIANTS(X)                                                                                            \
    X(OC_LSTM_TWIN, "twin", false, false, false)                                                                       \
    X(OC_LSTM_SCAN, "scan", true, false, false)                                                                        \
    X(OC_LSTM_FUSED, "fused", true, true, false)                                                                       \
    X(OC_LSTM_TWIN_WAVE, "twin-wave", false, false, true)                                                              \
    X(OC_LSTM_SCAN_WAVE, "scan-wave", true, false, true)                                                               \
    X(OC_LSTM_FUSED_WAVE, "fused-wave", true, true, true)
typedef enum {
#define OC_LSTM_VARIANT_ENUM(name, text, persistent, fused, wave) name,
    OC_LSTM_VARIANTS(OC_LSTM_VARIANT_ENUM)
#undef OC_LSTM_VARIANT_ENUM
        OC_LSTM_VARIANT_COUNT
} oc_lstm_variant;

/* math, H up to, batch up to (inference asks with 1 << 20: its variant may not depend on the batch), F up to, variant,
 * what it rests on */
static constexpr int OC_ANY = 1 << 20;
#define OC_LSTM_CHOICES(X)                                                                                             \
    X(OC_MATH_F32, 128, 132, OC_ANY, OC_LSTM_SCAN_WAVE, "not measured: roofline, wave (2 rows a block)")               \
    X(OC_MATH_F32, 128, OC_ANY, OC_ANY, OC_LSTM_SCAN, "not measured: roofline, resident")                              \
    X(OC_MATH_TF32, 64, 528, 160, OC_LSTM_FUSED_WAVE, "not measured: roofline, wave (8 rows a block), inside")         \
    X(OC_MATH_TF32, 128, 528, OC_ANY, OC_LSTM_SCAN_WAVE, "not measured: roofline, wave (8 rows a block)")              \
    X(OC_MATH_TF32, 64, OC_ANY, 160, OC_LSTM_FUSED, "not measured: roofline, inside")                                  \
    X(OC_MATH_TF32, 128, OC_ANY, OC_ANY, OC_LSTM_SCAN, "not measured: roofline, resident")                             \
    X(OC_MATH_BF16, 128, 528, 160, OC_LSTM_FUSED_WAVE, "not measured: roofline, wave (8 rows a block), inside")        \
    X(OC_MATH_BF16, 128, 528, OC_ANY, OC_LSTM_SCAN_WAVE, "not measured: roofline, wave (8 rows a block)")              \
    X(OC_MATH_BF16, 128, OC_ANY, 160, OC_LSTM_FUSED, "not measured: roofline, inside")                                 \
    X(OC_MATH_BF16, 128, OC_ANY, OC_ANY, OC_LSTM_SCAN, "not measured: roofline, resident")

/* Steps of a chunk of the wavefront: a chunk loads its weights anew (128 KB from L2) and takes up to 3 launches, about
 * 5 us beside 16 x 1.3 us. Not measured. */
static constexpr int OC_LSTM_CHUNK = 16;

typedef struct oc_lstm_plan {
    oc_lstm_variant variant;
    bool persistent, fused, wave;
} oc_lstm_plan;

/* For one layer; forward and backward of a shape get the same. An error where the environment insists on what does not
 * serve it. */
OC_MUST oc_cuda_lstm_choose(oc_backend *b, const oc_lstm_shape *s, int layer, bool training, oc_lstm_plan *plan);
/* Of backend.cu at open: OUTCRY_CUDA_LSTM, may be NULL. */
OC_MUST oc_cuda_lstm_insist(oc_backend *b, const char *name);

#endif
