/* verify_labels.c - a label again, from a copy of its rows in which everything later than known_ns is invented. */
#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "datasets/row_engine.h"

enum { GARBAGE_ROWS = 64 };

typedef struct stretch {                         /* rows [row, row + kept) as they are, then garbage */
    int64_t *time_ns;
    double *mid, *spread;
    uint8_t *break_before;
    size_t kept, rows;
} stretch;

static void stretch_free(stretch *s)
{
    oc_memory_free(s->time_ns);
    oc_memory_free(s->mid);
    oc_memory_free(s->spread);
    oc_memory_free(s->break_before);
}

/* Prices within a factor of two, times that rise, a break now and then, a NaN now and then. */
static void garbage_fill(stretch *s, uint32_t key, int64_t after_ns, double mid)
{
    for (size_t i = s->kept; i < s->rows; i++) {
        uint64_t random = oc_random_philox(key, i);
        after_ns += (int64_t)(random % 2000000000) + 1;
        s->time_ns[i] = after_ns;
        s->mid[i] = random % 97 == 0 ? -1.0 : mid * (0.5 + oc_random_uniform(key, i + (1u << 30)));
        s->spread[i] = mid * oc_random_uniform(key, i + (1u << 31));
        s->break_before[i] = random % 31 == 0;
    }
}

static oc_status stretch_make(stretch *s, const oc_dataset *d, const oc_dataset_symbol *of, size_t row,
                              int64_t known_ns, const uint8_t *broken, size_t garbage, uint32_t key)
{
    size_t at = of->first + row, last = of->first + of->rows, end = at;
    while (end < last && d->time_ns[end] <= known_ns) end++;
    s->kept = end - at;
    s->rows = s->kept + garbage;
    OC_TRY(oc_memory_new_array(&s->time_ns, s->rows, sizeof *s->time_ns, "label check"));
    OC_TRY(oc_memory_new_array(&s->mid, s->rows, sizeof *s->mid, "label check"));
    OC_TRY(oc_memory_new_array(&s->spread, s->rows, sizeof *s->spread, "label check"));
    OC_TRY(oc_memory_new_array(&s->break_before, s->rows, 1, "label check"));
    memcpy(s->time_ns, d->time_ns + at, s->kept * sizeof *s->time_ns);
    memcpy(s->mid, d->mid + at, s->kept * sizeof *s->mid);
    memcpy(s->spread, d->spread + at, s->kept * sizeof *s->spread);
    for (size_t i = 0; i < s->kept; i++) s->break_before[i] = broken[at + i] & 1;
    garbage_fill(s, key, known_ns, d->mid[at]);
    return OC_OK;
}

typedef struct answer { int8_t class_; uint8_t valid; int64_t known_ns; float return_; } answer;

static bool answer_is(const answer *a, const oc_dataset_label *l, size_t at)
{
    return a->class_ == l->class_[at] && a->valid == l->valid[at] && a->known_ns == l->known_ns[at] &&
           memcmp(&a->return_, &l->return_[at], sizeof a->return_) == 0;
}

oc_status oc_verify_label(const oc_dataset *d, size_t label, size_t symbol, size_t row, const uint8_t *broken,
                          uint64_t seed, const oc_row_engine *rows, bool *same)
{
    const oc_dataset_label *l = &d->labels[label];
    const oc_dataset_symbol *of = &d->symbols[symbol];
    size_t at = of->first + row, garbage = (size_t)l->rule.horizon_rows + GARBAGE_ROWS;
    int64_t known_ns = l->valid[at] ? l->known_ns[at] : INT64_MAX;
    stretch s = {0};
    answer a = {0};
    oc_label_columns out = {&a.class_, &a.valid, &a.known_ns, &a.return_};
    if (!l->valid[at]) garbage = 0;              /* with all that truly follows */
    oc_status status =
        stretch_make(&s, d, of, row, known_ns, broken, garbage, oc_random_key(seed, OC_RANDOM_VERIFY, label, at));
    if (status == OC_OK) {
        const oc_label_series series = {s.time_ns, s.mid, s.spread, s.break_before, s.rows};
        status = rows->label(rows->context, &l->rule, &series, 0, 1, &out);
    }
    *same = status == OC_OK && answer_is(&a, l, at);
    stretch_free(&s);
    return status;
}
