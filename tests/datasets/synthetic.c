/* synthetic.c - rows from functions through oc_dataset_writer. The default mid follows x[0] of the row before it with
 * probability 0.75, so that a model has something to learn. */
#include "synthetic.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

static float x_default(const synthetic *s, size_t symbol, size_t row, size_t column)
{
    uint32_t key = oc_random_key(s->seed, OC_RANDOM_TEST, symbol, column);
    return (float)(2.0 * oc_random_uniform(key, row) - 1.0);
}

static float x_of(const synthetic *s, size_t symbol, size_t row, size_t column)
{
    return s->x ? s->x(s->context, symbol, row, column) : x_default(s, symbol, row, column);
}

static double step_of(const synthetic *s, size_t symbol, size_t row)
{
    uint32_t key = oc_random_key(s->seed, OC_RANDOM_TEST, symbol, 1u << 20);
    bool up = row > 0 && x_of(s, symbol, row - 1, 0) > 0.0f;
    if (oc_random_uniform(key, row) > 0.75) up = !up;
    return up ? 0.01 : -0.01;
}

static oc_status symbol_write(oc_dataset_writer *w, const synthetic *s, size_t symbol, float *x)
{
    uint64_t mask[(OC_FEATURES_MAX + 63) / 64] = {0};
    double mid = 100.0;
    uint32_t run = 0;
    for (size_t row = 0; row < s->rows; row++) {
        bool gap = s->break_every && row > 0 && row % s->break_every == 0;
        for (size_t c = 0; c < s->width; c++) x[c] = x_of(s, symbol, row, c);
        mid = s->mid ? s->mid(s->context, symbol, row) : mid + step_of(s, symbol, row);
        run = gap ? 1 : run + 1;
        oc_feature_row out = {.time_ns = (s->first_ns ? s->first_ns : INT64_C(1600000000) * 1000000000) +
                              (int64_t)row * (s->step_ns ? s->step_ns : 1000000000), .instrument = (uint32_t)symbol,
                              .run_length = run, .mask = mask, .x = x, .mid = mid, .spread = 0.01};
        OC_TRY(oc_dataset_writer_row(w, symbol, &out, gap));
    }
    return OC_OK;
}

oc_status synthetic_write(const char *path, const synthetic *s, oc_hash *root)
{
    static oc_feature_info features[OC_FEATURES_MAX];
    static char names[OC_INSTRUMENTS_MAX][OC_SYMBOL_BYTES];
    const char *symbols[OC_INSTRUMENTS_MAX];
    float x[OC_FEATURES_MAX];
    oc_label_rule rules[8];
    oc_dataset_source source = {.content = {s->seed, s->rows}};
    oc_dataset_plan plan = {.features = features,
                            .width = s->width,
                            .symbols = symbols,
                            .symbol_count = s->symbols,
                            .labels = rules,
                            .sources = &source,
                            .source_count = 1,
                            .schema = {s->width, 1},
                            .config = "# synthetic\n",
                            .spread_note = "assumed",
                            .rows_expected = s->rows,
                            .label = s->label,
                            .label_context = s->context};
    oc_dataset_writer *w;
    assert(s->width > 0 && s->width <= OC_FEATURES_MAX && s->symbols <= OC_INSTRUMENTS_MAX);
    snprintf(source.path, sizeof source.path, "%s", s->source ? s->source : "synthetic.events");
    for (size_t c = 0; c < s->width; c++) {
        features[c] = (oc_feature_info){.group_name = "test", .source = "", .history_events = 1};
        snprintf(features[c].name, sizeof features[c].name, "f%zu", c);
    }
    for (size_t i = 0; i < s->symbols; i++) {
        snprintf(names[i], sizeof names[i], "S%zu", i);
        symbols[i] = names[i];
    }
    for (; plan.label_count < 8 && s->labels[plan.label_count]; plan.label_count++)
        OC_TRY(oc_label_parse(&rules[plan.label_count], s->labels[plan.label_count], 0));
    OC_TRY(oc_dataset_writer_open(&w, path, &plan));
    for (size_t i = 0; i < s->symbols; i++) {
        oc_status status = symbol_write(w, s, i, x);
        if (status != OC_OK) {
            oc_dataset_writer_abort(w);
            return status;
        }
    }
    return oc_dataset_writer_commit(w, root);
}
