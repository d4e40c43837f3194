/* report_backtest.c - a backtest or a paper session: stamps, verdict, money, curves, costs, how it was set. The word
 * for a gain that lasts stands nowhere unless the interval of the net P&L lies above 0 (verdict.shown). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "evaluate/report.h"
#include "evaluate/report_parts.h"
#include "evaluate/svg.h"
#include "trade/journal.h"

enum { POINTS_MAX = 4096, DAYS_ENOUGH = 90 };
static const double day_ns = 86400e9;

/* ---- the journal is still the one ---- */

static oc_status segment_read(const char *folder, uint32_t segment, uint64_t *check, uint64_t *records)
{
    oc_journal_reader r;
    oc_journal_item item;
    bool more = true;
    OC_TRY(oc_journal_reader_open(&r, folder, segment));
    oc_status status = OC_OK;
    while (status == OC_OK && more && !r.header_torn) status = oc_journal_reader_next(&r, &item, &more);
    if (status == OC_OK && !r.header_torn) {
        *check = r.check;
        *records = r.number;
    }
    oc_journal_reader_close(&r);
    return status;
}

oc_status oc_report_journal_check(const char *folder, const json_t *results)
{
    char path[OC_PATH_MAX], have[OC_HASH_TEXT];
    const char *want;
    uint64_t check = 0, records = 0;
    OC_TRY(oc_json_text(results, "journal_hash", folder, &want));
    for (uint32_t segment = 0;; segment++) {
        OC_TRY(oc_journal_path(path, sizeof path, folder, segment));
        if (segment > 0 && !oc_path_exists(path)) break;
        OC_TRY(segment_read(folder, segment, &check, &records));
    }
    if (strcmp(oc_hash_text(oc_journal_chain_hash(check, records), have), want) == 0) return OC_OK;
    return OC_FAIL(OC_EDATA, "%s: the journal has hash %s, results.json was computed from %s: run it again", folder,
                   have, want);
}

/* ---- money and shares ---- */

static double units_of(const json_t *r, const char *path)
{
    return oc_report_real(r, path) / 1e6;
}

static void money(oc_text *t, const json_t *r, const char *path)
{
    oc_report_number(t, units_of(r, path), "%.2f");
}

static void row_open(oc_text *t, const char *name)
{
    oc_text_add(t, "<tr><td>%s</td><td>", name);
}

static void row_money(oc_text *t, const json_t *r, const char *name, const char *path)
{
    row_open(t, name);
    money(t, r, path);
    oc_text_add(t, "</td></tr>\n");
}

static void row_number(oc_text *t, const json_t *r, const char *name, const char *path, const char *format)
{
    row_open(t, name);
    oc_report_number(t, oc_report_real(r, path), format);
    oc_text_add(t, "</td></tr>\n");
}

static void row_share(oc_text *t, const json_t *r, const char *name, const char *path)
{
    row_open(t, name);
    oc_report_number(t, 100 * oc_report_real(r, path), "%.2f %%");
    oc_text_add(t, "</td></tr>\n");
}

/* ---- sections ---- */

static void stamps(oc_text *t, const json_t *r)
{
    if (json_is_true(oc_report_at(r, "in_sample")))
        oc_text_add(t,
                    "<p class=\"verdict\"><strong>IN SAMPLE.</strong> This run was allowed over times that the model "
                    "has seen in training or validation: it is no evidence.</p>\n");
    if (strcmp(oc_report_text(r, "provenance"), "known") != 0)
        oc_text_add(t, "<p class=\"verdict\"><strong>PROVENANCE UNKNOWN.</strong> The predictions do not say which "
                       "times their maker had seen.</p>\n");
}

static void verdict(oc_text *t, const json_t *r)
{
    bool shown = json_is_true(oc_report_at(r, "verdict.shown"));
    oc_text_add(t, "<p class=\"verdict%s\">", shown ? " good" : "");
    oc_report_put(t, r, "verdict.text");
    oc_text_add(t, " Net P&amp;L ");
    money(t, r, "pnl_micros");
    oc_text_add(t, " [");
    money(t, r, "pnl_interval_micros.low");
    oc_text_add(t, ", ");
    money(t, r, "pnl_interval_micros.high");
    oc_text_add(t, "] after fees ");
    money(t, r, "fees_micros");
    oc_text_add(t, " and the spread; buy and hold ");
    money(t, r, "hold_micros");
    oc_text_add(t, ".</p>\n");
}

/* A year's Sharpe out of an afternoon looks like a fortune: the page says what it rests on. */
static void short_time(oc_text *t, const json_t *r)
{
    const double days = (oc_report_real(r, "last_ns") - oc_report_real(r, "first_ns")) / day_ns;
    if (days >= (double)DAYS_ENOUGH) return;
    oc_text_add(t, "<p class=\"soft\">The yearly figures are scaled up from ");
    oc_report_number(t, days, "%.2f");
    oc_text_add(t, " days: over so short a time they prove nothing.</p>");
}

static void figures(oc_text *t, const json_t *r)
{
    bool shown = json_is_true(oc_report_at(r, "verdict.shown"));
    oc_text_add(t, "<div><h3>Figures</h3><table><tbody>");
    row_money(t, r, "net P&amp;L", "pnl_micros");
    row_money(t, r, "buy and hold", "hold_micros");
    row_money(t, r, "maximum drawdown", "max_drawdown");
    row_share(t, r, "… of the capital", "max_drawdown_fraction");
    row_number(t, r, "Sharpe, a year", "sharpe", "%.2f");
    row_number(t, r, "Sortino, a year", "sortino", "%.2f");
    row_number(t, r, "Calmar, a year", "calmar", "%.2f");
    row_number(t, r, "trades (round trips)", "trades", "%.0f");
    row_share(t, r, "win rate", "win_rate");
    row_number(t, r, shown ? "profit factor (gains / losses)" : "gains / losses", "profit_factor", "%.3f");
    row_money(t, r, "mean trade", "mean_trade_micros");
    row_share(t, r, "time in the market", "time_in_market");
    row_money(t, r, "turnover", "turnover_micros");
    row_money(t, r, "capital", "capital_micros");
    oc_text_add(t, "</tbody></table>");
    short_time(t, r);
    oc_text_add(t, "</div>\n");
}

static void costs(oc_text *t, const json_t *r)
{
    oc_text_add(t, "<div><h3>From the decisions to the net</h3><table><tbody>");
    row_money(t, r, "at the mids of the decisions", "before_costs_micros");
    row_money(t, r, "&minus; half the spread", "spread_micros");
    row_money(t, r, "&minus; slippage (delay, depth)", "slippage_micros");
    row_money(t, r, "&minus; fees", "fees_micros");
    row_money(t, r, "= net P&amp;L", "pnl_micros");
    oc_text_add(t, "</tbody></table><p class=\"soft\">What was held at the end is closed at the last quotes (");
    oc_report_number(t, oc_report_real(r, "closing.positions"), "%.0f");
    oc_text_add(t, " positions, spread ");
    money(t, r, "closing.spread_micros");
    oc_text_add(t, ", fee ");
    money(t, r, "closing.fee_micros");
    oc_text_add(t, ", in the figures above); before that the account was worth ");
    money(t, r, "closing.equity_before_micros");
    oc_text_add(t, ".</p></div>\n");
}

typedef struct curves {
    double x[POINTS_MAX], equity[POINTS_MAX], hold[POINTS_MAX], fall[POINTS_MAX];
    size_t count;
    const char *unit;
} curves;

static size_t money_reals(const json_t *r, const char *path, double sign, double *out)
{
    size_t count = oc_report_reals(oc_report_at(r, path), out, POINTS_MAX);
    for (size_t i = 0; i < count; i++) out[i] *= sign / 1e6;
    return count;
}

static void curves_read(const json_t *r, curves *c)
{
    static const struct {
        double seconds;
        const char *name;
    } units[] = {{86400, "days since the beginning"},
                 {3600, "hours since the beginning"},
                 {60, "minutes since the beginning"},
                 {1, "seconds since the beginning"}};
    double step = oc_report_real(r, "curve.step_ns") / 1e9;
    c->count = money_reals(r, "curve.equity_micros", 1, c->equity);
    if (money_reals(r, "curve.hold_micros", 1, c->hold) != c->count ||
        money_reals(r, "curve.drawdown_micros", -1, c->fall) != c->count || !isfinite(step))
        c->count = 0;
    size_t u = 0;
    while (u < 3 && (double)c->count * step < 3 * units[u].seconds) u++;
    c->unit = units[u].name;
    for (size_t i = 0; i < c->count; i++) c->x[i] = (double)(i + 1) * step / units[u].seconds;
}

static oc_status charts(oc_text *t, const json_t *r)
{
    curves *c;
    OC_TRY(oc_memory_new(&c, sizeof *c, "curves of a report"));
    curves_read(r, c);
    oc_svg_chart equity = {
        .title = "Account, after all costs, against buying and holding",
        .x_label = c->unit,
        .y_label = "units of the quote currency",
        .x_min = 1,
        .y_min = 1,
        .y_zero = true,
        .series_count = 2,
        .series = {{.name = "net P&L", .x = c->x, .y = c->equity, .count = c->count, .line = true},
                   {.name = "buy and hold", .x = c->x, .y = c->hold, .count = c->count, .line = true}}};
    oc_svg_chart fall = {.title = "Drawdown: the fall from the highest so far",
                         .x_label = c->unit,
                         .y_label = "units of the quote currency",
                         .x_min = 1,
                         .y_min = 1,
                         .y_zero = true,
                         .series_count = 1,
                         .series = {{.name = "drawdown", .x = c->x, .y = c->fall, .count = c->count, .line = true}}};
    if (c->count > 0) {
        oc_text_add(t, "<div class=\"grid2\">");
        oc_svg_draw(t, &equity);
        oc_svg_draw(t, &fall);
        oc_text_add(t, "</div>\n");
    }
    oc_memory_free(c);
    return OC_OK;
}

static void value(oc_text *t, const json_t *v)
{
    const json_t *item;
    size_t i;
    if (json_is_string(v)) oc_text_html(t, json_string_value(v));
    if (json_is_integer(v)) oc_text_add(t, "%lld", (long long)json_integer_value(v));
    if (json_is_real(v)) oc_text_add(t, "%.6g", json_real_value(v));
    if (json_is_boolean(v)) oc_text_add(t, "%s", json_is_true(v) ? "yes" : "no");
    json_array_foreach(v, i, item)
    {
        oc_text_add(t, "%s", i ? ", " : "");
        value(t, item);
    }
}

/* Every key with its value, but those of take-profit exits that are off: the word is kept for what is shown. */
static void settings(oc_text *t, const json_t *r)
{
    const char *key;
    json_t *v, *all = (json_t *)(uintptr_t)oc_report_at(r, "settings");
    oc_text_add(t,
                "<h3>How it was set</h3><p class=\"soft\">Times in ns, fees in millionths of the value, sizes in lots, "
                "prices in ticks.</p><div class=\"scroll\"><table><tbody>");
    json_object_foreach(all, key, v)
    {
        oc_text_add(t, "<tr><td><code>");
        oc_text_html(t, key);
        oc_text_add(t, "</code></td><td>");
        value(t, v);
        oc_text_add(t, "</td></tr>\n");
    }
    oc_text_add(t, "</tbody></table></div>\n");
}

static void provenance(oc_text *t, const json_t *r)
{
    static const struct {
        const char *name, *path;
    } rows[] = {{"predictor", "predictor.kind"},
                {"from", "predictor.path"},
                {"model", "predictor.bundle_hash"},
                {"dataset", "predictor.dataset_hash"},
                {"predictions file", "predictor.file_hash"},
                {"journal", "journal_hash"},
                {"state", "state_hash"},
                {"build", "build"},
                {"ledger", "ledger_hash"}};
    oc_text_add(t, "<h3>Provenance</h3><div class=\"scroll\"><table><tbody>");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!*oc_report_text(r, rows[i].path)) continue;
        oc_text_add(t, "<tr><td>%s</td><td><code>", rows[i].name);
        oc_report_put(t, r, rows[i].path);
        oc_text_add(t, "</code></td></tr>\n");
    }
    row_number(t, r, "events traded", "traded_events", "%.0f");
    row_number(t, r, "predictions", "predictions", "%.0f");
    row_number(t, r, "orders", "orders", "%.0f");
    row_number(t, r, "fills", "fills", "%.0f");
    row_number(t, r, "orders refused by the risk gate", "refusals", "%.0f");
    row_open(t, "trials on the test split so far");
    if (json_is_integer(oc_report_at(r, "trials")))
        oc_report_number(t, oc_report_real(r, "trials"), "%.0f");
    else
        oc_text_add(t, "trials unknown");
    oc_text_add(t, "</td></tr>\n</tbody></table></div>\n");
}

oc_status oc_report_backtest(oc_text *t, const char *folder, const json_t *r)
{
    char from[OC_TIME_TEXT], to[OC_TIME_TEXT];
    const json_t *in_sample = oc_report_at(r, "in_sample");
    oc_time_text(json_integer_value(oc_report_at(r, "first_ns")), from);
    oc_time_text(json_integer_value(oc_report_at(r, "last_ns")), to);
    oc_text_add(t, "<h2>Paper trades%s</h2><p class=\"soft\">", json_is_true(in_sample) ? ", in sample" : "");
    oc_text_html(t, folder);
    oc_text_add(t, ": %.19s to %.19s UTC. Bounds in brackets: 95 %%, block bootstrap of ", from, to);
    oc_report_number(t, oc_report_real(r, "pnl_interval_micros.samples"), "%.0f");
    oc_text_add(t, " stretches of time, ");
    oc_report_number(t, oc_report_real(r, "pnl_interval_micros.block"), "%.0f");
    oc_text_add(t, " in a block.</p>\n");
    stamps(t, r);
    verdict(t, r);
    OC_TRY(charts(t, r));
    oc_text_add(t, "<div class=\"grid2\">");
    figures(t, r);
    costs(t, r);
    oc_text_add(t, "</div>\n");
    settings(t, r);
    provenance(t, r);
    return oc_text_finish(t, "the report");
}

/* ---- in plain words, for a terminal ---- */

oc_status oc_report_backtest_plain(const json_t *r, oc_text *t)
{
    bool unknown = strcmp(oc_report_text(r, "provenance"), "known") != 0;
    oc_text_add(t, "%s%s%.0f events, %.0f orders, %.0f fills, %.0f trades\n",
                json_is_true(oc_report_at(r, "in_sample")) ? "IN SAMPLE: the model has seen this. " : "",
                unknown ? "PROVENANCE UNKNOWN: what the predictions had seen. " : "", oc_report_real(r, "events"),
                oc_report_real(r, "orders"), oc_report_real(r, "fills"), oc_report_real(r, "trades"));
    oc_text_add(t, "net P&L %.2f", units_of(r, "pnl_micros"));
    if (isfinite(units_of(r, "pnl_interval_micros.low")))
        oc_text_add(t, " [%.2f, %.2f]", units_of(r, "pnl_interval_micros.low"),
                    units_of(r, "pnl_interval_micros.high"));
    oc_text_add(t, " after fees %.2f, half the spread %.2f, slippage %.2f; before them %.2f; buy and hold %.2f\n",
                units_of(r, "fees_micros"), units_of(r, "spread_micros"), units_of(r, "slippage_micros"),
                units_of(r, "before_costs_micros"), units_of(r, "hold_micros"));
    oc_text_add(t, "drawdown %.2f, turnover %.2f", units_of(r, "max_drawdown"), units_of(r, "turnover_micros"));
    if (isfinite(oc_report_real(r, "sharpe"))) oc_text_add(t, ", Sharpe %.2f", oc_report_real(r, "sharpe"));
    oc_text_add(t, "\n%s\njournal %s\n", oc_report_text(r, "verdict.text"), oc_report_text(r, "journal_hash"));
    return oc_text_finish(t, "the summary");
}
