/* curve.c - see curve.h. */
#include "trade/curve.h"

static int64_t greater(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void neighbours_merge(oc_curve *c)
{
    for (size_t i = 0; i < c->count; i += 2) {
        size_t second = i + 1 < c->count ? i + 1 : i;
        c->point[i / 2] = (oc_curve_point){c->point[second].equity_micros, c->point[second].hold_micros,
                                           greater(c->point[i].drawdown_micros, c->point[second].drawdown_micros)};
    }
    c->count = (c->count + 1) / 2;
    c->step_ns *= 2;
}

void oc_curve_add(oc_curve *c, int64_t now_ns, oc_curve_point now)
{
    if (c->count == 0) {
        c->step_ns = OC_CURVE_STEP_NS;
        c->start_ns = now_ns / c->step_ns * c->step_ns;
        c->latest = now;
    }
    while ((now_ns - c->start_ns) / c->step_ns >= OC_CURVE_MAX) neighbours_merge(c);
    size_t at = (size_t)((now_ns - c->start_ns) / c->step_ns);
    while (c->count <= at) c->point[c->count++] = c->latest; /* a stretch begins with what was before it */
    c->point[at] = (oc_curve_point){now.equity_micros, now.hold_micros,
                                    greater(now.drawdown_micros, c->point[at].drawdown_micros)};
    c->latest = now;
}
