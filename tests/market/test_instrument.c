/* test_instrument.c - decimals against values worked out by hand. Would catch: a rounding through double, a lost zero,
 * an overflow taken for a number, "nan" taken for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "market/instrument.h"

typedef struct count_case { const char *text, *unit; int ok; int64_t count; } count_case;

static const count_case counts[] = {
    {"1.08418", "0.00001", 1, 108418},
    {"0.30000000000000000", "0.1", 1, 3},
    {"5853300", "0.0001", 1, INT64_C(58533000000)},
    {"61837.63000000", "0.01", 1, 6183763},
    {"1e-8", "0.00000001", 1, 1},
    {"2.5E3", "0.25", 1, 10000},
    {"100", "25", 1, 4},
    {"-3.25", "0.25", 1, -13},
    {"+7", "1", 1, 7},
    {"0", "0.0001", 1, 0},
    {"0.000", "25", 1, 0},
    {".5", "0.5", 1, 1},
    {"5.", "5", 1, 1},
    {"000123", "1", 1, 123},
    {"129587.00000000001", "1", 0, 0},
    {"1.084185", "0.00001", 0, 0},
    {"26", "25", 0, 0},
    {"999999999999999999", "1", 1, INT64_C(999999999999999999)},
    {"1234567890123456789", "1", 0, 0},   /* 19 digits */
    {"999999999999999999", "1e-9", 0, 0}, /* over int64 */
    {"1e300", "1", 0, 0},
    {"1e-300", "1", 0, 0},
    {"nan", "1", 0, 0},
    {"inf", "1", 0, 0},
    {"", "1", 0, 0},
    {"-", "1", 0, 0},
    {".", "1", 0, 0},
    {"1.2.3", "1", 0, 0},
    {"1e", "1", 0, 0},
    {"1e+", "1", 0, 0},
    {"1e9999", "1", 0, 0},
    {"1,5", "0.5", 0, 0},
    {" 1", "1", 0, 0},
    {"1 ", "1", 0, 0},
    {"0x10", "1", 0, 0},
    {"--1", "1", 0, 0},
    {"1e-8x", "1e-8", 0, 0},
};

static void counts_are_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        oc_decimal unit;
        int64_t count = -77;
        assert_true(oc_decimal_parse(counts[i].unit, &unit));
        int ok = oc_decimal_count(counts[i].text, (uint32_t)strlen(counts[i].text), unit, &count);
        if (ok != counts[i].ok || (ok && count != counts[i].count))
            fail_msg("\"%s\" in units of %s: %d, %lld", counts[i].text, counts[i].unit, ok, (long long)count);
    }
}

static void only_positive_units(void **state)
{
    (void)state;
    const char *const refused[] = {"0", "-1", "", "abc", "nan", "1e19", "1e-19", "0.0", "1234567890123456789",
                                   "0.00000000000000000000000000000000000000000000000000000000000000001"};
    oc_decimal d;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) assert_false(oc_decimal_parse(refused[i], &d));
    assert_true(oc_decimal_parse("0.0001", &d));
    assert_true(d.mantissa == 1 && d.exponent == -4);
    assert_true(oc_decimal_parse("25", &d));
    assert_true(d.mantissa == 25 && d.exponent == 0);
    assert_true(oc_decimal_value(d) >= 25.0 && oc_decimal_value(d) <= 25.0);
}

static void text_and_back(void **state)
{
    (void)state;
    const char *const texts[] = {"0.0001",     "25",  "100", "0.25", "1.5", "-3.125", "0", "123456789012345678",
                                 "0.00000001", "2500"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        oc_decimal d;
        char text[OC_DECIMAL_TEXT];
        assert_true(oc_decimal_read(texts[i], (uint32_t)strlen(texts[i]), &d));
        assert_true(oc_decimal_text(d, text, sizeof text));
        assert_string_equal(text, texts[i]);
    }
}

static void unsound_instruments(void **state)
{
    (void)state;
    oc_instrument good = {.symbol = "EURUSD", .tick = {1, -5, 0}, .lot = {1, 0, 0}, .order_tick = {5, -5, 0}}, bad;
    assert_null(oc_instrument_problem(&good));
    bad = good, bad.symbol[0] = '\0';
    assert_non_null(oc_instrument_problem(&bad));
    bad = good, memset(bad.symbol, 'A', sizeof bad.symbol);
    assert_non_null(oc_instrument_problem(&bad));
    bad = good, bad.symbol[2] = '/';
    assert_non_null(oc_instrument_problem(&bad));
    bad = good, bad.order_tick.mantissa = 1, bad.tick.mantissa = 2;
    assert_non_null(oc_instrument_problem(&bad));
    bad = good, bad.lot.mantissa = 0;
    assert_non_null(oc_instrument_problem(&bad));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_exact),
        cmocka_unit_test(only_positive_units),
        cmocka_unit_test(text_and_back),
        cmocka_unit_test(unsound_instruments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
