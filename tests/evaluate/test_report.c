/* A page must be well-formed whatever the names in it are, hold no script, and refuse predictions that have changed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/text.h"
#include "evaluate/report.h"
#include "evaluate/svg.h"

static const char FOLDER[] = "test_report_result";

/* Every element that is opened is closed, in order; attributes hold no raw '<'. */
static bool well_formed(const char *html)
{
    static const char *const empty[] = {"meta", "line", "rect", "circle", "polyline", "!doctype", "br"};
    char stack[64][16];
    int depth = 0;
    for (const char *c = strchr(html, '<'); c; c = strchr(c + 1, '<')) {
        char name[16] = "";
        bool closing = c[1] == '/';
        size_t length = strcspn(c + 1 + closing, " >/\n");
        if (length >= sizeof name || !strchr(c, '>')) return false;
        memcpy(name, c + 1 + closing, length);
        bool alone = false;
        for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) alone = alone || strcmp(name, empty[i]) == 0;
        if (alone) continue;
        if (!closing && depth < 64)
            memcpy(stack[depth++], name, sizeof name);
        else if (!closing || depth == 0 || strcmp(stack[--depth], name) != 0)
            return false;
    }
    return depth == 0;
}

static void write_result(const char *model_name)
{
    char path[256], text[OC_HASH_TEXT];
    assert_int_equal(oc_path_make_folders(FOLDER), OC_OK);
    snprintf(path, sizeof path, "%s/predictions.h5", FOLDER);
    assert_int_equal(oc_file_write(path, "answers", 7), OC_OK);
    oc_hash_text(oc_hash_bytes("answers", 7), text);
    json_t *m = json_pack("{s:s, s:s, s:s, s:{s:s}, s:{s:s}, s:[{s:s, s:f, s:[[i,i,i],[i,i,i],[i,i,i]], s:[f,f,f], "
                          "s:[f,f,f], s:{s:s, s:b}, s:[]}]}",
                          "format", "outcry-metrics", "predictions_hash", text, "split", "te<u>st", "model", "name",
                          model_name, "data", "file", "d<i>.h5", "horizons", "label", "direction:1:<b>", "brier", 0.5,
                          "confusion", 1, 2, 3, 4, 5, 6, 7, 8, 9, "precision", 0.1, 0.2, 0.3, "recall", 0.1, 0.2, 0.3,
                          "verdict", "text", "No skill & <nothing>", "skill_shown", 0, "baselines");
    assert_non_null(m);
    snprintf(path, sizeof path, "%s/metrics.json", FOLDER);
    assert_int_equal(oc_json_save(path, m), OC_OK);
    json_decref(m);
}

static void page_is_well_formed_and_escaped(void **state)
{
    (void)state;
    const char *input = FOLDER;
    char *html = NULL;
    size_t bytes;
    write_result("<script>alert(1)</script>&\"'");
    assert_int_equal(oc_report_write(&input, 1, "test_report.html"), OC_OK);
    assert_int_equal(oc_file_read("test_report.html", 1 << 20, &html, &bytes), OC_OK);
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<u>"));
    assert_null(strstr(html, "<i>"));
    assert_null(strstr(html, "<b>"));
    assert_null(strstr(html, ">nan")); /* absent figures are dashes */
    assert_null(strstr(html, " nan"));
    assert_non_null(strstr(html, "&lt;script&gt;"));
    assert_non_null(strstr(html, "No skill &amp; &lt;nothing&gt;"));
    assert_non_null(strstr(html, "trials unknown"));
    assert_true(well_formed(html));
    char *cut = strstr(html, "</table>"); /* planted: one element left open */
    assert_non_null(cut);
    memset(cut, ' ', 8);
    assert_false(well_formed(html));
    oc_memory_free(html);
    assert_true(oc_path_exists("test_report.json"));
    unlink("test_report.html");
    unlink("test_report.json");
}

static void changed_predictions_are_refused(void **state)
{
    (void)state;
    const char *input = FOLDER;
    char path[256];
    write_result("m");
    snprintf(path, sizeof path, "%s/predictions.h5", FOLDER);
    assert_int_equal(oc_file_write(path, "Answers", 7), OC_OK);
    assert_int_equal(oc_report_write(&input, 1, "test_report_no.html"), OC_EDATA);
    assert_false(oc_path_exists("test_report_no.html"));
}

static void charts_take_anything(void **state)
{
    (void)state;
    const double none = (double)NAN, x[4] = {0, 1, 2, 3},
                 ys[][4] = {{none, none, none, none},  {1, 1, 1, 1},           {0, HUGE_VAL, -HUGE_VAL, 5},
                            {1e300, -1e300, 0, 1}, {1e-300, 2e-300, 0, 0}, {1e16, 1e16 + 2, 1e16, 1e16}};
    for (size_t i = 0; i < sizeof ys / sizeof *ys; i++) {
        oc_text t = {0};
        oc_svg_chart c = {.title = "t<",
                          .x_label = "x&",
                          .y_label = "y",
                          .x_min = 1,
                          .y_min = 1,
                          .y_zero = true,
                          .series_count = 1,
                          .series = {{.name = "n",
                                      .x = x,
                                      .y = ys[i],
                                      .low = ys[i],
                                      .high = ys[i],
                                      .count = 4,
                                      .line = true,
                                      .dots = true}}};
        oc_svg_draw(&t, &c);
        assert_int_equal(oc_text_finish(&t, "chart"), OC_OK);
        assert_null(strstr(t.data, "nan"));
        assert_null(strstr(t.data, "inf"));
        assert_true(well_formed(t.data) && t.bytes < 20000);
        oc_text_free(&t);
    }
}

/* Page and JSON are one pair: where the second cannot be written, the first stays the old one. */
static void a_pair_or_nothing(void **state)
{
    (void)state;
    const char *input = FOLDER;
    char *before, *after;
    size_t bytes[2];
    write_result("first");
    assert_int_equal(oc_report_write(&input, 1, "test_pair.html"), OC_OK);
    assert_int_equal(oc_file_read("test_pair.html", 1 << 20, &before, &bytes[0]), OC_OK);
    assert_int_equal(unlink("test_pair.json"), 0);
    assert_int_equal(oc_path_make_folders("test_pair.json"), OC_OK);   /* in the way */
    write_result("second");
    assert_int_equal(oc_report_write(&input, 1, "test_pair.html"), OC_EFAILED);
    assert_int_equal(oc_file_read("test_pair.html", 1 << 20, &after, &bytes[1]), OC_OK);
    assert_string_equal(before, after);
    assert_int_equal(rmdir("test_pair.json"), 0);
    assert_int_equal(unlink("test_pair.html"), 0);
    oc_memory_free(before);
    oc_memory_free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(page_is_well_formed_and_escaped),
                                       cmocka_unit_test(changed_predictions_are_refused),
                                       cmocka_unit_test(a_pair_or_nothing),
                                       cmocka_unit_test(charts_take_anything)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
