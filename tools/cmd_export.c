/* cmd_export.c - outcry export: a bundle as one ONNX file, checked by reading it back. */
#include "nn/onnx.h"
#include "tools/commands.h"

enum { CHECK_WINDOWS = 64, CHECK_SEED = 1 };
static const double difference_max = 1e-5; /* measured: 3e-8 to 3e-7 */

static const oc_cli_option options[] = {
    {"model", "FOLDER", NULL, true, "bundle: RUN/model of a training"},
    {"onnx", "F.onnx", NULL, true, "file to write"},
    {NULL, NULL, NULL, false, NULL},
};

static oc_status run(oc_cli *cli)
{
    oc_bundle *bundle;
    const char *path = oc_cli_text(cli, "onnx");
    double difference;
    OC_TRY(oc_bundle_load(&bundle, oc_cli_text(cli, "model")));
    oc_status status = oc_onnx_export(bundle, path, CHECK_WINDOWS, CHECK_SEED, difference_max, &difference);
    oc_bundle_close(bundle);
    OC_TRY(status);
    oc_cli_say(cli, "%s: read back and evaluated in double precision, %d windows: answers differ by at most %.2e\n",
               path, CHECK_WINDOWS, difference);
    if (json_object_set_new(cli->result, "max_difference", json_real(difference)) != 0)
        return OC_FAIL(OC_EMEMORY, "no memory for the result");
    return OC_OK;
}

const oc_command oc_command_export = {
    .name = "export",
    .summary = "Writes a model as ONNX and checks the file against the model",
    .description =
        "Input `window` [batch, T, F] of raw features, output `probabilities` [batch, horizons, 3]; scaler and\n"
        "temperature are inside (IR 8, opset 17). The file is read back and its graph evaluated in double\n"
        "precision by an own interpreter: max_difference is against the model's own answers.\n"
        "Example: outcry export --model run/model --onnx model.onnx --json",
    .options = options,
    .run = run,
};
