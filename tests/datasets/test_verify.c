/* test_verify.c - `verify` finds nothing in an honest dataset and finds each of three planted faults, through the code
 * that users run (row_engine.h): a feature that looks one row ahead, one that remembers longer than it declares, and a
 * label that looks past its known_ns. Then a value changed under right hashes, and event files that are absent or
 * others. Real data (LOBSTER GOOG, EURUSD M1) where ../shared/data or OUTCRY_DATA has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "datasets/row_engine.h"
#include "market/import.h"
#include "market/simulate.h"

static const char events[] = "test_datasets_verify.events", truth[] = "test_datasets_verify.truth",
                  path[] = "test_datasets_verify.h5";
static const char book_config[] = OC_TEST_SOURCE_DIR "/configs/build-book.yaml",
                  bars_config[] = OC_TEST_SOURCE_DIR "/configs/build-bars.yaml";

static void good(oc_status status)
{
    if (status != OC_OK) fail_msg("%s", oc_status_message());
}

static void build(const char *config_path, const oc_row_engine *rows, const char *const *sets, size_t count)
{
    oc_config *c;
    oc_build_result r;
    good(oc_config_open(&c, config_path, oc_build_keys, oc_build_key_count, sets, count));
    good(oc_dataset_build_with(c, path, rows, &r));
    assert_true(r.rows > 1000);
    oc_config_close(c);
}

static oc_verify_result verify(const oc_row_engine *rows, uint64_t least)
{
    const oc_verify_options o = {.seed = 5, .rows_least = least};
    oc_verify_result r;
    good(oc_dataset_verify_with(path, &o, rows, &r));
    return r;
}

static void simulate(void)
{
    const oc_simulate_options o = {
        .events = 30000, .seed = 3, .levels = 10, .horizon = 12, .signal = 0.5, .threshold = 0.0003};
    oc_simulate_result r;
    good(oc_simulate(events, truth, &o, &r));
}

static const char *const book_sets[] = {
    "data.events=test_datasets_verify.events",
    "labels=direction:12:0.0003,smooth:10:0.0002,cost:5:0.0001,direction:2s:0.0003"};

static void honest(void **state)
{
    (void)state;
    build(book_config, &oc_row_engine_standard, book_sets, 2);
    oc_verify_result r = verify(&oc_row_engine_standard, 500);
    if (r.first_difference[0]) fail_msg("%s", r.first_difference);
    assert_int_equal(r.rows_different, 0);
    assert_int_equal(r.labels_different, 0);
    assert_true(r.rows_checked >= 500 && r.labels_checked == 4 * r.rows_checked);
    assert_true(r.longest_history > 10 && r.rows_rebuilt > 5000);
}

/* ---- planted faults: the standard engine with one thing changed ---------------------------------------------------
 */

typedef struct planted {
    oc_features *e;
    float x[OC_FEATURES_MAX], held[OC_FEATURES_MAX];
    uint64_t mask[4], held_mask[4];
    oc_feature_row row, held_row;
    bool holding;
    double sum, count;
} planted;

static oc_status planted_open(void *context, void **engine, const oc_feature_spec *spec, const oc_instrument *universe,
                              size_t n)
{
    planted *p;
    (void)context;
    OC_TRY(oc_memory_new(&p, sizeof *p, "planted"));
    *engine = p;
    return oc_features_open(&p->e, spec, universe, n);
}

static void planted_close(void *engine)
{
    oc_features_close(((planted *)engine)->e);
    oc_memory_free(engine);
}

static void planted_reset(void *engine)
{
    planted *p = engine;
    oc_features_reset(p->e);
    p->holding = false;
    p->sum = p->count = 0.0;
}

static void planted_begin(void *engine) { oc_features_begin(((planted *)engine)->e); }
static oc_features *planted_features(void *engine) { return ((planted *)engine)->e; }

static void planted_history(void *engine, uint32_t *rows, int64_t *ns)
{
    *rows = oc_features_history_events(((planted *)engine)->e);
    *ns = oc_features_history_ns(((planted *)engine)->e);
}

/* Column 0 is the mean of itself over everything since the start: a memory longer than any declared history. */
static oc_status memory_apply(void *engine, const oc_event *event, const oc_feature_row **row)
{
    planted *p = engine;
    OC_TRY(oc_features_apply(p->e, event, row));
    if (!*row) return OC_OK;
    memcpy(p->x, (*row)->x, oc_features_width(p->e) * sizeof *p->x);
    p->sum += (double)p->x[0];
    p->x[0] = (float)(p->sum / ++p->count);
    p->row = **row;
    p->row.x = p->x;
    *row = &p->row;
    return OC_OK;
}

/* Column 0 is that of the next row: a row can be given out only when the next one is there. */
static oc_status ahead_apply(void *engine, const oc_event *event, const oc_feature_row **row)
{
    planted *p = engine;
    const oc_feature_row *made;
    size_t width = oc_features_width(p->e);
    *row = NULL;
    OC_TRY(oc_features_apply(p->e, event, &made));
    if (!made) return OC_OK;
    if (p->holding) {
        p->row = p->held_row;
        memcpy(p->x, p->held, sizeof p->x);
        memcpy(p->mask, p->held_mask, sizeof p->mask);
        p->x[0] = made->x[0];
        p->row.x = p->x;
        p->row.mask = p->mask;
        *row = &p->row;
    }
    p->held_row = *made;
    memcpy(p->held, made->x, width * sizeof *p->held);
    memcpy(p->held_mask, made->mask, (width + 63) / 64 * sizeof *p->held_mask);
    p->holding = true;
    return OC_OK;
}

/* The return is that of one row later than known_ns says. */
static oc_status label_ahead(void *context, const oc_label_rule *rule, const oc_label_series *s, size_t first,
                             size_t last, oc_label_columns *out)
{
    (void)context;
    OC_TRY(oc_label_compute(rule, s, first, last, out));
    for (size_t i = 0; rule->horizon_rows && i < last - first; i++) {
        size_t later = first + i + (size_t)rule->horizon_rows + 1;
        if (out->valid[i] && later < s->rows) out->return_[i] = (float)(s->mid[later] / s->mid[first + i] - 1.0);
    }
    return OC_OK;
}

static oc_row_engine planted_engine(oc_status (*apply)(void *, const oc_event *, const oc_feature_row **))
{
    return (oc_row_engine){NULL,
                           planted_open,
                           planted_close,
                           planted_reset,
                           planted_begin,
                           planted_features,
                           planted_history,
                           apply,
                           oc_row_engine_standard.label};
}

static void look_ahead_found(void **state)
{
    const oc_row_engine rows = planted_engine(ahead_apply);
    (void)state;
    build(book_config, &rows, book_sets, 1);
    oc_verify_result r = verify(&rows, 500);
    print_message("look-ahead: %llu of %llu rows differ; %s\n", (unsigned long long)r.rows_different,
                  (unsigned long long)r.rows_checked, r.first_difference);
    assert_true(r.rows_different > r.rows_checked / 2);
    assert_non_null(strstr(r.first_difference, "late start"));   /* a rebuild alone would agree: it looks ahead too */
    assert_int_equal(r.labels_different, 0);
}

static void long_memory_found(void **state)
{
    const oc_row_engine rows = planted_engine(memory_apply);
    (void)state;
    build(book_config, &rows, book_sets, 1);
    oc_verify_result r = verify(&rows, 500);
    print_message("memory: %llu of %llu rows differ; %s\n", (unsigned long long)r.rows_different,
                  (unsigned long long)r.rows_checked, r.first_difference);
    assert_true(r.rows_different > r.rows_checked * 9 / 10);
    assert_non_null(strstr(r.first_difference, "late start"));
}

static void label_ahead_found(void **state)
{
    oc_row_engine rows = oc_row_engine_standard;
    (void)state;
    rows.label = label_ahead;
    build(book_config, &rows, book_sets, 1);
    oc_verify_result r = verify(&rows, 500);
    print_message("label: %llu of %llu labels differ\n", (unsigned long long)r.labels_different,
                  (unsigned long long)r.labels_checked);
    assert_int_equal(r.rows_different, 0);
    assert_true(r.labels_different > r.labels_checked * 9 / 10);
}

/* A dataset of the faulty engine does not pass under the honest one either: every row is rebuilt. */
static void other_engine_found(void **state)
{
    const oc_row_engine rows = planted_engine(memory_apply);
    (void)state;
    build(book_config, &rows, book_sets, 1);
    assert_true(verify(&oc_row_engine_standard, 10).rows_different > 5000);
}

static void events_absent_or_others(void **state)
{
    const oc_verify_options o = {.seed = 5};
    const char *const wrong[] = {"no-such.events"};
    const oc_verify_options elsewhere = {.seed = 5, .events = wrong, .event_count = 1};
    oc_verify_result r;
    (void)state;
    build(book_config, &oc_row_engine_standard, book_sets, 1);
    assert_int_equal(oc_dataset_verify(path, &elsewhere, &r), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "--hashes-only"));
    const oc_simulate_options other = {
        .events = 30000, .seed = 4, .levels = 10, .horizon = 12, .signal = 0.5, .threshold = 0.0003};
    oc_simulate_result s;
    good(oc_simulate(events, truth, &other, &s));
    assert_int_equal(oc_dataset_verify(path, &o, &r), OC_EDATA);
    assert_non_null(strstr(oc_status_message(), "another content hash"));
    simulate();
}

/* ---- real data ----------------------------------------------------------------------------------------------------
 */

static void real(const char *format, const char *symbol, const char *file, const char *config, const char *const *sets,
                 size_t count, bool bars)
{
    static oc_import_report report;
    const char *folder = getenv("OUTCRY_DATA");
    char input[4096];
    oc_import_options o;
    snprintf(input, sizeof input, "%s/%s", folder ? folder : OC_TEST_SOURCE_DIR "/../shared/data", file);
    if (!oc_path_exists(input)) {
        print_message("skipped: no %s\n", input);
        skip();
    }
    oc_import_options_init(&o);
    o.format = format;
    o.symbol = symbol;
    if (bars) {
        o.bar = "1m";
        o.stamp = "start";
        o.timezone = "UTC";
    }
    oc_import_input in = {.name = input};
    oc_progress progress = {0};
    good(oc_import_run(&o, &in, 1, events, &report, &progress));
    build(config, &oc_row_engine_standard, sets, count);
    oc_verify_result r = verify(&oc_row_engine_standard, 2000);
    print_message(
        "%s: %llu rows checked, %llu different; %llu labels different; %llu breaks; longest history %u rows, %.0f s\n",
        symbol, (unsigned long long)r.rows_checked, (unsigned long long)r.rows_different,
        (unsigned long long)r.labels_different, (unsigned long long)r.breaks, r.longest_history,
        (double)r.longest_history_ns / 1e9);
    if (r.first_difference[0]) fail_msg("%s", r.first_difference);
    assert_true(r.rows_checked >= 2000);
}

static void goog(void **state)
{
    static const char *const sets[] = {"data.events=test_datasets_verify.events",
                                       "labels=direction:12:0.0003,direction:1s:0.0001"};
    (void)state;
    real("lobster", "GOOG", "lobster-nasdaq-2012-06-21/GOOG_2012-06-21_34200000_57600000_message_10.csv.xz",
         book_config, sets, 2, false);
}

static void eurusd(void **state)
{
    static const char *const sets[] = {"data.events=test_datasets_verify.events", "row_ns=84000000000",
                                       "labels=direction:6:0.0001"};
    (void)state;
    real("metatrader", "EURUSD", "fx-minute/EURUSD_M1_2020-04-27_2020-06-14.tsv.xz", bars_config, sets, 3, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(honest),
                                       cmocka_unit_test(look_ahead_found),
                                       cmocka_unit_test(long_memory_found),
                                       cmocka_unit_test(label_ahead_found),
                                       cmocka_unit_test(other_engine_found),
                                       cmocka_unit_test(events_absent_or_others),
                                       cmocka_unit_test(goog),
                                       cmocka_unit_test(eurusd)};
    oc_progress_set_quiet(true);
    simulate();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(events);
    unlink(truth);
    unlink(path);
    return failed;
}
