/* report_result.c - one model on one split: verdict, table against the baselines, charts, provenance. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "evaluate/report_parts.h"
#include "evaluate/svg.h"

enum { POINTS_MAX = 512, STEPS_MAX = 4096, HEADS_SHOWN = 6 };
static const char *const CLASSES[3] = {"buy", "sell", "hold"};

static void row_of_figures(oc_text *t, const char *name, const json_t *m, const json_t *skill)
{
    oc_text_add(t, "<tr><td>");
    oc_text_html(t, name);
    static const char *const keys[] = {"accuracy", "macro_f1", "mcc", "log_loss"};
    for (size_t k = 0; k < 4; k++) {
        char path[64] = "intervals.";
        strncat(path, keys[k], sizeof path - strlen(path) - 1);
        oc_text_add(t, "</td><td>");
        oc_report_interval(t, oc_report_at(m, path));
    }
    oc_text_add(t, "</td><td>");
    oc_report_number(t, oc_report_real(m, "brier"), "%.4f");
    oc_text_add(t, "</td><td>");
    oc_report_number(t, oc_report_real(m, "ece"), "%.4f");
    oc_text_add(t, "</td><td>");
    if (skill) oc_report_interval(t, skill);
    oc_text_add(t, "</td></tr>\n");
}

static void table(oc_text *t, const json_t *h)
{
    const json_t *row;
    size_t i;
    oc_text_add(t, "<div class=\"scroll\"><table><thead><tr><th></th><th>accuracy</th><th>macro "
                   "F1</th><th>MCC</th><th>log loss</th><th>Brier (0 to 2)</th>"
                   "<th>ECE</th><th>skill of the model over it</th></tr></thead><tbody>\n");
    row_of_figures(t, "model", h, NULL);
    json_array_foreach(oc_report_at(h, "baselines"), i, row)
        row_of_figures(t, oc_report_text(row, "name"), row, oc_report_at(row, "skill_of_model"));
    oc_text_add(t,
                "</tbody></table></div>\n<p class=\"soft\">Skill = 1 &minus; log loss of the model / log loss of the "
                "baseline. Samples in a block of the bootstrap: ");
    oc_report_number(t, oc_report_real(h, "intervals.block"), "%.0f");
    oc_text_add(t, ".</p>\n");
}

static void confusion(oc_text *t, const json_t *h)
{
    oc_text_add(
        t, "<div><h3>Confusion</h3><table><thead><tr><th>truth \\ "
           "answer</th><th>buy</th><th>sell</th><th>hold</th><th>precision</th><th>recall</th></tr></thead><tbody>");
    double precision[3], recall[3];
    bool scored = oc_report_reals(oc_report_at(h, "precision"), precision, 3) == 3 &&
                  oc_report_reals(oc_report_at(h, "recall"), recall, 3) == 3;
    for (size_t k = 0; k < 3; k++) {
        double cell[3] = {(double)NAN, (double)NAN, (double)NAN}, sum = 0;
        (void)oc_report_reals(json_array_get(oc_report_at(h, "confusion"), k), cell, 3);
        for (int j = 0; j < 3; j++) sum += cell[j];
        oc_text_add(t, "<tr><td>%s</td>", CLASSES[k]);
        for (int j = 0; j < 3; j++)
            oc_text_add(t, "<td class=\"heat\" style=\"--v:%.3f\">%.0f</td>", sum > 0 ? cell[j] / sum : 0, cell[j]);
        oc_text_add(t, "<td>%.3f</td><td>%.3f</td></tr>", scored ? precision[k] : 0, scored ? recall[k] : 0);
    }
    oc_text_add(t, "</tbody></table></div>\n");
}

static void reliability(oc_text *t, const json_t *h)
{
    double x[16], y[16];
    size_t count = 0, i;
    const json_t *bin;
    json_array_foreach(oc_report_at(h, "bins"), i, bin)
    {
        if (!(oc_report_real(bin, "count") > 0) || count == 16) continue;
        x[count] = oc_report_real(bin, "confidence");
        y[count++] = oc_report_real(bin, "accuracy");
    }
    oc_svg_chart c = {.title = "Reliability of the top class",
                      .x_label = "mean confidence",
                      .y_label = "accuracy",
                      .x_min = 0,
                      .x_max = 1,
                      .y_min = 0,
                      .y_max = 1,
                      .diagonal = true,
                      .series_count = 1,
                      .series = {{.name = "bins of 0.1", .x = x, .y = y, .count = count, .line = true, .dots = true}}};
    oc_svg_draw(t, &c);
}

static void balance(oc_text *t, const json_t *h)
{
    const char *groups[3] = {"buy", "sell", "hold"}, *series[3];
    double value[9];
    int count = 0;
    const char *name;
    json_t *shares;
    json_object_foreach((json_t *)(uintptr_t)oc_report_at(h, "classes"), name, shares)
    {
        double three[3];
        if (count == 3 || oc_report_reals(shares, three, 3) != 3) continue;
        series[count] = name;
        for (int k = 0; k < 3; k++) value[3 * count + k] = three[k];
        count++;
    }
    double turned[9]; /* groups are classes, series are splits */
    for (int s = 0; s < count; s++) {
        for (int k = 0; k < 3; k++) turned[k * count + s] = value[3 * s + k];
    }
    if (count > 0) oc_svg_bars(t, "Class balance by split", groups, 3, series, count, turned, "share");
}

static void learning(oc_text *t, const json_t *metrics)
{
    static const char *const keys[2] = {"train_loss", "valid_loss"}, *const names[2] = {"training loss",
                                                                                        "validation loss"};
    static double x[2][POINTS_MAX], y[2][POINTS_MAX];
    oc_svg_chart c = {
        .title = "Learning curves", .x_label = "optimiser step", .y_label = "log loss", .x_min = 1, .y_min = 1};
    for (int s = 0; s < 2; s++) {
        const json_t *curve = json_object_get(oc_report_at(metrics, "learning"), keys[s]);
        size_t count = 0, i;
        const json_t *point;
        json_array_foreach(curve, i, point)
        {
            double pair[2];
            if (count == POINTS_MAX || oc_report_reals(point, pair, 2) != 2) continue;
            x[s][count] = pair[0];
            y[s][count++] = pair[1];
        }
        if (count > 0)
            c.series[c.series_count++] = (oc_svg_series){
                .name = names[s], .x = x[s], .y = y[s], .count = count, .line = true, .dots = count < 30};
    }
    if (c.series_count > 0) oc_svg_draw(t, &c);
}

static void attention(oc_text *t, const json_t *metrics)
{
    static const char *const names[HEADS_SHOWN] = {"head 1", "head 2", "head 3", "head 4", "head 5", "head 6"};
    const json_t *heads = oc_report_at(metrics, "attention");
    double *data = NULL;
    size_t count = json_array_size(heads) < HEADS_SHOWN ? json_array_size(heads) : HEADS_SHOWN;
    if (count == 0 || oc_memory_new_array(&data, (HEADS_SHOWN + 1) * STEPS_MAX, sizeof *data, "attention") != OC_OK)
        return;
    oc_svg_chart c = {.title = "Attention over the window, mean of up to 128 windows",
                      .x_label = "rows before the last",
                      .y_label = "weight",
                      .x_min = 1,
                      .y_min = 1};
    for (size_t h = 0; h < count; h++) {
        double *y = data + (h + 1) * STEPS_MAX;
        size_t steps = oc_report_reals(json_array_get(heads, h), y, STEPS_MAX);
        for (size_t s = 0; s < steps; s++) data[s] = (double)s - (double)(steps - 1);
        c.series[c.series_count++] = (oc_svg_series){.name = names[h], .x = data, .y = y, .count = steps, .line = true};
    }
    oc_svg_draw(t, &c);
    oc_memory_free(data);
}

static void achievable(oc_text *t, const json_t *h)
{
    const json_t *best = oc_report_at(h, "best_achievable"), *row;
    const char *name;
    if (!best) return;
    oc_text_add(t,
                "<h3>Against the best achievable</h3><p>The market is simulated: its own oracle gives the "
                "probabilities of each label from the published events. "
                "Best expected accuracy: %.4f.</p><table><thead><tr><th></th><th>expected accuracy</th><th>share of "
                "the gap closed</th></tr></thead><tbody>",
                oc_report_real(best, "expected_accuracy"));
    json_t *of = (json_t *)(uintptr_t)oc_report_at(best, "of");
    json_object_foreach(of, name, row)
    {
        oc_text_add(t, "<tr><td>");
        oc_text_html(t, name);
        oc_text_add(t, "</td><td>");
        oc_report_number(t, oc_report_real(row, "expected_accuracy"), "%.4f");
        oc_text_add(t, "</td><td>");
        oc_report_number(t, oc_report_real(row, "gap_closed"), "%.3f");
        oc_text_add(t, "</td></tr>");
    }
    oc_text_add(t, "</tbody></table>\n");
}

static void provenance(oc_text *t, const json_t *m)
{
    static const struct {
        const char *name, *path;
    } rows[] = {
        {"model", "model.name"},     {"weights", "model.weights_hash"},
        {"build", "model.build"},    {"dataset", "data.root"},
        {"sources", "data.sources"}, {"feature schema", "data.schema"},
        {"fold", "fold.name"},       {"folds from", "fold.of"},
        {"fold hash", "fold.hash"},  {"predictions", "predictions_hash"},
        {"ledger", "ledger_hash"},
    };
    static const struct {
        const char *name, *path;
    } numbers[] = {
        {"parameters", "model.parameters"},
        {"seed", "model.seed"},
        {"optimiser steps", "model.optimiser_steps"},
        {"rows", "data.rows"},
        {"features", "data.features"},
        {"training samples", "fold.train.samples"},
        {"validation samples", "fold.valid.samples"},
        {"judged samples", "fold.judged.samples"},
        {"purged from training", "fold.train.purged"},
        {"embargoed", "fold.train.embargoed"},
        {"embargo, ns", "fold.embargo_ns"},
    };
    oc_text_add(t, "<h3>Provenance</h3><div class=\"scroll\"><table><tbody>");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        oc_text_add(t, "<tr><td>%s</td><td><code>", rows[i].name);
        oc_report_put(t, m, rows[i].path);
        oc_text_add(t, "</code></td></tr>");
    }
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        oc_text_add(t, "<tr><td>%s</td><td>", numbers[i].name);
        oc_report_number(t, oc_report_real(m, numbers[i].path), "%.0f");
        oc_text_add(t, "</td></tr>");
    }
    if (json_is_integer(oc_report_at(m, "trials")))
        oc_text_add(t, "<tr><td>trials on the test split so far</td><td>%.0f</td></tr>", oc_report_real(m, "trials"));
    else
        oc_text_add(t, "<tr><td>trials on the test split so far</td><td>trials unknown</td></tr>");
    oc_text_add(t, "</tbody></table></div>\n");
}

oc_status oc_report_result(oc_text *t, const char *folder, const json_t *m)
{
    const json_t *h;
    size_t i;
    oc_text_add(t, "<h2>");
    oc_report_put(t, m, "model.name");
    oc_text_add(t, ", ");
    oc_report_put(t, m, "split");
    oc_text_add(t, " split of ");
    oc_report_put(t, m, "data.file");
    oc_text_add(t, "</h2><p class=\"soft\">");
    oc_text_html(t, folder);
    oc_text_add(t, "</p>\n");
    json_array_foreach(oc_report_at(m, "horizons"), i, h)
    {
        bool good = json_is_true(oc_report_at(h, "verdict.skill_shown"));
        oc_text_add(t, "<h3>Label <code>");
        oc_report_put(t, h, "label");
        oc_text_add(t, "</code></h3><p class=\"verdict%s\">", good ? " good" : "");
        oc_report_put(t, h, "verdict.text");
        oc_text_add(t, "</p>\n");
        table(t, h);
        achievable(t, h);
        oc_text_add(t, "<div class=\"grid2\">");
        confusion(t, h);
        reliability(t, h);
        balance(t, h);
        if (i == 0) {
            learning(t, m);
            attention(t, m);
        }
        oc_text_add(t, "</div>\n");
    }
    provenance(t, m);
    return oc_text_finish(t, "the report");
}
