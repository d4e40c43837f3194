/* report.h - results as one self-contained page (inline SVG and CSS, no script, no outside resource) and the same
 * figures as JSON beside it (R.html -> R.json). Inputs are folders of `outcry evaluate` (metrics.json) or of `outcry
 * study` (study.json). The predictions behind each result are hashed again: what has changed since is refused. */
#ifndef OC_EVALUATE_REPORT_H
#define OC_EVALUATE_REPORT_H

#include "base/status.h"

OC_MUST oc_report_write(const char *const *inputs, size_t count, const char *out_html);

#endif
