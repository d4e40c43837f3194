/* oracle_model.c - see the header. */
#include "nn/oracle_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include "kernels/oracle_backward.h"

typedef struct trace { /* of one pass */
    double *x, *seen;  /* [T,B,F] scaled; [B,H] what the head sees */
    oracle_lstm w, dw;
    oracle_lstm_trace lstm;
    oracle_attention attention, dattention;
    oracle_attention_trace attended;
    double *mlp[OC_LAYERS_MAX], *mlp_in[OC_LAYERS_MAX], *factor[OC_LAYERS_MAX], *head_factor;
    double *hidden, *dropped, *logits;
    double kink;
} trace;

static double *at(const oracle_model *m, double *flat, const char *module, int layer, const char *part)
{
    char name[48];
    if (layer < 0)
        snprintf(name, sizeof name, "%s%s", module, part);
    else
        snprintf(name, sizeof name, "%s%d%s", module, layer, part);
    return flat ? flat + oc_parameters_find(&m->parameters, name)->first : NULL;
}

static oracle_lstm lstm_at(const oracle_model *m, double *flat)
{
    oracle_lstm w = {0};
    for (int l = 0; l < m->shape.layers; l++) {
        w.w_ih[l] = at(m, flat, "lstm.weight_ih_l", l, "");
        w.w_hh[l] = at(m, flat, "lstm.weight_hh_l", l, "");
        w.b_ih[l] = at(m, flat, "lstm.bias_ih_l", l, "");
        w.b_hh[l] = at(m, flat, "lstm.bias_hh_l", l, "");
    }
    return w;
}

static oracle_attention attention_at(const oracle_model *m, double *flat)
{
    return (oracle_attention){
        at(m, flat, "attention.in_proj_weight", -1, ""), at(m, flat, "attention.in_proj_bias", -1, ""),
        at(m, flat, "attention.out_proj.weight", -1, ""), at(m, flat, "attention.out_proj.bias", -1, "")};
}

static double *scaled_inputs(const oracle_model *m, const oc_graph_batch *batch)
{
    const int T = m->shape.steps, B = batch->count, F = m->shape.inputs;
    const float *rows = batch->rows.data;
    double *x = oracle_take((size_t)(T * B * F));
    for (int i = 0; i < T * B; i++)
        for (int f = 0; f < F; f++) {
            const double raw = (double)rows[(batch->index[i % B] - T + 1 + i / B) * F + f];
            double z = (raw - (double)m->mean[f]) / (double)m->scale[f];
            if (m->clip > 0 && z > m->clip) z = m->clip;
            if (m->clip > 0 && z < -m->clip) z = -m->clip;
            x[i * F + f] = z;
        }
    return x;
}

/* factors [rows of time][B][columns] of dropout number `tensor`; NULL where nothing is dropped */
static double *factors(const oracle_model *m, const oc_graph_batch *batch, float p, uint32_t tensor, int times,
                       int columns)
{
    const oc_dropout d = {
        .p = p, .seed = m->rule.seed, .step = batch->step, .sample_first = batch->sample_first, .tensor = tensor};
    const int B = batch->count;
    if (!(p > 0)) return NULL;
    double *f = oracle_take((size_t)(times * B * columns));
    for (int i = 0; i < times * B; i++)
        for (int j = 0; j < columns; j++) f[i * columns + j] = oracle_dropout_factor(&d, i % B, i / B, columns, j);
    return f;
}

static double *multiplied(const double *x, const double *factor, int count)
{
    double *y = oracle_take((size_t)count);
    for (int i = 0; i < count; i++) y[i] = factor ? x[i] * factor[i] : x[i];
    return y;
}

static void watch_kinks(trace *t, const double *x, const double *w, const double *bias, int rows, int inputs,
                        int outputs)
{
    double *y = oracle_take((size_t)(rows * outputs));
    oracle_linear_forward(rows, inputs, outputs, x, w, bias, false, y);
    for (int i = 0; i < rows * outputs; i++) t->kink = fmin(t->kink, fabs(y[i]));
}

static void lstm_trunk(const oracle_model *m, double *flat, const oc_graph_batch *batch, trace *t)
{
    const oc_model_shape *s = &m->shape;
    const oc_lstm_shape l = {s->layers, batch->count, s->steps, s->inputs, s->hidden};
    const oc_attention_shape a = {batch->count, s->steps, s->hidden, s->heads};
    t->w = lstm_at(m, flat);
    for (int i = 0; i + 1 < s->layers; i++)
        t->factor[i] = factors(m, batch, m->rule.dropout, (uint32_t)i, s->steps, s->hidden);
    oracle_lstm_forward(&l, &t->w, t->x, t->factor, &t->lstm);
    double *h = t->lstm.h[s->layers - 1];
    t->seen = h + (s->steps - 1) * batch->count * s->hidden;
    if (s->heads == 0) return;
    t->attention = attention_at(m, flat);
    oracle_attend_forward(&a, &t->attention, h, &t->attended);
    t->seen = t->attended.y;
}

static void mlp_trunk(const oracle_model *m, double *flat, const oc_graph_batch *batch, trace *t)
{
    const oc_model_shape *s = &m->shape;
    const int B = batch->count;
    for (int l = 0; l < s->layers; l++) {
        const int n = l ? s->hidden : s->inputs;
        const double *w = at(m, flat, "trunk.", 2 * l, ".weight"), *bias = at(m, flat, "trunk.", 2 * l, ".bias");
        t->mlp_in[l] = l ? multiplied(t->mlp[l - 1], t->factor[l - 1], B * n) : t->x + (s->steps - 1) * B * n;
        t->mlp[l] = oracle_take((size_t)(B * s->hidden));
        watch_kinks(t, t->mlp_in[l], w, bias, B, n, s->hidden);
        oracle_linear_forward(B, n, s->hidden, t->mlp_in[l], w, bias, true, t->mlp[l]);
        if (l + 1 < s->layers) t->factor[l] = factors(m, batch, m->rule.dropout, (uint32_t)l, 1, s->hidden);
    }
    t->seen = t->mlp[s->layers - 1];
}

static void trunk_backward(const oracle_model *m, double *flat, double *gradient, int B, trace *t, double *dseen)
{
    const oc_model_shape *s = &m->shape;
    const int T = s->steps, H = s->hidden;
    if (s->trunk == OC_TRUNK_MLP) {
        for (int l = s->layers - 1; l >= 0; l--) {
            const int n = l ? H : s->inputs;
            double *below = oracle_take((size_t)(B * n));
            oracle_linear_backward(B, n, H, t->mlp_in[l], at(m, flat, "trunk.", 2 * l, ".weight"), t->mlp[l], true,
                                   dseen, below, at(m, gradient, "trunk.", 2 * l, ".weight"),
                                   at(m, gradient, "trunk.", 2 * l, ".bias"));
            dseen = multiplied(below, l ? t->factor[l - 1] : NULL, B * n);
        }
        return;
    }
    double *dh = oracle_take((size_t)(T * B * H));
    if (s->heads > 0) {
        const oc_attention_shape a = {B, T, H, s->heads};
        t->dattention = attention_at(m, gradient);
        oracle_attend_backward(&a, &t->attention, t->lstm.h[s->layers - 1], &t->attended, dseen, &t->dattention, dh);
    } else {
        memcpy(dh + (T - 1) * B * H, dseen, sizeof *dh * (size_t)(B * H));
    }
    const oc_lstm_shape l = {s->layers, B, T, s->inputs, H};
    t->dw = lstm_at(m, gradient);
    oracle_lstm_backward(&l, &t->w, &t->lstm, t->factor, dh, &t->dw, NULL);
}

double oracle_model_loss(const oracle_model *m, const double *flat, const oc_graph_batch *batch, double *logits,
                         double *gradient, double *weight_sum, double *smallest_kink)
{
    const oc_model_shape *s = &m->shape;
    const int B = batch->count, H = s->hidden, half = H / 2, outputs = OC_CLASSES * s->horizons;
    trace t = {.kink = HUGE_VAL};
    double *p = oracle_take(m->parameters.total), loss = 0, weight = 0;
    memcpy(p, flat, sizeof *p * m->parameters.total);
    t.x = scaled_inputs(m, batch);
    (s->trunk == OC_TRUNK_MLP ? mlp_trunk : lstm_trunk)(m, p, batch, &t);
    double *w0 = at(m, p, "head.0", -1, ".weight"), *b0 = at(m, p, "head.0", -1, ".bias");
    double *w3 = at(m, p, "head.3", -1, ".weight"), *b3 = at(m, p, "head.3", -1, ".bias");
    t.hidden = oracle_take((size_t)(B * half));
    t.logits = oracle_take((size_t)(B * outputs));
    watch_kinks(&t, t.seen, w0, b0, B, H, half);
    oracle_linear_forward(B, H, half, t.seen, w0, b0, true, t.hidden);
    t.head_factor = factors(m, batch, m->rule.head_dropout, OC_LAYERS_MAX, 1, half);
    t.dropped = multiplied(t.hidden, t.head_factor, B * half);
    oracle_linear_forward(B, half, outputs, t.dropped, w3, b3, false, t.logits);
    double *dlogits = oracle_take((size_t)(B * outputs));
    oracle_softmax_loss(&m->rule.loss, B, t.logits, batch->target, &loss, &weight, dlogits);
    if (logits) memcpy(logits, t.logits, sizeof *logits * (size_t)(B * outputs));
    if (weight_sum) *weight_sum = weight;
    if (smallest_kink) *smallest_kink = t.kink;
    if (!gradient) return loss;
    memset(gradient, 0, sizeof *gradient * m->parameters.total);
    double *ddropped = oracle_take((size_t)(B * half)), *dseen = oracle_take((size_t)(B * H));
    oracle_linear_backward(B, half, outputs, t.dropped, w3, NULL, false, dlogits, ddropped,
                           at(m, gradient, "head.3", -1, ".weight"), at(m, gradient, "head.3", -1, ".bias"));
    oracle_linear_backward(B, H, half, t.seen, w0, t.hidden, true, multiplied(ddropped, t.head_factor, B * half), dseen,
                           at(m, gradient, "head.0", -1, ".weight"), at(m, gradient, "head.0", -1, ".bias"));
    trunk_backward(m, p, gradient, B, &t, dseen);
    return loss;
}
