/* oracle_backward.c - see the header. Slow on purpose: each line is an equation. */
#include "kernels/oracle_backward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"

enum { POOL_MAX = 1 << 16 };
static void *pool[POOL_MAX];
static size_t pool_count;

double *oracle_take(size_t count)
{
    double *block = calloc(count ? count : 1, sizeof *block);
    if (!block || pool_count == POOL_MAX) abort();
    pool[pool_count++] = block;
    return block;
}

double *oracle_widen(const float *x, size_t count)
{
    double *wide = oracle_take(count);
    for (size_t i = 0; i < count; i++) wide[i] = (double)x[i];
    return wide;
}

void oracle_release(void)
{
    while (pool_count > 0) free(pool[--pool_count]);
}

double oracle_error(const float *a, const double *b, size_t count)
{
    double difference = 0, scale = 0;
    for (size_t i = 0; i < count; i++) {
        const double d = fabs((double)a[i] - b[i]);
        if (!(d <= difference)) difference = d;
        if (!(fabs(b[i]) <= scale)) scale = fabs(b[i]);
        if (isnan(difference) || isnan(scale)) return (double)NAN;
    }
    return difference > 0 ? difference / scale : 0;
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* ---------------------------------------------------------------- LSTM [Hochreiter97], gate order i, f, g, o */
void oracle_lstm_forward(const oc_lstm_shape *s, const oracle_lstm *w, const double *x, double *const *factor,
                         oracle_lstm_trace *t)
{
    const int T = s->steps, B = s->batch, H = s->hidden;
    for (int l = 0; l < s->layers; l++) {
        const int n = l ? H : s->inputs;
        t->in[l] = oracle_take((size_t)T * (size_t)B * (size_t)n);
        t->gate[l] = oracle_take((size_t)T * (size_t)B * (size_t)(4 * H));
        t->cell[l] = oracle_take((size_t)T * (size_t)B * (size_t)H);
        t->h[l] = oracle_take((size_t)T * (size_t)B * (size_t)H);
        for (int i = 0; i < T * B * n; i++)
            t->in[l][i] = l == 0 ? x[i] : t->h[l - 1][i] * (factor && factor[l - 1] ? factor[l - 1][i] : 1.0);
        for (int i = 0; i < T * B; i++) { /* i = step * B + window: the step before is i - B */
            double *gate = t->gate[l] + (size_t)i * (size_t)(4 * H);
            for (int r = 0; r < 4 * H; r++) {
                double sum = w->b_ih[l][r] + w->b_hh[l][r];
                for (int k = 0; k < n; k++) sum += w->w_ih[l][r * n + k] * t->in[l][i * n + k];
                for (int k = 0; k < H && i >= B; k++) sum += w->w_hh[l][r * H + k] * t->h[l][(i - B) * H + k];
                gate[r] = r / H == OC_GATE_G ? tanh(sum) : logistic(sum);
            }
            for (int j = 0; j < H; j++) {
                const double before = i >= B ? t->cell[l][(i - B) * H + j] : 0;
                t->cell[l][i * H + j] =
                    gate[OC_GATE_F * H + j] * before + gate[OC_GATE_I * H + j] * gate[OC_GATE_G * H + j];
                t->h[l][i * H + j] = gate[OC_GATE_O * H + j] * tanh(t->cell[l][i * H + j]);
            }
        }
    }
}

/* Gradient of one layer's pre-activations at (t, b) = i from dh, dc; dc becomes the one of the step before. */
static void gates_backward(const oc_lstm_shape *s, const oracle_lstm_trace *t, int l, int i, const double *dh,
                           double *dc, double *da)
{
    const int H = s->hidden, B = s->batch;
    const double *gate = t->gate[l] + (size_t)i * (size_t)(4 * H);
    for (int j = 0; j < H; j++) {
        const double in = gate[j], forget = gate[H + j], g = gate[2 * H + j], o = gate[3 * H + j];
        const double squashed = tanh(t->cell[l][i * H + j]), before = i >= B ? t->cell[l][(i - B) * H + j] : 0;
        const double d = dc[j] + dh[j] * o * (1 - squashed * squashed);
        da[j] = d * g * in * (1 - in);
        da[H + j] = d * before * forget * (1 - forget);
        da[2 * H + j] = d * in * (1 - g * g);
        da[3 * H + j] = dh[j] * squashed * o * (1 - o);
        dc[j] = d * forget;
    }
}

static void add_outer(double *m, const double *a, int rows, const double *b, int columns)
{
    for (int r = 0; m && r < rows; r++)
        for (int k = 0; k < columns; k++) m[r * columns + k] += a[r] * b[k];
}

static void add_vector(double *to, const double *a, int count)
{
    for (int r = 0; to && r < count; r++) to[r] += a[r];
}

void oracle_lstm_backward(const oc_lstm_shape *s, const oracle_lstm *w, const oracle_lstm_trace *t,
                          double *const *factor, const double *dy, const oracle_lstm *dw, double *dx)
{
    const int T = s->steps, B = s->batch, H = s->hidden;
    const double *above = dy;
    for (int l = s->layers - 1; l >= 0; l--) {
        const int n = l ? H : s->inputs;
        double *below = oracle_take((size_t)T * (size_t)B * (size_t)n), *dc = oracle_take((size_t)B * (size_t)H);
        double *dh_next = oracle_take((size_t)B * (size_t)H), *dh = oracle_take((size_t)H),
               *da = oracle_take((size_t)(4 * H));
        for (int i = T * B - 1; i >= 0; i--) {
            const int b = i % B;
            for (int j = 0; j < H; j++) dh[j] = above[i * H + j] + dh_next[b * H + j];
            gates_backward(s, t, l, i, dh, dc + b * H, da);
            add_outer(dw->w_ih[l], da, 4 * H, t->in[l] + i * n, n);
            if (i >= B) add_outer(dw->w_hh[l], da, 4 * H, t->h[l] + (i - B) * H, H);
            add_vector(dw->b_ih[l], da, 4 * H);
            add_vector(dw->b_hh[l], da, 4 * H);
            for (int j = 0; j < H; j++) {
                double sum = 0;
                for (int r = 0; r < 4 * H; r++) sum += da[r] * w->w_hh[l][r * H + j];
                dh_next[b * H + j] = sum;
            }
            for (int k = 0; k < n; k++) {
                double sum = 0;
                for (int r = 0; r < 4 * H; r++) sum += da[r] * w->w_ih[l][r * n + k];
                below[i * n + k] = sum * (l > 0 && factor && factor[l - 1] ? factor[l - 1][i * n + k] : 1.0);
            }
        }
        above = below;
    }
    if (dx) memcpy(dx, above, sizeof *dx * (size_t)(T * B * s->inputs));
}

/* ---------------------------------------------------------------- attention [Vaswani17 eq.1], the last query only */
void oracle_attend_forward(const oc_attention_shape *s, const oracle_attention *w, const double *h,
                           oracle_attention_trace *t)
{
    const int T = s->steps, B = s->batch, H = s->hidden, N = s->heads, D = H / N;
    const double scale = 1 / sqrt((double)D);
    t->q = oracle_take((size_t)(B * H));
    t->k = oracle_take((size_t)(T * B * H));
    t->v = oracle_take((size_t)(T * B * H));
    t->map = oracle_take((size_t)(B * N * T));
    t->pooled = oracle_take((size_t)(B * H));
    t->y = oracle_take((size_t)(B * H));
    oracle_linear_forward(B, H, H, h + (T - 1) * B * H, w->in_w, w->in_b, false, t->q);
    oracle_linear_forward(T * B, H, H, h, w->in_w + H * H, w->in_b + H, false, t->k);
    oracle_linear_forward(T * B, H, H, h, w->in_w + 2 * H * H, w->in_b + 2 * H, false, t->v);
    for (int b = 0; b < B; b++) {
        for (int n = 0; n < N; n++) {
            double *map = t->map + (b * N + n) * T, largest = -HUGE_VAL, sum = 0;
            for (int i = 0; i < T; i++) {
                for (int j = n * D; j < (n + 1) * D; j++) map[i] += scale * t->q[b * H + j] * t->k[(i * B + b) * H + j];
                largest = fmax(largest, map[i]);
            }
            for (int i = 0; i < T; i++) sum += map[i] = exp(map[i] - largest);
            for (int i = 0; i < T; i++) {
                map[i] /= sum;
                for (int j = n * D; j < (n + 1) * D; j++) t->pooled[b * H + j] += map[i] * t->v[(i * B + b) * H + j];
            }
        }
    }
    oracle_linear_forward(B, H, H, t->pooled, w->out_w, w->out_b, false, t->y);
}

void oracle_attend_backward(const oc_attention_shape *s, const oracle_attention *w, const double *h,
                            const oracle_attention_trace *t, const double *dy, const oracle_attention *dw, double *dh)
{
    const int T = s->steps, B = s->batch, H = s->hidden, N = s->heads, D = H / N;
    const double scale = 1 / sqrt((double)D);
    double *dpooled = oracle_take((size_t)(B * H)), *dq = oracle_take((size_t)(B * H)),
           *dlast = oracle_take((size_t)(B * H));
    double *dk = oracle_take((size_t)(T * B * H)), *dv = oracle_take((size_t)(T * B * H)),
           *dmap = oracle_take((size_t)T);
    double *from_k = oracle_take((size_t)(T * B * H)), *from_v = oracle_take((size_t)(T * B * H));
    oracle_linear_backward(B, H, H, t->pooled, w->out_w, NULL, false, dy, dpooled, dw->out_w, dw->out_b);
    for (int b = 0; b < B; b++) {
        for (int n = 0; n < N; n++) {
            const double *map = t->map + (b * N + n) * T;
            double mean = 0;
            for (int i = 0; i < T; i++) {
                dmap[i] = 0;
                for (int j = n * D; j < (n + 1) * D; j++) {
                    dv[(i * B + b) * H + j] = map[i] * dpooled[b * H + j];
                    dmap[i] += dpooled[b * H + j] * t->v[(i * B + b) * H + j];
                }
                mean += map[i] * dmap[i];
            }
            for (int i = 0; i < T; i++) {
                const double dscore = map[i] * (dmap[i] - mean) * scale;
                for (int j = n * D; j < (n + 1) * D; j++) {
                    dk[(i * B + b) * H + j] = dscore * t->q[b * H + j];
                    dq[b * H + j] += dscore * t->k[(i * B + b) * H + j];
                }
            }
        }
    }
    oracle_linear_backward(B, H, H, h + (T - 1) * B * H, w->in_w, NULL, false, dq, dlast, dw->in_w, dw->in_b);
    oracle_linear_backward(T * B, H, H, h, w->in_w + H * H, NULL, false, dk, from_k, dw->in_w + H * H, dw->in_b + H);
    oracle_linear_backward(T * B, H, H, h, w->in_w + 2 * H * H, NULL, false, dv, from_v, dw->in_w + 2 * H * H,
                           dw->in_b + 2 * H);
    for (int i = 0; i < T * B * H; i++) dh[i] = from_k[i] + from_v[i];
    for (int i = 0; i < B * H; i++) dh[(T - 1) * B * H + i] += dlast[i];
}

/* ---------------------------------------------------------------- linear, dropout, loss */
void oracle_linear_forward(int rows, int inputs, int outputs, const double *x, const double *w, const double *bias,
                           bool relu, double *y)
{
    for (int i = 0; i < rows; i++) {
        for (int n = 0; n < outputs; n++) {
            double sum = bias[n];
            for (int k = 0; k < inputs; k++) sum += x[i * inputs + k] * w[n * inputs + k];
            y[i * outputs + n] = relu && sum < 0 ? 0 : sum;
        }
    }
}

void oracle_linear_backward(int rows, int inputs, int outputs, const double *x, const double *w, const double *y,
                            bool relu, const double *dy, double *dx, double *dw, double *dbias)
{
    memset(dw, 0, sizeof *dw * (size_t)(outputs * inputs));
    memset(dbias, 0, sizeof *dbias * (size_t)outputs);
    if (dx) memset(dx, 0, sizeof *dx * (size_t)(rows * inputs));
    for (int i = 0; i < rows; i++) {
        for (int n = 0; n < outputs; n++) {
            const double d = relu && y[i * outputs + n] <= 0 ? 0 : dy[i * outputs + n];
            dbias[n] += d;
            for (int k = 0; k < inputs; k++) {
                dw[n * inputs + k] += d * x[i * inputs + k];
                if (dx) dx[i * inputs + k] += d * w[n * inputs + k];
            }
        }
    }
}

double oracle_dropout_factor(const oc_dropout *d, int64_t b, int64_t row, int64_t columns, int64_t j)
{
    const uint64_t groups = (uint64_t)(columns + 3) / 4;
    const uint64_t counter = (d->sample_first + (uint64_t)b) << 22 | ((uint64_t)row * groups + (uint64_t)j / 4);
    const uint64_t draws = oc_random_philox(oc_random_key(d->seed, OC_RANDOM_DROPOUT, d->step, d->tensor), counter);
    const double number = (double)(draws >> 16 * (j % 4) & 0xFFFF) / 65536.0;
    return number >= (double)d->p ? 1 / (1 - (double)d->p) : 0;
}

void oracle_softmax_loss(const oc_loss_rule *rule, int batch, const double *logits, const int32_t *target,
                         double *loss_sum, double *weight_sum, double *dlogits)
{
    const double e = (double)rule->label_smoothing;
    for (int i = 0; i < batch * rule->horizons; i++) {
        const double *z = logits + OC_CLASSES * i;
        double sum = 0, share[OC_CLASSES], wish[OC_CLASSES], all = 0;
        for (int c = 0; c < OC_CLASSES; c++) dlogits[OC_CLASSES * i + c] = 0;
        if (target[i] < 0) continue;
        for (int c = 0; c < OC_CLASSES; c++) sum += exp(z[c]);
        for (int c = 0; c < OC_CLASSES; c++) {
            wish[c] = (double)rule->class_weight[c] * ((c == target[i] ? 1 - e : 0) + e / OC_CLASSES);
            share[c] = exp(z[c]) / sum;
            all += wish[c];
            *loss_sum -= wish[c] * log(share[c]);
        }
        for (int c = 0; c < OC_CLASSES; c++) dlogits[OC_CLASSES * i + c] = all * share[c] - wish[c];
        *weight_sum += (double)rule->class_weight[target[i]];
    }
}
