/* plan.c - config, dataset and fold become lists of windows. */
#include "train/plan.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static oc_status labels_find(train_plan *p, const oc_config *config)
{
    size_t count = oc_config_count(config, "data.labels");
    if (p->d->label_count == 0) return OC_FAIL(OC_EDATA, "%s: holds no label to train on", p->d->path);
    for (size_t i = 0; i < count; i++) {
        p->labels[i] = oc_dataset_label_find(p->d, oc_config_item(config, "data.labels", i));
        if (!p->labels[i])
            return oc_config_refuse(config, "data.labels", "%s has no label %s; its first is %s", p->d->path,
                                    oc_config_item(config, "data.labels", i), p->d->labels[0].rule.text);
    }
    if (count == 0) p->labels[count++] = &p->d->labels[0];
    p->o.shape.horizons = (int)count;
    p->o.shape.inputs = (int)p->d->width;
    OC_TRY(oc_model_shape_check(&p->o.shape));
    oc_parameters_describe(&p->parameters, &p->o.shape);
    return OC_OK;
}

static oc_status samples_take(train_plan *p, const oc_fold *fold, oc_split split, oc_samples *out)
{
    static const char *const names[] = {"training", "validation", "test"};
    OC_TRY(oc_samples_select(out, p->d, fold, p->embargo_ns, split, p->o.shape.steps, p->labels,
                             (size_t)p->o.shape.horizons));
    if (out->count == 0)
        return OC_FAIL(OC_EDATA,
                       "%s: fold %s has no %s window: %zu rows without a full window of %d, %zu without a label, %zu "
                       "purged, %zu under embargo",
                       p->d->path, p->fold_name, names[split], out->without_window, p->o.shape.steps,
                       out->without_label, out->purged, out->embargoed);
    return OC_OK;
}

/* Keeps `count` of the rows, evenly spaced, the first among them. */
static void samples_thin(oc_samples *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        __extension__ typedef unsigned __int128 wide;
        s->row[i] = s->row[(size_t)((wide)i * s->count / count)];
    }
    s->count = count;
}

void train_plan_target(const train_plan *p, int64_t row, int32_t *target)
{
    for (int i = 0; i < p->o.shape.horizons; i++) target[i] = p->labels[i]->class_[row];
}

static void class_weights_set(train_plan *p)
{
    size_t counts[OC_CLASSES] = {0}, all = p->train.count * (size_t)p->o.shape.horizons;
    int32_t target[OC_HORIZONS_MAX];
    for (size_t i = 0; i < p->train.count; i++) {
        train_plan_target(p, p->train.row[i], target);
        for (int h = 0; h < p->o.shape.horizons; h++) counts[target[h]]++;
    }
    for (int c = 0; c < OC_CLASSES; c++)
        p->class_weight[c] =
            p->o.balanced && counts[c] ? (float)((double)all / (double)(OC_CLASSES * counts[c])) : 1.0f;
}

static void steps_count(train_plan *p)
{
    p->epoch_windows = (int64_t)p->train.count;
    if (p->o.windows_per_epoch > 0 && p->o.windows_per_epoch < p->epoch_windows)
        p->epoch_windows = p->o.windows_per_epoch;
    p->epoch_steps = (p->epoch_windows + p->o.batch - 1) / p->o.batch;
    p->steps_total = p->epoch_steps * p->o.epochs;
}

static oc_status plan_fill(train_plan *p, const oc_config *config, const oc_fold *fold)
{
    OC_TRY(train_options_read(&p->o, config));
    OC_TRY(labels_find(p, config));
    OC_TRY(samples_take(p, fold, OC_SPLIT_TRAIN, &p->train));
    OC_TRY(samples_take(p, fold, OC_SPLIT_VALID, &p->valid));
    OC_TRY(train_seen_collect(p, fold, &p->seen, &p->seen_count));
    OC_TRY(oc_memory_new_array(&p->mean, p->d->width, sizeof *p->mean, "scaler"));
    OC_TRY(oc_memory_new_array(&p->scale, p->d->width, sizeof *p->scale, "scaler"));
    OC_TRY(train_scaler_fit(p->d, &p->train, p->o.shape.steps, p->mean, p->scale));
    if (p->o.stride > 1) samples_thin(&p->train, (p->train.count + (size_t)p->o.stride - 1) / (size_t)p->o.stride);
    if (p->o.valid_windows > 0 && (size_t)p->o.valid_windows < p->valid.count)
        samples_thin(&p->valid, (size_t)p->o.valid_windows);
    class_weights_set(p);
    steps_count(p);
    return OC_OK;
}

oc_status train_plan_open(train_plan **out, const oc_config *config, const oc_dataset *d, const oc_folds *folds,
                          size_t fold_index)
{
    *out = NULL;
    if (fold_index >= folds->count)
        return OC_FAIL(OC_ECONFIG, "data.fold is %zu, but there are %zu folds, counted from 0", fold_index,
                       folds->count);
    OC_TRY(oc_memory_new(out, sizeof **out, "training plan"));
    train_plan *p = *out;
    const oc_fold *fold = &folds->fold[fold_index];
    p->d = d;
    p->embargo_ns = folds->embargo_ns;
    p->fold_index = (int64_t)fold_index;
    p->fold_hash = oc_fold_hash(fold, folds->embargo_ns);
    snprintf(p->fold_name, sizeof p->fold_name, "%s", fold->name);
    oc_status status = plan_fill(p, config, fold);
    if (status != OC_OK) {
        train_plan_close(p);
        *out = NULL;
    }
    return status;
}

void train_plan_close(train_plan *p)
{
    if (!p) return;
    oc_samples_free(&p->train);
    oc_samples_free(&p->valid);
    oc_memory_free(p->seen);
    oc_memory_free(p->mean);
    oc_memory_free(p->scale);
    oc_memory_free(p);
}
