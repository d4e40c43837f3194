/* Steps by a resident kernel (emulated; a real one under the label gpu): in every order of sessions, batches, gaps and
 * resets the bits of recordings, with one block and with two that meet, with and without attention, weights near and
 * far; beside other models that are opened meanwhile; sent away, and back; tags that go round. What must be refused. A
 * kernel that stops answering, at any word: the rows of that moment and all later ones have the same bits, said in one
 * line. Harness proven by a row that is changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/log.h"
#include "nn/model.h"
#include "nn/sample_bundle.h"

enum { SLOTS = 6, OUTPUTS_MAX = 2 * OC_CLASSES, INPUTS_MAX = 40 };
#define BOUND_NS INT64_C(60000000000) /* a busy machine that emulates */
static const oc_model_shape shapes[] = {{OC_TRUNK_LSTM, 11, 3, 2, 12, 2, 1}, {OC_TRUNK_LSTM, 4, 40, 1, 9, 3, 2},
                                        {OC_TRUNK_LSTM, 1, 5, 2, 16, 2, 1},  {OC_TRUNK_LSTM, 3, 27, 3, 22, 0, 2},
                                        {OC_TRUNK_LSTM, 3, 4, 4, 14, 1, 1},  {OC_TRUNK_LSTM, 3, 5, 1, 66, 2, 1}};

#ifdef __SANITIZE_ADDRESS__
enum { EVERY = 5 }; /* slower */
#else
enum { EVERY = 1 };
#endif

typedef struct pair { /* the same model twice: by recordings, and resident */
    oc_bundle *bundle;
    oc_model *model;
    oc_sliding *plain, *resident;
} pair;

static void open_pair(pair *p, const oc_model_shape *shape, int64_t bound_ns)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    assert_int_equal(sample_bundle(&p->bundle, shape, 1.5f, 4.0, 3), OC_OK);
    if (oc_model_open(&p->model, p->bundle, &config, 1) != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(oc_sliding_open(&p->plain, p->model, SLOTS), OC_OK);
    assert_int_equal(oc_sliding_open(&p->resident, p->model, SLOTS), OC_OK);
    if (oc_sliding_reside(p->resident, bound_ns) != OC_OK) fail_msg("%s", oc_status_message());
}

static void close_pair(pair *p)
{
    oc_sliding_close(p->resident);
    oc_sliding_close(p->plain);
    oc_model_close(p->model);
    oc_bundle_close(p->bundle);
}

static int answers_seen; /* of whole windows */

/* Round r: some slots, from another one on each time; now and then one begins anew. How many answers differ. */
static int rounds_run(pair *p, int first, int rounds, bool corrupt_one)
{
    const oc_model_shape *m = &p->bundle->shape;
    const size_t outputs = (size_t)(m->horizons * OC_CLASSES), inputs = (size_t)m->inputs;
    int differ = 0;
    for (int r = first; r < first + rounds; r++) {
        const uint32_t key = oc_random_key(21, OC_RANDOM_TEST, (uint64_t)r, 0);
        const size_t n = r % 7 == 6 ? SLOTS : 1 + (size_t)(r + r / 4) % 4; /* four at most for the kernel */
        uint32_t slots[SLOTS];
        float x[SLOTS * INPUTS_MAX], answer[2][SLOTS * OUTPUTS_MAX];
        uint8_t full[2][SLOTS];
        for (size_t i = 0; i < n; i++) slots[i] = (uint32_t)((i + (size_t)r) % SLOTS);
        for (size_t i = 0; i < n * inputs; i++) x[i] = (float)(4 * oc_random_uniform(key, i) - 2);
        if (r % 11 == 10) {
            oc_sliding_reset(p->plain, slots[0]);
            oc_sliding_reset(p->resident, slots[0]);
        }
        assert_int_equal(oc_sliding_step(p->plain, slots, x, n, answer[0], SLOTS * OUTPUTS_MAX, full[0]), OC_OK);
        for (size_t i = 0; i < n * inputs && corrupt_one && r == first + rounds / 2; i++) x[i] += 0.01f;
        assert_int_equal(oc_sliding_step(p->resident, slots, x, n, answer[1], SLOTS * OUTPUTS_MAX, full[1]), OC_OK);
        assert_int_equal(oc_sliding_advance(p->plain, slots, n), OC_OK);
        assert_int_equal(oc_sliding_advance(p->resident, slots, n), OC_OK);
        assert_memory_equal(full[0], full[1], n);
        for (size_t i = 0; i < n; i++) answers_seen += full[1][i];
        differ += memcmp(answer[0], answer[1], n * outputs * sizeof(float)) != 0;
    }
    return differ;
}

static void same_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i += EVERY) {
        pair p;
        const int rounds = shapes[i].steps > 4 ? 44 : 18;
        answers_seen = 0;
        open_pair(&p, &shapes[i], BOUND_NS);
        assert_int_equal(rounds_run(&p, 0, rounds, false), 0);
        assert_true(oc_sliding_ping(p.resident));
        assert_int_equal(rounds_run(&p, rounds, 4, false), 0);
        assert_true(answers_seen > 15);
        assert_true(oc_sliding_resides(p.resident) && !oc_sliding_resides(p.plain));
        if (rounds_run(&p, rounds + 4, 3, true) == 0) fail_msg("shape %zu: another row, the same answers", i);
        close_pair(&p);
    }
}

/* As little shared memory as it takes: attention and head from L2, a window in two pieces. */
static void little_memory(void **state)
{
    pair p;
    (void)state;
    open_pair(&p, &shapes[0], BOUND_NS);
    oc_sliding_close(p.resident);
    assert_int_equal(oc_sliding_open(&p.resident, p.model, SLOTS), OC_OK);
    for (int bytes = 2048; !oc_sliding_resides(p.resident); bytes += 512) {
        char text[16];
        snprintf(text, sizeof text, "%d", bytes);
        (void)setenv("OUTCRY_CUDA_RESIDENT_BYTES", text, 1);
        const oc_status status = oc_sliding_reside(p.resident, BOUND_NS);
        assert_true(status == OC_OK || (status == OC_ELIMIT && bytes < 16384));
    }
    (void)unsetenv("OUTCRY_CUDA_RESIDENT_BYTES");
    answers_seen = 0;
    assert_int_equal(rounds_run(&p, 0, 44, false), 0);
    assert_true(answers_seen > 15);
    close_pair(&p);
}

/* Two at once; a third model is opened and closed beside them, for which they must leave, and come back; a close while
 * nothing is asked, and one that was never asked. */
static void beside_others(void **state)
{
    pair one, two, three;
    (void)state;
    open_pair(&one, &shapes[4], BOUND_NS);
    open_pair(&two, &shapes[3], BOUND_NS);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rounds_run(&one, 6 * i, 6, false) + rounds_run(&two, 6 * i, 6, false), 0);
        if (i == 1) open_pair(&three, &shapes[1], BOUND_NS);
        if (i == 2) close_pair(&three);
    }
    assert_true(oc_sliding_resides(one.resident) && oc_sliding_resides(two.resident));
    close_pair(&one);
    assert_int_equal(rounds_run(&two, 24, 5, false), 0);
    close_pair(&two);
}

static void refused(const oc_model_shape *shape, const oc_backend_config *config, oc_status wanted, const char *words)
{
    oc_bundle *bundle;
    oc_model *model;
    oc_sliding *s;
    assert_int_equal(sample_bundle(&bundle, shape, 2.0f, 4.0, 7), OC_OK);
    assert_int_equal(oc_model_open(&model, bundle, config, 1), OC_OK);
    assert_int_equal(oc_sliding_open(&s, model, 1), OC_OK);
    assert_int_equal(oc_sliding_reside(s, BOUND_NS), wanted);
    if (!strstr(oc_status_message(), words)) fail_msg("%s", oc_status_message());
    oc_sliding_close(s);
    oc_model_close(model);
    oc_bundle_close(bundle);
}

static void what_does_not_fit(void **state)
{
    static const oc_model_shape wide = {OC_TRUNK_LSTM, 1, 4, 1, 130, 0, 1}, deep = {OC_TRUNK_LSTM, 2, 4, 5, 6, 0, 1},
                                mlp = {OC_TRUNK_MLP, 4, 5, 2, 16, 0, 1};
    const oc_backend_config cpu = {.kind = OC_BACKEND_CPU}, cuda = {.kind = OC_BACKEND_CUDA},
                            bf16 = {.kind = OC_BACKEND_CUDA, .math = OC_MATH_BF16};
    (void)state;
    refused(&shapes[0], &cpu, OC_ECONFIG, "this backend is the CPU");
    refused(&shapes[0], &bf16, OC_ECONFIG, "computes f32");
    refused(&mlp, &cuda, OC_ECONFIG, "is for an LSTM");
    refused(&deep, &cuda, OC_ELIMIT, "1 to 4 layers");
    if (getenv("OUTCRY_CUDA_MODULE") && strstr(getenv("OUTCRY_CUDA_MODULE"), "emulation")) /* of 4 multiprocessors */
        refused(&wide, &cuda, OC_ELIMIT, "0.28 MB of LSTM weights");
}

/* ---------------------------------------------------------------- a kernel that stops answering */
/* In a process of its own, as the device is lost to it. 0: as it should be. */
static int stalled_run(const char *words)
{
    pair p;
    static char text[1 << 16];
    char name[32];
    snprintf(name, sizeof name, "said.%s", words);
    const int said = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600), kept = dup(STDERR_FILENO);
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_EMULATION_STALL", words, 1);
    open_pair(&p, &shapes[4], INT64_C(3000000000));
    (void)dup2(said, STDERR_FILENO);
    const int differ = rounds_run(&p, 0, 20, false);
    const bool resides = oc_sliding_resides(p.resident);
    close_pair(&p);
    const oc_status status = oc_backend_open(&b, &config);
    (void)dup2(kept, STDERR_FILENO);
    if (pread(said, text, sizeof text - 1, 0) <= 0) return 4;
    const char *line = strstr(text, "did not answer within 3000.000 ms");
    if (differ || resides) return 1;
    if (!line || strstr(line + 1, "did not answer")) return 2;
    if (status != OC_EFAILED || !strstr(oc_status_message(), "does not end")) return 3;
    return 0;
}

/* Side by side, as each waits for five seconds that nothing shortens. */
static void silent(void **state)
{
    static const char *const words[] = {"0", "7", "20"}; /* between answers and within one */
    enum { CHILDREN = sizeof words / sizeof *words };
    pid_t children[CHILDREN];
    (void)state;
    fflush(NULL);
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) _exit(stalled_run(words[i]));
    }
    for (int i = 0; i < CHILDREN; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(little_memory),
                                       cmocka_unit_test(beside_others), cmocka_unit_test(what_does_not_fit)};
    const struct CMUnitTest emulated[] = {cmocka_unit_test(silent)};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    const bool emulation = strcmp(getenv("OUTCRY_CUDA_MODULE"), OC_TEST_MODULE) == 0;
    const int bad =
        emulation ? cmocka_run_group_tests(emulated, NULL, NULL) : 0; /* children: before anything is open */
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    return bad + cmocka_run_group_tests(tests, NULL, NULL);
}
