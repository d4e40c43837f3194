/* The whole model in f32 over kernels/ against the double-precision oracle: logits, loss and every gradient; and
 * what must be equal in bits: instruction sets, the worker that a shard falls to, the batch a window is answered in.
 * Method: largest difference of a tensor over the largest gradient of that tensor. Harness: a corrupt row changes one
 * gradient by 1 % of itself and must be found. Weights are several times PyTorch's, so that windows differ. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/memory.h"
#include "base/random.h"
#include "kernels/oracle_backward.h"
#include "nn/oracle_model.h"

typedef struct graph_case {
    oc_model_shape shape;
    int batch;
    float dropout, head_dropout, smoothing, enlarge;
    double clip, error_max;
    bool corrupt_one;
} graph_case;

enum { ROWS = 200, INPUTS_MAX = 41, BATCH_MAX = 33, HORIZONS = 2 };

/* measured, worst tensor: 1.1e-6 */
static const graph_case cases[] = {
    {.shape = {OC_TRUNK_LSTM, 12, 5, 2, 16, 4, 1}, .batch = 8, .enlarge = 3, .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 7, 3, 2, 20, 5, 2},
     .batch = 5,
     .dropout = 0.3f,
     .head_dropout = 0.25f,
     .smoothing = 0.1f,
     .enlarge = 3,
     .clip = 1.5,
     .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 9, 41, 3, 33, 3, 1},
     .batch = 33,
     .dropout = 0.2f,
     .enlarge = 2,
     .clip = 8,
     .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 1, 17, 1, 64, 4, 1}, .batch = 3, .enlarge = 3, .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 30, 40, 2, 64, 0, 1},
     .batch = 17,
     .dropout = 0.2f,
     .head_dropout = 0.3f,
     .enlarge = 2,
     .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 25, 8, 1, 100, 4, 2}, .batch = 32, .smoothing = 0.05f, .enlarge = 2, .error_max = 4e-6},
    {.shape = {OC_TRUNK_MLP, 4, 11, 3, 23, 0, 2},
     .batch = 9,
     .dropout = 0.3f,
     .head_dropout = 0.5f,
     .enlarge = 2,
     .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 5, 4, 2, 9, 3, 1}, .batch = 1, .dropout = 0.5f, .enlarge = 3, .error_max = 4e-6},
    {.shape = {OC_TRUNK_LSTM, 6, 4, 2, 16, 2, 1}, .batch = 4, .enlarge = 3, .error_max = 4e-6, .corrupt_one = true},
};
enum { CASES = sizeof cases / sizeof *cases };

static float rows[ROWS * INPUTS_MAX], row_mean[INPUTS_MAX], row_scale[INPUTS_MAX];
static double mean[INPUTS_MAX], scale[INPUTS_MAX];
static int64_t window_index[BATCH_MAX];
static int32_t window_target[BATCH_MAX * HORIZONS];

static int data_make(void **state)
{
    const uint32_t key = oc_random_key(3, OC_RANDOM_TEST, 0, 0);
    (void)state;
    for (size_t i = 0; i < ROWS * INPUTS_MAX; i++) rows[i] = (float)(4 * oc_random_uniform(key, i) - 2);
    for (int f = 0; f < INPUTS_MAX; f++) {
        row_mean[f] = 0.01f * (float)f;
        row_scale[f] = 0.8f + 0.01f * (float)f;
        mean[f] = (double)row_mean[f];
        scale[f] = (double)row_scale[f];
    }
    for (uint64_t i = 0; i < BATCH_MAX; i++)
        window_index[i] = 30 + (int64_t)oc_random_below(key, 1u << 20 | i, ROWS - 30);
    for (uint64_t i = 0; i < BATCH_MAX * HORIZONS; i++)
        window_target[i] = (int32_t)oc_random_below(key, 1u << 21 | i, 4) - 1;
    window_target[0] = 1;
    return 0;
}

typedef struct model {
    oc_parameters parameters;
    oc_graph_rule rule;
    float *flat, *gradient;
    void *packed;
    oc_graph *graph;
    double loss, weight;
} model;

static oc_graph_batch batch_of(const oc_model_shape *s, int first, int count)
{
    return (oc_graph_batch){
        .rows = {.data = rows, .dims = {ROWS * INPUTS_MAX / s->inputs, s->inputs, 1, 1}, .dtype = OC_DTYPE_F32},
        .index = window_index + first,
        .target = window_target + first * s->horizons,
        .count = count,
        .step = 9,
        .sample_first = (uint64_t)(1000 + first)};
}

static void model_open(model *m, const graph_case *c, oc_isa isa)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isa};
    *m = (model){.rule = {c->dropout, c->head_dropout, {{0.7f, 1.5f, 1.0f}, c->smoothing, c->shape.horizons}, 5}};
    oc_parameters_describe(&m->parameters, &c->shape);
    const size_t bytes = m->parameters.total * sizeof(float);
    assert_int_equal(oc_memory_new(&m->flat, bytes, "flat"), OC_OK);
    assert_int_equal(oc_memory_new(&m->gradient, bytes, "gradient"), OC_OK);
    oc_parameters_init(&m->parameters, 17, m->flat);
    for (size_t i = 0; i < m->parameters.total; i++) m->flat[i] *= c->enlarge;
    assert_int_equal(oc_graph_open(&m->graph, &config, &c->shape, &m->rule, mean, scale, c->clip, BATCH_MAX, true),
                     OC_OK);
    assert_int_equal(oc_memory_new(&m->packed, oc_graph_packed_bytes(m->graph), "packed"), OC_OK);
    assert_int_equal(oc_graph_pack(m->graph, m->flat, m->packed), OC_OK);
}

static void model_close(model *m)
{
    oc_graph_close(m->graph);
    oc_memory_free(m->packed);
    oc_memory_free(m->gradient);
    oc_memory_free(m->flat);
}

static void model_train(model *m, const oc_graph_batch *batch, float *gradient)
{
    m->loss = m->weight = 0;
    assert_int_equal(oc_graph_train(m->graph, m->flat, m->packed, batch, &m->loss, &m->weight, gradient), OC_OK);
}

static double worst_gradient(const model *m, int steps, const double *expected, const char **name)
{
    double worst = 0;
    for (size_t r = 0; r < m->parameters.count; r++) {
        const oc_parameter *p = &m->parameters.row[r];
        double largest = 0, difference = 0;
        for (size_t i = p->first; i < p->first + p->count; i++) {
            const double d = fabs((double)m->gradient[i] - expected[i]);
            if (!(d <= difference)) difference = d;
            largest = fmax(largest, fabs(expected[i]));
        }
        assert_true(largest > 0 || steps == 1); /* a single step has no W_hh and no choice of step */
        const double error = difference / (largest > 0 ? largest : 1);
        if (!(error <= worst)) {
            worst = error;
            *name = p->name;
        }
    }
    return worst;
}

static void equals_oracle(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        const graph_case *c = &cases[i];
        const char *name = "";
        model m;
        model_open(&m, c, OC_ISA_BEST);
        oracle_model o = {.shape = c->shape,
                          .parameters = m.parameters,
                          .rule = m.rule,
                          .mean = row_mean,
                          .scale = row_scale,
                          .clip = c->clip};
        const oc_graph_batch batch = batch_of(&c->shape, 0, c->batch);
        double *wide = oracle_widen(m.flat, m.parameters.total), *expected = oracle_take(m.parameters.total), weight;
        const double loss = oracle_model_loss(&o, wide, &batch, NULL, expected, &weight, NULL);
        model_train(&m, &batch, m.gradient);
        if (c->corrupt_one) m.gradient[m.parameters.row[0].first] *= 1.01f;
        const double worst = worst_gradient(&m, c->shape.steps, expected, &name),
                     loss_error = fabs(m.loss - loss) / loss;
        printf("case %zu: loss %.6f off by %.1e, gradients by %.2e (%s)%s\n", i, loss, loss_error, worst, name,
               c->corrupt_one ? " corrupt" : "");
        assert_true(loss_error <= 1e-6); /* measured: 2e-7 */
        assert_true(m.weight == weight);
        assert_int_equal(worst <= c->error_max, !c->corrupt_one);
        oracle_release();
        model_close(&m);
    }
}

static void logits_equal_oracle(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        graph_case c = cases[i];
        c.dropout = c.head_dropout = 0;
        model m;
        model_open(&m, &c, OC_ISA_BEST);
        const size_t count = (size_t)(OC_CLASSES * c.shape.horizons * c.batch);
        oracle_model o = {.shape = c.shape,
                          .parameters = m.parameters,
                          .rule = m.rule,
                          .mean = row_mean,
                          .scale = row_scale,
                          .clip = c.clip};
        oc_graph_batch batch = batch_of(&c.shape, 0, c.batch);
        double *wide = oracle_widen(m.flat, m.parameters.total), *expected = oracle_take(count);
        float all[OC_CLASSES * HORIZONS * BATCH_MAX], one[OC_CLASSES * HORIZONS];
        (void)oracle_model_loss(&o, wide, &batch, expected, NULL, NULL, NULL);
        assert_int_equal(oc_graph_logits(m.graph, m.flat, m.packed, &batch, all, NULL), OC_OK);
        assert_true(oracle_error(all, expected, count) <= 2e-6); /* measured: 7e-7 */
        for (int b = 0; b < c.batch; b++) {                      /* alone: the same bits */
            const oc_graph_batch single = batch_of(&c.shape, b, 1);
            const size_t width = (size_t)(OC_CLASSES * c.shape.horizons);
            assert_int_equal(oc_graph_logits(m.graph, m.flat, m.packed, &single, one, NULL), OC_OK);
            assert_memory_equal(one, all + (size_t)b * width, width * sizeof *one);
        }
        oracle_release();
        model_close(&m);
    }
}

static void same_bits_on_every_isa(void **state)
{
    static const oc_isa isas[] = {OC_ISA_AVX2, OC_ISA_AVX512};
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        model scalar, other;
        model_open(&scalar, &cases[i], OC_ISA_SCALAR);
        const oc_graph_batch batch = batch_of(&cases[i].shape, 0, cases[i].batch);
        model_train(&scalar, &batch, scalar.gradient);
        for (size_t n = 0; n < sizeof isas / sizeof *isas; n++) {
            if (!oc_isa_available(isas[n])) {
                if (i == 0) printf("skipped: %s is not there\n", oc_isa_name(isas[n]));
                continue;
            }
            model_open(&other, &cases[i], isas[n]);
            model_train(&other, &batch, other.gradient);
            assert_memory_equal(other.gradient, scalar.gradient, scalar.parameters.total * sizeof(float));
            assert_memory_equal(&other.loss, &scalar.loss, sizeof scalar.loss);
            model_close(&other);
        }
        model_close(&scalar);
    }
}

/* 32 windows as 8 shards: whichever of three workers computes a shard, in whatever order, the summed gradient is the
 * same. */
static void same_bits_for_any_worker(void **state)
{
    enum { SHARDS = 8, EACH = 4, WORKERS = 3 };
    static const int order[2][SHARDS] = {{0, 1, 2, 3, 4, 5, 6, 7}, {6, 1, 7, 0, 3, 5, 2, 4}};
    const graph_case *c = &cases[2];
    model m[WORKERS];
    float *sums[2];
    double losses[2][SHARDS];
    (void)state;
    for (int w = 0; w < WORKERS; w++) model_open(&m[w], c, OC_ISA_BEST);
    const int64_t total = (int64_t)m[0].parameters.total;
    float *partials;
    assert_int_equal(oc_memory_new(&partials, SHARDS * (size_t)total * sizeof *partials, "partials"), OC_OK);
    for (int run = 0; run < 2; run++) {
        assert_int_equal(oc_memory_new(&sums[run], (size_t)total * sizeof(float), "sum"), OC_OK);
        for (int i = 0; i < SHARDS; i++) {
            const int shard = order[run][i];
            model *worker = &m[run == 0 ? 0 : i % WORKERS];
            const oc_graph_batch batch = batch_of(&c->shape, shard * EACH, EACH);
            model_train(worker, &batch, partials + shard * total);
            losses[run][shard] = worker->loss;
        }
        oc_backend *b = oc_graph_backend(m[0].graph);
        assert_int_equal(oc_backend_ops(b)->tree_sum(b, oc_tensor_make(partials, OC_DTYPE_F32, SHARDS, total, 1, 1),
                                                     oc_tensor_make(sums[run], OC_DTYPE_F32, total, 1, 1, 1)),
                         OC_OK);
    }
    assert_memory_equal(sums[0], sums[1], (size_t)total * sizeof(float));
    assert_memory_equal(losses[0], losses[1], sizeof losses[0]);
    for (int run = 0; run < 2; run++) oc_memory_free(sums[run]);
    for (int w = 0; w < WORKERS; w++) model_close(&m[w]);
    oc_memory_free(partials);
}

/* What backward says is final is: a copy made then equals the end. And the places that it is said of are those of
 * oc_parameters_buckets, module by module; larger buckets are unions of these. */
typedef struct watcher {
    model *m;
    float *copy;
    size_t end, said[OC_PARAMETERS_MAX], count;
} watcher;

static oc_status watched(void *context, size_t first)
{
    watcher *w = context;
    memcpy(w->copy + first, w->m->gradient + first, (w->end - first) * sizeof(float));
    w->end = w->said[w->count++] = first;
    return OC_OK;
}

static oc_status watched_in_vain(void *context, size_t first)
{
    (void)context;
    return first == 0 ? OC_FAIL(OC_EFAILED, "the watch fails") : OC_OK;
}

static void buckets_are(const oc_parameters *p, size_t least, const watcher *w)
{
    oc_parameter_range range[OC_PARAMETERS_MAX];
    size_t end = p->total, at = 0;
    const size_t count = oc_parameters_buckets(p, least, range);
    assert_true(count >= 1 && range[count - 1].first == 0);
    if (least == 0) assert_int_equal(count, w->count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(range[i].first + range[i].count, end);
        assert_true(range[i].count >= least || i == count - 1);
        end = range[i].first;
        while (at < w->count && w->said[at] != end) at++;
        assert_true(at < w->count);
    }
}

static void final_when_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        model m;
        model_open(&m, &cases[i], OC_ISA_BEST);
        const size_t total = m.parameters.total;
        watcher w = {.m = &m, .end = total};
        oc_graph_watch watch = {watched, &w};
        oc_graph_batch batch = batch_of(&cases[i].shape, 0, cases[i].batch);
        assert_int_equal(oc_memory_new(&w.copy, total * sizeof(float), "copy"), OC_OK);
        batch.watch = &watch;
        model_train(&m, &batch, m.gradient);
        assert_int_equal(w.end, 0);
        assert_int_equal(w.count, cases[i].shape.layers + 2 + (cases[i].shape.heads > 0));
        assert_memory_equal(w.copy, m.gradient, total * sizeof(float));
        for (size_t least = 0; least < 2 * total; least = 3 * least + 100) buckets_are(&m.parameters, least, &w);
        watch.final = watched_in_vain;
        for (batch.count = cases[i].batch; batch.count >= 0; batch.count -= cases[i].batch) /* also without windows */
            assert_int_equal(oc_graph_train(m.graph, m.flat, m.packed, &batch, &m.loss, &m.weight, m.gradient),
                             OC_EFAILED);
        oc_memory_free(w.copy);
        model_close(&m);
    }
}

static void nan_and_counts(void **state)
{
    model m;
    (void)state;
    model_open(&m, &cases[0], OC_ISA_BEST);
    oc_graph_batch batch = batch_of(&cases[0].shape, 0, 4);
    model_train(&m, &batch, m.gradient); /* the second call takes no memory */
    const size_t before = oc_memory_count();
    float logits[OC_CLASSES * 4];
    model_train(&m, &batch, m.gradient);
    assert_int_equal(oc_graph_pack(m.graph, m.flat, m.packed), OC_OK);
    assert_int_equal(oc_graph_logits(m.graph, m.flat, m.packed, &batch, logits, NULL), OC_OK);
    assert_int_equal(oc_memory_count(), before);
    const size_t at = (size_t)batch.index[0] * (size_t)cases[0].shape.inputs;
    const float kept = rows[at];
    rows[at] = NAN; /* one input: the loss says so */
    model_train(&m, &batch, m.gradient);
    assert_true(isnan(m.loss));
    rows[at] = kept;
    m.flat[m.parameters.row[1].first] = NAN; /* one weight */
    assert_int_equal(oc_graph_pack(m.graph, m.flat, m.packed), OC_OK);
    model_train(&m, &batch, m.gradient);
    assert_true(isnan(m.loss));
    const int32_t wrong[1] = {3};
    batch.count = 1;
    batch.target = wrong;
    assert_int_equal(oc_graph_train(m.graph, m.flat, m.packed, &batch, &m.loss, &m.weight, m.gradient), OC_EDATA);
    const int64_t beyond[1] = {3};
    batch.index = beyond; /* no whole window before row 3 */
    assert_int_equal(oc_graph_train(m.graph, m.flat, m.packed, &batch, &m.loss, &m.weight, m.gradient), OC_EDATA);
    model_close(&m);
}

static void refuses(void **state)
{
    static const struct {
        oc_model_shape shape;
        const char *says;
    } wrong[] = {
        {{OC_TRUNK_LSTM, 0, 5, 2, 16, 4, 1}, "window.steps"},    {{OC_TRUNK_LSTM, 9, 5, 9, 16, 4, 1}, "model.layers"},
        {{OC_TRUNK_LSTM, 9, 5, 2, 18, 4, 1}, "does not divide"}, {{OC_TRUNK_LSTM, 9, 5, 2, 1, 0, 1}, "model.hidden"},
        {{OC_TRUNK_MLP, 9, 5, 2, 16, 4, 1}, "model.heads"},      {{OC_TRUNK_LSTM, 9, 5, 2, 16, 4, 0}, "horizons"},
    };
    const oc_backend_config config = {.kind = OC_BACKEND_CPU};
    const oc_graph_rule rule = {.dropout = 0};
    oc_graph *g;
    size_t bytes;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(oc_graph_open(&g, &config, &wrong[i].shape, &rule, mean, scale, 0, 4, true), OC_ECONFIG);
        assert_non_null(strstr(oc_status_message(), wrong[i].says));
        assert_null(g);
    }
    const double zero[INPUTS_MAX] = {1, 1, 0, 1, 1};
    assert_int_equal(oc_graph_open(&g, &config, &cases[0].shape, &rule, mean, zero, 0, 4, true), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "scale 2"));
    assert_int_equal(oc_graph_bytes(&config, &cases[0].shape, 8, true, &bytes), OC_OK);
    assert_true(bytes > 12u * 8 * 16 * 4 * 6 * 2); /* at least gates, cells and outputs of two layers */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_oracle),
        cmocka_unit_test(logits_equal_oracle),
        cmocka_unit_test(same_bits_on_every_isa),
        cmocka_unit_test(same_bits_for_any_worker),
        cmocka_unit_test(final_when_said),
        cmocka_unit_test(nan_and_counts),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, data_make, NULL);
}
