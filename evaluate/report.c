/* report.c - the page: opens inputs, checks them, writes head, sections, foot. The sections of one result are in
 * report_result.c, those of a study in report_study.c, those of a backtest in report_backtest.c. */
#include "evaluate/report.h"

#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "evaluate/report_parts.h"

enum { INPUT_BYTES_MAX = 256 << 20 };

const char oc_report_style[] =
    ":root{--ink:#1b1f24;--soft:#5c6672;--line:#d5dae0;--back:#fff;--card:#f6f8fa;--c0:#0b62c4;--c1:#c2410c;--c2:#"
    "15803d;--c3:#7e22ce;--c4:#a16207;--c5:#0f766e}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#a0a9b4;--line:#39414b;--back:#14181d;--card:#1c2229;"
    "--c0:#6cb0ff;--c1:#ff9a62;--c2:#5fd08a;--c3:#cf9dff;--c4:#e6bd55;--c5:#4fd0c4}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:74rem;margin:0 "
    "auto;padding:1.2rem}"
    "h1{font-size:1.6rem;margin:.2rem 0}h2{margin-top:2.2rem;border-bottom:1px solid var(--line)}h3{margin:1.4rem 0 "
    ".3rem}"
    ".verdict{font-size:1.15rem;background:var(--card);border-left:5px solid var(--c1);padding:.7rem 1rem;margin:1rem "
    "0}"
    ".verdict.good{border-color:var(--c2)}.soft{color:var(--soft)}td .soft{display:block;font-size:.8rem}"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));gap:1rem}"
    ".grid2>*{min-width:0;overflow-x:auto}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;margin:.6rem 0}th,td{padding:.25rem "
    ".7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}td.heat{background:color-mix(in srgb,var(--c0) "
    "calc(var(--v)*60%),transparent)}"
    "figure{margin:0}figcaption{color:var(--soft);font-size:.9rem;text-align:center}svg{width:100%;height:auto}svg "
    "text{font-size:11px;fill:var(--soft)}"
    ".grid{stroke:var(--line)}.zero{stroke:var(--soft);stroke-dasharray:4 3}.line{fill:none;stroke-width:1.8}"
    ".line.s0{stroke:var(--c0)}.line.s1{stroke:var(--c1)}.line.s2{stroke:var(--c2)}.line.s3{stroke:var(--c3)}.line.s4{"
    "stroke:var(--c4)}.line.s5{stroke:var(--c5)}"
    ".dot.s0{fill:var(--c0)}.dot.s1{fill:var(--c1)}.dot.s2{fill:var(--c2)}.dot.s3{fill:var(--c3)}.dot.s4{fill:var(--c4)"
    "}.dot.s5{fill:var(--c5)}code{font-size:.85em}";

static void head(oc_text *t, size_t inputs)
{
    char when[OC_TIME_TEXT];
    oc_text_add(
        t,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        "<title>Outcry report</title><style>%s</style></head><body>\n<h1>Outcry report</h1>\n",
        oc_report_style);
    oc_text_add(t,
                "<p class=\"soft\">%zu %s, written %.19s UTC. Every figure is computed from predictions or journals "
                "whose hash was checked; intervals are 95 %% block bootstrap.</p>\n",
                inputs, inputs == 1 ? "input" : "inputs", oc_time_text(oc_clock_wall_ns(), when));
}

/* metrics.json of a result, whose predictions must still be those that were judged. */
static oc_status result_open(const char *folder, const char *path, json_t **out)
{
    OC_TRY(oc_json_load(path, INPUT_BYTES_MAX, out));
    return oc_report_predictions_check(folder, *out);
}

/* study.json, and the predictions of every test in it. */
static oc_status study_open(const char *folder, const char *path, json_t **out)
{
    const json_t *fold, *test;
    size_t f, i;
    OC_TRY(oc_json_load(path, INPUT_BYTES_MAX, out));
    json_array_foreach(oc_report_at(*out, "folds"), f, fold)
    {
        json_array_foreach(oc_report_at(fold, "tested"), i, test)
        {
            char result[OC_PATH_MAX];
            const char *leaf;
            OC_TRY(oc_json_text(test, "result", path, &leaf));
            OC_TRY(oc_path_join(result, sizeof result, folder, leaf));
            OC_TRY(oc_report_predictions_check(result, test));
        }
    }
    return OC_OK;
}

/* results.json of a run, whose journal must still be the one. */
static oc_status run_open(const char *folder, const char *path, json_t **out)
{
    OC_TRY(oc_json_load(path, INPUT_BYTES_MAX, out));
    return oc_report_journal_check(folder, *out);
}

/* An input is known by the file that lies in it. */
static const struct {
    const char *file;
    oc_status (*open)(const char *folder, const char *path, json_t **out);
    oc_status (*write)(oc_text *t, const char *folder, const json_t *input);
} kinds[] = {{"study.json", study_open, oc_report_study},
             {"results.json", run_open, oc_report_backtest},
             {"metrics.json", result_open, oc_report_result}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static oc_status input_write(oc_text *t, const char *folder, json_t *all)
{
    char path[OC_PATH_MAX];
    json_t *input = NULL;
    size_t k = 0;
    OC_TRY(oc_path_join(path, sizeof path, folder, kinds[0].file));
    while (k + 1 < KINDS && !oc_path_exists(path)) OC_TRY(oc_path_join(path, sizeof path, folder, kinds[++k].file));
    oc_status status = kinds[k].open(folder, path, &input);
    if (status == OC_OK) {
        status = kinds[k].write(t, folder, input);
        if (json_array_append(all, input) != 0) status = OC_FAIL(OC_EMEMORY, "no memory for the report");
    }
    json_decref(input);
    return status;
}

static oc_status json_name(const char *html, char *out, size_t cap)
{
    size_t length = strlen(html), stem = length > 5 && strcmp(html + length - 5, ".html") == 0 ? length - 5 : length;
    if (stem + 6 > cap) return OC_FAIL(OC_ELIMIT, "%s: the name is too long", html);
    memcpy(out, html, stem);
    memcpy(out + stem, ".json", 6);
    return OC_OK;
}

/* Page and figures belong together: both lie on the disk before the first replaces an old one. */
static oc_status pair_write(const char *html, const oc_text *page, const char *json, const json_t *root)
{
    oc_file_writer *w[2] = {NULL, NULL};
    oc_status status;
    OC_TRY_GOTO(status, done, oc_path_make_parent(html));
    OC_TRY_GOTO(status, done, oc_file_writer_open(&w[0], html));
    OC_TRY_GOTO(status, done, oc_file_writer_open(&w[1], json));
    OC_TRY_GOTO(status, done, oc_file_writer_add(w[0], page->data, page->bytes));
    OC_TRY_GOTO(status, done, oc_json_add(w[1], json, root));
    for (int i = 0; i < 2; i++) OC_TRY_GOTO(status, done, oc_file_writer_prepare(w[i]));
    for (int i = 0; i < 2; i++) {
        oc_file_writer *last = w[i];
        w[i] = NULL;                            /* commit closes it, also where it fails */
        OC_TRY_GOTO(status, done, oc_file_writer_commit(last));
    }
done:
    for (int i = 0; i < 2; i++) oc_file_writer_abort(w[i]);
    return status;
}

oc_status oc_report_write(const char *const *inputs, size_t count, const char *out_html)
{
    char json_path[OC_PATH_MAX];
    oc_text page = {0};
    json_t *all = json_array(), *root = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, json_name(out_html, json_path, sizeof json_path));
    head(&page, count);
    for (size_t i = 0; i < count; i++) OC_TRY_GOTO(status, done, input_write(&page, inputs[i], all));
    oc_text_add(&page, "</body></html>\n");
    OC_TRY_GOTO(status, done, oc_text_finish(&page, "the report"));
    root = json_pack("{s:s, s:i, s:O}", "format", "outcry-report", "version", 1, "inputs", all);
    if (!root) OC_TRY_GOTO(status, done, OC_FAIL(OC_EMEMORY, "no memory for the report"));
    status = pair_write(out_html, &page, json_path, root);
done:
    oc_text_free(&page);
    json_decref(all);
    json_decref(root);
    return status;
}
