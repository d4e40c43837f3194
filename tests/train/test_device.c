/* Training where the device has memory of its own: the emulated GPU (docs/emulation.md), or a real one under the label
 * gpu. The same job as on the CPU must end at its weights but for rounding, be bit-equal to itself in other orders of
 * threads and after a stop, and fail with words where the device is too small or breaks. Harness proven by a run with
 * another seed, which must lie far from the CPU's. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "nn/bundle.h"
#include "train/loop.h"
#include "train/sample_run.h"

#ifdef __SANITIZE_ADDRESS__
enum { WHOLE_JOBS = false }; /* minutes there; each kernel has its own tests under that sanitizer */
#else
enum { WHOLE_JOBS = true };
#endif

static sample_dataset *data;

static void set_number(const char *name, int number)
{
    char text[16];
    snprintf(text, sizeof text, "%d", number);
    (void)setenv(name, text, 1);
}

static const char *folder(const char *name)
{
    static char path[4][128];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, 128, "%s/%s", root, name);
    return out;
}

/* Small enough for seconds in emulation; everything on: two layers, attention, dropout, average, clipping. */
static const char *const small[] = {"train.epochs=1", "train.windows_per_epoch=170", "train.batch=32", "window.steps=6",
                                    "model.hidden=6", "train.valid_windows=40",      "threads=2",      NULL};

static oc_status run(const char *name, bool resume, const char *backend, const char *const *more,
                     oc_train_result *result)
{
    const char *sets[16];
    size_t count = 0;
    while (small[count]) sets[count] = small[count], count++;
    sets[count++] = backend;
    for (int i = 0; i < 2; i++) sets[count++] = more[i];
    sets[count] = NULL;
    return sample_train(data, folder(name), resume, sets, result);
}

static const char *const nothing[2] = {"train.pause_after=0", "train.log_every=3"};

static oc_train_result run_ok(const char *name, bool resume, const char *backend, const char *const *more)
{
    oc_train_result result;
    if (run(name, resume, backend, more, &result) != OC_OK) fail_msg("%s: %s", name, oc_status_message());
    return result;
}

/* Largest difference of weights over the largest weight, between two runs' bundles. */
static double distance(const char *one, const char *other)
{
    char path[2][192];
    oc_bundle *b[2];
    oc_parameters p;
    double most = 0, scale = 0;
    const char *const names[2] = {one, other};
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/model", folder(names[i]));
        if (oc_bundle_load(&b[i], path[i]) != OC_OK) fail_msg("%s", oc_status_message());
    }
    oc_parameters_describe(&p, &b[0]->shape);
    for (size_t i = 0; i < p.total; i++) {
        const double d = fabs((double)b[0]->flat[i] - (double)b[1]->flat[i]), size = fabs((double)b[0]->flat[i]);
        if (!(d <= most)) most = d;
        if (!(size <= scale)) scale = size;
    }
    for (int i = 0; i < 2; i++) oc_bundle_close(b[i]);
    return most / scale;
}

static void same(oc_hash a, oc_hash b)
{
    assert_true(oc_hash_equal(a, b));
}

/* Measured in emulation: 0; another seed 1. */
static void near_the_cpu(void **state)
{
    static const char *const trunks[][2] = {{"model.trunk=lstm", "model.heads=2"},
                                            {"model.trunk=mlp", "model.heads=0"},
                                            {"model.trunk=lstm", "model.heads=0"}};
    (void)state;
    if (!WHOLE_JOBS) skip();
    for (int i = 0; i < 3; i++) {
        char name[3][32];
        for (int n = 0; n < 3; n++) snprintf(name[n], sizeof name[n], "near-%d-%d", i, n);
        const oc_train_result cpu = run_ok(name[0], false, "backend=cpu", trunks[i]);
        set_number("OUTCRY_EMULATION_SEED", 1);
        const oc_train_result one = run_ok(name[1], false, "backend=cuda", trunks[i]);
        set_number("OUTCRY_EMULATION_SEED", 2);
        const oc_train_result two = run_ok(name[2], false, "backend=cuda", trunks[i]);
        const double d = distance(name[0], name[1]);
        printf("%s, %s: %lld steps, weights differ by %.2e, loss %.9f and %.9f\n", trunks[i][0], trunks[i][1],
               (long long)one.steps, d, cpu.valid_loss, one.valid_loss);
        assert_int_equal(one.steps, cpu.steps);
        assert_true(d <= 2e-5);
        assert_true(fabs(cpu.valid_loss - one.valid_loss) <= 1e-5);
        same(one.weights, two.weights);
    }
    run_ok("other", false, "backend=cpu", (const char *const[]){"seed=77", "train.pause_after=0"});
    assert_false(distance("other", "near-0-1") <= 2e-5);
}

/* Products in bf16 and tf32: near the f32 loss, bit-equal to itself, and refused on a CPU. Measured in emulation: 2e-7,
 * 3e-7. */
static void other_products(void **state)
{
    static const char *const sets[][2] = {{"math=tf32", "train.log_every=3"}, {"math=bf16", "train.log_every=3"}};
    static const double bound[] = {1e-5, 1e-4};
    oc_train_result result;
    (void)state;
    if (!WHOLE_JOBS) skip();
    const oc_train_result plain = run_ok("plain", false, "backend=cuda", nothing);
    for (int i = 0; i < 2; i++) {
        char name[2][32];
        for (int n = 0; n < 2; n++) snprintf(name[n], sizeof name[n], "math-%d-%d", i, n);
        set_number("OUTCRY_EMULATION_SEED", 1);
        const oc_train_result one = run_ok(name[0], false, "backend=cuda", sets[i]);
        set_number("OUTCRY_EMULATION_SEED", 2);
        const oc_train_result two = run_ok(name[1], false, "backend=cuda", sets[i]);
        same(one.weights, two.weights);
        assert_false(oc_hash_equal(one.weights, plain.weights)); /* the key arrives */
        printf("%s: loss %.2e from f32\n", sets[i][0], fabs(one.valid_loss - plain.valid_loss));
        assert_true(fabs(one.valid_loss - plain.valid_loss) <= bound[i]);
    }
    assert_int_equal(run("math-cpu", false, "backend=cpu", sets[1], &result), OC_ECONFIG);
}

static bool emulated(void)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    assert_int_equal(oc_backend_open(&b, &config), OC_OK);
    const bool is = strcmp(oc_backend_describe(b)->device, "emulation") == 0;
    oc_backend_close(b);
    return is;
}

static void computed_is(const char *name, const char *wanted)
{
    char path[192];
    oc_bundle *b;
    snprintf(path, sizeof path, "%s/model", folder(name));
    if (oc_bundle_load(&b, path) != OC_OK) fail_msg("%s", oc_status_message());
    assert_string_equal(b->computed, wanted);
    oc_bundle_close(b);
}

/* A whole job by cuDNN, and one with its large products by cuBLASLt (doubles of both: kernels_cuda.cudnn, .cublaslt):
 * near ours, bit-equal to themselves, named in the bundle, and a checkpoint goes on only with who began it. Measured:
 * 3e-8. */
static void other_libraries(void **state)
{
    static const char *const set[2] = {"lstm=cudnn", "train.log_every=3"},
                             *const stop[2] = {"lstm=hand", "train.pause_after=3"},
                             *const hand[2] = {"lstm=hand", "train.pause_after=0"};
    oc_train_result result;
    (void)state;
    assert_int_equal(run("lstm-cpu", false, "backend=cpu", set, &result), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "lstm is cudnn"));
    if (!WHOLE_JOBS || !emulated()) skip();
    (void)setenv("OUTCRY_CUBLASLT", OC_TEST_CUBLASLT, 1);
    (void)setenv("OUTCRY_CUDNN", OC_TEST_CUDNN, 1);
    const oc_train_result ours = run_ok("lstm-hand", false, "backend=cuda", hand),
                          one = run_ok("lstm-1", false, "backend=cuda", set),
                          two = run_ok("lstm-2", false, "backend=cuda", set);
    same(one.weights, two.weights);
    assert_false(oc_hash_equal(one.weights, ours.weights));
    printf("lstm: cudnn: loss %.2e from ours\n", fabs(one.valid_loss - ours.valid_loss));
    assert_true(fabs(one.valid_loss - ours.valid_loss) <= 1e-5);
    computed_is("lstm-hand", "cuda, large products by hand, LSTM by hand");
    computed_is("lstm-1", "cuda, large products by hand, LSTM by cuDNN 9.0.99");
    assert_int_equal(run("lstm-parts", false, "backend=cuda", stop, &result), OC_EAGAIN);
    (void)setenv("OUTCRY_CUDA_PRODUCT", "lt", 1);
    assert_int_equal(run("lstm-parts", true, "backend=cuda", hand, &result), OC_ECONFIG);
    assert_non_null(strstr(oc_status_message(), "large products by"));
    const oc_train_result by_lt = run_ok("products-lt", false, "backend=cuda", hand);
    (void)unsetenv("OUTCRY_CUDA_PRODUCT");
    assert_true(fabs(by_lt.valid_loss - ours.valid_loss) <= 1e-5);
    computed_is("products-lt", "cuda, large products by cuBLASLt 13.0.99 always, LSTM by hand");
    same(run_ok("lstm-parts", true, "backend=cuda", hand).weights, ours.weights);
}

/* Stopped and resumed; on a resume the device breaks in mid-run: named, the checkpoint stands, and training goes on. */
static void stops_and_breaks(void **state)
{
    oc_train_result result;
    (void)state;
    if (!WHOLE_JOBS) skip();
    const oc_train_result whole = run_ok("whole", false, "backend=cuda", nothing);
    assert_int_equal(
        run("parts", false, "backend=cuda", (const char *const[]){"train.pause_after=3", "train.log_every=3"}, &result),
        OC_EAGAIN);
    (void)setenv("OUTCRY_EMULATION_FAIL", "attend_window_gradient", 1);
    const oc_status broken = run("parts", true, "backend=cuda", nothing, &result);
    (void)unsetenv("OUTCRY_EMULATION_FAIL");
    if (emulated()) {
        assert_int_equal(broken, OC_EFAILED);
        result = run_ok("parts", true, "backend=cuda", nothing);
    }
    same(result.weights, whole.weights);
    assert_int_equal(run("parts", true, "backend=cpu", nothing, &result), OC_ECONFIG);
}

static void broken_words(void **state)
{
    oc_train_result result;
    (void)state;
    (void)setenv("OUTCRY_EMULATION_FAIL", "attend_window_gradient", 1);
    const oc_status status = run("words", false, "backend=cuda", nothing, &result);
    (void)unsetenv("OUTCRY_EMULATION_FAIL");
    if (status == OC_OK) skip(); /* a real device */
    assert_int_equal(status, OC_EFAILED);
    assert_non_null(strstr(oc_status_message(), "cudaErrorIllegalAddress"));
    assert_non_null(strstr(oc_status_message(), "the last kernel started was attend_window_gradient"));
}

/* Each purpose and its bytes, whichever block it was that did not fit. */
static void too_small(void **state)
{
    oc_train_result result;
    (void)state;
    for (int bytes = 300000; bytes <= 1200000; bytes *= 2) {
        set_number("OUTCRY_EMULATION_MEMORY", bytes);
        const oc_status status = run("small", false, "backend=cuda", nothing, &result);
        (void)unsetenv("OUTCRY_EMULATION_MEMORY");
        if (status == OC_OK) break; /* or a real device */
        assert_int_equal(status, OC_EMEMORY);
        const char *const words[] = {"activations of 8 windows 0.000", "gradients 0.000", "rows of the dataset 0.00",
                                     "weights and optimiser 0.000", "a smaller train.batch"};
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (!strstr(oc_status_message(), words[i])) fail_msg("no \"%s\" in: %s", words[i], oc_status_message());
    }
}

/* A loss that is not finite: skipped and counted, then the end, with rows of the batch; no weight was touched. */
static void not_finite(void **state)
{
    const char *sets[16] = {"backend=cuda", "train.skip_max=1"};
    oc_comm comm = oc_comm_single();
    train_plan *plan;
    train_job job = {.comm = &comm, .out = root};
    float *block;
    char log_path[128];
    (void)state;
    for (size_t i = 0; small[i]; i++) sets[2 + i] = small[i];
    oc_config *config = sample_config(sets);
    assert_int_equal(train_plan_open(&plan, config, &data->d, &data->folds, 0), OC_OK);
    const size_t total = plan->parameters.total;
    assert_int_equal(oc_memory_new_array(&block, 6 * total, sizeof *block, "test"), OC_OK);
    job.plan = plan;
    job.w = (train_weights){block, block + total, block + 2 * total, block + 3 * total, block + 4 * total};
    snprintf(log_path, sizeof log_path, "%s/log.jsonl", root);
    assert_int_equal(train_log_open(&job.log, log_path), OC_OK);
    for (size_t row = 0; row < data->d.rows; row += 4) data->x[row * data->d.width] = NAN; /* one in every window */
    assert_int_equal(train_engine_open(&job.engine, plan, &comm), OC_OK);
    assert_int_equal(train_job_start(&job), OC_OK);
    memcpy(block + 5 * total, job.w.weights, total * sizeof *block);
    assert_int_equal(train_engine_put(job.engine, &job.w), OC_OK);
    assert_int_equal(train_job_loop(&job), OC_EFAILED);
    assert_non_null(
        strstr(oc_status_message(), "2 steps in a row (train.skip_max 1); the last batch's 32 windows end"));
    assert_int_equal(job.c.updates, 0);
    memset(job.w.weights, 0, total * sizeof *block);
    assert_int_equal(train_engine_get(job.engine, &job.w), OC_OK);
    assert_memory_equal(block + 5 * total, job.w.weights, total * sizeof *block);
    train_log_close(&job.log);
    train_engine_close(job.engine);
    train_plan_close(plan);
    oc_memory_free(block);
    oc_config_close(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_words),   cmocka_unit_test(too_small),       cmocka_unit_test(near_the_cpu),
        cmocka_unit_test(other_products), cmocka_unit_test(other_libraries), cmocka_unit_test(stops_and_breaks),
        cmocka_unit_test(not_finite), /* spoils the rows */
    };
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    if (root_make() != 0) return 1;
    data = sample_dataset_open("memory", 500, 3);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sample_dataset_close(data);
    return root_remove() != 0 || failed;
}
