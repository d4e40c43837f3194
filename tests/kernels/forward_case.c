/* forward_case.c - see the header. */
#include "kernels/forward_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"

static void must(oc_status status)
{
    if (status == OC_OK) return;
    fprintf(stderr, "%s\n", oc_status_message());
    abort();
}

static void *take(size_t bytes)
{
    void *block = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!block) abort();
    memset(block, 0xff, (bytes + 127) / 64 * 64); /* NaN: what is read before it is written shows */
    return block;
}

float *forward_numbers(uint64_t stream, size_t count, float size)
{
    float *x = take(count * sizeof *x);
    const uint32_t key = oc_random_key(7, OC_RANDOM_TEST, stream, 0);
    for (size_t i = 0; i < count; i++) x[i] = (float)(2.0 * oc_random_uniform(key, i) - 1.0) * size;
    return x;
}

oc_tensor forward_tensor(float *data, int64_t d0, int64_t d1, int64_t d2)
{
    return oc_tensor_make(data, OC_DTYPE_F32, d0, d1, d2, 1);
}

static oc_tensor packed_new(size_t bytes)
{
    return oc_tensor_make(take(bytes), OC_DTYPE_BYTES, (int64_t)bytes, 1, 1, 1);
}

void forward_open(forward_case *f, const forward_shape *s, oc_isa isa)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isa};
    const size_t hidden = (size_t)s->hidden;
    const float size = 2.0f / (float)(s->hidden > 16 ? 8 : 4);
    *f = (forward_case){
        .shape = *s,
        .lstm = {.layers = s->layers, .batch = s->batch, .steps = s->steps, .inputs = s->inputs, .hidden = s->hidden},
        .attention = {.batch = s->batch, .steps = s->steps, .hidden = s->hidden, .heads = s->heads}};
    must(oc_backend_open(&f->backend, &config));
    f->ops = oc_backend_ops(f->backend);
    for (int i = 0; i < s->layers; i++) {
        const size_t inputs = (size_t)(i ? s->hidden : s->inputs);
        f->weights.w_ih[i] = forward_tensor(forward_numbers(10 * (uint64_t)i + 1, 4 * hidden * inputs, size),
                                            4 * s->hidden, (int64_t)inputs, 1);
        f->weights.w_hh[i] = forward_tensor(forward_numbers(10 * (uint64_t)i + 2, 4 * hidden * hidden, size),
                                            4 * s->hidden, s->hidden, 1);
        f->weights.b_ih[i] =
            forward_tensor(forward_numbers(10 * (uint64_t)i + 3, 4 * hidden, size), 4 * s->hidden, 1, 1);
        f->weights.b_hh[i] =
            forward_tensor(forward_numbers(10 * (uint64_t)i + 4, 4 * hidden, size), 4 * s->hidden, 1, 1);
    }
    f->attention_weights = (oc_attention_weights){
        forward_tensor(forward_numbers(101, 3 * hidden * hidden, 2 * size), 3 * s->hidden, s->hidden, 1),
        forward_tensor(forward_numbers(102, 3 * hidden, size), 3 * s->hidden, 1, 1),
        forward_tensor(forward_numbers(103, hidden * hidden, size), s->hidden, s->hidden, 1),
        forward_tensor(forward_numbers(104, hidden, size), s->hidden, 1, 1)};
    f->head_w = forward_tensor(forward_numbers(105, FORWARD_HEAD * hidden, size), FORWARD_HEAD, s->hidden, 1);
    f->head_b = forward_tensor(forward_numbers(106, FORWARD_HEAD, size), FORWARD_HEAD, 1, 1);
    f->lstm_packed = packed_new(f->ops->lstm_packed_bytes(f->backend, &f->lstm));
    f->attention_packed = packed_new(f->ops->attend_packed_bytes(f->backend, &f->attention));
    f->head_packed = packed_new(f->ops->linear_packed_bytes(f->backend, FORWARD_HEAD, s->hidden));
    must(f->ops->lstm_pack(f->backend, &f->lstm, &f->weights, f->lstm_packed));
    must(f->ops->attend_pack(f->backend, &f->attention, &f->attention_weights, f->attention_packed));
    must(f->ops->linear_pack(f->backend, f->head_w, f->head_packed));
}

void forward_close(forward_case *f)
{
    for (int i = 0; i < f->shape.layers; i++) {
        free(f->weights.w_ih[i].data);
        free(f->weights.w_hh[i].data);
        free(f->weights.b_ih[i].data);
        free(f->weights.b_hh[i].data);
    }
    oc_attention_weights *a = &f->attention_weights;
    void *const blocks[] = {a->in_w.data,       a->in_b.data,   a->out_w.data,       a->out_b.data,
                            f->head_w.data,     f->head_b.data, f->lstm_packed.data, f->attention_packed.data,
                            f->head_packed.data};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) free(blocks[i]);
    oc_backend_close(f->backend);
}

void forward_run(forward_case *f, const float *x, int batch, bool training, forward_result *out)
{
    oc_lstm_shape lstm = f->lstm;
    oc_attention_shape attention = f->attention;
    const size_t rows = (size_t)batch, hidden = (size_t)lstm.hidden, steps = (size_t)lstm.steps,
                 heads = (size_t)attention.heads;
    lstm.batch = attention.batch = batch;
    *out = (forward_result){take(steps * rows * hidden * 4), take(rows * hidden * 4), take(rows * heads * steps * 4),
                            take(rows * FORWARD_HEAD * 4)};
    oc_tensor reserve = packed_new(f->ops->lstm_reserve_bytes(f->backend, &lstm, training));
    oc_tensor scratch = packed_new(f->ops->attend_reserve_bytes(f->backend, &attention));
    oc_tensor y = forward_tensor(out->y, lstm.steps, batch, lstm.hidden),
              pooled = forward_tensor(out->pooled, batch, lstm.hidden, 1);
    union {
        const float *in;
        float *out;
    } borrowed = {.in = x};
    must(f->ops->lstm_forward(f->backend, &lstm, f->lstm_packed,
                              forward_tensor(borrowed.out, lstm.steps, batch, lstm.inputs), NULL, training, y,
                              reserve));
    must(f->ops->attend_forward(f->backend, &attention, f->attention_packed, y, pooled,
                                forward_tensor(out->map, batch, attention.heads, lstm.steps), scratch));
    must(f->ops->linear_forward(f->backend, pooled, f->head_packed, f->head_b, true,
                                forward_tensor(out->head, batch, FORWARD_HEAD, 1)));
    must(oc_backend_wait(f->backend));
    free(reserve.data);
    free(scratch.data);
}

void forward_free(forward_result *r)
{
    free(r->y);
    free(r->pooled);
    free(r->map);
    free(r->head);
}
