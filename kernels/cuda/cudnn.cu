/* cudnn.cu - cuDNN for a backend: the library, a handle, and a plan for each shape of layers: descriptors, sizes, and
 * where cuDNN keeps each gate's weights. Asked once a shape and kept. Not run on a GPU. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/cudnn.cuh"

/* Shapes for which cuDNN was measured faster than our kernels, which `lstm: auto` then takes. None is measured yet:
 * one row that no shape meets. The figures belong into docs/performance.md. */
static const struct measured {
    oc_math math;
    int hidden_first, hidden_last, batch_first, batch_last;
} faster[] = {{OC_MATH_F32, 1, 0, 1, 0}};
static constexpr bool ANY_MEASURED = false;

/* ---------------------------------------------------------------- errors */
oc_status oc_cuda_dnn_result(const oc_cuda_dnn *d, const char *call, cudnnStatus_t status)
{
    char more[240] = "";
    if (status == CUDNN_STATUS_SUCCESS) return OC_OK;
    d->cudnnGetLastErrorString(more, sizeof more);
    return OC_FAIL(status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ? OC_EMEMORY : OC_EFAILED,
                   "backend cuda: %s of cuDNN %s failed with %s%s%s; lstm: hand does without", call, d->library.version,
                   d->cudnnGetErrorString(status), *more ? ": " : "", more);
}

/* ---------------------------------------------------------------- opening */
static OC_MUST functions_find(oc_cuda_dnn *d)
{
#define FIND(name) OC_TRY(oc_cuda_library_function(&d->library, #name, &d->name, sizeof d->name));
    OC_DNN_CALLS(FIND)
#undef FIND
    return OC_OK;
}

static OC_MUST algorithm_read(oc_cuda_dnn *d)
{
    const char *wish = getenv("OUTCRY_CUDNN_ALGORITHM");
    const bool persist = wish && strcmp(wish, "persist") == 0;
    if (wish && *wish && !persist && strcmp(wish, "standard") != 0)
        return OC_FAIL(OC_ECONFIG, "OUTCRY_CUDNN_ALGORITHM is %s, not standard or persist", wish);
    d->algorithm = persist ? CUDNN_RNN_ALGO_PERSIST_STATIC : CUDNN_RNN_ALGO_STANDARD;
    return OC_OK;
}

/* Data in f32 or bf16, sums in f32. tf32 is what cuDNN does to f32 unless it is told not to. */
static void types_choose(oc_cuda_dnn *d, oc_math math)
{
    d->type = math == OC_MATH_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    d->math = math == OC_MATH_F32 ? CUDNN_FMA_MATH : math == OC_MATH_TF32 ? CUDNN_DEFAULT_MATH : CUDNN_TENSOR_OP_MATH;
    d->element = math == OC_MATH_BF16 ? sizeof(oc_bf16) : sizeof(float);
}

oc_status oc_cuda_dnn_open(oc_backend *b, oc_lstm_by wish)
{
    oc_cuda_loaded library;
    char *said = b->info.lstm_by;
    b->info.lstm = OC_LSTM_HAND;
    snprintf(said, sizeof b->info.lstm_by, "hand");
    if (wish == OC_LSTM_HAND) return OC_OK;
    if (wish == OC_LSTM_AUTO && !ANY_MEASURED) {
        snprintf(said, sizeof b->info.lstm_by, "hand (auto: cuDNN not measured)");
        return OC_OK;
    }
    OC_TRY(oc_cuda_library_load(&oc_cuda_dnn_library, &library));
    oc_cuda_dnn *d = (oc_cuda_dnn *)calloc(1, sizeof *d);
    if (!d) return OC_FAIL(OC_EMEMORY, "backend cuda: no memory for %zu bytes", sizeof *d);
    oc_cuda_of(b)->dnn = d; /* closed with the backend, also when a line below fails */
    d->library = library;
    d->always = wish == OC_LSTM_CUDNN;
    types_choose(d, b->info.math);
    OC_TRY(algorithm_read(d));
    OC_TRY(functions_find(d));
    OC_DNN_TRY(d, cudnnCreate, &d->handle);
    OC_DNN_TRY(d, cudnnCreateDropoutDescriptor, &d->no_dropout);
    OC_DNN_TRY(d, cudnnSetDropoutDescriptor, d->no_dropout, d->handle, 0.0f, NULL, 0, 0);
    b->info.lstm = wish;
    snprintf(said, sizeof b->info.lstm_by, "cuDNN %s%s", library.version,
             d->algorithm == CUDNN_RNN_ALGO_PERSIST_STATIC ? " persist" : "");
    const size_t used = strlen(b->info.reason);
    snprintf(b->info.reason + used, sizeof b->info.reason - used, ", LSTM in training by %s", said);
    return OC_OK;
}

static void plan_close(oc_cuda_dnn *d, oc_cuda_dnn_plan *p)
{
    if (p->rnn) (void)d->cudnnDestroyRNNDescriptor(p->rnn);
    if (p->x) (void)d->cudnnDestroyRNNDataDescriptor(p->x);
    if (p->y) (void)d->cudnnDestroyRNNDataDescriptor(p->y);
    if (p->state) (void)d->cudnnDestroyTensorDescriptor(p->state);
    *p = oc_cuda_dnn_plan();
}

void oc_cuda_dnn_close(oc_backend *b)
{
    oc_cuda_dnn *d = oc_cuda_of(b)->dnn;
    if (!d) return;
    for (int i = 0; i < d->count; i++) plan_close(d, &d->plan[i]);
    if (d->no_dropout) (void)d->cudnnDestroyDropoutDescriptor(d->no_dropout);
    if (d->handle) (void)d->cudnnDestroy(d->handle);
    free(d);
    oc_cuda_of(b)->dnn = NULL;
}

bool oc_cuda_dnn_serves(oc_backend *b, const oc_lstm_shape *s)
{
    const oc_cuda_dnn *d = oc_cuda_of(b)->dnn;
    if (!d || d->always) return d != NULL;
    for (const measured &m : faster)
        if (m.math == b->info.math && s->hidden >= m.hidden_first && s->hidden <= m.hidden_last &&
            s->batch >= m.batch_first && s->batch <= m.batch_last)
            return true;
    return false;
}

/* ---------------------------------------------------------------- plans */
static OC_MUST data_describe(oc_cuda_dnn *d, cudnnRNNDataDescriptor_t *out, const oc_lstm_shape *s, int width,
                             const int *lengths)
{
    OC_DNN_TRY(d, cudnnCreateRNNDataDescriptor, out);
    OC_DNN_TRY(d, cudnnSetRNNDataDescriptor, *out, d->type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, s->steps, s->batch,
               width, lengths, NULL);
    return OC_OK;
}

static OC_MUST sequences_describe(oc_cuda_dnn *d, oc_cuda_dnn_plan *p)
{
    const oc_lstm_shape *s = &p->shape;
    int *lengths = (int *)malloc((size_t)s->batch * sizeof *lengths);
    if (!lengths) return OC_FAIL(OC_EMEMORY, "backend cuda: no memory for the lengths of %d windows", s->batch);
    for (int i = 0; i < s->batch; i++) lengths[i] = s->steps;
    oc_status status = data_describe(d, &p->x, s, s->inputs, lengths);
    if (status == OC_OK) status = data_describe(d, &p->y, s, s->hidden, lengths);
    free(lengths);
    return status == OC_OK ? OC_OK : oc_status_trail(status, __FILE__, __LINE__);
}

static OC_MUST plan_fill(oc_cuda_dnn *d, oc_cuda_dnn_plan *p)
{
    const oc_lstm_shape *s = &p->shape;
    const int dim[3] = {s->layers, s->batch, s->hidden}, stride[3] = {s->batch * s->hidden, s->hidden, 1};
    OC_DNN_TRY(d, cudnnCreateRNNDescriptor, &p->rnn);
    OC_DNN_TRY(d, cudnnSetRNNDescriptor_v8, p->rnn, d->algorithm, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS,
               CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, d->type, CUDNN_DATA_FLOAT, d->math, s->inputs, s->hidden,
               s->hidden, s->layers, d->no_dropout, 0);
    OC_TRY(sequences_describe(d, p));
    OC_DNN_TRY(d, cudnnCreateTensorDescriptor, &p->state);
    OC_DNN_TRY(d, cudnnSetTensorNdDescriptor, p->state, d->type, 3, dim, stride);
    OC_DNN_TRY(d, cudnnGetRNNWeightSpaceSize, d->handle, p->rnn, &p->space_bytes);
    OC_DNN_TRY(d, cudnnGetRNNTempSpaceSizes, d->handle, p->rnn, CUDNN_FWD_MODE_TRAINING, p->x, &p->work_bytes,
               &p->reserve_bytes);
    return OC_OK;
}

oc_status oc_cuda_dnn_plan_find(oc_backend *b, const oc_lstm_shape *s, oc_cuda_dnn_plan **out)
{
    oc_cuda_dnn *d = oc_cuda_of(b)->dnn;
    for (int i = 0; i < d->count; i++) {
        *out = &d->plan[i];
        if (memcmp(&d->plan[i].shape, s, sizeof *s) == 0) return OC_OK;
    }
    if (d->count == OC_DNN_PLANS_MAX)
        return OC_FAIL(OC_ELIMIT, "backend cuda: LSTMs of more than %d shapes for cuDNN", OC_DNN_PLANS_MAX);
    if ((int64_t)s->layers * s->batch * s->hidden > INT_MAX)
        return OC_FAIL(OC_ELIMIT, "backend cuda: %d windows of %d layers of %d hidden; cuDNN counts states in 31 bits",
                       s->batch, s->layers, s->hidden);
    oc_cuda_dnn_plan *fresh = *out = &d->plan[d->count];
    fresh->shape = *s;
    const oc_status status = plan_fill(d, fresh);
    if (status != OC_OK) {
        plan_close(d, fresh);
        return oc_status_trail(status, __FILE__, __LINE__);
    }
    d->count++;
    return OC_OK;
}

/* ---------------------------------------------------------------- where weights lie */
/* Accepted only if it is what we copy: rows x columns, one behind the other. */
static OC_MUST piece_check(oc_cuda_dnn *d, cudnnTensorDescriptor_t of, int rows, int columns)
{
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    int dims = 0, dim[3] = {0, 0, 0}, stride[3] = {0, 0, 0};
    OC_DNN_TRY(d, cudnnGetTensorNdDescriptor, of, 3, &type, &dims, dim, stride);
    if (!(dims == 3 && type == d->type && dim[0] == 1 && dim[1] == rows && dim[2] == columns && stride[2] == 1 &&
          stride[1] == columns))
        return OC_FAIL(
            OC_EFAILED,
            "backend cuda: cuDNN %s keeps a gate's weights as %d x %d (row step %d), not %d x %d; lstm: hand "
            "does without",
            d->library.version, dim[1], dim[2], stride[1], rows, columns);
    return OC_OK;
}

static OC_MUST piece_find(oc_cuda_dnn *d, oc_cuda_dnn_plan *p, const unsigned char *space, int layer, int which,
                          cudnnTensorDescriptor_t matrix, cudnnTensorDescriptor_t bias)
{
    void *at[2] = {NULL, NULL};
    const int inputs = which < OC_GATES && layer == 0 ? p->shape.inputs : p->shape.hidden;
    OC_DNN_TRY(d, cudnnGetRNNWeightParams, d->handle, p->rnn, layer, p->space_bytes, space, which, matrix, &at[0], bias,
               &at[1]);
    OC_TRY(piece_check(d, matrix, p->shape.hidden, inputs));
    OC_TRY(piece_check(d, bias, p->shape.hidden, 1));
    for (int i = 0; i < 2; i++) {
        const uintptr_t offset = (uintptr_t)at[i] - (uintptr_t)space;
        const size_t bytes = (size_t)p->shape.hidden * (size_t)(i == 0 ? inputs : 1) * d->element;
        if (!(at[i] && offset <= p->space_bytes && bytes <= p->space_bytes - offset))
            return OC_FAIL(OC_EFAILED, "backend cuda: cuDNN %s keeps weights outside of their space",
                           d->library.version);
        p->offset[layer][i][which] = offset;
    }
    return OC_OK;
}

static OC_MUST pieces_find(oc_cuda_dnn *d, oc_cuda_dnn_plan *p, const unsigned char *space,
                           cudnnTensorDescriptor_t matrix, cudnnTensorDescriptor_t bias)
{
    for (int layer = 0; layer < p->shape.layers; layer++)
        for (int which = 0; which < OC_DNN_PIECES; which++) OC_TRY(piece_find(d, p, space, layer, which, matrix, bias));
    return OC_OK;
}

oc_status oc_cuda_dnn_weights_find(oc_backend *b, oc_cuda_dnn_plan *p, const void *space)
{
    oc_cuda_dnn *d = oc_cuda_of(b)->dnn;
    cudnnTensorDescriptor_t matrix = NULL, bias = NULL;
    if (p->found) return OC_OK;
    OC_DNN_TRY(d, cudnnCreateTensorDescriptor, &matrix);
    oc_status status = oc_cuda_dnn_result(d, "cudnnCreateTensorDescriptor", d->cudnnCreateTensorDescriptor(&bias));
    if (status == OC_OK) status = pieces_find(d, p, (const unsigned char *)space, matrix, bias);
    (void)d->cudnnDestroyTensorDescriptor(matrix);
    if (bias) (void)d->cudnnDestroyTensorDescriptor(bias);
    p->found = status == OC_OK;
    return status == OC_OK ? OC_OK : oc_status_trail(status, __FILE__, __LINE__);
}
