/* Inference by recordings (CUDA graphs; emulated here, real under the label gpu): the bits of an answer for every
 * number of windows and of slots, whatever it was filled up with, are those of one alone and of calls that are not
 * recorded; and what a call asks of the device: one replay, one wait, no copy or launch by the host, no memory. Harness
 * proven by a row that is changed, and by a backend that does not record. */
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
#include "nn/model.h"
#include "nn/sample_bundle.h"

enum { STEPS = 3, INPUTS = 4, WINDOWS = 300, FEW = 20, ROWS = WINDOWS + STEPS - 1, OUTPUTS = OC_CLASSES, SLOTS = 9 };
#ifdef __SANITIZE_ADDRESS__
enum { MOST = FEW }; /* slower */
#else
enum { MOST = WINDOWS }; /* more than are recorded */
#endif
static const oc_model_shape shape = {OC_TRUNK_LSTM, STEPS, INPUTS, 2, 6, 2, 1};

typedef struct opened {
    oc_bundle *bundle;
    oc_model *model;
    float rows[ROWS * INPUTS], alone[WINDOWS * OUTPUTS]; /* alone: each window by a call of its own */
    int64_t last[WINDOWS];
} opened;

static void numbers_make(opened *o)
{
    const uint32_t key = oc_random_key(12, OC_RANDOM_TEST, 1, 0);
    for (size_t i = 0; i < ROWS * INPUTS; i++) o->rows[i] = (float)(4 * oc_random_uniform(key, i) - 2);
    for (int64_t i = 0; i < WINDOWS; i++) o->last[i] = i + STEPS - 1;
}

/* Until it is closed the environment stays: sliding windows open a backend too. */
static opened *open_some(oc_math math, bool records, int batch)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA, .math = math};
    opened *o = calloc(1, sizeof *o);
    assert_non_null(o);
    numbers_make(o);
    (void)setenv("OUTCRY_CUDA_RECORD", records ? "1" : "0", 1);
    assert_int_equal(sample_bundle(&o->bundle, &shape, 3.0f, 4.0, 7), OC_OK);
    if (oc_model_open(&o->model, o->bundle, &config, batch) != OC_OK) fail_msg("%s", oc_status_message());
    assert_int_equal(oc_model_backend(o->model)->records, records);
    return o;
}

static void close_some(opened *o)
{
    (void)unsetenv("OUTCRY_CUDA_RECORD");
    oc_model_close(o->model);
    oc_bundle_close(o->bundle);
    free(o);
}

static void predict(opened *o, size_t first, size_t count, float *to)
{
    assert_int_equal(oc_model_predict_rows(o->model, o->rows, ROWS, o->last + first, count, to, count * OUTPUTS),
                     OC_OK);
}

/* ---------------------------------------------------------------- any number of windows */
static void any_number(void **state)
{
    static const size_t counts[] = {2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 65, 257, 300};
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++) {
        static float got[WINDOWS * OUTPUTS];
        const size_t all = math == OC_MATH_F32 ? MOST : FEW;
        opened *o = open_some((oc_math)math, true, (int)all);
        for (size_t i = 0; i < all; i++) predict(o, i, 1, o->alone + i * OUTPUTS);
        for (size_t n = 0; n < sizeof counts / sizeof *counts && counts[n] <= all; n++) {
            const size_t count = counts[n], first = (all - count) / 2;
            memset(got, 0, sizeof got);
            predict(o, first, count, got);
            assert_memory_equal(got, o->alone + first * OUTPUTS, count * OUTPUTS * sizeof *got);
        }
        assert_memory_not_equal(o->alone, o->alone + OUTPUTS, OUTPUTS * sizeof *got); /* the harness sees another */
        opened *plain = open_some((oc_math)math, false, (int)all);
        predict(plain, 0, all, got);
        assert_memory_equal(got, o->alone, all * OUTPUTS * sizeof *got);
        close_some(plain);
        close_some(o);
    }
}

/* ---------------------------------------------------------------- any number of slots */
/* Slot i is i rows behind; in round r the first r % SLOTS + 1 that can, from another one on each time. */
static int slots_differ(opened *o, bool corrupt_one)
{
    oc_sliding *s;
    int64_t at[SLOTS] = {0};
    int compared = 0, differ = 0;
    assert_int_equal(oc_sliding_open(&s, o->model, SLOTS), OC_OK);
    for (int round = 0; round < 4 * SLOTS; round++) {
        uint32_t slots[SLOTS];
        float x[SLOTS * INPUTS], answer[SLOTS * OUTPUTS];
        uint8_t full[SLOTS];
        const size_t n = (size_t)(round % SLOTS) + 1;
        for (size_t i = 0; i < n; i++) {
            slots[i] = (uint32_t)((i * 2 + (size_t)round) % SLOTS);
            memcpy(x + i * INPUTS, o->rows + at[slots[i]] * INPUTS, INPUTS * sizeof *x);
        }
        for (int k = 0; k < INPUTS && corrupt_one && round == 17; k++) x[k] += 0.01f;
        assert_int_equal(oc_sliding_step(s, slots, x, n, answer, SLOTS * OUTPUTS, full), OC_OK);
        assert_int_equal(oc_sliding_advance(s, slots, n), OC_OK);
        for (size_t i = 0; i < n; i++) {
            const int64_t window = at[slots[i]]++ - (STEPS - 1);
            assert_int_equal(full[i], window >= 0);
            if (window < 0) continue;
            compared++;
            differ += memcmp(answer + i * OUTPUTS, o->alone + window * OUTPUTS, OUTPUTS * sizeof *answer) != 0;
        }
    }
    assert_true(compared > 3 * SLOTS);
    oc_sliding_close(s);
    return differ;
}

static void any_slots(void **state)
{
    (void)state;
    for (int math = OC_MATH_F32; math <= OC_MATH_BF16; math++)
        for (int records = 0; records < 2; records++) {
            opened *o = open_some((oc_math)math, records, 1);
            for (size_t i = 0; i < 5 * SLOTS; i++) predict(o, i, 1, o->alone + i * OUTPUTS);
            assert_int_equal(slots_differ(o, false), 0);
            if (records) assert_int_not_equal(slots_differ(o, true), 0);
            close_some(o);
        }
}

/* ---------------------------------------------------------------- what a call asks of the device */
static const oc_emulation_counts *counts_find(void)
{
    void *module = dlopen(getenv("OUTCRY_CUDA_MODULE"), RTLD_NOW | RTLD_NOLOAD);
    const oc_emulation_counts *counts = module ? dlsym(module, OC_EMULATION_COUNTS) : NULL;
    if (module) (void)dlclose(module);
    return counts;
}

/* calls answers: of windows, of slots, of their advances. */
static oc_emulation_counts asked(opened *o, oc_sliding *s, const oc_emulation_counts *counts, int what)
{
    const oc_emulation_counts before = *counts;
    const size_t memory = oc_memory_count();
    const uint32_t slots[3] = {4, 0, 7};
    float answer[5 * OUTPUTS];
    uint8_t full[3];
    if (what == 0) predict(o, 0, 5, answer);
    if (what == 1) assert_int_equal(oc_sliding_step(s, slots, o->rows, 3, answer, 3 * OUTPUTS, full), OC_OK);
    if (what == 2) assert_int_equal(oc_sliding_advance(s, slots, 3), OC_OK);
    assert_int_equal(oc_memory_count(), memory);
    return (oc_emulation_counts){counts->waits - before.waits,
                                 counts->uploads - before.uploads,
                                 counts->downloads - before.downloads,
                                 counts->launches - before.launches,
                                 counts->replays - before.replays,
                                 counts->upload_bytes - before.upload_bytes,
                                 counts->allocations - before.allocations};
}

static void hot_path(void **state)
{
    const oc_emulation_counts *counts = counts_find();
    (void)state;
    if (!counts) skip(); /* a real device */
    for (int records = 0; records < 2; records++) {
        opened *o = open_some(OC_MATH_F32, records, 16);
        oc_sliding *s;
        assert_int_equal(oc_sliding_open(&s, o->model, SLOTS), OC_OK);
        for (int round = 0; round < 3; round++)
            for (int what = 0; what < 3; what++) {
                const oc_emulation_counts a = asked(o, s, counts, what);
                assert_int_equal(a.allocations, 0);
                assert_int_equal(a.waits, 1);
                assert_int_equal(a.replays, records);
                assert_int_equal(a.launches == 0, records);
                assert_int_equal(a.uploads == 0, records);
                assert_true(!records || a.downloads == 1); /* of faults, by the wait */
            }
        oc_sliding_close(s);
        close_some(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number), cmocka_unit_test(any_slots),
                                       cmocka_unit_test(hot_path)};
    const oc_backend_config config = {.kind = OC_BACKEND_CUDA};
    oc_backend *b;
    (void)setenv("OUTCRY_CUDA_MODULE", OC_TEST_MODULE, 0);
    if (oc_backend_open(&b, &config) != OC_OK) {
        printf("skipped: %s\n", oc_status_message());
        return 77;
    }
    oc_backend_close(b);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
