/* report_parts.h - the sections of a report, inside this folder. */
#ifndef OC_EVALUATE_REPORT_PARTS_H
#define OC_EVALUATE_REPORT_PARTS_H

#include "base/json.h"
#include "base/text.h"

OC_MUST oc_report_result(oc_text *t, const char *folder, const json_t *metrics);
OC_MUST oc_report_study(oc_text *t, const char *folder, const json_t *study);
OC_MUST oc_report_backtest(oc_text *t, const char *folder, const json_t *results);

/* OC_EDATA unless FOLDER/predictions.h5 is still the file that the figures of `judged` were computed from. */
OC_MUST oc_report_predictions_check(const char *folder, const json_t *judged);

/* OC_EDATA unless the journal in FOLDER is undamaged and still the one of results.json. */
OC_MUST oc_report_journal_check(const char *folder, const json_t *results);

/* Reads that never fail: NaN or "" where a key is absent; paths with dots. */
double oc_report_real(const json_t *root, const char *path);
const char *oc_report_text(const json_t *root, const char *path);
const json_t *oc_report_at(const json_t *root, const char *path); /* NULL where absent */
void oc_report_put(oc_text *t, const json_t *root,
                   const char *path); /* the text at path, escaped: names come from users */
size_t oc_report_reals(const json_t *array, double *out, size_t cap); /* numbers of an array; null: NaN */
void oc_report_number(oc_text *t, double value, const char *format);  /* "–" where not finite */
void oc_report_interval(oc_text *t, const json_t *interval);          /* "0.412 [0.401, 0.424]" */

#endif
