/* labels.c - one pass over the rows with three pointers that only move forward: base row, horizon row, and the row up
 * to which no break lies ahead. So a piece [first, last) costs its own rows and one horizon, whatever the length of the
 * series, and nothing past the horizon row is ever read. */
#include "datasets/labels.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HORIZON_ROWS_MAX = 1000000, SMOOTH_ROWS_MAX = 10000 };
#define HORIZON_NS_MAX (INT64_C(366) * 86400 * 1000000000)
#define THRESHOLD_MAX 1.0

static const struct { const char *name; oc_label_kind kind; bool duration; } kinds[] = {
    {"direction", OC_LABEL_DIRECTION, true},
    {"smooth", OC_LABEL_SMOOTH, false},          /* a mean over rows: a duration would mean another formula */
    {"cost", OC_LABEL_COST, true},
};

static const struct { const char *unit; int64_t ns; } units[] = {
    {"ns", 1}, {"us", 1000}, {"ms", 1000000}, {"s", 1000000000}, {"m", INT64_C(60) * 1000000000},
    {"h", INT64_C(3600) * 1000000000}, {"d", INT64_C(86400) * 1000000000},
};

/* "10" -> rows, "250ms" -> ns. False where it is neither. */
static bool horizon_parse(const char *text, size_t length, oc_label_rule *rule)
{
    size_t digits = 0;
    int64_t count = 0;
    while (digits < length && digits < 15 && isdigit((unsigned char)text[digits]))
        count = count * 10 + (text[digits++] - '0');
    if (digits == 0 || count < 1) return false;
    if (digits == length) {
        rule->horizon_rows = count;
        return count <= (rule->kind == OC_LABEL_SMOOTH ? SMOOTH_ROWS_MAX : HORIZON_ROWS_MAX);
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strlen(units[i].unit) != length - digits || memcmp(units[i].unit, text + digits, length - digits) != 0)
            continue;
        if (count > HORIZON_NS_MAX / units[i].ns) return false;
        rule->horizon_ns = count * units[i].ns;
        return true;
    }
    return false;
}

static bool threshold_parse(const char *text, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;            /* no sign, no space, no "nan" */
    if (strspn(text, "0123456789.eE-+") != strlen(text)) return false;
    *out = strtod(text, &end);
    return *end == '\0' && *out >= 0.0 && *out < THRESHOLD_MAX;
}

oc_status oc_label_parse(oc_label_rule *out, const char *text, int64_t entry_delay_ns)
{
    assert(out && text);
    memset(out, 0, sizeof *out);
    if (strlen(text) >= sizeof out->text)
        return OC_FAIL(OC_ECONFIG, "label \"%.100s…\" is longer than %zu bytes", text, sizeof out->text - 1);
    memcpy(out->text, text, strlen(text) + 1);
    if (entry_delay_ns < 0 || entry_delay_ns > HORIZON_NS_MAX)
        return OC_FAIL(OC_ECONFIG, "label \"%s\": an entry delay of %lld ns is not from 0 ns to 366 days", text,
                       (long long)entry_delay_ns);
    out->entry_delay_ns = entry_delay_ns;
    const char *first = strchr(text, ':'), *second = first ? strchr(first + 1, ':') : NULL;
    for (size_t i = 0; second && i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].name);
        if (length != (size_t)(first - text) || memcmp(kinds[i].name, text, length) != 0) continue;
        out->kind = kinds[i].kind;
        if (!horizon_parse(first + 1, (size_t)(second - first - 1), out))
            return OC_FAIL(
                OC_ECONFIG,
                "label \"%s\": its horizon is not a number of rows (1 to %d) or a time like 250ms, 10s, 5m, 1h", text,
                out->kind == OC_LABEL_SMOOTH ? SMOOTH_ROWS_MAX : HORIZON_ROWS_MAX);
        if (out->horizon_ns && !kinds[i].duration)
            return OC_FAIL(OC_ECONFIG, "label \"%s\": %s takes a number of rows as its horizon, not a time", text,
                           kinds[i].name);
        if (!threshold_parse(second + 1, &out->threshold))
            return OC_FAIL(OC_ECONFIG, "label \"%s\": its threshold is not a return from 0 to below 1, like 0.0002",
                           text);
        return OC_OK;
    }
    return OC_FAIL(OC_ECONFIG,
                   "label \"%s\" is not direction:K:THRESHOLD, direction:DURATION:THRESHOLD, smooth:K:THRESHOLD "
                   "or cost:K:COST",
                   text);
}

typedef struct walk {
    size_t base, horizon, clear;                 /* no break in (row, clear] */
} walk;

static bool price_good(double price)
{
    return price > 0.0 && price < HUGE_VAL;
}

/* Mid at the horizon, or the mean of the K after the base. NaN where a price is not good. */
static double price_later(const oc_label_rule *rule, const oc_label_series *s, const walk *w)
{
    if (rule->kind != OC_LABEL_SMOOTH) return price_good(s->mid[w->horizon]) ? s->mid[w->horizon] : (double)NAN;
    double sum = 0.0;
    for (size_t i = w->base + 1; i <= w->horizon; i++) sum += price_good(s->mid[i]) ? s->mid[i] : (double)NAN;
    return sum / (double)rule->horizon_rows;
}

static double hurdle(const oc_label_rule *rule, const oc_label_series *s, const walk *w)
{
    if (rule->kind != OC_LABEL_COST) return rule->threshold;
    double entry = s->spread[w->base], leave = s->spread[w->horizon];
    if (!(entry >= 0.0 && entry < HUGE_VAL && leave >= 0.0 && leave < HUGE_VAL)) return (double)NAN;
    return rule->threshold + 0.5 * (entry + leave) / s->mid[w->base];
}

/* Moves the pointers to `row`; false where the horizon lies beyond the end or behind a break. */
static bool walk_to(walk *w, const oc_label_rule *rule, const oc_label_series *s, size_t row)
{
    int64_t entry;
    if (w->base < row) w->base = row;
    if (w->clear < row) w->clear = row;
    if (rule->entry_delay_ns) {
        if (__builtin_add_overflow(s->time_ns[row], rule->entry_delay_ns, &entry)) return false;
        while (w->base < s->rows && s->time_ns[w->base] < entry) w->base++;
        if (w->base >= s->rows) return false;
    }
    if (rule->horizon_rows) {
        if ((uint64_t)rule->horizon_rows >= s->rows - w->base) return false;
        w->horizon = w->base + (size_t)rule->horizon_rows;
    } else {
        int64_t due;
        if (__builtin_add_overflow(s->time_ns[w->base], rule->horizon_ns, &due)) return false;
        if (w->horizon < w->base) w->horizon = w->base;
        while (w->horizon < s->rows && s->time_ns[w->horizon] < due) w->horizon++;
        if (w->horizon >= s->rows) return false;
    }
    while (w->clear < w->horizon && !s->break_before[w->clear + 1]) w->clear++;
    return w->clear >= w->horizon;
}

oc_status oc_label_compute(const oc_label_rule *rule, const oc_label_series *s, size_t first, size_t last,
                           oc_label_columns *out)
{
    assert(rule && s && out && first <= last && last <= s->rows);
    walk w = {first, first, first};
    for (size_t row = first; row < last; row++) {
        size_t at = row - first;
        out->class_[at] = OC_CLASS_HOLD;
        out->valid[at] = 0;
        out->known_ns[at] = s->time_ns[row];
        out->return_[at] = 0.0f;
        if (row > 0 && s->time_ns[row] < s->time_ns[row - 1])
            return OC_FAIL(OC_EDATA, "label %s: row %zu is earlier than the row before it", rule->text, row);
        if (!walk_to(&w, rule, s, row) || !price_good(s->mid[w.base])) continue;
        double change = price_later(rule, s, &w) / s->mid[w.base] - 1.0, least = hurdle(rule, s, &w);
        if (!(change >= -1.0 && change < HUGE_VAL && least >= 0.0 && least < HUGE_VAL)) continue;
        out->class_[at] = change > least ? OC_CLASS_BUY : change < -least ? OC_CLASS_SELL : OC_CLASS_HOLD;
        out->valid[at] = 1;
        out->known_ns[at] = s->time_ns[w.horizon];
        out->return_[at] = (float)change;
    }
    return OC_OK;
}
