/* test_torch.c - ten optimiser steps (class weights, label smoothing, warm-up, clipping, AdamW, several shards) give
 * the losses and gradient norms that PyTorch gives in f64: tests/golden/torch_losses.txt, made by torch_losses.py
 * beside it from what `test_train_torch --dump FOLDER` writes. Harness proven by a run without label smoothing, which
 * must differ. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/log.h"
#include "train/loop.h"
#include "train/sample_run.h"

enum { STEPS = 10, BATCH = 24 };
static const double error_max = 1e-5; /* relative; measured 2e-7 */

#define JOB                                                                                                            \
    "train.batch=24", "train.epochs=1", "train.windows_per_epoch=240", "model.dropout=0", "model.head_dropout=0",      \
        "train.class_weights=balanced", "train.rate=0.02", "train.warmup_share=0.3", "train.clip_norm=0.2",            \
        "train.weight_decay=0.1", "train.average=0", "threads=2"

static oc_comm alone = {.ranks = 1, .local = 1};

typedef struct session {
    sample_dataset *s;
    train_plan *plan;
    train_engine *engine;
    train_weights w;
    float *block;
} session;

static session session_open(const char *smoothing)
{
    session v = {.s = sample_dataset_open("/nowhere/sample.h5", 500, 5)};
    oc_config *config = sample_config(SETS(JOB, smoothing));
    if (train_plan_open(&v.plan, config, &v.s->d, &v.s->folds, 0) != OC_OK ||
        train_engine_open(&v.engine, v.plan, &alone) != OC_OK ||
        oc_memory_new_array(&v.block, v.plan->parameters.total * 5, sizeof(float), "test") != OC_OK) {
        fprintf(stderr, "%s\n", oc_status_message());
        abort();
    }
    oc_config_close(config);
    v.plan->steps_total = STEPS; /* the rate's */
    size_t total = v.plan->parameters.total;
    v.w = (train_weights){v.block, v.block + total, v.block + 2 * total, v.block + 3 * total, v.block + 4 * total};
    oc_parameters_init(&v.plan->parameters, 1, v.w.weights);
    return v;
}

static void session_close(session *v)
{
    train_engine_close(v->engine);
    train_plan_close(v->plan);
    oc_memory_free(v->block);
    sample_dataset_close(v->s);
}

static oc_status one_step(session *v, int64_t step, train_step_result *r)
{
    const train_interval now = {.position = step * BATCH, .step = step, .updates = step, .steps = 1, .windows = BATCH};
    OC_TRY(train_engine_run(v->engine, &v->w, &now, NULL, r));
    return OC_OK;
}

/* Largest relative difference from the golden losses and norms. */
static double difference(const char *smoothing)
{
    session v = session_open(smoothing);
    double worst = 0;
    FILE *golden = fopen(OC_TEST_SOURCE_DIR "/tests/golden/torch_losses.txt", "r");
    char line[128];
    assert_non_null(golden);
    assert_non_null(fgets(line, sizeof line, golden)); /* versions */
    for (int64_t step = 0; step < STEPS; step++) {
        train_step_result r;
        double loss, norm;
        assert_non_null(fgets(line, sizeof line, golden));
        char *end;
        loss = strtod(line, &end);
        norm = strtod(end, NULL);
        if (one_step(&v, step, &r) != OC_OK) fail_msg("%s", oc_status_message());
        worst = fmax(worst, fabs(r.loss_sum / r.weight_sum / loss - 1));
        worst = fmax(worst, fabs(r.norm / norm - 1));
        assert_true(r.finite && loss > 0 && norm > 0);
    }
    fclose(golden);
    session_close(&v);
    return worst;
}

static void ten_steps(void **state)
{
    (void)state;
    double good = difference("train.label_smoothing=0.1"), fault = difference("train.label_smoothing=0");
    print_message("largest relative difference %.1e; without smoothing %.1e\n", good, fault);
    assert_true(good <= error_max);
    assert_false(fault <= 100 * error_max);
}

/* --- what torch needs: first weights as a bundle, then of each step rate, windows and classes --- */

static oc_status dump(const char *folder)
{
    session v = session_open("train.label_smoothing=0.1");
    const oc_model_shape *shape = &v.plan->o.shape;
    char path[4096];
    oc_bundle *b;
    OC_TRY(oc_bundle_new(&b, shape, 0));
    snprintf(b->name, sizeof b->name, "start");
    snprintf(b->labels[0], sizeof b->labels[0], "label");
    memcpy(b->features, v.s->d.features, (size_t)shape->inputs * sizeof *b->features);
    memcpy(b->mean, v.plan->mean, (size_t)shape->inputs * sizeof *b->mean);
    memcpy(b->scale, v.plan->scale, (size_t)shape->inputs * sizeof *b->scale);
    memcpy(b->flat, v.w.weights, v.plan->parameters.total * sizeof *b->flat);
    b->clip = v.plan->o.clip;
    b->temperature[0] = 1;
    OC_TRY(oc_bundle_save(b, folder));
    oc_bundle_close(b);
    OC_TRY(oc_path_join(path, sizeof path, folder, "steps.txt"));
    FILE *out = fopen(path, "w");
    if (!out) return OC_FAIL(OC_EFAILED, "%s: cannot write", path);
    for (int c = 0; c < OC_CLASSES; c++) fprintf(out, "%.9g ", (double)v.plan->class_weight[c]);
    for (int64_t step = 0; step < STEPS; step++) {
        fprintf(out, "\n%.17g", (double)(float)train_rate(&v.plan->o, step, STEPS));
        for (int i = 0; i < BATCH; i++) {
            int64_t row = train_engine_window(v.engine, 0, step * BATCH + i);
            fprintf(out, " %d", v.s->class_[row]);
            const float *x = v.s->x + (row - shape->steps + 1) * shape->inputs;
            for (int k = 0; k < shape->steps * shape->inputs; k++) fprintf(out, " %.9g", (double)x[k]);
        }
    }
    if (fclose(out) != 0) return OC_FAIL(OC_EFAILED, "%s: cannot write", path);
    session_close(&v);
    return OC_OK;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ten_steps)};
    oc_log_set_level(OC_LOG_WARN);
    if (argc == 3 && strcmp(argv[1], "--dump") == 0) {
        if (dump(argv[2]) == OC_OK) return 0;
        fprintf(stderr, "%s\n", oc_status_message());
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
