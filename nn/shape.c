/* shape.c - a model's shape becomes the table of its parameters: names as in PyTorch's state dict, in its order,
 * each at a
 * multiple of 16 numbers (64 bytes) of one flat vector. The gaps are zero and stay zero: they have zero gradients. */
#include "nn/shape.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/random.h"

enum { FIRST_MULTIPLE = 16 };

typedef struct limit {
    const char *key;
    int low, high;
    size_t offset;
} limit;

static const limit limits[] = {
    {"window.steps", 1, OC_STEPS_MAX, offsetof(oc_model_shape, steps)},
    {"features", 1, OC_INPUTS_MAX, offsetof(oc_model_shape, inputs)},
    {"model.layers", 1, OC_LAYERS_MAX, offsetof(oc_model_shape, layers)},
    {"model.hidden", 2, OC_HIDDEN_MAX, offsetof(oc_model_shape, hidden)},
    {"model.heads", 0, OC_HEADS_MAX, offsetof(oc_model_shape, heads)},
    {"horizons", 1, OC_HORIZONS_MAX, offsetof(oc_model_shape, horizons)},
};

oc_status oc_model_shape_check(const oc_model_shape *shape)
{
    assert(shape);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        int value;
        memcpy(&value, (const char *)shape + limits[i].offset, sizeof value);
        if (!(value >= limits[i].low && value <= limits[i].high))
            return OC_FAIL(OC_ECONFIG, "%s is %d, not from %d to %d", limits[i].key, value, limits[i].low,
                           limits[i].high);
    }
    if (shape->trunk != OC_TRUNK_LSTM && shape->trunk != OC_TRUNK_MLP)
        return OC_FAIL(OC_ECONFIG, "model.trunk is %d, which is no trunk that this build knows", (int)shape->trunk);
    if (shape->trunk == OC_TRUNK_MLP && shape->heads != 0)
        return OC_FAIL(OC_ECONFIG, "model.heads is %d, but an MLP sees only the last row: set model.heads to 0",
                       shape->heads);
    if (shape->heads > 0 && shape->hidden % shape->heads != 0)
        return OC_FAIL(OC_ECONFIG, "model.hidden %d does not divide by model.heads %d", shape->hidden, shape->heads);
    return OC_OK;
}

static oc_parameter *add(oc_parameters *p, const char *name, int rank, int64_t rows, int64_t columns, double bound)
{
    assert(p->count < OC_PARAMETERS_MAX);
    oc_parameter *row = &p->row[p->count++];
    *row = (oc_parameter){.dims = {rows, columns},
                          .rank = rank,
                          .first = p->total,
                          .count = (size_t)(rows * columns),
                          .init_bound = (float)bound};
    snprintf(row->name, sizeof row->name, "%s", name);
    p->total += (row->count + FIRST_MULTIPLE - 1) / FIRST_MULTIPLE * FIRST_MULTIPLE;
    p->weights += row->count;
    return row;
}

/* nn.Linear: weights and biases uniform in +-1 / sqrt(inputs) */
static void add_linear(oc_parameters *p, const char *module, int64_t outputs, int64_t inputs)
{
    char name[48];
    double bound = 1.0 / sqrt((double)inputs);
    snprintf(name, sizeof name, "%s.weight", module);
    add(p, name, 2, outputs, inputs, bound)->begins = true;
    snprintf(name, sizeof name, "%s.bias", module);
    add(p, name, 1, outputs, 1, bound);
}

static void add_lstm(oc_parameters *p, const oc_model_shape *s)
{
    const int64_t gates = (int64_t)OC_GATES * s->hidden;
    const double bound = 1.0 / sqrt((double)s->hidden);
    for (int layer = 0; layer < s->layers; layer++) {
        char name[48];
        snprintf(name, sizeof name, "lstm.weight_ih_l%d", layer);
        add(p, name, 2, gates, layer == 0 ? s->inputs : s->hidden, bound)->begins = true;
        snprintf(name, sizeof name, "lstm.weight_hh_l%d", layer);
        add(p, name, 2, gates, s->hidden, bound);
        snprintf(name, sizeof name, "lstm.bias_ih_l%d", layer);
        add(p, name, 1, gates, 1, bound);
        snprintf(name, sizeof name, "lstm.bias_hh_l%d", layer);
        add(p, name, 1, gates, 1, bound);
    }
}

static void add_mlp(oc_parameters *p, const oc_model_shape *s)
{
    for (int layer = 0; layer < s->layers; layer++) {
        char module[32];
        snprintf(module, sizeof module, "trunk.%d", 2 * layer); /* nn.Sequential: a ReLU stands between */
        add_linear(p, module, s->hidden, layer == 0 ? s->inputs : s->hidden);
    }
}

/* nn.MultiheadAttention: Xavier-uniform for the stacked input projection, zero biases, nn.Linear's rule for the
 * output */
static void add_attention(oc_parameters *p, const oc_model_shape *s)
{
    const int64_t hidden = s->hidden;
    add(p, "attention.in_proj_weight", 2, 3 * hidden, hidden, sqrt(6.0 / (double)(4 * hidden)))->begins = true;
    add(p, "attention.in_proj_bias", 1, 3 * hidden, 1, 0.0);
    add(p, "attention.out_proj.weight", 2, hidden, hidden, 1.0 / sqrt((double)hidden));
    add(p, "attention.out_proj.bias", 1, hidden, 1, 0.0);
}

void oc_parameters_describe(oc_parameters *out, const oc_model_shape *shape)
{
    assert(out && shape);
    memset(out, 0, sizeof *out);
    if (shape->trunk == OC_TRUNK_LSTM)
        add_lstm(out, shape);
    else
        add_mlp(out, shape);
    if (shape->heads > 0) add_attention(out, shape);
    add_linear(out, "head.0", shape->hidden / 2, shape->hidden);
    add_linear(out, "head.3", (int64_t)OC_CLASSES * shape->horizons, shape->hidden / 2);
}

size_t oc_parameters_buckets(const oc_parameters *p, size_t least, oc_parameter_range out[OC_PARAMETERS_MAX])
{
    size_t count = 0, end = p->total;
    for (size_t i = p->count; i-- > 0;) {
        const size_t first = p->row[i].first;
        if (!p->row[i].begins || (end - first < least && first > 0)) continue;
        out[count++] = (oc_parameter_range){first, end - first};
        end = first;
    }
    return count;
}

const oc_parameter *oc_parameters_find(const oc_parameters *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->row[i].name, name) == 0) return &p->row[i];
    return NULL;
}

void oc_parameters_init(const oc_parameters *p, uint64_t seed, float *flat)
{
    memset(flat, 0, p->total * sizeof *flat);
    for (size_t i = 0; i < p->count; i++) {
        const oc_parameter *row = &p->row[i];
        const uint32_t key = oc_random_key(seed, OC_RANDOM_WEIGHTS, i, 0);
        if (!(row->init_bound > 0.0f)) continue;
        for (size_t j = 0; j < row->count; j++)
            flat[row->first + j] = (float)((2.0 * oc_random_uniform(key, j) - 1.0) * (double)row->init_bound);
    }
}

oc_tensor oc_parameters_tensor(const oc_parameters *p, const char *name, float *flat)
{
    const oc_parameter *row = oc_parameters_find(p, name);
    assert(row && "the shape has no such parameter");
    return oc_tensor_make(flat ? flat + row->first : NULL, OC_DTYPE_F32, row->dims[0], row->dims[1], 1, 1);
}

oc_lstm_weights oc_parameters_lstm(const oc_parameters *p, const oc_model_shape *shape, float *flat)
{
    oc_lstm_weights w = {0};
    for (int layer = 0; layer < shape->layers; layer++) {
        const oc_parameter *row = &p->row[4 * layer]; /* add_lstm writes these four first */
        oc_tensor *const parts[4] = {&w.w_ih[layer], &w.w_hh[layer], &w.b_ih[layer], &w.b_hh[layer]};
        assert(shape->trunk == OC_TRUNK_LSTM);
        for (int i = 0; i < 4; i++)
            *parts[i] = oc_tensor_make(flat + row[i].first, OC_DTYPE_F32, row[i].dims[0], row[i].dims[1], 1, 1);
    }
    return w;
}

oc_attention_weights oc_parameters_attention(const oc_parameters *p, const oc_model_shape *shape, float *flat)
{
    assert(shape->heads > 0);
    (void)shape;
    return (oc_attention_weights){oc_parameters_tensor(p, "attention.in_proj_weight", flat),
                                  oc_parameters_tensor(p, "attention.in_proj_bias", flat),
                                  oc_parameters_tensor(p, "attention.out_proj.weight", flat),
                                  oc_parameters_tensor(p, "attention.out_proj.bias", flat)};
}
