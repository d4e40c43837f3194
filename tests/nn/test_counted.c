/* How many kernels a pass, a window, a pushed row and its advance start, counted by the emulation: what the section "On
 * a GPU" of docs/performance.md rests on. Without recordings, so that each start is seen; copies and clearing are not
 * kernels. A count is a + b T: two lengths give a and b, a third must lie on the line. Held: the persistent scans start
 * nothing more where T grows, the steps' twin at most 2 a step and layer each way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "emulation/counts.h"
#include "nn/graph.h"
#include "nn/model.h"
#include "nn/sample_bundle.h"
#include "nn/store.h"

#ifdef __SANITIZE_ADDRESS__
enum { HIDDENS = 1 }; /* slower, and the kernels are tested elsewhere */
#else
enum { HIDDENS = 2 };
#endif
enum { INPUTS = 3, LAYERS = 2, BATCH = 2, LENGTHS = 3 };
static const oc_emulation_counts *counts;
typedef enum what { TRAIN, WINDOW, PUSH, ADVANCE, WHATS } what;
static const char *const names[WHATS] = {"training pass, forward and backward", "whole windows", "pushed rows",
                                         "their advance"};

static oc_model_shape shape_of(int hidden, int steps)
{
    return (oc_model_shape){OC_TRUNK_LSTM, steps, INPUTS, LAYERS, hidden, 2, 1};
}

static long train_count(const oc_backend_config *config, const oc_model_shape *s)
{
    const oc_graph_rule rule = {.dropout = 0.2f, .head_dropout = 0.3f, .loss.class_weight = {1, 1, 1}, .seed = 1};
    const double mean[INPUTS] = {0}, scale[INPUTS] = {1, 1, 1};
    const int64_t index[BATCH] = {s->steps - 1, s->steps};
    const int32_t target[BATCH] = {0, 1};
    float numbers[32 * INPUTS] = {0};
    oc_graph *g;
    oc_store store;
    oc_parameters p;
    float *flat, *gradient, *rows;
    double *sums;
    void *packed;
    oc_parameters_describe(&p, s);
    assert_int_equal(oc_graph_open(&g, config, s, &rule, mean, scale, 8, BATCH, true), OC_OK);
    const size_t bytes = oc_graph_packed_bytes(g);
    assert_int_equal(oc_store_open(&store, oc_backend_describe(oc_graph_backend(g)),
                                   2 * oc_store_bytes(p.total, 4) + oc_store_bytes(32 * INPUTS, 4) +
                                       oc_store_bytes(2, 8) + oc_store_bytes(bytes, 1)),
                     OC_OK);
    assert_int_equal(oc_store_take(&store, &flat, p.total, 4, "weights"), OC_OK);
    assert_int_equal(oc_store_take(&store, &gradient, p.total, 4, "gradient"), OC_OK);
    assert_int_equal(oc_store_take(&store, &rows, 32 * INPUTS, 4, "rows"), OC_OK);
    assert_int_equal(oc_store_take(&store, &sums, 2, 8, "sums"), OC_OK);
    assert_int_equal(oc_store_take(&store, &packed, bytes, 1, "packed"), OC_OK);
    assert_int_equal(oc_store_put(&store, rows, numbers, sizeof numbers), OC_OK);
    assert_int_equal(oc_graph_pack(g, flat, packed), OC_OK);
    const oc_graph_batch batch = {
        .rows = oc_tensor_make(rows, OC_DTYPE_F32, 32, INPUTS, 1, 1), .index = index, .target = target, .count = BATCH};
    const uint64_t before = counts->launches;
    if (oc_graph_train(g, flat, packed, &batch, sums, sums + 1, gradient) != OC_OK) fail_msg("%s", oc_status_message());
    const long count = (long)(counts->launches - before);
    oc_graph_close(g);
    oc_store_close(&store);
    return count;
}

static void infer_count(const oc_backend_config *config, const oc_model_shape *s, long *out)
{
    float x[32 * INPUTS] = {0}, answer[BATCH * OC_CLASSES];
    const uint32_t slots[BATCH] = {0, 1};
    uint8_t full[BATCH];
    uint64_t before;
    oc_bundle *bundle;
    oc_model *m;
    oc_sliding *sliding;
    assert_int_equal(sample_bundle(&bundle, s, 1.0f, 4.0, 7), OC_OK);
    assert_int_equal(oc_model_open(&m, bundle, config, BATCH), OC_OK);
    assert_int_equal(oc_sliding_open(&sliding, m, BATCH), OC_OK);
    before = counts->launches;
    assert_int_equal(oc_model_predict(m, x, BATCH, answer, BATCH * OC_CLASSES), OC_OK);
    out[WINDOW] = (long)(counts->launches - before);
    before = counts->launches;
    assert_int_equal(oc_sliding_step(sliding, slots, x, BATCH, answer, BATCH * OC_CLASSES, full), OC_OK);
    out[PUSH] = (long)(counts->launches - before);
    before = counts->launches;
    assert_int_equal(oc_sliding_advance(sliding, slots, BATCH), OC_OK);
    out[ADVANCE] = (long)(counts->launches - before);
    oc_sliding_close(sliding);
    oc_model_close(m);
    oc_bundle_close(bundle);
}

static void counted(void **state)
{
    static const int hidden[] = {16, 136}; /* up to 128, and over */
    static const int lengths[LENGTHS] = {2, 3, 4};
    (void)state;
    if (!counts) skip(); /* a real device */
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math += OC_MATH_BF16)
        for (size_t h = 0; h < HIDDENS; h++) {
            const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .math = (oc_math)math};
            long count[LENGTHS][WHATS];
            for (int i = 0; i < LENGTHS; i++) {
                const oc_model_shape s = shape_of(hidden[h], lengths[i]);
                count[i][TRAIN] = train_count(&config, &s);
                infer_count(&config, &s, count[i]);
            }
            for (int w = 0; w < WHATS; w++) {
                const long each = count[1][w] - count[0][w], fixed = count[0][w] - each * lengths[0];
                printf("%s, H %s 128, %s: %ld + %ld T kernels\n", math ? "bf16" : "f32", h ? "over" : "up to", names[w],
                       fixed, each);
                assert_int_equal(count[2][w], fixed + each * lengths[2]);
                assert_true(each <= (w > WINDOW ? 0 : w == TRAIN ? 4 * LAYERS : 2 * LAYERS));
                if (math && h == 0) assert_int_equal(each, 0);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counted)};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    (void)setenv("OUTCRY_CUDA_RECORD", "0", 1);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    void *module = dlopen(getenv("OUTCRY_CUDA_MODULE"), RTLD_NOW | RTLD_NOLOAD);
    counts = module ? dlsym(module, OC_EMULATION_COUNTS) : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
