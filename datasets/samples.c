/* samples.c - which rows end a window of one split. Three passes over the rows of all symbols: the hull of the spans of
 * every validation and test interval; the count; the fill. Spans are closed: [time of the window's first row, the
 * latest known_ns of its labels]. Validation is purged against later test intervals too: the model and its temperature
 * are chosen on it. */
#include <assert.h>
#include <limits.h>

#include "base/memory.h"
#include "datasets/folds.h"

typedef struct hull { int64_t first_ns, last_ns; bool any; } hull;     /* of the spans of one interval's samples */
typedef struct span { int64_t time_ns, first_ns, known_ns; } span;

typedef enum { KEPT, ELSEWHERE, NO_WINDOW, NO_LABEL, PURGED, EMBARGOED, VERDICT_COUNT } verdict;

typedef struct selection {
    const oc_dataset *d;
    const oc_fold *fold;
    const oc_dataset_label *const *labels;
    size_t label_count;
    uint32_t steps;
    int64_t embargo_ns;
    hull hulls[OC_SPLIT_COUNT][OC_FOLD_INTERVALS_MAX];
} selection;

static int interval_of(const selection *s, oc_split split, int64_t time_ns)
{
    for (size_t i = 0; i < s->fold->interval_count[split]; i++) {
        const oc_interval *v = &s->fold->interval[split][i];
        if (time_ns >= v->first_ns && time_ns < v->last_ns) return (int)i;
    }
    return -1;
}

static verdict span_of(const selection *s, size_t row, span *out)
{
    if (s->d->run_length[row] < s->steps) return NO_WINDOW;
    out->time_ns = s->d->time_ns[row];
    out->first_ns = s->d->time_ns[row + 1 - s->steps];
    out->known_ns = out->time_ns;
    for (size_t i = 0; i < s->label_count; i++) {
        if (!s->labels[i]->valid[row]) return NO_LABEL;
        if (s->labels[i]->known_ns[row] > out->known_ns) out->known_ns = s->labels[i]->known_ns[row];
    }
    return KEPT;
}

static void hulls_find(selection *s)
{
    span p;
    for (size_t row = 0; row < s->d->rows; row++) {
        for (oc_split split = OC_SPLIT_VALID; split < OC_SPLIT_COUNT; split++) {
            int i = interval_of(s, split, s->d->time_ns[row]);
            if (i < 0 || span_of(s, row, &p) != KEPT) continue;
            hull *h = &s->hulls[split][i];
            if (!h->any || p.first_ns < h->first_ns) h->first_ns = p.first_ns;
            if (!h->any || p.known_ns > h->last_ns) h->last_ns = p.known_ns;
            h->any = true;
        }
    }
}

/* embargo: the span must begin behind the interval's last known_ns, and embargo_ns behind it where there is an embargo.
 */
static bool too_soon(int64_t first_ns, int64_t last_known_ns, int64_t embargo_ns)
{
    int64_t allowed;
    if (__builtin_add_overflow(last_known_ns, embargo_ns, &allowed)) return true;
    return first_ns <= last_known_ns || first_ns < allowed;
}

static verdict against(const selection *s, oc_split split, const span *p)
{
    for (oc_split other = (oc_split)(split + 1); other < OC_SPLIT_COUNT; other++) {
        for (size_t i = 0; i < s->fold->interval_count[other]; i++) {
            const oc_interval *v = &s->fold->interval[other][i];
            const hull *h = &s->hulls[other][i];
            if (!h->any) continue;
            if (p->time_ns < v->first_ns && p->known_ns >= h->first_ns) return PURGED;
            if (p->time_ns >= v->last_ns && too_soon(p->first_ns, h->last_ns, s->embargo_ns)) return EMBARGOED;
        }
    }
    return KEPT;
}

static verdict judge(const selection *s, oc_split split, size_t row)
{
    span p;
    if (interval_of(s, split, s->d->time_ns[row]) < 0) return ELSEWHERE;
    verdict v = span_of(s, row, &p);
    return v == KEPT ? against(s, split, &p) : v;
}

oc_status oc_samples_select(oc_samples *out, const oc_dataset *d, const oc_fold *fold, int64_t embargo_ns,
                            oc_split split, int steps, const oc_dataset_label *const *labels, size_t label_count)
{
    assert(out && d && fold && split < OC_SPLIT_COUNT && (labels || label_count == 0));
    *out = (oc_samples){0};
    if (steps < 1) return OC_FAIL(OC_ECONFIG, "window.steps is %d, not at least 1", steps);
    if (embargo_ns < 0) return OC_FAIL(OC_ECONFIG, "the embargo is %lld ns, not at least 0", (long long)embargo_ns);
    selection s = {.d = d, .fold = fold, .labels = labels, .label_count = label_count, .steps = (uint32_t)steps,
                   .embargo_ns = embargo_ns};
    hulls_find(&s);
    size_t counts[VERDICT_COUNT] = {0};
    for (size_t row = 0; row < d->rows; row++) counts[judge(&s, split, row)]++;
    out->count = counts[KEPT];
    out->purged = counts[PURGED];
    out->embargoed = counts[EMBARGOED];
    out->without_label = counts[NO_LABEL];
    out->without_window = counts[NO_WINDOW];
    OC_TRY(oc_memory_new_array(&out->row, counts[KEPT] ? counts[KEPT] : 1, sizeof *out->row, "samples"));
    size_t at = 0;
    for (size_t row = 0; row < d->rows && at < out->count; row++)
        if (judge(&s, split, row) == KEPT) out->row[at++] = (int64_t)row;
    return OC_OK;
}

void oc_samples_free(oc_samples *s)
{
    if (!s) return;
    oc_memory_free(s->row);
    *s = (oc_samples){0};
}
