/* Recordings (kernels/ops.h): what is kept is not run, a replay does what the calls did, on what lies in memory then;
 * pinned memory; faults and failures of a replay; a recording that is dropped. Training steps by the operations step_*:
 * one recording serves all, with the CPU's bits. On a GPU the same by CUDA graphs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels_cuda/device_case.h"

enum { ARENA = 1 << 20, COUNT = 300 };

static int release(void **state)
{
    (void)state;
    device_release();
    return 0;
}

static oc_backend *open_some(void)
{
    oc_backend *b = device_open(ARENA, OC_MATH_F32);
    assert_non_null(b);
    assert_true(oc_backend_describe(b)->records);
    return b;
}

/* pinned [2 COUNT] -> x; y = 0.5 y + 0.5 x; y -> pinned + COUNT */
static oc_status blend(oc_backend *b, float *pinned, oc_tensor x, oc_tensor y)
{
    OC_TRY(oc_backend_upload(b, x, pinned, COUNT * sizeof *pinned));
    OC_TRY(oc_backend_ops(b)->blend(b, 0.5f, x, y));
    OC_TRY(oc_backend_download(b, pinned + COUNT, COUNT * sizeof *pinned, y));
    return OC_OK;
}

static void replays(void **state)
{
    oc_backend *b = open_some();
    oc_recording *r;
    void *at;
    (void)state;
    const oc_tensor x = device_take(b, OC_DTYPE_F32, COUNT, 1, 1), y = device_take(b, OC_DTYPE_F32, COUNT, 1, 1);
    assert_int_equal(oc_backend_pin(b, 2 * COUNT * sizeof(float), &at), OC_OK);
    float *pinned = at, wanted = 0;
    for (int i = 0; i < 2 * COUNT; i++) assert_true(pinned[i] == 0.0f);
    assert_int_equal(blend(b, pinned, x, y), OC_OK); /* once before it is recorded */
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    for (int i = 0; i < COUNT; i++) pinned[i] = 7;
    assert_int_equal(blend(b, pinned, x, y), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    assert_true(pinned[COUNT] == 0.0f); /* kept, not run */
    for (int n = 1; n <= 5; n++) {
        for (int i = 0; i < COUNT; i++) pinned[i] = (float)n;
        assert_int_equal(oc_backend_replay(b, r), OC_OK);
        assert_int_equal(oc_backend_wait(b), OC_OK);
        wanted = 0.5f * wanted + 0.5f * (float)n;
        for (int i = 0; i < COUNT; i++) assert_true(pinned[COUNT + i] == wanted);
    }
    assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, y), OC_OK); /* and beside plain calls */
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    assert_true(pinned[COUNT] == 3.0f);
    oc_backend_recording_free(b, r);
    oc_backend_unpin(b, at);
    oc_backend_close(b);
}

/* Two launches of one kernel in a recording, both over 48 KB of shared memory, the later one of less: what it asks for
 * must not be taken from the earlier one. */
static void shared_memory(void **state)
{
    enum { HIDDEN = 200, STEPS = 100 };
    const oc_attention_shape shapes[2] = {{1, STEPS, HIDDEN, 1}, {1, 70, HIDDEN, 1}};
    oc_backend *b = device_open(4 * ARENA, OC_MATH_F32);
    const oc_ops *ops = oc_backend_ops(b);
    const int64_t weights = (int64_t)(ops->attend_packed_bytes(b, shapes) / sizeof(float));
    (void)state;
    const oc_tensor packed = device_put(b, host_numbers(1, 0.1, weights), OC_DTYPE_F32, weights, 1, 1),
                    h = device_put(b, host_numbers(2, 1, STEPS * HIDDEN), OC_DTYPE_F32, STEPS, 1, HIDDEN),
                    reserve = device_bytes(b, ops->attend_reserve_bytes(b, shapes));
    oc_tensor y[2], none = {0}, of[2] = {h, h};
    const float *wanted[2];
    oc_recording *r;
    of[1].dims[0] = shapes[1].steps;
    for (int i = 0; i < 2; i++) {
        y[i] = device_take(b, OC_DTYPE_F32, 1, HIDDEN, 1);
        assert_int_equal(ops->attend_forward(b, &shapes[i], packed, of[i], y[i], none, reserve), OC_OK);
        wanted[i] = device_get(b, y[i]);
        assert_int_equal(ops->fill(b, 0.0f, y[i]), OC_OK);
    }
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ops->attend_forward(b, &shapes[i], packed, of[i], y[i], none, reserve), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    for (int i = 0; i < 2; i++) assert_memory_equal(device_get(b, y[i]), wanted[i], HIDDEN * sizeof **wanted);
    oc_backend_recording_free(b, r);
    oc_backend_close(b);
}

static void dropped(void **state)
{
    oc_backend *b = open_some();
    (void)state;
    const oc_tensor x = device_take(b, OC_DTYPE_F32, COUNT, 1, 1);
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    assert_int_equal(oc_backend_ops(b)->fill(b, 1.0f, x), OC_OK);
    const oc_tensor three = oc_tensor_make(x.data, OC_DTYPE_F32, 3, COUNT / 3, 1, 1);
    assert_int_equal(oc_backend_ops(b)->tree_sum(b, three, oc_tensor_make(x.data, OC_DTYPE_F32, COUNT / 3, 1, 1, 1)),
                     OC_ELIMIT);
    oc_backend_record_drop(b);
    oc_backend_record_drop(b);
    const float *got = device_get(b, x);
    assert_true(got[0] == 0.0f);
    assert_int_equal(oc_backend_ops(b)->fill(b, 2.0f, x), OC_OK);
    got = device_get(b, x);
    assert_true(got[COUNT - 1] == 2.0f);
    assert_int_equal(oc_backend_record_begin(b), OC_OK); /* and closed in the midst of one */
    oc_backend_close(b);
}

static void faults(void **state)
{
    oc_backend *b = open_some();
    oc_recording *r;
    int64_t index = 3;
    float row[8] = {0};
    (void)state;
    const oc_tensor rows = device_put(b, row, OC_DTYPE_F32, 8, 1, 1), at = device_put(b, &index, OC_DTYPE_I64, 1, 1, 1),
                    one = device_put(b, (const float[]){1}, OC_DTYPE_F32, 1, 1, 1),
                    x = device_take(b, OC_DTYPE_F32, 2, 1, 1);
    assert_int_equal(oc_backend_record_begin(b), OC_OK);
    assert_int_equal(oc_backend_ops(b)->gather_scale(b, rows, at, one, one, 0.0f, x), OC_OK);
    assert_int_equal(oc_backend_record_end(b, &r), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_OK);
    index = 8;
    assert_int_equal(oc_backend_upload(b, at, &index, sizeof index), OC_OK);
    assert_int_equal(oc_backend_replay(b, r), OC_OK);
    assert_int_equal(oc_backend_wait(b), OC_EDATA);
    assert_string_equal(oc_status_message(), "gather_scale: window 0 does not lie in the rows");
    if (strcmp(oc_backend_describe(b)->device, "emulation") == 0) {
        (void)setenv("OUTCRY_EMULATION_FAIL", "gather", 1);
        assert_int_equal(oc_backend_replay(b, r), OC_EFAILED);
        (void)unsetenv("OUTCRY_EMULATION_FAIL");
        assert_non_null(
            strstr(oc_status_message(), "the last kernel started was one of a recording; OUTCRY_CUDA_WAIT=1"));
    }
    oc_backend_recording_free(b, r);
    oc_backend_close(b);
}

/* ---------------------------------------------------------------- steps, by the operations step_*: recorded once */
enum { PARTS = 517, TURNS = 12, BATCH = 7, HORIZONS = 2, FIRST = 2, TAKEN = 4 };
static const oc_step_rule rule = {7, 0.5, 0.9, 0.9f, 0.99f, 1e-6f, 0.1f};

typedef struct steps { /* all that a step touches, on one backend */
    oc_backend *b;
    oc_tensor step, plans, indices, targets, results, index, target, p, g, m, v, average, sum;
} steps;

static oc_tensor put(oc_backend *b, const void *host, oc_dtype dtype, int64_t d0, int64_t d1, int64_t d2)
{
    oc_tensor t = oc_tensor_make(NULL, dtype, d0, d1, d2, 1);
    const size_t bytes = (size_t)oc_tensor_count(t) * oc_dtype_bytes(dtype);
    if (oc_backend_alloc(b, &t) != OC_OK) fail_msg("%s", oc_status_message());
    if (host) assert_int_equal(oc_backend_upload(b, t, host, bytes), OC_OK);
    return t;
}

static steps steps_make(oc_backend *b)
{
    oc_step_plan plan[TURNS] = {{0}};
    int64_t index[TURNS * BATCH];
    int32_t target[TURNS * BATCH * HORIZONS];
    for (int i = 0; i < TURNS; i++)
        plan[i] = (oc_step_plan){.step = (uint64_t)(100 + i), .rate = 0.01f * (float)(i + 1)};
    for (int i = 0; i < TURNS * BATCH; i++) index[i] = 1000 + i;
    for (int i = 0; i < TURNS * BATCH * HORIZONS; i++) target[i] = i;
    return (steps){b,
                   put(b, NULL, OC_DTYPE_BYTES, sizeof(oc_step), 1, 1),
                   put(b, plan, OC_DTYPE_BYTES, sizeof plan, 1, 1),
                   put(b, index, OC_DTYPE_I64, TURNS, BATCH, 1),
                   put(b, target, OC_DTYPE_I32, TURNS, BATCH, HORIZONS),
                   put(b, NULL, OC_DTYPE_BYTES, TURNS * sizeof(oc_step_result), 1, 1),
                   put(b, NULL, OC_DTYPE_I64, TAKEN, 1, 1),
                   put(b, NULL, OC_DTYPE_I32, TAKEN, HORIZONS, 1),
                   put(b, host_numbers(1, 1, PARTS), OC_DTYPE_F32, PARTS, 1, 1),
                   put(b, NULL, OC_DTYPE_F32, PARTS, 1, 1),
                   put(b, NULL, OC_DTYPE_F32, PARTS, 1, 1),
                   put(b, NULL, OC_DTYPE_F32, PARTS, 1, 1),
                   put(b, host_numbers(1, 1, PARTS), OC_DTYPE_F32, PARTS, 1, 1),
                   put(b, NULL, OC_DTYPE_F64, 2, 1, 1)};
}

/* Loss and weight are copied in, as softmax_loss would leave them; the squares of the gradient come by square_sum. */
static oc_status step_run(const steps *s, bool squares)
{
    const oc_ops *ops = oc_backend_ops(s->b);
    oc_step *step = s->step.data;
    OC_TRY(ops->step_begin(s->b, &rule, step, s->plans.data, s->indices, s->targets, FIRST, s->index, s->target));
    OC_TRY(oc_backend_copy(s->b, oc_tensor_make(&step->loss_sum, OC_DTYPE_F64, 2, 1, 1, 1), s->sum));
    if (squares) OC_TRY(ops->square_sum(s->b, s->g, &step->square_sum));
    OC_TRY(ops->step_decide(s->b, &rule, step, s->plans.data, s->results.data, TURNS));
    OC_TRY(ops->step_apply(s->b, &rule, step, s->p, s->g, s->m, s->v, s->average));
    return OC_OK;
}

/* What the loss and the gradient of a turn are: the fourth and fifth are none. */
static void turn_give(const steps *s, int turn)
{
    float *g = host_numbers((uint64_t)turn, 2, PARTS);
    const double sums[2] = {turn == 4 ? (double)INFINITY : 3.5 + turn, 11};
    if (turn == 5) g[PARTS - 1] = NAN;
    assert_int_equal(oc_backend_upload(s->b, s->g, g, PARTS * sizeof *g), OC_OK);
    assert_int_equal(oc_backend_upload(s->b, s->sum, sums, sizeof sums), OC_OK);
}

static void *get(const steps *s, oc_tensor t)
{
    return device_get(s->b, t);
}

/* Where the sums of squares are the same number, all the rest has the CPU's bits; so they are handed over. */
static void step_beside(const steps *on, const steps *at, oc_recording *r)
{
    double *squares = &((oc_step *)at->step.data)->square_sum;
    assert_int_equal(r ? oc_backend_replay(on->b, r) : step_run(on, true), OC_OK);
    *squares = ((oc_step *)get(on, on->step))->square_sum;
    assert_int_equal(step_run(at, false), OC_OK);
}

static void same(const steps *on, const steps *at)
{
    const oc_tensor x[] = {on->step, on->results, on->index, on->target, on->p, on->m, on->v, on->average},
                    y[] = {at->step, at->results, at->index, at->target, at->p, at->m, at->v, at->average};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        assert_memory_equal(get(on, x[i]), y[i].data, (size_t)oc_tensor_count(x[i]) * oc_dtype_bytes(x[i].dtype));
}

static void steps_recorded(void **state)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .arena_bytes = ARENA};
    oc_backend *cpu;
    oc_recording *r = NULL;
    (void)state;
    assert_int_equal(oc_backend_open(&cpu, &config), OC_OK);
    const steps on = steps_make(open_some()), at = steps_make(cpu);
    for (int turn = 0; turn < TURNS; turn++) {
        turn_give(&on, turn);
        turn_give(&at, turn);
        if (turn == 1) {
            assert_int_equal(oc_backend_record_begin(on.b), OC_OK);
            assert_int_equal(step_run(&on, true), OC_OK);
            assert_int_equal(oc_backend_record_end(on.b, &r), OC_OK);
        }
        const float before = ((float *)get(&on, on.p))[3];
        step_beside(&on, &at, r);
        same(&on, &at);
        assert_int_equal(((float *)get(&on, on.p))[3] == before, turn == 4 || turn == 5);
        assert_int_equal(((int64_t *)get(&on, on.index))[TAKEN - 1], 1000 + turn * BATCH + FIRST + TAKEN - 1);
    }
    const oc_step_result *results = get(&on, on.results);
    for (int i = 0; i < TURNS; i++) assert_int_equal(results[i].finite, i != 4 && i != 5);
    assert_int_equal(((oc_step *)get(&on, on.step))->updates, TURNS - 2);
    assert_int_equal(oc_backend_replay(on.b, r), OC_OK); /* one more than was planned */
    assert_int_equal(oc_backend_wait(on.b), OC_EDATA);
    assert_string_equal(oc_status_message(), "step_begin: turn 12 has no plan");
    oc_backend_recording_free(on.b, r);
    oc_backend_close(on.b);
    oc_backend_close(cpu);
}

/* Dropout by the keys of a step: the mask that (seed, step) gives. */
static void step_keys(void **state)
{
    const steps s = steps_make(open_some());
    const oc_step *step = s.step.data;
    (void)state;
    assert_int_equal(step_run(&s, true), OC_OK);
    for (uint32_t tensor = 0; tensor < OC_STEP_KEYS; tensor++) {
        const oc_dropout plain = {0.3f, rule.seed, 100, 5, tensor, NULL}, keyed = {0.3f, 0, 0, 5, tensor, step->keys};
        const float *x = host_numbers(2, 1, PARTS);
        const oc_tensor a = put(s.b, x, OC_DTYPE_F32, 1, PARTS, 1), b = put(s.b, x, OC_DTYPE_F32, 1, PARTS, 1);
        assert_int_equal(oc_backend_ops(s.b)->dropout(s.b, &plain, a), OC_OK);
        assert_int_equal(oc_backend_ops(s.b)->dropout(s.b, &keyed, b), OC_OK);
        const float *one = get(&s, a);
        assert_memory_not_equal(one, x, PARTS * sizeof *one);
        assert_memory_equal(one, get(&s, b), PARTS * sizeof *one);
    }
    oc_backend_close(s.b);
}

/* Who looks for the kernel that breaks, or wishes so, runs every operation by itself. */
static void not_wished(void **state)
{
    static const char *const names[][2] = {{"OUTCRY_CUDA_RECORD", "0"}, {"OUTCRY_CUDA_WAIT", "1"}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        (void)setenv(names[i][0], names[i][1], 1);
        oc_backend *b = device_open(ARENA, OC_MATH_F32);
        (void)unsetenv(names[i][0]);
        assert_false(oc_backend_describe(b)->records);
        oc_backend_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(replays, release),        cmocka_unit_test_teardown(dropped, release),
        cmocka_unit_test_teardown(faults, release),         cmocka_unit_test_teardown(not_wished, release),
        cmocka_unit_test_teardown(steps_recorded, release), cmocka_unit_test_teardown(step_keys, release),
        cmocka_unit_test_teardown(shared_memory, release),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
