/* test_math.c - the vector forms of exp, tanh and the logistic function have the bits of base/mathf, on every
 * instruction set, over every 1,021st float of all 2^32 (NaN: NaN), and at any length of the row. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>
#include "base/mathf.h"
#include "kernels/cpu/kernels_cpu.h"
#include "kernels/ops.h"

typedef struct function_row {
    const char *name;
    float (*scalar)(float);
    size_t field;
} function_row;
static const function_row functions[] = {
    {"exp", oc_expf, offsetof(oc_cpu_kernels, exp_row)},
    {"tanh", oc_tanhf, offsetof(oc_cpu_kernels, tanh_row)},
    {"sigmoid", oc_sigmoidf, offsetof(oc_cpu_kernels, sigmoid_row)},
};

static const struct {
    oc_isa isa;
    const oc_cpu_kernels *kernels;
} tables[] = {
    {OC_ISA_SCALAR, &oc_cpu_kernels_scalar},
#if defined(__x86_64__)
    {OC_ISA_AVX2, &oc_cpu_kernels_avx2},
    {OC_ISA_AVX512, &oc_cpu_kernels_avx512},
#endif
};

enum { ROW = 1021 }; /* odd: the last vector of a row is cut */

static size_t differences(const function_row *f, const oc_cpu_kernels *kernels, uint32_t stride, uint32_t flip)
{
    void (*row)(const float *, int, float *);
    float x[ROW], y[ROW];
    size_t wrong = 0;
    memcpy(&row, (const char *)kernels + f->field, sizeof row);
    for (uint64_t first = 0; first < UINT64_C(1) << 32; first += (uint64_t)ROW * stride) {
        for (uint32_t i = 0; i < ROW; i++) {
            const uint32_t bits = (uint32_t)(first + (uint64_t)i * stride);
            memcpy(&x[i], &bits, sizeof bits);
        }
        row(x, ROW, y);
        for (uint32_t i = 0; i < ROW; i++) {
            const float wanted = f->scalar(x[i]);
            uint32_t a, b;
            memcpy(&a, &wanted, sizeof a);
            memcpy(&b, &y[i], sizeof b);
            wrong += isnan(wanted) ? !isnan(y[i]) : a != (b ^ flip);
        }
    }
    return wrong;
}

static void bits_of_mathf(void **state)
{
    (void)state;
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
            if (!oc_isa_available(tables[t].isa)) {
                print_message("skipped: this machine has no %s\n", oc_isa_name(tables[t].isa));
                continue;
            }
            assert_int_equal(differences(&functions[i], tables[t].kernels, 1021, 0), 0);
            assert_true(differences(&functions[i], tables[t].kernels, 1021 * 64, 1) > 0); /* the harness sees one bit */
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bits_of_mathf)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
