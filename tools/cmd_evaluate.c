/* cmd_evaluate.c - outcry evaluate: a bundle against a split of a dataset. */
#include "evaluate/evaluate.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"model", "FOLDER", NULL, true, "bundle: RUN/model of a training"},
    {"data", "D.h5", NULL, true, "the dataset it was trained on"},
    {"split", "NAME", "test", false, "train, valid or test; every look at test counts as a trial in the ledger"},
    {"out", "FOLDER", NULL, true, "folder for predictions.h5 and metrics.json"},
    {"truth", "F.truth", NULL, false,
     "of a simulated market: adds the best achievable accuracy and who closes which share of the gap"},
    {"threads", "N", "2", false, "worker threads"},
    {"seed", "S", "1", false, "of the block bootstrap"},
    {"resamples", "N", "1000", false, "of the block bootstrap"},
    {NULL, NULL, NULL, false, NULL},
};

static void print(const oc_cli *cli, const json_t *m)
{
    const json_t *row;
    size_t i;
    oc_cli_say(cli, "%-12s %9s %9s %9s %9s\n", "", "accuracy", "macro F1", "MCC", "log loss");
    oc_cli_say(cli, "%-12s %9.4f %9.4f %9.4f %9.4f\n", "model", json_number_value(json_object_get(m, "accuracy")),
               json_number_value(json_object_get(m, "macro_f1")), json_number_value(json_object_get(m, "mcc")),
               json_number_value(json_object_get(m, "log_loss")));
    json_array_foreach(json_object_get(m, "baselines"), i, row) oc_cli_say(
        cli, "%-12s %9.4f %9.4f %9.4f %9.4f\n", json_string_value(json_object_get(row, "name")),
        json_number_value(json_object_get(row, "accuracy")), json_number_value(json_object_get(row, "macro_f1")),
        json_number_value(json_object_get(row, "mcc")), json_number_value(json_object_get(row, "log_loss")));
    const json_t *best = json_object_get(m, "best_achievable");
    if (best)
        oc_cli_say(
            cli, "best achievable accuracy %.4f; share of the gap above majority: model %.3f, logistic %.3f\n",
            json_number_value(json_object_get(best, "expected_accuracy")),
            json_number_value(json_object_get(json_object_get(json_object_get(best, "of"), "model"), "gap_closed")),
            json_number_value(json_object_get(json_object_get(json_object_get(best, "of"), "logistic"), "gap_closed")));
    oc_cli_say(cli, "%s\n", json_string_value(json_object_get(json_object_get(m, "verdict"), "text")));
}

static oc_status run(oc_cli *cli)
{
    int64_t threads, seed, resamples;
    json_t *metrics = NULL;
    oc_evaluate_options o = {.model = oc_cli_text(cli, "model"),
                             .data = oc_cli_text(cli, "data"),
                             .out = oc_cli_text(cli, "out"),
                             .truth = oc_cli_text(cli, "truth")};
    OC_TRY(oc_split_parse(oc_cli_text(cli, "split"), &o.split));
    OC_TRY(oc_cli_int(cli, "threads", 1, 256, &threads));
    OC_TRY(oc_cli_int(cli, "seed", 0, INT64_MAX, &seed));
    OC_TRY(oc_cli_int(cli, "resamples", 100, 100000, &resamples));
    o.threads = (int)threads;
    o.seed = (uint64_t)seed;
    o.resamples = (size_t)resamples;
    OC_TRY(oc_evaluate_run(&o, &metrics));
    print(cli, metrics);
    int failed = json_object_update(cli->result, metrics);
    json_decref(metrics);
    return failed ? OC_FAIL(OC_EMEMORY, "no memory for the result") : OC_OK;
}

const oc_command oc_command_evaluate = {
    .name = "evaluate",
    .summary = "Judges a model on a split, beside baselines, with intervals",
    .description =
        "Reads a bundle and the dataset it was trained on, rebuilds the fold and writes predictions.h5 and "
        "metrics.json. Baselines (majority,\n"
        "persistence, logistic regression on the last row) are fitted on the training samples of the same fold.\n"
        "Example: outcry evaluate --model run/model --data eurusd.h5 --split test --out result",
    .options = options,
    .run = run,
};
