/* onnx_operators.c - one function an operator, one row a name. Definitions: the ONNX operator reference, opset 17
 * [ONNX17]; only the forms that onnx.c writes are taken, anything else is refused rather than guessed. */
#include "nn/onnx_operators.h"

#include <math.h>
#include <string.h>

size_t oc_onnx_count(const oc_onnx_value *v)
{
    size_t count = 1;
    for (int i = 0; i < v->rank; i++) count *= (size_t)v->dims[i];
    return count;
}

oc_status oc_onnx_value_new(oc_onnx_value *out, oc_arena *arena, int rank, const int64_t *dims)
{
    size_t count = 1;
    if (rank > OC_ONNX_RANK_MAX) return OC_FAIL(OC_EDATA, "a tensor of rank %d", rank);
    for (int i = 0; i < rank; i++) {
        if (dims[i] < 1 || __builtin_mul_overflow(count, (size_t)dims[i], &count) || count > SIZE_MAX / sizeof(double))
            return OC_FAIL(OC_EDATA, "a tensor with a dimension of %lld", (long long)dims[i]);
        out->dims[i] = dims[i];
    }
    out->rank = rank;
    OC_TRY(oc_arena_take(arena, &out->x, count * sizeof(double), "ONNX value"));
    return OC_OK;
}

static const Onnx__AttributeProto *attribute(const oc_onnx_call *c, const char *name)
{
    for (size_t i = 0; i < c->node->n_attribute; i++) {
        if (strcmp(c->node->attribute[i]->name, name) == 0) return c->node->attribute[i];
    }
    return NULL;
}

static int64_t attribute_int(const oc_onnx_call *c, const char *name, int64_t standard)
{
    const Onnx__AttributeProto *a = attribute(c, name);
    return a && a->has_i ? a->i : standard;
}

static oc_status refuse(const oc_onnx_call *c, const char *why)
{
    return OC_FAIL(OC_EDATA, "%s %s: %s", c->node->op_type, c->out->name, why);
}

/* --- elementwise: the second operand's dimensions are the last ones of the first, or 1 --- */

typedef double (*binary)(double a, double b);
static double subtract(double a, double b)
{
    return a - b;
}
static double divide(double a, double b)
{
    return a / b;
}
static double add(double a, double b)
{
    return a + b;
}
static double multiply(double a, double b)
{
    return a * b;
}

static size_t broadcast_index(const oc_onnx_value *a, const oc_onnx_value *b, size_t at)
{
    size_t index = 0, stride = 1;
    for (int i = 1; i <= b->rank; i++) {
        size_t dim = (size_t)a->dims[a->rank - i], mine = (size_t)b->dims[b->rank - i];
        if (mine > 1) index += at % dim * stride;
        at /= dim;
        stride *= mine;
    }
    return index;
}

static oc_status elementwise(const oc_onnx_call *c, binary f)
{
    const oc_onnx_value *a = c->in[0], *b = c->in[1];
    if (c->inputs != 2 || b->rank > a->rank) return refuse(c, "two operands, the first of the higher rank, are needed");
    for (int i = 1; i <= b->rank; i++) {
        if (b->dims[b->rank - i] != 1 && b->dims[b->rank - i] != a->dims[a->rank - i])
            return refuse(c, "shapes do not broadcast");
    }
    OC_TRY(oc_onnx_value_new(c->out, c->arena, a->rank, a->dims));
    for (size_t i = 0; i < oc_onnx_count(a); i++) c->out->x[i] = f(a->x[i], b->x[broadcast_index(a, b, i)]);
    return OC_OK;
}

static oc_status op_sub(const oc_onnx_call *c)
{
    return elementwise(c, subtract);
}
static oc_status op_div(const oc_onnx_call *c)
{
    return elementwise(c, divide);
}
static oc_status op_add(const oc_onnx_call *c)
{
    return elementwise(c, add);
}
static oc_status op_mul(const oc_onnx_call *c)
{
    return elementwise(c, multiply);
}

static oc_status copy(const oc_onnx_call *c, int rank, const int64_t *dims)
{
    OC_TRY(oc_onnx_value_new(c->out, c->arena, rank, dims));
    if (oc_onnx_count(c->out) != oc_onnx_count(c->in[0])) return refuse(c, "another number of elements");
    memcpy(c->out->x, c->in[0]->x, oc_onnx_count(c->out) * sizeof(double));
    return OC_OK;
}

static oc_status op_identity(const oc_onnx_call *c)
{
    return copy(c, c->in[0]->rank, c->in[0]->dims);
}

static oc_status op_clip(const oc_onnx_call *c)
{
    if (c->inputs != 3) return refuse(c, "both limits are needed");
    OC_TRY(op_identity(c));
    for (size_t i = 0; i < oc_onnx_count(c->out); i++)
        c->out->x[i] = fmin(fmax(c->out->x[i], *c->in[1]->x), *c->in[2]->x);
    return OC_OK;
}

static oc_status op_relu(const oc_onnx_call *c)
{
    OC_TRY(op_identity(c));
    for (size_t i = 0; i < oc_onnx_count(c->out); i++) {
        if (c->out->x[i] < 0) c->out->x[i] = 0;
    }
    return OC_OK;
}

/* --- shapes --- */

static oc_status op_reshape(const oc_onnx_call *c)
{
    int64_t dims[OC_ONNX_RANK_MAX];
    size_t rank = c->inputs == 2 ? oc_onnx_count(c->in[1]) : 0;
    if (rank < 1 || rank > OC_ONNX_RANK_MAX) return refuse(c, "a shape of 1 to 4 numbers is needed");
    for (size_t i = 0; i < rank; i++) {
        dims[i] = (int64_t)c->in[1]->x[i];
        if (dims[i] == 0 && (int)i < c->in[0]->rank) dims[i] = c->in[0]->dims[i];
    }
    return copy(c, (int)rank, dims);
}

static oc_status op_squeeze(const oc_onnx_call *c)
{
    const oc_onnx_value *a = c->in[0];
    int64_t dims[OC_ONNX_RANK_MAX];
    int rank = 0, axis = c->inputs == 2 ? (int)c->in[1]->x[0] : -1;
    if (axis < 0 || axis >= a->rank || a->dims[axis] != 1) return refuse(c, "one axis of size 1 is needed");
    for (int i = 0; i < a->rank; i++) {
        if (i != axis) dims[rank++] = a->dims[i];
    }
    return copy(c, rank, dims);
}

static oc_status op_transpose(const oc_onnx_call *c)
{
    const oc_onnx_value *a = c->in[0];
    const Onnx__AttributeProto *perm = attribute(c, "perm");
    int64_t dims[OC_ONNX_RANK_MAX];
    size_t stride[OC_ONNX_RANK_MAX];
    if (!perm || perm->n_ints != (size_t)a->rank || a->rank < 1) return refuse(c, "perm does not fit");
    for (int i = 0; i < a->rank; i++) {
        if (perm->ints[i] < 0 || perm->ints[i] >= a->rank) return refuse(c, "perm does not fit");
        dims[i] = a->dims[perm->ints[i]];
        stride[i] = 1;
        for (int k = (int)perm->ints[i] + 1; k < a->rank; k++) stride[i] *= (size_t)a->dims[k];
    }
    OC_TRY(oc_onnx_value_new(c->out, c->arena, a->rank, dims));
    if (oc_onnx_count(c->out) != oc_onnx_count(a)) return refuse(c, "perm is no permutation");
    for (size_t i = 0; i < oc_onnx_count(a); i++) {
        size_t from = 0, rest = i;
        for (int k = a->rank - 1; k >= 0; k--) {
            from += rest % (size_t)dims[k] * stride[k];
            rest /= (size_t)dims[k];
        }
        c->out->x[i] = a->x[from];
    }
    return OC_OK;
}

/* A scalar index along one axis, which disappears. */
static oc_status op_gather(const oc_onnx_call *c)
{
    const oc_onnx_value *a = c->in[0];
    int64_t axis = attribute_int(c, "axis", 0), dims[OC_ONNX_RANK_MAX];
    int rank = 0;
    if (c->inputs != 2 || c->in[1]->rank != 0 || axis < 0 || axis >= a->rank)
        return refuse(c, "a scalar index is needed");
    int64_t index = (int64_t)c->in[1]->x[0];
    if (index < 0 || index >= a->dims[axis]) return refuse(c, "the index lies outside");
    size_t before = 1, after = 1;
    for (int i = 0; i < a->rank; i++) {
        if (i < axis) before *= (size_t)a->dims[i];
        if (i > axis) after *= (size_t)a->dims[i];
        if (i != axis) dims[rank++] = a->dims[i];
    }
    OC_TRY(oc_onnx_value_new(c->out, c->arena, rank, dims));
    for (size_t i = 0; i < before; i++)
        memcpy(c->out->x + i * after, a->x + (i * (size_t)a->dims[axis] + (size_t)index) * after,
               after * sizeof(double));
    return OC_OK;
}

/* --- products --- */

static void product(const double *a, const double *b, double *y, int64_t rows, int64_t inner, int64_t columns)
{
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            double sum = 0;
            for (int64_t k = 0; k < inner; k++) sum += a[i * inner + k] * b[k * columns + j];
            y[i * columns + j] = sum;
        }
    }
}

/* [.., M,K] . [K,N], or both with the same leading dimensions. */
static oc_status op_matmul(const oc_onnx_call *c)
{
    const oc_onnx_value *a = c->in[0], *b = c->in[1];
    int64_t dims[OC_ONNX_RANK_MAX];
    if (c->inputs != 2 || a->rank < 2 || b->rank < 2 || (b->rank != 2 && b->rank != a->rank))
        return refuse(c, "ranks do not fit");
    for (int i = 0; b->rank > 2 && i < a->rank - 2; i++) {
        if (a->dims[i] != b->dims[i]) return refuse(c, "leading dimensions differ");
    }
    int64_t rows = a->dims[a->rank - 2], inner = a->dims[a->rank - 1], columns = b->dims[b->rank - 1];
    if (b->dims[b->rank - 2] != inner) return refuse(c, "inner dimensions differ");
    memcpy(dims, a->dims, sizeof dims);
    dims[a->rank - 1] = columns;
    OC_TRY(oc_onnx_value_new(c->out, c->arena, a->rank, dims));
    size_t batches = oc_onnx_count(a) / (size_t)(rows * inner), step = b->rank == 2 ? 0 : (size_t)(inner * columns);
    for (size_t i = 0; i < batches; i++)
        product(a->x + i * (size_t)(rows * inner), b->x + i * step, c->out->x + i * (size_t)(rows * columns), rows,
                inner, columns);
    return OC_OK;
}

/* x [B,K] . w [N,K]^T + bias [N] */
static oc_status op_gemm(const oc_onnx_call *c)
{
    const oc_onnx_value *x = c->in[0], *w = c->in[1], *bias = c->in[2];
    if (c->inputs != 3 || x->rank != 2 || w->rank != 2 || attribute_int(c, "transB", 0) != 1 ||
        x->dims[1] != w->dims[1] || bias->rank != 1 || bias->dims[0] != w->dims[0])
        return refuse(c, "x [B,K], w [N,K] with transB, bias [N] are needed");
    const int64_t dims[2] = {x->dims[0], w->dims[0]}, inner = x->dims[1];
    OC_TRY(oc_onnx_value_new(c->out, c->arena, 2, dims));
    for (int64_t i = 0; i < dims[0]; i++) {
        for (int64_t j = 0; j < dims[1]; j++) {
            double sum = bias->x[j];
            for (int64_t k = 0; k < inner; k++) sum += x->x[i * inner + k] * w->x[j * inner + k];
            c->out->x[i * dims[1] + j] = sum;
        }
    }
    return OC_OK;
}

static oc_status op_softmax(const oc_onnx_call *c)
{
    const oc_onnx_value *a = c->in[0];
    int64_t axis = attribute_int(c, "axis", -1);
    size_t after = 1;
    if (axis < 0 || axis >= a->rank) return refuse(c, "axis does not fit");
    for (int i = (int)axis + 1; i < a->rank; i++) after *= (size_t)a->dims[i];
    OC_TRY(op_identity(c));
    size_t length = (size_t)a->dims[axis];
    for (size_t i = 0; i < oc_onnx_count(a) / length; i++) {
        double *x = c->out->x + i / after * after * length + i % after, largest = x[0], sum = 0;
        for (size_t k = 1; k < length; k++) largest = fmax(largest, x[k * after]);
        for (size_t k = 0; k < length; k++) sum += x[k * after] = exp(x[k * after] - largest);
        for (size_t k = 0; k < length; k++) x[k * after] /= sum;
    }
    return OC_OK;
}

/* --- LSTM: forward, zero state, gates i, o, f, c --- */

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void lstm_step(const oc_onnx_call *call, const double *x, double *h, double *c, double *sums, int64_t hidden)
{
    const oc_onnx_value *w = call->in[1], *r = call->in[2], *b = call->in[3];
    int64_t inner = w->dims[2];
    for (int64_t j = 0; j < 4 * hidden; j++) {
        sums[j] = b->x[j] + b->x[4 * hidden + j];
        for (int64_t k = 0; k < inner; k++) sums[j] += w->x[j * inner + k] * x[k];
        for (int64_t k = 0; k < hidden; k++) sums[j] += r->x[j * hidden + k] * h[k];
    }
    for (int64_t j = 0; j < hidden; j++) {
        c[j] = sigmoid(sums[2 * hidden + j]) * c[j] + sigmoid(sums[j]) * tanh(sums[3 * hidden + j]);
        h[j] = sigmoid(sums[hidden + j]) * tanh(c[j]);
    }
}

static oc_status op_lstm(const oc_onnx_call *c)
{
    const oc_onnx_value *x = c->in[0];
    int64_t hidden = attribute_int(c, "hidden_size", 0);
    if (c->inputs != 4 || x->rank != 3 || hidden < 1 || c->node->n_attribute != 1)
        return refuse(c, "X, W, R, B and hidden_size alone are needed");
    const int64_t steps = x->dims[0], batch = x->dims[1], inner = x->dims[2], dims[4] = {steps, 1, batch, hidden};
    const size_t expected[3] = {(size_t)(4 * hidden * inner), (size_t)(4 * hidden * hidden), (size_t)(8 * hidden)};
    for (int i = 0; i < 3; i++) {
        if (oc_onnx_count(c->in[i + 1]) != expected[i]) return refuse(c, "weights do not fit");
    }
    double *state;
    OC_TRY(oc_onnx_value_new(c->out, c->arena, 4, dims));
    OC_TRY(oc_arena_take(c->arena, &state, (size_t)(6 * hidden) * sizeof *state, "ONNX LSTM state"));
    for (int64_t b = 0; b < batch; b++) {
        memset(state, 0, (size_t)(2 * hidden) * sizeof *state);
        for (int64_t t = 0; t < steps; t++) {
            lstm_step(c, x->x + (t * batch + b) * inner, state, state + hidden, state + 2 * hidden, hidden);
            memcpy(c->out->x + (t * batch + b) * hidden, state, (size_t)hidden * sizeof *state);
        }
    }
    return OC_OK;
}

static const struct {
    const char *name;
    oc_status (*run)(const oc_onnx_call *call);
} operators[] = {
    {"Sub", op_sub},           {"Div", op_div},
    {"Add", op_add},           {"Mul", op_mul},
    {"Clip", op_clip},         {"Relu", op_relu},
    {"Identity", op_identity}, {"Reshape", op_reshape},
    {"Squeeze", op_squeeze},   {"Transpose", op_transpose},
    {"Gather", op_gather},     {"MatMul", op_matmul},
    {"Gemm", op_gemm},         {"Softmax", op_softmax},
    {"LSTM", op_lstm},
};

oc_status oc_onnx_call_run(const oc_onnx_call *call)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (strcmp(operators[i].name, call->node->op_type) != 0) continue;
        OC_TRY(operators[i].run(call));
        return OC_OK;
    }
    return OC_FAIL(OC_EDATA, "%s: an operator that outcry does not write", call->node->op_type);
}
