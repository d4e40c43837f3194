/* test_pairs.c - products in bf16: rounding, and chains of f32 over words of two, on every instruction set, the one
 * with instructions for it included. Oracle: rounding by frexp and rint, sums by a loop of fmaf over ascending k that
 * takes and leaves what is subnormal as 0; no code shared with the kernels, weights packed here. Numbers so small that
 * sums get subnormal are among them, and infinity and NaN. Training in bf16 is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/ops.h"

static const struct {
    oc_isa isa;
    const oc_cpu_kernels *kernels;
} tables[] = {
    {OC_ISA_SCALAR, &oc_cpu_kernels_scalar_pairs},
#if defined(__x86_64__)
    {OC_ISA_AVX2, &oc_cpu_kernels_avx2_pairs},
    {OC_ISA_AVX512, &oc_cpu_kernels_avx512_pairs},
    {OC_ISA_AVX512_BF16, &oc_cpu_kernels_avx512_native},
#endif
};

typedef struct project_row {
    int rows, count, hidden;
    double size; /* of rows and weights */
    bool start;
} project_row;
static const project_row cases[] = {
    {1, 1, 1, 1, true},      {7, 33, 16, 1, false},   {13, 40, 20, 1, true},     {3, 100, 37, 1, true},
    {50, 100, 100, 1, true}, {2, 4096, 31, 1, false}, {9, 15, 24, 1e-19, false}, {9, 14, 24, 3e-19, true},
    {40, 4095, 5, 1, true},  {4, 6, 64, 1e19, true},
};

static float normal(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

/* Eight bits of precision. */
static float rounded(float x)
{
    int exponent;
    if (!isfinite(x)) return x;
    const double part = frexp((double)normal(x), &exponent);
    return (float)ldexp(rint(ldexp(part, 8)), exponent - 8); /* beyond the largest: infinity */
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float word(float first, float second)
{
    const uint32_t bits = bits_of(rounded(first)) | bits_of(rounded(second)) >> 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float *numbers(uint64_t stream, size_t count, double size)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(size * (2 * oc_random_uniform(oc_random_key(13, OC_RANDOM_TEST, stream, 0), i) - 1));
    return x;
}

/* w [columns][count] -> words, blocks of 64 columns and a tail. */
static float *packed_words(const float *w, size_t columns, size_t whole, size_t count)
{
    const size_t words = (count + 1) / 2;
    float *to = malloc(words * columns * sizeof *to);
    for (size_t j = 0; j < columns; j++)
        for (size_t k = 0; k < words; k++) {
            const size_t width = j < whole ? 64 : columns - whole, block = j < whole ? j / 64 * 64 : whole;
            const float *from = w + j * count + 2 * k;
            to[block * words + k * width + j - block] = word(from[0], 2 * k + 1 < count ? from[1] : 0);
        }
    return to;
}

static float chain(const float *x, const float *w, float start, size_t count)
{
    float sum = normal(start);
    for (size_t k = 0; k < (count + 1) / 2 * 2; k++) /* an odd one is paired with 0 by 0 */
        sum = normal(fmaf(k < count ? rounded(x[k]) : 0, k < count ? rounded(w[k]) : 0, sum));
    return sum;
}

static bool equal(float a, float b)
{
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

/* special: rows hold infinity, NaN, the largest number and a subnormal one. */
static size_t project_wrong(const project_row *c, const oc_cpu_kernels *kernels, bool special, bool fault)
{
    const size_t rows = (size_t)c->rows, count = (size_t)c->count;
    const size_t whole = oc_whole_columns(c->hidden), columns = whole + oc_tail_columns(c->hidden);
    float *x = numbers(1, rows * count, c->size), *w = numbers(2, columns * count, c->size);
    float *start = numbers(3, columns, c->size * c->size), *to = malloc(rows * columns * sizeof *to);
    size_t wrong = 0;
    if (special) {
        static const float odd[] = {INFINITY, NAN, 3.4028235e38f, 1e-40f, -1e-40f, 1.00390625f, 1.01171875f};
        for (size_t i = 0; i < rows; i++) x[i * count + i % count] = odd[i % (sizeof odd / sizeof odd[0])];
    }
    float *packed = packed_words(w, columns, whole, count);
    const float kept = x[count - 1];
    if (fault) x[count - 1] = 1.1f * kept; /* unknown to the oracle */
    const oc_projection p = {.rows = c->rows,
                             .count = c->count,
                             .hidden = c->hidden,
                             .x = x,
                             .w = packed,
                             .start = c->start ? start : NULL,
                             .to = to};
    kernels->project(&p);
    x[count - 1] = kept;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            wrong += !equal(to[i * columns + j], chain(x + i * count, w + j * count, c->start ? start[j] : 0, count));
    free(x);
    free(w);
    free(start);
    free(packed);
    free(to);
    return wrong;
}

static void projections(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (!oc_isa_available(tables[t].isa)) {
            print_message("skipped: this machine has no %s\n", oc_isa_name(tables[t].isa));
            continue;
        }
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            assert_int_equal(project_wrong(&cases[i], tables[t].kernels, false, false), 0);
            assert_int_equal(project_wrong(&cases[i], tables[t].kernels, true, false), 0);
        }
        assert_true(project_wrong(&cases[3], tables[t].kernels, false, true) > 0);
    }
}

static void training_is_refused(void **state)
{
    enum { T = 2, B = 1, F = 3, H = 4 };
    const oc_backend_config config = {.kind = OC_BACKEND_CPU, .math = OC_MATH_BF16};
    const oc_lstm_shape shape = {1, B, T, F, H};
    float x[T * B * F] = {0}, y[T * B * H] = {0};
    oc_backend *b;
    (void)state;
    assert_int_equal(oc_backend_open(&b, &config), OC_OK);
    assert_int_equal(oc_backend_describe(b)->math, OC_MATH_BF16);
    const oc_ops *ops = oc_backend_ops(b);
    const size_t packed = ops->lstm_packed_bytes(b, &shape), reserve = ops->lstm_reserve_bytes(b, &shape, true);
    void *memory = calloc(1, packed), *kept = calloc(1, reserve);
    assert_int_equal(ops->lstm_forward(b, &shape, oc_tensor_make(memory, OC_DTYPE_BYTES, (int64_t)packed, 1, 1, 1),
                                       oc_tensor_make(x, OC_DTYPE_F32, T, B, F, 1), NULL, true,
                                       oc_tensor_make(y, OC_DTYPE_F32, T, B, H, 1),
                                       oc_tensor_make(kept, OC_DTYPE_BYTES, (int64_t)reserve, 1, 1, 1)),
                     OC_ECONFIG);
    free(memory);
    free(kept);
    oc_backend_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(projections), cmocka_unit_test(training_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
