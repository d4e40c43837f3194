/* The oracle against itself: its analytic gradient against central differences of its loss, for EVERY parameter of
 * every shape. Catches a wrong equation in the oracle, on which all other tests of training lean.
 * Method: fourth-order central differences in f64, worst difference over the largest gradient of the tensor.
 * Harness: a corrupt row multiplies one analytic gradient by 1.0001 and must be found. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/random.h"
#include "kernels/oracle_backward.h"
#include "nn/oracle_model.h"

typedef struct shape_case {
    oc_model_shape shape;
    float dropout, head_dropout, smoothing;
    double clip;
    bool corrupt_one;
} shape_case;

enum { BATCH = 3, ROWS = 40, ROW_FLOATS_MAX = ROWS * 8 };

/* measured: worst 1.2e-9 over all rows */
static const double error_max = 1e-7;

static const shape_case cases[] = {
    {.shape = {OC_TRUNK_LSTM, 5, 3, 2, 8, 2, 1}, .dropout = 0.3f, .head_dropout = 0.25f, .smoothing = 0.1f, .clip = 2},
    {.shape = {OC_TRUNK_LSTM, 4, 2, 1, 14, 1, 1}},
    {.shape = {OC_TRUNK_LSTM, 1, 5, 1, 12, 4, 2}, .smoothing = 0.2f},
    {.shape = {OC_TRUNK_LSTM, 6, 2, 3, 9, 0, 2}, .dropout = 0.5f, .clip = 1},
    {.shape = {OC_TRUNK_MLP, 3, 7, 2, 9, 0, 1}, .dropout = 0.2f, .head_dropout = 0.5f},
    {.shape = {OC_TRUNK_LSTM, 4, 2, 1, 15, 3, 1}, .corrupt_one = true},
};

static double loss_at(const oracle_model *m, double *flat, size_t i, double shift, const oc_graph_batch *batch)
{
    const double kept = flat[i];
    flat[i] = kept + shift;
    const double loss = oracle_model_loss(m, flat, batch, NULL, NULL, NULL, NULL);
    flat[i] = kept;
    oracle_release();
    return loss;
}

/* f'(x) = (8 (f(x+h) - f(x-h)) - (f(x+2h) - f(x-2h))) / 12 h; its error falls with h^4 */
static double difference_at(const oracle_model *m, double *flat, size_t i, const oc_graph_batch *batch, double h)
{
    return (8 * (loss_at(m, flat, i, h, batch) - loss_at(m, flat, i, -h, batch)) -
            (loss_at(m, flat, i, 2 * h, batch) - loss_at(m, flat, i, -2 * h, batch))) /
           (12 * h);
}

static double worst_error(const shape_case *c)
{
    static float rows[ROW_FLOATS_MAX], mean[8], scale[8];
    static const int64_t index[BATCH] = {7, 20, 39};
    static const int32_t target[BATCH * 2] = {0, 2, 1, -1, 2, 0};
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, 0, 0);
    oracle_model m = {.shape = c->shape,
                      .mean = mean,
                      .scale = scale,
                      .clip = c->clip,
                      .rule = {c->dropout, c->head_dropout, {{0.7f, 1.5f, 1.0f}, c->smoothing, c->shape.horizons}, 5}};
    oc_parameters_describe(&m.parameters, &c->shape);
    double *flat = calloc(m.parameters.total, sizeof *flat), *gradient = calloc(m.parameters.total, sizeof *gradient),
           worst = 0, kink;
    for (size_t i = 0; i < ROW_FLOATS_MAX; i++) rows[i] = (float)(4 * oc_random_uniform(key, i) - 2);
    for (size_t f = 0; f < 8; f++) mean[f] = 0.1f * (float)f, scale[f] = 0.5f + 0.1f * (float)f;
    for (size_t i = 0; i < m.parameters.total; i++) flat[i] = 1.2 * (2 * oc_random_uniform(key, 1000 + i) - 1);
    const oc_graph_batch batch = {.rows = {.data = rows, .dims = {ROWS, c->shape.inputs, 1, 1}, .dtype = OC_DTYPE_F32},
                                  .index = index,
                                  .target = target,
                                  .count = BATCH,
                                  .step = 9,
                                  .sample_first = 1000};
    (void)oracle_model_loss(&m, flat, &batch, NULL, gradient, NULL, &kink);
    oracle_release();
    assert_true(kink > 5e-3); /* else a difference would step over a ReLU's corner */
    assert_true(fabs(gradient[m.parameters.row[0].first]) >
                1e-6); /* else every ReLU of the head is dead: a vain case */
    if (c->corrupt_one) gradient[m.parameters.row[0].first] *= 1.0001;
    for (size_t r = 0; r < m.parameters.count; r++) {
        const oc_parameter *p = &m.parameters.row[r];
        double largest = 0, difference = 0;
        for (size_t i = p->first; i < p->first + p->count; i++) {
            difference = fmax(difference, fabs(gradient[i] - difference_at(&m, flat, i, &batch, 2e-4)));
            largest = fmax(largest, fabs(gradient[i]));
        }
        if (largest > 1e-9)
            worst = fmax(worst, difference / largest);
        else
            assert_true(difference < 1e-9); /* gradients that are zero by symmetry: the key bias */
    }
    free(flat);
    free(gradient);
    return worst;
}

static void every_parameter(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const double worst = worst_error(&cases[i]);
        printf("case %zu: worst %.2e%s\n", i, worst, cases[i].corrupt_one ? " (corrupt: must be over)" : "");
        assert_int_equal(worst <= error_max, !cases[i].corrupt_one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_parameter)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
