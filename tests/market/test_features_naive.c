/* test_features_naive.c - every feature of the table against a second implementation that is written from the formula
 * over the whole list of rows, in doubles, with no running state (naive_rows.h makes the rows). Random streams of book
 * packets and of bars with gaps, sessions, silent spells, crossed and one-sided books. Values agree within 1e-8
 * relative + 1e-11 (measured worst: printed), and a value is missing in both or in neither. Returns are rounded to
 * 2^-40 on both sides: that is part of their definition. Catches a wrong formula, a wrong lag, a stale window. Proven
 * by windows that are one row longer, which must differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>
#include "market/features_internal.h"
#include "market/feature_stream.h"
#include "market/naive_features.h"

static naive_feature naive_of(const char *name)
{
    for (size_t i = 0; i < TABLE; i++)
        if (strcmp(table[i].name, name) == 0) return table[i].f;
    return NULL;
}

typedef struct tally { size_t compared, there, wrong; double worst; } tally;

/* `longer`: the naive side takes windows one row longer, the planted fault. */
static void compare(const oc_features *e, const oc_feature_row *row, const naive_stream *s, bool longer, tally *t)
{
    const naive_row *r = &s->rows[s->count - 1];
    for (size_t f = 0; f < e->width; f++) {
        const oc_feature_column *c = &e->columns[f];
        uint32_t p[OC_FEATURE_PARAMETERS];
        memcpy(p, c->p, sizeof p);
        p[0] += longer;
        at a = {s->rows, s->count - 1, s->count - r->start, p, c};
        double expected = r->crossed ? NONE : naive_of(c->def->name)(&a), value = oc_features_value(e, f);
        bool is = !(row->mask[f / 64] >> (f % 64) & 1u), should = isfinite(expected);
        double error = fabs(value - expected) / (fabs(expected) + 1e-3);
        t[f].compared++;
        t[f].there += is && should;
        bool right = is == should && (!is || error <= 1e-8);
        if (is && should) t[f].worst = fmax(t[f].worst, error);
        if (!right && t[f].wrong++ == 0 && !longer)
            print_error("%s, row %zu of %zu: engine %.12g (%s), naive %.12g\n", c->info->name, s->count - 1, r->start,
                        value, is ? "there" : "missing", expected);
    }
}

static void run(const char *sample, bool bars, size_t events, bool longer, tally *t, size_t *width)
{
    static const char *const all[] = {"all"};
    const oc_feature_spec spec = {.features = all, .feature_count = 1, .sample = sample, .row_ns = 1500000};
    feature_stream stream;
    stream_init(&stream, 7, bars, false);
    naive_stream s[2];
    memset(s, 0, sizeof s);
    for (int i = 0; i < 2; i++) {
        s[i].rows = calloc(events, sizeof *s[i].rows);
        assert_non_null(s[i].rows);
        s[i].other_price = NONE;
    }
    oc_features *e = NULL;
    if (oc_features_open(&e, &spec, stream_universe, 2) != OC_OK) fail_msg("%s", oc_status_message());
    oc_features_begin(e);
    for (size_t i = 0; i < events; i++) {
        oc_event ev = stream_next(&stream);
        const oc_feature_row *row;
        assert_int_equal(oc_features_apply(e, &ev, &row), OC_OK);
        naive_row *r = naive_apply(s, &ev);
        assert_int_equal(row != NULL, r != NULL);
        if (row) compare(e, row, &s[ev.instrument], longer, t);
    }
    *width = e->width;
    for (size_t f = 0; f < e->width && !longer; f++) {
        if (t[f].wrong)
            print_error("%s: %s wrong in %zu of %zu\n", sample, e->columns[f].info->name, t[f].wrong, t[f].compared);
    }
    oc_features_close(e);
    free(s[0].rows);
    free(s[1].rows);
}

static void agreement(const char *sample, bool bars, size_t events)
{
    tally t[OC_FEATURES_MAX];
    memset(t, 0, sizeof t);
    size_t width, wrong = 0, compared = 0, there = 0;
    double worst = 0;
    run(sample, bars, events, false, t, &width);
    for (size_t f = 0; f < width; f++) {
        wrong += t[f].wrong;
        compared += t[f].compared;
        there += t[f].there > 0;
        worst = fmax(worst, t[f].worst);
    }
    print_message("%s: %zu features (%zu ever there), %zu values compared, worst %.2g, %zu wrong\n", sample, width,
                  there, compared, worst, wrong);
    assert_int_equal(wrong, 0);
    assert_true(compared > 100000 && there + 4 >= width);
}

static void bars(void **state)
{
    (void)state;
    agreement("bar", true, 6000);
}

static void packets(void **state)
{
    (void)state;
    agreement("packet", false, 40000);
}

static void all_are_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < oc_features_table_count(); i++)
        if (!naive_of(oc_features_table_name(i)))
            fail_msg("%s has no second implementation", oc_features_table_name(i));
    assert_int_equal(TABLE, oc_features_table_count());
}

static void longer_windows_are_found(void **state)
{
    (void)state;
    static tally t[OC_FEATURES_MAX];
    size_t width, found = 0;
    run("bar", true, 3000, true, t, &width);
    for (size_t f = 0; f < width; f++) found += t[f].wrong > 0;
    print_message("a row more: %zu of %zu features differ\n", found, width);
    assert_true(found >= 60);                /* those with a window */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_are_there), cmocka_unit_test(bars),
                                       cmocka_unit_test(packets), cmocka_unit_test(longer_windows_are_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
