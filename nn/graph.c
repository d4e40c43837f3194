/* graph.c - the whole model as calls of operations:
 *   gather_scale -> LSTM stack | MLP on the last row -> attention of the last query -> linear, ReLU, dropout -> linear
 * and the same way back. Nothing is computed here: this file knows order, shapes and where weights lie, and one sealed
 * arena holds every activation. Dropout is applied in place on outputs of ReLU; a dropped output is 0, so the gradient
 * of ReLU read from it is 0 too, as it must be. */
#include "nn/graph.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { TENSORS_MAX = 16 + OC_LAYERS_MAX };
enum {
    PACKED_LSTM,
    PACKED_ATTENTION,
    PACKED_HEAD_0,
    PACKED_HEAD_3,
    PACKED_MLP,
    PACKED_PARTS = PACKED_MLP + OC_LAYERS_MAX
};

struct oc_graph {
    oc_backend *backend;
    const oc_ops *ops;
    oc_model_shape shape;
    oc_parameters parameters;
    oc_graph_rule rule;
    int batch_max;
    bool training;
    float clip;
    size_t packed_first[PACKED_PARTS + 1]; /* bytes, of each part of the packed weights */
    oc_tensor mean, scale, index, target;
    oc_tensor x, y, dy, reserve; /* [T,B,F], [T,B,H]; T is 1 for the MLP */
    oc_tensor attended, map, attend_reserve;
    oc_tensor mlp[OC_LAYERS_MAX], dmlp[2];
    oc_tensor hidden, dhidden, dseen, logits, dlogits;
};

static int steps_of(const oc_graph *g)
{
    return g->shape.trunk == OC_TRUNK_MLP ? 1 : g->shape.steps;
}

static oc_lstm_shape lstm_shape(const oc_graph *g, int batch)
{
    return (oc_lstm_shape){g->shape.layers, batch, g->shape.steps, g->shape.inputs, g->shape.hidden};
}

static oc_attention_shape attention_shape(const oc_graph *g, int batch)
{
    return (oc_attention_shape){batch, g->shape.steps, g->shape.hidden, g->shape.heads};
}

/* ---------------------------------------------------------------- weights */
static oc_tensor weight_at(const oc_graph *g, const char *module, const char *part, float *flat)
{
    char name[48];
    snprintf(name, sizeof name, "%s.%s", module, part);
    return oc_parameters_tensor(&g->parameters, name, flat);
}

/* Operations take weights as tensors that are not const; graph.c only hands them to inputs. */
static float *borrowed(const float *flat)
{
    union {
        const float *in;
        float *out;
    } u = {.in = flat};
    return u.out;
}

/* One part of the packed weights, in memory that begins at `packed`. */
static oc_tensor packed_part(const oc_graph *g, int part, const void *packed)
{
    union {
        const void *in;
        unsigned char *out;
    } u = {.in = packed};
    return oc_tensor_make(u.out + g->packed_first[part], OC_DTYPE_BYTES,
                          (int64_t)(g->packed_first[part + 1] - g->packed_first[part]), 1, 1, 1);
}

static void module_name(char *name, size_t cap, int part)
{
    static const char *const heads[] = {[PACKED_HEAD_0] = "head.0", [PACKED_HEAD_3] = "head.3"};
    if (part < PACKED_MLP)
        snprintf(name, cap, "%s", heads[part]);
    else
        snprintf(name, cap, "trunk.%d", 2 * (part - PACKED_MLP));
}

static bool packed_linear(const oc_graph *g, int part)
{
    return part == PACKED_HEAD_0 || part == PACKED_HEAD_3 ||
           (part >= PACKED_MLP && part < PACKED_MLP + g->shape.layers && g->shape.trunk == OC_TRUNK_MLP);
}

static size_t packed_bytes_of(const oc_graph *g, int part)
{
    const oc_lstm_shape lstm = lstm_shape(g, g->batch_max);
    const oc_attention_shape attention = attention_shape(g, g->batch_max);
    if (part == PACKED_LSTM) return g->shape.trunk == OC_TRUNK_LSTM ? g->ops->lstm_packed_bytes(g->backend, &lstm) : 0;
    if (part == PACKED_ATTENTION) return g->shape.heads > 0 ? g->ops->attend_packed_bytes(g->backend, &attention) : 0;
    if (!packed_linear(g, part)) return 0;
    char name[32];
    module_name(name, sizeof name, part);
    const oc_tensor w = weight_at(g, name, "weight", NULL);
    return g->ops->linear_packed_bytes(g->backend, (int)w.dims[0], (int)w.dims[1]);
}

static void packed_plan(oc_graph *g)
{
    for (int part = 0; part < PACKED_PARTS; part++)
        g->packed_first[part + 1] = g->packed_first[part] + oc_align_up(packed_bytes_of(g, part));
}

size_t oc_graph_packed_bytes(oc_graph *g)
{
    return g->packed_first[PACKED_PARTS];
}

oc_status oc_graph_pack_enqueue(oc_graph *g, const float *flat, void *packed)
{
    float *weights = borrowed(flat);
    if (g->shape.trunk == OC_TRUNK_LSTM) {
        const oc_lstm_shape s = lstm_shape(g, g->batch_max);
        const oc_lstm_weights w = oc_parameters_lstm(&g->parameters, &g->shape, weights);
        OC_TRY(g->ops->lstm_pack(g->backend, &s, &w, packed_part(g, PACKED_LSTM, packed)));
    }
    if (g->shape.heads > 0) {
        const oc_attention_shape s = attention_shape(g, g->batch_max);
        const oc_attention_weights w = oc_parameters_attention(&g->parameters, &g->shape, weights);
        OC_TRY(g->ops->attend_pack(g->backend, &s, &w, packed_part(g, PACKED_ATTENTION, packed)));
    }
    for (int part = 0; part < PACKED_PARTS; part++) {
        char name[32];
        if (!packed_linear(g, part)) continue;
        module_name(name, sizeof name, part);
        OC_TRY(g->ops->linear_pack(g->backend, weight_at(g, name, "weight", weights), packed_part(g, part, packed)));
    }
    return OC_OK;
}

oc_status oc_graph_pack(oc_graph *g, const float *flat, void *packed)
{
    OC_TRY(oc_graph_pack_enqueue(g, flat, packed));
    OC_TRY(oc_backend_wait(g->backend));
    return OC_OK;
}

/* ---------------------------------------------------------------- memory */
typedef struct plan {
    oc_tensor *tensor[TENSORS_MAX];
    int count;
    size_t bytes;
} plan;

static void want(plan *p, oc_tensor *t, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    assert(p->count < TENSORS_MAX);
    *t = oc_tensor_make(NULL, dtype, d0, d1, d2, 1);
    p->tensor[p->count++] = t;
    p->bytes += oc_align_up((size_t)oc_tensor_count(*t) * oc_dtype_bytes(dtype));
}

static void plan_lstm(oc_graph *g, plan *p)
{
    const int64_t batch = g->batch_max, hidden = g->shape.hidden, steps = g->shape.steps;
    const oc_lstm_shape lstm = lstm_shape(g, g->batch_max);
    want(p, &g->y, OC_DTYPE_F32, steps, batch, hidden);
    want(p, &g->reserve, OC_DTYPE_BYTES, (int64_t)g->ops->lstm_reserve_bytes(g->backend, &lstm, g->training), 1, 1);
    if (g->training) want(p, &g->dy, OC_DTYPE_F32, steps, batch, hidden);
    if (g->shape.heads == 0) return;
    const oc_attention_shape attention = attention_shape(g, g->batch_max);
    want(p, &g->attended, OC_DTYPE_F32, batch, hidden, 1);
    want(p, &g->map, OC_DTYPE_F32, batch, g->shape.heads, steps);
    want(p, &g->attend_reserve, OC_DTYPE_BYTES, (int64_t)g->ops->attend_reserve_bytes(g->backend, &attention), 1, 1);
}

static void plan_all(oc_graph *g, plan *p)
{
    const int64_t batch = g->batch_max, hidden = g->shape.hidden, inputs = g->shape.inputs,
                  outputs = OC_CLASSES * g->shape.horizons;
    *p = (plan){.count = 0};
    want(p, &g->mean, OC_DTYPE_F32, inputs, 1, 1);
    want(p, &g->scale, OC_DTYPE_F32, inputs, 1, 1);
    want(p, &g->index, OC_DTYPE_I64, batch, 1, 1);
    want(p, &g->x, OC_DTYPE_F32, steps_of(g), batch, inputs);
    want(p, &g->hidden, OC_DTYPE_F32, batch, hidden / 2, 1);
    want(p, &g->logits, OC_DTYPE_F32, batch, outputs, 1);
    if (g->training) {
        want(p, &g->target, OC_DTYPE_I32, batch, g->shape.horizons, 1);
        want(p, &g->dlogits, OC_DTYPE_F32, batch, outputs, 1);
        want(p, &g->dhidden, OC_DTYPE_F32, batch, hidden / 2, 1);
        want(p, &g->dseen, OC_DTYPE_F32, batch, hidden, 1);
    }
    if (g->shape.trunk == OC_TRUNK_LSTM) {
        plan_lstm(g, p);
        return;
    }
    for (int l = 0; l < g->shape.layers; l++) want(p, &g->mlp[l], OC_DTYPE_F32, batch, hidden, 1);
    for (int i = 0; i < 2 && g->training; i++) want(p, &g->dmlp[i], OC_DTYPE_F32, batch, hidden, 1);
}

/* A backend without memory, only to ask how much the operations want. */
static oc_status measure(oc_graph *g, const oc_backend_config *config, plan *p)
{
    oc_backend_config probe = *config;
    probe.arena_bytes = 0;
    OC_TRY(oc_backend_open(&g->backend, &probe));
    g->ops = oc_backend_ops(g->backend);
    plan_all(g, p);
    oc_backend_close(g->backend);
    g->backend = NULL;
    return OC_OK;
}

static oc_status shape_take(oc_graph *g, const oc_model_shape *shape, int batch_max, bool training)
{
    OC_TRY(oc_model_shape_check(shape));
    if (!(batch_max >= 1 && batch_max <= 1 << 20))
        return OC_FAIL(OC_ELIMIT, "a graph of %d windows, not from 1 to 1048576", batch_max);
    *g = (oc_graph){.shape = *shape, .batch_max = batch_max, .training = training};
    oc_parameters_describe(&g->parameters, shape);
    return OC_OK;
}

oc_status oc_graph_bytes(const oc_backend_config *config, const oc_model_shape *shape, int batch_max, bool training,
                         size_t *bytes)
{
    oc_graph g;
    plan p;
    OC_TRY(shape_take(&g, shape, batch_max, training));
    OC_TRY(measure(&g, config, &p));
    *bytes = p.bytes + oc_align_up(sizeof g);
    return OC_OK;
}

static oc_status upload_narrowed(oc_graph *g, oc_tensor to, const double *from, bool divides, const char *what)
{
    float narrow[OC_INPUTS_MAX];
    for (int i = 0; i < g->shape.inputs; i++) {
        narrow[i] = (float)from[i];
        if (!(narrow[i] - narrow[i] == 0.0f) || (divides && !(narrow[i] > 0.0f)))
            return OC_FAIL(OC_EDATA, "scaler: %s %d is %g as f32, which cannot be used", what, i, (double)narrow[i]);
    }
    OC_TRY(oc_backend_upload(g->backend, to, narrow, (size_t)g->shape.inputs * sizeof *narrow));
    return OC_OK;
}

static oc_status fill_graph(oc_graph *g, const oc_backend_config *config, const double *mean, const double *scale)
{
    plan p;
    OC_TRY(measure(g, config, &p));
    oc_backend_config mine = *config;
    mine.arena_bytes = p.bytes;
    OC_TRY(oc_backend_open(&g->backend, &mine));
    g->ops = oc_backend_ops(g->backend);
    plan_all(g, &p);
    packed_plan(g);
    for (int i = 0; i < p.count; i++) OC_TRY(oc_backend_alloc(g->backend, p.tensor[i]));
    oc_backend_seal(g->backend);
    OC_TRY(upload_narrowed(g, g->mean, mean, false, "mean"));
    OC_TRY(upload_narrowed(g, g->scale, scale, true, "scale"));
    OC_TRY(oc_backend_wait(g->backend));
    return OC_OK;
}

oc_status oc_graph_open(oc_graph **out, const oc_backend_config *config, const oc_model_shape *shape,
                        const oc_graph_rule *rule, const double *mean, const double *scale, double clip, int batch_max,
                        bool training)
{
    oc_graph g, *kept;
    assert(out && config && shape && mean && scale && (rule || !training));
    *out = NULL;
    OC_TRY(shape_take(&g, shape, batch_max, training));
    OC_TRY(oc_memory_new(&kept, sizeof *kept, "graph"));
    *kept = g;
    kept->clip = (float)clip;
    if (rule) kept->rule = *rule;
    kept->rule.loss.horizons = shape->horizons;
    oc_status status = fill_graph(kept, config, mean, scale);
    if (status != OC_OK) {
        oc_graph_close(kept);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    *out = kept;
    return OC_OK;
}

void oc_graph_close(oc_graph *g)
{
    if (!g) return;
    oc_backend_close(g->backend);
    oc_memory_free(g);
}

oc_backend *oc_graph_backend(oc_graph *g)
{
    return g->backend;
}

/* ---------------------------------------------------------------- one pass */
typedef struct pass {
    int count;
    bool training;
    float *flat, *gradient;
    const void *packed;
    oc_tensor seen;
    const oc_graph_batch *batch;
} pass;

static oc_tensor first_rows(oc_tensor t, int count) /* [B, …] of which only count rows exist */
{
    t.dims[0] = count;
    return t;
}

static oc_tensor timed(oc_tensor t, int count) /* [T,B,…], packed anew for this batch */
{
    t.dims[1] = count;
    return t;
}

static oc_tensor last_step(oc_tensor t, int count) /* [T,B,H] -> its last [B,H] */
{
    float *data = t.data;
    return oc_tensor_make(data + (t.dims[0] - 1) * count * t.dims[2], OC_DTYPE_F32, count, t.dims[2], 1, 1);
}

static oc_dropout dropout_of(const oc_graph *g, const pass *p, float probability, int tensor)
{
    return (oc_dropout){probability,      g->rule.seed,  p->batch->step, p->batch->sample_first,
                        (uint32_t)tensor, p->batch->keys};
}

static oc_status linear(oc_graph *g, const pass *p, int part, oc_tensor x, bool relu, oc_tensor y)
{
    char name[32];
    module_name(name, sizeof name, part);
    OC_TRY(g->ops->linear_forward(g->backend, x, packed_part(g, part, p->packed), weight_at(g, name, "bias", p->flat),
                                  relu, y));
    return OC_OK;
}

/* Of the gradients, those from this parameter on are final. */
static oc_status final_from(const oc_graph *g, const pass *p, const char *name)
{
    const oc_graph_watch *watch = p->batch->watch;
    if (watch) OC_TRY(watch->final(watch->context, oc_parameters_find(&g->parameters, name)->first));
    return OC_OK;
}

static oc_status linear_gradient(oc_graph *g, const pass *p, int part, oc_tensor x, oc_tensor y, bool relu,
                                 oc_tensor dy, oc_tensor dx)
{
    char name[32];
    module_name(name, sizeof name, part);
    OC_TRY(g->ops->linear_backward(g->backend, x, weight_at(g, name, "weight", p->flat), y, relu, dy, dx,
                                   weight_at(g, name, "weight", p->gradient), weight_at(g, name, "bias", p->gradient)));
    snprintf(name + strlen(name), sizeof name - strlen(name), ".weight");
    OC_TRY(final_from(g, p, name));
    return OC_OK;
}

static oc_status forward_lstm(oc_graph *g, pass *p)
{
    const oc_lstm_shape s = lstm_shape(g, p->count);
    const oc_dropout d = dropout_of(g, p, g->rule.dropout, 0);
    const bool drop = p->training && d.p > 0.0f && g->shape.layers > 1;
    const oc_tensor y = timed(g->y, p->count);
    OC_TRY(g->ops->lstm_forward(g->backend, &s, packed_part(g, PACKED_LSTM, p->packed), timed(g->x, p->count),
                                drop ? &d : NULL, p->training, y, g->reserve));
    p->seen = last_step(y, p->count);
    if (g->shape.heads == 0) return OC_OK;
    const oc_attention_shape a = attention_shape(g, p->count);
    p->seen = first_rows(g->attended, p->count);
    OC_TRY(g->ops->attend_forward(g->backend, &a, packed_part(g, PACKED_ATTENTION, p->packed), y, p->seen,
                                  first_rows(g->map, p->count), g->attend_reserve));
    return OC_OK;
}

static oc_status backward_lstm(oc_graph *g, const pass *p)
{
    const oc_lstm_shape s = lstm_shape(g, p->count);
    const oc_dropout d = dropout_of(g, p, g->rule.dropout, 0);
    const bool drop = d.p > 0.0f && g->shape.layers > 1;
    const oc_tensor y = timed(g->y, p->count), dy = timed(g->dy, p->count);
    const oc_lstm_weights dw = oc_parameters_lstm(&g->parameters, &g->shape, p->gradient);
    if (g->shape.heads > 0) {
        const oc_attention_shape a = attention_shape(g, p->count);
        const oc_attention_weights w = oc_parameters_attention(&g->parameters, &g->shape, p->flat);
        const oc_attention_weights da = oc_parameters_attention(&g->parameters, &g->shape, p->gradient);
        OC_TRY(g->ops->attend_backward(g->backend, &a, &w, y, first_rows(g->map, p->count), g->attend_reserve,
                                       first_rows(g->dseen, p->count), &da, dy));
        OC_TRY(final_from(g, p, "attention.in_proj_weight"));
    }
    for (int l = s.layers - 1; l >= 0; l--) {
        char name[32];
        OC_TRY(g->ops->lstm_backward_layer(g->backend, &s, l, packed_part(g, PACKED_LSTM, p->packed),
                                           timed(g->x, p->count), y, dy, drop ? &d : NULL, g->reserve, &dw));
        snprintf(name, sizeof name, "lstm.weight_ih_l%d", l);
        OC_TRY(final_from(g, p, name));
    }
    return OC_OK;
}

static oc_status forward_mlp(oc_graph *g, pass *p)
{
    p->seen = last_step(timed(g->x, p->count), p->count);
    for (int l = 0; l < g->shape.layers; l++) {
        const oc_tensor y = first_rows(g->mlp[l], p->count);
        const oc_dropout d = dropout_of(g, p, g->rule.dropout, l);
        OC_TRY(linear(g, p, PACKED_MLP + l, p->seen, true, y));
        if (p->training && l + 1 < g->shape.layers) OC_TRY(g->ops->dropout(g->backend, &d, y));
        p->seen = y;
    }
    return OC_OK;
}

static oc_status backward_mlp(oc_graph *g, const pass *p)
{
    oc_tensor dy = first_rows(g->dseen, p->count);
    for (int l = g->shape.layers - 1; l >= 0; l--) {
        const oc_tensor x = l ? first_rows(g->mlp[l - 1], p->count) : last_step(timed(g->x, p->count), p->count);
        const oc_tensor dx = l ? first_rows(g->dmlp[l % 2], p->count) : (oc_tensor){.data = NULL};
        OC_TRY(linear_gradient(g, p, PACKED_MLP + l, x, first_rows(g->mlp[l], p->count), true, dy, dx));
        const oc_dropout d = dropout_of(g, p, g->rule.dropout, l - 1);
        if (l > 0) OC_TRY(g->ops->dropout(g->backend, &d, dx));
        dy = dx;
    }
    return OC_OK;
}

/* Windows or targets of the batch, where operations read them. */
static oc_status place(oc_graph *g, const pass *p, oc_tensor mine, const void *from, oc_tensor *out)
{
    *out = mine;
    if (p->batch->placed)
        out->data = (void *)(uintptr_t)from;
    else
        OC_TRY(oc_backend_upload(g->backend, mine, from, (size_t)oc_tensor_count(mine) * oc_dtype_bytes(mine.dtype)));
    return OC_OK;
}

static oc_status forward(oc_graph *g, pass *p)
{
    const oc_tensor hidden = first_rows(g->hidden, p->count);
    oc_tensor index;
    OC_TRY(place(g, p, first_rows(g->index, p->count), p->batch->index, &index));
    OC_TRY(g->ops->gather_scale(g->backend, p->batch->rows, index, g->mean, g->scale, g->clip, timed(g->x, p->count)));
    OC_TRY((g->shape.trunk == OC_TRUNK_MLP ? forward_mlp : forward_lstm)(g, p));
    OC_TRY(linear(g, p, PACKED_HEAD_0, p->seen, true, hidden));
    const oc_dropout d = dropout_of(g, p, g->rule.head_dropout, OC_GRAPH_DROPOUT_HEAD);
    if (p->training) OC_TRY(g->ops->dropout(g->backend, &d, hidden));
    OC_TRY(linear(g, p, PACKED_HEAD_3, hidden, false, first_rows(g->logits, p->count)));
    return OC_OK;
}

/* Where the trunk's gradient enters: the last step of dy where nothing stands between, a place of its own elsewhere. */
static oc_status backward(oc_graph *g, const pass *p)
{
    const oc_tensor hidden = first_rows(g->hidden, p->count), dhidden = first_rows(g->dhidden, p->count);
    const oc_dropout d = dropout_of(g, p, g->rule.head_dropout, OC_GRAPH_DROPOUT_HEAD);
    const bool direct = g->shape.trunk == OC_TRUNK_LSTM && g->shape.heads == 0;
    oc_tensor dseen = first_rows(g->dseen, p->count);
    if (direct) {
        dseen = last_step(timed(g->dy, p->count), p->count);
        OC_TRY(g->ops->fill(g->backend, 0.0f, timed(g->dy, p->count)));
    }
    OC_TRY(linear_gradient(g, p, PACKED_HEAD_3, hidden, first_rows(g->logits, p->count), false,
                           first_rows(g->dlogits, p->count), dhidden));
    OC_TRY(g->ops->dropout(g->backend, &d, dhidden));
    OC_TRY(linear_gradient(g, p, PACKED_HEAD_0, p->seen, hidden, true, dhidden, dseen));
    OC_TRY((g->shape.trunk == OC_TRUNK_MLP ? backward_mlp : backward_lstm)(g, p));
    return OC_OK;
}

oc_status oc_graph_train_enqueue(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                                 double *loss_sum, double *weight_sum, float *gradient)
{
    pass p = {batch->count, true, borrowed(flat), gradient, packed, {0}, batch};
    oc_tensor target;
    assert(g->training && batch->count >= 0 && batch->count <= g->batch_max);
    OC_TRY(
        g->ops->fill(g->backend, 0.0f, oc_tensor_make(gradient, OC_DTYPE_F32, (int64_t)g->parameters.total, 1, 1, 1)));
    if (p.count == 0 && batch->watch) OC_TRY(batch->watch->final(batch->watch->context, 0));
    if (p.count == 0) return OC_OK;
    OC_TRY(forward(g, &p));
    OC_TRY(place(g, &p, first_rows(g->target, p.count), batch->target, &target));
    OC_TRY(g->ops->softmax_loss(g->backend, &g->rule.loss, first_rows(g->logits, p.count), target, loss_sum, weight_sum,
                                first_rows(g->dlogits, p.count)));
    OC_TRY(backward(g, &p));
    return OC_OK;
}

oc_status oc_graph_train(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                         double *loss_sum, double *weight_sum, float *gradient)
{
    OC_TRY(oc_graph_train_enqueue(g, flat, packed, batch, loss_sum, weight_sum, gradient));
    OC_TRY(oc_backend_wait(g->backend));
    return OC_OK;
}

oc_status oc_graph_enqueue(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                           oc_tensor *logits)
{
    pass p = {batch->count, false, borrowed(flat), NULL, packed, {0}, batch};
    assert(batch->count > 0 && batch->count <= g->batch_max);
    *logits = first_rows(g->logits, p.count);
    OC_TRY(forward(g, &p));
    return OC_OK;
}

oc_status oc_graph_logits(oc_graph *g, const float *flat, const void *packed, const oc_graph_batch *batch,
                          float *logits, float *attention)
{
    pass p = {batch->count, false, borrowed(flat), NULL, packed, {0}, batch};
    const oc_tensor answer = first_rows(g->logits, p.count);
    assert(batch->count >= 0 && batch->count <= g->batch_max && (!attention || g->shape.heads > 0));
    if (p.count == 0) return OC_OK;
    OC_TRY(forward(g, &p));
    OC_TRY(oc_backend_download(g->backend, logits, (size_t)oc_tensor_count(answer) * sizeof *logits, answer));
    if (attention) {
        const oc_tensor map = first_rows(g->map, p.count);
        OC_TRY(oc_backend_download(g->backend, attention, (size_t)oc_tensor_count(map) * sizeof *attention, map));
    }
    OC_TRY(oc_backend_wait(g->backend));
    return OC_OK;
}

oc_graph_parts oc_graph_parts_of(const oc_graph *g, const float *flat, const void *packed)
{
    return (oc_graph_parts){
        .lstm = packed_part(g, PACKED_LSTM, packed),
        .attention = packed_part(g, PACKED_ATTENTION, packed),
        .head = {packed_part(g, PACKED_HEAD_0, packed), packed_part(g, PACKED_HEAD_3, packed)},
        .head_bias = {weight_at(g, "head.0", "bias", borrowed(flat)), weight_at(g, "head.3", "bias", borrowed(flat))},
        .mean = g->mean,
        .scale = g->scale,
        .clip = g->clip};
}
