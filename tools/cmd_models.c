/* cmd_models.c - outcry models: looks into the model repository. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/models.h"
#include "tools/commands.h"

static const oc_cli_option options[] = {
    {"repository", "FOLDER", "models", false, "the repository: NAME/VERSION/bundle.json"},
    {NULL, NULL, NULL, false, NULL},
};

typedef enum { ACTION_LIST, ACTION_SHOW, ACTION_VERIFY, ACTIONS } action;
static const struct {
    const char *name;
    size_t arguments_min, arguments_max;
} actions[ACTIONS] = {
    [ACTION_LIST] = {"list", 1, 1}, [ACTION_SHOW] = {"show", 2, 2}, [ACTION_VERIFY] = {"verify", 1, 2}};

static oc_status action_find(const oc_cli *cli, action *out)
{
    for (int i = 0; i < ACTIONS; i++) {
        if (strcmp(cli->arguments[0], actions[i].name) != 0) continue;
        *out = (action)i;
        if (cli->argument_count >= actions[i].arguments_min && cli->argument_count <= actions[i].arguments_max)
            return OC_OK;
        return OC_FAIL(OC_EUSAGE, "models %s takes %s", actions[i].name,
                       i == ACTION_LIST ? "no name" : "one name, as NAME or NAME/VERSION");
    }
    return OC_FAIL(OC_EUSAGE, "models %.40s: not list, show or verify", cli->arguments[0]);
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

static void row_say(const oc_cli *cli, const json_t *row, action what)
{
    const bool good = json_is_true(json_object_get(row, "good"));
    oc_cli_say(cli, "%s/%s  %s\n", text_of(row, "model"), text_of(row, "version"),
               good ? text_of(row, "created") : text_of(row, "error"));
    if (what != ACTION_SHOW) return;
    char *all = json_dumps(row, JSON_INDENT(2));
    if (all) oc_cli_say(cli, "%s\n", all);
    free(all);
}

static oc_status run(oc_cli *cli)
{
    action what = ACTION_LIST;
    json_t *models, *row;
    size_t bad = 0, i;
    OC_TRY(action_find(cli, &what));
    OC_TRY(oc_models_list(oc_cli_text(cli, "repository"), cli->argument_count > 1 ? cli->arguments[1] : NULL, &models,
                          &bad));
    json_array_foreach(models, i, row) row_say(cli, row, what);
    const size_t n = json_array_size(models);
    if (json_object_set_new(cli->result, "models", models) != 0) return OC_FAIL(OC_EMEMORY, "no memory for the result");
    if (what == ACTION_VERIFY && bad > 0)
        return OC_FAIL(OC_EDATA, "%s: %zu of %zu models cannot be used", oc_cli_text(cli, "repository"), bad, n);
    return OC_OK;
}

const oc_command oc_command_models = {
    .name = "models",
    .arguments = "list|show|verify [NAME[/VERSION]]",
    .arguments_min = 1,
    .arguments_max = 2,
    .summary = "Lists, shows and verifies the bundles of a model repository",
    .description = "Reads the folder NAME/VERSION/{bundle.json, weights.safetensors}. Every bundle is loaded, which "
                   "checks the hash of\n"
                   "each byte. verify exits with 65 where one is damaged or lies in a folder of another name.\n"
                   "Example: outcry models verify --repository models --json",
    .options = options,
    .run = run,
};
