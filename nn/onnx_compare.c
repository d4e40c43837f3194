/* onnx_compare.c - the written file against the model that wrote it, on random windows. */
#include "nn/onnx.h"

#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "nn/model.h"

/* Rows around the scaler's mean; one in eight numbers lies far beyond the clip. */
static void windows_draw(const oc_bundle *b, float *windows, size_t rows, uint64_t seed)
{
    const uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 0, 0);
    for (size_t i = 0; i < rows * (size_t)b->shape.inputs; i++) {
        size_t feature = i % (size_t)b->shape.inputs;
        double spread = oc_random_below(key, 2 * i, 8) == 0 ? 40 : 4;
        windows[i] = (float)(b->mean[feature] + b->scale[feature] * spread * (oc_random_uniform(key, 2 * i + 1) - 0.5));
    }
}

static oc_status model_answer(const oc_bundle *b, const float *windows, size_t count, float *out, size_t cap)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    oc_model *model;
    OC_TRY(oc_model_open(&model, b, &config, 16));
    oc_status status = oc_model_predict(model, windows, count, out, cap);
    oc_model_close(model);
    return status;
}

oc_status oc_onnx_compare(const oc_bundle *b, const char *path, size_t count, uint64_t seed, double *max_difference)
{
    const size_t width = (size_t)b->shape.steps * (size_t)b->shape.inputs,
                 answers = count * (size_t)b->shape.horizons * OC_CLASSES;
    float *windows = NULL, *ours = NULL;
    double *theirs = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, oc_memory_new_array(&windows, count * width, sizeof *windows, "ONNX check: windows"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&ours, answers, sizeof *ours, "ONNX check: answers"));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&theirs, answers, sizeof *theirs, "ONNX check: answers"));
    windows_draw(b, windows, count * (size_t)b->shape.steps, seed);
    OC_TRY_GOTO(status, done, model_answer(b, windows, count, ours, answers));
    OC_TRY_GOTO(status, done, oc_onnx_evaluate(path, windows, count, b->shape.steps, b->shape.inputs, theirs, answers));
    *max_difference = 0;
    for (size_t i = 0; i < answers && !isnan(*max_difference); i++) {
        double difference = fabs((double)ours[i] - theirs[i]);
        if (!(difference <= *max_difference)) *max_difference = difference; /* a NaN is the answer */
    }
done:
    oc_memory_free(windows);
    oc_memory_free(ours);
    oc_memory_free(theirs);
    return status;
}

oc_status oc_onnx_export(const oc_bundle *b, const char *path, size_t count, uint64_t seed, double difference_max,
                         double *max_difference)
{
    char target[OC_PATH_MAX], beside[OC_PATH_MAX];
    *max_difference = (double)NAN;
    OC_TRY(oc_file_beside(path, target, beside));
    oc_status status = oc_onnx_write(b, beside);
    if (status == OC_OK) status = oc_onnx_compare(b, beside, count, seed, max_difference);
    if (status == OC_OK && !(*max_difference <= difference_max))
        status = OC_FAIL(OC_EFAILED, "its answers differ from the model's by %g, over %g", *max_difference,
                         difference_max);
    if (status != OC_OK) status = oc_status_prefix(status, "%s is not written, an old one stays", path);
    if (status == OC_OK) status = oc_file_replace(beside, target);
    if (status != OC_OK) (void)unlink(beside);
    return status;
}
