/* backtest.h - a model (or a rule) over recorded events, through the loop that live trading runs (trade/loop.h).
 *
 *     RUN/journal-*.ocj    every input and what it led to        RUN/config.yaml   resolved
 *     RUN/results.json     format "outcry-backtest", version 1; money in micro-units; docs/reading-a-report.md
 *
 * Refused: features other than the model's (schema hash), and times that the model has seen, in training or validation,
 * whatever the symbol's name: markets of one time move together. With in_sample the run is made and stamped. */
#ifndef OC_EVALUATE_BACKTEST_H
#define OC_EVALUATE_BACKTEST_H

#include <stdbool.h>
#include "base/config.h"
#include "base/json.h"

extern const oc_config_key oc_backtest_keys[];
extern const size_t oc_backtest_key_count;

OC_MUST oc_backtest_run(const oc_config *config, const char *out, bool in_sample,
                        json_t **results); /* new reference */

/* Reads the journal of RUN, decides everything again and compares, also with results.json where it lies there.
 * {"journal_hash", "state_hash", "identical", …}; OC_EDATA names what is damaged, cut short or different. */
OC_MUST oc_backtest_replay(const char *run, json_t **results);

#endif
