/* lstm.c - packing, forward and single step of a stacked LSTM over the cell kernel. Where things lie: lstm_layout.h.
 * Training, and a single window: layer by layer. A single window first takes all its input projections as one product
 * (a
 *   register tile over time steps instead of windows), so that the recurrence reads W_hh alone from step to step.
 * Inference of many: step by step through all layers, so that a layer's output is still in L1 or L2 when the next one
 *   reads it, and only two states per layer are kept. */
#include <assert.h>
#include <string.h>
#include "kernels/cpu/backend_cpu.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/lstm_layout.h"
#include "kernels/cpu/ops_cpu.h"

static int layer_inputs(const oc_lstm_shape *s, int layer)
{
    return layer == 0 ? s->inputs : s->hidden;
}

static OC_MUST shape_check(const oc_lstm_shape *s, const char *what)
{
    if (!(s->layers >= 1 && s->layers <= OC_LAYERS_MAX && s->steps >= 1 && s->steps <= OC_STEPS_MAX && s->inputs >= 1 &&
          s->inputs <= OC_INPUTS_MAX && s->hidden >= 1 && s->hidden <= OC_HIDDEN_MAX && s->batch >= 0))
        return OC_FAIL(OC_ELIMIT,
                       "%s: %d layers, %d steps, %d inputs, %d hidden, batch %d: a bound of kernels/ops.h is passed",
                       what, s->layers, s->steps, s->inputs, s->hidden, s->batch);
    return OC_OK;
}

size_t oc_cpu_lstm_packed_bytes(oc_backend *b, const oc_lstm_shape *s)
{
    (void)b;
    return oc_lstm_layout_make(s).packed_count * sizeof(float);
}

/* Where gate `gate` of a unit stands: columns before its block, columns of the block, and its own among them. */
typedef struct place {
    size_t before, columns, column;
} place;

static place place_of(int hidden, int unit, int gate)
{
    const size_t block = (size_t)(unit / OC_BLOCK) * OC_PANEL, at = (size_t)(unit % OC_BLOCK), g = (size_t)gate;
    const bool whole = block < oc_whole_columns(hidden);
    return (place){block, whole ? OC_PANEL : oc_tail_columns(hidden),
                   g * (whole ? OC_BLOCK : (size_t)(hidden % OC_BLOCK)) + at};
}

/* [4H][in] as PyTorch has it -> packed; `pairs`: as words of two bf16, which fill the first half of the place. */
static void pack_matrix(const float *w, int hidden, int inputs, bool pairs, float *packed)
{
    for (int unit = 0; unit < hidden; unit++)
        for (int gate = 0; gate < OC_GATES; gate++) {
            const float *row = w + ((size_t)gate * (size_t)hidden + (size_t)unit) * (size_t)inputs;
            const place p = place_of(hidden, unit, gate);
            float *to = packed + p.before * (size_t)(pairs ? (inputs + 1) / 2 : inputs) + p.column;
            for (int k = 0; k < inputs && !pairs; k++) to[(size_t)k * p.columns] = row[k];
            for (int k = 0; k < inputs && pairs; k += 2)
                to[(size_t)(k / 2) * p.columns] = oc_bf16_pair(row[k], k + 1 < inputs ? row[k + 1] : 0.0f);
        }
}

oc_status oc_cpu_lstm_pack(oc_backend *b, const oc_lstm_shape *s, const oc_lstm_weights *w, oc_tensor packed)
{
    OC_TRY(shape_check(s, "lstm_pack"));
    const oc_lstm_layout l = oc_lstm_layout_make(s);
    const size_t hidden = (size_t)s->hidden;
    const bool pairs = b->info.math == OC_MATH_BF16;
    float *base = packed.data;
    assert((size_t)oc_tensor_count(packed) * oc_dtype_bytes(packed.dtype) >= l.packed_count * sizeof(float));
    memset(base, 0, l.packed_count * sizeof(float));
    for (int i = 0; i < s->layers; i++) {
        const int inputs = layer_inputs(s, i);
        const float *b_ih = w->b_ih[i].data, *b_hh = w->b_hh[i].data;
        assert(w->w_ih[i].dims[0] == OC_GATES * s->hidden && w->w_ih[i].dims[1] == inputs &&
               w->w_hh[i].dims[1] == s->hidden);
        pack_matrix(w->w_ih[i].data, s->hidden, inputs, pairs, base + l.w_ih[i]);
        pack_matrix(w->w_hh[i].data, s->hidden, s->hidden, pairs, base + l.w_hh[i]);
        for (size_t j = 0; j < OC_GATES * hidden; j++) {
            const place p = place_of(s->hidden, (int)(j % hidden), (int)(j / hidden));
            base[l.bias[i] + p.before + p.column] = b_ih[j] + b_hh[j];
        }
        if (i > 0) memcpy(base + l.back_ih[i], w->w_ih[i].data, OC_GATES * hidden * (size_t)inputs * sizeof(float));
        memcpy(base + l.back_hh[i], w->w_hh[i].data, OC_GATES * hidden * hidden * sizeof(float));
    }
    return OC_OK;
}

/* Inference: cells and two states of every layer [B,H]; or, for a single window, its projections and a layer's output.
 * */
typedef struct scratch {
    size_t cells, states, projection, out, count;
} scratch;

static scratch scratch_make(const oc_lstm_shape *s)
{
    scratch m = {0};
    const size_t state = oc_round_up((size_t)s->batch * (size_t)s->hidden, 16), steps = (size_t)s->steps;
    m.states = m.cells + (size_t)s->layers * state;
    m.projection = m.states + 2 * (size_t)s->layers * state;
    m.out = m.projection + steps * oc_lstm_columns(s->hidden);
    m.count = m.out + oc_round_up(steps * (size_t)s->hidden, 16);
    return m;
}

size_t oc_cpu_lstm_reserve_bytes(oc_backend *b, const oc_lstm_shape *s, bool training)
{
    (void)b;
    return (training ? oc_lstm_layout_make(s).reserve_count : scratch_make(s).count) * sizeof(float);
}

oc_cell oc_lstm_cell(const oc_lstm_shape *s, const oc_lstm_layout *l, const float *packed, int layer, int rows)
{
    const size_t hidden = (size_t)s->hidden;
    return (oc_cell){.rows = rows,
                     .inputs = layer_inputs(s, layer),
                     .hidden = s->hidden,
                     .w_ih = packed + l->w_ih[layer],
                     .w_hh = packed + l->w_hh[layer],
                     .bias = packed + l->bias[layer],
                     .x_row = (size_t)layer_inputs(s, layer),
                     .h_row = hidden,
                     .c_row = hidden,
                     .c_out_row = hidden,
                     .h_out_row = hidden,
                     .gates_row = OC_GATES * hidden};
}

void oc_lstm_project(oc_backend *b, int hidden, int rows, const float *x, int count, const float *w, const float *start,
                     float *to)
{
    const oc_projection p = {.rows = rows, .count = count, .hidden = hidden, .x = x, .w = w, .start = start, .to = to};
    b->kernels->project(&p);
}

static OC_MUST forward_training(oc_backend *b, const oc_lstm_shape *s, const float *packed, const float *x,
                                const oc_dropout *dropout, float *y, float *reserve)
{
    const oc_lstm_layout l = oc_lstm_layout_make(s);
    const size_t state = (size_t)s->batch * (size_t)s->hidden;
    for (int i = 0; i < s->layers; i++) {
        const bool last = i == s->layers - 1;
        float *out = last ? y : reserve + l.out[i], *cells = reserve + l.cells[i], *gates = reserve + l.gates[i];
        const bool drop = !last && dropout && dropout->p > 0.0f;
        float *dropped = drop ? reserve + l.in[i] : NULL;
        oc_dropout d = dropout ? *dropout : (oc_dropout){0};
        d.tensor += (uint32_t)i;
        oc_cell c = oc_lstm_cell(s, &l, packed, i, s->batch);
        for (size_t t = 0; t < (size_t)s->steps; t++) {
            c.x = x + t * (size_t)s->batch * c.x_row;
            c.h = t == 0 ? NULL : out + (t - 1) * state;
            c.c = t == 0 ? NULL : cells + (t - 1) * state;
            c.c_out = cells + t * state;
            c.h_out = out + t * state;
            c.gates = gates + t * OC_GATES * state;
            b->kernels->cell(&c);
            if (!drop) continue;
            memcpy(dropped + t * state, c.h_out, state * sizeof(float));
            OC_TRY(oc_cpu_dropout_rows(b->kernels, &d, (int64_t)t * s->batch, s->batch, s->batch, s->hidden,
                                       dropped + t * state));
        }
        x = drop ? dropped : out;
    }
    return OC_OK;
}

static void forward_many(oc_backend *b, const oc_lstm_shape *s, const float *packed, const float *x, float *y,
                         float *reserve)
{
    const oc_lstm_layout l = oc_lstm_layout_make(s);
    const scratch m = scratch_make(s);
    const size_t rows = (size_t)s->batch, state = oc_round_up(rows * (size_t)s->hidden, 16),
                 plain = rows * (size_t)s->hidden;
    for (size_t t = 0; t < (size_t)s->steps; t++) {
        const float *in = x + t * rows * (size_t)s->inputs;
        for (int i = 0; i < s->layers; i++) {
            const bool last = i == s->layers - 1;
            float *two = reserve + m.states + 2 * (size_t)i * state;
            oc_cell c = oc_lstm_cell(s, &l, packed, i, s->batch);
            c.x = in;
            c.h = t == 0 ? NULL : last ? y + (t - 1) * plain : two + (t + 1) % 2 * state;
            c.h_out = last ? y + t * plain : two + t % 2 * state;
            c.c_out = reserve + m.cells + (size_t)i * state;
            c.c = t == 0 ? NULL : c.c_out;
            b->kernels->cell(&c);
            in = c.h_out;
        }
    }
}

static void forward_one(oc_backend *b, const oc_lstm_shape *s, const float *packed, const float *x, float *y,
                        float *reserve)
{
    const oc_lstm_layout l = oc_lstm_layout_make(s);
    const scratch m = scratch_make(s);
    float *xw = reserve + m.projection;
    for (int i = 0; i < s->layers; i++) {
        float *out = i == s->layers - 1 ? y : reserve + m.out;
        oc_lstm_project(b, s->hidden, s->steps, x, layer_inputs(s, i), packed + l.w_ih[i], packed + l.bias[i], xw);
        const oc_recurrence r = {.steps = s->steps,
                                 .hidden = s->hidden,
                                 .w_hh = packed + l.w_hh[i],
                                 .xw = xw,
                                 .c = reserve + m.cells,
                                 .y = out};
        b->kernels->recurrence(&r);
        x = out;
    }
}

oc_status oc_cpu_lstm_forward(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, oc_tensor x,
                              const oc_dropout *dropout, bool training, oc_tensor y, oc_tensor reserve)
{
    OC_TRY(shape_check(s, "lstm_forward"));
    assert(oc_tensor_count(x) == (int64_t)s->steps * s->batch * s->inputs);
    assert(oc_tensor_count(y) == (int64_t)s->steps * s->batch * s->hidden);
    if (s->batch == 0) return OC_OK;
    if (training) {
        if (b->info.math == OC_MATH_BF16) return OC_FAIL(OC_ECONFIG, "lstm_forward: the CPU trains in f32 alone");
        OC_TRY(forward_training(b, s, packed.data, x.data, dropout, y.data, reserve.data));
        return OC_OK;
    }
    assert(!dropout && "dropout belongs to training");
    if (s->batch == 1)
        forward_one(b, s, packed.data, x.data, y.data, reserve.data);
    else
        forward_many(b, s, packed.data, x.data, y.data, reserve.data);
    return OC_OK;
}

oc_status oc_cpu_lstm_step(oc_backend *b, const oc_lstm_shape *s, oc_tensor packed, int n, oc_tensor x, oc_tensor h,
                           oc_tensor c, oc_tensor reserve)
{
    OC_TRY(shape_check(s, "lstm_step"));
    const oc_lstm_layout l = oc_lstm_layout_make(s);
    const size_t state = (size_t)n * (size_t)s->hidden;
    float *states = h.data, *cells = c.data, *old = (float *)reserve.data + scratch_make(s).states;
    const float *in = x.data;
    assert(n >= 0 && n <= s->batch && oc_tensor_count(h) == (int64_t)s->layers * n * s->hidden);
    for (int i = 0; i < s->layers && n > 0; i++) {
        oc_cell cell = oc_lstm_cell(s, &l, packed.data, i, n);
        memcpy(old, states + (size_t)i * state, state * sizeof *old);
        cell.x = in;
        cell.h = old;
        cell.h_out = states + (size_t)i * state;
        cell.c_out = cells + (size_t)i * state;
        cell.c = cell.c_out;
        b->kernels->cell(&cell);
        in = cell.h_out;
    }
    return OC_OK;
}
