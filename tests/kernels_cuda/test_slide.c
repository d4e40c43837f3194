/* Staggered windows of kernels/cuda against those of the CPU backend, whose bits are those of whole windows
 * (tests/nn/test_sliding.c): three slots that stand at different rows, in different orders, reset in between; advances
 * whole, or a few places at a time, some of which lag behind by up to the rows that are kept, others on either side;
 * every answer of a whole window must have the CPU's bits, in every order of threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/random.h"
#include "kernels_cuda/device_case.h"

#ifdef __SANITIZE_ADDRESS__
enum { SEEDS = 1 }; /* ten times slower */
#else
enum { SEEDS = 3 };
#endif
enum { SLOTS = 3, CALL = 4, ROUNDS = 12, LAGGING_ROUNDS = 24, RESET_ROUND = 7, PLACES = 19, ARENA = 48 << 20 };
static const oc_slide_shape shapes[] = {{2, 5, 3, 12, 2}, {1, 1, 2, 8, 0},   {2, 1, 4, 10, 2}, {1, 2, 3, 9, 3},
                                        {3, 4, 5, 33, 0}, {2, 7, 40, 17, 1}, {1, 20, 3, 8, 0}};

typedef struct side {
    oc_backend *b;
    oc_slide_weights w;
    oc_tensor states, work;
    uint32_t key; /* of its draws; 0: whole advances */
    uint64_t draws;
    int64_t consumed[SLOTS][PLACES]; /* rows */
} side;

static int release(void **state)
{
    (void)state;
    device_release();
    return 0;
}

static oc_tensor numbers_on(oc_backend *b, int64_t number, int64_t rows, int64_t columns)
{
    return device_put(b, host_numbers((uint64_t)number, 0.5, rows * columns), OC_DTYPE_F32, rows, columns, 1);
}

static side side_make(oc_backend *b, const oc_slide_shape *s)
{
    const oc_ops *ops = oc_backend_ops(b);
    const oc_lstm_shape lstm = {s->layers, 1, s->steps, s->inputs, s->hidden};
    const oc_attention_shape attention = {1, s->steps, s->hidden, s->heads};
    oc_lstm_weights w = {0};
    side made = {.b = b};
    for (int l = 0; l < s->layers; l++) {
        w.w_ih[l] = numbers_on(b, 10 * l, 4 * s->hidden, l ? s->hidden : s->inputs);
        w.w_hh[l] = numbers_on(b, 10 * l + 1, 4 * s->hidden, s->hidden);
        w.b_ih[l] = numbers_on(b, 10 * l + 2, 4 * s->hidden, 1);
        w.b_hh[l] = numbers_on(b, 10 * l + 3, 4 * s->hidden, 1);
    }
    made.w.lstm = device_bytes(b, ops->lstm_packed_bytes(b, &lstm));
    assert_int_equal(ops->lstm_pack(b, &lstm, &w, made.w.lstm), OC_OK);
    if (s->heads > 0) {
        const oc_attention_weights a = {numbers_on(b, 90, 3 * s->hidden, s->hidden),
                                        numbers_on(b, 91, 3 * s->hidden, 1), numbers_on(b, 92, s->hidden, s->hidden),
                                        numbers_on(b, 93, s->hidden, 1)};
        made.w.attention = device_bytes(b, ops->attend_packed_bytes(b, &attention));
        assert_int_equal(ops->attend_pack(b, &attention, &a, made.w.attention), OC_OK);
    }
    made.states = device_take(b, OC_DTYPE_BYTES, SLOTS, (int64_t)ops->slide_bytes(b, s), 1);
    made.work = device_bytes(b, ops->slide_work_bytes(b, s, CALL));
    for (uint32_t i = 0; i < SLOTS; i++) assert_int_equal(ops->slide_reset(b, s, made.states, i), OC_OK);
    return made;
}

static uint64_t draw(side *on, uint64_t below)
{
    return oc_random_below(on->key, on->draws++, below);
}

/* Places first ... first + count - 1 of a slot, which stand at the same row. */
static void places_advance(side *on, const oc_slide_shape *s, uint32_t slot, int first, int count)
{
    const oc_tensor who = device_put(on->b, &slot, OC_DTYPE_I32, 1, 1, 1),
                    when = device_put(on->b, &on->consumed[slot][first], OC_DTYPE_I64, 1, 1, 1);
    assert_int_equal(
        oc_backend_ops(on->b)->slide_advance(on->b, s, &on->w, on->states, on->work, who, when, first, count), OC_OK);
    for (int i = 0; i < count; i++) on->consumed[slot][first + i]++;
}

/* What must be done before the next row comes. */
static void slot_hasten(side *on, const oc_slide_shape *s, uint32_t slot, int64_t row)
{
    for (int i = 0; i < s->steps - 1; i++)
        while (on->consumed[slot][i] < (i == row % (s->steps - 1) ? row : row + 1 - OC_SLIDE_KEPT))
            places_advance(on, s, slot, i, 1);
}

/* A few of the places that have not consumed the row yet; now and then none, now and then all. Every third place waits
 * until it must: T 20 is more than the rows that are kept. */
static void slot_advance(side *on, const oc_slide_shape *s, uint32_t slot, int64_t row)
{
    const uint64_t share = draw(on, 5);
    for (int i = 0; i < s->steps - 1; i++) {
        if (i % 3 == 2 || on->consumed[slot][i] > row || draw(on, 4) >= share) continue;
        const int most = 1 + (int)draw(on, 3);
        int count = 1;
        while (count < most && i + count < s->steps - 1 && (i + count) % 3 != 2 &&
               on->consumed[slot][i + count] == on->consumed[slot][i])
            count++;
        places_advance(on, s, slot, i, count);
    }
}

/* -> [n,H]; then the advance. */
static float *side_turn(side *on, const oc_slide_shape *s, int n, const uint32_t *slots, const int64_t *rows,
                        const float *x)
{
    const oc_ops *ops = oc_backend_ops(on->b);
    const oc_tensor in = device_put(on->b, x, OC_DTYPE_F32, n, s->inputs, 1),
                    seen = device_take(on->b, OC_DTYPE_F32, n, s->hidden, 1);
    const oc_tensor who = device_put(on->b, slots, OC_DTYPE_I32, n, 1, 1),
                    when = device_put(on->b, rows, OC_DTYPE_I64, n, 1, 1);
    for (int i = 0; i < n && on->key; i++)
        if (rows[i] >= 0) slot_hasten(on, s, slots[i], rows[i]);
    assert_int_equal(ops->slide_step(on->b, s, &on->w, on->states, on->work, who, when, in, seen), OC_OK);
    float *got = device_get(on->b, seen);
    for (int i = 0; i < n && on->key; i++)
        if (rows[i] >= 0) slot_advance(on, s, slots[i], rows[i]);
    if (!on->key)
        assert_int_equal(ops->slide_advance(on->b, s, &on->w, on->states, on->work, who, when, 0, s->steps - 1), OC_OK);
    return got;
}

static int sides_run(const oc_slide_shape *s, side *cuda, side *cpu, bool corrupt_one)
{
    int64_t rows[SLOTS] = {0};
    int compared = 0, different = 0;
    const int rounds = (cpu->key ? LAGGING_ROUNDS : ROUNDS) + (s->steps > OC_SLIDE_KEPT ? 2 * s->steps : 0);
    for (int round = 0; round < rounds; round++) {
        uint32_t slots[CALL];
        int64_t at[CALL];
        int n = 0;
        for (uint32_t i = 0; i < SLOTS; i++) /* slot 1 misses every third round, the order turns */
            if (i != 1 || round % 3 != 2) slots[n++] = (i + (uint32_t)round) % SLOTS;
        if (round == RESET_ROUND) {
            rows[0] = 0;
            memset(cuda->consumed[0], 0, sizeof cuda->consumed[0]);
            memset(cpu->consumed[0], 0, sizeof cpu->consumed[0]);
            assert_int_equal(oc_backend_ops(cuda->b)->slide_reset(cuda->b, s, cuda->states, 0), OC_OK);
            assert_int_equal(oc_backend_ops(cpu->b)->slide_reset(cpu->b, s, cpu->states, 0), OC_OK);
        }
        for (int i = 0; i < n; i++) at[i] = rows[slots[i]]++;
        const int call = round % 2 ? CALL : n; /* filled up with nobody's, who change nothing */
        for (int i = n; i < call; i++) slots[i] = 0, at[i] = -1;
        if (round % 4 == 3 && call > 1) { /* nobody in between */
            slots[call - 1] = slots[1];
            at[call - 1] = at[1];
            at[1] = -1;
        }
        float *x = host_numbers((uint64_t)(1000 + round), 1, call * s->inputs);
        const float *other = side_turn(cpu, s, call, slots, at, x);
        if (corrupt_one && round == 3) x[0] += 1e-3f;
        const float *one = side_turn(cuda, s, call, slots, at, x);
        for (int i = 0; i < call; i++) {
            if (at[i] < s->steps - 1 || at[i] < 0) continue;
            compared++;
            different += memcmp(one + i * s->hidden, other + i * s->hidden, (size_t)s->hidden * sizeof *one) != 0;
        }
    }
    assert_true(compared > 5);
    return different;
}

typedef enum way { WHOLE, IN_PIECES, CORRUPT } way;
static int shape_run(const oc_slide_shape *s, int seed, way how)
{
    char text[16];
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .arena_bytes = ARENA};
    oc_backend *cpu = NULL;
    snprintf(text, sizeof text, "%d", seed);
    (void)setenv("OUTCRY_EMULATION_SEED", text, 1);
    oc_backend *cuda = device_open(ARENA, OC_MATH_F32);
    assert_non_null(cuda);
    assert_int_equal(oc_backend_open(&cpu, &config), OC_OK);
    side a = side_make(cuda, s), b = side_make(cpu, s);
    a.key = how == WHOLE ? 0 : oc_random_key((uint64_t)seed, OC_RANDOM_TEST, 1, 0) | 1;
    b.key = how == WHOLE ? 0 : oc_random_key((uint64_t)seed, OC_RANDOM_TEST, 2, 0) | 1;
    const int different = sides_run(s, &a, &b, how == CORRUPT);
    oc_backend_close(cuda);
    oc_backend_close(cpu);
    device_release();
    return different;
}

static void windows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int seed = 1; seed <= (i < 3 ? SEEDS : 1); seed++) {
            assert_int_equal(shape_run(&shapes[i], seed, WHOLE), 0);
            if (seed == 1 || i == 0) assert_int_equal(shape_run(&shapes[i], seed, IN_PIECES), 0);
        }
    assert_int_not_equal(shape_run(&shapes[0], 1, CORRUPT), 0); /* the injected fault: one number of one row */
}

/* A NaN is in every window that holds its row, and gone with it. */
static void nan_leaves(void **state)
{
    const oc_slide_shape s = {2, 5, 3, 12, 2};
    oc_backend *b = device_open(ARENA, OC_MATH_F32);
    side on = side_make(b, &s);
    (void)state;
    for (int64_t row = 0; row < 16; row++) {
        const uint32_t slot = 1;
        float *x = host_numbers((uint64_t)row, 1, 3);
        if (row == 6) x[1] = NAN;
        const float *seen = side_turn(&on, &s, 1, &slot, &row, x);
        for (int k = 0; k < 12 && row >= 4; k++) assert_int_equal(isnan(seen[k]) != 0, row >= 6 && row < 11);
    }
    oc_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(windows, release),
        cmocka_unit_test_teardown(nan_leaves, release),
    };
    const int skipped = device_skip();
    if (skipped >= 0) return skipped;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
