/* An interval of steps on a device (train/steps.c), in emulation or on a GPU: however many steps go together, recorded
 * or not, in any order of threads, the results and weights have the same bits; a step that is not finite changes
 * nothing wherever it stands; and within an interval the host neither waits nor copies (counted by the emulation).
 * Harness proven by another seed, whose weights must be others. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "emulation/counts.h"
#include "train/loop.h"
#include "train/sample_run.h"

enum { STEPS = 12, BATCH = 8, EPOCH_WINDOWS = 42, EPOCH_STEPS = 6 }; /* the last batch of an epoch has 2 */

#ifdef __SANITIZE_ADDRESS__
enum { FEW = true }; /* minutes there */
#else
enum { FEW = false };
#endif
enum { EACH = 500, ROWS_MAX = EACH * SAMPLE_SYMBOLS };
static sample_dataset *data;

typedef struct drive { /* what a test varies */
    const char *seed, *read_every;
    bool spoilt; /* some rows that are not numbers, after the plan was made */
} drive;

typedef struct outcome {
    train_step_result results[STEPS];
    float *weights; /* and the average */
    size_t total;
    oc_emulation_counts most; /* of an interval whose steps were recorded before */
} outcome;

static const oc_emulation_counts *counts_find(void)
{
    const char *path = getenv("OUTCRY_CUDA_MODULE");
    void *module = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    return module ? dlsym(module, OC_EMULATION_COUNTS) : NULL;
}

static void larger(uint64_t *most, uint64_t before, uint64_t now)
{
    if (now - before > *most) *most = now - before;
}

static void counts_take(oc_emulation_counts *most, const oc_emulation_counts *before, const oc_emulation_counts *now)
{
    larger(&most->waits, before->waits, now->waits);
    larger(&most->uploads, before->uploads, now->uploads);
    larger(&most->downloads, before->downloads, now->downloads);
    larger(&most->launches, before->launches, now->launches);
    larger(&most->replays, before->replays, now->replays);
    larger(&most->allocations, before->allocations, now->allocations);
}

static train_interval interval_of(const train_engine *e, int64_t step, int64_t updates)
{
    const int64_t at = step % EPOCH_STEPS;
    int steps = train_engine_steps(e);
    if (steps > EPOCH_STEPS - at) steps = (int)(EPOCH_STEPS - at);
    const int64_t end = (at + steps) * BATCH;
    return (train_interval){.epoch = step / EPOCH_STEPS,
                            .position = at * BATCH,
                            .step = step,
                            .updates = updates,
                            .steps = steps,
                            .windows = (int)((end < EPOCH_WINDOWS ? end : EPOCH_WINDOWS) - at * BATCH)};
}

static void intervals_run(train_engine *e, train_weights *w, outcome *out)
{
    const oc_emulation_counts *counts = counts_find();
    int64_t updates = 0;
    for (int step = 0; step < STEPS;) {
        const train_interval now = interval_of(e, step, updates), next = interval_of(e, step + now.steps, updates);
        oc_emulation_counts before = {.waits = 0};
        if (counts) before = *counts;
        const oc_status status = train_engine_run(e, w, &now, &next, out->results + step);
        if (status != OC_OK) fail_msg("%s", oc_status_message());
        if (counts && step >= 2 * EPOCH_STEPS - now.steps) counts_take(&out->most, &before, counts);
        for (int i = 0; i < now.steps; i++) updates += out->results[step + i].finite;
        step += now.steps;
    }
}

static outcome run(const drive *how)
{
    char seed[32], every[64];
    snprintf(seed, sizeof seed, "seed=%s", how->seed);
    snprintf(every, sizeof every, "train.read_every=%s", how->read_every);
    const char *const sets[] = {"backend=cuda",
                                "train.epochs=2",
                                "train.windows_per_epoch=42",
                                "train.batch=8",
                                "window.steps=6",
                                "model.hidden=6",
                                "model.dropout=0.3",
                                seed,
                                every,
                                NULL};
    oc_comm comm = oc_comm_single();
    train_plan *plan;
    train_engine *e;
    outcome out = {.total = 0};
    oc_config *config = sample_config(sets);
    assert_int_equal(train_plan_open(&plan, config, &data->d, &data->folds, 0), OC_OK);
    const size_t total = plan->parameters.total;
    float *block, good[ROWS_MAX];
    for (size_t row = 0; row < data->d.rows; row++) {
        float *x = &data->x[row * data->d.width];
        good[row] = *x;
        if (how->spoilt && row % 120 == 60) *x = NAN;
    }
    if (oc_memory_new_array(&block, 5 * total, sizeof *block, "test") != OC_OK) abort();
    train_weights w = {block, block + total, block + 2 * total, block + 3 * total, block + 4 * total};
    oc_parameters_init(&plan->parameters, plan->o.seed, w.weights);
    memcpy(w.average, w.weights, total * sizeof *block);
    if (train_engine_open(&e, plan, &comm) != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(train_engine_put(e, &w), OC_OK);
    intervals_run(e, &w, &out);
    assert_int_equal(train_engine_get(e, &w), OC_OK);
    memmove(block + total, w.average, total * sizeof *block);
    out.weights = block;
    out.total = 2 * total;
    for (size_t row = 0; row < data->d.rows; row++) data->x[row * data->d.width] = good[row];
    train_engine_close(e);
    train_plan_close(plan);
    oc_config_close(config);
    return out;
}

static void same(const outcome *a, const outcome *b)
{
    assert_int_equal(a->total, b->total);
    for (int i = 0; i < STEPS; i++) { /* by field: what lies between them is nobody's */
        const train_step_result *x = &a->results[i], *y = &b->results[i];
        assert_memory_equal(&x->loss_sum, &y->loss_sum, sizeof x->loss_sum);
        assert_memory_equal(&x->weight_sum, &y->weight_sum, sizeof x->weight_sum);
        assert_memory_equal(&x->norm, &y->norm, sizeof x->norm);
        assert_int_equal(x->finite, y->finite);
    }
    assert_memory_equal(a->weights, b->weights, a->total * sizeof *a->weights);
}

static void end(outcome *o)
{
    oc_memory_free(o->weights);
    o->weights = NULL;
}

static int finite_count(const outcome *o)
{
    int count = 0;
    for (int i = 0; i < STEPS; i++) count += o->results[i].finite;
    return count;
}

/* With rows that are no numbers some steps are none, in the midst of intervals. */
static void same_bits(void **state)
{
    static const char *const others[] = {"4", "7", "50"};
    (void)state;
    for (int spoilt = FEW; spoilt < 2; spoilt++) {
        outcome one = run(&(drive){"1", "1", spoilt});
        printf("%d of %d steps are finite\n", finite_count(&one), STEPS);
        assert_true(spoilt ? finite_count(&one) > 0 && finite_count(&one) < STEPS : finite_count(&one) == STEPS);
        for (size_t i = 0; i < (FEW ? 1 : sizeof others / sizeof *others); i++) {
            (void)setenv("OUTCRY_EMULATION_SEED", others[i], 1);
            outcome other = run(&(drive){"1", others[i], spoilt});
            same(&one, &other);
            end(&other);
        }
        if (FEW) {
            end(&one);
            continue;
        }
        (void)setenv("OUTCRY_CUDA_RECORD", "0", 1);
        outcome plain = run(&(drive){"1", "7", spoilt});
        (void)unsetenv("OUTCRY_CUDA_RECORD");
        same(&one, &plain);
        end(&plain);
        outcome other = run(&(drive){"2", "7", spoilt});
        assert_memory_not_equal(one.weights, other.weights, one.total * sizeof *one.weights);
        end(&other);
        end(&one);
    }
}

/* Six steps: one look at results, and one at what kernels found wrong; plans, windows, targets and the state go up. */
static void quiet(void **state)
{
    (void)state;
    if (!counts_find()) skip(); /* a GPU */
    outcome o = run(&(drive){"1", "50", false});
    assert_int_equal(o.most.waits, 1);
    assert_int_equal(o.most.downloads, 2);
    assert_int_equal(o.most.uploads, 4);
    assert_int_equal(o.most.launches, 0);
    assert_int_equal(o.most.replays, EPOCH_STEPS);
    assert_int_equal(o.most.allocations, 0);
    end(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(quiet)};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    data = sample_dataset_open("memory", EACH, 3);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sample_dataset_close(data);
    return failed;
}
