/* sample_run.h - a small job run in a temporary folder, with --set texts added to a fast default. */
#ifndef OC_TESTS_TRAIN_SAMPLE_RUN_H
#define OC_TESTS_TRAIN_SAMPLE_RUN_H

#include "base/file.h"
#include "base/memory.h"
#include "train/sample_dataset.h"
#include "train/train.h"

static const char *const sample_sets[] = {
    "data.dataset=memory", "window.steps=12",
    "model.hidden=8",      "model.layers=2",
    "model.heads=2",       "train.batch=48",
    "train.epochs=2",      "train.rate=0.01",
    "train.log_every=3",   "train.windows_per_epoch=400",
    "train.valid_every=5", "train.valid_windows=150",
    "train.patience=0",    "threads=1",
    "train.average=0.9",   "train.shards=4",
    "comm.timeout_ns=60000000000",             /* nobody is late because the machine is busy */
};

static char root[64];                          /* of the test: what it writes lies here */

static inline int root_make(void)
{
    snprintf(root, sizeof root, "train-XXXXXX"); /* in the test's own folder, as CTest runs it */
    return mkdtemp(root) ? 0 : 1;
}

static inline int root_remove(void)
{
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* sets: ended by NULL, over the defaults above. */
static inline oc_config *sample_config(const char *const *sets)
{
    const char *all[64];
    size_t count = sizeof sample_sets / sizeof *sample_sets;
    oc_config *config;
    memcpy(all, sample_sets, sizeof sample_sets);
    while (sets && *sets && count < 64) all[count++] = *sets++;
    if (oc_config_open(&config, NULL, oc_train_keys, oc_train_key_count, all, count) != OC_OK) {
        fprintf(stderr, "%s\n", oc_status_message());
        abort();
    }
    return config;
}

static inline oc_status sample_train(const sample_dataset *s, const char *out, bool resume, const char *const *sets,
                                     oc_train_result *result)
{
    oc_config *config = sample_config(sets);
    oc_status status = oc_train_run(config, &s->d, &s->folds, 0, out, resume, result);
    oc_config_close(config);
    return status;
}

#define SETS(...)                                                                                                      \
    (const char *const[])                                                                                              \
    {                                                                                                                  \
        __VA_ARGS__, NULL                                                                                              \
    }

#endif
