/* report.h - results as one self-contained page (inline SVG and CSS, no script, no outside resource) and the same
 * figures as JSON beside it (R.html -> R.json). Inputs are folders of `outcry evaluate` (metrics.json) or of `outcry
 * study` (study.json), or runs of `outcry backtest` or `outcry trade` (results.json). The predictions or the journal
 * behind each are hashed again: what has changed since is refused. */
#ifndef OC_EVALUATE_REPORT_H
#define OC_EVALUATE_REPORT_H

#include "base/json.h"
#include "base/status.h"
#include "base/text.h"

OC_MUST oc_report_write(const char *const *inputs, size_t count, const char *out_html);

/* results.json of a backtest in a few lines of plain text. */
OC_MUST oc_report_backtest_plain(const json_t *results, oc_text *t);

extern const char oc_report_style[]; /* CSS of a page: what the classes of svg.h mean, light and dark */

#endif
