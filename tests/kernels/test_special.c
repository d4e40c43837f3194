/* test_special.c - numbers that a fast path may lose: a NaN at any input of any operation reaches its outputs, and
 * subnormal, huge and signed-zero inputs give the same bits on every instruction set (nothing is flushed to zero).
 * Method: a table of operations, each fed once clean (no NaN may come out: the harness could otherwise not fail) and
 * once with a NaN at every column of each input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/forward_case.h"

enum { ISAS = 3, ROOM = 4096, INPUTS_MAX = 4 };
static const oc_isa isas[ISAS] = {OC_ISA_SCALAR, OC_ISA_AVX2, OC_ISA_AVX512};
static oc_backend *backends[ISAS];

typedef struct box { float in[INPUTS_MAX][ROOM], out[ROOM], spare[ROOM]; } box;

static oc_tensor view(float *data, int64_t d0, int64_t d1)
{
    return oc_tensor_make(data, OC_DTYPE_F32, d0, d1, 1, 1);
}

/* Each takes inputs in[0 …], of which the first 21 numbers at least are read, and leaves out[0 … 20]. */
enum { ROWS = 3, WIDTH = 7, COUNT = ROWS * WIDTH };

static oc_status run_gather(oc_backend *b, box *x)
{
    int64_t index[ROWS] = {0, 1, 2};
    for (int i = 0; i < WIDTH; i++) x->spare[i] = 2;
    const oc_tensor last = oc_tensor_make(index, OC_DTYPE_I64, ROWS, 1, 1, 1);
    return oc_backend_ops(b)->gather_scale(b, view(x->in[0], ROWS, WIDTH), last, view(x->in[1], WIDTH, 1),
                                           view(x->spare, WIDTH, 1), 3,
                                           oc_tensor_make(x->out, OC_DTYPE_F32, 1, ROWS, WIDTH, 1));
}

static oc_status run_linear(oc_backend *b, box *x)
{
    static float packed[ROOM];
    const oc_ops *ops = oc_backend_ops(b);
    OC_TRY(ops->linear_pack(b, view(x->in[1], WIDTH, WIDTH), view(packed, ROOM, 1)));
    return ops->linear_forward(b, view(x->in[0], ROWS, WIDTH), view(packed, ROOM, 1), view(x->in[2], WIDTH, 1), true,
                               view(x->out, ROWS, WIDTH));
}

static oc_status run_linear_backward(oc_backend *b, box *x)
{
    for (int i = 0; i < COUNT; i++) x->spare[i] = 1;
    return oc_backend_ops(b)->linear_backward(b, view(x->in[0], ROWS, WIDTH), view(x->in[1], WIDTH, WIDTH),
                                              view(x->spare, ROWS, WIDTH), true, view(x->in[2], ROWS, WIDTH),
                                              view(x->out + 100, ROWS, WIDTH), view(x->out, WIDTH, WIDTH),
                                              view(x->out + 200, WIDTH, 1));
}

static oc_status run_dropout(oc_backend *b, box *x)
{
    const oc_dropout d = {0.9f, 1, 2, 3, 4, NULL};
    memcpy(x->out, x->in[0], sizeof x->out);
    return oc_backend_ops(b)->dropout(b, &d, view(x->out, ROWS, WIDTH));
}

static oc_status run_softmax(oc_backend *b, box *x)
{
    const float one = 1;
    return oc_backend_ops(b)->softmax(b, 1, &one, oc_tensor_make(x->in[0], OC_DTYPE_F32, WIDTH, 1, 3, 1),
                                      oc_tensor_make(x->out, OC_DTYPE_F32, WIDTH, 1, 3, 1));
}

static oc_status run_loss(oc_backend *b, box *x)
{
    const oc_loss_rule rule = {{1, 1, 1}, 0.1f, 1};
    int32_t target[WIDTH] = {0, 1, 2, 0, 1, 2, 0};
    double loss = 0, weight = 0;
    const oc_tensor classes = oc_tensor_make(target, OC_DTYPE_I32, WIDTH, 1, 1, 1);
    OC_TRY(oc_backend_ops(b)->softmax_loss(b, &rule, view(x->in[0], WIDTH, 3), classes, &loss, &weight,
                                           view(x->out, WIDTH, 3)));
    x->out[100] = (float)loss;
    return OC_OK;
}

static oc_status run_tree(oc_backend *b, box *x)
{
    return oc_backend_ops(b)->tree_sum(b, view(x->in[0], 4, 5), view(x->out, 5, 1));
}

static oc_status run_squares(oc_backend *b, box *x)
{
    double sum;
    OC_TRY(oc_backend_ops(b)->square_sum(b, view(x->in[0], COUNT, 1), &sum));
    x->out[0] = (float)sum;
    return OC_OK;
}

static oc_status run_adamw(oc_backend *b, box *x)
{
    const oc_adamw_rule rule = {0.1f, 0.9f, 0.999f, 1e-8f, 0.01f, 1, 1};
    memcpy(x->out, x->in[0], sizeof x->out);
    for (int i = 0; i < COUNT; i++) x->spare[i] = fabsf(x->in[3][i]);
    return oc_backend_ops(b)->adamw(b, &rule, view(x->out, COUNT, 1), view(x->in[1], COUNT, 1),
                                    view(x->in[2], COUNT, 1), view(x->spare, COUNT, 1));
}

static oc_status run_blend(oc_backend *b, box *x)
{
    memcpy(x->out, x->in[1], sizeof x->out);
    return oc_backend_ops(b)->blend(b, 0.5f, view(x->in[0], COUNT, 1), view(x->out, COUNT, 1));
}

typedef struct operation { const char *name; int inputs; oc_status (*run)(oc_backend *, box *); } operation;
static const operation operations[] = {
    {"gather_scale", 2, run_gather}, {"linear_forward", 3, run_linear}, {"linear_backward", 3, run_linear_backward},
    {"dropout", 1, run_dropout},     {"softmax", 1, run_softmax},       {"softmax_loss", 1, run_loss},
    {"tree_sum", 1, run_tree},       {"square_sum", 1, run_squares},    {"adamw", 4, run_adamw},
    {"blend", 2, run_blend},
};
enum { OPERATIONS = sizeof operations / sizeof operations[0] };

/* size: of the inputs; poison: which of them gets a NaN, at which place; -1: none. -> a NaN came out */
static bool run(const operation *o, oc_backend *b, float size, int poison, int place, box *x)
{
    memset(x, 0, sizeof *x);
    for (int i = 0; i < INPUTS_MAX; i++) {
        float *numbers = forward_numbers((uint64_t)i + 5, ROOM, size);
        memcpy(x->in[i], numbers, sizeof x->in[i]);
        x->in[i][3] = -0.0f;
        free(numbers);
    }
    if (poison >= 0) x->in[poison][place] = NAN;
    if (o->run(b, x) != OC_OK) fail_msg("%s: %s", o->name, oc_status_message());
    for (int i = 0; i < ROOM; i++)
        if (isnan(x->out[i])) return true;
    return false;
}

static void a_nan_reaches_the_output(void **state)
{
    static box x;
    (void)state;
    for (int n = 0; n < ISAS; n++)
        for (int i = 0; i < OPERATIONS && backends[n]; i++) {
            const operation *o = &operations[i];
            assert_false(run(o, backends[n], 1, -1, 0, &x));
            for (int input = 0; input < o->inputs; input++)
                for (int place = 0; place < WIDTH; place++)
                    if (!run(o, backends[n], 1, input, place, &x))
                        fail_msg("%s, %s: NaN %d of input %d is lost", o->name, oc_isa_name(isas[n]), place, input);
        }
}

static const float sizes[] = {1e-45f, 1e-40f, 1e-38f, 1e-20f, 1e10f, 1e38f};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

/* Equal bits; a NaN (infinity less infinity) equals any NaN. */
static bool same(const float *a, const float *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

static void small_and_huge_numbers_keep_their_bits(void **state)
{
    static box wanted, got;
    (void)state;
    for (int i = 0; i < OPERATIONS; i++)
        for (int j = 0; j < SIZES; j++) {
            (void)run(&operations[i], backends[0], sizes[j], -1, 0, &wanted);
            for (int n = 1; n < ISAS && backends[n]; n++) {
                (void)run(&operations[i], backends[n], sizes[j], -1, 0, &got);
                if (!same(wanted.out, got.out, ROOM))
                    fail_msg("%s at %g: %s is not scalar", operations[i].name, (double)sizes[j], oc_isa_name(isas[n]));
            }
        }
    (void)run(&operations[1], backends[0], 1e-20f, -1, 0, &wanted); /* products of 1e-40: not flushed */
    for (int i = 0; i < WIDTH; i++) wanted.in[2][i] = 0;
    assert_int_equal(run_linear(backends[0], &wanted), OC_OK);
    float most = 0;
    for (int i = 0; i < COUNT; i++) most = fmaxf(most, wanted.out[i]);
    assert_true(most > 0 && most < 1.2e-38f);
}

/* The trunk, inputs from subnormal to infinite-making, as whole batches and as one window (another kernel). */
static void trunk_of_small_and_huge_numbers(void **state)
{
    static const forward_shape shape = {5, 6, 7, 18, 2, 3};
    const size_t rows = 6 * 5 * 7;
    (void)state;
    for (int j = 0; j < SIZES; j++)
        for (int batch = 1; batch <= 5; batch += 4) {
            float *x = forward_numbers(9, rows, sizes[j]);
            forward_result wanted = {0};
            for (int n = 0; n < ISAS; n++) {
                forward_case f;
                forward_result got;
                if (!backends[n]) continue;
                forward_open(&f, &shape, isas[n]);
                forward_run(&f, x, batch, false, &got);
                if (n == 0) wanted = got;
                else {
                    assert_true(same(wanted.y, got.y, (size_t)(6 * batch * 18)));
                    assert_true(same(wanted.pooled, got.pooled, (size_t)(batch * 18)));
                    assert_true(same(wanted.head, got.head, (size_t)(batch * FORWARD_HEAD)));
                    forward_free(&got);
                }
                forward_close(&f);
            }
            forward_free(&wanted);
            free(x);
        }
}

static int open_backends(void **state)
{
    (void)state;
    for (int n = 0; n < ISAS; n++) {
        const oc_backend_config config = {.kind = OC_BACKEND_CPU, .isa = isas[n]};
        if (!oc_isa_available(isas[n])) print_message("skipped: this machine has no %s\n", oc_isa_name(isas[n]));
        else if (oc_backend_open(&backends[n], &config) != OC_OK) return 1;
    }
    return 0;
}

static int close_backends(void **state)
{
    (void)state;
    for (int n = 0; n < ISAS; n++) oc_backend_close(backends[n]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nan_reaches_the_output),
        cmocka_unit_test(small_and_huge_numbers_keep_their_bits),
        cmocka_unit_test(trunk_of_small_and_huge_numbers),
    };
    return cmocka_run_group_tests(tests, open_backends, close_backends);
}
