/* cmd_build.c - outcry build: events to an HDF5 dataset. */
#include "tools/commands.h"

#include "base/config.h"
#include "base/log.h"
#include "datasets/dataset.h"

static const oc_cli_option options[] = {
    {"out", "D.h5", NULL, true, "the dataset to write; an old one stays as it is unless the build succeeds"},
    {0},
};

static oc_status build(oc_cli *cli, const oc_config *config)
{
    oc_build_result r;
    char schema[OC_HASH_TEXT], root[OC_HASH_TEXT];
    oc_cli_log_level(cli, oc_config_text(config, "log.level"));
    OC_TRY(oc_dataset_build(config, oc_cli_text(cli, "out"), &r));
    oc_hash_text(r.schema, schema);
    oc_hash_text(r.root, root);
    oc_cli_say(cli, "%s: %llu rows of %llu features, %llu labels, from %llu events, %.0f rows/s\nschema %s\nroot %s\n",
               oc_cli_text(cli, "out"), (unsigned long long)r.rows, (unsigned long long)r.features,
               (unsigned long long)r.labels, (unsigned long long)r.events, r.rows_per_second, schema, root);
    json_object_set_new(cli->result, "rows", json_integer((json_int_t)r.rows));
    json_object_set_new(cli->result, "features", json_integer((json_int_t)r.features));
    json_object_set_new(cli->result, "labels", json_integer((json_int_t)r.labels));
    json_object_set_new(cli->result, "events", json_integer((json_int_t)r.events));
    json_object_set_new(cli->result, "schema", json_string(schema));
    json_object_set_new(cli->result, "root", json_string(root));
    json_object_set_new(cli->result, "rows_per_second", json_real(r.rows_per_second));
    return OC_OK;
}

static oc_status run(oc_cli *cli)
{
    oc_config *config;
    OC_TRY(oc_config_open(&config, cli->arguments[0], oc_build_keys, oc_build_key_count, cli->sets, cli->set_count));
    oc_status status = build(cli, config);
    oc_config_close(config);
    return status;
}

static void help(FILE *out)
{
    oc_config_help(oc_build_keys, oc_build_key_count, out);
}

const oc_command oc_command_build = {
    .name = "build",
    .arguments = "CONFIG",
    .arguments_min = 1,
    .arguments_max = 1,
    .summary = "Turns events into a dataset of features and labels",
    .description = "Runs the feature engine over the event files of the config, labels the rows, and writes one HDF5 "
                   "file that h5py reads "
                   "and whose every byte stands under a hash. Rows are streamed: memory does not grow with their "
                   "number, but for 25 bytes "
                   "a row that the labels need.\n\n"
                   "  outcry build configs/build-book.yaml --set data.events=market.events --out market.h5\n"
                   "  outcry build configs/build-bars.yaml --set data.events=eurusd.events --out eurusd.h5",
    .options = options,
    .config = true,
    .help = help,
    .run = run,
};
