/* covering.c - see the header. */
#include "kernels_cuda/covering.h"

#include <stdlib.h>
#include <string.h>
#include "base/random.h"
#include "kernels/ops.h"

enum { CANDIDATES = 400, PAIRS_MAX = COVERING_AXES * COVERING_AXES * COVERING_VALUES * COVERING_VALUES };

const covering_axis covering_lstm[COVERING_LSTM_AXES] = {
    {"B", 4, {1, 3, 16, 65}},
    {"T", 3, {1, 2, 17}},
    {"F", 3, {1, 5, 40}},
    {"H", 6, {8, 40, 64, 100, 128, 256}},
    {"math", 3, {OC_MATH_BF16, OC_MATH_TF32, OC_MATH_F32}}, /* the first is served by every variant */
    {"variant", COVERING_VARIANTS, {0, 1, 2, 3, 4, 5}},
};

/* As choice.cuh has them. */
const char *const covering_variants[COVERING_VARIANTS] = {"twin",      "twin-wave", "scan",
                                                          "scan-wave", "fused",     "fused-wave"};

int covering_lstm_layers(const covering_case *c)
{
    return 1 + c->value[COVERING_VARIANT] % 2; /* a wavefront has two */
}

static bool served(const covering_case *c)
{
    const int variant = c->value[COVERING_VARIANT] / 2, math = c->value[COVERING_MATH],
              hidden = c->value[COVERING_HIDDEN];
    if (variant > 0 && hidden > 128) return false;
    return variant < 2 || (math != OC_MATH_F32 && hidden <= (math == OC_MATH_TF32 ? 64 : 128));
}

int64_t covering_lstm_work(const covering_case *c)
{
    const int64_t rows = (int64_t)c->value[COVERING_BATCH] * c->value[COVERING_STEPS],
                  hidden = c->value[COVERING_HIDDEN];
    const int64_t above = covering_lstm_layers(c) > 1 ? 2 * hidden : 0;
    return served(c) ? rows * 4 * hidden * (c->value[COVERING_INPUTS] + hidden + above) * 3 : INT64_MAX;
}

typedef struct search {
    const covering_axis *axes;
    int axis_count;
    covering_work work;
    int64_t work_max;
    bool done[PAIRS_MAX];
    uint64_t drawn;
} search;

static int pair_at(int a, int i, int b, int j)
{
    return ((a * COVERING_AXES + b) * COVERING_VALUES + i) * COVERING_VALUES + j;
}

static covering_case case_of(const search *s, const int *index)
{
    covering_case c = {{0}};
    for (int a = 0; a < s->axis_count; a++) c.value[a] = s->axes[a].value[index[a]];
    return c;
}

static int open_pairs(const search *s, const int *index)
{
    int open = 0;
    for (int a = 0; a < s->axis_count; a++)
        for (int b = a + 1; b < s->axis_count; b++) open += !s->done[pair_at(a, index[a], b, index[b])];
    return open;
}

static void draw(search *s, int *index)
{
    for (int a = 0; a < s->axis_count; a++) index[a] = (int)oc_random_below(77, s->drawn++, (uint64_t)s->axes[a].count);
}

/* All ways to fill the other axes with their cheapest values: can this pair be had within the work? */
static bool reachable(const search *s, int a, int i, int b, int j)
{
    int index[COVERING_AXES];
    for (int n = 0; n < s->axis_count; n++) index[n] = 0; /* values ascend, and so does the work */
    index[a] = i;
    index[b] = j;
    const covering_case c = case_of(s, index);
    return s->work(&c) <= s->work_max;
}

static bool best_candidate(search *s, int a, int i, int b, int j, int *best)
{
    int most = 0;
    for (int n = 0; n < CANDIDATES; n++) {
        int index[COVERING_AXES];
        draw(s, index);
        if (n == 0) memset(index, 0, sizeof index); /* the cheapest always serves */
        index[a] = i;
        index[b] = j;
        const covering_case c = case_of(s, index);
        const int open = s->work(&c) <= s->work_max ? open_pairs(s, index) : 0;
        if (open <= most) continue;
        most = open;
        memcpy(best, index, sizeof index);
    }
    return most > 0;
}

static void take(search *s, covering_set *out, const int *index)
{
    if (out->count == COVERING_CASES_MAX) abort();
    out->row[out->count++] = case_of(s, index);
    for (int a = 0; a < s->axis_count; a++)
        for (int b = a + 1; b < s->axis_count; b++) s->done[pair_at(a, index[a], b, index[b])] = true;
}

void covering_make(covering_set *out, const covering_axis *axes, int axis_count, covering_work work, int64_t work_max)
{
    search s = {.axes = axes, .axis_count = axis_count, .work = work, .work_max = work_max};
    *out = (covering_set){.count = 0};
    for (int a = 0; a < axis_count; a++)
        for (int b = a + 1; b < axis_count; b++)
            for (int i = axes[a].count - 1; i >= 0; i--) /* large ones first: they are the hard ones */
                for (int j = axes[b].count - 1; j >= 0; j--) {
                    int best[COVERING_AXES];
                    out->pairs++;
                    if (s.done[pair_at(a, i, b, j)]) continue;
                    if (!reachable(&s, a, i, b, j))
                        out->pairs_left_out++;
                    else if (best_candidate(&s, a, i, b, j, best))
                        take(&s, out, best);
                }
}

static bool covers(const covering_set *set, int a, int x, int b, int y)
{
    for (int n = 0; n < set->count; n++)
        if (set->row[n].value[a] == x && set->row[n].value[b] == y) return true;
    return false;
}

int covering_open(const covering_set *set, const covering_axis *axes, int axis_count, covering_work work,
                  int64_t work_max)
{
    const search s = {.axes = axes, .axis_count = axis_count, .work = work, .work_max = work_max};
    int open = 0;
    for (int a = 0; a < axis_count; a++)
        for (int b = a + 1; b < axis_count; b++)
            for (int i = 0; i < axes[a].count; i++)
                for (int j = 0; j < axes[b].count; j++)
                    open += reachable(&s, a, i, b, j) && !covers(set, a, axes[a].value[i], b, axes[b].value[j]);
    return open;
}
