/* test_features_talib.c - parity with TA-Lib on a simulated series (tests/golden/features_talib.csv, made by the script
 * beside it). Two runs. "Start": the accumulators begin with row 0, as TA-Lib's do: within 1e-9 of the f64 value.
 * "Rolling": short periods, so the value comes from accumulators that began later, each just past its declared minimum
 * when it is read: within 1e-6 of TA-Lib over the full history. Errors are relative to the larger of the value and a
 * hundredth of the column's mean size, since differences cross zero. Measured: printed; worst 3e-11 and 1.3e-7.
 * The harness is proven by one golden column against the wrong feature, which must fail. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "market/features_internal.h"

enum { ROWS = 900, COLUMNS = 64, LINE = 8192, SERIES = 5 };

typedef struct golden {
    int64_t bar[ROWS][SERIES];
    char name[COLUMNS][64];
    double value[COLUMNS][ROWS];             /* NaN: no value in the file */
    double size[COLUMNS];
    size_t count;
} golden;

static golden g;

/* Cuts the line at semicolons; returns the number of cells. */
static size_t cells_of(char *line, char *cell[SERIES + COLUMNS])
{
    size_t count = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *at = line; at && count < SERIES + COLUMNS;) {
        cell[count++] = at;
        at = strchr(at, ';');
        if (at) *at++ = '\0';
    }
    return count;
}

static int load(void **state)
{
    (void)state;
    static char line[LINE];
    char *cell[SERIES + COLUMNS];
    FILE *f = fopen(OC_TEST_SOURCE_DIR "/tests/golden/features_talib.csv", "r");
    if (!f || !fgets(line, LINE, f) || line[0] != '#' || !fgets(line, LINE, f)) return -1;
    size_t width = cells_of(line, cell), seen[COLUMNS] = {0};
    g.count = width - SERIES;
    for (size_t i = 0; i < g.count; i++) snprintf(g.name[i], sizeof g.name[i], "%s", cell[SERIES + i]);
    for (size_t r = 0; r < ROWS; r++) {
        if (!fgets(line, LINE, f)) return -1;
        size_t count = cells_of(line, cell);
        if (count != width && count != SERIES) return -1;
        for (size_t i = 0; i < SERIES; i++) g.bar[r][i] = strtoll(cell[i], NULL, 10);
        for (size_t i = 0; i < g.count; i++) {
            bool there = count == width && cell[SERIES + i][0] != '\0';
            g.value[i][r] = there ? strtod(cell[SERIES + i], NULL) : (double)NAN;
            g.size[i] += there ? fabs(g.value[i][r]) : 0.0;
            seen[i] += there;
        }
    }
    fclose(f);
    for (size_t i = 0; i < g.count; i++) g.size[i] /= (double)seen[i];
    return 0;
}

/* Largest relative error per column; `compared` counts values. `shift` compares each column with the next one. */
static void run(int64_t row_ns, size_t shift, double worst[COLUMNS], size_t compared[COLUMNS])
{
    static const oc_instrument universe = {
        .symbol = "X", .tick = {1, -5, 0}, .lot = {1, 0, 0}, .order_tick = {1, -5, 0}};
    const char *names[COLUMNS];
    for (size_t i = 0; i < g.count; i++) names[i] = g.name[i];
    oc_feature_spec spec = {.features = names, .feature_count = g.count, .sample = "bar", .row_ns = row_ns};
    oc_features *e = NULL;
    if (oc_features_open(&e, &spec, &universe, 1) != OC_OK) fail_msg("%s", oc_status_message());
    oc_features_begin(e);
    for (int64_t r = 0; r < ROWS; r++) {
        oc_event ev = {.receive_ns = r * 60000000000, .kind = OC_EVENT_BAR, .flags = OC_EVENT_LAST};
        ev.as.bar.open_ticks = g.bar[r][0];
        ev.as.bar.high_ticks = g.bar[r][1];
        ev.as.bar.low_ticks = g.bar[r][2];
        ev.as.bar.close_ticks = g.bar[r][3];
        ev.as.bar.volume_lots = g.bar[r][4];
        const oc_feature_row *row;
        assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
        assert_non_null(row);
        for (size_t i = 0; i < g.count; i++) {
            double expected = g.value[(i + shift) % g.count][r];
            if (isnan(expected) || (row->mask[i / 64] >> (i % 64) & 1u)) continue;
            double error =
                fabs(oc_features_value(e, i) - expected) / fmax(fabs(expected), 0.01 * g.size[(i + shift) % g.count]);
            if (!(error <= worst[i])) worst[i] = error;
            compared[i]++;
        }
    }
    oc_features_close(e);
}

static void check(const char *what, int64_t row_ns, double bound, size_t least)
{
    double worst[COLUMNS] = {0}, all = 0.0;
    size_t compared[COLUMNS] = {0};
    run(row_ns, 0, worst, compared);
    for (size_t i = 0; i < g.count; i++) {
        if (!(worst[i] <= bound) || compared[i] < least)
            fail_msg("%s: %s differs by %g in %zu values (bound %g)", what, g.name[i], worst[i], compared[i], bound);
        all = fmax(all, worst[i]);
    }
    print_message("%s: %zu features, worst relative error %.2g (bound %g)\n", what, g.count, all, bound);
}

static void from_the_start(void **state)
{
    (void)state;
    check("start", INT64_C(86400000000000), 1e-9, 80);
}

static void rolling(void **state)
{
    (void)state;
    check("rolling", INT64_C(30000000000), 1e-6, 80);
}

static void wrong_column_is_found(void **state)
{
    (void)state;
    double worst[COLUMNS] = {0};
    size_t compared[COLUMNS] = {0};
    run(60000000000, 1, worst, compared);
    for (size_t i = 0; i < g.count; i++) assert_false(worst[i] <= 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_start), cmocka_unit_test(rolling), cmocka_unit_test(wrong_column_is_found)};
    return cmocka_run_group_tests(tests, load, NULL);
}
