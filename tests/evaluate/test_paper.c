/* What is said of paper trades: the interval of a sum covers as often as it claims, and the page uses its words on the
 * right side of it, carries its stamps, escapes names, and refuses a journal that has changed. */
#include "base/cmocka_all.h"

#include <math.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/random.h"
#include "evaluate/metrics.h"
#include "evaluate/report.h"
#include "trade/journal.h"

static const char folder[] = "test_paper_run", page_path[] = "test_paper.html";

/* ---- the interval ---- */

enum { SAMPLES = 240, SERIES = 300 };

/* Neighbours hang together by `memory`; the mean of all is `mean`. */
static void series_make(double *x, uint64_t seed, double memory, double mean)
{
    uint32_t key = oc_random_key(seed, OC_RANDOM_TEST, 3, 0);
    double last = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        double z = -6;
        for (uint64_t k = 0; k < 12; k++) z += oc_random_uniform(key, 12 * i + k); /* nearly normal */
        last = memory * last + sqrt(1 - memory * memory) * z;
        x[i] = last + mean;
    }
}

/* How many intervals hold the true sum, and how many lie above 0. */
static size_t covered(double memory, double mean, size_t block, size_t *above)
{
    double x[SAMPLES];
    size_t count = 0;
    *above = 0;
    for (uint64_t s = 0; s < SERIES; s++) {
        oc_interval_of i;
        const oc_bootstrap_rule rule = {block, 400, 0.95, s};
        series_make(x, s, memory, mean);
        must(oc_bootstrap_sum(&i, x, SAMPLES, &rule));
        count += i.low <= mean * SAMPLES && mean * SAMPLES <= i.high;
        *above += i.low > 0;
        double sum = 0;
        for (size_t k = 0; k < SAMPLES; k++) sum += x[k];
        assert_true(fabs(i.value - sum) <= 1e-9 && i.low <= i.high);
    }
    return count;
}

static void interval_covers(void **state)
{
    size_t above, narrow;
    (void)state;
    size_t plain = covered(0, 0, 6, &above);
    assert_true(plain >= SERIES * 88 / 100 && plain <= SERIES * 99 / 100);
    assert_true(above <= SERIES * 6 / 100); /* 2.5 % and chance */
    size_t blocks = covered(0.8, 0, 24, &narrow), singles = covered(0.8, 0, 1, &narrow);
    assert_true(blocks >= SERIES * 82 / 100); /* what hangs together is drawn together … */
    assert_true(singles < SERIES * 70 / 100); /* … and the harness would see it if it were not */
    (void)covered(0, 0.5, 6, &above);
    assert_true(above >= SERIES * 99 / 100);
}

static void interval_refuses(void **state)
{
    const double x[3] = {1, (double)NAN, 2};
    oc_interval_of i;
    const oc_bootstrap_rule rules[] = {
        {0, 10, 0.95, 1}, {4, 10, 0.95, 1}, {1, 0, 0.95, 1}, {1, 10, 1, 1}, {1, 10, (double)NAN, 1}};
    (void)state;
    for (size_t r = 0; r < COUNT(rules); r++) must_fail(oc_bootstrap_sum(&i, x, 3, &rules[r]), OC_EDATA, "bootstrap");
    must_fail(oc_bootstrap_sum(&i, x, 3, &(oc_bootstrap_rule){1, 10, 0.95, 1}), OC_EDATA, "sample 1");
}

/* ---- the page ---- */

static void journal_make(char hash[OC_HASH_TEXT])
{
    char path[256];
    oc_journal *j;
    const oc_journal_start start = {.payload_bytes_max = 64, .epoch = 1};
    must(oc_path_make_folders(folder));
    must(oc_journal_path(path, sizeof path, folder, 0));
    unlink(path);
    must(oc_journal_create(&j, folder, &start));
    must(oc_journal_add(j, OC_JOURNAL_SNAPSHOT, "0123456789abcdef", 16));
    must(oc_journal_add(j, OC_JOURNAL_END, NULL, 0));
    oc_hash_text(oc_journal_hash(j), hash);
    must(oc_journal_close(j, false));
}

typedef struct said {
    bool shown, in_sample, known, trials;
    double low;
} said;

static void results_make(said s)
{
    char hash[OC_HASH_TEXT], path[256];
    journal_make(hash);
    json_t *r = json_pack(
        "{s:s, s:b, s:s, s:s, s:I, s:{s:s, s:b}, s:{s:I, s:I, s:I, s:I, s:I}, s:f, s:{s:s, s:I}, "
        "s:{s:s, s:I, s:f, s:b, s:[s,s]}, s:{s:I, s:I, s:[I,I,I], s:[I,I,I], s:[I,I,I]}}",
        "format", "outcry-backtest", "in_sample", s.in_sample, "provenance", s.known ? "known" : "provenance unknown",
        "journal_hash", hash, "pnl_micros", (json_int_t)123456789, "verdict", "text",
        s.shown ? "A profit after costs: it is." : "Nothing is shown.", "shown", s.shown, "pnl_interval_micros",
        "value", (json_int_t)123456789, "low", (json_int_t)(s.low * 1e6), "high", (json_int_t)200000000, "samples",
        (json_int_t)3, "block", (json_int_t)1, "profit_factor", 1.25, "predictor", "path", "a<b>&\"c\"", "joined",
        (json_int_t)3, "settings", "model.bundle", "<script>x</script>", "decision_delay_ns", (json_int_t)1000000,
        "policy.buy_threshold", 0.5, "venue.partial", 1, "data.events", "<i>", "e.events", "curve", "start_ns",
        (json_int_t)0, "step_ns", (json_int_t)1000000000, "equity_micros", (json_int_t)1, (json_int_t)-5000000,
        (json_int_t)3000000, "hold_micros", (json_int_t)1, (json_int_t)2, (json_int_t)3, "drawdown_micros",
        (json_int_t)0, (json_int_t)5000000, (json_int_t)2);
    assert_non_null(r);
    if (s.trials) (void)json_object_set_new(r, "trials", json_integer(17));
    must(oc_path_join(path, sizeof path, folder, "results.json"));
    must(oc_json_save(path, r));
    json_decref(r);
}

static char *page_of(said s)
{
    const char *input = folder;
    char *html;
    size_t bytes;
    results_make(s);
    must(oc_report_write(&input, 1, page_path));
    must(oc_file_read(page_path, 1 << 20, &html, &bytes));
    assert_null(strstr(html, ">nan"));
    assert_null(strstr(html, " nan"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<i>"));
    assert_null(strstr(html, "a<b>"));
    assert_non_null(strstr(html, "decision_delay_ns"));
    assert_non_null(strstr(html, "123.46"));
    assert_non_null(strstr(html, "<svg"));
    unlink(page_path);
    return html;
}

static bool has(const char *html, const char *word)
{
    return strcasestr(html, word) != NULL;
}

/* The word stands only where the results say so; every page of a run that may have seen its times says that. */
static void words_and_stamps(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++) {
        const said s = {.shown = i & 1, .in_sample = i & 2, .known = i & 4, .trials = i & 8, .low = i & 1 ? 5 : -5};
        char *html = page_of(s);
        assert_int_equal(has(html, "profit"), s.shown);
        assert_int_equal(has(html, "gains / losses"), true);
        assert_int_equal(has(html, "IN SAMPLE"), s.in_sample);
        assert_int_equal(has(html, "PROVENANCE UNKNOWN"), !s.known);
        assert_int_equal(has(html, "trials unknown"), !s.trials);
        oc_memory_free(html);
    }
}

static void changed_journal_is_refused(void **state)
{
    const char *input = folder;
    char path[256], *data;
    size_t bytes;
    (void)state;
    results_make((said){.known = true});
    must(oc_journal_path(path, sizeof path, folder, 0));
    must(oc_file_read(path, 1 << 20, &data, &bytes));
    for (size_t at = 0; at < bytes; at += 7) {
        data[at] ^= 1;
        must(oc_file_write(path, data, bytes));
        data[at] ^= 1;
        assert_int_not_equal(oc_report_write(&input, 1, "test_paper_no.html"), OC_OK);
    }
    must(oc_file_write(path, data, bytes - OC_JOURNAL_RECORD_BYTES)); /* whole records, but fewer */
    must_fail(oc_report_write(&input, 1, "test_paper_no.html"), OC_EDATA, "results.json was computed from");
    unlink(path);
    assert_int_not_equal(oc_report_write(&input, 1, "test_paper_no.html"), OC_OK);
    assert_false(oc_path_exists("test_paper_no.html"));
    oc_memory_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(interval_covers), cmocka_unit_test(interval_refuses),
                                       cmocka_unit_test(words_and_stamps),
                                       cmocka_unit_test(changed_journal_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
