/* features_nodes.c - exact windows over the ring of rows: sums, sums of squares and products, ramps, extremes.
 * Integers throughout, so a window's sum depends on its rows alone and never drifts. The ring is zeroed at a restart,
 * so rows before it count as zero until the window is full (and until then the columns are missing). Bounds that rule
 * out overflow: features_internal.h. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#include "market/features_internal.h"

enum { SCAN_MAX = 24 };        /* windows up to this are scanned: no mispredicted branch, cheaper than a deque */

double oc_wide(oc_i128 x)
{
    if (x >= INT64_MIN && x <= INT64_MAX) return (double)(int64_t)x;
    int64_t high = (int64_t)(x >> 64);
    uint64_t low = (uint64_t)x;
    return (double)high * 0x1p64 + (double)low;
}

static void sum_update(const oc_node *n, void *state, const oc_view *v)
{
    *(int64_t *)state += v->now->s[n->a] - oc_row_ago(v, n->window)->s[n->a];
}

static void squares_update(const oc_node *n, void *state, const oc_view *v)
{
    int64_t in = v->now->s[n->a], out = oc_row_ago(v, n->window)->s[n->a];
    *(oc_i128 *)state += (oc_i128)(in - out) * (in + out);
}

static void moments_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_moments *m = state;
    int64_t in = v->now->s[n->a], out = oc_row_ago(v, n->window)->s[n->a], sum = m->sum + (in - out);
    oc_i128 squares = m->squares + (oc_i128)(in - out) * (in + out);
    m->sum = sum;
    m->squares = squares;
    m->scatter = oc_wide(squares * n->window - (oc_i128)sum * sum);
    m->root = sqrt(m->scatter);
}

typedef double pair __attribute__((vector_size(16)));
typedef int64_t pair_mask __attribute__((vector_size(16)));

static inline pair positive(const double *x, pair mean)
{
    pair d;
    memcpy(&d, x, sizeof d);
    d -= mean;
    return (pair)((pair_mask)d & (pair_mask)(d > 0.0));
}

/* The window lies twice in `recent`, so that it is contiguous wherever it begins: oldest first, the same order of sums
 * whenever the run began. */
static void deviation_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_deviation *d = state;
    int64_t in = v->now->s[n->a];
    d->sum += in - oc_row_ago(v, n->window)->s[n->a];
    double *recent = (double *)(void *)(d + 1);
    recent[d->at] = recent[d->at + n->window] = (double)in;
    const double *x = &recent[++d->at];
    if (d->at == n->window) d->at = 0;
    double mean = (double)d->sum / n->window;
    pair means = {mean, mean}, a = {0.0, 0.0}, b = a;
    uint32_t i = 0;
    for (; i + 4 <= n->window; i += 4) {
        a += positive(x + i, means);
        b += positive(x + i + 2, means);
    }
    a += b;
    double above = a[0] + a[1];
    for (; i < n->window; i++) above += x[i] > mean ? x[i] - mean : 0.0;
    d->above = above;
}

static void product_update(const oc_node *n, void *state, const oc_view *v)
{
    int64_t in_b = oc_row_ago(v, n->lag)->s[n->b];
    const oc_ring_row *out = oc_row_ago(v, n->window);
    int64_t out_b = oc_row_ago(v, n->window + n->lag)->s[n->b];
    *(oc_i128 *)state += (oc_i128)v->now->s[n->a] * in_b - (oc_i128)out->s[n->a] * out_b;
}

/* All rows of the window move one place down: subtract the sum of those that stay, add the new one at window - 1. */
static void ramp_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_ramp *r = state;
    int64_t in = v->now->s[n->a], stay = r->sum - oc_row_ago(v, n->window)->s[n->a];
    r->ramp += (oc_i128)in * (n->window - 1) - stay;
    r->sum = stay + in;
}

/* lag 1: highest; lag 0: lowest. Equal values: the latest, as in TA-Lib. */
static void scan_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_extreme *x = state;
    int64_t sign = n->lag ? 1 : -1, best = INT64_MIN;
    uint32_t age = 0;
    for (uint32_t i = n->window; i-- > 0;) {
        int64_t value = sign * oc_row_ago(v, i)->s[n->a];
        bool better = value >= best;
        best = better ? value : best;
        age = better ? i : age;
    }
    x->value = sign * best;
    x->age = age;
}

/* Monotonic deque: values that can still become the extreme, in order of age. Amortised one step a row. */
typedef struct deque_entry { int64_t value; uint64_t row; } deque_entry;
typedef struct deque { oc_extreme best; uint32_t first, count; uint64_t reserved; } deque;

static void deque_update(const oc_node *n, void *state, const oc_view *v)
{
    deque *d = state;
    deque_entry *entry = (deque_entry *)(void *)(d + 1);
    uint32_t mask = n->p[0] - 1;
    int64_t sign = n->lag ? 1 : -1, value = sign * v->now->s[n->a];
    while (d->count && entry[(d->first + d->count - 1) & mask].value <= value) d->count--;
    if (d->count && entry[d->first].row + n->window <= v->rows) {
        d->first = (d->first + 1) & mask;
        d->count--;
    }
    entry[(d->first + d->count) & mask] = (deque_entry){value, v->rows};
    d->count++;
    d->best.value = sign * entry[d->first].value;
    d->best.age = (uint32_t)(v->rows - entry[d->first].row);
}

/* Slow stochastic of TA-Lib (STOCH with simple averages) [Lane84]: %K fast over p0 rows, mean of p1, mean of p2. The
 * means are summed anew each row from the newest, so that they have no history beyond their rows. */
static void stochastic_update(const oc_node *n, void *state, const oc_view *v)
{
    oc_stochastic *s = state;
    int64_t high = INT64_MIN, low = INT64_MAX;
    for (uint32_t i = 0; i < n->p[0]; i++) {
        const oc_ring_row *row = oc_row_ago(v, i);
        high = row->s[OC_SERIES_HIGH] > high ? row->s[OC_SERIES_HIGH] : high;
        low = row->s[OC_SERIES_LOW] < low ? row->s[OC_SERIES_LOW] : low;
    }
    uint32_t at = (uint32_t)v->rows & 63u;
    s->fast[at] = high > low ? (double)(v->now->s[OC_SERIES_CLOSE] - low) / (double)(high - low) : 0.0;
    double sum = 0.0;
    for (uint32_t i = 0; i < n->p[1]; i++) sum += s->fast[(at - i) & 63u];
    s->slow_k[at] = s->k = sum * n->k[0];
    sum = 0.0;
    for (uint32_t i = 0; i < n->p[2]; i++) sum += s->slow_k[(at - i) & 63u];
    s->d = sum * n->k[1];
}

static oc_status window_check(const oc_feature_column *c, uint32_t rows)
{
    if (rows >= 1 && rows <= OC_FEATURE_WINDOW_MAX) return OC_OK;
    return OC_FAIL(OC_ECONFIG, "feature %s: a window of %u rows; from 1 to %d are possible", c->info->name, rows,
                   OC_FEATURE_WINDOW_MAX);
}

oc_status oc_plan_sum(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    OC_TRY(window_check(c, window));
    return oc_plan_node(plan, c, slot, &(oc_node){.update = sum_update, .window = window, .a = series,
                                                  .rows = window, .bytes = sizeof(int64_t)});
}

oc_status oc_plan_squares(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    OC_TRY(window_check(c, window));
    return oc_plan_node(plan, c, slot, &(oc_node){.update = squares_update, .window = window, .a = series,
                                                  .rows = window, .bytes = sizeof(oc_i128)});
}

oc_status oc_plan_moments(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    OC_TRY(window_check(c, window));
    return oc_plan_node(plan, c, slot, &(oc_node){.update = moments_update, .window = window, .a = series,
                                                  .rows = window, .bytes = sizeof(oc_moments)});
}

oc_status oc_plan_deviation(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series,
                            uint32_t window)
{
    OC_TRY(window_check(c, window));
    return oc_plan_node(plan, c, slot,
                        &(oc_node){.update = deviation_update,
                                   .window = window,
                                   .a = series,
                                   .rows = window,
                                   .bytes = sizeof(oc_deviation) + 2 * window * sizeof(double)});
}

oc_status oc_plan_product(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series a, oc_series b,
                          uint32_t lag, uint32_t window)
{
    OC_TRY(window_check(c, window + lag));
    return oc_plan_node(plan, c, slot, &(oc_node){.update = product_update, .window = window, .lag = lag, .a = a,
                                                  .b = b, .rows = window + lag, .bytes = sizeof(oc_i128)});
}

oc_status oc_plan_ramp(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    OC_TRY(window_check(c, window));
    return oc_plan_node(plan, c, slot, &(oc_node){.update = ramp_update, .window = window, .a = series,
                                                  .rows = window, .bytes = sizeof(oc_ramp)});
}

static oc_status extreme(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window,
                         uint32_t highest)
{
    OC_TRY(window_check(c, window));
    oc_node n = {.update = scan_update, .window = window, .lag = highest, .a = series, .rows = window,
                 .bytes = sizeof(oc_extreme)};
    if (window > SCAN_MAX) {
        uint32_t capacity = 1;
        while (capacity < window + 1) capacity *= 2;
        n.update = deque_update;
        n.p[0] = capacity;
        n.bytes = sizeof(deque) + capacity * sizeof(deque_entry);
    }
    return oc_plan_node(plan, c, slot, &n);
}

oc_status oc_plan_highest(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    return extreme(plan, c, slot, series, window, 1);
}

oc_status oc_plan_lowest(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, oc_series series, uint32_t window)
{
    return extreme(plan, c, slot, series, window, 0);
}

oc_status oc_plan_stochastic(oc_feature_plan *plan, oc_feature_column *c, uint32_t slot, const uint32_t p[3])
{
    OC_TRY(window_check(c, p[0]));
    if (!(p[1] >= 1 && p[1] <= 64 && p[2] >= 1 && p[2] <= 64))
        return OC_FAIL(OC_ECONFIG, "feature %s: the two averages take 1 to 64 rows", c->info->name);
    oc_plan_series(plan, OC_SERIES_HIGH);
    oc_plan_series(plan, OC_SERIES_LOW);
    return oc_plan_node(plan, c, slot, &(oc_node){.update = stochastic_update, .window = p[0],
                                                  .p = {p[0], p[1], p[2]}, .rows = p[0] + p[1] + p[2] - 2,
                                                  .k = {1.0 / p[1], 1.0 / p[2]}, .bytes = sizeof(oc_stochastic)});
}
