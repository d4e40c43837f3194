/* bootstrap.c - circular block bootstrap of classification figures. A resample is ceil(n / block) blocks of consecutive
 * samples; its start points are counter-based numbers, so the intervals are the same on every machine. */
#include "evaluate/metrics.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/stats.h"

enum { FIGURES = 5 }; /* in the order of oc_bootstrap_result */

static void figures_of(double out[FIGURES], oc_metrics *m, double loss, double baseline_loss)
{
    oc_metrics_of_confusion(m);
    out[0] = m->accuracy;
    out[1] = m->macro_f1;
    out[2] = m->mcc;
    out[3] = loss / (double)m->count;
    out[4] = baseline_loss > 0 ? 1 - loss / baseline_loss : (double)NAN;
}

/* Prefix sums make a block's contribution two look-ups instead of `block` additions. */
typedef struct prefix {
    uint32_t (*cell)[9];     /* [count + 1] confusion cells */
    double *loss, *baseline; /* [count + 1] */
    size_t count;
} prefix;

static void prefix_free(prefix *s)
{
    oc_memory_free(s->cell);
    oc_memory_free(s->loss);
    oc_memory_free(s->baseline);
}

static oc_status prefix_make(prefix *s, const oc_bootstrap_input *in)
{
    memset(s, 0, sizeof *s);
    s->count = in->count;
    OC_TRY(oc_memory_new_array(&s->cell, in->count + 1, sizeof *s->cell, "bootstrap"));
    OC_TRY(oc_memory_new_array(&s->loss, in->count + 1, sizeof *s->loss, "bootstrap"));
    OC_TRY(oc_memory_new_array(&s->baseline, in->count + 1, sizeof *s->baseline, "bootstrap"));
    for (size_t i = 0; i < in->count; i++) {
        if (in->truth[i] > 2 || in->predicted[i] > 2) return OC_FAIL(OC_EDATA, "bootstrap: sample %zu has no class", i);
        memcpy(s->cell[i + 1], s->cell[i], sizeof *s->cell);
        s->cell[i + 1][3 * in->truth[i] + in->predicted[i]]++;
        s->loss[i + 1] = s->loss[i] + in->loss[i];
        s->baseline[i + 1] = s->baseline[i] + (in->baseline_loss ? in->baseline_loss[i] : 0);
    }
    return OC_OK;
}

static void add_range(const prefix *s, size_t first, size_t last, oc_metrics *m, double *loss, double *baseline)
{
    for (int c = 0; c < 9; c++) m->confusion[c / 3][c % 3] += s->cell[last][c] - s->cell[first][c];
    *loss += s->loss[last] - s->loss[first];
    *baseline += s->baseline[last] - s->baseline[first];
}

static void resample(const prefix *s, const oc_bootstrap_rule *rule, size_t number, double out[FIGURES])
{
    oc_metrics m = {0};
    double loss = 0, baseline = 0;
    uint32_t key = oc_random_key(rule->seed, OC_RANDOM_BOOTSTRAP, number, 0);
    for (size_t done = 0, draw = 0; done < s->count; draw++) {
        size_t length = rule->block < s->count - done ? rule->block : s->count - done;
        size_t first = oc_random_below(key, draw, s->count), last = first + length;
        add_range(s, first, last < s->count ? last : s->count, &m, &loss, &baseline);
        if (last > s->count) add_range(s, 0, last - s->count, &m, &loss, &baseline);
        done += length;
    }
    figures_of(out, &m, loss, baseline);
}

oc_status oc_bootstrap(oc_bootstrap_result *out, const oc_bootstrap_input *in, const oc_bootstrap_rule *rule)
{
    if (!(in->count > 0 && rule->block > 0 && rule->block <= in->count && rule->resamples > 0 && rule->level > 0 &&
          rule->level < 1))
        return OC_FAIL(OC_EDATA, "bootstrap: %zu samples, block %zu, %zu resamples, level %g", in->count, rule->block,
                       rule->resamples, rule->level);
    prefix s = {0};
    double *draws = NULL;
    oc_status status;
    OC_TRY_GOTO(status, done, prefix_make(&s, in));
    OC_TRY_GOTO(status, done, oc_memory_new_array(&draws, rule->resamples * FIGURES, sizeof *draws, "bootstrap"));
    for (size_t r = 0; r < rule->resamples; r++) {
        double figure[FIGURES];
        resample(&s, rule, r, figure);
        for (int f = 0; f < FIGURES; f++) draws[(size_t)f * rule->resamples + r] = figure[f];
    }
    oc_metrics whole = {0};
    double loss = 0, baseline = 0, value[FIGURES];
    add_range(&s, 0, s.count, &whole, &loss, &baseline);
    figures_of(value, &whole, loss, baseline);
    oc_interval_of *to[FIGURES] = {&out->accuracy, &out->macro_f1, &out->mcc, &out->log_loss, &out->skill};
    for (int f = 0; f < FIGURES; f++) {
        double *d = draws + (size_t)f * rule->resamples;
        to[f]->value = value[f];
        to[f]->low = isnan(value[f]) ? value[f] : oc_quantile(d, rule->resamples, (1 - rule->level) / 2);
        to[f]->high = isnan(value[f]) ? value[f] : oc_quantile(d, rule->resamples, (1 + rule->level) / 2);
    }
done:
    oc_memory_free(draws);
    prefix_free(&s);
    return status;
}

size_t oc_bootstrap_block(size_t count, size_t horizon_rows)
{
    size_t root = (size_t)ceil(cbrt((double)count)), block = 2 * horizon_rows > root ? 2 * horizon_rows : root;
    size_t most = count / 4 > 0 ? count / 4 : 1;
    return block < most ? block : most;
}
