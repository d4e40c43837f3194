/* seen.c - from when to when a model has seen each symbol: the hull of its windows' spans, apart for each interval of
 * the training and validation split, so that a test interval between two of them is not counted as seen. */
#include <string.h>

#include "base/memory.h"
#include "train/plan.h"

enum { SEEN_SPLITS = OC_SPLIT_VALID + 1, CELLS = SEEN_SPLITS * OC_FOLD_INTERVALS_MAX };

typedef struct hull {
    int64_t first_ns, last_ns;
    bool any;
} hull;

static size_t interval_of(const oc_fold *fold, oc_split split, int64_t time_ns)
{
    size_t i = 0;
    while (i + 1 < fold->interval_count[split] &&
           !(time_ns >= fold->interval[split][i].first_ns && time_ns < fold->interval[split][i].last_ns))
        i++;
    return i;
}

static void hull_add(const train_plan *p, const oc_fold *fold, oc_split split, int64_t row, hull *hulls)
{
    size_t symbol = oc_dataset_symbol_of(p->d, (size_t)row);
    hull *h =
        &hulls[symbol * CELLS + (size_t)split * OC_FOLD_INTERVALS_MAX + interval_of(fold, split, p->d->time_ns[row])];
    int64_t first = p->d->time_ns[row - p->o.shape.steps + 1], last = p->d->time_ns[row];
    for (int i = 0; i < p->o.shape.horizons; i++) {
        if (p->labels[i]->known_ns[row] > last) last = p->labels[i]->known_ns[row];
    }
    if (!h->any || first < h->first_ns) h->first_ns = first;
    if (!h->any || last > h->last_ns) h->last_ns = last;
    h->any = true;
}

oc_status train_seen_collect(const train_plan *p, const oc_fold *fold, oc_seen **out, size_t *count)
{
    const oc_samples *samples[SEEN_SPLITS] = {[OC_SPLIT_TRAIN] = &p->train, [OC_SPLIT_VALID] = &p->valid};
    size_t cells = p->d->symbol_count * CELLS;
    hull *hulls;
    *out = NULL;
    *count = 0;
    OC_TRY(oc_memory_new_array(&hulls, cells, sizeof *hulls, "intervals seen"));
    for (int split = 0; split < SEEN_SPLITS; split++) {
        for (size_t i = 0; i < samples[split]->count; i++)
            hull_add(p, fold, (oc_split)split, samples[split]->row[i], hulls);
    }
    oc_status status = oc_memory_new_array(out, cells, sizeof **out, "intervals seen");
    for (size_t i = 0; status == OC_OK && i < cells; i++) {
        if (!hulls[i].any) continue;
        oc_seen *seen = &(*out)[(*count)++];
        memcpy(seen->symbol, p->d->symbols[i / CELLS].name, sizeof seen->symbol);
        seen->first_ns = hulls[i].first_ns;
        seen->last_ns = hulls[i].last_ns;
    }
    oc_memory_free(hulls);
    return status;
}
