/* onnx_evaluate.c - what the written file says, computed without the code that trained: read back, unpacked, run node
 * by node in f64. It proves names, order of gates, shapes and the scaler as they stand in the file. */
#include "nn/onnx.h"

#include <string.h>

#include "base/file.h"
#include "nn/onnx_operators.h"

enum { VALUES_MAX = 1024 };

typedef struct evaluation {
    const Onnx__GraphProto *graph;
    const char *path;
    oc_arena arena;
    oc_onnx_value values[VALUES_MAX];
    size_t count;
} evaluation;

static const oc_onnx_value *value_find(const evaluation *e, const char *name)
{
    for (size_t i = 0; i < e->count; i++) {
        if (strcmp(e->values[i].name, name) == 0) return &e->values[i];
    }
    return NULL;
}

static oc_status value_add(evaluation *e, const char *name, oc_onnx_value **out)
{
    *out = NULL;
    if (e->count == VALUES_MAX) return OC_FAIL(OC_ELIMIT, "%s: over %d values", e->path, VALUES_MAX);
    if (!name || value_find(e, name)) return OC_FAIL(OC_EDATA, "%s: a value without a name, or named twice", e->path);
    *out = &e->values[e->count++];
    (*out)->name = name;
    return OC_OK;
}

static oc_status constant_add(evaluation *e, const Onnx__TensorProto *t)
{
    oc_onnx_value *v;
    OC_TRY(value_add(e, t->name, &v));
    OC_TRY(oc_onnx_value_new(v, &e->arena, (int)t->n_dims, t->dims));
    size_t count = oc_onnx_count(v);
    bool real = t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT,
         integer = t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    if (!(real || integer) || t->raw_data.len != count * (real ? sizeof(float) : sizeof(int64_t)))
        return OC_FAIL(OC_EDATA, "%s: tensor %s is not raw floats or 64-bit integers of its shape", e->path, t->name);
    for (size_t i = 0; i < count; i++) {
        float f;
        int64_t n;
        if (real)
            memcpy(&f, t->raw_data.data + i * sizeof f, sizeof f);
        else
            memcpy(&n, t->raw_data.data + i * sizeof n, sizeof n);
        v->x[i] = real ? (double)f : (double)n;
    }
    return OC_OK;
}

static oc_status node_run(evaluation *e, const Onnx__NodeProto *node)
{
    oc_onnx_call call = {.node = node, .arena = &e->arena};
    if (node->n_output != 1 || node->n_input > OC_ONNX_INPUTS_MAX || node->n_input < 1)
        return OC_FAIL(OC_EDATA, "%s: node %s has %zu inputs and %zu outputs", e->path, node->op_type, node->n_input,
                       node->n_output);
    for (; call.inputs < node->n_input; call.inputs++) {
        call.in[call.inputs] = value_find(e, node->input[call.inputs]);
        if (!call.in[call.inputs])
            return OC_FAIL(OC_EDATA, "%s: %s is used before it is made", e->path, node->input[call.inputs]);
    }
    OC_TRY(value_add(e, node->output[0], &call.out));
    if (oc_onnx_call_run(&call) != OC_OK) return oc_status_prefix(OC_EDATA, "%s", e->path);
    return OC_OK;
}

static oc_status graph_run(evaluation *e, const float *windows, const int64_t dims[3], double *probabilities,
                           size_t cap)
{
    oc_onnx_value *window;
    OC_TRY(value_add(e, "window", &window));
    OC_TRY(oc_onnx_value_new(window, &e->arena, 3, dims));
    for (size_t i = 0; i < oc_onnx_count(window); i++) window->x[i] = (double)windows[i];
    for (size_t i = 0; i < e->graph->n_initializer; i++) OC_TRY(constant_add(e, e->graph->initializer[i]));
    for (size_t i = 0; i < e->graph->n_node; i++) OC_TRY(node_run(e, e->graph->node[i]));
    const oc_onnx_value *answer = value_find(e, "probabilities");
    if (!answer || answer->rank != 3 || answer->dims[0] != dims[0] || oc_onnx_count(answer) > cap)
        return OC_FAIL(OC_EDATA, "%s: no probabilities [%lld, horizons, 3] come out", e->path, (long long)dims[0]);
    memcpy(probabilities, answer->x, oc_onnx_count(answer) * sizeof *probabilities);
    return OC_OK;
}

/* Every value once in f64: the constants are the file, the activations at most a few [B,T,H] a layer. */
static size_t arena_bytes(const Onnx__ModelProto *model, size_t file_bytes, size_t count, int steps, int inputs)
{
    size_t widest = (size_t)inputs, nodes = model->graph->n_node;
    for (size_t i = 0; i < model->graph->n_initializer; i++) {
        const Onnx__TensorProto *t = model->graph->initializer[i];
        for (size_t k = 0; k < t->n_dims; k++) {
            if (t->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && (size_t)t->dims[k] > widest)
                widest = (size_t)t->dims[k];
        }
    }
    return 4 * file_bytes + (nodes + 2) * count * (size_t)steps * widest * sizeof(double) +
           (nodes + 64) * OC_ALIGNMENT * 4;
}

oc_status oc_onnx_evaluate(const char *path, const float *windows, size_t count, int steps, int inputs,
                           double *probabilities, size_t probabilities_cap)
{
    const int64_t dims[3] = {(int64_t)count, steps, inputs};
    oc_file_map map;
    evaluation *e = NULL;
    Onnx__ModelProto *model = NULL;
    oc_status status = OC_OK;
    OC_TRY(oc_file_map_open(&map, path));
    model = onnx__model_proto__unpack(NULL, map.bytes, map.data);
    if (!model || !model->graph) {
        status = OC_FAIL(OC_EDATA, "%s: not an ONNX model", path);
        goto done;
    }
    OC_TRY_GOTO(status, done, oc_memory_new(&e, sizeof *e, "ONNX evaluation"));
    e->graph = model->graph;
    e->path = path;
    OC_TRY_GOTO(status, done,
                oc_arena_init(&e->arena, arena_bytes(model, map.bytes, count, steps, inputs), "ONNX values"));
    status = graph_run(e, windows, dims, probabilities, probabilities_cap);
    oc_arena_deinit(&e->arena);
done:
    oc_memory_free(e);
    if (model) onnx__model_proto__free_unpacked(model, NULL);
    oc_file_map_close(&map);
    return status;
}
