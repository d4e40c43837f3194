/* svg.c - axes with round ticks, lines, dots, whiskers, bars. One frame for all charts. */
#include "evaluate/svg.h"

#include <math.h>

enum { WIDTH = 560, HEIGHT = 300, LEFT = 62, RIGHT = 14, TOP = 14, BOTTOM = 46, TICKS = 5 };

typedef struct frame {
    double x_min, x_max, y_min, y_max;
} frame;

static double at_x(const frame *f, double x)
{
    return LEFT + (x - f->x_min) / (f->x_max - f->x_min) * (WIDTH - LEFT - RIGHT);
}

static double at_y(const frame *f, double y)
{
    return HEIGHT - BOTTOM - (y - f->y_min) / (f->y_max - f->y_min) * (HEIGHT - TOP - BOTTOM);
}

/* 1, 2 or 5 times a power of ten, so that about TICKS of them fill the range. */
static double round_step(double range)
{
    double raw = range / TICKS, power = pow(10, floor(log10(raw))), share = raw / power;
    return power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10);
}

static void widen(double value, double *low, double *high)
{
    if (!isfinite(value)) return;
    if (!(value >= *low)) *low = value;
    if (!(value <= *high)) *high = value;
}

static void settle(double *low, double *high, double pad)
{
    if (!(*low <= *high)) *low = 0, *high = 1;
    double range = *high - *low;
    if (!(range > 0)) range = fabs(*high) > 0 ? fabs(*high) * 0.1 : 1, *low -= range / 2, *high += range / 2;
    *low -= range * pad;
    *high += range * pad;
}

static frame frame_of(const oc_svg_chart *c)
{
    frame f = {(double)INFINITY, -(double)INFINITY, (double)INFINITY, -(double)INFINITY};
    for (int s = 0; s < c->series_count; s++) {
        for (size_t i = 0; i < c->series[s].count; i++) {
            if (!isfinite(c->series[s].y[i])) continue;
            widen(c->series[s].x[i], &f.x_min, &f.x_max);
            widen(c->series[s].y[i], &f.y_min, &f.y_max);
            if (c->series[s].low) widen(c->series[s].low[i], &f.y_min, &f.y_max);
            if (c->series[s].high) widen(c->series[s].high[i], &f.y_min, &f.y_max);
        }
    }
    if (c->y_zero) widen(0, &f.y_min, &f.y_max);
    settle(&f.x_min, &f.x_max, 0);
    settle(&f.y_min, &f.y_max, 0.05);
    if (c->x_names) f.x_min = -0.5, f.x_max = (double)c->x_name_count - 0.5;
    if (c->x_min < c->x_max) f.x_min = c->x_min, f.x_max = c->x_max;
    if (c->y_min < c->y_max) f.y_min = c->y_min, f.y_max = c->y_max;
    return f;
}

static void open_chart(oc_text *out, const char *title)
{
    oc_text_add(out, "<figure><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT);
    oc_text_html(out, title);
    oc_text_add(out, "\">");
}

static void close_chart(oc_text *out, const char *title)
{
    oc_text_add(out, "</svg><figcaption>");
    oc_text_html(out, title);
    oc_text_add(out, "</figcaption></figure>\n");
}

static void label(oc_text *out, double x, double y, const char *anchor, const char *text)
{
    oc_text_add(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    oc_text_html(out, text);
    oc_text_add(out, "</text>");
}

static void axis_y(oc_text *out, const frame *f, const char *name)
{
    double step = round_step(f->y_max - f->y_min), first = ceil(f->y_min / step) * step;
    for (int i = 0; i <= 3 * TICKS && first + i * step <= f->y_max + step * 1e-9; i++) {
        double y = first + i * step;
        oc_text_add(out, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT,
                    at_y(f, y), at_y(f, y));
        oc_text_add(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>", LEFT - 6, at_y(f, y) + 4,
                    fabs(y) < step * 1e-6 ? 0 : y);
    }
    oc_text_add(out, "<text transform=\"translate(13 %d) rotate(-90)\" text-anchor=\"middle\">",
                (HEIGHT - BOTTOM + TOP) / 2);
    oc_text_html(out, name);
    oc_text_add(out, "</text>");
}

static void axis_x(oc_text *out, const oc_svg_chart *c, const frame *f)
{
    if (c->x_names) {
        size_t every = (c->x_name_count + 11) / 12;
        for (size_t i = 0; i < c->x_name_count; i += every)
            label(out, at_x(f, (double)i), HEIGHT - BOTTOM + 16, "middle", c->x_names[i]);
    } else {
        double step = round_step(f->x_max - f->x_min), first = ceil(f->x_min / step) * step;
        for (int i = 0; i <= 3 * TICKS && first + i * step <= f->x_max + step * 1e-9; i++) {
            double x = first + i * step;
            oc_text_add(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.4g</text>", at_x(f, x),
                        HEIGHT - BOTTOM + 16, fabs(x) < step * 1e-6 ? 0 : x);
        }
    }
    label(out, (WIDTH + LEFT - RIGHT) / 2.0, HEIGHT - BOTTOM + 34, "middle", c->x_label);
}

static void draw_series(oc_text *out, const oc_svg_series *s, const frame *f, int number)
{
    if (s->line) {
        oc_text_add(out, "<polyline class=\"line s%d\" points=\"", number);
        for (size_t i = 0; i < s->count; i++) {
            if (isfinite(s->y[i])) oc_text_add(out, "%.1f,%.1f ", at_x(f, s->x[i]), at_y(f, s->y[i]));
        }
        oc_text_add(out, "\"/>");
    }
    for (size_t i = 0; i < s->count; i++) {
        if (!isfinite(s->y[i])) continue;
        if (s->low && s->high && isfinite(s->low[i]) && isfinite(s->high[i]))
            oc_text_add(out, "<line class=\"line s%d\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", number,
                        at_x(f, s->x[i]), at_x(f, s->x[i]), at_y(f, s->low[i]), at_y(f, s->high[i]));
        if (s->dots)
            oc_text_add(out, "<circle class=\"dot s%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>", number, at_x(f, s->x[i]),
                        at_y(f, s->y[i]));
    }
}

static void legend(oc_text *out, const char *const *names, int count)
{
    double x = LEFT + 8;
    for (int s = 0; s < count; s++) {
        size_t letters = 0;
        while (names[s][letters]) letters++;
        oc_text_add(out, "<rect class=\"dot s%d\" x=\"%.1f\" y=\"4\" width=\"9\" height=\"9\"/>", s, x);
        label(out, x + 13, 12, "start", names[s]);
        x += 30 + 6.4 * (double)letters;
    }
}

void oc_svg_draw(oc_text *out, const oc_svg_chart *c)
{
    frame f = frame_of(c);
    const char *names[OC_SVG_SERIES_MAX];
    open_chart(out, c->title);
    axis_y(out, &f, c->y_label);
    axis_x(out, c, &f);
    if (c->diagonal)
        oc_text_add(out, "<line class=\"zero\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>", at_x(&f, f.x_min),
                    at_y(&f, f.x_min), at_x(&f, f.x_max), at_y(&f, f.x_max));
    if (c->y_zero)
        oc_text_add(out, "<line class=\"zero\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT,
                    at_y(&f, 0), at_y(&f, 0));
    for (int s = 0; s < c->series_count; s++) {
        draw_series(out, &c->series[s], &f, s);
        names[s] = c->series[s].name;
    }
    legend(out, names, c->series_count);
    close_chart(out, c->title);
}

void oc_svg_bars(oc_text *out, const char *title, const char *const *groups, int group_count, const char *const *series,
                 int series_count, const double *value, const char *y_label)
{
    frame f = {0, group_count, 0, 0};
    for (int i = 0; i < group_count * series_count; i++) {
        if (isfinite(value[i]) && value[i] > f.y_max) f.y_max = value[i];
    }
    f.y_max = f.y_max > 0 ? f.y_max * 1.1 : 1;
    open_chart(out, title);
    axis_y(out, &f, y_label);
    double width = (at_x(&f, 1) - at_x(&f, 0)) * 0.7 / series_count;
    for (int g = 0; g < group_count; g++) {
        for (int s = 0; s < series_count; s++) {
            double v = value[g * series_count + s], x = at_x(&f, g + 0.15) + s * width;
            if (!isfinite(v)) continue;
            oc_text_add(out, "<rect class=\"dot s%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>", s, x,
                        at_y(&f, v), width - 2, at_y(&f, 0) - at_y(&f, v));
        }
        label(out, at_x(&f, g + 0.5), HEIGHT - BOTTOM + 16, "middle", groups[g]);
    }
    legend(out, series, series_count);
    close_chart(out, title);
}
