/* test_sliding.c - sliding windows where a caller or the data err: a refused call changes nothing, a failed rebuild
 * leaves an empty slot, and many slots at once are answered as one by one, whatever batch the model was opened for; and
 * advances left at any piece, taken up in any order or never, which change no bit.
 * Oracle: whole windows (oc_model_predict_rows), which test_onnx.c and test_graph.c hold against others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/ops.h"
#include "nn/model.h"
#include "nn/sample_bundle.h"

enum { ROWS = 400, SLOTS = 70, OUTPUTS = 2 * OC_CLASSES, INPUTS = 5 };

static const oc_model_shape shapes[] = {
    {OC_TRUNK_LSTM, 6, INPUTS, 2, 24, 2, 2},
    {OC_TRUNK_LSTM, 3, INPUTS, 1, 10, 0, 2},
    {OC_TRUNK_MLP, 4, INPUTS, 2, 16, 0, 2},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct fixture {
    oc_bundle *bundle;
    oc_model *model;
    oc_sliding *sliding;
    float rows[ROWS * INPUTS], wanted[ROWS * OUTPUTS]; /* wanted[r]: of the window that ends at row r */
} fixture;

static fixture *open_fixture_on(const oc_model_shape *shape, int batch, oc_isa isa)
{
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isa};
    const uint32_t key = oc_random_key(11, OC_RANDOM_TEST, 1, 0);
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(sample_bundle(&f->bundle, shape, 3.0f, 4.0, 7), OC_OK);
    assert_int_equal(oc_model_open(&f->model, f->bundle, &config, batch), OC_OK);
    assert_int_equal(oc_sliding_open(&f->sliding, f->model, SLOTS), OC_OK);
    for (size_t i = 0; i < ROWS * INPUTS; i++) f->rows[i] = (float)(4 * oc_random_uniform(key, i) - 2);
    for (int64_t row = shape->steps - 1; row < ROWS; row++)
        assert_int_equal(oc_model_predict_rows(f->model, f->rows, ROWS, &row, 1, f->wanted + row * OUTPUTS, OUTPUTS),
                         OC_OK);
    return f;
}

static fixture *open_fixture(const oc_model_shape *shape, int batch)
{
    return open_fixture_on(shape, batch, OC_ISA_BEST);
}

static void close_fixture(fixture *f)
{
    oc_sliding_close(f->sliding);
    oc_model_close(f->model);
    oc_bundle_close(f->bundle);
    free(f);
}

typedef enum answer { TOO_EARLY, RIGHT, WRONG } answer;

/* Row `row` into one slot: is there an answer, and is it that of the whole window? */
static answer push(fixture *f, uint32_t slot, size_t row)
{
    float p[OUTPUTS];
    uint8_t full;
    assert_int_equal(oc_sliding_step(f->sliding, &slot, f->rows + row * INPUTS, 1, p, OUTPUTS, &full), OC_OK);
    assert_int_equal(oc_sliding_advance(f->sliding, &slot, 1), OC_OK);
    if (!full) return TOO_EARLY;
    return memcmp(p, f->wanted + row * OUTPUTS, sizeof p) == 0 ? RIGHT : WRONG;
}

/* More slots than a pass of the model takes (its batch is 1, or 7): the graph of an MLP must not be given more. */
static void many_slots_at_once(void **state)
{
    static const int batches[] = {1, 7, 100};
    (void)state;
    for (size_t i = 0; i < SHAPES * 3; i++) {
        const oc_model_shape *shape = &shapes[i / 3];
        fixture *f = open_fixture(shape, batches[i % 3]);
        float x[SLOTS * INPUTS], p[SLOTS * OUTPUTS];
        uint32_t slots[SLOTS];
        uint8_t full[SLOTS];
        for (size_t row = 0; row < 12; row++) {
            for (size_t s = 0; s < SLOTS; s++) { /* slot s is s mod 9 rows ahead */
                slots[s] = (uint32_t)(SLOTS - 1 - s);
                memcpy(x + s * INPUTS, f->rows + (row + s % 9) * INPUTS, INPUTS * sizeof *x);
            }
            assert_int_equal(oc_sliding_step(f->sliding, slots, x, SLOTS, p, SLOTS * OUTPUTS, full), OC_OK);
            assert_int_equal(oc_sliding_advance(f->sliding, slots, SLOTS), OC_OK);
            for (size_t s = 0; s < SLOTS && row + 1 >= (size_t)shape->steps; s++) {
                assert_true(full[s]);
                assert_memory_equal(p + s * OUTPUTS, f->wanted + (row + s % 9) * OUTPUTS, OUTPUTS * sizeof *p);
            }
        }
        close_fixture(f);
    }
}

/* One slot of the call is not ready, or stands there twice: no slot may have moved. */
static void a_refused_advance_changes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        fixture *f = open_fixture(&shapes[i], 4);
        const uint32_t both[2] = {3, 4}, twice[2] = {3, 3}, three = 3;
        const size_t steps = (size_t)shapes[i].steps;
        float p[OUTPUTS];
        uint8_t full;
        for (size_t row = 0; row < 10; row++) (void)push(f, 3, row);
        assert_int_equal(oc_sliding_step(f->sliding, &three, f->rows + 10 * INPUTS, 1, p, OUTPUTS, &full), OC_OK);
        assert_int_equal(oc_sliding_advance(f->sliding, both, 2), OC_EUSAGE);
        assert_non_null(strstr(oc_status_message(), "slot 4"));
        assert_int_equal(oc_sliding_advance(f->sliding, twice, 2), OC_EUSAGE);
        assert_int_equal(oc_sliding_advance(f->sliding, &three, 1), OC_OK);
        for (size_t row = 11; row < 11 + 2 * steps; row++) assert_int_equal(push(f, 3, row), RIGHT);
        close_fixture(f);
    }
}

/* Rows before a bad one must not be joined to what comes after it: the slot starts anew. */
static void a_failed_rebuild_empties_the_slot(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++) {
        fixture *f = open_fixture(&shapes[i], 4);
        const size_t steps = (size_t)shapes[i].steps;
        for (size_t row = 0; row < 10; row++) (void)push(f, 0, row);
        const float good = f->rows[(20 - 1) * INPUTS + 2];
        f->rows[(20 - 1) * INPUTS + 2] = NAN;
        assert_int_equal(oc_sliding_rebuild(f->sliding, 0, f->rows, 20), OC_EDATA);
        f->rows[(20 - 1) * INPUTS + 2] = good;
        for (size_t row = 20; row < 20 + 2 * steps; row++) /* T new rows, not fewer */
            assert_int_equal(push(f, 0, row), row + 1 >= 20 + steps ? RIGHT : TOO_EARLY);
        assert_int_equal(oc_sliding_rebuild(f->sliding, 0, f->rows, 20), OC_OK);
        assert_int_equal(push(f, 0, 20), RIGHT);
        close_fixture(f);
    }
}

/* Places in several blocks, the last one shorter; in one; in none. More rows than are kept come without an advance. */
static const oc_model_shape in_blocks[] = {
    {OC_TRUNK_LSTM, 30, INPUTS, 2, 24, 2, 2}, {OC_TRUNK_LSTM, 14, INPUTS, 3, 10, 0, 2},
    {OC_TRUNK_LSTM, 8, INPUTS, 1, 16, 4, 2},  {OC_TRUNK_LSTM, 2, INPUTS, 2, 8, 2, 2},
    {OC_TRUNK_LSTM, 1, INPUTS, 2, 8, 2, 2},   {OC_TRUNK_MLP, 4, INPUTS, 2, 16, 0, 2},
};
enum { FEW = 4, TURNS = 500, WAYS = 6 };

typedef struct run {
    size_t first, next; /* rows since its reset: first ... next - 1 */
} run;

/* A row of each of some of the slots in one call -> answers that are not the whole window's. */
static size_t some_step(fixture *f, run *runs, uint32_t which, size_t steps)
{
    float x[FEW * INPUTS], p[FEW * OUTPUTS];
    uint32_t slots[FEW];
    uint8_t full[FEW];
    size_t n = 0, wrong = 0;
    for (uint32_t i = 0; i < FEW; i++)
        if (which >> i & 1 && runs[i].next < ROWS) {
            memcpy(x + n * INPUTS, f->rows + runs[i].next * INPUTS, INPUTS * sizeof *x);
            slots[n++] = i;
        }
    assert_int_equal(oc_sliding_step(f->sliding, slots, x, n, p, sizeof p / sizeof *p, full), OC_OK);
    for (size_t i = 0; i < n; i++) {
        run *r = &runs[slots[i]];
        assert_int_equal(full[i], r->next - r->first + 1 >= steps);
        wrong += full[i] && memcmp(p + i * OUTPUTS, f->wanted + r->next * OUTPUTS, OUTPUTS * sizeof *p) != 0;
        r->next++;
    }
    return wrong;
}

/* Some rounds of one slot's life besides its rows: pieces, whole advances, what the next row waits for, another begin.
 */
static void some_work(fixture *f, run *r, uint32_t slot, uint64_t way, uint64_t amount)
{
    switch (way) {
    case 0:
    case 1:
        for (; amount > 0 && oc_sliding_due(f->sliding, slot); amount--)
            assert_int_equal(oc_sliding_advance_some(f->sliding, slot), OC_OK);
        break;
    case 2:
        if (oc_sliding_due(f->sliding, slot)) assert_int_equal(oc_sliding_advance(f->sliding, &slot, 1), OC_OK);
        break;
    case 3:
        assert_int_equal(oc_sliding_hasten(f->sliding, slot), OC_OK);
        break;
    default:
        if (amount % 8 != 0 && r->next < ROWS) break;
        oc_sliding_reset(f->sliding, slot);
        r->first = r->next = amount * 7 % (ROWS / 2);
        if (way == 5) {
            assert_int_equal(oc_sliding_rebuild(f->sliding, slot, f->rows, r->next), OC_OK);
            r->first = 0;
        }
        assert_false(oc_sliding_due(f->sliding, slot));
        break;
    }
}

static size_t interleave(fixture *f, size_t steps, uint64_t seed, size_t *answers)
{
    const uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 2, 0);
    run runs[FEW] = {{0, 0}};
    uint64_t draws = 0;
    size_t wrong = 0;
    for (uint32_t i = 0; i < FEW; i++) oc_sliding_reset(f->sliding, i);
    for (int turn = 0; turn < TURNS; turn++) {
        const uint32_t which = (uint32_t)oc_random_below(key, draws++, 1u << FEW);
        const uint64_t burst = oc_random_below(key, draws++, 12) ? 1 : 3 * OC_SLIDE_KEPT;
        for (uint64_t i = 0; i < burst; i++) wrong += some_step(f, runs, which, steps);
        *answers += burst;
        for (uint32_t i = 0; i < FEW; i++)
            some_work(f, &runs[i], i, oc_random_below(key, draws + 1, WAYS), oc_random_below(key, draws, 40)),
                draws += 2;
    }
    return wrong;
}

static void advances_left_anywhere(void **state)
{
    static const oc_isa isas[] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512};
    (void)state;
    for (size_t i = 0; i < sizeof in_blocks / sizeof in_blocks[0]; i++)
        for (size_t k = 0; k < sizeof isas / sizeof isas[0]; k++) {
            size_t answers = 0;
            if (!oc_isa_available(isas[k])) {
                print_message("%s is not there: skipped\n", oc_isa_name(isas[k]));
                continue;
            }
            fixture *f = open_fixture_on(&in_blocks[i], 4, isas[k]);
            assert_int_equal(interleave(f, (size_t)in_blocks[i].steps, 31 + i, &answers), 0);
            assert_true(answers > TURNS);
            f->rows[200 * INPUTS + 1] += 0.5f; /* what is answered now is not what was wanted: the comparison sees it */
            assert_true(interleave(f, (size_t)in_blocks[i].steps, 77, &answers) > 0);
            close_fixture(f);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advances_left_anywhere),
        cmocka_unit_test(many_slots_at_once),
        cmocka_unit_test(a_refused_advance_changes_nothing),
        cmocka_unit_test(a_failed_rebuild_empties_the_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
