/* test_product.c - the ordered product against the definition, a loop of fmaf over ascending k: equal bits on every
 * instruction set for odd sizes, either way round of a, packed panels, starts, chains split over calls; and the
 * transpose. Nothing past the ends of a row may be read as data or written: rims hold NaN and a mark. */
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

typedef struct product_row {
    int m, n, k;
    bool turned, panels, start, split;
} product_row;
static const product_row rows[] = {
    {1, 1, 1, false, false, false, false},  {6, 64, 40, false, true, true, false},
    {7, 65, 3, false, false, true, true},   {13, 100, 17, true, false, false, true},
    {5, 200, 64, true, true, true, true},   {100, 31, 9, false, true, false, false},
    {4, 47, 100, true, false, true, false}, {2, 15, 0, false, false, true, false},
    {3, 16, 33, false, false, false, true},
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
enum { TABLES = sizeof tables / sizeof tables[0], RIM = 3 };

static float *numbers(uint64_t stream, size_t count)
{
    float *x = malloc(count ? count * sizeof *x : 1); /* exact, so that the address sanitizer sees a read too far */
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(2 * oc_random_uniform(oc_random_key(11, OC_RANDOM_TEST, stream, 0), i) - 1);
    return x;
}

static float naive(const oc_product *p, int i, int j)
{
    float sum = p->start ? p->start[j] : 0.0f;
    for (int k = 0; k < p->k; k++)
        sum = fmaf(p->a[(size_t)i * p->a_row + (size_t)k * p->a_k],
                   p->b[(size_t)(j / OC_PANEL) * p->b_panel + (size_t)k * p->b_k + (size_t)(j % OC_PANEL)], sum);
    return sum;
}

static void product_run(const oc_cpu_kernels *kernels, const oc_product *p, bool split)
{
    oc_product first = *p, second = *p;
    first.k = split ? p->k / 3 : p->k;
    kernels->product(&first);
    if (!split) return;
    second.k = p->k - first.k;
    second.a += (size_t)first.k * p->a_k;
    second.b += (size_t)first.k * p->b_k;
    second.add = true;
    kernels->product(&second);
}

static size_t product_wrong(const product_row *row, const oc_cpu_kernels *kernels, bool fault)
{
    const size_t m = (size_t)row->m, n = (size_t)row->n, k = (size_t)row->k, panels = (n + OC_PANEL - 1) / OC_PANEL;
    float *a = numbers(1, m * k), *b = numbers(2, row->panels ? panels * k * OC_PANEL : k * n), *start = numbers(3, n);
    float *c = malloc(m * (n + RIM) * sizeof *c);
    size_t wrong = 0;
    for (size_t i = 0; i < m * (n + RIM); i++) c[i] = 12345.0f;
    const oc_product p = {.m = row->m,
                          .n = row->n,
                          .k = row->k,
                          .a = a,
                          .a_row = row->turned ? 1 : k,
                          .a_k = row->turned ? m : 1,
                          .b = b,
                          .b_k = row->panels ? OC_PANEL : n,
                          .b_panel = row->panels ? k * OC_PANEL : OC_PANEL,
                          .c = c,
                          .c_row = n + RIM,
                          .start = row->start ? start : NULL};
    product_run(kernels, &p, row->split);
    if (fault) c[(m - 1) * (n + RIM) + n - 1] += 1e-6f;
    for (int i = 0; i < row->m; i++)
        for (int j = 0; j < row->n + RIM; j++) {
            const float wanted = j < row->n ? naive(&p, i, j) : 12345.0f;
            wrong += memcmp(&wanted, &c[(size_t)i * (n + RIM) + (size_t)j], sizeof wanted) != 0;
        }
    free(a);
    free(b);
    free(c);
    free(start);
    return wrong;
}

static void products(void **state)
{
    (void)state;
    for (size_t t = 0; t < TABLES; t++) {
        if (!oc_isa_available(tables[t].isa)) {
            print_message("skipped: this machine has no %s\n", oc_isa_name(tables[t].isa));
            continue;
        }
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            assert_int_equal(product_wrong(&rows[i], tables[t].kernels, false), 0);
            assert_int_equal(product_wrong(&rows[i], tables[t].kernels, true), 1);
        }
    }
}

static void products_apart(void **state)
{
    static const int sizes[][3] = {{4, 16, 64}, {1, 7, 9}, {6, 33, 5}, {3, 8, 1}};
    (void)state;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0] && oc_isa_available(tables[t].isa); s++) {
            const int m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
            float *a = numbers(4, (size_t)(m * k)), *b = numbers(5, (size_t)(k * m * n)),
                  *start = numbers(6, (size_t)(m * n)), c[6 * 33];
            const oc_product p = {.m = m,
                                  .n = n,
                                  .k = k,
                                  .a = a,
                                  .a_row = (size_t)k,
                                  .a_k = 1,
                                  .b = b,
                                  .b_k = (size_t)(m * n),
                                  .b_panel = OC_PANEL,
                                  .c = c,
                                  .c_row = (size_t)n,
                                  .start = start,
                                  .apart = (size_t)n};
            tables[t].kernels->product_apart(&p);
            for (int i = 0; i < m; i++)
                for (int j = 0; j < n; j++) {
                    float sum = start[i * n + j];
                    for (int q = 0; q < k; q++) sum = fmaf(a[i * k + q], b[q * m * n + i * n + j], sum);
                    assert_memory_equal(&sum, &c[i * n + j], sizeof sum);
                }
            free(a);
            free(b);
            free(start);
        }
}

static void transposes(void **state)
{
    (void)state;
    for (size_t t = 0; t < TABLES; t++)
        for (int rows_count = 1; rows_count < 40 && oc_isa_available(tables[t].isa); rows_count += 3)
            for (int columns = 1; columns < 40; columns += 4) {
                float *x = numbers(7, (size_t)(rows_count * columns)), *y = numbers(8, (size_t)(rows_count * columns));
                tables[t].kernels->transpose(x, (size_t)columns, rows_count, columns, y, (size_t)rows_count);
                for (int i = 0; i < rows_count; i++)
                    for (int j = 0; j < columns; j++) assert_true(y[j * rows_count + i] == x[i * columns + j]);
                free(x);
                free(y);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(products), cmocka_unit_test(products_apart),
                                       cmocka_unit_test(transposes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
