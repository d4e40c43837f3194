/* timestamp.c - one pass over format and text; no strptime, whose fields depend on the locale. */
#include "market/timestamp.h"

#include <stddef.h>
#include <string.h>

#include "base/clock.h"

typedef struct epoch { const char *name; int64_t unit_ns; uint32_t digits; } epoch;

static const epoch epochs[] = {
    {"epoch_s", OC_SECOND_NS, 10}, {"epoch_ms", 1000000, 13}, {"epoch_us", 1000, 16}, {"epoch_ns", 1, 19}};

static const char *const usual[] = {
    "%Y-%m-%d %H:%M:%S",   "%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d %H:%M",    "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z",
    "%Y-%m-%dT%H:%M",      "%Y-%m-%d",            "%Y.%m.%d %H:%M:%S", "%Y.%m.%d %H:%M",    "%Y.%m.%d",
    "%d.%m.%Y %H:%M:%S",   "%d.%m.%Y %H:%M",      "%d.%m.%Y",          "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M",
    "%Y/%m/%d",            "%Y%m%d %H:%M:%S",     "%Y%m%d %H:%M",      "%Y%m%d %H%M%S",     "%Y%m%d %H%M",
    "%Y%m%d",
};

typedef struct cursor { const char *at, *end; } cursor;

static bool digits_read(cursor *c, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, c->at++) {
        if (c->at == c->end || *c->at < '0' || *c->at > '9') return false;
        *value = *value * 10 + (*c->at - '0');
    }
    return true;
}

/* ".318000000"; absent is 0. */
static bool fraction_read(cursor *c, int64_t *ns)
{
    int64_t unit = OC_SECOND_NS / 10;
    *ns = 0;
    if (c->at == c->end || (*c->at != '.' && *c->at != ',')) return true;
    c->at++;
    if (c->at == c->end || *c->at < '0' || *c->at > '9') return false;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++, unit /= 10) {
        if (unit == 0) return false;
        *ns += unit * (*c->at - '0');
    }
    return true;
}

static bool offset_read(cursor *c, int64_t *offset_s)
{
    int hours, minutes;
    *offset_s = 0;
    if (c->at == c->end) return false;
    char sign = *c->at++;
    if (sign == 'Z') return true;
    if ((sign != '+' && sign != '-') || !digits_read(c, 2, &hours)) return false;
    if (c->at < c->end && *c->at == ':') c->at++;
    if (!digits_read(c, 2, &minutes) || hours > 15 || minutes > 59) return false;
    *offset_s = (sign == '-' ? -60 : 60) * ((int64_t)hours * 60 + minutes);
    return true;
}

static const epoch *epoch_find(const char *name)
{
    for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
        if (strcmp(epochs[i].name, name) == 0) return &epochs[i];
    }
    return NULL;
}

static bool epoch_parse(const epoch *e, oc_field field, oc_timestamp *out)
{
    int64_t value, fraction_ns = 0;
    const char *point = memchr(field.text, '.', field.length);
    if (point && e->unit_ns == OC_SECOND_NS) {                  /* "1438214400.25" */
        cursor c = {point, field.text + field.length};
        if (!fraction_read(&c, &fraction_ns) || c.at != c.end) return false;
        field.length = (uint32_t)(point - field.text);
    }
    if (!oc_field_int(field, &value) || value > INT64_MAX / e->unit_ns - 1 || value < INT64_MIN / e->unit_ns + 1)
        return false;
    *out = (oc_timestamp){value * e->unit_ns + fraction_ns, true};
    return true;
}

typedef struct civil { int year, month, day, hour, minute, second; int64_t fraction_ns, offset_s; bool offset; } civil;

/* One conversion letter of the format. */
static bool part_read(char letter, cursor *c, civil *t)
{
    switch (letter) {
    case 'Y': return digits_read(c, 4, &t->year);
    case 'm': return digits_read(c, 2, &t->month);
    case 'd': return digits_read(c, 2, &t->day);
    case 'H': return digits_read(c, 2, &t->hour);
    case 'M': return digits_read(c, 2, &t->minute);
    case 'S': return digits_read(c, 2, &t->second) && fraction_read(c, &t->fraction_ns);
    case 'z': t->offset = true; return offset_read(c, &t->offset_s);
    default: return false;
    }
}

bool oc_timestamp_parse(const char *format, oc_field field, oc_timestamp *out)
{
    const epoch *e = epoch_find(format);
    if (e) return epoch_parse(e, field, out);
    cursor c = {field.text, field.text + field.length};
    civil t = {.month = 1, .day = 1};
    for (const char *f = format; *f; f++) {
        if (*f == '%') {
            if (!part_read(*++f, &c, &t)) return false;
        } else {
            if (c.at == c.end || *c.at != *f) return false;
            c.at++;
        }
    }
    if (c.at != c.end) return false;
    if (!oc_time_from_civil(t.year, t.month, t.day, t.hour, t.minute, t.second, t.fraction_ns, &out->ns)) return false;
    out->ns -= t.offset_s * OC_SECOND_NS;
    out->is_utc = t.offset;
    return true;
}

bool oc_timestamp_format_known(const char *format)
{
    if (epoch_find(format)) return true;
    if (!strstr(format, "%Y") || !strstr(format, "%m") || !strstr(format, "%d")) return false;
    for (const char *f = strchr(format, '%'); f; f = strchr(f + 2, '%')) {
        if (f[1] == '\0' || !strchr("YmdHMSz", f[1])) return false;
    }
    return true;
}

const char *oc_timestamp_guess(oc_field field)
{
    oc_timestamp ignored;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        if (oc_timestamp_parse(usual[i], field, &ignored)) return usual[i];
    }
    for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
        const char *point = memchr(field.text, '.', field.length);
        uint32_t digits = point ? (uint32_t)(point - field.text) : field.length;
        if (digits == epochs[i].digits && epoch_parse(&epochs[i], field, &ignored)) return epochs[i].name;
    }
    return NULL;
}
