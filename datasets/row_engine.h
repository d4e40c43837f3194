/* row_engine.h - what makes rows and labels, as functions and a context, so that `build` and `verify` can be run over
 * an engine with a planted fault: a test of verify that goes through the code that users run. Users get the standard
 * one. */
#ifndef OC_DATASETS_ROW_ENGINE_H
#define OC_DATASETS_ROW_ENGINE_H

#include "datasets/dataset_writer.h"

typedef struct oc_row_engine {
    void *context;
    oc_status (*open)(void *context, void **engine, const oc_feature_spec *spec, const oc_instrument *universe,
                      size_t instruments);
    void (*close)(void *engine);
    void (*reset)(void *engine);
    void (*begin)(void *engine);
    oc_features *(*features)(void *engine);    /* names, schema, books */
    void (*history)(void *engine, uint32_t *events, int64_t *ns);
    oc_status (*apply)(void *engine, const oc_event *event, const oc_feature_row **row);
    oc_label_function label;                   /* with `context` */
} oc_row_engine;

extern const oc_row_engine oc_row_engine_standard;

/* What a build config says, read and checked once; borrows from the config. */
typedef struct oc_build_plan {
    oc_feature_spec spec;
    const char *features[OC_FEATURES_MAX];
    oc_label_rule labels[8];
    size_t label_count;
    const char **events;                       /* owned */
    size_t event_count;
} oc_build_plan;
OC_MUST oc_build_plan_read(oc_build_plan *out, const oc_config *config);
void oc_build_plan_free(oc_build_plan *p);

OC_MUST oc_dataset_build_with(const oc_config *config, const char *out_path, const oc_row_engine *rows,
                              oc_build_result *result);
OC_MUST oc_dataset_verify_with(const char *path, const oc_verify_options *options, const oc_row_engine *rows,
                               oc_verify_result *result);

/* One label of one row, made again with garbage behind known_ns (an invalid one: with the true future, as it may become
 * valid when more follows). broken[row]: bit 0 is break_before of the row. *same false: other bits than in d. */
OC_MUST oc_verify_label(const oc_dataset *d, size_t label, size_t symbol, size_t row, const uint8_t *broken,
                        uint64_t seed, const oc_row_engine *rows, bool *same);

#endif
