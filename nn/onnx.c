/* onnx.c - the model of DESIGN section 3 as ONNX nodes. Everything that protobuf-c points at lies in one arena, f32
 * weights are pointed at in the bundle itself; only the LSTM's are copied, because ONNX wants its gates in the order i,
 * o, f, c. Building keeps its first failure in `status` and does nothing afterwards, so that the graph reads as a list
 * of nodes. */
#include "nn/onnx.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/onnx_proto.h"

enum {
    IR_VERSION = 8,
    OPSET = 17,
    NODES_MAX = 64 + 4 * OC_LAYERS_MAX,
    TENSORS_MAX = NODES_MAX,
    TEXT_BYTES = 96,
    SLACK_BYTES = 1 << 18
};

typedef struct build {
    const oc_bundle *bundle;
    oc_parameters parameters;
    oc_arena arena;
    oc_status status;
    Onnx__NodeProto *nodes[NODES_MAX];
    Onnx__TensorProto *tensors[TENSORS_MAX];
    size_t node_count, tensor_count;
} build;

typedef struct attribute {
    const char *name; /* NULL ends a list */
    int count;        /* 0: a single INT, values[0] */
    int64_t values[4];
} attribute;

#define IN(...)                                                                                                        \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }
#define WITH(...)                                                                                                      \
    (const attribute[])                                                                                                \
    {                                                                                                                  \
        __VA_ARGS__,                                                                                                   \
        {                                                                                                              \
            NULL, 0,                                                                                                   \
            {                                                                                                          \
                0                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

/* Zeroed; NULL after a failure. */
static void *take(build *b, size_t bytes)
{
    void *memory = NULL;
    if (b->status == OC_OK) b->status = oc_arena_take(&b->arena, &memory, bytes, "ONNX graph");
    return memory;
}

static char *text(build *b, const char *format, ...) OC_PRINTF(2, 3);
static char *text(build *b, const char *format, ...)
{
    static char none[1];
    char *out = take(b, TEXT_BYTES);
    va_list arguments;
    if (!out) return none;
    va_start(arguments, format);
    vsnprintf(out, TEXT_BYTES, format, arguments);
    va_end(arguments);
    return out;
}

/* --- constants --- */

static void tensor(build *b, const char *name, Onnx__TensorProto__DataType type, const void *data, size_t bytes,
                   int rank, const int64_t *dims)
{
    Onnx__TensorProto *t = take(b, sizeof *t);
    int64_t *copy = take(b, (size_t)rank * sizeof *copy);
    if (b->status != OC_OK) return;
    assert(b->tensor_count < TENSORS_MAX);
    onnx__tensor_proto__init(t);
    memcpy(copy, dims, (size_t)rank * sizeof *copy);
    t->name = text(b, "%s", name);
    t->dims = copy;
    t->n_dims = (size_t)rank;
    t->has_data_type = 1;
    t->data_type = (int32_t)type;
    t->has_raw_data = 1;
    t->raw_data.data = (uint8_t *)(uintptr_t)data; /* protobuf-c only reads it */
    t->raw_data.len = bytes;
    b->tensors[b->tensor_count++] = t;
}

static void floats(build *b, const char *name, const float *data, int rank, int64_t d0, int64_t d1, int64_t d2)
{
    const int64_t dims[3] = {d0, d1, d2};
    size_t count = (size_t)(d0 * (rank > 1 ? d1 : 1) * (rank > 2 ? d2 : 1));
    tensor(b, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, data, count * sizeof *data, rank, dims);
}

static void floats_of_doubles(build *b, const char *name, const double *data, int rank, int64_t d0, int64_t d1)
{
    float *copy = take(b, (size_t)(d0 * d1) * sizeof *copy);
    for (int64_t i = 0; copy && i < d0 * d1; i++) copy[i] = (float)data[i];
    floats(b, name, copy, rank, d0, d1, 1);
}

static void ints(build *b, const char *name, int count, int64_t v0, int64_t v1, int64_t v2, int64_t v3)
{
    const int64_t values[4] = {v0, v1, v2, v3}, dims[1] = {count};
    int64_t *copy = take(b, sizeof values);
    if (copy) memcpy(copy, values, sizeof values);
    tensor(b, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, copy, (size_t)count * sizeof *copy, 1, dims);
}

static const float *weight(const build *b, const char *name, const oc_parameter **row)
{
    *row = oc_parameters_find(&b->parameters, name);
    assert(*row && "the shape has no such parameter");
    return b->bundle->flat + (*row)->first;
}

/* A parameter as it is, or a run of its rows under another name. */
static void weight_rows(build *b, const char *as, const char *name, int64_t first, int64_t count)
{
    const oc_parameter *row;
    const float *data = weight(b, name, &row);
    int64_t width = row->rank == 2 ? row->dims[1] : 1;
    floats(b, as, data + first * width, row->rank, count, width, 1);
}

static void weight_whole(build *b, const char *name)
{
    const oc_parameter *row;
    weight(b, name, &row);
    weight_rows(b, name, name, 0, row->dims[0]);
}

/* --- nodes --- */

static void attribute_add(build *b, Onnx__NodeProto *node, const attribute *a)
{
    Onnx__AttributeProto *out = take(b, sizeof *out);
    int64_t *values = take(b, sizeof a->values);
    if (b->status != OC_OK) return;
    onnx__attribute_proto__init(out);
    memcpy(values, a->values, sizeof a->values);
    out->name = text(b, "%s", a->name);
    out->has_type = 1;
    if (a->count > 0) {
        out->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        out->ints = values;
        out->n_ints = (size_t)a->count;
    } else {
        out->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        out->has_i = 1;
        out->i = values[0];
    }
    node->attribute[node->n_attribute++] = out;
}

static void node(build *b, const char *op, const char *const *inputs, const char *output, const attribute *attributes)
{
    enum { INPUTS_MAX = 4, ATTRIBUTES_MAX = 4 };
    Onnx__NodeProto *n = take(b, sizeof *n);
    char **names = take(b, (INPUTS_MAX + 1) * sizeof *names);
    Onnx__AttributeProto **list = take(b, ATTRIBUTES_MAX * sizeof(Onnx__AttributeProto *));
    if (b->status != OC_OK) return;
    assert(b->node_count < NODES_MAX);
    onnx__node_proto__init(n);
    n->op_type = text(b, "%s", op);
    n->name = text(b, "%s", output);
    n->input = names;
    for (; inputs[n->n_input]; n->n_input++) {
        assert(n->n_input < INPUTS_MAX);
        names[n->n_input] = text(b, "%s", inputs[n->n_input]);
    }
    n->output = &names[INPUTS_MAX];
    n->output[0] = text(b, "%s", output);
    n->n_output = 1;
    n->attribute = list;
    for (size_t i = 0; attributes && attributes[i].name; i++) attribute_add(b, n, &attributes[i]);
    b->nodes[b->node_count++] = n;
}

/* output = input . module.weight^T + module.bias */
static void linear(build *b, const char *module, const char *input, const char *output)
{
    const char *w = text(b, "%s.weight", module), *bias = text(b, "%s.bias", module);
    weight_whole(b, w);
    weight_whole(b, bias);
    node(b, "Gemm", IN(input, w, bias), output, WITH({"transB", 0, {1}}));
}

/* --- the model --- */

static void build_scaler(build *b)
{
    const oc_bundle *bundle = b->bundle;
    double limits[2] = {-bundle->clip, bundle->clip};
    floats_of_doubles(b, "scaler.mean", bundle->mean, 1, bundle->shape.inputs, 1);
    floats_of_doubles(b, "scaler.scale", bundle->scale, 1, bundle->shape.inputs, 1);
    node(b, "Sub", IN("window", "scaler.mean"), "centred", NULL);
    node(b, "Div", IN("centred", "scaler.scale"), "divided", NULL);
    if (!(bundle->clip > 0)) {
        node(b, "Identity", IN("divided"), "scaled", NULL);
        return;
    }
    const int64_t scalar = 0;
    float *copy = take(b, sizeof *copy * 2);
    if (!copy) return;
    copy[0] = (float)limits[0];
    copy[1] = (float)limits[1];
    tensor(b, "scaler.low", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &copy[0], sizeof *copy, 0, &scalar);
    tensor(b, "scaler.high", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &copy[1], sizeof *copy, 0, &scalar);
    node(b, "Clip", IN("divided", "scaler.low", "scaler.high"), "scaled", NULL);
}

/* The parameter's gate blocks in ONNX's order, into out (stride: numbers of a gate's block). */
static void gates_copy(build *b, const char *name, float *out)
{
    static const oc_gate order[OC_GATES] = {OC_GATE_I, OC_GATE_O, OC_GATE_F, OC_GATE_G};
    const oc_parameter *row;
    const float *data = weight(b, name, &row);
    size_t block = row->count / OC_GATES;
    for (size_t g = 0; out && g < OC_GATES; g++)
        memcpy(out + g * block, data + (size_t)order[g] * block, block * sizeof *out);
}

static const char *lstm_tensor(build *b, int layer, const char *kind, const char *as)
{
    const char *name = text(b, "lstm.%s_l%d", kind, layer), *out = text(b, "lstm.%s%d", as, layer);
    const oc_parameter *row = oc_parameters_find(&b->parameters, name);
    if (b->status != OC_OK) return out;
    float *copy = take(b, row->count * sizeof *copy);
    gates_copy(b, name, copy);
    floats(b, out, copy, 3, 1, row->dims[0], row->dims[1]);
    return out;
}

static void build_lstm_layer(build *b, int layer, const char *input, const char *output)
{
    const int64_t hidden = b->bundle->shape.hidden;
    const char *w = lstm_tensor(b, layer, "weight_ih", "w"), *r = lstm_tensor(b, layer, "weight_hh", "r");
    const char *bias = text(b, "lstm.b%d", layer), *states = text(b, "lstm.y%d", layer);
    float *both = take(b, (size_t)(2 * OC_GATES * hidden) * sizeof *both);
    if (b->status != OC_OK) return;
    gates_copy(b, text(b, "lstm.bias_ih_l%d", layer), both);
    gates_copy(b, text(b, "lstm.bias_hh_l%d", layer), both + OC_GATES * hidden);
    floats(b, bias, both, 2, 1, 2 * OC_GATES * hidden, 1);
    node(b, "LSTM", IN(input, w, r, bias), states, WITH({"hidden_size", 0, {hidden}}));
    node(b, "Squeeze", IN(states, "axis.directions"), output, NULL); /* [T,1,B,H] -> [T,B,H] */
}

/* Leaves the trunk's states [T,B,H] in "states", the last one [B,H] in "last". */
static void build_lstm(build *b)
{
    const oc_model_shape *s = &b->bundle->shape;
    const char *input = "by_step";
    node(b, "Transpose", IN("scaled"), input, WITH({"perm", 3, {1, 0, 2}}));
    ints(b, "axis.directions", 1, 1, 0, 0, 0);
    for (int layer = 0; layer < s->layers; layer++) {
        const char *output = layer + 1 == s->layers ? "states" : text(b, "states%d", layer);
        build_lstm_layer(b, layer, input, output);
        input = output;
    }
    const int64_t scalar = 0;
    int64_t *last = take(b, sizeof *last);
    if (last) *last = s->steps - 1;
    tensor(b, "index.last", ONNX__TENSOR_PROTO__DATA_TYPE__INT64, last, sizeof *last, 0, &scalar);
    node(b, "Gather", IN("states", "index.last"), "last", WITH({"axis", 0, {0}}));
}

static void build_mlp(build *b)
{
    const oc_model_shape *s = &b->bundle->shape;
    const int64_t scalar = 0;
    int64_t *last = take(b, sizeof *last);
    if (last) *last = s->steps - 1;
    tensor(b, "index.last", ONNX__TENSOR_PROTO__DATA_TYPE__INT64, last, sizeof *last, 0, &scalar);
    node(b, "Gather", IN("scaled", "index.last"), "row", WITH({"axis", 0, {1}}));
    const char *input = "row";
    for (int layer = 0; layer < s->layers; layer++) {
        const char *sum = text(b, "trunk.sum%d", layer),
                   *output = layer + 1 == s->layers ? "last" : text(b, "trunk.y%d", layer);
        linear(b, text(b, "trunk.%d", 2 * layer), input, sum);
        node(b, "Relu", IN(sum), output, NULL);
        input = output;
    }
}

/* One of query, key, value: a third of in_proj as its own Gemm or MatMul. */
static void build_attention_weights(build *b)
{
    static const char *const part[3] = {"query", "key", "value"};
    const int64_t hidden = b->bundle->shape.hidden;
    for (int i = 0; i < 3; i++) {
        weight_rows(b, text(b, "attention.%s.weight", part[i]), "attention.in_proj_weight", i * hidden, hidden);
        weight_rows(b, text(b, "attention.%s.bias", part[i]), "attention.in_proj_bias", i * hidden, hidden);
    }
    for (int i = 1; i < 3; i++) { /* [B,T,H] . W^T + bias, heads apart: [B,T,N,d] */
        const char *name = part[i], *turned = text(b, "attention.%s.turned", name),
                   *product = text(b, "attention.%s.product", name), *sum = text(b, "attention.%s.sum", name);
        node(b, "Transpose", IN(text(b, "attention.%s.weight", name)), turned, WITH({"perm", 2, {1, 0}}));
        node(b, "MatMul", IN("by_batch", turned), product, NULL);
        node(b, "Add", IN(product, text(b, "attention.%s.bias", name)), sum, NULL);
        node(b, "Reshape", IN(sum, "shape.keys"), text(b, "attention.%s.apart", name), NULL);
        node(b, "Transpose", IN(text(b, "attention.%s.apart", name)), text(b, "attention.%ss", name),
             WITH({"perm", 4, {0, 2, 1, 3}}));
    }
}

/* Attention of the last query over "states" -> "pooled_out" [B,H]   [Vaswani17 eq.1] */
static void build_attention(build *b)
{
    const oc_model_shape *s = &b->bundle->shape;
    const int64_t each = s->hidden / s->heads, scalar = 0;
    float *factor = take(b, sizeof *factor);
    if (factor) *factor = (float)(1.0 / sqrt((double)each));
    tensor(b, "attention.factor", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, factor, sizeof *factor, 0, &scalar);
    ints(b, "shape.keys", 4, 0, s->steps, s->heads, each);
    ints(b, "shape.query", 4, 0, s->heads, each, 1);
    ints(b, "shape.pooled", 2, 0, s->hidden, 0, 0);
    node(b, "Transpose", IN("states"), "by_batch", WITH({"perm", 3, {1, 0, 2}}));
    build_attention_weights(b);
    node(b, "Gemm", IN("last", "attention.query.weight", "attention.query.bias"), "query", WITH({"transB", 0, {1}}));
    node(b, "Reshape", IN("query", "shape.query"), "queries", NULL);
    node(b, "MatMul", IN("attention.keys", "queries"), "products", NULL); /* [B,N,T,1] */
    node(b, "Mul", IN("products", "attention.factor"), "scores", NULL);
    node(b, "Softmax", IN("scores"), "map", WITH({"axis", 0, {2}}));
    node(b, "Transpose", IN("map"), "map_row", WITH({"perm", 4, {0, 1, 3, 2}}));
    node(b, "MatMul", IN("map_row", "attention.values"), "pooled_heads", NULL);
    node(b, "Reshape", IN("pooled_heads", "shape.pooled"), "pooled", NULL);
    linear(b, "attention.out_proj", "pooled", "attended");
}

static void build_head(build *b)
{
    const oc_model_shape *s = &b->bundle->shape;
    linear(b, "head.0", s->heads > 0 ? "attended" : "last", "head_sum");
    node(b, "Relu", IN("head_sum"), "head_hidden", NULL);
    linear(b, "head.3", "head_hidden", "logits");
    ints(b, "shape.logits", 3, 0, s->horizons, OC_CLASSES, 0);
    node(b, "Reshape", IN("logits", "shape.logits"), "logits_apart", NULL);
    floats_of_doubles(b, "temperature", b->bundle->temperature, 2, s->horizons, 1);
    node(b, "Div", IN("logits_apart", "temperature"), "logits_cooled", NULL);
    node(b, "Softmax", IN("logits_cooled"), "probabilities", WITH({"axis", 0, {2}}));
}

/* --- the file --- */

static Onnx__ValueInfoProto *value_info(build *b, const char *name, int64_t d1, int64_t d2)
{
    const int64_t dims[3] = {-1, d1, d2};
    struct {
        Onnx__ValueInfoProto info;
        Onnx__TypeProto type;
        Onnx__TypeProto__Tensor tensor;
        Onnx__TensorShapeProto shape;
        Onnx__TensorShapeProto__Dimension dim[3], *list[3];
    } *v = take(b, sizeof *v);
    if (!v) return NULL;
    onnx__value_info_proto__init(&v->info);
    onnx__type_proto__init(&v->type);
    onnx__type_proto__tensor__init(&v->tensor);
    onnx__tensor_shape_proto__init(&v->shape);
    for (int i = 0; i < 3; i++) {
        onnx__tensor_shape_proto__dimension__init(&v->dim[i]);
        v->list[i] = &v->dim[i];
        v->dim[i].value_case = i ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE
                                 : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        if (i)
            v->dim[i].dim_value = dims[i];
        else
            v->dim[i].dim_param = text(b, "batch");
    }
    v->shape.dim = v->list;
    v->shape.n_dim = 3;
    v->tensor.has_elem_type = 1;
    v->tensor.elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    v->tensor.shape = &v->shape;
    v->type.value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    v->type.tensor_type = &v->tensor;
    v->info.name = text(b, "%s", name);
    v->info.type = &v->type;
    return &v->info;
}

static void build_graph(build *b)
{
    const oc_model_shape *s = &b->bundle->shape;
    build_scaler(b);
    if (s->trunk == OC_TRUNK_LSTM)
        build_lstm(b);
    else
        build_mlp(b);
    if (s->heads > 0) build_attention(b);
    build_head(b);
}

static oc_status model_write(build *b, const char *path)
{
    const oc_model_shape *s = &b->bundle->shape;
    char weights[OC_HASH_TEXT];
    oc_parameters_describe(&b->parameters, s);
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT, *opsets[1] = {&opset};
    Onnx__StringStringEntryProto entry = ONNX__STRING_STRING_ENTRY_PROTO__INIT, *entries[1] = {&entry};
    build_graph(b);
    Onnx__ValueInfoProto *input = value_info(b, "window", s->steps, s->inputs);
    Onnx__ValueInfoProto *output = value_info(b, "probabilities", s->horizons, OC_CLASSES);
    model.producer_name = text(b, "outcry");
    model.producer_version = text(b, "%s", b->bundle->build);
    graph.name = text(b, "%s", b->bundle->name);
    entry.key = text(b, "weights_hash");
    entry.value = text(b, "%s", oc_hash_text(oc_weights_hash(&b->parameters, b->bundle->flat), weights));
    opset.domain = text(b, "%s", "");
    if (b->status != OC_OK) return oc_status_trail(b->status, __FILE__, __LINE__);
    model.has_ir_version = opset.has_version = 1;
    model.ir_version = IR_VERSION;
    opset.version = OPSET;
    model.opset_import = opsets;
    model.metadata_props = entries;
    model.n_opset_import = model.n_metadata_props = 1;
    model.graph = &graph;
    graph.node = b->nodes;
    graph.n_node = b->node_count;
    graph.initializer = b->tensors;
    graph.n_initializer = b->tensor_count;
    graph.input = &input;
    graph.output = &output;
    graph.n_input = graph.n_output = 1;
    size_t bytes = onnx__model_proto__get_packed_size(&model);
    if (bytes > INT32_MAX)
        return OC_FAIL(OC_ELIMIT, "%s: the model takes %zu bytes, over protobuf's 2 GiB", path, bytes);
    uint8_t *packed;
    OC_TRY(oc_memory_new(&packed, bytes, path));
    onnx__model_proto__pack(&model, packed);
    oc_status status = oc_file_write(path, packed, bytes);
    oc_memory_free(packed);
    return status;
}

oc_status oc_onnx_write(const oc_bundle *bundle, const char *path)
{
    build *b;
    OC_TRY(oc_memory_new(&b, sizeof *b, "ONNX graph"));
    b->bundle = bundle;
    oc_parameters_describe(&b->parameters, &bundle->shape);
    /* every LSTM weight once more (reordered), plus nodes and names */
    oc_status status = oc_arena_init(&b->arena, b->parameters.total * sizeof(float) + SLACK_BYTES, "ONNX graph");
    if (status == OC_OK) {
        status = model_write(b, path);
        oc_arena_deinit(&b->arena);
    }
    oc_memory_free(b);
    return status;
}
