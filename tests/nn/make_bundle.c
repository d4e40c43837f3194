/* make_bundle.c - make_bundle FOLDER: for the Python checks, a few models as FOLDER/N/{bundle.json,
 * weights.safetensors, model.onnx, windows.f32, answers.f32}. make_bundle FOLDER S|small: one of that shape, as
 * FOLDER/S or FOLDER/small. make_bundle FOLDER repository: versions FOLDER/sample/{1, 2, 3, wide, twin, schema, steps,
 * moved} of one model: other weights, another width, the weights of 1, another feature schema, windows of another
 * length, another scaler. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/model.h"
#include "nn/onnx.h"
#include "nn/sample_bundle.h"

enum { WINDOWS = 64 };

static const oc_model_shape shapes[] = {
    {OC_TRUNK_LSTM, 20, 7, 2, 16, 4, 1},
    {OC_TRUNK_LSTM, 9, 5, 1, 8, 0, 3},
    {OC_TRUNK_LSTM, 1, 3, 3, 6, 3, 2},
    {OC_TRUNK_MLP, 4, 6, 2, 10, 0, 1},
};

static oc_status answers_write(const char *folder, const oc_bundle *b)
{
    char path[OC_PATH_MAX];
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    size_t count = WINDOWS * (size_t)b->shape.steps * (size_t)b->shape.inputs,
           answers = WINDOWS * (size_t)b->shape.horizons * 3;
    const uint32_t key = oc_random_key(5, OC_RANDOM_TEST, 0, 0);
    oc_model *m;
    float *windows, *out;
    OC_TRY(oc_memory_new_array(&windows, count, sizeof *windows, "windows"));
    OC_TRY(oc_memory_new_array(&out, answers, sizeof *out, "answers"));
    for (size_t i = 0; i < count; i++) windows[i] = (float)(8 * oc_random_uniform(key, i) - 4);
    OC_TRY(oc_model_open(&m, b, &config, 16));
    OC_TRY(oc_model_predict(m, windows, WINDOWS, out, answers));
    oc_model_close(m);
    OC_TRY(oc_path_join(path, sizeof path, folder, "windows.f32"));
    OC_TRY(oc_file_write(path, windows, count * sizeof *windows));
    OC_TRY(oc_path_join(path, sizeof path, folder, "answers.f32"));
    OC_TRY(oc_file_write(path, out, answers * sizeof *out));
    oc_memory_free(windows);
    oc_memory_free(out);
    return OC_OK;
}

static const struct {
    const char *name;
    oc_model_shape shape;
} named[] = {{"S", {OC_TRUNK_LSTM, 100, 40, 2, 64, 4, 1}}, {"small", {OC_TRUNK_LSTM, 20, 8, 1, 16, 4, 1}}};

static oc_status make(const char *root, const char *name, const oc_model_shape *shape, uint64_t i)
{
    char folder[OC_PATH_MAX], path[OC_PATH_MAX];
    oc_bundle *b;
    OC_TRY(oc_path_join(folder, sizeof folder, root, name));
    OC_TRY(sample_bundle(&b, shape, 3.0f, i == 1 ? 0 : 2.5, 42 + i));
    OC_TRY(oc_bundle_save(b, folder));
    OC_TRY(oc_path_join(path, sizeof path, folder, "model.onnx"));
    OC_TRY(oc_onnx_write(b, path));
    OC_TRY(answers_write(folder, b));
    oc_bundle_close(b);
    return OC_OK;
}

static const struct {
    const char *version;
    int steps, hidden;
    uint64_t seed, schema;
    bool moved; /* trained on inputs of another mean and scale */
} versions[] = {{"1", 20, 16, 1, 7, false},     {"2", 20, 16, 2, 7, false},    {"3", 20, 16, 3, 7, false},
                {"wide", 20, 32, 4, 7, false},  {"twin", 20, 16, 1, 7, false}, {"schema", 20, 16, 5, 8, false},
                {"steps", 19, 16, 6, 7, false}, {"moved", 20, 16, 7, 7, true}};

static oc_status repository_make(const char *root)
{
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        const oc_model_shape shape = {OC_TRUNK_LSTM, versions[i].steps, 8, 1, versions[i].hidden, 4, 1};
        char folder[OC_PATH_MAX], model[OC_PATH_MAX];
        oc_bundle *b;
        OC_TRY(oc_path_join(model, sizeof model, root, "sample"));
        OC_TRY(oc_path_join(folder, sizeof folder, model, versions[i].version));
        OC_TRY(sample_bundle(&b, &shape, 3.0f, 2.5, versions[i].seed));
        snprintf(b->version, sizeof b->version, "%s", versions[i].version);
        b->schema = (oc_hash){versions[i].schema, 1};
        for (int k = 0; versions[i].moved && k < shape.inputs; k++) {
            b->mean[k] -= 3 * b->scale[k];
            b->scale[k] *= 2;
        }
        OC_TRY(oc_bundle_save(b, folder));
        oc_bundle_close(b);
    }
    return OC_OK;
}

int main(int argc, char **argv)
{
    oc_status status = OC_OK;
    size_t known = 0;
    if (argc != 2 && argc != 3) return 64;
    for (size_t i = 0; argc == 3 && i < sizeof named / sizeof *named && status == OC_OK; i++) {
        if (strcmp(argv[2], named[i].name) != 0) continue;
        status = make(argv[1], named[i].name, &named[i].shape, 0);
        known++;
    }
    if (argc == 3 && strcmp(argv[2], "repository") == 0) {
        status = repository_make(argv[1]);
        known++;
    }
    if (argc == 3 && known == 0) return 64;
    for (size_t i = 0; argc == 2 && i < sizeof shapes / sizeof *shapes && status == OC_OK; i++) {
        char name[16];
        snprintf(name, sizeof name, "%zu", i);
        status = make(argv[1], name, &shapes[i], i);
    }
    if (status != OC_OK) fprintf(stderr, "make_bundle: %s\n", oc_status_message());
    return status != OC_OK;
}
