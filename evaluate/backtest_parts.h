/* backtest_parts.h - what the files of a backtest share; nobody else includes it. */
#ifndef OC_EVALUATE_BACKTEST_PARTS_H
#define OC_EVALUATE_BACKTEST_PARTS_H

#include "base/config.h"
#include "base/json.h"
#include "base/progress.h"
#include "datasets/dataset.h"
#include "datasets/h5_predictions.h"
#include "market/event_file.h"
#include "market/features.h"
#include "nn/model.h"
#include "trade/loop.h"
#include "trade/venues/simulated.h"

/* ---- backtest_keys.c: what a config says, as the engine and the venue want it ---- */

typedef struct backtest_setup {
    oc_engine_market market[OC_INSTRUMENTS_MAX];
    oc_simulated_market venue_market[OC_INSTRUMENTS_MAX];
    oc_engine_config engine;   /* borrows `market` */
    oc_simulated_config venue; /* borrows `venue_market` */
} backtest_setup;

OC_MUST backtest_setup_read(backtest_setup *s, const oc_config *config, const oc_instrument *universe,
                            uint32_t instruments);

/* ---- backtest_model.c: a bundle as the loop's predictor; backtest_file.c: a predictions file as one ---- */

typedef struct backtest_file {
    oc_prediction_file *file;              /* NULL: none */
    int32_t symbol[OC_INSTRUMENTS_MAX];    /* of the file, for an instrument; -1: it has none */
    uint64_t at[OC_INSTRUMENTS_MAX];       /* the next of the instrument's predictions */
    uint64_t joined;                       /* rows that had one */
} backtest_file;

typedef struct backtest_model {
    oc_bundle *bundle; /* NULL: none is needed */
    oc_model *model;
    oc_sliding *sliding; /* a slot an instrument */
    size_t horizon;
    float probabilities[OC_HORIZONS_MAX * OC_CLASSES];
    float *past;          /* [instruments][T][F]: rows before the first that was asked for */
    uint64_t *past_count; /* [instruments] rows since the last break; the ring holds the last T */
    backtest_file made;   /* predictions made elsewhere, instead of a bundle */
} backtest_model;

OC_MUST backtest_model_load(backtest_model *m, const oc_config *config); /* what the policy needs: bundle or file */
OC_MUST backtest_model_open(backtest_model *m, uint32_t instruments);    /* to compute with it; no bundle: nothing */
void backtest_model_close(backtest_model *m);
oc_predictor backtest_model_predictor(backtest_model *m); /* predict NULL where none is open */
/* Over the events' instruments, with the bundle's columns; OC_EDATA where the schema is another. */
OC_MUST backtest_features_open(oc_features **out, const backtest_model *m, const oc_config *config,
                               const oc_instrument *universe, uint32_t instruments);

/* What predicts, whichever it is; NULL where nothing does. */
const oc_hash *backtest_model_dataset(const backtest_model *m);
const oc_hash *backtest_model_weights(const backtest_model *m);
const char *backtest_model_name(const backtest_model *m, const oc_config *config); /* its path */
bool backtest_model_provenance(const backtest_model *m); /* false: it predicts, and does not say what it has seen */
json_t *backtest_model_json(const backtest_model *m, const oc_config *config);

OC_MUST backtest_file_load(backtest_file *f, const oc_config *config);
void backtest_file_close(backtest_file *f);
oc_predictor backtest_file_predictor(backtest_file *f);
typedef struct backtest_span backtest_span;
/* The file's symbols against the events' instruments; OC_EDATA where it has nothing for the span. */
OC_MUST backtest_file_join(backtest_file *f, const oc_config *config, const backtest_span *span,
                           const oc_instrument *universe, uint32_t instruments);
OC_MUST backtest_file_joined(const backtest_file *f, const oc_config *config); /* OC_EDATA where no row met one */

struct backtest_span {
    int64_t first_ns, last_ns; /* of what is traded */
    bool in_sample;            /* it overlaps what the model has seen */
};

/* From the events' times and data.first_ns, data.last_ns, data.unseen. OC_EDATA where it was seen and not allowed. */
OC_MUST backtest_span_choose(backtest_span *span, const backtest_model *m, const oc_config *config,
                             const oc_event_merge *merge, bool allowed);

/* ---- backtest.c: what a backtest and a live session share. Between prepare and begin each opens its own predictor,
 * venue and journal; then the loop, then the results. ---- */

typedef struct backtest {
    const oc_config *config;
    const char *out;
    char *yaml;
    const char **paths;
    oc_event_merge *merge;
    const oc_instrument *universe;
    uint32_t instruments;
    oc_features *features;
    oc_desk *desk;
    oc_simulated *venue;
    backtest_model model;
    backtest_span span;
    oc_dataset *ledger; /* its path and hashes alone: what a ledger is found by; NULL: none */
    backtest_setup setup;
    oc_tally tally;
    oc_loop_result loop;
    oc_progress progress;
    uint64_t events;
    int64_t took_ns;
    oc_delay delay; /* of decisions */
    json_t *more;   /* what goes into the results besides; NULL: nothing */
} backtest;

OC_MUST backtest_prepare(backtest *b, bool in_sample); /* all that can be refused; writes nothing */
void backtest_tally_open(backtest *b);                 /* anew: nothing is counted yet */
oc_desk_options backtest_desk_options(const backtest *b);
OC_MUST backtest_begin(const backtest *b); /* config.yaml */
oc_loop_setup backtest_loop_setup(backtest *b);
OC_MUST backtest_loop(backtest *b, const oc_loop_setup *setup, const char *what); /* to the journal's end record */
void backtest_close(backtest *b);

/* ---- paper_journal.c ---- */

/* The tally of the whole journal, for a session that was interrupted: it ends in the desk's state, or OC_EDATA. */
OC_MUST backtest_tally_again(backtest *b);

/* ---- paper_results.c ---- */

OC_MUST backtest_ledger_open(backtest *b); /* data.dataset must be the one that the model is from */
OC_MUST backtest_results(const backtest *b, json_t **results); /* a line in the ledger, then results.json */

#endif
