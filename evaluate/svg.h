/* svg.h - the few charts of a report as inline SVG: no script, no font, no outside resource. Colours come from CSS
 * classes s0…s5 of the page, so that a chart follows light and dark. NaN points are left out. */
#ifndef OC_EVALUATE_SVG_H
#define OC_EVALUATE_SVG_H

#include <stdbool.h>
#include "base/text.h"

enum { OC_SVG_SERIES_MAX = 6 };

typedef struct oc_svg_series {
    const char *name;
    const double *x, *y;
    const double *low, *high; /* whiskers; may be NULL */
    size_t count;
    bool line, dots;
} oc_svg_series;

typedef struct oc_svg_chart {
    const char *title, *x_label, *y_label;
    const char *const *x_names; /* categories at x = 0, 1, 2, …; NULL: a number axis */
    size_t x_name_count;
    double x_min, x_max, y_min, y_max; /* min > max: from the data */
    bool diagonal;                     /* of a reliability diagram */
    bool y_zero;                       /* a line at y = 0 */
    oc_svg_series series[OC_SVG_SERIES_MAX];
    int series_count;
} oc_svg_chart;

void oc_svg_draw(oc_text *out, const oc_svg_chart *chart);
/* Grouped bars: value[group * series + s] in [0, max of all]. */
void oc_svg_bars(oc_text *out, const char *title, const char *const *groups, int group_count, const char *const *series,
                 int series_count, const double *value, const char *y_label);

#endif
