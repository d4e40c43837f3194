/* cmd_predict.c - outcry predict: a bundle's probabilities for rows of a dataset, as CSV. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluate/predict_csv.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"model", "FOLDER", NULL, true,
     "bundle: RUN/model of a training, or NAME/VERSION of a repository, an ensemble too"},
    {"data", "D.h5", NULL, true, "a dataset with the features it was trained on"},
    {"symbol", "SYM", NULL, true, "symbol of the dataset"},
    {"rows", "A:B", NULL, true, "rows of the symbol, from A to before B; rows without a full window are left out"},
    {"dtype", "f32|bf16", "f32", false,
     "of the LSTM's products, as serve.dtype of a server; bf16 gives the same bits on every CPU, fast on avx512_bf16"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status rows_parse(const char *text, uint64_t *first, uint64_t *last)
{
    char *end = NULL;
    const char *colon = strchr(text, ':');
    *first = strtoull(text, &end, 10);
    if (colon && end == colon && colon > text && strspn(text, "0123456789:") == strlen(text)) {
        *last = strtoull(colon + 1, &end, 10);
        if (end > colon + 1 && !*end && *first < *last) return OC_OK;
    }
    return OC_FAIL(OC_EUSAGE, "--rows is \"%.64s\", not A:B with A below B, as in 5000:5200", text);
}

static oc_status run(oc_cli *cli)
{
    oc_predict_csv_request request = {.symbol = oc_cli_text(cli, "symbol")};
    oc_ensemble *model;
    oc_dataset *d;
    oc_predict_csv_result result = {0};
    const char *dtype = oc_cli_text(cli, "dtype");
    if (strcmp(dtype, "bf16") == 0)
        request.math = OC_MATH_BF16;
    else if (strcmp(dtype, "f32") != 0)
        return OC_FAIL(OC_EUSAGE, "--dtype is \"%.32s\", not f32 or bf16", dtype);
    OC_TRY(rows_parse(oc_cli_text(cli, "rows"), &request.first, &request.last));
    OC_TRY(oc_ensemble_load(&model, oc_cli_text(cli, "model")));
    oc_status status = oc_dataset_open(&d, oc_cli_text(cli, "data"));
    if (status == OC_OK) {
        status = oc_predict_csv(model, d, &request, stdout, &result);
        oc_dataset_close(d);
    }
    oc_ensemble_close(model);
    OC_TRY(status);
    if (json_object_set_new(cli->result, "rows", json_integer((json_int_t)result.rows)) != 0 ||
        json_object_set_new(cli->result, "left_out", json_integer((json_int_t)result.left_out)) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    return OC_OK;
}

const oc_command oc_command_predict = {
    .name = "predict",
    .summary = "Prints a model's probabilities for rows of a dataset",
    .description =
        "Reads a bundle and a dataset; prints CSV with the columns symbol,row,time_ns,buy,sell,hold (a prefix hN_\n"
        "per horizon where the model has several), 9 significant digits. Row r is answered from rows r-T+1 to r.\n"
        "Example: outcry predict --model run/model --data eurusd.h5 --symbol EURUSD --rows 5000:5200",
    .options = options,
    .run = run,
};
