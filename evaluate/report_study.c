/* report_study.c - a study: the verdict over folds, figures by fold with intervals, the same as charts. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "evaluate/baselines.h"
#include "evaluate/report_parts.h"
#include "evaluate/svg.h"

enum { POINTS_MAX = 512 };

typedef struct points {
    double x[POINTS_MAX], y[POINTS_MAX], low[POINTS_MAX], high[POINTS_MAX];
    size_t count;
} points;

static void point_add(points *p, double x, const json_t *interval)
{
    if (p->count == POINTS_MAX) return;
    p->x[p->count] = x;
    p->y[p->count] = oc_report_real(interval, "value");
    p->low[p->count] = oc_report_real(interval, "low");
    p->high[p->count++] = oc_report_real(interval, "high");
}

static const json_t *baseline_find(const json_t *test, const char *name)
{
    const json_t *row;
    size_t i;
    json_array_foreach(oc_report_at(test, "baselines"), i, row)
    {
        if (strcmp(oc_report_text(row, "name"), name) == 0) return row;
    }
    return NULL;
}

/* The fold's next test of this label from *i on; NULL where there is none. */
static const json_t *test_next(const json_t *fold, const char *label, size_t *i)
{
    const json_t *tests = oc_report_at(fold, "tested");
    while (*i < json_array_size(tests)) {
        const json_t *test = json_array_get(tests, (*i)++);
        if (strcmp(oc_report_text(test, "label"), label) == 0) return test;
    }
    return NULL;
}

/* Collects one figure of one label over folds and seeds; seeds of a fold stand side by side. */
static void collect(const json_t *study, const char *label, const char *baseline, const char *path, points *out)
{
    const json_t *fold, *test;
    size_t f;
    double seeds = oc_report_real(study, "seeds");
    out->count = 0;
    json_array_foreach(oc_report_at(study, "folds"), f, fold)
    {
        size_t next = 0;
        for (double s = 0; (test = test_next(fold, label, &next)); s++) {
            const json_t *from = baseline ? baseline_find(test, baseline) : test;
            point_add(out, (double)f + (s - (seeds - 1) / 2) * 0.5 / seeds, oc_report_at(from, path));
        }
    }
}

typedef struct tally {
    size_t tests, shown;
    double mean;
} tally;

static tally tally_of(const points *p)
{
    tally t = {.tests = p->count};
    for (size_t i = 0; i < p->count; i++) {
        t.mean += p->y[i] / (double)p->count;
        t.shown += p->low[i] > 0;
    }
    return t;
}

static void verdict(oc_text *t, const json_t *study, const char *label)
{
    static points p;
    bool every = true;
    oc_text plain = {0};
    for (int b = 0; b < OC_BASELINE_COUNT; b++) {
        collect(study, label, oc_baseline_name((oc_baseline)b), "skill_of_model", &p);
        tally a = tally_of(&p);
        every = every && a.tests > 0 && a.shown == a.tests;
        oc_text_add(&plain, "%s over %s: mean skill %+.4f, above 0 at the 95 %% level in %zu of %zu tests",
                    b ? "; " : "", oc_baseline_name((oc_baseline)b), a.mean, a.shown, a.tests);
    }
    oc_text_add(t, "<p class=\"verdict%s\">%s ", every ? " good" : "",
                every ? "The model beats every baseline in every fold."
                      : "Skill over every baseline is NOT shown in every fold.");
    oc_text_html(t, plain.data ? plain.data : "");
    oc_text_add(t, ".</p>\n");
    oc_text_free(&plain);
}

static void charts(oc_text *t, const json_t *study, const char *label)
{
    static points model, over[OC_BASELINE_COUNT];
    static char titles[OC_BASELINE_COUNT][32];
    points *majority = &over[OC_BASELINE_MAJORITY];
    static const char *names[64];
    size_t folds = json_array_size(oc_report_at(study, "folds"));
    for (size_t f = 0; f < folds && f < 64; f++)
        names[f] = oc_report_text(json_array_get(oc_report_at(study, "folds"), f), "fold");
    collect(study, label, NULL, "intervals.accuracy", &model);
    collect(study, label, oc_baseline_name(OC_BASELINE_MAJORITY), "intervals.accuracy", majority);
    oc_svg_chart c = {
        .title = "Accuracy by fold; one whisker a seed",
        .x_label = "fold",
        .y_label = "accuracy",
        .x_names = names,
        .x_name_count = folds < 64 ? folds : 64,
        .x_min = 1,
        .y_min = 1,
        .series_count = 2,
        .series = {{.name = "model",
                    .x = model.x,
                    .y = model.y,
                    .low = model.low,
                    .high = model.high,
                    .count = model.count,
                    .dots = true},
                   {.name = oc_baseline_name(OC_BASELINE_MAJORITY),
                    .x = majority->x,
                    .y = majority->y,
                    .count = majority->count,
                    .dots = true}}};
    oc_text_add(t, "<div class=\"grid2\">");
    oc_svg_draw(t, &c);
    oc_svg_chart k = {.title = "Skill of the model over each baseline, by fold",
                      .x_label = "fold",
                      .y_label = "skill",
                      .x_names = names,
                      .x_name_count = c.x_name_count,
                      .x_min = 1,
                      .y_min = 1,
                      .y_zero = true,
                      .series_count = OC_BASELINE_COUNT};
    _Static_assert(OC_BASELINE_COUNT <= sizeof k.series / sizeof *k.series, "a baseline a series");
    for (int s = 0; s < OC_BASELINE_COUNT; s++) {
        points *p = &over[s];
        collect(study, label, oc_baseline_name((oc_baseline)s), "skill_of_model", p);
        for (size_t i = 0; i < p->count; i++) p->x[i] += 0.05 * (s - 0.5 * (OC_BASELINE_COUNT - 1));
        snprintf(titles[s], sizeof titles[s], "over %s", oc_baseline_name((oc_baseline)s));
        k.series[s] = (oc_svg_series){
            .name = titles[s], .x = p->x, .y = p->y, .low = p->low, .high = p->high, .count = p->count, .dots = true};
    }
    oc_svg_draw(t, &k);
    oc_text_add(t, "</div>\n");
}

static void row_of_test(oc_text *t, const json_t *fold, const json_t *test)
{
    static const char *const figures[] = {"intervals.accuracy", "intervals.macro_f1", "intervals.mcc"};
    char from[OC_TIME_TEXT], to[OC_TIME_TEXT];
    oc_time_text(json_integer_value(oc_report_at(fold, "test_first_ns")), from);
    oc_time_text(json_integer_value(oc_report_at(fold, "test_last_ns")), to);
    oc_text_add(t, "<tr><td>");
    oc_report_put(t, fold, "fold");
    oc_text_add(t, "</td><td>%.10s</td><td>%.10s</td><td>", from, to);
    oc_report_number(t, oc_report_real(fold, "chosen_trial"), "%.0f");
    oc_text_add(t, "</td><td>");
    oc_report_put(t, test, "seed");
    oc_text_add(t, "</td><td>");
    oc_report_number(t, oc_report_real(test, "samples"), "%.0f");
    for (int k = 0; k < 3; k++) {
        oc_text_add(t, "</td><td>");
        oc_report_interval(t, oc_report_at(test, figures[k]));
    }
    for (int b = 0; b < OC_BASELINE_COUNT; b++) {
        oc_text_add(t, "</td><td>");
        oc_report_interval(t, oc_report_at(baseline_find(test, oc_baseline_name((oc_baseline)b)), "skill_of_model"));
    }
    oc_text_add(t, "</td></tr>\n");
}

static void rows(oc_text *t, const json_t *study, const char *label)
{
    const json_t *fold, *test;
    size_t f;
    oc_text_add(t, "<div class=\"scroll\"><table><thead><tr><th>fold</th><th>test "
                   "from</th><th>to</th><th>trial</th><th>seed</th><th>samples</th><th>accuracy</th>"
                   "<th>macro F1</th><th>MCC</th>");
    for (int b = 0; b < OC_BASELINE_COUNT; b++)
        oc_text_add(t, "<th>%sover %s</th>", b ? "" : "skill ", oc_baseline_name((oc_baseline)b));
    oc_text_add(t, "</tr></thead><tbody>\n");
    json_array_foreach(oc_report_at(study, "folds"), f, fold)
    {
        size_t next = 0;
        while ((test = test_next(fold, label, &next))) row_of_test(t, fold, test);
    }
    oc_text_add(t, "</tbody></table></div>\n");
}

oc_status oc_report_study(oc_text *t, const char *folder, const json_t *study)
{
    const json_t *label;
    size_t i;
    oc_text_add(t, "<h2>Walk-forward study</h2><p class=\"soft\">");
    oc_text_html(t, folder);
    oc_text_add(t, ": %zu folds from <code>", json_array_size(oc_report_at(study, "folds")));
    oc_report_put(t, study, "folds_from");
    oc_text_add(
        t,
        "</code>, %zu trials, %.0f seeds, %.0f trainings; the test splits of this data have been looked at %.0f "
        "times (ledger <code>",
        json_array_size(oc_report_at(study, "trials")), oc_report_real(study, "seeds"), oc_report_real(study, "runs"),
        oc_report_real(study, "looks_at_test"));
    oc_report_put(t, study, "data_ledger_hash");
    oc_text_add(t, "</code>; of this study alone <code>");
    oc_report_put(t, study, "ledger_hash");
    oc_text_add(t, "</code>).</p>\n");
    json_array_foreach(oc_report_at(study, "labels"), i, label)
    {
        const char *name = json_string_value(label) ? json_string_value(label) : "";
        oc_text_add(t, "<h3>Label <code>");
        oc_text_html(t, name);
        oc_text_add(t, "</code></h3>\n");
        verdict(t, study, name);
        charts(t, study, name);
        rows(t, study, name);
    }
    return oc_text_finish(t, "the report");
}
