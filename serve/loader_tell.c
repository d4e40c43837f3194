/* loader_tell.c - what others ask of the loader: the live version, texts of generations, all of it as JSON and metrics.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "serve/loader_parts.h"

static const char *const phases[] = {"live", "loading", "shadow", "swapping"};

const oc_version *oc_loader_first(const oc_loader *l)
{
    return l->first;
}

void oc_loader_live(oc_loader *l, char version[32], uint32_t *generation)
{
    pthread_mutex_lock(&l->lock);
    memcpy(version, l->live->text, sizeof l->live->text);
    *generation = l->live->generation;
    pthread_mutex_unlock(&l->lock);
}

void oc_loader_scaler(oc_loader *l, float *mean, float *scale)
{
    pthread_mutex_lock(&l->lock);
    for (int i = 0; i < l->live->first->shape.inputs; i++) {
        mean[i] = (float)l->live->first->mean[i];
        scale[i] = (float)l->live->first->scale[i];
    }
    pthread_mutex_unlock(&l->lock);
}

bool oc_loader_version(oc_loader *l, uint32_t generation, char version[32])
{
    pthread_mutex_lock(&l->lock);
    const bool known = generation >= 1 && generation <= l->generations;
    if (known) memcpy(version, l->texts[generation], sizeof l->texts[0]);
    pthread_mutex_unlock(&l->lock);
    return known;
}

bool oc_loader_generation(oc_loader *l, const char *version, uint32_t *generation)
{
    bool loaded = false;
    pthread_mutex_lock(&l->lock);
    const oc_version *const held[] = {l->live, l->other};
    for (size_t i = 0; i < 2 && !loaded; i++) {
        loaded = held[i] && strcmp(held[i]->text, version) == 0;
        if (loaded) *generation = held[i]->generation;
    }
    pthread_mutex_unlock(&l->lock);
    return loaded;
}

static json_t *version_json(const oc_version *v)
{
    char weights[OC_HASH_TEXT];
    if (!v) return json_null();
    return json_pack("{s:s, s:I, s:s, s:s, s:i, s:b, s:f, s:f}", "version", v->text, "generation",
                     (json_int_t)v->generation, "folder", v->ensemble->folder, "weights_hash",
                     oc_hash_text(v->first->weights, weights), "members", v->ensemble->count, "changed_on_disk",
                     v->changed, "bf16_difference", v->agreement.difference, "bf16_decisions", v->agreement.decisions);
}

/* The difference between what was answered and what the other version said to the same rows. */
static json_t *report_json(const oc_loader *l)
{
    uint64_t rows = 0, restarts = 0, compared = 0, other = 0, sum = 0, most = 0;
    for (int i = 0; i < l->batcher_count; i++) {
        const oc_batcher_stats *t = &l->batchers[i].stats;
        const uint64_t max = __atomic_load_n(&t->difference_max_ppb, __ATOMIC_RELAXED);
        rows += __atomic_load_n(&t->followed, __ATOMIC_RELAXED);
        restarts += __atomic_load_n(&t->restarts, __ATOMIC_RELAXED);
        compared += __atomic_load_n(&t->compared, __ATOMIC_RELAXED);
        other += __atomic_load_n(&t->decided_other, __ATOMIC_RELAXED);
        sum += __atomic_load_n(&t->difference_ppb, __ATOMIC_RELAXED);
        if (max > most) most = max;
    }
    const double n = compared > 0 ? (double)compared : 1;
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f}", "rows", (json_int_t)rows, "restarts", (json_int_t)restarts,
                     "compared", (json_int_t)compared, "mean_difference", 1e-9 * (double)sum / n, "max_difference",
                     1e-9 * (double)most, "decisions_changed", (double)other / n);
}

static json_t *refused_json(const oc_loader *l)
{
    if (!l->reason[0]) return json_null();
    return json_pack("{s:s, s:s}", "version", l->refused, "reason", l->reason);
}

void oc_loader_write(oc_loader *l, oc_text *out)
{
    pthread_mutex_lock(&l->lock);
    json_t *root = json_pack("{s:s, s:s, s:o, s:o, s:s*, s:f, s:o, s:o, s:I, s:I, s:i}", "model", l->name, "phase",
                             phases[l->phase], "live", version_json(l->live), "other", version_json(l->other),
                             "candidate", l->wanted.candidate[0] ? l->wanted.candidate : NULL, "canary",
                             l->wanted.canary, "refused", refused_json(l), "report", report_json(l), "changed",
                             (json_int_t)__atomic_load_n(&l->stats.changed, __ATOMIC_RELAXED), "state_ns",
                             (json_int_t)l->acted_ns, "pid", (int)getpid());
    pthread_mutex_unlock(&l->lock);
    char *text = root ? oc_json_line(root) : NULL;
    if (text) oc_text_raw(out, text, strlen(text));
    free(text);
    json_decref(root);
}

static uint64_t read_at(const void *stats, size_t offset)
{
    const void *at = (const unsigned char *)stats + offset;
    return __atomic_load_n((const uint64_t *)at, __ATOMIC_RELAXED);
}

static void row_write(oc_text *out, const char *name, const char *type, const char *help, double value)
{
    oc_text_add(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static double live_difference(oc_loader *l)
{
    pthread_mutex_lock(&l->lock);
    const double difference = l->live->agreement.difference;
    pthread_mutex_unlock(&l->lock);
    return difference;
}

void oc_loader_metrics(oc_loader *l, oc_text *out)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } own[] = {
        {"outcry_model_loads_total", "Versions loaded.", offsetof(oc_loader_stats, loads)},
        {"outcry_model_refusals_total",
         "Versions refused: damaged, of another schema or shape, over a budget, or too far from f32 in bf16.",
         offsetof(oc_loader_stats, refusals)},
        {"outcry_model_turns_total", "Times that another version became live.", offsetof(oc_loader_stats, turns)},
        {"outcry_bundle_changed_total", "Loaded versions whose files were found changed on disk.",
         offsetof(oc_loader_stats, changed)},
    };
    static const struct {
        const char *name, *type, *help;
        size_t offset;
        double scale;
    } summed[] = {
        {"outcry_session_moves_total", "counter", "Sessions that went over to another version.",
         offsetof(oc_batcher_stats, moves), 1},
        {"outcry_shadow_rows", "gauge", "Rows that the version beside the live one has followed since it was loaded.",
         offsetof(oc_batcher_stats, followed), 1},
        {"outcry_shadow_seconds", "gauge", "Time that this took.", offsetof(oc_batcher_stats, follow_ns), 1e-9},
        {"outcry_shadow_restarts", "gauge", "Sessions that it began anew because it came too late.",
         offsetof(oc_batcher_stats, restarts), 1},
        {"outcry_shadow_compared", "gauge", "Its answers that were compared with those given.",
         offsetof(oc_batcher_stats, compared), 1},
        {"outcry_shadow_decided_other", "gauge", "Compared answers with another decision.",
         offsetof(oc_batcher_stats, decided_other), 1},
        {"outcry_shadow_difference_sum", "gauge", "Sum of the largest difference of a probability in each.",
         offsetof(oc_batcher_stats, difference_ppb), 1e-9},
    };
    row_write(out, "outcry_bf16_difference", "gauge",
              "Largest difference of a probability from f32's when the live version was let in; 0 in f32.",
              live_difference(l));
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        row_write(out, own[i].name, "counter", own[i].help, (double)read_at(&l->stats, own[i].offset));
    for (size_t i = 0; i < sizeof summed / sizeof summed[0]; i++) {
        uint64_t all = 0;
        for (int k = 0; k < l->batcher_count; k++) all += read_at(&l->batchers[k].stats, summed[i].offset);
        row_write(out, summed[i].name, summed[i].type, summed[i].help, summed[i].scale * (double)all);
    }
}
